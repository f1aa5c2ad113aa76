"""What the plots of a report show: rows of configurations, repetitions, calls, ratios and laws.

Numbers are rounded to the digits that a plot can show; the results hold all of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lithowatt._support.text import printable
from lithowatt.analysis.intervals import quantity_interval
from lithowatt.analysis.quantities import row_other_seconds
from lithowatt.analysis.selection import Selected
from lithowatt.profiles._runs import Floats
from lithowatt.report._results import Results
from lithowatt.report._words import name_of_stage

#: Phases of a call, in the order in which they happen; `other` is what is in none of them.
PHASES = ("cold start", "read", "compute", "write", "other")

Row = dict[str, Any]


def rows(results: Results) -> dict[str, list[Row]]:
    """Name of a set of rows to these, with the same keys for the same thing everywhere.

    `stage`, `arch`, `mb`, `workers` and `cpu` are what the page filters by; `id` tells one row of
    a set from the others; `config` is the place of its configuration in `stats`.
    """
    found = results.found
    some = list(results.selection.all)
    configurations = [
        _configuration(at, row, one)
        for at, (row, one) in enumerate(zip(found["stats"]["configurations"], some, strict=True))
    ]
    for one, selected in zip(configurations, some, strict=True):
        one["stage"] = results.name_of(selected)
    _mark_front(configurations, found["pareto"]["rows"])
    _mark_recommended(configurations, results.stages)
    made = {
        "configurations": configurations,
        "front": [one for one in configurations if one["front"]],
        "repetitions": [
            row for base, one in zip(configurations, some, strict=True) for row in _dots(base, one)
        ],
        "phases": [
            row
            for base, one in zip(configurations, some, strict=True)
            for row in _phases(base, one)
        ],
        "calls": [
            row for base, one in zip(configurations, some, strict=True) for row in _calls(base, one)
        ],
        "ratios": list(_ratios(found["compare"])),
        "laws": list(_laws(found["scaling"])),
    }
    for name, made_rows in made.items():
        if name != "front":
            for at, row in enumerate(made_rows):
                row["id"] = at
                row.update({key: _shown(value) for key, value in row.items()})
    return made


def _shown(value: Any) -> Any:
    """A text of the data as it can be drawn: what draws refuses halves of characters."""
    if isinstance(value, list):
        return [_shown(one) for one in value]
    return printable(value) if isinstance(value, str) else value


def _short(value: float | None, digits: int = 4) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{digits}g}")


def _ends(row: Row, name: str, metric: Mapping[str, Any] | None, scale: float = 1.0) -> None:
    """Mean, and both ends of its interval: equal to the mean where there is none."""
    mean = None if metric is None or not metric["n"] else metric["mean"]
    row[name] = None if mean is None else _short(mean * scale)
    low, high = (mean, mean) if metric is None or not metric["t"] else metric["t"]
    # No quantity is below 0, and a logarithmic axis has no 0.
    row[f"{name}_low"] = None if low is None or mean is None else _short(max(low, 0) * scale)
    row[f"{name}_high"] = None if high is None or mean is None else _short(high * scale)


def _configuration(at: int, row: Mapping[str, Any], one: Selected) -> Row:
    metrics = row["metrics"]
    made: Row = {
        "config": at,
        "stage": name_of_stage((row["workload"], row["stage"])),
        "arch": row["architecture"] or "unknown",
        "mb": row["memory_mb"],
        "workers": row["workers_requested"],
        "cpu": list(row["hardware"]) or ["unknown"],
        "file": row["file"],
        "part": row["stage"],
        "key": row["key"],
        "n": row["repetitions"]["used"],
        "front": False,
        "pick": "",
        "quality": None if metrics["energy_j"] is None else metrics["energy_j"].get("quality"),
    }
    _ends(made, "time", metrics["time_s"])
    _ends(made, "compute", metrics["compute_s"])
    _ends(made, "cpu_s", metrics["cpu_seconds_s"])
    _ends(made, "usd", metrics["cost_usd"], 1000)
    _ends(made, "joules", metrics["energy_j"])
    band = None if metrics["energy_j"] is None else metrics["energy_j"].get("band")
    made["band_low"], made["band_high"] = (
        (None, None) if band is None else (_short(band[0], 3), _short(band[1], 3))
    )
    return made


def _mark_front(configurations: Sequence[Row], pareto: Sequence[Mapping[str, Any]]) -> None:
    """Marks those on the front of time and dollars, or of time and joules where none cost any."""
    wanted = {
        (row["file"], row["stage"], row["key"], row["objectives"])
        for row in pareto
        if row["status"] == "front"
    }
    priced = {one["stage"] for one in configurations if one["usd"] is not None}
    for one in configurations:
        objectives = "time_s and cost_usd" if one["stage"] in priced else "time_s and energy_j"
        one["front"] = (one["file"], one["part"], one["key"], objectives) in wanted


def _mark_recommended(configurations: Sequence[Row], stages: Sequence[Mapping[str, Any]]) -> None:
    for stage in stages:
        chosen = stage.get("recommended")
        if chosen is None:
            continue
        name = name_of_stage((stage["workload"], stage["stage"]))
        for one in configurations:
            if (
                one["stage"] == name
                and (one["mb"], one["arch"]) == (chosen["memory_mb"], chosen["architecture"])
                and one["workers"] in chosen["workers_requested"]
            ):
                one["pick"] = "recommended"


def _place(base: Row) -> Row:
    return {name: base[name] for name in ("config", "stage", "arch", "mb", "workers", "file")}


def _dots(base: Row, one: Selected) -> Iterator[Row]:
    """Worker time of each repetition on each processor, relative to the configuration's mean."""
    runs = one.runs
    seconds = runs.numbers("worker_time_execution")
    keep = one.used[runs.repetition] & np.isfinite(seconds)
    if not keep.any():
        return
    mean = float(np.mean(one.values("worker_time_s")[one.used]))
    if not mean > 0:
        return
    column = runs.columns.get("cpu_name")
    labels: tuple[str, ...] = () if column is None else column.labels
    which = np.full(runs.rows, -1, dtype=np.int64)
    if column is not None and column.codes is not None:
        which = column.codes.astype(np.int64)
    place = _place(base)
    pairs = np.stack([runs.repetition[keep], which[keep]])
    for repetition, code in np.unique(pairs, axis=1).T.tolist():
        rows_of = keep & (runs.repetition == repetition) & (which == code)
        yield {
            **place,
            "cpu": labels[code] if code >= 0 else "unknown",
            "repetition": repetition,
            # Beside each other, so that dots of many configurations do not hide one another.
            "beside": _short(repetition + (place["config"] % 16 - 7.5) / 25),
            "calls": int(rows_of.sum()),
            "relative": _short(float(seconds[rows_of].mean()) / mean),
            "seconds": _short(float(seconds[rows_of].mean())),
        }


