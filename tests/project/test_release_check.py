"""What `make release-check` finds wrong with versions and with the contents of wheel and sdist."""

from __future__ import annotations

import importlib.util
import io
import re
import shutil
import struct
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from tests.support import TOP


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, TOP / "tools" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


release_check = tool("release_check")
VERSION = "1.2.3"
STEM = f"lithowatt-{VERSION}"


def core_with(section: bytes, size: int) -> bytes:
    """A library of two sections: one of this name and size, and the names."""
    names = b"\0" + section + b"\0"
    header = bytearray(64)
    struct.pack_into("<Q", header, 0x28, 64 + len(names))
    struct.pack_into("<HHH", header, 0x3A, 64, 2, 1)
    headers = b"".join(
        struct.pack("<IIQQQQ24x", *of)
        for of in ((1, 1, 0, 0, 0, size), (0, 3, 0, 0, 64, len(names)))
    )
    return bytes(header) + names + headers


#: What a core has that was linked with its worker's functions side by side.
CORE = core_with(release_check.WORKER_CODE, release_check.LEAST_WORKER_BYTES)


def wheel(
    folder: Path,
    *,
    without: str = "",
    extra: str = "",
    version: str = VERSION,
    core: bytes = CORE,
) -> Path:
    path = folder / f"{STEM}-cp310-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
    with zipfile.ZipFile(path, "w") as archive:
        names = [STEM + n if n.startswith(".") else n for n in release_check.WHEEL_NEEDS]
        for name in [n for n in (*names, extra) if n and n != without]:
            archive.writestr(name, core if name.endswith(".so") else b"")
        archive.writestr(
            f"{STEM}.dist-info/METADATA",
            f"Metadata-Version: 2.4\nName: lithowatt\nVersion: {version}\n"
            "License-Expression: Apache-2.0\n",
        )
    return path


def test_a_complete_wheel_has_no_problem(tmp_path: Path) -> None:
    assert release_check.wheel_problems(wheel(tmp_path), VERSION) == []


@pytest.mark.parametrize(
    "name",
    ["lithowatt/py.typed", f"{STEM}.data/platlib/lithowatt-hook.pth"],
)
def test_what_a_wheel_lacks(tmp_path: Path, name: str) -> None:
    assert release_check.wheel_problems(wheel(tmp_path, without=name), VERSION) == [
        f"missing: {name}"
    ]


@pytest.mark.parametrize("name", ["tests/top/test_top.py", "rig.py", "lithowatt/tests/data.csv"])
def test_what_a_wheel_should_not_have(tmp_path: Path, name: str) -> None:
    problems = release_check.wheel_problems(wheel(tmp_path, extra=name), VERSION)
    assert set(problems) == {f"unwanted: {name}"}


def test_a_wheel_of_another_version(tmp_path: Path) -> None:
    problems = release_check.wheel_problems(wheel(tmp_path, version="1.2.2"), VERSION)
    assert problems == ["metadata: expected Version 1.2.3, got 1.2.2"]


def test_a_wheel_for_this_machine_alone(tmp_path: Path) -> None:
    path = wheel(tmp_path).rename(tmp_path / f"{STEM}-cp310-abi3-linux_x86_64.whl")
    [problem] = release_check.wheel_problems(path, VERSION)
    assert problem.startswith("name: expected")


def test_a_wheel_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(release_check.MOST_BYTES, ".whl", 100)
    [problem] = release_check.wheel_problems(wheel(tmp_path), VERSION)
    assert problem.startswith("size: expected at most 100 bytes")


def test_a_core_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release_check, "MOST_CORE_BYTES", -1)
    [problem] = release_check.wheel_problems(wheel(tmp_path), VERSION)
    wanted = "size: expected at most -1 bytes of lithowatt/_core.abi3.so"
    assert problem == f"{wanted}, got {len(CORE)}"


@pytest.mark.parametrize(
    ("core", "found"),
    [
        (core_with(release_check.WORKER_CODE, 38_472), 38_472),  # a compiler with other names
        (core_with(b".text", 3_000_000), 0),
        (CORE[:70], 0),
        (b"", 0),
    ],
)
def test_a_core_whose_functions_lie_anywhere(tmp_path: Path, core: bytes, found: int) -> None:
    [problem] = release_check.wheel_problems(wheel(tmp_path, core=core), VERSION)
    wanted = "at least 400000 bytes in section .text.worker, see build.rs"
    assert problem == f"lithowatt/_core.abi3.so: expected {wanted}; got {found}"


