"""How often the intervals of `lithowatt profile stats` hold the true mean: prints a table.

    python evaluation/coverage_report.py [--simulations N] [--seed N]

Samples are drawn from distributions whose mean is known, as large as repetitions of profiles are.
An interval of 95 % should hold that mean in 95 of 100 samples, whatever the size. The last lines
are of a spread that no profile here has, and say where the intervals end.
"""

from __future__ import annotations

import argparse
import math
import sys
from typing import NamedTuple

import numpy as np

from lithowatt.analysis.intervals import bootstrap_t, t_quantile

SIZES = (5, 8, 10, 17)

#: How far from 95 % is not yet wrong.
TOLERANCE = 0.015


class Coverage(NamedTuple):
    """Parts of the samples whose interval holds the mean, and the intervals' mean width.

    Attributes:
        t: Of Student's t.
        bootstrap_t: Of the bootstrap-t.
        wider: How many times as wide as Student's the bootstrap-t is, in the median.
    """

    t: float
    bootstrap_t: float
    wider: float


def coverage(
    shape: str, n: int, cv: float = 0.1, simulations: int = 20_000, seed: int = 1
) -> Coverage:
    """Coverage of 95 % intervals of samples of n values.

    Args:
        shape: `normal` or `lognormal`.
        n: Values of a sample.
        cv: Coefficient of variation of the distribution.
        simulations: Samples.
        seed: Of the samples.
    """
    random = np.random.default_rng([seed, n])
    if shape == "normal":
        samples, mean = random.normal(1.0, cv, (simulations, n)), 1.0
    else:
        sigma = math.sqrt(math.log(1 + cv * cv))
        samples, mean = random.lognormal(0.0, sigma, (simulations, n)), math.exp(sigma * sigma / 2)
    half = t_quantile(0.95, n - 1) * samples.std(axis=1, ddof=1) / math.sqrt(n)
    low, high = bootstrap_t(samples, 9999, seed).T
    return Coverage(
        float((np.abs(samples.mean(axis=1) - mean) <= half).mean()),
        float(((low <= mean) & (mean <= high)).mean()),
        float(np.median((high - low) / (2 * half))),
    )


def main(argv: list[str] | None = None) -> int:
    """Prints the table; 1 where an interval covers too little or too much."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--simulations", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args(argv)
    good = True
    print("distribution     CV   n        t  bootstrap-t  times as wide")
    for shape, cv in (("normal", 0.1), ("lognormal", 0.1), ("lognormal", 0.5)):
        for n in SIZES:
            found = coverage(shape, n, cv, arguments.simulations, arguments.seed)
            inside = all(abs(one - 0.95) <= TOLERANCE for one in found[:2])
            good &= inside or cv > 0.1
            print(
                f"{shape:<12} {cv * 100:4.0f} % {n:3} {found.t * 100:6.1f} % "
                f"{found.bootstrap_t * 100:10.1f} % {found.wider:14.2f}"
            )
    print(f"up to a CV of 10 % all within 95 ± {TOLERANCE * 100} %: {'yes' if good else 'no'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
