"""OpenTelemetry by its SDK: names, units and kinds of the conventions, spans, and OTLP as sent."""

from __future__ import annotations

import asyncio
import gzip
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lithowatt import EnergyMeter, Estimate, Zone, measure
from lithowatt.export import opentelemetry
from lithowatt.export.opentelemetry import EnergyRecorder, Instrumentation, instrument
from rig import StaticTree
from tests.source.test_hwmon import cards
from tests.support.agent_tools import AgentProcess, blind_root, shared_folder

pytest.importorskip("opentelemetry.sdk")

from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    InMemoryMetricReader,
    Sum,
)
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


@pytest.fixture
def folder() -> Iterator[Path]:
    path = shared_folder()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def tree(folder: Path) -> StaticTree:
    return StaticTree(folder / "root", packages=2, domains=("package", "core", "dram"), psys=True)


class Collected:
    """A provider, and what it collects by name."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader], shutdown_on_exit=False)

    def metrics(self) -> dict[str, Any]:
        data = self.reader.get_metrics_data()
        return {
            metric.name: metric
            for resource in (data.resource_metrics if data else [])
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


def by(metric: Any, attribute: str) -> dict[str, float]:
    return {point.attributes[attribute]: point.value for point in metric.data.data_points}


def all_joules(tree: StaticTree, microjoules: int) -> None:
    for zone in tree.zones:
        tree.add(zone.key, microjoules)


def collected_after(energy: Collected, tree: StaticTree, microjoules: int) -> dict[str, Any]:
    """Adds energy in small steps, as counters go, and collects when that is surely seen."""
    for _ in range(10):
        all_joules(tree, microjoules // 10)
        time.sleep(0.07)
    return energy.metrics()


def test_the_machine_has_the_names_units_and_kinds_of_the_conventions(tree: StaticTree) -> None:
    conventions = pytest.importorskip("opentelemetry.semconv._incubating.metrics.hw_metrics")
    energy = Collected()
    running = instrument(energy.provider, root=tree.root)
    try:
        collected_after(energy, tree, 2_000_000)
        found = collected_after(energy, tree, 3_000_000)
    finally:
        running.stop()
    counter, gauge = found[conventions.HW_ENERGY], found[conventions.HW_POWER]
    assert (counter.unit, gauge.unit) == ("J", "W")
    assert isinstance(counter.data, Sum) and counter.data.is_monotonic
    assert counter.data.aggregation_temporality is AggregationTemporality.CUMULATIVE
    assert isinstance(gauge.data, Gauge)
    # Cores lie within packages: with them the sum would not be the machine's.
    assert by(counter, "hw.id") == {
        f"rapl/package-{socket}{part}": pytest.approx(5.0)
        for socket in (0, 1)
        for part in ("", "/dram")
    }
    types = {p.attributes["hw.id"]: p.attributes["hw.type"] for p in counter.data.data_points}
    assert types["rapl/package-1"] == "cpu" and types["rapl/package-1/dram"] == "memory"
    assert all(watts > 0 for watts in by(gauge, "hw.id").values())
    # Earlier packages of the conventions have no names of the host's.
    host = found[getattr(conventions, "HW_HOST_ENERGY", "hw.host.energy")]
    assert (host.unit, by(host, "hw.name")) == ("J", {"psys": pytest.approx(5.0)})
    assert found[getattr(conventions, "HW_HOST_POWER", "hw.host.power")].unit == "W"
    own = found["lithowatt.process.energy"]
    assert own.unit == "J" and own.data.is_monotonic
    assert all(
        set(point.attributes)
        == {f"lithowatt.energy.{name}" for name in ("quality", "method", "definition")}
        for point in own.data.data_points
    )
    # After its end nothing is observed, and nothing is told twice.
    assert not set(energy.metrics()) & {"hw.energy", "hw.power", "lithowatt.process.energy"}


class Looked:
    """A meter that shows what it is told to."""

    running = True

    def __init__(self) -> None:
        self.reading: Any = None

    def start(self) -> None:
        pass

    def stop(self) -> None:
        self.running = False

    def shows(self, joules: float | None, **zones: float | None) -> None:
        self.reading = SimpleNamespace(
            joules=joules,
            quality="attributed",
            method="rapl+cputime",
            definition="marginal",
            zones=[
                Zone(method, domain, 0, name, found and Estimate(found, found, found, name), None)
                for key, found in zones.items()
                for method, domain, name in (key.split("_", 2),)
            ],
        )


def test_one_method_of_two_is_told_and_what_lies_within_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from lithowatt.export import opentelemetry

    monkeypatch.setattr(opentelemetry, "_ONE_LOOK_SECONDS", 0.0)
    energy, meter = Collected(), Looked()
    running = Instrumentation(energy.provider, meter)
    zones = {"rapl_package_p0": 5.0, "rapl_core_p0/core": 4.0, "rapl_dram_p0/dram": 1.0}
    meter.shows(2.0, **zones, perf_package_pkg=5.0, perf_dram_ram=1.0)
    found = energy.metrics()["hw.energy"]
    assert by(found, "hw.id") == {"rapl/p0": 5.0, "rapl/p0/dram": 1.0}
    # What cannot be read is not observed, and the other method does not take its place.
    meter.shows(2.0, rapl_package_p0=None, perf_package_pkg=6.0)
    assert "hw.energy" not in energy.metrics()
    running.stop()


def test_an_estimate_that_comes_down_takes_nothing_back(monkeypatch: pytest.MonkeyPatch) -> None:
    from lithowatt.export import opentelemetry

    monkeypatch.setattr(opentelemetry, "_ONE_LOOK_SECONDS", 0.0)
    energy, meter = Collected(), Looked()
    running = Instrumentation(energy.provider, meter)
    told = []
    for joules in (2.0, 1.5, None, 2.5):
        meter.shows(joules, rapl_package_p0=joules)
        metrics = energy.metrics()
        told.append(
            [
                sum(by(metrics[n], k).values())
                for n, k in (
                    ("lithowatt.process.energy", "lithowatt.energy.quality"),
                    ("hw.energy", "hw.id"),
                )
                if n in metrics
            ]
        )
    running.stop()
    assert told == [[2.0, 2.0], [2.0, 2.0], [2.0], [2.5, 2.5]]


def test_a_host_without_a_counter_of_all_has_no_energy_of_all(folder: Path) -> None:
    tree = StaticTree(folder / "server", domains=("package", "dram"))
    energy = Collected()
    running = instrument(energy.provider, root=tree.root)
    found = collected_after(energy, tree, 2_000_000)
    running.stop()
    assert "hw.energy" in found and "hw.host.energy" not in found


def test_a_machine_without_counters_has_no_zeros(folder: Path) -> None:
    energy = Collected()
    running = instrument(energy.provider, root=blind_root(folder))
    found = energy.metrics()
    running.stop()
    assert "hw.energy" not in found and "hw.host.energy" not in found


@pytest.mark.slow
def test_counters_only_rise_and_a_new_start_begins_at_zero(tree: StaticTree) -> None:
    seen = []
    for _ in range(2):
        energy = Collected()
        running = instrument(energy.provider, root=tree.root)
        for microjoules in (2_000_000, 0, 1_000_000):
            found = collected_after(energy, tree, microjoules)["hw.energy"]
            (point,) = [p for p in found.data.data_points if p.attributes["hw.name"] == "package-0"]
            seen.append((point.start_time_unix_nano, point.value))
        running.stop()
    values = [value for _, value in seen]
    assert values == [pytest.approx(v) for v in (2.0, 2.0, 3.0, 2.0, 2.0, 3.0)]
    starts = [start for start, _ in seen]
    # One start while it runs; the next one's is later, by which a reader knows the new count.
    assert len(set(starts[:3])) == len(set(starts[3:])) == 1
    assert starts[3] > starts[0]


@pytest.mark.slow
@pytest.mark.quiet
def test_through_a_nodes_agent_and_its_restart_nothing_goes_back(
    folder: Path, tree: StaticTree
) -> None:
    blind = blind_root(folder)
    ring = blind / "run/lithowatt/ring"
    energy = Collected()
    first = AgentProcess(tree.root, ring)
    first.start()
    running = instrument(energy.provider, root=blind)
    try:
        before = by(collected_after(energy, tree, 2_000_000)["hw.energy"], "hw.name")
        assert before["package-0"] == pytest.approx(2.0, rel=0.2)
        first.kill()
        all_joules(tree, 1_000_000)
        with AgentProcess(tree.root, ring):
            deadline = time.monotonic() + 30
            while True:
                found = collected_after(energy, tree, 1_000_000).get("hw.energy")
                after = {} if found is None else by(found, "hw.name")
                assert all(after.get(name, joules) >= joules for name, joules in before.items())
                if after.get("package-0", 0.0) >= 4.0 - 0.2:
                    break
                assert time.monotonic() < deadline
    finally:
        running.stop()
        if first.process is not None and first.process.poll() is None:
            first.kill()


# -- calls ------------------------------------------------------------------------------------


class Recorded:
    """A recorder with its spans and metrics."""

    def __init__(self, *processors: SpanProcessor) -> None:
        self.spans = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        for processor in (*processors, SimpleSpanProcessor(self.spans)):
            provider.add_span_processor(processor)
        self.tracer = provider.get_tracer("test")
        self.energy = Collected()
        self.recorder = EnergyRecorder(
            tracer_provider=provider, meter_provider=self.energy.provider
        )

    def named(self, name: str) -> Any:
        (span,) = [span for span in self.spans.get_finished_spans() if span.name.endswith(name)]
        return span


def test_a_measured_call_is_on_the_current_span_and_in_the_histogram() -> None:
    told = Recorded()

    @measure(on_result=told.recorder.on_result)
    def work(n: int) -> int:
        return sum(range(n))

    with told.tracer.start_as_current_span("request"):
        assert work(100_000) == 4_999_950_000
    reading = work.meter.reading  # type: ignore[attr-defined]
    attributes = told.named("request").attributes
    assert attributes["lithowatt.energy.joules"] == reading.joules
    assert attributes["lithowatt.energy.low"] == reading.headline.low
    assert attributes["lithowatt.energy.high"] == reading.headline.high
    assert attributes["lithowatt.energy.quality"] == reading.quality
    assert attributes["lithowatt.energy.method"] == reading.method
    assert attributes["lithowatt.energy.definition"] == reading.definition
    assert attributes["lithowatt.cpu_time"] == reading.cpu_seconds
    assert attributes["code.function.name"].endswith("work")
    found = told.energy.metrics()
    histogram, calls = found["lithowatt.function.energy"], found["lithowatt.function.calls"]
    assert (histogram.unit, calls.unit) == ("J", "{call}")
    assert isinstance(histogram.data, Histogram)
    assert histogram.data.aggregation_temporality is AggregationTemporality.CUMULATIVE
    (point,) = histogram.data.data_points
    assert (point.count, point.sum) == (1, reading.joules)
    assert point.explicit_bounds[0] == 0.001 and point.explicit_bounds[-1] == 500_000
    assert point.attributes["code.function.name"] == attributes["code.function.name"]


def test_traced_functions_are_spans_and_stay_what_they_are() -> None:
    told = Recorded()

    @told.recorder.traced
    def work(n: int) -> int:
        assert trace.get_current_span().is_recording()
        return sum(range(n))

    @told.recorder.traced(definition="amortised")
    async def later(n: int) -> int:
        await asyncio.sleep(0.01)
        return n

    @told.recorder.traced
    def fails() -> None:
        raise KeyError("no")

    assert work(1000) == 499_500
    assert work.__name__ == "work"
    assert asyncio.run(later(3)) == 3
    assert asyncio.iscoroutinefunction(later)
    with pytest.raises(KeyError):
        fails()
    assert trace.get_current_span() is trace.INVALID_SPAN
    assert told.named("work").attributes["lithowatt.energy.joules"] >= 0
    assert told.named("later").attributes["lithowatt.energy.definition"] == "amortised"
    failed = told.named("fails")
    assert failed.status.status_code is trace.StatusCode.ERROR
    assert "lithowatt.energy.joules" in failed.attributes

    def numbers() -> Iterator[int]:
        yield 1

    with pytest.raises(TypeError, match="generator function"):
        told.recorder.traced(numbers)


class Service:
    """Methods of each kind."""

    recorder = EnergyRecorder()

    @recorder.traced
    def method(self, n: int) -> int:
        return n + 1

    @recorder.traced
    @classmethod
    def of_class(cls, n: int) -> tuple[str, int]:
        return cls.__name__, n

    @recorder.traced
    @staticmethod
    def alone(n: int) -> int:
        return n * 2


def test_methods_stay_methods() -> None:
    assert Service().method(1) == 2
    assert Service.of_class(3) == Service().of_class(3) == ("Service", 3)
    assert Service.alone(2) == Service().alone(2) == 4


class Called:
    """Its instances are called as coroutine functions are."""

    async def __call__(self, n: int) -> int:
        await asyncio.sleep(0.01)
        return n


def test_a_span_of_what_is_called_like_a_coroutine_function_ends_with_it() -> None:
    told = Recorded()
    assert asyncio.run(told.recorder.traced(Called())(3)) == 3
    span = told.named("Called")
    assert span.end_time - span.start_time >= 10_000_000
    assert "lithowatt.energy.quality" in span.attributes


@pytest.mark.parametrize("wrong", [3, property(lambda self: 1), int, None.__class__])
def test_what_cannot_be_traced_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError):
        EnergyRecorder().traced(wrong)


@pytest.mark.parametrize("there", [True, False])
def test_a_traced_function_may_be_sent(there: bool, tmp_path: Path) -> None:
    cloudpickle = pytest.importorskip("cloudpickle")
    told = Recorded()

    @told.recorder.traced
    def work(n: int) -> int:
        return sum(range(n))

    sent = tmp_path / "sent"
    sent.write_bytes(cloudpickle.dumps((work, told.recorder)))
    block = "" if there else "sys.modules['opentelemetry'] = None\n"
    code = f"""
