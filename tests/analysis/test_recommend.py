"""Predictions and recommendations: on stages with a known law, and on measured profiles."""

from __future__ import annotations

import copy
import itertools
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation import prediction_report
from lithowatt import MalformedValueError, PowerModel, UnreadableFileError
from lithowatt.analysis._observe import observe
from lithowatt.cli import main
from lithowatt.flexecutor._scheduling import energy_jolteon, stage_models
from lithowatt.profiles import (
    Configuration,
    PerformanceModel,
    Prediction,
    Recommendation,
    read_profile,
    recommend,
    write_profile,
)

WORKERS = (2, 3, 4, 6, 8, 12, 16, 24)


# --- stages with a known law --------------------------------------------------


def law(workers: float, memory: float, arm: bool = False) -> dict[str, float]:
    """A program of one thread: CPU seconds and waiting, per worker."""
    cpu = (60.0 + 0.5 * workers) / workers * (0.9 if arm else 1.0)
    compute = cpu / min(memory / 1769, 1.0) + 1.5
    return {
        "cold_start": 0.8,
        "read": 0.2 + 1.0 / workers,
        "compute": compute,
        "write": 0.1,
        "worker_time_execution": compute + 1.3 + 1.0 / workers,
        "cpu_time": cpu,
    }


def repetition(
    workers: int, values: dict[str, float], rng: np.random.Generator, scatter: float
) -> dict[str, list[Any]]:
    # What waits for others varies more than what computes; else runs would look like copies.
    found: dict[str, list[Any]] = {
        name: (
            value
            * np.exp(
                (10 if name in ("cold_start", "read", "write") else 1)
                * scatter
                * rng.standard_normal(workers)
            )
        ).tolist()
        for name, value in values.items()
    }
    return found


def profile(
    memory: float = 1024,
    architecture: str = "x86_64",
    workers: Iterable[int] = WORKERS,
    repetitions: int = 6,
    scatter: float = 0.01,
    drop: Iterable[str] = (),
    as_memory: float | None = None,
    **more: Callable[[int], Any],
) -> dict[Configuration, dict[str, list[list[Any]]]]:
    """A profile as lithowatt writes it, without joules unless `more` gives them.

    Times are those of another memory where `as_memory` says so.
    """
    rng = np.random.default_rng(int(memory) + len(architecture))
    found = {}
    for count in workers:
        values = law(count, as_memory or memory, architecture == "arm64")
        columns: dict[str, list[list[Any]]] = {}
        for _ in range(repetitions):
            rows = repetition(count, values, rng, scatter)
            rows["cpu_architecture"] = [architecture] * count
            for name, make in more.items():
                rows[name] = [make(count)] * count
            for name, row in rows.items():
                if name not in drop:
                    columns.setdefault(name, []).append(row)
        found[Configuration(1, memory, count)] = columns
    return found


def true_time(workers: float, memory: float, arm: bool = False) -> float:
    values = law(workers, memory, arm)
    return sum(values[phase] for phase in ("cold_start", "read", "compute", "write"))


def test_between_the_profiled_ones_the_law_is_found() -> None:
    model = PerformanceModel(profile())
    for workers in (5, 7, 10, 20):
        one = model.predict(workers, 1024)
        values = law(workers, 1024)
        # The slowest worker is a little slower than the law's.
        assert one.time.value == pytest.approx(true_time(workers, 1024), rel=0.05)
        assert one.worker_time.value == pytest.approx(values["worker_time_execution"], rel=0.03)
        assert one.cpu_seconds is not None
        assert one.cpu_seconds.value == pytest.approx(workers * values["cpu_time"], rel=0.03)
        for phase, band in one.phases.items():
            assert band.value == pytest.approx(values[phase], rel=0.06), phase
        assert one.inside
        assert not one.profiled


def test_joules_are_the_power_model_of_time_and_load() -> None:
    model = PerformanceModel(profile())
    one = model.predict(5, 1024)
    values = law(5, 1024)
    seconds = values["worker_time_execution"]
    power = PowerModel.for_lambda(1024, "x86_64")
    watts = power.share_watts(1024 / 1769, values["cpu_time"] / seconds, 1.0).total
    assert one.energy is not None
    assert one.energy_fit is not None
    assert one.energy.value == pytest.approx(5 * seconds * watts.value, rel=0.03)
    assert one.energy_quality == "modelled"
    # What is not known of the power is in the one band, and not in the other.
    assert one.energy.low < 0.6 * one.energy.value
    assert one.energy.high > 1.6 * one.energy.value
    assert one.energy_fit.high < 1.2 * one.energy.value


@pytest.mark.slow
def test_a_memory_that_was_not_profiled() -> None:
    model = PerformanceModel([profile(512), profile(1024), profile(2048)])
    assert model.structure == "CPU seconds / vCPUs + waiting, one thread"
    one = model.predict(8, 1536)
    assert one.time.value == pytest.approx(true_time(8, 1536), rel=0.08)
    assert one.inside
    left = model.check("memory")
    errors = [abs(h.error) for h in left if h.quantity == "time"]
    assert np.median(errors) < 0.06


def test_times_that_do_not_follow_the_quota_are_fitted_without_it() -> None:
    # On a machine of one's own, memory changes nothing.
    model = PerformanceModel([profile(m, as_memory=512) for m in (512, 1024, 2048)])
    assert "as they are" in model.structure
    assert model.predict(8, 1536).time.value == pytest.approx(true_time(8, 512), rel=0.05)


def test_two_architectures() -> None:
    model = PerformanceModel([profile(), profile(architecture="arm64")])
    assert model.architectures == ["arm64", "x86_64"]
    arm, x86 = model.predict(5, 1024, "arm64"), model.predict(5, 1024, "x86_64")
    assert arm.time.value == pytest.approx(true_time(5, 1024, arm=True), rel=0.05)
    assert arm.time.value < x86.time.value
    with pytest.raises(ValueError, match="architecture is needed: arm64 or x86_64"):
        model.predict(5, 1024)


@pytest.mark.slow
def test_bands_hold_what_was_left_out() -> None:
    model = PerformanceModel([profile(m, scatter=0.03) for m in (512, 1024, 2048)])
    held_out = model.check()
    assert {h.quantity for h in held_out} == {"time", "cpu_seconds", "energy", "cost"}
    assert len(held_out) == 4 * 3 * len(WORKERS)
    assert np.mean([h.covered for h in held_out]) >= 0.9
    assert np.median([abs(h.error) for h in held_out]) < 0.03


# --- what is not usable -------------------------------------------------------


