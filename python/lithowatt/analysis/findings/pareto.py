"""The Pareto front of time, energy and cost: what is best, whatever each of them is worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lithowatt._support.text import counted
from lithowatt.analysis.findings._context import (
    SAME_WORK,
    Context,
    Finding,
    Group,
    identity,
    is_modelled,
    joules,
    named,
    used,
    why_not,
)
from lithowatt.analysis.intervals import Sample
from lithowatt.analysis.selection import Selected
from lithowatt.analysis.significance import welch

#: The fronts: what is to be small.
OBJECTIVES = (("time_s", "cost_usd"), ("time_s", "energy_j"), ("time_s", "energy_j", "cost_usd"))

_UNITS = {"time_s": "s", "cost_usd": "USD", "energy_j": "J"}

#: A configuration is dominated where another one is better in all, each with a p below.
SIGNIFICANT = 0.05


def pareto_front(context: Context) -> Finding:
    """The configurations than which no other one is better in all objectives."""
    rows: list[dict[str, Any]] = []
    notes = []
    for group in context.groups:
        for objectives in OBJECTIVES:
            some = _front(context, group, objectives)
            rows += some
            if some and objectives == OBJECTIVES[0]:
                of = sum(1 for one in group.cells if _known(one, objectives))
                front = [row for row in some if row["status"] == "front"]
                notes.append(
                    f"{group.workload} / {group.stage}: {len(front)} of "
                    f"{counted(of, 'configuration')} "
                    f"{'is' if len(front) == 1 else 'are'} on the front of time and cost, from "
                    f"{named(front[0])} to {named(front[-1])}"
                )
    return Finding(
        "configurations than which no other one of the stage has both less (or equal) in all "
        "objectives and less in one, by means over runs; near: such another one is there, but is "
        f"not better in each objective with p < {SIGNIFICANT} (Welch, each pair by itself)",
        rows,
        (
            ("", "status"),
            ("time s", "time_s"),
            ("USD", "cost_usd"),
            ("J", "energy_j"),
        ),
        (SAME_WORK,),
        [*notes, *(context.unequal_work if rows else ())],
        None if rows else why_not(context.cells, "time_s", "cost_usd", "energy_j"),
        modelled=bool(rows) and is_modelled(context.cells),
        grouped=("workload", "stage", "objectives"),
    )


def _known(one: Selected, names: Sequence[str]) -> bool:
    return all(np.isfinite(used(one, name)).any() for name in names)


def _front(context: Context, group: Group, objectives: Sequence[str]) -> list[dict[str, Any]]:
    """The front and what is near it, the fastest first."""
    cells = [one for one in group.cells if _known(one, objectives)]
    if not cells:
        return []
    samples = [[Sample.of(one.sample(name)) for name in objectives] for one in cells]
    means = np.array([[sample.mean for sample in some] for some in samples])
    better = dominating(means)
    rows = []
    for at, one in enumerate(cells):
        rivals = np.flatnonzero(better[:, at]).tolist()
        surely = any(_surely(samples[rival], samples[at]) for rival in rivals)
        if surely:
            continue
        row: dict[str, Any] = {
            **identity(one),
            "objectives": " and ".join(objectives),
            "status": "near" if rivals else "front",
            "better": [cells[rival].runs.key for rival in rivals],
        }
        for name in objectives:
            row[name] = (
                joules(context, one)
                if name == "energy_j"
                else context.measure(used(one, name), _UNITS[name])
            )
        rows.append(row)
    return sorted(rows, key=lambda row: (row["time_s"]["value"], row["file"]))


def dominating(means: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Of each two rows, whether the first is no more in all columns, and less in one."""
    a, b = means[:, None, :], means[None, :, :]
    return np.asarray((a <= b).all(axis=2) & (a < b).any(axis=2))


def _surely(better: Sequence[Sample], worse: Sequence[Sample]) -> bool:
    return all(
        a.mean < b.mean and welch(a, b).p < SIGNIFICANT for a, b in zip(better, worse, strict=True)
    )
