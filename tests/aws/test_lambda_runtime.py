"""Lithops' aws_lambda backend against AWS' runtime client, in sandboxes as poor as Lambda's.

Everything on the way is the real thing but AWS itself: Lithops deploys its runtime, its builder
function builds its layer with pip, a client sends the meter along with a job, `lithowatt lithops
runtime --apply` attaches our layer, and a client without lithowatt calls functions; see
tests/support/lambda_runtime/README.md.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lithowatt.aws import lambda_call_cost
from lithowatt.cost import lambda_price
from lithowatt.lithops import build_layer
from tests.support import TESTS
from tests.support.lambda_runtime.environments import RUNTIME, SERVICES, environment
from tests.support.lithops_environments import isolated
from tests.support.wheels import ANY_GLIBC, pack_wheel

EMULATOR = TESTS / "support" / "lambda_runtime"

LITHOPS = "3.8.0"
ENERGY = "worker_func_energy_"
AWS = "worker_func_aws_"
MEMORY = 512

SCENARIOS = [
    {"name": "burn", "function": "burn", "arguments": [1, 2, 3]},
    {"name": "warm", "function": "burn", "arguments": [4]},
    {"name": "poverty", "function": "poverty", "arguments": [1]},
    {"name": "raises", "function": "raises", "arguments": [1]},
    {"name": "killed", "function": "killed", "arguments": [1]},
    {
        "name": "off",
        "function": "burn",
        "arguments": [5],
        "env": {"ENERGY_MONITORING_ENABLED": "false"},
    },
]

SHIPPED = {"name": "shipped", "function": "burn", "arguments": [6, 7]}

pytestmark = [pytest.mark.lithops, pytest.mark.slow]


def missing() -> str | None:
    """Why there can be no sandboxes here."""
    if platform.machine() != "x86_64":
        return "Lithops deploys its default Lambda runtime for x86_64 only"
    if os.getuid() != 0:
        return "sandboxes take root, to mount and to change root"
    if shutil.which("unshare") is None:
        return "there is no unshare (util-linux)"
    tried = subprocess.run(
        ["unshare", "--mount", "--pid", "--ipc", "--fork", "mount", "-t", "tmpfs", "x", "/mnt"],
        capture_output=True,
        text=True,
    )
    return f"no namespaces here: {tried.stderr.strip()}" if tried.returncode else None


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the client saw of each call, what `--apply` said, and the sandboxes' logs."""
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    services = environment("lambda-services", *SERVICES)
    runtime = environment("lambda-runtime", *RUNTIME)
    client = environment(f"lambda-client-{LITHOPS}", f"lithops=={LITHOPS}", "boto3")
    directory = tmp_path_factory.mktemp("lambda")
    # The sandboxes' user has to get to what the emulator unpacks here.
    directory.chmod(0o755)
    emulator = subprocess.Popen(
        [str(services), str(EMULATOR / "emulator.py"), str(directory), str(runtime)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert emulator.stdin is not None and emulator.stdout is not None
        addresses = json.loads(emulator.stdout.readline())
        env = isolated(
            directory,
            AWS_ENDPOINT_URL=addresses["moto"],
            AWS_ENDPOINT_URL_LAMBDA=addresses["lambda"],
            AWS_ACCESS_KEY_ID="testing",
            AWS_SECRET_ACCESS_KEY="testing",
        )
        config = {
            "lithops": {"backend": "aws_lambda", "storage": "aws_s3"},
            "aws": {
                "region": "us-east-1",
                "access_key_id": "testing",
                "secret_access_key": "testing",
            },
            "aws_lambda": {
                "execution_role": "arn:aws:iam::123456789012:role/lithops",
                "runtime_memory": MEMORY,
                "env_vars": [
                    {"name": "ENERGY_METHODS", "value": "tdp,estimation,psutil"},
                    {"name": "ENERGY_COLLECTION_INTERVAL", "value": "100"},
                ],
            },
            "aws_s3": {"storage_bucket": "lithops-energy"},
        }
        # JSON is YAML.
        (directory / "config.yaml").write_text(json.dumps(config))
        plan = {"config": config, "scenarios": SCENARIOS}
        (directory / "plan.json").write_text(json.dumps(plan))
        shipping = {"config": config, "scenarios": [SHIPPED], "ship": True}
        (directory / "shipping.json").write_text(json.dumps(shipping))
        wheel = pack_wheel(directory)

        def run(*command: str, **more: str) -> str:
            done = subprocess.run(
                [str(client), *command],
                env={**env, **more},
                cwd=directory,
                capture_output=True,
                text=True,
                timeout=300,
            )
            assert done.returncode == 0, done.stdout + done.stderr + logs(directory)
            return done.stdout

        package = Path(sys.modules["lithowatt"].__file__ or "").parent.parent
        apply = [
            *("-c", LOOSE, "lithops", "runtime", "--backend", "aws_lambda", "--apply"),
            *("--wheel", str(wheel), "--config", "config.yaml"),
        ]
        client_script = str(EMULATOR / "client.py")
        # Deploys Lithops' default runtime, and leaves it as it is.
        run(client_script, "shipping.json", "shipped.json", PYTHONPATH=str(package))
        applied = [run(*apply, PYTHONPATH=str(package)) for _ in range(2)]
        run(client_script, "plan.json", "seen.json")
        calls = json.loads((directory / "seen.json").read_text())
        calls |= json.loads((directory / "shipped.json").read_text())
        return {**calls, "applied": applied, "logs": logs(directory)}
    finally:
        emulator.communicate(timeout=60)


#: The command line, for a wheel that was packed here and needs the glibc that is here.
LOOSE = f"""
import sys
from lithowatt.lithops import _layer
_layer.GLIBC_LIMIT = {ANY_GLIBC}
_layer.build_layer.__kwdefaults__["glibc"] = {ANY_GLIBC}
from lithowatt.cli import main
sys.exit(main(sys.argv[1:]))
"""


def logs(directory: Path) -> str:
    files = sorted(directory.glob("unpacked/*/log.txt"))
    return "\n".join(f"{file.parent.name}:\n{file.read_text()[-3000:]}" for file in files)


def stats(seen: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [call["stats"] for call in seen[name]]


def test_the_layer_is_attached_once_however_often_it_is_applied(seen):
    first, second = seen["applied"]

    assert "attached to lithops-worker-" in first
    assert first == second
    assert ":layer:lithowatt:1" in first


def test_three_asynchronous_calls_carry_their_energy_with_its_band(seen):
    assert [call["result"] for call in seen["burn"]] == [1, 4, 9]
    for one in stats(seen, "burn"):
        assert one[ENERGY + "quality"] == "modelled"
        assert one[ENERGY + "method"] == "model:lambda-x86_64"
        assert 0 < one[ENERGY + "low"] < one[ENERGY + "consumption"] < one[ENERGY + "high"]
        # burn() uses 0.3 s of CPU.
        assert 0.25 < one[ENERGY + "cpu_time"] < 0.6
        assert one["worker_task_energy_consumption"] >= one[ENERGY + "consumption"]


def test_memory_and_architecture_are_the_function_s_and_the_host_does_not_count(seen):
    for one in stats(seen, "burn"):
        assert one[AWS + "is_lambda"] is True
        assert one[AWS + "instance_type"] == "lambda"
        assert one[AWS + "architecture"] == "x86_64"
        assert one[AWS + "memory_size"] == MEMORY
        assert one["worker_func_container_runtime"] == "lambda"
        assert "0.29 of 2 CPUs by Lambda memory" in one["worker_func_tdp_source"]


def test_settings_of_the_function_s_environment_are_honoured(seen):
    one = stats(seen, "burn")[0]

    # tdp,estimation,psutil leaves the counters alone.
    for method in ("rapl", "perf", "ebpf"):
        assert one[f"worker_func_{method}_source"] == "unavailable: not asked for"
    assert one["worker_func_psutil_available"] is True
    (off,) = stats(seen, "off")
    assert not any(key.startswith(ENERGY) for key in off)
    assert seen["off"][0]["result"] == 25


def test_starting_a_sandbox_is_told_once(seen):
    cold = [one for one in stats(seen, "burn") if one[AWS + "init_ms"] > 0]
    (warm,) = stats(seen, "warm")

    assert cold
    for one in cold:
        assert one["worker_task_energy_startup"] > 0
        assert one["worker_task_cold_start"] is True
    assert warm[AWS + "init_ms"] == 0
    assert warm["worker_task_energy_startup"] == 0.0
    assert warm["worker_task_cold_start"] is False


def test_a_call_s_bill_is_its_time_by_its_memory_and_the_request(seen):
    price = lambda_price("x86_64", "us-east-1")
    for one in [*stats(seen, "burn"), *stats(seen, "warm")]:
        assert one[AWS + "region"] == "us-east-1"
        # The invocation holds the task, of which upstream tells the time.
        assert one[AWS + "billed_ms"] >= int(1000 * one[ENERGY + "duration"])
        bill = lambda_call_cost(one)
        billed = (one[AWS + "billed_ms"] + one[AWS + "init_ms"]) / 1000
        assert bill.gb_seconds == pytest.approx(billed * MEMORY / 1024)
        assert bill == pytest.approx(bill.gb_seconds * price.gb_second + price.request)


def test_the_meter_travels_to_a_deployed_runtime_without_a_layer(seen):
    assert [call["result"] for call in seen["shipped"]] == [36, 49]
    for one in stats(seen, "shipped"):
        assert one[ENERGY + "method"] == "model:lambda-x86_64"
        assert 0 < one[ENERGY + "low"] < one[ENERGY + "consumption"] < one[ENERGY + "high"]
        assert one[AWS + "memory_size"] == MEMORY
        # Only a worker with lithowatt knows of the rest.
        assert not any(key.startswith("worker_task_") for key in one)
        assert AWS + "billed_ms" not in one


def test_calls_that_end_badly_carry_energy(seen):
    assert seen["raises"][0]["error"] and seen["killed"][0]["error"]
    (raised,), (killed,) = stats(seen, "raises"), stats(seen, "killed")

    assert raised[ENERGY + "consumption"] > 0
    assert "task window" not in raised[ENERGY + "method"]
    assert killed[ENERGY + "consumption"] > 0
    assert "task window" in killed[ENERGY + "method"]


def test_the_sandbox_was_poor_and_nothing_was_written(seen):
    (poverty,) = [call["result"] for call in seen["poverty"]]

    assert poverty["uid"] == 993
    assert poverty["capabilities"] == 0
    assert poverty["perf_refused"] and poverty["bpf_refused"]
    assert not poverty["powercap"] and not poverty["shm"]
    assert poverty["writable"] == ["/tmp"]
    # The meter came from the layer, and left nothing, in /tmp or elsewhere.
    assert poverty["lithowatt"] == "/opt/python/lithowatt/__init__.py"
    assert poverty["written"] == []


def test_the_meter_logs_nothing(seen):
    assert "lithowatt" not in seen["logs"]


def test_the_client_had_no_lithowatt(seen):
    client = environment(f"lambda-client-{LITHOPS}", f"lithops=={LITHOPS}", "boto3")
    done = subprocess.run([str(client), "-c", "import lithowatt"], capture_output=True, cwd="/")

    assert done.returncode != 0


def test_a_layer_of_the_packed_wheel_is_what_was_attached(seen, tmp_path):
    layer = build_layer(tmp_path / "layer.zip", pack_wheel(tmp_path), glibc=ANY_GLIBC)

    assert f"{layer.size} bytes" in seen["applied"][0]
