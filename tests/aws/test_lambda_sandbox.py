"""What a worker on Lambda tells of its start-up and of what a call is billed."""

from __future__ import annotations

import subprocess
import sys
import time
import types

import pytest

from lithowatt.aws import _sandbox, lambda_call_cost

AWS = "worker_func_aws_"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch):
    """A sandbox of the test's own, and a clock that it moves."""
    now = types.SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(_sandbox, "_sandbox", _sandbox._Sandbox())
    monkeypatch.setattr(_sandbox.time, "monotonic", lambda: now.seconds)
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    return now


def handler(runs=lambda payload: None) -> types.ModuleType:
    module = types.ModuleType("handler")
    module.function_handler = runs  # type: ignore[attr-defined]
    return module


def test_calls_of_an_invocation_share_its_time_in_their_order(clock):
    told = []

    def invocation(payload):
        clock.seconds += 0.5  # the download
        for seconds in (1.0, 0.25):
            clock.seconds += seconds
            told.append(_sandbox.call_values())
        return "done"

    module = handler(invocation)
    _sandbox.loaded(module)
    payload = {"worker_processes": 1, "call_ids": ["0", "1"]}
    assert module.function_handler(payload) == "done"

    assert [values[AWS + "billed_ms"] for values in told] == [1500, 250]
    assert [values[AWS + "region"] for values in told] == ["eu-west-1"] * 2
    assert told[0][AWS + "init_ms"] > 0 and told[1][AWS + "init_ms"] == 0
    # The next invocation of the sandbox starts anew: frozen time is nobody's.
    clock.seconds += 3600
    told.clear()
    module.function_handler(payload)
    assert told[0][AWS + "billed_ms"] == 1500


@pytest.mark.parametrize(
    ("payload", "processes"),
    [
        ({"worker_processes": 4, "call_ids": list("ab")}, 2),
        ({"worker_processes": 2, "call_ids": list("abcd")}, 2),
        ({"worker_processes": 0, "call_ids": []}, 1),
        ({"remote": True}, 1),
        (None, 1),
    ],
)
def test_calls_side_by_side_get_a_part_each(clock, payload, processes):
    def invocation(_):
        clock.seconds += 2.0

    module = handler(invocation)
    _sandbox.loaded(module)
    module.function_handler(payload)

    assert _sandbox.call_values()[AWS + "billed_ms"] == 2000 / processes


def test_what_is_not_known_is_none(clock, monkeypatch):
    monkeypatch.setenv("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start")
    monkeypatch.delenv("AWS_REGION")
    _sandbox.loaded(handler())

    values = _sandbox.call_values()
    assert values == {AWS + "region": None, AWS + "billed_ms": None, AWS + "init_ms": None}
    with pytest.raises(ValueError, match="billed_ms"):
        lambda_call_cost({**values, AWS + "memory_size": 512, AWS + "architecture": "arm64"})


def test_the_handler_gets_its_function_back(clock):
    module = handler()
    original = module.function_handler
    _sandbox.loaded(module)
    assert module.function_handler is not original
    _sandbox.unloaded(module)
    _sandbox.unloaded(module)
    assert module.function_handler is original


def test_the_age_of_a_process_is_from_its_start(tmp_path):
    code = (
        "import time; time.sleep(0.3); from lithowatt.aws import _sandbox\n"
        "print(_sandbox._process_age())"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    took = time.monotonic() - began

    # A clock tick is 10 ms.
    assert 0.29 <= float(done.stdout) <= took + 0.02


def test_the_bill_is_of_the_first_call_with_its_start_and_of_the_region_asked_for():
    stats = {
        AWS + "billed_ms": 900,
        AWS + "init_ms": 100,
        AWS + "memory_size": 2048,
        AWS + "architecture": "aarch64",
        AWS + "region": "us-east-1",
    }
    bill = lambda_call_cost(stats)

    # 1 s of 2 GB at 0.0000133334 USD, and 0.0000002 USD for the request.
    assert bill == pytest.approx(2 * 0.0000133334 + 0.0000002, rel=1e-6)
    assert bill.billed_cold_duration == 1.0
    assert lambda_call_cost(stats, region="eu-central-2") > bill
    with pytest.raises(ValueError, match="mars"):
        lambda_call_cost(stats, region="mars")
    with pytest.raises(ValueError, match="not metered on AWS Lambda"):
        lambda_call_cost({"worker_func_energy_consumption": 1.0})
