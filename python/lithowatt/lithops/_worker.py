"""The hook's work inside a Lithops worker: what runs where, and when.

Two processes take part in a call. The handler's process, H, prepares the call,
forks the function's process, J, waits for it and reports the status; J loads
the function and runs it.

* H, when it downloads the function and the data of its calls (`create_job`):
  a meter, for `worker_task_energy_*`.
* H, when it takes up a call (`run_task`): a meter over H's tree without a sampler
  thread, because a process that is about to fork should have no thread more than
  upstream's.
* H, when it makes the call's status object (`create_call_status`): a mapping
  for J's values.
* H, when it makes the `JobRunner` that J will run: the job's function is pickled
  bytes, so those are replaced by bytes that load to the same function with a
  meter round it. `JobRunner.run` itself stays as it is, so that no frame of
  ours appears in what is printed when an exception leaves it.
* J, round the user's function and nothing else: the meter whose values are
  reported.
* H, when it reports the end (`send_finish_event`): J's values join the status,
  and H's as those of the task. Where J left none (killed, timed out, `os._exit`)
  H's own window is reported as the function's too, and marked as such.

Nothing here may break, delay or change a call. Whatever fails is logged under
`lithowatt` and the call goes on as upstream wrote it.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import logging
import os
import pickle
import sys
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

# At import, so that the extension is loaded before the first task and before any fork.
from lithowatt import _core
from lithowatt._core import Channel
from lithowatt._support.harmless import Harmless
from lithowatt._support.switches import enabled, stats_form
from lithowatt.meter._engine import new_engine, stats_json_of
from lithowatt.stats import PREFIX
from lithowatt.worker import task_window as _task
from lithowatt.worker.function_window import (
    FunctionWindow,
    Sink,
    children_cpu_time,
    cpu_time_of,
    failed,
    rehearse,
)

logger = logging.getLogger("lithowatt")
logger.addHandler(logging.NullHandler())

#: Attributes of a handler that meters by itself: one patched at its source
#: with lithowatt's own tool, and the prototype's patched handler.
SOURCE_PATCH_MARKS = ("__lithowatt_patch__", "EnergyManager")

#: Attribute of a function that `lithowatt.flexecutor.metered_stage` made; its
#: name is in the bytes of the pickled function.
STAGE_MARK = "__lithowatt_stage__"

#: Set on a handler this module has wrapped.
_WRAPPED = "__lithowatt_hook__"

#: What is left of the values where a message service has little room.
_HEADLINE = (
    *(
        PREFIX + key
        for key in (
            "energy_consumption",
            "energy_low",
            "energy_high",
            "energy_quality",
            "energy_method",
            "energy_definition",
            "energy_duration",
            "energy_warnings",
            "energy_schema",
        )
    ),
    _task.PREFIX + "energy_consumption",
    _task.PREFIX + "cold_start",
)


# --- H: the handler's process ------------------------------------------------


class _Task:
    """One call, as its handler sees it."""

    def __init__(self, job: Any) -> None:
        self.job = job
        self.pid = os.getpid()
        self.channel: Channel | None = None
        self.window: _JobWindow | None = None
        self.task: _task.TaskWindow | None = None
        self.trouble: str | None = None
        self.own_cpu = 0.0
        self.children_cpu = 0.0
        self._values: dict[str, Any] | None = None
        try:
            self.task = _task.TaskWindow(_this_worker(), _calls_of(job))
            self.own_cpu = time.process_time()
            self.children_cpu = children_cpu_time()
        except Exception as error:
            self.trouble = f"{type(error).__name__}: {error}"

    def values(self) -> dict[str, Any]:
        """What this call's status shall carry, by stats key; ends the window."""
        if self._values is None:
            function = started_by = None
            if self.channel is not None:
                payload = self.channel.read()
                if payload is not None and self.window is not None:
                    function = self.window.values(payload)
                started_by = self.channel.started_by()
                self.channel = None
            if self.task is not None:
                self.task.stop()
            values = self._function_window(started_by) if function is None else dict(function)
            with Harmless("metering a task"):
                ours = dict.fromkeys(_task.KEYS)
                if self.task is not None:
                    ours = self.task.values(function)
                if stats_form() != "full":
                    ours = {key: value for key, value in ours.items() if value is not None}
                values.update(ours)
            self._values = values
        return self._values

    def _function_window(self, started_by: int | None) -> dict[str, Any]:
        """The handler's window of this call: all that a function left that died silently."""
        if self.task is None:
            reason = f"no energy: the meter could not start ({self.trouble})"
            keys = [key for key in _HEADLINE if key.startswith(PREFIX)]
            values: dict[str, Any] = dict.fromkeys(keys)
            values[PREFIX + "energy_warnings"] = [reason]
            return values
        values = json.loads(stats_json_of(self.task.meter))
        seconds = values.get(PREFIX + "energy_duration")
        window = f"{seconds:.3f} s" if isinstance(seconds, (int, float)) else "its length unknown"
        if started_by is None:
            what = "the function did not start or could not be metered"
        else:
            what = "the function's process ended without reporting (killed, timed out or exited)"
        others = values.get(PREFIX + "energy_warnings")
        values[PREFIX + "energy_warnings"] = [
            *(others if isinstance(others, list) else []),
            f"{what}: these values are of the whole task in the worker, {window}, "
            "Lithops' own work included",
        ]
        method = values.get(PREFIX + "energy_method")
        if method is not None:
            values[PREFIX + "energy_method"] = f"{method} (task window)"
        # The machine may have been ours alone, but this function's part of the
        # window is not a direct measurement.
        if values.get(PREFIX + "energy_quality") == "measured":
            values[PREFIX + "energy_quality"] = "attributed"
        low = values.get(PREFIX + "energy_low")
        if isinstance(low, (int, float)):
            values[PREFIX + "energy_low"] = low * self._function_part(started_by)
        return values

    def _function_part(self, started_by: int | None) -> float:
        """Share, 0..1, of the window's CPU time that was not the handler's own."""
        own = time.process_time() - self.own_cpu
        function = children_cpu_time() - self.children_cpu
        if started_by is not None:
            function += cpu_time_of(started_by)
        return function / (own + function) if function > 0 else 0.0


