"""Runs real Lithops calls that end in every possible way, for lithops/test_jobs.py.

A script of its own because it runs in an environment that holds one release of
Lithops and not pytest: `python lithops_scenarios.py CONFIG.json RESULT.json`.
CONFIG names the scenarios and the localhost backend's settings; RESULT gets,
for each scenario, what the client saw.
"""

import functools
import json
import logging
import os
import signal
import sys
import threading
import time
import traceback


def burn(seconds):
    """Uses that much CPU time, whatever the machine's load."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        sum(range(1000))


def success(x):
    burn(0.2)
    return x + 1


def returns_none(x):
    burn(0.05)


def raises(x):
    def inner():
        burn(0.05)
        raise ValueError(f"boom {x}")

    inner()


class OddError(Exception):
    """Cannot be unpickled: its constructor wants more than Exception keeps."""

    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


def raises_unpicklable(x):
    burn(0.05)
    raise OddError("very", "odd")


def returns_unpicklable(x):
    burn(0.05)
    return threading.Lock()


def big_result(x):
    burn(0.05)
    return b"x" * 100_000


def system_exit(x):
    burn(0.05)
    sys.exit(3)


def keyboard_interrupt(x):
    burn(0.05)
    raise KeyboardInterrupt


def os_exit(x):
    burn(0.3)
    os._exit(4)


def killed(x):
    burn(0.3)
    os.kill(os.getpid(), signal.SIGKILL)


def timed_out(x):
    burn(0.3)
    time.sleep(300)


def injected(x, id, storage):
    burn(0.05)
    return [x, id, type(storage).__name__]


def takes_object(obj):
    burn(0.05)
    return obj.data_stream.read().decode()


def prints(x):
    print("a line of the user's")
    logging.getLogger("user").warning("a warning of the user's")
    burn(0.05)
    return x


def handler_threads(x):
    """How many threads the handler's process has while the function runs."""
    # Upstream waits in join() by now, unless this is very early.
    time.sleep(0.2)
    return len(os.listdir(f"/proc/{os.getppid()}/task"))


def lithowatt_loaded(x):
    return "lithowatt" in sys.modules


def child_returns_too(x):
    """A child forked by the function leaves through the same wrapper, by an exception."""
    pid = os.fork()
    if pid == 0:
        try:
            raise RuntimeError("in the child")
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    burn(0.05)
    return x


def child_does_the_work(x):
    pid = os.fork()
    if pid == 0:
        burn(0.4)
        os._exit(0)
    os.waitpid(pid, 0)
    return x


class Callable:
    """A function with a state, such as a model that predicts."""

    def __init__(self):
        self.offset = 10

    def __call__(self, x):
        burn(0.05)
        return x + self.offset

    def method(self, x):
        burn(0.05)
        return x + self.offset + 1


def added(y, x):
    burn(0.05)
    return x + y


FUNCTIONS = {
    function.__name__: function
    for function in (
        success,
        returns_none,
        raises,
        raises_unpicklable,
        returns_unpicklable,
        big_result,
        system_exit,
        keyboard_interrupt,
        os_exit,
        killed,
        timed_out,
        injected,
        prints,
        handler_threads,
        lithowatt_loaded,
        child_returns_too,
        child_does_the_work,
    )
}
FUNCTIONS["callable_object"] = Callable()
FUNCTIONS["method"] = Callable().method
FUNCTIONS["partial"] = functools.partial(added, 100)


# --- one run that covers a release -------------------------------------------


def any_end(name):
    """Ends as its argument says, so that one job holds every end."""
    return FUNCTIONS[name](1)


def wants_rabbitmq(x, rabbitmq):
    burn(0.05)


def total(results):
    burn(0.05)
    return sum(results)


def fails_once(x, directory):
    """Fails, unless it was called before."""
    burn(0.05)
    mark = os.path.join(directory, f"tried-{x}")
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return x + 1
    raise RuntimeError("the first attempt")


def in_pool(x):
    burn(0.05)
    return x * x


#: lithops/test_jobs.py has the rest, for the two releases that differ.
ENDS = ("success", "raises", "big_result", "system_exit", "killed", "timed_out")


