"""Descriptors: few of them, given back, and never those of the function that is metered."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lithowatt import EnergyMeter
from rig import StaticTree
from tests.support import RIG


def open_descriptors(name: str = "") -> int:
    """Descriptors of this process, or those of them that are files of this name."""
    found = 0
    for number in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{number}").endswith(name)
        except FileNotFoundError:  # the one that lists them
            pass
    return found


def run(program: str, *arguments: str, timeout: float = 120) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, "PYTHONPATH": str(RIG)},
    )
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr[-2000:])
    return done.stdout


@pytest.fixture
def place() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    yield directory
    shutil.rmtree(directory)


# -- one hub per root -----------------------------------------------------------------------------


@pytest.mark.slow
def test_roots_whose_meters_ended_keep_no_descriptors_and_no_threads(place: Path) -> None:
    meters: list[EnergyMeter] = []
    tree_of: dict[EnergyMeter, StaticTree] = {}

    def once(number: int) -> None:
        tree = StaticTree(place / str(number), domains=("package",))
        meter = EnergyMeter(root=tree.root, interval=0.01, methods=["rapl", "psutil"])
        with meter:
            pass
        tree_of[meter] = tree
        meters.append(meter)  # a meter that is kept must not keep the descriptors

    for number in range(12):
        once(number)
    before, threads = open_descriptors("uptime"), len(os.listdir("/proc/self/task"))
    for number in range(12, 45):
        once(number)
    assert open_descriptors("uptime") <= before <= 10
    assert len(os.listdir("/proc/self/task")) <= threads + 1
    # Each of them goes on where it is used again.
    for meter in (meters[0], meters[20], meters[44]):
        with meter:
            tree_of[meter].add("package-0", 1_000_000)
            time.sleep(0.005)  # longer than a counter's update
        assert meter.reading.rapl.package is not None


def test_running_meters_of_many_roots_are_left_alone(place: Path) -> None:
    trees = [StaticTree(place / str(number), domains=("package",)) for number in range(12)]
    meters = [EnergyMeter(root=tree.root, interval=0.01, methods=["rapl"]) for tree in trees]
    for meter in meters:
        meter.start()
    for number, tree in enumerate(trees):
        tree.add("package-0", (number + 1) * 1_000_000)
    time.sleep(0.005)
    for meter in meters:
        meter.stop()
    joules = [meter.reading.rapl.package for meter in meters]
    assert joules == pytest.approx([number + 1 for number in range(12)])


def test_threads_may_meter_many_roots_at_once(place: Path) -> None:
    trees = [StaticTree(place / str(number), domains=("package",)) for number in range(8)]
    failed: list[object] = []
    adding = threading.Lock()

    def work(offset: int) -> None:
        for i in range(30):
            tree = trees[(i * (offset + 1)) % len(trees)]
            with EnergyMeter(root=tree.root, interval=(None, 0.01)[i % 2], methods=["rapl"]) as m:
                for _ in range(2):
                    with adding:
                        tree.add("package-0", 1000)
                    time.sleep(0.003)
            # On a busy machine the last sleep may be so long that the counter stood still.
            if m.reading.rapl.package is None and "stood still" not in m.reading.rapl.source:
                failed.append(m.reading.rapl.source)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


# -- pipes and devices in the place of files ------------------------------------------------------


@pytest.mark.parametrize("what", ["pipe", "endless", "directory"])
def test_what_is_no_file_in_place_of_the_calibration_or_below_the_root_is_passed_over(
    place: Path, what: str
) -> None:
    def put(path: Path) -> None:
        if path.exists():
            path.unlink()
        path.parent.mkdir(parents=True, exist_ok=True)
        if what == "pipe":
            os.mkfifo(path)
        elif what == "endless":
            path.symlink_to("/dev/zero")
        else:
            path.mkdir()

    tree = StaticTree(place / "root", domains=("package",))
    put(place / "state/calibration.json")
    put(place / "ring")
    root = Path(tree.root)
    for name in ("proc/cpuinfo", "proc/meminfo", "proc/uptime", "sys/devices/system/cpu/online"):
        if not (root / name).parent.resolve().is_relative_to(root.resolve()):
            continue  # a link to the machine's own
        put(root / name)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from lithowatt import EnergyMeter, _core\n"
            "with EnergyMeter(root=sys.argv[1], interval=None) as m: sum(range(10**6))\n"
            "m.stats(); _core.doctor(sys.argv[1]); print(m.reading.duration > 0)\n"
            "try: _core.read_calibration(_core.calibration_path())\n"
            "except OSError as e: print(e)\n",
            tree.root,
        ],
        env={
            **os.environ,
            "LITHOWATT_STATE_DIR": str(place / "state"),
            "LITHOWATT_RING": str(place / "ring"),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("True\n")
    assert "not a regular file" in done.stdout


# -- none free ------------------------------------------------------------------------------------

NONE_FREE = """
import os, resource, sys, time
from rig import StaticTree
from lithowatt import EnergyMeter

