"""A Kubernetes of one node for tests: the control plane is real, the node is this machine.

Needs kube-apiserver, kube-controller-manager, kube-scheduler and etcd, in PATH or in the folder
that LITHOWATT_KUBERNETES_BIN names; Debian has etcd-server, and builds the others from its source
package kubernetes. The node's kubelet is ours: :class:`Kubelet` runs pods with podman, each by its
spec.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

BIN = os.environ.get("LITHOWATT_KUBERNETES_BIN", "")
TOKEN = "a-token-of-this-test-alone"
NODE = "node-of-this-test"

#: Pods are in the host's network: each has this address.
ADDRESS = "127.0.0.1"

PATHS = {
    "Namespace": "/api/v1/namespaces",
    "Pod": "/api/v1/namespaces/{}/pods",
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "Service": "/api/v1/namespaces/{}/services",
    "DaemonSet": "/apis/apps/v1/namespaces/{}/daemonsets",
    "Job": "/apis/batch/v1/namespaces/{}/jobs",
}


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


# -- the control plane ------------------------------------------------------------------------


class Server:
    """The API server, by its own words."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"https://127.0.0.1:{port}"
        # Its certificate is its own, made when it started.
        self.context = ssl.create_default_context()
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE

    def ask(
        self, path: str, body: dict[str, Any] | None = None, method: str | None = None
    ) -> tuple[int, dict[str, Any]]:
        """GET, or POST, or PATCH (a merge), or DELETE; the code and the answer."""
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

    def write_kubeconfig(self, path: Path, namespace: str = "default") -> None:
        """Writes what a client needs to reach it."""
        cluster = {"server": self.url, "insecure-skip-tls-verify": True}
        context = {"cluster": "c", "user": "u", "namespace": namespace}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": {"token": TOKEN}}],
            "contexts": [{"name": "x", "context": context}],
            "current-context": "x",
        }
        path.write_text(json.dumps(config))


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