import pathlib, pickle, sys
{block}work, recorder = pickle.loads(pathlib.Path({str(sent)!r}).read_bytes())
print(work(1000), recorder.record([{{}}]), recorder.annotate(work.__wrapped__.meter))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("499500 1 None\n", "")


def test_where_nothing_is_traced_a_call_costs_no_import(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = pickle.dumps(EnergyRecorder())
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "opentelemetry", None)
        inert = pickle.loads(sent)
    work = inert.traced(abs)

    def not_begun(*_: Any) -> Any:
        raise AssertionError("something is recorded")

    monkeypatch.setattr(opentelemetry, "_Traced", not_begun)
    monkeypatch.setattr(opentelemetry, "Harmless", not_begun)
    assert work(-3) == 3 and work.__wrapped__.meter is not None
    inert.on_result(work.__wrapped__.meter)


def test_a_traced_call_imports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Recorded()
    work = told.recorder.traced(abs)
    assert work(-3) == 3
    monkeypatch.setitem(sys.modules, "opentelemetry.context", None)
    assert work(-4) == 4
    assert len(told.spans.get_finished_spans()) == 2


class BrokenAtStart(SpanProcessor):
    """A processor of somebody's that fails."""

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        raise RuntimeError("start")


class BrokenAtEnd(SpanProcessor):
    """One that fails later."""

    def on_end(self, span: Any) -> None:
        raise RuntimeError("end")


