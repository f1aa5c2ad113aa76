"""Tests of differences and sizes of effects, against SciPy and against their definitions."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import special
from scipy import stats as scipy_stats

from lithowatt.analysis.intervals import Sample
from lithowatt.analysis.significance import (
    cliffs_delta,
    hedges_g,
    holm,
    one_sample_t,
    welch,
    wilcoxon,
)

#: The machine may be slow.
busy = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

number = st.floats(0.01, 1000, allow_subnormal=False)
sample = st.lists(number, min_size=2, max_size=15, unique=True)


@pytest.mark.slow
@busy
@given(sample, sample)
def test_welch_is_that_of_scipy(a: list[float], b: list[float]) -> None:
    found = welch(Sample.of(np.array(a)), Sample.of(np.array(b)))
    expected = scipy_stats.ttest_ind(a, b, equal_var=False)
    assert found.t == pytest.approx(expected.statistic, rel=1e-8, abs=1e-9)
    assert found.df == pytest.approx(expected.df, rel=1e-8)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)
    interval = expected.confidence_interval()
    scale = max(abs(interval.low), abs(interval.high))
    assert found.interval == pytest.approx((interval.low, interval.high), abs=1e-8 * scale)


@pytest.mark.parametrize(("a", "b"), [([1.0], [1.0, 2.0]), ([1.0, 1.0], [2.0, 2.0]), ([], [1.0])])
def test_welch_without_spread_is_not_defined(a: list[float], b: list[float]) -> None:
    found = welch(Sample.of(np.array(a)), Sample.of(np.array(b)))
    assert all(math.isnan(one) for one in (found.t, found.df, found.p, *found.interval))


#: Nearer to 0 their squares would vanish.
signed = st.floats(-100, 100).filter(lambda value: value == 0 or abs(value) > 1e-9)


@pytest.mark.slow
@busy
@given(st.lists(signed, min_size=2, max_size=30, unique=True))
def test_one_sample_t_is_that_of_scipy(some: list[float]) -> None:
    expected = scipy_stats.ttest_1samp(some, 0).pvalue
    assert one_sample_t(np.array(some)) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_one_sample_t_of_one_value_or_of_equal_ones_is_not_defined() -> None:
    assert math.isnan(one_sample_t(np.array([1.0])))
    assert math.isnan(one_sample_t(np.array([0.5, 0.5])))


@busy
@given(st.lists(st.floats(0, 1), max_size=30))
def test_holm_is_what_its_definition_says(p: list[float]) -> None:
    expected = [0.0] * len(p)
    worst = 0.0
    for rank, at in enumerate(sorted(range(len(p)), key=lambda one: p[one])):
        worst = max(worst, min(1.0, p[at] * (len(p) - rank)))
        expected[at] = worst
    assert holm(p) == pytest.approx(expected)


def test_holm_leaves_aside_what_is_no_test() -> None:
    found = holm([0.01, math.nan, 0.04])
    assert found[0] == 0.02 and math.isnan(found[1]) and found[2] == 0.04


@pytest.mark.parametrize("n", [1, 2, 5, 12, 29, 50, 51, 80])
def test_wilcoxon_is_that_of_scipy(n: int) -> None:
    differences = np.random.default_rng(n).normal(0.2, 1, n)
    expected = scipy_stats.wilcoxon(differences).pvalue
    assert wilcoxon(differences) == pytest.approx(expected, rel=1e-9)


@settings(busy, max_examples=60)
@given(st.lists(st.integers(-4, 4), min_size=2, max_size=40))
def test_wilcoxon_with_ties_and_zeros_takes_the_normal_distribution(some: list[int]) -> None:
    differences = np.array(some, dtype=float)
    found = wilcoxon(differences)
    if not differences.any():
        assert math.isnan(found)
        return
    if len(set(np.abs(differences))) == len(some) and (differences != 0).all():
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = scipy_stats.wilcoxon(differences, method="approx").pvalue
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.slow
@busy
@given(sample, sample)
def test_hedges_g_is_what_its_definition_says(a: list[float], b: list[float]) -> None:
    df = len(a) + len(b) - 2
    pooled = math.sqrt(((len(a) - 1) * np.var(a, ddof=1) + (len(b) - 1) * np.var(b, ddof=1)) / df)
    exact = special.gamma(df / 2) / (math.sqrt(df / 2) * special.gamma((df - 1) / 2))
    expected = (np.mean(a) - np.mean(b)) / pooled * exact
    found = hedges_g(Sample.of(np.array(a)), Sample.of(np.array(b)))
    assert found == pytest.approx(expected, rel=1e-8, abs=1e-9)


def test_hedges_g_without_spread_is_not_defined() -> None:
    assert math.isnan(hedges_g(Sample(2, 1.0, 0.0), Sample(2, 2.0, 0.0)))
    assert math.isnan(hedges_g(Sample(1, 1.0, math.nan), Sample(2, 2.0, 1.0)))


@pytest.mark.slow
@busy
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=12),
    st.lists(st.integers(0, 9), min_size=1, max_size=12),
)
def test_cliffs_delta_counts_pairs(a: list[int], b: list[int]) -> None:
    expected = sum((x > y) - (x < y) for x in a for y in b) / (len(a) * len(b))
    found = cliffs_delta(np.array(a, dtype=float), np.array(b, dtype=float))
    assert found == pytest.approx(expected)
    assert math.isnan(cliffs_delta(np.zeros(0), np.zeros(2)))
