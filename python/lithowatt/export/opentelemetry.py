"""Energy in OpenTelemetry: the machine's counters as metrics, calls as spans and a histogram.

Names of the machine's metrics, units and attributes are those of the semantic conventions for
hardware (https://opentelemetry.io/docs/specs/semconv/hardware/, status Development), those of calls
of the conventions for FaaS and source code; what they have no name for is below ``lithowatt.``.
Only the API is used: without an SDK that the program sets up, nothing is collected.
"""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from lithowatt import _core
from lithowatt._support.harmless import Harmless
from lithowatt._support.install import pip_install
from lithowatt._support.process import ForkSafeLock
from lithowatt.estimate import number
from lithowatt.export._rows import TIME, Energy, energy_of, rows_of
from lithowatt.meter._measure import measure
from lithowatt.meter._meter import EnergyMeter
from lithowatt.stats import value_of

if TYPE_CHECKING:
    import os
    from types import TracebackType

    from opentelemetry.metrics import MeterProvider, Observation
    from opentelemetry.trace import Span, TracerProvider

    from lithowatt.export import Source
    from lithowatt.meter._reading import Reading

__all__ = ["EnergyRecorder", "Instrumentation", "instrument"]

_F = TypeVar("_F", bound=Callable[..., Any])

SAMPLE_SECONDS = 1.0
"""Between two samples of the machine: no counter goes round within it."""

BUCKETS_JOULES = tuple(factor * 10.0**power for power in range(-3, 6) for factor in (1, 2, 5))
"""Bounds of the histogram's buckets, J: from a function of a millisecond to a job of an hour."""

_TYPES = {"package": "cpu", "dram": "memory", "gpu": "gpu"}
"""``hw.type`` of the domains that are added up; others lie within them, or hold them."""

#: Readings within this time are one: a collection asks for each instrument.
_ONE_LOOK_SECONDS = 0.2

#: A shorter time has no power: counters move in steps.
_LEAST_SECONDS = 0.5


def _api() -> Any:
    try:
        import opentelemetry.context
        import opentelemetry.metrics
        import opentelemetry.trace
    except ImportError as error:
        missing = pip_install("opentelemetry-api")
        raise ImportError(f"this needs OpenTelemetry's API: {missing}") from error
    return opentelemetry


# --- the machine -----------------------------------------------------------------------------


class _Rise(NamedTuple):
    """A counter at one look.

    Attributes:
        joules: Since the instrumentation began.
        watts: Mean since the look before, and of at least half a second; ``None`` at the first.
    """

    joules: float
    watts: float | None


