"""What is wrong, or doubtful, with profiles: one small module for each family of rules."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lithowatt.analysis._envelope import envelope
from lithowatt.analysis._finding import Finding
from lithowatt.analysis.lint._rules import BY_NAME, RULES
from lithowatt.analysis.lint._survey import Survey, survey_of
from lithowatt.errors import MalformedValueError
from lithowatt.profiles._runs import Profiles

#: The rules whose repetitions the basis `clean` leaves out.
EXCLUDING = tuple(rule.name for rule in RULES if rule.excludes)

#: What `fail_on` may be, and from which severity on that is.
FAIL_ON = {"error": ("error",), "warning": ("error", "warning"), "never": ()}


def selected(names: Iterable[str] | None) -> tuple[str, ...]:
    """The rules that these names stand for, in the order of the table.

    Args:
        names: Names of rules; all with a `-` before them: all others. `None` or none: all.

    Raises:
        MalformedValueError: There is no such rule.
    """
    given = list(names or ())
    without = bool(given) and all(name.startswith("-") for name in given)
    wanted = {name.removeprefix("-") if without else name for name in given}
    unknown = sorted(wanted - BY_NAME.keys())
    if unknown:
        raise MalformedValueError(f"there is no rule {unknown[0]!r:.60}: {_hint(unknown[0])}")
    return tuple(name for name in BY_NAME if not given or (name in wanted) != without)


def _hint(name: str) -> str:
    """What may have been meant instead of this name."""
    import difflib

    within = [one for one in BY_NAME if name and name in one]
    near = within or difflib.get_close_matches(name, BY_NAME, 1, 0.5)
    return f"did you mean {' or '.join(near[:3])}?" if near else "--rules list names them"


def findings(profiles: Profiles, rules: Iterable[str] | None = None) -> list[Finding]:
    """What the rules find: errors first, in the order of the table, of the files and of the keys.

    Args:
        profiles: What was read.
        rules: Names of rules, see `selected`.

    Raises:
        MalformedValueError: There is no such rule.
    """
    survey = survey_of(profiles)
    found = []
    for name in selected(rules):
        rule = BY_NAME[name]
        hits = sorted(rule.check(survey), key=lambda hit: _order(survey, hit.place, hit.file))
        found += [rule.finding(hit) for hit in hits]
    return found


def _order(survey: Survey, place: tuple[int, int] | None, file: str) -> tuple[Any, ...]:
    if place is None:
        return (file,)
    return (file, place[0], survey.profiles.files[place[0]].configurations[place[1]].configuration)


def left_out(
    profiles: Profiles, excluding: Iterable[str] = EXCLUDING
) -> dict[tuple[int, int], dict[str, list[int]]]:
    """The repetitions that rules are about.

    Args:
        profiles: What was read.
        excluding: Names of rules that look at configurations. Of a rule about workers these are
            the repetitions with such a worker.

    Returns:
        (Index of the file, index of the configuration in it) to rule to repetitions, where there
        are any.

    Raises:
        MalformedValueError: There is no such rule, or it is about no repetitions.
    """
    survey = survey_of(profiles)
    found: dict[tuple[int, int], dict[str, list[int]]] = {}
    wanted = tuple(dict.fromkeys(excluding))
    for name in selected(wanted) if wanted else ():
        rule = BY_NAME[name]
        if name not in NAMING:
            raise MalformedValueError(f"{name} is about no repetitions that could be left out")
        for hit in rule.check(survey):
            if hit.place is not None and hit.repetitions:
                found.setdefault(hit.place, {})[name] = list(hit.repetitions)
    return found


#: Rules that are about repetitions, or about workers in them.
NAMING = frozenset(
    rule.name
    for rule in RULES
    if rule.scope == "configuration" and rule.name not in ("mixed-hardware", "few-repetitions")
)


def lint(
    profiles: Profiles,
    rules: Iterable[str] | None = None,
    fail_on: str = "error",
    group: str | None = None,
) -> dict[str, Any]:
    """The result of `lithowatt profile lint`.

    Args:
        profiles: What was read.
        rules: Names of rules, see `selected`.
        fail_on: `error`, `warning` or `never`.
        group: What `profiles` were read with.

    Raises:
        MalformedValueError: There is no such rule.
    """
    names = selected(rules)
    settings = {"rules": list(names), "fail_on": fail_on, "group": group}
    made = envelope("lint", profiles, settings)
    made["findings"] = [one.as_json() for one in findings(profiles, names)]
    return made


def fails(result: dict[str, Any]) -> bool:
    """Whether a result of `lint` has a finding that it is to fail for."""
    severities = FAIL_ON[result["settings"]["fail_on"]]
    return any(one["severity"] in severities for one in result["findings"])
