"""The images of deploy/ are built as a user builds them, and run.

No registry is asked: the bases that the Dockerfiles name are made here of Debian's packages, in a
store of their own that is kept under the temporary directory. It takes minutes, so LITHOWATT_IMAGES
asks for it: 1, or architectures. arm64 on another machine is tests/arm64/wheel.sh.
"""

from __future__ import annotations

import ast
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lithowatt import _core
from lithowatt._support.architectures import normalise_architecture
from lithowatt.errors import AgentError
from lithowatt.lithops import build_layer
from lithowatt.lithops._dockerfile import BACKENDS, PLATFORMS, dockerfile
from lithowatt.lithops._layer import LAYER_LIMIT
from rig import StaticTree
from tests.support import TESTS
from tests.support.agent_tools import shared_folder
from tests.support.lithops_environments import isolated
from tests.support.wheels import FOLDER

DEPLOY = TESTS.parent / "deploy"

#: Read at import: no setting from outside reaches a test. 1 is this machine's architecture.
ASKED = [
    normalise_architecture(platform.machine()) if word == "1" else word
    for word in os.environ.get("LITHOWATT_IMAGES", "").replace(",", " ").split()
]

DEBIAN = {"x86_64": "amd64", "arm64": "arm64"}
MACHINES = {"x86_64": "x86_64", "arm64": "aarch64"}
#: Debian bookworm's.
PYTHON = (3, 11)

CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
netns = "host"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
"""

#: What stands for `docker`: podman with this machine's way to the package index while it builds.
#: Registries there are none.
DOCKER = """#!/bin/sh
case "$1" in
    login | push) exit 0 ;;
    build) shift; exec podman build --network host {options} "$@" ;;
esac
exec podman "$@"
"""

#: The images that stand in for those of these names.
SLIM = "docker.io/library/python:3.11-slim-bookworm"
LAMBDA = "public.ecr.aws/lambda/python:3.11"

#: As the official image: its Python is below /usr/local, and pip asks for no virtual environment.
PYTHON_BASE = """
FROM {imported}
RUN python3 -m venv /usr/local
CMD ["python3"]
"""

#: As AWS' image: a Python below /var/lang with the runtime client, which the image starts.
LAMBDA_BASE = """
FROM {python}
RUN python3 -m venv /var/lang && /var/lang/bin/pip install --no-cache-dir awslambdaric boto3
ENV PATH=/var/lang/bin:/usr/local/bin:/usr/bin:/bin LAMBDA_TASK_ROOT=/var/task
WORKDIR /var/task
ENTRYPOINT ["python", "-m", "awslambdaric"]
"""

#: What Lithops calls its zips, and the entry points in them.
ZIPS = {"k8s": "lithops_k8s.zip", "aws_lambda": "lithops_lambda.zip"}
ENTRIES = {"k8s": "lithopsentry.py", "aws_lambda": "entry_point.py"}

METERED = """
import json, os, platform
from lithowatt import EnergyMeter
with EnergyMeter() as meter:
    sum(range(3_000_000))
