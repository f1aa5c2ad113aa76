"""``Estimate``: a value with its 95 % band, and arithmetic that keeps the band."""

from __future__ import annotations

import math
from collections import namedtuple

__all__ = ["Estimate"]

TYPE_CHECKING = False  # typing would be half of what importing EnergyMeter costs
if TYPE_CHECKING:
    from typing import NamedTuple

    class _Estimate(NamedTuple):
        value: float
        low: float
        high: float
        source: str

else:
    _Estimate = namedtuple("Estimate", "value low high source")


class Estimate(_Estimate):
    """A value with its 95 % band.

    Attributes:
        value: Best estimate, in the unit that its owner names.
        low: Lower end of the 95 % band, same unit.
        high: Upper end of the 95 % band, same unit.
        source: How it was obtained.
    """

    __slots__ = ()


def number(value: object) -> float | None:
    """A finite float of any real number, NumPy's included; ``None`` for anything else."""
    if isinstance(value, (bool, str, bytes)):
        return None
    try:
        found = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def estimate(value: object, what: str, least: float = 0.0) -> Estimate:
    """An `Estimate` of a number or of an `Estimate`.

    A plain number has a band of no width: it is taken as given.

    Args:
        value: A finite number, or an `Estimate` with low ≤ value ≤ high.
        what: How an error names it, e.g. ``joules``.
        least: The smallest that is accepted.

    Raises:
        ValueError: Naming the value and what is accepted.
    """
    if isinstance(value, Estimate):
        parts = [number(part) for part in value[:3]]
        middle, low, high = parts
        if (
            middle is not None
            and low is not None
            and high is not None
            and least <= low <= middle <= high
        ):
            return Estimate(middle, low, high, value.source)
        raise ValueError(
            f"{what}: {tuple(value[:3])!r:.80} is no estimate: it takes numbers with "
            f"{least:g} <= low <= value <= high"
        )
    found = number(value)
    if found is None or found < least:
        raise ValueError(
            f"{what} {value!r:.80} is not a number, {least:g} or more, nor an Estimate"
        )
    return Estimate(found, found, found, "as given")


def product(source: str, *factors: Estimate, divisor: float = 1.0) -> Estimate:
    """All factors multiplied, by ``divisor``; of a band, low with low and high with high."""
    value = low = high = 1.0
    for factor in factors:
        value *= factor.value
        low *= factor.low
        high *= factor.high
    return Estimate(value / divisor, low / divisor, high / divisor, source)
