"""Stand-in: what a stage is given and what a call took."""

from dataclasses import dataclass


@dataclass
class StageConfig:
    cpu: float
    workers: int
    memory: float = 0

    @property
    def key(self):
        return self.cpu, self.memory, self.workers


@dataclass
class FunctionTimes:
    read: float | None = None
    compute: float | None = None
    write: float | None = None
    cold_start: float | None = None
    total: float | None = None

    @classmethod
    def profile_keys(cls):
        return ["read", "compute", "write", "cold_start"]
