"""The data files of the package, and numbers with a band: what `cost` and `carbon` share.

Nothing is read before it is asked for.
"""

from __future__ import annotations

import math

from lithowatt._reading import Estimate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


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


def rows(name: str) -> tuple[list[dict[str, str]], dict[str, str]]:
    """The rows of a data file, and its sources by their short names.

    A comment of the form ``#   word: text`` defines a source.
    """
    import csv

    sources: dict[str, str] = {}
    lines: list[str] = []
    with path(name).open(encoding="utf-8", newline="") as file:
        for line in file:
            if not line.startswith("#"):
                lines.append(line)
                continue
            key, colon, text = line[1:].strip().partition(": ")
            if line.startswith("#   ") and colon and " " not in key:
                sources[key] = text
    return list(csv.DictReader(lines)), sources


def path(name: str) -> Path:
    """Where a data file of the package lies."""
    from pathlib import Path

    return Path(__file__).with_name("data") / name


def closest(given: object, known: Iterable[str], most: int = 3) -> str:
    """The names that are most like what was given, and how many there are in all.

    Example:
        >>> closest("us-eats-1", ["eu-west-1", "us-east-1", "us-east-2"], 2)
        'closest are us-east-1, us-east-2, of 3'
    """
    from difflib import get_close_matches

    names = sorted(known)
    like = get_close_matches(str(given)[:80].lower(), [name.lower() for name in names], most, 0.4)
    found = [name for name in names if name.lower() in like] or names[:most]
    return f"closest are {', '.join(found)}, of {len(names)}"
