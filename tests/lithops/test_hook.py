"""The hook by itself: how it starts, what it leaves alone, how values travel.

Nothing here needs Lithops, except the status of real releases at the end.
"""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import inspect
import io
import json
import logging
import os
import pickle
import re
import runpy
import subprocess
import sys
import types
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest

from lithowatt import _core
from lithowatt._core import Channel
from lithowatt._support import extension_fault
from lithowatt._support.harmless import Harmless
from lithowatt.lithops import _status, _worker
from lithowatt.meter._engine import new_engine
from lithowatt.worker import function_window as window
from lithowatt.worker import task_window as task
from lithowatt.worker.function_window import FunctionWindow
from rig import StaticTree
from tests.support.lithops_environments import (
    HOOK_FILES,
    RELEASES,
    install_lithowatt,
    metered,
    plain,
    run_python,
    site_packages,
)

ENERGY = "worker_func_energy_"


# --- how values travel ---------------------------------------------------------


VALUES = {"none": None, "yes": True, "list": ["a", "b"], "nested": {"x": 1.5}, "text": "µJ\n"}


def test_values_arrive_as_they_were():
    channel = Channel()
    payload = json.dumps(VALUES).encode()
    assert channel.write(payload)
    assert channel.read() == payload


def test_values_of_a_forked_child_arrive():
    # In an interpreter of its own: a fork of pytest's would run its clean-up too.
    script = """
import os
from lithowatt._core import Channel
channel = Channel()
pid = os.fork()
if pid == 0:
    channel.mark_started()
    channel.write(b"from %d" % os.getpid())
    os._exit(9)
os.waitpid(pid, 0)
assert channel.started_by() == pid
assert channel.read() == b"from %d" % pid
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_nothing_is_read_where_nothing_was_committed():
    channel = Channel()
    assert channel.read() is None
    assert channel.started_by() is None
    channel.mark_started()
    assert channel.read() is None
    assert channel.started_by() == os.getpid()


def test_values_that_do_not_fit_leave_nothing():
    channel = Channel(capacity=4096)
    assert not channel.write(b'{"x": "' + b"y" * 5000 + b'"}')
    assert channel.read() is None


@pytest.mark.parametrize("payload", [b"", b"{", b'"text"', b"[1]", b"\xff", b"\x01", b"\x01" * 500])
def test_what_is_no_object_and_no_window_has_no_values(monkeypatch, payload):
    monkeypatch.setattr(window, "new_engine", new_engine)
    channel = Channel()
    assert channel.write(payload)
    assert FunctionWindow(channel).values(channel.read()) is None


#: The numbers of one window in a forked process: as that process makes them, then as its parent
#: does from what it handed over. Prints `same`, or what is not.
WINDOW = """
import json, os, sys, time
from lithowatt._core import Meter
from lithowatt._core import Channel
from lithowatt.worker.function_window import FunctionWindow, warm

root, form = sys.argv[1:]
if root:
    import lithowatt.worker.function_window as module
    module.new_engine = lambda interval: Meter(
        "auto", interval=interval, children=True, root=root
    )
warm(Meter("auto", interval=None, children=True, root=root or "/"))
own, handed = Channel(), Channel()
window = FunctionWindow(handed)
pid = os.fork()
if pid == 0:
    def work(last):
        if form == "late":
            # After so long a process looks for itself what limits it.
            time.sleep(0.3)
        return sum(i * i for i in range(last))
    function = window.metered(work)
    if form == "late":
        time.sleep(0.3)
    function(int(os.environ["WORK"]))
    if form == "bound":
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    window.commit()
    own.write(window._json())
    os._exit(0)
os.waitpid(pid, 0)
payload = handed.read()
there = json.loads(own.read())
here = window.values(payload)
differ = {key: (there.get(key), here.get(key)) for key in {*there, *here}
          if there.get(key) != here.get(key)}
