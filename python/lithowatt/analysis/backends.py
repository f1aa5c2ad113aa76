"""One workload on several backends: what `lithowatt compare --workload` says of its profiles.

Ratios, intervals, tests and verdicts are those of `comparison`, by backend. Beside them: what each
backend took and how its joules were made, what the error of how they were made leaves of a ratio,
and how much the backends have in common (correlation).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from lithowatt._support.arguments import shown
from lithowatt._support.text import counted, few, three_digits
from lithowatt.analysis.comparison import EQUIVALENT, HIGHER, LOWER, compare, verdict
from lithowatt.analysis.intervals import Sample, mean_ratio_interval
from lithowatt.analysis.selection import Selected, Selection, Settings
from lithowatt.analysis.significance import mean_ranks
from lithowatt.analysis.statistics import failures, stats
from lithowatt.analysis.warnings import data_warning
from lithowatt.errors import MalformedValueError
from lithowatt.profiles._file import Configuration
from lithowatt.profiles._runs import Floats, Profiles
from lithowatt.profiles._values import finite

#: What is compared and correlated where nobody says what, as far as two backends have it.
QUANTITIES = ("time_s", "cpu_seconds_s", "energy_j", "cost_usd")

#: What they are called in a sentence.
WORDS = {
    "time_s": "time",
    "cpu_seconds_s": "CPU time",
    "energy_j": "energy",
    "cost_usd": "money",
    "compute_s": "time to compute",
}

#: Fewer pairs of values have no correlation worth a number.
LEAST_PAIRS = 4


def compare_backends(
    profiles: Profiles,
    settings: Settings | None = None,
    *,
    quantities: Sequence[str] | None = None,
    fail_if_worse: float | None = None,
    baseline: str | None = None,
    log: Sequence[Mapping[str, Any]] = (),
    left_out: Sequence[Mapping[str, str]] = (),
) -> dict[str, Any]:
    """What profiles of one workload on several backends show.

    Args:
        profiles: Their sidecars name the backends.
        settings: What counts.
        quantities: What is compared; by default `QUANTITIES` as far as two backends have them.
        fail_if_worse: What takes this part more than on the baseline is worse.
        baseline: A backend; by default the first.
        log: Rows of all runs, the failed and the unrecorded among them.
        left_out: Backends that could not take part, with the reason.

    Raises:
        MalformedValueError: For a quantity that is none.
    """
    settings = settings or Settings()
    selection = Selection(profiles, settings)
    known = [one for one in selection.all if one.backend is not None]
    known.sort(key=lambda one: (one.backend_place, str(one.backend)))
    names = list(dict.fromkeys(str(one.backend) for one in known))
    wanted = tuple(quantities) if quantities is not None else _in_common(known)
    found = compare(
        profiles,
        "backend",
        settings,
        quantities=wanted,
        fail_if_worse=fail_if_worse,
        one_input=bool(log),
    )
    _in_order(found, names)
    _of_these_configurations(found, known, settings)
    _with_bands(found, known)
    # Pairs have it as a: what was asked for is another one where sessions named them otherwise.
    first = names[0] if names else baseline
    found["worse"] = [one for one in found["worse"] if _surely_worse(one, found, first)]
    runs = list(_runs(known))
    found["settings"]["baseline"] = first
    found["warnings"] = [
        # Told below with the backends' names and models.
        *(one for one in found["warnings"] if one["code"] != "modelled-energy"),
        *_about_joules(known),
        *_about_runs(log, names),
        *_left_out(left_out, names),
        *_other_baseline(baseline, first),
    ]
    return {
        **found,
        "verdicts": [
            {**one, "text": verdict_text(one)}
            for one in found["overall"]
            if one["memory_mb"] is None and one["a"]["label"] == first
        ],
        "backends": _backends(profiles, settings, known, log),
        "left_out": [dict(one) for one in left_out],
        "failures": _failures(profiles, log),
        "warm_ups": [
            dict(one) for one in log if one.get("recorded") is False and not one.get("error")
        ],
        "correlation": correlate_backend_results({"runs": runs}),
        "runs": runs,
    }


def _other_baseline(wanted: str | None, first: str | None) -> Iterator[dict[str, Any]]:
    if wanted is not None and wanted != first:
        yield data_warning(
            "other-baseline",
            f"the others are compared with {first}, which was named first when it last ran, and "
            f"not with {wanted}",
        )


def _in_common(known: Sequence[Selected]) -> tuple[str, ...]:
    found = []
    for name in QUANTITIES:
        some = {one.backend for one in known if len(one.sample(name))}
        if len(some) > 1 or name == "time_s":
            found.append(name)
    return tuple(found)


# --- rows ---------------------------------------------------------------------


def _runs(known: Iterable[Selected]) -> Iterator[dict[str, Any]]:
    """A row for each repetition: where it ran, whether it counts, and what it took."""
    for one in known:
        values = {name: one.values(name) for name in QUANTITIES}
        low, high = one.joules.low, one.joules.high
        for at in range(one.runs.repetitions):
            record = one.runs.records[at] if at < len(one.runs.records) else None
            record = record or {}
            yield {
                "backend": one.backend,
                "key": one.runs.key,
                "memory_mb": one.runs.configuration.memory_mb,
                "workers": one.runs.configuration.workers,
                "seed": record.get("seed"),
                "round": record.get("round"),
                "used": bool(one.used[at]),
                **{name: finite(float(column[at])) for name, column in values.items()},
                "energy_low_j": finite(float(low[at])),
                "energy_high_j": finite(float(high[at])),
            }


def _backends(
    profiles: Profiles,
    settings: Settings,
    known: Sequence[Selected],
    log: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """A row for each configuration on each backend."""
    rows = {
        (one["file"], one["key"]): one
        for one in stats(profiles, settings, bootstrap=False)["configurations"]
    }
    failed = Counter(
        (one.get("backend_name"), one.get("configuration"))
        for one in log
        if one.get("error") and one.get("recorded")
    )
    made = []
    for one in known:
        row = rows[one.file.name, one.runs.key]
        records = [record for record in one.runs.records if record is not None]
        kinds = sorted({str(record["backend"]) for record in records if "backend" in record})
        energy = row["metrics"]["energy_j"]
        made.append(
            {
                "backend": one.backend,
                "kind": kinds[0] if len(kinds) == 1 else None,
                "key": one.runs.key,
                "memory_mb": one.runs.configuration.memory_mb,
                "workers": one.runs.configuration.workers,
                "workers_actual": one.workers_actual,
                "architecture": one.architecture,
                "hardware": one.hardware(),
                "repetitions": {
                    **row["repetitions"],
                    "failed": failed[one.backend, one.runs.key],
                },
                "metrics": {name: row["metrics"][name] for name in QUANTITIES},
                "reasons": {
                    name: reason for name, reason in row["reasons"].items() if name in QUANTITIES
                },
                "energy": {
                    "quality": None if energy is None else energy["quality"],
                    "band": None if energy is None else energy["band"],
                    "method": _counts(records, "energy_method"),
                    "definition": _counts(records, "energy_definition"),
                },
            }
        )
    return made


def _counts(records: Iterable[Mapping[str, Any]], name: str) -> dict[str, int]:
    """Text to calls, over repetitions."""
    found: Counter[str] = Counter()
    for one in records:
        counts = one.get(name)
        if isinstance(counts, Mapping):
            found.update({str(text): n for text, n in counts.items() if isinstance(n, int)})
    return dict(found.most_common())


def _failures(profiles: Profiles, log: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The recorded runs that failed; without a log as far as the sidecars tell."""
    if not log:
        return [
            {"backend": one["stage"], "configuration": one["key"], **one}
            for one in failures(profiles.files)
        ]
    return [
        {
            "backend": one.get("backend_name"),
            "configuration": one.get("configuration"),
            "round": one.get("round"),
            "recorded": one.get("recorded"),
            "error": one.get("error"),
            "calls": one.get("calls"),
            "failed_calls": one.get("failed_calls"),
            "energy_j": one.get("energy_j"),
        }
        for one in log
        if one.get("error")
    ]


