"""How wrong a prediction may be: what was profiled, predicted without itself.

Whole memories are left out, and the structure that predicts them best is taken; then each
configuration is left out once, and the bands come from how far off it was.
"""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from typing import NamedTuple

import numpy as np

from lithowatt.analysis._fit import DIRECT, Fit, Structure, structures
from lithowatt.analysis._observe import PHASES, Observation

Place = tuple[int, float, str]
"""Workers, memory in MB, architecture."""


class LeftOut(NamedTuple):
    """An observation, what was predicted without it, and the surfaces' widths there."""

    observation: Observation
    values: dict[str, float]
    spreads: dict[str, float]


#: Fewer configurations than these cannot show how wrong a prediction is.
FEW = 4


def choose_structure(observations: Sequence[Observation]) -> Structure:
    """The one that predicts whole memories best from the others."""
    candidates = structures(observations)
    memories = sorted({o.memory_mb for o in observations})
    if len(candidates) == 1 or len(memories) < 2:
        return DIRECT  # one memory shows nothing of others
    errors = []
    for structure in candidates:
        missed: list[float] = []
        for memory in memories:
            rest = [o for o in observations if o.memory_mb != memory]
            out = [o for o in observations if o.memory_mb == memory]
            fit = Fit(rest, structure)
            predicted = fit.predict(fit.points_of(out), joules=False, phases=False)
            actual = np.array([o.figures["worker_time"].value for o in out])
            missed += np.abs(np.log(predicted["worker_time"] / actual)).tolist()
        errors.append(float(np.median(missed)))
    # A less usual one has to be better by more than chance.
    good = 1.1 * min(errors)
    return next(c for c, error in zip(candidates, errors, strict=True) if error <= good)


def leave_one_out(observations: Sequence[Observation], structure: Structure) -> list[LeftOut]:
    """Each configuration predicted without itself."""
    found: list[LeftOut] = []
    places = sorted({o.place for o in observations})
    if len(places) < FEW:
        return found
    for place in places:
        rest = [o for o in observations if o.place != place]
        out = [o for o in observations if o.place == place]
        fit = Fit(rest, structure)
        points = fit.points_of(out)
        predicted = fit.predict(points)
        spreads = fit.sd(points)
        for index, observation in enumerate(out):
            values = {name: float(column[index]) for name, column in predicted.items()}
            widths = {name: float(spreads.of(name)[index]) for name in (*values, "cost", "edp")}
            found.append(LeftOut(observation, values, widths))
    return found


def targets(observation: Observation, own_joules: Container[str]) -> dict[str, float]:
    """What a profile holds for a configuration, by definition: means over all repetitions."""
    found = {
        name: observation.figures[name].mean
        for name in ("time", "cpu_seconds", "worker_time", *PHASES)
        if name in observation.figures
    }
    own = observation.architecture in own_joules
    joules = observation.figures.get("energy" if own else "energy_modelled")
    if joules is not None:
        found["energy"] = joules.mean
    return found


class Widths:
    """Of the bands, by what was left out.

    Args:
        left_out: Each configuration as predicted without itself.
        own_joules: Architectures whose profiles hold joules.
    """

    def __init__(self, left_out: Sequence[LeftOut], own_joules: Container[str]) -> None:
        self._left_out = left_out
        self._own_joules = own_joules
        self._factors: dict[str, float] = {}

    def _scores(self, quantity: str, without: Place | None) -> list[float]:
        """Sizes of held-out log errors, each over the width that the surface gave it."""
        scores = []
        for out in self._left_out:
            if out.observation.place == without:
                continue
            actual = targets(out.observation, self._own_joules)
            parts = {"edp": ("energy", "time"), "cost": ("worker_time",)}.get(quantity, (quantity,))
            if all(actual.get(p, 0) > 0 and out.values.get(p, 0) > 0 for p in parts):
                error = sum(math.log(actual[p] / out.values[p]) for p in parts)
                scores.append(abs(error) / out.spreads[quantity])
        return sorted(scores)

    def factor_without(self, quantity: str, without: Place | None) -> float:
        """Half width of the 95 % band of a logarithm, per standard deviation of the surface.

        The 95 % quantile, as for a small sample, of the held-out errors: locally weighted
        conformal prediction.
        """
        scores = self._scores(quantity, without)
        if len(scores) < FEW:
            return 3.0
        rank = math.ceil((len(scores) + 1) * 0.95)
        # Fewer than 19: the largest that was seen is not yet the 95 % quantile.
        return max(scores[rank - 1] if rank <= len(scores) else 1.5 * scores[-1], 1.0)

    def factor(self, quantity: str) -> float:
        """As `factor_without`, of all that were left out."""
        if quantity not in self._factors:
            self._factors[quantity] = self.factor_without(quantity, None)
        return self._factors[quantity]
