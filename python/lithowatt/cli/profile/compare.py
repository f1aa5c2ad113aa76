"""``lithowatt profile compare``: ratios of configurations, with what they are worth."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from lithowatt._support.text import (
    aligned,
    counted,
    few,
    shortened,
    three_digits,
    told_factors,
    wrapped,
)
from lithowatt.cli.profile._analysis import WIDTH, add_common, basis_line, run
from lithowatt.cli.profile._numbers import positive, ratio

#: Fewer cells than this are shown without being asked for.
_FEW_CELLS = 13


def add_verb(verbs: Any) -> None:
    """Adds ``compare`` to the verbs of ``lithowatt profile``."""
    parser = verbs.add_parser(
        "compare",
        help="ratios between architectures, memories, workers, processors or folders",
        description="Compares configurations that are equal in all but one thing: a / b with its "
        "95 % interval, and a verdict about a relative to b. Exit code 1: --fail-if-worse found "
        "something. To run one workload on several backends: lithowatt compare --workload.",
    )
    add_options(parser)


def add_options(parser: argparse.ArgumentParser, *, least: int = 1) -> None:
    """All options; `least` is 0 where a command can do without a PATH."""
    add_common(parser, least=least)
    parser.add_argument(
        "--by",
        default="architecture",
        metavar="WHAT",
        help="architecture, memory, workers, cpu_name, backend, file (each PATH is a side), or "
        "label=A:B "
        "(a part of the path: label=before:after) (default: %(default)s)",
    )
    parser.add_argument(
        "--quantity",
        action="append",
        metavar="NAME",
        help="as stats names it, e.g. time_s, cost_usd, energy_j; may be repeated (default: times, "
        "CPU seconds, dollars, and joules where any were measured)",
    )
    parser.add_argument(
        "--margin",
        type=ratio,
        default=0.05,
        metavar="PART",
        help="what is equivalent: ratios from 1 - PART to 1 / (1 - PART) (default: %(default)s)",
    )
    parser.add_argument(
        "--fail-if-worse",
        type=_percent,
        metavar="PERCENT",
        help="exit code 1 where b takes more than PERCENT more than a, and that is no chance: "
        "compare --by file BEFORE AFTER --fail-if-worse 5",
    )
    parser.add_argument(
        "--watts",
        type=_watts,
        metavar="A:B",
        help="W of a busy vCPU of a and b, to see how much of a difference in joules they are "
        "(default: the power model's)",
    )
    parser.add_argument(
        "--cells", action="store_true", help="as text: each pair of configurations, too"
    )
    parser.set_defaults(func=compare_profiles)


def _percent(text: str) -> float:
    return positive(text.removesuffix("%").strip()) / 100


def _watts(text: str) -> tuple[float, float]:
    a, colon, b = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError(f"{text!r} is not like 100:166")
    return positive(a), positive(b)


def compare_profiles(arguments: argparse.Namespace) -> int:
    """Compares the profiles that the arguments name; the exit code."""
    from lithowatt.analysis.comparison import compare

    found = run(
        arguments,
        lambda profiles, settings: compare(
            profiles,
            arguments.by,
            settings,
            quantities=arguments.quantity,
            paths=arguments.path,
            watts=arguments.watts,
            fail_if_worse=arguments.fail_if_worse,
        ),
        lambda found: _text(found, arguments.cells),
    )
    return 1 if found["worse"] else 0


def _text(found: Mapping[str, Any], cells: bool) -> Iterator[str]:
    margin = found["settings"]["margin"]
    head = (
        f"{basis_line(found)}; a against b, ratios a / b with 95 % intervals; equivalent: within "
        f"{margin * 100:g} %; differ: pairs with Holm's p below 0.05"
    )
    yield from wrapped(head, WIDTH, "")
    unlike = " ".join(one["text"] for one in found["warnings"] if one["code"] == "unlike")
    if "workload is " in unlike or "stage is " in unlike:
        yield ""
        yield from wrapped(
            "The sides have other names for what ran (see the note below): unless they are two "
            "versions of one workload, no verdict here means anything.",
            WIDTH,
            "",
        )
    if not found["overall"]:
        yield ""
        yield "nothing to compare: no two configurations are equal in all but that"
    for stage, rows in groupby(found["overall"], key=_stage):
        some = list(rows)
        yield ""
        yield from wrapped(_title(some[0]), WIDTH, "")
        modelled = next((row for row in found["modelled"] if _stage(row) == stage), None)
        own = [row for row in found["cells"] if _stage(row) == stage]
        yield from _overall(some, own)
        yield from _modelled_lines(modelled)
        yield from _strata([row for row in found["by_cpu"] if _stage(row) == stage])
        yield from _watts_lines(
            [row for row in found["sensitivity"] if _stage(row, False) == _stage(some[0], False)]
        )
        if cells or len(own) < _FEW_CELLS:
            yield from _cells(own, modelled)
    if found["unmatched"]:
        yield ""
        yield from _unmatched(found["unmatched"])
    yield from _worse(found)


def _stage(row: Mapping[str, Any], architecture: bool = True) -> tuple[Any, ...]:
    return (
        row["workload"],
        row["stage"],
        row["architecture"] if architecture else None,
        row["a"]["label"],
        row["b"]["label"],
    )


def _title(row: Mapping[str, Any]) -> str:
    names = " / ".join(one for one in (row["workload"], row["stage"]) if one)
    where = f", {row['architecture']}" if row["architecture"] else ""
    sides = f"{row['a']['label']} against {row['b']['label']}"
    return f"{names}{where}: {sides}" if names or where else sides


def _overall(rows: Sequence[Mapping[str, Any]], cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """Verdict words first; a line for each memory where there are several.

    A line of one pair says what the pair says, its interval as well.
    """
    table = [("verdict", "quantity", "MB", "ratio", "", "pairs", "differ")]
    memories = {row["memory_mb"] for row in rows} - {None}
    for row in sorted(rows, key=lambda row: _order(row["quantity"])):
        if row["memory_mb"] is not None and len(memories) < 2:
            continue
        table.append(
            (
                row["verdict"],
                row["quantity"],
                "all" if row["memory_mb"] is None else f"{row['memory_mb']:g}",
                *_ratio(_only(row, cells) if row["configurations"] == 1 else row),
                str(row["configurations"]),
                str(row["holm_significant"]),
            )
        )
        if "same_input" in row:
            table.append(("", "  same input", "", *_ratio(row["same_input"]), "", ""))
    return aligned(table, right=(2, 3, 5, 6))


def _only(row: Mapping[str, Any], cells: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The only pair of a line."""
    some = (cell for cell in cells if cell["quantity"] == row["quantity"] and cell["ratio"])
    return next(cell for cell in some if row["memory_mb"] in (None, cell["memory_mb"]))


