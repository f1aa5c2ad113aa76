"""The public face: what a meter shows, takes and returns."""

from __future__ import annotations

import contextlib
import copy
import gc
import json
import os
import pickle
import subprocess
import sys
import time
import weakref
from pathlib import Path
from typing import Any

import pytest

import lithowatt
from lithowatt import (
    EnergyManager,
    EnergyMeter,
    InvalidIntervalError,
    MeterStateError,
    MethodStatus,
    PhaseMark,
    UnknownMethodError,
    Zone,
    _core,
    doctor,
    measure,
)
from lithowatt.cli import main
from lithowatt.monitors import RAPLMonitor
from rig import StaticTree


def test_a_meter_shows_what_people_use_and_nothing_of_its_engine() -> None:
    shown = {name for name in dir(EnergyMeter()) if not name.startswith("_")}
    assert shown == {
        *("start", "stop", "running", "label", "phase", "reading", "joules", "watts"),
        *("duration", "stats", "stats_json", "timeline"),
    }


def test_only_methods_may_be_given_by_position() -> None:
    assert EnergyMeter("psutil")._options["methods"] == "psutil"
    with pytest.raises(TypeError, match="positional"):
        EnergyMeter("psutil", 0.1)  # type: ignore[misc]


class Named(EnergyMeter):
    """A class of a user's, which is made of arguments of its own."""

    def __init__(self, name: str, extra: int) -> None:
        super().__init__("psutil", label=name)
        self.extra = extra
        self.stops = 0

    def stop(self) -> None:
        super().stop()
        self.stops += 1


def test_a_class_of_ones_own_may_take_what_it_likes() -> None:
    with Named("mine", 3) as meter:
        pass
    assert meter.extra == 3 and meter.reading.label == "mine"
    assert meter.stops == 1  # `with` ends by the class' own stop()


def _pickled(meter: Named) -> Named:
    copied: Named = pickle.loads(pickle.dumps(meter))
    return copied


@pytest.mark.parametrize("copying", [copy.copy, copy.deepcopy, _pickled])
def test_a_class_of_ones_own_is_copied_with_what_it_keeps(copying: Any) -> None:
    with Named("mine", 3) as meter:
        pass
    copied = copying(meter)
    assert type(copied) is Named and not copied.running
    assert (copied.extra, copied.stops, copied.label) == (3, 1, "mine")
    assert copied.duration == meter.duration
    with copied:
        pass
    assert (copied.stops, meter.stops) == (2, 1)


class Tagged(EnergyMeter):
    """A class of a user's that keeps things in slots."""

    __slots__ = ("__own", "tag", "unset")

    def own(self) -> Any:
        return self.__own

    def keep(self, tag: str, own: int) -> None:
        self.tag, self.__own = tag, own


@pytest.mark.parametrize("copying", [copy.copy, copy.deepcopy, _pickled])
def test_what_a_class_of_ones_own_keeps_in_slots_is_copied(copying: Any) -> None:
    meter = Tagged("psutil", interval=None)
    meter.keep("mine", 3)
    copied = copying(meter)
    assert (copied.tag, copied.own(), hasattr(copied, "unset")) == ("mine", 3, False)


def test_a_decorator_of_ones_own_class_meters_with_it() -> None:
    named = Named("mine", 3)

    @named
    def work() -> int:
        return 1

    tagged = Tagged("psutil", interval=None)
    tagged.keep("mine", 3)
    metered: Any = tagged(abs)
    assert (work(), work(), metered(-1)) == (1, 1, 1)
    meter: Any = work.meter  # type: ignore[attr-defined]
    assert type(meter) is Named and meter is not named
    # Each call has a meter of its own: it counts from what the decorating one had.
    assert (meter.extra, meter.stops, named.stops) == (3, 1, 0)
    assert (type(metered.meter), metered.meter.tag) == (Tagged, "mine")


def test_methods_are_taken_as_they_are_when_given() -> None:
    names = ["psutil"]
    meter = EnergyMeter(names, interval=None)

    @measure(methods=names, interval=None)
    def work() -> None:
        pass

    names.append("bogus")
    copied = copy.copy(meter)
    with copied:
        pass
    work()
    last: Any = work.meter  # type: ignore[attr-defined]
    for made in (copied, last):
        assert "psutil" in made.stats()["worker_func_energy_method_used"]


def test_equal_readings_are_equal_and_do_not_change() -> None:
    with EnergyMeter("psutil", interval=None) as meter:
        pass
    reading, again = meter.reading, pickle.loads(pickle.dumps(meter.reading))
    assert reading == again == copy.copy(reading) and hash(reading) == hash(again)
    assert reading != reading.raw
    reading.warnings.append("mine")
    assert "mine" not in reading.warnings
    with meter:
        pass
    assert meter.reading != reading


