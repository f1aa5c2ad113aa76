#!/usr/bin/env python3
"""Makes a trace of a table of energies, for `lithowatt replay`.

`trace_of_csv.py TABLE.csv -o FILE --cpu NAME --cpus N COLUMN=DOMAIN:PACKAGE ...`: a row of the
table is a moment; a column is what one counter gained since the row before (with --totals: what
it showed).
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path
from typing import Any

from lithowatt.trace import Counter, of_counters

DOMAINS = ("package", "core", "uncore", "dram", "psys")


def main() -> int:
    """Writes the trace; returns the exit code."""
    arguments = parsed()
    with Path(arguments.table).open(newline="") as file:
        table = [row for row in csv.DictReader(file) if matches(row, arguments.where)]
    if len(table) < 2:
        print(f"{arguments.table}: {len(table)} rows match; expected two or more", file=sys.stderr)
        return 1
    counters = [
        Counter(
            f"package-{package}" if domain == "package" else domain,
            domain,
            package,
            unit_joules=arguments.unit,
        )
        for _, domain, package in arguments.columns
    ]
    totals = [0.0] * len(counters)
    rows: list[tuple[int, list[int | None]]] = []
    if not arguments.totals:
        rows.append((0, [0] * len(counters)))
    for row in table:
        for place, (column, _, _) in enumerate(arguments.columns):
            value = float(row[column])
            totals[place] = value if arguments.totals else totals[place] + value
        time_ns = round(float(row[arguments.time]) * arguments.scale * 1e9)
        counts = [round(value * arguments.joules / arguments.unit) for value in totals]
        rows.append((time_ns, [*counts]))
    content = of_counters(
        counters,
        rows,
        cpu=arguments.cpu,
        cpus=arguments.cpus,
        sockets=1 + max(package for _, _, package in arguments.columns),
        memory_gib=arguments.memory_gib,
    )
    Path(arguments.output).write_bytes(content)
    print(f"{arguments.output}: {len(content)} bytes, {len(rows)} rows")
    return 0


def matches(row: dict[str, str], where: list[tuple[str, str]]) -> bool:
    """Whether a row has these values."""
    return all(row.get(column) == value for column, value in where)


def column_of(text: str) -> tuple[str, str, int]:
    """A column with the domain and package that it is of."""
    column, _, what = text.rpartition("=")
    domain, _, package = what.partition(":")
    if not column or domain not in DOMAINS or not package.isdigit():
        raise argparse.ArgumentTypeError(
            f"{text!r}; expected COLUMN=DOMAIN:PACKAGE with a domain of {', '.join(DOMAINS)}"
        )
    return column, domain, int(package)


def condition_of(text: str) -> tuple[str, str]:
    """A column with the value that it must have."""
    column, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r}; expected COLUMN=VALUE")
    return column, value


def parsed() -> Any:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("table", help="the table, with a line of names")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the trace")
    parser.add_argument("--time", default="t_us", metavar="COLUMN", help="(%(default)s)")
    parser.add_argument("--scale", type=float, default=1e-6, metavar="S", help="s per unit of time")
    parser.add_argument("--joules", type=float, default=1e-6, metavar="J", help="J per unit")
    parser.add_argument("--unit", type=float, default=1e-6, metavar="J", help="J per count")
    parser.add_argument("--totals", action="store_true", help="columns are totals, not differences")
    parser.add_argument(
        "--where", type=condition_of, action="append", default=[], metavar="COLUMN=VALUE"
    )
    parser.add_argument("--cpu", required=True, metavar="NAME", help="as in /proc/cpuinfo")
    parser.add_argument("--cpus", type=int, required=True, metavar="N", help="logical CPUs")
    parser.add_argument("--memory-gib", type=float, metavar="GIB")
    parser.add_argument(
        "columns", type=column_of, nargs="+", metavar="COLUMN=DOMAIN:PACKAGE", help="a counter each"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
