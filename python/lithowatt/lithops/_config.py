"""`lithowatt lithops check-config`: keys of a configuration that Lithops never looks at.

Lithops ignores a key that it does not know, silently. Which ones it knows is
read from the source of the Lithops that is installed, so that the answer is
that release's; nothing of it is imported.
"""

from __future__ import annotations

import argparse
import ast
import copy
import functools
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from lithowatt._support.files import MOST_SETTINGS, read_plain, write_atomically
from lithowatt._support.install import pip_install
from lithowatt.errors import LithowattError

__all__ = ["ConfigProblem", "Finding", "check_config", "keys_read", "read_yaml", "render_yaml"]

#: Where Lithops keeps its backends, below its package.
_COMPUTE = ("serverless/backends", "standalone/backends")
_STORAGE = "storage/backends"

#: Sections that several backends share, by what their names begin with.
_SHARED = ("aws", "gcp", "azure", "ibm", "aliyun", "oracle", "alibaba")

#: Names that people write, and Lithops' own for the same.
_SECTIONS = {"kubernetes": "k8s", "lambda": "aws_lambda", "s3": "aws_s3", "local": "localhost"}
_KEYS = {
    "memory": "runtime_memory",
    "timeout": "runtime_timeout",
    "docker_image": "runtime",
    "image": "runtime",
    "cpu": "runtime_cpu",
    "role": "execution_role",
    "bucket": "storage_bucket",
    "environment_variables": "env_vars",
    "environment": "env_vars",
    "env": "env_vars",
}

_SSO = ("sso_start_url", "sso_region", "sso_session", "permission_set", "sso_role_name", "profile")
_TEMPLATE = "Lithops has no key for it: edit its pod template with lithowatt lithops k8s-template"


class ConfigProblem(LithowattError, ValueError):
    """A configuration that cannot be read, or no Lithops to hold it against."""


class Finding(NamedTuple):
    """One thing that is not as its writer meant it.

    Attributes:
        where: `section.key`, or a section.
        what: What Lithops makes of it.
        advice: What to write instead.
    """

    where: str
    what: str
    advice: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}; {self.advice}"


# -- what Lithops reads -----------------------------------------------------------------------


def _package() -> Path:
    spec = importlib.util.find_spec("lithops")
    locations = None if spec is None else spec.submodule_search_locations
    if not locations:
        raise ConfigProblem(
            f"Lithops is not installed for {sys.executable}: which keys it reads is not known"
        )
    return Path(next(iter(locations)))


def compute_backends() -> list[str]:
    """Names of the backends on which the Lithops that is installed runs functions.

    Raises:
        ConfigProblem: Lithops is not installed.

    Example:
        >>> {"localhost", "k8s", "aws_lambda"} <= set(compute_backends())
        True
    """
    return _backends(_package())


@functools.cache
def keys_read(section: str, package: Path | None = None) -> frozenset[str] | None:
    """The keys of a section that Lithops' source looks at; `None` for a section of no backend.

    Args:
        section: Such as `lithops`, `aws_lambda`, `k8s`, `minio`.
        package: Lithops' package directory; by default that of the one installed here.

    Raises:
        ConfigProblem: Lithops is not installed.

    Example:
        >>> sorted(keys_read("minio") & {"endpoint", "endpoints"})
        ['endpoint']
    """
    root = package or _package()
    if section == "lithops":
        return _core_keys(root)
    folders = [root / parent / section for parent in (*_COMPUTE, _STORAGE)]
    folders += [root / section] if section in ("localhost", "standalone") else []
    found = [folder for folder in folders if folder.is_dir()]
    if section in _SHARED:
        # What is in it is copied into the sections of that provider's backends.
        owners = [
            folder
            for parent in (*_COMPUTE, _STORAGE)
            for folder in (root / parent).glob(f"{section}_*")
            if folder.is_dir()
        ]
        found += owners
    if not found:
        return None
    files = [file for folder in found for file in sorted(folder.rglob("*.py"))]
    keys = _common_keys(root)
    for file in files:
        keys |= _keys_in(file, whole=file.name == "config.py")
    return frozenset(keys)


@functools.cache
def _common_keys(root: Path) -> frozenset[str]:
    """Keys that the core reads of whichever backend there is."""
    keys = {"worker_processes", "runtime", "storage_bucket", "storage_region"}
    for file in _core_files(root):
        keys |= _keys_in(file, of=("[backend]", "compute_config", "backend_config"))
    return frozenset(keys)


@functools.cache
def _core_keys(root: Path) -> frozenset[str]:
    keys: set[str] = set()
    for file in _core_files(root):
        keys |= _keys_in(file, of=("['lithops']", "lithops_cfg", "lithops_config", "c.LITHOPS"))
        if file.name == "constants.py":
            keys |= _keys_in(file, whole=True)
    return frozenset(keys)


