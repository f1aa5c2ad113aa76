"""Counters of real machines, replayed: errors of short windows, and whether the bands hold them.

The traces are joules that RAPL counted every 5 ms, the updates times between two changes of a
counter, both as measured by others (Alt et al., ICPE 2024; `silicon/README.md` beside the data). A
counter is made of both: it changes when the machine's did, and to what the trace has then. Every
read is computed, so the result is the same on any machine, however busy.
"""

from __future__ import annotations

import bisect
import csv
import os
import random
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from lithowatt import EnergyMeter
from lithowatt.trace import Counter, Trace, of_counters

TOP = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("LITHOWATT_DATA") or TOP.parent / "shared" / "data") / "silicon"
CPU = "Intel(R) Xeon(R) CPU E5-2650 v4 @ 2.20GHz"

#: Counts of the package's and the memory's counter, J (Intel SDM; 15.3 µJ for DRAM of servers).
UNITS = {"package": 2.0**-14, "dram": 2.0**-16}
LENGTHS_MS = (5, 10, 50, 500)
#: Windows of each length in a trace: those before the last are what the meter has seen until then.
WINDOWS = 24
WORKLOADS = ("idle", "matmul", "stream_copy_16")


def table(name: str) -> list[dict[str, str]]:
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"no published measurements at {path} (set LITHOWATT_DATA)")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


class Energy:
    """What a counter of a trace gained since its start, µJ, at any time in µs."""

    def __init__(self, rows: Sequence[dict[str, str]], column: str) -> None:
        self.times, self.totals = [0.0], [0.0]
        for row in rows:
            self.times.append(float(row["t_us"]))
            self.totals.append(self.totals[-1] + float(row[column]))

    def at(self, time_us: float) -> float:
        rounds, within = divmod(time_us, self.times[-1])
        after = max(bisect.bisect_left(self.times, within), 1)
        t0, t1 = self.times[after - 1 : after + 1]
        e0, e1 = self.totals[after - 1 : after + 1]
        return rounds * self.totals[-1] + e0 + (e1 - e0) * (within - t0) / (t1 - t0)


class Reads:
    """What a counter shows at any time: its energy when it was updated last, in its unit."""

    def __init__(
        self, energy: Energy, updates_us: Sequence[float], unit: float, first: int
    ) -> None:
        self.energy, self.unit = energy, unit
        self.updates = [0.0]
        for place in range(first, first + len(updates_us)):
            self.updates.append(self.updates[-1] + updates_us[place % len(updates_us)])

    def at(self, time_us: float) -> int:
        updated = self.updates[bisect.bisect_right(self.updates, time_us) - 1]
        return 10_000 + int(self.energy.at(updated) * 1e-6 / self.unit)


def windows(
    workload: str, updates: str, sockets: int, chance: random.Random
) -> Iterator[tuple[int, str, float, float, float, float]]:
    """Length in ms, domain, joules, low, high and true joules of windows over a workload."""
    traced = [
        row
        for row in table("rapl_traces.csv")
        if row["workload"] == workload and row["placement"] == "socket0"
    ]
    between: dict[str, list[float]] = defaultdict(list)
    for row in table("rapl_update_intervals.csv"):
        if row["machine"] == updates:
            for domain in UNITS:
                if row[f"{domain}_us"]:
                    between[domain].append(float(row[f"{domain}_us"]))
    counters, reads, truth = [], [], defaultdict(list)
    for socket in range(sockets):
        for domain, unit in UNITS.items():
            energy = Energy(traced, f"{domain}{socket}_uj")
            first = chance.randrange(len(between[domain]))
            name = f"package-{socket}" if domain == "package" else domain
            counters.append(Counter(name, domain, socket, unit, 1 << 32))
            reads.append(Reads(energy, between[domain], unit, first))
            truth[domain].append(energy)
    for length in LENGTHS_MS:
        now, edges = 20_000.0, []
        while now < 9_000_000 and len(edges) < WINDOWS:
            start = now + chance.uniform(200, 3_200)
            now = start + 1_000 * length * chance.uniform(0.9, 1.1)
            edges.append((start, now))
        times = [time for edge in edges for time in edge]
        rows = [(round(time * 1_000), [read.at(time) for read in reads]) for time in times]
        trace = Trace(of_counters(counters, rows, cpu=CPU, cpus=48, sockets=2, slack_ns=5_000))
        zero = rows[0][0]
        for start, end in edges:
            # A little wider, for seconds are rounded.
            part = ((start * 1_000 - zero) * 1e-9 - 1e-8, (end * 1_000 - zero) * 1e-9 + 1e-8)
            with EnergyMeter(replay=trace, window=(max(part[0], 0.0), part[1])) as meter:
                pass
            raw: dict[str, Any] = meter.reading.raw["rapl"]
            seen = {**raw["domains"], "total": raw["total"]}
            true = {
                domain: sum(one.at(end) - one.at(start) for one in all_of) * 1e-6
                for domain, all_of in truth.items()
            }
            true["total"] = sum(true.values())
            for domain, joules in true.items():
                band = seen[domain]
                yield length, domain, band["joules"], band["low"], band["high"], joules


@pytest.mark.parametrize("sockets", [1, 2])
@pytest.mark.parametrize("updates", ["2x-xeon-e5-2650v4", "knights-landing"])
def test_bands_of_short_windows_hold_the_truth(updates: str, sockets: int) -> None:
    chance = random.Random(15)
    inside: dict[tuple[int, str], list[bool]] = defaultdict(list)
    errors: dict[tuple[int, str], list[float]] = defaultdict(list)
    for workload in WORKLOADS:
        for length, domain, joules, low, high, true in windows(workload, updates, sockets, chance):
            inside[length, domain].append(low <= true <= high)
            errors[length, domain].append(joules / true - 1)
    assert len(inside) == len(LENGTHS_MS) * 3
    for key, held in inside.items():
        length, _ = key
        mean, worst = statistics.mean(errors[key]), max(map(abs, errors[key]))
        told = f"{key}: {sum(held)} of {len(held)}, mean error {mean:+.4f}, worst {worst:.3f}"
        print(told)
        assert sum(held) >= 0.9 * len(held), told
        # Two edges of at most two updates each.
        assert abs(mean) < 0.12 / length**0.5 and worst < 3 / length, told


def test_a_table_becomes_a_trace(tmp_path: Path) -> None:
    rows = [
        row
        for row in table("rapl_traces.csv")
        if row["workload"] == "matmul" and row["placement"] == "socket0"
    ]
    done = subprocess.run(
        [
            sys.executable,
            TOP / "tools/trace_of_csv.py",
            DATA / "rapl_traces.csv",
            *("-o", tmp_path / "t", "--cpu", CPU, "--cpus", "48", "--memory-gib", "64"),
            *("--where", "workload=matmul", "--where", "placement=socket0"),
            *("package0_uj=package:0", "dram0_uj=dram:0"),
            *("package1_uj=package:1", "dram1_uj=dram:1"),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with EnergyMeter(replay=tmp_path / "t") as meter:
        pass
    reading = meter.reading
    for domain, found in (("package", reading.rapl.package), ("dram", reading.rapl.dram)):
        true = sum(float(row[f"{domain}{socket}_uj"]) for row in rows for socket in (0, 1)) * 1e-6
        assert found == pytest.approx(true, rel=1e-9)
    assert reading.samples == len(rows) - 1
    assert reading.joules is None and "CPU time" in (reading.reason or "")
