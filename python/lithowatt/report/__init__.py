"""What people look at and keep: reports of results, and a log of the energy of jobs.

`lithowatt report PATH... -o report.html` writes a report of profiles; so does `write_report`.

>>> from lithowatt.report import generate_energy_report
>>> generate_energy_report([])["execution_summary"]["reason"]
'there are no executions'
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lithowatt._support import attach

if TYPE_CHECKING:
    from lithowatt.report._write import read_results, write_report
    from lithowatt.report.collector import MetricsCollector
    from lithowatt.report.energy_report import generate_energy_report
    from lithowatt.report.logger import EnhancedEnergyLogger, read_energy_log

__all__ = [
    "EnhancedEnergyLogger",
    "MetricsCollector",
    "generate_energy_report",
    "read_energy_log",
    "read_results",
    "write_report",
]

#: Names of this package, and the module of each.
__getattr__ = attach(
    __name__,
    globals(),
    {
        "EnhancedEnergyLogger": "logger",
        "MetricsCollector": "collector",
        "generate_energy_report": "energy_report",
        "read_energy_log": "logger",
        "read_results": "_write",
        "write_report": "_write",
    },
)