@pytest.fixture(scope="module")
def cluster(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server with what makes pods from jobs, gives them a node and takes them away."""
    binaries = [tool("kube-controller-manager"), tool("kube-scheduler")]
    folder = tmp_path_factory.mktemp("cluster")
    config = folder / "kubeconfig"
    server.write_kubeconfig(config)
    quiet = ["--kubeconfig", str(config), "--leader-elect=false", "--port=0", "--secure-port=0"]
    controllers = ["--controllers=job,garbagecollector"]
    processes = []
    for binary, options in zip(binaries, (controllers, []), strict=True):
        with (folder / f"{Path(binary).name}.log").open("w") as log:
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


def scheduled(cluster: Server, count: int, namespace: str = "default") -> list[dict[str, Any]]:
    """The pods that were given to our node, when there are so many."""
    path = PATHS["Pod"].format(namespace) + f"?fieldSelector=spec.nodeName%3D{NODE}"
    deadline = time.monotonic() + 90
    while True:
        _, answer = cluster.ask(path)
        pods: list[dict[str, Any]] = answer.get("items", [])
        if len(pods) >= count:
            return pods
        assert time.monotonic() < deadline, answer
        time.sleep(0.3)


# -- the node ---------------------------------------------------------------------------------


@dataclass
class Image:
    """What a container is made of, besides its spec.

    Attributes:
        rootfs: its files; each container has a copy.
        mounts: podman's options for what the image has of this machine, read-only.
        environment: its ENV.
        user: its USER.
    """

    rootfs: Path
    mounts: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    user: str = "0:0"


def milli(quantity: str) -> int:
    """A CPU quantity in thousandths."""
    return int(quantity[:-1]) if quantity.endswith("m") else round(float(quantity) * 1000)


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """With its $(NAME) replaced, as Kubernetes does it: unknown ones stay, $$ is a $."""

    def value(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        return variables.get(found[1], found[0])

    return re.sub(r"\$\$|\$\(([-._a-zA-Z][-._a-zA-Z0-9]*)\)", value, text)


class Container:
    """The first container of a pod, by its spec, as podman's command line.

    Args:
        pod: as the API server has it.
        image: what it is made of.
        folder: for its files.
        host: the node's root: where the sources of its hostPath volumes are.
        services: variables that a kubelet gives each container.
    """

    def __init__(
        self,
        pod: Mapping[str, Any],
        image: Image,
        folder: Path,
        *,
        host: Path = Path("/"),
        services: Mapping[str, str] | None = None,
    ) -> None:
        self.pod, self.image, self.folder, self.host = pod, image, folder, host
        self.spec = pod["spec"]
        self.container = self.spec["containers"][0]
        self.name = f"lithowatt-{pod['metadata']['uid']}"
        self.pid_file = folder / f"{self.name}.pid"
        self.group = f"/kubepods/pod{pod['metadata']['uid']}"
        self.variables = {**image.environment, **(services or {})}
        for variable in self.container.get("env", []):
            if "valueFrom" in variable:
                value = self._field(variable["valueFrom"]["fieldRef"]["fieldPath"])
            else:
                value = expanded(variable.get("value", ""), self.variables)
            self.variables[variable["name"]] = value
        program = [*self.container["command"], *self.container.get("args", [])]
        #: Its command and arguments.
        self.program = [expanded(part, self.variables) for part in program]

    def _field(self, path: str) -> str:
        metadata = self.pod["metadata"]
        fields = {f"metadata.{key}": metadata[key] for key in ("name", "namespace", "uid")}
        fields["spec.nodeName"] = self.spec["nodeName"]
        fields["status.podIP"] = fields["status.hostIP"] = ADDRESS
        return str(fields[path])

    def command(self) -> list[str]:
        """podman's; makes the files that it needs."""
        rootfs = self.folder / self.name
        shutil.copytree(self.image.rootfs, rootfs, symlinks=True)
        command = ["podman", "run", "--rm", "-i", "--name", self.name]
        command += ["--pidfile", str(self.pid_file), "--cgroup-parent", self.group]
        command += ["--network", "host", "--hostname", self.pod["metadata"]["name"]]
        command += [*self._security(), *self._limits(), *self.image.mounts, *self._volumes()]
        for name, value in self.variables.items():
            command += ["-e", f"{name}={value}"]
        return [*command, "--rootfs", str(rootfs), *self.program]

    def _security(self) -> list[str]:
        context = {
            **self.spec.get("securityContext", {}),
            **self.container.get("securityContext", {}),
        }
        known = {
            *("runAsUser", "runAsGroup", "privileged", "allowPrivilegeEscalation"),
            *("capabilities", "seccompProfile", "readOnlyRootFilesystem"),
        }
        assert context.keys() <= known, sorted(context.keys() - known)
        user, _, group = self.image.user.partition(":")
        if "runAsUser" in context:
            # Without /etc/passwd's word on it the group is root's.
            user, group = str(context["runAsUser"]), "0" if context["runAsUser"] == 0 else group
        options = ["--user", f"{user}:{context.get('runAsGroup', group)}"]
        if context.get("privileged"):
            return [*options, "--privileged"]
        capabilities = context.get("capabilities", {})
        for way in ("drop", "add"):
            for capability in capabilities.get(way, []):
                options += [f"--cap-{way}", capability]
        if context.get("allowPrivilegeEscalation") is False:
            options += ["--security-opt", "no-new-privileges"]
        if context.get("seccompProfile", {}).get("type", "Unconfined") == "Unconfined":
            options += ["--security-opt", "seccomp=unconfined"]
        if context.get("readOnlyRootFilesystem"):
            options += ["--read-only"]
        return options

    def _limits(self) -> list[str]:
        options = []
        resources = self.container.get("resources", {})
        limits, requests = resources.get("limits", {}), resources.get("requests", {})
        if "cpu" in limits:
            # µs of CPU time in each period of 100 ms.
            options += ["--cpu-period", "100000", "--cpu-quota", str(milli(limits["cpu"]) * 100)]
        if "cpu" in requests:
            options += ["--cpu-shares", str(max(2, milli(requests["cpu"]) * 1024 // 1000))]
        if "memory" in limits:
            found = re.fullmatch(r"(\d+)([KMG])i", limits["memory"])
            assert found is not None, limits
            options += ["--memory", f"{found[1]}{found[2].lower()}"]
        return options

    def _volumes(self) -> list[str]:
        sources = {}
        for volume in self.spec.get("volumes", []):
            path = self.host / volume["hostPath"]["path"].lstrip("/")
            if volume["hostPath"]["type"] == "DirectoryOrCreate":
                path.mkdir(parents=True, exist_ok=True)
            assert path.is_dir(), path
            # A node's own root has no links from one tree to another.
            sources[volume["name"]] = path.resolve()
        options = []
        for mount in self.container.get("volumeMounts", []):
            source = f"{sources[mount['name']]}:{mount['mountPath']}"
            options += ["-v", source + (":ro" if mount.get("readOnly") else "")]
        return options

    def remove_groups(self) -> None:
        """Takes the pod's cgroups away: podman leaves them, for a kubelet made them."""
        top = Path("/sys/fs/cgroup")
        groups = [one / self.group.lstrip("/") for one in (top, *top.iterdir())]
        # What watched the container ends a little after it.
        deadline = time.monotonic() + 10
        while found := [group for group in groups if group.is_dir()]:
            for group in found:
                within = [path for path in group.rglob("*") if path.is_dir()]
                for one in (*reversed(within), group, group.parent):
                    with contextlib.suppress(OSError):
                        one.rmdir()
            if time.monotonic() > deadline:
                return
            time.sleep(0.05)


class Kubelet:
    """Runs the pods of a namespace that are given to our node, as a context manager.

    Args:
        cluster: the API server.
        environment: podman's.
        images: by name.
        folder: for files of the pods; what each wrote is in ``NAME.log``.
        namespace: whose pods.
        host: as for :class:`Container`.
        started: called with each pod's name and its first process' id, before the pod is told as
            running.
    """

    def __init__(
        self,
        cluster: Server,
        environment: dict[str, str],
        images: Mapping[str, Image],
        folder: Path,
        namespace: str,
        *,
        host: Path = Path("/"),
        started: Callable[[str, int], object] = lambda name, pid: None,
    ) -> None:
        self.cluster, self.environment, self.images = cluster, environment, images
        self.folder, self.namespace, self.host, self.started = folder, namespace, host, started
        #: Every pod that was run, as the API server had it.
        self.pods: dict[str, dict[str, Any]] = {}
        #: What went wrong, of the kubelet itself.
        self.trouble: list[str] = []
        self._path = PATHS["Pod"].format(namespace)
        self._threads: dict[str, threading.Thread] = {}
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._serve, name="kubelet")

    def __enter__(self) -> Kubelet:
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watch.join()
        for pod in self.pods.values():
            self._kill(pod)

    def log(self, name: str) -> str:
        """What a pod wrote."""
        return (self.folder / f"{name}.log").read_text()

    def _serve(self) -> None:
        while not self._over.wait(0.1):
            try:
                self._round()
            except Exception as error:
                self.trouble.append(repr(error))

    def _round(self) -> None:
        code, answer = self.cluster.ask(f"{self._path}?fieldSelector=spec.nodeName%3D{NODE}")
        assert code == 200, answer
        for pod in answer["items"]:
            name = pod["metadata"]["name"]
            if "deletionTimestamp" in pod["metadata"]:
                self._kill(pod)
                at_once = {"gracePeriodSeconds": 0}
                self.cluster.ask(f"{self._path}/{name}", at_once, "DELETE")
            elif name not in self._threads and pod["status"]["phase"] == "Pending":
                self.pods[name] = pod
                thread = threading.Thread(target=self._run, args=(pod,), name=name)
                self._threads[name] = thread
                thread.start()

    def _run(self, pod: dict[str, Any]) -> None:
        name = pod["metadata"]["name"]
        try:
            code = self._run_container(pod)
        except Exception as error:
            self.trouble.append(f"{name}: {error!r}")
            code = 128
        self._tell(pod, "Succeeded" if code == 0 else "Failed", {"terminated": {"exitCode": code}})

    def _run_container(self, pod: dict[str, Any]) -> int:
        name = pod["metadata"]["name"]
        container = Container(
            pod,
            self.images[pod["spec"]["containers"][0]["image"]],
            self.folder,
            host=self.host,
            services={
                "KUBERNETES_SERVICE_HOST": ADDRESS,
                "KUBERNETES_SERVICE_PORT": str(self.cluster.port),
            },
        )
        with (self.folder / f"{name}.log").open("w") as log:
            process = subprocess.Popen(
                container.command(),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            pid = None
            while pid is None and process.poll() is None:
                time.sleep(0.01)
                with contextlib.suppress(OSError, ValueError):
                    pid = int(container.pid_file.read_text())
            if pid is not None:
                # It may be over already.
                with contextlib.suppress(OSError, ValueError):
                    self.started(name, pid)
                self._tell(pod, "Running", {"running": {}})
            return process.wait()
        finally:
            container.remove_groups()

    def _tell(self, pod: dict[str, Any], phase: str, state: dict[str, Any]) -> None:
        container = pod["spec"]["containers"][0]
        running = phase == "Running"
        status = {
            "phase": phase,
            "podIP": ADDRESS,
            "hostIP": ADDRESS,
            "conditions": [{"type": "Ready", "status": str(running)}],
            "containerStatuses": [
                {
                    "name": container["name"],
                    "image": container["image"],
                    "imageID": "",
                    "ready": running,
                    "restartCount": 0,
                    "state": state,
                }
            ],
        }
        path = f"{self._path}/{pod['metadata']['name']}/status"
        code, answer = self.cluster.ask(path, {"status": status}, "PATCH")
        # 404: it was deleted meanwhile.
        if code not in (200, 404):
            self.trouble.append(str(answer))

    def _kill(self, pod: dict[str, Any]) -> None:
        thread = self._threads.get(pod["metadata"]["name"])
        command = ["podman", "rm", "-f", "-t", "0", f"lithowatt-{pod['metadata']['uid']}"]
        # More than once: there may be no container yet.
        while thread is not None and thread.is_alive():
            subprocess.run(command, env=self.environment, capture_output=True, timeout=60)
            thread.join(timeout=1)
