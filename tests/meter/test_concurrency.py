"""Threads, coroutines, generators, forks, signals: each its own, and nothing is disturbed."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import gc
import inspect
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.accuracy_report import burn, truth_of
from lithowatt import EnergyMeter, MeterStateError, measure
from lithowatt.meter._reading import Reading
from rig import Rig, StaticTree
from tests.support import RIG

pytestmark = pytest.mark.quiet

Steady = Callable[[Callable[[], None]], None]


@pytest.fixture(scope="module")
def rig(live: None) -> Iterator[Rig]:
    with Rig(domains=("package",), idle_watts=20, gain=30, gamma=0.8) as rig:
        yield rig


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[StaticTree]:
    with StaticTree(tmp_path / "tree", domains=("package",)) as tree:
        yield tree


def run(
    code: str, *arguments: object, timeout: float = 60, expected: int = 0, warn: bool = False
) -> str:
    """Runs Python code in a process of its own, which must end in time and in silence."""
    ignore = [] if warn else ["-W", "ignore::DeprecationWarning"]  # of fork with threads
    done = subprocess.run(
        [sys.executable, *ignore, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == expected
    return done.stdout


# -- threads --------------------------------------------------------------------------------------


def test_each_thread_gets_its_own(rig: Rig, steady: Steady) -> None:
    @steady
    def check() -> None:
        readings: dict[float, Reading] = {}

        def work(seconds: float) -> None:
            with EnergyMeter(root=rig.root, scope="thread") as meter:
                burn(seconds)
            readings[seconds] = meter.reading

        with EnergyMeter(root=rig.root) as whole:
            threads = [threading.Thread(target=work, args=(s,)) for s in (0.15, 0.45)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        for seconds, reading in readings.items():
            assert reading.cpu_seconds == pytest.approx(seconds, rel=0.05, abs=0.005)
            assert reading.raw["scope"] == "thread"
            assert 0 < (reading.marginal or 0) < (reading.machine or 0)
        assert whole.reading.cpu_seconds == pytest.approx(0.6, rel=0.08)
        parts = sum(r.marginal or 0.0 for r in readings.values())
        assert parts == pytest.approx(whole.reading.marginal, rel=0.15)


def test_a_thread_that_waits_is_not_charged_for_the_others(rig: Rig, steady: Steady) -> None:
    @steady
    def check() -> None:
        stop = threading.Event()

        def noise() -> None:
            while not stop.is_set():
                sum(range(1000))

        other = threading.Thread(target=noise)
        other.start()
        try:
            with EnergyMeter(root=rig.root, scope="thread") as meter:
                time.sleep(0.3)
        finally:
            stop.set()
            other.join()
        reading = meter.reading
        assert (reading.cpu_seconds or 0) < 0.05
        assert (reading.marginal or 0) < 0.2 * ((reading.machine or 0) - (reading.idle or 0))


def test_a_meter_may_be_stopped_by_another_thread(tree: StaticTree) -> None:
    meter = EnergyMeter(root=tree.root)
    meter.start()
    tree.add("package-0", 2_000_000)
    thread = threading.Thread(target=meter.stop)
    thread.start()
    thread.join()
    assert meter.reading.rapl.package == pytest.approx(2.0)
    with pytest.raises(MeterStateError):
        meter.stop()


def test_a_thread_that_ended_keeps_what_it_used(tree: StaticTree) -> None:
    meter = EnergyMeter(root=tree.root, scope="thread", interval=0.005)
    seen: list[float] = []

    def work() -> None:
        meter.start()
        burn(0.1)
        seen.append(meter.reading.cpu_seconds or 0.0)
        seen.append(time.thread_time())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    meter.stop()
    # What was known while it ran stays, and no more than all it ever used.
    assert 0.1 <= seen[0] <= (meter.reading.cpu_seconds or 0.0) <= seen[1]


def test_many_meters_in_many_threads(tree: StaticTree) -> None:
    # In a process of its own: were the sampler to stand in the way, no timeout here would help.
    code = """
    import sys, threading
    from lithowatt import EnergyMeter
    root, errors, durations = sys.argv[1], [], []
    def work(n):
        try:
            for turn in range(30):
                scope = "thread" if (n + turn) % 2 else "process"
                interval = (None, 0.001, 0.01)[turn % 3]
                with EnergyMeter(root=root, scope=scope, interval=interval) as meter:
                    with meter.phase("compute"):
                        sum(range(2000))
                    assert meter.reading.running
                reading = meter.reading
                assert reading.duration > 0
                assert reading.cpu_seconds is not None and reading.cpu_seconds > 0
                assert not reading.running and len(reading.phases) == 1
                durations.append(reading.duration)
        except BaseException as error:
            errors.append(error)
    with EnergyMeter(root=root, interval=0.001) as whole:
        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
    assert not errors, errors
    assert len(durations) == 240
    assert whole.reading.duration >= max(durations)
    print("fine")
    """
    assert run(code, tree.root) == "fine\n"


def test_a_sampler_that_cannot_keep_up_stands_in_nobody_s_way(tree: StaticTree) -> None:
    """1 ms is too short for what there is to look at: many threads, a child, several meters."""
    code = """
    import subprocess, sys, threading, time
    from lithowatt import EnergyMeter
    child = subprocess.Popen(["sleep", "60"])
    stop = threading.Event()
    pool = [threading.Thread(target=stop.wait) for _ in range(80)]
    for thread in pool: thread.start()
    meters = [EnergyMeter(root=sys.argv[1], interval=0.001) for _ in range(8)]
    for meter in meters: meter.start()
    time.sleep(0.1)
    waits = []
    cpu = time.process_time()
    begun = time.monotonic()
    for _ in range(50):
        asked = time.monotonic()
        with meters[0].phase("x"): pass
        waits.append(time.monotonic() - asked)
        time.sleep(0.01)
    share = (time.process_time() - cpu) / (time.monotonic() - begun)
    for meter in meters: meter.stop()
    child.kill(); child.wait()
    stop.set()
    for thread in pool: thread.join()
    waits.sort()
    assert waits[25] < 0.05, waits[25]
    assert share < 0.7, share
    print("fine")
    """
    assert run(code, tree.root, timeout=60) == "fine\n"


def test_a_counter_at_rest_is_not_looked_at_between_samples(tree: StaticTree) -> None:
    """Looks are there to learn how often a counter changes, and this one does not."""
    code = """
    import sys, time
    from pathlib import Path
    from lithowatt import EnergyMeter
    meter = EnergyMeter(["rapl"], root=sys.argv[1], interval=0.05)
    begun = time.monotonic()
    meter.start()
    time.sleep(1)
    tasks = Path("/proc/self/task").iterdir()
    (sampler,) = [t for t in tasks if (t / "comm").read_text() == "lithowatt\\n"]
    status = (sampler / "status").read_text()
    sleeps = int(status.split("\\nvoluntary_ctxt_switches:")[1].split()[0])
    samples = (time.monotonic() - begun) / 0.05
    meter.stop()
    assert sleeps < 2 * samples, (sleeps, samples)
    print("fine")
    """
    assert run(code, tree.root) == "fine\n"


# -- nested and overlapping -----------------------------------------------------------------------


def test_nested_and_overlapping_meters_count_what_they_span(tree: StaticTree) -> None:
    a, b, c = (EnergyMeter(root=tree.root, interval=i) for i in (0.001, None, 0.01))
    for n, step in enumerate((a.start, b.start, c.start, a.stop, c.stop, b.stop), start=1):
        step()
        tree.add("package-0", n * 1_000_000)
    # a spans 1+2+3, b 2+3+4+5, c 3+4.
    for meter, joules in ((a, 6.0), (b, 14.0), (c, 7.0)):
        assert meter.reading.rapl.package == pytest.approx(joules, rel=1e-12)
    with EnergyMeter(root=tree.root) as outer:
        tree.add("package-0", 1_000_000)
        with EnergyMeter(root=tree.root) as inner, outer.phase("inner"):
            tree.add("package-0", 2_000_000)
        tree.add("package-0", 4_000_000)
    assert outer.reading.rapl.package == pytest.approx(7.0)
    assert inner.reading.rapl.package == pytest.approx(2.0)


def test_a_meter_is_used_again(tree: StaticTree) -> None:
    meter = EnergyMeter(root=tree.root)
    for joules in (1, 2, 3):
        with meter:
            with pytest.raises(MeterStateError):
                meter.start()
            tree.add("package-0", joules * 1_000_000)
        assert meter.reading.rapl.package == pytest.approx(joules)


# -- coroutines -----------------------------------------------------------------------------------


def test_a_coroutine_that_mostly_waits_pays_for_its_own_cpu_only(rig: Rig, steady: Steady) -> None:
    @measure(root=rig.root)
    async def fetch() -> str:
        for _ in range(5):
            burn(0.01)
            await asyncio.sleep(0.06)
        return "done"

    async def main() -> str:
        waiting = asyncio.ensure_future(fetch())
        while not waiting.done():
            burn(0.02)
            await asyncio.sleep(0)
        return await waiting

    @steady
    def check() -> None:
        assert asyncio.run(main()) == "done"
        reading = fetch.meter.reading  # type: ignore[attr-defined]
        assert reading.raw["scope"] == "task"
        assert reading.duration >= 0.3
        assert reading.cpu_seconds == pytest.approx(0.05, abs=0.012)
        active = reading.machine - reading.idle
        assert 0 < reading.marginal < 0.4 * active
        assert 0 < reading.joules < 0.5 * reading.machine
        truth = truth_of(rig, reading)
        assert reading.machine == pytest.approx(truth.machine, rel=0.03)


def test_two_coroutines_interleaved_get_their_own(rig: Rig, steady: Steady) -> None:
    seen: dict[str, Reading] = {}

    def keep(meter: EnergyMeter) -> None:
        seen[str(meter.label)] = meter.reading

    async def steps(cpu: float) -> float:
        for _ in range(20):
            burn(cpu / 20)
            await asyncio.sleep(0)
        return cpu

    light = measure(root=rig.root, label="light", on_result=keep)(steps)
    heavy = measure(root=rig.root, label="heavy", on_result=keep)(steps)

    async def main() -> list[float]:
        return list(await asyncio.gather(light(0.1), heavy(0.3)))

    @steady
    def check() -> None:
        assert asyncio.run(main()) == [0.1, 0.3]
        assert seen["light"].cpu_seconds == pytest.approx(0.1, rel=0.1)
        assert seen["heavy"].cpu_seconds == pytest.approx(0.3, rel=0.05)
        a, b = seen["light"].marginal or 0, seen["heavy"].marginal or 0
        assert b / a == pytest.approx(3.0, rel=0.3)
        assert a + b <= 1.02 * ((seen["heavy"].machine or 0) - (seen["heavy"].idle or 0))


def test_two_hundred_coroutines_at_once(rig: Rig, steady: Steady) -> None:
    @steady
    def check() -> None:
        readings: list[Reading] = []

        @measure(root=rig.root, methods=["rapl"], on_result=lambda m: readings.append(m.reading))
        async def call(n: int) -> int:
            for _ in range(3):
                burn(0.001)
                await asyncio.sleep(0.02)
            return n

        async def main() -> list[int]:
            return list(await asyncio.gather(*(call(n) for n in range(200))))

        with EnergyMeter(root=rig.root, methods=["rapl"]) as whole:
            assert asyncio.run(main()) == list(range(200))
        assert len(readings) == 200
        for reading in readings:
            assert reading.cpu_seconds is not None and 0.003 <= reading.cpu_seconds < 0.02
            assert 0 < (reading.marginal or 0) < 0.1 * (reading.machine or 0)
        cpu = sum(r.cpu_seconds or 0 for r in readings)
        assert 0.6 <= cpu <= (whole.reading.cpu_seconds or 0)
        total = sum(r.marginal or 0 for r in readings)
        assert total <= 1.02 * (whole.reading.marginal or 0) + 0.05


def test_async_with_meters_the_process(tree: StaticTree) -> None:
    async def main() -> EnergyMeter:
        async with EnergyMeter(root=tree.root) as meter:
            tree.add("package-0", 3_000_000)
            await asyncio.sleep(0.01)
        return meter

    meter = asyncio.run(main())
    assert meter.reading.rapl.package == pytest.approx(3.0)
    assert meter.reading.raw["scope"] == "process"
    assert not meter.running


def test_cancelled_coroutines_are_metered_and_cancelled(tree: StaticTree) -> None:
    @measure(root=tree.root)
    async def endless() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            tree.add("package-0", 1_000_000)

    async def main() -> None:
        task = asyncio.ensure_future(endless())
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(endless(), 0.02)

    asyncio.run(main())
    meter = endless.meter  # type: ignore[attr-defined]
    assert not meter.running and meter.reading.duration >= 0.015


# -- generators -----------------------------------------------------------------------------------


def test_a_generator_pays_for_its_own_cpu_only(rig: Rig, steady: Steady) -> None:
    @measure(root=rig.root)
    def numbers() -> Iterator[int]:
        for n in range(5):
            burn(0.02)
            yield n

    @steady
    def check() -> None:
        total = 0
        for n in numbers():
            burn(0.08)
            total += n
        assert total == 10
        reading = numbers.meter.reading  # type: ignore[attr-defined]
        assert reading.raw["scope"] == "task"
        assert reading.cpu_seconds == pytest.approx(0.1, rel=0.1)
        assert 0 < reading.marginal < 0.5 * (reading.machine - reading.idle)


def test_an_async_generator_pays_for_its_own_cpu_only(rig: Rig, steady: Steady) -> None:
    @measure(root=rig.root)
    async def numbers() -> AsyncIterator[int]:
        for n in range(5):
            burn(0.02)
            await asyncio.sleep(0.01)
            yield n

    async def main() -> int:
        total = 0
        async for n in numbers():
            burn(0.05)
            total += n
        return total

    @steady
    def check() -> None:
        assert asyncio.run(main()) == 10
        reading = numbers.meter.reading  # type: ignore[attr-defined]
        assert reading.cpu_seconds == pytest.approx(0.1, rel=0.15)
        assert 0 < reading.marginal < 0.6 * (reading.machine - reading.idle)


def test_a_generator_that_is_dropped_half_way_is_metered(tree: StaticTree) -> None:
    seen: list[EnergyMeter] = []

    @measure(root=tree.root, on_result=seen.append)
    def numbers() -> Iterator[int]:
        yield 1
        yield 2

    generator = numbers()
    assert next(generator) == 1
    tree.add("package-0", 1_000_000)
    del generator
    gc.collect()
    (meter,) = seen
    assert not meter.running
    assert meter.reading.rapl.package == pytest.approx(1.0)


# -- a decorated function is the function ---------------------------------------------------------


class Marked(Exception):
    """Nobody else raises it."""


def echo(log: list[Any]) -> Generator[Any, Any, str]:
    """A generator that shows all that is done to it."""
    received: Any = "start"
    try:
        while True:
            try:
                received = yield ("got", received)
            except KeyError as error:
                log.append(("caught", repr(error)))
                received = "recovered"
            if received == "return":
                return "the end"
            if received == "raise":
                raise Marked("from inside")
            if received == "stop":
                raise StopIteration("not allowed")
    except GeneratorExit:
        log.append("closed")
        raise
    finally:
        log.append("finally")


def stubborn(log: list[Any]) -> Generator[Any, Any, str]:
    """A generator that does not let itself be closed."""
    while True:
        try:
            yield 1
        except GeneratorExit:
            log.append("ignored")
            yield 2
            return "left"


async def async_echo(log: list[Any]) -> AsyncGenerator[Any, Any]:
    """The same, async."""
    received: Any = "start"
    try:
        while True:
            try:
                await asyncio.sleep(0)
                received = yield ("got", received)
            except KeyError as error:
                log.append(("caught", repr(error)))
                received = "recovered"
            if received == "return":
                return
            if received == "raise":
                raise Marked("from inside")
            if received == "stop":
                raise StopAsyncIteration("not allowed")
    except GeneratorExit:
        log.append("closed")
        raise
    finally:
        await asyncio.sleep(0)
        log.append("finally")


ACTIONS = st.lists(
    st.sampled_from(
        [
            ("next",),
            ("send", 1),
            ("send", None),
            ("send", "return"),
            ("send", "raise"),
            ("send", "stop"),
            ("throw", KeyError("k")),
            ("throw", Marked("thrown")),
            ("throw", StopIteration("thrown")),
            ("throw", GeneratorExit()),
            ("close",),
        ]
    ),
    max_size=8,
)


def shown(error: BaseException) -> tuple[Any, ...]:
    return (
        type(error),
        error.args,
        getattr(error, "value", None),
        type(error.__cause__),
        error.__suppress_context__,
    )


def drive(function: Callable[[list[Any]], Any], actions: list[tuple[Any, ...]]) -> list[Any]:
    """What a caller sees of a generator."""
    log: list[Any] = []
    generator = function(log)
    for name, *arguments in actions:
        try:
            if name == "next":
                log.append(next(generator))
            else:
                log.append(getattr(generator, name)(*arguments))
        except BaseException as error:
            log.append(shown(error))
    try:
        generator.close()
    except RuntimeError as error:
        log.append(shown(error))
    return log


async def async_drive(
    function: Callable[[list[Any]], Any], actions: list[tuple[Any, ...]]
) -> list[Any]:
    log: list[Any] = []
    names = {"next": "__anext__", "send": "asend", "throw": "athrow", "close": "aclose"}
    generator = function(log)
    for name, *arguments in actions:
        try:
            log.append(await getattr(generator, names[name])(*arguments))
        except BaseException as error:
            log.append(shown(error))
    with contextlib.suppress(RuntimeError):
        await generator.aclose()
    return log


@pytest.fixture(scope="module")
def quiet_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nothing to read: the wrappers alone."""
    return tmp_path_factory.mktemp("nothing")


