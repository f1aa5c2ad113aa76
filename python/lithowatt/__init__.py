"""How many joules did this function use?

>>> from lithowatt import EnergyMeter
>>> with EnergyMeter() as m:
...     total = sum(range(100_000))
>>> m.duration > 0
True

PYTEST_DONT_REWRITE: this has no assertions, and pytest warns where it is imported before pytest is.
"""

from lithowatt._support import attach, extension_fault, own_extension

TYPE_CHECKING = False  # without importing typing, which costs more than all of this module
if TYPE_CHECKING:
    from lithowatt import aws as aws
    from lithowatt import carbon as carbon
    from lithowatt import cost as cost
    from lithowatt import environment as environment
    from lithowatt import errors as errors
    from lithowatt import export as export
    from lithowatt import flexecutor as flexecutor
    from lithowatt import lithops as lithops
    from lithowatt import model as model
    from lithowatt import monitors as monitors
    from lithowatt import profiles as profiles
    from lithowatt import reference as reference
    from lithowatt import report as report
    from lithowatt import trace as trace
    from lithowatt import validate as validate
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
    from lithowatt.meter._doctor import MethodStatus, doctor
    from lithowatt.meter._measure import measure
    from lithowatt.meter._meter import EnergyMeter, PhaseMark
    from lithowatt.meter._reading import Domains, Phase, Reading, Sandbox, Zone
    from lithowatt.meter._timeline import PhaseSpan, Timeline
    from lithowatt.model._power import PowerModel, SharePower

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
    "MethodStatus",
    "Phase",
    "PhaseMark",
    "PhaseSpan",
    "PowerModel",
    "ProcessNotFoundError",
    "Reading",
    "Sandbox",
    "SharePower",
    "Timeline",
    "UnavailableError",
    "UnknownDefinitionError",
    "UnknownMethodError",
    "UnknownScopeError",
    "UnreadableFileError",
    "UnwritableFileError",
    "Zone",
    "__version__",
    "doctor",
    "measure",
]


def _expect_whole_extension() -> None:
    cut = extension_fault(own_extension(f"{__path__[0]}/_core"))
    if cut is not None:
        raise ImportError(f"lithowatt is installed in part only, install it again: {cut}")


# Before anything here is loaded: an extension that was cut short ends the process.
_expect_whole_extension()


if not TYPE_CHECKING:  # to a type checker a name that is not here is a mistake
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
            "MethodStatus": "lithowatt.meter._doctor",
            "Phase": "lithowatt.meter._reading",
            "PhaseMark": "lithowatt.meter._meter",
            "PhaseSpan": "lithowatt.meter._timeline",
            "PowerModel": "lithowatt.model._power",
            "ProcessNotFoundError": "lithowatt.errors",
            "Reading": "lithowatt.meter._reading",
            "Sandbox": "lithowatt.meter._reading",
            "SharePower": "lithowatt.model._power",
            "Timeline": "lithowatt.meter._timeline",
            "UnavailableError": "lithowatt.errors",
            "UnknownDefinitionError": "lithowatt.errors",
            "UnknownMethodError": "lithowatt.errors",
            "UnknownScopeError": "lithowatt.errors",
            "UnreadableFileError": "lithowatt.errors",
            "UnwritableFileError": "lithowatt.errors",
            "Zone": "lithowatt.meter._reading",
            "__version__": "lithowatt._core",
            "doctor": "lithowatt.meter._doctor",
            "load_ipython_extension": "lithowatt.ipython",
            "measure": "lithowatt.meter._measure",
            "aws": "",
            "carbon": "",
            "cost": "",
            "environment": "",
            "errors": "",
            "export": "",
            "flexecutor": "",
            "lithops": "",
            "model": "",
            "monitors": "",
            "profiles": "",
            "reference": "",
            "report": "",
            "trace": "",
            "validate": "",
        },
    )


def __dir__() -> list[str]:
    return __all__
