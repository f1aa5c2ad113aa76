"""The simulated machine: a live powercap tree whose joules are known.

:class:`Rig` mounts a powercap tree whose counters follow time and real CPU use, keeps the truth
about every window, and runs unmodified programs that take it for the machine's own.
:class:`StaticTree` writes the same layout as plain files whose counters the test sets.

As a program: ``python rig.py --watts 50 -- perf stat -a -e power/energy-pkg/ sleep 1``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

__all__ = ["FRACTIONS", "Rig", "StaticTree", "Truth", "Zone"]

HERE = Path(__file__).resolve().parent
BINARY = "lithowatt-rig"

FRACTIONS: Mapping[str, float] = {"core": 0.7, "uncore": 0.05, "dram": 0.15}
"""Power of each domain as a fraction of its package's. DRAM comes on top of the package."""

INTEL_RANGE_UJ = 262_143_328_850
"""``max_energy_range_uj`` of most Intel packages: 2^32 counts of 61.035 µJ."""

AMD_CORES = 64
"""Cores of the simulated AMD package; its ``core`` zone shows one of them."""

FaultKind = Literal["eacces", "vanish", "garbage", "empty", "freeze", "reset", "clear"]

_SUB_DOMAINS = ("core", "uncore", "dram")
_PMU_EVENTS = {"core": "energy-cores", "dram": "energy-ram", "uncore": "energy-gpu"}
_POWER_PMUS = ("power", "power_core")


@dataclass(frozen=True)
class Zone:
    """A zone of a powercap tree."""

    key: str
    """``package-0``, ``package-0/dram``, ``psys`` or ``mmio/package-0``: unique."""
    path: str
    """Directory below ``powercap``, such as ``intel-rapl/intel-rapl:0/intel-rapl:0:1``."""
    name: str
    """Text of the ``name`` file."""

    @property
    def dir(self) -> str:
        """Directory name, such as ``intel-rapl:0:1``."""
        return self.path.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Truth:
    """What really was used in a window. All energies in joules.

    ``idle`` + ``others`` + the sum of ``pids`` = ``machine``.
    """

    machine: float
    """Packages and memory."""
    package: float
    """All packages."""
    core: float | None
    """All cores; ``None`` where the tree has no such domain. Inside ``package``."""
    uncore: float | None
    """Uncore, inside ``package``."""
    dram: float | None
    """All memory, on top of ``package``."""
    psys: float | None
    """The platform: ``machine`` and the board."""
    idle: float
    """What an idle machine would have used in this window."""
    pids: dict[int, float]
    """Above idle, by registered process (packages and memory)."""
    others: float
    """Above idle, by everybody else."""
    zones: dict[str, float]
    """By zone key; what each counter gained."""
    seconds: float
    """Length of the window."""

    @property
    def active(self) -> float:
        """Machine energy above idle."""
        return self.machine - self.idle


def _names(packages: int, names: Sequence[str] | None) -> list[str]:
    if names is None:
        return [f"package-{k}" for k in range(packages)]
    if len(names) != packages:
        raise ValueError(f"{packages} packages need as many names, not {len(names)}")
    if len(set(names)) != len(names):
        raise ValueError("package names must differ")
    return list(names)


def _sub_domains(domains: Sequence[str]) -> list[str]:
    unknown = set(domains) - {"package", *_SUB_DOMAINS}
    if unknown or "package" not in domains:
        raise ValueError(f"domains are package and any of {_SUB_DOMAINS}, not {tuple(domains)}")
    return [d for d in domains if d != "package"]


def _zones(
    names: Sequence[str], sub: Sequence[str], psys: bool, psys_first: bool, mmio: bool
) -> list[Zone]:
    """The tree's zones, numbered as the kernel numbers them."""
    zones = []
    first = 1 if psys and psys_first else 0
    for k, name in enumerate(names, first):
        path = f"intel-rapl/intel-rapl:{k}"
        zones.append(Zone(name, path, name))
        for n, domain in enumerate(sub):
            zones.append(Zone(f"{name}/{domain}", f"{path}/intel-rapl:{k}:{n}", domain))
    if psys:
        number = 0 if psys_first else len(names)
        zones.append(Zone("psys", f"intel-rapl/intel-rapl:{number}", "psys"))
    if mmio:
        for k, name in enumerate(names):
            zones.append(Zone(f"mmio/{name}", f"intel-rapl-mmio/intel-rapl-mmio:{k}", name))
    return zones


