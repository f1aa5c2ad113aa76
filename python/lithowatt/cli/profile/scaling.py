"""``lithowatt profile scaling``: how times follow the number of workers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from lithowatt._support.text import aligned, percent, three_digits, wrapped
from lithowatt.cli.profile._analysis import WIDTH, add_common, basis_line, run
from lithowatt.cli.profile._numbers import positive


def add_verb(verbs: Any) -> None:
    """Adds ``scaling`` to the verbs of ``lithowatt profile``."""
    parser = verbs.add_parser(
        "scaling",
        help="strong or weak scaling, speed-up, Amdahl's law and the USL",
        description="Says first whether the workers divide one piece of work or each do their own, "
        "by how CPU seconds grow; then speed-up, efficiency and, where work is divided, Amdahl's "
        "law and the Universal Scalability Law: with how many workers it is fastest, and from "
        "where on more of them save little.",
    )
    add_common(parser)
    parser.add_argument(
        "--work-per-run",
        type=_work,
        metavar="N|worker",
        help="units of work that a run does (e.g. its megabytes), or worker where each worker does "
        "one: seconds, dollars, joules and CO2e are then given for a unit, too",
    )
    parser.set_defaults(func=_scaling)


def _work(text: str) -> float | str:
    return text if text == "worker" else positive(text)


def _scaling(arguments: argparse.Namespace) -> int:
    from lithowatt.analysis.scaling import scaling

    run(
        arguments,
        lambda profiles, settings: scaling(profiles, settings, work_per_run=arguments.work_per_run),
        _text,
    )
    return 0


def _text(found: Mapping[str, Any]) -> Iterator[str]:
    yield from wrapped(f"{basis_line(found)}; speed-up against the fewest workers", WIDTH, "")
    for place, rows in groupby(found["scaling"], key=_place):
        some = list(rows)
        yield ""
        yield from wrapped(f"{_kind(some[0])} {_title(some[0])}", WIDTH, "")
        if some[0]["reason"]:
            yield from wrapped(some[0]["reason"], WIDTH, "")
        yield from _points(some)
        for row in some:
            yield from _laws(row)
        yield from _per_unit([row for row in found["per_unit"] if _place(row) == place])


def _place(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("file", "stage", "cpu", "memory_mb", "architecture"))


def _title(row: Mapping[str, Any]) -> str:
    exponent = row["exponent"]
    grows = ""
    if exponent is not None:
        ends = exponent["ci"]
        between = "" if ends is None else f" [{ends[0]:.2f}, {ends[1]:.2f}]"
        grows = f": CPU seconds ~ workers^{exponent['value']:.2f}{between}"
    where = f"{row['architecture'] or 'unknown'}, {row['memory_mb']:g} MB"
    return f"{row['file']} ({row['workload']} / {row['stage']}, {where}){grows}"


def _kind(row: Mapping[str, Any]) -> str:
    return row["kind"] or "unknown"


def _points(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    by_workers: dict[int, dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        for point in row["points"]:
            by_workers.setdefault(point["workers"], {})[row["quantity"]] = point
    if not by_workers:
        return []
    names = [row["quantity"] for row in rows]
    table = [("workers", "n", *(part for name in names for part in (name, "speed-up", "eff.")))]
    for workers, points in by_workers.items():
        cells = []
        for name in names:
            point = points.get(name)
            if point is None:
                cells += ["", "", ""]
                continue
            cells += [
                "–" if point["mean"] is None else three_digits(point["mean"]),
                "" if point["speedup"] is None else f"{point['speedup']:.2f}",
                "" if point["efficiency"] is None else f"{point['efficiency'] * 100:.0f} %",
            ]
        table.append((str(workers), str(max(one["n"] for one in points.values())), *cells))
    return aligned(table, right=range(len(table[0])))


def _laws(row: Mapping[str, Any]) -> Iterator[str]:
    amdahl, usl = row["amdahl"], row["usl"]
    if amdahl is not None:
        yield from wrapped(_amdahl(row["quantity"], amdahl), WIDTH, "")
    if usl is not None:
        yield from wrapped(_usl(row, usl), WIDTH, "")


def _amdahl(quantity: str, law: Mapping[str, Any]) -> str:
    alone = three_digits(law["t1_s"])
    part = law["serial_fraction"]
    serial = "" if part is None else f", {percent(part)} of it serial"
    return (
        f"{quantity}: Amdahl: {alone} s with one worker{serial} "
        f"(errors {law['rms_relative_error'] * 100:.1g} %)"
    )


def _usl(row: Mapping[str, Any], law: Mapping[str, float]) -> str:
    fastest, diminishing = row["fastest_workers"], row["diminishing_workers"]
    most = max(point["workers"] for point in row["points"])
    told = []
    if fastest is None:
        told.append("no number of workers is fastest: more are always faster in this law")
    else:
        beyond = f", beyond the {most} that were profiled" if fastest > most else ""
        told.append(f"fastest with {fastest:.1f} workers{beyond}")
    if diminishing is not None:
        told.append(f"from {diminishing} on, twice the workers save less than 30 %")
    return (
        f"{row['quantity']}: USL: {'; '.join(told)} "
        f"(errors {law['rms_relative_error'] * 100:.1g} %)"
    )


def _per_unit(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    if not rows:
        return []
    names = (
        ("s", "time_s", 1),
        ("CPU s", "cpu_seconds_s", 1),
        ("USD/1000", "cost_usd", 1000),
        ("J", "energy_j", 1),
        ("mg CO2e", "carbon_g", 1000),
    )
    kept = [one for one in names if any(row[one[1]] is not None for row in rows)]
    table = [("a unit of work:", "workers", "units", *(title for title, *_ in kept))]
    for row in rows:
        table.append(
            (
                "",
                str(row["workers"]),
                f"{row['units']:g}",
                *(
                    "" if row[name] is None else three_digits(row[name] * scale)
                    for _, name, scale in kept
                ),
            )
        )
    quality = {row["energy_quality"] for row in rows} - {None}
    return [
        *aligned(table, right=range(1, len(table[0]))),
        *([f"joules are {' and '.join(sorted(quality))}"] if quality else []),
    ]
