"""Tests of differences, and sizes of effects. What is not defined is NaN."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from lithowatt import _core
from lithowatt.analysis.intervals import Sample, satterthwaite, t_quantile
from lithowatt.profiles._runs import Floats

#: More differences than these are compared with the normal distribution.
MOST_FOR_EXACT_WILCOXON = 50


class Welch(NamedTuple):
    """Welch's test of a − b.

    Attributes:
        t: The difference in standard errors.
        df: Degrees of freedom, Satterthwaite's.
        p: Two-sided.
        interval: Of the difference.
    """

    t: float
    df: float
    p: float
    interval: tuple[float, float]


def welch(a: Sample, b: Sample, confidence: float = 0.95) -> Welch:
    """Compares two means without taking their variances for equal.

    Example:
        >>> found = welch(Sample(5, 9.0, 0.5), Sample(5, 10.0, 0.5))
        >>> round(found.t, 3), round(found.df, 1), round(found.p, 4)
        (-3.162, 8.0, 0.0133)
    """
    nothing = Welch(math.nan, math.nan, math.nan, (math.nan, math.nan))
    if min(a.n, b.n) < 2:
        return nothing
    variance = a.variance_of_mean + b.variance_of_mean
    df = satterthwaite(a.variance_of_mean, a.n, b.variance_of_mean, b.n)
    if math.isnan(df):
        return nothing
    error, difference = math.sqrt(variance), a.mean - b.mean
    half = t_quantile(confidence, df) * error
    t = difference / error
    return Welch(t, df, _core.student_t_two_sided(t, df), (difference - half, difference + half))


def one_sample_t(values: Floats) -> float:
    """Two-sided p of these values having a mean of 0."""
    if len(values) < 2:
        return math.nan
    sample = Sample.of(values)
    if not sample.sd > 0:
        return math.nan
    t = sample.mean / math.sqrt(sample.variance_of_mean)
    return _core.student_t_two_sided(t, sample.n - 1)


def holm(p: Sequence[float]) -> list[float]:
    """p-values for all of a family together; NaN is no test and does not count.

    Example:
        >>> [round(one, 3) for one in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    values = np.asarray(p, dtype=np.float64)
    found = np.full(len(values), np.nan)
    tests = np.flatnonzero(~np.isnan(values))
    order = tests[np.argsort(values[tests], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    found[order] = np.minimum(np.maximum.accumulate(values[order] * factors), 1.0)
    return [float(one) for one in found]


def wilcoxon(differences: Floats) -> float:
    """Two-sided p of the signed-rank test; zeros are left aside.

    Exact up to `MOST_FOR_EXACT_WILCOXON` differences without ties or zeros, else by the normal
    distribution with ties taken into account.

    Example:
        >>> wilcoxon(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
        0.0625
    """
    some = differences[differences != 0]
    n = len(some)
    if n == 0:
        return math.nan
    if len(differences) == 1:
        return 1.0
    ranks, ties = _ranks(np.abs(some))
    positive = float(ranks[some > 0].sum())
    if n <= MOST_FOR_EXACT_WILCOXON and n == len(differences) and len(ties) == n:
        counts = _rank_sums(n)
        total = counts.sum()
        least = int(min(positive, n * (n + 1) / 2 - positive))
        return float(min(1.0, 2 * counts[: least + 1].sum() / total))
    variance = n * (n + 1) * (2 * n + 1) / 24 - float((ties**3 - ties).sum()) / 48
    if variance <= 0:
        return math.nan
    z = (positive - n * (n + 1) / 4) / math.sqrt(variance)
    return math.erfc(abs(z) / math.sqrt(2))


def mean_ranks(values: Floats) -> Floats:
    """Ranks from 1; equal values share the mean of theirs.

    Example:
        >>> mean_ranks(np.array([3.0, 1.0, 3.0])).tolist()
        [2.5, 1.0, 2.5]
    """
    return _ranks(values)[0]


def _ranks(values: Floats) -> tuple[Floats, Floats]:
    """Mean ranks from 1, and how many values share each different rank."""
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[index], counts.astype(np.float64)


def _rank_sums(n: int) -> Floats:
    """In how many ways some of the ranks 1 to n add up to each sum; exact below 2^53."""
    ways = np.zeros(n * (n + 1) // 2 + 1)
    ways[0] = 1
    for rank in range(1, n + 1):
        ways[rank:] = ways[rank:] + ways[:-rank]
    return ways


def hedges_g(a: Sample, b: Sample) -> float:
    """(a − b) in pooled standard deviations, without the bias of small samples."""
    df = a.n + b.n - 2
    if min(a.n, b.n) < 2:
        return math.nan
    pooled = math.sqrt(((a.n - 1) * (a.sd * a.sd) + (b.n - 1) * (b.sd * b.sd)) / df)
    if pooled == 0:
        return math.nan
    return (a.mean - b.mean) / pooled * _without_bias(df)


@lru_cache(maxsize=1024)
def _without_bias(df: int) -> float:
    """By how much a difference in standard deviations of small samples is too large."""
    gammas = _core.log_gamma(df / 2) - _core.log_gamma((df - 1) / 2)
    return math.exp(gammas) / math.sqrt(df / 2)


def cliffs_delta(a: Floats, b: Floats) -> float:
    """How much more often a value of a is above one of b than below, −1 to 1.

    Example:
        >>> cliffs_delta(np.array([1.0, 2.0]), np.array([2.0, 3.0]))
        -0.75
    """
    if len(a) == 0 or len(b) == 0:
        return math.nan
    b = np.sort(b)
    below = np.searchsorted(b, a, side="left").sum()
    above = len(a) * len(b) - np.searchsorted(b, a, side="right").sum()
    return float(below - above) / (len(a) * len(b))
