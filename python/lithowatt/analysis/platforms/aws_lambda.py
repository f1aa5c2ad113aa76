"""AWS Lambda: memory buys vCPUs, GB-seconds have a price, each sandbox is one function's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

from lithowatt import _core
from lithowatt.analysis.platforms._platform import (
    DEFAULT_REGION,
    Share,
    Worker,
    busy_within,
    check_billed,
)
from lithowatt.aws._lambda_cost import MEMORY_MB, lambda_cost, lambda_price
from lithowatt.model._power import PowerModel
from lithowatt.profiles._given import MOST_MEMORY_MB
from lithowatt.profiles._values import positive

if TYPE_CHECKING:
    from lithowatt.estimate import Estimate


@dataclass(frozen=True)
class AwsLambda:
    """AWS Lambda in one region.

    Args:
        region: Of the prices.

    Example:
        >>> worker = Worker(memory_mb=1769, architecture="arm64")
        >>> AwsLambda().vcpus(worker)
        1.0
        >>> round(AwsLambda().cost(worker, seconds=10.0), 7)
        0.0002305
    """

    region: str = DEFAULT_REGION

    name: ClassVar = "aws_lambda"
    definition: ClassVar = "amortised"
    memory_mb: ClassVar = MEMORY_MB
    most_vcpus: ClassVar = 6.0
    #: A guest sees two, whatever its memory.
    visible_cpus: ClassVar = 2

    def size(self, memory_mb: float) -> float:
        # 0 MB is what FlexExecutor writes where no memory was asked for.
        return _core.lambda_vcpus(max(memory_mb, 1.0))

    def memory_of(self, size: float) -> float:
        return size * _core.LAMBDA_MB_PER_VCPU

    def vcpus(self, worker: Worker) -> float | None:
        memory = positive(worker.memory_mb, MOST_MEMORY_MB)
        return None if memory is None else _core.lambda_vcpus(memory)

    def share(self, worker: Worker) -> Share | None:
        vcpus = self.vcpus(worker)
        if vcpus is None:
            return None
        return Share(_model(worker.architecture), vcpus, worker.memory_mb / 1024)

    def watts(self, worker: Worker, busy_vcpus: float) -> Estimate | None:
        share = self.share(worker)
        if share is None:
            return None
        # Over a whole call a guest cannot use more than its memory buys, though a profile that
        # lithowatt did not write may state more.
        busy = busy_within(busy_vcpus, share.vcpus)
        return share.model.share_watts(share.vcpus, busy, share.memory_gib).total

    def no_watts(self, worker: Worker) -> str | None:
        return None if self.vcpus(worker) is not None else _NO_MEMORY

    def cost(
        self, worker: Worker, seconds: float, workers: float = 1, rounded: bool = True
    ) -> float | None:
        check_billed(seconds, workers)
        if self.no_price(worker) is not None:
            return None
        memory, architecture = worker.memory_mb, worker.architecture
        if rounded:
            each = seconds / workers
            return float(lambda_cost(each, memory, architecture, self.region, int(workers)))
        price = lambda_price(architecture, self.region)
        return seconds * memory / 1024 * price.gb_second + workers * price.request

    def no_price(self, worker: Worker) -> str | None:
        return None if self.vcpus(worker) is not None else _NO_MEMORY


_NO_MEMORY = "the profiles do not say how much memory a worker had, which buys its vCPUs"


@lru_cache(maxsize=8)
def _model(architecture: str) -> PowerModel:
    """The power model of Lambda's hosts: the same for each memory size."""
    return PowerModel.for_lambda(round(_core.LAMBDA_MB_PER_VCPU), architecture)
