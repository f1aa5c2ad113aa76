"""Counters against meters of the whole machine: the line, the command, what is stored."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from chips import Chips
from lithowatt import Estimate, _core
from lithowatt.agent._references import Totals
from lithowatt.cli import main
from lithowatt.cli.doctor import whole_machine_line
from lithowatt.export.openmetrics import _of_references, _rendered
from lithowatt.model._calibrate import curve_line
from lithowatt.reference import Reference, ReferenceEnergy
from lithowatt.reference._compare import Window, beyond, line_of, table, told
from lithowatt.reference._energy import Sensor
from lithowatt.reference._open import available
from lithowatt.reference._watch import nothing_from
from lithowatt.reference.table import Table
from rig import StaticTree

WATTS = Sensor(False, 1.0, 0.0, 1.0, 0.01, 0.0, 10.0)


def window(label: str, counter: float, whole: float, off: float = 0.02) -> Window:
    seconds = 10.0
    energies = {}
    for name, watts in (("rapl", counter), ("plug", whole)):
        joules = watts * seconds
        energies[name] = Estimate(joules, joules * (1 - off), joules * (1 + off), name)
    plug = ReferenceEnergy("plug", energies["plug"], "all", None, 10)
    return Window(label, seconds, "rapl", energies["rapl"], {"plug": plug})


def test_the_line_and_the_part_hold_the_truth() -> None:
    windows = [window(str(w), w, 11.0 + 1.3 * w) for w in (6.0, 15.0, 30.0, 45.0)]
    line = line_of(windows, "plug", 0.01)
    assert line is not None
    assert line["slope"]["low"] < 1.3 < line["slope"]["high"]
    assert line["offset"]["low"] < 11.0 < line["offset"]["high"]
    assert line["slope"]["value"] == pytest.approx(1.3)
    text = "\n".join(told(line, "plug", "rapl"))
    assert "rapl counts 56.9 % (" in text
    assert "plug = 11 W (" in text
    assert beyond(windows, "plug") == []
    assert len(list(table(windows, ["plug"]))) == 5


def test_a_part_that_is_more_than_the_whole_is_named() -> None:
    found = beyond([window("busy", 50.0, 40.0), window("idle", 10.0, 10.1)], "plug")
    assert len(found) == 1
    assert found[0].startswith("busy: rapl counted 50 W")


def test_a_window_without_one_of_both_is_left_out() -> None:
    bare = Window("1", 10.0, None, None, {})
    assert line_of([bare], "plug", 0.01) is None
    line = line_of([window("1", 20.0, 40.0), bare], "plug", 0.01)
    assert line is not None
    assert line["windows"] == 1
    assert "three windows" in line["reason"]


#: A machine whose counters the test sets: the keys of its packages and its memory, and how much of
#: the machine's power each counts.
MACHINES: dict[str, tuple[dict[str, Any], dict[str, float]]] = {
    "one package": ({"domains": ("package",)}, {"package-0": 1.0}),
    "two sockets with memory": (
        {"packages": 2, "domains": ("package", "dram")},
        {"package-0": 0.5, "package-0/dram": 0.1, "package-1": 0.3, "package-1/dram": 0.1},
    ),
    # What holds the packages, or lies within them, is not added.
    "a laptop": (
        {"domains": ("package", "core"), "psys": True},
        {"package-0": 1.0, "package-0/core": 0.6, "psys": 1.4},
    ),
    "grace": ({}, {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
def test_the_command_compares_a_known_machine(
    machine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Packages and memory take w(t), the plug 10 W + 1.25 w(t), and counters and file say so."""
    plug = tmp_path / "plug.csv"
    plug.write_text("timestamp,watts\n")
    begin = time.time()
    stopped = threading.Event()
    shape, zones = MACHINES[machine]

    def level(t: float) -> float:
        return 20.0 + 40.0 * t / 3

    with contextlib.ExitStack() as last:
        if zones:
            tree = last.enter_context(StaticTree(tmp_path / "root", **shape))

            def use(t: float) -> None:
                used = 20.0 * t + 20.0 * t * t / 3
                for zone, part in zones.items():
                    tree.set(zone, round(1e6 * part * used))
        else:
            # Without RAPL: a sensor of the socket and one of its cores.
            chips = Chips(tmp_path / "root")
            chips.add(
                {
                    "hwmon1/name": "power_meter",
                    "hwmon1/device/power1_oem_info": "Grace Power Socket 0",
                    "hwmon2/name": "power_meter",
                    "hwmon2/device/power1_oem_info": "CPU Power Socket 0",
                }
            )

            def use(t: float) -> None:
                chips.draw("hwmon1/device/power1_average", level(t))
                chips.draw("hwmon2/device/power1_average", 0.7 * level(t))

        def show() -> None:
            t = time.time() - begin
            use(t)
            with plug.open("a") as file:
                file.write(f"{begin + t},{10 + 1.25 * level(t)}\n")

        def run() -> None:
            while not stopped.wait(0.01):
                show()

        # A file without rows is refused, and the thread may come late.
        show()
        thread = threading.Thread(target=run)
        thread.start()
        try:
            root = str(tmp_path / "root")
            command = ["validate", "--reference", str(plug), "--json", "--root", root]
            code = main([*command, "--seconds", "0.5", "--windows", "4"])
        finally:
            stopped.set()
            thread.join()
    shown = capsys.readouterr()
    assert code == 0, shown.err
    found = json.loads(shown.out)
    line = found["lines"]["plug.csv"]
    assert found["problems"] == []
    assert {window["method"] for window in found["windows"]} == {"rapl" if zones else "hwmon"}
    assert line["windows"] == 4
    # Beside load the counters of this machine are set some ms late, of windows of half a second.
    late = 0.02
    assert line["slope"]["low"] < 1.25 * (1 + late) and 1.25 * (1 - late) < line["slope"]["high"]
    watts = late * 1.25 * level(1.0)
    assert line["offset"]["low"] - watts < 10.0 < line["offset"]["high"] + watts
    counted = sum(window["counter"]["joules"] for window in found["windows"])
    metered = sum(w["references"]["plug.csv"]["energy"]["joules"] for w in found["windows"])
    seconds = sum(window["seconds"] for window in found["windows"])
    # Of the meter's joules the part that the counters have is what they say that it is.
    assert line["part"]["value"] == pytest.approx(counted / metered)
    truth = counted / (10 * seconds + 1.25 * counted)
    assert line["part"]["low"] < truth < line["part"]["high"]


