"""What can be recommended: each configuration that ran, and those that are predicted if asked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from lithowatt.analysis._means import OBJECTIVES, Scatter, band_of, known_of, scatter_of, values_of
from lithowatt.analysis._observe import PHASES, Observation
from lithowatt.analysis._predict import PerformanceModel
from lithowatt.analysis._prediction import Band, Prediction
from lithowatt.analysis.intervals import Sample
from lithowatt.estimate import number
from lithowatt.profiles._runs import Floats, Ints

#: More candidates than these are thinned out, evenly on a logarithmic scale.
_MOST_WORKERS = 256


@dataclass(frozen=True, eq=False)
class Candidate:
    """One configuration, and what is known of its runs.

    Attributes:
        prediction: Its figures, with their bands.
        observation: Its runs; `None` where it is predicted.
        scatter: Of each objective how a single run scatters, where nothing shows it: relative
            standard deviation over all configurations, and the degrees of freedom with which that
            is known (infinite: a guess).
    """

    prediction: Prediction
    observation: Observation | None
    scatter: Mapping[str, Scatter]

    @property
    def place(self) -> tuple[int, float, str]:
        """What tells it from the others."""
        one = self.prediction
        return one.workers, one.memory_mb, one.architecture

    def values(self, objective: str) -> Floats:
        """The objective of each run that has it; none where it is predicted."""
        if self.observation is None or getattr(self.prediction, objective) is None:
            return np.zeros(0)
        return self._values[objective]

    def session(self, objective: str) -> Ints:
        """The session of each of these `values`, -1 where it is not known."""
        if self.observation is None:
            return np.zeros(0, dtype=np.int64)
        return self.observation.session[known_of(self.observation, objective)]

    @cached_property
    def _values(self) -> dict[str, Floats]:
        assert self.observation is not None  # noqa: S101 - for mypy
        return {name: values_of(self.observation, name) for name in OBJECTIVES}

    def log_error(self, objective: str) -> float:
        """Of a predicted one: standard deviation of the logarithm of the objective's mean."""
        band: Band = getattr(self.prediction, "energy_fit" if objective == "energy" else objective)
        if band.value <= 0 or band.high <= 0:
            return 0.0
        return math.log(band.high / band.value) / 1.96

    def sample(self, objective: str) -> tuple[Sample, float]:
        """Mean and standard deviation of the runs, and the degrees of freedom of the latter."""
        values = self.values(objective)
        sample = Sample.of(values)
        if sample.n == 1:
            cv, df = self.scatter[objective]
            return Sample(1, sample.mean, cv * sample.mean), df
        return sample, float(sample.n - 1)


def candidates(
    model: PerformanceModel,
    architectures: Sequence[str],
    workers: int | Iterable[int] | None,
    memory: float | Iterable[float] | None,
    predict: bool,
    extrapolate: bool,
) -> list[Candidate]:
    """All that may be recommended.

    Args:
        model: Of the profiles.
        architectures: Only these.
        workers: Only these numbers of workers.
        memory: Only these memories, MB.
        predict: Also what lies between profiled ones.
        extrapolate: Also what lies beyond them.

    Raises:
        ValueError: There is none.
    """
    counts = None if workers is None else _listed(workers, "workers")
    memories = None if memory is None else _listed(memory, "memory")
    scatter = {name: scatter_of(model.observations, name) for name in OBJECTIVES}
    found = [
        Candidate(profiled(model, one, scatter["time"]), one, scatter)
        for one in model.observations
        if one.architecture in architectures
        and (counts is None or one.workers in counts)
        and (memories is None or one.memory_mb in memories)
    ]
    if predict or extrapolate:
        there = {one.place for one in found}
        places = _places(model, architectures, counts, memories, extrapolate)
        found = _completed(model, found)
        rest = [place for place in places if place not in there]
        found += [Candidate(one, None, scatter) for one in model.predict_all(rest, extrapolate)]
    if not found:
        between = _places(model, architectures, counts, memories, extrapolate=False)
        raise ValueError(_none(model, architectures, bool(between) and not predict))
    return sorted(found, key=lambda one: one.place)


def _completed(model: PerformanceModel, found: Sequence[Candidate]) -> list[Candidate]:
    """Where some runs hold joules, those of the others are predicted from them."""
    completed = []
    for one in found:
        shown = one.prediction
        if shown.energy is None:
            guess = model.predict(*one.place)
            shown = replace(
                shown,
                energy=guess.energy,
                energy_fit=guess.energy_fit,
                energy_quality=guess.energy_quality,
                energy_reason=guess.energy_reason,
                edp=guess.edp,
            )
        completed.append(replace(one, prediction=shown))
    return completed


# --- what ran -----------------------------------------------------------------


