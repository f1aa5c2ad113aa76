"""``lithowatt calibrate``: its options; what it does is in ``lithowatt.model._calibrate``."""

from __future__ import annotations

import argparse
from typing import Any

from lithowatt.model._calibrate import RESTING_CPUS, RESTING_PERCENT, calibrate
from lithowatt.reference._open import METERS


def add_cli(commands: Any) -> None:
    """Adds the command ``calibrate``."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "calibrate",
        help="fit the power model to this machine, once, for all later readings",
        description="Measures the power of this machine at rest and with more and more of its "
        "CPUs busy, fits the power model's curve to it and stores it with its date. The watts come "
        "from powercap or perf, or from the file of an external meter.",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        help="length of each step (default: 3; with --reference 20; with --idle-only 5)",
    )
    parser.add_argument("--levels", type=int, help="number of steps, idle included (default: 5)")
    parser.add_argument(
        "--idle-only", action="store_true", help="measure idle power only and load nothing"
    )
    parser.add_argument(
        "--max-busy",
        type=float,
        help="how busy the machine may be at rest, %%; 100 is no limit (default: "
        f"{RESTING_PERCENT:g}, and no more than {RESTING_CPUS:g} of a CPU)",
    )
    parser.add_argument(
        "--meter-file",
        metavar="FILE",
        help="CSV file timestamp,watts to which an external meter adds rows meanwhile; times are "
        "ISO 8601 or seconds since the epoch",
    )
    parser.add_argument(
        "--meter-offset",
        type=float,
        metavar="SECONDS",
        help="add this to the times of the file (default: 0)",
    )
    parser.add_argument(
        "--reference",
        action="append",
        metavar="METER",
        help="compare the counter with a meter of the whole machine, too; where there is no "
        f"counter, fit the curve to the meter: {METERS}; may be given several times",
    )
    parser.add_argument("--force", action="store_true", help="store a curve that fits badly, too")
    parser.add_argument("--root", help="look for /sys and /proc below this directory")
    parser.set_defaults(func=calibrate)
