"""Outliers: runs far from the others, named, with what is known of their cause, and kept."""

from __future__ import annotations

from typing import Any

import numpy as np

from lithowatt.analysis.findings._context import Context, Finding, identity, why_not
from lithowatt.analysis.quantities import row_other_seconds, row_seconds
from lithowatt.analysis.selection import Selected
from lithowatt.profiles._runs import ALWAYS, Floats

#: What runs are looked at by.
QUANTITIES = ("time_s", "worker_seconds_s", "cpu_seconds_s")

#: Far is more than so many robust standard deviations of the logarithms, and more than 10 %.
DEVIATIONS = 5.0
LEAST = 0.1

#: Fewer runs do not show what is usual.
FEWEST = 5

#: Rule of lint to what it says of a run.
_WORDS = {
    "queued-start": "queued start",
    "stalled-worker": "stalled worker",
    "input-changed": "more input",
}


def outliers(context: Context) -> Finding:
    """Runs far from the median of their configuration. None is left out for it."""
    rows = []
    looked = 0
    for one in context.cells:
        if one.used.sum() < FEWEST:
            continue
        looked += int(one.used.sum())
        rows += [row for name in QUANTITIES for row in _rows(context, one, name)]
    flagged = len({(row["file"], row["key"], row["repetition"]) for row in rows})
    reason = None
    if not looked:
        reason = (
            f"no configuration has {FEWEST} runs that count"
            if context.cells
            else why_not(context.cells)
        )
    return Finding(
        f"runs further from their configuration's median than {DEVIATIONS:g} robust standard "
        f"deviations (1.4826 times the median absolute deviation of the logarithms) and {LEAST:.0%}"
        "; all are kept: slow runs are billed, too",
        rows,
        (
            ("repetition", "repetition"),
            ("quantity", "quantity"),
            ("value", "value"),
            ("median", "median"),
            ("deviations", "deviations"),
            ("mean without", "mean_without"),
            ("cause", "cause"),
            ("slowest worker", "slowest"),
        ),
        ("at least half of a configuration's runs are usual ones",),
        [f"{flagged} of {looked} runs are flagged; none is left out"] if looked else [],
        reason,
    )


def far(values: Floats) -> tuple[Floats, Floats]:
    """Of each value how far it is from the median: in robust deviations, and in logarithms.

    Where more than half of the values are equal the first is infinite for all others.
    """
    logs = np.log(np.maximum(values, 1e-12))
    apart = logs - np.median(logs)
    deviation = 1.4826 * float(np.median(np.abs(apart)))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(apart == 0, 0.0, apart / deviation), apart


def _rows(context: Context, one: Selected, name: str) -> list[dict[str, Any]]:
    values = one.values(name)
    places = np.flatnonzero(one.used & np.isfinite(values))
    if len(places) < FEWEST:
        return []
    some = values[places]
    deviations, apart = far(some)
    flagged = (np.abs(deviations) > DEVIATIONS) & (np.abs(apart) > LEAST)
    return [
        {
            **identity(one),
            "repetition": int(places[at]),
            "quantity": name,
            "value": float(some[at]),
            "median": float(np.median(some)),
            "deviations": float(deviations[at]),
            "mean": float(some.mean()),
            "mean_without": float(some[~flagged].mean()),
            "n": len(some),
            "cause": _cause(context, one, int(places[at])),
            **_longest(one, int(places[at]), bool(apart[at] > 0)),
            "kept": True,
        }
        for at in np.flatnonzero(flagged).tolist()
    ]


def _cause(context: Context, one: Selected, repetition: int) -> str:
    """What the run's rows show that those of others do not."""
    rules = context.causes.get(id(one.runs), {})
    found = [_WORDS[rule] for rule, repetitions in rules.items() if repetition in repetitions]
    runs = one.runs
    rare = _rare_hardware(
        one, slice(int(runs.starts[repetition]), int(runs.starts[repetition + 1]))
    )
    if rare:
        found.append(f"on {rare}")
    return ", ".join(found) or "not known"


def _longest(one: Selected, repetition: int, slow: bool) -> dict[str, Any]:
    """The part of the slowest worker's time that made it slow, or fast, against all calls."""
    runs = one.runs
    rows = slice(int(runs.starts[repetition]), int(runs.starts[repetition + 1]))
    slowest = rows.start + int(np.argmax(row_seconds(runs)[rows]))
    kept = one.used[runs.repetition]
    parts = {name: runs.numbers(name) for name in ALWAYS}
    parts["other"] = row_other_seconds(runs)
    excess = {
        name: float(values[slowest] - np.median(values[kept])) for name, values in parts.items()
    }
    sign = 1 if slow else -1
    part = max(excess, key=lambda name: np.nan_to_num(sign * excess[name], nan=-np.inf))
    return {
        "slowest_part": part,
        "slowest_excess_s": excess[part],
        "slowest": f"{part} {excess[part]:+.3g} s",
    }


def _rare_hardware(one: Selected, rows: slice) -> str | None:
    """A processor that most calls of this run had and few of the others."""
    column = one.runs.columns.get("cpu_name")
    if column is None or column.codes is None:
        return None
    here = column.codes[rows]
    for code in np.unique(here[here >= 0]).tolist():
        if (here == code).mean() > 0.5 and (column.codes == code).mean() < 0.25:
            return str(column.labels[code])
    return None