_current: _Task | None = None

_worker: _task.Worker | None = None


def _this_worker() -> _task.Worker:
    global _worker
    if _worker is None:
        _worker = _task.Worker(fresh=False)
    return _worker


def _calls_of(job: Any) -> int:
    """How many calls the job's chunk has."""
    calls = getattr(job, "call_ids", None)
    return len(calls) if isinstance(calls, (list, tuple)) else 1


def _meters_calls() -> bool:
    """Whether calls are to be metered now, with the environment of the job in place."""
    if not enabled():
        return False
    if not hasattr(os, "fork"):
        # The function runs in a thread of the handler: its process is not its own.
        logger.debug("no fork on this system: calls are not metered")
        return False
    return True


def _open(job: Any) -> None:
    """A call begins, in H."""
    global _current
    if _current is not None and _current.window is not None:
        _current.window.restore()  # an interrupted call reports no end
    _current = None
    if _meters_calls():
        _current = _Task(job)
    else:
        _this_worker().pass_call()


def _begin(job: Any, status: Any) -> None:
    """Prepares one call in H; `status` is the object that will report it."""
    global _current
    if _current is None or _current.job is not job or _current.channel is not None:
        _open(job)  # its beginning was not reported
    task = _current
    if task is None:
        return
    if not isinstance(getattr(status, "status", None), dict):
        _current = None
        _warn_once("calls are not metered: unknown status object %s", type(status).__name__)
        return
    send = status.send_finish_event
    # Where no memory is to be had for it, the task's window speaks for its function.
    with Harmless("preparing to hear of a function"):
        task.channel = Channel()

    def send_finish_event(*args: Any, **kwargs: Any) -> Any:
        # Back to the class's method first, so that the status object and this
        # function do not keep each other, and the job's data, alive.
        status.__dict__.pop("send_finish_event", None)
        with Harmless("reporting the energy of a call"):
            _finish(task, status)
        return send(*args, **kwargs)

    status.send_finish_event = send_finish_event


def _finish(task: _Task, status: Any) -> None:
    """Adds the call's values to its status, in H, just before it is sent."""
    global _current
    if os.getpid() != task.pid:
        return
    _current = None
    if task.window is not None:
        task.window.restore()
    values = task.values()
    if _core.in_lambda():
        with Harmless("telling what Lambda bills"):
            values.update(importlib.import_module("lithowatt.aws._sandbox").call_values())
    _merge(status, values)


