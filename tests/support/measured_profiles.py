"""The measured profiles, not part of the repository: `LITHOWATT_DATA` names their folder."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

import pytest

from lithowatt.profiles._runs import Profiles, read_profiles

DATA = Path(
    os.environ.get("LITHOWATT_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data"
)


def measured_folder() -> Path:
    """The folder of profiles; skips the test where there is none."""
    folder = DATA / "profiles"
    if not folder.is_dir():
        pytest.skip(f"no measured profiles in {folder} (set LITHOWATT_DATA)")
    return folder


@lru_cache(maxsize=1)
def _read(folder: Path) -> Profiles:
    return read_profiles([folder])


def measured_profiles() -> Profiles:
    """All twelve, read once."""
    return _read(measured_folder())
