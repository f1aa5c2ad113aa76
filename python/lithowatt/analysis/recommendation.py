"""The result of `lithowatt profile recommend`: as JSON can hold it, and its text made of that."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lithowatt._support.text import (
    aligned,
    counted,
    fitted,
    format_number,
    percent_more,
    three_digits,
    told_factors,
    wrapped,
)
from lithowatt.analysis._envelope import envelope
from lithowatt.analysis._observe import observe, stages_of
from lithowatt.analysis._predict import PerformanceModel
from lithowatt.analysis._prediction import Band, HeldOut, Prediction
from lithowatt.analysis._recommend import SEED, Recommendation, name_of, recommend
from lithowatt.analysis.basis import Basis
from lithowatt.analysis.plan import LEAST
from lithowatt.analysis.platforms import Price
from lithowatt.analysis.platforms._platform import DEFAULT_REGION
from lithowatt.analysis.scaling import STRONG
from lithowatt.errors import LithowattError
from lithowatt.profiles._runs import Profiles


@dataclass(frozen=True)
class Asked:
    """All that a recommendation depends on besides the files; see `recommend`.

    Attributes:
        minimise: ``energy``, ``cost``, ``edp`` or ``time``.
        bounds: ``latency`` (s), ``cost`` (USD), ``energy`` (J).
        confidence: Probability with which a mean has to keep each bound.
        workers: Only these numbers.
        memory: Only these, MB.
        architecture: Only this one.
        predict: Also what lies between profiled ones.
        extrapolate: Also what lies beyond them.
        per_worker: Each worker does the whole work.
        region: Of the prices of a provider.
        platform: Where the profiles ran, by name.
        price: Of a worker's seconds.
        basis: Which rules of lint leave repetitions out.
        check: Whether to predict what is known from the rest.
        seed: Of the resamples.
    """

    minimise: str = "energy"
    bounds: Mapping[str, float] = field(default_factory=dict)
    confidence: float = 0.95
    workers: Sequence[int] | None = None
    memory: Sequence[float] | None = None
    architecture: str | None = None
    predict: bool = False
    extrapolate: bool = False
    per_worker: bool = False
    region: str = DEFAULT_REGION
    platform: str | None = None
    price: Price | None = None
    basis: Basis = field(default_factory=Basis.of)
    check: bool = False
    seed: int = SEED

    def as_json(self) -> dict[str, Any]:
        """For the head of a result."""
        price = self.price
        return {
            "basis": self.basis.name,
            "exclude": list(self.basis.rules),
            "minimise": self.minimise,
            "bounds": dict(self.bounds),
            "confidence": self.confidence,
            "workers": None if self.workers is None else list(self.workers),
            "memory_mb": None if self.memory is None else list(self.memory),
            "architecture": self.architecture,
            "predict": self.predict or self.extrapolate,
            "extrapolate": self.extrapolate,
            "per": "worker" if self.per_worker else "run",
            "region": self.region,
            "platform": self.platform,
            "price": None
            if price is None
            else {"vcpu_hour": price.vcpu_hour, "gib_hour": price.gib_hour, "vcpus": price.vcpus},
            "seed": self.seed,
        }


def recommendation(profiles: Profiles, asked: Asked | None = None) -> dict[str, Any]:
    """The result of `lithowatt profile recommend`.

    Args:
        profiles: What was read.
        asked: What is asked for.

    Returns:
        The head of every result; of profiles of one stage its fields beside it, of several stages
        `stages`, one such object each: nothing is compared across stages.

    Raises:
        ValueError: See `recommend`. Of one of several stages it is in that one's `error`.
    """
    asked = asked or Asked()
    stages = stages_of(profiles.files)
    if len(stages) == 1:
        ((workload, stage),) = stages
        found = _stage(profiles, workload, stage, asked)
        head = envelope("recommend", profiles, asked.as_json(), found.pop("warnings"))
        return {**head, **found}
    each = []
    for (workload, stage), files in stages.items():
        try:
            each.append(_stage(replace(profiles, files=tuple(files)), workload, stage, asked))
        except (LithowattError, ValueError) as error:
            each.append({"workload": workload, "stage": stage, "error": str(error)})
    warning = {
        "code": "several-stages",
        "text": f"{len(stages)} stages, each by itself: what a stage takes says nothing of another",
        "files": [],
    }
    return {**envelope("recommend", profiles, asked.as_json(), [warning]), "stages": each}


def _stage(profiles: Profiles, workload: str, stage: str, asked: Asked) -> dict[str, Any]:
    observed = observe(
        profiles,
        asked.architecture,
        asked.region,
        asked.platform,
        asked.price,
        basis=asked.basis,
    )
    model = PerformanceModel.of_observed(observed, asked.region, asked.price)
    found = recommend(
        model,
        minimise=asked.minimise,
        latency=asked.bounds.get("latency"),
        cost=asked.bounds.get("cost"),
        energy=asked.bounds.get("energy"),
        workers=asked.workers,
        memory=asked.memory,
        architecture=asked.architecture,
        extrapolate=asked.extrapolate,
        predict=asked.predict,
        confidence=asked.confidence,
        per_worker=asked.per_worker,
        seed=asked.seed,
    )
    return {
        "workload": workload,
        "stage": stage,
        **_as_json(model, found, asked),
        "warnings": [_warning(text, profiles) for text in found.warnings],
    }


def _warning(text: str, profiles: Profiles) -> dict[str, Any]:
    files = sorted({one.name for one in profiles.files if text.startswith(f"{one.name}: ")})
    return {"code": "note", "text": text, "files": files}


def _as_json(model: PerformanceModel, found: Recommendation, asked: Asked) -> dict[str, Any]:
    report: dict[str, Any] = {
        "minimise": found.minimise,
        "bounds": dict(found.bounds),
        "confidence": found.confidence,
        "per": "worker" if asked.per_worker else "run",
        "feasible": bool(found.ranked),
        "reason": found.reason,
        "recommended": _prediction(found.recommended),
        "no_recommendation": [
            {
                "code": one.code,
                "reason": one.reason,
                "runs": one.runs,
                "configurations": [
                    dict(zip(("workers", "memory_mb", "architecture"), place, strict=True))
                    for place in one.places
                ],
            }
            for one in found.none_because
        ]
        or None,
        "tied": [_place(one) for one in found.tied],
        "conditions": dict(found.conditions),
        "best": _prediction(found.best),
        "closest": _prediction(found.closest),
        "ranked": [_prediction(one) for one in found.ranked],
        "candidates": found.candidates,
        "learned_from": len(model.observations),
        "structure": model.structure if asked.predict or asked.extrapolate else None,
        "platform": model.platform.name,
        "region": model.region,
        "priced": model.no_price is None,
    }
    if asked.check:
        checks: dict[str, Any] = {}
        for what in ("configuration", "memory"):
            try:
                checks[what] = [_held_out(one) for one in model.check(what)]
            except ValueError as error:
                checks[what] = {"reason": str(error)}
        report["held_out"] = checks
    return report


def _held_out(one: HeldOut) -> dict[str, Any]:
    return {
        "workers": one.workers,
        "memory_mb": one.memory_mb,
        "architecture": one.architecture,
        "quantity": one.quantity,
        "actual": one.actual,
        "predicted": one.predicted.value,
        "low": one.predicted.low,
        "high": one.predicted.high,
    }


def _place(one: Prediction) -> dict[str, Any]:
    return {
        "workers": one.workers,
        "memory_mb": one.memory_mb,
        "architecture": one.architecture,
        "best_probability": one.best,
    }


def _prediction(one: Prediction | None) -> dict[str, Any] | None:
    if one is None:
        return None
    without = _band(one.time_without_queue)
    if without is not None:
        without["runs"] = one.runs_without_queue
    return {
        "workers": one.workers,
        "workers_requested": list(one.requested),
        "memory_mb": one.memory_mb,
        "memory_given_mb": one.memory_given_mb,
        "vcpus": one.vcpus,
        "architecture": one.architecture,
        "source": "profiled" if one.profiled else "predicted" if one.inside else "extrapolated",
        "runs": one.runs,
        "kept_probability": one.kept,
        "best_probability": one.best,
        "tied": one.tied,
        "time_s": _band(one.time),
        "time_without_queue_s": without,
        "cpu_seconds": _band(one.cpu_seconds),
        "energy_j": _band(one.energy),
        "energy_fit_j": _band(one.energy_fit),
        "energy_quality": one.energy_quality,
        "energy_reason": one.energy_reason,
        "cost_usd": _band(one.cost),
        "cost_reason": one.cost_reason,
        "edp_js": _band(one.edp),
        "worker_time_s": _band(one.worker_time),
        "phases_s": {phase: _band(band) for phase, band in one.phases.items()},
    }


def _band(band: Band | None) -> dict[str, Any] | None:
    return None if band is None else {"value": band.value, "low": band.low, "high": band.high}


# --- text: of the fields alone ------------------------------------------------

#: Objective to the field of a prediction, its unit, and what the least of it is.
_FIELDS = {
    "energy": ("energy_fit_j", "J", "most frugal"),
    "cost": ("cost_usd", "USD", "cheapest"),
    "edp": ("edp_js", "J·s", "least energy × time"),
    "time": ("time_s", "s", "fastest"),
}

#: Wider than this a band is told as its two ends.
_WIDE = 0.3

#: Columns of a terminal.
_WIDTH = 80

#: A step of the front is shown where it is so much faster than the one before.
_FASTER = 0.8

#: The last one is shown where it is at least so much faster.
_MUCH_THE_SAME = 0.95


def lines(result: Mapping[str, Any], top: int = 5) -> Iterator[str]:
    """A result for a person, from the fields of its JSON alone.

    Args:
        result: What `recommendation` gives.
        top: How many configurations to show.
    """
    if "stages" in result:
        for one in result["stages"]:
            yield f"{one['workload'] or '-'} / {one['stage']}"
            if "error" in one:
                yield f"no recommendation: {one['error']}"
            else:
                yield from _stage_lines(one, one["warnings"], top)
            yield ""
        yield from (f"note: {one['text']}" for one in result["warnings"])
    else:
        yield from _stage_lines(result, result["warnings"], top)


def advice(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is recommended for one stage, and the conditions: label and sentence.

    The labels are `recommended`, `no recommendation`, `tie`, and those of the conditions: `bound`,
    `price`, `watts`, `architectures`, `hardware`, `edge`, `work`, `scope`.

    Args:
        found: What `recommendation` gives of one stage.
    """
    parts = (line.strip().partition(": ") for line in _advice(found))
    return [(label, text) for label, _, text in parts]


