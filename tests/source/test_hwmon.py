"""Sensors of hwmon, against chips whose joules are known."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from chips import Chips
from lithowatt import EnergyMeter, Reading, doctor
from rig import StaticTree

#: Two Grace sockets: what each file says, and the power of the socket and of its cores, W.
GRACE = {
    "hwmon1/name": "power_meter",
    "hwmon1/device/power1_oem_info": "Grace Power Socket 0",
    "hwmon2/name": "power_meter",
    "hwmon2/device/power1_oem_info": "CPU Power Socket 0",
    "hwmon3/name": "power_meter",
    "hwmon3/device/power1_oem_info": "Grace Power Socket 1",
    "hwmon4/name": "power_meter",
    "hwmon4/device/power1_oem_info": "SysIO Power Socket 0",
}
SOCKETS = ("hwmon1/device/power1_average", "hwmon3/device/power1_average")
CORES = "hwmon2/device/power1_average"


def grace(root: Path) -> Chips:
    chips = Chips(root)
    chips.add(GRACE)
    chips.draw(SOCKETS[0], 120.0)
    chips.draw(SOCKETS[1], 80.0)
    chips.draw(CORES, 60.0)
    chips.draw("hwmon4/device/power1_average", 15.0)
    return chips


def metered(root: Path, seconds: float, **options: Any) -> tuple[Reading, tuple[int, int]]:
    with EnergyMeter(root=root, **options) as meter:
        time.sleep(seconds)
    flat = meter.reading.flat()
    return meter.reading, (flat["window_start"], flat["window_end"])


def test_sockets_are_measured_and_shared(tmp_path: Path) -> None:
    chips = grace(tmp_path)
    reading, window = metered(tmp_path, 1.0)
    truth = sum(chips.joules(channel, *window) for channel in SOCKETS)
    package = reading.hwmon.estimate("package")
    assert package is not None
    assert package.value == pytest.approx(truth, rel=0.02)
    assert package.low < truth < package.high
    cores = reading.hwmon.estimate("core")
    assert cores is not None
    assert cores.value == pytest.approx(chips.joules(CORES, *window), rel=0.02)
    flat = reading.flat()
    assert flat["energy_method"].startswith("hwmon+")
    assert flat["hwmon_available"] and flat["hwmon_energy_total"] == package.value
    # The whole machine is kept: the function, others and rest.
    parts = [flat[key] for key in ("energy_marginal", "energy_others", "energy_idle")]
    assert sum(parts) == pytest.approx(flat["energy_machine"])
    assert flat["energy_machine"] == pytest.approx(package.value)
    assert {(zone.method, zone.domain, zone.package) for zone in reading.zones} == {
        ("hwmon", "package", 0),
        ("hwmon", "package", 1),
        ("hwmon", "core", 0),
    }


@pytest.mark.slow
def test_a_step_of_power_is_within_the_band(tmp_path: Path) -> None:
    chips = grace(tmp_path)
    with EnergyMeter(root=tmp_path) as meter:
        time.sleep(0.6)
        chips.draw(SOCKETS[0], 300.0)
        time.sleep(0.6)
        chips.draw(SOCKETS[0], 30.0)
        time.sleep(1.0)
    flat = meter.reading.flat()
    window = flat["window_start"], flat["window_end"]
    truth = sum(chips.joules(channel, *window) for channel in SOCKETS)
    package = meter.reading.hwmon.estimate("package")
    assert package is not None and package.low < truth < package.high


def test_beside_rapl_nothing_is_counted_twice(tmp_path: Path) -> None:
    with StaticTree(tmp_path / "machine") as tree:
        link = tree.root / "sys/class/hwmon"
        chips = Chips(tmp_path / "chips", linked=False)
        chips.add({"hwmon0/name": "amd_energy", "hwmon0/energy1_label": "Esocket0"})
        chips.use("hwmon0/energy1_input", 5.0)
        if link.is_symlink():
            link.unlink()
        link.symlink_to(chips.place)

        def window(**options: Any) -> dict[str, Any]:
            with EnergyMeter(root=tree.root, **options) as meter:
                tree.add("package-0", 30_000_000)
                tree.add("package-0/dram", 4_000_000)
                chips.use("hwmon0/energy1_input", 29.5)
                time.sleep(0.01)
            return meter.reading.flat()

        alone = window(interval=None)
        assert alone["energy_machine"] == pytest.approx(34.0)
        assert alone["hwmon_energy_total"] is None
        assert "none is counted twice" in alone["hwmon_source"]
        # By its name it is read, too, and stands beside.
        both = window(interval=None, methods=["rapl", "hwmon"])
        assert both["energy_machine"] == pytest.approx(34.0)
        assert both["hwmon_energy_package"] == pytest.approx(29.5)
        assert both["energy_method"].startswith("rapl+")
        only = window(interval=None, methods="hwmon")
        assert only["energy_machine"] == pytest.approx(29.5)


def test_what_firmware_shows_where_it_fails_is_no_power(tmp_path: Path) -> None:
    chips = grace(tmp_path)
    for channel in (*SOCKETS, CORES):
        chips.add({channel: "4294967295000"})
    reading, _ = metered(tmp_path, 0.3)
    assert reading.hwmon.estimate("package") is None
    why = "power_meter Grace Power Socket 0: the counter could not be read"
    assert why in reading.hwmon.source


def test_doctor_shows_what_is_not_counted(tmp_path: Path) -> None:
    chips = grace(tmp_path)
    chips.add({"hwmon7/name": "ina226", "hwmon7/power1_input": "12000000"})
    found = {status.method: status for status in doctor(tmp_path)}["hwmon"]
    assert found.available
    assert "power_meter Grace Power Socket 1" in found.gives
    assert found.reason is not None and "not counted: ina226 hwmon7: power1" in found.reason
