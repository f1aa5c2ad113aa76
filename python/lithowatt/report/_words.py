"""The sentences of a report: each is computed from the results, and from nothing else.

For each stage five questions are answered, in this order: which configuration, how sure, what
would change it, was a joule measured, what is wrong with the data. Other data give other words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lithowatt._support.text import counted, few, percent, percent_more, three_digits
from lithowatt.analysis.recommendation import advice

#: How a platform is called.
PLATFORMS = {
    "aws_lambda": "AWS Lambda",
    "localhost": "localhost",
    "k8s": "Kubernetes",
    "kubernetes": "Kubernetes",
    "server": "a server",
}

#: A quantity of the results, as a sentence calls it.
NAMES = {
    "compute_s": "compute time",
    "worker_time_s": "worker time",
    "time_s": "time of the stage",
    "worker_seconds_s": "worker seconds",
    "cpu_seconds_s": "CPU seconds",
    "cost_usd": "cost",
    "energy_j": "energy",
}

#: Those that the main results tell.
_TOLD = ("compute_s", "time_s", "cost_usd", "energy_j")


@dataclass(frozen=True)
class Answer:
    """One of the questions.

    Attributes:
        question: What is asked.
        verdict: The answer in one sentence.
        details: What it rests on, a sentence each.
        good: `False` where a reader has to be careful.
    """

    question: str
    verdict: str
    details: tuple[str, ...] = ()
    good: bool = True


@dataclass(frozen=True)
class StageWords:
    """What a report says of one stage.

    Attributes:
        key: Workload and stage.
        name: Its name for people.
        counts: Configurations, runs and calls.
        answers: The five questions.
        results: Comparisons and scaling, a sentence each.
    """

    key: tuple[str, str]
    name: str
    counts: str
    answers: tuple[Answer, ...]
    results: tuple[str, ...]


@dataclass(frozen=True)
class Words:
    """What a report says first.

    Attributes:
        title: The heading.
        summary: What was read.
        energy: Whether joules were measured.
        problems: What is wrong with the data, a sentence each.
        stages: One for each stage.
        claims: What became of printed values, where some were to be checked.
    """

    title: str
    summary: str
    energy: str
    problems: tuple[str, ...]
    stages: tuple[StageWords, ...]
    claims: str | None = None


def words(found: Mapping[str, Any], title: str | None = None) -> Words:
    """All that is said before the plots.

    Args:
        found: The results, as `Results.as_json` gives them.
        title: The heading; by default the stages and where they ran.
    """
    rows: Sequence[Mapping[str, Any]] = found["stats"]["configurations"]
    recommend = found["recommend"]
    recommended = list(recommend.get("stages", [recommend]))
    stages = []
    for group in found["stages"]:
        key, files = (group["workload"], group["stage"]), set(group["files"])
        # A file can hold several stages, and one without a workload belongs to its only one.
        some = [row for row in rows if row["file"] in files and row["stage"] == group["stage"]]
        if some:
            stages.append(_stage(found, group, some, _of(recommended, key)))
    calls = sum(group["calls"] for group in found["stages"])
    return Words(
        title=title or _title(found["stages"]),
        summary=f"{_counts(rows, calls)}, from {counted(len(found['inputs']), 'file')}.",
        energy=_energy(rows),
        problems=tuple(_problems(found)),
        stages=tuple(stages),
        claims=_claims(found.get("claims")),
    )


def _claims(claims: Mapping[str, Any] | None) -> str | None:
    """How many printed values have each verdict."""
    if claims is None:
        return None
    total = sum(claims["summary"].values())
    parts = ", ".join(f"{verdict}: {many}" for verdict, many in claims["summary"].items())
    file = claims["settings"]["claims"]["file"]
    return f"{counted(total, 'printed value')} of {file}, computed again: {parts}."


def _of(recommended: Iterable[Mapping[str, Any]], key: tuple[str, str]) -> Mapping[str, Any] | None:
    return next((one for one in recommended if (one["workload"], one["stage"]) == key), None)


def name_of_stage(key: tuple[str, str]) -> str:
    """`workload / stage`, or the one that there is.

    >>> name_of_stage(("titanic", "stage")), name_of_stage(("", "train"))
    ('titanic / stage', 'train')
    """
    return " / ".join(part for part in key if part) or "stage"


def _title(groups: Sequence[Mapping[str, Any]]) -> str:
    platforms = dict.fromkeys(
        PLATFORMS.get(one, one) for group in groups for one in group["platforms"]
    )
    what = few([name_of_stage((one["workload"], one["stage"])) for one in groups])
    what = what or "No configuration"
    return f"{what} · {' and '.join(platforms)}" if platforms else what


def _counts(rows: Sequence[Mapping[str, Any]], calls: int) -> str:
    runs = sum(row["repetitions"]["used"] for row in rows)
    left = sum(row["repetitions"]["found"] - row["repetitions"]["used"] for row in rows)
    out = f" ({left:,} more left out)" if left else " (none left out)"
    text = f"{counted(len(rows), 'configuration')}, {counted(runs, 'run')}{out}"
    return f"{text}, {counted(calls, 'worker call')}"


# --- energy -------------------------------------------------------------------


def _qualities(rows: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """How many configurations have joules of which quality; `none` of those without."""
    found: Counter[str] = Counter()
    for row in rows:
        metric = row["metrics"]["energy_j"]
        found["none" if metric is None or not metric["n"] else metric["quality"]] += 1
    return found


def _energy(rows: Sequence[Mapping[str, Any]]) -> str:
    """In one sentence."""
    qualities = _qualities(rows)
    total = sum(qualities.values())
    band = _band_of(rows)
    if qualities["none"] == total:
        return f"No joule is known: {_why_none(rows)}."
    if qualities["modelled"] + qualities["none"] == total:
        rest = f"; {counted(qualities['none'], 'configuration')} without" * bool(qualities["none"])
        return f"No joule was measured: energy is modelled{band}{rest}."
    known = {name: many for name, many in qualities.items() if name != "none"}
    parts = ", ".join(f"{name} in {many}" for name, many in sorted(known.items()))
    if qualities["none"]:
        parts += f", unknown in {qualities['none']}"
    return f"Energy of {counted(total, 'configuration')}: {parts}{band}."


def _band_of(rows: Iterable[Mapping[str, Any]]) -> str:
    """How wide the joules' own 95 % bands are, as factors; of the widest."""
    low, high = 1.0, 1.0
    for row in rows:
        metric = row["metrics"]["energy_j"]
        band = None if metric is None else metric.get("band")
        if band is not None and metric["mean"]:
            low, high = min(low, band[0] / metric["mean"]), max(high, band[1] / metric["mean"])
    return "" if low == high else f" (widest 95 % band: ×{low:.2g} to ×{high:.2g})"


