"""Puts a meter round functions, coroutines and generators, whatever makes the meter."""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lithowatt._support.harmless import described, where
from lithowatt.meter._drive import (
    Begin,
    Metering,
    Unstarted,
    drive_async_generator,
    drive_awaitable_generator,
    drive_coroutine,
    drive_generator,
)

if TYPE_CHECKING:
    from typing import Protocol

    class Meters(Protocol):
        """Makes the meter of a call: the class of meters, handed in by who decorates."""

        def _of(self, options: dict[str, Any]) -> Metering: ...

        def _absent(self, reason: str, options: dict[str, Any]) -> Metering: ...


def decorate(meters: Meters, function: Any, on_result: Any, options: dict[str, Any]) -> Any:
    """What ``measure`` makes of ``function``.

    Args:
        meters: Makes the meter of each call.
        function: What is decorated.
        on_result: See ``measure``.
        options: Of the meters.

    Raises:
        TypeError: For a class, and for something that cannot be called.
    """
    inner: Any = functools.partial(decorate, meters, on_result=on_result, options=options)
    if isinstance(function, (staticmethod, classmethod)):
        return type(function)(inner(function.__func__))
    if isinstance(function, property):
        get, put, delete = (
            None if accessor is None else inner(accessor)
            for accessor in (function.fget, function.fset, function.fdel)
        )
        return type(function)(get, put, delete, function.__doc__)
    if isinstance(function, functools.cached_property):
        return type(function)(inner(function.func))
    if isinstance(function, functools.partialmethod):
        return type(function)(inner(function.func), *function.args, **function.keywords)
    if isinstance(function, type):
        raise TypeError(
            f"measure decorates functions, and {function.__qualname__} is a class: "
            "decorate its methods, or a function that makes its instances"
        )
    if not callable(function):
        raise TypeError(
            f"measure decorates functions, not {function!r}: "
            "a block of code is metered by 'with EnergyMeter():'"
        )
    return _decorated(meters, function, on_result, options)


def _decorated(meters: Meters, function: Any, on_result: Any, options: dict[str, Any]) -> Any:
    if type(function) is functools.partial:
        inner = _decorated(meters, function.func, on_result, options)
        partial = _Partial(inner, *function.args, **function.keywords)
        partial.__dict__.update(function.__dict__)
        return partial
    options = {**options}
    options.setdefault("label", _name_of(function))
    if isinstance(function, types.FunctionType):
        wrapper = _wrapper(meters, function, on_result, options)
        functools.update_wrapper(wrapper, function)
        wrapper.meter = None
        return wrapper
    return _Callable(meters, function, on_result, options)


def _name_of(function: Any) -> str:
    name = _attribute(function, "__qualname__")
    return name if isinstance(name, str) else type(function).__qualname__


def _kind_of_code(function: Any) -> str | None:
    if inspect.iscoroutinefunction(function):
        return "coroutine"
    if inspect.isasyncgenfunction(function):
        return "async generator"
    if inspect.isgeneratorfunction(function):
        flags = getattr(_attribute(function, "__code__"), "co_flags", 0)
        return "awaitable generator" if flags & inspect.CO_ITERABLE_COROUTINE else "generator"
    return None


def _attribute(function: Any, name: str) -> Any:
    try:
        return getattr(function, name, None)
    except Exception:
        return None


def _kind(function: Any) -> str:
    """What a call of this very object makes: not what a call of something inside of it would."""
    # Of a callable object it is its __call__ that is a function of one kind or another.
    call = inspect.getattr_static(type(function), "__call__", None)
    for candidate in (function, call):
        # An object that makes up its attributes may raise what it likes.
        with contextlib.suppress(Exception):
            kind = _kind_of_code(candidate)
            if kind is not None:
                return kind
    return "function"


class _Partial(functools.partial):  # type: ignore[type-arg]
    """A partial of a metered function."""

    @property
    def meter(self) -> Metering | None:
        """The meter of the last call."""
        meter: Metering | None = self.func.meter  # type: ignore[attr-defined]
        return meter


