"""How the verbs that write several profiles say where, and write them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lithowatt._support.text import counted, printable

if TYPE_CHECKING:
    from lithowatt.profiles._edit import Profile
    from lithowatt.profiles._runs import ConfigurationRuns, ProfileFile, Profiles


def add_folder(parser: argparse.ArgumentParser) -> None:
    """``-o DIR`` and ``--force``."""
    parser.add_argument(
        "-o", "--output", required=True, metavar="DIR", help="the folder to write to; it is made"
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="replace profiles and sidecars that are there in DIR; inputs are never replaced",
    )


def write_below(
    arguments: argparse.Namespace, profiles: Profiles, made: Mapping[str, Profile]
) -> int:
    """Writes each profile below a folder, and says so; the exit code.

    Args:
        arguments: Those of `add_folder`.
        profiles: All that was read.
        made: What is written, by its path below the folder.

    Raises:
        UnwritableFileError: An input would be replaced or, without ``--force``, another file.
            Then nothing is written.
    """
    from lithowatt.profiles._outputs import below, keep_existing, keep_inputs, with_sidecars

    tell_skipped(profiles)
    if not made:
        return nothing_there()
    places = {below(arguments.output, name): profile for name, profile in made.items()}
    outputs = list(with_sidecars(places))
    keep_inputs(outputs, (file.path for file in profiles.files))
    if not arguments.force:
        keep_existing(outputs)
    for path, profile in places.items():
        profile.write(path)
        runs = sum(max(map(len, metrics.values()), default=0) for metrics in profile.data.values())
        many = f"{counted(runs, 'run')} of {counted(len(profile.data), 'configuration')}"
        print(f"{many} in {printable(str(path))}")
    return 0


def tell_skipped(profiles: Profiles) -> None:
    """Names the files of folders that are no profile: nothing of them is in what is written."""
    for one in profiles.skipped:
        print(printable(f"lithowatt: skipped {one.file}: {one.reason}"), file=sys.stderr)


def nothing_there() -> int:
    """Says that there is nothing to write; the exit code."""
    print(
        "lithowatt: there is no configuration in what was read; nothing was written",
        file=sys.stderr,
    )
    return 1


def stage_file(file: ProfileFile, runs: ConfigurationRuns) -> str:
    """The file of a stage beside the others of its folder: `<folder>/<stage>.json`."""
    return f"{file.name.rpartition('/')[0]}/{file.stage}.json".lstrip("/")