# --- what the error of the joules leaves of a ratio -----------------------------


_Sides = dict[tuple[str, float, int], list[Selected]]


def _sides(known: Iterable[Selected]) -> _Sides:
    """By backend, memory and workers."""
    sides: _Sides = {}
    for one in known:
        configuration = one.runs.configuration
        key = str(one.backend), configuration.memory_mb, configuration.workers
        sides.setdefault(key, []).append(one)
    return sides


def _in_order(found: Mapping[str, Any], names: Sequence[str]) -> None:
    """Pairs in the order in which the backends were named."""
    for rows in (found["cells"], found["overall"]):
        rows.sort(key=lambda row: (names.index(row["a"]["label"]), names.index(row["b"]["label"])))


def _of_these_configurations(
    found: Mapping[str, Any], known: Sequence[Selected], settings: Settings
) -> None:
    """Gives each ratio over configurations the interval that holds for these very ones.

    `ratio_ci` is about configurations like these, of which those that ran are a sample: with two
    or three it is as wide as can be. Here they were chosen, and only their repetitions scatter.
    """
    sides = _sides(known)
    for row in found["overall"]:
        pairs = []
        for cell in found["cells"]:
            same = all(cell[side]["label"] == row[side]["label"] for side in ("a", "b"))
            within = row["memory_mb"] in (None, cell["memory_mb"])
            if same and within and cell["quantity"] == row["quantity"] and cell["ratio"]:
                memory, workers = cell["memory_mb"], cell["workers"]
                a, b = (
                    np.concatenate(
                        [one.sample(row["quantity"]) for one in sides[label, memory, workers]]
                    )
                    for label in (row["a"]["label"], row["b"]["label"])
                )
                pairs.append((Sample.of(a), Sample.of(b)))
        interval = mean_ratio_interval(pairs, settings.confidence)
        known_ = all(map(math.isfinite, interval))
        row["these"] = {
            "ratio_ci": list(interval) if known_ else None,
            "verdict": verdict(interval, settings.margin),
        }


