"""What metering costs on machines of many CPUs: ``python benches/python/growth.py [--json FILE]``.

Every machine is a tree of plain files in memory (``tests/support/large_machine.py``): `/proc` and
`/sys` of so many CPUs, two energy zones for each package. All of them are measured in turn in one
run, so that their ratios hold on a busy machine, too. What is timed is lithowatt with its system
calls and Python; what the kernel of a large machine takes to answer is not, nor is the power PMU,
which can be opened on CPUs that exist only.

Calls are the system calls of a start with its stop, and of a sample, as the kernel's tracepoint
counts them (``perf stat``; without it they are left out).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parents[1] / "tests" / "rig")]

import results  # noqa: E402

SIZES = ((2, 2), (64, 2), (256, 2), (1024, 2), (1024, 4), (1024, 16))
"""CPUs and packages; the first is what the others are compared with."""

GOAL = 3.0
"""Start and stop on the largest machine may take that many times what they take on the first."""

METHODS = {"rapl": ["rapl"], "all": ["rapl", "psutil", "tdp"]}

COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("rapl_us", "start + stop, rapl", "µs"),
    ("rapl_zone_us", "… for each zone", "µs"),
    ("all_us", "start + stop, rapl, psutil, tdp", "µs"),
    ("apart_us", "… 60 ms apart", "µs"),
    ("rapl_calls", "system calls of start + stop, rapl", ""),
    ("all_calls", "… rapl, psutil, tdp", ""),
    ("first_ms", "first window in a process, with its reading", "ms"),
    ("tick_us", "sample, CPU time", "µs"),
    ("tick_calls", "… system calls", ""),
    ("agent_us", "agent's sample, CPU time", "µs"),
    ("doctor_ms", "`lithowatt doctor`, CPU time", "ms"),
    ("top_ms", "`lithowatt top --once`, CPU time", "ms"),
    ("rss_mb", "memory after a reading, RSS", "MB"),
    ("pss_mb", "… PSS", "MB"),
    ("agent_rss_mb", "agent's memory, RSS", "MB"),
)


# -- in a process of its own ---------------------------------------------------------------------


def timed(pause: float, turns: int, action: Callable[[], object]) -> float:
    """Median of one action, µs."""
    took = []
    for _ in range(turns):
        if pause:
            time.sleep(pause)
        began = time.perf_counter_ns()
        action()
        took.append(time.perf_counter_ns() - began)
    return statistics.median(took) / 1e3


def memory_mb() -> dict[str, float]:
    """Of this process, MB."""
    sizes = {}
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]:
        name, _, value = line.partition(":")
        sizes[name] = int(value.split()[0]) * 1024e-6
    return {"rss_mb": sizes["Rss"], "pss_mb": sizes["Pss"]}


def sampler_seconds() -> float:
    """CPU time of this process's sampler so far, s."""
    total = 0
    for task in Path("/proc/self/task").iterdir():
        if (task / "comm").read_text() == "lithowatt\n":
            total += int((task / "schedstat").read_text().split()[0])
    return total * 1e-9


