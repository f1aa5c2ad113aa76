"""What a rule is, and what it hands over for each thing that it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from lithowatt.analysis._finding import Finding, Severity
from lithowatt.analysis.lint._survey import Place, Survey
from lithowatt.profiles._runs import ProfileFile

#: What one finding of a rule is about.
Scope = Literal["configuration", "file", "column", "folder and key"]


@dataclass(frozen=True)
class Hit:
    """One thing that a rule found.

    Attributes:
        file: The profile's name, or the folder's.
        stage: Of the profile.
        message: What was found.
        place: Index of the file, and of the configuration in it; `None` where it is about no one
            configuration.
        configuration: Its key.
        column: Which, for rules about columns.
        repetitions: Those that it is about, from 0.
        rows: Worker calls that it is about.
        evidence: The numbers that the rule looked at.
    """

    file: str
    stage: str | None
    message: str
    place: tuple[int, int] | None = None
    configuration: str | None = None
    column: str | None = None
    repetitions: tuple[int, ...] = ()
    rows: int = 0
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def at(
        cls,
        place: Place,
        message: str,
        repetitions: Iterable[int] = (),
        rows: int = 0,
        evidence: Mapping[str, Any] | None = None,
    ) -> Hit:
        """In one configuration."""
        return cls(
            place.file.name,
            place.file.stage,
            message,
            (place.file_at, place.at),
            place.runs.key,
            None,
            tuple(int(one) for one in repetitions),
            int(rows),
            evidence or {},
        )

    @classmethod
    def of(
        cls,
        file: ProfileFile,
        message: str,
        evidence: Mapping[str, Any],
        column: str | None = None,
        rows: int = 0,
    ) -> Hit:
        """In a file, or in one of its columns."""
        return cls(file.name, file.stage, message, column=column, rows=int(rows), evidence=evidence)


@dataclass(frozen=True)
class Rule:
    """One rule of lint.

    Attributes:
        name: E.g. `copied-repetitions`.
        severity: `error` where results are wrong with it, `warning` where they are doubtful.
        scope: What one finding is about.
        title: What it finds, in a few words.
        meaning: Why it matters.
        threshold: From when on it finds something.
        advice: What to do.
        check: Looks for it.
        excludes: Whether the basis `clean` leaves its repetitions out.
        names: Whether its findings list repetitions.
    """

    name: str
    severity: Severity
    scope: Scope
    title: str
    meaning: str
    threshold: str
    advice: str
    check: Callable[[Survey], Iterator[Hit]]
    excludes: bool = False
    names: bool = False

    def finding(self, hit: Hit) -> Finding:
        """The finding of what this rule found."""
        return Finding(
            rule=self.name,
            severity=self.severity,
            file=hit.file,
            configuration=hit.configuration,
            column=hit.column,
            repetitions=hit.repetitions if self.names else (),
            rows=hit.rows,
            evidence=hit.evidence,
            message=hit.message,
            advice=self.advice,
            excludes=self.excludes,
            stage=hit.stage,
        )


def each(look: Callable[[Survey, Place], Hit | None]) -> Callable[[Survey], Iterator[Hit]]:
    """A check that looks at one configuration after the other."""

    def check(survey: Survey) -> Iterator[Hit]:
        for place in survey.places:
            hit = look(survey, place)
            if hit is not None:
                yield hit

    return check


def each_file(
    look: Callable[[Survey, int, ProfileFile], Iterator[Hit]],
) -> Callable[[Survey], Iterator[Hit]]:
    """A check that looks at one file after the other."""

    def check(survey: Survey) -> Iterator[Hit]:
        for file_at, file in enumerate(survey.profiles.files):
            yield from look(survey, file_at, file)

    return check


def listed(numbers: Iterable[int]) -> str:
    """Numbers in ascending order, in short.

    >>> listed([2, 5, 6, 7, 9])
    '2, 5-7, 9'
    """
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return ", ".join(str(a[0]) if a[0] == a[-1] else f"{a[0]}-{a[-1]}" for a in parts)


def numbered(repetitions: Iterable[int]) -> str:
    """Repetitions with their word.

    >>> numbered([3]), numbered([3, 4, 5])
    ('repetition 3', 'repetitions 3-5')
    """
    repetitions = list(repetitions)
    return f"repetition{'' if len(repetitions) == 1 else 's'} {listed(repetitions)}"


def with_rows(place: Place, rows: np.typing.NDArray[np.bool_]) -> list[int]:
    """The repetitions that have such rows."""
    found: list[int] = np.unique(place.runs.repetition[rows]).tolist()
    return found
