"""How times follow the number of workers: what is divided first, then how well it is.

Where the workers divide one piece of work (strong scaling), Amdahl's law and the Universal
Scalability Law describe the time. Where each worker does the whole work again (weak scaling) they
do not, and only a unit of work can be compared. Which of the two it is CPU seconds tell: their sum
stays, or grows with the workers.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from lithowatt.analysis._envelope import envelope
from lithowatt.analysis.intervals import t_quantile
from lithowatt.analysis.platforms import AwsLambda
from lithowatt.analysis.selection import Selected, Selection, Settings
from lithowatt.analysis.warnings import BY_PROCESSOR, data_warnings, drifting, mixed_hardware
from lithowatt.profiles._runs import Floats, Profiles

#: CPU seconds grow as workers to the power of less: one piece of work is divided; of more: each
#: worker has a piece of its own.
STRONG, WEAK = 0.25, 0.75

#: From here on a twice as large number of workers saves less than 30 % of the time (2^-0.5).
DIMINISHING = 0.5

QUANTITIES = ("compute_s", "time_s")

#: What is given for each unit of work.
PER_UNIT = ("time_s", "cpu_seconds_s", "cost_usd", "energy_j")


@np.errstate(all="ignore")  # what is not finite is told as null
def scaling(
    profiles: Profiles,
    settings: Settings | None = None,
    *,
    work_per_run: float | str | None = None,
) -> dict[str, Any]:
    """The result of `lithowatt profile scaling`.

    Args:
        profiles: What was read.
        settings: What counts, and where it ran.
        work_per_run: Units of work of a run, or `worker`: one for each worker that ran. `None`:
            nothing is given for a unit of work.
    """
    selection = Selection(profiles, settings)
    series = _series(selection.all)
    return {
        **envelope(
            "scaling",
            profiles,
            {**selection.settings.as_json(), "work_per_run": work_per_run},
            [
                *data_warnings(selection, energy=work_per_run is not None),
                *drifting(selection),
                *mixed_hardware(selection, BY_PROCESSOR),
            ],
        ),
        "scaling": [one.row(quantity) for one in series for quantity in QUANTITIES],
        "per_unit": []
        if work_per_run is None
        else [
            row
            for one in series
            for selected in one.members
            if (row := _per_unit(selected, work_per_run, selection.settings)) is not None
        ],
    }


# --- what is divided ----------------------------------------------------------


class Exponent(NamedTuple):
    """CPU seconds grow as workers to this power.

    Attributes:
        value: Slope of the logarithms.
        low: Lower end of its 95 % interval, NaN of two points.
        high: Upper end.
    """

    value: float
    low: float
    high: float


def exponent_of(
    workers: Sequence[float], cpu_seconds: Sequence[float], confidence: float = 0.95
) -> Exponent | None:
    """The slope of ln CPU seconds on ln workers; `None` of fewer than two numbers of workers.

    Example:
        >>> round(exponent_of([1, 2, 4], [10.0, 20.0, 40.0]).value, 9)
        1.0
    """
    x, y = np.log(np.array(workers, dtype=np.float64)), np.log(np.array(cpu_seconds))
    spread = x - x.mean() if len(x) else x
    square = float(spread @ spread)
    if len(set(workers)) < 2:
        return None
    slope = float(spread @ y) / square
    rest = y - y.mean() - slope * spread
    df = len(x) - 2
    error = math.sqrt(float(rest @ rest) / df / square) if df > 0 else math.nan
    half = t_quantile(confidence, df) * error
    return Exponent(slope, slope - half, slope + half)


def kind_of(exponent: Exponent | None) -> str | None:
    """`strong`, `weak`, or `mixed` between them; `None` where nothing tells."""
    if exponent is None:
        return None
    if exponent.value < STRONG:
        return "strong"
    return "weak" if exponent.value > WEAK else "mixed"


# --- laws ---------------------------------------------------------------------


class Fit(NamedTuple):
    """T(w) = A + B / w + C · w.

    Attributes:
        a: s that no number of workers changes.
        b: s that the workers divide.
        c: s that each worker adds; 0 of Amdahl's law.
        rms: Root mean square of the relative errors.
    """

    a: float
    b: float
    c: float
    rms: float

    def __call__(self, workers: Floats) -> Floats:
        """Seconds with so many workers."""
        return np.asarray(self.a + self.b / workers + self.c * workers)

    @property
    def alone(self) -> float:
        """Seconds with one worker."""
        return self.a + self.b + self.c


def fit_law(workers: Floats, seconds: Floats, *, crosstalk: bool) -> Fit | None:
    """The law with the least sum of squares of relative errors.

    That is linear in A, B and C: the rows of the system are divided by the seconds.

    Args:
        workers: Different numbers of workers.
        seconds: With each of them, above 0.
        crosstalk: Whether C is fitted, too: the Universal Scalability Law, else Amdahl's.

    Returns:
        `None` with fewer points than parameters, and of seconds that no run takes.
    """
    terms = [np.ones_like(workers), 1 / workers, *([workers] if crosstalk else [])]
    if len(workers) < len(terms):
        return None
    # Columns of one size, so that none is lost beside another.
    scales = [float(np.linalg.norm(term / seconds)) for term in terms]
    if not all(0 < scale < math.inf for scale in scales):
        return None  # seconds beyond what squares of floats can hold
    system = np.stack(
        [term / seconds / scale for term, scale in zip(terms, scales, strict=True)], axis=1
    )
    found, *_ = np.linalg.lstsq(system, np.ones_like(seconds), rcond=None)
    a, b, *rest = (float(one / scale) for one, scale in zip(found, scales, strict=True))
    fit = Fit(a, b, rest[0] if rest else 0.0, 0.0)
    errors = fit(workers) / seconds - 1
    return fit._replace(rms=float(np.sqrt(np.mean(errors * errors))))


def fastest_workers(usl: Fit) -> float | None:
    """With how many workers the time is least, not rounded; `None` where it has no least."""
    return math.sqrt(usl.b / usl.c) if usl.b > 0 and usl.c > 0 else None


def diminishing_workers(usl: Fit, least: int, most: int) -> int | None:
    """The first number of workers, of those profiled, from which on more of them save little."""
    workers = np.arange(least, most + 1, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        elasticity = (usl.b / workers - usl.c * workers) / usl(workers)
    below = np.flatnonzero(elasticity < DIMINISHING)
    return least + int(below[0]) if len(below) else None


# --- rows ---------------------------------------------------------------------


class _Series:
    """The configurations of a file that differ in the number of workers alone."""

    def __init__(self, members: Sequence[Selected], confidence: float = 0.95) -> None:
        self.members = members
        widths = {width for one in members for width in one.workers_actual}
        self.one_worker = widths == {1}
        self.exponent = None if self.one_worker else self._exponent(confidence)
        self.kind = "one-worker" if self.one_worker else kind_of(self.exponent)

    def _exponent(self, confidence: float) -> Exponent | None:
        points = [
            (one.runs.configuration.workers, float(sample.mean()))
            for one in self.members
            if len(sample := one.sample("cpu_seconds_s")) and sample.mean() > 0
        ]
        return exponent_of([w for w, _ in points], [s for _, s in points], confidence)

    def row(self, quantity: str) -> dict[str, Any]:
        """What the series says of one quantity."""
        first = self.members[0]
        points = [] if self.one_worker else self._points(quantity)
        amdahl, usl = self._fits(points)
        ends = None if self.exponent is None else [self.exponent.low, self.exponent.high]
        workers = [point["workers"] for point in points]
        return {
            "file": first.file.name,
            "workload": first.file.workload,
            "stage": first.file.stage,
            "architecture": first.architecture,
            "memory_mb": first.runs.configuration.memory_mb,
            "cpu": first.runs.configuration.cpu,
            "quantity": quantity,
            "kind": self.kind,
            "exponent": None
            if self.exponent is None or ends is None
            else {
                "value": self.exponent.value,
                "ci": ends if all(map(math.isfinite, ends)) else None,
            },
            "points": points,
            "amdahl": None
            if amdahl is None
            else {
                "t1_s": amdahl.alone,
                "a_s": amdahl.a,
                "b_s": amdahl.b,
                "serial_fraction": _part(amdahl.a, amdahl),
                "rms_relative_error": amdahl.rms,
            },
            "usl": None
            if usl is None
            else {
                "t1_s": usl.alone,
                "a_s": usl.a,
                "b_s": usl.b,
                "c_s": usl.c,
                "sigma": _part(usl.a + usl.c, usl),
                "kappa": _part(usl.c, usl),
                "rms_relative_error": usl.rms,
            },
            "fastest_workers": None if usl is None else fastest_workers(usl),
            "diminishing_workers": None
            if usl is None
            else diminishing_workers(usl, min(workers), max(workers)),
            "reason": self._reason(points),
        }

    def _points(self, quantity: str) -> list[dict[str, Any]]:
        found = [
            (one.runs.configuration.workers, len(sample), float(sample.mean()))
            for one in self.members
            if len(sample := one.sample(quantity))
        ]
        if not found:
            return []
        least, _, slowest = found[0]
        return [
            {
                "workers": workers,
                "n": n,
                "mean": mean,
                "speedup": slowest / mean if mean > 0 else None,
                "efficiency": slowest / mean * least / workers if mean > 0 else None,
            }
            for workers, n, mean in found
        ]

    def _fits(self, points: Sequence[dict[str, Any]]) -> tuple[Fit | None, Fit | None]:
        if self.kind != "strong" or not points or any(point["mean"] <= 0 for point in points):
            return None, None
        workers = np.array([point["workers"] for point in points], dtype=np.float64)
        seconds = np.array([point["mean"] for point in points])
        return (
            fit_law(workers, seconds, crosstalk=False),
            fit_law(workers, seconds, crosstalk=True),
        )

    def _reason(self, points: Sequence[dict[str, Any]]) -> str | None:
        """Why something is null."""
        if self.kind == "one-worker":
            return "every repetition ran one worker, whatever was asked for"
        if self.kind is None:
            if len(self.members) < 2:
                return "there is one number of workers only"
            return "there are no CPU seconds of two numbers of workers"
        if self.kind != "strong":
            return "the work grows with the workers: these laws are about work that is divided"
        if len(points) < 3:
            return f"{len(points)} numbers of workers are too few for the laws"
        return None


def _part(seconds: float, fit: Fit) -> float | None:
    """A part of the time with one worker."""
    return seconds / fit.alone if fit.alone else None


def _series(some: Iterable[Selected]) -> list[_Series]:
    groups: defaultdict[Any, list[Selected]] = defaultdict(list)
    for one in some:
        configuration = one.runs.configuration
        size = configuration.cpu, configuration.memory_mb
        groups[one.file.name, one.file.stage, size, one.architecture].append(one)
    return [_Series(members) for members in groups.values()]


# --- a unit of work -----------------------------------------------------------


def _per_unit(
    selected: Selected, work_per_run: float | str, settings: Settings
) -> dict[str, Any] | None:
    """What a unit of work takes in one configuration; `None` where nothing counts."""
    if not selected.used.any():
        return None
    units = (
        selected.runs.widths.astype(np.float64)
        if work_per_run == "worker"
        else np.full(selected.runs.repetitions, float(work_per_run))
    )
    found: dict[str, float | None] = {}
    for name in PER_UNIT:
        with np.errstate(invalid="ignore", divide="ignore"):
            values = (selected.values(name) / units)[selected.used]
        values = np.sort(values[np.isfinite(values)])
        found[name] = float(values.mean()) if len(values) else None
    configuration = selected.runs.configuration
    return {
        "file": selected.file.name,
        "workload": selected.file.workload,
        "stage": selected.file.stage,
        "architecture": selected.architecture,
        "memory_mb": configuration.memory_mb,
        "cpu": configuration.cpu,
        "workers": configuration.workers,
        "units": float(units[selected.used].mean()),
        **found,
        "energy_quality": selected.energy_quality(),
        "carbon_g": _grams(selected, found["energy_j"], settings),
    }


def _grams(selected: Selected, joules: float | None, settings: Settings) -> float | None:
    """CO2e of the joules, by the grid of the region; `None` where the region is not known."""
    if joules is None or not isinstance(selected.place.platform, AwsLambda):
        return None
    from lithowatt.carbon import emissions

    return float(emissions(joules, region=settings.region).value)
