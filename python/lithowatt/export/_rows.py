"""What all formats take: rows with plain keys, made of readings, stats, futures or JSON lines."""

from __future__ import annotations

import functools
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lithowatt import _core
from lithowatt._support.text import program_of
from lithowatt.errors import MalformedValueError
from lithowatt.estimate import number
from lithowatt.meter._meter import EnergyMeter
from lithowatt.meter._reading import Reading
from lithowatt.stats import spelt

Row = dict[str, Any]
"""The values of one call by their plain keys, as `Reading.flat()` has them."""

TIME = "time_ns"
"""The call's end, ns since 1970; only where it is known."""

_LABEL = "label"


class Key(NamedTuple):
    """What is known of a key.

    Attributes:
        unit: J, s, W …; ``None`` where the value has none.
        type: Of the value in Python.
        meaning: What it is.
    """

    unit: str | None
    type: str
    meaning: str


@functools.cache
def keys() -> dict[str, Key]:
    """The plain keys of a reading, in the order of the reference."""
    return {name: Key(unit, kind, meaning) for name, unit, kind, meaning, *_ in _core.stats_keys()}


#: Keys that each phase has, by what comes before its name.
_OF_PHASES = ("energy_phase_", "phase_duration_", "phase_cpu_time_")


def known(key: str) -> Key | None:
    """What is known of a plain key, those of phases included.

    Example:
        >>> known("energy_consumption").unit, known("phase_duration_load_data").unit
        ('J', 's')
        >>> known("no_key_of_ours")
    """
    table = keys()
    if key in table:
        return table[key]
    for before in _OF_PHASES:
        if key.startswith(before) and key != before:
            return table[f"{before}<name>"]
    return None


@functools.cache
def _plain() -> dict[str, str]:
    """The plain key of each key of the stats."""
    return {name: plain for plain in keys() for name in spelt(plain)}


_BLANKS = re.compile(r"\s*")

#: What `lithowatt run --json` calls them.
_OF_RUN = {
    "joules": "energy_consumption",
    "low": "energy_low",
    "high": "energy_high",
    "watts": "energy_watts",
    "seconds": "energy_duration",
    "cpu_seconds": "energy_cpu_time",
    "quality": "energy_quality",
    "method": "energy_method",
    "definition": "energy_definition",
    "marginal": "energy_marginal",
    "amortised": "energy_amortised",
    "idle": "energy_idle",
    "others": "energy_others",
    "machine": "energy_machine",
    "warnings": "energy_warnings",
}


def rows_of(source: Any) -> Iterator[Row]:
    """The rows of a source: see `lithowatt.export.write`.

    Raises:
        TypeError: It is no such source.
        MalformedValueError: A file holds something else than JSON objects, naming the line.
        OSError: A file cannot be read.
    """
    if isinstance(source, EnergyMeter):
        yield _of_reading(source.reading)
    elif isinstance(source, Reading):
        yield _of_reading(source)
    elif isinstance(source, Mapping):
        yield _of_mapping(source)
    elif isinstance(source, (str, os.PathLike)):
        yield from _of_file(Path(source))
    elif isinstance(getattr(source, "stats", None), Mapping):
        yield _of_future(source)
    elif isinstance(source, Iterable) and not isinstance(source, (bytes, bytearray)):
        for one in source:
            yield from rows_of(one)
    else:
        raise TypeError(
            f"{type(source).__name__} has no energy: expected a Reading, an EnergyMeter, a dict of "
            "stats, a future of Lithops, a path of JSON lines, or several of these"
        )


def _of_reading(reading: Reading) -> Row:
    row = reading.flat()
    # The clock of another boot, or of another machine, has nothing to do with this one's.
    ago = time.monotonic_ns() - (row.get("window_end") or 0)
    if row.get("window_end") and ago >= 0 and reading._is_of_this_boot:
        row[TIME] = time.time_ns() - ago
    return row


def _of_future(future: Any) -> Row:
    row = _of_mapping(future.stats)
    for key, name in (
        (_LABEL, "function_name"),
        ("job_id", "job_id"),
        ("call_id", "call_id"),
        ("activation_id", "activation_id"),
    ):
        value = getattr(future, name, None)
        if value is not None and row.get(key) is None:
            row[key] = str(value)
    return row