print(len(payload), len(there), payload[:1] == b"{", differ or "same")
"""


def two_numbers_of_a_window(root: str, form: str, work: int = 10) -> list[str]:
    script = [sys.executable, "-c", WINDOW, root, form]
    environment = {**os.environ, "WORK": str(work)}
    done = subprocess.run(script, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().split(maxsplit=3)


@pytest.mark.parametrize("work", [10, 3_000_000])
@pytest.mark.parametrize("counters", [False, True])
def test_a_window_that_is_handed_over_gives_the_numbers_of_its_process(tmp_path, counters, work):
    root = str(StaticTree(tmp_path, packages=2).root) if counters else ""
    form = "late" if work > 10 else "plain"
    size, keys, as_text, same = two_numbers_of_a_window(root, form, work)
    assert same == "same"
    # The window itself, not its numbers: those are 5 KB.
    assert as_text == "False" and int(size) < 2000 and int(keys) > 90


def test_a_process_that_sees_another_machine_than_its_parent_makes_its_own_numbers():
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one CPU: nothing to bind to")
    _, _, as_text, same = two_numbers_of_a_window("", "bound")
    assert (as_text, same) == ("True", "same")


# --- a worker that is only a module --------------------------------------------


class Meter:
    """Stands in for the engine where the joules are not the question."""

    def __init__(self, interval: float | None = 0.1) -> None:
        self.interval = interval

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def prepare_for(self, function: Any, wrapper: Any, cell: Any, names: tuple[str, ...]) -> None:
        new_engine(None).prepare_for(function, wrapper, cell, names)

    def begin(self, channel: Channel) -> None:
        channel.mark_started()
        self.start()
        self.finished = True

    def finish(self) -> None: ...

    finished = False

    def expect(self) -> None: ...

    def leave(self, channel: Channel) -> bool:
        self.stop()
        return False

    def raw_stats_json(self, spelling: Any, compact: bool) -> bytes:
        return self.stats_json(compact)

    @property
    def running(self) -> bool:
        return True

    def energy(self, definition: str | None = None) -> Any:
        scale = 1.4 if definition == "amortised" else 1.0
        return (2.5 * scale, 0.5 * scale, 4.0 * scale, 1.0, "measured", 2.5, 0.5)

    def stats(self) -> dict[str, Any]:
        return {
            ENERGY + "consumption": 2.0,
            ENERGY + "low": 1.0,
            ENERGY + "high": 3.0,
            ENERGY + "quality": "measured",
            ENERGY + "method": "rapl+cputime",
            ENERGY + "duration": 0.5,
            ENERGY + "warnings": [],
            "worker_func_rapl_energy_dram": None,
            "worker_func_cpu_usage": "not ours to write",
        }

    def stats_json(self, compact: bool = False) -> bytes:
        values = self.stats()
        if compact:
            values = {key: value for key, value in values.items() if value is not None}
        return json.dumps(values).encode()


class BrokenMeter(Meter):
    def start(self) -> None:
        raise OSError("no counter today")


class Status:
    """A call's status as Lithops' handler has it."""

    def __init__(self, limit: int | None = None) -> None:
        self.status: dict[str, Any] = {"worker_func_cpu_usage": [1.0], "call_id": "00000"}
        self.sent: dict[str, Any] | None = None
        self.MAX_MESSAGE_SIZE = limit

    def send_finish_event(self) -> str:
        self.sent = dict(self.status)
        return "sent"


class Stats:
    def __init__(self) -> None:
        self.lines: list[tuple[str, Any]] = []

    def write(self, key: str, value: Any) -> None:
        self.lines.append((key, value))


def handler(status: Any = None) -> Any:
    """A module with the names that a Lithops handler has."""

    class JobRunner:
        def __init__(self, job: Any) -> None:
            self.job = job
            self.stats = Stats()

        def run(self) -> Any:
            function = pickle.loads(self.job.func)
            try:
                result = function(20)
            except BaseException:
                self.stats.write("exception", True)
                raise
            self.stats.write("worker_func_exec_time", 1)
            return result

    module: Any = types.ModuleType("lithops.worker.handler")
    module.create_call_status = lambda job, storage: Status() if status is None else status
    module.run_task = lambda task: None
    module.JobRunner = JobRunner
    return module


def doubled(x: int) -> int:
    return 2 * x


def fails(x: int) -> int:
    raise ValueError("boom")


def meters_are(monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
    for module in (_worker, window, task):
        monkeypatch.setattr(module, "new_engine", kind)


@pytest.fixture(autouse=True)
def meter(monkeypatch: pytest.MonkeyPatch) -> None:
    meters_are(monkeypatch, Meter)
    monkeypatch.setattr(_worker, "_current", None)
    monkeypatch.setattr(_worker, "_worker", None)
    monkeypatch.setattr(_worker, "_warned", set())
    monkeypatch.delenv("ENERGY_MONITORING_ENABLED", raising=False)


def job(function: Any = doubled) -> Any:
    return types.SimpleNamespace(func=pickle.dumps(function))


def test_a_call_reports_what_the_function_left():
    module = handler()
    assert _worker.patch(module)
    task = job()
    pickled = task.func
    status = module.create_call_status(task, None)
    runner = module.JobRunner(task)

    assert runner.run() == 40
    assert status.send_finish_event() == "sent"
    assert status.sent[ENERGY + "consumption"] == 2.0
    assert status.sent["worker_func_rapl_energy_dram"] is None
    assert status.sent["worker_func_cpu_usage"] == [1.0], "upstream's keys are upstream's"
    assert status.sent[ENERGY + "method"] == "rapl+cputime"
    # All is as it was for the next call of the job.
    assert task.func == pickled
    assert "write" not in vars(runner.stats)
    assert "send_finish_event" not in vars(status)


@pytest.mark.parametrize("form", ["", "compact", "essential"])
def test_a_small_form_has_no_task_keys_without_a_value(monkeypatch, form):
    monkeypatch.setenv("ENERGY_STATS", form)
    module = handler()
    assert _worker.patch(module)
    status = module.create_call_status(job(), None)
    status.send_finish_event()
    of_task = {key: value for key, value in status.sent.items() if key in task.KEYS}
    assert of_task["worker_task_cold_start"] is True
    assert (None in of_task.values()) == (form == "")
    assert (len(of_task) == len(task.KEYS)) == (form == "")


def test_a_function_that_left_nothing_is_reported_by_the_task_window():
    module = handler()
    _worker.patch(module)
    task = job()
    status = module.create_call_status(task, None)
    module.JobRunner(task)
    status.send_finish_event()

    assert status.sent[ENERGY + "consumption"] == 2.0
    assert status.sent[ENERGY + "method"] == "rapl+cputime (task window)"
    assert status.sent[ENERGY + "quality"] == "attributed"
    assert status.sent[ENERGY + "low"] == 0.0, "no CPU time but the handler's own was seen"
    [warning] = status.sent[ENERGY + "warnings"]
    assert "did not start" in warning and "0.500 s" in warning


def test_an_exception_keeps_its_type_and_shows_no_frame_of_ours():
    module = handler()
    _worker.patch(module)
    task = job(fails)
    status = module.create_call_status(task, None)
    with pytest.raises(ValueError, match="boom") as caught:
        module.JobRunner(task).run()

    assert [entry.name for entry in caught.traceback][1:] == ["run", "fails"]
    status.send_finish_event()
    assert status.sent[ENERGY + "method"] == "rapl+cputime"


def test_an_interrupted_call_leaves_the_job_as_it_was():
    module = handler()
    _worker.patch(module)
    task = job()
    pickled = task.func
    module.create_call_status(task, None)
    module.JobRunner(task)
    assert task.func != pickled
    module.create_call_status(task, None)  # the next call; the first never sent its end
    assert task.func == pickled


def test_a_meter_that_cannot_start_costs_nothing_but_the_energy(monkeypatch):
    meters_are(monkeypatch, BrokenMeter)
    module = handler()
    _worker.patch(module)
    task = job()
    status = module.create_call_status(task, None)

    assert module.JobRunner(task).run() == 40
    assert status.send_finish_event() == "sent"
    assert status.sent[ENERGY + "consumption"] is None
    assert "no counter today" in status.sent[ENERGY + "warnings"][0]


def test_a_call_without_a_channel_is_reported_by_the_task_window(monkeypatch):
    def no_room() -> Channel:
        raise MemoryError

    monkeypatch.setattr(_worker, "Channel", no_room)
    module = handler()
    _worker.patch(module)
    for _ in range(2):
        task = job()
        status = module.create_call_status(task, None)
        assert module.JobRunner(task).run() == 40
        assert status.send_finish_event() == "sent"
        assert status.sent[ENERGY + "method"] == "rapl+cputime (task window)"


@pytest.mark.parametrize("word", ["false", "0", "No", " OFF "])
def test_switched_off_nothing_is_touched(monkeypatch, word):
    monkeypatch.setenv("ENERGY_MONITORING_ENABLED", word)
    module = handler()
    _worker.patch(module)
    task = job()
    pickled = task.func
    status = module.create_call_status(task, None)
    module.JobRunner(task)

    assert task.func == pickled
    assert not vars(status).keys() - {"status", "sent", "MAX_MESSAGE_SIZE"}
    status.send_finish_event()
    assert status.sent == {"worker_func_cpu_usage": [1.0], "call_id": "00000"}


@pytest.mark.parametrize(
    ("limit", "kept"),
    [
        (100_000, {"consumption", "low", "high", "quality", "method", "duration", "warnings"}),
        (600, {"consumption", "low", "high", "quality", "method", "duration", "warnings"}),
        (200, set()),
    ],
)
def test_a_small_message_is_not_filled_with_energy(limit, kept):
    status = Status(limit)
    module = handler(status)
    _worker.patch(module)
    task = job()
    module.create_call_status(task, None)
    status.send_finish_event()

    assert {key.removeprefix(ENERGY) for key in status.sent if key.startswith(ENERGY)} == kept
    if limit < 100_000:
        assert len(json.dumps(status.sent)) <= limit


@pytest.mark.parametrize("name", ["create_call_status", "run_task", "JobRunner"])
def test_an_unknown_layout_is_left_alone_and_logged_once(caplog, name):
    module = handler()
    delattr(module, name)
    before = dict(vars(module))
    with caplog.at_level(logging.DEBUG, logger="lithowatt"):
        assert not _worker.patch(module)
        assert not _worker.patch(module)

    assert vars(module) == before
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert name in record.getMessage()


@pytest.mark.parametrize("mark", _worker.SOURCE_PATCH_MARKS)
def test_a_handler_patched_at_its_source_is_left_alone(mark):
    module = handler()
    setattr(module, mark, True)
    before = dict(vars(module))
    assert not _worker.patch(module)
    assert vars(module) == before


def test_an_unknown_status_object_is_left_alone(caplog):
    status = types.SimpleNamespace(send_finish_event=lambda: "sent")
    module = handler(status)
    _worker.patch(module)
    with caplog.at_level(logging.DEBUG, logger="lithowatt"):
        module.create_call_status(job(), None)
    assert vars(status).keys() == {"send_finish_event"}
    assert "unknown status object" in caplog.text


def test_an_unknown_form_of_function_is_left_alone():
    module = handler()
    _worker.patch(module)
    task = types.SimpleNamespace(func=doubled)
    status = module.create_call_status(task, None)
    module.JobRunner(task)
    assert task.func is doubled
    status.send_finish_event()
    assert "could not be metered" in status.sent[ENERGY + "warnings"][0]


def test_patching_twice_is_patching_once_and_can_be_undone():
    module = handler()
    create, init = module.create_call_status, module.JobRunner.__init__
    assert _worker.patch(module)
    wrapped = module.create_call_status
    assert _worker.patch(module)
    assert module.create_call_status is wrapped
    _worker.unpatch(module)
    _worker.unpatch(module)
    assert module.create_call_status is create
    assert module.JobRunner.__init__ is init


def test_an_interrupt_in_our_part_is_the_workers(monkeypatch):
    class Interrupted(Meter):
        def stop(self) -> None:
            raise KeyboardInterrupt

    module = handler()
    _worker.patch(module)
    meters_are(monkeypatch, Interrupted)
    status = module.create_call_status(job(), None)
    with pytest.raises(KeyboardInterrupt):
        status.send_finish_event()


class Ask:
    """An attribute that raises when it is looked at."""

    def __init__(self, error: BaseException | type[BaseException]) -> None:
        self.error = error

    def __get__(self, *_: object) -> Any:
        raise self.error

    def __set__(self, *_: object) -> None:
        raise self.error


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


@pytest.mark.parametrize("level", [logging.WARNING, logging.DEBUG])
@pytest.mark.parametrize(
    "error", [RuntimeError("no"), Unspeakable(), SystemExit(3), KeyboardInterrupt(), MemoryError()]
)
@pytest.mark.parametrize(
    "names",
    [
        ["__traceback__"],
        ["__cause__", "__context__", "__suppress_context__"],
        ["__class__", "__dict__", "__notes__", "args"],
        ["__traceback__", "__cause__", "__context__", "__class__", "__dict__", "__doc__"],
    ],
)
def test_an_exception_that_may_not_be_looked_at_is_still_raised(monkeypatch, names, error, level):
    hostile = type("Hostile", (Unspeakable,), {name: Ask(error) for name in names})
    raised = hostile()

    def function(_: int) -> None:
        raise raised

    class Broken(Meter):
        def stop(self) -> None:
            raise OSError("the counter is gone")  # its context is the user's exception

    module = handler()
    _worker.patch(module)
    meters_are(monkeypatch, Broken)
    task = job()
    status = module.create_call_status(task, None)
    runner = module.JobRunner(task)
    monkeypatch.setattr(_worker._JobWindow, "load", lambda window: window.metered(function))
    stream = io.StringIO()
    logging.basicConfig(level=level, force=True, stream=stream)
    try:
        runner.run()
    except BaseException as caught:
        assert caught is raised
    else:
        raise AssertionError("a failed call was reported as a success")
    finally:
        logging.basicConfig(level=logging.WARNING, force=True)
    assert status.send_finish_event() == "sent"
    if level == logging.DEBUG:
        assert "OSError: the counter is gone" in stream.getvalue()


@pytest.mark.parametrize("error", [Unspeakable(), SystemExit(3), RuntimeError("no")])
def test_what_a_report_meets_stays_there(monkeypatch, error):
    class Reporter(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            raise error

    logger = logging.getLogger("lithowatt")
    monkeypatch.setattr(logger, "level", logging.DEBUG)
    monkeypatch.setattr(logger, "filters", [Reporter()])
    guard = Harmless("testing")
    with guard:
        raise Unspeakable
    assert guard.trouble == "Unspeakable, whose message cannot be read"


def test_an_exit_of_the_users_objects_does_not_end_the_worker():
    with pytest.raises(SystemExit), Harmless("testing"):
        raise SystemExit(1)
    with Harmless("testing", foreign=True):
        raise SystemExit(1)
    with pytest.raises(KeyboardInterrupt), Harmless("testing", foreign=True):
        raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["__name__", "__doc__", "__dict__", "__class__"])
def test_a_callable_that_may_not_be_looked_at_is_called(monkeypatch, name):
    shy = type("Shy", (), {"__call__": lambda self, x: x + 1, name: Ask(SystemExit(1))})()
    module = handler()
    _worker.patch(module)
    task = job()
    status = module.create_call_status(task, None)
    runner = module.JobRunner(task)
    monkeypatch.setattr(_worker._JobWindow, "load", lambda window: window.metered(shy))
    assert runner.run() == 21
    assert status.send_finish_event() == "sent"


@pytest.mark.parametrize("said", [7, None, RuntimeError("not now"), AttributeError("none")])
def test_a_callable_that_says_odd_things_of_itself_is_metered(said):
    class Odd:
        def __call__(self, x: int) -> int:
            return x + 1

        def __getattr__(self, _name: str) -> Any:
            if isinstance(said, Exception):
                raise said
            return said

    left = Channel()
    of_odd = FunctionWindow(left)
    metered_odd = of_odd.metered(Odd())
    assert metered_odd(20) == 21
    assert left.started_by() == os.getpid()
    assert metered_odd.__name__ == "Odd"


def test_a_metered_function_looks_like_the_function():
    def work(x: int, *, by: float = 2.0) -> float:
        """Multiplies."""
        return x * by

    work.cost = "low"  # type: ignore[attr-defined]
    for function in (work, "energy".upper, functools.partial(work, 1)):
        metered = FunctionWindow(Channel()).metered(function)
        for name in functools.WRAPPER_ASSIGNMENTS:
            if hasattr(function, name) and name not in ("__name__", "__qualname__"):
                assert getattr(metered, name) == getattr(function, name)
        assert inspect.signature(metered) == inspect.signature(function)
        assert metered.__wrapped__ is function
    metered = FunctionWindow(Channel()).metered(work)
    assert (metered.__name__, metered.__qualname__) == (work.__name__, work.__qualname__)
    assert metered.cost == "low"
    assert metered(3, by=4.0) == 12.0


#: Prints the threads of a call's process while its function runs, once it has left its window, and
#: while another meter runs in it later, with that one's samples.
THREADS = """
import os, time
from lithowatt import EnergyMeter
from lithowatt._core import Channel
from lithowatt.worker.function_window import FunctionWindow