@pytest.mark.parametrize("function", [echo, stubborn])
@settings(max_examples=80, deadline=None)
@given(actions=ACTIONS)
def test_a_generator_behaves_as_without_the_meter(
    quiet_root: Path, function: Any, actions: list[tuple[Any, ...]]
) -> None:
    metered = measure(root=quiet_root, interval=None)(function)
    assert drive(metered, actions) == drive(function, actions)


@settings(max_examples=80, deadline=None)
@given(actions=ACTIONS)
def test_an_async_generator_behaves_as_without_the_meter(
    quiet_root: Path, actions: list[tuple[Any, ...]]
) -> None:
    metered = measure(root=quiet_root, interval=None)(async_echo)

    async def both() -> None:
        assert await async_drive(metered, actions) == await async_drive(async_echo, actions)

    asyncio.run(both())


def plain(a: int, /, b: int = 2, *rest: int, key: str = "k", **more: int) -> tuple[Any, ...]:
    """A function of every kind of argument."""
    if a < 0:
        raise Marked(a)
    return (a, b, rest, key, more)


async def coroutine(a: int, *, fail: bool = False) -> int:
    """A coroutine."""
    await asyncio.sleep(0)
    if fail:
        raise Marked(a)
    return a


@pytest.mark.parametrize("function", [plain, coroutine, echo, async_echo])
def test_the_looks_are_the_function_s_own(quiet_root: Path, function: Any) -> None:
    metered = measure(root=quiet_root)(function)
    assert inspect.signature(metered) == inspect.signature(function)
    for name in ("__name__", "__qualname__", "__doc__", "__module__", "__annotations__"):
        assert getattr(metered, name) == getattr(function, name)
    assert metered.__wrapped__ is function
    for kind in (
        inspect.iscoroutinefunction,
        inspect.isgeneratorfunction,
        inspect.isasyncgenfunction,
        inspect.isfunction,
    ):
        assert kind(metered) == kind(function), kind
    assert metered.meter is None, "no call yet"


