"""Writes what an emulated machine boots into: folders as the kernel's initial file system.

A machine with all of its files there needs no driver of a disk, no udev and no file system's check,
which take an emulated processor a minute. The format is "newc" of cpio(5), and several archives may
follow each other: a boot adds its own to that of the Debian root.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

LEFT_OUT = re.compile(
    r"(boot|build|dev|etc/(apt|dpkg|ssl)|init|proc|run|sys|tmp|var"
    r"|usr/(games|include|local|share|src|libexec)"
    r"|usr/lib/(apt|dpkg|gcc|initramfs-tools|linux.*|systemd|udev)"
    r"|usr/lib/[^/]*/(gconv|gprofng|perl.*|systemd)"
    r"|usr/lib/[^/]*/lib(a|hwa|l|t|ub)san.*|usr/lib/[^/]*/lib(apt|bfd|db|gprofng|isl).*"
    r"|usr/lib/modules/[^/]*/(build|source|vdso|modules\.(alias|symbols).*)"
    r"|usr/lib/modules/[^/]*/kernel/(?!arch$|arch/x86$|arch/x86/events|drivers$|drivers/powercap"
    r"|drivers/char$|drivers/char/ipmi).*"
    r"|usr/bin/(apt.*|dpkg.*|perl.*|sqv|x86_64-linux-gnu-.*)"
    r"|.*\.a|.*/__pycache__)"
)
"""What of the root only compiling and installing need."""


class Archive:
    """One cpio archive, written as it comes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._inode = 0

    def add(self, name: str, mode: int, content: bytes = b"") -> None:
        """An entry; ``mode`` has its type, too."""
        self._inode += 1
        encoded = name.encode() + b"\0"
        fields = (self._inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
        self._put(b"070701" + b"".join(b"%08x" % field for field in fields) + encoded)
        self._put(content)

    def add_tree(
        self, folder: Path, below: str = "", left_out: re.Pattern[str] | None = None
    ) -> None:
        """All files of a folder, under the name ``below``."""
        for path, name in _entries(folder, "", left_out):
            status = path.lstat()
            content = b""
            if stat.S_ISLNK(status.st_mode):
                content = os.fsencode(os.readlink(path))
            elif stat.S_ISREG(status.st_mode):
                content = path.read_bytes()
            elif not stat.S_ISDIR(status.st_mode):
                continue
            self.add(f"{below}/{name}" if below else name, status.st_mode, content)

    def end(self) -> None:
        """The entry that ends an archive."""
        self.add("TRAILER!!!", 0)

    def _put(self, data: bytes) -> None:
        self._file.write(data + b"\0" * (-len(data) % 4))


def _entries(
    folder: Path, prefix: str, left_out: re.Pattern[str] | None
) -> Iterator[tuple[Path, str]]:
    for path in sorted(folder.iterdir()):
        name = f"{prefix}{path.name}"
        if left_out and left_out.fullmatch(name):
            continue
        yield path, name
        if path.is_dir() and not path.is_symlink():
            yield from _entries(path, f"{name}/", left_out)


def main() -> None:
    """``initramfs.py ROOT INIT FILE``: the archive of a Debian root, with its first program."""
    root, init, file = (Path(argument) for argument in sys.argv[1:])
    with file.open("wb") as opened:
        archive = Archive(opened)
        archive.add_tree(root, left_out=LEFT_OUT)
        for name in ("dev", "proc", "run", "sys", "tmp"):
            archive.add(name, stat.S_IFDIR | 0o755)
        archive.add("init", stat.S_IFREG | 0o755, init.read_bytes())
        archive.end()


if __name__ == "__main__":
    main()
