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
from typing import Any, NamedTuple

from lithowatt._support.files import Stamp, read_plain, write_pieces
from lithowatt.errors import MalformedValueError, UnreadableFileError
from lithowatt.profiles._file import MOST_BYTES, Configuration, Metrics, prints
from lithowatt.profiles._values import WARNING_SEPARATOR, finite

logger = logging.getLogger("lithowatt")

#: Version of the sidecar's layout.
SCHEMA = 1

#: Failed runs kept per file; the oldest go first.
MOST_FAILURES = 100

#: Different warnings kept per repetition.
MOST_WARNINGS = 20

INPUT_SIZES = ("input_bytes", "input_size", "input_mb", "input_size_bytes", "input_size_mb")
"""Where a record, or a column, says of how much input a repetition was."""

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
        without lithowatt; `repetition` is the one it belongs to, by its times)
        and `failures`.

    Raises:
        UnreadableFileError: There is none, it may not be read, is no plain file (a FIFO, a device)
            or is longer than 1 GiB.
        MalformedValueError: It is no sidecar, or of a later schema.
    """
    path = sidecar_path(profile)
    try:
        text = read_plain(path, MOST_BYTES).decode("utf-8")
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

    Args:
        times: A FunctionTimes of each worker.
        requested: Workers that were asked for.
        context: What the record shall say besides.
    """
    hardware = Counter(tuple(getattr(one, name, None) for name in _HARDWARE) for one in times)
    return {
        "time": _now(),
        "requested_workers": requested,
        "actual_workers": len(times),
        **energies(times),
        "hardware": [
            {**dict(zip(_HARDWARE, values, strict=True)), "workers": count}
            for values, count in hardware.most_common()
        ],
        "lithowatt": _version(),
        **(context or {}),
    }


def failure(stage: str, key: str | None, error: str, calls: Sequence[Any]) -> dict[str, Any]:
    """A failed run's record: the joules of its calls, which the profile does not hold.

    Args:
        stage: Its id.
        key: The configuration that was asked for.
        error: What it failed with.
        calls: A FunctionTimes of each call, `None` for a call of which nothing is known.
    """
    return {
        "time": _now(),
        "stage": stage,
        "configuration": key,
        "error": error[:400],
        "calls": len(calls),
        **energies(calls),
    }


def energies(calls: Sequence[Any]) -> dict[str, Any]:
    """J of these calls together, and how they were made.

    A sum needs every call, and all of one definition: `energy` is None else, with the reason in
    `energy_reason`. `energy_known` is the sum of the calls that are known. `energy_marginal` and
    `energy_amortised` are the sums of the two definitions.
    """
    known = [one for one in calls if finite(getattr(one, "energy", None)) is not None]
    definitions = {getattr(one, "energy_definition", None) for one in known}
    reasons = []
    if len(known) < len(calls) or not calls:
        reasons.append(f"{len(calls) - len(known)} of {len(calls)} calls have no energy")
    if len(definitions) > 1:
        names = " and ".join(sorted(str(name or "of no known definition") for name in definitions))
        reasons.append(f"calls are {names}, which do not add up")
    return {
        "energy": None if reasons else _sum(calls, "energy"),
        "energy_reason": "; ".join(reasons) or None,
        "energy_known": _sum(known, "energy") if len(definitions) == 1 else None,
        "energy_marginal": _sum(calls, "energy_marginal"),
        "energy_amortised": _sum(calls, "energy_amortised"),
        "calls_with_energy": len(known),
        "energy_quality": _count(calls, "energy_quality"),
        "energy_method": _count(calls, "energy_method"),
        "energy_definition": _count(calls, "energy_definition"),
        "energy_idle_source": _count(calls, "energy_idle_source"),
        "energy_warnings": _warnings(calls),
    }


def _sum(calls: Sequence[Any], name: str) -> float | None:
    values = [finite(getattr(one, name, None)) for one in calls]
    there = [value for value in values if value is not None]
    return math.fsum(there) if there and len(there) == len(values) else None


def _count(calls: Sequence[Any], name: str) -> dict[str, int]:
    values = Counter(str(getattr(one, name, None) or "unavailable") for one in calls)
    return dict(values.most_common())


def _warnings(calls: Sequence[Any]) -> dict[str, int]:
    """How many calls gave each warning."""
    texts: Counter[str] = Counter()
    for one in calls:
        text = getattr(one, "energy_warnings", None)
        if isinstance(text, str):
            texts.update(set(text.split(WARNING_SEPARATOR)))
    return dict(texts.most_common(MOST_WARNINGS))


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _version() -> str:
    from lithowatt import _core

    return _core.__version__


class NewRecord(NamedTuple):
    """The record of a repetition that the sidecar does not hold yet.

    Attributes:
        configuration: Of the repetition.
        place: Its number among the repetitions of the configuration.
        print: Its fingerprint, see `_file.print_of`.
        record: See `record`.
    """

    configuration: Configuration
    place: int
    print: str
    record: dict[str, Any]


