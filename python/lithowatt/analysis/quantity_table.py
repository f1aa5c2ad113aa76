"""The quantities of results: names, units, meanings. How each is made is in `quantities`.

Without NumPy, so that `lithowatt explain` can tell of them where it is not installed.
"""

from __future__ import annotations

from typing import NamedTuple


class Quantity(NamedTuple):
    """One quantity, a value a repetition.

    Attributes:
        name: In `metrics` of `stats`, and where `compare` and others take a quantity.
        unit: s, USD, J; `None` where it has none.
        meaning: What a repetition's value is.
        absent: When there is none.
    """

    name: str
    unit: str | None
    meaning: str
    absent: str


def _without(columns: str) -> str:
    return f"the profile has no {columns}"


#: In the order in which they are shown.
TABLE = (
    Quantity("read_s", "s", "mean over its workers of `read`", _without("`read`")),
    Quantity("compute_s", "s", "mean over its workers of `compute`", _without("`compute`")),
    Quantity("write_s", "s", "mean over its workers of `write`", _without("`write`")),
    Quantity(
        "cold_start_s", "s", "mean over its workers of `cold_start`", _without("`cold_start`")
    ),
    Quantity(
        "worker_time_s",
        "s",
        "mean over its workers of `worker_time_execution`",
        _without("`worker_time_execution`"),
    ),
    Quantity(
        "time_s",
        "s",
        "the slowest worker's cold start, read, compute and write together",
        _without("`cold_start`, `read`, `compute` or `write`"),
    ),
    Quantity(
        "time_without_queue_s",
        "s",
        "`time_s` of a repetition in which no worker waited longer than 30 s for its start",
        "a worker waited longer",
    ),
    Quantity(
        "worker_seconds_s",
        "s",
        "sum over its workers of `worker_time_execution`",
        _without("`worker_time_execution`"),
    ),
    Quantity(
        "cpu_seconds_s",
        "s",
        "sum over its workers of `cpu_time`; in profiles of FlexExecutor's energy fork of `TDP` "
        "times `cpu_cores_logical`",
        _without("`cpu_time`, nor the fork's `TDP` and `cpu_cores_logical`"),
    ),
    Quantity(
        "cpu_share",
        "1",
        "part of the guests' CPUs that was busy, 0 to 1",
        _without("CPU seconds, `worker_time_execution` or `cpu_cores_logical`"),
    ),
    Quantity(
        "cost_usd",
        "USD",
        "what AWS Lambda bills for its calls; elsewhere worker seconds at the price that was given",
        "it did not run on AWS Lambda and no price was given, or nothing says where it ran",
    ),
    Quantity(
        "energy_j",
        "J",
        "joules of its workers: the profile's own, else each worker's seconds times the watts of "
        "its share of a machine at its load, by the power model",
        "no joule was measured, and nothing says where it ran or how busy it was",
    ),
)
