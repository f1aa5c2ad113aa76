"""Stand-in: runs workflows and profiles them."""

import os
from enum import Enum

from flexecutor.utils.dataclass import FunctionTimes, StageConfig
from flexecutor.utils.utils import load_profiling_results, save_profiling_results
from flexecutor.workflow.processors import ThreadPoolProcessor


class AssetType(Enum):
    MODEL = ("model", ".pkl")
    PROFILE = ("profiling", ".json")


class DAGExecutor:
    def __init__(self, dag, executor=None, scheduler=None):
        self._dag = dag
        self._executor = executor
        self._processor = ThreadPoolProcessor(executor)
        self._base_path = os.environ.get("FLEXECUTOR_EXEC_PATH") or os.getcwd()
        self._futures = {}

    def _get_asset_path(self, stage, asset_type):
        folder, suffix = asset_type.value
        os.makedirs(f"{self._base_path}/{folder}/{self._dag.dag_id}", exist_ok=True)
        return f"{self._base_path}/{folder}/{self._dag.dag_id}/{stage.stage_id}{suffix}"

    def _store_profiling(self, profile_data, new_profile_data, resource_config):
        metrics = profile_data.setdefault(resource_config.key, {})
        for name in FunctionTimes.profile_keys():
            row = [getattr(times, name) for times in new_profile_data]
            metrics.setdefault(name, []).append(row)

    def profile(self, config_space, num_reps=1):
        profiles = {}
        for stage in self._dag.stages:
            path = self._get_asset_path(stage, AssetType.PROFILE)
            profiles[stage.stage_id] = load_profiling_results(path)
        for _ in range(num_reps):
            for configuration in config_space:
                for stage in self._dag.stages:
                    stage.resource_config = configuration[stage.stage_id]
                futures = self.execute()
                for stage in self._dag.stages:
                    future = futures.get(stage.stage_id)
                    if future and not future.error():
                        profile = profiles[stage.stage_id]
                        times = future.get_timings()
                        self._store_profiling(profile, times, configuration[stage.stage_id])
                        path = self._get_asset_path(stage, AssetType.PROFILE)
                        save_profiling_results(path, profile)

    def execute(self, num_workers=None):
        if num_workers is not None:
            for stage in self._dag.stages:
                stage.resource_config = StageConfig(cpu=1, memory=1024, workers=num_workers)
        self._futures = {}
        left = list(self._dag.stages)
        while left:
            ready = [s for s in left if not any(parent in left for parent in s.parents)]
            self._futures.update(self._processor.process(ready))
            left = [stage for stage in left if stage not in ready]
        return self._futures

    def shutdown(self):
        self._processor.shutdown()
