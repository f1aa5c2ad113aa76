"""The ring over HTTP, for pods that may not mount a folder of their node.

An agent with ``--serve-ring`` gives the newest samples at ``/ring``. ``lithowatt agent --mirror
URL`` beside the function (a sidecar, with an ``emptyDir`` in memory between the two) keeps a ring
of its own from them. The function's meter reads that one, so no network is ever in its way.
"""

from __future__ import annotations

import fcntl
import http.client
import os
import struct
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from lithowatt import _core
from lithowatt._support.files import replacement
from lithowatt.errors import AgentError

if TYPE_CHECKING:
    from lithowatt._support.command import Ending

FIXED_BYTES = 8192
"""Header, head, account and idle powers: all that comes before the samples."""

HEADER_WORDS = 512
HEAD_AT, HEAD_BYTES = 4096, 64
IDLE_AT = 5120

SAMPLES = 32
"""Newest samples that are sent at once."""

MOST_BYTES = 1 << 20
"""An answer that is longer is none."""

MOST_FILE_BYTES = 64 << 20
"""Nor is a ring that is longer."""

TIMEOUT_SECONDS = 1.0

# Words of the header.
_MAGIC = struct.unpack("<Q", b"LITHOWAT")[0]
_LAYOUT, _FILE, _GENERATION, _PERIOD, _SLOTS, _SAMPLE = 1, 2, 3, 7, 14, 15


def newest(path: str | os.PathLike[str]) -> bytes:
    """What is before the samples, then the newest samples, each after its place in the file.

    Raises:
        OSError: Where the ring cannot be read.
    """
    with open(path, "rb", buffering=0) as ring:  # noqa: PTH123 - unbuffered, as others write it
        fixed = os.pread(ring.fileno(), FIXED_BYTES, 0)
        header = struct.unpack_from(f"<{HEADER_WORDS}Q", fixed)
        (count,) = struct.unpack_from("<Q", fixed, HEAD_AT)
        size = header[_SAMPLE] * 8
        parts = [fixed]
        for number in range(max(1, count - SAMPLES + 1), count + 1):
            at = FIXED_BYTES + (number - 1) % header[_SLOTS] * size
            parts.append(struct.pack("<Q", at) + os.pread(ring.fileno(), size, at))
    return b"".join(parts)


def checksum(words: tuple[int, ...] | list[int]) -> int:
    """FNV-1a over words.

    Example:
        >>> hex(checksum([]))
        '0xcbf29ce484222325'
    """
    value = 0xCBF29CE484222325
    for word in words:
        value = ((value ^ word) * 0x100000001B3) % (1 << 64)
    return value


def is_address(url: str) -> bool:
    """Whether this is where an agent may be: ``http://HOST:PORT``, or ``https``.

    Example:
        >>> is_address("http://lithowatt-agent.lithowatt:9477")
        True
        >>> is_address("lithowatt-agent:9477"), is_address("http://:1"), is_address("http://a:0")
        (False, False, False)
    """
    try:
        parts = urllib.parse.urlsplit(url)
        named = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    # Spaces and what cannot be seen would be cut or sent as they are.
    plain = all("!" <= character <= "~" for character in url)
    return named and plain and not parts.query and not parts.fragment


