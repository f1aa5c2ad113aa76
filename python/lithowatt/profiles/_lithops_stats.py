"""Stats of Lithops as a profile: a file with the `future.stats` of each call.

A line is one call's dict (`json.dumps(future.stats)`), or the file is one list of them. How calls
become a profile:

- Calls of one job are one repetition, in the order of the file. A job is known by `job_key`, else
  by `executor_id` and `job_id`, else by Lithops' `host_job_create_tstamp`, which is the same for
  all calls of a job; calls without any of these are one job.
- A configuration is what its jobs had in common: vCPUs (`runtime_cpu`, 1 where it is not there),
  memory (`runtime_memory` in MB, else what lithowatt saw of AWS Lambda, else 0) and the number of
  calls.
- `cold_start` is from the call's submission to the start of its worker, `read` from there to the
  start of the function, `compute` the function, `write` from its end to that of the worker.
  `time_consumption`, `worker_time_execution` and energies are those of FlexExecutor's profiles.
- A repetition's time, for its record, is when its job was created, else when its first call was
  submitted, else when its first worker started.

`job_key`, `executor_id`, `job_id`, `runtime_cpu` and `runtime_memory` are no stats of Lithops': who
writes the file may add them. The stats themselves follow as columns, as far as they are numbers
and texts.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from lithowatt._support.files import read_plain
from lithowatt.errors import MalformedValueError, UnreadableFileError
from lithowatt.profiles._file import MOST_BYTES, Configuration
from lithowatt.profiles._runs import Column, ConfigurationRuns
from lithowatt.profiles._values import energy_values, finite, plain_value

#: A time stamp of the host's or the worker's: every call has some.
_STAMP = re.compile(rb'"(?:host|worker)_[a-z_]*tstamp"\s*:')

#: What is looked at to tell stats from a profile. A call's stats are shorter.
_BEGINNING = 1 << 16

#: What is not of the call.
_ABOUT_JOB = ("job_key", "executor_id", "job_id", "runtime_cpu", "runtime_memory")

#: When a repetition ran: the first of these that a call has.
_RAN = ("host_job_create_tstamp", "host_submit_tstamp", "worker_start_tstamp")

Call = Mapping[str, Any]


def holds_stats(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as one of Lithops stats does; false where it cannot be read."""
    try:
        if not Path(path).is_file():
            return False
        with Path(path).open("rb") as file:
            beginning = file.read(_BEGINNING).lstrip(b"\xef\xbb\xbf \t\r\n")
    except OSError:
        return False
    first = re.match(rb"\[?\s*\{", beginning)
    # A profile's first value is an object; the stats' is a number, a text or null.
    return (
        first is not None
        and re.match(rb'\s*"(?:[^"\\]|\\.)*"\s*:\s*\{\s*"', beginning[first.end() :]) is None
        and _STAMP.search(beginning) is not None
    )


def read_stats(path: str | os.PathLike[str]) -> tuple[list[ConfigurationRuns], str]:
    """The configurations of a file of stats, and the SHA-256 of its bytes.

    Raises:
        UnreadableFileError: It cannot be read, is no plain file or is longer than 1 GiB.
        MalformedValueError: A line is no call's dict; names it.
    """
    name = os.fspath(path)
    try:
        content = read_plain(path, MOST_BYTES)
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MalformedValueError(f"{name} is not UTF-8: {error}") from error
    except OSError as error:
        raise UnreadableFileError(f"{name}: {error.strerror or error}") from error
    jobs: dict[Any, list[Call]] = {}
    for call in _calls(text, name):
        jobs.setdefault(_job(call), []).append(call)
    configurations: dict[Configuration, list[list[Call]]] = {}
    for calls in jobs.values():
        configurations.setdefault(_configuration(calls, name), []).append(calls)
    runs = [_runs(key, repetitions) for key, repetitions in configurations.items()]
    return runs, hashlib.sha256(content).hexdigest()


def _calls(text: str, name: str) -> Iterator[Call]:
    if text.lstrip().startswith("["):
        calls = _parsed(text, name, 1)
        for number, call in enumerate(calls):
            if not isinstance(call, dict):
                raise MalformedValueError(f"{name}, call {number}: {call!r:.60} is no object")
            yield call
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            call = _parsed(line, name, number)
            if not isinstance(call, dict):
                raise MalformedValueError(f"{name}, line {number}: {call!r:.60} is no object")
            yield call


