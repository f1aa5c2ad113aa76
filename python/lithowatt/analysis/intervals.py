"""Intervals of a mean, and of the ratio of two means.

Samples come as matrices, one a row, so that many of them cost little more than one. A limit that
does not exist (one value, no spread, a mean of 0) is NaN.

Of 95 % intervals of a mean that are made of few values, Student's t and the bootstrap-t cover 94 to
96 %. The percentile bootstrap and BCa cover 84 % at five values, so neither is here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from lithowatt import _core
from lithowatt.profiles._runs import Floats

#: With fewer values a resample is too often a single value, repeated.
LEAST_FOR_BOOTSTRAP = 5

#: Samples that are resampled together: so many fit into the processor's cache.
_TOGETHER = 8

#: Scaled values are rounded to multiples of this. Sums of them are then exact, so that an interval
#: is the same to the last bit whatever it is computed together with, and on every machine.
_GRID = 2.0**-30

#: Multiplications up to which OpenBLAS does not start threads, which cost more here than they save.
_ONE_THREAD = 262_144


class Sample(NamedTuple):
    """What intervals and tests need to know of some values.

    Attributes:
        n: How many there are.
        mean: Arithmetic.
        sd: With n − 1; NaN of one value.
    """

    n: int
    mean: float
    sd: float

    @classmethod
    def of(cls, values: Floats) -> Sample:
        """Of these values, whose order does not matter."""
        n = len(values)
        values = np.sort(values)
        return cls(
            n,
            float(values.mean()) if n else math.nan,
            float(values.std(ddof=1)) if n > 1 else math.nan,
        )

    @property
    def relative_variance(self) -> float:
        """Squared relative standard error of the mean: sd² / (n · mean²)."""
        if self.n == 0 or self.mean == 0:
            return math.nan
        relative = self.sd / self.mean  # first: a square of a very small mean is 0
        return relative * relative / self.n

    @property
    def variance_of_mean(self) -> float:
        """Squared standard error of the mean: sd² / n."""
        return self.sd * self.sd / self.n if self.n else math.nan


@lru_cache(maxsize=4096)
def t_quantile(confidence: float, df: float) -> float:
    """What Student's t stays within on both sides; NaN without degrees of freedom."""
    if not df > 0:
        return math.nan
    return _core.student_t_quantile(0.5 + confidence / 2, df)


def t_interval(sample: Sample, confidence: float = 0.95) -> tuple[float, float]:
    """Student's t interval of a mean.

    Example:
        >>> low, high = t_interval(Sample(5, 10.0, 1.0))
        >>> round(low, 3), round(high, 3)
        (8.758, 11.242)
    """
    half = t_quantile(confidence, sample.n - 1) * math.sqrt(sample.variance_of_mean)
    return sample.mean - half, sample.mean + half


def quantity_interval(values: Floats, confidence: float = 0.95) -> tuple[float, float]:
    """Student's t interval of a mean of seconds, joules, dollars or parts: not below 0.

    Example:
        >>> low, high = quantity_interval(np.array([1.0, 3.0]))
        >>> low, round(high, 1)
        (0.0, 14.7)
    """
    low, high = t_interval(Sample.of(values), confidence)
    return (float(not_below_zero(low, np.min(values))) if len(values) else low), high


def not_below_zero(low: Floats | float, least: Floats | float) -> Floats:
    """Lower ends of intervals of means of quantities that cannot be below 0, cut at 0.

    No mean is in what is cut off, so that the rest holds it as often. Where a value is below 0 all
    the same (a cold start by two clocks), the quantity can be. A lower end that no number shows
    stays so.

    Args:
        low: The lower ends.
        least: The least value of each sample.
    """
    cut = (np.asarray(least) >= 0) & np.isfinite(low)
    return np.where(cut, np.maximum(low, 0.0), low)