def _core_files(root: Path) -> list[Path]:
    return [
        file
        for file in sorted(root.rglob("*.py"))
        if "backends" not in file.parts and "libs" not in file.parts and "tests" not in file.parts
    ]


@functools.cache
def _parsed(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_text(encoding="utf-8", errors="replace"))
    except (OSError, SyntaxError):
        return ast.Module(body=[], type_ignores=[])


def _keys_in(file: Path, of: tuple[str, ...] = ("conf", "cfg"), whole: bool = False) -> set[str]:
    """Strings that a file uses as keys of a mapping whose name has one of `of` in it.

    With `whole` those of its tables, too: Lithops lists defaults and what is mandatory there.
    """
    keys: set[str] = set()
    for node in ast.walk(_parsed(file)):
        if isinstance(node, ast.Subscript) and _names(node.value, of):
            keys |= _strings(node.slice)
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ("get", "pop", "setdefault")
            and node.args
            and _names(node.func.value, of)
        ):
            keys |= _strings(node.args[0])
        elif isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.In, ast.NotIn)):
            if _names(node.comparators[0], of):
                keys |= _strings(node.left)
        elif isinstance(node, (ast.For, ast.comprehension)):
            keys |= _strings(node.iter)
        elif (
            whole
            and isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and node.targets[0].id.isupper()
        ):
            keys |= _strings(node.value)
    return keys


def _names(node: ast.expr, of: tuple[str, ...]) -> bool:
    text = ast.unparse(node)
    return any(part in text for part in of)


def _strings(node: ast.AST) -> set[str]:
    """A constant string, or those of a tuple, a list, a set or a dict's keys."""
    if isinstance(node, ast.Constant):
        return {node.value} if isinstance(node.value, str) else set()
    if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
        return set().union(*map(_strings, node.elts)) if node.elts else set()
    if isinstance(node, ast.Dict):
        return set().union(*(_strings(key) for key in node.keys if key is not None), set())
    return set()


def _folders(*parents: Path) -> set[str]:
    return {
        folder.name
        for parent in parents
        if parent.is_dir()
        for folder in parent.iterdir()
        if (folder / "__init__.py").is_file()
    }


def _backends(root: Path) -> list[str]:
    """Names that `lithops.backend` may have."""
    return sorted(_folders(*(root / parent for parent in _COMPUTE)) | {"localhost"})


def _storages(root: Path) -> list[str]:
    """Names that `lithops.storage` may have."""
    return sorted(_folders(root / _STORAGE))


def _mandatory(root: Path, section: str) -> list[str]:
    """What the section's `REQ_PARAMS` name."""
    for parent in (*_COMPUTE, _STORAGE):
        for node in _parsed(root / parent / section / "config.py").body:
            if (
                isinstance(node, ast.Assign)
                and isinstance(node.targets[0], ast.Name)
                and node.targets[0].id == "REQ_PARAMS"
            ):
                return sorted(_strings(node.value))
    return []


def _overwritten(root: Path, section: str) -> dict[str, Any]:
    """Keys that the section's `load_config` sets to a constant, whatever is written."""
    folders = [root / parent / section for parent in (*_COMPUTE, _STORAGE)] + [root / section]
    found: dict[str, Any] = {}
    for folder in folders:
        for function in _parsed(folder / "config.py").body:
            if not isinstance(function, ast.FunctionDef) or function.name != "load_config":
                continue
            for node in function.body:
                if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Constant):
                    continue
                target = node.targets[0]
                if isinstance(target, ast.Subscript) and f"'{section}'" in ast.unparse(target):
                    for key in _strings(target.slice):
                        found[key] = node.value.value
    return found


# -- the check --------------------------------------------------------------------------------


def check_config(
    config: dict[str, Any], package: Path | None = None
) -> tuple[list[Finding], dict[str, Any]]:
    """What Lithops would ignore or get wrong, and the configuration put right.

    The second has Lithops' own keys where it has any for what was meant, and lacks
    what has none. What only its owner knows, such as a role, is left to be filled in.

    Args:
        config: A Lithops configuration, as from its YAML file.
        package: Lithops' package directory; by default that of the one installed here.

    Raises:
        ConfigProblem: It is no mapping of sections, or Lithops is not installed.

    Example:
        >>> findings, right = check_config({
        ...     "lithops": {"backend": "aws_lambda", "storage": "aws_s3"},
        ...     "aws_lambda": {"execution_role": "arn:…", "memory": 512, "region": "eu-west-1"},
        ... })
        >>> [finding.where for finding in findings], right["aws_lambda"]["runtime_memory"]
        (['aws_lambda.memory'], 512)
    """
    if not isinstance(config, dict):
        raise ConfigProblem(f"a configuration is a mapping of sections, not {config!r:.60}")
    root = package or _package()
    check = _Check(copy.deepcopy(config), root)
    check.run()
    return check.findings, check.config


