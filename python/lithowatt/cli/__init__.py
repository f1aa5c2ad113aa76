"""``lithowatt``: what can be measured here, and the joules of a command.

``lithowatt doctor``, ``explain KEY``, ``run -- CMD``, ``record``, ``replay``, ``top``,
``calibrate``, ``validate``, ``lithops status``, ``profile recommend``, ``compare``, ``agent``,
``setup``: each in a module of its own.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from lithowatt import _core
from lithowatt._support.command import guarded
from lithowatt.cli._parser import Parser

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code (`lithowatt._support.command.guarded`)."""

    def run() -> int:
        arguments = _parser().parse_args(argv)
        # Called by a program rather than as one, a command leaves that program's signals alone.
        arguments.as_program = argv is None
        return int(arguments.func(arguments))

    return guarded(run)


def _parser() -> argparse.ArgumentParser:
    parser: Any = Parser(prog="lithowatt", description="How many joules did this function use?")
    parser.add_argument("--version", action="version", version=f"lithowatt {_core.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    from lithowatt.cli.agent import add_cli as add_agent_cli
    from lithowatt.cli.calibrate import add_cli as add_calibrate_cli
    from lithowatt.cli.compare import add_cli as add_compare_cli
    from lithowatt.cli.cost import add_cli as add_cost_cli
    from lithowatt.cli.doctor import add_cli as add_doctor_cli
    from lithowatt.cli.explain import add_cli as add_explain_cli
    from lithowatt.cli.lithops import add_cli
    from lithowatt.cli.profile import add_cli as add_profile_cli
    from lithowatt.cli.record import add_cli as add_record_cli
    from lithowatt.cli.replay import add_cli as add_replay_cli
    from lithowatt.cli.report import add_cli as add_report_cli
    from lithowatt.cli.run import add_cli as add_run_cli
    from lithowatt.cli.setup import add_cli as add_setup_cli
    from lithowatt.cli.top import add_cli as add_top_cli
    from lithowatt.cli.validate import add_cli as add_validate_cli

    add_doctor_cli(commands)
    add_explain_cli(commands)
    add_run_cli(commands)
    add_record_cli(commands)
    add_replay_cli(commands)
    add_calibrate_cli(commands)
    add_validate_cli(commands)
    add_cli(commands)
    add_profile_cli(commands)
    add_compare_cli(commands)
    add_report_cli(commands)
    add_cost_cli(commands)
    add_agent_cli(commands)
    add_setup_cli(commands)
    add_top_cli(commands)
    made: argparse.ArgumentParser = parser
    return made


if __name__ == "__main__":
    sys.exit(main())
