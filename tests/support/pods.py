"""Containers by podman, as poor as Lithops' default pod."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy
import pytest

import lithowatt

CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
"""


#: The lithowatt under test, and what the tests' programs import with it.
OWN = [Path(lithowatt.__file__).parent.parent, Path(numpy.__file__).parent.parent]


VARIABLES = {
    # What a calibration would tell.
    "LITHOWATT_IDLE_WATTS": "23",
    "PYTHONPATH": os.pathsep.join(map(str, OWN)),
}


WORK = """
import json, os, sys, time
from lithowatt import EnergyMeter, _core
share, seconds = float(sys.argv[1]), float(sys.argv[2])
meter = EnergyMeter()
# Everything that a first window finds out and keeps.
with meter:
    time.sleep(0.1)
meter.reading
print("on", flush=True)
sys.stdin.readline()
t0 = time.monotonic_ns()
cpu = time.process_time()
with meter:
    # Its part of the time, and all of it in the end, however busy the machine is.
    begin = time.monotonic()
    while (used := time.process_time() - cpu) < share * seconds:
        if used > share * (time.monotonic() - begin):
            time.sleep(0.005)
t1 = time.monotonic_ns()
cpu = time.process_time() - cpu
time.sleep(1.3)
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
reading = meter.reading
print(json.dumps({
    "uid": os.getuid(), "capabilities": int(status["CapEff"], 16), "t": [t0, t1], "cpu": cpu,
    "marginal": reading.marginal, "machine": reading.machine, "method": reading.method,
    "quality": reading.quality, "warnings": reading.warnings,
    "band": [reading.headline.low, reading.headline.high],
    "own": _core.Ring().own_groups(),
    "pod": os.environ.get("POD_NAME"), "node": os.environ.get("NODE_NAME"),
    "counters": os.path.exists("/sys/class/powercap/intel-rapl:0/energy_uj"),
}), flush=True)
sys.stdin.readline()
"""


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment podman runs in here; skips where it does not run."""
    for tool in ("podman", "runc"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")
    if os.geteuid() != 0:
        pytest.skip("needs root, as the agent's cgroups are the host's")
    folder = tmp_path_factory.mktemp("podman")
    conf = folder / "containers.conf"
    conf.write_text(CONTAINERS_CONF)
    environment = {**os.environ, "CONTAINERS_CONF": str(conf), "TMPDIR": str(folder)}
    command = Pod.command(folder, "probe", [], ["true"])
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        pytest.skip("podman does not answer")
    if done.returncode != 0:
        pytest.skip(f"podman runs no container here: {done.stderr.strip()[-200:]}")
    return environment


def machine_files(rootfs: Path, own: list[Path]) -> list[str]:
    """Makes the root of a container, and podman's options that put the machine's own programs, this
    Python and `own` into it, read-only."""
    for directory in ("usr", "proc", "sys", "dev", "run", "tmp", "etc", "root"):
        (rootfs / directory).mkdir(parents=True, exist_ok=True)
    wanted = {"/usr", "/etc/alternatives", sys.prefix, sys.base_prefix, *map(str, own)}
    for link in ("bin", "lib", "lib64", "sbin"):
        real = Path("/") / link
        if real.is_symlink():
            if not (rootfs / link).is_symlink():
                (rootfs / link).symlink_to(os.readlink(real))
        elif real.is_dir():
            wanted.add(str(real))
    inside = [w for w in wanted if any(w != o and w.startswith(o + "/") for o in wanted)]
    options = []
    for path in sorted(wanted - set(inside)):
        if Path(path).exists():
            options += ["-v", f"{path}:{path}:ro"]
    return options


class Pod:
    """A container as poor as Lithops' default pod: uid 1000, no capability, read-only root. Its
    programs and this Python are the machine's own, mounted read-only, so no image is needed."""

    def __init__(
        self, environment: dict[str, str], folder: Path, name: str, mounts: list[str], *args: str
    ) -> None:
        self.pid = 0
        self.program = [sys.executable, "-c", WORK, *args]
        command = self.command(folder, name, mounts, self.program)
        self._start(command, environment, folder / f"{name}.err")

    @classmethod
    def started(
        cls, command: list[str], program: list[str], environment: dict[str, str], log: Path
    ) -> Pod:
        """One that was described elsewhere."""
        pod = cls.__new__(cls)
        pod.pid, pod.program = 0, program
        pod._start(command, environment, log)
        return pod

    def _start(self, command: list[str], environment: dict[str, str], log_path: Path) -> None:
        self.log = log_path
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    @staticmethod
    def command(folder: Path, name: str, mounts: list[str], program: list[str]) -> list[str]:
        rootfs = folder / f"rootfs-{name}"
        command = ["podman", "run", "--rm", "-i", "--network", "none", "--read-only"]
        command += ["--user", "1000:1000", "--cap-drop", "ALL"]
        command += ["--security-opt", "no-new-privileges"]
        command += machine_files(rootfs, OWN)
        for mount in mounts:
            command += ["-v", mount]
        for variable, value in VARIABLES.items():
            command += ["-e", f"{variable}={value}"]
        return [*command, "--rootfs", str(rootfs), *program]

    def find(self) -> None:
        """Finds the program's pid on the host: the one that is another one inside."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            for entry in Path("/proc").glob("[0-9]*"):
                try:
                    line = (entry / "cmdline").read_bytes().split(b"\0")
                    pids = (entry / "status").read_text().split("NSpid:")[1].split("\n")[0]
                except (OSError, IndexError):
                    continue
                arguments = [part.encode() for part in self.program]
                if line[: len(arguments)] == arguments and len(pids.split()) > 1:
                    self.pid = int(entry.name)
                    return
            time.sleep(0.05)
        raise TimeoutError("the container's process was not found")

    def line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log.read_text()
        return line

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def close(self) -> None:
        self.process.communicate("\n", timeout=60)
