"""The quantities of a repetition: times, CPU seconds, dollars, joules.

Each is made of the rows of one configuration, one value a repetition. A value that cannot be made
is NaN: the repetition lacks a column, or did not run where that has a price.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lithowatt.aws._lambda_cost import LambdaPrice
from lithowatt.profiles._runs import Bools, ConfigurationRuns, Floats

#: A start that took longer waited in a queue, s.
QUEUED_START_S = 30.0

#: What Lambda bills by, s.
BILLED_STEP_S = 0.001

#: Columns of which lithowatt writes one at least in each repetition of its own.
OURS = ("cpu_time", "energy", "energy_quality", "energy_method")


def is_ours(runs: ConfigurationRuns) -> bool:
    """Whether lithowatt wrote a configuration, or some of it: its `TDP` is joules."""
    return any(name in runs.columns for name in OURS)


def row_seconds(runs: ConfigurationRuns) -> Floats:
    """Each worker's cold start, read, compute and write together, s."""
    return (
        runs.numbers("cold_start")
        + runs.numbers("read")
        + runs.numbers("compute")
        + runs.numbers("write")
    )


def row_cpu_seconds(runs: ConfigurationRuns) -> Floats:
    """Each worker's CPU seconds.

    Our own profiles hold them as `cpu_time`. The energy fork's `TDP` is the worker's seconds times
    the guest's load from 0 to 1, so that times the logical CPUs it is CPU seconds. In a profile of
    ours `TDP` is joules: without a `cpu_time` it has no CPU seconds. No value is below 0, and no
    machine has no CPU: such a reading is none.
    """
    if "cpu_time" in runs.columns:
        return _not_negative(runs.numbers("cpu_time"))
    if is_ours(runs):
        return np.full(runs.rows, np.nan)
    cpus = runs.numbers("cpu_cores_logical")
    return np.asarray(_not_negative(runs.numbers("TDP")) * np.where(cpus > 0, cpus, np.nan))


def _not_negative(numbers: Floats) -> Floats:
    return np.where(numbers >= 0, numbers, np.nan)


def row_other_seconds(runs: ConfigurationRuns) -> Floats:
    """Each worker's seconds in no phase."""
    return np.asarray(
        runs.numbers("worker_time_execution")
        - runs.numbers("read")
        - runs.numbers("compute")
        - runs.numbers("write")
    )


def row_lambda(runs: ConfigurationRuns) -> Bools:
    """Of each worker, whether its rows say that it was an AWS Lambda."""
    column = runs.columns.get("aws_cpu")
    if column is None or column.codes is None:
        return np.zeros(runs.rows, dtype=bool)
    says = np.array([*("lambda:true" in one.lower() for one in column.labels), False])
    return np.asarray(says[column.codes])


def row_cost_usd(
    runs: ConfigurationRuns, price: LambdaPrice, *, everywhere: bool = False
) -> Floats:
    """What Lambda bills for each worker, USD; NaN for one that was no Lambda.

    Lambda bills each started millisecond. The rounding to nanoseconds before keeps a duration of
    a whole number of milliseconds from being billed as one more.

    Args:
        runs: The calls.
        price: Of them.
        everywhere: All ran on Lambda, whatever single rows say.
    """
    seconds = runs.numbers("worker_time_execution")
    milliseconds = np.ceil(np.round(seconds * 1000, 6))
    gib_s = milliseconds * BILLED_STEP_S * (runs.configuration.memory_mb / 1024)
    cost = gib_s * price.gb_second + price.request
    return cost if everywhere else np.where(row_lambda(runs), cost, np.nan)


def _means_of(column: str) -> Callable[[ConfigurationRuns], Floats]:
    return lambda runs: runs.mean_of(runs.numbers(column))


def cpu_share(runs: ConfigurationRuns) -> Floats:
    """The part of the guests' CPUs that was busy, 0 to 1."""
    # Of the energy fork's profiles these are TDP's seconds, see `row_cpu_seconds`.
    with np.errstate(invalid="ignore", divide="ignore"):
        busy = _not_negative(runs.numbers("TDP"))
        if is_ours(runs):
            busy = row_cpu_seconds(runs) / runs.numbers("cpu_cores_logical")
        return np.asarray(runs.sum_of(busy) / runs.sum_of(runs.numbers("worker_time_execution")))


def without_queued(runs: ConfigurationRuns) -> Floats:
    """The stage's seconds; NaN for a repetition in which a worker waited for its start."""
    queued = runs.max_of(runs.numbers("cold_start")) > QUEUED_START_S
    return np.where(queued, np.nan, runs.max_of(row_seconds(runs)))


#: Name (see `quantity_table`) to what makes it, a value a repetition. `cost_usd` and `energy_j`
#: need a platform as well.
QUANTITIES: dict[str, Callable[[ConfigurationRuns], Floats]] = {
    "read_s": _means_of("read"),
    "compute_s": _means_of("compute"),
    "write_s": _means_of("write"),
    "cold_start_s": _means_of("cold_start"),
    "worker_time_s": _means_of("worker_time_execution"),
    "time_s": lambda runs: runs.max_of(row_seconds(runs)),
    "time_without_queue_s": without_queued,
    "worker_seconds_s": lambda runs: runs.sum_of(runs.numbers("worker_time_execution")),
    "cpu_seconds_s": lambda runs: runs.sum_of(row_cpu_seconds(runs)),
    "cpu_share": cpu_share,
}
