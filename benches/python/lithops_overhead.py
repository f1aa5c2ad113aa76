"""What metering adds to a Lithops call: trivial calls without lithowatt and with builds of it.

    python benches/python/lithops_overhead.py                                # 3.8.0, both runners
    python benches/python/lithops_overhead.py --releases all --wheel NEW.whl --old-wheel OLD.whl
    python benches/python/lithops_overhead.py --part start --pairs 200

Each release of Lithops gets environments of its own (as the tests make them): Lithops alone, with
today's build (`--wheel`, else the lithowatt of this interpreter; a debug build is many times slower
than what users get), and with an old wheel (`--old-wheel`). A client of each lives through all
rounds; their jobs take turns, each client the first in turn, and a call is paired with the call of
the same place in the job of Lithops alone of that round. What is added is the median of the pairs'
differences, with its 95 % interval, so a machine that gets busier slows both of a pair.

    task      worker_exec_time: from the start of a task to its end in the worker
    function  worker_func_exec_time: the function's own time as Lithops takes it
    merging   from the end of the task's time to the sending of its status, where the hook adds the
              values: outside of both times above. A module in each environment takes that time

v1 runs all calls of a job in one warm worker, v2 starts an interpreter for each.

Parts: `calls` (that table), `worker` (what loading and warming up take once a worker, and a
worker's memory, in the last of the releases), `start` (`python -c pass` in pairs, and what
`-X importtime` shows of the wheel's .pth).
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import results

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP))

from tests.support.lithops_environments import MATRIX, site_packages, stacked  # noqa: E402

#: Lithops alone, which the others are compared with.
ALONE = "alone"
NEW, OLD = "new", "old"

#: Calls of a job by runner: v1 has a worker for a job, v2 an interpreter for each call, which takes
#: a second, and the calls of a pair shall be near each other.
JOB_SIZE = {1: 10, 2: 2}

#: Keys of a call's stats: seconds.
TASK, FUNCTION, MERGING = "worker_exec_time", "worker_func_exec_time", "worker_bench_merging"

#: A client: runs a job for each line it reads, prints the stats of its calls, and their results.
CLIENT = """
import json, os, sys
import lithops

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # Lithops prints there, too

def nothing(x):
    return x

def pss(x):
    # KiB of this process and of the worker that forked it; what they share counts half in each
    files = ["/proc/%d/smaps_rollup" % pid for pid in (os.getpid(), os.getppid())]
    return sum(int(line.split()[1]) for f in files for line in open(f) if line.startswith("Pss:"))

executor = lithops.FunctionExecutor(config={
    "lithops": {"backend": "localhost", "storage": "localhost", "log_level": "INFO",
                "data_cleaner": False, "monitoring_interval": 0.1},
    "localhost": {"runtime": "python", "version": int(sys.argv[1]), "worker_processes": 1},
})
for line in sys.stdin:
    name, calls = line.split()
    futures = executor.map({"nothing": nothing, "pss": pss}[name], list(range(int(calls))))
    found = executor.get_result(futures)
    print(json.dumps([[future.stats for future in futures], found]), file=answers, flush=True)
os._exit(0)
"""

#: In each environment: takes the time from a task's end to the sending of its status.
WATCH = f"""
import importlib.util, sys, time

class Finder:
    def find_spec(self, name, path=None, target=None):
        # Up to 3.7, and since 3.8.
        if name not in ("lithops.worker.status", "lithops.monitoring.status"):
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module
        def exec_module(module):
            execute(module)
            watch(module.CallStatus)
        spec.loader.exec_module = exec_module
        return spec

def watch(status):
    send = status.send_finish_event
    def send_finish_event(self, *args, **kwargs):
        now = time.time()
        self.status["{MERGING}"] = now - self.status.get("worker_end_tstamp", now)
        return send(self, *args, **kwargs)
    status.send_finish_event = send_finish_event

sys.meta_path.insert(0, Finder())
"""

#: In a worker, Lithops loaded and not yet metered: seconds to load lithowatt and warm up, and KiB.
WARM_UP = """
import os, sys, time
import lithops.worker.handler as handler

# It was off, so that the hook did not load lithowatt before the clock runs.
os.environ["ENERGY_MONITORING_ENABLED"] = "true"

def pss():
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pss:"))

