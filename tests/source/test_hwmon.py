"""Sensors of hwmon, against chips whose joules are known."""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from collections.abc import Iterator
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


@contextlib.contextmanager
def rapl_and_hwmon(folder: Path) -> Iterator[tuple[StaticTree, Chips]]:
    """A machine whose packages RAPL counts, and AMD's driver of hwmon too."""
    with StaticTree(folder / "machine") as tree:
        link = tree.root / "sys/class/hwmon"
        chips = Chips(folder / "chips", linked=False)
        chips.add({"hwmon0/name": "amd_energy", "hwmon0/energy1_label": "Esocket0"})
        chips.use("hwmon0/energy1_input", 5.0)
        if link.is_symlink():
            link.unlink()
        link.symlink_to(chips.place)
        yield tree, chips


def test_beside_rapl_nothing_is_counted_twice(tmp_path: Path) -> None:
    with rapl_and_hwmon(tmp_path) as (tree, chips):

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


def test_where_rapl_stands_still_hwmon_has_its_place(tmp_path: Path) -> None:
    with rapl_and_hwmon(tmp_path) as (tree, chips):

        def window(joules: float) -> Reading:
            with EnergyMeter(root=tree.root, interval=None) as meter:
                time.sleep(0.3)
                chips.use("hwmon0/energy1_input", joules)
                time.sleep(0.3)
            return meter.reading

        # That it stands still shows when the first window ends.
        first = window(10.0)
        assert first.method is not None and first.method.startswith("model:")
        assert "stand still" in first.flat()["hwmon_source"]
        flat = window(30.0).flat()
        assert flat["energy_method"].startswith("hwmon+")
        assert flat["energy_machine"] == pytest.approx(30.0)
        assert flat["rapl_energy_total"] is None
        # When it moves it counts, from the next window on: since when is not known in this one.
        for begins_with in ("hwmon+", "rapl+"):
            with EnergyMeter(root=tree.root, interval=None) as meter:
                for _ in range(2):
                    tree.add("package-0", 8_000_000)
                    chips.use("hwmon0/energy1_input", 8.0)
                    time.sleep(0.05)
            flat = meter.reading.flat()
            assert flat["energy_method"].startswith(begins_with)
            assert flat["energy_machine"] == pytest.approx(16.0, rel=0.01)
        found = {status.method: status for status in doctor(tree.root)}
        assert "stands still" in str(found["rapl"].reason)
        assert "amd_energy Esocket0: the counter stands still" in str(found["hwmon"].reason)


def test_a_window_in_which_rapl_begins_to_move_is_hwmons(tmp_path: Path) -> None:
    with rapl_and_hwmon(tmp_path) as (tree, chips), EnergyMeter(root=tree.root) as outer:
        chips.use("hwmon0/energy1_input", 40.0)
        time.sleep(0.7)
        # hwmon is opened here, as RAPL was seen to stand still.
        with EnergyMeter(root=tree.root) as inner:
            chips.use("hwmon0/energy1_input", 50.0)
            time.sleep(0.5)
            for _ in range(30):
                tree.add("package-0", 1_000_000)
                chips.use("hwmon0/energy1_input", 1.0)
                time.sleep(0.02)
    flat = inner.reading.flat()
    assert flat["energy_method"].startswith("hwmon+")
    assert flat["energy_machine"] == pytest.approx(80.0, rel=0.05)
    assert any("stood still until" in warning for warning in inner.reading.warnings)
    # RAPL alone saw the last third of it, and hwmon was not there when it began.
    flat = outer.reading.flat()
    assert flat["rapl_energy_total"] is None
    assert "stood still until" in flat["rapl_source"]
    assert any("stood still until" in warning for warning in outer.reading.warnings)


def test_what_firmware_shows_where_it_fails_is_no_power(tmp_path: Path) -> None:
    chips = grace(tmp_path)
    for channel in (*SOCKETS, CORES):
        chips.add({channel: "4294967295000"})
    reading, _ = metered(tmp_path, 0.3)
    assert reading.hwmon.estimate("package") is None
    why = "power_meter Grace Power Socket 0: the counter could not be read"
    assert why in reading.hwmon.source


