"""GPUs that do not exist, with joules that are known: a stand-in for NVIDIA's library.

`Gpus` builds `fake_nvml.c` and writes the file that describes them, which the library reads anew
with every call. A process finds it as it would find the driver's: by `LD_LIBRARY_PATH`, and by the
driver's device below the root that it meters.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

SOURCE = Path(__file__).with_name("fake_nvml.c")
SECOND = 1_000_000_000
#: Later than anything.
NEVER = 1 << 62


@dataclass(frozen=True)
class Gpu:
    """One GPU: watts at rest, more watts at 100 % use, and when it is there (monotonic ns)."""

    index: int = 0
    rest: float = 50.0
    slope: float = 250.0
    limit: float = 300.0
    counter: bool = True
    mig: bool = False
    appears: int = 0
    vanishes: int = NEVER

    @property
    def name(self) -> str:
        """As NVML names it."""
        return f"Fake-{self.index}"


@dataclass(frozen=True)
class Use:
    """A process that keeps a GPU busy for some percent of a time (monotonic ns)."""

    gpu: int
    pid: int
    begin: int
    end: int
    percent: float

    def seconds(self, begin: int, end: int) -> float:
        """How long it used the GPU between two moments, in seconds of full use."""
        return max(0, min(end, self.end) - max(begin, self.begin)) / SECOND * self.percent / 100


@dataclass
class Gpus:
    """A machine's GPUs.

    Attributes:
        folder: Where the library, the root and the description are made.
        gpus: The GPUs.
        uses: Who uses them when.
        resets: GPU and moment (monotonic ns) at which its counter begins again.
        options: As `fake_nvml.c` lists them.
    """

    folder: Path
    gpus: list[Gpu] = field(default_factory=lambda: [Gpu()])
    uses: list[Use] = field(default_factory=list)
    resets: list[tuple[int, int]] = field(default_factory=list)
    options: dict[str, int] = field(default_factory=dict)

    @staticmethod
    def unavailable_reason() -> str | None:
        """Why the library cannot be built here; `None` where it can."""
        return None if shutil.which("cc") else "there is no C compiler (cc)"

    def __post_init__(self) -> None:
        library = self.folder / "lib"
        library.mkdir(parents=True)
        built = str(library / "libnvidia-ml.so.1")
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", built, str(SOURCE)], check=True)
        self.root = self.folder / "root"
        (self.root / "dev").mkdir(parents=True)
        (self.root / "dev" / "nvidiactl").touch()
        for name in ("proc", "sys"):
            (self.root / name).symlink_to(f"/{name}")
        self.write()

    @property
    def environment(self) -> dict[str, str]:
        """Of a process that shall find these GPUs."""
        return {
            **os.environ,
            "LD_LIBRARY_PATH": str(self.folder / "lib"),
            "FAKE_NVML": str(self.folder / "gpus"),
            "FAKE_NVML_LOG": str(self.folder / "log"),
        }

    def write(self) -> None:
        """Describes them as they are now."""
        lines = [
            f"gpu {gpu.index} {gpu.name} {gpu.rest} {gpu.slope} {gpu.limit}"
            f" {'counter' if gpu.counter else 'power'} {int(gpu.mig)} {gpu.appears} {gpu.vanishes}"
            for gpu in self.gpus
        ]
        lines += [f"use {u.gpu} {u.pid} {u.begin} {u.end} {u.percent}" for u in self.uses]
        lines += [f"reset {gpu} {moment}" for gpu, moment in self.resets]
        lines += [f"option {name} {value}" for name, value in self.options.items()]
        whole = self.folder / "gpus.new"
        whole.write_text("".join(f"{line}\n" for line in lines))
        whole.replace(self.folder / "gpus")

    def use(self, pid: int, percent: float, gpu: int = 0, begin: int = 0, end: int = NEVER) -> None:
        """From ``begin`` to ``end`` a process keeps a GPU busy for ``percent`` of the time."""
        self.uses.append(Use(gpu, pid, begin or time.monotonic_ns(), end, percent))
        self.write()

    def joules(self, begin: int, end: int, gpu: int | None = None) -> float:
        """What all GPUs, or one, used between two moments (monotonic ns)."""
        total = 0.0
        for one in self.gpus:
            if gpu is None or one.index == gpu:
                first, last = max(begin, one.appears), min(end, one.vanishes)
                used = sum(u.seconds(first, last) for u in self.uses if u.gpu == one.index)
                total += one.rest * max(0, last - first) / SECOND + one.slope * used
        return total

    def joules_of(self, pid: int, begin: int, end: int) -> float:
        """What a process used above rest between two moments (monotonic ns)."""
        slopes = {gpu.index: gpu.slope for gpu in self.gpus}
        return sum(slopes[u.gpu] * u.seconds(begin, end) for u in self.uses if u.pid == pid)

    def log(self) -> list[tuple[str, int, int]]:
        """Initialisations and looks so far: what, pid, thread."""
        path = self.folder / "log"
        rows = (line.split() for line in path.read_text().splitlines()) if path.exists() else ()
        return [(what, int(pid), int(tid)) for what, pid, tid in rows]
