"""Files that are written whole or not at all, and read only where they are plain and small.

Everything of lithowatt that replaces or reads a file by its name goes through here, because the
name may be in a folder where other users can make files too: what is written is made under a name
that nobody can have made before, and what is read is neither waited for nor read without end.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

try:
    import fcntl
except ImportError:  # no such locks on this system
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger("lithowatt")

__all__ = [
    "LOCK_PATIENCE",
    "MOST_SETTINGS",
    "Appended",
    "Stamp",
    "append_line",
    "folders_for",
    "locked",
    "no_folder",
    "no_output",
    "read_plain",
    "replacement",
    "write_atomically",
    "write_pieces",
    "writing",
]

StrPath = str | os.PathLike[str]

_CLOSED_ON_EXEC = getattr(os, "O_CLOEXEC", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)

#: As many links one after another as the kernel follows, path_resolution(7).
_MOST_LINKS = 40


def write_atomically(
    path: StrPath, content: str | bytes, *, mode: int = 0o666, sync: bool = True
) -> None:
    """Replaces a file's content in one step.

    A file that is there keeps its permissions and, where this user may set it, its owner. A link
    stays a link, and what it points to is replaced. What is no plain file, such as ``/dev/null``,
    ``/dev/stdout`` or a FIFO, is written to and not replaced.

    Args:
        path: The file.
        content: Text is written in UTF-8.
        mode: Permissions of a new file, less the umask.
        sync: Has the content on the disk before the name points to it, so that a power failure
            leaves the old file or the new one. A cache, which can be made again, does without.

    Raises:
        OSError: It cannot be written; what was there before still is.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    try:
        _replace(path, data, mode, sync)
    except OSError as error:
        if error.filename is not None:
            raise
        # A full disk, a limit: of a write by its descriptor, which does not know the name.
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def _replace(path: StrPath, data: bytes, mode: int, sync: bool) -> None:
    if _is_special(path):
        descriptor = os.open(path, os.O_WRONLY | _CLOSED_ON_EXEC)
        try:
            _write_all(descriptor, data)
        finally:
            os.close(descriptor)
        return
    with replacement(path, mode=mode) as descriptor:
        _write_all(descriptor, data)
        if sync:
            os.fsync(descriptor)


@contextlib.contextmanager
def writing(path: StrPath, *, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """A file to write a path's content to: it takes the place of what is there when the block ends
    well, as `write_atomically` does.

    Raises:
        OSError: It cannot be written; what was there before still is.
    """
    if _is_special(path):
        with open(path, "wb") as file:  # noqa: PTH123
            yield file
        return
    with replacement(path, mode=mode) as descriptor:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            yield file
        os.fsync(descriptor)


def _is_special(path: StrPath) -> bool:
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)  # noqa: PTH116
    except OSError:
        return False
    return kind not in (stat.S_IFREG, stat.S_IFDIR)


