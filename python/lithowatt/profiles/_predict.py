"""What a configuration would take: seconds, CPU seconds, joules and dollars.

Learned from profiles of one stage, on few assumptions:

- CPU seconds hardly depend on memory. What depends on it is how fast they are had: a Lambda
  sandbox gets ``memory / 1769 MB`` vCPUs. So the workers' time is ``CPU seconds / vCPUs``
  plus waiting, and waiting, too, changes slowly (:func:`_structures`). Where the profiles
  contradict that, their times are fitted without it: whole memories are left out, and what
  predicts them best is taken.
- Every quantity is smooth in the logarithms of workers and memory: a power law with a bend,
  and a small smooth deviation from it (Gaussian process regression, :class:`_Surface`).
- Bands come from what was left out: each configuration is predicted without itself once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lithowatt._errors import MalformedValueError
from lithowatt.cost import lambda_cost, lambda_price, normalise_architecture
from lithowatt.profiles._observe import (
    MB_PER_VCPU,
    PHASES,
    QUALITIES,
    Floats,
    Observation,
    Profile,
    observe,
    sandbox_watts,
)


class Band(NamedTuple):
    """A value and the 95 % band about it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Prediction:
    """One stage run in one configuration.

    Attributes:
        workers: Workers that run.
        memory_mb: Memory per worker, MB.
        architecture: ``x86_64`` or ``arm64``.
        time: Latency of the stage, s: the slowest worker's cold start, read, compute and write;
            the mean over runs.
        cpu_seconds: CPU time of all workers, s; ``None`` where the profiles have none.
        energy: Joules of all workers. Its band holds all that is not known, the power model's
            error included.
        energy_fit: The same joules with the band of the prediction alone: what counts between
            configurations of one architecture, which share the power model's error.
        energy_quality: ``measured``, ``attributed`` or ``modelled``; ``None`` without energy.
        cost: US dollars, requests included.
        edp: Energy × time, J·s, band as of ``energy_fit``.
        worker_time: Billed time of one worker, s.
        phases: ``cold_start``, ``read``, ``compute``, ``write`` of the mean worker, s.
        profiled: Whether the profiles hold this very configuration.
        inside: Whether it lies between profiled ones; else it is extrapolated.
    """

    workers: int
    memory_mb: float
    architecture: str
    time: Band
    cpu_seconds: Band | None
    energy: Band | None
    energy_fit: Band | None
    energy_quality: str | None
    cost: Band
    edp: Band | None
    worker_time: Band
    phases: Mapping[str, Band]
    profiled: bool
    inside: bool

    @property
    def vcpus(self) -> float:
        """vCPUs per worker: memory / 1769 MB."""
        return self.memory_mb / MB_PER_VCPU


class _LeftOut(NamedTuple):
    """An observation, what was predicted without it, and the surface's width there."""

    observation: Observation
    values: dict[str, float]
    spread: float


#: Fewer configurations than these cannot tell how wrong a prediction is.
_FEW = 4


class HeldOut(NamedTuple):
    """One configuration, predicted without itself.

    Attributes:
        workers, memory_mb, architecture: The configuration.
        quantity: One of ``time``, ``cpu_seconds``, ``energy``, ``cost``.
        actual: What the profile says, mean over all repetitions.
        predicted: What was predicted without it, with its band.
    """

    workers: int
    memory_mb: float
    architecture: str
    quantity: str
    actual: float
    predicted: Band

    @property
    def error(self) -> float:
        """Predicted over actual, less 1."""
        return self.predicted.value / self.actual - 1

    @property
    def covered(self) -> bool:
        """Whether the band holds the actual value."""
        return self.predicted.low <= self.actual <= self.predicted.high


# --- smooth surfaces ----------------------------------------------------------

