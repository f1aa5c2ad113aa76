"""What is known of one execution: the common form of log entries, stats, readings and futures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from lithowatt._support.process import ProcessIdentity
from lithowatt.estimate import number
from lithowatt.stats import PREFIX, QUALITIES, value_of

#: Key of a log entry that no stats and no reading have.
METRICS = "energy_metrics"

_PHASE = "energy_phase_"


class Execution(NamedTuple):
    """One window of energy. Energies in J, times in s; ``None`` is what is not known.

    Attributes:
        stage: Its name.
        backend: Where it ran.
        joules: By `definition`.
        band: Ends of their 95 % band.
        marginal: Above idle, whatever the definition.
        definition: ``marginal`` or ``amortised``.
        quality: ``measured``, ``attributed`` or ``modelled``.
        method: How the energy was obtained.
        reason: Why there are no joules, ``None`` where there are.
        seconds: Length of the window.
        cpu_seconds: CPU time.
        cpu_usage: Mean use of the CPUs that it may use, 0 to 1.
        phases: Joules of each phase; they may lie inside each other.
        task: Of the whole task of a Lithops call, with the function.
        startup: Of the start of its worker, beside the task.
        cold: Whether its worker was started for it.
        window: Start and end on the monotonic clock, ns, of a reading.
        maker: The process of that window; ``None`` where it is not known.
        same: What two records of one window have in common.
    """

    stage: str | None
    backend: str | None
    joules: float | None
    band: tuple[float, float] | None
    marginal: float | None
    definition: str | None
    quality: str | None
    method: str | None
    reason: str | None
    seconds: float | None
    cpu_seconds: float | None
    cpu_usage: float | None
    phases: dict[str, float]
    task: float | None
    startup: float | None
    cold: bool | None
    window: tuple[int, int] | None
    maker: ProcessIdentity | None
    same: tuple[object, ...] | None


def executions(results: Any) -> Iterator[Execution]:
    """What was given, one by one.

    Raises:
        TypeError: For what is none of the things that `generate_energy_report` takes.
    """
    single = isinstance(results, Mapping) or hasattr(results, "stats") or _is_reading(results)
    if isinstance(results, (str, bytes)) or not (single or isinstance(results, Iterable)):
        raise TypeError(_expected(results))
    for one in [results] if single else results:
        yield _execution(one)


def _is_reading(one: Any) -> bool:
    from lithowatt.meter._reading import Reading

    return isinstance(one, Reading)


def _expected(one: Any) -> str:
    return (
        f"{type(one).__name__} is no execution: expected entries of an energy log, futures of "
        "Lithops, their stats, readings or meters"
    )


def _execution(one: Any) -> Execution:
    if isinstance(one, Mapping):
        if METRICS not in one:
            return execution(one)
        metrics = one[METRICS]
        if not isinstance(metrics, Mapping):
            metrics = {}
        return execution(metrics, _text(one.get("stage")), _text(one.get("backend")))
    if _is_reading(one):
        return of_reading(one)
    from lithowatt.meter._meter import EnergyMeter

    if isinstance(one, EnergyMeter):
        return of_reading(one.reading)
    stats = getattr(one, "stats", None)
    if isinstance(stats, Mapping):
        return execution(stats, _text(getattr(one, "function_name", None)))
    raise TypeError(_expected(one))


def of_reading(reading: Any) -> Execution:
    """Of a `Reading`, whose label is the stage."""
    found = execution(reading.flat(), reading.label)
    # Windows of a thread or of a coroutine lie beside each other in one process.
    if value_of(reading.flat(), "energy_scope") != "process":
        return found
    return found._replace(window=reading.window_ns, maker=reading._maker)


def execution(
    stats: Mapping[str, Any], stage: str | None = None, backend: str | None = None
) -> Execution:
    """Of stats of either form."""

    def value(key: str) -> float | None:
        found = number(value_of(stats, key))
        return None if found is None or found < 0 else found

    joules, low, high = value("energy_consumption"), value("energy_low"), value("energy_high")
    band = None
    if joules is not None and low is not None and high is not None and low <= joules <= high:
        band = (low, high)
    known = joules is not None
    usage = value("avg_cpu_usage")
    cold = stats.get("worker_task_cold_start")
    same = (
        *(value(key) for key in ("energy_consumption", "energy_duration", "energy_cpu_time")),
        number(stats.get("worker_func_start_tstamp")),
    )
    return Execution(
        stage=stage,
        backend=backend,
        joules=joules,
        band=band,
        marginal=value("energy_marginal") if known else None,
        definition=_text(value_of(stats, "energy_definition")) if known else None,
        quality=_text(value_of(stats, "energy_quality")) if known else None,
        method=_text(value_of(stats, "energy_method")) if known else None,
        reason=None if known else _reason(stats),
        seconds=value("energy_duration"),
        cpu_seconds=value("energy_cpu_time"),
        cpu_usage=None if usage is None else usage / 100,
        phases=dict(_phases(stats)),
        task=number(stats.get("worker_task_energy_consumption")),
        startup=number(stats.get("worker_task_energy_startup")),
        cold=cold if isinstance(cold, bool) else None,
        window=None,
        maker=None,
        # Times in nanoseconds: two windows with the same ones are one.
        same=same if same[1] is not None and same[2] is not None else None,
    )


def _phases(stats: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for key, given in stats.items():
        name = str(key).removeprefix(PREFIX)
        joules = number(given)
        if name.startswith(_PHASE) and joules is not None and joules >= 0:
            yield name[len(_PHASE) :], joules


def _reason(stats: Mapping[str, Any]) -> str:
    source = _text(value_of(stats, "energy_source"))
    if source is not None:
        return source.removeprefix("unavailable: ")
    return "there is no energy_consumption in its metrics"


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


class Total:
    """A sum of executions, each added once; nothing of it is stored but numbers.

    Marginal and amortised joules are never added to each other. Where both occur, the sum is of
    what is above idle, which each knows, and has no band, because stats have that of the headline
    only. The band goes from the sum of the lower to that of the upper ends: the error of a model
    is mostly common to all, and does not average out.
    """

    def __init__(self) -> None:
        self.executions = 0
        self.measured = 0
        self._seconds = self._cpu_seconds = 0.0
        #: Of those that have joules, and of those of them that have seconds.
        self._timed = self._cpu_timed = 0
        self._joules: dict[str | None, float] = {}
        self._low = self._high = self._marginal = 0.0
        self._banded = self._marginals = 0
        self._mean = self._squares = 0.0
        self._qualities: set[str] = set()
        self.methods: dict[str, int] = {}
        self.reasons: dict[str, int] = {}

    def add(self, one: Execution) -> None:
        """Adds one more."""
        self.executions += 1
        if one.joules is None:
            _count(self.reasons, one.reason or "no reason was given")
            return
        self.measured += 1
        self._joules[one.definition] = self._joules.get(one.definition, 0.0) + one.joules
        step = one.joules - self._mean
        self._mean += step / self.measured
        self._squares += step * (one.joules - self._mean)
        if one.band is not None:
            self._banded += 1
            self._low += one.band[0]
            self._high += one.band[1]
        if one.marginal is not None:
            self._marginals += 1
            self._marginal += one.marginal
        if one.seconds is not None:
            self._timed += 1
            self._seconds += one.seconds
        if one.cpu_seconds is not None:
            self._cpu_timed += 1
            self._cpu_seconds += one.cpu_seconds
        if one.quality in QUALITIES:
            self._qualities.add(str(one.quality))
        _count(self.methods, one.method or "unknown")

    @property
    def definition(self) -> str | None:
        """Of `joules`."""
        if len(self._joules) > 1:
            return "marginal"
        return next(iter(self._joules), None)

    @property
    def joules(self) -> float | None:
        """Of those that have joules, J; ``None`` where none has or they cannot be added."""
        if not self.measured:
            return None
        if len(self._joules) > 1:
            return self._marginal if self._marginals == self.measured else None
        return next(iter(self._joules.values()))

    @property
    def band(self) -> tuple[float, float] | None:
        """The ends of the band of `joules`, J; ``None`` where one has none."""
        if not self.measured or len(self._joules) > 1 or self._banded < self.measured:
            return None
        return self._low, self._high

    @property
    def reason(self) -> str | None:
        """Why `joules` is ``None``."""
        if self.joules is not None:
            return None
        if not self.executions:
            return "there are no executions"
        if self.measured:
            return "their definitions differ, and not all know what is above idle"
        (often, *_) = sorted(self.reasons.items(), key=lambda one: -one[1])
        return often[0]

    @property
    def quality(self) -> str | None:
        """The worst of them."""
        return max(self._qualities, key=QUALITIES.index, default=None)

    @property
    def seconds(self) -> float | None:
        """Of those that have joules, added, s; ``None`` where one has none."""
        return self._seconds if self.measured and self._timed == self.measured else None

    @property
    def cpu_seconds(self) -> float | None:
        """CPU time of those that have joules, added, s; ``None`` where one has none."""
        return self._cpu_seconds if self.measured and self._cpu_timed == self.measured else None

    def as_dict(self) -> dict[str, Any]:
        """Numbers for JSON: joules and their mean with bands, how many, and why not all."""
        joules, band, n = self.joules, self.band, self.measured
        spread = len(self._joules) == 1 and n > 1
        return {
            "executions": self.executions,
            "measured": n,
            "not_measured": self.executions - n,
            "reasons": dict(self.reasons),
            "joules": joules,
            "joules_low": band[0] if band else None,
            "joules_high": band[1] if band else None,
            "mean_joules": joules / n if joules is not None else None,
            "mean_joules_low": band[0] / n if band else None,
            "mean_joules_high": band[1] / n if band else None,
            "sd_joules": math.sqrt(self._squares / (n - 1)) if spread else None,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "definition": self.definition,
            "quality": self.quality,
            "methods": dict(self.methods),
            "reason": self.reason,
        }


#: Different texts that are counted apart; more are one.
MOST_TEXTS = 100


def _count(counts: dict[str, int], text: str) -> None:
    if text not in counts and len(counts) >= MOST_TEXTS:
        text = "others"
    counts[text] = counts.get(text, 0) + 1
