"""The configuration that takes the fewest joules, dollars or seconds within bounds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, overload

from lithowatt._support.architectures import normalise_architecture
from lithowatt._support.text import few
from lithowatt.analysis import _conditions as conditions_of
from lithowatt.analysis._candidates import Candidate, candidates
from lithowatt.analysis._decide import (
    TOLD_APART_P,
    best_probabilities,
    keeps,
    p_equal,
    value_of,
    violation,
)
from lithowatt.analysis._means import OBJECTIVES, values_of
from lithowatt.analysis._observe import Observation, Profile
from lithowatt.analysis._predict import NO_ENERGY, PerformanceModel
from lithowatt.analysis._prediction import Prediction
from lithowatt.analysis.basis import Basis
from lithowatt.analysis.lint import findings
from lithowatt.analysis.plan import LEAST, MOST, repetitions, repetitions_to_tell
from lithowatt.analysis.platforms import Platform, Price
from lithowatt.analysis.platforms._platform import DEFAULT_REGION
from lithowatt.profiles._runs import Profiles

#: Of the resamples of runs.
SEED = 20261128

#: A mean is worth recommending on when it is as precise as this.
PRECISION = 0.05


@dataclass(frozen=True)
class NoRecommendation:
    """Why nothing is recommended, and what would be known with more runs.

    Attributes:
        code: ``tie``, ``drift``, ``weak-scaling`` or ``few-runs``.
        reason: In one line.
        runs: How many repetitions of each of `places` would tell; ``None`` where runs do not.
        places: Of which configurations: workers, memory in MB, architecture.
    """

    code: str
    reason: str
    runs: int | None = None
    places: tuple[tuple[int, float, str], ...] = ()


@dataclass(frozen=True)
class Recommendation(Sequence[Prediction]):
    """Configurations that keep the bounds, the best first.

    A sequence of `Prediction`; empty where none keeps them.

    Attributes:
        minimise: ``energy``, ``cost``, ``edp`` or ``time``.
        bounds: Upper bounds that were asked for: ``latency`` (s), ``cost`` (USD), ``energy`` (J).
        ranked: Those whose means keep the bounds with probability `confidence`, by what was
            minimised.
        candidates: How many were considered.
        closest: Where none keeps the bounds, the one that misses them by the least.
        reason: Why none does, in one line; ``None`` where one does.
        warnings: What to know before acting on it.
        confidence: Probability with which the bounds are kept, each by itself.
        recommended: The fastest of those that cannot be told from the best; ``None`` where
            nothing keeps the bounds or `none_because` says why not.
        tied: Those that cannot be told from the best, the best first.
        none_because: Why nothing is recommended, in order of weight.
        conditions: Under which it holds: numbers from the data, see the JSON of
            `lithowatt profile recommend`.
    """

    minimise: str
    bounds: dict[str, float]
    ranked: tuple[Prediction, ...]
    candidates: int
    closest: Prediction | None
    reason: str | None
    warnings: tuple[str, ...]
    confidence: float = 0.95
    recommended: Prediction | None = None
    tied: tuple[Prediction, ...] = ()
    none_because: tuple[NoRecommendation, ...] = ()
    conditions: Mapping[str, Any] = field(default_factory=dict)

    @property
    def best(self) -> Prediction | None:
        """The one of the least mean, ``None`` where none keeps the bounds."""
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
    profiles: Profile | Iterable[Profile] | Profiles | PerformanceModel,
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
    *,
    predict: bool = False,
    confidence: float = 0.95,
    per_worker: bool = False,
    group: str | None = None,
    basis: Basis | None = None,
    seed: int = SEED,
) -> Recommendation:
    """Ranks the configurations of a stage by energy, cost, energy × time, or time.

    What is compared are the configurations that ran, by the workers that really ran, each with the
    mean of all its runs. Those that Welch's test cannot tell from the best (p > 0.05) tie with it;
    the fastest of them is recommended, with the conditions under which that holds.

    Args:
        profiles: Profiles of one stage, paths or read; or a `PerformanceModel` of them.
        minimise: ``energy`` (J), ``cost`` (USD), ``edp`` (J·s) or ``time`` (s).
        latency: Most seconds that the stage may take.
        cost: Most dollars that it may cost.
        energy: Most joules that it may use.
        workers: Numbers of workers to consider; all that were profiled by default.
        memory: Memories to consider, MB; the profiled ones by default.
        architecture: Only this one; all profiled ones by default. Also that of profiles that do
            not say theirs.
        extrapolate: Whether to predict ``workers`` and ``memory`` beyond the profiled ones, too.
        region: Of the prices of a provider.
        platform: Where the profiles ran; they say it by default, see `PerformanceModel`.
        price: What a worker's seconds cost on a platform whose prices are in no table.
        predict: Whether to consider what was not profiled but lies between profiled ones.
        confidence: Probability with which a mean has to keep each bound.
        per_worker: Each worker does the whole work: joules and dollars count per worker.
        group: How a path says its workload and stage, see `lithowatt profile --group`.
        basis: Which rules of lint leave repetitions out.
        seed: Of the resamples for the probability to be the best.

    Raises:
        UnreadableFileError, MalformedValueError: From reading the profiles.
        ValueError: For profiles of several workloads or stages, an unknown objective, a bound that
            is no positive number, an architecture that was not profiled, or no candidate.

    Example:
        >>> from lithowatt.profiles import recommend
        >>> def stage(n):  # six runs on n workers
        ...     column = lambda first, step: [[first + step * run] * n for run in range(6)]
        ...     return {"compute": column(40 / n, 0.1), "cpu_time": column(20 / n, 0.05),
        ...         "worker_time_execution": column(40 / n + 0.5, 0.1), "read": column(0.1, 0.01),
        ...         "write": column(0.1, 0.01), "cold_start": column(1.0, 0.1),
        ...         "cpu_architecture": [["arm64"] * n] * 6}
        >>> found = recommend({(1, 1024, n): stage(n) for n in (2, 4, 8, 16)}, latency=12.5)
        >>> found.recommended.workers, found.best.workers, len(found)
        (4, 4, 3)
        >>> print(recommend({(1, 1024, n): stage(n) for n in (2, 4, 8)}, latency=1.0).reason)
        no configuration takes 1 s or less: the fastest takes 6.8 s (8 workers of 1024 MB, arm64)
    """
    if minimise not in OBJECTIVES:
        raise ValueError(f"minimise {minimise!r:.80} is not one of {', '.join(OBJECTIVES)}")
    bounds = {
        name: _bound(name, value)
        for name, value in (("latency", latency), ("cost", cost), ("energy", energy))
        if value is not None
    }
    if isinstance(confidence, bool) or not 0 < _bound("confidence", confidence) < 1:
        raise ValueError(f"confidence {confidence!r:.80} is not a number between 0 and 1")
    model = profiles
    if not isinstance(model, PerformanceModel):
        model = PerformanceModel(
            model, architecture, region, platform, price, group=group, basis=basis
        )
    asked = {"time" if name == "latency" else name: bound for name, bound in bounds.items()}
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
    every = candidates(model, wanted, workers, memory, predict, extrapolate)
    left_out = [a for a in wanted if needs_energy and model.quality(a) is None]
    every = [one for one in every if one.place[2] not in left_out]
    if not every:
        raise ValueError(NO_ENERGY)
    if minimise == "cost" or "cost" in bounds:
        reasons = [one.prediction.cost_reason for one in every if one.prediction.cost is None]
        if len(reasons) == len(every):
            raise ValueError(reasons[0])
    told = []
    lacking: dict[str, int] = {}
    for one in every:
        missing = [
            name
            for name in dict.fromkeys((minimise, *asked))
            if not math.isfinite(value_of(one, name))
        ]
        if missing:
            what = "joules of its own" if missing[0] in ("energy", "edp") else missing[0]
            lacking[what] = lacking.get(what, 0) + 1
        else:
            told.append(one)
    if not told:
        raise ValueError(NO_ENERGY if needs_energy else f"no candidate has {minimise}")
    return _decided(
        model,
        told,
        minimise,
        bounds,
        confidence,
        per_worker,
        seed,
        [
            *model.warnings,
            *(f"{a}: neither joules nor CPU seconds; left out" for a in left_out),
            *(
                f"{count} configuration{' has' if count == 1 else 's have'} no {what}; left out"
                for what, count in lacking.items()
            ),
        ],
    )


def _bound(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} {value!r:.80} is not a number above 0")
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} {value!r:.80} is not a number above 0")
    return float(value)


def _per_worker(one: Candidate) -> Candidate:
    """Joules and dollars of a unit of work, of which each worker does one."""
    count = one.prediction.workers
    shown = one.prediction
    parts = {}
    for name in ("energy", "energy_fit", "cost", "edp"):
        band = getattr(shown, name)
        if band is not None:
            parts[name] = type(band)(*(end / count for end in band))
    observation = one.observation
    if observation is not None:
        runs = {
            name: values / (count if name in ("energy", "energy_modelled", "cost") else 1)
            for name, values in observation.runs.items()
        }
        observation = replace(observation, runs=runs)
    return replace(one, prediction=replace(shown, **parts), observation=observation)


# --- deciding -----------------------------------------------------------------


def _decided(
    model: PerformanceModel,
    every: Sequence[Candidate],
    minimise: str,
    bounds: dict[str, float],
    confidence: float,
    per_worker: bool,
    seed: int,
    warnings: Sequence[str],
) -> Recommendation:
    asked = {"time" if name == "latency" else name: bound for name, bound in bounds.items()}
    # Bounds are of a run, whatever is compared.
    sure = {one.place: _kept(one, asked) for one in every}
    missed = {one.place: (max(violation(one, asked), 0.0), -sure[one.place]) for one in every}
    reason = _reason(every, missed, bounds, sure, confidence)
    if per_worker:
        every = [_per_worker(one) for one in every]
    every = sorted(every, key=lambda one: (value_of(one, minimise), *one.place))
    ranked = [one for one in every if not asked or sure[one.place] >= confidence]
    tied: list[Candidate] = []
    if ranked:
        best = ranked[0]
        tied = [one for one in ranked if one is best or p_equal(one, best, minimise) > TOLD_APART_P]
    chances = best_probabilities(ranked, minimise, seed)
    chance = {one.place: value for one, value in zip(ranked, chances, strict=True)}
    shown = {
        one.place: replace(
            one.prediction,
            kept=sure[one.place] if asked else None,
            best=chance.get(one.place),
            tied=one in tied,
        )
        for one in every
    }
    chosen = _chosen(tied, minimise)
    drifting = _drifting(model)
    because = tuple(
        _unmet(model, every, ranked, tied, chosen, minimise, drifting, per_worker)
        if chosen is not None
        else ()
    )
    closest = None if ranked else shown[min(missed, key=lambda place: (missed[place], place))]
    return Recommendation(
        minimise=minimise,
        bounds=bounds,
        ranked=tuple(shown[one.place] for one in ranked),
        candidates=len(every),
        closest=closest,
        reason=None if ranked else reason,
        warnings=(*warnings, *_warnings(ranked, minimise)),
        confidence=confidence,
        recommended=None if chosen is None or because else shown[chosen.place],
        tied=tuple(shown[one.place] for one in tied),
        none_because=because,
        conditions=_conditions(model, ranked, tied, chosen, minimise, drifting, per_worker),
    )


def _kept(one: Candidate, asked: Mapping[str, float]) -> float:
    """Probability of the bound that is kept least surely."""
    return min((keeps(one, name, bound) for name, bound in asked.items()), default=1.0)


def _chosen(tied: Sequence[Candidate], minimise: str) -> Candidate | None:
    """The fastest of those that nothing tells apart.

    Of those that ran, where there are any: then also nothing tells it from the best of these, which
    may be surer than a prediction that is better still.
    """
    ran = [one for one in tied if one.observation is not None]
    among = [one for one in ran if p_equal(one, ran[0], minimise) > TOLD_APART_P or one is ran[0]]
    return min(among or tied, key=lambda one: (conditions_of.time_of(one), one.place), default=None)


def _drifting(model: PerformanceModel) -> dict[str, dict[str, Any]]:
    """Files whose configurations differ from themselves, by lint's rule."""
    if model.observed is None or not model.observed.profiles.files:
        return {}
    found = findings(model.observed.profiles, ["drifting-repetitions"])
    return {one.file: dict(one.evidence) for one in found}