class ExitsAtStart(SpanProcessor):
    """One that would end the program."""

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        raise SystemExit(3)


class ExitsAtEnd(SpanProcessor):
    """One that would do so later."""

    def on_end(self, span: Any) -> None:
        raise SystemExit(3)


@pytest.mark.parametrize("broken", [BrokenAtStart, BrokenAtEnd, ExitsAtStart, ExitsAtEnd])
def test_spans_that_fail_do_not_touch_the_function(broken: type[SpanProcessor]) -> None:
    told = Recorded(broken())

    @told.recorder.traced
    def work(n: int) -> int:
        return sum(range(n))

    assert work(1000) == 499_500
    assert work(10) == 45
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_a_call_without_energy_has_the_reason_and_is_no_zero() -> None:
    told = Recorded()
    with (
        told.tracer.start_as_current_span("request"),
        EnergyMeter(enabled=False) as meter,
    ):
        pass
    span = told.tracer.start_span("other")
    told.recorder.annotate(meter, span)
    span.end()
    attributes = told.named("other").attributes
    assert attributes["lithowatt.energy.quality"] == "none"
    assert attributes["lithowatt.energy.reason"]
    assert "lithowatt.energy.joules" not in attributes
    found = told.energy.metrics()
    assert "lithowatt.function.energy" not in found
    assert by(found["lithowatt.function.calls"], "lithowatt.energy.quality") == {"none": 1}


