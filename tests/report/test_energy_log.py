"""The energy log: lines that are whole whoever writes, files that rotate once, and no secrets."""

from __future__ import annotations

import contextlib
import copy
import fcntl
import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lithowatt import EnergyMeter, report
from lithowatt._support import files
from lithowatt._support.files import append_line
from lithowatt.report import EnhancedEnergyLogger, MetricsCollector, read_energy_log
from lithowatt.report import logger as energy_logger
from lithowatt.report._plain import plain
from tests.support import TOP

SCHEMA_FILE = Path(report.__file__).with_name("energy-log.schema.json")

STATS = {
    "worker_func_energy_consumption": 2.0,
    "worker_func_energy_low": 1.0,
    "worker_func_energy_high": 4.0,
    "worker_func_energy_quality": "modelled",
    "worker_func_energy_definition": "marginal",
}


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def _check(entry: object) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(SCHEMA_FILE.read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(entry)


def test_a_line_a_call_that_keeps_to_the_schema(tmp_path: Path) -> None:
    logger = EnhancedEnergyLogger("localhost", path=tmp_path / "energy.jsonl")
    with EnergyMeter(label="a stage") as meter:
        sum(range(100_000))
    given: list[Any] = [STATS, meter, meter.reading, meter.stats(), {}, None, 7, "text\n\x1b[31m"]
    entries = [logger.log_energy_execution(f"s\n{i}", one, i) for i, one in enumerate(given)]
    text = (tmp_path / "energy.jsonl").read_bytes()
    assert text.count(b"\n") == len(given) and text.isascii()
    assert _lines(tmp_path / "energy.jsonl") == entries == list(read_energy_log(logger.path))
    for entry in entries:
        _check(entry)
    assert set(entries[0]) == {
        "schema",
        "timestamp",
        "backend",
        "stage",
        "energy_metrics",
        "execution_context",
        "hardware_info",
        "environment_info",
    }
    assert entries[0]["energy_metrics"] == STATS and entries[0]["stage"] == "s\n0"
    assert entries[1]["energy_metrics"] == entries[2]["energy_metrics"]
    assert entries[6]["energy_metrics"]["energy_source"].startswith("unavailable: int")
    assert entries[0]["hardware_info"]["logical_cpus"] >= 1


def test_the_schema_refuses_what_is_no_entry(tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    entry = EnhancedEnergyLogger("k8s").log_energy_execution("map", STATS)
    _check(entry)
    for change in (
        {"schema": 2},
        {"backend": ""},
        {"energy_metrics": {"energy_consumption": -1}},
        {"environment_info": {"PATH": "/bin"}},
        {"more": 1},
    ):
        with pytest.raises(jsonschema.ValidationError):
            _check({**entry, **change})


def test_secrets_and_the_environment_are_not_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_VARIABLE", "hush-variable")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-key")
    path = tmp_path / "energy.jsonl"
    context = {
        "tokens": 4,
        "config": {
            "aws": {"access_key_id": "hush-1", "secret_access_key": "hush-2"},
            "storage": [{"password": ["hush-3"]}, "postgres://me:hush-4@host/base"],
            "extra_env": {"HF_TOKEN": "hush-5", "PLAIN": "hush-6"},
        },
        "Authorization": "Bearer hush-7",
        "environ": os.environ,
    }
    EnhancedEnergyLogger("k8s", path=path).log_energy_execution(
        "map", {**STATS, **context}, context
    )
    text = path.read_text()
    assert "hush" not in text
    (entry,) = _lines(path)
    assert entry["execution_context"]["tokens"] == 4
    assert entry["execution_context"]["config"]["extra_env"]["PLAIN"] == "[removed]"
    assert entry["execution_context"]["config"]["storage"][1] == "postgres://[removed]@host/base"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"password": 1234, "pin_token": 5.5}, {"password": "[removed]", "pin_token": "[removed]"}),
        ({"password": None, "token": True}, {"password": None, "token": True}),
        ({"max_tokens": 512, "token_count": 3}, {"max_tokens": 512, "token_count": 3}),
        ({"energy_phase_token_loop": 2.5}, {"energy_phase_token_loop": 2.5}),
        (
            {
                "env": [
                    {"name": "TOKEN", "value": "hush"},
                    {"name": "A", "valueFrom": {"k": "hush"}},
                ]
            },
            {
                "env": [
                    {"name": "TOKEN", "value": "[removed]"},
                    {"name": "A", "valueFrom": "[removed]"},
                ]
            },
        ),
        (
            {"env": ["A=hush", "hush", ("B", "hush")]},
            {"env": ["A=[removed]", "[removed]", ["B", "[removed]"]]},
        ),
        ({"environment": "A=hush B=hush"}, {"environment": "A=[removed]"}),
        ({"environment": "k8s"}, {"environment": "k8s"}),
        ([{"key": "api_key", "value": "hush"}], [{"key": "api_key", "value": "[removed]"}]),
        ([{"name": "workers", "value": 4}], [{"name": "workers", "value": 4}]),
        ("s3://me:p@ss@host/a", "s3://[removed]@host/a"),
        ("redis://:pa/ss@host", "redis://[removed]@host"),
        ('a "amqp://u:p@h" b@c http://h/x', 'a "amqp://[removed]@h" b@c http://h/x'),
        ("x" * 4080 + " s3://me:" + "hush" * 9 + "@host", "x" * 4080 + " s3://[removed"),
        ({"s3://me:hush@host": 1}, {"s3://[removed]@host": 1}),
    ],
)
def test_secrets_in_other_forms(given: object, kept: object) -> None:
    made = plain(given)
    if isinstance(made, str) and len(made) == 4096:
        made = made[: len(str(kept))]
    assert made == kept


