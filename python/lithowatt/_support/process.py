"""Which process this is: for a lock that outlives a fork, and for what is sent to another one."""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import threading
from typing import NamedTuple

#: Parents of parents that are looked for at most.
_MOST_ANCESTORS = 64


class ForkSafeLock:
    """A lock of this process: one that another thread held at a fork is left to the parent.

    Example:
        >>> guard = ForkSafeLock()
        >>> with guard.here():
        ...     print("held")
        held
    """

    def __init__(self) -> None:
        self._locks: dict[int, threading.Lock] = {}

    def here(self) -> threading.Lock:
        """The lock, to be taken at once."""
        # In one step, so that all threads of a child get the same one.
        return self._locks.setdefault(os.getpid(), threading.Lock())


class ProcessIdentity(NamedTuple):
    """A process, told from those of other machines, boots and containers.

    Attributes:
        boot: The kernel's id of its boot; empty where it is not shown.
        place: Where its id means one process: the boot and the namespace of process ids.
        process: Its id.
        ancestors: Ids of its parent, of that one's parent and so on.
    """

    boot: str
    place: str
    process: int
    ancestors: tuple[int, ...]


def boot_id() -> str:
    """The kernel's id of this boot; empty where it is not shown."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:  # noqa: PTH123
            return file.read(64).decode("ascii", "replace").strip()
    except OSError:
        return ""


#: For a system that does not show where this is: its forks have the same.
_SOMEWHERE = secrets.token_hex(8)


@functools.lru_cache(maxsize=16)
def identity(process: int) -> ProcessIdentity:
    """That of this process, or of one that it was forked from."""
    boot, place = boot_id(), _SOMEWHERE
    if boot:
        with contextlib.suppress(OSError):
            place = f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"  # noqa: PTH116
    ancestors: list[int] = []
    parent = _parent(process)
    while parent is not None and len(ancestors) < _MOST_ANCESTORS:
        ancestors.append(parent)
        parent = _parent(parent)
    return ProcessIdentity(boot, place, process, tuple(ancestors))


def _parent(process: int) -> int | None:
    try:
        with open(f"/proc/{process}/stat", "rb") as file:  # noqa: PTH123
            told = file.read(4096)
        # After the name, which may have anything in it, and the state: proc_pid_stat(5).
        parent = int(told.rpartition(b")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return parent if parent > 0 else None