def test_finished_calls_are_spans_of_their_own_time_with_faas_attributes() -> None:
    told = Recorded()
    stats = {
        "worker_start_tstamp": 1_700_000_000.0,
        "worker_end_tstamp": 1_700_000_002.5,
        "worker_func_energy_consumption": 4.0,
        "worker_func_energy_low": 3.0,
        "worker_func_energy_high": 5.0,
        "worker_func_energy_quality": "modelled",
        "worker_task_cold_start": True,
        "worker_func_aws_is_lambda": True,
        "worker_func_aws_region": "eu-west-1",
        "worker_func_aws_memory_size": 1024,
    }
    future = SimpleNamespace(stats=stats, function_name="crop", activation_id="a-1")
    with told.tracer.start_as_current_span("job") as job:
        assert told.recorder.record([future, {"worker_func_energy_consumption": 1.0}]) == 2
    span = told.named("crop")
    assert (span.start_time, span.end_time) == (1_700_000_000 * 10**9, 1_700_000_002_500_000_000)
    assert span.parent.span_id == job.get_span_context().span_id
    faas = pytest.importorskip("opentelemetry.semconv._incubating.attributes.faas_attributes")
    assert {key: span.attributes[key] for key in span.attributes if key.startswith("faas.")} == {
        faas.FAAS_COLDSTART: True,
        faas.FAAS_INVOCATION_ID: "a-1",
        faas.FAAS_INVOKED_PROVIDER: "aws",
        faas.FAAS_INVOKED_REGION: "eu-west-1",
        faas.FAAS_MAX_MEMORY: 1024 * 1_048_576,
    }
    assert span.attributes["lithowatt.energy.joules"] == 4.0
    # The other's time is not known: it counts, and no span is made up.
    assert len(told.spans.get_finished_spans()) == 2
    points = told.energy.metrics()["lithowatt.function.energy"].data.data_points
    assert sorted(point.sum for point in points) == [1.0, 4.0]


