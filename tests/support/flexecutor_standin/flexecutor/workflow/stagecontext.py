"""Stand-in: a worker's view of its stage."""

import os
import uuid

from lithops import Storage


class InternalStageContext:
    def __init__(self, worker_id, num_workers, inputs, outputs, params):
        self.worker_id = worker_id
        self.num_workers = num_workers
        self.inputs = {item.id: item for item in inputs}
        self.outputs = {item.id: item for item in outputs}
        self.params = params

    def download_files(self):
        storage = Storage()
        for item in self.inputs.values():
            os.makedirs(item.folder, exist_ok=True)
            for key, path in zip(item.keys, item.local_paths, strict=True):
                storage.download_file(item.bucket, key, path)

    def upload_files(self):
        storage = Storage()
        for item in self.outputs.values():
            for key, path in zip(item.keys, item.local_paths, strict=True):
                storage.upload_file(path, item.bucket, key)


class StageContext:
    def __init__(self, context):
        self._context = context

    def get_input_paths(self, input_id):
        item = self._context.inputs[input_id]
        first, last = item.file_indexes
        return item.local_paths[first:last]

    def get_param(self, name):
        return self._context.params[name]

    def next_output_path(self, output_id):
        item = self._context.outputs[output_id]
        os.makedirs(item.folder, exist_ok=True)
        name = uuid.uuid4().hex[:8] + item.suffix
        item.local_paths.append(str(item.folder / name))
        item.keys.append(item.prefix + name)
        return item.local_paths[-1]
