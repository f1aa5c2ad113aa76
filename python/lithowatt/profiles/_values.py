"""How a call's stats become its FunctionTimes fields.

In the stats dict `rapl_*` and `perf_*` are readings of the whole machine;
FunctionTimes and profiles are summed over workers, so there they are this
call's share, and the machine's totals are called `machine_*`.

A worker loads this for each call, so it imports next to nothing; units and
meanings of the fields are in `_columns`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from lithowatt.stats import PREFIX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Attribute of a FunctionTimes that came from a worker: its values as they were there.
RIDING = "_lithowatt_values"

#: Keys that every message of lithowatt has one of, and that no other meter writes: the Lithops
#: that came with FlexExecutor's energy fork has an `energy_consumption`, `energy_duration` and
#: `energy_method_used` of its own, and its consumption is percent times CPU seconds. The first is
#: in every message with room for it.
_MARKS = (
    "energy_schema",
    "energy_quality",
    "energy_definition",
    "energy_low",
    "energy_machine",
    "tdp_energy",
)

#: Between the warnings of one call, which are one text in a profile.
WARNING_SEPARATOR = " | "

#: Columns taken over from the stats as they are.
_COPIED = {
    "measurement_energy": "energy_method_used",
    "energy": "energy_consumption",
    "energy_low": "energy_low",
    "energy_high": "energy_high",
    "energy_quality": "energy_quality",
    "energy_method": "energy_method",
    "energy_definition": "energy_definition",
    "energy_idle_source": "energy_idle_source",
    "energy_marginal": "energy_marginal",
    "energy_amortised": "energy_amortised",
    "energy_read": "energy_phase_read",
    "energy_compute": "energy_phase_compute",
    "energy_write": "energy_phase_write",
    "cpu_time": "energy_cpu_time",
    "TDP": "tdp_energy",
    "ebpf_energy_pkg": "ebpf_energy_pkg",
    "ebpf_energy_cores": "ebpf_energy_cores",
    "ebpf_energy_total": "ebpf_energy_total",
    "machine_energy": "energy_machine",
    "machine_energy_idle": "energy_idle",
    "machine_energy_others": "energy_others",
    "psutil_cpu_percent": "psutil_cpu_percent",
}

#: Fields that only Lithops' own stats give.
TASK_TIMES = ("time_consumption", "worker_time_execution")

#: Fields that describe the machine and not the call.
DESCRIPTIONS = (
    "cpu_name",
    "cpu_architecture",
    "cpu_cores_physical",
    "cpu_cores_logical",
    "aws_cpu",
)

#: Readings of the machine, of which a call gets its share.
_SHARED = tuple(
    f"{method}_energy_{domain}"
    for method in ("perf", "rapl")
    for domain in ("pkg", "cores", "total")
)


def energy_values(stats: Mapping[str, Any]) -> dict[str, Any]:
    """The FunctionTimes fields of one call, from its stats.

    Args:
        stats: `future.stats` of Lithops, or `EnergyMeter.stats()`; J, s, MiB, %.

    Returns:
        A value for each of `lithowatt.flexecutor.COLUMN_NAMES`; `None` where it is unavailable.
        Joules and powers are `None` where the stats are not lithowatt's, see `has_energy`.

    Example:
        >>> values = energy_values(
        ...     {
        ...         PREFIX + "energy_schema": 1,
        ...         PREFIX + "energy_consumption": 2.0,
        ...         PREFIX + "energy_machine": 10.0,
        ...         PREFIX + "energy_quality": "attributed",
        ...         PREFIX + "rapl_energy_pkg": 8.0,
        ...     }
        ... )
        >>> values["energy"], values["rapl_energy_pkg"], values["machine_energy"]
        (2.0, 1.6, 10.0)
        >>> values["perf_energy_pkg"] is None
        True
    """

    ours = has_energy(stats)

    def of(key: str) -> Any:
        return stats.get(PREFIX + key)

    def metered(key: str) -> Any:
        return of(key) if ours else None

    start, end = finite(stats.get("worker_start_tstamp")), finite(stats.get("worker_end_tstamp"))
    lasted = end - start if start is not None and end is not None and end >= start else None
    share = _share(metered("energy_consumption"), metered("energy_machine"))
    readings = {name: finite(metered(name)) for name in _SHARED}
    info = stats.get("worker_processor_info")
    info = info if isinstance(info, dict) else {}
    values = {
        "time_consumption": stats.get("worker_exec_time"),
        "worker_time_execution": lasted,
        **{name: metered(key) for name, key in _COPIED.items()},
        "energy_warnings": _joined(metered("energy_warnings")),
        **{
            name: None if reading is None or share is None else reading * share
            for name, reading in readings.items()
        },
        "cpu_name": stats.get("worker_processor_name") or of("psutil_cpu_name"),
        "cpu_architecture": info.get("architecture") or of("psutil_cpu_architecture"),
        "cpu_cores_physical": stats.get("worker_processor_cores"),
        "cpu_cores_logical": stats.get("worker_processor_threads"),
        "aws_cpu": _aws_cpu(of),
    }
    return {name: plain_value(value) for name, value in values.items()}


def _share(call: Any, machine: Any) -> float | None:
    """The part of the machine's energy that this call is charged, 0..1."""
    part, whole = finite(call), finite(machine)
    if part is None or whole is None or whole <= 0:
        return None
    return min(max(part / whole, 0.0), 1.0)


