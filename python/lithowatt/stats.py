"""The stats as Lithops and FlexExecutor carry them: `worker_func_` before the plain keys.

A flat dict of a reading has plain keys (`Reading.flat()`). Lithops gives each value of a worker a
key that begins with `worker_`, and those of the function's process `worker_func_`, and FlexExecutor
reads some by names of its own. That is data here; the core writes both forms from one table, so
that a worker leaves its stats as text without a dict in between.

This is below the meter, whose `stats()` has these keys by contract, and imports nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

#: How a number was obtained, the best first: of several that are added, the worst counts.
QUALITIES = ("measured", "attributed", "modelled")

#: Before the plain name of each key.
PREFIX = "worker_func_"

#: Keys with other names, or with several: FlexExecutor and its users read these.
RENAMED: dict[str, tuple[str, ...]] = {
    "rapl_energy_package": (PREFIX + "rapl_energy_pkg",),
    "rapl_energy_core": (PREFIX + "rapl_energy_cores",),
    "perf_energy_package": (PREFIX + "perf_energy_pkg",),
    "perf_energy_core": (PREFIX + "perf_energy_cores",),
    "ebpf_energy_package": (PREFIX + "ebpf_energy_pkg",),
    "ebpf_energy_core": (PREFIX + "ebpf_energy_cores",),
    "processor_name": (PREFIX + "psutil_cpu_name", "worker_processor_name"),
    "processor_brand": (PREFIX + "psutil_cpu_brand", "worker_processor_brand"),
    "processor_architecture": (
        PREFIX + "psutil_cpu_architecture",
        PREFIX + "aws_architecture",
    ),
    "processor_cores": (PREFIX + "psutil_cpu_cores_physical", "worker_processor_cores"),
    "processor_threads": (PREFIX + "psutil_cpu_cores_logical", "worker_processor_threads"),
    "processor_frequency": (PREFIX + "psutil_cpu_frequency",),
    "processor_info": ("worker_processor_info",),
}

#: Plain keys of the essential stats (``ENERGY_STATS=essential``): the headline with its band and
#: where it is from, the parts of the machine's energy, the phases, and what `FunctionTimes`,
#: profiles and tables of calls are made of. Sources of each method and what only describes the
#: machine are left out.
ESSENTIAL: tuple[str, ...] = (
    "energy_consumption",
    "energy_low",
    "energy_high",
    "energy_quality",
    "energy_method",
    "energy_source",
    "energy_method_used",
    "energy_duration",
    "energy_cpu_time",
    "energy_marginal",
    "energy_amortised",
    "energy_definition",
    "energy_machine",
    "energy_idle",
    "energy_others",
    "energy_idle_source",
    "energy_phase_read",
    "energy_phase_compute",
    "energy_phase_write",
    "energy_warnings",
    "avg_cpu_usage",
    "rapl_energy_package",
    "rapl_energy_core",
    "rapl_energy_total",
    "perf_energy_package",
    "perf_energy_core",
    "perf_energy_total",
    "ebpf_energy_package",
    "ebpf_energy_core",
    "ebpf_energy_total",
    "tdp_energy",
    "gpu_energy_attributed",
    "psutil_cpu_percent",
    "processor_name",
    "processor_architecture",
    "processor_cores",
    "processor_threads",
    "aws_instance_type",
    "aws_is_lambda",
    "aws_memory_size",
    "energy_schema",
)


def spelt(plain: str) -> tuple[str, ...]:
    """The names of a plain key in these stats.

    Example:
        >>> spelt("energy_low"), spelt("rapl_energy_core")
        (('worker_func_energy_low',), ('worker_func_rapl_energy_cores',))
    """
    return RENAMED.get(plain) or (PREFIX + plain,)


def value_of(stats: Mapping[str, Any], plain: str) -> Any:
    """The value of a key in stats of either form, `None` where it is missing.

    Args:
        stats: With these keys or with plain ones.
        plain: The key without its prefix.

    Example:
        >>> value_of({"worker_func_energy_low": 1.5}, "energy_low")
        1.5
        >>> value_of({"energy_low": 1.5}, "energy_low")
        1.5
    """
    for name in (*spelt(plain), plain):
        value = stats.get(name)
        if value is not None:
            return value
    return None
