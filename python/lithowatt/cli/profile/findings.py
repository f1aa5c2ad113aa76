"""``lithowatt profile findings``: what profiles show of energy, money, time and their scatter."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from lithowatt._support.text import aligned, fitted, format_number, told_factors, wrapped
from lithowatt.cli.profile._analysis import WIDTH, add_common, basis_line, run, with_interval
from lithowatt.cli.profile._numbers import count, not_negative

#: Option, field of `Assumptions`, metavar, help.
_ASSUMPTIONS = (
    ("--runs-per-month", "runs_per_month", "N", "runs of the stage in a month (default: 1000000)"),
    ("--months", "months", "N", "how long (default: 36)"),
    ("--usd-per-month", "usd_per_month", "USD", "what keeping it costs besides (default: 0)"),
    (
        "--usd-per-kwh",
        "usd_per_kwh",
        "USD",
        "price of electricity, where it is not in the price of a call (default: 0)",
    ),
    ("--gco2e-per-kwh", "gco2e_per_kwh", "G", "what the grid emits (default: that of --region)"),
    ("--pue", "pue", "N", "power usage effectiveness (default: that of the region's provider)"),
    ("--usd-per-tonne", "usd_per_tonne", "USD", "price of a tonne of CO2e (default: 0)"),
)


def add_verb(verbs: Any) -> None:
    """Adds ``findings`` to the verbs of ``lithowatt profile``."""
    parser = verbs.add_parser(
        "findings",
        help="performance per watt, Pareto front, total cost, cold starts, outliers and more",
        description="Analyses of profiles, each with n, 95 % interval and what it assumes: "
        "performance-per-watt, energy-delay-product, pareto-front, efficiency-score, total-cost, "
        "memory-use, phases, cold-starts, outliers, method-agreement, workload-ranking.",
    )
    parser.add_argument(
        "--only", type=_names, default=[], metavar="NAME,...", help="these alone (default: all)"
    )
    parser.add_argument(
        "--top",
        type=count,
        default=5,
        metavar="N",
        help="rows of each stage to show; --json has all (default: 5)",
    )
    add_common(parser)
    given = parser.add_argument_group("assumptions of total-cost")
    for option, field, metavar, text in _ASSUMPTIONS:
        given.add_argument(option, dest=field, type=not_negative, metavar=metavar, help=text)
    parser.set_defaults(func=_findings)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _findings(arguments: argparse.Namespace) -> int:
    from lithowatt.analysis.findings import COLUMNS, findings
    from lithowatt.analysis.findings._context import Assumptions

    fields = {
        field: value
        for _, field, *_ in _ASSUMPTIONS
        if (value := getattr(arguments, field)) is not None
    }
    run(
        arguments,
        lambda profiles, settings: findings(
            profiles, settings, arguments.only, Assumptions(**fields)
        ),
        lambda result: _text(result, arguments.top),
        COLUMNS,
    )
    return 0


# --- text ---------------------------------------------------------------------


def _text(found: Mapping[str, Any], top: int) -> Iterator[str]:
    yield from wrapped(f"{basis_line(found)}; means of runs with 95 % intervals", WIDTH, "")
    for name, finding in found["findings"].items():
        yield from ("", name.upper().replace("-", " "))
        yield from wrapped(finding["definition"], WIDTH, "")
        if finding["reason"] is not None:
            yield from wrapped(f"nothing: {finding['reason']}", WIDTH, "")
        for note in finding["notes"]:
            yield from wrapped(f"- {note}", WIDTH, "")
        yield from _rows(finding, top)
        if finding["modelled"]:
            factors = told_factors(found["modelled_factors"])
            yield f"m: modelled, not measured: {factors},"
            yield "   mostly common to one architecture"
        for text in finding["assumes"][finding["modelled"] :]:
            first, *rest = wrapped(f"assumed: {text}", WIDTH - 2, "  ")
            yield from (first.strip(), *rest)


def _rows(finding: Mapping[str, Any], top: int) -> Iterator[str]:
    keys: Sequence[str] = finding["grouped"]
    for group, some in groupby(finding["rows"], key=lambda row: [row.get(key) for key in keys]):
        rows = list(some)
        yield ""
        count = f": {top} of {len(rows)}" if len(rows) > top else ""
        named = " / ".join(str(one) for one in group if one is not None)
        yield from wrapped(f"{named}{count}", WIDTH, "", "  ")
        yield from _table(rows[:top], finding["columns"])


def _table(rows: Sequence[Mapping[str, Any]], columns: Sequence[Sequence[str]]) -> list[str]:
    place = [
        (title, key)
        for title, key in (("", "architecture"), ("MB", "memory_mb"), ("workers", "workers"))
        if all(isinstance(row.get(key), (str, int, float)) for row in rows) and "key" in rows[0]
    ]
    shown = [
        (title, key)
        for title, key in [*place, *map(tuple, columns)]
        if any(row.get(key) is not None for row in rows)
    ]
    table = [tuple(title for title, _ in shown)]
    table += [tuple(_cell(row.get(key)) for _, key in shown) for row in rows]
    right = [
        at
        for at, (_, key) in enumerate(shown)
        if not any(isinstance(row.get(key), str) for row in rows)
    ]
    # Where the margin is all that is too wide, it is left out.
    indent = "" if max(map(len, aligned(table, right))) > WIDTH - 2 else "  "
    keys = len(place)
    return [f"{indent}{line}".rstrip() for line in fitted(table, WIDTH, right, keys)]


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        if value["value"] is None:
            return "-"
        text = with_interval(value["value"], value.get("ci") or value.get("range"))
        return f"{text} m" if value.get("quality") == "modelled" else text
    if isinstance(value, (list, tuple)):
        return " to ".join(_cell(one) for one in value)
    return format_number(float(f"{value:.4g}")) if isinstance(value, float) else str(value)
