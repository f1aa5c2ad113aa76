"""`lithowatt compare --workload` on real backends: each runs the same function by Lithops.

localhost of both versions; a container by podman, which Lithops' localhost backend starts; and
Lithops' aws_lambda against moto, its functions in sandboxes with AWS' runtime client (see
tests/support/lambda_runtime/README.md).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lithowatt.cli.compare import lines
from lithowatt.profiles import read_profiles, read_sidecar
from tests.aws.test_lambda_runtime import EMULATOR
from tests.aws.test_lambda_runtime import missing as no_sandboxes
from tests.support import TESTS
from tests.support.lambda_runtime.environments import RUNTIME, SERVICES, environment
from tests.support.lithops_environments import (
    isolated,
    metered,
    package_folder,
    plain,
    site_packages,
)
from tests.support.pods import CONTAINERS_CONF, machine_files

CLIENT = TESTS / "support" / "compare_client.py"
WORKLOAD = TESTS / "support" / "compared_workload.py"
IMAGE = "localhost/lithowatt-test-machine"

#: podman by the name of docker. The image is empty: this machine's programs are mounted into it.
DOCKER = """#!/bin/sh
case "$1" in
    pull) exit 0 ;;
    run) shift; exec podman run --network none {options} "$@" ;;
esac
exec podman "$@"
"""

AWS = {
    "lithops": {"backend": "aws_lambda", "storage": "aws_s3"},
    "aws": {"region": "us-east-1", "access_key_id": "testing", "secret_access_key": "testing"},
    "aws_lambda": {
        "execution_role": "arn:aws:iam::123456789012:role/lithops",
        "runtime_memory": 512,
    },
    "aws_s3": {"storage_bucket": "lithops-energy"},
}

pytestmark = [pytest.mark.lithops, pytest.mark.slow]


def localhost(python: Path, version: int) -> dict[str, Any]:
    return {
        "lithops": {"backend": "localhost", "storage": "localhost"},
        "localhost": {"runtime": str(python), "version": version},
    }


def write(directory: Path, **configs: Any) -> list[str]:
    """Configurations as files; how `--config` takes them."""
    for name, config in configs.items():
        # JSON is YAML.
        (directory / f"{name}.yaml").write_text(json.dumps(config))
    return [f"{name}={name}.yaml" for name in configs]


def command(python: Path, *arguments: str) -> list[str]:
    return [str(python), "-m", "lithowatt", "compare", *arguments]


def run(
    directory: Path, command_: list[str], code: int = 0, patience: int = 600, **env: str
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command_,
        env=isolated(directory, **env),
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=patience,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return metered("3.8.0", tmp_path_factory.mktemp("worker"))


@pytest.fixture(scope="module")
def two(python: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Both versions of localhost, and k8s, of which nobody configured anything."""
    directory = tmp_path_factory.mktemp("two")
    configs = write(directory, v1=localhost(python, 1), v2=localhost(python, 2))
    done = run(
        directory,
        command(
            python,
            *("--workload", f"{WORKLOAD}:burn", "--args", '{"seconds": 0.1}'),
            *("--config", *configs, "--backends", "v1,v2,k8s"),
            *("--workers", "1,2", "--repetitions", "3", "--seed", "5"),
            *("-o", "out", "--json", "--quiet"),
        ),
    )
    return directory, json.loads(done.stdout)


def test_both_versions_of_localhost_run_each_repetition_interleaved(two):
    _, found = two
    assert [(one["backend"], one["workers"]) for one in found["backends"]] == [
        ("v1", 1),
        ("v1", 2),
        ("v2", 1),
        ("v2", 2),
    ]
    for one in found["backends"]:
        assert one["repetitions"]["used"] == 3 and one["repetitions"]["failed"] == 0
        assert one["metrics"]["cpu_seconds_s"]["mean"] == pytest.approx(
            0.1 * one["workers"], rel=0.3
        )
        low, high = one["energy"]["band"]
        assert 0 < low < one["metrics"]["energy_j"]["mean"] < high
        assert one["energy"]["quality"] and one["energy"]["method"] and one["energy"]["definition"]
    order = found["run"]["order"]
    assert found["run"]["seed"] == 5
    for round_ in (1, 2, 3):
        part = [one for one in order if one["round"] == round_]
        assert sorted((one["backend"], one["key"]) for one in part) == [
            (name, f"(1, 0, {workers})") for name in ("v1", "v2") for workers in (1, 2)
        ]
    assert {one["backend"] for one in found["warm_ups"]} == {"localhost"}
    assert len(found["warm_ups"]) == 4