def _write_all(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


@contextlib.contextmanager
def replacement(path: StrPath, *, mode: int = 0o666) -> Iterator[int]:
    """A new file, as an open descriptor, that takes the place of ``path`` when the block ends well.

    The descriptor is closed at the end of the block; who needs it longer duplicates it.

    Raises:
        OSError: It cannot be made; what was there before still is.
    """
    target = _behind_links(os.path.abspath(path))  # noqa: PTH100 - resolves no link
    folder, name = os.path.split(target)
    if not name:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    # The folder by its descriptor: nobody can put another one in its place in between.
    directory = os.open(folder, getattr(os, "O_PATH", 0) | os.O_DIRECTORY | _CLOSED_ON_EXEC)
    try:
        # Not made of the name, which may have the longest length there is already.
        temporary = f".lithowatt-{secrets.token_hex(8)}.tmp"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | _NO_LINK | _CLOSED_ON_EXEC
        descriptor = os.open(temporary, flags, mode, dir_fd=directory)
        try:
            try:
                _take_over(directory, name, descriptor)
                yield descriptor
            finally:
                os.close(descriptor)
            os.replace(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=directory)
            raise
    finally:
        os.close(directory)


def _take_over(directory: int, name: str, descriptor: int) -> None:
    """Owner and permissions of the file that is to be replaced, as far as they may be given."""
    try:
        old = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return
    if stat.S_ISDIR(old.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
    new = os.fstat(descriptor)
    if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
        with contextlib.suppress(OSError):
            os.fchown(descriptor, old.st_uid, old.st_gid)
    with contextlib.suppress(OSError):
        os.fchmod(descriptor, old.st_mode & 0o777)


def _behind_links(path: str) -> str:
    """The file that a path means, its last part followed through links that can be trusted.

    Raises:
        PermissionError: A link that somebody else put into a folder that all may write to: the
            rule of Linux' ``fs.protected_symlinks``, which is not switched on everywhere.
        OSError: Too many links.
    """
    for _ in range(_MOST_LINKS):
        folder, name = os.path.split(path)
        path = os.path.join(os.path.realpath(folder), name)  # noqa: PTH118
        try:
            link = os.lstat(path)
        except FileNotFoundError:
            return path
        if not stat.S_ISLNK(link.st_mode):
            return path
        around = os.stat(os.path.dirname(path))  # noqa: PTH116, PTH120
        if around.st_mode & stat.S_IWOTH and link.st_uid not in (os.geteuid(), around.st_uid):
            message = "a link of another user, in a folder that all may write to, is not followed"
            raise PermissionError(errno.EACCES, message, path)
        path = os.path.join(os.path.dirname(path), os.readlink(path))  # noqa: PTH115, PTH118, PTH120
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)


def no_output(output: Path, option: str = "--output") -> str | None:
    """Why a file cannot be written there, ``None`` where it can: to be asked before the work."""
    if output.is_dir():
        return f"{output} is a directory; {option} takes a file"
    if output.exists() and not output.is_file():  # a device or a FIFO is written to, not replaced
        return None if os.access(output, os.W_OK) else f"{output} is not writable"
    if not output.parent.is_dir():
        return f"there is no directory {output.parent} to write {output.name} in"
    if not os.access(output.parent, os.W_OK):
        return f"{output.parent} is not writable"
    return None


def no_folder(folder: Path) -> str | None:
    """Why a folder cannot be made and written to, ``None`` where it can."""
    there = folder
    while not os.path.lexists(there) and there != there.parent:
        there = there.parent
    if not there.is_dir():
        return f"{there} is no directory; expected a folder to write in"
    if not os.access(there, os.W_OK):
        return f"{there} is not writable"
    return None


@contextlib.contextmanager
def folders_for(files: Iterable[Path]) -> Iterator[None]:
    """The folders of files that are going to be written: those that had to be made, and hold
    nothing when the block fails, are removed again.

    Raises:
        OSError: One cannot be made.
    """
    made: list[Path] = []
    try:
        for folder in dict.fromkeys(file.parent for file in files):
            missing = []
            while not folder.exists() and folder != folder.parent:
                missing.append(folder)
                folder = folder.parent
            for one in reversed(missing):
                one.mkdir(exist_ok=True)
                made.append(one)
        yield
    except BaseException:
        for one in reversed(made):
            with contextlib.suppress(OSError):
                one.rmdir()
        raise


MOST_SETTINGS = 16 << 20
"""Bytes of a file of settings: more is another kind of file."""


def read_plain(path: StrPath, limit: int) -> bytes:
    """The content of a plain file of at most ``limit`` bytes.

    Raises:
        OSError: It cannot be read, is no plain file (a FIFO would be waited for, a device read
            without end) or is longer.
    """
    # Without O_NONBLOCK the opening of a FIFO waits for somebody to write to it.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _CLOSED_ON_EXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a plain file", os.fspath(path))
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"longer than {limit} bytes", os.fspath(path))
    return content


#: Errors of a directory that takes no new file, and of a file that cannot be replaced because it
#: is mounted by itself: the file may be writable all the same.
_NO_NEW_FILE = (errno.EACCES, errno.EPERM, errno.EBUSY, errno.EXDEV)


def write_pieces(path: str | os.PathLike[str], pieces: Sequence[bytes]) -> None:
    """Replaces a file's content in one step.

    Where the directory takes no new file, the content is written over the old one, with its room
    on the disk reserved first.

    Raises:
        OSError: It cannot be written; what was there before still is.
    """
    content = b"".join(pieces)
    try:
        write_atomically(path, content)
    except OSError as error:
        # A link that was refused is not written through here either.
        plain = Path(path).is_file() and not Path(path).is_symlink()
        if error.errno not in _NO_NEW_FILE or not plain:
            raise
        _overwrite(path, content)


def _overwrite(path: str | os.PathLike[str], content: bytes) -> None:
    descriptor = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    with os.fdopen(descriptor, "r+b", buffering=0) as file:
        before = file.read()
        try:
            if len(content) > len(before) and hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, len(content))
            _fill(file, content)
            os.fsync(file.fileno())
        except BaseException:
            # The old content has its room on the disk still.
            _fill(file, before)
            raise


def _fill(file: IO[bytes], content: bytes) -> None:
    """Makes this the whole content of an unbuffered file."""
    file.seek(0)
    left = memoryview(content)
    while left:
        left = left[file.write(left) or 0 :]
    file.truncate(len(content))


#: Seconds to wait for another writer before going on without the lock: a
#: workflow must not hang on a dead file server.
LOCK_PATIENCE = 10.0