def _stage_lines(
    found: Mapping[str, Any], warnings: Iterable[Mapping[str, Any]], top: int
) -> Iterator[str]:
    if found["ranked"]:
        shown = list(found["ranked"][:top])
        chosen = found["recommended"]
        if chosen is not None and chosen not in shown:
            shown.append(chosen)
    else:
        yield found["reason"]
        yield ""
        yield "closest:"
        shown = [found["closest"]]
    yield from _table(found, shown)
    yield ""
    for line in _advice(found):
        deep = len(line) - len(line.lstrip())
        first, *rest = wrapped(line, _WIDTH, " " * (deep + 2))
        yield f"{' ' * deep}{first.strip()}"
        yield from rest
    for line in _below(found, warnings, shown[0]):
        yield from [line] if len(line) <= _WIDTH else wrapped(line, _WIDTH, "", "  ")


def _below(
    found: Mapping[str, Any], warnings: Iterable[Mapping[str, Any]], first: Mapping[str, Any]
) -> Iterator[str]:
    """What holds for all of the table."""
    chosen = found["recommended"]
    one = first if chosen is None else chosen
    if one["energy_j"] is not None and one["energy_quality"] is not None:
        low, high = one["energy_j"]["low"], one["energy_j"]["high"]
        which = "the first" if chosen is None else "what is recommended"
        yield (
            f"joules are {one['energy_quality']}; with all that is unsure, {which} uses "
            f"{three_digits(low)} to {three_digits(high)} J"
        )
    kept = f" with probability {found['confidence']:g}" if found["bounds"] else ""
    yield (
        f"{len(found['ranked'])} of {counted(found['candidates'], 'candidate')} "
        f"keep{'s' if len(found['ranked']) == 1 else ''} the bounds{kept}; "
        "bands are 95 %"
    )
    if found["region"] is not None:
        yield f"dollars are AWS Lambda's prices of {found['region']}"
    if found["structure"] is not None:
        many = counted(found["learned_from"], "configuration")
        yield f"learned from {many}: {found['structure']}"
    yield from (f"note: {one['text']}" for one in warnings)
    if "held_out" in found:
        yield from _checks(found["held_out"])