def test_what_is_not_configured_is_named_and_nothing_stands_in_for_it(two):
    _, found = two
    assert [one["backend"] for one in found["left_out"]] == ["k8s"]
    assert "configuration is missing" in found["left_out"][0]["reason"]
    assert not any(one["backend"] == "k8s" for one in found["backends"])


def test_what_is_kept_is_read_as_any_profile(two):
    directory, found = two
    profiles = read_profiles([directory / "out"])
    assert [file.name for file in profiles.files] == ["burn/v1.json", "burn/v2.json"]
    assert not profiles.skipped
    records = read_sidecar(directory / "out/burn/v1.json")["configurations"]["(1, 0, 2)"]
    assert [one["round"] for one in records] == [1, 2, 3]
    assert {one["backend_name"] for one in records} == {"v1"}
    log = [json.loads(line) for line in (directory / "out/runs.ndjson").read_text().splitlines()]
    assert log[0]["seed"] == 5 and len(log) == 1 + 4 + 12
    by_hand = json.loads(
        run(
            directory,
            [sys.executable, "-m", "lithowatt", "compare", "out", "--by", "backend", "--json"],
            PYTHONPATH=str(package_folder()),
        ).stdout
    )
    ratio = {row["quantity"]: row["ratio"] for row in found["overall"] if row["memory_mb"] is None}
    again = {
        row["quantity"]: row["ratio"] for row in by_hand["overall"] if row["memory_mb"] is None
    }
    assert ratio["time_s"] == again["time_s"]


def test_a_repetition_that_fails_is_counted_and_named(python, tmp_path):
    (tmp_path / "calls").mkdir()
    configs = write(tmp_path, one=localhost(python, 2))
    done = run(
        tmp_path,
        command(
            python,
            *(
                "--workload",
                f"{WORKLOAD}:third_fails",
                "--args",
                json.dumps([str(tmp_path / "calls")]),
            ),
            *("--config", *configs, "--repetitions", "4", "--start", "as-is"),
            *("-o", "out", "--json", "--quiet"),
        ),
    )
    found = json.loads(done.stdout)
    (one,) = found["backends"]
    assert one["repetitions"]["used"] == 3 and one["repetitions"]["failed"] == 1
    (failure,) = found["failures"]
    assert failure["error"] == "ValueError: the third one" and failure["round"] == 3
    # Its joules were used all the same.
    assert failure["energy_j"] > 0
    assert "failed-repetitions" in {one["code"] for one in found["warnings"]}


def test_a_backend_whose_runs_all_fail_is_left_out_and_nothing_is_left_to_compare(python, tmp_path):
    configs = write(tmp_path, one=localhost(python, 1))
    done = run(
        tmp_path,
        command(
            python,
            *("--workload", f"{WORKLOAD}:raises", "--config", *configs, "--repetitions", "9"),
            "--quiet",
        ),
        code=2,
    )
    assert not done.stdout
    assert "one: its first 3 runs failed" in done.stderr
    assert "RuntimeError: never works" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_backend_that_nobody_answers_for_is_left_out(python, tmp_path):
    client = plain("3.8.0", "boto3")
    configs = write(tmp_path, here=localhost(python, 2), there=AWS)
    done = run(
        tmp_path,
        command(
            client,
            *("--workload", f"{WORKLOAD}:burn", "--args", "[0.1]", "--config", *configs),
            *("--repetitions", "1", "--start", "as-is", "--quiet", "--json"),
        ),
        PYTHONPATH=str(package_folder()),
        # Nobody listens there: the port is for discarding, and takes root.
        AWS_ENDPOINT_URL="http://127.0.0.1:9",
    )
    found = json.loads(done.stdout)
    (gone,) = found["left_out"]
    assert gone["backend"] == "there" and gone["reason"].startswith("it cannot be reached: ")
    assert [one["backend"] for one in found["backends"]] == ["here"]
    assert "one-backend" in {one["code"] for one in found["warnings"]}