class Instrumentation:
    """Observable instruments of this machine and of this process, until `stop`.

    Counters count from `instrument` on, so a new process begins at 0 with a start time of its own,
    as OpenTelemetry has it, and no counter ever goes back. What cannot be read is not observed.
    """

    def __init__(self, provider: MeterProvider | None, meter: EnergyMeter) -> None:
        api = _api()
        self._observation = api.metrics.Observation
        self._meter = meter
        self._lock = ForkSafeLock()
        self._looked = float("-inf")
        self._method: str | None = None
        self._highest: dict[str, float] = {}
        #: Of each counter what the last power was made at: J, s, W.
        self._paces: dict[str, tuple[float, float, float | None]] = {}
        self._zones: dict[str, tuple[dict[str, str], _Rise]] = {}
        self._psys: dict[str, tuple[dict[str, str], _Rise]] = {}
        self._own: dict[tuple[str, str, str], float] = {}
        self._own_highest = 0.0
        meter.start()
        make = api.metrics.get_meter("lithowatt", _core.__version__, provider)
        joules, watts = "J", "W"
        make.create_observable_counter(
            "hw.energy",
            [self._energy_of(lambda: self._zones)],
            joules,
            "Energy of packages, of memory and of GPUs, each by its counter.",
        )
        make.create_observable_gauge(
            "hw.power",
            [self._power_of(lambda: self._zones)],
            watts,
            "Mean power since the collection before.",
        )
        make.create_observable_counter(
            "hw.host.energy",
            [self._energy_of(lambda: self._psys)],
            joules,
            "Energy of the whole platform (psys), where it has a counter.",
        )
        make.create_observable_gauge(
            "hw.host.power",
            [self._power_of(lambda: self._psys)],
            watts,
            "Mean power of the whole platform since the collection before.",
        )
        make.create_observable_counter(
            "lithowatt.process.energy",
            [self._observe_own],
            joules,
            "Energy of this process and its descendants.",
        )

    def stop(self) -> None:
        """Ends it: nothing is observed any more. Once is enough; more does nothing."""
        with self._lock.here():
            if self._meter.running:
                self._meter.stop()
            self._zones, self._psys, self._own = {}, {}, {}

    def _look(self) -> None:
        """Reads the machine, unless that was just done; with the lock held."""
        if not self._meter.running:
            # Stopped, or a child of the process that began it.
            self._zones, self._psys, self._own = {}, {}, {}
            return
        now = time.monotonic()
        if now - self._looked < _ONE_LOOK_SECONDS:
            return
        self._looked = now
        reading = self._meter.reading
        there = [zone for zone in reading.zones if zone.joules is not None]
        if self._method is None:
            # One and the same for good: two that count the same would be added up.
            methods = {zone.method for zone in there if zone.domain == "package"}
            self._method = "rapl" if "rapl" in methods else min(methods, default=None)
        zones, psys = {}, {}
        for zone in there:
            # A GPU is in no package, whoever tells of it.
            counted = zone.method == self._method or zone.domain == "gpu"
            if not counted or zone.joules is None:
                continue
            key = f"{zone.method}/{zone.name}"
            labels = {"hw.id": key, "hw.name": zone.name}
            if zone.domain == "psys":
                psys[key] = labels, self._rise(key, zone.joules, now)
            elif zone.domain in _TYPES:
                labels["hw.type"] = _TYPES[zone.domain]
                zones[key] = labels, self._rise(key, zone.joules, now)
        self._zones, self._psys = zones, psys
        own = reading.joules
        # An estimate may come down when more is known; what was told stays told.
        if own is not None and own > self._own_highest:
            kind = (reading.quality or "", reading.method or "", reading.definition or "")
            self._own[kind] = self._own.get(kind, 0.0) + own - self._own_highest
            self._own_highest = own

    def _rise(self, key: str, joules: float, now: float) -> _Rise:
        joules = max(joules, self._highest.get(key, 0.0))
        self._highest[key] = joules
        before, then, watts = self._paces.setdefault(key, (joules, now, None))
        if now - then >= _LEAST_SECONDS:
            watts = (joules - before) / (now - then)
            self._paces[key] = joules, now, watts
        return _Rise(joules, watts)

    def _observed(
        self, found: Callable[[], Iterable[tuple[float, Mapping[str, str]]]]
    ) -> list[Observation]:
        with Harmless("observing the machine"), self._lock.here():
            self._look()
            return [self._observation(value, dict(labels)) for value, labels in found()]
        return []

    def _energy_of(self, zones: Callable[[], Any]) -> Callable[[Any], list[Observation]]:
        def observe(_: Any) -> list[Observation]:
            return self._observed(
                lambda: [(rise.joules, labels) for labels, rise in zones().values()]
            )

        return observe

    def _power_of(self, zones: Callable[[], Any]) -> Callable[[Any], list[Observation]]:
        def observe(_: Any) -> list[Observation]:
            return self._observed(
                lambda: [
                    (rise.watts, labels)
                    for labels, rise in zones().values()
                    if rise.watts is not None
                ]
            )

        return observe

    def _observe_own(self, _: Any) -> list[Observation]:
        names = ("quality", "method", "definition")
        return self._observed(
            lambda: [
                (joules, {f"lithowatt.energy.{name}": v for name, v in zip(names, kind)})  # noqa: B905
                for kind, joules in self._own.items()
            ]
        )


def instrument(
    meter_provider: MeterProvider | None = None,
    *,
    root: str | os.PathLike[str] | None = None,
) -> Instrumentation:
    """Registers observable instruments of this machine and of this process.

    | metric | kind | unit | |
    |---|---|---|---|
    | ``hw.energy`` | counter | J | packages, memory, GPUs: ``hw.id``, ``hw.name``, ``hw.type`` |
    | ``hw.power`` | gauge | W | their mean power since the collection before |
    | ``hw.host.energy`` | counter | J | the platform's counter (psys), where there is one |
    | ``hw.host.power`` | gauge | W | its mean power since the collection before |
    | ``lithowatt.process.energy`` | counter | J | this process and its descendants |

    Cores and uncore lie within a package and are not told, so that ``hw.energy`` can be added up;
    where both powercap and perf count, one of them is told. Packages and memory are not the whole
    host, so ``hw.host.energy`` is there only where the machine has a counter of the platform. Where
    this process may not read the counters, a node agent's ring is read. A thread takes a sample
    each second.

    Args:
        meter_provider: That of the program's SDK; the global one by default.
        root: Where ``/sys`` and ``/proc`` are, as for `EnergyMeter`.

    Raises:
        ImportError: OpenTelemetry's API is missing, with the command that installs it.

    Example:
        >>> from opentelemetry.sdk.metrics import MeterProvider
        >>> from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        >>> reader = InMemoryMetricReader()
        >>> energy = instrument(MeterProvider([reader]))
        >>> data = reader.get_metrics_data()
        >>> energy.stop()
    """
    _api()
    return Instrumentation(
        meter_provider, EnergyMeter(interval=SAMPLE_SECONDS, root=root, label="opentelemetry")
    )


