"""Profiles as rows: alignment, usable repetitions, what files are called."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lithowatt.analysis._envelope import as_text
from lithowatt.analysis.statistics import stats
from lithowatt.errors import UnreadableFileError
from lithowatt.profiles._find import Label
from lithowatt.profiles._runs import CORE, read_profiles


def profile(**changes: object) -> dict[str, object]:
    columns: dict[str, object] = {name: [[1.0, 2.0], [3.0]] for name in CORE}
    columns["cpu_name"] = [["a", "b"], ["a"]]
    columns["cpu_cores_logical"] = [[2, 2], [2]]
    return {"(1, 512, 2)": {**columns, **changes}}


def written(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def test_rows_are_aligned(tmp_path: Path) -> None:
    written(tmp_path / "pi_aws_512Mb_x86" / "stage.json", profile())
    ((file, runs),) = read_profiles([tmp_path])
    assert (file.name, file.workload, file.stage) == ("pi_aws_512Mb_x86/stage.json", "pi", "stage")
    assert runs.widths.tolist() == [2, 1]
    assert runs.repetition.tolist() == [0, 0, 1]
    assert runs.worker.tolist() == [0, 1, 0]
    assert runs.texts("cpu_name") == ["a", "b", "a"]
    assert runs.columns["cpu_cores_logical"].whole
    assert runs.mean_of(runs.numbers("read")).tolist() == [1.5, 3.0]
    assert runs.max_of(runs.numbers("read")).tolist() == [2.0, 3.0]
    assert runs.usable.all()


@pytest.mark.parametrize(
    ("column", "usable"),
    [
        ([[1.0, 2.0], [None]], [True, False]),
        ([[1.0, 2.0]], [True, False]),
        ([[1.0], [3.0]], [False, True]),
        ([[1.0, float("nan")], [3.0]], [False, True]),
        # Nowhere a value: not recorded.
        ([[None, None], [None]], [True, True]),
    ],
)
def test_a_repetition_without_a_value_is_not_usable(
    tmp_path: Path, column: list[list[float | None]], usable: list[bool]
) -> None:
    written(tmp_path / "pi" / "stage.json", profile(TDP=column))
    ((_, runs),) = read_profiles([tmp_path])
    assert runs.usable.tolist() == usable
    assert runs.repetitions == 2


def test_one_value_that_describes_is_of_all_workers(tmp_path: Path) -> None:
    written(tmp_path / "pi" / "stage.json", profile(cpu_cores_logical=[[4], [4]]))
    ((_, runs),) = read_profiles([tmp_path])
    np.testing.assert_array_equal(runs.numbers("cpu_cores_logical"), [4, 4, 4])


def test_a_profile_of_times_alone_is_usable(tmp_path: Path) -> None:
    times = {name: [[1.0], [2.0]] for name in ("read", "compute", "write", "cold_start")}
    written(tmp_path / "pi" / "stage.json", {"(1, 512, 1)": times})
    ((_, runs),) = read_profiles([tmp_path])
    assert runs.usable.all()


def test_what_is_no_profile_is_skipped_in_folders_and_refused_by_itself(tmp_path: Path) -> None:
    written(tmp_path / "pi" / "stage.json", profile())
    other = written(tmp_path / "pi" / "package.json", {"name": "x"})
    found = read_profiles([tmp_path])
    assert [one.file for one in found.skipped] == ["pi/package.json"]
    with pytest.raises(ValueError, match="package"):
        read_profiles([other])
    with pytest.raises(UnreadableFileError, match="no such file"):
        read_profiles([tmp_path / "absent"])


def test_what_lithowatt_wrote_beside_profiles_is_passed_over(tmp_path: Path) -> None:
    written(tmp_path / "pi" / "stage.json", profile())
    result = tmp_path / "result.json"
    result.write_text(as_text(stats(read_profiles([tmp_path]))), "utf-8")
    written(tmp_path / "runs.json", {"schema": 1, "workload": "pi", "runs": []})
    # One that is given by its name is refused, and another one's is told.
    with pytest.raises(ValueError, match=r"runs\.json"):
        read_profiles([tmp_path / "runs.json"])
    written(tmp_path / "other.json", {"name": "x", "schema": 1})
    found = read_profiles([tmp_path])
    assert [one.file.rpartition("/")[2] for one in found.skipped] == ["other.json"]


def test_a_file_that_is_given_twice_is_read_once(tmp_path: Path) -> None:
    path = written(tmp_path / "pi" / "stage.json", profile())
    (tmp_path / "link").symlink_to(tmp_path / "pi")
    assert len(read_profiles([path, tmp_path, tmp_path / "link"]).files) == 1


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("pi_aws_2048MB_x86/stage.json", Label("pi", "stage", 2048, "x86_64")),
        ("my_job_k8s_AARCH64/a.json", Label("my_job", "a", None, "arm64")),
        ("profiling/video_x86_64/b.json", Label("video", "b", None, "x86_64")),
        ("armada_512/b.json", Label("armada_512", "b")),
    ],
)
def test_labels(name: str, label: Label) -> None:
    assert Label.of(name) == label