@contextlib.contextmanager
def locked(
    path: str | os.PathLike[str], *, patience: float | None = None, quiet: bool = False
) -> Iterator[bool]:
    """Keeps other writers of the files beside `path` out, processes and threads alike.

    The lock is on the directory, so that no lock file stays behind. Yields
    False, and goes on, where it is not to be had within ``patience`` seconds, by
    default `LOCK_PATIENCE`; that is logged, unless it shall be ``quiet``.
    """
    patience = LOCK_PATIENCE if patience is None else patience
    directory = Path(os.path.realpath(path)).parent
    descriptor = -1
    held = False
    try:
        if fcntl is not None:
            with contextlib.suppress(OSError):
                descriptor = os.open(directory, os.O_RDONLY)
                held = _lock(descriptor, patience)
        if not held and not quiet and directory.exists():
            logger.warning("no lock to be had on %s: going on without it", directory)
        yield held
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _lock(descriptor: int, patience: float) -> bool:
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.005)
        else:
            return True


class Appended(NamedTuple):
    """How a line was added.

    Attributes:
        held: Whether others were kept out meanwhile.
        fits: Whether the file could be kept below the size that was asked for.
    """

    held: bool
    fits: bool


def append_line(
    path: StrPath,
    line: bytes,
    *,
    most: int | None = None,
    backups: int = 0,
    mode: int = 0o666,
    patience: float = 0.5,
) -> Appended:
    """Adds a line to a file: whole or not at all, whoever else appends or rotates meanwhile.

    Each call opens the file by its name and writes once, at its end (``O_APPEND``), while it holds
    the lock of `locked`; anybody who may read the folder can hold that one, so it is not waited for
    long. A write that the disk cuts short is taken back, and what a killed writer left of a line
    gets an end of its own. What is no plain file, such as ``/dev/stdout`` or a FIFO with a reader,
    is written to and not rotated.

    Args:
        path: The file; made where it is missing, its folder is not.
        line: The line, with its end.
        most: Bytes that the file may have with this line; a longer one is renamed to ``path.1``
            before, that to ``path.2`` and so on. ``None``: no limit.
        backups: How many of those are kept; with 0 the file begins anew.
        mode: Permissions of a new file, less the umask.
        patience: Seconds to wait for the lock.

    Returns:
        Whether the lock was held, and whether the file could be kept below ``most``: without the
        lock, and where the folder takes no new names, it is not rotated, and the line is added all
        the same.

    Raises:
        OSError: The line was not added.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | _CLOSED_ON_EXEC
    if _is_special(path):
        descriptor = os.open(path, flags)
        try:
            _write_all(descriptor, line)
        finally:
            os.close(descriptor)
        return Appended(held=True, fits=True)
    target = _behind_links(os.path.abspath(path))  # noqa: PTH100 - resolves no link
    with locked(target, patience=patience, quiet=True) as held:
        # Without the lock it may be a line that another one is about to take back.
        torn = held and _is_torn(target)
        fits = True
        if most is not None and _is_due(target, len(line) + torn, most):
            fits = held
            if held:
                try:
                    _rotate(target, backups)
                except OSError:
                    fits = False
        descriptor = os.open(target, flags | os.O_CREAT | _NO_LINK, mode)
        try:
            found = os.fstat(descriptor)
            if torn and found.st_size:
                line = b"\n" + line
            written = os.write(descriptor, line)
            if written < len(line):
                if held and stat.S_ISREG(found.st_mode):
                    os.ftruncate(descriptor, found.st_size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path))
        finally:
            os.close(descriptor)
    return Appended(held, fits)


def _is_torn(path: str) -> bool:
    """Whether a plain file ends within a line, as far as it can be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | _CLOSED_ON_EXEC | _NO_LINK)
    except OSError:
        return False
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size == 0:
            return False
        return os.pread(descriptor, 1, found.st_size - 1) != b"\n"
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _is_due(path: str, more: int, most: int) -> bool:
    """Whether a plain file has no room for so many bytes more."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size > 0 and found.st_size + more > most


def _rotate(path: str, backups: int) -> None:
    """Begins a file anew, and keeps so many of those before."""
    if backups == 0:
        os.truncate(path, 0)
        return
    for number in range(backups - 1, 0, -1):
        with contextlib.suppress(FileNotFoundError):
            os.replace(f"{path}.{number}", f"{path}.{number + 1}")  # noqa: PTH105
    os.replace(path, f"{path}.1")  # noqa: PTH105


class Stamp(NamedTuple):
    """What shows whether a file is still the one that was read or written."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> Stamp | None:
        """The stamp of a file, None where there is no such file or it cannot be looked at."""
        try:
            found = Path(path).stat()
        except OSError:
            return None
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
