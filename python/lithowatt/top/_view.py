"""How ``lithowatt top`` looks: live with rich where it is installed, else a table per look."""

from __future__ import annotations

import os
import textwrap
import time
from typing import TYPE_CHECKING, NamedTuple, TextIO

from lithowatt._support.install import pip_install
from lithowatt._support.text import format_number, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lithowatt.top._look import Look, Row, Top

HINT = f"for a live view: {pip_install('rich')}"

LEAST_ROWS = 1
"""Rows that are shown however low the terminal is."""

PLAIN_ROWS = 20
"""Rows of a table, unless asked otherwise."""

NAME_WIDTH = 40


class Line(NamedTuple):
    """A line of the table; ``part`` is one that is no process, cgroup or container."""

    watts: str
    band: str
    share: str
    cpu: str
    what: str
    name: str
    where: str
    part: bool


HEAD = Line("W", "95 % band", "share", "CPU", "PID", "NAME", "CONTAINER", True)


def header(look: Look) -> list[str]:
    """What the numbers are and how they came about."""
    clock = time.strftime("%H:%M:%S", time.localtime(look.when))
    lines = [f"lithowatt top, {clock}, {format_number(look.seconds)} s, {look.processes} processes"]
    energy = look.energy
    if energy is None:
        lines.append(f"no energy: {look.why_no_energy}")
    else:
        value, low, high = (format_number(part / look.seconds) for part in energy.machine)
        how = "measured by" if energy.quality == "measured" else "modelled,"
        lines.append(f"machine {value} W [{low} .. {high}] {how} {energy.method}")
        value, low, high = (format_number(part / look.seconds) for part in energy.idle)
        active = format_number(energy.active / look.seconds)
        lines.append(
            f"idle {value} W [{low} .. {high}] {energy.idle_source}; above idle {active} W"
        )
    unseen = f", {look.unseen_slices} slices unseen" if look.unseen_slices else ""
    lines.append(f"shared by {look.weight} of {look.weight_source}{unseen}")
    if look.why_not_probes:
        lines.append(f"without kernel probes: {look.why_not_probes}")
    share = 100e-9 * look.own_ns / look.seconds if look.seconds > 0 else 0.0
    lines.append(f"lithowatt's own cost: {format_number(share)} % of a CPU")
    lines.extend(f"warning: {text}" for text in look.warnings)
    return [printable(line) for line in lines]


def table(look: Look, most: int | None) -> list[Line]:
    """Rows of a look, at most so many, and what makes their sum the machine's."""
    seconds, energy = look.seconds, look.energy

    def number(joules: float | None) -> str:
        return "–" if joules is None or seconds <= 0 else f"{joules / seconds:.3f}"

    def share(joules: float | None) -> str:
        if joules is None or energy is None or energy.machine[0] <= 0:
            return "–"
        return f"{100 * joules / energy.machine[0]:.1f} %"

    def cpu(ns: int | None) -> str:
        return "" if ns is None or look.span_ns <= 0 else f"{100 * ns / look.span_ns:.1f} %"

    def line_of(row: Row) -> Line:
        value, low, high = row.joules or (None, None, None)
        where = row.place.name if look.by == "process" and row.place.kind != "cgroup" else ""
        return Line(
            number(value),
            "" if row.joules is None else f"{number(low)} .. {number(high)}",
            share(value),
            cpu(row.ns),
            str(row.pid) if row.pid is not None else f"{row.count}",
            _short(printable(row.name)),
            where,
            False,
        )

    def part(name: str, joules: float | None, ns: int | None = None) -> Line:
        return Line(number(joules), "", share(joules), cpu(ns), "", name, "", True)

    shown = look.rows if most is None else look.rows[:most]
    cut = look.rows[len(shown) :]
    lines = [line_of(row) for row in shown]
    count, ns, joules = look.more
    if count or cut:
        if joules is not None:
            joules += sum(row.joules[0] for row in cut if row.joules)
        ns += sum(row.ns for row in cut)
        lines.append(part(f"{count + len(cut)} more", joules, ns))
    if energy is None:
        return lines
    if look.unattributed is not None:
        lines.append(part("short-lived or hidden processes", look.unattributed))
    if look.ended_inside is not None:
        lines.append(part("of these, short-lived", look.ended_inside))
    if look.others is not None:
        lines.append(part("all else", look.others))
    lines.append(part("idle", energy.idle[0]))
    lines.append(part("machine", energy.machine[0], look.busy_ns))
    return lines


def _short(name: str) -> str:
    return name if len(name) <= NAME_WIDTH else name[: NAME_WIDTH - 1] + "…"


def _head(look: Look) -> Line:
    if look.by == "process":
        return HEAD
    return HEAD._replace(what="PROCS", name=look.by.upper(), where="")


def laid_out(look: Look, most: int | None) -> list[tuple[str, bool]]:
    """Titles and table in columns, and which lines are no process, cgroup or container."""
    rows = table(look, most)
    head = _head(look)
    if not any(line.where for line in rows):
        head = head._replace(where="")
    lines = [head, *rows]
    widths = [max(len(str(line[i])) for line in lines) for i in range(6)]
    return [
        (
            "  ".join(
                [
                    *(f"{line[i]:>{widths[i]}}" for i in range(5)),
                    f"{line.name:<{widths[5]}}",
                    line.where,
                ]
            ).rstrip(),
            line.part,
        )
        for line in lines
    ]


def plain(look: Look, most: int | None) -> str:
    """Header and table as text."""
    return "\n".join([*header(look), "", *(text for text, _ in laid_out(look, most))])


def show(looks: Iterator[Look], top: Top, to: TextIO) -> None:
    """Shows look after look, until there are no more."""
    if to.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        try:
            import rich  # noqa: F401
        except ImportError:
            print(HINT, file=to)
        else:
            _live(looks, top, to)
            return
    most = PLAIN_ROWS if top.limit is None else None
    for look in looks:
        print(plain(look, most), end="\n\n", file=to, flush=True)


def _live(looks: Iterator[Look], top: Top, to: TextIO) -> None:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    console = Console(file=to)

    def line(text: str, style: str = "") -> Text:
        # As text, so that a name with brackets is no markup.
        return Text(text, style, overflow="ellipsis", no_wrap=True)

    def drawn(look: Look) -> Group:
        # A command that is cut off at the edge helps nobody.
        first, *head = (
            part
            for text in header(look)
            for part in textwrap.wrap(text, console.size.width, subsequent_indent="  ") or [""]
        )
        # The titles, the parts and one line to spare.
        room = max(LEAST_ROWS, console.size.height - len(head) - 8)
        titles, *rows = laid_out(look, room if top.limit is None else min(room, top.limit))
        return Group(
            line(first, "bold"),
            *(line(text, "yellow" if text.startswith("warning:") else "") for text in head),
            line(""),
            line(titles[0].ljust(console.size.width), "reverse"),
            *(line(text, "dim" if is_part else "") for text, is_part in rows),
        )

    last: Look | None = None
    with Live(
        Text("looking…"), console=console, screen=True, auto_refresh=False, transient=True
    ) as live:
        for look in looks:
            last = look
            live.update(drawn(look), refresh=True)
    if last is not None:
        # The last look stays when the screen is given back.
        console.print(drawn(last))
