"""The file of a plug that meters, or of another meter in the wall: a table of times and W or kWh.

Columns are found by their names, as Shelly, Tasmota and Home Assistant write them and as people
name their own; an error lists the columns that are there. Energies are totals that rise: a file
with the energy of each quarter of an hour, as a FRITZ!Box gives, falls and so has a reason. Times
without a zone are of this machine's zone, or of the one that is given.
"""

from __future__ import annotations

import contextlib
import csv
import math
import re
import stat
import statistics
import time
from datetime import datetime, timedelta, timezone, tzinfo
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

from lithowatt.errors import LithowattError, MalformedValueError, UnreadableFileError
from lithowatt.reference._energy import Sensor
from lithowatt.reference._options import options_in
from lithowatt.reference._watch import Reference

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["OPTIONS", "Table"]

OPTIONS = {
    "time": "the column of times",
    "value": "the column of power or energy",
    "unit": "its unit, where the name has none: W, kW, mW, J, Wh or kWh",
    "entity": "the entity of Home Assistant's file that is meant",
    "tz": "the zone of times without one, such as Europe/Madrid (default: this machine's)",
    "offset": "seconds to add to the file's times",
    "error": "how far all values may be off together, from 0, in % (default: 2)",
}
"""What may follow the file's name, as in ``plug.csv?tz=Europe/Madrid&offset=2``."""

RELATIVE = 0.02
"""An assumption: makers of plugs state 1 to 2 %. ``error=`` takes another."""

GAP_SECONDS = 30.0
"""Nothing is known of power between rows that are further apart than this and than five rows."""

GAP_ROWS = 5.0

PATIENCE_SECONDS = 10.0
"""How long a command waits for a growing file to reach the end of its last window."""

MOST_BYTES = 1 << 28
"""More than a year of seconds."""

MOST_WATTS = 1e6

MOST_SECONDS = 6e10
"""Times are this near to 1970: all of them are dates that Python knows, in any zone."""

MOST_OFFSET = 1e9
"""Between the clocks of a meter and of this machine, s: thirty years."""

MOST_JOULES = 1e18
"""J; more is no counter of a machine: it is a million machines at 1 kW for thirty years."""

UNITS = {
    "w": 1.0,
    "watt": 1.0,
    "watts": 1.0,
    "kw": 1e3,
    "mw": 1e-3,
    "j": 1.0,
    "joule": 1.0,
    "joules": 1.0,
    "wh": 3.6e3,
    "kwh": 3.6e6,
    "mwh": 3.6,
}
"""W or J in a unit; mW and mWh are thousandths, for no plug meters millions."""

ENERGIES = ("j", "joule", "joules", "wh", "kwh", "mwh")

TIMES = (
    "timestamp",
    "time",
    "datetime",
    "date time",
    "last changed",
    "last updated",
    "ts",
    "unixtime",
    "zeitstempel",
    "datum uhrzeit",
    "datum zeit",
    "zeit",
    "date",
    "datum",
)
"""Names of a column of times, the likeliest first."""

POWERS = {"power", "apower", "leistung", "state", "act", "potencia", "puissance"}
"""Words of a column of power, W where no unit is named."""

TOTALS = {"energy", "aenergy", "energie", "total", "consumption", "verbrauch", "energia"}
"""Words of a column of energy, which must name its unit."""

UNIT_COLUMNS = ("unit of measurement", "unit", "einheit")

NO_VALUE = {"", "unavailable", "unknown", "none", "nan", "null", "-"}
"""What is written where there was no value."""


class _Columns(NamedTuple):
    when: int
    clock: int | None
    value: int
    unit: str | None
    unit_column: int | None
    entity: int | None
    by_change: bool


def words(name: str) -> str:
    """A column's name in words.

    >>> words("ENERGY_Power [W]"), words("Datum/Uhrzeit"), words("aenergy.total")
    ('energy power w', 'datum uhrzeit', 'aenergy total')
    """
    return " ".join(re.split(r"[\W_]+", name.strip().lower())).strip()


