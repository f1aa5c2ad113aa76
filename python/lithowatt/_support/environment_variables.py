"""Settings that come from the environment: every variable that lithowatt reads, in one table.

What is asked for every call is read by `switches`, which a worker loads and this not.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

#: Group, then per variable: name, meaning, default. The page in the reference is made of it
#: (`make environment-reference`), and `lithowatt doctor` knows a misspelt name by it.
SETTINGS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "What is measured": (
        (
            "ENERGY_MONITORING_ENABLED",
            "`false`, `0`, `no` or `off`: measure nothing",
            "metering is on",
        ),
        (
            "ENERGY_METHODS",
            "methods to try, such as `rapl,psutil,model`: names as for `methods` of `EnergyMeter`. "
            "Naming `ebpf` loads the kernel probes if this process is allowed to",
            "all",
        ),
        (
            "ENERGY_COLLECTION_INTERVAL",
            "milliseconds between samples, 1 to 3600000, or `off`: only the window's edges are "
            "read",
            "100",
        ),
        (
            "ENERGY_ESTIMATION_METHOD",
            "`curve`, `vcpu` or `tdp_based`: [how the model's watts are made]"
            "(environments.md#how-the-models-watts-are-made)",
            "`curve`",
        ),
        (
            "ENERGY_DEFINITION",
            "`marginal` or `amortised`: what [the headline]"
            "(../explanation/measurement.md#the-headline) holds",
            "by platform",
        ),
        (
            "ENERGY_STATS",
            "`compact`: leave keys without a value out of the stats; `essential`: also those that "
            "tables and profiles of calls do not need ([which, and what it saves]"
            "(../how-to/lithops.md#jobs-of-many-calls))",
            "every key is there",
        ),
    ),
    "About this machine": (
        (
            "LITHOWATT_IDLE_WATTS",
            "idle power of packages and memory together, W, where a counter is read",
            "learned, calibrated or modelled",
        ),
        ("LITHOWATT_INSTANCE_TYPE", "instance type for the stats", "from the firmware"),
        (
            "LITHOWATT_GRID_INTENSITY",
            "g CO2e per kWh of your grid, or the path of a `.csv` file with the columns "
            "`timestamp,gco2e_per_kwh`",
            "[the region's](../how-to/cost-and-carbon.md)",
        ),
        (
            "LITHOWATT_PUE",
            "overhead of your data centre: all its energy ÷ that of its computers",
            "the provider's, 1.0 where no provider is known",
        ),
        (
            "LITHOWATT_STATE_DIR",
            "where `calibrate` stores its result",
            "`$XDG_STATE_HOME/lithowatt`, else `~/.local/state/lithowatt`",
        ),
    ),
    "Where things are": (
        (
            "LITHOWATT_ROOT",
            "directory that holds `sys` and `proc`, for example a container's mount of the host's",
            "`/`",
        ),
        (
            "LITHOWATT_RING",
            "the [node agent](../how-to/agent.md)'s ring",
            "`/run/lithowatt/ring`",
        ),
        (
            "LITHOWATT_RING_OWNER",
            "number of one more user whose ring is trusted, beside root and oneself",
            "none",
        ),
        (
            "LITHOWATT_GUEST",
            "in a [virtual machine](../how-to/virtual-machines.md): the host's ring, its file of "
            "watts, or the folder that holds them",
            "`/var/lithowatt/ring`, else `/var/scaphandre`",
        ),
        (
            "LITHOWATT_CALLS",
            "`on`, or the path of the socket: finished Lithops calls and commands of "
            "`lithowatt run` are shown on the [agent's page](../how-to/live-page.md)",
            "off",
        ),
        (
            "LITHOWATT_FLEXECUTOR",
            "`1`: meter [FlexExecutor](../how-to/flexecutor.md) in scripts that do not import "
            "lithowatt",
            "off",
        ),
    ),
    "Meters of the whole machine": (
        (
            "LITHOWATT_REDFISH_USER",
            "name for a [controller](../how-to/whole-machine.md) that is asked over Redfish",
            "none",
        ),
        ("LITHOWATT_REDFISH_PASSWORD", "its password; sent over HTTPS only", "none"),
        (
            "LITHOWATT_MQTT_USER",
            "name for the broker of a [plug](../how-to/whole-machine.md#mqtt) that meters",
            "none",
        ),
        ("LITHOWATT_MQTT_PASSWORD", "its password", "none"),
    ),
    "What others set": (
        ("POD_NAME", "the pod that a reading names, on Kubernetes", "`$HOSTNAME`"),
        ("NODE_NAME", "the node that a reading and the node agent name", "none"),
    ),
}

#: What the names of settings begin with, and how much the rest of a name has to be like that of a
#: setting to be taken for it. Other programs have variables of the second kind.
PREFIXES = {"LITHOWATT_": 0.0, "ENERGY_": 0.85}


def misspelt(environment: Mapping[str, str] = os.environ) -> list[str]:
    """A sentence for each variable that was meant for us, as it seems, and is no setting: any that
    begins with `LITHOWATT_`, and one that begins with `ENERGY_` where it is nearly a setting.

    Example:
        >>> misspelt({"LITHOWATT_IDLE_WATT": "12", "ENERGY_PRICE": "0.3"})
        ['LITHOWATT_IDLE_WATT is set, and no setting has this name: LITHOWATT_IDLE_WATTS?']
    """
    names = [name for group in SETTINGS.values() for name, _, _ in group]
    found = []
    for name in sorted(set(environment).difference(names)):
        prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), None)
        if prefix is None:
            continue
        near = _near(name, prefix, names)
        if near or PREFIXES[prefix] == 0:
            hint = f": {near[0]}?" if near else ""
            found.append(f"{name} is set, and no setting has this name{hint}")
    return found


def _near(name: str, prefix: str, names: list[str]) -> list[str]:
    """The setting that a name is nearest to, if any is near."""
    import difflib  # not at the top: it takes 20 ms

    ours = [one.removeprefix(prefix) for one in names if one.startswith(prefix)]
    least = max(PREFIXES[prefix], 0.6)
    near = difflib.get_close_matches(name.removeprefix(prefix), ours, n=1, cutoff=least)
    return [prefix + one for one in near]
