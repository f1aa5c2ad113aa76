"""All quantities of one stage, fitted to its observations.

CPU seconds hardly depend on memory. Where memory buys vCPUs, what depends on it is how fast they
are had: the workers' time is ``CPU seconds / vCPUs`` plus waiting, and waiting, too, changes slowly
(:func:`structures`). Where the profiles contradict that, their times are fitted without it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from lithowatt.analysis._observe import (
    PHASES,
    Floats,
    Observation,
    Workers,
    platform_of,
)
from lithowatt.analysis._surface import NARROW, Surface
from lithowatt.analysis.platforms import Platform
from lithowatt.estimate import QUALITIES


class Structure(NamedTuple):
    """How worker time depends on memory.

    Attributes:
        quota: Whether it is CPU seconds over vCPUs plus waiting; else any smooth function.
        capacity: vCPUs that a worker can use at most: 1 for a program of one thread.
    """

    quota: bool
    capacity: float

    def __str__(self) -> str:
        if not self.quota:
            return "times fitted as they are"
        threads = "one thread" if self.capacity <= 1 else "several threads"
        return f"CPU seconds / vCPUs + waiting, {threads}"


DIRECT = Structure(False, 1.0)


def structures(observations: Sequence[Observation]) -> list[Structure]:
    """What may be tried with these observations, the most usual first."""
    found = []
    platform = platform_of(observations)
    most = platform.most_vcpus
    if most is not None and all("cpu_seconds" in o.figures for o in observations):
        found.append(Structure(True, 1.0))
        if max(platform.size(o.memory_mb) for o in observations) > 1:
            found.append(Structure(True, most))
    return [*found, DIRECT]


def points_of(places: Iterable[tuple[float, float, str]], platform: Platform) -> Floats:
    """Points of surfaces, of workers, memory in MB and architecture."""
    return np.array(
        [[workers, platform.size(mb), float(arch == "arm64")] for workers, mb, arch in places]
    )


#: Below this a phase did nothing, s.
_NOTHING = 1e-4


class Fit:
    """All surfaces of one set of observations."""

    def __init__(self, observations: Sequence[Observation], structure: Structure) -> None:
        self.structure = structure
        self.platform = platform_of(observations)
        # Where memory buys vCPUs, more of them than one thread can use change little.
        self.bend = math.inf if self.platform.most_vcpus is None else 1.0
        self.workers = Workers(observations)
        having = [o for o in observations if "worker_time" in o.figures]
        self.points = self.points_of(having)
        worker_time = self._values(having, "worker_time")
        errors = self._errors(having, "worker_time")

        with_cpu = [o for o in observations if "cpu_seconds" in o.figures]
        self.cpu = self._surface(with_cpu, "cpu_seconds") if with_cpu else None
        self.cpu_architectures = {o.architecture for o in with_cpu}
        self.waiting: Surface | None = None
        if structure.quota and self.cpu is not None:
            vcpus = np.minimum(self.points[:, 1], structure.capacity)
            running = self._values(having, "cpu_seconds") / vcpus
            # What is left of a busy worker's time is small and unsure: no less than 2 %, and
            # worth as much as 0.5 % of the whole.
            waiting = np.maximum(worker_time - running, 0.02 * worker_time)
            unsure = np.minimum(np.hypot(errors, 0.005) * worker_time / waiting, 0.5)
            self.waiting = Surface(self.points, waiting, unsure, structure.capacity, smooth=0.001)
            law = self._law(self.points)
            self.worker_time = Surface(
                self.points, worker_time / law, errors, structure.capacity, NARROW
            )
        else:
            self.worker_time = Surface(self.points, worker_time, errors, self.bend)

        timed = [o for o in having if "time" in o.figures]
        self.straggling = self._ratio(timed, "time")
        self.phases: dict[str, Surface | None] = {}
        for phase in PHASES:
            told = [o for o in timed if phase in o.figures]
            if not told:
                continue
            busy = [o for o in told if o.figures[phase].value > _NOTHING]
            if not busy:
                self.phases[phase] = None
            elif phase == "compute":
                self.phases[phase] = self._ratio(busy, phase)
            else:
                self.phases[phase] = self._surface(busy, phase)

        with_joules = [o for o in having if "energy" in o.figures]
        # By themselves and with their own error: joules above idle follow the work, and a worker
        # that waits for its turn takes more time, not more joules.
        self.joules = self._surface(with_joules, "energy") if with_joules else None
        # Joules of one architecture say nothing of another's.
        self.own_joules = with_own_joules(having)
        #: Architectures whose joules the power model can tell from CPU seconds.
        self.modelled = {
            one.architecture for one in with_cpu if self.platform.no_watts(one.worker) is None
        }
        spreads = [o.spread for o in with_joules if o.spread is not None]
        lows, highs = zip(*spreads, strict=True) if spreads else ((1.0,), (1.0,))
        self.spread = max(float(np.median(lows)), 1e-3), float(np.median(highs))

    @staticmethod
    def _values(observations: Sequence[Observation], quantity: str) -> Floats:
        return np.array([o.figures[quantity].value for o in observations])

    @staticmethod
    def _errors(observations: Sequence[Observation], quantity: str) -> Floats:
        return np.array([o.figures[quantity].error for o in observations])

    def points_of(self, observations: Iterable[Observation]) -> Floats:
        """Where these observations are on the surfaces."""
        return points_of((one.place for one in observations), self.platform)

    def _surface(self, observations: Sequence[Observation], quantity: str) -> Surface:
        return Surface(
            self.points_of(observations),
            self._values(observations, quantity),
            self._errors(observations, quantity),
            self.bend,
        )

    def _ratio(self, observations: Sequence[Observation], quantity: str) -> Surface:
        """The quantity over the mean worker's time, which takes most of its variation."""
        mean = self._values(observations, "worker_time") / [o.workers for o in observations]
        values = self._values(observations, quantity) / mean
        errors = self._errors(observations, quantity)
        return Surface(self.points_of(observations), values, errors, self.bend)

    def _law(self, points: Floats) -> Floats:
        """Workers' time by the quota alone."""
        assert self.cpu is not None and self.waiting is not None  # noqa: S101 - for mypy
        running = self.cpu(points) / np.minimum(points[:, 1], self.structure.capacity)
        result: Floats = running + self.waiting(points)
        return result

    def predict(
        self, points: Floats, joules: bool = True, phases: bool = True
    ) -> dict[str, Floats]:
        """Best estimates at these points: totals, ``time``, and phases per worker."""
        worker_time = self.worker_time(points)
        if self.waiting is not None:
            worker_time = worker_time * self._law(points)
        mean = worker_time / points[:, 0]
        result = {"worker_time": worker_time, "time": self.straggling(points) * mean}
        if self.cpu is not None:
            told = [architecture_of(point) in self.cpu_architectures for point in points]
            result["cpu_seconds"] = np.where(told, self.cpu(points), np.nan)
        for phase, surface in self.phases.items() if phases else ():
            if surface is None:
                result[phase] = np.zeros(len(points))
            elif phase == "compute":
                result[phase] = surface(points) * mean
            else:
                result[phase] = surface(points)
        if joules and (self.joules is not None or self.cpu is not None):
            self._add_energy(points, result)
        return result

    def _add_energy(self, points: Floats, result: dict[str, Floats]) -> None:
        """``energy``, and how low and how high it may be for all that is known of the power."""
        worker_time = result["worker_time"]
        energy: Floats = np.full((3, len(points)), np.nan)
        own = np.array([architecture_of(point) in self.own_joules for point in points])
        if self.joules is not None and own.any():
            low, high = self.spread
            joules = self.joules(points[own])
            energy[:, own] = np.array([joules, low * joules, high * joules])
        if self.cpu is not None and self.modelled:
            busy = result["cpu_seconds"] / worker_time
            for index in np.flatnonzero(~own & np.isfinite(busy)):
                architecture = architecture_of(points[index])
                memory = self.platform.memory_of(float(points[index][1]))
                worker = self.workers.like(memory, architecture)
                watts = self.platform.watts(worker, float(busy[index]))
                if watts is not None:
                    band = np.array([watts.value, watts.low, watts.high])
                    energy[:, index] = band * worker_time[index]
        if np.isfinite(energy).any():
            result["energy"], result["energy_low"], result["energy_high"] = energy

    def sd(self, points: Floats) -> Spreads:
        """Standard deviations of the logarithms at these points."""
        time = self.worker_time.sd(points)
        if self.joules is None:
            return Spreads(time, time, time)
        own = np.array([architecture_of(point) in self.own_joules for point in points])
        joules = np.where(own, self.joules.sd(points), time)
        return Spreads(time, joules, np.where(own, np.hypot(joules, time), time))


class Spreads(NamedTuple):
    """Standard deviations of logarithms at some points.

    Attributes:
        time: Of worker time, and of all that is made of it.
        energy: Of joules.
        edp: Of joules times seconds.
    """

    time: Floats
    energy: Floats
    edp: Floats

    def of(self, quantity: str) -> Floats:
        """Those of a quantity."""
        return {"energy": self.energy, "edp": self.edp}.get(quantity, self.time)


def architecture_of(point: Floats) -> str:
    return "arm64" if point[2] else "x86_64"


def with_own_joules(observations: Sequence[Observation]) -> dict[str, str]:
    """Architectures whose profiles hold joules, and the worst quality of these."""
    found: dict[str, str] = {}
    for one in observations:
        if one.quality is not None:
            worst = max(one.quality, found.get(one.architecture, QUALITIES[0]), key=QUALITIES.index)
            found[one.architecture] = worst
    return found
