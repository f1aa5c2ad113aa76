"""Energies against each other and over time, with known numbers."""

from __future__ import annotations

import logging
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lithowatt import EnergyMeter, Timeline
from lithowatt.validate import (
    TOLERANCE,
    correlate_energy_with_execution_phases,
    integrate_energy_over_time,
    validate_energy_measurements,
)
from tests.source.test_hwmon import grace
from tests.support.powercap_files import TWO_SOCKETS, FakeMachine, advance

# --- validate_energy_measurements ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("rapl", "perf", "validated", "discrepancy"),
    [
        (100.0, 100.0, True, 0.0),
        (100.0, 90.0, True, 0.1),
        (90.0, 100.0, True, 0.1),
        (100.0, 85.0, True, 0.15),
        (100.0, 84.0, False, 0.16),
        (70.0, 100.0, False, 0.3),
        (1e-9, 1.0, False, 1.0),
        (100, 50, False, 0.5),
        (np.float64(100), np.float32(50), False, 0.5),
        (100.0, None, None, None),
        (None, 100.0, None, None),
        (None, None, None, None),
        (0.0, 100.0, None, None),
        (100.0, 0.0, None, None),
        (0.0, 0.0, None, None),
    ],
)
def test_the_verdict(
    rapl: Any, perf: Any, validated: bool | None, discrepancy: float | None
) -> None:
    result = validate_energy_measurements(rapl, perf)
    assert result["validated"] is validated
    assert result["discrepancy"] == pytest.approx(discrepancy)
    assert (result["rapl"], result["perf"], result["estimated"]) == (rapl, perf, None)
    assert result["tolerance"] == TOLERANCE == 0.15


def test_a_flagged_window_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    result = validate_energy_measurements(100.0, 70.0, 10.0)
    assert [(r.name, r.levelno) for r in caplog.records] == [("lithowatt", logging.WARNING)]
    assert "30%" in caplog.text and "100 J" in caplog.text and "70 J" in caplog.text
    assert result["warnings"][0] == caplog.records[0].getMessage()


def test_a_validated_window_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert validate_energy_measurements(100.0, 90.0, 95.0)["warnings"] == []
    assert not caplog.records


@pytest.mark.parametrize(("rapl", "perf"), [(100.0, 100.0), (100.0, None), (None, 100.0)])
def test_an_estimate_is_compared_and_does_not_decide(
    rapl: float | None, perf: float | None, caplog: pytest.LogCaptureFixture
) -> None:
    close = validate_energy_measurements(rapl, perf, 95.0)
    far = validate_energy_measurements(rapl, perf, 40.0)
    assert close["estimated_discrepancy"] == pytest.approx(0.05)
    assert close["warnings"] == []
    assert far["estimated"] == 40.0
    assert far["estimated_discrepancy"] == pytest.approx(0.6)
    assert len(far["warnings"]) == 1 and "60%" in far["warnings"][0]
    assert far["validated"] is close["validated"] is (None if None in (rapl, perf) else True)
    assert not caplog.records


def test_an_estimate_alone_is_compared_with_nothing() -> None:
    result = validate_energy_measurements(None, None, 40.0)
    assert result["validated"] is None
    assert result["estimated_discrepancy"] is None
    assert result["warnings"] == []


def test_zero_is_said_to_be_no_measurement() -> None:
    result = validate_energy_measurements(0.0, 5.0, 5.0)
    assert len(result["warnings"]) == 1 and "rapl is 0 J" in result["warnings"][0]
    assert result["estimated_discrepancy"] == 0.0


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize(
    ("value", "error", "shown"),
    [
        (-1.0, ValueError, "-1.0"),
        (float("nan"), ValueError, "nan"),
        (float("inf"), ValueError, "inf"),
        ("12", TypeError, "'12'"),
        (True, TypeError, "True"),
        ([1.0], TypeError, r"\[1.0\]"),
        ("x" * 10_000, TypeError, r"xxx\.\.\."),
    ],
)
def test_what_is_no_energy(place: int, value: Any, error: type[Exception], shown: str) -> None:
    energies: list[Any] = [1.0, 1.0, 1.0]
    energies[place] = value
    name = ("rapl_energy", "perf_energy", "estimated_energy")[place]
    with pytest.raises(error, match=f"{name}.*{shown}") as caught:
        validate_energy_measurements(*energies)
    assert len(str(caught.value)) < 200