def _download(create_job: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Runs `create_job`, which downloads what a chunk's calls need, and meters that."""
    meter = None
    with Harmless("preparing to meter a download"):
        payload = args[0] if args else kwargs["payload"]
        if _meters_calls() and enabled(payload.get("extra_env") or {}):
            meter = new_engine(None)
            meter.start()
    job = create_job(*args, **kwargs)
    with Harmless("metering a download"):
        if meter is not None:
            meter.stop()
            _this_worker().begin_chunk(_calls_of(job), meter)
    return job


def _merge(status: Any, values: dict[str, Any]) -> None:
    """Adds values to the status; keys it has, and what a message can carry, come first."""
    upstream: dict[str, Any] = status.status
    ours = {key: value for key, value in values.items() if key not in upstream}
    limit = getattr(status, "MAX_MESSAGE_SIZE", None)
    if isinstance(limit, int):
        # Over the limit Lithops drops the call's log and its result from the
        # message: our values shall not be what pushes them out.
        room = limit - _json_size({**upstream, "type": "__end__"})
        if _json_size(ours) > room:
            ours = {key: value for key, value in ours.items() if value is not None}
        if _json_size(ours) > room:
            ours = {key: ours[key] for key in _HEADLINE if key in ours}
        if _json_size(ours) > room:
            logger.debug("no room for the energy of a call in its status message")
            return
    upstream.update(ours)


def _json_size(values: dict[str, Any]) -> int:
    return len(json.dumps(values).encode())


# --- J: the function's process -----------------------------------------------


class _JobWindow(FunctionWindow):
    """Meters the function of a Lithops job.

    Set up in H, so that J inherits it ready; all but `restore` happens in J.
    """

    def __init__(self, job: Any, sink: Sink) -> None:
        super().__init__(sink)
        self._job = job
        self._stats: Any = None
        self._frames |= {_load_function.__code__, _JobWindow.load.__code__}
        self._pickled: bytes = job.func
        if not isinstance(self._pickled, bytes):
            raise TypeError(f"the job's function is {type(self._pickled).__name__}, not bytes")
        if STAGE_MARK.encode() in self._pickled:
            # A stage of FlexExecutor: what meters its phases is loaded here, once
            # for all calls of a worker, and not within the function's time.
            importlib.import_module("lithowatt.flexecutor._worker")

    def replace_function(self, runner: Any) -> None:
        """Has the runner load the function with the meter round it, and see to its stats."""
        self.watch_stats(runner.stats)
        self._job.func = _METERED

    def watch_stats(self, stats: Any) -> None:
        """Has the values committed when the runner writes its first line after the function."""
        write = stats.write

        def write_stat(*args: Any, **kwargs: Any) -> Any:
            # Upstream's first line after the function, with its time already
            # taken: early enough to survive a crash while the result is
            # pickled or uploaded.
            try:
                self.commit()
            except BaseException as error:
                failed("recording the energy of a function", error)
            if sys.exc_info()[2] is not None:
                with Harmless("tidying a traceback"):
                    self.forget_own_frames()
            if self.committed:
                stats.__dict__.pop("write", None)  # the other lines go straight to Lithops
            return write(*args, **kwargs)

        stats.write = write_stat
        self._stats = stats

    def restore(self) -> None:
        """Gives the runner back what was replaced; a job may have more calls to come."""
        if self._stats is not None:
            self._stats.__dict__.pop("write", None)
        self._job.func = self._pickled

    def load(self) -> Any:
        """The job's function, metered; in J, where Lithops loads it."""
        function = pickle.loads(self._pickled)  # noqa: S301 (what Lithops would have loaded)
        return self.metered(function)


def current_window() -> _JobWindow | None:
    """The window of the function that this process runs, None where there is none."""
    window = None if _current is None else _current.window
    return window if window is not None and window.running() else None


class _MeteredFunction:
    """Pickles to a few bytes that load to the job's function, metered."""

    def __reduce__(self) -> tuple[Callable[[], Any], tuple[()]]:
        return (_load_function, ())


def _load_function() -> Any:
    """What the replaced bytes call when Lithops loads them."""
    task = _current
    if task is None or task.window is None:
        raise RuntimeError("a metered function can be loaded only in its own worker")
    return task.window.load()


#: The same for every call.
_METERED = pickle.dumps(_MeteredFunction())


# --- the two wraps -----------------------------------------------------------


def layout_fault(handler: ModuleType) -> str | None:
    """Why this handler cannot be wrapped, None where it can."""
    if not callable(getattr(handler, "create_call_status", None)):
        return "it has no create_call_status"
    if not callable(getattr(handler, "run_task", None)):
        return "it has no run_task"
    runner = getattr(handler, "JobRunner", None)
    if not inspect.isclass(runner) or not callable(getattr(runner, "run", None)):
        return "it has no JobRunner with a run method"
    return None


def own_meter(handler: ModuleType) -> str | None:
    """What shows that a handler meters by itself, `None` where nothing does: a name of the module,
    or an `EnergyManager` that `run_task` imports where it needs it."""
    for name in SOURCE_PATCH_MARKS:
        if hasattr(handler, name):
            return name
    manager = SOURCE_PATCH_MARKS[-1]
    if any(
        isinstance(value, type) and value.__name__ == manager for value in vars(handler).values()
    ):
        return manager
    code = getattr(getattr(handler, "run_task", None), "__code__", None)
    return manager if manager in getattr(code, "co_names", ()) else None


def patch(handler: ModuleType, fresh: bool = False) -> bool:
    """Wraps a loaded `lithops.worker.handler`, once; False where it is left alone.

    Args:
        handler: The module.
        fresh: This process was started to run calls, so that all its CPU time so
            far is the start-up of a worker.
    """
    if hasattr(handler, _WRAPPED):
        return True
    mark = own_meter(handler)
    if mark is not None:
        logger.debug("%s meters by itself (%s): left alone", handler.__name__, mark)
        return False
    fault = layout_fault(handler)
    if fault is not None:
        _warn_once("%s is left alone, calls are not metered: %s", handler.__name__, fault)
        return False

    namespace: Any = handler
    create = namespace.create_call_status
    run = namespace.run_task
    # Not part of the layout that must be there: without it a download is not metered.
    create_job = getattr(namespace, "create_job", None)
    runner = namespace.JobRunner
    init = runner.__init__

    @functools.wraps(create)
    def create_call_status(*args: Any, **kwargs: Any) -> Any:
        status = create(*args, **kwargs)
        with Harmless("preparing to meter a call"):
            _begin(args[0] if args else kwargs["job"], status)
        return status

    @functools.wraps(run)
    def run_task(*args: Any, **kwargs: Any) -> Any:
        with Harmless("preparing to meter a call"):
            _open(args[0] if args else kwargs["task"])
        return run(*args, **kwargs)

    @functools.wraps(init)
    def prepare(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        with Harmless("preparing to meter a function"):
            prepare_function(self)

    namespace.create_call_status = create_call_status
    namespace.run_task = run_task
    if callable(create_job):
        namespace.create_job = functools.wraps(create_job)(
            lambda *args, **kwargs: _download(create_job, args, kwargs)
        )
    runner.__init__ = prepare
    setattr(namespace, _WRAPPED, (create, run, create_job, runner, init))
    with Harmless("warming up"):
        warm_up(fresh)
    if _core.in_lambda():
        with Harmless("noting the start of a Lambda sandbox"):
            importlib.import_module("lithowatt.aws._sandbox").loaded(handler)
    return True


def warm_up(fresh: bool) -> None:
    """Has a worker's first call find the meter ready, and notes what the start took."""
    global _worker
    # The first start on an idle machine takes the kernel some 13 ms (it
    # patches itself to count), and the first reading looks the processor
    # up (1 ms): while the worker starts, not in a call.
    with Harmless("rehearsing a call"):
        rehearse()
    _worker = _task.Worker(fresh)


def prepare_function(runner: Any) -> None:
    """Has the runner of the current call meter its function, in H."""
    task = _current
    if (
        task is not None
        and task.channel is not None
        and task.pid == os.getpid()
        and task.job is getattr(runner, "job", None)
    ):
        window = _JobWindow(runner.job, task.channel)
        window.replace_function(runner)
        task.window = window


def prepare_patched(job: Any) -> None:
    """Readies the window of a patched handler's function, in H, just before the fork."""
    task = _current
    if task is not None and task.channel is not None and task.job is job:
        task.window = _JobWindow(job, task.channel)


def patch_imported(handler: ModuleType) -> None:
    """`patch` of a handler that the hook saw imported: in a process that was started for calls."""
    patch(handler, fresh=True)


def patched_function(runner: Any, function: Any) -> Any:
    """The function of a patched runner, metered if its call is; in J."""
    task = _current
    if task is None or task.window is None or task.job is not getattr(runner, "job", None):
        return function
    task.window.watch_stats(runner.stats)
    return task.window.metered(function)


def unpatch(handler: ModuleType) -> None:
    """Puts back what `patch` replaced."""
    originals = handler.__dict__.pop(_WRAPPED, None)
    if originals is not None:
        namespace: Any = handler
        create, run, create_job, runner, init = originals
        namespace.create_call_status, namespace.run_task = create, run
        if callable(create_job):
            namespace.create_job = create_job
        runner.__init__ = init
        sandbox = sys.modules.get("lithowatt.aws._sandbox")
        if sandbox is not None:
            sandbox.unloaded(handler)


_warned: set[str] = set()


def _warn_once(text: str, *args: object) -> None:
    message = text % args
    if message not in _warned:
        _warned.add(message)
        logger.warning("%s", message)
