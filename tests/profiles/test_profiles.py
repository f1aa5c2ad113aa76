"""Profile files: strict to read, merged and never lost, whole on disk."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lithowatt import MalformedValueError, UnreadableFileError
from lithowatt._support.files import locked
from lithowatt.flexecutor import COLUMN_NAMES, FunctionTimes
from lithowatt.profiles import (
    Configuration,
    _file,
    append_repetition,
    merge_profiles,
    read_profile,
    read_sidecar,
    sidecar_path,
    write_profile,
)
from lithowatt.profiles._file import parse_profile
from tests.support import TOP


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(1, 512, 4)", (1, 512, 4)),
        ("(1.0,512,4)", (1, 512, 4)),
        ("(0.5, 1769.0, 12)", (0.5, 1769, 12)),
        (" ( 1 , 512 , 4 , ) ", (1, 512, 4)),
        # What NumPy 2 and the prototype's text make of keys.
        ("(np.float64(1.5), np.float64(2653.5), np.int64(8))", (1.5, 2653.5, 8)),
        ("(cpu 1, mem 1024, worker 10)", (1, 1024, 10)),
    ],
)
def test_keys_that_are_read(text, expected):
    configuration = Configuration.parse(text)
    assert configuration == expected
    assert Configuration.parse(configuration.key) == configuration


@pytest.mark.parametrize(
    "text",
    [
        *("", "()", "(1, 2)", "(1, 2, 3, 4)", "1, 2, 3", "(1, 2, 0)", "(1, 2, 1.5)"),
        *("(-1, 512, 1)", "(nan, 1, 1)", "(1, 1e999, 1)", "(__import__('os'), 1, 1)"),
        *("(" * 5000, "(1, 2, 3)" * 50),
    ],
)
def test_keys_that_are_refused(text):
    with pytest.raises(MalformedValueError, match="is not"):
        Configuration.parse(text)


@pytest.mark.slow
@given(st.text(max_size=40))
def test_no_key_does_more_than_be_refused(text):
    try:
        configuration = Configuration.parse(text)
    except MalformedValueError:
        return
    assert configuration.workers >= 1


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3)
    ),
    max_leaves=12,
)


@pytest.mark.slow
@given(json_values)
def test_whatever_json_holds_is_a_profile_or_refused(value):
    try:
        data = parse_profile(json.dumps(value))
    except MalformedValueError as error:
        assert "\n" not in str(error)
        return
    assert isinstance(data, dict)


GOOD = '{"(1, 512, 2)": {"read": [[0.1, 0.2]], "cpu_name": [["a", null]]}}'


@pytest.mark.parametrize("cut", range(1, len(GOOD)))
def test_every_cut_is_noticed(cut):
    with pytest.raises(MalformedValueError, match="profile"):
        parse_profile(GOOD[:cut])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[]", "holds a list"),
        ('{"a": {}}', "is not (cpu, memory_mb, workers)"),
        ('{"(1, 1, 1)": []}', "is no object of metrics"),
        ('{"(1, 1, 1)": {"read": 3}}', "is no list of repetitions"),
        ('{"(1, 1, 1)": {"read": [3]}}', "repetition 0"),
        ('{"(1, 1, 1)": {"read": [[1], [[2]]]}}', "repetition 1"),
        ('{"(1, 1, 1)": {}, "(1.0, 1, 1)": {}}', "twice"),
        ('{"(1, 1, 1)": {"read": [], "read": []}}', "twice"),
        ("[" * 100_000, "nested too deeply"),
        ("", "is empty"),
        ("x", "is not JSON"),
    ],
)
def test_what_is_no_profile_says_where(text, says):
    with pytest.raises(MalformedValueError) as caught:
        parse_profile(text, "stage.json")
    assert says in str(caught.value) and "stage.json" in str(caught.value)
    assert len(str(caught.value)) < 400


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UnreadableFileError, match="No such file"):
        read_profile(tmp_path / "none.json")
    with pytest.raises(UnreadableFileError):
        read_profile(tmp_path)
    (tmp_path / "latin.json").write_bytes(b'{"\xe9": {}}')
    with pytest.raises(MalformedValueError, match="UTF-8"):
        read_profile(tmp_path / "latin.json")


def test_merging_keeps_every_repetition_in_its_place():
    a: Any = {Configuration(1, 512, 2): {"read": [[1, 2], [3, 4]], "old": [["x", "y"]]}}
    b: Any = {(1.0, 512.0, 2): {"read": [[5]], "energy": [[9.0]]}, (1, 1, 1): {"read": [[6]]}}
    merged = merge_profiles(a, b)
    assert merged[Configuration(1, 512, 2)] == {
        "read": [[1, 2], [3, 4], [5]],
        "old": [["x", "y"], [None, None], [None]],
        "energy": [[None, None], [None, None], [9.0]],
    }
    assert merged[Configuration(1, 1, 1)] == {"read": [[6]]}
    # The sources are as they were.
    assert a[Configuration(1, 512, 2)]["read"] == [[1, 2], [3, 4]]


names = st.sampled_from(["read", "energy", "mine"])
rows = st.lists(st.lists(st.integers(), min_size=1, max_size=3), max_size=3)
profiles = st.dictionaries(
    st.tuples(st.integers(1, 2), st.just(512), st.integers(1, 2)),
    st.dictionaries(names, rows, min_size=1),
    max_size=2,
)


@pytest.mark.slow
@given(st.lists(profiles, max_size=4))
def test_a_merge_has_all_values_of_all_and_only_none_besides(sources):
    merged = merge_profiles(*sources)
    for key, metrics in merged.items():
        lengths = {len(column) for column in metrics.values()}
        if sum(key in source for source in sources) > 1:
            assert len(lengths) == 1
        for name, column in metrics.items():
            expected = [
                value for s in sources for row in s.get(key, {}).get(name, []) for value in row
            ]
            assert [value for row in column for value in row if value is not None] == expected


def test_writing_is_all_or_nothing(tmp_path):
    file = tmp_path / "stage.json"
    write_profile(file, {(1, 512, 1): {"read": [[0.1]]}})
    file.chmod(0o640)
    before = file.read_bytes()
    with pytest.raises(TypeError, match="cannot hold"):
        write_profile(file, {(1, 512, 1): {"read": [[object()]]}})
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["stage.json"]
    write_profile(file, {(1, 512, 1): {"read": [[0.2]]}})
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    # A link stays one.
    link = tmp_path / "link.json"
    link.symlink_to(file)
    write_profile(link, {(2, 512, 1): {"read": [[0.3]]}})
    assert link.is_symlink() and read_profile(file) == {(2, 512, 1): {"read": [[0.3]]}}


def test_numbers_of_numpy_are_written_as_numbers(tmp_path):
    numpy = pytest.importorskip("numpy")
    key = (numpy.float64(1.5), numpy.float64(2653.5), numpy.int64(4))
    write_profile(tmp_path / "a.json", {key: {"read": [[numpy.float32(0.5), numpy.int64(3)]]}})
    assert json.loads((tmp_path / "a.json").read_text()) == {
        "(1.5, 2653.5, 4)": {"read": [[0.5, 3]]}
    }


def times(energy: float | None, **more: Any) -> FunctionTimes:
    return FunctionTimes(read=0.1, compute=0.2, write=0.3, cold_start=1.0, energy=energy, **more)


def test_repetitions_are_appended_with_their_sidecar(tmp_path):
    file = tmp_path / "dag" / "stage.json"
    append_repetition(file, (1, 512, 3), [times(1.0, cpu_name="A"), times(2.5, cpu_name="A")])
    append_repetition(file, (1.0, 512, 3), [times(None), times(4.0)])
    metrics = read_profile(file)[Configuration(1, 512, 3)]
    assert metrics["energy"] == [[1.0, 2.5], [None, 4.0]]
    assert metrics["rapl_energy_pkg"] == [[None, None], [None, None]]
    assert set(metrics) == {"read", "compute", "write", "cold_start", *COLUMN_NAMES}
    sidecar = read_sidecar(file)
    first, second = sidecar["configurations"]["(1, 512, 3)"]
    assert (first["energy"], first["calls_with_energy"]) == (3.5, 2)
    # A sum of what is not all there is no sum.
    assert (second["energy"], second["calls_with_energy"]) == (None, 1)
    assert (first["requested_workers"], first["actual_workers"]) == (3, 2)
    assert first["hardware"][0]["cpu_name"] == "A"
    assert "profile" not in str(sidecar_path(file)) and sidecar_path(file).suffix != ".json"


def test_a_profile_that_is_damaged_is_not_appended_to(tmp_path):
    file = tmp_path / "stage.json"
    file.write_text("{")
    with pytest.raises(MalformedValueError, match="cut off"):
        append_repetition(file, (1, 512, 1), [times(1.0)])
    with pytest.raises(MalformedValueError, match="workers"):
        append_repetition(file, (1, 512, 0), [times(1.0)])
    assert file.read_text() == "{"
    assert [path.name for path in tmp_path.iterdir()] == ["stage.json"]


def test_a_damaged_sidecar_is_moved_aside(tmp_path):
    file = tmp_path / "stage.json"
    append_repetition(file, (1, 512, 1), [times(1.0)])
    for damage in ("{", "[]", '{"schema": 99, "units": {}, "configurations": {}}'):
        sidecar_path(file).write_text(damage)
        with pytest.raises(MalformedValueError):
            read_sidecar(file)
        append_repetition(file, (1, 512, 1), [times(2.0)])
    records = read_sidecar(file)["configurations"]["(1, 512, 1)"]
    assert records[:-1] == [None] * 3 and records[-1]["energy"] == 2.0
    aside = sorted(path.name for path in tmp_path.glob("*.damaged-*"))
    assert aside == [f"stage.json.energy.damaged-{number}" for number in (1, 2, 3)]


def test_writers_at_once_lose_nothing(tmp_path):
    file = tmp_path / "stage.json"

    def work(number: int) -> None:
        for index in range(5):
            append_repetition(file, (1, 512, 1 + number % 2), [times(float(10 * number + index))])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    profile = read_profile(file)
    seen = sorted(v for metrics in profile.values() for row in metrics["energy"] for v in row)
    assert seen == sorted(float(10 * number + index) for number in range(4) for index in range(5))
    records = read_sidecar(file)["configurations"]
    for key, metrics in profile.items():
        assert [r["energy"] for r in records[key.key]] == [row[0] for row in metrics["energy"]]
    assert sorted(os.listdir(tmp_path)) == ["stage.json", "stage.json.energy"]


def test_a_lock_that_nobody_gives_back_holds_nobody_up(tmp_path, monkeypatch):
    monkeypatch.setattr("lithowatt._support.files.LOCK_PATIENCE", 0.05)
    with locked(tmp_path / "a.json") as first, locked(tmp_path / "a.json") as second:
        assert (first, second) == (True, False)


def test_a_folder_that_is_not_there_needs_no_lock(tmp_path):
    with locked(tmp_path / "none" / "a.json") as held:
        assert held is False


DATA = Path(os.environ.get("LITHOWATT_DATA", TOP.parent / "shared" / "data"))


def test_real_profiles_of_lambda_are_read():
    files = sorted((DATA / "profiles").glob("*/stage.json"))
    if not files:
        pytest.skip(f"no measured profiles in {DATA} (set LITHOWATT_DATA)")
    for file in files:
        profile = read_profile(file)
        assert len(profile) >= 5
        assert all(key.memory_mb in (512, 1024, 2048) for key in profile)
        assert merge_profiles(profile) == profile


def test_appending_reads_again_only_what_somebody_else_wrote(tmp_path, monkeypatch):
    file = tmp_path / "stage.json"
    append_repetition(file, (1, 512, 1), [times(1.0)])
    reads = []
    real = _file.read_profile

    def counted(path):
        reads.append(path)
        return real(path)

    monkeypatch.setattr(_file, "read_profile", counted)
    for energy in (2.0, 3.0):
        append_repetition(file, (1, 512, 1), [times(energy)])
    assert reads == []
    # Somebody without lithowatt takes a repetition away.
    plain = json.loads(file.read_text())
    plain["(1, 512, 1)"] = {name: column[1:] for name, column in plain["(1, 512, 1)"].items()}
    file.write_text(json.dumps(plain))
    append_repetition(file, (1, 512, 1), [times(4.0)])
    assert len(reads) == 1
    assert read_profile(file)[Configuration(1, 512, 1)]["energy"] == [[2.0], [3.0], [4.0]]
    records = read_sidecar(file)["configurations"]["(1, 512, 1)"]
    assert [record["energy"] for record in records] == [2.0, 3.0, 4.0]


def test_a_profile_that_is_removed_begins_anew(tmp_path):
    file = tmp_path / "stage.json"
    append_repetition(file, (1, 512, 1), [times(1.0)])
    file.unlink()
    append_repetition(file, (1, 512, 1), [times(2.0)])
    assert read_profile(file)[Configuration(1, 512, 1)]["energy"] == [[2.0]]