said = {"method": meter.reading.method, "uid": os.getuid(), "machine": platform.machine()}
print(json.dumps(said))
"""

pytestmark = [
    pytest.mark.timeout(3000),
    pytest.mark.skipif(not ASKED, reason="takes minutes: LITHOWATT_IMAGES asks for it"),
]


@dataclass
class Docker:
    """podman by the name of docker, in its own store, with the bases of one architecture in it."""

    architecture: str
    environment: dict[str, str]
    wheel: Path

    def run(self, *arguments: str, folder: Path | None = None, patience: int = 1500) -> str:
        """What a command says on standard output."""
        done = subprocess.run(
            arguments,
            env=self.environment,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=patience,
        )
        assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def build(self, name: str, text: str, folder: Path, *more: str) -> None:
        (folder / "Dockerfile").write_text(text)
        self.run("docker", "build", "-t", name, *more, ".", folder=folder)

    def image(self, name: str) -> str:
        return f"lithowatt-test-{name}-{self.architecture}"

    def size(self, image: str) -> float:
        """MB, with all its layers."""
        return int(self.run("podman", "inspect", "--format", "{{.Size}}", image)) / 1e6


def missing(architecture: str) -> str | None:
    """Why no image of this architecture can be built here."""
    for tool in ("debootstrap", "podman", "runc"):
        if shutil.which(tool) is None:
            return f"needs {tool}"
    if os.geteuid() != 0:
        return "needs root, as debootstrap does"
    if sys.version_info[:2] != PYTHON:
        return f"needs Python {PYTHON[0]}.{PYTHON[1]} in the client, as in Debian"
    if architecture not in DEBIAN:
        return f"LITHOWATT_IMAGES takes {', '.join(DEBIAN)}, not {architecture!r}"
    if normalise_architecture(platform.machine()) != architecture:
        handler = Path("/proc/sys/fs/binfmt_misc", f"qemu-{MACHINES[architecture]}")
        if not handler.exists():
            return f"{architecture} needs qemu by binfmt here: tests/arm64/wheel.sh"
    return None


def wheel_for(architecture: str) -> Path | None:
    """The newest one that `make wheel` or `make wheel-arm64` has left."""
    found = FOLDER.glob(f"lithowatt-*manylinux2014_{MACHINES[architecture]}*.whl")
    return max(found, key=lambda wheel: wheel.stat().st_mtime, default=None)


def pip_settings(folder: Path, wheels: Path) -> list[str]:
    """Options that give pip in a build the settings it has on this machine, and our wheel."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    settings = {}
    for line in said.splitlines():
        name, _, value = line.partition("=")
        settings[name.rpartition(".")[2]] = str(ast.literal_eval(value))
    mounts = {folder / "pip.conf": "/etc/pip.conf", wheels: "/wheels"}
    for text in settings.values():
        if Path(text).is_absolute() and Path(text).exists():
            mounts[Path(text)] = text
    settings["find-links"] = f"{settings.get('find-links', '')} /wheels".strip()
    lines = ["[global]", *(f"{name} = {value}" for name, value in settings.items()), ""]
    (folder / "pip.conf").write_text("\n".join(lines))
    return [f"--volume={here}:{there}:ro" for here, there in mounts.items()]


