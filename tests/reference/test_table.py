"""Files of plugs: columns by name, units, zones, gaps."""

from __future__ import annotations

import os
import time
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from lithowatt import EnergyMeter
from lithowatt.errors import MalformedValueError, UnreadableFileError
from lithowatt.reference import ReferenceEnergy
from lithowatt.reference.table import Table

BEGIN = datetime(2026, 11, 30, 12, 0, tzinfo=timezone.utc)


def watts(second: int) -> float:
    return 30.0 if second < 60 else 90.0


def between(table: Table, start: float, end: float) -> ReferenceEnergy:
    """The energy from so many seconds after `BEGIN` to others."""
    shift = BEGIN.timestamp() - (time.time() - time.monotonic())
    return table.energy(shift + start, shift + end)


def written(path: Path, header: str, line: str, rows: range = range(121)) -> Path:
    text = [header]
    joules = 0.0
    for second in rows:
        when = BEGIN + timedelta(seconds=second)
        text.append(
            line.format(
                iso=when.isoformat(),
                z=when.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
                epoch=when.timestamp(),
                ms=int(when.timestamp() * 1000),
                german=when.astimezone(ZoneInfo("Europe/Berlin")).strftime("%d.%m.%Y;%H:%M:%S"),
                naive=when.astimezone(ZoneInfo("Europe/Madrid")).strftime("%Y-%m-%d %H:%M:%S"),
                w=watts(second),
                comma=str(watts(second)).replace(".", ","),
                wh=1000 + joules / 3600,
                kwh=1000 + joules / 3.6e6,
            )
        )
        joules += watts(second)
    path.write_text("\n".join(text) + "\n")
    return path


