"""Real Lithops jobs that keep their data in S3: MinIO's way and AWS', by the example files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import TOP
from tests.support.lithops_environments import isolated, metered, plain, run_python, site_packages
from tests.support.object_store import s3

__all__ = ["s3"]  # a fixture


pytestmark = [pytest.mark.lithops, pytest.mark.slow]

EXAMPLES = TOP / "examples" / "config"
ENERGY = "worker_func_energy_"

#: Puts an object by Lithops' storage, lets functions read and write, and deletes.
CLIENT = """
import json, sys, lithops, yaml

def double(key, storage):
    data = storage.get_object(storage.bucket, key)
    end = __import__("time").process_time() + 0.1
    while __import__("time").process_time() < end: sum(range(1000))
    storage.put_object(storage.bucket, key + "-doubled", data * 2)
    return len(data) * 2

config = yaml.safe_load(open(sys.argv[1]))
executor = lithops.FunctionExecutor(config=config)
storage = executor.storage
bucket = executor.config[config["lithops"]["storage"]]["storage_bucket"]
for name in ("a", "b"):
    storage.put_object(bucket, name, name.encode() * 50_000)
futures = executor.map(double, ["a", "b"])
results = executor.get_result(futures)
doubled = [len(storage.get_object(bucket, name + "-doubled")) for name in ("a", "b")]
json.dump({"results": results, "doubled": doubled, "stats": [f.stats for f in futures],
           "backend": storage.backend, "keys": sorted(storage.list_keys(bucket))},
          open("seen.json", "w"), default=str)
"""


def run_job(example: str, directory: Path, change: dict[str, Any], **env: str) -> dict[str, Any]:
    """Runs the client on an example's configuration, with what depends on the place changed."""
    yaml = pytest.importorskip("yaml")
    config = yaml.safe_load((EXAMPLES / f"{example}.yaml").read_text())
    for section, values in change.items():
        config.setdefault(section, {}).update(values)
    python = metered("3.8.0", directory / "worker")
    # Lithops' S3 backends are written with boto3.
    more = site_packages(plain("3.8.0", "boto3"))
    (site_packages(python) / "boto3.pth").write_text(f"{more}\n")
    config["localhost"]["runtime"] = str(python)
    isolated(directory)
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    done = run_python(python, "-c", CLIENT, "config.yaml", directory=directory, **env)
    assert done.returncode == 0, done.stdout + done.stderr
    seen: dict[str, Any] = json.loads((directory / "seen.json").read_text())
    return seen


def check(seen: dict[str, Any], backend: str) -> None:
    assert seen["backend"] == backend
    assert seen["results"] == seen["doubled"] == [100_000, 100_000]
    assert {"a", "a-doubled", "b", "b-doubled"} <= set(seen["keys"])
    for stats in seen["stats"]:
        assert 0 < stats[ENERGY + "low"] <= stats[ENERGY + "consumption"]
        assert stats["worker_task_energy_consumption"] >= stats[ENERGY + "consumption"]


def test_localhost_storage(tmp_path):
    check(run_job("config_localhost", tmp_path, {}), "localhost")


def test_minio_storage(tmp_path, s3):
    change = {"minio": {"endpoint": s3}}
    check(run_job("config_minio", tmp_path, change), "minio")


def test_aws_s3_storage(tmp_path, s3):
    # The storage of config_aws.yaml with workers of this machine; AWS_ENDPOINT_URL is
    # boto3's own way to another address, Lithops has none.
    change = {
        "lithops": {"backend": "localhost"},
        "localhost": {"worker_processes": 1},
        "aws": {"access_key_id": "testing", "secret_access_key": "testing"},
    }
    check(run_job("config_aws", tmp_path, change, AWS_ENDPOINT_URL=s3), "aws_s3")
