"""``append_repetition``: one more repetition in a profile that others may write, too."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lithowatt._support.files import locked
from lithowatt.errors import MalformedValueError
from lithowatt.profiles._columns import repetition
from lithowatt.profiles._file import (
    ADVICE,
    CORE_COLUMNS,
    Configuration,
    ProfileData,
    append,
    print_of,
    read_if_there,
    repetitions_of,
)
from lithowatt.profiles._saved import SavedProfile
from lithowatt.profiles._sidecar import NewRecord, record

#: Profiles that `append_repetition` wrote last, by path: what is known need not be read again.
_kept: dict[str, tuple[SavedProfile, ProfileData]] = {}
_MOST_KEPT = 8


def append_repetition(
    path: str | os.PathLike[str],
    configuration: Sequence[float],
    times: Sequence[Any],
    context: Mapping[str, Any] | None = None,
) -> None:
    """Adds one repetition, a value per worker, to a profile that may not be there yet.

    Others may write the same file at the same time. The directories are made.

    Args:
        path: `<folder>/<dag>/<stage>.json`.
        configuration: cpu, memory in MiB, workers as requested.
        times: One `FunctionTimes` (FlexExecutor's, or
            `lithowatt.flexecutor.FunctionTimes`) per worker that ran.
        context: What its record in the sidecar says besides. `input_size`, a text, or
            `input_bytes` keep repetitions of other inputs apart (rule `input-changed`).

    Raises:
        MalformedValueError: The file there is no profile, or the configuration
            is none; nothing is written.
        UnreadableFileError, OSError: It cannot be read or written.
    """
    from lithowatt.profiles._saved import SavedProfile

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
        new = NewRecord(key, index, print_of(metrics, index), record(times, key.workers, context))
        saved.write(data, [new], unmoved)
        _kept[saved.path] = saved, data
        for old in list(_kept)[:-_MOST_KEPT]:
            _kept.pop(old, None)
