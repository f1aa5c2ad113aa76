"""How the verbs that write several profiles say where, and write them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lithowatt.profiles._edit import Profile
    from lithowatt.profiles._runs import ConfigurationRuns, ProfileFile


def add_folder(parser: argparse.ArgumentParser) -> None:
    """``-o DIR``."""
    parser.add_argument(
        "-o", "--output", required=True, metavar="DIR", help="the folder to write to; it is made"
    )


def write_below(folder: str, made: Mapping[str, Profile]) -> int:
    """Writes each profile below a folder, and says so; the exit code."""
    for name, profile in made.items():
        path = Path(folder, name)
        profile.write(path)
        runs = sum(max(map(len, metrics.values()), default=0) for metrics in profile.data.values())
        print(f"{runs} runs of {len(profile.data)} configurations in {path}")
    return 0


def stage_file(file: ProfileFile, runs: ConfigurationRuns) -> str:
    """The file of a stage beside the others of its folder: `<folder>/<stage>.json`."""
    return f"{file.name.rpartition('/')[0]}/{file.stage}.json".lstrip("/")
