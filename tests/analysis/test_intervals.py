"""Intervals of means and of ratios, against SciPy and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from evaluation.coverage_report import coverage
from lithowatt.analysis.intervals import (
    Sample,
    bootstrap_t,
    mean_ratio_interval,
    ratio_interval,
    t_interval,
    t_quantile,
)

#: The machine may be slow.
busy = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

values = st.lists(
    st.floats(0.001, 1000, allow_subnormal=False), min_size=2, max_size=12, unique=True
)


@pytest.mark.slow
@busy
@given(values, st.floats(0.5, 0.999))
def test_t_interval_is_that_of_scipy(some: list[float], confidence: float) -> None:
    sample = np.array(some)
    expected = scipy_stats.t.interval(
        confidence, len(some) - 1, sample.mean(), scipy_stats.sem(sample)
    )
    assert t_interval(Sample.of(sample), confidence) == pytest.approx(expected, rel=1e-8)


def test_one_value_has_no_interval() -> None:
    assert all(math.isnan(end) for end in t_interval(Sample.of(np.array([3.0]))))
    assert math.isnan(t_quantile(0.95, 0))
    assert Sample.of(np.zeros(0)).n == 0


def test_a_ratio_has_the_interval_of_a_difference_of_logarithms() -> None:
    a, b = Sample(5, 9.0, 0.3), Sample(17, 10.0, 0.2)
    e_a, e_b = 0.3**2 / (5 * 81), 0.2**2 / (17 * 100)
    df = (e_a + e_b) ** 2 / (e_a**2 / 4 + e_b**2 / 16)
    half = scipy_stats.t.ppf(0.975, df) * math.sqrt(e_a + e_b)
    expected = 0.9 * math.exp(-half), 0.9 * math.exp(half)
    assert ratio_interval(a, b) == pytest.approx(expected, rel=1e-9)
    low, high = ratio_interval(b, a)
    assert (1 / high, 1 / low) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (Sample(1, 9.0, math.nan), Sample(5, 10.0, 1.0)),
        (Sample(5, 0.0, 0.0), Sample(5, 10.0, 1.0)),
        (Sample(5, 9.0, 0.0), Sample(5, 10.0, 0.0)),
        (Sample(0, math.nan, math.nan), Sample(5, 10.0, 1.0)),
    ],
)
def test_a_ratio_without_spread_or_mean_has_no_interval(a: Sample, b: Sample) -> None:
    assert all(math.isnan(end) for end in ratio_interval(a, b))
    good = Sample(5, 9.0, 0.3), Sample(5, 10.0, 0.3)
    alone = mean_ratio_interval([(a, b)])
    assert all(math.isnan(end) for end in alone)
    # One pair without an interval leaves none to their mean, but for one that has no spread.
    among = mean_ratio_interval([good, (a, b)])
    assert all(math.isnan(end) for end in among) == (a.sd != 0 or a.mean == 0)


def test_a_mean_of_ratios_over_one_pair_is_that_pair_s() -> None:
    a, b = Sample(5, 9.0, 0.3), Sample(17, 10.0, 0.2)
    assert mean_ratio_interval([(a, b)]) == pytest.approx(ratio_interval(a, b), rel=1e-12)
    assert all(math.isnan(end) for end in mean_ratio_interval([]))


def test_the_interval_of_a_mean_of_ratios_covers_what_these_pairs_have() -> None:
    """Three pairs whose ratios differ: what is meant is their own geometric mean."""
    random = np.random.default_rng(3)
    ratios = (0.5, 0.8, 1.3)
    true = math.exp(sum(map(math.log, ratios)) / 3)
    hits = 0
    for _ in range(1000):
        pairs = [
            (
                Sample.of(random.normal(10 * ratio, ratio, 5)),
                Sample.of(random.normal(10, 1, 6)),
            )
            for ratio in ratios
        ]
        low, high = mean_ratio_interval(pairs)
        hits += low < true < high
    assert 935 <= hits <= 970


def test_bootstrap_t_is_what_its_definition_says() -> None:
    """Against a plain loop over the same resamples."""
    from lithowatt.analysis.intervals import _resampled

    sample = np.sort(np.random.default_rng(3).lognormal(0, 0.4, 7))
    counts = _resampled(7, 999, 11)
    assert (counts.sum(axis=0) == 7).all()
    ts = []
    for column in counts.T.astype(int):
        again = np.repeat(sample, column)
        difference, error = again.mean() - sample.mean(), again.std(ddof=1) / math.sqrt(7)
        ts.append(difference / error if error > 1e-12 else math.copysign(math.inf, difference))
    ts.sort()
    error = sample.std(ddof=1) / math.sqrt(7)
    expected = sample.mean() - ts[-25] * error, sample.mean() - ts[24] * error
    assert bootstrap_t(sample[None], 999, 11)[0] == pytest.approx(expected, rel=1e-7)


@settings(busy, max_examples=30)
@given(st.integers(0, 10_000), st.floats(1e-6, 1e6))
def test_bootstrap_t_depends_on_neither_order_nor_unit(seed: int, factor: float) -> None:
    random = np.random.default_rng(seed)
    sample = random.lognormal(0, 0.1, (3, 9))
    once = bootstrap_t(sample, 999, 1)
    again = bootstrap_t(random.permuted(sample, axis=1) * factor, 999, 1)
    np.testing.assert_allclose(again, once * factor, rtol=1e-7)
    np.testing.assert_array_equal(bootstrap_t(sample[1:], 999, 1), once[1:])


def test_bootstrap_t_needs_five_different_values() -> None:
    assert np.isnan(bootstrap_t(np.random.default_rng(0).random((2, 4)))).all()
    assert np.isnan(bootstrap_t(np.full((1, 9), 0.1))).all()
    assert bootstrap_t(np.zeros((0, 9))).shape == (0, 2)
    mixed = bootstrap_t(np.array([[2.0] * 6, [1.0, 2, 3, 4, 5, 6]]))
    assert np.isnan(mixed[0]).all() and np.isfinite(mixed[1]).all()


@pytest.mark.parametrize("n", [5, 8, 10, 17])
@pytest.mark.parametrize("shape", ["normal", "lognormal"])
def test_intervals_cover_what_they_say(n: int, shape: str) -> None:
    found = coverage(shape, n, simulations=1500, seed=1)
    assert found.t == pytest.approx(0.95, abs=0.015)
    assert found.bootstrap_t == pytest.approx(0.95, abs=0.015)