def test_results_and_exceptions_are_the_function_s_own(quiet_root: Path) -> None:
    metered: Any = measure(root=quiet_root)(plain)
    assert metered(1, 2, 3, key="x", more=4) == plain(1, 2, 3, key="x", more=4)
    with pytest.raises(Marked) as caught:
        metered(-1)
    assert caught.value.args == (-1,)
    assert caught.value.__context__ is None and caught.value.__cause__ is None
    assert "plain" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert not metered.meter.running
    with pytest.raises(TypeError) as ours:
        metered()
    with pytest.raises(TypeError) as theirs:
        plain()  # type: ignore[call-arg]
    assert str(ours.value) == str(theirs.value)
    awaited = measure(root=quiet_root)(coroutine)
    assert asyncio.run(awaited(5)) == 5
    with pytest.raises(Marked):
        asyncio.run(awaited(5, fail=True))
    for error in (SystemExit(3), KeyboardInterrupt(), GeneratorExit()):

        @measure(root=quiet_root)
        def leave(error: BaseException = error) -> None:
            raise error

        with pytest.raises(type(error)) as left:
            leave()
        assert left.value is error
        assert leave.meter is not None and not leave.meter.running  # type: ignore[attr-defined]


@pytest.mark.parametrize("function", [coroutine, echo, async_echo])
def test_wrong_arguments_are_refused_at_the_first_step(quiet_root: Path, function: Any) -> None:
    """With the same words; not at the call, so that the decorated function stays of its kind."""
    with pytest.raises(TypeError) as theirs:
        function()
    decorated = measure(root=quiet_root)(function)
    for kind in (
        inspect.iscoroutinefunction,
        inspect.isgeneratorfunction,
        inspect.isasyncgenfunction,
    ):
        assert kind(decorated) == kind(function)
    made = decorated()
    with pytest.raises(TypeError) as ours:
        if inspect.isgenerator(made):
            next(made)
        elif inspect.iscoroutine(made):
            made.send(None)
        else:
            made.__anext__().send(None)
    assert str(ours.value) == str(theirs.value)


