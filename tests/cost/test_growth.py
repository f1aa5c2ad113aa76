"""What a window costs does not grow with the CPUs: reads are counted, not timed."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support.large_machine import LargeMachine

#: Reads by the kernel's own count of this process: of a first window, of one like many others, and
#: of a sample.
PROGRAM = """
import json, sys, time
from lithowatt import EnergyMeter

def reads():
    with open("/proc/self/io") as file:
        return int(file.read().split("syscr:")[1].split()[0])

def counted(action):
    before = reads()
    action()
    return reads() - before

nothing = counted(lambda: None)
found = {}
for name, methods in (("rapl", ["rapl"]), ("all", ["rapl", "psutil", "tdp"])):
    meter = EnergyMeter(methods=methods, interval=None, root=sys.argv[1])
    found["first " + name] = counted(lambda: (meter.start(), meter.stop())) - nothing

    def window():
        # Longer than anything that is read stays good for.
        time.sleep(0.06)
        meter.start()
        time.sleep(0.06)
        meter.stop()

    window()
    # Where something comes between, counters are read once more: the least of many is a window's.
    found[name] = min(counted(window) for _ in range(9)) - nothing
    # Every sample of this one ends an interval, so that all there is to read is read.
    sampling = EnergyMeter(methods=methods, interval=0.1, root=sys.argv[1])
    sampling.start()
    time.sleep(0.3)
    sampling.stop()
    found["sample " + name] = 1000
    for _ in range(5):
        sampling.start()
        time.sleep(0.05)
        # A look at the reading so far is an edge, too: before and after.
        taken = sampling.reading.samples
        before = reads()
        time.sleep(0.6)
        after = reads()
        taken = sampling.reading.samples - taken
        sampling.stop()
        found["sample " + name] = min(found["sample " + name], (after - before - nothing) / taken)
print(json.dumps(found))
"""

ZONES = 2
"""Of each package."""

CLOCKS = 4
"""At most of so many CPUs the clock is read, at the end of a window with all methods."""


@cache
def reads(cpus: int, packages: int) -> dict[str, float]:
    """What :data:`PROGRAM` counted on a machine of that size."""
    memory = Path("/dev/shm")
    with (
        TemporaryDirectory(dir=memory if memory.is_dir() else None) as place,
        LargeMachine(Path(place) / "root", cpus, packages) as machine,
    ):
        command = [sys.executable, "-c", PROGRAM, str(machine.root)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


@pytest.fixture(autouse=True)
def _counted() -> None:
    if not Path("/proc/self/io").exists():
        pytest.skip("this kernel counts no reads: /proc/self/io is missing")


@pytest.mark.parametrize("name", ["rapl", "all"])
def test_a_window_reads_the_same_on_a_thousand_cpus(name: str) -> None:
    small, large = reads(2, 2), reads(1024, 2)
    # A read for each zone at either end.
    assert small[name] >= 2 * 2 * ZONES
    clocks = CLOCKS - 2 if name == "all" else 0
    assert large[name] <= small[name] + clocks


@pytest.mark.parametrize("name", ["rapl", "all"])
def test_sixteen_packages_are_their_zones_more(name: str) -> None:
    two, sixteen = reads(1024, 2), reads(1024, 16)
    more = (16 - 2) * ZONES
    assert sixteen[name] == two[name] + 2 * more


@pytest.mark.parametrize("name", ["rapl", "all"])
def test_a_sample_reads_zones_and_no_cpus(name: str) -> None:
    small, large, many = reads(2, 2), reads(1024, 2), reads(1024, 16)
    sample = f"sample {name}"
    # Idle time, CPUs online and perhaps /proc/stat, beside the zones, of which three looks more
    # are taken as long as it is not known how often they change.
    for found, zones in ((small, 2 * ZONES), (large, 2 * ZONES), (many, 16 * ZONES)):
        assert zones / 2 < found[sample] <= (1 + 3) * zones + 6
    assert large[sample] <= small[sample] + 6


@pytest.mark.parametrize("name", ["rapl", "all"])
def test_a_first_window_finds_the_machine_out_without_asking_each_cpu(name: str) -> None:
    first = f"first {name}"
    assert reads(1024, 2)[first] <= reads(2, 2)[first] + 64
