"""The Python API as a user meets it: forms of use, text, imports, switches, types, command line."""

from __future__ import annotations

import asyncio
import copy
import csv
import importlib.metadata
import importlib.util
import inspect
import io
import json
import logging
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import lithowatt
from lithowatt import EnergyMeter, PowerModel, measure
from lithowatt._support.command import OURS, runnable
from lithowatt.cli.run import render
from rig import StaticTree
from tests.support import TOP

PACKAGE = Path(lithowatt.__file__).parent


def spin(seconds: float) -> float:
    """Uses one CPU; returns its CPU time, s."""
    begun = time.thread_time()
    while time.thread_time() - begun < seconds:
        pass
    return time.thread_time() - begun


def python(code: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs code in a fresh interpreter."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **env},
        check=False,
    )


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[StaticTree]:
    """Two counters that the test sets."""
    with StaticTree(tmp_path / "root", domains=("package", "dram")) as tree:
        yield tree


# -- forms of use -------------------------------------------------------------------------------


def test_a_with_statement() -> None:
    meter = EnergyMeter()
    with meter as m:
        assert m is meter
        assert m.running
        spin(0.02)
    assert not m.running
    assert m.joules is not None and m.joules > 0
    assert m.watts == pytest.approx(m.joules / m.duration)


def test_start_and_stop() -> None:
    m = EnergyMeter()
    m.start()
    spin(0.02)
    m.stop()
    assert m.reading.cpu_seconds >= 0.02


def test_the_exception_of_the_block_passes_through() -> None:
    error = KeyError("mine")
    with pytest.raises(KeyError) as caught, EnergyMeter() as m:
        raise error
    assert caught.value is error
    assert not m.running
    assert m.duration > 0


def test_a_meter_stopped_inside_its_block() -> None:
    with EnergyMeter() as m:
        m.stop()
        duration = m.duration
        time.sleep(0.01)
    assert m.duration == duration


def test_async_with() -> None:
    async def main() -> EnergyMeter:
        async with EnergyMeter() as m:
            await asyncio.sleep(0.01)
            spin(0.01)
        return m

    m = asyncio.run(main())
    assert m.duration >= 0.02
    assert m.reading.cpu_seconds >= 0.01


def test_a_meter_is_used_again() -> None:
    m = EnergyMeter(label="again")
    seen = []
    for seconds in (0.03, 0.01):
        with m:
            spin(seconds)
        seen.append((m.duration, m.reading.cpu_seconds, m.joules))
    assert seen[0][0] > seen[1][0]
    assert seen[0][1] > seen[1][1]
    assert m.label == "again"


def test_meters_nest_and_overlap() -> None:
    first, second = EnergyMeter(), EnergyMeter()
    with first:
        spin(0.02)
        second.start()
        spin(0.02)
    spin(0.02)
    second.stop()
    with EnergyMeter() as outer:
        with EnergyMeter() as inner:
            spin(0.02)
        spin(0.02)
    assert outer.duration > inner.duration
    assert outer.reading.cpu_seconds > inner.reading.cpu_seconds
    assert first.reading.cpu_seconds == pytest.approx(second.reading.cpu_seconds, rel=0.3)


def test_a_running_meter_is_read(tree: StaticTree) -> None:
    with EnergyMeter(root=tree.root) as m:
        seen = []
        for _ in range(3):
            time.sleep(0.01)
            tree.add("package-0", 1_000_000)
            reading = m.reading
            assert reading.running
            seen.append((reading.duration, reading.rapl.package, len(m.timeline())))
    assert [joules for _, joules, _ in seen] == pytest.approx([1.0, 2.0, 3.0])
    assert sorted(seen) == seen
    assert m.reading.running is False
    assert m.reading.rapl.package == pytest.approx(3.0)


def test_a_reading_that_was_taken_does_not_change(tree: StaticTree) -> None:
    with EnergyMeter(root=tree.root) as m:
        tree.add("package-0", 1_000_000)
        before = m.reading
        tree.add("package-0", 1_000_000)
    assert before.rapl.package == pytest.approx(1.0)
    assert m.reading.rapl.package == pytest.approx(2.0)


