"""Makes docs/reference/lint.md of the table of rules.

    python tools/lint_reference.py             compares with docs/reference/lint.md
    python tools/lint_reference.py --write     writes it (`make lint-reference`)

The table is in python/lithowatt/analysis/lint/_rules.py.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from generated import compare_or_write

from lithowatt.analysis.lint._rule import Rule
from lithowatt.analysis.lint._rules import RULES

TOP = Path(__file__).resolve().parent.parent
DOCUMENT = TOP / "docs" / "reference" / "lint.md"

HEAD = """\
<!-- Made by `make lint-reference`: edit python/lithowatt/analysis/lint/_rules.py or
tools/lint_reference.py instead. -->

# The rules of profile lint

`lithowatt profile lint PATH…` looks for these in profile files, and in every profile below a
folder. `lithowatt profile lint --explain RULE` prints a part of this page.

**Errors** make results wrong, **warnings** doubtful. The exit code is 1 where there is an error
(`--fail-on warning`: anything; `--fail-on never`: 0 always), and 2 where nothing can be read.
`--rules A,B` looks for these only, `--rules=-A,-B` for all but these.

The rules that **exclude** say which repetitions are no runs of their own. The basis `clean` of the
other commands leaves these out and nothing else: a slow run, a queued start and another processor
are runs, and count.

Of `--json`, `findings` is a list of `{rule, severity, file, stage, configuration, column,
repetitions, rows, evidence, message, advice, excludes}`. Repetitions are counted from 0;
`repetitions` is empty where a rule is not about whole repetitions, `rows` a number of worker calls
(0 where it is about none), `evidence` the numbers that the rule looked at.
"""

TITLES = {"error": "Errors", "warning": "Warnings"}


def reference(rules: Sequence[Rule]) -> str:
    """The document."""
    parts = [HEAD, _overview(rules)]
    for severity, title in TITLES.items():
        parts.append(f"## {title}\n")
        parts += [_part(rule) for rule in rules if rule.severity == severity]
    return "\n".join(parts)


def _overview(rules: Sequence[Rule]) -> str:
    lines = ["| rule | severity | a finding is about | finds |", "|---|---|---|---|"]
    for rule in rules:
        severity = f"{rule.severity}, excludes" if rule.excludes else rule.severity
        lines.append(
            f"| [`{rule.name}`](#{rule.name}) | {severity} | a {rule.scope} | {rule.title} |"
        )
    return "\n".join(lines) + "\n"


def _part(rule: Rule) -> str:
    return (
        f"### {rule.name}\n\n{rule.meaning}\n\n"
        f"* Found where {rule.threshold}.\n* What to do: {rule.advice}.\n"
    )


def main(argv: list[str] | None = None) -> int:
    """Compares or writes the document."""
    return compare_or_write(DOCUMENT, reference(RULES), __doc__.partition("\n")[0], argv)


if __name__ == "__main__":
    sys.exit(main())
