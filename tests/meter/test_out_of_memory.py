"""A function that reaches its memory limit gets a MemoryError, metered or not."""

from __future__ import annotations

import subprocess
import sys

import pytest

resource = pytest.importorskip("resource")

#: Leaves the process 48 MiB of address space and takes all of it, down to the smallest blocks.
PREPARE = """
import resource, sys, time
import lithowatt
from lithowatt import EnergyMeter

def size():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()

def fill():
    resource.setrlimit(resource.RLIMIT_AS, (size() + (48 << 20), resource.RLIM_INFINITY))
    held, block = [], 8 << 20
    while block >= 16:
        try:
            held.append(bytearray(block))
        except MemoryError:
            block //= 2
    return held

def free(held):
    held.clear()
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

def spin(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
"""

#: The machine is known from an earlier window, as in a worker that has run a call before.
WARM = """
with EnergyMeter(interval=None) as first:
    pass
first.stats()
"""


def run(program: str, *, timeout: float = 120) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PREPARE + program],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr[-2000:])
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("warm", ["", WARM], ids=["first-window", "later-window"])
@pytest.mark.parametrize("interval", ["None", "0.02"])
def test_a_window_that_ends_with_memory_full_is_read_or_has_its_reason(
    warm: str, interval: str
) -> None:
    out = run(
        warm
        + f"""
m = EnergyMeter(interval={interval})
m.start()
spin(0.1)
held = fill()
spin(0.3)
m.stop()
free(held)
reading = m.reading
print(reading.joules is not None or "memory" in reading.raw["headline_reason"], m.running)
"""
    )
    assert out.split() == ["True", "False"]


def test_a_later_window_has_its_numbers_all_the_same() -> None:
    out = run(
        WARM
        + """
m = EnergyMeter(interval=None)
m.start()
held = fill()
spin(0.3)
m.stop()
free(held)
print(m.reading.cpu_seconds)
"""
    )
    assert float(out) > 0.2


def test_the_function_gets_its_memory_error_and_the_meter_stops() -> None:
    out = run(
        """
m = EnergyMeter(interval=0.01)
try:
    with m:
        held = fill()
        with m.phase("more"):
            held.append(bytearray(64 << 20))
except MemoryError:
    print("MemoryError", m.running)
free(held)
m.reading
"""
    )
    assert out.split() == ["MemoryError", "False"]


def test_a_reading_asked_for_with_memory_full_is_there_or_a_memory_error() -> None:
    out = run(
        WARM
        + """
m = EnergyMeter(interval=0.01)
m.start()
spin(0.2)
held = fill()
asked = 0
for ask in (lambda: m.reading, m.stats, m.stats_json, m._raw_timeline):
    try:
        ask()
    except MemoryError:
        pass
    asked += 1
m.stop()
for ask in (lambda: m.reading, m.stats, m.stats_json, m._raw_timeline):
    try:
        ask()
    except MemoryError:
        pass
    asked += 1
free(held)
print(asked, m.reading.duration > 0.2)
"""
    )
    assert out.split() == ["8", "True"]


def test_many_meters_may_begin_and_end_with_memory_full() -> None:
    out = run(
        WARM
        + """
held = fill()
kept = []
for number in range(400):
    try:
        m = EnergyMeter(interval=(None, 0.01)[number % 2])
        m.start()
        kept.append(m)
    except MemoryError:
        pass
for m in kept:
    m.stop()
free(held)
with EnergyMeter(interval=None) as after:
    spin(0.05)
print(after.reading.cpu_seconds > 0.02)
"""
    )
    assert out.split() == ["True"]


def test_the_sampler_leaves_a_small_address_space_to_the_function() -> None:
    """A thread of its own takes 64 MiB of address space with glibc: too much of 200."""
    out = run(
        """
resource.setrlimit(resource.RLIMIT_AS, (size() + (200 << 20), resource.RLIM_INFINITY))
before = size()
m = EnergyMeter(interval=0.01)
with m:
    spin(0.1)
reading = m.reading
print(size() - before < 16 << 20, any("sampler" in text for text in reading.warnings))
"""
    )
    assert out.split() == ["True", "True"]
