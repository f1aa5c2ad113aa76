"""What an agent writes for a virtual machine, and what a meter there makes of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lithowatt import _core
from lithowatt.errors import AgentError
from tests.support.agent_tools import burning, shared_folder
from tests.support.meanwhile import meanwhile
from tests.support.powercap_files import FakeMachine

WATTS = 40.0

METER = """
import json, sys, time
from lithowatt import EnergyMeter

if sys.argv[1] != "None":
    with EnergyMeter():
        time.sleep(float(sys.argv[1]))
meter = EnergyMeter()
with meter:
    end = time.monotonic() + float(sys.argv[2])
    while time.monotonic() < end:
        pass
ended = time.monotonic()
reading = meter.reading
total = reading.guest.estimate("total")
print(json.dumps({
    "total": total and (total.value, total.low, total.high), "method": reading.method,
    "quality": reading.quality, "notes": reading.notes, "duration": reading.duration,
    "idle": reading.idle, "machine": reading.machine, "source": reading.guest.source,
    "stats": meter.stats()["worker_func_guest_energy"], "warnings": reading.warnings,
    "ended": ended,
}))
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    path = shared_folder()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@contextmanager
def moving(machine: FakeMachine) -> Iterator[None]:
    """The machine's package draws a constant power."""
    began = time.monotonic()

    def count() -> None:
        machine.set("intel-rapl:0", 1_000_000 + round((time.monotonic() - began) * WATTS * 1e6))

    with meanwhile(count, 0.002):
        yield


def samples(ring: Path) -> dict[int, tuple[int, int]]:
    """Time (ns) and energy (µJ) of the samples of a guest's ring, by their numbers."""
    data = ring.read_bytes()
    found = {}
    for at in range(8192, len(data), 72):
        words = [int.from_bytes(data[at + 8 * i : at + 8 * i + 8], "little") for i in range(9)]
        if words[0]:
            found[words[0]] = (words[1], words[7])
    return found