def _table(found: Mapping[str, Any], shown: Sequence[Mapping[str, Any]]) -> list[str]:
    dollars = ("USD",) if found["priced"] else ()
    rows = [("workers", "MB", "", "s", "CPU s", "J", *dollars, "J·s", "")]
    for one in shown:
        rows.append(
            (
                str(one["workers"]),
                _memory(one),
                one["architecture"],
                cell(one["time_s"]),
                cell(one["cpu_seconds"]),
                cell(one["energy_fit_j"]),
                *((cell(one["cost_usd"]),) if dollars else ()),
                cell(one["edp_js"]),
                ", ".join(_remarks(found, one)),
            )
        )
    return fitted(rows, _WIDTH, {0, 1, *range(3, len(rows[0]) - 1)}, keys=3)


def _remarks(found: Mapping[str, Any], one: Mapping[str, Any]) -> Iterator[str]:
    yield one["source"]
    if one["runs"] is not None:
        yield f"{one['runs']} run{'' if one['runs'] == 1 else 's'}"
    if one["tied"] and len(found["tied"]) > 1:
        yield "tie"
    if one["kept_probability"] is not None:
        yield f"kept {_probability(one['kept_probability'])}"
    without = one["time_without_queue_s"]
    if without is None and one["runs"] is not None:
        yield "each start queued"
    elif without is not None and without["runs"] < one["runs"]:
        yield f"{without['value']:.3g} s without queued starts ({counted(without['runs'], 'run')})"


