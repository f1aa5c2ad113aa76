"""OpenMetrics text: what a strict parser, a real Prometheus and a real Pushgateway make of it."""

from __future__ import annotations

import math
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lithowatt import EnergyMeter, _core
from lithowatt.agent import _gpus
from lithowatt.agent._gpus import Gpus
from lithowatt.export import openmetrics
from rig import StaticTree
from tests.source.test_hwmon import cards
from tests.support.agent_tools import AgentProcess, shared_folder
from tests.support.time_series_servers import Prometheus, free_port, get, pushgateway, until

parser = pytest.importorskip("prometheus_client.openmetrics.parser")

LABELS = ("function", "quality", "method", "definition")


@pytest.fixture
def folder() -> Iterator[Path]:
    path = shared_folder()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def tree(folder: Path) -> StaticTree:
    return StaticTree(folder / "root", packages=2, domains=("package", "dram"))


def families(text: str) -> dict[str, Any]:
    return {one.name: one for one in parser.text_string_to_metric_families(text)}


def values(text: str) -> dict[str, dict[tuple[str, ...], float]]:
    """Of each family what each set of labels has."""
    return {
        name: {tuple(s.labels[label] for label in LABELS): s.value for s in family.samples}
        for name, family in families(text).items()
    }


def call(label: str, joules: float | None, **more: Any) -> dict[str, Any]:
    band = {} if joules is None else {"energy_low": joules / 2, "energy_high": joules * 2}
    kind = {"energy_quality": "attributed", "energy_method": "rapl+cputime"}
    return {
        "label": label,
        "energy_consumption": joules,
        "energy_definition": "marginal",
        "energy_duration": 0.5,
        **kind,
        **band,
        **more,
    }


# -- calls ------------------------------------------------------------------------------------


def test_calls_of_a_function_are_added_by_how_their_energy_was_obtained() -> None:
    rows = [call("f", 2.0), call("f", 3.0), call("f", 7.0, energy_quality="modelled")]
    rows += [call("g", 1.0), call("f", None)]
    found = values(openmetrics.text(rows))
    f = ("f", "attributed", "rapl+cputime", "marginal")
    assert found["lithowatt_function_energy_joules"][f] == 5.0
    assert found["lithowatt_function_energy_low_joules"][f] == 2.5
    assert found["lithowatt_function_energy_high_joules"][f] == 10.0
    assert found["lithowatt_function_duration_seconds"][f] == 1.0
    calls = found["lithowatt_function_calls"]
    assert calls[f] == 2.0
    assert sum(calls.values()) == 5.0
    # No energy is no zero, and is counted.
    none = ("f", "none", "", "")
    assert calls[none] == 1.0
    assert none not in found["lithowatt_function_energy_joules"]


def test_a_sum_over_some_calls_does_not_pass_for_one_over_all() -> None:
    found = values(openmetrics.text([call("f", 2.0), call("f", 3.0, energy_low=None)]))
    assert len(found["lithowatt_function_energy_joules"]) == 1
    assert found["lithowatt_function_energy_low_joules"] == {}


def test_kinds_and_units_are_those_of_the_format() -> None:
    found = families(openmetrics.text(call("f", 1.0)))
    for name, family in found.items():
        assert family.type == "gauge"
        assert family.documentation
        unit = name.rsplit("_", 1)[-1]
        assert family.unit == (unit if unit in ("joules", "seconds") else "")


@given(st.text(), st.floats(0, 1e12), st.text())
def test_any_name_arrives_as_it_is(label: str, joules: float, method: str) -> None:
    text = openmetrics.text(call(label, joules, energy_method=method))
    (sample,) = families(text)["lithowatt_function_energy_joules"].samples
    assert (sample.labels["function"], sample.labels["method"]) == (label, method)
    assert sample.value == joules


