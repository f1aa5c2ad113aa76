"""``lithowatt replay TRACE``: the joules of a recording, by the same or by other rules."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lithowatt._support.command import complain
from lithowatt.cli.run import report
from lithowatt.meter._meter import EnergyMeter
from lithowatt.trace._file import Trace

if TYPE_CHECKING:
    from lithowatt.meter._reading import Reading


def add_cli(commands: Any) -> None:
    """Adds ``replay`` to the command line."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "replay",
        help="calculate the joules of a trace of 'lithowatt record', by the same or other rules",
        description="Prints what 'lithowatt run' printed on the machine of TRACE, or what it "
        "would have printed there with other options. Nothing of this machine is used.",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as one JSON object")
    form.add_argument("--csv", action="store_true", help="as CSV: a row per method and domain")
    parser.add_argument(
        "--methods",
        default="auto",
        metavar="NAMES",
        help="which of the recorded ones to use: rapl, perf, hwmon, psutil, model (default: all)",
    )
    parser.add_argument(
        "--definition",
        choices=("marginal", "amortised"),
        help="joules above idle, or with the share of idle (default: as recorded)",
    )
    parser.add_argument(
        "--estimation",
        choices=("curve", "tdp_based", "vcpu"),
        help="how the model's watts are made (default: as recorded)",
    )
    parser.add_argument(
        "--idle-watts",
        type=float,
        metavar="W",
        help="power at rest of packages and memory, instead of what was seen or stored",
    )
    parser.add_argument(
        "--from",
        dest="start",
        type=float,
        metavar="S",
        help="begin so many seconds after the start",
    )
    parser.add_argument(
        "--to",
        dest="end",
        type=float,
        metavar="S",
        help="end so many seconds after the start",
    )
    parser.add_argument("trace", metavar="TRACE", help="the file that 'lithowatt record' wrote")
    parser.set_defaults(func=replay, command=[])


def replay(arguments: argparse.Namespace) -> int:
    """Prints the reading; returns 0, or 2 where there is none."""
    trace = Trace.read(arguments.trace)
    command = trace.about.get("command")
    label = command if isinstance(command, str) else Path(arguments.trace).name
    try:
        meter = EnergyMeter(
            arguments.methods,
            label=label,
            estimation=arguments.estimation,
            definition=arguments.definition,
            replay=trace,
            window=_window(arguments.start, arguments.end, trace.seconds),
            idle_watts=arguments.idle_watts,
        )
    except ValueError as error:
        complain(str(error))
        return 2
    with meter:
        pass
    return _tell(meter.reading, arguments, trace)


def _window(start: float | None, end: float | None, length: float) -> tuple[float, float] | None:
    """The seconds that are asked for of a recording of ``length`` s; ``None``: all of them.

    Raises:
        ValueError: The recording has no such part.
    """
    if start is None and end is None:
        return None
    begin = 0.0 if start is None else start
    if not 0 <= begin < length:
        raise ValueError(
            f"--from is {begin:g} s, and the recording is {length:.4g} s long: expected a number "
            f"of seconds, 0 or more and less than {length:.4g}"
        )
    if end is None:
        return begin, length
    if not begin < end < math.inf:
        raise ValueError(
            f"--to is {end:g} s, and the recording is {length:.4g} s long: expected a number of "
            f"seconds above {begin:g}, where the part begins"
        )
    return begin, end


def _tell(reading: Reading, arguments: argparse.Namespace, trace: Trace) -> int:
    code = trace.about.get("exit_code")
    arguments.command = [reading.label or ""]
    stream = sys.stdout
    report(reading, arguments, code if isinstance(code, int) else None, stream, recorded=True)
    stream.flush()
    return 2 if reading.duration == 0 else 0
