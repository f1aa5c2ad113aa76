"""Simulated machines whose counters, idle time and CPUs fail at random, while their truth is known.

``python evaluation/fault_injection.py [--windows N] [--seed S]`` prints how many windows ended in
``None``, in a warning, in a wide band or in a plain number, and every window that was wrong.

Several machines run side by side in one event loop. Each is a folder of plain files with a meter on
it (``root=``). The function is this process: its CPU time is real, and so is the clock. The files
say how the rest of the machine does: counters, idle time, CPUs.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "rig"))

from lithowatt import EnergyMeter
from lithowatt.model import PowerModel
from rig import INTEL_RANGE_UJ, StaticTree

UJ = 1e6
LATE = 0.01
"""The kernel's files are exact at any moment. These are of the last turn, which is at most so long
ago, s."""
WINDOWS = 50
"""So many windows has a machine, or three once it does what a sandbox does."""
WIDE = 2.5
"""A band is wide from here: (high - low) / value. Where idle power is a guess, that of a small
function has about 2."""

CEILING_W = 5_000
"""More than any package may use, so a step of more within a second is none of its energy, W."""

LOOK = 0.35
"""No two looks are farther apart, s."""

IDLE_GUESS = "idle power is the model's guess"
"""Begins the one warning that a window without a fault may carry."""


# -- machines -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Look:
    """What a machine looks like."""

    name: str
    names: tuple[str, ...]
    """Package zones."""
    domains: tuple[str, ...] = ("package",)
    vendor: str = "GenuineIntel"
    cpus: int = 8
    max_range_uj: int = INTEL_RANGE_UJ
    psys: bool = False
    mmio: bool = False
    mirrored: bool = False
    """All packages show one counter, as the dies of some processors do."""


LOOKS = (
    Look("client", ("package-0",), ("package", "core", "uncore"), cpus=4, psys=True),
    Look("server", ("package-0", "package-1"), ("package", "dram"), cpus=16),
    Look("dies", ("package-0-die-0", "package-0-die-1"), ("package", "dram"), cpus=8),
    Look("amd", ("package-0",), ("package",), "AuthenticAMD", cpus=8),
    Look(
        "mirrored",
        ("package-0-die-0", "package-0-die-1"),
        vendor="AuthenticAMD",
        cpus=16,
        mirrored=True,
    ),
    Look("short range", ("package-0",), ("package", "dram"), max_range_uj=65_532_610_987),
    Look("mmio", ("package-0",), ("package",), mmio=True, cpus=4),
    Look("bare", (), cpus=4),
)

DRAM_PART = 0.2


class Machine:
    """One simulated machine: what it truly uses, and what its files show of it."""

    def __init__(self, path: Path, look: Look, choose: random.Random) -> None:
        self.look = look
        self.tree = StaticTree(
            path,
            packages=max(len(look.names), 1),
            domains=look.domains,
            psys=look.psys,
            mmio=look.mmio,
            names=look.names or None,
            max_range_uj=look.max_range_uj,
            start_uj=0,
            mirror=False,
        )
        self.root = self.tree.root
        if not look.names:
            shutil.rmtree(self.root / "sys/class/powercap")
            shutil.rmtree(self.root / "sys/devices/virtual/powercap")
        self._write_proc()
        model = PowerModel.for_machine(self.root)
        self.idle_watts = model.watts(0.0).value
        # The model's curve is concave; a line between its ends is a machine it must cover.
        self.gain = (model.watts(100.0).value - self.idle_watts) / look.cpus
        self.cpus = look.cpus
        self.others = choose.choice((0.0, 0.05, 0.5, 1.5))
        """Busy CPUs beside this process."""
        self.true_uj = 0.0
        """Energy of all packages so far."""
        self.own_seconds = 0.0
        self.small_steps: list[float] = []
        """Steps so far, J. One that is smaller than what was used since the last look cannot be
        seen, nor can the way back of a dip of that depth."""
        self.shifts: dict[str, list[tuple[float, float]]] = {}
        """When each zone's counter stepped, and by how much, µJ."""
        self.hidden_steps: list[float] = []
        """Ways back from a step that nobody can have seen, J: another one came between the same
        two looks."""
        self.asleep_uj = 0.0
        """Energy of suspends: the machine's, and nobody's work."""
        self.idle_seconds = 5_000.0
        self.busy_seconds = 900.0
        self.uptime = 6_000.0
        start = choose.randrange(look.max_range_uj)
        self.offsets = dict.fromkeys(self._shown(), start)
        self.texts: dict[str, bytes] = {}
        """What zones show instead of their counters."""
        self.frozen: dict[str, int] = {}
        self.idle_shown: Callable[[], float] = lambda: self.idle_seconds
        self.idle_stat_shown: Callable[[], float] = lambda: self.idle_shown()
        self.busy_shown: Callable[[], float] = lambda: self.busy_seconds
        self.uptime_text: bytes | None = None
        self._cpu_then = time.process_time()
        self.shown_at = time.monotonic()
        self.show()

    def _write_proc(self) -> None:
        proc = self.root / "proc"
        (proc / "self").mkdir(parents=True)
        for name in ("loadavg", "diskstats", "net"):
            (proc / name).symlink_to(Path("/proc") / name)
        # So little that the model's guess of its watts is near what this machine's memory takes.
        (proc / "meminfo").write_text("MemTotal: 1300000 kB\nMemAvailable: 1000000 kB\n")
        (proc / "self/cgroup").write_text("0::/\n")
        (proc / "cpuinfo").write_text(
            "".join(
                f"processor\t: {cpu}\nvendor_id\t: {self.look.vendor}\ncpu family\t: 23\n"
                f"model\t\t: 1\nmodel name\t: A processor\nsiblings\t: {self.look.cpus}\n"
                f"cpu cores\t: {self.look.cpus}\nphysical id\t: 0\ncore id\t: {cpu}\n\n"
                for cpu in range(self.look.cpus)
            )
        )
        cpu_dir = self.root / "sys/devices/system/cpu"
        cpu_dir.mkdir(parents=True)
        self._fds = {
            name: os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            for name, path in (
                ("uptime", proc / "uptime"),
                ("stat", proc / "stat"),
                ("online", cpu_dir / "online"),
            )
        }
        self.set_online(self.look.cpus)

    def close(self) -> None:
        self.tree.close()
        for fd in self._fds.values():
            os.close(fd)

    def _shown(self) -> dict[str, float]:
        """Part of the packages' energy that each zone counts."""
        if not self.look.names:
            return {}
        parts = {}
        packages = len(self.look.names)
        for zone in self.tree.zones:
            domain = "package" if zone.name.startswith("package") else zone.name
            if domain == "package":
                part = 1.0 if self.look.mirrored else 1.0 / packages
            elif domain == "psys":
                part = 1.5
            else:
                part = {"dram": DRAM_PART, "core": 0.6, "uncore": 0.1}[domain] / packages
            parts[zone.key] = part
        return parts

    def set_online(self, cpus: int) -> None:
        self.cpus = cpus
        self._put("online", f"0-{cpus - 1}\n".encode() if cpus > 1 else b"0\n")

    def _put(self, name: str, text: bytes) -> None:
        os.pwrite(self._fds[name], text, 0)
        os.ftruncate(self._fds[name], len(text))

    def advance(self) -> None:
        """The machine does what it did since the last call; its files show it."""
        now, cpu = time.monotonic(), time.process_time()
        dt, own = now - self.shown_at, cpu - self._cpu_then
        self.shown_at, self._cpu_then = now, cpu
        capacity = dt * self.cpus
        busy = min(own + self.others * dt, capacity)
        self.own_seconds += own
        self.busy_seconds += busy
        self.idle_seconds += capacity - busy
        self.uptime += dt
        self.true_uj += (self.idle_watts * dt + self.gain * busy) * UJ
        self.show()

    def suspend(self, hours: float, watts: float) -> None:
        """The machine sleeps: its clock stands still, its counters go on."""
        energy = hours * 3600 * watts * UJ
        self.true_uj += energy
        self.asleep_uj += energy

    def value(self, zone: str, part: float) -> int:
        counted = int(self.true_uj * part) + self.offsets[zone]
        return counted % (self.look.max_range_uj + 1)

    def show(self) -> None:
        for zone, part in self._shown().items():
            text = self.texts.get(zone)
            if text is None:
                value = self.frozen.get(zone)
                text = b"%-20d\n" % (self.value(zone, part) if value is None else value)
            os.pwrite(self.tree._files[zone], text, 0)
            os.ftruncate(self.tree._files[zone], len(text))
        if self.uptime_text is not None:
            self._put("uptime", self.uptime_text)
        else:
            self._put("uptime", b"%.2f %.2f\n" % (self.uptime, self.idle_shown()))
        user, idle = int(self.busy_shown() * 100), int(self.idle_stat_shown() * 100)
        self._put("stat", b"cpu  %d 0 0 %d 0 0 0 0 0 0\ncpu0 0 0 0 0 0 0 0 0 0 0\n" % (user, idle))

    def machine_uj(self) -> float:
        dram = DRAM_PART if "dram" in self.look.domains else 0.0
        return self.true_uj * (1.0 + dram)

    def own_joules(self) -> float:
        dram = DRAM_PART if "dram" in self.look.domains else 0.0
        return self.own_seconds * self.gain * (1.0 + dram)