# --- calls -----------------------------------------------------------------------------------


class EnergyRecorder:
    """Puts the energy of calls on spans and into metrics.

    | metric | kind | unit | |
    |---|---|---|---|
    | ``lithowatt.function.energy`` | histogram | J | a call each; its sum is a counter of joules |
    | ``lithowatt.function.calls`` | counter | {call} | quality ``none``: without energy |

    Both have ``code.function.name`` and ``lithowatt.energy.quality``, ``…method`` and
    ``…definition``. Spans get ``lithowatt.energy.joules``, the ends of its 95 % band in
    ``lithowatt.energy.low`` and ``lithowatt.energy.high`` (J), quality, method and definition,
    ``lithowatt.cpu_time`` (s), or ``lithowatt.energy.reason`` where there is no energy.

    It may be pickled, with functions that it decorates. Providers stay behind: where it arrives it
    takes the global ones, and where OpenTelemetry is missing there it does nothing.

    Args:
        tracer_provider: That of the program's SDK; the global one by default.
        meter_provider: As well.

    Raises:
        ImportError: OpenTelemetry's API is missing, with the command that installs it.

    Example:
        >>> from lithowatt import measure
        >>> recorder = EnergyRecorder()
        >>> @measure(on_result=recorder.on_result)
        ... def work(n):
        ...     return sum(range(n))
        >>> work(1000)
        499500
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        api = _api()
        self._trace, self._context = api.trace, api.context
        self._tracer = api.trace.get_tracer("lithowatt", _core.__version__, tracer_provider)
        meter = api.metrics.get_meter("lithowatt", _core.__version__, meter_provider)
        self._energy = meter.create_histogram(
            "lithowatt.function.energy",
            "J",
            "Energy of calls.",
            explicit_bucket_boundaries_advisory=BUCKETS_JOULES,
        )
        self._calls = meter.create_counter("lithowatt.function.calls", "{call}", "Calls.")

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, ()

    def on_result(self, meter: EnergyMeter) -> None:
        """For ``@measure(on_result=recorder.on_result)``: puts the call on the current span and
        into the metrics. What goes wrong in it is logged and dropped."""
        if self._trace is None:
            return
        with Harmless("recording the energy of a call", foreign=True):
            self.annotate(meter.reading)

    def annotate(self, reading: Reading | EnergyMeter, span: Span | None = None) -> None:
        """Puts a reading on a span, the current one by default, and into the metrics."""
        if self._trace is None:
            return
        span = self._trace.get_current_span() if span is None else span
        for row in rows_of(reading):
            span.set_attributes(_of_span(row))
            self._count(energy_of(row))

    def record(self, source: Source) -> int:
        """Finished calls as spans below the current one, each from its start to its end, and into
        the metrics; how many calls there were.

        For Lithops: ``recorder.record(futures)`` once their results are there. Spans have
        ``faas.coldstart``, ``faas.invocation_id``, ``faas.max_memory``, ``faas.invoked_provider``
        and ``faas.invoked_region`` as far as the stats tell. A call whose time is not known counts
        in the metrics and has no span.

        Args:
            source: As for `lithowatt.export.write`.

        Raises:
            TypeError: The source is none of these.
            MalformedValueError: A file holds something else than JSON objects.
            OSError: A file cannot be read.
        """
        calls = 0
        for row in rows_of(source):
            calls += 1
            if self._trace is None:
                continue
            one = energy_of(row)
            self._count(one)
            began, ended = _times(row)
            if began is None or ended is None:
                continue
            span = self._tracer.start_span(
                one.function or "call", attributes=_of_span(row), start_time=began
            )
            span.end(ended)
        return calls

    def traced(self, function: _F | None = None, /, **options: Any) -> Any:
        """Decorates a function: each call is a span, with its energy on it.

        It runs whatever becomes of the span. Generators have no one span: decorate them with
        ``@measure(on_result=recorder.on_result)``. The meter of the last call is the attribute
        ``__wrapped__.meter``.

        Args:
            function: What to decorate, when used without arguments; a coroutine function, a
                ``staticmethod`` or a ``classmethod``, too.
            **options: As for `measure`.

        Raises:
            TypeError: For a generator function, a class, a property, and what cannot be called.

        Example:
            >>> recorder = EnergyRecorder()
            >>> @recorder.traced
            ... def work(n):
            ...     return sum(range(n))
            >>> work(1000)
            499500
        """
        if function is None:
            return functools.partial(self.traced, **options)
        if isinstance(function, (staticmethod, classmethod)):
            return type(function)(self.traced(function.__func__, **options))
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"{function.__qualname__} is a generator function, which has no one span; expected "
                "a function or a coroutine function (see measure(on_result=…))"
            )
        if not callable(function):
            raise TypeError(
                f"{type(function).__name__} cannot be called; expected a function or a coroutine "
                "function"
            )
        metered = measure(on_result=self.on_result, **options)(function)
        name = getattr(function, "__qualname__", None) or type(function).__name__

        of_instances: Any = type(function).__call__
        if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(of_instances):

            @functools.wraps(metered)
            async def call(*args: Any, **kwargs: Any) -> Any:
                if self._trace is None:
                    return await metered(*args, **kwargs)
                with _Traced(self, name):
                    return await metered(*args, **kwargs)

        else:

            @functools.wraps(metered)
            def call(*args: Any, **kwargs: Any) -> Any:
                if self._trace is None:
                    return metered(*args, **kwargs)
                with _Traced(self, name):
                    return metered(*args, **kwargs)

        return call

    def _count(self, one: Energy) -> None:
        labels = {"lithowatt.energy.quality": one.quality}
        for key, value in (
            ("code.function.name", one.function),
            ("lithowatt.energy.method", one.method),
            ("lithowatt.energy.definition", one.definition),
        ):
            if value:
                labels[key] = value
        self._calls.add(1, labels)
        if one.joules is not None:
            self._energy.record(one.joules, labels)


def _arrived() -> EnergyRecorder:
    """A recorder that was pickled elsewhere."""
    try:
        return EnergyRecorder()
    except ImportError:
        inert = EnergyRecorder.__new__(EnergyRecorder)
        inert._trace = inert._context = inert._tracer = inert._energy = inert._calls = None
        return inert


class _Traced:
    """A span around a call, which runs whatever becomes of the span: who processes spans may fail.

    Attributes:
        span: ``None`` where it could not be begun.
    """

    def __init__(self, recorder: EnergyRecorder, name: str) -> None:
        self._trace, self._context = recorder._trace, recorder._context
        self._tracer, self._name = recorder._tracer, name
        self.span: Any = None
        self._token: Any = None

    def __enter__(self) -> None:
        with Harmless("beginning a span", foreign=True):
            self.span = self._tracer.start_span(
                self._name, attributes={"code.function.name": self._name}
            )
            self._token = self._context.attach(self._trace.set_span_in_context(self.span))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with Harmless("ending a span", foreign=True):
            if self._token is not None:
                self._context.detach(self._token)
        with Harmless("ending a span", foreign=True):
            if self.span is not None and isinstance(error, Exception):
                self.span.record_exception(error)
                self.span.set_status(
                    self._trace.Status(self._trace.StatusCode.ERROR, type(error).__name__)
                )
        with Harmless("ending a span", foreign=True):
            if self.span is not None:
                self.span.end()


def _times(row: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Start and end of a call, ns since 1970."""
    ended = row.get(TIME)
    began = number(row.get("worker_start_tstamp"))
    if ended is None:
        return None, None
    if began is not None and 0 < began * 1e9 <= ended:
        return round(began * 1e6) * 1000, ended
    seconds = number(row.get("energy_duration"))
    return (None if seconds is None else ended - round(seconds * 1e9)), ended


