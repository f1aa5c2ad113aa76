"""``lithowatt profile``: what to do with profile files. One module for each verb."""

from __future__ import annotations

from typing import Any


def add_cli(commands: Any) -> None:
    """Adds ``profile`` to the sub-commands of ``lithowatt``."""
    from lithowatt.cli.profile import (
        claims,
        compare,
        export,
        filter,
        findings,
        lint,
        merge,
        plan,
        recommend,
        scaling,
        show,
        split,
        stats,
        upgrade,
    )

    profile = commands.add_parser("profile", help="check, compare, merge and export profile files")
    verbs = profile.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for verb in (
        show,
        lint,
        stats,
        compare,
        scaling,
        recommend,
        plan,
        export,
        merge,
        split,
        filter,
        upgrade,
        claims,
        findings,
    ):
        verb.add_verb(verbs)