def _of_mapping(stats: Mapping[Any, Any]) -> Row:
    if "command" in stats and "joules" in stats and "exit_code" in stats:
        return _of_run(stats)
    if isinstance(stats.get("energy_metrics"), Mapping):
        return _of_log(stats)
    plain = _plain()
    row: Row = {}
    for key, value in stats.items():
        name = plain.get(key, str(key))
        # Several keys of the stats have the same value; the first that is there counts.
        if row.get(name) is None:
            row[name] = value
    if not _is_time(row.get(TIME)):
        row.pop(TIME, None)
        # Lithops' own stamps, s since 1970; a double holds them to the µs.
        ended = number(row.get("worker_end_tstamp"))
        if ended is not None and 0 < ended < 9e9:
            row[TIME] = round(ended * 1e6) * 1000
    return row


def _is_time(value: object) -> bool:
    """Whether formats can hold it: a foreign file may have anything under that key."""
    return type(value) is int and 0 < value < 2**63


def _of_run(told: Mapping[Any, Any]) -> Row:
    row: Row = {plain: told.get(name) for name, plain in _OF_RUN.items()}
    command = told["command"]
    words = command if isinstance(command, (list, tuple)) else str(command).split()
    row[_LABEL] = program_of([str(word) for word in words])
    row["exit_code"] = told["exit_code"]
    reason = told.get("reason")
    row["energy_source"] = f"unavailable: {reason}" if reason else row["energy_method"]
    return row


def _of_log(entry: Mapping[Any, Any]) -> Row:
    """Of a line of `lithowatt.report.EnhancedEnergyLogger`."""
    row = _of_mapping(entry["energy_metrics"])
    for key in ("stage", "backend"):
        if entry.get(key) is not None:
            row.setdefault(key, entry[key])
    if not row.get(_LABEL):
        row[_LABEL] = row.get("stage")
    logged = number(entry.get("timestamp"))
    if logged is not None and 0 < logged < 9e9:
        row.setdefault(TIME, round(logged * 1e6) * 1000)
    return row


def _of_file(path: Path) -> Iterator[Row]:
    text = path.read_text("utf-8")
    decoder = json.JSONDecoder()
    at = _past_blanks(text, 0)
    is_log = False
    while at < len(text):
        began = at
        fault = None
        try:
            told, at = decoder.raw_decode(text, began)
        except (ValueError, RecursionError) as error:
            fault = str(error)
        else:
            if not isinstance(told, dict):
                fault = f"a {type(told).__name__}"
        if fault is None:
            is_log = isinstance(told.get("energy_metrics"), Mapping)
            yield _of_mapping(told)
        elif is_log:
            # What a writer that was killed left of a line: passed over as in `read_energy_log`.
            at = text.find("\n", began)
            if at < 0:
                return
        else:
            line = text.count("\n", 0, began) + 1
            raise MalformedValueError(
                f"{path}, line {line}: {fault}; expected JSON objects one after another"
            )
        at = _past_blanks(text, at)


def _past_blanks(text: str, at: int) -> int:
    found = _BLANKS.match(text, at)
    return found.end() if found else at


class Energy(NamedTuple):
    """What every format says of a call's energy.

    Attributes:
        function: Its name, empty where nobody gave one.
        joules: ``None`` where there are none.
        band: Ends of the 95 % band, J.
        seconds: Length of the window, s.
        cpu_seconds: CPU time, s.
        quality: ``measured``, ``attributed``, ``modelled``; ``none`` without energy.
        method: How the energy was made; empty without energy.
        definition: ``marginal`` or ``amortised``; empty without energy.
        reason: Why there is none; ``None`` where there is.
    """

    function: str
    joules: float | None
    band: tuple[float, float] | None
    seconds: float | None
    cpu_seconds: float | None
    quality: str
    method: str
    definition: str
    reason: str | None


def energy_of(row: Mapping[str, Any]) -> Energy:
    """The energy of a row.

    Example:
        >>> found = energy_of({"label": "f", "energy_consumption": 2.0, "energy_low": 1.0,
        ...     "energy_high": 4.0, "energy_quality": "attributed"})
        >>> found.joules, found.band, found.quality
        (2.0, (1.0, 4.0), 'attributed')
        >>> energy_of({"energy_source": "unavailable: no counter"}).reason
        'no counter'
    """

    def text(key: str) -> str:
        value = row.get(key)
        return value if isinstance(value, str) else ""

    joules = number(row.get("energy_consumption"))
    low, high = number(row.get("energy_low")), number(row.get("energy_high"))
    there = joules is not None
    source = text("energy_source").removeprefix("unavailable: ")
    return Energy(
        function=text(_LABEL),
        joules=joules,
        band=(low, high) if there and low is not None and high is not None else None,
        seconds=number(row.get("energy_duration")),
        cpu_seconds=number(row.get("energy_cpu_time")),
        quality=(text("energy_quality") or "unknown") if there else "none",
        method=text("energy_method") if there else "",
        definition=text("energy_definition") if there else "",
        reason=None if there else source or "its stats have no energy",
    )
