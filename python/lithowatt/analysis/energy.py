"""Joules of each repetition: those that the profile holds, else those of the power model.

Only the columns of lithowatt count (`energy`, or `energy_marginal` where calls of two definitions
are compared). What FlexExecutor's energy fork writes as `rapl_*` and `perf_*` is the whole
machine's, once for each worker on it: no sum of them is anybody's energy.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from lithowatt.analysis.placement import Place, no_architecture, worker_of
from lithowatt.analysis.platforms import Platform, Worker
from lithowatt.analysis.quantities import row_cpu_seconds
from lithowatt.profiles._runs import Column, ConfigurationRuns, Floats, Profiles
from lithowatt.stats import QUALITIES

#: Points of a worker's power curve, which is computed once and then read off.
_POINTS = 129


class Joules(NamedTuple):
    """Energy of a configuration's repetitions.

    Attributes:
        values: J a repetition, NaN where there is none.
        low: Lower end of the 95 % band of each.
        high: Upper end.
        quality: Of each an index into `QUALITIES`, the worst of its workers.
        reason: Why there is none; `None` where there is some.
    """

    values: Floats
    low: Floats
    high: Floats
    quality: Floats
    reason: str | None


def energy_column(profiles: Profiles) -> str:
    """The column by which these profiles can be compared.

    `energy` holds a share of idle power or not, by where the call ran. Where there are both, what
    is above idle must do for all.
    """
    definitions = {
        label
        for _, runs in profiles
        for label in _labels(runs.columns.get("energy_definition"))
        if label
    }
    return "energy_marginal" if len(definitions) > 1 else "energy"


def joules_of(
    runs: ConfigurationRuns, place: Place, architecture: str | None, column: str
) -> Joules:
    """Joules of each repetition, by this column or, where it holds none, by the power model."""
    if holds_joules(runs, column):
        return _held(runs, column)
    return _modelled(runs, place, architecture)


def holds_joules(runs: ConfigurationRuns, column: str) -> bool:
    """Whether the profile itself has joules of a configuration."""
    held = runs.columns.get(column)
    return held is not None and held.numbers is not None and bool((held.numbers > 0).any())


def machine_columns(runs: Iterable[ConfigurationRuns]) -> list[str]:
    """Columns of the energy fork that hold joules of whole machines."""
    found = set()
    for one in runs:
        if "energy" in one.columns or "cpu_time" in one.columns:
            continue  # lithowatt's own: there they are each call's share
        for name, column in one.columns.items():
            values = column.numbers if name.startswith(MACHINE) else None
            if values is not None and (np.nan_to_num(values) > 0).any():
                found.add(name)
    return sorted(found)


#: The beginnings of the names of columns that the fork fills with the machine's counters.
MACHINE = ("rapl_", "perf_", "ebpf_")


def _held(runs: ConfigurationRuns, name: str) -> Joules:
    def joules(column: str) -> Floats:
        # 0 J is what could not be measured.
        rows = runs.numbers(column)
        return runs.sum_of(np.where(rows > 0, rows, np.nan))

    values = joules(name)
    # The bands are those of `energy`, in proportion.
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = values / joules("energy")
        low, high = joules("energy_low") * scale, joules("energy_high") * scale
    none = runs.widths == 0
    values[none] = np.nan
    column = runs.columns.get("energy_quality")
    ranks = np.full(runs.rows, float(len(QUALITIES) - 1))
    if column is not None and column.codes is not None:
        known = [
            QUALITIES.index(one) if one in QUALITIES else len(QUALITIES) - 1
            for one in (*column.labels, None)
        ]
        ranks = np.array(known, dtype=np.float64)[column.codes]
    return Joules(values, low, high, runs.max_of(ranks), None)


def _modelled(runs: ConfigurationRuns, place: Place, architecture: str | None) -> Joules:
    none = np.full(runs.repetitions, np.nan)

    def nothing(reason: str) -> Joules:
        return Joules(none, none, none, none, f"no joule was measured, and {reason}")

    if place.platform is None:
        return nothing("the profile does not say where it ran")
    if place.by_row:
        return nothing("some rows ran on AWS Lambda and some did not")
    if architecture is None:
        return nothing(no_architecture(runs))
    worker = worker_of(runs, architecture)
    reason = place.platform.no_watts(worker)
    if reason is not None:
        return nothing(reason)
    seconds = runs.numbers("worker_time_execution")
    with np.errstate(invalid="ignore", divide="ignore"):
        busy = row_cpu_seconds(runs) / seconds
    busy[~((seconds > 0) & (busy > 0))] = np.nan
    if not np.isfinite(busy).any():
        return nothing("there are no CPU seconds for the power model")
    watts = _curve(place.platform, worker)  # type: ignore[arg-type]  # ours can be hashed
    values, low, high = (
        runs.sum_of(seconds * np.interp(busy, watts[0], watts[at])) for at in (1, 2, 3)
    )
    empty = runs.widths == 0
    values[empty] = np.nan
    return Joules(values, low, high, np.full(runs.repetitions, len(QUALITIES) - 1.0), None)


def watts_per_vcpu(platform: Platform, worker: Worker) -> float | None:
    """Watts of a busy vCPU of such a worker; `None` where there is no model."""
    vcpus = platform.vcpus(worker)
    if vcpus is None or vcpus <= 0:
        return None
    found = platform.watts(worker, vcpus)
    return None if found is None else found.value / vcpus


@functools.lru_cache(maxsize=256)
def _curve(platform: Platform, worker: Worker) -> tuple[Floats, Floats, Floats, Floats]:
    """Busy vCPUs, and the watts, low and high at so many."""
    share = platform.share(worker)
    most = share.vcpus if share is not None else 1.0
    # A processor's curve is steepest and most bent where it is hardly busy: within 1e-4.
    busy = most * np.linspace(0.0, 1.0, _POINTS) ** 2
    found = [platform.watts(worker, one) for one in busy.tolist()]
    value, low, high = (
        np.array([np.nan if one is None else one[at] for one in found]) for at in range(3)
    )
    return busy, value, low, high


def _labels(column: Column | None) -> tuple[str, ...]:
    return () if column is None else column.labels