class _Check:
    def __init__(self, config: dict[str, Any], root: Path) -> None:
        self.config = config
        self.root = root
        self.findings: list[Finding] = []
        general = config.get("lithops")
        general = general if isinstance(general, dict) else {}
        self.backend = str(general.get("backend") or general.get("mode") or "localhost")
        self.storage = str(general.get("storage") or "")

    def say(self, where: str, what: str, advice: str) -> None:
        self.findings.append(Finding(where, what, advice))

    def run(self) -> None:
        self.backend = self._chosen("backend", self.backend, _backends(self.root))
        self.storage = self._chosen("storage", self.storage, _storages(self.root))
        # What goes into a section that is there comes after that one, whose keys win.
        for section in sorted(self.config, key=lambda name: self._meant(name) in self.config):
            self._section(section)
        for section in (self.backend, self.storage):
            self._missing(section)

    def _chosen(self, key: str, name: str, there: list[str]) -> str:
        """`lithops.backend` or `.storage`, corrected where it is clear what is meant."""
        general = self.config.get("lithops")
        if not isinstance(general, dict) or not general.get(key) or name in there:
            return name
        right = _SECTIONS.get(name)
        what = f"Lithops has no {key} {name!r:.80}"
        if right not in there:
            self.say(f"lithops.{key}", what, f"it has {', '.join(there)}")
            return name
        self.say(f"lithops.{key}", what, f"{key}: {right}")
        general[key] = right
        return right

    def _meant(self, section: str) -> str | None:
        """Lithops' name of a section that is none of it; `None` where there is no such."""
        right = _SECTIONS.get(section)
        if right is None or keys_read(section, self.root) is not None:
            return None
        return None if keys_read(right, self.root) is None else right

    def _section(self, section: str) -> None:
        values = self.config[section]
        known = keys_read(section, self.root)
        if known is not None:
            self._keys(section, values, known)
        elif right := self._meant(section):
            there = self.config.get(right)
            advice = f"{right}:" if right not in self.config else f"{right}:, whose own keys win"
            self.say(section, "is no section of Lithops, all of it is ignored", advice)
            self._keys(right, values, keys_read(right, self.root) or frozenset())
            if right not in self.config:
                # In the place where it was.
                self.config = {right if k == section else k: v for k, v in self.config.items()}
                return
            del self.config[section]
            if isinstance(values, dict) and (there is None or isinstance(there, dict)):
                self.config[right] = {**values, **(there or {})}
        elif not self._mentioned(section):
            self.say(section, "is no section of Lithops, all of it is ignored", "leave it out")
            del self.config[section]

    def _keys(self, section: str, values: Any, known: frozenset[str]) -> None:
        if not isinstance(values, dict):
            return
        overwritten = _overwritten(self.root, section)
        for key in list(values):
            if key in overwritten and overwritten[key] != values[key]:
                self._overwrites(section, values, key, overwritten[key])
            elif key not in known:
                self._unknown(section, values, key, known)
        if section == "aws_lambda":
            self._lambda(values)

    def _overwrites(self, section: str, values: dict[str, Any], key: str, by: Any) -> None:
        where, what, value = f"{section}.{key}", f"Lithops sets it to {by}", values.pop(key)
        if key != "max_workers":
            self.say(where, what, "leave it out")
        elif "worker_processes" in values:
            self.say(where, what, "leave it out: worker_processes is what counts")
        else:
            self.say(where, what, f"worker_processes: {json.dumps(value)}")
            values["worker_processes"] = value

    def _mentioned(self, section: str) -> bool:
        """Whether Lithops' source has the name at all: of monitoring, executors and the like."""
        return any(
            section in _keys_in(file, of=("conf", "cfg"))
            for file in sorted(self.root.rglob("*.py"))
            if "tests" not in file.parts
        )

    def _unknown(
        self, section: str, values: dict[str, Any], key: str, known: frozenset[str]
    ) -> None:
        where, ignored = f"{section}.{key}", "ignored by Lithops"
        right = _KEYS.get(key)
        value = values.pop(key)
        if key == "privileged_containers" and "container_security_context" in known:
            advice = "container_security_context: {privileged: true, runAsUser: 0}"
            self.say(where, ignored, advice)
            if value:
                # Not beside allowPrivilegeEscalation: false, which Kubernetes rejects. As user 0:
                # images of Lithops 3.7 and later run as 1000, who may not read the counters.
                context = {"privileged": True, "runAsUser": 0}
                values.setdefault("container_security_context", context)
        elif section == "k8s" and key in (
            *("privileged_containers", "host_network", "volume_mounts", "volumes"),
            *("service_account", "env_vars", "environment_variables"),
        ):
            self.say(where, ignored, _TEMPLATE)
        elif key in _SSO:
            self.say(where, ignored, "it belongs into a profile of ~/.aws/config (AWS_PROFILE)")
        elif right == "env_vars" and right in known:
            self.say(where, ignored, "env_vars: [{name: …, value: …}]")
            have = values.get("env_vars")
            # Ours behind what is there, which Lithops already heeds.
            values["env_vars"] = _env_vars(have or []) if have else []
            names = {one["name"] for one in values["env_vars"]}
            values["env_vars"] += [one for one in _env_vars(value) if one["name"] not in names]
        elif right in known and right is not None:
            self.say(where, ignored, f"{right}: {json.dumps(value)}")
            values.setdefault(right, value)
        else:
            self.say(where, ignored, "leave it out")

    def _lambda(self, values: dict[str, Any]) -> None:
        variables = values.get("env_vars")
        if variables is not None and _env_vars(variables) != variables:
            self.say(
                "aws_lambda.env_vars",
                "Lithops takes a list of names and values, AWS takes text",
                "env_vars: [{name: …, value: '…'}]",
            )
            values["env_vars"] = _env_vars(variables)
        runtime = values.get("runtime")
        if isinstance(runtime, str) and runtime.replace(".", "").removeprefix("python").isdigit():
            self.say(
                "aws_lambda.runtime",
                f"Lithops takes {runtime!r} for a container image",
                "leave it out: the default runtime has the Python of the client",
            )
            del values["runtime"]

    def _missing(self, section: str) -> None:
        values = self.config.get(section)
        given = set(values) if isinstance(values, dict) else set()
        shared = self.config.get(section.split("_")[0])
        given |= set(shared) if isinstance(shared, dict) else set()
        for key in _mandatory(self.root, section):
            if key not in given:
                self.say(f"{section}.{key}", "is mandatory and not there", f"{key}: …")