@pytest.fixture(scope="module", params=ASKED or ["none"])
def docker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Docker]:
    architecture = request.param
    reason = missing(architecture)
    if reason is not None:
        pytest.skip(reason)
    wheel = wheel_for(architecture)
    if wheel is None:
        verb = "wheel-arm64" if architecture == "arm64" else "wheel"
        pytest.skip(f"needs a wheel: make {verb}")
    cache = Path(tempfile.gettempdir(), "lithowatt-test-images")
    cache.mkdir(mode=0o700, exist_ok=True)
    folder = tmp_path_factory.mktemp("docker")
    (folder / "containers.conf").write_text(CONTAINERS_CONF)
    store = f'driver = "overlay"\ngraphroot = "{cache}/store"\nrunroot = "{cache}/run"\n'
    (folder / "storage.conf").write_text(f"[storage]\n{store}")
    (folder / "bin").mkdir()
    (folder / "wheels").mkdir()
    shutil.copy(wheel, folder / "wheels")
    options = " ".join(pip_settings(folder, folder / "wheels"))
    (folder / "bin/docker").write_text(DOCKER.format(options=options))
    (folder / "bin/docker").chmod(0o755)
    path = [str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
    environment = {
        **isolated(folder),
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        "PATH": os.pathsep.join(path),
    }
    docker = Docker(architecture, environment, wheel)
    bases(docker, folder)
    yield docker
    # Bases and layers stay for the next time.
    docker.run("podman", "rm", "--all", "--force")


def bases(docker: Docker, folder: Path) -> None:
    """The images that the Dockerfiles begin with, by their own names."""
    debian = DEBIAN[docker.architecture]
    imported = f"localhost/bookworm-{debian}"
    named = ["podman", "images", "--quiet", imported]
    if not docker.run(*named).strip():
        root = folder / "root"
        command = ["debootstrap", f"--arch={debian}", "--variant=minbase"]
        command += ["--include=python3,python3-venv,ca-certificates", "bookworm", str(root)]
        docker.run(*command)
        tar = ["tar", "-C", str(root), "--one-file-system", "--exclude=./var/cache/apt/*"]
        tar += ["--exclude=./var/lib/apt/lists/*", "-cf", str(folder / "root.tar"), "."]
        docker.run(*tar)
        docker.run("podman", "import", "--arch", debian, str(folder / "root.tar"), imported)
        shutil.rmtree(root)
        (folder / "root.tar").unlink()
    here = folder / "base"
    here.mkdir()
    platform_ = ("--platform", PLATFORMS[docker.architecture])
    docker.build(SLIM, PYTHON_BASE.format(imported=imported), here, *platform_)
    docker.build(LAMBDA, LAMBDA_BASE.format(python=SLIM), here, *platform_)


def with_wheel(docker: Docker, backend: str, folder: Path) -> str:
    """The text that the command prints for this wheel, which differs from the committed file in
    the wheel's lines alone."""
    text = dockerfile(backend, architecture=docker.architecture, wheel=docker.wheel.name)
    shutil.copy(docker.wheel, folder)
    return text


def functions(docker: Docker, folder: Path, **plan: Any) -> list[dict[str, Any]]:
    """What a Lithops client got of calls in an image."""
    plan["name"] = f"lithowatt-test-{os.getpid()}"
    (folder / "plan.json").write_text(json.dumps(plan))
    script = [
        sys.executable,
        str(TESTS / "support" / "image_client.py"),
        "plan.json",
        "seen.json",
    ]
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    temporary.chmod(0o777)
    client = Docker(docker.architecture, {**docker.environment, "TMPDIR": str(temporary)}, Path())
    client.run(*script, folder=folder, patience=900)
    seen: list[dict[str, Any]] = json.loads((folder / "seen.json").read_text())
    return seen


def check(docker: Docker, seen: list[dict[str, Any]], user: int) -> None:
    """The calls' results, and joules of each."""
    machine = MACHINES[docker.architecture]
    assert [one["result"] for one in seen] == [[4, user, machine], [9, user, machine]]
    for one in seen:
        stats = one["stats"]
        assert stats["worker_func_energy_consumption"] > 0
        low, high = stats["worker_func_energy_low"], stats["worker_func_energy_high"]
        assert low <= stats["worker_func_energy_consumption"] <= high
        assert stats["worker_task_energy_consumption"] > 0
        # Emulated, it takes a multiple of what it would.
        assert stats["worker_func_energy_duration"] > 0.2


@pytest.fixture(scope="module")
def localhost(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("localhost")
    image = docker.image("localhost")
    docker.build(image, with_wheel(docker, "localhost", folder), folder)
    return image


def lithops_zip(backend: str, file: Path) -> None:
    """What `lithops runtime build` puts beside the Dockerfile."""
    lithops = pytest.importorskip("lithops")
    from lithops.utils import create_handler_zip

    entry = Path(lithops.__file__).parent / "serverless/backends" / backend / "entry_point.py"
    create_handler_zip(str(file), str(entry), ENTRIES[backend])


def with_zip(docker: Docker, backend: str, folder: Path) -> str:
    image = docker.image(backend)
    lithops_zip(backend, folder / ZIPS[backend])
    docker.build(image, with_wheel(docker, backend, folder), folder)
    return image


@pytest.fixture(scope="module")
def k8s(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> str:
    return with_zip(docker, "k8s", tmp_path_factory.mktemp("k8s"))


@pytest.fixture(scope="module")
def aws_lambda(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> str:
    return with_zip(docker, "aws_lambda", tmp_path_factory.mktemp("aws_lambda"))


@pytest.fixture(scope="module")
def agent(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> str:
    """As docs/how-to/kubernetes.md says: the folder of the wheels is the context."""
    image = docker.image("agent")
    folder = tmp_path_factory.mktemp("dist")
    for wheel in FOLDER.glob("lithowatt-*.whl"):
        shutil.copy(wheel, folder)
    command = ["docker", "build", "--platform", PLATFORMS[docker.architecture]]
    command += ["-f", str(DEPLOY / "agent/Dockerfile"), "-t", image, str(folder)]
    docker.run(*command)
    return image


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_committed_dockerfiles_build_as_they_are(
    docker: Docker, backend: str, tmp_path: Path
) -> None:
    """With the wheel where pip looks for it, as it will once it is on an index."""
    suffix = ".arm64" if docker.architecture == "arm64" else ""
    text = (DEPLOY / "workers" / backend / f"Dockerfile{suffix}").read_text()
    if backend in ZIPS:
        lithops_zip(backend, tmp_path / ZIPS[backend])
    docker.build(docker.image(f"committed-{backend}"), text, tmp_path)


def test_calls_in_an_image_on_localhost_carry_their_joules(
    docker: Docker, localhost: str, tmp_path: Path
) -> None:
    for version in (1, 2):
        folder = tmp_path / str(version)
        folder.mkdir()
        seen = functions(docker, folder, backend="localhost", image=localhost, version=version)
        check(docker, seen, 0)


def test_calls_in_the_image_of_kubernetes_carry_their_joules(
    docker: Docker, k8s: str, tmp_path: Path
) -> None:
    check(docker, functions(docker, tmp_path, backend="k8s", image=k8s), 1000)


def test_calls_in_the_image_of_lambda_carry_their_joules(
    docker: Docker, aws_lambda: str, tmp_path: Path
) -> None:
    seen = functions(docker, tmp_path, backend="aws_lambda", image=aws_lambda)
    check(docker, seen, 993)
    for one in seen:
        method = f"model:lambda-{docker.architecture}"
        assert one["stats"]["worker_func_energy_method"].startswith(method)
        assert one["stats"]["worker_func_aws_billed_ms"] > 0


def move(tree: StaticTree, done: threading.Event) -> None:
    """Lets every counter of a tree grow by 50 W."""
    while not done.wait(0.002):
        for zone in tree.zones:
            tree.add(zone.key, 100_000)


@pytest.mark.parametrize("image", ["localhost", "k8s", "aws_lambda"])
def test_what_the_meter_adds_to_an_image_is_small(
    docker: Docker, image: str, request: pytest.FixtureRequest
) -> None:
    name = request.getfixturevalue(image)
    layers = json.loads(docker.run("podman", "history", "--no-trunc", "--format", "json", name))
    ours = [
        layer["size"] for layer in layers if re.search(r"lithowatt-\S+\.whl", layer["CreatedBy"])
    ]
    print(f"{name}: {docker.size(name):.0f} MB, of which lithowatt {sum(ours) / 1e6:.1f} MB")
    # What it unpacks to, with its bytecode; the wheel's own layer is another megabyte.
    assert len(ours) == 1
    assert sum(ours) < 12e6


def test_the_layer_loads_where_nothing_else_is(docker: Docker, tmp_path: Path) -> None:
    """In Lambda's base, without lithowatt, NumPy or Lithops."""
    layer = build_layer(tmp_path / "layer.zip", docker.wheel, architecture=docker.architecture)
    assert layer.architecture == docker.architecture
    assert layer.size <= LAYER_LIMIT
    with zipfile.ZipFile(layer.path) as archive:
        archive.extractall(tmp_path / "opt")
    tmp_path.chmod(0o755)
    run = ["podman", "run", "--rm", "--read-only", "--user", "993:990", "--entrypoint", "python"]
    run += ["-v", f"{tmp_path}/opt:/opt:ro", "-e", "PYTHONPATH=/opt/python"]
    said = json.loads(docker.run(*run, LAMBDA, "-c", METERED))
    assert said["method"].startswith("model:") and said["machine"] == MACHINES[docker.architecture]


def test_the_command_line_works_in_an_image(docker: Docker, localhost: str) -> None:
    run = ["podman", "run", "--rm", localhost]
    assert "are metered" in docker.run(*run, "python", "-m", "lithowatt.lithops", "status")
    assert "J" in docker.run(*run, "sh", "-c", "lithowatt run -- true 2>&1")
    assert MACHINES[docker.architecture] in docker.run(*run, "uname", "-m")
    docker.run(*run, "lithowatt", "doctor")


def test_the_agents_image_runs_as_the_daemon_set_runs_it(
    docker: Docker, agent: str, k8s: str
) -> None:
    """No capability, a read-only root, no network; and a pod of user 1000 reads its ring."""
    yaml = pytest.importorskip("yaml")
    manifest = yaml.safe_load_all((DEPLOY / "agent/kubernetes/agent.yaml").read_text())
    (daemon,) = [one for one in manifest if one["kind"] == "DaemonSet"]
    (container,) = daemon["spec"]["template"]["spec"]["containers"]
    context = container["securityContext"]
    assert context["readOnlyRootFilesystem"] and context["capabilities"] == {"drop": ["ALL"]}
    name = f"lithowatt-test-agent-{os.getpid()}"
    folder = shared_folder()
    tree = StaticTree(folder / "node", mode=0o400)
    ring = folder / "lithowatt" / "ring"
    ring.parent.mkdir(mode=0o755)
    command = ["podman", "run", "--detach", "--name", name, "--network", "none", "--read-only"]
    command += ["--read-only-tmpfs=false", "--user", str(context["runAsUser"])]
    command += ["--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    command += ["--memory", container["resources"]["limits"]["memory"].removesuffix("i").lower()]
    command += ["-v", f"{ring.parent}:/run/lithowatt", "-v", f"{tree.root}/sys:/host/sys:ro"]
    command += ["-v", "/proc:/host/proc:ro", "-e", "NODE_NAME=n1"]
    for variable in container["env"]:
        if "value" in variable:
            command += ["-e", f"{variable['name']}={variable['value']}"]
    assert container["command"] == ["lithowatt", "agent"]
    try:
        docker.run(*command, agent, *container["args"])
        deadline = time.monotonic() + 60
        while not ring.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert ring.exists(), docker.run("podman", "logs", name)
        before = _core.Ring(ring, tree.root).look()["joules"]["package-0"]
        tree.add("package-0", 4_000_000)
        time.sleep(1)
        look = _core.Ring(ring, tree.root).look()
        assert look["joules"]["package-0"] - before == pytest.approx(4.0)
        ask = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9477/healthz').read())"
        assert "ok" in docker.run("podman", "exec", name, "python", "-c", ask)
        pod = ["podman", "run", "--rm", "--cap-drop", "ALL", "--read-only"]
        pod += ["-v", f"{ring.parent}:/run/lithowatt:ro", k8s]
        # A counter that stands still is not believed.
        done = threading.Event()
        mover = threading.Thread(target=move, args=(tree, done))
        mover.start()
        try:
            metered = docker.run(*pod, "python", "-c", METERED)
        finally:
            done.set()
            mover.join()
        assert json.loads(metered)["method"] == "rapl+cputime via agent", metered
        assert json.loads(metered)["uid"] == 1000
        assert docker.run("podman", "stop", "--time", "20", name).strip() == name
        ended = docker.run("podman", "inspect", "--format", "{{.State.ExitCode}}", name)
        assert int(ended) == 0, docker.run("podman", "logs", name)
        with pytest.raises(AgentError, match="was stopped"):
            _core.Ring(ring, tree.root)
    finally:
        docker.run("podman", "rm", "--force", "--ignore", name)
        shutil.rmtree(folder, ignore_errors=True)