def _why_none(rows: Iterable[Mapping[str, Any]]) -> str:
    reasons = {row["reasons"].get("energy_j") for row in rows} - {None}
    return few(sorted(reasons), 2, "; ") if reasons else "no repetition counts"


# --- data ---------------------------------------------------------------------

#: Rules of lint that hold for all of a file's data, in the order in which a reader needs them.
_ORDER = {"error": 0, "warning": 1}


def _rules(
    found: Mapping[str, Any], files: set[str] | None = None
) -> list[tuple[str, str, list[Mapping[str, Any]]]]:
    """Severity, rule and findings of lint, errors and rare ones first."""
    by_rule: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for one in found["lint"]["findings"]:
        if files is None or one["file"] in files or _holds(one["file"], files):
            by_rule.setdefault((one["severity"], one["rule"]), []).append(one)
    return sorted(
        ((severity, rule, some) for (severity, rule), some in by_rule.items()),
        key=lambda one: (_ORDER.get(one[0], 2), _alarm(one[1]), len(one[2]), one[1]),
    )


def _holds(folder: str, files: Iterable[str]) -> bool:
    return any(name.startswith(f"{folder}/") for name in files)


#: What makes intervals or differences wrong comes before what makes a column useless.
_GRAVE = ("drifting-repetitions", "mixed-hardware", "input-changed", "few-repetitions")


