"""The stats dict: every key of the contract, with its type, its unit and its honesty."""

from __future__ import annotations

import copy
import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lithowatt import EnergyMeter, _core
from lithowatt._support.switches import stats_form
from lithowatt.lithops import table
from lithowatt.meter import _engine
from lithowatt.meter._engine import written
from lithowatt.profiles._values import energy_values
from lithowatt.report._executions import executions
from lithowatt.stats import ESSENTIAL, spelt
from rig import StaticTree
from tests.support.stats_contract import CONTRACT, NUMBER

"""Every key of the contract without ``worker_func_``, with the types of a value that is there."""

PROCESSOR: dict[str, tuple[type, ...]] = {
    "worker_processor_name": (str,),
    "worker_processor_brand": (str,),
    "worker_processor_cores": (int,),
    "worker_processor_threads": (int,),
    "worker_processor_info": (dict,),
}

NEVER_NONE = {
    "energy_method_used",
    "energy_duration",
    "energy_warnings",
    "energy_schema",
    "machine_scope",
    "psutil_cpu_name",
    "psutil_cpu_brand",
    "psutil_cpu_architecture",
    "psutil_cpu_cores_logical",
    "aws_architecture",
    "aws_is_lambda",
    *(
        f"{m}_{k}"
        for m in ("rapl", "perf", "ebpf", "psutil", "tdp")
        for k in ("available", "source")
    ),
}

VALUES_OF = {
    "rapl": [k for k in CONTRACT if k.startswith("rapl_energy_")],
    "perf": [k for k in CONTRACT if k.startswith("perf_energy_")],
    "ebpf": [k for k in CONTRACT if re.match("ebpf_(?!available|source)", k)],
    "tdp": ["tdp_energy"],
    "psutil": [
        k for k, t in CONTRACT.items() if re.match("psutil_(?!cpu_[a-ec-z]+_)", k) and t == NUMBER
    ],
}


def get(stats: dict[str, Any], key: str) -> Any:
    return stats[f"worker_func_{key}"]


def spin(seconds: float) -> None:
    """Uses one CPU."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[StaticTree]:
    """Two Intel packages with all domains, and psys."""
    domains = ("package", "core", "uncore", "dram")
    with StaticTree(tmp_path / "root", packages=2, domains=domains, psys=True) as tree:
        # On AMD the core zone is one core only, and rightly left out.
        proc = tree.root / "proc"
        proc.unlink()
        (proc / "net").mkdir(parents=True)
        for name in ("stat", "uptime", "meminfo", "loadavg", "diskstats", "net/dev"):
            (proc / name).symlink_to(f"/proc/{name}")
        (proc / "cpuinfo").write_text(
            "processor : 0\nvendor_id : GenuineIntel\nmodel name : Intel Xeon Gold 6140\n"
        )
        yield tree


WATTS = {"package": 40.0, "core": 28.0, "uncore": 2.0, "dram": 6.0, "psys": 110.0}


def burn(tree: StaticTree, seconds: float = 0.25) -> dict[str, float]:
    """Runs for a while and charges each zone for it; returns J by domain, all packages."""
    spin(seconds)
    sums: dict[str, float] = {}
    for zone in tree.zones:
        domain = "package" if zone.name.startswith("package") else zone.name
        joules = WATTS[domain] * seconds
        tree.add(zone.key, round(joules * 1e6))
        sums[domain] = sums.get(domain, 0.0) + joules
    return sums


def variants(tree: StaticTree) -> Iterator[tuple[str, EnergyMeter]]:
    """Meters after a window, one for each way that a reading can turn out."""
    (tree.root / "nothing").mkdir()
    for name, options in {
        "this machine": {},
        "all counters": {"root": tree.root},
        "edges only": {"root": tree.root, "interval": None},
        "thread": {"root": tree.root, "scope": "thread"},
        "rapl only": {"root": tree.root, "methods": "rapl"},
        "model only": {"methods": "tdp"},
        "psutil only": {"methods": "psutil"},
        "perf only": {"methods": ["perf"]},
        "empty machine": {"root": tree.root / "nothing"},
        "switched off": {"enabled": False},
    }.items():
        meter = EnergyMeter(**options)  # type: ignore[arg-type]
        with meter:
            burn(tree, 0.03)
        yield name, meter
    meter = EnergyMeter(root=tree.root)
    with meter:
        pass
    yield "instant", meter
    with meter:
        burn(tree, 0.03)
        running = meter.stats()
        assert running.keys() == meter.stats().keys()


EVERY: dict[str, dict[str, Any]] = {}
"""Made by the first test that asks: a module's fixture would not have the settings of tests."""