def test_one_wild_repetition_counts_and_is_named() -> None:
    data = profile()
    before = recommend(data, minimise="cost", workers=8)[0]
    wild = copy.deepcopy(data)
    columns = wild[Configuration(1, 1024, 8)]
    for name in ("compute", "worker_time_execution", "cpu_time", "cold_start"):
        columns[name][2] = [10 * value for value in columns[name][2]]
    model = PerformanceModel(wild)
    after = recommend(model, minimise="cost", workers=8)[0]
    # It was billed, so it is in the mean: five runs as before and one ten times as long.
    assert after.runs == before.runs == 6
    assert after.cost is not None and before.cost is not None
    assert after.cost.value == pytest.approx(15 / 6 * before.cost.value, rel=0.03)
    assert after.cost.high > 3 * before.cost.high
    (note,) = (one for one in model.warnings if "far from the median" in one)
    assert "profile 1 (1, 1024, 8) repetition 2" in note
    # A prediction beside it rests on the others: its own mean is unsure.
    assert model.predict(7, 1024).time.value == pytest.approx(true_time(7, 1024), rel=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("bad", [None, math.nan, math.inf, -1.0, "n/a", True])
@pytest.mark.parametrize("column", ["compute", "cold_start", "worker_time_execution", "cpu_time"])
def test_what_is_missing_is_left_out_and_never_zero(bad: object, column: str) -> None:
    data = profile()
    before = PerformanceModel(data).predict(8, 1024)
    for index in (0, 3):
        data[Configuration(1, 1024, 8)][column][index][1] = bad
    model = PerformanceModel(data)
    after = model.predict(8, 1024)
    assert after.time.value == pytest.approx(before.time.value, rel=0.02)
    assert after.cpu_seconds is not None
    assert before.cpu_seconds is not None
    assert after.cpu_seconds.value == pytest.approx(before.cpu_seconds.value, rel=0.02)
    note = "without CPU seconds" if column == "cpu_time" else f"not usable, {column}"
    assert any(
        note in warning and "(1, 1024, 8) repetitions 0, 3" in warning for warning in model.warnings
    ), model.warnings


@pytest.mark.parametrize("column", ["compute", "worker_time_execution", "cpu_time"])
def test_a_zero_where_none_can_be_is_missing(column: str) -> None:
    data = profile()
    before = PerformanceModel(data).predict(8, 1024)
    data[Configuration(1, 1024, 8)][column][0] = [0.0] * 8
    model = PerformanceModel(data)
    after = model.predict(8, 1024)
    assert after.worker_time.value == pytest.approx(before.worker_time.value, rel=0.02)
    assert any("(1, 1024, 8) repetition 0" in warning for warning in model.warnings)


def test_a_stage_that_reads_nothing() -> None:
    data = profile()
    for columns in data.values():
        columns["read"] = [[0.0] * len(row) for row in columns["read"]]
    one = PerformanceModel(data).predict(8, 1024)
    assert one.phases["read"].value == 0.0
    assert one.time.value < true_time(8, 1024)


def test_ragged_repetitions() -> None:
    data = profile()
    columns = data[Configuration(1, 1024, 8)]
    columns["cpu_time"] = columns["cpu_time"][:3]
    columns["compute"][1] = columns["compute"][1][:-1]  # a worker failed
    del columns["write"][4:]
    model = PerformanceModel(data)
    assert model.predict(8, 1024).time.value == pytest.approx(true_time(8, 1024), rel=0.05)


def test_workers_that_ran_count_not_those_asked_for() -> None:
    data = profile(workers=(2, 4, 8))
    capped = data.pop(Configuration(1, 1024, 8))
    data[Configuration(1, 1024, 32)] = capped
    model = PerformanceModel(data)
    assert model.workers(1024, "x86_64") == (2, 8)
    with pytest.raises(ValueError, match="32 workers"):
        model.predict(32, 1024)
    assert max(p.workers for p in recommend(model)) == 8


def test_without_cpu_time_times_and_dollars_remain() -> None:
    model = PerformanceModel(profile(drop=["cpu_time"]))
    one = model.predict(5, 1024)
    assert one.energy is None
    assert one.energy_quality is None
    assert one.cpu_seconds is None
    assert one.cost.value > 0
    with pytest.raises(ValueError, match="energy cannot be predicted"):
        recommend(model, minimise="energy")
    with pytest.raises(ValueError, match="energy cannot be predicted"):
        recommend(model, minimise="cost", energy=100)
    assert recommend(model, minimise="cost").best is not None


def test_without_worker_time_its_phases_stand_for_it() -> None:
    model = PerformanceModel(profile(drop=["worker_time_execution", "cold_start"]))
    text = " ".join(model.warnings)
    assert "read + compute + write" in text
    assert "no cold_start" in text
    assert model.predict(5, 1024).time.value < true_time(5, 1024)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_configurations(count: int) -> None:
    model = PerformanceModel(profile(workers=WORKERS[:count]))
    one = model.predict(2, 1024)
    assert one.profiled
    assert one.time.low < true_time(2, 1024) < one.time.high
    assert any("bands of predictions are guesses" in warning for warning in model.warnings)
    assert model.predict(64, 1024, extrapolate=True).time.high > one.time.high / 100
    with pytest.raises(ValueError, match="at least 4"):
        model.check()
    with pytest.raises(ValueError, match="only one memory"):
        model.check("memory")
    with pytest.raises(ValueError, match="'day'"):
        model.check("day")


def test_nothing_to_learn_from() -> None:
    with pytest.raises(MalformedValueError, match="nothing to learn from"):
        PerformanceModel({})
    with pytest.raises(MalformedValueError, match="no profile was given"):
        PerformanceModel([])
    broken = profile(workers=(4,))
    broken[Configuration(1, 1024, 4)]["compute"] = [[None] * 4]
    with pytest.raises(MalformedValueError, match=r"not usable, no compute: \(1, 1024, 4\) rep"):
        PerformanceModel(broken)
    with pytest.raises(MalformedValueError, match="of 0 MB"):
        PerformanceModel({(1, 0, 4): profile(workers=(4,))[Configuration(1, 1024, 4)]})


CELL = st.one_of(
    st.floats(0.01, 60),
    st.sampled_from([None, 0, -1, math.nan, math.inf, "x", True, 10**400, 1e-300]),
)
COLUMNS = ("cold_start", "read", "compute", "write", "worker_time_execution", "cpu_time", "TDP")


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_cells_hold_it_is_a_prediction_or_a_clear_error(data: st.DataObject) -> None:
    cells = profile(workers=(1, 2, 4, 8, 16), repetitions=2)
    for _ in range(data.draw(st.integers(0, 12))):
        columns = cells[data.draw(st.sampled_from(list(cells)))]
        row = data.draw(st.sampled_from(COLUMNS))
        columns[row] = columns.get(row, [[1.0]])
        repetitions = data.draw(st.lists(st.lists(CELL, max_size=4), max_size=3))
        columns[row] = repetitions or columns[row]
    try:
        found = recommend(cells, minimise="time", extrapolate=True)
    except ValueError as error:
        assert str(error)
        return
    for one in found:
        for band in (one.time, one.cost, one.energy, one.cpu_seconds, one.edp):
            if band is not None:
                assert 0 <= band.low <= band.value <= band.high < math.inf


def test_a_time_that_no_clock_shows_is_none() -> None:
    cells = profile(workers=(1, 2, 4, 8, 16), repetitions=2)
    expected = PerformanceModel(cells).predict(4, 1024).time
    cells[Configuration(1, 1024, 1)]["worker_time_execution"] = [[1e-300], [1e-10]]
    found = PerformanceModel(cells).predict(4, 1024).time
    assert found.value == pytest.approx(expected.value, rel=0.1)
    assert found.high < 2 * expected.high


# --- joules and architectures of profiles -------------------------------------


def with_joules(
    quality: str, joules: Callable[[int], float | None]
) -> dict[Configuration, dict[str, list[list[Any]]]]:
    return profile(
        energy=joules,
        energy_low=lambda n: (joules(n) or 0) * 0.9 if joules(n) else None,
        energy_high=lambda n: (joules(n) or 0) * 1.1 if joules(n) else None,
        energy_quality=lambda n: quality,
    )


@pytest.mark.parametrize("quality", ["measured", "attributed", "modelled"])
def test_joules_of_the_profile_come_before_the_model(quality: str) -> None:
    model = PerformanceModel(with_joules(quality, lambda n: 1000.0 / n + 20))
    one = model.predict(5, 1024)
    assert one.energy is not None
    assert one.energy.value == pytest.approx(5 * (1000 / 5 + 20), rel=0.03)
    assert one.energy_quality == quality
    assert one.energy.low == pytest.approx(0.9 * one.energy.value, rel=0.05)
    assert one.energy.high == pytest.approx(1.1 * one.energy.value, rel=0.05)


def noisy(sigma: float, seed: int, **more: Any) -> dict[Configuration, dict[str, Any]]:
    """Joules of a worker within 1 %, its time anything: it waits for its turn."""
    rng = np.random.default_rng(seed)
    found = {}
    for count in (1, 2, 3, 4, 6, 8):
        columns: dict[str, Any] = {"energy_definition": [["marginal"] * count] * 3}
        for _ in range(3):
            seconds = 2.0 * float(np.exp(sigma * rng.standard_normal()))
            joules = (2.0 + 0.02 * rng.standard_normal(count)).tolist()
            row = {"compute": [0.8 * seconds] * count, "worker_time_execution": [seconds] * count}
            row |= {
                name: (0.05 * np.exp(0.3 * rng.standard_normal(count))).tolist()
                for name in ("read", "write", "cold_start")
            }
            row |= {"cpu_time": [1.0] * count, "energy": joules, "energy_marginal": joules}
            row |= {
                "energy_quality": ["attributed"] * count,
                **{k: [v] * count for k, v in more.items()},
            }
            for name, values in {**row, "cpu_architecture": ["x86_64"] * count}.items():
                columns.setdefault(name, []).append(values)
        found[Configuration(1, more.get("memory", 1024), count)] = columns
    return found


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [0.1, 0.6])
def test_times_that_scatter_do_not_scatter_the_joules(sigma: float) -> None:
    for seed in range(5):
        data = noisy(sigma, seed)
        real = {
            key.workers: np.mean([sum(row) for row in columns["energy"]])
            for key, columns in data.items()
        }
        model = PerformanceModel(data)
        for workers, joules in real.items():
            one = model.predict(workers, 1024).energy_fit
            assert one is not None
            # What was measured stands, within its own error.
            assert one.value == pytest.approx(joules, rel=1e-3)
            assert one.low <= joules <= one.high < 1.15 * joules
        # Between profiled ones, too.
        between = model.predict(5, 1024).energy_fit
        assert between is not None and between.value == pytest.approx(10.0, rel=0.05)
        ranked = [one.workers for one in recommend(data)]
        assert ranked == sorted(real)
        held_out = [one for one in model.check() if one.quantity == "energy"]
        assert np.median([abs(one.error) for one in held_out]) < 0.05


