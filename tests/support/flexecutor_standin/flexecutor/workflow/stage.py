"""Stand-in: a stage."""

from enum import Enum

from flexecutor.utils.dataclass import StageConfig


class StageState(Enum):
    NONE = 0
    SUCCESS = 4
    FAILED = 5


class Stage:
    def __init__(self, stage_id, func, inputs, outputs, params=None, max_concurrency=1024):
        self.stage_id = self._stage_id = stage_id
        self.map_func = func
        self.inputs, self.outputs = inputs, outputs
        self.params = params or {}
        self.max_concurrency = max_concurrency
        self.parents, self.children = set(), set()
        self.state = StageState.NONE
        self.resource_config = StageConfig(cpu=1, memory=2048, workers=1)

    def __rshift__(self, other):
        self.children.add(other)
        other.parents.add(self)
        return other