class Sidecar:
    """A profile's sidecar as it was last written, so that records can be appended to it."""

    def __init__(self) -> None:
        self.stamp: Stamp | None = None
        #: By configuration, the text of each repetition's record.
        self._texts: dict[Configuration, list[str]] = {}
        self._failures: list[Any] = []

    def append(
        self,
        profile: str | os.PathLike[str],
        data: Mapping[Any, Metrics],
        records: Sequence[NewRecord],
        unmoved: bool,
    ) -> None:
        """Adds records to the sidecar of a profile; the caller holds the lock.

        Args:
            profile: The profile's path.
            data: What the profile holds now.
            records: Of the repetitions that were added.
            unmoved: No repetition has changed its place since this sidecar was written.

        Raises:
            OSError: It cannot be read or written.
        """
        path = sidecar_path(profile)
        stamp, self.stamp = self.stamp, None
        if not (
            unmoved
            and stamp is not None
            and stamp == Stamp.of(path)
            and all(one.place >= len(self._texts.get(one.configuration, ())) for one in records)
        ):
            before = _read_or_begin(profile)
            self._failures = before.get("failures", [])
            arranged = _arranged(before.get("configurations", {}), data, records)
            self._texts = {key: [_json(one) for one in column] for key, column in arranged.items()}
        else:
            for one in records:
                column = self._texts.setdefault(one.configuration, [])
                column.extend([_json(None)] * (one.place - len(column)))
                column.append(_json({**one.record, "repetition": _digest(one.print)}))
        write_pieces(path, _document(self._texts, self._failures))
        self.stamp = Stamp.of(path)


def write_sidecar(
    profile: str | os.PathLike[str],
    data: Mapping[Any, Metrics],
    records: Mapping[Configuration, Sequence[Mapping[str, Any] | None]],
    failures: Sequence[Any],
) -> None:
    """Writes the sidecar of a profile; the caller holds the lock.

    Args:
        profile: The profile's path.
        data: What it holds.
        records: Of each configuration, one a repetition.
        failures: Failed runs.

    Raises:
        OSError: It cannot be written.
    """
    texts = {
        key: [
            _json(None if one is None else {**one, "repetition": _digest(print_)})
            for one, print_ in zip(some, prints(data[key]), strict=True)
        ]
        for key, some in records.items()
    }
    write_pieces(sidecar_path(profile), _document(texts, failures))


def append_failure(profile: str | os.PathLike[str], failure: Mapping[str, Any]) -> None:
    """Adds a failed run to the sidecar of a profile; the caller holds the lock.

    Raises:
        OSError: It cannot be read or written.
    """
    before = _read_or_begin(profile)
    texts = {
        Configuration.parse(key): [_json(one) for one in column]
        for key, column in before.get("configurations", {}).items()
    }
    write_pieces(sidecar_path(profile), _document(texts, [*before.get("failures", []), failure]))


def _read_or_begin(profile: str | os.PathLike[str]) -> dict[str, Any]:
    """The sidecar, empty where there is none yet.

    One that is damaged or of a later schema is moved aside, never overwritten.
    """
    path = sidecar_path(profile)
    try:
        return read_sidecar(profile)
    except UnreadableFileError:
        if path.exists():
            raise
    except MalformedValueError as error:
        aside = move_aside(path)
        logger.warning("%s; it is now %s and a new one begins", error, aside)
    return {}


def _json(value: Any) -> str:
    return json.dumps(value, default=str, separators=(",", ":"))


def _document(texts: Mapping[Configuration, Sequence[str]], failures: Sequence[Any]) -> list[bytes]:
    """The pieces of the sidecar's text, a line per record."""
    from lithowatt.profiles._columns import PROFILE_COLUMNS

    units = {column.name: f"{column.unit}: {column.meaning}" for column in PROFILE_COLUMNS}
    configurations = ",\n".join(
        f"  {_json(key.key)}: [\n   " + ",\n   ".join(column) + "\n  ]"
        for key, column in texts.items()
    )
    failed = ",\n  ".join(_json(one) for one in failures[-MOST_FAILURES:])
    text = (
        f'{{\n "schema": {SCHEMA},\n "units": {json.dumps(units, indent=1)},\n'
        f' "configurations": {{\n{configurations}\n }},\n "failures": [\n  {failed}\n ]\n}}\n'
    )
    return [text.encode()]


def _arranged(
    configurations: Mapping[str, list[Any]],
    data: Mapping[Any, Metrics],
    records: Sequence[NewRecord],
) -> dict[Configuration, list[Any]]:
    """Each record at the place of its repetition, `None` where there is none.

    A record belongs to a repetition by its times, not by its place: others, who know nothing of
    the sidecar, may have added or removed some in between.
    """
    pool: dict[tuple[Configuration, str], list[Any]] = {}
    for key, column in configurations.items():
        for one in column:
            if isinstance(one, dict) and isinstance(one.get("repetition"), str):
                pool.setdefault((Configuration.parse(key), one["repetition"]), []).append(one)
    for new in records:
        digest = _digest(new.print)
        pool.setdefault((new.configuration, digest), []).append(
            {**new.record, "repetition": digest}
        )
    arranged: dict[Configuration, list[Any]] = {}
    for key, metrics in data.items():
        configuration = Configuration.of(key)
        column = []
        # From the end: of repetitions that nothing distinguishes the latest has the record.
        for print_ in reversed(prints(metrics)):
            found = pool.get((configuration, _digest(print_)))
            column.append(found.pop() if found else None)
        if any(one is not None for one in column):
            arranged[configuration] = column[::-1]
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
