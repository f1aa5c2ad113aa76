"""The prototype's monitors against a machine whose counters the test sets."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lithowatt import MeterStateError, ProcessNotFoundError, _core
from lithowatt.monitors import (
    LocalhostEnergyMonitor,
    PERFMonitor,
    PSUtilMonitor,
    RAPLMonitor,
    eBPFMonitor,
    read_rapl_energy,
    setup_perf_monitoring,
)
from tests.source.test_hwmon import cards
from tests.support.meanwhile import meanwhile
from tests.support.powercap_files import RANGE_UJ, TWO_SOCKETS, FakeMachine, advance

pytestmark = pytest.mark.quiet


@pytest.fixture
def machine(tmp_path: Path) -> FakeMachine:
    return FakeMachine(tmp_path, TWO_SOCKETS)


# --- read_rapl_energy -------------------------------------------------------------------------


def test_absolute_counters_by_zone_name_all_sockets(machine: FakeMachine) -> None:
    machine.set("intel-rapl:2", 12_500_000)
    machine.set("intel-rapl:1", 7_500_000)
    machine.set("intel-rapl:2:0", 3_000_000)
    machine.set("intel-rapl:1:0", 1_000_000)
    assert read_rapl_energy(machine.root) == (20.0, 4.0)


def test_absolute_counters_follow_the_root_of_the_environment(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LITHOWATT_ROOT", str(machine.root))
    assert read_rapl_energy() == (2.0, 2.0)


def test_the_core_zone_of_amd_is_one_core_and_not_the_cores(tmp_path: Path) -> None:
    zones = {"intel-rapl:0": "package-0", "intel-rapl:0:0": "core"}
    machine = FakeMachine(tmp_path, zones, vendor="AuthenticAMD")
    assert read_rapl_energy(machine.root) == (1.0, None)


def test_dies_of_a_package_are_summed(tmp_path: Path) -> None:
    zones = {"intel-rapl:0": "package-0-die-0", "intel-rapl:1": "package-0-die-1"}
    assert read_rapl_energy(FakeMachine(tmp_path, zones).root) == (2.0, None)


def test_children_that_only_their_parent_shows(tmp_path: Path) -> None:
    zones = {"intel-rapl:0": "package-0", "intel-rapl:0/intel-rapl:0:0": "core"}
    assert read_rapl_energy(FakeMachine(tmp_path, zones).root) == (1.0, 1.0)


def test_an_mmio_tree_alone_counts(tmp_path: Path) -> None:
    machine = FakeMachine(tmp_path, {"intel-rapl-mmio:0": "package-0"})
    assert read_rapl_energy(machine.root) == (1.0, None)


@pytest.mark.parametrize("text", ["", "-5\n", "twelve\n", "nan\n", "1e6\n", "9" * 40, "\u0663\n"])
def test_a_counter_that_is_no_number_makes_no_sum(machine: FakeMachine, text: str) -> None:
    (machine.powercap / "intel-rapl:1/energy_uj").write_text(text, encoding="utf-8")
    assert read_rapl_energy(machine.root) == (None, 2.0)


def test_hostile_names_are_no_packages(tmp_path: Path) -> None:
    machine = FakeMachine(tmp_path, {"intel-rapl:0": "package-0; rm", "intel-rapl:1": "package-"})
    machine.add_zone("intel-rapl:x", "package-0")
    assert read_rapl_energy(machine.root) == (None, None)


def test_without_powercap_there_are_no_counters(tmp_path: Path) -> None:
    assert read_rapl_energy(tmp_path) == (None, None)


def test_a_root_that_is_no_path() -> None:
    with pytest.raises(TypeError):
        read_rapl_energy(5)  # type: ignore[arg-type]


# --- RAPLMonitor ------------------------------------------------------------------------------


@contextmanager
def moving(machine: FakeMachine) -> Iterator[None]:
    """Every counter goes on meanwhile."""

    def count() -> None:
        for zone in machine.powercap.iterdir():
            machine.add(zone.name, 0.01)

    with meanwhile(count, 0.002):
        yield


def test_rapl_counts_packages_and_dram_since_the_start(machine: FakeMachine) -> None:
    monitor = RAPLMonitor(root=machine.root, interval=None)
    monitor.start()
    advance(machine)
    assert monitor.get_energy_consumption() == pytest.approx(17.0)
    monitor.stop()
    advance(machine)
    metrics = monitor.get_metrics()
    assert metrics["energy_pkg"] == pytest.approx(15.0)
    assert metrics["energy_cores"] == pytest.approx(9.0)
    assert metrics["energy_dram"] == pytest.approx(2.0)
    assert metrics["energy_psys"] == pytest.approx(40.0)
    assert metrics["energy_total"] == pytest.approx(17.0)
    assert metrics["energy_uncore"] is None
    assert metrics["available"] is True
    assert metrics["source"].startswith("measured: ")
    assert metrics["duration"] > 0
    assert metrics["calibration_factor"] == 1.0
    assert monitor.get_energy_consumption("package") == pytest.approx(15.0)
    assert monitor.get_energy_consumption("uncore") is None
    assert monitor.reason is None


@pytest.mark.parametrize("name", ["rapl", "perf", "ebpf", "psutil"])
def test_why_not_is_known_without_waiting(
    machine: FakeMachine, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    doctor = _core.doctor
    monkeypatch.setattr(
        _core, "doctor", lambda *a, **k: asked.append((*a[1:], k)) or doctor(*a, **k)
    )
    monitors = LocalhostEnergyMonitor(root=machine.root)
    monitor = getattr(monitors, f"{name}_monitor")
    began = time.monotonic()
    # Counters of RAPL stand still here, for which the doctor waits 1.5 s.
    reason = monitor.reason
    assert time.monotonic() - began < 0.5
    assert asked == [([name], {"waits": False})]
    assert (reason is None) is (name in ("rapl", "psutil")) or name == "ebpf"


def test_a_counter_that_stands_still_is_a_reason_once_that_was_seen(machine: FakeMachine) -> None:
    monitor = RAPLMonitor(root=machine.root)
    assert monitor.reason is None
    time.sleep(0.25)
    assert "the counter did not move" in str(monitor.reason)
    advance(machine)
    assert monitor.reason is None


def test_rapl_counts_from_its_making_and_start_begins_again(machine: FakeMachine) -> None:
    monitor = RAPLMonitor(root=machine.root, interval=None)
    advance(machine)
    assert monitor.get_energy_consumption() == pytest.approx(17.0)
    monitor.start()
    machine.add("intel-rapl:1", 2)
    machine.add("intel-rapl:2", 2)
    monitor.stop()
    monitor.stop()
    assert monitor.get_energy_consumption("package") == pytest.approx(4.0)


def test_rapl_puts_a_wrap_right(tmp_path: Path) -> None:
    machine = FakeMachine(tmp_path)
    machine.set("intel-rapl:0", RANGE_UJ - 999_999)
    monitor = RAPLMonitor(root=machine.root, interval=None)
    machine.set("intel-rapl:0", 2_000_000)
    time.sleep(0.01)
    assert monitor.get_energy_consumption() == pytest.approx(3.0)


def test_calibration_against_an_external_meter(machine: FakeMachine) -> None:
    monitor = RAPLMonitor(root=machine.root, interval=None)
    advance(machine)
    monitor.stop()
    assert monitor.calculate_calibration(reference_joules=20.4) == pytest.approx(1.2)
    assert monitor.calibration_factor == pytest.approx(1.2)
    assert monitor.get_energy_consumption() == pytest.approx(20.4)
    assert monitor.get_energy_consumption("package") == pytest.approx(18.0)
    assert monitor.calibration_source.startswith("measured: reference 20.4 J against rapl 17 J")
    assert monitor.get_metrics()["energy_total"] == pytest.approx(17.0)


def test_calibration_against_perf(tmp_path: Path) -> None:
    machine = FakeMachine(tmp_path, {"intel-rapl:0": "package-0", "intel-rapl:0:0": "dram"})
    machine.add_power_pmu(50.0)
    monitor = RAPLMonitor(root=machine.root, interval=None)
    time.sleep(0.2)
    machine.add("intel-rapl:0", 5)
    machine.add("intel-rapl:0:0", 3)
    monitor.stop()
    perf = PERFMonitor(meter=monitor.meter)
    reading = monitor.meter.reading
    if not reading.perf.available:
        pytest.skip(reading.perf.source)
    # Package against package: perf has no DRAM here.
    assert monitor.calculate_calibration() == pytest.approx(50 * reading.duration / 5, rel=0.05)
    assert monitor.calibration_source.startswith("measured: perf ")
    assert "(package)" in monitor.calibration_source
    assert perf.get_metrics()["energy_pkg"] == pytest.approx(50 * reading.duration, rel=0.05)


def test_calibration_without_a_reference_is_one_with_a_reason(machine: FakeMachine) -> None:
    monitor = RAPLMonitor(root=machine.root, interval=None)
    assert "not called" in monitor.calibration_source
    advance(machine)
    assert monitor.calculate_calibration(34.0) == pytest.approx(2.0)
    assert monitor.calculate_calibration() == 1.0
    assert monitor.calibration_source.startswith("unavailable: perf: ")
    assert monitor.get_energy_consumption() == pytest.approx(17.0)


def test_calibration_without_rapl_is_one_with_a_reason(tmp_path: Path) -> None:
    monitor = RAPLMonitor(root=tmp_path, interval=None)
    assert monitor.calculate_calibration(reference_joules=10.0) == 1.0
    assert monitor.calibration_source.startswith("unavailable: ")
    assert "powercap" in monitor.calibration_source
    assert monitor.get_energy_consumption() is None
    assert monitor.get_metrics()["energy_total"] is None
    assert monitor.reason is not None and "powercap" in monitor.reason


@pytest.mark.parametrize("reference", [0.0, -1.0, float("nan"), float("inf"), 10**400])
def test_a_reference_that_is_no_energy(machine: FakeMachine, reference: float) -> None:
    monitor = RAPLMonitor(root=machine.root, interval=None)
    with pytest.raises(ValueError, match="reference_joules"):
        monitor.calculate_calibration(reference)


@pytest.mark.parametrize("reference", ["12", True, [1.0]])
def test_a_reference_that_is_no_number(machine: FakeMachine, reference: object) -> None:
    monitor = RAPLMonitor(root=machine.root, interval=None)
    with pytest.raises(TypeError, match="reference_joules"):
        monitor.calculate_calibration(reference)  # type: ignore[arg-type]


def test_a_domain_that_is_none(machine: FakeMachine) -> None:
    monitor = RAPLMonitor(root=machine.root, interval=None)
    with pytest.raises(ValueError, match=r"'pkg'.*package"):
        monitor.get_energy_consumption("pkg")


# --- PERFMonitor, eBPFMonitor, PSUtilMonitor ----------------------------------------------------


def test_perf_counts_the_power_pmu(tmp_path: Path) -> None:
    machine = FakeMachine(tmp_path)
    machine.add_power_pmu(20.0)
    monitor = PERFMonitor(root=machine.root, interval=None)
    if monitor.reason is not None and "energy" in monitor.reason:
        pytest.skip(monitor.reason)
    monitor.start()
    time.sleep(0.2)
    monitor.stop()
    metrics = monitor.get_metrics()
    assert metrics["energy_pkg"] == pytest.approx(20.0 * metrics["duration"], rel=0.05)
    assert metrics["energy_cores"] is None


def test_perf_without_a_power_pmu_says_why(machine: FakeMachine) -> None:
    monitor = PERFMonitor(root=machine.root, interval=None)
    monitor.start()
    monitor.stop()
    metrics = monitor.get_metrics()
    assert metrics["energy_pkg"] is None
    assert metrics["available"] is False
    assert metrics["source"].startswith("unavailable: ") and "power" in metrics["source"]
    assert monitor.reason is not None and "power" in monitor.reason


def test_ebpf_without_probes_says_why(machine: FakeMachine) -> None:
    monitor = eBPFMonitor(root=machine.root, interval=None)
    deployed = monitor.deploy_programs()
    metrics = monitor.get_metrics()
    assert deployed is (monitor.reason is None)
    assert metrics["available"] is deployed
    if not deployed:
        assert monitor.reason
        assert metrics["source"].startswith("unavailable: ")
        assert [v for k, v in metrics.items() if k.startswith("energy_")] == [None] * 4


def test_psutil_sees_this_process(machine: FakeMachine) -> None:
    monitor = PSUtilMonitor(root=machine.root, interval=None)
    monitor.start()
    deadline = time.process_time() + 0.3
    while time.process_time() < deadline:
        pass
    monitor.stop()
    metrics = monitor.get_metrics()
    cpu_percent = 100 * 0.3 / metrics["duration"]
    assert metrics["process_cpu_percent"] == pytest.approx(cpu_percent, rel=0.1)
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    assert metrics["process_memory_mb"] == pytest.approx(resident / 2**20, rel=0.2)
    assert 0 <= metrics["memory_percent"] <= 100
    assert metrics["available"] is True


@pytest.mark.parametrize("monitor", [PERFMonitor, PSUtilMonitor, eBPFMonitor])
def test_a_monitor_that_never_started_says_so(
    machine: FakeMachine, monitor: type[PERFMonitor]
) -> None:
    idle = monitor(root=machine.root)
    idle.stop()
    metrics = idle.get_metrics()
    assert metrics["source"] == "unavailable: not started: call start() first"
    assert metrics["available"] is False
    assert metrics["duration"] is None


@pytest.mark.parametrize("monitor", [PERFMonitor, PSUtilMonitor, LocalhostEnergyMonitor])
def test_a_process_that_is_not_there(monitor: type[PERFMonitor]) -> None:
    with pytest.raises(ProcessNotFoundError, match="2147483600"):
        monitor(2_147_483_600)


# --- LocalhostEnergyMonitor ---------------------------------------------------------------------


def test_all_methods_share_one_window(machine: FakeMachine) -> None:
    monitor = LocalhostEnergyMonitor(root=machine.root, interval=None)
    monitor.start_monitoring()
    advance(machine)
    assert monitor.collect_metrics()["rapl"]["energy_total"] == pytest.approx(17.0)
    monitor.stop_monitoring()
    monitor.stop_monitoring()
    advance(machine)
    metrics = monitor.collect_metrics()
    assert list(metrics) == ["rapl", "perf", "ebpf", "psutil"]
    assert metrics["rapl"]["energy_total"] == pytest.approx(17.0)
    assert metrics["rapl"]["energy_cores"] == pytest.approx(9.0)
    assert metrics["perf"]["energy_pkg"] is None
    assert metrics["psutil"]["process_memory_mb"] > 0
    assert len({part["duration"] for part in metrics.values()}) == 1
    assert monitor.rapl_monitor.calculate_calibration(34.0) == pytest.approx(2.0)
    assert monitor.collect_metrics()["rapl"]["calibration_factor"] == pytest.approx(2.0)


def test_what_no_monitor_is_of_has_a_reason_and_the_meter(tmp_path: Path) -> None:
    """A machine without RAPL, with sensors and cards: the four methods have no joules of them."""
    cards(tmp_path, arc=False)
    monitor = LocalhostEnergyMonitor(root=tmp_path)
    monitor.start_monitoring()
    time.sleep(0.4)
    monitor.stop_monitoring()
    metrics = monitor.collect_metrics()
    for name in ("rapl", "perf"):
        assert metrics[name]["energy_pkg"] is None
        assert metrics[name]["source"].startswith("unavailable: ")
    reading = monitor.meter.reading
    assert reading.hwmon.package == pytest.approx(17.0 * reading.duration, rel=0.05)
    assert reading.gpu is not None and reading.gpu.low < 90.0 * reading.duration < reading.gpu.high


def test_starting_again_begins_from_zero(machine: FakeMachine) -> None:
    monitor = LocalhostEnergyMonitor(root=machine.root, interval=None)
    monitor.start_monitoring()
    advance(machine)
    monitor.start_monitoring()
    machine.add("intel-rapl:1", 1)
    machine.add("intel-rapl:2", 1)
    monitor.stop_monitoring()
    assert monitor.collect_metrics()["rapl"]["energy_pkg"] == pytest.approx(2.0)


def test_before_the_start_there_is_nothing(machine: FakeMachine) -> None:
    monitor = LocalhostEnergyMonitor(root=machine.root)
    for part in monitor.collect_metrics().values():
        assert part["source"] == "unavailable: not started: call start() first"
    with pytest.raises(MeterStateError):
        monitor.rapl_monitor.get_energy_consumption()


# --- setup_perf_monitoring ----------------------------------------------------------------------


def test_perf_events_that_are_not_there_have_a_reason(machine: FakeMachine) -> None:
    events = setup_perf_monitoring(machine.root)
    assert {"power/energy-pkg/", "power/energy-cores/", "cpu-cycles", "instructions"} <= set(events)
    for name in ("power/energy-pkg/", "power/energy-cores/"):
        assert events[name]["available"] is False
        assert "power" in events[name]["reason"]
    for event in events.values():
        assert event["available"] is (event["reason"] is None)


def test_perf_events_that_were_opened(tmp_path: Path) -> None:
    machine = FakeMachine(tmp_path)
    machine.add_power_pmu(20.0)
    events = setup_perf_monitoring(machine.root)
    if not events["power/energy-pkg/"]["available"]:
        pytest.skip(events["power/energy-pkg/"]["reason"])
    assert events["power/energy-pkg/"] == {"available": True, "reason": None}
    assert events["power/energy-cores/"]["available"] is False
    assert events["power/energy-cores/"]["reason"]
