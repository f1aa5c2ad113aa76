"""``lithowatt explain``: what a key of the stats means."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Any

from lithowatt._support.command import FAILED, complain
from lithowatt._support.text import aligned, shortened, terminal_width, wrapped

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from lithowatt.cli._keys import Row


def add_cli(commands: Any) -> None:
    """Adds ``explain`` to the command line."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "explain",
        help="explain a key of the stats: its meaning, its unit, and when it is None",
        description="Unit, type and meaning of a key of the stats, of a profile's column, of the "
        "bill or of the results of lithowatt profile, and when it is None. Without a key: all of "
        "them, by group. Exit code 2 for a key that there is not.",
    )
    parser.add_argument(
        "keys",
        nargs="*",
        metavar="KEY",
        help="plain (energy_low), as in the stats of a call (worker_func_energy_low), or a pattern "
        "('rapl_*')",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(func=explain)


def explain(arguments: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    # The table is joined for those who ask.
    from lithowatt.cli._keys import find, near, table

    rows: dict[Row, None] = {}
    unknown = False
    for key in arguments.keys:
        found = find(key)
        if not found:
            unknown = True
            like = near(key)
            hint = f"did you mean {' or '.join(like)}?" if like else "lithowatt explain lists all"
            complain(f"expected a key of the stats, got {shortened(key)!r}: {hint}")
        rows.update(dict.fromkeys(found))
    listed = tuple(rows) if arguments.keys else table()
    if arguments.json:
        if listed or not unknown:
            print(json.dumps([_plain(row) for row in listed], indent=2))
    elif arguments.keys:
        print("\n\n".join(_one(row) for row in listed), end="\n" if listed else "")
    else:
        print(_all(listed))
    return FAILED if unknown else 0


def _plain(row: Row) -> dict[str, Any]:
    made = row._asdict()
    return {**made, "stats": list(row.stats)}


def _kind(row: Row) -> str:
    return row.type if row.unit in (None, "1") else f"{row.unit}, {row.type}"


def _one(row: Row) -> str:
    text = f"{row.meaning[0].upper()}{row.meaning[1:]}."
    lines = [f"{row.name} ({_kind(row)})", *_wrapped(text)]
    if row.absent:
        lines += _wrapped(f"None when: {row.absent}.")
    if row.stats:
        lines += _wrapped(f"In stats: {', '.join(row.stats)}.")
    return "\n".join([*lines, f"  Group: {row.group}."])


def _wrapped(text: str) -> list[str]:
    return wrapped(text, terminal_width(), "  ")


def _all(rows: Iterable[Row]) -> str:
    rows = list(rows)
    # The unit says more than the type of what has one.
    units = [row.type if row.unit in (None, "1") else row.unit for row in rows]
    taken = max(len(row.name) for row in rows) + max(len(unit or "") for unit in units)
    # The margin, and two blanks between columns.
    room = max(20, terminal_width(120) - taken - 6)
    lines = aligned(
        [
            (row.name, unit or "", textwrap.shorten(row.meaning, room, placeholder=" …"))
            for row, unit in zip(rows, units, strict=True)
        ]
    )
    parts: list[str] = []
    group = None
    for row, line in zip(rows, lines, strict=True):
        if row.group != group:
            group = row.group
            parts += ([""] if parts else []) + [group]
        parts.append(f"  {line}")
    return "\n".join(parts)
