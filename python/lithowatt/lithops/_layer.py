"""The AWS Lambda layer: a zip that any managed Python runtime loads lithowatt from.

Lambda puts a layer's `python/` on `sys.path` as a site directory, so the `.pth`
in it is executed when a sandbox starts and the hook is there before the handler
of Lithops is imported.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import io
import marshal
import os
import re
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lithowatt._support.files import write_atomically
from lithowatt.errors import LithowattError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType

    StrPath = str | os.PathLike[str]

__all__ = ["GLIBC_LIMIT", "LAYER_LIMIT", "Layer", "LayerError", "build_layer", "wheel_files"]

#: Bytes that a layer of ours may have. AWS takes 50 MB in one request and 250 MB
#: unpacked, function included:
#: <https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html>.
LAYER_LIMIT = 5 * 1024 * 1024

#: The newest glibc whose symbols the extension may need: manylinux2014's
#: (<https://peps.python.org/pep-0599/>). The runtimes for Python 3.10 and 3.11
#: have glibc 2.26, those from 3.12 on 2.34.
GLIBC_LIMIT = (2, 17)

#: Runtimes that the abi3 extension loads in, as AWS names them.
RUNTIMES = ("python3.10", "python3.11", "python3.12", "python3.13", "python3.14")

#: ELF machine numbers (e_machine), and AWS' names of the architectures.
_MACHINES = {62: "x86_64", 183: "arm64"}
_PLATFORMS = {"x86_64": "manylinux2014_x86_64", "arm64": "manylinux2014_aarch64"}

_EPOCH = (1980, 1, 1, 0, 0, 0)


class LayerError(LithowattError, ValueError):
    """A wheel that no layer can be made of, or one that could not be had."""


class Layer(NamedTuple):
    """A layer that was built.

    Attributes:
        path: The zip.
        size: Its bytes.
        sha256: Of the zip; the same wheel gives the same zip.
        architecture: `x86_64` or `arm64`, the extension's.
        glibc: The newest glibc whose symbols the extension needs.
        version: Of lithowatt.
    """

    path: Path
    size: int
    sha256: str
    architecture: str
    glibc: tuple[int, int]
    version: str


def build_layer(
    output: StrPath,
    wheel: StrPath | None = None,
    *,
    architecture: str = "x86_64",
    glibc: tuple[int, int] = GLIBC_LIMIT,
) -> Layer:
    """Builds the layer's zip, byte for byte the same for the same wheel and Python.

    It is for every Python from 3.10 on; a runtime of the one that builds it starts some 12 ms
    sooner, because its bytecode is inside. Lithops wants client and workers to have the same.

    NumPy is left out: only `EnergyMeter.timeline()` needs it, which raises an
    `ImportError` where it is not; in a Lithops runtime it comes with Lithops' own
    layer.

    Args:
        output: The zip to write. A file that is there is replaced, whole.
        wheel: A wheel of lithowatt; by default pip downloads the one of this version.
        architecture: `x86_64` or `arm64`.
        glibc: The newest glibc whose symbols the extension may need.

    Raises:
        LayerError: A wheel for another architecture, one that needs a newer glibc,
            a zip above `LAYER_LIMIT`, or a wheel that pip does not find.
        OSError: A wheel that cannot be read, an output that cannot be written.

    Example:
        >>> build_layer("layer.zip", "dist/lithowatt-0.2.0-….whl").architecture  # doctest: +SKIP
        'x86_64'
    """
    from lithowatt._support.architectures import normalise_architecture

    try:
        architecture = normalise_architecture(architecture)
    except ValueError as error:
        raise LayerError(str(error)) from None
    if wheel is None:
        with tempfile.TemporaryDirectory() as folder:
            return _build(Path(output), _download(architecture, Path(folder)), architecture, glibc)
    return _build(Path(output), Path(wheel), architecture, glibc)


def _build(output: Path, wheel: Path, architecture: str, glibc: tuple[int, int]) -> Layer:
    files = dict(wheel_files(wheel))
    files |= _bytecode(files)
    found, needed = _check_extension(wheel, files, glibc)
    # Without glibc's symbols it would pass as one for any glibc.
    if any(b"-musllinux" in c for n, c in files.items() if n.endswith(".dist-info/WHEEL")):
        raise LayerError(
            f"{wheel.name} is for musl, and Lambda's runtimes have glibc: "
            f"give a {_PLATFORMS[architecture]} wheel"
        )
    if found != architecture:
        raise LayerError(
            f"{wheel.name} is for {found}, the layer for {architecture}: "
            f"give a {_PLATFORMS[architecture]} wheel or another architecture"
        )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as layer:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(f"python/{name}", _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            # Lambda runs functions as another user than the one who unpacks.
            entry.external_attr = (0o100755 if name.endswith(".so") else 0o100644) << 16
            entry.create_system = 3
            layer.writestr(entry, content)
    content = buffer.getvalue()
    if len(content) > LAYER_LIMIT:
        raise LayerError(f"the layer has {len(content)} bytes, more than {LAYER_LIMIT}")
    write_atomically(output, content)
    digest = hashlib.sha256(content).hexdigest()
    return Layer(output, len(content), digest, found, needed, _version(wheel))


def wheel_files(wheel: StrPath) -> Iterator[tuple[str, bytes]]:
    """What a wheel of lithowatt puts into site-packages, but for its bills of materials.

    Raises:
        LayerError: It is not a wheel of lithowatt.
        OSError: It cannot be read.
    """
    path = Path(wheel)
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise LayerError(f"{path} is no wheel: {error}") from None
    with archive:
        names = archive.namelist()
        if "lithowatt/__init__.py" not in names:
            raise LayerError(f"{path} is no wheel of lithowatt: it has no lithowatt/__init__.py")
        for name in names:
            # RECORD is of the wheel's own layout; the layer has another.
            skip = name.endswith(("/", ".dist-info/RECORD")) or ".dist-info/sboms/" in name
            data = re.fullmatch(r"[^/]+\.data/(\w+)/(.+)", name)
            if skip or (data is not None and data[1] not in ("platlib", "purelib")):
                continue
            yield (name if data is None else data[2]), archive.read(name)


def _bytecode(files: dict[str, bytes]) -> dict[str, bytes]:
    """What this Python would write to `__pycache__`, which Lambda does not let it do.

    A cold start then compiles nothing (it saves some 12 ms). Another Python compiles.
    """
    tag = sys.implementation.cache_tag
    compiled = {}
    for name, source in files.items():
        if not name.endswith(".py"):
            continue
        folder, _, module = name.rpartition("/")
        code = compile(source, f"/opt/python/{name}", "exec", dont_inherit=True, optimize=0)
        content = _marshalled(code)
        if content is None:
            continue
        # Flags 1: by the hash of the source, which is not checked (PEP 552).
        header = importlib.util.MAGIC_NUMBER + struct.pack("<I", 1)
        header += importlib.util.source_hash(source)
        path = "/".join(filter(None, (folder, "__pycache__", f"{module[:-3]}.{tag}.pyc")))
        compiled[path] = header + content
    return compiled


def _marshalled(code: CodeType) -> bytes | None:
    """A module's bytecode as `import` reads it; None where no format can write it, so that the
    module is compiled where it is imported.

    The oldest format that can is taken. Format 2 has no references; the newer ones write more or
    fewer of them as there are other objects alive in this process, so the same wheel would not
    give the same zip. Since Python 3.14 a slice may be a constant, which takes format 5. There the
    code is read back once: its objects are then shared with nothing else.
    """
    for version in range(2, marshal.version + 1):
        with contextlib.suppress(ValueError):
            content = marshal.dumps(code, version)
            # Written by this process a line above.
            return content if version == 2 else marshal.dumps(marshal.loads(content), version)  # noqa: S302
    return None


def _check_extension(
    wheel: Path, files: dict[str, bytes], limit: tuple[int, int]
) -> tuple[str, tuple[int, int]]:
    extensions = {n: c for n, c in files.items() if n.startswith("lithowatt/") and ".so" in n}
    if not extensions:
        raise LayerError(f"{wheel.name} has no extension for Linux (a .so below lithowatt/)")
    architecture = ""
    newest = (0, 0)
    for name, content in extensions.items():
        architecture = elf_architecture(content) or ""
        if not architecture:
            raise LayerError(f"{wheel.name}: {name} is neither x86_64 nor arm64 ELF")
        newest = max(newest, glibc_needed(content))
    if newest > limit:
        raise LayerError(
            f"{wheel.name} needs glibc {newest[0]}.{newest[1]}, more than {limit[0]}.{limit[1]}: "
            "build it with maturin build --release --zig --compatibility manylinux2014"
        )
    return architecture, newest


def check_wheel(wheel: StrPath, architecture: str | None = None) -> None:
    """Refuses what is no wheel of lithowatt, or one whose extension is for another architecture.

    Args:
        wheel: The file.
        architecture: `x86_64` or `arm64`; `None`: pip will find out.

    Raises:
        LayerError: As described.
        OSError: It cannot be read.
    """
    path = Path(wheel)
    files = dict(wheel_files(path))
    if architecture is None:
        return
    # Which glibc it may need is the image's matter, whose build fails by the wheel's tag.
    found, _ = _check_extension(path, files, (sys.maxsize, 0))
    if found != architecture:
        raise LayerError(
            f"{path.name} is for {found}, not {architecture}: give a {_PLATFORMS[architecture]} "
            f"wheel or --architecture {found}"
        )


def elf_architecture(content: bytes) -> str | None:
    """`x86_64` or `arm64` of a 64-bit little-endian ELF file, `None` for any other."""
    if content[:6] != b"\x7fELF\x02\x01" or len(content) < 20:
        return None
    return _MACHINES.get(struct.unpack_from("<H", content, 18)[0])


def glibc_needed(content: bytes) -> tuple[int, int]:
    """The newest glibc version that an ELF file's symbol versions name, (0, 0) without one."""
    # Versions needed are strings of .dynstr, each with a zero before and after.
    found = re.findall(rb"\0GLIBC_(\d+)\.(\d+)(?:\.\d+)?(?=\0)", content)
    return max(((int(major), int(minor)) for major, minor in found), default=(0, 0))


