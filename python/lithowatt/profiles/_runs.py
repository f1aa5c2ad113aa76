"""Profiles as the analysis sees them: one row a worker call, in columns of NumPy.

`read_profiles` reads any files and folders; each file is a `ProfileFile`, each of its
configurations a `ConfigurationRuns`, whose columns are all aligned to the same rows: those of
repetition 0 first, in it worker 0 first.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lithowatt._support.architectures import ARCHITECTURES
from lithowatt.errors import LithowattError, UnreadableFileError
from lithowatt.profiles._file import Configuration
from lithowatt.profiles._find import Label, compiled_group, find_profiles, is_of_lithowatt
from lithowatt.profiles._sidecar import read_sidecar, sidecar_path

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

#: The columns that computations rest on: a repetition that lacks one is not usable. FlexExecutor
#: itself writes the first four only.
CORE = (
    "read",
    "compute",
    "write",
    "cold_start",
    "time_consumption",
    "worker_time_execution",
    "TDP",
)
ALWAYS = CORE[:4]

#: Columns that describe the machine: one value in a repetition is that of all its workers.
DESCRIBING = (
    "measurement_energy",
    "cpu_name",
    "cpu_architecture",
    "cpu_cores_physical",
    "cpu_cores_logical",
    "aws_cpu",
)


@dataclass(frozen=True, eq=False)
class Column:
    """One metric of a configuration.

    Attributes:
        name: As the file spells it.
        lengths: Values that the file holds in each repetition; shorter than the configuration's
            where the column lacks repetitions at its end.
        numbers: A value a row, NaN where there is none; `None` of a column of texts, and of one
            whose values were not to be kept.
        codes: Of a column of texts: an index into `labels` a row, -1 where there is none.
        labels: The different texts, in the order in which they appear.
        whole: Whether all its numbers that are there are whole, as the file writes them.
    """

    name: str
    lengths: Ints
    numbers: Floats | None
    codes: npt.NDArray[np.int32] | None = None
    labels: tuple[str, ...] = ()
    whole: bool = False

    @property
    def texts(self) -> list[str | None]:
        """The texts, one a row; of a column of numbers all `None`."""
        if self.codes is None:
            return [None] * (0 if self.numbers is None else len(self.numbers))
        return [self.labels[code] if code >= 0 else None for code in self.codes]


@dataclass(frozen=True, eq=False)
class ConfigurationRuns:
    """The repetitions of one configuration.

    Attributes:
        key: As the file spells it, e.g. `"(1, 512, 4)"`.
        configuration: The same, as numbers.
        widths: Workers of each repetition: its longest column.
        columns: Name to column, in the order of the file.
        records: The sidecar's records, one a repetition; `None` where there is none.
    """

    key: str
    configuration: Configuration
    widths: Ints
    columns: Mapping[str, Column]
    records: tuple[Mapping[str, Any] | None, ...] = ()

    @property
    def repetitions(self) -> int:
        """Repetitions of the longest column."""
        return len(self.widths)

    @property
    def rows(self) -> int:
        """Worker calls."""
        return int(self.widths.sum())

    @cached_property
    def starts(self) -> Ints:
        """The first row of each repetition, and the number of rows at the end."""
        return np.concatenate(([0], np.cumsum(self.widths))).astype(np.int64)

    @cached_property
    def repetition(self) -> Ints:
        """The repetition of each row."""
        return np.repeat(np.arange(len(self.widths), dtype=np.int64), self.widths)

    @cached_property
    def worker(self) -> Ints:
        """The worker of each row, from 0 in each repetition."""
        return np.arange(self.rows, dtype=np.int64) - self.starts[self.repetition]

    def numbers(self, name: str) -> Floats:
        """A column of numbers, NaN where there is none; all NaN where there is no such column."""
        column = self.columns.get(name)
        if column is None or column.numbers is None:
            return np.full(self.rows, np.nan)
        return column.numbers

    def texts(self, name: str) -> list[str | None]:
        """A column of texts, `None` where there is none."""
        column = self.columns.get(name)
        return [None] * self.rows if column is None or column.codes is None else column.texts

    @property
    def required(self) -> tuple[str, ...]:
        """Those of `CORE` that this configuration's repetitions have to have.

        Where there is a `cpu_time`, `TDP` is joules of a power model that may be missing. A column
        of nothing but nulls was not recorded, as one that is not there.
        """
        own = "cpu_time" in self.columns
        some = (
            name
            for name in CORE[len(ALWAYS) :]
            if np.isfinite(self.numbers(name)).any() and not (own and name == "TDP")
        )
        return (*ALWAYS, *some)

    @cached_property
    def usable(self) -> Bools:
        """Of each repetition, whether `required` is there, equally long, finite for all workers."""
        good = self.widths > 0
        for name in self.required:
            column = self.columns.get(name)
            if column is None or column.numbers is None:
                return np.zeros(len(self.widths), dtype=bool)
            lengths = np.zeros(len(self.widths), dtype=np.int64)
            lengths[: len(column.lengths)] = column.lengths
            good &= lengths == self.widths
            good &= self.all_of(np.isfinite(column.numbers))
        return good

    def sum_of(self, rows: Floats) -> Floats:
        """The sum over the workers of each repetition; 0 for one without workers."""
        return self._reduced(np.add, rows)

    def mean_of(self, rows: Floats) -> Floats:
        """The mean over the workers of each repetition; NaN for one without workers."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self.sum_of(rows) / self.widths, dtype=np.float64)

    def max_of(self, rows: Floats) -> Floats:
        """The greatest of the workers of each repetition."""
        return self._reduced(np.maximum, rows)

    def all_of(self, rows: Bools) -> Bools:
        """Of each repetition, whether all its workers are."""
        return np.asarray(self.sum_of((~rows).astype(np.float64)) == 0)

    @cached_property
    def _all_have_workers(self) -> bool:
        return len(self.widths) > 0 and bool(self.widths.all())

    def _reduced(self, operation: np.ufunc, rows: Floats) -> Floats:
        if self._all_have_workers:
            return np.asarray(operation.reduceat(rows, self.starts[:-1]), dtype=np.float64)
        found = np.zeros(len(self.widths))
        some = self.widths > 0
        if some.any():
            found[some] = operation.reduceat(rows, self.starts[:-1][some])
        return found

    @cached_property
    def architecture(self) -> str | None:
        """`x86_64` or `arm64` as most rows say; `None` where no row says.

        What results call the configuration is `lithowatt.analysis.placement.architecture_of`.
        """
        column = self.columns.get("cpu_architecture")
        if column is None or column.codes is None or not (column.codes >= 0).any():
            return None
        counts = np.bincount(column.codes[column.codes >= 0], minlength=len(column.labels))
        return ARCHITECTURES.get(column.labels[int(counts.argmax())].strip().lower())

    @cached_property
    def architectures(self) -> Mapping[str, int]:
        """How many rows say `x86_64`, and how many `arm64`; only those that some row says."""
        return {name: int(rows.sum()) for name, rows in self.rows_on.items()}

    @cached_property
    def rows_on(self) -> Mapping[str, Bools]:
        """Of each architecture that some row says, which rows say it."""
        column = self.columns.get("cpu_architecture")
        if column is None or column.codes is None:
            return {}
        # The last one is of the rows that say nothing, whose code is -1.
        names = [*(ARCHITECTURES.get(one.strip().lower()) for one in column.labels), None]
        found = {}
        for name in sorted({one for one in names if one is not None}):
            rows = np.array([one == name for one in names])[column.codes]
            if rows.any():
                found[name] = rows
        return found

    def part(self, keep: Bools) -> ConfigurationRuns:
        """Only some of the repetitions."""
        rows = keep[self.repetition]
        columns = {
            name: Column(
                name,
                column.lengths[keep[: len(column.lengths)]],
                None if column.numbers is None else column.numbers[rows],
                None if column.codes is None else column.codes[rows],
                column.labels,
                column.whole,
            )
            for name, column in self.columns.items()
        }
        records = tuple(
            record for record, kept in zip(self.records, keep.tolist(), strict=False) if kept
        )
        return ConfigurationRuns(self.key, self.configuration, self.widths[keep], columns, records)


