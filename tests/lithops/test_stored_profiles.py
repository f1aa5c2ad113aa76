"""Profiles in object storage, analysed by a real Lithops job: the result is the local one."""

from __future__ import annotations

import fnmatch
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lithowatt.errors import MalformedValueError, UnreadableFileError
from lithowatt.lithops.stored_profiles import Location, _read_one, profile_keys
from tests.support import TOP, made_profiles
from tests.support.lithops_environments import isolated, metered, plain, run_python, site_packages
from tests.support.object_store import s3

__all__ = ["s3"]  # a fixture

EXAMPLES = TOP / "examples" / "config"

#: Puts the files of a folder into the storage of the configuration, and a text that is no profile.
PUT = """
import pathlib, sys, lithops, yaml
config = yaml.safe_load(open(sys.argv[1]))
storage = lithops.Storage(config=config)
bucket = config[config["lithops"]["storage"]]["storage_bucket"]
if config["lithops"]["storage"] != "localhost":
    storage.create_bucket(bucket)
folder = pathlib.Path(sys.argv[2])
for file in sorted(folder.rglob("*.json*")):
    storage.put_object(bucket, f"runs/{file.relative_to(folder).as_posix()}", file.read_bytes())
storage.put_object(bucket, "runs/notes/about.json", b'{"no": "profile"}')
storage.put_object(bucket, "other/pi/stage.json", b"{}")
print(bucket)
"""


VERBS = (
    ["lint"],
    ["stats"],
    ["compare", "--by", "memory"],
    ["scaling"],
    ["findings"],
    ["claims", "--claims", "claims.csv"],
    ["recommend", "--minimise", "time"],
    ["plan", "--precision", "2%"],
)

#: A job of the user's whose result nobody has asked for, and then an analysis in the same executor.
UNREAD = """
import sys, lithops
from lithowatt.lithops.stored_profiles import analyse_stored

def numbered(number):
    return number + 1

def counted(profiles):
    return {"count": len(profiles.files)}

with lithops.FunctionExecutor() as executor:
    executor.call_async(numbered, 6)
    print(analyse_stored(executor, sys.argv[1], counted), executor.get_result())
"""


def made(folder: Path) -> Path:
    kinds = [
        made_profiles.Kind(workload="pi", memory_mb=memory, workers=(2, 4), seed=memory)
        for memory in (512, 1024)
    ]
    return made_profiles.write(folder, *kinds)


def test_locations() -> None:
    where = Location.parse("bucket/runs/2026/")
    assert where == Location("bucket", "runs/2026")
    assert where.name_of("runs/2026/pi_512Mb/stage.json") == "pi_512Mb/stage.json"
    assert where.name_of("runs/2026/stage.json") == "2026/stage.json"
    assert Location.parse("bucket").name_of("stage.json") == "bucket/stage.json"
    with pytest.raises(MalformedValueError, match="BUCKET/PREFIX"):
        Location.parse("/runs")


def test_a_prefix_without_profiles_is_told() -> None:
    class Storage:
        def list_keys(self, bucket: str, prefix: str | None) -> list[str]:
            return [f"{prefix}readme.txt"]

    with pytest.raises(UnreadableFileError, match="no object below it"):
        profile_keys(Storage(), Location("bucket", "runs"))


def test_a_prefix_is_no_pattern(tmp_path: Path) -> None:
    """Lithops' localhost storage takes it for one, so that `[512MB]` is one character."""
    made(tmp_path)
    profile = next(tmp_path.rglob("*.json")).read_bytes()

    class Storage:
        keys = ("sort5/a.json", "sort[512MB]/a.json", "sort[512MB]/a.json.energy")

        def __init__(self) -> None:
            self.read: list[str] = []

        def list_keys(self, bucket: str, prefix: str | None) -> list[str]:
            return fnmatch.filter(self.keys, f"{prefix or ''}*")

        def get_object(self, bucket: str, key: str) -> bytes:
            self.read.append(key)
            return b"" if key.endswith(".energy") else profile

    storage = Storage()
    assert profile_keys(storage, Location("profiles", "sort[512MB]")) == ["sort[512MB]/a.json"]
    assert profile_keys(storage, Location("profiles", "")) == list(storage.keys[:2])
    _read_one("profiles", "sort[512MB]/a.json", "a.json", None, None, storage)
    assert storage.read == ["sort[512MB]/a.json", "sort[512MB]/a.json.energy"]


def run_job(example: str, directory: Path, change: dict[str, Any], **env: str) -> None:
    """Analyses the same profiles from a folder and from storage by the same command."""
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
    folder = made(directory / "runs")
    (folder / "notes").mkdir()
    (folder / "notes" / "about.json").write_text('{"no": "profile"}')

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run_python(
            python,
            *arguments,
            directory=directory,
            LITHOPS_CONFIG_FILE=str(directory / "config.yaml"),
            **env,
        )

    put = run("-c", PUT, "config.yaml", str(folder))
    assert put.returncode == 0, put.stdout + put.stderr
    bucket = put.stdout.strip().splitlines()[-1]
    (directory / "claims.csv").write_text(
        "printed,formula,configuration\n1.5,mean(compute),memory_mb=512\n"
    )
    for verb in VERBS[: None if example == "config_localhost" else 4]:
        local = run("-m", "lithowatt", "profile", *verb, "--json", str(folder))
        stored = run("-m", "lithowatt", "profile", *verb, "--json", "--lithops", f"{bucket}/runs")
        assert stored.returncode == local.returncode, stored.stdout + stored.stderr
        results = [json.loads(one.stdout) for one in (local, stored)]
        for one in results:
            assert one.pop("created")
        assert results[0] == results[1]
        assert [one["file"] for one in results[0]["skipped"]] == ["notes/about.json"]
        assert len(results[0]["inputs"]) == 2


@pytest.mark.lithops
@pytest.mark.slow
def test_from_localhost_storage(tmp_path: Path) -> None:
    run_job("config_localhost", tmp_path, {"localhost": {"storage_bucket": "profiles"}})


@pytest.mark.lithops
@pytest.mark.slow
def test_results_that_nobody_asked_for_so_far_stay_the_users(tmp_path: Path) -> None:
    python = metered("3.8.0", tmp_path / "worker")
    isolated(tmp_path)
    (tmp_path / "config.yaml").write_text(
        "lithops: {backend: localhost, storage: localhost}\n"
        f"localhost: {{runtime: {python}, storage_bucket: profiles}}\n"
    )
    folder = made(tmp_path / "runs")
    env = {"LITHOPS_CONFIG_FILE": str(tmp_path / "config.yaml")}
    put = run_python(python, "-c", PUT, "config.yaml", str(folder), directory=tmp_path, **env)
    assert put.returncode == 0, put.stdout + put.stderr
    (tmp_path / "unread.py").write_text(UNREAD)
    done = run_python(python, "unread.py", "profiles/runs", directory=tmp_path, **env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip().splitlines()[-1] == "{'count': 2} 7"


@pytest.mark.lithops
@pytest.mark.slow
def test_from_minio(tmp_path: Path, s3: str) -> None:
    run_job("config_minio", tmp_path, {"minio": {"endpoint": s3}})
