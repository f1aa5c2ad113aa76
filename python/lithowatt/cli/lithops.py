"""``lithowatt lithops``: the commands about Lithops workers, layers, configurations and pods."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from importlib import import_module
from typing import TYPE_CHECKING

from lithowatt.lithops._status import HookStatus, status, status_of

if TYPE_CHECKING:
    SubParsers = argparse._SubParsersAction[argparse.ArgumentParser]

#: Modules of ``lithowatt.lithops`` with an ``add_cli(commands)``, in the order of the help.
_MODULES = ("_runtime", "_layer", "_config", "_k8s_template")


def add_cli(subparsers: SubParsers) -> None:
    """Adds `lithops` and its commands to a command line.

    The parsed arguments carry the function to call as `func`; it takes them
    and returns the exit code.
    """
    parser = subparsers.add_parser("lithops", help="check and set up the metering of Lithops calls")
    add_commands(parser)


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Adds the commands below `lithowatt lithops` to their parser."""
    commands = parser.add_subparsers(dest="lithops_command", required=True)
    command = commands.add_parser(
        "status",
        help="is the hook active, and in which interpreter",
        description="Shows whether Lithops calls run by this interpreter carry their energy. "
        "Exit code 0 if they do, 1 if not.",
    )
    command.add_argument("--json", action="store_true", help="machine-readable")
    command.add_argument(
        "--python", metavar="PATH", help="of this interpreter instead (a path, a name or a venv)"
    )
    command.set_defaults(func=main_status)

    for name in _MODULES:
        import_module(f"lithowatt.lithops.{name}").add_cli(commands)


def main_status(args: argparse.Namespace) -> int:
    """Prints the status; returns 0 if calls are metered in this interpreter, else 1."""
    python = getattr(args, "python", None)
    found = status() if python is None else status_of(python)
    if getattr(args, "json", False):
        print(json.dumps(asdict(found), indent=2))
    else:
        print(render(found))
    return 0 if found.active else 1


def render(found: HookStatus) -> str:
    """The status as lines of text, without a newline at the end."""
    switch = "not set" if found.environment is None else found.environment
    rows = [
        ("interpreter", f"{found.executable} (Python {found.python})"),
        (".pth", found.pth or "not found"),
        (".start", found.start or "not found"),
        ("finder", "installed" if found.finder else "not installed"),
        (
            "environment",
            f"ENERGY_MONITORING_ENABLED {switch} ({'on' if found.enabled else 'off'})",
        ),
        ("lithops", f"{found.lithops} at {found.lithops_path}" if found.lithops else "not found"),
        ("handler", f"layout {found.layout}" if found.layout else "–"),
    ]
    verb = "are" if found.active else "are not"
    lines = [f"Lithops calls run by this interpreter {verb} metered."]
    lines += [f"  {name:<12} {text}" for name, text in rows]
    if found.workers is not None:
        lines.append(
            f"  {'localhost':<12} workers are started with {found.workers}, another interpreter: "
            f"lithowatt lithops status --python {found.workers}"
        )
    if found.reason is not None:
        lines.append(f"  {'why':<12} {found.reason}")
    return "\n".join(lines)
