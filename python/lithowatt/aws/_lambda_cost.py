"""Dollars of AWS Lambda calls, as they are billed. The public names are those of `lithowatt.cost`.

Prices are those of `data/lambda_prices.csv`, each with its date and source.
"""

from __future__ import annotations

import math
import operator
from typing import NamedTuple, SupportsIndex

from lithowatt._support.architectures import normalise_architecture
from lithowatt.data import rows
from lithowatt.estimate import number

#: Memory that a function can have, MB (which AWS counts as MiB):
#: <https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html>.
MEMORY_MB = (128, 10_240)

#: Ephemeral storage (``/tmp``) that a function can have, MB; the first 512 cost nothing:
#: <https://docs.aws.amazon.com/lambda/latest/dg/configuration-ephemeral-storage.html>.
STORAGE_MB = (512, 10_240)

#: What costs nothing each month, both architectures together: <https://aws.amazon.com/lambda/pricing/>.
FREE_GB_SECONDS = 400_000
FREE_REQUESTS = 1_000_000

#: Where a month's second and third tier begin, GB·s of one architecture in one region:
#: <https://aws.amazon.com/blogs/compute/introducing-tiered-pricing-for-aws-lambda/>.
TIERS_GB_S = {"x86_64": (0.0, 6e9, 15e9), "arm64": (0.0, 7.5e9, 18.75e9)}


class LambdaPrice(NamedTuple):
    """What AWS asks in one region for one architecture, on demand.

    Attributes:
        gb_second: USD per GB of memory (1024 MB) and second of duration, first tier.
        request: USD per request.
        date: A day at which all of it was in force, or a month: the first it can be of.
        source: Where it was read.
        tiers: (GB·s of the month from which it holds, USD per GB·s), ascending.
        storage: USD per GB (1024 MB) of ephemeral storage above 512 MB, and second.
    """

    gb_second: float
    request: float
    date: str
    source: str
    tiers: tuple[tuple[float, float], ...]
    storage: float


class LambdaCost(float):
    """US dollars of some Lambda requests: a number that knows its parts.

    Attributes:
        compute: USD for memory × duration.
        request: USD for the requests themselves.
        storage: USD for ephemeral storage above 512 MB.
        billed_duration: Seconds of one request without initialisation, rounded up to a whole ms.
        billed_cold_duration: The same with initialisation.
        gb_seconds: GB·s of memory of all requests, the free ones included.
        free_gb_seconds: GB·s of them that the free tier covers.
        free_requests: Requests that the free tier covers.
        price: The price that was taken, with its date and source.
    """

    __slots__ = (
        "billed_cold_duration",
        "billed_duration",
        "compute",
        "free_gb_seconds",
        "free_requests",
        "gb_seconds",
        "price",
        "request",
        "storage",
    )

    compute: float
    request: float
    storage: float
    billed_duration: float
    billed_cold_duration: float
    gb_seconds: float
    free_gb_seconds: float
    free_requests: int
    price: LambdaPrice

    def __new__(
        cls,
        compute: float,
        request: float,
        billed_duration: float,
        gb_seconds: float,
        price: LambdaPrice,
        storage: float = 0.0,
        billed_cold_duration: float | None = None,
        free_gb_seconds: float = 0.0,
        free_requests: int = 0,
    ) -> LambdaCost:
        self = super().__new__(cls, compute + request + storage)
        self.compute = compute
        self.request = request
        self.storage = storage
        self.billed_duration = billed_duration
        self.billed_cold_duration = (
            billed_duration if billed_cold_duration is None else billed_cold_duration
        )
        self.gb_seconds = gb_seconds
        self.free_gb_seconds = free_gb_seconds
        self.free_requests = free_requests
        self.price = price
        return self

    @property
    def total(self) -> float:
        """USD, all parts together: the number itself."""
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
            self.storage,
            self.billed_cold_duration,
            self.free_gb_seconds,
            self.free_requests,
        )


_prices: dict[str, dict[str, LambdaPrice]] = {}


def _table() -> dict[str, dict[str, LambdaPrice]]:
    """All prices, by region and architecture; read once."""
    if not _prices:
        found: dict[tuple[str, str], dict[str, dict[str, str]]] = {}
        table, sources = rows("lambda_prices.csv")
        for row in table:
            items = found.setdefault((row["region"], row["architecture"]), {})
            items[row["tier"]] = row
        read: dict[str, dict[str, LambdaPrice]] = {}
        for (region, architecture), items in found.items():
            price = {tier: float(row["price"]) for tier, row in items.items()}
            used = dict.fromkeys(row["source"] for row in items.values())
            read.setdefault(region, {})[architecture] = LambdaPrice(
                gb_second=price["tier1"],
                request=price["request"],
                date=min(row["date"] for row in items.values()),
                source="; ".join(sources[name] for name in used),
                tiers=tuple(
                    zip(
                        TIERS_GB_S[architecture],
                        (price["tier1"], price["tier2"], price["tier3"]),
                        strict=True,
                    )
                ),
                storage=price["storage"],
            )
        _prices.update(read)
    return _prices


def lambda_regions() -> list[str]:
    """The AWS regions whose prices are known here, in alphabetical order."""
    return sorted(_table())


def lambda_price(architecture: str, region: str = "us-east-1") -> LambdaPrice:
    """The price of a region and architecture, on demand.

    Raises:
        ValueError: For a region without a price here, or an unknown architecture.
    """
    prices = _table().get(region) if isinstance(region, str) else None
    if prices is None:
        known = ", ".join(lambda_regions())
        raise ValueError(f"there is no price for region {region!r:.80} here, only for {known}")
    return prices[normalise_architecture(architecture)]


