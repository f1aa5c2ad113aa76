"""The dashboard and the alerts: valid, and every expression has data on a real Prometheus."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lithowatt.export import openmetrics
from rig import StaticTree
from tests.support import TOP
from tests.support.agent_tools import AgentProcess, shared_folder
from tests.support.time_series_servers import (
    Prometheus,
    free_port,
    program,
    pushgateway,
    until,
)

DASHBOARD = TOP / "deploy" / "grafana" / "lithowatt.json"
PLAIN = ("marginal", "attributed")
ALERTS = TOP / "deploy" / "prometheus" / "alerts.yml"


def dashboard() -> dict[str, Any]:
    told: dict[str, Any] = json.loads(DASHBOARD.read_text("utf-8"))
    return told


def targets() -> list[tuple[str, str]]:
    """Title and expression of each query."""
    return [
        (panel["title"], target["expr"])
        for panel in dashboard()["panels"]
        for target in panel["targets"]
    ]


def filled_in(expression: str) -> str:
    """An expression as Grafana sends it."""
    for name, value in (
        ("$__rate_interval", "10s"),
        ("$__range", "1m"),
        ("$job", ".*"),
        ("$instance", ".*"),
    ):
        expression = expression.replace(name, value)
    assert "$" not in expression
    return expression


def lost(given: Any, kept: Any, where: str = "") -> Iterator[str]:
    """Where a value of ``given`` is missing or another in ``kept``."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for key, value in given.items():
            yield from lost(value, kept.get(key), f"{where}.{key}")
    elif isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        for at, (one, other) in enumerate(zip(given, kept, strict=True)):
            yield from lost(one, other, f"{where}[{at}]")
    elif given != kept:
        yield f"{where}: {given!r} became {kept!r}"


def test_grafanas_schema_has_a_place_for_every_setting() -> None:
    models = pytest.importorskip("grafana_foundation_sdk.models.dashboard")
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins

    register_default_plugins()
    given = dashboard()
    read = models.Dashboard.from_json(dashboard())
    kept = json.loads(JSONEncoder(sort_keys=True, indent=2).encode(read))
    assert list(lost(given, kept)) == []


def test_panels_do_not_overlap_and_have_units_and_words() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for panel in panels
        for place in (panel["gridPos"],)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24
    for panel in panels:
        assert panel["title"] and panel["description"]
        assert panel["datasource"]["uid"] == "${datasource}"
        if panel["type"] in ("timeseries", "stat"):
            assert panel["fieldConfig"]["defaults"]["unit"]


