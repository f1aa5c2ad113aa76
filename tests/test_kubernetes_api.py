"""A real API server judges the manifests and the edited templates.

Needs kube-apiserver and etcd, in PATH or in the folder that LITHOWATT_KUBERNETES_BIN names; Debian
has etcd-server, and builds the other from its source package kubernetes.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_tools import AgentProcess, shared_folder
from lithowatt.lithops.kubernetes import edit_template
from rig import Rig
from test_kubernetes_pods import WORK, Pod, podman

__all__ = ["podman"]  # a fixture of the tests of pods

yaml = pytest.importorskip("yaml")

AGENT = Path(__file__).resolve().parent.parent / "deploy" / "kubernetes" / "agent.yaml"
BIN = os.environ.get("LITHOWATT_KUBERNETES_BIN", "")
TOKEN = "a-token-of-this-test-alone"

JOB = """
apiVersion: batch/v1
kind: Job
metadata: {name: lithops-worker, namespace: default}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers:
        - name: lithops
          image: example.org/lithops:1
          command: [python3]
          env:
            - {name: ACTION, value: ''}
            - {name: DATA, value: ''}
            - {name: MASTER_POD_IP, value: ''}
            - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
"""


def tool(name: str) -> str:
    found = shutil.which(name, path=os.pathsep.join([BIN, os.environ.get("PATH", "")]))
    if found is None:
        pytest.skip(f"needs {name}, in PATH or in $LITHOWATT_KUBERNETES_BIN")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """The API server, by its own words."""

    def __init__(self, port: int) -> None:
        self.url = f"https://127.0.0.1:{port}"
        # Its certificate is its own, made when it started.
        self.context = ssl.create_default_context()
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE

    def ask(
        self, path: str, body: dict[str, Any] | None = None, method: str | None = None
    ) -> tuple[int, dict[str, Any]]:
        """GET, or POST, or PATCH (a merge); the code and the answer."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method)
        request.add_header("Authorization", f"Bearer {TOKEN}")
        kind = "merge-patch+json" if method == "PATCH" else "json"
        request.add_header("Content-Type", f"application/{kind}")
        try:
            with urllib.request.urlopen(request, context=self.context, timeout=60) as answer:
                text, code = answer.read(), answer.status
        except urllib.error.HTTPError as error:
            with error:
                text, code = error.read(), error.code
        return code, json.loads(text) if text.startswith(b"{") else {"text": text.decode()}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    binaries = {name: tool(name) for name in ("kube-apiserver", "etcd", "openssl")}
    folder = tmp_path_factory.mktemp("apiserver")
    store, peer, port = free_port(), free_port(), free_port()
    key = folder / "key.pem"
    subprocess.run(
        [binaries["openssl"], "genrsa", "-out", str(key), "2048"], check=True, capture_output=True
    )
    (folder / "tokens.csv").write_text(f'{TOKEN},tester,1,"system:masters"\n')
    client = f"http://127.0.0.1:{store}"
    commands = [
        [
            binaries["etcd"],
            "--data-dir",
            str(folder / "etcd"),
            "--listen-client-urls",
            client,
            "--advertise-client-urls",
            client,
            "--listen-peer-urls",
            f"http://127.0.0.1:{peer}",
        ],
        [
            binaries["kube-apiserver"],
            "--etcd-servers",
            client,
            "--secure-port",
            str(port),
            "--bind-address=127.0.0.1",
            "--cert-dir",
            str(folder / "certs"),
            "--token-auth-file",
            str(folder / "tokens.csv"),
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-account-key-file",
            str(key),
            "--service-account-signing-key-file",
            str(key),
            "--service-cluster-ip-range=10.0.0.0/24",
            "--allow-privileged=true",
            "--disable-admission-plugins=ServiceAccount",
        ],
    ]
    processes = []
    for i, command in enumerate(commands):
        with (folder / f"{i}.log").open("w") as log:
            processes.append(
                subprocess.Popen(
                    command,
                    stdout=log,
                    stderr=log,
                )
            )
    try:
        ready = Server(port)
        deadline = time.monotonic() + 120
        while True:
            try:
                if (
                    ready.ask("/readyz")[0] == 200
                    and ready.ask("/api/v1/namespaces/default")[0] == 200
                ):
                    break
            except OSError:
                pass
            if time.monotonic() > deadline or processes[1].poll() is not None:
                said = (folder / "1.log").read_text()[-2000:]
                pytest.fail(f"the API server did not start: {said}")
            time.sleep(0.5)
        yield ready
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(timeout=60)


