"""Checks what a release would publish: versions, contents of wheel and sdist, and that both run.

``make release-check`` builds a wheel for this machine and the sdist and checks them. With
``--wheel`` and ``--sdist`` it checks files that are there, as the release workflow does with the
wheels of both architectures and both C libraries. ``--elsewhere`` tries those that this machine's
Python cannot load by one that can (``tests/surroundings.sh``).
"""

from __future__ import annotations

import argparse
import contextlib
import email
import importlib
import os
import platform
import re
import shlex
import struct
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

#: In the standard library since Python 3.11; before, pytest and mypy bring it.
toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

TOP = Path(__file__).resolve().parent.parent

#: What every wheel must have, below `VERSION.data` and `VERSION.dist-info` where it begins so.
WHEEL_NEEDS = (
    "lithowatt/__init__.py",
    "lithowatt/_core.abi3.so",
    "lithowatt/_core.pyi",
    "lithowatt/py.typed",
    "lithops_patch/__init__.py",
    ".data/platlib/_lithowatt_hook.py",
    ".data/platlib/_lithowatt_start.py",
    ".data/platlib/lithowatt-hook.pth",
    ".data/platlib/lithowatt-hook.start",
    ".dist-info/entry_points.txt",
    ".dist-info/licenses/LICENSE",
)

#: What an sdist must have so that the wheel can be built from it.
SDIST_NEEDS = (
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "build.rs",
    "ebpf-probes/lithowatt.bpf.o",
    "linker/worker_functions.ld",
    "lithops_patch/__init__.py",
    "lithowatt.data/platlib/lithowatt-hook.pth",
    "lithowatt.data/platlib/lithowatt-hook.start",
    "pyproject.toml",
    "python/lithowatt/py.typed",
    "src/lib.rs",
)

#: Compressed. A wheel has 1 to 2 MB today; a debug build or a second copy of the core has more.
MOST_BYTES = {".whl": 4_000_000, ".gz": 2_000_000}

#: The core as it is loaded, 3.5 MB today: zeros that should be in .bss hardly show in a wheel.
MOST_CORE_BYTES = 4_500_000

#: In the core of a wheel: what a worker runs lies together, see build.rs. 1.2 MB today; where a
#: compiler names functions otherwise than the list does, hardly anything is in it.
WORKER_CODE = b".text.worker"
LEAST_WORKER_BYTES = 400_000

#: The only folders and files at the top of a wheel.
WHEEL_TOP = re.compile(r"^(lithowatt|lithops_patch|lithowatt-[^/]+\.(data|dist-info))/")

#: Never published: tests in Python, caches, environments, what an editor or a build leaves.
UNWANTED = re.compile(r"(^|/)(tests?|__pycache__|target|\.\w+|node_modules)/|\.(pyc|orig|rej|swp)$")

#: What Python raises of a file that is no zip or tar, or a damaged or cut one.
DAMAGED = (
    OSError,
    EOFError,
    RuntimeError,
    UnicodeDecodeError,
    zlib.error,
    tarfile.TarError,
    zipfile.BadZipFile,
)

#: Modules of the core that are compiled for its tests only.
RUST_TESTS = re.compile(r"^src/.*\.rs$")

SMOKE = """
import importlib.metadata, sys
import lithops_patch
import lithowatt
from lithowatt import EnergyMeter, measure

with EnergyMeter() as meter:
    sum(range(1_000_000))
assert meter.joules > 0, meter
assert meter.stats()
assert measure(lambda: 7)() == 7
assert lithowatt.__version__ == importlib.metadata.version("lithowatt")
assert any(hasattr(finder, "lithowatt_hook") for finder in sys.meta_path), "no hook at the start"
print(lithowatt.__version__)
"""


def pep440(version: str) -> str:
    """Cargo's form of a version as Python writes it: ``0.2.0-dev.0`` is ``0.2.0.dev0``."""
    match = re.fullmatch(r"(\d+\.\d+\.\d+)(?:-(dev|alpha|beta|rc)\.?(\d+))?", version)
    if match is None:
        raise ValueError(
            f"expected a version like 1.2.3 or 1.2.3-rc.1 in Cargo.toml, got {version}"
        )
    number, kind, count = match.groups()
    if kind is None:
        return number
    return number + {"dev": ".dev", "alpha": "a", "beta": "b", "rc": "rc"}[kind] + count


