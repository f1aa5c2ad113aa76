"""``@measure`` on everything that can be called: it stays what it is, and it always runs."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import copy
import functools
import gc
import inspect
import operator
import os
import pickle
import subprocess
import sys
import time
import types
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lithowatt import EnergyMeter, ProcessNotFoundError, UnreadableFileError, measure
from lithowatt.meter._drive import _Steps

#: As short as can be: what is measured is not the question here.
quick = measure(interval=None, methods=["psutil"])


def spin(seconds: float) -> float:
    begin = time.thread_time()
    while time.thread_time() - begin < seconds:
        pass
    return time.thread_time() - begin


def wrapping(change: Callable[..., Any]) -> Callable[[Any], Any]:
    """A decorator as others write them: a plain function that looks like what it wraps."""

    def decorate(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return change(function(*args, **kwargs))

        return wrapper

    return decorate


async def add(x: int) -> int:
    await asyncio.sleep(0)
    return x + 1


def count(n: int) -> Iterator[int]:
    yield from range(n)


async def acount(n: int) -> AsyncIterator[int]:
    for i in range(n):
        yield i


async def listed(iterator: AsyncIterator[int]) -> list[int]:
    return [item async for item in iterator]


# -- what is decorated, and not what is inside of it, decides --------------------------------------


def test_a_context_manager_under_it() -> None:
    @quick
    @contextlib.contextmanager
    def managed() -> Iterator[int]:
        yield 5

    with managed() as value:
        assert value == 5

    @quick
    @contextlib.asynccontextmanager
    async def amanaged() -> AsyncIterator[int]:
        yield 6

    async def main() -> int:
        async with amanaged() as value:
            return value

    assert asyncio.run(main()) == 6


def test_plain_wrappers_of_other_kinds() -> None:
    assert quick(wrapping(asyncio.run)(add))(1) == 2
    assert quick(wrapping(list)(count))(3) == [0, 1, 2]
    assert quick(wrapping(lambda items: asyncio.run(listed(items)))(acount))(3) == [0, 1, 2]
    assert quick(wrapping(type)(count))(3) is types.GeneratorType


def test_an_async_wrapper_of_a_plain_function() -> None:
    def threaded(function: Any) -> Any:
        @functools.wraps(function)
        async def wrapper(*args: Any) -> Any:
            return await asyncio.to_thread(function, *args)

        return wrapper

    measured = quick(threaded(spin))
    assert inspect.iscoroutinefunction(measured)
    assert asyncio.run(measured(0.001)) >= 0.001


def test_a_plain_wrapper_that_makes_a_coroutine_has_it_metered() -> None:
    meters: list[EnergyMeter] = []

    def used(seconds: float) -> Any:
        @measure(interval=None, on_result=meters.append)
        @wrapping(lambda coroutine: coroutine)
        async def work() -> float:
            await asyncio.sleep(0)
            return spin(seconds)

        coroutine = work()
        assert inspect.iscoroutine(coroutine)
        assert coroutine.__qualname__.endswith("work")
        return asyncio.run(coroutine)

    seconds = used(0.05)
    [meter] = meters
    assert meter.reading.cpu_seconds is not None
    assert meter.reading.cpu_seconds >= 0.9 * seconds


def test_a_plain_wrapper_that_makes_a_generator_has_it_metered() -> None:
    @measure(interval=None)
    @wrapping(lambda generator: generator)
    def work(n: int) -> Iterator[float]:
        for _ in range(n):
            yield spin(0.02)

    seconds = sum(work(3))
    assert work.meter.reading.cpu_seconds >= 0.9 * seconds  # type: ignore[attr-defined]


def test_what_others_hold_is_given_back_as_it_is() -> None:
    kept = count(3)
    assert quick(wrapping(lambda _: kept)(count))(1) is kept
    assert next(kept) == 0
    gc.collect()
    assert list(kept) == [1, 2], "and is not closed"

    def primed(generator: Any) -> Any:
        next(generator)
        return generator

    def total() -> Iterator[int]:
        value = 0
        while True:
            value += yield value

    summing = quick(wrapping(primed)(total))()
    assert [summing.send(3), summing.send(4)] == [3, 7]


def test_a_coroutine_that_is_closed_before_it_began_warns_of_nothing() -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for function in (add, wrapping(lambda coroutine: coroutine)(add)):
            quick(function)(1).close()
        gc.collect()
    assert not said


def test_generators_that_are_awaited() -> None:
    @quick
    @types.coroutine
    def nap() -> Any:
        yield from asyncio.sleep(0).__await__()
        return 4

    async def main() -> Any:
        return await nap()

    assert asyncio.run(main()) == 4

    @types.coroutine
    def outer() -> Any:
        return (yield from nap())

    async def again() -> Any:
        return await outer()

    assert asyncio.run(again()) == 4


@pytest.mark.parametrize("how", ["object", "method", "partial", "bound"])
def test_callables_of_every_kind_are_metered_while_they_run(how: str) -> None:
    class Work:
        async def __call__(self, seconds: float) -> float:
            await asyncio.sleep(0)
            return spin(seconds)

        async def run(self, seconds: float) -> float:
            return await self(seconds)

    work: Any = {
        "object": Work(),
        "method": functools.partial(Work.run, Work()),
        "partial": functools.partial(Work().run),
        "bound": Work().run,
    }[how]
    measured = measure(work, interval=None)
    assert inspect.iscoroutinefunction(measured) == inspect.iscoroutinefunction(work)
    seconds = asyncio.run(measured(0.05))
    assert measured.meter.reading.cpu_seconds >= 0.9 * seconds


def test_an_object_whose_call_is_a_generator() -> None:
    class Work:
        def __call__(self, n: int) -> Iterator[float]:
            for _ in range(n):
                yield spin(0.02)

    class AsyncWork:
        async def __call__(self, n: int) -> AsyncIterator[float]:
            for _ in range(n):
                yield spin(0.02)

    measured: Any = measure(Work(), interval=None)
    seconds = sum(measured(3))
    assert measured.meter.reading.cpu_seconds >= 0.9 * seconds
    measured = measure(AsyncWork(), interval=None)
    seconds = sum(asyncio.run(listed(measured(3))))
    assert measured.meter.reading.cpu_seconds >= 0.9 * seconds


# -- what it is, it stays --------------------------------------------------------------------------


def test_a_cached_function_keeps_its_cache() -> None:
    class Doubler:
        @quick
        @functools.lru_cache(maxsize=8)  # noqa: B019
        def double(self, x: int) -> int:
            return 2 * x

    @quick
    @functools.lru_cache(maxsize=8)
    def double(x: int) -> int:
        return 2 * x

    assert double(2) == double(2) == 4
    assert double.cache_info().hits == 1
    double.cache_clear()
    assert double.cache_info().currsize == 0
    assert double.meter is not None
    assert inspect.signature(double) == inspect.signature(double.__wrapped__)

    assert Doubler().double(3) == 6, "bound as a method"
    assert Doubler.double.meter is not None


def test_what_is_no_method_does_not_become_one() -> None:
    class Adder:
        total = 0

        def __call__(self, x: int) -> int:
            self.total += x
            return self.total

    adder = Adder()

    class Holder:
        length = quick(len)
        add = quick(adder)
        plain = functools.partial(operator.getitem, "abc")
        first = quick(plain)
        upper = quick(str.upper)

    holder: Any = Holder()
    assert holder.length([1, 2]) == 2
    assert holder.add(4) == 4
    # A partial has become a method, metered or not; Python 3.13 warns of it beforehand.
    for name in ("plain", "first"):
        warns = sys.version_info[:2] == (3, 13)
        with pytest.warns(FutureWarning) if warns else contextlib.nullcontext():
            function = getattr(holder, name)
        if sys.version_info < (3, 14):
            assert function(0) == "a"
        else:
            with pytest.raises(TypeError):
                function(0)
    assert Holder.upper("x") == "X"
    assert holder.add.total == 4
    holder.add.total = 10
    assert adder.total == 10, "an attribute is the object's own"
    with pytest.raises(AttributeError):
        _ = holder.add.nothing


def test_a_partial_stays_a_partial() -> None:
    partial = functools.partial(lambda a, b, c=0: (a, b, c), 1, c=3)
    partial.note = "kept"  # type: ignore[attr-defined]
    measured: Any = quick(partial)
    assert measured(2) == (1, 2, 3)
    assert isinstance(measured, functools.partial)
    assert (measured.args, measured.keywords, measured.note) == ((1,), {"c": 3}, "kept")
    assert measured.meter.duration > 0
    assert functools.partial(measured, 5)() == (1, 5, 3)


def test_descriptors_stay_descriptors() -> None:
    class Point:
        x = 1

        @quick
        @property
        def double(self) -> int:
            """Twice as much."""
            return 2 * self.x

        @double.setter
        def double(self, value: int) -> None:
            self.x = value // 2

        @quick
        @functools.cached_property
        def triple(self) -> int:
            return 3 * self.x

        def add(self, a: int, b: int) -> int:
            return self.x + a + b

        add_ten = quick(functools.partialmethod(add, 10))

        @quick
        @staticmethod
        def static(a: int) -> int:
            return a

        @quick
        @classmethod
        def made(cls) -> type:
            return cls

    point: Any = Point()
    assert point.double == 2
    point.double = 8
    assert (point.x, point.triple, point.add_ten(1)) == (4, 12, 15)
    point.x = 5
    assert point.triple == 12, "cached"
    assert (point.static(3), Point.static(3), point.made()) == (3, 3, Point)
    assert Point.double.__doc__ == "Twice as much."
    assert Point.double.fget.meter.duration > 0  # type: ignore[attr-defined]


def test_abstract_and_dispatched_functions() -> None:
    class Base(abc.ABC):
        @quick
        @abc.abstractmethod
        def run(self) -> None: ...

    with pytest.raises(TypeError, match="abstract"):
        Base()  # type: ignore[abstract]

    @quick
    @functools.singledispatch
    def kind(x: object) -> str:
        return "any"

    kind.register(int)(lambda x: "int")
    assert (kind(1), kind("")) == ("int", "any")


def test_a_class_is_refused_in_plain_words() -> None:
    class Model:
        pass

    with pytest.raises(TypeError, match="Model is a class"):
        measure(Model)
    with pytest.raises(TypeError, match="not 42"):
        measure(42)  # type: ignore[type-var]


def test_an_object_that_makes_up_its_attributes() -> None:
    class Anything:
        def __getattr__(self, name: str) -> Any:
            if name == "refused":
                raise RuntimeError(name)
            return self

        def __call__(self, x: int) -> int:
            return x + 1

    assert quick(Anything())(1) == 2

    class Nothing:
        def __getattribute__(self, name: str) -> Any:
            if name == "__class__":
                return Nothing
            raise RuntimeError(name)

        def __call__(self, x: int) -> int:
            return x + 2

    assert quick(Nothing())(1) == 3

    def itself(x: int) -> int:
        return x

    itself.__wrapped__ = itself  # type: ignore[attr-defined]
    assert quick(itself)(1) == 1


# -- an async generator of Python 3.14 -------------------------------------------------------------


def test_an_awaitable_that_has_ended_is_not_closed() -> None:
    # From 3.14 on, closing the awaitable of a step closes the generator that it is a step of.
    class Step:
        closed = 0

        def __next__(self) -> None:
            raise StopIteration("over")

        def close(self) -> None:
            self.closed += 1

    step = Step()
    steps = _Steps(step, None, lambda: None)
    with pytest.raises(StopIteration):
        next(steps)
    del steps
    gc.collect()
    assert step.closed == 0

    half = Step()
    _Steps(half, None, lambda: None).close()
    assert half.closed == 1


# -- it always runs --------------------------------------------------------------------------------


def variants(function: Callable[[], str]) -> dict[str, Callable[[Any], str]]:
    """A function as each kind there is, and how it is called with each."""

    async def coroutine() -> str:
        return function()

    def generator() -> Iterator[str]:
        yield function()

    async def agenerator() -> AsyncIterator[str]:
        yield function()

    async def first(iterator: AsyncIterator[str]) -> str:
        return await iterator.__anext__()

    return {
        "function": lambda decorate: decorate(function)(),
        "object": lambda decorate: decorate(functools.partial(function))(),
        "coroutine": lambda decorate: asyncio.run(decorate(coroutine)()),
        "generator": lambda decorate: next(decorate(generator)()),
        "async generator": lambda decorate: asyncio.run(first(decorate(agenerator)())),
    }


KINDS = ["function", "object", "coroutine", "generator", "async generator"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_function_runs_though_what_it_is_measured_with_is_gone(kind: str, tmp_path: Path) -> None:
    meters: list[EnergyMeter] = []
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    call = variants(lambda: "it ran")[kind]

    def of_child(function: Any) -> Any:
        measured = measure(function, pid=child.pid, on_result=meters.append)
        assert child.poll() is None
        child.communicate(b"\n")
        return measured

    assert call(of_child) == "it ran"
    assert meters[0].joules is None
    assert meters[0].reading.raw["headline_reason"]
    with pytest.raises(ProcessNotFoundError):
        measure(pid=child.pid)(len)

    (tmp_path / "cpu.stat").write_text("usage_usec 5\n")

    def of_cgroup(function: Any) -> Any:
        measured = measure(function, cgroup=tmp_path, on_result=meters.append)
        (tmp_path / "cpu.stat").unlink()
        return measured

    assert call(of_cgroup) == "it ran"
    assert meters[1].joules is None
    assert tmp_path.name in meters[1].reading.raw["headline_reason"]
    with pytest.raises(UnreadableFileError):
        measure(cgroup=tmp_path)(len)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ENERGY_METHODS", "joules"),
        ("ENERGY_COLLECTION_INTERVAL", "soon"),
        ("ENERGY_DEFINITION", "both"),
    ],
)
def test_a_function_runs_whatever_the_environment_says(
    kind: str, variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    meters: list[EnergyMeter] = []
    call = variants(lambda: "it ran")[kind]
    before: Any = []

    def decorated_before(function: Any) -> Any:
        before.append(measure(function, on_result=meters.append))
        monkeypatch.setenv(variable, value)
        return before[0]

    assert call(decorated_before) == "it ran"
    assert call(measure(on_result=meters.append)) == "it ran"
    assert [meter.joules for meter in meters] == [None, None]
    assert all(value in meter.reading.raw["headline_reason"] for meter in meters)


def test_a_function_runs_where_no_meter_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> Any:
        raise MemoryError

    calls = variants(lambda: "it ran").values()

    def decorate(function: Any) -> Any:
        made = measure(function)
        monkeypatch.setattr(EnergyMeter, "_of", broken)
        monkeypatch.setattr(EnergyMeter, "_absent", broken)
        return made

    for call in calls:
        assert call(decorate) == "it ran"
        monkeypatch.undo()


def test_what_on_result_raises_is_dropped_whatever_the_function_raised(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Shy(Exception):
        @property
        def __traceback__(self) -> Any:
            raise RuntimeError("not to be looked at")

        @__traceback__.setter
        def __traceback__(self, _: Any) -> None: ...

    raised = Shy()

    def fails(_: EnergyMeter) -> None:
        raise KeyError("mine")

    @measure(interval=None, on_result=fails)
    def work() -> None:
        raise raised

    try:
        work()
    except Shy as caught:
        assert caught is raised
    assert "KeyError" in caplog.text


# -- pickled ---------------------------------------------------------------------------------------


@measure(interval=None)
def by_name(x: int) -> int:
    return x + 1


@EnergyMeter(interval=None, label="by a meter")
def by_meter(x: int) -> int:
    return x + 2


@quick
@functools.lru_cache
def cached(x: int) -> int:
    return -x


partial: Any = quick(functools.partial(operator.add, 40))


def test_decorated_functions_are_pickled_before_and_after_a_call() -> None:
    for _ in range(2):
        assert pickle.loads(pickle.dumps(by_name)) is by_name
        assert pickle.loads(pickle.dumps(by_meter)) is by_meter
        assert pickle.loads(pickle.dumps(cached)) is cached
        assert copy.deepcopy(cached) is cached
        assert pickle.loads(pickle.dumps(partial))(2) == 42
        assert copy.deepcopy(partial)(2) == 42
        assert copy.copy(quick(abs))(-1) == 1
        assert pickle.loads(pickle.dumps(quick(abs)))(-1) == 1
        assert (by_name(1), by_meter(1), cached(1)) == (2, 3, -1)


def test_functions_that_travel_by_value_work_and_are_metered_there(tmp_path: Path) -> None:
    pytest.importorskip("cloudpickle", reason="cloudpickle is not installed")
    # By value are those of a script: nothing of it can be imported where they arrive.
    script = tmp_path / "script.py"
    script.write_text(
        """
