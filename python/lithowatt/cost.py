"""Dollars of AWS Lambda calls, as they are billed.

>>> from lithowatt.cost import lambda_cost
>>> bill = lambda_cost(1.5, 1024, "arm64", "us-east-1", requests=1000)
>>> round(bill, 6), round(bill.compute, 6), round(bill.request, 6)
(0.0202, 0.02, 0.0002)
"""

from __future__ import annotations

import math
import operator
from typing import NamedTuple, SupportsIndex

__all__ = ["ARCHITECTURES", "LambdaCost", "LambdaPrice", "lambda_cost", "lambda_price"]

#: What AWS calls its two architectures, and what machines call them.
ARCHITECTURES = {
    "x86_64": "x86_64",
    "amd64": "x86_64",
    "arm64": "arm64",
    "aarch64": "arm64",
}

#: Memory that a function can have, MB (which AWS counts as MiB):
#: <https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html>.
MEMORY_MB = (128, 10_240)

_PAGE = "AWS Lambda pricing, https://aws.amazon.com/lambda/pricing/"
_LIST = (
    "AWS Price List, https://pricing.us-east-1.amazonaws.com/offers/v1.0/aws/AWSLambda/"
    "current/us-east-1/index.json"
)


class LambdaPrice(NamedTuple):
    """What AWS asks in one region for one architecture, first tier, on demand.

    Attributes:
        gb_second: USD per GB of memory (1024 MB) and second of duration.
        request: USD per request.
        date: The day at which the price was in force, ISO 8601.
        source: Where it was read.
    """

    gb_second: float
    request: float
    date: str
    source: str


# A region is added with a price that was read for it, never by analogy.
_PRICES: dict[str, dict[str, LambdaPrice]] = {
    "us-east-1": {
        "x86_64": LambdaPrice(0.0000166667, 0.0000002, "2025-10-01", f"{_PAGE}; {_LIST}"),
        "arm64": LambdaPrice(0.0000133334, 0.0000002, "2025-10-01", f"{_PAGE}; {_LIST}"),
    },
}


class LambdaCost(float):
    """US dollars of some Lambda requests: a number that knows its parts.

    Attributes:
        compute: USD for memory × duration.
        request: USD for the requests themselves.
        billed_duration: Seconds of one request, rounded up to a whole ms.
        gb_seconds: GB·s of all requests.
        price: The price that was taken, with its date and source.
    """

    __slots__ = ("billed_duration", "compute", "gb_seconds", "price", "request")

    compute: float
    request: float
    billed_duration: float
    gb_seconds: float
    price: LambdaPrice

    def __new__(
        cls,
        compute: float,
        request: float,
        billed_duration: float,
        gb_seconds: float,
        price: LambdaPrice,
    ) -> LambdaCost:
        self = super().__new__(cls, compute + request)
        self.compute = compute
        self.request = request
        self.billed_duration = billed_duration
        self.gb_seconds = gb_seconds
        self.price = price
        return self

    @property
    def total(self) -> float:
        """USD, ``compute`` and ``request`` together: the number itself."""
        return float(self)

    @property
    def source(self) -> str:
        """Where the price is from, and when it was in force."""
        return f"{self.price.source} ({self.price.date})"

    def __reduce__(self) -> tuple[type[LambdaCost], tuple[object, ...]]:
        return LambdaCost, (
            self.compute,
            self.request,
            self.billed_duration,
            self.gb_seconds,
            self.price,
        )


def normalise_architecture(name: object) -> str:
    """``x86_64`` or ``arm64`` for any of the names in `ARCHITECTURES`.

    Raises:
        ValueError: For any other name.
    """
    known = ARCHITECTURES.get(name.strip().lower()) if isinstance(name, str) else None
    if known is None:
        raise ValueError(f"architecture {name!r:.80} is not known: x86_64 or arm64")
    return known


def lambda_price(architecture: str, region: str = "us-east-1") -> LambdaPrice:
    """The price of a region and architecture, first tier, on demand.

    Raises:
        ValueError: For a region without a price here, or an unknown architecture.
    """
    prices = _PRICES.get(region) if isinstance(region, str) else None
    if prices is None:
        known = ", ".join(sorted(_PRICES))
        raise ValueError(f"there is no price for region {region!r:.80} here, only for {known}")
    return prices[normalise_architecture(architecture)]


def lambda_cost(
    duration_s: float,
    memory_mb: float,
    architecture: str,
    region: str = "us-east-1",
    requests: int = 1,
) -> LambdaCost:
    """What AWS bills for Lambda requests of one duration, in US dollars.

    Each request is billed for its duration rounded up to the next ms, times its
    memory, and for itself. On-demand price of the first tier; the free tier,
    higher tiers, ephemeral storage above 512 MB and provisioned concurrency are
    left out.

    Args:
        duration_s: Billed duration of *one* request, s.
        memory_mb: Memory of the function, MB, from 128 to 10240.
        architecture: ``x86_64`` or ``arm64`` (also ``amd64``, ``aarch64``).
        region: AWS region; ``us-east-1`` is the only one with a price so far.
        requests: How many requests, 0 or more.

    Returns:
        Dollars, a ``float`` with ``compute``, ``request`` and ``source``.

    Raises:
        ValueError: Naming the value and what is accepted.

    Example:
        >>> lambda_cost(0.0001, 1024, "x86_64").billed_duration
        0.001
        >>> lambda_cost(60, 512, "x86_64", "mars-1")
        Traceback (most recent call last):
        ...
        ValueError: there is no price for region 'mars-1' here, only for us-east-1
    """
    seconds = _number(duration_s)
    if seconds is None or seconds < 0:
        raise ValueError(f"duration {duration_s!r:.80} is not a number of seconds, 0 or more")
    memory = _number(memory_mb)
    low, high = MEMORY_MB
    if memory is None or not low <= memory <= high:
        raise ValueError(f"memory {memory_mb!r:.80} is not from {low} to {high} MB")
    count = _whole(requests)
    if count is None or count < 0:
        raise ValueError(f"requests {requests!r:.80} is not a whole number, 0 or more")
    price = lambda_price(architecture, region)
    # A duration that is a whole number of ms but for floating point must not get one more.
    milliseconds = math.ceil(round(seconds * 1000, 6))
    gb_seconds = count * milliseconds / 1000 * memory / 1024
    return LambdaCost(
        compute=gb_seconds * price.gb_second,
        request=count * price.request,
        billed_duration=milliseconds / 1000,
        gb_seconds=gb_seconds,
        price=price,
    )


def _number(value: object) -> float | None:
    """A finite float of any real number, NumPy's included; ``None`` for anything else."""
    if isinstance(value, (bool, str, bytes)):
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _whole(value: SupportsIndex | object) -> int | None:
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None