def test_a_rail_that_is_off_beside_others_is_no_gap(tmp_path: Path) -> None:
    chips = Chips(tmp_path)
    labels = {"1": "VDD_GPU_SOC", "2": "VDD_CPU_CV", "3": "VIN_SYS_5V0"}
    chips.add({"hwmon0/name": "ina3221"})
    for number, label in labels.items():
        chips.add({f"hwmon0/in{number}_label": label, f"hwmon0/in{number}_input": "5000"})
        chips.add({f"hwmon0/curr{number}_input": "0" if number == "2" else "1000"})
    reading, _ = metered(tmp_path, 0.5)
    package = reading.hwmon.estimate("package")
    assert package is not None
    assert package.value == pytest.approx(5.0 * reading.duration, rel=0.05)
    assert not [w for w in reading.warnings if "did not move" in w]
    found = {status.method: status for status in doctor(tmp_path)}["hwmon"]
    assert found.available and "ina3221 VDD_CPU_CV" in found.gives


def test_a_rail_that_is_switched_on_had_no_power_before(tmp_path: Path) -> None:
    chips = Chips(tmp_path)
    chips.add({"hwmon0/name": "ina3221"})
    for number, label in (("1", "VDD_GPU_SOC"), ("2", "VDD_CPU_CV")):
        chips.add({f"hwmon0/in{number}_label": label, f"hwmon0/in{number}_input": "5000"})
        chips.add({f"hwmon0/curr{number}_input": "0" if number == "2" else "1000"})
    with EnergyMeter(root=tmp_path) as meter:
        time.sleep(0.8)
        chips.add({"hwmon0/curr2_input": "2000"})
        time.sleep(0.6)
    reading = meter.reading
    package = reading.hwmon.estimate("package")
    assert package is not None, reading.warnings
    truth = 5.0 * reading.duration + 10.0 * 0.6
    assert package.value == pytest.approx(truth, rel=0.1)
    assert package.low < truth < package.high
    assert not [w for w in reading.warnings if "stood still" in w]


def test_a_socket_that_shows_no_watts_for_a_while_has_not_less_energy(tmp_path: Path) -> None:
    chips = grace(tmp_path)
    with EnergyMeter(root=tmp_path) as meter:
        time.sleep(0.4)
        chips.draw(SOCKETS[0], 0.0)
        time.sleep(0.5)
        chips.draw(SOCKETS[0], 120.0)
        time.sleep(0.4)
    package = meter.reading.hwmon.estimate("package")
    assert package is not None
    assert package.value == pytest.approx(200.0 * meter.reading.duration, rel=0.05)


def test_doctor_shows_what_is_not_counted(tmp_path: Path) -> None:
    chips = grace(tmp_path)
    chips.add({"hwmon7/name": "ina226", "hwmon7/power1_input": "12000000"})
    found = {status.method: status for status in doctor(tmp_path)}["hwmon"]
    assert found.available
    assert "power_meter Grace Power Socket 1" in found.gives
    assert found.reason is not None
    # A known chip that says of itself that it is something else, and one that says nothing.
    assert "shown and not counted: power_meter hwmon4: power1 (SysIO" in found.reason
    assert "ina226 hwmon7: power1" in found.reason


def cards(root: Path, linked: bool = True, arc: bool = True) -> Chips:
    """A machine with a Radeon, an Arc, and a processor of AMD whose graphics has a chip, too."""
    chips = Chips(root, linked=linked)
    (root / "sys/bus/pci/drivers/amdgpu").mkdir(parents=True)
    chips.add(
        {
            "hwmon3/name": "amdgpu",
            "hwmon3/device/uevent": "DRIVER=amdgpu\nPCI_ID=1002:744C\nPCI_SLOT_NAME=0000:03:00.0",
            "hwmon3/power1_cap": "300000000",
            "hwmon5/name": "amdgpu",
            "hwmon5/device/uevent": "DRIVER=amdgpu\nPCI_ID=1002:1681\nPCI_SLOT_NAME=0000:33:00.0",
            "hwmon5/in1_label": "vddnb",
            "hwmon5/in1_input": "724",
        }
    )
    chips.draw("hwmon3/power1_average", 90.0)
    chips.draw("hwmon5/power1_average", 17.0)
    if arc:
        chips.add(
            {
                "hwmon4/name": "xe",
                "hwmon4/device/uevent": "DRIVER=xe\nPCI_ID=8086:E20B\nPCI_SLOT_NAME=0000:05:00.0",
                "hwmon4/energy1_label": "card",
                "hwmon4/energy2_label": "pkg",
                "hwmon4/energy2_input": "7000000",
            }
        )
        chips.use("hwmon4/energy1_input", 0.0)
    return chips