def test_one_meter_of_a_thread(tree: StaticTree) -> None:
    meters: dict[str, EnergyMeter] = {}

    def work(name: str, seconds: float) -> None:
        with EnergyMeter(scope="thread") as m:
            spin(seconds)
        meters[name] = m

    threads = [
        threading.Thread(target=work, args=(name, seconds))
        for name, seconds in (("short", 0.05), ("long", 0.15))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert meters["short"].reading.cpu_seconds == pytest.approx(0.05, abs=0.01)
    assert meters["long"].reading.cpu_seconds == pytest.approx(0.15, abs=0.01)


def test_a_forgotten_meter_does_not_keep_sampling() -> None:
    EnergyMeter(interval=0.001).start()
    with EnergyMeter() as m:
        spin(0.001)
    assert m.duration > 0


# -- decorators ---------------------------------------------------------------------------------


def test_measure_bare_and_with_options() -> None:
    @measure
    def bare(x: int) -> int:
        """Doubles."""
        return 2 * x

    @measure(label="named", methods=["tdp"])
    def named(x: int) -> int:
        return 3 * x

    assert (bare(4), named(4)) == (8, 12)
    assert (bare.__name__, bare.__doc__) == ("bare", "Doubles.")
    assert "bare" in bare.meter.label  # type: ignore[attr-defined]
    assert named.meter.label == "named"  # type: ignore[attr-defined]
    assert named.meter.stats()["worker_func_psutil_available"] is False  # type: ignore[attr-defined]


def test_an_energy_meter_is_a_decorator() -> None:
    @EnergyMeter(label="decorated", interval=None)
    def work() -> float:
        return spin(0.02)

    used = work()
    meter = work.meter  # type: ignore[attr-defined]
    assert meter.label == "decorated"
    assert meter.reading.cpu_seconds >= used
    assert meter.reading.raw["interval"] is None


def test_each_call_has_its_own_meter() -> None:
    meters: list[EnergyMeter] = []

    @measure(on_result=meters.append)
    def work(depth: int) -> None:
        spin(0.005)
        if depth:
            work(depth - 1)

    work(2)
    assert len(meters) == 3
    durations = [m.duration for m in meters]
    assert durations == sorted(durations)


def test_what_the_function_raises_passes_through_metered() -> None:
    meters: list[EnergyMeter] = []

    @measure(on_result=meters.append)
    def work() -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        work()
    assert meters[0].duration > 0


def test_what_on_result_raises_is_logged_and_dropped(caplog: pytest.LogCaptureFixture) -> None:
    def bad(_meter: EnergyMeter) -> None:
        raise RuntimeError("not the function's")

    @measure(on_result=bad)
    def work() -> int:
        return 1

    with caplog.at_level(logging.ERROR, logger="lithowatt"):
        assert work() == 1
    assert "on_result" in caplog.text


class Worker:
    """Methods of all kinds."""

    factor = 3

    @measure
    def method(self, x: int) -> int:
        return self.factor * x

    @classmethod
    @measure
    def of_class(cls, x: int) -> int:
        return cls.factor * x

    @measure
    @classmethod
    def outside_of_class(cls, x: int) -> int:
        return cls.factor * x

    @measure
    @staticmethod
    def static(x: int) -> int:
        return 3 * x


def test_methods_of_all_kinds() -> None:
    worker = Worker()
    calls = (worker.method, worker.of_class, worker.outside_of_class, worker.static)
    assert [call(2) for call in calls] == [6, 6, 6, 6]
    assert (Worker.of_class(2), Worker.outside_of_class(2), Worker.static(2)) == (6, 6, 6)
    assert Worker.method.meter.duration > 0  # type: ignore[attr-defined]


def test_a_coroutine_is_metered_while_it_runs() -> None:
    @measure
    async def work() -> int:
        spin(0.02)
        await asyncio.sleep(0.05)
        spin(0.02)
        return 5

    assert inspect.iscoroutinefunction(work)
    assert asyncio.run(work()) == 5
    reading = work.meter.reading  # type: ignore[attr-defined]
    assert reading.cpu_seconds == pytest.approx(0.04, abs=0.01)
    assert reading.duration >= 0.09


def test_interleaved_coroutines_have_their_own_cpu_time() -> None:
    meters: dict[str, EnergyMeter] = {}

    async def main() -> None:
        for name, seconds in (("a", 0.01), ("b", 0.03)):

            @measure(label=name, on_result=lambda m: meters.update({m.label: m}))
            async def work(seconds: float = seconds) -> None:
                for _ in range(3):
                    spin(seconds)
                    await asyncio.sleep(0)

            tasks.append(asyncio.create_task(work()))
        await asyncio.gather(*tasks)

    tasks: list[asyncio.Task[None]] = []
    asyncio.run(main())
    assert meters["a"].reading.cpu_seconds == pytest.approx(0.03, abs=0.01)
    assert meters["b"].reading.cpu_seconds == pytest.approx(0.09, abs=0.01)


def test_a_cancelled_coroutine_is_cancelled() -> None:
    @measure
    async def work() -> None:
        await asyncio.sleep(10)

    async def main() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0.01)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert work.meter.duration > 0  # type: ignore[attr-defined]


