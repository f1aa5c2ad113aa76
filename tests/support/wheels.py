"""Wheels of the lithowatt under test, packed without a compiler, and what `make wheel` built."""

from __future__ import annotations

import os
import platform
import zipfile
from pathlib import Path

import lithowatt
from tests.support.lithops_environments import HOOK_FILES

#: Newer than any glibc: what was built here needs the one that is here.
ANY_GLIBC = (99, 0)

#: Read at import: no setting from outside reaches a test.
FOLDER = Path(os.environ.get("LITHOWATT_WHEELS", HOOK_FILES.parent.parent / "dist"))


def pack_wheel(directory: Path) -> Path:
    """A wheel with the files of the lithowatt under test, for this machine only."""
    package = Path(lithowatt.__file__).parent
    version = lithowatt.__version__
    wheel = directory / f"lithowatt-{version}-cp310-abi3-linux_{platform.machine()}.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(package.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                archive.write(file, Path("lithowatt") / file.relative_to(package))
        for file in HOOK_FILES.iterdir():
            if file.is_file():
                archive.write(file, f"lithowatt-{version}.data/platlib/{file.name}")
        archive.writestr(
            f"lithowatt-{version}.dist-info/METADATA",
            f"Metadata-Version: 2.1\nName: lithowatt\nVersion: {version}\n",
        )
        archive.writestr(f"lithowatt-{version}.dist-info/RECORD", "")
    return wheel


def built_wheel() -> Path | None:
    """The newest manylinux2014 wheel in LITHOWATT_WHEELS, or in `dist`; None without one."""
    wheels = FOLDER.glob(f"lithowatt-*manylinux2014_{platform.machine()}*.whl")
    return max(wheels, key=lambda wheel: wheel.stat().st_mtime, default=None)