@pytest.fixture
def every(tree: StaticTree) -> dict[str, dict[str, Any]]:
    """Stats of each variant, by its name; a copy for each test."""
    if not EVERY:
        EVERY.update((name, meter.stats()) for name, meter in variants(tree))
    return copy.deepcopy(EVERY)


# -- keys and types -----------------------------------------------------------------------------


def test_every_key_is_there_and_of_its_type(every: dict[str, dict[str, Any]]) -> None:
    for variant, stats in every.items():
        for key, types in CONTRACT.items():
            value = get(stats, key)
            if value is None:
                off = variant == "switched off" and key == "energy_duration"
                assert key not in NEVER_NONE or off, f"{variant}: {key}"
                continue
            assert isinstance(value, types), f"{variant}: {key} = {value!r}"
            assert bool in types or not isinstance(value, bool), f"{variant}: {key}"
        for key, types in PROCESSOR.items():
            assert stats[key] is None or isinstance(stats[key], types), f"{variant}: {key}"


def test_all_readings_have_the_same_keys(every: dict[str, dict[str, Any]]) -> None:
    keys = {variant: list(stats) for variant, stats in every.items()}
    for variant, names in keys.items():
        assert names == keys["this machine"], variant


def test_every_key_carries_the_prefix(every: dict[str, dict[str, Any]]) -> None:
    for stats in every.values():
        assert all(k.startswith("worker_func_") or k in PROCESSOR for k in stats)


def test_it_is_json_of_moderate_size(every: dict[str, dict[str, Any]]) -> None:
    for variant, stats in every.items():
        text = json.dumps(stats, allow_nan=False)
        assert json.loads(text) == stats, variant
        # The longest says of every counter why it is not there.
        assert len(text) < 7 * 1024, variant


def test_the_schema_is_the_core_s(every: dict[str, dict[str, Any]]) -> None:
    for stats in every.values():
        assert get(stats, "energy_schema") == _core.STATS_SCHEMA == 1
        assert get(stats, "machine_scope") is True


# -- None, never zero ---------------------------------------------------------------------------


def test_available_says_what_source_says(every: dict[str, dict[str, Any]]) -> None:
    for variant, stats in every.items():
        for method in VALUES_OF:
            source = get(stats, f"{method}_source")
            missing = source.startswith("unavailable: ")
            assert get(stats, f"{method}_available") is not missing, f"{variant}: {source}"
            assert len(source) > len("unavailable: "), f"{variant}: {method}"


def test_what_is_not_available_is_none(every: dict[str, dict[str, Any]]) -> None:
    for variant, stats in every.items():
        for method, keys in VALUES_OF.items():
            if not get(stats, f"{method}_available"):
                assert {k: get(stats, k) for k in keys if get(stats, k) is not None} == {}, variant


def test_no_energy_is_ever_zero(every: dict[str, dict[str, Any]]) -> None:
    for variant, stats in every.items():
        for key in VALUES_OF["rapl"] + VALUES_OF["perf"] + ["tdp_energy", "energy_machine"]:
            value = get(stats, key)
            assert value is None or value > 0, f"{variant}: {key} = {value}"


def test_without_a_headline_all_of_it_is_none_with_a_reason(
    every: dict[str, dict[str, Any]],
) -> None:
    for variant in ("psutil only", "perf only", "switched off"):
        stats = every[variant]
        for key in ("consumption", "low", "high", "quality", "method", "marginal", "amortised"):
            assert get(stats, f"energy_{key}") is None, f"{variant}: {key}"
        for key in ("definition", "machine", "idle", "others"):
            assert get(stats, f"energy_{key}") is None, f"{variant}: {key}"
        assert get(stats, "energy_source").startswith("unavailable: "), variant


