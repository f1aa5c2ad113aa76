"""New profiles out of those that were read: whole files, with their sidecars."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lithowatt._support.architectures import ARCHITECTURES
from lithowatt._support.files import locked
from lithowatt.analysis.placement import architecture_of, place_of
from lithowatt.errors import MalformedValueError
from lithowatt.profiles._file import Configuration, Metrics, ProfileData, append, repetitions_of
from lithowatt.profiles._outputs import keep_inputs, with_sidecars
from lithowatt.profiles._runs import (
    DESCRIBING,
    Bools,
    Column,
    ConfigurationRuns,
    ProfileFile,
    Profiles,
)
from lithowatt.profiles._sidecar import sidecar_path, write_sidecar
from lithowatt.profiles._text import write_profile

Places = Iterable[tuple[ProfileFile, ConfigurationRuns]]


@dataclass
class Profile:
    """A profile that is to be written.

    Attributes:
        data: The profile.
        records: The sidecar's records of each configuration, one a repetition.
        failures: The sidecar's failed runs.
        inputs: The files that it was made of, which it is not written over.
    """

    data: ProfileData = field(default_factory=dict)
    records: dict[Configuration, list[Mapping[str, Any] | None]] = field(default_factory=dict)
    failures: list[Any] = field(default_factory=list)
    inputs: set[str] = field(default_factory=set)

    def add(self, runs: ConfigurationRuns) -> None:
        """Appends the repetitions of a configuration, and their records."""
        key = runs.configuration
        metrics = self.data.setdefault(key, {})
        before = repetitions_of(metrics)
        append(metrics, metrics_of(runs))
        records = self.records.setdefault(key, [])
        records.extend([None] * (before - len(records)))
        records.extend(runs.records[: runs.repetitions])
        records.extend([None] * (before + runs.repetitions - len(records)))

    def write(self, path: str | os.PathLike[str]) -> None:
        """Writes it and its sidecar; the folder is made.

        A sidecar that is there is replaced; where this profile has none, it is removed, since it
        is of another profile.

        Raises:
            UnwritableFileError: It would be written over one of its `inputs`, or over a sidecar.
            OSError: It cannot be written.
        """
        keep_inputs(with_sidecars([path]), self.inputs)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with locked(path):
            write_profile(path, self.data)
            said = {key: some for key, some in self.records.items() if any(some)}
            if said or self.failures:
                write_sidecar(path, self.data, said, self.failures)
            else:
                with contextlib.suppress(FileNotFoundError):
                    sidecar_path(path).unlink()


def metrics_of(runs: ConfigurationRuns) -> Metrics:
    """A configuration as profiles hold it, `None` for what is missing. Of a column that describes
    the machine one value for each worker."""
    return {name: _repetitions(runs, column) for name, column in runs.columns.items()}


def _repetitions(runs: ConfigurationRuns, column: Column) -> list[list[Any]]:
    values: list[Any]
    if column.codes is not None:
        values = column.texts
    elif column.numbers is not None:
        missing = np.isnan(column.numbers)
        if column.whole:
            values = np.where(missing, 0, column.numbers).astype(np.int64).tolist()
        else:
            values = column.numbers.tolist()
        for at in np.flatnonzero(missing).tolist():
            values[at] = None
    else:
        raise ValueError(f"the values of column {column.name!r} were not kept")
    starts = runs.starts.tolist()
    return [
        values[starts[at] : starts[at + 1] if spread else starts[at] + length]
        for at, length in enumerate(column.lengths.tolist())
        for spread in (length == 1 and column.name in DESCRIBING,)
    ]


# --- which repetitions ------------------------------------------------------------------------


@dataclass(frozen=True)
class Choice:
    """Which repetitions are wanted; `None`: any.

    Attributes:
        memory_mb: Of the configuration.
        workers: As requested.
        architecture: `x86_64` or `arm64`, of all workers of a repetition; of the file where no
            row says.
        cpu_name: A part of the processor's name, of all workers of a repetition.
    """

    memory_mb: frozenset[int] | None = None
    workers: frozenset[int] | None = None
    architecture: str | None = None
    cpu_name: str | None = None

    def of(self, file: ProfileFile, runs: ConfigurationRuns) -> Bools:
        """Of each repetition, whether it is wanted."""
        configuration = runs.configuration
        good = np.ones(runs.repetitions, dtype=bool)
        if self.memory_mb is not None and configuration.memory_mb not in self.memory_mb:
            good[:] = False
        if self.workers is not None and configuration.workers not in self.workers:
            good[:] = False
        if self.architecture is not None:
            column = runs.columns.get("cpu_architecture")
            if column is None or column.codes is None:
                good &= file.architecture == self.architecture
            else:
                good &= _all_say(
                    runs,
                    column,
                    [
                        ARCHITECTURES.get(one.strip().lower()) == self.architecture
                        for one in column.labels
                    ],
                )
        if self.cpu_name is not None:
            column = runs.columns.get("cpu_name")
            if column is None or column.codes is None:
                good[:] = False
            else:
                part = self.cpu_name.lower()
                good &= _all_say(runs, column, [part in one.lower() for one in column.labels])
        return good


def _all_say(runs: ConfigurationRuns, column: Column, good: Sequence[bool]) -> Bools:
    said = np.array([*good, False])[column.codes]
    return runs.all_of(said)


# --- one out of several -----------------------------------------------------------------------


def merged(profiles: Profiles, mixed: bool = False) -> Profile:
    """All repetitions in one profile.

    Args:
        profiles: What was read.
        mixed: Also of several workloads, stages or, in one configuration, architectures.

    Raises:
        MalformedValueError: They are of several, without `mixed`.
    """
    if not mixed:
        check_alike(profiles)
    profile = Profile(inputs={file.path for file in profiles.files})
    for _, runs in profiles:
        profile.add(runs)
    for file in profiles.files:
        profile.failures += (file.sidecar or {}).get("failures", [])
    return profile


def check_alike(profiles: Profiles) -> None:
    for what in ("workload", "stage"):
        first = profiles.files[0]
        for file in profiles.files[1:]:
            if getattr(file, what) != getattr(first, what):
                raise MalformedValueError(
                    f"{first.name} is of {what} {getattr(first, what)}, {file.name} of "
                    f"{getattr(file, what)}: their runs are not alike"
                )
    alike = _Alike()
    for file, runs in profiles:
        check_one_architecture(file, runs)
        alike.add(file, runs)


def check_one_architecture(file: ProfileFile, runs: ConfigurationRuns) -> None:
    """A few stray rows are let through, as in results.

    Raises:
        MalformedValueError: The configuration is a mixture of two architectures already.
    """
    if len(runs.architectures) > 1 and architecture_of(file, place_of(file), runs) is None:
        raise MalformedValueError(
            f"configuration {runs.key} ran on {' and on '.join(runs.architectures)} in "
            f"{file.name}, which a profile's key does not tell apart"
        )


class _Alike:
    """Configurations of one profile, each with the architecture that it ran on."""

    def __init__(self) -> None:
        self._ran: dict[Configuration, tuple[str | None, str]] = {}

    def add(self, file: ProfileFile, runs: ConfigurationRuns) -> None:
        """Adds a configuration.

        Raises:
            MalformedValueError: The same one is there with another architecture.
        """
        architecture = runs.architecture or file.architecture
        before, where = self._ran.setdefault(runs.configuration, (architecture, file.name))
        if before != architecture:
            raise MalformedValueError(
                f"configuration {runs.key} ran on {before} in {where} and on {architecture} in "
                f"{file.name}, which a profile's key does not tell apart"
            )


def by_architecture(file: ProfileFile, runs: ConfigurationRuns) -> Places:
    """A configuration, or one for each architecture that its repetitions ran on.

    Raises:
        MalformedValueError: Workers of one repetition ran on several.
    """
    if len(runs.architectures) < 2:
        yield file, runs
        return
    on = {name: ~runs.all_of(~rows) for name, rows in runs.rows_on.items()}
    both = np.logical_and.reduce(list(on.values()))
    if both.any():
        raise MalformedValueError(
            f"repetition {int(np.flatnonzero(both)[0])} of configuration {runs.key} in {file.name} "
            f"ran on {' and on '.join(on)}; profile filter --architecture leaves such ones out"
        )
    # A repetition whose rows do not say goes with most of the others.
    rest = ~np.logical_or.reduce(list(on.values()))
    for name, repetitions in on.items():
        yield file, runs.part(repetitions | rest if name == runs.architecture else repetitions)


def by_name(places: Places, name: Any) -> dict[str, Profile]:
    """Several profiles: each configuration goes to the one of the name that `name(file, runs)` is.

    Failed runs go to the first profile of their file.

    Raises:
        MalformedValueError: A profile would pool two architectures in one configuration.
    """
    found: dict[str, Profile] = {}
    alike: dict[str, _Alike] = {}
    told: set[str] = set()
    for file, runs in places:
        where = name(file, runs)
        alike.setdefault(where, _Alike()).add(file, runs)
        profile = found.setdefault(where, Profile())
        profile.add(runs)
        profile.inputs.add(file.path)
        if file.path not in told:
            told.add(file.path)
            profile.failures += (file.sidecar or {}).get("failures", [])
    return found
