"""The model by the prototype's names, and the ways to make its watts."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lithowatt import EnergyManager, EnergyMeter, PowerModel, UnknownMethodError
from lithowatt.cli.run import render
from lithowatt.model import (
    AWSLambdaEnergyEstimator,
    LambdaCPUMonitor,
    LambdaTDPEstimator,
    calculate_tdp_energy,
)
from rig import StaticTree

pytestmark = pytest.mark.slow

GIB_IN_GB = 1.073741824


def spin(seconds: float) -> None:
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        pass


# -- calculate_tdp_energy ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("percent", "seconds", "watts", "joules"),
    [(50, 10, 100, 500), (100, 3600, 65, 234_000), (0, 10, 100, 0), (12.5, 0.2, 4, 0.1)],
)
def test_tdp_energy(percent: float, seconds: float, watts: float, joules: float) -> None:
    assert calculate_tdp_energy(percent, seconds, watts) == pytest.approx(joules)


@pytest.mark.parametrize("bad", [-1, math.nan, math.inf, 10**400])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_tdp_energy_names_a_bad_number(bad: Any, place: int) -> None:
    values: list[Any] = [50.0, 10.0, 100.0]
    values[place] = bad
    name = ("cpu_percent", "execution_time", "tdp_watts")[place]
    with pytest.raises(ValueError, match=f"{name} must be a finite number of 0 or more"):
        calculate_tdp_energy(*values)


@pytest.mark.parametrize("bad", ["50", None, True, [1]])
def test_tdp_energy_names_what_is_no_number(bad: Any) -> None:
    with pytest.raises(TypeError, match="cpu_percent must be a number"):
        calculate_tdp_energy(bad, 1.0, 1.0)


# -- AWSLambdaEnergyEstimator ------------------------------------------------------------------

CALL = {"cpu_percent": 50.0, "duration": 8.0, "memory_mb": 1769}


@pytest.mark.parametrize("architecture", ["arm64", "aarch64", "x86_64"])
def test_estimator_is_the_power_model(architecture: str) -> None:
    result = AWSLambdaEnergyEstimator(architecture).estimate_energy_consumption(CALL)
    model = PowerModel.for_lambda(1769, architecture)
    package = model.vcpus_watts(1.0, 0.5).value * 8.0
    # Packages and memory, in this order of size.
    memory = result["estimated_energy"] - package
    assert 0 < memory < 8.0 * 1.10 * 1769 / 1024 * GIB_IN_GB
    assert result["energy_low"] < result["estimated_energy"] < result["energy_high"]
    ratio = result["energy_low"] / result["energy_high"]
    assert result["confidence"] == pytest.approx(math.sqrt(ratio))
    assert 0 < result["confidence"] < 1
    assert result["method"] == model.describe()
    assert result["instance_info"]["architecture"] == os.uname().machine


def test_estimator_follows_its_inputs() -> None:
    estimator = AWSLambdaEnergyEstimator("arm64")

    def joules(**changed: Any) -> float:
        result = estimator.estimate_energy_consumption({**CALL, **changed})
        return float(result["estimated_energy"])

    assert joules(duration=16.0) == pytest.approx(2 * joules())
    # Twice the memory at the same percent is twice the share.
    assert joules(memory_mb=3538) == pytest.approx(2 * joules(), rel=0.02)
    assert joules(cpu_percent=100.0) > joules() > joules(cpu_percent=0.0) > 0
    # A burst is charged what it used.
    assert joules(cpu_percent=200.0) > joules(cpu_percent=100.0)
    assert joules(duration=0) == 0


def test_estimator_by_the_tdp_of_the_share() -> None:
    estimator = AWSLambdaEnergyEstimator("arm64", estimation="tdp_based")
    result = estimator.estimate_energy_consumption(CALL)
    watts = LambdaTDPEstimator(1769, "arm64").tdp_watts
    assert result["estimated_energy"] == pytest.approx(calculate_tdp_energy(50.0, 8.0, watts))
    assert result["method"] == "model:tdp_based:lambda-arm64"


def test_estimator_by_vcpu_is_a_straight_line() -> None:
    estimator = AWSLambdaEnergyEstimator("arm64", estimation="vcpu")

    def joules(percent: float) -> float:
        result = estimator.estimate_energy_consumption({**CALL, "cpu_percent": percent})
        assert result["method"] == "model:vcpu:lambda-arm64"
        return float(result["estimated_energy"])

    model = PowerModel.for_lambda(1769, "arm64")
    package = model.vcpus_watts(1.0, 1.0).value - model.vcpus_watts(1.0, 0.0).value
    assert joules(100) - joules(0) >= 8.0 * package * (1 - 1e-9)
    curve = AWSLambdaEnergyEstimator("arm64").estimate_energy_consumption(CALL)
    assert joules(0) < joules(50) <= curve["estimated_energy"] * (1 + 1e-9)


def test_estimator_uses_the_detector_it_is_given() -> None:
    class Detector:
        def detect_instance(self) -> dict[str, Any]:
            return {"architecture": "aarch64", "is_lambda": True, "processor_type": "AMD EPYC"}

    result = AWSLambdaEnergyEstimator(instance_detector=Detector()).estimate_energy_consumption(
        CALL
    )
    assert result["method"] == "model:lambda-arm64"
    assert result["instance_info"]["processor_type"] == "AMD EPYC"


@pytest.mark.parametrize(
    ("changed", "error", "text"),
    [
        ({"memory_mb": 0}, ValueError, "memory_mb must be a whole number from 1"),
        ({"memory_mb": 1769.5}, ValueError, "memory_mb must be a whole number from 1"),
        ({"memory_mb": "1769"}, TypeError, "memory_mb must be a number"),
        ({"duration": -1.0}, ValueError, "duration must be a finite number"),
        ({"cpu_percent": math.nan}, ValueError, "cpu_percent must be a finite number"),
    ],
)
def test_estimator_names_a_bad_value(
    changed: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        AWSLambdaEnergyEstimator("arm64").estimate_energy_consumption({**CALL, **changed})


def test_estimator_names_a_missing_key() -> None:
    with pytest.raises(KeyError, match="memory_mb"):
        AWSLambdaEnergyEstimator("arm64").estimate_energy_consumption(
            {"cpu_percent": 1.0, "duration": 1.0}
        )


def test_estimator_and_unknown_estimations(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownMethodError, match='"curve", "tdp_based" or "vcpu"'):
        AWSLambdaEnergyEstimator(estimation="guess")
    monkeypatch.setenv("ENERGY_ESTIMATION_METHOD", "vcpu")
    assert "vcpu" in AWSLambdaEnergyEstimator().estimate_energy_consumption(CALL)["method"]
    monkeypatch.setenv("ENERGY_ESTIMATION_METHOD", "guess")
    with pytest.warns(UserWarning, match="ENERGY_ESTIMATION_METHOD"):
        estimator = AWSLambdaEnergyEstimator("arm64")
    assert estimator.estimate_energy_consumption(CALL)["method"] == "model:lambda-arm64"


# -- LambdaTDPEstimator ------------------------------------------------------------------------


def test_tdp_of_the_share_is_by_hardware_threads() -> None:
    tdp = LambdaTDPEstimator(1769, "arm64")
    host = tdp.model.assumptions()
    assert host["tdp_w"] is not None
    per_thread = host["tdp_w"] * host["sockets"] / host["host_threads"]
    assert (tdp.vcpus, tdp.tdp_watts) == (1.0, pytest.approx(per_thread))
    assert LambdaTDPEstimator(10240, "arm64").tdp_watts == pytest.approx(per_thread * 10240 / 1769)
    estimate = tdp.estimate(25.0, 8.0)
    assert estimate.value == pytest.approx(2 * per_thread)
    assert estimate.low <= estimate.value <= estimate.high
    assert "W>" in repr(tdp)


def test_the_package_is_never_charged_to_a_function() -> None:
    """100 W for two of 64 vCPUs was 32 times too much."""
    for architecture in ("arm64", "x86_64"):
        tdp = LambdaTDPEstimator(3538, architecture)
        assert tdp.tdp_watts < (tdp.model.tdp_watts or 0) / 8


@pytest.mark.parametrize("memory", [0, -1, 1.5, math.inf, 1 << 21])
def test_tdp_estimator_names_a_bad_memory(memory: Any) -> None:
    with pytest.raises(ValueError, match="memory_mb must be"):
        LambdaTDPEstimator(memory)


# -- LambdaCPUMonitor --------------------------------------------------------------------------


#: s, of sums of nanoseconds in floats; and the thread may start a little before its window.
ROUNDING = 2e-4


def test_cpu_monitor() -> None:
    monitor = LambdaCPUMonitor(memory_mb=884)
    outside = time.process_time()
    monitor.start()
    # What the process used besides is the meter's own thread's, which is not charged.
    inside = time.thread_time()
    spin(0.2)
    inside = time.thread_time() - inside
    monitor.stop()
    outside = time.process_time() - outside
    used = monitor.get()
    # Starting and stopping are work, too, in the window or not.
    assert inside - ROUNDING <= used["cpu_seconds"] <= outside + ROUNDING
    assert used["duration"] >= 0.2
    assert used["vcpus_bought"] == pytest.approx(884 / 1769)
    assert used["vcpus_used"] == pytest.approx(used["cpu_seconds"] / used["duration"])
    # Twice what was bought is a burst, and is said.
    assert used["cpu_percent"] == pytest.approx(100 * used["vcpus_used"] / (884 / 1769))
    assert used["steal_seconds"] >= 0
    assert monitor.get_metrics() == used


def test_what_the_meters_thread_used_before_a_window_is_not_taken_from_it() -> None:
    """It looks after other windows, and for a while after the last: milliseconds in the end."""
    meter = EnergyMeter(interval=0.001)
    short_by = []
    for _ in range(3):
        with meter:
            spin(0.08)  # less than an interval of attribution
        with EnergyMeter(interval=0.01) as second:
            used = time.thread_time()
            spin(0.25)  # two of them
            used = time.thread_time() - used
        short_by.append(used - second.reading.raw["cpu_seconds"])
    assert max(short_by) <= ROUNDING, short_by


def test_cpu_monitor_runs_again_and_may_be_asked_meanwhile() -> None:
    monitor = LambdaCPUMonitor(1769)
    with pytest.raises(RuntimeError):
        monitor.get()
    monitor.stop()
    monitor.start()
    spin(0.05)
    running = monitor.get()
    assert running["cpu_seconds"] > 0 and "running" in repr(monitor)
    began = time.monotonic()
    monitor.start()
    monitor.stop()
    assert 0 < monitor.get()["duration"] <= time.monotonic() - began


def test_cpu_monitor_sees_throttling(tmp_path: Path) -> None:
    stat = tmp_path / "sys/fs/cgroup/cpu.stat"
    stat.parent.mkdir(parents=True)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/stat").write_text("cpu  1 2 3 4 5 6 7 8 9 0\n")
    (stat.parent / "cpu.max").write_text("10000 100000\n")
    stat.write_text("usage_usec 1\nnr_periods 1\nnr_throttled 1\nthrottled_usec 5\n")
    monitor = LambdaCPUMonitor(root=tmp_path)
    assert monitor.vcpus_bought == pytest.approx(0.1)
    monitor.start()
    monitor.stop()
    monitor.start()
    stat.write_text("usage_usec 1\nnr_periods 9\nnr_throttled 7\nthrottled_usec 400005\n")
    monitor.stop()
    used = monitor.get()
    assert (used["throttled_periods"], used["periods"]) == (6, 8)
    assert used["throttled_seconds"] == pytest.approx(0.4)


def test_cpu_monitor_without_a_quota_knows_no_throttling(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    monitor = LambdaCPUMonitor(root=tmp_path)
    monitor.start()
    monitor.stop()
    used = monitor.get()
    assert (used["throttled_seconds"], used["throttled_periods"], used["periods"]) == (None,) * 3
    assert used["steal_seconds"] is None


# -- ENERGY_ESTIMATION_METHOD ------------------------------------------------------------------

CODE = """
import json, time
from lithowatt import EnergyMeter
with EnergyMeter() as m:
    began = time.monotonic()
    while time.monotonic() - began < 0.3:
        pass
