"""The public face: what a meter shows, takes and returns."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest

import lithowatt
from lithowatt import EnergyMeter, MeterStateError, MethodStatus, PhaseMark, _core, doctor
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


def test_a_class_of_ones_own_may_take_what_it_likes() -> None:
    class Named(EnergyMeter):
        def __init__(self, name: str, extra: int) -> None:
            super().__init__("psutil", label=name)
            self.extra = extra

    with Named("mine", 3) as meter:
        pass
    assert meter.extra == 3 and meter.reading.label == "mine"


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
    with EnergyMeter("rapl", root=tmp_path, enabled=True) as blind:
        pass
    nothing = blind.reading
    assert nothing.joules is None and nothing.reason
    assert nothing.machine_estimate is None and nothing.idle_source is None
    assert nothing.system == {} and nothing.system_reason


def test_doctor_is_what_the_command_shows() -> None:
    found = doctor()
    assert all(isinstance(status, MethodStatus) for status in found)
    assert [status._asdict() for status in found] == [
        {**raw, "gives": tuple(raw["gives"])} for raw in _core.doctor()
    ]
    assert "doctor" in dir(lithowatt)
