"""`python -m lithowatt.lithops status`, for an interpreter whose script is not at hand."""

from __future__ import annotations

import sys

from lithowatt._support.command import guarded
from lithowatt.cli._parser import Parser
from lithowatt.cli.lithops import add_commands


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code (`lithowatt._support.command.guarded`)."""

    def run() -> int:
        parser = Parser(
            prog="python -m lithowatt.lithops", description="lithowatt inside Lithops workers"
        )
        add_commands(parser)
        arguments = parser.parse_args(argv)
        return int(arguments.func(arguments))

    return guarded(run)


if __name__ == "__main__":
    sys.exit(main())