def test_a_method_not_asked_for_says_so(every: dict[str, dict[str, Any]]) -> None:
    for method in ("perf", "ebpf", "psutil", "tdp"):
        assert "not asked for" in get(every["rapl only"], f"{method}_source")
    assert "not asked for" in get(every["model only"], "rapl_source")


def test_switched_off_names_the_switch(every: dict[str, dict[str, Any]]) -> None:
    for method in VALUES_OF:
        source = get(every["switched off"], f"{method}_source")
        assert "ENERGY_MONITORING_ENABLED" in source


def test_numbers_are_finite_and_not_negative(every: dict[str, dict[str, Any]]) -> None:
    signed = {"psutil_cpu_temp_celsius"}
    for variant, stats in every.items():
        for key, types in CONTRACT.items():
            value = get(stats, key)
            if types in (NUMBER, (int,)) and value is not None and key not in signed:
                assert math.isfinite(value) and value >= 0, f"{variant}: {key} = {value}"


def test_percents_are_percents(every: dict[str, dict[str, Any]]) -> None:
    cpus = os.cpu_count() or 1
    for variant, stats in every.items():
        for key, most in {
            "psutil_cpu_percent": 100.0,
            "psutil_memory_percent": 100.0,
            # The CPU clock and the monotonic clock are not read in the same instant.
            "psutil_process_cpu_percent": 101.0 * cpus,
            "avg_cpu_usage": 101.0 * cpus,
        }.items():
            value = get(stats, key)
            assert value is None or 0 <= value <= most, f"{variant}: {key} = {value}"


# -- text ---------------------------------------------------------------------------------------


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)


def test_texts_are_one_line_and_not_empty(every: dict[str, dict[str, Any]]) -> None:
    # Lithops keeps a call's stats as lines of `key value`.
    for variant, stats in every.items():
        for key, value in stats.items():
            for text in texts(value):
                assert text and text.isprintable() and text == text.strip(), f"{variant}: {key}"


HOSTILE = "a\nworker_func_energy_consumption 0\r\0\x1b[31m"


