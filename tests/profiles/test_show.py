"""`lithowatt profile show`: a profile on one screen."""

from __future__ import annotations

from pathlib import Path

import pytest

from lithowatt.cli import main
from tests.support.made_profiles import EPYC, UPSTREAM, XEON, Kind, profile, write


def shown(capsys: pytest.CaptureFixture[str], *paths: Path) -> list[str]:
    assert main(["profile", "show", *map(str, paths)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    return lines


def test_a_screen_says_what_a_profile_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = Kind(workers=(2, 4), repetitions=(6, 8), mix={XEON: 0.5, EPYC: 0.5})
    made = profile(kind)
    for column in made[kind.keys[1]].values():
        column.append(list(column[0]))  # a copy
    made[kind.keys[0]]["read"][0][0] = None
    folder = write(tmp_path, kind, made=made)
    lines = shown(capsys, folder / kind.name)
    text = "\n".join(lines)
    assert lines[0] == kind.name
    assert lines[1] == "pi / stage, x86_64, aws_lambda, FlexExecutor's energy fork, 19 metrics"
    assert "2 configurations, 15 runs (13 count), 48 calls" in text
    grid = lines.index("runs by memory and workers (that count / found)")
    assert lines[grid + 1].split() == ["MB", "2", "4"]
    assert lines[grid + 2].split() == ["1024", "5/6", "8/9"]
    assert EPYC in text and XEON in text
    said = [line.split() for line in lines]
    assert ["error", "copied-repetitions", *"1 configuration, 1 run, left out".split()] in said
    assert ["warning", "mixed-hardware", "2", "configurations"] in said
    assert any(words[:3] == ["note", "unusable", "1"] for words in said)
    row = next(line for line in lines if line.startswith(kind.keys[0])).split()
    assert row[3] == "5"


def test_what_is_not_known_is_not_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kind = Kind(workers=(2,), repetitions=2, columns=UPSTREAM)
    folder = write(tmp_path, kind)
    text = "\n".join(shown(capsys, folder))
    assert "unknown platform" in text and "FlexExecutor, 4 metrics" in text
    assert "time s" in text and "USD" not in text and "processors" not in text
    (tmp_path / "empty.json").write_text("{}")
    assert "0 configurations" in "\n".join(shown(capsys, tmp_path / "empty.json"))


def test_two_architectures_in_one_configuration_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = Kind(workers=(2, 4), repetitions=4)
    made = profile(kind)
    made[kind.keys[0]]["cpu_architecture"][:2] = [["aarch64"] * 2] * 2
    lines = shown(capsys, write(tmp_path, kind, made=made))
    assert lines[1].startswith("pi / stage, arm64 and x86_64, ")
    said = [line.split() for line in lines]
    assert "warning mixed-architectures 1 configuration on arm64 and x86_64".split() in said
