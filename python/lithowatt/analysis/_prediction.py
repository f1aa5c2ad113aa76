"""About a configuration: a prediction, and how it compares with what was profiled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Band(NamedTuple):
    """A value and the 95 % band about it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Prediction:
    """One stage run in one configuration.

    Attributes:
        workers: Workers that run.
        memory_mb: Memory per worker, MB; 0 where none was asked for.
        architecture: ``x86_64`` or ``arm64``.
        time: Latency of the stage, s: the slowest worker's cold start, read, compute and write;
            the mean over all runs, also those in which a worker waited for its start.
        cpu_seconds: CPU time of all workers, s; ``None`` where the profiles have none.
        energy: Joules of all workers. Its band holds all that is not known, the power model's
            error included.
        energy_fit: The same joules with the band of the prediction alone: what counts between
            configurations of one architecture, which share the power model's error.
        energy_quality: ``measured``, ``attributed`` or ``modelled``; ``None`` without energy.
        cost: US dollars, requests included; ``None`` where ``cost_reason`` says why.
        edp: Energy × time, J·s, band as of ``energy_fit``.
        worker_time: Billed time of one worker, s.
        phases: ``cold_start``, ``read``, ``compute``, ``write`` of the mean worker, s.
        profiled: Whether the profiles hold this very configuration.
        inside: Whether it lies between profiled ones; else it is extrapolated.
        vcpus: vCPUs that a worker may use: what its memory buys or what the profile records;
            ``None`` where it records none.
        cost_reason: Why there is no cost; ``None`` with one.
        energy_reason: Why there is no energy; ``None`` with it.
        memory_given_mb: Memory that a worker has where none was asked for, MB; ``None`` where some
            was, or where the profiles do not tell.
        runs: Repetitions that these are the means of, each band their t interval; ``None`` where
            the figures are those of a model.
        requested: Numbers of workers that were asked for where these ran.
        time_without_queue: As ``time``, of the runs in which no worker waited for its start.
        runs_without_queue: How many these are.
        kept: Probability that the means keep the bounds that were asked for, of the one that is
            kept least surely; ``None`` without bounds.
        best: Probability that it is the best by the mean of what was minimised.
        tied: Whether nothing tells it from the best.
    """

    workers: int
    memory_mb: float
    architecture: str
    time: Band
    cpu_seconds: Band | None
    energy: Band | None
    energy_fit: Band | None
    energy_quality: str | None
    cost: Band | None
    edp: Band | None
    worker_time: Band
    phases: Mapping[str, Band]
    profiled: bool
    inside: bool
    vcpus: float | None = None
    cost_reason: str | None = None
    energy_reason: str | None = None
    memory_given_mb: float | None = None
    runs: int | None = None
    requested: tuple[int, ...] = ()
    time_without_queue: Band | None = None
    runs_without_queue: int | None = None
    kept: float | None = None
    best: float | None = None
    tied: bool = False


class HeldOut(NamedTuple):
    """One configuration, predicted without itself.

    Attributes:
        workers, memory_mb, architecture: The configuration.
        quantity: One of ``time``, ``cpu_seconds``, ``energy``, ``cost``.
        actual: The profile's value, mean over all repetitions.
        predicted: What was predicted without it, with its band.
    """

    workers: int
    memory_mb: float
    architecture: str
    quantity: str
    actual: float
    predicted: Band

    @property
    def error(self) -> float:
        """Predicted over actual, less 1."""
        return self.predicted.value / self.actual - 1

    @property
    def covered(self) -> bool:
        """Whether the band holds the actual value."""
        return self.predicted.low <= self.actual <= self.predicted.high