def threads():
    return len(os.listdir("/proc/self/task"))

window = FunctionWindow(Channel())
pid = os.fork()
if pid == 0:
    during = window.metered(threads)()
    window.commit()
    end = time.monotonic() + 10
    while threads() > 1 and time.monotonic() < end:
        time.sleep(0.001)
    after = threads()
    with EnergyMeter(interval=0.01) as meter:
        time.sleep(0.3)
        later = threads()
    print(during, after, later, len(meter.timeline()) > 5, flush=True)
    os._exit(0)
os.waitpid(pid, 0)
"""


def test_the_thread_of_a_call_ends_with_its_window(tmp_path):
    ran = run_python(Path(sys.executable), "-c", THREADS, directory=tmp_path)
    assert (ran.stdout, ran.stderr) == ("2 1 2 True\n", "")


def test_a_rehearsal_that_fails_costs_no_start_of_a_worker(monkeypatch):
    def no_memory() -> None:
        raise OSError("Cannot allocate memory")

    monkeypatch.setattr(_worker, "_worker", None)
    monkeypatch.setattr(_worker, "rehearse", no_memory)
    with Harmless("warming up"):
        _worker.warm_up(fresh=True)
    assert _worker._this_worker()._startup_cpu is not None


def test_a_panic_of_the_extension_is_swallowed(monkeypatch):
    class Panic(BaseException):
        """As PyO3's PanicException, not an Exception."""

    class Panicking(Meter):
        def stop(self) -> None:
            raise Panic

    module = handler()
    _worker.patch(module)
    meters_are(monkeypatch, Panicking)
    task = job()
    status = module.create_call_status(task, None)
    assert module.JobRunner(task).run() == 40
    assert status.send_finish_event() == "sent"


