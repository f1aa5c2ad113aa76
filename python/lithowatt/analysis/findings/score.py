"""One efficiency score, the TEC score: time, energy and cost against the best of the stage.

TEC = ((T*/T) · (E*/E) · (C*/C))^(1/3), where T, E and C are a run's seconds, joules and dollars
and T*, E* and C* the least means of any configuration of the same stage. It is 1 for a
configuration that is best in all three, and 0.5 for one that takes twice as much of each. It is a
number to sort by, and has no meaning across stages.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lithowatt.analysis.findings._context import (
    SAME_WORK,
    Context,
    Finding,
    Group,
    by_value,
    identity,
    is_modelled,
    named,
    used,
    why_not,
)

#: What the score is made of, and the letter of each.
PARTS = {"time_s": "T", "energy_j": "E", "cost_usd": "C"}


def efficiency_score(context: Context) -> Finding:
    """The TEC score of each configuration, with its interval over runs."""
    rows: list[dict[str, Any]] = []
    notes = []
    for group in context.groups:
        some = by_value(_rows(context, group), "tec", -1)
        rows += some
        if some:
            best = some[0]
            notes.append(
                f"{group.workload} / {group.stage}: best is {named(best)} with "
                f"{best['tec']['value']:.2f} of 1"
            )
    return Finding(
        "TEC score: geometric mean of T*/T, E*/E and C*/C of a run's seconds, joules and dollars, "
        "the star being the least mean of any configuration of the stage; 1 is best in all three. "
        "Where the stage has no dollars, or no joules, of the parts that it has (parts)",
        rows,
        (("TEC", "tec"), ("parts", "parts"), ("T", "T"), ("E", "E"), ("C", "C")),
        (
            "a factor of two in time, in energy and in cost matter equally",
            SAME_WORK,
        ),
        [*notes, *(context.unequal_work if rows else ())],
        None if rows else why_not(context.cells, "time_s"),
        modelled=any("E" in row["parts"] for row in rows) and is_modelled(context.cells),
    )


def _rows(context: Context, group: Group) -> list[dict[str, Any]]:
    values = {name: [used(one, name) for one in group.cells] for name in PARTS}
    # The parts that some configuration has: one that lacks any of them has no score.
    present = [name for name in PARTS if any(np.isfinite(v).any() for v in values[name])]
    least = {}
    for name in present:
        means = [float(np.nanmean(v)) for v in values[name] if np.isfinite(v).any()]
        least[name] = min(means)
    rows = []
    for at, one in enumerate(group.cells):
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.array([np.log(least[name] / values[name][at]) for name in present])
        score = logs.mean(axis=0)
        score = score[np.isfinite(score)]
        if not len(score):
            continue
        rows.append(
            {
                **identity(one),
                "tec": {**context.ratio(score, "runs"), "unit": "1, at most about 1"},
                "parts": "".join(PARTS[name] for name in present),
                **{
                    PARTS[name]: float(np.exp(logs[place][np.isfinite(logs[place])].mean()))
                    for place, name in enumerate(present)
                },
            }
        )
    return rows