def battery_in(root: Path, **files: str) -> None:
    supplies = root / "sys/class/power_supply"
    if supplies.is_symlink():
        supplies.unlink()
    folder = supplies / "BAT0"
    folder.mkdir(parents=True)
    values = {"type": "Battery", "status": "Discharging", "power_now": "9000000"}
    for name, value in {**values, **files}.items():
        (folder / name).write_text(f"{value}\n")


@pytest.mark.slow
def test_windows_without_one_of_both_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with StaticTree(tmp_path / "root") as tree:
        battery_in(tree.root)
        command = ["validate", "--reference", "battery", "--root", str(tree.root)]
        assert main([*command, "--seconds", "0.1", "--windows", "1"]) == 3
        shown = capsys.readouterr()
        assert "shorter than the 15.0 s" in shown.out
        assert main([*command, "--seconds", "0.1", "--windows", "2", "--load"]) == 3
    shown = capsys.readouterr()
    assert "idle" in shown.out and "1 CPU" not in shown.out
    assert "in the first window: no CPU was loaded" in shown.err


def test_without_a_counter_validate_ends_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    battery_in(tmp_path)
    begin = time.monotonic()
    assert main(["validate", "--load", "--reference", "battery", "--root", str(tmp_path)]) == 3
    assert time.monotonic() - begin < 10
    shown = capsys.readouterr()
    assert shown.err.startswith("lithowatt: nothing to compare: there is no energy counter here")
    assert "modprobe intel_rapl_msr" in shown.err
    assert shown.out == ""


#: A meter that shows nothing now, and what is said of it.
SILENT = {
    "no battery": ("battery", "there is no battery in"),
    "charging": ("battery", "no battery is discharging (BAT0: Charging)"),
    "a header": ("plug.csv", "has no rows; expected a file to which rows are added"),
    "yesterday": ("plug.csv", "expected a file to which rows are added meanwhile (tz= and"),
    "tomorrow": ("plug.csv", "expected a file to which rows are added meanwhile (tz= and"),
    "ipmi": ("ipmi", "dev/ipmi0: load ipmi_devintf"),
}


@pytest.mark.parametrize("kind", SILENT)
@pytest.mark.parametrize("load", [[], ["--load"]])
def test_a_meter_that_shows_nothing_is_told_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, load: list[str]
) -> None:
    name, why = SILENT[kind]
    shift = {"yesterday": -86_400, "tomorrow": 86_400}.get(kind, 0)
    rows = [f"{time.time() + shift + second},9\n" for second in range(3 if shift else 0)]
    (tmp_path / "plug.csv").write_text("timestamp,watts\n" + "".join(rows))
    with StaticTree(tmp_path / "root") as tree:
        if kind == "charging":
            battery_in(tree.root, status="Charging")
        reference = str(tmp_path / name) if name == "plug.csv" else name
        command = ["validate", *load, "--reference", reference, "--root", str(tree.root)]
        begin = time.monotonic()
        assert main(command) == 3
    assert time.monotonic() - begin < 10
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"lithowatt: nothing to compare: {name} shows no power of")
    assert why in shown.err and shown.err.count("\n") == 1


