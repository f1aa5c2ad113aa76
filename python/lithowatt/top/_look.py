"""``lithowatt top``: the machine's watts, live, by process, cgroup or container.

Between two looks the machine's energy is idle + active. The active part is shared by what each
process used of the CPUs, as kernel probes counted it (weighed as a meter weighs its function) or,
without them, as the kernel's CPU clocks say. What belongs to no process that lives has a row of its
own: the rows sum to the machine, which is its packages and memory. Each GPU stands beside them: its
watts are in no row of a process, and in no other number but the sum of both.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lithowatt import _core
from lithowatt.errors import (
    InvalidIntervalError,
    LithowattError,
    UnavailableError,
)
from lithowatt.meter._meter import EnergyMeter
from lithowatt.top._counts import (
    UNKNOWN,
    Cgroup,
    Everything,
    Names,
    Subject,
    Tree,
    Use,
    Used,
    below,
    counts,
    ended_between,
    hides_others,
    numbers_are_the_kernels,
    used_between,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from lithowatt.meter._reading import Reading
    from lithowatt.top._containers import Place

SCHEMA = 1
"""Version of the JSON records."""

INTERVALS = (0.1, 3600.0)
"""Shortest and longest interval, s. RAPL's edges are 1 % of the shortest."""

# -- one look -------------------------------------------------------------------------------------


@dataclass
class Row:
    """A process, or all of one cgroup or container.

    Attributes:
        pid: of a process.
        parent: number of its creator.
        name: its own, not to be trusted by a terminal.
        place: cgroup and container.
        count: processes.
        ns: CPU time, ns.
        cycles: where they are counted.
        ended_ns: part of ``ns`` of those in the cgroup that ended between two looks.
        joules: above idle, with its 95 % band; ``None`` where there is no energy.
        weight: what energy is shared by.
    """

    pid: int | None
    parent: int | None
    name: str
    place: Place
    count: int
    ns: int
    cycles: int | None
    joules: tuple[float, float, float] | None = None
    ended_ns: int = 0
    weight: float = 0.0


@dataclass
class Energy:
    """The machine between two looks: J, with 95 % bands."""

    machine: tuple[float, float, float]
    idle: tuple[float, float, float]
    quality: str
    method: str
    idle_source: str

    @property
    def active(self) -> float:
        return max(0.0, self.machine[0] - self.idle[0])


@dataclass
class Gpus:
    """The GPUs between two looks: J, with 95 % bands.

    Attributes:
        each: name, joules (``None`` where they are not known) and the reason why they are not.
        whole: of all together; ``None`` where one of them is not known.
        source: how they were read, or ``unavailable: <reason>``.
    """

    each: list[tuple[str, tuple[float, float, float] | None, str | None]]
    whole: tuple[float, float, float] | None
    source: str


@dataclass
class Look:
    """What happened since the look before.

    ``rows`` + ``more`` + ``unattributed`` + ``ended_inside`` + ``others`` + idle = machine, J.
    No GPU is in any of them.

    Attributes:
        seconds: length of the window of the joules.
        span_ns: length of the window of the CPU times, which begins and ends right after.
        rows: what is shown, most watts first unless asked otherwise.
        more: what the limit left out: how many rows, ns, J.
        unattributed: of no process that lives: ended in between, or not seen; J.
        ended_inside: of what was asked for, ended in between; J.
        others: of all else; J.
        unseen_slices: times on a CPU that the probes saw no beginning of: they are unattributed.
        gpus: the GPUs, beside all that.
    """

    seconds: float
    span_ns: int
    when: float
    energy: Energy | None
    why_no_energy: str | None
    rows: list[Row]
    more: tuple[int, int, float | None]
    unattributed: float | None
    ended_inside: float | None
    others: float | None
    busy_ns: int | None
    weight: str
    weight_source: str
    why_not_probes: str | None
    asked: dict[str, Any]
    by: str
    own_ns: int
    processes: int
    unseen_slices: int | None
    gpus: Gpus
    warnings: list[str] = field(default_factory=list)


def parts(
    weights: list[float],
    whole: float,
    energy: Energy,
    busy_ns: int | None,
    by_probes: bool,
    spread: float,
) -> list[tuple[float, float, float]]:
    """The joules above idle, with their bands, of those that weigh so much of ``whole``.

    One window's energy of the machine is divided among many here. The core's
    ``attribution::divide`` divides it between one function and all others, interval by interval,
    with a share of idle at the end; the node agent's ``agent::groups::divide`` divides whole uJ, so
    that counters of groups sum exactly. The band is the one that a meter of that process states,
    and a little wider where memory has no counter or one that is in doubt.
    """
    shares = [weight / whole if whole > 0 else 0.0 for weight in weights]
    modelled = energy.quality == "modelled"
    busy = None if busy_ns is None else float(busy_ns)
    return _core.parts_above_idle(
        energy.machine, energy.idle, modelled, shares, busy, by_probes, spread
    )