class Mirror:
    """Keeps a ring at ``path`` from what an agent sends.

    Raises:
        AgentError: Where another one writes that ring.
        OSError: Where the folder cannot be used.
    """

    def __init__(self, url: str, path: str, period: float) -> None:
        if not is_address(url):
            raise AgentError(
                f"--mirror {url!r} is no address; expected that of an agent with --serve-ring, "
                "http://HOST:PORT"
            )
        self.url = url.rstrip("/") + "/ring"
        self.path = Path(path)
        self.period = period
        self._file: int | None = None
        self._generation = 0
        self._said = ""
        _core.ring_may_be_replaced(self.path)
        self.path.parent.mkdir(mode=0o755, exist_ok=True)
        lock = self.path.with_name("agent.lock")
        self._lock = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise AgentError(
                f"another one writes {path}; expected one for a ring, another by --ring"
            ) from None
        # The next one that comes is told who holds the lock.
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def run(self, ended: Ending) -> None:
        """Goes on until ``ended``. An agent that does not answer makes the ring stale, no more.

        Standard error has a line at the start and wherever the state changed."""
        self._say("starting", f"{self.path} is kept from {self.url}")
        reached = False
        try:
            while not ended.is_set():
                try:
                    self.once()
                except (OSError, http.client.HTTPException, ValueError) as error:
                    if isinstance(error, urllib.error.HTTPError) and error.code == 404:
                        self._say("no ring", f"no {self.url}: does that agent have --serve-ring?")
                    elif isinstance(error, urllib.error.HTTPError | ValueError):
                        self._say("no agent", f"{self.url} gives no agent's ring ({error})")
                    else:
                        what = "lost" if reached else "not reached yet"
                        self._say("silent", f"{self.url} {what} ({_why(error)}); goes on asking")
                else:
                    reached = True
                    self._say("reached", f"{self.url} reached")
                ended.wait(self.period)
        finally:
            self.close()

    def _say(self, state: str, text: str) -> None:
        """Once per state: a mirror asks ten times a second."""
        if state != self._said:
            self._said = state
            print(f"lithowatt agent: mirror: {text}", file=sys.stderr, flush=True)

    def once(self) -> None:
        """Asks once.

        Raises:
            OSError: Where there is no answer.
            ValueError: Where it is none of an agent.
        """
        # The scheme was looked at when this was made.
        with urllib.request.urlopen(self.url, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
            body = answer.read(MOST_BYTES + 1)
        if not FIXED_BYTES <= len(body) <= MOST_BYTES:
            raise ValueError("no ring's length")
        header = list(struct.unpack_from(f"<{HEADER_WORDS}Q", body))
        if header[0] != _MAGIC or header[-1] != checksum(header[:-1]):
            raise ValueError("no ring's header")
        if header[_LAYOUT] != 1 or header[_FILE] > MOST_FILE_BYTES:
            raise ValueError("another layout")
        if self._file is None or header[_GENERATION] != self._generation:
            self._begin(header, body)
        else:
            _put(self._file, header, body)

    def _begin(self, header: list[int], body: bytes) -> None:
        """Makes a new file and puts it in its place when it is whole."""
        # A reader must know how seldom this ring gets a sample.
        slow = max(header[_PERIOD], int(self.period * 1e9))
        header[_PERIOD] = slow
        header[-1] = checksum(header[:-1])
        _core.ring_may_be_replaced(self.path)
        with replacement(self.path, mode=0o600) as new:
            os.ftruncate(new, header[_FILE])
            os.pwrite(new, struct.pack(f"<{HEADER_WORDS}Q", *header), 0)
            _put(new, header, body)
            os.fchmod(new, 0o644)
            file = os.dup(new)
        if self._file is not None:
            os.close(self._file)
        self._file, self._generation = file, header[_GENERATION]

    def close(self) -> None:
        """Closes its files; the ring grows stale by itself."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        os.close(self._lock)


def _why(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return getattr(reason, "strerror", None) or str(reason) or type(reason).__name__


def _put(file: int, header: list[int], body: bytes) -> None:
    """Puts what was sent in its places, the head last: it vouches for the samples."""
    step = 8 + header[_SAMPLE] * 8
    for at in range(FIXED_BYTES, len(body) - step + 1, step):
        (place,) = struct.unpack_from("<Q", body, at)
        if FIXED_BYTES <= place <= header[_FILE] - step:
            os.pwrite(file, body[at + 8 : at + step], place)
    # The account is left out, for its rows are not sent: groups are in the metrics.
    os.pwrite(file, body[IDLE_AT:FIXED_BYTES], IDLE_AT)
    os.pwrite(file, body[HEAD_AT : HEAD_AT + HEAD_BYTES], HEAD_AT)