def test_the_rules_are_rules_and_fire_on_their_fault_alone() -> None:
    promtool = program("promtool")
    for command in (
        ["check", "rules", str(ALERTS)],
        ["check", "config", str(ALERTS.with_name("prometheus.yml"))],
        ["test", "rules", str(Path(__file__).with_name("alerts.test.yml"))],
    ):
        done = subprocess.run([promtool, *command], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
    tested = re.findall(
        r"alertname: (\w+)", Path(__file__).with_name("alerts.test.yml").read_text()
    )
    assert set(tested) == set(re.findall(r"alert: (\w+)", ALERTS.read_text("utf-8")))


@pytest.fixture
def folder() -> Iterator[Path]:
    path = shared_folder()
    yield path
    shutil.rmtree(path, ignore_errors=True)


POD = "pod3f1c2a90-7a51-4c0e-9f57-1c1d7a6f0e11"


class Groups:
    """Cgroups of a tree's own: a container, and a pod with one."""

    def __init__(self, tree: StaticTree) -> None:
        (tree.root / "sys/fs").unlink()
        top = tree.root / "sys/fs/cgroup"
        self.files = [
            top / name / "cpu.stat"
            for name in (
                f"machine.slice/libpod-{'c' * 64}.scope",
                f"kubepods/burstable/{POD}",
                f"kubepods/burstable/{POD}/{'d' * 64}",
            )
        ]
        for file in self.files:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        (top / "cgroup.controllers").write_text("cpu\n")
        self.used = 0
        self.use(1000)

    def use(self, microseconds: int) -> None:
        """Each uses CPU time; in place and of one length, for readers that have it open."""
        self.used += microseconds
        for file in self.files:
            with file.open("r+b", buffering=0) as out:
                out.write(b"usage_usec %020d\n" % self.used)


@pytest.mark.slow
@pytest.mark.quiet
def test_only_what_is_alike_is_added_and_a_band_is_of_all_of_it(folder: Path) -> None:
    (folder / "gateway").mkdir()
    expressions = [
        [target["expr"] for target in panel["targets"]][:3]
        for panel in dashboard()["panels"]
        if panel["title"] in ("Functions", "Energy of functions with its 95 % band")
    ]
    assert len(expressions) == 2
    call = {"energy_duration": 1.0, "energy_quality": "attributed", "energy_method": "rapl"}
    band = {"energy_low": 1.0, "energy_high": 5.0}
    with (
        pushgateway(folder / "gateway") as gateway,
        Prometheus(folder, gateway).running() as prometheus,
    ):
        for at, (label, joules, more) in enumerate(
            [
                ("f", 2.0, {**band, "energy_definition": "marginal"}),
                ("f", 4.0, {**band, "energy_definition": "marginal"}),
                ("f", 3.0, {**band, "energy_definition": "amortised"}),
                ("f", 4.5, {**band, "energy_definition": "marginal", "energy_quality": "modelled"}),
                # One of two without a band.
                ("g", 2.0, {**band, "energy_definition": "marginal"}),
                ("g", 3.0, {"energy_definition": "marginal"}),
            ]
        ):
            row = {**call, "label": label, "energy_consumption": joules, **more}
            openmetrics.push(row, gateway, grouping={"instance": str(at)})

        def found(expression: str) -> dict[tuple[str, ...], float]:
            names = ("function", "definition", "quality")
            return {
                tuple(labels[name] for name in names): value
                for labels, value in prometheus.query(filled_in(expression))
            }

        until("all were scraped", lambda: found(expressions[0][0]).get(("g", *PLAIN)) == 5.0)
        for energy, low, high in expressions:
            assert found(energy) == {
                ("f", "marginal", "attributed"): 6.0,
                ("f", "amortised", "attributed"): 3.0,
                ("f", "marginal", "modelled"): 4.5,
                ("g", "marginal", "attributed"): 5.0,
            }
            for end, value in ((low, 1.0), (high, 5.0)):
                assert found(end) == {
                    ("f", "marginal", "attributed"): 2 * value,
                    ("f", "amortised", "attributed"): value,
                    ("f", "marginal", "modelled"): value,
                }


@pytest.mark.slow
@pytest.mark.quiet
def test_every_expression_has_data_where_an_agent_is_scraped(folder: Path) -> None:
    tree = StaticTree(folder / "root", packages=1, domains=("package", "core", "dram"), psys=True)
    groups = Groups(tree)
    port = free_port()
    options = ("--metrics", f"127.0.0.1:{port}", "--round", "0.1", "--node", "n1")
    gateway_folder = folder / "gateway"
    gateway_folder.mkdir()
    with (
        pushgateway(gateway_folder) as gateway,
        AgentProcess(tree.root, folder / "l" / "ring", *options),
        Prometheus(folder, f"127.0.0.1:{port}", gateway, rules=ALERTS).running() as prometheus,
    ):
        call = {"label": "f", "energy_consumption": 2.0, "energy_low": 1.0, "energy_high": 3.0}
        openmetrics.push({**call, "energy_duration": 1.0, "energy_cpu_time": 0.5}, gateway, job="j")

        def without_data() -> list[str]:
            for zone in tree.zones:
                tree.add(zone.key, 5_000_000)
            groups.use(20_000)
            return [
                title
                for title, expression in targets()
                if not any(value == value for _, value in prometheus.query(filled_in(expression)))
            ]

        try:
            until("every panel has data", lambda: not without_data())
        except AssertionError as error:
            raise AssertionError(f"without data: {without_data()}") from error
        ((_, watts),) = prometheus.query(filled_in(targets()[0][1]))
        assert watts > 0
        rules = prometheus.api("rules")["groups"][0]["rules"]
        until(
            "every rule was evaluated",
            lambda: all(
                rule["health"] == "ok" for rule in prometheus.api("rules")["groups"][0]["rules"]
            ),
        )
        assert len(rules) == len(re.findall(r"- alert:", ALERTS.read_text("utf-8")))
        # Of a sound node none is firing, and the parts add up.
        alerts = {one["labels"]["alertname"] for one in prometheus.api("alerts")["alerts"]}
        assert "LithowattPartsDiffer" not in alerts and "LithowattNoEnergyCounter" not in alerts
