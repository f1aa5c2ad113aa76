"""Reading, merging and writing profile files; nothing is lost and nothing is left half-written."""

from __future__ import annotations

import json
import logging
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lithowatt._support.files import read_plain
from lithowatt.errors import LithowattError, MalformedValueError, UnreadableFileError

if TYPE_CHECKING:
    from lithowatt import _core

try:
    import fcntl
except ImportError:  # no such locks on this system
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger("lithowatt")

#: What to do about a file that is no profile.
ADVICE = "it was left as it is: restore it, or move it away to begin a new one"

#: Longest profile and longest sidecar that are read, bytes: far more than any run of a workflow
#: writes, and less than memory has room for.
MOST_BYTES = 1 << 30

#: One configuration's metrics: name to repetitions to one value per worker.
Metrics = dict[str, list[list[Any]]]

#: What FlexExecutor itself writes and trains on, all in s.
CORE_COLUMNS = ("read", "compute", "write", "cold_start")

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
        UnreadableFileError: It is not there, may not be read, is no plain file (a FIFO, a device)
            or is longer than 1 GiB.
        MalformedValueError: It is cut off or no profile; names the place.
    """
    found = _by_core(path)
    if found is not None:
        return found
    try:
        text = read_plain(path, MOST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MalformedValueError(f"{os.fspath(path)} is not UTF-8: {error}") from error
    except OSError as error:
        raise UnreadableFileError(f"{os.fspath(path)}: {error.strerror or error}") from error
    return parse_profile(text, os.fspath(path))


def _by_core(path: str | os.PathLike[str]) -> ProfileData | None:
    """The profile as the core reads it, several times as fast; `None` where json would say more,
    as of numbers written in two ways, NaN, booleans and whatever is wrong."""
    from lithowatt import _core

    data: ProfileData = {}
    try:
        if Path(path).stat().st_size > MOST_BYTES:
            return None
        for stage, key, columns in _core.ProfileReader(path):
            configuration = Configuration.parse(key)
            exact = all(column.exact for column in columns.values())
            if stage is not None or not exact or configuration in data:
                return None
            data[configuration] = {name: _values(column) for name, column in columns.items()}
    except (OSError, LithowattError):
        return None
    return data


def _values(column: _core.ProfileColumn) -> list[list[Any]]:
    values: list[Any]
    if column.codes is not None:
        labels = [*column.labels, None]
        values = [labels[code] for code in memoryview(column.codes).cast("i")]
    else:
        values = memoryview(column.numbers or b"").cast("d").tolist()
        if column.missing:
            values = [None if value != value else value for value in values]
        if column.whole:
            values = [None if value is None else int(value) for value in values]
    found, start = [], 0
    for length in memoryview(column.lengths).cast("I"):
        found.append(values[start : start + length])
        start += length
    return found


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


def json_number(value: Any) -> Any:
    """NumPy's numbers as Python's; anything else is refused, as by JSON."""
    item = getattr(value, "item", None)
    if item is None:
        raise TypeError(f"a profile cannot hold {type(value).__name__} {value!r:.60}")
    return item()