def test_a_fork_while_the_machine_is_read_leaves_the_lock_behind(tree: StaticTree) -> None:
    running = instrument(Collected().provider, root=tree.root)
    with running._lock.here():
        child = os.fork()
        if not child:
            signal.alarm(30)
            os._exit(len(running._observed(lambda: [])))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    running.stop()


def test_a_child_process_does_not_tell_its_parents_energy_again(tree: StaticTree) -> None:
    code = f"""
import os, sys
sys.path[:0] = {[str(Path(p)) for p in sys.path if p]!r}
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from lithowatt.export.opentelemetry import instrument
reader = InMemoryMetricReader()
running = instrument(MeterProvider([reader], shutdown_on_exit=False), root={str(tree.root)!r})
sum(range(3_000_000))
def names():
    data = reader.get_metrics_data()
    return sorted(m.name for r in (data.resource_metrics if data else []) for s in r.scope_metrics
                  for m in s.metrics)
assert "lithowatt.process.energy" in names()
child = os.fork()
if not child:
    os._exit(1 if names() else 0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
running.stop()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("0\n", 0), done.stderr


# -- OTLP -------------------------------------------------------------------------------------


class Receiver:
    """A receiver of OTLP over HTTP on a port of its own."""

    def __init__(self) -> None:
        self.bodies: list[tuple[str, bytes]] = []
        bodies = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                bodies.append((self.path, body))
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self) -> Receiver:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def test_what_arrives_by_otlp_has_units_temporality_and_bands(tree: StaticTree) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_pb
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_pb
    from opentelemetry.proto.metrics.v1 import metrics_pb2
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    with Receiver() as receiver:
        reader = PeriodicExportingMetricReader(
            OTLPMetricExporter(f"{receiver.url}/v1/metrics"), export_interval_millis=3_600_000
        )
        meters = MeterProvider([reader], shutdown_on_exit=False)
        tracers = TracerProvider(shutdown_on_exit=False)
        tracers.add_span_processor(
            SimpleSpanProcessor(OTLPSpanExporter(f"{receiver.url}/v1/traces"))
        )
        recorder = EnergyRecorder(tracer_provider=tracers, meter_provider=meters)
        running: Instrumentation = instrument(meters, root=tree.root)

        @recorder.traced
        def work(n: int) -> int:
            return sum(range(n))

        work(100_000)
        for _ in range(10):
            all_joules(tree, 200_000)
            time.sleep(0.07)
        assert meters.force_flush()
        running.stop()
        tracers.shutdown()
        meters.shutdown()
    sent = [body for path, body in receiver.bodies if path == "/v1/metrics"]
    message = metrics_pb.ExportMetricsServiceRequest.FromString(sent[0])
    arrived = {
        metric.name: metric
        for resource in message.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    counter = arrived["hw.energy"]
    assert counter.unit == "J" and counter.sum.is_monotonic
    cumulative = metrics_pb2.AGGREGATION_TEMPORALITY_CUMULATIVE
    assert counter.sum.aggregation_temporality == cumulative
    names = {
        attribute.value.string_value: point.as_double
        for point in counter.sum.data_points
        for attribute in point.attributes
        if attribute.key == "hw.name"
    }
    assert names["package-0"] == pytest.approx(2.0)
    assert all(0 < p.start_time_unix_nano < p.time_unix_nano for p in counter.sum.data_points)
    histogram = arrived["lithowatt.function.energy"]
    assert histogram.unit == "J"
    assert histogram.histogram.aggregation_temporality == cumulative
    assert histogram.histogram.data_points[0].count == 1
    (body,) = [body for path, body in receiver.bodies if path == "/v1/traces"]
    spans = trace_pb.ExportTraceServiceRequest.FromString(body)
    (span,) = spans.resource_spans[0].scope_spans[0].spans
    values = {a.key: a.value for a in span.attributes}
    low, joules, high = (
        values[f"lithowatt.energy.{name}"].double_value for name in ("low", "joules", "high")
    )
    assert low <= joules <= high
    assert histogram.histogram.data_points[0].sum == joules


def test_gpus_are_hardware_beside_the_processor(tmp_path: Path) -> None:
    cards(tmp_path, arc=False)
    collected = Collected()
    energy = instrument(collected.provider, root=tmp_path)
    collected.metrics()
    time.sleep(0.7)
    metric = collected.metrics()["hw.energy"]
    energy.stop()
    kinds = [point.attributes["hw.type"] for point in metric.data.data_points]
    assert sorted(kinds) == ["cpu", "gpu"]
    joules = by(metric, "hw.name")
    radeon = next(value for name, value in joules.items() if "03:00.0" in name)
    assert radeon == pytest.approx(90.0 * 0.7, rel=0.3)
