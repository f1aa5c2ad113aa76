"""Where a function runs: clouds, containers, firmware, and EC2's metadata service."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lithowatt import EnergyMeter, PowerModel, _core, aws
from lithowatt.aws import (
    AWSInstanceDetector,
    _imds,
    detect_aws_instance_info,
    enhance_aws_energy_monitoring,
    extract_aws_energy_info,
    setup_default_energy_monitoring,
    setup_ec2_energy_monitoring,
)
from lithowatt.environment import AZURE_ASSET_TAG, detect_environment

CLOUD = (
    "AWS_",
    "ECS_",
    "KUBERNETES_",
    "FUNCTION",
    "K_",
    "CLOUD_RUN",
    "GOOGLE_CLOUD",
    "CONTAINER_APP",
    "REGION_NAME",
    "POD_NAME",
    "NODE_NAME",
    "container",
)


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """No cloud's variables from outside, and nothing known of an earlier test's service."""
    for name in list(os.environ):
        if name.startswith(CLOUD):
            monkeypatch.delenv(name)
    monkeypatch.setattr(_imds, "_known", {})
    # A test that forgets to set an address asks nobody.
    monkeypatch.setattr(_imds, "IMDS_ADDRESS", ("127.0.0.1", 9))


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "proc").mkdir(exist_ok=True)
    return root


def dmi(**strings: str) -> dict[str, str]:
    return {f"sys/class/dmi/id/{name}": f"{text}\n" for name, text in strings.items()}


EC2 = dmi(sys_vendor="Amazon EC2", product_name="m5.large", board_asset_tag="i-0123456789abcdef0")
GOOGLE = dmi(sys_vendor="Google", product_name="Google Compute Engine")
AZURE = dmi(
    sys_vendor="Microsoft Corporation",
    product_name="Virtual Machine",
    chassis_asset_tag=AZURE_ASSET_TAG,
)
HYPERV = dmi(
    sys_vendor="Microsoft Corporation", product_name="Virtual Machine", chassis_asset_tag="none"
)
GUEST = {"proc/cpuinfo": "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu hypervisor\n"}
POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}

CASES: dict[str, tuple[dict[str, str], dict[str, str], str, str | None]] = {
    "lambda": ({}, {"AWS_LAMBDA_FUNCTION_NAME": "f"}, "aws-lambda", "aws"),
    "ec2 on nitro": (EC2, {}, "aws-ec2", "aws"),
    "ec2 on xen": (dmi(sys_vendor="Xen", bios_version="4.11.amazon"), {}, "aws-ec2", "aws"),
    "ec2 by its variable": ({}, {"AWS_EXECUTION_ENV": "EC2"}, "aws-ec2", "aws"),
    "eks by its variable": ({}, {**POD, "AWS_EXECUTION_ENV": "EC2"}, "aws-eks", "aws"),
    "lambda's image elsewhere": (
        {".dockerenv": ""},
        {"AWS_EXECUTION_ENV": "AWS_Lambda_python3.12"},
        "container",
        None,
    ),
    "fargate": ({}, {"AWS_EXECUTION_ENV": "AWS_ECS_FARGATE"}, "aws-ecs", "aws"),
    "ecs by its address": (
        EC2,
        {"ECS_CONTAINER_METADATA_URI_V4": "http://127.0.0.1:9/v4/x"},
        "aws-ecs",
        "aws",
    ),
    "eks by firmware": (EC2, POD, "aws-eks", "aws"),
    "eks by its token": (
        {},
        {**POD, "AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/secrets/token"},
        "aws-eks",
        "aws",
    ),
    "gke": (GOOGLE, POD, "google-kubernetes-engine", "google"),
    "aks": (AZURE, POD, "azure-kubernetes", "azure"),
    "kubernetes": ({}, POD, "kubernetes", None),
    "compute engine": (GOOGLE, {}, "google-compute-engine", "google"),
    "cloud run": ({}, {"K_SERVICE": "s"}, "google-cloud-run", "google"),
    "cloud functions": (
        {},
        {"K_SERVICE": "s", "FUNCTION_TARGET": "main"},
        "google-cloud-functions",
        "google",
    ),
    "azure vm": (AZURE, {}, "azure-vm", "azure"),
    "azure functions": ({}, {"FUNCTIONS_WORKER_RUNTIME": "python"}, "azure-functions", "azure"),
    "container apps": ({}, {"CONTAINER_APP_NAME": "a"}, "azure-container-apps", "azure"),
    "hyper-v elsewhere": ({**HYPERV, **GUEST}, {}, "vm", None),
    "plain guest": (GUEST, {}, "vm", None),
    "docker": ({".dockerenv": ""}, {}, "container", None),
    "podman": ({"run/.containerenv": ""}, {}, "container", None),
    "docker by its cgroup": ({"proc/self/cgroup": "4:cpu:/docker/3f\n"}, {}, "container", None),
    "docker on ec2": ({**EC2, ".dockerenv": ""}, {}, "container", "aws"),
    "bare metal": (
        {
            **dmi(sys_vendor="Dell Inc.", product_name="PowerEdge R630"),
            "proc/self/cgroup": "0::/system.slice/containerd.service\n",
        },
        {},
        "machine",
        None,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_platform(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, variables, platform, provider = CASES[case]
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    environment = detect_environment(tree(tmp_path, files))
    assert (environment.platform, environment.provider) == (platform, provider)
    assert bool(environment.evidence) == (platform != "machine")


@pytest.mark.parametrize(
    ("text", "runtime"),
    [
        ("0::/kubepods.slice/kubepods-burstable.slice/cri-containerd-1.scope", "kubernetes"),
        ("11:cpu,cpuacct:/ecs/0a1b/2c3d", "ecs"),
        ("0::/system.slice/docker-0123.scope", "docker"),
        ("0::/machine.slice/libpod-1.scope", "podman"),
        ("1:name=systemd:/lxc/box", "lxc"),
        ("0::/system.slice/docker.service", None),
        ("no cgroup at all", None),
    ],
)
def test_container_runtime(text: str, runtime: str | None, tmp_path: Path) -> None:
    root = tree(tmp_path, {"proc/self/cgroup": f"{text}\n"})
    assert detect_environment(root).container_runtime == runtime


def test_hostile_firmware_is_nobodys(tmp_path: Path) -> None:
    (tmp_path / "sys/class/dmi/id/product_name").mkdir(parents=True)
    (tmp_path / "proc").mkdir()
    (tmp_path / "sys/class/dmi/id/sys_vendor").write_bytes(b"\xff\xfe\x00Amazon EC2\n" * 500)
    environment = detect_environment(tmp_path)
    assert (environment.provider, environment.instance_type) == (None, None)


def test_instance_type_in_the_stats(tmp_path: Path) -> None:
    root = tree(tmp_path, EC2)
    with EnergyMeter(root=root) as meter:
        pass
    stats = meter.stats()
    assert stats["worker_func_aws_instance_type"] == "m5.large"
    assert stats["worker_func_aws_is_lambda"] is False
    # What Xen and impostors show as a product is no instance type.
    for product in ("HVM domU", "m5.large; rm -rf", "x" * 90 + ".y"):
        (tmp_path / "sys/class/dmi/id/product_name").write_text(product)
        assert detect_environment(tmp_path).instance_type is None


LAMBDA = {
    "AWS_LAMBDA_FUNCTION_NAME": "f",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1024",
    "AWS_EXECUTION_ENV": "AWS_Lambda_python3.12",
    "AWS_REGION": "eu-west-1",
}

LAMBDA_CODE = """
import json, socket
def refuse(*_): raise AssertionError("a socket on the function's path")
socket.socket.connect = refuse
socket.create_connection = refuse
from lithowatt import EnergyMeter
from lithowatt.aws import (AWSInstanceDetector, detect_aws_instance_info,
                           enhance_aws_energy_monitoring, extract_aws_energy_info)
