"""The tidy table as a file: CSV, JSON lines, Arrow, Parquet, or a folder of Parquet by workload,
stage and architecture. Rows are written as they are made."""

from __future__ import annotations

import abc
import contextlib
import itertools
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol
from urllib.parse import quote

from lithowatt._support.files import writing
from lithowatt._support.install import arrow
from lithowatt.errors import UnwritableFileError
from lithowatt.profiles._outputs import keep_inputs
from lithowatt.profiles._runs import ProfileFile
from lithowatt.profiles._tidy import (
    Cells,
    Layout,
    TidyColumn,
    arrow_batch,
    arrow_schema,
    number_texts,
)

#: Ending to format. What ends with a slash, or is a folder, is a dataset.
FORMATS = {".csv": "csv", ".jsonl": "jsonl", ".arrow": "arrow", ".parquet": "parquet"}
DATASET = "dataset"

#: The columns that a dataset has as folders.
PARTITIONS = ("workload", "stage", "architecture")

#: What readers of such datasets take for a missing value.
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"

#: Rows that are written together: what columnar formats are read by.
_ROW_GROUP = 65_536

Rows = Iterable[tuple[ProfileFile, Mapping[str, Cells]]]


def format_of(path: str) -> str:
    """The format that a path's ending says.

    Raises:
        UnwritableFileError: None of ours.
    """
    if path.endswith("/") or Path(path).is_dir():
        return DATASET
    found = FORMATS.get(Path(path).suffix.lower())
    if found is None:
        raise UnwritableFileError(
            f"{path}: its ending says no format; expected {', '.join(FORMATS)}, or a folder as DIR/"
        )
    return found


def export(rows: Rows, layout: Layout, path: str) -> int:
    """Writes the table to a file, whole or not at all; the number of its rows.

    Raises:
        UnwritableFileError: The path's ending is no format, it is one of the files that the table
            is made of or a sidecar of one, or a folder there has files.
        ImportError: The format needs pyarrow, which is missing.
        OSError: It cannot be written.
    """
    form = format_of(path)
    keep_inputs([path], layout.inputs)
    if form == DATASET:
        return _dataset(rows, layout, Path(path))
    with writing(path) as file:
        writer = _WRITERS[form](file, layout.columns)
        count = 0
        for _, cells in rows:
            writer.write(cells)
            count += len(cells["file"])
        writer.close()
    return count


class _Writer(Protocol):
    def __init__(self, file: IO[bytes], columns: Sequence[TidyColumn]) -> None: ...

    def write(self, cells: Mapping[str, Cells]) -> None: ...

    def close(self) -> None: ...


# --- text ------------------------------------------------------------------------------------


class _Lines(abc.ABC):
    """A line a row: of each column the texts of its cells, put into a template."""

    missing: str

    def __init__(self, file: IO[bytes], columns: Sequence[TidyColumn]) -> None:
        self.file = file
        self.columns = columns

    @abc.abstractmethod
    def label(self, text: str) -> str:
        """A text as the format writes it."""

    def _texts(self, column: TidyColumn, cells: Cells) -> Iterable[str]:
        if cells.numbers is None:
            codes = [] if cells.codes is None else cells.codes.tolist()
            labels = [*map(self.label, cells.labels), self.missing]
            if len(labels) <= 2 and len(set(codes)) == 1:
                return itertools.repeat(labels[codes[0]], len(codes))
            return [labels[code] for code in codes]
        values, whole = cells.numbers, column.kind == "whole"
        if len(values) and (values == values[0]).all():
            return itertools.repeat(number_texts(values[:1], whole)[0], len(values))
        return number_texts(values, whole, self.missing)

    def write(self, cells: Mapping[str, Cells]) -> None:
        texts = [self._texts(column, cells[column.name]) for column in self.columns]
        self._put(self.line % row for row in zip(*texts, strict=True))

    line: str

    def _put(self, lines: Iterator[str]) -> None:
        while some := "".join(itertools.islice(lines, _ROW_GROUP)):
            # A file's name may have bytes that are no text.
            self.file.write(some.encode("utf-8", "backslashreplace"))

    def close(self) -> None:
        """Nothing ends the text."""
        return


