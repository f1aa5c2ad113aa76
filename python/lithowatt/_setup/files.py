"""Files of the system that setup writes, knows again and takes back.

The first line of each holds a checksum of the rest. Setup replaces and removes only what carries
its line and has not been changed since.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from lithowatt._setup.trust import distrust
from lithowatt._support.files import replacement
from lithowatt.errors import UnavailableError, UnwritableFileError

_MARK = "# Written by lithowatt setup, which takes it back with --undo. SHA-256 of the rest: "

#: No file of ours is as long, B.
_MOST = 65536


@dataclass(frozen=True)
class Planned:
    """A file that is to be written.

    Attributes:
        path: Where it is on the machine that it is for, absolute.
        content: What is in it, with the line that it is known again by.
    """

    path: str
    content: str

    @classmethod
    def of(cls, path: str, rest: str) -> Planned:
        """A file with this content after the line that it is known again by."""
        return cls(path, f"{_MARK}{hashlib.sha256(rest.encode()).hexdigest()}\n{rest}")


@dataclass(frozen=True)
class Found:
    """What is at a path now.

    Attributes:
        path: Where, on the machine that it is for.
        content: The text, ``None`` where there is nothing or no plain text.
        not_ours: Why it is not what setup wrote; ``None`` where it is, or nothing is there.
    """

    path: str
    content: str | None
    not_ours: str | None

    @property
    def is_ours(self) -> bool:
        """Whether setup wrote it, and nobody has changed it since."""
        return self.content is not None and self.not_ours is None


def below(root: Path, path: str) -> str:
    """Where a path of a machine is whose ``/`` is ``root``.

    Example:
        >>> below(Path("/mnt"), "/etc/group"), below(Path("/"), "/etc/group")
        ('/mnt/etc/group', '/etc/group')
    """
    return str(root / path.lstrip("/"))


def owners(root: Path) -> Collection[int]:
    """Whom folders below ``root`` may belong to: root, and of another tree also who runs this."""
    return (0,) if str(root) == "/" else (0, os.geteuid())


def look(root: Path, path: str) -> Found:
    """What is at a path.

    Raises:
        OSError: It cannot be looked at.
    """
    here = below(root, path)
    try:
        descriptor = os.open(here, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return Found(path, None, None)
    except OSError as error:
        if os.path.islink(here):  # noqa: PTH114
            return Found(path, None, "it is a link")
        raise UnavailableError(f"{here} cannot be read: {error.strerror}") from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return Found(path, None, "it is no plain file")
        data = os.read(descriptor, _MOST + 1)
    finally:
        os.close(descriptor)
    text = data.decode("utf-8", "replace")
    first, _, rest = text.partition("\n")
    if not first.startswith(_MARK) or len(data) > _MOST:
        return Found(path, text, "setup did not write it")
    if found.st_uid not in owners(root):
        return Found(path, text, "it belongs to another user")
    if first != _MARK + hashlib.sha256(rest.encode()).hexdigest():
        return Found(path, text, "it was changed since setup wrote it")
    return Found(path, text, None)


def check(root: Path, path: str) -> Found:
    """What is at a path that is to be written or removed, where that may be done.

    Raises:
        UnavailableError: There is something that setup did not write, or somebody else than root
            could change a folder on the way.
    """
    folder = os.path.dirname(below(root, path))  # noqa: PTH120
    while not os.path.lexists(folder) and len(folder) > len(str(root)):
        folder = os.path.dirname(folder)  # noqa: PTH120
    why = distrust(folder, start=str(root), owners=owners(root), links=False)
    if why:
        raise UnavailableError(f"{below(root, path)} is not safe to write: {why}")
    found = look(root, path)
    if found.not_ours:
        raise UnavailableError(
            f"{below(root, path)} is left alone: {found.not_ours}; move it away first"
        )
    return found


def write(root: Path, planned: Planned) -> None:
    """Writes a file in one step, after `check`.

    Raises:
        UnwritableFileError: It cannot be written; what was there before still is.
    """
    here = Path(below(root, planned.path))
    try:
        here.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        with replacement(here, mode=0o644) as descriptor:
            os.fchmod(descriptor, 0o644)  # whatever the umask is
            data = planned.content.encode()
            while data:
                data = data[os.write(descriptor, data) :]
            os.fsync(descriptor)
    except OSError as error:
        raise UnwritableFileError(f"{here} cannot be written: {error.strerror}") from error


def remove(root: Path, path: str) -> None:
    """Removes a file, after `check`.

    Raises:
        UnwritableFileError: It cannot be removed.
    """
    here = Path(below(root, path))
    try:
        here.unlink(missing_ok=True)
    except OSError as error:
        raise UnwritableFileError(f"{here} cannot be removed: {error.strerror}") from error


def plain_path(path: str) -> bool:
    """Whether a path means the same in a shell, a rule of udev and a unit of systemd."""
    return re.fullmatch(r"/[A-Za-z0-9/._+@-]*", path) is not None