# -- faults ---------------------------------------------------------------------------------------


def nothing() -> None:
    """Nothing to take back."""


# A fault changes what a machine's files show, and returns what ends it.
Undo = Callable[[], None]


def _zone(machine: Machine, choose: random.Random) -> str:
    zones = sorted(machine.offsets)
    return choose.choice([z for z in zones if z.startswith(("package", "psys"))] or zones)


def _alike(machine: Machine, zone: str) -> list[str]:
    """The zones that do what this one does: mirrored dies are one counter."""
    return list(machine.offsets) if machine.look.mirrored else [zone]


def _shift(machine: Machine, zone: str, uj: float) -> None:
    """The counter steps by so much."""
    machine.small_steps.append(abs(uj) / UJ)
    # Of two steps between the same two looks only the sum is seen.
    now = time.monotonic()
    for at, other in machine.shifts.get(zone, []):
        if now - at < LOOK and abs(other + uj) < CEILING_W * LOOK * UJ:
            machine.hidden_steps.append(abs(other + uj) / UJ)
    for each in _alike(machine, zone):
        machine.offsets[each] += int(uj)
        machine.shifts.setdefault(each, []).append((now, uj))


def _shift_for_a_while(machine: Machine, zone: str, uj: float) -> Undo:
    """The counter steps by so much, and goes back later."""
    _shift(machine, zone, uj)
    began, used_uj = len(machine.shifts[zone]) - 1, machine.machine_uj()

    def end() -> None:
        at = machine.shifts[zone][began][0]
        beside = sum(abs(other - at) < LOOK for other, _ in machine.shifts[zone]) > 1
        # Nor is a way back told from energy where more than that was used meanwhile.
        if beside or abs(uj) < machine.machine_uj() - used_uj:
            machine.hidden_steps.append(abs(uj) / UJ)
        _shift(machine, zone, -int(uj))

    return end


