"""``lithowatt profile recommend``: the best configuration within bounds."""

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
    add_price,
    compute,
    price_of,
)
from lithowatt.cli.profile._numbers import count, positive, probability, whole_numbers

_OBJECTIVES = ("energy", "cost", "edp", "time")


def add_verb(verbs: Any) -> None:
    """Adds ``recommend`` to the verbs of ``lithowatt profile``."""
    recommend = verbs.add_parser(
        "recommend",
        help="the configuration that takes the fewest joules, dollars or seconds",
        description="Compares the configurations of a stage (workers, memory, architecture) that "
        "were profiled, ranks those that keep the bounds, and recommends the fastest of those that "
        "cannot be told from the best, with the conditions under which that holds. Give all "
        "profiles of the stage that there are. Exit code 1: no configuration keeps the bounds.",
    )
    add_paths(recommend)
    recommend.add_argument(
        "--minimise",
        "--minimize",
        choices=_OBJECTIVES,
        default="energy",
        help="joules, dollars, joules × seconds, or seconds (default: %(default)s)",
    )
    bounds = recommend.add_argument_group("bounds")
    bounds.add_argument("--latency", type=positive, metavar="S", help="most seconds of the stage")
    bounds.add_argument("--cost", type=positive, metavar="USD", help="most dollars of a run")
    bounds.add_argument("--energy", type=positive, metavar="J", help="most joules of a run")
    bounds.add_argument(
        "--confidence",
        type=probability,
        default=0.95,
        metavar="P",
        help="probability with which the mean has to keep each bound (default: %(default)s)",
    )
    space = recommend.add_argument_group("candidates (default: all that were profiled)")
    space.add_argument("--workers", type=whole_numbers, metavar="N,N-N", help="e.g. 1-28 or 4,8")
    space.add_argument("--memory", type=whole_numbers, metavar="MB,MB", help="e.g. 512,1024")
    space.add_argument(
        "--architecture", metavar="ARCH", help="x86_64 or arm64; the profiles say it by default"
    )
    space.add_argument(
        "--predict",
        action="store_true",
        help="what lies between profiled ones, too, as a model predicts it",
    )
    space.add_argument(
        "--extrapolate", action="store_true", help="beyond what was profiled, too: wider bands"
    )
    place = recommend.add_argument_group("where it ran (default: the profiles say it)")
    place.add_argument(
        "--platform",
        metavar="NAME",
        help="of all the profiles: kubernetes, localhost, server or aws-lambda",
    )
    place.add_argument("--region", default="us-east-1", help="of a provider's prices (%(default)s)")
    add_price(place, "where a provider's table has no price")
    recommend.add_argument(
        "--per-worker",
        action="store_true",
        help="each worker does the whole work: joules and dollars of one worker's work",
    )
    add_group(recommend)
    add_basis(recommend)
    add_lithops(recommend)
    recommend.add_argument(
        "--top", type=count, default=5, metavar="N", help="how many to show (default: 5)"
    )
    add_json(recommend)
    recommend.add_argument(
        "--check",
        action="store_true",
        help="also predict what was profiled from the rest, and show the error",
    )
    recommend.add_argument(
        "--seed", type=int, default=20261128, metavar="N", help="of the resamples of runs"
    )
    recommend.set_defaults(func=_recommend)


# --- recommend ----------------------------------------------------------------


def _recommend(arguments: argparse.Namespace) -> int:
    # NumPy and the core are loaded for those who ask.
    from lithowatt.analysis._envelope import as_text
    from lithowatt.analysis.basis import Basis
    from lithowatt.analysis.recommendation import Asked, lines, recommendation
    from lithowatt.analysis.selection import COLUMNS

    bounds = {name: getattr(arguments, name) for name in ("latency", "cost", "energy")}
    with refusing():
        asked = Asked(
            minimise=arguments.minimise,
            bounds={name: value for name, value in bounds.items() if value is not None},
            confidence=arguments.confidence,
            workers=arguments.workers,
            memory=arguments.memory,
            architecture=arguments.architecture,
            predict=arguments.predict,
            extrapolate=arguments.extrapolate,
            per_worker=arguments.per_worker,
            region=arguments.region,
            platform=arguments.platform,
            price=price_of(arguments),
            basis=Basis.of(arguments.basis, arguments.exclude),
            check=arguments.check,
            seed=arguments.seed,
        )
        found = compute(arguments, lambda profiles: recommendation(profiles, asked), COLUMNS)
    if arguments.json:
        print(as_text(found))
    else:
        told = (*lines(found, arguments.top), *skipped_lines(found))
        print("\n".join(printable(line) for line in told))
    stages = found.get("stages", [found])
    if all("error" in one for one in stages):
        return 2
    return 0 if all(one.get("feasible", True) for one in stages) else 1