#: What times may lack or hold that was not the work.
_DOUBTFUL = ("monitoring-overhead", "stalled-worker", "queued-start", "missing-metadata")

#: What makes intervals or differences wrong, of the results' warnings.
_GRAVE_CODES = frozenset(
    {
        "drift",
        "cpu-strata",
        "mixed-hardware",
        "mixed-architectures",
        "input-changed",
        "unlike",
        "unlike-energy",
        "machine-energy",
    }
)


def _alarm(rule: str) -> int:
    return 0 if rule in _GRAVE else 1 if rule in _DOUBTFUL else 2


def _where(some: Sequence[Mapping[str, Any]]) -> str:
    files = counted(len({one["file"] for one in some}), "file")
    configurations = {
        (one["file"], one["configuration"]) for one in some if one["configuration"] is not None
    }
    return (
        f"{counted(len(configurations), 'configuration')} in {files}" if configurations else files
    )


def _rule_line(severity: str, rule: str, some: Sequence[Mapping[str, Any]]) -> str:
    excluded = ", left out" if any(one["excludes"] for one in some) else ""
    first = some[0]["message"]
    example = first if len(some) == 1 else f"for example: {first}"
    error = "error: " if severity == "error" else ""
    return f"{error}{rule.replace('-', ' ')} ({_where(some)}{excluded}): {example}"


def _problems(found: Mapping[str, Any]) -> Iterator[str]:
    """The warnings of all results, then what lint found."""
    grave = sorted(found["warnings"], key=lambda one: one["code"] not in _GRAVE_CODES)
    yield from (_sentence(one["text"]) for one in grave)
    for severity, rule, some in _rules(found):
        if severity == "error":
            yield _sentence(_rule_line(severity, rule, some))


def _sentence(text: str) -> str:
    """First letter upper-case, with a full stop."""
    first = text.split(" ", 1)[0]
    if first.isalpha():  # arm64 and TDP are names
        text = f"{text[:1].upper()}{text[1:]}"
    return text if text.endswith((".", "!", "?")) else f"{text}."


# --- a stage ------------------------------------------------------------------


def _stage(
    found: Mapping[str, Any],
    group: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    recommended: Mapping[str, Any] | None,
) -> StageWords:
    key, files = (group["workload"], group["stage"]), set(group["files"])
    placed = bool(group["platforms"])
    said = [] if recommended is None or "error" in recommended else advice(recommended)
    return StageWords(
        key=key,
        name=name_of_stage(key),
        counts=_counts(rows, group["calls"]),
        answers=(
            _which(recommended, said, rows, placed),
            _how_sure(recommended, said, rows),
            _what_changes(recommended, said),
            _measured(recommended if placed else None, rows),
            _wrong(found, files),
        ),
        results=tuple(_results(found, key, files)),
    )


def _labelled(said: Iterable[tuple[str, str]], *labels: str) -> tuple[str, ...]:
    return tuple(_sentence(text) for label, text in said if label in labels)