def _parsed(text: str, name: str, line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        at = f"line {line + error.lineno - 1}, column {error.colno}"
        raise MalformedValueError(f"{name} is not JSON at {at} ({error.msg})") from error
    except (ValueError, RecursionError) as error:
        raise MalformedValueError(f"{name}, line {line}: {error}") from error


def _job(call: Call) -> Any:
    for names in (("job_key",), ("executor_id", "job_id"), ("host_job_create_tstamp",)):
        found = tuple(call.get(name) for name in names)
        if all(isinstance(one, (str, int, float)) for one in found):
            return found
    return None


def _configuration(calls: Sequence[Call], name: str) -> Configuration:
    cpu = _same(calls, "runtime_cpu")
    memory = _same(calls, "runtime_memory")
    if memory is None:
        tag = energy_values(calls[0])["aws_cpu"]
        found = re.search(r"mem:(\d+)", tag) if isinstance(tag, str) else None
        memory = float(found[1]) if found else 0.0
    values = (1.0 if cpu is None else cpu, memory, len(calls))
    try:
        return Configuration.of(int(one) if float(one).is_integer() else one for one in values)
    except MalformedValueError as error:
        raise MalformedValueError(f"{name}: {error}") from None


def _same(calls: Sequence[Call], key: str) -> float | None:
    """A number that all calls agree in."""
    found = {finite(call.get(key)) for call in calls}
    return found.pop() if len(found) == 1 else None


def _runs(configuration: Configuration, repetitions: Sequence[Sequence[Call]]) -> ConfigurationRuns:
    widths = np.array([len(calls) for calls in repetitions], dtype=np.int64)
    rows = [values_of(call) for calls in repetitions for call in calls]
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {
        name: made
        for name in names
        if (made := _column(name, [row.get(name) for row in rows], widths)) is not None
    }
    records = tuple(_record(calls) for calls in repetitions)
    return ConfigurationRuns(configuration.key, configuration, widths, columns, records)


def _record(calls: Sequence[Call]) -> Mapping[str, Any] | None:
    """A repetition's record, as a sidecar has it, with its time alone."""
    for name in _RAN:
        stamps = [stamp for call in calls if (stamp := finite(call.get(name))) is not None]
        try:
            time = datetime.fromtimestamp(min(stamps), timezone.utc)
        except (ValueError, OverflowError, OSError):
            continue  # none, or of no year that there is
        return {"time": time.isoformat(timespec="seconds").replace("+00:00", "Z")}
    return None


def values_of(call: Call) -> dict[str, Any]:
    """One call's columns: FlexExecutor's, the energies, and the stats as they are."""
    stamps = [
        finite(call.get(f"{name}_tstamp"))
        for name in (
            "host_submit",
            "worker_start",
            "worker_func_start",
            "worker_func_end",
            "worker_end",
        )
    ]
    phases = ("cold_start", "read", "compute", "write")
    spans = {
        name: None if begin is None or end is None else end - begin
        for name, begin, end in zip(phases, stamps, stamps[1:], strict=False)
    }
    measured = finite(call.get("worker_func_exec_time"))
    values = {
        "read": spans["read"],
        "compute": spans["compute"] if measured is None else measured,
        "write": spans["write"],
        "cold_start": spans["cold_start"],
        **energy_values(call),
    }
    for name, value in call.items():
        if name not in _ABOUT_JOB:
            values.setdefault(name, int(value) if isinstance(value, bool) else plain_value(value))
    return values


def _column(name: str, values: list[Any], widths: np.ndarray[Any, Any]) -> Column | None:
    """A column of these values; `None` where there is none, or only what is no value."""
    there = [value for value in values if value is not None]
    if not there:
        return None
    if any(isinstance(value, str) for value in there):
        labels: dict[str, int] = {}
        codes = [
            -1 if value is None else labels.setdefault(str(value), len(labels)) for value in values
        ]
        return Column(name, widths, None, np.array(codes, dtype=np.int32), tuple(labels))
    numbers = [finite(value) for value in values]
    return Column(
        name,
        widths,
        np.array([np.nan if value is None else value for value in numbers], dtype=np.float64),
        whole=all(isinstance(value, int) and abs(value) <= 2**53 for value in there),
    )
