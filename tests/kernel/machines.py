"""Boots Debian's kernel over simulated registers, and brings back what was metered there."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lithowatt
from tests.kernel.controller import Controller
from tests.kernel.initramfs import Archive

HERE = Path(__file__).resolve().parent

BOOT_SECONDS = 600
"""An emulated machine that is not through by then is ended."""


WORDS = (
    "console=ttyS0 quiet panic=-1 mitigations=off cryptomgr.notests audit=0 no_timer_check "
    "tsc=reliable"
)
"""Of the kernel's command line. Self-tests take an emulated processor as long as the rest, and a
clock is found unstable where the host was busy."""

ACCELERATOR = "tcg,thread=single"
"""qemu runs the processors of a machine in turn, none beside another. Where each has a thread of
its own, some go on for a moment with code that another one has replaced. A kernel of 32 processors
often ended by that while it booted: its timers met the breakpoints that it sets while it rewrites
itself (``int3`` in ``sched_clock_cpu``). In turn such a machine takes half the time, too: no
processor waits for another in a loop."""

BOOTS = 3
"""A machine whose kernel ends before its job begins is booted so often in all. After that nothing
is repeated: what ends there may be lithowatt's doing."""


@dataclass(frozen=True)
class Machine:
    """An emulated machine: processor and topology as qemu takes them, words for the kernel."""

    name: str
    cpu: str
    smp: str
    job: list[dict[str, Any]]
    words: str = ""
    memory_mb: int = 1024
    devices: tuple[str, ...] = ()
    """More arguments for qemu."""
    modules: tuple[str, ...] = ()
    """Modules of the kernel beside those that every machine has, by their path below its folder."""
    controller_watts: int | None = None
    """Power that its management controller shows; ``None``: it has none."""


@dataclass
class Outcome:
    """What a machine's job came to."""

    machine: Machine
    kernel: str | None = None
    booted: float | None = None
    boots: int = 1
    """How often it was booted: more than once where its kernel ended before the job began."""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    complete: bool = False
    results: list[dict[str, Any]] = field(default_factory=list)
    console: str = ""
    asked: list[tuple[int, int, bytes]] = field(default_factory=list)
    """What was asked of the management controller."""


def image() -> tuple[Path | None, str]:
    """Folder of kernel and disk image, made where it is not there yet; else ``None`` and why."""
    made = subprocess.run([HERE / "image.sh"], stdout=subprocess.PIPE, text=True, check=False)
    last = (made.stdout.strip().splitlines() or [""])[-1]
    if made.returncode == 0:
        return Path(last), ""
    if made.returncode == 2:
        return None, last
    raise RuntimeError(f"image.sh ended with exit code {made.returncode}")


Beside = Callable[[int], AbstractContextManager[object]]


def boot(machine: Machine, folder: Path, beside: Beside = lambda pid: nullcontext()) -> Outcome:
    """Boots ``machine`` and waits for the end of its job; ``beside`` runs meanwhile, and is given
    the number of the machine's process."""
    for boots in range(1, BOOTS + 1):
        outcome = _boot_once(machine, folder, beside)
        outcome.boots = boots
        if outcome.kernel is not None or outcome.seconds >= BOOT_SECONDS:
            break
    return outcome


def _boot_once(machine: Machine, folder: Path, beside: Beside) -> Outcome:
    outcome = Outcome(machine)
    with tempfile.TemporaryDirectory(prefix="lithowatt-kernel-") as folder_of_boot:
        place = Path(folder_of_boot)
        _pack(place / "initramfs", machine, folder)
        command = [
            *("qemu-system-x86_64", "-accel", ACCELERATOR),
            *("-cpu", machine.cpu, "-smp", machine.smp, "-m", str(machine.memory_mb)),
            *("-display", "none", "-monitor", "none", "-no-reboot", "-nic", "none"),
            *("-serial", f"file:{place / 'console'}", "-serial", f"file:{place / 'results'}"),
            *("-kernel", str(folder / "vmlinuz"), "-initrd", str(place / "initramfs")),
            *("-append", f"{WORDS} {machine.words}"),
            *machine.devices,
        ]
        controller = None
        if machine.controller_watts is not None:
            controller = Controller(place / "bmc", machine.controller_watts)
            command += ["-chardev", f"socket,id=bmc,path={place / 'bmc'},server=on,wait=off"]
            command += ["-device", "ipmi-bmc-extern,id=bmc0,chardev=bmc"]
            command += ["-device", "isa-ipmi-kcs,bmc=bmc0"]
        began, used = time.monotonic(), _children_cpu_seconds()
        with (
            (place / "qemu").open("wb") as told,
            subprocess.Popen(command, stderr=told, start_new_session=True) as process,
        ):
            try:
                with beside(process.pid):
                    process.wait(BOOT_SECONDS)
            except subprocess.TimeoutExpired:
                pass
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
        if controller is not None:
            controller.close()
            outcome.asked = controller.asked
        outcome.seconds = time.monotonic() - began
        outcome.cpu_seconds = _children_cpu_seconds() - used
        for name in ("qemu", "console"):
            outcome.console += (place / name).read_text(errors="replace")
        for line in (place / "results").read_text(errors="replace").splitlines():
            try:
                found = json.loads(line)
            except ValueError:
                continue  # cut off by the end
            if "kernel" in found:
                outcome.kernel, outcome.booted = found["kernel"], found["booted"]
            elif "complete" in found:
                outcome.complete = True
            else:
                outcome.results.append(found)
    return outcome


def _children_cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _pack(file: Path, machine: Machine, folder: Path) -> None:
    """The initial file system: the Debian root, and in /rig what is run there."""
    shutil.copyfile(folder / "initramfs", file)
    with file.open("ab") as opened:
        archive = Archive(opened)
        for module in machine.modules:
            _add_module(archive, folder / "root", module)
        archive.add("rig", stat.S_IFDIR | 0o755)
        for content in (HERE / "inside.py", folder / "simulated_registers.ko"):
            archive.add(f"rig/{content.name}", stat.S_IFREG | 0o644, content.read_bytes())
        archive.add("rig/job.json", stat.S_IFREG | 0o644, json.dumps(machine.job).encode())
        archive.add("rig/lithowatt", stat.S_IFDIR | 0o755)
        package = Path(lithowatt.__file__).resolve().parent
        archive.add_tree(package, "rig/lithowatt", left_out=re.compile(r".*__pycache__"))
        archive.end()


def _add_module(archive: Archive, root: Path, module: str) -> None:
    """A module of the image's kernel, with the folders on the way to it."""
    file = next((root / "usr/lib/modules").glob(f"*/kernel/{module}.ko*"))
    name = file.relative_to(root)
    for above in reversed(name.parents[:-1]):
        archive.add(str(above), stat.S_IFDIR | 0o755)
    archive.add(str(name), stat.S_IFREG | 0o644, file.read_bytes())
