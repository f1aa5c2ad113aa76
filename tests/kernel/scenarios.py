"""The emulated machines, what is asked of each, and what its registers are known to give."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.kernel.machines import Machine


@dataclass(frozen=True)
class Scenario:
    """Powers of the registers of a machine, and the steps of its run.

    Attributes:
        name: What it is called in the table.
        machine: Name of the machine that it runs in.
        steps: By their name, what is done (``kind`` as in ``inside.py``).
        dies: Dies with registers of their own, in all packages.
        package: mW of each die's package register.
        dram: mW of each die's memory register; empty: there is none.
        core: mW of each die's register of the cores, 0: none. So are ``uncore`` and ``psys``.
        amd: AMD's register of cores is one core's: powercap has no core domain, and perf as many
            times ``core`` as there are cores.
        parameters: Further parameters of the module.
    """

    name: str
    machine: str
    steps: dict[str, dict[str, Any]]
    package: tuple[int, ...]
    dram: tuple[int, ...] = ()
    core: int = 0
    uncore: int = 0
    psys: int = 0
    amd: bool = False
    cores: int = 0
    parameters: dict[str, int] = field(default_factory=dict)

    @property
    def powers(self) -> dict[str, Any]:
        """Parameters of ``simulated_registers``."""
        return {
            "pkg_mw": list(self.package),
            "dram_mw": list(self.dram) or [0],
            "core_mw": self.core,
            "uncore_mw": self.uncore,
            "psys_mw": self.psys,
            **self.parameters,
        }

    def watts(self, method: str) -> dict[str, float | None]:
        """The machine's true power by domain, W; ``None`` where the machine has no such counter."""
        dies = len(self.package)
        core = self.core * dies
        if self.amd:
            core = self.core * self.cores if method == "perf" else 0
        milliwatts = {
            "package": sum(self.package),
            "core": core,
            "uncore": self.uncore * dies,
            "dram": sum(self.dram),
            "psys": self.psys,
            "total": sum(self.package) + sum(self.dram),
        }
        return {name: value / 1000 if value else None for name, value in milliwatts.items()}

    @property
    def job(self) -> dict[str, Any]:
        """As ``inside.py`` takes it."""
        return {
            "name": self.name,
            "powers": self.powers,
            "steps": [{"name": name, **step} for name, step in self.steps.items()],
        }


PLAIN = {"kind": "plain"}
COST = {"kind": "cost"}

# Intel's servers from Haswell on count memory in 2^-16 J, whatever their register of units states:
# Linux, arch/x86/events/rapl.c and drivers/powercap/intel_rapl_common.c.
SERVER_UNITS = {"dram_unit_shift": 16}

SCENARIOS = (
    Scenario(
        "client with psys and uncore",
        "client",
        {
            "windows": PLAIN,
            "registers wrap": {"kind": "wrap"},
            "driver unloaded and loaded": {"kind": "reload"},
            "plain user": {"kind": "plain", "user": True, "paranoid": 2},
            "plain user, perf allowed": {"kind": "plain", "user": True, "paranoid": 0},
            "cost": COST,
        },
        package=(50_000,),
        core=30_000,
        uncore=5_000,
        psys=90_000,
    ),
    Scenario(
        "two sockets with DRAM",
        "server",
        {
            "windows": PLAIN,
            "a CPU off and on": {"kind": "switch", "cpus": [3]},
            "a package off and on": {"kind": "switch", "cpus": [2, 3]},
            "cost": COST,
        },
        package=(60_000, 45_000),
        dram=(12_000, 8_000),
        parameters=SERVER_UNITS,
    ),
    Scenario(
        "two dies a socket",
        "dies",
        {"windows": PLAIN},
        package=(40_000, 35_000, 30_000, 25_000),
        dram=(9_000, 8_000, 7_000, 6_000),
        parameters=SERVER_UNITS,
    ),
    Scenario(
        "AMD, two sockets",
        "amd",
        {"windows": PLAIN},
        package=(70_000, 55_000),
        core=2_000,
        amd=True,
        cores=4,
        parameters={"unit_shift": 16},
    ),
    Scenario(
        "PMU in the powercap driver",
        "pmu",
        {"windows": PLAIN, "a CPU off and on": {"kind": "switch", "cpus": [1]}},
        package=(25_000,),
        core=14_000,
        uncore=3_000,
        psys=40_000,
    ),
    Scenario(
        "32 CPUs, two sockets",
        "many",
        {"windows": PLAIN, "cost": COST},
        package=(60_000, 45_000),
        dram=(12_000, 8_000),
        parameters=SERVER_UNITS,
    ),
)

# Numbers of models: 158 Coffee Lake, 204 Panther Lake (Linux, arch/x86/include/asm/intel-family.h).
CONTROLLER_WATTS = 212
"""What the management controller of the machine "bmc" shows."""

_CONTROLLED = {
    "name": "management controller",
    "powers": {"pkg_mw": [50_000], "dram_mw": [0]},
    "steps": [{"name": "reference", "kind": "controller"}],
}

_PROCESSORS = {
    "client": ("Skylake-Client-v1,model=158,stepping=10", "2"),
    "server": ("Skylake-Server-v1", "4,sockets=2,cores=2,threads=1"),
    "dies": ("Skylake-Server-v1", "4,sockets=2,dies=2,cores=1,threads=1"),
    "amd": ("EPYC-Rome-v1", "4,sockets=2,cores=2,threads=1"),
    "pmu": ("Skylake-Client-v1,model=204", "4,sockets=1,cores=4,threads=1"),
    "many": ("Skylake-Server-v1", "32,sockets=2,cores=16,threads=1"),
}

# qemu cannot give a processor AMD's feature bit of the energy counters.
_WORDS = {"amd": "setcpuid=rapl"}

MACHINES = {
    name: Machine(
        name,
        cpu,
        smp,
        [one.job for one in SCENARIOS if one.machine == name],
        words=_WORDS.get(name, ""),
    )
    for name, (cpu, smp) in _PROCESSORS.items()
}
MACHINES["bmc"] = Machine(
    "bmc", *_PROCESSORS["client"], job=[_CONTROLLED], controller_watts=CONTROLLER_WATTS
)
