"""Files of a tree: read and replaced without leaving it, all of them or none.

A path is resolved once and must end inside the tree; from then on every step
goes through descriptors of directories and follows no link, so that nobody who
can write to the tree can lead the tool elsewhere in between.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

#: A source larger than this is not one we know.
_LARGEST = 4 << 20

_FOLLOW_NOTHING = os.O_NOFOLLOW | os.O_CLOEXEC


class Refused(Exception):
    """Something that was not done, and why, in one line."""


@dataclass(frozen=True)
class OpenFile:
    """A file as it was read, and the directory it is in."""

    #: As messages name it.
    shown: str
    directory: int
    name: str
    data: bytes
    status: os.stat_result


def shown(path: str | os.PathLike[str]) -> str:
    """A path as one line of printable text, whatever its name holds."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


@contextlib.contextmanager
def opened(root: Path, path: str) -> Iterator[OpenFile]:
    """A file of a tree, by its path below `root`, which is a resolved directory.

    Raises:
        Refused: it is missing, not a plain file, unreadable, or leads out of the tree.
    """
    with contextlib.ExitStack() as stack:
        yield _open(root, path, stack)


def _open(root: Path, path: str, stack: contextlib.ExitStack) -> OpenFile:
    label = shown(root / path)
    try:
        real = (root / path).resolve(strict=True)
        if not real.is_relative_to(root):
            raise Refused(f"{label}: a link that leads out of the tree, to {shown(real)}")
        directory = os.open(root, os.O_DIRECTORY | _FOLLOW_NOTHING)
        stack.callback(os.close, directory)
        *folders, name = real.relative_to(root).parts
        for folder in folders:
            directory = os.open(folder, os.O_DIRECTORY | _FOLLOW_NOTHING, dir_fd=directory)
            stack.callback(os.close, directory)
        data, status = _read(directory, name, label)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
        raise Refused(f"{label}: cannot be read ({_reason(error)})") from None
    return OpenFile(label, directory, name, data, status)


def _read(directory: int, name: str, label: str) -> tuple[bytes, os.stat_result]:
    # Without O_NONBLOCK the opening of a FIFO would wait for somebody to write to it.
    file = os.open(name, os.O_RDONLY | os.O_NONBLOCK | _FOLLOW_NOTHING, dir_fd=directory)
    with os.fdopen(file, "rb") as stream:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise Refused(f"{label}: not a plain file")
        data = stream.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise Refused(f"{label}: larger than {_LARGEST >> 20} MiB, not a source file we know")
    return data, status


def replace(changes: Sequence[tuple[OpenFile, bytes]]) -> None:
    """Gives every file its new content, or leaves all as they were.

    Raises:
        Refused: one cannot be written, or changed since it was read.
    """
    staged: list[tuple[OpenFile, str]] = []
    done: list[OpenFile] = []
    try:
        for file, data in changes:
            with _explained(file):
                staged.append((file, _stage(file, data)))
        while staged:
            file, temporary = staged[0]
            with _explained(file):
                _expect_unchanged(file)
                os.rename(
                    temporary, file.name, src_dir_fd=file.directory, dst_dir_fd=file.directory
                )
            staged.pop(0)
            done.append(file)
            _sync_directory(file)
    except BaseException as error:
        _put_back(done, error)
        raise
    finally:
        for file, temporary in staged:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=file.directory)


@contextlib.contextmanager
def _explained(file: OpenFile) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Refused(
            f"{file.shown}: cannot be written ({_reason(error)}); nothing is changed"
        ) from None


def _stage(file: OpenFile, data: bytes) -> str:
    """Writes the new content next to the file; returns its name there."""
    # Not *.py: nobody imports it, should we be killed before it is renamed.
    temporary = f".{file.name[:100]}.{secrets.token_hex(8)}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FOLLOW_NOTHING
    descriptor = os.open(temporary, flags, 0o600, dir_fd=file.directory)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            _take_over_attributes(file, descriptor)
            os.fsync(descriptor)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=file.directory)
        raise
    return temporary


def _take_over_attributes(file: OpenFile, descriptor: int) -> None:
    """Owner, extended attributes (access lists are such) and permissions, in this order."""
    ours = os.fstat(descriptor)
    wanted = file.status
    if (ours.st_uid, ours.st_gid) != (wanted.st_uid, wanted.st_gid):
        os.fchown(descriptor, wanted.st_uid, wanted.st_gid)
    if hasattr(os, "listxattr"):
        with contextlib.suppress(OSError):  # a file system without them
            original = os.open(file.name, os.O_RDONLY | _FOLLOW_NOTHING, dir_fd=file.directory)
            try:
                for name in os.listxattr(original):
                    with contextlib.suppress(OSError):  # the kernel's own, such as SELinux labels
                        os.setxattr(descriptor, name, os.getxattr(original, name))
            finally:
                os.close(original)
    os.fchmod(descriptor, stat.S_IMODE(wanted.st_mode))


def _expect_unchanged(file: OpenFile) -> None:
    data, status = _read(file.directory, file.name, file.shown)
    if data != file.data or not os.path.samestat(status, file.status):
        raise Refused(f"{file.shown}: changed while we looked at it; nothing is changed by us")


def _put_back(done: list[OpenFile], cause: BaseException) -> None:
    for file in reversed(done):
        try:
            temporary = _stage(file, file.data)
            os.rename(temporary, file.name, src_dir_fd=file.directory, dst_dir_fd=file.directory)
        except OSError as error:
            raise Refused(
                f"{file.shown}: is changed and could not be put back ({_reason(error)}) "
                f"after: {cause}"
            ) from cause
        _sync_directory(file)


def _sync_directory(file: OpenFile) -> None:
    with contextlib.suppress(OSError):  # some file systems cannot, and need not
        os.fsync(file.directory)


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[:1].lower() + error.strerror[1:]
    return " ".join(str(error).split())
