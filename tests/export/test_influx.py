"""Line protocol, read by a parser that is none of ours, and compared with InfluxDB's client."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lithowatt import EnergyMeter
from lithowatt.errors import MalformedValueError
from lithowatt.export import influx
from rig import StaticTree
from tests.support.agent_tools import AgentProcess, shared_folder
from tests.support.time_series_servers import InfluxDB

parse_line = pytest.importorskip("line_protocol_parser").parse_line

# The parser takes the largest of 64 bits for what is beyond them.
LARGEST = 2**63 - 1
TIMES = st.integers(0, LARGEST - 1)
FINITE = st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False)
TEXTS = st.text(max_size=20)
PRINTABLE = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters="\\"),
    min_size=1,
    max_size=12,
).filter(lambda text: text[0] not in "#_")
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70).filter(lambda n: abs(n) != LARGEST),
    # The parser takes none of the subnormals.
    st.floats(allow_subnormal=False),
    TEXTS,
    st.lists(TEXTS, max_size=3),
)


def as_read(value: Any) -> Any:
    """What a reader gets of a value; ``None`` for no field."""
    if isinstance(value, (list, tuple)):
        value = " | ".join(value)
    if isinstance(value, str):
        return "".join(c if c.isprintable() else " " for c in value)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value if abs(value) <= LARGEST else None
    return value if abs(value) < float("inf") else None


@given(TEXTS, st.dictionaries(PRINTABLE, VALUES, max_size=5), TIMES)
def test_what_a_parser_reads_is_what_was_there(
    label: str, values: dict[str, Any], time_ns: int
) -> None:
    values = {key: value for key, value in values.items() if key not in influx.TAGS}
    row = {"label": label, "energy_consumption": 2.5, **values}
    text = influx.text(row, time_ns=time_ns)
    assert text.count("\n") == 1 and text.endswith("\n")
    read = parse_line(text.rstrip("\n"))
    assert read["measurement"] == "lithowatt_call"
    assert read["time"] == time_ns
    plain = "".join(c if c.isprintable() else " " for c in label).replace("\\", "/").strip()
    assert read["tags"] == ({"function": plain} if plain else {})
    wanted = {key: as_read(value) for key, value in row.items() if key != "label"}
    wanted = {key: value for key, value in wanted.items() if value is not None}
    assert read["fields"] == wanted
    assert {key: type(value) for key, value in read["fields"].items()} == {
        key: type(value) for key, value in wanted.items()
    }


@given(PRINTABLE, PRINTABLE, PRINTABLE, FINITE, TIMES)
def test_influxdbs_client_writes_the_same(
    measurement: str, tag: str, label: str, value: float, time_ns: int
) -> None:
    client = pytest.importorskip("influxdb_client")
    tags = {} if tag == "function" else {tag: "x, y=z"}
    point = client.Point(measurement).time(time_ns).tag("function", label)
    for name, text in tags.items():
        point = point.tag(name, text)
    point = point.field("my field", value).field("n", 7).field("s", 'a "b" \\')
    row = {"label": label, "my field": value, "n": 7, "s": 'a "b" \\'}
    ours = influx.text(row, measurement=measurement, tags=tags, time_ns=time_ns)
    assert parse_line(ours.strip("\n")) == parse_line(point.to_line_protocol())


def test_bytes_that_are_no_text_are_escaped() -> None:
    row = {"label": "a\udcff", "note": "b\udcff", "time_ns": "1\nevil v=1"}
    line = influx.text(row, time_ns=5)
    assert line.encode("utf-8") == b'lithowatt_call,function=a/udcff note="b\\\\udcff" 5\n'


def test_numbers_of_a_key_have_one_type() -> None:
    # JSON of others has 2 where it means 2.0, and the server refuses a second type of a field.
    text = influx.text({"energy_consumption": 2, "energy_schema": 1, "energy_low": 1.5}, time_ns=5)
    assert text == "lithowatt_call energy_consumption=2.0,energy_schema=1i,energy_low=1.5 5\n"


def test_calls_without_a_time_do_not_take_each_others_place() -> None:
    before = time.time_ns()
    rows = [{"energy_consumption": float(i)} for i in range(3)]
    times = [parse_line(line)["time"] for line in influx.text(rows).splitlines()]
    assert times == [times[0], times[0] + 1, times[0] + 2]
    assert before <= times[0] <= time.time_ns()
    stamped = [{**row, "worker_end_tstamp": 1_700_000_000.5} for row in rows]
    assert {parse_line(line)["time"] for line in influx.text(stamped).splitlines()} == {
        1_700_000_000_500_000_000
    }


def test_a_call_of_which_nothing_is_known_has_no_line() -> None:
    assert influx.text([{"energy_consumption": None}, {"label": "f"}, {}]) == ""


@pytest.mark.parametrize("name", ["", "#x", "_x", " \n", None, 3])
def test_names_that_cannot_be_are_refused(name: Any) -> None:
    with pytest.raises(ValueError, match="cannot be one; expected"):
        influx.text({"a": 1}, measurement=name)
    if name is not None:
        with pytest.raises(ValueError, match="the name of a tag"):
            influx.text({"a": 1}, tags={name: "x"})


@pytest.mark.parametrize("time_ns", [1.5, True, "now"])
def test_a_time_that_is_none_is_refused(time_ns: Any) -> None:
    with pytest.raises(TypeError, match="time_ns must be a whole number"):
        influx.text({"a": 1}, time_ns=time_ns)


@pytest.mark.slow
def test_a_real_influxdb_keeps_what_was_there(tmp_path: Path) -> None:
    with EnergyMeter(label='a, b="c"\\ =') as meter, meter.phase("load, all"):
        sum(range(100_000))
    rows: list[dict[str, Any]] = [
        {"label": name, "energy_consumption": float(at), "odd, key=": at, "said": f'"{name}\\'}
        for at, name in enumerate(("x", "ünï", "a\\", "a\\,b", "two  blanks", "\U0001f50b", "a=b"))
    ]
    with InfluxDB(tmp_path).running() as database:
        database.write(influx.text(meter))
        (found,) = database.rows("lithowatt_call")
        assert (found["function"], found["energy_consumption"]) == ('a, b="c"/ =', meter.joules)
        flat = meter.reading.flat()
        assert found["energy_phase_load__all"] == flat["energy_phase_load__all"]
        for key, value in flat.items():
            if isinstance(value, (bool, int, float)):
                assert found[key] == value, key
        # A field keeps its first type: an integer where a fraction was is refused by the server.
        database.write(influx.text({"energy_consumption": 2}))
        with pytest.raises(AssertionError, match="field type conflict"):
            database.write(f"lithowatt_call energy_consumption=2i {time.time_ns()}\n")
        # None takes the place of another.
        database.write(influx.text(rows, measurement="odd, name"))
        found_rows = database.rows("odd, name")
        assert len(found_rows) == len(rows)
        for row, one in zip(
            rows, sorted(found_rows, key=lambda one: one["odd, key="]), strict=True
        ):
            assert one["function"] == row["label"].replace("\\", "/")
            assert (one["said"], one["odd, key="]) == (row["said"], row["odd, key="])


@pytest.mark.quiet
def test_the_agents_ring_is_lines() -> None:
    folder = shared_folder()
    tree = StaticTree(folder / "root", domains=("package", "dram"))
    ring = folder / "l" / "ring"
    with AgentProcess(tree.root, ring, "--round", "0.1", "--node", "n 1"):
        tree.add("package-0", 3_000_000)
        command = [sys.executable, "-m", "lithowatt", "agent", "--show", "--json"]
        deadline = time.monotonic() + 20
        while True:
            told = subprocess.check_output([*command, "--ring", str(ring)], text=True)
            state = json.loads(told)
            account = state["account"]
            if account and account["machine_uj"] >= 3_000_000:
                break
            assert time.monotonic() < deadline
    lines = [parse_line(line) for line in influx.ring_text(state, time_ns=9).splitlines()]
    machine = [line for line in lines if line["measurement"] == "lithowatt_machine"]
    assert {line["tags"]["zone"]: line["fields"]["joules"] for line in machine} == {
        "package-0": 4.0,
        "package-0/dram": 1.0,
    }
    (node,) = [line for line in lines if line["measurement"] == "lithowatt_node"]
    assert node["tags"] == {"node": "n 1"} and node["time"] == 9
    parts = {key: value for key, value in node["fields"].items() if key.endswith("joules")}
    assert parts["machine_joules"] == pytest.approx(3.0)
    groups = [line for line in lines if line["measurement"] == "lithowatt_group"]
    top = sum(line["fields"]["joules"] for line in groups if line["fields"]["counted"])
    divided = parts["idle_joules"] + parts["rest_joules"] + parts["gone_joules"] + top
    assert divided == pytest.approx(parts["machine_joules"], abs=1e-9)


@pytest.mark.parametrize("state", [{}, {"header": 1, "now": {}}, {"header": {}, "now": None}])
def test_no_state_of_a_ring_is_refused(state: Any) -> None:
    with pytest.raises(MalformedValueError, match="agent --show --json"):
        influx.ring_text(state)
