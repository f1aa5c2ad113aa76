"""Lithops' own Kubernetes client, unmodified, against a real control plane: in each of the three
modes its jobs become pods of this machine, and what they metered comes back as stats."""

from __future__ import annotations

import json
import secrets
import shutil
import socket
import subprocess
import time
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lithowatt.lithops._config import check_config
from rig import Rig
from tests.support import TOP
from tests.support.agent_tools import AgentProcess
from tests.support.kubernetes_cluster import NODE, PATHS, Image, Kubelet, Server, cluster, server
from tests.support.lithops_environments import isolated, layer, plain, site_packages, stacked
from tests.support.object_store import s3
from tests.support.pods import machine_files, podman
from tests.support.stats_contract import CONTRACT

pytestmark = [pytest.mark.cluster, pytest.mark.quiet]

__all__ = ["cluster", "podman", "s3", "server"]  # fixtures

yaml = pytest.importorskip("yaml")

EXAMPLE = TOP / "examples" / "config" / "config_kubernetes.yaml"
ENERGY, TASK = "worker_func_energy_", "worker_task_energy_"

#: Where Lithops' master listens, and no setting says otherwise.
MASTER_PORT = 8080

IMAGE = "docker.io/user/lithowatt-k8s:1"

#: What Lithops' Kubernetes backend needs besides; its S3 storage needs boto3.
PACKAGES = ("kubernetes", "flask")

#: CPU seconds of each call: one pod has one to do, the other the rest.
WORK = (1.2, 0.4, 0.4)

#: The pods' part of a CPU.
CPUS = 0.5

JOB = f"WORK = {list(WORK)}\n"
JOB += """
import json, sys
import lithops, yaml

if len(sys.argv) > 2:
    from lithowatt.lithops.kubernetes import use_template
    use_template(sys.argv[2])


def look(seconds):
    import glob, os, time

    begin, cpu = time.monotonic_ns(), time.process_time()
    while (used := time.process_time() - cpu) < seconds:
        sum(range(1000))
    end = time.monotonic_ns()
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    mounts = [p for p in ("/host/sys", "/host/proc", "/run/lithowatt") if os.path.exists(p)]
    return {
        "t": [begin, end],
        "cpu": used,
        "host": os.uname().nodename,
        "uid": os.getuid(),
        "capabilities": int(status["CapEff"], 16),
        "mounts": {p: bool(os.statvfs(p).f_flag & os.ST_RDONLY) for p in mounts},
        "counters": glob.glob("/host/sys/class/powercap/intel-rapl:*/energy_uj"),
        "ring": os.path.exists("/run/lithowatt/ring"),
    }


config = yaml.safe_load(open(sys.argv[1]))
executor = lithops.FunctionExecutor(config=config)
futures = executor.map(look, WORK)
seen = {"results": executor.get_result(futures), "stats": [f.stats for f in futures]}
json.dump(seen, open("seen.json", "w"), default=str)
# What `lithops clean` does, the master too.
executor.compute_handler.backend.clean(all=True)
"""


class Runtime(NamedTuple):
    """A release of Lithops, with lithowatt: in the client, and in the image of its pods."""

    release: str
    python: Path
    #: Its folder.
    package: Path
    image: Image