# Prior standard deviations of the coefficients of a log-log surface: what is plausible for any
# program. Slopes: ideal scaling is -1 for times and 0 for totals; a bend, a difference between
# memories that is not the quota's, or an interaction, is small. Held-out errors hardly change
# when one of them is halved or doubled.
_WIDE = {
    "level": 3.0,
    "workers": 2.0,
    "bend": 0.5,
    "quota": 2.0,
    "memory": 0.3,
    "arm": 1.0,
    "workers_quota": 0.3,
    "workers_arm": 0.1,
    "quota_arm": 0.1,
}
# About what a structure says already, only small deviations are left.
_NARROW = {name: min(sd, 0.1) for name, sd in _WIDE.items()} | {"level": 0.2}

#: Of the smooth deviation: its size (log), its reach in log workers and log memory, and the
#: correlation of two architectures.
_DEVIATION, _REACH_WORKERS, _REACH_MEMORY, _ARCHITECTURES = 0.15, 1.0, 1.5, 0.5

#: What a configuration has of its own and its neighbours do not have: fleets of 28 workers may
#: start cold where 24 start warm.
_OWN = 0.02

#: Relative scatter that repetitions do not show: another day, another host.
_DAY = 0.01


class _Axes:
    """Centre and range of the profiled configurations, in logarithms."""

    def __init__(self, points: Floats) -> None:
        self.workers = np.log(points[:, 0])
        self.centre = float(self.workers.mean())
        self.low = float(self.workers.min()) - self.centre
        self.high = float(self.workers.max()) - self.centre
        self.memory = float(np.log(points[:, 1]).mean())
        self.arm = float(points[:, 2].mean())

    def features(self, points: Floats, capacity: float) -> dict[str, Floats]:
        workers = np.log(points[:, 0]) - self.centre
        memory = np.log(points[:, 1]) - self.memory
        quota = np.minimum(memory, math.log(capacity) - self.memory)
        arm = points[:, 2] - self.arm
        # Beyond what was profiled a bend goes on as a straight line, not as a parabola.
        inner = np.clip(workers, self.low, self.high)
        bend = inner**2 + 2 * inner * (workers - inner)
        return {
            "level": np.ones_like(workers),
            "workers": workers,
            "bend": bend,
            "quota": quota,
            "memory": memory,
            "arm": arm,
            "workers_quota": workers * quota,
            "workers_arm": workers * arm,
            "quota_arm": quota * arm,
        }


class _Surface:
    """Gaussian process regression of the logarithm of one quantity.

    Args:
        points: One row per observation: workers, vCPUs of a worker, 1.0 for arm64.
        values: The quantity, above 0.
        errors: Relative standard error of each.
        capacity: vCPUs that a worker can use at most.
        prior: Standard deviations of the coefficients.
        smooth: Size of the smooth deviation.
    """

    def __init__(
        self,
        points: Floats,
        values: Floats,
        errors: Floats,
        capacity: float = 1.0,
        prior: Mapping[str, float] = _WIDE,
        smooth: float = _DEVIATION,
    ) -> None:
        self.axes = _Axes(points)
        self.points = points
        self.capacity = capacity
        self.prior = prior
        self.smooth = smooth
        logs = np.log(np.maximum(values, 1e-9))
        self.level = float(logs.mean()) if prior is _WIDE else 0.0
        covariance = self._kernel(points, points)
        covariance[np.diag_indices(len(points))] += _DAY**2 + errors**2
        self.inverse = np.linalg.inv(covariance)
        self.weights = self.inverse @ (logs - self.level)

    def _kernel(self, a: Floats, b: Floats) -> Floats:
        one, other = self.axes.features(a, self.capacity), self.axes.features(b, self.capacity)
        kernel: Floats = np.zeros((len(a), len(b)))
        for name, sd in self.prior.items():
            kernel += sd**2 * np.outer(one[name], other[name])
        distance = (np.subtract.outer(one["workers"], other["workers"]) / _REACH_WORKERS) ** 2
        distance += (np.subtract.outer(one["memory"], other["memory"]) / _REACH_MEMORY) ** 2
        alike = np.where(np.equal.outer(a[:, 2], b[:, 2]), 1.0, _ARCHITECTURES)
        kernel += self.smooth**2 * alike * np.exp(-0.5 * distance)
        same = np.all(a[:, None, :] == b[None, :, :], axis=2)
        kernel += _OWN**2 * same
        return kernel

    def log(self, points: Floats) -> Floats:
        """The logarithm of the quantity at these points."""
        result: Floats = self.level + self._kernel(points, self.points) @ self.weights
        return result

    def __call__(self, points: Floats) -> Floats:
        result: Floats = np.exp(self.log(points))
        return result

    def sd(self, points: Floats) -> Floats:
        """Standard deviation of the logarithm at these points."""
        cross = self._kernel(points, self.points)
        own = np.array([self._kernel(p[None], p[None])[0, 0] for p in points])
        variance = own - np.einsum("ij,jk,ik->i", cross, self.inverse, cross)
        result: Floats = np.sqrt(np.maximum(variance, 0.0) + _DAY**2)
        return result


