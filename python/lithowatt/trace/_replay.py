"""A meter that reads a recording in the place of this machine."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from lithowatt import _core
from lithowatt.errors import ConflictingOptionsError
from lithowatt.trace._file import Trace

if TYPE_CHECKING:
    import os

_OF_THIS_MACHINE = {"pid": None, "cgroup": None, "root": None, "scope": "process", "children": True}


def replayed(
    options: dict[str, Any],
    replay: str | os.PathLike[str] | Trace | None,
    window: tuple[float, float] | None,
    idle_watts: float | None,
) -> tuple[_core.Meter, dict[str, Any]]:
    """The engine of a meter that reads ``replay``, and what of its options it keeps.

    Raises:
        ConflictingOptionsError: Options of this machine with a recording, or those of a recording
            without one.
        ValueError: A window or idle power that cannot be.
        UnreadableFileError: There is no such file, or it may not be read.
        MalformedValueError: It is no trace.
    """
    if replay is None:
        given = "window" if window is not None else "idle_watts"
        raise ConflictingOptionsError(f"{given} cannot be given without replay")
    foreign = [name for name, usual in _OF_THIS_MACHINE.items() if options[name] != usual]
    if foreign:
        raise ConflictingOptionsError(
            f"replay and {foreign[0]} cannot be combined: a recording has its own machine"
        )
    trace = replay if isinstance(replay, Trace) else Trace.read(replay)
    if window is not None:
        window = _window(window)
    if idle_watts is not None and not (math.isfinite(idle_watts) and idle_watts >= 0):
        raise ValueError(f"idle_watts must be a number of watts, 0 or more, not {idle_watts!r}")
    core = _core.Meter(
        **{**options, "interval": None},
        replay=_core.Replay(trace._core, idle_watts=idle_watts, window=window),
    )
    return core, {"replay": trace, "window": window, "idle_watts": idle_watts}


def _window(given: Any) -> tuple[float, float]:
    try:
        start, end = map(float, given)
    except (TypeError, ValueError):
        start = end = math.nan
    if not 0 <= start < end < math.inf:
        raise ValueError(
            f"window must be two numbers of seconds, the first of them 0 or more and below the "
            f"second, not {given!r:.80}"
        )
    return start, end
