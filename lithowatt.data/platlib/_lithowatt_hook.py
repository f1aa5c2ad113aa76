"""Meters unmodified Lithops workers and FlexExecutor: the part every interpreter loads.

`lithowatt-hook.pth` imports this module at each start of Python, whoever
starts it, so it may cost next to nothing: no import beyond what `site` has
loaded already, one entry in `sys.meta_path`, nothing else. The rest of
lithowatt is imported only in a process that imports what `TABLE` names.

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

#: Names of the table whose import is watched in this process.
_watched: "set[str]" = set()


def enabled() -> bool:
    """Whether ENERGY_MONITORING_ENABLED leaves the hook on (unset: on)."""
    return os.environ.get("ENERGY_MONITORING_ENABLED", "").strip().lower() not in _OFF


def _on(variable: str) -> bool:
    """Whether a variable is set to something that is not off."""
    return os.environ.get(variable, "").strip().lower() not in ("", *_OFF)


class ImportWatcher:
    """Lets the other finders find a watched module, and patches it once it has run."""

    def find_spec(
        self, name: str, path: "Any" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        if name not in _watched:
            return None
        for finder in sys.meta_path:
            find = None if isinstance(finder, ImportWatcher) else getattr(finder, "find_spec", None)
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
            _run(name, module)

        loader.exec_module = exec_module
    except BaseException as error:
        # An exotic loader: the module is imported as if we were not here.
        _expect_harmless(error)
        note(f"cannot watch the import of {name}", error)


def _run(name: str, module: "ModuleType") -> None:
    """Does what is to be done with a module; whatever goes wrong, it is imported without us."""
    try:
        if name in _watched and enabled():
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


def watch(*names: str) -> None:
    """Watches the import of these modules of the table."""
    _watched.update(names)
    if not any(isinstance(finder, ImportWatcher) for finder in sys.meta_path):
        sys.meta_path.insert(0, ImportWatcher())


def unwatch(*names: str) -> None:
    """Forgets these names; the finder goes with the last one."""
    _watched.difference_update(names)
    if not _watched:
        sys.meta_path[:] = [f for f in sys.meta_path if not isinstance(f, ImportWatcher)]


def _always() -> "list[str]":
    """Those that no variable has to switch on."""
    return [name for name, (_, switch) in TABLE.items() if switch is None]


def installed() -> bool:
    """Whether the imports that need no switch are watched in this interpreter."""
    found = any(isinstance(finder, ImportWatcher) for finder in sys.meta_path)
    return found and _watched.issuperset(_always())


def install() -> bool:
    """Watches, once; False where the environment switches the hook off.

    Raises nothing but an interrupt: whoever starts Python did not ask for this.
    """
    try:
        if not enabled():
            return False
        watch(*[name for name, (_, switch) in TABLE.items() if switch is None or _on(switch)])
    except BaseException as error:
        _expect_harmless(error)
        note("calls are not metered", error)
        return False
    return True


def uninstall() -> None:
    """Stops watching what needs no switch; a module that was patched stays patched."""
    unwatch(*_always())
