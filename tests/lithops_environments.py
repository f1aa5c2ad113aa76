"""Python environments that each hold one release of Lithops, for test_lithops_*.py.

For each release there is a plain environment, Lithops as PyPI has it, built
once and kept under the temporary directory; and a metered one, which sees the
plain one's packages and has the lithowatt under test in its own site-packages,
as `pip install` puts it there.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

import lithowatt

TESTS = Path(__file__).resolve().parent
HOOK_FILES = TESTS.parent / "lithowatt.data" / "platlib"

#: The newest release, and the newest of those with the older worker (3.1.2 to 3.6.4).
RELEASES = ("3.8.0", "3.6.4")

#: Seconds until a job counts as hung; they take about ten.
PATIENCE = 100


@functools.cache
def plain(release: str, *more: str) -> Path:
    """The interpreter of an environment with this Lithops, `more`, and without lithowatt."""
    python = f"py{sys.version_info.major}.{sys.version_info.minor}"
    uid = os.getuid() if hasattr(os, "getuid") else 0
    cache = Path(tempfile.gettempdir()) / f"lithowatt-test-environments-{uid}"
    # Lithops takes a runtime's path in letters, digits and a few signs only.
    parts = [part.replace("==", "-") for part in (f"{python}-lithops-{release}", *more)]
    home = cache / "-".join(parts)
    if not home.exists():
        cache.mkdir(mode=0o700, exist_ok=True)
        # Built under another name, so that an interrupted build is never used.
        building = Path(tempfile.mkdtemp(dir=cache))
        venv.create(building, with_pip=False, symlinks=True)
        command = [sys.executable, "-m", "pip", "--python", str(building / "bin" / "python")]
        command += ["install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*command, f"lithops=={release}", "numpy", *more], check=True, timeout=600)
        try:
            building.rename(home)
        except OSError:  # another session was faster
            shutil.rmtree(building)
    return home / "bin" / "python"


def metered(release: str, home: Path) -> Path:
    """The interpreter of a new environment in `home` with this Lithops and lithowatt."""
    packages = site_packages(plain(release))
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    own = site_packages(python)
    (own / "plain.pth").write_text(f"{packages}\n")
    install_lithowatt(own)
    return python


def install_lithowatt(directory: Path, hook: bool = True) -> None:
    """Copies the lithowatt under test into a directory of packages."""
    source = Path(lithowatt.__file__).parent
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(source, directory / "lithowatt", ignore=ignore)
    if hook:
        for file in HOOK_FILES.iterdir():
            if file.is_file():
                shutil.copy(file, directory)


def site_packages(python: Path) -> Path:
    """The site-packages of a virtual environment's interpreter."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return python.parent.parent / "lib" / version / "site-packages"


def isolated(directory: Path, **extra: str) -> dict[str, str]:
    """An environment whose home and temporary directory are the test's own."""
    for name in ("home", "tmp"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("ENERGY_", "LITHOPS", "PYTHON", "__LITHOPS"))
    }
    return {
        **kept,
        "HOME": str(directory / "home"),
        "TMPDIR": str(directory / "tmp"),
        **extra,
    }


def run_python(
    python: Path, *arguments: str, directory: Path, **extra: str
) -> subprocess.CompletedProcess[str]:
    """Runs an interpreter to its end, in its own directories."""
    return subprocess.run(
        [str(python), *arguments],
        env=isolated(directory, **extra),
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def run_scenarios(
    python: Path, plan: dict[str, Any], directory: Path, **extra: str
) -> dict[str, Any]:
    """Runs lithops_scenarios.py; returns what the client saw of each call."""
    isolated(directory)
    (directory / "plan.json").write_text(json.dumps(plan))
    script = str(TESTS / "lithops_scenarios.py")
    done = run_python(python, script, "plan.json", "seen.json", directory=directory, **extra)
    assert done.returncode == 0, done.stdout + done.stderr
    seen: dict[str, Any] = json.loads((directory / "seen.json").read_text())
    return seen
