"""How many joules did this function use?

>>> from lithowatt import EnergyMeter
>>> with EnergyMeter() as m:
...     total = sum(range(100_000))
>>> m.duration > 0
True
"""

from __future__ import annotations

TYPE_CHECKING = False  # without importing typing, which costs more than all of this module
if TYPE_CHECKING:
    from lithowatt._core import __version__ as __version__
    from lithowatt._errors import (
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
    from lithowatt._manager import EnergyManager
    from lithowatt._measure import measure
    from lithowatt._meter import EnergyMeter
    from lithowatt._model import Estimate, PowerModel
    from lithowatt._reading import Reading
    from lithowatt._timeline import Timeline

_HOMES = {
    "EnergyMeter": "_meter",
    "EnergyManager": "_manager",
    "measure": "_measure",
    "Reading": "_reading",
    "Timeline": "_timeline",
    "PowerModel": "_model",
    "Estimate": "_model",
    "__version__": "_core",
    "LithowattError": "_errors",
    "UnavailableError": "_errors",
    "UnknownMethodError": "_errors",
    "UnknownDefinitionError": "_errors",
    "UnknownScopeError": "_errors",
    "InvalidIntervalError": "_errors",
    "ConflictingOptionsError": "_errors",
    "ProcessNotFoundError": "_errors",
    "UnreadableFileError": "_errors",
    "UnwritableFileError": "_errors",
    "MalformedValueError": "_errors",
    "MeterStateError": "_errors",
}

__all__ = [
    "ConflictingOptionsError",
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


#: Modules that `import lithowatt` alone makes reachable, each loaded when it is first named.
_MODULES = frozenset(
    {
        "aws",
        "carbon",
        "cost",
        "environment",
        "flexecutor",
        "lithops",
        "model",
        "monitors",
        "profiles",
        "validate",
    }
)


def _expect_whole_extension() -> None:
    from lithowatt._whole import fault

    cut = fault(f"{__path__[0]}/_core.abi3.so")
    if cut is not None:
        raise ImportError(f"lithowatt is installed in part only, install it again: {cut}")


# Before anything here is loaded: an extension that was cut short ends the process.
_expect_whole_extension()


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None and name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    if home is None:
        return import_module(f"{__name__}.{name}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