# --- what has to be met -------------------------------------------------------


def _unmet(
    model: PerformanceModel,
    every: Sequence[Candidate],
    ranked: Sequence[Candidate],
    tied: Sequence[Candidate],
    chosen: Candidate,
    minimise: str,
    drifting: Mapping[str, Any],
    per_worker: bool,
) -> Iterator[NoRecommendation]:
    """Why nothing can be recommended yet."""
    ran = [one for one in tied if one.observation is not None]
    few = [one for one in ran if _runs(one) < LEAST]
    if few or not ran:
        known = few or [chosen]
        wanted = max(LEAST, *(_wanted(one, minimise) for one in known))
        yield NoRecommendation(
            "few-runs",
            f"{_names(few)} ran fewer than {LEAST} times" if few else "nothing of it was profiled",
            wanted,
            tuple(one.place for one in known),
        )
    if len(tied) == len(every) > 1:
        farthest = max(tied, key=lambda one: value_of(one, minimise))
        yield NoRecommendation(
            "tie",
            f"nothing tells the {len(tied)} candidates apart",
            _to_tell(tied[0], farthest, minimise),
            tuple(one.place for one in tied),
        )
    moved = [one for one in ranked if _moves(one, tied[0], minimise, drifting)]
    if moved:
        files = sorted({name for one in moved for name in _files(one.observation)} & set(drifting))
        yield NoRecommendation(
            "drift",
            f"configurations differ from themselves, first half of the repetitions against the "
            f"second, in {', '.join(files)}",
            max(LEAST, *(_wanted(one, minimise) for one in moved)),
            tuple(one.place for one in moved),
        )
    work = conditions_of.work(model.observations, chosen.observation)
    differ = len({one.place[0] for one in ranked}) > 1
    if work["kind"] in ("weak", "mixed") and differ and not per_worker:
        yield NoRecommendation(
            "weak-scaling",
            f"more workers do more work (CPU seconds grow as workers^{work['exponent']:.2f}): "
            "numbers of workers are compared per unit of work only",
        )