# Header lines as these programs write them, retyped.
FORMS = {
    "own": ("timestamp,watts", "{epoch},{w}", ""),
    "milliseconds": ("ts,Power (W)", "{ms},{w}", ""),
    "tasmota": (
        "Time,ENERGY_Total,ENERGY_Power,ENERGY_Voltage",
        "{naive},12.1,{w},230",
        "?tz=Europe/Madrid",
    ),
    "shelly": (
        "timestamp,apower,voltage,current,aenergy.total",
        "{epoch},{w},229.8,0.1,{wh:.3f}",
        "",
    ),
    "home-assistant": (
        "entity_id,state,last_changed",
        "sensor.desk_plug_power,{w},{z}",
        "",
    ),
    "german": ("Datum;Zeit;Leistung;Einheit", "{german};{comma};W", "?tz=Europe/Berlin"),
    "total": ("time\tEnergy [kWh]", "{iso}\t{kwh:.8f}", ""),
    "total-wh": ("time,aenergy.total", "{iso},{wh:.5f}", "?unit=Wh"),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_has_the_plugs_joules(tmp_path: Path, form: str) -> None:
    header, line, options = FORMS[form]
    path = written(tmp_path / "plug.csv", header, line)
    found = between(Table(f"{path}{options}"), 10.0, 110.0)
    assert found.energy is not None, found.reason
    true = 50 * 30.0 + 50 * 90.0
    assert found.energy.low <= true <= found.energy.high
    assert found.energy.value == pytest.approx(true, rel=0.011)
    assert found.energy.high < 1.05 * true


def test_what_is_not_there_is_told_with_the_columns_that_are(tmp_path: Path) -> None:
    path = tmp_path / "plug.csv"
    path.write_text("when,volts\n1,2\n")
    with pytest.raises(MalformedValueError, match=r"no column of times among 'when', 'volts'"):
        Table(str(path))
    with pytest.raises(MalformedValueError, match=r"no column of power \(W\) or energy"):
        Table(f"{path}?time=when")
    path.write_text("time,energy\n1,2\n")
    with pytest.raises(MalformedValueError, match=r"unit of 'energy' is not known.*unit=W, or kWh"):
        Table(str(path))
    with pytest.raises(UnreadableFileError, match=r"none\.csv: No such file"):
        Table(str(tmp_path / "none.csv"))
    with pytest.raises(MalformedValueError, match="no option 'colour'"):
        Table(f"{path}?colour=red")
    with pytest.raises(MalformedValueError, match="tz='Mars'"):
        Table(f"{path}?tz=Mars")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("soon,3", "line 2: 'soon' is neither ISO 8601"),
        ("1,3\n0,3", "line 3: its time is before that of the line above"),
        ("1,many", "line 2: 'many' is no number"),
        ("1", "line 2: 1 fields instead of 2"),
        ("1,2e9", "more than a machine takes"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, rows: str, message: str) -> None:
    path = tmp_path / "plug.csv"
    path.write_text(f"timestamp,watts\n{rows}\n")
    with pytest.raises(MalformedValueError, match=message):
        Table(str(path))


def test_a_gap_and_a_file_that_ends_early_are_reasons(tmp_path: Path) -> None:
    path = written(tmp_path / "plug.csv", "timestamp,watts", "{epoch},{w}", range(0, 30))
    with path.open("a") as file:
        for second in range(80, 100):
            file.write(f"{BEGIN.timestamp() + second},90\n")
    table = Table(str(path))
    gap = between(table, 10, 90)
    assert gap.energy is None
    assert gap.reason == "there are no readings for 51.0 s, from 19.0 s of the window on"
    late = between(table, 85, 200)
    assert late.reason is not None
    assert "the window ends 101.0 s after the last reading" in late.reason
    assert between(table, 82, 98).joules == pytest.approx(16 * 90)


def test_the_hour_that_comes_twice(tmp_path: Path) -> None:
    path = tmp_path / "plug.csv"
    # Summer time ended at 03:00 on 2026-10-25, which became 02:00.
    path.write_text(
        "time,power\n2026-10-25 02:59:58,10\n2026-10-25 02:59:59,10\n2026-10-25 02:00:00,10\n"
        "2026-10-25 02:00:01,10\n"
    )
    rows = Table(f"{path}?tz=Europe/Madrid")._rows()
    assert [now[0] - then[0] for then, now in pairwise(rows)] == [1.0] * 3


def test_rows_that_come_by_change_hold_until_the_next(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    rows = [(0, "20"), (2, "21"), (4, "20"), (100, "80"), (102, "unavailable"), (103, "80")]
    text = "".join(
        f"sensor.pc_power,{value},{(BEGIN + timedelta(seconds=s)).isoformat()}\n"
        for s, value in rows
    )
    path.write_text(f"entity_id,state,last_changed\n{text}")
    found = between(Table(str(path)), 4, 100)
    assert found.energy is not None, found.reason
    assert found.energy.low <= 96 * 20 <= found.energy.high
    assert found.energy.value == pytest.approx(96 * 20, rel=0.02)
    with path.open("a") as file:
        file.write("sensor.tv_power,5,2026-11-30T13:00:00Z\n")
    with pytest.raises(MalformedValueError, match=r"sensor.pc_power' and 'sensor.tv_power'"):
        Table(str(path))
    again = between(Table(f"{path}?entity=sensor.pc_power"), 4, 100)
    assert again.joules == pytest.approx(found.energy.value, rel=1e-6)


def test_a_meter_takes_a_file_that_grows_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "plug.csv"
    path.write_text("timestamp,watts\n")
    meter = EnergyMeter("psutil", reference=str(path))
    begin = time.time()
    with meter:
        sum(range(1000))
    with path.open("a") as file:
        for step in range(-1000, 20_000):
            file.write(f"{begin + step * 1e-5},40\n")
    found = meter.reading.machine_reference["plug.csv"]
    assert found.energy is not None, found.reason
    assert found.energy.value == pytest.approx(40 * meter.reading.duration, rel=0.01)


def test_a_file_that_turns_bad_meanwhile_costs_its_own_energy_alone(tmp_path: Path) -> None:
    path = written(tmp_path / "plug.csv", "timestamp,watts", "{epoch},{w}")
    table = Table(str(path))
    assert between(table, 10, 50).energy is not None
    with path.open("a") as file:
        file.write("timestamp,watts\n")  # a writer that began anew
    found = between(table, 10, 50)
    assert found.energy is None
    assert found.reason is not None and "line 123" in found.reason
    path.unlink()
    found = between(table, 10, 50)
    assert (found.energy, found.reason) == (None, f"{path}: No such file or directory")


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(MalformedValueError, match="is no regular file"):
        Table(str(tmp_path / "pipe.csv"))


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ("1764500000,1e300\n1764500001,2e300\n", "more than a machine takes"),
        (f"1764500000,{'1' * 200_000}\n", "field larger than field limit"),
    ],
)
def test_numbers_of_no_machine_are_refused(tmp_path: Path, rows: str, what: str) -> None:
    path = tmp_path / "plug.csv"
    path.write_text(f"timestamp,energy kWh\n{rows}")
    with pytest.raises(MalformedValueError, match=what):
        Table(str(path))
