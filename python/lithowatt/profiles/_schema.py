"""Who wrote a profile, as its columns tell."""

from __future__ import annotations

from lithowatt.profiles._runs import CORE, ProfileFile

#: What only lithowatt writes.
_OURS = {"energy_quality", "energy_definition", "machine_energy"}

#: What FlexExecutor's energy fork adds to the times, in one of its versions or another.
_FORK = {"time_consumption", "worker_time_execution", "measurement_energy", "RAPL_wrong", "TDP"}


def schema_of(file: ProfileFile) -> str:
    """The schema's name, for people."""
    names = {name for runs in file.configurations for name in runs.columns}
    if "worker_start_tstamp" in names:
        return "stats of Lithops"
    count = f"{len(names)} metrics"
    if names & _OURS or file.sidecar is not None:
        return f"lithowatt, {count}" + (", with sidecar" if file.sidecar is not None else "")
    if names <= set(CORE[:4]):
        return f"FlexExecutor, {count}"
    if names & _FORK:
        return f"FlexExecutor's energy fork, {count}"
    return f"FlexExecutor, {count} with others'"
