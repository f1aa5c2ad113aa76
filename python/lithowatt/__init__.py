"""How many joules did this function use?

>>> from lithowatt import EnergyMeter
>>> with EnergyMeter() as m:
...     total = sum(range(100_000))
>>> m.duration > 0
True
"""

from __future__ import annotations

from lithowatt._support import attach

TYPE_CHECKING = False  # without importing typing, which costs more than all of this module
if TYPE_CHECKING:
    from lithowatt._core import __version__ as __version__
    from lithowatt.errors import (
        AgentError,
        ConflictingOptionsError,
        InvalidIntervalError,
        LithowattError,
        MalformedValueError,
        MeterStateError,
        ProcessNotFoundError,
        UnavailableError,
        UnknownDefinitionError,
        UnknownMethodError,
        UnknownScopeError,
        UnreadableFileError,
        UnwritableFileError,
    )
    from lithowatt.estimate import Estimate
    from lithowatt.lithops._manager import EnergyManager
    from lithowatt.meter._measure import measure
    from lithowatt.meter._meter import EnergyMeter
    from lithowatt.meter._reading import Domains, Reading
    from lithowatt.meter._timeline import Timeline
    from lithowatt.model._power import PowerModel

__all__ = [
    "AgentError",
    "ConflictingOptionsError",
    "Domains",
    "EnergyManager",
    "EnergyMeter",
    "Estimate",
    "InvalidIntervalError",
    "LithowattError",
    "MalformedValueError",
    "MeterStateError",
    "PowerModel",
    "ProcessNotFoundError",
    "Reading",
    "Timeline",
    "UnavailableError",
    "UnknownDefinitionError",
    "UnknownMethodError",
    "UnknownScopeError",
    "UnreadableFileError",
    "UnwritableFileError",
    "__version__",
    "measure",
]


def _expect_whole_extension() -> None:
    from lithowatt._support.whole import fault

    cut = fault(f"{__path__[0]}/_core.abi3.so")
    if cut is not None:
        raise ImportError(f"lithowatt is installed in part only, install it again: {cut}")


# Before anything here is loaded: an extension that was cut short ends the process.
_expect_whole_extension()


#: Names of this package, and the module of each; a module of its own has no other home.
__getattr__ = attach(
    __name__,
    globals(),
    {
        "AgentError": "lithowatt.errors",
        "ConflictingOptionsError": "lithowatt.errors",
        "Domains": "lithowatt.meter._reading",
        "EnergyManager": "lithowatt.lithops._manager",
        "EnergyMeter": "lithowatt.meter._meter",
        "Estimate": "lithowatt.estimate",
        "InvalidIntervalError": "lithowatt.errors",
        "LithowattError": "lithowatt.errors",
        "MalformedValueError": "lithowatt.errors",
        "MeterStateError": "lithowatt.errors",
        "PowerModel": "lithowatt.model._power",
        "ProcessNotFoundError": "lithowatt.errors",
        "Reading": "lithowatt.meter._reading",
        "Timeline": "lithowatt.meter._timeline",
        "UnavailableError": "lithowatt.errors",
        "UnknownDefinitionError": "lithowatt.errors",
        "UnknownMethodError": "lithowatt.errors",
        "UnknownScopeError": "lithowatt.errors",
        "UnreadableFileError": "lithowatt.errors",
        "UnwritableFileError": "lithowatt.errors",
        "__version__": "lithowatt._core",
        "measure": "lithowatt.meter._measure",
        "aws": "",
        "carbon": "",
        "cost": "",
        "environment": "",
        "errors": "",
        "flexecutor": "",
        "lithops": "",
        "model": "",
        "monitors": "",
        "profiles": "",
        "validate": "",
    },
)


def __dir__() -> list[str]:
    return __all__
