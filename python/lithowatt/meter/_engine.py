"""The engine of a meter, which does the measuring, and how it writes its stats.

A worker uses it as it is: what `EnergyMeter` adds is for people, and was most of what a worker
loaded. Everything that metering needs is imported here and now: an import within a call could hold
a module's lock just when another thread forks, and the child would wait for it for ever.
"""

from __future__ import annotations

from lithowatt._core import Meter, Spelling, stats_keys
from lithowatt._support.switches import stats_form
from lithowatt.stats import ESSENTIAL, PREFIX, RENAMED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: How ``stats()`` writes the keys. Made here and not on demand: a worker forks a process per call,
#: which would make it anew.
SPELLING = Spelling(PREFIX, RENAMED)


_essential: Spelling | None = None


def _essential_spelling() -> Spelling:
    """How the essential stats write the keys: the others not at all. Made once, in 0.1 ms."""
    global _essential
    if _essential is None:
        # Keys that stats do not have cannot be named here.
        rest = {name for name, *_, in_stats in stats_keys() if in_stats}.difference(ESSENTIAL)
        _essential = Spelling(PREFIX, {**RENAMED, **dict.fromkeys(rest, ())})
    return _essential


def form_of(compact: bool | None) -> str:
    """The form of the stats that was asked for; ``None``: the environment's."""
    if compact is None:
        return stats_form()
    return "compact" if compact else "full"


def written(form: str) -> tuple[Spelling, bool]:
    """How a form of the stats writes the keys, and whether it leaves out those without a value."""
    return _essential_spelling() if form == "essential" else SPELLING, form != "full"


def new_engine(interval: float | str | None = "auto") -> Meter:
    """The engine of ``EnergyMeter(interval=interval)``."""
    return Meter("auto", interval=interval, children=True)  # type: ignore[arg-type]


def stats_of(engine: Meter, compact: bool | None = None) -> dict[str, Any]:
    """As :meth:`lithowatt.EnergyMeter.stats`."""
    return engine.taken().stats(*written(form_of(compact)))


def stats_json_of(engine: Meter, compact: bool | None = None) -> bytes:
    """As :meth:`lithowatt.EnergyMeter.stats_json`."""
    return engine.raw_stats_json(*written(form_of(compact)))
