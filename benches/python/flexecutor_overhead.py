"""What metering adds to a FlexExecutor stage: the same trivial stage with and without.

    python benches/python/flexecutor_overhead.py --flexecutor DIR [--calls 10] [--rounds 6] [--json]

DIR is a checkout of FlexExecutor, used as it is. Needs Lithops, what FlexExecutor
needs and the lithowatt wheel in this interpreter. "With" calls
`lithowatt.flexecutor.install()`; "without" does not and sets
ENERGY_MONITORING_ENABLED=false. With and without take turns, so that a machine
that gets busier slows both, and what is added is the median over pairs: the n-th
call of a run without, and the n-th of the metered run next to it.

In the worker, per call:

    worker_exec_time       from the start of a task to its end
    worker_func_exec_time  FlexExecutor's wrapper of the function, as Lithops times it
    read+compute+write     the same as FlexExecutor times it

In the driver, per stage of --calls workers:

    get_timings            the first one of a stage, and one after that
    saving a repetition    adding a stage's timings to its profile and writing the file
    install()              once, lithowatt's import included
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

IN_WORKER = ("worker_exec_time", "worker_func_exec_time", "read+compute+write")
IN_DRIVER = ("get_timings, first", "get_timings, again", "saving a repetition")

#: Run by an interpreter of its own; prints what it found as one line of JSON.
JOB = """
import json, os, sys, time

version, calls, metered = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "with"
found = {}
began = time.perf_counter()
if metered:
    import lithowatt.flexecutor

    assert lithowatt.flexecutor.install()
    found["install"] = time.perf_counter() - began

import lithops
from flexecutor.utils.utils import load_profiling_results
from flexecutor.workflow import executor as module
from flexecutor.workflow.dag import DAG
from flexecutor.workflow.stage import Stage


def nothing(ctx):
    return None


lithops_executor = lithops.FunctionExecutor(config={
    "lithops": {"backend": "localhost", "storage": "localhost", "log_level": "ERROR",
                "data_cleaner": False},
    "localhost": {"runtime": sys.executable, "version": version, "worker_processes": 1},
})
dag = DAG("overhead")
stage = Stage("nothing", nothing, [], [])
dag.add_stage(stage)
executor = module.DAGExecutor(dag, lithops_executor)
future = executor.execute(num_workers=calls)["nothing"]


def timed(function, times):
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        value = function()
        seconds.append(time.perf_counter() - began)
    return seconds, value


found["get_timings, first"], timings = timed(future.get_timings, 1)
found["get_timings, again"], timings = timed(future.get_timings, 30)
path = executor._get_asset_path(stage, module.AssetType.PROFILE)
profile = module.load_profiling_results(path)
module.print = lambda *_: None  # it prints the whole profile each time


def save():
    executor._store_profiling(profile, timings, stage.resource_config)
    module.save_profiling_results(path, profile)


found["saving a repetition"], _ = timed(save, 30)
found["profile_bytes"] = os.path.getsize(path)
found["worker_exec_time"] = [stats["worker_exec_time"] for stats in future.stats]
found["worker_func_exec_time"] = [stats["worker_func_exec_time"] for stats in future.stats]
found["read+compute+write"] = [t.read + t.compute + t.write for t in timings]
found["joules"] = [getattr(t, "energy", None) for t in timings]
found["quality"] = str(getattr(timings[0], "energy_method", None))
print()
print(json.dumps(found))
sys.stdout.flush()
os._exit(0)
"""


def run_stage(checkout: Path, version: int, calls: int, metered: bool) -> dict[str, Any]:
    """Runs one stage in directories of its own; returns what its driver found."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        env = {**os.environ, "HOME": scratch, "TMPDIR": scratch}
        # Both folders: FlexExecutor's modules import each other by two names.
        env["PYTHONPATH"] = os.pathsep.join(map(str, (checkout, checkout / "flexecutor")))
        env["ENERGY_MONITORING_ENABLED"] = "true" if metered else "false"
        env.pop("LITHOWATT_FLEXECUTOR", None)
        kind = "with" if metered else "without"
        done = subprocess.run(
            [sys.executable, "-c", JOB, str(version), str(calls), kind],
            env=env,
            cwd=scratch,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    if done.returncode != 0:
        raise SystemExit(f"the stage failed ({kind}):\n{done.stderr[-4000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if metered != all(isinstance(joules, float) for joules in found["joules"]):
        raise SystemExit(f"stage calls carry {found['joules'][:3]} J {kind} metering")
    if metered and found["quality"] == "model:client":
        raise SystemExit("the workers do not meter: is the wheel's hook in this interpreter?")
    return found


def row(
    where: str, name: str, pairs: list[tuple[dict[str, Any], dict[str, Any]]]
) -> dict[str, Any]:
    """Medians in ms of one quantity, and of the differences of its pairs."""
    both = [p for without, metered in pairs for p in zip(without[name], metered[name], strict=True)]
    return {
        "where": where,
        "time": name,
        "pairs": len(both),
        "without_ms": statistics.median(a for a, _ in both) * 1e3,
        "with_ms": statistics.median(b for _, b in both) * 1e3,
        "added_ms": statistics.median(b - a for a, b in both) * 1e3,
    }


def main() -> int:
    """Runs the comparison and prints medians in milliseconds."""
    parser = argparse.ArgumentParser(description="time that metering adds to a FlexExecutor stage")
    parser.add_argument("--flexecutor", type=Path, metavar="DIR", required=True, help="a checkout")
    parser.add_argument("--calls", type=int, default=10, help="workers of the stage (default 10)")
    parser.add_argument("--rounds", type=int, default=6, help="stages of each kind (default 6)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    checkout = options.flexecutor.resolve()
    if not (checkout / "flexecutor" / "workflow" / "executor.py").is_file():
        parser.error(f"{checkout} is no checkout of FlexExecutor: it has no flexecutor/workflow")

    rows = []
    every: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for version in (1, 2):
        pairs = []
        for turn in range(options.rounds):
            # The first of a pair in turn, too: what gets slower with time favours neither.
            order = (False, True) if turn % 2 == 0 else (True, False)
            found = {kind: run_stage(checkout, version, options.calls, kind) for kind in order}
            pairs.append((found[False], found[True]))
        rows += [row(f"worker, localhost v{version}", name, pairs) for name in IN_WORKER]
        every += pairs
    rows += [row(f"driver, {options.calls} workers", name, every) for name in IN_DRIVER]
    install = statistics.median(metered["install"] for _, metered in every) * 1e3
    rows.append(
        {
            "where": "driver",
            "time": "install()",
            "pairs": len(every),
            "without_ms": 0.0,
            "with_ms": install,
            "added_ms": install,
        }
    )

    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    print("medians in ms; added is the median over pairs")
    print(f"{'':<22} {'':<22} {'pairs':>6} {'without':>9} {'with':>9} {'added':>9}")
    for line in rows:
        print(
            f"{line['where']:<22} {line['time']:<22} {line['pairs']:>6} "
            f"{line['without_ms']:>9.3f} {line['with_ms']:>9.3f} {line['added_ms']:>9.3f}"
        )
    without, metered = every[-1]
    print(
        f"a profile of 30 repetitions of {options.calls} workers: "
        f"{without['profile_bytes'] / 1024:.0f} KiB without, "
        f"{metered['profile_bytes'] / 1024:.0f} KiB with"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
