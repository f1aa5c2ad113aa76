"""AWS: what this runs on, and what a Lambda call costs next to the energy it used.

>>> from lithowatt.aws import calculate_energy_cost_correlation
>>> costs = calculate_energy_cost_correlation({"energy_consumption": 3.6}, 1.0, 1024)
>>> costs["cost_per_joule"] is not None
True
"""

from __future__ import annotations

from lithowatt._support import attach

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lithowatt.aws._bill import lambda_call_cost
    from lithowatt.aws._cost import calculate_energy_cost_correlation
    from lithowatt.aws._detect import (
        AWSInstanceDetector,
        detect_aws_instance_info,
        enhance_aws_energy_monitoring,
        setup_default_energy_monitoring,
        setup_ec2_energy_monitoring,
    )
    from lithowatt.aws._imds import InstanceMetadata, instance_metadata
    from lithowatt.aws._info import extract_aws_energy_info

__all__ = [
    "AWSInstanceDetector",
    "InstanceMetadata",
    "calculate_energy_cost_correlation",
    "detect_aws_instance_info",
    "enhance_aws_energy_monitoring",
    "extract_aws_energy_info",
    "instance_metadata",
    "lambda_call_cost",
    "setup_default_energy_monitoring",
    "setup_ec2_energy_monitoring",
]

__getattr__ = attach(
    __name__,
    globals(),
    {
        "AWSInstanceDetector": "_detect",
        "InstanceMetadata": "_imds",
        "calculate_energy_cost_correlation": "_cost",
        "detect_aws_instance_info": "_detect",
        "enhance_aws_energy_monitoring": "_detect",
        "extract_aws_energy_info": "_info",
        "instance_metadata": "_imds",
        "lambda_call_cost": "_bill",
        "setup_default_energy_monitoring": "_detect",
        "setup_ec2_energy_monitoring": "_detect",
    },
)
