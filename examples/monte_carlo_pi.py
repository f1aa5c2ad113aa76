"""Estimates pi with real Lithops calls on this machine and prints the joules of each.

    python examples/monte_carlo_pi.py [--calls 4] [--samples 2000000]

There is nothing of lithowatt in the job below: it is installed for the
interpreter that runs the workers, and every call's `future.stats` carries its
energy. Needs `pip install lithowatt lithops`, no cloud, no configuration.
"""

from __future__ import annotations

import argparse
import os
import random
import site
import sys
import tempfile
import time
from typing import Any

Row = dict[str, Any]


def count_inside(samples: int) -> int:
    """How many of that many random points of the unit square lie within the circle."""
    inside = 0
    for _ in range(samples):
        x, y = random.random(), random.random()
        inside += x * x + y * y <= 1.0
    return inside


def run_job(calls: int, samples: int) -> tuple[float, list[Row]]:
    """Runs the job; returns pi and the stats of each call."""
    import lithops  # type: ignore[import-untyped,import-not-found,unused-ignore]

    config = {
        "lithops": {
            "backend": "localhost",
            "storage": "localhost",
            "log_level": "WARNING",
            # Lithops' cleaner is a process that outlives the job; the whole
            # directory goes at the end anyway.
            "data_cleaner": False,
        },
        # An absolute path: the workers must run where lithowatt is installed.
        "localhost": {"runtime": sys.executable},
    }
    with lithops.FunctionExecutor(config=config) as executor:
        futures = executor.map(count_inside, [samples] * calls)
        inside = executor.get_result(futures)
        return 4 * sum(inside) / (calls * samples), [future.stats for future in futures]


def print_table(rows: list[Row]) -> None:
    """Prints a line per call; what could not be measured is a dash, explained below."""
    print(
        f"{'call':>4} {'s':>7} {'CPU s':>7} {'J':>8} {'95 % band':>17} {'W':>7}  quality     method"
    )
    reasons: list[str] = []
    for call, stats in enumerate(rows):
        joules = energy(stats, "energy_consumption")
        seconds = energy(stats, "energy_duration") or stats.get("worker_func_exec_time")
        busy = energy(stats, "psutil_process_cpu_percent")
        cpu = None if busy is None or seconds is None else busy / 100 * seconds
        low, high = energy(stats, "energy_low"), energy(stats, "energy_high")
        band = "–" if low is None or high is None else f"{low:.3f} to {high:.3f}"
        watts = None if joules is None or not seconds else joules / seconds
        quality = stats.get("worker_func_energy_quality") or "–"
        method = stats.get("worker_func_energy_method") or "–"
        print(
            f"{call:>4} {number(seconds)} {number(cpu)} {number(joules, 8)} {band:>17} "
            f"{number(watts)}  {quality:<10}  {method}"
        )
        warnings = stats.get("worker_func_energy_warnings") or []
        reasons += [f"call {call}: {text}" for text in warnings]
        reasons += missing(stats)
    for reason in dict.fromkeys(reasons):
        print(f"  {reason}")


def energy(stats: Row, key: str) -> float | None:
    """One of lithowatt's numbers, None where it is unavailable."""
    value = stats.get(f"worker_func_{key}")
    return float(value) if isinstance(value, (int, float)) else None


def number(value: float | None, width: int = 7) -> str:
    """Right-aligned with three decimals, or a dash."""
    return f"{'–' if value is None else f'{value:.3f}':>{width}}"


def missing(stats: Row) -> list[str]:
    """Why there is no energy at all, or which methods could not take part."""
    if "worker_func_energy_consumption" not in stats:
        from lithowatt.lithops import status

        return [f"no energy in the stats: {status().reason or 'the worker did not meter'}"]
    reasons = []
    for method in ("rapl", "perf", "ebpf", "psutil", "tdp"):
        source = stats.get(f"worker_func_{method}_source")
        if isinstance(source, str) and source.startswith("unavailable"):
            reasons.append(f"{method}: {source}")
    return reasons


def main() -> int:
    """Parses the command line, runs the job, prints the result."""
    parser = argparse.ArgumentParser(description="pi by Monte Carlo, with the joules of each call")
    parser.add_argument("--calls", type=int, default=4, help="Lithops calls (default 4)")
    parser.add_argument(
        "--samples", type=int, default=2_000_000, help="points per call (default 2000000)"
    )
    options = parser.parse_args()
    if options.calls < 1 or options.samples < 1:
        parser.error("--calls and --samples must be at least 1")

    with tempfile.TemporaryDirectory(
        prefix="monte-carlo-pi-", ignore_cleanup_errors=True
    ) as scratch:
        # Lithops keeps files under the temporary and the home directory; the
        # example leaves none behind. A user's own site-packages stay in view.
        os.environ.setdefault("PYTHONUSERBASE", site.getuserbase())
        os.environ["TMPDIR"] = os.environ["HOME"] = scratch
        tempfile.tempdir = scratch
        began = time.monotonic()
        pi, rows = run_job(options.calls, options.samples)
        elapsed = time.monotonic() - began
    print(f"pi is about {pi:.5f} ({options.calls} calls, {elapsed:.1f} s with Lithops)\n")
    print_table(rows)
    total = [energy(stats, "energy_consumption") for stats in rows]
    known = [joules for joules in total if joules is not None]
    if known:
        print(f"\n{sum(known):.3f} J in all for {len(known)} of {len(rows)} calls")
    return 0


if __name__ == "__main__":
    sys.exit(main())
