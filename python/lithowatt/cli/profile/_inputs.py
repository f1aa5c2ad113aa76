"""Options that several verbs share: which files, which of their repetitions, how grouped."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lithowatt.profiles._runs import Profiles

#: What ``--basis`` may be: nothing left out; what lint excludes left out; that, and repetitions
#: that had more input than the others.
BASES = ("clean", "all", "same-input")


def add_paths(parser: argparse.ArgumentParser, *, least: int = 1) -> None:
    """``PATH...``: files and folders; ``least`` is 0 where a verb can do without."""
    parser.add_argument(
        "path",
        nargs="+" if least else "*",
        metavar="PATH",
        help="a profile, <stage>.json, or a folder: then every profile below it",
    )


def add_lithops(parser: argparse.ArgumentParser) -> None:
    """``--lithops``."""
    parser.add_argument(
        "--lithops",
        action="store_true",
        help="PATH is BUCKET/PREFIX in the object storage of your Lithops configuration, and a "
        "Lithops job reads and analyses what is there: a call for each file, then one for all",
    )


def compute(
    arguments: argparse.Namespace,
    result: Callable[[Profiles], dict[str, Any]],
    keep: AbstractSet[str] | None,
) -> dict[str, Any]:
    """What `result` says of the profiles that the arguments name.

    Args:
        arguments: Those of `add_paths`, `add_group` and `add_lithops`.
        result: Makes the result; with ``--lithops`` in a worker.
        keep: The columns that it needs, see `read_profiles`.

    Raises:
        MalformedValueError: ``--lithops`` and several locations, or none that is one.
        UnreadableFileError: No profile is there.
    """
    if not arguments.lithops:
        from lithowatt.profiles._runs import read_profiles

        return result(read_profiles(arguments.path, group=arguments.group, keep=keep))
    from lithowatt.errors import MalformedValueError
    from lithowatt.lithops.stored_profiles import analyse_stored, executor_of_user

    if len(arguments.path) != 1:
        raise MalformedValueError(
            f"--lithops takes one BUCKET/PREFIX, {len(arguments.path)} were given"
        )
    with executor_of_user() as executor:
        return analyse_stored(executor, arguments.path[0], result, group=arguments.group, keep=keep)


def add_json(parser: argparse.ArgumentParser) -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true", help="as JSON, to standard output")


def add_group(parser: argparse.ArgumentParser) -> None:
    """``--group``."""
    parser.add_argument(
        "--group",
        metavar="REGEX",
        help="how a file's path says its workload and stage: a regular expression with "
        "(?P<workload>...), (?P<stage>...) or both (default: from folder and file name)",
    )


def add_basis(parser: argparse.ArgumentParser, default: str = "clean") -> None:
    """``--basis`` and ``--exclude``: which repetitions count."""
    parser.add_argument(
        "--basis",
        choices=BASES,
        default=default,
        help="clean: without repetitions that a rule of lint excludes; all: with them; same-input: "
        "also without those that had more input (default: %(default)s)",
    )
    parser.add_argument(
        "--exclude",
        action="append",
        default=[],
        type=_exclusion,
        metavar="+RULE/-RULE",
        help="leave out what this rule of lint names, too, or keep it; may be repeated. With -RULE "
        "write --exclude=-RULE",
    )


def basis_of(arguments: argparse.Namespace) -> tuple[str, tuple[str, ...]]:
    """The basis's name, and the rules of lint whose repetitions it leaves out.

    Raises:
        MalformedValueError: ``--exclude`` names no rule that can leave repetitions out.
    """
    from lithowatt.analysis.basis import Basis

    basis = Basis.of(arguments.basis, arguments.exclude)
    return basis.name, basis.rules


def _exclusion(text: str) -> str:
    if not re.fullmatch(r"[+-][a-z][a-z-]*", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not like +queued-start or -copied-repetitions"
        )
    return text
