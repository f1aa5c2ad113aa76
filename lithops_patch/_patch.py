"""Finding a package, judging its files, and changing all of them or none."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ._files import OpenFile, Refused, opened, replace, shown
from ._own import in_words
from ._source import NAME, Source, Unknown
from ._targets import File, Target

StrPath = str | os.PathLike[str]


class State(Enum):
    """What was made of a file."""

    UNPATCHED = "unpatched"
    PATCHED = "patched"
    #: It meters without the patch, which would meter it twice.
    OWN = "meters itself"
    UNKNOWN = "unknown layout"


@dataclass(frozen=True)
class Verdict:
    """One file's state."""

    file: str
    state: State
    #: The patch's version where patched, what was expected where unknown, by what it meters itself.
    detail: str = ""

    def __str__(self) -> str:
        if self.state is State.PATCHED:
            return f"{self.file}: patched ({self.detail})"
        if self.state is State.UNKNOWN:
            return f"{self.file}: unknown layout: {self.detail}"
        if self.state is State.OWN:
            return f"{self.file}: {self.detail}"
        return f"{self.file}: unpatched"


@dataclass(frozen=True)
class Change:
    """What `apply` or `revert` did to one file, or would do."""

    file: str
    #: From the directory that holds the package, for a diff.
    path: str
    before: bytes
    after: bytes

    @property
    def changed(self) -> bool:
        """False where there was nothing to do."""
        return self.before != self.after


def check(target: Target, path: StrPath | None = None) -> list[Verdict]:
    """Each file's state: of those the patch adds to, and of others that are not as expected.

    Raises:
        Refused: the package is not there.
    """
    with _examined(find_package(target, path), target) as files:
        return [
            verdict
            for file, _, verdict in files
            if file.insertions or verdict.state is State.UNKNOWN
        ]


def apply(target: Target, path: StrPath | None = None, *, write: bool = True) -> list[Change]:
    """Patches a package, or with `write=False` says what that would change.

    Raises:
        Refused: a file is not as expected or cannot be written. Nothing is changed then.
    """
    root = find_package(target, path)
    with _examined(root, target) as files:
        unknown = [str(verdict) for _, _, verdict in files if verdict.state is State.UNKNOWN]
        if unknown:
            raise Refused("\n".join(unknown))
        own = [str(verdict) for _, _, verdict in files if verdict.state is State.OWN]
        if own:
            also = "the patch would meter it once more: take that out first, or leave it as it is"
            raise Refused("\n".join(f"{said}; {also}" for said in own))
        work = []
        for file, found, verdict in files:
            if file.insertions and found is not None:
                new = found.data
                if verdict.state is State.UNPATCHED:
                    new = Source(found.data).insert(file.insertions, target.version)
                work.append((file, found, new))
        return _change(root, work, write)


def revert(target: Target, path: StrPath | None = None, *, write: bool = True) -> list[Change]:
    """Takes the patch out again, or with `write=False` says what that would change.

    What else changed in a file since it was patched stays, and need not be known.

    Raises:
        Refused: a patch was edited or a file cannot be written. Nothing is changed then.
    """
    root = find_package(target, path)
    with contextlib.ExitStack() as stack:
        work = []
        for file in target.files:
            if file.insertions:
                found = stack.enter_context(opened(root, file.path))
                try:
                    source = Source(found.data)
                    _expect_own_blocks(source, file, target)
                    work.append((file, found, source.remove(source.blocks)))
                except Unknown as error:
                    verdict = Verdict(found.shown, State.UNKNOWN, str(error))
                    raise Refused(str(verdict)) from None
        return _change(root, work, write)


def find_package(target: Target, path: StrPath | None = None) -> Path:
    """The target's directory: at `path` or below it, else where `import` would find it.

    Raises:
        Refused: it is not there, or in several places.
    """
    landmark = next(file.path for file in target.files if file.insertions)
    if path is None:
        found = [
            place for place in _import_locations(target.package) if (place / landmark).exists()
        ]
        if not found:
            raise Refused(
                f"{target.package}: import finds none with {landmark}: name its directory by --path"
            )
        if len(found) > 1:
            places = ", ".join(map(shown, found))
            raise Refused(f"{target.package}: found in several places, choose by --path: {places}")
        return found[0].resolve()

    try:
        base = Path(path).resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise Refused(f"{shown(path)}: {getattr(error, 'strerror', None) or error}") from None
    for place in (base / target.package, base):
        if os.path.lexists(place / landmark):
            root = place.resolve()
            if not root.is_relative_to(base):
                raise Refused(
                    f"{shown(place)}: a link that leads out of the tree, to {shown(root)}: "
                    "name that by --path if you mean it"
                )
            return root
    raise Refused(f"{shown(base)}: no {target.package} here: expected {target.package}/{landmark}")


def _import_locations(package: str) -> list[Path]:
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError, AttributeError):
        return []
    locations = None if spec is None else spec.submodule_search_locations
    return [Path(location) for location in dict.fromkeys(locations or ())]


@contextlib.contextmanager
def _examined(root: Path, target: Target) -> Iterator[list[tuple[File, OpenFile | None, Verdict]]]:
    with contextlib.ExitStack() as stack:
        result: list[tuple[File, OpenFile | None, Verdict]] = []
        for file in target.files:
            try:
                found = stack.enter_context(opened(root, file.path))
            except Refused as error:
                label, _, why = str(error).partition(": ")
                result.append((file, None, Verdict(label, State.UNKNOWN, why)))
                continue
            try:
                verdict = _judge(found, file, target)
            except Unknown as error:
                verdict = Verdict(found.shown, State.UNKNOWN, str(error))
            result.append((file, found, verdict))
        yield result


def _judge(found: OpenFile, file: File, target: Target) -> Verdict:
    source = Source(found.data)
    for shape in file.shapes:
        if not shape.holds(source.tree):
            raise Unknown(f"expected {shape.expected}")
    _expect_own_blocks(source, file, target)
    if source.names_patch_elsewhere():
        raise Unknown(f"it names {NAME}, but not in a patch of this tool")
    own = None if file.own_meter is None else file.own_meter(source.tree)
    if own is not None:
        if source.blocks:
            raise Unknown(f"it is patched and {in_words(own)}: take one of the two out")
        return Verdict(found.shown, State.OWN, in_words(own))
    if not source.blocks:
        if file.insertions:
            source.insert(file.insertions, target.version)  # what apply would refuse, we do
        return Verdict(found.shown, State.UNPATCHED)
    for insertion in file.insertions:
        times = sum(source.is_whole(block, insertion) for block in source.blocks)
        if times != 1:
            what = "a part of the patch is missing" if times == 0 else "it is patched twice"
            raise Unknown(f"{what}: revert it, then apply it")
    return Verdict(found.shown, State.PATCHED, target.version)


def _expect_own_blocks(source: Source, file: File, target: Target) -> None:
    """Raises `Unknown` where a block is not exactly one of this file's insertions."""
    for block in source.blocks:
        if block.version != target.version:
            raise Unknown(
                f"line {block.first + 1}: patch {block.version} of another version of this tool, "
                f"expected patch {target.version}"
            )
        if not any(source.is_whole(block, insertion) for insertion in file.insertions):
            raise Unknown(
                f"line {block.first + 1}: the patch was edited, expected what this tool inserts"
            )


def _change(root: Path, work: list[tuple[File, OpenFile, bytes]], write: bool) -> list[Change]:
    if write:
        replace([(found, new) for _, found, new in work if new != found.data])
    return [
        Change(found.shown, f"{root.name}/{file.path}", found.data, new)
        for file, found, new in work
    ]