def _phases(base: Row, one: Selected) -> Iterator[Row]:
    """Mean seconds of each phase, over workers and repetitions."""
    place = {**_place(base), "cpu": base["cpu"]}
    for phase, rows_of in zip(PHASES, _phase_rows(one), strict=True):
        means = one.runs.mean_of(rows_of)[one.used]
        means = means[np.isfinite(means)]
        if not len(means):
            continue
        mean = float(means.mean())
        if mean < 0:
            continue  # phases that exceed the worker's time: lint names them
        low, high = quantity_interval(means) if len(means) > 1 else (mean, mean)
        yield {
            **place,
            "phase": phase,
            "n": len(means),
            "seconds": _short(mean),
            "low": _short(low),
            "high": _short(high),
        }


def _phase_rows(one: Selected) -> list[Floats]:
    runs = one.runs
    named = [runs.numbers(name) for name in ("cold_start", "read", "compute", "write")]
    return [*named, row_other_seconds(runs)]


def _calls(base: Row, one: Selected) -> Iterator[Row]:
    """The phases of each worker of the repetition whose time is nearest to the mean."""
    times = one.values("time_s")
    known = one.used & np.isfinite(times)
    if not known.any():
        return
    typical = int(np.argmin(np.where(known, np.abs(times - times[known].mean()), np.inf)))
    place = {**_place(base), "cpu": base["cpu"], "repetition": typical}
    mine = np.flatnonzero(one.runs.repetition == typical)
    parts = [numbers[mine] for numbers in _phase_rows(one)]
    for worker in range(len(mine)):
        start = 0.0
        for phase, seconds in zip(PHASES, parts, strict=True):
            length = float(seconds[worker])
            if not length > 0:
                continue
            yield {
                **place,
                "worker": worker,
                "phase": phase,
                "start": _short(start),
                "end": _short(start + length),
                "seconds": _short(length),
            }
            start += length


def _ratios(compare: Mapping[str, Any]) -> Iterator[Row]:
    for cell in compare["cells"]:
        if cell["ratio"] is None or cell["ratio"] <= 0:
            continue
        low, high = cell["ratio_ci"] or (cell["ratio"], cell["ratio"])
        yield {
            "stage": name_of_stage((cell["workload"], cell["stage"])),
            "mb": cell["memory_mb"],
            "workers": cell["workers"],
            "quantity": cell["quantity"],
            "pair": f"{cell['a']['label']} / {cell['b']['label']}",
            "n": f"{cell['a']['n']} / {cell['b']['n']}",
            "ratio": _short(cell["ratio"]),
            "low": _short(low),
            "high": _short(high),
            "verdict": cell["verdict"],
        }


def _laws(scaling: Mapping[str, Any]) -> Iterator[Row]:
    """The fitted law (USL) at whole numbers of workers, of each series."""
    for row in scaling["scaling"]:
        law = row["usl"]
        if row["quantity"] != "time_s" or law is None or not row["points"]:
            continue
        workers = [point["workers"] for point in row["points"]]
        for count in range(min(workers), max(workers) + 1):
            seconds = law["a_s"] + law["b_s"] / count + law["c_s"] * count
            if seconds > 0:
                yield {
                    "stage": name_of_stage((row["workload"], row["stage"])),
                    "arch": row["architecture"] or "unknown",
                    "mb": row["memory_mb"],
                    "workers": count,
                    "line": f"{row['file']} {row['stage']} {row['cpu']:g}",
                    "time": _short(seconds),
                }
