"""Compares results of a bench, by figure.

    python tools/bench_compare.py --before a.json [a2.json …] --after b.json [b2.json …]
    make bench-compare BEFORE=a.json AFTER="b.json b2.json"

Prints before, after, their ratio and how far noise alone may move the ratio. `more` and `less` are
beyond it, by a level at which one table in twenty has any such word where nothing has changed,
whatever its length. Of several files of a side, the noise holds what the runs differ by.
Results of different machines are refused, unless `--other-machine` is given.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

TOP = Path(__file__).resolve().parent.parent

#: What makes a machine another one; its load does not.
MACHINE = ("cpu", "cpus", "memory_gib", "kernel", "python")

#: How often a table without any change may show one.
LEVEL = 0.05

#: Half of a 95 % interval in standard errors.
HALF = statistics.NormalDist().inv_cdf(0.975)


def _results() -> ModuleType:
    """The module that writes and reads results; it lies with the benches."""
    path = TOP / "benches" / "python" / "results.py"
    spec = importlib.util.spec_from_file_location("bench_results", path)
    assert spec is not None and spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where a dataclass looks for its module
    spec.loader.exec_module(module)
    return module


results = _results()


class Side(NamedTuple):
    """A figure before or after."""

    value: float
    error: float | None
    """Standard error; `None` where nothing tells the noise."""


class Row(NamedTuple):
    """A figure of both sides."""

    name: str
    unit: str
    before: Side
    after: Side
    ratio: float | None
    noise: float | None
    """The ratio may be off by that much without a change; of the difference, in the unit, where
    there is no ratio."""
    verdict: str


def side(figures: Sequence[Any]) -> Side:
    """One figure of the runs of a side: the mean of its values."""
    values = [one.value for one in figures]
    value = statistics.fmean(values)
    within = [one.spread / HALF for one in figures if one.spread is not None]
    error = None
    if within:
        error = math.sqrt(statistics.fmean(one * one for one in within) / len(values))
    if len(values) > 1:
        between = statistics.stdev(values) / math.sqrt(len(values))
        error = between if error is None else max(error, between)
    return Side(value, error)


def compare(before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]]) -> list[Row]:
    """The figures that every file has, in the order of the first."""
    tables = [{one.name: one for one in run["figures"]} for run in (*before, *after)]
    shared = [name for name in tables[0] if all(name in table for table in tables)]
    sides = []
    for name in shared:
        of_name = [table[name] for table in tables]
        sides.append((side(of_name[: len(before)]), side(of_name[len(before) :])))
    judged = sum(a.error is not None and b.error is not None for a, b in sides)
    # Bonferroni: the level is of the table, so each figure's is that much stricter.
    z = statistics.NormalDist().inv_cdf(1 - LEVEL / 2 / max(judged, 1))
    return [_row(tables[0][name], *pair, z) for name, pair in zip(shared, sides, strict=True)]


def _row(figure: Any, before: Side, after: Side, z: float) -> Row:
    ratio = after.value / before.value if before.value > 0 and after.value > 0 else None
    if before.error is None or after.error is None:
        return Row(figure.name, figure.unit, before, after, ratio, None, "?")
    error = math.hypot(before.error, after.error)
    difference = after.value - before.value
    verdict = "" if abs(difference) <= z * error else "more" if difference > 0 else "less"
    noise = z * error if ratio is None else z * error / before.value
    return Row(figure.name, figure.unit, before, after, ratio, noise, verdict)


def differences(runs: Iterable[dict[str, Any]]) -> list[str]:
    """What differs between the machines of some runs, a line each."""
    every = [run.get("machine") or {} for run in runs]
    found = []
    for key in MACHINE:
        values = list(dict.fromkeys(str(one.get(key)) for one in every))
        if len(values) > 1:
            found.append(f"{key}: {', '.join(values)}")
    return found


def number(value: float) -> str:
    """Three significant digits, plainly written."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}"


def table(rows: Sequence[Row]) -> list[str]:
    """Lines of text."""
    cells = [["", "before", "after", "", "ratio", "noise ±", ""]]
    for row in rows:
        noise = "–" if row.noise is None else number(row.noise)
        if row.ratio is None and row.noise is not None:
            noise = f"{noise} {row.unit}"
        cells.append(
            [
                row.name,
                number(row.before.value),
                number(row.after.value),
                row.unit,
                "–" if row.ratio is None else f"{row.ratio:.3f}",
                noise,
                row.verdict,
            ]
        )
    widths = [max(len(line[at]) for line in cells) for at in range(len(cells[0]))]
    left = (0, 3, 6)
    return [
        "  ".join(
            cell.ljust(width) if at in left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the comparison; 2 where there is none to make."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--before", nargs="+", type=Path, required=True, metavar="FILE")
    parser.add_argument("--after", nargs="+", type=Path, required=True, metavar="FILE")
    parser.add_argument(
        "--other-machine", action="store_true", help="compare though the machines differ"
    )
    options = parser.parse_args(argv)
    try:
        before = [results.read(path) for path in options.before]
        after = [results.read(path) for path in options.after]
    except (OSError, ValueError) as error:
        return _refused(str(error))
    runs = [*before, *after]
    benches = sorted({str(run.get("bench")) for run in runs})
    if len(benches) > 1:
        return _refused(f"these are of different benches: {', '.join(benches)}")
    other = differences(runs)
    if other and not options.other_machine:
        return _refused(
            "these are of different machines, so that ratios tell nothing about the code "
            "(--other-machine compares them all the same):\n  " + "\n  ".join(other)
        )
    rows = compare(before, after)
    if not rows:
        return _refused("there is no figure that all of these files have")
    print(benches[0])
    for name, side_runs in (("before", before), ("after", after)):
        for run in side_runs:
            load = (run.get("machine") or {}).get("load") or ["?"]
            print(f"{name:<7} {run.get('commit')}  {run.get('date')}  load {load[0]}")
    for line in other:
        print(f"another machine, {line}")
    if any(run.get("options") != runs[0].get("options") for run in runs):
        print("the options of these runs differ")
    print()
    print("\n".join(table(rows)))
    print()
    print(_sentence(rows))
    names = {one.name for run in runs for one in run["figures"]}
    if len(names) > len(rows):
        print(f"{len(names) - len(rows)} figures are not in all of the files")
    return 0


def _sentence(rows: Sequence[Row]) -> str:
    beyond = sum(row.verdict in ("more", "less") for row in rows)
    unknown = sum(row.verdict == "?" for row in rows)
    text = f"{beyond} of {len(rows)} figures changed by more than the noise"
    return text + (f"; of {unknown} (?) the noise is unknown" if unknown else "")


def _refused(why: str) -> int:
    print(f"bench-compare: {why}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
