"""AWS: what a Lambda call costs next to the energy it used.

>>> from lithowatt.aws import calculate_energy_cost_correlation
>>> costs = calculate_energy_cost_correlation({"energy_consumption": 3.6}, 1.0, 1024)
>>> costs["cost_per_joule"] is not None
True
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lithowatt.aws._cost import calculate_energy_cost_correlation

_HOMES = {
    "calculate_energy_cost_correlation": "_cost",
}

__all__ = [
    "calculate_energy_cost_correlation",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
