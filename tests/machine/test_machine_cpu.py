"""How busy the machine is: from /proc where it can be believed, else unknown, with a warning."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lithowatt import EnergyMeter

pytestmark = pytest.mark.quiet

METHODS = ["psutil", "tdp"]


class Proc(threading.Thread):
    """/proc/uptime and /proc/stat as plain files that follow time.

    ``idle`` and ``stat`` tell how many CPUs rest by each, and ``all_cpus`` how many /proc/stat has
    in all. Where one is ``None`` its file stands still; where a path is left out there is none.
    """

    def __init__(
        self,
        root: Path,
        online: str,
        idle: Callable[[], float] | None,
        stat: Callable[[], tuple[float, float]] | None,
        files: tuple[str, ...] = ("uptime", "stat"),
        start: float = 8000.0,
    ) -> None:
        super().__init__(daemon=True)
        self.root, self.idle, self.stat = root, idle, stat
        for folder in ("proc/self", "sys/devices/system/cpu"):
            (root / folder).mkdir(parents=True)
        (root / "proc/meminfo").write_text("MemTotal: 4194304 kB\nMemAvailable: 2097152 kB\n")
        (root / "proc/cpuinfo").write_text("model name\t: AMD EPYC 7B13\n")
        (root / "proc/self/cgroup").write_text("0::/\n")
        self.online(online)
        self.rested = [start, start]
        self.busy = start
        self.fds = {name: os.open(root / "proc" / name, os.O_RDWR | os.O_CREAT) for name in files}
        self.ended = threading.Event()
        self.put(0.0)

    def online(self, cpus: str) -> None:
        """In place, as the kernel's file changes."""
        (self.root / "sys/devices/system/cpu/online").write_text(f"{cpus}\n")

    def put(self, t: float) -> None:
        idle, by_stat = self.rested
        if "uptime" in self.fds:
            os.pwrite(self.fds["uptime"], b"%010.2f %010.2f\n" % (1000 + t, idle), 0)
        if "stat" in self.fds:
            line = b"cpu  %010d 0 0 %010d 0 0 0 0 0 0\n" % (self.busy * 100, by_stat * 100)
            os.pwrite(self.fds["stat"], line, 0)

    def run(self) -> None:
        began = last = time.monotonic()
        while not self.ended.wait(0.004):
            now = time.monotonic()
            dt, last = now - last, now
            if self.idle is not None:
                self.rested[0] += dt * self.idle()
            if self.stat is not None:
                rest, whole = self.stat()
                self.rested[1] += dt * rest
                self.busy += dt * (whole - rest)
            self.put(now - began)

    def __enter__(self) -> Proc:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.join()
        for fd in self.fds.values():
            os.close(fd)


