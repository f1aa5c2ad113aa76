"""The stats of a window that was not metered."""

from __future__ import annotations

from lithowatt.meter._meter import EnergyMeter
from lithowatt.stats import PREFIX

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from typing import Any

    StrPath = str | os.PathLike[str]


def absent_stats(reason: str, root: StrPath | None = None) -> dict[str, Any]:
    """The stats of a window that was not metered: every key, and the reason.

    Args:
        reason: Why, in a few words.
        root: Where ``/proc`` is; the processor is named all the same.

    Example:
        >>> absent_stats("no reading yet")[PREFIX + "rapl_source"]
        'unavailable: no reading yet'
    """
    meter = EnergyMeter._absent(reason, {"root": root})
    meter.start()
    meter.stop()
    stats = meter.stats()
    stats[PREFIX + "energy_duration"] = None
    stats[PREFIX + "energy_warnings"] = [reason]
    return stats