def test_a_generator_keeps_its_protocol() -> None:
    @measure
    def work() -> Iterator[Any]:
        got = yield 1
        try:
            yield got
        except KeyError:
            yield "caught"
        return "done"

    generator = work()
    assert next(generator) == 1
    assert generator.send(2) == 2  # type: ignore[attr-defined]
    time.sleep(0.05)
    assert generator.throw(KeyError()) == "caught"  # type: ignore[attr-defined]
    with pytest.raises(StopIteration) as ended:
        next(generator)
    assert ended.value.value == "done"
    assert inspect.isgeneratorfunction(inspect.unwrap(work))
    assert work.meter.reading.cpu_seconds < 0.02  # type: ignore[attr-defined]


def test_a_generator_that_is_dropped() -> None:
    closed = []

    @measure
    def work() -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append(True)

    for item in work():
        assert item == 1
        break
    assert closed == [True]
    assert work.meter is not None  # type: ignore[attr-defined]


def test_an_async_generator() -> None:
    @measure
    async def work() -> AsyncIterator[int]:
        for i in range(3):
            spin(0.005)
            await asyncio.sleep(0.01)
            yield i

    async def main() -> list[int]:
        return [i async for i in work()]

    assert asyncio.run(main()) == [0, 1, 2]
    assert work.meter.reading.cpu_seconds == pytest.approx(0.015, abs=0.01)  # type: ignore[attr-defined]


def test_a_decorated_function_is_pickled_by_its_name() -> None:
    assert pickle.loads(pickle.dumps(decorated)) is decorated


@measure
def decorated(x: int) -> int:
    """For the test above: a name that can be imported."""
    return x


# -- text ---------------------------------------------------------------------------------------


def test_text_of_a_reading(tree: StaticTree) -> None:
    with EnergyMeter(root=tree.root, label="pi") as m, m.phase("compute"):
        spin(0.05)
        tree.add("package-0", 2_000_000)
        tree.add("package-0/dram", 500_000)
    line = repr(m)
    assert "\n" not in line
    assert "EnergyMeter" in line and "'pi'" in line and " J " in line and " W " in line
    assert "Reading" in repr(m.reading)
    table = str(m.reading)
    for word in ("energy", "rapl package", "rapl dram", "rapl total", "model", "phase compute"):
        assert word in table
    html = m._repr_html_()
    assert html.startswith("<table") and "<caption>pi</caption>" in html
    assert repr(m.reading.rapl).startswith("<package=2 J, dram=0.5 J")
    # Kernel probes may be loaded on this machine.
    assert "unavailable" in repr(m.reading.ebpf) or m.reading.raw["ebpf"]["available"]


def test_text_without_energy_says_why() -> None:
    with EnergyMeter(methods="psutil") as m:
        pass
    assert "no energy" in repr(m)
    assert m.joules is None
    assert m.watts is None
    assert "–" in str(m.reading)


def test_text_of_a_meter_that_never_ran() -> None:
    m = EnergyMeter()
    assert "not started" in repr(m)
    assert "not started" in m._repr_html_()


def test_no_exponent_where_people_do_not_expect_one() -> None:
    from lithowatt._support.text import format_number

    assert [format_number(x) for x in (0, 0.0001, 12345.6, 1.5, 9_999_999.0)] == [
        "0",
        "0.0001",
        "12346",
        "1.5",
        "9999999",
    ]
    assert format_number(1.5e-9) == "1.500e-09"


# -- the timeline -------------------------------------------------------------------------------


def test_timeline_has_the_energy_of_the_window(tree: StaticTree) -> None:
    np = pytest.importorskip("numpy")
    with EnergyMeter(root=tree.root, interval=0.005) as m:
        for _ in range(10):
            time.sleep(0.01)
            tree.add("package-0", 400_000)
    line = m.timeline()
    assert len(line) >= 5
    assert (np.diff(line.times_ns.astype(np.int64)) > 0).all()
    assert line.t[-1] == pytest.approx(m.duration, abs=1e-6)
    watts = line.watts["rapl:package-0"]
    assert watts.shape == line.t.shape == line.cpu.shape
    lengths = np.diff(line.times_ns.astype(np.float64)) * 1e-9
    assert (watts * lengths).sum() == pytest.approx(m.reading.rapl.package)
    assert line.integrate("rapl:package-0", 0, m.duration) == pytest.approx(4.0, rel=1e-3)
    assert line.integrate("rapl:package-0", -1, 1) is None
    with pytest.raises(KeyError, match="rapl:package-0"):
        line.integrate("rapl:package-9", 0, 1)
    assert "intervals" in repr(line)


def test_timeline_of_edges_only_is_empty() -> None:
    pytest.importorskip("numpy")
    with EnergyMeter(interval=None) as m:
        pass
    line = m.timeline()
    assert len(line) == 0
    assert line.watts == {}
    assert "no samples" in repr(line)


