"""Memory's traffic as the kernel's resource control counts it, in the model and in the bands."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest

from lithowatt import EnergyMeter, Reading
from lithowatt._core import doctor
from rig import StaticTree

#: Energy of a byte, J: as best known, and the band by what the caches count.
JOULES_A_BYTE = 0.24e-9
BAND = (0.07e-9 * 0.9, 0.48e-9 * 1.3)

KNOWN = re.compile(r"memory's traffic: ([\d.]+) GB in ([\d.]+) of [\d.]+ s by resctrl")


class Resctrl:
    """``/sys/fs/resctrl`` below a root, with the files that tell bytes."""

    def __init__(self, root: Path) -> None:
        self.mount = root / "sys/fs/resctrl"
        self.mount.mkdir(parents=True)

    def show(self, text: object, group: str = "", cache: int = 0) -> None:
        """Has a group's file for a cache hold ``text``, all at once."""
        folder = self.mount / group / f"mon_data/mon_L3_{cache:02}"
        folder.mkdir(parents=True, exist_ok=True)
        new = self.mount.parent / "new"
        new.write_text(f"{text}\n")
        new.replace(folder / "mbm_total_bytes")


@pytest.fixture
def resctrl(tmp_path: Path) -> Resctrl:
    resctrl = Resctrl(tmp_path)
    (tmp_path / "proc").symlink_to("/proc")
    for cache in (0, 1):
        resctrl.show(10**12, cache=cache)
    return resctrl


def note(reading: Reading) -> str:
    """What a reading says of the traffic; empty where it says nothing."""
    found = [text for text in reading.notes if text.startswith("memory's traffic")]
    return found[0] if found else ""


def wait_for(meter: EnergyMeter, about: str) -> None:
    """Waits until the running window says ``about`` of the traffic."""
    end = time.monotonic() + 60.0
    while about not in note(meter.reading):
        assert time.monotonic() < end, f"no word of {about!r}: {note(meter.reading)!r}"
        time.sleep(0.02)


def known(reading: Reading) -> tuple[float, float]:
    """GB and the seconds of the window in which they were counted."""
    found = KNOWN.match(note(reading))
    assert found, note(reading)
    return float(found[1]), float(found[2])


def memory_joules(meter: EnergyMeter) -> float:
    """Joules of memory by the model."""
    return float(meter.timeline().joules["model:dram"][-1])


def model_band(reading: Reading) -> tuple[float, float]:
    flat = reading.flat()
    return flat["energy_machine_low"], flat["energy_machine_high"]


def test_counted_bytes_are_the_memory_of_the_model(tmp_path: Path, resctrl: Resctrl) -> None:
    with EnergyMeter(root=tmp_path, methods="model") as still:
        wait_for(still, "memory's traffic: 0.000 GB")
    at_rest = memory_joules(still)
    with EnergyMeter(root=tmp_path, methods="model") as meter:
        wait_for(meter, "GB in")
        # A control group of its own, beside the root's.
        resctrl.show(10**12 + 30 * 10**12, cache=1)
        resctrl.show(20 * 10**12, group="batch")
        wait_for(meter, "memory's traffic: 50000.000 GB")
    gigabytes, seconds = known(meter.reading)
    # The note has two decimals.
    assert gigabytes == 50_000.0 and 0.0 < seconds <= meter.duration + 0.005
    # 12 kJ, beside which some seconds of memory at rest are little.
    joules = memory_joules(meter)
    assert at_rest < 1_000.0
    assert joules == pytest.approx(50e12 * JOULES_A_BYTE, abs=1_000.0)
    low, high = model_band(meter.reading)
    assert low < 50e12 * BAND[0] + joules and 50e12 * BAND[1] < high


def test_what_cannot_be_read_is_said_and_is_no_zero(tmp_path: Path, resctrl: Resctrl) -> None:
    with EnergyMeter(root=tmp_path, methods="model") as meter:
        wait_for(meter, "memory's traffic: 0.000 GB")
        resctrl.show("Unavailable", cache=1)
        wait_for(meter, 'mon_data/mon_L3_01/mbm_total_bytes says "Unavailable"')
        # What went meanwhile is in no number.
        resctrl.show(10**15, cache=0)
        resctrl.show(10**12, cache=1)
        while "Unavailable" in note(meter.reading):
            time.sleep(0.02)
        assert known(meter.reading)[0] == 0.0
        resctrl.mount.rename(tmp_path / "away")
        wait_for(meter, "it could not be read to the end")
    gigabytes, seconds = known(meter.reading)
    assert gigabytes == 0.0 and seconds <= meter.duration + 0.005
    with EnergyMeter(root=tmp_path, methods="model") as unseen:
        wait_for(unseen, "memory's traffic is not known by resctrl")
    assert memory_joules(unseen) > 0.0


def test_counters_of_packages_have_it_in_their_band(tmp_path: Path, resctrl: Resctrl) -> None:
    with StaticTree(tmp_path, domains=("package",)) as tree:
        highs = []
        for gigabytes in (0, 50_000):
            with EnergyMeter(root=tmp_path, methods="rapl") as meter:
                wait_for(meter, "GB in")
                tree.add("package-0", 50_000_000)
                resctrl.show(10**12 + gigabytes * 10**9, cache=1)
                wait_for(meter, f"memory's traffic: {gigabytes}.000 GB")
            reading = meter.reading
            flat = reading.flat()
            assert flat["energy_machine"] == pytest.approx(50.0)
            highs.append(flat["energy_machine_high"])
            (about,) = (text for text in reading.notes if text.startswith("memory is in no value"))
            assert "by its size and traffic it takes" in about
    # At most at 0.62 nJ a byte they are 31 kJ, beside which memory at rest is little.
    assert highs[1] - highs[0] == pytest.approx(5e13 * BAND[1], rel=0.05)


def test_a_dram_counter_is_better_than_bytes(tmp_path: Path, resctrl: Resctrl) -> None:
    with StaticTree(tmp_path), EnergyMeter(root=tmp_path, methods="rapl,model") as meter:
        time.sleep(0.5)
    assert meter.reading.samples > 1
    assert note(meter.reading) == ""


def test_doctor_says_what_counts_it(tmp_path: Path, resctrl: Resctrl) -> None:
    def model() -> Any:
        (found,) = (finding for finding in doctor(tmp_path) if finding["method"] == "tdp")
        return found

    (_, gives) = model()["gives"]
    assert gives == "memory's traffic (mbm_total_bytes of 2 caches by /sys/fs/resctrl)"
    resctrl.mount.rename(tmp_path / "away")
    resctrl.mount.mkdir()
    assert "/sys/fs/resctrl is not mounted" in str(model()["reason"])
    assert model()["fix"] == "sudo mount -t resctrl resctrl /sys/fs/resctrl"