def test_doctor_names_the_cards_that_a_window_reads(tmp_path: Path) -> None:
    cards(tmp_path)
    reason = {status.method: status for status in doctor(tmp_path)}["hwmon"].reason
    # Of a function's part a user is told the whole or the most that it can be: who can read all
    # processes is no matter here.
    assert reason is not None
    assert re.search(r"GPU amdgpu 0000:03:00\.0: (of )?a function's part .*\btold\b", reason)
    # A copy of /sys/class/hwmon alone, as in a container: no window looks for cards there.
    shutil.rmtree(tmp_path / "sys/bus")
    reason = {status.method: status for status in doctor(tmp_path)}["hwmon"].reason
    assert "GPU " not in (reason or "")
    with EnergyMeter(root=tmp_path) as meter:
        time.sleep(0.1)
    assert meter.reading.gpu is None


def test_cards_are_gpus_and_a_processor_s_graphics_is_none(tmp_path: Path) -> None:
    chips = cards(tmp_path)
    with EnergyMeter(root=tmp_path) as meter:
        time.sleep(0.5)
        chips.use("hwmon4/energy1_input", 25.0)
        time.sleep(0.5)
    reading, flat = meter.reading, meter.reading.flat()
    window = flat["window_start"], flat["window_end"]
    truth = chips.joules("hwmon3/power1_average", *window) + 25.0
    assert flat["gpu_energy"] == pytest.approx(truth, rel=0.1)
    assert flat["gpu_energy_low"] < truth < flat["gpu_energy_high"]
    assert "amdgpu 0000:03:00.0 (power, integrated)" in flat["gpu_source"]
    assert "xe 0000:05:00.0" in flat["gpu_source"] and "0000:33" not in flat["gpu_source"]
    # Nobody has them open.
    assert flat["gpu_energy_attributed"] == 0.0
    assert flat["gpu_energy_unattributed"] == flat["gpu_energy"]
    # The processor with its graphics is a package, and the cards are in no sum with it.
    package = reading.hwmon.estimate("package")
    assert package is not None
    own = chips.joules("hwmon5/power1_average", *window)
    assert package.value == pytest.approx(own, rel=0.05)
    assert flat["energy_machine"] == pytest.approx(package.value)
    # Every joule of the machine is in one zone.
    zones = sum(zone.joules or 0.0 for zone in reading.zones)
    assert zones == pytest.approx(truth + own, rel=0.1)


def test_beside_rapl_the_graphics_of_a_package_is_not_added(tmp_path: Path) -> None:
    with StaticTree(tmp_path / "machine", domains=("package",), mirror=False) as tree:
        chips = cards(tree.root, linked=False)
        (tree.root / "proc").symlink_to("/proc")
        with EnergyMeter(root=tree.root) as meter:
            for _ in range(10):
                tree.add("package-0", 2_000_000)
                chips.use("hwmon4/energy1_input", 4.0)
                time.sleep(0.05)
        flat = meter.reading.flat()
        window = flat["window_start"], flat["window_end"]
        assert flat["energy_machine"] == pytest.approx(20.0)
        domains = {(zone.method, zone.domain) for zone in meter.reading.zones}
        assert domains == {("rapl", "package"), ("hwmon", "gpu")}
        truth = chips.joules("hwmon3/power1_average", *window) + 40.0
        assert flat["gpu_energy_low"] < truth < flat["gpu_energy_high"]