from lithowatt.environment import detect_environment
with EnergyMeter() as m:
    sum(range(200_000))
here = detect_environment()
tools = enhance_aws_energy_monitoring()
print(json.dumps({
    "info": detect_aws_instance_info(imds=True), "here": [here.platform, here.cpus, here.memory_mb],
    "cpu": AWSInstanceDetector(imds=True).detect_instance(), "stats": m.stats(),
    "aws_cpu": extract_aws_energy_info(m.stats()),
    "tools": [sorted(tools), tools["memory_size"], tools["environment"],
              tools["tdp_estimator"].vcpus, tools["cpu_monitor"].vcpus_bought],
}))
"""


def in_a_process(code: str, **variables: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_lambda_from_the_environment_alone() -> None:
    found = in_a_process(LAMBDA_CODE, **LAMBDA)
    machine = os.uname().machine
    info = found["info"]
    assert info["instance_type"] == "lambda" and info["is_lambda"] is True
    assert info["memory_size"] == 1024 and info["architecture"] == machine
    assert info["region"] == "eu-west-1" and info["runtime"] == "python3.12"
    assert found["here"] == ["aws-lambda", pytest.approx(1024 / 1769), 1024]
    assert found["cpu"]["vcpus"] == pytest.approx(1024 / 1769)
    assert found["cpu"]["processor_type"] == found["stats"]["worker_processor_name"]
    # As in the profiles that FlexExecutor's users have.
    assert found["aws_cpu"] == f"type:lambda-function|arch:{machine}|lambda:True|mem:1024"
    keys, memory, environment, vcpus, bought = found["tools"]
    assert keys == ["cpu_monitor", "environment", "memory_size", "tdp_estimator"]
    assert (memory, environment) == (1024, "aws_lambda")
    assert vcpus == bought == pytest.approx(1024 / 1769)


def test_a_part_of_what_lambda_shows_is_told_where_it_is_read() -> None:
    code = """
