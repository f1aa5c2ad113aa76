"""The reference of all keys: the core's table joined with what Python adds to a call.

The core writes a reading's values and has their rows. What only Python knows of a call has its rows
here: the core could neither write nor check it. Columns of profiles have theirs where they are
made, in `lithowatt.profiles._columns`, and quantities of results in
`lithowatt.analysis.quantity_table`. The join is in this room as it imports from several, and
nobody imports from here.
"""

from __future__ import annotations

import difflib
import fnmatch
import functools
import re
from typing import TYPE_CHECKING, NamedTuple

from lithowatt import _core
from lithowatt.analysis.quantity_table import TABLE
from lithowatt.profiles._columns import PROFILE_COLUMNS
from lithowatt.stats import PREFIX, spelt
from lithowatt.worker.task_window import PREFIX as OF_TASK

if TYPE_CHECKING:
    from collections.abc import Iterator


class Row(NamedTuple):
    """One key.

    Attributes:
        name: The plain key, as in `Reading.flat()`; where there is none, the key itself.
        unit: J, s, MiB, % (0..100) …; `None` where the value has none.
        type: Of the value in Python.
        meaning: What it is.
        absent: When it is `None`; `None` for a value that is always there.
        group: Title of its part of the reference.
        stats: The keys of the same value in a call's stats.
    """

    name: str
    unit: str | None
    type: str
    meaning: str
    absent: str | None
    group: str
    stats: tuple[str, ...]


#: Groups that Python adds.
LAMBDA = "A Lithops call on AWS Lambda"
TASK = "The task beside the function, in Lithops calls"
COLUMNS = "Columns of FlexExecutor's profiles"
COST = "Cost and CO2e, by `lithowatt cost --json`"
RESULTS = "Quantities of a repetition, by `lithowatt profile stats` and the like"

_NO_TASK = "the task was not metered, or has no energy"
_NO_STARTUP = "the start was another's, or what it used is unknown"

_TYPES: dict[str, tuple[str | None, str]] = {"text": (None, "str"), "count": ("1", "int")}


#: Name, unit, type, meaning, and when it is `None`.
_Short = tuple[str, str | None, str, str, str | None]

_OF_LAMBDA: tuple[_Short, ...] = (
    ("aws_region", None, "str", "AWS region, for the price", "the sandbox does not name it"),
    (
        "aws_billed_ms",
        "ms",
        "int",
        "this call's part of the invocation, rounded up",
        "the invocation's start was not seen",
    ),
    (
        "aws_init_ms",
        "ms",
        "int",
        "start of the sandbox, in its first call; 0 in those after",
        "the sandbox was made of a snapshot",
    ),
)

_OF_TASK: tuple[_Short, ...] = (
    (
        "energy_consumption",
        "J",
        "float",
        "energy of the whole task: download, the function's process, upload",
        _NO_TASK,
    ),
    ("energy_low", "J", "float", "lower end of the 95 % band of the task's energy", _NO_TASK),
    ("energy_high", "J", "float", "upper end of the 95 % band of the task's energy", _NO_TASK),
    (
        "energy_quality",
        None,
        "str",
        "how the task's energy was obtained: `measured`, `attributed` or `modelled`",
        _NO_TASK,
    ),
    ("energy_duration", "s", "float", "length of the task's window", _NO_TASK),
    (
        "energy_startup",
        "J",
        "float",
        "energy of the start of the worker's process, modelled; the task's energy is without it",
        _NO_STARTUP,
    ),
    (
        "energy_startup_low",
        "J",
        "float",
        "lower end of the band of `worker_task_energy_startup`",
        _NO_STARTUP,
    ),
    (
        "energy_startup_high",
        "J",
        "float",
        "upper end of the band of `worker_task_energy_startup`",
        _NO_STARTUP,
    ),
    ("cold_start", None, "bool", "the first call of a worker process", "no task was metered"),
)

_BAND = "a dict of `value`, `low`, `high` and `source`"

_OF_COST: tuple[_Short, ...] = (
    ("region", None, "str", "AWS region", None),
    ("architecture", None, "str", "`x86_64` or `arm64`", None),
    ("requests", "1", "int", "how many calls the dollars are for", None),
    ("total_usd", "USD", "float", "what AWS bills: compute, requests and storage", None),
    ("compute_usd", "USD", "float", "billed for memory × time", None),
    ("request_usd", "USD", "float", "billed for the requests", None),
    ("storage_usd", "USD", "float", "billed for ephemeral storage above 512 MB", None),
    ("gb_seconds", "GB·s", "float", "memory × billed duration", None),
    ("price", None, "str", "where the prices are from", None),
    ("energy_j", "J", "dict", f"energy of a call: {_BAND}", None),
    ("electricity_usd", "USD", "dict", f"price of a call's electricity: {_BAND}", None),
    ("operational_gco2e", "g", "dict", f"CO2e of a call's electricity: {_BAND}", None),
    (
        "embodied_gco2e",
        "g",
        "dict",
        f"CO2e of making the machine, a call's part of it: {_BAND}",
        None,
    ),
    (
        "sci_gco2e",
        "g",
        "dict",
        f"Software Carbon Intensity of a call, operational and embodied CO2e: {_BAND}",
        None,
    ),
)


def _of_core() -> Iterator[Row]:
    for name, unit, kind, meaning, absent, group, in_stats in _core.stats_keys():
        stats = spelt(name) if in_stats else ()
        yield Row(name, unit, kind, meaning, absent, group, stats)


def _of_columns() -> Iterator[Row]:
    absent = "the call's stats have no such value"
    for name, unit, meaning in PROFILE_COLUMNS:
        known, kind = _TYPES.get(unit, (unit, "float"))
        yield Row(name, known, kind, meaning, absent, COLUMNS, ())


@functools.cache
def table() -> tuple[Row, ...]:
    """Every key, in the order of the reference."""
    return (
        *_of_core(),
        *(Row(*row, LAMBDA, (PREFIX + row[0],)) for row in _OF_LAMBDA),
        *(Row(key, *row[1:], TASK, (key,)) for row in _OF_TASK for key in (OF_TASK + row[0],)),
        *_of_columns(),
        *(Row(*row, COST, ()) for row in _OF_COST),
        *(Row(one.name, one.unit, "float", one.meaning, one.absent, RESULTS, ()) for one in TABLE),
    )


def names_of(row: Row) -> tuple[str, ...]:
    """What a row can be asked for by: its plain key, and each key of the stats with and without the
    part that all of those have in front."""
    short = (re.sub("^worker_(func_)?", "", name) for name in row.stats)
    return tuple(dict.fromkeys((row.name, *row.stats, *short)))


def find(key: str) -> list[Row]:
    """The rows of a key, or of all keys that a pattern with `*`, `?` or `[…]` fits."""
    if re.search(r"[*?\[]", key):
        return [
            row for row in table() if any(fnmatch.fnmatchcase(name, key) for name in names_of(row))
        ]
    exact = [row for row in table() if key in names_of(row)]
    return exact or [row for row in table() if _is_of_phase(row, key)]


def _is_of_phase(row: Row, key: str) -> bool:
    before, phase, _ = row.name.partition("<name>")
    return bool(phase) and key.startswith(before) and len(key) > len(before)


def near(key: str, count: int = 3) -> list[str]:
    """Keys that are written much like this one, plain ones first."""
    names: dict[str, str] = {}
    for row in table():
        for name in names_of(row):
            names.setdefault(name, row.name)
    close = difflib.get_close_matches(key, names, n=3 * count, cutoff=0.6)
    return list(dict.fromkeys(names[name] for name in close))[:count]
