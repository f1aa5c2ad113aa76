"""How accurate is the meter? Experiments on the simulated machine, where the truth is known.

``python evaluation/accuracy_report.py [--runs 500]`` prints the tables; the tests use the same
experiments and assert on them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[1] / "tests" / "rig"))

from lithowatt import EnergyMeter  # noqa: E402
from lithowatt.meter._reading import Reading  # noqa: E402
from rig import Rig, Truth  # noqa: E402

DUTIES = (0.64, 0.48, 0.32, 0.16)
"""CPUs that the four concurrent processes use: 4:3:2:1."""

ODD_WEIGHT = 1.6
"""Watts per CPU second of the odd process, against the others'."""


def burn(cpu_seconds: float) -> float:
    """Uses the CPU of this thread for so long; returns what it really was, s."""
    begun = time.thread_time()
    x = 0
    while time.thread_time() - begun < cpu_seconds:
        for _ in range(1000):
            x += 1
    return time.thread_time() - begun


def truth_of(rig: Rig, reading: Reading) -> Truth:
    """The truth about the very window that a reading says it is of."""
    return rig.energy(*reading.raw["window_ns"])


# -- windows at constant watts --------------------------------------------------------------------


@dataclass
class Windows:
    """Package energy of many windows of one length."""

    seconds: float
    errors: list[float] = field(default_factory=list)
    """|reading - truth|, J."""
    halves: list[float] = field(default_factory=list)
    """Half-width of the stated band, J."""
    covered: int = 0
    missing: list[str] = field(default_factory=list)

    @property
    def runs(self) -> int:
        return len(self.errors)

    @property
    def median_error(self) -> float:
        return statistics.median(self.errors)

    def percentile(self, values: Sequence[float], part: float) -> float:
        return sorted(values)[min(len(values) - 1, math.ceil(part * len(values)) - 1)]


def windows(rig: Rig, seconds: float, runs: int, methods: Sequence[str] = ("rapl",)) -> Windows:
    """Meters ``runs`` windows of ``seconds`` and compares each with the truth."""
    result = Windows(seconds)
    for i in range(runs):
        meter = EnergyMeter(root=rig.root, methods=list(methods))
        # Lengths and beginnings fall on any phase of the counter's update: with one length for all,
        # every error would be the same two values.
        length = seconds + 1e-3 * (0.618034 * i % 1.0)
        with meter:
            time.sleep(length)
        reading = meter.reading
        estimate = reading.rapl.estimate("package")
        if estimate is None:
            result.missing.append(reading.rapl.source)
            continue
        truth = truth_of(rig, reading).package
        result.errors.append(abs(estimate.value - truth))
        result.halves.append((estimate.high - estimate.low) / 2)
        result.covered += estimate.low <= truth <= estimate.high
        time.sleep(0.00037 * (i % 7))
    return result


# -- concurrent processes -------------------------------------------------------------------------


@dataclass
class Share:
    """One of several processes that were metered at once, each by itself."""

    odd: bool
    cpu_seconds: float
    marginal: float
    truth: float
    low: float
    high: float
    idle: float
    others: float
    machine: float
    true: Truth
    idle_source: str

    @property
    def error(self) -> float:
        """Relative to the truth."""
        return self.marginal / self.truth - 1.0

    @property
    def inside(self) -> bool:
        return self.low <= self.truth <= self.high