class _Band(NamedTuple):
    low: float
    high: float
    quality: str | None
    methods: frozenset[str]


def _with_bands(found: Mapping[str, Any], known: Sequence[Selected]) -> None:
    """Gives ratios of joules the range that the bands of both sides leave, and says whether the
    two sides have one model and with it its error in common."""
    sides = _sides(known)
    Labels = tuple[str, str]
    ranges: defaultdict[Labels, list[tuple[float, float, float]]] = defaultdict(list)
    common: defaultdict[Labels, list[tuple[float, bool]]] = defaultdict(list)
    for cell in found["cells"]:
        if cell["quantity"] != "energy_j":
            continue
        labels = cell["a"]["label"], cell["b"]["label"]
        memory, workers = cell["memory_mb"], cell["workers"]
        a, b = (_band(sides[label, memory, workers]) for label in labels)
        range_, shared = _range(a, b)
        cell["ratio_band"], cell["common_model"] = range_, shared
        if range_ is not None:
            ranges[labels].append((memory, range_[0], range_[1]))
        common[labels].append((memory, shared))
    for row in found["overall"]:
        if row["quantity"] != "energy_j":
            continue
        labels = row["a"]["label"], row["b"]["label"]
        of = row["memory_mb"]
        some = [ends for memory, *ends in ranges[labels] if of in (None, memory)]
        shared_ = [one for memory, one in common[labels] if of in (None, memory)]
        # A method's error is common to all configurations: it does not average out.
        row["ratio_band"] = (
            [math.exp(math.fsum(math.log(one[end]) for one in some) / len(some)) for end in (0, 1)]
            if len(some) == len(shared_) and some
            else None
        )
        row["common_model"] = bool(shared_) and all(shared_)


def _band(some: Sequence[Selected]) -> _Band | None:
    lows, highs, qualities, methods = [], [], [], set()
    for one in some:
        keep = one.used & np.isfinite(one.joules.values)
        lows.append(one.joules.low[keep])
        highs.append(one.joules.high[keep])
        qualities.append(one.energy_quality())
        for record in one.runs.records:
            methods |= set((record or {}).get("energy_method") or ())
    low, high = (np.concatenate(ends) if ends else np.zeros(0) for ends in (lows, highs))
    if not len(low) or not (np.isfinite(low).all() and np.isfinite(high).all()):
        return None
    quality = qualities[0] if len(set(qualities)) == 1 else None
    return _Band(float(low.mean()), float(high.mean()), quality, frozenset(methods))


def _range(a: _Band | None, b: _Band | None) -> tuple[list[float] | None, bool]:
    if a is None or b is None or min(a.low, b.low) <= 0:
        return None, False
    shared = a.quality == b.quality == "modelled" and a.methods == b.methods
    return [a.low / b.high, a.high / b.low], shared


def told_by_band(row: Mapping[str, Any]) -> bool | None:
    """Whether a ratio of joules is on the same side of 1 throughout its bands; `None` where it has
    no bands, or both sides have one model's error in common, of which the bands cannot tell."""
    range_ = row.get("ratio_band")
    if range_ is None or row.get("common_model"):
        return None
    return bool(range_[1] < 1 or range_[0] > 1)


