"""Machines, whole or in parts: where memory buys no vCPUs and no table knows the price."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

from lithowatt import _core
from lithowatt.analysis.platforms._platform import (
    Price,
    Share,
    Worker,
    busy_within,
    check_billed,
)
from lithowatt.model._power import PowerModel
from lithowatt.profiles._given import MOST_CPUS, MOST_MEMORY_MB
from lithowatt.profiles._values import positive

if TYPE_CHECKING:
    from lithowatt.estimate import Estimate


@dataclass(frozen=True)
class Server:
    """A machine whose workers share it, each with what its container or its cgroup allows.

    Args:
        name: As Lithops calls its backend.
        price: Of a worker's seconds.

    Example:
        >>> worker = Worker(16384, "x86_64", vcpus=4.0, cpu_name="AMD EPYC 7R13")
        >>> Server(price=Price(vcpu_hour=0.04, gib_hour=0.005)).cost(worker, seconds=3600.0)
        0.24
        >>> Server().cost(worker, seconds=3600.0) is None
        True
    """

    name: str = "server"
    price: Price | None = None
    definition: str = "marginal"

    region: ClassVar = None
    #: A worker's processor time is limited by itself, if at all.
    most_vcpus: ClassVar = None
    visible_cpus: ClassVar = None
    #: Whether something may limit a worker to fewer CPUs than the machine has.
    limits: ClassVar = True

    @property
    def memory_mb(self) -> tuple[float, float]:
        return 0.0, math.inf

    def size(self, memory_mb: float) -> float:
        return max(memory_mb, 1.0) / 1024

    def memory_of(self, size: float) -> float:
        return size * 1024

    def vcpus(self, worker: Worker) -> float | None:
        limit, machine = _cpus(worker.vcpus), _cpus(worker.logical_cpus)
        # A limit above the machine limits nothing.
        return limit if limit is None or machine is None else min(limit, machine)

    def share(self, worker: Worker) -> Share | None:
        machine = _cpus(worker.logical_cpus)
        limit = self.vcpus(worker)
        vcpus = limit or machine
        if not worker.cpu_name or vcpus is None:
            return None
        model = _model(worker.cpu_name, None if machine is None else int(machine))
        least = min(1.0, vcpus) if self.limits and limit is None else None
        memory_mb = _memory(worker)
        gib = None if memory_mb is None else memory_mb / 1024
        return Share(model, vcpus, gib, least)

    def watts(self, worker: Worker, busy_vcpus: float) -> Estimate | None:
        share = self.share(worker)
        if share is None:
            return None
        busy = busy_within(busy_vcpus, share.vcpus)
        found = self._watts(share, share.vcpus, busy)
        vcpus = share.vcpus if share.least_vcpus is None else max(share.least_vcpus, busy)
        # The curve of a processor is no straight line: any limit may have the widest band.
        while vcpus < share.vcpus:
            limited = self._watts(share, vcpus, busy)
            found = found._replace(
                low=min(found.low, limited.low), high=max(found.high, limited.high)
            )
            vcpus *= 2
        return found

    def _watts(self, share: Share, vcpus: float, busy: float) -> Estimate:
        """Watts of a worker that may use so many vCPUs of the machine."""
        power = share.model.share_watts(vcpus, busy, share.memory_gib)
        return power.total if self.definition == "amortised" else power.active

    def no_watts(self, worker: Worker) -> str | None:
        if self.share(worker) is not None:
            return None
        if not worker.cpu_name:
            return "the profiles name no processor (cpu_name), which the power model needs"
        return "the profiles tell no CPUs (cpu_cores_logical), which the power model needs"

    def cost(
        self, worker: Worker, seconds: float, workers: float = 1, rounded: bool = True
    ) -> float | None:
        check_billed(seconds, workers)
        if self.price is None or self.no_price(worker) is not None:
            return None
        vcpus, memory = self.price.vcpus or self.vcpus(worker) or 0.0, _memory(worker) or 0.0
        hourly = vcpus * self.price.vcpu_hour + memory / 1024 * self.price.gib_hour
        return seconds / 3600 * hourly

    def no_price(self, worker: Worker) -> str | None:
        if self.price is None:
            return (
                f"dollars are known of AWS Lambda only, and the profiles ran elsewhere "
                f"({self.name}): give the price of a vCPU-hour and of a GiB-hour"
            )
        if self.price.vcpu_hour > 0 and (self.price.vcpus or self.vcpus(worker)) is None:
            return "the profiles do not record the vCPUs of a worker: give their number"
        if self.price.gib_hour > 0 and _memory(worker) is None:
            return "the profiles do not say how much memory a worker had"
        return None


@dataclass(frozen=True)
class Kubernetes(Server):
    """Pods: a worker has what its pod's limits (where there is none, its requests) give.

    Lithops sets both alike. A worker sees its limits in its cgroup, and the profile's sidecar
    records them.

    Args:
        name: As Lithops calls its backend.
        price: Of a worker's seconds.
    """

    name: str = "k8s"


@dataclass(frozen=True)
class Localhost(Server):
    """The client's own machine.

    Args:
        price: Of a worker's seconds.
        here: It is the machine of this process, not that of a profile from elsewhere.
    """

    name: str = "localhost"
    here: bool = False

    #: Lithops runs plain processes there.
    limits: ClassVar = False

    def share(self, worker: Worker) -> Share | None:
        if not self.here:
            return super().share(worker)
        gib = _core.surroundings()["memory_gib"]
        return Share(PowerModel.for_machine(), float(os.cpu_count() or 1), gib)


@dataclass(frozen=True)
class FunctionSandbox(Server):
    """Sandboxes that exist for one function: their idle power is the call's.

    Neither what they cost nor how many vCPUs they have is known here.
    """

    name: str = "function sandbox"
    definition: str = "amortised"


@dataclass(frozen=True)
class Several(Server):
    """Profiles of more than one platform: there is no price and no power that holds for all."""

    name: str = "several platforms"

    def share(self, worker: Worker) -> Share | None:
        return None

    def no_watts(self, worker: Worker) -> str | None:
        return f"the profiles ran on several platforms ({self.name})"

    def no_price(self, worker: Worker) -> str | None:
        return (
            "dollars are known of AWS Lambda only, and the profiles ran on several platforms "
            f"({self.name}): give those of one"
        )


@dataclass(frozen=True)
class Unsaid(Server):
    """Where nothing says where it ran: any price and any power would be invented."""

    name: str = "unknown"

    def share(self, worker: Worker) -> Share | None:
        return None

    def no_watts(self, worker: Worker) -> str | None:
        return _UNSAID

    def no_price(self, worker: Worker) -> str | None:
        return f"{_UNSAID} (aws_cpu): name the platform"


_UNSAID = "the profile does not say where it ran"


def several(names: Iterable[str]) -> Several:
    """The platform of observations of these platforms."""
    # One of them may be several itself.
    return Several(", ".join(sorted({part for name in names for part in name.split(", ")})))


def _cpus(value: object) -> float | None:
    """A number of CPUs that a machine or a limit can have; ``None``: not known."""
    return positive(value, MOST_CPUS)


def _memory(worker: Worker) -> float | None:
    """Memory of a worker, MiB; ``None``: not known, or none was asked for."""
    return positive(worker.memory_mb, MOST_MEMORY_MB)


@lru_cache(maxsize=32)
def _model(cpu_name: str, logical_cpus: int | None) -> PowerModel:
    return PowerModel.for_cpu(cpu_name, logical_cpus)