def test_a_part_of_a_reading_is_what_the_whole_has() -> None:
    with EnergyMeter("psutil,model", interval=None) as meter, meter.phase("all"):
        sum(range(200_000))
    taken = meter._core.taken()
    whole = taken.nested()
    apart = {}
    for name in whole:
        with contextlib.suppress(KeyError):
            apart[name] = taken.part(name)
    assert apart == {name: whole[name] for name in apart}
    # What the properties ask for, so that none of them makes the whole.
    asked = {"cpu", "environment"}
    asked |= {name for name in whole if name.startswith(("perf_", "tdp_", "model_share"))}
    assert set(whole) - set(apart) <= asked | {"probes", "scope"}
    with pytest.raises(KeyError):
        taken.part("bogus")
    # Parts first and then the whole, or the other way round.
    reading = meter.reading
    headline, phases = reading.headline, reading.phases
    assert reading.raw == whole
    assert (reading.headline, reading.phases) == (headline, phases)
    assert str(reading) == str(meter.reading)


def test_the_engine_itself_is_not_subclassed() -> None:
    with pytest.raises(TypeError, match="not an acceptable base type"):
        type("Mine", (_core.Meter,), {})


def test_a_meter_may_be_watched_and_leaves_nothing() -> None:
    meter = EnergyMeter("psutil")
    seen = weakref.ref(meter)
    del meter
    gc.collect()
    assert seen() is None


