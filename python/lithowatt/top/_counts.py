"""What processes used of the CPUs, which of them are meant, and what they are called.

:class:`ProbeCounts` and :class:`ClockCounts` say what every process used so far. :class:`Tree` and
:class:`Cgroup` choose among them. :class:`Names` finds names where a process is still there.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from lithowatt import _core
from lithowatt._support.command import OURS, runnable
from lithowatt._support.text import printable
from lithowatt.errors import (
    ProcessNotFoundError,
    UnavailableError,
    UnreadableFileError,
)
from lithowatt.meter._meter import EnergyMeter
from lithowatt.top._containers import Place, place_of, place_of_process

if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST_PID_NAMESPACE = 0xEFFFFFFC
"""PROC_PID_INIT_INO of include/linux/proc_ns.h."""


class Use(NamedTuple):
    """What something used of the CPUs, as the core takes it.

    Attributes:
        ns: on-CPU time, ns.
        cycles: where they are counted.
        shared_ns: part of ``ns`` in which the sibling thread of the core was busy.
        scaled: cycles that frequency x time comes to, of the time at a known frequency.
        scaled_ns: that time, ns.
    """

    ns: int
    cycles: int | None = None
    shared_ns: int = 0
    scaled: float = 0.0
    scaled_ns: int = 0

    def since(self, then: Use) -> Use:
        """What was used since; nothing where a count went back."""
        both = self.cycles is not None and then.cycles is not None
        return Use(
            max(0, self.ns - then.ns),
            max(0, (self.cycles or 0) - (then.cycles or 0)) if both else self.cycles,
            max(0, self.shared_ns - then.shared_ns),
            max(0.0, self.scaled - then.scaled),
            max(0, self.scaled_ns - then.scaled_ns),
        )

    def plus(self, other: Use) -> Use:
        """Of both together; cycles where both are counted."""
        both = self.cycles is not None and other.cycles is not None
        return Use(
            self.ns + other.ns,
            (self.cycles or 0) + (other.cycles or 0) if both else None,
            self.shared_ns + other.shared_ns,
            self.scaled + other.scaled,
            self.scaled_ns + other.scaled_ns,
        )


Process = tuple[int, "int | None", Use]
"""A process: its creator's number, the id of its cgroup, what it used."""


# -- what processes used ------------------------------------------------------------------------


@dataclass(frozen=True)
class Snapshot:
    """What everything used so far.

    Attributes:
        t_ns: when, on the monotonic clock.
        uses: by process.
        machine: all that ran; ``None`` where the machine does not show it.
        lost: slices of which the probes do not know whose they were.
        groups: by the id of a cgroup, of the dead in it, too.
    """

    t_ns: int
    uses: dict[int, Process]
    machine: Use | None
    lost: int = 0
    groups: dict[int, Use] = field(default_factory=dict)


class Counts(Protocol):
    """Where use is read."""

    source: str

    def take(self) -> Snapshot: ...

    def weigh(self, uses: list[Use], machine: Use | None) -> tuple[list[float], float | None, str]:
        """What each weighs, and all that ran, when energy is shared; what weights are, in words."""


class ProbeCounts:
    """By the kernel probes.

    Raises:
        UnavailableError: where they are not loaded, or may not be read.
    """

    def __init__(self, root: str | None, groups: bool) -> None:
        self._probes = _core.Probes(root)
        self._groups = groups
        self._ids: set[int] = set()
        self.source = "kernel probes"

    def take(self) -> Snapshot:
        if not self._probes.alive:
            fix = runnable(f"{OURS} doctor --load")
            raise UnavailableError(f"kernel probes were unloaded; fix: {fix}")
        machine = self._probes.machine()
        uses = {
            tgid: (parent, cgroup, Use._make(use))
            for tgid, parent, cgroup, use in self._probes.processes()
        }
        return Snapshot(
            time.monotonic_ns(),
            uses,
            Use._make(machine["used"]),
            machine["lost_slices"] or 0,
            self._by_cgroup({cgroup for _, cgroup, _ in uses.values()}) if self._groups else {},
        )

    def weigh(self, uses: list[Use], machine: Use | None) -> tuple[list[float], float | None, str]:
        # As a meter weighs its function, so that both show the same for a process.
        return _core.weigh(uses, machine or Use(0), self._probes.siblings)

    def _by_cgroup(self, ids: set[int | None]) -> dict[int, Use]:
        living = {cgroup for cgroup in ids if cgroup is not None}
        # The last process of a cgroup may have ended since the last look.
        asked = list(living | self._ids)
        self._ids = living
        found = zip(asked, self._probes.cgroups(asked), strict=True)
        return {cgroup: Use._make(used) for cgroup, used in found if used is not None}


