"""Kubernetes without a cluster: the pod template, the manifests, the thesis' names."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest

import lithowatt
from lithowatt import EnergyMeter, LithowattError
from lithowatt.lithops.kubernetes import (
    EstimationEnergyMonitor,
    HardwareEnergyMonitor,
    Mode,
    TemplateProblem,
    attribute_container_energy,
    edit_template,
    setup_k8s_energy_monitoring,
    use_template,
)
from rig import StaticTree
from tests.source.test_hwmon import grace
from tests.support import TOP

pytestmark = pytest.mark.slow

yaml = pytest.importorskip("yaml")

DEPLOY = TOP / "deploy"

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

POD = """
kind: Pod
spec:
  containers:
    - name: "lithops-worker"
      image: "<INPUT>"
"""


def pod_of(text: str) -> dict[str, Any]:
    job = yaml.safe_load(text)
    spec: dict[str, Any] = job["spec"]["template"]["spec"]
    return spec


# -- the template -----------------------------------------------------------------------------


def test_what_lithops_fills_by_place_stays_in_place() -> None:
    for mode in get_args(Mode):
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


def refused(spec: dict[str, Any], restricted: bool) -> list[str]:
    """What the Pod Security Standards, level baseline or restricted, have against a pod."""
    found = [f"{name}: true" for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    kinds = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "projected", "secret"}
    for volume in spec.get("volumes", []):
        for kind in set(volume) - {"name"}:
            if kind == "hostPath" or (restricted and kind not in kinds | {"persistentVolumeClaim"}):
                found.append(f"a volume of kind {kind}")
    whole = spec.get("securityContext", {})
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        name, security = container["name"], container.get("securityContext", {})
        capabilities = security.get("capabilities", {})
        seccomp = security.get("seccompProfile", whole.get("seccompProfile", {})).get("type")
        bad = {
            "privileged": security.get("privileged"),
            "capabilities": capabilities.get("add"),
            "hostPort": any(port.get("hostPort") for port in container.get("ports", [])),
            "seccomp": seccomp == "Unconfined",
        }
        if restricted:
            bad |= {
                "escalation": security.get("allowPrivilegeEscalation") is not False,
                "root": not security.get("runAsNonRoot", whole.get("runAsNonRoot"))
                or security.get("runAsUser", whole.get("runAsUser")) == 0,
                "drops": "ALL" not in capabilities.get("drop", []),
                "no seccomp": seccomp not in ("RuntimeDefault", "Localhost"),
            }
        found += [f"{name}: {what}" for what, is_bad in bad.items() if is_bad]
    return found


def test_a_mirrors_pod_has_nothing_of_its_node_and_no_right() -> None:
    spec = pod_of(edit_template(JOB, "mirror"))
    assert refused(spec, restricted=False) == []
    (sidecar,) = spec["initContainers"]
    assert sidecar["restartPolicy"] == "Always"
    alone = {"containers": [sidecar], "volumes": spec["volumes"]}
    assert refused(alone, restricted=True) == []
    security = sidecar["securityContext"]
    assert security["readOnlyRootFilesystem"] is True
    assert security["runAsUser"] == 1000
    assert set(sidecar["resources"]["limits"]) == {"cpu", "memory"}
    (volume,) = spec["volumes"]
    assert volume["emptyDir"]["medium"] == "Memory"
    (mount,) = spec["containers"][0]["volumeMounts"]
    assert (mount["mountPath"], mount["readOnly"]) == ("/run/lithowatt", True)
    (written,) = sidecar["volumeMounts"]
    assert written == {"name": volume["name"], "mountPath": "/run/lithowatt"}
    # And the other ways are what these levels are against.
    for mode in ("agent", "privileged"):
        assert "a volume of kind hostPath" in refused(pod_of(edit_template(JOB, mode)), False)


def test_with_what_the_guide_says_a_mirrors_pod_is_restricted() -> None:
    guide = (DEPLOY.parent / "docs" / "how-to" / "kubernetes.md").read_text()
    blocks = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", guide, re.S)]
    (context,) = [b["k8s"]["container_security_context"] for b in blocks if "k8s" in b]
    spec = pod_of(edit_template(JOB, "mirror"))
    assert refused(spec, restricted=True) != []
    spec["containers"][0]["securityContext"] = context
    assert refused(spec, restricted=True) == []


def test_a_mirrors_command_is_one_the_agent_takes() -> None:
    from lithowatt.cli import _parser

    url = "http://10.0.0.7:9999"
    text = edit_template(JOB, "mirror", agent_url=url, agent_image="registry.example/agent:7")
    (sidecar,) = pod_of(text)["initContainers"]
    assert sidecar["image"] == "registry.example/agent:7"
    parsed = _parser().parse_args([*sidecar["command"], *sidecar["args"]][1:])
    assert (parsed.mirror, parsed.ring) == (url, "/run/lithowatt/ring")
    # The probe's file is what a mirror makes at its start.
    from lithowatt.agent._mirror import Mirror

    (_, _, file) = sidecar["livenessProbe"]["exec"]["command"]
    assert Path(file).parent == Path(parsed.ring).parent
    with pytest.raises(LithowattError, match="no address"):
        Mirror("ftp://x", parsed.ring, 0.1)


def test_a_mirror_asks_the_manifests_service() -> None:
    (sidecar,) = pod_of(edit_template(JOB, "mirror"))["initContainers"]
    (daemon,) = [m for m in manifests() if m["kind"] == "DaemonSet"]
    (service,) = [m for m in manifests() if m["kind"] == "Service"]
    (agent,) = daemon["spec"]["template"]["spec"]["containers"]
    assert sidecar["image"] == agent["image"]
    assert sidecar["command"] == agent["command"]
    (port,) = service["spec"]["ports"]
    meta = service["metadata"]
    assert f"--mirror=http://{meta['name']}.{meta['namespace']}:{port['port']}" in sidecar["args"]
    # Another node's joules are none of this one.
    assert service["spec"]["internalTrafficPolicy"] == "Local"
    assert (
        service["spec"]["selector"].items()
        <= daemon["spec"]["template"]["metadata"]["labels"].items()
    )
    (exposed,) = [p for p in agent["ports"] if p["name"] == port["targetPort"]]
    assert exposed["containerPort"] == port["port"]
    assert f"--metrics=0.0.0.0:{port['port']}" in agent["args"]


def test_the_agent_serves_its_ring_when_it_is_asked_to() -> None:
    from lithowatt.cli import _parser

    text = (DEPLOY / "agent" / "kubernetes" / "agent.yaml").read_text()
    assert text.count("# - --serve-ring") == 1
    changed = yaml.safe_load_all(text.replace("# - --serve-ring", "- --serve-ring"))
    (daemon,) = [m for m in changed if m and m["kind"] == "DaemonSet"]
    (container,) = daemon["spec"]["template"]["spec"]["containers"]
    parsed = _parser().parse_args([*container["command"], *container["args"]][1:])
    assert parsed.serve_ring and parsed.metrics != "off"
    # The guide's patch does the same.
    guide = (DEPLOY.parent / "docs" / "how-to" / "kubernetes.md").read_text()
    (written,) = re.findall(r"kubectl .* --type json -p '(.*)'", guide)
    (patch,) = json.loads(written)
    (unchanged,) = [m for m in manifests() if m["kind"] == "DaemonSet"]
    place = unchanged
    *way, last = patch["path"].strip("/").split("/")
    for step in way:
        place = place[int(step)] if step.isdecimal() else place[step]
    assert (patch["op"], last) == ("add", "-")
    place.append(patch["value"])
    assert unchanged == daemon


@pytest.mark.parametrize(
    ("mode", "options", "word"),
    [
        ("mirror", {"agent_url": "lithowatt-agent:9477"}, "lithowatt-agent:9477"),
        ("mirror", {"agent_url": "ftp://agent:9477"}, "ftp"),
        ("mirror", {"agent_url": "http://"}, "http://"),
        ("mirror", {"agent_url": "http://a:99999"}, "99999"),
        ("mirror", {"agent_url": "http://a b"}, "a b"),
        ("mirror", {"agent_url": "http://a/?x=1"}, "x=1"),
        ("mirror", {"agent_image": ""}, "image"),
        ("mirror", {"agent_image": "a b"}, "a b"),
        ("agent", {"agent_url": "http://a:1"}, "mirror only"),
        ("fallback", {"agent_image": "a:1"}, "mirror only"),
    ],
)
def test_a_mirrors_options_are_looked_at(mode: Any, options: dict[str, str], word: str) -> None:
    with pytest.raises(ValueError, match=re.escape(word)):
        edit_template(JOB, mode, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", get_args(Mode))
def test_editing_again_changes_nothing(mode: Any) -> None:
    once = edit_template(JOB, mode)
    assert edit_template(once, mode) == once


def test_what_was_edited_in_another_way_is_refused() -> None:
    mirrored = edit_template(JOB, "mirror")
    for mode in ("agent", "privileged", "fallback"):
        with pytest.raises(TemplateProblem, match="another way"):
            edit_template(mirrored, mode)
    with pytest.raises(TemplateProblem, match="lithowatt-mirror"):
        edit_template(mirrored, "mirror", agent_url="http://other:9477")
    with pytest.raises(TemplateProblem, match="lithowatt-ring"):
        edit_template(edit_template(JOB), ring_directory="/elsewhere")


def test_another_mode_may_be_chosen_in_the_same_process(monkeypatch: pytest.MonkeyPatch) -> None:
    from lithowatt.lithops import _k8s_template

    config = ModuleType("config")
    security = {"capabilities": {"drop": ["ALL"]}}
    config.JOB_DEFAULT, config.POD = JOB, POD  # type: ignore[attr-defined]
    config.DEFAULT_CONTAINER_SECURITY_CONTEXT = dict(security)  # type: ignore[attr-defined]
    monkeypatch.setattr(_k8s_template, "_config_module", lambda: config)
    monkeypatch.setattr(_k8s_template, "_originals", {})
    for mode in (*get_args(Mode), *get_args(Mode)):
        assert use_template(mode) == ["JOB_DEFAULT", "POD"]
        assert edit_template(JOB, mode) == config.JOB_DEFAULT
        assert edit_template(POD, mode) == config.POD
        defaults = config.DEFAULT_CONTAINER_SECURITY_CONTEXT
        expected = {"privileged": True, "runAsUser": 0} if mode == "privileged" else security
        assert defaults == expected
    # What another one changed meanwhile is edited as it is.
    config.JOB_DEFAULT = JOB.replace("<INPUT>", "mine")  # type: ignore[attr-defined]
    use_template("mirror", agent_image="a:1")
    assert pod_of(config.JOB_DEFAULT)["containers"][0]["image"] == "mine"
    assert yaml.safe_load(config.POD)["spec"]["initContainers"][0]["image"] == "a:1"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- 1",
        "kind: Job",
        "kind: Job\nspec: {template: {spec: {containers: []}}}",
        "kind: Pod\nspec: {containers: [3]}",
        "kind: Pod\nspec: {containers: [{env: 3}]}",
        "kind: Pod\nspec: {containers: [{env: [3]}]}",
        "kind: Pod\nspec: {containers: [{env: []}], volumes: 3}",
        "kind: Pod\nspec: {containers: [{env: [], volumeMounts: [3]}]}",
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
    mirror = [*command, "--from", str(source), "--mode", "mirror", "--agent-url"]
    done = subprocess.run([*mirror, "https://a.b:1"], capture_output=True, text=True)
    assert done.stdout == edit_template(JOB, "mirror", agent_url="https://a.b:1"), done.stderr
    done = subprocess.run([*mirror, "a.b:1"], capture_output=True, text=True)
    assert done.returncode == 2 and "'a.b:1'" in done.stderr
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


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("release", ["3.6.4", "3.8.0"])
def test_the_real_templates_are_edited_in_the_client(release: str, tmp_path: Path) -> None:
    from tests.support.lithops_environments import plain

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
    text = (DEPLOY / "agent" / "kubernetes" / "agent.yaml").read_text()
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
    guide = DEPLOY.parent / "docs" / "how-to" / "kubernetes.md"
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


def test_the_services_command_is_one_the_agent_takes() -> None:
    text = (DEPLOY / "agent" / "systemd" / "lithowatt-agent.service").read_text()
    (line,) = [one for one in text.splitlines() if one.startswith("ExecStart=")]
    from lithowatt.cli import _parser

    words = line.removeprefix("ExecStart=").split()
    assert Path(words[0]).name == "lithowatt"
    assert _parser().parse_args(words[1:]).func.__module__ == "lithowatt.agent._run"


# -- the thesis' names ------------------------------------------------------------------------


def test_the_monitor_is_by_counters_where_there_are_any(tmp_path: Path) -> None:
    tree = StaticTree(tmp_path / "with")
    # A counter that stands still is none.
    with tree.moving():
        monitor = setup_k8s_energy_monitoring(tree.root)
    assert isinstance(monitor, HardwareEnergyMonitor)
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


def test_nobody_waits_for_a_counter_to_move(tmp_path: Path) -> None:
    with StaticTree(tmp_path / "still") as tree:
        began = time.monotonic()
        monitor = setup_k8s_energy_monitoring(tree.root)
        assert time.monotonic() - began < 0.5
        assert isinstance(monitor, HardwareEnergyMonitor)
        monitor.start_monitoring()
        time.sleep(0.2)
        stats = monitor.stop_monitoring()
    assert stats["worker_func_energy_quality"] == "modelled"
    assert "did not move" in stats["worker_func_rapl_source"]


def test_sensors_of_hwmon_are_counters_too(tmp_path: Path) -> None:
    grace(tmp_path)
    monitor = setup_k8s_energy_monitoring(tmp_path)
    assert isinstance(monitor, HardwareEnergyMonitor)
    monitor.start_monitoring()
    time.sleep(0.3)
    stats = monitor.stop_monitoring()
    assert stats["worker_func_hwmon_energy_package"] == pytest.approx(200.0 * 0.3, rel=0.2)
    assert stats["worker_func_energy_method"].startswith("hwmon+")
    assert stats["worker_func_gpu_source"].startswith("unavailable: ")


def test_the_monitor_is_by_the_model_where_there_are_none(tmp_path: Path) -> None:
    from tests.support.agent_tools import blind_root

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
