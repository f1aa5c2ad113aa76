"""A whole machine below a root that shows which CPUs have work, and at what clock."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

#: One socket of 8 cores whose second threads are switched off. Idle time is the sum over all CPUs:
#: of more of them it would be too coarse, written every millisecond.
NAME = "AMD EPYC 8024P 8-Core Processor"
CPUS = 8


class WorkingMachine:
    """Its first ``busy`` CPUs work all the time, the others not at all.

    ``mhz(seconds)`` is the clock that they show then; ``None``: this machine shows none. Where a
    core has two ``threads``, they are CPUs that follow each other if ``adjacent``, else the second
    ones come after all the first.
    """

    def __init__(
        self,
        root: Path,
        mhz: Callable[[float], float] | None = None,
        busy: int = 1,
        threads: int = 1,
        adjacent: bool = False,
    ) -> None:
        self.root = root
        self._count = CPUS * threads
        self._mhz = mhz
        self._busy = busy
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        (root / "proc").mkdir(parents=True)
        for entry in os.listdir("/proc"):
            if entry not in ("stat", "uptime", "cpuinfo"):
                (root / "proc" / entry).symlink_to(f"/proc/{entry}")
        cores = [cpu // threads if adjacent else cpu % CPUS for cpu in range(self._count)]
        processors = (
            f"processor : {cpu}\nvendor_id : AuthenticAMD\nmodel name : {NAME}\n"
            f"physical id : 0\ncore id : {core}\ncpu cores : {CPUS}\n"
            f"siblings : {self._count}\nflags : fpu\n\n"
            for cpu, core in enumerate(cores)
        )
        (root / "proc/cpuinfo").write_text("".join(processors))
        self._cpus = root / "sys/devices/system/cpu"
        self._cpus.mkdir(parents=True)
        for cpu in range(busy):
            (self._cpus / f"cpu{cpu}/cpufreq").mkdir(parents=True)
        for cpu, core in enumerate(cores):
            topology = self._cpus / f"cpu{cpu}/topology"
            topology.mkdir(parents=True)
            of_core = (str(one) for one, its in enumerate(cores) if its == core)
            (topology / "core_cpus_list").write_text(",".join(of_core) + "\n")
        (self._cpus / "online").write_text(f"0-{self._count - 1}\n")
        self._show(0.0)

    def _write(self, path: Path, text: str) -> None:
        # All at once and in place, as the kernel does: a reader keeps the file open.
        with path.open("r+b" if path.exists() else "wb", buffering=0) as file:
            file.write(text.encode())

    def _show(self, seconds: float) -> None:
        ticks = int(seconds * 100)
        idle = int(1e6 + (self._count - self._busy) * seconds * 100)
        lines = [f"cpu  {self._busy * ticks:09} 0 0 {idle:09} 0 0 0 0 0 0"]
        for cpu in range(self._count):
            work = ticks if cpu < self._busy else 0
            lines.append(f"cpu{cpu} {work:09} 0 0 {idle // self._count:09} 0 0 0 0 0 0")
        self._write(self.root / "proc/stat", "\n".join([*lines, "intr 1\n"]))
        self._write(self.root / "proc/uptime", f"{1e5 + seconds:.2f} {idle / 100:.2f}\n")
        if self._mhz is not None:
            khz = f"{self._mhz(seconds) * 1000:07.0f}\n"
            for cpu in range(self._busy):
                self._write(self._cpus / f"cpu{cpu}/cpufreq/scaling_cur_freq", khz)

    def _run(self) -> None:
        begun = time.monotonic()
        while not self._ended.wait(0.001):
            self._show(time.monotonic() - begun)

    def __enter__(self) -> WorkingMachine:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._ended.set()
        self._thread.join()
