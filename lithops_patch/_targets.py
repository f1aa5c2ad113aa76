"""What can be patched: which files of which package, where, and with what.

A further target is an entry in `TARGETS`: its files, the shapes by which they
are known, an anchor for each insertion and the text to insert.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass

from ._source import Insertion, Shape, end_of_module


@dataclass(frozen=True)
class File:
    """One file that the patch must find, and what it adds there, if anything."""

    #: Below the package's directory, with slashes.
    path: str
    shapes: tuple[Shape, ...]
    insertions: tuple[Insertion, ...] = ()


@dataclass(frozen=True)
class Target:
    """A package that can be patched."""

    #: The package's name, for `--target` and for the import system.
    package: str
    #: Of the inserted text: a change of it is a new version.
    version: str
    files: tuple[File, ...]


def defines_function(name: str) -> Shape:
    """A module with a function of this name."""
    return Shape(f"a function {name}", lambda tree: _has_function(tree.body, name))


def defines_class(name: str, *methods: str) -> Shape:
    """A module with a class of this name that has these methods."""

    def holds(tree: ast.Module) -> bool:
        return any(
            isinstance(statement, ast.ClassDef)
            and statement.name == name
            and all(_has_function(statement.body, method) for method in methods)
            for statement in tree.body
        )

    return Shape(f"a class {name} with {_listed(methods)}", holds)


def _has_function(body: list[ast.stmt], name: str) -> bool:
    return any(
        isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)) and statement.name == name
        for statement in body
    )


def _listed(names: tuple[str, ...]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


#: Patches the very module it stands in: FlexExecutor's are often loaded twice,
#: as `flexecutor.workflow.executor` and as `workflow.executor`. It is nothing
#: where lithowatt is not installed.
_PATCH_THIS_MODULE = """\
try:
    from lithowatt.flexecutor import patch_executor as __lithowatt_patch__

    __lithowatt_patch__(globals())
except ImportError:
    pass
"""

FLEXECUTOR = Target(
    package="flexecutor",
    version="1",
    files=(
        File(
            "workflow/executor.py",
            shapes=(defines_class("DAGExecutor", "_store_profiling", "execute", "profile"),),
            insertions=(Insertion(end_of_module, "the end of the module", _PATCH_THIS_MODULE),),
        ),
        File("storage/wrapper.py", shapes=(defines_function("worker_wrapper"),)),
        File("workflow/stagefuture.py", shapes=(defines_class("StageFuture", "get_timings"),)),
    ),
)

TARGETS: dict[str, Target] = {target.package: target for target in (FLEXECUTOR,)}