def test_estimates_are_smooth_unless_what_was_measured_is_asked_for() -> None:
    data = noisy(0.3, 1)
    model = PerformanceModel(data)
    measured = model.estimates(4, 1024, "x86_64", measured=True)["energy"]
    prediction = model.predict(4, 1024).energy_fit
    assert prediction is not None and measured == prediction.value
    near = model.estimates(4.001, 1024, "x86_64")["energy"]
    assert model.estimates(4, 1024, "x86_64")["energy"] == pytest.approx(near, rel=5e-3)


def test_no_joules_are_not_zero_joules() -> None:
    data = with_joules("measured", lambda n: 1000.0 / n + 20)
    for index in range(4):
        data[Configuration(1, 1024, 8)]["energy"][index] = [0.0] * 8
    data[Configuration(1, 1024, 4)]["energy"] = [[None] * 4 for _ in range(6)]
    model = PerformanceModel(data)
    one = model.predict(4, 1024)
    assert one.energy is not None
    assert one.energy.value == pytest.approx(1000 + 80, rel=0.03)
    text = " ".join(model.warnings)
    assert "configurations without joules: 1" in text
    assert "without joules of all workers: (1, 1024, 8) repetitions 0, 1, 2, 3" in text
    # What has none of its own is no candidate, unless it may be predicted.
    assert 4 not in {one.workers for one in recommend(data)}
    assert 4 in {one.workers for one in recommend(data, predict=True)}


@pytest.mark.slow
def test_joules_of_one_architecture_are_not_those_of_another() -> None:
    x86 = with_joules("measured", lambda n: 1000.0 / n + 20)
    model = PerformanceModel([x86, profile(architecture="arm64")])
    assert model.quality("x86_64") == "measured"
    assert model.quality("arm64") == "modelled"
    assert model.energy_quality == "modelled"
    one = model.predict(8, 1024, "arm64")
    assert one.energy_quality == "modelled"
    alone = PerformanceModel(profile(architecture="arm64")).predict(8, 1024)
    assert one.energy is not None
    assert alone.energy is not None
    assert one.energy.value == pytest.approx(alone.energy.value, rel=0.03)
    assert any("between architectures" in w for w in recommend(model).warnings)
    bare = PerformanceModel([x86, profile(architecture="arm64", drop=["cpu_time"])])
    assert bare.predict(8, 1024, "arm64").energy is None
    assert bare.predict(8, 1024, "arm64").cpu_seconds is None
    found = recommend(bare)
    assert {p.architecture for p in found} == {"x86_64"}
    assert "arm64: neither joules nor CPU seconds; left out" in found.warnings
    assert {p.architecture for p in recommend(bare, minimise="time")} == {"arm64", "x86_64"}
    with pytest.raises(ValueError, match="energy cannot be predicted"):
        recommend(bare, architecture="arm64")


