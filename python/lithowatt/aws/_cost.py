"""Dollars of a call next to its joules: the seed's correlation, with its units put right."""

from __future__ import annotations

from typing import Any

__all__ = ["calculate_energy_cost_correlation"]


def calculate_energy_cost_correlation(
    energy_metrics: dict[str, Any], execution_time: float, memory_mb: float
) -> dict[str, float | None]:
    """What a Lambda call costs, next to the energy it used."""
    from lithowatt.cost import lambda_cost

    bill = lambda_cost(execution_time, memory_mb, "x86_64")
    joules = energy_metrics.get("energy_consumption")
    return {
        "aws_compute_cost": bill.compute,
        "aws_request_cost": bill.request,
        "total_aws_cost": bill.total,
        "estimated_energy_cost": None if joules is None else joules / 3.6e6 * 0.10,
        "energy_efficiency_ratio": None if not bill.total else (joules or 0) / bill.total,
        "cost_per_joule": None if not joules else bill.total / joules,
    }
