"""All quantities of one stage, fitted to its observations.

CPU seconds hardly depend on memory. Where memory buys vCPUs, what depends on it is how fast they
are had: the workers' time is ``CPU seconds / vCPUs`` plus waiting, and waiting, too, changes slowly
(:func:`structures`). Where the profiles contradict that, their times are fitted without it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from lithowatt.analysis._observe import PHASES, Observation, Workers, platform_of
from lithowatt.analysis._surface import NARROW, Surface
from lithowatt.analysis.platforms import Platform
from lithowatt.profiles._runs import Bools, Floats
from lithowatt.stats import QUALITIES


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


class _Told(NamedTuple):
    """What the surfaces say at some points, and of which of these they can say it.

    Attributes:
        values: Surface to values.
        spreads: Surface to standard deviations of logarithms, of `worker_time` and `joules`.
        cpu: Whether CPU seconds are known of the point's architecture.
        own: Whether joules of the profile are known of it.
    """

    values: Mapping[str, Floats]
    spreads: Mapping[str, Floats]
    cpu: Bools
    own: Bools


class Fit:
    """All surfaces of one set of observations, each made when it is first needed."""

    def __init__(self, observations: Sequence[Observation], structure: Structure) -> None:
        self.structure = structure
        self.platform = platform_of(observations)
        # Where memory buys vCPUs, more of them than one thread can use change little.
        self.bend = math.inf if self.platform.most_vcpus is None else 1.0
        self.workers = Workers(observations)
        self.observations = list(observations)
        self.points = self.points_of(observations)
        with_cpu = self._having("cpu_seconds")
        self.cpu_architectures = {self.observations[at].architecture for at in with_cpu}
        #: Architectures whose joules the power model can tell from CPU seconds.
        self.modelled = {
            one.architecture
            for one in (self.observations[at] for at in with_cpu)
            if self.platform.no_watts(one.worker) is None
        }
        # Joules of one architecture say nothing of another's.
        self.own_joules = with_own_joules(observations)

    def points_of(self, observations: Iterable[Observation]) -> Floats:
        """Where these observations are on the surfaces."""
        return points_of((one.place for one in observations), self.platform)

    def _having(self, quantity: str) -> list[int]:
        return [at for at, one in enumerate(self.observations) if quantity in one.figures]

    def _column(self, at: Sequence[int], quantity: str) -> tuple[Floats, Floats]:
        figures = [self.observations[one].figures[quantity] for one in at]
        return np.array([one.mean for one in figures]), np.array([one.error for one in figures])

    # --- surfaces -----------------------------------------------------------------

    @cached_property
    def members(self) -> dict[str, list[int]]:
        """Surface to the observations that it is fitted to."""
        every = list(range(len(self.observations)))
        found = {"worker_time": every, "time": self._having("time")}
        if self.cpu_architectures:
            found["cpu"] = self._having("cpu_seconds")
            if self.structure.quota:
                found["waiting"] = every
        if self.own_joules:
            found["joules"] = self._having("energy")
        for phase in PHASES:
            told = [at for at in found["time"] if phase in self.observations[at].figures]
            if told:
                found[phase] = [
                    at for at in told if self.observations[at].figures[phase].mean > _NOTHING
                ]
        return found

    @cached_property
    def surfaces(self) -> _Surfaces:
        """By name; made when they are first asked for."""
        return _Surfaces(self)

    def made(self, name: str) -> Surface:
        """Makes a surface; ask `surfaces` for it."""
        at = self.members[name]
        points = self.points[at]
        if name in ("worker_time", "waiting"):
            return self._made_of_time(name, points)
        values, errors = self._column(at, _QUANTITY.get(name, name))
        if name in ("time", "compute"):
            # Over the mean worker's time, which takes most of its variation.
            values = values / self._mean_worker_time[at]
        return Surface(points, values, errors, self.bend)

    @cached_property
    def _mean_worker_time(self) -> Floats:
        values, _ = self._column(range(len(self.observations)), "worker_time")
        return np.asarray(values / self.points[:, 0])

    def _made_of_time(self, name: str, points: Floats) -> Surface:
        values, errors = self._column(range(len(self.observations)), "worker_time")
        if "waiting" not in self.members:
            return Surface(points, values, errors, self.bend)
        capacity = self.structure.capacity
        if name == "worker_time":
            law = self._law(points, self.surfaces["cpu"](points), self.surfaces["waiting"](points))
            return Surface(points, values / law, errors, capacity, NARROW)
        running = self._column(self.members["cpu"], "cpu_seconds")[0] / self._vcpus(points)
        # What is left of a busy worker's time is small and unsure: no less than 2 %, and
        # worth as much as 0.5 % of the whole.
        waiting = np.maximum(values - running, 0.02 * values)
        unsure = np.minimum(np.hypot(errors, 0.005) * values / waiting, 0.5)
        return Surface(points, waiting, unsure, capacity, smooth=0.001)

    def _vcpus(self, points: Floats) -> Floats:
        return np.asarray(np.minimum(points[:, 1], self.structure.capacity))

    def _law(self, points: Floats, cpu: Floats, waiting: Floats) -> Floats:
        """Workers' time by the quota alone."""
        return np.asarray(cpu / self._vcpus(points) + waiting)

    # --- what they say ------------------------------------------------------------

    def predict(
        self, points: Floats, joules: bool = True, phases: bool = True
    ) -> dict[str, Floats]:
        """Best estimates at these points: totals, ``time``, and phases per worker."""
        names = [
            name
            for name in self.members
            if (phases or name not in PHASES) and (joules or name != "joules")
        ]
        architectures = [architecture_of(point) for point in points]
        told = _Told(
            {name: self.surfaces[name](points) for name in names if self.members[name]},
            {},
            np.array([one in self.cpu_architectures for one in architectures]),
            np.array([one in self.own_joules for one in architectures]),
        )
        return self._composed(points, told, joules, phases)

    def sd(self, points: Floats) -> Spreads:
        """Standard deviations of the logarithms at these points."""
        time = self.surfaces["worker_time"].sd(points)
        if "joules" not in self.members:
            return Spreads(time, time, time)
        own = np.array([architecture_of(point) in self.own_joules for point in points])
        return _spreads(time, self.surfaces["joules"].sd(points), own)

    def without_each(self) -> tuple[dict[str, Floats], Spreads]:
        """`predict` and `sd` at each observation as if it had not been there.

        Each surface leaves it out in closed form; also the one that is fitted to what others leave
        unexplained, whose targets change with the observation that these leave out. Approximated
        is what all observations share: the middle and the level of the surfaces
        (`Surface.without_each`; less than 1e-5 on measured profiles), and how far low and high
        ends of joules are from the best estimate.
        """
        values: dict[str, Floats] = {}
        spreads: dict[str, Floats] = {}
        for name, at in self.members.items():
            if not at:
                continue
            surface = self.surfaces[name]
            values[name], spreads[name] = surface(self.points), surface.sd(self.points)
            targets = None
            if name == "worker_time" and "waiting" in self.members:
                times, _ = self._column(at, "worker_time")
                running, waiting = (
                    self.surfaces[part].all_without_each() for part in ("cpu", "waiting")
                )
                law = running / self._vcpus(self.points)[:, None] + waiting
                targets = np.log(times)[:, None] - np.log(law)
            values[name][at], spreads[name][at] = surface.without_each(targets)
        told = _Told(values, spreads, self._others("cpu"), self._others("joules"))
        result = self._composed(self.points, told)
        time = spreads["worker_time"]
        if "joules" not in spreads:
            return result, Spreads(time, time, time)
        return result, _spreads(time, spreads["joules"], told.own)

    def _others(self, name: str) -> Bools:
        """Of each observation, whether another one of its architecture is on a surface."""
        at = self.members.get(name, [])
        counts = Counter(self.observations[one].architecture for one in at)
        own = np.zeros(len(self.observations), dtype=int)
        own[at] = 1
        every = np.array([counts[one.architecture] for one in self.observations])
        return np.asarray(every - own > 0)

    def _composed(
        self, points: Floats, told: _Told, joules: bool = True, phases: bool = True
    ) -> dict[str, Floats]:
        values = told.values
        worker_time = values["worker_time"]
        if "waiting" in values:
            worker_time = worker_time * self._law(points, values["cpu"], values["waiting"])
        mean = worker_time / points[:, 0]
        result = {"worker_time": worker_time, "time": values["time"] * mean}
        if "cpu" in values:
            result["cpu_seconds"] = np.where(told.cpu, values["cpu"], np.nan)
        for phase in PHASES if phases else ():
            if phase not in self.members:
                continue
            if phase not in values:
                result[phase] = np.zeros(len(points))
            else:
                result[phase] = values[phase] * (mean if phase == "compute" else 1.0)
        if joules and ("joules" in values or "cpu" in values):
            self._add_energy(points, told, result)
        return result

    def _add_energy(self, points: Floats, told: _Told, result: dict[str, Floats]) -> None:
        """``energy``, and how low and how high it may be for all that is known of the power."""
        worker_time = result["worker_time"]
        energy: Floats = np.full((3, len(points)), np.nan)
        own = told.own
        if "joules" in told.values and own.any():
            low, high = self.spread
            joules = told.values["joules"][own]
            energy[:, own] = np.array([joules, low * joules, high * joules])
        if "cpu" in told.values and self.modelled:
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

    @cached_property
    def spread(self) -> tuple[float, float]:
        """Low and high over the value of the joules that the profiles hold."""
        held = [o.spread for o in self.observations if "energy" in o.figures]
        spreads = [one for one in held if one is not None]
        lows, highs = zip(*spreads, strict=True) if spreads else ((1.0,), (1.0,))
        return max(float(np.median(lows)), 1e-3), float(np.median(highs))


class _Surfaces(dict[str, Surface]):
    def __init__(self, fit: Fit) -> None:
        super().__init__()
        self._fit = fit

    def __missing__(self, name: str) -> Surface:
        self[name] = made = self._fit.made(name)
        return made


#: Surface to the quantity that it is fitted to, where that is called otherwise.
_QUANTITY = {"cpu": "cpu_seconds", "joules": "energy"}


def _spreads(time: Floats, joules: Floats, own: Bools) -> Spreads:
    # By themselves and with their own error: joules above idle follow the work, and a worker that
    # waits for its turn takes more time, not more joules.
    energy = np.where(own, joules, time)
    return Spreads(time, energy, np.where(own, np.hypot(energy, time), time))


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