def _probability(value: float) -> str:
    return "> 0.99" if value > 0.99 else "< 0.01" if value < 0.01 else f"{value:.2f}"


def _memory(one: Mapping[str, Any]) -> str:
    asked, given = f"{one['memory_mb']:g}", one["memory_given_mb"]
    return asked if given is None else f"{asked} ({given:g} given)"


def cell(band: Mapping[str, Any] | None) -> str:
    """A value with its band: in percent, or low to high where a side is wider than ± 30 %."""
    if band is None:
        return "unknown"
    value, low, high = band["value"], band["low"], band["high"]
    if value <= 0:
        return "0"
    wide = max(high / value - 1, 1 - low / value)
    if wide <= _WIDE:
        return f"{_short(value)} ± {max(round(wide * 100), 1)} %"
    return f"{_short(value)} ({_short(low, 2)}..{_short(high, 2)})"


def _short(value: float, digits: int = 3) -> str:
    return format_number(float(f"{value:.{digits}g}"))


def _named(one: Mapping[str, Any]) -> str:
    return name_of(one["workers"], one["memory_mb"], one["architecture"])


def _group(places: Sequence[Mapping[str, Any]]) -> str:
    """Configurations, those of one memory and architecture together."""
    together: dict[tuple[float, str], list[int]] = {}
    for one in places:
        together.setdefault((one["memory_mb"], one["architecture"]), []).append(one["workers"])
    return "; ".join(
        f"{_counts(sorted(workers))} worker{'' if workers == [1] else 's'} of {memory:g} MB, "
        f"{architecture}"
        for (memory, architecture), workers in together.items()
    )


def _counts(workers: Sequence[int]) -> str:
    """Numbers in order, three or more without a gap as a range."""
    runs: list[list[int]] = []
    for one in workers:
        if runs and one == runs[-1][-1] + 1:
            runs[-1].append(one)
        else:
            runs.append([one])
    return ", ".join(
        f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs
    )


def _advice(found: Mapping[str, Any]) -> Iterator[str]:
    if not found["ranked"]:
        return
    name, unit, least = _FIELDS[found["minimise"]]
    per = " per worker" if found["per"] == "worker" else ""
    if found["no_recommendation"]:
        for one in found["no_recommendation"]:
            yield f"no recommendation: {one['reason']}{_to_know(one)}"
    else:
        chosen = found["recommended"]
        takes = f"{three_digits(chosen['time_s']['value'])} s"
        if name != "time_s":
            takes += f", {three_digits(chosen[name]['value'])} {unit}{per}"
        yield f"recommended: {_named(chosen)}: {takes}{_modelled(found, chosen)}"
    tied, best = found["tied"], found["best"]
    if len(tied) > 1:
        chance = best["best_probability"]
        so = "" if found["no_recommendation"] else ", so the fastest of them is recommended"
        yield (
            f"  tie: {_group(tied)} differ by no more than chance may (Welch's p > 0.05){so}; the "
            f"least mean has {_named(best)}, in {_probability(chance)} of the resampled runs"
        )
    yield from (f"  {line}" for line in _conditions(found, least))


