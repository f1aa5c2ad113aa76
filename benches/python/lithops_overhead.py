"""What metering adds to a Lithops call: the same trivial calls with and without.

    python benches/python/lithops_overhead.py [--calls 30] [--rounds 3] [--json]
    python benches/python/lithops_overhead.py --releases 3.1.0,3.8.0   # or: all

Needs Lithops and the lithowatt wheel in this interpreter. "Without" is the same
interpreter with ENERGY_MONITORING_ENABLED=false, or one that has never heard of
lithowatt if you name it with --plain. With and without take turns, so that a
machine that gets busier slows both.

With --releases each release of Lithops is installed in an environment of its own
(as the tests do it), and what a call's status gets and a call's logs grow by is
counted too: keys, bytes of JSON, lines logged at INFO by worker and runner.

    worker_exec_time       from the start of a task to its end in the worker, which
                           holds all that the hook does in a call except merging
                           the values (counted apart, see below)
    worker_func_exec_time  the function's own time as upstream takes it

v1 runs all calls of a job in one warm worker, v2 starts an interpreter for each.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Any

#: What `--releases all` means: the nine that the tests run.
MATRIX = ("3.1.0", "3.1.2", "3.2.0", "3.3.0", "3.4.1", "3.5.1", "3.6.4", "3.7.0", "3.8.0")

TIMES = ("worker_exec_time", "worker_func_exec_time")

#: Run by the interpreter under test; prints the stats of its calls as JSON.
JOB = """
import json, os, sys
import lithops

def nothing(x):
    return x

version, calls = int(sys.argv[1]), int(sys.argv[2])
executor = lithops.FunctionExecutor(config={
    "lithops": {"backend": "localhost", "storage": "localhost", "log_level": "INFO",
                "data_cleaner": False, "monitoring_interval": 0.1},
    "localhost": {"runtime": "python", "version": version, "worker_processes": 1},
})
futures = executor.map(nothing, list(range(calls)))
executor.get_result(futures)
print(json.dumps([future.stats for future in futures]))
sys.stdout.flush()
os._exit(0)
"""


def run_job(python: str, version: int, calls: int, metered: bool) -> list[dict[str, Any]]:
    """Runs one job in directories of its own; returns the stats of its calls.

    To those of the first call it adds `lines`: how many the job logged in all.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        env = {**os.environ, "HOME": scratch, "TMPDIR": scratch}
        env["ENERGY_MONITORING_ENABLED"] = "true" if metered else "false"
        # Lithops before 3.2 takes a name with a slash for a container image.
        env["PATH"] = f"{Path(python).parent}{os.pathsep}{env['PATH']}"
        done = subprocess.run(
            [python, "-c", JOB, str(version), str(calls)],
            env=env,
            cwd=scratch,
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=600,
        )
        logs = [path.read_text(errors="replace") for path in Path(scratch).rglob("*.log")]
    stats: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    if metered != ("worker_func_energy_consumption" in stats[0]):
        raise SystemExit(f"{python}: metering is {'not ' if metered else ''}active")
    stats[0]["lines"] = sum(len(log.splitlines()) for log in logs)
    return stats


