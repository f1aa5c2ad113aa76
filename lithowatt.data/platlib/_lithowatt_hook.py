"""Meters the calls of an unmodified Lithops worker: the part every interpreter loads.

`lithowatt-hook.pth` imports this module at each start of Python, whoever
starts it, so it may cost next to nothing: no import beyond what `site` has
loaded already, one entry in `sys.meta_path`, nothing else. The rest of
lithowatt is imported only in a process that imports the worker's handler.

The finder goes by the module's name and never by a path, because Lithops runs
its workers from a copy of itself under the temporary directory.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

#: The one module whose import is watched.
HANDLER = "lithops.worker.handler"

#: Values of ENERGY_MONITORING_ENABLED that switch the hook off.
_OFF = ("false", "0", "no", "off")


def enabled() -> bool:
    """Whether ENERGY_MONITORING_ENABLED leaves the hook on (unset: on)."""
    return os.environ.get("ENERGY_MONITORING_ENABLED", "").strip().lower() not in _OFF


class HandlerFinder:
    """Lets the other finders find the handler, and patches it once it has run."""

    def find_spec(
        self, name: str, path: "Any" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        if name != HANDLER:
            return None
        for finder in sys.meta_path:
            find = None if isinstance(finder, HandlerFinder) else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = None if find is None else find(name, path, target)
            if spec is not None:
                _patch_when_executed(spec)
                return spec
        return None


def _patch_when_executed(spec: "ModuleSpec") -> None:
    loader: Any = spec.loader
    try:
        execute = loader.exec_module

        def exec_module(module: "ModuleType") -> None:
            # A loader may serve other modules too (a zip has one for all of
            # its files), so it gets its own method back before anything runs.
            loader.__dict__.pop("exec_module", None)
            execute(module)
            if module.__name__ == HANDLER:
                patch(module)

        loader.exec_module = exec_module
    except Exception as error:
        # An exotic loader: the handler is imported as if we were not here.
        note("cannot watch the import of %s: %s", HANDLER, error)


def patch(module: "ModuleType") -> None:
    """Wraps the loaded handler; whatever goes wrong, the worker goes on without us."""
    if not enabled():
        return
    try:
        from lithowatt.lithops import _worker

        _worker.patch(module)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of the extension is no Exception
        note("calls are not metered, lithowatt cannot be used here: %r", error)


def note(text: str, *args: object) -> None:
    """Logs a warning that is never printed where nobody configured logging."""
    import logging

    logger = logging.getLogger("lithowatt")
    # Without a handler of its own a warning would reach stderr through
    # logging's last resort, which in a worker is the user's log.
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    logger.warning(text, *args)


def installed() -> bool:
    """Whether the finder is in this interpreter's `sys.meta_path`."""
    return any(isinstance(finder, HandlerFinder) for finder in sys.meta_path)


def install() -> bool:
    """Adds the finder, once; False where the environment switches the hook off."""
    if not enabled():
        return False
    if not installed():
        sys.meta_path.insert(0, HandlerFinder())
    return True


def uninstall() -> None:
    """Takes the finder out again; a handler that was patched stays patched."""
    sys.meta_path[:] = [f for f in sys.meta_path if not isinstance(f, HandlerFinder)]