def concurrent(
    rig: Rig, odd: int | None, seconds: float = 3.0, duties: Sequence[float] = DUTIES
) -> list[Share]:
    """Processes that use ``duties`` CPUs for ``seconds``; ``odd`` costs more per CPU second."""
    command = [sys.executable, str(HERE), "--worker", "burn", str(rig.root), str(seconds)]
    environment = {**os.environ, "LITHOWATT_IDLE_WATTS": "20"}
    with contextlib.ExitStack() as stack:
        workers = [
            stack.enter_context(
                subprocess.Popen(
                    [*command, str(duty), str(seed)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    env=environment,
                )
            )
            for seed, duty in enumerate(duties)
        ]
        for n, worker in enumerate(workers):
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
            rig.register(worker.pid, ODD_WEIGHT if n == odd else 1.0)
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        answers = [json.loads(worker.communicate()[0]) for worker in workers]
    shares = []
    for n, (worker, raw) in enumerate(zip(workers, answers, strict=True)):
        truth = rig.energy(*raw["window_ns"])
        headline = raw["headline"]
        division = headline["division"]
        # The headline may hold a share of idle power; what is compared is energy above idle.
        extra = headline["energy"]["joules"] - division["marginal"]
        shares.append(
            Share(
                odd=n == odd,
                cpu_seconds=raw["cpu_seconds"],
                marginal=division["marginal"],
                truth=truth.pids[worker.pid],
                low=headline["energy"]["low"] - extra,
                high=headline["energy"]["high"] - extra,
                idle=division["idle"],
                others=division["others"],
                machine=division["machine"],
                true=truth,
                idle_source=headline["idle_source"],
            )
        )
        rig.unregister(worker.pid)
    return shares


@dataclass
class Conservation:
    """Whether disjoint processes' energies add up to the machine's."""

    machine: float
    """Truth, J."""
    machine_error: float
    """Worst difference of a process's machine energy to the truth, relative."""
    sum_error: float
    """Worst difference of marginal + others + idle to the process's machine energy, relative."""
    rest: float
    """Machine - idle - Σ marginal: what is left for those that nobody metered, J."""
    rest_truth: float
    """What they used in truth, had they been charged by CPU time as everybody is, J."""

    @property
    def rest_error(self) -> float:
        """Relative to the machine."""
        return (self.rest - self.rest_truth) / self.machine


def conservation(shares: Sequence[Share]) -> Conservation:
    """The sums of one run of :func:`concurrent`."""
    first = shares[0]
    truth = first.true
    # What the unmetered would have got if CPU time were all that counted: the odd one's energy
    # weighs less then.
    metered = sum(s.truth / (ODD_WEIGHT if s.odd else 1.0) for s in shares)
    part = truth.others / (truth.others + metered)
    return Conservation(
        machine=truth.machine,
        machine_error=max(abs(s.machine / s.true.machine - 1.0) for s in shares),
        sum_error=max(abs((s.marginal + s.others + s.idle) / s.machine - 1.0) for s in shares),
        rest=first.machine - first.idle - sum(s.marginal for s in shares),
        rest_truth=truth.active * part,
    )


def share_table(shares: Sequence[Share]) -> Iterator[str]:
    """One line per process, then the sums."""
    yield "process      cpu s   metered J   truth J    error    95 % band          truth inside"
    for n, s in enumerate(shares):
        name = f"{n} {'x1.6' if s.odd else ''}"
        yield (
            f"{name:<10} {s.cpu_seconds:7.3f} {s.marginal:10.2f} {s.truth:10.2f} "
            f"{100 * s.error:+8.2f} % [{s.low:6.2f} .. {s.high:6.2f}]"
            f"   {'yes' if s.inside else 'NO'}"
        )
    c = conservation(shares)
    busy = sum(s.truth / (ODD_WEIGHT if s.odd else 1.0) for s in shares)
    weighed = busy + shares[0].true.others
    odd = next((s for s in shares if s.odd), None)
    if odd is not None:
        part = odd.truth / ODD_WEIGHT / weighed
        yield (
            f"the odd one had {100 * part:.1f} % of all busy time: split by CPU time, the alike "
            f"are up to {100 * 0.6 * part:+.1f} % off by its dearness alone"
        )
    yield (
        f"machine {shares[0].machine:.2f} J (truth {c.machine:.2f}, worst "
        f"{100 * c.machine_error:.3f} %), others that nobody metered {c.rest:.2f} J (truth by "
        f"CPU time {c.rest_truth:.2f}, {100 * c.rest_error:+.2f} % of the machine)"
    )


# -- children -------------------------------------------------------------------------------------


@dataclass
class Children:
    """A function whose work is all in children."""

    cpu_seconds: float
    cpu_truth: float
    marginal: float
    truth: float
    low: float
    high: float


def children(rig: Rig, orphan: bool = True) -> Children:
    """200 × ``true``, a child of 1 s, and an orphan of 0.3 s; metered in a process of its own.

    Nobody waits for an orphan but init: only perf's inherited clock sees it, asked for by name.
    """
    command = [sys.executable, str(HERE), "--worker", "children", str(rig.root), str(int(orphan))]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "LITHOWATT_IDLE_WATTS": "20"},
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        rig.register(worker.pid)
        raw = json.loads(worker.communicate("go\n")[0])
        headline = raw["headline"]
        extra = headline["energy"]["joules"] - headline["division"]["marginal"]
        truth = rig.energy(*raw["window_ns"]).pids[worker.pid]
        rig.unregister(worker.pid)
    return Children(
        cpu_seconds=raw["cpu_seconds"],
        cpu_truth=raw["cpu_truth"],
        marginal=headline["division"]["marginal"],
        truth=truth,
        low=headline["energy"]["low"] - extra,
        high=headline["energy"]["high"] - extra,
    )


