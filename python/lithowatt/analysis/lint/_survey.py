"""What several rules have to know of the profiles, looked up once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np

from lithowatt.analysis.lint._repeated import Repeated, Source, repeated
from lithowatt.profiles._runs import (
    Bools,
    ConfigurationRuns,
    Floats,
    Ints,
    ProfileFile,
    Profiles,
)

_T = TypeVar("_T")

#: A platform that more than this part of a file's rows name is the file's.
FOREIGN_SHARE = 0.95

#: A worker that computed for less did nothing, s, where the others have this median at least, s.
EMPTY_COMPUTE_S = 1e-3
EMPTY_LEAST_MEDIAN_S = 0.05


class Place(NamedTuple):
    """One configuration of one file.

    Attributes:
        file_at: Index of the file.
        at: Index of the configuration in it.
        file: The file.
        runs: The configuration.
    """

    file_at: int
    at: int
    file: ProfileFile
    runs: ConfigurationRuns

    @property
    def named(self) -> str:
        """File and key, for a message."""
        return f"{self.file.name} {self.runs.key}"


class Survey:
    """Profiles, and what more than one rule looks up in them."""

    def __init__(self, profiles: Profiles) -> None:
        self.profiles = profiles
        self.places = [
            Place(file_at, at, file, runs)
            for file_at, file in enumerate(profiles.files)
            for at, runs in enumerate(file.configurations)
        ]
        self._clean: dict[tuple[int, int], Bools] = {}
        self._idle: dict[tuple[int, int], Bools] = {}
        self._known: dict[tuple[Callable[[ProfileFile], Any], int], Any] = {}

    def of_file(self, file_at: int) -> list[Place]:
        """The configurations of a file."""
        return self._by_file[file_at]

    @cached_property
    def _by_file(self) -> list[list[Place]]:
        found: list[list[Place]] = [[] for _ in self.profiles.files]
        for place in self.places:
            found[place.file_at].append(place)
        return found

    def known(self, what: Callable[[ProfileFile], _T], file_at: int) -> _T:
        """What this function says of a file, which is asked once."""
        key = (what, file_at)
        if key not in self._known:
            self._known[key] = what(self.profiles.files[file_at])
        found: _T = self._known[key]
        return found

    # --- repetitions that are no runs of their own ------------------------------------------------

    @cached_property
    def _order(self) -> list[int]:
        """Places by file and the numbers of their keys: the order of the keys changes nothing."""
        places = self.places
        return sorted(
            range(len(places)), key=lambda at: (places[at].file_at, places[at].runs.configuration)
        )

    @cached_property
    def _repeated(self) -> dict[tuple[int, int], Repeated]:
        ordered = [self.places[at] for at in self._order]
        found = repeated([place.runs for place in ordered])
        return {(place.file_at, place.at): one for place, one in zip(ordered, found, strict=True)}

    def repeated(self, place: Place) -> Repeated:
        """The copies of a configuration."""
        return self._repeated[place.file_at, place.at]

    def source(self, source: Source) -> tuple[Place, int]:
        """The configuration and the repetition that a copy was made of."""
        return self.places[self._order[source.place]], source.repetition

    # --- another platform -------------------------------------------------------------------------

    def foreign(self, place: Place) -> Bools:
        """Of each row, whether it names another platform than nearly all rows of its file."""
        return self.known(_foreign, place.file_at)[place.at]

    # --- work that was not done -------------------------------------------------------------------

    def idle_workers(self, place: Place) -> Bools:
        """Of each row, whether it computed nothing where the others did."""
        key = place.file_at, place.at
        if key not in self._idle:
            self._idle[key] = _idle_workers(place.runs)
        return self._idle[key]

    def empty(self, place: Place) -> Bools:
        """Of each repetition, whether half its workers or more computed nothing."""
        idle = place.runs.sum_of(self.idle_workers(place).astype(np.float64))
        return np.asarray((idle > 0) & (idle * 2 >= place.runs.widths))

    # --- the basis --------------------------------------------------------------------------------

    def excluded(self, place: Place) -> dict[str, Ints]:
        """The repetitions that each rule leaves out of the basis `clean`."""
        seen = self.repeated(place)
        foreign = place.runs.sum_of(self.foreign(place).astype(np.float64)) > 0
        return {
            "copied-repetitions": np.array(sorted(seen.copied), dtype=np.int64),
            "jittered-repetitions": np.array(sorted(seen.jittered), dtype=np.int64),
            "foreign-hardware": np.flatnonzero(foreign),
            "empty-repetition": np.flatnonzero(self.empty(place)),
        }

    def clean(self, place: Place) -> Bools:
        """Of each repetition, whether it is in the basis `clean`."""
        key = place.file_at, place.at
        if key not in self._clean:
            good = place.runs.usable.copy()
            for repetitions in self.excluded(place).values():
                good[repetitions] = False
            self._clean[key] = good
        return self._clean[key]


_SHARED: ContextVar[Survey | None] = ContextVar("_SHARED", default=None)


@contextmanager
def one_survey(profiles: Profiles) -> Iterator[None]:
    """Within the block all that asks lint of these profiles looks things up once, together."""
    token = _SHARED.set(Survey(profiles))
    try:
        yield
    finally:
        _SHARED.reset(token)


def survey_of(profiles: Profiles) -> Survey:
    """The survey of `one_survey`, where it is of these profiles; else a new one."""
    shared = _SHARED.get()
    return shared if shared is not None and shared.profiles is profiles else Survey(profiles)


def median(values: Floats) -> float:
    """The median of values that are all there; of none NaN."""
    if not len(values):
        return math.nan
    ordered, half = np.sort(values), len(values) // 2
    # As numpy.median has it, whose checks take longer than the sorting.
    return float(ordered[half] if len(values) % 2 else ordered[half - 1 : half + 1].mean())


def _idle_workers(runs: ConfigurationRuns) -> Bools:
    compute = runs.numbers("compute")
    with np.errstate(invalid="ignore"):
        idle = np.asarray(compute < EMPTY_COMPUTE_S)
    if idle.any():
        usable = compute[runs.usable[runs.repetition]]
        if len(usable) and median(usable) >= EMPTY_LEAST_MEDIAN_S:
            return idle
    return np.zeros(runs.rows, dtype=bool)


def _foreign(file: ProfileFile) -> list[Bools]:
    platforms = [_on_lambda(runs) for runs in file.configurations]
    said = np.concatenate([*platforms, np.zeros(0, dtype=np.int8)])
    said = said[said >= 0]
    for usual in (0, 1):
        if (said == usual).sum() > FOREIGN_SHARE * len(said):
            return [(rows >= 0) & (rows != usual) for rows in platforms]
    return [np.zeros(runs.rows, dtype=bool) for runs in file.configurations]


def _on_lambda(runs: ConfigurationRuns) -> np.ndarray[tuple[int], np.dtype[np.int8]]:
    """Of each row 1 for AWS Lambda, 0 for another platform, -1 where the tag does not say."""
    column = runs.columns.get("aws_cpu")
    if column is None or column.codes is None:
        return np.full(runs.rows, -1, dtype=np.int8)
    says = []
    for label in column.labels:
        text = label.lower()
        says.append(1 if "lambda:true" in text else 0 if "lambda:false" in text else -1)
    return np.array([*says, -1], dtype=np.int8)[column.codes]
