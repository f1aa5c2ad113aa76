"""FlexExecutor's profile files with our columns: stored, merged, and written whole.

FlexExecutor reads a stage's profile once, adds to it in memory and writes all of
it after each repetition, over whatever is there. Here a save adds what the file
does not hold yet to what it holds by then, so that two executors lose nothing of
each other.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lithowatt._support import files
from lithowatt._support.harmless import Harmless
from lithowatt.errors import MalformedValueError
from lithowatt.flexecutor._training import SEED_COLUMN, complete_training
from lithowatt.profiles import _file, _sidecar, _text
from lithowatt.profiles._columns import COLUMN_NAMES
from lithowatt.profiles._file import Configuration, Metrics, ProfileData
from lithowatt.profiles._saved import SavedProfile
from lithowatt.profiles._sidecar import NewRecord
from lithowatt.profiles._values import plain_value

logger = logging.getLogger("lithowatt")

#: Repetitions of a column that are printed; FlexExecutor prints the whole profile each time.
_PRINTED = 2


class MeteredProfile(dict[Any, Metrics]):
    """A stage's profile in memory, as FlexExecutor uses it, and its sidecar's records."""

    #: The columns that FlexExecutor writes itself.
    core: Sequence[str] = _file.CORE_COLUMNS
    #: The file that it was read from and is written to; a copy has none.
    saved: SavedProfile | None = None

    def __init__(self, data: Mapping[Any, Metrics], saved: SavedProfile | None = None) -> None:
        super().__init__(data)
        #: Records that wait for the next save.
        self.records: list[NewRecord] = []
        self.saved = saved

    def __getstate__(self) -> dict[str, Any]:
        return {"records": self.records, "core": self.core}

    def __repr__(self) -> str:
        """FlexExecutor's own columns, of each the last repetitions: it is printed at each one."""
        configurations = []
        for key, metrics in self.items():
            columns = []
            for name in self.core:
                column = metrics.get(name)
                if column is None:
                    continue
                left = len(column) - _PRINTED
                parts = [f"<{left} more>"] if left > 0 else []
                parts += [repr(one) for one in column[-_PRINTED:]]
                columns.append(f"{name!r}: [{', '.join(parts)}]")
            configurations.append(f"{key!r}: {{{', '.join(columns)}}}")
        return f"{{{', '.join(configurations)}}}"


def load(file: str, original: Callable[[str], Any]) -> Any:
    """FlexExecutor's `load_profiling_results`.

    Raises:
        MalformedValueError (a ValueError): The file is cut off or no profile.
    """
    saved = SavedProfile(file)
    try:
        data: Mapping[Any, Metrics] = _file.read_if_there(file)
    except MalformedValueError as error:
        # What FlexExecutor can read it shall read, with us as without.
        try:
            return original(file)
        except ValueError:
            raise MalformedValueError(f"{error}; {_file.ADVICE}") from None
    # FlexExecutor makes its keys with plain tuples, which are equal to these.
    profile = MeteredProfile({tuple(key): metrics for key, metrics in data.items()}, saved)
    saved.remember(profile)
    return profile


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
    if isinstance(profile, MeteredProfile):
        profile.core = tuple(core)
    original()
    with Harmless("adding the energy columns of a profile"):
        metrics: Metrics = profile[resources.key]
        done = _file.repetitions_of({n: c for n, c in metrics.items() if n in core})
        for name in COLUMN_NAMES:
            if name in core:
                continue
            column = metrics.setdefault(name, [])
            _fill(metrics, column, done - 1)
            del column[done - 1 :]
            column.append([plain_value(getattr(one, name, None)) for one in times])
        _file.align(metrics, done)
        if "RAPL_wrong" in core and SEED_COLUMN not in core:
            complete_training(metrics)
        if isinstance(profile, MeteredProfile):
            configuration = Configuration.of(resources.key)
            record = _sidecar.record(times, configuration.workers, context())
            print_ = _file.print_of(metrics, done - 1)
            profile.records.append(NewRecord(configuration, done - 1, print_, record))


def _fill(metrics: Metrics, column: list[list[Any]], repetitions: int) -> None:
    """Gives a column that began late its earlier repetitions, as None."""
    widths = metrics.get("read", [])
    for index in range(len(column), repetitions):
        column.append([None] * (len(widths[index]) if index < len(widths) else 0))


def save(file: str, profile: Any, original: Callable[[str, Any], None]) -> None:
    """FlexExecutor's `save_profiling_results`: merged with what the file holds, in one step.

    A file that was damaged since it was read is moved aside.

    Raises:
        OSError: The file cannot be written; what it held it still holds.
    """
    failed: OSError | None = None
    trouble = Harmless("saving a profile")
    with trouble, files.locked(file):
        try:
            if isinstance(profile, MeteredProfile):
                _save_metered(file, profile)
            else:
                _text.write_profile(file, profile)
        except OSError as error:
            failed = error
    if failed is not None:
        logger.warning(
            "%s is left as it was, without the newest repetition: %s",
            file,
            failed.strerror or failed,
        )
        raise failed
    if trouble.trouble:
        # FlexExecutor's own way then, with its own errors.
        logger.warning("%s is written without merging: %s", file, trouble.trouble)
        with _put_back(Path(file)):
            original(file, profile)


@contextlib.contextmanager
def _put_back(path: Path) -> Iterator[None]:
    """Gives a file back its content if what is done meanwhile fails; it may empty the file first.

    Raises:
        OSError: There is no room for a copy of the file, which is not touched then.
    """
    path = Path(os.path.realpath(path))
    copy: Path | None = None
    if path.exists():
        copy = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        try:
            shutil.copy2(path, copy)
        except OSError:
            copy.unlink(missing_ok=True)
            raise
    try:
        yield
    except BaseException:
        if copy is not None:
            copy.replace(path)  # which takes no room
        raise
    else:
        if copy is not None:
            copy.unlink(missing_ok=True)


def _save_metered(file: str, profile: MeteredProfile) -> None:
    saved = profile.saved
    if saved is not None and saved.grows_to(file, profile):
        for metrics in profile.values():
            _file.align(metrics)
        if saved.write(profile, profile.records, unmoved=True):
            profile.records = []
        return
    saved = SavedProfile(file)
    merged = _on_disk(file)
    for key, metrics in profile.items():
        known = merged.setdefault(Configuration.of(key), {})
        _file.append(known, _file.missing(metrics, known))
    for metrics in merged.values():
        if SEED_COLUMN in metrics:
            complete_training(metrics)
    if saved.write(merged, profile.records, unmoved=False):
        profile.records = []
    # What others added is seen from now on; the objects that FlexExecutor
    # holds are the same ones.
    for key, metrics in merged.items():
        mine = profile.setdefault(tuple(key), {})
        mine.clear()
        mine.update(metrics)
    saved.remember(profile)
    profile.saved = saved


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
    with files.locked(file):
        _sidecar.append_failure(file, failure)
