"""Makes docs/reference/stats.md of the table of keys.

    python tools/stats_reference.py             compares with docs/reference/stats.md
    python tools/stats_reference.py --write     writes it (`make stats-reference`)

The table is in src/stats/keys.rs; python/lithowatt/cli/_keys.py joins it with the keys that
Python adds, and with the quantities of results. What stands between the tables is here.
"""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path
from textwrap import fill

from generated import compare_or_write

from lithowatt.cli._keys import COLUMNS, COST, LAMBDA, RESULTS, TASK, Row, table
from lithowatt.stats import ESSENTIAL

TOP = Path(__file__).resolve().parent.parent
DOCUMENT = TOP / "docs" / "reference" / "stats.md"

HEAD = """\
<!-- Made by `make stats-reference`: edit src/stats/keys.rs, python/lithowatt/cli/_keys.py or
tools/stats_reference.py instead. -->

# The stats: every key, its unit and its meaning

`lithowatt explain KEY` prints a row of this page, `lithowatt explain 'rapl_*'` several.

A call's energy comes as a flat dict in two forms:

* `meter.reading.flat()` has **plain keys**, everything that the reading knows, and the phases
  that you marked.
* `EnergyMeter.stats()`, `EnergyManager.stop_monitoring()` and Lithops' `future.stats` have the
  **keys in stats**, which begin with `worker_` as all of Lithops' do.

All keys are always there, unless a job of many calls asks for
[smaller stats](../how-to/lithops.md#jobs-of-many-calls): `ENERGY_STATS=compact` leaves keys without
a value out of the stats, `ENERGY_STATS=essential` also all but [some](#the-essential-stats). A
value that could not be had is `None`, and the `_source` of its group begins with `unavailable:` and
the reason. The values are plain numbers, texts, booleans, lists and one dict, so they pass through
JSON unchanged. `energy_schema` counts up when a key changes its meaning.

"Function" is what the window is of: by default the process with all its descendants. "Machine" is
everything that runs on it. "Headline" is `energy_consumption`. J = joules, s = seconds, W =
watts, MiB = 1,048,576 bytes, % = 0 to 100, 1 = no unit.
"""

ESSENTIAL_KEYS = """\
## The essential stats

With `ENERGY_STATS=essential` a call's stats have these keys, where they have a value, beside those
of the task and of Lambda's bill:
"""

FOOT = """\
## In a table or a file

A column may be `None` from the first row to the last (a machine without RAPL). Give such columns
their type when you write Parquet, or a folder of files cannot be read as one: with pandas
`frame.convert_dtypes()` is not enough for a column of `None` alone,
`frame.astype({"rapl_energy_package": "float64"})` is. The type column above gives it: `float` is
`float64`, `str` `string`, `bool` `boolean`, `int` `Int64`.
"""

#: What is to be said of a whole group.
NOTES = {
    "Counters of the whole machine": """\
These joules are the whole machine's, not the function's (`machine_scope`), with all sockets
added. Packages hold cores and uncore; psys, where there is one, holds the packages and is never
added. `hwmon_*` is there where neither powercap nor perf counts packages
([hwmon.md](../how-to/hwmon.md)).
""",
    "GPUs": """\
GPUs are no part of packages and memory, so these joules are in no other key: neither in
`energy_consumption` nor in `energy_machine` nor in `rapl_energy_total`.
[gpu.md](../how-to/gpu.md) explains them.
""",
    "The phases, in `Reading.flat()` only": """\
One each for every phase that you marked. `<name>` is the phase's name: a character that is no
letter, digit or `_` is `_` there, it ends after 64 characters, and of several names that become
the same one the later have `_2`, `_3` … at the end. The energy of the phases `read`, `compute`
and `write` is in the stats, too.
""",
    LAMBDA: "[lambda.md](../how-to/lambda.md) explains them.\n",
    TASK: """\
[lithops.md](../how-to/lithops.md#task-function-cold-start) explains how these windows relate to
each other. The function is inside of the task: never add the two.
""",
    COLUMNS: """\
`FunctionTimes` and profiles are summed over workers, so `perf_*` and `rapl_*` are this call's
share there, and the machine's energies are `machine_*`. [flexecutor.md](../how-to/flexecutor.md)
explains them.
""",
    COST: """\
Those from `energy_j` on are below `per_call`, with `--joules` only.
[cost-and-carbon.md](../how-to/cost-and-carbon.md) explains them.
""",
    RESULTS: """\
Under these names results have statistics over the repetitions of a configuration.
[results.md](results.md) explains them.
""",
}


def reference(rows: tuple[Row, ...]) -> str:
    """The document."""
    parts = [HEAD]
    for group, members in groupby(rows, lambda row: row.group):
        listed = list(members)
        carried = any(row.stats and row.stats != (row.name,) for row in listed)
        titles = ["key", "unit", "type", "meaning", "`None` when"]
        if carried:
            titles.insert(1, "key in stats")
        lines = [_line(titles), "|---" * len(titles) + "|"]
        lines += [_line(_cells(row, carried)) for row in listed]
        parts.append(f"## {group}\n")
        if group in NOTES:
            parts.append(NOTES[group])
        parts.append("\n".join(lines) + "\n")
    names = ", ".join(f"`{name}`" for name in ESSENTIAL)
    parts.append(f"{ESSENTIAL_KEYS}\n{fill(names, 100, break_long_words=False)}\n")
    return "\n".join([*parts, FOOT])


def _cells(row: Row, carried: bool) -> list[str]:
    cells = [f"`{row.name}`", row.unit or "", f"`{row.type}`", row.meaning, row.absent or "never"]
    if carried:
        cells.insert(1, ", ".join(f"`{name}`" for name in row.stats))
    return cells


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def main(argv: list[str] | None = None) -> int:
    """Compares or writes the document."""
    return compare_or_write(DOCUMENT, reference(table()), __doc__.partition("\n")[0], argv)


if __name__ == "__main__":
    sys.exit(main())