def test_a_meter_whose_first_answer_takes_a_moment_is_waited_for() -> None:
    meter = Reference()
    meter.name, meter.sensor = "plug", WATTS
    threading.Timer(0.3, meter.tell, (time.monotonic(), 50.0)).start()
    assert nothing_from([meter]) is None
    meter.sensor = WATTS._replace(gap=0.2)
    meter._readings.clear()
    assert "plug shows no power of this machine now: it showed nothing within 0.2 s" in str(
        nothing_from([meter])
    )


def test_rows_of_changes_only_may_be_old(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    rows = [f"sensor.plug_power,{w},{time.time() - 900 + i}\n" for i, w in enumerate((9, 8))]
    path.write_text("entity_id,state,last_changed\n" + "".join(rows))
    assert Table(str(path)).unusable() is None


def test_run_tells_it_beside_the_energy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["run", "--reference", "battery", "--root", str(tmp_path), "--interval", "off"]
    assert main([*command, "--", "true"]) == 0
    shown = " ".join(capsys.readouterr().err.split())
    assert "battery: no energy: there is no battery in" in shown
    assert main([*command, "--json", "--", "true"]) == 0
    told = capsys.readouterr()
    found = json.loads(told.out or told.err)["machine_reference"]["battery"]
    assert found["joules"] is None
    assert found["reason"].startswith("there is no battery")


def test_totals_go_on_where_they_ended() -> None:
    meter = Reference()
    meter.name, meter.covers, meter.sensor = "plug", 'all "behind" it', WATTS
    totals = Totals([meter])
    begin = totals._until["plug"]
    for second in range(101):
        meter.tell(begin + second, 50.0 + second % 7)
    for second in range(5, 100, 9):
        totals.advance(begin + second)
    (total,) = totals.look()
    assert total.unknown == 0.0
    seconds = 95 - 2.0
    whole = meter.energy(begin, begin + seconds)
    assert whole.joules is not None
    assert total.joules == pytest.approx(whole.joules, rel=1e-3)
    totals.advance(begin + 200)
    (total,) = totals.look()
    assert total.unknown > 0
    assert total.reason is not None
    text = _rendered(_of_references([total], 5.0), {})
    assert "do not add it to them" in text
    assert 'lithowatt_machine_reference_joules_total{reference="plug"' in text
    assert _rendered(_of_references([], None), {}) == "# EOF\n"


def test_what_was_compared_is_stored_and_told(tmp_path: Path) -> None:
    line = line_of([window(str(w), w, 11.0 + 1.3 * w) for w in (6.0, 15.0, 30.0)], "plug", 0.01)
    assert line is not None
    stored = {
        "schema": 1,
        "machine": "cpu",
        "date": 1.0,
        "idle_watts": {},
        "factors": {},
        "reference": None,
        "whole_machine": [{"reference": "plug", "counter": "rapl", **line}],
    }
    path = tmp_path / "calibration.json"
    _core.write_calibration(json.dumps(stored), path)
    back = _core.read_calibration(path)
    assert back["whole_machine"][0]["slope"]["value"] == pytest.approx(1.3)
    text = whole_machine_line({"stored": back}, str(tmp_path), True)
    assert "rapl counted 51 % of plug (" in text


def test_meters_are_seen_by_their_devices(tmp_path: Path) -> None:
    assert available(tmp_path) == []
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_bytes(b"Raspberry Pi 5 Model B Rev 1.0\0")
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/ipmi0").write_bytes(b"")
    battery = tmp_path / "sys/class/power_supply/BAT0"
    battery.mkdir(parents=True)
    (battery / "type").write_text("Battery\n")
    assert available(tmp_path) == ["battery", "pmic", "ipmi"]


def test_what_is_told_to_do_with_a_meter_can_be_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = {"problem": None, "stored": None}
    uncounted = [{"method": "rapl", "available": False, "reason": "", "fix": None}]
    assert "lithowatt calibrate --reference METER" in curve_line(nothing, str(tmp_path), uncounted)
    battery = tmp_path / "sys/class/power_supply/BAT0"
    battery.mkdir(parents=True)
    (battery / "type").write_text("Battery\n")
    compared = whole_machine_line(nothing, str(tmp_path), True)
    assert compared == "battery; compare: lithowatt validate --load --reference battery"
    # There is nothing to compare with, and the meter takes the counter's place.
    alone = whole_machine_line(nothing, str(tmp_path), False)
    assert alone == "battery; fit: lithowatt calibrate --reference battery"
    told = curve_line(nothing, str(tmp_path), uncounted)
    assert told.endswith("fit it to this machine: lithowatt calibrate --reference battery")
    # The device of IPMI is root's.
    (battery / "type").unlink()
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/ipmi0").touch()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for counted, command in ((True, "validate --load"), (False, "calibrate")):
        told = whole_machine_line(nothing, str(tmp_path), counted)
        assert ": sudo /" in told and told.endswith(f" {command} --reference ipmi")
