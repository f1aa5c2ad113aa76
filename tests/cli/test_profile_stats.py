"""`lithowatt profile stats` as it is called."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lithowatt.cli import main
from tests.support.made_profiles import EPYC, XEON, Kind, profile, write

KIND = Kind(workers=(2, 4), repetitions=6, seed=1, mix={XEON: 0.7, EPYC: 0.3})


def test_json_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, KIND)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "package.json").write_text("{}}")
    assert main(["profile", "stats", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["command"], len(found["configurations"])) == (1, "stats", 2)
    assert [one["file"] for one in found["skipped"]] == ["other/package.json"]
    assert found["settings"]["basis"] == "clean" and found["settings"]["interval"] == "t"


def test_text_fits_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = profile(KIND)
    content["(1, 1024, 4)"]["cold_start"][2][1] = 500.0
    write(tmp_path, KIND, made=content)
    write(tmp_path, replace(KIND, stage="once", workers=(4, 8), most_workers=1))
    assert main(["profile", "stats", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert "pi_aws_1024Mb_x86/stage.json: pi / stage, x86_64, 1024 MB" in text
    assert "slowest" in text and "ran alike" in text and "±" in text


@pytest.mark.parametrize(
    "options",
    [
        ["--exclude", "+no-rule"],
        ["--region", "mars-1"],
        ["--vcpus", "2"],
        ["--group", "("],
        ["--group", "no name"],
    ],
)
def test_what_cannot_be_is_refused(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, KIND)
    assert main(["profile", "stats", str(tmp_path), *options]) == 2
    out, error = capsys.readouterr()
    assert out == "" and error.startswith("lithowatt") and len(error.splitlines()) == 1


def test_no_profile_is_unusable_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "stats", str(tmp_path)]) == 2
    assert "no profile" in capsys.readouterr().err


def test_workload_and_stage_of_a_pattern(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, KIND)
    group = r"(?P<workload>p)i_.*/(?P<stage>st)age"
    assert main(["profile", "stats", str(tmp_path), "--group", group, "--json"]) == 0
    row = json.loads(capsys.readouterr().out)["configurations"][0]
    assert (row["workload"], row["stage"]) == ("p", "st")
