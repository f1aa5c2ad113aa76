"""Counters that fail: never an exception, never a wrong zero, and the reason is said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evaluation.accuracy_report import truth_of
from lithowatt import EnergyMeter
from lithowatt._core import doctor
from rig import Rig, StaticTree

Steady = Callable[[Callable[[], None]], None]

KINDS = ("eacces", "vanish", "garbage", "empty", "freeze", "reset")
READ_FIX = 'sudo "$(command -v lithowatt)" setup --group "$(id -gn)"'


@pytest.fixture
def rig(live: None) -> Iterator[Rig]:
    """Two sockets, each domain on each, psys: 60 W and what comes on top."""
    with Rig(2, psys=True, watts=60.0, split=(0.5, 0.5)) as rig:
        yield rig


def sound(meter: EnergyMeter) -> dict[str, Any]:
    """What holds for every reading, whatever failed; returns its stats."""
    reading, stats = meter.reading, meter.stats()
    json.loads(json.dumps(stats, allow_nan=False))
    for method, keys in (
        ("rapl", ("pkg", "cores", "uncore", "dram", "psys", "total")),
        ("perf", ("pkg", "cores", "dram", "psys", "total")),
    ):
        values = [stats[f"worker_func_{method}_energy_{key}"] for key in keys]
        assert all(value is None or value > 0 for value in values), "never 0.0"
        available = stats[f"worker_func_{method}_available"]
        assert available is any(value is not None for value in values)
        if not available:
            source = stats[f"worker_func_{method}_source"]
            assert source.startswith("unavailable: ") and len(source) > 20
    for domain in ("package", "core", "uncore", "dram", "psys"):
        if getattr(reading.rapl, domain) is None and reading.rapl.available:
            assert len(reading.rapl.reasons[domain]) > 5
    headline = stats["worker_func_energy_consumption"]
    if headline is not None:
        assert stats["worker_func_energy_low"] <= headline <= stats["worker_func_energy_high"]
    assert stats["worker_func_energy_duration"] > 0
    repr(meter)
    str(reading)
    meter._repr_html_()
    meter.timeline()
    return stats


def rapl_of(root: Path) -> dict[str, Any]:
    return next(finding for finding in doctor(root) if finding["method"] == "rapl")


# -- not there, or not allowed --------------------------------------------------------------------


def test_a_machine_without_powercap(tmp_path: Path) -> None:
    with EnergyMeter(root=tmp_path) as meter:
        sum(range(100_000))
    stats = sound(meter)
    assert stats["worker_func_rapl_available"] is False
    assert "does not exist" in stats["worker_func_rapl_source"]
    finding = rapl_of(tmp_path)
    assert finding["available"] is False
    assert finding["fix"] == "sudo modprobe intel_rapl_msr"


def test_denied_is_told_apart_from_absent_with_the_exact_fix(rig: Rig) -> None:
    rig.fault("eacces", "*")
    with EnergyMeter(root=rig.root) as meter:
        time.sleep(0.02)
    stats = sound(meter)
    assert stats["worker_func_rapl_available"] is False
    assert "root" in stats["worker_func_rapl_source"]
    assert "does not exist" not in stats["worker_func_rapl_source"]
    finding = rapl_of(rig.root)
    assert finding["available"] is False
    assert finding["fix"] == READ_FIX


def test_the_fix_is_in_the_stats_too(rig: Rig) -> None:
    rig.fault("eacces", "*")
    with EnergyMeter(root=rig.root) as meter:
        time.sleep(0.02)
    assert READ_FIX in meter.stats()["worker_func_rapl_source"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become nobody")
def test_modes_of_real_kernels_deny_ordinary_users(live: None) -> None:
    """0400, as kernels since 2020 have it, met by somebody who is not root."""
    code = (
        "import os, sys, json\n"
        "from lithowatt import EnergyMeter\n"
        "from lithowatt._core import doctor\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "m = EnergyMeter(root=sys.argv[1])\n"
        "m.start(); m.stop()\n"
        "print(json.dumps([m.stats()['worker_func_rapl_source'], doctor(sys.argv[1])[0]]))\n"
    )
    with Rig(watts=50.0, mode=0o400) as rig:
        os.chmod(rig.base, 0o755)
        done = subprocess.run(
            [sys.executable, "-c", code, str(rig.root)], capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    source, finding = json.loads(done.stdout)
    assert source.startswith("unavailable: ")
    assert finding["method"] == "rapl" and finding["available"] is False
    assert finding["fix"] == READ_FIX


def test_one_domain_denied_leaves_the_others(rig: Rig) -> None:
    rig.fault("eacces", "dram")
    with EnergyMeter(root=rig.root) as meter:
        time.sleep(0.2)
    stats, rapl = sound(meter), meter.reading.rapl
    truth = truth_of(rig, meter.reading)
    assert rapl.dram is None
    assert rapl.package == pytest.approx(truth.package, rel=0.02)
    assert rapl.core == pytest.approx(truth.core, rel=0.02)
    assert stats["worker_func_rapl_energy_dram"] is None
    finding = rapl_of(rig.root)
    assert finding["available"] is True
    assert "dram" in finding["reason"]


def test_a_domain_that_was_denied_is_not_called_missing(rig: Rig) -> None:
    rig.fault("eacces", "dram")
    with EnergyMeter(root=rig.root) as meter:
        time.sleep(0.02)
    assert "has no dram counter" not in meter.reading.rapl.reasons["dram"]


def test_one_socket_denied_is_no_machine(rig: Rig) -> None:
    """Half a machine must not pass for the whole."""
    rig.fault("eacces", "package-1")
    with EnergyMeter(root=rig.root) as meter:
        time.sleep(0.1)
    stats = sound(meter)
    truth = truth_of(rig, meter.reading)
    package = stats["worker_func_rapl_energy_pkg"]
    assert package is None or package == pytest.approx(truth.package, rel=0.05)


# -- while a window runs --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["eacces", "vanish", "garbage", "empty"])
@pytest.mark.parametrize("interval", [None, 0.01], ids=["edges", "sampled"])
def test_a_zone_that_fails_within_the_window(rig: Rig, kind: Any, interval: float | None) -> None:
    meter = EnergyMeter(root=rig.root, interval=interval)
    meter.start()
    time.sleep(0.1)
    rig.fault(kind, "package-1")
    time.sleep(0.1)
    meter.stop()
    stats, rapl = sound(meter), meter.reading.rapl
    truth = truth_of(rig, meter.reading)
    assert rapl.package is None, "one socket of two is not the packages"
    assert "package-1" in rapl.reasons["package"]
    assert stats["worker_func_rapl_energy_total"] is None
    # What did not fail goes on.
    assert rapl.psys == pytest.approx(truth.psys, rel=0.03)
    if kind != "vanish":
        assert rapl.dram == pytest.approx(truth.dram, rel=0.03)
    assert any("package-1" in w for w in stats["worker_func_energy_warnings"])
    # The call has an estimate all the same, and it says what it is.
    assert stats["worker_func_energy_quality"] == "modelled"


@pytest.mark.parametrize("kind", ["vanish", "garbage", "empty"])
def test_a_sub_zone_that_fails_leaves_the_package(rig: Rig, kind: Any) -> None:
    meter = EnergyMeter(root=rig.root)
    meter.start()
    time.sleep(0.05)
    rig.fault(kind, "package-0/dram")
    time.sleep(0.15)
    meter.stop()
    sound(meter)
    rapl, truth = meter.reading.rapl, truth_of(rig, meter.reading)
    assert rapl.dram is None and "dram" in rapl.reasons["dram"]
    assert rapl.package == pytest.approx(truth.package, rel=0.02)
    assert rapl.core == pytest.approx(truth.core, rel=0.02)


@pytest.mark.parametrize("kind", ["garbage", "empty", "eacces"])
def test_a_fault_that_passes_costs_nothing(rig: Rig, kind: Any, steady: Steady) -> None:
    """The counter went on counting while it could not be read."""

    @steady
    def check() -> None:
        meter = EnergyMeter(root=rig.root, interval=0.01)
        meter.start()
        time.sleep(0.05)
        rig.fault(kind, "*")
        time.sleep(0.1)
        rig.fault("clear", "*")
        time.sleep(0.1)
        meter.stop()
        sound(meter)
        truth = truth_of(rig, meter.reading)
        assert meter.reading.rapl.package == pytest.approx(truth.package, rel=0.02)


def test_a_reset_is_reported_and_inside_the_band(rig: Rig) -> None:
    meter = EnergyMeter(root=rig.root, interval=0.02)
    meter.start()
    time.sleep(0.2)
    rig.fault("reset", "package-0")
    time.sleep(0.2)
    meter.stop()
    stats, reading = sound(meter), meter.reading
    truth = truth_of(rig, reading)
    assert [w for w in stats["worker_func_energy_warnings"] if "package-0" in w and "reset" in w]
    estimate = reading.rapl.estimate("package")
    assert estimate is not None
    assert estimate.low <= truth.package <= estimate.high
    assert estimate.value <= truth.package * 1.02
    assert estimate.value >= 0.85 * truth.package, "all but the interval of the reset is kept"
    assert reading.rapl.dram == pytest.approx(truth.dram, rel=0.02)


def test_a_reset_between_two_edges_is_no_number(live: None) -> None:
    # High enough that it does not look like a counter that went on.
    with Rig(watts=50.0, start_uj=100_000_000) as rig:
        meter = EnergyMeter(root=rig.root, interval=None)
        meter.start()
        time.sleep(0.2)
        rig.fault("reset", "package-0")
        time.sleep(0.1)
        meter.stop()
        sound(meter)
        assert meter.reading.rapl.package is None
        assert "reset" in meter.reading.rapl.reasons["package"]
        assert meter.reading.rapl.dram is not None


def test_a_counter_that_does_not_move_is_no_zero(rig: Rig) -> None:
    rig.fault("freeze", "*")
    with EnergyMeter(root=rig.root) as meter:
        time.sleep(0.1)
    stats = sound(meter)
    assert stats["worker_func_rapl_energy_pkg"] is None
    assert "did not move" in meter.reading.rapl.reasons["package"]


def test_a_counter_that_stood_still_all_the_time_is_warned_of(tmp_path: Path) -> None:
    with StaticTree(tmp_path / "machine", psys=True) as tree:
        with EnergyMeter(root=tree.root, interval=0.02) as meter:
            for _ in range(20):
                time.sleep(0.01)
                tree.add("package-0", 200_000)
        warned = [w for w in meter.reading.warnings if "did not move" in w]
        still = {w.split(":")[0] for w in warned}
        # Of the others nothing is made: they have their reasons, and no warning.
        assert still == {"package-0/dram"}
        assert "did not move" in meter.reading.rapl.reasons["psys"]
        # A window that a counter need not change in warns of nothing.
        with EnergyMeter(root=tree.root) as meter:
            pass
        assert not [w for w in meter.reading.warnings if "did not move" in w]


def test_run_shows_that_a_counter_stands_still(tmp_path: Path) -> None:
    with StaticTree(tmp_path / "machine") as tree:
        done = subprocess.run(
            [sys.executable, "-m", "lithowatt", "run", "--root", tree.root, "--", "sleep", "0.3"],
            env={**os.environ, "COLUMNS": "200"},
            capture_output=True,
            text=True,
        )
    assert "warning: package-0, package-0/dram: the counter did not move" in done.stderr


@pytest.mark.parametrize("kind", ["eacces", "garbage", "freeze"])
def test_run_shows_what_cannot_be_read_any_more(rig: Rig, kind: Any) -> None:
    run = [sys.executable, "-m", "lithowatt", "run", "--root", rig.root, "--", "sleep", "1"]
    with subprocess.Popen(
        run, env={**os.environ, "COLUMNS": "200"}, stderr=subprocess.PIPE, text=True
    ) as running:
        time.sleep(0.6)
        rig.fault(kind, "package-1")
        assert running.stderr is not None
        told = running.stderr.read()
    assert "warning: package-1: " in told


def test_doctor_says_that_a_counter_stands_still(tmp_path: Path) -> None:
    with StaticTree(tmp_path / "machine", packages=2) as tree:
        finding = rapl_of(tree.root)
        assert finding["available"] is False and finding["gives"] == []
        assert "package-1: the counter stands still" in finding["reason"]
        with tree.moving():
            began = time.monotonic()
            finding = rapl_of(tree.root)
            assert time.monotonic() - began < 1.0, "it waits for nothing then"
        assert finding["available"] is True and len(finding["gives"]) == len(tree.zones)
        assert finding["reason"] is None


def test_a_counter_that_stops_moving_is_said(rig: Rig) -> None:
    meter = EnergyMeter(root=rig.root, interval=0.02)
    meter.start()
    time.sleep(0.2)
    rig.fault("freeze", "package-0")
    time.sleep(0.4)
    meter.stop()
    stats, reading = sound(meter), meter.reading
    truth = truth_of(rig, reading)
    estimate = reading.rapl.estimate("package")
    said = [w for w in stats["worker_func_energy_warnings"] if "package-0" in w]
    assert estimate is None or said or estimate.low <= truth.package <= estimate.high


def test_a_zone_comes_back(rig: Rig, steady: Steady) -> None:
    """Hot removal and return, over several windows of one process."""

    def window() -> EnergyMeter:
        with EnergyMeter(root=rig.root, interval=0.02) as meter:
            time.sleep(0.1)
        sound(meter)
        return meter

    assert window().reading.rapl.package is not None
    rig.fault("garbage", "package-0")
    gone = window().reading
    assert gone.rapl.package is None and gone.rapl.reasons["package"]
    rig.fault("clear", "package-0")

    @steady
    def check() -> None:
        back = window().reading
        truth = truth_of(rig, back)
        assert back.rapl.package == pytest.approx(truth.package, rel=0.03)


def test_a_removed_zone_stays_gone_without_a_fuss(rig: Rig) -> None:
    for turn in range(3):
        with EnergyMeter(root=rig.root, interval=0.01) as meter:
            time.sleep(0.03)
            if turn == 0:
                rig.fault("vanish", "package-1")
                time.sleep(0.03)
        stats = sound(meter)
        assert stats["worker_func_rapl_energy_pkg"] is None
        assert stats["worker_func_rapl_energy_psys"] is not None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("moment", ["before", "within", "between"])
def test_every_fault_at_every_moment_leaves_the_function_alone(
    rig: Rig, kind: Any, moment: str
) -> None:
    for turn in range(2):
        if moment == "before" and turn == 0:
            rig.fault(kind, "*")
        with EnergyMeter(root=rig.root, interval=0.005) as meter:
            with meter.phase("compute"):
                time.sleep(0.02)
                if moment == "within" and turn == 0:
                    rig.fault(kind, "*")
                assert meter.reading.running
                time.sleep(0.02)
        sound(meter)
        if moment == "between" and turn == 0:
            rig.fault(kind, "*")


def test_a_machine_that_goes_away_as_a_whole(live: None) -> None:
    """The file system itself is gone: descriptors fail, paths are no more."""
    rig = Rig(watts=50.0).start()
    try:
        meter = EnergyMeter(root=rig.root, interval=0.005)
        meter.start()
        time.sleep(0.03)
    finally:
        rig.close()
    time.sleep(0.03)
    meter.stop()
    sound(meter)
    assert meter.reading.rapl.package is None
    with EnergyMeter(root=rig.root) as again:
        pass
    assert again.reading.rapl.package is None


# -- what a file may hold -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"-5\n",
        b"1e6\n",
        b"0x10\n",
        b"99999999999999999999999\n",
        b"\xff\xfe\n",
        b"12 13\n",
    ],
    ids=repr,
)
def test_a_counter_that_holds_nonsense(tmp_path: Path, content: bytes) -> None:
    with StaticTree(tmp_path / "a", domains=("package",)) as tree:
        meter = EnergyMeter(root=tree.root, methods=["rapl", "psutil", "tdp"])
        meter.start()
        tree.add("package-0", 1_000_000)
        file = tree.zone_dir("package-0") / "energy_uj"
        file.chmod(0o600)
        file.write_bytes(content)
        meter.stop()
        sound(meter)
        assert meter.reading.rapl.package is None
        assert "no number" in meter.reading.rapl.reasons["package"]
    # And from the start.
    with StaticTree(tmp_path / "b", domains=("package",)) as tree:
        file = tree.zone_dir("package-0") / "energy_uj"
        file.chmod(0o600)
        file.write_bytes(content)
        with EnergyMeter(root=tree.root, methods=["rapl"]) as meter:
            pass
        sound(meter)
        assert meter.reading.rapl.available is False


@pytest.mark.parametrize("content", ["", "0\n", "-1\n", "many\n", None])
def test_a_range_that_cannot_be_known(tmp_path: Path, content: str | None) -> None:
    with StaticTree(tmp_path, domains=("package",)) as tree:
        file = tree.zone_dir("package-0") / "max_energy_range_uj"
        file.unlink()
        if content is not None:
            file.write_text(content)
        with EnergyMeter(root=tree.root, methods=["rapl"]) as meter:
            tree.add("package-0", 1_000_000)
        sound(meter)
        assert meter.reading.rapl.package is None
        assert "max_energy_range_uj" in meter.stats()["worker_func_rapl_source"]


def test_values_up_to_the_largest_number(tmp_path: Path) -> None:
    largest = 2**64 - 2
    looks: dict[str, Any] = {"max_range_uj": largest, "start_uj": largest - 5}
    with StaticTree(tmp_path, domains=("package",), **looks) as tree:
        with EnergyMeter(root=tree.root, interval=None, methods=["rapl"]) as meter:
            tree.add("package-0", 1_000_000)
        assert meter.reading.rapl.package == pytest.approx(1.0, rel=1e-9)


# -- the doctor -----------------------------------------------------------------------------------


def test_the_doctor_names_every_method_and_a_reason(rig: Rig) -> None:
    findings = {finding["method"]: finding for finding in doctor(rig.root)}
    assert set(findings) == {"rapl", "perf", "ebpf", "psutil", "tdp", "nvml", "hwmon", "guest"}
    for finding in findings.values():
        assert finding["available"] or finding["reason"]
        if finding["available"]:
            assert finding["gives"]
    assert findings["rapl"]["available"] is True
    assert len(findings["rapl"]["gives"]) == len(rig.zones)


# -- clocks ---------------------------------------------------------------------------------------


def test_no_drift_is_reported_where_there_is_none(rig: Rig) -> None:
    with EnergyMeter(root=rig.root) as meter:
        time.sleep(0.2)
    assert not [w for w in meter.reading.warnings if "clock" in w]


def test_perf_is_read_in_a_forked_process_as_in_its_parent(live: None) -> None:
    """A worker forks for each call; what that allocates lies elsewhere than its parent's memory."""
    with Rig(1, watts=50.0, perf=True) as rig:

        def energy() -> tuple[float | None, list[str]]:
            with EnergyMeter(root=rig.root, methods=["perf"]) as meter:
                time.sleep(0.05)
            return meter.reading.perf.package, meter.reading.warnings

        assert energy()[0] is not None
        receiver, sender = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.write(sender, json.dumps([energy() for _ in range(10)]).encode())
            finally:
                os._exit(0)
        os.close(sender)
        with open(receiver, encoding="utf-8") as pipe:
            seen = json.load(pipe)
        os.waitpid(child, 0)
        assert all(joules is not None and not warnings for joules, warnings in seen), seen