import asyncio, functools, sys, cloudpickle
from lithowatt import EnergyMeter, measure

@measure
def plain(x): return x + 1
@EnergyMeter(interval=None)
def decorated(x): return x + 1
@measure(on_result=lambda meter: None)
def generator(x): yield x + 1
@measure
async def coroutine(x): return x + 1
class Add:
    @measure
    def method(self, x): return x + 1
    def __call__(self, x): return x + 1
called = measure(Add())

def call(function, x):
    made = function(x)
    if hasattr(made, "send"):
        return asyncio.run(made) if hasattr(made, "cr_code") else next(made)
    return made

functions = [plain, decorated, generator, coroutine, called, measure(Add().method)]
for name in ("before", "after"):
    with open(name, "wb") as file:
        cloudpickle.dump((call, functions), file)
    assert [call(function, 1) for function in functions] == [2] * 6
meter = EnergyMeter()
with meter, open("running", "wb") as file:
    cloudpickle.dump(lambda: meter.duration, file)
"""
    )
    subprocess.run([sys.executable, str(script)], cwd=tmp_path, check=True, timeout=60)
    # As a worker would; this module has none of the script's names.
    for name in ("before", "after"):
        call, functions = pickle.loads((tmp_path / name).read_bytes())
        for function in functions:
            assert call(function, 1) == 2
        assert functions[0].meter.duration > 0
    assert pickle.loads((tmp_path / "running").read_bytes())() > 0


def test_a_pool_runs_decorated_functions() -> None:
    import multiprocessing

    by_name(1)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(by_name, [1, 2]) == [2, 3]
        assert pool.apply(os.path.basename, ("a/b",)) == "b"