def _joined(warnings: Any) -> str | None:
    if not isinstance(warnings, (list, tuple)):
        return None
    return WARNING_SEPARATOR.join(str(text) for text in warnings) or None


def _aws_cpu(of: Any) -> str | None:
    names = ("aws_instance_type", "aws_is_lambda", "aws_memory_size", "aws_architecture")
    values = {name: of(name) for name in names}
    if not any(values[name] for name in names[:3]):
        return None  # not on AWS, where nothing more need be loaded
    from lithowatt.aws._info import extract_aws_energy_info

    return extract_aws_energy_info(values)


def finite(value: Any) -> float | None:
    """A finite number as a float, `None` for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:  # 10^400, which JSON can hold and a float cannot
        return None
    return number if math.isfinite(number) else None


def positive(value: Any, most: float = math.inf) -> float | None:
    """A finite number above 0 and up to ``most``, `None` for anything else."""
    number = finite(value)
    return number if number is not None and 0 < number <= most else None


def plain_value(value: Any) -> Any:
    """A value that a profile can hold, `None` for what is no finite number and no text."""
    if isinstance(value, str):
        return value or None
    item = getattr(value, "item", None)
    if item is not None and getattr(value, "ndim", None) == 0:
        value = item()  # a number of NumPy's
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return finite(value)


def has_energy(stats: Any) -> bool:
    """Whether a call's stats were made by lithowatt in its worker.

    Example:
        >>> has_energy({PREFIX + "energy_schema": 1})
        True
        >>> has_energy({PREFIX + "energy_consumption": 262588.8})  # somebody else's
        False
    """
    return isinstance(stats, Mapping) and any(stats.get(PREFIX + key) is not None for key in _MARKS)


def apply_energy(function_times: Any, stats: Mapping[str, Any]) -> Any:
    """Sets a call's energy on its FunctionTimes; returns it.

    Args:
        function_times: FlexExecutor's FunctionTimes, ours, or any object that
            takes attributes.
        stats: The call's `future.stats`, or `EnergyMeter.stats()`.

    What the stats do not have becomes `None`, except the two times of the
    worker, which only Lithops' own stats carry: those stay as they are. Stats of
    another meter (see `has_energy`) have no energy.

    Example:
        >>> from lithowatt.flexecutor import FunctionTimes
        >>> stats = {PREFIX + "energy_schema": 1, PREFIX + "energy_consumption": 1.5}
        >>> apply_energy(FunctionTimes(read=0.1), stats).energy
        1.5
    """
    set_values(function_times, energy_values(stats))
    return function_times


def set_values(function_times: Any, values: Mapping[str, Any]) -> None:
    """Sets these fields; a time of the worker's that is not known stays as it is."""
    for name, value in values.items():
        if value is not None or name not in TASK_TIMES or not hasattr(function_times, name):
            setattr(function_times, name, value)
