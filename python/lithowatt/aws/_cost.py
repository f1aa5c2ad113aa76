"""Dollars of a call next to its joules, as it is billed: the prototype's correlation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lithowatt.aws._lambda_cost import lambda_cost
from lithowatt.cost import ELECTRICITY_USD_PER_KWH, energy_cost
from lithowatt.stats import PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["calculate_energy_cost_correlation"]

# The prototype's name first, then those of the stats dict and of profiles.
_JOULES = (
    "total_energy_joules",
    "energy_consumption",
    PREFIX + "energy_consumption",
    "energy",
)


def calculate_energy_cost_correlation(
    energy_metrics: Mapping[str, Any],
    execution_time: float,
    memory_mb: float,
    *,
    architecture: str = "x86_64",
    region: str = "us-east-1",
    energy_price_per_kwh: float = ELECTRICITY_USD_PER_KWH,
) -> dict[str, float | None]:
    """What AWS bills for one Lambda call, next to what its electricity costs.

    Args:
        energy_metrics: A dict with the call's energy, J, under
            ``total_energy_joules`` (the prototype), ``energy_consumption``
            (plain, or as the stats of a call have it) or ``energy``: the first that is
            there. ``None`` is energy that could not be measured.
        execution_time: Duration of the call, s; billed up to the next ms.
        memory_mb: Memory of the function, MB, from 128 to 10240.
        architecture: ``x86_64`` or ``arm64``.
        region: AWS region, whose prices are taken: `lithowatt.cost.lambda_regions`.
        energy_price_per_kwh: Price of electricity, USD per kWh; 0.10 is the
            prototype's round assumption.

    Returns:
        ``aws_compute_cost``, ``aws_request_cost``, ``total_aws_cost`` and
        ``estimated_energy_cost`` in USD; ``energy_efficiency_ratio``, dollars
        billed per dollar of electricity; ``cost_per_joule``, USD billed per J.
        ``None`` where the energy is not known, and in the last two where it is 0.

    Raises:
        ValueError: Naming the value and what is accepted.

    Example:
        >>> costs = calculate_energy_cost_correlation({"total_energy_joules": 36.0}, 1.0, 1024)
        >>> round(costs["estimated_energy_cost"], 9), round(costs["energy_efficiency_ratio"], 4)
        (1e-06, 16.8667)
    """
    get = getattr(energy_metrics, "get", None)
    key = next((name for name in _JOULES if get and name in energy_metrics), None)
    if get is None or key is None:
        raise ValueError(f"energy_metrics holds none of {', '.join(_JOULES)}")
    bill = lambda_cost(execution_time, memory_mb, architecture, region)
    costs: dict[str, float | None] = {
        "aws_compute_cost": bill.compute,
        "aws_request_cost": bill.request,
        "total_aws_cost": bill.total,
        "estimated_energy_cost": None,
        "energy_efficiency_ratio": None,
        "cost_per_joule": None,
    }
    joules = get(key)
    if joules is None:
        return costs
    electricity = energy_cost(joules, energy_price_per_kwh).value
    costs["estimated_energy_cost"] = electricity
    if electricity > 0:
        costs["energy_efficiency_ratio"] = bill.total / electricity
    used = float(getattr(joules, "value", joules))
    if used > 0:
        costs["cost_per_joule"] = bill.total / used
    return costs
