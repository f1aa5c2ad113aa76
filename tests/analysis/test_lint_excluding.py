"""The rules that leave repetitions out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lithowatt.analysis.lint import left_out
from lithowatt.profiles._runs import CORE, read_profiles

KEY = "(1, 512, 4)"
ON_LAMBDA = "type:lambda-function|arch:x86_64|lambda:True|mem:512"


def made(seed: int, repetitions: int = 6, workers: int = 4) -> dict[str, list[list[Any]]]:
    random = np.random.default_rng(seed)
    scales = dict(zip(CORE, (0.4, 12.0, 0.3, 1.5, 0.0, 15.0, 5.0), strict=True))
    columns: dict[str, list[list[Any]]] = {
        name: (scale * np.exp(random.normal(0, 0.1, (repetitions, workers)))).tolist()
        for name, scale in scales.items()
    }
    columns["time_consumption"] = [
        [round(value, 8) for value in one] for one in columns["worker_time_execution"]
    ]
    columns["aws_cpu"] = [[ON_LAMBDA] * workers for _ in range(repetitions)]
    return columns


def written(folder: Path, columns: dict[str, list[list[Any]]], key: str = KEY) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stage.json").write_text(json.dumps({key: columns}))
    return folder


def appended(columns: dict[str, list[list[Any]]], of: int, noise: float, clocks: bool) -> None:
    random = np.random.default_rng(of)
    for name in CORE:
        values = np.array(columns[name][of])
        columns[name].append((values * random.uniform(1 - noise, 1 + noise, len(values))).tolist())
    if not clocks:
        columns["time_consumption"][-1] = list(columns["worker_time_execution"][-1])
    columns["aws_cpu"].append(columns["aws_cpu"][of])


def test_what_is_clean_is_kept(tmp_path: Path) -> None:
    written(tmp_path / "a", made(1))
    written(tmp_path / "b", made(2))
    assert left_out(read_profiles([tmp_path])) == {}


def test_a_copy(tmp_path: Path) -> None:
    columns = made(1)
    appended(columns, 2, 0.0, clocks=True)
    found = left_out(read_profiles([written(tmp_path / "a", columns)]))
    assert found == {(0, 0): {"copied-repetitions": [6]}}


def test_a_copy_in_another_file(tmp_path: Path) -> None:
    written(tmp_path / "a", made(1))
    written(tmp_path / "b", made(1), "(1, 1024, 4)")
    found = left_out(read_profiles([tmp_path]))
    assert found == {(1, 0): {"copied-repetitions": [0, 1, 2, 3, 4, 5]}}


@pytest.mark.parametrize("clocks", [True, False])
def test_a_copy_with_noise(tmp_path: Path, clocks: bool) -> None:
    columns = made(1)
    appended(columns, 2, 0.03, clocks)
    found = left_out(read_profiles([written(tmp_path / "a", columns)]))
    assert found == {(0, 0): {"jittered-repetitions": [6]}}


def test_one_worker_shows_noise_by_its_clocks_only(tmp_path: Path) -> None:
    for clocks, expected in ((True, {(0, 0): {"jittered-repetitions": [6]}}), (False, {})):
        columns = made(1, workers=1)
        appended(columns, 2, 0.03, clocks)
        folder = written(tmp_path / str(clocks), columns, "(1, 512, 1)")
        assert left_out(read_profiles([folder])) == expected


def test_another_platform(tmp_path: Path) -> None:
    columns = made(1, repetitions=21)
    columns["aws_cpu"][3] = [ON_LAMBDA.replace("True", "False"), *columns["aws_cpu"][3][1:]]
    found = left_out(read_profiles([written(tmp_path / "a", columns)]))
    assert found == {(0, 0): {"foreign-hardware": [3]}}


def test_a_repetition_without_work(tmp_path: Path) -> None:
    columns = made(1)
    columns["compute"][1] = [1e-4, 1e-4, 3.0, 3.0]
    columns["compute"][2] = [1e-4, 3.0, 3.0, 3.0]
    found = left_out(read_profiles([written(tmp_path / "a", columns)]))
    assert found == {(0, 0): {"empty-repetition": [1]}}
