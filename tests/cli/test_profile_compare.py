"""`lithowatt profile compare` and `scaling` as they are called."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from lithowatt.cli import main
from tests.support.made_profiles import EPYC, XEON, Kind, matched, profile, write

KIND = Kind(workers=(2, 4, 8), repetitions=6, seed=1)

Captured = pytest.CaptureFixture[str]


def ran(capsys: Captured, *arguments: str, code: int = 0) -> str:
    assert main(["profile", *arguments]) == code
    return capsys.readouterr().out


def test_compare_as_json(tmp_path: Path, capsys: Captured) -> None:
    write(tmp_path, *matched(KIND))
    found = json.loads(ran(capsys, "compare", str(tmp_path), "--json", "--margin", "10%"))
    assert found["command"] == "compare"
    assert found["settings"]["by"] == "architecture" and found["settings"]["margin"] == 0.1
    assert len(found["cells"]) == 9 * 6


@pytest.mark.parametrize("by", ["architecture", "memory", "workers", "cpu_name", "file"])
def test_compare_as_text(tmp_path: Path, capsys: Captured, by: str) -> None:
    write(tmp_path, *matched(replace(KIND, mix={XEON: 0.5, EPYC: 0.5})))
    text = ran(capsys, "compare", str(tmp_path), "--by", by, "--cells")
    assert max(map(len, text.splitlines())) <= 80
    if by != "file":
        words = ("lower", "higher", "equivalent", "not told apart")
        assert any(line.startswith(words) for line in text.splitlines())
    else:
        assert "nothing to compare" in text
    plain = ran(capsys, "compare", str(tmp_path), "--by", by)
    assert set(plain.splitlines()) <= set(text.splitlines())


def test_compare_tells_processors_watts_and_what_is_left(tmp_path: Path, capsys: Captured) -> None:
    arm, x86 = matched(KIND, [1024])
    write(tmp_path, arm, replace(x86, workers=(2, 4)))
    text = " ".join(ran(capsys, "compare", str(tmp_path), "--watts", "100:166").split())
    assert EPYC in text and "100 and 166 W" in text and "of that are the watts" in text
    assert "CPU seconds times W of a busy vCPU: arm64 takes less while" in text
    assert "without a partner" in text


def test_one_pair_is_told_once_and_alike(tmp_path: Path, capsys: Captured) -> None:
    write(tmp_path, replace(KIND, workers=(2, 8)))
    text = ran(capsys, "compare", str(tmp_path), "--by", "workers", "--quantity", "compute_s")
    lines = [line.split() for line in text.splitlines() if line.startswith("lower")]
    assert len(lines) == 2
    # Verdict, ratio and both ends of the interval.
    told = [re.findall(r"× [\d.]+|\[[\d.]+, [\d.]+\]", " ".join(line)) for line in lines]
    assert told[0] == told[1] and len(told[0]) == 2


def test_scaling_names_no_field_that_it_lacks(tmp_path: Path, capsys: Captured) -> None:
    write(tmp_path, replace(KIND, mix={XEON: 0.5, EPYC: 0.5}))
    found = json.loads(ran(capsys, "scaling", str(tmp_path), "--json"))
    (note,) = (one["text"] for one in found["warnings"] if one["code"] == "mixed-hardware")
    assert "by_cpu" not in note and "compare --by cpu_name" in note
    assert "tells them apart" in ran(capsys, "scaling", str(tmp_path))


def test_means_that_are_no_number_are_a_dash(tmp_path: Path, capsys: Captured) -> None:
    """Times whose sum is more than a double holds."""
    huge = {"read": 0.0, "compute": 1e308, "write": 0.0, "cold_start": 0.0}
    content = {
        f"(1, 512, {workers})": {name: [[value] * workers] * 5 for name, value in huge.items()}
        for workers in (2, 4)
    }
    (tmp_path / "sort").mkdir()
    (tmp_path / "sort" / "stage.json").write_text(json.dumps(content))
    for verb in (["compare", "--by", "workers", "--cells"], ["scaling"]):
        assert "–" in ran(capsys, *verb, "--basis", "all", str(tmp_path))


def test_worse_fails(tmp_path: Path, capsys: Captured) -> None:
    slow = {
        key: {
            name: [[2 * value for value in one] for one in column] if name == "compute" else column
            for name, column in metrics.items()
        }
        for key, metrics in profile(replace(KIND, seed=2)).items()
    }
    write(tmp_path / "a", KIND)
    write(tmp_path / "b", KIND, made=slow)
    paths = [str(tmp_path / name) for name in ("a", "b")]
    options = ["--by", "file", "--fail-if-worse", "5%"]
    text = ran(capsys, "compare", *paths, *options, code=1)
    assert re.search(
        r"worse: compute_s of b is × (2\.0|1\.9)\d* that of a \(pi / stage, x86_64", text
    )
    assert "nowhere" in ran(capsys, "compare", *paths[::-1], *options)
    found = json.loads(ran(capsys, "compare", *paths, *options, "--json", code=1))
    assert found["worse"] and found["settings"]["fail_if_worse"] == 0.05


@pytest.mark.parametrize(
    "options",
    [
        ["--by", "colour"],
        ["--quantity", "joules"],
        ["--margin", "0"],
        ["--margin", "2"],
        ["--fail-if-worse", "some"],
        ["--watts", "100"],
        ["--watts", "100:0"],
    ],
)
def test_what_cannot_be_compared_is_refused(
    tmp_path: Path, capsys: Captured, options: list[str]
) -> None:
    write(tmp_path, KIND)
    try:
        code = main(["profile", "compare", str(tmp_path), *options])
    except SystemExit as ended:  # argparse
        code = ended.code
    assert code == 2
    out, error = capsys.readouterr()
    assert out == "" and error.strip()


def test_scaling_as_text_and_json(tmp_path: Path, capsys: Captured) -> None:
    write(
        tmp_path,
        KIND,
        replace(KIND, stage="weak", weak=True),
        replace(KIND, stage="once", most_workers=1, seed=4),
    )
    text = ran(capsys, "scaling", str(tmp_path), "--work-per-run", "worker")
    assert max(map(len, text.splitlines())) <= 80
    for word in ("strong pi", "weak pi", "one-worker pi", "Amdahl", "USL", "a unit of work"):
        assert word in text
    found = json.loads(ran(capsys, "scaling", str(tmp_path), "--json"))
    assert found["settings"]["work_per_run"] is None and len(found["scaling"]) == 6


@pytest.mark.parametrize("work", ["0", "-1", "some"])
def test_what_is_no_work_is_refused(tmp_path: Path, capsys: Captured, work: str) -> None:
    write(tmp_path, KIND)
    with pytest.raises(SystemExit, match="2"):
        main(["profile", "scaling", str(tmp_path), f"--work-per-run={work}"])


def test_modelled_joules_are_said_to_be_wherever_they_are_compared(
    tmp_path: Path, capsys: Captured
) -> None:
    write(tmp_path / "in", *matched(KIND, [1024]))
    sides = sorted(map(str, (tmp_path / "in").glob("*/stage.json")))
    options = ["--quantity", "energy_j", "--margin", "1%"]
    (row,) = json.loads(ran(capsys, "compare", *sides, *options, "--json"))["modelled"]
    low, high = row["factors"]
    assert low < 1 < high and 0 < row["cpu_seconds_ratio"] < 2
    text = " ".join(ran(capsys, "compare", *sides, *options, "--cells").split())
    assert "energy_j is modelled (95 % band × " in text
    assert f"by CPU seconds alone the ratio is × {row['cpu_seconds_ratio']:.3f}" in text
    assert "energy_j, J, modelled, 95 % band × " in text and "model's watts" in text
    failing = [*options, "--by", "file", "--fail-if-worse", "5"]
    text = ran(capsys, "compare", *sides, *failing, "--cells", code=1)
    told = [" ".join(part.split()) for part in text.split("\nworse: ")[1:]]
    assert told and all("): modelled; " in one and "the model's watts" in one for one in told)
    assert max(map(len, text.splitlines())) <= 80
    # Without joules there is nothing to say.
    assert "modelled" not in ran(capsys, "compare", *sides, "--quantity", "time_s")


def test_two_names_of_what_ran_are_pointed_out_before_any_verdict(
    tmp_path: Path, capsys: Captured
) -> None:
    write(tmp_path, KIND, replace(KIND, workload="titanic"))
    sides = sorted(map(str, tmp_path.glob("*/stage.json")))
    text = " ".join(ran(capsys, "compare", *sides, "--by", "file").split())
    assert "no verdict here means anything" in text.split("verdict quantity")[0]
    alike = tmp_path / "other" / Path(sides[0]).parent.name / "stage.json"
    alike.parent.mkdir(parents=True)
    alike.write_bytes(Path(sides[0]).read_bytes())
    text = ran(capsys, "compare", sides[0], str(alike), "--by", "file")
    assert "means anything" not in " ".join(text.split())


def test_a_recommendation_by_modelled_joules_says_so_and_what_dollars_say(
    tmp_path: Path, capsys: Captured
) -> None:
    write(tmp_path, *matched(KIND))
    found = json.loads(ran(capsys, "recommend", str(tmp_path), "--json"))
    assert found["minimise"] == "energy" and found["recommended"]["energy_quality"] == "modelled"
    text = " ".join(ran(capsys, "recommend", str(tmp_path)).split())
    line = text.split("recommended: ")[1].split(" bound: ")[0]
    assert "joules are modelled (95 % band × 0." in line
    least = min(found["ranked"], key=lambda one: one["cost_usd"]["value"])
    assert f"the least cost has {least['workers']} workers of {least['memory_mb']:g} MB" in line
    low = found["recommended"]["energy_j"]["low"]
    assert f"what is recommended uses {float(f'{low:.3g}'):g} to " in text
    by_cost = " ".join(ran(capsys, "recommend", str(tmp_path), "--minimise", "cost").split())
    assert "the least cost has" not in by_cost