#: What is asked for first.
_FIRST = (
    "time_s",
    "compute_s",
    "worker_time_s",
    "worker_seconds_s",
    "cpu_seconds_s",
    "cost_usd",
    "energy_j",
)


def _order(quantity: str) -> tuple[int, str]:
    return _FIRST.index(quantity) if quantity in _FIRST else len(_FIRST), quantity


def _ratio(row: Mapping[str, Any]) -> tuple[str, str]:
    value, interval = row["ratio"], row["ratio_ci"]
    return (
        "unknown" if value is None else f"× {value:.3f}",
        "" if interval is None else f"[{interval[0]:.3f}, {interval[1]:.3f}]",
    )


def _strata(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    names = {row["cpu_name"] for row in rows}
    if len(names) < 2:
        return
    yield f"by_cpu: compute_s by the processor of {rows[0]['b']['label']}:"
    table = [
        (f"  {shortened(row['cpu_name'], 44)}", *_ratio(row), str(row["configurations"]))
        for row in rows
    ]
    yield from aligned(table, right=(1, 3))


def _watts_lines(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for row in rows:
        a, b = row["a"]["label"], row["b"]["label"]
        assumed = row["assumed"]
        share = row["share_from_watts"]
        text = (
            f"CPU seconds times W of a busy vCPU: {a} takes less while its W are below "
            f"{row['break_even_watts']:.2f} of {b}'s. With {_three(assumed['a_w'])} "
            f"and {_three(assumed['b_w'])} W, which are assumed, it is "
            f"× {row['energy_ratio']:.2f}"
        )
        if share is not None:
            text += f"; {share * 100:.0f} % of that are the watts"
        text += ". energy_j has a ratio of its own: --quantity energy_j"
        yield from wrapped(text, WIDTH, "")


def _modelled_lines(row: Mapping[str, Any] | None) -> Iterator[str]:
    """What a ratio of joules that nobody measured rests on."""
    if row is None:
        return
    text = f"energy_j is modelled ({told_factors(row['factors'])}, mostly common to a side)"
    if row["cpu_seconds_ratio"] is not None:
        text += f": by CPU seconds alone the ratio is × {row['cpu_seconds_ratio']:.3f}"
        if row["share_from_watts"] is not None:
            text += f"; {_part(row['share_from_watts'])} the model's watts, which nobody measured"
    yield from wrapped(text, WIDTH, "")


def _part(share: float) -> str:
    """Which part of a ratio something is, on a log scale."""
    if share > 1:  # the seconds go the other way
        return "more than all of the difference is"
    return "none of it is" if share <= 0 else f"{share * 100:.0f} % of the difference is"


def _cells(rows: Sequence[Mapping[str, Any]], modelled: Mapping[str, Any] | None) -> Iterator[str]:
    """A table for each quantity."""
    quantities = sorted({row["quantity"] for row in rows}, key=_order)
    for quantity in quantities:
        yield ""
        of = ""
        if quantity == "energy_j" and modelled is not None:
            of = f", J, modelled, {told_factors(modelled['factors'])}"
        yield from wrapped(f"{quantity}{of} (w: workers; p: Holm's)", WIDTH, "")
        yield from _table([row for row in rows if row["quantity"] == quantity])


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    table = [("verdict", "MB", "w", "a", "b", "n", "ratio", "", "p")]
    for row in rows:
        p = row["welch"]["p_holm"]
        a, b = row["a"], row["b"]
        table.append(
            (
                row["verdict"],
                "" if row["memory_mb"] is None else f"{row['memory_mb']:g}",
                "" if row["workers"] is None else str(row["workers"]),
                _three(a["mean"]),
                _three(b["mean"]),
                f"{a['n']}/{b['n']}",
                *_ratio(row),
                "" if p is None else f"{p:.1g}",
            )
        )
        if "same_input" in row:
            ratio_, interval = _ratio(row["same_input"])
            table.append(("  same input", "", "", "", "", "", ratio_, interval, ""))
    # What no line has is no column.
    kept = [at for at in range(len(table[0])) if any(line[at] for line in table[1:])]
    lines = [[line[at] for at in kept] for line in table]
    return aligned(lines, right=[place for place, at in enumerate(kept) if at not in (0, 7)])


def _three(value: float | None) -> str:
    """Three digits; of a mean that is too large for a number, `–`."""
    return "–" if value is None else three_digits(value)


def _unmatched(rows: Sequence[Mapping[str, str]]) -> Iterator[str]:
    by_reason: dict[str, list[str]] = {}
    for row in rows:
        by_reason.setdefault(row["reason"], []).append(f"{row['file']} {row['key']}")
    for reason, names in by_reason.items():
        told = few(names, 2, "; ")
        yield from wrapped(f"without a partner, since {reason}: {told}", WIDTH, "")


def _worse(found: Mapping[str, Any]) -> Iterator[str]:
    """What `--fail-if-worse` found; of modelled joules, that they are."""
    most = found["settings"]["fail_if_worse"]
    if most is None:
        return
    yield ""
    if not found["worse"]:
        yield f"nowhere does b take more than {most * 100:g} % more than a beyond chance"
    for row in found["worse"]:
        place = ", ".join(
            one
            for one in (
                " / ".join(name for name in (row["workload"], row["stage"]) if name),
                row["architecture"],
                None if row["memory_mb"] is None else f"{row['memory_mb']:g} MB",
                None if row["workers"] is None else counted(row["workers"], "worker"),
            )
            if one
        )
        text = (
            f"worse: {row['quantity']} of {row['b']['label']} is × {row['b_over_a']:.3f} that of "
            f"{row['a']['label']} ({place or 'all'})"
        )
        told = (one for one in found["modelled"] if _stage(one) == _stage(row))
        if row["quantity"] == "energy_j" and (modelled := next(told, None)) is not None:
            share = modelled["share_from_watts"]
            text += ": modelled"
            if share is not None:
                text += f"; {_part(share)} the model's watts"
        yield from wrapped(
            text,
            WIDTH,
            "",
        )