# -- inside the workers ---------------------------------------------------------------------------


def work_in_bursts(root: str, seconds: float, duty: float, seed: int) -> dict[str, Any]:
    """Uses ``duty`` CPUs in bursts of 10 to 60 ms."""
    rnd = random.Random(seed)
    with EnergyMeter(root=root) as meter:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            on = rnd.uniform(0.01, 0.06)
            until = time.thread_time() + on
            while time.thread_time() < until and time.monotonic() < end:
                pass
            time.sleep(max(0.0, min(on * (1 - duty) / duty, end - time.monotonic())))
    return meter.reading.raw


def work_in_children(root: str, orphan: bool) -> dict[str, Any]:
    """Does nothing itself."""

    def used() -> float:
        of_children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.process_time() + of_children.ru_utime + of_children.ru_stime

    before = used()
    orphaned = 0.0
    with EnergyMeter(root=root, methods="rapl,perf,tdp" if orphan else "auto") as meter:
        for _ in range(200):
            subprocess.run(["true"], check=True)
        code = "import time\nwhile time.process_time() < 1.0: pass"
        subprocess.run([sys.executable, "-c", code], check=True)
        if orphan:
            orphaned = _orphan(0.3)
        metered = used()
    return {**meter.reading.raw, "cpu_truth": metered - before + orphaned}


def _orphan(cpu_seconds: float) -> float:
    """A grandchild whose parent is gone at once; returns the CPU time that it says it used."""
    out, into = os.pipe()
    if os.fork() == 0:
        if os.fork() == 0:
            burn(cpu_seconds)
            os.write(into, f"{time.process_time()}".encode())
        os._exit(0)
    os.wait()
    os.close(into)
    with open(out) as pipe:
        return float(pipe.read())


def worker(kind: str, arguments: Sequence[str]) -> None:
    """What the processes that are metered run."""
    print("ready", flush=True)
    sys.stdin.readline()
    if kind == "burn":
        root, seconds, duty, seed = arguments
        raw = work_in_bursts(root, float(seconds), float(duty), int(seed))
    else:
        root, orphan = arguments
        raw = work_in_children(root, orphan == "1")
    print(json.dumps(raw, default=str), flush=True)


# -- the report -----------------------------------------------------------------------------------

LENGTHS = (0.005, 0.010, 0.050, 0.500)