class ClockCounts:
    """By the CPU clocks of all processes that /proc shows: no privilege is needed.

    Raises:
        UnreadableFileError: where there is no /proc.
    """

    def __init__(self, root: str | None, parents: bool) -> None:
        self._proc = below(root, "proc")
        self._parents = parents
        self._known: dict[int, tuple[int, int]] = {}
        self._tick_ns = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
        # The clocks are those of this kernel and PID namespace; another /proc has its own numbers.
        try:
            self._clocks = (self._proc / "self").readlink() == Path(str(os.getpid()))
        except OSError:
            self._clocks = False
        self._weight = "CPU clocks" if self._clocks else "CPU time in steps of 10 ms"
        self.source = "all processes in /proc"
        self.take()

    def take(self) -> Snapshot:
        try:
            with os.scandir(self._proc) as entries:
                pids = [int(entry.name) for entry in entries if entry.name.isdigit()]
        except OSError as error:
            raise UnreadableFileError(f"{self._proc}: {error.strerror}") from error
        read = self._by_clock if self._clocks else self._by_stat
        uses = {pid: use for pid in pids if (use := read(pid)) is not None}
        self._known = {pid: (parent, use.ns) for pid, (parent, _, use) in uses.items()}
        busy_ns = self._busy_ns()
        return Snapshot(time.monotonic_ns(), uses, None if busy_ns is None else Use(busy_ns))

    def weigh(self, uses: list[Use], machine: Use | None) -> tuple[list[float], float | None, str]:
        whole = None if machine is None else float(machine.ns)
        return [float(use.ns) for use in uses], whole, self._weight

    def _by_clock(self, pid: int) -> Process | None:
        try:
            # include/linux/posix-timers_types.h: the complement of the pid, above CPUCLOCK_SCHED.
            ns = time.clock_gettime_ns((~pid << 3) | 2)
        except OSError:
            return None
        parent = 0
        if self._parents:
            # Who created it is asked once: later an orphan is its reaper's.
            known = self._known.get(pid)
            if known is not None and known[1] <= ns:
                parent = known[0]
            else:
                stat = self._stat(pid)
                if stat is None:
                    return None
                parent = stat[0]
        return parent, None, Use(ns)

    def _by_stat(self, pid: int) -> Process | None:
        stat = self._stat(pid)
        return None if stat is None else (stat[0], None, Use(stat[1]))

    def _stat(self, pid: int) -> tuple[int, int] | None:
        """Parent and CPU time in ns, by proc(5)."""
        try:
            text = (self._proc / str(pid) / "stat").read_bytes()
            # The name before the last bracket may hold anything.
            fields = text[text.rindex(b")") + 2 :].split()
            return int(fields[1]), (int(fields[11]) + int(fields[12])) * self._tick_ns
        except (OSError, ValueError, IndexError):
            return None

    def _busy_ns(self) -> int | None:
        try:
            lines = (self._proc / "stat").read_bytes().split(b"\n")
            ticks = [int(part) for part in lines[0].split()[1:]]
            cpus = sum(line.startswith(b"cpu") for line in lines) - 1
            idle = ticks[3] + ticks[4]
            steal = ticks[7] if len(ticks) > 7 else 0
        except (OSError, ValueError, IndexError):
            return None
        if cpus < 1:
            return None
        # Idle time is exact where CPUs rest without ticks, busy time is sampled.
        return time.monotonic_ns() * cpus - (idle + steal) * self._tick_ns


def counts(root: str | None, pid: int | None, groups: bool) -> tuple[Counts, str | None]:
    """The best there is, and why it is not the kernel probes."""
    try:
        if pid is not None and not numbers_are_the_kernels(root):
            raise UnavailableError(
                "kernel probes know processes by the kernel's numbers, which in a container are "
                "others: they cannot follow one process from here"
            )
        return ProbeCounts(root, groups), None
    except UnavailableError as error:
        return ClockCounts(root, parents=pid is not None), str(error)


def below(root: str | None, name: str) -> Path:
    return Path(root or os.environ.get("LITHOWATT_ROOT") or "/") / name


