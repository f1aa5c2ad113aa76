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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lithowatt.flexecutor._columns import (
        COLUMN_NAMES,
        PROFILE_COLUMNS,
        Column,
        FunctionTimes,
    )
    from lithowatt.flexecutor._patch import install, installed, patch_executor, uninstall
    from lithowatt.flexecutor._proxy import Failure, meter, metered_stage
    from lithowatt.flexecutor._summary import dag_energy
    from lithowatt.flexecutor._values import apply_energy, energy_values, has_energy

    EnergyDAGExecutor: Any
    EnergyJolteon: Any

_HOMES = {
    "COLUMN_NAMES": "_columns",
    "PROFILE_COLUMNS": "_columns",
    "Column": "_columns",
    "FunctionTimes": "_columns",
    "apply_energy": "_values",
    "dag_energy": "_summary",
    "energy_values": "_values",
    "has_energy": "_values",
    "install": "_patch",
    "installed": "_patch",
    "patch_executor": "_patch",
    "uninstall": "_patch",
    "Failure": "_proxy",
    "meter": "_proxy",
    "metered_stage": "_proxy",
}

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


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name == "EnergyDAGExecutor":
        # Made when it is asked for: its base is FlexExecutor's.
        return import_module(f"{__name__}._patch").energy_dag_executor()
    if name == "EnergyJolteon":
        return import_module(f"{__name__}._scheduling").energy_jolteon()
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
