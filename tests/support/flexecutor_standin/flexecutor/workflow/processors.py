"""Stand-in: runs stages in threads."""

from concurrent.futures import ThreadPoolExecutor, wait
from copy import deepcopy

from flexecutor.storage.wrapper import worker_wrapper
from flexecutor.workflow.stage import StageState
from flexecutor.workflow.stagecontext import InternalStageContext
from flexecutor.workflow.stagefuture import StageFuture


class ThreadPoolProcessor:
    def __init__(self, executor):
        self._executor = executor
        self._pool = ThreadPoolExecutor(16)

    def process(self, stages, on_future_done=None):
        running = {
            stage.stage_id: self._pool.submit(
                lambda s=stage: self._process_stage(s, on_future_done)
            )
            for stage in stages
        }
        wait(running.values())
        return {stage_id: future.result() for stage_id, future in running.items()}

    def _process_stage(self, stage, on_future_done=None):
        workers = min(stage.resource_config.workers, stage.max_concurrency)
        for item in stage.inputs:
            item.scan_keys()
        contexts = []
        for worker in range(workers):
            inputs, outputs = deepcopy(stage.inputs), deepcopy(stage.outputs)
            for item in inputs:
                item.set_file_indexes(worker, workers)
            contexts.append(InternalStageContext(worker, workers, inputs, outputs, stage.params))
        futures = self._executor.map(
            map_function=worker_wrapper(stage.map_func),
            map_iterdata=contexts,
            runtime_memory=int(stage.resource_config.memory),
        )
        self._executor.wait(futures)
        future = StageFuture(stage.stage_id, futures)
        stage.state = StageState.FAILED if future.error() else StageState.SUCCESS
        if on_future_done:
            on_future_done(stage, future)
        return future

    def shutdown(self):
        self._pool.shutdown()
