"""``lithowatt run -- CMD``: the joules of a command, like ``perf stat``."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from lithowatt import _core
from lithowatt._support.calls import calls_path, hand_in
from lithowatt._support.command import Ending, abandon, complain, runnable
from lithowatt._support.files import no_output, write_atomically
from lithowatt._support.harmless import described
from lithowatt._support.install import pip_install
from lithowatt._support.text import (
    aligned,
    format_number,
    printable,
    program_of,
    terminal_width,
    with_command,
    wrapped,
)
from lithowatt.errors import UnreadableFileError
from lithowatt.meter._meter import EnergyMeter
from lithowatt.reference._open import METERS
from lithowatt.stats import QUALITIES

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from lithowatt.meter._reading import Domains, Reading

DOMAINS = (*_core.DOMAINS, "total")

SYSTEMS = ("slurm", "oar", "pbs", "condor")
"""Batch systems, as ``EnergyMeter(cgroup=…)`` names them before an id."""

LOOK = 0.5
"""Seconds between two looks whether a job is still there."""


def add_cli(commands: Any) -> None:
    """Adds ``run`` to the command line."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "run",
        help="run a command and report its joules, like perf stat; or those of a job, a cgroup or "
        "processes",
        description="Runs CMD; prints its joules on standard error. With --json or --csv they go "
        "to standard output, after CMD's own. The exit code is CMD's (128 + n for signal n), "
        "whatever becomes of the report. With --job, --cgroup or --pid it reports the joules of "
        "those instead: while CMD runs, or without CMD until they have ended or Ctrl-C.",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as one JSON object")
    form.add_argument("--csv", action="store_true", help="as CSV: a row per method and domain")
    parser.add_argument("-o", "--output", help="write to this file instead")
    parser.add_argument(
        "--plot",
        metavar="FILE",
        help="draw the window as a picture: .png, .svg or .pdf (needs matplotlib)",
    )
    parser.add_argument(
        "--methods",
        default="auto",
        metavar="NAMES",
        help="rapl, perf, hwmon, guest, ebpf, psutil, nvml, model, or several with commas; "
        "'counters': all that count energy; 'all'; 'auto' is ENERGY_METHODS, else all (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "--interval",
        type=_interval,
        default="auto",
        metavar="S",
        help="seconds between samples; 'off' for none; 'auto' is ENERGY_COLLECTION_INTERVAL, else "
        "0.1 (default: %(default)s)",
    )
    parser.add_argument(
        "--definition",
        choices=("marginal", "amortised"),
        help="joules above idle, or with the share of idle (default: ENERGY_DEFINITION, else "
        "marginal on a machine and amortised in a sandbox for one function)",
    )
    parser.add_argument(
        "--reference",
        action="append",
        metavar="METER",
        help="read a meter of the whole machine meanwhile, too, and show it beside the energy, of "
        f"which it is no part: {METERS}; may be given several times",
    )
    whose = parser.add_mutually_exclusive_group()
    whose.add_argument(
        "--job",
        metavar="ID[.STEP]",
        help="a job of Slurm (or a step of it, as 4711.0 or 4711.batch), OAR or PBS on this "
        "machine, or a slot of HTCondor; slurm:ID, oar:ID, pbs:ID, condor:SLOT name the system",
    )
    whose.add_argument(
        "--cgroup",
        action="append",
        metavar="PATTERN",
        help="cgroups: a directory, a pattern as 'system.slice/web@*.service', or unit:NAME; may "
        "be given several times, and all of them are one",
    )
    whose.add_argument(
        "--pid",
        action="append",
        type=int,
        help="a process with its descendants; may be given several times",
    )
    parser.add_argument("--root", help="look for /sys and /proc below this directory")
    parser.add_argument("command", nargs="*", metavar="CMD", help="the command, after --")
    parser.set_defaults(func=run, usage_error=parser.error)


def _interval(text: str) -> Any:
    """What a meter takes as ``interval``; a word that is none is the meter's to refuse."""
    if text == "off":
        return None
    try:
        return float(text)
    except ValueError:
        return text


