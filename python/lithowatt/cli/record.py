"""``lithowatt record -o FILE -- CMD``: what the counters showed while a command ran."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lithowatt._support.command import abandon, complain
from lithowatt._support.files import no_output
from lithowatt.cli.run import Signals, report
from lithowatt.trace._record import Recording

if TYPE_CHECKING:
    from typing import TextIO


def add_cli(commands: Any) -> None:
    """Adds ``record`` to the command line."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "record",
        help="run a command and record what the counters show meanwhile",
        description="Runs CMD as 'lithowatt run' does, and writes what the energy counters and the "
        "CPU clocks showed to FILE, for 'lithowatt replay'. FILE has the processor, its counters "
        "and the kernel's release; no names of users, hosts, files or programs unless "
        "--with-command. The exit code is CMD's.",
    )
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the trace")
    parser.add_argument(
        "--hz",
        type=_hertz,
        default=10.0,
        metavar="N",
        help="samples a second, up to 1000 (default: %(default)g)",
    )
    parser.add_argument(
        "--methods",
        default="auto",
        metavar="NAMES",
        help="rapl, perf, hwmon, psutil, model, or several with commas; 'auto' is ENERGY_METHODS, "
        "else all (default: %(default)s); kernel probes are not recorded",
    )
    parser.add_argument(
        "--definition",
        choices=("marginal", "amortised"),
        help="joules above idle, or with the share of idle (default: ENERGY_DEFINITION, else by "
        "where it runs)",
    )
    parser.add_argument("--json", action="store_true", help="the report as one JSON object")
    parser.add_argument("--with-command", action="store_true", help="write CMD into FILE, too")
    parser.add_argument("--root", help="look for /sys and /proc below this directory")
    parser.add_argument("command", nargs="+", metavar="CMD", help="the command, after --")
    parser.set_defaults(func=record, csv=False)


def _hertz(text: str) -> float:
    try:
        hertz = float(text)
    except ValueError:
        hertz = 0.0
    if not 1 / 3600 <= hertz <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1/3600 to 1000")
    return hertz


def record(arguments: argparse.Namespace) -> int:
    """Runs and records the command; returns its exit code, or 2 where there is no trace of it."""
    output = Path(arguments.output)
    problem = no_output(output)
    if problem:
        complain(problem)
        return 2
    shown = " ".join(arguments.command).encode("utf-8", "replace").decode("utf-8")
    recording = Recording(
        methods=arguments.methods,
        interval=1 / arguments.hz,
        definition=arguments.definition,
        root=arguments.root,
        label=shown,
    )
    with Signals(last=arguments.as_program) as signals:
        recording.start()
        try:
            code = signals.run(arguments.command)
        except OSError as error:
            recording.stop()
            complain(f"{arguments.command[0]}: {error.strerror}")
            return 127 if isinstance(error, FileNotFoundError) else 126
        recording.stop()
        about = {"exit_code": code, **({"command": shown} if arguments.with_command else {})}
        try:
            size = recording.save(output, **about)
        except (OSError, RuntimeError) as error:
            complain(f"the trace could not be written: {error}")
            return 2
        _tell(recording, arguments, code, size)
    return code


def _tell(recording: Recording, arguments: argparse.Namespace, code: int, size: int) -> None:
    stream: TextIO | None = sys.stdout if arguments.json else sys.stderr
    if stream is None:
        return
    try:
        report(recording.reading, arguments, code, stream)
        stream.flush()
    except OSError as error:
        abandon(stream)
        complain(f"the report could not be written: {error}")
    if recording.cut:
        complain(f"{arguments.output} was full before the command ended: samples are missing")
    complain(f"{arguments.output}: {size} bytes, {recording.reading.samples} samples")
