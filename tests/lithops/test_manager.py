"""``EnergyManager``: right values where it can, and never an exception in the worker."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import lithowatt
from lithowatt import EnergyManager, EnergyMeter
from lithowatt.lithops import _manager
from lithowatt.lithops._manager import add_energy_metrics, function_name_from_stats
from lithowatt.meter._absent import absent_stats
from tests.support.powercap_files import TWO_SOCKETS, FakeMachine, advance

ENERGY = "worker_func_energy_consumption"
SOURCE = "worker_func_energy_source"
DURATION = "worker_func_energy_duration"


@pytest.fixture(autouse=True)
def nothing_reported(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("ENERGY_METHODS", "ENERGY_COLLECTION_INTERVAL", "ENERGY_MONITORING_ENABLED"):
        monkeypatch.delenv(name, raising=False)
    _manager._reported.clear()
    yield
    _manager._reported.clear()


@pytest.fixture
def machine(tmp_path: Path) -> FakeMachine:
    return FakeMachine(tmp_path / "root", TWO_SOCKETS)


class CallStatus:
    """As Lithops has it."""

    def __init__(self) -> None:
        self.status: dict[str, Any] = {"exception": False}

    def add(self, key: str, value: Any) -> None:
        self.status[key] = value


# --- values -------------------------------------------------------------------------------------


def test_the_seeds_calls(machine: FakeMachine) -> None:
    manager = EnergyManager(root=machine.root)
    assert manager.start_monitoring() is True
    advance(machine)
    stats = manager.stop_monitoring()
    advance(machine)
    assert stats["worker_func_rapl_energy_pkg"] == pytest.approx(15.0)
    assert stats["worker_func_rapl_energy_cores"] == pytest.approx(9.0)
    assert stats["worker_func_rapl_energy_total"] == pytest.approx(17.0)
    assert stats["worker_func_energy_machine"] == pytest.approx(17.0)
    assert 0 <= stats[ENERGY] <= 17.0
    assert stats[DURATION] > 0
    assert manager.stop_monitoring() == stats
    json.dumps(stats, allow_nan=False)


def test_the_stats_are_the_meters(machine: FakeMachine) -> None:
    with EnergyMeter(root=machine.root, interval=None) as meter:
        pass
    manager = EnergyManager(root=machine.root)
    manager.start_monitoring()
    assert list(manager.stop_monitoring()) == list(meter.stats())


def test_the_patched_handlers_calls(machine: FakeMachine, tmp_path: Path) -> None:
    stats_file = tmp_path / "job_stats.txt"
    task = SimpleNamespace(stats_file=str(stats_file))
    status = CallStatus()
    manager = EnergyManager(os.getpid(), root=machine.root)
    assert manager.read_function_name_from_stats(task.stats_file) is None
    assert manager.start() is True
    advance(machine)
    stats_file.write_text("worker_peak_memory_start 123\nfunction_name train <model>\n")
    assert manager.stop() is None
    cpu_info = {"usage": [50.0, 60.0], "system": 1.0, "user": 2.0}
    assert manager.process_energy_data(task, status, cpu_info) is None
    assert status.status["worker_func_rapl_energy_pkg"] == pytest.approx(15.0)
    assert status.status["exception"] is False
    assert manager.function_name == "train <model>"
    assert manager.update_function_name(task, cpu_info, task.stats_file) is True
    assert manager.update_function_name(task, "other") is True
    assert manager.function_name == "other"


def test_processing_ends_a_window_that_runs(machine: FakeMachine) -> None:
    manager = EnergyManager(root=machine.root)
    manager.start()
    advance(machine)
    first: dict[str, Any] = {}
    manager.process_energy_data(None, first)
    advance(machine)
    second: dict[str, Any] = {}
    manager.process_energy_data(None, second)
    assert first["worker_func_rapl_energy_total"] == pytest.approx(17.0)
    assert second == first


def test_a_manager_may_be_used_again(machine: FakeMachine) -> None:
    manager = EnergyManager(root=machine.root)
    manager.start()
    advance(machine)
    manager.stop()
    manager.start()
    machine.add("intel-rapl:1", 2)
    machine.add("intel-rapl:2", 1)
    stats = manager.stop_monitoring()
    assert stats["worker_func_rapl_energy_pkg"] == pytest.approx(3.0)


def test_starting_twice_goes_on(machine: FakeMachine) -> None:
    manager = EnergyManager(root=machine.root)
    manager.start()
    advance(machine)
    assert manager.start() is True
    assert manager.stop_monitoring()["worker_func_rapl_energy_pkg"] == pytest.approx(15.0)


def test_another_process() -> None:
    code = "import time\nprint(flush=True)\nend = time.process_time() + 5\n"
    code += "while time.process_time() < end: pass"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        manager = EnergyManager(child.pid)
        manager.start()
        with EnergyMeter(pid=child.pid, interval=None) as meter:
            deadline = os.times().elapsed + 0.3
            while os.times().elapsed < deadline:
                pass
        stats = manager.stop_monitoring()
        child.kill()
    cpu = meter.reading.cpu_seconds
    assert cpu is not None and cpu > 0.02
    assert stats["worker_func_energy_cpu_time"] == pytest.approx(cpu, rel=0.2)


def test_no_thread_before_a_fork() -> None:
    code = (
        "import os, lithowatt\n"
        "manager = lithowatt.EnergyManager()\n"
        "manager.start()\n"
        "print(len(os.listdir('/proc/self/task')))\n"
        "manager.stop()\n"
    )
    assert run(code) == "1\n"


def test_the_environments_interval_samples() -> None:
    code = (
        "import time, lithowatt\n"
        "manager = lithowatt.EnergyManager()\n"
        "manager.start(); time.sleep(0.3); manager.stop()\n"
        "print(manager._meter.reading.samples > 5)\n"
    )
    assert run(code, ENERGY_COLLECTION_INTERVAL="10") == "True\n"


def run(code: str, **environment: str) -> str:
    path = os.pathsep.join(p for p in sys.path if p)
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


# --- nothing raises -----------------------------------------------------------------------------


def test_never_started() -> None:
    stats = EnergyManager().stop_monitoring()
    assert stats[ENERGY] is None
    assert stats[DURATION] is None
    assert stats[SOURCE] == "unavailable: the manager was not started"
    assert stats["worker_func_energy_warnings"] == ["the manager was not started"]
    with EnergyMeter(interval=None) as meter:
        pass
    assert list(stats) == list(meter.stats(compact=False))


def test_a_process_that_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "lithowatt"):
        for _ in range(2):
            manager = EnergyManager(2_147_483_600)
            assert manager.start() is False
            manager.stop()
            status: dict[str, Any] = {}
            manager.process_energy_data(None, status)
            assert status[ENERGY] is None
            assert "2147483600" in status[SOURCE]
    assert [record.levelname for record in caplog.records] == ["WARNING", "DEBUG"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("ENERGY_METHODS", "rappl"), ("ENERGY_COLLECTION_INTERVAL", "often")],
)
def test_a_wrong_environment_does_not_raise(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    manager = EnergyManager()
    assert manager.start_monitoring() is False
    stats = manager.stop_monitoring()
    assert stats[ENERGY] is None
    assert value in stats[SOURCE]
    assert value in repr(manager)


def test_a_wrong_environment_is_not_the_callers_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENERGY_METHODS", "bogus")
    manager = EnergyManager(methods="auto,rapl")
    assert manager.start_monitoring() is False
    assert "$ENERGY_METHODS" in manager.stop_monitoring()[SOURCE]
    for options in ({"methods": "auto,rappl"}, {"estimation": "bogus"}):
        with pytest.raises(lithowatt.UnknownMethodError):
            EnergyManager(**options)


def test_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENERGY_MONITORING_ENABLED", "false")
    manager = EnergyManager()
    manager.start()
    stats = manager.stop_monitoring()
    assert stats[ENERGY] is None
    assert "ENERGY_MONITORING_ENABLED" in stats[SOURCE]


class Panic(BaseException):
    """What a panic of the extension is to Python."""


class BrokenMeter:
    running = True
    label = None

    def __getattr__(self, name: str) -> Any:
        raise Panic("inside")


def test_a_meter_that_breaks(caplog: pytest.LogCaptureFixture) -> None:
    manager = EnergyManager()
    manager._meter = BrokenMeter()  # type: ignore[assignment]
    manager.start()
    manager._started = True
    manager.stop()
    stats = manager.stop_monitoring()
    assert stats[ENERGY] is None
    assert stats[SOURCE] == "unavailable: Panic: inside"
    assert {record.levelname for record in caplog.records} == {"WARNING"}


@pytest.mark.parametrize("status", [None, 5, "status", object(), {1, 2}, SimpleNamespace(status=1)])
def test_a_status_of_another_shape(status: object, caplog: pytest.LogCaptureFixture) -> None:
    manager = EnergyManager()
    manager.start()
    manager.process_energy_data(object(), status)
    assert len(caplog.records) == 1


def test_a_status_that_refuses(caplog: pytest.LogCaptureFixture) -> None:
    class Full:
        def add(self, key: str, value: object) -> None:
            raise MemoryError("no room")

    manager = EnergyManager()
    manager.start()
    manager.process_energy_data(SimpleNamespace(stats_file=7), Full())
    assert "no room" in caplog.text


def test_an_interrupt_is_the_workers() -> None:
    class Interrupted:
        def add(self, key: str, value: object) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        EnergyManager().process_energy_data(None, Interrupted())


@pytest.mark.parametrize(
    "name", ["", "  ", "two\nlines", "bell\x07", "x" * 2000, None, 5, b"bytes", float("nan")]
)
def test_a_hostile_name_changes_nothing(name: object, caplog: pytest.LogCaptureFixture) -> None:
    manager = EnergyManager(function_name="kept")
    assert manager.update_function_name(name) is False
    assert manager.read_function_name_from_stats({"function_name": name}) is None
    assert manager.function_name == "kept"
    assert "function name" in caplog.text
    assert "\x07" not in caplog.text


@pytest.mark.parametrize("source", [5, None, object(), b"\xff", "/nowhere/job_stats.txt", "\0"])
def test_a_stats_file_that_is_none(source: Any) -> None:
    manager = EnergyManager()
    assert manager.read_function_name_from_stats(source) is None
    assert manager.update_function_name(None, None, source) is False


def test_started_here_stopped_in_a_fork() -> None:
    code = (
        "import os, lithowatt\n"
        "manager = lithowatt.EnergyManager()\n"
        "manager.start()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    stats = manager.stop_monitoring()\n"
        "    print(stats['worker_func_energy_consumption'], stats['worker_func_energy_source'])\n"
        "else:\n"
        "    os.waitpid(child, 0)\n"
        "    print(manager.stop_monitoring()['worker_func_energy_duration'] > 0)\n"
    )
    child, parent = run(code).splitlines()
    assert child.startswith("None unavailable: ") and "fork" in child
    assert parent == "True"


# --- wrong arguments raise, naming them ---------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"process_id": "12"}, TypeError, "process_id.*'12'"),
        ({"process_id": True}, TypeError, "process_id.*True"),
        ({"process_id": 1.5}, TypeError, "process_id.*1.5"),
        ({"process_id": float("nan")}, TypeError, "process_id.*nan"),
        ({"process_id": -1}, ValueError, "process_id.*-1"),
        ({"process_id": 0}, ValueError, "process_id.*0"),
        ({"process_id": 1 << 40}, ValueError, "process_id.*1099511627776"),
        ({"function_name": 5}, TypeError, "function name.*5"),
        ({"function_name": "a\nb"}, ValueError, "printable"),
        ({"pid": 1}, TypeError, "'pid'.*process_id"),
        ({"metods": "rapl"}, TypeError, "'metods'.*methods"),
        ({"methods": "rappl"}, lithowatt.UnknownMethodError, "rappl"),
        ({"estimation": "bogus"}, lithowatt.UnknownMethodError, "estimation.*bogus"),
        ({"interval": -1.0}, lithowatt.InvalidIntervalError, "-1"),
        ({"interval": float("nan")}, lithowatt.InvalidIntervalError, "NaN"),
        ({"scope": "galaxy"}, lithowatt.UnknownScopeError, "galaxy"),
        ({"process_id": 1, "scope": "thread"}, lithowatt.ConflictingOptionsError, "thread"),
        ({"root": 5}, TypeError, "root"),
    ],
)
def test_wrong_arguments(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        EnergyManager(**arguments)


# --- add_energy_metrics -------------------------------------------------------------------------


def test_metrics_are_added_by_add() -> None:
    status = CallStatus()
    add_energy_metrics(status, {ENERGY: 12.5, "exception": True})
    assert status.status == {"exception": False, ENERGY: 12.5}


def test_metrics_are_added_to_a_dict() -> None:
    plain: dict[str, Any] = {}
    add_energy_metrics(plain, {ENERGY: None})
    assert plain == {ENERGY: None}
    holder = SimpleNamespace(status={})
    add_energy_metrics(holder, {ENERGY: 1.0})
    assert holder.status == {ENERGY: 1.0}


def test_metrics_are_added_by_an_add_without_a_dict() -> None:
    added: list[tuple[str, object]] = []
    status = SimpleNamespace(add=lambda key, value: added.append((key, value)))
    add_energy_metrics(status, {ENERGY: 1.0, SOURCE: "measured: rapl"})
    assert added == [(ENERGY, 1.0), (SOURCE, "measured: rapl")]


def test_bound_it_is_the_seeds_method() -> None:
    class Patched(CallStatus):
        add_energy_metrics = add_energy_metrics

    status = Patched()
    status.add_energy_metrics({ENERGY: 3.0})
    assert status.status[ENERGY] == 3.0


def test_a_handler_that_calls_the_method_has_it_on_its_own_call_status(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    status = types.ModuleType("lithops.worker.status")
    status.CallStatus = CallStatus  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lithops.worker.status", status)
    monkeypatch.setitem(sys.modules, "lithops.worker.handler", types.ModuleType("handler"))
    before = dict(vars(CallStatus))

    def early() -> Any:
        call_status: Any = CallStatus()
        manager = EnergyManager(enabled=False)
        call_status.add_energy_metrics({ENERGY: 1.0})
        manager.stop_monitoring()
        return call_status

    def late() -> Any:
        manager = EnergyManager(enabled=False)
        call_status: Any = CallStatus()
        metrics = stopped(manager)
        call_status.add_energy_metrics({**metrics, ENERGY: 1.0})
        return call_status

    def stopped(manager: EnergyManager) -> dict[str, Any]:
        return manager.stop_monitoring()

    def plain() -> Any:
        call_status = CallStatus()
        EnergyManager(enabled=False).stop_monitoring()
        return call_status

    for run_task in (early, late):
        assert run_task().status[ENERGY] == 1.0
    # Where nobody asks, and for everybody else, there is no such method.
    assert not hasattr(plain(), "add_energy_metrics")
    assert not hasattr(CallStatus(), "add_energy_metrics")
    assert dict(vars(CallStatus)) == before
    # One that somebody else gave it stays.

    class Own(CallStatus):
        def add_energy_metrics(self, metrics: Any) -> None:
            self.status["own"] = metrics

    def own() -> Any:
        call_status = Own()
        EnergyManager(enabled=False).stop_monitoring()
        call_status.add_energy_metrics(1)
        return call_status

    assert own().status["own"] == 1


RUN_TASK = """
def run_task(task, call_status, manager):
    energy_manager = manager()
    energy_manager.start_monitoring()
    call_status.add_energy_metrics(energy_manager.stop_monitoring())
    energy_manager.process_energy_data(task, call_status)
