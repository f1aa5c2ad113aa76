"""Meters of the whole machine: a battery, a plug in the wall, a server's power controller.

What they count holds everything that the machine takes, fans and losses included. It is a reference
to compare the counters of processor and memory with, and is never added to them.

>>> from lithowatt import EnergyMeter
>>> with EnergyMeter(reference="battery") as m:
...     total = sum(range(100_000))
>>> found = m.reading.machine_reference["battery"]
>>> found.energy is not None or found.reason is not None  # J, or why there are none
True
"""

from __future__ import annotations

from lithowatt.reference._energy import ReferenceEnergy, Sensor
from lithowatt.reference._open import KINDS, open_references
from lithowatt.reference._watch import Reference

__all__ = ["KINDS", "Reference", "ReferenceEnergy", "Sensor", "open_references"]
