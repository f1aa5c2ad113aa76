"""What several rules have to know of the profiles, looked up once."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np

from lithowatt.analysis.lint._repeated import Repeated, Source, repeated
from lithowatt.profiles._runs import Bools, ConfigurationRuns, Ints, ProfileFile, Profiles

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
        self._foreign: dict[int, list[Bools]] = {}
        self._clean: dict[tuple[int, int], Bools] = {}

    def of_file(self, file_at: int) -> list[Place]:
        """The configurations of a file."""
        return self._by_file[file_at]

    @cached_property
    def _by_file(self) -> list[list[Place]]:
        found: list[list[Place]] = [[] for _ in self.profiles.files]
        for place in self.places:
            found[place.file_at].append(place)
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
        if place.file_at not in self._foreign:
            self._foreign[place.file_at] = _foreign(place.file)
        return self._foreign[place.file_at][place.at]

    # --- work that was not done -------------------------------------------------------------------

    def idle_workers(self, place: Place) -> Bools:
        """Of each row, whether it computed nothing where the others did."""
        runs = place.runs
        compute = runs.numbers("compute")
        usable = compute[runs.usable[runs.repetition]]
        if not len(usable) or np.median(usable) < EMPTY_LEAST_MEDIAN_S:
            return np.zeros(runs.rows, dtype=bool)
        return np.asarray(compute < EMPTY_COMPUTE_S)

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
