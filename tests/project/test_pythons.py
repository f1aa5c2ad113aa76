"""Which Python a version names, and what is said where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support import TESTS


def asked(script: str, *arguments: str, path: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{path}:/usr/bin:/bin", "HOME": str(path), "PYTHONS_CACHE": str(path)}
    return subprocess.run(
        [TESTS / "pythons" / script, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_python_of_the_path_is_taken_if_it_is_of_that_version(tmp_path: Path) -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    # A link would not find its library.
    program = tmp_path / f"python{version}"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    program.chmod(0o755)
    found = asked("at_hand.sh", version, path=tmp_path)
    assert found.returncode == 0, found.stdout
    assert os.path.realpath(found.stdout.strip()) == os.path.realpath(sys.executable)
    # Of another version than its name says, as a shim may be.
    program.rename(tmp_path / "python3.13t")
    found = asked("at_hand.sh", "3.13t", path=tmp_path)
    assert (found.returncode, found.stderr) == (2, "")
    assert found.stdout.startswith("no python3.13t on PATH or in pyenv")


def test_an_architecture_that_nobody_builds_for(tmp_path: Path) -> None:
    for script, arguments in (("debian.sh", ("3.15", "mips")), ("musl.sh", ("mips",))):
        found = asked(script, *arguments, path=tmp_path)
        assert found.returncode == 2
        assert found.stdout == "mips is neither amd64 nor arm64\n"
