"""What AWS this runs on, for the model and for profiles.

Nothing here is on a function's path, and nothing asks an address unless it is requested.
"""

from __future__ import annotations

from lithowatt import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from typing import Any

    StrPath = str | os.PathLike[str]

__all__ = [
    "AWSInstanceDetector",
    "detect_aws_instance_info",
    "enhance_aws_energy_monitoring",
    "setup_default_energy_monitoring",
    "setup_ec2_energy_monitoring",
]


#: Memory of a Lambda function that was never configured, MB.
_LAMBDA_DEFAULT_MB = 128


def detect_aws_instance_info(root: StrPath | None = None, *, imds: bool = False) -> dict[str, Any]:
    """What is known of the AWS instance or function that this runs on.

    By the environment, the firmware's strings, and the metadata service's answer earlier in this
    boot. On Lambda it is never asked.

    Args:
        root: Where ``/sys`` and ``/proc`` are; ``LITHOWATT_ROOT`` or ``/`` by default.
        imds: Ask EC2's metadata service (version 2, with a token, at most 50 ms) for what is not
            known otherwise.

    Returns:
        ``instance_type`` (``lambda`` on Lambda), ``architecture``, ``is_lambda``, ``memory_size``
        (MB), ``region``, ``runtime``, ``platform``; ``None`` where unknown. ``source`` is where
        the instance type is from, or ``unavailable: <reason>``.

    Example:
        >>> info = detect_aws_instance_info()
        >>> info["is_lambda"], info["memory_size"]
        (False, None)
    """
    from lithowatt.environment import detect_environment

    environment = detect_environment(root)
    info: dict[str, Any] = {
        "instance_type": environment.instance_type,
        "architecture": environment.architecture,
        "is_lambda": environment.is_lambda,
        "memory_size": environment.memory_mb if environment.is_lambda else None,
        "region": environment.region if environment.provider == "aws" else None,
        "runtime": environment.runtime,
        "platform": environment.platform,
        "source": "environment" if environment.is_lambda else "LITHOWATT_INSTANCE_TYPE or firmware",
    }
    if environment.is_lambda or (info["instance_type"] and info["region"]):
        return info
    if environment.provider not in (None, "aws"):
        info["source"] = f"unavailable: this is {environment.platform}"
        return info
    from lithowatt.aws._imds import instance_metadata

    metadata = instance_metadata(ask=imds)
    if metadata.instance_type is None:
        if info["instance_type"] is None:
            info["source"] = f"unavailable: {metadata.source}"
        return info
    if info["instance_type"] is None:
        info["instance_type"] = metadata.instance_type
        info["source"] = metadata.source
    info["region"] = info["region"] or metadata.region
    return info


class AWSInstanceDetector:
    """:func:`detect_aws_instance_info`, looked up once, with the processor.

    Args:
        root: Where ``/sys`` and ``/proc`` are; ``LITHOWATT_ROOT`` or ``/`` by default.
        imds: Ask EC2's metadata service for what is not known otherwise.

    Example:
        >>> info = AWSInstanceDetector().detect_instance()
        >>> info["processor_type"] is not None and info["vcpus"] > 0
        True
    """

    def __init__(self, root: StrPath | None = None, *, imds: bool = False) -> None:
        self._root = root
        self._imds = imds
        self._found: dict[str, Any] | None = None

    def detect_instance(self) -> dict[str, Any]:
        """The instance, with ``processor_type`` (the processor's name) and ``vcpus`` to use."""
        if self._found is None:
            share = _core.surroundings(self._root)["allotted"]
            self._found = {
                **detect_aws_instance_info(self._root, imds=self._imds),
                "processor_type": _core.cpu_identity(self._root)["name"],
                "vcpus": share["cpus"],
            }
        return dict(self._found)


def enhance_aws_energy_monitoring(root: StrPath | None = None) -> dict[str, Any]:
    """What meters here: Lambda's estimator and CPU monitor, or the monitor of a machine.

    Args:
        root: Where ``/sys`` and ``/proc`` are; ``LITHOWATT_ROOT`` or ``/`` by default.

    Returns:
        On Lambda ``tdp_estimator``, ``cpu_monitor``, ``memory_size`` (MB) and ``environment``
        (``aws_lambda``); elsewhere what :func:`setup_ec2_energy_monitoring` or
        :func:`setup_default_energy_monitoring` gives.

    Example:
        >>> "environment" in enhance_aws_energy_monitoring()
        True
    """
    from lithowatt.environment import detect_environment

    environment = detect_environment(root)
    if environment.is_lambda:
        from lithowatt.model import LambdaCPUMonitor, LambdaTDPEstimator

        memory_mb = _core.surroundings(root)["lambda_memory_mb"] or _LAMBDA_DEFAULT_MB
        return {
            "tdp_estimator": LambdaTDPEstimator(memory_mb),
            "cpu_monitor": LambdaCPUMonitor(memory_mb, root=root),
            "memory_size": memory_mb,
            "environment": "aws_lambda",
        }
    if environment.provider == "aws":
        return setup_ec2_energy_monitoring(root)
    return setup_default_energy_monitoring(root)


def setup_ec2_energy_monitoring(
    root: StrPath | None = None, *, imds: bool = False
) -> dict[str, Any]:
    """The monitor and the power model of an EC2 instance, and of ECS and EKS on one.

    Args:
        root: Where ``/sys`` and ``/proc`` are; ``LITHOWATT_ROOT`` or ``/`` by default.
        imds: Ask the metadata service for what is not known otherwise (at most 50 ms).

    Returns:
        ``monitor`` (:class:`~lithowatt.monitors.LocalhostEnergyMonitor`), ``model``
        (:class:`~lithowatt.PowerModel`), ``instance_info`` and ``environment`` (``aws_ec2``,
        ``aws_ecs`` or ``aws_eks``).

    Example:
        >>> setup = setup_ec2_energy_monitoring()
        >>> setup["monitor"].start_monitoring()
        >>> setup["monitor"].stop_monitoring()
        >>> setup["model"].watts(50.0).value > 0  # W
        True
    """
    from lithowatt.environment import detect_environment

    environment = detect_environment(root)
    known = environment.platform in ("aws-ecs", "aws-eks")
    kind = environment.platform.replace("-", "_") if known else "aws_ec2"
    return {
        **_setup(root, kind),
        "instance_info": detect_aws_instance_info(root, imds=imds),
    }


def setup_default_energy_monitoring(root: StrPath | None = None) -> dict[str, Any]:
    """The monitor and the power model of any other machine.

    Args:
        root: Where ``/sys`` and ``/proc`` are; ``LITHOWATT_ROOT`` or ``/`` by default.

    Returns:
        ``monitor`` (:class:`~lithowatt.monitors.LocalhostEnergyMonitor`), ``model``
        (:class:`~lithowatt.PowerModel`) and ``environment`` (as ``kubernetes`` or ``vm``).

    Example:
        >>> sorted(setup_default_energy_monitoring())
        ['environment', 'model', 'monitor']
    """
    from lithowatt.environment import detect_environment

    environment = detect_environment(root)
    return _setup(root, environment.platform.replace("-", "_"))


def _setup(root: StrPath | None, kind: str) -> dict[str, Any]:
    from lithowatt import PowerModel
    from lithowatt.monitors import LocalhostEnergyMonitor

    return {
        "monitor": LocalhostEnergyMonitor(root=root),
        "model": PowerModel.for_machine(root),
        "environment": kind,
    }
