"""Estimates pi with real Lithops calls and prints the joules of each.

    python -m examples.monte_carlo_pi
    python -m examples.monte_carlo_pi --workers 1,2,4 --reps 3

One stage: each worker counts how many of its random points lie within the
circle. There is nothing of lithowatt in it.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

if not __package__:  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from examples._common import summary
from examples._common.command import main
from examples._common.records import RunRecord
from examples._common.workflow import (
    Data,
    Outcome,
    Setup,
    Size,
    Stage,
    StageContext,
    Workload,
    WrongResultError,
    shares,
)

TASKS = Data("tasks", ".json")
COUNTS = Data("counts", ".json")


def count_inside(ctx: StageContext) -> None:
    """Counts, for each of the worker's tasks, the random points within the circle."""
    import json
    import random

    for path in ctx.get_input_paths("tasks"):
        with Path(path).open(encoding="utf-8") as file:
            task = json.load(file)
        rng = random.Random(task["seed"])
        draw = rng.random
        inside = 0
        for _ in range(task["points"]):
            x, y = draw(), draw()
            inside += x * x + y * y <= 1.0
        with Path(ctx.next_output_path("counts")).open("w", encoding="utf-8") as file:
            json.dump({"points": task["points"], "inside": inside}, file)


def stages(setup: Setup) -> list[Stage]:
    """One."""
    return [Stage("count_inside", count_inside, inputs=(TASKS,), outputs=(COUNTS,))]


def prepare(setup: Setup, folder: Path) -> dict[str, list[Path]]:
    """A task per worker, each with a seed of its own."""
    paths = []
    for worker, points in enumerate(shares(setup.sizes["points"], setup.workers)):
        path = folder / f"{worker}.json"
        path.write_text(json.dumps({"points": points, "seed": f"{setup.seed}/{worker}"}), "utf-8")
        paths.append(path)
    return {TASKS.id: paths}


def check(setup: Setup, files: Mapping[str, Sequence[Path]]) -> Outcome:
    """All points were drawn, and pi is within five standard deviations."""
    counts = [json.loads(path.read_text("utf-8")) for path in files[COUNTS.id]]
    points, inside = sum(c["points"] for c in counts), sum(c["inside"] for c in counts)
    if points != setup.sizes["points"]:
        raise WrongResultError(f"{points} of {setup.sizes['points']} points were drawn")
    pi = 4 * inside / points
    deviation = math.sqrt(math.pi * (4 - math.pi) / points)
    if abs(pi - math.pi) > 5 * deviation:
        raise WrongResultError(f"pi is about {pi:.5f}, with {points} points")
    return Outcome(f"pi is about {pi:.5f}", {"pi": pi, "points": points})


def show_calls(runs: Sequence[RunRecord]) -> str | None:
    """A line per call, where there was one run only."""
    if len(runs) > 1:
        return None
    calls = runs[0].stages["count_inside"]
    return (
        f"{runs[0].outcome} ({len(calls)} calls, {runs[0].seconds:.1f} s with Lithops)\n\n"
        f"{summary.calls(calls)}"
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """The short ones."""
    parser.add_argument("--calls", dest="workers", type=lambda n: (int(n),), help=argparse.SUPPRESS)
    parser.add_argument("--samples", type=int, metavar="N", help="points per worker, not in all")


def settle(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Points per worker become points in all, of a single configuration."""
    if min(options.workers) < 1 or (options.samples is not None and options.samples < 1):
        parser.error("--calls and --samples must be at least 1")
    if options.samples is not None:
        if len(options.workers) > 1:
            parser.error("--samples goes with one number of workers; use --points")
        options.points = options.samples * options.workers[0]


WORKLOAD = Workload(
    name="monte_carlo_pi",
    title="Pi by Monte Carlo, with the joules of each call.",
    sizes=(Size("points", 8_000_000, "random points, in all"),),
    needs={"lithops": "lithops"},
    stages=stages,
    prepare=prepare,
    results=(COUNTS,),
    check=check,
)

if __name__ == "__main__":
    sys.exit(
        main(
            WORKLOAD,
            workers="4",
            reps=1,
            show=show_calls,
            more_options=add_options,
            settle=settle,
        )
    )
