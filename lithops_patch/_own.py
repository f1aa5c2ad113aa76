"""Whether a handler meters by itself: the snippet that makes an `EnergyManager` in `run_task`."""

from __future__ import annotations

import ast

#: The class of the snippet: lithowatt's, or one of the same name that came before it.
MANAGER = "EnergyManager"


def own_meter(tree: ast.Module) -> int | None:
    """The line on which a handler first has an `EnergyManager`, `None` where it has none.

    As the hook sees it: a name of the module, or what `run_task` names.

    Example:
        >>> own_meter(ast.parse("import os\\nfrom lithowatt import EnergyManager"))
        2
        >>> own_meter(ast.parse("import os"))
    """
    lines = []
    for statement in tree.body:
        own = isinstance(statement, ast.FunctionDef) and statement.name == "run_task"
        if own or not isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            lines += [line for node in ast.walk(statement) if (line := _names_it(node))]
        elif statement.name == MANAGER:
            lines.append(statement.lineno)
    return min(lines, default=None)


def _names_it(node: ast.AST) -> int | None:
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        named = any(MANAGER in (alias.name, alias.asname) for alias in node.names)
    elif isinstance(node, ast.Name):
        named = node.id == MANAGER
    elif isinstance(node, ast.Attribute):
        named = node.attr == MANAGER
    else:
        return None
    return node.lineno if named else None


def in_words(line: int) -> str:
    """What is said of such a handler, by `check` and by `lithowatt lithops status`."""
    return f"meters itself: it has an {MANAGER} (line {line})"
