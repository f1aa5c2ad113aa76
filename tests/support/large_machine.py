"""A machine of any size as plain files: packages, CPUs, zones, and what /proc says of them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

from rig import StaticTree

CLOCK_HZ = 100
"""USER_HZ of every kernel since 2.6, the unit of /proc/stat."""

FLAGS = " ".join(f"flag{n:03d}" for n in range(130))
"""About as long as the flags of a server of today, 1 kB."""


def ranges(cpus: Sequence[int]) -> str:
    """CPU numbers as the kernel writes lists of them: ``0-3,8``."""
    parts: list[str] = []
    first = last = None
    for cpu in [*sorted(cpus), None]:
        if cpu is not None and last is not None and cpu == last + 1:
            last = cpu
            continue
        if first is not None:
            parts.append(str(first) if first == last else f"{first}-{last}")
        first = last = cpu
    return ",".join(parts)


class LargeMachine:
    """``/sys`` and ``/proc`` of a server with many CPUs below a directory.

    CPUs are numbered as Linux numbers those of Intel's servers: the first threads of all cores,
    package after package, then the second threads. Each package has the zones `package` and `dram`.
    While it is entered, a thread keeps time in /proc/uptime and /proc/stat: the machine is idle
    but for one CPU.

    Attributes:
        root: directory to give a meter as its ``/``.
        cpus: logical CPUs.
        packages: sockets.
        tree: its energy counters.
    """

    def __init__(self, root: Path, cpus: int, packages: int, threads: int = 2) -> None:
        self.root = root
        self.cpus = cpus
        self.packages = packages
        self.threads = threads if cpus >= threads * packages else 1
        self.tree = StaticTree(root, packages=packages, domains=("package", "dram"), mirror=False)
        self._write_sys()
        self._write_proc()
        self._done = threading.Event()
        self._clock: threading.Thread | None = None

    def _places(self) -> Iterator[tuple[int, int, int]]:
        """CPU, its package and its core there."""
        cores = self.cpus // self.threads
        for cpu in range(self.cpus):
            package, core = divmod(cpu % cores, cores // self.packages)
            yield cpu, package, core

    def _write_sys(self) -> None:
        cpus = self.root / "sys/devices/system/cpu"
        of_package: dict[int, list[int]] = {}
        of_core: dict[tuple[int, int], list[int]] = {}
        for cpu, package, core in self._places():
            of_package.setdefault(package, []).append(cpu)
            of_core.setdefault((package, core), []).append(cpu)
        for cpu, package, core in self._places():
            package_list = ranges(of_package[package]) + "\n"
            core_list = ranges(of_core[package, core]) + "\n"
            texts = {
                f"cpu{cpu}/topology/physical_package_id": f"{package}\n",
                f"cpu{cpu}/topology/die_id": "0\n",
                f"cpu{cpu}/topology/cluster_id": f"{core}\n",
                f"cpu{cpu}/topology/core_id": f"{core}\n",
                f"cpu{cpu}/topology/package_cpus_list": package_list,
                f"cpu{cpu}/topology/die_cpus_list": package_list,
                f"cpu{cpu}/topology/core_cpus_list": core_list,
                f"cpu{cpu}/topology/thread_siblings_list": core_list,
                f"cpu{cpu}/thermal_throttle/core_throttle_count": "0\n",
                f"cpu{cpu}/thermal_throttle/package_throttle_count": "0\n",
                f"cpufreq/policy{cpu}/scaling_cur_freq": "2400000\n",
                f"cpufreq/policy{cpu}/cpuinfo_max_freq": "3600000\n",
                f"cpufreq/policy{cpu}/base_frequency": "2400000\n",
            }
            for name in (f"cpu{cpu}/topology", f"cpu{cpu}/thermal_throttle"):
                (cpus / name).mkdir(parents=True)
            (cpus / f"cpufreq/policy{cpu}").mkdir(parents=True)
            for name, text in texts.items():
                (cpus / name).write_text(text)
            (cpus / f"cpu{cpu}/cpufreq").symlink_to(f"../cpufreq/policy{cpu}")
        everything = ranges(range(self.cpus)) + "\n"
        for name in ("online", "present", "possible"):
            (cpus / name).write_text(everything)
        (cpus / "offline").write_text("\n")
        (cpus / "smt").mkdir()
        (cpus / "smt/active").write_text(f"{int(self.threads > 1)}\n")

    def _write_proc(self) -> None:
        proc = self.root / "proc"
        (proc / "net").mkdir(parents=True)
        cores = self.cpus // self.packages // self.threads
        # Padded: the numbers are written over in place.
        lines = [" " * 120]
        lines += [f"cpu{cpu} 1000 0 1000 900000 0 0 0 0 0 0" for cpu in range(self.cpus)]
        lines += ["intr 1" + " 0" * 500, "ctxt 1", "btime 1", "processes 1"]
        lines += ["procs_running 1", "procs_blocked 0"]
        texts = {
            "stat": "\n".join(lines) + "\n",
            "uptime": " " * 40 + "\n",
            "cpuinfo": "".join(
                f"processor\t: {cpu}\nvendor_id\t: GenuineIntel\ncpu family\t: 6\n"
                "model\t\t: 143\nmodel name\t: Intel(R) Xeon(R) Platinum 8480+\n"
                f"cpu MHz\t\t: 2400.000\nphysical id\t: {package}\n"
                f"siblings\t: {cores * self.threads}\ncore id\t\t: {core}\n"
                f"cpu cores\t: {cores}\nflags\t\t: {FLAGS}\n\n"
                for cpu, package, core in self._places()
            ),
            "meminfo": "MemTotal: 1056000000 kB\nMemFree: 900000000 kB\n"
            "MemAvailable: 1000000000 kB\n",
            "loadavg": "1.00 1.00 1.00 1/1000 1000\n",
            "diskstats": " 259 0 nvme0n1 10 0 100 5 20 0 200 6 0 0 0\n",
            "net/dev": "Inter-|   Receive |\n face |bytes\n"
            "    lo: 100 1 0 0 0 0 0 0 200 1 0 0 0 0 0 0\n",
        }
        for name, text in texts.items():
            (proc / name).write_text(text)
        for name in ("self", "sys", "1", "2", str(os.getpid())):
            if Path("/proc", name).exists():
                (proc / name).symlink_to(f"/proc/{name}")
        self._tell_time()

    def _tell_time(self) -> None:
        """Writes how long all but one CPU were idle."""
        up = time.monotonic()
        idle = up * (self.cpus - 1)
        busy, rest = round(up * CLOCK_HZ), round(idle * CLOCK_HZ)
        stat = f"cpu  {busy} 0 0 {rest} 0 0 0 0 0 0"
        for name, text, width in (
            ("stat", stat, 120),
            ("uptime", f"{up:.2f} {idle:.2f}", 40),
        ):
            # In place: a reader with an open descriptor never sees half of it.
            with (self.root / "proc" / name).open("r+b") as file:
                file.write(f"{text:<{width}}".encode())

    def _keep_time(self) -> None:
        while not self._done.wait(0.01):
            self._tell_time()

    def __enter__(self) -> LargeMachine:
        self._clock = threading.Thread(target=self._keep_time, daemon=True)
        self._clock.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        assert self._clock is not None
        self._clock.join()
        self.tree.close()