class Table(Reference):
    """A file of a meter, which may grow while it is read."""

    def __init__(self, text: str) -> None:
        """``text``: the file, and options after a ``?``.

        Raises:
            LithowattError: The file cannot be read, or its columns or the options are not known.
        """
        super().__init__()
        path, _, query = text.partition("?")
        if Path(text).exists():
            path, query = text, ""
        self._path = Path(path)
        self._options = options_in(query, OPTIONS, f"{path[:120]!r}")
        self._zone = _zone(self._options.get("tz"))
        self._by_change = False
        self._offset = self._number("offset", 0.0)
        relative = self._number("error", RELATIVE * 100) / 100
        self.name = self._path.name
        self.covers = "all that is behind the meter, losses of its power supply included"
        self.sensor = Sensor(False, 1.0, 0.0, 1.0, relative, 0.0, GAP_SECONDS)
        # Mistakes in it show before anything is measured.
        self._rows()

    def _number(self, name: str, otherwise: float) -> float:
        text = self._options.get(name)
        if text is None:
            return otherwise
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        most = MOST_OFFSET if name == "offset" else math.inf
        if not math.isfinite(value) or abs(value) > most or (name == "error" and value < 0):
            raise MalformedValueError(
                f"{name}={text[:40]!r} is no number; expected {OPTIONS[name]}"
            )
        return value

    def start(self) -> None:
        """The file's writer reads the meter."""

    def stop(self) -> None:
        """As `start`."""

    def unusable(self) -> str | None:
        """Why the file shows nothing of the machine's power now, ``None`` where it does."""
        try:
            rows = self._rows()
        except LithowattError as error:
            return str(error)
        wanted = "expected a file to which rows are added meanwhile"
        if not rows:
            return f"{self._path} has no rows; {wanted}"
        now = time.time()
        first, last = rows[0][0], rows[-1][0]
        # A file that has a row for each change only has none while power stays the same.
        if first - now <= self.sensor.gap and (now - last <= self.sensor.gap or self._by_change):
            return None
        begin, end, here = (
            datetime.fromtimestamp(when).isoformat(" ", "seconds") for when in (first, last, now)
        )
        return (
            f"the rows of {self._path} are from {begin} to {end}, and it is {here} now; {wanted} "
            "(tz= and offset= correct its times)"
        )

    def _now(self) -> float:
        return time.time()

    def _update(self, readings: Sequence[tuple[float, float]]) -> float:
        # Each row is a new value.
        return self.sensor.update

    def _known(self) -> tuple[list[tuple[float, float]], list[tuple[float, str, bool]]]:
        return self._rows(), []

    def wait(self, end: float) -> None:
        """Waits until the file has a row of ``end`` (s, monotonic), if it still grows."""
        patience = time.monotonic() + PATIENCE_SECONDS
        end += time.time() - time.monotonic()
        while time.monotonic() < patience:
            # Of a file that turned bad meanwhile the reading says so.
            with contextlib.suppress(LithowattError):
                rows = self._rows()
                if rows and rows[-1][0] >= end:
                    return
            time.sleep(0.2)

    def _rows(self) -> list[tuple[float, float]]:
        """Readings, in s since the epoch; `sensor` becomes what the rows show of the meter."""
        try:
            found = self._path.stat()
            # A pipe would be waited for, and a device may have no end.
            if not stat.S_ISREG(found.st_mode):
                raise MalformedValueError(f"{self._path} is no regular file; expected a CSV file")
            if found.st_size > MOST_BYTES:
                raise MalformedValueError(f"{self._path} is larger than {MOST_BYTES >> 20} MiB")
            text = self._path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise MalformedValueError(f"{self._path} is no UTF-8 text: {error.reason}") from None
        except OSError as error:
            raise UnreadableFileError(f"{self._path}: {error.strerror}") from None
        # A last line without its end is still being written.
        lines = text[: text.rfind("\n") + 1].splitlines()
        separator = None
        if lines and lines[0].lower().startswith("sep="):
            separator = lines.pop(0)[4:5]
        if not lines:
            raise MalformedValueError(f"{self._path} is empty; expected a line of column names")
        try:
            return self._parsed(lines, separator or max(";\t,", key=lines[0].count))
        except csv.Error as error:
            raise MalformedValueError(f"{self._path}: {error}") from None

    def _parsed(self, lines: list[str], separator: str) -> list[tuple[float, float]]:
        rows = csv.reader(lines, delimiter=separator)
        header = next(rows)
        columns = self._columns(header)
        self._by_change = columns.by_change
        found: list[tuple[float, float]] = []
        scale: float | None = None
        counts = False
        entity = None
        digits = 0
        for number, row in enumerate(rows, 2):
            if not any(cell.strip() for cell in row):
                continue
            where = f"{self._path}, line {number}"
            if len(row) <= max(columns.when, columns.value, columns.clock or 0):
                raise MalformedValueError(f"{where}: {len(row)} fields instead of {len(header)}")
            if columns.entity is not None:
                name = row[columns.entity].strip()
                if self._options.get("entity", name) != name:
                    continue
                if entity is not None and name != entity:
                    raise MalformedValueError(
                        f"{where}: rows of {entity!r} and {name!r}; expected those of one meter: "
                        f"{self._path.name}?entity={entity}"
                    )
                entity = name
            cell = row[columns.value].strip()
            if cell.lower() in NO_VALUE:
                continue
            if scale is None:
                scale, counts = self._unit(columns, row, header[columns.value], entity)
            value, decimals = _value(cell, separator, where)
            digits = max(digits, decimals)
            if abs(value * scale) > (MOST_JOULES if counts else MOST_WATTS):
                raise MalformedValueError(f"{where}: {cell[:40]!r} is more than a machine takes")
            clock = "" if columns.clock is None else f" {row[columns.clock].strip()}"
            when = self._moment(row[columns.when].strip() + clock, found, where)
            found.append((when + self._offset, value * scale))
        self._describe(found, counts, (scale or 1.0) * 10.0**-digits)
        return _held(found, self.sensor.update) if columns.by_change and not counts else found

    def _describe(self, rows: list[tuple[float, float]], counts: bool, step: float) -> None:
        spaces = [now[0] - then[0] for then, now in pairwise(rows)]
        spaces = [space for space in spaces if space > 0]
        update = statistics.median(spaces) if spaces else 1.0
        self.sensor = self.sensor._replace(
            counts=counts,
            step=step,
            update=update,
            averaged=update,
            gap=max(GAP_SECONDS, GAP_ROWS * update),
        )

    def _columns(self, header: list[str]) -> _Columns:
        names = [words(name) for name in header]

        def missing(what: str, option: str) -> LithowattError:
            there = ", ".join(repr(name.strip()) for name in header[:40])
            return MalformedValueError(
                f"{self._path} has no column of {what} among {there}; name it: "
                f"{self._path.name}?{option}=COLUMN"
            )

        def given(option: str) -> int | None:
            text = self._options.get(option)
            if text is None:
                return None
            if words(text) not in names:
                raise missing(f"the name {text[:60]!r}", option)
            return names.index(words(text))

        when = given("time")
        if when is None:
            when = next((names.index(name) for name in TIMES if name in names), None)
        if when is None:
            raise missing("times", "time")
        clock = None
        if names[when] == "time" and "date" in names:
            when, clock = names.index("date"), when
        elif names[when] == "zeit" and "datum" in names:
            when, clock = names.index("datum"), when
        value = given("value")
        if value is None:
            value = _best([None if i in (when, clock) else name for i, name in enumerate(names)])
        if value is None:
            raise missing("power (W) or energy (kWh)", "value")
        unit_column = next((names.index(name) for name in UNIT_COLUMNS if name in names), None)
        return _Columns(
            when=when,
            clock=clock,
            value=value,
            unit=_unit_in(names[value]),
            unit_column=unit_column,
            entity=names.index("entity id") if "entity id" in names else None,
            by_change=names[when].startswith("last "),
        )

    def _unit(
        self, columns: _Columns, row: list[str], name: str, entity: str | None
    ) -> tuple[float, bool]:
        """What a value is times, to be in W or J, and whether it is an energy."""
        told = self._options.get("unit")
        if told is None and columns.unit_column is not None and len(row) > columns.unit_column:
            told = row[columns.unit_column]
        unit = (told or columns.unit or "").strip().lower()
        if not unit:
            named = set(words(entity or name).split())
            if named & (POWERS - {"state"}) or (entity is None and named & POWERS):
                unit = "w"
        if unit not in UNITS:
            raise MalformedValueError(
                f"{self._path}: the unit of {(entity or name)[:60]!r} is not known "
                f"({unit[:20]!r}); name it: {self._path.name}?unit=W, or kWh"
            )
        return UNITS[unit], unit in ENERGIES

    def _moment(self, text: str, before: list[tuple[float, float]], where: str) -> float:
        last = before[-1][0] - self._offset if before else -math.inf
        when = moment(text, self._zone)
        if when is None:
            raise MalformedValueError(
                f"{where}: {text[:40]!r} is neither ISO 8601, DD.MM.YYYY HH:MM:SS, nor seconds "
                "since the epoch"
            )
        if when < last:
            # The hour that comes twice when summer time ends.
            again = moment(text, self._zone, fold=1)
            if again is None or again < last:
                raise MalformedValueError(f"{where}: its time is before that of the line above")
            return again
        return when


