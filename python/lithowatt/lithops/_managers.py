"""Whose `EnergyManager` it is that a Lithops handler meters with.

The Lithops that came with FlexExecutor's energy fork has a meter of this name, too. Its
`worker_func_energy_consumption` is no energy: percent times CPU seconds.
"""

from __future__ import annotations

import ast
from pathlib import Path

NAME = "EnergyManager"

#: Modules that pass the name on to each other; more than any package has.
_MOST_STEPS = 5


def foreign_manager(tree: ast.Module, package: Path) -> str | None:
    """The module that a handler's `EnergyManager` is from, None where that is lithowatt.

    Args:
        tree: The handler, `worker/handler.py`.
        package: The directory of the Lithops that it is in.

    Example:
        >>> source = "from lithops.worker.energymanager import EnergyManager"
        >>> foreign_manager(ast.parse(source), Path("/nowhere/lithops"))
        'lithops.worker.energymanager'
        >>> foreign_manager(ast.parse("from lithowatt import EnergyManager"), Path("lithops"))
    """
    module = f"{package.name}.worker.handler"
    for _ in range(_MOST_STEPS):
        source = _source(tree, module)
        if source is None:
            return None
        if source.split(".")[0] == "lithowatt":
            return None
        if source == module:
            return source
        module = source
        found = _parsed(package, module)
        if found is None:
            return module
        tree = found
    return module


def _source(tree: ast.Module, module: str) -> str | None:
    """The module that this one has the name from: itself where it makes it, None where unsaid."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and any(
            NAME in (alias.name, alias.asname) for alias in node.names
        ):
            above = module.split(".")[: -node.level] if node.level else []
            return ".".join([*above, *filter(None, [node.module])])
        if isinstance(node, ast.ClassDef) and node.name == NAME:
            return module
        if isinstance(node, ast.Attribute) and node.attr == NAME:
            return _imported(tree, ast.unparse(node.value))
    return None


def _imported(tree: ast.Module, name: str) -> str:
    """What a name stands for that a module was imported by."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.asname == name:
                    return alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if name in (alias.asname, alias.name):
                    return ".".join(filter(None, [node.module, alias.name]))
    return name


def _parsed(package: Path, module: str) -> ast.Module | None:
    """A module of the package, None where it is another's or does not parse."""
    first, *rest = module.split(".")
    if first != package.name:
        return None
    try:
        text = package.joinpath(*rest).with_suffix(".py").read_text(encoding="utf-8")
        return ast.parse(text)
    except (OSError, ValueError, SyntaxError):
        return None