def model_timeline(meter: EnergyMeter) -> tuple[Any, Any]:
    """Modelled watts of the machine in each interval, and the intervals' lengths in s."""
    np = pytest.importorskip("numpy")
    line = meter.timeline()
    lengths = np.diff(line.times_ns.astype(np.float64)) * 1e-9
    return line.watts["model:package"] + line.watts["model:dram"], lengths


@pytest.mark.slow
@pytest.mark.parametrize("interval", [0.02, 0.1, 0.5])
@pytest.mark.parametrize("window", [0.03, 0.7])
def test_the_models_timeline_has_the_watts_of_each_interval(interval: float, window: float) -> None:
    meter = EnergyMeter(methods="tdp,psutil", interval=interval)
    for _ in range(2):
        with meter:
            end = time.monotonic() + window / 2
            while time.monotonic() < end:
                pass
            time.sleep(window / 2)
            running, _ = model_timeline(meter)
        watts, lengths = model_timeline(meter)
        division = meter.reading.raw["headline"]["division"]
        idle = division["idle"] / meter.duration
        # Never less than at rest, and the window's energy nowhere but where it was.
        for some in (running, watts):
            assert len(some) and (some >= 0.99 * idle).all(), some
        assert (watts * lengths).sum() == pytest.approx(division["machine"], rel=1e-6)
        assert watts.max() <= 1.01 * full_watts(meter)
        assert (meter.timeline().cpu * lengths).sum() == pytest.approx(meter.reading.cpu_seconds)


def full_watts(meter: EnergyMeter) -> float:
    """The model's watts with all CPUs of the machine busy: a sandbox takes no more."""
    around = meter.reading.raw["environment"]
    vcpus, gib = float(around["allotted"]["machine_cpus"]), around["memory_gib"] or 0.0
    return PowerModel.for_machine().share_watts(vcpus, vcpus, gib).total.value


def test_the_models_columns_beside_a_counters(tree: StaticTree) -> None:
    with EnergyMeter(root=tree.root, methods="rapl,tdp", interval=0.02) as meter:
        for _ in range(20):
            time.sleep(0.02)
            tree.add("package-0", 400_000)
    watts, _ = model_timeline(meter)
    model = meter.reading.raw["model"]["division"]
    assert (watts >= 0.99 * model["idle"] / meter.duration).all()


@pytest.mark.slow
def test_timeline_to_pandas(tree: StaticTree) -> None:
    pytest.importorskip("pandas")
    with EnergyMeter(root=tree.root, interval=0.005) as m:
        time.sleep(0.03)
        tree.add("package-0", 400_000)
    frame = m.timeline().to_pandas()
    assert frame.index.name == "t"
    assert {"rapl:package-0", "cpu"} <= set(frame.columns)
    assert set(frame.attrs["units"]) == set(frame.columns)
    assert (frame.attrs["units"]["rapl:package-0"], frame.attrs["units"]["cpu"]) == ("W", "CPUs")


# -- copies -------------------------------------------------------------------------------------


def sent(meter: EnergyMeter) -> Any:
    return pickle.loads(pickle.dumps(meter))


@pytest.mark.parametrize("act", [sent, copy.copy, copy.deepcopy])
def test_a_copied_meter_tells_of_its_window_and_may_be_used_again(act: Any) -> None:
    options: Any = {"methods": ["tdp"], "interval": 0.01, "label": "L", "estimation": "vcpu"}
    m = EnergyMeter(**options)
    m.label = "renamed"
    unused = act(m)
    assert not unused.running
    with pytest.raises(lithowatt.MeterStateError):
        unused.stats()
    with unused:
        spin(0.02)
    assert unused.label == "renamed"
    assert unused.reading.raw["interval"] == 0.01
    assert unused.stats()["worker_func_psutil_available"] is False

    with m, m.phase("compute"):
        spin(0.05)
        running = act(m)
        assert m.running, "the copied one goes on"
    assert not running.running
    assert 0 < running.duration < m.duration

    copied = act(act(m))
    assert copied.stats() == m.stats()
    assert copied.stats(compact=True) == m.stats(compact=True)
    assert json.loads(copied.stats_json()) == m.stats()
    assert copied.reading.raw == m.reading.raw
    assert repr(copied) == repr(m)
    assert (copied.timeline().times_ns == m.timeline().times_ns).all()
    before = copied.joules
    with copied:
        pass
    assert copied.duration < m.duration
    assert copied.joules != before
    assert type(copied) is EnergyMeter


