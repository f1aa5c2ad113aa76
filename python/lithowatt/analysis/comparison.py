"""Comparisons: ratio with interval and margin first, then tests and sizes of effects.

A ratio is a / b, a difference a − b, and a verdict is about a relative to b. Ratios of several
configurations are averaged geometrically, within one stage of one workload: an arithmetic mean
says something else when a and b change places, and one number for unlike workloads is about
nothing.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from lithowatt._support.text import few
from lithowatt.analysis._envelope import envelope
from lithowatt.analysis.basis import Basis
from lithowatt.analysis.energy import holds_joules, watts_per_vcpu
from lithowatt.analysis.intervals import Sample, exponential, ratio_interval, t_quantile
from lithowatt.analysis.matching import (
    Key,
    Matched,
    Member,
    Pair,
    match,
)
from lithowatt.analysis.placement import worker_of
from lithowatt.analysis.selection import NAMES, Selection, Settings, widest_factors
from lithowatt.analysis.significance import (
    cliffs_delta,
    hedges_g,
    holm,
    one_sample_t,
    welch,
    wilcoxon,
)
from lithowatt.analysis.warnings import (
    BY_PROCESSOR,
    data_warning,
    data_warnings,
    drifting,
    mixed_hardware,
)
from lithowatt.errors import MalformedValueError
from lithowatt.profiles._runs import Floats, Profiles

#: What is compared where nobody says what.
DEFAULT_QUANTITIES = (
    "compute_s",
    "worker_time_s",
    "time_s",
    "worker_seconds_s",
    "cpu_seconds_s",
    "cost_usd",
)

#: Significant below this, of all cells of a family together.
ALPHA = 0.05

EQUIVALENT, LOWER, HIGHER, UNKNOWN = "equivalent", "lower", "higher", "not told apart"


class Cell(NamedTuple):
    """One quantity of one pair of configurations.

    Attributes:
        pair: The configurations.
        quantity: One of `NAMES`.
        row: The cell as results hold it.
    """

    pair: Pair
    quantity: str
    row: dict[str, Any]


@np.errstate(all="ignore")  # what is not finite is told as null
def compare(
    profiles: Profiles,
    by: str = "architecture",
    settings: Settings | None = None,
    *,
    quantities: Sequence[str] | None = None,
    paths: Sequence[str] = (),
    watts: tuple[float, float] | None = None,
    fail_if_worse: float | None = None,
    one_input: bool = False,
) -> dict[str, Any]:
    """The result of `lithowatt profile compare`.

    Args:
        profiles: What was read.
        by: `architecture`, `memory`, `workers`, `cpu_name`, `file`, `backend` or `label=A:B`.
        settings: What counts, confidence and margin.
        quantities: Names of `stats`; by default times, CPU seconds and dollars, and joules where
            any were measured.
        paths: What was given: with `file`, each stands for a side.
        watts: W per vCPU of a and b that the sensitivity assumes; by default the power model's.
        fail_if_worse: b is worse where it takes more than this part more than a.
        one_input: Every repetition is known to have had the same input.

    Raises:
        MalformedValueError: For what cannot be compared.
    """
    selection = Selection(profiles, settings)
    settings = selection.settings
    wanted = _quantities(selection, quantities)
    found = _Comparison(selection, by, wanted, paths)
    warnings = [
        *data_warnings(selection, energy="energy_j" in wanted),
        *drifting(selection),
        *found.warnings(),
    ]
    strata = found.by_cpu()
    warnings += mixed_hardware(selection, found.where_by_cpu(strata))
    same = None if one_input else found.with_same_input()
    if same is not None:
        warnings += found.beside(same)
    warnings += found.strata_that_differ(strata)
    sensitivity = found.sensitivity(watts)
    modelled = found.modelled()
    worse = [] if fail_if_worse is None else found.worse(fail_if_worse)
    return {
        **envelope(
            "compare",
            profiles,
            {
                **settings.as_json(),
                "by": by,
                "quantities": list(wanted),
                "fail_if_worse": fail_if_worse,
            },
            warnings,
        ),
        "cells": [cell.row for cell in found.cells],
        "overall": found.overall,
        "by_cpu": strata,
        "sensitivity": sensitivity,
        "modelled": modelled,
        "unmatched": [
            {"file": one.selected.file.name, "key": one.selected.runs.key, "reason": one.reason}
            for one in found.matched.unmatched
        ],
        "worse": worse,
    }


def _quantities(selection: Selection, given: Sequence[str] | None) -> tuple[str, ...]:
    if given is not None:
        unknown = [name for name in given if name not in NAMES]
        if unknown:
            raise MalformedValueError(
                f"quantity {unknown[0]!r:.60} is not one of {', '.join(NAMES)}"
            )
        return tuple(dict.fromkeys(given))
    measured = any(
        holds_joules(one.runs, selection.energy_column)
        and one.energy_quality() in ("measured", "attributed")
        for one in selection.all
    )
    return (*DEFAULT_QUANTITIES, "energy_j") if measured else DEFAULT_QUANTITIES


class _Comparison:
    """The cells of a comparison under one basis, and what is made of them."""

    def __init__(
        self, selection: Selection, by: str, quantities: Sequence[str], paths: Sequence[str]
    ) -> None:
        self.selection = selection
        self.settings = selection.settings
        self.by = by
        self.quantities = quantities
        self.paths = paths
        self.matched: Matched = match(selection.all, by, paths)
        self._sides: dict[tuple[tuple[Member, ...], str], tuple[Floats, Sample]] = {}
        self.cells = [
            cell
            for pair in self.matched.pairs
            for quantity in quantities
            if (cell := self._cell(pair, quantity)) is not None
        ]
        self._adjust()
        self.overall = self._overall()

    # --- cells ----------------------------------------------------------------

    def _cell(self, pair: Pair, quantity: str) -> Cell | None:
        (a, of_a), (b, of_b) = (self._side(side, quantity) for side in (pair.a, pair.b))
        if not of_a.n or not of_b.n:
            return None
        row = {
            **_place(pair.key),
            "quantity": quantity,
            "a": {"label": pair.labels[0], "n": of_a.n, "mean": of_a.mean},
            "b": {"label": pair.labels[1], "n": of_b.n, "mean": of_b.mean},
            **_compared(a, b, of_a, of_b, self.settings),
        }
        return Cell(pair, quantity, row)

    def _side(self, members: tuple[Member, ...], quantity: str) -> tuple[Floats, Sample]:
        """The values of one side, ascending; a configuration is in many pairs."""
        key = members, quantity
        if key not in self._sides:
            values = np.sort(np.concatenate([one.sample(quantity) for one in members]))
            self._sides[key] = values, Sample.of(values)
        return self._sides[key]

    def _adjust(self) -> None:
        """Holm's p over the cells of one workload, stage, quantity and pair of labels."""
        families: defaultdict[Any, list[Cell]] = defaultdict(list)
        for cell in self.cells:
            key = cell.pair.key
            own = key.architecture if self.by == "memory" else None
            family = key.workload, key.stage, own, cell.quantity, cell.pair.labels
            families[family].append(cell)
        for cells in families.values():
            adjusted = holm(
                [math.nan if (p := cell.row["welch"]["p"]) is None else p for cell in cells]
            )
            for cell, p in zip(cells, adjusted, strict=True):
                cell.row["welch"]["p_holm"] = _or_none(p)

    # --- over all configurations ----------------------------------------------

    def _groups(self) -> Iterable[tuple[dict[str, Any], list[Cell]]]:
        """The cells that one ratio is made of: all of a stage, and those of each memory."""
        groups: defaultdict[Any, list[Cell]] = defaultdict(list)
        for cell in self.cells:
            key = cell.pair.key
            stage = key.workload, key.stage, key.architecture, cell.pair.labels
            for memory in dict.fromkeys((None, key.memory_mb)):
                groups[stage, memory, cell.quantity].append(cell)
        for (stage, memory, quantity), cells in groups.items():
            workload, stage_, architecture, labels = stage
            yield (
                {
                    "workload": workload,
                    "stage": stage_,
                    "architecture": architecture,
                    "memory_mb": memory,
                    "quantity": quantity,
                    "a": {"label": labels[0]},
                    "b": {"label": labels[1]},
                },
                cells,
            )

    def _overall(self) -> list[dict[str, Any]]:
        rows = []
        for head, cells in self._groups():
            logs = _logs(cells)
            ratio, interval = geometric_mean(logs, self.settings.confidence)
            # One pair is its own stage: it has no scatter over pairs, and its own verdict.
            single = [cell for cell in cells if cell.row["ratio"]] if len(logs) == 1 else []
            rows.append(
                {
                    **head,
                    "configurations": len(logs),
                    "ratio": _or_none(ratio),
                    "ratio_ci": _interval(interval),
                    "paired_t_p": _or_none(one_sample_t(logs)),
                    "wilcoxon_p": _or_none(wilcoxon(logs)) if len(logs) else None,
                    "holm_significant": sum(
                        (p := cell.row["welch"]["p_holm"]) is not None and p < ALPHA
                        for cell in cells
                    ),
                    "verdict": single[0].row["verdict"]
                    if single
                    else verdict(interval, self.settings.margin),
                }
            )
        return sorted(rows, key=_row_order)

    # --- other input, other processors ----------------------------------------

    def with_same_input(self) -> _Comparison | None:
        """The same without repetitions that had another input; `None` where there is none."""
        rules = self.settings.basis.rules
        if "input-changed" in rules:
            return None
        basis = Basis("custom", (*rules, "input-changed"))
        other = self.selection.with_basis(basis)
        if not any("input-changed" in one.left_out for one in other.all):
            return None
        return _Comparison(other, self.by, self.quantities, self.paths)

    def beside(self, other: _Comparison) -> list[dict[str, Any]]:
        """Puts the ratios of the same input beside those that they differ from."""
        moved = []
        cells = {(cell.pair.key, cell.pair.labels, cell.quantity): cell.row for cell in other.cells}
        for cell in self.cells:
            there = cells.get((cell.pair.key, cell.pair.labels, cell.quantity))
            self._beside(cell.row, there)
        rows = {_row_key(row): row for row in other.overall}
        for row in self.overall:
            if self._beside(row, rows.get(_row_key(row))) and row["memory_mb"] is None:
                names_ = (row["workload"], row["stage"])
                moved.append(f"{' / '.join(filter(None, names_))} {row['quantity']}")
        names = {one.file.name for one in other.selection.all if "input-changed" in one.left_out}
        if not moved and not any("same_input" in cell.row for cell in self.cells):
            return []
        which = (
            f" ({', '.join(moved[:4])}{' and others' if len(moved) > 4 else ''})" if moved else ""
        )
        return [
            data_warning(
                "input-changed",
                "some repetitions had more input; without them ratios move by more than "
                f"{self.settings.margin * 100:g} %{which}: both are given",
                names,
            )
        ]

    def _beside(self, row: dict[str, Any], there: dict[str, Any] | None) -> bool:
        if there is None or not _apart(row["ratio"], there["ratio"], self.settings.margin):
            return False
        row["same_input"] = {"ratio": there["ratio"], "ratio_ci": there["ratio_ci"]}
        return True

    def by_cpu(self) -> list[dict[str, Any]]:
        """Computing of a against that of b on each of b's processors."""
        groups: defaultdict[Any, list[float]] = defaultdict(list)
        for pair in self.matched.pairs if self.by != "cpu_name" else ():
            _, a = self._side(pair.a, "compute_s")
            names = {name for member in pair.b for name in member.selected.hardware()}
            for name in sorted(names):
                on_it = tuple(Member(member.selected, name) for member in pair.b)
                _, b = self._side(on_it, "compute_s")
                if a.mean > 0 and b.mean > 0:
                    key = pair.key
                    place = key.workload, key.stage, key.architecture, pair.labels, name
                    groups[place].append(math.log(a.mean / b.mean))
        rows = []
        for (workload, stage_, architecture, labels, name), logs in groups.items():
            ratio, interval = geometric_mean(np.array(logs), self.settings.confidence)
            rows.append(
                {
                    "workload": workload,
                    "stage": stage_,
                    "architecture": architecture,
                    "quantity": "compute_s",
                    "a": {"label": labels[0]},
                    "b": {"label": labels[1]},
                    "cpu_name": name,
                    "ratio": ratio,
                    "ratio_ci": _interval(interval),
                    "configurations": len(logs),
                }
            )
        return sorted(rows, key=_row_order)

    def where_by_cpu(self, strata: Sequence[dict[str, Any]]) -> str | None:
        """Where processors are told apart; `None` where this comparison does nothing else."""
        if self.by == "cpu_name":
            return None
        names: defaultdict[Any, set[str]] = defaultdict(set)
        for row in strata:
            names[_stage_key(row)].add(row["cpu_name"])
        return "see by_cpu" if any(len(some) > 1 for some in names.values()) else BY_PROCESSOR

    def strata_that_differ(self, strata: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """A warning where a processor of b moves the ratio by more than the margin."""
        whole = {
            _stage_key(row): row["ratio"]
            for row in self.overall
            if row["memory_mb"] is None and row["quantity"] == "compute_s"
        }
        told = [
            f"{row['workload']} / {row['stage']}: {row['ratio']:.3f} against "
            f"{row['b']['label']} on {row['cpu_name']}, {overall:.3f} over all"
            for row in strata
            if (overall := whole.get(_stage_key(row))) is not None
            and _apart(row["ratio"], overall, self.settings.margin)
        ]
        if not told:
            return []
        return [
            data_warning(
                "cpu-strata",
                "the ratio of compute_s depends on the processor by more than "
                f"{self.settings.margin * 100:g} % ({few(told, 2, '; ')}): see by_cpu",
            )
        ]

    # --- what is assumed ------------------------------------------------------

    def sensitivity(self, watts: tuple[float, float] | None) -> list[dict[str, Any]]:
        """How much of a difference in joules is the watts that are assumed for a vCPU."""
        if self.by != "architecture":
            return []
        rows = []
        for head, cells in self._groups():
            if head["memory_mb"] is not None or head["quantity"] != "cpu_seconds_s":
                continue
            ratio, _ = geometric_mean(_logs(cells), self.settings.confidence)
            assumed = watts or _assumed(cells)
            if not ratio > 0 or assumed is None:
                continue
            a_w, b_w = assumed
            energy = ratio * a_w / b_w
            rows.append(
                {
                    "workload": head["workload"],
                    "stage": head["stage"],
                    "a": head["a"],
                    "b": head["b"],
                    "cpu_seconds_ratio": ratio,
                    "break_even_watts": 1 / ratio,
                    "assumed": {"a_w": a_w, "b_w": b_w},
                    "energy_ratio": energy,
                    "share_from_watts": None
                    if energy == 1
                    else math.log(a_w / b_w) / math.log(energy),
                }
            )
        return sorted(rows, key=_row_order)

    def modelled(self) -> list[dict[str, Any]]:
        """How much of a ratio of joules that nobody measured is the model's watts.

        On a log scale a ratio of joules is that of CPU seconds and that of watts a CPU second.
        """
        groups = [
            (head, cells)
            for head, cells in self._groups()
            if head["memory_mb"] is None and head["quantity"] == "energy_j"
        ]
        groups = [(head, cells) for head, cells in groups if all(map(_is_modelled, cells))]
        if not groups:
            return []
        times = self
        if "cpu_seconds_s" not in self.quantities:
            times = _Comparison(self.selection, self.by, ("cpu_seconds_s",), self.paths)
        seconds = {
            _stage_key(row): row["ratio"]
            for row in times.overall
            if row["memory_mb"] is None and row["quantity"] == "cpu_seconds_s"
        }
        rows = []
        for head, cells in groups:
            ratio, _ = geometric_mean(_logs(cells), self.settings.confidence)
            of_seconds = seconds.get(_stage_key(head))
            factors = widest_factors(
                member.selected for cell in cells for member in (*cell.pair.a, *cell.pair.b)
            )
            rows.append(
                {
                    **{name: head[name] for name in ("workload", "stage", "architecture")},
                    "a": head["a"],
                    "b": head["b"],
                    "factors": None if factors is None else list(factors),
                    "energy_ratio": _or_none(ratio),
                    "cpu_seconds_ratio": of_seconds,
                    "share_from_watts": 1 - math.log(of_seconds) / math.log(ratio)
                    if of_seconds and ratio > 0 and ratio != 1
                    else None,
                }
            )
        return sorted(rows, key=_row_order)

    # --- warnings and what fails ----------------------------------------------

    def warnings(self) -> list[dict[str, Any]]:
        """What is missing from the comparison, and what it is not about."""
        found = []
        if self.matched.notes:
            found.append(
                data_warning(
                    "unlike", f"unlike things are compared: {'; '.join(self.matched.notes)}"
                )
            )
        there = {cell.quantity for cell in self.cells}
        for quantity in self.quantities:
            if quantity in there or not self.matched.pairs:
                continue
            reasons = {
                reason
                for pair in self.matched.pairs
                for member in (*pair.a, *pair.b)
                if (reason := member.selected.missing(quantity)) is not None
            }
            why = f": {'; '.join(sorted(reasons))}" if reasons else " on both sides"
            found.append(data_warning("not-compared", f"{quantity} is not known{why}"))
        qualities = {
            quality
            for cell in self.cells
            if cell.quantity == "energy_j"
            for member in (*cell.pair.a, *cell.pair.b)
            if (quality := member.selected.energy_quality()) is not None
        }
        if len(qualities) > 1:
            found.append(
                data_warning(
                    "unlike-energy",
                    f"joules are {' and '.join(sorted(qualities))}: a ratio of unlike ones is "
                    "about the methods, too",
                )
            )
        return found

    def worse(self, most: float) -> list[dict[str, Any]]:
        """Where b takes more than this part more than a, and that is no chance.

        A whole stage, by the interval of its ratio; or one configuration, by Holm's p.
        """
        found = []
        for row in self.overall:
            sure = row["ratio_ci"] is not None and row["ratio_ci"][1] < 1
            if row["memory_mb"] is None and sure and self._worse(row, most):
                found.append(_regression(row, None))
        for cell in self.cells:
            p = cell.row["welch"]["p_holm"]
            if p is not None and p < ALPHA and self._worse(cell.row, most):
                found.append(_regression(cell.row, cell.row["workers"]))
        return found

    def _worse(self, row: dict[str, Any], most: float) -> bool:
        ratio = row["ratio"]
        # More of the guests' CPUs in use is neither good nor bad.
        return row["quantity"] != "cpu_share" and bool(ratio) and 1 / ratio > 1 + most


def _regression(row: dict[str, Any], workers: int | None) -> dict[str, Any]:
    return {
        "workload": row["workload"],
        "stage": row["stage"],
        "architecture": row["architecture"],
        "memory_mb": row["memory_mb"],
        "workers": workers,
        "quantity": row["quantity"],
        "a": {"label": row["a"]["label"]},
        "b": {"label": row["b"]["label"]},
        "b_over_a": 1 / row["ratio"],
        "b_over_a_ci": None
        if row["ratio_ci"] is None or not row["ratio_ci"][0]
        else [1 / row["ratio_ci"][1], 1 / row["ratio_ci"][0]],
    }


# --- one pair -----------------------------------------------------------------


def _compared(
    a: Floats, b: Floats, one: Sample, other: Sample, settings: Settings
) -> dict[str, Any]:
    """What two samples say of each other."""
    ratio = one.mean / other.mean if other.mean > 0 else math.nan
    interval = ratio_interval(one, other, settings.confidence)
    test = welch(one, other, settings.confidence)
    return {
        "ratio": _or_none(ratio),
        "ratio_ci": _interval(interval),
        "difference": one.mean - other.mean,
        "difference_ci": _interval(test.interval),
        "welch": {
            "t": _or_none(test.t),
            "df": _or_none(test.df),
            "p": _or_none(test.p),
            "p_holm": None,
        },
        "hedges_g": _or_none(hedges_g(one, other)),
        "cliffs_delta": cliffs_delta(a, b),
        "verdict": verdict(interval, settings.margin),
    }


def verdict(interval: tuple[float, float], margin: float) -> str:
    """What an interval of a ratio says in words: of a relative to b.

    Example:
        >>> verdict((0.97, 1.02), 0.05), verdict((0.8, 0.9), 0.05), verdict((0.8, 1.1), 0.05)
        ('equivalent', 'lower', 'not told apart')
    """
    low, high = interval
    if low >= 1 - margin and high <= 1 / (1 - margin):
        return EQUIVALENT
    if high < 1:
        return LOWER
    if low > 1:
        return HIGHER
    return UNKNOWN


def geometric_mean(logs: Floats, confidence: float) -> tuple[float, tuple[float, float]]:
    """The geometric mean of ratios of which these are the logarithms, and its t interval."""
    if len(logs) < 2:
        return (exponential(float(logs[0])) if len(logs) else math.nan), (math.nan, math.nan)
    sample = Sample.of(logs)
    half = t_quantile(confidence, sample.n - 1) * math.sqrt(sample.variance_of_mean)
    ends = exponential(sample.mean - half), exponential(sample.mean + half)
    return exponential(sample.mean), ends


def _logs(cells: Iterable[Cell]) -> Floats:
    ratios = [cell.row["ratio"] for cell in cells]
    return np.log(np.array([ratio for ratio in ratios if ratio], dtype=np.float64))


def _apart(one: float | None, other: float | None, margin: float) -> bool:
    if not one or not other:
        return False
    return abs(math.log(one / other)) > -math.log1p(-margin)


def _is_modelled(cell: Cell) -> bool:
    members = (*cell.pair.a, *cell.pair.b)
    return all(one.selected.energy_quality() == "modelled" for one in members)


def _assumed(cells: Sequence[Cell]) -> tuple[float, float] | None:
    """W of a busy vCPU of a and of b by the power model: those of the first pair that has them."""
    for cell in cells:
        found = []
        for side in (cell.pair.a, cell.pair.b):
            one = side[0].selected
            if one.place.platform is None or one.architecture is None:
                break
            watts = watts_per_vcpu(one.place.platform, worker_of(one.runs, one.architecture))
            if watts is None or watts <= 0:
                break
            found.append(watts)
        if len(found) == 2:
            return found[0], found[1]
    return None


# --- rows ---------------------------------------------------------------------


def _place(key: Key) -> dict[str, Any]:
    return {
        "workload": key.workload,
        "stage": key.stage,
        "architecture": key.architecture,
        "memory_mb": key.memory_mb,
        "workers": key.workers,
    }


def _row_order(row: dict[str, Any]) -> tuple[str, ...]:
    """Stage, sides, memory: the quantities of one stay in their order."""
    memory = row.get("memory_mb")
    return (
        row["workload"] or "",
        row["stage"] or "",
        row.get("architecture") or "",
        row["a"]["label"],
        row["b"]["label"],
        "" if memory is None else f"{memory:020.3f}",
        row.get("cpu_name", ""),
    )


def _row_key(row: dict[str, Any]) -> tuple[Any, ...]:
    return (*_stage_key(row), row["memory_mb"], row["quantity"])


def _stage_key(row: dict[str, Any]) -> tuple[Any, ...]:
    return (
        row["workload"],
        row["stage"],
        row["architecture"],
        row["a"]["label"],
        row["b"]["label"],
    )


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _interval(ends: tuple[float, float]) -> list[float] | None:
    return list(ends) if all(map(math.isfinite, ends)) else None