# --- how an interpreter starts with it -------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with lithowatt and its hook, and without Lithops."""
    home = tmp_path_factory.mktemp("site") / "env"
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    install_lithowatt(site_packages(python))
    return python


LOADED = "import sys; print([m for m in sys.modules if 'lithowatt' in m])"


def test_an_interpreter_loads_nothing_of_ours(site, tmp_path):
    # A `.start` file names a function, so that its module is loaded.
    loaded = ["_lithowatt_start"] if sys.version_info >= (3, 15) else []
    done = run_python(site, "-c", LOADED, directory=tmp_path)
    assert (done.stdout, done.stderr) == (f"{loaded}\n", "")


def test_the_start_of_an_interpreter_imports_nothing(site, tmp_path):
    # The same interpreter with a .pth file of somebody else (where those are, a .start file): what
    # it loads for that, and what its distributor has it load at its start, is not the hook's doing.
    home = tmp_path / "without"
    venv.create(home, with_pip=False, symlinks=True)
    without = home / "bin" / "python"
    (site_packages(without) / "another.pth").write_text("import sys\n")
    if sys.version_info >= (3, 15):
        (site_packages(without) / "another.start").write_text("_another:install\n")
        (site_packages(without) / "_another.py").write_text("def install(): pass\n")
    loaded = []
    for python in (site, without):
        done = run_python(
            python, "-c", "import sys; print(sorted(sys.modules))", directory=tmp_path
        )
        assert done.returncode == 0, done.stderr
        loaded.append(set(ast.literal_eval(done.stdout)))
    assert loaded[0] - loaded[1] - {"_lithowatt_start"} == set()