def _modelled(found: Mapping[str, Any], chosen: Mapping[str, Any]) -> str:
    """What a recommendation by joules that nobody measured rests on, and what dollars say."""
    band = chosen["energy_j"]
    if found["minimise"] not in ("energy", "edp") or chosen["energy_quality"] != "modelled":
        return ""
    if band is None or not band["value"]:
        return " (joules are modelled)"
    factors = told_factors((band["low"] / band["value"], band["high"] / band["value"]))
    text = f"; joules are modelled ({factors})"
    priced = [one for one in found["ranked"] if one["cost_usd"] is not None]
    if priced:
        cheapest = min(priced, key=lambda one: one["cost_usd"]["value"])
        text += f"; the least cost has {_named(cheapest)} (--minimise cost)"
    return text


def _to_know(one: Mapping[str, Any]) -> str:
    """What would be known with more runs, and how to plan them."""
    if one["code"] == "weak-scaling":
        return "; ask again with --per-worker"
    if one["runs"] is None:
        return ", and no number of runs would: take the fastest"
    listed = _group(one["configurations"])
    how = "interleaved in several sessions" if one["code"] == "drift" else "interleaved"
    return f", run {one['runs']} of each, {how} (lithowatt profile plan), to know: {listed}"


def _conditions(found: Mapping[str, Any], least: str) -> Iterator[str]:
    known = found["conditions"]
    yield from _bound_line(known["bound"], least)
    price, watts = known["price"], known["watts"]
    if price["break_even_price_ratio"] is not None:
        yield (
            f"price: {price['a']} costs less while its price of a GB-s is below "
            f"{price['break_even_price_ratio']:.3g}{_ends(price['ci'])} of {price['b']}'s (now "
            f"{price['price_ratio']:.2f}); {counted(price['configurations'], 'configuration')}"
        )
    if watts["break_even_watts"] is not None:
        assumed = watts["assumed"]
        of = "" if assumed is None else f" (the power model has {assumed['ratio']:.2f})"
        yield (
            f"watts: by CPU seconds, {watts['a']} takes less while its W of a busy vCPU are below "
            f"{watts['break_even_watts']:.3g}{_ends(watts['ci'])} of {watts['b']}'s{of}; "
            f"{counted(watts['configurations'], 'configuration')}"
        )
    reasons = [one["reason"] for one in (price, watts) if one.get("reason")]
    if reasons:
        both = len(reasons) == 2 and len(set(reasons)) == 1
        what = "prices and watts" if both else "watts" if price.get("reason") is None else "prices"
        yield f"architectures: no break-even of {what}: {'; '.join(dict.fromkeys(reasons))}"
    yield from _hardware_lines(known["hardware"])
    edges: dict[tuple[str, float, str], list[Mapping[str, Any]]] = {}
    for one in known["edge"]:
        edges.setdefault((one["factor"], one["value"], one["is"]), []).append(one)
    for (factor, value, end), places in edges.items():
        what = "MB"
        if factor == "workers":
            what = "worker" if value == 1 else "workers"
        where = f" ({_group(places)})"
        if factor == "workers":
            sizes = dict.fromkeys(
                f"{one['memory_mb']:g} MB, {one['architecture']}" for one in places
            )
            where = f" with {'; '.join(sizes)}"
        yield f"edge: {value:g} {what} is the {end} that was profiled{where}"
    yield _work_line(known["work"])
    yield _scope_line(known["scope"])


def _bound_line(bound: Mapping[str, Any] | None, least: str) -> Iterator[str]:
    if bound is None or not bound["steps"]:
        return
    first, *rest = bound["steps"]
    text = f"bound: {least} is {_named(first)}, if {three_digits(first['time_s'])} s is fast enough"
    last, shown = first["time_s"], 0
    for at, one in enumerate(rest):
        final = at == len(rest) - 1
        ends_tie = one["tied"] and (final or not rest[at + 1]["tied"])
        faster = one["time_s"] <= (_FASTER if not final else _MUCH_THE_SAME) * last
        if not (faster or ends_tie) or shown >= 6:
            continue
        last, shown = one["time_s"], shown + 1
        more = "" if one["more"] is None else f" ({percent_more(one['more'])})"
        text += f"; {_named(one)}{more} from {three_digits(one['time_s'])} s"
    yield text


