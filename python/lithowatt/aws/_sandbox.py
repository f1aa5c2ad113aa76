"""What only a Lambda sandbox knows of a Lithops call: its start-up, and what is billed.

Loaded by a worker on Lambda alone, recognised by the environment: no address is
asked, no file is written. What starting up used in J is in `worker_task_energy_startup`.
"""

from __future__ import annotations

import functools
import math
import os
import time
from pathlib import Path

from lithowatt.stats import PREFIX as FUNCTION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

PREFIX = FUNCTION + "aws_"

#: Place of the process' start in /proc/self/stat, counted from the end of its
#: name: field 22, proc_pid_stat(5).
_STARTTIME = 19

_ORIGINAL = "__lithowatt_function_handler__"


class _Sandbox:
    """One sandbox from its start on; a forked worker goes on with its own copy."""

    def __init__(self) -> None:
        #: Seconds from the start of the process until Lithops was loaded: 0.0 once a
        #: call has reported, `None` where nobody knows.
        self.init: float | None = None
        #: When the time that no call has reported began, `time.monotonic()`.
        self.since: float | None = None
        #: How many processes run this invocation's calls side by side.
        self.processes = 1


_sandbox = _Sandbox()


def loaded(handler: ModuleType) -> None:
    """Notes how long starting up took, and has the start of each invocation noted."""
    # A snapshot's start-up was another sandbox's, and long ago.
    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") != "snap-start":
        _sandbox.init = _process_age()
    namespace: Any = handler
    function_handler = namespace.function_handler

    @functools.wraps(function_handler)
    def invoked(payload: Any, *args: Any, **kwargs: Any) -> Any:
        _sandbox.since = time.monotonic()
        _sandbox.processes = _processes(payload)
        return function_handler(payload, *args, **kwargs)

    namespace.function_handler = invoked
    setattr(namespace, _ORIGINAL, function_handler)


def unloaded(handler: ModuleType) -> None:
    """Gives the handler back what `loaded` replaced."""
    original = handler.__dict__.pop(_ORIGINAL, None)
    if original is not None:
        namespace: Any = handler
        namespace.function_handler = original


def call_values() -> dict[str, Any]:
    """Stats that a call has on Lambda besides the meter's; asked once, at the call's end.

    `aws_billed_ms`: ms of the invocation that are this call's, from the start of the
    invocation or the end of the call before it until now, rounded up; of calls that run side by
    side, a part each. What Lithops does once the call has reported is not in it.
    `aws_region`: where, for the price.
    `aws_init_ms`: ms from the start of the process until Lithops was loaded, in the
    first call of a sandbox; 0 in those after; `None` in one made of a snapshot.
    """
    now = time.monotonic()
    values: dict[str, Any] = {
        PREFIX + "region": os.environ.get("AWS_REGION"),
        PREFIX + "billed_ms": None,
        PREFIX + "init_ms": None if _sandbox.init is None else math.ceil(_sandbox.init * 1000),
    }
    if _sandbox.init is not None:
        _sandbox.init = 0.0
    if _sandbox.since is not None:
        seconds = (now - _sandbox.since) / _sandbox.processes
        values[PREFIX + "billed_ms"] = math.ceil(seconds * 1000)
        _sandbox.since = now
    return values


def _processes(payload: Any) -> int:
    """How many processes Lithops runs the calls of an invocation in."""
    try:
        return max(1, min(int(payload["worker_processes"]), len(payload["call_ids"])))
    except (KeyError, TypeError, ValueError):
        return 1


def _process_age() -> float:
    """Seconds since this process started, to a clock tick (10 ms)."""
    fields = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace")
    started = int(fields.rpartition(")")[2].split()[_STARTTIME]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started