def test_an_interpreter_has_one_finder_of_ours(site, tmp_path):
    # The site of some Pythons goes through the folder of a virtual environment twice.
    count = "import sys; print(sum(hasattr(f, 'lithowatt_hook') for f in sys.meta_path))"
    done = run_python(site, "-c", count, directory=tmp_path)
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_switched_off_nothing_is_patched(site, tmp_path):
    fake_lithops(tmp_path / "copy", KNOWN)
    path = str(tmp_path / "copy")
    for switch, patched in (("0", "False"), ("1", "True")):
        environment = {"PYTHONPATH": path, "ENERGY_MONITORING_ENABLED": switch}
        done = run_python(site, "-c", IS_PATCHED, directory=tmp_path, **environment)
        assert (done.stdout, done.stderr) == (f"{patched} False\n", "")


@pytest.mark.parametrize("broken", ["missing", "raises", "exits", "panics", "syntax"])
def test_a_broken_hook_never_shows(tmp_path, broken):
    home = tmp_path / "env"
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    packages = site_packages(python)
    (packages / "lithowatt-hook.pth").write_bytes((HOOK_FILES / "lithowatt-hook.pth").read_bytes())
    if broken == "raises":
        (packages / "_lithowatt_hook.py").write_text("raise RuntimeError('no')")
    elif broken == "exits":
        (packages / "_lithowatt_hook.py").write_text("raise SystemExit(9)")
    elif broken == "panics":
        (packages / "_lithowatt_hook.py").write_text("raise BaseException('no')")
    elif broken == "syntax":
        (packages / "_lithowatt_hook.py").write_text("def (")
    fake_lithops(tmp_path / "copy", KNOWN)
    program = "import lithops.worker.handler as h; print(hasattr(h, '__lithowatt_hook__'))"
    path = str(tmp_path / "copy")
    done = run_python(python, "-c", program, directory=tmp_path, PYTHONPATH=path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")


def test_the_start_file_does_what_the_pth_does(site, tmp_path):
    """PEP 829, which Python 3.15 and later follow: one `module:function` a line."""
    (line,) = (HOOK_FILES / "lithowatt-hook.start").read_text().splitlines()
    module, _, function = line.partition(":")
    fake_lithops(tmp_path / "copy", KNOWN)
    # Without site nothing has been hooked. What is raised would be printed at every start.
    script = (
        f"import sys; sys.path[:0] = [{str(HOOK_FILES)!r}, {str(tmp_path / 'copy')!r}]\n"
        f"import {module} as start; start.{function}()\n"
        f"sys.path.append({str(site_packages(site))!r})\n"
        "print(sorted(m for m in sys.modules if 'lithowatt' in m))\n" + IS_PATCHED
    )
    done = run_python(site, "-I", "-S", "-B", "-c", script, directory=tmp_path)
    assert (done.stdout, done.stderr) == (f"['{module}']\nTrue False\n", "")


def test_the_names_that_each_start_looks_for_are_those_of_the_table():
    hook, start = (
        runpy.run_path(str(HOOK_FILES / f"{name}.py"))
        for name in ("_lithowatt_hook", "_lithowatt_start")
    )
    assert set(start["_NAMES"]) == set(hook["TABLE"])
    pth = (HOOK_FILES / "lithowatt-hook.pth").read_text()
    assert pth.count("\n") == 1
    found = re.search(r"name in (\([^)]*\))", pth)
    assert found is not None and set(ast.literal_eval(found[1])) == set(hook["TABLE"])


@pytest.mark.parametrize(
    ("version", "files", "said"),
    [
        ((3, 11), ("pth",), "was not executed"),
        ((3, 14), ("start",), "does not know"),
        ((3, 15), ("start",), "was not executed"),
        ((3, 17), ("pth",), "was not executed"),
        ((3, 18), ("pth",), "no longer"),
        ((3, 18), ("pth", "start"), "hook.start is there, but was not executed"),
        ((3, 18), (), "no site directory"),
    ],
)
def test_status_knows_which_of_its_files_a_python_runs(monkeypatch, version, files, said):
    paths = {name: Path(f"/site/lithowatt-hook.{name}") for name in files}
    monkeypatch.setattr(_status.sys, "version_info", version)
    assert said in _status._why_not_run(paths.get("pth"), paths.get("start"))


def fake_lithops(directory: Path, handler: str) -> None:
    worker = directory / "lithops" / "worker"
    worker.mkdir(parents=True)
    (directory / "lithops" / "__init__.py").write_text("")
    (worker / "__init__.py").write_text("")
    (worker / "handler.py").write_text(handler)
    (worker / "other.py").write_text("")


KNOWN = """
def create_call_status(job, storage): ...
def run_task(task): ...
class JobRunner:
    def __init__(self, job): ...
    def run(self): ...
"""
IS_PATCHED = """
import lithops.worker.handler as h, lithops.worker.other as o
print(hasattr(h, '__lithowatt_hook__'), hasattr(o, '__lithowatt_hook__'))
"""


def test_the_handler_is_found_by_its_name_wherever_it_lies(site, tmp_path):
    fake_lithops(tmp_path / "copy", KNOWN)
    path = str(tmp_path / "copy")
    done = run_python(site, "-c", IS_PATCHED, directory=tmp_path, PYTHONPATH=path)
    assert (done.stdout, done.stderr) == ("True False\n", "")


LOOKED_UP = """
import importlib.util
importlib.util.find_spec('lithops.worker.handler')
import lithops.worker.other
"""


@pytest.mark.parametrize("before", ["", LOOKED_UP])
def test_the_handler_may_come_from_a_zip(site, tmp_path, before):
    fake_lithops(tmp_path / "copy", KNOWN)
    (tmp_path / "copy/lithops/worker/other.py").write_text(KNOWN)
    archive = tmp_path / "handler.zip"
    with zipfile.ZipFile(archive, "w") as out:
        for file in (tmp_path / "copy").rglob("*.py"):
            out.write(file, file.relative_to(tmp_path / "copy"))
    done = run_python(site, "-c", before + IS_PATCHED, directory=tmp_path, PYTHONPATH=str(archive))
    assert (done.stdout, done.stderr) == ("True False\n", "")


@pytest.mark.parametrize(
    "source", ["", "def run_task(task): ...", KNOWN + "EnergyManager = object"]
)
def test_an_unknown_handler_is_imported_as_it_is(site, tmp_path, source):
    fake_lithops(tmp_path / "copy", source)
    path = str(tmp_path / "copy")
    done = run_python(site, "-c", IS_PATCHED, directory=tmp_path, PYTHONPATH=path)
    assert (done.stdout, done.stderr) == ("False False\n", "")


@pytest.mark.parametrize(
    "raised",
    ["ImportError('GLIBC_2.34 not found')", "SystemExit(9)", "BaseException()", "MemoryError()"],
)
def test_a_lithowatt_that_cannot_be_imported_never_shows(tmp_path, raised):
    python = python_with_lithowatt(tmp_path)
    (site_packages(python) / "lithowatt" / "__init__.py").write_text(f"raise {raised}")
    fake_lithops(tmp_path / "copy", KNOWN)
    path = str(tmp_path / "copy")
    done = run_python(python, "-c", IS_PATCHED, directory=tmp_path, PYTHONPATH=path)
    assert (done.stdout, done.stderr) == ("False False\n", "")


def python_with_lithowatt(tmp_path: Path) -> Path:
    home = tmp_path / "env"
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    install_lithowatt(site_packages(python))
    return python


# Loaded as it is, one of these is a SIGBUS, which no `except` catches.
@pytest.mark.slow
@pytest.mark.parametrize("kept", [0, 40, 64, 4096, 0.1, 0.5, 0.9, -1])
def test_an_extension_that_was_cut_short_is_not_loaded(tmp_path, kept):
    python = python_with_lithowatt(tmp_path)
    extension = site_packages(python) / "lithowatt" / "_core.abi3.so"
    whole = extension.read_bytes()
    length = len(whole) + kept if kept < 0 else int(len(whole) * kept) if kept % 1 else kept
    extension.unlink()  # which may be a link to the one that runs here
    extension.write_bytes(whole[:length])
    fake_lithops(tmp_path / "copy", KNOWN)
    script = f"""
import logging, sys
said = []
class Keep(logging.Handler):
    def emit(self, record):
        said.append(record.getMessage())
logging.getLogger("lithowatt").addHandler(Keep())
sys.path.insert(0, {str(tmp_path / "copy")!r})
import lithops.worker.handler as handler
print(hasattr(handler, "__lithowatt_hook__"), len(said), "is not metered" in said[0])
try:
    import lithowatt
except ImportError as error:
    print("in part only" in str(error) and "cut short" in str(error))
"""
    done = run_python(python, "-c", script, directory=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "False 1 True\nTrue\n", "")


def test_a_whole_extension_has_no_fault():
    assert extension_fault(_core.__file__) is None
    assert extension_fault("/nonexistent") is None
    assert extension_fault(__file__) is None


def test_the_error_of_a_broken_handler_is_its_own(site, tmp_path):
    fake_lithops(tmp_path / "copy", "raise RuntimeError('its own')")
    path = str(tmp_path / "copy")
    script = "import lithops.worker.handler"
    done = run_python(site, "-c", script, directory=tmp_path, PYTHONPATH=path)
    assert done.stderr.endswith("RuntimeError: its own\n")


# --- status, and the hook by hand --------------------------------------------------


@pytest.fixture(scope="module")
def pythons(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("metered")
    return {release: metered(release, home / release) for release in RELEASES}


def status_of(python: Path, directory: Path, *options: str, **extra: str) -> tuple[int, Any]:
    arguments = (*options, "-m", "lithowatt.lithops", "status", "--json")
    done = run_python(python, *arguments, directory=directory, **extra)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("release", RELEASES)
def test_status_says_active_and_for_whom(pythons, tmp_path, release):
    python = pythons[release]
    code, found = status_of(python, tmp_path)

    assert code == 0
    assert found["active"] is True and found["reason"] is None
    assert found["executable"] == str(python)
    assert found["pth"] == str(site_packages(python) / "lithowatt-hook.pth")
    assert found["start"] == str(site_packages(python) / "lithowatt-hook.start")
    assert found["lithops"] == release
    assert found["layout"] == "known"

    text = run_python(python, "-m", "lithowatt.lithops", "status", directory=tmp_path)
    assert text.returncode == 0
    assert "are metered" in text.stdout and str(python) in text.stdout


@pytest.mark.slow
def test_status_says_why_not(pythons, site, tmp_path):
    python = pythons[RELEASES[0]]
    code, found = status_of(python, tmp_path, ENERGY_MONITORING_ENABLED="off")
    assert code == 1 and "ENERGY_MONITORING_ENABLED=off" in found["reason"]
    assert found["enabled"] is False and found["finder"] is False

    code, found = status_of(site, tmp_path)
    assert code == 1 and "not installed" in found["reason"]

    fake_lithops(tmp_path / "copy", "def run_task(): ...")
    code, found = status_of(site, tmp_path, PYTHONPATH=str(tmp_path / "copy"))
    assert code == 1 and "create_call_status" in found["layout"]

    # Lithowatt on the path only: its .pth is in no site directory.
    beside = tmp_path / "beside"
    beside.mkdir()
    install_lithowatt(beside, hook=False)
    code, found = status_of(plain(RELEASES[0]), tmp_path, PYTHONPATH=str(beside))
    assert code == 1 and "pip install" in found["reason"]
    assert found["pth"] is None


@pytest.mark.slow
def test_the_hook_can_be_installed_by_hand(tmp_path):
    beside = tmp_path / "beside"
    beside.mkdir()
    install_lithowatt(beside, hook=False)
    script = """
from lithowatt.lithops import install_hook, status, uninstall_hook
assert not status().active
assert install_hook() and install_hook()
import lithops.worker.handler as handler
assert status().active and status().handler_patched
wrapped = handler.create_call_status
uninstall_hook(); uninstall_hook()
assert handler.create_call_status is not wrapped
assert not status().active
"""
    python = plain(RELEASES[0])
    done = run_python(python, "-c", script, directory=tmp_path, PYTHONPATH=str(beside))
    assert (done.returncode, done.stderr) == (0, "")


def test_the_installed_wheel_carries_the_hook():
    try:
        files = importlib.metadata.files("lithowatt")
    except importlib.metadata.PackageNotFoundError:
        files = None
    if not files:
        pytest.skip("lithowatt is not installed from a wheel here")
    names = {str(file) for file in files}
    assert {file.name for file in HOOK_FILES.iterdir() if file.is_file()} <= names
