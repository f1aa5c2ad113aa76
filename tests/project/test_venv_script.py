"""``tools/venv.sh``, which every verb of the Makefile starts with: what is missing is said in one
line, before anything is made, and an environment of the wrong Python does not stay."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import TOP

pytestmark = pytest.mark.slow

SCRIPT = TOP / "tools" / "venv.sh"
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


def _program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def _old_python(path: Path, version: str = "3.9", code: int = 1) -> Path:
    """Answers as an interpreter of that version; ``code`` 0 is one that is new enough."""
    return _program(path, f'if [ "$1" = -c ]; then echo {version}; exit {code}; fi')


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A search path with a Rust of today, whatever this machine has."""
    tools = tmp_path / "tools"
    _program(tools / "rustc", 'echo "rustc 1.99.0 (fake 2026-01-01)"')
    _program(tools / "cargo", "exit 0")
    return f"{tools}{os.pathsep}{os.environ['PATH']}"


def _run(
    *arguments: str | Path, path: str, cwd: Path, asked: bool = False
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": path}
    environment.pop("PYTHON_ASKED", None)
    if asked:
        environment["PYTHON_ASKED"] = "yes"
    return subprocess.run(
        ["sh", SCRIPT, *arguments], env=environment, cwd=cwd, capture_output=True, text=True
    )


def _refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr


def test_a_python_that_is_too_old_is_refused_and_leaves_nothing(tmp_path: Path, path: str) -> None:
    old = _old_python(tmp_path / "python3.9")
    _refused(_run("make", old, ".venv", path=path, cwd=tmp_path), "3.10 or later", "is 3.9")
    assert not (tmp_path / ".venv").exists()


def test_a_python_that_is_not_there(tmp_path: Path, path: str) -> None:
    done = _run("make", "python3.99", ".venv", path=path, cwd=tmp_path)
    _refused(done, "no python3.99", "make PYTHON=")


@pytest.mark.parametrize(
    ("rustc", "words"),
    [
        ("exit 127", ("no Rust", "https://rustup.rs")),
        ('echo "rustc 1.63.0 (4b91a6ea7 2022-08-08)"', ("1.63.0", "https://rustup.rs")),
    ],
)
def test_no_rust_or_an_old_one(
    tmp_path: Path, path: str, rustc: str, words: tuple[str, ...]
) -> None:
    _program(tmp_path / "tools" / "rustc", rustc)
    _refused(_run("make", sys.executable, ".venv", path=path, cwd=tmp_path), *words)
    assert not (tmp_path / ".venv").exists()


def test_an_environment_is_made_and_stays(tmp_path: Path, path: str) -> None:
    done = _run("make", sys.executable, ".venv", path=path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    mark = tmp_path / ".venv" / "installed"
    mark.touch()
    for what in ("check", "make"):
        again = _run(what, sys.executable, ".venv", path=path, cwd=tmp_path, asked=True)
        assert (again.returncode, again.stderr) == (0, "")
    assert mark.exists()


@pytest.mark.parametrize(
    ("version", "code", "asked"), [("3.9", 1, False), ("3.9", 1, True), ("3.98", 0, True)]
)
def test_an_environment_of_another_python_is_made_anew(
    tmp_path: Path, path: str, version: str, code: int, asked: bool
) -> None:
    _old_python(tmp_path / ".venv" / "bin" / "python", version, code)
    mark = tmp_path / ".venv" / "installed"
    mark.touch()
    _run("check", sys.executable, ".venv", path=path, cwd=tmp_path, asked=asked)
    assert not mark.exists()  # so make builds again
    done = _run("make", sys.executable, ".venv", path=path, cwd=tmp_path, asked=asked)
    assert done.returncode == 0, done.stderr
    told = subprocess.run([tmp_path / ".venv/bin/python", "-V"], capture_output=True, text=True)
    assert told.stdout.startswith(f"Python {HERE}.")


def test_another_fitting_python_stays_where_none_was_asked_for(tmp_path: Path, path: str) -> None:
    theirs = _old_python(tmp_path / ".venv" / "bin" / "python", "3.98", 0)
    assert _run("make", sys.executable, ".venv", path=path, cwd=tmp_path).returncode == 0
    assert "3.98" in theirs.read_text()


def test_an_environment_elsewhere_is_not_removed(tmp_path: Path, path: str) -> None:
    theirs = _old_python(tmp_path / "mine" / "bin" / "python")
    done = _run("make", sys.executable, tmp_path / "mine", path=path, cwd=tmp_path)
    _refused(done, str(tmp_path / "mine"), "remove it")
    assert theirs.exists()
