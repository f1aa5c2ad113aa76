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
            callback = _watched.get(module.__name__)
            if callback is not None:
                callback(module)

        loader.exec_module = exec_module
    except Exception as error:
        # An exotic loader: the module is imported as if we were not here.
        note("cannot watch the import of %s: %s", name, error)


def patch(module: "ModuleType") -> None:
    """Wraps the loaded handler; whatever goes wrong, the worker goes on without us."""
    if not enabled():
        return
    try:
        from lithowatt.lithops import _worker

        _worker.patch(module, fresh=True)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of the extension is no Exception
        note("calls are not metered, lithowatt cannot be used here: %r", error)


def patch_flexecutor(module: "ModuleType") -> None:
    """Meters FlexExecutor's executor module; whatever goes wrong, it goes on without us."""
    if not enabled():
        return
    try:
        from lithowatt.flexecutor import patch_executor

        patch_executor(module.__dict__)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        note("FlexExecutor is not metered, lithowatt cannot be used here: %r", error)


def note(text: str, *args: object) -> None:
    """Logs a warning that is never printed where nobody configured logging."""
    import logging

    logger = logging.getLogger("lithowatt")
    # Without a handler of its own a warning would reach stderr through
    # logging's last resort, which in a worker is the user's log.
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    logger.warning(text, *args)


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
    """Watches, once; False where the environment switches the hook off."""
    if not enabled():
        return False
    if not installed():
        watch(HANDLER, patch)
    if os.environ.get("LITHOWATT_FLEXECUTOR", "off").strip().lower() not in ("", *_OFF):
        for name in FLEXECUTOR:
            watch(name, patch_flexecutor)
    return True


def uninstall() -> None:
    """Stops watching the handler; one that was patched stays patched."""
    unwatch(HANDLER)