def _surely_worse(one: Mapping[str, Any], found: Mapping[str, Any], baseline: str | None) -> bool:
    """Only against the baseline; of joules only what the bands do not leave open."""
    if one["a"]["label"] != baseline:
        return False
    if one["quantity"] != "energy_j":
        return True
    rows = found["cells"] if one["workers"] is not None else found["overall"]
    for row in rows:
        same = all(row[side]["label"] == one[side]["label"] for side in ("a", "b"))
        place = row["memory_mb"] == one["memory_mb"] and row.get("workers") == one["workers"]
        if same and place and row["quantity"] == "energy_j":
            return told_by_band(row) is not False
    return True


def verdict_text(row: Mapping[str, Any]) -> str:
    """A row of `overall` as a sentence.

    Example:
        >>> verdict_text(
        ...     {
        ...         "quantity": "time_s",
        ...         "a": {"label": "localhost"},
        ...         "b": {"label": "k8s"},
        ...         "verdict": "lower",
        ...         "ratio": 0.5,
        ...         "ratio_ci": [0.4, 0.6],
        ...     }
        ... )
        'localhost takes less time than k8s: × 0.5 [0.4, 0.6]'
    """
    a, b = row["a"]["label"], row["b"]["label"]
    what = WORDS.get(row["quantity"], row["quantity"])
    told = row.get("these", row)
    interval = told["ratio_ci"]
    number = "" if row["ratio"] is None else f": × {three_digits(row['ratio'])}"
    if number and interval is not None:
        number += f" [{three_digits(interval[0])}, {three_digits(interval[1])}]"
    if told["verdict"] == EQUIVALENT:
        return f"{a} and {b} take the same {what}, within the margin{number}"
    if told["verdict"] not in (LOWER, HIGHER):
        return f"{what} of {a} and {b} is not told apart{number}"
    less = "less" if told["verdict"] == LOWER else "more"
    text = f"{a} takes {less} {what} than {b}{number}"
    if row["quantity"] == "energy_j":
        if row.get("common_model"):
            text += "; both by one model, whose error they share"
        elif told_by_band(row) is False:
            low, high = row["ratio_band"]
            text += (
                "; that is the scatter of these runs, and the errors of how joules were made leave "
                f"it open: × {three_digits(low)} to {three_digits(high)}"
            )
    return text


# --- warnings -----------------------------------------------------------------


def _about_joules(known: Sequence[Selected]) -> Iterator[dict[str, Any]]:
    """What modelled joules have in common, and what they do not have with measured ones."""
    modelled: dict[str, set[str]] = {}
    other: set[str] = set()
    for one in known:
        records = [record for record in one.runs.records if record is not None]
        quality = one.energy_quality()
        if quality == "modelled":
            modelled.setdefault(str(one.backend), set()).update(_counts(records, "energy_method"))
        elif quality is not None:
            other.add(str(one.backend))
    if not modelled:
        return
    methods = sorted(set().union(*modelled.values()) - {"unavailable"})
    yield data_warning(
        "modelled-joules",
        f"joules of {few(sorted(modelled), 6)} are modelled ({few(methods, 4)}), not measured. "
        "Intervals of their ratios hold the scatter of the repetitions alone; a model's own error "
        "is in the bands, is the same in every repetition, and is in part common to the backends "
        "that have the same model",
    )
    if other:
        yield data_warning(
            "measured-against-modelled",
            f"counted joules ({few(sorted(other), 6)}) are compared with modelled ones "
            f"({few(sorted(modelled), 6)}): such a ratio is about the methods, too. CPU seconds "
            "and time compare without a model",
        )


