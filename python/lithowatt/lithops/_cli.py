"""The commands below `lithowatt lithops`, each of which a module of its own adds."""

from __future__ import annotations

from importlib import import_module
from typing import Any

#: Modules with an `add_cli(commands)`, in the order of the help. A name from here
#: on is all that a further command takes.
MODULES = ("_runtime", "_layer", "_config", "_k8s_template")


def add_commands(commands: Any) -> None:
    """Adds every command but `status` to what `add_subparsers()` returned."""
    for name in MODULES:
        import_module(f"{__package__}.{name}").add_cli(commands)