def run(arguments: argparse.Namespace) -> int:
    """Runs the command, or waits; returns its exit code."""
    whose, cgroup = _whose(arguments)
    if not (whose or arguments.command):
        arguments.usage_error("expected CMD, or one of --job, --cgroup and --pid")
    # An argument need not be text; a label and a report are.
    shown = " ".join(arguments.command)
    label = f"{whose}, during {shown}" if whose and shown else whose or shown
    meter = EnergyMeter(
        methods=arguments.methods,
        interval=arguments.interval,
        pid=arguments.pid,
        cgroup=cgroup,
        label=label.encode("utf-8", "replace").decode("utf-8"),
        root=arguments.root,
        definition=arguments.definition,
        reference=arguments.reference,
    )
    # An output that cannot be written is reported before anything runs.
    output = Path(arguments.output) if arguments.output else None
    if output is not None:
        problem = no_output(output)
        if problem:
            complain(problem)
            return 2
    picture = Path(arguments.plot) if arguments.plot else None
    if picture is not None:
        problem = _no_plot(picture, output)
        if problem:
            complain(problem)
            return 2
    if not arguments.command:
        meter.start()
        _wait(arguments.pid, cgroup, arguments.root)
        _tell(meter, arguments, None, output)
        if picture is not None:
            _draw(meter, picture)
        return 0
    with Signals(last=arguments.as_program) as signals:
        meter.start()
        try:
            code = signals.run(arguments.command)
        except OSError as error:
            meter.stop()
            complain(f"{arguments.command[0]}: {error.strerror}")
            return 127 if isinstance(error, FileNotFoundError) else 126
        _tell(meter, arguments, code, output)
        if picture is not None:
            _draw(meter, picture)
        if calls_path() is not None and not whose:
            _hand_in(meter, arguments.command)
    return code


def _whose(arguments: argparse.Namespace) -> tuple[str, list[str] | None]:
    """Whose joules are asked for, in words, where it is not the command; and their cgroups."""
    if arguments.job is not None:
        system, colon, _ = arguments.job.partition(":")
        named = bool(colon) and system in SYSTEMS
        return f"job {arguments.job}", [arguments.job if named else f"job:{arguments.job}"]
    if arguments.cgroup is not None:
        return f"cgroup {', '.join(arguments.cgroup)}", arguments.cgroup
    if arguments.pid is not None:
        word = "process" if len(arguments.pid) == 1 else "processes"
        return f"{word} {', '.join(map(str, arguments.pid))}", None
    return "", None


def _wait(pids: list[int] | None, cgroup: list[str] | None, root: str | None) -> None:
    """Waits until these are no more, or a signal comes."""
    with Ending() as ending:
        while not ending.wait(LOOK):
            if pids is not None:
                there = any(_core.process_cpu_seconds(pid) is not None for pid in pids)
            else:
                there = _is_there(cgroup or [], root)
            if not there:
                return


def _is_there(cgroup: list[str], root: str | None) -> bool:
    for each in cgroup:
        with contextlib.suppress(UnreadableFileError):
            if any(path.is_dir() for path in _core.find_cgroups(each, root)):
                return True
    return False


def _hand_in(meter: EnergyMeter, command: list[str]) -> None:
    """Shows the command on the agent's page, by its program and script: arguments may be secret."""
    try:
        hand_in(program_of(command), meter.reading.flat())
    except Exception as error:  # the exit code is the command's
        complain(f"the command could not be shown on the agent's page: {described(error)}")
    except KeyboardInterrupt:
        pass


