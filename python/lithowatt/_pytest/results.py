"""In the process that reports: what all tests used, shown and written."""

from __future__ import annotations

import json
import math
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lithowatt import _core
from lithowatt._pytest import budget
from lithowatt._support.files import write_atomically
from lithowatt._support.harmless import Harmless
from lithowatt._support.text import aligned, counted, few, format_number, printable, wrapped

if TYPE_CHECKING:
    import pytest

_MISSING = "–"

_OUT = ("lithowatt_json", "lithowatt_save_baseline")

_ABOVE = {
    "marginal": "energy above idle",
    "amortised": "energy with a share of idle",
}

#: Texts of one kind that are shown; the JSON has all.
_MOST = 5


class Results:
    """The energy of the tests of a session."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._tests: list[dict[str, Any]] = []
        self._notes: list[str] = []

    def add(self, record: dict[str, Any], report: pytest.TestReport) -> None:
        """Takes what a test's report carries."""
        with Harmless("taking the energy of a test"):
            outcome = "xfailed" if hasattr(report, "wasxfail") else report.outcome
            self._tests.append({"nodeid": report.nodeid, "outcome": outcome, **record})

    def total(self) -> tuple[float, float, float] | str:
        """The sum of the tests that have joules, J: from the sum of the lower ends of their bands
        to that of the upper ends, for the error of a meter is mostly common to all of them. Where
        there is none, the reason."""
        known = [one for one in self._tests if one["energy_j"] is not None]
        if not known:
            return "no test has joules"
        definitions = sorted({str(one["definition"]) for one in known})
        if len(definitions) > 1:
            return f"their definitions differ ({', '.join(definitions)})"
        joules, low, high = (
            # Each run of a test was run.
            math.fsum(one[key] * len(one["runs_j"]) for one in known)
            for key in ("energy_j", "low_j", "high_j")
        )
        return joules, low, high

    def as_json(self, *, baseline: bool = False) -> dict[str, Any]:
        """What is written: documented in ``docs/how-to/pytest.md``.

        Args:
            baseline: Only the tests that passed and have joules, without verdicts.
        """
        tests = self._tests
        if baseline:
            tests = [
                {**one, "budgets": []}
                for one in tests
                if one["outcome"] == "passed" and one["energy_j"] is not None
            ]
        total = "a baseline has none" if baseline else self.total()
        joules, low, high = (None, None, None) if isinstance(total, str) else total
        now = datetime.now(timezone.utc).replace(microsecond=0, tzinfo=None)
        processors = {one["processor"] for one in tests}
        content = {
            "schema": budget.SCHEMA,
            "version": budget.VERSION,
            "lithowatt": _core.__version__,
            "created": f"{now.isoformat()}Z",
            "machine": {"processor": processors.pop() if len(processors) == 1 else None},
            "sum_j": joules,
            "sum_low_j": low,
            "sum_high_j": high,
            "sum_reason": total if isinstance(total, str) else None,
            "tests": [
                {key: value for key, value in one.items() if key != "processor"} for one in tests
            ],
        }
        made: dict[str, Any] = _finite(content)
        return made

    def write(self) -> None:
        """Writes the files that were asked for. One that cannot be written is told in the summary:
        tests that passed have passed."""
        for option in _OUT:
            named = self._config.getoption(option, None)
            if not named:
                continue
            path = Path(self._config.invocation_params.dir, named)
            failed = Harmless(f"writing {path}")
            with failed:
                path.parent.mkdir(parents=True, exist_ok=True)
                content = self.as_json(baseline=option == _OUT[1])
                write_atomically(path, json.dumps(content, indent=1, allow_nan=False) + "\n")
            if failed.trouble:
                self._notes.append(f"not written: {failed.trouble}")
            else:
                self._notes.append(f"written: {path}")

    def show(self, terminal: Any) -> None:
        """The section of pytest's closing summary."""
        shown = Harmless("showing the energy of the tests")
        with shown:
            lines = list(self.lines(int(self._config.getoption("lithowatt_top", 10))))
            terminal.ensure_newline()
            terminal.section("energy of tests", sep="=")
            for line in lines:
                terminal.write_line(printable(line))
        if shown.trouble:
            with Harmless("showing that nothing can be shown"):
                terminal.write_line(f"energy of tests: not shown, {printable(shown.trouble)}")

    def lines(self, top: int) -> list[str]:
        """What the section says.

        Args:
            top: How many tests it lists, 0 for all.
        """
        known = [one for one in self._tests if one["energy_j"] is not None]
        if not self._tests:
            return ["no test was metered", *self._notes]
        table: list[str] = []
        lines: list[str] = []
        if known:
            most = sorted(known, key=lambda one: -one["energy_j"])
            table = _table(most[:top] if top > 0 else most)
            if 0 < top < len(most):
                lines.append(f"and {counted(len(most) - top, 'test')} that used less")
            lines += self._sum(known)
        lines += _counted_texts(
            [one["reason"] for one in self._tests if one["energy_j"] is None], "not measured: "
        )
        lines += self._budgets()
        reasons = {one["reason"] for one in self._tests}
        said = [text for one in self._tests for text in one["warnings"] if text not in reasons]
        lines += _counted_texts(said, "")
        lines += self._workers()
        # Names of tests and of files are one word, whatever their length: such lines stay whole.
        return [*table, *(part for line in lines for part in _lines_of(line)), *self._notes]

    def _sum(self, known: list[dict[str, Any]]) -> list[str]:
        total = self.total()
        methods = few(sorted({f"{one['quality']}: {one['method']}" for one in known}))
        of = counted(len(known), "test")
        if isinstance(total, str):
            return [f"no sum of {of}: {total}"]
        joules, low, high = map(format_number, total)
        definition = str(known[0]["definition"])
        what = _ABOVE.get(definition, definition)
        return [
            f"sum of {of}: {joules} J [{low} .. {high}], {methods}",
            f"{definition}: {what}, in the tests' calls; setup and teardown of fixtures do not "
            "count",
        ]

    def _budgets(self) -> list[str]:
        verdicts = [(one["nodeid"], each) for one in self._tests for each in one["budgets"]]
        if not verdicts:
            return []
        kinds = (budget.OVER, budget.UNSURE, budget.UNMEASURED, budget.WITHIN)
        many = {kind: [one for one in verdicts if one[1]["verdict"] == kind] for kind in kinds}
        counts = ", ".join(f"{len(many[kind])} {kind}" for kind in kinds if many[kind])
        lines = [f"budgets: {counts}"]
        for kind in (budget.OVER, budget.UNSURE, budget.UNMEASURED):
            for nodeid, each in many[kind][:_MOST]:
                said = each["text"].removeprefix(f"{kind}: ")
                lines.append(f"  {kind}: {nodeid}: {said}")
            if len(many[kind]) > _MOST:
                lines.append(f"  {kind}: {len(many[kind]) - _MOST} more")
        return lines

    def _workers(self) -> list[str]:
        workers = {one["worker"] for one in self._tests} - {None}
        if len(workers) < 2:
            return []
        return [
            f"{len(workers)} workers ran at once, each metered by its own processes: what the "
            "machine used is divided among them by CPU time, so that nothing counts twice. Beside "
            "another test a test has other joules than alone"
        ]


