"""What a stage call's energy is called in FunctionTimes and in profiles, and how stats become that.

In the stats dict `rapl_*` and `perf_*` are readings of the whole machine;
FunctionTimes and profiles are summed over workers, so there they are this
call's share, and the machine's totals are called `machine_*`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

PREFIX = "worker_func_"


#: Attribute of a FunctionTimes that came from a worker: its values as they were there.
RIDING = "_lithowatt_values"


class Column(NamedTuple):
    """A metric that lithowatt adds to FunctionTimes and profiles.

    Attributes:
        name: Attribute and column name.
        unit: J, s, % (0..100), or `text` / `count`.
        meaning: What it is.
    """

    name: str
    unit: str
    meaning: str


_SHARE = "this call's share of the machine's reading in its window"

#: The columns, in the order in which profiles get them.
PROFILE_COLUMNS: tuple[Column, ...] = (
    Column("time_consumption", "s", "the task in the worker, Lithops' worker_exec_time"),
    Column("worker_time_execution", "s", "from the worker's start stamp to its end stamp"),
    Column("measurement_energy", "text", "methods that took part: perf, rapl, ebpf, psutil"),
    Column("energy", "J", "best estimate of this call's energy"),
    Column("energy_low", "J", "lower end of its 95 % band"),
    Column("energy_high", "J", "upper end of its 95 % band"),
    Column("energy_quality", "text", "measured, attributed or modelled"),
    Column("energy_method", "text", "how it was made, e.g. rapl+cputime"),
    Column("energy_definition", "text", "marginal (above idle) or amortised (with idle's share)"),
    Column("energy_marginal", "J", "above idle"),
    Column("energy_amortised", "J", "with this call's share of idle"),
    Column("energy_read", "J", "of the read phase (download)"),
    Column("energy_compute", "J", "of the compute phase"),
    Column("energy_write", "J", "of the write phase (upload)"),
    Column("cpu_time", "s", "CPU time of the call's process tree"),
    Column("TDP", "J", "the power model: watts by utilisation and time, not the TDP in W"),
    Column("perf_energy_pkg", "J", f"packages by perf: {_SHARE}"),
    Column("perf_energy_cores", "J", f"cores by perf: {_SHARE}"),
    Column("perf_energy_total", "J", f"packages and DRAM by perf: {_SHARE}"),
    Column("rapl_energy_pkg", "J", f"packages by powercap: {_SHARE}"),
    Column("rapl_energy_cores", "J", f"cores by powercap: {_SHARE}"),
    Column("rapl_energy_total", "J", f"packages and DRAM by powercap: {_SHARE}"),
    Column("ebpf_energy_pkg", "J", "packages, attributed by eBPF"),
    Column("ebpf_energy_cores", "J", "cores, attributed by eBPF"),
    Column("ebpf_energy_total", "J", "packages and DRAM, attributed by eBPF"),
    Column("machine_energy", "J", "the whole machine in this call's window; never sum it"),
    Column("machine_energy_idle", "J", "the machine's idle part in the window; never sum it"),
    Column("machine_energy_others", "J", "what others used in the window; never sum it"),
    Column("psutil_cpu_percent", "%", "of all the machine's CPUs, over the window"),
    Column("cpu_name", "text", "processor"),
    Column("cpu_architecture", "text", "x86_64 or aarch64"),
    Column("cpu_cores_physical", "count", "cores"),
    Column("cpu_cores_logical", "count", "hardware threads"),
    Column("aws_cpu", "text", "type:…|arch:…|lambda:…|mem:… on AWS"),
)

COLUMN_NAMES: tuple[str, ...] = tuple(column.name for column in PROFILE_COLUMNS)

#: Columns taken over from the stats as they are.
_COPIED = {
    "measurement_energy": "energy_method_used",
    "energy": "energy_consumption",
    "energy_low": "energy_low",
    "energy_high": "energy_high",
    "energy_quality": "energy_quality",
    "energy_method": "energy_method",
    "energy_definition": "energy_definition",
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

#: Readings of the machine, of which a call gets its share.
_SHARED = tuple(
    f"{method}_energy_{domain}"
    for method in ("perf", "rapl")
    for domain in ("pkg", "cores", "total")
)


@dataclass
class FunctionTimes:
    """One stage call: its times in s and its energy in J.

    FlexExecutor's class of this name with the fields of `PROFILE_COLUMNS`, for
    code that runs without FlexExecutor. `None` is what could not be measured.
    """

    read: float | None = None
    compute: float | None = None
    write: float | None = None
    cold_start: float | None = None
    total: float | None = None
    time_consumption: float | None = None
    worker_time_execution: float | None = None
    measurement_energy: str | None = None
    energy: float | None = None
    energy_low: float | None = None
    energy_high: float | None = None
    energy_quality: str | None = None
    energy_method: str | None = None
    energy_definition: str | None = None
    energy_marginal: float | None = None
    energy_amortised: float | None = None
    energy_read: float | None = None
    energy_compute: float | None = None
    energy_write: float | None = None
    cpu_time: float | None = None
    TDP: float | None = None
    perf_energy_pkg: float | None = None
    perf_energy_cores: float | None = None
    perf_energy_total: float | None = None
    rapl_energy_pkg: float | None = None
    rapl_energy_cores: float | None = None
    rapl_energy_total: float | None = None
    ebpf_energy_pkg: float | None = None
    ebpf_energy_cores: float | None = None
    ebpf_energy_total: float | None = None
    machine_energy: float | None = None
    machine_energy_idle: float | None = None
    machine_energy_others: float | None = None
    psutil_cpu_percent: float | None = None
    cpu_name: str | None = None
    cpu_architecture: str | None = None
    cpu_cores_physical: int | None = None
    cpu_cores_logical: int | None = None
    aws_cpu: str | None = None


def energy_values(stats: Mapping[str, Any]) -> dict[str, Any]:
    """The FunctionTimes fields of one call, from its stats.

    Args:
        stats: `future.stats` of Lithops, or `EnergyMeter.stats()`: keys
            `worker_func_*`, J, s, MiB, %.

    Returns:
        A value for each of `COLUMN_NAMES`; `None` where it is unavailable.

    Example:
        >>> values = energy_values(
        ...     {
        ...         "worker_func_energy_consumption": 2.0,
        ...         "worker_func_energy_machine": 10.0,
        ...         "worker_func_energy_quality": "attributed",
        ...         "worker_func_rapl_energy_pkg": 8.0,
        ...     }
        ... )
        >>> values["energy"], values["rapl_energy_pkg"], values["machine_energy"]
        (2.0, 1.6, 10.0)
        >>> values["perf_energy_pkg"] is None
        True
    """

    def of(key: str) -> Any:
        return stats.get(PREFIX + key)

    values: dict[str, Any] = dict.fromkeys(COLUMN_NAMES)
    values["time_consumption"] = stats.get("worker_exec_time")
    start, end = _number(stats.get("worker_start_tstamp")), _number(stats.get("worker_end_tstamp"))
    if start is not None and end is not None and end >= start:
        values["worker_time_execution"] = end - start
    for name, key in _COPIED.items():
        values[name] = of(key)
    share = _share(of("energy_consumption"), of("energy_machine"))
    for name in _SHARED:
        reading = _number(of(name))
        if reading is not None and share is not None:
            values[name] = reading * share
    info = stats.get("worker_processor_info")
    info = info if isinstance(info, dict) else {}
    values["cpu_name"] = stats.get("worker_processor_name") or of("psutil_cpu_name")
    values["cpu_architecture"] = info.get("architecture") or of("psutil_cpu_architecture")
    values["cpu_cores_physical"] = stats.get("worker_processor_cores")
    values["cpu_cores_logical"] = stats.get("worker_processor_threads")
    values["aws_cpu"] = _aws_cpu(of)
    return {name: plain_value(value) for name, value in values.items()}


def _share(call: Any, machine: Any) -> float | None:
    """The part of the machine's energy that this call is charged, 0..1."""
    part, whole = _number(call), _number(machine)
    if part is None or whole is None or whole <= 0:
        return None
    return min(max(part / whole, 0.0), 1.0)


