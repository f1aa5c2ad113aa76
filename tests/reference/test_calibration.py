"""``calibrate --reference``, whole: a machine of known power with meters of the whole beside it."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rig import Rig
from tests.reference.test_redfish import OLD, V1, served

pytestmark = pytest.mark.slow

COMMAND = [sys.executable, "-m", "lithowatt"]

#: At the wall: W where the counters show none, and W for each of theirs.
OFFSET, SLOPE = 14.0, 1.25

#: W of the packages, step by step.
WATTS = (12.0, 35.0, 70.0)

#: Meters renew what they show this often, s: the mean since the time before.
UPDATE = 1.0

SECONDS = 5.0


class Meters:
    """A battery, the file of a plug and a management controller, which show what a rig's machine
    takes at the wall.

    Attributes:
        names: Of the options, by the kind of the meter.
    """

    def __init__(self, rig: Rig, folder: Path) -> None:
        self._rig = rig
        self._plug = folder / "plug.csv"
        self._plug.write_text("timestamp,watts\n")
        # Where programs on the rig have their /sys from.
        self._battery = rig.base / "overlay/class/power_supply/BAT0"
        self._battery.mkdir(parents=True)
        self._write("type", "Battery")
        self._write("status", "Discharging")
        self._resources = copy.deepcopy(OLD)
        self._controller = self._resources[f"{V1}/Chassis/1U/Power"]["PowerControl"][0]
        self._ended = threading.Event()
        self._shown = 0
        self._show(time.monotonic_ns() - 1_000_000)
        self.names = {"battery": "battery", "plug": str(self._plug)}

    def _write(self, name: str, text: str) -> None:
        # In place and of one width: a reader always finds a whole value.
        handle = os.open(self._battery / name, os.O_WRONLY | os.O_CREAT, 0o644)
        os.pwrite(handle, f"{text:<20}\n".encode(), 0)
        os.close(handle)

    def _show(self, since: int) -> int:
        now = time.monotonic_ns()
        used = self._rig.energy(since, now).machine
        watts = OFFSET + SLOPE * used / ((now - since) * 1e-9)
        # A gauge's last digits are never still.
        self._shown += 1
        self._write("power_now", str(round(watts * 1e6) + self._shown % 7))
        with self._plug.open("a") as file:
            file.write(f"{time.time():.3f},{watts:.2f}\n")
        self._controller["PowerConsumedWatts"] = round(watts)
        return now

    def _run(self) -> None:
        last = time.monotonic_ns()
        while not self._ended.wait(UPDATE):
            last = self._show(last)

    @contextmanager
    def live(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            with served(self._resources) as (address, _):
                self.names["redfish"] = f"redfish:{address}"
                yield
        finally:
            self._ended.set()
            thread.join()


def calibrated(rig: Rig, meters: Meters, *kinds: str) -> str:
    """Runs the command; as soon as it has told of a step the machine takes the next one's power."""
    command = [*COMMAND, "calibrate", "--max-busy", "100", "--force"]
    command += ["--levels", str(len(WATTS)), "--seconds", str(SECONDS)]
    with meters.live():
        for kind in kinds:
            command += ["--reference", meters.names[kind]]
        left = list(WATTS[1:])
        told = []
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        with rig.popen(command, **pipes) as process:
            assert process.stdout is not None
            for line in process.stdout:
                told.append(line)
                if line.endswith("% busy\n") and left:
                    rig.set_watts(left.pop(0))
    text = "".join(told)
    assert process.returncode == 0, text
    assert not left, text
    return text


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the calibration of this test is."""
    monkeypatch.setenv("LITHOWATT_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state/calibration.json"


def holds(band: dict[str, float], truth: float) -> bool:
    return band["low"] <= truth <= band["high"]


#: A machine, and the meters beside it.
SHAPES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "two-sockets": ({"packages": 2, "domains": ("package", "dram")}, ("plug", "redfish")),
    "laptop": ({"domains": ("package", "core", "uncore"), "psys": True}, ("battery", "plug")),
    "amd": ({"domains": ("package", "core"), "amd": True}, ("redfish",)),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_each_meters_line_is_the_machines(
    live: None, stored: Path, tmp_path: Path, shape: str
) -> None:
    machine_shape, kinds = SHAPES[shape]
    with Rig(watts=WATTS[0], **machine_shape) as rig:
        meters = Meters(rig, tmp_path)
        text = calibrated(rig, meters, *kinds)
        doctor = rig.run([*COMMAND, "doctor"], capture_output=True, text=True).stdout
    memory = 0.15 if "dram" in machine_shape["domains"] else 0.0
    found = json.loads(stored.read_text())
    lines: dict[str, Any] = {line["reference"]: line for line in found["whole_machine"]}
    assert set(lines) == {{"plug": "plug.csv"}.get(kind, kind) for kind in kinds}
    machine = (1 + memory) * sum(WATTS)
    part = machine / (OFFSET * len(WATTS) + SLOPE * machine)
    for name, line in lines.items():
        assert line["counter"] == "rapl"
        for key, truth in (("part", part), ("offset", OFFSET), ("slope", SLOPE)):
            assert holds(line[key], truth), (name, key, line, text)
        assert line["slope"]["value"] == pytest.approx(SLOPE, rel=0.1), (name, text)
        assert line["part"]["value"] == pytest.approx(part, rel=0.05), (name, text)
        # Wide, for these are windows of some updates, and of one of Redfish's; and no wider.
        assert line["slope"]["low"] > (-SLOPE if name == "redfish" else 0.0), (name, text)
        assert f"rapl counted {line['part']['value']:.0%}".replace("%", " %") in " ".join(
            doctor.split()
        )
    # The curve is the counter's: the meters stand beside it.
    assert found["curve"]["method"] == "rapl"
    seen = [point["watts"] for point in found["curve"]["points"]]
    assert seen == pytest.approx(list(WATTS), rel=0.02)


def test_without_a_counter_the_curve_is_of_the_first_meter(
    live: None, stored: Path, tmp_path: Path
) -> None:
    with Rig(watts=WATTS[0], domains=("package",)) as rig:
        rig.fault("vanish", "*")
        text = calibrated(rig, Meters(rig, tmp_path), "plug")
    found = json.loads(stored.read_text())
    assert "no counter" in text
    assert found["curve"]["method"] == "meter-file"
    assert "whole_machine" not in found and found["idle_watts"] == {}
    walls = [OFFSET + SLOPE * watts for watts in WATTS]
    seen = [point["watts"] for point in found["curve"]["points"]]
    assert seen == pytest.approx(walls, rel=0.08)