def _env_vars(value: Any) -> list[dict[str, str]]:
    """Variables as Lithops' `aws_lambda.env_vars` has them."""
    pairs: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, list):
        for one in value:
            if isinstance(one, dict) and {"name", "value"} <= set(one):
                pairs.append((one["name"], one["value"]))
            elif isinstance(one, dict):
                pairs += one.items()
    return [{"name": str(name), "value": _text(content)} for name, content in pairs]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


# -- files and the command --------------------------------------------------------------------


def _yaml() -> Any:
    try:
        import yaml
    except ImportError:
        raise ConfigProblem(
            f"PyYAML, which comes with Lithops, is not installed here: {pip_install('pyyaml')}"
        ) from None
    return yaml


def read_yaml(path: Path) -> dict[str, Any]:
    """A configuration from its file.

    Raises:
        ConfigProblem: It is no YAML, or no mapping.
        OSError: It cannot be read.
    """
    yaml = _yaml()
    try:
        content = yaml.safe_load(read_plain(path, MOST_SETTINGS).decode())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigProblem(f"{path} is no YAML: {error}") from None
    if not isinstance(content, dict):
        raise ConfigProblem(f"{path} is no mapping of sections")
    return content


def render_yaml(config: dict[str, Any], findings: list[Finding]) -> str:
    """The configuration as YAML, with what was changed in front."""
    lines = [f"# {finding}" for finding in findings]
    text: str = _yaml().safe_dump(
        config, sort_keys=False, default_flow_style=False, allow_unicode=True
    )
    return "\n".join([*lines, text])


def add_cli(commands: Any) -> None:
    """Adds `check-config` to the commands below `lithowatt lithops`."""
    check = commands.add_parser(
        "check-config",
        help="name the keys of a configuration that Lithops ignores",
        description="Names the keys that the installed Lithops never looks at, and writes the "
        "configuration with the right ones. Exit code 0 if there is nothing to say, 1 if there is.",
    )
    check.add_argument("file", metavar="FILE", help="a Lithops configuration (YAML)")
    check.add_argument("--write", metavar="FILE", help="write it with the right keys")
    check.add_argument("--json", action="store_true", help="machine-readable")
    check.set_defaults(func=_main)


def _main(arguments: argparse.Namespace) -> int:
    findings, right = check_config(read_yaml(Path(arguments.file)))
    if arguments.write:
        write_atomically(arguments.write, render_yaml(right, findings))
    if arguments.json:
        print(json.dumps([finding._asdict() for finding in findings], indent=2))
    elif findings:
        for finding in findings:
            print(finding)
    else:
        print(f"{arguments.file}: Lithops reads every key of it")
    return 1 if findings else 0
