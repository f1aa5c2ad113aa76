"""Dollars of AWS Lambda calls, as they are billed, and of the energy they use.

>>> from lithowatt.cost import lambda_cost
>>> bill = lambda_cost(1.5, 1024, "arm64", "us-east-1", requests=1000)
>>> round(bill, 6), round(bill.compute, 6), round(bill.request, 6)
(0.0202, 0.02, 0.0002)

Prices are those of `data/lambda_prices.csv`, each with its date and source.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lithowatt._support.architectures import ARCHITECTURES
from lithowatt.aws._lambda_cost import (
    FREE_GB_SECONDS,
    FREE_REQUESTS,
    LambdaCost,
    LambdaPrice,
    lambda_cost,
    lambda_price,
    lambda_regions,
)
from lithowatt.estimate import estimate, product

if TYPE_CHECKING:
    from lithowatt.estimate import Estimate

__all__ = [
    "ARCHITECTURES",
    "ELECTRICITY_USD_PER_KWH",
    "FREE_GB_SECONDS",
    "FREE_REQUESTS",
    "LambdaCost",
    "LambdaPrice",
    "energy_cost",
    "lambda_cost",
    "lambda_price",
    "lambda_regions",
]

#: A round price of electricity, USD per kWh: an assumption, not a tariff.
ELECTRICITY_USD_PER_KWH = 0.10

_JOULES_PER_KWH = 3.6e6


def energy_cost(
    joules: float | Estimate,
    price_per_kwh: float | Estimate = ELECTRICITY_USD_PER_KWH,
    pue: float | Estimate = 1.0,
) -> Estimate:
    """What the electricity costs whoever pays for it: J → the currency of the price.

    joules / 3.6e6 × price × PUE. The band of the energy is carried on: low with
    low, high with high.

    Args:
        joules: Energy at the machine, J: a number, or an `Estimate` with its band.
        price_per_kwh: Price of a kWh, in any currency; 0.10 is a round assumption.
        pue: Power usage effectiveness of the place, 1 or more; `lithowatt.carbon.pue`
            has those of the large providers.

    Raises:
        ValueError: Naming the value and what is accepted.

    Example:
        >>> from lithowatt import Estimate
        >>> energy_cost(Estimate(3.6e6, 1.8e6, 7.2e6, "model"), 0.10)[:3]
        (0.1, 0.05, 0.2)
    """
    energy = estimate(joules, "joules")
    price = estimate(price_per_kwh, "price_per_kwh")
    overhead = estimate(pue, "pue", least=1.0)
    source = f"{energy.source}; {price.value:g} per kWh; PUE {overhead.value:g}"
    return product(source, energy, price, overhead, divisor=_JOULES_PER_KWH)
