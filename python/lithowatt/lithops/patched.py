"""What a Lithops patched by `lithops_patch` calls: the same metering, without the hook.

The patched `worker/handler.py` imports this module and calls `begin` before it
starts the function's process and `end` when that process is gone; the patched
`worker/jobrunner.py` calls `metered` in that process. Nothing here raises, and
each does nothing where metering is switched off. The wheel's hook sees the
patch and leaves the handler alone, so that nothing is metered twice.

The task's window (`worker_task_energy_*`) begins with the function's process: the
download before it is in no value. The start of the worker is as with the hook.
"""

from __future__ import annotations

from typing import Any

from lithowatt._support.harmless import Harmless
from lithowatt._support.switches import enabled
from lithowatt.lithops import _worker

__all__ = ["begin", "end", "metered"]

with Harmless("warming up"):
    if enabled():
        _worker.warm_up(fresh=True)


def begin(task: Any, call_status: Any) -> None:
    """A task's function is about to be started, in the handler's process.

    Args:
        task: Lithops' task.
        call_status: What reports its end, with the values of both windows.

    Example:
        >>> from types import SimpleNamespace
        >>> begin(SimpleNamespace(func=b""), object())  # an unknown status is left alone
    """
    with Harmless("preparing to meter a call"):
        _worker._begin(task, call_status)
        _worker.prepare_patched(task)


def end(task: Any, call_status: Any) -> None:
    """The task's function has ended, or its time is over.

    Example:
        >>> end(None, None)  # no call has begun
    """
    with Harmless("reading the energy of a call"):
        current = _worker._current
        if current is not None and current.job is task:
            current.values()


def metered(runner: Any, function: Any) -> Any:
    """The function with the meter round it; as it is where there is nothing to meter.

    Args:
        runner: Lithops' `JobRunner`, in the function's process.
        function: What it is about to call.

    Example:
        >>> metered(None, len) is len
        True
    """
    with Harmless("preparing to meter a function"):
        return _worker.patched_function(runner, function)
    return function