def ratio_interval(a: Sample, b: Sample, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of mean(a) / mean(b): the delta method on the logarithm, Satterthwaite's df.

    Example:
        >>> low, high = ratio_interval(Sample(5, 9.0, 0.5), Sample(5, 10.0, 0.5))
        >>> round(low, 3), round(high, 3)
        (0.833, 0.972)
    """
    if min(a.n, b.n) < 2 or not (a.mean > 0 and b.mean > 0):
        return math.nan, math.nan
    e_a, e_b = a.relative_variance, b.relative_variance
    df = satterthwaite(e_a, a.n, e_b, b.n)
    half = t_quantile(confidence, df) * math.sqrt(e_a + e_b)
    log = math.log(a.mean / b.mean)
    return exponential(log - half), exponential(log + half)


def mean_ratio_interval(
    pairs: Sequence[tuple[Sample, Sample]], confidence: float = 0.95
) -> tuple[float, float]:
    """Interval of the geometric mean of mean(a) / mean(b) of these very pairs.

    As `ratio_interval`, to which it is equal for one pair: what scatters are the values of each
    pair, and not the pairs. It says nothing of pairs like these.

    Example:
        >>> one = (Sample(5, 9.0, 0.5), Sample(5, 10.0, 0.5))
        >>> low, high = mean_ratio_interval([one, one])
        >>> round(low, 3), round(high, 3)
        (0.856, 0.946)
    """
    good = all(min(a.n, b.n) >= 2 and a.mean > 0 and b.mean > 0 for a, b in pairs)
    if not pairs or not good:
        return math.nan, math.nan
    parts = [(one.relative_variance, one.n) for pair in pairs for one in pair]
    total = math.fsum(variance for variance, _ in parts)
    if not total > 0:
        return math.nan, math.nan
    df = 1 / math.fsum((variance / total) ** 2 / (n - 1) for variance, n in parts)
    half = t_quantile(confidence, df) * math.sqrt(total) / len(pairs)
    log = math.fsum(math.log(a.mean / b.mean) for a, b in pairs) / len(pairs)
    return exponential(log - half), exponential(log + half)


def exponential(x: float) -> float:
    """e to the power of x; infinity where no number is so large."""
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def satterthwaite(variance_a: float, n_a: int, variance_b: float, n_b: int) -> float:
    """Degrees of freedom of a difference of two means with these variances; NaN without spread."""
    total = variance_a + variance_b
    if not total > 0:
        return math.nan
    # Shares first: a square of a very small variance is 0.
    share_a, share_b = variance_a / total, variance_b / total
    return 1 / (share_a**2 / (n_a - 1) + share_b**2 / (n_b - 1))


def bootstrap_t(
    values: Floats, resamples: int = 9999, seed: int = 0, confidence: float = 0.95
) -> Floats:
    """Bootstrap-t intervals of the means of many samples of one size.

    Each resample's mean is measured in its own standard errors, and the quantiles of that take the
    place of Student's. They are the (B + 1) · α th of B resamples.

    Args:
        values: A sample a row. The order within a row does not matter.
        resamples: B, of each row.
        seed: The same seed, size and values give the same interval.
        confidence: Of the interval.

    Returns:
        Low and high a row; NaN with fewer than `LEAST_FOR_BOOTSTRAP` values or without spread.
    """
    found = np.full((len(values), 2), np.nan)
    n = values.shape[1]
    if n < LEAST_FOR_BOOTSTRAP or len(values) == 0:
        return found
    values = np.sort(values, axis=1)
    mean, sd = values.mean(axis=1), values.std(axis=1, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = _on_grid((values - mean[:, None]) / sd[:, None])
    # Equal values can have a spread of rounding errors.
    spread = (sd > 1e-14 * np.abs(mean)) & np.isfinite(scaled).all(axis=1)
    counts = _resampled(n, resamples, seed)
    tail = max(round((resamples + 1) * (1 - confidence) / 2), 1)
    # Many samples are others times a number: a total is the workers times their mean.
    scaled, which = np.unique(scaled[spread], axis=0, return_inverse=True)
    tails = np.full((len(scaled), 2), np.nan)
    for start in range(0, len(scaled), _TOGETHER):
        some = slice(start, start + _TOGETHER)
        tails[some, 0], tails[some, 1] = _tails(scaled[some], counts, tail)
    error = (sd / math.sqrt(n))[spread]
    found[spread, 0] = mean[spread] - tails[which.ravel(), 1] * error
    found[spread, 1] = mean[spread] - tails[which.ravel(), 0] * error
    found[~np.isfinite(found).all(axis=1)] = np.nan
    return found


@lru_cache(maxsize=64)
def _resampled(n: int, resamples: int, seed: int) -> Floats:
    """How often each resample has each of n values: a column a resample."""
    # Raw bits: of NumPy's generators only these are promised to stay as they are.
    bits = np.random.PCG64([seed, n]).random_raw(resamples * n)
    chosen = ((bits >> np.uint64(11)).astype(np.float64) * 2.0**-53 * n).astype(np.int64)
    places = chosen * resamples + np.repeat(np.arange(resamples), n)
    return np.bincount(places, minlength=n * resamples).reshape(n, resamples).astype(np.float64)


def _tails(scaled: Floats, counts: Floats, tail: int) -> tuple[Floats, Floats]:
    """The `tail`th smallest and greatest t of the resamples of samples of mean 0 and sd 1."""
    n = scaled.shape[1]
    sums = _product(scaled, counts)
    rest = _product(_on_grid(scaled * scaled), counts)
    # t² = (n − 1) · sums² / (n · squares − sums²); its sign is that of the sum.
    rest *= n
    squared = sums * sums
    rest -= squared
    # What is left of a resample of one value, repeated, is a rounding error.
    rest[rest < 2 * _GRID * n * n] = 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        squared /= rest
    squared[np.isnan(squared)] = 0.0
    np.copysign(squared, sums, out=squared)
    squared.partition(squared.shape[1] - tail, axis=1)
    high = squared[:, -tail].copy()
    low = np.partition(squared[:, : squared.shape[1] - tail], tail - 1, axis=1)[:, tail - 1]
    return _root(low, n), _root(high, n)


def _on_grid(values: Floats) -> Floats:
    return np.asarray(np.rint(values / _GRID) * _GRID)


def _root(squared: Floats, n: int) -> Floats:
    return np.asarray(np.copysign(np.sqrt(np.abs(squared) * (n - 1)), squared))


def _product(a: Floats, b: Floats) -> Floats:
    found = np.empty((a.shape[0], b.shape[1]))
    step = max(_ONE_THREAD // a.size, 1)
    for start in range(0, b.shape[1], step):
        found[:, start : start + step] = a @ b[:, start : start + step]
    return found
