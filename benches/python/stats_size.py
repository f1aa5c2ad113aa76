"""What a call's stats cost in bytes and in the client's time, by ENERGY_STATS.

    python benches/python/stats_size.py [--calls 10000] [--synthetic 1000000] [--wheel FILE]

A trivial function, mapped over so many calls by Lithops on localhost (the first runner, a worker),
without lithowatt and with each form of the stats; each in a client of its own. Then the client's
part alone for a million: the texts of the job's statuses, over and over, decoded and made into
`future.stats` as Lithops' client does, in turns. What they take in memory is taken of 20,000.

    status          the object that a worker leaves in the storage for a call
    reading         `future.status()` of all calls, one after the other, once they have ended:
                    reading the status from the storage, decoding it, making `future.stats`
    get_result      once all calls have ended; a monitor has read most statuses by then
    table           `lithowatt.lithops.table(futures)`
    all stats       `json.dumps([future.stats for future in futures])`, as one stores them

Storage that is far away adds the time that the bytes take. How long the client's monitor works
while a job runs goes by the job's length, and is not in here.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import results
from lithops_overhead import ALONE, MATRIX, environment, turns

#: By name: the value of ENERGY_STATS; `None` for Lithops alone.
KINDS = {ALONE: None, "full": "", "compact": "compact", "essential": "essential"}

#: Statuses of a job that are kept as texts.
TEXTS = 1000

#: Statuses, at most, that are kept in memory to see how much they take.
KEPT = 20_000

#: Runs a job; prints what it took as JSON, and leaves the texts of its first statuses in a file.
JOB = f"""
import json, os, pickle, sys, time
from pathlib import Path
import lithops

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # Lithops prints there, too
calls, texts, metered = int(sys.argv[1]), sys.argv[2], sys.argv[3] == "True"

def nothing(x):
    return x

def rss():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

executor = lithops.FunctionExecutor(config={{
    "lithops": {{"backend": "localhost", "storage": "localhost", "log_level": "WARNING",
                "data_cleaner": False}},
    "localhost": {{"runtime": "python", "version": 1, "worker_processes": 1}},
}})
executor.get_result(executor.map(nothing, [0]))
before = rss()
began = time.perf_counter()
futures = executor.map(nothing, list(range(calls)))
unread = pickle.loads(pickle.dumps(futures))  # the monitor knows nothing of these
key = f"*/{{futures[0].executor_id}}-{{futures[0].job_id}}/*/status.json"
while True:
    there = list(Path(os.environ["TMPDIR"]).glob(f"lithops-*/*/{{key}}"))
    if len(there) >= calls:
        break
    time.sleep(2)
took = {{"job": time.perf_counter() - began}}
began = time.perf_counter()
found = executor.get_result(futures)
took["get_result"] = time.perf_counter() - began
assert sorted(found) == list(range(calls)), len(found)
took["memory"] = rss() - before
began = time.process_time()
for future in unread:
    future.status(internal_storage=executor.internal_storage)
took["reading"] = time.process_time() - began
assert unread[-1].stats.keys() >= {{"worker_exec_time"}}
sizes = [path.stat().st_size for path in there]
took["status"] = sum(sizes) / len(sizes)
with open(texts, "w") as file:
    for path in there[:{TEXTS}]:
        file.write(path.read_text() + "\\n")
began = time.perf_counter()
text = json.dumps([future.stats for future in futures])
took["all stats"] = time.perf_counter() - began
assert metered == ("worker_func_energy_consumption" in futures[-1].stats)
if metered:
    from lithowatt.lithops import table
    began = time.perf_counter()
    table(futures)
    took["table"] = time.perf_counter() - began
print(json.dumps(took), file=answers, flush=True)
os._exit(0)
"""

#: Decodes statuses as the client does; prints seconds for all, and bytes of memory for one.
DECODE = f"""
import json, os, sys, time
from pathlib import Path

texts = Path(sys.argv[1]).read_bytes().splitlines()
count = int(sys.argv[2])

def decoded(data):
    # Of lithops.storage.get_call_status, and of ResponseFuture, which keeps both.
    status = json.loads(data.decode("ascii"))
    stats = {{}}
    stats.update({{
        key: status[key]
        for key in status
        if any(key.startswith(prefix) for prefix in ("func", "host", "worker"))
    }})
    return status, stats

def rss():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

kept, before = [], rss()
for number in range(min(count, {KEPT})):
    kept.append(decoded(texts[number % len(texts)]))
memory = (rss() - before) / len(kept)
del kept
began = time.process_time()
for number in range(count):
    decoded(texts[number % len(texts)])
