"""A file of a folder that cannot be read is told by every verb that takes folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from lithowatt.cli import main
from tests.support.made_profiles import Kind, write


@pytest.mark.parametrize(
    "verb",
    [
        "lint",
        "stats",
        "show",
        "compare --by workers",
        "scaling",
        "findings",
        "claims --claims titanic",
        "recommend --minimise time",
        "plan",
        "export -o OUT.csv",
        "merge -o OUT.json",
        "split -o OUT",
        "filter -o OUT --workers 2",
        "upgrade -o OUT",
    ],
)
def test_a_damaged_file_in_a_folder_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    folder = write(tmp_path / "runs", Kind(workers=(2, 4), repetitions=6, seed=1))
    (folder / "damaged.json").write_text('{"(1, 512, 2)": {"read": [[1.0,')
    words = verb.replace("OUT", str(tmp_path / "out")).split()
    main(["profile", *words, str(folder)])
    told = capsys.readouterr()
    assert "damaged.json" in told.out + told.err