def test_methods_of_every_kind(quiet_root: Path) -> None:
    options: dict[str, Any] = {"root": quiet_root, "interval": None}

    class Base:
        factor = 3

        @measure(**options)
        def method(self, x: int) -> int:
            return self.factor * x

        @classmethod
        @measure(**options)
        def inner_class(cls, x: int) -> tuple[str, int]:
            return cls.__name__, x

        @measure(**options)
        @classmethod
        def outer_class(cls, x: int) -> tuple[str, int]:
            return cls.__name__, x

        @measure(**options)
        @staticmethod
        def outer_static(x: int) -> int:
            return x + 1

        @staticmethod
        @measure(**options)
        def inner_static(x: int) -> int:
            return x + 1

        @property
        @measure(**options)
        def value(self) -> int:
            return self.factor

        @measure(**options)
        async def later(self, x: int) -> int:
            await asyncio.sleep(0)
            return self.factor * x

        @EnergyMeter(**options)
        def by_meter(self, x: int) -> int:
            return -x

    class Derived(Base):
        factor = 5

        def method(self, x: int) -> int:
            return super().method(x) + 1

    a, b = Base(), Derived()
    assert (a.method(2), b.method(2)) == (6, 11)
    assert Base.inner_class(1) == ("Base", 1) and b.inner_class(1) == ("Derived", 1)
    assert Derived.outer_class(1) == ("Derived", 1) and a.outer_class(1) == ("Base", 1)
    assert a.outer_static(1) == Base.outer_static(1) == Base.inner_static(1) == 2
    assert (a.value, b.value) == (3, 5)
    assert asyncio.run(b.later(2)) == 10
    assert a.by_meter(4) == -4
    meter = Base.method.meter  # type: ignore[attr-defined]
    assert not meter.running
    assert meter.label.endswith("Base.method")