def test_a_meter_of_what_is_not_here_is_unpickled_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "cpu.stat").write_text("usage_usec 5\n")
    with EnergyMeter(cgroup=tmp_path, interval=None) as m:
        (tmp_path / "cpu.stat").write_text("usage_usec 700005\n")
    carried = pickle.dumps(m)
    (tmp_path / "cpu.stat").unlink()
    arrived = pickle.loads(carried)
    assert arrived.reading.cpu_seconds == m.reading.cpu_seconds != 0.0
    with arrived:
        pass
    assert arrived.joules is None
    assert tmp_path.name in arrived.reading.raw["headline_reason"]


def test_readings_and_timelines_are_pickled() -> None:
    with EnergyMeter() as m:
        time.sleep(0.005)
    again = pickle.loads(pickle.dumps(m.reading))
    assert again.joules == m.joules
    assert str(again) == str(m.reading)
    line = pickle.loads(pickle.dumps(m.timeline()))
    assert len(line) == len(m.timeline())


def test_exceptions_are_pickled() -> None:
    # They cross process pools.
    with pytest.raises(lithowatt.UnknownMethodError) as caught:
        EnergyMeter(methods="x")
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is lithowatt.UnknownMethodError
    assert str(again) == str(caught.value)


def test_every_exception_has_one_base_and_a_natural_one() -> None:
    for name in lithowatt.__all__:
        if name.endswith("Error"):
            kind = getattr(lithowatt, name)
            assert issubclass(kind, lithowatt.LithowattError), name
            if kind is not lithowatt.LithowattError:
                natural = [base for base in kind.__mro__ if base.__module__ == "builtins"]
                assert set(natural) - {Exception, BaseException, object}, name


# -- switches -----------------------------------------------------------------------------------

THREADS = (
    "names = [open(f'/proc/self/task/{t}/comm').read() for t in os.listdir('/proc/self/task')]\n"
)


@pytest.mark.slow
@pytest.mark.parametrize("value", ["false", "False", "0", "no", "OFF"])
def test_switched_off_reads_nothing_and_has_no_thread(value: str) -> None:
    code = (
        "import os\nfrom lithowatt import EnergyMeter\n"
        "with EnergyMeter() as m:\n    total = sum(range(1000))\n    " + THREADS + "s = m.stats()\n"
        "assert 'lithowatt\\n' not in names, names\n"
        "assert s['worker_func_energy_consumption'] is None\n"
        "assert 'ENERGY_MONITORING_ENABLED' in s['worker_func_energy_source']\n"
        "assert m.joules is None and m.watts is None\n"
        "repr(m), str(m.reading), m.timeline()\n"
    )
    done = python(code, ENERGY_MONITORING_ENABLED=value)
    assert (done.returncode, done.stderr) == (0, "")


def test_switched_on_has_a_thread_with_a_name() -> None:
    code = (
        "import os, time\nfrom lithowatt import EnergyMeter\n"
        # The thread gives itself its name, once it runs.
        "with EnergyMeter() as m:\n    time.sleep(0.3); "
        + THREADS
        + "assert 'lithowatt\\n' in names, names\n"
    )
    done = python(code, ENERGY_MONITORING_ENABLED="true")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_argument_beats_the_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENERGY_MONITORING_ENABLED", "false")
    with EnergyMeter(enabled=True) as m:
        pass
    assert m.joules is not None
    monkeypatch.setenv("ENERGY_MONITORING_ENABLED", "true")
    with EnergyMeter(enabled=False) as m:
        pass
    assert m.joules is None


def test_methods_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENERGY_METHODS", "psutil, tdp")
    with EnergyMeter() as m:
        pass
    stats = m.stats()
    assert stats["worker_func_psutil_available"] is True
    assert stats["worker_func_tdp_available"] is True
    assert "not asked for" in stats["worker_func_rapl_source"]


# -- imports ------------------------------------------------------------------------------------

HEAVY = {
    "argparse", "asyncio", "csv", "dataclasses", "decimal", "html", "inspect", "json", "logging",
    "multiprocessing", "numpy", "pandas", "pickle", "psutil", "re", "subprocess", "threading",
    "typing", "lithops",
}  # fmt: skip


def test_import_and_metering_pull_in_nothing_heavy() -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "from lithowatt import EnergyMeter\n"
        "with EnergyMeter() as m:\n    with m.phase('read'): pass\n"
        "m.stats(compact=False)\n"
        "print(*(set(sys.modules) - before))\n"
    )
    # -S: what other packages' .pth files import is not ours.
    paths = os.pathsep.join(p for p in sys.path if p)
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    loaded = set(done.stdout.split())
    assert loaded & HEAVY == set()
    assert any(name.startswith("lithowatt") for name in loaded)