def _tell(
    meter: EnergyMeter, arguments: argparse.Namespace, code: int | None, to: Path | None
) -> None:
    """Ends the window and reports it. Whatever becomes of that, the exit code is the command's."""
    stream = None
    try:
        meter.stop()
        reading = meter.reading
        if to is not None:
            text = io.StringIO(newline="")
            report(reading, arguments, code, text)
            write_atomically(to, text.getvalue())
        else:
            stream = sys.stdout if arguments.json or arguments.csv else sys.stderr
            # A stream that was closed before we started is None.
            if stream is not None:
                report(reading, arguments, code, stream)
                stream.flush()
    except OSError as error:
        # Before anything else is printed: what the stream still holds would be tried once more.
        abandon(stream)
        complain(f"the report could not be written: {error}")
    except KeyboardInterrupt:
        abandon(stream)


def _no_plot(picture: Path, output: Path | None) -> str | None:
    """Why no picture can be drawn there, ``None`` where it can."""
    from importlib.util import find_spec

    from lithowatt.figures._draw import no_picture

    if find_spec("matplotlib") is None:
        return f"--plot needs matplotlib: {pip_install('matplotlib')}"
    problem = no_picture(picture)
    if problem:
        return f"--plot {problem}"
    if output is not None and os.path.realpath(output) == os.path.realpath(picture):
        return f"--plot and --output are both {picture}; expected two files"
    return no_output(picture, "--plot")


def _draw(meter: EnergyMeter, picture: Path) -> None:
    """Draws the window. Whatever becomes of that, the exit code is the command's."""
    try:
        from lithowatt.figures._draw import save
        from lithowatt.figures._window import window_figure

        save(window_figure(meter), picture)
        complain(f"plot written to {picture}")
    except Exception as error:  # what matplotlib raises is not ours to know
        complain(f"the picture could not be drawn: {described(error)}")
    except KeyboardInterrupt:
        pass


class Signals:
    """Runs a command as a shell would: an interrupt is its business, for the terminal sends it one;
    other signals are passed on, from the moment this is entered.

    Once the command has ended there is nobody to pass them on to, and the report is all that is
    left: what comes within `AGAIN` seconds was meant for the command (``timeout`` and supervisors
    send twice). What comes later gives the report up.
    """

    AGAIN = 1.0

    def __init__(self, last: bool) -> None:
        """``last``: the process ends after this, and signals do not change its exit code."""
        self._last = last
        self._old: dict[int, Any] = {}
        self._child: subprocess.Popen[bytes] | None = None
        self._ended: float | None = None
        #: Those that came before there was somebody to pass them on to.
        self._early: list[int] = []

    def __enter__(self) -> Signals:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # What our parent had ignored (nohup) stays so, for the command as well. Nothing else is
            # ignored, because the command would ignore it, too.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._old[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._old.items():
            # While Python ends, a handler of its own would give way to the default one.
            last = self._last and self._ended is not None
            signal.signal(number, signal.SIG_IGN if last else before)

    def _take(self, number: int, _frame: object) -> None:
        if self._ended is not None:
            if time.monotonic() - self._ended > self.AGAIN:
                raise KeyboardInterrupt
        elif number == signal.SIGINT:
            pass
        elif self._child is None:
            self._early.append(number)
        else:
            self._child.send_signal(number)

    def run(self, command: list[str]) -> int:
        """Runs a command; its exit code, 128 + n where signal n ended it.

        Raises:
            OSError: Where it cannot be started.
        """
        self._child = subprocess.Popen(command)  # noqa: S603 - running it is the purpose
        while self._early:
            self._child.send_signal(self._early.pop(0))
        code = self._child.wait()
        self._ended = time.monotonic()
        return 128 - code if code < 0 else code


def report(
    reading: Reading,
    arguments: argparse.Namespace,
    code: int | None,
    to: TextIO,
    *,
    recorded: bool = False,
) -> None:
    """Writes a reading as it was asked for; the exit code is ``None`` where it is not known."""
    if arguments.json:
        json.dump(_as_json(reading, arguments.command, code), to, indent=2)
        to.write("\n")
    elif arguments.csv:
        writer = csv.writer(to)
        writer.writerow(COLUMNS)
        for row in _as_rows(reading, arguments.command, code):
            writer.writerow(["" if value is None else value for value in row])
    else:
        command = bool(arguments.command)
        to.write(render(reading, code, of_command=command, recorded=recorded))


