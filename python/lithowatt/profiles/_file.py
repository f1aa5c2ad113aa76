"""Reading, merging and writing profile files; nothing is lost and nothing is left half-written."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import math
import os
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from lithowatt._errors import MalformedValueError, UnreadableFileError
from lithowatt._files import write_atomically

if TYPE_CHECKING:
    from lithowatt.profiles._saved import SavedProfile

try:
    import fcntl
except ImportError:  # no such locks on this system
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger("lithowatt")

#: What to do about a file that is no profile.
ADVICE = "it was left as it is: restore it, or move it away to begin a new one"

#: One configuration's metrics: name to repetitions to one value per worker.
Metrics = dict[str, list[list[Any]]]

#: What FlexExecutor itself writes and trains on, all in s.
CORE_COLUMNS = ("read", "compute", "write", "cold_start")

#: Seconds to wait for another writer before going on without the lock: a
#: workflow must not hang on a dead file server.
LOCK_PATIENCE = 10.0

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
#: `np.int64(4)` is how NumPy 2 prints what a scheduler chose; the words are the
#: form in which the prototype's text shows its keys.
_PART = rf"(?:[A-Za-z_]+\s+)?(?:np\.\w+\(\s*)?({_NUMBER})(?:\s*\))?"
_KEY = re.compile(rf"\(\s*{_PART}\s*,\s*{_PART}\s*,\s*{_PART}\s*,?\s*\)")


class Configuration(NamedTuple):
    """The resources that were asked for, for one stage.

    Attributes:
        cpu: vCPUs per worker.
        memory_mb: Memory per worker, MiB.
        workers: Workers requested. Fewer run where the stage allows no more.
    """

    cpu: float
    memory_mb: float
    workers: int

    @classmethod
    def parse(cls, text: str) -> Configuration:
        """The configuration of a profile's key.

        Args:
            text: `"(cpu, memory_mb, workers)"`.

        Raises:
            MalformedValueError: For any other text.

        Example:
            >>> Configuration.parse("(0.5, 1024, 8)").workers
            8
        """
        match = _KEY.fullmatch(text.strip()) if len(text) <= 200 else None
        if match is None:
            raise MalformedValueError(
                f"configuration {text[:80]!r} is not (cpu, memory_mb, workers), e.g. (1, 512, 4)"
            )
        return cls.of(_plain(group) for group in match.groups())

    @classmethod
    def of(cls, values: Iterable[Any]) -> Configuration:
        """The configuration of three numbers, NumPy's included.

        Raises:
            MalformedValueError: Unless they are finite, not negative, and the
                workers a whole number of at least 1.
        """
        parts = list(values)
        try:
            cpu, memory, workers = (getattr(part, "item", lambda p=part: p)() for part in parts)
            good = all(
                isinstance(part, (int, float))
                and not isinstance(part, bool)
                and math.isfinite(part)
                and part >= 0
                for part in (cpu, memory, workers)
            )
            good = good and workers >= 1 and workers == int(workers)
        except (TypeError, ValueError, OverflowError):
            good = False
        if not good:
            raise MalformedValueError(
                f"configuration {parts!r:.80} is not (cpu, memory_mb, workers): three numbers of "
                "0 or more, workers whole and at least 1"
            )
        return cls(cpu, memory, int(workers))

    @property
    def key(self) -> str:
        """The key as profiles write it, e.g. `"(1, 512, 4)"`."""
        return str(tuple(self))


#: A stage's profile.
ProfileData = dict[Configuration, Metrics]


def _plain(text: str) -> float:
    return int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)


# --- parsing ------------------------------------------------------------------


def parse_profile(text: str, name: str = "profile") -> ProfileData:
    """A profile from its text; `name` is what errors call it.

    Raises:
        MalformedValueError: Naming the place and what is accepted.
    """
    if not text.strip():
        raise MalformedValueError(f"{name} is empty: a profile is a JSON object")
    try:
        top = json.loads(text, object_pairs_hook=_no_duplicates)
    except json.JSONDecodeError as error:
        ended = error.pos >= len(text.rstrip()) - 1 or error.msg.startswith("Unterminated")
        ended = ended and text.lstrip().startswith("{")
        raise MalformedValueError(
            f"{name} {'is cut off' if ended else 'is not JSON'} at line {error.lineno}, "
            f"column {error.colno} ({error.msg})"
        ) from error
    except RecursionError as error:
        raise MalformedValueError(f"{name} is nested too deeply to be a profile") from error
    except ValueError as error:
        raise MalformedValueError(f"{name}: {error}") from error
    if not isinstance(top, dict):
        raise MalformedValueError(
            f"{name} holds a {type(top).__name__}, not an object of configurations"
        )
    data: ProfileData = {}
    for key, metrics in top.items():
        try:
            configuration = Configuration.parse(key)
        except MalformedValueError as error:
            raise MalformedValueError(f"{name}: {error}") from None
        if configuration in data:
            raise MalformedValueError(f"{name} holds configuration {key} twice")
        data[configuration] = _metrics(metrics, f"{name}, configuration {key}")
    return data


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice[:80]!r} appears twice")
    return result


def _metrics(metrics: Any, where: str) -> Metrics:
    if not isinstance(metrics, dict):
        raise MalformedValueError(f"{where}: {metrics!r:.60} is no object of metrics")
    for metric, repetitions in metrics.items():
        if not isinstance(repetitions, list):
            raise MalformedValueError(
                f"{where}, {metric[:60]}: {repetitions!r:.60} is no list of repetitions"
            )
        for index, workers in enumerate(repetitions):
            if not isinstance(workers, list) or any(isinstance(v, (list, dict)) for v in workers):
                raise MalformedValueError(
                    f"{where}, {metric[:60]}, repetition {index}: {workers!r:.60} is no list "
                    "of one value per worker"
                )
    return metrics


def read_profile(path: str | os.PathLike[str]) -> ProfileData:
    """A stage's profile.

    Args:
        path: The `<stage>.json` that FlexExecutor or `append_repetition` wrote.

    Returns:
        Configuration to metric to repetitions to one value per worker.

    Raises:
        UnreadableFileError: It is not there or may not be read.
        MalformedValueError: It is cut off or no profile; names the place.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MalformedValueError(f"{os.fspath(path)} is not UTF-8: {error}") from error
    except OSError as error:
        raise UnreadableFileError(f"{os.fspath(path)}: {error.strerror or error}") from error
    return parse_profile(text, os.fspath(path))


