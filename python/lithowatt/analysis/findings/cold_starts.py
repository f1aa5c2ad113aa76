"""Cold starts: how long calls waited before they ran, and what that is of a stage's time."""

from __future__ import annotations

from typing import Any

import numpy as np

from lithowatt._support.text import counted
from lithowatt.analysis.findings._context import (
    Context,
    Finding,
    by_value,
    identity,
    used,
    why_not,
)
from lithowatt.analysis.quantities import QUEUED_START_S, row_seconds
from lithowatt.analysis.selection import Selected


def cold_starts(context: Context) -> Finding:
    """Seconds from a call's invocation to its beginning, and how much of `time_s` they make."""
    rows = [row for one in context.cells if (row := _row(context, one)) is not None]
    queued = sum(row["queued_calls"] for row in rows)
    calls = sum(row["calls"] for row in rows)
    notes = []
    if rows:
        notes.append(
            f"{queued} of {counted(calls, 'call')} waited more than {QUEUED_START_S:g} s "
            "for their start"
        )
    return Finding(
        "seconds from the invocation of a call to its beginning: mean over the workers of a run, "
        "then over runs; median, p95 and maximum are over calls; part: what the stage would take "
        "less, were all calls to start at once",
        by_value(rows, "cold_start_s", -1),
        (
            ("start s", "cold_start_s"),
            ("median", "median_s"),
            ("p95", "p95_s"),
            ("max", "max_s"),
            ("part of time", "part_of_time"),
            ("queued", "queued_calls"),
            ("calls", "calls"),
        ),
        (
            "the column cold_start holds all waiting: for the client, the queue and the sandbox; "
            "which calls found a warm sandbox is not recorded",
        ),
        notes,
        None if rows else why_not(context.cells, "cold_start_s"),
    )


def _row(context: Context, one: Selected) -> dict[str, Any] | None:
    mean = context.measure(used(one, "cold_start_s"), "s")
    if mean is None:
        return None
    runs = one.runs
    every = runs.numbers("cold_start")
    calls = every[one.used[runs.repetition]]
    whole = runs.max_of(row_seconds(runs))
    with np.errstate(divide="ignore", invalid="ignore"):
        part = 1 - runs.max_of(row_seconds(runs) - every) / whole
    return {
        **identity(one),
        "cold_start_s": mean,
        "median_s": float(np.median(calls)),
        "p95_s": float(np.percentile(calls, 95)),
        "max_s": float(calls.max()),
        "part_of_time": context.measure(part[one.used], "1"),
        "queued_calls": int((calls > QUEUED_START_S).sum()),
        "calls": len(calls),
    }
