"""Kubernetes without a cluster: the pod template, the manifests, the thesis' names."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import lithowatt
from lithowatt import EnergyMeter
from lithowatt.lithops.kubernetes import (
    EstimationEnergyMonitor,
    HardwareEnergyMonitor,
    TemplateProblem,
    attribute_container_energy,
    edit_template,
    setup_k8s_energy_monitoring,
)
from rig import StaticTree

yaml = pytest.importorskip("yaml")

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"

JOB = """
apiVersion: batch/v1
kind: Job
spec:
  template:
    spec:
      restartPolicy: Never
      containers:
        - name: "lithops"
          image: "<INPUT>"
          env:
            - {name: ACTION, value: ''}
            - {name: DATA, value: ''}
            - {name: MASTER_POD_IP, value: ''}
            - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
"""


def pod_of(text: str) -> dict[str, Any]:
    job = yaml.safe_load(text)
    spec: dict[str, Any] = job["spec"]["template"]["spec"]
    return spec


# -- the template -----------------------------------------------------------------------------


def test_what_lithops_fills_by_place_stays_in_place() -> None:
    for mode in ("agent", "privileged", "fallback"):
        container = pod_of(edit_template(JOB, mode))["containers"][0]
        names = [variable["name"] for variable in container["env"]]
        assert names[:4] == ["ACTION", "DATA", "MASTER_POD_IP", "POD_IP"]
        assert {"POD_NAME", "NODE_NAME"} <= set(names)
        assert container["image"] == "<INPUT>"


def test_an_agents_pod_has_the_ring_and_no_privilege() -> None:
    spec = pod_of(edit_template(JOB, "agent", ring_directory="/var/run/energy"))
    (volume,) = spec["volumes"]
    # A node without an agent must not keep the pod from starting.
    assert volume["hostPath"] == {"path": "/var/run/energy", "type": "DirectoryOrCreate"}
    (mount,) = spec["containers"][0]["volumeMounts"]
    assert (mount["mountPath"], mount["readOnly"]) == ("/run/lithowatt", True)
    assert "securityContext" not in spec["containers"][0]


def test_a_privileged_pod_sees_the_node_at_another_path() -> None:
    spec = pod_of(edit_template(JOB, "privileged"))
    mounts = {m["mountPath"]: m for m in spec["containers"][0]["volumeMounts"]}
    assert set(mounts) == {"/host/sys", "/host/proc"}
    assert all(mount["readOnly"] for mount in mounts.values())
    assert spec["containers"][0]["env"][-1] == {"name": "LITHOWATT_ROOT", "value": "/host"}
    assert spec["containers"][0]["securityContext"] == {"privileged": True, "runAsUser": 0}


@pytest.mark.parametrize("mode", ["agent", "privileged", "fallback"])
def test_editing_again_changes_nothing(mode: Any) -> None:
    once = edit_template(JOB, mode)
    assert edit_template(once, mode) == once


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- 1",
        "kind: Job",
        "kind: Job\nspec: {template: {spec: {containers: []}}}",
        "kind: Pod\nspec: {containers: [3]}",
        "kind: Pod\nspec: {containers: [{env: 3}]}",
        "kind: Pod\nspec: {containers: [{env: [{name: DATA}, {name: ACTION}]}]}",
        "a: [",
    ],
)
def test_what_is_no_template_is_refused(text: str) -> None:
    with pytest.raises(TemplateProblem):
        edit_template(text)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="sidecar"):
        edit_template(JOB, "sidecar")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="run/x"):
        edit_template(JOB, ring_directory="run/x")


def test_the_command_prints_the_edited_template(tmp_path: Path) -> None:
    source = tmp_path / "job.yaml"
    source.write_text(JOB)
    command = [sys.executable, "-m", "lithowatt", "lithops", "k8s-template"]
    done = subprocess.run([*command, "--from", str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == edit_template(JOB)
    done = subprocess.run([*command, "--from", "/nonexistent"], capture_output=True, text=True)
    assert done.returncode == 2 and "/nonexistent" in done.stderr
    done = subprocess.run([*command, "nothing.py"], capture_output=True, text=True)
    assert done.returncode == 2 and "nothing.py" in done.stderr


def test_without_the_package_kubernetes_the_remedy_is_named(tmp_path: Path) -> None:
    pytest.importorskip("lithops")
    script = tmp_path / "job.py"
    script.write_text("print('ran')")
    code = """
