"""What a meter of the whole machine counted, and how such meters answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lithowatt._core import reference_energy
from lithowatt.estimate import Estimate

if TYPE_CHECKING:
    from collections.abc import Sequence


class ReferenceEnergy(NamedTuple):
    """The energy of the whole machine over a window, by a meter outside of its processor.

    Attributes:
        name: Which meter, e.g. ``battery``.
        energy: J, with its 95 % band; ``None`` where it is not known.
        covers: What the meter measures, and what it does not.
        reason: Why there is no energy, ``None`` where there is.
        readings: How many readings of the meter lie in the window.
    """

    name: str
    energy: Estimate | None
    covers: str
    reason: str | None
    readings: int

    @property
    def joules(self) -> float | None:
        """J; ``None`` where it is not known."""
        return None if self.energy is None else self.energy.value


class Sensor(NamedTuple):
    """How a meter answers.

    Attributes:
        counts: It shows joules that only rise, instead of watts.
        update: A new value comes at most this often, s.
        delay: What it shows is the truth of so long ago in the mean, s.
        averaged: Values in watts are the mean of so long, s; 0 for a moment's.
        relative: How far all values may be off together, as a part of them.
        step: Values are multiples of this, W or J; 0 where that is not known.
        gap: Nothing is known of power between readings further apart than this, s.
    """

    counts: bool
    update: float
    delay: float
    averaged: float
    relative: float
    step: float
    gap: float


class Unreadable(Exception):
    """A look at a meter that failed, which may be better the next time."""


class Elsewhere(Unreadable):
    """What the meter shows now is not the machine's power, as a battery's on mains."""


def energy_of(
    sensor: Sensor, readings: Sequence[tuple[float, float]], start: float, end: float
) -> tuple[tuple[float, float, float] | None, str | None]:
    """Joules, low and high from ``start`` to ``end`` (s), or why there are none."""
    # From the window's begin on: of the seconds since 1970 less than a microsecond is left.
    times = [when - start for when, _ in readings]
    values = [value for _, value in readings]
    return reference_energy(times, values, 0.0, end - start, **sensor._asdict())