def _lines_of(text: str) -> list[str]:
    """A sentence as lines of a terminal; what follows the first is indented."""
    indent = text[: len(text) - len(text.lstrip())]
    return wrapped(text.strip(), _WIDTH, indent, "  ")


_WIDTH = 80
"""Columns of a terminal."""


def _finite(value: Any) -> Any:
    """What JSON can hold: a number that is none is missing."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return value


def _table(tests: list[dict[str, Any]]) -> list[str]:
    rows = [("J", "95 % band", "W", "s", "test")]
    for one in tests:
        low, high = format_number(one["low_j"]), format_number(one["high_j"])
        remarks = "" if one["outcome"] == "passed" else f" ({one['outcome']})"
        runs = len(one["runs_j"])
        if runs > 1:
            remarks += f" (mean of {runs} runs)"
        rows.append(
            (
                format_number(one["energy_j"]),
                f"{low} .. {high}",
                _MISSING if one["watts"] is None else format_number(one["watts"]),
                _MISSING if one["seconds"] is None else format_number(one["seconds"]),
                # Before the columns are made equally wide: an escape is longer.
                printable(one["nodeid"]) + remarks,
            )
        )
    return aligned(rows, right=[0, 2, 3])


def _counted_texts(texts: list[str], before: str) -> list[str]:
    """Each text once, with how many tests say it, the most frequent first."""
    heard: dict[str, int] = {}
    for text in texts:
        heard[text] = heard.get(text, 0) + 1
    often = sorted(heard.items(), key=lambda one: -one[1])
    lines = [f"{before}{text} ({counted(many, 'test')})" for text, many in often[:_MOST]]
    if len(often) > _MOST:
        lines.append(f"{before}{len(often) - _MOST} other reasons")
    return lines