def _runs(one: Candidate) -> int:
    return 0 if one.observation is None else one.observation.repetitions


def _wanted(one: Candidate, minimise: str) -> int:
    """Repetitions that make a mean precise enough."""
    if one.observation is None:
        cv, _ = one.scatter[minimise]
        return repetitions(cv, PRECISION)
    sample, _ = one.sample(minimise)
    if not sample.mean > 0:
        return LEAST
    return min(repetitions(max(sample.sd, 0.0) / sample.mean, PRECISION), MOST)


def _to_tell(best: Candidate, farthest: Candidate, minimise: str) -> int | None:
    """Repetitions that tell the best from the least good, if they differ as they seem to."""
    if best.observation is None or farthest.observation is None:
        return None
    needed = repetitions_to_tell(best.sample(minimise)[0], farthest.sample(minimise)[0])
    return None if needed is None or needed >= MOST else max(needed, LEAST)


def _files(observation: Observation | None) -> set[str]:
    return set() if observation is None else {p.selected.file.name for p in observation.parts}


def _moves(one: Candidate, best: Candidate, minimise: str, drifting: Mapping[str, Any]) -> bool:
    """Whether a drifting candidate is, or in half of its runs would be, as good as the best."""
    if one.observation is None or not _files(one.observation) & set(drifting):
        return False
    if one is best:
        return True
    values = values_of(one.observation, minimise)
    half = len(values) // 2
    if not half:
        return False
    least = min(float(values[:half].mean()), float(values[half:].mean()))
    sample, _ = best.sample(minimise) if len(best.values(minimise)) else (None, 0)
    value = value_of(best, minimise)
    high = value if sample is None else value + 2 * math.sqrt(max(sample.variance_of_mean, 0.0))
    return least <= high


