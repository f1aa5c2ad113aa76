"""Python environments that each hold one release of Lithops, for test_lithops_*.py.

For each release there is a plain environment, Lithops as PyPI has it, built
once and kept under the temporary directory; and a metered one, which sees the
plain one's packages and has the lithowatt under test in its own site-packages,
as `pip install` puts it there.
"""

from __future__ import annotations

import atexit
import fcntl
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lithowatt
from tests.support import TESTS

HOOK_FILES = TESTS.parent / "lithowatt.data" / "platlib"

#: The newest release, and the newest of those with the older worker (3.1.2 to 3.6.4).
RELEASES = ("3.8.0", "3.6.4")

#: Nine that differ: the first of each minor version and what its fixes changed.
MATRIX = ("3.1.0", "3.1.2", "3.2.0", "3.3.0", "3.4.1", "3.5.1", "3.6.4", "3.7.0", "3.8.0")

#: The Pythons that lithowatt is for.
PYTHONS = ("3.10", "3.11", "3.12", "3.13")

#: Seconds until a job counts as hung; they take about ten where nobody keeps them waiting.
PATIENCE = 400


def here() -> str:
    """The Python that runs this, as in "3.11"."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


@functools.cache
def interpreter(version: str) -> Path | None:
    """A Python of this version that can make environments, None where there is none."""
    if version == here():
        return Path(sys.executable)
    candidates = [Path(found) for found in [shutil.which(f"python{version}")] if found]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    candidates += sorted(pyenv.glob(f"versions/{version}*/bin/python"), reverse=True)
    question = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
    for python in candidates:
        asked = subprocess.run([python, "-c", question], capture_output=True, text=True)
        if asked.stdout.strip() == version:
            return python
    return None


def _cached(name: str, build: Callable[[Path], None]) -> Path:
    """A directory under the temporary one that is built once, by whichever process is first."""
    cache = Path(tempfile.gettempdir()) / f"lithowatt-test-environments-{os.getuid()}"
    home = cache / name
    cache.mkdir(mode=0o700, exist_ok=True)
    with (cache / f"{name}.lock").open("w") as lock:
        # The others wait: they would build the same.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.exists():
            # Built under another name, so that an interrupted build is never used.
            building = Path(tempfile.mkdtemp(dir=cache))
            build(building)
            building.rename(home)
    # For workers of another user, where a test puts it before them.
    home.chmod(0o755)
    return home


def _pip_install(python: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    command += ["--disable-pip-version-check", "--root-user-action=ignore", *arguments]
    subprocess.run(command, check=True, timeout=600)


def _create(home: Path, version: str) -> Path:
    """A new environment of a Python version, without pip; returns its interpreter."""
    python = interpreter(version)
    assert python is not None, f"no Python {version}"
    subprocess.run([python, "-m", "venv", "--without-pip", "--symlinks", home], check=True)
    return home / "bin" / "python"


@functools.cache
def plain(release: str, *more: str, version: str = here()) -> Path:
    """The interpreter of an environment with this Lithops, `more`, and without lithowatt."""
    # Lithops takes a runtime's path in letters, digits and a few signs only.
    parts = [part.replace("==", "-") for part in (f"py{version}-lithops-{release}", *more)]

    def build(building: Path) -> None:
        _pip_install(_create(building, version), f"lithops=={release}", "numpy", *more)

    return _cached("-".join(parts), build) / "bin" / "python"


@functools.cache
def layer(release: str) -> Path:
    """A directory with this Lithops alone.

    What 3.8.0 needs is enough for each of the nine to run on localhost, so they
    need not be installed with the cloud libraries that the older ones ask for.
    """

    def build(building: Path) -> None:
        python = Path(sys.executable)
        _pip_install(python, "--no-deps", "--target", str(building), f"lithops=={release}")

    return _cached(f"lithops-{release}-alone", build)


def stacked(
    release: str,
    home: Path,
    lithowatt: bool,
    version: str = here(),
    # What lithops.multiprocessing imports, used or not.
    more: tuple[str, ...] = ("redis",),
) -> Path:
    """The interpreter of a new environment in `home`: this Lithops over the packages of 3.8.0."""
    packages = site_packages(plain("3.8.0", *more, version=version))
    python = _create(home, version)
    own = site_packages(python)
    above = [] if release == "3.8.0" else [f"{layer(release)}\n"]
    (own / "packages.pth").write_text("".join([*above, f"{packages}\n"]))
    if lithowatt:
        install_lithowatt(own)
    return python


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


@functools.cache
def package_folder() -> Path:
    """A folder that holds the lithowatt under test, and nothing else: for `PYTHONPATH`.

    The tests' own packages are no folder for it, and the sources have no core where lithowatt is
    installed from them.
    """
    folder = _temporaries() / "package"
    folder.mkdir()
    install_lithowatt(folder, hook=False)
    return folder


def site_packages(python: Path) -> Path:
    """The site-packages of a virtual environment's interpreter."""
    [packages] = python.parent.parent.glob("lib/python3*/site-packages")
    return packages


@functools.cache
def _temporaries() -> Path:
    """Where this process's tests have their temporary directories; removed at its end."""
    folder = Path(tempfile.mkdtemp(prefix="lw-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _temporary(directory: Path) -> Path:
    """A test's own temporary directory, which `directory`/tmp leads to.

    Its path is short, for sockets are made there: Lithops' localhost service of 3.1.2 to 3.3.0 dies
    where the path of one takes more than 107 bytes, and its client then waits for ever. The folders
    of pytest alone may take 80.
    """
    link = directory / "tmp"
    if not link.is_symlink():
        link.symlink_to(tempfile.mkdtemp(dir=_temporaries()))
    return link.resolve()


def isolated(directory: Path, **extra: str) -> dict[str, str]:
    """An environment whose home and temporary directory are the test's own."""
    (directory / "home").mkdir(parents=True, exist_ok=True)
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("ENERGY_", "LITHOPS", "PYTHON", "__LITHOPS"))
    }
    return {
        **kept,
        "HOME": str(directory / "home"),
        "TMPDIR": str(_temporary(directory)),
        **extra,
    }


def run_python(
    python: Path, *arguments: str, directory: Path, patience: float = PATIENCE, **extra: str
) -> subprocess.CompletedProcess[str]:
    """Runs an interpreter to its end, in its own directories."""
    return subprocess.run(
        [str(python), *arguments],
        env=isolated(directory, **extra),
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=patience,
    )


def run_scenarios(
    python: Path,
    plan: dict[str, Any],
    directory: Path,
    patience: float = PATIENCE,
    **extra: str,
) -> dict[str, Any]:
    """Runs support/lithops_scenarios.py; returns what the client saw of each call."""
    isolated(directory)
    (directory / "plan.json").write_text(json.dumps(plan))
    script = str(TESTS / "support" / "lithops_scenarios.py")
    arguments = (script, "plan.json", "seen.json")
    done = run_python(python, *arguments, directory=directory, patience=patience, **extra)
    assert done.returncode == 0, done.stdout + done.stderr
    seen: dict[str, Any] = json.loads((directory / "seen.json").read_text())
    return seen
