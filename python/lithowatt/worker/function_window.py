"""The window of one function in the process that runs it, for any framework's worker.

The window is made in the worker's process, so that the process it forks for the function has it
ready. There it puts a meter round the function, and nothing else; the values go into a sink, which
as a rule is a channel that both have. Nothing here may break, delay or change a call.

Each object that a fresh fork touches costs it a copy of a page, so what can be made before the fork
is, and what has to be done after it is done by the engine where it can be.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import sys
import warnings
from collections.abc import Callable
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any, Protocol

from lithowatt._core import Channel, Meter, process_cpu_seconds
from lithowatt._support.harmless import Harmless
from lithowatt._support.switches import stats_form
from lithowatt.meter._engine import new_engine, stats_json_of, written


def warm(engine: Meter) -> Meter:
    """Has a meter open what it reads, so that its next start is quick."""
    engine.start()
    engine.stop()
    return engine


def rehearse() -> None:
    """Does once in the worker what each call's process will do: its first start is quick, and what
    Python and the core keep of it for the next time is there before the fork."""
    channel = Channel()
    # Without a thread: the process is about to fork.
    window = FunctionWindow(channel, interval=None)
    window.wrap(lambda: None)()
    window.engine.leave(channel)


def children_cpu_time() -> float:
    """CPU seconds of the children this process has waited for."""
    times = os.times()
    return times.children_user + times.children_system


def cpu_time_of(pid: int) -> float:
    """CPU seconds of a process that nobody has waited for yet, 0.0 once somebody has."""
    return process_cpu_seconds(pid) or 0.0


class Sink(Protocol):
    """Takes a call's values from its process: a :class:`Channel`, or what keeps the text."""

    def write(self, payload: bytes) -> bool:
        """Takes the call's window, or its values as JSON text.

        False where there is no room, and nothing is kept then.
        """