def render(
    reading: Reading, code: int | None, *, of_command: bool = True, recorded: bool = False
) -> str:
    """The report for people: no digit that the band does not carry, no line that wraps."""
    ended = f"exit code {'unknown' if code is None else code}, " if of_command else ""
    lines = [
        "",
        *wrapped(printable(reading.label or ""), terminal_width(), " ", "  "),
        f"   {ended}{_times(reading)}",
        "",
    ]
    headline = reading.headline

    def said(text: str) -> list[str]:
        """A reason or a warning; a command in it as it runs from here, if it is for here."""
        return with_command(text if recorded else runnable(text), terminal_width(), "   ")

    if headline is None:
        lines += said(f"no energy: {reading.reason}")
    else:
        of = {"marginal": "above idle", "amortised": "with its share of idle power"}
        band = headline.value, headline.high - headline.low
        rows = [
            (
                "energy",
                _digits(headline.value, *band),
                f"J   {_digits(headline.low, *band)} to {_digits(headline.high, *band)} J "
                f"(95 %), {headline.source}, {of[reading.definition or 'marginal']}",
            )
        ]
        other = "amortised" if reading.definition == "marginal" else "marginal"
        value = getattr(reading, other)
        if value is not None:
            rows.append(("", _digits(value, *band), f"J   {of[other]}"))
        if reading.watts is not None:
            rows.append(("power", _digits(reading.watts, *band), "W   mean of the energy above"))
        whole, idle, own, others = (
            _digits(part, *band) if (part := getattr(reading, name)) is not None else "?"
            for name in ("machine", "idle", "marginal", "others")
        )
        source = reading.idle_source
        parts = f"{own} this + {others} others"
        if source == "unknown":
            parts += "; idle power is not known, and in these"
        else:
            parts = f"{idle} idle ({source}) + {parts}"
        rows.append(("machine", whole, f"J   = {parts}"))
        memory = reading.memory
        if memory is None:
            rows.append(("memory", "?", f"J   {reading.memory_source}"))
        elif memory.source.startswith("modelled"):
            # A counter's has a line below.
            edges = memory.value, memory.high - memory.low
            amount, least, most = (_digits(part, *edges) for part in memory[:3])
            told = f"J   {least} to {most} J (95 %), of the machine, {memory.source}"
            rows.append(("memory", amount, told))
        for name, domains in _counters(reading):
            for domain in DOMAINS:
                estimate = domains.estimate(domain)
                if estimate is not None:
                    rows.append((f"{name} {domain}", f"{estimate.value:.4g}", "J   whole machine"))
        rows += _gpu_rows(reading)
        numbers = aligned([row[:2] for row in rows], right=[1])
        room = terminal_width() - 3
        for line, (*_, told) in zip(numbers, rows, strict=True):
            unit, words = told.partition("   ")[::2]
            first, *rest = wrapped(words, max(30, room - len(line) - 2 - 4), "")
            lines.append(f"   {line} {unit}   {first}")
            lines += [" " * (3 + len(line) + 5) + more for more in rest]
    for found in reading.machine_reference.values():
        told = f"no energy: {found.reason}"
        if found.energy is not None:
            value, low, high = found.energy[:3]
            joules = (_digits(part, value, high - low) for part in (value, low, high))
            told = "{} J ({} to {} J), the whole machine, in no number above".format(*joules)
        lines += ["", *_wrapped(f"{found.name}: {told}")]
    for warning in _once(reading._warnings_beside()):
        lines += ["", *said(f"warning: {warning}")]
    for note in reading.notes:
        lines += ["", *said(f"note: {note}")]
    if headline is not None and reading.quality == "modelled":
        silent = [zone.reason for zone in reading.zones if zone.domain == "package" and zone.reason]
        if silent:
            why = f"The energy counter gave nothing for this window ({silent[0]})"
            lines += ["", *_wrapped(f"{why}, so this is an estimate.")]
        elif recorded:
            why = "No energy counter of the recording is read, so this is an estimate."
            lines += ["", *_wrapped(why)]
        else:
            lines += ["", *_wrapped("No energy counter is read here, so this is an estimate: ")]
            lines[-1] += " lithowatt doctor"
    return "\n".join([*lines, ""])


