"""How wrong a prediction may be: what was profiled, predicted without itself.

Whole memories are left out, and the structure that predicts them best is taken; then each
configuration is left out once, and the bands come from how far off it was.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Sequence
from typing import NamedTuple

import numpy as np

from lithowatt.analysis._fit import DIRECT, Fit, Spreads, Structure, structures
from lithowatt.analysis._observe import PHASES, Observation
from lithowatt.profiles._runs import Floats

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
            actual = np.array([o.figures["worker_time"].mean for o in out])
            missed += np.abs(np.log(predicted["worker_time"] / actual)).tolist()
        errors.append(float(np.median(missed)))
    # A less usual one has to be better by more than chance.
    good = 1.1 * min(errors)
    return next(c for c, error in zip(candidates, errors, strict=True) if error <= good)


def leave_one_out(observations: Sequence[Observation], structure: Structure) -> list[LeftOut]:
    """Each configuration predicted without itself.

    Not fitted again from scratch: the surfaces are made once, and each of them leaves one
    observation after the other out in closed form (`Fit.without_each` says what is approximated
    there). Fitted again is only without those that alone have the fewest or the most workers: a
    bend ends where the profiles end, and without them that is elsewhere.
    """
    if len(observations) < FEW:
        return []
    fit = Fit(observations, structure)
    values, spreads = fit.without_each()
    again = _ends(observations)
    found = []
    for at, observation in enumerate(observations):
        if at in again:
            rest = [one for one in observations if one is not observation]
            alone = Fit(rest, structure)
            points = alone.points_of([observation])
            found.append(_left_out(observation, alone.predict(points), alone.sd(points), 0))
        else:
            found.append(_left_out(observation, values, spreads, at))
    return found


def _left_out(
    observation: Observation, values: dict[str, Floats], spreads: Spreads, at: int
) -> LeftOut:
    widths = {name: float(spreads.of(name)[at]) for name in (*values, "cost", "edp")}
    return LeftOut(observation, {name: float(one[at]) for name, one in values.items()}, widths)


def _ends(observations: Sequence[Observation]) -> set[int]:
    """Those without which the range of workers is another; and what is there twice."""
    workers = [one.workers for one in observations]
    places = Counter(one.place for one in observations)
    ends = {min(workers), max(workers)}
    return {
        at
        for at, one in enumerate(observations)
        if places[one.place] > 1 or (one.workers in ends and workers.count(one.workers) == 1)
    }


def targets(observation: Observation, own_joules: Container[str]) -> dict[str, float]:
    """What a profile holds for a configuration, by definition: means over all repetitions."""
    found = {
        name: observation.figures[name].mean
        for name in ("time", "cpu_seconds", "worker_time", "cost", *PHASES)
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
        self._actual = [targets(out.observation, own_joules) for out in left_out]
        self._known: dict[str, list[tuple[float, Place]]] = {}

    def _scores(self, quantity: str) -> list[tuple[float, Place]]:
        """Sizes of held-out log errors, each over the width that the surface gave it; ascending."""
        if quantity not in self._known:
            scores = []
            parts = {"edp": ("energy", "time"), "cost": ("worker_time",)}.get(quantity, (quantity,))
            for out, actual in zip(self._left_out, self._actual, strict=True):
                if all(actual.get(p, 0) > 0 and out.values.get(p, 0) > 0 for p in parts):
                    error = sum(math.log(actual[p] / out.values[p]) for p in parts)
                    score = abs(error) / out.spreads[quantity]
                    scores.append((score, out.observation.place))
            self._known[quantity] = sorted(scores)
        return self._known[quantity]

    def factor_without(self, quantity: str, without: Place | None) -> float:
        """Half width of the 95 % band of a logarithm, per standard deviation of the surface.

        The 95 % quantile, as for a small sample, of the held-out errors: locally weighted
        conformal prediction.
        """
        scores = [score for score, place in self._scores(quantity) if place != without]
        if len(scores) < FEW:
            return 3.0
        rank = math.ceil((len(scores) + 1) * 0.95)
        # Fewer than 19: the largest that was seen is not yet the 95 % quantile.
        return max(scores[rank - 1] if rank <= len(scores) else 1.5 * scores[-1], 1.0)

    def factor(self, quantity: str) -> float:
        """As `factor_without`, of all that were left out."""
        return self.factor_without(quantity, None)
