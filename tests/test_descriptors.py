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
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent / "rig")},
    )
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr[-2000:])
    return done.stdout


@pytest.fixture
def place() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    yield directory
    shutil.rmtree(directory)


# -- one hub per root -----------------------------------------------------------------------------


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

    for number in range(5):
        once(number)
    before, threads = open_descriptors("uptime"), len(os.listdir("/proc/self/task"))
    for number in range(5, 45):
        once(number)
    assert open_descriptors("uptime") <= before <= 6
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
                with adding:
                    tree.add("package-0", 1000)
                time.sleep(0.005)
            if m.reading.rapl.package is None:
                failed.append(m.reading.rapl.source)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
