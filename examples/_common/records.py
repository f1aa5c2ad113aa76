"""What is kept of a call, of a stage and of a run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

PHASES = ("read", "compute", "write")


@dataclass(frozen=True)
class CallRecord:
    """One call of one stage.

    Attributes:
        times: What the worker returned, a `FunctionTimes`: s by phase, and J where
            lithowatt metered there.
        stats: Lithops' stats of the call.
    """

    times: Any
    stats: dict[str, Any]

    @property
    def _metered(self) -> dict[str, Any]:
        """The stats where lithowatt made them; another meter's have the same names."""
        return self.stats if self.stats.get("worker_func_energy_schema") is not None else {}

    def _number(self, name: str, key: str) -> float | None:
        """The worker's own value, else that of the stats."""
        value = finite(getattr(self.times, name, None))
        return finite(self._metered.get(f"worker_func_{key}")) if value is None else value

    def _text(self, name: str) -> str | None:
        value = text(getattr(self.times, name, None))
        return text(self._metered.get(f"worker_func_{name}")) if value is None else value

    @property
    def seconds(self) -> float | None:
        """Length of the call as the meter saw it, else read + compute + write, s."""
        metered = finite(self._metered.get("worker_func_energy_duration"))
        return finite(self.times.total) if metered is None else metered

    @property
    def cpu_seconds(self) -> float | None:
        """CPU time of the call's process tree, s."""
        return self._number("cpu_time", "energy_cpu_time")

    @property
    def joules(self) -> float | None:
        """Best estimate, J."""
        return self._number("energy", "energy_consumption")

    @property
    def low(self) -> float | None:
        """Lower end of the 95 % band, J."""
        return self._number("energy_low", "energy_low")

    @property
    def high(self) -> float | None:
        """Upper end of the 95 % band, J."""
        return self._number("energy_high", "energy_high")

    @property
    def marginal(self) -> float | None:
        """Above idle, J: these may be added up over calls that overlap."""
        return self._number("energy_marginal", "energy_marginal")

    @property
    def amortised(self) -> float | None:
        """With the call's share of idle, J."""
        return self._number("energy_amortised", "energy_amortised")

    @property
    def definition(self) -> str | None:
        """Which of the two `joules` is: marginal or amortised."""
        return self._text("energy_definition")

    @property
    def quality(self) -> str | None:
        """measured, attributed or modelled."""
        return self._text("energy_quality")

    @property
    def method(self) -> str | None:
        """How the energy was obtained."""
        return self._text("energy_method")

    def phase_joules(self, phase: str) -> float | None:
        """Energy of one phase, J."""
        return self._number(f"energy_{phase}", f"energy_phase_{phase}")

    def phase_seconds(self, phase: str) -> float | None:
        """Length of one phase, s."""
        return finite(getattr(self.times, phase, None))

    def reasons(self) -> list[str]:
        """What a careful reader wants to know: warnings, and why something is missing."""
        if not self._metered:
            if self.joules is not None:
                return []
            return [f"no energy in the stats: {_why_not_metered()}"]
        found = [str(warning) for warning in self._metered.get("worker_func_energy_warnings") or []]
        missing = str(self._metered.get("worker_func_energy_source") or "")
        if missing.startswith("unavailable"):
            found.append(f"no energy: {missing}")
        return found + self.notes()

    def notes(self) -> list[str]:
        """What neither a warning nor the reason for no energy says of a call that was metered."""
        sources = {
            method: str(self._metered.get(f"worker_func_{method}_source") or "")
            for method in ("energy", "rapl", "perf", "psutil")
        }
        missing = {method for method, text in sources.items() if text.startswith("unavailable")}
        found = []
        if "energy" not in missing and {"rapl", "perf"} <= missing:
            # Either counter would do, and the probes only make shares finer.
            virtual = any("virtual machine" in sources[method] for method in ("rapl", "perf"))
            why = " (virtual machine)" if virtual else ""
            found.append(
                f"no energy counter here{why}: joules are the model's. `lithowatt doctor` explains."
            )
        if "psutil" in missing:
            found.append(f"psutil: {sources['psutil']}")
        return found

    def as_stats(self) -> dict[str, Any]:
        """The stats of the call, with the worker's own values where it has some."""
        own = {
            "duration": self.seconds,
            "cpu_time": self.cpu_seconds,
            "consumption": self.joules,
            "low": self.low,
            "high": self.high,
            "marginal": self.marginal,
            "amortised": self.amortised,
            "definition": self.definition,
            "quality": self.quality,
            "method": self.method,
        }
        if self.joules is None and not self._metered:
            own["source"] = f"unavailable: {_why_not_metered()}"
        return {**self._metered, **{f"worker_func_energy_{key}": own[key] for key in own}}

    def as_dict(self) -> dict[str, Any]:
        """For JSON: s and J."""
        return {
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "joules": self.joules,
            "joules_low": self.low,
            "joules_high": self.high,
            "joules_marginal": self.marginal,
            "joules_amortised": self.amortised,
            "definition": self.definition,
            "phase_seconds": {phase: self.phase_seconds(phase) for phase in PHASES},
            "phase_joules": {phase: self.phase_joules(phase) for phase in PHASES},
            "cold_start_seconds": finite(getattr(self.times, "cold_start", None)),
            "quality": self.quality,
            "method": self.method,
        }


