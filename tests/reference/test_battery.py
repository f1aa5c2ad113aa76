"""Batteries as drivers show them, on trees of a simulated laptop whose joules are known."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from lithowatt import EnergyMeter
from lithowatt.reference import ReferenceEnergy
from lithowatt.reference import battery as battery_module
from lithowatt.reference._energy import Elsewhere, Unreadable
from lithowatt.reference.battery import ENERGY, FOLDER, POWER, Battery

VOLTS = 11.4


def tree(root: Path, name: str = "BAT0", **files: object) -> Path:
    folder = root / FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    for file, value in {"type": "Battery", "status": "Discharging", **files}.items():
        (folder / file).write_text(f"{value}\n")
    return folder


def busy(t: float) -> float:
    """Power of a laptop that works in bursts, W."""
    return 9.0 + (14.0 if int(t / 37) % 2 else 0.0) + 2.0 * math.sin(t / 11)


def used_until(t: float) -> float:
    """J from 0 to t."""
    bursts, rest = divmod(t, 74)
    return 9.0 * t + 14.0 * (37 * bursts + max(0.0, rest - 37)) + 22.0 * (1 - math.cos(t / 11))


def truth(start: float, end: float) -> float:
    return used_until(end) - used_until(start)


def run(
    battery: Battery,
    show: Callable[[float, float], object],
    seconds: int,
    update: int = 4,
) -> None:
    """Lets the battery be read once a second; its driver renews what it shows every `update`."""
    used = 0.0
    for t in range(seconds + 1):
        if t % update == 0:
            # The mean since the last renewal, as fuel gauges show it.
            watts = truth(max(0, t - update), t) / update if t else busy(0)
            show(watts, used)
        used += truth(t, t + 1)
        battery.tell(float(t), battery.read())


def check(found: ReferenceEnergy, true: float, within: float) -> None:
    assert found.energy is not None, found.reason
    assert found.energy.low <= true <= found.energy.high, (true, found)
    assert abs(found.energy.value / true - 1) < within


@pytest.mark.parametrize("sign", [1, -1])
def test_power_in_either_sign_is_the_machines_energy(tmp_path: Path, sign: int) -> None:
    battery = Battery(str(tmp_path))
    run(battery, lambda w, _: tree(tmp_path, power_now=sign * round(w * 1e6)), 600)
    check(battery.energy(100, 500), truth(100, 500), 0.03)
    check(battery.energy(100, 130), truth(100, 130), 0.15)


def test_current_times_voltage_of_two_batteries(tmp_path: Path) -> None:
    battery = Battery(str(tmp_path))

    def show(watts: float, _: float) -> None:
        for name, part in (("BAT0", 0.3), ("BAT1", 0.7)):
            current = -round(watts * part / VOLTS * 1e6)
            tree(tmp_path, name, current_now=current, voltage_now=round(VOLTS * 1e6))

    run(battery, show, 300)
    check(battery.energy(50, 250), truth(50, 250), 0.04)


def test_energy_left_where_no_driver_shows_power(tmp_path: Path) -> None:
    battery = Battery(str(tmp_path))

    def show(_: float, used: float) -> None:
        # In steps of 10 mWh.
        left = round((180_000 - used) / 3600e-6 / 10_000) * 10_000
        tree(tmp_path, energy_now=left)

    show(0.0, 0.0)
    battery.start()
    battery.stop()
    assert battery.sensor == ENERGY
    battery = Battery(str(tmp_path))
    battery.sensor = ENERGY
    run(battery, show, 900, update=15)
    check(battery.energy(100, 800), truth(100, 800), 0.03)


def test_a_charger_and_a_full_battery_are_reasons(tmp_path: Path) -> None:
    battery = Battery(str(tmp_path))
    with pytest.raises(Unreadable, match="no battery"):
        battery.read()
    tree(tmp_path, power_now=0)
    with pytest.raises(Unreadable, match="shows 0 W"):
        battery.read()
    tree(tmp_path, power_now=12_000_000, status="Not charging")
    with pytest.raises(Elsewhere, match="BAT0: Not charging"):
        battery.read()
    tree(tmp_path, power_now=12_000_000)
    assert battery.read() == 12.0
    # Too weak a charger: the battery helps, and is not all.
    tree(tmp_path, "ucsi-source-psy-1", type="USB", online=1)
    with pytest.raises(Elsewhere, match="ucsi-source-psy-1 is connected"):
        battery.read()


def test_a_mouse_and_an_empty_bay_are_not_the_machine(tmp_path: Path) -> None:
    tree(tmp_path, power_now=12_000_000)
    tree(tmp_path, "hid-mouse", scope="Device", power_now=1)
    tree(tmp_path, "BAT1", present=0, status="Unknown")
    tree(tmp_path, "AC", type="Mains", online=0)
    assert Battery(str(tmp_path)).read() == 12.0


def test_a_charger_within_the_window_leaves_no_energy(tmp_path: Path) -> None:
    battery = Battery(str(tmp_path))
    battery.sensor = POWER
    for t in range(60):
        battery.tell(float(t), 10.0)
    battery.fault(30.0, "AC is connected", True)
    assert battery.energy(0, 20).joules == pytest.approx(200)
    found = battery.energy(10, 50)
    assert found.energy is None
    assert found.reason == "AC is connected (20 s into the window)"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A battery that has a new value all the time."""
    monkeypatch.setattr(battery_module, "POWER", POWER._replace(update=1e-6, delay=0.0))


def test_a_window_shorter_than_an_update_has_a_reason(tmp_path: Path) -> None:
    tree(tmp_path, power_now=15_000_000)
    with EnergyMeter("psutil", reference="battery", root=tmp_path) as meter:
        pass
    found = meter.reading.machine_reference["battery"]
    assert found.energy is None
    assert found.reason is not None
    assert "is shorter than the 15.0 s after which it has a new value" in found.reason


@pytest.mark.usefixtures("quick")
def test_a_meter_has_it_beside_its_reading(tmp_path: Path) -> None:
    tree(tmp_path, power_now=15_000_000)
    meter = EnergyMeter("psutil", reference="battery", root=tmp_path)
    with meter:
        sum(range(1000))
    found = meter.reading.machine_reference["battery"]
    assert found.energy is not None, found.reason
    assert found.energy.value == pytest.approx(15.0 * meter.reading.duration)
    assert "machine_reference" not in str(meter.reading.flat())
    assert EnergyMeter("psutil").running is False


def test_without_one_asked_for_there_is_none() -> None:
    with EnergyMeter("psutil", interval=None) as meter:
        pass
    assert meter.reading.machine_reference == {}


@pytest.mark.usefixtures("quick")
def test_a_copy_keeps_what_was_read(tmp_path: Path) -> None:
    import pickle

    tree(tmp_path, power_now=15_000_000)
    with EnergyMeter("psutil", reference=["battery"], root=tmp_path) as meter:
        pass
    before = meter.reading.machine_reference["battery"].energy
    assert before is not None
    copy = pickle.loads(pickle.dumps(meter))
    kept = copy.reading.machine_reference["battery"].energy
    # A look after the window makes the band a little narrower, until the meter is copied.
    assert kept == copy.reading.machine_reference["battery"].energy
    assert kept[:3] == pytest.approx(before[:3], rel=0.02)
