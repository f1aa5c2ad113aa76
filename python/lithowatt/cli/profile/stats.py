"""``lithowatt profile stats``: means, intervals and spread of each configuration."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from lithowatt._support.text import aligned, counted, format_number, wrapped
from lithowatt.cli.profile._analysis import WIDTH, add_common, basis_line, measured, run


def add_verb(verbs: Any) -> None:
    """Adds ``stats`` to the verbs of ``lithowatt profile``."""
    parser = verbs.add_parser(
        "stats",
        help="means and intervals of each configuration",
        description="What the repetitions of each configuration say: means with 95 % intervals "
        "(Student's t and, from five repetitions, the bootstrap-t), spread and tails of times, CPU "
        "seconds, dollars and joules. Nothing is left out but what --basis names.",
    )
    add_common(parser)
    parser.set_defaults(func=_stats)


def _stats(arguments: argparse.Namespace) -> int:
    from lithowatt.analysis.statistics import stats

    run(
        arguments,
        lambda profiles, settings: stats(profiles, settings, bootstrap=arguments.json),
        _text,
    )
    return 0


def _text(found: Mapping[str, Any]) -> Iterator[str]:
    yield from wrapped(f"{basis_line(found)}; means of runs with 95 % intervals", WIDTH, "")
    by_file = groupby(found["configurations"], key=lambda one: (one["file"], one["stage"]))
    for (file, stage), rows in by_file:
        some = list(rows)
        yield ""
        yield from wrapped(", ".join(_title(file, stage, some)), WIDTH, "")
        yield from _table(some)
        yield from _notes(some)
    if found["merged"]:
        yield ""
        yield "configurations that ran alike, whatever was asked for"
        yield from _merged(found["merged"])
    for one in found["failures"]:
        known = one["energy_j"] if one["energy_j"] is not None else one["energy_known_j"]
        joules = "unknown joules" if known is None else f"{format_number(known)} J"
        least = "at least " if one["energy_j"] is None and known is not None else ""
        yield ""
        yield (
            f"failed: {counted(one['runs'], 'run')} of {one['file']} {one['key'] or one['stage']}, "
            f"{counted(one['calls'], 'call')}, {least}{joules}, which is in no mean above"
        )


def _title(file: str, stage: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield f"{file}: {rows[0]['workload']} / {stage}"
    for name, unit in (("architecture", ""), ("memory_mb", " MB")):
        values = dict.fromkeys(row[name] for row in rows)
        yield " and ".join("unknown" if one is None else f"{one}{unit}" for one in values)


#: Title, metric, factor.
_COLUMNS = (
    ("time s", "time_s", 1),
    ("compute s", "compute_s", 1),
    ("CPU s", "cpu_seconds_s", 1),
    ("USD/1000", "cost_usd", 1000),
    ("J", "energy_j", 1),
)


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    metrics = [row["metrics"] for row in rows]
    columns = _known(metrics)
    several = len({row["memory_mb"] for row in rows}) > 1
    table = [("MB", "workers", "n", *(title for title, *_ in columns))]
    for row, metric in zip(rows, metrics, strict=True):
        actual = row["workers_actual"]
        ran = "" if actual in ([], [row["workers_requested"]]) else f" ({_listed(actual)} ran)"
        table.append(
            (
                f"{row['memory_mb']:g}",
                f"{row['workers_requested']}{ran}",
                str(row["repetitions"]["used"]),
                *(measured(metric[name], scale) for _, name, scale in columns),
            )
        )
    cut = 0 if several or len(rows) == 1 else 1
    return aligned([line[cut:] for line in table], right=range(len(table[0]) - cut))


def _known(metrics: Iterable[Mapping[str, Any]]) -> list[tuple[str, str, float]]:
    """The columns of which some configuration has a value; as many as fit."""
    some = list(metrics)
    return [
        (title, name, scale)
        for title, name, scale in _COLUMNS
        if any(metric[name] is not None and metric[name]["n"] for metric in some)
        and not _modelled(some, name)
    ]


def _modelled(metrics: Iterable[Mapping[str, Any]], name: str) -> bool:
    """Modelled joules follow from seconds and CPU seconds, and are in the JSON."""
    return name == "energy_j" and all(
        metric[name] is None or metric[name]["quality"] == "modelled" for metric in metrics
    )


def _merged(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    columns = _known([row["metrics"] for row in rows])[:3]
    table = [("", "MB", "ran", "asked for", "n", *(title for title, *_ in columns))]
    for row in rows:
        table.append(
            (
                f"{row['workload']} / {row['stage']} {row['architecture'] or ''}",
                f"{row['memory_mb']:g}",
                str(row["workers_actual"]),
                _listed(row["workers_requested"]),
                str(row["repetitions"]["used"]),
                *(measured(row["metrics"][name], scale) for _, name, scale in columns),
            )
        )
    return aligned(table, right=range(1, len(table[0])))


def _notes(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    left: dict[str, int] = {}
    for row in rows:
        for rule, repetitions in row["repetitions"]["left_out"].items():
            left[rule] = left.get(rule, 0) + len(repetitions)
    unusable = sum(row["repetitions"]["found"] - row["repetitions"]["usable"] for row in rows)
    if unusable:
        left["not usable"] = unusable
    if left:
        yield f"left out: {', '.join(f'{count} {rule}' for rule, count in left.items())}"
    mixed: dict[str, int] = {}
    for row in rows:
        for name, count in row["hardware"].items():
            mixed[name] = mixed.get(name, 0) + count
    if len(mixed) > 1:
        total = sum(mixed.values())
        parts = (f"{name} {count / total * 100:.0f} %" for name, count in mixed.items())
        yield from wrapped(f"calls on {', '.join(parts)}", WIDTH, "")
    worst = max(
        (
            (metric["max"] / metric["median"], row)
            for row in rows
            if (metric := row["metrics"]["time_s"]) is not None and metric["n"] and metric["median"]
        ),
        key=lambda one: one[0],
        default=None,
    )
    if worst is not None and worst[0] > 1.5:
        metric = worst[1]["metrics"]["time_s"]
        yield (
            f"slowest: {format_number(round(metric['max'], 2))} s of {counted(metric['n'], 'run')} "
            f"with {counted(worst[1]['workers_requested'], 'worker')}, "
            f"{worst[0]:.1f} times the median"
        )


def _listed(numbers: Sequence[int]) -> str:
    """`1, 2, 4`, or `1 to 28` where there are many."""
    if len(numbers) > 4:
        return f"{min(numbers)} to {max(numbers)}"
    return ", ".join(map(str, numbers))
