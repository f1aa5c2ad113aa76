"""Which backend a name means, and with which configuration of Lithops."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lithowatt._support.arguments import closest
from lithowatt._support.text import shortened
from lithowatt.errors import MalformedValueError, UnreadableFileError

#: What a name may be: it names a file.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")

#: Lithops' own without any configuration.
_LOCALHOST = {"lithops": {"backend": "localhost", "storage": "localhost"}}

#: Sections that are none of a backend's.
_NO_BACKEND = ("lithops",)


class Backend(NamedTuple):
    """A backend that takes part.

    Attributes:
        name: What results call it.
        kind: Lithops' name of it, e.g. `aws_lambda`.
        config: Lithops' configuration.
        source: Where that is from, in words.
    """

    name: str
    kind: str
    config: Mapping[str, Any]
    source: str


def parse_config(text: str) -> tuple[str | None, str]:
    """`NAME=FILE` or `FILE` of `--config`.

    Example:
        >>> parse_config("v1=localhost.yaml"), parse_config("lithops.yaml")
        (('v1', 'localhost.yaml'), (None, 'lithops.yaml'))
    """
    name, equals, file = text.partition("=")
    if equals and _NAME.fullmatch(name) and not Path(text).exists():
        return name, file
    return None, text


def configured(
    names: Sequence[str], configs: Iterable[str] = ()
) -> tuple[list[Backend], dict[str, str]]:
    """The backends of these names, and those that have no configuration with the reason.

    A name with a file of its own is the backend that this file names. Another name is one of
    Lithops' backends, with the first of the other files that has a section of this name; then with
    the configuration that Lithops finds by itself. `localhost` needs none.

    Args:
        names: In the order in which they are shown; empty: those that have a file of their own.
        configs: As `parse_config` takes them.

    Raises:
        MalformedValueError: A name is none or is there twice, or a file is no configuration.
        UnreadableFileError: A file cannot be read.
    """
    own: dict[str, str] = {}
    shared: list[str] = []
    for text in configs:
        name, file = parse_config(text)
        if name is None:
            shared.append(file)
        elif name in own:
            raise MalformedValueError(f"backend {name} has two configurations: {own[name]}, {file}")
        else:
            own[name] = file
    wanted = list(names) or list(own)
    if not wanted:
        raise MalformedValueError("no backend is named: --backends localhost,k8s,aws_lambda")
    for name in wanted:
        if not _NAME.fullmatch(name):
            raise MalformedValueError(
                f"backend {shortened(name)!r} is not a name of letters, digits, '.', '_' and '-'"
            )
        if wanted.count(name) > 1:
            raise MalformedValueError(f"backend {name} is named twice")
    unused = [name for name in own if name not in wanted]
    if unused:
        raise MalformedValueError(f"--config names {', '.join(unused)}, and --backends does not")
    files = {file: _read(file) for file in (*own.values(), *shared)}
    found, missing = [], {}
    for name in wanted:
        one = (
            _of_file(name, own[name], files[own[name]])
            if name in own
            else _by_kind(name, {file: files[file] for file in shared})
        )
        if isinstance(one, Backend):
            found.append(one)
        else:
            missing[name] = one
    return found, missing


def given(configs: Mapping[str, Any]) -> tuple[list[Backend], dict[str, str]]:
    """The same of configurations in memory: name to mapping, to a file, or to `None`.

    Raises:
        MalformedValueError, UnreadableFileError: As `configured`.
    """
    for name, config in configs.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise MalformedValueError(f"backend {name!r:.80} is not a name")
        if config is not None and not isinstance(config, (str, os.PathLike, Mapping)):
            raise MalformedValueError(
                f"the configuration of {name} is {type(config).__name__}: expected a mapping, a "
                "path or None"
            )
    found, missing = [], {}
    for name, config in configs.items():
        if config is None:
            one = _by_kind(name, {})
        elif isinstance(config, Mapping):
            one = _of_file(name, "given", config)
        else:
            one = _of_file(name, os.fspath(config), _read(os.fspath(config)))
        if isinstance(one, Backend):
            found.append(one)
        else:
            missing[name] = one
    return found, missing


def _read(file: str) -> dict[str, Any]:
    from lithowatt.lithops._config import ConfigProblem, read_yaml

    try:
        return read_yaml(Path(file).expanduser())
    except ConfigProblem as error:
        raise MalformedValueError(str(error)) from error
    except OSError as error:
        raise UnreadableFileError(f"{file}: {error.strerror or error}") from error


def _of_file(name: str, file: str, config: Mapping[str, Any]) -> Backend | str:
    """The backend that a configuration of its own names, else that of its name."""
    section = config.get("lithops")
    kind = section.get("backend") if isinstance(section, Mapping) else None
    if kind is None:
        others = [one for one in config if _is_backend(one)]
        kind = name if name in others else others[0] if len(others) == 1 else None
    if not isinstance(kind, str):
        return f"{file} does not say which backend: it has no backend in its section lithops"
    if not _is_backend(kind):
        return f"{file} names backend {shortened(kind)!r}, which Lithops does not have"
    return _made(name, kind, config, file)


def _by_kind(name: str, files: Mapping[str, Mapping[str, Any]]) -> Backend | str:
    """One of Lithops' backends by its name."""
    for file, config in files.items():
        section = config.get("lithops")
        named = isinstance(section, Mapping) and section.get("backend") == name
        if named or name in config:
            return _made(name, name, config, file)
    if not _is_backend(name):
        return (
            f"Lithops has no backend of this name ({closest(name, _kinds())}), and no --config "
            f"{name}=FILE says which one it is"
        )
    try:
        from lithops.config import load_config

        # Not the one that Lithops makes where there is none.
        found = load_config(log=False)
    except Exception as error:
        return f"Lithops' own configuration cannot be read: {shortened(str(error), 200)}"
    section = found.get("lithops") or {}
    if name in found or (isinstance(section, Mapping) and section.get("backend") == name):
        return _made(name, name, found, "Lithops' own configuration")
    if name == "localhost":
        return _made(name, name, _LOCALHOST, "Lithops' defaults")
    looked = ", ".join(files) or "Lithops' own configuration"
    return f"its configuration is missing: {looked} has no section {name}"


def _made(name: str, kind: str, config: Mapping[str, Any], source: str) -> Backend:
    own = copy.deepcopy(dict(config))
    section = dict(own.get("lithops") or {})
    if section.get("backend") not in (None, kind):
        # Written for another one: its mode is that one's.
        section.pop("mode", None)
    section["backend"] = kind
    if kind == "localhost":
        section.setdefault("storage", "localhost")
    own["lithops"] = section
    return Backend(name, kind, own, source)


def _is_backend(name: str) -> bool:
    return name in _kinds()


def _kinds() -> list[str]:
    """Lithops' backends that run functions."""
    from lithowatt.lithops._config import ConfigProblem, compute_backends

    try:
        return compute_backends()
    except ConfigProblem as error:
        raise UnreadableFileError(str(error)) from error
