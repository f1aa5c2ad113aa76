"""What a test may use, and whether it kept to it."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from lithowatt._support.arguments import not_negative, shown
from lithowatt._support.text import format_number
from lithowatt.errors import MalformedValueError

#: A test may use so much more than its baseline, as a part of it.
MARGIN = 0.1

#: A test is run at most so many times.
MOST_REPEATS = 1000

WITHIN, OVER, UNSURE, UNMEASURED = "within", "over", "cannot tell", "not measured"


class Asked(NamedTuple):
    """The arguments of ``@pytest.mark.energy``.

    Attributes:
        max_joules: What the test may use, J.
        baseline: A file of JSON, or the name of a test in the session's baseline.
        margin: What it may use above its baseline, as a part of it.
        repeats: How many times it is run.
    """

    max_joules: float | None = None
    baseline: str | None = None
    margin: float = MARGIN
    repeats: int = 1


def asked(args: tuple[Any, ...], given: dict[str, Any]) -> Asked:
    """The arguments of a marker, checked.

    Raises:
        TypeError: An argument is unknown, or no number where it has to be one.
        ValueError: A number is out of range.
    """
    if args:
        names = ", ".join(f"{name}=" for name in Asked._fields)
        raise TypeError(f"takes arguments by name ({names}), not {shown(args[0])}")
    unknown = sorted(set(given) - set(Asked._fields))
    if unknown:
        raise TypeError(f"has no {unknown[0]}=; it takes {', '.join(Asked._fields)}")
    most, baseline = given.get("max_joules"), given.get("baseline")
    if most is not None:
        most = not_negative("max_joules", most)
    if baseline is not None and (not isinstance(baseline, str) or not baseline):
        raise TypeError(f"baseline must be a file or a name, not {shown(baseline)}")
    margin = not_negative("margin", given.get("margin", MARGIN))
    repeats = given.get("repeats", 1)
    if isinstance(repeats, bool) or not isinstance(repeats, int):
        raise TypeError(f"repeats must be a whole number, not {shown(repeats)}")
    if not 1 <= repeats <= MOST_REPEATS:
        raise ValueError(f"repeats must be 1 to {MOST_REPEATS}, not {repeats}")
    return Asked(most, baseline, margin, repeats)


class Energy(NamedTuple):
    """The energy of a test, from one or several runs.

    Attributes:
        joules: Of one run, the mean of several, J.
        low: Lower end of the 95 % band, J.
        high: Upper end of the 95 % band, J.
        runs: Each run's joules.
    """

    joules: float
    low: float
    high: float
    runs: tuple[float, ...]


def together(runs: list[tuple[float, float, float]]) -> Energy:
    """The mean of runs of one test.

    The error of a meter is mostly common to all runs and does not average out: it is the mean of
    their bands. The scatter between runs (Student's t interval of the mean) is independent of it,
    so that both are added as squares.

    Args:
        runs: Joules, and the two ends of their band.

    Example:
        >>> together([(2.0, 1.0, 4.0)])
        Energy(joules=2.0, low=1.0, high=4.0, runs=(2.0,))
        >>> together([(2.0, 1.0, 4.0), (2.0, 1.0, 4.0)]).high
        4.0
    """
    n = len(runs)
    mean, low, high = (math.fsum(run[part] for run in runs) / n for part in range(3))
    joules = tuple(run[0] for run in runs)
    scatter = _half_width(joules) if n > 1 else 0.0
    return Energy(
        mean,
        max(0.0, mean - math.hypot(mean - low, scatter)),
        mean + math.hypot(high - mean, scatter),
        joules,
    )


def _half_width(values: tuple[float, ...]) -> float:
    import numpy as np

    from lithowatt.analysis.intervals import Sample, t_interval

    low, high = t_interval(Sample.of(np.asarray(values)))
    return (high - low) / 2


class Verdict(NamedTuple):
    """How a test stands to a budget.

    Attributes:
        kind: ``max_joules`` or ``baseline``.
        verdict: ``within``, ``over``, ``cannot tell`` or ``not measured``.
        text: A sentence with the numbers.
        budget_j: The budget, J; of a baseline with its margin.
        baseline_j: The baseline, J; ``None`` for ``max_joules``.
        margin: Of a baseline.
        ratio: To the baseline, ``None`` for ``max_joules`` and where the baseline is 0 J.
        ratio_low: Lower end of its interval, ``None`` where there is no ratio.
        ratio_high: Upper end of its interval, ``None`` where there is no limit.
        basis: What decided: ``band``, the meter's; ``runs``, the scatter between runs.
    """

    kind: str
    verdict: str
    text: str
    budget_j: float | None = None
    baseline_j: float | None = None
    margin: float | None = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    basis: str | None = None


def _placed(low: float, high: float, most: float) -> str:
    """Where an interval lies to what is allowed."""
    return OVER if low > most else WITHIN if high <= most else UNSURE


def by_maximum(energy: Energy, most: float) -> Verdict:
    """Over only where all of the band is above the budget, within only where none of it is.

    Example:
        >>> [by_maximum(Energy(2.0, 1.0, 4.0, (2.0,)), most).verdict for most in (0.5, 2.5, 4.0)]
        ['over', 'cannot tell', 'within']
    """
    placed = _placed(energy.low, energy.high, most)
    text = f"{_shown(energy)}; budget {format_number(most)} J: {_MEANING[placed]}"
    return Verdict("max_joules", placed, text, most, basis="band")


_MEANING = {
    OVER: "all of its band is above",
    WITHIN: "all of its band is below",
    UNSURE: "the budget lies inside the band, so nothing can be said",
}


def by_baseline(energy: Energy, before: Energy, margin: float, alike: str | None) -> Verdict:
    """Compares with a baseline.

    Two runs or more on both sides, metered in the same way, are compared by their scatter: the
    error of the meter is in both alike, and is no part of their ratio. Anything else is compared
    by the meter's bands.

    Args:
        energy: Of the test.
        before: Of the baseline.
        margin: What it may use above its baseline, as a part of it.
        alike: Why the two were metered differently, ``None`` where they were not.

    Example:
        >>> now, before = Energy(2.0, 1.9, 2.1, (2.0,)), Energy(1.0, 0.9, 1.1, (1.0,))
        >>> by_baseline(now, before, 0.1, None).verdict
        'over'
    """
    most = before.joules * (1 + margin)
    if before.high == 0:
        placed = _placed(energy.low, energy.high, most)
        text = f"{_shown(energy)}; baseline {_shown(before)}, to which there is no ratio: "
        text += {OVER: "surely more", WITHIN: "not more", UNSURE: "nothing can be said"}[placed]
        return Verdict("baseline", placed, text, most, before.joules, margin, basis="band")
    ratio = energy.joules / before.joules if before.joules > 0 else None
    limits = None
    if alike is None and min(len(energy.runs), len(before.runs)) > 1:
        limits = _ratio_of_runs(energy.runs, before.runs)
    basis = "band" if limits is None else "runs"
    if limits is None:
        upper_end = energy.high / before.low if before.low > 0 else math.inf
        limits = (energy.low / before.high, upper_end)
    placed = _placed(*limits, 1 + margin)
    words = {
        OVER: f"surely more than {margin:.0%} above",
        WITHIN: f"not more than {margin:.0%} above",
        UNSURE: "nothing can be said",
    }
    many = "" if ratio is None else f"{format_number(ratio)} times "
    upper = "no limit" if math.isinf(limits[1]) else format_number(limits[1])
    by = {
        "runs": f"by {len(energy.runs)} and {len(before.runs)} runs",
        "band": "by the meter's bands" + (f": {alike}" if alike else ""),
    }[basis]
    text = (
        f"{_shown(energy)}; baseline {_shown(before)}: {many}"
        f"[{format_number(limits[0])} .. {upper}] {by}; {words[placed]}"
    )
    return Verdict(
        "baseline",
        placed,
        text,
        most,
        before.joules,
        margin,
        ratio,
        limits[0],
        None if math.isinf(limits[1]) else limits[1],
        basis,
    )


def _ratio_of_runs(now: tuple[float, ...], before: tuple[float, ...]) -> tuple[float, float] | None:
    import numpy as np

    from lithowatt.analysis.intervals import Sample, ratio_interval

    found = ratio_interval(Sample.of(np.asarray(now)), Sample.of(np.asarray(before)))
    return None if any(map(math.isnan, found)) else found


def unmeasured(kind: str, reason: str) -> Verdict:
    """Of a budget that nothing can be said about."""
    return Verdict(kind, UNMEASURED, text=f"not measured: {reason}")


def _shown(energy: Energy) -> str:
    ends = f"[{format_number(energy.low)} .. {format_number(energy.high)}]"
    many = f", mean of {len(energy.runs)} runs" if len(energy.runs) > 1 else ""
    return f"{format_number(energy.joules)} J {ends}{many}"


#: The largest file that is read as a baseline, bytes.
_LARGEST = 256 << 20

SCHEMA, VERSION = "lithowatt-pytest", 1


class Before(NamedTuple):
    """One test of a baseline.

    Attributes:
        energy: What it used.
        way: How it was metered: method, definition, processor.
    """

    energy: Energy
    way: tuple[str | None, ...]


def read_baseline(path: str) -> dict[str, Before]:
    """The tests with joules of a file of ``--lithowatt-json`` or ``--lithowatt-save-baseline``.

    Raises:
        OSError: It cannot be read.
        MalformedValueError: It is no such file.
    """
    import json

    from lithowatt._support.files import read_plain

    try:
        data = json.loads(read_plain(path, _LARGEST))
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            raise ValueError(f'it has no "schema": "{SCHEMA}"')
        if data.get("version") != VERSION:
            raise ValueError(f"its version is {shown(data.get('version'))}, not {VERSION}")
        processor = (data.get("machine") or {}).get("processor")
        return {
            str(one["nodeid"]): Before(_checked(one), (one["method"], one["definition"], processor))
            for one in data["tests"]
            if one["energy_j"] is not None
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = f"a test lacks {error}" if isinstance(error, KeyError) else str(error)
        raise MalformedValueError(f"{path} is no baseline of lithowatt: {why}") from None


def _checked(one: dict[str, Any]) -> Energy:
    joules, low, high = (not_negative(key, one[key]) for key in ("energy_j", "low_j", "high_j"))
    if not low <= joules <= high:
        raise ValueError(f"low_j <= energy_j <= high_j does not hold for {shown(one['nodeid'])}")
    runs = tuple(not_negative("runs_j", run) for run in one["runs_j"])
    return Energy(joules, low, high, runs)


def different(now: tuple[str | None, ...], before: tuple[str | None, ...]) -> str | None:
    """Why two tests were not metered alike, ``None`` where they were."""
    for name, one, other in zip(("method", "definition", "processor"), now, before, strict=True):
        if one != other:
            return f"another {name}, {other or 'unknown'}"
    return None
