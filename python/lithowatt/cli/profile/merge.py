"""``lithowatt profile merge``: the runs of several profiles in one."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from lithowatt._support.text import counted, printable
from lithowatt.cli.profile._inputs import add_paths
from lithowatt.cli.profile._written import nothing_there, tell_skipped

#: Runs that are counted twice by whoever reads the file.
DUPLICATES = ("copied-repetitions", "jittered-repetitions")


def add_verb(verbs: Any) -> None:
    """Adds ``merge`` to the verbs of ``lithowatt profile``."""
    merge = verbs.add_parser(
        "merge",
        help="the runs of several profiles in one",
        description="Writes one profile with the repetitions of all, and its sidecar. Refuses "
        "repetitions that are copies of others, exact or with noise on them: they would count "
        "twice. A profile that is there as OUT is replaced with its sidecar, an input never. Exit "
        "code 1: it refused copies, or there is no configuration.",
    )
    add_paths(merge)
    merge.add_argument("-o", "--output", required=True, metavar="OUT", help="<stage>.json")
    merge.add_argument(
        "--keep-duplicates", action="store_true", help="merge copies of repetitions, too"
    )
    merge.add_argument(
        "--mixed",
        action="store_true",
        help="merge profiles of several workloads, stages or architectures, too",
    )
    merge.set_defaults(func=_merge)


def _merge(arguments: argparse.Namespace) -> int:
    from lithowatt.analysis.lint import left_out
    from lithowatt.profiles._edit import check_alike, merged
    from lithowatt.profiles._outputs import keep_given, keep_inputs, with_sidecars
    from lithowatt.profiles._runs import read_profiles

    keep_given(with_sidecars([arguments.output]), arguments.path)
    profiles = read_profiles(arguments.path)
    keep_inputs(with_sidecars([arguments.output]), (file.path for file in profiles.files))
    tell_skipped(profiles)
    if not arguments.mixed:
        # Before copies: --keep-duplicates would not merge these.
        check_alike(profiles)
    if not arguments.keep_duplicates:
        found = left_out(profiles, DUPLICATES)
        for (file_at, at), rules in found.items():
            file = profiles.files[file_at]
            for rule, repetitions in rules.items():
                which = ", ".join(map(str, repetitions[:10])) + ("…" if repetitions[10:] else "")
                print(
                    f"lithowatt: {printable(file.name)}, configuration "
                    f"{file.configurations[at].key}: {rule} {which}",
                    file=sys.stderr,
                )
        if found:
            print(
                "lithowatt: nothing was written: these repetitions are copies of others; "
                "--keep-duplicates merges them all the same",
                file=sys.stderr,
            )
            return 1
    profile = merged(profiles, arguments.mixed)
    if not profile.data:
        return nothing_there()
    profile.write(arguments.output)
    runs = sum(one.repetitions for _, one in profiles)
    print(
        f"{counted(runs, 'run')} of {counted(len(profile.data), 'configuration')}, from "
        f"{counted(len(profiles.files), 'profile')}, "
        f"in {printable(arguments.output)}"
    )
    return 0
