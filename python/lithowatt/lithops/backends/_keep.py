"""What came of each repetition, written at once: a profile a backend, and a log of all runs."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lithowatt._support.files import locked
from lithowatt.errors import UnwritableFileError
from lithowatt.lithops.backends._job import Call
from lithowatt.profiles._append import append_repetition
from lithowatt.profiles._columns import FunctionTimes
from lithowatt.profiles._file import Configuration
from lithowatt.profiles._lithops_stats import values_of
from lithowatt.profiles._sidecar import append_failure, energies, failure
from lithowatt.profiles._values import finite

#: The log of all runs in a folder. Its name keeps it from being read as a profile.
LOG = "runs.ndjson"

#: Version of its lines.
SCHEMA = 1

_FIELDS = tuple(FunctionTimes.__dataclass_fields__)


def prepare(folder: str | os.PathLike[str], append: bool) -> Path:
    """The folder for what is kept, made if it is not there.

    Raises:
        UnwritableFileError: It is no folder that can be written to, or holds something and nothing
            is to be appended.
    """
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not append and any(path.iterdir()):
            raise UnwritableFileError(
                f"{path} is not empty: give another folder, or --append for one more session"
            )
        if not os.access(path, os.W_OK | os.X_OK):
            raise UnwritableFileError(f"{path} cannot be written to")
    except FileExistsError:
        raise UnwritableFileError(f"{path} is no folder") from None
    except UnwritableFileError:
        raise
    except OSError as error:
        raise UnwritableFileError(f"{path}: {error.strerror or error}") from error
    return path


class Keeper:
    """Writes what came of repetitions below a folder: `<workload>/<backend>.json` and the log.

    A run is written whole before the next begins, so an interruption loses none that ended.
    """

    def __init__(self, folder: Path, workload: str) -> None:
        self.folder = folder
        self.workload = workload
        #: One for each run of this session.
        self.rows: list[dict[str, Any]] = []

    def begin(self, head: Mapping[str, Any]) -> None:
        """Writes the first line of a session in the log: how it is run."""
        self._log({"schema": SCHEMA, "workload": self.workload, **head})

    def profile(self, backend: str) -> Path:
        """Where the profile of a backend is."""
        return self.folder / self.workload / f"{backend}.json"

    def keep(
        self,
        configuration: Configuration,
        calls: Sequence[Call],
        context: Mapping[str, Any],
        *,
        recorded: bool,
        error: str | None = None,
    ) -> dict[str, Any]:
        """Writes one run; its row of the log.

        Args:
            configuration: As it was asked for.
            calls: What came of them.
            context: What the record says besides: `backend_name`, `round` and others.
            recorded: Whether it counts; one that only warms up is in the log alone.
            error: Why the job did not run to its end.
        """
        failed = [one.error for one in calls if one.error is not None]
        if error is None and failed:
            what, times = Counter(failed).most_common(1)[0]
            error = what if len(calls) == 1 else f"{times} of {len(calls)} calls: {what}"
        times_of = [_times(one.stats) for one in calls]
        if recorded:
            path = self.profile(str(context["backend_name"]))
            path.parent.mkdir(exist_ok=True)
            if error is None:
                append_repetition(path, configuration, times_of, context)
            elif path.exists():
                # A sidecar belongs to a profile: before there is one, the log alone has it.
                with locked(path):
                    append_failure(path, failure(path.stem, configuration.key, error, times_of))
        row = {
            **context,
            "configuration": configuration.key,
            "recorded": recorded,
            "ended": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "error": error,
            **_summary(calls, times_of),
        }
        self.rows.append(row)
        self._log(row)
        return row

    def _log(self, row: Mapping[str, Any]) -> None:
        line = json.dumps(row, default=str, separators=(",", ":")) + "\n"
        try:
            with (self.folder / LOG).open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            raise UnwritableFileError(f"{self.folder / LOG}: {error.strerror or error}") from error


def sessions(folder: Path, workload: str | None = None) -> Iterator[dict[str, Any]]:
    """The lines of a folder's log that can be read, the heads of sessions among them.

    Args:
        folder: Where the log is.
        workload: Only sessions of this one: a folder can hold several.
    """
    of = None
    with contextlib.suppress(OSError), (folder / LOG).open(encoding="utf-8") as file:
        for line in file:
            with contextlib.suppress(ValueError):
                row = json.loads(line)
                if not isinstance(row, dict):
                    continue
                of = row.get("workload", of)
                if workload is None or of == workload:
                    yield row


def _times(stats: Mapping[str, Any]) -> FunctionTimes:
    """One call as a profile has it."""
    values = values_of(stats)
    times = FunctionTimes(**{name: values.get(name) for name in _FIELDS})
    spans = (times.cold_start, times.read, times.compute, times.write)
    known = [one for one in spans if one is not None]
    times.total = sum(known) if len(known) == len(spans) else None
    return times


def _summary(calls: Sequence[Call], times: Sequence[FunctionTimes]) -> dict[str, Any]:
    """What a row says of a run, of all its calls together."""
    joules = energies(times)
    totals = [finite(one.total) for one in times]
    starts = [finite(one.cold_start) for one in times]
    cpu = [finite(one.cpu_time) for one in times]
    cold = [one.stats.get("worker_task_cold_start") for one in calls]
    digests = {one.digest for one in calls}
    return {
        "calls": len(calls),
        "failed_calls": sum(one.error is not None for one in calls),
        "time_s": _all(max, totals),
        "cold_start_s": _all(max, starts),
        "cpu_seconds_s": _all(sum, cpu),
        "energy_j": joules["energy"],
        "energy_reason": joules["energy_reason"],
        "energy_quality": joules["energy_quality"],
        "energy_method": joules["energy_method"],
        "energy_definition": joules["energy_definition"],
        "cold_calls": sum(one is True for one in cold) if cold and None not in cold else None,
        "result": digests.pop() if len(digests) == 1 else None,
    }


def _all(combine: Any, values: Sequence[float | None]) -> float | None:
    known = [one for one in values if one is not None]
    return float(combine(known)) if known and len(known) == len(values) else None