def test_recursion_and_callables(quiet_root: Path) -> None:
    meters: list[EnergyMeter] = []

    @measure(root=quiet_root, interval=None, on_result=meters.append)
    def factorial(n: int) -> int:
        return 1 if n < 2 else n * factorial(n - 1)

    assert factorial(20) == 2432902008176640000
    assert len(meters) == 20 and len({id(m) for m in meters}) == 20
    durations = [meter.duration for meter in meters]
    assert durations == sorted(durations), "the inner calls end first and are shorter"

    class Callable_:
        def __call__(self, x: int) -> int:
            return x * 2

    assert measure(root=quiet_root)(Callable_())(4) == 8
    assert measure(root=quiet_root)(functools.partial(plain, 1))(b=3) == plain(1, b=3)
    with pytest.raises(TypeError):
        measure(root=quiet_root)(42)  # type: ignore[type-var]


def test_an_on_result_that_fails_changes_nothing(
    quiet_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(meter: EnergyMeter) -> None:
        raise Marked("in on_result")

    assert measure(root=quiet_root, on_result=fail)(plain)(1) == plain(1)
    assert "on_result" in caplog.text


@measure
def module_level(x: int) -> int:
    """Pickled by name, as every function that goes to a worker."""
    return x + 1


def test_a_decorated_function_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(module_level)) is module_level


