"""What AWS bills for one Lithops call on Lambda, from the stats that it came back with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lithowatt.aws._lambda_cost import LambdaCost, lambda_cost
from lithowatt.stats import value_of

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["lambda_call_cost"]


def lambda_call_cost(
    stats: Mapping[str, Any], *, region: str | None = None, storage_mb: float = 512
) -> LambdaCost:
    """The dollars of one call on AWS Lambda, its request fee included.

    The duration is `aws_billed_ms` of the stats, which ends when the call reports: what Lithops
    does after that (sending the status, some ms to some tens of ms) is billed, and not in it.
    The first call of a sandbox has `aws_init_ms`, which is billed with it. Each call
    is taken for a request of its own, as Lithops sends them unless a chunk has several.

    Args:
        stats: A call's stats, as in Lithops' `future.stats`, or with plain keys.
        region: AWS region; by default the one in the stats.
        storage_mb: Ephemeral storage of the function, MB.

    Returns:
        US dollars, with `compute`, `request`, `gb_seconds` and `billed_cold_duration`.

    Raises:
        ValueError: Stats of a call that was not on Lambda or does not say how long, or a region
            without a price here.

    Example:
        >>> cost = lambda_call_cost({
        ...     "aws_billed_ms": 1500, "aws_init_ms": 0, "aws_memory_size": 1024,
        ...     "aws_architecture": "x86_64", "aws_region": "us-east-1"})
        >>> f"{cost:.9f}", cost.gb_seconds
        ('0.000025200', 1.5)
    """

    def of(key: str) -> Any:
        return value_of(stats, f"aws_{key}")

    billed, memory = of("billed_ms"), of("memory_size")
    if billed is None or memory is None:
        raise ValueError(
            "expected stats with aws_billed_ms and aws_memory_size, got stats without: the call "
            "was not metered on AWS Lambda"
        )
    return lambda_cost(
        billed / 1000,
        memory,
        of("architecture"),
        region or of("region") or "us-east-1",
        init_duration_s=(of("init_ms") or 0) / 1000,
        storage_mb=storage_mb,
    )