def _depth(machine: Machine, zone: str, choose: random.Random) -> float:
    """How far a counter steps back, µJ: 0.1 mJ to 100 kJ, and not below 0."""
    value = machine.value(zone, machine._shown()[zone])
    return min(10.0 ** choose.uniform(2, 11), 0.9 * value)


def step_back(machine: Machine, choose: random.Random) -> Undo:
    """The counter steps back once and goes on from there."""
    zone = _zone(machine, choose)
    _shift(machine, zone, -_depth(machine, zone, choose))
    return nothing


def dip(machine: Machine, choose: random.Random) -> Undo:
    """The counter shows less for a while."""
    zone = _zone(machine, choose)
    return _shift_for_a_while(machine, zone, -int(_depth(machine, zone, choose)))


def jump(machine: Machine, choose: random.Random) -> Undo:
    """The counter jumps forward by more than any machine uses, and stays."""
    _shift(machine, _zone(machine, choose), 10.0 ** choose.uniform(9.7, 11))
    return nothing


def spike(machine: Machine, choose: random.Random) -> Undo:
    """The counter shows much more for a while."""
    return _shift_for_a_while(machine, _zone(machine, choose), int(10.0 ** choose.uniform(9.7, 11)))


def reset(machine: Machine, choose: random.Random) -> Undo:
    """The counter begins again at 0."""
    zone = _zone(machine, choose)
    value = machine.value(zone, machine._shown()[zone])
    # Near the end of the range it would look as if the counter had gone on past its end.
    if machine.look.max_range_uj - value > CEILING_W * UJ:
        _shift(machine, zone, -value)
    return nothing