# --- one fit ------------------------------------------------------------------


class _Structure(NamedTuple):
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


_DIRECT = _Structure(False, 1.0)


def _structures(observations: Sequence[Observation]) -> list[_Structure]:
    """What may be tried with these observations, the most usual first."""
    found = []
    if all("cpu_seconds" in o.figures for o in observations):
        found.append(_Structure(True, 1.0))
        if max(o.vcpus for o in observations) > 1:
            found.append(_Structure(True, 6.0))  # the most that Lambda gives
    return [*found, _DIRECT]


def _points(observations: Sequence[Observation]) -> Floats:
    return np.array([[o.workers, o.vcpus, float(o.architecture == "arm64")] for o in observations])


#: Below this a phase did nothing, s.
_NOTHING = 1e-4


class _Fit:
    """All surfaces of one set of observations."""

    def __init__(self, observations: Sequence[Observation], structure: _Structure) -> None:
        self.structure = structure
        having = [o for o in observations if "worker_time" in o.figures]
        self.points = _points(having)
        worker_time = self._values(having, "worker_time")
        errors = self._errors(having, "worker_time")

        with_cpu = [o for o in observations if "cpu_seconds" in o.figures]
        self.cpu = self._surface(with_cpu, "cpu_seconds") if with_cpu else None
        self.cpu_architectures = {o.architecture for o in with_cpu}
        self.waiting: _Surface | None = None
        if structure.quota and self.cpu is not None:
            vcpus = np.minimum(self.points[:, 1], structure.capacity)
            running = self._values(having, "cpu_seconds") / vcpus
            # What is left of a busy worker's time is small and unsure: no less than 2 %, and
            # worth as much as 0.5 % of the whole.
            waiting = np.maximum(worker_time - running, 0.02 * worker_time)
            unsure = np.minimum(np.hypot(errors, 0.005) * worker_time / waiting, 0.5)
            self.waiting = _Surface(self.points, waiting, unsure, structure.capacity, smooth=0.001)
            law = self._law(self.points)
            self.worker_time = _Surface(
                self.points, worker_time / law, errors, structure.capacity, _NARROW
            )
        else:
            self.worker_time = _Surface(self.points, worker_time, errors)

        timed = [o for o in having if "time" in o.figures]
        self.straggling = self._ratio(timed, "time", per_worker=True)
        self.phases: dict[str, _Surface | None] = {}
        for phase in PHASES:
            told = [o for o in timed if phase in o.figures]
            if not told:
                continue
            busy = [o for o in told if o.figures[phase].value > _NOTHING]
            if not busy:
                self.phases[phase] = None
            elif phase == "compute":
                self.phases[phase] = self._ratio(busy, phase, per_worker=True)
            else:
                self.phases[phase] = self._surface(busy, phase)

        with_joules = [o for o in having if "energy" in o.figures]
        self.watts = self._ratio(with_joules, "energy", per_worker=False) if with_joules else None
        # Joules of one architecture say nothing of another's.
        self.own_joules = _with_own_joules(having)
        spreads = [o.spread for o in with_joules if o.spread is not None]
        lows, highs = zip(*spreads, strict=True) if spreads else ((1.0,), (1.0,))
        self.spread = max(float(np.median(lows)), 1e-3), float(np.median(highs))

    @staticmethod
    def _values(observations: Sequence[Observation], quantity: str) -> Floats:
        return np.array([o.figures[quantity].value for o in observations])

    @staticmethod
    def _errors(observations: Sequence[Observation], quantity: str) -> Floats:
        return np.array([o.figures[quantity].error for o in observations])

    def _surface(self, observations: Sequence[Observation], quantity: str) -> _Surface:
        return _Surface(
            _points(observations),
            self._values(observations, quantity),
            self._errors(observations, quantity),
        )

    def _ratio(
        self, observations: Sequence[Observation], quantity: str, per_worker: bool
    ) -> _Surface:
        """The quantity over the (mean) worker's time, which takes most of its variation."""
        values = self._values(observations, quantity)
        values = values / self._values(observations, "worker_time")
        if per_worker:
            values = values * np.array([o.workers for o in observations])
        return _Surface(_points(observations), values, self._errors(observations, quantity))

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
            told = [_architecture_of(point) in self.cpu_architectures for point in points]
            result["cpu_seconds"] = np.where(told, self.cpu(points), np.nan)
        for phase, surface in self.phases.items() if phases else ():
            if surface is None:
                result[phase] = np.zeros(len(points))
            elif phase == "compute":
                result[phase] = surface(points) * mean
            else:
                result[phase] = surface(points)
        if joules and (self.watts is not None or self.cpu is not None):
            self._add_energy(points, result)
        return result

    def _add_energy(self, points: Floats, result: dict[str, Floats]) -> None:
        """``energy``, and how low and how high it may be for all that is known of the power."""
        worker_time = result["worker_time"]
        energy: Floats = np.full((3, len(points)), np.nan)
        own = np.array([_architecture_of(point) in self.own_joules for point in points])
        if self.watts is not None and own.any():
            low, high = self.spread
            watts = self.watts(points[own])
            energy[:, own] = np.array([watts, low * watts, high * watts])
        if self.cpu is not None:
            busy = result["cpu_seconds"] / worker_time
            for index in np.flatnonzero(~own & np.isfinite(busy)):
                point = points[index]
                memory = float(point[1]) * MB_PER_VCPU
                energy[:, index] = sandbox_watts(memory, _architecture_of(point), busy[index])
        if np.isfinite(energy).any():
            result["energy"], result["energy_low"], result["energy_high"] = energy * worker_time