def test_bytes_that_are_no_text_are_escaped() -> None:
    text = openmetrics.text(call("a\udc80", 1.0))
    (sample,) = families(text.encode().decode())["lithowatt_function_calls"].samples
    assert sample.labels["function"] == "a\\udc80"


@pytest.mark.slow
def test_a_gateway_gets_what_the_text_says(tmp_path: Path) -> None:
    with pushgateway(tmp_path) as gateway:
        rows = [call('f "1"\n', 2.0), call("g", None)]
        assert openmetrics.push(rows, gateway, job="j", grouping={"instance": "n/7"}) == 2
        kept = get(f"http://{gateway}/metrics")
        from prometheus_client.parser import text_string_to_metric_families

        found = {one.name: one for one in text_string_to_metric_families(kept)}
        for name, wanted in values(openmetrics.text(rows)).items():
            samples = found[name].samples if name in found else []
            assert {tuple(s.labels[label] for label in LABELS): s.value for s in samples} == wanted
            assert all((s.labels["job"], s.labels["instance"]) == ("j", "n/7") for s in samples)
        # The next push takes its place.
        openmetrics.push(call("h", 4.0), gateway, job="j", grouping={"instance": "n/7"})
        assert 'function="g"' not in get(f"http://{gateway}/metrics")
        with Prometheus(tmp_path, gateway).running() as prometheus:
            ((labels, value),) = until(
                "a scrape of the gateway",
                lambda: prometheus.query("lithowatt_function_energy_joules"),
            )
        assert value == 4.0
        assert (labels["function"], labels["job"], labels["instance"]) == ("h", "j", "n/7")


def test_a_gateway_that_hangs_is_left() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        failed: list[BaseException] = []

        def push() -> None:
            try:
                openmetrics.push(
                    call("f", 1.0), f"127.0.0.1:{silent.getsockname()[1]}", timeout=0.2
                )
            except OSError as error:
                failed.append(error)

        thread = threading.Thread(target=push, daemon=True)
        thread.start()
        thread.join(60)
        assert not thread.is_alive() and len(failed) == 1


def test_names_that_are_no_text_reach_a_gateway() -> None:
    sent: list[tuple[str, str]] = []

    def handler(url: str, method: str, timeout: Any, headers: Any, data: bytes) -> Any:
        return lambda: sent.append((url, data.decode("utf-8")))

    group = {"instance": "n\udc80"}
    openmetrics.push(call("a\udcff", 1.0), "h:1", job="j\udcff", grouping=group, handler=handler)
    ((url, data),) = sent
    assert 'function="a\\\\udcff"' in data
    assert "/job/j%5Cudcff/" in url and "/instance/n%5Cudc80" in url


def test_a_gateway_that_speaks_something_else_is_an_error() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()

        def answer() -> None:
            connection, _ = other.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(b"220 smtp.example ESMTP\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        with pytest.raises(OSError, match=r"does not answer as a gateway: BadStatusLine"):
            openmetrics.push(call("f", 1.0), f"127.0.0.1:{other.getsockname()[1]}")
        thread.join(60)


def test_a_gateway_that_is_not_there_is_an_error() -> None:
    with pytest.raises(OSError):
        openmetrics.push(call("f", 1.0), f"127.0.0.1:{free_port()}")


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), "1", True])
def test_a_timeout_that_is_none_is_refused(timeout: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="timeout must be"):
        openmetrics.push(call("f", 1.0), "localhost:9", timeout=timeout)


def test_the_calls_part_of_gpus_has_a_family_of_its_own() -> None:
    """Not the GPUs' whole energy, which calls beside each other have in common."""
    calls = [call("f", 1.0, gpu_energy=500.0, gpu_energy_attributed=part) for part in (20.0, 30.0)]
    found = values(openmetrics.text(calls))
    (joules,) = found["lithowatt_function_gpu_energy_joules"].values()
    assert joules == 50.0
    (joules,) = found["lithowatt_function_energy_joules"].values()
    assert joules == 2.0
    # Where one call does not know its part there is no sum, and where none does no family.
    some = values(openmetrics.text([*calls, call("f", 1.0)]))
    assert "lithowatt_function_gpu_energy_joules" not in some