import json
from lithowatt import EnergyMeter
with EnergyMeter(methods="tdp") as m:
    sum(range(200_000))
print(json.dumps([m.reading.notes, str(m.reading), m.reading._repr_html_()]))
"""
    small = {**LAMBDA, "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512"}
    notes, shown, html = in_a_process(code, **small)
    (note,) = (note for note in notes if "bought 0.29 of " in note)
    assert f"note: {note}" in shown.splitlines()
    assert "note: the function&#x27;s memory bought" in html
    ran = subprocess.run(
        [sys.executable, "-m", "lithowatt", "run", "--methods", "tdp", "--", "true"],
        env={**os.environ, **small},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert f"note: {note}" in " ".join(ran.stderr.split())
    # Of more vCPUs than any machine shows none is left out.
    notes, _, _ = in_a_process(code, **{**LAMBDA, "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "10240"})
    assert len(os.sched_getaffinity(0)) > 5 or not any("bought" in note for note in notes)


@pytest.mark.parametrize("size", ["0", "-1", "abc", "1000000000000", "127", "10241", "512.5", ""])
def test_a_memory_size_that_aws_does_not_sell_is_none(
    size: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "f")
    for sold in ("128", "10240"):
        monkeypatch.setenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", sold)
        found = _core.surroundings()
        assert found["lambda_memory_mb"] == int(sold) and found["problems"] == []
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", size)
    found = _core.surroundings()
    assert found["lambda_memory_mb"] is None
    said = [f'_SIZE is "{size}" and ignored: AWS Lambda sells 128 to 10240 MB'] if size else []
    assert [
        problem.removeprefix("AWS_LAMBDA_FUNCTION_MEMORY") for problem in found["problems"]
    ] == said


def test_lambda_without_a_memory_size() -> None:
    code = (
        "import json\nfrom lithowatt.aws import *\n"
        "print(json.dumps([enhance_aws_energy_monitoring()['memory_size'],"
        " detect_aws_instance_info()['is_lambda']]))"
    )
    assert in_a_process(code, AWS_LAMBDA_FUNCTION_NAME="f") == [128, True]


@pytest.mark.parametrize(
    ("stats", "expected"),
    [
        ({}, "type:unknown|arch:unknown|lambda:False|mem:unknown"),
        (
            {
                "worker_func_aws_instance_type": "m5.large",
                "worker_func_aws_architecture": "x86_64",
                "worker_func_aws_is_lambda": False,
                "worker_func_aws_memory_size": None,
            },
            "type:m5.large|arch:x86_64|lambda:False|mem:unknown",
        ),
        (
            {
                "worker_func_aws_instance_type": "lambda-function",
                "worker_func_aws_architecture": "aarch64",
                "worker_func_aws_is_lambda": "True",
                "worker_func_aws_memory_size": 512.0,
            },
            "type:lambda-function|arch:aarch64|lambda:True|mem:512",
        ),
        (
            {"aws_instance_type": "t3.micro", "aws_architecture": "x86_64"},
            "type:t3.micro|arch:x86_64|lambda:False|mem:unknown",
        ),
    ],
)
def test_extract_aws_energy_info(stats: dict[str, Any], expected: str) -> None:
    assert extract_aws_energy_info(stats) == expected


def test_setups_meter(tmp_path: Path) -> None:
    setup = setup_default_energy_monitoring()
    assert setup["environment"] == detect_environment().platform.replace("-", "_")
    assert setup["model"].describe() == PowerModel.for_machine().describe()
    monitor = setup["monitor"]
    monitor.start_monitoring()
    sum(range(100_000))
    monitor.stop_monitoring()
    assert monitor.collect_metrics()["psutil"]["duration"] > 0
    setup = setup_ec2_energy_monitoring(tree(tmp_path, EC2))
    assert setup["environment"] == "aws_ec2"
    assert setup["instance_info"]["instance_type"] == "m5.large"
    assert enhance_aws_energy_monitoring(tmp_path)["environment"] == "aws_ec2"
    (tmp_path / ".dockerenv").touch()
    assert enhance_aws_energy_monitoring(tmp_path)["environment"] == "aws_ec2"


def test_enhance_elsewhere_is_the_default(tmp_path: Path) -> None:
    assert enhance_aws_energy_monitoring(tree(tmp_path, GUEST))["environment"] == "vm"


def test_every_name_is_exported() -> None:
    for name in aws.__all__:
        assert getattr(aws, name).__doc__


# -- EC2's metadata service --------------------------------------------------------------------

Answer = Callable[[str, socket.socket], None]
DOCUMENT = {
    "instanceType": "c6g.xlarge",
    "region": "eu-central-1",
    "architecture": "arm64",
    "accountId": "1",
}


def reply(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


class Service:
    """A metadata service on 127.0.0.1 that gives nothing without its token."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.delay = 0.0
        self.drip = False
        self.document = json.dumps(DOCUMENT).encode()
        self.token = b"AQAEsecret=="
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = self._listener.getsockname()[:2]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(2)
                text = b""
                while b"\r\n\r\n" not in text:
                    part = connection.recv(4096)
                    if not part:
                        break
                    text += part
                self.requests.append(text.decode())
                time.sleep(self.delay)
                try:
                    self._send(connection, self._answer(text.decode()))
                except OSError:
                    pass  # the client gave up, as it should

    def _answer(self, request: str) -> bytes:
        lines = request.split("\r\n")
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:])}
        if lines[0].startswith("PUT /latest/api/token "):
            assert headers["x-aws-ec2-metadata-token-ttl-seconds"].isdigit()
            return reply(self.token)
        if headers.get("x-aws-ec2-metadata-token", "").encode() != self.token:
            return reply(b"", "401 Unauthorized")
        if lines[0].startswith("GET /latest/dynamic/instance-identity/document "):
            return reply(self.document)
        return reply(b"", "404 Not Found")

    def _send(self, connection: socket.socket, answer: bytes) -> None:
        if not self.drip:
            connection.sendall(answer)
            return
        for i in range(len(answer)):
            connection.sendall(answer[i : i + 1])
            time.sleep(0.01)

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Service]:
    service = Service()
    monkeypatch.setattr(_imds, "IMDS_ADDRESS", service.address)
    # A thread of this process answers, which a busy machine may keep waiting.
    monkeypatch.setattr(_imds, "IMDS_BUDGET", 10.0)
    monkeypatch.setenv("LITHOWATT_STATE_DIR", str(tmp_path / "state"))
    yield service
    service.close()