def _architecture_of(point: Floats) -> str:
    return "arm64" if point[2] else "x86_64"


def _with_own_joules(observations: Sequence[Observation]) -> dict[str, str]:
    """Architectures whose profiles hold joules, and the worst quality of these."""
    found: dict[str, str] = {}
    for one in observations:
        if one.quality is not None:
            worst = max(one.quality, found.get(one.architecture, QUALITIES[0]), key=QUALITIES.index)
            found[one.architecture] = worst
    return found


# --- the model ----------------------------------------------------------------


class PerformanceModel:
    """Predicts a stage in any configuration between its profiled ones.

    Args:
        profiles: Paths of profiles of *one* stage, or what `read_profile` returned: any memories
            and architectures. Only several memories say what another memory would do.
        architecture: ``x86_64`` or ``arm64``, of profiles that do not name it.
        region: For dollars.

    Attributes:
        observations: What the profiles say, one for each configuration.
        warnings: What was left out and why, and what was assumed.
        structure: In words, how times depend on memory here.
        energy_quality: ``measured``, ``attributed``, ``modelled``, the worst of the
            architectures' `quality`, or ``None``: no joules and no CPU seconds.

    Raises:
        UnreadableFileError, MalformedValueError: From reading the profiles.
        ValueError: For an architecture or region that is not known.

    Example:
        >>> from lithowatt.profiles import PerformanceModel
        >>> row = lambda n: {"compute": [[40 / n] * n], "read": [[0.1] * n], "write": [[0.1] * n],
        ...     "cold_start": [[1.0] * n], "worker_time_execution": [[40 / n + 0.5] * n],
        ...     "cpu_time": [[20 / n] * n], "cpu_architecture": [["arm64"] * n]}
        >>> model = PerformanceModel({(1, 1024, n): row(n) for n in (2, 4, 8, 16)})
        >>> prediction = model.predict(workers=6, memory_mb=1024)
        >>> prediction.profiled, prediction.inside, prediction.energy_quality
        (False, True, 'modelled')
        >>> abs(prediction.time.value - (40 / 6 + 1.2)) < 0.5
        True
    """

    def __init__(
        self,
        profiles: Profile | Iterable[Profile],
        architecture: str | None = None,
        region: str = "us-east-1",
    ) -> None:
        observed = observe(profiles, architecture)
        self.warnings = observed.warnings
        self._prepare(observed.observations, region)

    @classmethod
    def of(cls, observations: Sequence[Observation], region: str = "us-east-1") -> PerformanceModel:
        """A model of observations that were made already."""
        self = cls.__new__(cls)
        self.warnings = []
        self._prepare(list(observations), region)
        return self

    def _prepare(self, observations: list[Observation], region: str) -> None:
        self.observations = [o for o in observations if "worker_time" in o.figures]
        if len(self.observations) < len(observations):
            left = len(observations) - len(self.observations)
            self.warnings.append(f"{left} configurations without worker times left out")
        if not self.observations:
            raise MalformedValueError("no configuration has worker times; nothing to learn from")
        self.region = region
        self._places = {o.place for o in self.observations}
        self._structure = self._choose_structure()
        self._fit = _Fit(self.observations, self._structure)
        self._left_out = self._leave_one_out()
        self._factors: dict[str, float] = {}
        qualities = [self.quality(architecture) for architecture in self.architectures]
        known = [quality for quality in qualities if quality is not None]
        self.energy_quality = max(known, key=QUALITIES.index) if known else None
        missing = sum(
            o.quality is None for o in self.observations if o.architecture in self._fit.own_joules
        )
        if missing:
            self.warnings.append(
                f"configurations without joules: {missing}; their energy rests on the others'"
            )
        if len(self._places) < _FEW:
            self.warnings.append(
                f"only {len(self._places)} profiled configuration(s): bands are guesses"
            )

    @property
    def structure(self) -> str:
        """In words, how times depend on memory here."""
        return str(self._structure)

    def quality(self, architecture: str) -> str | None:
        """What the joules of an architecture are; ``None``: there are none to be had."""
        found = self._fit.own_joules.get(architecture)
        if found is None and architecture in self._fit.cpu_architectures:
            return "modelled"
        return found

    @property
    def architectures(self) -> list[str]:
        """The profiled architectures."""
        return sorted({o.architecture for o in self.observations})

    def memories(self, architecture: str | None = None) -> list[float]:
        """The profiled memories of an architecture, or of all, MB."""
        return sorted(
            {
                o.memory_mb
                for o in self.observations
                if architecture is None or o.architecture == architecture
            }
        )

    def workers(self, memory_mb: float, architecture: str) -> tuple[int, int] | None:
        """Fewest and most workers between which a prediction interpolates; ``None``: nowhere.

        At a profiled memory, what was profiled there; else what was profiled at both the next
        smaller and the next larger one.
        """
        memories = self.memories(architecture)
        if memory_mb in memories:
            beside = [memory_mb]
        else:
            below = [m for m in memories if m < memory_mb]
            above = [m for m in memories if m > memory_mb]
            if not below or not above:
                return None
            beside = [below[-1], above[0]]
        ranges = []
        for memory in beside:
            found = [
                o.workers
                for o in self.observations
                if o.memory_mb == memory and o.architecture == architecture
            ]
            ranges.append((min(found), max(found)))
        low, high = max(r[0] for r in ranges), min(r[1] for r in ranges)
        return (low, high) if low <= high else None

    # -- choosing and calibrating ----------------------------------------------

    def _choose_structure(self) -> _Structure:
        candidates = _structures(self.observations)
        memories = self.memories()
        if len(candidates) == 1 or len(memories) < 2:
            return _DIRECT  # one memory says nothing of others
        errors = []
        for structure in candidates:
            missed: list[float] = []
            for memory in memories:
                rest = [o for o in self.observations if o.memory_mb != memory]
                out = [o for o in self.observations if o.memory_mb == memory]
                predicted = _Fit(rest, structure).predict(_points(out), joules=False, phases=False)
                actual = np.array([o.figures["worker_time"].value for o in out])
                missed += np.abs(np.log(predicted["worker_time"] / actual)).tolist()
            errors.append(float(np.median(missed)))
        # A less usual one has to be better by more than chance.
        good = 1.1 * min(errors)
        return next(c for c, error in zip(candidates, errors, strict=True) if error <= good)

    def _leave_one_out(self) -> list[_LeftOut]:
        """Each configuration predicted without itself."""
        found: list[_LeftOut] = []
        places = sorted(self._places)
        if len(places) < _FEW:
            return found
        for place in places:
            rest = [o for o in self.observations if o.place != place]
            out = [o for o in self.observations if o.place == place]
            fit = _Fit(rest, self._structure)
            points = _points(out)
            predicted = fit.predict(points)
            spreads = fit.worker_time.sd(points).tolist()
            for index, observation in enumerate(out):
                values = {name: float(column[index]) for name, column in predicted.items()}
                found.append(_LeftOut(observation, values, spreads[index]))
        return found

    def _scores(self, quantity: str, without: tuple[int, float, str] | None) -> list[float]:
        """Sizes of held-out log errors, each over the width that the surface gave it."""
        scores = []
        for out in self._left_out:
            if out.observation.place == without:
                continue
            targets = self._targets(out.observation)
            parts = {"edp": ("energy", "time"), "cost": ("worker_time",)}.get(quantity, (quantity,))
            if all(targets.get(p, 0) > 0 and out.values.get(p, 0) > 0 for p in parts):
                error = sum(math.log(targets[p] / out.values[p]) for p in parts)
                scores.append(abs(error) / out.spread)
        return sorted(scores)

    def _width_factor(self, quantity: str, without: tuple[int, float, str] | None = None) -> float:
        """Half width of the 95 % band of a logarithm, per standard deviation of the surface.

        The 95 % quantile, as for a small sample, of the held-out errors: locally weighted
        conformal prediction.
        """
        scores = self._scores(quantity, without)
        if len(scores) < _FEW:
            return 3.0
        rank = math.ceil((len(scores) + 1) * 0.95)
        # Fewer than 19: the largest that was seen is not yet the 95 % quantile.
        return max(scores[rank - 1] if rank <= len(scores) else 1.5 * scores[-1], 1.0)

    def _factor(self, quantity: str) -> float:
        if quantity not in self._factors:
            self._factors[quantity] = self._width_factor(quantity)
        return self._factors[quantity]

    # -- predicting ------------------------------------------------------------

    def predict(
        self,
        workers: int,
        memory_mb: float,
        architecture: str | None = None,
        extrapolate: bool = False,
    ) -> Prediction:
        """A stage run with so many workers of so much memory.

        Args:
            workers: 1 or more.
            memory_mb: MB per worker, 128 to 10240.
            architecture: May be left out where only one was profiled.
            extrapolate: Whether to go beyond what was profiled, with a wider band.

        Raises:
            ValueError: For a configuration that is not between profiled ones (without
                ``extrapolate``), an architecture that was not profiled, or no configuration.
        """
        return self.predict_all([(workers, memory_mb, architecture)], extrapolate)[0]

    def predict_all(
        self,
        configurations: Iterable[tuple[int, float, str | None]],
        extrapolate: bool = False,
    ) -> list[Prediction]:
        """As `predict`, for (workers, memory_mb, architecture) of each."""
        checked = [self._checked(*each, extrapolate=extrapolate) for each in configurations]
        if not checked:
            return []
        points = np.array(
            [[w, memory / MB_PER_VCPU, float(a == "arm64")] for w, memory, a, _ in checked]
        )
        values = self._fit.predict(points)
        spread = self._fit.worker_time.sd(points)
        bands = {name: self._factor(name) * spread for name in (*values, "cost", "edp")}
        return [
            self._prediction(
                *each,
                {name: float(column[index]) for name, column in values.items()},
                {name: float(column[index]) for name, column in bands.items()},
            )
            for index, each in enumerate(checked)
        ]

    def estimates(self, workers: float, memory_mb: float, architecture: str) -> dict[str, float]:
        """Best estimates alone, fast and smooth, for optimisers.

        Args:
            workers: Any number above 0, not only a whole one.
            memory_mb: Any number above 0: no range is checked.
            architecture: ``x86_64`` or ``arm64``.

        Returns:
            ``time`` (s), ``worker_time`` (s, all workers), ``cost`` (USD, without rounding to
            ms), and where the profiles tell them ``cpu_seconds`` (s), ``energy`` (J) and
            ``edp`` (J·s).
        """
        points = np.array([[workers, memory_mb / MB_PER_VCPU, float(architecture == "arm64")]])
        values = self._fit.predict(points, phases=False)
        found = {name: float(column[0]) for name, column in values.items()}
        price = lambda_price(architecture, self.region)
        gb_seconds = found["worker_time"] * memory_mb / 1024
        found["cost"] = gb_seconds * price.gb_second + workers * price.request
        found = {name: value for name, value in found.items() if math.isfinite(value)}
        if "energy" in found:
            found["edp"] = found["energy"] * found["time"]
        return found

    def _checked(
        self, workers: int, memory_mb: float, architecture: str | None, extrapolate: bool
    ) -> tuple[int, float, str, bool]:
        if isinstance(workers, bool) or not isinstance(workers, (int, np.integer)) or workers < 1:
            raise ValueError(f"workers {workers!r:.80} is not a whole number of at least 1")
        known = self.architectures
        if architecture is None:
            if len(known) > 1:
                raise ValueError(f"architecture is needed: {' or '.join(known)} were profiled")
            found = known[0]
        else:
            found = normalise_architecture(architecture)
            if found not in known:
                raise ValueError(f"no profile of {found}, only of {', '.join(known)}")
        memory = float(memory_mb)
        if not 128 <= memory <= 10_240:
            raise ValueError(f"memory {memory_mb!r:.80} is not from 128 to 10240 MB")
        between = self.workers(memory, found)
        inside = between is not None and between[0] <= workers <= between[1]
        if not inside and not extrapolate:
            raise ValueError(
                f"{workers} workers of {memory:g} MB ({found}) are not between profiled "
                "configurations; extrapolate=True predicts them with a wider band"
            )
        return int(workers), memory, found, inside

    def _prediction(
        self,
        workers: int,
        memory: float,
        architecture: str,
        inside: bool,
        values: Mapping[str, float],
        widths: Mapping[str, float],
    ) -> Prediction:
        def band(value: float, width: float) -> Band:
            # Beyond the profiled range nothing was held out to calibrate with.
            grown = math.exp(width if inside else 1.5 * width)
            return Band(value, value / grown, value * grown)

        worker = values["worker_time"] / workers
        dollars = lambda_cost(worker, memory, architecture, self.region, workers)
        energy = fit = edp = None
        if "energy" in values and math.isfinite(values["energy"]):
            joules = values["energy"]
            fit = band(joules, widths["energy"])
            low, high = values["energy_low"] / joules, values["energy_high"] / joules
            # Independent errors: logarithms add in quadrature.
            down = math.hypot(math.log(joules / fit.low), math.log(low))
            up = math.hypot(math.log(fit.high / joules), math.log(high))
            energy = Band(joules, joules * math.exp(-down), joules * math.exp(up))
            edp = band(joules * values["time"], widths["edp"])
        return Prediction(
            workers=workers,
            memory_mb=memory,
            architecture=architecture,
            time=band(values["time"], widths["time"]),
            cpu_seconds=(
                band(values["cpu_seconds"], widths["cpu_seconds"])
                if math.isfinite(values.get("cpu_seconds", math.nan))
                else None
            ),
            energy=energy,
            energy_fit=fit,
            energy_quality=None if energy is None else self.quality(architecture),
            cost=band(float(dollars), widths["cost"]),
            edp=edp,
            worker_time=band(worker, widths["worker_time"]),
            phases={
                phase: band(values[phase], widths[phase]) for phase in PHASES if phase in values
            },
            profiled=(workers, memory, architecture) in self._places,
            inside=inside,
        )

    # -- checking --------------------------------------------------------------

    def check(self, leave_out: str = "configuration") -> list[HeldOut]:
        """Predicts what was profiled from the rest, and compares.

        Args:
            leave_out: ``configuration``: each is predicted from all others. ``memory``: all of a
                memory are predicted from the other memories.

        Raises:
            ValueError: Where too little is left to learn from, or for another word.
        """
        if leave_out == "configuration":
            return self._check_configurations()
        if leave_out != "memory":
            raise ValueError(f"leave_out {leave_out!r:.80} is not configuration or memory")
        if len(self.memories()) < 2:
            raise ValueError("only one memory was profiled: none can be left out")
        found: list[HeldOut] = []
        for memory in self.memories():
            rest = [o for o in self.observations if o.memory_mb != memory]
            model = PerformanceModel.of(rest, self.region)
            out = [
                o
                for o in self.observations
                if o.memory_mb == memory and o.architecture in model.architectures
            ]
            predictions = model.predict_all([o.place for o in out], extrapolate=True)
            for observation, prediction in zip(out, predictions, strict=True):
                found += self._compared(observation, prediction)
        return found

    def _check_configurations(self) -> list[HeldOut]:
        if not self._left_out:
            raise ValueError(
                f"only {len(self._places)} configuration(s) were profiled: "
                f"at least {_FEW} are needed to leave one out"
            )
        found: list[HeldOut] = []
        for out in self._left_out:
            place = out.observation.place
            # Its band must not know its error either.
            widths = {
                name: self._width_factor(name, without=place) * out.spread
                for name in (*out.values, "cost", "edp")
            }
            prediction = self._prediction(*place, True, out.values, widths)
            found += self._compared(out.observation, prediction)
        return found

    def _compared(self, observation: Observation, prediction: Prediction) -> list[HeldOut]:
        actual = self._targets(observation) | {"cost": self.actual_cost(observation)}
        predicted = {
            "time": prediction.time,
            "cpu_seconds": prediction.cpu_seconds,
            "energy": prediction.energy_fit,
            "cost": prediction.cost,
        }
        return [
            HeldOut(*observation.place, quantity, actual[quantity], band)
            for quantity, band in predicted.items()
            if band is not None and quantity in actual
        ]

    def _targets(self, observation: Observation) -> dict[str, float]:
        """What a profile says of a configuration, by definition: means over all repetitions."""
        found = {
            name: observation.figures[name].mean
            for name in ("time", "cpu_seconds", "worker_time", *PHASES)
            if name in observation.figures
        }
        own = observation.architecture in self._fit.own_joules
        joules = observation.figures.get("energy" if own else "energy_modelled")
        if joules is not None:
            found["energy"] = joules.mean
        return found

    def actual_cost(self, observation: Observation) -> float:
        """Dollars of a profiled configuration, from its mean worker time."""
        seconds = observation.figures["worker_time"].mean / observation.workers
        return float(
            lambda_cost(
                seconds,
                observation.memory_mb,
                observation.architecture,
                self.region,
                observation.workers,
            )
        )


NO_ENERGY = (
    "the profiles have neither joules (energy) nor CPU seconds (cpu_time, TDP): "
    "energy cannot be predicted"
)