def spin(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def metered(root: Path, between: Callable[[], None] = lambda: None) -> EnergyMeter:
    """A meter after its second window, in which this process was busy for a second."""
    meter = EnergyMeter(root=root, methods=METHODS)
    with meter:
        pass
    between()
    with meter:
        spin(1.0)
    return meter


def share(meter: EnergyMeter) -> float:
    value: float = meter.reading.raw["headline"]["share"]["value"]
    return value


def used(meter: EnergyMeter) -> float:
    """CPUs that this process used."""
    assert meter.reading.cpu_seconds is not None
    return meter.reading.cpu_seconds / meter.reading.duration


def says(meter: EnergyMeter, words: str) -> bool:
    return any(words in text for text in meter.reading.warnings)


UNKNOWN = "how busy the machine was is unknown"


def check_share(meter: EnergyMeter, busy: float) -> None:
    """The share is right where ``busy`` CPUs were, or it is said to be unknown.

    On an overloaded machine the files here are late, so that they contradict the time that passed.
    """
    if not says(meter, UNKNOWN):
        right = used(meter) / busy
        assert right / 1.7 < share(meter) < right * 1.7


def test_files_that_agree_are_believed_without_a_word(
    tmp_path: Path, steady: Callable[[Callable[[], None]], None]
) -> None:
    turns = iter(range(9))

    @steady
    def check() -> None:
        root = tmp_path / str(next(turns))
        with Proc(root, "0-7", lambda: 4.0, lambda: (4.0, 8.0)):
            meter = metered(root)
        check_share(meter, 4.0)
        assert not says(meter, "is from /proc")


@pytest.mark.parametrize("start", [0.0, 8000.0])
def test_idle_time_that_does_not_move_is_unknown(tmp_path: Path, start: float) -> None:
    with Proc(tmp_path / "r", "0-15", None, None, start=start):
        meter = metered(tmp_path / "r")
    assert says(meter, UNKNOWN) and says(meter, "gVisor")
    band = meter.reading.raw["headline"]["share"]
    assert band["low"] == 0.0 and band["high"] == 1.0


def test_a_containers_own_idle_time_gives_way_to_proc_stat(tmp_path: Path) -> None:
    # lxcfs: one CPU's worth of idle time less what was used, on 16 CPUs that rest but for one.
    with Proc(tmp_path / "r", "0-15", lambda: 0.05, lambda: (14.0, 16.0)):
        meter = metered(tmp_path / "r")
    check_share(meter, 2.0)
    assert says(meter, "is from /proc/stat") or says(meter, UNKNOWN)


def test_a_containers_own_idle_time_alone_is_unknown(tmp_path: Path) -> None:
    with Proc(tmp_path / "r", "0-15", lambda: 0.05, None, files=("uptime",)):
        meter = metered(tmp_path / "r")
    assert says(meter, UNKNOWN)


def test_proc_stat_stands_in_where_there_is_no_uptime(tmp_path: Path) -> None:
    with Proc(tmp_path / "r", "0-7", None, lambda: (4.0, 8.0), files=("stat",)):
        meter = metered(tmp_path / "r")
    check_share(meter, 4.0)
    assert says(meter, "/proc/uptime cannot be read") or says(meter, UNKNOWN)


def test_a_hidden_proc_is_said_with_the_model_too(tmp_path: Path) -> None:
    with Proc(tmp_path / "r", "0-7", None, None, files=()):
        meter = metered(tmp_path / "r")
    assert says(meter, UNKNOWN) and says(meter, "can be read")


@pytest.mark.parametrize("stat", [True, False])
@pytest.mark.parametrize(("before", "after"), [("0-7", "0-3"), ("0-3", "0-15")])
def test_cpus_that_come_or_go_between_windows(
    tmp_path: Path, before: str, after: str, stat: bool
) -> None:
    count = [int(before[2:]) + 1]

    def busy_others() -> float:
        return count[0] - 2.0

    with Proc(
        tmp_path / "r", before, busy_others, (lambda: (busy_others(), count[0])) if stat else None
    ) as proc:

        def change() -> None:
            proc.online(after)
            count[0] = int(after[2:]) + 1

        meter = metered(tmp_path / "r", change)
    check_share(meter, 2.0)


def test_cpus_that_go_within_a_window(tmp_path: Path) -> None:
    count = [8]
    with Proc(
        tmp_path / "r", "0-7", lambda: count[0] - 2.0, lambda: (count[0] - 2.0, count[0])
    ) as proc:
        with EnergyMeter(root=proc.root, methods=METHODS) as meter:
            spin(0.6)
            count[0] = 4
            proc.online("0-3")
            spin(1.2)
    check_share(meter, 2.0)


@pytest.mark.parametrize("after", [0.005, 0.035, 0.065])
@pytest.mark.parametrize("interval", [None, 0.02, 0.1])
def test_idle_time_that_steps_back_within_a_window(
    tmp_path: Path, after: float, interval: float | None
) -> None:
    # By more than it grows in the window, as when the CPUs that counted it are gone.
    with Proc(tmp_path / "r", "0-7", lambda: 6.0, lambda: (6.0, 8.0)) as proc:
        for _ in range(2):
            with EnergyMeter(root=proc.root, methods=METHODS):
                spin(0.05)
        with EnergyMeter(root=proc.root, methods=METHODS, interval=interval) as meter:
            spin(after)
            proc.rested = [rested - 40.0 for rested in proc.rested]
            spin(0.2 - after)
    check_share(meter, 2.0)


def test_more_than_the_cpus_online_could_rest_is_not_believed(tmp_path: Path) -> None:
    # The machine's /proc beside a container's /sys.
    with Proc(tmp_path / "r", "0-1", lambda: 12.0, lambda: (12.0, 16.0)):
        meter = metered(tmp_path / "r")
    check_share(meter, 4.0)