def _about_runs(log: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Iterator[dict[str, Any]]:
    good = [one for one in log if not one.get("error")]
    results = {
        name: {one.get("result") for one in good if one.get("backend_name") == name}
        for name in names
    }
    single = {name: some.pop() for name, some in results.items() if len(some) == 1}
    if len(set(single.values()) - {None}) > 1:
        yield data_warning(
            "other-results",
            f"the workload returns something else on {few(list(single), 6)}: the backends may not "
            "do the same work",
        )
    bad = [one for one in log if one.get("error") and one.get("recorded")]
    if bad:
        places = Counter(f"{one['backend_name']} {one['configuration']}" for one in bad)
        yield data_warning(
            "failed-repetitions",
            f"{counted(len(bad), 'recorded run')} failed and count in nothing but `failures`: "
            + few([f"{place}: {n}, {_first(bad, place)}" for place, n in places.items()], 3, "; "),
        )
    metered = {
        str(one["backend_name"])
        for one in good
        if set(one.get("energy_method") or ()) - {"unavailable"}
    }
    dark = [name for name in names if name not in metered] if log else []
    if dark:
        yield data_warning(
            "not-metered",
            f"no call on {few(dark, 6)} carried joules: its workers have no lithowatt, or it is "
            "switched off there. `lithowatt lithops status` tells; --ship sends the meter along",
        )
    cold = [one for one in good if one.get("recorded") and one.get("cold_calls")]
    mixed = {
        str(one["backend_name"])
        for one in cold
        if any(
            other.get("backend_name") == one["backend_name"] and other.get("cold_calls") == 0
            for other in good
            if other.get("recorded")
        )
    }
    if mixed:
        yield data_warning(
            "cold-starts",
            f"some recorded runs on {few(sorted(mixed), 6)} started cold and some warm: "
            "`cold_start_s` and the log tell them apart",
        )
    memories = {
        Configuration.parse(str(one["configuration"])).memory_mb
        for one in good
        if one.get("backend") == "localhost"
    }
    if len(memories) > 1:
        yield data_warning(
            "memory-not-set",
            "Lithops sets no memory on localhost: there, configurations differ by name alone in it",
        )


def _first(bad: Sequence[Mapping[str, Any]], place: str) -> str:
    return next(
        str(one["error"]) for one in bad if f"{one['backend_name']} {one['configuration']}" == place
    )


def _left_out(
    left_out: Sequence[Mapping[str, str]], names: Sequence[str]
) -> Iterator[dict[str, Any]]:
    if left_out:
        yield data_warning(
            "left-out",
            "left out: " + "; ".join(f"{one['backend']}, {one['reason']}" for one in left_out),
        )
    if len(names) == 1:
        yield data_warning(
            "one-backend", f"only {names[0]} has results: there is nothing to compare it with"
        )


# --- correlation --------------------------------------------------------------


def correlate_backend_results(
    results: Mapping[str, Any], confidence: float = 0.95
) -> list[dict[str, Any]]:
    """How much two backends have in common, for each pair and each quantity that both have.

    Over ``configurations``: do the means of the configurations rise and fall together? Over
    ``rounds``: do the runs of one round, which ran close to each other, deviate from their
    configurations' means together? Then something acts on both, such as the machine they share.

    Intervals are Fisher's for Pearson's r, and with the variance of Bonett and Wright
    (Psychometrika 65, 2000) for Spearman's; over rounds each further configuration takes one
    degree of freedom.

    Args:
        results: What `MultiBackendEnergyAnalyzer.run_comparative_analysis` returns; or backend to
            rows, a mapping each, with ``key`` (the configuration), ``round`` and quantities such as
            ``time_s`` and ``energy_j``.
        confidence: Of the intervals.

    Returns:
        A row each: ``a``, ``b``, ``quantity``, ``over``, ``n``, ``pearson``, ``pearson_ci``,
        ``spearman``, ``spearman_ci`` and ``reason``, which says why one of them is ``None``: there
        are none with fewer than 4 pairs of values, or without spread.

    Raises:
        MalformedValueError: The results are neither.

    Example:
        >>> rows = [{"key": f"(1, 512, {n})", "energy_j": j} for n, j in enumerate((3, 5, 6, 9), 1)]
        >>> other = [{**row, "energy_j": row["energy_j"] * 2 + row["energy_j"] % 2} for row in rows]
        >>> found = correlate_backend_results({"localhost": rows, "k8s": other})[0]
        >>> found["n"], round(found["pearson"], 3), found["spearman"]
        (4, 0.995, 1.0)
    """
    if not 0 < confidence < 1:
        raise MalformedValueError(f"confidence is {shown(confidence)}: expected between 0 and 1")
    by_backend = _grouped(results)
    found = []
    for a, b in combinations(by_backend, 2):
        for name in QUANTITIES:
            if any(not any(name in row for row in by_backend[one]) for one in (a, b)):
                continue
            if not all(_values(by_backend[one], name) for one in (a, b)):
                continue
            x, y = (_values(by_backend[one], name) for one in (a, b))
            both = [key for key in x if key in y]
            means = np.array(
                [[np.mean(list(side[key].values())) for key in both] for side in (x, y)]
            )
            head = {"a": a, "b": b, "quantity": name}
            found.append({**head, "over": "configurations", **_correlated(means, 0, confidence)})
            pairs, used = _by_round(x, y, both)
            if any(row.get("round") is not None for row in by_backend[a]):
                taken = max(used - 1, 0)
                found.append({**head, "over": "rounds", **_correlated(pairs, taken, confidence)})
    return found


def _grouped(results: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    wrong = MalformedValueError(
        f"results is {shown(results)}: expected what run_comparative_analysis returns, or backend "
        "to rows with key, round and quantities"
    )
    if not isinstance(results, Mapping):
        raise wrong
    if isinstance(results.get("runs"), Sequence):
        grouped: dict[str, list[Mapping[str, Any]]] = {}
        for row in results["runs"]:
            if not isinstance(row, Mapping) or not isinstance(row.get("backend"), str):
                raise wrong
            if row.get("used", True):
                grouped.setdefault(row["backend"], []).append(row)
        return grouped
    for rows in results.values():
        if isinstance(rows, (str, bytes)) or not isinstance(rows, Sequence):
            raise wrong
        if not all(isinstance(row, Mapping) and "key" in row for row in rows):
            raise wrong
    return {str(name): list(rows) for name, rows in results.items()}


#: Configuration to round to value.
_ByKey = dict[tuple[Any, ...], dict[Any, float]]


def _values(rows: Iterable[Mapping[str, Any]], name: str) -> _ByKey:
    found: _ByKey = {}
    for at, row in enumerate(rows):
        value = finite(row.get(name))
        if value is None:
            continue
        # CPUs are what a backend gives; memory and workers are what was asked for.
        key = (
            (row["memory_mb"], row["workers"])
            if "memory_mb" in row and "workers" in row
            else (str(row["key"]),)
        )
        round_ = row.get("round")
        place = ("none", at) if round_ is None else (row.get("seed"), round_)
        found.setdefault(key, {})[place] = value
    return found


def _by_round(x: _ByKey, y: _ByKey, both: Sequence[tuple[Any, ...]]) -> tuple[Floats, int]:
    """Deviations from the means of the configurations of runs of one round; of how many
    configurations."""
    pairs: list[tuple[float, float]] = []
    used = 0
    for key in both:
        rounds = [one for one in x[key] if one in y[key] and one[0] != "none"]
        a = np.array([x[key][one] for one in rounds])
        b = np.array([y[key][one] for one in rounds])
        if len(rounds) < 2 or not (a.mean() and b.mean()):
            continue
        used += 1
        pairs += zip((a / a.mean() - 1).tolist(), (b / b.mean() - 1).tolist(), strict=True)
    return np.array(pairs, dtype=np.float64).reshape(-1, 2).T, used


def _correlated(values: Floats, taken: int, confidence: float) -> dict[str, Any]:
    """Both correlations of two rows of values; `taken`: degrees of freedom that are used up."""
    n = values.shape[1] if values.ndim == 2 else 0
    nothing = {"n": n, "pearson": None, "pearson_ci": None, "spearman": None, "spearman_ci": None}
    if n - taken < LEAST_PAIRS:
        return {
            **nothing,
            "reason": f"{counted(n, 'pair')} of values, {LEAST_PAIRS + taken} needed",
        }
    # A spread of rounding errors is none.
    if any(np.ptp(row) <= 1e-12 * np.abs(row).max() for row in values):
        return {**nothing, "reason": "the values of one side are all the same"}
    r, rho = _pearson(*values), _pearson(*(mean_ranks(row) for row in values))
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    free = n - taken - 3
    ends = [
        _fisher(one, z * math.sqrt(variance / free))
        for one, variance in ((r, 1.0), (rho, 1 + rho * rho / 2))
    ]
    return {
        "n": n,
        "pearson": min(max(r, -1.0), 1.0),
        "pearson_ci": ends[0],
        "spearman": min(max(rho, -1.0), 1.0),
        "spearman_ci": ends[1],
        "reason": None
        if all(ends)
        else "a correlation of 1 or -1 has no interval by Fisher's transformation",
    }


def _pearson(x: Floats, y: Floats) -> float:
    matrix = np.asarray(np.corrcoef(x, y))
    return float(matrix[0, 1])


def _fisher(r: float, half: float) -> list[float] | None:
    if abs(r) > 1 - 1e-12:
        return None
    centre = math.atanh(r)
    return [math.tanh(centre - half), math.tanh(centre + half)]
