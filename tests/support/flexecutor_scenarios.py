"""Runs word count on FlexExecutor in every way that flexecutor/test_jobs.py asks for.

A script of its own because FlexExecutor is used by the folder it lies in:
`python flexecutor_scenarios.py PLAN.json SEEN.json` in the folder that shall get
the profiles, with FlexExecutor (or the stand-in) on PYTHONPATH. PLAN says how it
is metered and what the functions do; SEEN gets what the client saw.
"""

import contextlib
import io
import json
import os
import signal
import sys
import time


def burn(seconds):
    """Uses that much CPU time, whatever the machine's load."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        sum(range(1000))


def words_in(path):
    """The words of a file `<number>.txt`.

    The workers of one machine download all inputs to the same files, one over
    the other, so a file may be cut short for a moment.
    """
    number = int(os.path.basename(path).split(".")[0])
    deadline = time.monotonic() + 5
    while True:
        with open(path) as file:
            words = len(file.read().split())
        if words == 500 * (number + 1) or time.monotonic() > deadline:
            return words


def count(ctx):
    words = sum(words_in(path) for path in ctx.get_input_paths("text"))
    burn(ctx.get_param("burn"))
    with open(ctx.next_output_path("counts"), "w") as file:
        file.write(str(words))
    return words


def count_and_say_nothing(ctx):
    count(ctx)


def raises(ctx):
    count(ctx)
    raise ValueError("no more words")


def killed(ctx):
    count(ctx)
    os.kill(os.getpid(), signal.SIGKILL)


def exits(ctx):
    count(ctx)
    sys.exit(3)


def sends_its_context_away(ctx):
    """As functions do that start processes of their own."""
    import pickle

    copy = pickle.loads(pickle.dumps(ctx._context))
    assert type(copy.upload_files).__name__ == "method", copy.upload_files
    return count(ctx)


FUNCTIONS = {
    "count": count,
    "nothing": count_and_say_nothing,
    "raises": raises,
    "killed": killed,
    "exits": exits,
    "sends": sends_its_context_away,
}


def total(ctx):
    words = 0
    for path in ctx.get_input_paths("counts"):
        with open(path) as file:
            words += int(file.read())
    with open(ctx.next_output_path("total"), "w") as file:
        file.write(str(words))
    return words


def works(ctx):
    burn(ctx.get_param("burn"))


def breaks(ctx):
    works(ctx)
    raise ValueError("a broken branch")


def raises_at_last(ctx):
    total(ctx)
    raise ValueError("nothing adds up")


def main():
    with open(sys.argv[1]) as file:
        plan = json.load(file)
    mode = plan.get("mode", "install")
    seen = {}
    config = {
        "lithops": {
            "backend": "localhost",
            "storage": "localhost",
            "log_level": "ERROR",
            "data_cleaner": False,
        },
        "localhost": {
            "runtime": plan.get("runtime", sys.executable),
            "version": plan.get("version", 2),
        },
    }
    with open("lithops.json", "w") as file:
        json.dump(config, file)
    # The workers' own Storage() reads it.
    os.environ["LITHOPS_CONFIG_FILE"] = os.path.abspath("lithops.json")
    import lithops

    if mode in ("install", "both", "copy"):
        from lithowatt.flexecutor import install

        seen["install"] = install()
    elif mode == "auto":
        import lithowatt.flexecutor.auto  # noqa: F401

    from flexecutor.storage.storage import FlexData, StrategyEnum
    from flexecutor.utils.dataclass import StageConfig
    from flexecutor.utils.utils import flexorchestrator
    from flexecutor.workflow.dag import DAG
    from flexecutor.workflow.executor import DAGExecutor
    from flexecutor.workflow.stage import Stage

    os.environ["FLEXECUTOR_EXEC_PATH"] = os.getcwd()
    executor = lithops.FunctionExecutor(config=config)
    if mode in ("class", "both"):
        from lithowatt.flexecutor import EnergyDAGExecutor as DAGExecutor
    elif mode == "copy":
        # The same file under its other name is another module, with classes of its own.
        from workflow.executor import DAGExecutor
    elif mode == "meter":
        from lithowatt.flexecutor import meter

        executor = meter(executor)

    bucket = plan.get("bucket", "words")
    storage = lithops.Storage(config=config)
    expected = 0
    for number in range(4):
        words = 500 * (number + 1)
        expected += words
        storage.put_object(bucket, f"text/{number}.txt", b"word " * words)
    seen["expected"] = expected

    def data(name, **more):
        folder = os.path.abspath(f"data-{os.getpid()}")
        return FlexData(name, bucket=bucket, local_base_path=folder, **more)

    @flexorchestrator(bucket=bucket)
    def run():
        dag = DAG("words")
        counts = data("counts", read_strategy=StrategyEnum.BROADCAST, suffix=".count")
        first = Stage(
            "map",
            func=FUNCTIONS[plan.get("function", "count")],
            inputs=[data("text")],
            outputs=[counts],
            params={"burn": plan.get("burn", 0.05)},
        )
        last = Stage(
            "reduce",
            func=raises_at_last if plan.get("reduce") else total,
            inputs=[counts],
            outputs=[data("total", suffix=".total")],
            max_concurrency=1,
        )
        if plan.get("diamond"):
            functions = {"root": works, "good": works, "bad": works, "leaf": works}
            functions[plan["diamond"]] = breaks
            root, good, bad, leaf = (
                Stage(name, func=function, inputs=[], outputs=[], params={"burn": 0.1})
                for name, function in functions.items()
            )
            for branch in (good, bad):
                root >> branch
                branch >> leaf
            stages = [root, good, bad, leaf]
        else:
            first >> last
            stages = [first, last]
        dag.add_stages(stages)
        dag_executor = DAGExecutor(dag, executor=executor)
        dag_executor._base_path = os.getcwd()
        space = [
            {
                stage.stage_id: StageConfig(cpu=cpu, memory=memory, workers=workers)
                for stage in stages
            }
            for cpu, memory, workers in plan.get("configurations", [])
        ]
        # What the counts of an earlier run would add is taken away before each.
        if hasattr(dag_executor, "execute"):
            execute = dag_executor.execute

            def execute_afresh(*args, **kwargs):
                for key in storage.list_keys(bucket, "counts/"):
                    storage.delete_object(bucket, key)
                for item in (counts, *first.outputs, *last.inputs, *last.outputs):
                    item.keys, item.local_paths = [], []
                return execute(*args, **kwargs)

            dag_executor.execute = execute_afresh
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                if space:
                    dag_executor.profile(space, num_reps=plan.get("repetitions", 1))
                    futures = dag_executor._futures
                elif plan.get("with_profiling"):
                    futures = dag_executor.execute_with_profiling(
                        num_workers=plan["with_profiling"]
                    )
                else:
                    futures = dag_executor.execute(num_workers=plan.get("workers", 2))
            seen["results"] = {name: future.result() for name, future in futures.items()}
            for again in ("times", "times_again"):
                seen[again] = {
                    name: [
                        {k: v for k, v in vars(times).items() if not k.startswith("_")}
                        for times in future.get_timings()
                    ]
                    for name, future in futures.items()
                }
        except (Exception, SystemExit) as error:
            seen["error"] = [type(error).__name__, str(error)]
        finally:
            dag_executor.shutdown()
        if plan.get("train"):
            seen["trained"] = train(dag)

    def train(dag):
        """What FlexExecutor's schedulers make of the profiles as they are."""
        from flexecutor.workflow.executor import load_profiling_results

        seen_here = {}
        for name in plan["train"]:
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    scheduler = SCHEDULERS[name](dag)
                    for stage in dag.stages:
                        file = f"profiling/words/{stage.stage_id}.json"
                        stage.perf_model.train(load_profiling_results(file))
                    chosen = scheduler.schedule() if name in plan.get("schedule", []) else []
                model = dag.stages[0].perf_model
                parameters = model.parameters
                parameters = parameters() if callable(parameters) else parameters
                seen_here[name] = {
                    "parameters": [float(value) for value in list(parameters)],
                    "workers": [float(config.workers) for config in chosen],
                }
            except Exception as error:
                seen_here[name] = {"error": f"{type(error).__name__}: {error}"}
        return seen_here

    run()
    if plan.get("uninstall"):
        import flexecutor.workflow.executor as module

        from lithowatt.flexecutor import installed, uninstall

        before = installed()
        uninstall()
        names = ("_store_profiling", "execute", "profile")

        # functools.wraps keeps the name of the module, the code does not lie.
        def home(function):
            return function.__globals__["__name__"]

        seen["uninstalled"] = [
            before,
            installed(),
            home(module.load_profiling_results),
            home(module.save_profiling_results),
            *[home(getattr(module.DAGExecutor, name)) for name in names],
            home(module.ThreadPoolProcessor._process_stage),
        ]
    with open(sys.argv[2], "w") as file:
        json.dump(seen, file, default=str)
    sys.stdout.flush()
    # Lithops' threads need not be waited for.
    os._exit(0)


def _ditto(dag):
    from scheduling.ditto import Ditto

    return Ditto(dag, total_parallelism=4, cpu_per_worker=1)


def _caerus(dag):
    from scheduling.caerus import Caerus

    return Caerus(dag, total_parallelism=4, cpu_per_worker=1)


def _jolteon(dag):
    from scheduling.jolteon import Jolteon

    return Jolteon(
        dag,
        bound=20,
        bound_type="latency",
        cpu_search_space=[1, 2],
        workers_search_space=[1, 2, 4],
        risk=0.2,
        confidence_error=0.1,
    )


SCHEDULERS = {"ditto": _ditto, "caerus": _caerus, "jolteon": _jolteon}

if __name__ == "__main__":
    main()