def test_the_worst_quality_is_what_counts() -> None:
    data = with_joules("measured", lambda n: 1000.0 / n + 20)
    data[Configuration(1, 1024, 8)]["energy_quality"][0][0] = "attributed"
    assert PerformanceModel(data).energy_quality == "attributed"


def test_calls_charged_in_two_ways_are_compared_above_idle() -> None:
    def definition(workers: int) -> str:
        return "amortised" if workers == 2 else "marginal"

    data = profile(
        energy=lambda n: 1000.0 / n + (400.0 if definition(n) == "amortised" else 0.0),
        energy_marginal=lambda n: 1000.0 / n,
        energy_definition=definition,
        energy_quality=lambda n: "attributed",
    )
    model = PerformanceModel(data)
    alone = model.predict(2, 1024)
    assert alone.energy is not None
    assert alone.energy.value == pytest.approx(1000.0, rel=0.03)
    assert any("above idle" in text for text in model.warnings)
    # With one definition throughout it is the headline that counts.
    same = profile(
        energy=lambda n: 1400.0 / n,
        energy_marginal=lambda n: 1000.0 / n,
        energy_definition=lambda n: "amortised",
    )
    one = PerformanceModel(same).predict(4, 1024)
    assert one.energy is not None
    assert one.energy.value == pytest.approx(1400.0, rel=0.03)


def test_cpu_seconds_of_older_profiles() -> None:
    # TDP there is worker time × mean load of the guest's CPUs; where lithowatt wrote, joules.
    data = profile(drop=["cpu_time"])
    for key, columns in data.items():
        cpu = law(key.workers, 1024)["cpu_time"]
        columns["TDP"] = [[cpu / 2] * key.workers for _ in range(6)]
        columns["cpu_cores_logical"] = [[2] * key.workers for _ in range(6)]
    one = PerformanceModel(data).predict(8, 1024)
    assert one.cpu_seconds is not None
    assert one.cpu_seconds.value == pytest.approx(8 * law(8, 1024)["cpu_time"], rel=0.01)
    for columns in data.values():
        columns["energy_quality"] = [[None] * len(row) for row in columns["TDP"]]
    assert PerformanceModel(data).predict(8, 1024).cpu_seconds is None


def test_a_profile_that_began_without_lithowatt_keeps_its_cpu_seconds() -> None:
    data = profile()
    for columns in data.values():
        cpu = columns["cpu_time"]
        # The first half is of before: TDP is the mean load of two CPUs times time; then, joules.
        columns["TDP"] = [
            [value / 2 for value in row] if index < 3 else [900.0] * len(row)
            for index, row in enumerate(cpu)
        ]
        columns["cpu_time"] = [
            [None] * len(row) if index < 3 else row for index, row in enumerate(cpu)
        ]
    found = observe(data)
    assert all(one.figures["cpu_seconds"].repetitions == 6 for one in found.observations)
    one = PerformanceModel(data).predict(8, 1024).cpu_seconds
    assert one is not None and one.value == pytest.approx(8 * law(8, 1024)["cpu_time"], rel=0.03)


def test_the_architecture_comes_from_the_rows() -> None:
    data = profile(architecture="aarch64")
    assert PerformanceModel(data).architectures == ["arm64"]
    for columns in data.values():
        rows = columns.pop("cpu_architecture")
        columns["aws_cpu"] = [
            ["type:lambda-function|arch:x86_64|lambda:True|mem:1024"] * len(row) for row in rows
        ]
    assert PerformanceModel(data).architectures == ["x86_64"]
    for columns in data.values():
        del columns["aws_cpu"]
    with pytest.raises(MalformedValueError, match="does not say its architecture"):
        PerformanceModel(data)
    assert PerformanceModel(data, architecture="aarch64").architectures == ["arm64"]
    with pytest.raises(ValueError, match="'mips'"):
        PerformanceModel(data, architecture="mips")


def test_an_architecture_that_was_asked_for_overrides() -> None:
    model = PerformanceModel(profile(architecture="x86_64"), architecture="arm64")
    assert model.architectures == ["arm64"]
    assert any("taken for arm64" in warning for warning in model.warnings)


def test_rows_of_foreign_hardware_are_left_out() -> None:
    data = profile()
    columns = data[Configuration(1, 1024, 8)]
    columns["cpu_architecture"][0][3] = "aarch64"
    for name in ("compute", "worker_time_execution"):
        columns[name][0] = [1.05 * value for value in columns[name][0]]
    model = PerformanceModel(data)
    assert any("another architecture" in warning for warning in model.warnings)


# --- recommend ----------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> PerformanceModel:
    return PerformanceModel([profile(m, a) for m in (512, 1024, 2048) for a in ("x86_64", "arm64")])


def value(one: Prediction, objective: str) -> float:
    band = getattr(one, objective)
    assert band is not None
    return float(band.value)


@pytest.mark.parametrize("objective", ["energy", "cost", "edp", "time"])
def test_the_best_comes_first(model: PerformanceModel, objective: str) -> None:
    found = recommend(model, minimise=objective, predict=True)
    values = [value(one, objective) for one in found]
    assert values == sorted(values)
    assert len(found) == found.candidates == 6 * 23
    assert len(recommend(model, minimise=objective)) == 6 * len(WORKERS)
    assert found.best is found[0]
    assert found.reason is None
    assert found.closest is None


def test_the_best_is_truly_the_best(model: PerformanceModel) -> None:
    found = recommend(model, minimise="cost", latency=40, architecture="arm64", predict=True)
    best = found.best
    assert best is not None

    def dollars(workers: int, memory: float) -> float:
        seconds = law(workers, memory, arm=True)["worker_time_execution"]
        return workers * (seconds * memory / 1024 * 0.0000133334 + 2e-7)

    space = itertools.product(range(2, 25), (512, 1024, 2048))
    truly = min(dollars(w, m) for w, m in space if true_time(w, m, arm=True) <= 39)
    assert dollars(best.workers, best.memory_mb) <= 1.05 * truly


def test_bounds_are_kept(model: PerformanceModel) -> None:
    found = recommend(model, latency=30, cost=0.004, energy=400, predict=True)
    assert 0 < len(found) < found.candidates
    for one in found:
        assert one.kept is not None and one.kept >= 0.95
        assert one.time.value <= 30
        assert one.cost.value <= 0.004
        assert value(one, "energy") <= 400


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ({"latency": 0.5}, "no configuration takes 0.5 s or less: the fastest takes"),
        ({"cost": 1e-9}, "no configuration costs 1e-09 USD or less: the cheapest costs"),
        ({"energy": 0.1}, "no configuration uses 0.1 J or less: the most frugal uses"),
    ],
)
def test_where_nothing_keeps_the_bounds(
    model: PerformanceModel, bounds: dict[str, float], words: str
) -> None:
    found = recommend(model, **bounds)  # type: ignore[arg-type]
    assert len(found) == 0
    assert found.best is None
    assert found.reason is not None
    assert words in found.reason
    assert found.closest is not None