print(time.process_time() - began, memory)
"""


def run_job(python: Path, kind: str, calls: int, texts: Path) -> dict[str, float]:
    """What one job took."""
    with tempfile.TemporaryDirectory(prefix="lw-", ignore_cleanup_errors=True) as scratch:
        env = {k: v for k, v in os.environ.items() if not k.startswith(("ENERGY_", "PYTHON"))}
        env |= {"HOME": scratch, "TMPDIR": scratch, "ENERGY_STATS": KINDS[kind] or ""}
        env["PATH"] = f"{python.parent}{os.pathsep}{env['PATH']}"
        command = [str(python), "-c", JOB, str(calls), str(texts), str(KINDS[kind] is not None)]
        done = subprocess.run(command, env=env, cwd=scratch, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{kind}: {done.stderr[-4000:]}")
    took: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return took


def job_figures(kind: str, runs: Sequence[dict[str, float]], texts: Path) -> list[results.Figure]:
    """Of one form, per call where that makes sense."""
    first = json.loads(texts.read_text().splitlines()[-1])
    ours = {k: v for k, v in first.items() if k.startswith(OURS) or k in PROCESSOR}
    figures = [
        results.figure(f"{kind}: status", "B", [run["status"] for run in runs]),
        results.Figure(f"{kind}: keys of lithowatt", "", len(ours)),
    ]
    for name, key, unit in (
        ("reading, CPU", "reading", "s"),
        ("get_result", "get_result", "s"),
        ("client's memory", "memory", "MB"),
        ("job", "job", "s"),
        ("all stats", "all stats", "s"),
        ("table", "table", "s"),
    ):
        values = [run[key] for run in runs if key in run]
        if values:
            figures.append(results.figure(f"{kind}: {name}", unit, values))
    return figures


OURS = (
    *("worker_task_", "worker_func_energy_", "worker_func_rapl_", "worker_func_perf_"),
    *("worker_func_ebpf_", "worker_func_tdp_", "worker_func_psutil_", "worker_func_aws_"),
    *("worker_func_k8s_", "worker_func_container_", "worker_func_machine_", "worker_func_avg_"),
)
PROCESSOR = tuple(
    f"worker_processor_{part}" for part in ("name", "brand", "cores", "threads", "info")
)


def decode_figures(texts: dict[str, Path], count: int, rounds: int) -> list[results.Figure]:
    """The client's part of so many statuses, in turns."""
    found: dict[str, list[list[float]]] = {kind: [] for kind in texts}
    for order in turns(list(texts), rounds):
        for kind in order:
            print(f"decoding {kind} …", file=sys.stderr)
            command = [sys.executable, "-c", DECODE, str(texts[kind]), str(count // rounds)]
            out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            found[kind].append([float(part) for part in out.split()])
    figures = []
    for kind, rows in found.items():
        seconds, memory = zip(*rows, strict=True)
        # Of a million, however many were decoded.
        scaled = [one * rounds / count * 1e6 for one in seconds]
        figures += [
            results.figure(f"{kind}: decoding a million statuses, CPU", "s", scaled),
            results.Figure(
                f"{kind}: memory of a million", "GB", statistics.median(memory) * 1e6 / 1e9
            ),
        ]
    return figures


ROWS = (
    "keys of lithowatt",
    "status",
    "job",
    "reading, CPU",
    "get_result",
    "all stats",
    "table",
    "client's memory",
    "decoding a million statuses, CPU",
    "memory of a million",
)


def table(figures: Sequence[results.Figure]) -> str:
    """A line for each figure, a column for each form."""
    by_name = {one.name: one for one in figures}
    lines = ["| | " + " | ".join(KINDS) + " |", "|---|" + "---:|" * len(KINDS)]
    for row in ROWS:
        cells = [by_name.get(f"{kind}: {row}") for kind in KINDS]
        unit = next((one.unit for one in cells if one is not None), "")
        title = f"{row}, {unit}" if unit else row
        lines.append(f"| {title} | " + " | ".join(map(shown, cells)) + " |")
    return "\n".join(lines)


def shown(one: results.Figure | None) -> str:
    """Three significant digits."""
    if one is None:
        return "–"
    if one.value >= 100 or one.unit == "":
        return f"{one.value:.0f}"
    return f"{one.value:.{1 if one.value >= 10 else 2}f}"


def main() -> int:
    """Measures, prints the table, and writes the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--calls", type=int, default=10_000, help="calls of a job (%(default)s)")
    parser.add_argument("--rounds", type=int, default=1, help="jobs of each form (%(default)s)")
    parser.add_argument(
        "--synthetic", type=int, default=1_000_000, metavar="N", help="statuses (%(default)s)"
    )
    parser.add_argument("--release", default=MATRIX[-1], help="of Lithops (%(default)s)")
    parser.add_argument("--wheel", type=Path, metavar="FILE", help="else this interpreter's build")
    results.argument(parser)
    options = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="lw-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        alone = environment(options.release, folder / ALONE, None, metered=False)
        ours = environment(options.release, folder / "ours", options.wheel, metered=True)
        pythons = {kind: alone if kind == ALONE else ours for kind in KINDS}
        texts = {kind: folder / f"{kind}.txt" for kind in KINDS}
        runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
        for order in turns(list(KINDS), options.rounds):
            for kind in order:
                print(f"{options.calls} calls, {kind} …", file=sys.stderr)
                runs[kind].append(run_job(pythons[kind], kind, options.calls, texts[kind]))
        figures = [one for kind in KINDS for one in job_figures(kind, runs[kind], texts[kind])]
        if options.synthetic:
            figures += decode_figures(texts, options.synthetic, 5)
    print(table(figures))
    print(f"load average {', '.join(f'{load:.1f}' for load in os.getloadavg())}")
    if options.json:
        how = {"calls": options.calls, "release": options.release}
        results.write(options.json, "stats_size", figures, how)
    return 0


if __name__ == "__main__":
    sys.exit(main())