def _which(
    recommended: Mapping[str, Any] | None,
    said: Sequence[tuple[str, str]],
    rows: Sequence[Mapping[str, Any]],
    placed: bool,
) -> Answer:
    question = "Which configuration?"
    if recommended is None or "error" in recommended:
        why = "nothing was computed" if recommended is None else recommended["error"]
        return Answer(question, f"No recommendation: {why}.", (), False)
    details = (*_labelled(said, "tie"), *_in_no_phase(recommended, rows))
    if not placed:
        details = (*details, "Nothing says where it ran: no dollars and no joules are told.")
    if not recommended["ranked"]:
        return Answer(question, _sentence(recommended["reason"]), details, False)
    if recommended["no_recommendation"]:
        first, *rest = [text for label, text in said if label == "no recommendation"]
        verdict = _sentence(f"No recommendation: {first}")
        return Answer(question, verdict, (*map(_sentence, rest), *details), False)
    chosen = recommended["recommended"]
    workers = counted(chosen["workers"], "worker")
    least = {"energy": "energy", "cost": "cost", "edp": "energy × time", "time": "time"}
    what = least[recommended["minimise"]]
    text = f"{workers} of {chosen['memory_mb']:g} MB, {chosen['architecture']}"
    of = f"the least {what}"
    best, field = recommended["best"], _VALUE[recommended["minimise"]]
    if len(recommended["tied"]) > 1 and best is not None and best[field] is not None:
        more = chosen[field]["value"] / best[field]["value"] - 1
        workers = counted(best["workers"], "worker")
        least_mean = f"{workers} of {best['memory_mb']:g} MB, {best['architecture']}"
        of = f"{percent(more)} more {what} than the least mean ({least_mean}"
        of += (
            f", {three_digits(best['time_s']['value'])} s), which these runs do not show to be real"
        )
        if more <= 0:
            of = f"the least {what}, tied with {len(recommended['tied']) - 1} others"
    return Answer(question, f"Use {text}: {_takes(chosen, placed)}; {of}.", details)


#: What is minimised, to its field of a prediction.
_VALUE = {"energy": "energy_fit_j", "cost": "cost_usd", "edp": "edp_js", "time": "time_s"}


