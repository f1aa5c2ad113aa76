"""Energy in FlexExecutor: joules per stage, phase, worker and repetition.

One import is enough, in the script that runs the workflow:

    import lithowatt.flexecutor.auto

or call `install()`, or use `EnergyDAGExecutor`, or give an unmodified
`DAGExecutor` the executor `meter(FunctionExecutor())`. FlexExecutor itself stays
as it is. The workers need the lithowatt wheel; a call whose worker has none
gets an estimate from the client, with a wide band and marked `modelled`.

* `FunctionTimes` of each call: the fields of `PROFILE_COLUMNS`.
* Profile files: the same as columns after FlexExecutor's own. Old profiles,
  training and schedulers go on as before.
* `<stage>.json.energy` beside each profile: units, hardware, workers asked for
  and got, and what failed runs used. See `lithowatt.profiles.read_sidecar`.

`ENERGY_MONITORING_ENABLED=false` switches all of it off.
"""

from __future__ import annotations

from lithowatt._support import attach

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lithowatt.flexecutor._patch import install, installed, patch_executor, uninstall
    from lithowatt.flexecutor._proxy import Failure, meter, metered_stage
    from lithowatt.flexecutor._summary import dag_energy
    from lithowatt.profiles._columns import (
        COLUMN_NAMES,
        PROFILE_COLUMNS,
        Column,
        FunctionTimes,
    )
    from lithowatt.profiles._values import apply_energy, energy_values, has_energy

    EnergyDAGExecutor: Any
    EnergyJolteon: Any

__all__ = [
    "COLUMN_NAMES",
    "PROFILE_COLUMNS",
    "Column",
    "EnergyDAGExecutor",
    "EnergyJolteon",
    "Failure",
    "FunctionTimes",
    "apply_energy",
    "dag_energy",
    "energy_values",
    "has_energy",
    "install",
    "installed",
    "meter",
    "metered_stage",
    "patch_executor",
    "uninstall",
]


_find = attach(
    __name__,
    globals(),
    {
        "COLUMN_NAMES": "lithowatt.profiles._columns",
        "Column": "lithowatt.profiles._columns",
        "Failure": "_proxy",
        "FunctionTimes": "lithowatt.profiles._columns",
        "PROFILE_COLUMNS": "lithowatt.profiles._columns",
        "apply_energy": "lithowatt.profiles._values",
        "dag_energy": "_summary",
        "energy_values": "lithowatt.profiles._values",
        "has_energy": "lithowatt.profiles._values",
        "install": "_patch",
        "installed": "_patch",
        "meter": "_proxy",
        "metered_stage": "_proxy",
        "patch_executor": "_patch",
        "uninstall": "_patch",
    },
)


def __getattr__(name: str) -> object:
    # Made when they are asked for: their bases are FlexExecutor's.
    if name == "EnergyDAGExecutor":
        from lithowatt.flexecutor._patch import energy_dag_executor

        return energy_dag_executor()
    if name == "EnergyJolteon":
        from lithowatt.flexecutor._scheduling import energy_jolteon

        return energy_jolteon()
    return _find(name)