XEN = dmi(sys_vendor="Xen", bios_version="4.11.amazon")


def test_the_service_wants_a_token_and_gets_it(service: Service, tmp_path: Path) -> None:
    root = tree(tmp_path / "root", XEN)
    info = detect_aws_instance_info(root, imds=True)
    assert info["instance_type"] == "c6g.xlarge" and info["region"] == "eu-central-1"
    assert info["source"] == "imds" and info["is_lambda"] is False
    assert [text.split()[0] for text in service.requests] == ["PUT", "GET"]


def test_it_is_asked_once_per_boot(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = aws.instance_metadata()
    assert aws.instance_metadata() == first
    assert len(service.requests) == 2
    # Another process of this boot reads the file, which is its owner's alone to write.
    monkeypatch.setattr(_imds, "_known", {})
    again = aws.instance_metadata(ask=False)
    assert again[:3] == first[:3] and again.source == "imds, earlier in this boot"
    assert len(service.requests) == 2
    stored = tmp_path / "state/instance.json"
    assert stat.S_IMODE(stored.stat().st_mode) == 0o600
    assert "secret" not in stored.read_text() and "accountId" not in stored.read_text()
    # After another boot it may be another instance.
    monkeypatch.setattr(_imds, "_known", {})
    monkeypatch.setattr(_imds, "_BOOT_ID", tmp_path / "boot_id")
    (tmp_path / "boot_id").write_text("another\n")
    assert aws.instance_metadata(ask=False).instance_type is None
    assert aws.instance_metadata().source == "imds"
    assert len(service.requests) == 4


def test_it_is_not_asked_unless_told_to(service: Service, tmp_path: Path) -> None:
    root = tree(tmp_path / "root", XEN)
    info = detect_aws_instance_info(root)
    assert info["instance_type"] is None
    assert info["source"] == "unavailable: the metadata service was not asked"
    setup_ec2_energy_monitoring(root)
    enhance_aws_energy_monitoring(root)
    AWSInstanceDetector(root).detect_instance()
    with EnergyMeter(root=root) as meter:
        pass
    meter.stats()
    assert service.requests == []


@pytest.mark.parametrize(
    "variables",
    [{"AWS_LAMBDA_FUNCTION_NAME": "f"}, {"AWS_EC2_METADATA_DISABLED": "TRUE"}],
)
def test_it_is_never_asked(
    variables: dict[str, str], service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    detect_aws_instance_info(imds=True)
    assert aws.instance_metadata().instance_type is None
    assert service.requests == []


def test_another_cloud_is_not_asked(service: Service, tmp_path: Path) -> None:
    info = detect_aws_instance_info(tree(tmp_path / "root", GOOGLE), imds=True)
    assert info["source"] == "unavailable: this is google-compute-engine"
    assert service.requests == []


@pytest.mark.parametrize("way", ["slow", "dripping"])
def test_a_slow_service_costs_its_budget(
    way: str,
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
    steady: Callable[[Callable[[], None]], None],
) -> None:
    monkeypatch.setattr(_imds, "IMDS_BUDGET", 0.05)
    service.delay = 0.2 if way == "slow" else 0.0
    service.drip = way == "dripping"

    @steady
    def check() -> None:
        began = time.perf_counter()
        found = aws.instance_metadata()
        took = time.perf_counter() - began
        assert found.instance_type is None
        assert found.source == "the metadata service did not answer within 50 ms"
        # 50 ms and what the scheduler adds on a busy machine.
        assert took < 0.075


def test_no_service_costs_nothing(
    monkeypatch: pytest.MonkeyPatch, steady: Callable[[Callable[[], None]], None]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free = listener.getsockname()[:2]
    monkeypatch.setattr(_imds, "IMDS_ADDRESS", free)

    @steady
    def check() -> None:
        began = time.perf_counter()
        found = aws.instance_metadata()
        assert time.perf_counter() - began < 0.02
        assert found.source.startswith("the metadata service cannot be reached: ")


@pytest.mark.parametrize(
    ("document", "token"),
    [
        (b"not json", b"t"),
        (b"[]", b"t"),
        (b"{}", b"t"),
        (b'{"instanceType": 7}', b"t"),
        (b'{"instanceType": "a\\nb"}', b"t"),
        (b'{"instanceType": "' + b"a" * 99 + b'"}', b"t"),
        (json.dumps(DOCUMENT).encode(), b""),
        (json.dumps(DOCUMENT).encode(), b"two\r\nlines: 1"),
        (b"\xff" * 20_000, b"t"),
    ],
)
def test_a_strange_service_is_not_believed(
    document: bytes, token: bytes, service: Service, tmp_path: Path
) -> None:
    service.document, service.token = document, token
    found = aws.instance_metadata()
    assert found.instance_type is None
    assert found.source.startswith("the metadata service ")
    assert not (tmp_path / "state/instance.json").exists()


@pytest.mark.parametrize("text", ["", "[]", '{"schema": 1}', '{"schema": 1, "boot_id": null}'])
def test_a_broken_store_is_not_believed(text: str, service: Service, tmp_path: Path) -> None:
    tree(tmp_path / "state", {"instance.json": text})
    assert aws.instance_metadata(ask=False).instance_type is None
    assert aws.instance_metadata().instance_type == "c6g.xlarge"


def test_no_place_to_store_is_no_error(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LITHOWATT_STATE_DIR", str(tmp_path / "file/below"))
    assert aws.instance_metadata().instance_type == "c6g.xlarge"


# -- doctor ------------------------------------------------------------------------------------


def test_doctor_says_where_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from lithowatt.cli import main

    files = {**EC2, "sys/fs/cgroup/cpu.max": "25000 100000\n"}
    assert main(["doctor", "--root", str(tree(tmp_path, files))]) == 0
    line = " ".join(capsys.readouterr().out.split()).partition(" here: ")[2]
    assert "aws-ec2 (dmi: Amazon EC2)" in line and "m5.large" in line
    assert "0.25 CPUs by quota" in line


def test_doctor_asks_the_service(
    service: Service,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from lithowatt.cli import main

    # As on an instance whose firmware a container does not see.
    monkeypatch.setenv("AWS_EXECUTION_ENV", "AWS_ECS_EC2")
    assert main(["doctor", "--json"]) == 0
    here = json.loads(capsys.readouterr().out)["here"]
    assert (here["platform"], here["instance_type"]) == ("aws-ecs", "c6g.xlarge")
    asked = len(service.requests)
    # Another root may be another machine's.
    assert main(["doctor", "--root", str(tree(tmp_path / "root", XEN))]) == 0
    assert len(service.requests) == asked


def test_surroundings_are_looked_at_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree(tmp_path, {})
    assert _core.surroundings(root)["container_runtime"] is None
    monkeypatch.setenv("ECS_CONTAINER_METADATA_URI_V4", "http://169.254.170.2/v4/x")
    assert _core.surroundings(root)["container_runtime"] == "ecs"