def metered(file: Path, wait: float | None, seconds: float) -> dict[str, Any]:
    """A window in a process of its own, which begins when ``wait`` is over; ``None``: its first."""
    done = subprocess.run(
        [sys.executable, "-c", METER, str(wait), str(seconds)],
        env={**os.environ, "LITHOWATT_GUEST": str(file)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("guest", "words"),
    [
        ("vm", "names no process"),
        ("../vm=1", "is no name"),
        ("vm=4194303", "there is no process"),
        ("vm=/no/such/group", "there is no cgroup /no/such/group"),
    ],
)
def test_a_guest_that_cannot_be_is_refused_and_no_ring_is_made(
    folder: Path, guest: str, words: str
) -> None:
    machine = FakeMachine(folder / "host")
    ring = folder / "agent/ring"
    with pytest.raises(AgentError, match=words):
        _core.Agent(ring, root=machine.root, guests=[guest], guest_folder=folder / "guests")
    assert not ring.exists()


def test_a_folder_that_others_may_write_to_is_refused(folder: Path) -> None:
    machine = FakeMachine(folder / "host")
    guests = folder / "guests"
    guests.mkdir()
    guests.chmod(0o777)
    with pytest.raises(AgentError, match="may be written by others"):
        _core.Agent(
            folder / "agent/ring",
            root=machine.root,
            guests=[f"vm={os.getpid()}"],
            guest_folder=guests,
        )


@pytest.mark.slow
def test_guests_get_their_parts_and_never_more_than_the_machine(folder: Path) -> None:
    machine = FakeMachine(folder / "host")
    guests = folder / "guests"
    with burning() as one, burning(0.3) as other, moving(machine):
        agent = _core.Agent(
            folder / "agent/ring",
            root=machine.root,
            guests=[f"one={one.pid}", f"other={other.pid}"],
            guest_folder=guests,
        )
        try:
            time.sleep(2.5)
            of = {name: samples(guests / name / "ring") for name in ("one", "other")}
            snapshot = agent.snapshot()
        finally:
            agent.stop()
    numbers = sorted(of["one"].keys() & of["other"].keys())
    first, last = numbers[0], numbers[-1]
    parts = {name: (seen[last][1] - seen[first][1]) * 1e-6 for name, seen in of.items()}
    seconds = (of["one"][last][0] - of["one"][first][0]) * 1e-9
    assert last - first >= 8
    # Steps of 1 mJ, and the counter is moved every 2 ms.
    assert sum(parts.values()) <= WATTS * seconds * 1.02 + 0.2
    assert parts["one"] > parts["other"] > 0
    assert set(snapshot["guests"]) == {"one", "other"}


@pytest.mark.slow
def test_a_meter_reads_the_agents_ring(folder: Path) -> None:
    machine = FakeMachine(folder / "host")
    with burning() as guest, moving(machine):
        agent = _core.Agent(
            folder / "agent/ring",
            root=machine.root,
            guests=[f"vm={guest.pid}"],
            guest_folder=folder / "guests",
        )
        try:
            ring = folder / "guests/vm/ring"
            time.sleep(0.3)
            found = metered(folder / "guests/vm", 0.5, 0.3)
            kept = samples(ring)
        finally:
            agent.stop()
    assert found["method"] == "guest+cputime" and found["quality"] == "attributed"
    assert found["source"] == "measured: guest vm"
    assert "above idle" in found["notes"][0]
    value, low, high = found["total"]
    assert 0 < low < value < high
    assert found["stats"] == pytest.approx(value) and found["idle"] == 0
    # A guest's part is none of the machine's that it is not.
    assert value <= WATTS * found["duration"] * 1.5
    assert kept


@pytest.mark.slow
def test_a_file_of_watts_gives_short_windows_their_energy(folder: Path) -> None:
    watts = folder / "watts"
    watts.write_text("20.0\n")
    watts.chmod(0o644)
    # As PowerJoular does: the file is empty for a moment.
    with meanwhile(lambda: watts.write_text("2026-11-30 10:00:00,0.25,20.0\n"), 0.25):
        found = metered(watts, 1.5, 0.1)
    assert found["method"] == "guest+cputime"
    assert found["total"][0] > 0 and "PowerJoular" in found["notes"][0]


@pytest.mark.slow
def test_a_file_that_does_not_change_is_no_zero(folder: Path) -> None:
    watts = folder / "watts"
    watts.write_text("20.0\n")
    watts.chmod(0o644)
    os.utime(watts, (1e9, 1e9))
    found = metered(watts, 0.1, 0.1)
    assert found["total"] is None and found["stats"] is None
    assert found["method"].startswith("model:")


@contextmanager
def writing(watts: Path, period: float, power: float) -> Iterator[None]:
    """A host's program writes the guest's watts, as PowerJoular does."""
    watts.write_text(f"{power}\n")
    watts.chmod(0o644)
    with meanwhile(lambda: watts.write_text(f"{power}\n"), period):
        yield


@pytest.mark.slow
def test_the_first_window_beside_a_file_of_watts_has_all_its_joules(folder: Path) -> None:
    with writing(folder / "watts", 1.0, 20.0):
        time.sleep(0.3)
        found = metered(folder / "watts", None, 2.0)
    truth = 20.0 * found["duration"]
    value, low, high = found["total"]
    assert value == pytest.approx(truth, rel=0.1)
    assert low <= truth <= high
    assert not [w for w in found["warnings"] if "could not be read" in w]


@pytest.mark.slow
def test_an_outage_of_the_host_s_program_is_stated_and_not_filled_in(folder: Path) -> None:
    watts = folder / "watts"
    began = time.monotonic()

    def write() -> None:
        # 20 W for 9 s, nothing for 5 s, and from then on 100 W.
        passed = time.monotonic() - began
        if passed < 9 or passed > 14:
            watts.write_text("20.0\n" if passed < 9 else "100.0\n")

    write()
    watts.chmod(0o644)
    with meanwhile(write, 0.5):
        found = metered(watts, 1.0, 15.0)
    end = found["ended"] - began
    seen = 20.0 * (9 - end + found["duration"]) + 100.0 * (end - 14)
    value, low, high = found["total"]
    # At 100 W the outage would be 500 J; a value stands for the half second before it.
    assert value < seen + 100.0
    assert low <= seen + 50.0 and seen + 5 * 20.0 <= high, found
    assert any("its file lacks some of its energy once" in w for w in found["warnings"])


def test_a_window_that_ends_before_the_second_value_says_so(folder: Path) -> None:
    with writing(folder / "watts", 5.0, 20.0):
        found = metered(folder / "watts", None, 0.3)
    assert found["total"] is None
    assert "the host wrote no second value yet" in found["source"]


def guest_of(file: Path) -> dict[str, Any]:
    """What a diagnosis says of the host's file, in a process of its own."""
    code = "import json; from lithowatt import _core; print(json.dumps(_core.doctor()))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "LITHOWATT_GUEST": str(file)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found: dict[str, Any] = {one["method"]: one for one in json.loads(done.stdout)}["guest"]
    return found


def test_a_diagnosis_says_how_old_a_host_s_file_is(folder: Path) -> None:
    watts = folder / "watts"
    watts.write_text("20.0\n")
    watts.chmod(0o644)
    os.utime(watts, (time.time() - 3 * 3600,) * 2)
    found = guest_of(watts)
    assert found["available"] is False and found["gives"] == []
    assert "the host writes its file no more" in found["reason"]
    assert "was last written 3 h ago" in found["reason"]
    assert "writes its file no more" in metered(watts, None, 0.1)["source"]
    with writing(watts, 0.5, 20.0):
        found = guest_of(watts)
    assert found["available"] is True and found["gives"] == ["host's power file"]


def test_a_guest_whose_host_gives_it_nothing_now_is_no_fault(folder: Path) -> None:
    with writing(folder / "watts", 0.3, 0.0):
        found = guest_of(folder / "watts")
        beside = metered(folder / "watts", 0.5, 0.2)
    assert found["available"] is True and found["gives"] == ["host's power file"]
    assert beside["total"] is None
    assert not [w for w in beside["warnings"] if "did not move" in w]