def probe(task: str, root: str, turns: int) -> dict[str, float]:
    """One task of the child."""
    from lithowatt import EnergyMeter

    def meter(name: str, interval: float | None) -> EnergyMeter:
        return EnergyMeter(methods=METHODS[name], interval=interval, root=root)

    def pair(one: EnergyMeter) -> Callable[[], object]:
        return lambda: (one.start(), one.stop())

    if task == "windows":
        found = {}
        for name in METHODS:
            one = meter(name, None)
            timed(0, turns // 10, pair(one))
            found[f"{name}_us"] = timed(0, turns, pair(one))
        took = []
        for _ in range(turns // 100):
            time.sleep(0.06)
            began = time.perf_counter_ns()
            one.start()
            between = time.perf_counter_ns()
            time.sleep(0.06)
            resumed = time.perf_counter_ns()
            one.stop()
            took.append(time.perf_counter_ns() - resumed + between - began)
        found["apart_us"] = statistics.median(took) / 1e3
        return found
    if task == "first":
        began = time.perf_counter_ns()
        one = meter("all", 0.1)
        one.start()
        one.stop()
        assert one.reading.duration > 0
        first_ms = (time.perf_counter_ns() - began) / 1e6
        return {"first_ms": first_ms, **memory_mb()}
    if task in METHODS:
        # Nothing but windows, for whoever counts calls from outside.
        one = meter(task, None)
        timed(0, turns, pair(one))
        return {}
    one = meter("all", 0.1)
    one.start()
    time.sleep(0.5)
    taken, cpu = one.reading.samples, sampler_seconds()
    time.sleep(turns / 10)
    samples = one.reading.samples - taken
    cpu = sampler_seconds() - cpu
    one.stop()
    return {"tick_us": 1e6 * cpu / samples, "samples": one.reading.samples}


# -- from outside --------------------------------------------------------------------------------


def child(task: str, root: Path, turns: int, before: Sequence[str] = ()) -> dict[str, float]:
    command = [*before, sys.executable, __file__, "--probe", task, str(root), str(turns)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def calls(task: str, root: Path, folder: Path) -> float | None:
    """System calls of one turn of a task; of two runs, the difference in calls by that in turns."""
    counts = []
    for turns in (20, 60) if task == "ticks" else (100, 1100):
        out = folder / "calls"
        perf = ["perf", "stat", "-x,", "-o", str(out), "-e", "raw_syscalls:sys_enter", "--"]
        try:
            found = child(task, root, turns, perf)
            line = out.read_text().splitlines()[-1]
            counts.append((float(line.split(",")[0]), found.get("samples", turns)))
        except (OSError, subprocess.CalledProcessError, ValueError, IndexError):
            return None
    (few, some), (many, more) = counts
    return (many - few) / (more - some)


def verb_ms(*words: str) -> float:
    """CPU time of a command of lithowatt, less that of one that does nothing, ms."""
    took = []
    for arguments in (words, ("--version",)):
        before = os.times()
        command = [sys.executable, "-m", "lithowatt", *arguments]
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        after = os.times()
        used = after.children_user + after.children_system
        took.append(used - before.children_user - before.children_system)
    return 1e3 * (took[0] - took[1])


def agent(root: Path, folder: Path, seconds: float) -> dict[str, float]:
    """What one sample of the agent takes at 100 a second, and the agent's memory."""
    from tests.support.agent_tools import AgentProcess

    # A name per call: a ring that is there is gone on with.
    place = Path(tempfile.mkdtemp(dir=folder))
    with AgentProcess(root, place / "run/lithowatt/ring", "--rate", "100") as running:
        assert running.process is not None
        tasks = Path(f"/proc/{running.process.pid}/task")

        def used() -> int:
            total = 0
            for task in tasks.iterdir():
                if (task / "comm").read_text().startswith("lithowatt-agent"):
                    total += int((task / "schedstat").read_text().split()[0])
            return total

        time.sleep(0.5)
        before, began = used(), time.monotonic()
        time.sleep(seconds)
        took, span = used() - before, time.monotonic() - began
        status = Path(f"/proc/{running.process.pid}/status").read_text()
    rss = int(status.split("VmRSS:")[1].split()[0]) * 1024e-6
    return {"agent_us": took * 1e-3 / (span * 100), "agent_rss_mb": rss}


def measure(rounds: int, turns: int, folder: Path) -> list[dict[str, Any]]:
    """Every size in turn, as often as there are rounds."""
    from tests.support.large_machine import LargeMachine

    with contextlib.ExitStack() as stack:
        machines = []
        for number, (cpus, packages) in enumerate(SIZES):
            print(f"making {cpus} CPUs in {packages} packages …", file=sys.stderr)
            machine = LargeMachine(folder / f"m{number}", cpus, packages)
            machines.append(stack.enter_context(machine))
        seen: list[dict[str, list[float]]] = [{} for _ in machines]
        for turn in range(rounds):
            print(f"round {turn + 1} of {rounds} …", file=sys.stderr)
            for machine, values in zip(machines, seen, strict=True):
                root = machine.root
                found = child("windows", root, turns)
                found |= child("first", root, 1)
                found |= child("ticks", root, 20)
                found |= agent(root, folder, 2.0)
                found["doctor_ms"] = verb_ms("doctor", "--root", str(root))
                top = ("top", "--once", "--json", "--interval", "1", "--root", str(root))
                found["top_ms"] = verb_ms(*top)
                for name, value in found.items():
                    values.setdefault(name, []).append(value)
        rows = []
        for machine, values in zip(machines, seen, strict=True):
            row: dict[str, Any] = {"cpus": machine.cpus, "packages": machine.packages}
            row["zones"] = len(machine.tree.zones)
            row |= {name: statistics.median(every) for name, every in values.items()}
            row["every"] = values
            row["rapl_zone_us"] = row["rapl_us"] / row["zones"]
            for task, name in (
                ("rapl", "rapl_calls"),
                ("all", "all_calls"),
                ("ticks", "tick_calls"),
            ):
                row[name] = calls(task, machine.root, folder)
            rows.append(row)
    return rows


def figure(value: float | None) -> str:
    """Three significant digits, plainly written."""
    if value is None:
        return "–"
    return f"{value:.{0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2}f}"


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A line for each cost, a column for each size."""
    heads = [("CPUs", "cpus"), ("packages", "packages"), ("zones", "zones")]
    width = max(len(name) + len(unit) + 2 for _, name, unit in COLUMNS)
    lines = []
    for name, key in heads:
        lines.append(f"{name:<{width}}" + "".join(f"{row[key]:>8}" for row in rows))
    for key, name, unit in COLUMNS:
        title = f"{name}, {unit}" if unit else name
        lines.append(f"{title:<{width}}" + "".join(f"{figure(row[key]):>8}" for row in rows))
    return lines


def figures(rows: Sequence[dict[str, Any]]) -> list[results.Figure]:
    """Each cost of each size."""
    listed = []
    for row in rows:
        for key, what, unit in COLUMNS:
            # Some columns go on from the one before.
            name = f"{row['cpus']} CPUs, {row['packages']} packages: {key}, {what.strip('… ')}"
            if key in row["every"]:
                listed.append(results.figure(name, unit, row["every"][key]))
            elif row[key] is not None:
                listed.append(results.Figure(name, unit, row[key]))
    return listed


def main() -> None:
    """Prints the table and the ratios of the largest machine to the first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--turns", type=int, default=3000, help="windows in a row (%(default)s)")
    results.argument(parser)
    parser.add_argument("--probe", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.probe:
        task, root, turns = arguments.probe
        print(json.dumps(probe(task, root, int(turns))))
        return
    base = "/dev/shm" if Path("/dev/shm").is_dir() else None
    folder = Path(tempfile.mkdtemp(prefix="lithowatt-bench-", dir=base))
    try:
        rows = measure(arguments.rounds, arguments.turns, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print("\n".join(table(rows)))
    first, last = rows[0], rows[-1]
    ratios = {
        "sum": last["rapl_us"] / first["rapl_us"],
        "zone": last["rapl_zone_us"] / first["rapl_zone_us"],
        "all": last["all_us"] / first["all_us"],
    }
    print(
        f"\nstart + stop on the last machine: {ratios['sum']:.2f} × the first with rapl, "
        f"{ratios['all']:.2f} × with all,\n{ratios['zone']:.2f} × for each zone "
        f"({last['zones'] / first['zones']:.0f} × as many); the goal is {GOAL:.0f} ×"
    )
    if arguments.json:
        how = {"turns": arguments.turns}
        results.write(arguments.json, "growth", figures(rows), how, {"ratios": ratios})


if __name__ == "__main__":
    main()