def _best(names: list[str | None]) -> int | None:
    """The column of power, else of energy, in a list of names."""
    found: list[tuple[int, int]] = []
    for place, name in enumerate(names):
        if name is None:
            continue
        parts = set(name.split())
        unit = _unit_in(name)
        if unit is not None:
            found.append((2 if unit in ENERGIES else 0, place))
        elif parts & POWERS:
            found.append((1, place))
        elif parts & TOTALS:
            found.append((3, place))
    return min(found)[1] if found else None


def _unit_in(name: str) -> str | None:
    return next((part for part in reversed(name.split()) if part in UNITS), None)


def _value(cell: str, separator: str, where: str) -> tuple[float, int]:
    """A number, and its digits behind the point."""
    text = cell.split(" ")[0].rstrip("W")
    if separator != "," and "," in text and "." not in text:
        text = text.replace(",", ".")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise MalformedValueError(f"{where}: {cell[:40]!r} is no number")
    return value, 0 if "e" in text.lower() else len(text.partition(".")[2])


def _held(rows: list[tuple[float, float]], update: float) -> list[tuple[float, float]]:
    """Rows that are written when the value changes: until then the one before holds."""
    out = rows[:1]
    for then, now in pairwise(rows):
        # Plugs send a change within a second or so.
        until = now[0] - min(1.0, 0.5 * (now[0] - then[0]))
        step = max(min(10.0, update), (now[0] - then[0]) / 100)
        at = then[0] + step
        while at < until:
            # Readings in between, so that this is no gap.
            out.append((at, then[1]))
            at += step
        out.append((until, then[1]))
        out.append(now)
    return out


