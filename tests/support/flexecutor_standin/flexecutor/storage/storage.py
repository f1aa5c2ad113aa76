"""Stand-in: the objects of a stage, scattered over its workers or given to all."""

import os
from enum import Enum
from pathlib import Path

from lithops import Storage


class StrategyEnum(Enum):
    SCATTER = 1
    BROADCAST = 2


class FlexData:
    def __init__(
        self,
        prefix,
        bucket=None,
        custom_data_id=None,
        read_strategy=StrategyEnum.SCATTER,
        local_base_path="/tmp",
        suffix=".file",
    ):
        self.id = custom_data_id or prefix
        self.bucket = bucket or os.environ.get("FLEX_BUCKET")
        self.prefix = prefix.rstrip("/") + "/"
        self.strategy = read_strategy
        self.folder = Path(local_base_path) / self.prefix
        self.suffix = suffix
        self.keys, self.local_paths = [], []
        self.file_indexes = None

    def scan_keys(self):
        found = Storage().list_objects(self.bucket, prefix=self.prefix)
        self.keys = [item["Key"] for item in found]
        self.local_paths = [str(self.folder / key.split("/")[-1]) for key in self.keys]

    def set_file_indexes(self, worker, workers):
        count = len(self.keys)
        if self.strategy is StrategyEnum.BROADCAST:
            self.file_indexes = (0, count)
        else:
            self.file_indexes = (worker * count // workers, (worker + 1) * count // workers)