def _of_span(row: Mapping[str, Any]) -> dict[str, Any]:
    return dict(_attributes(row))


def _attributes(row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    one = energy_of(row)
    if one.function:
        yield "code.function.name", one.function
    yield "lithowatt.energy.quality", one.quality
    if one.joules is None:
        yield "lithowatt.energy.reason", one.reason or "unknown"
    else:
        yield "lithowatt.energy.joules", one.joules
        yield "lithowatt.energy.method", one.method
        yield "lithowatt.energy.definition", one.definition
        if one.band is not None:
            yield "lithowatt.energy.low", one.band[0]
            yield "lithowatt.energy.high", one.band[1]
    if one.cpu_seconds is not None:
        yield "lithowatt.cpu_time", one.cpu_seconds
    said = row.get("energy_warnings")
    said = [said] if isinstance(said, str) and said else said
    if isinstance(said, (list, tuple)) and said:
        yield "lithowatt.energy.warnings", [str(text) for text in said]
    cold = row.get("worker_task_cold_start")
    if isinstance(cold, bool):
        yield "faas.coldstart", cold
    for key in ("activation_id", "worker_activation_id"):
        if isinstance(row.get(key), str):
            yield "faas.invocation_id", row[key]
            break
    if row.get("aws_is_lambda") is True:
        yield "faas.invoked_provider", "aws"
        region = value_of(row, "aws_region")
        if isinstance(region, str):
            yield "faas.invoked_region", region
        memory = number(row.get("aws_memory_size"))
        if memory is not None:
            # MB of AWS are MiB; the convention counts bytes.
            yield "faas.max_memory", round(memory * 1_048_576)