# -- the agent --------------------------------------------------------------------------------


def test_every_family_of_the_agent_keeps_the_conventions(folder: Path, tree: StaticTree) -> None:
    agent = _core.Agent(folder / "l" / "ring", root=tree.root, round=0.1)
    try:
        since = openmetrics.Since(5.0, 4.0, {})
        found = families(openmetrics.openmetrics(agent.snapshot(), "1", since))
    finally:
        agent.stop()
    for name, family in found.items():
        assert name.startswith("lithowatt_") and family.documentation
        if family.type == "counter":
            assert {s.name for s in family.samples} <= {f"{name}_total", f"{name}_created"}
            unit = name.rsplit("_", 1)[-1]
            assert family.unit == (unit if unit in ("joules", "seconds") else "")
        else:
            assert (name, family.type) == ("lithowatt_agent", "info")
    created = {
        name: {s.value for s in family.samples if s.name.endswith("_created")}
        for name, family in found.items()
    }
    assert created["lithowatt_node_energy_joules"] == {4.0}
    assert created["lithowatt_agent_samples"] == {5.0}
    # The counters were not at zero when the ring began: a reader would add what was before.
    assert created["lithowatt_machine_energy_joules"] == set()
    assert {s.value for s in found["lithowatt_machine_energy_joules"].samples} == {1.0}


def test_gpus_have_a_family_beside_the_machines(folder: Path) -> None:
    root = folder / "root"
    chips = cards(root)
    agent = _core.Agent(folder / "l" / "ring", root=root, round=0.1)
    gpus = Gpus(str(root))
    try:
        time.sleep(0.5)
        chips.use("hwmon4/energy1_input", 25.0)
        time.sleep(0.5)
        since = openmetrics.Since(5.0, 4.0, {})
        looked = gpus.look()
        found = families(openmetrics.openmetrics(agent.snapshot(), "1", since, (), looked))
    finally:
        gpus.close()
        agent.stop()
    family = found["lithowatt_gpu_energy_joules"]
    joules = {s.labels["gpu"]: s.value for s in family.samples if s.name.endswith("_total")}
    assert len(joules) == 2 and {s.labels["method"] for s in family.samples} == {"hwmon"}
    assert sum(joules.values()) == pytest.approx(90.0 * 1.0 + 25.0, rel=0.15)
    # The machine is the processor, and the cards are in none of its families.
    zones = found["lithowatt_machine_energy_joules"].samples
    assert {s.labels["domain"] for s in zones} == {"package"}
    assert gpus.look() == []


def test_where_there_is_no_gpu_nothing_goes_on_being_read(
    tree: StaticTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_gpus, "PATIENCE_SECONDS", 0.0)
    gpus = Gpus(str(tree.root))
    meter = gpus._meter
    assert meter is not None and meter.running
    gpus.settle()
    assert gpus._meter is None and not meter.running
    assert gpus.look() == []


