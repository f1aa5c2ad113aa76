"""Stand-in: what a worker runs."""

import itertools
import time
from functools import wraps

from flexecutor.utils.dataclass import FunctionTimes
from flexecutor.workflow.stagecontext import StageContext


def worker_wrapper(func):
    @wraps(func)
    def wrapper(ctx, *args, **kwargs):
        stamps = [time.time()]
        ctx.download_files()
        stamps.append(time.time())
        result = func(StageContext(ctx), *args, **kwargs)
        stamps.append(time.time())
        ctx.upload_files()
        stamps.append(time.time())
        read, compute, write = (b - a for a, b in itertools.pairwise(stamps))
        return result, FunctionTimes(read, compute, write, total=stamps[-1] - stamps[0])

    return wrapper
