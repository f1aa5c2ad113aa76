"""What a process may use of its machine may change while it lives: readings follow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lithowatt import EnergyMeter

METHODS = ["psutil", "tdp"]


@pytest.fixture
def two_cpus() -> Iterator[list[int]]:
    """Two CPUs that this process may use; all of them again after the test."""
    before = os.sched_getaffinity(0)
    if len(before) < 2:
        pytest.skip("this process may use one CPU only")
    yield sorted(before)[:2]
    os.sched_setaffinity(0, before)


def window(meter: EnergyMeter) -> dict[str, Any]:
    # Files are read every 0.1 s at most.
    time.sleep(0.15)
    with meter:
        pass
    raw: dict[str, Any] = meter.reading.raw
    return raw


@pytest.mark.slow
def test_threads_that_are_bound_between_windows(two_cpus: list[int]) -> None:
    meter = EnergyMeter(methods=METHODS)
    os.sched_setaffinity(0, two_cpus)
    both = window(meter)["allotted_cpus"]
    os.sched_setaffinity(0, two_cpus[:1])
    one = window(meter)
    os.sched_setaffinity(0, two_cpus)
    again = window(meter)["allotted_cpus"]
    # A quota of this machine may allow less.
    assert one["allotted_cpus"] == min(1.0, both) and again == both
    assert one["environment"]["allotted"]["affinity"] == 1


def test_threads_that_are_bound_within_a_window(two_cpus: list[int]) -> None:
    meter = EnergyMeter(methods=METHODS)
    os.sched_setaffinity(0, two_cpus)
    window(meter)
    with meter:
        os.sched_setaffinity(0, two_cpus[:1])
    assert meter.reading.raw["environment"]["allotted"]["affinity"] == 1


def test_a_forked_worker_has_its_own_cpus(two_cpus: list[int]) -> None:
    os.sched_setaffinity(0, two_cpus)
    window(EnergyMeter(methods=METHODS))
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.sched_setaffinity(0, two_cpus[:1])
        affinity = window(EnergyMeter(methods=METHODS))["environment"]["allotted"]["affinity"]
        os.write(writer, str(affinity).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(reader, 9) == b"1"
    os.close(reader)
    os.close(writer)


# In a process of its own: what is known of a machine is found out once, and for one root.
CHANGES = """
import json, sys, time
from pathlib import Path
from lithowatt import EnergyMeter

root = Path(sys.argv[1])
top = root / "sys/fs/cgroup"

def write(name, text):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)

write("proc/meminfo", "MemTotal: 4194304 kB\\nMemAvailable: 2097152 kB\\n")
write("proc/self/cgroup", "0::/a\\n")
write("sys/devices/system/cpu/online", "0\\n")
for group, quota in (("a", "20000"), ("b", "30000")):
    write(f"sys/fs/cgroup/{group}/cpu.max", f"{quota} 100000\\n")
    write(f"sys/fs/cgroup/{group}/memory.max", "max\\n")
    write(f"sys/fs/cgroup/{group}/cpu.stat", "usage_usec 1\\n")
meter = EnergyMeter(root=root, methods=["psutil", "tdp"])

def look():
    time.sleep(0.15)
    with meter:
        time.sleep(0.02)
    raw = meter.reading.raw
    share = raw["environment"]["allotted"]
    print(json.dumps([raw["allotted_cpus"], share["set_by"], share["memory_gib"],
                      share["machine_cpus"]]))

look()
write("sys/fs/cgroup/a/cpu.max", "50000 100000\\n")
look()
write("sys/fs/cgroup/a/memory.max", str(1 << 29))
look()
write("proc/self/cgroup", "0::/b\\n")
look()
write("sys/devices/system/cpu/online", "0-3\\n")
look()
write("sys/fs/cgroup/b/cpu.max", "max 100000\\n")
look()
"""


@pytest.mark.slow
def test_limits_and_cpus_that_change(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHANGES, str(tmp_path / "r")],
        capture_output=True,
        text=True,
        check=True,
    )
    looks = [json.loads(line) for line in done.stdout.splitlines()]
    assert looks[:5] == [
        [0.2, "quota", None, 1],
        [0.5, "quota", None, 1],
        [0.5, "quota", 0.5, 1],
        [0.3, "quota", None, 1],
        [0.3, "quota", None, 4],
    ]
    cpus, set_by, _, machine = looks[5]
    assert machine == 4 and set_by != "quota"
    assert cpus == min(4.0, float(len(os.sched_getaffinity(0))))
