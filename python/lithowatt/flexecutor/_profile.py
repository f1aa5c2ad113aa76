"""FlexExecutor's profile files with our columns: stored, merged, and written whole.

FlexExecutor reads a stage's profile once, adds to it in memory and writes all of
it after each repetition, over whatever is there. Here a save adds what the file
does not hold yet to what it holds by then, so that two executors lose nothing of
each other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lithowatt._errors import MalformedValueError
from lithowatt.profiles import _file, _sidecar
from lithowatt.profiles._file import Configuration, Metrics, ProfileData

from .._harmless import Harmless
from ._columns import COLUMN_NAMES
from ._values import plain_value

logger = logging.getLogger("lithowatt")

#: What the analytic model of the seed's FlexExecutor trains on besides the
#: times. Only written where FlexExecutor is that one: its training needs it.
SEED_COLUMN = "RAPL"


class MeteredProfile(dict[Any, Metrics]):
    """A stage's profile in memory, as FlexExecutor uses it, and its sidecar's records."""

    def __init__(self, data: Mapping[Any, Metrics]) -> None:
        super().__init__(data)
        #: Records that wait for the next save: configuration, print, record.
        self.records: list[tuple[Configuration, str, dict[str, Any]]] = []


def load(file: str, original: Callable[[str], Any]) -> Any:
    """FlexExecutor's `load_profiling_results`.

    Raises:
        MalformedValueError (a ValueError): The file is cut off or no profile.
    """
    try:
        data: Mapping[Any, Metrics] = _file.read_if_there(file)
        # FlexExecutor makes its keys with plain tuples, which are equal to these.
        return MeteredProfile({tuple(key): metrics for key, metrics in data.items()})
    except MalformedValueError as error:
        # What FlexExecutor can read it shall read, with us as without.
        try:
            return original(file)
        except ValueError:
            raise MalformedValueError(f"{error}; {_file.ADVICE}") from None


def store(
    profile: Any,
    times: Sequence[Any],
    resources: Any,
    original: Callable[[], None],
    core: Sequence[str],
    context: Callable[[], Mapping[str, Any]],
) -> None:
    """FlexExecutor's `_store_profiling`: its own columns by itself, then ours.

    Args:
        profile: The profile in memory.
        times: One FunctionTimes per worker.
        resources: The StageConfig that was asked for.
        original: Adds FlexExecutor's columns of this repetition.
        core: The columns that it adds.
        context: What the sidecar shall say besides.
    """
    original()
    with Harmless("adding the energy columns of a profile"):
        metrics: Metrics = profile[resources.key]
        done = _file.repetitions_of({n: c for n, c in metrics.items() if n in core})
        ours = [name for name in COLUMN_NAMES if name not in core]
        rows: dict[str, list[Any]] = {
            name: [plain_value(getattr(one, name, None)) for one in times] for name in ours
        }
        if "RAPL_wrong" in core and SEED_COLUMN not in core:
            rows[SEED_COLUMN] = [plain_value(getattr(one, "energy", None)) for one in times]
        for name, row in rows.items():
            column = metrics.setdefault(name, [])
            _fill(metrics, column, done - 1)
            del column[done - 1 :]
            column.append(row)
        _file.align(metrics, done)
        if isinstance(profile, MeteredProfile):
            configuration = Configuration.of(resources.key)
            record = _sidecar.record(times, configuration.workers, context())
            profile.records.append((configuration, _file.prints(metrics)[done - 1], record))


def _fill(metrics: Metrics, column: list[list[Any]], repetitions: int) -> None:
    """Gives a column that began late its earlier repetitions, as None."""
    widths = metrics.get("read", [])
    for index in range(len(column), repetitions):
        column.append([None] * (len(widths[index]) if index < len(widths) else 0))


def save(file: str, profile: Any, original: Callable[[str, Any], None]) -> None:
    """FlexExecutor's `save_profiling_results`: merged with what the file holds, in one step.

    A file that was damaged since it was read is moved aside.
    """
    trouble = Harmless("saving a profile")
    with trouble, _file.locked(file):
        if isinstance(profile, MeteredProfile):
            _save_merged(file, profile)
        else:
            _file.write_profile(file, profile)
    if trouble.trouble:
        # Upstream's own way then, with its own errors.
        logger.warning("%s is written without merging: %s", file, trouble.trouble)
        original(file, profile)


def _save_merged(file: str, profile: MeteredProfile) -> None:
    merged = _on_disk(file)
    for key, metrics in profile.items():
        known = merged.setdefault(Configuration.of(key), {})
        _file.append(known, _file.missing(metrics, known))
    _file.write_profile(file, merged)
    with Harmless("writing the sidecar of a profile"):
        _sidecar.append_records(file, merged, profile.records)
        profile.records = []
    # What others added is seen from now on; the objects that FlexExecutor
    # holds are the same ones.
    for key, metrics in merged.items():
        mine = profile.setdefault(tuple(key), {})
        mine.clear()
        mine.update(metrics)


def _on_disk(file: str) -> ProfileData:
    """What the file holds now; one that is damaged is moved aside."""
    path = Path(file)
    try:
        return _file.read_if_there(path)
    except MalformedValueError as error:
        aside = _sidecar.move_aside(path)
        logger.warning("%s; it is now %s and a new one begins", error, aside)
        return {}


def record_failure(file: str, failure: dict[str, Any]) -> None:
    """Adds a failed run to the sidecar of a profile."""
    with _file.locked(file):
        _sidecar.append_records(file, None, [], [failure])
