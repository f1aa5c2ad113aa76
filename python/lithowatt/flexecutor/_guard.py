"""What a worker measured is not overwritten with readings of the whole machine.

FlexExecutor's energy fork fills its FunctionTimes from Lithops' stats, after it has them from the
worker: in the stats `rapl_*` and `perf_*` are the machine's, the same in every call that ran
then, and its `TDP` is CPU seconds.
"""

from __future__ import annotations

import copyreg
import functools
import sys
from collections.abc import Callable
from typing import Any

from lithowatt._support.harmless import Harmless
from lithowatt.profiles._columns import COLUMN_NAMES
from lithowatt.profiles._values import DESCRIPTIONS, RIDING, TASK_TIMES, set_values

#: How the module that fills FunctionTimes is called, with or without its package.
_FILLER = "workflow.stagefuture"

#: Attribute of the classes made here.
_GUARD = "_lithowatt_guard"


class GuardedResults:
    """A `get_result` of Lithops whose FunctionTimes keep what their worker measured."""

    def __init__(self, original: Callable[..., Any]) -> None:
        self._original = original

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        results = self._original(*args, **kwargs)
        with Harmless("guarding the energy of a stage's calls"):
            for result in results if isinstance(results, list) else [results]:
                if isinstance(result, tuple) and len(result) == 2:
                    _guard(result[1])
        return results

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, str]]:
        # A copy of the futures, here or elsewhere, is as Lithops made it.
        return getattr, (self._original.__self__, self._original.__name__)  # type: ignore[attr-defined]


def guard_results(futures: Any) -> None:
    """Has the futures of a map call give FunctionTimes that keep what their worker measured."""
    original = getattr(futures, "get_result", None)
    if callable(original) and not isinstance(original, GuardedResults):
        futures.get_result = GuardedResults(original)


def _guard(times: Any) -> None:
    if not (hasattr(times, "compute") and hasattr(times, "read")):
        return
    kind: Any = type(times)
    if RIDING not in times.__dict__:
        # Its worker had no lithowatt.
        set_values(times, {name: getattr(times, name, None) for name in COLUMN_NAMES})
    elif not getattr(kind, _GUARD, False):
        times.__class__ = _guarded(kind)


@functools.cache
def _guarded(kind: Any) -> type:
    """A FunctionTimes like `kind` that FlexExecutor's own filling does not change."""

    def __setattr__(self: Any, name: str, value: Any) -> None:
        if name not in TASK_TIMES and _measured(self, name):
            writer = str(sys._getframe(1).f_globals.get("__name__"))
            if writer.endswith(_FILLER):
                return
        object.__setattr__(self, name, value)

    def __reduce_ex__(self: Any, protocol: Any) -> Any:
        # A copy, here or elsewhere, is FlexExecutor's own.
        return copyreg.__newobj__, (kind,), dict(self.__dict__)  # type: ignore[attr-defined]

    body = {
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__setattr__": __setattr__,
        "__reduce_ex__": __reduce_ex__,
        # So that it equals another with the same values, and that isinstance holds.
        "__class__": property(lambda self: kind, lambda self, other: None),
        _GUARD: True,
    }
    return type(kind.__name__, (kind,), body)


def _measured(times: Any, name: str) -> bool:
    values = times.__dict__.get(RIDING) or {}
    # What the processor is called the client may know better.
    return name in values and (values[name] is not None or name not in DESCRIPTIONS)