class Top:
    """Looks again and again.

    Args:
        interval: s between looks, by which the sampler's is chosen.
        by: ``process``, ``cgroup`` or ``container``.
        pid: only this process and its descendants.
        cgroup: only the cgroup of this directory.
        root: where /sys and /proc are.

    Raises:
        InvalidIntervalError, ProcessNotFoundError, UnreadableFileError: naming the value.
    """

    def __init__(
        self,
        interval: float = 2.0,
        by: str = "process",
        pid: int | None = None,
        cgroup: str | None = None,
        root: str | None = None,
        sort: str = "watts",
        limit: int | None = None,
        command_line: bool = False,
    ) -> None:
        if not INTERVALS[0] <= interval <= INTERVALS[1]:
            raise InvalidIntervalError(
                f"interval {interval!r}; expected {INTERVALS[0]:g} to {INTERVALS[1]:g} s"
            )
        self.by, self.sort, self.limit = by, sort, limit
        self._root, self._pid, self._command_line = root, pid, command_line
        self._numbered = numbers_are_the_kernels(root)
        self._groups = by != "process" and cgroup is None and pid is None
        self._open()
        by_probes = self._why_not_probes is None
        self._subject: Subject
        if pid is not None:
            self._subject = Tree(pid, root, by_probes)
        elif cgroup is not None:
            self._subject = Cgroup(cgroup, self._numbered or not by_probes)
        else:
            self._subject = Everything()
        self._cpus = _core.cpu_identity(root)["logical_cpus"] or os.cpu_count() or 1
        # By its number this process is one among all: the model is then of the machine, not of the
        # sandbox that this process is in.
        own = os.getpid() if (below(root, "proc") / str(os.getpid())).is_dir() else None
        # Two in turn: while one is read the other meters.
        self._meter, self._next = (
            EnergyMeter(
                methods=["counters", "tdp", "nvml"],
                interval=min(1.0, interval / 2),
                pid=own,
                children=False,
                root=root,
            )
            for _ in range(2)
        )
        self._meter.start()
        self._before = self._counts.take()
        self._subject_before = self._subject.cpu_ns()
        self._own_before = time.process_time_ns()
        self._subject.choose(used_between(self._before, self._before, self._cpus))

    def _open(self) -> None:
        self._counts, self._why_not_probes = counts(self._root, self._pid, self._groups)
        self._names = Names(self._root, self._numbered or self._why_not_probes is not None)

    @property
    def ended(self) -> str | None:
        """Why looking again is of no use."""
        return self._subject.ended()

    @functools.cached_property
    def _hidden(self) -> list[str]:
        """What a user should know of a /proc that shows a part of the processes (``hidepid``)."""
        proc = below(self._root, "proc")
        if self.by != "process" or self._why_not_probes is None or not hides_others(proc):
            return []
        return [
            f"{proc} hides other users' processes (hidepid): what they use is in the row of "
            "short-lived or hidden processes; root sees them"
        ]

    def close(self) -> None:
        """Ends the metering."""
        with contextlib.suppress(LithowattError):
            self._meter.stop()

    def look(self) -> Look | None:
        """What happened since the last look; ``None`` where the probes went away in between."""
        before, subject_before = self._before, self._subject_before
        self._meter.stop()
        self._next.start()
        when = time.time()
        self._meter, self._next = self._next, self._meter
        try:
            after = self._counts.take()
        except UnavailableError:
            # They were unloaded; others may have been loaded since.
            self._open()
            after = None
        subject_after = self._subject.cpu_ns()
        reading = self._next.reading
        self._before = after or self._counts.take()
        self._subject_before = subject_after
        own = time.process_time_ns()
        own_ns, self._own_before = own - self._own_before, own
        if after is None:
            return None
        used = used_between(before, after, self._cpus)
        chosen = self._subject.choose(used)
        machine = _used(after.machine, before.machine)
        energy = _energy(reading)
        look = Look(
            seconds=reading.duration,
            span_ns=after.t_ns - before.t_ns,
            when=when,
            energy=energy,
            why_no_energy=reading.reason if energy is None else None,
            rows=[],
            more=(0, 0, None),
            unattributed=None,
            ended_inside=None,
            others=None,
            busy_ns=None if machine is None else machine.ns,
            weight="",
            weight_source=self._counts.source,
            why_not_probes=self._why_not_probes,
            asked=self._subject.asked,
            by=self.by,
            own_ns=own_ns,
            processes=len(used),
            unseen_slices=after.lost - before.lost if self._why_not_probes is None else None,
            gpus=_gpus(reading),
            warnings=[*reading.warnings, *self._hidden],
        )
        gone = ended_between(before, after, used)
        self._share(look, used, chosen, gone, machine, _minus(subject_after, subject_before))
        return look

    def _share(
        self,
        look: Look,
        used: dict[int, Used],
        chosen: set[int],
        gone: dict[int, Use],
        machine: Use | None,
        subject_ns: int | None,
    ) -> None:
        uses = [*(one.use for one in used.values()), *gone.values()]
        weights, whole, look.weight = self._counts.weigh(uses, machine)
        weight = dict(zip(used, weights, strict=False))
        weight_gone = dict(zip(gone, weights[len(used) :], strict=True))
        inside = math.fsum(weight[pid] for pid in chosen)
        everyone = math.fsum(weights)
        ended = None
        if not self._subject.whole and subject_ns is not None:
            inside_ns = sum(used[pid].ns for pid in chosen)
            ended_ns = max(0, subject_ns - inside_ns)
            # The run time of ended processes is known; else they ran as the living did.
            rate = _rate(inside, inside_ns) or _rate(whole, look.busy_ns) or 1.0
            ended = ended_ns * rate
        total = max(whole or 0.0, everyone + (ended or 0.0))
        energy = look.energy
        rows = self._rows(
            {pid: (used[pid], weight[pid]) for pid in chosen if weight[pid] > 0},
            {cgroup: (use, weight_gone[cgroup]) for cgroup, use in gone.items()},
        )
        if energy is not None:
            by_probes = self._why_not_probes is None
            weights = [row.weight for row in rows]
            joules = parts(
                weights, total, energy, look.busy_ns, by_probes, _core.workload_spread(self._root)
            )
            for row, part in zip(rows, joules, strict=True):
                row.joules = part
        keys: dict[str, Callable[[Row], Any]] = {
            "watts": lambda row: -(row.joules[0] if row.joules else row.ns),
            "cpu": lambda row: -row.ns,
            "pid": lambda row: row.pid or 0,
            "name": lambda row: (row.name.casefold(), row.pid or 0),
        }
        rows.sort(key=keys[self.sort])
        if energy is not None:
            attributed = math.fsum(row.joules[0] for row in rows if row.joules)
            if self._subject.whole:
                look.unattributed = max(0.0, energy.active - attributed)
            else:
                if ended is not None:
                    look.ended_inside = energy.active * ended / total if total > 0 else 0.0
                attributed += look.ended_inside or 0.0
                look.others = max(0.0, energy.active - attributed)
        if look.why_not_probes is None and not self._numbered:
            look.warnings.append(
                "processes have the kernel's own numbers, not those of this container: they are "
                "not to be found in /proc by them, so their names are unknown"
            )
        if look.busy_ns is None:
            look.warnings.append(
                "how busy the machine was is unknown: the rows share the watts of processes that "
                "ended between two looks"
            )
        shown = rows if self.limit is None else rows[: self.limit]
        rest = rows[len(shown) :]
        look.rows = shown
        left = math.fsum(row.joules[0] for row in rest if row.joules) if energy else None
        look.more = len(rest), sum(row.ns for row in rest), left
        if self.by == "process":
            for row in shown:
                self._name(row, used[row.pid or 0].cgroup_id)

    def _name(self, row: Row, cgroup_id: int | None) -> None:
        assert row.pid is not None  # noqa: S101 - rows by process have one
        row.name = row.name or self._names.of(row.pid, self._command_line)
        row.place = self._names.place(row.pid, cgroup_id)

    def _rows(
        self, used: dict[int, tuple[Used, float]], gone: dict[int, tuple[Use, float]]
    ) -> list[Row]:
        """``used`` and ``gone`` with their weights."""
        self._names.begin()
        if self.by == "process":
            named = self.sort == "name"
            return [
                Row(
                    pid,
                    use.parent or None,
                    self._names.of(pid, self._command_line) if named else "",
                    UNKNOWN,
                    1,
                    use.ns,
                    use.cycles,
                    weight=weight,
                )
                for pid, (use, weight) in used.items()
            ]
        groups: dict[str, Row] = {}
        places: dict[int, Place] = {}

        def add(place: Place, use: Use, weight: float) -> Row:
            name = _group(place, self.by)
            row = groups.setdefault(name, Row(None, None, name, place, 0, 0, use.cycles and 0))
            row.ns += use.ns
            row.weight += weight
            if row.cycles is not None and use.cycles is not None:
                row.cycles += use.cycles
            return row

        for pid, (one, weight) in used.items():
            place = self._names.place(pid, one.cgroup_id)
            if one.cgroup_id is not None:
                places[one.cgroup_id] = place
            add(place, one.use, weight).count += 1
        for cgroup, (use, weight) in gone.items():
            # Those who live in it may be known by another hierarchy.
            place = places.get(cgroup) or self._names.cgroup(cgroup)
            add(place, use, weight).ended_ns += use.ns
        return list(groups.values())