@dataclass(frozen=True, eq=False)
class ProfileFile:
    """One stage of one file.

    Attributes:
        path: Where it is.
        name: What results call it: the path below the folder that was given.
        source: Which of the given paths it stands for or lies below, from 0.
        sha256: Of the file's bytes, lower-case hex.
        label: What its path says: workload, stage, memory, architecture.
        configurations: In the order of the file.
        sidecar: What `read_sidecar` gives, `None` where there is none.
        sidecar_fault: Why one that is there cannot be read.
        of_lithops: It holds stats of Lithops' calls, and is no profile of FlexExecutor's.
    """

    path: str
    name: str
    source: int
    sha256: str
    label: Label
    configurations: Sequence[ConfigurationRuns]
    sidecar: Mapping[str, Any] | None = None
    sidecar_fault: str | None = None
    of_lithops: bool = False

    @property
    def workload(self) -> str:
        """What ran."""
        return self.label.workload

    @property
    def stage(self) -> str:
        """Which stage of it."""
        return self.label.stage

    @property
    def rows(self) -> int:
        """Worker calls."""
        return sum(one.rows for one in self.configurations)

    @cached_property
    def architecture(self) -> str | None:
        """Of the rows; of the path where no row says."""
        said = [one.architecture for one in self.configurations if one.architecture is not None]
        if said:
            return max(sorted(set(said)), key=said.count)
        return self.label.architecture


class Skipped(NamedTuple):
    """A file of a folder that is no profile."""

    file: str
    reason: str


