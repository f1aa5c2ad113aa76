"""FlexExecutor's profile files with our columns: stored, merged, and written whole.

FlexExecutor reads a stage's profile once, adds to it in memory and writes all of
it after each repetition, over whatever is there. Here a profile remembers how
much of it came from the file, and only what was added since is merged into what
the file holds by then: two executors lose nothing of each other.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lithowatt._errors import LithowattError, MalformedValueError
from lithowatt.profiles import _file, _sidecar
from lithowatt.profiles._file import Configuration, Metrics, ProfileData

from .._harmless import Harmless
from ._columns import COLUMN_NAMES, plain_value

logger = logging.getLogger("lithowatt")

#: What the analytic model of the seed's FlexExecutor trains on besides the
#: times. Only written where FlexExecutor is that one: its training needs it.
SEED_COLUMN = "RAPL"


class MeteredProfile(dict[Any, Metrics]):
    """A stage's profile in memory, as FlexExecutor uses it, that knows what its file held."""

    def __init__(self, data: Mapping[Any, Metrics]) -> None:
        super().__init__(data)
        #: Repetitions per configuration that are in the file.
        self.stored: dict[Configuration, int] = {}
        #: Sidecar records that wait for the next save, by configuration and repetition.
        self.records: dict[Configuration, dict[int, dict[str, Any]]] = {}
        self.lock = threading.Lock()
        self.note_stored()

    def note_stored(self) -> None:
        """Takes all that is here for what the file holds."""
        self.stored = {
            Configuration.of(key): _file.repetitions_of(metrics) for key, metrics in self.items()
        }
        self.records = {}

    def since(self, stored: Mapping[Configuration, int]) -> ProfileData:
        """The repetitions beyond those that are `stored`."""
        result: ProfileData = {}
        for key, metrics in self.items():
            configuration = Configuration.of(key)
            before = stored.get(configuration, 0)
            if _file.repetitions_of(metrics) > before:
                new = result.setdefault(configuration, {})
                new.update({name: column[before:] for name, column in metrics.items()})
        return result


def load(file: str, original: Callable[[str], Any]) -> Any:
    """FlexExecutor's `load_profiling_results`.

    Raises:
        MalformedValueError (a ValueError): The file is cut off or no profile.
    """
    try:
        data: Mapping[Any, Metrics] = _file.read_if_there(file)
        # FlexExecutor makes its keys with plain tuples, which are equal to these.
        return MeteredProfile({tuple(key): metrics for key, metrics in data.items()})
    except LithowattError as error:
        # What FlexExecutor can read it shall read, with us as without.
        try:
            return original(file)
        except ValueError:
            raise error from None


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
            profile.records.setdefault(configuration, {})[done - 1] = record


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
    with trouble:
        if isinstance(profile, MeteredProfile):
            with profile.lock, _file.locked(file):
                _save_merged(file, profile)
        else:
            with _file.locked(file):
                _file.write_profile(file, profile)
    if trouble.trouble:
        # Upstream's own way then, with its own errors.
        logger.warning("%s is written without merging: %s", file, trouble.trouble)
        original(file, profile)
        if isinstance(profile, MeteredProfile):
            profile.note_stored()


def _save_merged(file: str, profile: MeteredProfile) -> None:
    merged = _on_disk(file)
    if merged is None:
        # There is none to merge with: all that is known goes into a new one.
        merged = {}
        stored: dict[Configuration, int] = {}
    else:
        stored = profile.stored
    records: dict[Configuration, dict[int, dict[str, Any]]] = {}
    for key, new in profile.since(stored).items():
        metrics = merged.setdefault(key, {})
        shift = _file.repetitions_of(metrics) - stored.get(key, 0)
        _file.append(metrics, new)
        known = profile.records.get(key)
        if known:
            records[key] = {index + shift: record for index, record in known.items()}
    _file.write_profile(file, merged)
    if records:
        with Harmless("writing the sidecar of a profile"):
            _sidecar.append_records(file, records)
    # What others added is seen from now on; the objects that FlexExecutor
    # holds are the same ones.
    for key, metrics in merged.items():
        mine = profile.setdefault(tuple(key), {})
        mine.clear()
        mine.update(metrics)
    profile.note_stored()


def _on_disk(file: str) -> ProfileData | None:
    """What the file holds now; None where it is gone, or damaged, and then moved aside."""
    path = Path(file)
    if not path.exists():
        return None
    try:
        return _file.read_profile(path)
    except MalformedValueError as error:
        aside = _sidecar.move_aside(path)
        logger.warning("%s; it is now %s and a new one begins", error, aside)
        return None


def record_failure(file: str, failure: dict[str, Any]) -> None:
    """Adds a failed run to the sidecar of a profile."""
    with _file.locked(file):
        _sidecar.append_records(file, {}, [failure])