"""

UNCHANGED = """
import sys
import lithops.worker.handler as handler
import lithops.monitoring.status, lithops.worker.jobrunner
from types import SimpleNamespace
from lithowatt import EnergyManager

def seen():
    return {
        (name, key): dict(vars(value))
        for name, module in sorted(sys.modules.items())
        if name == "lithops" or name.startswith("lithops.")
        for key, value in vars(module).items()
        if isinstance(value, type) and value.__module__.startswith("lithops")
    }

exec(sys.argv[1], vars(handler))
before = seen()
assert len(before) > 20, len(before)
of = lithops.monitoring.status.CallStatus
status = of.__new__(of)
status.status = {}
handler.run_task(SimpleNamespace(stats_file=None), status, EnergyManager)
assert "worker_func_energy_duration" in status.status
after = seen()
assert {key for key in before | after if before.get(key) != after.get(key)} == set()
"""


@pytest.mark.slow
def test_no_class_of_lithops_is_changed() -> None:
    pytest.importorskip("lithops.monitoring.status")
    # In an interpreter of its own, where no test has patched Lithops, and without the hook.
    done = subprocess.run(
        [sys.executable, "-c", UNCHANGED, RUN_TASK],
        env={**os.environ, "ENERGY_MONITORING_ENABLED": "false"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("metrics", "error", "message"),
    [
        ([1.0], TypeError, "metrics"),
        ({5: 1.0}, TypeError, "5"),
        ({"x": 1.0, ENERGY: float("nan")}, ValueError, f"{ENERGY}.*nan"),
        ({"x": 1.0, ENERGY: float("inf")}, ValueError, f"{ENERGY}.*inf"),
    ],
)
def test_metrics_of_another_shape(metrics: Any, error: type[Exception], message: str) -> None:
    status: dict[str, Any] = {}
    with pytest.raises(error, match=message):
        add_energy_metrics(status, metrics)
    assert status == {}


# --- function_name_from_stats -------------------------------------------------------------------


def test_a_name_from_a_path_a_file_and_a_dict(tmp_path: Path) -> None:
    text = "worker_peak_memory_start 1\nfunction_name my_function\nfunc_result_size 0\n"
    path = tmp_path / "job_stats.txt"
    path.write_text(text)
    assert function_name_from_stats(path) == "my_function"
    assert function_name_from_stats(str(path)) == "my_function"
    assert function_name_from_stats(io.StringIO(text)) == "my_function"
    with path.open("rb") as file:
        assert function_name_from_stats(file) == "my_function"  # type: ignore[arg-type]
    assert function_name_from_stats({"function_name": "my_function"}) == "my_function"


@pytest.mark.parametrize("text", ["", "worker_x 1\n", "\n\n", "function_names x\n"])
def test_stats_without_a_name(text: str) -> None:
    assert function_name_from_stats(io.StringIO(text)) is None
    assert function_name_from_stats({}) is None


@pytest.mark.parametrize(
    "text", ["function_na", "function_name my_fu", "worker_x 1\nfunc", "function_name \n"]
)
def test_a_truncated_stats_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "job_stats.txt"
    path.write_text(text)
    with pytest.raises(lithowatt.MalformedValueError, match=r"job_stats\.txt"):
        function_name_from_stats(path)
    assert EnergyManager().read_function_name_from_stats(path) is None


def test_a_cut_after_the_name_does_no_harm() -> None:
    assert function_name_from_stats(io.StringIO("function_name f\nresult gASV")) == "f"


def test_a_result_of_many_megabytes_is_not_read() -> None:
    file = io.StringIO("worker_x 1\nresult " + "x" * 3_000_000)
    assert function_name_from_stats(file) is None
    assert file.tell() < 2_000_000


def test_a_pipe_is_no_stats_file(tmp_path: Path) -> None:
    # Jobs have long paths, and which file it is stands at the end.
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(lithowatt.UnreadableFileError, match=re.escape(f"'{pipe}' is no file")):
        function_name_from_stats(pipe)
    with pytest.raises(lithowatt.UnreadableFileError, match=re.escape(f"{folder}/missing'")):
        function_name_from_stats(folder / "missing")


def test_what_is_too_long_for_a_path_is_cut_in_the_message() -> None:
    with pytest.raises(lithowatt.UnreadableFileError) as caught:
        function_name_from_stats("x" * 100_000)
    assert len(str(caught.value)) < 200


def test_stats_of_another_type() -> None:
    with pytest.raises(TypeError, match=r"5"):
        function_name_from_stats(5)  # type: ignore[arg-type]


def test_absent_stats_say_why_everywhere() -> None:
    stats = absent_stats("because")
    sources = [key for key in stats if key.endswith("_source") and stats[key] is not None]
    assert len(sources) >= 6
    assert {stats[key] for key in sources} == {"unavailable: because"}
    assert stats["worker_processor_threads"] >= 1
