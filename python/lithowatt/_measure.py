"""``@measure``: functions, methods, coroutines and generators, each call metered by itself."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any, TypeVar, overload

from lithowatt._meter import EnergyMeter

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

    Args:
        function: What to decorate, when used without arguments.
        on_result: Called with the meter after each call, whether it returned or raised. What it
            raises itself is logged and dropped: it must not change the call's result.
        **options: As for :class:`~lithowatt.EnergyMeter`; ``label`` is the function's qualified
            name by default.

    The meter of the last call is the attribute ``meter`` of the decorated function.

    Raises:
        TypeError: For something that cannot be called.

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
    if isinstance(function, (staticmethod, classmethod)):
        inner: Any = functools.partial(measure, on_result=on_result, **options)
        return type(function)(inner(function.__func__))
    if not callable(function):
        raise TypeError(f"measure decorates functions, not {function!r}")
    # What is wrong with the options is said here, not in the first call far away.
    EnergyMeter(**options)
    options.setdefault("label", getattr(function, "__qualname__", None) or repr(function))
    wrapper = _WRAPPERS[_kind(function)](function, on_result, options)
    functools.update_wrapper(wrapper, function)
    if _kind(function) == "coroutine" and hasattr(inspect, "markcoroutinefunction"):
        inspect.markcoroutinefunction(wrapper)
    wrapper.meter = None
    return wrapper


def _kind(function: Any) -> str:
    target = inspect.unwrap(function)
    while isinstance(target, functools.partial):
        target = target.func
    if inspect.iscoroutinefunction(target):
        return "coroutine"
    if inspect.isasyncgenfunction(target):
        return "async generator"
    if inspect.isgeneratorfunction(target):
        return "generator"
    return "function"


def _done(
    wrapper: Any, meter: EnergyMeter, on_result: Callable[[EnergyMeter], object] | None
) -> None:
    if meter.running:
        meter.stop()
    wrapper.meter = meter
    if on_result is not None:
        try:
            on_result(meter)
        except Exception:
            import logging

            logging.getLogger("lithowatt").exception("on_result of %r failed", meter.label)


def _wrap_function(function: Any, on_result: Any, options: dict[str, Any]) -> Any:
    def metered(*args: Any, **kwargs: Any) -> Any:
        meter = EnergyMeter(**options)
        meter.start()
        try:
            return function(*args, **kwargs)
        finally:
            _done(metered, meter, on_result)

    return metered


class _Task:
    """Drives a generator so that the meter runs only while the generator does."""

    __slots__ = ("_finish", "_generator", "_meter")

    def __init__(self, generator: Any, meter: EnergyMeter, finish: Callable[[], None]) -> None:
        self._generator = generator
        self._meter = meter
        self._finish = finish

    def _step(self, method: str, *args: Any) -> Any:
        meter = self._meter
        if not meter.running:
            return getattr(self._generator, method)(*args)
        meter.resume()
        try:
            result = getattr(self._generator, method)(*args)
        except BaseException:
            meter.suspend()
            self._finish()
            raise
        meter.suspend()
        return result

    def __iter__(self) -> _Task:
        return self

    def __next__(self) -> Any:
        return self._step("send", None)

    def send(self, value: Any) -> Any:
        return self._step("send", value)

    def throw(self, *error: Any) -> Any:
        return self._step("throw", *error)

    def close(self) -> None:
        try:
            self._step("close")
        finally:
            self._finish()

    def __del__(self) -> None:
        # A generator that is dropped half-way was still metered up to here.
        with contextlib.suppress(RuntimeError):
            self.close()


def _task_options(options: dict[str, Any]) -> dict[str, Any]:
    scope = options.get("scope", "process")
    # With a pid or a cgroup the user asked for something else than the coroutine.
    if scope == "process" and options.get("pid") is None and options.get("cgroup") is None:
        return {**options, "scope": "task"}
    return options


def _started(
    wrapper: Any, on_result: Any, options: dict[str, Any]
) -> tuple[EnergyMeter, Callable[[], None]]:
    meter = EnergyMeter(**_task_options(options))
    meter.start()
    finished = False

    def finish() -> None:
        nonlocal finished
        if not finished:
            finished = True
            _done(wrapper, meter, on_result)

    return meter, finish


def _wrap_generator(function: Any, on_result: Any, options: dict[str, Any]) -> Any:
    def metered(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        meter, finish = _started(metered, on_result, options)
        task = _Task(function(*args, **kwargs), meter, finish)
        # Not `yield from`: it would turn a GeneratorExit thrown in into a close().
        try:
            item = task.send(None)
            while True:
                try:
                    sent = yield item
                except BaseException as error:
                    item = task.throw(error)
                else:
                    item = task.send(sent)
        except StopIteration as stop:
            return stop.value

    return metered


class _Await:
    """An awaitable that is driven through a :class:`_Task`."""

    __slots__ = ("_task",)

    def __init__(self, task: _Task) -> None:
        self._task = task

    def __await__(self) -> Any:
        return self._task


def _wrap_coroutine(function: Any, on_result: Any, options: dict[str, Any]) -> Any:
    async def metered(*args: Any, **kwargs: Any) -> Any:
        meter, finish = _started(metered, on_result, options)
        return await _Await(_Task(function(*args, **kwargs).__await__(), meter, finish))

    return metered


def _wrap_async_generator(function: Any, on_result: Any, options: dict[str, Any]) -> Any:
    async def metered(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        meter, finish = _started(metered, on_result, options)

        def step(awaitable: Awaitable[Any]) -> _Await:
            # One step of the generator is a coroutine of its own; it ends without ending ours.
            return _Await(_Task(awaitable.__await__(), meter, lambda: None))

        generator = function(*args, **kwargs)
        try:
            sent: Any = None
            item = await step(generator.__anext__())
            while True:
                try:
                    sent = yield item
                except GeneratorExit:
                    await step(generator.aclose())
                    raise
                except BaseException as error:
                    item = await step(generator.athrow(error))
                else:
                    item = await step(generator.asend(sent))
        except StopAsyncIteration:
            return
        finally:
            finish()

    return metered


_WRAPPERS: dict[str, Callable[[Any, Any, dict[str, Any]], Any]] = {
    "function": _wrap_function,
    "generator": _wrap_generator,
    "coroutine": _wrap_coroutine,
    "async generator": _wrap_async_generator,
}