def report_windows(runs: int) -> Iterator[str]:
    yield f"rapl package at 50 W, {runs} windows each"
    yield "window      median error   95 % of errors   95 % of half-widths   band holds the truth"
    with Rig(watts=50.0, domains=("package",)) as rig:
        for seconds in LENGTHS:
            w = windows(rig, seconds, runs)
            yield (
                f"{1e3 * seconds:4.0f} ms {w.median_error:14.4f} J "
                f"{w.percentile(w.errors, 0.95):14.4f} J {w.percentile(w.halves, 0.95):17.4f} J "
                f"{100 * w.covered / max(1, w.runs):17.1f} %"
                + (f"   {len(w.missing)} without a value" if w.missing else "")
            )
        lines = []
        for _ in range(5):
            with EnergyMeter(root=rig.root, interval=0.1) as meter:
                time.sleep(1.0)
            metered = meter.reading.rapl.package or math.nan
            lines.append(metered / truth_of(rig, meter.reading).package - 1.0)
        worst = max(lines, key=abs)
        yield f"1 s at 100 ms: worst of 5 {100 * worst:+.3f} %"


def report_alone() -> Iterator[str]:
    yield "one busy function for 1 s, idle 20 W, concave load curve: machine energy"
    with Rig(gain=30, gamma=0.8, domains=("package", "dram")) as rig:
        for seconds in (1.0, 0.05):
            rows = []
            for _ in range(10):
                with EnergyMeter(root=rig.root, interval=0.1) as meter:
                    end = time.monotonic() + seconds
                    while time.monotonic() < end:
                        pass
                estimate = meter.reading.rapl.estimate("total")
                truth = truth_of(rig, meter.reading).machine
                if estimate is not None:
                    inside = estimate.low <= truth <= estimate.high
                    rows.append((abs(estimate.value / truth - 1.0), inside))
            errors = [r[0] for r in rows]
            yield (
                f"{seconds:5.2f} s  median {100 * statistics.median(errors):.3f} %  worst "
                f"{100 * max(errors):.3f} %  inside the band {sum(r[1] for r in rows)}/{len(rows)}"
            )


def report_concurrent() -> Iterator[str]:
    yield "four processes, CPU 4:3:2:1, 3 s, idle 20 W, gain 30 W, exponent 0.8"
    with Rig(domains=("package",), idle_watts=20, gain=30, gamma=0.8) as rig:
        for odd in (None, 0, 1, 2, 3):
            yield ""
            yield from share_table(concurrent(rig, odd))


def report_children() -> Iterator[str]:
    yield "200 x true and a child of 1 s; with an orphan of 0.3 s as well"
    with Rig(domains=("package",)) as rig:
        for orphan in (False, False, True, True):
            c = children(rig, orphan)
            yield (
                f"{'with' if orphan else 'no'} orphan: cpu {c.cpu_seconds:.3f} s of "
                f"{c.cpu_truth:.3f} s ({100 * c.cpu_seconds / c.cpu_truth:.1f} %), "
                f"energy {c.marginal:.2f} J [{c.low:.2f} .. {c.high:.2f}], truth {c.truth:.2f} J"
            )


def report_perf() -> Iterator[str]:
    yield "perf's power PMU against powercap, 1 s"
    for factor in (1.0, 0.9, 0.7):
        with Rig(watts=50.0, perf=True, perf_factor=factor) as rig:
            with EnergyMeter(root=rig.root) as meter:
                time.sleep(1.0)
            reading = meter.reading
            rapl, perf = reading.rapl.package, reading.perf.package
            if rapl is None or perf is None:
                yield f"x {factor}: {reading.rapl.source}; {reading.perf.source}"
                continue
            yield (
                f"planted {100 * (factor - 1):+.0f} %: perf/rapl - 1 = "
                f"{100 * (perf / rapl - 1):+.3f} %, validated {reading.validated}, "
                f"warnings {[w for w in reading.warnings if 'perf' in w]}"
            )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=500, help="windows of each length")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.worker is not None:
        worker(options.worker, options.arguments)
        return 0
    reason = Rig.unavailable_reason()
    if reason is not None:
        print(reason, file=sys.stderr)
        return 1
    for part in (
        report_windows(options.runs),
        report_alone(),
        report_concurrent(),
        report_children(),
        report_perf(),
    ):
        for line in part:
            print(line, flush=True)
        print(flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
