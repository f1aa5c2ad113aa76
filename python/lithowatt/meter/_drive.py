"""Drives coroutines and generators, so that a meter runs while they do and rests while they wait.

What drives one behaves as it does: what is sent, thrown and returned goes through unchanged.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from typing import Any, Protocol


class Metering(Protocol):
    """The meter of one call, as far as it is driven here."""

    @property
    def label(self) -> str | None: ...

    @property
    def running(self) -> bool: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def _resume(self) -> None: ...

    def _suspend(self) -> None: ...


class _Steps:
    """The steps of an iterator, each of them metered."""

    __slots__ = ("_ended", "_finish", "_iterator", "_meter")

    def __init__(self, iterator: Any, meter: Metering | None, finish: Callable[[], None]) -> None:
        self._iterator = iterator
        self._meter = meter
        self._finish = finish
        self._ended = False

    def _step(self, method: Callable[..., Any], *args: Any) -> Any:
        meter = self._meter
        if meter is None or not meter.running:
            return self._plain_step(method, *args)
        meter._resume()
        try:
            result = method(*args)
        except BaseException:
            # However it ended, there is nothing left in it to be closed.
            self._ended = True
            meter._suspend()
            self._finish()
            raise
        meter._suspend()
        return result

    def _plain_step(self, method: Callable[..., Any], *args: Any) -> Any:
        try:
            return method(*args)
        except BaseException:
            self._ended = True
            raise

    def __iter__(self) -> _Steps:
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def send(self, value: Any) -> Any:
        # As `yield from` does: an awaitable's iterator need not be a generator.
        if value is None:
            return self._step(self._iterator.__next__)
        return self._step(self._iterator.send, value)

    def throw(self, *error: Any) -> Any:
        throw = getattr(self._iterator, "throw", None)
        return self._step(_raise if throw is None else throw, *error)

    def close(self) -> None:
        close = getattr(self._iterator, "close", None)
        try:
            if close is not None and not self._ended:
                self._step(close)
        finally:
            self._ended = True
            self._finish()

    def __del__(self) -> None:
        # One that is dropped half-way was still metered up to here.
        with contextlib.suppress(RuntimeError):
            self.close()


def _raise(kind: Any, value: Any = None, trace: Any = None) -> Any:
    error = kind if isinstance(kind, BaseException) else value
    if not isinstance(error, BaseException):
        error = kind() if value is None else kind(value)
    raise error.with_traceback(trace) if trace is not None else error


class _Await:
    """An awaitable that is driven through :class:`_Steps`."""

    __slots__ = ("_steps",)

    def __init__(self, steps: _Steps) -> None:
        self._steps = steps

    def __await__(self) -> Any:
        return self._steps


class Unstarted:
    """A coroutine that somebody else made and that may never be awaited."""

    __slots__ = ("_coroutine",)

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine: Coroutine[Any, Any, Any] | None = coroutine

    def take(self) -> Coroutine[Any, Any, Any] | None:
        coroutine, self._coroutine = self._coroutine, None
        return coroutine

    def __del__(self) -> None:
        # It is the coroutine round it whose end without a beginning is to be warned of.
        if self._coroutine is not None:
            self._coroutine.close()


#: Starts the meter of a call; returns it, ``None`` where there is none, and what ends it, once.
Begin = Callable[[], "tuple[Metering | None, Callable[[], None]]"]


def drive_coroutine(function: Any, begin: Begin) -> Any:
    """A coroutine function whose coroutines are those of ``function``, metered."""

    async def metered(*args: Any, **kwargs: Any) -> Any:
        awaitable = function(*args, **kwargs)
        meter, finish = begin()
        return await _Await(_Steps(type(awaitable).__await__(awaitable), meter, finish))

    return metered


def drive_generator(function: Any, begin: Begin) -> Any:
    """A generator function whose generators are those of ``function``, metered."""

    def metered(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        generator = function(*args, **kwargs)
        meter, finish = begin()
        steps = _Steps(generator, meter, finish)
        # Not `yield from`: it would turn a GeneratorExit thrown in into a close().
        try:
            item = steps.send(None)
            while True:
                try:
                    sent = yield item
                except BaseException as error:
                    item = steps.throw(error)
                else:
                    item = steps.send(sent)
        except StopIteration as stop:
            return stop.value

    return metered


def drive_awaitable_generator(function: Any, begin: Begin) -> Any:
    """As :func:`drive_generator`, for generators that are awaited (``types.coroutine``)."""
    return types.coroutine(drive_generator(function, begin))


def drive_async_generator(function: Any, begin: Begin) -> Any:
    """An async generator function whose generators are those of ``function``, metered."""

    async def metered(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        generator = function(*args, **kwargs)
        meter, finish = begin()

        def step(awaitable: Awaitable[Any]) -> _Await:
            # One step of the generator is a coroutine of its own; it ends without ending ours.
            return _Await(_Steps(awaitable.__await__(), meter, _goes_on))

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


def _goes_on() -> None:
    """The end of a step that is not the end of the whole."""