tree = StaticTree(sys.argv[1], domains=("package",), start_uj=1_000_000_000)

def window(meter):
    with meter:
        end = time.process_time() + 0.15
        while time.process_time() < end:
            tree.add("package-0", 2000)
    return meter.reading

resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
"""


def test_a_first_window_without_a_free_descriptor_is_named_and_the_next_one_is_whole(
    place: Path,
) -> None:
    out = run(
        NONE_FREE
        + """
held = []
try:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
meter = EnergyMeter(root=tree.root)
first = window(meter)
for number in held:
    os.close(number)
print(first.rapl.package, "descriptor free" in first.rapl.source)
print("descriptor free" in first.raw["system_reason"])
for reading in (window(meter), window(EnergyMeter(root=tree.root))):
    print(reading.rapl.package > 0, reading.raw["system_reason"], reading.others is not None)
""",
        str(place / "root"),
    )
    assert out.splitlines() == ["None True", "True", "True None True", "True None True"]


def test_counters_of_the_tree_leave_the_descriptors_to_the_function(place: Path) -> None:
    out = run(
        NONE_FREE
        + """
import threading

end = threading.Event()
threads = [threading.Thread(target=end.wait, daemon=True) for _ in range(40)]
for thread in threads:
    thread.start()
meter = EnergyMeter(root=tree.root, methods=["perf", "psutil"])
with meter:
    pass
numbers = []
try:
    while True:
        numbers.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    print(len(numbers), meter.reading.raw["perf_hardware_reason"])
# A thread's end may load a library, which takes a descriptor.
for number in numbers:
    os.close(number)
end.set()
for thread in threads:
    thread.join()
""",
        str(place / "root"),
    )
    number, reason = out.split(maxsplit=1)
    assert int(number) >= 35
    assert "threads take" in reason or "perf" in reason


# -- closed by the function -----------------------------------------------------------------------


@pytest.mark.parametrize("interval", ["None", "0.01"])
def test_files_that_take_over_the_meter_s_numbers_are_the_function_s(
    place: Path, interval: str
) -> None:
    out = run(
        f"""
import os, sys, time
from rig import StaticTree
from lithowatt import EnergyMeter

tree = StaticTree(sys.argv[1] + "/root", domains=("package",), start_uj=1_000_000_000, mode=0o644)
meter = EnergyMeter(root=tree.root, interval={interval}, methods=["rapl", "perf", "psutil", "tdp"])
with meter:
    tree.add("package-0", 5000)
    time.sleep(0.02)

theirs = set(os.listdir("/proc/self/fd"))
path = sys.argv[1] + "/theirs"
with open(path, "w") as file:
    file.write("123456789\\n")

def ends():
    # Pipes with a byte in each: whoever reads a foreign number takes it away.
    reading, writing = os.pipe()
    os.write(writing, b"x")
    return reading, writing

with meter:
    tree.add("package-0", 5000)
    os.closerange(3, 4096)
    files = [os.open(path, os.O_RDONLY) for _ in range(25)]
    pipes = [ends() for _ in range(5)]
    time.sleep(0.05)
reading = meter.reading
del meter
intact = all(os.fstat(n).st_size == 10 for n in files)
intact = intact and all(os.lseek(n, 0, os.SEEK_CUR) == 0 for n in files)
intact = intact and all(os.read(reading_end, 9) == b"x" for reading_end, _ in pipes)
print(intact, reading.cpu_seconds is not None)
with EnergyMeter(root=sys.argv[1] + "/root", methods=["rapl"]) as after:
    counter = f"{{tree.root}}/sys/class/powercap/intel-rapl:0/energy_uj"
    with open(counter, "r+") as file:  # the tree's own descriptor is closed, too
        file.write("1000017000\\n")
    time.sleep(0.02)
print(after.reading.rapl.package)
""",
        str(place),
    )
    first, second = out.splitlines()
    assert first == "True True"
    assert float(second) == pytest.approx(0.007)