def scraped(port: int) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample of a scrape."""
    found = {}
    for family in families(get(f"http://127.0.0.1:{port}/metrics")).values():
        for sample in family.samples:
            found[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return found


@pytest.mark.slow
@pytest.mark.quiet
@pytest.mark.parametrize("kept", [True, False])
def test_no_counter_goes_back_over_a_restart_without_a_new_beginning(
    folder: Path, tree: StaticTree, kept: bool
) -> None:
    port = free_port()
    ring = folder / "l" / "ring"
    options = ("--metrics", f"127.0.0.1:{port}", "--round", "0.1")
    node = ("lithowatt_node_energy_joules_total", ())

    def after(microjoules: int, joules: float) -> dict[Any, float]:
        """The metrics once the node has so many joules, which these are the last of."""
        tree.add("package-0", microjoules)

        def look() -> dict[Any, float] | None:
            found = scraped(port)
            return found if found[node] >= joules - 1e-3 else None

        return until("the energy is in the metrics", look)

    with AgentProcess(tree.root, ring, *options) as first:
        until("the metrics are served", lambda: scraped(port))
        before = after(3_000_000, 3.0)
        first.kill()
    if not kept:
        ring.unlink()
    time.sleep(0.01)  # what began later has a later time, in ms
    with AgentProcess(tree.root, ring, *options):
        until("the metrics are served", lambda: scraped(port))
        later = after(1_000_000, 4.0 if kept else 1.0)
    counters = [key for key in before if key[0].endswith("_total")]
    assert len(counters) > 5
    for name, labels in counters:
        if (name, labels) not in later:
            continue
        created = (f"{name.removesuffix('_total')}_created", labels)
        if later[name, labels] < before[name, labels]:
            # A container's clock is the kernel's and goes on.
            assert later[created] > before[created], name
    if kept:
        # The totals of the machine go on from the ring.
        assert later[node] == pytest.approx(before[node] + 1.0, abs=0.01)
        assert (
            later["lithowatt_node_energy_joules_created", ()]
            == before["lithowatt_node_energy_joules_created", ()]
        )
    else:
        assert later[node] < before[node]
    samples = ("lithowatt_agent_samples_created", ())
    assert later[samples] > before[samples]


@pytest.mark.slow
@pytest.mark.quiet
def test_prometheus_has_the_values_of_the_ring(folder: Path, tree: StaticTree) -> None:
    port = free_port()
    ring = folder / "l" / "ring"
    options = ("--metrics", f"127.0.0.1:{port}", "--round", "0.1", "--node", 'n "1"')
    with (
        AgentProcess(tree.root, ring, *options),
        Prometheus(folder, f"127.0.0.1:{port}").running() as prometheus,
    ):
        for step in (2_000_000, 1_000_000):
            for zone in tree.zones:
                tree.add(zone.key, step)
            time.sleep(0.5)
        look = _core.Ring(ring, tree.root).look()["joules"]
        assert look == {
            name: pytest.approx(4.0)
            for name in ("package-0", "package-0/dram", "package-1", "package-1/dram")
        }

        def seen() -> list[tuple[dict[str, str], float]] | None:
            # A counter that stands still for seconds has no sample.
            for zone in tree.zones:
                tree.add(zone.key, 100)
            found = prometheus.query("lithowatt_machine_energy_joules_total")
            now = {labels["zone"]: value for labels, value in found}
            return found if now == pytest.approx(look, abs=0.5) else None

        found = until("the ring's values are scraped", seen)
        assert {labels["node"] for labels, _ in found} == {'n "1"'}
        assert {labels["domain"] for labels, _ in found} == {"package", "dram"}
        parts = "idle", "rest", "gone"
        sums = [f"sum(lithowatt_{name}_energy_joules_total)" for name in parts]
        groups = (
            '(sum(lithowatt_container_energy_joules_total{pod_uid=""}) or vector(0))'
            " + (sum(lithowatt_pod_energy_joules_total) or vector(0))"
        )
        ((_, difference),) = prometheus.query(
            f"sum(lithowatt_node_energy_joules_total) - ({' + '.join(sums)} + {groups})"
        )
        assert math.isclose(difference, 0, abs_tol=1e-5)
        kinds = prometheus.api("metadata", metric="lithowatt_node_energy_joules")
        assert kinds["lithowatt_node_energy_joules"][0]["type"] == "counter"
        assert kinds["lithowatt_node_energy_joules"][0]["unit"] == "joules"


def test_a_reading_is_told_as_it_is() -> None:
    with EnergyMeter(label="f") as meter:
        sum(range(100_000))
    found = values(openmetrics.text([meter, meter.reading]))
    (joules,) = found["lithowatt_function_energy_joules"].values()
    assert joules == math.fsum([meter.joules, meter.joules])
