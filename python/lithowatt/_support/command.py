"""How a command of ours ends: by its exit code, by a signal, or because its output is closed."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import select
import shlex
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lithowatt.errors import LithowattError, MalformedValueError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType, TracebackType
    from typing import TextIO

FAILED = 2
"""Exit code where a command could not do what it was asked to, its output included."""

INTERRUPTED = 128 + signal.SIGINT

OURS = 'sudo "$(command -v lithowatt)"'
"""How root runs a command of ours in what the core says: see `runnable`."""

_OUTPUT_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)
"""What a write to standard output fails with, but for a reader who has gone."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What only the writing of a file fails with."""


@contextlib.contextmanager
def writable() -> Iterator[None]:
    r"""Whatever a command prints can be written, whatever the encoding of the terminal or file.

    A character that the encoding does not have becomes an escape (``÷`` is ``\xf7`` in ASCII), as
    Python has it on standard error anyway. Afterwards the streams are as they were: a program may
    have called the command.
    """
    before = []
    # What cannot be flushed, or is closed, is the command's to report.
    unusable = contextlib.suppress(OSError, ValueError)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            before.append((stream, stream.errors))
            with unusable:
                stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        for stream, errors in before:
            with unusable:
                stream.reconfigure(errors=errors)


def guarded(run: Callable[[], int]) -> int:
    """Runs a command; its exit code, whatever its output and its errors are written to.

    | what happened | exit code |
    |---|---|
    | an error of ours, or of a file | 2, and one line on standard error |
    | a package is missing that is not always installed | 2, and one line: how to install it |
    | the output cannot be written (a full disk) | 2, and one line on standard error |
    | whoever read the output had enough (a closed pipe) | the command's, 0 where it had not ended |
    | Ctrl-C | 130 |

    A character that the output's encoding does not have is written as an escape (`writable`).

    The interpreter has nothing left to write when this returns. It would complain of a full disk
    or a closed pipe once more at its exit, and replace the exit code by 120.

    Raises:
        SystemExit: Where the command raised it: argparse, after its help or a bad argument.
    """
    with writable():
        return _guarded(run)


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """What is wrong with a command's arguments is an error of ours, which `guarded` tells.

    Raises:
        MalformedValueError: In place of any other ValueError.
    """
    try:
        yield
    except LithowattError:
        raise
    except ValueError as error:
        raise MalformedValueError(str(error)) from error


def _guarded(run: Callable[[], int]) -> int:
    code, left = 0, False
    try:
        try:
            code = run()
        except SystemExit as ended:
            # argparse has printed its help or what was wrong.
            code, left = _code_of(ended), True
        flush(sys.stdout)
    except LithowattError as error:
        complain(runnable(str(error)))
        code = FAILED
    except ImportError as error:
        from lithowatt._support.install import missing_package

        missing = missing_package(error)
        if missing is None:
            raise
        complain(missing)
        code = FAILED
    except BrokenPipeError:
        pass
    except OSError as error:
        if error.filename is None and error.errno in _OUTPUT_ERRORS:
            complain(f"the output could not be written: {error.strerror}")
        elif error.errno in _FULL and error.strerror == os.strerror(error.errno):
            complain(f"{error.filename} could not be written: {error.strerror}")
        else:
            complain(str(error))
        code = FAILED
    except KeyboardInterrupt:
        code = INTERRUPTED
    for stream in (sys.stdout, sys.stderr):
        try:
            flush(stream)
        except OSError:
            abandon(stream)
    if left:
        raise SystemExit(code)
    return code


def _code_of(ended: SystemExit) -> int:
    if ended.code is None or isinstance(ended.code, int):
        return ended.code or 0
    complain(str(ended.code))
    return 1


def complain(text: str) -> None:
    """One line on standard error. Where that is closed, nothing happens."""
    if sys.stderr is None:
        return
    try:
        print(f"lithowatt: {text}", file=sys.stderr, flush=True)
    except (OSError, ValueError):
        abandon(sys.stderr)


