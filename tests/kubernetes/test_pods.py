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

import pytest

from lithowatt import _core
from lithowatt.errors import AgentError
from rig import Rig, StaticTree
from tests.support.agent_tools import AgentProcess, shared_folder
from tests.support.pods import Pod, podman

__all__ = ["podman"]  # a fixture

pytestmark = [pytest.mark.cluster, pytest.mark.quiet]


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