def _once(warnings: Sequence[str]) -> list[str]:
    """What is said of several counters in the same words, once with the names of all of them.

    >>> _once(["package-0: it ended", "a guess", "package-1: it ended"])
    ['package-0, package-1: it ended', 'a guess']
    """
    names: dict[str, list[str]] = {}
    for warning in warnings:
        name, colon, words = warning.partition(": ")
        names.setdefault(words if colon else warning, []).extend([name] if colon else [])
    return [": ".join([", ".join(of), words] if of else [words]) for words, of in names.items()]


def _gpu_rows(reading: Reading) -> list[tuple[str, str, str]]:
    """The GPUs, on machines that have some."""
    rows = []
    for name, energy in (("gpu", reading.gpu), ("gpu, this", reading.gpu_attributed)):
        if energy is not None:
            band = energy.value, energy.high - energy.low
            value, low, high = (_digits(part, *band) for part in energy[:3])
            of = "all GPUs, in no number above" if name == "gpu" else "of them, above rest"
            rows.append((name, value, f"J   {low} to {high} J (95 %), {of}"))
    if not rows and any(zone.domain == "gpu" for zone in reading.zones):
        rows.append(("gpu", "?", f"J   {reading.gpu_source}"))
    return rows


def _times(reading: Reading) -> str:
    cpu = reading.cpu_seconds
    used = "CPU time unknown" if cpu is None else f"CPU time {format_number(cpu)} s"
    return f"time {format_number(reading.duration)} s, {used}"


def _wrapped(text: str) -> list[str]:
    return wrapped(text, terminal_width(), "   ")


def _digits(value: float, best: float, width: float) -> str:
    """``value`` with two significant digits where the band is wider than a tenth of the estimate,
    three where it is narrower, four where it is below a hundredth."""
    wide = width / best if best > 0 else 1.0
    digits = 2 if wide > 0.1 else 3 if wide > 0.01 else 4
    text = f"{value:.{digits}g}"
    return f"{float(text):.0f}" if "e+" in text else text


def _counters(reading: Reading) -> list[tuple[str, Domains]]:
    """What counted the machine; of what few machines have, where it counted."""
    counters = [("rapl", reading.rapl), ("perf", reading.perf)]
    rare = [("hwmon", reading.hwmon), ("guest", reading.guest)]
    return counters + [(name, domains) for name, domains in rare if domains.available]


def _as_json(reading: Reading, command: list[str], code: int | None) -> dict[str, Any]:
    headline = reading.headline
    methods: dict[str, Any] = {}
    for name, domains in _counters(reading):
        methods[name] = {
            "available": domains.available,
            "source": domains.source,
            "joules": {domain: _value(domains.estimate(domain)) for domain in DOMAINS},
        }
    model = reading.model
    methods["model"] = {
        "available": model is not None,
        "source": reading.model_source,
        "joules": None if model is None else model.value,
    }
    return {
        "command": command,
        "exit_code": code,
        "joules": reading.joules,
        "low": None if headline is None else headline.low,
        "high": None if headline is None else headline.high,
        "watts": reading.watts,
        "seconds": reading.duration,
        "cpu_seconds": reading.cpu_seconds,
        "quality": reading.quality,
        "method": reading.method,
        "definition": reading.definition,
        "reason": reading.reason,
        "marginal": reading.marginal,
        "amortised": reading.amortised,
        "idle": reading.idle,
        "others": reading.others,
        "machine": reading.machine,
        "memory": {
            "joules": _value(reading.memory),
            "low": None if reading.memory is None else reading.memory.low,
            "high": None if reading.memory is None else reading.memory.high,
            "source": reading.memory_source,
        },
        "methods": methods,
        "gpu": {
            "joules": _value(reading.gpu),
            "low": None if reading.gpu is None else reading.gpu.low,
            "high": None if reading.gpu is None else reading.gpu.high,
            "source": reading.gpu_source,
            "attributed": _value(reading.gpu_attributed),
            "attributed_source": reading.raw["gpu"]["attributed_source"],
        },
        "machine_reference": {
            name: {
                "joules": found.joules,
                "low": None if found.energy is None else found.energy.low,
                "high": None if found.energy is None else found.energy.high,
                "reason": found.reason,
                "covers": found.covers,
            }
            for name, found in reading.machine_reference.items()
        },
        "warnings": reading.warnings,
        "notes": reading.notes,
    }


