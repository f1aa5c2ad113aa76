"""``@measure``: functions, methods, coroutines and generators, each call metered by itself."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, overload

from lithowatt.errors import LithowattError, ProcessNotFoundError, UnreadableFileError
from lithowatt.meter._meter import EnergyMeter, is_mistake, settled
from lithowatt.meter._wrap import decorate

_F = TypeVar("_F", bound=Callable[..., Any])


@overload
def measure(function: _F, /) -> _F: ...


@overload
def measure(
    function: None = None,
    /,
    *,
    on_result: Callable[[EnergyMeter], object] | None = None,
    **options: Any,
) -> Callable[[_F], _F]: ...


def measure(
    function: Any = None,
    /,
    *,
    on_result: Callable[[EnergyMeter], object] | None = None,
    **options: Any,
) -> Any:
    """Meters every call of a function.

    A coroutine, an async generator or a generator is metered while *it* runs: the time it waits,
    and what others do meanwhile, is not its own.

    What is decorated stays what it is: a coroutine function one, a generator function one, a
    ``staticmethod``, a ``property`` or a partial one of these; other callables keep their
    attributes, such as ``cache_clear`` of ``functools.lru_cache``. It always runs, too: where it
    cannot be metered any more, as when the ``pid`` or the ``cgroup`` is gone, the reading is empty
    and says why.

    Args:
        function: What to decorate, when used without arguments.
        on_result: Called with the meter after each call, whether it returned or raised. What it
            raises itself is logged and dropped: it must not change the call's result.
        **options: As for :class:`~lithowatt.EnergyMeter`; ``label`` is the function's qualified
            name by default.

    The meter of the last call is the attribute ``meter`` of the decorated function. It is pickled
    with a function that is pickled by value: not running, with what it measured.

    Raises:
        TypeError: For a class, whose instances would be no instances of it any more, and for
            something that cannot be called.

    Example:
        >>> @measure
        ... def work(n):
        ...     return sum(range(n))
        >>> work(1000)
        499500
        >>> work.meter.duration > 0
        True
    """
    if function is None:
        return functools.partial(measure, on_result=on_result, **options)
    try:
        EnergyMeter(**options)
    except LithowattError as error:
        # Faults of the options are raised here, not in the first call far away; faults
        # of the environment are in the readings, for the function is to run all the same.
        missing = isinstance(error, (ProcessNotFoundError, UnreadableFileError))
        if missing or is_mistake(error, options):
            raise
    return decorate(EnergyMeter, function, on_result, settled(options))
