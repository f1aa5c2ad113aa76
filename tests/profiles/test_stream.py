"""Profiles read as a stream: the same values as json has, and what is wrong with its place."""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lithowatt import _core
from lithowatt.errors import MalformedValueError, UnreadableFileError
from lithowatt.profiles._file import parse_profile, read_profile
from lithowatt.profiles._runs import DESCRIBING, read_profiles
from lithowatt.profiles._stream import ProfileStream
from tests.support import TOP

number = st.none() | st.floats() | st.integers() | st.integers(10**18, 10**400)
text = st.none() | st.text(max_size=8)


def column_of(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[list[Any]]]:
    return st.lists(st.lists(values, max_size=4), max_size=4)


metrics = st.dictionaries(
    st.text(max_size=8) | st.sampled_from(["read", *DESCRIBING]),
    column_of(number) | column_of(text),
    max_size=4,
)
configurations = st.dictionaries(
    st.integers(1, 99).map(lambda workers: f"(1, 512, {workers})"), metrics, max_size=3
)
stages = st.dictionaries(
    st.text(max_size=8).filter(lambda name: not name.lstrip().startswith("(")),
    configurations.filter(len),
    max_size=3,
)


def plain(values: list[list[Any]]) -> list[Any]:
    """What a column holds: finite numbers and texts, else None."""

    def one(value: Any) -> Any:
        if value is None or isinstance(value, str):
            return value
        try:
            return float(value) if math.isfinite(float(value)) else None
        except OverflowError:
            return None

    return [one(value) for repetition in values for value in repetition]


def values_of(column: _core.ProfileColumn) -> list[Any]:
    if column.kind == "text":
        assert column.codes is not None and column.numbers is None
        codes = np.frombuffer(column.codes, np.int32).tolist()
        return [None if code < 0 else column.labels[code] for code in codes]
    assert column.numbers is not None and column.codes is None
    found = np.frombuffer(column.numbers).tolist()
    return [None if math.isnan(value) else value for value in found]


@pytest.mark.slow
@given(
    configurations | stages,
    st.sampled_from([None, 4]),
    st.booleans(),
    st.sampled_from(["", "\ufeff", "\n \t\r\n"]),
)
def test_whatever_json_writes_is_read_as_json_reads_it(
    tmp_path_factory: pytest.TempPathFactory,
    content: dict[str, Any],
    indent: int | None,
    ascii_only: bool,
    before: str,
) -> None:
    path = tmp_path_factory.mktemp("profiles") / "stage.json"
    data = (before + json.dumps(content, indent=indent, ensure_ascii=ascii_only)).encode()
    path.write_bytes(data)
    reader = _core.ProfileReader(path)
    found: dict[Any, Any] = {}
    for stage, key, columns in reader:
        assert (stage, key) not in found
        found[stage, key] = columns
    nested = not all(key.startswith("(") for key in content)
    wanted = {
        (stage if nested else None, key): metrics
        for stage, several in (content.items() if nested else [(None, content)])
        for key, metrics in several.items()
    }
    assert list(found) == list(wanted)
    for which, metrics in wanted.items():
        assert list(found[which]) == list(metrics)
        for name, column in metrics.items():
            got, expected = found[which][name], plain(column)
            assert values_of(got) == expected
            assert np.frombuffer(got.lengths, np.uint32).tolist() == [len(one) for one in column]
            assert got.count == len(expected)
            assert got.missing == expected.count(None)
            numbers = [value for value in expected if isinstance(value, float)]
            assert got.zeros == numbers.count(0.0)
            assert got.minimum == min(numbers, default=None)
            assert got.maximum == max(numbers, default=None)
            there = {value for value in expected if value is not None}
            assert got.constant == (len(there) == 1)
    assert reader.sha256 == hashlib.sha256(data).hexdigest()


@given(st.binary(max_size=60), st.integers(0, 200), st.integers(0, 20))
def test_damage_is_refused_or_read_and_never_more(
    tmp_path_factory: pytest.TempPathFactory, damage: bytes, at: int, length: int
) -> None:
    path = tmp_path_factory.mktemp("profiles") / "stage.json"
    good = json.dumps({"(1, 512, 2)": {"read": [[0.1, 2]], "cpu_name": [["a", None]]}}).encode()
    path.write_bytes(good[:at] + damage + good[at + length :])
    try:
        list(ProfileStream(path))
    except MalformedValueError as error:
        assert "\n" not in str(error) and str(error).startswith(str(path))