def _link_rest(real: Path, ours: Path) -> None:
    """Links every entry of the real directory that ours does not have."""
    ours.mkdir(parents=True, exist_ok=True)
    if not real.is_dir():
        return
    for entry in real.iterdir():
        mine = ours / entry.name
        if not (mine.is_symlink() or mine.exists()):
            mine.symlink_to(entry)


def _mirror(root: Path) -> None:
    """Makes ``root`` look like ``/`` in all that is not ours: links to the real thing."""
    sys_ = root / "sys"
    (sys_ / "class" / "powercap").mkdir(parents=True, exist_ok=True)
    (sys_ / "devices" / "virtual" / "powercap").mkdir(parents=True, exist_ok=True)
    pmus = sys_ / "bus" / "event_source" / "devices"
    pmus.mkdir(parents=True, exist_ok=True)
    for pmu in Path("/sys/bus/event_source/devices").glob("*"):
        mine = pmus / pmu.name
        # A real machine's power PMU must not be taken for the rig's.
        if pmu.name not in _POWER_PMUS and not mine.is_symlink():
            mine.symlink_to(pmu)
    for part in ("bus/event_source", "bus", "class", "devices/virtual", "devices", ""):
        _link_rest(Path("/sys") / part, sys_ / part)
    (root / "run").mkdir(exist_ok=True)
    for name in ("proc", "etc"):
        mine = root / name
        if not (mine.is_symlink() or mine.exists()):
            mine.symlink_to(Path("/") / name)


def _write_pmu(
    devices: Path, name: str, cpus: Sequence[int], joules_per_ns: dict[str, float]
) -> None:
    """A PMU directory that the kernel counts as cpu-clock and perf scales to joules.

    Type 1 is PERF_TYPE_SOFTWARE, config 0 PERF_COUNT_SW_CPU_CLOCK: it counts ns on every CPU of
    the mask, so a scale of watts x 1e-9 yields watts, divided by the number of CPUs counted.
    """
    pmu = devices / name
    (pmu / "events").mkdir(parents=True, exist_ok=True)
    (pmu / "format").mkdir(exist_ok=True)
    (pmu / "type").write_text("1\n")
    (pmu / "cpumask").write_text(_cpu_list(cpus) + "\n")
    (pmu / "format" / "event").write_text("config:0-63\n")
    for event, scale in joules_per_ns.items():
        (pmu / "events" / event).write_text("event=0x00\n")
        (pmu / "events" / f"{event}.unit").write_text("Joules\n")
        new = pmu / "events" / f".{event}.scale"
        new.write_text(f"{scale / len(cpus):.17e}\n")
        new.rename(pmu / "events" / f"{event}.scale")


def _cpu_list(cpus: Sequence[int]) -> str:
    """As the kernel writes lists: ``0-1``, ``0,2``."""
    runs: list[list[int]] = []
    for cpu in sorted(cpus):
        if runs and cpu == runs[-1][-1] + 1:
            runs[-1].append(cpu)
        else:
            runs.append([cpu])
    return ",".join(str(r[0]) if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in runs)


_CPUS = {
    "GenuineIntel": ("6", "106", "Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz"),
    "AuthenticAMD": ("25", "1", "AMD EPYC 7B13 64-Core Processor"),
}


def _cpuinfo_as(vendor: str) -> str | None:
    """The host's cpuinfo with another vendor; ``None`` when it needs no change."""
    text = Path("/proc/cpuinfo").read_text()
    if re.search(r"^vendor_id", text, re.M) is None:
        return None
    if re.search(rf"^vendor_id\s*:\s*{vendor}$", text, re.M):
        return None
    family, model, name = _CPUS[vendor]
    for field, value in (
        ("vendor_id", vendor),
        ("cpu family", family),
        ("model", model),
        ("model name", name),
    ):
        text = re.sub(rf"^({field}\s*: ).*$", rf"\g<1>{value}", text, flags=re.M)
    return text


