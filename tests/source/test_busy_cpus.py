"""What the model makes of the CPUs that have work, where no counter has their energy."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lithowatt import EnergyMeter, PowerModel, Reading
from tests.support.working_machine import CPUS, NAME, WorkingMachine

# What the files say is written in time, and looks at them are made in time.
pytestmark = pytest.mark.quiet

SECONDS = 1.6


def note(reading: Reading) -> str:
    """What a reading says of the clock; empty where it says nothing."""
    found = [text for text in reading.notes if "clock of the CPUs" in text]
    return found[0] if found else ""


def metered(root: Path, mhz: Callable[[float], float] | None, busy: int = 1) -> EnergyMeter:
    with WorkingMachine(root, mhz, busy), EnergyMeter(root=root, methods="model") as meter:
        time.sleep(SECONDS)
    return meter


def package_watts(meter: EnergyMeter) -> float:
    """Watts of the packages by the model in the window's second half, after the first looks."""
    begun, ended = SECONDS / 2, meter.duration
    joules = meter.timeline().integrate("model:package", begun, ended)
    assert joules is not None
    return joules / (ended - begun)


def expected(mhz: float | None, cpus: int | None = 1, busy: int = 1) -> float:
    model = PowerModel.for_cpu(NAME, logical_cpus=CPUS, sockets=1)
    return model.watts(100.0 * busy / CPUS, cores_used=cpus, frequency_mhz=mhz).value


@pytest.mark.parametrize("mhz", [1200.0, 2000.0])
def test_the_model_goes_by_the_clock_of_the_busy_cpus(tmp_path: Path, mhz: float) -> None:
    meter = metered(tmp_path, lambda _: mhz, busy=CPUS)
    assert package_watts(meter) == pytest.approx(expected(mhz, CPUS, CPUS), rel=0.05)
    assert expected(mhz, CPUS, CPUS) < 0.9 * expected(None, CPUS, CPUS)
    said = re.search(
        r"work: ([\d.]+) GHz \(([\d.]+) to ([\d.]+)\) in ([\d.]+) of", note(meter.reading)
    )
    assert said, meter.reading.notes
    assert [float(said[i]) * 1000 for i in (1, 2, 3)] == [mhz, mhz, mhz]
    assert 0.8 < float(said[4]) <= meter.duration


def test_a_clock_that_varies_widens_the_band(tmp_path: Path) -> None:
    (tmp_path / "steady").mkdir()
    (tmp_path / "varied").mkdir()
    steady = metered(tmp_path / "steady", lambda _: 2000.0, busy=CPUS).reading.flat()
    varying = metered(tmp_path / "varied", lambda t: 1200.0 if int(t * 9) % 2 else 2800.0, CPUS)
    varied = varying.reading.flat()
    width = [f["energy_machine_high"] / f["energy_machine_low"] for f in (steady, varied)]
    assert width[0] < width[1]
    assert "(1.20 to 2.80)" in note(varying.reading)


def test_without_a_clock_it_still_knows_on_how_many_cpus_the_load_is(tmp_path: Path) -> None:
    meter = metered(tmp_path, None)
    assert note(meter.reading) == ""
    assert package_watts(meter) == pytest.approx(expected(None), rel=0.05)
    # Spread over all CPUs the same load would leave the socket moments of sleep.
    assert expected(None, cpus=None) < 0.9 * expected(None)


def test_threads_that_share_cores_cost_less_than_cores(tmp_path: Path) -> None:
    watts = []
    for adjacent in (False, True):
        root = tmp_path / f"adjacent-{adjacent}"
        with (
            WorkingMachine(root, busy=CPUS, threads=2, adjacent=adjacent),
            EnergyMeter(root=root, methods="model") as meter,
        ):
            time.sleep(SECONDS)
        watts.append(package_watts(meter))
    model = PowerModel.for_cpu(NAME, logical_cpus=2 * CPUS, sockets=1)
    apart, together = watts
    assert apart == pytest.approx(model.watts(50.0, cores_used=CPUS).value, rel=0.05)
    # The cores' part is that of half the machine.
    told = model.watts(100.0).value, model.watts(50.0, cores_used=CPUS).value
    one = (told[0] - told[1]) / 0.35
    assert together == pytest.approx(told[0] - 1.35 * one / 2, rel=0.05)
    assert together < 0.97 * apart


def test_a_machine_at_rest_has_no_clock(tmp_path: Path) -> None:
    meter = metered(tmp_path, lambda _: 3000.0, busy=0)
    assert note(meter.reading) == ""


def test_the_edges_of_a_window_look_at_none_of_it(tmp_path: Path) -> None:
    with WorkingMachine(tmp_path, lambda _: 3000.0):
        with EnergyMeter(root=tmp_path, methods="model", interval=None) as meter:
            time.sleep(0.5)
    assert note(meter.reading) == ""
