"""What is wrong, or doubtful, with profiles: one small module for each family of rules."""

from __future__ import annotations

from collections.abc import Iterable

from lithowatt.analysis.lint._survey import Survey
from lithowatt.profiles._runs import Profiles

__all__ = ["EXCLUDING", "left_out"]

#: The rules whose repetitions the basis `clean` leaves out.
EXCLUDING = (
    "copied-repetitions",
    "jittered-repetitions",
    "foreign-hardware",
    "empty-repetition",
)


def left_out(
    profiles: Profiles, excluding: Iterable[str] = EXCLUDING
) -> dict[tuple[int, int], dict[str, list[int]]]:
    """The repetitions that these rules name.

    Args:
        profiles: What was read.
        excluding: Names of rules.

    Returns:
        (Index of the file, index of the configuration in it) to rule to repetitions, where there
        are any.
    """
    survey = Survey(profiles)
    wanted = set(excluding)
    found = {}
    for place in survey.places:
        named = {
            rule: repetitions.tolist()
            for rule, repetitions in survey.excluded(place).items()
            if rule in wanted and len(repetitions)
        }
        if named:
            found[place.file_at, place.at] = named
    return found