def profiled(model: PerformanceModel, one: Observation, scatter: Scatter) -> Prediction:
    """The figures of a configuration that ran: means over its runs, with their t intervals."""

    def band(values: Floats | None) -> Band | None:
        some = np.zeros(0) if values is None else values[np.isfinite(values)]
        return band_of(some, scatter) if len(some) else None

    runs = one.runs
    energy_fit = band(values_of(one, "energy"))
    energy = None
    if model.quality(one.architecture) is None or (
        one.quality is None and one.architecture in model.own_joules
    ):
        energy_fit = None  # joules of a power model beside joules that were measured
    if energy_fit is not None:
        energy = _with_spread(energy_fit, one.spread)
    cost = band(runs.get("cost"))
    time = band(runs["time"])
    worker_time = band(runs["worker_time"] / one.workers)
    assert time is not None and worker_time is not None  # noqa: S101 - each run has both
    phases = {phase: band(runs[phase]) for phase in PHASES if phase in runs}
    given = one.worker.memory_mb
    return Prediction(
        workers=one.workers,
        memory_mb=one.memory_mb,
        architecture=one.architecture,
        time=time,
        cpu_seconds=band(runs.get("cpu_seconds")),
        energy=energy,
        energy_fit=energy_fit,
        energy_quality=None if energy is None else model.quality(one.architecture),
        cost=cost,
        edp=None if energy is None else band(values_of(one, "edp")),
        worker_time=worker_time,
        phases={phase: some for phase, some in phases.items() if some is not None},
        profiled=True,
        inside=True,
        vcpus=model.platform.vcpus(one.worker),
        cost_reason=None if cost is not None else model.no_cost(one.worker),
        energy_reason=None if energy is not None else _no_energy(model, one),
        memory_given_mb=given if one.memory_mb == 0 < given else None,
        runs=one.repetitions,
        requested=one.requests,
        time_without_queue=band(runs.get("time_without_queue")),
        runs_without_queue=len(one.sample("time_without_queue")),
    )


def _no_energy(model: PerformanceModel, one: Observation) -> str:
    if one.architecture in model.own_joules:
        return "its runs hold no joules (energy), and those of others are no measure of its"
    return model.no_energy or f"{one.architecture}: neither joules nor CPU seconds"


def _with_spread(fit: Band, spread: tuple[float, float] | None) -> Band:
    """With what is not known of the power as well: independent errors add in quadrature."""
    if spread is None or fit.value <= 0:
        return fit
    least = 1e-9 * fit.value
    down = math.hypot(math.log(fit.value / max(fit.low, least)), math.log(max(spread[0], 1e-9)))
    up = math.hypot(math.log(fit.high / fit.value), math.log(spread[1]))
    return Band(fit.value, fit.value * math.exp(-down), fit.value * math.exp(up))


# --- what is predicted --------------------------------------------------------


def _places(
    model: PerformanceModel,
    architectures: Iterable[str],
    counts: list[Any] | None,
    memories: list[Any] | None,
    extrapolate: bool,
) -> list[tuple[int, float, str]]:
    found = []
    for architecture in architectures:
        for size in memories if memories is not None else model.memories(architecture):
            between = model.workers(size, architecture)
            if counts is not None:
                tried = counts
            elif between is not None:
                tried = _between(*between)
            elif extrapolate:
                tried = sorted({o.workers for o in model.observations})
            else:
                continue
            found += [
                (count, size, architecture)
                for count in tried
                if extrapolate or (between is not None and between[0] <= count <= between[1])
            ]
    return found


def _none(model: PerformanceModel, architectures: Iterable[str], between: bool) -> str:
    """That there is no candidate, and what would consider those that were asked for.

    Args:
        model: What was profiled.
        architectures: That count.
        between: Some that were asked for lie between profiled ones.
    """
    ranges = "; ".join(
        f"{architecture} {size:g} MB: {low} to {high} workers"
        for architecture in architectures
        for size in model.memories(architecture)
        for low, high in [model.workers(size, architecture) or (0, 0)]
    )
    if between:
        return (
            f"no candidate was profiled ({ranges}); predict (--predict) considers what lies "
            "between profiled ones, as this does"
        )
    return (
        f"no candidate was profiled or lies between profiled ones ({ranges}); extrapolate "
        "(--extrapolate) considers others"
    )


def _listed(values: object, name: str) -> list[Any]:
    listed = list(values) if isinstance(values, Iterable) else [values]
    if not listed or isinstance(values, str) or any(number(one) is None for one in listed):
        raise ValueError(f"{name} {values!r:.80} is no number and no list of numbers")
    return sorted(set(listed))


def _between(low: int, high: int) -> list[int]:
    if high - low < _MOST_WORKERS:
        return list(range(low, high + 1))
    step = (high / low) ** (1 / (_MOST_WORKERS - 1))
    return sorted({round(low * step**index) for index in range(_MOST_WORKERS)})
