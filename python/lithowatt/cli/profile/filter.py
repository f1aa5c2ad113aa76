"""``lithowatt profile filter``: only some of the repetitions of profiles."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from lithowatt.cli.profile._inputs import add_basis, add_paths
from lithowatt.cli.profile._numbers import whole_numbers
from lithowatt.cli.profile._written import add_folder, stage_file, write_below


def add_verb(verbs: Any) -> None:
    """Adds ``filter`` to the verbs of ``lithowatt profile``."""
    choose = verbs.add_parser(
        "filter",
        help="only some of the repetitions of profiles",
        description="Writes each profile with the repetitions that were asked for, under its own "
        "name below DIR. A repetition is kept or left as a whole. Exit code 1: there are none.",
    )
    add_paths(choose)
    add_folder(choose)
    choose.add_argument("--memory", type=whole_numbers, metavar="MB,MB", help="e.g. 512,1024")
    choose.add_argument(
        "--workers", type=whole_numbers, metavar="N,N-N", help="as requested, e.g. 1-28 or 4,8"
    )
    choose.add_argument(
        "--architecture", metavar="ARCH", help="x86_64 or arm64, of all workers of a repetition"
    )
    choose.add_argument(
        "--cpu-name",
        metavar="TEXT",
        help="part of the processor's name, of all workers of a repetition",
    )
    add_basis(choose, "all")
    choose.set_defaults(func=_filter)


def _filter(arguments: argparse.Namespace) -> int:
    from lithowatt._support.architectures import normalise_architecture
    from lithowatt.analysis.basis import Basis
    from lithowatt.analysis.selection import Selection, Settings
    from lithowatt.errors import MalformedValueError
    from lithowatt.profiles._edit import Choice, by_name
    from lithowatt.profiles._runs import read_profiles

    architecture = arguments.architecture
    try:
        architecture = architecture and normalise_architecture(architecture)
    except ValueError as error:
        raise MalformedValueError(str(error)) from None
    choice = Choice(
        memory_mb=_set(arguments.memory),
        workers=_set(arguments.workers),
        architecture=architecture,
        cpu_name=arguments.cpu_name,
    )
    basis = Basis.of(arguments.basis, arguments.exclude)
    profiles = read_profiles(arguments.path)
    selected = {id(one.runs): one for one in Selection(profiles, Settings(basis=basis)).all}
    places = []
    for file, runs in profiles:
        good = choice.of(file, runs)
        if basis.name != "all":
            good &= selected[id(runs)].used
        if good.any():
            places.append((file, runs.part(good)))
    if not places:
        print("lithowatt: no repetition is like that; nothing was written", file=sys.stderr)
        return 1
    return write_below(arguments, profiles, by_name(places, stage_file))


def _set(numbers: list[int] | None) -> frozenset[int] | None:
    return None if numbers is None else frozenset(numbers)
