"""Where this runs: which cloud, which service, which container, and what it may use.

Everything comes from environment variables and from files below ``root``; no address is asked.

>>> from lithowatt.environment import detect_environment
>>> detect_environment().architecture in ("x86_64", "aarch64", "riscv64", "ppc64le", "s390x")
True
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from lithowatt import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    StrPath = str | os.PathLike[str]

__all__ = ["Environment", "detect_environment"]

#: What the firmware of an Azure machine carries as the chassis' asset tag, and that of other
#: Hyper-V guests does not (cloud-init's Azure data source goes by it, too).
AZURE_ASSET_TAG = "7783-7084-3265-9085-8269-3286-77"

#: Platforms of a Kubernetes pod and of a plain guest, by whose machine it is.
_PODS = {"aws": "aws-eks", "google": "google-kubernetes-engine", "azure": "azure-kubernetes"}
_GUESTS = {"aws": "aws-ec2", "google": "google-compute-engine", "azure": "azure-vm"}

#: Variables that name the region.
_REGIONS = {
    "aws": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    "google": ("FUNCTION_REGION", "GOOGLE_CLOUD_REGION"),
    "azure": ("REGION_NAME",),
}

#: Variables that identity for service accounts sets in a pod on EKS, and nothing else sets there.
_EKS = ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI")


@dataclass(frozen=True)
class Environment:
    """The surroundings of this process.

    Attributes:
        platform: ``aws-lambda``, ``aws-ecs``, ``aws-eks``, ``aws-ec2``, ``google-cloud-run``,
            ``google-cloud-functions``, ``google-kubernetes-engine``, ``google-compute-engine``,
            ``azure-functions``, ``azure-container-apps``, ``azure-kubernetes``, ``azure-vm``,
            ``kubernetes``, ``container``, ``vm`` or ``machine``.
        provider: ``aws``, ``google``, ``azure``, or ``None`` where nothing shows one.
        container_runtime: ``lambda``, ``ecs``, ``kubernetes``, ``docker``, …, or ``None``.
        instance_type: As ``m5.large``; ``lambda`` on AWS Lambda; ``None`` where it is not shown.
        architecture: As ``uname -m``: ``x86_64``, ``aarch64``, …
        region: Region of the provider, ``None`` where no variable names it.
        runtime: Language runtime of AWS Lambda, as ``python3.12``.
        memory_mb: Memory of the Lambda function or limit of the cgroup, MiB; ``None``: no limit.
        cpus: CPUs that this process may use, a fraction where a quota or Lambda sets it.
        cpus_set_by: ``machine``, ``affinity``, ``cpuset``, ``quota`` or ``lambda_memory``.
        virtual: A hypervisor is below.
        evidence: What shows the platform, as ``KUBERNETES_SERVICE_HOST`` or ``dmi: Amazon EC2``.
    """

    platform: str
    provider: str | None
    container_runtime: str | None
    instance_type: str | None
    architecture: str
    region: str | None
    runtime: str | None
    memory_mb: int | None
    cpus: float
    cpus_set_by: str
    virtual: bool
    evidence: tuple[str, ...]

    @property
    def is_lambda(self) -> bool:
        """Whether this is an AWS Lambda sandbox."""
        return self.platform == "aws-lambda"


def detect_environment(root: StrPath | None = None) -> Environment:
    """Finds out where this process runs.

    Args:
        root: Where ``/sys`` and ``/proc`` are; ``LITHOWATT_ROOT`` or ``/`` by default.

    Example:
        >>> environment = detect_environment()
        >>> environment.cpus > 0
        True
    """
    top = Path(root or os.environ.get("LITHOWATT_ROOT") or "/")
    cpu = _core.cpu_identity(top)
    around = _core.surroundings(top)
    platform, provider, evidence = _platform(
        top, cpu["hypervisor"], around["container_runtime"], around["service"]
    )
    is_lambda = platform == "aws-lambda"
    memory_gib = around["allotted"]["memory_gib"]
    return Environment(
        platform=platform,
        provider=provider,
        container_runtime=around["container_runtime"],
        instance_type="lambda" if is_lambda else around["instance_type"],
        architecture=cpu["architecture"],
        region=next(filter(None, map(_variable, _REGIONS.get(provider or "", ()))), None),
        runtime=_lambda_runtime() if is_lambda else None,
        memory_mb=None if memory_gib is None else round(memory_gib * 1024),
        cpus=around["allotted"]["cpus"],
        cpus_set_by=around["allotted"]["set_by"],
        virtual=bool(cpu["hypervisor"]) or is_lambda,
        evidence=tuple(evidence),
    )


def _platform(
    top: Path, hypervisor: bool, container: str | None, service: dict[str, str] | None
) -> tuple[str, str | None, list[str]]:
    """Platform, provider, and the evidence."""
    evidence = []
    firmware, shown = _firmware(top)
    if firmware is not None:
        evidence.append(f"dmi: {shown}")
    if service is not None:
        platform = service["platform"]
        return platform, platform.partition("-")[0], [service["variable"], *evidence]
    # Of no other service: EC2 as its own tools and images set it.
    if not (_variable("AWS_EXECUTION_ENV") or "AWS_Lambda_").startswith("AWS_Lambda_"):
        firmware = firmware or "aws"
        evidence.insert(0, "AWS_EXECUTION_ENV")
    if _variable("KUBERNETES_SERVICE_HOST") is not None:
        told = next((name for name in _EKS if _variable(name) is not None), None)
        provider = firmware or ("aws" if told else None)
        evidence = ["KUBERNETES_SERVICE_HOST", *evidence, *([told] if told else [])]
        return _PODS.get(provider or "", "kubernetes"), provider, evidence
    if container is not None:
        return "container", firmware, [f"container runtime {container}", *evidence]
    if firmware is not None:
        return _GUESTS[firmware], firmware, evidence
    if hypervisor:
        return "vm", None, ["hypervisor"]
    return "machine", None, []


def _firmware(top: Path) -> tuple[str | None, str]:
    """Whose machine this is by its firmware, and the string that shows it."""
    vendor = _dmi(top, "sys_vendor")
    product = _dmi(top, "product_name")
    if vendor == "Amazon EC2" or _dmi(top, "board_asset_tag").startswith("i-"):
        return "aws", vendor or "instance id as asset tag"
    # Instances on Xen.
    if vendor == "Xen" and _dmi(top, "bios_version").endswith("amazon"):
        return "aws", "Xen, bios of amazon"
    if product == "Google Compute Engine" or vendor == "Google":
        return "google", product or vendor
    if vendor == "Microsoft Corporation" and _dmi(top, "chassis_asset_tag") == AZURE_ASSET_TAG:
        return "azure", "Azure's asset tag"
    return None, ""


def _dmi(top: Path, name: str) -> str:
    try:
        raw = (top / "sys/class/dmi/id" / name).read_bytes()[:256]
    except OSError:
        return ""
    return raw.decode("utf-8", "replace").strip(" \t\r\n\0")


def _lambda_runtime() -> str | None:
    value = _variable("AWS_EXECUTION_ENV") or ""
    prefix = "AWS_Lambda_"
    return value[len(prefix) :] or None if value.startswith(prefix) else None


def _variable(name: str) -> str | None:
    return os.environ.get(name) or None
