"""Under which conditions a recommendation holds: numbers from the data, one part for each kind.

What the data do not say is `None`, with the reason beside it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lithowatt.analysis._candidates import Candidate
from lithowatt.analysis._decide import value_of
from lithowatt.analysis._observe import Observation
from lithowatt.analysis.comparison import geometric_mean
from lithowatt.analysis.energy import watts_per_vcpu
from lithowatt.analysis.platforms import Platform
from lithowatt.analysis.scaling import exponent_of, kind_of
from lithowatt.profiles._runs import Floats, ProfileFile

#: The architectures that are compared, in this order.
ARCHITECTURES = ("arm64", "x86_64")


def place(candidate: Candidate) -> dict[str, Any]:
    """What tells a candidate from the others."""
    workers, memory, architecture = candidate.place
    return {"workers": workers, "memory_mb": memory, "architecture": architecture}


# --- bound --------------------------------------------------------------------


def bound(
    candidates: Sequence[Candidate], objective: str, best: Candidate, tied: Sequence[Candidate]
) -> dict[str, Any] | None:
    """What fewer seconds cost: the candidates that no other one beats in both.

    From the best by its mean on; `None` where seconds are what is minimised.
    """
    if objective == "time":
        return None
    least = value_of(best, objective)
    steps: list[dict[str, Any]] = []
    fastest = math.inf
    # In order of their values each has to be faster than all before: as many steps as candidates,
    # and not their square, since predicted ones may be many.
    for one in sorted(candidates, key=lambda one: (value_of(one, objective), time_of(one))):
        seconds, value = time_of(one), value_of(one, objective)
        if seconds >= fastest or not math.isfinite(value):
            continue
        fastest = seconds
        steps.append(
            {
                **place(one),
                "time_s": seconds,
                "value": value,
                "more": value / least - 1 if least > 0 else None,
                "tied": one in tied,
                "source": "profiled" if one.observation is not None else "predicted",
            }
        )
    return {"objective": objective, "steps": steps}


def time_of(candidate: Candidate) -> float:
    """Seconds of the stage."""
    return candidate.prediction.time.value


# --- price, watts, hardware: of two architectures -----------------------------


def _matched(observations: Iterable[Observation]) -> list[tuple[Observation, Observation]]:
    """Configurations that ran on both architectures, alike but for that."""
    found: dict[tuple[int, float], dict[str, Observation]] = {}
    for one in observations:
        found.setdefault((one.workers, one.memory_mb), {})[one.architecture] = one
    return [
        (both[ARCHITECTURES[0]], both[ARCHITECTURES[1]])
        for _, both in sorted(found.items())
        if len(both) == len(ARCHITECTURES)
    ]


def _ratio(
    pairs: Iterable[tuple[Observation, Observation]], name: str
) -> tuple[float, tuple[float, float], int]:
    """Geometric mean of the ratios of the means, its interval, and of how many pairs."""
    logs = [
        math.log(a.figures[name].mean / b.figures[name].mean)
        for a, b in pairs
        if name in a.figures
        and name in b.figures
        and min(a.figures[name].mean, b.figures[name].mean) > 0
    ]
    return *geometric_mean(np.array(logs), 0.95), len(logs)


def _inverse(ends: tuple[float, float]) -> list[float] | None:
    """The interval of 1 / a ratio."""
    low, high = ends
    return [1 / high, 1 / low] if math.isfinite(low) and math.isfinite(high) else None


def _only(observations: Iterable[Observation]) -> str:
    there = sorted({one.architecture for one in observations})
    if len(there) < len(ARCHITECTURES):
        return f"only {' and '.join(there)} was profiled"
    return "no configuration was profiled on both architectures"


def price(observations: Sequence[Observation], region: str | None) -> dict[str, Any]:
    """Up to which ratio of prices the one architecture costs less."""
    pairs = _matched(observations)
    ratio, ends, count = _ratio(pairs, "gib_s")
    if region is None or not count:
        why = "the prices are in no table of a provider" if region is None else _only(observations)
        return {"break_even_price_ratio": None, "reason": why}
    from lithowatt.aws._lambda_cost import lambda_price

    a, b = (lambda_price(architecture, region).gb_second for architecture in ARCHITECTURES)
    return {
        "a": ARCHITECTURES[0],
        "b": ARCHITECTURES[1],
        "billed_ratio": ratio,
        "break_even_price_ratio": 1 / ratio,
        "ci": _inverse(ends),
        "price_ratio": a / b,
        "configurations": count,
        "region": region,
    }


def watts(observations: Sequence[Observation], platform: Platform) -> dict[str, Any]:
    """Up to which ratio of W of a busy vCPU the one takes less, by CPU seconds times W."""
    pairs = _matched(observations)
    ratio, ends, count = _ratio(pairs, "cpu_seconds")
    if not count:
        why = _only(observations)
        if pairs:
            why = "the profiles have no CPU seconds of both architectures"
        return {"break_even_watts": None, "reason": why}
    a, b = (watts_per_vcpu(platform, pairs[0][at].worker) for at in (0, 1))
    assumed = None
    if a and b:
        assumed = {"a_w": a, "b_w": b, "ratio": a / b}
    return {
        "a": ARCHITECTURES[0],
        "b": ARCHITECTURES[1],
        "cpu_seconds_ratio": ratio,
        "break_even_watts": 1 / ratio,
        "ci": _inverse(ends),
        "assumed": assumed,
        "configurations": count,
    }


def hardware(observations: Sequence[Observation], chosen: Observation | None) -> dict[str, Any]:
    """Which processors the workers ran on, and what that changes."""
    pairs = _matched(observations)
    models = sorted({name for one in observations for name in _models(one)})
    against: list[dict[str, Any]] = []
    for name in models:
        logs = [
            math.log(_compute(a) / on)
            for a, b in pairs
            if (on := _compute(b, name)) > 0 and _compute(a) > 0
        ]
        if logs:
            against.append(
                {
                    "a": ARCHITECTURES[0],
                    "cpu_name": name,
                    "compute_ratio": geometric_mean(np.array(logs), 0.95)[0],
                    "configurations": len(logs),
                }
            )
    rows: dict[str, int] = {} if chosen is None else _models(chosen)
    among: list[dict[str, Any]] = []
    if len(rows) > 1 and chosen is not None:
        usual = max(sorted(rows), key=lambda name: rows[name])
        same = [one for one in observations if one.architecture == chosen.architecture]
        for name in sorted(rows):
            logs = [
                math.log(there / first)
                for one in same
                if (there := _compute(one, name)) > 0 and (first := _compute(one, usual)) > 0
            ]
            if name != usual and logs:
                among.append(
                    {
                        "cpu_name": name,
                        "against": usual,
                        "compute_ratio": geometric_mean(np.array(logs), 0.95)[0],
                        "configurations": len(logs),
                    }
                )
    return {"rows": dict(sorted(rows.items())), "by_cpu": against, "among": among}


def _models(observation: Observation) -> dict[str, int]:
    """Processor to worker calls."""
    found: defaultdict[str, int] = defaultdict(int)
    for part in observation.parts:
        runs = part.selected.runs
        column = runs.columns.get("cpu_name")
        if column is None or column.codes is None:
            continue
        codes = column.codes[part.among[runs.repetition]]
        counts = np.bincount(codes[codes >= 0], minlength=len(column.labels))
        for name, count in zip(column.labels, counts.tolist(), strict=True):
            if count:
                found[name] += count
    return dict(found)


def _compute(observation: Observation, cpu_name: str | None = None) -> float:
    """Mean over the repetitions of the mean compute of the workers on a processor; NaN: none."""
    means: list[Floats] = []
    for part in observation.parts:
        runs = part.selected.runs
        rows = runs.numbers("compute")
        on = np.ones(runs.rows, dtype=bool)
        if cpu_name is not None:
            column = runs.columns.get("cpu_name")
            if column is None or column.codes is None or cpu_name not in column.labels:
                continue
            on = column.codes == column.labels.index(cpu_name)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = runs.sum_of(np.where(on, rows, 0.0)) / runs.sum_of(on.astype(np.float64))
        mean = mean[part.among]
        means.append(mean[np.isfinite(mean)])
    values = np.concatenate([*means, np.zeros(0)])
    return float(values.mean()) if len(values) else math.nan


# --- edge and work ------------------------------------------------------------


def edge(chosen: Sequence[Candidate], observations: Sequence[Observation]) -> list[dict[str, Any]]:
    """Where the best, or what ties with it, is the least or the most that was profiled."""
    found = []
    for one in chosen:
        workers, memory, architecture = one.place
        beside = sorted(
            {o.workers for o in observations if (o.memory_mb, o.architecture) == one.place[1:]}
        )
        sizes = sorted({o.memory_mb for o in observations if o.architecture == architecture})
        for factor, value, levels in (("workers", workers, beside), ("memory_mb", memory, sizes)):
            if len(levels) < 2 or value not in (levels[0], levels[-1]):
                continue
            found.append(
                {
                    **place(one),
                    "factor": factor,
                    "value": value,
                    "is": "least" if value == levels[0] else "most",
                }
            )
    return found


def work(observations: Sequence[Observation], chosen: Observation | None) -> dict[str, Any]:
    """Whether more workers share one work or do more of it: the exponent of the CPU seconds."""
    nothing = {"kind": None, "exponent": None, "ci": None, "configurations": 0}
    if chosen is None:
        return {**nothing, "reason": "what is recommended was not profiled"}
    same = [
        one
        for one in observations
        if (one.memory_mb, one.architecture) == (chosen.memory_mb, chosen.architecture)
    ]
    asked = {asked for one in same for asked in one.requests}
    if {one.workers for one in same} == {1} and len(asked) > 1:
        return {**nothing, "kind": "one-worker", "configurations": len(same), "reason": None}
    points = [
        (float(one.workers), one.figures["cpu_seconds"].mean)
        for one in same
        if "cpu_seconds" in one.figures and one.figures["cpu_seconds"].mean > 0
    ]
    exponent = exponent_of([x for x, _ in points], [y for _, y in points])
    if exponent is None:
        why = "no CPU seconds of two numbers of workers"
        if len(same) < 2:
            why = "only one number of workers ran"
        return {**nothing, "configurations": len(points), "reason": why}
    known = math.isfinite(exponent.low)
    return {
        "kind": kind_of(exponent),
        "exponent": exponent.value,
        "ci": [exponent.low, exponent.high] if known else None,
        "configurations": len(points),
        "reason": None,
    }


# --- scope --------------------------------------------------------------------


def scope(
    observations: Sequence[Observation],
    chosen: Observation | None,
    tied: Sequence[Observation],
    files: Iterable[ProfileFile],
    drifting: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """What the numbers are about: how many runs, when, in how many sessions, of which input."""
    sessions: int | None = None
    if chosen is not None and len(chosen.session) and not (chosen.session < 0).any():
        sessions = len(np.unique(chosen.session))
    times, inputs, sizes = [], set(), set()
    for file in files:
        for runs in file.configurations:
            for record in runs.records:
                if isinstance(record, Mapping):
                    if isinstance(record.get("time"), str):
                        times.append(str(record["time"]))
                    if isinstance(record.get("input_bytes"), int):
                        inputs.add(int(record["input_bytes"]))
                    if isinstance(record.get("input_size"), str):
                        sizes.add(str(record["input_size"]))
    return {
        "runs": None if chosen is None else chosen.repetitions,
        "least_runs": min((one.repetitions for one in tied), default=None),
        "configurations": len(observations),
        "sessions": sessions,
        "drifting": sorted(drifting),
        "dates": [min(times)[:10], max(times)[:10]] if times else None,
        "input_bytes": sorted(inputs) if inputs else None,
        "input_size": sorted(sizes) if sizes else None,
    }