def read_if_there(path: str | os.PathLike[str]) -> ProfileData:
    """`read_profile`, or an empty profile where there is no such file yet."""
    return read_profile(path) if Path(path).exists() else {}


# --- merging ------------------------------------------------------------------


def repetitions_of(metrics: Mapping[str, list[Any]]) -> int:
    """How many repetitions these metrics hold: the longest column counts."""
    return max((len(column) for column in metrics.values()), default=0)


def _width(metrics: Mapping[str, list[list[Any]]], repetition: int) -> int:
    widths = [len(col[repetition]) for col in metrics.values() if repetition < len(col)]
    return max(widths, default=0)


def align(metrics: Metrics, repetitions: int | None = None) -> None:
    """Fills columns that miss repetitions at their end with `None` for each worker.

    A column that a version did not know yet, or knows no more, would else have
    its values slide to another repetition.
    """
    wanted = repetitions_of(metrics) if repetitions is None else repetitions
    for column in metrics.values():
        column.extend([None] * _width(metrics, index) for index in range(len(column), wanted))


def append(base: Metrics, more: Metrics) -> None:
    """Appends the repetitions of `more` to those of `base`, column by column."""
    before, added = repetitions_of(base), repetitions_of(more)
    align(base)
    for name in more:
        if name not in base:
            base[name] = [[None] * _width(base, index) for index in range(before)]
    for name, column in base.items():
        new = more.get(name, [])
        column.extend(list(values) for values in new)
        column.extend([None] * _width(more, index) for index in range(len(new), added))


def print_of(metrics: Mapping[str, list[list[Any]]], index: int) -> str:
    """What distinguishes a repetition from the others: the times of all its workers, in full."""
    columns = [metrics.get(name, []) for name in CORE_COLUMNS]
    return json.dumps(
        [col[index] if index < len(col) else None for col in columns], default=json_number
    )


def prints(metrics: Mapping[str, list[list[Any]]]) -> list[str]:
    """`print_of` each repetition."""
    return [print_of(metrics, index) for index in range(repetitions_of(metrics))]


def missing(metrics: Metrics, other: Metrics) -> Metrics:
    """The repetitions of `metrics` that `other` does not hold."""
    there = Counter(prints(other))
    left = []
    for index, one in enumerate(prints(metrics)):
        if there[one] > 0:
            there[one] -= 1
        else:
            left.append(index)
    return {
        name: [
            column[index] if index < len(column) else [None] * _width(metrics, index)
            for index in left
        ]
        for name, column in metrics.items()
        if left
    }