# -- forks ----------------------------------------------------------------------------------------


def test_fork_with_a_running_meter(tree: StaticTree) -> None:
    code = """
    import os, sys, time
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # numpy's threads spin when they begin
    from lithowatt import EnergyMeter
    root = sys.argv[1]
    m = EnergyMeter(root=root, interval=0.001)
    m.start()
    time.sleep(0.02)
    pid = os.fork()
    if pid == 0:
        ok = not m.running
        m.stop()
        r = m.reading
        ok = ok and r.joules is None and "fork" in r.raw["headline_reason"]
        s = m.stats()
        ok = ok and s["worker_func_rapl_energy_pkg"] is None
        ok = ok and "fork" in s["worker_func_rapl_source"]
        ok = ok and len(m.timeline()) == 0
        repr(m)
        # It can meter itself anew, with this meter and with another.
        for meter in (m, EnergyMeter(root=root, interval=0.001)):
            with meter:
                end = time.thread_time() + 0.05
                while time.thread_time() < end: pass
            r = meter.reading
            ok = ok and 0.045 < r.cpu_seconds < 0.08 and r.samples > 3
        os._exit(0 if ok else 9)
    assert os.waitpid(pid, 0)[1] == 0
    assert m.running
    before = m.reading.samples
    time.sleep(0.05)
    m.stop()
    assert m.reading.samples > before + 5, (before, m.reading.samples)
    # The child that was waited for is ours.
    assert m.reading.cpu_seconds >= 0.09
    print("fine")
    """
    assert run(code, tree.root) == "fine\n"


def test_a_fork_takes_over_the_counters_that_are_open(tmp_path: Path) -> None:
    """Opening them anew would cost every call of a worker: here they cannot be opened any more."""
    code = """
    import os, sys
    sys.path.insert(0, sys.argv[1])
    from lithowatt import EnergyMeter
    from rig import StaticTree

    tree = StaticTree(sys.argv[2], domains=("package",))

    def metered(generation, joules):
        with EnergyMeter(root=tree.root, interval=None) as meter:
            tree.add("package-0", joules * 1_000_000)
        print(generation, meter.reading.rapl.package, flush=True)

    # With a sampler thread, which the child does not have.
    with EnergyMeter(root=tree.root, interval=0.001):
        pass
    os.rename(tree.root / "sys/class/powercap", tree.root / "hidden")
    child = os.fork()
    if child == 0:
        metered("child", 3)
        grandchild = os.fork()
        if grandchild == 0:
            metered("grandchild", 4)
            os._exit(0)
        os.waitpid(grandchild, 0)
        os._exit(0)
    os.waitpid(child, 0)
    metered("parent", 20)
    """
    out = run(code, RIG, tmp_path / "own")
    got = dict(line.split() for line in out.splitlines())
    assert got["child"] == "3.0" and got["grandchild"] == "4.0"
    # It holds what it opened. Its tree knows nothing of the 7 J that its children had added.
    assert got["parent"] == "13.0"


def test_a_fork_opens_nothing_but_its_own_memory(tree: StaticTree) -> None:
    """What the parent has open is the machine's, and so is what it did not find."""
    code = """
    import os, sys
    from lithowatt import EnergyMeter

    def opened():
        return set(os.listdir("/proc/self/fd"))

    with EnergyMeter(root="/"):
        pass
    if os.fork() == 0:
        meter = EnergyMeter(root="/")
        before = opened()
        for _ in range(2):
            with meter:
                sum(range(1000))
        assert meter.reading.duration > 0 and meter.reading.system is not None
        named = [f"/proc/self/fd/{fd}" for fd in opened() - before]
        names = [os.readlink(path) for path in named if os.path.exists(path)]
        print(sorted(name.split("/")[-1] for name in names), flush=True)
        os._exit(0)
    os.wait()
    """
    out = run(code, tree.root)
    assert out in ("['statm']\n", "[]\n"), out


def test_a_child_drops_its_parent_s_meter(tree: StaticTree) -> None:
    code = """
    import os, sys, time
    from lithowatt import EnergyMeter
    root = sys.argv[1]
    with EnergyMeter(root=root, interval=0.001) as m:
        with m.phase("outer"):
            pid = os.fork()
        # Both leave the block, the child in the ordinary way too.
    if pid == 0:
        del m
        import gc; gc.collect()
        sys.exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert m.reading.duration > 0
    print("fine")
    """
    assert run(code, tree.root) == "fine\n"


