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
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lithowatt.lithops.kubernetes import edit_template

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

    def ask(self, path: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """GET, or POST without effect; the code and the answer."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data)
        request.add_header("Authorization", f"Bearer {TOKEN}")
        request.add_header("Content-Type", "application/json")
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
