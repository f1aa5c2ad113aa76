"""Ways to the same number agree: the meter in a sandbox, the client's estimate, the recommender."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lithowatt import EnergyMeter, PowerModel, _core
from lithowatt.analysis.platforms import AwsLambda, Worker
from lithowatt.flexecutor._estimate import Place, estimate

MEMORY_MB = 2048


def same(value: float) -> Any:
    return pytest.approx(value, rel=1e-9)


def stat(used: float) -> str:
    """/proc/stat after so many seconds of CPU time."""
    return f"cpu  {100 * used:06.0f} 0 0 10000 0 0 0 0 0 0\n"


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Lambda sandbox that shows one CPU, which never rests."""
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "f")
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", str(MEMORY_MB))
    for name, text in {
        "proc/cpuinfo": "processor\t: 0\n",
        "proc/uptime": "100.00 100.00\n",
        "proc/stat": stat(0.0),
        "sys/devices/system/cpu/online": "0\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def busy_call(root: Path) -> EnergyMeter:
    meter = EnergyMeter(root=root, methods="tdp", interval=None)
    with meter:
        pass
    with meter:
        began = time.monotonic()
        while time.monotonic() - began < 0.2:
            pass
        (root / "proc/stat").write_text(stat(time.monotonic() - began))
    return meter


def test_watts_of_a_sandbox(sandbox: Path) -> None:
    reading = busy_call(sandbox).reading
    seconds, architecture = reading.duration, reading.raw["cpu"]["architecture"]
    assert reading.method.startswith("model:lambda-")

    times = SimpleNamespace(read=0.0, compute=seconds, write=0.0)
    place = Place("aws_lambda", architecture, float(MEMORY_MB))
    client = estimate(times, {"worker_func_exec_time": seconds}, place)
    charged = AwsLambda().watts(Worker(MEMORY_MB, architecture), 1.0)
    value, low, high = (watts * seconds for watts in charged[:3])

    # Whatever else ran beside the call, one CPU was busy: the sandbox took that much.
    assert reading.machine == same(value)
    band = reading.raw["headline"]["bands"]["machine"]
    assert (band["low"], band["high"]) == (same(low), same(high))
    assert client["energy"] == same(value)
    assert client["energy_marginal"] == same(reading.machine - reading.idle)

    # The client does not know how busy the CPUs were: its band reaches from none to all of them.
    vcpus = _core.lambda_vcpus(MEMORY_MB)
    model = PowerModel.for_lambda(MEMORY_MB, architecture)
    none, all_of_them = (model.share_watts(vcpus, busy, MEMORY_MB / 1024) for busy in (0.0, vcpus))
    assert client["energy_low"] == same(none.total.low * seconds)
    assert client["energy_high"] == same(all_of_them.total.high * seconds)
    assert client["energy_low"] < low < value < high < client["energy_high"]


@pytest.mark.parametrize("estimation", ["curve", "tdp_based", "vcpu"])
def test_both_forms_of_a_shares_watts_agree(estimation: str) -> None:
    model = PowerModel.for_cpu("AMD EPYC 7763", logical_cpus=128, sockets=1)
    total = model.share_watts(16.0, 4.0, 64.0, estimation=estimation).total
    value, low, high, method = model._model.raw_estimation(estimation, 16.0, 4.0, 64.0)
    assert (value, low, high, method) == (total.value, total.low, total.high, total.source)
    if estimation == "curve":
        # Of next to no CPU it is memory's.
        alone, *_ = model._model.raw_estimation(estimation, 1e-9, 0.0, 64.0)
        assert 0.0 < alone < value
