"""How to profile: how many repetitions, in which order, in how many sessions.

Repetitions that follow each other share a machine, a fleet and a time of day; a configuration that
is run to its end before the next one begins has these to itself. So each session runs all
configurations in rounds, each round in a random order of its own (randomised multiple interleaved
trials, Abedi and Brecht, ICPE 2017), and one configuration takes part twice under two names: what
is found between the two is what this way of measuring finds where there is nothing (A/A).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import groupby, pairwise, product
from typing import Any

import numpy as np

from lithowatt import _core
from lithowatt._support.text import counted, fitted, percent, wrapped
from lithowatt.analysis._envelope import SCHEMA, envelope
from lithowatt.analysis.intervals import Sample, t_quantile
from lithowatt.analysis.selection import NAMES, Selected, Selection, Settings
from lithowatt.errors import MalformedValueError
from lithowatt.profiles._file import Configuration
from lithowatt.profiles._runs import Profiles

#: Fewer repetitions say little of their own scatter: rule `few-repetitions` of lint.
LEAST = 5

#: More than these nobody runs: the wanted precision is out of reach this way.
MOST = 100_000

#: What a session's first runs are, and what is done about it.
STARTS = {
    "warm": "one run of each configuration at the beginning of a session is not recorded, so that "
    "the recorded ones find the workers' machines as their own kind left them",
    "cold": "before each run the workers' machines are made new (AWS Lambda: change an "
    "environment variable of the function), so that every start is a cold one",
    "as-is": "nothing is done about it: cold_start of each worker is recorded, and first runs of a "
    "session start cold",
}


def repetitions(cv: float, precision: float, confidence: float = 0.95) -> int:
    """How many repetitions make a mean precise to a part of itself.

    The least n with t(n − 1) · cv / √n ≤ precision: t depends on n, so it is searched for.

    Args:
        cv: Coefficient of variation of a repetition.
        precision: Half width of the interval, as a part of the mean.
        confidence: Of the interval.

    Returns:
        2 or more; `MOST` where even these do not do.

    Example:
        >>> repetitions(cv=0.05, precision=0.05)
        7
        >>> repetitions(cv=0.10, precision=0.05)
        18
    """
    if not (cv >= 0 and precision > 0):
        raise ValueError(f"no repetitions for a CV of {cv!r} and a precision of {precision!r}")

    def enough(n: int) -> bool:
        return t_quantile(confidence, n - 1) * cv <= precision * math.sqrt(n)

    # More repetitions are never worse: double, then halve.
    high = 2
    while not enough(high):
        if high >= MOST:
            return MOST
        high = min(high * 2, MOST)
    low = max(high // 2, 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def repetitions_to_tell(a: Sample, b: Sample, confidence: float = 0.95) -> int | None:
    """How many repetitions of each would tell two means apart, if they are what they seem.

    By Welch's test, with half a chance to see it; `None` where nothing but equality was seen.
    """
    difference = abs(a.mean - b.mean)
    scatter = math.sqrt(np.nan_to_num(a.sd) ** 2 + np.nan_to_num(b.sd) ** 2)
    if difference <= 0 or not math.isfinite(difference):
        return None
    # Both means carry it: as if one mean had the scatter of both, and as many repetitions.
    return repetitions(scatter / difference, 1.0, confidence)


@dataclass(frozen=True)
class Wanted:
    """What is planned for.

    Attributes:
        precision: Half width of each mean's interval, as a part of the mean.
        quantity: What is to be so precise, one of `selection.NAMES`.
        confidence: Of the interval.
        sessions: In how many sessions.
        start: One of `STARTS`.
        pair: Whether one configuration takes part twice.
        seed: Of the order.
        cv: Coefficient of variation where no profile tells one.
        factors: Name (`workers`, `memory`, `cpu`, `architecture`) to what is to be run; those
            that are not named are as profiled.
        configurations: Keys to run besides.
    """

    precision: float = 0.05
    quantity: str = "time_s"
    confidence: float = 0.95
    sessions: int = 3
    start: str = "warm"
    pair: bool = True
    seed: int = 20261128
    cv: float | None = None
    factors: Mapping[str, Sequence[Any]] | None = None
    configurations: Sequence[str] = ()

    def as_json(self) -> dict[str, Any]:
        """For the head of a result."""
        return {
            "precision": self.precision,
            "quantity": self.quantity,
            "confidence": self.confidence,
            "sessions": self.sessions,
            "start": self.start,
            "pair": self.pair,
            "seed": self.seed,
            "cv": self.cv,
            "factors": {name: list(values) for name, values in (self.factors or {}).items()},
            "configurations": list(self.configurations),
        }


@dataclass(frozen=True)
class _Row:
    """One configuration to be run: what it is, and what is known of it."""

    workload: str | None
    stage: str | None
    architecture: str | None
    configuration: Configuration
    sample: Sample | None = None
    seconds: float | None = None
    dollars: float | None = None

    @property
    def order(self) -> tuple[Any, ...]:
        return (
            self.workload or "",
            self.stage or "",
            self.architecture or "",
            self.configuration.memory_mb,
            self.configuration.workers,
            self.configuration.cpu,
        )


def plan(
    profiles: Profiles | None, wanted: Wanted, settings: Settings | None = None
) -> dict[str, Any]:
    """The result of `lithowatt profile plan`.

    Args:
        profiles: What was profiled already; `None`: nothing.
        wanted: What is planned for.
        settings: Which repetitions count, and prices.

    Raises:
        MalformedValueError: There is nothing to run, or nothing tells how a repetition scatters.
    """
    known = [] if profiles is None else _profiled(Selection(profiles, settings), wanted.quantity)
    rows = sorted(_chosen(known, wanted), key=lambda one: one.order)
    if not rows:
        raise MalformedValueError(
            "there is nothing to run: give profiles that hold a configuration, --factors or "
            "--configuration"
        )
    scatter = _scatter(known)
    planned = []
    for row in rows:
        cv, source = _cv(row, scatter, wanted)
        exact = repetitions(cv, wanted.precision, wanted.confidence)
        # As many in each session, and no fewer than say something of their own scatter.
        per_session = math.ceil(max(exact, LEAST) / wanted.sessions)
        planned.append(_planned(row, cv, source, exact, per_session, wanted))
    pair = _pair(planned) if wanted.pair else None
    schedule = schedule_of(planned, pair, wanted)
    recorded = [one for one in schedule if not one["discard"]]
    head = _head(profiles, wanted, _warnings(planned, scatter, wanted))
    return {
        **head,
        "configurations": planned,
        "pair": pair,
        "start": {"policy": wanted.start, "text": STARTS[wanted.start]},
        "totals": {
            "sessions": wanted.sessions,
            "runs": len(schedule),
            "recorded": len(recorded),
            "run_seconds": _total(planned, schedule, "mean_time_s"),
            "cost_usd": _total(planned, schedule, "mean_cost_usd"),
        },
        "schedule": schedule,
    }


# --- what is known ------------------------------------------------------------


def _profiled(selection: Selection, quantity: str) -> list[_Row]:
    """What was profiled: configurations of one key, architecture, workload and stage together."""
    found: dict[tuple[Any, ...], list[Selected]] = {}
    for one in selection.all:
        row = _Row(one.file.workload, one.file.stage, one.architecture, one.runs.configuration)
        found.setdefault(row.order, []).append(one)
    rows = []
    for some in found.values():
        first = some[0]

        def together(name: str, some: Sequence[Selected] = some) -> Sample:
            return Sample.of(np.sort(np.concatenate([one.sample(name) for one in some])))

        rows.append(
            _Row(
                first.file.workload,
                first.file.stage,
                first.architecture,
                first.runs.configuration,
                together(quantity),
                _or_none(together("time_s").mean),
                _or_none(together("cost_usd").mean),
            )
        )
    return rows


def _scatter(rows: Iterable[_Row]) -> float | None:
    """The root mean square of the known CVs, each weighed by its degrees of freedom."""
    known = [(one.sample.n - 1, _cv_of(one.sample)) for one in rows if one.sample is not None]
    some = [(df, cv) for df, cv in known if cv is not None]
    total = sum(df for df, _ in some)
    return math.sqrt(sum(df * cv * cv for df, cv in some) / total) if total else None


def _cv_of(sample: Sample) -> float | None:
    if sample.n < 2 or not sample.mean > 0 or not math.isfinite(sample.sd):
        return None
    return sample.sd / sample.mean


def _cv(row: _Row, scatter: float | None, wanted: Wanted) -> tuple[float, str]:
    """The coefficient of variation to plan with, and where it is from."""
    own = None if row.sample is None or row.sample.n < LEAST else _cv_of(row.sample)
    if own is not None:
        return own, "its own repetitions"
    if wanted.cv is not None:
        return wanted.cv, "given"
    if scatter is not None:
        return scatter, "all profiled configurations"
    raise MalformedValueError(
        f"nothing tells how {wanted.quantity} scatters: give --cv, e.g. --cv 10%"
    )


# --- what is to be run --------------------------------------------------------

_FACTORS = ("workers", "memory", "cpu", "architecture")


def parse_factors(texts: Iterable[str]) -> dict[str, list[Any]]:
    """`workers=4,8,16` and the like, as `Wanted.factors` holds them.

    Raises:
        ValueError: For what is no factor, or none of its values.

    Example:
        >>> parse_factors(["workers=1-3,8", "architecture=arm64"])
        {'workers': [1, 2, 3, 8], 'architecture': ['arm64']}
    """
    from lithowatt._support.architectures import normalise_architecture

    found: dict[str, list[Any]] = {}
    for text in texts:
        name, equals, rest = text.partition("=")
        if not equals or name not in _FACTORS or name in found:
            raise ValueError(
                f"{text!r:.80} is not FACTOR=VALUE,VALUE with one of {', '.join(_FACTORS)}, once"
            )
        values: list[Any] = []
        for part in rest.split(","):
            if name == "architecture":
                values.append(normalise_architecture(part.strip()))
                continue
            match = re.fullmatch(r"(\d+(?:\.\d+)?)(?:-(\d+))?", part.strip())
            if match is None or (match[2] and "." in match[1]):
                raise ValueError(f"{part!r:.80} of {name} is no number and no range like 4-8")
            low = float(match[1])
            high = float(match[2] or low)
            if name == "cpu":
                values.append(low)
            elif low != int(low) or not low <= high <= low + 10_000 or (low < 1):
                raise ValueError(f"{part!r:.80} of {name} is no range of whole numbers from 1")
            else:
                values += range(int(low), int(high) + 1)
        found[name] = list(dict.fromkeys(values))
    return found


def _chosen(known: Sequence[_Row], wanted: Wanted) -> list[_Row]:
    """The configurations to be run, with what is known of them."""
    factors = wanted.factors or {}
    rows = list(known)
    if factors:
        rows = _crossed(known, factors)
    places = {(one.workload, one.stage) for one in known} or {(None, None)}
    machines = {one.architecture for one in known} or {None}
    by_order = {one.order: one for one in known}
    for key in wanted.configurations:
        configuration = Configuration.parse(key)
        for (workload, stage), machine in product(sorted(places, key=str), machines):
            row = _Row(workload, stage, machine, configuration)
            row = by_order.get(row.order, row)
            if row not in rows:
                rows.append(row)
    return rows


def _crossed(known: Sequence[_Row], factors: Mapping[str, Sequence[Any]]) -> list[_Row]:
    """Each level of each factor with each of the others."""

    def levels(name: str, seen: Iterable[Any], otherwise: Any) -> list[Any]:
        given = factors.get(name)
        return list(given) if given is not None else sorted(set(seen), key=str) or [otherwise]

    by_order = {one.order: one for one in known}
    places = sorted({(one.workload, one.stage) for one in known}, key=str) or [(None, None)]
    rows = []
    for workload, stage in places:
        some = [one for one in known if (one.workload, one.stage) == (workload, stage)]
        grid = product(
            levels("architecture", (one.architecture for one in some), None),
            levels("cpu", (one.configuration.cpu for one in some), 1),
            levels("memory", (one.configuration.memory_mb for one in some), None),
            levels("workers", (one.configuration.workers for one in some), None),
        )
        for machine, cpu, memory, workers in grid:
            if memory is None or workers is None:
                raise MalformedValueError(
                    "without profiles --factors needs workers and memory, e.g. --factors "
                    "workers=4,8,16 memory=1024"
                )
            configuration = Configuration(_whole(cpu), _whole(memory), int(workers))
            row = _Row(workload, stage, machine, configuration)
            rows.append(by_order.get(row.order, row))
    return rows


def _whole(value: float) -> float:
    return int(value) if value == int(value) else value


def _planned(
    row: _Row, cv: float, source: str, exact: int, per_session: int, wanted: Wanted
) -> dict[str, Any]:
    total = per_session * wanted.sessions
    return {
        "workload": row.workload,
        "stage": row.stage,
        "architecture": row.architecture,
        "key": row.configuration.key,
        "memory_mb": row.configuration.memory_mb,
        "workers": row.configuration.workers,
        "profiled": 0 if row.sample is None else row.sample.n,
        "cv": cv,
        "cv_from": source,
        "repetitions_needed": exact,
        "per_session": per_session,
        "repetitions": total,
        "precision_expected": t_quantile(wanted.confidence, total - 1) * cv / math.sqrt(total),
        "mean_time_s": row.seconds,
        "mean_cost_usd": row.dollars,
    }


def _pair(planned: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The configuration that takes part twice: that of the middle CV, which is like the others."""
    by_cv = sorted(range(len(planned)), key=lambda at: (planned[at]["cv"], at))
    at = by_cv[len(by_cv) // 2]
    return {
        "configuration": at,
        "key": planned[at]["key"],
        "names": ["A", "A'"],
        "expect": "ratio 1 within its interval; else the plan, and no configuration, makes the "
        "difference",
    }


def schedule_of(
    planned: Sequence[Mapping[str, Any]], pair: Mapping[str, Any] | None, wanted: Wanted
) -> list[dict[str, Any]]:
    """Every run in its order: rounds within sessions, each in a random order of its own."""
    random = np.random.default_rng(wanted.seed)
    arms: list[tuple[int, str | None]] = []
    for at in range(len(planned)):
        if pair is not None and at == pair["configuration"]:
            arms += [(at, name) for name in pair["names"]]
        else:
            arms.append((at, None))
    schedule: list[dict[str, Any]] = []

    def run(session: int, round_: int | None, arm: tuple[int, str | None]) -> None:
        schedule.append(
            {
                "run": len(schedule) + 1,
                "session": session,
                "round": round_,
                "configuration": arm[0],
                "key": planned[arm[0]]["key"],
                "architecture": planned[arm[0]]["architecture"],
                "arm": arm[1],
                "discard": round_ is None,
            }
        )

    rounds = max(one["per_session"] for one in planned)
    for session in range(1, wanted.sessions + 1):
        if wanted.start == "warm":
            for at in random.permutation(len(planned)).tolist():
                run(session, None, (at, None))
        # Those that need fewer repetitions are spread over all rounds, not put at the beginning.
        takes_part = [_spread(planned[at]["per_session"], rounds, random) for at, _ in arms]
        for round_ in range(rounds):
            now = [arm for arm, part in zip(arms, takes_part, strict=True) if round_ in part]
            for at in random.permutation(len(now)).tolist():
                run(session, round_ + 1, now[at])
    return schedule


def _spread(count: int, rounds: int, random: np.random.Generator) -> set[int]:
    """In which of the rounds one takes part that is wanted `count` times."""
    edges = np.linspace(0, rounds, count + 1)
    return {
        int(random.integers(math.ceil(low), max(math.ceil(high), math.ceil(low) + 1)))
        for low, high in pairwise(edges.tolist())
    }


# --- the result ---------------------------------------------------------------


def _total(
    planned: Sequence[Mapping[str, Any]], schedule: Sequence[Mapping[str, Any]], name: str
) -> float | None:
    """The sum over all runs; `None` where it is not known of each configuration."""
    values = [one[name] for one in planned]
    if any(value is None for value in values):
        return None
    return math.fsum(values[one["configuration"]] for one in schedule)


def _warnings(
    planned: Sequence[Mapping[str, Any]], scatter: float | None, wanted: Wanted
) -> list[dict[str, Any]]:
    found = []

    def warn(code: str, text: str) -> None:
        found.append({"code": code, "text": text, "files": []})

    if wanted.sessions < 2:
        warn(
            "one-session",
            "one session says nothing of another day: its intervals are about that session",
        )
    guessed = sum(one["cv_from"] != "its own repetitions" for one in planned)
    if guessed:
        whose = "was given" if wanted.cv is not None or scatter is None else "is that of the others"
        warn(
            "guessed-scatter",
            f"the CV of {guessed} of {counted(len(planned), 'configuration')} {whose}: plan again "
            "with the first session's profiles",
        )
    if any(one["repetitions_needed"] >= MOST for one in planned):
        warn("out-of-reach", f"more than {MOST} repetitions: ask for less precision")
    return found


def _head(
    profiles: Profiles | None, wanted: Wanted, warnings: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    if profiles is not None:
        return envelope("plan", profiles, wanted.as_json(), warnings)
    now = datetime.now(timezone.utc).replace(microsecond=0, tzinfo=None)
    return {
        "schema": SCHEMA,
        "command": "plan",
        "version": _core.__version__,
        "created": f"{now.isoformat()}Z",
        "inputs": [],
        "skipped": [],
        "settings": wanted.as_json(),
        "warnings": list(warnings),
    }


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def quantity_named(name: str) -> str:
    """A quantity that statistics know.

    Raises:
        ValueError: For another name.
    """
    if name not in NAMES:
        raise ValueError(f"quantity {name!r:.80} is not one of {', '.join(NAMES)}")
    return name


# --- text ---------------------------------------------------------------------

#: Columns of a terminal.
_WIDTH = 80


def lines(result: Mapping[str, Any], rounds: int = 3) -> list[str]:
    """A plan for a person, from the fields of its JSON alone.

    Args:
        result: What `plan` gives.
        rounds: How many rounds of the first session are shown.
    """
    wanted, totals = result["settings"], result["totals"]
    rows = [("workload", "", "configuration", "have", "CV", "needed", "runs", "then")]
    for one in result["configurations"]:
        named = " ".join(part for part in (one["workload"], one["stage"]) if part)
        rows.append(
            (
                named or "-",
                one["architecture"] or "-",
                one["key"],
                str(one["profiled"]),
                f"{percent(one['cv'])}{'' if one['cv_from'] == 'its own repetitions' else ' *'}",
                str(one["repetitions_needed"]),
                f"{wanted['sessions']} x {one['per_session']}",
                f"± {percent(one['precision_expected'])}",
            )
        )
    found = [
        f"{wanted['quantity']} to ± {wanted['precision'] * 100:g} % "
        f"({wanted['confidence'] * 100:g} %), {wanted['sessions']} session"
        f"{'' if wanted['sessions'] == 1 else 's'}, seed {wanted['seed']}",
        "",
        *_table(rows),
    ]
    if any(one["cv_from"] != "its own repetitions" for one in result["configurations"]):
        found.append("* not of its own repetitions")
    found.append("")
    if result["pair"] is not None:
        pair = result["pair"]
        found += _lines(f"A/A pair: {pair['key']}, twice in each round; expect {pair['expect']}")
    found += _lines(f"start {result['start']['policy']}: {result['start']['text']}")
    text = f"in all: {counted(totals['runs'], 'run')}, {totals['recorded']} of them recorded"
    if totals["run_seconds"] is not None:
        text += f", {_duration(totals['run_seconds'])} one after the other"
    if totals["cost_usd"] is not None:
        text += f", {totals['cost_usd']:.3g} USD"
    found += [text, "", "order (all of it with --json):"]
    shown = [
        one
        for one in result["schedule"]
        if one["session"] == 1 and (one["round"] is None or one["round"] <= rounds)
    ]
    begun: dict[tuple[int, int | None], list[str]] = {}
    for one in shown:
        machines = {each["architecture"] for each in result["configurations"]}
        name = one["key"] if len(machines) == 1 else f"{one['key']} {one['architecture']}"
        arm = f" [{one['arm']}]" if one["arm"] else ""
        begun.setdefault((one["session"], one["round"]), []).append(name + arm)
    for (session, round_), names in begun.items():
        what = "not recorded" if round_ is None else f"round {round_}"
        listed = "; ".join(names[:12]) + (
            f"; and {len(names) - 12} more" if len(names) > 12 else ""
        )
        found += _lines(f"session {session}, {what}: {listed}")
    for one in result["warnings"]:
        found += _lines(f"note: {one['text']}")
    return found


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """The configurations; where the workloads' names leave no room, each above its own."""
    right = {3, 4, 5, 6, 7}
    found = fitted(rows, _WIDTH, right, keys=3)
    if max(map(len, found)) <= _WIDTH:
        return found
    found = []
    for name, some in groupby(rows[1:], key=lambda row: row[0]):
        table = [row[1:] for row in (rows[0], *some)]
        found += [*_lines(name), *fitted(table, _WIDTH, {at - 1 for at in right}, keys=2), ""]
    return found[:-1]


def _lines(text: str) -> list[str]:
    first, *rest = wrapped(text, _WIDTH, "  ")
    return [first.strip(), *rest]


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
