"""The report of executions: its numbers follow from what is given, and nothing counts twice."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lithowatt import EnergyMeter
from lithowatt._support.process import ProcessIdentity
from lithowatt.meter._reading import Reading
from lithowatt.report import EnhancedEnergyLogger, generate_energy_report, read_energy_log


def _stats(joules: float | None, start: float, **more: Any) -> dict[str, Any]:
    """Stats of a Lithops call."""
    known = joules is not None
    plain = {
        "energy_consumption": joules,
        "energy_low": joules / 2 if known else None,
        "energy_high": joules * 4 if known else None,
        "energy_marginal": joules,
        "energy_definition": "marginal" if known else None,
        "energy_quality": "modelled" if known else None,
        "energy_method": "model:a" if known else None,
        "energy_source": "modelled: model:a" if known else "unavailable: no model",
        "energy_duration": 2.0 + start / 1000,
        "energy_cpu_time": 1.8,
        "avg_cpu_usage": 90.0,
    }
    stats = {f"worker_func_{key}": value for key, value in plain.items()}
    return {**stats, "worker_func_start_tstamp": start, **more}


class Future:
    """What a report reads of a future of Lithops."""

    def __init__(self, stats: dict[str, Any], name: str = "work") -> None:
        self.stats = stats
        self.function_name = name


def _codes(report: dict[str, Any]) -> list[str]:
    return [one["code"] for one in report["recommendations"]]


def test_four_parts_of_log_futures_stats_and_readings(tmp_path: Path) -> None:
    logger = EnhancedEnergyLogger("k8s", path=tmp_path / "log")
    logger.log_energy_execution("extract", _stats(8.0, 1))
    logger.log_energy_execution("load", _stats(1.0, 2))
    logger.log_energy_execution("load", _stats(None, 3))
    with EnergyMeter(label="here") as meter:
        sum(range(1_000_000))
    given = [*read_energy_log(tmp_path / "log"), Future(_stats(1.0, 4)), _stats(2.0, 5), meter]
    report = logger.generate_energy_report(given)
    assert list(report) == [
        "execution_summary",
        "energy_breakdown",
        "efficiency_metrics",
        "recommendations",
    ]
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    summary = report["execution_summary"]
    assert (summary["executions"], summary["measured"], summary["given_twice"]) == (6, 5, 0)
    assert summary["reasons"] == {"no model": 1}
    assert summary["joules"] == pytest.approx(12.0 + meter.joules)
    stages = report["energy_breakdown"]["by_stage"]
    assert set(stages) == {"extract", "load", "work", "(no name)", "here"}
    assert sum(one["share"] for one in stages.values()) == pytest.approx(1.0)
    assert stages["load"]["joules"] == 1.0 and stages["load"]["not_measured"] == 1
    assert set(report["energy_breakdown"]["by_backend"]) == {"k8s", "(no name)"}


def test_the_band_of_a_sum_is_that_of_a_common_error() -> None:
    report = generate_energy_report([_stats(2.0, 1), _stats(4.0, 2)])
    summary, metrics = report["execution_summary"], report["efficiency_metrics"]
    assert [summary[f"joules{end}"] for end in ("", "_low", "_high")] == [6.0, 3.0, 24.0]
    assert summary["mean_joules"] == 3.0 and summary["quality"] == "modelled"
    assert metrics["mean_watts"] == pytest.approx(6.0 / (2.001 + 2.002))
    assert metrics["joules_per_execution_high"] == 12.0
    assert metrics["joules_per_cpu_second"] == pytest.approx(6.0 / 3.6)
    assert metrics["cpu_usage"] == pytest.approx(0.9) and metrics["measured_share"] == 1.0
    assert metrics["reasons"] == {}


def test_the_quality_of_a_sum_is_the_worst() -> None:
    stats = [
        _stats(1.0, start, worker_func_energy_quality=quality)
        for start, quality in enumerate(("measured", "modelled", "attributed"))
    ]
    assert generate_energy_report(stats)["execution_summary"]["quality"] == "modelled"
    assert generate_energy_report(stats[::2])["execution_summary"]["quality"] == "attributed"


def test_a_window_that_is_given_twice_counts_once() -> None:
    stats = _stats(2.0, 1, worker_task_energy_consumption=3.0)
    entry = EnhancedEnergyLogger("k8s").log_energy_execution("map", stats)
    report = generate_energy_report([Future(stats, ""), entry, stats])
    assert report["execution_summary"]["given_twice"] == 2
    assert report["execution_summary"]["joules"] == 2.0
    assert set(report["energy_breakdown"]["by_stage"]) == {"map"}
    assert set(report["energy_breakdown"]["by_backend"]) == {"k8s"}


def test_a_function_is_inside_of_its_task() -> None:
    calls = [
        _stats(
            2.0,
            start,
            worker_task_energy_consumption=3.0,
            worker_task_energy_startup=0.5,
            worker_task_cold_start=True,
        )
        for start in (1, 2)
    ]
    report = generate_energy_report(calls)
    assert report["execution_summary"]["joules"] == 4.0
    assert report["energy_breakdown"]["beside_functions"]["joules"] == 2.0
    assert report["energy_breakdown"]["startup"] == {
        "calls": 2,
        "cold_starts": 2,
        "joules": 1.0,
        "reason": None,
    }
    texts = {one["code"]: one["text"] for one in report["recommendations"]}
    assert texts["beside_functions"].startswith(
        "Lithops' tasks used 2 J beside the 4 J of 2 functions (50%)"
    )
    assert texts["startup"].startswith(
        "starting 2 workers used 1 J, the functions of the same calls 4 J (25%)"
    )


def test_definitions_are_never_added_to_each_other() -> None:
    other = _stats(10.0, 2, worker_func_energy_definition="amortised")
    other["worker_func_energy_marginal"] = 3.0
    summary = generate_energy_report([_stats(2.0, 1), other])["execution_summary"]
    assert (summary["joules"], summary["definition"]) == (5.0, "marginal")
    assert summary["joules_low"] is None and summary["sd_joules"] is None
    del other["worker_func_energy_marginal"]
    summary = generate_energy_report([_stats(2.0, 1), other])["execution_summary"]
    assert summary["joules"] is None and "definitions differ" in summary["reason"]


def test_readings_that_overlap_have_no_sum() -> None:
    with EnergyMeter(label="outer") as outer:
        with EnergyMeter(label="inner") as inner:
            sum(range(1_000_000))
        sum(range(1_000_000))
    report = generate_energy_report([outer, inner])
    summary = report["execution_summary"]
    assert summary["joules"] is None and "overlap" in summary["reason"]
    assert summary["joules_high"] is None
    assert report["efficiency_metrics"]["mean_watts"] is None
    assert "overlap" in report["efficiency_metrics"]["reasons"]["mean_watts"]
    stages = report["energy_breakdown"]["by_stage"]
    assert stages["outer"]["joules"] == outer.joules and stages["outer"]["share"] is None
    with EnergyMeter(label="after") as after:
        sum(range(1_000_000))
    assert generate_energy_report([outer, after])["execution_summary"]["joules"] is not None


def _by(maker: ProcessIdentity | None) -> Reading:
    """A reading of 2 J in the window of the others, as it arrives from a process."""
    flat = {"energy_consumption": 2.0, "energy_definition": "marginal", "energy_scope": "process"}
    reading = Reading({"window_ns": (100, 200), "label": str(maker)}, flat)
    if maker is not None:
        reading._made_by = tuple(maker)
    return reading


HERE = ProcessIdentity("boot", "boot/1", 7, (3, 1))


@pytest.mark.parametrize(
    ("other", "joules"),
    [
        (HERE, None),
        (HERE._replace(process=8), 4.0),
        (HERE._replace(boot="x", place="x/1"), 4.0),
        (HERE._replace(place="boot/2"), 4.0),
        # A process that it started, and one that started it.
        (HERE._replace(process=8, ancestors=(7, 3, 1)), None),
        (HERE._replace(process=3, ancestors=(1,)), None),
        (HERE._replace(process=8, ancestors=(7, 3, 1), place="boot/2"), 4.0),
        (None, 4.0),
    ],
)
def test_windows_of_other_processes_lie_beside_each_other(
    other: ProcessIdentity | None, joules: float | None
) -> None:
    summary = generate_energy_report([_by(HERE), _by(other)])["execution_summary"]
    assert summary["joules"] == joules
    assert (summary["reason"] is None) == (joules is not None)


def test_a_reading_says_which_process_made_it() -> None:
    with EnergyMeter() as meter:
        sum(range(1000))
    maker = meter.reading._maker
    assert maker is not None and maker.process == os.getpid()
    assert maker.ancestors[0] == os.getppid()
    assert pickle.loads(pickle.dumps(meter.reading))._maker == maker
    code = (
        "import os, pickle, sys; from lithowatt import EnergyMeter; m = EnergyMeter(); m.start();"
        "m.stop(); sys.stdout.buffer.write(pickle.dumps(m.reading))"
    )
    sent = pickle.loads(subprocess.check_output([sys.executable, "-c", code]))
    assert sent._maker.process != os.getpid() and os.getpid() in sent._maker.ancestors
    assert sent._maker.place == maker.place


def test_starts_are_compared_with_functions_of_the_same_calls() -> None:
    cold = _stats(1.0, 1, worker_task_energy_startup=0.1, worker_task_cold_start=True)
    # A warm call with its task, whose function would make the part larger or smaller.
    warm = _stats(0.1, 2, worker_task_energy_consumption=0.1)
    assert "startup" not in _codes(generate_energy_report([cold, warm]))
    cold["worker_task_energy_startup"] = 0.5
    lost = _stats(None, 3, worker_task_energy_startup=9.0, worker_task_cold_start=True)
    report = generate_energy_report([cold, warm, lost])
    (one,) = (one for one in report["recommendations"] if one["code"] == "startup")
    assert one["numbers"] == {"joules": 0.5, "functions_joules": 1.0, "part": 0.5}
    assert one["text"].startswith("starting 1 worker used 0.5 J, the functions of the same calls")


def test_phases_are_told_as_parts() -> None:
    stats = [_stats(5.0, start, worker_func_energy_phase_read=1.5) for start in (1, 2)]
    report = generate_energy_report(stats)
    assert report["energy_breakdown"]["phases"] == {"read": 3.0}
    assert report["execution_summary"]["joules"] == 10.0


def test_what_was_not_measured_is_none_with_its_reason() -> None:
    report = generate_energy_report([_stats(None, 1), {}])
    summary, metrics = report["execution_summary"], report["efficiency_metrics"]
    assert summary["joules"] is None and summary["mean_joules"] is None
    assert summary["reason"] == "no model"
    assert metrics["mean_watts"] is None and metrics["reasons"]["mean_watts"] == "no model"
    assert metrics["measured_share"] == 0.0
    assert report["energy_breakdown"]["beside_functions"]["joules"] is None
    (one,) = report["recommendations"]
    assert one["code"] == "not_measured"
    assert one["numbers"] == {"not_measured": 2, "executions": 2}


def test_recommendations_follow_the_numbers() -> None:
    even = [
        {"stage": name, "backend": "x", "energy_metrics": {**_stats(1.0, start), **NARROW}}
        for start, name in enumerate(("a", "b", "c"))
    ]
    assert generate_energy_report(even)["recommendations"] == []
    even[0]["energy_metrics"] = {**_stats(6.0, 0), "worker_func_energy_low": 5.0}
    even[0]["energy_metrics"]["worker_func_energy_high"] = 6.0
    (one,) = generate_energy_report(even)["recommendations"]
    assert one["code"] == "dominant_stage"
    assert one["text"].startswith("the stage a used 6 of 8 J (75.0%)")
    assert one["numbers"] == {"joules": 6.0, "sum_joules": 8.0, "share": 0.75}
    even[0]["energy_metrics"]["worker_func_energy_cpu_time"] = 0.4
    report = generate_energy_report(even)
    assert _codes(report) == ["dominant_stage", "waiting"]
    assert report["recommendations"][1]["text"].startswith(
        "the stage a had a CPU for 20% of the time (0.4 of 2 s)"
    )
    wide = generate_energy_report([_stats(2.0, 1)])
    assert _codes(wide) == ["modelled"]
    assert "8 times the lower (1 to 8 J)" in wide["recommendations"][0]["text"]


NARROW = {"worker_func_energy_low": 1.0, "worker_func_energy_high": 1.0}


def test_nothing_at_all() -> None:
    report = generate_energy_report([])
    assert report["execution_summary"]["reason"] == "there are no executions"
    assert report["recommendations"] == []
    assert report["efficiency_metrics"]["measured_share"] is None


@pytest.mark.parametrize("given", [3, "log.jsonl", [object()], [[{}]], None])
def test_anything_else_is_one_error(given: Any) -> None:
    with pytest.raises(TypeError, match="expected entries of an energy log, futures of Lithops"):
        generate_energy_report(given)


def test_numbers_that_cannot_be_are_not_taken() -> None:
    stats = _stats(2.0, 1, worker_func_energy_low=3.0)  # above the value
    assert generate_energy_report(stats)["execution_summary"]["joules_low"] is None
    for bad in ("2", True, float("nan"), -1.0):
        stats = _stats(2.0, 1, worker_func_energy_consumption=bad)
        assert generate_energy_report(stats)["execution_summary"]["joules"] is None
