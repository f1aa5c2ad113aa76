"""What metering adds to a FlexExecutor stage: the same trivial stage with and without.

    python benches/python/flexecutor_overhead.py --flexecutor DIR [--calls 4] [--rounds 15]

DIR is a checkout of FlexExecutor, used as it is. Needs Lithops, what FlexExecutor
needs and the lithowatt wheel in this interpreter. One driver runs the stage again
and again, in turn with `lithowatt.flexecutor.install()` and, uninstalled, with
ENERGY_MONITORING_ENABLED=false. What is added is the median over pairs: the n-th
call of a stage without and the n-th of the metered one next to it, so that a
machine that gets busier slows both.

In the worker, per call:

    worker_exec_time       from the start of a task to its end, in parts:
    before the function    Lithops gets the call ready and imports FlexExecutor
    worker_func_exec_time  FlexExecutor's wrapper of the function, as Lithops times it
    after the function     Lithops stores the result and the status
    read+compute+write     the function as FlexExecutor times it

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

import results

IN_WORKER = (
    "worker_exec_time",
    "before the function",
    "worker_func_exec_time",
    "after the function",
    "read+compute+write",
)
IN_DRIVER = ("get_timings, first", "get_timings, again", "saving a repetition")

#: Run by an interpreter of its own; prints what it found as one line of JSON.
JOB = """
import json, os, sys, time

version, calls, rounds = map(int, sys.argv[1:])
began = time.perf_counter()
import lithowatt.flexecutor

assert lithowatt.flexecutor.install()
install = time.perf_counter() - began

import lithops
from flexecutor.workflow import executor as module
from flexecutor.workflow.dag import DAG
from flexecutor.workflow.stage import Stage

module.print = lambda *_: None  # it prints the whole profile each time


def nothing(ctx):
    return None


def timed(function, times):
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        value = function()
        seconds.append(time.perf_counter() - began)
    return seconds, value


def switch(metered):
    # Localhost workers start for each job and have this process's environment.
    os.environ["ENERGY_MONITORING_ENABLED"] = "true" if metered else "false"
    lithowatt.flexecutor.install() if metered else lithowatt.flexecutor.uninstall()
    assert lithowatt.flexecutor.installed() == metered


lithops_executor = lithops.FunctionExecutor(config={
    "lithops": {"backend": "localhost", "storage": "localhost", "log_level": "ERROR",
                "data_cleaner": False},
    "localhost": {"runtime": sys.executable, "version": version, "worker_processes": 1},
})
dag = DAG("overhead")
stage = Stage("nothing", nothing, [], [])
dag.add_stage(stage)
executor = module.DAGExecutor(dag, lithops_executor)


def run(metered):
    switch(metered)
    found = {}
    future = executor.execute(num_workers=calls)["nothing"]
    found["get_timings, first"], timings = timed(future.get_timings, 1)
    found["get_timings, again"], timings = timed(future.get_timings, 1)
    for name in ("worker_exec_time", "worker_func_exec_time"):
        found[name] = [stats[name] for stats in future.stats]
    for name, first, last in (
        ("before the function", "worker_start_tstamp", "worker_func_start_tstamp"),
        ("after the function", "worker_func_end_tstamp", "worker_end_tstamp"),
    ):
        found[name] = [stats[last] - stats[first] for stats in future.stats]
    found["read+compute+write"] = [t.read + t.compute + t.write for t in timings]
    found["methods"] = [getattr(t, "energy_method", None) for t in timings]
    return found, timings


def save_all(metered, timings, file):
    switch(metered)
    profile = module.load_profiling_results(file)

    def save():
        executor._store_profiling(profile, timings, stage.resource_config)
        module.save_profiling_results(file, profile)

    seconds, _ = timed(save, 30)
    return {"saving a repetition": seconds, "profile_bytes": os.path.getsize(file)}


pairs, saved = [], []
for turn in range(rounds + 1):
    # The first of a pair in turn, too: what gets slower with time favours neither.
    order = (False, True) if turn % 2 == 0 else (True, False)
    found = {metered: run(metered) for metered in order}
    if turn > 0:  # the first warms up
        pairs.append([found[metered][0] for metered in (False, True)])
for turn in range(3):
    saved.append([save_all(m, found[m][1], f"{m}-{turn}.json") for m in (False, True)])
