"""Calls as Parquet and Arrow: types and units by key, whatever the rows hold."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from lithowatt import EnergyMeter, _core
from lithowatt.errors import MalformedValueError
from lithowatt.export import write
from lithowatt.export.parquet import table

pa = pytest.importorskip("pyarrow")


def metered() -> EnergyMeter:
    with EnergyMeter(label="f") as meter, meter.phase("load"):
        sum(range(100_000))
    return meter


@pytest.mark.parametrize("ending", [".parquet", ".arrow"])
def test_a_file_has_what_the_readings_have(tmp_path: Path, ending: str) -> None:
    import pyarrow.parquet as parquet

    path = tmp_path / f"calls{ending}"
    meters = [metered(), metered()]
    assert write([meters[0], meters[1].stats()], path) == 2
    if ending == ".arrow":
        with pa.memory_map(str(path)) as file:
            read = pa.ipc.open_file(file).read_all()
    else:
        read = parquet.read_table(path)
    assert read["energy_consumption"].to_pylist() == [meter.joules for meter in meters]
    assert read["label"].to_pylist() == ["f", None]
    first = meters[0].reading.flat()
    for key, value in first.items():
        found = read[key][0].as_py()
        if isinstance(value, dict):
            assert isinstance(found, str)
        elif key == "energy_warnings":
            assert found == ([value] if isinstance(value, str) and value else value or [])
        else:
            assert found == value, key
    assert read.schema.metadata[b"lithowatt_version"].decode() == _core.__version__


def test_each_column_has_the_unit_and_the_type_of_its_key() -> None:
    types = {
        "float": pa.float64(),
        "int": pa.int64(),
        "bool": pa.bool_(),
        "str": pa.string(),
        "dict": pa.string(),
        "list[str]": pa.list_(pa.string()),
    }
    schema = table([metered()]).schema
    for name, unit, kind, meaning, *_ in _core.stats_keys():
        if "<" in name:
            name = name.replace("<name>", "load")
        field = schema.field(name)
        assert field.type == types[kind], name
        told = {key.decode(): value.decode() for key, value in field.metadata.items()}
        assert told == {"meaning": meaning, **({} if unit is None else {"unit": unit})}


def test_files_of_different_machines_are_read_together(tmp_path: Path) -> None:
    import pyarrow.parquet as parquet

    for name, row in (("a", {"rapl_energy_package": 1.5}), ("b", {"energy_schema": 1})):
        write(row, tmp_path / f"{name}.parquet")
    read = parquet.read_table(tmp_path)
    assert sorted(read["rapl_energy_package"].to_pylist(), key=str) == [1.5, None]
    assert write([], tmp_path / "none.parquet") == 0
    assert parquet.read_table(tmp_path).num_rows == 2


def test_what_others_write_beside_it_keeps_its_type() -> None:
    rows: list[dict[str, Any]] = [
        {"n": 1, "x": 1, "t": "a", "flag": True, "mixed": 1, "big": 2**70},
        {"n": 2, "x": 0.5, "t": None, "flag": None, "mixed": "a", "big": 1},
    ]
    made = table(rows)
    kinds = {name: made.schema.field(name).type for name in rows[0]}
    assert kinds == {
        "n": pa.int64(),
        "x": pa.float64(),
        "t": pa.string(),
        "flag": pa.bool_(),
        "mixed": pa.string(),
        "big": pa.float64(),
    }
    assert made["mixed"].to_pylist() == ["1", '"a"']
    stamped = table({"worker_end_tstamp": 1_700_000_000.0})["time_ns"][0].as_py()
    assert stamped == datetime.fromtimestamp(1_700_000_000, timezone.utc)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("energy_consumption", "2 J"),
        ("energy_schema", 1.5),
        ("energy_schema", float("inf")),
        ("energy_schema", 2**80),
        ("rapl_available", 1),
        ("energy_method", 3),
    ],
)
def test_a_value_of_another_type_is_named_and_nothing_is_written(
    tmp_path: Path, key: str, value: Any
) -> None:
    with pytest.raises(MalformedValueError, match=f"{key}: .* which this key holds"):
        write({key: value}, tmp_path / "x.parquet")
    assert list(tmp_path.iterdir()) == []


def test_not_a_number_is_no_value() -> None:
    made = table([{"energy_consumption": float("nan")}, {"energy_consumption": 2}])
    assert made["energy_consumption"].to_pylist() == [None, 2.0]
