"""Joules of tests: the plugin that pytest loads by its entry point ``pytest11``.

It does nothing until it is asked to: by ``--lithowatt-energy`` or one of its files, by
``lithowatt_energy = true`` in pytest's configuration, or by a test that carries
``@pytest.mark.energy``. Everything but the options is in `lithowatt._pytest`, which is imported
only then.

PYTEST_DONT_REWRITE: this has no assertions.
"""

from __future__ import annotations

import re

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lithowatt._pytest.results import Results

#: As it is shown by ``pytest --markers``.
MARKER = (
    "energy(max_joules=None, baseline=None, margin=0.1, repeats=1): meter this test. It fails if "
    "it surely used more than max_joules (J), or than margin (0.1: 10 %) above its baseline: a "
    "JSON file, or a name in the file of --lithowatt-baseline. repeats: run it so many times, "
    "and judge the mean."
)

#: Attribute of a test's report that holds what it used. A worker of xdist and a forked test send
#: the attributes of a report as they are.
RECORD = "lithowatt_energy"

_FILES = (
    ("--lithowatt-json", "write the energy of each test to FILE, as JSON"),
    (
        "--lithowatt-save-baseline",
        "write the energy of each test that passed to FILE, as a baseline",
    ),
    ("--lithowatt-baseline", "compare each test with the baseline in FILE"),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    # Names that nobody else has: this is loaded wherever lithowatt is installed, and pytest stops
    # at a project's own option of the same name.
    group = parser.getgroup("lithowatt", "energy of tests (lithowatt)")
    option = group.addoption
    option(
        "--lithowatt-energy",
        action="store_true",
        default=False,
        help="meter the joules of each test",
    )
    option(
        "--lithowatt-top",
        type=int,
        default=10,
        metavar="N",
        help="list the N tests that used most energy, 0 for all (default: 10)",
    )
    for name, meaning in _FILES:
        option(name, default=None, metavar="FILE", help=meaning)
    option(
        "--lithowatt-strict",
        action="store_true",
        default=False,
        help="a test with a budget fails where its energy cannot be measured",
    )
    parser.addini(
        "lithowatt_energy", "meter the joules of each test (as --lithowatt-energy)", type="bool"
    )


def pytest_configure(config: pytest.Config) -> None:
    # A project may have had a marker of this name, of another meaning, before us.
    foreign = any(re.match(r"energy\b", line) for line in config.getini("markers"))
    marked = _asked(config) or not foreign
    if marked:
        config.addinivalue_line("markers", MARKER)
    config.pluginmanager.register(_Switch(config, marked), "lithowatt-switch")


def _asked(config: pytest.Config) -> bool:
    """Whether all tests are to be metered."""
    options = ("--lithowatt-energy", *(name for name, _ in _FILES))
    return any(config.getoption(one) for one in options) or bool(config.getini("lithowatt_energy"))


class _Switch:
    """Loads the rest when it is needed."""

    def __init__(self, config: pytest.Config, marked: bool) -> None:
        self._config = config
        self._marked = marked
        self._metering = False
        self._results: Results | None = None
        self._trouble: str | None = None
        # A worker of xdist leaves the gathering to its controller.
        self._worker = hasattr(config, "workerinput")
        if _asked(config) and not config.getoption("collectonly", False):
            self._meter(everything=True)
            if not self._worker and self._trouble is None:
                self._gather()

    def _meter(self, everything: bool) -> None:
        self._metering = True
        try:
            from lithowatt._pytest.metering import Judge, Metering

            metering = Metering(self._config, everything=everything)
            plugins = {"lithowatt-metering": metering, "lithowatt-judge": Judge(metering)}
        except pytest.UsageError:
            raise
        except Exception as error:  # an installation in part: the tests run all the same
            self._trouble = f"{type(error).__name__}: {error}"
            return
        for name, plugin in plugins.items():
            self._config.pluginmanager.register(plugin, name)

    def _gather(self) -> Results:
        if self._results is None:
            from lithowatt._pytest.results import Results

            self._results = Results(self._config)
        return self._results

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        if not self._marked or self._metering or self._config.getoption("collectonly", False):
            return
        if any(item.get_closest_marker("energy") is not None for item in session.items):
            self._meter(everything=False)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        record = getattr(report, RECORD, None)
        if record is not None and not self._worker:
            self._gather().add(record, report)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        if self._results is not None:
            self._results.write()

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self._trouble is not None:
            from lithowatt._support.text import printable

            why = printable(self._trouble)
            terminalreporter.write_line(f"energy of tests: not metered, {why}")
        if self._results is not None:
            self._results.show(terminalreporter)