class _Csv(_Lines):
    missing = ""

    def __init__(self, file: IO[bytes], columns: Sequence[TidyColumn]) -> None:
        super().__init__(file, columns)
        self.line = ",".join(["%s"] * len(columns)) + "\n"
        self._put(iter([self.line % tuple(self.label(column.name) for column in columns)]))

    def label(self, text: str) -> str:
        # An empty text is told from a missing one by its quotes.
        if text and not any(c in text for c in ',"\r\n') and text == text.strip():
            return text
        return '"' + text.replace('"', '""') + '"'


class _JsonLines(_Lines):
    missing = "null"

    def __init__(self, file: IO[bytes], columns: Sequence[TidyColumn]) -> None:
        super().__init__(file, columns)
        names = (self.label(column.name).replace("%", "%%") for column in columns)
        self.line = "{" + ", ".join(f"{name}: %s" for name in names) + "}\n"

    def label(self, text: str) -> str:
        return json.dumps(text, ensure_ascii=False)


# --- Arrow -----------------------------------------------------------------------------------


class _Batches(abc.ABC):
    """Gathers rows until there are enough for a row group."""

    def __init__(self, file: IO[bytes], columns: Sequence[TidyColumn]) -> None:
        self.schema = arrow_schema(columns)
        self._held: list[Any] = []
        self._rows = 0
        self._out = self._open(file)

    @abc.abstractmethod
    def _open(self, file: IO[bytes]) -> Any:
        """What writes tables into the file."""

    def write(self, cells: Mapping[str, Cells]) -> None:
        batch = arrow_batch(self.schema, cells)
        self._held.append(batch)
        self._rows += batch.num_rows
        if self._rows >= _ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        table = arrow().Table.from_batches(self._held, schema=self.schema)
        self._out.write_table(table, _ROW_GROUP)
        self._held, self._rows = [], 0

    def close(self) -> None:
        if self._held:
            self._flush()
        self._out.close()


class _Parquet(_Batches):
    def _open(self, file: IO[bytes]) -> Any:
        arrow()
        from pyarrow.parquet import ParquetWriter

        return ParquetWriter(file, self.schema, compression="zstd")


class _Arrow(_Batches):
    def _open(self, file: IO[bytes]) -> Any:
        return arrow().ipc.new_file(file, self.schema)


_WRITERS: dict[str, type[_Writer]] = {
    "csv": _Csv,
    "jsonl": _JsonLines,
    "parquet": _Parquet,
    "arrow": _Arrow,
}


def _dataset(rows: Rows, layout: Layout, folder: Path) -> int:
    """A folder with one Parquet file for each profile, below `workload=…/stage=…/architecture=…`.

    It is made under another name first.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise UnwritableFileError(f"{folder} is not empty; expected a new or an empty folder")
    columns = [column for column in layout.columns if column.name not in PARTITIONS]
    made = folder.parent / f".lithowatt-{secrets.token_hex(8)}.tmp"
    count = 0
    try:
        made.mkdir(parents=True)
        groups = itertools.groupby(rows, key=lambda one: (id(one[0]), _partition(one[1])))
        for number, ((_, partition), group) in enumerate(groups):
            part = made / partition / f"part-{number:05}.parquet"
            part.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                writer = _Parquet(file, columns)
                for _, cells in group:
                    writer.write(cells)
                    count += len(cells["file"])
                writer.close()
        # Of an empty folder the name is taken over.
        made.rename(folder)
    except BaseException:
        with contextlib.suppress(OSError):
            shutil.rmtree(made)
        raise
    return count


def _partition(cells: Mapping[str, Cells]) -> str:
    def value(name: str) -> str:
        labels = cells[name].labels
        return f"{name}={quote(labels[0], safe=' ') if labels else _NO_VALUE}"

    return os.path.join(*map(value, PARTITIONS))  # noqa: PTH118
