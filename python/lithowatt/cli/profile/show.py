"""``lithowatt profile show``: what a profile holds, on one screen."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lithowatt._support.text import aligned, counted, format_number, printable, wrapped
from lithowatt.cli.profile._inputs import add_group, add_paths

if TYPE_CHECKING:
    from lithowatt.analysis._finding import Finding
    from lithowatt.analysis.selection import Selected
    from lithowatt.profiles._runs import ProfileFile

#: Columns of a terminal, and configurations whose means are shown.
_WIDTH = 80
_MOST_MEANS = 8


def add_verb(verbs: Any) -> None:
    """Adds ``show`` to the verbs of ``lithowatt profile``."""
    show = verbs.add_parser(
        "show",
        help="what a profile holds, on one screen",
        description="Shows what ran, how often each configuration was measured, on which "
        "processors, what is wrong with the data in a line each, and the first means.",
    )
    add_paths(show)
    add_group(show)
    show.set_defaults(func=_show)


def _show(arguments: argparse.Namespace) -> int:
    from lithowatt.analysis.lint import findings
    from lithowatt.analysis.selection import Selection
    from lithowatt.profiles._runs import read_profiles

    profiles = read_profiles(arguments.path, group=arguments.group)
    by_file: dict[int, list[Selected]] = {id(file): [] for file in profiles.files}
    for one in Selection(profiles).all:
        by_file[id(one.file)].append(one)
    found = findings(profiles)
    lines: list[str] = []
    for file in profiles.files:
        own = [one for one in found if (one.file, one.stage) == (file.name, file.stage)]
        lines += [""] * bool(lines)
        lines += _screen(file, by_file[id(file)], own)
    for skipped in profiles.skipped:
        lines += ["", *wrapped(f"skipped {skipped.file}: {skipped.reason}", _WIDTH, "")]
    print("\n".join(map(printable, lines)))
    return 0


def _screen(file: ProfileFile, some: Sequence[Selected], found: Sequence[Finding]) -> list[str]:
    return [
        *_head(file, some),
        *_grid(some),
        *_hardware(some),
        *_means(some),
        *_findings(found, some),
    ]


def _head(file: ProfileFile, some: Sequence[Selected]) -> Iterator[str]:
    from lithowatt.profiles._schema import schema_of

    runs = sum(one.runs.repetitions for one in some)
    used = sum(int(one.used.sum()) for one in some)
    platforms = sorted({one.place.platform.name for one in some if one.place.platform is not None})
    said: set[str] = set()
    for one in some:
        said.update(one.runs.architectures if one.architecture is None else {one.architecture})
    architectures = sorted(said)
    yield file.name
    what = (
        f"{file.workload or 'unknown workload'} / {file.stage}",
        " and ".join(architectures) or "unknown architecture",
        " and ".join(platforms) or "unknown platform",
        schema_of(file),
    )
    yield from wrapped(", ".join(what), _WIDTH, "")
    yield (
        f"{counted(len(some), 'configuration')}, {counted(runs, 'run')} "
        f"({used} count{'s' if used == 1 else ''}), {counted(file.rows, 'call')}; "
        f"sha256 {file.sha256[:12]}"
    )


def _grid(some: Sequence[Selected]) -> Iterator[str]:
    """How many runs of each memory and number of workers count, and of how many."""
    if not some:
        return
    workers = sorted({one.runs.configuration.workers for one in some})
    sizes = sorted({one.runs.configuration[:2] for one in some})
    cells: Counter[tuple[Any, int]] = Counter()
    found: Counter[tuple[Any, int]] = Counter()
    for one in some:
        place = one.runs.configuration[:2], one.runs.configuration.workers
        cells[place] += int(one.used.sum())
        found[place] += one.runs.repetitions

    def cell(size: Any, count: int) -> str:
        place = size, count
        if not found[place]:
            return "." if place not in found else "0"
        used = cells[place]
        return str(used) if used == found[place] else f"{used}/{found[place]}"

    yield ""
    yield "runs by memory and workers (that count / found)"
    several = len({cpu for cpu, _ in sizes}) > 1
    for begin in range(0, len(workers), 14):
        part = workers[begin : begin + 14]
        rows = [("MB", *map(str, part))]
        for size in sizes:
            label = f"{size[1]:g}" + (f", {size[0]:g} CPU" if several else "")
            rows.append((label, *(cell(size, count) for count in part)))
        yield from aligned(rows, right=range(len(part) + 1))


def _hardware(some: Sequence[Selected]) -> Iterator[str]:
    rows: Counter[str] = Counter()
    for one in some:
        rows.update(one.hardware())
    if not rows:
        return
    total = sum(rows.values())
    mix = ", ".join(f"{name} {100 * count / total:.0f} %" for name, count in rows.most_common())
    yield ""
    yield from wrapped(f"processors: {mix}", _WIDTH, "")


def _means(some: Sequence[Selected]) -> Iterator[str]:
    """Means of the runs that count of the first configurations."""
    columns = (
        ("time s", "time_s"),
        ("compute s", "compute_s"),
        ("CPU s", "cpu_seconds_s"),
        ("USD", "cost_usd"),
        (_joules(some[:_MOST_MEANS]), "energy_j"),
    )
    rows: list[Sequence[str]] = []
    for one in some[:_MOST_MEANS]:
        cells = []
        for _, name in columns:
            values = one.sample(name)
            cells.append(format_number(float(values.mean())) if len(values) else "-")
        rows.append((one.runs.configuration.key, str(int(one.used.sum())), *cells))
    if not rows:
        return
    shown = [at for at in range(len(columns)) if any(row[at + 2] != "-" for row in rows)]
    heading = ("configuration", "n", *(columns[at][0] for at in shown))
    table = [heading, *((row[0], row[1], *(row[at + 2] for at in shown)) for row in rows)]
    yield ""
    yield from aligned(table, right=range(1, len(heading)))
    if len(some) > _MOST_MEANS:
        yield f"and {len(some) - _MOST_MEANS} more: lithowatt profile stats"


def _joules(some: Sequence[Selected]) -> str:
    """The heading of the joules: how they were made is part of them."""
    qualities = dict.fromkeys(one.energy_quality() for one in some)
    return f"J, {' or '.join(filter(None, qualities))}" if any(qualities) else "J"


def _findings(found: Sequence[Finding], some: Sequence[Selected]) -> Iterator[str]:
    """What is wrong with the data, a line for each rule."""
    rows: list[Sequence[str]] = []
    by_rule: dict[str, list[Finding]] = {}
    for one in found:
        by_rule.setdefault(one.rule, []).append(one)
    for rule, ones in by_rule.items():
        counts = (
            (len({one.configuration for one in ones if one.configuration}), "configurations"),
            (len({one.column for one in ones if one.column}), "columns"),
            (sum(len(one.repetitions) for one in ones), "runs"),
        )
        about = ", ".join(
            f"{count} {name if count != 1 else name[:-1]}" for count, name in counts if count
        )
        left_out = ", left out" if ones[0].excludes else ""
        rows.append((ones[0].severity, rule, about + left_out))
    unusable = sum(int((~one.runs.usable).sum()) for one in some)
    if unusable:
        rows.append(
            ("note", "unusable", f"{counted(unusable, 'run')}, left out: a value is missing")
        )
    mixed = sum(one.architecture is None and one.mixed for one in some)
    if mixed:
        about = f"{counted(mixed, 'configuration')} on arm64 and x86_64"
        rows.append(("warning", "mixed-architectures", about))
    if rows:
        yield ""
        yield from aligned(rows)
