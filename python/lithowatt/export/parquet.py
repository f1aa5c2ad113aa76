"""Calls as a Parquet or an Arrow file: a row a call, with units and meanings in the schema.

Profiles, a row a worker, are another table: `lithowatt profile export`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lithowatt import _core
from lithowatt._support.arguments import shown
from lithowatt._support.files import writing
from lithowatt._support.install import arrow
from lithowatt._support.text import encodable
from lithowatt.errors import MalformedValueError
from lithowatt.estimate import number
from lithowatt.export._rows import TIME, Row, keys, known, rows_of

if TYPE_CHECKING:
    import pyarrow as pa

    from lithowatt.export import Source

__all__ = ["table", "write"]


def table(source: Source) -> pa.Table:
    """Calls as a table of Arrow: a row a call, a column a plain key.

    Every key of a reading is a column of its type, even where it is null in all rows, so that
    files of different machines are read together: `double`, `int64`, `string`, `bool`,
    ``list<string>``; a dict is JSON in a `string`. ``time_ns`` is a timestamp in UTC. Keys that a
    reading has not, as Lithops' own, come last. Each field's metadata has ``unit`` (where there is
    one) and ``meaning``; that of the schema ``lithowatt_version``.

    Args:
        source: As for `lithowatt.export.write`.

    Raises:
        TypeError: The source is none of these.
        MalformedValueError: A value is of another type than its key, naming both.
        ImportError: pyarrow is missing, with the command that installs it.
        OSError: A file cannot be read.
    """
    made = arrow()
    rows = list(rows_of(source))
    ours = [name for name in keys() if "<" not in name]
    columns = dict.fromkeys([TIME, *ours])
    for row in rows:
        columns.update(dict.fromkeys(row))
    fields, arrays = [], []
    for name in columns:
        kind = _kind(name, rows)
        values = [_value(row.get(name), kind, name) for row in rows]
        field = made.field(name, _type(made, kind), metadata=_metadata(name))
        fields.append(field)
        arrays.append(made.array(values, type=field.type))
    about = {"lithowatt_version": _core.__version__}
    return made.Table.from_arrays(arrays, schema=made.schema(fields, metadata=about))


def write(source: Source, path: str | os.PathLike[str]) -> int:
    """Writes `table` to a file, whole or not at all: Arrow's IPC file where the path ends in
    ``.arrow``, else Parquet; the number of rows.

    Raises:
        TypeError: The source is none of those that `lithowatt.export.write` takes.
        MalformedValueError: A value is of another type than its key, naming both.
        ImportError: pyarrow is missing, with the command that installs it.
        OSError: A file cannot be read or written.
    """
    made = table(source)
    with writing(path) as file:
        if Path(path).suffix.lower() == ".arrow":
            with arrow().ipc.new_file(file, made.schema) as out:
                out.write_table(made)
        else:
            from pyarrow.parquet import write_table

            write_table(made, file, compression="zstd")
    return int(made.num_rows)


def _metadata(name: str) -> dict[str, str]:
    if name == TIME:
        return {"meaning": "the call's end"}
    found = known(name)
    if found is None:
        return {}
    unit = {} if found.unit is None else {"unit": found.unit}
    return {**unit, "meaning": found.meaning}


def _kind(name: str, rows: list[Row]) -> str:
    """The type of a column, by its key, else by what it holds."""
    if name == TIME:
        return "time"
    found = known(name)
    if found is not None:
        return found.type
    types = {type(row[name]) for row in rows if row.get(name) is not None}
    if types and types <= {bool}:
        return "bool"
    if types and types <= {int}:
        fits = all(abs(row.get(name) or 0) < 2**63 for row in rows)
        return "int" if fits else "float"
    return "float" if types and types <= {int, float} else "str" if types <= {str} else "dict"


def _type(made: Any, kind: str) -> Any:
    return {
        "float": made.float64(),
        "int": made.int64(),
        "bool": made.bool_(),
        "list[str]": made.list_(made.string()),
        "time": made.timestamp("ns", "UTC"),
    }.get(kind, made.string())


def _value(value: Any, kind: str, name: str) -> Any:
    if value is None:
        return None
    if kind == "float":
        found = number(value)
        # NaN and infinities of a foreign file are no values.
        if found is not None or isinstance(value, float):
            return found
    elif kind in ("int", "time"):
        found = number(value)
        if found is not None and found.is_integer() and abs(found) < 2**63:
            return int(value)
    elif kind == "bool":
        if isinstance(value, bool):
            return value
    elif kind == "list[str]":
        if isinstance(value, str):
            return [value] if value else []
        if isinstance(value, (list, tuple)):
            return [encodable(str(part)) for part in value]
    elif kind == "str":
        if isinstance(value, str):
            return encodable(value)
    else:
        return encodable(json.dumps(value, ensure_ascii=False, default=str))
    raise MalformedValueError(f"{name}: {shown(value)} is no {kind}, which this key holds")
