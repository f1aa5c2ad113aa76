"""The parser of the command line, for all of lithowatt's commands."""

from __future__ import annotations

import argparse
from typing import Any


class Parser(argparse.ArgumentParser):
    """As ``argparse`` has it, but for ``--option=--``.

    There argparse takes the value for the mark that ends the options, and hands on an empty
    list in the place of a text.
    """

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        if action.option_strings and action.nargs is None and arg_strings == ["--"]:
            value = self._get_value(action, "--")
            self._check_value(action, value)
            return value
        return super()._get_values(action, arg_strings)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """A verb of ``profile`` that is given as a command is pointed to."""
        # A value of an option may be a list.
        commands = action.choices if isinstance(action.choices, dict) else {}
        if isinstance(value, str) and value not in commands and "profile" in commands:
            inner = commands["profile"]._subparsers
            if inner is not None and any(
                value in (one.choices or ()) for one in inner._group_actions
            ):
                raise argparse.ArgumentError(
                    None, f"{value!r} is no command; expected lithowatt profile {value}"
                )
        super()._check_value(action, value)
