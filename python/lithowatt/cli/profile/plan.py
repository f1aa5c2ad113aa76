"""``lithowatt profile plan``: how many runs a precision needs, and in which order."""

from __future__ import annotations

import argparse
from typing import Any

from lithowatt._support.command import refusing
from lithowatt._support.text import printable
from lithowatt.cli.profile._analysis import skipped_lines
from lithowatt.cli.profile._inputs import (
    add_basis,
    add_group,
    add_json,
    add_lithops,
    add_paths,
    compute,
)
from lithowatt.cli.profile._numbers import ratio


def add_verb(verbs: Any) -> None:
    """Adds ``plan`` to the verbs of ``lithowatt profile``."""
    plan = verbs.add_parser(
        "plan",
        help="how many repetitions a precision needs, and in which order to run them",
        description="Plans profiling: repetitions for a wanted precision, spread over sessions, "
        "all configurations interleaved in a random order, one of them twice (A/A). How a "
        "repetition scatters is known from profiles, or given with --cv.",
    )
    add_paths(plan, least=0)
    plan.add_argument(
        "--precision",
        type=ratio,
        default=0.05,
        metavar="X%",
        help="half width of each mean's 95 %% interval, as a part of the mean (default: 5%%)",
    )
    plan.add_argument(
        "--quantity",
        default="time_s",
        metavar="NAME",
        help="what is to be so precise, as stats names it (default: %(default)s)",
    )
    plan.add_argument(
        "--sessions", type=_count, default=3, metavar="N", help="on different days (default: 3)"
    )
    plan.add_argument(
        "--cv",
        type=ratio,
        metavar="X%",
        help="coefficient of variation of what was not profiled at least five times",
    )
    plan.add_argument(
        "--factors",
        nargs="+",
        action="extend",
        default=[],
        metavar="FACTOR=VALUE,VALUE",
        help="run each of these with each: workers=4,8-10 memory=512,1024 architecture=arm64 cpu=1",
    )
    plan.add_argument(
        "--configuration",
        action="append",
        default=[],
        metavar="KEY",
        help='run this one, too, e.g. "(1, 512, 4)"; may be repeated',
    )
    plan.add_argument(
        "--start",
        choices=("warm", "cold", "as-is"),
        default="warm",
        help="warm: a run that is not recorded first; cold: new machines for each run; as-is "
        "(default: %(default)s)",
    )
    plan.add_argument("--no-pair", action="store_true", help="no configuration twice (A/A)")
    plan.add_argument(
        "--seed",
        type=int,
        default=20261128,
        metavar="N",
        help="of the order (default: %(default)s)",
    )
    add_group(plan)
    add_basis(plan)
    add_lithops(plan)
    add_json(plan)
    plan.set_defaults(func=_plan)


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 1000")
    return int(text)


def _plan(arguments: argparse.Namespace) -> int:
    # NumPy and the core are loaded for those who ask.
    from lithowatt.analysis._envelope import as_text
    from lithowatt.analysis.basis import Basis
    from lithowatt.analysis.plan import Wanted, lines, parse_factors, plan, quantity_named
    from lithowatt.analysis.selection import COLUMNS, Settings

    with refusing():
        wanted = Wanted(
            precision=arguments.precision,
            quantity=quantity_named(arguments.quantity),
            sessions=arguments.sessions,
            start=arguments.start,
            pair=not arguments.no_pair,
            seed=arguments.seed,
            cv=arguments.cv,
            factors=parse_factors(arguments.factors),
            configurations=tuple(arguments.configuration),
        )
        settings = Settings(Basis.of(arguments.basis, arguments.exclude))
        if arguments.path:
            result = compute(arguments, lambda some: plan(some, wanted, settings), COLUMNS)
        else:
            result = plan(None, wanted, settings)
    if arguments.json:
        print(as_text(result))
    else:
        told = (*lines(result), *skipped_lines(result))
        print("\n".join(printable(line) for line in told))
    return 0
