"""The file of a trace: gzip over one line of JSON and blocks of rows."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lithowatt import _core
from lithowatt._support.files import read_plain, writing
from lithowatt.errors import MalformedValueError, UnreadableFileError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FORMAT = "lithowatt trace"
VERSION = 1

MOST_BYTES = 256 << 20
"""A trace is no longer than this, unpacked: 10 hours at 100 samples a second on 8 counters."""

_MOST_HEADER = 4 << 20
"""The header of a machine with a thousand counters is a tenth of it."""

_GZIP = 16 + zlib.MAX_WBITS
_PIECE = 1 << 20


class Trace:
    """A recording of one window.

    Attributes:
        about: What is known of it: ``format``, ``version``, ``lithowatt`` (the version that
            recorded), ``kernel``, ``recorded`` (a date, UTC), ``cpu`` (the processor's name),
            ``counters`` (their names), ``command`` and ``exit_code`` where they were recorded.

    Args:
        content: The bytes of a file.
        name: What errors call it.

    Raises:
        MalformedValueError: It is no trace, damaged, cut short, or of a later version.
    """

    about: dict[str, Any]

    def __init__(self, content: bytes, *, name: str = "the trace") -> None:
        self._content = content
        self._name = name
        body = _unpacked(content, name)
        header, blocks = _parts(body, name)
        try:
            recording = json.dumps(header.pop("recording", None))
            self._core = _core.Trace(recording.encode(), blocks)
        except ValueError as error:
            raise _malformed(name, str(error)) from None
        self.about = header

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Trace:
        """The trace in a file.

        Raises:
            UnreadableFileError: There is no such file, or it may not be read.
            MalformedValueError: It is no trace, damaged, cut short, or of a later version.
        """
        try:
            content = read_plain(path, MOST_BYTES)
        except OSError as error:
            why = error.strerror or error
            raise UnreadableFileError(f"{os.fspath(path)}: {why}; expected a trace") from error
        return cls(content, name=str(path))

    @property
    def seconds(self) -> float:
        """Length of its window in s."""
        return self._core.seconds

    @property
    def samples(self) -> int:
        """Samples between the edges of its window."""
        return self._core.samples

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self._content, self._name)

    def __repr__(self) -> str:
        return f"<Trace: {self.seconds:.3f} s, {self.samples} samples, {self.about.get('cpu')}>"


def _again(content: bytes, name: str) -> Trace:
    return Trace(content, name=name)


def _malformed(name: str, what: str) -> MalformedValueError:
    return MalformedValueError(
        f"{name}: {what}; expected a trace of version {VERSION}, as lithowatt record writes it"
    )


def _unpacked(content: bytes, name: str) -> bytes:
    """What is inside the gzip, whose checksum and end are there."""
    unpack = zlib.decompressobj(_GZIP)
    try:
        body = unpack.decompress(content, MOST_BYTES + 1)
    except zlib.error as error:
        raise _malformed(name, f"it is no gzip file, or damaged ({error})") from None
    if len(body) > MOST_BYTES:
        raise _malformed(name, f"it unpacks to more than {MOST_BYTES} bytes")
    if not unpack.eof:
        raise _malformed(name, "it ends too early")
    if unpack.unused_data:
        raise _malformed(name, "something follows its end")
    return body


def _parts(body: bytes, name: str) -> tuple[dict[str, Any], list[bytes]]:
    """The header, and the blocks after it."""
    end = body.find(b"\n", 0, _MOST_HEADER)
    if end < 0:
        raise _malformed(name, "it has no header")
    try:
        header = json.loads(body[:end])
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise _malformed(name, "its header is not that of a trace")
    if header.get("version") != VERSION:
        raise _malformed(name, f"it is of version {header.get('version')!r:.40}")
    blocks, at = [], end + 1
    while True:
        length = int.from_bytes(body[at : at + 4], "little")
        if len(body) < at + 4 + length:
            raise _malformed(name, "its rows end too early")
        at += 4
        if length == 0:
            break
        blocks.append(body[at : at + length])
        at += length
    if at != len(body):
        raise _malformed(name, "something follows its rows")
    return header, blocks


def framed(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Blocks as they are in the body, with the end."""
    for block in blocks:
        yield len(block).to_bytes(4, "little") + block
    yield bytes(4)


def packed(header: dict[str, Any], recording: str, body: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces of a file. ``recording`` is the core's part of the header, as JSON; ``body`` is
    what :func:`framed` gives."""
    about = {"format": FORMAT, "version": VERSION, **header}
    # The core's text goes in as it is: its numbers are exact.
    line = json.dumps(about)[:-1] + f', "recording": {recording}}}\n'
    pack = zlib.compressobj(9, zlib.DEFLATED, _GZIP)
    yield pack.compress(line.encode())
    for piece in body:
        for at in range(0, len(piece), _PIECE):
            yield pack.compress(piece[at : at + _PIECE])
    yield pack.flush()


def save(path: str | os.PathLike[str], pieces: Iterable[bytes]) -> int:
    """Writes a trace in one step; returns its size in bytes.

    Raises:
        OSError: It cannot be written; what was there before still is.
    """
    size = 0
    with writing(Path(path)) as file:
        for piece in pieces:
            size += len(piece)
            file.write(piece)
    return size
