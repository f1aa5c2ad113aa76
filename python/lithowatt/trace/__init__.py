"""Recordings of what a machine's counters showed, from which readings are made again.

``lithowatt record -o FILE -- CMD`` writes one; ``lithowatt replay FILE`` and
``EnergyMeter(replay=FILE)`` read it, on any machine, by the same or by other rules. The format is
in ``docs/reference/trace-format.md``.

>>> from lithowatt import EnergyMeter
>>> from lithowatt.trace import Counter, Trace, of_counters
>>> second = 1_000_000_000
>>> content = of_counters(
...     [Counter("package-0", "package", unit_joules=1e-6)],
...     [(0, [5_000_000]), (second, [15_000_000]), (2 * second, [35_000_000])],
...     cpu="Intel(R) Xeon(R) CPU E5-2650 v4 @ 2.20GHz",
...     cpus=24,
... )
>>> meter = EnergyMeter(replay=Trace(content), window=(1, 2))
>>> with meter:
...     pass
>>> meter.reading.rapl.package
20.0
"""

from __future__ import annotations

from lithowatt.trace._counters import Counter, of_counters
from lithowatt.trace._file import Trace

__all__ = ["Counter", "Trace", "of_counters"]
