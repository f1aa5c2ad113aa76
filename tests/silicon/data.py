"""Measurements of real machines, not part of the repository: `LITHOWATT_DATA` names the folder."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

DATA = Path(
    os.environ.get("LITHOWATT_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data"
)


def silicon_table(name: str) -> list[dict[str, str]]:
    """The rows of one table of measurements; skips the test where there is none."""
    path = DATA / "silicon" / name
    if not path.is_file():
        pytest.skip(f"no measurements of real machines at {path} (set LITHOWATT_DATA)")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
