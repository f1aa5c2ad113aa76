"""Meters unmodified Lithops workers and FlexExecutor: the part every interpreter loads.

`lithowatt-hook.pth` imports this module at each start of Python, whoever
starts it, so it may cost next to nothing: no import beyond what `site` has
loaded already, one entry in `sys.meta_path`, nothing else. The rest of
lithowatt is imported only in a process that imports what is watched: the
handler of a Lithops worker and, where `LITHOWATT_FLEXECUTOR` is set to
something that is not off, FlexExecutor's executor.

The finder goes by the module's name and never by a path, because Lithops runs
its workers from a copy of itself under the temporary directory.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

#: The module of a Lithops worker that is patched.
HANDLER = "lithops.worker.handler"

#: FlexExecutor's; it is run with two folders on the path, so it has two names.
FLEXECUTOR = ("flexecutor.workflow.executor", "workflow.executor")

#: Values of ENERGY_MONITORING_ENABLED that switch the hook off.
_OFF = ("false", "0", "no", "off")

#: What is done with a module, by its name, once it has run.
_watched: "dict[str, Callable[[ModuleType], object]]" = {}


def enabled() -> bool:
    """Whether ENERGY_MONITORING_ENABLED leaves the hook on (unset: on)."""
    return os.environ.get("ENERGY_MONITORING_ENABLED", "").strip().lower() not in _OFF


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
        callback = _watched.get(name)
        if callback is not None and enabled():
            callback(module)
    except BaseException as error:
        _expect_harmless(error)
        note(f"{name} is not metered, lithowatt cannot be used here", error)


def _expect_harmless(error: BaseException) -> None:
    """Raises an interrupt again. Nothing else gets out of here: not a panic of the extension,
    which is no Exception, and not an exit, which would be the interpreter's."""
    if issubclass(type(error), KeyboardInterrupt):
        raise error


def patch(module: "ModuleType") -> None:
    """Wraps the loaded handler."""
    from lithowatt.lithops import _worker

    _worker.patch(module, fresh=True)


def patch_flexecutor(module: "ModuleType") -> None:
    """Meters FlexExecutor's executor module."""
    from lithowatt.flexecutor import patch_executor

    patch_executor(module.__dict__)


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


def watch(name: str, callback: "Callable[[ModuleType], object]") -> None:
    """Has `callback` called with the module of that name when it is imported."""
    _watched[name] = callback
    if not any(isinstance(finder, ImportWatcher) for finder in sys.meta_path):
        sys.meta_path.insert(0, ImportWatcher())


def unwatch(*names: str) -> None:
    """Forgets these names; the finder goes with the last one."""
    for name in names:
        _watched.pop(name, None)
    if not _watched:
        sys.meta_path[:] = [f for f in sys.meta_path if not isinstance(f, ImportWatcher)]


def installed() -> bool:
    """Whether the import of the handler is watched in this interpreter."""
    return HANDLER in _watched and any(isinstance(f, ImportWatcher) for f in sys.meta_path)


def install() -> bool:
    """Watches, once; False where the environment switches the hook off.

    Raises nothing but an interrupt: whoever starts Python did not ask for this.
    """
    try:
        if not enabled():
            return False
        if not installed():
            watch(HANDLER, patch)
        if os.environ.get("LITHOWATT_FLEXECUTOR", "off").strip().lower() not in ("", *_OFF):
            for name in FLEXECUTOR:
                watch(name, patch_flexecutor)
    except BaseException as error:
        _expect_harmless(error)
        note("calls are not metered", error)
        return False
    return True


def uninstall() -> None:
    """Stops watching the handler; one that was patched stays patched."""
    unwatch(HANDLER)
