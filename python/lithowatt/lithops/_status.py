"""Whether Lithops calls are metered in this interpreter, and if not, why not."""

from __future__ import annotations

import argparse
import ast
import importlib.util
import json
import os
import platform
import re
import shlex
import shutil
import site
import subprocess
import sys
import sysconfig
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from lithowatt._support.hook import hook_here
from lithowatt._support.install import install_lithowatt
from lithowatt._support.switches import enabled as metering_enabled
from lithowatt.errors import UnavailableError
from lithowatt.lithops._interpreter import find, is_this
from lithowatt.lithops._managers import foreign_manager

if TYPE_CHECKING:
    # argparse's own name for what add_subparsers() returns; not subscriptable at run time.
    SubParsers = argparse._SubParsersAction[argparse.ArgumentParser]

PTH_NAME = "lithowatt-hook.pth"
START_NAME = "lithowatt-hook.start"

#: The first Python that runs `.start` files, and the first that no longer runs the `import` lines
#: of `.pth` files (PEP 829).
_STARTS_SINCE, _NO_PTH_SINCE = (3, 15), (3, 18)
_HANDLER = "lithops.worker.handler"

_PATCHED = "patched at its source"
_IN_PART = "patched in part: "
_OWN = "meters itself"
_FOREIGN = "meters itself, not by lithowatt: "


@dataclass(frozen=True)
class HookStatus:
    """What `status` found out about one interpreter."""

    #: Calls run by workers of this interpreter will carry their energy.
    active: bool
    #: Why not, and what to do about it; None when active.
    reason: str | None
    #: The interpreter asked, `sys.executable`. Workers of another one have their own answer.
    executable: str
    #: Its version, such as "3.11.7".
    python: str
    #: Value of ENERGY_MONITORING_ENABLED here, None if unset.
    environment: str | None
    #: False if that value switches metering off.
    enabled: bool
    #: Path of the `.pth` in this interpreter's site directories, None if there is none.
    pth: str | None
    #: Path of the `.start`, which Python 3.15 and later run instead; None if there is none.
    start: str | None
    #: The finder that one of the two installs is in this process's `sys.meta_path`.
    finder: bool
    #: Version of the Lithops found, None if there is none.
    lithops: str | None
    #: Directory of the Lithops found.
    lithops_path: str | None
    #: "known", "unknown: …", "patched at its source", "patched in part: …", "meters itself: …",
    #: "meters itself, not by lithowatt: …", or None without Lithops.
    layout: str | None
    #: The handler is loaded in this very process and wrapped.
    handler_patched: bool
    #: Another interpreter that Lithops' localhost backend would start its workers with, as this
    #: one is called and by the PATH of here; None where it would be this one.
    workers: str | None = None


def status() -> HookStatus:
    """Finds out whether Lithops calls run by this interpreter are metered.

    Reads Lithops' files and imports none of them.

    Example:
        >>> from lithowatt.lithops import status
        >>> status().executable == __import__("sys").executable
        True
    """
    environment = os.environ.get("ENERGY_MONITORING_ENABLED")
    enabled = metering_enabled()
    pth, start = _find_in_site(PTH_NAME), _find_in_site(START_NAME)
    hook = hook_here()
    finder = hook is not None and bool(hook.installed())
    handler = sys.modules.get(_HANDLER)
    handler_patched = handler is not None and hasattr(handler, "__lithowatt_hook__")
    package = _find_lithops()
    layout = None if package is None else _layout(package)

    if package is None:
        reason = (
            "Lithops is not installed for this interpreter; of the one that runs your workers: "
            "lithowatt lithops status --python PATH"
        )
    elif not enabled:
        reason = f"switched off by ENERGY_MONITORING_ENABLED={environment}"
    elif layout is not None and layout.startswith(_FOREIGN):
        reason = (
            "worker_func_energy_consumption in its stats is that meter's, and the hook leaves such "
            "a handler alone: use the Lithops of PyPI, or have the handler import EnergyManager "
            "from lithowatt (lithowatt.flexecutor meters FlexExecutor's stages all the same)"
        )
    elif layout is not None and layout.startswith((_PATCHED, _OWN)):
        reason = None
    elif layout is not None and layout.startswith(_IN_PART):
        reason = f"{layout}: run python -m lithops_patch apply --path {package}"
    elif layout != "known":
        reason = f"the layout of this Lithops is {layout}"
    elif not finder and not handler_patched:
        reason = _why_not_run(pth, start)
    else:
        reason = None

    return HookStatus(
        active=reason is None,
        reason=reason,
        executable=sys.executable,
        python=platform.python_version(),
        environment=environment,
        enabled=enabled,
        pth=None if pth is None else str(pth),
        start=None if start is None else str(start),
        finder=finder,
        lithops=None if package is None else _version(package),
        lithops_path=None if package is None else str(package),
        layout=layout,
        handler_patched=handler_patched,
        workers=_other_workers(),
    )