print()
print(json.dumps({"install": install, "pairs": pairs, "saved": saved}))
sys.stdout.flush()
os._exit(0)
"""

#: Quantities of runs without and with.
Pair = tuple[dict[str, Any], dict[str, Any]]


def run_stages(checkout: Path, version: int, calls: int, rounds: int) -> dict[str, Any]:
    """Runs stages, metered and not, in directories of their own; returns what the driver found."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        env = {**os.environ, "HOME": scratch, "TMPDIR": scratch}
        # Both folders: FlexExecutor's modules import each other by two names.
        env["PYTHONPATH"] = os.pathsep.join(map(str, (checkout, checkout / "flexecutor")))
        env.pop("ENERGY_MONITORING_ENABLED", None)
        env.pop("LITHOWATT_FLEXECUTOR", None)
        done = subprocess.run(
            [sys.executable, "-c", JOB, str(version), str(calls), str(rounds)],
            env=env,
            cwd=scratch,
            capture_output=True,
            text=True,
            timeout=3600,
            check=False,
        )
    if done.returncode != 0:
        raise SystemExit(f"a stage failed on localhost v{version}:\n{done.stderr[-4000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    for without, metered in found["pairs"]:
        if any(without["methods"]):
            raise SystemExit("metering cannot be switched off")
        if not all(metered["methods"]) or "model:client" in metered["methods"]:
            raise SystemExit("the workers do not meter: is the wheel's hook in this interpreter?")
    return found


def row(where: str, name: str, pairs: list[Pair]) -> dict[str, Any]:
    """Medians in ms of one quantity, and of the differences of its pairs; its figures."""
    both = [p for without, metered in pairs for p in zip(without[name], metered[name], strict=True)]
    return {
        "where": where,
        "time": name,
        "pairs": len(both),
        "without_ms": statistics.median(a for a, _ in both) * 1e3,
        "with_ms": statistics.median(b for _, b in both) * 1e3,
        "added_ms": statistics.median(b - a for a, b in both) * 1e3,
        "figures": [
            results.figure(f"{where}: {name}, without", "ms", [a * 1e3 for a, _ in both]),
            results.figure(
                f"{where}: {name}, added", "ms", [(b - a) * 1e3 for a, b in both], "without"
            ),
        ],
    }


def main() -> int:
    """Runs the comparison and prints medians in milliseconds."""
    parser = argparse.ArgumentParser(description="time that metering adds to a FlexExecutor stage")
    parser.add_argument("--flexecutor", type=Path, metavar="DIR", required=True, help="a checkout")
    parser.add_argument("--calls", type=int, default=4, help="workers of a stage (default 4)")
    parser.add_argument("--rounds", type=int, default=15, help="stages of each kind (default 15)")
    results.argument(parser)
    options = parser.parse_args()
    checkout = options.flexecutor.resolve()
    if not (checkout / "flexecutor" / "workflow" / "executor.py").is_file():
        parser.error(f"{checkout} is no checkout of FlexExecutor: it has no flexecutor/workflow")

    rows = []
    founds = []
    for version in (1, 2):
        found = run_stages(checkout, version, options.calls, options.rounds)
        rows += [row(f"worker, localhost v{version}", name, found["pairs"]) for name in IN_WORKER]
        founds.append(found)
    for name in IN_DRIVER:
        source = "saved" if name == "saving a repetition" else "pairs"
        pairs = [pair for found in founds for pair in found[source]]
        rows.append(row(f"driver, {options.calls} workers", name, pairs))
    installs = [found["install"] * 1e3 for found in founds]
    install = statistics.median(installs)
    rows.append(
        {
            "where": "driver",
            "time": "install()",
            "pairs": len(founds),
            "without_ms": 0.0,
            "with_ms": install,
            "added_ms": install,
            "figures": [results.figure("driver: install()", "ms", installs)],
        }
    )

    if options.json:
        figures = [one for line in rows for one in line["figures"]]
        results.write(options.json, "flexecutor_overhead", figures, {"calls": options.calls})
    print("medians in ms; added is the median over pairs")
    print(f"{'':<22} {'':<22} {'pairs':>6} {'without':>9} {'with':>9} {'added':>9}")
    for line in rows:
        print(
            f"{line['where']:<22} {line['time']:<22} {line['pairs']:>6} "
            f"{line['without_ms']:>9.3f} {line['with_ms']:>9.3f} {line['added_ms']:>9.3f}"
        )
    without, metered = founds[-1]["saved"][-1]
    print(
        f"a profile of 30 repetitions of {options.calls} workers: "
        f"{without['profile_bytes'] / 1024:.0f} KiB without, "
        f"{metered['profile_bytes'] / 1024:.0f} KiB with"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
