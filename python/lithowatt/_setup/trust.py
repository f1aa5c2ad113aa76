"""Whether a path leads to something that root alone can change.

What root writes or starts must not depend on a file, a link or a folder that somebody else could
change: that one would decide what root does at the next boot.
"""

from __future__ import annotations

import errno
import os
import pwd
import stat
from collections.abc import Collection, Iterable

#: As many links one after another as the kernel follows, path_resolution(7).
_MOST_LINKS = 40

#: The owner of what must not be changed by others.
ROOT = (0,)


def distrust(
    path: str, *, start: str = "/", owners: Collection[int] = ROOT, links: bool = True
) -> str | None:
    """Why somebody else could change what is at a path, ``None`` where nobody could.

    Looked at are the path's every folder and link, and those that the links lead through.

    Args:
        path: An absolute path.
        start: The folder to begin with, which ``path`` is inside of; what is above it is not
            looked at. A link to an absolute path is followed from ``/``.
        owners: The users that may own all of it.
        links: Whether there may be links below ``start``.

    Raises:
        FileNotFoundError: There is no such path.
        OSError: It cannot be looked at, or there are too many links.

    Example:
        >>> distrust("/proc/self/status", owners=(0, os.getuid())) is None
        True
    """
    at = start
    todo = [part for part in os.path.relpath(path, start).split("/") if part not in ("", ".")]
    followed = 0
    if why := _changeable(at, os.lstat(at), owners):
        return why
    while todo:
        part = todo.pop(0)
        if part == "..":
            at = os.path.dirname(at)  # noqa: PTH120 - links are followed one by one
            continue
        here = os.path.join(at, part)  # noqa: PTH118
        found = os.lstat(here)
        if why := _changeable(here, found, owners):
            return why
        if not stat.S_ISLNK(found.st_mode):
            at = here
            continue
        if not links:
            return f"{here} is a link"
        followed += 1
        if followed > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        target = os.readlink(here)  # noqa: PTH115
        if target.startswith("/"):
            at = "/"
            if why := _changeable(at, os.lstat(at), owners):
                return why
        todo[:0] = [part for part in target.split("/") if part not in ("", ".")]
    return None


def distrust_all(folders: Iterable[str]) -> str | None:
    """Why somebody else than root could change what is in these folders, at any depth."""
    for folder in folders:
        # Python names folders that need not be there: who could make them?
        there = folder
        while not os.path.lexists(there):
            there = os.path.dirname(there)  # noqa: PTH120
        if why := distrust(there):
            return why
        for path, names, files in os.walk(folder):
            for name in (*names, *files):
                here = os.path.join(path, name)  # noqa: PTH118
                found = os.lstat(here)
                if why := _changeable(here, found, ROOT):
                    return why
                if stat.S_ISLNK(found.st_mode):
                    try:
                        why = distrust(here)
                    except FileNotFoundError:
                        continue  # it leads nowhere
                    if why:
                        return why
    return None


def _changeable(path: str, found: os.stat_result, owners: Collection[int]) -> str | None:
    if found.st_uid not in owners:
        return f"{path} belongs to {_user(found.st_uid)}"
    if stat.S_ISLNK(found.st_mode):
        return None  # its permissions mean nothing
    if found.st_mode & stat.S_IWOTH:
        return f"{path} may be changed by everybody"
    # The group bits are the mask of an access list as well, where there is one.
    if found.st_mode & stat.S_IWGRP and found.st_gid != 0:
        return f"{path} may be changed by its group"
    return None


def _user(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"
