"""A workload on FlexExecutor: the same stages as its Stage, FlexData and DAG.

FlexExecutor is not on PyPI: a checkout and the folder `flexecutor` in it must
both be on PYTHONPATH. lithowatt makes its profiles carry energy, FlexExecutor
itself stays as it is.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from examples._common.records import CallRecord
from examples._common.session import Session, share_of
from examples._common.workflow import Data, Stage

_EXECUTOR = "flexecutor.workflow.executor"


def unavailable() -> str | None:
    """Why FlexExecutor cannot be used here, or None.

    Looks without importing it: it imports Lithops, for which it is too early.
    """
    if importlib.util.find_spec("flexecutor") is None:
        return "FlexExecutor cannot be imported: put a checkout and its flexecutor on PYTHONPATH"
    for module in ("workflow", "storage", "scheduling", "dataplug"):
        if importlib.util.find_spec(module) is None:
            return f"FlexExecutor cannot be imported: there is no module {module}"
    try:
        import lithowatt.flexecutor  # noqa: F401
    except ImportError:
        return "lithowatt has no part for FlexExecutor, or is not installed"
    return None


class FlexEngine:
    """Runs a workflow as FlexExecutor's `DAGExecutor.profile` does."""

    name = "flexecutor"

    def __init__(self, session: Session) -> None:
        import lithowatt.flexecutor

        self.session = session
        # Where FlexExecutor puts its profiles.
        os.environ["FLEXECUTOR_EXEC_PATH"] = str(session.output.resolve())
        os.environ["FLEX_BUCKET"] = session.bucket
        with _quiet():
            self.executor = importlib.import_module(_EXECUTOR)
            self.stage = importlib.import_module("flexecutor.workflow.stage")
            self.dag = importlib.import_module("flexecutor.workflow.dag")
            self.dataclass = importlib.import_module("flexecutor.utils.dataclass")
            self.files = _files_class(
                importlib.import_module("flexecutor.storage.storage").FlexData,
                importlib.import_module("flexecutor.utils.enums").StrategyEnum,
            )
            lithowatt.flexecutor.install()
        # Its loggers write a line per stage to stderr.
        for name in list(logging.Logger.manager.loggerDict):
            if name.partition(".")[0] in ("flexecutor", "workflow", "storage", "utils"):
                logging.getLogger(name).setLevel(logging.WARNING)

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

        Arguments as for the engine on plain Lithops. The size is in the DAG's name alone.

        Raises:
            RuntimeError: A stage failed.
        """
        cpu, memory, workers = configuration
        # The stages of a run must not share a folder with those of another.
        folder = self.session.scratch / prefix
        made: dict[str, Any] = {}
        writers: dict[str, str] = {}

        def files(data: Data) -> Any:
            return self.files(data, prefix, self.session.bucket, folder)

        for stage in stages:
            made[stage.id] = self.stage.Stage(
                stage_id=stage.id,
                func=stage.function,
                inputs=[files(data) for data in stage.inputs],
                outputs=[files(data) for data in stage.outputs],
                params=dict(stage.params),
                **({"max_concurrency": 1} if stage.single else {}),
            )
            for parent in dict.fromkeys(writers[d.id] for d in stage.inputs if d.id in writers):
                made[parent] >> made[stage.id]
            writers.update({data.id: stage.id for data in stage.outputs})
        graph = self.dag.DAG(dag)
        graph.add_stages(list(made.values()))
        config = self.dataclass.StageConfig(cpu=cpu, memory=memory, workers=workers)
        with _quiet():
            executor = self.executor.DAGExecutor(graph, executor=self.session.executor)
            _tell(executor, done)
            try:
                executor.profile([dict.fromkeys(made, config)], num_reps=1)
                records = {name: self._records(name, executor._futures.get(name)) for name in made}
            finally:
                executor.shutdown()
        return records

    def _records(self, stage: str, future: Any) -> list[CallRecord]:
        if future is None or future.error():
            raise RuntimeError(f"stage {stage} failed")
        return [
            CallRecord(times, stats)
            for times, stats in zip(future.get_timings(), future.stats, strict=True)
        ]

    def close(self) -> None:
        """Takes the change of FlexExecutor back."""
        import lithowatt.flexecutor

        lithowatt.flexecutor.uninstall()
        for name in ("FLEXECUTOR_EXEC_PATH", "FLEX_BUCKET"):
            os.environ.pop(name, None)


def _tell(executor: Any, done: Callable[[str], None]) -> None:
    """Has an executor say which stages are done: FlexExecutor itself only logs them."""
    processor = executor._processor
    process = processor.process

    def telling(stages: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        futures = process(stages, *args, **kwargs)
        for stage in stages:
            done(stage.stage_id)
        return futures

    processor.process = telling


def _files_class(flex_data: type, strategies: Any) -> type:
    """FlexData with a folder per worker.

    FlexExecutor has every worker fetch all the files, to the same paths. On one
    machine a worker would then read a file that another is just writing anew.
    So each worker's copy gets its own folder, and only the keys of its share.
    """

    class Files(flex_data):  # type: ignore[misc]
        keys: list[str]
        local_base_path: Path

        def __init__(self, data: Data, prefix: str, bucket: str, folder: Path) -> None:
            super().__init__(
                prefix=f"{prefix}/{data.id}",
                bucket=bucket,
                custom_data_id=data.id,
                read_strategy=strategies.BROADCAST if data.broadcast else strategies.SCATTER,
                local_base_path=str(folder),
                suffix=data.suffix,
            )
            self.broadcast = data.broadcast

        def scan_keys(self) -> None:
            super().scan_keys()
            self.keys = sorted(self.keys)

        def set_file_indexes(self, worker_id: int, num_workers: int) -> None:
            self.local_base_path = self.local_base_path / str(worker_id)
            self.keys = share_of(self.keys, self.broadcast, worker_id, num_workers)
            self.set_local_paths()
            self.file_indexes = (0, len(self.keys))

    return Files


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """FlexExecutor prints all profiles after each repetition."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