def test_of_an_array_no_more_is_copied_than_is_kept() -> None:
    numpy = pytest.importorskip("numpy")

    class Counted(numpy.ndarray):  # type: ignore[misc, name-defined]
        copied = 0

        def tolist(self) -> Any:
            Counted.copied = max(Counted.copied, self.size)
            return super().tolist()

    Counted.__module__ = "numpy"
    # A million values of one: it needs no memory until it is copied.
    large = numpy.broadcast_to(numpy.float64(1.5), (1000, 1000)).view(Counted)
    assert plain({"a": large})["a"][:3] == [1.5, 1.5, 1.5]
    assert 0 < Counted.copied <= 10_000
    assert plain(numpy.arange(4).reshape(2, 2)) == [[0, 1], [2, 3]]


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """The lock of a folder, as anybody may have it who can read that."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def test_a_lock_that_somebody_keeps_is_waited_for_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float] = []

    def counted(*arguments: Any, patience: float, **options: Any) -> files.Appended:
        given.append(patience)
        return append_line(*arguments, patience=min(patience, 0.01), **options)

    monkeypatch.setattr(energy_logger, "append_line", counted)
    logger = EnhancedEnergyLogger("k8s", path=tmp_path / "log", max_bytes=1, backups=1)
    logger.log_energy_execution("first", STATS)
    with _held(tmp_path), caplog.at_level(logging.WARNING, logger="lithowatt"):
        for _ in range(3):
            logger.log_energy_execution("map", STATS)
    assert given == [0.5, 0.5, 0.0, 0.0]
    assert len(_lines(tmp_path / "log")) == 4
    (record,) = caplog.records
    assert "cannot be rotated and grows on" in record.getMessage()
    logger._no_lock_until = 0.0  # a minute later
    logger.log_energy_execution("later", STATS)
    logger.log_energy_execution("later", STATS)
    assert given[4:] == [0.5, 0.5] and len(_lines(tmp_path / "log")) == 1


def test_without_the_lock_a_line_is_added_and_nothing_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with _held(tmp_path):
        assert append_line(tmp_path / "log", b"1\n", patience=0) == (False, True)
        assert append_line(tmp_path / "log", b"2\n", most=3, patience=0) == (False, False)
    assert (tmp_path / "log").read_bytes() == b"1\n2\n" and not caplog.records


def test_what_a_killed_writer_left_gets_a_line_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b'{"half')
    logger = EnhancedEnergyLogger("k8s", path=path)
    logger.log_energy_execution("next", STATS)
    assert [entry["stage"] for entry in read_energy_log(path)] == ["next"]
    assert path.read_bytes().startswith(b'{"half\n{') and path.read_bytes().count(b"\n") == 2
    # Within what the file may have: 6 bytes, an end, 3 bytes; a new file needs no such end.
    path.write_bytes(b"123456")
    append_line(path, b"ab\n", most=10, backups=1)
    assert path.read_bytes() == b"123456\nab\n"
    path.write_bytes(b"1234567")
    append_line(path, b"ab\n", most=10, backups=1)
    assert path.read_bytes() == b"ab\n" and (tmp_path / "log.1").read_bytes() == b"1234567"


def test_what_no_json_can_hold(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")

    class Rude:
        def __str__(self) -> str:
            raise RuntimeError("no")

    loop: list[Any] = []
    loop.append(loop)
    context = {
        "nan": float("nan"),
        "large": 10**400,
        "array": numpy.arange(3),
        "scalar": numpy.float32(1.5),
        "bytes": b"123",
        "rude": Rude(),
        "loop": loop,
        "long": "x" * 100_000,
        3: {4},
        "path": tmp_path,
        "bad\udcff": "\udcff",
    }
    logger = EnhancedEnergyLogger("k8s", path=tmp_path / "e.jsonl")
    logger.log_energy_execution("map", STATS, context)
    logger.log_energy_execution("map", STATS, [list(range(1000))] * 1000)
    logger.log_energy_execution("map", STATS, ["y" * 4000] * 9000)
    logger.log_energy_execution("map", {"k": ["y" * 4000] * 9000}, {})
    first, many, long, longer = _lines(tmp_path / "e.jsonl")
    kept = first["execution_context"]
    assert kept["nan"] is None and kept["large"] is None and kept["array"] == [0, 1, 2]
    assert kept["scalar"] == 1.5 and kept["bytes"] == "<3 bytes>" and kept["rude"] == "<Rude>"
    assert len(kept["long"]) == 4096 and kept["3"] == [4] and kept["path"] == str(tmp_path)
    assert len(many["execution_context"]) < 12
    assert "left_out" in long["execution_context"] and long["energy_metrics"] == STATS
    assert "left_out" in longer["energy_metrics"]
    for entry in (first, many, long, longer):
        _check(entry)


def _write(path: str, worker: int, many: int) -> None:
    logger = EnhancedEnergyLogger("localhost", path=path, max_bytes=20_000, backups=50)
    for number in range(many):
        logger.log_energy_execution("map", STATS, {"worker": worker, "number": number})


def test_processes_and_threads_share_a_file(tmp_path: Path) -> None:
    path, workers, many = tmp_path / "energy.jsonl", 4, 60
    program = (
        "import sys\nfrom tests.report.test_energy_log import _write\n"
        "_write(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(path), str(worker), str(many)], cwd=TOP
        )
        for worker in range(2)
    ]
    threads = [threading.Thread(target=_write, args=(str(path), worker, many)) for worker in (2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait() for process in processes] == [0, 0]
    seen = [
        (entry["execution_context"]["worker"], entry["execution_context"]["number"])
        for entry in read_energy_log(path)
    ]
    # None lost, none twice, each worker's in its order; no file too large, and several of them.
    assert len(seen) == workers * many == len(set(seen))
    for worker in range(workers):
        assert [number for who, number in seen if who == worker] == list(range(many))
    sizes = [file.stat().st_size for file in tmp_path.iterdir()]
    assert len(sizes) > 4 and max(sizes) <= 20_000
    for file in tmp_path.iterdir():
        _lines(file)


def test_rotation_keeps_as_many_as_it_is_told(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for number in range(10):
        added = append_line(path, b"%d234567\n" % number, most=20, backups=2)
        assert added.held and added.fits
    assert sorted(os.listdir(tmp_path)) == ["log", "log.1", "log.2"]
    kept = [(tmp_path / name).read_bytes() for name in ("log.2", "log.1", "log")]
    assert b"".join(kept) == b"".join(b"%d234567\n" % number for number in range(4, 10))
    alone = tmp_path / "alone"
    for number in range(3):
        append_line(alone, b"%d234567\n" % number, most=20, backups=0)
    assert alone.read_bytes() == b"2234567\n"
    assert not (tmp_path / "alone.1").exists()
    append_line(alone, b"x" * 100 + b"\n", most=20, backups=1)
    assert alone.stat().st_size == 101, "a line that is longer than a file may be has its own"


def test_a_link_of_a_log_and_a_device_are_written_to(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "log"
    link.symlink_to(tmp_path / "real" / "log")
    for _ in range(3):
        append_line(link, b"12345678\n", most=20, backups=1)
    assert link.is_symlink() and sorted(os.listdir(tmp_path / "real")) == ["log", "log.1"]
    append_line("/dev/null", b"line\n", most=1)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="No such device"):
        append_line(tmp_path / "fifo", b"nobody reads\n")


@pytest.mark.parametrize("what", ["folder", "missing", "file/in"])
def test_what_cannot_be_written_is_told_once_and_by_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    path = tmp_path / what if what != "missing" else tmp_path / "missing" / "log"
    logger = EnhancedEnergyLogger("k8s", path=path)
    with caplog.at_level(logging.WARNING, logger="lithowatt"):
        for _ in range(3):
            assert logger.log_energy_execution("map", STATS)["energy_metrics"] == STATS
    (record,) = caplog.records
    assert str(path) in record.getMessage() and "cannot be written" in record.getMessage()
    assert logger.metrics_collector.summary()["total"]["executions"] == 3


def test_a_disk_that_is_full_in_the_middle_of_a_line(tmp_path: Path) -> None:
    """A file may grow by half a line only, by a limit of the kernel: the half is taken back."""
    program = """
