"""Profiles that a program holds in memory, as the analysis sees those that it reads."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from lithowatt.profiles._file import Configuration, Metrics
from lithowatt.profiles._find import Label
from lithowatt.profiles._runs import Column, ConfigurationRuns, ProfileFile
from lithowatt.profiles._stream import aligned


class _Raw(NamedTuple):
    """One column, as the core's reader gives it."""

    lengths: bytes
    numbers: bytes | None
    codes: bytes | None
    labels: tuple[str, ...]
    whole: bool


def profile_in_memory(data: Mapping[Any, Metrics], name: str, source: int = 0) -> ProfileFile:
    """What `read_profile` returned, or a program made.

    A column may hold anything: what is neither a finite number nor a text counts as missing, and
    so does a text among numbers.

    Args:
        data: Configuration to metric to repetitions to one value per worker.
        name: What results call it.
        source: Which of several it is, from 0.

    Raises:
        MalformedValueError: A key is no configuration.
    """
    runs = tuple(_runs(Configuration.of(key), metrics) for key, metrics in data.items())
    content = json.dumps([[one.key, _contents(one)] for one in runs])
    sha256 = hashlib.sha256(content.encode()).hexdigest()
    return ProfileFile("", name, source, sha256, Label("", ""), runs)


def _contents(runs: ConfigurationRuns) -> list[Any]:
    """What tells two profiles in memory apart."""
    found: list[Any] = []
    for column in runs.columns.values():
        for part in (column.lengths, column.numbers, column.codes):
            digest = None if part is None else hashlib.sha256(part.tobytes()).hexdigest()
            found.append(digest)
        found.append([column.name, list(column.labels)])
    return found


def _runs(configuration: Configuration, metrics: Metrics) -> ConfigurationRuns:
    lengths = {
        name: np.array([len(one) for one in column], dtype=np.int64)
        for name, column in metrics.items()
    }
    widths = np.zeros(max(map(len, lengths.values()), default=0), dtype=np.int64)
    for one in lengths.values():
        np.maximum(widths[: len(one)], one, out=widths[: len(one)])
    columns = {name: _column(name, column, widths) for name, column in metrics.items()}
    return ConfigurationRuns(configuration.key, configuration, widths, columns)


def _column(name: str, column: Sequence[Sequence[Any]], widths: Any) -> Column:
    values = list(chain.from_iterable(column))
    numbers = np.array([_number(value) for value in values], dtype=np.float64)
    texts = [value for value in values if isinstance(value, str)]
    labels = tuple(dict.fromkeys(texts))
    coded = len(labels) > 0 and not np.isfinite(numbers).any()
    at = {label: index for index, label in enumerate(labels)}
    codes = [at[value] if isinstance(value, str) else -1 for value in values] if coded else []
    lengths = np.array([len(one) for one in column], dtype=np.int64)
    raw = _Raw(
        b"",
        None if coded else numbers.tobytes(),
        np.array(codes, dtype=np.int32).tobytes() if coded else None,
        labels if coded else (),
        bool(values) and all(isinstance(value, int) for value in values if value is not None),
    )
    return aligned(name, raw, lengths, widths)  # type: ignore[arg-type]


def _number(value: Any) -> float:
    """A finite number; NaN for anything else."""
    value = getattr(value, "item", lambda: value)()  # a number of NumPy's
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return math.nan
    try:
        number = float(value)
    except OverflowError:  # 10^400, which JSON can hold and a float cannot
        return math.nan
    return number if math.isfinite(number) else math.nan