def matrix(plan, config):
    """Runs every way to call a function that this release of Lithops has."""
    import lithops

    executor = lithops.FunctionExecutor(config=config)
    # One job for all but the one that takes its time.
    names = [name for name in ENDS if name != "timed_out"]
    futures = dict(zip(names, executor.map(any_end, names), strict=True))
    futures["timed_out"] = executor.call_async(timed_out, {"x": 1}, timeout=2)
    futures["injected"] = executor.call_async(injected, {"x": 1})
    futures["callable_object"] = executor.call_async(FUNCTIONS["callable_object"], {"x": 1})
    if "injected" in plan["also"]:
        futures["wants_rabbitmq"] = executor.call_async(wants_rabbitmq, {"x": 1})
        executor.storage.put_object(executor.storage.bucket, "an-object", b"content")
        where = f"localhost://{executor.storage.bucket}/an-object"
        futures["takes_object"] = executor.map(takes_object, where)[0]
    if "map_reduce" in plan["also"]:
        futures["reduced"] = executor.map_reduce(success, [1, 2], total)
        if isinstance(futures["reduced"], list):
            futures["reduced"] = futures["reduced"][-1]
    seen = {name: outcome(future) for name, future in futures.items()}

    # One process for all calls of a job, where the runner is of the first kind.
    one = {**config, "localhost": {**config["localhost"], "worker_processes": 1}}
    warm = lithops.FunctionExecutor(config=one)
    for index, future in enumerate(warm.map(success, list(range(2)))):
        seen[f"warm-{index}"] = outcome(future)

    if "retries" in plan["also"]:
        from lithops.retries import RetryingFunctionExecutor

        with RetryingFunctionExecutor(warm) as retrying:
            [future] = retrying.map(fails_once, [1], extra_args=(os.getcwd(),), retries=2)
            retrying.wait([future], throw_except=False)
            seen["retried"] = outcome(future.response_future)

    import lithops.multiprocessing as mp
    from lithops.multiprocessing import config as mp_config

    mp_config.set_parameter(mp_config.LITHOPS_CONFIG, {"config": config})
    pool = mp.Pool(2)
    result = pool.map_async(in_pool, [1, 2])
    results = result.get()
    [future, *_] = pool._executor.futures
    seen["pool"] = {**outcome(future), "result": results}
    return seen


def outcome(future):
    """What the client gets from a finished call, in plain JSON types."""
    seen = {"result": None, "error": None, "message": None, "frames": []}
    try:
        result = future.result(throw_except=True)
        seen["result"] = len(result) if isinstance(result, bytes) else result
    except BaseException as error:
        seen["error"] = type(error).__name__
        seen["message"] = str(error)
        # Only the worker's part: the client's own frames are not the question.
        frames = [(f.filename, f.name) for f in traceback.extract_tb(error.__traceback__)]
        names = [f"{os.path.basename(file)}:{name}" for file, name in frames]
        first = next((i for i, name in enumerate(names) if name == "jobrunner.py:run"), None)
        seen["frames"] = [] if first is None else names[first:]
    # 3.6.4 gives up half-way through the status of some failed calls.
    status = getattr(future, "_call_status", None) or {}
    seen["stats"] = {
        **{k: v for k, v in status.items() if k.startswith(("func", "host", "worker"))},
        **future.stats,
    }
    seen["log"] = getattr(future, "logs", None)
    return seen


def main(config_path, result_path):
    with open(config_path) as file:
        plan = json.load(file)

    import lithops

    config = {
        "lithops": {
            "backend": "localhost",
            "storage": "localhost",
            "telemetry": False,
            "log_level": "ERROR",
            "monitoring_interval": 0.1,
            # Its process would keep the pipes of the client open.
            "data_cleaner": False,
        },
        "localhost": {"runtime": sys.executable, **plan["localhost"]},
    }
    config["lithops"].update(plan.get("lithops", {}))
    if "also" in plan:
        finish(matrix(plan, config), result_path)
    executor = lithops.FunctionExecutor(config=config)
    futures = {}
    for name in plan["scenarios"]:
        options = {}
        if name == "timed_out":
            options["timeout"] = 2
        if plan.get("extra_env"):
            options["extra_env"] = plan["extra_env"]
        if name == "takes_object":
            executor.storage.put_object(executor.storage.bucket, "an-object", b"content")
            where = f"localhost://{executor.storage.bucket}/an-object"
            futures[name] = executor.map(takes_object, where, **options)[0]
        elif name == "map":
            for index, future in enumerate(executor.map(success, list(range(4)), **options)):
                futures[f"map-{index}"] = future
        else:
            futures[name] = executor.call_async(FUNCTIONS[name], {"x": 1}, **options)
    # No executor.wait(): in 3.6.4 a call that ends by sys.exit() ends it for all.
    seen = {name: outcome(future) for name, future in futures.items()}
    finish(seen, result_path)


def finish(seen, result_path):
    with open(result_path, "w") as file:
        json.dump(seen, file, default=str)
    # 3.6.4's client now and then waits for ever at its exit, with every call done.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