print(json.dumps(m.stats()))
"""


def stats_with(**variables: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    stats: dict[str, Any] = json.loads(done.stdout)
    return {name.removeprefix("worker_func_"): value for name, value in stats.items()}


LAMBDA = {"AWS_LAMBDA_FUNCTION_NAME": "f", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "3538"}


def model_only(stats: dict[str, Any]) -> None:
    if stats["energy_quality"] != "modelled":
        pytest.skip("this machine has a counter")


@pytest.mark.parametrize("name", ["tdp_based", "vcpu", "TDP_Based "])
def test_the_method_is_named(name: str) -> None:
    stats = stats_with(ENERGY_ESTIMATION_METHOD=name, **LAMBDA)
    model_only(stats)
    plain = name.strip().lower()
    assert stats["energy_method"].startswith(f"model:{plain}:lambda-")
    assert stats["tdp_source"].startswith(f"model:{plain}:lambda-")
    assert stats["energy_low"] <= stats["energy_consumption"] <= stats["energy_high"]
    assert not [w for w in stats["energy_warnings"] if "ENERGY_ESTIMATION_METHOD" in w]


def test_tdp_based_knows_no_idle_power() -> None:
    with EnergyMeter("tdp", estimation="tdp_based") as meter:
        sum(range(1_000_000))
    assert meter.reading.idle_source == "unknown"
    shown = render(meter.reading, None)
    assert "idle power is not known" in shown and "0 idle" not in shown


def test_tdp_based_is_the_share_and_not_the_package() -> None:
    stats = stats_with(ENERGY_ESTIMATION_METHOD="tdp_based", ENERGY_METHODS="tdp", **LAMBDA)
    name = stats["worker_processor_name"]
    tdp = LambdaTDPEstimator(3538, os.uname().machine, name)
    # One thread of two is the share's TDP × its utilisation × the time.
    percent = 100 * stats["energy_cpu_time"] / (stats["energy_duration"] * tdp.vcpus)
    joules = calculate_tdp_energy(percent, stats["energy_duration"], tdp.tdp_watts)
    assert stats["energy_consumption"] == pytest.approx(joules, rel=0.02)
    assert stats["energy_idle"] == 0
    assert stats["energy_consumption"] < stats["tdp_watts"] * stats["energy_duration"] / 8


@pytest.mark.parametrize("value", ["", "curve"])
def test_the_curve_is_the_default(value: str) -> None:
    stats = stats_with(ENERGY_ESTIMATION_METHOD=value, **LAMBDA)
    model_only(stats)
    assert stats["energy_method"].startswith("model:lambda-")


@pytest.mark.parametrize("value", ["guess", "tdp", "a\nb", "x" * 5000])
def test_an_unknown_method_is_one_warning_and_the_default(value: str) -> None:
    stats = stats_with(ENERGY_ESTIMATION_METHOD=value, **LAMBDA)
    found = [w for w in stats["energy_warnings"] if "ENERGY_ESTIMATION_METHOD" in w]
    assert found == ["ENERGY_ESTIMATION_METHOD is none of curve, tdp_based and vcpu: curve is used"]
    model_only(stats)
    assert stats["energy_method"].startswith("model:lambda-")


def test_the_argument_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENERGY_ESTIMATION_METHOD", "guess")
    with EnergyMeter(methods="tdp", estimation="vcpu") as meter:
        spin(0.02)
    stats = meter.stats()
    assert stats["worker_func_energy_method"].startswith("model:vcpu:")
    assert not [w for w in stats["worker_func_energy_warnings"] if "ESTIMATION" in w]
    with pytest.raises(UnknownMethodError, match="unknown estimation"):
        EnergyMeter(estimation="guess")
    with pytest.raises(TypeError, match="estimation must be"):
        EnergyMeter(estimation=7)  # type: ignore[arg-type]


def test_a_manager_passes_it_on() -> None:
    manager = EnergyManager(methods="tdp", estimation="tdp_based")
    manager.start_monitoring()
    spin(0.02)
    stats = manager.stop_monitoring()
    assert stats["worker_func_energy_method"].startswith("model:tdp_based:")


def test_a_decorator_passes_it_on() -> None:
    @EnergyMeter(methods="tdp", estimation="vcpu")
    def f() -> None:
        spin(0.02)

    f()
    assert f.meter.reading.method.startswith("model:vcpu:")  # type: ignore[attr-defined]


def test_a_counter_is_not_estimated(tmp_path: Path) -> None:
    tree = StaticTree(tmp_path)
    with EnergyMeter(root=tmp_path, estimation="tdp_based", interval=None) as meter:
        time.sleep(0.02)
        tree.add("package-0", 2_000_000)
    stats = meter.stats()
    assert stats["worker_func_energy_method"] in ("rapl+cputime", "rapl+ebpf")
    # What the model would have said stands beside it, by its name.
    assert stats["worker_func_tdp_source"].startswith("model:tdp_based:")


def test_the_seeds_methods() -> None:
    stats = stats_with(ENERGY_METHODS="tdp,estimation,psutil", **LAMBDA)
    assert stats["energy_quality"] == "modelled"
    assert stats["tdp_available"] is True and stats["psutil_available"] is True
    assert stats["rapl_source"] == "unavailable: not asked for"


def test_lambda_charges_what_the_memory_buys() -> None:
    one = stats_with(**{**LAMBDA, "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769"})
    model_only(one)
    assert "1.00 of " in one["tdp_source"] and "Lambda memory" in one["tdp_source"]
    # The whole sandbox is ours, so its idle power is, too, whatever else ran in it; usage is of the
    # vCPU that was bought.
    assert one["energy_definition"] == "amortised"
    assert one["energy_consumption"] == one["energy_amortised"]
    assert one["energy_amortised"] == pytest.approx(one["energy_marginal"] + one["energy_idle"])
    usage = 100 * one["energy_cpu_time"] / one["energy_duration"]
    assert one["avg_cpu_usage"] == pytest.approx(usage)


def test_the_modules_are_reachable_from_the_package_alone() -> None:
    script = (
        "import lithowatt\n"
        "print(round(float(lithowatt.cost.lambda_cost(1.0, 1024, 'arm64', 'us-east-1')), 10),\n"
        "      lithowatt.PowerModel.for_lambda(1024, 'arm64').watts(50).value > 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "1.35334e-05 True\n"
