"""What the runs of a configuration say of what is to be minimised: values, means, their bands."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from lithowatt.analysis._observe import GUESSED_ERROR, Observation
from lithowatt.analysis._prediction import Band
from lithowatt.analysis.intervals import Sample, quantity_interval, t_quantile
from lithowatt.profiles._runs import Bools, Floats

#: What can be minimised.
OBJECTIVES = ("energy", "cost", "edp", "time")

#: Relative standard deviation of a run, and its degrees of freedom.
Scatter = tuple[float, float]


def values_of(observation: Observation, objective: str) -> Floats:
    """The objective of each run that has it, in the order of the runs."""
    values = _of(observation, objective)
    return values[np.isfinite(values)]


def known_of(observation: Observation, objective: str) -> Bools:
    """Which runs have it."""
    return np.asarray(np.isfinite(_of(observation, objective)))


def _of(observation: Observation, objective: str) -> Floats:
    runs = observation.runs
    joules = runs.get("energy" if observation.quality is not None else "energy_modelled")
    if objective == "energy":
        values = joules
    elif objective == "edp":
        values = None if joules is None else joules * runs["time"]
    else:
        values = runs.get(objective)
    return np.full(len(runs["time"]), np.nan) if values is None else values


def scatter_of(observations: Iterable[Observation], objective: str) -> Scatter:
    """How the runs of a configuration scatter, over all configurations."""
    total = squares = 0.0
    for one in observations:
        sample = Sample.of(values_of(one, objective))
        if sample.n > 1 and sample.mean > 0:
            total += sample.n - 1
            squares += (sample.n - 1) * (sample.sd / sample.mean) ** 2
    return (math.sqrt(squares / total), total) if total else (GUESSED_ERROR, math.inf)


def band_of(values: Floats, scatter: Scatter) -> Band:
    """The mean of some runs with its t interval; of a single run with the scatter of others'."""
    sample = Sample.of(values)
    value = min(max(sample.mean, float(values.min())), float(values.max()))
    if sample.n == 1:
        cv, df = scatter
        grown = math.exp(cv * (t_quantile(0.95, df) if math.isfinite(df) else 1.96))
        return Band(value, value / grown, value * grown)
    if not sample.sd > 0:
        return Band(value, value, value)
    return Band(value, *quantity_interval(values))