def _why_not_run(pth: Path | None, start: Path | None) -> str:
    """Why nothing of ours ran when this interpreter started."""
    if pth is None and start is None:
        return (
            f"{PTH_NAME} is in no site directory of this interpreter: "
            f"{install_lithowatt()}; "
            "or call lithowatt.lithops.install_hook() in the worker"
        )
    if start is None and sys.version_info >= _NO_PTH_SINCE:
        return f"this Python runs {START_NAME} and no longer {pth}: {install_lithowatt()}"
    if pth is None and sys.version_info < _STARTS_SINCE:
        return f"this Python runs {PTH_NAME} and does not know {start}: {install_lithowatt()}"
    file = start if start is not None and sys.version_info >= _STARTS_SINCE else pth
    return f"{file} is there, but was not executed (python -S, or installed since)"


def _other_workers() -> str | None:
    path = shutil.which(Path(sys.executable or "python3").name)
    return None if path is None or is_this(path) else path


def status_of(python: str) -> HookStatus:
    """Has another interpreter find out the same.

    Args:
        python: Its path or its name, or the folder of a virtual environment.

    Raises:
        UnavailableError: It is not there, does not start, or has another lithowatt.
    """
    path = find(python)
    if path is None:
        raise UnavailableError(f"there is no program {python!r}; expected is a Python interpreter")
    command = [path, "-m", "lithowatt.lithops", "status", "--json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603 - no shell
    except OSError as error:
        raise UnavailableError(f"{path}: {error.strerror}") from None
    try:
        said = json.loads(done.stdout)
        # Another version of lithowatt may say more or less.
        known = {field.name: said.get(field.name) for field in fields(HookStatus)}
        return HookStatus(**known)
    except (ValueError, AttributeError):
        pass
    lines = done.stderr.strip().splitlines()
    last = lines[-1] if lines else f"exit code {done.returncode}"
    if "No module named" in last and "lithowatt" in last:
        how = f"make wheel in its sources, then {shlex.quote(path)} -m pip install dist/*.whl"
        last = f"lithowatt is not installed for it: {how}"
    raise UnavailableError(f"{path} meters no Lithops calls: {last}")


def _find_in_site(name: str) -> Path | None:
    directories = [sysconfig.get_path("platlib"), sysconfig.get_path("purelib")]
    directories += site.getsitepackages()
    if site.ENABLE_USER_SITE:
        directories.append(site.getusersitepackages())
    # Site directories added by other means (a Lambda layer, addsitedir) are on the path.
    directories += sys.path
    for directory in directories:
        candidate = Path(directory or ".") / name
        if candidate.is_file():
            return candidate
    return None


def _find_lithops() -> Path | None:
    try:
        spec = importlib.util.find_spec("lithops")
    except (ImportError, ValueError):
        return None
    locations = None if spec is None else spec.submodule_search_locations
    return Path(next(iter(locations))) if locations else None


def _version(package: Path) -> str:
    text = _read(package / "version.py") or ""
    match = re.search(r"__version__\s*=\s*['\"]([^'\"]+)", text)
    return match.group(1) if match else "unknown"


def _layout(package: Path) -> str:
    """What the hook would make of this package's handler, from its source alone."""
    text = _read(package / "worker" / "handler.py")
    if text is None:
        return "unknown: it has no worker/handler.py"
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        return f"unknown: worker/handler.py does not parse ({error.msg})"
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    at_source = _at_source(package, tree, names)
    if at_source is not None:
        return at_source
    missing = {"create_call_status", "run_task", "JobRunner"} - names
    if missing:
        return f"unknown: worker/handler.py has no {', '.join(sorted(missing))}"
    return "known"


def _at_source(package: Path, tree: ast.Module, names: set[str]) -> str | None:
    """In what way the handler meters by itself, in the words of `lithops_patch check`."""
    try:
        from lithops_patch import TARGETS, State, check, in_words, own_meter
    except ImportError:
        # It comes with the wheel; somebody copied the meter alone, so the ways are one.
        return _PATCHED if names & {"__lithowatt_patch__", "EnergyManager"} else None
    if "__lithowatt_patch__" in names:
        verdicts = check(TARGETS["lithops"], package)
        odd = [str(verdict) for verdict in verdicts if verdict.state is not State.PATCHED]
        return f"{_IN_PART}{'; '.join(odd)}" if odd else _PATCHED
    line = own_meter(tree)
    if line is None:
        return None
    whose = foreign_manager(tree, package)
    if whose is not None:
        return f"{_FOREIGN}it has the EnergyManager of {whose} (line {line})"
    return in_words(line)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
