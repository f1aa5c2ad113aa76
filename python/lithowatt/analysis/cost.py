"""US dollars of each repetition, where the platform that it ran on has a price."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lithowatt.analysis.placement import Place, no_architecture, worker_of
from lithowatt.analysis.platforms import AwsLambda, Price, with_price
from lithowatt.analysis.platforms._platform import DEFAULT_REGION
from lithowatt.analysis.quantities import row_cost_usd
from lithowatt.aws._lambda_cost import lambda_price
from lithowatt.profiles._runs import ConfigurationRuns, Floats


class Dollars(NamedTuple):
    """What a configuration's repetitions cost.

    Attributes:
        values: USD a repetition, NaN where it has no price.
        reason: Why none has; `None` where some have.
    """

    values: Floats
    reason: str | None


def dollars_of(
    runs: ConfigurationRuns,
    place: Place,
    architecture: str | None,
    region: str = DEFAULT_REGION,
    price: Price | None = None,
) -> Dollars:
    """Dollars of each repetition.

    On AWS Lambda each call's duration, rounded up to a millisecond, times its memory, and each
    call. A repetition in which only some workers ran there has no price.

    Args:
        runs: The repetitions.
        place: Where the file ran.
        architecture: Of the workers, which Lambda's price depends on.
        region: Of Lambda's prices.
        price: Of a worker's seconds on other platforms.

    Raises:
        ValueError: For a region whose prices are not known.
    """
    none = np.full(runs.repetitions, np.nan)
    if "worker_time_execution" not in runs.columns:
        return Dollars(none, "the profile has no worker_time_execution, which is what is billed")
    if place.platform is None:
        return Dollars(none, "the profile does not say where it ran (aws_cpu)")
    on_lambda = isinstance(place.platform, AwsLambda)
    if on_lambda or (place.by_row and price is None):
        if architecture is None:
            return Dollars(none, no_architecture(runs))
        if not runs.configuration.memory_mb > 0:
            return Dollars(none, "the key does not say how much memory a worker had")
        asked = lambda_price(architecture, region)
        rows = row_cost_usd(runs, asked, everywhere=on_lambda)
        return Dollars(runs.sum_of(rows), None)
    platform = with_price(place.platform, region, price)
    worker = worker_of(runs, architecture or "x86_64")
    reason = platform.no_price(worker)
    if reason is not None:
        return Dollars(none, reason)
    seconds = runs.sum_of(runs.numbers("worker_time_execution"))
    good = np.flatnonzero(np.isfinite(seconds) & (seconds >= 0) & (runs.widths > 0))
    for at in good.tolist():
        cost = platform.cost(worker, float(seconds[at]), int(runs.widths[at]))
        none[at] = np.nan if cost is None else cost
    return Dollars(none, None)
