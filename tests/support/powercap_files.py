"""A machine as plain files whose counters a test moves."""

from __future__ import annotations

from pathlib import Path

RANGE_UJ = 262_143_328_850


#: Two sockets, the second one first, behind the platform; and what must not be counted twice.
TWO_SOCKETS = {
    "intel-rapl:0": "psys",
    "intel-rapl:1": "package-1",
    "intel-rapl:1:0": "core",
    "intel-rapl:1:1": "dram",
    "intel-rapl:2": "package-0",
    "intel-rapl:2:0": "core",
    "intel-rapl:2:1": "dram",
    "intel-rapl-mmio:0": "package-0",
}


class FakeMachine:
    """A powercap tree of plain files; the rest of /sys and /proc is the real one."""

    def __init__(
        self, root: Path, zones: dict[str, str] | None = None, vendor: str = "GenuineIntel"
    ) -> None:
        self.root = root
        self.powercap = root / "sys/class/powercap"
        self.powercap.mkdir(parents=True)
        (root / "sys/devices").symlink_to("/sys/devices")
        proc = root / "proc"
        proc.mkdir()
        for entry in ("self", "stat", "uptime", "meminfo", "loadavg", "diskstats", "net", "sys"):
            (proc / entry).symlink_to(f"/proc/{entry}")
        (proc / "cpuinfo").write_text(
            f"processor\t: 0\nvendor_id\t: {vendor}\nmodel name\t: Some CPU @ 2.00GHz\n\n"
        )
        for zone, name in (zones or {"intel-rapl:0": "package-0"}).items():
            self.add_zone(zone, name)

    def add_zone(self, zone: str, name: str, uj: int = 1_000_000) -> Path:
        here = self.powercap / zone
        here.mkdir(parents=True)
        (here / "name").write_text(f"{name}\n")
        (here / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
        (here / "energy_uj").write_text(f"{uj:<20}\n")
        return here

    def set(self, zone: str, uj: int) -> None:
        # In place and of one width: a reader with an open descriptor never sees half a number.
        with (self.powercap / zone / "energy_uj").open("r+") as file:
            file.write(f"{uj:<20}\n")

    def add(self, zone: str, joules: float) -> None:
        now = int((self.powercap / zone / "energy_uj").read_text())
        self.set(zone, (now + round(joules * 1e6)) % (RANGE_UJ + 1))

    def add_power_pmu(self, watts: float) -> None:
        """A power PMU that is the kernel's clock of CPU 0, scaled: so many W, all the time."""
        pmu = self.root / "sys/bus/event_source/devices/power"
        (pmu / "format").mkdir(parents=True)
        (pmu / "events").mkdir()
        (pmu / "type").write_text("1\n")
        (pmu / "cpumask").write_text("0\n")
        (pmu / "format/event").write_text("config:0-63\n")
        (pmu / "events/energy-pkg").write_text("event=0x00\n")
        (pmu / "events/energy-pkg.scale").write_text(f"{watts * 1e-9!r}\n")
        (pmu / "events/energy-pkg.unit").write_text("Joules\n")


def advance(machine: FakeMachine) -> None:
    """Packages 10 + 5 J, cores 6 + 3 J, DRAM 1 + 1 J, platform 40 J."""
    machine.add("intel-rapl:2", 10)
    machine.add("intel-rapl:1", 5)
    machine.add("intel-rapl:2:0", 6)
    machine.add("intel-rapl:1:0", 3)
    machine.add("intel-rapl:2:1", 1)
    machine.add("intel-rapl:1:1", 1)
    machine.add("intel-rapl:0", 40)
    machine.add("intel-rapl-mmio:0", 10)