def test_where_each_bound_can_be_kept_but_not_both(model: PerformanceModel) -> None:
    fastest = recommend(model, minimise="time").best
    cheapest = recommend(model, minimise="cost").best
    assert fastest is not None
    assert cheapest is not None
    latency, cost = 1.01 * fastest.time.value, 1.01 * cheapest.cost.value
    found = recommend(model, latency=latency, cost=cost)
    assert found.reason is not None
    assert "at once" in found.reason
    closest = found.closest
    assert closest is not None

    def missed(one: Prediction) -> float:
        return max(one.time.value / latency, one.cost.value / cost)

    assert missed(closest) == pytest.approx(min(missed(one) for one in recommend(model)))


def test_candidates(model: PerformanceModel) -> None:
    space: dict[str, Any] = {"workers": [4, 5, 200], "memory": [1024, 1500]}
    assert [one.workers for one in recommend(model, **space, architecture="arm64")] == [4]
    found = recommend(model, **space, architecture="arm64", predict=True)
    assert {(p.workers, p.memory_mb) for p in found} == {
        (4, 1024), (5, 1024), (4, 1500), (5, 1500),
    }  # fmt: skip
    assert {p.architecture for p in found} == {"arm64"}
    assert {(p.workers, p.memory_mb) for p in found if p.profiled} == {(4, 1024)}
    assert len(recommend(model, workers=4, memory=512)) == 2
    for nowhere in ({"workers": 200}, {"memory": 4096}):
        for predict in (False, True):
            with pytest.raises(ValueError, match=r"was profiled or lies between.*--extrapolate"):
                recommend(model, **nowhere, predict=predict)  # type: ignore[arg-type]
    for between in ({"workers": 5}, {"memory": 1500}):
        with pytest.raises(ValueError, match=r"no candidate was profiled \(.*\(--predict\)"):
            recommend(model, **between)  # type: ignore[arg-type]
        assert len(recommend(model, **between, predict=True)) > 0  # type: ignore[arg-type]


def test_beyond_what_was_profiled(model: PerformanceModel) -> None:
    found = recommend(model, workers=[24, 48], memory=[1024, 3072], extrapolate=True)
    by_place = {(p.workers, p.memory_mb, p.architecture): p for p in found}
    near, far = by_place[24, 1024, "arm64"], by_place[48, 3072, "arm64"]
    assert near.inside
    assert not far.inside
    assert far.time.high / far.time.value > near.time.high / near.time.value
    assert far.time.low < true_time(48, 3072, arm=True) < far.time.high
    with pytest.raises(ValueError, match="not between profiled"):
        model.predict(48, 1024, "arm64")