def _energy(reading: Reading) -> Energy | None:
    """What the machine used, as the meter beside states it."""
    machine, idle = reading.machine_estimate, reading.idle_estimate
    method, source = reading.method, reading.idle_source
    if machine is None or idle is None or method is None or source is None:
        return None
    modelled = reading.quality == "modelled"
    # A counter's method without what told the share of the meter's own process.
    method = method if modelled else method.partition("+")[0]
    quality = "modelled" if modelled else "measured"
    return Energy(machine[:3], idle[:3], quality, method, source)


def _gpus(reading: Reading) -> Gpus:
    """Each GPU that was there, and all of them."""
    each = [
        (zone.name, None if zone.energy is None else zone.energy[:3], zone.reason)
        for zone in reading.zones
        if zone.domain == "gpu"
    ]
    whole = reading.gpu
    return Gpus(each, None if whole is None else whole[:3], reading.gpu_source)


def _group(place: Place, by: str) -> str:
    if place.kind == "unknown":
        return "(unknown)"
    if by == "cgroup":
        return place.path
    if place.contained or place.kind == "unit":
        return place.name
    return "(no container)"


def _used(now: Use | None, then: Use | None) -> Use | None:
    return None if now is None or then is None else now.since(then)


def _minus(now: int | None, then: int | None) -> int | None:
    return None if now is None or then is None else max(0, now - then)


