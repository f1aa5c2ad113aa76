"""The configuration that takes the fewest joules, dollars or seconds within bounds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

from lithowatt._support.architectures import normalise_architecture
from lithowatt.analysis._observe import Profile
from lithowatt.analysis._predict import NO_ENERGY, PerformanceModel
from lithowatt.analysis._prediction import Band, Prediction
from lithowatt.analysis.platforms import Platform, Price
from lithowatt.analysis.platforms._platform import DEFAULT_REGION
from lithowatt.estimate import number

#: What can be minimised.
OBJECTIVES = ("energy", "cost", "edp", "time")

#: More candidates than these are thinned out, evenly on a logarithmic scale.
_MOST_WORKERS = 256


@dataclass(frozen=True)
class Recommendation(Sequence[Prediction]):
    """Configurations that keep the bounds, the best first.

    A sequence of `Prediction`; empty where none keeps them.

    Attributes:
        minimise: ``energy``, ``cost``, ``edp`` or ``time``.
        bounds: Upper bounds that were asked for: ``latency`` (s), ``cost`` (USD), ``energy`` (J).
        ranked: Those that keep the bounds by best estimate, in order.
        candidates: How many were considered.
        closest: Where none keeps the bounds, the one that misses them by the least.
        reason: Why none does, in one line; ``None`` where one does.
        warnings: What to know before acting on it.
    """

    minimise: str
    bounds: dict[str, float]
    ranked: tuple[Prediction, ...]
    candidates: int
    closest: Prediction | None
    reason: str | None
    warnings: tuple[str, ...]

    @property
    def best(self) -> Prediction | None:
        """The first, ``None`` where none keeps the bounds."""
        return self.ranked[0] if self.ranked else None

    def __len__(self) -> int:
        return len(self.ranked)

    @overload
    def __getitem__(self, index: int) -> Prediction: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Prediction, ...]: ...

    def __getitem__(self, index: int | slice) -> Prediction | tuple[Prediction, ...]:
        return self.ranked[index]

    def __iter__(self) -> Iterator[Prediction]:
        return iter(self.ranked)


def recommend(
    profiles: Profile | Iterable[Profile] | PerformanceModel,
    minimise: str = "energy",
    latency: float | None = None,
    cost: float | None = None,
    energy: float | None = None,
    workers: int | Iterable[int] | None = None,
    memory: float | Iterable[float] | None = None,
    architecture: str | None = None,
    extrapolate: bool = False,
    region: str = DEFAULT_REGION,
    platform: Platform | str | None = None,
    price: Price | None = None,
) -> Recommendation:
    """Ranks the configurations of a stage by energy, cost, energy × time, or time.

    Args:
        profiles: Profiles of one stage, paths or read; or a `PerformanceModel` of them.
        minimise: ``energy`` (J), ``cost`` (USD), ``edp`` (J·s) or ``time`` (s).
        latency: Most seconds that the stage may take.
        cost: Most dollars that it may cost.
        energy: Most joules that it may use.
        workers: Numbers of workers to consider; all between the profiled ones by default.
        memory: Memories to consider, MB; the profiled ones by default.
        architecture: Only this one; all profiled ones by default. Also that of profiles that do
            not say theirs.
        extrapolate: Whether to consider ``workers`` and ``memory`` beyond the profiled ones.
        region: Of the prices of a provider.
        platform: Where the profiles ran; they say it by default, see `PerformanceModel`.
        price: What a worker's seconds cost on a platform whose prices are in no table.

    Raises:
        UnreadableFileError, MalformedValueError: From reading the profiles.
        ValueError: For an unknown objective, a bound that is no positive number, an
            architecture that was not profiled, or candidates none of which can be predicted.

    Example:
        >>> from lithowatt.profiles import recommend
        >>> row = lambda n: {"compute": [[40 / n] * n], "read": [[0.1] * n], "write": [[0.1] * n],
        ...     "cold_start": [[1.0] * n], "worker_time_execution": [[40 / n + 0.5] * n],
        ...     "cpu_time": [[20 / n + 0.2] * n], "cpu_architecture": [["arm64"] * n]}
        >>> profile = {(1, 1024, n): row(n) for n in (2, 4, 8, 16)}
        >>> best = recommend(profile, minimise="energy", latency=7.0).best
        >>> best.workers, best.architecture
        (7, 'arm64')
        >>> print(recommend(profile, latency=1.0).reason)
        no configuration takes 1 s or less: the fastest takes 3.7 s (16 workers of 1024 MB, arm64)
    """
    if minimise not in OBJECTIVES:
        raise ValueError(f"minimise {minimise!r:.80} is not one of {', '.join(OBJECTIVES)}")
    bounds = {
        name: _bound(name, value)
        for name, value in (("latency", latency), ("cost", cost), ("energy", energy))
        if value is not None
    }
    if isinstance(profiles, PerformanceModel):
        model = profiles
    else:
        model = PerformanceModel(profiles, architecture, region, platform, price)
    needs_energy = minimise in ("energy", "edp") or "energy" in bounds
    if needs_energy and model.energy_quality is None:
        raise ValueError(model.no_energy)
    if model.no_price is not None and (minimise == "cost" or "cost" in bounds):
        raise ValueError(model.no_price)
    wanted = model.architectures
    if architecture is not None:
        only = normalise_architecture(architecture)
        if only not in wanted:
            raise ValueError(f"no profile of {only}, only of {', '.join(wanted)}")
        wanted = [only]
    places = _candidates(model, wanted, workers, memory, extrapolate)
    predictions = model.predict_all(places, extrapolate)
    left_out = [a for a in wanted if needs_energy and model.quality(a) is None]
    predictions = [p for p in predictions if p.architecture not in left_out]
    if not predictions:
        raise ValueError(NO_ENERGY)
    if minimise == "cost" or "cost" in bounds:
        without = [one.cost_reason for one in predictions if one.cost is None]
        if len(without) == len(predictions):
            raise ValueError(without[0])
    predictions.sort(key=lambda p: (_objective(p, minimise), p.workers, p.memory_mb))
    ranked = tuple(p for p in predictions if _violation(p, bounds) <= 0)
    closest = reason = None
    if not ranked:
        closest = min(predictions, key=lambda p: _violation(p, bounds))
        reason = _reason(predictions, closest, bounds)
    return Recommendation(
        minimise=minimise,
        bounds=bounds,
        ranked=ranked,
        candidates=len(predictions),
        closest=closest,
        reason=reason,
        warnings=(
            *model.warnings,
            *(f"{a}: neither joules nor CPU seconds; left out" for a in left_out),
            *_warnings(ranked, minimise),
        ),
    )


def _bound(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} {value!r:.80} is not a number above 0")
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} {value!r:.80} is not a number above 0")
    return float(value)


def _candidates(
    model: PerformanceModel,
    architectures: Iterable[str],
    workers: int | Iterable[int] | None,
    memory: float | Iterable[float] | None,
    extrapolate: bool,
) -> list[tuple[int, float, str]]:
    counts = None if workers is None else _listed(workers, "workers")
    memories = None if memory is None else _listed(memory, "memory")
    found = []
    for architecture in architectures:
        for size in memories if memories is not None else model.memories(architecture):
            between = model.workers(size, architecture)
            if counts is not None:
                tried = counts
            elif between is not None:
                tried = _between(*between)
            elif extrapolate:
                tried = sorted({o.workers for o in model.observations})
            else:
                continue
            found += [
                (count, size, architecture)
                for count in tried
                if extrapolate or (between is not None and between[0] <= count <= between[1])
            ]
    if not found:
        ranges = "; ".join(
            f"{architecture} {size:g} MB: {low} to {high} workers"
            for architecture in architectures
            for size in model.memories(architecture)
            for low, high in [model.workers(size, architecture) or (0, 0)]
        )
        raise ValueError(
            f"no candidate lies between profiled configurations ({ranges}); "
            "extrapolate to consider others"
        )
    return found


def _listed(values: object, name: str) -> list[Any]:
    listed = list(values) if isinstance(values, Iterable) else [values]
    if not listed or isinstance(values, str) or any(number(one) is None for one in listed):
        raise ValueError(f"{name} {values!r:.80} is no number and no list of numbers")
    return sorted(set(listed))


def _between(low: int, high: int) -> list[int]:
    if high - low < _MOST_WORKERS:
        return list(range(low, high + 1))
    step = (high / low) ** (1 / (_MOST_WORKERS - 1))
    return sorted({round(low * step**index) for index in range(_MOST_WORKERS)})


def _objective(prediction: Prediction, minimise: str) -> float:
    band: Band | None = getattr(prediction, minimise)
    return math.inf if band is None else band.value


def _violation(prediction: Prediction, bounds: dict[str, float]) -> float:
    """By how much the worst bound is missed: log of value over bound; 0 or less: kept."""
    worst = -math.inf
    for name, bound in bounds.items():
        value = _objective(prediction, "time" if name == "latency" else name)
        worst = max(worst, math.log(value / bound) if value > 0 else -math.inf)
    return worst if bounds else 0.0


def _name(prediction: Prediction) -> str:
    plural = "" if prediction.workers == 1 else "s"
    return (
        f"{prediction.workers} worker{plural} of {prediction.memory_mb:g} MB, "
        f"{prediction.architecture}"
    )


def _reason(
    predictions: Sequence[Prediction], closest: Prediction, bounds: dict[str, float]
) -> str:
    words = {
        "latency": ("takes", "s or less", "fastest takes", "s"),
        "cost": ("costs", "USD or less", "cheapest costs", "USD"),
        "energy": ("uses", "J or less", "most frugal uses", "J"),
    }
    for name, bound in bounds.items():
        quantity = "time" if name == "latency" else name
        least = min(predictions, key=lambda p: _objective(p, quantity))
        value = _objective(least, quantity)
        if value > bound:
            verb, unit, who, short = words[name]
            return (
                f"no configuration {verb} {bound:g} {unit}: the {who} {value:.2g} {short} "
                f"({_name(least)})"
            )
    asked = " and ".join(f"{name} {bound:g}" for name, bound in bounds.items())
    return f"no configuration keeps {asked} at once: the closest is {_name(closest)}"


def _warnings(ranked: Sequence[Prediction], minimise: str) -> Iterator[str]:
    if (
        any(p.energy_quality == "modelled" for p in ranked)
        and minimise in ("energy", "edp")
        and len({p.architecture for p in ranked}) > 1
    ):
        yield (
            "joules are modelled: between architectures they differ as the power models do, "
            "not by measurement"
        )
    if ranked and not ranked[0].inside:
        yield "the best lies beyond what was profiled: profile it before you rely on it"
