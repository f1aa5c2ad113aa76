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

from .._errors import LithowattError

__all__ = ["Mode", "TemplateProblem", "edit_template", "use_template"]

Mode = Literal["agent", "privileged", "fallback"]

#: The node's directory with the agent's ring.
RING_DIRECTORY = "/run/lithowatt"

#: Where the node's /sys and /proc are in a privileged pod: since Kubernetes 1.28
#: to 1.31 runtimes mask /sys/devices/virtual/powercap, at its own path only.
HOST_ROOT = "/host"

_MODULE = "lithops.serverless.backends.k8s.config"

#: Lithops' own environment variables, which it fills by their place.
_FILLED = ("ACTION", "DATA", "MASTER_POD_IP")

_PREFIX = "lithowatt"


class TemplateProblem(LithowattError, ValueError):
    """A template that is not as any Lithops we know has it, or no Lithops at all."""


def edit_template(text: str, mode: Mode = "agent", *, ring_directory: str = RING_DIRECTORY) -> str:
    """A Lithops pod template (a Job or a Pod, YAML) with what its functions need for joules.

    Args:
        text: The template.
        mode: `agent`: the node agent's ring is mounted, read-only; no privilege at all.
            `privileged`: as the thesis had it, a privileged container with the node's /sys and
            /proc, read-only, at another path. `fallback`: nothing of the node; the model with the
            pod's limits.
        ring_directory: The node's directory with the ring.

    Returns:
        The template, edited; editing it again in the same mode changes nothing.

    Raises:
        TemplateProblem: For a text that is no such template.
        ValueError: For another mode, or a directory that is not absolute.

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

    if mode not in get_args(Mode):
        raise ValueError(f"mode must be one of {', '.join(get_args(Mode))}, not {mode!r}")
    if not PurePosixPath(ring_directory).is_absolute() or ".." in ring_directory.split("/"):
        raise ValueError(f"ring_directory must be an absolute path, not {ring_directory!r}")
    try:
        template = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise TemplateProblem(f"the template is no YAML: {error}") from None
    spec = _pod_spec(template)
    container = spec["containers"][0]
    environment = container.setdefault("env", [])
    if not isinstance(environment, list):
        raise TemplateProblem("the template's env is no list; accepted is Lithops' own template")
    _check_order(environment)
    _set_variable(environment, "POD_NAME", field="metadata.name")
    _set_variable(environment, "NODE_NAME", field="spec.nodeName")
    if mode == "agent":
        # The directory, not the file: the next agent puts another file in its place. And made if
        # it is missing: a node without an agent must not keep a pod from starting.
        _mount(spec, container, "ring", ring_directory, RING_DIRECTORY, "DirectoryOrCreate")
    elif mode == "privileged":
        _mount(spec, container, "sys", "/sys", f"{HOST_ROOT}/sys", "Directory")
        _mount(spec, container, "proc", "/proc", f"{HOST_ROOT}/proc", "Directory")
        _set_variable(environment, "LITHOWATT_ROOT", value=HOST_ROOT)
        container["securityContext"] = _privileged()
    return str(yaml.safe_dump(template, sort_keys=False))


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
    raise TemplateProblem("the template holds no container; accepted is a Job or a Pod of Lithops")


def _check_order(environment: list[Any]) -> None:
    names = [v.get("name") if isinstance(v, dict) else None for v in environment]
    filled = [name for name in names if name in _FILLED]
    if names[: len(filled)] != list(_FILLED[: len(filled)]):
        raise TemplateProblem(
            f"the template's variables begin with {names[:3]}; accepted is {list(_FILLED)}, which "
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


def _mount(
    spec: dict[str, Any], container: dict[str, Any], name: str, path: str, inside: str, kind: str
) -> None:
    name = f"{_PREFIX}-{name}"
    volumes = spec.setdefault("volumes", [])
    mounts = container.setdefault("volumeMounts", [])
    if any(volume.get("name") == name for volume in volumes):
        return
    volumes.append({"name": name, "hostPath": {"path": path, "type": kind}})
    mounts.append({"name": name, "mountPath": inside, "readOnly": True})


def use_template(mode: Mode = "agent", *, ring_directory: str = RING_DIRECTORY) -> list[str]:
    """Edits the templates of the Lithops in this process, before its first executor is made.

    Args:
        mode: As for :func:`edit_template`.
        ring_directory: As for :func:`edit_template`.

    Returns:
        The names of the templates that were edited.

    Raises:
        TemplateProblem: Where there is no Lithops, or none whose templates we know, or not the
            package `kubernetes` that its backend needs; then nothing is edited.

    Example:
        Before `FunctionExecutor(backend="k8s")`:

        >>> from lithowatt.lithops.kubernetes import use_template
        >>> use_template("agent")  # doctest: +SKIP
        ['JOB_DEFAULT', 'POD']
    """
    config = _config_module()
    edited = {}
    for name in ("JOB_DEFAULT", "POD"):
        text = getattr(config, name, None)
        if not isinstance(text, str):
            raise TemplateProblem(f"this Lithops has no template {name}; accepted is 3.1 to 3.8")
        edited[name] = edit_template(text, mode, ring_directory=ring_directory)
    for name, text in edited.items():
        setattr(config, name, text)
    defaults = getattr(config, "DEFAULT_CONTAINER_SECURITY_CONTEXT", None)
    if mode == "privileged" and isinstance(defaults, dict):
        # From 3.7 on Lithops puts these in the place of the template's.
        defaults.clear()
        defaults.update(_privileged())
    return list(edited)


def _config_module() -> Any:
    try:
        if find_spec("lithops") is not None:
            return import_module(_MODULE)
    except ImportError as error:
        if (error.name or "").partition(".")[0] == "kubernetes":
            raise TemplateProblem(
                "Lithops' Kubernetes backend needs the package kubernetes, which is not installed "
                f"for {sys.executable} ({error}): pip install 'lithops[kubernetes]'"
            ) from None
        raise TemplateProblem(f"this Lithops has no Kubernetes backend: {error}") from None
    raise TemplateProblem("Lithops is not installed here; accepted is Lithops 3.1 to 3.8")


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
        help="agent: the node agent's ring, no privilege; privileged: the node's counters; "
        "fallback: the model (default: %(default)s)",
    )
    add("--ring-directory", default=RING_DIRECTORY, help="on the node (default: %(default)s)")
    add("--pod", action="store_true", help="print the template of a single pod, not of a job")
    add("--from", dest="source", metavar="FILE", help="edit this template, not Lithops' own")
    add("script", nargs="?", help="run this Python script with the template in force")
    add("arguments", nargs=argparse.REMAINDER, help="its arguments")
    parser.set_defaults(func=_main)


def _main(arguments: argparse.Namespace) -> int:
    directory = arguments.ring_directory
    try:
        if arguments.script is None:
            text = _source(arguments)
            print(edit_template(text, arguments.mode, ring_directory=directory), end="")
            return 0
        if not Path(arguments.script).is_file():
            raise TemplateProblem(f"there is no script {arguments.script}")
        use_template(arguments.mode, ring_directory=directory)
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
            return Path(arguments.source).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise TemplateProblem(f"cannot read {arguments.source}: {error}") from None
    return _written("POD" if arguments.pod else "JOB_DEFAULT")


def _written(name: str) -> str:
    """A template as the installed Lithops has it, by its source: to print it takes no client of
    Kubernetes."""
    found = find_spec("lithops")
    if found is None or not found.submodule_search_locations:
        raise TemplateProblem("Lithops is not installed here; accepted is Lithops 3.1 to 3.8")
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
    raise TemplateProblem(f"this Lithops has no template {name}; accepted is 3.1 to 3.8")
