"""Phases: where the time of a worker goes, and its joules, where a profile has them by phase."""

from __future__ import annotations

from typing import Any

import numpy as np

from lithowatt.analysis.findings._context import (
    Context,
    Finding,
    by_value,
    identity,
    used,
    why_not,
)
from lithowatt.analysis.quantities import row_other_seconds
from lithowatt.analysis.selection import Selected

#: What a worker's time is made of.
PHASES = ("read", "compute", "write")


def phases(context: Context) -> Finding:
    """Seconds of each phase, and its part of the worker's time."""
    rows = [row for one in context.cells if (row := _row(context, one)) is not None]
    known = any(row["energy_by_phase"] for row in rows)
    notes = [] if known or not rows else ["no profile holds joules by phase"]
    return Finding(
        "mean over the workers of a run, then over runs: seconds of read, compute and write, of "
        "neither (other: imports, results), and each as a part of the worker's time",
        by_value(rows, "worker_time_s", -1),
        (
            ("worker s", "worker_time_s"),
            ("read", "read_part"),
            ("compute", "compute_part"),
            ("write", "write_part"),
            ("other", "other_part"),
        ),
        ("a worker's phases do not overlap",),
        notes,
        None if rows else why_not(context.cells, "worker_time_s", "compute_s"),
    )


def _row(context: Context, one: Selected) -> dict[str, Any] | None:
    runs = one.runs
    whole = used(one, "worker_time_s")
    total = context.measure(whole, "s")
    if total is None:
        return None
    seconds = {name: used(one, f"{name}_s") for name in PHASES}
    seconds["other"] = runs.mean_of(row_other_seconds(runs))[one.used]
    row: dict[str, Any] = {**identity(one), "worker_time_s": total}
    for name, values in seconds.items():
        row[f"{name}_s"] = context.measure(values, "s")
        with np.errstate(divide="ignore", invalid="ignore"):
            row[f"{name}_part"] = context.measure(values / whole, "1")
    row["energy_by_phase"] = _energy(context, one)
    return row


def _energy(context: Context, one: Selected) -> dict[str, Any] | None:
    """Joules of all workers by phase; `None` where the profile has none."""
    found = {}
    for name in PHASES:
        rows = one.runs.numbers(f"energy_{name}")
        measure = context.measure(one.runs.sum_of(rows)[one.used], "J")
        if measure is not None:
            found[name] = {**measure, "quality": one.energy_quality()}
    return found or None
