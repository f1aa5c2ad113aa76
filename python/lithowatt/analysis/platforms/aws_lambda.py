"""AWS Lambda: memory buys vCPUs, GB-seconds have a price, each sandbox is one function's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

from lithowatt import _core
from lithowatt.analysis.platforms._platform import DEFAULT_REGION, Share, Worker
from lithowatt.aws._lambda_cost import MEMORY_MB, lambda_cost, lambda_price
from lithowatt.model._power import PowerModel

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

    def vcpus(self, worker: Worker) -> float:
        return _core.lambda_vcpus(worker.memory_mb)

    def share(self, worker: Worker) -> Share:
        return Share(_model(worker.architecture), self.vcpus(worker), worker.memory_mb / 1024)

    def watts(self, worker: Worker, busy_vcpus: float) -> Estimate:
        # Over a whole call a guest cannot use more than its memory buys, though a profile that
        # lithowatt did not write may state more.
        model, vcpus, gib = self.share(worker)
        return model.share_watts(vcpus, min(max(busy_vcpus, 0.0), vcpus), gib).total

    def no_watts(self, worker: Worker) -> str | None:
        return None

    def cost(
        self, worker: Worker, seconds: float, workers: float = 1, rounded: bool = True
    ) -> float:
        memory, architecture = worker.memory_mb, worker.architecture
        if rounded:
            each = seconds / workers
            return float(lambda_cost(each, memory, architecture, self.region, int(workers)))
        price = lambda_price(architecture, self.region)
        return seconds * memory / 1024 * price.gb_second + workers * price.request

    def no_price(self, worker: Worker) -> str | None:
        return None


@lru_cache(maxsize=8)
def _model(architecture: str) -> PowerModel:
    """The power model of Lambda's hosts: the same for each memory size."""
    return PowerModel.for_lambda(round(_core.LAMBDA_MB_PER_VCPU), architecture)
