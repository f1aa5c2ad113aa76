"""Lists the public API: every public name of every public module, with its signature.

A module is public if no part of its path begins with an underscore and it has an ``__all__``.
What is listed are the names in it, and the public members of classes, those of private base
classes included. The sources are read, never run: the list is the same in every Python.

    python tools/public_api.py             compares with tests/api/public_api.txt
    python tools/public_api.py --write     writes it (`make api`)
"""

from __future__ import annotations

import argparse
import ast
import difflib
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

TOP = Path(__file__).resolve().parent.parent
PACKAGES = TOP / "python"
RECORD = TOP / "tests" / "api" / "public_api.txt"

#: Of every class, or of its making rather than of its use.
USUAL = {"__slots__", "__repr__", "__module__", "__doc__", "__match_args__"}

Function = (ast.FunctionDef, ast.AsyncFunctionDef)


class Found(NamedTuple):
    """Where a name is defined: a module and its statements (several for overloads)."""

    module: str
    nodes: list[ast.stmt]


def path_of(module: str) -> Path | None:
    """The file of a module: a stub before a source."""
    base = PACKAGES.joinpath(*module.split("."))
    candidates = (base.with_suffix(".pyi"), base.with_suffix(".py"), base / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a body with those below ``if`` and ``try``, as a type checker sees them."""
    for node in body:
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            yield from statements(node.body)
        elif isinstance(node, (ast.If, ast.Try)):
            yield from statements([*node.body, *node.orelse])


@cache
def names_of(module: str) -> dict[str, list[ast.stmt]]:
    """What the statements of a module define or import, by name."""
    path = path_of(module)
    if path is None:
        raise LookupError(f"there is no module {module} in {PACKAGES}")
    names: dict[str, list[ast.stmt]] = {}
    for node in statements(ast.parse(path.read_text("utf-8")).body):
        for name in defined(node):
            same = isinstance(node, Function) and name in names and overloaded(names[name][-1])
            names[name] = [*names[name], node] if same else [node]
    return names


def defined(node: ast.stmt) -> list[str]:
    """The names that a statement binds."""
    if isinstance(node, (*Function, ast.ClassDef)):
        return [node.name]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return [node.target.id]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    if isinstance(node, ast.ImportFrom):
        return [alias.asname or alias.name for alias in node.names]
    return []


def overloaded(node: ast.stmt) -> bool:
    """Whether a definition is one of several overloads."""
    return isinstance(node, Function) and "overload" in decorators(node)


def decorators(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> list[str]:
    """The last part of each decorator's name: ``property``, ``setter``."""
    whole = [ast.unparse(each).split("(")[0] for each in node.decorator_list]
    return [name.rsplit(".", 1)[-1] for name in whole]


def imported(module: str, node: ast.ImportFrom, name: str) -> tuple[str, str]:
    """The module and the name that an import takes ``name`` from."""
    source = node.module or ""
    if node.level:
        path = path_of(module)
        is_package = path is not None and path.name == "__init__.py"
        parts = module.split(".")
        parts = parts[: len(parts) - node.level + is_package]
        source = ".".join([*parts, source] if source else parts)
    [original] = [a.name for a in node.names if (a.asname or a.name) == name]
    return source, original


def resolve(module: str, name: str) -> Found | None:
    """Where a name of a module is defined; None outside of this project and for a module."""
    if path_of(module) is None or path_of(f"{module}.{name}") is not None:
        return None
    nodes = names_of(module).get(name)
    if nodes is None:
        raise LookupError(f"{module}.{name} is not defined or imported (under TYPE_CHECKING) there")
    if isinstance(nodes[-1], ast.ImportFrom):
        return resolve(*imported(module, nodes[-1], name))
    return Found(module, nodes)


def exported(module: str) -> list[str]:
    """The names in a module's ``__all__``, sorted."""
    for node in names_of(module).get("__all__", []):
        value = getattr(node, "value", None)
        if isinstance(value, (ast.List, ast.Tuple)):
            return sorted(ast.literal_eval(each) for each in value.elts)
    return []


def public_modules() -> list[str]:
    """Modules that are public by their path, in order."""
    found = []
    for path in sorted(PACKAGES.joinpath("lithowatt").rglob("*.py")):
        parts = path.relative_to(PACKAGES).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if not any(part.startswith("_") for part in parts):
            found.append(".".join(parts))
    return sorted(found)


def signature(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """``(a: int, *, b: str = 'x') -> None``."""
    result = f" -> {ast.unparse(node.returns)}" if node.returns is not None else ""
    return f"({ast.unparse(node.args)}){result}"


def function(path: str, node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """One line of a function, a method or a property."""
    marks = decorators(node)
    if "property" in marks or "cached_property" in marks:
        result = f" -> {ast.unparse(node.returns)}" if node.returns is not None else ""
        return f"property {path}{result}"
    words: list[str] = [
        w for w in ("overload", "staticmethod", "classmethod", "setter") if w in marks
    ]
    words += ["async"] if isinstance(node, ast.AsyncFunctionDef) else []
    return " ".join([*words, "def", path]) + signature(node)


def annotation_of(node: ast.AST) -> str:
    """``: int`` where a statement annotates what it binds."""
    annotation = getattr(node, "annotation", None)
    return f": {ast.unparse(annotation)}" if annotation is not None else ""


def is_member(name: str) -> bool:
    """Whether a member is for users: public, or one that the language calls."""
    dunder = name.startswith("__") and name.endswith("__")
    return (dunder and name not in USUAL) or not name.startswith("_")


def instance_attributes(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[tuple[str, str]]:
    """Public attributes that ``__init__`` sets on its object, with their annotations."""
    for inner in ast.walk(node):
        targets = (
            inner.targets if isinstance(inner, ast.Assign) else [getattr(inner, "target", None)]
        )
        for target in targets:
            if isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self":
                yield target.attr, annotation_of(inner)


def members(path: str, found: Found) -> dict[str, list[str]]:
    """Lines of the members of a class by their names; those of private bases below its own."""
    node = found.nodes[-1]
    assert isinstance(node, ast.ClassDef)  # noqa: S101
    lines: dict[str, list[str]] = {}
    for base in node.bases:
        inherited = base_of(found.module, base)
        if inherited is not None and is_private(inherited):
            lines.update(members(path, inherited))
    own: dict[str, list[str]] = {}
    for each in statements(node.body):
        if isinstance(each, Function):
            if is_member(each.name):
                own.setdefault(each.name, []).append(function(f"{path}.{each.name}", each))
            if each.name == "__init__":
                for name, annotation in instance_attributes(each):
                    if is_member(name):
                        own.setdefault(name, [f"{path}.{name}{annotation}"])
        else:
            for name in defined(each):
                if is_member(name):
                    own[name] = [f"{path}.{name}{annotation_of(each)}"]
    return {**lines, **own}


def base_of(module: str, base: ast.expr) -> Found | None:
    """Where a base class is defined; None outside of this project."""
    if not isinstance(base, ast.Name):
        return None
    found = resolve(module, base.id) if base.id in names_of(module) else None
    return found if found is not None and isinstance(found.nodes[-1], ast.ClassDef) else None


def is_private(found: Found) -> bool:
    """Whether a class cannot be looked up in the list under its own name."""
    node = found.nodes[-1]
    return isinstance(node, ast.ClassDef) and not any(
        node.name in exported(module) and resolve(module, node.name) == found
        for module in public_modules()
    )


def lines_of(module: str, name: str) -> list[str]:
    """What the list has of one name of a module."""
    path = f"{module}.{name}"
    found = resolve(module, name)
    if found is None:
        return [path]
    node = found.nodes[-1]
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(ast.unparse(base) for base in (*node.bases, *node.keywords))
        final = "final " if "final" in decorators(node) else ""
        head = f"{final}class {path}({bases})" if bases else f"{final}class {path}"
        # A class that two modules export is written out once.
        homes = [m for m in public_modules() if name in exported(m) and resolve(m, name) == found]
        if module != homes[0]:
            return [f"{path} = {homes[0]}.{name}"]
        inside = members(path, found)
        return [head, *(line for key in sorted(inside) for line in inside[key])]
    if isinstance(node, Function):
        return [function(path, each) for each in found.nodes if isinstance(each, Function)]
    return [f"{path}{annotation_of(node)}"]


def public_api() -> str:
    """The whole list."""
    parts = [
        "\n".join(line for name in names for line in lines_of(module, name))
        for module in public_modules()
        if (names := exported(module))
    ]
    return "\n\n".join(parts) + "\n"


def results_of(module: str, name: str) -> Iterator[tuple[str, ast.expr, str]]:
    """What a public name gives: module, annotation and path of results and attributes."""
    found = resolve(module, name)
    if found is None:
        return
    node = found.nodes[-1]
    inside = statements(node.body) if isinstance(node, ast.ClassDef) else found.nodes
    path = f"{module}.{name}." if isinstance(node, ast.ClassDef) else f"{module}."
    for each in inside:
        if isinstance(each, Function) and is_member(each.name) and each.returns is not None:
            yield found.module, each.returns, path + each.name
        elif isinstance(each, ast.AnnAssign) and is_member(ast.unparse(each.target)):
            yield found.module, each.annotation, path + ast.unparse(each.target)


def unexported() -> list[str]:
    """``PATH: CLASS`` where a public name gives a class of this project that has no public name."""
    found = set()
    for module in public_modules():
        for name in exported(module):
            for home, annotation, path in results_of(module, name):
                for part in ast.walk(annotation):
                    if isinstance(part, ast.Name) and part.id in names_of(home):
                        given = resolve(home, part.id)
                        if given is not None and is_private(given):
                            found.add(f"{path}: {part.id}")
    return sorted(found)


@cache
def exceptions() -> dict[str, Found]:
    """Every class of this project whose name is an exception's, by that name."""
    found = {}
    for path in PACKAGES.joinpath("lithowatt").rglob("*.py"):
        parts = path.relative_to(PACKAGES).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        for name, nodes in names_of(module).items():
            if isinstance(nodes[-1], ast.ClassDef) and name.endswith(("Error", "Problem")):
                found[name] = Found(module, nodes)
    return found


def raised_by(node: ast.stmt) -> Iterator[str]:
    """The names in the ``Raises:`` of a docstring."""
    text = ast.get_docstring(node) if isinstance(node, (*Function, ast.ClassDef)) else None
    _, _, section = (text or "").partition("\nRaises:\n")
    for line in section.splitlines():
        if line and not line.startswith(" "):
            return
        names = re.match(r" {4}(\w+(?:, \w+)*): ?", line)
        if names is not None:
            yield from names[1].split(", ")


def unexported_raised() -> list[str]:
    """``PATH: CLASS`` where a public name raises a class of this project without a public name."""
    found = set()
    for module in public_modules():
        for name in exported(module):
            definition = resolve(module, name)
            if definition is None:
                continue
            node = definition.nodes[-1]
            raising = [(f"{module}.{name}", node)]
            if isinstance(node, ast.ClassDef):
                raising += [
                    (f"{module}.{name}.{each.name}", each)
                    for each in statements(node.body)
                    if isinstance(each, Function) and is_member(each.name)
                ]
            for path, each in raising:
                for raised in raised_by(each):
                    known = exceptions().get(raised)
                    if known is not None and is_private(known):
                        found.add(f"{path}: {raised}")
    return sorted(found)


def difference() -> str:
    """What the list of today and the written one differ in; empty where they agree."""
    written = RECORD.read_text("utf-8") if RECORD.exists() else ""
    lines = difflib.unified_diff(
        written.splitlines(), public_api().splitlines(), "written", "today", lineterm="", n=0
    )
    return "\n".join(lines)


def main() -> int:
    """Compares, or writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--write", action="store_true", help=f"write {RECORD.relative_to(TOP)}")
    if parser.parse_args().write:
        RECORD.parent.mkdir(exist_ok=True)
        RECORD.write_text(public_api(), "utf-8")
        return 0
    found = difference()
    if found:
        print(found, "\nIf this is meant: make api", sep="\n", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