import logging, os, resource, signal, sys
from lithowatt.report import EnhancedEnergyLogger
logging.basicConfig(format="%(message)s")
logger = EnhancedEnergyLogger("k8s", path=sys.argv[1])
logger.log_energy_execution("map", {}, "x" * 100)
size = os.stat(sys.argv[1]).st_size
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (size + size // 2, resource.RLIM_INFINITY))
for _ in range(2):
    logger.log_energy_execution("map", {}, "x" * 100)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
logger.log_energy_execution("later", {}, "x" * 100)
"""
    path = tmp_path / "log"
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )
    assert [entry["stage"] for entry in _lines(path)] == ["map", "later"]
    assert done.stderr.count("cannot be written") == 1 and "No space left" in done.stderr


def test_a_folder_that_takes_no_new_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "log"
    logger = EnhancedEnergyLogger("k8s", path=path, max_bytes=1, backups=1)
    logger.log_energy_execution("map", STATS)
    monkeypatch.setattr(files.os, "replace", refused)
    for _ in range(3):
        logger.log_energy_execution("map", STATS)
    assert len(_lines(path)) == 4
    assert [r.getMessage() for r in caplog.records if "cannot be rotated" in r.getMessage()] == [
        f"the energy log {path} cannot be rotated and grows on (told once)"
    ]


def test_without_a_file_entries_go_to_a_logger(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="lithowatt.energy"):
        entry = EnhancedEnergyLogger("k8s").log_energy_execution("%s %d", STATS)
    assert json.loads(caplog.records[-1].getMessage()) == entry


def test_a_logger_is_sent_to_workers(tmp_path: Path) -> None:
    logger = EnhancedEnergyLogger("k8s", path=tmp_path / "log", max_bytes=100, backups=1)
    logger.log_energy_execution("map", STATS)
    for other in (pickle.loads(pickle.dumps(logger)), copy.copy(logger)):
        other.log_energy_execution("map", STATS)
        assert other.metrics_collector.summary()["total"]["executions"] == 1
    assert (tmp_path / "log.1").exists() and not (tmp_path / "log.2").exists()


def test_a_log_with_half_lines_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    logger = EnhancedEnergyLogger("k8s", path=path)
    logger.log_energy_execution("one", STATS)
    with path.open("ab") as file:
        file.write(b'{"energy_metrics": {}, "st\n[1]\n{"a": 1}\n' + b"[" * 100_000 + b"\n")
    logger.log_energy_execution("two", STATS)
    assert [entry["stage"] for entry in read_energy_log(path)] == ["one", "two"]
    with pytest.raises(FileNotFoundError):
        list(read_energy_log(tmp_path / "nothing"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"backend_type": 3}, "backend_type must be a text, not 3"),
        ({"backend_type": ""}, "backend_type must not be empty"),
        ({"max_bytes": 0}, "max_bytes must be 1 or more, not 0"),
        ({"max_bytes": 1.5}, "max_bytes must be a whole number, not 1.5"),
        ({"backups": -1}, "backups must be 0 or more, not -1"),
        ({"backups": True}, "backups must be a whole number, not True"),
    ],
)
def test_wrong_arguments_are_one_error(options: dict[str, Any], words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        EnhancedEnergyLogger(**{"backend_type": "k8s", **options})


def test_sums_by_stage_and_backend_with_what_was_not_measured() -> None:
    collector = MetricsCollector(most=2)
    for stage, joules in (("a", 1.0), ("a", 3.0), ("b", 5.0), ("c", 7.0), ("d", 9.0)):
        metrics = {
            "energy_consumption": joules,
            "energy_low": joules / 2,
            "energy_high": joules * 2,
        }
        collector.collect({"stage": stage, "backend": "x", "energy_metrics": metrics})
    missing = {"energy_consumption": None, "energy_source": "unavailable: no counter"}
    collector.collect({"stage": "a", "backend": "y", "energy_metrics": missing})
    collector.collect({"stage": "a", "backend": "y"})
    summary = collector.summary()
    assert set(summary["by_stage"]) == {"a", "b", "(others)"}
    of_a = summary["by_stage"]["a"]
    assert (of_a["executions"], of_a["measured"], of_a["not_measured"]) == (4, 2, 2)
    assert (of_a["joules"], of_a["joules_low"], of_a["joules_high"]) == (4.0, 2.0, 8.0)
    assert (of_a["mean_joules"], of_a["mean_joules_high"]) == (2.0, 4.0)
    assert of_a["sd_joules"] == pytest.approx(2**0.5)
    assert of_a["reasons"]["no counter"] == 1 and len(of_a["reasons"]) == 2
    assert summary["by_stage"]["(others)"]["joules"] == 16.0
    of_y = summary["by_backend"]["y"]
    assert of_y["joules"] is None and of_y["mean_joules"] is None and of_y["reason"]
    assert json.loads(json.dumps(summary)) == summary


def test_threads_and_a_fork_use_one_collector() -> None:
    collector = MetricsCollector()
    entry = {"stage": "a", "backend": "x", "energy_metrics": {"energy_consumption": 1.0}}

    def many() -> None:
        for _ in range(2000):
            collector.collect(entry)

    threads = [threading.Thread(target=many) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert collector.summary()["total"]["joules"] == 8000
    # As a child that was forked while another thread held the lock.
    with collector._lock.here():
        child = os.fork()
        if not child:
            signal.alarm(30)
            collector.collect(entry)
            os._exit(collector.summary()["total"]["executions"] != 8001)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_collector_takes_entries_only() -> None:
    with pytest.raises(TypeError, match="entry must be a mapping, not int"):
        MetricsCollector().collect(3)
    with pytest.raises(ValueError, match="most must be a whole number"):
        MetricsCollector(0)