def merge_profiles(*profiles: Mapping[Any, Metrics]) -> ProfileData:
    """One profile with the repetitions of all, those of the first first.

    Columns that one of them lacks are `None` there.

    Example:
        >>> a = {Configuration(1, 512, 1): {"read": [[0.1]]}}
        >>> b = {Configuration(1, 512, 1): {"read": [[0.2]], "energy": [[3.0]]}}
        >>> merge_profiles(a, b)[Configuration(1, 512, 1)]
        {'read': [[0.1], [0.2]], 'energy': [[None], [3.0]]}
    """
    merged: ProfileData = {}
    for profile in profiles:
        for key, metrics in profile.items():
            append(merged.setdefault(Configuration.of(key), {}), metrics)
    return merged


# --- writing ------------------------------------------------------------------


def write_profile(path: str | os.PathLike[str], data: Mapping[Any, Metrics]) -> None:
    """Writes a profile, whole or not at all.

    Raises:
        OSError: It cannot be written; what was there before still is.
        MalformedValueError: For a key that is no configuration.
        TypeError: For a value that JSON cannot carry.
    """
    from lithowatt.profiles._text import ProfileText

    write_pieces(path, ProfileText().of(data))


def json_number(value: Any) -> Any:
    """NumPy's numbers as Python's; anything else is refused, as by JSON."""
    item = getattr(value, "item", None)
    if item is None:
        raise TypeError(f"a profile cannot hold {type(value).__name__} {value!r:.60}")
    return item()


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


@contextlib.contextmanager
def locked(path: str | os.PathLike[str]) -> Iterator[bool]:
    """Keeps other writers of the files beside `path` out, processes and threads alike.

    The lock is on the directory, so that no lock file stays behind. Yields
    False, and goes on, where it is not to be had within `LOCK_PATIENCE`.
    """
    directory = Path(os.path.realpath(path)).parent
    descriptor = -1
    held = False
    try:
        if fcntl is not None:
            with contextlib.suppress(OSError):
                descriptor = os.open(directory, os.O_RDONLY)
                held = _lock(descriptor)
        if not held and directory.exists():
            logger.warning("no lock to be had on %s: going on without it", directory)
        yield held
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _lock(descriptor: int) -> bool:
    deadline = time.monotonic() + LOCK_PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        else:
            return True


#: Profiles that `append_repetition` wrote last, by path: what is known need not be read again.
_kept: dict[str, tuple[SavedProfile, ProfileData]] = {}
_MOST_KEPT = 8


def append_repetition(
    path: str | os.PathLike[str],
    configuration: Sequence[float],
    times: Sequence[Any],
) -> None:
    """Adds one repetition, a value per worker, to a profile that may not be there yet.

    Others may write the same file at the same time. The directories are made.

    Args:
        path: `<folder>/<dag>/<stage>.json`.
        configuration: cpu, memory in MiB, workers as requested.
        times: One `FunctionTimes` (FlexExecutor's, or
            `lithowatt.flexecutor.FunctionTimes`) per worker that ran.

    Raises:
        MalformedValueError: The file there is no profile, or the configuration
            is none; nothing is written.
        UnreadableFileError, OSError: It cannot be read or written.
    """
    from lithowatt.flexecutor._columns import repetition
    from lithowatt.profiles._saved import SavedProfile
    from lithowatt.profiles._sidecar import NewRecord, record

    key = Configuration.of(configuration)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with locked(path):
        kept = _kept.get(os.path.realpath(path))
        if kept is not None and kept[0].grows_to(path, kept[1]):
            saved, data, unmoved = *kept, True
        else:
            saved, unmoved = SavedProfile(path), False
            try:
                data = read_if_there(path)
            except MalformedValueError as error:
                raise MalformedValueError(f"{error}; {ADVICE}") from None
        _kept.pop(saved.path, None)  # until it is written
        metrics = data.setdefault(key, {})
        append(metrics, repetition(times, CORE_COLUMNS))
        index = repetitions_of(metrics) - 1
        new = NewRecord(key, index, print_of(metrics, index), record(times, key.workers))
        saved.write(data, [new], unmoved)
        _kept[saved.path] = saved, data
        for old in list(_kept)[:-_MOST_KEPT]:
            _kept.pop(old, None)
