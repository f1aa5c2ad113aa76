"""The page of lint's rules is the table's."""

from __future__ import annotations

import subprocess
import sys

from lithowatt.analysis.lint._rules import RULES
from tests.support import TOP


def test_the_page_is_the_tables() -> None:
    made = [sys.executable, str(TOP / "tools" / "lint_reference.py")]
    done = subprocess.run(made, capture_output=True, text=True)
    assert done.returncode == 0, f"`make lint-reference` writes it:\n{done.stdout}{done.stderr}"


def test_every_rule_is_told_in_sentences() -> None:
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names)
    for rule in RULES:
        assert rule.meaning.endswith(".")
        assert rule.meaning[0].isupper()
        for text in (rule.title, rule.threshold, rule.advice):
            assert text[0].islower() or text[0] in "`TC", rule.name
            assert not text.endswith("."), rule.name
