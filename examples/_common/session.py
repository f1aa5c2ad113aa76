"""Lithops for the length of a command: its configuration, storage, executor, and what they leave.

With the localhost backend all of Lithops' files lie in one temporary folder
that goes at the end. Other backends are the user's own, from Lithops'
configuration file; there the objects of each run are deleted after it.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import os
import site
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from examples._common.workflow import Data

#: Where libraries look how many threads they may start.
THREAD_SETTINGS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


class Session:
    """One command's Lithops.

    Attributes:
        output: Folder of the results.
        scratch: Folder of everything that goes at the end.
        backend: Lithops' compute backend.
        executor: Lithops' executor, one for all runs.
        storage: Lithops' storage.
        bucket: Bucket of the workload's objects.
        config: Lithops' configuration.
        worker_settings: Environment variables that workers get from here.
    """

    def __init__(
        self, output: Path, scratch: Path, backend: str, storage: str | None, most_workers: int
    ) -> None:
        self.output = output
        self.scratch = scratch
        self.backend = backend
        self.worker_settings: list[str] = []
        self.config = _configuration(backend, storage, most_workers)
        self._write_configuration()
        # Workers must not need this package, and FlexExecutor's has the same name.
        import cloudpickle  # type: ignore[import-untyped,unused-ignore]

        cloudpickle.register_pickle_by_value(importlib.import_module("examples"))
        import lithops  # type: ignore[import-untyped,import-not-found,unused-ignore]

        self.executor: Any = lithops.FunctionExecutor(config=copy.deepcopy(self.config))
        self.storage: Any = lithops.Storage(config=copy.deepcopy(self.config))
        self.bucket: str = self.storage.bucket

    def _write_configuration(self) -> None:
        """FlexExecutor makes Storage() objects of its own, which look for a file."""
        import yaml  # type: ignore[import-untyped,unused-ignore]

        path = self.scratch / "lithops.yaml"
        path.write_text(yaml.safe_dump(self.config), "utf-8")
        path.chmod(0o600)  # it may hold credentials
        os.environ["LITHOPS_CONFIG_FILE"] = str(path)

    def new_prefix(self, name: str) -> str:
        """A prefix for the objects of one run."""
        return f"lithowatt-{name}-{uuid.uuid4().hex[:12]}"

    def put(self, prefix: str, files: Mapping[str, Sequence[Path]]) -> None:
        """Stores a workflow's inputs, by `Data.id`; their order is kept.

        Raises:
            OSError: One could not be stored.
        """
        for name, paths in files.items():
            for number, path in enumerate(paths):
                key = f"{prefix}/{name}/{number:05d}{path.suffix}"
                if self.storage.upload_file(str(path), self.bucket, key) is False:
                    raise OSError(f"cannot write {key} to bucket {self.bucket}")

    def keys(self, prefix: str, data: Data) -> list[str]:
        """Keys of one kind of files, sorted: storages list them in any order."""
        return sorted(self.storage.list_keys(self.bucket, prefix=f"{prefix}/{data.id}/"))

    def share(self, prefix: str, data: Data, worker: int, workers: int) -> list[str]:
        """Keys that one of the workers reads."""
        return share_of(self.keys(prefix, data), data.broadcast, worker, workers)

    def fetch(self, prefix: str, results: Sequence[Data], folder: Path) -> dict[str, list[Path]]:
        """Fetches what a workflow wrote, by `Data.id`.

        Raises:
            OSError: One could not be fetched.
        """
        files: dict[str, list[Path]] = {}
        for data in results:
            files[data.id] = []
            for key in self.keys(prefix, data):
                path = folder / data.id / Path(key).name
                path.parent.mkdir(parents=True, exist_ok=True)
                if self.storage.download_file(self.bucket, key, str(path)) is False:
                    raise OSError(f"cannot read {key} from bucket {self.bucket}")
                files[data.id].append(path)
        return files

    def remove(self, prefix: str) -> None:
        """Deletes the objects of one run."""
        keys = self.storage.list_keys(self.bucket, prefix=f"{prefix}/")
        if keys:
            self.storage.delete_objects(self.bucket, keys)

    def close(self) -> None:
        """Ends Lithops."""
        self.executor.__exit__(None, None, None)


def share_of(keys: Sequence[str], everything: bool, worker: int, workers: int) -> list[str]:
    """The keys that one of the workers reads, in one piece, as FlexExecutor divides them.

    >>> share_of(["a", "b", "c"], False, 1, 2)
    ['b', 'c']
    """
    if everything:
        return list(keys)
    return list(keys[worker * len(keys) // workers : (worker + 1) * len(keys) // workers])


@contextlib.contextmanager
def scratch_folder(name: str, all_of_lithops: bool) -> Iterator[Path]:
    """A temporary folder; with `all_of_lithops` Lithops keeps its files there, too.

    Lithops decides where its files go when it is imported: not before this.
    """
    changed = ("HOME", "TMPDIR", "PYTHONUSERBASE", "LITHOPS_CONFIG_FILE", "LITHOPS_CONFIG")
    before = {key: os.environ.get(key) for key in changed}
    before_folder = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix=f"{name}-", ignore_cleanup_errors=True) as folder:
        try:
            if all_of_lithops:
                # A user's own site-packages stay in view.
                os.environ.setdefault("PYTHONUSERBASE", site.getuserbase())
                os.environ["TMPDIR"] = os.environ["HOME"] = folder
                # It would win over the file that is written below.
                os.environ.pop("LITHOPS_CONFIG", None)
                tempfile.tempdir = folder
            yield Path(folder)
        finally:
            tempfile.tempdir = before_folder
            for key, value in before.items():
                if value is None:
                    os.environ.pop(key, None)
                else:
                    os.environ[key] = value


def _configuration(backend: str, storage: str | None, most_workers: int) -> dict[str, Any]:
    """Lithops' configuration: our own for localhost, else the user's."""
    if backend != "localhost":
        from lithops.config import (  # type: ignore[import-untyped,import-not-found,unused-ignore]
            load_config,
        )

        config: dict[str, Any] = load_config()
        section = config.setdefault("lithops", {})
        section["backend"] = backend
        section.pop("mode", None)
        if storage is not None:
            section["storage"] = storage
        section.setdefault("log_level", "WARNING")
        return config
    config = {}
    if storage not in (None, "localhost"):
        from lithops.config import load_config

        config = load_config()
    config["lithops"] = {
        "backend": "localhost",
        "storage": storage or "localhost",
        "log_level": "WARNING",
        # Lithops' cleaner is a process that outlives the job; the whole
        # folder goes at the end anyway.
        "data_cleaner": False,
    }
    config["localhost"] = {
        # An absolute path: the workers must run where lithowatt is installed.
        "runtime": sys.executable,
        # As many at once as are asked for, also on a machine with fewer CPUs.
        "worker_processes": most_workers,
    }
    return config


def limit_threads(session: Session, workers: int) -> None:
    """Lets each worker's libraries use its part of the CPUs and no more.

    Without it four workers on two CPUs start a pool of threads per worker that
    wait for each other, and what is metered is the waiting.
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = max(1, (cpus or 1) // workers) if session.backend == "localhost" else 1
    for name in THREAD_SETTINGS:
        os.environ[name] = str(threads)
    session.worker_settings = sorted({*session.worker_settings, *THREAD_SETTINGS})
