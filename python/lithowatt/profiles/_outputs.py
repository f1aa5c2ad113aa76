"""Where profiles and tables may be written: never over what they are made of."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from lithowatt.errors import UnwritableFileError
from lithowatt.profiles._find import find_profiles
from lithowatt.profiles._sidecar import sidecar_path

StrPath = str | os.PathLike[str]


def keep_inputs(outputs: Iterable[StrPath], inputs: Iterable[StrPath]) -> None:
    """Refuses outputs that are inputs, or sidecars of them, by whatever name, link or hard link.

    Args:
        outputs: All that is going to be written.
        inputs: Profiles that are read.

    Raises:
        UnwritableFileError: An output is one.
    """
    kept: dict[object, str] = {}
    for path in inputs:
        for identity in _identities(path):
            kept.setdefault(identity, f"the input {os.fspath(path)}")
        for identity in _identities(sidecar_path(path)):
            kept.setdefault(identity, f"the sidecar of the input {os.fspath(path)}")
    for path in outputs:
        for identity in _identities(path):
            if identity in kept:
                raise UnwritableFileError(
                    f"the output {os.fspath(path)} is {kept[identity]}; nothing was written; "
                    "expected an output that is no input"
                )


def keep_given(outputs: Iterable[StrPath], paths: Iterable[StrPath]) -> None:
    """`keep_inputs` for the files among paths that are to be read, before they are.

    What lies in a folder is known for an input only once it is read.

    Raises:
        UnwritableFileError: An output is one of them, or a sidecar of one.
        UnreadableFileError: A path is not there.
    """
    keep_inputs(outputs, (one.path for one in find_profiles(paths) if one.given))


def with_sidecars(profiles: Iterable[StrPath]) -> Iterator[Path]:
    """Profiles that are to be written, and what is written or removed with them."""
    for path in profiles:
        yield Path(path)
        yield sidecar_path(path)


def below(folder: StrPath, name: str) -> Path:
    """The file of this name below a folder.

    Raises:
        UnwritableFileError: The name leads out of the folder.
    """
    path = Path(name)
    if path.is_absolute() or ".." in path.parts:
        raise UnwritableFileError(
            f"the name {name!r}, which the input says, leads out of the folder "
            f"{os.fspath(folder)}; nothing was written; expected one without '..'"
        )
    return Path(folder, path)


def keep_existing(outputs: Iterable[StrPath]) -> None:
    """Refuses outputs of which something is there already.

    Raises:
        UnwritableFileError: Something is there.
    """
    there = [os.fspath(path) for path in outputs if os.path.lexists(path)]
    if there:
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise UnwritableFileError(
            f"{there[0]}{more} would be replaced; nothing was written; expected a folder without "
            "files of these names, or --force to replace them"
        )


def _identities(path: StrPath) -> Iterator[object]:
    """What two names of one file have in common, whether it is there already or not."""
    yield os.path.realpath(path)
    try:
        found = Path(path).stat()
    except OSError:
        return
    yield found.st_dev, found.st_ino