# --- integrate_energy_over_time: samples of power -----------------------------------------------


STEPS = [(0, 10), (1, 20), (2, 20), (4, 0)]


@pytest.mark.parametrize(
    ("start", "end", "joules"),
    [
        (0, 4, 15 + 20 + 20),
        (0, 1, 15),
        (0, 0.5, 0.5 * (10 + 15) / 2),
        (0.25, 0.75, 0.5 * 15),
        (1, 2, 20),
        (3, 4, 5),
        (0.5, 3, 0.5 * (15 + 20) / 2 + 20 + 1 * (20 + 10) / 2),
        (2, 2, 0),
        (0, 0, 0),
        (4, 4, 0),
    ],
)
def test_the_area_under_the_samples(start: float, end: float, joules: float) -> None:
    assert integrate_energy_over_time(STEPS, start, end) == pytest.approx(joules)


def test_every_shape_of_samples() -> None:
    times, watts = np.array([0.0, 1.0, 2.0]), np.array([10.0, 20.0, 20.0])
    shapes: list[Any] = [
        [(0, 10), (1, 20), (2, 20)],
        ((0, 10), (1, 20), (2, 20)),
        [[0, 10], [1, 20], [2, 20]],
        np.column_stack([times, watts]),
        np.array([[0, 10], [1, 20], [2, 20]], dtype=np.int32),
        (times, watts),
        iter([(0, 10), (1, 20), (2, 20)]),
        zip(times, watts, strict=True),
    ]
    for samples in shapes:
        assert integrate_energy_over_time(samples, 0, 2) == pytest.approx(35.0)


def test_two_pairs_are_two_pairs() -> None:
    for samples in (((0, 10), (2, 30)), [(0, 10), (2, 30)], np.array([[0, 10], [2, 30]])):
        assert integrate_energy_over_time(samples, 0, 2) == pytest.approx(40.0)


def test_the_clock_of_the_samples_may_start_anywhere() -> None:
    now = 1_790_000_000.25
    samples = [(now + t, watts) for t, watts in STEPS]
    assert integrate_energy_over_time(samples, now + 0.5, now + 3) == pytest.approx(43.75)
    below = [(t - 10, watts) for t, watts in STEPS]
    assert integrate_energy_over_time(below, -9, -8) == pytest.approx(20.0)


