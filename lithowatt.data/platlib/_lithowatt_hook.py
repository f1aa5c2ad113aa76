"""Meters unmodified Lithops workers and FlexExecutor: what is loaded when one of them is imported.

Every interpreter, whoever starts it, runs the one line of `lithowatt-hook.pth` (Python 3.15 and
later: `_lithowatt_start`, by `lithowatt-hook.start`). It leaves in `sys.meta_path` an object whose
`find_spec` looks a name up among those of `TABLE` and no more. This module is imported when one of
them is, and the rest of lithowatt when that module has run.

The finder goes by the module's name and never by a path, because Lithops runs
its workers from a copy of itself under the temporary directory.

PYTEST_DONT_REWRITE: pytest rewrites what belongs to a distribution with a
plugin for it, and warns of a module that is imported before pytest is.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

#: By the name of a module: who is called with it once it has run (`module:function`), and the
#: variable that has to be on for that; None: it is watched unless ENERGY_MONITORING_ENABLED is off.
#: FlexExecutor is run with two folders on the path, so its module has two names.
TABLE = {
    "lithops.worker.handler": ("lithowatt.lithops._worker:patch_imported", None),
    "flexecutor.workflow.executor": (
        "lithowatt.flexecutor._patch:patch_imported",
        "LITHOWATT_FLEXECUTOR",
    ),
    "workflow.executor": ("lithowatt.flexecutor._patch:patch_imported", "LITHOWATT_FLEXECUTOR"),
}

#: Values of a variable that switch off.
_OFF = ("false", "0", "no", "off")

#: Names of the table whose import this process has asked to watch, or not to.
_watched: "set[str]" = set()
_unwatched: "set[str]" = set()


def enabled() -> bool:
    """Whether ENERGY_MONITORING_ENABLED leaves the hook on (unset: on)."""
    return os.environ.get("ENERGY_MONITORING_ENABLED", "").strip().lower() not in _OFF


def _on(variable: str) -> bool:
    """Whether a variable is set to something that is not off."""
    return os.environ.get(variable, "").strip().lower() not in ("", *_OFF)


def _wanted(name: str) -> bool:
    """Whether the import of a module of the table is watched in this process."""
    if name in _watched or name in _unwatched:
        return name in _watched
    switch = TABLE[name][1]
    return enabled() if switch is None else _on(switch)


def _is_ours(finder: object) -> bool:
    """Whether a finder is one of this hook's: the line of the `.pth` makes the same."""
    return type(finder) is type(sys.implementation) and hasattr(finder, "lithowatt_hook")


def find_spec(
    name: str, path: "Any" = None, target: "ModuleType | None" = None
) -> "ModuleSpec | None":
    """Lets the other finders find a watched module, and patches it once it has run."""
    if name not in TABLE or not _wanted(name):
        return None
    for finder in sys.meta_path:
        find = None if _is_ours(finder) else getattr(finder, "find_spec", None)
        spec: ModuleSpec | None = None if find is None else find(name, path, target)
        if spec is not None:
            _patch_when_executed(spec, name)
            return spec
    return None


def _patch_when_executed(spec: "ModuleSpec", name: str) -> None:
    loader: Any = spec.loader
    try:
        execute = loader.exec_module

        def exec_module(module: "ModuleType") -> None:
            # A loader may serve other modules too (a zip has one for all of
            # its files), so it gets its own method back before anything runs.
            loader.__dict__.pop("exec_module", None)
            execute(module)
            # It was looked up and not imported, and this is another one of its loader's.
            if module.__name__ == name:
                _run(name, module)

        loader.exec_module = exec_module
    except BaseException as error:
        # An exotic loader: the module is imported as if we were not here.
        _expect_harmless(error)
        note(f"cannot watch the import of {name}", error)


def _run(name: str, module: "ModuleType") -> None:
    """Does what is to be done with a module; whatever goes wrong, it is imported without us."""
    try:
        if _wanted(name) and enabled():
            where, _, function = TABLE[name][0].partition(":")
            getattr(__import__(where, fromlist=[function]), function)(module)
    except BaseException as error:
        _expect_harmless(error)
        note(f"{name} is not metered, lithowatt cannot be used here", error)


def _expect_harmless(error: BaseException) -> None:
    """Raises an interrupt again. Nothing else gets out of here: not a panic of the extension,
    which is no Exception, and not an exit, which would be the interpreter's."""
    if issubclass(type(error), KeyboardInterrupt):
        raise error


#: What was logged already.
_noted: "set[str]" = set()


def note(what: str, error: BaseException) -> None:
    """Logs a warning, once, that is never printed where nobody configured logging."""
    try:
        text = f"{what}: {type(error).__name__}: {error}"
        if text in _noted:
            return
        _noted.add(text)
        import logging

        logger = logging.getLogger("lithowatt")
        # Without a handler of its own a warning would reach stderr through
        # logging's last resort, which in a worker is the user's log.
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())
        logger.warning("%s", text)
    except BaseException as trouble:
        _expect_harmless(trouble)


def _insert() -> None:
    """Has the finder, once."""
    if not any(_is_ours(finder) for finder in sys.meta_path):
        namespace: Any = type(sys.implementation)
        sys.meta_path.insert(0, namespace(lithowatt_hook=True, find_spec=find_spec))


def watch(*names: str) -> None:
    """Watches the import of these modules of the table."""
    _watched.update(names)
    _unwatched.difference_update(names)
    _insert()


def unwatch(*names: str) -> None:
    """Forgets these names; the finder goes with the last one."""
    _watched.difference_update(names)
    _unwatched.update(names)
    if not any(_wanted(name) for name in TABLE):
        sys.meta_path[:] = [finder for finder in sys.meta_path if not _is_ours(finder)]


def _always() -> "list[str]":
    """Those that no variable has to switch on."""
    return [name for name, (_, switch) in TABLE.items() if switch is None]


def installed() -> bool:
    """Whether the imports that need no switch are watched in this interpreter."""
    return any(map(_is_ours, sys.meta_path)) and all(map(_wanted, _always()))


def install() -> bool:
    """Watches what needs no switch; False where the environment switches the hook off.

    Raises nothing but an interrupt: it is not what its caller is about.
    """
    try:
        if not enabled():
            return False
        watch(*_always())
    except BaseException as error:
        _expect_harmless(error)
        note("calls are not metered", error)
        return False
    return True


def uninstall() -> None:
    """Stops watching what needs no switch; a module that was patched stays patched."""
    unwatch(*_always())
