"""A stage call, metered in the worker that runs it.

FlexExecutor's function for a stage downloads its inputs, runs the user's
function and uploads the outputs, through `download_files` and `upload_files`
of its context: their beginnings and ends are the phases read, compute and
write.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from lithowatt._core import Meter
from lithowatt._support.harmless import Harmless

# At import: an import within the call would be part of what is metered.
from lithowatt._support.switches import enabled
from lithowatt.meter._engine import new_engine, stats_of
from lithowatt.profiles._values import RIDING, energy_values, set_values


def run_stage(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, ...] | Any:
    """Calls `function`, metered; what it returns and raises is its own.

    If it returns `(result, times)`, as FlexExecutor's do, `times` gets the
    energy of the call as attributes.
    """
    session: _Session | None = None
    with Harmless("preparing to meter a stage", foreign=True):
        if enabled():
            session = _Session(args, kwargs)
    if session is None:
        return function(*args, **kwargs)
    try:
        result = function(*args, **kwargs)
    except BaseException:
        session.close()
        raise
    with Harmless("reading the energy of a stage", foreign=True):
        session.finish(result)
    return result


class _Session:
    """One stage call."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # Where the Lithops hook meters this very call, its meter gets the phases.
        hook = sys.modules.get("lithowatt.lithops._worker")
        self._window: Any = None if hook is None else hook.current_window()
        self._meter: Any = _warm() if self._window is None else self._window.engine
        self._phase: str | None = None
        self._context = next(
            (
                value
                for value in (*args, *kwargs.values())
                if callable(getattr(value, "download_files", None))
                and callable(getattr(value, "upload_files", None))
            ),
            None,
        )
        if self._window is None:
            self._meter.start()
        if self._context is None:
            # Not FlexExecutor's own: all of it is compute.
            self.enter("compute")
            return
        for name, before, after in (
            ("download_files", "read", "compute"),
            ("upload_files", "write", None),
        ):
            marked = _Marked(self, self._context, name, before, after)
            setattr(self._context, name, marked)

    def enter(self, phase: str | None) -> None:
        """Ends the phase that is on, and begins another unless it is None."""
        with Harmless("marking a phase"):
            if self._phase is not None:
                self._meter.leave_phase(self._phase)
            self._phase = phase
            if phase is not None:
                self._meter.enter_phase(phase)

    def finish(self, result: Any) -> None:
        """Leaves the energy on the times that the call returned."""
        self.close()
        times = result[1] if isinstance(result, tuple) and len(result) == 2 else None
        if not (hasattr(times, "compute") and hasattr(times, "read")):
            return
        if self._window is None:
            _leave(times, stats_of(self._meter))
        else:
            # The call is not over; its final values are known before its
            # result is sent, and cost the call nothing then.
            self._window.on_commit(lambda stats: _leave(times, stats))

    def close(self) -> None:
        """Ends the last phase, and the meter if it is our own."""
        with Harmless("closing the meter of a stage"):
            self.enter(None)
            if self._window is None:
                self._meter.stop()
        self._unmark()

    def _unmark(self) -> None:
        with Harmless("giving a stage's context its methods back"):
            if self._context is not None:
                for name in ("download_files", "upload_files"):
                    self._context.__dict__.pop(name, None)


class _Marked:
    """A method of the context that marks where phases begin and end."""

    def __init__(
        self, session: _Session, context: Any, name: str, before: str, after: str | None
    ) -> None:
        self._session = session
        self._context = context
        self._name = name
        self._phases = before, after
        self._method = getattr(context, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        before, after = self._phases
        self._session.enter(before)
        try:
            return self._method(*args, **kwargs)
        finally:
            self._session.enter(after)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, str]]:
        # A context that the user's function sends to another process arrives
        # as FlexExecutor made it.
        return getattr, (self._context, self._name)


def _leave(times: Any, stats: dict[str, Any]) -> None:
    """Puts a call's energy on its times, for the client to find."""
    values = energy_values(stats)
    set_values(times, values)
    # Once more, as FlexExecutor may overwrite the fields that it knows.
    setattr(times, RIDING, values)


def _warm() -> Meter:
    """A meter whose first start, which opens everything, is over."""
    meter = new_engine()
    meter.start()
    meter.enter_phase("warm")
    meter.leave_phase("warm")
    meter.stop()
    return meter