def other_host(machine: Machine, choose: random.Random) -> Undo:
    """A migration: every counter goes on from another machine's value."""
    most = machine.look.max_range_uj
    done: set[str] = set()
    for zone in machine.offsets:
        if zone not in done:
            # Not by chance nearly the same value.
            step = choose.randrange(most // 8, most // 2)
            for each in _alike(machine, zone):
                machine.offsets[each] = (machine.offsets[each] + step) % most
                machine.shifts.setdefault(each, []).append((time.monotonic(), float(step)))
                done.add(each)
    return nothing


def text_instead(*texts: bytes) -> Callable[[Machine, random.Random], Undo]:
    def fault(machine: Machine, choose: random.Random) -> Undo:
        zones, text = _alike(machine, _zone(machine, choose)), choose.choice(texts)
        machine.texts.update(dict.fromkeys(zones, text))

        def end() -> None:
            for zone in zones:
                machine.texts.pop(zone, None)

        return end

    return fault


def freeze(machine: Machine, choose: random.Random) -> Undo:
    """The counter stands still for a while, then shows the truth again."""
    zones = _alike(machine, _zone(machine, choose))
    for zone in zones:
        machine.frozen[zone] = machine.value(zone, machine._shown()[zone])

    def end() -> None:
        for zone in zones:
            machine.frozen.pop(zone, None)

    return end


def suspend(machine: Machine, choose: random.Random) -> Undo:
    """The machine sleeps for hours, while the monotonic clock stands."""
    if machine.frozen:
        # Nothing shows it before the counter moves again.
        return nothing
    machine.suspend(choose.uniform(1, 20), choose.uniform(0.5, 3))
    return nothing


def idle_zero(machine: Machine, choose: random.Random) -> Undo:
    """A sandbox that says no CPU was ever idle, and counts nothing in /proc/stat."""
    machine.idle_shown = lambda: 0.0
    machine.idle_stat_shown = machine.busy_shown = lambda: 0.0
    return lambda: _heal_idle(machine)


def idle_frozen(machine: Machine, choose: random.Random) -> Undo:
    """Idle time stands still, in both files."""
    idle, busy = machine.idle_seconds, machine.busy_seconds
    machine.idle_shown = lambda: idle
    machine.idle_stat_shown, machine.busy_shown = (lambda: idle), (lambda: busy)
    return lambda: _heal_idle(machine)


def idle_of_one_cpu(machine: Machine, choose: random.Random) -> Undo:
    """Idle time in /proc/uptime is age less busy time, not times the CPUs; /proc/stat is right."""
    machine.idle_shown = lambda: max(machine.uptime - machine.busy_seconds, 0.0)
    machine.idle_stat_shown = lambda: machine.idle_seconds
    return lambda: _heal_idle(machine)


def idle_back(machine: Machine, choose: random.Random) -> Undo:
    """Idle time steps back, as on some kernels when CPUs go: by more than a window's."""
    machine.idle_seconds -= choose.uniform(5, 100)
    return nothing


def uptime_garbled(machine: Machine, choose: random.Random) -> Undo:
    machine.uptime_text = choose.choice((b"", b"garbage\n", b"12.5\n", b"-1.00 -1.00\n"))
    return lambda: _heal_idle(machine)


def _heal_idle(machine: Machine) -> None:
    machine.uptime_text = None
    machine.idle_shown = lambda: machine.idle_seconds
    machine.idle_stat_shown = lambda: machine.idle_shown()
    machine.busy_shown = lambda: machine.busy_seconds


def cpus_change(machine: Machine, choose: random.Random) -> Undo:
    """CPUs go offline or come back, as with chcpu or SMT control."""
    counts = [n for n in (1, 2, 4, 8, 16) if n != machine.cpus and n <= machine.look.cpus]
    machine.set_online(choose.choice(counts))
    machine.others = min(machine.others, machine.cpus / 2)
    return nothing


FAULTS: dict[str, Callable[[Machine, random.Random], Undo]] = {
    "step back": step_back,
    "dip": dip,
    "jump": jump,
    "spike": spike,
    "reset": reset,
    "other host": other_host,
    "garbage": text_instead(b"garbage             \n", b"", b"-1\n", b"12 13\n", b"0x10\n"),
    "beyond the range": text_instead(b"18446744073709551615\n", b"9223372036854775807\n"),
    "freeze": freeze,
    "suspend": suspend,
    "idle always 0": idle_zero,
    "idle frozen": idle_frozen,
    "idle of one CPU": idle_of_one_cpu,
    "idle steps back": idle_back,
    "uptime garbled": uptime_garbled,
    "CPUs change": cpus_change,
}
OF_COUNTERS = frozenset(list(FAULTS)[:9])
OF_PLACES = frozenset({"idle always 0", "idle frozen", "idle of one CPU", "uptime garbled"})
"""What a sandbox does, and does for good once it does it."""


# -- windows --------------------------------------------------------------------------------------


@dataclass
class Window:
    """One metered window: what was done to the machine, and what came of it."""

    machine: str
    interval: float | None
    begins: float
    ends: float
    log: list[str] = field(default_factory=list)
    """The faults that began or ended in it or just before it."""
    outcome: str = ""
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        length = (self.ends - self.begins) * 1e3
        faults = ", ".join(self.log) or "no fault"
        return (
            f"{self.machine}, {length:.0f} ms, interval {self.interval}: {faults}: "
            f"{self.outcome}; {'; '.join(self.wrong)}"
        )


def _outside(low: float, high: float, truth: float, step: float) -> bool:
    """Whether the truth is outside twice the band: a band holds 95 % of truths, its double all.

    ``step`` is what rounding may cost.
    """
    half = (high - low) / 2
    return not low - half - step <= truth <= high + half + step


def judge(window: Window, meter: EnergyMeter, truth: dict[str, float]) -> None:
    """Sorts the window by its outcome and lists what was wrong."""
    reading = meter.reading
    warned = [w for w in reading.warnings if not w.startswith(IDLE_GUESS)]
    step = 2e-3 * truth["watts"] + truth["unseen"]
    total, headline = reading.rapl.estimate("total"), reading.headline
    if headline is None:
        window.outcome = "None"
        if not reading.raw["headline_reason"]:
            window.wrong.append("None without a reason")
    elif warned:
        window.outcome = "a warning"
    elif headline.value and (headline.high - headline.low) / headline.value > WIDE:
        window.outcome = "a wide band"
    else:
        window.outcome = "a plain number"
    if headline is not None:
        if not headline.low <= headline.value <= headline.high:
            window.wrong.append(f"the value is outside its own band: {headline}")
        parts = [reading.idle, reading.marginal, reading.others]
        whole = sum(p for p in parts if p is not None)
        if reading.machine is None or abs(whole - reading.machine) > 1e-6 + 1e-6 * whole:
            window.wrong.append(f"parts {parts} are not the machine's {reading.machine}")
    if reading.cpu_seconds is not None and abs(reading.cpu_seconds - truth["cpu"]) > 0.012:
        window.wrong.append(f"{reading.cpu_seconds} CPU s for {truth['cpu']}")
    if warned:
        # Even then a number is no more than what the machine can have used.
        if total is not None and total.value > 2 * truth["machine"] + 50 + truth["possible"]:
            window.wrong.append(f"machine {total.value} J for {truth['machine']}, warned: {warned}")
        awake = truth["machine"] - truth["asleep"]
        if headline is not None and headline.value > 2 * awake + 50 + truth["possible"]:
            window.wrong.append(f"function {headline.value} J for {truth['own']}, warned: {warned}")
        return
    if total is not None and _outside(total.low, total.high, truth["machine"], step):
        window.wrong.append(f"machine {total} for {truth['machine']:.4g} J without a warning")
    if headline is not None and _outside(headline.low, headline.high, truth["own"], step):
        window.wrong.append(
            f"function {headline} {reading.quality} {reading.definition} for "
            f"{truth['own']:.4g} J without a warning"
        )


class Place:
    """One machine, and the windows on it one after the other."""

    def __init__(
        self, make: Callable[[], Machine], choose: random.Random, faultless: float
    ) -> None:
        self._make = make
        self.machine = make()
        self._choose = choose
        self._faultless = faultless
        self._due: list[tuple[float, str, Callable[[], None]]] = []
        self._ongoing: list[str] = []
        self._meter: EnergyMeter | None = None
        self._left = WINDOWS
        self._before: dict[str, float] = {}
        self._steps = self._known_steps = (0, 0)
        """Steps of the machine before this window, and before the end of the last one: all of them,
        and those whose way back is hidden."""
        self._window = self._plan(time.monotonic())

    def _plan(self, now: float) -> Window:
        choose = self._choose
        begins = now + choose.uniform(0.0, 0.05)
        ends = begins + choose.choice((0.02, 0.05, 0.1, 0.15, 0.25))
        interval = choose.choice((None, 0.02, 0.05, 0.1))
        names = [n for n in FAULTS if self.machine.look.names or n not in OF_COUNTERS]
        if interval is None or interval > 0.7 * (ends - begins):
            # Without a look in between, nothing shows that a counter stands still.
            names.remove("freeze") if "freeze" in names else None
        if ends - begins < 0.1:
            # Idle time is printed too coarsely to tell in so short a time.
            names = [n for n in names if n not in OF_PLACES]
        count = 0 if choose.random() < self._faultless else choose.choice((1, 1, 2, 3))
        # What came before the first look at a machine nobody can know of.
        earliest = begins + 0.005 if self._left == WINDOWS else begins - 0.02
        for _ in range(count):
            name, latest = choose.choice(names), ends
            if name in OF_PLACES or name == "CPUs change":
                # In a shorter time idle time is printed too coarsely to tell.
                latest = max(ends - 0.1, earliest + 0.001)
            self._due.append((choose.uniform(earliest, latest), name, nothing))
        log = [f"{name} since before" for name in self._ongoing]
        return Window(self.machine.look.name, interval, begins, ends, log)

    def _marks(self) -> dict[str, float]:
        machine = self.machine
        return {
            "machine": machine.machine_uj() / UJ,
            "own": machine.own_joules(),
            "cpu": machine.own_seconds,
            "asleep": machine.asleep_uj / UJ,
            "seconds": time.monotonic(),
        }

    def _fail(self, now: float) -> None:
        """Lets every fault begin, or end, that is due."""
        due = sorted((d for d in self._due if d[0] <= now), key=lambda d: d[0])
        self._due = [d for d in self._due if d[0] > now]
        for at, name, end in due:
            self._window.log.append(f"{name} at {(at - self._window.begins) * 1e3:+.0f} ms")
            if end is nothing:
                undo = FAULTS[name](self.machine, self._choose)
                if undo is not nothing:
                    self._ongoing.append(name)
                if name in OF_PLACES:
                    self._left = min(self._left, 3)
                elif undo is not nothing:
                    # Often within the window, sometimes after it.
                    until = now + self._choose.uniform(0.01, 0.15)
                    self._due.append((until, f"end of {name}", undo))
            else:
                end()
                self._ongoing.remove(name.removeprefix("end of "))
        if due:
            self.machine.show()

    def is_late(self) -> bool:
        """The files are out of date for too long, which no kernel's are."""
        return time.monotonic() - self.machine.shown_at > LATE

    def begin_again(self) -> None:
        """Goes on with a new machine of which no meter knows; the window comes to nothing."""
        if self._meter is not None:
            self._meter.stop()
            self._meter = None
        self.machine.close()
        self.machine = self._make()
        self._due.clear()
        self._ongoing.clear()
        self._steps = self._known_steps = (0, 0)
        self._left = WINDOWS
        self._window = self._plan(time.monotonic())

    def turn(self) -> Window | None:
        """Does what is due now. Returns the window that has just ended, if one has."""
        machine, window, now = self.machine, self._window, time.monotonic()
        machine.advance()
        self._fail(now)
        if self._meter is None:
            if now > window.begins + LATE:
                # What was to happen in it has happened before it.
                self.begin_again()
            elif now >= window.begins:
                self._meter = EnergyMeter(root=machine.root, interval=window.interval)
                machine.advance()
                self._meter.start()
                self._before = self._marks()
                self._steps = self._known_steps
            return None
        if now < window.ends:
            return None
        machine.advance()
        self._meter.stop()
        truth = {name: value - self._before[name] for name, value in self._marks().items()}
        truth["watts"] = machine.idle_watts + machine.gain * machine.cpus
        # Between two looks at most so much was used, so a smaller step back is not seen.
        look = self._window.interval or truth["seconds"]
        limit = max(truth["machine"] / truth["seconds"], truth["watts"]) * (look + 0.02)
        steps, hidden = (
            machine.small_steps[self._steps[0] :],
            machine.hidden_steps[self._steps[1] :],
        )
        truth["unseen"] = sum(s for s in steps if s <= limit) + sum(hidden)
        # Where faults overlap, a step that the machine could have used may be believed.
        limit_w = CEILING_W * (truth["seconds"] + 0.05)
        truth["possible"] = sum(s for s in steps if s <= limit_w)
        if any("freeze" in event for event in window.log):
            # Nor does a look show that a counter has stood still since the look before it, or since
            # before the window.
            truth["unseen"] += limit * LOOK / (look + 0.02)
        judge(window, self._meter, truth)
        self._known_steps = (len(machine.small_steps), len(machine.hidden_steps))
        self._meter = None
        self._left -= 1
        if self._left <= 0:
            self.begin_again()
        else:
            self._window = self._plan(now)
        return window


def run(windows: int, seed: int, *, places: int = 8, faultless: float = 0.15) -> list[Window]:
    """So many windows. ``seed`` determines their faults; exact times are the clock's."""
    ended: list[Window] = []
    with tempfile.TemporaryDirectory() as folder:
        made = []
        numbers = itertools.count()
        for i in range(places):
            choose = random.Random(f"{seed} {i}")
            look = LOOKS[i % len(LOOKS)]

            def make(look: Look = look, choose: random.Random = choose) -> Machine:
                return Machine(Path(folder) / str(next(numbers)), look, choose)

            made.append(Place(make, choose, faultless))
        try:
            while len(ended) < windows:
                if any(place.is_late() for place in made):
                    for place in made:
                        place.begin_again()
                    for place in made:
                        place.machine.shown_at = time.monotonic()
                begin = time.monotonic()
                for place in made:
                    window = place.turn()
                    if window is not None:
                        ended.append(window)
                time.sleep(max(0.0, 0.0015 - (time.monotonic() - begin)))
        finally:
            for place in made:
                place.machine.close()
    return ended


def summary(windows: Sequence[Window]) -> str:
    """How the windows ended, for the whole and by fault."""
    outcomes = ("None", "a warning", "a wide band", "a plain number")
    names = ["no fault", *FAULTS]
    rows = [f"{'':18s}" + "".join(f"{name:>16s}" for name in (*outcomes, "wrong"))]

    def row(title: str, of: Iterable[Window]) -> str:
        of = list(of)
        counts = Counter(w.outcome for w in of)
        wrong = sum(bool(w.wrong) for w in of)
        return f"{title:18s}" + "".join(f"{n:16d}" for n in (*(counts[o] for o in outcomes), wrong))

    for name in names:
        having = [
            w
            for w in windows
            if (
                not w.log
                if name == "no fault"
                else any(f.startswith((name + " at", name + " since")) for f in w.log)
            )
        ]
        rows.append(row(name, having))
    rows.append(row("all windows", windows))
    return "\n".join(rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs windows and prints how they ended."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--windows", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faultless", type=float, default=0.15, help="part without a fault")
    parser.add_argument("--show", type=int, default=20, help="wrong windows to print")
    options = parser.parse_args(argv)
    windows = run(options.windows, options.seed, faultless=options.faultless)
    print(summary(windows))
    wrong = [window for window in windows if window.wrong]
    for window in wrong[: options.show]:
        print(window)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