def test_it_works_without_numpy_until_a_timeline_is_asked_for() -> None:
    code = (
        "import sys; sys.modules['numpy'] = None\n"
        "from lithowatt import EnergyMeter\n"
        "with EnergyMeter() as m: pass\n"
        "m.stats(), repr(m), str(m.reading), m.reading._repr_html_()\n"
        "try:\n    m.timeline()\n"
        "except ImportError as error: print('numpy' in str(error))\n"
    )
    done = python(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def test_all_is_all_there_is() -> None:
    assert lithowatt.__all__ == sorted(lithowatt.__all__)
    assert dir(lithowatt) == lithowatt.__all__
    for name in lithowatt.__all__:
        value = getattr(lithowatt, name)
        assert name == "__version__" or value.__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'EnergyMetre'"):
        lithowatt.EnergyMetre  # noqa: B018


def test_the_version_is_that_of_the_wheel() -> None:
    assert lithowatt.__version__ == importlib.metadata.version("lithowatt")
    # What is built between two releases must not be taken for either of them.
    assert re.fullmatch(r"\d+(\.\d+)+((a|b|rc|\.dev)\d+)?", lithowatt.__version__)


@pytest.mark.parametrize(
    "file",
    ["deploy/agent/Dockerfile", "deploy/agent/kubernetes/agent.yaml", "docs/how-to/kubernetes.md"],
)
def test_images_are_named_by_this_version(file: str) -> None:
    text = (TOP / file).read_text(encoding="utf-8")
    named = re.findall(r"lithowatt(?:-agent:|==)([\w.+]+)", text)
    assert named
    assert set(named) == {lithowatt.__version__}


def test_the_docstring_examples_run() -> None:
    import doctest

    for name in (
        "lithowatt",
        "lithowatt.meter._measure",
        "lithowatt.meter._meter",
        "lithowatt.model._power",
    ):
        result = doctest.testmod(importlib.import_module(name))
        assert result.attempted > 0, name
        assert result.failed == 0, name


# -- types --------------------------------------------------------------------------------------


def test_types_are_shipped() -> None:
    assert (PACKAGE / "py.typed").exists()
    assert (PACKAGE / "_core.pyi").exists()


def test_the_stub_names_what_the_core_has() -> None:
    import ast

    from lithowatt import _core

    stub = ast.parse((PACKAGE / "_core.pyi").read_text())
    names = {n.name for n in stub.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    names |= {n.target.id for n in stub.body if isinstance(n, ast.AnnAssign)}  # type: ignore[union-attr]
    actual = {n for n in dir(_core) if not n.startswith("__") or n == "__version__"}
    assert names == actual
    for node in stub.body:
        if isinstance(node, ast.ClassDef):
            members = {
                m.name if isinstance(m, ast.FunctionDef) else m.target.id  # type: ignore[union-attr]
                for m in node.body
                if isinstance(m, (ast.FunctionDef, ast.AnnAssign))
            }
            missing = {m for m in members if not hasattr(getattr(_core, node.name), m)}
            assert missing == set(), node.name


USER = """
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from lithowatt import EnergyManager, EnergyMeter, LithowattError, Reading, Timeline, measure


def f(x: int) -> str:
    with EnergyMeter(methods=["rapl", "tdp"], interval=0.01, label="f") as m:
        with m.phase("read"):
            text = str(x)
    joules: float | None = m.joules
    watts: float | None = m.watts
    reading: Reading = m.reading
    package: float | None = reading.rapl.package
    line: Timeline = m.timeline()
    t: npt.NDArray[np.float64] = line.t
    print(joules, watts, package, t, m.stats()["worker_func_energy_source"])
    return text


async def g() -> None:
    async with EnergyMeter(interval=None) as m:
        pass
    reveal_type(m)


@measure
def bare(x: int) -> str:
    return str(x)


@measure(label="options", on_result=lambda m: print(m.joules))
def options(x: int) -> str:
    return str(x)


@EnergyMeter(label="meter")
def by_meter(x: int) -> str:
    return str(x)


@measure
def numbers() -> Iterator[int]:
    yield 1


reveal_type(bare)
reveal_type(options)
reveal_type(by_meter)
reveal_type(numbers)
try:
    EnergyMeter(scope="thread")
except LithowattError as error:
    print(error)
manager = EnergyManager(1)
bare("wrong")
"""


@pytest.mark.slow
def test_a_users_code_passes_mypy_strict(tmp_path: Path) -> None:
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed")
    (tmp_path / "user.py").write_text(USER)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "user.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "MYPY_CACHE_DIR": str(tmp_path / "cache")},
        check=False,
    )
    revealed = re.findall(r'Revealed type is "([^"]*)"', done.stdout)
    assert "EnergyMeter" in revealed[0], done.stdout
    assert len(revealed) == 5, done.stdout
    for kind in revealed[1:4]:
        assert kind.startswith("def (x: ") and kind.endswith("str"), kind
    errors = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert len(errors) == 1 and "arg-type" in errors[0], done.stdout


# -- the command line ---------------------------------------------------------------------------


def command(
    *arguments: str | bytes, stdin: str | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Runs ``lithowatt``."""
    return subprocess.run(
        [sys.executable, "-m", "lithowatt", *arguments],
        capture_output=True,
        text=True,
        input=stdin,
        check=False,
        **options,
    )


def test_doctor_is_a_table() -> None:
    done = command("doctor")
    assert (done.returncode, done.stderr) == (0, "")
    # In groups: counters, what shares their joules, and the model.
    for method in ("counter +rapl", "perf", "shares +ebpf", "psutil", "model +model"):
        assert re.search(rf"^ *{method} +(yes|no) ", done.stdout, re.M), method


def test_doctor_names_the_one_command_that_fixes_it(tmp_path: Path) -> None:
    done = command("doctor", "--json", "--root", str(tmp_path))
    methods = {m["method"]: m for m in json.loads(done.stdout)["methods"]}
    assert set(methods) == {"rapl", "perf", "nvml", "hwmon", "guest", "ebpf", "psutil", "tdp"}
    for name in ("rapl", "perf", "psutil"):
        assert methods[name]["available"] is False, name
        assert methods[name]["reason"], name
    assert "modprobe" in methods["rapl"]["fix"]
    assert methods["tdp"]["available"] is True


def test_doctor_sees_a_counter(tree: StaticTree) -> None:
    with tree.moving():
        done = command("doctor", "--json", "--root", str(tree.root))
    rapl = next(m for m in json.loads(done.stdout)["methods"] if m["method"] == "rapl")
    assert rapl["available"] is True
    assert any("package-0" in zone for zone in rapl["gives"])


def test_doctor_says_what_is_wrong_with_a_calibration(tmp_path: Path) -> None:
    (tmp_path / "calibration.json").write_text('{"schema": 1, ')
    done = command("doctor", env={**os.environ, "LITHOWATT_STATE_DIR": str(tmp_path)})
    assert (done.returncode, done.stderr) == (0, "")
    assert "calibration.json" in done.stdout


CHILD = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(int(sys.argv[1]))"


@pytest.mark.parametrize("code", [0, 3])
def test_run_tells_joules_on_stderr_and_passes_the_code_on(code: int) -> None:
    done = command("run", "--", sys.executable, "-c", CHILD, str(code))
    assert done.returncode == code
    assert done.stdout == "out\n"
    assert done.stderr.startswith("err\n")
    for word in ("energy", "power", "time", f"exit code {code}"):
        assert word in done.stderr
    # But for the command itself, nothing wraps.
    assert max(map(len, done.stderr.splitlines()[3:])) <= 100


def test_run_as_json(tree: StaticTree) -> None:
    child = "import time; t = time.process_time()\nwhile time.process_time() - t < 0.2: pass"
    done = command("run", "--json", "--", sys.executable, "-S", "-c", child)
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert report["exit_code"] == 0
    assert report["low"] <= report["joules"] <= report["high"]
    assert 0.2 <= report["cpu_seconds"] < 1
    assert report["seconds"] >= 0.2
    assert report["watts"] == pytest.approx(report["joules"] / report["seconds"])
    assert report["methods"]["rapl"]["source"]


def test_run_as_csv() -> None:
    done = command("run", "--csv", "--", sys.executable, "-S", "-c", "")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert {"method", "domain", "joules", "watts", "seconds", "source"} <= set(rows[0])
    assert {(row["method"], row["domain"]) for row in rows} >= {
        ("headline", "function"),
        ("rapl", "package"),
        ("perf", "total"),
        ("model", "function"),
    }
    for row in rows:
        assert row["joules"] or row["source"].startswith("unavailable: "), row
        assert row["joules"] not in ("0", "0.0"), row
        assert (row["quality"] != "") is (row["joules"] != ""), row
        assert row["exit_code"] == "0" and row["command"].endswith("-S -c ''")
        assert float(row["cpu_seconds"]) > 0
    page = (TOP / "docs" / "reference" / "run.md").read_text()
    assert all(f"`{column}`" in page for column in rows[0])


def test_the_csv_has_the_parts_of_the_machine_with_their_bands(tmp_path: Path) -> None:
    with StaticTree(tmp_path / "machine", domains=("package", "dram")) as tree, tree.moving():
        done = command(
            *("run", "--csv", "--root", str(tree.root), "--", sys.executable),
            *("-S", "-c", "import time; time.sleep(0.3)"),
        )
    rows = {(r["method"], r["domain"]): r for r in csv.DictReader(io.StringIO(done.stdout))}
    own = {domain: row for (method, domain), row in rows.items() if method == "headline"}
    assert own["function"]["notes"] and own["idle"]["notes"].startswith("idle power: ")
    parts = [float(own[part]["joules"]) for part in ("idle", "others", "marginal")]
    assert sum(parts) == pytest.approx(float(own["machine"]["joules"]))
    for part in ("function", "marginal", "amortised", "idle", "machine", "memory"):
        low, joules, high = (float(own[part][name]) for name in ("low", "joules", "high"))
        assert low <= joules <= high, part
    assert own["memory"]["joules"] == rows["rapl", "dram"]["joules"]
    assert own["memory"]["source"] == "measured: rapl dram"
    assert own["amortised"]["definition"] == "amortised"
    # Each part says how it was obtained itself, whatever the headline is.
    assert own["machine"]["quality"] == "measured"
    guessed = own["idle"]["notes"] == "idle power: modelled"
    assert (own["idle"]["quality"] == "modelled") is guessed


def test_a_command_in_a_warning_can_be_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    with EnergyMeter(methods=["model"]) as meter:
        pass
    warning = f"the probes that were asked for are not there; fix: {OURS} doctor --load"
    monkeypatch.setattr(type(meter.reading), "warnings", [warning])
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    lines = render(meter.reading, 0).splitlines()
    assert runnable(f"{OURS} doctor --load") in [line.strip() for line in lines]
    # The command of a recording is for the machine that it was made on.
    lines = render(meter.reading, 0, recorded=True).splitlines()
    assert f"{OURS} doctor --load" in [line.strip() for line in lines]


def test_run_into_a_file(tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    done = command("run", "--json", "-o", str(out), "--", sys.executable, "-c", "print('out')")
    assert done.stdout == "out\n"
    assert json.loads(out.read_text())["exit_code"] == 0
    assert os.listdir(tmp_path) == ["report.json"]


def test_run_into_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    out = tmp_path / "nothing/here/report.json"
    done = command("run", "-o", str(out), "--", "touch", str(ran))
    assert done.returncode == 2
    assert "here" in done.stderr and "Traceback" not in done.stderr
    assert not ran.exists()


def test_run_passes_stdin_on() -> None:
    done = command("run", "--", "cat", stdin="through\n")
    assert done.stdout == "through\n"


def test_run_of_a_command_that_dies_of_a_signal() -> None:
    child = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    done = command("run", "--", sys.executable, "-c", child)
    assert done.returncode == 128 + signal.SIGKILL


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGINT, 5)]
)
def test_run_hands_signals_to_the_command(number: int, code: int) -> None:
    child = (
        "import signal, sys, time\n"
        "def ended(*_): sys.exit(5)\n"
        "signal.signal(signal.SIGINT, ended)\n"
        "print('ready', flush=True)\n"
        "time.sleep(20)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "lithowatt", "run", "--json", "--", sys.executable, "-c", child],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    # A terminal sends an interrupt to all; a supervisor's request goes to the one it started.
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    report, _ = process.communicate(timeout=20)
    assert process.returncode == code
    assert json.loads(report)["exit_code"] == code


@pytest.mark.parametrize(("program", "code"), [("no-such-program", 127), ("/", 126)])
def test_run_of_no_program(program: str, code: int) -> None:
    done = command("run", "--", program)
    assert done.returncode == code
    assert program in done.stderr and "Traceback" not in done.stderr


def test_run_of_arguments_that_are_no_utf_8() -> None:
    done = command("run", "--json", "--", sys.executable, "-c", "pass", b"\xff\xfe")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["exit_code"] == 0


def test_the_code_is_the_commands_even_if_nobody_reads_the_report() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "lithowatt", "run", "--json", "--", "sh", "-c", "exit 7"],
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(writer)
    assert done.returncode == 7
    assert "Traceback" not in done.stderr


def test_the_code_is_the_commands_even_if_the_disk_is_full() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "lithowatt", "run", "--json", "--", "sh", "-c", "exit 7"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 7
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["run", "--interval", "0", "--", "true"], "0.001 to 3600"),
        (["run", "--interval", "abc", "--", "true"], "abc"),
        (["run", "--methods", "joulemeter", "--", "true"], "joulemeter"),
        (["run"], "CMD"),
        (["fly"], "fly"),
        (["run", "--json", "--csv", "--", "true"], "--csv"),
    ],
)
def test_bad_arguments_are_named(arguments: list[str], named: str) -> None:
    done = command(*arguments)
    assert done.returncode == 2
    assert named in done.stderr and "Traceback" not in done.stderr


def test_version_and_help() -> None:
    assert command("--version").stdout.strip() == f"lithowatt {lithowatt.__version__}"
    text = command("--help").stdout
    assert "doctor" in text and "run" in text
