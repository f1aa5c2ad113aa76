"""Profile files: what each stage took in time and energy, per configuration.

The format is FlexExecutor's: one JSON file per stage, an object of
`"(cpu, memory_mb, workers)"` to metrics, each a list of repetitions, each a
list of one value per worker that ran. Times in s, energies in J, memory in
MiB; `None` is what could not be measured. The configuration is the requested
one; how many workers really ran is the length of the inner lists.

>>> from lithowatt.profiles import Configuration
>>> Configuration.parse("(1, 512, 4)")
Configuration(cpu=1, memory_mb=512, workers=4)
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lithowatt.profiles._file import (
        Configuration,
        Metrics,
        ProfileData,
        append_repetition,
        merge_profiles,
        read_profile,
        write_profile,
    )
    from lithowatt.profiles._predict import PerformanceModel
    from lithowatt.profiles._prediction import Band, HeldOut, Prediction
    from lithowatt.profiles._recommend import Recommendation, recommend
    from lithowatt.profiles._sidecar import read_sidecar, sidecar_path

_HOMES = {
    "Band": "_prediction",
    "Configuration": "_file",
    "HeldOut": "_prediction",
    "Metrics": "_file",
    "PerformanceModel": "_predict",
    "Prediction": "_prediction",
    "ProfileData": "_file",
    "Recommendation": "_recommend",
    "append_repetition": "_file",
    "merge_profiles": "_file",
    "read_profile": "_file",
    "write_profile": "_file",
    "read_sidecar": "_sidecar",
    "recommend": "_recommend",
    "sidecar_path": "_sidecar",
}

__all__ = [
    "Band",
    "Configuration",
    "HeldOut",
    "Metrics",
    "PerformanceModel",
    "Prediction",
    "ProfileData",
    "Recommendation",
    "append_repetition",
    "merge_profiles",
    "read_profile",
    "read_sidecar",
    "recommend",
    "sidecar_path",
    "write_profile",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