@dataclass(frozen=True)
class MachineRecord:
    """The whole machine while a run lasted, all in J.

    Attributes:
        machine: Packages and memory; idle + tree + others.
        idle: What doing nothing would have used.
        tree: Above idle, of this process and all it started: driver, Lithops, workers.
        others: Above idle, of everybody else.
        seconds: Length of the window, s.
        method: How.
        reason: Why there is nothing, where there is nothing.
    """

    machine: float | None
    idle: float | None
    tree: float | None
    others: float | None
    seconds: float
    method: str | None
    reason: str | None


@dataclass(frozen=True)
class RunRecord:
    """One run of one configuration.

    Attributes:
        workers: As requested.
        memory: As requested, MiB.
        repetition: 1 is the first.
        seconds: From the first stage's submission to the last one's results, s.
        stages: Calls by stage.
        machine: The machine meanwhile.
        outcome: What the workload came to, one line.
        values: The same as values.
    """

    workers: int
    memory: int
    repetition: int
    seconds: float
    stages: dict[str, list[CallRecord]]
    machine: MachineRecord
    outcome: str
    values: dict[str, Any] = field(default_factory=dict)

    def calls(self) -> list[CallRecord]:
        """Of all stages."""
        return [call for calls in self.stages.values() for call in calls]

    def functions(self, attribute: str) -> float | None:
        """A sum over all calls; None if one has no value, or if their definitions differ."""
        if attribute == "joules" and definition_of(self.calls()) is None:
            return None
        return total(getattr(call, attribute) for call in self.calls())

    def rest(self) -> float | None:
        """Above idle, of the driver and of Lithops: this process's tree less the functions, J.

        None where the functions are not in the tree or were not measured by a counter.
        """
        functions = self.functions("marginal")
        if self.machine.tree is None or functions is None:
            return None
        return self.machine.tree - functions

    def as_dict(self) -> dict[str, Any]:
        """For JSON: s and J."""
        return {
            "workers": self.workers,
            "memory_mb": self.memory,
            "repetition": self.repetition,
            "seconds": self.seconds,
            "result": self.values,
            "stages": {
                stage: [call.as_dict() for call in calls] for stage, calls in self.stages.items()
            },
            "functions": {
                "joules": self.functions("joules"),
                "definition": definition_of(self.calls()),
                "joules_marginal": self.functions("marginal"),
            },
            "machine": {
                "joules": self.machine.machine,
                "idle_joules": self.machine.idle,
                "driver_and_lithops_joules": self.rest(),
                "others_joules": self.machine.others,
                "seconds": self.machine.seconds,
                "method": self.machine.method,
                "unavailable": self.machine.reason,
            },
        }


def definition_of(calls: Iterable[CallRecord]) -> str | None:
    """What the joules of all these calls are; None where they differ, for those have no sum."""
    said = {call.definition for call in calls if call.joules is not None}
    return said.pop() if len(said) == 1 else None


def finite(value: Any) -> float | None:
    """A number as it is; anything else, and what is no finite number, is None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def text(value: Any) -> str | None:
    """A text that says something, or None."""
    return value if isinstance(value, str) and value else None


def total(values: Iterable[float | None]) -> float | None:
    """The sum; None if one is missing, for a sum of the rest would look like all."""
    known = list(values)
    present = [value for value in known if value is not None]
    return math.fsum(present) if len(present) == len(known) and known else None


def mean(values: Sequence[float | None]) -> float | None:
    """The mean; None if one is missing or there is none."""
    added = total(values)
    return None if added is None else added / len(values)


def common(values: Iterable[str | None]) -> str:
    """The word that all share, or all the words; a dash where there is none."""
    words = sorted({value for value in values if value is not None})
    return "+".join(words) or "–"


def _why_not_metered() -> str:
    try:
        from lithowatt.lithops import status
    except ImportError:
        return "lithowatt is not installed where this runs"
    return str(status().reason or "the worker did not meter")
