"""The power model under names kept from the prototype: joules without a counter.

>>> from lithowatt.model import calculate_tdp_energy
>>> calculate_tdp_energy(50.0, 10.0, 100.0)
500.0

Each is thin over :class:`~lithowatt.PowerModel` and :class:`~lithowatt.EnergyMeter`. Energies are
in J, powers in W, times in s, memory in MB (MiB, as AWS counts it).
"""

from __future__ import annotations

from lithowatt._support import attach

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lithowatt.aws._lambda_estimators import (
        AWSLambdaEnergyEstimator,
        LambdaCPUMonitor,
        LambdaTDPEstimator,
    )
    from lithowatt.estimate import Estimate
    from lithowatt.model._power import PowerModel
    from lithowatt.model._tdp import calculate_tdp_energy

__all__ = [
    "AWSLambdaEnergyEstimator",
    "Estimate",
    "LambdaCPUMonitor",
    "LambdaTDPEstimator",
    "PowerModel",
    "calculate_tdp_energy",
]

__getattr__ = attach(
    __name__,
    globals(),
    {
        "AWSLambdaEnergyEstimator": "lithowatt.aws._lambda_estimators",
        "Estimate": "lithowatt.estimate",
        "LambdaCPUMonitor": "lithowatt.aws._lambda_estimators",
        "LambdaTDPEstimator": "lithowatt.aws._lambda_estimators",
        "PowerModel": "_power",
        "calculate_tdp_energy": "_tdp",
    },
)
