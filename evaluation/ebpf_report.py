"""Attribution by kernel probes against attribution by CPU clocks, on the simulated machine.

``python evaluation/ebpf_report.py [--seconds 5] [--rounds 3]`` runs four functions at once, each in
a process of its own with two meters round the same work: one that weighs by what the probes saw,
one by the CPU clocks of the processes it can find. The simulated machine knows what each really
used, by perf's clock, which stops within a child's exit: for many short children it is low, so the
CPU seconds are compared with what the processes themselves and rusage say, too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parents[1] / "tests" / "rig")]

from evaluation.accuracy_report import burn  # noqa: E402
from lithowatt import EnergyMeter  # noqa: E402
from rig import Rig  # noqa: E402

KINDS = ("burner", "sleeper", "forker", "pool")
"""What the four do: 30 % of a CPU in long bursts; 5 % in bursts of 0.5 ms; children of 2 to 5 ms,
every other one double-forked so that nobody waits for it; two child processes that were there
before the meter and work in bursts of 1 to 10 ms."""

BY_PROBES = ("rapl", "ebpf", "psutil")
BY_CLOCKS = ("rapl", "psutil")


@dataclass(frozen=True)
class Outcome:
    """One function of one round."""

    kind: str
    truth: float
    """Above idle, J."""
    probes: float
    clocks: float
    cpu_probes: float
    """s."""
    cpu_clocks: float
    cpu_truth: float
    machine: float
    idle: float
    method: str

    @property
    def error_probes(self) -> float:
        return self.probes / self.truth - 1.0

    @property
    def error_clocks(self) -> float:
        return self.clocks / self.truth - 1.0


def bursts(seconds: float, duty: float, shortest: float, longest: float) -> None:
    rnd = random.Random(os.getpid())
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        on = rnd.uniform(shortest, longest)
        burn(on)
        time.sleep(max(0.0, min(on * (1 - duty) / duty, end - time.monotonic())))


def used() -> float:
    """CPU time of this process and the children that it waited for, s."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def fork_many(seconds: float) -> float:
    """Returns the CPU time of those that nobody waited for, s."""
    rnd = random.Random(1)
    out, into = os.pipe()
    end = time.monotonic() + seconds
    count = 0
    while time.monotonic() < end:
        count += 1
        child = os.fork()
        if child == 0:
            if count % 2 == 0 and os.fork() != 0:
                os._exit(0)
            burn(rnd.uniform(0.002, 0.005))
            if count % 2 == 0:
                os.write(into, struct.pack("d", time.process_time()))
            os._exit(0)
        rnd.random()  # as the child did
        os.waitpid(child, 0)
        time.sleep(0.01)
    os.close(into)
    with open(out, "rb") as pipe:
        return sum(value for (value,) in struct.iter_unpack("d", pipe.read()))


def work(kind: str, root: str, seconds: float) -> dict[str, Any]:
    """Does ``kind`` of work under two meters."""
    pool = []
    orphans = 0.0
    if kind == "pool":
        for _ in range(2):
            ours, theirs = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.close(theirs)
                os.read(ours, 1)
                bursts(seconds, 0.15, 0.001, 0.01)
                os._exit(0)
            os.close(ours)
            pool.append((pid, theirs))
    with (
        EnergyMeter(root=root, methods=BY_PROBES) as probes,
        EnergyMeter(root=root, methods=BY_CLOCKS) as clocks,
    ):
        before = used()
        if kind == "burner":
            bursts(seconds, 0.3, 0.02, 0.08)
        elif kind == "sleeper":
            bursts(seconds, 0.05, 0.0004, 0.0006)
        elif kind == "forker":
            orphans = fork_many(seconds)
        for _, start in pool:
            os.write(start, b"x")
        for pid, _ in pool:
            os.waitpid(pid, 0)
        truth = used() - before + orphans
    return {"probes": probes.reading.raw, "clocks": clocks.reading.raw, "cpu": truth}


def one_round(rig: Rig, seconds: float) -> list[Outcome]:
    """The four at once."""
    environment = {**os.environ, "LITHOWATT_IDLE_WATTS": "20"}
    with contextlib.ExitStack() as stack:
        workers = []
        for kind in KINDS:
            command = [sys.executable, str(HERE), "--worker", kind, str(rig.root), str(seconds)]
            workers.append(
                stack.enter_context(
                    subprocess.Popen(
                        command,
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        text=True,
                        env=environment,
                    )
                )
            )
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
            rig.register(worker.pid)
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        answers = [json.loads(worker.communicate()[0]) for worker in workers]
    outcomes = []
    for kind, worker, answer in zip(KINDS, workers, answers, strict=True):
        probes, clocks = answer["probes"], answer["clocks"]
        headline = probes["headline"]
        # The outer window is the probes': the two begin and end within microseconds.
        truth = rig.energy(*probes["window_ns"])
        outcomes.append(
            Outcome(
                kind=kind,
                truth=truth.pids[worker.pid],
                probes=headline["division"]["marginal"],
                clocks=clocks["headline"]["division"]["marginal"],
                cpu_probes=probes["cpu_seconds"],
                cpu_clocks=clocks["cpu_seconds"],
                cpu_truth=answer["cpu"],
                machine=headline["division"]["machine"],
                idle=headline["division"]["idle"],
                method=headline["method"],
            )
        )
        rig.unregister(worker.pid)
    return outcomes


def rounds(count: int, seconds: float) -> list[list[Outcome]]:
    """Several rounds on a machine whose power follows the load."""
    with Rig(domains=("package",), idle_watts=20, gain=30, gamma=0.8) as rig:
        return [one_round(rig, seconds) for _ in range(count)]


def table(all_rounds: list[list[Outcome]]) -> Iterator[str]:
    """Medians over the rounds, one line per function."""
    yield "           truth   by probes          by clocks          CPU time   by probes  by clocks"
    yield "function       J         J   error          J   error         s"
    for n, kind in enumerate(KINDS):
        row = [outcomes[n] for outcomes in all_rounds]

        def mid(values: Iterable[float]) -> float:
            return statistics.median(values)

        yield (
            f"{kind:<9} {mid(o.truth for o in row):6.2f} {mid(o.probes for o in row):9.2f} "
            f"{100 * mid(o.error_probes for o in row):+6.1f} % {mid(o.clocks for o in row):9.2f} "
            f"{100 * mid(o.error_clocks for o in row):+6.1f} % {mid(o.cpu_truth for o in row):9.3f}"
            f" {100 * mid(o.cpu_probes / o.cpu_truth - 1 for o in row):+10.2f} %"
            f" {100 * mid(o.cpu_clocks / o.cpu_truth - 1 for o in row):+8.2f} %"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", nargs=3, metavar=("KIND", "ROOT", "SECONDS"))
    arguments = parser.parse_args()
    if arguments.worker:
        kind, root, seconds = arguments.worker
        print("ready", flush=True)
        sys.stdin.readline()
        print(json.dumps(work(kind, root, float(seconds)), default=str), flush=True)
        return
    for line in table(rounds(arguments.rounds, arguments.seconds)):
        print(line)


if __name__ == "__main__":
    main()
