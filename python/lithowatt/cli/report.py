"""``lithowatt report``: a page that tells what profiles show."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from typing import TYPE_CHECKING, Any

from lithowatt._support.command import refusing
from lithowatt._support.text import counted, printable
from lithowatt.cli.profile._inputs import add_basis, add_group, add_paths, add_price, price_of

if TYPE_CHECKING:
    from lithowatt.analysis.claims._file import Claims

#: What ``--claims`` is without a file: the one that comes with lithowatt for the workload.
_SHIPPED = ""


def add_cli(commands: Any) -> None:
    """Adds ``report`` to the commands."""
    parser = commands.add_parser(
        "report",
        help="write a report on profiles: a page with text, plots and tables",
        description="Writes what profiles show: which configuration, how sure, what would change "
        "it, whether a joule was measured, what is wrong with the data; plots with a table each, "
        "and the results as JSON. One HTML file needs no network. Needs the packages of the extra "
        "report.",
    )
    add_paths(parser)
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="OUT",
        help="x.html, x.md or x.tex; DIR/ for all three with figures (SVG, PNG, PDF) and tables "
        "(CSV, LaTeX). A file that is there is replaced, an input never",
    )
    parser.add_argument(
        "--bundle",
        metavar="ZIP",
        help="also an archive with the inputs, the report, SHA-256 sums and a script that makes "
        "it again",
    )
    parser.add_argument("--title", help="the heading (default: the stages and where they ran)")
    parser.add_argument(
        "--minimise",
        "--minimize",
        choices=("energy", "cost", "edp", "time"),
        help="what the recommendation minimises (default: joules where any were measured, else "
        "dollars where there are any, else seconds)",
    )
    parser.add_argument(
        "--claims",
        nargs="?",
        const=_SHIPPED,
        metavar="FILE",
        help="also check printed values: a file as lithowatt profile claims reads it, or the one "
        "that comes with lithowatt for the workload",
    )
    add_basis(parser)
    add_group(parser)
    place = parser.add_argument_group("prices")
    place.add_argument(
        "--region", default="us-east-1", help="of AWS Lambda's prices (default: %(default)s)"
    )
    add_price(place, "for calls that ran elsewhere")
    parser.set_defaults(func=_report)


def _report(arguments: argparse.Namespace) -> int:
    from lithowatt._support.files import write_atomically
    from lithowatt.analysis.basis import Basis
    from lithowatt.analysis.selection import Settings
    from lithowatt.aws._lambda_cost import lambda_price
    from lithowatt.report._files import bundle
    from lithowatt.report._results import Wanted
    from lithowatt.report._write import written

    with refusing():
        lambda_price("x86_64", arguments.region)  # or an error that names the known ones
        settings = Settings(
            basis=Basis.of(arguments.basis, arguments.exclude),
            region=arguments.region,
            price=price_of(arguments),
        )
        claims = _claims(arguments)
        own = _own_claims(arguments)
        _apart(arguments, own)
        wanted = Wanted(
            settings=settings,
            title=arguments.title,
            minimise=arguments.minimise,
            claims=claims,
            group=arguments.group,
            command=_command(arguments),
        )
        try:
            found, made = written(
                arguments.path,
                arguments.output,
                wanted,
                [arguments.bundle] if arguments.bundle else [],
            )
        except ModuleNotFoundError as error:
            print(f"lithowatt: {error}", file=sys.stderr)
            return 2
        if arguments.bundle is not None:
            packed = bundle(found, _options(arguments, "claims/"), made, own)
            write_atomically(arguments.bundle, packed)
    for one in found.profiles.skipped:
        print(printable(f"skipped {one.file}: {one.reason}"))
    many = counted(len(found.selection.all), "configuration")
    files = counted(len(found.profiles.files), "profile")
    print(f"{many} of {files} in {printable(arguments.output)}")
    if arguments.bundle is not None:
        print(f"and all that it was made of in {printable(arguments.bundle)}")
    return 0


def _own_claims(arguments: argparse.Namespace) -> str | None:
    """The user's own file of claims, if there is one."""
    given = arguments.claims
    return given if given and os.path.lexists(given) else None


def _apart(arguments: argparse.Namespace, claims: str | None) -> None:
    """Refuses outputs of which one would replace another, or the claims.

    Raises:
        UnwritableFileError: One would.
    """
    from lithowatt.errors import UnwritableFileError

    if arguments.bundle is not None and os.path.isdir(arguments.bundle):  # noqa: PTH112
        raise UnwritableFileError(f"{arguments.bundle} is a folder; expected a file for --bundle")
    output, archive = (
        None if one is None else os.path.realpath(one)
        for one in (arguments.output, arguments.bundle)
    )
    if archive is not None and (archive == output or archive.startswith(f"{output}{os.sep}")):
        raise UnwritableFileError(
            f"{arguments.bundle} is {arguments.output}, or in it; expected another place for the "
            "archive"
        )
    if claims is not None and os.path.realpath(claims) in (output, archive):
        raise UnwritableFileError(
            f"the output is the input {claims}; nothing was written; expected an output that is "
            "no input"
        )


def _claims(arguments: argparse.Namespace) -> Claims | None:
    """The claims to check.

    Raises:
        MalformedValueError: No file comes with lithowatt for these profiles, or several do.
    """
    from lithowatt.analysis.claims._file import read_claims, shipped_claims
    from lithowatt.errors import MalformedValueError

    if arguments.claims is None:
        return None
    if arguments.claims != _SHIPPED:
        return read_claims(arguments.claims)
    from lithowatt.profiles._find import Label, compiled_group, find_profiles

    group = compiled_group(arguments.group)
    names = {Label.of(one.name, group).workload for one in find_profiles(arguments.path)}
    known = sorted(names & set(shipped_claims()))
    if len(known) != 1:
        there = ", ".join(known) or "none"
        raise MalformedValueError(
            f"--claims without a file: of the workloads {there} has claims that come with "
            f"lithowatt; expected one of {', '.join(shipped_claims())}, or --claims FILE"
        )
    return read_claims(known[0])


def _options(arguments: argparse.Namespace, folder: str = "") -> str:
    """All options that the results depend on, quoted for a shell.

    Args:
        arguments: Those of the command.
        folder: Where a file of claims is that the user gave, ending with a slash.
    """
    parts: list[str] = []
    for name in ("title", "minimise", "group", "vcpu_hour", "gib_hour", "vcpus"):
        value = getattr(arguments, name)
        if value is not None:
            parts.append(f"--{name.replace('_', '-')}={value}")
    parts.append(f"--basis={arguments.basis}")
    parts += [f"--exclude={one}" for one in arguments.exclude]
    parts.append(f"--region={arguments.region}")
    if arguments.claims is not None:
        given = arguments.claims
        if _own_claims(arguments) is not None:
            given = f"{folder}{os.path.basename(given)}"  # noqa: PTH119
        parts.append("--claims" if given == _SHIPPED else f"--claims={given}")
    return shlex.join(parts)


def _command(arguments: argparse.Namespace) -> str:
    paths = [os.path.basename(os.path.normpath(one)) for one in arguments.path]  # noqa: PTH119
    output = os.path.basename(os.path.normpath(arguments.output))  # noqa: PTH119
    return f"lithowatt report {shlex.join(paths)} {_options(arguments)} -o {shlex.quote(output)}"