class FunctionWindow:
    """Meters a user's function, from its first instruction to its last."""

    def __init__(self, sink: Sink, interval: float | str | None = "auto") -> None:
        self._sink = sink
        self.engine = new_engine(interval)
        #: The stats as JSON text, as the environment wants them.
        self._json: Callable[[], bytes] = functools.partial(
            self.engine.raw_stats_json, *written(stats_form())
        )
        # What the window comes to is made into numbers in this process, which has done it before.
        self.engine.expect()
        #: Shows the call on the agent's page, where that is asked for.
        self._hand_in: Callable[[str, dict[str, Any]], object] | None = None
        if os.environ.get("LITHOWATT_CALLS"):
            calls = importlib.import_module("lithowatt._support.calls")
            self._hand_in = None if calls.calls_path() is None else calls.hand_in
        self._callbacks: list[Callable[[dict[str, Any]], object]] = []
        self._pid = 0
        #: Whether the function's values are left, or nobody can leave them any more.
        self.committed = False
        self._channel = sink if isinstance(sink, Channel) else None
        self._wrapper = _wrapper(self.engine, self._channel)
        self._cell = _cell_of(self._wrapper, "function")
        #: Code whose frames users shall not see in a traceback.
        self._frames: set[CodeType] = {self._wrapper.__code__}

    def metered(self, function: Any) -> Any:
        """The function with the meter round it, or as it is where that fails; in J."""
        if sys.version_info >= (3, 12):
            with Harmless("silencing a warning about our own thread"):
                _expect_sampler_thread()
        try:
            self._pid = os.getpid()
            function = self.wrap(function)
        except BaseException as error:
            failed("preparing to meter a function", error, foreign=True)
        return function

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function with the meter round it, looking the same to `inspect`."""
        metered, kind = self._wrapper, type(function)
        plain = kind is FunctionType
        if not plain:
            # What a callable object says of itself may be anything, and it is metered all the same.
            metered.__name__ = kind.__name__
        # What a first start in a process costs comes before the function's time, upstream's and
        # ours.
        self.engine.prepare_for(function, metered, self._cell, functools.WRAPPER_ASSIGNMENTS)
        if not plain and kind is not MethodType:
            # Upstream logs a callable object by the name of its class.
            metered.__name__ = kind.__name__
        return metered

    def running(self) -> bool:
        """Whether the function runs, and in this process."""
        return self.engine.running and os.getpid() == self._pid

    def on_commit(self, callback: Callable[[dict[str, Any]], object]) -> None:
        """Has `callback` called with the call's stats, when the function has ended.

        That is before Lithops takes the result to pieces, so a callback may still
        put something into it.
        """
        self._callbacks.append(callback)

    def commit(self) -> None:
        """Leaves the window to H, once, when the function has ended."""
        if self.committed or not self.engine.finished:
            return
        self.committed = True
        # What the window came to is found out here: the function's time is over.
        wanted_here = bool(self._callbacks) or self._hand_in is not None
        if wanted_here or self._channel is None:
            self.engine.stop()
        elif self.engine.leave(self._channel):
            return
        # As text: a dict of a hundred values costs a fresh fork half a millisecond more.
        values = self._json()
        if not self._sink.write(values):
            self._sink.write(stats_json_of(self.engine, compact=True))
        if not wanted_here:
            return
        stats = json.loads(values)
        if self._hand_in is not None:
            self._hand_in(self._wrapper.__name__, stats)
        for callback in self._callbacks:
            with Harmless("handing a call's energy over", foreign=True):
                callback(stats)

    def values(self, payload: bytes) -> dict[str, Any] | None:
        """The stats of what `commit` left, in H; None where it is damaged.

        Args:
            payload: A window that was handed over, or stats as JSON text.
        """
        if not payload.startswith(b"{"):
            if not self.engine.receive(payload):
                return None
            payload = self._json()
        try:
            values = json.loads(payload)
        except ValueError:
            return None
        return values if isinstance(values, dict) else None

    def forget_own_frames(self) -> None:
        """Takes our frames out of the traceback being handled, if any: users see only theirs."""
        # Not from the exception: it is the user's, and may do anything when it is asked.
        trace = sys.exc_info()[2]
        while trace is not None:
            following = trace.tb_next
            while following is not None and following.tb_frame.f_code in self._frames:
                following = following.tb_next
            if following is not trace.tb_next:
                trace.tb_next = following
            trace = following


def _wrapper(engine: Meter, channel: Channel | None) -> FunctionType:
    """A function that has the engine meter the one that its cell ``function`` will hold."""
    function: Callable[..., Any] | None = None

    def metered(*args: Any, **kwargs: Any) -> Any:
        try:
            engine.begin(channel)
        except BaseException as error:
            failed("starting the meter of a function", error)
        try:
            return function(*args, **kwargs)  # type: ignore[misc]
        finally:
            try:
                engine.finish()
            except BaseException as error:
                failed("stopping the meter of a function", error)

    return metered  # type: ignore[return-value]


def _cell_of(function: FunctionType, name: str) -> CellType:
    """The cell of a function's closure for a variable."""
    return (function.__closure__ or ())[function.__code__.co_freevars.index(name)]


def failed(doing: str, error: BaseException, *, foreign: bool = False) -> None:
    """As the end of a `Harmless` block, which costs something where nothing fails."""
    if not Harmless(doing, foreign=foreign).__exit__(type(error), error, error.__traceback__):
        raise error


#: What CPython 3.12 and later say to a process that forks while it has threads.
_FORK_WARNING = r"This process \(pid=\d+\) is multi-threaded, use of fork"


def _expect_sampler_thread() -> None:
    """Keeps a function that forks from being warned of the meter's thread, in J.

    The sampler does not run in a forked child and holds nothing that one needs,
    so in a process whose only other thread it is the warning is no news; where
    there are more threads it is, and stays.
    """
    # The directory has a link for each thread, and two of its own.
    if sys.version_info >= (3, 12) and os.stat("/proc/self/task").st_nlink == 3:  # noqa: PTH116
        warnings.filterwarnings("ignore", message=_FORK_WARNING, category=DeprecationWarning)
