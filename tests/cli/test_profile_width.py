"""Nothing that ``lithowatt profile`` prints is wider than 80 columns but for one long word."""

from __future__ import annotations

from pathlib import Path

import pytest

from lithowatt._support.text import fitted
from lithowatt.cli import main
from tests.support.made_profiles import EPYC, XEON, Kind, write

WIDTH = 80

VERBS = (
    ["lint"],
    ["plan"],
    ["findings"],
    ["stats"],
    ["scaling"],
    ["show"],
    ["compare", "--by", "architecture"],
    ["recommend", "--latency", "1000", "--minimise", "energy"],
)


@pytest.fixture(scope="module", params=["pi", "a_workload_whose_name_is_rather_long"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    kinds = [
        Kind(
            workload=request.param,
            stage="a_stage_with_a_long_name_as_well" if len(request.param) > 2 else "stage",
            architecture=architecture,
            workers=(2, 4, 1000),
            repetitions=6,
            seed=seed,
            mix={XEON: 0.6, EPYC: 0.4} if architecture == "x86_64" else {},
        )
        for seed, architecture in enumerate(("x86_64", "arm64"))
    ]
    return write(tmp_path_factory.mktemp("profiles"), *kinds)


@pytest.mark.parametrize("verb", VERBS, ids=[verb[0] for verb in VERBS])
def test_no_line_is_wider_than_a_terminal(
    verb: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *options = verb
    assert main(["profile", name, str(folder), *options]) in (0, 1)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 5
    for line in lines:
        # A path is one word, and is not broken.
        assert len(line) <= WIDTH or (len(line.split()) == 1 and "/" in line), line


def test_a_table_that_fits_is_one() -> None:
    rows = [("", "read", "write"), ("a", "1", "2")]
    assert fitted(rows, 80, right=[1, 2], keys=1) == ["   read  write", "a     1      2"]


def test_a_table_that_does_not_fit_keeps_all_cells() -> None:
    rows = [("", *(f"head{i}" for i in range(9))), ("key", *(f"cell-{i}" for i in range(9)))]
    lines = fitted(rows, 30, right=range(1, 10), keys=1)
    assert max(map(len, lines)) <= 30
    text = "\n".join(lines)
    assert all(text.count(f"cell-{i}") == text.count(f"head{i}") == 1 for i in range(9))
    # Each part has its key.
    assert text.count("key") == len([line for line in lines if "head" in line]) > 1
