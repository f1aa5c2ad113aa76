"""``lithowatt profile lint``: what is wrong, or doubtful, with profiles."""

from __future__ import annotations

import argparse
from itertools import groupby
from typing import TYPE_CHECKING, Any

from lithowatt._support.text import fitted, printable, wrapped
from lithowatt.cli.profile._inputs import (
    add_group,
    add_json,
    add_lithops,
    add_paths,
    compute,
)

if TYPE_CHECKING:
    from lithowatt.analysis.lint._rule import Rule

_WIDTH = 80


def add_verb(verbs: Any) -> None:
    """Adds ``lint`` to the verbs of ``lithowatt profile``."""
    lint = verbs.add_parser(
        "lint",
        help="what is wrong with the data: copies, foreign runs, broken columns, drift",
        description="Looks for runs that are no runs (copies, noise on copies, other machines, no "
        "work), for columns that do not hold what they say, and for what makes statistics "
        "doubtful. Names the repetitions; the basis clean of the other commands leaves out those "
        "of the rules that exclude. Exit code 1: there is a finding as severe as --fail-on; 2: "
        "nothing can be read.",
    )
    add_paths(lint, least=0)
    add_lithops(lint)
    add_json(lint)
    add_group(lint)
    lint.add_argument(
        "--fail-on",
        choices=("error", "warning", "never"),
        default="error",
        help="from which severity on the exit code is 1 (default: %(default)s)",
    )
    lint.add_argument(
        "--rules",
        action="append",
        default=[],
        metavar="RULE,RULE",
        help="only these rules; all but these with --rules=-RULE,-RULE; list: shows all rules",
    )
    lint.add_argument(
        "--explain",
        metavar="RULE",
        help="what a rule looks for, why, and what to do; reads no file",
    )
    lint.set_defaults(func=_lint, parser=lint)


def _lint(arguments: argparse.Namespace) -> int:
    # NumPy and the core are loaded for those who ask.
    from lithowatt.analysis.lint import fails, lint, selected
    from lithowatt.analysis.lint._rules import BY_NAME, RULES

    names = [name.strip() for text in arguments.rules for name in text.split(",") if name.strip()]
    if arguments.explain is not None:
        print("\n".join(_explained(BY_NAME[name]) for name in selected([arguments.explain])))
        return 0
    if names == ["list"]:
        print("\n".join(_table(RULES)))
        return 0
    selected(names)  # a wrong name is told before anything is read
    if not arguments.path:
        arguments.parser.error("the following arguments are required: PATH")
    fail_on, group = arguments.fail_on, arguments.group
    result = compute(arguments, lambda profiles: lint(profiles, names, fail_on, group), None)
    if arguments.json:
        from lithowatt.analysis._envelope import as_text

        print(as_text(result))
    else:
        print("\n".join(_shown(result)))
    return int(fails(result))


# --- text -----------------------------------------------------------------------------------------


def _shown(result: dict[str, Any]) -> list[str]:
    """The findings below their rules, errors first; what to do, once a rule; how much it is of
    how much."""
    found = result["findings"]
    lines = [] if found else ["no findings"]
    for (severity, rule), some in groupby(found, key=lambda one: (one["severity"], one["rule"])):
        lines.append(f"{severity}  {rule}")
        for one in some:
            told = printable(f"{_where(one)}: {one['message']}")
            lines += wrapped(told, _WIDTH, "  ", "  ")
    advice = {one["rule"]: one["advice"] for one in found}
    if advice:
        lines += ["", "what to do"]
        lines += [f"  {line}" for line in fitted(list(advice.items()), _WIDTH - 2)]
    return [*lines, "", *_summary(result)]


def _where(finding: dict[str, Any]) -> str:
    return " ".join(filter(None, (finding["file"], finding["configuration"])))


def _summary(result: dict[str, Any]) -> list[str]:
    from lithowatt._support.text import counted

    found, inputs = result["findings"], result["inputs"]
    severities = [one["severity"] for one in found]
    out = {
        (one["file"], one["stage"], one["configuration"], repetition)
        for one in found
        if one["excludes"]
        for repetition in one["repetitions"]
    }
    lines = [
        f"{counted(severities.count('error'), 'error')}, "
        f"{counted(severities.count('warning'), 'warning')} in {counted(len(inputs), 'file')}: "
        f"{counted(sum(one['configurations'] for one in inputs), 'configuration')}, "
        f"{counted(sum(one['rows'] for one in inputs), 'worker call')}"
    ]
    if out:
        lines.append(f"the basis clean leaves out {counted(len(out), 'repetition')}")
    for one in result["skipped"]:
        told = printable(f"skipped {one['file']}: {one['reason']}")
        lines += wrapped(told, _WIDTH, "", "  ")
    if found:
        lines.append("lithowatt profile lint --explain RULE says more")
    return lines


# --- rules ----------------------------------------------------------------------------------------


def _table(rules: tuple[Rule, ...]) -> list[str]:
    rows = [("rule", "severity", "excludes", "finds")]
    rows += [
        (rule.name, rule.severity, "excludes" if rule.excludes else "", rule.title)
        for rule in rules
    ]
    return fitted(rows, _WIDTH)


def _explained(rule: Rule) -> str:
    kind = f"{rule.severity}{', excludes' if rule.excludes else ''}, for each {rule.scope}"
    plain = [
        f"{rule.title[0].upper()}{rule.title[1:]}.",
        rule.meaning,
        f"Found where {rule.threshold}.",
        f"What to do: {rule.advice}.",
    ]
    lines = [f"{rule.name} ({kind})"]
    for text in plain:
        lines += wrapped(text.replace("`", ""), _WIDTH, "  ")
    return "\n".join(lines)