class _Callable:
    """A callable object, metered when it is called and otherwise as it is."""

    meter: Metering | None
    _again: tuple[Any, Any, dict[str, Any]]

    def __init__(
        self, meters: Meters, function: Any, on_result: Any, options: dict[str, Any]
    ) -> None:
        own = self.__dict__
        own["__wrapped__"] = function
        own["meter"] = None
        own["_again"] = (meters, on_result, options)
        own["_call"] = _wrapper(meters, function, on_result, options, keeper=self)
        for name in ("__doc__", "__module__"):
            own[name] = _attribute(function, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        # Not there yet; and how the wrapped one is copied is not how this one is.
        if name in ("__wrapped__", "__copy__", "__deepcopy__", "__getstate__", "__setstate__"):
            raise AttributeError(name)
        return getattr(self.__wrapped__, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "meter":
            self.__dict__[name] = value
        else:
            setattr(self.__wrapped__, name, value)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        # As a method, where what it wraps would be one: a function in C is not, a cached one is.
        bind = getattr(type(self.__wrapped__), "__get__", None)
        if bind is None:
            return self
        bound = bind(self.__wrapped__, instance, owner)
        if bound is self.__wrapped__:
            return self
        if not callable(bound):
            return bound
        meters, on_result, options = self._again
        return _wrapper(meters, bound, on_result, options, keeper=self)

    def __reduce__(self) -> str | tuple[Any, ...]:
        # By its name where that is the name of this one, as functions are; what is wrapped, such as
        # a cached function, may have no other way.
        meters, on_result, options = self._again
        name = _attribute(self, "__qualname__")
        found: Any = sys.modules.get(self.__dict__["__module__"])
        for part in name.split(".") if isinstance(name, str) else ():
            found = _attribute(found, part)
        return (
            name if found is self else (_Callable, (meters, self.__wrapped__, on_result, options))
        )

    def __repr__(self) -> str:
        return f"<measured {self.__wrapped__!r}>"


def _begun(meters: Meters, options: dict[str, Any]) -> Metering | None:
    """A meter that runs; one that only has the reason where there is nothing to measure."""
    try:
        meter = meters._of(options)
        meter.start()
    except Exception as error:  # whatever it is, the function is what counts
        try:
            meter = meters._absent(described(error), options)
            meter.start()
        except Exception:
            return None
    return meter


def _done(keeper: Any, meter: Metering, on_result: Any) -> None:
    if meter.running:
        meter.stop()
    keeper.meter = meter
    if on_result is not None:
        try:
            on_result(meter)
        except Exception as error:
            import logging

            # Not with the exceptions that came before it, of which the function's may be one.
            logging.getLogger("lithowatt").error(
                "on_result of %r failed: %s\n%s", meter.label, described(error), where(error)
            )


def _task_options(options: dict[str, Any]) -> dict[str, Any]:
    scope = options.get("scope", "process")
    # With a pid or a cgroup the user asked for something else than the coroutine.
    if scope == "process" and options.get("pid") is None and options.get("cgroup") is None:
        return {**options, "scope": "task"}
    return options


def _wrapper(
    meters: Meters, function: Any, on_result: Any, options: dict[str, Any], keeper: Any = None
) -> Any:
    """The function that is called in the place of ``function``.

    Args:
        meters: Makes the meter of each call.
        function: What to call.
        on_result: See ``measure``.
        options: Of the meters.
        keeper: Whose attribute ``meter`` is the last call's; by default the wrapper.
    """
    kind = _kind(function)
    if kind == "function":
        return _wrap_function(meters, function, on_result, options, keeper)
    begin = _beginning(meters, lambda: metered if keeper is None else keeper, on_result, options)
    metered = _DRIVERS[kind](function, begin)
    if kind == "coroutine" and hasattr(inspect, "markcoroutinefunction"):
        inspect.markcoroutinefunction(metered)
    return metered


def _wrap_function(
    meters: Meters, function: Any, on_result: Any, options: dict[str, Any], keeper: Any
) -> Any:
    inner = _inside(function)
    made = _MADE.get("function" if inner is function else _kind(inner))

    def metered(*args: Any, **kwargs: Any) -> Any:
        # At the end of the stack what is ours may be what does not fit: it does without.
        try:
            meter = _begun(meters, options)
        except Exception:
            meter = None
        goes_on = False
        try:
            result = function(*args, **kwargs)
            # One that nobody else has: then nobody can see that it is given back as another.
            goes_on = type(result) is made and sys.getrefcount(result) <= _ALONE and _is_new(result)
            if not goes_on:
                return result
        finally:
            if meter is not None and not goes_on:
                try:  # noqa: SIM105 - contextlib has frames of its own
                    _done(metered if keeper is None else keeper, meter, on_result)
                except Exception:  # noqa: S110
                    pass
        return continued(result)

    def continued(result: Any) -> Any:
        # A plain function round a coroutine or a generator has made one that nobody else has: what
        # the call is for is still to come, and is metered in its place.
        taken = Unstarted(result).take if made is types.CoroutineType else lambda: result
        target = metered if keeper is None else keeper
        driven = _DRIVERS[_kind(inner)](
            taken, _beginning(meters, lambda: target, on_result, options)
        )()
        driven.__name__, driven.__qualname__ = result.__name__, result.__qualname__
        return driven

    return metered


def _count_of_one_alone() -> int:
    alone = object()
    return sys.getrefcount(alone)


#: What `sys.getrefcount` says of what a local name alone holds: 2 up to Python 3.13; 1 from 3.14
#: on, which lends what it hands to a function.
_ALONE = _count_of_one_alone()


def _inside(function: Any) -> Any:
    """What a wrapper wraps, at the innermost."""
    try:
        inner = inspect.unwrap(function)
    except Exception:  # it wraps itself, or makes up its attributes
        return function
    while isinstance(inner, functools.partial):
        inner = inner.func
    return inner


def _is_new(made: Any) -> bool:
    """Whether a coroutine or a generator has not begun; ``False`` where that cannot be known."""
    if isinstance(made, types.CoroutineType):
        return inspect.getcoroutinestate(made) == inspect.CORO_CREATED
    if isinstance(made, types.GeneratorType):
        return inspect.getgeneratorstate(made) == inspect.GEN_CREATED
    state = getattr(inspect, "getasyncgenstate", None)  # from Python 3.12 on
    return state is not None and state(made) == "AGEN_CREATED"


#: What a plain function round one of another kind may return that is still to run.
_MADE: dict[str, type] = {
    "coroutine": types.CoroutineType,
    "generator": types.GeneratorType,
    "async generator": types.AsyncGeneratorType,
}


_DRIVERS: dict[str, Callable[[Any, Begin], Any]] = {
    "coroutine": drive_coroutine,
    "generator": drive_generator,
    "awaitable generator": drive_awaitable_generator,
    "async generator": drive_async_generator,
}


def _beginning(
    meters: Meters, keeper: Callable[[], Any], on_result: Any, options: dict[str, Any]
) -> Begin:
    """What starts the meter of one coroutine or generator, and gives what ends it, once."""
    options = _task_options(options)

    def begin() -> tuple[Metering | None, Callable[[], None]]:
        meter = _begun(meters, options)
        finished = meter is None

        def finish() -> None:
            nonlocal finished
            if not finished and meter is not None:
                finished = True
                _done(keeper(), meter, on_result)

        return meter, finish

    return begin
