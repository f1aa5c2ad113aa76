"""A trace of counters that somebody else has read, such as those of published measurements."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lithowatt import _core
from lithowatt.trace._file import framed, packed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_BLOCK_ROWS = 4096

_BEGIN, _SAMPLE, _END = range(3)


@dataclass(frozen=True)
class Counter:
    """One energy counter.

    Attributes:
        name: As the kernel names it: ``package-0``, ``dram``, ``psys``.
        domain: ``package``, ``core``, ``uncore``, ``dram`` or ``psys``.
        package: The socket.
        unit_joules: Joules per count.
        modulus: The count at which it wraps; ``None`` where it does not.
        method: ``rapl`` or ``perf``.
    """

    name: str
    domain: str
    package: int = 0
    unit_joules: float = 1e-6
    modulus: int | None = None
    method: str = "rapl"


def of_counters(
    counters: Sequence[Counter],
    rows: Iterable[tuple[int, Sequence[int | None]]],
    *,
    cpu: str,
    cpus: int,
    sockets: int = 1,
    memory_gib: float | None = None,
    slack_ns: int = 0,
) -> bytes:
    """The file of a trace with these counts.

    Nothing is known of CPU times, so its readings hold what the counters counted, with bands, and
    no share of it.

    Args:
        counters: The counters, in the order of the counts.
        rows: Time (ns, any origin) and the count of each counter; ``None`` where one could not be
            read. At least two rows, in the order of time.
        cpu: Name of the processor, as in ``/proc/cpuinfo``.
        cpus: Logical CPUs.
        sockets: Packages.
        memory_gib: Memory, GiB.
        slack_ns: The counters of a row were read at most so long before or after its time, ns.

    Raises:
        ValueError: Fewer than two rows, or one with another number of counts.
    """
    rows = list(rows)
    if len(rows) < 2:
        raise ValueError(f"a trace has at least two rows, not {len(rows)}")
    methods = [name for name in ("rapl", "perf") if any(c.method == name for c in counters)]
    columns = ["kind", "t_ns", "slack_ns", "cpu", "cpu.began_ns", "cpu.ended_ns"]
    for method in methods:
        columns += [f"{method}.t_ns", f"{method}.slack_ns"]
    for place in range(len(counters)):
        columns += [f"zone.{place}.raw", f"zone.{place}.fault"]
    blocks = []
    for at in range(0, len(rows), _BLOCK_ROWS):
        cells: list[int | None] = []
        for place, (t_ns, counts) in enumerate(rows[at : at + _BLOCK_ROWS], at):
            if len(counts) != len(counters):
                raise ValueError(
                    f"row {place} has {len(counts)} counts; expected {len(counters)}, one a counter"
                )
            kind = _BEGIN if place == 0 else _END if place == len(rows) - 1 else _SAMPLE
            cells += [kind, t_ns, slack_ns, 1, 0, 0]
            cells += [0, slack_ns] * len(methods)
            for count in counts:
                # 5: it could not be read.
                cells += [count, 0 if count is not None else 5]
        blocks.append(_core.encode_rows(cells, len(columns)))
    interval = (rows[-1][0] - rows[0][0]) // (len(rows) - 1)
    recording = {
        "machine": _machine(cpu, cpus, sockets, memory_gib),
        "at_end": None,
        "zones": [
            {
                "method": counter.method,
                "domain": counter.domain,
                "package": counter.package,
                "name": counter.name,
                "unit_joules": counter.unit_joules,
                "modulus": counter.modulus,
            }
            for counter in counters
        ],
        "limits": [],
        "notes": [],
        "holes": [],
        "missing": [
            [name, {"reason": "the trace holds nothing of it", "fix": None, "denied": False}]
            for name in ("rapl", "perf", "psutil")
            if name not in methods
        ],
        "hardware_missing": None,
        "methods": [*methods, "tdp"],
        "interval_ns": max(interval, 1),
        "children": True,
        "estimation": ["curve", None],
        "definition": None,
        "columns": columns,
    }
    header = {"cpu": cpu, "counters": [f"{c.method} {c.name}" for c in counters]}
    return b"".join(packed(header, json.dumps(recording), framed(blocks)))


def _machine(cpu: str, cpus: int, sockets: int, memory_gib: float | None) -> dict[str, Any]:
    maker = "Intel" if re.search("intel", cpu, re.I) else "AMD" if "AMD" in cpu else "unknown"
    vendor = {"Intel": "GenuineIntel", "AMD": "AuthenticAMD"}.get(maker)
    return {
        "cpu": {
            "name": cpu,
            "brand": maker,
            "vendor": vendor,
            "architecture": "x86_64",
            "physical_cores": None,
            "logical_cpus": cpus,
            "sockets": sockets,
            "base_mhz": None,
            "max_mhz": None,
            "hypervisor": False,
        },
        "environment": {
            "allotted": {
                "cpus": float(cpus),
                "machine_cpus": cpus,
                "set_by": "machine",
                "quota": None,
                "cpuset": None,
                "affinity": None,
                "smt": None,
                "memory_gib": None,
            },
            "memory_gib": memory_gib,
            "service": None,
            "lambda_memory_mb": None,
            "container_runtime": None,
            "function_sandbox": False,
            "k8s_pod": None,
            "k8s_node": None,
            "instance_type": None,
            "idle_watts": None,
            "problems": [],
        },
        "cpus": cpus,
        "calibration": None,
    }