def _hardware_lines(hardware: Mapping[str, Any]) -> Iterator[str]:
    if hardware["by_cpu"]:
        listed = "; ".join(
            f"{abs(1 - one['compute_ratio']) * 100:.0f} % "
            f"{'less' if one['compute_ratio'] < 1 else 'more'} than {one['cpu_name']}"
            for one in hardware["by_cpu"]
        )
        yield (
            f"hardware: compute time of {hardware['by_cpu'][0]['a']}: {listed}; what you get is "
            "not yours to choose"
        )
    if len(hardware["rows"]) > 1:
        total = sum(hardware["rows"].values())
        listed = ", ".join(
            f"{count / total * 100:.0f} % {name}" for name, count in hardware["rows"].items()
        )
        among = "".join(
            f"; compute on {one['cpu_name']} is {one['compute_ratio']:.2f} of that on "
            f"{one['against']}"
            for one in hardware["among"]
        )
        yield f"hardware: its calls ran on {listed}{among}"


def _ends(ci: Sequence[float] | None) -> str:
    return "" if ci is None else f" [{ci[0]:.2f}, {ci[1]:.2f}]"


def _work_line(work: Mapping[str, Any]) -> str:
    if work["kind"] is None:
        return f"work: not known whether more workers do more work: {work['reason']}"
    if work["kind"] == "one-worker":
        return "work: one worker ran, whatever was asked for"
    ci = _ends(work["ci"])
    text = f"work: {work['kind']} scaling, CPU seconds grow as workers^{work['exponent']:.2f}{ci}"
    if work["kind"] == "strong":
        return f"{text}: the same work, up to {STRONG:g}"
    return f"{text}; numbers of workers are compared per unit of work only"


def _scope_line(scope: Mapping[str, Any]) -> str:
    sessions = scope["sessions"]
    parts = [counted(scope["runs"], "run") if scope["runs"] is not None else "predicted, not run"]
    least = scope["least_runs"]
    if least is not None and least < LEAST and least != scope["runs"]:
        parts.append(f"the configuration with the fewest has {least}")
    if sessions is None:
        parts.append("in sessions that nobody recorded")
    elif sessions == 1:
        parts.append("all in one session, so nothing is known of other days")
    else:
        parts.append(f"in {sessions} sessions")
    drifting = scope["drifting"]
    if drifting:
        parts.append(f"drift in {', '.join(drifting)}")
    else:
        few = least is None or least < LEAST
        parts.append("drift not known" if few else "no drift")
    dates = scope["dates"]
    parts.append("dates unknown" if dates is None else " to ".join(dict.fromkeys(dates)))
    inputs = [f"{one} bytes" for one in scope["input_bytes"] or ()] + (scope["input_size"] or [])
    if not inputs:
        parts.append("input size unknown")
    else:
        parts.append(f"size of the input: {' and '.join(inputs[:3])}")
    return f"scope: {', '.join(parts)}"


def _checks(checks: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    yield "held out: what was profiled, predicted from the rest, in % of the actual value"
    rows = [("left out", "of", "median", "90 %", "worst", "in its band")]
    for what, found in checks.items():
        if isinstance(found, Mapping):
            yield f"{what}: {found['reason']}"
            continue
        for quantity in ("time", "cpu_seconds", "energy", "cost"):
            some = [one for one in found if one["quantity"] == quantity]
            if not some:
                continue
            errors = np.array([abs(one["predicted"] / one["actual"] - 1) * 100 for one in some])
            covered = sum(one["low"] <= one["actual"] <= one["high"] for one in some)
            rows.append(
                (
                    what,
                    quantity.replace("_", " "),
                    f"{np.median(errors):.1f}",
                    f"{np.percentile(errors, 90):.1f}",
                    f"{errors.max():.1f}",
                    f"{covered} of {len(some)}",
                )
            )
    if len(rows) > 1:
        yield from aligned(rows, right=range(2, 6))
