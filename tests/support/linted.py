"""What lint finds in profiles that a test made."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from lithowatt.analysis._finding import Finding
from lithowatt.analysis.lint import findings
from lithowatt.profiles._runs import read_profiles
from tests.support.made_profiles import Kind, Profile, write


def linted(*made: tuple[Kind, Profile], rules: Iterable[str] | None = None) -> list[Finding]:
    """The findings of these profiles, written as they are; the folder is the kind's."""
    with tempfile.TemporaryDirectory() as folder:
        for kind, content in made:
            write(Path(folder), kind, made=content)
        return findings(read_profiles([folder]), rules)


def told(found: Iterable[Finding]) -> list[tuple[str, str, str | None, str | None]]:
    """Rule, file, configuration and column of each finding, in order."""
    return sorted(((one.rule, one.file, one.configuration, one.column) for one in found), key=repr)
