"""Calls that meters on this machine hand in, for the agent's page.

Anybody who may write to the socket may hand in anything: what comes is bounded, checked, cut, and
shown with the number of the user that the kernel names as its sender. It is never added to what the
agent measured.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import struct
import threading
import time
from collections import OrderedDict, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lithowatt._support.calls import MOST_BYTES, MOST_NAME, VERSION
from lithowatt._support.text import printable, shortened
from lithowatt.estimate import number
from lithowatt.stats import QUALITIES

MOST_CALLS = 50
"""The last calls that are kept."""

MOST_FUNCTIONS = 200
"""Functions that are kept; the one that was called longest ago gives way."""

MOST_A_SECOND = 500
"""Messages that are read in a second: what comes beyond is dropped by the kernel."""

MOST_VALUE = 1e15
"""No joules and no seconds are above."""

#: pid, uid, gid: `struct ucred` of unix(7).
_CREDENTIALS = struct.Struct("iII")


@dataclass(frozen=True)
class Call:
    """What was handed in: s, J, and who sent it."""

    uid: int
    when: float
    function: str
    seconds: float | None
    cpu_seconds: float | None
    joules: float | None
    low: float | None
    high: float | None
    quality: str | None
    method: str | None
    definition: str | None
    reason: str | None


class Refused(ValueError):
    """A message that is none."""


def parsed(data: bytes, uid: int, when: float) -> Call:
    """The call in a message.

    Raises:
        Refused: It is none.
    """
    if len(data) > MOST_BYTES:
        raise Refused("too long")
    try:
        given = json.loads(data)
    except (ValueError, RecursionError):
        raise Refused("no JSON") from None
    if not isinstance(given, dict) or given.get("v") != VERSION:
        raise Refused("no call of this version")

    def value(key: str) -> float | None:
        got = given.get(key)
        if got is None:
            return None
        found = number(got)
        if found is None or not 0 <= found <= MOST_VALUE:
            raise Refused(key)
        return found

    def text(key: str, most: int) -> str | None:
        got = given.get(key)
        if got is None:
            return None
        if not isinstance(got, str):
            raise Refused(key)
        return shortened(printable(got[:most]), most)

    def one_of(key: str, known: tuple[str, ...]) -> str | None:
        got = given.get(key)
        if got is not None and got not in known:
            raise Refused(key)
        return got

    function = text("function", MOST_NAME)
    if not function:
        raise Refused("function")
    joules, low, high = value("joules"), value("low"), value("high")
    if (low is None) != (high is None):
        raise Refused("half a band")
    if low is not None and (joules is None or not low <= joules <= (high or 0.0)):
        raise Refused("a band round nothing")
    quality = one_of("quality", QUALITIES)
    if joules is not None and quality is None:
        raise Refused("energy without a quality")
    return Call(
        uid=uid,
        when=when,
        function=function,
        seconds=value("seconds"),
        cpu_seconds=value("cpu_seconds"),
        joules=joules,
        low=low,
        high=high,
        quality=quality,
        method=text("method", 80),
        definition=one_of("definition", ("marginal", "amortised")),
        reason=None if joules is not None else text("reason", 200) or "no reason was given",
    )


@dataclass
class Function:
    """All calls of one function by one user, as far as they were handed in."""

    uid: int
    name: str
    definition: str | None
    calls: int = 0
    measured: int = 0
    joules: float = 0.0
    #: Sums of the ends: the errors of one meter are mostly common to its calls.
    low: float = 0.0
    high: float = 0.0
    has_band: bool = True
    quality: str | None = None
    when: float = 0.0

    def add(self, call: Call) -> None:
        self.calls += 1
        self.when = call.when
        if call.joules is None:
            return
        self.measured += 1
        self.joules += call.joules
        if call.low is None or call.high is None:
            self.has_band = False
        else:
            self.low += call.low
            self.high += call.high
        worst = max(QUALITIES.index(q) for q in (call.quality, self.quality) if q is not None)
        self.quality = QUALITIES[worst]


class Calls:
    """What was handed in lately, and the socket where it comes in.

    Attributes:
        reason: Why nothing can come in, ``None`` where it can.
        refused: Messages that were none.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: deque[Call] = deque(maxlen=MOST_CALLS)
        self._functions: OrderedDict[tuple[int, str, str | None], Function] = OrderedDict()
        self._socket: socket.socket | None = None
        self._path: Path | None = None
        self.reason: str | None = "no socket was opened"
        self.refused = 0

    def listen(self, path: str, group: int | None = None) -> None:
        """Opens the socket and reads it from a thread of its own. A socket of an earlier agent is
        replaced, anything else is left and becomes the `reason`."""
        try:
            self._socket = _bound(Path(path), group)
        except OSError as error:
            self.reason = f"{path}: {error.strerror or error}"
            return
        self._path, self.reason = Path(path), None
        threading.Thread(target=self._read, name="calls", daemon=True).start()

    def _read(self) -> None:
        receiver = self._socket
        begin, count = time.monotonic(), 0
        while receiver is not None:
            try:
                data, extra, flags, _ = receiver.recvmsg(
                    MOST_BYTES, socket.CMSG_SPACE(_CREDENTIALS.size)
                )
            except OSError:
                break
            if self._socket is None:
                break
            now = time.monotonic()
            if now - begin >= 1:
                begin, count = now, 0
            count += 1
            if count > MOST_A_SECOND:
                time.sleep(max(0.0, begin + 1 - now))
            self.take(data, _uid_of(extra), bool(flags & socket.MSG_TRUNC))
        if receiver is not None:
            receiver.close()

    def take(self, data: bytes, uid: int | None, cut: bool = False) -> None:
        """One message of a user."""
        try:
            if cut or uid is None:
                raise Refused("cut, or of nobody")
            call = parsed(data, uid, time.time())
        except Refused:
            with self._lock:
                self.refused += 1
            return
        key = uid, call.function, call.definition
        with self._lock:
            self._last.appendleft(call)
            function = self._functions.pop(key, None) or Function(*key)
            function.add(call)
            self._functions[key] = function
            if len(self._functions) > MOST_FUNCTIONS:
                self._functions.popitem(last=False)

    def state(self, now: float) -> dict[str, Any]:
        """What the page shows: J, s."""
        with self._lock:
            functions = [
                {
                    "uid": one.uid,
                    "function": one.name,
                    "definition": one.definition,
                    "calls": one.calls,
                    "measured": one.measured,
                    "joules": _three(one.joules, one.low, one.high, one.has_band)
                    if one.measured
                    else None,
                    "quality": one.quality,
                    "age_s": max(0.0, now - one.when),
                }
                for one in reversed(self._functions.values())
            ]
            calls = [
                {
                    "uid": call.uid,
                    "function": call.function,
                    "age_s": max(0.0, now - call.when),
                    "seconds": call.seconds,
                    "joules": None
                    if call.joules is None
                    else _three(call.joules, call.low, call.high, call.low is not None),
                    "quality": call.quality,
                    "method": call.method,
                    "definition": call.definition,
                    "reason": call.reason,
                }
                for call in self._last
            ]
            return {
                "functions": functions,
                "calls": calls,
                "refused": self.refused,
                "reason": self.reason,
            }

    def close(self) -> None:
        """Ends; the socket is removed, so that nobody sends to it any more."""
        receiver, self._socket = self._socket, None
        if receiver is None or self._path is None:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
            # Wakes the thread, which a close would not.
            own.sendto(b"", socket.MSG_DONTWAIT, str(self._path))
        with contextlib.suppress(OSError):
            self._path.unlink()


def _three(
    value: float, low: float | None, high: float | None, has_band: bool
) -> tuple[float, float | None, float | None]:
    return (value, low, high) if has_band else (value, None, None)


def _uid_of(extra: list[tuple[int, int, bytes]]) -> int | None:
    """The user that the kernel names as the sender."""
    for level, kind, data in extra:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
            _, uid, _ = _CREDENTIALS.unpack_from(data)
            return int(uid)
    return None


def _bound(path: Path, group: int | None) -> socket.socket:
    """A socket at ``path`` that the ring's readers may send to.

    Raises:
        OSError: It cannot be made, or something else is there.
    """
    with contextlib.suppress(FileNotFoundError):
        there = path.lstat()
        if not stat.S_ISSOCK(there.st_mode) or there.st_uid != os.geteuid():
            raise FileExistsError(17, "something else is there; expected a socket of this user")
        path.unlink()
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        before = os.umask(0o177)
        try:
            made.bind(str(path))
        finally:
            os.umask(before)
        if group is not None:
            os.chown(path, -1, group)
        path.chmod(0o666 if group is None else 0o660)
    except BaseException:
        made.close()
        raise
    return made