PATHS = {
    "Namespace": "/api/v1/namespaces",
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "Service": "/api/v1/namespaces/{}/services",
    "DaemonSet": "/apis/apps/v1/namespaces/{}/daemonsets",
    "Job": "/apis/batch/v1/namespaces/{}/jobs",
}


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

NODE = "node-of-this-test"


@pytest.fixture
def cluster(server: Server, tmp_path: Path) -> Iterator[Server]:
    """The server with what makes pods from jobs and gives them a node."""
    binaries = [tool("kube-controller-manager"), tool("kube-scheduler")]
    config = tmp_path / "kubeconfig"
    config.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [
                    {
                        "name": "c",
                        "cluster": {"server": server.url, "insecure-skip-tls-verify": True},
                    }
                ],
                "users": [{"name": "u", "user": {"token": TOKEN}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
        )
    )
    quiet = ["--kubeconfig", str(config), "--leader-elect=false", "--port=0", "--secure-port=0"]
    processes = []
    for binary, options in zip(binaries, (["--controllers=job"], []), strict=True):
        with (tmp_path / f"{Path(binary).name}.log").open("w") as log:
            processes.append(subprocess.Popen([binary, *quiet, *options], stdout=log, stderr=log))
    code, answer = server.ask(
        "/api/v1/nodes",
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": NODE, "labels": {"kubernetes.io/os": "linux"}},
        },
    )
    assert code == 201, answer
    room = {"cpu": "8", "memory": "16Gi", "pods": "20"}
    ready = {"type": "Ready", "status": "True", "reason": "Test", "message": "ok"}
    status = {"status": {"conditions": [ready], "capacity": room, "allocatable": room}}
    assert server.ask(f"/api/v1/nodes/{NODE}/status", status, "PATCH")[0] == 200
    taints: dict[str, Any] = {"spec": {"taints": None}}
    assert server.ask(f"/api/v1/nodes/{NODE}", taints, "PATCH")[0] == 200
    try:
        yield server
    finally:
        for process in processes:
            process.terminate()
            process.wait(timeout=60)


def scheduled(cluster: Server, count: int) -> list[dict[str, Any]]:
    """The pods that were given to our node, when there are so many."""
    deadline = time.monotonic() + 90
    while True:
        _, answer = cluster.ask(f"/api/v1/pods?fieldSelector=spec.nodeName%3D{NODE}")
        pods: list[dict[str, Any]] = answer.get("items", [])
        if len(pods) >= count:
            return pods
        assert time.monotonic() < deadline, answer
        time.sleep(0.3)


def run_pod(pod: dict[str, Any], environment: dict[str, str], folder: Path) -> Pod:
    """What a kubelet does with a pod: its first container, by its spec, with podman."""
    spec, name = pod["spec"], pod["metadata"]["name"]
    container = spec["containers"][0]
    sources = {v["name"]: v["hostPath"]["path"] for v in spec.get("volumes", [])}
    mounts = [
        f"{sources[m['name']]}:{m['mountPath']}" + (":ro" if m.get("readOnly") else "")
        for m in container.get("volumeMounts", [])
    ]
    fields = {"metadata.name": name, "spec.nodeName": spec["nodeName"], "status.podIP": "127.0.0.1"}
    program = [*container["command"], *container["args"]]
    command = Pod.command(folder, name, mounts, program)
    user = container["securityContext"]["runAsUser"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert command[command.index("--user") + 1] == f"{user}:{user}"
    for variable in container["env"]:
        value = variable.get("value", "")
        if "valueFrom" in variable:
            value = fields[variable["valueFrom"]["fieldRef"]["fieldPath"]]
        command[2:2] = ["-e", f"{variable['name']}={value}"]
    return Pod.started(command, program, environment, folder / f"{name}.err")


@pytest.mark.timeout(300)
def test_two_jobs_three_to_one_get_their_joules(
    live: None, podman: dict[str, str], cluster: Server
) -> None:
    """Lithops' template, edited; jobs, scheduler and pods as in a cluster; a kubelet of ours."""
    folder = shared_folder()
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
                    }
                    code, answer = cluster.ask(PATHS["Job"].format("default"), job)
                    assert code == 201, answer
                pods = {}
                for pod in scheduled(cluster, 2):
                    running = run_pod(pod, podman, folder)
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
        shutil.rmtree(folder, ignore_errors=True)
