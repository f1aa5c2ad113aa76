"""What a profile has no room for: units, schema, hardware, workers asked for and got, failures.

Every key of a profile is read as a configuration and every column as numbers
by those who train on it, so such things live in a file beside it,
`<stage>.json.energy` for `<stage>.json` (JSON, too; the name keeps it out of
`*.json`).
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lithowatt._errors import MalformedValueError, UnreadableFileError
from lithowatt._files import write_atomically
from lithowatt.flexecutor._values import finite
from lithowatt.profiles._file import Configuration, Metrics, prints

logger = logging.getLogger("lithowatt")

#: Version of the sidecar's layout.
SCHEMA = 1

#: Failed runs kept per file; the oldest go first.
MOST_FAILURES = 100

_HARDWARE = ("cpu_name", "cpu_architecture", "cpu_cores_physical", "cpu_cores_logical", "aws_cpu")


def sidecar_path(profile: str | os.PathLike[str]) -> Path:
    """Where the sidecar of a profile is.

    Example:
        >>> sidecar_path("profiling/titanic/train.json").name
        'train.json.energy'
    """
    # Beside the file itself, if that is reached through a link.
    path = Path(os.path.realpath(profile)) if Path(profile).is_symlink() else Path(profile)
    return path.with_name(path.name + ".energy")


def read_sidecar(profile: str | os.PathLike[str]) -> dict[str, Any]:
    """The sidecar of a profile.

    Returns:
        `schema` (int), `units` (column to unit and meaning), `configurations`
        (key to one record per repetition, `None` for one that was recorded
        without lithowatt; `repetition` tells which it belongs to, by its times)
        and `failures`.

    Raises:
        UnreadableFileError: There is none, or it may not be read.
        MalformedValueError: It is no sidecar, or of a later schema.
    """
    path = sidecar_path(profile)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise MalformedValueError(f"{path} is not UTF-8: {error}") from error
    except OSError as error:
        raise UnreadableFileError(f"{path}: {error.strerror or error}") from error
    try:
        data: dict[str, Any] = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedValueError(f"{path} is cut off or not JSON: {error}") from error
    good = (
        isinstance(data, dict)
        and isinstance(data.get("schema"), int)
        and isinstance(data.get("units"), dict)
        and isinstance(data.get("configurations"), dict)
        and all(
            isinstance(records, list) and _is_key(key)
            for key, records in data["configurations"].items()
        )
        and isinstance(data.get("failures", []), list)
    )
    if not good:
        raise MalformedValueError(
            f"{path} is no sidecar: it needs schema, units, configurations and failures"
        )
    if data["schema"] > SCHEMA:
        raise MalformedValueError(
            f"{path} has schema {data['schema']}; this lithowatt knows those up to {SCHEMA}"
        )
    data.setdefault("failures", [])
    return data


def record(
    times: Sequence[Any], requested: int, context: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """One repetition's record: J summed over the workers, and what they ran on.

    Energies of calls that carry none are not taken as 0: `energy` is `None`
    unless every call has one, and `calls_with_energy` says how many do.
    """
    energies = [
        energy for one in times if (energy := finite(getattr(one, "energy", None))) is not None
    ]
    hardware = Counter(tuple(getattr(one, name, None) for name in _HARDWARE) for one in times)
    whole = len(energies) == len(times) and energies
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "requested_workers": requested,
        "actual_workers": len(times),
        "energy": math.fsum(energies) if whole else None,
        "calls_with_energy": len(energies),
        "energy_quality": _count(times, "energy_quality"),
        "energy_method": _count(times, "energy_method"),
        "energy_definition": _count(times, "energy_definition"),
        "hardware": [
            {**dict(zip(_HARDWARE, values, strict=True)), "workers": count}
            for values, count in hardware.most_common()
        ],
        "lithowatt": _version(),
        **(context or {}),
    }


def _count(times: Sequence[Any], name: str) -> dict[str, int]:
    values = Counter(str(getattr(one, name, None) or "unavailable") for one in times)
    return dict(values.most_common())


def _version() -> str:
    from lithowatt import _core

    return _core.__version__


def failure(stage: str, key: str | None, error: str, calls: Sequence[Any]) -> dict[str, Any]:
    """A failed run's record: the joules of its calls, which the profile does not hold.

    `calls` are their stats dicts, `None` for a call that left none. `energy` is
    the J of all calls, `None` unless each is known; `energy_known` is the sum of
    those that are, `None` if none is.
    """
    energies = [
        value
        for stats in calls
        if isinstance(stats, dict)
        and isinstance(value := stats.get("worker_func_energy_consumption"), (int, float))
    ]
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "stage": stage,
        "configuration": key,
        "error": error[:400],
        "calls": len(calls),
        "calls_with_energy": len(energies),
        "energy": math.fsum(energies) if energies and len(energies) == len(calls) else None,
        "energy_known": math.fsum(energies) if energies else None,
    }


def append_records(
    profile: str | os.PathLike[str],
    data: Mapping[Configuration, Metrics] | None,
    records: Sequence[tuple[Configuration, str, dict[str, Any]]],
    failures: Sequence[dict[str, Any]] = (),
) -> None:
    """Adds records to the sidecar of a profile; the caller holds the lock.

    Args:
        profile: The profile's path.
        data: What the profile holds now; None leaves the records as they are.
        records: Configuration, print (see `_file.prints`) and record of each
            repetition that was added.
        failures: Records of runs that failed.

    A record belongs to a repetition by its times, not by its place: others, who
    know nothing of the sidecar, may have added or removed some in between.
    A sidecar that is damaged or of a later schema is moved aside, never
    overwritten. Raises OSError where it cannot be written.
    """
    from lithowatt.flexecutor._columns import PROFILE_COLUMNS

    path = sidecar_path(profile)
    try:
        before = read_sidecar(profile)
    except UnreadableFileError:
        if path.exists():
            raise
        before = {}
    except MalformedValueError as error:
        aside = move_aside(path)
        logger.warning("%s; it is now %s and a new one begins", error, aside)
        before = {}
    configurations: dict[str, list[Any]] = before.get("configurations", {})
    if data is not None:
        configurations = _arranged(configurations, data, records)
    document = {
        "schema": SCHEMA,
        "units": {column.name: f"{column.unit}: {column.meaning}" for column in PROFILE_COLUMNS},
        "configurations": configurations,
        "failures": [*before.get("failures", []), *failures][-MOST_FAILURES:],
    }
    write_atomically(path, json.dumps(document, indent=1, default=str))


def _arranged(
    configurations: Mapping[str, list[Any]],
    data: Mapping[Configuration, Metrics],
    records: Sequence[tuple[Configuration, str, dict[str, Any]]],
) -> dict[str, list[Any]]:
    """Each record at the place of its repetition, `None` where there is none."""
    pool: dict[tuple[Configuration, str], list[Any]] = {}
    for key, column in configurations.items():
        for one in column:
            if isinstance(one, dict) and isinstance(one.get("repetition"), str):
                pool.setdefault((Configuration.parse(key), one["repetition"]), []).append(one)
    for configuration, print_, one in records:
        digest = _digest(print_)
        pool.setdefault((configuration, digest), []).append({**one, "repetition": digest})
    arranged: dict[str, list[Any]] = {}
    for configuration, metrics in data.items():
        column = []
        # From the end: of repetitions that nothing tells apart the latest has the record.
        for print_ in reversed(prints(metrics)):
            found = pool.get((configuration, _digest(print_)))
            column.append(found.pop() if found else None)
        if any(one is not None for one in column):
            arranged[configuration.key] = column[::-1]
    return arranged


def _digest(print_: str) -> str:
    return hashlib.blake2s(print_.encode(), digest_size=8).hexdigest()


def _is_key(key: str) -> bool:
    try:
        Configuration.parse(key)
    except MalformedValueError:
        return False
    return True


def move_aside(path: Path) -> Path:
    """Renames a damaged file to a free name beside it and returns that."""
    for number in range(1, 10_000):
        aside = path.with_name(f"{path.name}.damaged-{number}")
        if not os.path.lexists(aside):
            path.rename(aside)
            return aside
    raise FileExistsError(f"too many damaged files beside {path}")