def _aws_cpu(of: Any) -> str | None:
    kind, is_lambda, memory = of("aws_instance_type"), of("aws_is_lambda"), of("aws_memory_size")
    if not (kind or is_lambda or memory):
        return None  # not on AWS
    return (
        f"type:{kind or 'unknown'}|arch:{of('aws_architecture') or 'unknown'}"
        f"|lambda:{bool(is_lambda)}|mem:{memory or 'unknown'}"
    )


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def plain_value(value: Any) -> Any:
    """A value that a profile can hold, `None` for what is no finite number and no text."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return _number(value)


def has_energy(stats: Any) -> bool:
    """Whether a call's stats were made by lithowatt in its worker."""
    return isinstance(stats, Mapping) and any(
        # A message with little room carries the headline only.
        stats.get(PREFIX + key) is not None
        for key in ("energy_schema", "energy_consumption")
    )


def apply_energy(function_times: Any, stats: Mapping[str, Any]) -> Any:
    """Sets a call's energy on its FunctionTimes; returns it.

    Args:
        function_times: FlexExecutor's FunctionTimes, ours, or any object that
            takes attributes.
        stats: The call's `future.stats`, or `EnergyMeter.stats()`.

    What the stats do not have becomes `None`, except the two times of the
    worker, which only Lithops' own stats carry: those stay as they are.

    Example:
        >>> apply_energy(FunctionTimes(read=0.1), {"worker_func_energy_consumption": 1.5}).energy
        1.5
    """
    for name, value in energy_values(stats).items():
        if value is None and name in ("time_consumption", "worker_time_execution"):
            continue
        setattr(function_times, name, value)
    return function_times


def repetition(times: Sequence[Any], core: Sequence[str]) -> dict[str, list[list[Any]]]:
    """One repetition's columns: `core`, then ours, a value per worker."""
    return {
        name: [[plain_value(getattr(one, name, None)) for one in times]]
        for name in (*core, *COLUMN_NAMES)
    }
