"""Memory's traffic as the kernel's resource control counts it, in the model and in the bands."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from lithowatt import EnergyMeter, Reading
from lithowatt._core import doctor
from rig import StaticTree

CPUS = os.cpu_count() or 1

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
    rest = memory_joules(still) / still.duration
    with EnergyMeter(root=tmp_path, methods="model") as meter:
        wait_for(meter, "GB in")
        for step in range(1, 6):
            # A control group of its own, beside the root's; together as much as a machine moves.
            resctrl.show(10**12 + step * 60 * 10**9, cache=1)
            resctrl.show(step * 40 * 10**9, group="batch")
            wait_for(meter, f"memory's traffic: {step * 100}.000 GB")
    gigabytes, seconds = known(meter.reading)
    # The note has two decimals.
    assert gigabytes == 500.0 and 0.0 < seconds <= meter.duration + 0.005
    # 120 J, and memory at rest for some seconds.
    joules = memory_joules(meter) - rest * meter.duration
    assert joules == pytest.approx(500e9 * JOULES_A_BYTE, rel=0.1)
    low, high = model_band(meter.reading)
    assert low < 500e9 * BAND[0] + memory_joules(meter) and 500e9 * BAND[1] < high


@pytest.fixture
def crowded(resctrl: Resctrl) -> Resctrl:
    """So many groups that a look takes milliseconds, and is made less often than every 0.1 s."""
    for group in range(200):
        for cache in (0, 1):
            resctrl.show(10**12, group=f"pod{group}", cache=cache)
    return resctrl


def apart(reading: Reading) -> float:
    """Seconds between two looks, where they are seldom."""
    found = re.search(r"they are ([\d.]+) s apart", note(reading))
    assert found, note(reading)
    return float(found[1])


@pytest.mark.parametrize("phases", [False, True])
def test_no_byte_is_dropped_where_looks_are_seldom(
    tmp_path: Path, crowded: Resctrl, phases: bool
) -> None:
    with EnergyMeter(root=tmp_path, methods="model") as still:
        wait_for(still, "memory's traffic: 0.000 GB")
        wait_for(still, "s apart")
    rest = memory_joules(still) / still.duration
    with EnergyMeter(root=tmp_path, methods="model") as meter:
        wait_for(meter, "memory's traffic: 0.000 GB")
        crowded.show(10**12 + 100 * 10**9, group="pod123", cache=1)
        for _ in range(100 if phases else 0):
            with meter.phase("short"):
                time.sleep(0.02)
        wait_for(meter, "memory's traffic: 100.000 GB")
    gigabytes, seconds = known(meter.reading)
    gap = apart(meter.reading)
    assert gap >= 0.15
    # All of it but for what comes before the first look and after the last one.
    assert gigabytes == 100.0
    assert seconds >= meter.duration - 2.0 * gap - 0.5, note(meter.reading)
    truth = 100e9 * JOULES_A_BYTE
    # What the first window takes by its load alone is more than memory takes at rest; what has no
    # bytes goes by the load of all CPUs, 3.2 W each at most.
    most = rest * meter.duration + 3.2 * CPUS * (meter.duration - seconds)
    assert truth <= memory_joules(meter) <= truth + most
    low, high = model_band(meter.reading)
    # The band is the machine's: processors are in it, too.
    others = meter.reading.flat()["energy_machine"] - truth
    assert low < 100e9 * BAND[0] + others and 100e9 * BAND[1] < high


def test_a_window_without_two_looks_says_why(tmp_path: Path, crowded: Resctrl) -> None:
    with EnergyMeter(root=tmp_path, methods="model") as still:
        wait_for(still, "s apart")
    # The sampler sees that nobody meters any more.
    time.sleep(0.5)
    with EnergyMeter(root=tmp_path, methods="model") as meter:
        time.sleep(0.1)
    assert "memory's traffic is not known by resctrl" in note(meter.reading)
    assert "no two looks at it are in the window" in note(meter.reading)
    assert apart(meter.reading) >= 0.15


def test_what_cannot_be_read_is_said_and_is_no_zero(tmp_path: Path, resctrl: Resctrl) -> None:
    with EnergyMeter(root=tmp_path, methods="model") as meter:
        wait_for(meter, "memory's traffic: 0.000 GB")
        resctrl.show("Unavailable", cache=1)
        wait_for(meter, 'mon_data/mon_L3_01/mbm_total_bytes says "Unavailable"')
        # What went meanwhile is in no number.
        resctrl.show(10**12 + 10**10, cache=0)
        resctrl.show(10**12, cache=1)
        then = known(meter.reading)[1]
        while known(meter.reading)[1] < then + 0.3:
            time.sleep(0.02)
        # It stays said when all is well again.
        assert known(meter.reading)[0] == 0.0
        assert 's it could not be counted: mon_data/mon_L3_01/mbm_total_bytes says "Una' in note(
            meter.reading
        )
        resctrl.mount.rename(tmp_path / "away")
        wait_for(meter, "it could not be counted: a group: No such file")
    gigabytes, seconds = known(meter.reading)
    assert gigabytes == 0.0 and seconds <= meter.duration + 0.005
    with EnergyMeter(root=tmp_path, methods="model") as unseen:
        wait_for(unseen, "memory's traffic is not known by resctrl")
    assert memory_joules(unseen) > 0.0


def test_counters_of_packages_have_it_in_their_band(tmp_path: Path, resctrl: Resctrl) -> None:
    with StaticTree(tmp_path, domains=("package",)) as tree:
        highs, most = [], []
        for gigabytes in (0, 100):
            with EnergyMeter(root=tmp_path, methods="rapl") as meter:
                wait_for(meter, "memory's traffic: 0.000 GB")
                tree.add("package-0", 50_000_000)
                resctrl.show(10**12 + gigabytes * 10**9, cache=1)
                wait_for(meter, f"memory's traffic: {gigabytes}.000 GB")
            reading = meter.reading
            flat = reading.flat()
            assert flat["energy_machine"] == pytest.approx(50.0)
            highs.append(flat["energy_machine_high"])
            (about,) = (text for text in reading.notes if text.startswith("memory is in no value"))
            watts = re.search(r"by its size and traffic it takes [\d.]+ to ([\d.]+) W", about)
            assert watts, about
            most.append(float(watts[1]) * meter.duration)
    # At most at 0.62 nJ a byte they are 62 J, beside which memory at rest is little.
    assert most[1] - most[0] == pytest.approx(1e11 * BAND[1], rel=0.3)
    assert highs[1] - highs[0] > 0.9 * (most[1] - most[0])


def test_a_jump_that_no_memory_can_do_is_no_energy(tmp_path: Path, resctrl: Resctrl) -> None:
    with EnergyMeter(root=tmp_path, methods="model") as meter:
        wait_for(meter, "memory's traffic: 0.000 GB")
        resctrl.show(10**15, cache=1)
        wait_for(meter, "GB a second at most")
    assert known(meter.reading)[0] == 0.0
    # 240 kJ by the bytes.
    assert memory_joules(meter) < 1_000.0


def test_what_is_mounted_later_is_found_by_a_later_window(tmp_path: Path) -> None:
    (tmp_path / "proc").symlink_to("/proc")
    with EnergyMeter(root=tmp_path, methods="model") as before:
        time.sleep(0.3)
    assert note(before.reading) == ""
    resctrl = Resctrl(tmp_path)
    resctrl.show(10**12)
    # The sampler waits until somebody meters again.
    time.sleep(3.0)
    with EnergyMeter(root=tmp_path, methods="model") as meter:
        wait_for(meter, "memory's traffic: 0.000 GB")


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
    resctrl.show("Unavailable", cache=1)
    assert len(model()["gives"]) == 1
    said = 'not counted: mon_data/mon_L3_01/mbm_total_bytes says "Unavailable"'
    assert said in str(model()["reason"])
    assert "sudo rmdir /sys/fs/resctrl/mon_groups/NAME" in str(model()["fix"])
    resctrl.show(10**12, cache=1)
    resctrl.mount.rename(tmp_path / "away")
    resctrl.mount.mkdir()
    assert "/sys/fs/resctrl is not mounted" in str(model()["reason"])
    assert model()["fix"] == "sudo mount -t resctrl resctrl /sys/fs/resctrl"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become a user who is denied")
def test_doctor_says_what_lets_it_be_read(resctrl: Resctrl) -> None:
    # Whoever is denied has to get there first.
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        root = Path(folder)
        root.chmod(0o755)
        (root / "proc").symlink_to("/proc")
        resctrl.mount.parent.parent.rename(root / "sys")
        (root / "sys/fs/resctrl/mon_data/mon_L3_01/mbm_total_bytes").chmod(0o600)
        asked = (
            "import json, os, sys\n"
            "from lithowatt._core import doctor\n"
            "os.setgid(65534); os.setuid(65534)\n"
            "print(json.dumps([f for f in doctor(sys.argv[1]) if f['method'] == 'tdp']))\n"
        )
        command = [sys.executable, "-c", asked, folder]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        (model,) = json.loads(done.stdout)
    assert len(model["gives"]) == 1
    assert "mon_L3_01/mbm_total_bytes: Permission denied" in model["reason"]
    assert model["fix"] == "sudo chmod -R a+rX /sys/fs/resctrl"
