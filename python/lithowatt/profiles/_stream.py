"""A profile read configuration by configuration: memory holds one of them at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lithowatt import _core
from lithowatt.errors import MalformedValueError
from lithowatt.profiles._file import Configuration
from lithowatt.profiles._lithops_stats import holds_stats, read_stats
from lithowatt.profiles._runs import (
    DESCRIBING,
    Column,
    ConfigurationRuns,
    Ints,
    ProfileFile,
    Profiles,
)


class ProfileStream:
    """The configurations of a profile, each with the stage that the file says, if it holds several.

    Args:
        path: The profile.
        keep: Names of the columns whose values are kept; of the others only `lengths`. `None`: all.
        records: The sidecar's, by `Configuration.key`.

    Raises:
        UnreadableFileError: It is not there, may not be read or is no plain file.
        MalformedValueError: While iterating: it is cut off or no profile; names the place.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        keep: AbstractSet[str] | None = None,
        records: Mapping[str, Sequence[Mapping[str, Any] | None]] | None = None,
    ) -> None:
        self._path = os.fspath(path)
        self._reader = _core.ProfileReader(path, None if keep is None else frozenset(keep))
        self._records = {} if records is None else records

    def __iter__(self) -> Iterator[tuple[str | None, ConfigurationRuns]]:
        seen: set[tuple[str | None, Configuration]] = set()
        for stage, key, columns in self._reader:
            try:
                configuration = Configuration.parse(key)
            except MalformedValueError as error:
                raise MalformedValueError(f"{self._path}: {error}") from None
            if (stage, configuration) in seen:
                raise MalformedValueError(f"{self._path} holds configuration {key} twice")
            seen.add((stage, configuration))
            records = tuple(self._records.get(configuration.key, ()))
            yield stage, _runs(key, configuration, columns, records)

    @property
    def sha256(self) -> str:
        """Of the file's bytes, lower-case hex; there once the last configuration was read."""
        found = self._reader.sha256
        if found is None:
            raise RuntimeError("the file was not read to its end")
        return found


def without_rows(profiles: Profiles) -> Profiles:
    """The same files without their configurations, for `read_again`."""
    files = (
        replace(file, configurations=(), label=file.label._replace(architecture=file.architecture))
        for file in profiles.files
    )
    return replace(profiles, files=tuple(files))


def read_again(profiles: Profiles) -> Iterator[tuple[ProfileFile, ConfigurationRuns]]:
    """Each configuration with its file, all its columns kept, read anew one at a time.

    Raises:
        MalformedValueError: A file has changed since it was read.
        UnreadableFileError: A file is not there any more.
    """
    by_path: dict[str, list[ProfileFile]] = {}
    for file in profiles.files:
        by_path.setdefault(file.path, []).append(file)
    for path, files in by_path.items():
        if holds_stats(path):
            configurations, sha256 = read_stats(path)
            if sha256 != files[0].sha256:
                raise MalformedValueError(f"{path} has changed while it was read")
            yield from ((files[0], runs) for runs in configurations)
            continue
        sidecar = files[0].sidecar
        stream = ProfileStream(path, None, None if sidecar is None else sidecar["configurations"])
        stages = {file.stage: file for file in files}
        for stage, runs in stream:
            found = files[0] if stage is None else stages.get(stage)
            if found is None:
                break
            yield found, runs
        else:
            if stream.sha256 == files[0].sha256:
                continue
        raise MalformedValueError(f"{path} has changed while it was read")


def _runs(
    key: str,
    configuration: Configuration,
    columns: Mapping[str, _core.ProfileColumn],
    records: tuple[Mapping[str, Any] | None, ...],
) -> ConfigurationRuns:
    lengths = {
        name: np.frombuffer(column.lengths, np.uint32).astype(np.int64)
        for name, column in columns.items()
    }
    widths = np.zeros(max(map(len, lengths.values()), default=0), dtype=np.int64)
    for one in lengths.values():
        np.maximum(widths[: len(one)], one, out=widths[: len(one)])
    return ConfigurationRuns(
        key,
        configuration,
        widths,
        {name: aligned(name, column, lengths[name], widths) for name, column in columns.items()},
        records,
    )


def aligned(name: str, column: _core.ProfileColumn, lengths: Ints, widths: Ints) -> Column:
    """A column with a value for each worker of each repetition."""
    numbers, codes = column.numbers, column.codes
    places = None if numbers is codes else _places(name, lengths, widths)
    return Column(
        name,
        lengths,
        None if numbers is None else _placed(np.frombuffer(numbers), places, np.nan),
        None if codes is None else _placed(np.frombuffer(codes, np.int32), places, -1),
        column.labels,
        column.whole,
    )


def _places(name: str, lengths: Ints, widths: Ints) -> Ints | None:
    """Which value each row gets, -1 for none; `None` where each gets its own."""
    full = np.zeros(len(widths), dtype=np.int64)
    full[: len(lengths)] = lengths
    if np.array_equal(full, widths):
        return None
    repetition = np.repeat(np.arange(len(widths)), widths)
    worker = np.arange(len(repetition)) - np.repeat(np.cumsum(widths) - widths, widths)
    if name in DESCRIBING:
        worker[(full == 1)[repetition]] = 0
    places = (np.cumsum(full) - full)[repetition] + worker
    places[worker >= full[repetition]] = -1
    return places


def _placed(values: npt.NDArray[Any], places: Ints | None, missing: float) -> npt.NDArray[Any]:
    return values if places is None else np.append(values, values.dtype.type(missing))[places]