def release_rows(release: str, calls: int, rounds: int) -> list[dict[str, Any]]:
    """One release on both runners, in an environment of its own."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from tests.support.lithops_environments import stacked

    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        python = str(stacked(release, Path(scratch) / "env", lithowatt=True))
        compileall.compile_dir(Path(scratch) / "env", quiet=2)  # as pip does
        for version in (1, 2):
            samples: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
            for _ in range(rounds):
                for metered in (False, True):
                    samples[metered] += run_job(python, version, calls, metered)
            (off, on), (off_mad, on_mad) = (
                [f([float(c["worker_exec_time"]) for c in samples[m]]) * 1e3 for m in (False, True)]
                for f in (statistics.median, spread)
            )
            fast_off, fast_on = (
                quickest([float(c["worker_exec_time"]) for c in samples[m]]) * 1e3
                for m in (False, True)
            )
            ours = {k: v for k, v in samples[True][1].items() if k not in samples[False][1]}
            lines = [sum(c.get("lines", 0) for c in samples[m]) for m in (False, True)]
            rows.append(
                {
                    "release": release,
                    "runner": version,
                    "calls": len(samples[True]),
                    "without_ms": off,
                    "without_mad_ms": off_mad,
                    "with_ms": on,
                    "with_mad_ms": on_mad,
                    "added_ms": on - off,
                    "added_quick_ms": fast_on - fast_off,
                    "keys": len(ours),
                    "bytes": len(json.dumps(ours)),
                    "lines": lines[1] - lines[0],
                }
            )
    return rows


def spread(values: list[float]) -> float:
    """Median distance from the median."""
    middle = statistics.median(values)
    return statistics.median(abs(value - middle) for value in values)


def quickest(values: list[float]) -> float:
    """The 10th percentile: calls that nobody else on the machine held up."""
    return statistics.quantiles(values, n=10)[0]


def by_release(releases: list[str], calls: int, rounds: int, as_json: bool) -> int:
    """Prints a table of `worker_exec_time` by release and runner."""
    rows = [row for release in releases for row in release_rows(release, calls, rounds)]
    if as_json:
        print(json.dumps(rows, indent=2))
        return 0
    print(
        "| Lithops | runner | n | without, ms | with, ms | added, ms "
        "| added to the quickest tenth, ms | keys | bytes | lines |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['release']} | v{row['runner']} | {row['calls']} "
            f"| {row['without_ms']:.2f} ± {row['without_mad_ms']:.2f} "
            f"| {row['with_ms']:.2f} ± {row['with_mad_ms']:.2f} | {row['added_ms']:.2f} "
            f"| {row['added_quick_ms']:.2f} | {row['keys']} | {row['bytes']} | {row['lines']} |"
        )
    print(f"load average {', '.join(f'{load:.1f}' for load in os.getloadavg())}")
    return 0


def start_of_python(times: int) -> tuple[float, float]:
    """Median seconds of an interpreter's start and end, without and with the hook's files."""
    import _lithowatt_hook

    source = Path(_lithowatt_hook.__file__).parent
    with tempfile.TemporaryDirectory() as scratch:
        pythons = []
        for name, files in (
            ("without", ()),
            ("with", ("lithowatt-hook.pth", "lithowatt-hook.start", "_lithowatt_hook.py")),
        ):
            home = Path(scratch) / name
            venv.create(home, with_pip=False, symlinks=True)
            [packages] = home.glob("lib/python*/site-packages")
            for file in files:
                shutil.copy(source / file, packages)
            compileall.compile_dir(packages, quiet=2)  # as pip does
            pythons.append(str(home / "bin" / "python"))
        seconds: list[list[float]] = [[], []]
        for _ in range(times):
            for python, sample in zip(pythons, seconds, strict=True):
                began = time.perf_counter()
                subprocess.run([python, "-c", "pass"], check=True)
                sample.append(time.perf_counter() - began)
        return statistics.median(seconds[0]), statistics.median(seconds[1])


def import_time(python: str) -> float:
    """Seconds that a worker, Lithops loaded, takes to import lithowatt and warm up; median of 9."""
    script = (
        "import time, lithops.worker; t = time.perf_counter();"
        "from lithowatt.lithops import _worker;"
        "_worker._warm(_worker.EnergyMeter(interval=None)); print(time.perf_counter() - t)"
    )
    # Off, so that importing the worker does not load it before the clock runs.
    env = {**os.environ, "ENERGY_MONITORING_ENABLED": "false"}
    command = [python, "-c", script]
    return statistics.median(
        float(subprocess.run(command, check=True, stdout=subprocess.PIPE, env=env).stdout)
        for _ in range(9)
    )


def merge_time() -> float:
    """Seconds from the sending of a call's end to its being sent; median of 200."""
    from lithowatt.lithops import _worker

    class Status:
        def __init__(self) -> None:
            self.status: dict[str, Any] = {}

        def send_finish_event(self) -> None: ...

    class Job:
        func = b""

    seconds = []
    for _ in range(200):
        status = Status()
        _worker._begin(Job(), status)
        task = _worker._current
        assert task is not None
        assert task.channel is not None
        assert task.task is not None
        task.task.stop()
        assert task.channel.write(task.task.meter.stats_json())
        began = time.perf_counter()
        status.send_finish_event()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def main() -> int:
    """Runs the comparison and prints medians in milliseconds."""
    parser = argparse.ArgumentParser(description="time that metering adds to a Lithops call")
    parser.add_argument("--calls", type=int, default=30, help="calls per job (default 30)")
    parser.add_argument("--rounds", type=int, default=3, help="jobs of each kind (default 3)")
    parser.add_argument("--plain", metavar="PYTHON", help="an interpreter without lithowatt")
    parser.add_argument("--releases", metavar="LIST", help="of Lithops, with commas, or all")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.releases:
        names = MATRIX if options.releases == "all" else options.releases.split(",")
        return by_release(list(names), options.calls, options.rounds, options.json)
    plain = options.plain or sys.executable

    rows = []
    for version in (1, 2):
        samples: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
        for _ in range(options.rounds):
            for metered in (False, True):
                python = sys.executable if metered else plain
                samples[metered] += run_job(python, version, options.calls, metered)
        for name in TIMES:
            without, with_hook = (
                statistics.median(float(call[name]) for call in samples[metered]) * 1e3
                for metered in (False, True)
            )
            rows.append(
                {
                    "backend": f"localhost v{version}",
                    "time": name,
                    "without_ms": without,
                    "with_ms": with_hook,
                    "added_ms": with_hook - without,
                }
            )
    starts = [seconds * 1e3 for seconds in start_of_python(100)]
    rows.append(
        {
            "backend": "any interpreter",
            "time": "start (.pth)",
            "without_ms": starts[0],
            "with_ms": starts[1],
            "added_ms": starts[1] - starts[0],
        }
    )
    for name, seconds in (
        ("import and warm-up, once", import_time(sys.executable)),
        ("merging the values", merge_time()),
    ):
        row = {"backend": "worker", "time": name, "added_ms": seconds * 1e3}
        rows.append({**row, "without_ms": 0.0, "with_ms": seconds * 1e3})

    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    print(f"medians of {options.calls * options.rounds} calls, ms")
    print(f"{'':<16} {'':<26} {'without':>9} {'with':>9} {'added':>9}")
    for row in rows:
        print(
            f"{row['backend']:<16} {row['time']:<26} {row['without_ms']:>9.3f} "
            f"{row['with_ms']:>9.3f} {row['added_ms']:>9.3f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
