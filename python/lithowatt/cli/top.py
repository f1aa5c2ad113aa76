"""``lithowatt top``: the command, its waiting and its ends."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from lithowatt._support.command import Ending, complain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lithowatt.top._look import Look, Top

INSISTS_SECONDS = 1.0
"""Two signals within this time are one (``timeout`` sends two); a later one does not wait."""


def add_cli(commands: Any) -> None:
    """Adds ``top`` to the sub-commands of ``lithowatt``."""
    top = commands.add_parser(
        "top",
        help="live watts by process, cgroup or container",
        description="The machine's watts, live: idle apart, the rest shared by what each process "
        "used of the CPUs. The rows sum to the machine. Ends with q or Ctrl-C.",
    )
    top.add_argument(
        "--interval", type=float, default=2.0, metavar="S", help="between looks (%(default)s)"
    )
    often = top.add_mutually_exclusive_group()
    often.add_argument("--count", type=_positive, metavar="N", help="end after so many looks")
    often.add_argument(
        "--once", action="store_const", const=1, dest="count", help="end after the first"
    )
    top.add_argument(
        "--by",
        choices=("process", "cgroup", "container"),
        default="process",
        help="what a row is (%(default)s)",
    )
    what = top.add_mutually_exclusive_group()
    what.add_argument(
        "--pid", type=_positive, metavar="PID", help="only this process and its descendants"
    )
    what.add_argument(
        "--cgroup", metavar="DIR", help="only this cgroup (its directory) and those inside it"
    )
    top.add_argument(
        "--sort", choices=("watts", "cpu", "pid", "name"), default="watts", help="(%(default)s)"
    )
    top.add_argument(
        "--limit", type=_positive, metavar="N", help="rows (default: what fits; all as JSON)"
    )
    top.add_argument(
        "--command-line", action="store_true", help="show processes by their command line"
    )
    top.add_argument("--band", action="store_true", help="show the 95 %% band of each row")
    top.add_argument(
        "--all", action="store_true", help="show rows below 0.01 W, too; they are one row otherwise"
    )
    top.add_argument(
        "-v", "--verbose", action="store_true", help="show sources and lithowatt's own cost"
    )
    top.add_argument("--json", action="store_true", help="one JSON object per look and line")
    top.add_argument("--root", help="look for /sys and /proc below this directory")
    top.set_defaults(func=_top)


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return number


def _top(arguments: argparse.Namespace) -> int:
    # A stream that was closed before we started is None.
    if sys.stdout is None:
        complain("standard output is closed: there is nowhere to print")
        return 2
    # Most who run lithowatt want something else.
    from lithowatt.top._look import Top

    top = Top(
        arguments.interval,
        arguments.by,
        arguments.pid,
        arguments.cgroup,
        arguments.root,
        arguments.sort,
        arguments.limit,
        arguments.command_line,
    )
    try:
        _tell(top, arguments)
    finally:
        top.close()
    return 0


def _tell(top: Top, arguments: argparse.Namespace) -> None:
    from lithowatt.top._look import record
    from lithowatt.top._view import Form, show

    with Ending(INSISTS_SECONDS) as ending, _quits(ending, arguments.json):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # no file
            ending.also(sys.stdout.fileno())
        looks = _looks(top, arguments.interval, arguments.count, ending)
        if arguments.json:
            for look in looks:
                # Other characters than ASCII are escaped, so no name reaches a terminal.
                print(json.dumps(record(look), allow_nan=False), flush=True)
            return
        form = Form(arguments.band, arguments.all, arguments.verbose)
        show(looks, top, sys.stdout, form)
    if top.ended:
        print(top.ended, flush=True)


@contextlib.contextmanager
def _quits(ending: Ending, never: bool) -> Iterator[None]:
    """Within it, ``q`` ends the waiting, where a person sits at a terminal."""
    import termios
    import tty

    before = None
    with contextlib.suppress(OSError, ValueError, AttributeError, termios.error):
        keys = sys.stdin.fileno()
        # A process in the background that touches its terminal is stopped.
        at_hand = os.isatty(keys) and os.tcgetpgrp(keys) == os.getpgrp()
        if not never and at_hand and sys.stdout.isatty():
            before = termios.tcgetattr(keys)
            tty.setcbreak(keys, termios.TCSANOW)
            ending.on_key(keys, b"qQ")
    try:
        yield
    finally:
        if before is not None:
            with contextlib.suppress(OSError, termios.error):
                termios.tcsetattr(keys, termios.TCSANOW, before)


def _looks(top: Top, interval: float, count: int | None, ending: Ending) -> Iterator[Look]:
    due = time.monotonic()
    while count is None or count > 0:
        # Where a look took longer than the interval, the ones that were missed are left out.
        due = max(due + interval, time.monotonic() + interval / 2)
        if ending.wait(due - time.monotonic()) or ending.is_set():
            return
        look = top.look()
        if look is not None:
            yield look
            count = None if count is None else count - 1
        if top.ended:
            return