def _version(wheel: Path) -> str:
    parts = wheel.name.split("-")
    return parts[1] if len(parts) > 2 else "unknown"


def _download(architecture: str, folder: Path) -> Path:
    """The wheel of this version, by pip."""
    from lithowatt import __version__

    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--platform", _PLATFORMS[architecture]]
    command += ["--python-version", "3.10", "--dest", str(folder), f"lithowatt=={__version__}"]
    done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603 - pip, no shell
    wheels = sorted(folder.glob("lithowatt-*.whl"))
    if done.returncode != 0 or not wheels:
        lines = done.stderr.strip().splitlines()
        why = lines[-1] if lines else f"exit code {done.returncode}"
        raise LayerError(
            f"pip has no {_PLATFORMS[architecture]} wheel of lithowatt {__version__} ({why}): "
            "give one with --wheel"
        )
    return wheels[0]


def add_cli(commands: Any) -> None:
    """Adds `layer` to the commands below `lithowatt lithops`."""
    layer = commands.add_parser(
        "layer",
        help="build the AWS Lambda layer",
        description="Writes the zip of a Lambda layer that carries the meter. It is for every "
        "Python from 3.10 on, starts soonest in the one that builds it, and is the same for the "
        "same wheel and Python.",
    )
    layer.add_argument("output", help="the zip to write")
    layer.add_argument("--wheel", help="a manylinux2014 wheel (default: pip downloads it)")
    layer.add_argument("--architecture", default="x86_64", help="x86_64 or arm64 (%(default)s)")
    layer.add_argument(
        "--glibc",
        type=_glibc,
        default=GLIBC_LIMIT,
        metavar="2.17",
        help="the newest glibc that the wheel may need (2.17; Python 3.12 and later have 2.34)",
    )
    layer.set_defaults(func=_main)


def _glibc(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)\.(\d+)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not like 2.17")
    return int(match[1]), int(match[2])


def _main(arguments: argparse.Namespace) -> int:
    layer = build_layer(
        arguments.output,
        arguments.wheel,
        architecture=arguments.architecture,
        glibc=arguments.glibc,
    )
    print(
        f"{layer.path}: lithowatt {layer.version}, {layer.architecture}, {layer.size} bytes, "
        f"glibc {layer.glibc[0]}.{layer.glibc[1]} or later, sha256 {layer.sha256}"
    )
    return 0