def lambda_cost(
    duration_s: float,
    memory_mb: float,
    architecture: str,
    region: str = "us-east-1",
    requests: int = 1,
    *,
    init_duration_s: float = 0.0,
    cold_starts: int | None = None,
    storage_mb: float = 512,
    month_gb_seconds: float = 0.0,
    month_requests: int = 0,
    free_tier: bool = False,
) -> LambdaCost:
    """What AWS bills for Lambda requests of one duration, in US dollars.

    Each request is billed for its duration rounded up to the next ms, times its
    memory and its ephemeral storage above 512 MB, and for itself. On-demand
    prices; provisioned concurrency, SnapStart, response streaming, data
    transfer, savings plans and taxes are left out.

    Args:
        duration_s: Duration of *one* request, s.
        memory_mb: Memory of the function, MB, from 128 to 10240.
        architecture: ``x86_64`` or ``arm64`` (also ``amd64``, ``aarch64``).
        region: AWS region; `lambda_regions` has those with a price.
        requests: How many requests, 0 or more.
        init_duration_s: Initialisation of a cold start, s. Billed with the
            request that it belongs to, for all functions since 2025-08-01:
            <https://aws.amazon.com/blogs/compute/aws-lambda-standardizes-billing-for-init-phase/>.
        cold_starts: How many of the requests were cold; all of them where
            ``init_duration_s`` is given, by default.
        storage_mb: Ephemeral storage (``/tmp``), MB, from 512 to 10240.
        month_gb_seconds: GB·s of this architecture and region that the account
            used earlier this month. It decides the tier.
        month_requests: Requests earlier this month; matters to the free tier only.
        free_tier: Takes off what is left of the month's 400,000 GB·s and
            1,000,000 requests. Both are one budget for all regions and
            architectures; here what was used earlier is taken to be all of it.
            Tiers count what is paid for. Storage is not part of it.

    Returns:
        Dollars, a ``float`` with ``compute``, ``request``, ``storage`` and ``source``.

    Raises:
        ValueError: Naming the value and what is accepted.

    Example:
        >>> lambda_cost(0.0001, 1024, "x86_64").billed_duration
        0.001
        >>> lambda_cost(60, 512, "x86_64", "mars-1")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        ValueError: there is no price for region 'mars-1' here, only for af-south-1, ...
    """
    seconds = number(duration_s)
    if seconds is None or seconds < 0:
        raise ValueError(f"duration {duration_s!r:.80} is not a number of seconds, 0 or more")
    memory = _within("memory", memory_mb, MEMORY_MB)
    count = _whole("requests", requests)
    init = number(init_duration_s)
    if init is None or init < 0:
        raise ValueError(
            f"init_duration_s {init_duration_s!r:.80} is not a number of seconds, 0 or more"
        )
    cold = count if cold_starts is None else _whole("cold_starts", cold_starts)
    if cold > count:
        raise ValueError(f"cold_starts {cold} is more than the {count} requests")
    storage = _within("storage", storage_mb, STORAGE_MB)
    used = number(month_gb_seconds)
    if used is None or used < 0:
        raise ValueError(f"month_gb_seconds {month_gb_seconds!r:.80} is not a number, 0 or more")
    used_requests = _whole("month_requests", month_requests)
    price = lambda_price(architecture, region)

    warm_ms = _milliseconds(seconds)
    cold_ms = _milliseconds(seconds + init)
    billed = (warm_ms * (count - cold) + cold_ms * cold) / 1000
    gb_seconds = billed * memory / 1024
    free = free_requests = 0
    free_gb_seconds = 0.0
    if free_tier:
        free = FREE_GB_SECONDS
        free_gb_seconds = min(gb_seconds, max(0.0, free - used))
        free_requests = min(count, max(0, FREE_REQUESTS - used_requests))
    compute = _tiered(price.tiers, max(0.0, used - free), gb_seconds - free_gb_seconds)
    return LambdaCost(
        compute=compute,
        request=(count - free_requests) * price.request,
        billed_duration=warm_ms / 1000,
        gb_seconds=gb_seconds,
        price=price,
        storage=billed * (storage - STORAGE_MB[0]) / 1024 * price.storage,
        billed_cold_duration=cold_ms / 1000,
        free_gb_seconds=free_gb_seconds,
        free_requests=free_requests,
    )


def _tiered(tiers: tuple[tuple[float, float], ...], start: float, amount: float) -> float:
    """What ``amount`` costs when ``start`` was used before it."""
    total = 0.0
    end = start + amount
    for index, (begin, price) in enumerate(tiers):
        upper = tiers[index + 1][0] if index + 1 < len(tiers) else math.inf
        if begin <= start and end <= upper:
            return amount * price  # in one tier: no difference of large numbers
        total += max(0.0, min(end, upper) - max(start, begin)) * price
    return total


def _milliseconds(seconds: float) -> int:
    # A duration that is a whole number of ms but for floating point must not get one more.
    return math.ceil(round(seconds * 1000, 6))


def _within(what: str, value: object, limits: tuple[int, int]) -> float:
    low, high = limits
    found = number(value)
    if found is None or not low <= found <= high:
        raise ValueError(f"{what} {value!r:.80} is not from {low} to {high} MB")
    return found


def _whole(what: str, value: SupportsIndex | object) -> int:
    try:
        found = None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        found = None
    if found is None or found < 0:
        raise ValueError(f"{what} {value!r:.80} is not a whole number, 0 or more")
    return found
