"""`lithowatt lithops k8s-template`: what Lithops' pods need so that their functions get joules.

Lithops has no key for volumes or environment variables of its pods. It loads
its templates, which are YAML texts in `lithops.serverless.backends.k8s.config`,
at each use, and fills the first environment variables by their place: so the
texts are edited in the client, and what is added is added at the end.
"""

from __future__ import annotations

import argparse
import ast
import runpy
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

from lithowatt import _core
from lithowatt._support.files import MOST_SETTINGS, read_plain
from lithowatt._support.install import pip_install
from lithowatt.errors import LithowattError

__all__ = ["Mode", "TemplateProblem", "edit_template", "use_template"]

Mode = Literal["agent", "mirror", "privileged", "fallback"]

#: The node's directory with the agent's ring.
RING_DIRECTORY = "/run/lithowatt"

#: The user that the mirror runs as.
MIRROR_USER = 1000

#: The Service of `deploy/agent/kubernetes/agent.yaml`.
AGENT_URL = "http://lithowatt-agent.lithowatt:9477"

#: The image that `deploy/agent/Dockerfile` makes.
AGENT_IMAGE = f"lithowatt-agent:{_core.__version__}"

#: Where the node's /sys and /proc are in a privileged pod: since Kubernetes 1.28
#: to 1.31 runtimes mask /sys/devices/virtual/powercap, at its own path only.
HOST_ROOT = "/host"

_MODULE = "lithops.serverless.backends.k8s.config"

#: Lithops' own environment variables, which it fills by their place.
_FILLED = ("ACTION", "DATA", "MASTER_POD_IP")

_PREFIX = "lithowatt"


class TemplateProblem(LithowattError, ValueError):
    """A template that is not as any Lithops we know has it, or no Lithops at all."""


def edit_template(
    text: str,
    mode: Mode = "agent",
    *,
    ring_directory: str = RING_DIRECTORY,
    agent_url: str | None = None,
    agent_image: str | None = None,
) -> str:
    """A Lithops pod template (a Job or a Pod, YAML) with what its functions need for joules.

    Args:
        text: The template.
        mode: `agent`: the node agent's ring is mounted, read-only; no privilege at all.
            `mirror`: nothing of the node is mounted, as the baseline and restricted Pod Security
            levels have it; a sidecar keeps a ring from what the node's agent serves (Kubernetes
            1.29; an older one refuses the pod). `privileged`: as in the prototype, a privileged
            container with the node's /sys and /proc, read-only, at another path. `fallback`:
            nothing of the node; the model with the pod's limits.
        ring_directory: The node's directory with the ring.
        agent_url: `mirror`: where the agent of the same node gives its ring; the Service of
            `deploy/agent/kubernetes/agent.yaml` by default.
        agent_image: `mirror`: the sidecar's image; that of `deploy/agent/Dockerfile` by default.

    Returns:
        The template, edited; editing it again in the same way changes nothing.

    Raises:
        TemplateProblem: For a text that is no such template, or was edited in another way.
        ValueError: For another mode, a directory that is not absolute, no address, no image, or one
            of these two in another mode.

    Example:
        >>> text = '''
        ... kind: Pod
        ... spec:
        ...   containers:
        ...     - {name: lithops, env: [{name: ACTION, value: ''}, {name: DATA, value: ''}]}
        ... '''
        >>> import json, yaml
        >>> pod = yaml.safe_load(edit_template(text))["spec"]
        >>> [variable["name"] for variable in pod["containers"][0]["env"]]
        ['ACTION', 'DATA', 'POD_NAME', 'NODE_NAME']
        >>> pod["volumes"][0]["hostPath"]["path"]
        '/run/lithowatt'
    """
    import yaml

    _check(mode, ring_directory, agent_url, agent_image)
    try:
        template = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise TemplateProblem(f"the template is no YAML: {error}") from None
    spec = _pod_spec(template)
    container = spec["containers"][0]
    environment = _entries(container, "env")
    _check_order(environment)
    _set_variable(environment, "POD_NAME", field="metadata.name")
    _set_variable(environment, "NODE_NAME", field="spec.nodeName")
    _check_first(spec, mode)
    if mode == "agent":
        # The directory, not the file: the next agent puts another file in its place. And made if
        # it is missing: a node without an agent must not keep a pod from starting.
        ring = {"hostPath": {"path": ring_directory, "type": "DirectoryOrCreate"}}
        _mount(spec, container, "ring", ring, RING_DIRECTORY)
    elif mode == "mirror":
        # In memory, for it is written ten times a second.
        ring = {"emptyDir": {"medium": "Memory", "sizeLimit": "4Mi"}}
        _mount(spec, container, "ring", ring, RING_DIRECTORY)
        # The ring is the mirror's, and the function may run as any user.
        _set_variable(environment, "LITHOWATT_RING_OWNER", value=str(MIRROR_USER))
        sidecar = _mirror(agent_url or AGENT_URL, agent_image or AGENT_IMAGE)
        _once(_entries(spec, "initContainers"), sidecar)
    elif mode == "privileged":
        for tree in ("sys", "proc"):
            host = {"hostPath": {"path": f"/{tree}", "type": "Directory"}}
            _mount(spec, container, tree, host, f"{HOST_ROOT}/{tree}")
        _set_variable(environment, "LITHOWATT_ROOT", value=HOST_ROOT)
        container["securityContext"] = _privileged()
    return str(yaml.safe_dump(template, sort_keys=False))


