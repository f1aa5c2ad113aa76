"""``lithowatt profile split``: one profile for each stage, memory size or architecture."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from lithowatt.cli.profile._inputs import add_group, add_paths
from lithowatt.cli.profile._written import add_folder, write_below

if TYPE_CHECKING:
    from lithowatt.profiles._edit import Places
    from lithowatt.profiles._runs import ConfigurationRuns, ProfileFile


def add_verb(verbs: Any) -> None:
    """Adds ``split`` to the verbs of ``lithowatt profile``."""
    split = verbs.add_parser(
        "split",
        help="one profile for each stage, memory size or architecture",
        description="Writes DIR/<workload>/<stage>.json for each workload and stage; with --by the "
        "folder is <workload>_<memory>Mb_<architecture>, from which other verbs know what ran. "
        "Exit code 1: there is no configuration.",
    )
    add_paths(split)
    add_folder(split)
    split.add_argument(
        "--by",
        action="append",
        choices=("memory", "architecture"),
        default=[],
        help="also one for each memory size or architecture; may be repeated. Without "
        "architecture, runs of several in one configuration are refused",
    )
    add_group(split)
    split.set_defaults(func=_split)


def _split(arguments: argparse.Namespace) -> int:
    from lithowatt.profiles._edit import by_architecture, by_name, check_one_architecture
    from lithowatt.profiles._runs import read_profiles

    def name(file: ProfileFile, runs: ConfigurationRuns) -> str:
        parts = [file.workload]
        if "memory" in arguments.by:
            parts.append(f"{runs.configuration.memory_mb:g}Mb")
        if "architecture" in arguments.by:
            parts.append(runs.architecture or file.architecture or "unknown")
        return f"{'_'.join(filter(None, parts)) or 'workload'}/{file.stage}.json"

    profiles = read_profiles(arguments.path, group=arguments.group)
    places: Places = profiles
    if "architecture" in arguments.by:
        places = (part for one in profiles for part in by_architecture(*one))
    else:
        for file, runs in profiles:
            check_one_architecture(file, runs)
    return write_below(arguments, profiles, by_name(places, name))
