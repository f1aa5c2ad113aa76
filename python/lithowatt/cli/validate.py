"""``lithowatt validate``: the counters against a meter of the whole machine."""

from __future__ import annotations

import json
import os
import shlex
import time
from typing import TYPE_CHECKING, Any

from lithowatt._support.command import complain
from lithowatt.meter._meter import EnergyMeter
from lithowatt.model._calibrate import (
    METER_SETTLE_SECONDS,
    CalibrationError,
    busy,
    cores_first,
    no_counter,
    plan,
    step_name,
)
from lithowatt.reference import open_references
from lithowatt.reference._compare import COUNTERS, Window, beyond, line_of, table, told
from lithowatt.reference._open import METERS
from lithowatt.reference._watch import longest_delay, nothing_from

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from lithowatt.reference import Reference

PART_EXCEEDS = 1
"""Exit code where the counters show more than the whole machine."""

NOTHING = 3
"""Exit code where no window has both."""


def add_cli(commands: Any) -> None:
    """Adds ``validate`` to the command line."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "validate",
        help="compare the energy counters with a meter of the whole machine",
        description="Measures several windows both by the counters of processor and memory and by "
        "a meter of the whole machine. Shows which part of the whole the counters count, and a "
        "line that is fitted to the windows. Exit code 0; 1 if the counters show more than the "
        "whole machine; 3 if nothing could be compared; 2 for an error.",
    )
    parser.add_argument(
        "--reference",
        action="append",
        required=True,
        metavar="METER",
        help=f"the meter of the whole machine, {METERS}; may be given several times",
    )
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="length of each window (default: %(default)g)"
    )
    parser.add_argument(
        "--windows", type=int, default=5, help="number of windows (default: %(default)s)"
    )
    parser.add_argument(
        "--load",
        action="store_true",
        help="keep more CPUs busy from window to window, so that a line can be fitted",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--root", help="look for /sys and /proc below this directory")
    parser.set_defaults(func=validate)


def validate(arguments: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    if not 0.1 <= arguments.seconds <= 86_400:
        complain(f"--seconds must be from 0.1 to 86400, not {arguments.seconds}")
        return 2
    if not 1 <= arguments.windows <= 1000:
        complain(f"--windows must be 1 to 1000, not {arguments.windows}")
        return 2
    references = open_references(arguments.reference, arguments.root)
    if not _has_counter(arguments.root):
        command = f"validate --reference {shlex.join(arguments.reference)}"
        complain(f"nothing to compare: {no_counter(arguments.root, command)}")
        return NOTHING
    meters = list(_measured(arguments, references))
    if not meters:
        return NOTHING
    for reference in references:
        reference.wait(time.monotonic())
    windows = [Window.of(label, meter.reading) for label, meter in meters]
    names = [reference.name for reference in references]
    lines = {r.name: line_of(windows, r.name, r.sensor.relative) for r in references}
    problems = [problem for name in names for problem in beyond(windows, name)]
    if arguments.json:
        print(json.dumps(_as_json(windows, references, lines, problems), indent=2))
    else:
        print("\n".join(table(windows, names)))
        method = next((window.method for window in windows if window.method), None)
        for name, line in lines.items():
            if line is not None:
                print("\n".join(told(line, name, method or "")))
        for problem in problems:
            print(f"warning: {problem}")
    if problems:
        return PART_EXCEEDS
    return 0 if any(line is not None for line in lines.values()) else NOTHING


def _has_counter(root: str | None) -> bool:
    """Whether any counter of packages or memory is there to be compared."""
    with EnergyMeter(COUNTERS, interval=None, root=root) as meter:
        pass
    return any(zone.domain in ("package", "dram") for zone in meter.reading.zones)


def _compared(label: str, meter: EnergyMeter, references: tuple[Reference, ...]) -> bool:
    """Whether a window has both: the energy of a counter and of a meter."""
    for reference in references:
        reference.wait(time.monotonic())
    window = Window.of(label, meter.reading)
    return window.counter is not None and any(
        found.energy is not None for found in window.references.values()
    )


def _measured(
    arguments: argparse.Namespace, references: tuple[Reference, ...]
) -> Iterator[tuple[str, EnergyMeter]]:
    cpus = cores_first(sorted(os.sched_getaffinity(0)))
    steps: list[tuple[int, float]] = [(0, 0.0)] * arguments.windows
    if arguments.load:
        if arguments.windows < 2:
            raise CalibrationError("--load needs two windows or more")
        steps = plan(arguments.windows, len(cpus))
    lag = longest_delay(references)
    settle = max(min(METER_SETTLE_SECONDS, arguments.seconds), lag if arguments.load else 0.0)
    for reference in references:
        reference.start()
    try:
        nothing = nothing_from(references)
        if nothing is not None:
            complain(f"nothing to compare: {nothing}")
            return
        # Before the first window a meter is read already.
        time.sleep(settle)
        for number, (count, duty) in enumerate(steps, 1):
            label = step_name(count, duty) if arguments.load else str(number)
            with busy(cpus[:count], duty):
                if count:
                    time.sleep(settle)
                meter = EnergyMeter(COUNTERS, root=arguments.root, reference=references)
                with meter:
                    time.sleep(arguments.seconds)
                if arguments.load or number == len(steps):
                    # What is shown so much later is true of the end of the window.
                    time.sleep(lag)
            yield label, meter
            if arguments.load and number == 1 and not _compared(label, meter, references):
                complain("nothing to compare in the first window: no CPU was loaded")
                return
    finally:
        for reference in references:
            reference.stop()


def _as_json(
    windows: list[Window],
    references: tuple[Reference, ...],
    lines: dict[str, Any],
    problems: list[str],
) -> dict[str, Any]:
    def energy(found: Any) -> Any:
        return None if found is None else {"joules": found[0], "low": found[1], "high": found[2]}

    return {
        "windows": [
            {
                "label": window.label,
                "seconds": window.seconds,
                "method": window.method,
                "counter": energy(window.counter),
                "references": {
                    name: {"energy": energy(found.energy), "reason": found.reason}
                    for name, found in window.references.items()
                },
            }
            for window in windows
        ],
        "covers": {reference.name: reference.covers for reference in references},
        "lines": lines,
        "problems": problems,
    }