def _zone(name: str | None) -> tzinfo | None:
    if name is None:
        return None
    offset = re.fullmatch(r"([+-])(\d\d):?(\d\d)", name.strip().replace(" ", "+"))
    if name.upper() in ("UTC", "Z"):
        return timezone.utc
    if offset:
        minutes = int(offset[2]) * 60 + int(offset[3])
        return timezone(timedelta(minutes=minutes if offset[1] == "+" else -minutes))
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise MalformedValueError(
            f"tz={name[:40]!r} is no zone that is known here; expected one such as Europe/Madrid, "
            "UTC or +01:00"
        ) from None


def moment(text: str, zone: tzinfo | None, fold: int = 0) -> float | None:
    """Seconds since the epoch; a time without a zone is of ``zone``, ``None`` is this machine's.

    >>> moment("2026-11-30T12:00:00Z", None), moment("1796040000", None), moment("soon", None)
    (1796040000.0, 1796040000.0, None)
    >>> moment("30.11.2026 13:00:00", timezone(timedelta(hours=1)))
    1796040000.0
    """
    try:
        seconds = float(text)
    except ValueError:
        pass
    else:
        # Milliseconds since the epoch, from 1973 on.
        seconds = seconds / 1000 if seconds > 1e11 else seconds
        return seconds if abs(seconds) < MOST_SECONDS else None
    text = re.sub(r"[zZ]$", "+00:00", text.strip())
    german = re.fullmatch(r"(\d\d?)\.(\d\d?)\.(\d{4}),?\s+(\d\d?):(\d\d)(?::(\d\d))?", text)
    try:
        if german:
            day, month, year, hour, minute, second = (int(part or 0) for part in german.groups())
            when = datetime(year, month, day, hour, minute, second, tzinfo=zone)
        else:
            # Before Python 3.11 fractions have three or six digits.
            fraction = re.sub(r"\.(\d{1,6})\d*", lambda m: "." + m[1].ljust(6, "0"), text)
            when = datetime.fromisoformat(fraction)
            if when.tzinfo is None:
                when = when.replace(tzinfo=zone)
        seconds = when.replace(fold=fold).timestamp()
    except (ValueError, OverflowError, OSError):
        return None
    return seconds if abs(seconds) < MOST_SECONDS else None
