"""`profile scaling`: figures of the measured profiles, laws that are recovered, what is null."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import optimize
from scipy import stats as scipy_stats

from lithowatt.analysis._envelope import as_text
from lithowatt.analysis.scaling import (
    Fit,
    diminishing_workers,
    exponent_of,
    fastest_workers,
    fit_law,
    scaling,
)
from lithowatt.analysis.selection import COLUMNS
from lithowatt.carbon import emissions
from lithowatt.profiles._runs import read_profiles
from tests.support.made_profiles import UPSTREAM, Kind, profile, write
from tests.support.measured_profiles import measured_profiles

KIND = Kind(workers=(1, 2, 4, 8, 16), repetitions=5, seed=1)

WORKERS = np.array([4.0, 5, 6, 8, 10, 16, 28])


def of(folder: Path, **options: Any) -> dict[str, Any]:
    found = scaling(read_profiles([folder], keep=COLUMNS), **options)
    assert json.loads(as_text(found)) == found, "the result is no plain JSON"
    return found


def row_of(found: dict[str, Any], quantity: str = "time_s") -> dict[str, Any]:
    (row,) = [one for one in found["scaling"] if one["quantity"] == quantity]
    return row


def test_a_measured_profile() -> None:
    """S7 of the acceptance figures, computed independently."""
    (row,) = [
        one
        for one in scaling(measured_profiles())["scaling"]
        if (one["file"], one["quantity"]) == ("titanic_aws_1024Mb_arm/stage.json", "time_s")
    ]
    assert row["kind"] == "strong"
    assert row["exponent"]["value"] == pytest.approx(0.0424, abs=5e-5)
    usl = row["usl"]
    assert usl["t1_s"] == pytest.approx(289.0875, rel=1e-6)
    assert usl["sigma"] == pytest.approx(-0.0297638, rel=1e-5)
    assert usl["kappa"] == pytest.approx(0.00101170, rel=1e-5)
    assert row["fastest_workers"] == pytest.approx(31.904, rel=1e-4)
    assert row["diminishing_workers"] == 25


@pytest.mark.parametrize(
    ("weak", "kind"),
    [(False, "strong"), (True, "weak")],
)
def test_what_the_workers_divide(tmp_path: Path, weak: bool, kind: str) -> None:
    write(tmp_path, replace(KIND, weak=weak))
    found = of(tmp_path)
    assert [row["quantity"] for row in found["scaling"]] == ["compute_s", "time_s"]
    for row in found["scaling"]:
        assert row["kind"] == kind
        low, high = row["exponent"]["ci"]
        assert low < row["exponent"]["value"] < high
        assert row["exponent"]["value"] == pytest.approx(float(weak), abs=0.02)
        assert len(row["points"]) == 5
        assert row["points"][0]["speedup"] == row["points"][0]["efficiency"] == 1
        speedup = row["points"][-1]["speedup"]
        assert speedup == pytest.approx(1 if weak else 14, rel=0.2)
        assert row["points"][-1]["efficiency"] == pytest.approx(speedup / 16)
        laws = (row["amdahl"], row["usl"], row["fastest_workers"], row["diminishing_workers"])
        assert (laws == (None,) * 4) is weak
        assert (row["reason"] is not None) is weak


def test_between_strong_and_weak(tmp_path: Path) -> None:
    content = profile(KIND)
    for key, columns in content.items():
        factor = int(key.rpartition(",")[2].strip(" )")) ** 0.5
        columns["TDP"] = [[value * factor for value in one] for one in columns["TDP"]]
    write(tmp_path, KIND, made=content)
    row = row_of(of(tmp_path))
    assert row["kind"] == "mixed" and row["usl"] is None and row["points"]


def test_one_worker(tmp_path: Path) -> None:
    write(tmp_path, replace(KIND, most_workers=1))
    row = row_of(of(tmp_path))
    assert (row["kind"], row["exponent"], row["points"]) == ("one-worker", None, [])
    assert row["amdahl"] is row["usl"] is row["fastest_workers"] is row["diminishing_workers"]


@given(st.floats(0, 50), st.floats(1, 5000), st.floats(0, 1))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_laws_are_recovered(a: float, b: float, c: float) -> None:
    seconds = a + b / WORKERS + c * WORKERS
    usl = fit_law(WORKERS, seconds, crosstalk=True)
    assert usl is not None
    assert (usl.a, usl.b, usl.c) == pytest.approx((a, b, c), rel=1e-6, abs=1e-7 * usl.alone)
    assert usl.rms < 1e-9
    amdahl = fit_law(WORKERS, a + b / WORKERS, crosstalk=False)
    assert amdahl is not None
    assert (amdahl.a, amdahl.b) == pytest.approx((a, b), rel=1e-6, abs=1e-8 * amdahl.alone)


@pytest.mark.parametrize("crosstalk", [False, True])
def test_laws_have_the_least_relative_errors(crosstalk: bool) -> None:
    """Against a general minimiser, on noisy seconds."""
    seconds = (3 + 200 / WORKERS + 0.1 * WORKERS) * np.exp(
        np.random.default_rng(1).normal(0, 0.1, len(WORKERS))
    )
    fit = fit_law(WORKERS, seconds, crosstalk=crosstalk)
    assert fit is not None

    def errors(parameters: Any) -> Any:
        a, b, *c = parameters
        return (a + b / WORKERS + (c[0] if c else 0) * WORKERS) / seconds - 1

    begin = [1.0, 100.0, *([0.0] if crosstalk else [])]
    best = optimize.least_squares(errors, begin, xtol=1e-14, ftol=1e-14, gtol=1e-14)
    assert [fit.a, fit.b, fit.c][: len(begin)] == pytest.approx(best.x, rel=1e-5)
    assert fit.rms == pytest.approx(math.sqrt(np.mean(errors(best.x) ** 2)), rel=1e-9)


def test_laws_of_very_unlike_sizes() -> None:
    workers = np.array([1.0, 10, 100, 1000, 10_000])
    fit = fit_law(workers, 1e-6 + 1e6 / workers + 1e-9 * workers, crosstalk=True)
    assert fit is not None and fit.b == pytest.approx(1e6, rel=1e-9)


def test_too_few_points_have_no_law() -> None:
    assert fit_law(WORKERS[:2], WORKERS[:2], crosstalk=True) is None
    assert fit_law(WORKERS[:1], WORKERS[:1], crosstalk=False) is None


def test_where_more_workers_help_no_more() -> None:
    fit = Fit(a=2.0, b=100.0, c=0.25, rms=0.0)
    assert fastest_workers(fit) == 20
    assert fastest_workers(fit._replace(c=0.0)) is None
    assert fastest_workers(fit._replace(c=-0.1)) is None
    first = diminishing_workers(fit, 4, 28)
    assert first is not None

    def elasticity(w: int) -> float:
        step = 1e-6
        times = [float(fit(np.array(w * math.exp(e)))) for e in (-step, step)]
        return -(math.log(times[1]) - math.log(times[0])) / (2 * step)

    assert elasticity(first) < 0.5 <= elasticity(first - 1)
    assert diminishing_workers(Fit(0.0, 100.0, 0.0, 0.0), 1, 100) is None


@pytest.mark.slow
@given(st.lists(st.integers(1, 64), min_size=3, max_size=10, unique=True), st.integers(0, 1000))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_exponent_is_that_of_scipy(workers: list[int], seed: int) -> None:
    seconds = np.exp(np.random.default_rng(seed).normal(3, 0.2, len(workers)))
    found = exponent_of(workers, seconds.tolist())
    expected = scipy_stats.linregress(np.log(workers), np.log(seconds))
    half = scipy_stats.t.ppf(0.975, len(workers) - 2) * expected.stderr
    assert found is not None
    assert found.value == pytest.approx(expected.slope, rel=1e-7, abs=1e-9)
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=1e-5, abs=1e-7)


def test_few_numbers_of_workers(tmp_path: Path) -> None:
    write(tmp_path, replace(KIND, workers=(4,)))
    row = row_of(of(tmp_path))
    assert row["kind"] is None and row["exponent"] is None and row["reason"]
    assert [point["workers"] for point in row["points"]] == [4]
    write(tmp_path, replace(KIND, workers=(4, 8)))
    row = row_of(of(tmp_path))
    assert row["kind"] == "strong" and row["exponent"]["ci"] is None
    assert row["amdahl"] is not None and row["usl"] is None and row["reason"]


def test_without_cpu_seconds_nothing_tells_what_is_divided(tmp_path: Path) -> None:
    write(tmp_path, replace(KIND, columns=UPSTREAM))
    row = row_of(of(tmp_path))
    assert row["kind"] is None and row["usl"] is None and len(row["points"]) == 5
    assert "CPU seconds" in row["reason"]


def test_nothing_usable(tmp_path: Path) -> None:
    write(tmp_path, KIND, made={"(1, 512, 4)": {name: [] for name in UPSTREAM}})
    row = row_of(of(tmp_path))
    assert row["kind"] is None and row["points"] == []


def test_sizes_in_one_file_are_told_apart(tmp_path: Path) -> None:
    content = profile(KIND)
    small = profile(replace(KIND, memory_mb=512, seed=2))
    write(tmp_path, KIND, made={**content, **small})
    rows = [row for row in of(tmp_path)["scaling"] if row["quantity"] == "time_s"]
    assert [row["memory_mb"] for row in rows] == [512, 1024]
    assert all(len(row["points"]) == 5 for row in rows)


def test_a_unit_of_work(tmp_path: Path) -> None:
    write(tmp_path, replace(KIND, weak=True))
    assert of(tmp_path)["per_unit"] == []
    for work, units in (("worker", 16), (200.0, 200)):
        row = of(tmp_path, work_per_run=work)["per_unit"][-1]
        assert (row["workers"], row["units"]) == (16, units)
        assert row["energy_quality"] == "modelled"
        assert row["carbon_g"] == pytest.approx(
            emissions(row["energy_j"], region="us-east-1").value
        )
    each = of(tmp_path, work_per_run="worker")["per_unit"]
    assert each[0]["cpu_seconds_s"] == pytest.approx(each[-1]["cpu_seconds_s"], rel=0.1)


def test_a_unit_of_work_off_lambda(tmp_path: Path) -> None:
    write(tmp_path, replace(KIND, on_lambda=False))
    row = of(tmp_path, work_per_run=10.0)["per_unit"][0]
    assert row["cost_usd"] is None and row["carbon_g"] is None and row["time_s"] > 0
