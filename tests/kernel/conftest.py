"""Prints the table after the tests."""

from __future__ import annotations

import os

import pytest

from tests.kernel import table


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table; ``KERNEL_RESULTS`` names a file for it as JSON."""
    lines = table.lines()
    if not lines:
        return
    terminalreporter.section("joules by Linux's own drivers, over registers of known power")
    for line in lines:
        terminalreporter.write_line(line)
    path = os.environ.get("KERNEL_RESULTS")
    if path:
        table.write(path)