@pytest.mark.parametrize("ship", [False, True])
def test_workers_without_lithowatt_have_no_joules_unless_the_meter_is_sent(ship, python, tmp_path):
    configs = write(tmp_path, bare=localhost(plain("3.8.0"), 2))
    done = run(
        tmp_path,
        command(
            python,
            *("--workload", f"{WORKLOAD}:burn", "--args", "[0.1]", "--config", *configs),
            *("--repetitions", "1", "--start", "as-is", "--quiet", "--json"),
            *(["--ship"] if ship else []),
        ),
    )
    found = json.loads(done.stdout)
    (one,) = found["backends"]
    assert (one["metrics"]["energy_j"] is not None) is ship
    assert ("not-metered" in {one["code"] for one in found["warnings"]}) is not ship


@pytest.mark.parametrize("version", [1, 2])
def test_workers_that_end_without_a_word_are_not_waited_for(version, python, tmp_path):
    """Lithops' client waits for ever for what its workers cannot import."""
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    runtime = tmp_path / "python"
    runtime.write_text(
        f'#!/bin/sh\ncase "$*" in *get_metadata*) exec {python} "$@" ;; esac\n'
        f'exec {tmp_path}/bare/bin/python "$@"\n'
    )
    runtime.chmod(0o755)
    configs = write(tmp_path, one=localhost(runtime, version))
    done = run(
        tmp_path,
        command(
            python,
            *("--workload", f"{WORKLOAD}:burn", "--args", "[0.1]", "--config", *configs),
            *("--workers", "2", "--repetitions", "1", "--start", "as-is", "--quiet"),
        ),
        code=2,
        patience=100,
    )
    assert "ended by themselves: ModuleNotFoundError" in done.stderr


def test_an_interruption_keeps_what_was_measured_and_ends_the_workers(python, tmp_path):
    configs = write(tmp_path, one=localhost(python, 2))
    arguments = command(
        python,
        *("--workload", f"{WORKLOAD}:burn_then_sleep", "--args", json.dumps([str(tmp_path)])),
        *("--config", *configs, "--repetitions", "9", "--start", "as-is", "-o", "out", "--json"),
    )
    process = subprocess.Popen(
        arguments,
        env=isolated(tmp_path),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "sleeping").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    worker = int((tmp_path / "sleeping").read_text())
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stdout + stderr
    found = json.loads(stdout)
    assert found["run"]["interrupted"] is True
    assert found["backends"][0]["repetitions"]["used"] == 2
    assert read_profiles([tmp_path / "out"]).files[0].configurations[0].repetitions == 2
    with pytest.raises(ProcessLookupError):
        for _ in range(200):
            os.kill(worker, 0)
            time.sleep(0.05)


# --- four -----------------------------------------------------------------------


