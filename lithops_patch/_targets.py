"""What can be patched: which files of which package, where, and with what.

A further target is an entry in `TARGETS`: its files, the shapes by which they
are known, an anchor for each insertion and the text to insert.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from ._own import own_meter
from ._source import Insertion, Place, Shape, end_of_module


@dataclass(frozen=True)
class File:
    """One file that the patch must find, and what it adds there, if anything."""

    #: Below the package's directory, with slashes.
    path: str
    shapes: tuple[Shape, ...]
    insertions: tuple[Insertion, ...] = ()
    #: The line that says that the file meters by itself, `None` where none does.
    own_meter: Callable[[ast.Module], int | None] | None = None


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


def after_imports(tree: ast.Module) -> Place | None:
    """The place under a module's last import."""
    for index in range(len(tree.body), 0, -1):
        if isinstance(tree.body[index - 1], (ast.Import, ast.ImportFrom)):
            return Place(tree.body, index, hug_previous=True)
    return None


def before_function_starts(tree: ast.Module) -> Place | None:
    """In `run_task`, where the function's process is about to be started."""
    body = _run_task_body(tree)
    index = None if body is None else _index_of(body, "jrp.start()")
    return None if body is None or index is None else Place(body, index)


def after_function_ended(tree: ast.Module) -> Place | None:
    """In `run_task`, where the function's process is gone or its time over."""
    body = _run_task_body(tree)
    index = None if body is None else _index_of(body, "jrp.join(task.execution_timeout)")
    return None if body is None or index is None else Place(body, index + 1, hug_previous=True)


def _run_task_body(tree: ast.Module) -> list[ast.stmt] | None:
    """The part of `run_task` that reports what goes wrong: the body of its only `try`."""
    function = _only(tree.body, ast.FunctionDef, "run_task")
    tries = [s for s in function.body if isinstance(s, ast.Try)] if function else []
    if function is None or len(tries) != 1 or [a.arg for a in function.args.args] != ["task"]:
        return None
    known = "call_status = create_call_status(task, internal_storage)"
    return tries[0].body if _index_of(function.body, known) is not None else None


def before_function_is_called(tree: ast.Module) -> Place | None:
    """In `JobRunner.run`, where its clock is about to start."""
    runner = _only(tree.body, ast.ClassDef, "JobRunner")
    run = _only(runner.body, ast.FunctionDef, "run") if runner else None
    tries = [s for s in run.body if isinstance(s, ast.Try)] if run else []
    if len(tries) != 1:
        return None
    body = tries[0].body
    clock = _index_of(body, "function_start_tstamp = time.time()")
    call = _index_of(body, "result = func(**data)", "result = func(*args, **kwargs)")
    loaded = _index_of(body, "func = pickle.loads(self.job.func)")
    if clock is None or call is None or loaded is None or not loaded < clock < call:
        return None
    return Place(body, clock)


_Definition = TypeVar("_Definition", ast.FunctionDef, ast.ClassDef)


def _only(body: list[ast.stmt], kind: type[_Definition], name: str) -> _Definition | None:
    """The definition of that name, where there is exactly one."""
    found = [s for s in body if isinstance(s, kind) and s.name == name]
    return found[0] if len(found) == 1 else None


def _index_of(body: list[ast.stmt], *texts: str) -> int | None:
    """Where a body has one of these statements, which it must have once and only once."""
    meant = [ast.dump(ast.parse(text).body[0]) for text in texts]
    found = [index for index, statement in enumerate(body) if ast.dump(statement) in meant]
    return found[0] if len(found) == 1 else None


def imports_system_monitor(tree: ast.Module) -> bool:
    """Whether the handler watches the system, as it does since 3.1.2."""
    return any(
        isinstance(statement, ast.ImportFrom)
        and any(alias.name == "SystemMonitor" for alias in statement.names)
        for statement in tree.body
    )


_IMPORT = """\
try:
    from lithowatt.lithops import patched as __lithowatt_patch__
except Exception:
    __lithowatt_patch__ = None
"""

#: Guarded although `begin` and `end` never raise: what is installed may be of another version.
_BEGIN = """\
try:
    __lithowatt_patch__.begin(task, call_status)
except Exception:
    pass
"""

_END = """\
try:
    __lithowatt_patch__.end(task, call_status)
except Exception:
    pass
"""

_METERED = """\
try:
    from lithowatt.lithops import patched as __lithowatt_patch__
    func = __lithowatt_patch__.metered(self, func)
except Exception:
    pass
"""

LITHOPS = Target(
    package="lithops",
    version="1",
    files=(
        File(
            "worker/handler.py",
            shapes=(
                Shape(
                    "a SystemMonitor, as Lithops 3.1.2 to 3.8.0 have one (3.1.0 and 3.1.1 need "
                    "no patch: the hook of the installed wheel meters them)",
                    imports_system_monitor,
                ),
            ),
            insertions=(
                Insertion(after_imports, "imports", _IMPORT),
                Insertion(
                    before_function_starts,
                    "a run_task(task) that makes its call_status and then, in its try, "
                    "calls jrp.start() once",
                    _BEGIN,
                ),
                Insertion(
                    after_function_ended,
                    "a run_task(task) that calls jrp.join(task.execution_timeout) once in its try",
                    _END,
                ),
            ),
            own_meter=own_meter,
        ),
        File(
            "worker/jobrunner.py",
            shapes=(defines_class("JobStats", "write"),),
            insertions=(
                Insertion(
                    before_function_is_called,
                    "a JobRunner.run that loads func, takes function_start_tstamp and calls func, "
                    "in its try",
                    _METERED,
                ),
            ),
        ),
    ),
)

TARGETS: dict[str, Target] = {target.package: target for target in (LITHOPS, FLEXECUTOR)}
