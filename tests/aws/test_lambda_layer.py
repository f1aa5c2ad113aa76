"""The Lambda layer's zip: what is in it, and which wheels make none."""

from __future__ import annotations

import hashlib
import marshal
import platform
import subprocess
import sys
import zipfile
from pathlib import Path
from types import CodeType, SimpleNamespace

import pytest

from lithowatt.cli import main
from lithowatt.lithops import _layer
from lithowatt.lithops._layer import (
    LAYER_LIMIT,
    LayerError,
    build_layer,
    elf_architecture,
    glibc_needed,
)
from tests.support.wheels import ANY_GLIBC, built_wheel, pack_wheel

pytestmark = pytest.mark.slow

ARCHITECTURE = {"x86_64": "x86_64", "aarch64": "arm64"}.get(platform.machine(), "x86_64")
OTHER = {"x86_64": "arm64", "arm64": "x86_64"}[ARCHITECTURE]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_wheel(tmp_path_factory.mktemp("wheel"))


def build(tmp_path: Path, wheel: Path, name: str = "layer.zip"):
    return build_layer(tmp_path / name, wheel, architecture=ARCHITECTURE, glibc=ANY_GLIBC)


def test_the_layer_is_a_site_directory_with_the_hook(wheel, tmp_path):
    layer = build(tmp_path, wheel)
    with zipfile.ZipFile(layer.path) as archive:
        names = set(archive.namelist())

    assert {"python/lithowatt/__init__.py", "python/lithowatt-hook.pth"} <= names
    assert "python/lithowatt-hook.start" in names
    assert "python/_lithowatt_hook.py" in names
    assert all(name.startswith("python/") for name in names)
    assert not any("numpy" in name or "RECORD" in name for name in names)
    assert layer.size == layer.path.stat().st_size <= LAYER_LIMIT
    assert layer.sha256 == hashlib.sha256(layer.path.read_bytes()).hexdigest()


def test_the_same_wheel_gives_the_same_bytes(wheel, tmp_path):
    # The order in which a wheel has its files does not matter.
    reversed_wheel = tmp_path / wheel.name
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(reversed_wheel, "w") as new:
        for name in reversed(old.namelist()):
            new.writestr(name, old.read(name))

    first = build(tmp_path, wheel).sha256
    assert build(tmp_path, reversed_wheel, "2.zip").sha256 == first
    # Nor what the process that builds it has loaded.
    code = (
        "import sys; from lithowatt.lithops import build_layer\n"
        "print(build_layer(*sys.argv[1:3], architecture=sys.argv[3], glibc=(99, 0)).sha256)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "3.zip"), str(wheel), ARCHITECTURE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == first, done.stderr


def test_nothing_is_compiled_when_a_sandbox_starts(wheel, tmp_path):
    layer = build(tmp_path, wheel)
    with zipfile.ZipFile(layer.path) as archive:
        archive.extractall(tmp_path / "opt")
    # A bytecode file of this kind is taken whatever the source says.
    for source in (tmp_path / "opt/python").rglob("*.py"):
        source.write_text("no Python at all")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from lithowatt import EnergyMeter\n"
        "with EnergyMeter() as meter: pass\n"
        "print(type(meter.stats()))"
    )
    command = [sys.executable, "-I", "-S", "-c", code, str(tmp_path / "opt" / "python")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert (done.returncode, done.stdout) == (0, "<class 'dict'>\n"), done.stderr


def _dumps_from(oldest: int) -> SimpleNamespace:
    """The module `marshal` of a Python whose bytecode takes that format at least."""

    def dumps(value: object, version: int = marshal.version) -> bytes:
        if version < oldest:
            raise ValueError("unmarshallable object")
        return marshal.dumps(value, version)

    return SimpleNamespace(version=marshal.version, dumps=dumps, loads=marshal.loads)


def test_bytecode_that_takes_a_newer_format(wheel, tmp_path, monkeypatch):
    # So it is since Python 3.14, where a slice may be a constant.
    monkeypatch.setattr(_layer, "marshal", _dumps_from(3))
    layer = build(tmp_path, wheel)
    kept = [compile("x = [1, 2, 3, 'word'][0]", "<unrelated>", "exec")]
    assert build(tmp_path, wheel, "2.zip").sha256 == layer.sha256, kept
    with zipfile.ZipFile(layer.path) as archive:
        compiled = [name for name in archive.namelist() if name.endswith(".pyc")]
        assert compiled
        for name in compiled:
            assert isinstance(marshal.loads(archive.read(name)[16:]), CodeType)


def test_without_bytecode_where_no_format_can_write_it(wheel, tmp_path, monkeypatch):
    monkeypatch.setattr(_layer, "marshal", _dumps_from(99))
    layer = build(tmp_path, wheel)
    with zipfile.ZipFile(layer.path) as archive:
        names = archive.namelist()
    assert "python/lithowatt/__init__.py" in names
    assert not any(name.endswith(".pyc") for name in names)


def test_python_meters_from_the_unpacked_layer_without_numpy(wheel, tmp_path):
    layer = build(tmp_path, wheel)
    with zipfile.ZipFile(layer.path) as archive:
        archive.extractall(tmp_path / "opt")
    code = (
        "import site, sys; site.addsitedir(sys.argv[1]); import _lithowatt_hook as hook\n"
        "assert hook.installed()\n"
        "from lithowatt import EnergyMeter\n"
        "with EnergyMeter() as meter: sum(range(100000))\n"
        "assert meter.joules > 0 and meter.stats()\n"
        "sys.modules['numpy'] = None\n"
        "try: meter.timeline()\n"
        "except ImportError: print('no timeline', 'numpy' in sys.modules)\n"
    )
    # Isolated and without site-packages: there is only the layer.
    command = [sys.executable, "-I", "-S", "-c", code, str(tmp_path / "opt" / "python")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert (done.returncode, done.stdout) == (0, "no timeline True\n"), done.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": OTHER}, f"is for {ARCHITECTURE}"),
        ({"architecture": "sparc"}, "sparc"),
        ({"glibc": (2, 3)}, "needs glibc 2"),
    ],
)
def test_a_wheel_that_lambda_would_not_load_is_refused(wheel, tmp_path, change, message):
    settings = {"architecture": ARCHITECTURE, "glibc": ANY_GLIBC, **change}
    with pytest.raises(LayerError, match=message):
        build_layer(tmp_path / "layer.zip", wheel, **settings)
    assert list(tmp_path.iterdir()) == []