def test_forks_in_threads_while_the_sampler_runs(tree: StaticTree) -> None:
    code = """
    import os, sys, threading, time
    from lithowatt import EnergyMeter
    root = sys.argv[1]
    stop = threading.Event()
    bad = []
    def meters():
        while not stop.is_set():
            with EnergyMeter(root=root, interval=0.001) as m:
                with m.phase("x"): m.reading
    def forks():
        for _ in range(40):
            pid = os.fork()
            if pid == 0:
                with EnergyMeter(root=root, interval=0.001) as m:
                    time.sleep(0.003)
                os._exit(0 if m.reading.duration > 0 else 9)
            if os.waitpid(pid, 0)[1] != 0: bad.append(pid)
    whole = EnergyMeter(root=root, interval=0.001)
    whole.start()
    whole.reading
    busy = [threading.Thread(target=meters) for _ in range(2)]
    forking = [threading.Thread(target=forks) for _ in range(3)]
    for t in busy + forking: t.start()
    for t in forking: t.join()
    stop.set()
    for t in busy: t.join()
    whole.stop()
    assert not bad, bad
    assert whole.reading.samples > 10
    print("fine")
    """
    assert run(code, tree.root, timeout=120) == "fine\n"


def test_metering_imports_nothing_more(tree: StaticTree) -> None:
    """A fork while another thread imports leaves the child with a lock that nobody will open."""
    code = """
    import sys
    from lithowatt import EnergyMeter
    before = set(sys.modules)
    m = EnergyMeter(root=sys.argv[1], interval=0.001)
    with m:
        with m.phase("x"): m.joules
    m.reading.joules, m.watts, m.duration, m.stats(), repr(m), str(m.reading)
    print(sorted(set(sys.modules) - before))
    """
    assert run(code, tree.root) == "[]\n"


