"""`lithowatt lithops runtime`: what it prints, and the Dockerfiles of deploy/."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from lithowatt.cli import main
from lithowatt.lithops import _runtime
from lithowatt.lithops._dockerfile import BACKENDS, RuntimeOptionError, dockerfile
from tests.support import TOP

DEPLOY = TOP / "deploy"

#: What a file of deploy/ is called, by architecture.
FILES = {"x86_64": "Dockerfile", "arm64": "Dockerfile.arm64"}


#: ELF's numbers of the architectures.
MACHINES = {"x86_64": 62, "arm64": 183}


def packed(file: Path, architecture: str = "x86_64") -> Path:
    """A wheel of lithowatt as far as its architecture goes."""
    elf = b"\x7fELF\x02\x01" + bytes(12) + struct.pack("<H", MACHINES[architecture])
    with zipfile.ZipFile(file, "w") as wheel:
        wheel.writestr("lithowatt/__init__.py", "")
        wheel.writestr("lithowatt/_core.abi3.so", elf)
    return file


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("architecture", FILES)
def test_the_dockerfiles_of_deploy_are_those_that_the_command_writes(backend, architecture):
    file = DEPLOY / "workers" / backend / FILES[architecture]

    assert file.read_text() == dockerfile(backend, architecture=architecture)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_dockerfile_is_of_instructions_that_docker_knows(backend):
    text = dockerfile(backend, wheel="lithowatt-1-cp310-abi3-linux_x86_64.whl")
    joined = text.replace("\\\n", " ")
    lines = [line for line in joined.splitlines() if line and not line.startswith("#")]

    known = {"FROM", "RUN", "COPY", "CMD", "ENV", "WORKDIR", "USER"}
    assert {line.split()[0] for line in lines} <= known
    assert lines[0].startswith("FROM --platform=linux/amd64 ")
    assert any(line.startswith("COPY lithowatt-1-") for line in lines)
    # It fails where calls would not be metered.
    assert lines[-1] == "RUN python -m lithowatt.lithops status"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"backend": "ibm_cf"}, "ibm_cf"), ({"backend": "k8s", "architecture": "mips"}, "mips")],
)
def test_unknown_backends_and_architectures_are_refused(arguments, message):
    with pytest.raises(RuntimeOptionError, match=message):
        dockerfile(**arguments)


def test_localhost_prints_the_command_for_the_interpreter_of_the_configuration(tmp_path, capsys):
    pytest.importorskip("yaml")
    config = tmp_path / "config.yaml"
    config.write_text(f"localhost: {{runtime: {sys.executable}}}\n")
    command = ["lithops", "runtime", "--backend", "localhost", "--config", str(config)]

    wheel = packed(tmp_path / "x y.whl")
    assert main([*command, "--wheel", str(wheel)]) == 0
    out = capsys.readouterr().out
    assert f"{sys.executable} -m pip install '{wheel}'" in out
    assert "make wheel" not in out
    assert f"{sys.executable} -m lithowatt.lithops status" in out


def test_localhost_applies_what_it_prints(monkeypatch, capsys):
    ran = []

    def run(command, cwd=None):
        ran.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(_runtime.subprocess, "run", run)
    command = ["lithops", "runtime", "--backend", "localhost", "--runtime", sys.executable]
    assert main([*command, "--apply"]) == 0

    assert [one[1:] for one in ran] == [
        ["-m", "pip", "install", "lithowatt"],
        ["-m", "lithowatt.lithops", "status"],
    ]


def interpreter(folder: Path, name: str = Path(sys.executable).name) -> Path:
    """A program that runs this Python, in a folder of its own."""
    folder.mkdir(parents=True)
    program = folder / name
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    program.chmod(0o755)
    return program


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """Where Lithops finds no configuration, with another interpreter first on the PATH."""
    for name in ("LITHOPS_CONFIG", "LITHOPS_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    other = interpreter(tmp_path / "b" / "bin")
    monkeypatch.setenv("PATH", f"{other.parent}{os.pathsep}{os.environ['PATH']}")
    return other


LOCALHOST = ["lithops", "runtime", "--backend", "localhost"]


def test_localhost_is_the_interpreter_that_the_path_has(nowhere, monkeypatch, capsys):
    assert main(LOCALHOST) == 0
    out = capsys.readouterr().out
    assert f"workers run {nowhere} " in out and sys.executable in out
    assert f"{nowhere} -m pip install" in out

    # Where it is this one, the command says nothing of another.
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert main(LOCALHOST) == 0
    assert "own interpreter" not in capsys.readouterr().out


@pytest.mark.parametrize("place", ["LITHOPS_CONFIG_FILE", ".lithops_config", "home", "json"])
def test_localhost_reads_the_configuration_that_lithops_would(
    nowhere, tmp_path, monkeypatch, capsys, place
):
    pytest.importorskip("yaml")
    chosen = interpreter(tmp_path / "c" / "bin", "python3.77")
    text = f"localhost:\n  runtime: {chosen}\n"
    if place == "json":
        monkeypatch.setenv("LITHOPS_CONFIG", json.dumps({"localhost": {"runtime": str(chosen)}}))
    elif place == "home":
        (tmp_path / "home" / ".lithops").mkdir(parents=True)
        (tmp_path / "home" / ".lithops" / "config").write_text(text)
    elif place == ".lithops_config":
        Path(place).write_text(text)
    else:
        (tmp_path / "mine.yaml").write_text(text)
        monkeypatch.setenv(place, str(tmp_path / "mine.yaml"))
    assert main(LOCALHOST) == 0
    assert f"workers run {chosen} " in capsys.readouterr().out


def test_localhost_without_such_an_interpreter(nowhere, capsys):
    assert main([*LOCALHOST, "--runtime", "python3.99"]) == 2
    assert "'python3.99'" in capsys.readouterr().err
    # What is no interpreter's name is an image's.
    assert main([*LOCALHOST, "--runtime", "me/image"]) == 0
    assert "FROM " in capsys.readouterr().out


def test_a_wheel_replaces_one_of_the_same_version(monkeypatch, tmp_path):
    ran = []

    def run(command, cwd=None):
        ran.append(command[1:])
        return subprocess.CompletedProcess(command, 0)

    wheel = packed(tmp_path / "lithowatt-1-cp310-abi3-linux_x86_64.whl")
    monkeypatch.setattr(_runtime.subprocess, "run", run)
    command = [*LOCALHOST, "--runtime", sys.executable, "--wheel", str(wheel), "--apply"]
    assert main(command) == 0
    install = ["-m", "pip", "install"]
    assert ran[0] == [*install, str(wheel)]
    assert ran[1] == [*install, "--force-reinstall", "--no-deps", str(wheel)]


@pytest.mark.slow
def test_status_of_another_interpreter(nowhere, tmp_path, capsys):
    assert main(["lithops", "status", "--json"]) in (0, 1)
    assert json.loads(capsys.readouterr().out)["workers"] == str(nowhere)

    code = main(["lithops", "status", "--python", str(nowhere)])
    assert code == main(["lithops", "status", "--python", str(tmp_path / "b/bin" / nowhere.name)])
    assert "interpreter" in capsys.readouterr().out
    # The folder of a virtual environment is as good.
    venv = tmp_path / "venv"
    interpreter(venv / "bin", "python")
    assert main(["lithops", "status", "--python", str(venv), "--json"]) == code
    assert json.loads(capsys.readouterr().out)["executable"]


def test_status_of_an_interpreter_without_lithowatt_or_of_none(tmp_path, capsys):
    bare = tmp_path / "python"
    bare.write_text("#!/bin/sh\necho \"$0: No module named 'lithowatt'\" >&2; exit 1\n")
    bare.chmod(0o755)
    assert main(["lithops", "status", "--python", str(bare)]) == 2
    assert "lithowatt is not installed for it" in capsys.readouterr().err
    assert main(["lithops", "status", "--python", "/no/python"]) == 2
    assert "'/no/python'" in capsys.readouterr().err


def test_an_image_is_built_with_lithops_from_a_folder_with_the_wheel(monkeypatch, tmp_path):
    wheel = packed(tmp_path / "lithowatt-1-cp310-abi3-linux_x86_64.whl")
    seen = {}

    def run(command, cwd=None):
        seen["command"] = command
        seen["files"] = {file.name: file.read_bytes() for file in Path(cwd).iterdir()}
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr(_runtime.subprocess, "run", run)
    command = ["lithops", "runtime", "--backend", "k8s", "--apply", "--runtime", "me/image"]
    # The exit code is Lithops'.
    assert main([*command, "--wheel", str(wheel)]) == 3

    built = ["lithops", "runtime", "build", "-b", "k8s", "-f", "Dockerfile", "me/image"]
    assert seen["command"] == built
    assert seen["files"].keys() == {"Dockerfile", wheel.name}
    assert f"COPY {wheel.name} " in seen["files"]["Dockerfile"].decode()


def test_lambda_prints_the_steps_and_refuses_arm64_without_a_container(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    packed(Path("w.whl"))
    assert main(["lithops", "runtime", "--backend", "aws_lambda", "--wheel", "w.whl"]) == 0
    out = capsys.readouterr().out
    assert "runtime --backend aws_lambda --apply --wheel w.whl" in out
    assert "lithowatt lithops layer lithowatt-layer.zip --wheel w.whl" in out

    command = ["lithops", "runtime", "--backend", "aws_lambda", "--architecture", "arm64"]
    assert main([*command, "--apply"]) == 2
    assert "--container" in capsys.readouterr().err
    assert main([*command, "--container"]) == 0
    assert "linux/arm64 public.ecr.aws/lambda/python" in capsys.readouterr().out


class Client:
    """Lambda's API as far as a layer goes, with a function that has Lithops' layer."""

    def __init__(self, layers, status=("Successful",)):
        self.layers = layers
        self.versions = []
        self.status = list(status)

    def list_layer_versions(self, LayerName):
        return {"LayerVersions": self.versions}

    def publish_layer_version(self, LayerName, Description, **_):
        arn = f"arn:aws:lambda:eu-west-1:1:layer:{LayerName}:{len(self.versions) + 1}"
        self.versions.append({"LayerVersionArn": arn, "Description": Description})
        return {"LayerVersionArn": arn}

    def get_function_configuration(self, FunctionName):
        status = self.status.pop(0) if len(self.status) > 1 else self.status[0]
        return {
            "Layers": [{"Arn": arn} for arn in self.layers],
            "LastUpdateStatus": status,
            "LastUpdateStatusReason": "too large",
        }

    def update_function_configuration(self, FunctionName, Layers):
        self.layers = Layers


class Backend:
    def __init__(self, client):
        self.lambda_client = client

    def list_runtimes(self):
        return [("default-runtime-v311", 512, "3.8.0", "x"), ("me/image", 512, "3.8.0", "y")]

    def _is_container_runtime(self, name):
        return "default-runtime-v" not in name

    def _format_function_name(self, name, memory, version):
        return f"worker-{name}-{memory}-{version}"


def test_another_version_of_the_layer_replaces_the_first_and_the_rest_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(_runtime.time, "sleep", lambda seconds: None)
    first, second = tmp_path / "1.zip", tmp_path / "2.zip"
    first.write_bytes(b"one")
    second.write_bytes(b"two")
    lithops = "arn:aws:lambda:eu-west-1:1:layer:lithops_layer:7"
    client = Client([lithops], status=["Successful", "InProgress", "Successful"])

    attached = _runtime.attach_layer(Backend(client), first)
    assert attached == ["worker-default-runtime-v311-512-3.8.0"]
    assert client.layers == [lithops, attached.layer]
    # The same again publishes nothing.
    assert _runtime.attach_layer(Backend(client), first).layer == attached.layer
    assert len(client.versions) == 1
    newer = _runtime.attach_layer(Backend(client), second)
    assert newer.layer.endswith(":lithowatt:2")
    assert client.layers == [lithops, newer.layer]


def test_a_layer_that_aws_does_not_take_is_an_error_with_its_reason(tmp_path):
    zipped = tmp_path / "1.zip"
    zipped.write_bytes(b"one")

    with pytest.raises(_runtime.RuntimeProblem, match="too large"):
        _runtime.attach_layer(Backend(Client([], status=["Failed"])), zipped)


@pytest.mark.parametrize("more", [["k8s"], ["aws_lambda"], ["aws_lambda", "--container"]])
def test_wheels_that_the_workers_could_not_have_are_refused(tmp_path, capsys, more):
    command = ["lithops", "runtime", "--backend", *more]
    wheel = packed(tmp_path / "lithowatt-1-cp310-abi3-linux_x86_64.whl")
    text = tmp_path / "text.whl"
    text.write_text("no zip")

    for arguments, message in (
        ([str(tmp_path / "nope.whl")], "nope.whl"),
        ([str(wheel), "--architecture", "arm64"], "is for x86_64, not arm64"),
        ([str(text)], "is no wheel"),
    ):
        assert main([*command, "--wheel", *arguments]) == 2
        out, err = capsys.readouterr()
        assert message in err and not out
    # Of its own architecture, by any of its names, it is taken.
    assert main([*command, "--wheel", str(wheel), "--architecture", "amd64"]) == 0


def test_an_image_for_localhost_wants_a_wheel_of_its_architecture(tmp_path, capsys):
    wheel = packed(tmp_path / "lithowatt-1-cp310-abi3-linux_aarch64.whl", "arm64")
    command = ["lithops", "runtime", "--backend", "localhost", "--runtime", "me/image"]

    assert main([*command, "--wheel", str(wheel)]) == 2
    assert "is for arm64, not x86_64" in capsys.readouterr().err
    assert main([*command, "--wheel", str(wheel), "--architecture", "arm64"]) == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_configuration_that_is_not_there_is_refused(backend, tmp_path, capsys):
    config = tmp_path / "nope.yaml"

    assert main(["lithops", "runtime", "--backend", backend, "--config", str(config)]) == 2
    out, err = capsys.readouterr()
    assert str(config) in err and not out


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_a_wheel_it_is_said_how_to_have_one(backend, capsys, monkeypatch):
    # Lithops starts localhost workers by the interpreter's name, which need not be on the PATH.
    folder = str(Path(sys.executable).parent)
    monkeypatch.setenv("PATH", folder + os.pathsep + os.environ["PATH"])
    assert main(["lithops", "runtime", "--backend", backend]) == 0
    out = capsys.readouterr().out
    assert "make wheel" in out and "--wheel FILE" in out
    assert "make wheel" in dockerfile(backend)
    assert "make wheel" not in dockerfile(backend, wheel="lithowatt-1.whl")


def test_a_reader_who_has_had_enough_is_no_error():
    process = subprocess.Popen(
        [sys.executable, "-m", "lithowatt", "lithops", "runtime", "--backend", "k8s"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stderr is not None
    # Before anything is written: the interpreter has not even started.
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() == 0