def _rate(of: float | None, per: float | None) -> float:
    return of / per if of and per else 0.0


# -- the result -----------------------------------------------------------------------------------


def record(look: Look) -> dict[str, Any]:
    """A look as JSON: W, J and s by the keys' names, ``None`` for what is unknown."""
    seconds, energy = look.seconds, look.energy

    def watts(joules: float | None) -> float | None:
        return None if joules is None or seconds <= 0 else joules / seconds

    def three(name: str, joules: tuple[float, float, float] | None) -> dict[str, float | None]:
        value, low, high = joules or (None, None, None)
        return {
            f"{name}_watts": watts(value),
            f"{name}_low_watts": watts(low),
            f"{name}_high_watts": watts(high),
        }

    def row_of(row: Row) -> dict[str, Any]:
        value, low, high = row.joules or (None, None, None)
        return {
            "pid": row.pid,
            "parent_pid": row.parent,
            "name": row.name,
            "container": row.place.name if row.place.contained else None,
            "kind": row.place.kind,
            "cgroup": row.place.path or None,
            "processes": row.count,
            "watts": watts(value),
            "low_watts": watts(low),
            "high_watts": watts(high),
            "joules": value,
            "cpu_seconds": row.ns * 1e-9,
            "ended_cpu_seconds": row.ended_ns * 1e-9,
            "cpu_percent": 100 * row.ns / look.span_ns if look.span_ns > 0 else None,
            "cycles": row.cycles,
        }

    def gpu_of(
        name: str, joules: tuple[float, float, float] | None, reason: str | None
    ) -> dict[str, Any]:
        value, low, high = joules or (None, None, None)
        return {
            "name": name,
            "watts": watts(value),
            "low_watts": watts(low),
            "high_watts": watts(high),
            "joules": value,
            "reason": reason,
        }

    count, more_ns, more_joules = look.more
    return {
        "schema": SCHEMA,
        "time_unix_s": look.when,
        "seconds": seconds,
        "cpu_window_seconds": look.span_ns * 1e-9,
        "by": look.by,
        "filter": look.asked,
        **three("machine", energy.machine if energy else None),
        **three("idle", energy.idle if energy else None),
        **three("gpu", look.gpus.whole),
        "gpu_source": look.gpus.source,
        "gpus": [gpu_of(*gpu) for gpu in look.gpus.each],
        "active_watts": watts(energy.active) if energy else None,
        "unattributed_watts": watts(look.unattributed),
        "ended_inside_watts": watts(look.ended_inside),
        "others_watts": watts(look.others),
        "quality": energy.quality if energy else None,
        "method": energy.method if energy else None,
        "idle_source": energy.idle_source if energy else None,
        "reason": look.why_no_energy,
        "weight": look.weight,
        "weight_source": look.weight_source,
        "probes_reason": look.why_not_probes,
        "unseen_slices": look.unseen_slices,
        "busy_cpu_seconds": None if look.busy_ns is None else look.busy_ns * 1e-9,
        "processes": look.processes,
        "rows": [row_of(row) for row in look.rows],
        "more": {
            "rows": count,
            "cpu_seconds": more_ns * 1e-9,
            "watts": watts(more_joules),
        },
        "own_cpu_seconds": look.own_ns * 1e-9,
        "warnings": look.warnings,
    }