@pytest.mark.parametrize(
    "variables",
    [
        {"container": HOSTILE},
        {"container": "\n"},
        {"KUBERNETES_SERVICE_HOST": "x", "POD_NAME": HOSTILE, "NODE_NAME": HOSTILE},
        {"LITHOWATT_INSTANCE_TYPE": HOSTILE},
        {"AWS_LAMBDA_FUNCTION_NAME": HOSTILE, "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "-1\n"},
        {"LITHOWATT_ROOT": "/no\nwhere"},
        {"LITHOWATT_IDLE_WATTS": "nan"},
    ],
    ids=lambda v: "+".join(v),
)
def test_hostile_surroundings_stay_on_their_line(variables: dict[str, str]) -> None:
    env = {k: v.replace("\0", "") for k, v in variables.items()}
    code = (
        "import json\nfrom lithowatt import EnergyMeter\nwith EnergyMeter() as m: pass\n"
        "print(json.dumps(m.stats(), allow_nan=False))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=True,
    )
    for key, value in json.loads(done.stdout).items():
        for text in texts(value):
            assert text and text.isprintable(), f"{key} = {text!r}"


def test_a_hostile_processor_name_stays_on_its_line(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    name = "x\x1b[31m\x00" + "y" * 100_000
    (tmp_path / "proc/cpuinfo").write_text(f"processor : 0\nmodel name : {name}\n")
    with EnergyMeter(root=tmp_path) as m:
        pass
    stats = m.stats()
    assert len(json.dumps(stats)) < 6 * 1024
    assert all(text.isprintable() for text in texts(stats))


# -- compact ------------------------------------------------------------------------------------


def test_compact_leaves_out_what_is_none(tree: StaticTree) -> None:
    for variant, meter in variants(tree):
        full, compact = meter.stats(compact=False), meter.stats(compact=True)
        assert compact == {k: v for k, v in full.items() if v is not None}, variant


def test_compact_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with EnergyMeter() as m:
        pass
    full = m.stats()
    assert None in full.values()
    monkeypatch.setenv("ENERGY_STATS", " Compact ")
    assert m.stats() == {k: v for k, v in full.items() if v is not None}
    assert m.stats(compact=False) == full
    monkeypatch.setenv("ENERGY_STATS", "full")
    assert m.stats() == full


# -- essential ----------------------------------------------------------------------------------


def test_essential_keys_are_keys_of_the_stats() -> None:
    names = [name for name, *_, in_stats in _core.stats_keys() if in_stats]
    assert set(ESSENTIAL) <= set(names)
    assert len(set(ESSENTIAL)) == len(ESSENTIAL) < len(names) / 2


def test_essential_has_some_keys_with_the_values_of_all(
    tree: StaticTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {name for key in ESSENTIAL for name in spelt(key)}
    for variant, meter in variants(tree):
        full = meter.stats(compact=False)
        assert names < full.keys(), variant
        monkeypatch.setenv("ENERGY_STATS", " Essential ")
        essential = meter.stats()
        assert essential == {k: v for k, v in full.items() if k in names and v is not None}, variant
        assert json.loads(meter.stats_json()) == essential, variant
        # Who asks for a form is given it.
        assert meter.stats(compact=False) == full
        assert meter.stats(compact=True) == {k: v for k, v in full.items() if v is not None}
        monkeypatch.delenv("ENERGY_STATS")


def test_essential_is_what_function_times_are_made_of(
    tree: StaticTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call's FunctionTimes, row of a table and execution in a report lose nothing by it."""
    for variant, meter in variants(tree):
        full = meter.stats(compact=False)
        monkeypatch.setenv("ENERGY_STATS", "essential")
        essential = meter.stats()
        monkeypatch.delenv("ENERGY_STATS")
        assert energy_values(essential) == energy_values(full), variant
        assert table([essential]).calls == table([full]).calls, variant
        assert list(executions([essential])) == list(executions([full])), variant


def test_essential_says_why_there_is_no_energy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENERGY_STATS", "essential")
    with EnergyMeter(methods="psutil") as m:
        pass
    stats = m.stats()
    assert "worker_func_energy_consumption" not in stats
    assert get(stats, "energy_source").startswith("unavailable: ")


def test_essential_of_a_pickled_meter(monkeypatch: pytest.MonkeyPatch) -> None:
    with EnergyMeter(methods="tdp") as m:
        spin(0.01)
    monkeypatch.setenv("ENERGY_STATS", "essential")
    essential = m.stats()
    assert get(essential, "energy_consumption") > 0
    copied = copy.copy(m)
    assert copied.stats() == essential
    assert json.loads(copied.stats_json()) == essential
    assert copied.stats(compact=False) == m.stats(compact=False)


def test_a_worker_knows_the_form_before_it_forks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What writes the stats of a call is made where the job's environment is in place."""
    m = EnergyMeter(methods="tdp")
    monkeypatch.setattr(_engine, "_essential", None)
    monkeypatch.setenv("ENERGY_STATS", "essential")
    arguments = written(stats_form())
    made = _engine._essential
    assert made is not None
    with m:
        spin(0.01)
    essential = m.stats()
    monkeypatch.delenv("ENERGY_STATS")
    assert json.loads(m._core.raw_stats_json(*arguments)) == essential
    assert len(essential) < len(m.stats())
    assert _engine._essential is made


def test_essential_stats_are_a_third_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without counters: 1361 of 4704 bytes where this was written."""
    with EnergyMeter(methods=["tdp", "psutil"]) as m:
        spin(0.03)
    full = m.stats_json()
    monkeypatch.setenv("ENERGY_STATS", "essential")
    assert len(m.stats_json()) < 0.4 * len(full)


# -- what the numbers mean ----------------------------------------------------------------------


def test_domains_are_summed_over_sockets(tree: StaticTree) -> None:
    with EnergyMeter(root=tree.root) as m:
        joules = burn(tree)
    stats = m.stats()
    for key, domain in {
        "pkg": "package",
        "cores": "core",
        "uncore": "uncore",
        "dram": "dram",
        "psys": "psys",
    }.items():
        assert get(stats, f"rapl_energy_{key}") == pytest.approx(joules[domain], abs=1e-5), key
        assert getattr(m.reading.rapl, domain) == get(stats, f"rapl_energy_{key}")


def test_total_is_packages_and_dram(tree: StaticTree) -> None:
    with EnergyMeter(root=tree.root) as m:
        joules = burn(tree)
    stats = m.stats()
    total = get(stats, "rapl_energy_total")
    assert total == pytest.approx(get(stats, "rapl_energy_pkg") + get(stats, "rapl_energy_dram"))
    assert total == pytest.approx(joules["package"] + joules["dram"], abs=1e-5)
    assert get(stats, "energy_machine") == pytest.approx(total)


def test_total_without_dram_is_the_packages(tmp_path: Path) -> None:
    with StaticTree(tmp_path, domains=("package", "core")) as tree:
        with EnergyMeter(root=tree.root) as m:
            joules = burn(tree, 0.05)
        stats = m.stats()
    assert get(stats, "rapl_energy_total") == pytest.approx(joules["package"], abs=1e-5)
    assert get(stats, "rapl_energy_dram") is None
    assert "dram" in m.reading.rapl.reasons["dram"]


def test_idle_others_and_marginal_are_the_machine(every: dict[str, dict[str, Any]]) -> None:
    seen = 0
    for variant, stats in every.items():
        machine = get(stats, "energy_machine")
        if machine is None:
            continue
        seen += 1
        parts = sum(get(stats, f"energy_{part}") for part in ("idle", "others", "marginal"))
        assert parts == pytest.approx(machine, rel=5e-3), variant
    assert seen >= 5


def test_the_band_holds_the_value(every: dict[str, dict[str, Any]]) -> None:
    for variant, stats in every.items():
        value = get(stats, "energy_consumption")
        if value is None:
            continue
        low, high = get(stats, "energy_low"), get(stats, "energy_high")
        assert 0 <= low <= value <= high, variant
        assert low < high, variant


def test_consumption_is_what_definition_says(every: dict[str, dict[str, Any]]) -> None:
    for variant, stats in every.items():
        definition = get(stats, "energy_definition")
        if definition is not None:
            assert definition in ("marginal", "amortised")
            value = get(stats, f"energy_{definition}")
            assert get(stats, "energy_consumption") == pytest.approx(value), variant
            assert get(stats, "energy_amortised") >= get(stats, "energy_marginal") - 1e-9, variant


def test_quality_and_method(every: dict[str, dict[str, Any]]) -> None:
    for variant in ("all counters", "edges only", "thread", "rapl only"):
        assert get(every[variant], "energy_quality") in ("measured", "attributed"), variant
        assert get(every[variant], "energy_method").startswith("rapl"), variant
    for variant in ("model only", "empty machine"):
        assert get(every[variant], "energy_quality") == "modelled", variant
        assert get(every[variant], "energy_method").startswith("model:"), variant


def test_method_used_has_four_places(every: dict[str, dict[str, Any]]) -> None:
    for variant, stats in every.items():
        used = get(stats, "energy_method_used").split(", ")
        expected = [
            m if get(stats, f"{m}_available") else "null"
            for m in ("perf", "rapl", "ebpf", "psutil")
        ]
        assert used == expected, variant
    assert get(every["rapl only"], "energy_method_used") == "null, rapl, null, null"
    assert get(every["switched off"], "energy_method_used") == "null, null, null, null"


def test_duration_is_the_window_s() -> None:
    begun = time.monotonic()
    with EnergyMeter() as m:
        inside = time.monotonic()
        time.sleep(0.05)
        inside = time.monotonic() - inside
    around = time.monotonic() - begun
    assert inside <= get(m.stats(), "energy_duration") <= around


def test_phases_sum_to_the_whole(
    tree: StaticTree, steady: Callable[[Callable[[], None]], None]
) -> None:
    @steady
    def check() -> None:
        with EnergyMeter(root=tree.root) as m:
            for name in ("read", "compute", "write", "compute"):
                with m.phase(name):
                    burn(tree, 0.12)
        stats = m.stats()
        phases = [get(stats, f"energy_phase_{name}") for name in ("read", "compute", "write")]
        assert all(joules > 0 for joules in phases)
        assert sum(phases) == pytest.approx(get(stats, "energy_consumption"), rel=0.02)
        assert phases[1] == max(phases)


def test_phases_of_other_names_are_in_the_reading_only() -> None:
    with EnergyMeter() as m, m.phase("shuffle"):
        spin(0.01)
    assert [p.name for p in m.reading.phases] == ["shuffle"]
    stats = m.stats()
    assert get(stats, "energy_phase_read") is None
    assert not any("shuffle" in key for key in stats)


def test_watts_and_usage(tree: StaticTree) -> None:
    with EnergyMeter(root=tree.root) as m:
        burn(tree)
    stats = m.stats()
    joules, seconds = get(stats, "energy_consumption"), get(stats, "energy_duration")
    assert m.joules == joules
    assert m.watts == pytest.approx(joules / seconds)
    cpus = m.reading.raw["allotted_cpus"]
    usage = 100 * m.reading.cpu_seconds / seconds / cpus
    assert get(stats, "avg_cpu_usage") == pytest.approx(usage)


def test_tdp_is_named(every: dict[str, dict[str, Any]]) -> None:
    stats = every["this machine"]
    assert get(stats, "tdp_available") is True
    assert get(stats, "tdp_energy") > 0
    assert "TDP" in get(stats, "tdp_source")


def test_the_processor(every: dict[str, dict[str, Any]]) -> None:
    stats = every["this machine"]
    assert stats["worker_processor_name"] == get(stats, "psutil_cpu_name")
    assert stats["worker_processor_brand"] == get(stats, "psutil_cpu_brand")
    assert stats["worker_processor_cores"] == get(stats, "psutil_cpu_cores_physical")
    assert stats["worker_processor_threads"] == get(stats, "psutil_cpu_cores_logical")
    info = stats["worker_processor_info"]
    assert info["architecture"] == os.uname().machine == get(stats, "psutil_cpu_architecture")
    assert get(stats, "aws_architecture") == info["architecture"]


def test_lambda_as_flexexecutor_reads_it() -> None:
    code = (
        "import json\nfrom lithowatt import EnergyMeter\nwith EnergyMeter() as m: pass\n"
        "print(json.dumps(m.stats()))"
    )
    env = {"AWS_LAMBDA_FUNCTION_NAME": "f", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=True,
    )
    stats = json.loads(done.stdout)
    assert get(stats, "aws_is_lambda") is True
    assert get(stats, "aws_memory_size") == 1769
    assert get(stats, "aws_instance_type") == "lambda"
    assert get(stats, "container_runtime") == "lambda"
    assert get(stats, "energy_method").startswith("model:lambda-")


@pytest.mark.parametrize("packages", [1, 2, 4, 16])
def test_each_counter_by_itself_where_there_are_several(tmp_path: Path, packages: int) -> None:
    with StaticTree(tmp_path, packages=packages, domains=("package", "core", "dram")) as tree:
        with EnergyMeter("rapl", root=tree.root, interval=None) as meter:
            for at, zone in enumerate(tree.zones):
                tree.add(zone.key, 1_000 * (at + 1))
        stats = meter.stats()
    zones = stats["worker_func_energy_zones"]
    if packages == 1:
        assert zones is None
        return
    assert list(zones) == ["rapl"]
    # Cores are no devices, and a processor may have hundreds of them.
    assert len(zones["rapl"]) == 2 * packages
    for key, names in (
        ("pkg", [name for name in zones["rapl"] if "dram" not in name]),
        ("dram", [name for name in zones["rapl"] if "dram" in name]),
    ):
        assert len(names) == packages
        total = math.fsum(zones["rapl"][name] for name in names)
        assert total == pytest.approx(stats[f"worker_func_rapl_energy_{key}"], rel=1e-12)


def test_a_counter_that_goes_has_no_joules_of_its_own(tmp_path: Path) -> None:
    with StaticTree(tmp_path, packages=2, domains=("package",)) as tree:
        with EnergyMeter("rapl", root=tree.root, interval=None) as meter:
            tree.add(tree.zones[0].key, 2_000_000)
            tree.show(tree.zones[1].key, "gone")
        stats = meter.stats()
    zones = stats["worker_func_energy_zones"]["rapl"]
    assert sorted(zones.values(), key=str) == [2.0, None]
    assert stats["worker_func_rapl_energy_pkg"] is None
