"""The text of a profile that grows by a repetition at a time.

FlexExecutor writes the whole profile after each repetition. Nearly all of it was
written before: the text of the repetitions that are known is kept, and only the new
ones are made into text.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from lithowatt._support.files import write_pieces
from lithowatt.profiles._file import Configuration, Metrics, json_number


class _Column(NamedTuple):
    values: list[list[Any]]
    repetitions: int
    text: str

    def holds(self, values: list[list[Any]]) -> bool:
        return self.values is values and self.repetitions == len(values)


class _Configuration(NamedTuple):
    columns: dict[str, _Column]
    text: bytes

    def holds(self, metrics: Metrics) -> bool:
        return list(self.columns) == list(metrics) and all(
            column.holds(metrics[name]) for name, column in self.columns.items()
        )


class ProfileText:
    """Makes the text of a profile, again and again, while repetitions are appended to it.

    A column that is the same list as before and at least as long is taken to have kept its
    earlier repetitions: nobody changes what was measured.
    """

    def __init__(self) -> None:
        self._known: dict[Configuration, _Configuration] = {}

    def of(self, data: Mapping[Any, Metrics]) -> list[bytes]:
        """The pieces of a profile as JSON, a line per metric.

        Raises:
            MalformedValueError: For a key that is no configuration.
            TypeError: For a value that JSON cannot carry.
        """
        known: dict[Configuration, _Configuration] = {}
        for key, metrics in data.items():
            configuration = Configuration.of(key)
            before = self._known.get(configuration)
            if before is None or not before.holds(metrics):
                before = _text_of(configuration, metrics, {} if before is None else before.columns)
            known[configuration] = before
        self._known = known
        pieces = [b"{\n"]
        for one in known.values():
            pieces += [one.text, b",\n"]
        pieces[-1] = b"\n}\n" if known else b"{\n\n}\n"
        return pieces


def _text_of(
    configuration: Configuration, metrics: Metrics, before: Mapping[str, _Column]
) -> _Configuration:
    # json's own indentation gives each value a line, and takes ten times as long.
    columns = {name: _column(before.get(name), values) for name, values in metrics.items()}
    body = ",\n".join(
        f"        {json.dumps(name)}: [{column.text}]" for name, column in columns.items()
    )
    text = f"    {json.dumps(configuration.key)}: {{\n{body}\n    }}"
    return _Configuration(columns, text.encode())


def _column(before: _Column | None, values: list[list[Any]]) -> _Column:
    if before is None or before.values is not values or before.repetitions > len(values):
        before = _Column(values, 0, "")
    new = values[before.repetitions :]
    if not new:
        return before
    text = json.dumps(new, default=json_number, separators=(",", ":"))[1:-1]
    joined = f"{before.text},{text}" if before.text else text
    return _Column(values, len(values), joined)


def write_profile(path: str | os.PathLike[str], data: Mapping[Any, Metrics]) -> None:
    """Writes a profile, whole or not at all.

    Raises:
        OSError: It cannot be written; what was there before still is.
        MalformedValueError: For a key that is no configuration.
        TypeError: For a value that JSON cannot carry.
    """
    write_pieces(path, ProfileText().of(data))
