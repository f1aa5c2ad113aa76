"""``lithowatt profile upgrade``: profiles of other schemas in lithowatt's own."""

from __future__ import annotations

import argparse
from typing import Any

from lithowatt.cli.profile._inputs import add_group, add_paths
from lithowatt.cli.profile._written import add_folder, stage_file, write_below


def add_verb(verbs: Any) -> None:
    """Adds ``upgrade`` to the verbs of ``lithowatt profile``."""
    upgrade = verbs.add_parser(
        "upgrade",
        help="profiles of other schemas in lithowatt's own",
        description="Writes DIR/<folder>/<stage>.json for each stage: keys as (cpu, memory_mb, "
        "workers), a value for each worker where one was given for all, null for NaN. Files of "
        "several stages become one file a stage, stats of Lithops become profiles. Exit "
        "code 1: there is no configuration.",
    )
    add_paths(upgrade)
    add_folder(upgrade)
    add_group(upgrade)
    upgrade.set_defaults(func=_upgrade)


def _upgrade(arguments: argparse.Namespace) -> int:
    from lithowatt.profiles._edit import by_name
    from lithowatt.profiles._runs import read_profiles

    profiles = read_profiles(arguments.path, group=arguments.group)
    return write_below(arguments, profiles, by_name(profiles, stage_file))
