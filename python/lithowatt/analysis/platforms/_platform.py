"""What a platform has to answer, and what it is asked about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from lithowatt._support.arguments import shown
from lithowatt.estimate import number
from lithowatt.profiles._given import MOST_CPUS
from lithowatt.profiles._values import finite, positive

if TYPE_CHECKING:
    from lithowatt.estimate import Estimate
    from lithowatt.model._power import PowerModel

#: Region of prices where nobody names one.
DEFAULT_REGION = "us-east-1"


class Worker(NamedTuple):
    """What one worker is given, as far as it is known.

    Attributes:
        memory_mb: Memory, MiB; 0 where none was asked for.
        architecture: ``x86_64`` or ``arm64``.
        vcpus: vCPUs that it may use: the limit of a pod or a cgroup, or all CPUs of the machine;
            ``None``: not known, or bought with the memory.
        cpu_name: Processor of its machine.
        logical_cpus: Hardware threads of its machine.
    """

    memory_mb: float
    architecture: str
    vcpus: float | None = None
    cpu_name: str | None = None
    logical_cpus: int | None = None


class Share(NamedTuple):
    """The part of a machine that a worker has.

    Attributes:
        model: Power of the machine.
        vcpus: Hardware threads of it.
        memory_gib: Memory, GiB; ``None`` where its size is not known.
        least_vcpus: The fewest that a limit may leave it, where nobody recorded its limit and
            ``vcpus`` are all of the machine; ``None``: ``vcpus`` are what it may use.
    """

    model: PowerModel
    vcpus: float
    memory_gib: float | None
    least_vcpus: float | None = None


@dataclass(frozen=True)
class Price:
    """What the seconds of a worker cost where no table says it.

    A worker costs ``vcpus * vcpu_hour + memory in GiB * gib_hour`` for each hour that it runs.

    Args:
        vcpu_hour: USD for one vCPU and one hour.
        gib_hour: USD for one GiB (2**30 bytes) of memory and one hour.
        vcpus: vCPUs that a worker is billed for; by default those that its profile records.

    Raises:
        ValueError: For what is no number of 0 or more, and for two prices of 0.

    Example:
        >>> Price(vcpu_hour=0.04, gib_hour=0.005).vcpus is None
        True
    """

    vcpu_hour: float = 0.0
    gib_hour: float = 0.0
    vcpus: float | None = None

    def __post_init__(self) -> None:
        for name in ("vcpu_hour", "gib_hour"):
            value = finite(getattr(self, name))
            if value is None or not 0 <= value <= _MOST_USD:
                raise ValueError(
                    f"{name} {shown(getattr(self, name))} is not a number of USD, 0 or more "
                    f"and up to {_MOST_USD:g}"
                )
        if self.vcpu_hour == 0 == self.gib_hour:
            raise ValueError("a price needs vcpu_hour or gib_hour above 0 USD; both are 0")
        if self.vcpus is not None and positive(self.vcpus, MOST_CPUS) is None:
            raise ValueError(
                f"vcpus {shown(self.vcpus)} is not a number above 0 and up to {MOST_CPUS}"
            )


#: More than any hour of a vCPU or a GiB costs; products of it stay far from infinite.
_MOST_USD = 1e9


def check_billed(seconds: object, workers: object) -> None:
    """Refuses what no platform can have a cost of.

    Raises:
        ValueError: Unless seconds are 0 or more and workers above 0.
    """
    lasted, count = number(seconds), number(workers)
    if lasted is None or lasted < 0:
        raise ValueError(f"seconds {shown(seconds)} is not a number of 0 or more")
    if count is None or count <= 0:
        raise ValueError(f"workers {shown(workers)} is not a number above 0")


def busy_within(busy_vcpus: object, vcpus: float) -> float:
    """Busy vCPUs of a worker, no fewer than 0 and no more than the vCPUs that it may use.

    Raises:
        ValueError: For what is no finite number.
    """
    busy = number(busy_vcpus)
    if busy is None:
        raise ValueError(f"busy_vcpus {shown(busy_vcpus)} is not a finite number")
    return min(max(busy, 0.0), vcpus)


class Platform(Protocol):
    """Where a stage runs: what its workers are given, what they cost and how much power they take.

    All that the analysis of profiles knows of a provider or a machine is behind these names.
    """

    @property
    def name(self) -> str:
        """As Lithops calls its backend, and as a profile's sidecar names it."""

    @property
    def region(self) -> str | None:
        """Region of its prices; ``None`` where no table has any."""

    @property
    def definition(self) -> str:
        """Which joules a call has there: ``marginal`` or ``amortised``."""

    @property
    def memory_mb(self) -> tuple[float, float]:
        """Least and most memory that a worker can have, MiB."""

    @property
    def most_vcpus(self) -> float | None:
        """Most vCPUs that memory buys; ``None`` where memory buys no vCPUs."""

    @property
    def visible_cpus(self) -> int | None:
        """CPUs that every worker sees, whatever it is given; ``None`` where they differ."""

    def size(self, memory_mb: float) -> float:
        """The size of a worker that quantities are fitted over.

        The vCPUs that its memory buys, or its memory in GiB where memory buys none.
        """

    def memory_of(self, size: float) -> float:
        """Memory in MiB of a worker of this `size`."""

    def vcpus(self, worker: Worker) -> float | None:
        """vCPUs that a worker may use; ``None`` where they are not known."""

    def share(self, worker: Worker) -> Share | None:
        """The part of a machine that a worker has; ``None`` where `no_watts` says why."""

    def watts(self, worker: Worker, busy_vcpus: float) -> Estimate | None:
        """Watts that one worker is charged with so many busy vCPUs, by the platform's `definition`.

        Best estimate, low and high (95 %), and the model; ``None`` where `no_watts` says why. More
        busy vCPUs than the worker may use count as all of these.

        Raises:
            ValueError: For busy vCPUs that are no finite number.
        """

    def no_watts(self, worker: Worker) -> str | None:
        """Why `watts` has no answer for such a worker; ``None`` where it has one."""

    def cost(
        self, worker: Worker, seconds: float, workers: float = 1, rounded: bool = True
    ) -> float | None:
        """US dollars of workers that run for so many seconds together.

        Args:
            worker: One of them; all are alike.
            seconds: Of all workers, s.
            workers: How many; any number above 0 where nothing is rounded.
            rounded: As it is billed; else a smooth function of time, for optimisers.

        Returns:
            ``None`` where `no_price` says why.

        Raises:
            ValueError: For a region whose prices are not known, seconds that are no number of 0 or
                more, and workers that are no number above 0.
        """

    def no_price(self, worker: Worker) -> str | None:
        """Why `cost` has no answer for such a worker; ``None`` where it has one."""