def test_a_card_that_sleeps_is_not_woken(tmp_path: Path) -> None:
    chips = cards(tmp_path)
    chips.add({"hwmon3/device/power/runtime_status": "suspended"})
    flat = metered(tmp_path, 0.4)[0].flat()
    assert flat["gpu_energy"] is None
    assert "asleep" in flat["gpu_source"]


def test_what_a_card_took_before_is_no_joule_of_its_sleep(tmp_path: Path) -> None:
    chips = cards(tmp_path, arc=False)
    with EnergyMeter(root=tmp_path) as meter:
        time.sleep(0.6)
    assert meter.reading.flat()["gpu_energy"] > 0
    chips.add({"hwmon3/device/power/runtime_status": "suspended"})
    time.sleep(0.3)
    for _ in range(2):
        with EnergyMeter(root=tmp_path) as meter:
            time.sleep(0.6)
        flat = meter.reading.flat()
        assert flat["gpu_energy"] is None
        assert "asleep" in flat["gpu_source"]


def test_a_card_that_shows_no_watts_has_no_joules(tmp_path: Path) -> None:
    chips = cards(tmp_path, arc=False)
    chips.draw("hwmon3/power1_average", 0.0)
    reading, _ = metered(tmp_path, 0.5)
    assert reading.flat()["gpu_energy"] is None
    assert "a power of 0 W" in reading.flat()["gpu_source"]
    # Nor has it a mean of what it was before and nothing.
    chips.draw("hwmon3/power1_average", 90.0)
    with EnergyMeter(root=tmp_path) as meter:
        time.sleep(0.4)
        chips.draw("hwmon3/power1_average", 0.0)
        time.sleep(0.4)
        chips.draw("hwmon3/power1_average", 90.0)
        time.sleep(0.4)
    flat = meter.reading.flat()
    assert flat["gpu_energy"] == pytest.approx(90.0 * flat["energy_duration"], rel=0.1)


@pytest.mark.slow
def test_a_card_s_counter_that_stops_is_no_lower_energy(tmp_path: Path) -> None:
    chips = cards(tmp_path)
    with EnergyMeter(root=tmp_path) as meter:
        for _ in range(5):
            time.sleep(0.1)
            chips.use("hwmon4/energy1_input", 5.0)
        time.sleep(2.0)
    [zone] = [zone for zone in meter.reading.zones if zone.name.startswith("gpu-1")]
    assert zone.joules is None
    assert zone.reason is not None and "stood still for the last" in zone.reason


def test_doctor_says_that_a_sensor_s_counter_stands_still(tmp_path: Path) -> None:
    chips = Chips(tmp_path)
    chips.add({"hwmon0/name": "amd_energy", "hwmon0/energy1_label": "Esocket0"})
    chips.use("hwmon0/energy1_input", 5.0)
    found = {status.method: status for status in doctor(tmp_path)}["hwmon"]
    assert not found.available
    assert found.reason is not None
    assert "amd_energy Esocket0: the counter stands still" in found.reason
    with EnergyMeter(root=tmp_path) as meter:
        time.sleep(0.2)
    assert "amd_energy Esocket0: the counter did not move" in meter.reading.warnings


def test_a_socket_that_holds_its_memory_has_no_band_for_it(tmp_path: Path) -> None:
    grace(tmp_path)
    held, _ = metered(tmp_path, 1.0)
    [note] = [note for note in held.notes if "memory" in note and "traffic" not in note]
    assert note == "memory is in the packages of hwmon: it has no value of its own"
    # The machine's band is the sensors'.
    package = held.hwmon.estimate("package")
    bands = held.raw["headline"]["bands"]
    assert package is not None
    assert bands["machine"]["high"] == pytest.approx(package.high)


@pytest.mark.slow
def test_a_card_s_counter_that_stands_still_has_no_joules(tmp_path: Path) -> None:
    cards(tmp_path)
    with EnergyMeter(root=tmp_path) as meter:
        time.sleep(2.5)
    [zone] = [zone for zone in meter.reading.zones if zone.name.startswith("gpu-1")]
    assert zone.joules is None
    assert zone.reason == "its counter stood still within the window"