before, began = pss(), time.perf_counter()
from lithowatt.lithops import _worker
assert _worker.patch(handler)
print(time.perf_counter() - began, pss() - before)
"""


# -- environments ----------------------------------------------------------------------------------


def environment(release: str, home: Path, wheel: Path | None, metered: bool) -> Path:
    """The interpreter of an environment with this Lithops and a lithowatt, or with none."""
    python = stacked(release, home, lithowatt=metered and wheel is None)
    if wheel is not None:
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
        pip += ["--disable-pip-version-check", "--root-user-action=ignore", "--no-deps", str(wheel)]
        subprocess.run(pip, check=True)
    packages = site_packages(python)
    (packages / "_bench_watch.py").write_text(WATCH)
    (packages / "bench-watch.pth").write_text("import _bench_watch\n")
    compileall.compile_dir(packages, quiet=2)  # as pip does
    return python


def environments(release: str, folder: Path, options: argparse.Namespace) -> dict[str, Path]:
    """The interpreters by kind."""
    kinds = {ALONE: environment(release, folder / ALONE, None, metered=False)}
    if options.old_wheel is not None:
        kinds[OLD] = environment(release, folder / OLD, options.old_wheel, metered=True)
    kinds[NEW] = environment(release, folder / NEW, options.wheel, metered=True)
    return kinds


def turns(kinds: Sequence[str], rounds: int) -> Iterator[list[str]]:
    """The order in each round: each kind is the first in turn."""
    for number in range(rounds):
        at = number % len(kinds)
        yield [*kinds[at:], *kinds[:at]]


# -- calls -----------------------------------------------------------------------------------------


class Client:
    """A process that runs jobs of one environment on one runner, in directories of its own."""

    def __init__(self, kind: str, python: Path, runner: int, scratch: Path) -> None:
        self.kind = kind
        home = scratch / kind
        home.mkdir()
        env = {k: v for k, v in os.environ.items() if not k.startswith(("ENERGY_", "PYTHON"))}
        env |= {"HOME": str(home), "TMPDIR": str(home)}
        # Lithops before 3.2 takes a name with a slash for a container image.
        env["PATH"] = f"{python.parent}{os.pathsep}{env['PATH']}"
        self._home = home
        self._errors = (home / "errors").open("w")
        self._process = subprocess.Popen(
            [str(python), "-c", CLIENT, str(runner)],
            env=env,
            cwd=home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,
        )

    def job(self, function: str, calls: int) -> tuple[list[dict[str, Any]], list[Any]]:
        """The stats of a job's calls, and their results."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(function, calls, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self.kind}: {(self._home / 'errors').read_text()[-4000:]}")
        stats, found = json.loads(answer)
        metered = "worker_func_energy_consumption" in stats[0]
        if metered != (self.kind != ALONE):
            raise SystemExit(f"{self.kind}: metering is {'' if metered else 'not '}active")
        return stats, found

    def lines(self) -> int:
        """How many lines its jobs logged."""
        logs = self._home.rglob("*.log")
        return sum(len(path.read_text(errors="replace").splitlines()) for path in logs)

    def close(self) -> None:
        """Ends it; what it started has its session, and ends with it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._errors.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, 15)


def measured(kinds: dict[str, Path], runner: int, calls: int) -> dict[str, dict[str, Any]]:
    """Of each kind its calls' stats, in the same order for all, their KiB and their lines."""
    size = JOB_SIZE[runner]
    found: dict[str, dict[str, Any]] = {kind: {"stats": [], "pss": []} for kind in kinds}
    with tempfile.TemporaryDirectory(prefix="lw-", ignore_cleanup_errors=True) as scratch:
        clients = {kind: Client(kind, kinds[kind], runner, Path(scratch)) for kind in kinds}
        try:
            for client in clients.values():
                client.job("nothing", 2)  # reads files that no cache has
            for order in turns(list(kinds), -(-calls // size)):
                for kind in order:
                    found[kind]["stats"] += clients[kind].job("nothing", size)[0]
            for kind, client in clients.items():
                found[kind]["pss"] = client.job("pss", 5)[1]
                found[kind]["lines"] = client.lines()
        finally:
            for client in clients.values():
                client.close()
    return found


def calls_figures(
    release: str, runner: int, found: dict[str, dict[str, Any]]
) -> list[results.Figure]:
    """The figures of one release on one runner."""
    where = f"{release} v{runner}"
    alone = found[ALONE]["stats"]

    def ms(stats: Sequence[dict[str, Any]], key: str) -> list[float]:
        return [float(one[key]) * 1e3 for one in stats]

    figures = [
        results.figure(f"{where}: task, {ALONE}", "ms", ms(alone, TASK)),
        results.figure(f"{where}: function, {ALONE}", "ms", ms(alone, FUNCTION)),
    ]
    for kind in (kind for kind in found if kind != ALONE):
        stats = found[kind]["stats"]
        for name, key in (("task", TASK), ("function", FUNCTION), ("merging", MERGING)):
            pairs = zip(ms(alone, key), ms(stats, key), strict=True)
            added = [b - a for a, b in pairs]
            figures.append(results.figure(f"{where}: {name}, {kind} added", "ms", added, ALONE))
        ours = {k: v for k, v in stats[1].items() if k not in alone[1]}
        memory = statistics.median(found[kind]["pss"]) - statistics.median(found[ALONE]["pss"])
        for name, unit, value in (
            ("keys", "", len(ours)),
            ("bytes", "B", len(json.dumps(ours))),
            ("lines at INFO", "", found[kind]["lines"] - found[ALONE]["lines"]),
            ("memory (PSS) of worker and function", "MB", memory * 1024e-6),
        ):
            figures.append(
                results.Figure(f"{where}: {name}, {kind} added", unit, value, against=ALONE)
            )
    return figures


def calls_table(figures: Sequence[results.Figure], kinds: Sequence[str]) -> str:
    """A row for each release and runner."""
    by_name = {one.name: one for one in figures}
    rows = list(dict.fromkeys(one.name.partition(":")[0] for one in figures))
    columns = [(f"task, {ALONE}", f"Lithops {ALONE}, ms")]
    for name, title in (
        ("task", "added to the task"),
        ("function", "inside the function"),
        ("merging", "merging"),
    ):
        columns += [(f"{name}, {kind} added", f"{title}: {kind}, ms") for kind in kinds]
    columns += [(f"bytes, {kind} added", f"bytes: {kind}") for kind in kinds]
    columns += [
        (f"memory (PSS) of worker and function, {kind} added", f"PSS: {kind}, MB") for kind in kinds
    ]
    lines = ["| Lithops | n | " + " | ".join(title for _, title in columns) + " |"]
    lines.append("|---|" + "---:|" * (len(columns) + 1))
    for row in rows:
        cells = [shown(by_name[f"{row}: {name}"]) for name, _ in columns]
        n = by_name[f"{row}: task, {ALONE}"].n
        lines.append(f"| {row} | {n} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def shown(one: results.Figure) -> str:
    """Value and half of its interval."""
    digits = 0 if one.unit in ("", "B") else 2
    spread = "" if one.spread is None else f" ± {one.spread:.{digits}f}"
    return f"{one.value:.{digits}f}{spread}"


# -- once a worker, and every interpreter ----------------------------------------------------------


def worker_figures(kinds: dict[str, Path], times: int) -> list[results.Figure]:
    """What it takes to load lithowatt and warm up in a worker that has loaded Lithops."""
    env = {**os.environ, "ENERGY_MONITORING_ENABLED": "false"}
    env = {key: value for key, value in env.items() if not key.startswith("PYTHON")}
    found: dict[str, list[list[float]]] = {kind: [] for kind in kinds if kind != ALONE}
    for order in turns(list(found), times + 1):
        for kind in order:
            command = [str(kinds[kind]), "-c", WARM_UP]
            out = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=env, text=True)
            found[kind].append([float(part) for part in out.stdout.split()])
    figures = []
    for kind, rows in found.items():
        # The first reads files that no cache has.
        seconds, kib = zip(*rows[1:], strict=True)
        figures += [
            results.figure(f"load and warm-up, {kind}", "ms", [1e3 * one for one in seconds]),
            results.figure(f"memory (PSS) after it, {kind}", "MB", [1024e-6 * one for one in kib]),
        ]
    return figures


def start_figures(kinds: dict[str, Path], pairs: int) -> list[results.Figure]:
    """Start and end of an interpreter that does nothing, in pairs with one without lithowatt."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    took: dict[str, list[float]] = {kind: [] for kind in kinds}
    for order in turns(list(kinds), pairs + 1):
        for kind in order:
            began = time.perf_counter()
            subprocess.run([str(kinds[kind]), "-c", "pass"], check=True, env=env)
            took[kind].append(1e3 * (time.perf_counter() - began))
    alone = took[ALONE][1:]
    figures = [results.figure(f"python -c pass, {ALONE}", "ms", alone)]
    for kind in (kind for kind in kinds if kind != ALONE):
        added = [b - a for a, b in zip(alone, took[kind][1:], strict=True)]
        figures.append(results.figure(f"python -c pass, {kind} added", "ms", added, ALONE))
    for kind in (kind for kind in kinds if kind != ALONE):
        figures += import_figures(kind, kinds[kind], env)
    return figures


def import_figures(kind: str, python: Path, env: dict[str, str]) -> list[results.Figure]:
    """What `-X importtime` says of each module of lithowatt in an interpreter that does nothing."""
    found: dict[str, list[float]] = {}
    for _ in range(20):
        command = [str(python), "-X", "importtime", "-c", "pass"]
        done = subprocess.run(command, check=True, stderr=subprocess.PIPE, env=env, text=True)
        for line in done.stderr.splitlines():
            _, whole, name = line.removeprefix("import time:").split("|")
            if "lithowatt" in name:
                found.setdefault(name.strip(), []).append(float(whole))
    # A .pth that imports nothing leaves no line there.
    count = results.Figure(f"-X importtime, modules of lithowatt, {kind}", "", len(found))
    return [
        count,
        *(
            results.figure(f"-X importtime, {name}, {kind}", "µs", microseconds)
            for name, microseconds in found.items()
        ),
    ]


def plain_environments(folder: Path, options: argparse.Namespace) -> dict[str, Path]:
    """Environments with nothing in them but lithowatt, or nothing at all."""
    kinds = environments(MATRIX[-1], folder, options)
    for python in kinds.values():
        # What Lithops and the bench have there would be part of every start.
        for name in ("packages.pth", "bench-watch.pth"):
            (site_packages(python) / name).unlink()
    return kinds


# -- all of it -------------------------------------------------------------------------------------


def measure(options: argparse.Namespace, say: Callable[[str], None]) -> list[results.Figure]:
    """The figures of all parts that were asked for, printed as they come."""
    releases = list(MATRIX) if options.releases == "all" else options.releases.split(",")
    builds = [OLD, NEW] if options.old_wheel is not None else [NEW]
    figures: list[results.Figure] = []
    with tempfile.TemporaryDirectory(prefix="lw-", ignore_cleanup_errors=True) as folder:
        if "calls" in options.part:
            of_calls: list[results.Figure] = []
            for release in releases:
                kinds = environments(release, Path(folder) / release, options)
                for runner in (1, 2):
                    print(f"Lithops {release} v{runner} …", file=sys.stderr)
                    found = measured(kinds, runner, options.calls)
                    of_calls += calls_figures(release, runner, found)
            say(calls_table(of_calls, builds))
            figures += of_calls
        if "worker" in options.part:
            kinds = environments(releases[-1], Path(folder) / "worker", options)
            figures += said(worker_figures(kinds, 20), say)
        if "start" in options.part:
            figures += said(
                start_figures(plain_environments(Path(folder) / "start", options), options.pairs),
                say,
            )
    return figures


def said(figures: list[results.Figure], say: Callable[[str], None]) -> list[results.Figure]:
    """Prints a line for each."""
    say("")
    for one in figures:
        say(f"{one.name:<52} {shown(one):>16} {one.unit}  (n = {one.n})")
    return figures


def main() -> int:
    """Measures, prints, and writes the figures."""
    parser = argparse.ArgumentParser(description="time that metering adds to a Lithops call")
    parser.add_argument("--calls", type=int, default=60, help="pairs of calls (%(default)s)")
    parser.add_argument("--pairs", type=int, default=200, help="starts of Python (%(default)s)")
    parser.add_argument(
        "--releases", metavar="LIST", default=MATRIX[-1], help="of Lithops, with commas, or all"
    )
    parser.add_argument("--wheel", type=Path, metavar="FILE", help="today's build")
    parser.add_argument("--old-wheel", type=Path, metavar="FILE", help="to compare it with")
    parts = ("calls", "worker", "start")
    parser.add_argument(
        "--part", action="append", choices=parts, help="only that; may be repeated (default: all)"
    )
    results.argument(parser)
    options = parser.parse_args()
    options.part = options.part or list(parts)

    figures = measure(options, print)
    print(f"load average {', '.join(f'{load:.1f}' for load in os.getloadavg())}")
    if options.json:
        wheels = {NEW: options.wheel, OLD: options.old_wheel}
        record = {name: wheel and wheel.name for name, wheel in wheels.items()}
        results.write(options.json, "lithops_overhead", figures, details={"wheels": record})
    return 0


if __name__ == "__main__":
    sys.exit(main())