def runnable(text: str) -> str:
    """A command, or a text with one, as it runs from here: ``sudo`` does not look where a virtual
    environment is, a shell may not, either, and root needs no ``sudo``.

    Example:
        >>> "command -v" in runnable(f"{OURS} doctor --load")
        False
    """
    python = sys.executable or "python3"
    script = Path(python).with_name("lithowatt")
    command = shlex.quote(str(script)) if script.exists() else f"{shlex.quote(python)} -m lithowatt"
    text = text.replace(OURS, f"sudo {command}")
    return re.sub(r"(^|: |&& |\| )sudo ", r"\1", text) if os.geteuid() == 0 else text


def flush(stream: TextIO | None) -> None:
    """Writes what is left. A stream that was closed before we started is ``None``.

    Raises:
        OSError: Where it cannot be written.
    """
    if stream is not None and not stream.closed:
        stream.flush()


def abandon(stream: TextIO | None) -> None:
    """Loses what a stream still holds and whatever is written to it from now on."""
    # A stream that is no file (a test's) has nothing that the interpreter would flush.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if stream is None:
            return
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.dup2(nowhere, stream.fileno())
        finally:
            os.close(nowhere)
        stream.flush()


class Ending:
    """Whether a signal has asked this process to end, and a wait that such a signal ends.

    The handler takes no lock, so a second signal may come at any moment, in the middle of the
    first one's handler as well (``timeout`` sends two). ``threading.Event.set`` takes one: two of
    them, one inside the other, wait for each other for ever.

    Handlers belong to the main thread. In another one nothing is installed and nothing is asked.
    """

    def __init__(self, insist: float | None = None) -> None:
        """Where ``insist`` is given, a signal that comes that many seconds after the first raises
        `KeyboardInterrupt`: whoever asks again does not wait for what is being done."""
        self._insist = insist
        self._asked: float | None = None
        self._old: dict[signal.Signals, object] = {}
        self._told, self._tell = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(self._told, select.POLLIN)
        self._keyboard, self._keys = -1, b""

    def __enter__(self) -> Ending:
        with contextlib.suppress(ValueError):  # not the main thread
            for number in (signal.SIGTERM, signal.SIGINT):
                self._old[number] = signal.signal(number, self._ask)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._old.items():
            # None: it was installed by something that is not Python, and stays ours.
            if handler is not None:
                signal.signal(number, handler)  # type: ignore[arg-type]
        self._old.clear()
        os.close(self._told)
        # The handler may still run where one of ours stayed.
        told, self._tell = self._tell, -1
        os.close(told)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._asked is None:
            self._asked = now
        elif self._insist is not None and now - self._asked >= self._insist:
            raise KeyboardInterrupt
        with contextlib.suppress(OSError):  # full: it was written to before
            os.write(self._tell, b"!")

    def is_set(self) -> bool:
        """Whether a signal came."""
        return self._asked is not None

    def also(self, descriptor: int) -> None:
        """Lets a wait end as well once nobody reads what is written to ``descriptor``."""
        self._poll.register(descriptor, 0)

    def on_key(self, descriptor: int, keys: bytes) -> None:
        """Lets a wait end as well once one of ``keys`` can be read from ``descriptor``."""
        self._keyboard, self._keys = descriptor, keys
        self._poll.register(descriptor, select.POLLIN)

    def _pressed(self) -> bool:
        """Whether one of the keys was pressed; what else was, is nothing."""
        with contextlib.suppress(OSError):
            if read := os.read(self._keyboard, 64):
                return any(key in self._keys for key in read)
        # Nothing more can come from there.
        self._poll.unregister(self._keyboard)
        self._keyboard = -1
        return False

    def wait(self, seconds: float) -> bool:
        """Waits so many seconds, or until a signal comes (or the reader of ``also`` goes, or a key
        of ``on_key``).

        Returns:
            Whether it ended before its time.
        """
        due = time.monotonic() + seconds
        while not self.is_set():
            left = due - time.monotonic()
            if left <= 0:
                return False
            # Rounded up, so that the last round is not spent in no time at all again and again.
            ready = [one for one, _ in self._poll.poll(min(left * 1000 + 1, 2**31 - 1))]
            if any(one != self._keyboard for one in ready):
                return True
            if ready and self._pressed():
                return True
        return True