@pytest.mark.parametrize("methods", ["auto", ["auto"], ""])
def test_auto_asks_the_environment_in_every_form(
    methods: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENERGY_METHODS", "psutil")
    monkeypatch.setenv("ENERGY_COLLECTION_INTERVAL", "250")
    with EnergyMeter(methods) as meter:
        pass
    assert meter.reading.joules is None and meter.reading.model is None
    assert meter.reading.raw["interval"] == 0.25
    with EnergyMeter(methods, interval=None) as meter:
        pass
    assert meter.reading.raw["interval"] is None


def test_a_wrong_interval_names_what_is_expected() -> None:
    with pytest.raises((TypeError, ValueError), match=r"0\.001 to 3600"):
        EnergyMeter(interval="often")  # type: ignore[arg-type]


def measured(**options: Any) -> Any:
    return measure(**options)(sum)


@pytest.mark.parametrize("interval", ["often", 0, 1e9, float("nan"), [0.1]])
def test_every_taker_of_an_interval_says_the_same(interval: Any) -> None:
    def told(make: Any) -> str:
        with pytest.raises((InvalidIntervalError, TypeError)) as caught:
            make(interval=interval)
        return str(caught.value)

    texts = {told(make) for make in (EnergyMeter, measured, EnergyManager, RAPLMonitor)}
    assert len(texts) == 1 and texts.pop().startswith(
        'interval must be a number of seconds from 0.001 to 3600, "auto", or None, not '
    )


def test_no_interval_is_none_in_python_and_off_in_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ENERGY_COLLECTION_INTERVAL", "Off")
    with EnergyMeter("psutil") as meter:
        pass
    assert meter.reading.interval is None
    with EnergyMeter("psutil", interval=0.5) as meter:
        pass
    assert meter.reading.interval == 0.5


def test_every_taker_of_methods_says_the_same(tmp_path: Path) -> None:
    def told(make: Any) -> str:
        with pytest.raises(UnknownMethodError) as caught:
            make(methods=["rapl", "rappl"])
        return str(caught.value)

    def agent(methods: Any) -> Any:
        return _core.Agent(tmp_path / "agent" / "ring", methods=methods)

    texts = {told(make) for make in (EnergyMeter, measured, EnergyManager, agent)}
    assert len(texts) == 1 and 'unknown method "rappl"; expected "auto", "all"' in texts.pop()


def test_the_environment_is_named_where_its_methods_are_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ENERGY_METHODS", "rappl")
    with pytest.raises(UnknownMethodError, match=r'"rappl" in \$ENERGY_METHODS; expected'):
        EnergyMeter()


@pytest.mark.parametrize(
    "methods", ["psutil,model", "model, PSUTIL", ["psutil", "tdp"], ["psutil,curve"]]
)
def test_methods_are_a_name_or_names_in_every_form(methods: Any) -> None:
    with EnergyMeter(methods) as meter:
        sum(range(10_000))
    reading = meter.reading
    assert reading.model is not None and reading.system_reason is None
    assert reading.rapl.source == "unavailable: not asked for"


def test_a_phase_is_marked_by_a_public_type() -> None:
    meter = EnergyMeter("psutil")
    assert isinstance(meter.phase("read"), PhaseMark)
    with pytest.raises(MeterStateError):
        meter.reading  # noqa: B018


def test_a_reading_has_all_that_was_found_out(tmp_path: Path) -> None:
    tree = StaticTree(tmp_path / "root")
    with EnergyMeter(["rapl", "psutil"], root=tree.root, interval=None) as meter:
        tree.add("package-0", 4_000_000)
    reading = meter.reading
    assert reading.reason is None and reading.joules is not None
    machine, idle, share = reading.machine_estimate, reading.idle_estimate, reading.share
    assert machine is not None and idle is not None and share is not None
    assert machine.low <= machine.value == reading.machine <= machine.high
    assert idle.low <= idle.value == reading.idle <= idle.high
    assert 0 <= share.low <= share.value <= share.high <= 1
    assert reading.idle_source in ("learned", "calibrated", "configured", "modelled")
    assert reading.allotted_cpus > 0
    assert "memory_percent" in reading.system and reading.system_reason is None
    assert reading.interval is None
    start, end = reading.window_ns
    assert (end - start) * 1e-9 == pytest.approx(reading.duration)
    marginal, amortised = reading.marginal_estimate, reading.amortised_estimate
    assert marginal is not None and amortised is not None and reading.headline is not None
    assert marginal.value == reading.marginal and amortised.value == reading.amortised
    same = {"marginal": marginal, "amortised": amortised}[reading.definition or ""]
    assert same[:3] == reading.headline[:3]
    with EnergyMeter("rapl", root=tmp_path, enabled=True) as blind:
        pass
    nothing = blind.reading
    assert nothing.joules is None and nothing.reason
    assert nothing.machine_estimate is None and nothing.idle_source is None
    assert nothing.system == {} and nothing.system_reason
    assert nothing.zones == [] and nothing.sandbox is None and nothing.marginal_estimate is None


def test_a_reading_has_every_counter_by_itself(tmp_path: Path) -> None:
    tree = StaticTree(tmp_path / "root")
    meter = EnergyMeter("rapl", root=tree.root, interval=None)
    meter.start()
    time.sleep(0.02)  # longer than a counter's update
    tree.add("package-0", 4_000_000)
    meter.stop()
    reading = meter.reading
    zones = {zone.name: zone for zone in reading.zones}
    package, memory = zones["package-0"], zones["package-0/dram"]
    assert (package.method, package.domain, package.package) == ("rapl", "package", 0)
    assert package.joules == 4.0 == reading.rapl.package and package.reason is None
    assert package.energy is not None and package.energy.low < 4.0 < package.energy.high
    assert memory.joules is None and memory.reason == "package-0/dram: the counter did not move"
    if "core" in zones:
        # AMD's zone of that name is left out.
        cores = zones["core"]
        assert cores.joules is None and cores.package is None
        assert "one core only" in str(cores.reason)
    else:
        assert zones["package-0/core"].reason == "package-0/core: the counter did not move"
    for zone in reading.zones:
        assert isinstance(zone, Zone) and (zone.joules is None) is (zone.reason is not None)


def test_memory_is_shown_where_its_counter_is_read(tmp_path: Path) -> None:
    with StaticTree(tmp_path / "machine", domains=("package", "dram")) as tree, tree.moving():
        with EnergyMeter(root=tree.root) as meter:
            time.sleep(0.3)
    reading = meter.reading
    assert reading.memory is not None and reading.machine is not None
    assert reading.memory == reading.rapl.estimate("dram")._replace(source="measured: rapl dram")
    assert "of it memory" in str(reading) and "measured: rapl dram" in str(reading)


def test_memory_that_is_not_counted_says_why(tmp_path: Path) -> None:
    with StaticTree(tmp_path / "machine", domains=("package",)) as tree, tree.moving():
        with EnergyMeter(root=tree.root) as meter:
            time.sleep(0.3)
    assert meter.reading.quality != "modelled"
    assert meter.reading.memory is None
    assert meter.reading.memory_source.startswith("unavailable: rapl does not count it: ")
    assert "rapl does not count it" in str(meter.reading)


def test_memory_of_the_model_is_that_of_the_timeline() -> None:
    with EnergyMeter(methods=["model"]) as meter:
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            pass
    reading = meter.reading
    memory = reading.memory
    assert memory is not None and reading.machine is not None
    assert memory.low <= memory.value <= memory.high
    assert 0 < memory.value < reading.machine
    assert memory.source.startswith("modelled: ") and "GiB, by " in memory.source
    timeline = meter.timeline()
    assert timeline.joules["model:dram"][-1] == pytest.approx(memory.value, rel=0.05)
    by_tdp = EnergyMeter(methods=["model"], estimation="tdp_based")
    with by_tdp:
        time.sleep(0.05)
    assert by_tdp.reading.memory is None
    assert "without memory" in by_tdp.reading.memory_source


def test_the_band_of_busy_memory_goes_beyond_its_value() -> None:
    # What a busy vCPU adds on Lambda is several times the rest: more than the band of any load.
    program = """
from lithowatt import EnergyMeter
with EnergyMeter(methods=["model"]) as meter:
    sum(range(3_000_000))
print(*meter.reading.memory[:3])
"""
    function = {"AWS_LAMBDA_FUNCTION_NAME": "f", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769"}
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **function},
        capture_output=True,
        text=True,
        check=True,
    )
    value, low, high = map(float, ended.stdout.split())
    assert 2 * low < value < high / 2


def test_doctor_is_what_the_command_shows(capsys: pytest.CaptureFixture[str]) -> None:
    found = doctor()
    assert main(["doctor", "--json"]) == 0
    assert all(isinstance(status, MethodStatus) for status in found)
    assert [status._asdict() for status in found] == [
        {**raw, "gives": tuple(raw["gives"])}
        for raw in json.loads(capsys.readouterr().out)["methods"]
    ]
    assert "doctor" in dir(lithowatt)
