"""Ranking of workloads: what each stage takes, over configurations that all of them have.

Two stages are compared at each common configuration (architecture, memory, workers), and the
ratios are averaged geometrically. No ratio is ever made of runs of different configurations, and
none is averaged over workloads.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from lithowatt.analysis.findings._context import (
    Context,
    Finding,
    Group,
    is_modelled,
    worst_quality,
)
from lithowatt.analysis.intervals import Sample, t_interval
from lithowatt.analysis.selection import Selected

#: What is ranked by.
QUANTITIES = {"time_s": "s", "cpu_seconds_s": "s", "energy_j": "J", "cost_usd": "USD"}

_Key = tuple[str | None, float, float]


def workload_ranking(context: Context) -> Finding:
    """Stages in the order of what a run takes, the most first, with ties."""
    groups = context.groups
    rows = [row for name in QUANTITIES for row in _ranked(context, groups, name)]
    reason = None
    if len(groups) < 2:
        reason = "one workload and stage: there is nothing to rank"
    elif not rows:
        reason = "the stages have no configuration (architecture, memory, workers) in common"
    return Finding(
        "geometric mean of a quantity of a run over the configurations that all ranked stages have "
        "in common; ratio: to the next one, with its interval over these configurations; a tie is "
        "an interval that holds 1",
        rows,
        (
            ("", "rank"),
            ("workload", "workload"),
            ("stage", "stage"),
            ("geometric mean", "value"),
            ("", "unit"),
            ("", "quality"),
            ("to the next", "ratio"),
            ("", "tie"),
        ),
        ("the configurations are those of interest, since they weigh equally",),
        reason=reason,
        modelled=any(row["quantity"] == "energy_j" for row in rows) and is_modelled(context.cells),
        grouped=("quantity",),
    )


def _ranked(context: Context, groups: list[Group], name: str) -> list[dict[str, Any]]:
    means = {(group.workload, group.stage): _means(group, name) for group in groups}
    means = {stage: some for stage, some in means.items() if some}
    if len(means) < 2:
        return []
    common = sorted(set.intersection(*(set(some) for some in means.values())), key=str)
    if not common:
        return []
    logs = {stage: np.log(np.array([some[key] for key in common])) for stage, some in means.items()}
    qualities = {(group.workload, group.stage): worst_quality(group.cells) for group in groups}
    order = sorted(logs, key=lambda stage: (-float(logs[stage].mean()), stage))
    rows: list[dict[str, Any]] = [
        {
            "quantity": name,
            "rank": rank,
            "workload": stage[0],
            "stage": stage[1],
            "configurations": len(common),
            "value": float(np.exp(logs[stage].mean())),
            "unit": QUANTITIES[name],
            "quality": qualities.get(stage) if name == "energy_j" else None,
            "ratio": None,
            "tie": None,
        }
        for rank, stage in enumerate(order, 1)
    ]
    for row, (one, other) in zip(rows, pairwise(order), strict=False):
        apart = logs[one] - logs[other]
        row["ratio"] = context.ratio(apart)
        low, high = t_interval(Sample.of(apart), context.settings.confidence)
        row["tie"] = "" if low > 0 or high < 0 else "not told apart"
    return rows


def _means(group: Group, name: str) -> dict[_Key, float]:
    """The mean of each configuration that is there once and ran as it was asked for."""
    found: dict[_Key, list[Selected]] = {}
    for one in group.cells:
        configuration = one.runs.configuration
        found.setdefault(
            (one.architecture, configuration.memory_mb, configuration.workers), []
        ).append(one)
    means = {}
    for key, some in found.items():
        if len(some) != 1:
            continue
        sample = some[0].sample(name)
        if len(sample) and sample.mean() > 0:
            means[key] = float(sample.mean())
    return means