def test_what_an_sdist_lacks_and_should_not_have(tmp_path: Path) -> None:
    path = tmp_path / f"{STEM}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        names = [f"{STEM}/{n}" for n in release_check.SDIST_NEEDS if n != "Cargo.lock"]
        left = [".venv/lib/README.md", "src/a/tests/b.rs", "target/debug/x", "tests/rig/README.md"]
        for name in (*names, *(f"{STEM}/{name}" for name in left), "elsewhere"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    assert release_check.sdist_problems(path, VERSION) == [
        f"outside of {STEM}/: elsewhere",
        "missing: Cargo.lock",
        "unwanted: .venv/lib/README.md",
        "unwanted: target/debug/x",
        "unwanted: tests/rig/README.md",
    ]


JUNK = {
    "empty": b"",
    "text": b"not a zip\n",
    "cut": b"",  # the first half of a whole one, see below
    "missing": None,
}


@pytest.mark.parametrize("option", ["--wheel", "--sdist"])
@pytest.mark.parametrize("kind", JUNK)
def test_a_file_that_is_no_wheel_or_sdist_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, option: str
) -> None:
    path = wheel(tmp_path)
    content = JUNK[kind]
    if option == "--sdist":
        path = tmp_path / f"{STEM}.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            archive.addfile(tarfile.TarInfo(f"{STEM}/PKG-INFO"), io.BytesIO())
    if kind == "cut":
        content = path.read_bytes()[: path.stat().st_size // 2]
    if content is None:
        path.unlink(missing_ok=True)
    else:
        path.write_bytes(content)
    assert release_check.main([option, str(path), "--no-install"]) == 1
    told = capsys.readouterr()
    assert f"release-check: {path.name}: expected a whole " in told.err
    assert "FAILED" in told.out


def test_without_a_wheel_for_elsewhere_the_rest_is_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"{STEM}.tar.gz"
    path.write_bytes(b"")
    command = ["--elsewhere", "--no-install", "--tag", "v0.0.1"]
    assert release_check.main(command) == 1
    assert "tag: expected v" in capsys.readouterr().err
    assert release_check.main([*command, "--sdist", str(path)]) == 1
    told = capsys.readouterr()
    assert "tag: expected v" in told.err and f"{path.name}: expected a whole sdist" in told.err
    # Neither is built.
    assert "none tried" in told.out and "make" not in told.out


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("Cargo.toml", "Cargo.lock", "pyproject.toml", "CHANGELOG.md"):
        shutil.copy(TOP / name, tmp_path)
    return tmp_path


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def set_version(path: Path, version: str) -> None:
    """In Cargo.toml or Cargo.lock, where the version follows the name."""
    text, count = re.subn(
        r'(name = "lithowatt"\nversion = )".*"', rf'\1"{version}"', path.read_text()
    )
    assert count == 1
    path.write_text(text)


def test_the_versions_of_this_checkout_agree(project: Path) -> None:
    assert release_check.version_problems(project) == []


def test_a_release_needs_its_section_and_its_address(project: Path) -> None:
    set_version(project / "Cargo.toml", "9.8.7")
    set_version(project / "Cargo.lock", "9.8.7")
    problems = release_check.version_problems(project, "v9.8.6")
    assert problems[:2] == [
        "CHANGELOG.md: expected 9.8.7 as the newest section, got Unreleased",
        "tag: expected v9.8.7, got v9.8.6",
    ]
    with (project / "pyproject.toml").open("a") as file:
        file.write('\n[project.urls]\nRepository = "https://example.com/lithowatt"\n')
    replace(project / "CHANGELOG.md", "## Unreleased", "## 9.8.7 (2026-12-01)")
    assert release_check.version_problems(project, "v9.8.7") == []


def test_a_lock_of_another_version(project: Path) -> None:
    set_version(project / "Cargo.lock", "0.0.1")
    [problem] = release_check.version_problems(project)
    assert problem.startswith("Cargo.lock: expected version")


def test_a_version_of_python_that_is_left_out(project: Path) -> None:
    replace(project / "pyproject.toml", '    "Programming Language :: Python :: 3.12",\n', "")
    [problem] = release_check.version_problems(project)
    assert problem.startswith("classifiers: expected Python 3.10 and up without a gap")


def test_versions_as_python_writes_them() -> None:
    pep440 = release_check.pep440
    assert [pep440(v) for v in ("1.2.3", "0.2.0-dev.0", "1.0.0-rc.1", "1.0.0-beta2")] == [
        "1.2.3",
        "0.2.0.dev0",
        "1.0.0rc1",
        "1.0.0b2",
    ]
    with pytest.raises(ValueError, match="expected a version like"):
        pep440("1.2")


@pytest.mark.parametrize(
    ("platform_tag", "here"),
    [
        ("manylinux_2_17_x86_64.manylinux2014_x86_64", True),
        ("manylinux_2_17_aarch64.manylinux2014_aarch64", False),
        ("musllinux_1_2_x86_64", False),
        ("musllinux_1_2_aarch64", False),
    ],
)
def test_wheels_of_every_platform_and_the_one_that_is_tried_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform_tag: str, here: bool
) -> None:
    monkeypatch.setattr(release_check.platform, "machine", lambda: "x86_64")
    path = wheel(tmp_path).rename(tmp_path / f"{STEM}-cp310-abi3-{platform_tag}.whl")
    assert release_check.wheel_problems(path, VERSION) == []
    assert release_check.is_for_here(path) is here


@pytest.mark.parametrize(
    ("platform_tag", "where"),
    [
        ("manylinux2014_aarch64", "arm64"),
        ("musllinux_1_2_x86_64", "musl"),
        ("musllinux_1_2_aarch64", "musl-arm64"),
    ],
)
def test_where_the_wheels_for_elsewhere_are_tried(
    monkeypatch: pytest.MonkeyPatch, platform_tag: str, where: str
) -> None:
    monkeypatch.setattr(release_check.platform, "machine", lambda: "x86_64")
    commands: list[tuple[object, ...]] = []
    monkeypatch.setattr(release_check, "run", lambda *command: commands.append(command))
    path = Path(f"{STEM}-cp310-abi3-{platform_tag}.whl")
    release_check.elsewhere(path)
    [(program, place, tried, *_)] = commands
    assert (Path(str(program)).name, place, tried) == ("surroundings.sh", where, path)