# --- conditions ---------------------------------------------------------------


def _conditions(
    model: PerformanceModel,
    ranked: Sequence[Candidate],
    tied: Sequence[Candidate],
    chosen: Candidate | None,
    minimise: str,
    drifting: Mapping[str, Any],
    per_worker: bool,
) -> dict[str, Any]:
    if chosen is None:
        return {}
    observations = model.observations
    observation = _of(model, chosen)
    files = [] if model.observed is None else list(model.observed.profiles.files)
    work = conditions_of.work(observations, observation)
    return {
        "bound": conditions_of.bound(ranked, minimise, ranked[0], tied),
        "price": conditions_of.price(observations, model.region),
        "watts": conditions_of.watts(observations, model.platform),
        "hardware": conditions_of.hardware(observations, observation),
        "edge": conditions_of.edge(tied, observations),
        "work": {**work, "per": "worker" if per_worker else "run"},
        "scope": conditions_of.scope(
            observations,
            observation,
            [one for one in (_of(model, each) for each in tied) if one is not None],
            files,
            drifting,
        ),
    }


def _of(model: PerformanceModel, candidate: Candidate) -> Observation | None:
    """The runs of a candidate as they are, not per worker."""
    if candidate.observation is None:
        return None
    return next(one for one in model.observations if one.place == candidate.place)


