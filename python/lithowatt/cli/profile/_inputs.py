"""Options that several verbs share: which files, which of their repetitions, how grouped."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

from lithowatt.cli.profile._numbers import positive

if TYPE_CHECKING:
    from lithowatt.analysis.platforms import Price
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


def add_price(group: Any, purpose: str) -> None:
    """``--vcpu-hour``, ``--gib-hour`` and ``--vcpus``; `purpose` is when the price is needed."""
    group.add_argument(
        "--vcpu-hour",
        type=positive,
        metavar="USD",
        help=f"price of a vCPU for an hour, {purpose}",
    )
    group.add_argument(
        "--gib-hour", type=positive, metavar="USD", help="price of a GiB of memory for an hour"
    )
    group.add_argument(
        "--vcpus",
        type=positive,
        metavar="N",
        help="vCPUs that a worker is billed for (default: those that the profiles record)",
    )


def price_of(arguments: argparse.Namespace) -> Price | None:
    """The price that the options of `add_price` give, if they give one.

    Raises:
        ValueError: ``--vcpus`` without the price that it is multiplied with.
    """
    from lithowatt.analysis.platforms import Price

    if arguments.vcpus is not None and arguments.vcpu_hour is None:
        raise ValueError("--vcpus needs --vcpu-hour: it is what that price is multiplied with")
    if arguments.vcpu_hour is None and arguments.gib_hour is None:
        return None
    return Price(arguments.vcpu_hour or 0.0, arguments.gib_hour or 0.0, arguments.vcpus)


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


def _exclusion(text: str) -> str:
    if not re.fullmatch(r"[+-][a-z][a-z-]*", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not like +queued-start or -copied-repetitions"
        )
    return text
