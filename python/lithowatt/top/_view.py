"""How ``lithowatt top`` looks: live with rich where it is installed, else a table per look."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple, TextIO

from lithowatt._support.install import pip_install
from lithowatt._support.text import (
    format_number,
    printable,
    shortened,
    terminal_width,
    three_digits,
    wrapped,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lithowatt.top._look import Look, Row, Top

HINT = f"for a live view: {pip_install('rich')}"

LEAST_ROWS = 1
"""Rows that are shown however low the terminal is."""

PLAIN_ROWS = 20
"""Rows of a table, unless asked otherwise."""

NAME_WIDTH = 40

LEAST_NAME = 12
"""Characters of a name that stay in a terminal that is too narrow."""

LEAST_WATTS = 0.01
"""Rows of less are summed in one, unless asked otherwise."""


class Form(NamedTuple):
    """What is shown besides the usual."""

    band: bool = False
    every: bool = False
    verbose: bool = False


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


USUAL = Form()

HEAD = Line("W", "95 % band", "share", "CPU", "PID", "NAME", "CONTAINER", True)


def header(look: Look, verbose: bool = False) -> list[str]:
    """What the machine uses, its GPUs where it has some, and how it is divided; more for those who
    ask."""
    clock = time.strftime("%H:%M:%S", time.localtime(look.when))
    energy = look.energy
    if energy is None:
        lines = [f"{clock}  no energy: {look.why_no_energy}"]
    else:
        value, low, high = (_watts(part, look) for part in energy.machine)
        method = f" by {energy.method}" if energy.quality == "measured" else ""
        lines = [
            f"{clock}  machine {value} W {energy.quality}{method} ({low} to {high}): "
            f"idle {_watts(energy.idle[0], look)}, active {_watts(energy.active, look)}"
        ]
    if look.gpus.whole is not None:
        value, low, high = (_watts(part, look) for part in look.gpus.whole)
        lines.append(f"GPUs {value} W ({low} to {high}), in no row of a process")
    elif look.gpus.each and not verbose:  # then it is among the details
        lines.append(f"GPUs: {look.gpus.source}")
    if look.why_not_probes is None or verbose:
        lines.append(f"shared by {look.weight}")
    else:
        lines.append(f"shared by {look.weight}; optional: kernel probes, see lithowatt doctor")
    if verbose:
        lines += _details(look)
    lines.extend(f"warning: {text}" for text in look.warnings)
    return [printable(line) for line in lines]


def _details(look: Look) -> list[str]:
    energy = look.energy
    lines = [f"{format_number(look.seconds)} s, {look.processes} processes"]
    if energy is not None:
        value, low, high = (_watts(part, look) for part in energy.idle)
        lines.append(
            f"method {energy.method}; idle {value} W ({low} to {high}), {energy.idle_source}"
        )
    unseen = f", {look.unseen_slices} slices unseen" if look.unseen_slices else ""
    lines.append(f"CPU time from {look.weight_source}{unseen}")
    lines.append(f"GPUs: {look.gpus.source}")
    if look.why_not_probes:
        lines.append(f"without kernel probes: {look.why_not_probes}")
    share = 100e-9 * look.own_ns / look.seconds if look.seconds > 0 else 0.0
    lines.append(f"lithowatt's own cost: {format_number(share)} % of a CPU")
    return lines


def _watts(joules: float, look: Look) -> str:
    return three_digits(joules / look.seconds)


def table(look: Look, most: int | None, every: bool = True) -> list[Line]:
    """Rows of a look, at most so many, and what makes their sum the machine's.

    Unless ``every`` row is asked for, those below `LEAST_WATTS` are one.
    """
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
            shortened(printable(row.name), NAME_WIDTH),
            where,
            False,
        )

    def part(name: str, joules: float | None, ns: int | None = None) -> Line:
        return Line(number(joules), "", share(joules), cpu(ns), "", name, "", True)

    def little(row: Row) -> bool:
        return row.joules is not None and row.joules[0] < LEAST_WATTS * seconds

    # Who names a process or cgroup wants to see it.
    folded = not (every or look.asked)
    hidden = [row for row in look.rows if folded and little(row)]
    shown = [row for row in look.rows if not (folded and little(row))]
    cut = [*shown[most:], *hidden] if most is not None else hidden
    shown = shown[:most]
    lines = [line_of(row) for row in shown]
    count, ns, joules = look.more
    if count or cut:
        if joules is not None:
            joules += sum(row.joules[0] for row in cut if row.joules)
        ns += sum(row.ns for row in cut)
        below = f" below {LEAST_WATTS:g} W" if len(hidden) == len(cut) and not count else ""
        lines.append(part(f"{count + len(cut)} more{below}", joules, ns))
    gpus = look.gpus

    def gpu(name: str, joules: tuple[float, float, float] | None) -> Line:
        value, low, high = joules or (None, None, None)
        band = "" if joules is None else f"{number(low)} .. {number(high)}"
        # A share is one of the machine, of which a GPU is no part.
        return Line(
            number(value), band, "", "", "", shortened(printable(name), NAME_WIDTH), "", True
        )

    beside = [gpu(name, joules) for name, joules, _ in gpus.each]
    if energy is None:
        return lines + beside
    if look.unattributed is not None:
        lines.append(part("short-lived or hidden processes", look.unattributed))
    if look.ended_inside is not None:
        lines.append(part("of these, short-lived", look.ended_inside))
    if look.others is not None:
        lines.append(part("all else", look.others))
    lines.append(part("idle", energy.idle[0]))
    lines.append(part("machine", energy.machine[0], look.busy_ns))
    lines += beside
    if gpus.whole is not None:
        lines.append(part("machine and GPUs", energy.machine[0] + gpus.whole[0])._replace(share=""))
    return lines


def _head(look: Look) -> Line:
    if look.by == "process":
        return HEAD
    return HEAD._replace(what="PROCS", name=look.by.upper(), where="")


def laid_out(look: Look, most: int | None, form: Form = USUAL) -> list[tuple[str, bool]]:
    """Titles and table in columns, and which lines are no process, cgroup or container."""
    rows = table(look, most, form.every)
    head = _head(look)
    # A container is named where one has a row.
    if not any(line.where for line in rows):
        head = head._replace(where="")
    lines = [head, *rows]
    kept = [at for at in range(5) if at != 1 or form.band]
    widths = [max(len(str(line[i])) for line in lines) for i in range(7)]
    # Names give way first: the start of one tells most of it.
    room = terminal_width(200) - sum(widths[i] + 2 for i in (*kept, 6) if widths[i])
    widths[5] = min(widths[5], max(LEAST_NAME, room))
    return [
        (
            "  ".join(
                [
                    *(f"{line[i]:>{widths[i]}}" for i in kept),
                    f"{line.name if line.part else shortened(line.name, widths[5]):<{widths[5]}}",
                    line.where,
                ]
            ).rstrip(),
            line.part,
        )
        for line in lines
    ]


def plain(look: Look, most: int | None, form: Form = USUAL) -> str:
    """Header and table as text."""
    width = terminal_width()
    head = [part for text in header(look, form.verbose) for part in wrapped(text, width, "", "  ")]
    return "\n".join([*head, "", *(text for text, _ in laid_out(look, most, form))])


def show(looks: Iterator[Look], top: Top, to: TextIO, form: Form = USUAL) -> None:
    """Shows look after look, until there are no more."""
    if to.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        try:
            import rich  # noqa: F401
        except ImportError:
            print(HINT, file=to)
        else:
            _live(looks, top, to, form)
            return
    most = PLAIN_ROWS if top.limit is None else None
    for look in looks:
        print(plain(look, most, form), end="\n\n", file=to, flush=True)


def _live(looks: Iterator[Look], top: Top, to: TextIO, form: Form) -> None:
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
            for text in header(look, form.verbose)
            for part in wrapped(text, console.size.width, "", "  ") or [""]
        )
        # The titles, the parts and one line to spare.
        room = max(LEAST_ROWS, console.size.height - len(head) - 8)
        most = room if top.limit is None else min(room, top.limit)
        titles, *rows = laid_out(look, most, form)
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
