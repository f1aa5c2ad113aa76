"""Which candidates keep bounds, which cannot be told from the best, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from lithowatt import _core
from lithowatt.analysis._candidates import Candidate
from lithowatt.analysis.intervals import satterthwaite
from lithowatt.analysis.significance import welch
from lithowatt.profiles._runs import Floats

#: Means that differ so rarely by chance alone are told apart.
TOLD_APART_P = 0.05

#: Of the runs of each candidate, for the probability that it is the best.
RESAMPLES = 10_000

#: Standard errors from its value that no mean of a prediction is.
_NEVER = 8.0

#: Resamples that are drawn together.
_TOGETHER = 1_000_000


def keeps(candidate: Candidate, quantity: str, bound: float) -> float:
    """Probability that the mean of a quantity is no more than a bound.

    By Student's t over the runs; of a predicted one, by the band of its logarithm.
    """
    values = candidate.values(quantity)
    if len(values) == 0:
        value = value_of(candidate, quantity)
        if not math.isfinite(value):
            return 0.0
        error = candidate.log_error(quantity)
        if value <= 0 or error <= 0:
            return float(value <= bound)
        return _normal(math.log(bound / value) / error)
    sample, df = candidate.sample(quantity)
    error = math.sqrt(sample.variance_of_mean)
    if not error > 0:
        return float(sample.mean <= bound)
    t = (bound - sample.mean) / error
    tail = (_core.student_t_two_sided(t, df) if math.isfinite(df) else _two_sided(t)) / 2
    return 1 - tail if t >= 0 else tail


def value_of(candidate: Candidate, quantity: str) -> float:
    """Its mean of a quantity; infinite where there is none."""
    band = getattr(candidate.prediction, quantity)
    return math.inf if band is None else float(band.value)


def p_equal(a: Candidate, b: Candidate, objective: str) -> float:
    """Two-sided p of two candidates having one mean: Welch's test over their runs.

    Where one is predicted, the normal distribution of the difference of logarithms.
    """
    if len(a.values(objective)) == 0 or len(b.values(objective)) == 0:
        low, high = value_of(a, objective), value_of(b, objective)
        if not (low > 0 and high > 0 and math.isfinite(high)):
            return float(low == high)
        error = math.hypot(*(_log_error(one, objective) for one in (a, b)))
        difference = math.log(low / high)
        return _two_sided(difference / error) if error > 0 else float(difference == 0)
    (one, df_one), (other, df_other) = a.sample(objective), b.sample(objective)
    if min(one.n, other.n) > 1 and math.isfinite(p := welch(one, other).p):
        return p
    variances = one.variance_of_mean, other.variance_of_mean
    error = math.sqrt(sum(variances))
    difference = one.mean - other.mean
    # Values that are all the same differ or do not; a spread of rounding is none.
    if error <= 1e-12 * abs(one.mean):
        return float(abs(difference) <= 1e-9 * abs(one.mean))
    if math.isinf(df_one) or math.isinf(df_other):
        return _two_sided(difference / error)
    # Satterthwaite's by the runs of each, or by those that a single run's scatter is known from.
    df = satterthwaite(variances[0], round(df_one) + 1, variances[1], round(df_other) + 1)
    return _core.student_t_two_sided(difference / error, df)


def _log_error(candidate: Candidate, objective: str) -> float:
    if len(candidate.values(objective)) == 0:
        return candidate.log_error(objective)
    sample, _ = candidate.sample(objective)
    return math.sqrt(sample.relative_variance)


def best_probabilities(
    candidates: Sequence[Candidate], objective: str, seed: int, resamples: int = RESAMPLES
) -> list[float]:
    """How often each is the best when the runs of all are drawn again.

    Runs are drawn with replacement, within their session where that is known. A single run, which
    would always be itself, is drawn with the scatter of the others; a prediction within its band.
    Where no run of one is as good as the worst of another, it is never the best, and not drawn.
    """
    least, most = [], []
    for one in candidates:
        values = one.values(objective)
        if len(values) > 1:
            low, high = float(values.min()), float(values.max())
        elif len(values) == 1:
            low, high = -math.inf, math.inf
        else:
            far = math.exp(_NEVER * one.log_error(objective))
            low, high = (value_of(one, objective) * by for by in (1 / far, far))
        least.append(low)
        most.append(high)
    limit = min(most, default=math.inf)
    place = [at for at, low in enumerate(least) if low <= limit]
    found = [0.0] * len(candidates)
    if not place:
        return found
    best = np.full(resamples, np.inf)
    who = np.zeros(resamples, dtype=np.int64)
    for at in place:
        means = _drawn(candidates[at], objective, seed, resamples)
        better = means < best
        best[better], who[better] = means[better], at
    for at, count in zip(*np.unique(who, return_counts=True), strict=True):
        found[int(at)] = float(count) / resamples
    return found


def _drawn(candidate: Candidate, objective: str, seed: int, resamples: int) -> Floats:
    """Means of resamples; of one candidate always the same, whatever the others are."""
    workers, memory, architecture = candidate.place
    random = np.random.Generator(
        np.random.PCG64([seed, workers, round(memory * 1000), int(architecture == "arm64")])
    )
    values = candidate.values(objective)
    if len(values) == 0:
        value, error = value_of(candidate, objective), candidate.log_error(objective)
        if not math.isfinite(value):
            return np.full(resamples, np.inf)
        return np.asarray(value * np.exp(error * random.standard_normal(resamples)))
    sample, _ = candidate.sample(objective)
    if len(values) == 1:
        return np.asarray(sample.mean + sample.sd * random.standard_normal(resamples))
    session = candidate.session(objective)
    strata = [values] if (session < 0).any() else [values[session == s] for s in np.unique(session)]
    sums = np.zeros(resamples)
    for stratum in strata:
        stratum = np.sort(stratum)
        step = max(_TOGETHER // len(stratum), 1)
        for start in range(0, resamples, step):
            count = min(step, resamples - start)
            chosen = (random.random((count, len(stratum))) * len(stratum)).astype(np.int64)
            sums[start : start + count] += stratum[chosen].sum(axis=1)
    return np.asarray(sums / len(values))


def violation(candidate: Candidate, bounds: Mapping[str, float]) -> float:
    """By how much the mean misses the worst bound: log of value over bound; 0 or less: kept."""
    worst = -math.inf
    for quantity, bound in bounds.items():
        value = value_of(candidate, quantity)
        worst = max(worst, math.log(value / bound) if value > 0 else -math.inf)
    return worst if bounds else 0.0


def _normal(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2))


def _two_sided(z: float) -> float:
    return math.erfc(abs(z) / math.sqrt(2))
