"""Memory: what more of it gives, and, where a profile tells, how much of it was used."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from lithowatt.analysis.findings._context import (
    Context,
    Finding,
    Group,
    identity,
    is_modelled,
)
from lithowatt.analysis.selection import Selected

#: Columns of MiB that a call used, the best first.
USED = ("memory_peak_mb", "psutil_process_memory_peak_mb", "psutil_process_memory_mb")

#: What is compared between two sizes of memory.
QUANTITIES = ("compute_s", "time_s", "cpu_seconds_s", "cost_usd", "energy_j")


def memory_use(context: Context) -> Finding:
    """What a step to more memory changes, and how much of the memory was used."""
    rows: list[dict[str, Any]] = []
    for group in context.groups:
        for architecture in sorted({one.architecture or "" for one in group.cells}):
            rows += _steps(context, group, architecture)
    peaks = [row for one in context.cells if (row := _peak(one)) is not None]
    notes = []
    if not peaks:
        notes.append(
            "no profile records how much memory calls used "
            f"({' or '.join(USED)}): what they need at least is not known"
        )
    reason = None
    if not rows and not peaks:
        reason = "no stage has two sizes of memory with equal numbers of workers"
    return Finding(
        "ratio of a quantity with more memory to that with less, geometric mean of configurations "
        "that are equal otherwise; used_mb: the most that a call used, of repetitions that count",
        [*rows, *peaks],
        (
            ("MB", "from_mb"),
            ("to", "to_mb"),
            ("compute", "compute_s"),
            ("time", "time_s"),
            ("cost", "cost_usd"),
            ("faster per USD", "gain"),
            ("used MB", "used_mb"),
        ),
        ("memory buys CPU on AWS Lambda: what changes is not memory alone",),
        notes,
        reason,
        modelled=bool(rows) and is_modelled(context.cells),
        grouped=("workload", "stage", "architecture"),
    )


def _steps(context: Context, group: Group, architecture: str) -> list[dict[str, Any]]:
    cells = [one for one in group.cells if (one.architecture or "") == architecture]
    sizes = sorted({one.runs.configuration.memory_mb for one in cells})
    rows = []
    for less, more in combinations(sizes, 2):
        pairs = _matched(cells, less, more)
        ratios = {name: _ratio(context, pairs, name) for name in QUANTITIES}
        if ratios["compute_s"] is None and ratios["time_s"] is None:
            continue
        rows.append(
            {
                "workload": group.workload,
                "stage": group.stage,
                "architecture": architecture or None,
                "from_mb": less,
                "to_mb": more,
                "workers": sorted(one.runs.configuration.workers for one, _ in pairs),
                **ratios,
                "gain": _gain(context, pairs),
            }
        )
    return rows


def _matched(cells: list[Selected], less: float, more: float) -> list[tuple[Selected, Selected]]:
    """Configurations that differ in memory alone, each of which is there once."""

    def of(memory: float) -> dict[tuple[float, tuple[int, ...]], list[Selected]]:
        found: dict[tuple[float, tuple[int, ...]], list[Selected]] = {}
        for one in cells:
            if one.runs.configuration.memory_mb == memory:
                key = one.runs.configuration.workers, tuple(one.workers_actual)
                found.setdefault(key, []).append(one)
        return found

    small, large = of(less), of(more)
    return [
        (small[key][0], large[key][0])
        for key in sorted(small.keys() & large.keys())
        if len(small[key]) == len(large[key]) == 1
    ]


def _logs(pairs: list[tuple[Selected, Selected]], name: str) -> np.ndarray[Any, Any]:
    """ln of the ratio of means, of the pairs that have them."""
    found = []
    for less, more in pairs:
        a, b = more.sample(name), less.sample(name)
        if len(a) and len(b) and a.mean() > 0 and b.mean() > 0:
            found.append(np.log(a.mean() / b.mean()))
    return np.array(found)


def _ratio(
    context: Context, pairs: list[tuple[Selected, Selected]], name: str
) -> dict[str, Any] | None:
    logs = _logs(pairs, name)
    return context.ratio(logs) if len(logs) else None


def _gain(context: Context, pairs: list[tuple[Selected, Selected]]) -> dict[str, Any] | None:
    """How many times faster, for how many times the dollars."""
    time, cost = _logs(pairs, "time_s"), _logs(pairs, "cost_usd")
    if not len(time) or len(time) != len(cost):
        return None
    return context.ratio(-time - cost)


def _peak(one: Selected) -> dict[str, Any] | None:
    for name in USED:
        column = one.runs.columns.get(name)
        if column is None or column.numbers is None:
            continue
        values = column.numbers[one.used[one.runs.repetition]]
        values = values[np.isfinite(values) & (values > 0)]
        if len(values):
            memory = one.runs.configuration.memory_mb
            most = float(values.max())
            return {
                **identity(one),
                "column": name,
                "used_mb": {"value": most, "ci": None, "n": len(values), "unit": "MiB, most"},
                "part": most / memory if memory > 0 else None,
            }
    return None