class Rig:
    """A live simulated machine, as a context manager.

    Package power is ``idle_watts + gain * load**gamma`` W, load in busy CPUs of this very machine
    (processes weighted by what :meth:`register` says), or ``watts`` when they are constant. It is
    split over the packages; ``fractions`` make the other domains from it.

    Attributes:
        root: directory to give a meter as its ``/``: ``root/sys`` and ``root/proc`` are the
            machine's, except powercap, the power PMU and the CPU's vendor, which are the rig's.
        base: the rig's folder; gone after :meth:`close`.
        zones: the zones of the tree.
    """

    root: Path
    base: Path
    zones: list[Zone]

    def __init__(
        self,
        packages: int = 1,
        domains: Sequence[str] = ("package", "core", "dram"),
        *,
        psys: bool = False,
        mmio: bool = False,
        amd: bool = False,
        idle_watts: float = 20.0,
        watts: float | None = None,
        gain: float = 30.0,
        gamma: float = 0.8,
        fractions: Mapping[str, float] | None = None,
        tick_us: int = 1000,
        jitter_us: int = 0,
        max_range_uj: int = INTEL_RANGE_UJ,
        start_uj: int = 1_000_000,
        resolution_uj: float | None = None,
        perf: bool = False,
        perf_factor: float = 1.0,
        mode: int = 0o444,
        names: Sequence[str] | None = None,
        split: Sequence[float] | None = None,
        psys_first: bool = False,
        psys_watts: float = 15.0,
        vendor: str | None = "auto",
        count_self: bool = True,
        realtime: bool = True,
        step_us: int = 1000,
        history_s: int = 120,
    ) -> None:
        """Describes the machine; it starts with ``with`` or :meth:`start`.

        Args:
            packages: CPU packages (sockets or dies).
            domains: ``package`` and sub-zones in the order of their numbers;
                ``("package", "dram")`` is the layout of real servers.
            psys: a platform zone: packages, memory and ``psys_watts`` of board.
            mmio: the ``intel-rapl-mmio`` twin, which repeats the packages.
            amd: AMD's looks: the ``core`` zone shows one core of 64, cpuinfo says AMD, perf has a
                ``power_core`` PMU. Leave ``dram`` out of ``domains`` to be faithful.
            idle_watts: W of all packages at rest.
            watts: constant W of all packages, whatever the load: costs no CPU at all.
            gain: W above idle at one busy CPU.
            gamma: exponent of the load.
            fractions: changes to :data:`FRACTIONS`.
            tick_us: µs between counter updates; 0 is continuous.
            jitter_us: µs by which an update may be late (below ``tick_us``).
            max_range_uj: ``max_energy_range_uj``; the modulus is one more.
            start_uj: first value of every counter.
            resolution_uj: µJ per count, such as 61.035 (Intel) or 15.259 (AMD).
            perf: a ``power`` PMU; constant watts only.
            perf_factor: perf's watts are this many times RAPL's.
            mode: permissions of ``energy_uj``; 0o400 is what kernels since 2020 have.
            names: names of the packages in the order of their numbers, e.g.
                ``["package-1", "package-0"]`` or ``["package-0-die-0", "package-0-die-1"]``.
            split: each package's part of the whole; equal parts by default.
            psys_first: psys is zone 0 and the packages follow.
            psys_watts: W of the board, in psys only.
            vendor: ``vendor_id`` in the cpuinfo that the meter sees; ``"auto"`` follows ``amd``,
                ``None`` leaves the host's.
            count_self: the rig's own CPU time is load (of others), as the meter sees it too.
            realtime: serve reads and integrate ahead of ordinary work.
            step_us: µs between steps of the integrator.
            history_s: s for which truth is kept.
        """
        self._names = _names(packages, names)
        sub = _sub_domains(domains)
        parts = [1.0 / packages] * packages if split is None else list(split)
        if len(parts) != packages or not math.isclose(sum(parts), 1.0):
            raise ValueError("split needs one part per package, 1 in all")
        if perf and watts is None:
            raise ValueError("a power PMU is clock times watts: it needs constant watts")
        if tick_us and jitter_us >= tick_us:
            raise ValueError("jitter_us must be below tick_us")
        if vendor == "auto":
            vendor = "AuthenticAMD" if amd else "GenuineIntel"
        if vendor is not None and vendor not in _CPUS:
            raise ValueError(f"vendor is one of {sorted(_CPUS)}, 'auto' or None")
        self.zones = _zones(self._names, sub, psys, psys_first, mmio)
        self._fractions = {**FRACTIONS, **(fractions or {})}
        self._vendor = vendor
        self._sub = sub
        self._psys_watts = psys_watts if psys else None
        self._amd = amd
        self._perf_factor = perf_factor if perf else None
        self._watts = watts
        self._config: dict[str, Any] = {
            "names": self._names,
            "split": parts,
            "domains": sub,
            "fractions": self._fractions,
            "psys_watts": self._psys_watts,
            "psys_first": psys_first,
            "mmio": mmio,
            "core_zone_of": AMD_CORES if amd else 1,
            "idle_watts": idle_watts,
            "watts": watts,
            "gain": gain,
            "gamma": gamma,
            "tick_us": tick_us,
            "jitter_us": jitter_us,
            "step_us": step_us,
            "history_s": history_s,
            "max_range_uj": max_range_uj,
            "start_uj": start_uj,
            "resolution_uj": resolution_uj,
            "mode": mode,
            "count_self": count_self,
            "realtime": realtime,
            "parent": 0,
            "binds": [],
        }
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._owner = 0
        self._connected = 0

    # -- can it run, and with what ----------------------------------------------------------

    @staticmethod
    def unavailable_reason() -> str | None:
        """Why a rig cannot run here; ``None`` when it can. Builds nothing."""
        if sys.platform != "linux":
            return "the rig needs Linux"
        if os.geteuid() != 0:
            return "the rig mounts file systems: it needs root"
        status = Path("/proc/self/status").read_text()
        effective = re.search(r"^CapEff:\s*([0-9a-f]+)", status, re.M)
        if effective is None or not int(effective[1], 16) >> 21 & 1:
            return "the rig mounts file systems: it needs CAP_SYS_ADMIN"
        try:
            if not stat.S_ISCHR(os.stat("/dev/fuse").st_mode):
                return "/dev/fuse is not a device"
            os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
        except OSError as e:
            return f"the rig needs FUSE: {e}"
        if shutil.which("cargo") is None and not Rig._binary().is_file():
            return "the rig is built with cargo, which is not in PATH"
        return None

    @staticmethod
    def _binary() -> Path:
        target = os.environ.get("CARGO_TARGET_DIR")
        return (Path(target) if target else HERE / "target") / "release" / BINARY

    _built: Path | None = None

    @classmethod
    def build(cls) -> Path:
        """Compiles the rig, once per process, and returns the binary.

        The target directory is ``CARGO_TARGET_DIR`` or ``tests/rig/target``.
        """
        if cls._built is not None and cls._built.is_file():
            return cls._built
        binary = cls._binary()
        cargo = shutil.which("cargo")
        if cargo is not None:
            manifest = HERE / "Cargo.toml"
            if not binary.is_file():
                print("building the rig: a minute or more the first time", file=sys.stderr)
            built = subprocess.run(
                [cargo, "build", "--release", "--locked", "--quiet", "--manifest-path", manifest],
                env={**os.environ, "CARGO_TARGET_DIR": str(binary.parent.parent)},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
            if built.returncode != 0:
                raise RuntimeError(f"the rig does not build:\n{built.stderr[-4000:]}")
        if not binary.is_file():
            raise RuntimeError("no binary of the rig, and no cargo to build it")
        cls._built = binary
        return binary

    # -- life -------------------------------------------------------------------------------

    def start(self) -> Rig:
        """Builds if need be, mounts the tree and starts the simulation."""
        if self._process is not None:
            raise RuntimeError("this rig runs already")
        binary = self.build()
        self._owner = os.getpid()
        self.base = Path(tempfile.mkdtemp(prefix="lithowatt-rig-"))
        self.root = self.base / "root"
        if len(str(self.base / "control")) > 100:
            self.base.rmdir()
            raise RuntimeError("the temporary directory's path is too long for a socket")
        try:
            self._prepare()
            self._launch(binary)
        except BaseException:
            self.close()
            raise
        return self

    def _prepare(self) -> None:
        """Writes all that does not live: the mirror, the overlay and the power PMU."""
        overlay = self.base / "overlay"
        for part in ("class/powercap", "devices/virtual/powercap", "bus/event_source/devices"):
            (overlay / part).mkdir(parents=True)
        for part in ("live", "ns"):
            (self.base / part).mkdir()
        binds = []
        changed = None if self._vendor is None else _cpuinfo_as(self._vendor)
        if changed is not None:
            (self.base / "cpuinfo").write_text(changed)
            (self.root / "proc").mkdir(parents=True)
            binds = [
                {"source": "/proc", "target": "root/proc"},
                {"source": "cpuinfo", "target": "root/proc/cpuinfo"},
            ]
        pmus = self._write_pmus() if self._perf_factor is not None else []
        for name in _POWER_PMUS:
            if name in pmus:
                for sys_ in (overlay, self.root / "sys"):
                    link = sys_ / "bus" / "event_source" / "devices" / name
                    link.parent.mkdir(parents=True, exist_ok=True)
                    link.symlink_to(Path("../../../devices") / name)
                mine = self.root / "sys" / "devices" / name
                mine.parent.mkdir(parents=True, exist_ok=True)
                mine.symlink_to(overlay / "devices" / name)
            elif Path("/sys/bus/event_source/devices", name).exists():
                # A whiteout: the overlay hides the real machine's.
                os.mknod(overlay / "bus/event_source/devices" / name, stat.S_IFCHR, 0)
        _mirror(self.root)
        config = {**self._config, "parent": self._owner, "binds": binds}
        (self.base / "config.json").write_text(json.dumps(config))

    def _write_pmus(self) -> list[str]:
        watts, factor = self._watts, self._perf_factor
        assert watts is not None and factor is not None
        unit = watts * factor * 1e-9
        scales = {"energy-pkg": unit}
        for domain in self._sub:
            if not (self._amd and domain == "core"):
                scales[_PMU_EVENTS[domain]] = unit * self._fractions[domain]
        if self._psys_watts is not None:
            dram = self._fractions["dram"] if "dram" in self._sub else 0.0
            scales["energy-psys"] = (watts * (1 + dram) + self._psys_watts) * factor * 1e-9
        online = sorted(os.sched_getaffinity(0))
        devices = self.base / "overlay" / "devices"
        _write_pmu(devices, "power", online[: len(self._names)], scales)
        if not (self._amd and "core" in self._sub):
            return ["power"]
        cores = {"energy-core": unit * self._fractions["core"]}
        _write_pmu(devices, "power_core", online, cores)
        return ["power", "power_core"]

    def _launch(self, binary: Path) -> None:
        process = subprocess.Popen(
            [binary, "serve", self.base],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._process = process
        assert process.stdout is not None and process.stderr is not None
        if not process.stdout.readline():
            raise RuntimeError(process.stderr.read().decode(errors="replace").strip())

    def close(self) -> None:
        """Ends the simulation and takes every mount and file of it away."""
        if self._owner != os.getpid():
            # A forked child has the object but not the rig.
            return
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.communicate(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
        # The rig removes its folder itself; this is for one that never started. A folder with
        # mounts left in it is not touched: the next rig's sweep takes it.
        if self.base.exists() and str(self.base) not in Path("/proc/self/mountinfo").read_text():
            shutil.rmtree(self.base, ignore_errors=True)

    def __enter__(self) -> Rig:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- control ----------------------------------------------------------------------------

    def _ask(self, cmd: str, **arguments: Any) -> dict[str, Any]:
        with self._lock:
            if self._connection is None or self._connected != os.getpid():
                # A forked child needs a conversation of its own.
                connection = socket.socket(socket.AF_UNIX)
                try:
                    connection.connect(str(self.base / "control"))
                except OSError:
                    connection.close()
                    raise
                self._connection, self._connected = connection, os.getpid()
            self._connection.sendall(json.dumps({"cmd": cmd, **arguments}).encode() + b"\n")
            reply = b""
            while not reply.endswith(b"\n"):
                part = self._connection.recv(65536)
                if not part:
                    raise ConnectionError("the rig has ended")
                reply += part
        answer: dict[str, Any] = json.loads(reply)
        if not answer.pop("ok"):
            if answer["errno"] is not None:
                raise OSError(answer["errno"], answer["error"])
            raise ValueError(answer["error"])
        return answer

    def register(self, pid: int, weight: float = 1.0, *, tree: bool = True) -> str:
        """Keeps a process's energy apart from now on; the truth has it in ``pids``.

        Args:
            pid: a living process.
            weight: how much load one of its CPU seconds is (the model's kappa).
            tree: with its living descendants and all that it starts from now on. A descendant
                registered itself is counted there only.

        Returns:
            ``"perf"`` where the kernel counts its CPU time exactly at any moment, ``"process"``
            where its CPU clock has to do (which moves in scheduler ticks).
        """
        clock: str = self._ask("register", pid=pid, weight=weight, tree=tree)["clock"]
        return clock

    def unregister(self, pid: int) -> None:
        """What the process uses from now on is others'."""
        self._ask("unregister", pid=pid)

    def energy(self, t0_ns: int, t1_ns: int) -> Truth:
        """The truth about a window of ``time.monotonic_ns()`` that lies in the past."""
        answer = self._ask("energy", t0_ns=t0_ns, t1_ns=t1_ns)
        answer["pids"] = {int(pid): joules for pid, joules in answer["pids"].items()}
        return Truth(**answer, seconds=(t1_ns - t0_ns) * 1e-9)

    def watts(self) -> dict[str, float]:
        """Now: ``package`` and ``machine`` in W, ``load_cpus`` in weighted busy CPUs."""
        return self._ask("watts")

    def fault(self, kind: FaultKind, zone: str = "package-0") -> list[str]:
        """Makes a zone fail: what its readers see changes, the truth does not.

        Args:
            kind: ``eacces``, ``vanish`` (with its sub-zones), ``garbage``, ``empty``, ``freeze``,
                ``reset`` (restarts at 0, once) or ``clear``.
            zone: a key, a directory name, the name of several zones (``"dram"``) or ``"*"``.

        Returns:
            Keys of the zones concerned.
        """
        zones: list[str] = self._ask("fault", kind=kind, zone=zone)["zones"]
        return zones

    def set_watts(self, watts: float) -> None:
        """Changes the constant watts. A perf counter that is open keeps its old scale."""
        self._ask("set_watts", watts=watts)
        self._watts = watts
        if self._perf_factor is not None:
            self._write_pmus()

    def stats(self) -> dict[str, Any]:
        """Counter ``reads``, ``own_cpu_ns``, ``steps``, ``longest_step_ns``, ``machine_clock``."""
        return self._ask("stats")

    # -- files ------------------------------------------------------------------------------

    def zone_dir(self, zone: str) -> Path:
        """Directory of a zone (by key) in :attr:`root`."""
        return _zone_dir(self.root, self.zones, zone)

    def read_uj(self, zone: str = "package-0") -> int:
        """The counter of a zone as a reader sees it, µJ."""
        return int((self.zone_dir(zone) / "energy_uj").read_text())

    # -- other programs ---------------------------------------------------------------------

    def command(self, cmd: Sequence[str | os.PathLike[str]]) -> list[str]:
        """The command line that runs ``cmd`` where ``/sys`` is the rig's, and nowhere else."""
        return [str(self.build()), "exec", str(self.base), "--", *(os.fspath(c) for c in cmd)]

    def run(
        self, cmd: Sequence[str | os.PathLike[str]], **kw: Any
    ) -> subprocess.CompletedProcess[Any]:
        """``subprocess.run`` in a private mount namespace: the program, unmodified, finds the
        rig's ``/sys/class/powercap``, power PMU and cpuinfo where the machine's would be."""
        return subprocess.run(self.command(cmd), **kw)

    def popen(self, cmd: Sequence[str | os.PathLike[str]], **kw: Any) -> subprocess.Popen[Any]:
        """``subprocess.Popen`` likewise; ``.pid`` is the program's own."""
        return subprocess.Popen(self.command(cmd), **kw)


def _zone_dir(root: Path, zones: Sequence[Zone], key: str) -> Path:
    for zone in zones:
        if zone.key == key:
            return root / "sys/class/powercap" / zone.dir
    raise KeyError(f"no zone {key!r}; there are {', '.join(z.key for z in zones)}")


class StaticTree:
    """The same layout as plain files: for unit tests and benchmarks, without FUSE and root.

    Counters are written in place with a fixed width, so that a reader with an open descriptor
    always finds a whole number: truncate-and-write is seen empty, a renamed file is not seen.

    Attributes:
        root: directory to give a meter as its ``/``.
        zones: the zones of the tree.
        max_range_uj: largest counter value.
    """

    WIDTH = 20

    def __init__(
        self,
        path: str | os.PathLike[str],
        packages: int = 1,
        domains: Sequence[str] = ("package", "core", "dram"),
        *,
        psys: bool = False,
        mmio: bool = False,
        names: Sequence[str] | None = None,
        psys_first: bool = False,
        max_range_uj: int = INTEL_RANGE_UJ,
        start_uj: int = 1_000_000,
        mode: int = 0o444,
        mirror: bool = True,
    ) -> None:
        """Writes the tree below ``path``; the arguments are those of :class:`Rig`.

        With ``mirror`` the rest of ``/sys`` and ``/proc`` are links to the real ones; without it
        they are missing, for the test to write.
        """
        self.root = Path(path)
        self.max_range_uj = max_range_uj
        self.zones = _zones(_names(packages, names), _sub_domains(domains), psys, psys_first, mmio)
        devices = self.root / "sys/devices/virtual/powercap"
        links = self.root / "sys/class/powercap"
        links.mkdir(parents=True)
        tops = sorted({zone.path.split("/")[0] for zone in self.zones})
        for path_ in [*tops, *(zone.path for zone in self.zones)]:
            here = devices / path_
            here.mkdir(parents=True)
            (here / "enabled").write_text("1\n")
            (here / "subsystem").symlink_to(os.path.relpath(links, here))
            (links / here.name).symlink_to(os.path.relpath(here, links))
        self._values: dict[str, int] = {}
        self._files: dict[str, int] = {}
        for zone in self.zones:
            here = devices / zone.path
            (here / "name").write_text(f"{zone.name}\n")
            (here / "max_energy_range_uj").write_text(f"{max_range_uj}\n")
            fd = os.open(here / "energy_uj", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._files[zone.key] = fd
            self.set(zone.key, start_uj)
            os.fchmod(fd, mode)
        if mirror:
            _mirror(self.root)

    def zone_dir(self, zone: str) -> Path:
        """Directory of a zone (by key)."""
        return _zone_dir(self.root, self.zones, zone)

    def set(self, zone: str, uj: int) -> None:
        """Sets a counter, µJ."""
        if not 0 <= uj <= self.max_range_uj:
            raise ValueError(f"a counter holds 0 to {self.max_range_uj} µJ, not {uj}")
        self.show(zone, str(uj))
        self._values[zone] = uj

    def show(self, zone: str, text: str) -> None:
        """Has a counter's file hold any text, whoever runs this; the counter's value is kept."""
        # Blanks at the end, not zeros in front: some readers take a leading zero for octal.
        os.pwrite(self._files[zone], f"{text:<{self.WIDTH}}\n".encode(), 0)

    def add(self, zone: str, uj: int) -> int:
        """Adds to a counter, which wraps as the real one does; returns its value."""
        self.set(zone, (self._values[zone] + uj) % (self.max_range_uj + 1))
        return self._values[zone]

    def value(self, zone: str) -> int:
        """The counter's value, µJ."""
        return self._values[zone]

    @contextlib.contextmanager
    def moving(self, watts: float = 20.0) -> Iterator[None]:
        """Every counter goes on meanwhile, once in 2 ms."""
        ended = threading.Event()

        def count() -> None:
            while not ended.wait(0.002):
                for zone in self.zones:
                    self.add(zone.key, round(watts * 2_000))

        thread = threading.Thread(target=count, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def close(self) -> None:
        """Closes the files; the tree stays."""
        while self._files:
            os.close(self._files.popitem()[1])

    def __enter__(self) -> StaticTree:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


# -- the program --------------------------------------------------------------------------------


@contextlib.contextmanager
def _described(rig: Rig) -> Iterator[Rig]:
    with rig:
        print(f"rig: root {rig.root}", file=sys.stderr)
        begun = time.monotonic_ns()
        yield rig
        truth = rig.energy(begun, time.monotonic_ns())
        print(f"rig: {truth.seconds:.3f} s", file=sys.stderr)
        for zone, joules in truth.zones.items():
            print(f"rig: {joules:14.6f} J  {zone}", file=sys.stderr)
        print(f"rig: {truth.machine:14.6f} J  machine = idle + others + processes", file=sys.stderr)
        print(f"rig: {truth.idle:14.6f} J  idle", file=sys.stderr)
        print(f"rig: {truth.others:14.6f} J  others", file=sys.stderr)
        for pid, joules in truth.pids.items():
            print(f"rig: {joules:14.6f} J  process {pid}", file=sys.stderr)


@contextlib.contextmanager
def _passing_on() -> Iterator[list[subprocess.Popen[Any]]]:
    """SIGTERM and SIGHUP go to the commands that are put into the list; with none they end us."""
    commands: list[subprocess.Popen[Any]] = []

    def pass_on(number: int, _: object) -> None:
        if not commands:
            raise SystemExit(128 + number)
        for command in commands:
            command.send_signal(number)

    if threading.current_thread() is not threading.main_thread():
        yield commands
        return
    before = {n: signal.signal(n, pass_on) for n in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield commands
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command on a rig and prints the truth."""
    parser = argparse.ArgumentParser(
        prog="rig.py",
        description="Run a command on a simulated machine and print what it really used.",
    )
    parser.add_argument("--packages", type=int, default=1)
    parser.add_argument("--domains", default="package,core,dram", help="default: %(default)s")
    parser.add_argument(
        "--watts",
        type=float,
        help="constant W of all packages; dram takes 15 %% of that besides (50: 57.5 W in all)",
    )
    parser.add_argument("--idle-watts", type=float, default=20.0)
    parser.add_argument("--gain", type=float, default=30.0, help="W above idle at one busy CPU")
    parser.add_argument("--gamma", type=float, default=0.8)
    parser.add_argument("--tick-us", type=int, default=1000)
    parser.add_argument("--max-range-uj", type=int, default=INTEL_RANGE_UJ)
    parser.add_argument("--mode", type=lambda s: int(s, 8), default=0o444, help="octal")
    parser.add_argument(
        "--history-s",
        type=int,
        default=1800,
        help="s of truth that is kept, so how long a command may take (default: %(default)s)",
    )
    parser.add_argument("--psys", action="store_true")
    parser.add_argument("--mmio", action="store_true")
    parser.add_argument("--amd", action="store_true")
    parser.add_argument("--perf", action="store_true", help="a power PMU (with --watts)")
    parser.add_argument("command", nargs="*", help="default: wait until interrupted")
    options = vars(parser.parse_args(argv))
    command = options.pop("command")
    options["domains"] = options["domains"].split(",")
    reason = Rig.unavailable_reason()
    if reason is not None:
        print(f"rig: {reason}", file=sys.stderr)
        return 1
    with _passing_on() as commands, _described(Rig(**options)) as rig:
        try:
            if not command:
                threading.Event().wait()
            with rig.popen(command) as process:
                commands.append(process)
                # It may have ended; constant watts have no processes.
                with contextlib.suppress(OSError, ValueError):
                    rig.register(process.pid)
                code = int(process.wait())
                # As a shell has it, where a signal ended the command.
                return code if code >= 0 else 128 - code
        except KeyboardInterrupt:
            return 130


if __name__ == "__main__":
    sys.exit(main())
