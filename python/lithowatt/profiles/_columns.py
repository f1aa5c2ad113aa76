"""What a stage call's energy is called in FunctionTimes and in profiles, with units.

How stats become that is in `_values`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from lithowatt.profiles._values import plain_value


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
    Column("energy_low", "J", "lower end of the 95 % band of energy"),
    Column("energy_high", "J", "upper end of the 95 % band of energy"),
    Column("energy_quality", "text", "measured, attributed or modelled"),
    Column("energy_method", "text", "how energy was made, e.g. rapl+cputime"),
    Column("energy_definition", "text", "marginal (above idle) or amortised (with idle's share)"),
    Column("energy_idle_source", "text", "where the machine's idle power is from"),
    Column("energy_warnings", "text", "what makes these numbers doubtful, separated by ' | '"),
    Column("energy_marginal", "J", "this call's energy above idle"),
    Column("energy_amortised", "J", "this call's energy with its share of idle"),
    Column("energy_read", "J", "energy of the read phase (download)"),
    Column("energy_compute", "J", "energy of the compute phase"),
    Column("energy_write", "J", "energy of the write phase (upload)"),
    Column("cpu_time", "s", "CPU time of the call's process tree"),
    Column(
        "TDP",
        "J",
        "the power model: watts by utilisation and time, not the TDP in W. In profiles of "
        "FlexExecutor's energy fork it is no energy but busy seconds: the worker's time × the load "
        "of the guest's CPUs",
    ),
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
    Column("psutil_cpu_percent", "%", "mean use of all the machine's CPUs over the window"),
    Column("cpu_name", "text", "processor"),
    Column("cpu_architecture", "text", "x86_64 or aarch64"),
    Column("cpu_cores_physical", "count", "cores"),
    Column("cpu_cores_logical", "count", "hardware threads"),
    Column("aws_cpu", "text", "type:…|arch:…|lambda:…|mem:… on AWS"),
)

COLUMN_NAMES: tuple[str, ...] = tuple(column.name for column in PROFILE_COLUMNS)


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
    energy_idle_source: str | None = None
    energy_warnings: str | None = None
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

    @classmethod
    def profile_keys(cls) -> list[str]:
        """The columns that FlexExecutor itself writes and trains on."""
        return ["read", "compute", "write", "cold_start"]

    def __lt__(self, other: FunctionTimes) -> bool:
        return bool(self.total < other.total)  # type: ignore[operator]


def repetition(times: Sequence[Any], core: Sequence[str]) -> dict[str, list[list[Any]]]:
    """One repetition's columns: `core`, then ours, a value per worker."""
    return {
        name: [[plain_value(getattr(one, name, None)) for one in times]]
        for name in (*core, *COLUMN_NAMES)
    }