def _rows_of(
    chosen: Mapping[str, Any] | None, rows: Iterable[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """The configurations that a recommendation is made of."""
    if chosen is None:
        return []
    return [
        row
        for row in rows
        if (row["memory_mb"], row["architecture"]) == (chosen["memory_mb"], chosen["architecture"])
        and row["workers_requested"] in chosen["workers_requested"]
    ]


def _in_no_phase(
    recommended: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> tuple[str, ...]:
    """What the time of the stage leaves out, where that is much."""
    for row in _rows_of(recommended["recommended"] or recommended["best"], rows):
        means = [
            (row["metrics"][name] or {}).get("mean")
            for name in ("worker_time_s", "read_s", "compute_s", "write_s")
        ]
        whole, *phases = [one for one in means if one is not None] or [0.0]
        if len(phases) < 3:
            continue
        other = whole - sum(phases)
        if other > 0.05 * whole:
            return (
                "The time of the stage is from asking for the workers to the end of the last "
                f"write. It leaves out {three_digits(other)} s of each worker that are in no "
                "phase; they are billed, and the answer may come so much later.",
            )
    return ()


def _takes(chosen: Mapping[str, Any], placed: bool) -> str:
    """Seconds, dollars and joules of a run, with their intervals.

    Args:
        chosen: A prediction of the recommendation.
        placed: Whether the profiles say where they ran; else prices and watts are guessed.
    """
    parts = [f"{_band(chosen['time_s'])} s"]
    if not placed:
        return parts[0]
    if chosen["cost_usd"] is not None:
        scaled = {name: value * 1000 for name, value in chosen["cost_usd"].items()}
        parts.append(f"{_band(scaled)} USD per 1,000 runs")
    if chosen["energy_j"] is not None and chosen["energy_quality"] is not None:
        # With all that is unsure: the scatter of runs alone would look like knowledge of joules.
        band = chosen["energy_j"]
        parts.append(
            f"{three_digits(band['value'])} J ({chosen['energy_quality']}, "
            f"{three_digits(band['low'])} to {three_digits(band['high'])})"
        )
    return ", ".join(parts)


def _band(band: Mapping[str, float]) -> str:
    return interval(band["value"], (band["low"], band["high"]))


def interval(value: float, ends: Sequence[float]) -> str:
    """A value of three digits with its interval, to the same decimal where that says enough.

    >>> interval(53.63, (52.98, 54.28)), interval(453.4, (188.3, 1102.9))
    ('53.6 [53.0, 54.3]', '453 [188, 1103]')
    """
    text = three_digits(value)
    decimals = len(text.partition(".")[2])
    if "e" in text or not 1e-3 <= abs(value) < 1e6 or (value and "." not in text and value < 100):
        return f"{text} [{three_digits(ends[0])}, {three_digits(ends[1])}]"
    return f"{text} [{ends[0]:.{decimals}f}, {ends[1]:.{decimals}f}]"


def _how_sure(
    recommended: Mapping[str, Any] | None,
    said: Sequence[tuple[str, str]],
    rows: Sequence[Mapping[str, Any]],
) -> Answer:
    question = "How sure is that?"
    used = [row["repetitions"]["used"] for row in rows]
    least, most = min(used), max(used)
    between = f"{least}" if least == most else f"{least} to {most}"
    runs = "run" if most == 1 else "runs"
    details = [
        f"Each configuration has {between} {runs}; intervals are 95 %, by Student's t over runs.",
        *(_sentence(f"what is recommended: {text}") for label, text in said if label == "scope"),
        *_whom_drift_hurts(recommended, rows),
    ]
    if recommended is None or "error" in recommended or not recommended["ranked"]:
        return Answer(question, "Not at all: nothing is recommended.", tuple(details), False)
    scope = recommended["conditions"]["scope"]
    tied, best = recommended["tied"], recommended["best"]
    if recommended["no_recommendation"]:
        verdict = "Not sure enough to recommend one."
    elif len(tied) > 1:
        chance = _chance(best["best_probability"])
        verdict = (
            f"{len(tied)} of {counted(recommended['candidates'], 'configuration')} are tied: these "
            "runs do not show their differences to be more than chance. The least mean has "
            f"{counted(best['workers'], 'worker')} of {best['memory_mb']:g} MB, "
            f"{best['architecture']} (in {chance} of the resampled runs); of those tied the "
            "fastest is recommended."
        )
    else:
        chance = _chance(best["best_probability"])
        verdict = f"It has the least mean with probability {chance} within these runs."
    if scope["sessions"] is None:
        verdict += " When they ran was not recorded, so another day may differ."
    elif scope["sessions"] == 1:
        verdict += " They ran in one session: another day may differ."
    good = not recommended["no_recommendation"] and not scope["drifting"]
    return Answer(question, verdict, tuple(details), good and (scope["sessions"] or 0) > 1)


#: A step of the front is told where it takes at most this part of the time of the one before.
_FASTER = 0.8


def _whom_drift_hurts(
    recommended: Mapping[str, Any] | None, rows: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    """Whether what is recommended ran while the platform changed."""
    if recommended is None or "error" in recommended:
        return
    drifting = set(recommended["conditions"]["scope"]["drifting"])
    if not drifting:
        return
    mine = {row["file"] for row in _rows_of(recommended["recommended"], rows)}
    if mine & drifting:
        yield "What is recommended is in a file that drifts: its interval is too narrow."
    else:
        yield (
            "What is recommended is in no file that drifts; ratios to configurations in such "
            "files are less sure than their intervals."
        )


def _chance(value: float) -> str:
    return "over 0.99" if value > 0.99 else "under 0.01" if value < 0.01 else f"{value:.2f}"


def _what_changes(recommended: Mapping[str, Any] | None, said: Sequence[tuple[str, str]]) -> Answer:
    question = "What would change it?"
    told = dict(said)
    labels = ("price", "watts", "hardware", "edge", "work", "architectures")
    details = _labelled(said, *labels)
    bound = told.get("bound")
    if recommended is None or (bound is None and not details):
        return Answer(question, "Not known: nothing is recommended.", (), False)
    faster = _faster(recommended)
    steps = tuple(map(_sentence, faster[3:]))
    others = {"price": "prices", "watts": "watts", "hardware": "processors"}
    known = [text for label, text in others.items() if label in told]
    parts = []
    if faster:
        parts.append(f"a need for less time: {'; '.join(faster[:3])}")
    if known:
        parts.append(f"other {', '.join(known)}")
    verdict = ". Also ".join(parts) or "what was not profiled"
    return Answer(question, _sentence(verdict), (*steps, *details))


def _faster(recommended: Mapping[str, Any]) -> list[str]:
    """Configurations that take less time, and what they take more of."""
    bound = recommended["conditions"]["bound"]
    chosen = recommended["recommended"] or recommended["best"]
    if bound is None or chosen is None:
        return []
    unit = {"energy": "energy", "cost": "cost", "edp": "energy × time"}[bound["objective"]]
    last = chosen["time_s"]["value"]
    found = []
    for one in bound["steps"]:
        if one["tied"] or one["time_s"] > _FASTER * last:
            continue
        last = one["time_s"]
        more = "" if one["more"] is None else f", {percent_more(one['more'])} {unit}"
        workers = counted(one["workers"], "worker")
        found.append(
            f"{workers} of {one['memory_mb']:g} MB, {one['architecture']}: "
            f"{three_digits(last)} s{more}"
        )
    return found


def _measured(recommended: Mapping[str, Any] | None, rows: Sequence[Mapping[str, Any]]) -> Answer:
    question = "Was a joule measured?"
    qualities = _qualities(rows)
    total = sum(qualities.values())
    modelled, none = qualities["modelled"], qualities["none"]
    counts = ", ".join(
        f"{'unknown' if name == 'none' else name}: {counted(many, 'configuration')}"
        for name, many in sorted(qualities.items())
    )
    details = [_sentence(counts)]
    reasons = {row["reasons"].get("energy_j") for row in rows} - {None}
    details += [_sentence(f"unknown, since {one}") for one in sorted(reasons)[:3]]
    chosen = None if recommended is None else recommended.get("recommended")
    if chosen is not None and chosen["energy_j"] is not None:
        band, value = chosen["energy_j"], chosen["energy_j"]["value"]
        factors = ""
        if value:
            factors = f" (×{band['low'] / value:.2g} to ×{band['high'] / value:.2g})"
        details.append(
            f"With all that is unsure, what is recommended uses {three_digits(band['low'])} to "
            f"{three_digits(band['high'])} J a run{factors}."
        )
    if none == total:
        return Answer(question, "No: no joule is known.", tuple(details), False)
    if modelled + none == total:
        verdict = "No. Every joule here is modelled: seconds times the watts of a power model."
        return Answer(question, verdict, tuple(details), False)
    if modelled or none:
        verdict = f"In {total - modelled - none} of {counted(total, 'configuration')}."
        return Answer(question, verdict, tuple(details), False)
    return Answer(question, "Yes, in every configuration.", tuple(details))


def _wrong(found: Mapping[str, Any], files: set[str]) -> Answer:
    question = "What is wrong with the data?"
    rules = _rules(found, files)
    if not rules:
        checked = len(found["lint"]["settings"]["rules"])
        return Answer(question, f"Nothing that {checked} rules of lint know.")
    grave = [
        f"{rule.replace('-', ' ')} ({_where(some)})"
        for severity, rule, some in rules
        if severity == "error" or _alarm(rule) == 0
    ]
    details = tuple(_sentence(_rule_line(*one)) for one in rules)
    if grave:
        more = f"; {len(rules) - len(grave)} lesser kinds below" if len(rules) > len(grave) else ""
        return Answer(question, _sentence(f"{few(grave, 4)}{more}"), details, False)
    kinds = counted(len(rules), "kind")
    return Answer(question, f"{kinds} of warnings, none about the runs' times.", details)


# --- main results -------------------------------------------------------------


def _results(found: Mapping[str, Any], key: tuple[str, str], files: set[str]) -> Iterator[str]:
    yield from _architectures(found["compare"], key)
    yield from _memories(found["memory"], key)
    yield from _scaling(found["scaling"], key[1], files)


def ratio(row: Mapping[str, Any]) -> str:
    """A ratio with its interval: `×0.86 [0.84, 0.88]`."""
    if row["ratio"] is None:
        return "unknown"
    ends = row.get("ratio_ci")
    return f"×{row['ratio']:.2f}{'' if ends is None else f' [{ends[0]:.2f}, {ends[1]:.2f}]'}"


def _mine(rows: Iterable[Mapping[str, Any]], key: tuple[str, str]) -> list[Mapping[str, Any]]:
    return [row for row in rows if (row["workload"], row["stage"]) == key]


def _architectures(compare: Mapping[str, Any], key: tuple[str, str]) -> Iterator[str]:
    whole = [row for row in _mine(compare["overall"], key) if row["memory_mb"] is None]
    told = [row for row in whole if row["quantity"] in _TOLD and row["ratio"] is not None]
    if not told:
        return
    a, b = told[0]["a"]["label"], told[0]["b"]["label"]
    parts = [f"{NAMES[row['quantity']]} {ratio(row)}, {row['verdict']}" for row in told]
    many = max(row["configurations"] for row in told)
    yield f"{a} against {b}: {'; '.join(parts)} ({counted(many, 'matched configuration')})."
    by_cpu = [row for row in _mine(compare["by_cpu"], key) if row["ratio"] is not None]
    if len({row["cpu_name"] for row in by_cpu}) > 1:
        parts = [f"{ratio(row)} on {row['cpu_name']}" for row in by_cpu]
        yield f"Compute time of {a} against {b} by {b}'s processor: {'; '.join(parts)}."
    for row in _mine(compare["sensitivity"], key):
        share = row["share_from_watts"]
        text = (
            f"By CPU seconds (×{row['cpu_seconds_ratio']:.2f}) {a} uses less energy than {b} as "
            f"long as a busy vCPU of it takes less than {row['break_even_watts']:.2f} times the W"
        )
        if share is not None:
            watts = row["assumed"]
            text += (
                f". With the model's {watts['a_w']:.2f} and {watts['b_w']:.2f} W, which were not "
                f"measured, it uses ×{row['energy_ratio']:.2f}; {share * 100:.0f} % of that "
                "difference (of its logarithm) are these watts"
            )
        yield f"{text}."


def _memories(memory: Mapping[str, Any], key: tuple[str, str]) -> Iterator[str]:
    pairs: dict[tuple[str | None, str, str], list[str]] = {}
    rows = _mine(memory["overall"], key)
    sizes = sorted({float(row[side]["label"]) for row in rows for side in ("a", "b")})
    next_to = dict(zip(sizes[1:], sizes, strict=False))
    for row in rows:
        steps = next_to.get(float(row["a"]["label"])) == float(row["b"]["label"])
        if row["ratio"] is not None and row["memory_mb"] is None and steps:
            pair = (row["architecture"], row["a"]["label"], row["b"]["label"])
            pairs.setdefault(pair, []).append(f"{NAMES[row['quantity']]} {ratio(row)}")
    for (architecture, a, b), parts in pairs.items():
        on = f", {architecture}" if architecture else ""
        yield f"Memory {a} against {b} MB{on}: {'; '.join(parts)}."


def _scaling(scaling: Mapping[str, Any], stage: str, files: set[str]) -> Iterator[str]:
    rows = [
        row
        for row in scaling["scaling"]
        if row["file"] in files and row["stage"] == stage and row["quantity"] == "time_s"
    ]
    kinds = Counter(row["kind"] or "unknown" for row in rows)
    if not kinds:
        return
    listed = ", ".join(f"{kind} in {counted(many, 'series')}" for kind, many in kinds.items())
    text = f"Scaling with workers: {listed.replace('seriess', 'series')}"
    fastest = [row["fastest_workers"] for row in rows if row["fastest_workers"] is not None]
    if fastest:
        between = (
            f"{min(fastest):.0f}"
            if len(fastest) == 1
            else (f"{min(fastest):.0f} to {max(fastest):.0f}")
        )
        most = max(point["workers"] for row in rows for point in row["points"])
        text += f"; the fitted law (USL) is fastest with {between} workers"
        if max(fastest) > most:
            text += f", which goes beyond the {most} that were profiled"
    yield f"{text}."
