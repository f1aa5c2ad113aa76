"""Rules about where it ran: processors, platforms, what names and records say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from lithowatt._support.architectures import ARCHITECTURES
from lithowatt._support.text import counted
from lithowatt.analysis.lint._rule import Hit, numbered, with_rows
from lithowatt.analysis.lint._survey import Place, Survey
from lithowatt.profiles._runs import Bools, ProfileFile
from lithowatt.profiles._sidecar import INPUT_SIZES

#: Where a profile or its sidecar may say what has to be known to run it again.
METADATA = {
    "time stamp": ("time", "timestamp", "start", "started", "start_time", "created", "date"),
    "region": ("region", "aws_region"),
    "input size": INPUT_SIZES,
    "versions": ("lithowatt", "lithops", "python", "version", "versions"),
}


def foreign(survey: Survey, place: Place) -> Hit | None:
    """Workers on another platform than nearly all of the file."""
    rows = survey.foreign(place)
    if not rows.any():
        return None
    found, many = with_rows(place, rows), int(rows.sum())
    return Hit.at(
        place,
        f"{counted(many, 'worker')} ran on another platform than the file's others, "
        f"in {numbered(found)}",
        found,
        many,
        {"tags": _counts(place, "aws_cpu", rows), "processors": _counts(place, "cpu_name", rows)},
    )


def _counts(place: Place, name: str, rows: Bools) -> dict[str, int]:
    column = place.runs.columns.get(name)
    if column is None or column.codes is None:
        return {}
    codes = column.codes[rows]
    counts = np.bincount(codes[codes >= 0], minlength=len(column.labels)).tolist()
    return {
        label: count for label, count in sorted(zip(column.labels, counts, strict=True)) if count
    }


def mixed(survey: Survey, place: Place) -> Hit | None:
    """Configurations on more than one processor."""
    processors = _counts(place, "cpu_name", ~survey.foreign(place))
    if len(processors) < 2:
        return None
    told = ", ".join(f"{name}: {count:,}" for name, count in processors.items())
    return Hit.at(place, f"workers on {len(processors)} processors: {told}", evidence=processors)


def label_mismatch(survey: Survey, file_at: int, file: ProfileFile) -> Iterator[Hit]:
    """Folders whose name says something else than keys and rows."""
    told: list[str] = []
    evidence: dict[str, Any] = {}
    places = survey.of_file(file_at)
    memory = file.label.memory_mb
    if memory is not None:
        others = sorted({p.runs.configuration.memory_mb for p in places} - {memory})
        if others:
            named = ", ".join(f"{one:g}" for one in others)
            told.append(f"{memory} MB, and its keys {named} MB")
            evidence["memory_mb"] = {"folder": memory, "keys": others}
    architecture = file.label.architecture
    if architecture is not None:
        said = {_architecture(survey, place) for place in places} - {None, architecture}
        if said:
            named = ", ".join(sorted(map(str, said)))
            told.append(f"{architecture}, and its rows {named}")
            evidence["architecture"] = {"folder": architecture, "rows": sorted(map(str, said))}
    if told:
        yield Hit.of(file, f"the folder's name says {'; it says '.join(told)}", evidence)


def _architecture(survey: Survey, place: Place) -> str | None:
    """Of most rows that are not foreign."""
    found = _counts(place, "cpu_architecture", ~survey.foreign(place))
    if not found:
        return None
    return ARCHITECTURES.get(max(found, key=found.__getitem__).strip().lower())


def missing_metadata(survey: Survey, file_at: int, file: ProfileFile) -> Iterator[Hit]:
    """Files that do not say when, where, on how much input and with what they ran."""
    places = survey.of_file(file_at)
    missing = [
        what for what, names in METADATA.items() if not all(_has(place, names) for place in places)
    ]
    if missing:
        side = "and has no sidecar" if file.sidecar is None else "and its sidecar neither"
        yield Hit.of(file, f"it says no {', '.join(missing)}, {side}", {"missing": missing})


def _has(place: Place, names: tuple[str, ...]) -> bool:
    """Whether a column, or the record of each repetition, says one of these."""
    if any(name in place.runs.columns for name in names):
        return True
    records = place.runs.records
    return len(records) >= place.runs.repetitions > 0 and all(
        _says(record, names) for record in records
    )


def _says(record: Mapping[str, Any] | None, names: tuple[str, ...]) -> bool:
    return isinstance(record, Mapping) and any(record.get(name) not in (None, "") for name in names)
