"""Joules of profiled configurations: what was measured stands, whatever a fit predicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from lithowatt.analysis._observe import Observation

#: Student's t for a 95 % band, by degrees of freedom from 1.
_STUDENT = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)

#: Relative scatter that repetitions do not show: another day, another host.
_DAY = 0.01


class Measured(NamedTuple):
    """Joules of one profiled configuration.

    Attributes:
        value: Mean over the repetitions, without outliers, J.
        width: Half width of the 95 % band of its logarithm.
    """

    value: float
    width: float


def measured_joules(
    observations: Sequence[Observation],
) -> dict[tuple[float, float, str], Measured]:
    """What the profiles measured, by workers, memory and architecture."""
    by_place: dict[tuple[float, float, str], list[Observation]] = {}
    for one in observations:
        if "energy" in one.figures:
            by_place.setdefault(one.place, []).append(one)
    return {place: _together(some) for place, some in by_place.items()}


def _together(observations: Sequence[Observation]) -> Measured:
    figures = [one.figures["energy"] for one in observations]
    counts = [one.repetitions - one.outliers for one in figures]
    total = sum(counts)
    value = math.fsum(one.value * n for one, n in zip(figures, counts, strict=True)) / total
    error = math.hypot(
        *(one.value * one.error * n for one, n in zip(figures, counts, strict=True))
    ) / (total * value)
    # Of one repetition the error is a guess, not an estimate from a small sample.
    free = total - len(figures)
    student = _STUDENT[min(free, len(_STUDENT)) - 1] if free > 0 else 1.96
    return Measured(value, math.hypot(student * error, 1.96 * _DAY))
