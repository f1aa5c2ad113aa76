"""Which interpreter runs the workers of Lithops' localhost backend."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

from lithowatt._support.files import MOST_SETTINGS, read_plain

#: Names that Lithops takes for an interpreter; any other name without a leading `/` is an image's
#: (`lithops/localhost/config.py` of 3.8.0).
_INTERPRETER = re.compile(r"python[^:/\\]*", re.IGNORECASE)


class Workers(NamedTuple):
    """What localhost workers are started with.

    Attributes:
        runtime: As Lithops is given it: a name, a path, or a container image.
        source: Where that comes from.
        path: The interpreter, None where `PATH` has none of that name, or for an image.
        image: It is a container image.
    """

    runtime: str
    source: str
    path: str | None
    image: bool


def localhost_workers(runtime: str | None = None, config_file: str | None = None) -> Workers:
    """What Lithops would start its localhost workers with.

    Args:
        runtime: Given by the user; the configuration is not looked at then.
        config_file: Lithops' configuration; by default the one that Lithops would read.

    Raises:
        ConfigProblem: The configuration is no YAML.
        OSError: It cannot be read.
    """
    source = "--runtime"
    if runtime is None:
        runtime, source = _configured(config_file)
    path = shutil.which(runtime)
    interpreter = runtime.startswith("/") or _INTERPRETER.fullmatch(runtime) is not None
    return Workers(runtime, source, path, image=path is None and not interpreter)


def _configured(config_file: str | None) -> tuple[str, str]:
    config, source = _configuration(config_file)
    section = config.get("localhost")
    runtime = section.get("runtime") if isinstance(section, dict) else None
    if isinstance(runtime, str):
        return runtime, source
    # The name alone: which interpreter of that name is started is up to PATH.
    return Path(
        sys.executable or "python3"
    ).name, "Lithops' default: the client's interpreter by its name alone"


def _configuration(config_file: str | None) -> tuple[dict[str, Any], str]:
    """The configuration that Lithops would read, and where it is; empty where there is none."""
    from lithowatt.lithops._config import read_yaml

    if config_file is None and "LITHOPS_CONFIG" in os.environ:
        try:
            found = json.loads(os.environ["LITHOPS_CONFIG"])
        except ValueError:
            found = None
        return (found if isinstance(found, dict) else {}), "LITHOPS_CONFIG"
    places = [config_file] if config_file else [os.environ.get("LITHOPS_CONFIG_FILE")]
    if not places[0]:
        places = [".lithops_config", "~/.lithops/config", "/etc/lithops/config"]
    for place in places:
        path = Path(place or "").expanduser()
        # One that the user named must be there.
        if config_file is not None or path.is_file():
            text = read_plain(path, MOST_SETTINGS).decode()
            return (read_yaml(path) if text.strip() else {}), str(path)
    return {}, ""


def is_this(path: str) -> bool:
    """Whether it is this process's interpreter, or another name of it in the same folder.

    Links are not followed: the interpreters of two virtual environments are links to one file.
    """
    return _folder(path) == _folder(sys.executable)


def _folder(path: str) -> str:
    return str(Path(path).absolute().parent.resolve())


def find(name: str) -> str | None:
    """The interpreter of this path or name, or that of a virtual environment's folder."""
    inside = Path(name) / "bin" / "python"
    return shutil.which(str(inside) if inside.exists() else name)