import sys
sys.modules["kubernetes"] = None
from lithowatt import LithowattError
from lithowatt.cli import main
from lithowatt.lithops.kubernetes import use_template
try:
    use_template()
except LithowattError as error:
    print(error)
sys.exit(main(["lithops", "k8s-template", sys.argv[1]]))
"""
    command = [sys.executable, "-c", code, str(script)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "ran" not in done.stdout
    for said in (done.stdout, done.stderr):
        assert "pip install 'lithops[kubernetes]'" in said
        assert len(said.splitlines()) == 1, said


def test_lithops_has_the_extra_that_is_named() -> None:
    pytest.importorskip("lithops")
    from importlib.metadata import metadata

    assert "kubernetes" in (metadata("lithops").get_all("Provides-Extra") or [])


@pytest.mark.timeout(600)
@pytest.mark.parametrize("release", ["3.6.4", "3.8.0"])
def test_the_real_templates_are_edited_in_the_client(release: str, tmp_path: Path) -> None:
    from lithops_environments import plain

    python = str(plain(release, "kubernetes"))
    script = tmp_path / "job.py"
    script.write_text(
        "import sys\n"
        "import lithops.serverless.backends.k8s.config as config\n"
        "print(sys.argv)\n"
        "print('lithowatt-ring' in config.JOB_DEFAULT, 'lithowatt-ring' in config.POD)\n"
    )
    command = [python, "-m", "lithowatt", "lithops", "k8s-template"]
    clean = {**os.environ, "PYTHONPATH": str(Path(lithowatt.__file__).parent.parent)}
    done = subprocess.run(
        [*command, str(script), "--flag", "7"], capture_output=True, text=True, env=clean
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{[str(script), '--flag', '7']}", "True True"]
    printed = subprocess.check_output([*command, "--mode", "privileged"], text=True, env=clean)
    assert pod_of(printed)["containers"][0]["securityContext"]["privileged"] is True


# -- manifests --------------------------------------------------------------------------------


def manifests() -> list[dict[str, Any]]:
    text = (DEPLOY / "kubernetes" / "agent.yaml").read_text()
    return [document for document in yaml.safe_load_all(text) if document]


def test_the_agents_pod_asks_for_little() -> None:
    (daemon,) = [m for m in manifests() if m["kind"] == "DaemonSet"]
    spec = daemon["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    security = container["securityContext"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert not security.get("privileged")
    assert not spec.get("hostNetwork") and not spec.get("hostPID")
    assert spec["automountServiceAccountToken"] is False
    assert container["resources"]["limits"]["memory"]
    mounts = {m["mountPath"]: m for m in container["volumeMounts"]}
    writable = [path for path, mount in mounts.items() if not mount.get("readOnly")]
    assert writable == ["/run/lithowatt"]


def test_the_manifests_command_is_one_the_agent_takes() -> None:
    (daemon,) = [m for m in manifests() if m["kind"] == "DaemonSet"]
    (container,) = daemon["spec"]["template"]["spec"]["containers"]
    from lithowatt.cli import _parser

    parsed = _parser().parse_args([*container["command"], *container["args"]][1:])
    assert parsed.ring == "/run/lithowatt/ring"
    assert parsed.root == "/host"


def test_the_manifests_image_is_the_one_that_is_built() -> None:
    (daemon,) = [m for m in manifests() if m["kind"] == "DaemonSet"]
    (container,) = daemon["spec"]["template"]["spec"]["containers"]
    dockerfile = (DEPLOY / "agent" / "Dockerfile").read_text()
    guide = DEPLOY.parent / "docs" / "kubernetes.md"
    for text in (dockerfile, guide.read_text()):
        builds = re.findall(r"docker build .*-f (\S+) -t (\S+) dist", text)
        assert builds == [("deploy/agent/Dockerfile", container["image"])]
    assert container["image"] == f"lithowatt-agent:{lithowatt.__version__}"
    assert f"lithowatt=={lithowatt.__version__}" in dockerfile
    (entry,) = re.findall(r"^ENTRYPOINT (.*)$", dockerfile, re.M)
    # The manifest's command takes the entry point's place, so it must be the same.
    assert json.loads(entry) == container["command"]
    (user,) = re.findall(r"^USER (\d+)", dockerfile, re.M)
    assert int(user) == container["securityContext"]["runAsUser"]
    (mirror,) = re.findall(r"image: (\S+)", guide.read_text())
    assert mirror == container["image"]


def test_the_services_command_is_one_the_agent_takes() -> None:
    text = (DEPLOY / "systemd" / "lithowatt-agent.service").read_text()
    (line,) = [one for one in text.splitlines() if one.startswith("ExecStart=")]
    from lithowatt.cli import _parser

    words = line.removeprefix("ExecStart=").split()
    assert Path(words[0]).name == "lithowatt"
    assert _parser().parse_args(words[1:]).func.__module__ == "lithowatt._agent"


# -- the thesis' names ------------------------------------------------------------------------


def test_the_monitor_is_by_counters_where_there_are_any(tmp_path: Path) -> None:
    tree = StaticTree(tmp_path / "with")
    assert isinstance(setup_k8s_energy_monitoring(tree.root), HardwareEnergyMonitor)
    monitor = setup_k8s_energy_monitoring(tree.root)
    monitor.start_monitoring()
    for zone in tree.zones:
        tree.add(zone.key, 5_000_000)
    end = time.monotonic() + 0.1
    while time.monotonic() < end:
        pass
    stats = monitor.stop_monitoring()
    assert stats["worker_func_rapl_energy_pkg"] == pytest.approx(5.0, rel=0.01)
    joules = monitor.get_energy_consumption()
    # Two domains of 5 J each: all of it where nothing else ran in the window.
    assert joules is not None and 0 < joules <= 10


def test_the_monitor_is_by_the_model_where_there_are_none(tmp_path: Path) -> None:
    from agent_tools import blind_root

    monitor = setup_k8s_energy_monitoring(blind_root(tmp_path))
    assert isinstance(monitor, EstimationEnergyMonitor)
    unstarted = monitor.stop_monitoring()
    assert unstarted["worker_func_energy_consumption"] is None
    assert monitor.get_energy_consumption() is None
    monitor.start_monitoring()
    sum(range(1_000_000))
    stats = monitor.stop_monitoring()
    assert stats["worker_func_energy_quality"] == "modelled"
    assert set(stats) == set(stats_of_a_meter())


def stats_of_a_meter() -> dict[str, Any]:
    with EnergyMeter(methods=["tdp"]) as meter:
        pass
    return meter.stats()


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (({"cpu_usage": 2.0}, 10.0), ValueError),
        (({"cpu_usage": 2.0}, 10.0, 1.0), ValueError),
        (({"cpu_usage": -1.0}, 10.0, 1.0), ValueError),
        (({"cpu_usage": float("nan")}, 10.0, 1.0), ValueError),
        (({"cpu_usage": "1"}, 10.0, 1.0), TypeError),
        (({"cpu_usage": 1.0}, 1e30, 1.0), ValueError),
        ((3, 10.0, 1.0), TypeError),
    ],
)
def test_bad_statistics_are_named(given: tuple[Any, ...], error: type[Exception]) -> None:
    with pytest.raises(error):
        attribute_container_energy(*given)


def test_nobody_used_nothing() -> None:
    assert attribute_container_energy({"cpu_usage": 0.0}, 10.0, 0.0) == 0.0
