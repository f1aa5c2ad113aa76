"""What is said of a missing package brings it: lithowatt itself is on no package index."""

from __future__ import annotations

import builtins
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lithowatt import EnergyMeter
from lithowatt._support.install import OPTIONAL, install_lithowatt, pip_install
from tests.support import TOP
from tests.support.made_profiles import Kind, write

#: `pip install` of lithowatt by its name, with or without an extra; a path or a file is none.
BY_NAME = re.compile(r"pip install (?:-\S+ |'?[\w>=.]+'? )*['\"]?lithowatt(?:\[|['\"`\s]|$)")


def test_the_pattern_tells_a_name_from_a_file() -> None:
    for bad in (
        "pip install lithowatt",
        "pip install 'lithowatt[cli]'",
        "pip install -U lithowatt\n",
    ):
        assert BY_NAME.search(bad), bad
    for good in ("pip install dist/lithowatt-0.1.0.whl", "pip install '.[cli]'", "pip install x"):
        assert not BY_NAME.search(good), good


def test_nobody_is_told_to_install_lithowatt_by_its_name() -> None:
    listed = subprocess.run(
        ["git", "-C", str(TOP), "ls-files", "-z"], capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        pytest.skip("no git checkout")
    told = []
    for name in filter(None, listed.stdout.split("\0")):
        path = TOP / name
        # A test may name what must not be said; these lines explain that it must not.
        if name.startswith("tests/") or name in ("python/lithowatt/_support/install.py",):
            continue
        if path.suffix in (".py", ".md", ".yaml", ".service", ".toml", ".pyi", ".rs"):
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                # Said of an index that has it.
                if BY_NAME.search(line) and "if the wheel is on an index" not in line:
                    told.append(f"{name}:{number}: {line.strip()}")
    assert told == []


def test_what_is_named_is_what_the_project_asks_for() -> None:
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    asked = set(project["dependencies"]).union(*project["optional-dependencies"].values())
    assert set(OPTIONAL.values()) <= asked
    assert all(value.startswith(name) for name, value in OPTIONAL.items())


def test_the_command_is_for_this_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/a b/python")
    assert pip_install("pandas", "tqdm") == "'/a b/python' -m pip install 'pandas>=2' tqdm"
    assert "'/a b/python' -m pip install dist/lithowatt-" in install_lithowatt()


@pytest.mark.parametrize(("package", "requirement"), [("numpy", "numpy>="), ("pandas", "pandas>=")])
def test_a_meter_says_what_it_needs(
    package: str, requirement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EnergyMeter(methods=["tdp"]) as meter:
        pass
    if package == "pandas":
        timeline = meter.timeline()
    else:
        monkeypatch.delitem(sys.modules, "lithowatt.meter._timeline", raising=False)
    really = builtins.__import__

    def without(name: str, *more: Any, **named: Any) -> Any:
        if name.partition(".")[0] == package:
            raise ImportError(f"No module named {name!r}")
        return really(name, *more, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=f"{re.escape(sys.executable)} -m pip .*{requirement}"):
        if package == "pandas":
            timeline.to_pandas()
        else:
            meter.timeline()


@pytest.mark.parametrize(
    ("package", "verb"),
    [
        ("pyarrow", ["profile", "export", "IN", "-o", "c.parquet"]),
        ("pyarrow", ["profile", "export", "IN", "-o", "c.arrow"]),
        ("pyarrow", ["profile", "export", "IN", "-o", "c/"]),
        ("jinja2", ["report", "IN", "-o", "r.md"]),
        ("altair", ["report", "IN", "-o", "r/"]),
        ("numpy", ["profile", "stats", "IN"]),
    ],
)
def test_a_command_without_its_package_ends_with_one_line(
    package: str, verb: list[str], tmp_path: Path
) -> None:
    folder = write(tmp_path / "in", Kind(workers=(2,), repetitions=2))
    arguments = [str(folder) if one == "IN" else one for one in verb]
    script = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from lithowatt.cli import main\n"
        f"sys.exit(main({arguments!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1 and "-m pip install" in done.stderr, done.stderr
    assert package in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