def hides_others(proc: Path) -> bool:
    """Whether a ``/proc`` shows this user their own processes only (mount option ``hidepid``)."""
    try:
        mounts = (proc / "self" / "mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    hidden = False
    for line in mounts.splitlines():
        words = line.split(" ")
        if len(words) > 4 and words[4] == str(proc):
            # The last one lies over those before it.
            hidden = re.search(r"\bhidepid=(?!0|off)", words[-1]) is not None
    if not hidden:
        return False
    try:
        # Members of the group that `gid=` names see everything.
        (proc / "1" / "stat").read_bytes()
    except OSError:
        return True
    return False


def numbers_are_the_kernels(root: str | None) -> bool:
    """Whether /proc shows processes by the numbers that the kernel itself has for them."""
    proc = below(root, "proc")
    with contextlib.suppress(OSError):
        # The kernel's second process, which no other PID namespace has.
        if (proc / "2/comm").read_text() == "kthreadd\n":
            return True
    with contextlib.suppress(OSError):
        return (proc / "self/ns/pid").stat().st_ino == FIRST_PID_NAMESPACE
    return False


@dataclass(frozen=True)
class Used:
    """What a process used between two looks."""

    parent: int
    cgroup_id: int | None
    use: Use
    fresh: bool

    @property
    def ns(self) -> int:
        return self.use.ns

    @property
    def cycles(self) -> int | None:
        return self.use.cycles


def used_between(before: Snapshot, after: Snapshot, cpus: int) -> dict[int, Used]:
    """What each process that lives used since ``before``."""
    most = (after.t_ns - before.t_ns) * cpus
    found = {}
    for pid, (parent, cgroup, use) in after.uses.items():
        then = before.uses.get(pid)
        # A number whose clock went far back is another process. It goes back a little where the
        # hypervisor had taken a part of a slice that was still running at the last look.
        fresh = then is None or use.ns < then[2].ns // 2
        if then is not None and not fresh:
            use = use.since(then[2])
        if use.ns > most:
            use = use._replace(ns=most)
        found[pid] = Used(parent, cgroup, use, fresh)
    return found


def ended_between(before: Snapshot, after: Snapshot, used: dict[int, Used]) -> dict[int, Use]:
    """What those used that ended since ``before``, by the id of their cgroup."""
    if not after.groups:
        return {}
    living: dict[int | None, Use] = {}
    for one in used.values():
        so_far = living.get(one.cgroup_id)
        living[one.cgroup_id] = one.use if so_far is None else so_far.plus(one.use)
    ended = {}
    for cgroup, use in after.groups.items():
        then = before.groups.get(cgroup)
        if then is None:
            continue
        gone = use.since(then)
        alive = living.get(cgroup)
        if alive is not None:
            gone = gone.since(alive)
        if gone.ns > 0:
            ended[cgroup] = gone
    return ended


# -- which processes are meant --------------------------------------------------------------------


class Subject(Protocol):
    """The processes that get rows of their own."""

    asked: dict[str, Any]
    whole: bool

    def choose(self, used: dict[int, Used]) -> set[int]:
        """Those of the living."""

    def cpu_ns(self) -> int | None:
        """CPU time of all of them so far, the dead included, ns; ``None`` where that is unknown."""

    def ended(self) -> str | None:
        """Why there will be no more of them."""


class Everything:
    """All processes."""

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}
        self.whole = True

    def choose(self, used: dict[int, Used]) -> set[int]:
        return set(used)

    def cpu_ns(self) -> int | None:
        return None

    def ended(self) -> str | None:
        return None


class Tree:
    """A process and its descendants.

    Raises:
        ProcessNotFoundError: where there is no such process.
    """

    def __init__(self, pid: int, root: str | None, by_probes: bool) -> None:
        self.asked: dict[str, Any] = {"pid": pid}
        self.whole = False
        self._pid = pid
        self._directory = below(root, "proc") / str(pid)
        if not self._directory.is_dir():
            raise ProcessNotFoundError(
                f"no process with pid {pid}; expected the pid of a running process"
            )
        # Whether each process of the last look is one of ours.
        self._inside = {pid: True}
        self._lived: set[int] = set()
        self._seen = False
        self._meter: EnergyMeter | None = None
        # What dies between two looks is in its clock.
        with contextlib.suppress(UnavailableError):
            self._meter = EnergyMeter(
                pid=pid, methods=["ebpf" if by_probes else "tdp"], interval=None, root=root
            )
            self._meter.start()

    def choose(self, used: dict[int, Used]) -> set[int]:
        inside = {
            pid: answer
            for pid, answer in self._inside.items()
            # A number that another process got since is no evidence. Probes may see late one that
            # slept since before they were loaded.
            if not (pid in used and used[pid].fresh) or (pid == self._pid and not self._seen)
        }
        for pid in used:
            way = []
            at = pid
            while at in used and at not in inside:
                way.append(at)
                inside[at] = False  # for a circle, which there should not be
                at = used[at].parent
            answer = inside.get(at, False)
            inside.update(dict.fromkeys(way, answer))
        chosen = {pid for pid in used if inside[pid]}
        self._seen = self._seen or self._pid in chosen
        # Who died since the last look may have created one that is only seen at the next.
        dead = {pid for pid in self._lived if pid not in used and inside.get(pid)}
        unseen = set() if self._seen else {self._pid}
        self._inside = {pid: inside[pid] for pid in used}
        self._inside.update(dict.fromkeys(dead | unseen, True))
        self._lived = set(used)
        return chosen

    def cpu_ns(self) -> int | None:
        seconds = self._meter.reading.cpu_seconds if self._meter else None
        return None if seconds is None else round(seconds * 1e9)

    def ended(self) -> str | None:
        if self._directory.is_dir() or any(self._inside[pid] for pid in self._lived):
            return None
        return f"process {self._pid} has ended"