def test_a_wheel_for_musl_is_refused(wheel, tmp_path):
    musl = tmp_path / "lithowatt.whl"
    musl.write_bytes(wheel.read_bytes())
    with zipfile.ZipFile(musl, "a") as archive:
        archive.writestr("lithowatt-1.dist-info/WHEEL", "Tag: cp310-abi3-musllinux_1_2_x86_64\n")
    with pytest.raises(LayerError, match=r"is for musl.*give a manylinux2014_"):
        build_layer(tmp_path / "layer.zip", musl, architecture=ARCHITECTURE, glibc=ANY_GLIBC)


def test_a_wheel_for_the_other_architecture_makes_its_layer(wheel, tmp_path):
    machine = {"x86_64": 62, "arm64": 183}[OTHER].to_bytes(2, "little")
    other = tmp_path / wheel.name
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(other, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith(".so"):
                content = content[:18] + machine + content[20:]
            new.writestr(name, content)

    layer = build_layer(tmp_path / "layer.zip", other, architecture=OTHER, glibc=ANY_GLIBC)
    assert layer.architecture == OTHER


def test_a_wheel_that_pip_does_not_find_is_said_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)

    with pytest.raises(LayerError, match=r"pip has no manylinux2014_aarch64 wheel.*--wheel"):
        build_layer(tmp_path / "layer.zip", architecture="arm64")
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_what_it_built_or_why_not(wheel, tmp_path, capsys):
    output = tmp_path / "layer.zip"
    command = ["lithops", "layer", str(output), "--wheel", str(wheel)]
    command += ["--architecture", ARCHITECTURE]

    assert main([*command, "--glibc", "99.0"]) == 0
    out = capsys.readouterr().out
    assert hashlib.sha256(output.read_bytes()).hexdigest() in out
    assert main([*command, "--glibc", "2.3"]) == 2
    assert "needs glibc" in capsys.readouterr().err
    assert main(["lithops", "layer", str(output), "--wheel", str(tmp_path / "none.whl")]) == 2
    with pytest.raises(SystemExit):
        main([*command, "--glibc", "new"])


def test_what_is_no_wheel_of_lithowatt_is_refused(tmp_path):
    text = tmp_path / "text.whl"
    text.write_text("no zip")
    other = tmp_path / "other.whl"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("numpy/__init__.py", "")
    pure = tmp_path / "lithowatt-0-py3-none-any.whl"
    with zipfile.ZipFile(pure, "w") as archive:
        archive.writestr("lithowatt/__init__.py", "")

    for path, message in ((text, "is no wheel"), (other, "no wheel of"), (pure, "no extension")):
        with pytest.raises(LayerError, match=message):
            build_layer(tmp_path / "layer.zip", path)
    with pytest.raises(FileNotFoundError):
        build_layer(tmp_path / "layer.zip", tmp_path / "none.whl")
    assert not (tmp_path / "layer.zip").exists()


def test_an_output_that_is_there_stays_when_building_fails(wheel, tmp_path):
    output = tmp_path / "layer.zip"
    output.write_bytes(b"the old one")
    with pytest.raises(LayerError):
        build_layer(output, wheel, architecture=ARCHITECTURE, glibc=(2, 3))

    assert output.read_bytes() == b"the old one"
    assert build(tmp_path, wheel).path.read_bytes()[:2] == b"PK"


def test_the_elf_header_and_its_symbol_versions_are_read():
    content = b"\x7fELF\x02\x01" + bytes(12) + (183).to_bytes(2, "little")
    strings = b"\0GLIBC_2.2.5\0GLIBC_2.17\0GLIBC_2.4\0GLIBC_PRIVATE\0"

    assert elf_architecture(content) == "arm64"
    assert elf_architecture(b"\x7fELF\x01" + bytes(20)) is None
    assert elf_architecture(b"MZ") is None
    assert glibc_needed(content + strings) == (2, 17)
    assert glibc_needed(content) == (0, 0)


def test_the_wheel_for_release_needs_no_glibc_after_2_17(tmp_path):
    wheel = built_wheel()
    if wheel is None:
        pytest.skip("no manylinux2014 wheel of this machine in dist: make wheel builds one")

    layer = build_layer(tmp_path / "layer.zip", wheel, architecture=ARCHITECTURE)
    assert (2, 0) < layer.glibc <= (2, 17)
    assert layer.size <= LAYER_LIMIT
