"""A real API server judges the manifests and the edited templates, and pods are made from jobs."""

from __future__ import annotations

import json
import shutil
import sys
from typing import Any

import pytest

from lithowatt.lithops.kubernetes import edit_template
from rig import Rig
from tests.support import TOP
from tests.support.agent_tools import AgentProcess, shared_folder
from tests.support.kubernetes_cluster import (
    NODE,
    PATHS,
    Container,
    Image,
    Server,
    cluster,
    scheduled,
    server,
)
from tests.support.kubernetes_job import JOB
from tests.support.pods import OWN, VARIABLES, WORK, Pod, machine_files, podman

pytestmark = pytest.mark.cluster

__all__ = ["cluster", "podman", "server"]  # fixtures

yaml = pytest.importorskip("yaml")

AGENT = TOP / "deploy" / "agent" / "kubernetes" / "agent.yaml"


@pytest.mark.timeout(240)
def test_the_agents_manifests_are_taken(server: Server) -> None:
    kinds = []
    for manifest in yaml.safe_load_all(AGENT.read_text()):
        kind = manifest["kind"]
        namespace = manifest["metadata"].get("namespace", "")
        # The namespace is made, the rest is only judged.
        dry = "" if kind == "Namespace" else "?dryRun=All"
        code, answer = server.ask(PATHS[kind].format(namespace) + dry, manifest)
        assert code == 201, answer.get("message")
        kinds.append(kind)
        if kind == "DaemonSet":
            spec = answer["spec"]["template"]["spec"]
            taken = spec["containers"][0]["securityContext"]
            # Nothing that was written was dropped as unknown.
            asked = manifest["spec"]["template"]["spec"]["containers"][0]["securityContext"]
            assert taken == asked
    assert kinds == ["Namespace", "ServiceAccount", "DaemonSet", "Service"]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("mode", ["agent", "privileged", "fallback"])
def test_edited_templates_are_taken(server: Server, mode: Any) -> None:
    job = yaml.safe_load(edit_template(JOB, mode))
    code, answer = server.ask(PATHS["Job"].format("default") + "?dryRun=All", job)
    assert code == 201, answer.get("message")
    asked = job["spec"]["template"]["spec"]
    taken = answer["spec"]["template"]["spec"]
    assert taken.get("volumes") == asked.get("volumes")
    names = [v["name"] for v in taken["containers"][0]["env"]]
    assert names == [v["name"] for v in asked["containers"][0]["env"]]


@pytest.mark.timeout(240)
def test_a_privileged_container_that_may_not_escalate_is_refused(server: Server) -> None:
    """Why the template's security context is replaced as a whole."""
    job = yaml.safe_load(edit_template(JOB, "privileged"))
    container = job["spec"]["template"]["spec"]["containers"][0]
    container["securityContext"]["allowPrivilegeEscalation"] = False
    code, answer = server.ask(PATHS["Job"].format("default") + "?dryRun=All", job)
    assert code == 422 and "allowPrivilegeEscalation" in answer["message"]


# -- pods that really run ---------------------------------------------------------------------


@pytest.mark.timeout(300)
def test_two_jobs_three_to_one_get_their_joules(
    live: None, podman: dict[str, str], cluster: Server
) -> None:
    """Lithops' template, edited; jobs, scheduler and pods as in a cluster; a kubelet of ours."""
    folder = shared_folder()
    groups: list[Container] = []
    try:
        with Rig(packages=1, domains=("package", "dram"), idle_watts=20, gain=30, gamma=1) as rig:
            ring = folder / "lithowatt" / "ring"
            with AgentProcess(rig.root, ring, LITHOWATT_IDLE_WATTS="23", NODE_NAME=NODE):
                for name, share in (("three", "0.75"), ("one", "0.25")):
                    job = yaml.safe_load(
                        edit_template(JOB, "agent", ring_directory=str(ring.parent))
                    )
                    job["metadata"]["name"] = name
                    container = job["spec"]["template"]["spec"]["containers"][0]
                    container["command"] = [sys.executable, "-c"]
                    container["args"] = [WORK, share, "5"]
                    # As Lithops' default from 3.7 on, and its image's user.
                    container["securityContext"] = {
                        "runAsUser": 1000,
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                        "seccompProfile": {"type": "RuntimeDefault"},
                    }
                    code, answer = cluster.ask(PATHS["Job"].format("default"), job)
                    assert code == 201, answer
                rootfs = folder / "image"
                image = Image(rootfs, machine_files(rootfs, OWN), VARIABLES, "1000:1000")
                pods = {}
                for pod in scheduled(cluster, 2):
                    container = Container(pod, image, folder)
                    groups.append(container)
                    command, log = container.command(), folder / f"{container.name}.err"
                    running = Pod.started(command, container.program, podman, log)
                    pods[pod["metadata"]["labels"]["job-name"]] = running
                for running in pods.values():
                    assert running.line() == "on\n"
                    running.find()
                    rig.register(running.pid)
                for running in pods.values():
                    running.go()
                told = {name: json.loads(running.line()) for name, running in pods.items()}
                truths = {}
                for name, one in told.items():
                    truths[name] = rig.energy(*one["t"]).pids[pods[name].pid]
                for running in pods.values():
                    running.close()
        for name, one in told.items():
            assert (one["uid"], one["capabilities"]) == (1000, 0)
            assert one["method"].endswith("via agent") and one["quality"] == "attributed"
            assert one["node"] == NODE and one["pod"].startswith(f"{name}-")
            assert one["marginal"] == pytest.approx(truths[name], rel=0.05)
        ratio = told["three"]["marginal"] / told["one"]["marginal"]
        assert ratio == pytest.approx(truths["three"] / truths["one"], rel=0.03)
        assert ratio == pytest.approx(told["three"]["cpu"] / told["one"]["cpu"], rel=0.03)
    finally:
        for one in groups:
            one.remove_groups()
        shutil.rmtree(folder, ignore_errors=True)
