"""Agreement of two methods on the same calls: Bland and Altman's difference plot, in numbers.

J. M. Bland, D. G. Altman, "Statistical methods for assessing agreement between two methods of
clinical measurement", Lancet 1986. Joules span orders of magnitude, so the limits are those of the
ratio, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lithowatt._core import TOLERANCE
from lithowatt.analysis.findings._context import Context, Finding, Group, ends
from lithowatt.analysis.intervals import Sample, t_interval
from lithowatt.analysis.selection import Selected
from lithowatt.profiles._runs import Floats

#: 95 % of differences lie within so many standard deviations of their mean.
_WITHIN = 1.959963984540054

#: Columns that tell the same joules by different methods.
PAIRS = tuple(
    (f"{a}_energy_{domain}", f"{b}_energy_{domain}")
    for domain in ("pkg", "cores", "total")
    for a, b in (("rapl", "perf"), ("rapl", "ebpf"), ("perf", "ebpf"))
)

#: Of lithowatt's own profiles, where TDP is the power model's joules.
MODEL = ("energy", "TDP")


def method_agreement(context: Context) -> Finding:
    """For each two methods that told joules of the same calls, how far apart they are."""
    rows = []
    for group in context.groups:
        for pair in (*PAIRS, MODEL):
            row = _row(context, group, pair)
            if row is not None:
                rows.append(row)
    return Finding(
        "of calls with joules above 0 by two methods: bias is the mean of a − b, and the limits, "
        "which 95 % of the differences lie within, are bias ± 1.96 standard deviations; the same "
        "for the ratio a / b",
        rows,
        (
            ("a", "a"),
            ("b", "b"),
            ("calls", "calls"),
            ("bias J", "bias"),
            ("limits J", "limits"),
            ("a / b", "ratio"),
            ("limits", "ratio_limits"),
            (f"within {TOLERANCE:.0%}", "within_tolerance"),
        ),
        (
            "differences are about normal, and do not depend on the size of what is measured; the "
            "ratio's limits hold where they grow with it",
            "a run counts once in the interval of the bias: its calls are not independent",
        ),
        reason=None
        if rows
        else "no two methods: no call has joules by two methods, so that nothing can be compared",
    )


def _row(context: Context, group: Group, pair: tuple[str, str]) -> dict[str, Any] | None:
    a, b, runs = _values(group.cells, pair)
    if len(a) < 2:
        return None
    difference, logs = a - b, np.log(a / b)
    bias, ratio = _limits(difference), _limits(logs)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.abs(difference) / np.maximum(a, b)
    means = _run_means(difference, runs)
    # Of differences, which may be below 0 though those of few runs are not.
    over_runs = t_interval(Sample.of(means), context.settings.confidence)
    log_runs = context.ratio(_run_means(logs, runs), "runs")
    return {
        "workload": group.workload,
        "stage": group.stage,
        "a": pair[0],
        "b": pair[1],
        "calls": len(a),
        "runs": len(means),
        "bias": {
            "value": bias[0],
            "ci": ends(over_runs),
            "n": len(means),
            "unit": "J a call, a − b",
        },
        "limits": [bias[1], bias[2]],
        "ratio": {
            "value": _exp(ratio[0]),
            "ci": log_runs["ci"],
            "n": len(means),
            "unit": "a / b, geometric mean of calls",
        },
        "ratio_limits": [_exp(ratio[1]), _exp(ratio[2])],
        "within_tolerance": float((relative <= TOLERANCE).mean()),
    }


def _exp(value: float) -> float:
    return float(np.exp(value))


def _limits(values: Floats) -> tuple[float, float, float]:
    mean, sd = float(values.mean()), float(values.std(ddof=1))
    return mean, mean - _WITHIN * sd, mean + _WITHIN * sd


def _values(
    cells: Sequence[Selected], pair: tuple[str, str]
) -> tuple[Floats, Floats, np.ndarray[Any, np.dtype[np.int64]]]:
    """Joules of each call by both methods, and the run of each call."""
    found = list(_each(cells, pair))
    if not found:
        return np.zeros(0), np.zeros(0), np.zeros(0, dtype=np.int64)
    a = np.concatenate([one[0] for one in found])
    b = np.concatenate([one[1] for one in found])
    runs, start = [], 0
    for _, _, repetition in found:
        runs.append(repetition + start)
        start += int(repetition.max(initial=0)) + 1
    return a, b, np.concatenate(runs)


def _each(
    cells: Sequence[Selected], pair: tuple[str, str]
) -> Iterator[tuple[Floats, Floats, np.ndarray[Any, np.dtype[np.int64]]]]:
    for one in cells:
        if not all(name in one.runs.columns for name in pair):
            continue
        if pair == MODEL and not _measured_beside_model(one):
            continue
        a, b = (one.runs.numbers(name) for name in pair)
        with np.errstate(invalid="ignore"):
            both = (a > 0) & (b > 0) & one.used[one.runs.repetition]
        yield a[both], b[both], one.runs.repetition[both]


def _measured_beside_model(one: Selected) -> bool:
    """Whether `energy` is no model's, and `TDP` is: of lithowatt's own profiles."""
    return "cpu_time" in one.runs.columns and one.energy_quality() in ("measured", "attributed")


def _run_means(values: Floats, runs: np.ndarray[Any, np.dtype[np.int64]]) -> Floats:
    _, place, counts = np.unique(runs, return_inverse=True, return_counts=True)
    return np.asarray(np.bincount(place, weights=values) / counts)