def test_modelled_joules_of_two_architectures_carry_a_warning(model: PerformanceModel) -> None:
    assert any("between architectures" in w for w in recommend(model).warnings)
    one = recommend(model, architecture="arm64")
    assert not any("between architectures" in w for w in one.warnings)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"minimise": "speed"}, "'speed' is not one of energy, cost, edp, time"),
        ({"latency": 0}, "latency 0 is not a number above 0"),
        ({"latency": math.nan}, "latency nan"),
        ({"cost": -1.0}, "cost -1.0"),
        ({"energy": math.inf}, "energy inf"),
        ({"energy": "1"}, "energy '1'"),
        ({"energy": True}, "energy True"),
        ({"architecture": "riscv"}, "'riscv' is not known: x86_64 or arm64"),
        ({"workers": []}, "workers []"),
        ({"workers": "4"}, "workers '4'"),
        ({"workers": 0, "extrapolate": True}, "workers 0"),
        ({"workers": 2.5, "extrapolate": True}, "workers 2.5"),
        ({"memory": 64, "extrapolate": True}, "memory 64"),
        ({"memory": math.nan, "extrapolate": True}, "memory nan"),
    ],
)
def test_a_wrong_argument_is_named(
    model: PerformanceModel, arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        recommend(model, **arguments)
    assert "\n" not in str(error.value)


def test_an_unknown_region() -> None:
    with pytest.raises(ValueError, match="moon-1"):
        recommend(profile(), region="moon-1")


def test_a_recommendation_is_a_sequence(model: PerformanceModel) -> None:
    found = recommend(model)
    assert isinstance(found, Recommendation)
    assert list(found[:3]) == list(found)[:3]
    assert found[0] in found


# --- command line -------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("profiles")
    paths = []
    for memory, architecture in itertools.product((512, 1024), ("x86_64", "arm64")):
        path = folder / f"job_{memory}Mb_{architecture}" / "stage.json"
        path.parent.mkdir()
        write_profile(path, profile(memory, architecture))
        paths.append(str(path))
    return paths


def test_the_table(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["profile", "recommend", *files, "--latency", "40", "--top", "3", "--check"]
    assert main([*arguments, "--minimise", "energy"]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    # A table that is too wide is several, each with the columns that name a configuration.
    heads = [line.split() for line in lines if line.startswith("workers")]
    assert all(head[:2] == ["workers", "MB"] for head in heads)
    assert {"s", "CPU", "J", "USD", "J·s"} <= {name for head in heads for name in head}
    assert len([line for line in lines[1:5] if "±" in line]) == 3
    assert max(map(len, lines)) <= 80
    assert "joules are modelled" in out and "recommended: " in out
    assert "held out" in out
    assert "configuration  time" in out
    assert "memory         cost" in out


@pytest.mark.parametrize("memory", [0, 1024, 16384])
def test_elsewhere_than_on_lambda_there_are_no_dollars(
    memory: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "stage.json"
    write_profile(file, noisy(0.6, 3, aws_cpu=None, memory=memory))
    assert main(["profile", "recommend", str(file), "--check"]) == 0
    out = capsys.readouterr().out
    assert "USD" not in out and "us-east-1" not in out and "vCPUs +" not in out
    assert "there is no price" in out
    assert re.search(rf"^ *1 +{memory} +x86_64", out, re.MULTILINE)
    # A band of which the sides differ is not printed as if they did not.
    assert re.search(r"\d \(\d[\d.]*\.\.\d", out)
    assert all(int(percent) <= 30 for percent in re.findall(r"± (\d+) %", out))
    model = PerformanceModel(file)
    assert not model.on_lambda and model.predict(2, memory).cost is None
    assert "cost" not in model.estimates(2, memory, "x86_64")
    assert main(["profile", "recommend", str(file), "--minimise", "cost"]) == 2
    assert "dollars are known of AWS Lambda only" in capsys.readouterr().err
    assert main(["profile", "recommend", str(file), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["region"] is None and report["best"]["cost_usd"] is None
    assert report["best"]["vcpus"] is None


def test_without_joules_the_model_of_lambda_is_not_asked_elsewhere() -> None:
    data = noisy(0.1, 1, aws_cpu="type:Unknown|arch:Unknown|lambda:False|mem:unknown")
    for columns in data.values():
        del columns["energy"]
    model = PerformanceModel(data)
    assert model.predict(2, 1024).energy is None
    with pytest.raises(ValueError, match="energy cannot be predicted"):
        recommend(model)


def test_the_sidecar_says_where_it_ran(tmp_path: Path) -> None:
    for backend, on_lambda in (("localhost", False), ("aws_lambda", True)):
        file = tmp_path / f"{backend}.json"
        write_profile(file, noisy(0.1, 1))
        records = {"(1, 1024, 1)": [{"backend": backend}, None]}
        document = {"schema": 1, "units": {}, "configurations": records, "failures": []}
        file.with_name(file.name + ".energy").write_text(json.dumps(document))
        assert PerformanceModel(file).on_lambda is on_lambda
    assert PerformanceModel(noisy(0.1, 1, aws_cpu="type:x|arch:x|lambda:True|mem:1024")).on_lambda


def test_json(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["profile", "recommend", *files, "--workers", "2-8", "--memory", "512,1024"]
    arguments += ["--architecture", "arm64", "--json", "--check", "--predict"]
    assert main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["feasible"]
    assert report["best"] == report["ranked"][0]
    assert len(report["ranked"]) == report["candidates"] == 14
    best = report["best"]
    assert best["architecture"] == "arm64"
    assert best["source"] in ("profiled", "predicted")
    assert best["energy_quality"] == "modelled"
    for name in ("time_s", "cpu_seconds", "energy_j", "energy_fit_j", "cost_usd", "edp_js"):
        assert best[name]["low"] <= best[name]["value"] <= best[name]["high"]
    assert {one["quantity"] for one in report["held_out"]["configuration"]} == {
        "time",
        "cpu_seconds",
        "energy",
        "cost",
    }


def test_the_architecture_is_that_of_the_profile(
    files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["profile", "recommend", files[1], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["best"]["architecture"] == "arm64"
    assert main(["profile", "recommend", files[1], "--json", "--architecture", "x86_64"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["best"]["architecture"] == "x86_64"
    assert any("taken for x86_64" in warning["text"] for warning in report["warnings"])


def test_no_configuration_is_no_error(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "recommend", *files, "--latency", "1"]) == 1
    captured = capsys.readouterr()
    assert "no configuration takes 1 s or less" in captured.out
    assert "closest" in captured.out
    assert captured.err == ""
    assert main(["profile", "recommend", *files, "--latency", "1", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["best"] is None
    assert report["closest"]["workers"] == 24


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["/no/such/file.json"], "/no/such/file.json"),
        (["--architecture", "mips"], "mips"),
        (["--region", "moon-1"], "moon-1"),
        (["--workers", "500"], "no candidate"),
    ],
)
def test_an_error_is_one_line(
    files: list[str], capsys: pytest.CaptureFixture[str], more: list[str], words: str
) -> None:
    assert main(["profile", "recommend", *files, *more]) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.parametrize(
    "more",
    [
        ["--latency", "soon"],
        ["--latency", "-1"],
        ["--workers", "x"],
        ["--workers", "9-2"],
        ["--workers", "1-9999999"],
        ["--top", "0"],
        ["--minimise", "speed"],
    ],
)
def test_a_wrong_option_is_refused(
    files: list[str], capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["profile", "recommend", *files, *more])
    assert exit_.value.code == 2
    assert more[1] in capsys.readouterr().err


def test_other_commands_load_no_model() -> None:
    code = "import sys, lithowatt.cli as c; c._parser(); print('lithowatt.analysis._predict' in "
    code += (
        "sys.modules or 'lithowatt.analysis._recommend' in sys.modules or 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False", done.stdout


# --- FlexExecutor's scheduler -------------------------------------------------


class StandIn:
    """The surfaces of Jolteon that `EnergyJolteon` touches; searches nothing by itself."""

    def __init__(
        self,
        dag: Any,
        bound: float,
        bound_type: str = "latency",
        probe_depth: int = 4,
        cpu_search_space: Any = None,
        workers_search_space: Any = None,
        entry_point: Any = None,
        x_bounds: Any = None,
        risk: float = 0.05,
    ) -> None:
        self._dag, self.bound, self.bound_type, self.risk = dag, bound, bound_type, risk
        self.cpu_search_space = np.array(cpu_search_space or [1, 2, 3])
        self.workers_search_space = np.array(workers_search_space or [1, 4, 8])
        self.x0 = np.ones(2 * len(dag.stages))
        self.x_bounds: Any = x_bounds or [(0.5, None)] * len(self.x0)
        self.fn_tol = risk * bound
        self.critical_path = dag.stages
        self.obj_params = self.cons_params = None
        self.seen: list[float] = []

    def schedule(self) -> list[Any]:
        self._generate_func_code()
        self.seen = [self.objective_fn(x, None) for x in (self.x0, 0.9 * self.x0)]
        half = len(self._dag.stages)
        workers, cpu = self._probe(
            [self.workers_search_space[-1]] * half, [self.cpu_search_space[-1]] * half
        )
        return [
            SimpleNamespace(workers=w, cpu=c, memory=c * 1769)
            for w, c in zip(workers, cpu, strict=True)
        ]

    def _generate_func_code(self) -> None:
        self.objective_fn = lambda x, params: 0.0
        # Ten samples of a latency model that is 10 % slow to 10 % fast.
        factors = np.linspace(0.9, 1.1, 10)

        def constraint(x: Any, params: Any, bound: float) -> Any:
            seconds = sum(true_time(w, c * 1769) for w, c in zip(x[0::2], x[1::2], strict=True))
            return seconds * factors - bound

        self.constraint_fn = constraint

    def _probe(self, workers: list[Any], cpu: list[Any]) -> tuple[list[Any], list[Any]]:
        return workers, cpu


def dag_of(names: Iterable[str], parallel: bool = True) -> Any:
    stages = [
        SimpleNamespace(stage_id=name, perf_model=SimpleNamespace(allow_parallel=parallel))
        for name in names
    ]
    return SimpleNamespace(dag_id="flow", stages=stages)


@pytest.fixture
def profiling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Profiles of two stages where `DAGExecutor.profile` writes them."""
    folder = tmp_path / "profiling" / "flow"
    folder.mkdir(parents=True)
    for stage in ("map", "reduce"):
        data = {}
        for memory in (512, 1024, 2048):
            data.update(profile(memory))
        write_profile(folder / f"{stage}.json", data)
    monkeypatch.setenv("FLEXECUTOR_EXEC_PATH", str(tmp_path))
    return tmp_path / "profiling"


def best_pair(model: PerformanceModel, objective: str, bound: float) -> float:
    """The least of two equal stages in a row, by trying all."""
    ones = [
        (one.time.value, value(one, objective), true_time(one.workers, one.memory_mb))
        for one in recommend(model, minimise=objective, workers=WORKERS, predict=True)
    ]
    return min(
        a[1] + b[1]
        for a, b in itertools.product(ones, ones)
        if a[0] + b[0] <= bound and 1.1 * (a[2] + b[2]) <= 1.005 * bound
    )


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["energy", "cost"])
@pytest.mark.parametrize("bound", [30.0, 60.0, 200.0])
def test_the_schedule_takes_the_least(profiling: Path, objective: str, bound: float) -> None:
    scheduler = energy_jolteon(StandIn)(dag_of(["map", "reduce"]), bound, minimise=objective)
    chosen = scheduler.schedule()
    assert scheduler.latency([v for c in chosen for v in (c.workers, c.cpu)]) <= bound
    assert [c.memory for c in chosen] == [p.memory_mb for p in scheduler.predictions]
    assert all(p.profiled for p in scheduler.predictions)
    total = sum(value(p, objective) for p in scheduler.predictions)
    one = PerformanceModel(profiling / "flow" / "map.json")
    # Stage by stage is not all at once; it comes close.
    assert total <= 1.05 * best_pair(one, objective, bound)
    assert scheduler.seen[0] == pytest.approx(100 * scheduler.fn_tol)
    assert scheduler.seen[1] != scheduler.seen[0]


@pytest.mark.slow
def test_joules_times_seconds(profiling: Path) -> None:
    make = energy_jolteon(StandIn)
    edp = make(dag_of(["map", "reduce"]), 200.0, minimise="edp")
    energy = make(dag_of(["map", "reduce"]), 200.0)
    fast, frugal = edp.schedule(), energy.schedule()
    x = [v for c in fast for v in (c.workers, c.cpu)]
    y = [v for c in frugal for v in (c.workers, c.cpu)]
    assert edp.total(x) < edp.total(y)
    assert energy.total(y) < energy.total(x)
    assert edp.latency(x) < edp.latency(y)


def test_a_stage_that_is_not_parallel_has_one_worker(profiling: Path) -> None:
    scheduler = energy_jolteon(StandIn)(dag_of(["map"], parallel=False), 500.0)
    assert [c.workers for c in scheduler.schedule()] == [1]
    assert scheduler.workers_search_space[0] == 1


@pytest.mark.slow
def test_spaces_are_what_was_profiled_or_what_was_given(profiling: Path) -> None:
    scheduler = energy_jolteon(StandIn)(dag_of(["map"]), 100.0)
    scheduler.schedule()
    assert scheduler.workers_search_space.tolist() == [1, *WORKERS]
    assert scheduler.cpu_search_space * 1769 == pytest.approx([512, 1024, 2048])
    given = energy_jolteon(StandIn)(
        dag_of(["map"]), 100.0, cpu_search_space=[0.5, 1.0], workers_search_space=[1, 4, 6]
    )
    assert given.schedule()[0].workers in (4, 6)
    assert given.cpu_search_space.tolist() == [0.5, 1.0]


def test_one_worker_is_a_choice_like_any_other() -> None:
    # Joules grow with every worker: where 1 was profiled, 1 is best.
    data = noisy(0.1, 2)
    for loose in (1000.0, 500.0):
        scheduler = energy_jolteon(StandIn)(dag_of(["map"]), loose, profiles={"map": data})
        [chosen] = scheduler.schedule()
        assert chosen.workers == 1
        assert scheduler.workers_search_space.tolist() == [1, 1, 2, 3, 4, 6, 8]
    best = recommend(data).best
    assert best is not None and best.workers == 1
    assert scheduler.predictions[0].energy_fit == best.energy_fit


@pytest.mark.slow
def test_only_what_was_profiled_of_a_stage_is_chosen_for_it(profiling: Path) -> None:
    # 24 workers with 512 MB, 2 with 2048 MB: neither their product nor the other stage's.
    few = {**profile(512, workers=(16, 24)), **profile(2048, workers=(2, 4, 6))}
    other = profile(1024, workers=(3, 5, 7, 9))
    for bound in (0.5, 30.0, 60.0, 1000.0):
        scheduler = energy_jolteon(StandIn)(
            dag_of(["map", "reduce"]), bound, profiles={"map": few, "reduce": other}
        )
        first, last = scheduler.schedule()
        assert (first.memory, first.workers) in {
            (512, 16),
            (512, 24),
            (2048, 2),
            (2048, 4),
            (2048, 6),
        }
        assert last.memory == 1024 and last.workers in (3, 5, 7, 9)
        assert all(one.profiled for one in scheduler.predictions)


def test_a_bound_that_nothing_keeps(profiling: Path, caplog: pytest.LogCaptureFixture) -> None:
    scheduler = energy_jolteon(StandIn)(dag_of(["map"]), 0.5)
    [fastest] = scheduler.schedule()
    assert (fastest.workers, fastest.memory) == (24, 2048)
    assert "keeps the latency bound" in caplog.text


@pytest.mark.parametrize("bound", [0, -3, float("nan"), float("inf"), True, "40"])
def test_a_bound_that_is_none(profiling: Path, bound: Any) -> None:
    with pytest.raises(ValueError, match="seconds above 0"):
        energy_jolteon(StandIn)(dag_of(["map"]), bound)


class Endless(StandIn):
    """Its solver widens the bound for ever, as FlexExecutor's may."""

    rounds = 0

    def schedule(self) -> list[Any]:
        self._generate_func_code()
        self.solved = self._iter_solve()
        return super().schedule()

    def _iter_solve(self) -> Any:
        bound = float(self.bound)
        while True:
            self.rounds += 1
            assert self.rounds < 1000
            self.constraint_fn(self.x0, None, bound)
            bound += 1


def test_a_solver_that_never_ends_is_ended(
    profiling: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler = energy_jolteon(Endless)(dag_of(["map"]), 500.0)
    with caplog.at_level("WARNING", logger="lithowatt"):
        [chosen] = scheduler.schedule()
    workers, cpus = scheduler.solved
    assert [*workers, *cpus] == list(scheduler.x0)
    assert "nothing keeps 500 s" in caplog.text
    assert chosen.workers >= 1


@pytest.mark.slow
def test_what_a_scheduler_refuses(profiling: Path, tmp_path: Path) -> None:
    make = energy_jolteon(StandIn)
    dag = dag_of(["map"])
    with pytest.raises(ValueError, match="'speed' is not one of energy, cost, edp"):
        make(dag, 10.0, minimise="speed")
    for arguments, named in (((), {"bound_type": "cost"}), (("cost",), {})):
        with pytest.raises(ValueError, match="bounded by latency only"):
            make(dag, 10.0, *arguments, **named)
    with pytest.raises(ValueError, match="no profile for stage 'map', only for other"):
        make(dag, 10.0, profiles={"other": {}}).schedule()
    with pytest.raises(UnreadableFileError, match=r"map\.json"):
        make(dag, 10.0, profiles=tmp_path / "elsewhere").schedule()
    with pytest.raises(ValueError, match="a schedule is for one architecture"):
        stage_models(dag, {"map": [profile(), profile(architecture="arm64")]})
    with pytest.raises(ValueError, match="energy cannot be predicted"):
        make(dag, 10.0, profiles={"map": profile(drop=["cpu_time"])}).schedule()
    with pytest.raises(ValueError, match="7 vCPUs are 12383 MB"):
        make(dag, 10.0, cpu_search_space=[1, 7]).schedule()
    assert make(
        dag, 100.0, minimise="cost", profiles={"map": profile(drop=["cpu_time"])}
    ).schedule()


def test_one_class_for_each_jolteon() -> None:
    assert energy_jolteon(StandIn) is energy_jolteon(StandIn)
    assert issubclass(energy_jolteon(StandIn), StandIn)
    assert energy_jolteon(StandIn).__name__ == "EnergyJolteon"


CHECKOUTS = [path for path in os.environ.get("FLEXECUTOR_SRC", "").split(":") if path]

#: Runs in an interpreter that has FlexExecutor's two folders on its path.
ON_REAL = """
import json, sys, warnings
warnings.simplefilter("ignore")
from flexecutor.utils.utils import load_profiling_results
from flexecutor.workflow.dag import DAG
from flexecutor.workflow.stage import Stage
from lithowatt.flexecutor import EnergyJolteon
from lithowatt.flexecutor._scheduling import find_jolteon

folder, bound = sys.argv[1], float(sys.argv[2])
dag = DAG("flow")
first, last = (Stage(name, lambda ctx: None, [], []) for name in ("map", "reduce"))
first >> last
dag.add_stages([first, last])

def run(scheduler):
    for stage in dag.stages:
        profile = load_profiling_results(f"{folder}/profiling/flow/{stage.stage_id}.json")
        stage.perf_model.train(profile)
    return [(c.workers, c.cpu, c.memory) for c in scheduler.schedule()]

ours = EnergyJolteon(dag, bound)
assert isinstance(ours, find_jolteon())
chosen = run(ours)
spaces = dict(cpu_search_space=ours.cpu_search_space.tolist(),
              workers_search_space=ours.workers_search_space.tolist())
theirs = find_jolteon()(dag, bound, **spaces)
other = [value for one in run(theirs) for value in one[:2]]
x = [value for one in chosen for value in one[:2]]
print(json.dumps({
    "chosen": chosen, "ours": ours.total(x), "latency": ours.latency(x),
    "theirs": ours.total(other), "their_latency": ours.latency(other),
}))
"""


@pytest.mark.skipif(not CHECKOUTS, reason="FLEXECUTOR_SRC names no FlexExecutor checkout")
@pytest.mark.parametrize("checkout", CHECKOUTS or ["none"])
@pytest.mark.parametrize("bound", [40.0, 100.0])
def test_on_flexecutor_itself(profiling: Path, checkout: str, bound: float) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ON_REAL, str(profiling.parent), str(bound)],
        env=os.environ | {"PYTHONPATH": f"{checkout}:{checkout}/flexecutor"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    if re.search("^(ModuleNotFound|Import)Error", done.stderr, re.M):
        pytest.skip(f"FlexExecutor's own needs are missing: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["latency"] <= bound
    assert all(memory in (512, 1024, 2048) for _, _, memory in report["chosen"])
    if report["their_latency"] <= bound:
        assert report["ours"] <= 1.001 * report["theirs"]


# --- measured profiles --------------------------------------------------------

MEASURED = prediction_report.profiles()
needs_data = pytest.mark.skipif(
    not MEASURED,
    reason=f"no measured profiles in {prediction_report.DATA / 'profiles'}: set LITHOWATT_DATA",
)


@needs_data
@pytest.mark.parametrize("name", list(MEASURED) or ["none"])
def test_figures_are_those_of_the_files(name: str) -> None:
    architecture = prediction_report.architecture(name)
    truth = prediction_report.truth(MEASURED[name], architecture)
    observed = observe(MEASURED[name]).observations
    assert {o.place for o in observed} == set(truth)
    for one in observed:
        actual = truth[one.place]
        assert one.architecture == architecture
        assert one.figures["time"].mean == pytest.approx(actual.time)
        assert one.figures["cpu_seconds"].mean == pytest.approx(actual.cpu_seconds)
        # Read off a curve of which 129 points are computed.
        assert one.figures["energy_modelled"].mean == pytest.approx(actual.energy, rel=3e-5)
        assert one.figures["cost"].mean == pytest.approx(actual.cost)
        assert one.quality is None  # no joule was measured


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    if not MEASURED:
        pytest.skip("no measured profiles")
    return prediction_report.evaluate()


@needs_data
@pytest.mark.parametrize("quantity", ["time", "cpu_seconds", "energy", "cost"])
def test_held_out_configurations(measured: dict[str, Any], quantity: str) -> None:
    together = measured["overall"][f"together {quantity}"]
    assert together["median"] <= 2.5
    assert together["p90"] <= 8
    assert measured["overall"][f"alone {quantity}"]["median"] <= 2.5
    assert together["median"] < measured["overall"][f"a/x+b {quantity}"]["median"]
    for row in measured["profiles"].values():
        assert row[f"together {quantity}"] <= 10
        assert row[f"alone {quantity}"] <= 10
    inside, count = measured["coverage"][quantity]
    assert inside >= 0.9 * count


@needs_data
@pytest.mark.parametrize("quantity", ["time", "cpu_seconds", "energy", "cost"])
def test_held_out_memories(measured: dict[str, Any], quantity: str) -> None:
    assert measured["memory"][f"all {quantity}"]["median"] <= 10


@needs_data
@pytest.mark.parametrize("objective", ["energy", "cost"])
def test_recommendations_against_the_truth(measured: dict[str, Any], objective: str) -> None:
    ours = measured["choices"][f"held-out {objective}"]
    assert ours["good"] >= 0.85 * ours["count"]
    assert ours["median"] <= 2
    assert measured["choices"][f"seen {objective}"]["good"] >= 0.9 * ours["count"]
    assert ours["good"] > 2 * measured["choices"][f"rule {objective}"]["good"]


@needs_data
def test_billed_time_moves_the_optimum() -> None:
    # By mean compute time × workers the most workers look cheapest here; billed they are not.
    path = MEASURED["titanic_aws_1024Mb_arm"]
    places = {key.workers for key in read_profile(path)}
    for objective in ("energy", "cost"):
        best = recommend(path, minimise=objective, workers=places).best
        assert best is not None
        assert 8 <= best.workers <= 12