@pytest.mark.parametrize(
    ("start", "end"), [(-0.1, 1), (0, 4.1), (5, 6), (-2, -1), (-1e300, 1e300), (0, 1e12)]
)
def test_a_window_outside(start: float, end: float) -> None:
    with pytest.raises(ValueError, match=r"not inside the record, 0\.0 to 4\.0 s"):
        integrate_energy_over_time(STEPS, start, end)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([(0, 1), (2, 1), (1, 1)], "1.0 s"),
        ([(0, 1), (1, 1), (1, 1)], "1.0 s"),
        ([(0, 1), (float("nan"), 1)], "time of sample 1.*nan"),
        ([(0, 1), (1, float("nan"))], "power of sample 1.*nan"),
        ([(0, 1), (1, float("inf"))], "power of sample 1.*inf"),
        ([(0, 1), (1, -5)], "power of sample 1.*-5"),
        ([(0, 1), (1e300, 1), (2e300, 1)], "292 years"),
        ([(0, 1)], "two samples"),
        ([], "two samples"),
        ([(0, 1), (1, 2, 3)], "sample 1"),
        ((np.array([0.0, 1.0]), np.array([1.0])), "2 times.*1 value"),
    ],
)
def test_samples_that_are_none(samples: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        integrate_energy_over_time(samples, 0, 1)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (None, "None"),
        (5, "5"),
        ("timeline", "'timeline'"),
        ([1.0, 2.0], "sample 0.*1.0"),
        ([("0", 1), (1, 1)], "time of sample 0.*'0'"),
        ([(0, "1"), (1, 1)], "power of sample 0.*'1'"),
        ([(0, None), (1, 1)], "power of sample 0.*None"),
        ({"a": 1, "b": 2}, "sample 0.*'a'"),
    ],
)
def test_what_is_no_timeline(samples: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        integrate_energy_over_time(samples, 0, 1)


@pytest.mark.parametrize(
    ("start", "end", "error"),
    [
        (float("nan"), 1, ValueError),
        (0, float("nan"), ValueError),
        (0, float("inf"), ValueError),
        (2, 1, ValueError),
        ("0", 1, TypeError),
        (0, None, TypeError),
        (False, 1, TypeError),
    ],
)
def test_a_window_that_is_none(start: Any, end: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="the window"):
        integrate_energy_over_time(STEPS, start, end)


# --- integrate_energy_over_time: a Timeline -----------------------------------------------------


def timeline(**columns: list[float]) -> Timeline:
    """Intervals of 1 s, 1 s and 2 s."""
    times = np.array([5_000_000_000, 6_000_000_000, 7_000_000_000, 9_000_000_000], np.uint64)
    joules = {name.replace("__", ":"): np.array(column) for name, column in columns.items()}
    return Timeline(times, joules, np.zeros(4))


def test_a_timeline_spreads_energy_evenly_within_its_intervals() -> None:
    line = timeline(x=[0.0, 10.0, 30.0, 34.0])
    assert integrate_energy_over_time(line, 0, 4, column="x") == pytest.approx(34.0)
    assert integrate_energy_over_time(line, 0.5, 3, column="x") == pytest.approx(5 + 20 + 2)
    assert integrate_energy_over_time(line, 0.5, 3, "x") == line.integrate("x", 0.5, 3)
    assert integrate_energy_over_time(line, 0, float(line.t[-1]), "x") == pytest.approx(34.0)


def test_the_machines_energy_is_the_default() -> None:
    rapl = {
        "rapl:package-0": 100.0,
        "rapl:package-1-die-1": 50.0,
        "rapl:package-0/core": 60.0,
        "rapl:package-0/uncore": 5.0,
        "rapl:package-0/dram": 10.0,
        "rapl:psys": 300.0,
    }
    perf = {
        "perf:power/energy-pkg/ on cpu 0": 98.0,
        "perf:power/energy-pkg/ on cpu 1": 48.0,
        "perf:power/energy-ram/ on cpu 0": 9.0,
        "perf:power/energy-cores/ on cpu 0": 59.0,
    }
    model = {"model:package": 90.0, "model:dram": 4.0}

    def line(*parts: dict[str, float]) -> Timeline:
        return timeline(**{k: [0.0, 0.0, 0.0, v] for part in parts for k, v in part.items()})

    assert integrate_energy_over_time(line(model, perf, rapl), 0, 4) == pytest.approx(160.0)
    assert integrate_energy_over_time(line(model, perf), 0, 4) == pytest.approx(155.0)
    assert integrate_energy_over_time(line(model), 0, 4) == pytest.approx(94.0)
    cores = ["rapl:package-0/core", "rapl:package-0/uncore"]
    assert integrate_energy_over_time(line(rapl), 2, 3, cores) == pytest.approx(32.5)


@pytest.mark.parametrize(("start", "end"), [(-0.1, 1), (0, 4.1), (5, 6)])
def test_a_window_outside_a_timeline(start: float, end: float) -> None:
    with pytest.raises(ValueError, match=r"not inside the record, 0\.0 to 4\.0 s"):
        integrate_energy_over_time(timeline(x=[0.0, 1.0, 2.0, 3.0]), start, end, "x")


def test_columns_that_are_not_there() -> None:
    line = timeline(x=[0.0, 1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"'y'.*there are x"):
        integrate_energy_over_time(line, 0, 1, "y")
    with pytest.raises(ValueError, match="there are x"):
        integrate_energy_over_time(line, 0, 1)
    with pytest.raises(ValueError, match="samples have no columns"):
        integrate_energy_over_time(STEPS, 0, 1, "x")


def test_a_timeline_without_samples() -> None:
    with EnergyMeter(interval=None) as meter:
        pass
    with pytest.raises(ValueError, match="no samples"):
        integrate_energy_over_time(meter.timeline(), 0, 0)


def test_a_metered_window_integrates_to_its_energy(tmp_path: Path) -> None:
    machine = FakeMachine(tmp_path, TWO_SOCKETS)
    with EnergyMeter(root=machine.root, interval=0.01, methods="rapl") as meter:
        time.sleep(0.05)
        advance(machine)
        time.sleep(0.05)
        advance(machine)
        time.sleep(0.02)
    line = meter.timeline()
    end = float(line.t[-1])
    assert integrate_energy_over_time(line, 0, end) == pytest.approx(34.0)
    phases = {"read": (0.0, 0.03), "compute": (0.03, 0.07), "write": (0.07, end)}
    joules = correlate_energy_with_execution_phases(line, phases)
    assert sum(joules.values()) == pytest.approx(34.0)
    assert joules["read"] == pytest.approx(0.0, abs=1e-9)


# --- correlate_energy_with_execution_phases -----------------------------------------------------


def test_a_window_of_sensors_integrates_to_its_energy(tmp_path: Path) -> None:
    # Its names do not say that one of them is of cores, and the model has columns, too.
    grace(tmp_path)
    with EnergyMeter(root=tmp_path, interval=0.05) as meter:
        time.sleep(0.4)
    line = meter.timeline()
    package = meter.reading.hwmon.estimate("package")
    assert package is not None and any(name.startswith("model:") for name in line.joules)
    whole = line.edges[-1]
    found = integrate_energy_over_time(line, 0.0, whole)
    assert found == pytest.approx(200.0 * whole, rel=0.05)
    assert found == pytest.approx(package.value * whole / meter.reading.duration, rel=0.05)


def test_energy_by_phase() -> None:
    phases = {"read": (0, 1), "compute": (1, 3), "write": (3, 4), "all": (0, 4), "none": (2, 2)}
    joules = correlate_energy_with_execution_phases(STEPS, phases)
    assert joules == pytest.approx(
        {"read": 15.0, "compute": 35.0, "write": 5.0, "all": 55.0, "none": 0.0}
    )
    assert list(joules) == list(phases)
    assert correlate_energy_with_execution_phases(STEPS, {}) == {}


def test_phases_of_a_timeline() -> None:
    line = timeline(x=[0.0, 10.0, 30.0, 34.0])
    joules = correlate_energy_with_execution_phases(line, {"a": (0, 1.5), "b": (1.5, 4)}, "x")
    assert joules == pytest.approx({"a": 20.0, "b": 14.0})


@given(
    steps=st.lists(
        st.tuples(st.floats(1e-3, 10.0), st.floats(0.0, 1000.0)), min_size=2, max_size=30
    ),
    origin=st.sampled_from([0.0, -5.0, 123_456.0]),
    cuts=st.lists(st.floats(0.0, 1.0), max_size=8),
)
def test_phases_that_tile_the_window_sum_to_it(
    steps: list[tuple[float, float]], origin: float, cuts: list[float]
) -> None:
    times = origin + np.cumsum([dt for dt, _ in steps])
    samples = list(zip(times.tolist(), [watts for _, watts in steps], strict=True))
    first, last = samples[0][0], samples[-1][0]
    edges = [first, *sorted(first + cut * (last - first) for cut in cuts), last]
    edges = [min(edge, last) for edge in edges]
    phases = {f"phase {i}": window for i, window in enumerate(pairwise(edges))}
    joules = correlate_energy_with_execution_phases(samples, phases)
    total = integrate_energy_over_time(samples, first, last)
    area = np.trapezoid if hasattr(np, "trapezoid") else np.trapz
    truth = float(area([watts for _, watts in samples], times))
    assert total == pytest.approx(truth, rel=1e-6, abs=1e-5)
    assert sum(joules.values()) == pytest.approx(total, rel=1e-9, abs=1e-9)
    assert all(value >= -1e-9 for value in joules.values())


@pytest.mark.parametrize(
    ("phases", "error", "message"),
    [
        ([("read", (0, 1))], TypeError, "execution_phases"),
        ({"read": 5}, TypeError, "phase 'read'.*5"),
        ({"read": "01"}, TypeError, "phase 'read'"),
        ({"read": (0, 1, 2)}, ValueError, "phase 'read'"),
        ({"read": (1, 0)}, ValueError, "phase 'read'"),
        ({"read": (0, float("nan"))}, ValueError, "phase 'read'.*nan"),
        ({"read": (0, 1), "write": (3, 9)}, ValueError, "phase 'write'.*inside the record"),
        ({"": (0, 1)}, ValueError, "name.*''"),
        ({5: (0, 1)}, ValueError, "name.*5"),
        ({"x" * 9999: (0, 99)}, ValueError, r"xx\.\.\."),
    ],
)
def test_phases_that_are_none(phases: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        correlate_energy_with_execution_phases(STEPS, phases)
    assert len(str(caught.value)) < 250
