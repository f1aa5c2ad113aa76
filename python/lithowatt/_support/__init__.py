"""What every other package here may use and what uses none of them: files, settings, text.

What `import lithowatt` itself needs is here: each module of its own would make it dearer.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def attach(
    package: str, namespace: dict[str, object], homes: "Mapping[str, str]"
) -> "Callable[[str], object]":
    """The ``__getattr__`` of a package whose names live in other modules.

    Args:
        package: ``__name__`` of the package.
        namespace: ``globals()`` of the package: a name that was found is kept there.
        homes: The module of each name: below the package, or absolute. A name whose home is the
            empty string is a module of the package itself.
    """

    def find(name: str) -> object:
        home = homes.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if not home:
            return loaded(f"{package}.{name}")
        absolute = home.partition(".")[0] == package.partition(".")[0]
        value: object = getattr(loaded(home if absolute else f"{package}.{home}"), name)
        namespace[name] = value
        return value

    return find


def loaded(module: str) -> object:
    """The module of that name, as `importlib.import_module`, which alone takes a millisecond."""
    __import__(module)
    return sys.modules[module]


def own_extension(stem: str) -> str:
    """The file of an extension that this interpreter can load.

    A free-threaded Python has objects of another layout. It still finds a wheel's ``.abi3.so``
    (3.14 loads it, and what the loading comes to is a `SystemError`), where the wheel is on its
    path though no installer put it there: in a folder that several Pythons share, say.

    Args:
        stem: Its path without the suffix.

    Raises:
        ImportError: On a free-threaded Python that has no build of its own here.
    """
    shared = f"{stem}.abi3.so"
    if "t" not in sys.abiflags:
        return shared
    from _imp import extension_suffixes

    for suffix in extension_suffixes():
        own = stem + suffix
        if own != shared and os.path.exists(own):  # noqa: PTH110 - pathlib is one more import
            return own
    raise ImportError(
        f"this build of lithowatt is not for a free-threaded Python ({sys.version.split()[0]}): "
        "use Python 3.10 or later with a GIL, or build lithowatt with this one from its sources"
    )


#: Of the file's header (ELF, 64 bits): where a number is, and how many bytes it has.
_SEGMENTS, _SECTIONS = (32, 8), (40, 8)
_SEGMENT_SIZE, _SEGMENT_COUNT = (54, 2), (56, 2)
_SECTION_SIZE, _SECTION_COUNT = (58, 2), (60, 2)
_HEADER = 64
#: Of a segment's header: its type, of which 1 is loaded, its place and its length in the file.
_TYPE, _PLACE, _LENGTH = (0, 4), (8, 8), (32, 8)
_LOADED = 1


def extension_fault(extension: str) -> str | None:
    """Why this extension cannot be loaded, ``None`` where nothing speaks against it.

    A copy that was interrupted (a full disk, a killed pip, an image layer cut short) leaves an
    extension that the dynamic loader maps and then reads beyond its end: the kernel ends the
    process with SIGBUS, which nothing in Python can catch. So its length is looked at before it is
    loaded.

    Args:
        extension: Its path. One that is not there, or of another kind, is left to the import.
    """
    try:
        with open(extension, "rb") as file:  # noqa: PTH123 - pathlib is one more import
            size = os.fstat(file.fileno()).st_size
            head = file.read(4096)
    except OSError:
        return None
    if size >= _HEADER and (head[:4] != b"\x7fELF" or head[4] != 2 or head[5] != 1):
        return None
    needed = _HEADER if size < _HEADER else _end(head)
    if size >= needed:
        return None
    return f"{extension} is cut short: {size} of at least {needed} bytes"


def _end(head: bytes) -> int:
    """The length according to the headers at the beginning of a file."""

    def number(of: tuple[int, int], start: int = 0) -> int:
        at, count = of
        return int.from_bytes(head[start + at : start + at + count], "little")

    ends = [number(_SECTIONS) + number(_SECTION_SIZE) * number(_SECTION_COUNT)]
    for index in range(number(_SEGMENT_COUNT)):
        segment = number(_SEGMENTS) + index * number(_SEGMENT_SIZE)
        if number(_TYPE, segment) == _LOADED:
            ends.append(number(_PLACE, segment) + number(_LENGTH, segment))
    return max(ends)