def _check(mode: str, ring_directory: str, url: str | None, image: str | None) -> None:
    if mode not in get_args(Mode):
        raise ValueError(f"mode must be one of {', '.join(get_args(Mode))}, not {mode!r}")
    if not PurePosixPath(ring_directory).is_absolute() or ".." in ring_directory.split("/"):
        raise ValueError(f"ring_directory must be an absolute path, not {ring_directory!r}")
    for name, value in (("agent_url", url), ("agent_image", image)):
        if value is not None and mode != "mirror":
            raise ValueError(f"{name} {value!r} is for mode mirror only, not for {mode}")
    if url is not None:
        from lithowatt.agent._mirror import is_address

        if not is_address(url):
            raise ValueError(f"agent_url must be like {AGENT_URL}, not {url!r}")
    if image is not None and (not image or image != "".join(image.split())):
        raise ValueError(f"agent_image must be an image's name like {AGENT_IMAGE}, not {image!r}")


def _mirror(url: str, image: str) -> dict[str, Any]:
    """The container beside the function: as the restricted Pod Security level asks for."""
    return {
        "name": f"{_PREFIX}-mirror",
        "image": image,
        # With this an init container goes on beside the others and ends with them, so that the job
        # is done when its function is.
        "restartPolicy": "Always",
        "command": ["lithowatt", "agent"],
        "args": [f"--ring={RING_DIRECTORY}/ring", f"--mirror={url}"],
        # Before 1.29 restartPolicy is dropped and the function would wait for ever for a mirror
        # that does not end. There no init container may have a probe, so the API server refuses
        # the job at once. The file is there from the mirror's start on, whatever its agent does.
        "livenessProbe": {
            "exec": {"command": ["test", "-e", f"{RING_DIRECTORY}/agent.lock"]},
            "initialDelaySeconds": 30,
            "periodSeconds": 60,
        },
        "resources": {
            "requests": {"cpu": "10m", "memory": "32Mi"},
            # A few ms of CPU a second; half a CPU so that it is there before the function is.
            "limits": {"cpu": "500m", "memory": "64Mi"},
        },
        "securityContext": {
            "runAsUser": MIRROR_USER,
            "runAsNonRoot": True,
            "privileged": False,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [{"name": f"{_PREFIX}-ring", "mountPath": RING_DIRECTORY}],
    }


def _privileged() -> dict[str, Any]:
    # allowPrivilegeEscalation: false beside it is rejected by the API server.
    return {"privileged": True, "runAsUser": 0}


def _pod_spec(template: Any) -> dict[str, Any]:
    try:
        spec = template["spec"]
        spec = spec["template"]["spec"] if template.get("kind") == "Job" else spec
        if isinstance(spec["containers"][0], dict):
            checked: dict[str, Any] = spec
            return checked
    except (TypeError, KeyError, IndexError, AttributeError):
        pass
    raise TemplateProblem("the template holds no container; expected a Job or a Pod of Lithops")


def _check_order(environment: list[Any]) -> None:
    names = [v.get("name") if isinstance(v, dict) else None for v in environment]
    filled = [name for name in names if name in _FILLED]
    if names[: len(filled)] != list(_FILLED[: len(filled)]):
        raise TemplateProblem(
            f"the template's variables begin with {names[:3]}; expected {list(_FILLED)}, which "
            "Lithops fills by their place"
        )


def _set_variable(
    environment: list[Any], name: str, *, value: str = "", field: str | None = None
) -> None:
    entry: dict[str, Any] = {"name": name}
    if field is None:
        entry["value"] = value
    else:
        entry["valueFrom"] = {"fieldRef": {"fieldPath": field}}
    for variable in environment:
        if variable.get("name") == name:
            # What the user set stands.
            return
    environment.append(entry)


#: What each mode adds, by name.
_ADDED = {"agent": {"ring"}, "mirror": {"ring", "mirror"}, "privileged": {"sys", "proc"}}


def _check_first(spec: dict[str, Any], mode: str) -> None:
    """Refuses what was edited for another mode."""
    for kind in ("volumes", "initContainers"):
        for entry in _entries(spec, kind) if spec.get(kind) is not None else ():
            name = str(entry.get("name"))
            ours, _, which = name.partition("-")
            if ours == _PREFIX and which not in _ADDED.get(mode, set()):
                raise _edited_before(name)


def _edited_before(name: str) -> TemplateProblem:
    return TemplateProblem(
        f"the template has a {name} that this mode does not write: it was edited in another way; "
        "expected Lithops' own template"
    )


def _entries(holder: dict[str, Any], key: str) -> list[Any]:
    """What is listed there; an empty list that is put there, where there is none."""
    entries = holder.get(key)
    if entries is None:
        entries = holder[key] = []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise TemplateProblem(
            f"the template's {key} is no list of objects; expected Lithops' own template"
        )
    return entries


def _once(entries: list[Any], entry: dict[str, Any]) -> None:
    for other in entries:
        if other.get("name") == entry["name"]:
            if other != entry:
                raise _edited_before(entry["name"])
            return
    entries.append(entry)


def _mount(
    spec: dict[str, Any], container: dict[str, Any], name: str, source: dict[str, Any], inside: str
) -> None:
    name = f"{_PREFIX}-{name}"
    _once(_entries(spec, "volumes"), {"name": name, **source})
    mount = {"name": name, "mountPath": inside, "readOnly": True}
    _once(_entries(container, "volumeMounts"), mount)


#: Lithops' own templates and default security context, and what stands in their place.
_originals: dict[str, tuple[Any, Any]] = {}


def use_template(
    mode: Mode = "agent",
    *,
    ring_directory: str = RING_DIRECTORY,
    agent_url: str | None = None,
    agent_image: str | None = None,
) -> list[str]:
    """Edits the templates of the Lithops in this process, before its first executor is made.

    Called again, it begins from Lithops' own templates, so that another mode may be chosen.

    Args:
        mode: As for :func:`edit_template`.
        ring_directory: As for :func:`edit_template`.
        agent_url: As for :func:`edit_template`.
        agent_image: As for :func:`edit_template`.

    Returns:
        The names of the templates that were edited.

    Raises:
        TemplateProblem: Where there is no Lithops, or none whose templates we know, or not the
            package `kubernetes` that its backend needs; then nothing is edited.
        ValueError: As for :func:`edit_template`.

    Example:
        Before `FunctionExecutor(backend="k8s")`:

        >>> from lithowatt.lithops.kubernetes import use_template
        >>> use_template("agent")  # doctest: +SKIP
        ['JOB_DEFAULT', 'POD']
    """
    config = _config_module()
    edited: dict[str, tuple[str, str]] = {}
    for name in ("JOB_DEFAULT", "POD"):
        text = _original(name, getattr(config, name, None))
        if not isinstance(text, str):
            raise TemplateProblem(f"this Lithops has no template {name}; expected 3.1 to 3.8")
        edited[name] = (
            text,
            edit_template(
                text,
                mode,
                ring_directory=ring_directory,
                agent_url=agent_url,
                agent_image=agent_image,
            ),
        )
    _originals.update(edited)
    for name, (_, text) in edited.items():
        setattr(config, name, text)
    defaults = getattr(config, "DEFAULT_CONTAINER_SECURITY_CONTEXT", None)
    if isinstance(defaults, dict):
        # From 3.7 on Lithops puts these in the place of the template's.
        own = _original("defaults", dict(defaults))
        ours = _privileged() if mode == "privileged" else own
        _originals["defaults"] = own, dict(ours)
        defaults.clear()
        defaults.update(ours)
    return list(edited)


def _original(name: str, now: Any) -> Any:
    """What stood there before it was edited, if nobody else has changed it since."""
    before, after = _originals.get(name, (None, None))
    return before if after is not None and now == after else now


def _config_module() -> Any:
    try:
        if find_spec("lithops") is not None:
            return import_module(_MODULE)
    except ImportError as error:
        if (error.name or "").partition(".")[0] == "kubernetes":
            raise TemplateProblem(
                "Lithops' Kubernetes backend needs the package kubernetes, which is not installed "
                f"({error}): {pip_install('lithops[kubernetes]')}"
            ) from None
        raise TemplateProblem(f"this Lithops has no Kubernetes backend: {error}") from None
    raise TemplateProblem("Lithops is not installed here; expected Lithops 3.1 to 3.8")


def add_cli(commands: Any) -> None:
    """Adds `k8s-template` to the commands below `lithowatt lithops`."""
    parser = commands.add_parser(
        "k8s-template",
        help="give Lithops' pods what their functions need for joules",
        description="Prints Lithops' pod template as edited for joules, or runs a Python script "
        "with it in force. Lithops itself has no key for volumes and variables of its pods.",
    )
    add = parser.add_argument
    add(
        "--mode",
        choices=get_args(Mode),
        default="agent",
        help="agent: the node agent's ring, no privilege; mirror: the same through a sidecar, "
        "where pods may mount nothing of their node; privileged: the node's counters; fallback: "
        "the model (default: %(default)s)",
    )
    add("--ring-directory", default=RING_DIRECTORY, help="on the node (default: %(default)s)")
    add("--agent-url", metavar="URL", help=f"of the mirror's agent (default: {AGENT_URL})")
    add("--agent-image", metavar="IMAGE", help=f"of the mirror (default: {AGENT_IMAGE})")
    add("--pod", action="store_true", help="print the template of a single pod, not of a job")
    add("--from", dest="source", metavar="FILE", help="edit this template, not Lithops' own")
    add("script", nargs="?", help="run this Python script with the template in force")
    add("arguments", nargs=argparse.REMAINDER, help="its arguments")
    parser.set_defaults(func=_main)


def _main(arguments: argparse.Namespace) -> int:
    options = {
        "ring_directory": arguments.ring_directory,
        "agent_url": arguments.agent_url,
        "agent_image": arguments.agent_image,
    }
    try:
        if arguments.script is None:
            print(edit_template(_source(arguments), arguments.mode, **options), end="")
            return 0
        if not Path(arguments.script).is_file():
            raise TemplateProblem(f"there is no script {arguments.script}")
        use_template(arguments.mode, **options)
    except LithowattError:
        raise
    except ValueError as error:
        raise TemplateProblem(str(error)) from None
    sys.argv = [arguments.script, *arguments.arguments]
    sys.path[0] = str(Path(arguments.script).resolve().parent)
    runpy.run_path(arguments.script, run_name="__main__")
    return 0


def _source(arguments: argparse.Namespace) -> str:
    if arguments.source is not None:
        try:
            return read_plain(arguments.source, MOST_SETTINGS).decode()
        except (OSError, UnicodeDecodeError) as error:
            raise TemplateProblem(f"cannot read {arguments.source}: {error}") from None
    return _written("POD" if arguments.pod else "JOB_DEFAULT")


def _written(name: str) -> str:
    """A template as the installed Lithops has it, by its source: to print it takes no client of
    Kubernetes."""
    found = find_spec("lithops")
    if found is None or not found.submodule_search_locations:
        raise TemplateProblem("Lithops is not installed here; expected Lithops 3.1 to 3.8")
    path = Path(found.submodule_search_locations[0], "serverless/backends/k8s/config.py")
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        raise TemplateProblem(f"this Lithops has no Kubernetes backend: {error}") from None
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            if name in names and isinstance(node.value.value, str):
                return node.value.value
    raise TemplateProblem(f"this Lithops has no template {name}; expected 3.1 to 3.8")