class Cgroup:
    """The processes of a cgroup and of those inside it.

    Raises:
        UnreadableFileError: where the directory is no cgroup.
    """

    def __init__(self, directory: str, numbered: bool) -> None:
        self.asked: dict[str, Any] = {"cgroup": directory}
        self.whole = False
        self._directory = Path(directory)
        self._numbered = numbered
        if not (self._directory / "cgroup.procs").is_file():
            raise UnreadableFileError(
                f"{printable(directory)} is no cgroup; expected a directory with cgroup.procs, "
                "such as /sys/fs/cgroup/system.slice"
            )

    def choose(self, used: dict[int, Used]) -> set[int]:
        pids: set[int] = set()
        ids: set[int] = set()
        for here, _, _ in os.walk(self._directory):
            with contextlib.suppress(OSError):
                ids.add(Path(here).stat().st_ino)
            with contextlib.suppress(OSError, ValueError):
                pids.update(map(int, (Path(here) / "cgroup.procs").read_text().split()))
        return {
            pid
            for pid, use in used.items()
            if (self._numbered and pid in pids) or use.cgroup_id in ids
        }

    def cpu_ns(self) -> int | None:
        with contextlib.suppress(OSError, ValueError):
            for line in (self._directory / "cpu.stat").read_text().splitlines():
                key, _, value = line.partition(" ")
                if key == "usage_usec":
                    return int(value) * 1000
        with contextlib.suppress(OSError, ValueError):
            return int((self._directory / "cpuacct.usage").read_text())
        return None

    def ended(self) -> str | None:
        if self._directory.is_dir():
            return None
        return f"the cgroup {printable(str(self._directory))} was removed"


# -- names ----------------------------------------------------------------------------------------

UNKNOWN = Place("unknown", "", "")

MOST_BYTES = 16_384
"""Of a file of a process; command lines may be longer, cgroups are not."""


class Names:
    """Names of processes and of what they are in."""

    def __init__(self, root: str | None, numbered: bool) -> None:
        self._proc = str(below(root, "proc"))
        self._numbered = numbered
        mount = below(root, "sys/fs/cgroup")
        self._cgroups = mount if (mount / "cgroup.controllers").is_file() else mount / "unified"
        self._paths: dict[int, str] = {}
        self._walked = False

    def begin(self) -> None:
        """A new look: what is unknown may be looked for once more."""
        self._walked = False

    def of(self, pid: int, command_line: bool) -> str:
        """As the process calls itself, which may be anything."""
        if not self._numbered:
            return f"kernel pid {pid}"
        try:
            if command_line:
                text = self._read(pid, "cmdline")
                if text:
                    return _text(text.rstrip(b"\0").replace(b"\0", b" "))
            comm = _text(self._read(pid, "comm").removesuffix(b"\n"))
        except OSError:
            return "(name unknown)"
        # As ps shows what has no command line.
        return f"[{comm}]" if command_line else comm

    def _read(self, pid: int, name: str) -> bytes:
        # A few hundred of these a look are most of what a look costs.
        fd = os.open(f"{self._proc}/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(fd, MOST_BYTES)
        finally:
            os.close(fd)

    def place(self, pid: int, cgroup_id: int | None) -> Place:
        """The cgroup that a process is in."""
        if self._numbered:
            with contextlib.suppress(OSError):
                return place_of_process(_text(self._read(pid, "cgroup")).split("\n"))
        return UNKNOWN if cgroup_id is None else self.cgroup(cgroup_id)

    def cgroup(self, cgroup_id: int) -> Place:
        """The cgroup (version 2) of an id."""
        if cgroup_id not in self._paths and not self._walked:
            self._walked = True
            self._paths = dict(self._walk())
        path = self._paths.get(cgroup_id)
        return UNKNOWN if path is None else place_of(path)

    def _walk(self) -> Iterator[tuple[int, str]]:
        """Of each cgroup its id, which is its directory's inode, and its path."""
        top = str(self._cgroups)
        for here, _, _ in os.walk(top):
            with contextlib.suppress(OSError):
                yield Path(here).stat().st_ino, here[len(top) :] or "/"


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")