@pytest.fixture
def docker(tmp_path: Path, python: Path) -> Iterator[dict[str, str]]:
    """The environment in which `docker` is podman, with an image of this machine."""
    for tool in ("podman", "runc"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")
    (tmp_path / "bin").mkdir()
    (tmp_path / "containers.conf").write_text(CONTAINERS_CONF)
    (tmp_path / "storage.conf").write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{tmp_path}/store"\nrunroot = "{tmp_path}/run"\n'
    )
    root = tmp_path / "root"
    packages = site_packages(plain("3.8.0"))
    options = machine_files(root, [python.parent.parent, packages.parents[2]])
    options += ["-e", f"PATH={python.parent}:/usr/bin:/bin"]
    (tmp_path / "bin/docker").write_text(DOCKER.format(options=" ".join(options)))
    (tmp_path / "bin/docker").chmod(0o755)
    env = {
        "CONTAINERS_CONF": str(tmp_path / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(tmp_path / "storage.conf"),
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
    }
    tar = ["tar", "-C", str(root), "-cf", str(tmp_path / "root.tar"), "."]
    subprocess.run(tar, check=True)
    for one in (
        ["podman", "import", str(tmp_path / "root.tar"), IMAGE],
        ["docker", "run", "--rm", "--entrypoint", "python3", IMAGE, "-c", "import lithowatt"],
    ):
        done = subprocess.run(
            one, env={**os.environ, **env}, capture_output=True, text=True, timeout=120
        )
        if done.returncode:
            pytest.skip(f"podman runs no container here: {done.stderr.strip()[-200:]}")
    yield env
    subprocess.run(
        ["podman", "rm", "--all", "--force"], env={**os.environ, **env}, capture_output=True
    )


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The addresses of the emulated Lambda, as the environment of a client."""
    reason = no_sandboxes()
    if reason is not None:
        pytest.skip(reason)
    services = environment("lambda-services", *SERVICES)
    runtime = environment("lambda-runtime", *RUNTIME)
    # The sandboxes' user has to get to what the emulator unpacks here.
    tmp_path.chmod(0o755)
    process = subprocess.Popen(
        [str(services), str(EMULATOR / "emulator.py"), str(tmp_path), str(runtime)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        addresses = json.loads(process.stdout.readline())
        yield {
            "AWS_ENDPOINT_URL": addresses["moto"],
            "AWS_ENDPOINT_URL_LAMBDA": addresses["lambda"],
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
        }
    finally:
        process.communicate(timeout=60)


@pytest.mark.cluster
@pytest.mark.timeout(1800)
def test_four_backends(python, docker, emulator, tmp_path):
    configs = write(
        tmp_path,
        **{
            "localhost-v1": localhost(python, 1),
            "localhost-v2": localhost(python, 2),
            "container": {
                "lithops": {"backend": "localhost", "storage": "localhost"},
                "localhost": {"runtime": IMAGE},
            },
            "lambda": AWS,
        },
    )
    client = plain("3.8.0", "boto3")
    env = {**docker, **emulator, "PYTHONPATH": str(package_folder())}
    arguments = [
        str(client),
        str(CLIENT),
        "compare",
        *("--workload", f"{WORKLOAD}:burn", "--args", '{"seconds": 0.3}'),
        *("--config", *configs),
        *("--memory", "512", "--workers", "1,2", "--repetitions", "3", "--seed", "7"),
        *("--ship", "-o", "out", "--json"),
    ]
    found = json.loads(run(tmp_path, arguments, patience=1500, **env).stdout)
    shown = list(lines(found))
    print("\n".join(shown))
    assert max(map(len, shown)) <= 80
    assert not found["left_out"], found["left_out"]
    names = ["localhost-v1", "localhost-v2", "container", "lambda"]
    assert list(dict.fromkeys(one["backend"] for one in found["backends"])) == names
    for one in found["backends"]:
        assert one["repetitions"]["used"] == 3, found["failures"]
        assert one["metrics"]["cpu_seconds_s"]["mean"] > 0.25 * one["workers"]
        assert one["metrics"]["energy_j"]["mean"] > 0
        on_lambda = one["backend"] == "lambda"
        assert ("model:lambda-x86_64" in one["energy"]["method"]) is on_lambda
        assert (one["metrics"]["cost_usd"] is not None) is on_lambda
    pairs = {(row["a"]["label"], row["b"]["label"]) for row in found["overall"]}
    assert len(pairs) == 6
    rounds = [one for one in found["correlation"] if one["over"] == "rounds"]
    assert all(one["n"] == 6 and one["pearson"] is not None for one in rounds)
