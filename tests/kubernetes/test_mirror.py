"""The mode `mirror` of the pod template, really run: a function that has nothing of its node, and
beside it the sidecar, as the template describes them; and an API server that is too old."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lithowatt.lithops.kubernetes import edit_template
from rig import Rig
from tests.kubernetes.test_api_server import PATHS, Server, server
from tests.support.agent_tools import AgentProcess, shared_folder
from tests.support.kubernetes_job import JOB
from tests.support.pods import Pod, podman

pytestmark = [pytest.mark.cluster, pytest.mark.quiet]

__all__ = ["podman", "server"]  # fixtures

yaml = pytest.importorskip("yaml")


def pod_of(text: str) -> dict[str, Any]:
    spec: dict[str, Any] = yaml.safe_load(text)["spec"]["template"]["spec"]
    return spec


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def sidecar_command(folder: Path, spec: dict[str, Any], ring: Path, name: str) -> list[str]:
    """podman's, by the template's words: its image is not to be had here, so the command is this
    Python's, and the node's network is the test's."""
    (sidecar,) = spec["initContainers"]
    (mount,) = sidecar["volumeMounts"]
    security = sidecar["securityContext"]
    assert security["capabilities"] == {"drop": ["ALL"]} and security["readOnlyRootFilesystem"]
    assert not mount.get("readOnly")
    program = [sys.executable, "-m", *sidecar["command"], *sidecar["args"]]
    command = Pod.command(folder, "mirror", [f"{ring}:{mount['mountPath']}"], program)
    command[command.index("--network") + 1] = "host"
    command[command.index("--user") + 1] = f"{security['runAsUser']}:{security['runAsUser']}"
    limits = sidecar["resources"]["limits"]
    command[2:2] = ["--name", name, "--memory", limits["memory"].removesuffix("i").lower()]
    return command


@pytest.mark.timeout(300)
def test_a_function_beside_a_mirror_gets_its_joules(
    live: None, podman: dict[str, str], steady: Callable[[Callable[[], None]], None]
) -> None:
    steady(lambda: function_beside_mirror(podman))


def function_beside_mirror(podman: dict[str, str]) -> None:
    folder = shared_folder()
    address = f"127.0.0.1:{free_port()}"
    name = f"lithowatt-mirror-{address.rpartition(':')[2]}"
    spec = pod_of(edit_template(JOB, "mirror", agent_url=f"http://{address}"))
    (function,) = spec["containers"]
    (mount,) = function["volumeMounts"]
    # A volume of the pod's own, as the kubelet makes it.
    volume = folder / "volume"
    volume.mkdir()
    volume.chmod(0o777)
    mirror = None
    try:
        with Rig(packages=1, domains=("package", "dram"), idle_watts=20, gain=30, gamma=1) as rig:
            node = folder / "node" / "lithowatt" / "ring"
            options = ("--metrics", address, "--serve-ring")
            with AgentProcess(rig.root, node, *options, LITHOWATT_IDLE_WATTS="23"):
                command = sidecar_command(folder, spec, volume, name)
                with (folder / "mirror.log").open("w") as log:
                    mirror = subprocess.Popen(command, env=podman, stdout=log, stderr=log)
                deadline = time.monotonic() + 60
                while not (volume / "ring").exists():
                    assert mirror.poll() is None, (folder / "mirror.log").read_text()
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
                # What its liveness probe looks at.
                (_, _, probed) = spec["initContainers"][0]["livenessProbe"]["exec"]["command"]
                assert (volume / Path(probed).name).exists()
                # The memory of the volume is the mirror's, and must suffice.
                kept = sum(file.stat().st_size for file in volume.iterdir())
                assert spec["volumes"][0]["emptyDir"]["sizeLimit"] == "4Mi"
                assert kept < 2 << 20
                mounts = [f"{volume}:{mount['mountPath']}" + ":ro" * mount["readOnly"]]
                pod = Pod(podman, folder, "function", mounts, "0.75", "5")
                assert pod.line() == "on\n"
                pod.find()
                rig.register(pod.pid)
                pod.go()
                told = json.loads(pod.line())
                truth = rig.energy(*told["t"])
                own, machine = truth.pids[pod.pid], truth.machine
                pod.close()
                subprocess.run(
                    ["podman", "stop", "-t", "10", name], env=podman, capture_output=True
                )
                # As the kubelet ends it when the function has ended.
                assert mirror.wait(timeout=60) == 0, (folder / "mirror.log").read_text()
        assert (told["uid"], told["capabilities"], told["counters"]) == (1000, 0, False)
        assert told["method"].endswith("via agent"), told["warnings"]
        assert told["quality"] == "attributed"
        # Its edges are a tenth of a second wide.
        assert told["machine"] == pytest.approx(machine, rel=0.05)
        assert told["marginal"] == pytest.approx(own, rel=0.12)
        low, high = told["band"]
        assert low <= own <= high
    finally:
        if mirror is not None and mirror.poll() is None:
            subprocess.run(["podman", "kill", name], env=podman, capture_output=True)
            mirror.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.timeout(240)
def test_a_server_without_native_sidecars_refuses_the_job(server: Server) -> None:
    """Not one that would let the function wait for ever."""
    job = yaml.safe_load(edit_template(JOB, "mirror"))
    path = PATHS["Job"].format("default") + "?dryRun=All"
    code, answer = server.ask(path, job)
    if code == 201:
        # It knows them, then.
        taken = answer["spec"]["template"]["spec"]["initContainers"][0]
        assert taken["restartPolicy"] == "Always"
        return
    assert code == 422 and "livenessProbe" in answer["message"], answer
    # All else of it is taken.
    (sidecar,) = job["spec"]["template"]["spec"]["initContainers"]
    del sidecar["livenessProbe"]
    code, answer = server.ask(path, job)
    assert code == 201, answer.get("message")
    (taken,) = answer["spec"]["template"]["spec"]["initContainers"]
    assert "restartPolicy" not in taken
    assert taken["securityContext"] == sidecar["securityContext"]
    assert (
        answer["spec"]["template"]["spec"]["volumes"] == job["spec"]["template"]["spec"]["volumes"]
    )
