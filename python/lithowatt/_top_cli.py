"""``lithowatt top``: the command, its waiting and its ends."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import select
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from lithowatt._errors import LithowattError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from lithowatt._top import Look, Top


def add_cli(commands: Any) -> None:
    """Adds ``top`` to the sub-commands of ``lithowatt``."""
    top = commands.add_parser(
        "top",
        help="live watts by process, cgroup or container",
        description="The machine's watts, live: idle apart, the rest shared by what each process "
        "used of the CPUs. The rows sum to the machine. Ends with Ctrl-C.",
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
        print("lithowatt: standard output is closed: there is nowhere to tell", file=sys.stderr)
        return 2
    # Most who run lithowatt want something else.
    from lithowatt._top import Top

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
    except (BrokenPipeError, LithowattError):
        raise  # told by the caller
    except OSError as error:
        print(f"lithowatt: the output could not be written: {error.strerror}", file=sys.stderr)
        # Python would try once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    except KeyboardInterrupt:
        return 130
    finally:
        top.close()
    return 0


def _tell(top: Top, arguments: argparse.Namespace) -> None:
    from lithowatt._top import record
    from lithowatt._top_view import show

    with Patience() as patience:
        looks = _looks(top, arguments.interval, arguments.count, patience)
        if arguments.json:
            for look in looks:
                # Other characters than ASCII are escaped, so no name reaches a terminal.
                print(json.dumps(record(look), allow_nan=False), flush=True)
            return
        show(looks, top, sys.stdout)
    if top.ended:
        print(top.ended, flush=True)


def _looks(top: Top, interval: float, count: int | None, patience: Patience) -> Iterator[Look]:
    due = time.monotonic()
    while count is None or count > 0:
        # Where a look took longer than the interval, the ones that were missed are left out.
        due = max(due + interval, time.monotonic() + interval / 2)
        if not patience.until(due):
            return
        look = top.look()
        if look is not None:
            yield look
            count = None if count is None else count - 1
        if top.ended:
            return


class Patience:
    """Waits; an interrupt, a termination, or a reader who has gone ends the waiting."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._told, self._tell = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._poll.register(self._told, select.POLLIN)
        with contextlib.suppress(OSError, ValueError, AttributeError):
            # Nothing is asked for: only that nobody reads any more is told.
            self._poll.register(sys.stdout.fileno(), 0)
        self._old: dict[int, Any] = {}
        self._stopped = False

    def __enter__(self) -> Patience:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._old[number] = signal.signal(number, self._stop)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        os.close(self._told)
        os.close(self._tell)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        if self._stopped:
            # Whoever asks twice does not wait for what is being done.
            raise KeyboardInterrupt
        self._stopped = True
        os.write(self._tell, b"!")

    def until(self, due: float) -> bool:
        """Whether the time came before anything that ends the waiting."""
        while (left := due - time.monotonic()) > 0:
            if self._poll.poll(math.ceil(left * 1000)):
                return False
        return not self._stopped
