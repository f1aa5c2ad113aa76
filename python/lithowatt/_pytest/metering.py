"""In the process that runs tests: a window around each, and the verdict on its budget."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lithowatt import _core
from lithowatt._pytest import budget
from lithowatt._support.arguments import shown
from lithowatt._support.harmless import Harmless, described
from lithowatt._support.text import printable
from lithowatt.errors import LithowattError, UnavailableError
from lithowatt.meter._meter import EnergyMeter
from lithowatt.pytest_plugin import RECORD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lithowatt.meter._reading import Reading

#: Names of the properties of a test in JUnit's XML begin with this.
PROPERTY = "lithowatt_"

_IN_XML = ("energy_j", "low_j", "high_j", "quality", "method", "definition", "reason")


class Metering:
    """A plugin: meters the call phase of tests.

    One meter for all of them. It has the settings of the session's start, so that a test that
    changes the environment or the root of ``/proc`` is metered as any other. It has no thread of
    its own unless ``ENERGY_COLLECTION_INTERVAL`` asks for one: Python 3.12 and later warn where a
    process with several threads forks, and a test may turn warnings into errors.
    """

    def __init__(self, config: pytest.Config, *, everything: bool) -> None:
        self._config = config
        self._everything = everything
        self._asked: dict[str, budget.Asked | None] = {}
        self._windows: dict[str, _Window] = {}
        self._records: dict[str, dict[str, Any]] = {}
        self._baselines: dict[str, dict[str, budget.Before]] = {}
        interval = "auto" if os.environ.get("ENERGY_COLLECTION_INTERVAL") else None
        self._meter: EnergyMeter | None = None
        self._reason = "the meter could not be made"
        self._processor: str | None = None
        top = Path(os.environ.get("LITHOWATT_ROOT") or "/")
        made = Harmless("making the meter of the tests")
        with made:
            try:
                self._meter = EnergyMeter(_methods(top), interval=interval)  # type: ignore[arg-type]
            except (LithowattError, OSError) as error:
                self._reason = described(error)
            self._processor = _core.cpu_identity(top)["name"]
        self._reason = made.trouble or self._reason
        self._session_baseline: str | None = None
        named = config.getoption("lithowatt_baseline", None)
        if named:
            self._session_baseline = str(Path(config.invocation_params.dir, named))
            try:
                self._baseline(self._session_baseline)
            except (OSError, LithowattError) as error:
                raise pytest.UsageError(f"--lithowatt-baseline: {printable(str(error))}") from None

    def _baseline(self, path: str) -> dict[str, budget.Before]:
        if path not in self._baselines:
            self._baselines[path] = budget.read_baseline(path)
        return self._baselines[path]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        mark = item.get_closest_marker("energy")
        if mark is None:
            return
        wrong = None
        try:
            self._asked[item.nodeid] = asked = self._checked(mark)
        except (TypeError, ValueError, OSError) as error:
            wrong = printable(str(error))
        if wrong is not None:  # outside of the handler, whose exception would be shown, too
            pytest.fail(f"@pytest.mark.energy: {wrong}", pytrace=False)
        if asked.repeats > 1:
            # Before the test may do something to imports. Not for all sessions: NumPy may have
            # threads, and Python warns where a process with threads forks.
            with Harmless("loading what judges several runs"):
                import lithowatt.analysis.intervals  # noqa: F401

    def _checked(self, mark: pytest.Mark) -> budget.Asked:
        asked = budget.asked(mark.args, dict(mark.kwargs))
        file = self._file_of(asked)
        if file is not None:
            self._baseline(file)
        elif asked.baseline is not None and self._session_baseline is None:
            raise ValueError(
                f"baseline={shown(asked.baseline)} is the name of a test in the file of "
                "--lithowatt-baseline, which is not given; the name of a file ends in .json"
            )
        return asked

    def _file_of(self, asked: budget.Asked) -> str | None:
        """The marker's own file, beside which the session's does not count."""
        if asked.baseline is None or not asked.baseline.endswith(".json"):
            return None
        return str(Path(self._config.rootpath, asked.baseline))

    # The innermost: what other plugins do around a test is not its energy.
    @pytest.hookimpl(hookwrapper=True, trylast=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        asked = self._asked.pop(item.nodeid, None)
        if asked is None and not self._everything:
            yield
            return
        window = self._windows[item.nodeid] = _Window(self._meter, self._reason)
        window.asked = asked
        window.start()
        yield
        # Still running where the test raised: else the judge has stopped it.
        window.stop()
        self._windows.pop(item.nodeid, None)
        kept = Harmless("keeping the energy of a test")
        with kept:
            self._keep(item, window)
        if kept.trouble:
            with Harmless("keeping that nothing could be kept"):
                self._records[item.nodeid] = {
                    **_nothing(kept.trouble),
                    **self._place(item),
                    "budgets": [one._asdict() for one in window.verdicts],
                }

    def _place(self, item: pytest.Item) -> dict[str, Any]:
        """Which test it was, and where it ran."""
        worker = getattr(self._config, "workerinput", {}).get("workerid")
        return {
            "nodeid": _own_nodeid(item),
            "worker": worker,
            "processor": self._processor,
        }

    def judge(self, item: pytest.Item) -> None:
        """Ends the window of a test that passed; fails it where it is over its budget."""
        window = self._windows.get(item.nodeid)
        if window is None:
            return
        window.stop()
        asked = window.asked
        for _ in range(1, asked.repeats if asked else 1):
            window.start()
            try:
                item.runtest()
            finally:
                window.stop()
        judged = Harmless("judging the energy of a test")
        with judged:
            window.verdicts = list(self._verdicts(_own_nodeid(item), window))
        if judged.trouble:
            # A budget that was not looked at is not kept.
            window.verdicts = [
                budget.unmeasured(kind, judged.trouble) for kind in self._kinds(asked)
            ]
        strict = bool(self._config.getoption("lithowatt_strict", False))
        failing = {budget.OVER, budget.UNMEASURED} if strict else {budget.OVER}
        over = [one.text for one in window.verdicts if one.verdict in failing]
        if over:
            pytest.fail("energy budget: " + printable("; ".join(over)), pytrace=False)

    def _kinds(self, asked: budget.Asked | None) -> Iterator[str]:
        """The budgets that a test has."""
        if asked is not None and asked.max_joules is not None:
            yield "max_joules"
        if self._session_baseline is not None or (asked is not None and asked.baseline is not None):
            yield "baseline"

    def _verdicts(self, nodeid: str, window: _Window) -> Iterator[budget.Verdict]:
        asked = window.asked or budget.Asked()
        energy = window.energy()
        reason = window.reason or "the meter gave no reason"
        if asked.max_joules is not None:
            if energy is None:
                yield budget.unmeasured("max_joules", reason)
            else:
                yield budget.by_maximum(energy, asked.max_joules)
        file = self._file_of(asked)
        path = file or self._session_baseline
        if path is None:
            return
        name = nodeid if file or asked.baseline is None else asked.baseline
        before = self._baseline(path).get(name)
        if before is None:
            # Of all tests that are compared, one may be new; one that asks for it is told.
            if asked.baseline is not None:
                why = f"the baseline has no energy of {name}"
                yield budget.unmeasured("baseline", why)
        elif energy is None:
            yield budget.unmeasured("baseline", reason)
        else:
            way = (window.common("method"), window.common("definition"), self._processor)
            alike = budget.different(way, before.way)
            yield budget.by_baseline(energy, before.energy, asked.margin, alike)

    def _keep(self, item: pytest.Item, window: _Window) -> None:
        record = {**window.record(), **self._place(item)}
        self._records[item.nodeid] = record
        # A test that is run again has those of its last run.
        item.user_properties[:] = [
            one for one in item.user_properties if not str(one[0]).startswith(PROPERTY)
        ]
        shown = [(name, record[name]) for name in _IN_XML]
        shown += [(f"budget_{one['kind']}", one["text"]) for one in record["budgets"]]
        item.user_properties += [
            (PROPERTY + name, value) for name, value in shown if value is not None
        ]

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Iterator[None]:
        outcome: Any = yield
        # Subtests make reports of their own while the test still runs.
        if call.when == "call" and item.nodeid not in self._windows:
            with Harmless("adding the energy of a test to its report"):
                record = self._records.pop(item.nodeid, None)
                if record is not None:
                    setattr(outcome.get_result(), RECORD, record)


def _methods(top: Path) -> str:
    """All that give energy: what `psutil` adds to a window takes longer than all the rest."""
    if os.environ.get("ENERGY_METHODS"):
        return "auto"
    methods = "counters,model"
    try:
        _core.Probes(top)
    except UnavailableError:
        return methods  # to name `ebpf` would load the probes
    return f"{methods},ebpf"


def _own_nodeid(item: pytest.Item) -> str:
    """A test's name without the ``@group`` that xdist's ``--dist loadgroup`` adds."""
    nodeid = item.nodeid
    if not getattr(item.config.option, "loadgroup", False):
        return nodeid
    if next(item.iter_markers("xdist_group"), None) is None:
        return nodeid
    # A group may have any name, with an @ in it, too.
    own, at, _ = nodeid.partition(f"::{item.name}@")
    return f"{own}::{item.name}" if at else nodeid


def _nothing(reason: str) -> dict[str, Any]:
    """The record of a test without joules."""
    numbers = ("energy_j", "low_j", "high_j", "watts", "seconds", "cpu_seconds")
    words = ("quality", "method", "definition")
    return {
        **dict.fromkeys(numbers + words),
        "runs_j": [],
        "reason": reason,
        "warnings": [],
        "budgets": [],
    }


class Judge:
    """A plugin: what is to be done right after a test that raised nothing.

    Its hook is called after the one that runs the test, and is not called where that raised.
    """

    def __init__(self, metering: Metering) -> None:
        self._metering = metering

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_call(self, item: pytest.Item) -> None:
        self._metering.judge(item)


class _Window:
    """The runs of one test. Nothing here raises."""

    def __init__(self, meter: EnergyMeter | None, reason: str) -> None:
        self._meter = meter
        self._running = False
        self._readings: list[Reading] = []
        self._energy: tuple[int, budget.Energy | None] = (0, None)
        self.reason: str | None = None if meter else reason
        self.asked: budget.Asked | None = None
        self.verdicts: list[budget.Verdict] = []

    def start(self) -> None:
        if self._meter is None:
            return
        trouble = Harmless("metering a test")
        with trouble:
            # It runs where a test was left by force, or runs pytest with this very plugin.
            if self._meter.running:
                self._meter.stop()
            self._meter.start()
            self._running = True
        self._missed(trouble)

    def stop(self) -> None:
        if self._meter is None or not self._running:
            return
        self._running = False
        trouble = Harmless("metering a test")
        with trouble:
            self._meter.stop()
            reading = self._meter.reading
            self._readings.append(reading)
            self.reason = self.reason or reading.reason
        self._missed(trouble)

    def _missed(self, trouble: Harmless) -> None:
        if trouble.trouble:
            self.reason = self.reason or trouble.trouble

    def energy(self) -> budget.Energy | None:
        """Of all runs; ``None`` where one of them has none."""
        if self.reason:
            return None
        many, energy = self._energy
        if many != len(self._readings):
            found = [one.headline for one in self._readings]
            known = [(one.value, one.low, one.high) for one in found if one is not None]
            energy = budget.together(known) if len(known) == len(found) else None
            self._energy = (len(found), energy)
        return energy

    def common(self, name: str) -> str | None:
        """What the runs have in common, such as their method."""
        values = dict.fromkeys(getattr(one, name) for one in self._readings)
        return ", ".join(str(one) for one in values if one is not None) or None

    def record(self) -> dict[str, Any]:
        """What is sent to whoever reports: values that JSON and execnet can hold."""
        energy = self.energy()
        readings = self._readings
        many = len(readings) or 1
        seconds = sum(one.duration for one in readings) / many if readings else None
        cpu = [one.cpu_seconds for one in readings]
        measured = energy is not None
        return {
            "energy_j": energy.joules if energy else None,
            "low_j": energy.low if energy else None,
            "high_j": energy.high if energy else None,
            "runs_j": list(energy.runs) if energy else [],
            "watts": energy.joules / seconds if energy and seconds else None,
            "seconds": seconds,
            "cpu_seconds": None if None in cpu or not cpu else sum(filter(None, cpu)) / many,
            "quality": self.common("quality") if measured else None,
            "method": self.common("method") if measured else None,
            "definition": self.common("definition") if measured else None,
            "reason": None if measured else self.reason or "the meter gave no reason",
            "warnings": list(dict.fromkeys(text for one in readings for text in one.warnings)),
            "budgets": [one._asdict() for one in self.verdicts],
        }
