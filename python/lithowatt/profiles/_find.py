"""Which files a path means, and what a profile is called: workload, stage, memory, architecture."""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from lithowatt.errors import MalformedValueError, UnreadableFileError

#: What names of profiles end with.
ENDINGS = (".json", ".jsonl")

#: How results, logs and baselines of lithowatt begin, and no profile.
_OURS = re.compile(rb'\s*\{\s*"schema"\s*:\s*["0-9]')

#: Parts of a folder's name that say where, with how much memory and on what a workload ran.
_PLACE = re.compile(r"aws|lambda|local|k8s", re.IGNORECASE)
_MEMORY = re.compile(r"(\d+)mb", re.IGNORECASE)
_ARCHITECTURE = re.compile(r"arm(?:64)?|aarch64|x86(?:_64)?", re.IGNORECASE)


class Label(NamedTuple):
    """What a profile's path says about it.

    Attributes:
        workload: What ran: the folder's name without place, memory and architecture.
        stage: The file's name without its ending.
        memory_mb: MiB, where the folder says so.
        architecture: `x86_64` or `arm64`, where the folder says so.
    """

    workload: str
    stage: str
    memory_mb: int | None = None
    architecture: str | None = None

    @classmethod
    def of(cls, name: str, group: re.Pattern[str] | None = None) -> Label:
        """The label of a file's name, e.g. `titanic_aws_512Mb_arm/stage.json`.

        Args:
            name: The last folder and the file, or more of its path.
            group: A pattern with the groups `workload` and `stage`, which are then taken from it
                where it is found in the name.

        Example:
            >>> Label.of("titanic_aws_512Mb_x86_64/train.json")
            Label(workload='titanic', stage='train', memory_mb=512, architecture='x86_64')
        """
        folder, _, file = name.rpartition("/")
        folder = folder.rpartition("/")[2]
        # Parts are what stands between underscores; x86_64 is one.
        parts = re.sub(r"(?i)x86_64", "x86", folder).split("_")
        memory = architecture = None
        kept = []
        for part in parts:
            if found := _MEMORY.fullmatch(part):
                memory = int(found[1])
            elif _ARCHITECTURE.fullmatch(part):
                # `arm` alone is how folders of profiles spell arm64.
                architecture = "arm64" if part[0] in "aA" else "x86_64"
            elif not _PLACE.fullmatch(part):
                kept.append(part)
        workload, stage = "_".join(kept), re.sub(r"\.jsonl?$", "", file)
        if group is not None and (match := group.search(name)):
            found_by_group = match.groupdict()
            workload = found_by_group.get("workload") or workload
            stage = found_by_group.get("stage") or stage
        return cls(workload, stage, memory, architecture)


def compiled_group(pattern: str | None) -> re.Pattern[str] | None:
    """The pattern of `--group`.

    Raises:
        MalformedValueError: It is no regular expression, or has neither of the groups.
    """
    if pattern is None:
        return None
    try:
        made = re.compile(pattern)
    except re.error as error:
        raise MalformedValueError(f"group {pattern!r} is no regular expression: {error}") from None
    if not {"workload", "stage"} & set(made.groupindex):
        raise MalformedValueError(
            f"group {pattern!r} names neither (?P<workload>...) nor (?P<stage>...)"
        )
    return made


class Found(NamedTuple):
    """A file to read, and its name in results."""

    path: Path
    name: str
    #: Which of the paths that were given it stands for or lies below, from 0.
    source: int
    #: Whether it was named itself, and not found in a folder: then it has to be a profile.
    given: bool


def find_profiles(paths: Iterable[str | os.PathLike[str]]) -> list[Found]:
    """The JSON files that files and folders stand for, each once, in the order of their names.

    The name is the path below the folder that was given; of a file that was given by itself its
    last folder and its own name.

    Raises:
        UnreadableFileError: A path is not there.
    """
    found: dict[str, Found] = {}
    for source, given in enumerate(paths):
        path = Path(given)
        if path.is_dir():
            for file in _json_below(path):
                name = name_below(path.resolve().name, file.relative_to(path).as_posix())
                found.setdefault(os.path.realpath(file), Found(file, name, source, False))
        elif os.path.lexists(path):
            folder = path.parent.resolve().name  # the link's, where the file is one
            name = f"{folder}/{path.name}".lstrip("/")
            found[os.path.realpath(path)] = Found(path, name, source, True)
        else:
            raise UnreadableFileError(f"{os.fspath(given)}: there is no such file or folder")
    return sorted(_told_apart(found.values()), key=lambda one: (one.name, str(one.path)))


def is_of_lithowatt(path: Path) -> bool:
    """Whether a JSON file that is no profile is another one of ours: they begin with `schema`."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        return _OURS.match(file.read(200)) is not None
    return False


def name_below(folder: str, path: str) -> str:
    """What results call the file at `path` below a folder.

    The last folder says the workload; of a file that lies in the folder itself it is that one.
    """
    return path if "/" in path else f"{folder}/{path}"


def _told_apart(found: Iterable[Found]) -> Iterator[Found]:
    """Files of one name below two folders, with their paths as names."""
    found = list(found)
    times = Counter(one.name for one in found)
    for one in found:
        yield one if times[one.name] == 1 else one._replace(name=one.path.as_posix().lstrip("./"))


def _json_below(folder: Path) -> Iterator[Path]:
    for directory, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            if name.endswith(ENDINGS):
                yield Path(directory, name)
