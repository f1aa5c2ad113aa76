"""A workload on plain Lithops: a job per stage, files through Lithops' storage.

What runs in the worker is `StageCall`: read (download), compute (the stage's
function), write (upload), each a metered phase. It travels by value, so the
worker needs Lithops and, to meter, lithowatt; nothing of this package.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from examples._common.records import CallRecord
from examples._common.session import Session
from examples._common.workflow import Stage

try:
    from lithowatt.flexecutor import FunctionTimes, apply_energy, metered_stage
except ImportError:  # the calls' own stats still carry the energy of each call
    FunctionTimes = SimpleNamespace  # type: ignore[misc,assignment,unused-ignore]
    apply_energy = None  # type: ignore[assignment,unused-ignore]
    metered_stage = None  # type: ignore[assignment,unused-ignore]


class WorkerFiles:
    """One worker's files: where they are in the storage and, while it runs, on its disk.

    Attributes:
        bucket: Bucket of all the objects.
        inputs: Keys to download, by input.
        outputs: Prefix and suffix of the keys to upload, by output.
        params: The stage's parameters.
    """

    def __init__(
        self,
        bucket: str,
        inputs: Mapping[str, Sequence[str]],
        outputs: Mapping[str, tuple[str, str]],
        params: Mapping[str, Any],
    ) -> None:
        self.bucket = bucket
        self.inputs = {name: list(keys) for name, keys in inputs.items()}
        self.outputs = dict(outputs)
        self.params = dict(params)
        self.folder: str | None = None
        self.read: dict[str, list[str]] = {}
        self.written: list[tuple[str, str]] = []

    def get_input_paths(self, input_id: str) -> list[str]:
        """Local files of one input."""
        return self.read[input_id]

    def next_output_path(self, output_id: str) -> str:
        """A new local file to write."""
        prefix, suffix = self.outputs[output_id]
        name = uuid.uuid4().hex[:12] + suffix
        path = str(Path(self._own_folder()) / f"{output_id}-{name}")
        self.written.append((path, f"{prefix}/{name}"))
        return path

    def get_param(self, name: str) -> Any:
        """One of the stage's parameters."""
        return self.params[name]

    def download_files(self) -> None:
        """Fetches the inputs.

        Raises:
            OSError: One could not be fetched.
        """
        from lithops import Storage  # type: ignore[import-untyped,import-not-found,unused-ignore]

        storage = Storage()
        for name, keys in self.inputs.items():
            self.read[name] = []
            for number, key in enumerate(keys):
                path = str(Path(self._own_folder()) / f"{name}-{number}-{Path(key).name}")
                # Lithops' backends log a failure and say False.
                if storage.download_file(self.bucket, key, path) is False:
                    raise OSError(f"cannot read {key} from bucket {self.bucket}")
                self.read[name].append(path)

    def upload_files(self) -> None:
        """Stores the outputs.

        Raises:
            OSError: One could not be stored.
        """
        from lithops import Storage

        storage = Storage()
        for path, key in self.written:
            if storage.upload_file(path, self.bucket, key) is False:
                raise OSError(f"cannot write {key} to bucket {self.bucket}")

    def remove(self) -> None:
        """Removes the local files: a warm worker's disk is small."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None

    def _own_folder(self) -> str:
        if self.folder is None:
            self.folder = tempfile.mkdtemp(prefix="stage-")
        return self.folder


class StageCall:
    """Reads, computes and writes for one worker; returns the function's result and the times."""

    def __init__(self, function: Callable[[Any], Any], times: Callable[..., Any]) -> None:
        self.function = function
        self.times = times

    def __call__(self, ctx: WorkerFiles) -> tuple[Any, Any]:
        """Runs it."""
        try:
            began = time.monotonic()
            ctx.download_files()
            read = time.monotonic()
            result = self.function(ctx)
            computed = time.monotonic()
            ctx.upload_files()
            wrote = time.monotonic()
        finally:
            ctx.remove()
        return result, self.times(
            read=read - began,
            compute=computed - read,
            write=wrote - computed,
            total=wrote - began,
        )


class PlainEngine:
    """Runs stages one after another, each as one `map` of Lithops."""

    name = "lithops"

    def __init__(self, session: Session) -> None:
        self.session = session

    def run(
        self,
        dag: str,
        stages: Sequence[Stage],
        prefix: str,
        configuration: tuple[int, int, int],
        size: str,
        done: Callable[[str], None],
    ) -> dict[str, list[CallRecord]]:
        """Runs a workflow; returns what is known of each call, by stage.

        Args:
            dag: Name in the profiles.
            stages: In order.
            prefix: Of all this run's objects; the inputs are there.
            configuration: vCPUs, memory in MiB, workers.
            size: Of the input, in words.
            done: Called with the stage's id after each.
        """
        _, memory, workers = configuration
        records = {}
        for stage in stages:
            calls = [
                WorkerFiles(
                    self.session.bucket,
                    {
                        data.id: self.session.share(prefix, data, worker, count)
                        for data in stage.inputs
                    },
                    {data.id: (f"{prefix}/{data.id}", data.suffix) for data in stage.outputs},
                    stage.params,
                )
                for count in [1 if stage.single else workers]
                for worker in range(count)
            ]
            records[stage.id] = self._run_stage(stage, calls, memory)
            self._store(dag, stage, configuration, records[stage.id], size)
            done(stage.id)
        return records

    def _run_stage(
        self, stage: Stage, calls: Sequence[WorkerFiles], memory: int
    ) -> list[CallRecord]:
        call: Any = StageCall(stage.function, FunctionTimes)
        if metered_stage is not None:
            call = metered_stage(call)
        executor = self.session.executor
        futures = executor.map(
            call,
            list(calls),
            runtime_memory=memory,
            extra_env={name: os.environ[name] for name in self.session.worker_settings},
        )
        # Lithops' own bar would write to stdout.
        answers = executor.get_result(futures, show_progressbar=False)
        records = []
        for future, answer in zip(futures, answers, strict=True):
            _, times = answer
            stats = future.stats
            if apply_energy is not None and stats.get("worker_func_energy_schema") is not None:
                apply_energy(times, stats)
            times.cold_start = stats["worker_start_tstamp"] - stats["host_submit_tstamp"]
            records.append(CallRecord(times, stats))
        return records

    def _store(
        self,
        dag: str,
        stage: Stage,
        configuration: tuple[int, int, int],
        records: Sequence[CallRecord],
        size: str,
    ) -> None:
        if metered_stage is None:
            return
        from lithowatt.profiles import append_repetition

        path = self.session.output / "profiling" / dag / f"{stage.id}.json"
        times = [record.times for record in records]
        append_repetition(path, configuration, times, {"input_size": size})

    def close(self) -> None:
        """Nothing of its own."""
