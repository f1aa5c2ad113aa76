"""TDP × utilisation × time, the estimate that is known by the name of its input."""

from __future__ import annotations

from lithowatt import _core
from lithowatt._support.arguments import not_negative


def calculate_tdp_energy(cpu_percent: float, execution_time: float, tdp_watts: float) -> float:
    """TDP × CPU share × time, J.

    It knows no idle power, and charges the whole of ``tdp_watts``: give it the TDP of what is
    yours (:class:`LambdaTDPEstimator`), not of a package that many share.

    Args:
        cpu_percent: Load, 0..100 of the CPUs that ``tdp_watts`` is for.
        execution_time: s.
        tdp_watts: W.

    Raises:
        TypeError: For what is no number.
        ValueError: For one that is negative, NaN or infinite.

    Example:
        >>> calculate_tdp_energy(cpu_percent=25.0, execution_time=8.0, tdp_watts=150.0)
        300.0
    """
    return _core.tdp_energy(
        not_negative("cpu_percent", cpu_percent),
        not_negative("execution_time", execution_time),
        not_negative("tdp_watts", tdp_watts),
    )