def version_problems(top: Path, tag: str | None = None) -> list[str]:
    """What disagrees about the version between the files of the project and a tag."""
    cargo = toml.loads((top / "Cargo.toml").read_text())["package"]
    project = toml.loads((top / "pyproject.toml").read_text())["project"]
    locked = [
        package["version"]
        for package in toml.loads((top / "Cargo.lock").read_text())["package"]
        if package["name"] == cargo["name"]
    ]
    version = cargo["version"]
    problems = []
    if locked != [version]:
        problems.append(f"Cargo.lock: expected version {version} of Cargo.toml, got {locked}")
    if "version" not in project.get("dynamic", []) or "version" in project:
        problems.append("pyproject.toml: the version must be dynamic, so that it is Cargo.toml's")
    sections = re.findall(r"^## (\S+)(?: .*)?$", (top / "CHANGELOG.md").read_text(), re.M)
    newest = sections[0] if sections else None
    wanted = "Unreleased" if ".dev" in pep440(version) else pep440(version)
    if newest != wanted:
        problems.append(f"CHANGELOG.md: expected {wanted} as the newest section, got {newest}")
    if tag is not None and tag != f"v{pep440(version)}":
        problems.append(f"tag: expected v{pep440(version)}, got {tag}")
    if ".dev" not in pep440(version) and "Repository" not in project.get("urls", {}):
        problems.append("pyproject.toml: a release needs project.urls with Repository")
    return problems + python_problems(project)


def python_problems(project: dict[str, Any]) -> list[str]:
    """What disagrees about the versions of Python."""
    minimum = re.fullmatch(r">=3\.(\d+)", str(project["requires-python"]))
    if minimum is None:
        return [f"requires-python: expected >=3.N, got {project['requires-python']}"]
    classifiers = project["classifiers"]
    found = [
        int(match[1])
        for match in (
            re.fullmatch(r"Programming Language :: Python :: 3\.(\d+)", c) for c in classifiers
        )
        if match
    ]
    wanted = list(range(int(minimum[1]), max(found, default=0) + 1))
    if found != wanted:
        return [f"classifiers: expected Python 3.{minimum[1]} and up without a gap, got 3.{found}"]
    return []


def name_problems(names: Iterable[str], needs: Iterable[str]) -> list[str]:
    """What is missing in a list of files, and what should not be there."""
    present = set(names)
    problems = [f"missing: {name}" for name in needs if name not in present]
    unwanted = [n for n in sorted(present) if UNWANTED.search(n) and not RUST_TESTS.match(n)]
    return problems + [f"unwanted: {name}" for name in unwanted]


def size_problems(path: Path) -> list[str]:
    """Whether a file is larger than what is known of it."""
    most, size = MOST_BYTES[".whl" if path.suffix == ".whl" else ".gz"], path.stat().st_size
    return [] if size <= most else [f"size: expected at most {most} bytes, got {size}"]


def section_bytes(library: bytes, name: bytes) -> int:
    """Size of a section of a 64-bit little-endian ELF file; 0 where it is not there."""
    with contextlib.suppress(struct.error, IndexError):
        (table,) = struct.unpack_from("<Q", library, 0x28)
        size, count, of_names = struct.unpack_from("<HHH", library, 0x3A)
        # Name, type, flags, address, place, size.
        sections = [struct.unpack_from("<IIQQQQ", library, table + i * size) for i in range(count)]
        names = sections[of_names][4]
        for section in sections:
            if library.startswith(name + b"\0", names + section[0]):
                return int(section[5])
    return 0


def wheel_problems(path: Path, version: str) -> list[str]:
    """What is wrong with the contents, the metadata or the name of a wheel."""
    problems = size_problems(path)
    stem = f"lithowatt-{version}"
    if not re.fullmatch(
        rf"{re.escape(stem)}-cp310-abi3-(manylinux[\w.]*|musllinux_\d_\d)_(x86_64|aarch64)\.whl",
        path.name,
    ):
        problems.append(f"name: expected {stem}-cp310-abi3-manylinux...whl, got {path.name}")
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        needs = [stem + need if need.startswith(".") else need for need in WHEEL_NEEDS]
        problems += name_problems(names, needs)
        problems += [f"unwanted: {name}" for name in names if not WHEEL_TOP.match(name)]
        for file in archive.infolist():
            if not file.filename.endswith(".so"):
                continue
            if file.file_size > MOST_CORE_BYTES:
                wanted = f"at most {MOST_CORE_BYTES} bytes of {file.filename}"
                problems.append(f"size: expected {wanted}, got {file.file_size}")
            worker = section_bytes(archive.read(file), WORKER_CODE)
            if worker < LEAST_WORKER_BYTES:
                wanted = (
                    f"at least {LEAST_WORKER_BYTES} bytes in section .text.worker, see build.rs"
                )
                problems.append(f"{file.filename}: expected {wanted}; got {worker}")
        metadata = f"{stem}.dist-info/METADATA"
        if metadata not in names:
            return [*problems, f"missing: {metadata}"]
        said = email.message_from_string(archive.read(metadata).decode())
    for key, wanted in (("Version", version), ("License-Expression", "Apache-2.0")):
        if said[key] != wanted:
            problems.append(f"metadata: expected {key} {wanted}, got {said[key]}")
    return problems


