"""Profile files: what each stage took in time and energy, per configuration.

The format is FlexExecutor's: one JSON file per stage, an object of
`"(cpu, memory_mb, workers)"` to metrics, each a list of repetitions, each a
list of one value per worker that ran. Times in s, energies in J, memory in
MiB; `None` is what could not be measured. The configuration is the requested
one; how many workers really ran is the length of the inner lists.

`read_profile` gives one such file as it is. `read_profiles` reads any files and folders of them,
also of other schemas, as columns with one row a worker call.

>>> from lithowatt.profiles import Configuration
>>> Configuration.parse("(1, 512, 4)")
Configuration(cpu=1, memory_mb=512, workers=4)
"""

from __future__ import annotations

from lithowatt._support import attach

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lithowatt.analysis._predict import PerformanceModel
    from lithowatt.analysis._prediction import Band, HeldOut, Prediction
    from lithowatt.analysis._recommend import NoRecommendation, Recommendation, recommend
    from lithowatt.profiles._append import append_repetition
    from lithowatt.profiles._file import (
        Configuration,
        Metrics,
        ProfileData,
        merge_profiles,
        read_profile,
    )
    from lithowatt.profiles._find import Label
    from lithowatt.profiles._runs import (
        Column,
        ConfigurationRuns,
        ProfileFile,
        Profiles,
        Skipped,
        read_profiles,
    )
    from lithowatt.profiles._sidecar import read_sidecar, sidecar_path
    from lithowatt.profiles._text import write_profile

__all__ = [
    "Band",
    "Column",
    "Configuration",
    "ConfigurationRuns",
    "HeldOut",
    "Label",
    "Metrics",
    "NoRecommendation",
    "PerformanceModel",
    "Prediction",
    "ProfileData",
    "ProfileFile",
    "Profiles",
    "Recommendation",
    "Skipped",
    "append_repetition",
    "merge_profiles",
    "read_profile",
    "read_profiles",
    "read_sidecar",
    "recommend",
    "sidecar_path",
    "write_profile",
]

__getattr__ = attach(
    __name__,
    globals(),
    {
        "Band": "lithowatt.analysis._prediction",
        "Column": "_runs",
        "Configuration": "_file",
        "ConfigurationRuns": "_runs",
        "HeldOut": "lithowatt.analysis._prediction",
        "Label": "_find",
        "Metrics": "_file",
        "NoRecommendation": "lithowatt.analysis._recommend",
        "PerformanceModel": "lithowatt.analysis._predict",
        "Prediction": "lithowatt.analysis._prediction",
        "ProfileData": "_file",
        "ProfileFile": "_runs",
        "Profiles": "_runs",
        "Recommendation": "lithowatt.analysis._recommend",
        "Skipped": "_runs",
        "append_repetition": "_append",
        "merge_profiles": "_file",
        "read_profile": "_file",
        "read_profiles": "_runs",
        "read_sidecar": "_sidecar",
        "recommend": "lithowatt.analysis._recommend",
        "sidecar_path": "_sidecar",
        "write_profile": "_text",
    },
)
