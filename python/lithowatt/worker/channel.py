"""Carries one call's values from the function's process to the handler's.

Lithops forks a process per call. The handler makes an anonymous shared mapping
before that fork, so that the function's process needs no file, no name and no
cleaning up, and whatever it has committed is there however it dies. Lithops'
own way (one line of text per value) turns booleans, lists and None into text.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from typing import Protocol

from lithowatt import _core

#: Bytes of the mapping. A full set is about 4 KB of JSON; pages that are never
#: written take no memory.
CAPACITY = 64 * 1024

_EMPTY, _STARTED, _COMMITTED = 0, 1, 2

#: state, sequence, process id, length, CRC-32 of the payload.
_HEADER = struct.Struct("<IIIII")

_sequence = 0

#: Mappings of calls that are over, for the next ones, and the process that they are of: to make one
#: anew and to give it back takes as long as all else that is done with it.
_spare: list[mmap.mmap] = []
_spare_of = 0
_MOST_SPARE = 2


class Sink(Protocol):
    """Takes a call's values from the process that runs its function."""

    def mark_started(self) -> None:
        """The function begins, in this process."""

    def write(self, payload: bytes) -> bool:
        """Takes the call's window, or its values as JSON text.

        False where there is no room, and nothing is kept then.
        """


class Channel:
    """A mailbox for one payload, written by the forked child, read by its parent."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        global _sequence
        _sequence = (_sequence + 1) & 0xFFFFFFFF
        # Parent and child agree on the number because the child is a fork.
        self._sequence = _sequence
        self._pid = os.getpid()
        if _spare_of != self._pid:
            # A parent's: it may use them again, too.
            _spare.clear()
        self._memory = _spare.pop() if _spare and capacity == CAPACITY else mmap.mmap(-1, capacity)

    def mark_started(self) -> None:
        """Records that the function has begun, and in which process."""
        _HEADER.pack_into(self._memory, 0, _STARTED, self._sequence, os.getpid(), 0, 0)

    def write(self, payload: bytes) -> bool:
        """Commits a payload; False where it does not fit, and nothing is changed then."""
        if _HEADER.size + len(payload) > len(self._memory):
            return False
        self._memory[_HEADER.size : _HEADER.size + len(payload)] = payload
        # The header last: a process killed half-way has committed nothing, and
        # a torn write fails the checksum.
        header = (_COMMITTED, self._sequence, os.getpid(), len(payload), zlib.crc32(payload))
        _HEADER.pack_into(self._memory, 0, *header)
        return True

    def started_by(self) -> int | None:
        """Process id of the function that began, None if none did."""
        state, sequence, pid, _, _ = _HEADER.unpack_from(self._memory, 0)
        return int(pid) if state != _EMPTY and sequence == self._sequence else None

    def read(self) -> bytes | None:
        """The committed payload, None where there is none or it is damaged."""
        state, sequence, _, length, checksum = _HEADER.unpack_from(self._memory, 0)
        if state != _COMMITTED or sequence != self._sequence:
            return None
        payload = self._memory[_HEADER.size : _HEADER.size + length]
        if len(payload) != length or zlib.crc32(payload) != checksum:
            return None
        return payload

    def close(self) -> None:
        """Gives the mapping back (a child that is still alive keeps its own)."""
        global _spare_of
        memory = self._memory
        mine = self._pid == os.getpid() and len(memory) == CAPACITY
        if mine and len(_spare) < _MOST_SPARE and self._is_idle():
            _HEADER.pack_into(memory, 0, _EMPTY, 0, 0, 0, 0)
            _spare_of = self._pid
            _spare.append(memory)
            self._memory = _NO_MEMORY
            return
        memory.close()

    def _is_idle(self) -> bool:
        """Whether nobody writes any more: the process that did is gone, and was waited for."""
        writer = self.started_by()
        return writer is not None and _core.process_cpu_seconds(writer) is None


#: What a channel has that was closed.
_NO_MEMORY = mmap.mmap(-1, 1)
_NO_MEMORY.close()
