"""What all formats take: readings, meters, stats, futures, files of JSON, and what is refused."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lithowatt import EnergyMeter
from lithowatt.errors import MalformedValueError, UnwritableFileError
from lithowatt.export import FORMATS, _rows, write
from lithowatt.export._rows import TIME, energy_of, rows_of


def metered(label: str = "f") -> EnergyMeter:
    with EnergyMeter(label=label) as meter:
        sum(range(100_000))
    return meter


def test_a_meter_its_reading_and_its_stats_have_the_same_energy() -> None:
    meter = metered()
    of_meter, of_reading, of_stats, of_flat = rows_of(
        [meter, meter.reading, meter.stats(), meter.reading.flat()]
    )
    assert of_meter == {**of_reading, TIME: of_meter[TIME]}
    for row in (of_stats, of_flat):
        assert energy_of(row)[1:] == energy_of(of_reading)[1:]
        assert row["energy_consumption"] == meter.joules
    # Names that only stats have are gone, and no key is there under two names.
    assert not [key for key in of_stats if key.startswith("worker_func_")]


def test_a_reading_ends_when_its_window_ended() -> None:
    before = time.time_ns()
    meter = metered()
    after = time.time_ns()
    time.sleep(0.02)
    (row,) = rows_of(meter)
    # Two clocks are read one after another.
    assert before - 5_000_000 <= row[TIME] <= after + 5_000_000


def test_a_future_brings_its_names_and_its_end() -> None:
    stats = {"worker_func_energy_consumption": 2.0, "worker_end_tstamp": 1_700_000_000.25}
    future = SimpleNamespace(stats=stats, function_name="f", job_id="M000", call_id="00001")
    (row,) = rows_of(future)
    assert (row["label"], row["job_id"], row["call_id"]) == ("f", "M000", "00001")
    assert row["energy_consumption"] == 2.0
    assert row[TIME] == 1_700_000_000_250_000_000


@pytest.mark.parametrize("missing", [0, 1])
def test_of_several_keys_of_one_value_the_one_that_is_there_counts(missing: int) -> None:
    stats: dict[str, object] = {"worker_func_psutil_cpu_name": "a", "worker_processor_name": "a"}
    stats[list(stats)[missing]] = None
    (row,) = rows_of(stats)
    assert row == {"processor_name": "a"}


def test_what_run_prints_is_a_row(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lithowatt", "run", "--json", "--", "true"]
    told = subprocess.check_output(command, text=True)
    path = tmp_path / "runs.json"
    path.write_text(told + told)
    first, second = rows_of(path)
    assert first == second
    told_once = json.loads(told)
    assert first["label"] == "true"
    assert first["energy_consumption"] == told_once["joules"]
    assert (first["energy_low"], first["energy_high"]) == (told_once["low"], told_once["high"])
    assert first["energy_duration"] == told_once["seconds"]


def test_an_energy_log_is_rows(tmp_path: Path) -> None:
    from lithowatt.report import EnhancedEnergyLogger

    log = tmp_path / "energy.jsonl"
    logger = EnhancedEnergyLogger("k8s", path=log)
    meter = metered("")
    before = time.time_ns()
    logger.log_energy_execution("map", meter, {"workers": 4})
    logger.log_energy_execution("reduce", metered("named").stats(), {})
    first, second = rows_of(log)
    assert energy_of(first)[1:] == energy_of(meter.reading.flat())[1:]
    assert (first["label"], first["stage"], first["backend"]) == ("map", "map", "k8s")
    assert (second["label"], second["stage"]) == ("reduce", "reduce")
    assert abs(first[TIME] - before) < 60e9


@pytest.mark.parametrize("wrong", [1.5, "1\nx v=1", True, 0, -1, 2**63, [1], None])
def test_what_is_no_time_is_not_taken_for_one(wrong: object) -> None:
    (row,) = rows_of({"label": "f", TIME: wrong})
    assert TIME not in row
    (row,) = rows_of({TIME: wrong, "worker_end_tstamp": 1_700_000_000.0})
    assert row[TIME] == 1_700_000_000 * 10**9
    (row,) = rows_of({TIME: 2**63 - 1, "worker_end_tstamp": 1_700_000_000.0})
    assert row[TIME] == 2**63 - 1


def test_a_reading_of_another_boot_has_no_time() -> None:
    reading = metered().reading
    sent = pickle.loads(pickle.dumps(reading))
    (here,) = rows_of(sent)
    assert abs(here[TIME] - time.time_ns()) < 60e9
    sent._made_by = ("another", *sent._maker[1:])
    (row,) = rows_of(sent)
    assert TIME not in row and row == {k: v for k, v in here.items() if k != TIME}
    (row,) = rows_of(type(reading)(reading.raw, reading.flat()))
    assert TIME not in row


def test_a_commands_arguments_are_no_label() -> None:
    told = {"joules": 1.0, "exit_code": 0}
    words = ["/usr/bin/python3", "jobs/a.py", "--token=abc", "abc"]
    for command in (words, " ".join(words)):
        (row,) = rows_of({**told, "command": command})
        assert row["label"] == "python3 a.py"
    (row,) = rows_of({**told, "command": ["curl", "-H", "abc"]})
    assert row["label"] == "curl"


def test_half_lines_of_an_energy_log_are_passed_over(tmp_path: Path) -> None:
    from lithowatt.report import EnhancedEnergyLogger, read_energy_log

    log = tmp_path / "energy.jsonl"
    logger = EnhancedEnergyLogger("k8s", path=log)
    logger.log_energy_execution("one", {"energy_consumption": 1.0})
    with log.open("a") as file:
        file.write('{"schema": 1, "timestamp": 17\n[1]\n')
    logger.log_energy_execution("two", {"energy_consumption": 2.0})
    with log.open("a") as file:
        file.write('{"schema": 1, "energy_me')
    stages = [row["stage"] for row in rows_of(log)]
    assert stages == ["one", "two"] == [entry["stage"] for entry in read_energy_log(log)]


def test_lines_are_counted_only_for_an_error(tmp_path: Path) -> None:
    class Text(str):
        counts = 0

        def count(self, *arguments: Any) -> int:
            Text.counts += 1
            return super().count(*arguments)

    class File(type(tmp_path)):  # type: ignore[misc]
        def read_text(self, *_: Any, **__: Any) -> str:
            return Text('{"a": 1}\n' * 50 + "1")

    rows = _rows._of_file(File("x.jsonl"))
    assert [row for _, row in zip(range(50), rows, strict=False)] == [{"a": 1}] * 50
    assert Text.counts == 0
    with pytest.raises(MalformedValueError, match="line 51: a int"):
        next(rows)


def test_no_energy_has_its_reason_and_no_number() -> None:
    one = energy_of({"label": "f", "energy_consumption": None, "energy_source": "unavailable: x"})
    assert (one.joules, one.band, one.quality, one.reason) == (None, None, "none", "x")
    assert energy_of({"energy_consumption": float("nan")}).joules is None


@pytest.mark.parametrize("source", [1, None, b"{}", [[1]]])
def test_what_has_no_energy_is_refused(source: object) -> None:
    with pytest.raises(TypeError, match="expected a Reading"):
        list(rows_of(source))


@pytest.mark.parametrize("text", ['{"a": 1}\n[2]\n', '{"a": 1}\n{"b"\n', "\n\n1"])
def test_a_file_of_something_else_names_the_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(text)
    line = 3 if text.startswith("\n") else 2
    with pytest.raises(MalformedValueError, match=rf"x\.jsonl, line {line}: .*expected JSON"):
        list(rows_of(path))


@pytest.mark.parametrize("ending", FORMATS)
def test_the_ending_says_the_format_and_a_fault_leaves_what_was(
    tmp_path: Path, ending: str
) -> None:
    path = tmp_path / f"calls{ending}"
    path.write_text("before")
    with pytest.raises(TypeError):
        write([metered(), 1], path)
    assert path.read_text() == "before"
    assert write([metered(), metered()], path) == 2
    assert path.read_bytes() != b"before"
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_an_ending_that_says_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnwritableFileError, match=r"calls\.xls.*expected \.parquet"):
        write(metered(), tmp_path / "calls.xls")


def test_nothing_of_it_is_imported_before_it_is_used() -> None:
    code = (
        "import sys, lithowatt, lithowatt.export, lithowatt.export.openmetrics\n"
        "import lithowatt.export.influx\n"
        "heavy = {'pyarrow', 'opentelemetry', 'prometheus_client', 'numpy', 'pandas'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


MISSING = {
    "parquet": ("write({}, 'x')", "pyarrow>=14", "pyarrow"),
    "openmetrics": ("push({}, 'localhost:9')", "prometheus-client>=0.20", "prometheus_client"),
    "opentelemetry": ("instrument()", "opentelemetry-api>=1.30", "opentelemetry"),
}


@pytest.mark.parametrize("name", MISSING)
def test_a_missing_package_is_named_with_its_command(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib

    call, wanted, module = MISSING[name]
    for loaded in list(sys.modules):
        if loaded == module or loaded.startswith(f"{module}."):
            monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)
    format_ = importlib.import_module(f"lithowatt.export.{name}")
    with pytest.raises(ImportError, match=rf"-m pip install .*{wanted}"):
        eval(f"f.{call}", {"f": format_})