@dataclass(frozen=True, eq=False)
class Profiles:
    """Profiles that were read together.

    Attributes:
        files: One for each stage of each file, in the order of their names.
        skipped: What lay in a folder and is no profile.
    """

    files: Sequence[ProfileFile]
    skipped: Sequence[Skipped] = field(default_factory=tuple)

    def __iter__(self) -> Iterator[tuple[ProfileFile, ConfigurationRuns]]:
        """Each configuration with its file."""
        for file in self.files:
            for configuration in file.configurations:
                yield file, configuration

    def to_pandas(
        self, *, excluding: Iterable[str] | None = None, region: str = "us-east-1"
    ) -> pd.DataFrame:
        """The tidy table: one row a worker call, with the columns of `lithowatt profile export`.

        A missing text is `None`, a missing number NaN. `left_out` says why a row does not count.

        Args:
            excluding: The rules of lint that `left_out` names; `None`: those of the basis `clean`.
            region: Of Lambda's prices.

        Raises:
            ImportError: Where pandas is missing, with the command that installs it.
        """
        from lithowatt.profiles._tidy import to_pandas

        return to_pandas(self, excluding, region)

    def to_arrow(
        self, *, excluding: Iterable[str] | None = None, region: str = "us-east-1"
    ) -> pa.Table:
        """As `to_pandas`, as a table of Arrow.

        Raises:
            ImportError: Where pyarrow is missing, with the command that installs it.
        """
        from lithowatt.profiles._tidy import to_arrow

        return to_arrow(self, excluding, region)


def read_profiles(
    paths: Iterable[str | os.PathLike[str]],
    *,
    group: str | None = None,
    keep: AbstractSet[str] | None = None,
) -> Profiles:
    """Reads profiles.

    Args:
        paths: Files, and folders that are searched for `*.json`. What lithowatt wrote there besides
            profiles (results, logs, the examples' `runs.json`) is passed over.
        group: A regular expression with the groups `workload` and `stage`, searched in each file's
            name; by default the folder names the workload and the file the stage.
        keep: Names of the columns whose values are kept in memory; `None`: all. The others have
            neither `numbers` nor `codes`.

    Raises:
        UnreadableFileError: A path is not there, or no profile is in what was given.
        MalformedValueError: A file that was given by itself is no profile.
    """
    pattern = compiled_group(group)
    files: list[ProfileFile] = []
    skipped: list[Skipped] = []
    for found in find_profiles(paths):
        try:
            label = Label.of(found.name, pattern)
            files += read_file(
                os.fspath(found.path), found.name, label, source=found.source, keep=keep
            )
        except LithowattError as error:
            if found.given:
                raise
            if is_of_lithowatt(found.path):
                continue
            told = str(error).replace(os.fspath(found.path), found.name)
            skipped.append(Skipped(found.name, told))
    if not files:
        raise UnreadableFileError(none_found(skipped))
    return Profiles(tuple(files), tuple(skipped))


def none_found(skipped: Sequence[Skipped]) -> str:
    """That there is no profile, and why some files are none."""
    told = "; ".join(f"{one.file}: {one.reason}" for one in skipped[:3])
    return f"no profile was found{f' ({told})' if told else ''}"


def read_file(
    path: str,
    name: str,
    label: Label,
    *,
    source: int = 0,
    keep: AbstractSet[str] | None = None,
) -> list[ProfileFile]:
    """The stages of one file, with what `ProfileFile` calls it besides.

    Raises:
        UnreadableFileError: It cannot be read.
        MalformedValueError: It is no profile.
    """
    # These build on this module.
    from lithowatt.profiles._lithops_stats import holds_stats, read_stats
    from lithowatt.profiles._stream import ProfileStream

    if holds_stats(path):
        configurations, sha256 = read_stats(path)
        held = tuple(configurations)
        return [ProfileFile(path, name, source, sha256, label, held, of_lithops=True)]
    sidecar = fault = None
    # A link to nothing is one that is there.
    if os.path.lexists(sidecar_path(path)):
        try:
            sidecar = read_sidecar(path)
        except LithowattError as error:
            fault = _fault(error)
    stream = ProfileStream(path, keep, None if sidecar is None else sidecar["configurations"])
    stages: dict[str | None, list[ConfigurationRuns]] = {}
    for stage, runs in stream:
        stages.setdefault(stage, []).append(runs)
    return [
        ProfileFile(
            path,
            name,
            source,
            stream.sha256,
            label if stage is None else label._replace(stage=stage),
            tuple(configurations),
            sidecar,
            fault,
        )
        for stage, configurations in (stages or {None: []}).items()
    ]


def _fault(error: Exception) -> str:
    """Why a sidecar cannot be read, on one line and the sidecar by its name alone."""
    folder, separator, rest = str(error).partition(".energy")
    return f"{os.path.basename(folder)}{separator}{rest}"[:200]  # noqa: PTH119