def _value(estimate: Any) -> float | None:
    return None if estimate is None else estimate.value


COLUMNS = (
    *("method", "domain", "joules", "low", "high", "watts", "seconds", "source"),
    *("quality", "definition", "cpu_seconds", "exit_code", "command", "notes"),
)
"""The heading of the CSV (docs/reference/run.md)."""


def _as_rows(reading: Reading, command: list[str], code: int | None) -> list[list[Any]]:
    from lithowatt.profiles._values import WARNING_SEPARATOR

    seconds = reading.duration
    of_all = [reading.cpu_seconds, code, shlex.join(command) if command else reading.label]

    def row(
        method: str,
        domain: str,
        energy: Any,
        source: str,
        definition: str | None = None,
        notes: Sequence[str] = (),
    ) -> list[Any]:
        """``energy``: joules and, where they are known, the ends of their band."""
        joules, low, high = (None,) * 3 if energy is None else energy[:3]
        watts = joules / seconds if joules is not None and seconds > 0 else None
        said = source.partition(":")[0]
        quality = said if said in QUALITIES and joules is not None else None
        return [
            *(method, domain, joules, low, high, watts, seconds, source),
            *(quality, definition, *of_all, WARNING_SEPARATOR.join(notes) or None),
        ]

    headline = reading.headline
    source = headline.source if headline else f"unavailable: {reading.reason}"
    told = [*reading.warnings, *reading.notes]
    rows = [row("headline", "function", headline, source, reading.definition, told)]
    others = None if reading.others is None else (reading.others, None, None)
    for name, energy in (
        ("marginal", reading.marginal_estimate),
        ("amortised", reading.amortised_estimate),
        ("idle", reading.idle_estimate),
        ("others", others),
        ("machine", reading.machine_estimate),
    ):
        definition = name if name in ("marginal", "amortised") else None
        of = source
        if headline and reading.quality != "modelled":
            # The headline may be attributed, but a counter shows all of the machine.
            if name == "machine":
                of = f"measured: {reading.method}"
            elif name == "idle" and reading.idle_source == "modelled":
                of = "modelled: idle power"
        notes = [f"idle power: {reading.idle_source}"] if name == "idle" and headline else []
        rows.append(row("headline", name, energy, of, definition, notes))
    rows.append(row("headline", "memory", reading.memory, reading.memory_source))
    for name, domains in _counters(reading):
        for domain in DOMAINS:
            reason = domains.reasons.get(domain)
            source = f"unavailable: {reason}" if reason else domains.source
            rows.append(row(name, domain, domains.estimate(domain), source))
    gpu = reading.raw["gpu"]
    rows.append(row("gpu", "gpu", reading.gpu, gpu["source"]))
    rows.append(row("gpu", "function", reading.gpu_attributed, gpu["attributed_source"]))
    modelled = reading.model_source
    if reading.model is not None:
        modelled = f"modelled: {modelled}"
    rows.append(row("model", "function", reading.model, modelled, reading.definition))
    for name, found in reading.machine_reference.items():
        why = f"unavailable: {found.reason}" if found.energy is None else "measured"
        rows.append(row("reference", name, found.energy, f"{why}: {found.covers}"))
    return rows