def sdist_problems(path: Path, version: str) -> list[str]:
    """What is wrong with the contents of an sdist."""
    stem = f"lithowatt-{version}"
    problems = size_problems(path)
    with tarfile.open(path, "r:gz") as archive:
        names = archive.getnames()
    problems += [f"outside of {stem}/: {name}" for name in names if name.split("/")[0] != stem]
    inside = [name.removeprefix(f"{stem}/") for name in names]
    return problems + name_problems(inside, SDIST_NEEDS)


def run(*command: str | Path, cwd: Path | None = None) -> None:
    """Runs a command; its output is shown."""
    print("+", *command, flush=True)
    # What cargo has built of the dependencies serves the sdist, too.
    environment = {"CARGO_TARGET_DIR": str(TOP / "target"), "NO_COLOR": "1", **os.environ}
    subprocess.run([str(part) for part in command], check=True, cwd=cwd, env=environment)  # noqa: S603


def build(out: Path) -> None:
    """A wheel for this machine as `make wheel` builds it, and the sdist."""
    run("make", "--no-print-directory", "-C", TOP, "wheel", f"WHEELS={out}")
    run(Path(sys.executable).parent / "maturin", "sdist", "--out", out, cwd=TOP)


def smoke(artefact: Path) -> None:
    """Installs a wheel or an sdist in a new virtual environment and meters there."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        binaries = Path(folder, "bin")
        run(
            binaries / "python",
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            artefact,
        )
        # From another folder, so that nothing of this checkout is imported.
        run(binaries / "python", "-W", "error", "-c", SMOKE, cwd=Path(folder))
        run(binaries / "lithowatt", "run", "--", "true", cwd=Path(folder))
        run(binaries / "lithowatt", "doctor", "--json", cwd=Path(folder))


def elsewhere(wheel: Path) -> None:
    """Tries a wheel for another architecture or C library, by a Python that is emulated or built.

    What this machine does not allow is said, and is no failure: see ``tests/surroundings.sh``.
    """
    where = "musl" if "-musllinux_" in wheel.name else ""
    if not wheel.stem.endswith(platform.machine()):
        where = f"{where}-arm64" if where else "arm64"
    tests = ("tests/lithops/test_hook.py", "tests/source/test_counters.py")
    run(TOP / "tests/surroundings.sh", where, wheel, "--fast", "--", *tests)


def is_for_here(path: Path) -> bool:
    """Whether an sdist or a wheel can be installed by the Python that runs this."""
    musl = "-musllinux_" in path.name
    return path.suffix != ".whl" or (path.stem.endswith(platform.machine()) and not musl)


def main(arguments: list[str] | None = None) -> int:
    """Runs every check; 1 where one finds something."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--wheel", type=Path, action="append", default=[], help="instead of a build"
    )
    parser.add_argument("--sdist", type=Path, help="instead of a build")
    parser.add_argument("--tag", help="the tag that is being released, as v1.2.3")
    parser.add_argument("--no-install", action="store_true", help="look at the files alone")
    parser.add_argument(
        "--elsewhere",
        action="store_true",
        help="try wheels for musl and arm64, too: minutes for each, most of them emulated",
    )
    asked = parser.parse_args(arguments)
    wheels, sdists = asked.wheel, [asked.sdist] if asked.sdist else []
    version = pep440(toml.loads((TOP / "Cargo.toml").read_text())["package"]["version"])
    problems = version_problems(TOP, asked.tag)
    with tempfile.TemporaryDirectory() as folder:
        if asked.elsewhere and not wheels:
            print("release-check: no wheel for elsewhere, none tried")
        elif not wheels and not sdists:
            build(Path(folder))
            wheels, sdists = list(Path(folder).glob("*.whl")), list(Path(folder).glob("*.tar.gz"))
            if len(wheels) != 1 or len(sdists) != 1:
                problems.append(f"build: expected one wheel and one sdist, got {wheels + sdists}")
        whole = []
        for path in (*wheels, *sdists):
            check = wheel_problems if path in wheels else sdist_problems
            try:
                found = check(path, version)
                print(f"{path.name}: {path.stat().st_size} bytes, {len(found)} problems")
                whole.append(path.resolve())
            except DAMAGED as error:
                kind = "wheel (zip)" if path in wheels else "sdist (tar.gz)"
                found = [f"expected a whole {kind}, got: {error}"]
            problems += [f"{path.name}: {problem}" for problem in found]
        try:
            if whole:
                run(sys.executable, "-m", "twine", "check", "--strict", *whole)
            for path in whole if not asked.no_install else ():
                if is_for_here(path):
                    smoke(path)
                elif asked.elsewhere:
                    elsewhere(path)
        except subprocess.CalledProcessError as error:
            problems.append(f"exit code {error.returncode} of {shlex.join(error.cmd)}")
    for problem in problems:
        print("release-check:", problem, file=sys.stderr)
    print(f"release-check: {version}: {'FAILED' if problems else 'ready'}")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
