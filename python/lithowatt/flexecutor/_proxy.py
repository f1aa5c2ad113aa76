"""Metering in the worker, without a patch: a proxy round the FunctionExecutor.

FlexExecutor uses its executor for `map` and `wait` only. The proxy gives `map`
a function that meters itself, and keeps what failed calls used.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from lithowatt._support.harmless import Harmless
from lithowatt.flexecutor._guard import guard_results

#: On functions that are metered already. The Lithops hook looks for the name.
MARK = "__lithowatt_stage__"


def metered_stage(function: Callable[..., Any]) -> Callable[..., Any]:
    """A stage's function that meters itself in the worker.

    Args:
        function: Takes a context with `download_files()` and `upload_files()`,
            and returns `(result, times)`, as FlexExecutor's wrapped functions
            do. `times` gets the call's energy as attributes, in J.

    The function that comes back can be sent to a worker that has no lithowatt:
    there it does what `function` does, and nothing else.

    Example:
        >>> from lithowatt.flexecutor import FunctionTimes
        >>> def stage(ctx):
        ...     return "result", FunctionTimes(read=0.0, compute=0.1, write=0.0)
        >>> result, times = metered_stage(stage)(None)
        >>> result, times.energy_quality is not None
        ('result', True)
    """
    if getattr(function, MARK, False):
        return function

    @functools.wraps(function)
    def metered(*args: Any, **kwargs: Any) -> Any:
        # This function travels by value, so it may name nothing of lithowatt,
        # nor import it in a way that has Lithops pack the module.
        try:
            worker = __import__("importlib").import_module("lithowatt.flexecutor._worker")
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:
            return function(*args, **kwargs)
        return worker.run_stage(function, args, kwargs)

    setattr(metered, MARK, True)
    return metered


class Failure:
    """What is known of a map call that failed.

    Attributes:
        error: What `wait` raised.
    """

    __slots__ = ("_futures", "_storage", "error")

    def __init__(self, error: BaseException, futures: list[Any], storage: Any = None) -> None:
        self.error = error
        self._futures = futures
        self._storage = storage

    @property
    def calls(self) -> list[Any]:
        """The stats of each call, as far as they are known by now.

        Lithops raises at the first call that failed and asks for no status after it, so the
        others are asked for theirs, once.
        """
        return [self._stats(future) for future in self._futures]

    def _stats(self, future: Any) -> Any:
        stats = getattr(future, "stats", None)
        ended = any(getattr(future, name, False) for name in ("error", "success", "done"))
        ask = getattr(future, "status", None)
        if not ended and callable(ask):
            with Harmless("asking for the status of a call"):
                status = ask(throw_except=False, internal_storage=self._storage, check_only=True)
                if isinstance(status, dict):
                    return status
        return stats


class MeteredExecutor:
    """Stands for a Lithops FunctionExecutor; see `meter`.

    Everything but `map` and `wait` is the executor's own.
    """

    _OWN = frozenset({"_lithowatt_inner", "_lithowatt_failed"})

    def __init__(self, inner: Any, failed: Callable[[Failure], None] | None = None) -> None:
        object.__setattr__(self, "_lithowatt_inner", inner)
        object.__setattr__(self, "_lithowatt_failed", failed)

    def map(self, map_function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As Lithops' `map`; the calls carry their energy."""
        with Harmless("metering a stage"):
            map_function = metered_stage(map_function)
        return self._lithowatt_inner.map(map_function, *args, **kwargs)

    def wait(self, fs: Any = None, *args: Any, **kwargs: Any) -> Any:
        """As Lithops' `wait`; what the calls of a failed stage used is kept."""
        with Harmless("guarding the energy of a stage's calls"):
            guard_results(fs)
        try:
            return self._lithowatt_inner.wait(fs, *args, **kwargs)
        except (Exception, SystemExit) as error:  # Lithops raises what a call raised
            with Harmless("keeping the energy of failed calls"):
                self._keep(fs, error)
            raise

    def _keep(self, fs: Any, error: BaseException) -> None:
        if self._lithowatt_failed is None:
            return
        futures = fs if isinstance(fs, (list, tuple)) else [fs]
        storage = getattr(self._lithowatt_inner, "internal_storage", None)
        there = [future for future in futures if future is not None]
        self._lithowatt_failed(Failure(error, there, storage))

    def __getattr__(self, name: str) -> Any:
        if name in self._OWN:  # a copy that is not made yet
            raise AttributeError(name)
        return getattr(self._lithowatt_inner, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._lithowatt_inner, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._lithowatt_inner, name)

    def __enter__(self) -> MeteredExecutor:
        self._lithowatt_inner.__enter__()
        return self

    def __exit__(self, *error: Any) -> Any:
        return self._lithowatt_inner.__exit__(*error)

    def __repr__(self) -> str:
        return f"<metered {self._lithowatt_inner!r}>"

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        # So that isinstance(proxy, FunctionExecutor) holds where it did.
        inner: type = self._lithowatt_inner.__class__
        return inner


def meter(executor: Any, failed: Callable[[Failure], None] | None = None) -> Any:
    """A Lithops FunctionExecutor whose `map` calls carry their energy.

    Pass it to an unmodified `DAGExecutor`; nothing is patched. The FunctionTimes
    of each call then have the attributes of `PROFILE_COLUMNS`; profile files
    get them with `install` or `EnergyDAGExecutor` only.

    Args:
        executor: A FunctionExecutor. None, and one that is metered already,
            come back as they are.
        failed: Called with a `Failure` when `wait` raises.

    Example:
        >>> from lithowatt.flexecutor import meter
        >>> executor = meter(lithops.FunctionExecutor())  # doctest: +SKIP
        >>> DAGExecutor(dag, executor=executor).execute()  # doctest: +SKIP
    """
    if executor is None or type(executor) is MeteredExecutor:
        return executor
    return MeteredExecutor(executor, failed)