@pytest.fixture(scope="module", params=["3.8.0", "3.6.4"])
def runtime(
    request: pytest.FixtureRequest, podman: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Runtime:
    """As deploy/workers/k8s/Dockerfile makes it, of this machine's own files."""
    release = request.param
    folder = tmp_path_factory.mktemp("image")
    python = stacked(release, folder / "python", lithowatt=True, more=PACKAGES)
    storage = site_packages(plain("3.8.0", "boto3"))
    # Behind packages.pth by its name, for it has a Lithops of its own.
    (site_packages(python) / "storage.pth").write_text(f"{storage}\n")
    own = [folder / "python", site_packages(plain("3.8.0", *PACKAGES)), storage]
    packages = own[1] if release == "3.8.0" else layer(release)
    own.append(packages)
    rootfs = folder / "rootfs"
    mounts = machine_files(rootfs, own)
    (rootfs / "tmp").chmod(0o1777)
    home = rootfs / "home" / "lithops"
    home.mkdir(parents=True)
    shutil.chown(home, 1000, 1000)
    (rootfs / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nlithops:x:1000:1000::/home/lithops:/bin/sh\n"
    )
    (rootfs / "etc/group").write_text("root:x:0:\nlithops:x:1000:\n")
    # As its build_runtime() does.
    handler = (
        "import os, lithops.serverless.backends.k8s as k8s, lithops.utils as utils\n"
        "entry = os.path.join(os.path.dirname(k8s.__file__), 'entry_point.py')\n"
        "utils.create_handler_zip('lithops_k8s.zip', entry, 'lithopsentry.py')\n"
    )
    subprocess.run([python, "-c", handler], cwd=folder, check=True, env=isolated(folder / "build"))
    with zipfile.ZipFile(folder / "lithops_k8s.zip") as content:
        content.extractall(rootfs / "lithops")
    variables = {
        "PATH": f"{python.parent}:/usr/local/bin:/usr/bin:/bin",
        "PYTHONUNBUFFERED": "TRUE",
        # What a calibration would tell.
        "LITHOWATT_IDLE_WATTS": "23",
    }
    image = Image(rootfs, mounts, variables, "1000:1000")
    return Runtime(release, python, packages / "lithops", image)


class Seen(NamedTuple):
    """What came of a job."""

    results: list[dict[str, Any]]
    stats: list[dict[str, Any]]
    #: What the client printed.
    said: str
    #: Pods as the API server had them, by name.
    pods: dict[str, dict[str, Any]]
    #: What each pod printed, by name.
    logs: dict[str, str]
    #: What each call's pod really used above idle while it ran, J.
    truths: list[float]
    #: What each pod with calls really used above idle, from its start to its end, J.
    whole: dict[str, float]


def skip_without_the_masters_port() -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", MASTER_PORT))
        except OSError:
            pytest.skip(f"port {MASTER_PORT}, which Lithops' master takes, is in use here")


class Bench:
    """Runs jobs of a client on a node that is the simulated machine, each in a namespace."""

    def __init__(
        self, cluster: Server, podman: dict[str, str], runtime: Runtime, s3: str, folder: Path
    ) -> None:
        self.cluster, self.podman, self.runtime, self.folder = cluster, podman, runtime, folder
        self.config = yaml.safe_load(EXAMPLE.read_text())
        self.config["k8s"] |= {
            "runtime": IMAGE,
            "runtime_cpu": CPUS,
            "runtime_memory": 256,
            "runtime_timeout": 120,
            "max_workers": 2,
        }
        self.config["minio"]["endpoint"] = s3

    def run(self, rig: Rig, *program: str, arguments: tuple[str, ...] = ()) -> Seen:
        """Runs the job with the client's Python and these arguments before and behind it."""
        namespace = f"lithops-{secrets.token_hex(4)}"
        made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        assert self.cluster.ask(PATHS["Namespace"], made)[0] == 201
        skip_without_the_masters_port()
        client, node = self.folder / "client", self.folder / "node"
        environment = isolated(client)
        node.mkdir()
        self.config["k8s"]["kubecfg_path"] = str(client / "kubeconfig")
        self.config["minio"]["storage_bucket"] = namespace
        self.cluster.write_kubeconfig(client / "kubeconfig", namespace)
        (client / "config.yaml").write_text(yaml.safe_dump(self.config))
        (client / "job.py").write_text(JOB)
        pids: dict[str, int] = {}
        begun: dict[str, int] = {}

        def started(name: str, pid: int) -> None:
            rig.register(pid)
            pids[name], begun[name] = pid, time.monotonic_ns()

        images = {IMAGE: self.runtime.image}
        command = [str(self.runtime.python), *program, "job.py", "config.yaml", *arguments]
        with Kubelet(
            self.cluster, self.podman, images, node, namespace, host=rig.root, started=started
        ) as kubelet:
            try:
                done = subprocess.run(
                    command,
                    cwd=client,
                    env=environment,
                    capture_output=True,
                    text=True,
                    timeout=150,
                )
                said = done.stdout + done.stderr
            except subprocess.TimeoutExpired as error:
                said = f"{error.stdout!r} {error.stderr!r}"
                done = None
            logs = {name: kubelet.log(name) for name in kubelet.pods}
            assert done is not None and done.returncode == 0, (said, logs, kubelet.trouble)
            wait_until_gone(self.cluster, namespace)
        assert kubelet.trouble == []
        seen = json.loads((client / "seen.json").read_text())
        truths, whole = [], {}
        for one in seen["results"]:
            name = one["host"]
            truths.append(rig.energy(*one["t"]).pids[pids[name]])
            whole[name] = rig.energy(begun[name], time.monotonic_ns()).pids[pids[name]]
        return Seen(seen["results"], seen["stats"], said, kubelet.pods, logs, truths, whole)


def wait_until_gone(cluster: Server, namespace: str) -> None:
    """Until nothing is left of a client's jobs that was told to clean up."""
    deadline = time.monotonic() + 60
    for kind in ("Job", "Pod"):
        while items := cluster.ask(PATHS[kind].format(namespace))[1]["items"]:
            assert time.monotonic() < deadline, items
            time.sleep(0.1)


@pytest.fixture
def bench(
    live: None,
    podman: dict[str, str],
    cluster: Server,
    runtime: Runtime,
    s3: str,
    tmp_path: Path,
) -> Bench:
    return Bench(cluster, podman, runtime, s3, tmp_path)


def node() -> Rig:
    """A machine whose joules above idle are in proportion to CPU time: 34.5 J a CPU second. Its
    counters are root's, as the kernel has them."""
    return Rig(packages=1, domains=("package", "dram"), idle_watts=20, gain=30, gamma=1, mode=0o400)


def by_command(mode: str) -> tuple[str, ...]:
    return ("-m", "lithowatt", "lithops", "k8s-template", "--mode", mode)


def check(seen: Seen) -> None:
    """What holds in every mode."""
    for one, seconds, stats in zip(seen.results, WORK, seen.stats, strict=True):
        assert one["cpu"] >= seconds
        for key, types in CONTRACT.items():
            value = stats[f"worker_func_{key}"]
            assert value is None or type(value) in types, (key, value)
        for family in (ENERGY, TASK):
            low, value, high = (stats[family + key] for key in ("low", "consumption", "high"))
            assert 0 < low <= value <= high, (family, low, value, high)
        assert stats[TASK + "consumption"] >= stats[ENERGY + "consumption"]
        assert stats["worker_func_container_runtime"] == "kubernetes"
        assert stats["worker_func_k8s_pod"] == one["host"] in seen.pods
        assert stats["worker_func_k8s_node"] == NODE
        # What cannot be read says why.
        for method in ("rapl", "perf", "ebpf"):
            source = stats[f"worker_func_{method}_source"]
            if not stats[f"worker_func_{method}_available"]:
                assert source.startswith("unavailable: ")
    for name in seen.whole:
        # Each pod pays its start once.
        mine = [s for s in seen.stats if s["worker_func_k8s_pod"] == name]
        assert sum(s["worker_task_cold_start"] for s in mine) == 1
        assert sum(s[TASK + "startup"] > 0 for s in mine) == 1
    (master,) = (name for name in seen.pods if name.startswith("lithops-master"))
    assert "Sending range" in seen.logs[master]
    # Nothing of ours in any log: the image's name is the user's.
    for log in (seen.said, *seen.logs.values()):
        assert "lithowatt" not in log.replace(IMAGE, "").replace("lithowatt-k8s", ""), log
        assert "Traceback" not in log, log
    for pod in seen.pods.values():
        container = pod["spec"]["containers"][0]
        for names in (
            [variable["name"] for variable in container["env"]],
            [volume["name"] for volume in pod["spec"].get("volumes", [])],
            [mount["mountPath"] for mount in container.get("volumeMounts", [])],
        ):
            assert len(set(names)) == len(names)


def check_against_the_counters(seen: Seen, method: str) -> None:
    for stats, truth in zip(seen.stats, seen.truths, strict=True):
        assert stats[ENERGY + "method"] == method, stats["worker_func_rapl_source"]
        assert stats[ENERGY + "quality"] == "attributed"
        assert stats["worker_func_rapl_available"] is True
        assert stats[ENERGY + "low"] <= truth <= stats[ENERGY + "high"]
        # What is nobody's on a machine that nearly rests is up to a tenth.
        assert stats[ENERGY + "marginal"] == pytest.approx(truth, rel=0.2)
        parts = sum(stats[ENERGY + key] for key in ("marginal", "idle", "others"))
        assert parts == pytest.approx(stats[ENERGY + "machine"], rel=1e-6)
        assert any(text.startswith("throttled: ") for text in stats[ENERGY + "warnings"])
    for name, whole in seen.whole.items():
        mine = [s for s in seen.stats if s["worker_func_k8s_pod"] == name]
        told = sum(s[TASK + "consumption"] + s[TASK + "startup"] for s in mine)
        # All but the start of the container and Lithops' own work between the tasks; and nothing
        # of it twice.
        assert 0.5 * whole < told < 1.1 * whole


@pytest.mark.timeout(300)
def test_agent(bench: Bench) -> None:
    with node() as rig:
        ring = rig.root / "run" / "lithowatt" / "ring"
        with AgentProcess(rig.root, ring, NODE_NAME=NODE):
            seen = bench.run(rig, *by_command("agent"))
    check(seen)
    for one in seen.results:
        assert (one["uid"], one["capabilities"], one["counters"]) == (1000, 0, [])
        assert one["ring"] and one["mounts"] == {"/run/lithowatt": True}
    check_against_the_counters(seen, "rapl+cputime via agent")


@pytest.mark.timeout(300)
def test_privileged(bench: Bench) -> None:
    # By a configuration that Lithops ignores; what is put right takes the template's place from
    # 3.7 on, and the older ones have the template's.
    bench.config["k8s"]["privileged_containers"] = True
    bench.config = check_config(bench.config, bench.runtime.package)[1]
    assert ("container_security_context" in bench.config["k8s"]) is (
        bench.runtime.release == "3.8.0"
    )
    with node() as rig:
        # And by both ways at once, of which one is enough.
        seen = bench.run(rig, *by_command("privileged"), arguments=("privileged",))
    check(seen)
    for one in seen.results:
        assert one["uid"] == 0 and one["capabilities"] != 0 and not one["ring"]
        assert one["mounts"] == {"/host/sys": True, "/host/proc": True}
        assert one["counters"]
    check_against_the_counters(seen, "rapl+cputime")


@pytest.mark.timeout(300)
def test_fallback(bench: Bench) -> None:
    with node() as rig:
        seen = bench.run(rig, arguments=("fallback",))
    check(seen)
    for one, stats in zip(seen.results, seen.stats, strict=True):
        assert (one["uid"], one["capabilities"], one["counters"]) == (1000, 0, [])
        assert one["mounts"] == {} and not one["ring"]
        assert stats[ENERGY + "method"].startswith("model:")
        assert stats[ENERGY + "quality"] == "modelled"
        # A band of more than a little: nothing was measured.
        assert stats[ENERGY + "high"] > 1.5 * stats[ENERGY + "low"]
        assert stats["worker_func_rapl_energy_pkg"] is None
        assert f"{CPUS:.2f} of " in stats["worker_func_tdp_source"]
        assert "by cgroup quota, memory 0.25 GiB" in stats["worker_func_tdp_source"]
        # The sandbox is charged, and no more.
        # A pod is a machine, however small its quota.
        assert stats[ENERGY + "definition"] == "marginal"
        assert (
            stats[ENERGY + "machine"] < stats["worker_func_tdp_watts"] * stats[ENERGY + "duration"]
        )
    # Three times the work is three times the joules.
    first, second, _ = (stats[ENERGY + "consumption"] for stats in seen.stats)
    cpu = [one["cpu"] for one in seen.results]
    assert first / second == pytest.approx(cpu[0] / cpu[1], rel=0.2)