def written(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def test_configurations_that_are_spelt_differently_are_the_same(tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", {"(1, 512, 2)": {}, "(1.0, 512, 2)": {}})
    with pytest.raises(MalformedValueError, match=r"\(1.0, 512, 2\) twice"):
        list(ProfileStream(path))
    # Of two stages they are two.
    path = written(tmp_path / "b.json", {"a": {"(1, 512, 2)": {}}, "b": {"(1, 512, 2)": {}}})
    assert [stage for stage, _ in ProfileStream(path)] == ["a", "b"]


@pytest.mark.parametrize(
    ("metrics", "says"),
    [
        ({"read": [[True]]}, "read, repetition 0: worker 0 has true, expected a number, a text"),
        ({"read": [[1], [[2]]]}, "read, repetition 1: worker 0 has a list"),
        ({"read": [[1, "x"]]}, "worker 1 has a text, but the values before it in the column are"),
        ({"read": 3}, "read: 3 is no list of repetitions"),
        ([], "it is no object of metrics"),
    ],
)
def test_what_is_no_value_is_named_with_its_place(
    tmp_path: Path, metrics: object, says: str
) -> None:
    path = written(tmp_path / "stage.json", {"(1, 512, 2)": metrics})
    with pytest.raises(MalformedValueError) as caught:
        list(ProfileStream(path))
    assert str(caught.value).startswith(f"{path}, configuration (1, 512, 2)")
    assert says in str(caught.value) and "line 1, column" in str(caught.value)


def test_only_plain_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.json")
    for path in ("/dev/zero", tmp_path / "fifo.json", tmp_path, tmp_path / "none.json"):
        with pytest.raises(UnreadableFileError):
            ProfileStream(path)


def test_columns_that_are_not_kept_have_their_lengths(tmp_path: Path) -> None:
    content = {"(1, 512, 2)": {"read": [[1.0, 2.0]], "a": [[3, 0], [4]], "t": [["x"]]}}
    path = written(tmp_path / "pi" / "stage.json", content)
    ((_, runs),) = read_profiles([path], keep={"read"})
    assert runs.numbers("read")[:2].tolist() == [1.0, 2.0]
    assert runs.columns["a"].numbers is None and runs.columns["t"].codes is None
    assert runs.columns["a"].lengths.tolist() == [2, 1] == runs.widths.tolist()
    assert np.isnan(runs.numbers("a")).all() and runs.texts("t") == [None] * 3


def test_a_file_of_stages_is_a_profile_for_each(tmp_path: Path) -> None:
    hardware = {"cpu_cores_logical": [[4], [8]], "read": [[1.0, 2.0, 3.0], [4.0]]}
    path = written(
        tmp_path / "dag" / "all.json",
        {"train": {"(cpu 1, mem 1024, worker 3)": hardware}, "merge": {"(1, 512, 1)": {}}},
    )
    profiles = read_profiles([path])
    assert [(file.stage, file.workload) for file in profiles.files] == [
        ("train", "dag"),
        ("merge", "dag"),
    ]
    runs = profiles.files[0].configurations[0]
    assert (runs.key, runs.configuration.memory_mb) == ("(cpu 1, mem 1024, worker 3)", 1024)
    assert runs.numbers("cpu_cores_logical").tolist() == [4, 4, 4, 8]


def test_columns_that_are_shorter_are_filled_where_they_are(tmp_path: Path) -> None:
    content = {"(1, 512, 2)": {"a": [[1, 2], [3, 4]], "b": [[5], [6, 7]], "c": [["x", "y"]]}}
    ((_, runs),) = read_profiles([written(tmp_path / "pi" / "stage.json", content)])
    np.testing.assert_array_equal(runs.numbers("b"), [5, np.nan, 6, 7])
    assert runs.texts("c") == ["x", "y", None, None]


def test_a_digest_is_of_the_whole_file(tmp_path: Path) -> None:
    stream = ProfileStream(written(tmp_path / "a.json", {"(1, 512, 2)": {}}))
    with pytest.raises(RuntimeError, match="not read to its end"):
        _ = stream.sha256
    list(stream)
    assert stream.sha256 == hashlib.sha256((tmp_path / "a.json").read_bytes()).hexdigest()


_PEAK = """
import resource, sys
from lithowatt.profiles._stream import ProfileStream
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for _ in ProfileStream(sys.argv[1], {"read"}): pass
before = peak()
rows = sum(runs.rows for _, runs in ProfileStream(sys.argv[2], {"read"}))
print(rows, (peak() - before) * 1024)
"""


@pytest.mark.slow
def test_memory_is_that_of_one_configuration(tmp_path: Path) -> None:
    columns = {name: [[1 / 3 + at for at in range(40)]] * 50 for name in ("read", "a", "b", "c")}
    small = written(tmp_path / "small.json", {"(1, 512, 40)": columns})
    content = {f"(1, {memory}, 40)": columns for memory in range(200)}
    large = written(tmp_path / "large.json", content)
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, small, large], capture_output=True, text=True, check=True
    )
    rows, more = map(int, done.stdout.split())
    assert rows == 200 * 50 * 40
    assert more < 10 * small.stat().st_size < large.stat().st_size / 10


DATA = Path(os.environ.get("LITHOWATT_DATA", TOP.parent / "shared" / "data"))


def test_real_profiles_hold_what_json_reads() -> None:
    if not (DATA / "profiles").is_dir():
        pytest.skip(f"no measured profiles in {DATA} (set LITHOWATT_DATA)")
    profiles = read_profiles([DATA / "profiles"])
    assert sum(file.rows for file in profiles.files) == 17_735
    for file in profiles.files:
        content = json.loads(Path(file.path).read_text())
        assert [runs.key for runs in file.configurations] == list(content)
        for runs in file.configurations:
            for name, column in content[runs.key].items():
                found = runs.columns[name]
                values = found.texts if found.numbers is None else found.numbers.tolist()
                assert values == [value for workers in column for value in workers]


@pytest.mark.slow
@given(
    st.dictionaries(
        st.integers(1, 9).map(lambda workers: f"(1, 512, {workers})"),
        st.dictionaries(
            st.sampled_from(["read", "cpu_name", "x"]),
            column_of(st.none() | st.floats(allow_nan=False))
            | column_of(st.none() | st.integers(-(2**60), 2**60))
            | column_of(number | st.booleans())
            | column_of(text | st.integers()),
        ),
        max_size=3,
    )
)
def test_a_profile_of_lists_is_the_same_whoever_reads_it(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any]
) -> None:
    path = tmp_path_factory.mktemp("profiles") / "stage.json"
    path.write_text(json.dumps(content))

    # Types, too: 1 is written as 1, and 1.0 as 1.0.
    assert repr(read_profile(path)) == repr(parse_profile(path.read_text()))
