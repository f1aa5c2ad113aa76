"""The tidy table: every worker call a row, in each format the same values."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lithowatt.analysis.selection import Settings
from lithowatt.cli import main
from lithowatt.errors import UnwritableFileError
from lithowatt.profiles._export import export
from lithowatt.profiles._runs import Profiles, read_profiles
from lithowatt.profiles._tidy import MADE, PLACE, Layout, facts_of, number_texts, table_rows
from tests.support.made_profiles import COLUMNS, XEON, Kind, profile, write

FORMATS = ("csv", "jsonl", "arrow", "parquet")


def exported(profiles: Profiles, path: Path) -> int:
    layout = Layout(profiles)
    rows = table_rows(profiles, layout, facts_of(profiles, Settings()), "us-east-1")
    return export(rows, layout, str(path))


def read_back(path: Path) -> list[dict[str, Any]]:
    """The rows of a file; of CSV with numbers where texts look like numbers."""
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            return [
                {name: _value(text) for name, text in row.items()} for row in csv.DictReader(file)
            ]
    pa = pytest.importorskip("pyarrow")
    if path.suffix == ".arrow":
        rows: list[dict[str, Any]] = pa.ipc.open_file(path).read_all().to_pylist()
        return rows
    parquet = pytest.importorskip("pyarrow.parquet")
    return list(parquet.read_table(path).to_pylist())


def _value(text: str) -> Any:
    if text == "":
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(
        tmp_path / "profiles",
        Kind(workload="pi", workers=(2, 3), repetitions=3, mix={XEON: 1.0}),
        Kind(workload="pi", architecture="arm64", workers=(2,), repetitions=2, seed=1),
        Kind(
            workload="video", stage="cut", workers=(4,), repetitions=2, seed=2, columns=COLUMNS[:6]
        ),
    )


@pytest.mark.slow
@pytest.mark.parametrize("ending", FORMATS)
def test_each_format_has_each_call_as_the_file_has_it(
    folder: Path, tmp_path: Path, ending: str
) -> None:
    path = tmp_path / f"rows.{ending}"
    assert exported(read_profiles([folder]), path) == 2 * 3 + 3 * 3 + 2 * 2 + 4 * 2
    rows = read_back(path)
    assert list(rows[0]) == [*PLACE, *COLUMNS, *MADE]
    at = iter(rows)
    for file in read_profiles([folder]).files:
        for key, metrics in json.loads(Path(file.path).read_text()).items():
            cpu, memory, requested = json.loads(f"[{key[1:-1]}]")
            for repetition, workers in enumerate(metrics["read"]):
                for worker in range(len(workers)):
                    row = next(at)
                    assert (row["file"], row["workload"]) == (file.name, file.workload)
                    assert (row["stage"], row["architecture"]) == (file.stage, file.architecture)
                    assert (row["cpu"], row["memory_mb"]) == (cpu, memory)
                    assert (row["workers_requested"], row["workers_actual"]) == (
                        requested,
                        len(workers),
                    )
                    assert (row["repetition"], row["worker"]) == (repetition, worker)
                    assert row["left_out"] is None and row["session"] is None
                    for name in COLUMNS:
                        wanted = metrics[name][repetition][worker] if name in metrics else None
                        assert row[name] == wanted
                        assert type(row[name]) is type(wanted) or ending == "csv"
    assert next(at, None) is None


def test_what_is_made_of_the_columns(folder: Path, tmp_path: Path) -> None:
    exported(read_profiles([folder]), tmp_path / "x.jsonl")
    for row in read_back(tmp_path / "x.jsonl"):
        if row["workload"] == "video":  # it has no TDP and no tag of Lambda
            assert row["cpu_seconds_s"] is None and row["cost_usd"] is None
            continue
        assert row["cpu_seconds_s"] == row["TDP"] * row["cpu_cores_logical"]
        phases = row["read"], row["compute"], row["write"]
        assert row["other_s"] == pytest.approx(row["worker_time_execution"] - sum(phases))
        price = {"x86_64": 0.0000166667, "arm64": 0.0000133334}[row["architecture"]]
        ms = math.ceil(round(row["worker_time_execution"] * 1000, 6))
        assert row["cost_usd"] == pytest.approx(
            ms / 1000 * row["memory_mb"] / 1024 * price + 0.0000002, rel=1e-12
        )


def test_no_row_is_dropped_and_each_says_why_it_does_not_count(tmp_path: Path) -> None:
    kind = Kind(workers=(4,), repetitions=6)
    made = profile(kind)
    ((_, metrics),) = made.items()
    for column in metrics.values():
        column.append(list(column[1]))  # a copy
    metrics["read"][2][0] = None
    write(tmp_path, kind, made=made)
    pytest.importorskip("pyarrow")
    profiles = read_profiles([tmp_path])
    frame = profiles.to_arrow().to_pylist()
    said = {row["repetition"]: row["left_out"] for row in frame}
    assert len(frame) == 28
    assert said == {**dict.fromkeys(range(7)), 2: "unusable", 6: "copied-repetitions"}
    frame = profiles.to_arrow(excluding=()).to_pylist()
    assert {row["left_out"] for row in frame} == {None, "unusable"}


@pytest.mark.parametrize("ending", FORMATS)
def test_texts_and_numbers_of_all_kinds(tmp_path: Path, ending: str) -> None:
    texts = ['a,"b"', "line\nbreak", " blank ", "%s 100 %", "é€", "", None]
    numbers = [0.1, 1e300, -5e-324, 2**53, -0.0, 1 / 3, None]
    content = {
        "(1, 512, 7)": {
            "read": [numbers],
            'na"me, %d': [texts],
            "worker": [[1] * 7],
            "mixed": [[1, 2, None, 4, 5, 6, 7]],
            "none": [[None] * 7],
        },
        "(1, 512, 1)": {"read": [[float("nan")]], "mixed": [["text"]], "none": [[]]},
    }
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "s.json").write_text(json.dumps(content))
    exported(read_profiles([tmp_path / "p"]), tmp_path / f"x.{ending}")
    rows = read_back(tmp_path / f"x.{ending}")
    assert [row["read"] for row in rows] == [*numbers, None]
    wanted: list[str | None] = [*texts, None]
    if ending == "csv":
        wanted = [text or None for text in wanted]
    assert [row['na"me, %d'] for row in rows] == wanted
    # The table's own column of that name is another one.
    assert [row["worker"] for row in rows] == [*range(7), 0]
    assert [row["worker_in_file"] for row in rows] == [1] * 7 + [None]
    mixed = [row["mixed"] for row in rows]
    assert [None if one is None else str(one) for one in mixed] == [
        *("1", "2", None, "4", "5", "6", "7", "text"),
    ]
    assert [row["none"] for row in rows] == [None] * 8


@given(st.lists(st.floats(allow_infinity=False), max_size=20))
def test_texts_of_numbers_read_back_equal_and_are_no_longer_than_need_be(
    values: list[float],
) -> None:
    texts = number_texts(np.array(values), False, "null")
    for value, text in zip(values, texts, strict=True):
        assert text == ("null" if math.isnan(value) else repr(value))


def test_frames_have_types(folder: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = read_profiles([folder]).to_pandas()
    assert isinstance(frame, pandas.DataFrame) and len(frame) == 27
    assert frame["repetition"].dtype == "int64" and frame["read"].dtype == "float64"
    assert frame["session"].isna().all() and frame["left_out"].isna().all()
    assert frame.groupby("workload").size().to_dict() == {"pi": 19, "video": 8}
    # Whole numbers, some of which are missing.
    assert frame["cpu_cores_logical"].isna().sum() == 8


def test_an_empty_profile_is_an_empty_table(tmp_path: Path) -> None:
    (tmp_path / "stage.json").write_text("{}")
    profiles = read_profiles([tmp_path / "stage.json"])
    for ending in FORMATS:
        if ending in ("arrow", "parquet"):
            pytest.importorskip("pyarrow")
        assert exported(profiles, tmp_path / f"x.{ending}") == 0
        assert read_back(tmp_path / f"x.{ending}") == []
    assert list(profiles.to_pandas().columns) == [*PLACE, *MADE]


def test_a_dataset_is_read_by_duckdb(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    duckdb = pytest.importorskip("duckdb")
    path = tmp_path / "set"
    path.mkdir()
    assert exported(read_profiles([folder]), path) == 27
    parts = sorted(one.relative_to(path).as_posix() for one in path.rglob("*.parquet"))
    assert [part.rpartition("/")[0] for part in parts] == [
        "workload=pi/stage=stage/architecture=arm64",
        "workload=pi/stage=stage/architecture=x86_64",
        "workload=video/stage=cut/architecture=x86_64",
    ]
    found = duckdb.sql(
        f"select workload, stage, architecture, count(*), sum(compute) "
        f"from read_parquet('{path}/**/*.parquet', hive_partitioning = true) "
        "where left_out is null group by all order by all"
    ).fetchall()
    frame = read_profiles([folder]).to_arrow().to_pylist()
    sums = {
        name: sum(r["compute"] for r in frame if (r["workload"], r["architecture"]) == name)
        for name in [("pi", "arm64"), ("pi", "x86_64"), ("video", "x86_64")]
    }
    assert [row[:4] for row in found] == [
        ("pi", "stage", "arm64", 4),
        ("pi", "stage", "x86_64", 15),
        ("video", "cut", "x86_64", 8),
    ]
    assert [row[4] for row in found] == pytest.approx(list(sums.values()))
    with pytest.raises(UnwritableFileError, match="not empty"):
        exported(read_profiles([folder]), path)


def test_the_command_says_what_it_wrote(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "x.csv")
    assert main(["profile", "export", str(folder), "-o", path, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["command"], said["output"]["rows"], said["output"]["format"]) == (
        "export",
        27,
        "csv",
    )
    assert said["output"]["columns"] == [*PLACE, *COLUMNS, *MADE]
    assert [one["rows"] for one in said["inputs"]] == [4, 15, 8]
    assert said["settings"]["basis"] == "clean"
    assert main(["profile", "export", str(folder), "-o", path, "--basis", "all"]) == 0
    assert "27 rows of 3 profiles" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["-o", "x.txt"], "expected .csv"),
        (["-o", "x.csv", "--region", "mars"], "no price for region"),
        (["-o", "x.csv", "--group", "("], "no regular expression"),
    ],
)
def test_what_cannot_be_exported_writes_nothing(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert main(["profile", "export", str(folder), *options]) == 2
    assert says in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def test_excluded_rules_can_be_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kind = Kind(workers=(4,), repetitions=6)
    made = profile(kind)
    for column in next(iter(made.values())).values():
        column.append(list(column[0]))
    write(tmp_path / "p", kind, made=made)

    def left_out(*options: str) -> tuple[str, set[str]]:
        path = tmp_path / "x.jsonl"
        main(["profile", "export", str(tmp_path / "p"), "-o", str(path), "--json", *options])
        basis = json.loads(capsys.readouterr().out)["settings"]["basis"]
        return basis, {row["left_out"] for row in read_back(path)} - {None}

    assert left_out() == ("clean", {"copied-repetitions"})
    assert left_out("--basis", "all") == ("all", set())
    assert left_out("--exclude=-copied-repetitions") == ("custom", set())
    assert left_out("--basis=all", "--exclude=+copied-repetitions") == (
        "custom",
        {"copied-repetitions"},
    )


def test_an_input_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stats = tmp_path / "pi.jsonl"
    stamps = ("host_submit", "worker_start", "worker_func_start", "worker_func_end", "worker_end")
    call = {f"{name}_tstamp": 1.0 + at for at, name in enumerate(stamps)}
    stats.write_text(json.dumps({**call, "worker_func_exec_time": 1.0, "job_key": "a"}) + "\n")
    link = tmp_path / "link.csv"
    link.symlink_to(stats)
    hard = tmp_path / "hard.jsonl"
    hard.hardlink_to(stats)
    before = stats.read_bytes()
    for out in (stats, link, hard, f"{stats}/"):
        assert main(["profile", "export", str(stats), "-o", str(out)]) == 2
        assert f"is the input {stats}" in capsys.readouterr().err
    # A file that lies in a folder is an input, too.
    hard.unlink()
    assert main(["profile", "export", str(tmp_path), "-o", str(stats)]) == 2
    assert "is the input" in capsys.readouterr().err
    with pytest.raises(UnwritableFileError, match="is the input"):
        exported(read_profiles([stats]), link)
    assert stats.read_bytes() == before and link.is_symlink()


def test_a_table_of_before_is_replaced(tmp_path: Path) -> None:
    folder = write(tmp_path, Kind(workers=(2,), repetitions=2))
    out = folder / "calls.jsonl"  # below the folder that is read, but no profile
    assert main(["profile", "export", str(folder), "-o", str(out)]) == 0
    first = out.read_bytes()
    assert main(["profile", "export", str(folder), "-o", str(out)]) == 0
    assert out.read_bytes() == first and len(read_back(out)) == 4