# The default is fork up to Python 3.13 and forkserver from 3.14 on.
@pytest.mark.parametrize("method", ["default", "fork", "spawn", "forkserver"])
def test_multiprocessing(tree: StaticTree, tmp_path: Path, method: str) -> None:
    script = tmp_path / "job.py"
    script.write_text(
        textwrap.dedent(
            """
            import multiprocessing, sys, time
            from lithowatt import EnergyMeter, measure

            @measure(root=sys.argv[1], interval=0.005)
            def work(cpu):
                end = time.thread_time() + cpu
                while time.thread_time() < end: pass
                return cpu

            def job(cpu):
                result = work(cpu)
                return result, work.meter.reading.cpu_seconds

            if __name__ == "__main__":
                method = None if sys.argv[2] == "default" else sys.argv[2]
                context = multiprocessing.get_context(method)
                with EnergyMeter(root=sys.argv[1], interval=0.005) as whole:
                    with context.Pool(2) as pool:
                        answers = pool.map(job, [0.05, 0.1, 0.15], chunksize=1)
                        pool.close()
                        pool.join()
                for cpu, metered in answers:
                    assert cpu - 0.002 <= metered <= cpu + 0.05, (cpu, metered)
                # A forkserver's workers are the forkserver's children: they are ours, too.
                assert whole.reading.cpu_seconds >= 0.295, whole.reading.cpu_seconds
                print("fine")
            """
        )
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", script, tree.root, method],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    assert (done.returncode, done.stdout) == (0, "fine\n")


def test_a_task_that_nobody_drives_has_a_reason_and_no_energy(tree: StaticTree) -> None:
    meter = EnergyMeter(scope="task", interval=None, root=tree.root)

    @meter
    def work() -> int:
        return sum(range(100_000))

    assert work() == sum(range(100_000))
    with meter:
        work()
        readings = [meter.reading]
    readings += [meter.reading, work.meter.reading]  # type: ignore[attr-defined]
    for reading in readings:
        assert (reading.joules, reading.cpu_seconds) == (None, None)
        assert "meters coroutines and generators" in str(reading.reason)


@pytest.mark.parametrize("act", [copy.copy, pickle.dumps, EnergyMeter.stats, repr])
def test_another_threads_look_does_not_stop_a_meter_from_being_used(
    act: Callable[[EnergyMeter], object], tree: StaticTree
) -> None:
    meter = EnergyMeter("psutil,model", interval=0.001, root=tree.root)
    meter.start()
    ended = threading.Event()
    odd: list[BaseException] = []

    def look() -> None:
        while not ended.is_set():
            try:
                act(meter)
            except BaseException as error:
                odd.append(error)

    looking = threading.Thread(target=look)
    switching = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        looking.start()
        for _ in range(300):
            meter.stop()
            with meter:
                meter.label = "used"
            meter.start()
    finally:
        ended.set()
        sys.setswitchinterval(switching)
        looking.join()
    assert odd == []
    assert meter.running
    meter.stop()


def test_a_block_ends_quietly_where_a_copy_is_begun_in_another_thread() -> None:
    code = (
        "import copy, pickle, sys, threading, time\n"
        "from lithowatt import EnergyMeter\n"
        "with EnergyMeter('psutil,model', interval=0.005) as m:\n"
        "    time.sleep(0.05)\n"
        "    copying = threading.Thread(target=copy.copy, args=(m,))\n"
        "    copying.start()\n"
        "    time.sleep(0.01)\n"
        "copying.join()\n"
        "arrived = pickle.loads(pickle.dumps(m))\n"
        "print(m.running, 'numpy' in sys.modules)\n"
        "print(len(arrived.timeline()) == len(m.timeline()) > 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "False False\nTrue\n", "")


def test_another_process_by_its_pid(rig: Rig, steady: Steady) -> None:
    @steady
    def check() -> None:
        code = "import time\nprint(flush=True)\nwhile True: pass"
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            try:
                with EnergyMeter(root=rig.root, pid=child.pid) as meter:
                    before = time.clock_gettime((~child.pid << 3) | 2)
                    time.sleep(0.3)
                    used = time.clock_gettime((~child.pid << 3) | 2) - before
            finally:
                child.kill()
        assert meter.reading.cpu_seconds == pytest.approx(used, abs=0.03)
        assert (meter.reading.marginal or 0) > 0


# -- signals --------------------------------------------------------------------------------------


def test_signals_reach_the_main_thread_while_the_sampler_runs(
    tree: StaticTree, steady: Steady
) -> None:
    @steady
    def check() -> None:
        threads: list[int] = []
        late: list[float] = []
        due = time.monotonic() + 0.005

        def handler(number: int, frame: object) -> None:
            nonlocal due
            now = time.monotonic()
            threads.append(threading.get_ident())
            late.append(now - due)
            due = now + 0.005

        old = signal.signal(signal.SIGALRM, handler)
        try:
            with EnergyMeter(root=tree.root, interval=0.001) as meter:
                signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
                end = time.monotonic() + 0.5
                while time.monotonic() < end:
                    pass
                signal.setitimer(signal.ITIMER_REAL, 0)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, old)
        assert set(threads) == {threading.main_thread().ident}
        assert len(threads) >= 70
        assert sorted(late)[len(late) // 2] < 0.005
        assert meter.reading.samples > 50


def test_the_sampler_thread_blocks_every_signal(tree: StaticTree) -> None:
    with EnergyMeter(root=tree.root, interval=0.001):
        time.sleep(0.02)
        ours: list[int] = []
        for task in Path("/proc/self/task").iterdir():
            if (task / "comm").read_text().strip() == "lithowatt":
                status = (task / "status").read_text()
                line = next(x for x in status.splitlines() if x.startswith("SigBlk"))
                ours.append(int(line.split()[1], 16))
        assert ours
        for mask in ours:
            for number in (signal.SIGALRM, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
                assert mask >> (number - 1) & 1
    # And the thread that started it goes on receiving them.
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()


def test_ctrl_c_is_what_it_was(tree: StaticTree) -> None:
    code = """
    import os, signal, sys, time
    from lithowatt import EnergyMeter
    try:
        with EnergyMeter(root=sys.argv[1], interval=0.001) as m:
            time.sleep(0.02)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
    except KeyboardInterrupt:
        assert m.reading.duration < 2
        print("fine")
    """
    assert run(code, tree.root) == "fine\n"


# -- the interpreter ------------------------------------------------------------------------------


def test_samples_are_taken_while_python_is_busy(tree: StaticTree, steady: Steady) -> None:
    @steady
    def check() -> None:
        with EnergyMeter(root=tree.root, interval=0.01) as meter:
            end = time.monotonic() + 0.5
            x = 0
            while time.monotonic() < end:
                x += 1
        reading = meter.reading
        assert reading.samples >= 0.8 * reading.duration / 0.01
        # At the pace that was asked for, not faster.
        assert reading.samples <= 1.1 * reading.duration / 0.01 + 2


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        ("pass", 0),
        ("sys.exit(7)", 7),
        ("os._exit(5)", 5),
        ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(5)", -signal.SIGTERM),
        ("os.kill(os.getpid(), signal.SIGKILL); time.sleep(5)", -signal.SIGKILL),
        ("os.execv(sys.executable, [sys.executable, '-c', ''])", 0),
    ],
)
def test_the_interpreter_may_end_with_a_running_meter(
    tree: StaticTree, ending: str, expected: int
) -> None:
    code = f"""
    import os, signal, sys, threading, time
    from lithowatt import EnergyMeter
    m = EnergyMeter(root=sys.argv[1], interval=0.001)
    m.start()
    with EnergyMeter(root=sys.argv[1], interval=0.001, scope="thread"): pass
    def endless():
        while True:
            with EnergyMeter(root=sys.argv[1], interval=0.001): pass
    threading.Thread(target=endless, daemon=True).start()
    time.sleep(0.02)
    {ending}
    """
    begun = time.monotonic()
    assert run(code, tree.root, timeout=60, expected=expected) == ""
    assert time.monotonic() - begun < 10


def test_a_meter_at_exit_may_still_be_stopped(tree: StaticTree) -> None:
    code = """
    import atexit, sys
    from lithowatt import EnergyMeter
    m = EnergyMeter(root=sys.argv[1], interval=0.001)
    m.start()
    @atexit.register
    def last():
        m.stop()
        print(m.reading.duration > 0)
    """
    assert run(code, tree.root) == "True\n"