# --- words --------------------------------------------------------------------


def name_of(workers: int, memory_mb: float, architecture: str) -> str:
    """A configuration in words."""
    plural = "" if workers == 1 else "s"
    return f"{workers} worker{plural} of {memory_mb:g} MB, {architecture}"


def _names(some: Sequence[Candidate]) -> str:
    return few([name_of(*one.place) for one in some], between="; ")


def _reason(
    every: Sequence[Candidate],
    missed: Mapping[tuple[int, float, str], tuple[float, float]],
    bounds: Mapping[str, float],
    sure: Mapping[tuple[int, float, str], float],
    confidence: float,
) -> str:
    """Why no candidate keeps the bounds, if none does."""
    words = {
        "latency": ("takes", "s or less", "fastest takes", "s"),
        "cost": ("costs", "USD or less", "cheapest costs", "USD"),
        "energy": ("uses", "J or less", "most frugal uses", "J"),
    }
    for name, bound in bounds.items():
        quantity = "time" if name == "latency" else name
        least = min(every, key=lambda one: value_of(one, quantity))
        value = value_of(least, quantity)
        verb, unit, who, short = words[name]
        if value > bound:
            return (
                f"no configuration {verb} {bound:g} {unit}: the {who} {value:.2g} {short} "
                f"({name_of(*least.place)})"
            )
        likely = max(keeps(one, quantity, bound) for one in every)
        if likely < confidence:
            return (
                f"no configuration {verb} {bound:g} {unit} with probability {confidence:g}: the "
                f"{who} {value:.3g} {short} ({name_of(*least.place)}), which keeps it with "
                f"probability {likely:.2g}"
            )
    asked = " and ".join(f"{name} {bound:g}" for name, bound in bounds.items())
    place = min(missed, key=lambda one: (missed[one], one))
    return (
        f"no configuration keeps {asked} at once"
        + (f" with probability {confidence:g} each" if sure[place] > 0.01 else "")
        + f": the closest is {name_of(*place)}"
    )


def _warnings(ranked: Sequence[Candidate], minimise: str) -> Iterator[str]:
    shown = [one.prediction for one in ranked]
    if (
        any(one.energy_quality == "modelled" for one in shown)
        and minimise in ("energy", "edp")
        and len({one.architecture for one in shown}) > 1
    ):
        yield (
            "joules are modelled: between architectures they differ as the power models do, "
            "not by measurement"
        )
    if shown and not shown[0].inside:
        yield "the best lies beyond what was profiled: profile it before you rely on it"
