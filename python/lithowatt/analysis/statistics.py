"""Statistics of each configuration: what was found, what counts, and what the repetitions say."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lithowatt.analysis._envelope import envelope
from lithowatt.analysis.intervals import bootstrap_t, not_below_zero, t_quantile
from lithowatt.analysis.selection import NAMES, Selected, Selection, Settings
from lithowatt.analysis.warnings import data_warnings
from lithowatt.profiles._runs import Bools, Floats, ProfileFile, Profiles
from lithowatt.profiles._values import finite
from lithowatt.stats import QUALITIES


@np.errstate(all="ignore")  # what is not finite is told as null
def stats(
    profiles: Profiles, settings: Settings | None = None, *, bootstrap: bool = True
) -> dict[str, Any]:
    """The result of `lithowatt profile stats`.

    Args:
        profiles: What was read.
        settings: What counts, and how intervals are made.
        bootstrap: Whether to make bootstrap-t intervals; else they are `None`.
    """
    selection = Selection(profiles, settings)
    merged = _merged(selection)
    parts = [_Part(one, None) for one in selection.all]
    described = _described(
        [*([part] for part in parts), *(some for _, some in merged)], selection.settings, bootstrap
    )
    configurations = [
        _configuration(part.selected, metrics)
        for part, metrics in zip(parts, described[: len(parts)], strict=True)
    ]
    return {
        **envelope(
            "stats",
            profiles,
            selection.settings.as_json(),
            data_warnings(selection, configurations),
        ),
        "configurations": configurations,
        "merged": [
            _merged_row(key, some, metrics)
            for (key, some), metrics in zip(merged, described[len(parts) :], strict=True)
        ],
        "failures": failures(profiles.files),
    }


class _Part:
    """Some of the repetitions of a configuration, `None`: all that count."""

    def __init__(self, selected: Selected, among: Bools | None) -> None:
        self.selected = selected
        self.among = among

    @property
    def used(self) -> Bools:
        used = self.selected.used
        return used if self.among is None else used & self.among


def _configuration(selected: Selected, metrics: dict[str, Any]) -> dict[str, Any]:
    runs = selected.runs
    missing = {name: selected.missing(name) for name in NAMES}
    reasons = {name: reason for name, reason in missing.items() if reason is not None}
    return {
        "file": selected.file.name,
        "key": runs.key,
        "workload": selected.file.workload,
        "stage": selected.file.stage,
        "cpu": runs.configuration.cpu,
        "memory_mb": runs.configuration.memory_mb,
        "architecture": selected.architecture,
        "workers_requested": runs.configuration.workers,
        "workers_actual": selected.workers_actual,
        "repetitions": {
            "found": runs.repetitions,
            "usable": int(runs.usable.sum()),
            "used": int(selected.used.sum()),
            "left_out": selected.left_out,
        },
        "sessions": selected.sessions,
        "hardware": selected.hardware(),
        "metrics": {name: None if name in reasons else metrics[name] for name in NAMES},
        "reasons": reasons,
    }


# --- merged -------------------------------------------------------------------

_Key = tuple[str, str, str | None, float, int]


def _merged(selection: Selection) -> list[tuple[_Key, list[_Part]]]:
    """Repetitions that ran alike, whatever was asked for: where that was not just their number."""
    found: defaultdict[_Key, list[_Part]] = defaultdict(list)
    for one in selection.all:
        widths = one.runs.widths
        for workers in np.unique(widths[one.used]).tolist():
            key = (
                one.file.workload,
                one.file.stage,
                one.architecture,
                one.runs.configuration.memory_mb,
                workers,
            )
            found[key].append(_Part(one, widths == workers))
    return sorted(
        (
            (key, parts)
            for key, parts in found.items()
            if {part.selected.runs.configuration.workers for part in parts} != {key[-1]}
        ),
        key=lambda one: (one[0][0], one[0][1], one[0][2] or "", one[0][3], one[0][4]),
    )


def _merged_row(key: _Key, parts: Sequence[_Part], metrics: dict[str, Any]) -> dict[str, Any]:
    workload, stage, architecture, memory_mb, workers = key
    return {
        "workload": workload,
        "stage": stage,
        "architecture": architecture,
        "memory_mb": memory_mb,
        "workers_actual": workers,
        "workers_requested": sorted({part.selected.runs.configuration.workers for part in parts}),
        "repetitions": {"used": sum(int(part.used.sum()) for part in parts)},
        "metrics": {
            name: None
            if all(part.selected.missing(name) is not None for part in parts)
            else metrics[name]
            for name in NAMES
        },
    }


# --- metrics ------------------------------------------------------------------


def _described(
    groups: Sequence[Sequence[_Part]], settings: Settings, bootstrap: bool
) -> list[dict[str, Any]]:
    """The metrics of each group of repetitions."""
    samples = [_sample(group, name) for group in groups for name in NAMES]
    described = iter(describe(samples, settings, bootstrap=bootstrap))
    found = [{name: next(described) for name in NAMES} for _ in groups]
    for group, metrics in zip(groups, found, strict=True):
        metrics["energy_j"].update(_energy(group))
    return found


def _sample(group: Sequence[_Part], name: str) -> Floats:
    """The values of a quantity in a group, ascending."""
    some = [part.selected.sample(name, part.among) for part in group]
    return some[0] if len(some) == 1 else np.sort(np.concatenate(some))


def _energy(group: Sequence[_Part]) -> dict[str, Any]:
    """How joules were made, and their band: of the mean, from the bands of the repetitions."""
    told = (part.selected.energy_quality(part.among) for part in group)
    qualities = [quality for quality in told if quality is not None]
    lows, highs = [], []
    for part in group:
        joules = part.selected.joules
        keep = part.used & np.isfinite(joules.values)
        lows.append(joules.low[keep])
        highs.append(joules.high[keep])
    low, high = (np.sort(np.concatenate(ends)) for ends in (lows, highs))
    known = len(low) > 0 and np.isfinite(low).all() and np.isfinite(high).all()
    return {
        "quality": max(qualities, key=QUALITIES.index, default=None),
        "band": [float(low.mean()), float(high.mean())] if known else None,
    }


def describe(
    samples: Sequence[Floats], settings: Settings, *, bootstrap: bool = True
) -> list[dict[str, Any]]:
    """What statistics say of each sample; those of one size are computed together.

    Args:
        samples: Finite values, each ascending, so that their order in a file changes nothing.
        settings: Confidence, resamples and seed.
        bootstrap: Whether to make bootstrap-t intervals.
    """
    found: list[dict[str, Any]] = [{}] * len(samples)
    sizes: defaultdict[int, list[int]] = defaultdict(list)
    for at, sample in enumerate(samples):
        sizes[len(sample)].append(at)
    for places in sizes.values():
        rows = _described_rows(np.stack([samples[at] for at in places]), settings, bootstrap)
        for at, row in zip(places, rows, strict=True):
            found[at] = row
    return found


def _described_rows(
    values: Floats, settings: Settings, bootstrap: bool
) -> Iterable[dict[str, Any]]:
    """The same of samples of one size, one a row."""
    count, n = values.shape
    if n == 0:
        nothing = dict.fromkeys(("mean", "sd", "median", "p95", "min", "max"))
        return [
            {"n": 0, **nothing, "t": None, "bootstrap_t": None, "cv": None} for _ in range(count)
        ]
    # A mean outside its values is rounding: 0.1 three times.
    mean = np.clip(values.mean(axis=1), values[:, 0], values[:, -1])
    middle = (values[:, (n - 1) // 2] + values[:, n // 2]) / 2
    place = 0.95 * (n - 1)
    below, above = values[:, math.floor(place)], values[:, math.ceil(place)]
    p95 = below + (above - below) * (place - math.floor(place))
    sd = values.std(axis=1, ddof=1) if n > 1 else np.full(count, np.nan)
    sd[values[:, 0] == values[:, -1]] = 0.0 if n > 1 else np.nan
    half = t_quantile(settings.confidence, n - 1) * sd / math.sqrt(n)
    with np.errstate(invalid="ignore", divide="ignore"):
        cv = sd / mean
    boot = np.full((count, 2), np.nan)
    if bootstrap:
        boot = bootstrap_t(values, settings.resamples, settings.seed, settings.confidence)
    columns = {
        "mean": mean,
        "sd": sd,
        "median": middle,
        "p95": p95,
        "min": values[:, 0],
        "max": values[:, -1],
    }
    numbers = {name: _or_none(column) for name, column in columns.items()}
    least = values[:, 0]
    t = zip(_or_none(not_below_zero(mean - half, least)), _or_none(mean + half), strict=True)
    b = zip(_or_none(not_below_zero(boot[:, 0], least)), _or_none(boot[:, 1]), strict=True)
    return [
        {
            "n": n,
            **{name: column[at] for name, column in numbers.items()},
            "t": None if t_low is None else [t_low, t_high],
            "bootstrap_t": None if b_low is None else [b_low, b_high],
            "cv": cv_,
        }
        for at, ((t_low, t_high), (b_low, b_high), cv_) in enumerate(
            zip(t, b, _or_none(cv), strict=True)
        )
    ]


def _or_none(values: Floats) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values.tolist()]


# --- failures -----------------------------------------------------------------


def failures(files: Iterable[ProfileFile]) -> list[dict[str, Any]]:
    """Failed runs that the sidecars tell of, one row a configuration of a file.

    Their joules are not in any configuration's: whoever asks what a stage used adds them.
    """
    found: dict[tuple[str, str, str | None], list[Mapping[str, Any]]] = {}
    # The stages of one file share its sidecar.
    for file in {one.path: one for one in files}.values():
        if file.sidecar is None:
            continue
        for one in file.sidecar.get("failures", ()):
            if not isinstance(one, Mapping):
                continue
            stage, key = one.get("stage"), one.get("configuration")
            name = stage if isinstance(stage, str) and stage else file.stage
            found.setdefault((file.name, name, key if isinstance(key, str) else None), []).append(
                one
            )
    return [
        {
            "file": file,
            "stage": stage,
            "key": key,
            "runs": len(runs),
            "calls": sum(n for one in runs if isinstance(n := one.get("calls"), int)),
            **_joules_of_failures(runs),
        }
        for (file, stage, key), runs in sorted(found.items(), key=str)
    ]


def _joules_of_failures(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    whole = [finite(one.get("energy")) for one in runs]
    known = [finite(one.get("energy_known")) for one in runs]
    there = [value for value in whole if value is not None]
    reasons = {
        text
        for one, value in zip(runs, whole, strict=True)
        if value is None and isinstance(text := one.get("energy_reason"), str)
    }
    some = [
        value if value is not None else part
        for value, part in zip(whole, known, strict=True)
        if value is not None or part is not None
    ]
    return {
        "energy_j": math.fsum(there) if len(there) == len(whole) else None,
        "energy_known_j": math.fsum(one for one in some if one is not None) if some else None,
        "reason": None
        if len(there) == len(whole)
        else "; ".join(sorted(reasons)) or "not all failed runs have their joules",
    }
