"""Stats of Lithops as profiles: calls to repetitions, jobs to configurations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lithowatt.analysis.lint import findings
from lithowatt.analysis.sessions import sessions
from lithowatt.errors import MalformedValueError
from lithowatt.profiles._runs import read_profiles
from lithowatt.stats import PREFIX


def call(job: float, start: float, **more: Any) -> dict[str, Any]:
    """What Lithops says of a call whose parts take 1, 0.5, 2 and 0.25 s."""
    return {
        "host_job_create_tstamp": job,
        "host_submit_tstamp": start,
        "worker_start_tstamp": start + 1,
        "worker_func_start_tstamp": start + 1.5,
        "worker_func_end_tstamp": start + 3.5,
        "worker_end_tstamp": start + 3.75,
        "worker_exec_time": 2.75,
        "worker_func_exec_time": 2.0,
        "worker_cold_start": True,
        "worker_func_cpu_usage": [1.0, 2.0],
        "worker_func_rss": 1000,
        **more,
    }


def write(path: Path, calls: list[dict[str, Any]], lines: bool = True) -> Path:
    text = "\n".join(map(json.dumps, calls)) + "\n" if lines else json.dumps(calls, indent=4)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize("lines", [True, False])
def test_jobs_are_repetitions(tmp_path: Path, lines: bool) -> None:
    calls = [call(job, 10 * job + worker) for job in (1, 2, 3) for worker in range(job % 2 + 1)]
    path = write(tmp_path / "pi" / "map.jsonl", [*calls[::2], *calls[1::2]], lines)
    profiles = read_profiles([tmp_path / "pi"] if lines else [path])
    (file,) = profiles.files
    assert (file.workload, file.stage, file.rows) == ("pi", "map", 5)
    two, one = file.configurations
    assert (two.key, two.widths.tolist()) == ("(1, 0, 2)", [2, 2])
    assert (one.key, one.widths.tolist()) == ("(1, 0, 1)", [1])
    assert two.usable.all() and one.usable.all()
    for name, seconds in {"cold_start": 1, "read": 0.5, "compute": 2, "write": 0.25}.items():
        assert two.numbers(name).tolist() == [seconds] * 4
    assert two.numbers("time_consumption").tolist() == [2.75] * 4
    assert two.numbers("worker_time_execution").tolist() == [2.75] * 4
    # Stats that are numbers and texts are columns; what none has is no column.
    assert two.columns["worker_func_rss"].whole and two.columns["worker_cold_start"].whole
    assert "worker_func_cpu_usage" not in two.columns and "TDP" not in two.columns
    assert two.numbers("host_submit_tstamp").tolist() == [10, 11, 31, 30]  # as in the file


def test_what_was_asked_for_may_be_added(tmp_path: Path) -> None:
    calls = [
        call(0, 5.0, job_key="a", runtime_memory=512, runtime_cpu=0.5),
        call(1, 5.0, job_key="a", runtime_memory=512, runtime_cpu=0.5),
        call(2, 5.0, executor_id="x", job_id="A001", runtime_memory=1024),
        call(3, 5.0, executor_id="x", job_id="A002", runtime_memory=1024),
    ]
    ((_, a), (_, b)) = read_profiles([write(tmp_path / "d" / "f.jsonl", calls)])
    assert (a.configuration, a.repetitions) == ((0.5, 512, 2), 1)
    assert (b.configuration, b.repetitions) == ((1, 1024, 1), 2)
    assert "job_key" not in a.columns


def test_what_lithowatt_metered_comes_with_them(tmp_path: Path) -> None:
    metered = {
        "energy_schema": 1,
        "energy_consumption": 3.5,
        "energy_quality": "attributed",
        "energy_cpu_time": 1.5,
        "aws_is_lambda": True,
        "aws_memory_size": 1769,
        "aws_architecture": "arm64",
        "aws_instance_type": "lambda-function",
    }
    calls = [call(1, 0.0, **{PREFIX + name: value for name, value in metered.items()})]
    ((_, runs),) = read_profiles([write(tmp_path / "d" / "f.jsonl", calls)])
    assert runs.configuration.memory_mb == 1769
    assert runs.numbers("energy").tolist() == [3.5]
    assert runs.numbers("cpu_time").tolist() == [1.5]
    assert runs.texts("energy_quality") == ["attributed"]
    assert "lambda:True" in (runs.texts("aws_cpu")[0] or "")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ('{"a": ', "is not JSON at line 2, column 7"),
        ("3", "line 2: 3 is no object"),
        ('{"runtime_memory": -1, "job_key": "x"}', "is not (cpu, memory_mb, workers)"),
        ("[" * 100_000, "line 2"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, damage: str, says: str) -> None:
    path = write(tmp_path / "f.jsonl", [call(1, 0.0)])
    path.write_text(path.read_text() + damage)
    with pytest.raises(MalformedValueError) as caught:
        read_profiles([path])
    assert says in str(caught.value) and str(path) in str(caught.value)


def test_stats_are_told_from_profiles_whatever_these_hold(tmp_path: Path) -> None:
    inside = {"(1, 512, 1)": {"host_submit_tstamp": [[1.0]], "read": [[2.0]]}}
    for name, content in (("flat", inside), ("nested", {"stage": inside})):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(content, indent=4))
        ((_, runs),) = read_profiles([path])
        assert runs.key == "(1, 512, 1)" and runs.numbers("read").tolist() == [2.0]


def test_stats_are_exported_like_profiles(tmp_path: Path) -> None:
    from lithowatt.cli import main

    path = write(tmp_path / "pi" / "map.jsonl", [call(1, 0.0), call(1, 1.0)])
    assert main(["profile", "export", str(path), "-o", str(tmp_path / "x.jsonl")]) == 0
    rows = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert [(row["worker"], row["compute"], row["other_s"]) for row in rows] == [
        (0, 2.0, 0.0),
        (1, 2.0, 0.0),
    ]
    assert [row["cost_usd"] for row in rows] == [None, None]


@pytest.mark.parametrize("says", [False, True, None])
def test_all_commands_take_where_it_ran_from_one_place(
    tmp_path: Path, says: bool | None, capsys: pytest.CaptureFixture[str]
) -> None:
    from lithowatt.cli import main

    # Off AWS a call of lithowatt's has no instance and no memory of AWS, and so no tag.
    more: dict[str, Any] = {
        f"{PREFIX}energy_schema": 1,
        f"{PREFIX}energy_cpu_time": 1.5,
        f"{PREFIX}psutil_cpu_architecture": "x86_64",
        "runtime_memory": 1024,
    }
    if says is not None:
        more[f"{PREFIX}aws_is_lambda"] = says
    calls = [
        call(job, 10.0 * job + 0.1 * job * worker, **more, job_key=f"{workers} {job}")
        for workers in (1, 2, 4)
        for job in range(3)
        for worker in range(workers)
    ]
    path = write(tmp_path / "pi" / "map.jsonl", calls)

    def found(verb: str, *more: str) -> dict[str, Any]:
        assert main(["profile", verb, str(path), "--json", *more]) == 0
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    stats = found("stats")["configurations"]
    answer = found("recommend", "--minimise", "time")
    if says:
        assert answer["platform"] == "aws_lambda"
        assert {one["workers"]: one["cost_usd"]["value"] for one in answer["ranked"]} == {
            one["workers_requested"]: pytest.approx(one["metrics"]["cost_usd"]["mean"])
            for one in stats
        }
        return
    assert all(one["metrics"]["cost_usd"] is None for one in stats)
    assert answer["platform"] == ("unknown" if says is None else "not AWS Lambda")
    assert not answer["priced"] and len(answer["ranked"]) == 3
    assert all(one["cost_usd"] is None for one in answer["ranked"])
    why = "does not say where it ran" if says is None else "ran elsewhere (not AWS Lambda)"
    assert all(why in one["cost_reason"] for one in answer["ranked"])
    assert all(why in one["reasons"]["cost_usd"] for one in stats)


def test_sessions_are_known_by_the_stamps(tmp_path: Path) -> None:
    """Two jobs of one hour are one session; the stamps that are there tell the time."""
    times = [1.7e9, 1.7e9 + 600, 1.7e9 + 86_400]
    whole = [call(at, at + 1 + worker) for at in times for worker in (0, 1)]
    for stamp in (None, "host_job_create_tstamp", "host_submit_tstamp"):
        for number, one in enumerate(whole):
            one["job_key"] = str(number // 2)
            one.pop(stamp, None)
        (file,) = read_profiles([write(tmp_path / "d" / "f.jsonl", whole)]).files
        (runs,) = file.configurations
        assert [one.tolist() for one in sessions(file)] == [[0, 0, 1]]
        later = {None: "20", "host_job_create_tstamp": "21", "host_submit_tstamp": "22"}[stamp]
        assert runs.records[0] == {"time": f"2023-11-14T22:13:{later}Z"}
        (missing,) = findings(read_profiles([file.path]), ["missing-metadata"])
        assert "time stamp" not in missing.evidence["missing"]


@pytest.mark.parametrize("stamp", [1e300, -1e300, None])
def test_a_stamp_of_no_year_is_none(tmp_path: Path, stamp: float | None) -> None:
    bad = {name: stamp for name in call(0, 0.0) if name.endswith("_tstamp")}
    calls = [{**call(0, 0.0), **bad, "job_key": "a", "worker_end_tstamp": 1.0}]
    (file,) = read_profiles([write(tmp_path / "d" / "f.jsonl", calls)]).files
    assert file.configurations[0].records == (None,)
    assert [one.tolist() for one in sessions(file)] == [[-1]]
