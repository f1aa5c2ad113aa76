"""Two containers on one machine, without any privilege: each gets its own joules from the agent's
ring. Runs wherever podman does; no Kubernetes is needed for what a pod sees."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy
import pytest

import lithowatt
from agent_tools import AgentProcess, shared_folder
from lithowatt import _core
from lithowatt.errors import AgentError
from rig import Rig, StaticTree

pytestmark = [pytest.mark.cluster, pytest.mark.quiet]

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


@pytest.fixture
def folder() -> Iterator[Path]:
    path = shared_folder()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.mark.timeout(120)
def test_the_agent_itself_runs_in_a_pod_of_its_own(podman: dict[str, str], folder: Path) -> None:
    """As in the DaemonSet: user 0 without capabilities, read-only root, no network."""
    # Readable by its owner only, as the kernel has it.
    tree = StaticTree(folder / "node", mode=0o400)
    directory = folder / "lithowatt"
    directory.mkdir(mode=0o755)
    program = [sys.executable, "-m", "lithowatt", "agent", "--ring", "/run/lithowatt/ring"]
    program += ["--root", "/host", "--metrics", "127.0.0.1:9477"]
    mounts = [f"{tree.root}:/host:ro", f"{directory}:/run/lithowatt"]
    command = Pod.command(folder, "agent", mounts, program)
    command[command.index("1000:1000")] = "0:0"
    name = f"lithowatt-agent-{os.getpid()}"
    command[2:2] = ["--name", name]
    with (folder / "agent.log").open("w") as log:
        process = subprocess.Popen(command, env=podman, stdout=log, stderr=log)
    try:
        ring = directory / "ring"
        deadline = time.monotonic() + 60
        while not ring.exists() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.1)
        assert ring.exists(), (folder / "agent.log").read_text()
        tree.add("package-0", 4_000_000)
        time.sleep(0.3)
        look = _core.Ring(ring, tree.root).look()
        assert look["joules"]["package-0"] == pytest.approx(5.0)
    finally:
        subprocess.run(["podman", "stop", "-t", "10", name], env=podman, capture_output=True)
        process.wait(timeout=60)
    # It was told to end, and said so in the ring.
    with pytest.raises(AgentError, match=r"was stopped|no sign of life"):
        _core.Ring(ring, tree.root)


@pytest.mark.timeout(300)
def test_two_pods_three_to_one_get_their_joules(
    live: None,
    podman: dict[str, str],
    folder: Path,
    steady: Callable[[Callable[[], None]], None],
) -> None:
    turns = iter(range(9))

    @steady
    def check() -> None:
        here = folder / str(next(turns))
        here.mkdir()
        # Energy in proportion to CPU time, so that the truth of a pod is its CPU time's part.
        with Rig(packages=1, domains=("package", "dram"), idle_watts=20, gain=30, gamma=1) as rig:
            ring = here / "lithowatt" / "ring"
            # 15 % of the packages' come on top as DRAM's.
            agent = AgentProcess(
                rig.root, ring, "--round", "0.5", LITHOWATT_IDLE_WATTS="23", NODE_NAME="node-a"
            )
            with agent:
                mounts = [f"{ring.parent}:/run/lithowatt:ro"]
                pods = {
                    name: Pod(podman, here, name, mounts, share, "6")
                    for name, share in (("three", "0.75"), ("one", "0.25"))
                }
                for pod in pods.values():
                    assert pod.line() == "on\n"
                    pod.find()
                    rig.register(pod.pid)
                # Starting is over and the machine rests for some rounds, so that the agent learns
                # idle power from a round that is nearly idle.
                time.sleep(4)
                before = groups(ring, rig.root)
                started = time.monotonic_ns()
                for pod in pods.values():
                    pod.go()
                told = {name: json.loads(pod.line()) for name, pod in pods.items()}
                # Their last part is in the rows after the agent's next round.
                time.sleep(1.2)
                after = groups(ring, rig.root)
                truths = {}
                for name, one in told.items():
                    t0, t1 = one["t"]
                    assert t0 >= started
                    truths[name] = rig.energy(t0, t1)
                registered = {name: pod.pid for name, pod in pods.items()}
                for pod in pods.values():
                    pod.close()
        for name, one in told.items():
            assert one["uid"] == 1000 and one["capabilities"] == 0
            assert not one["counters"]
            assert one["method"] == "rapl+cputime via agent", one["warnings"]
            assert one["quality"] == "attributed"
            assert one["machine"] == pytest.approx(truths[name].machine, rel=0.02)
            own = truths[name].pids[registered[name]]
            # Idle power is what the agent made of a machine that never rests wholly; the ratio of
            # the two, below, does not depend on it so much.
            assert one["marginal"] == pytest.approx(own, rel=0.06)
            low, high = one["band"]
            assert low <= own <= high
            # The pod's own row in the ring is the same energy, by its cgroup.
            (row,) = one["own"]
            gained = (after[row["id"]] - before.get(row["id"], 0)) * 1e-6
            one["row"] = gained
            assert gained == pytest.approx(own, rel=0.06)
        three, one = told["three"], told["one"]
        ratio = three["cpu"] / one["cpu"]
        assert ratio == pytest.approx(3.0, rel=0.1)
        assert three["marginal"] / one["marginal"] == pytest.approx(ratio, rel=0.03)
        truth = truths["three"].pids[registered["three"]] / truths["one"].pids[registered["one"]]
        assert three["marginal"] / one["marginal"] == pytest.approx(truth, rel=0.03)
        assert three["row"] / one["row"] == pytest.approx(truth, rel=0.03)


def groups(ring: Path, root: Path) -> dict[int, int]:
    """µJ by cgroup id."""
    state = _core.Ring(ring, root).groups()
    assert state is not None
    account, rows = state
    parts = account["idle_uj"] + account["rest_uj"] + account["gone_uj"]
    counted = sum(row["active_uj"] for row in rows if row["counted"])
    assert parts + counted == account["machine_uj"]
    return {row["id"]: row["active_uj"] for row in rows}
