"""The public API is the one that is written down in `tests/api/public_api.txt`."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tests.support import TOP


def _tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("public_api", TOP / "tools" / "public_api.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


public_api = _tool()


def test_the_public_api_is_the_one_that_is_written_down() -> None:
    found = public_api.difference()
    assert not found, f"the public API has changed; if this is meant: make api\n{found}"


def test_the_list_has_every_public_name_that_a_program_sees() -> None:
    lines = str(public_api.public_api()).splitlines()
    listed = {line.split("(")[0].split(":")[0].split(" ")[-1] for line in lines}
    # `a = b` is listed by its first name.
    listed |= {line.split(" ")[0] for line in lines if " = " in line}
    for name in public_api.public_modules():
        if public_api.exported(name) and name != "lithowatt.flexecutor":
            module = importlib.import_module(name)
            assert {f"{name}.{each}" for each in module.__all__} <= listed


@pytest.mark.slow
def test_what_a_public_name_gives_has_a_public_name() -> None:
    assert public_api.unexported() == [], "export these classes (`__all__`)"


@pytest.mark.slow
def test_what_a_public_name_raises_has_a_public_name() -> None:
    assert public_api.unexported_raised() == [], "export these exceptions (`__all__`)"


PACKAGE = {
    "lithowatt/__init__.py": """
        TYPE_CHECKING = False
        if TYPE_CHECKING:
            from lithowatt._core import Core
            from lithowatt._inner import Public, SIZE
        __all__ = ["Core", "Public", "SIZE"]
        """,
    "lithowatt/_core.pyi": """
        class Core:
            def __new__(cls, *, root: str | None = None) -> Core: ...
        """,
    "lithowatt/_inner.py": """
        from ._base import Base
        SIZE: int = 3
        class Public(Base):
            def __init__(self, a, *, b: int = 2) -> None:
                self.a = a
                self._hidden = b
            @property
            def joules(self) -> float: return 0.0
            def _private(self): pass
        """,
    "lithowatt/_base.py": """
        class Base:
            async def wait(self, *names: str) -> None: pass
        """,
    "lithowatt/other.py": """
        from lithowatt import Public
        __all__ = ["Public"]
        """,
    "lithowatt/inside.py": "def no_part_of_it(): pass\n",
}


def test_what_is_listed_of_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in PACKAGE.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        indent = " " * 8
        path.write_text("\n".join(line.removeprefix(indent) for line in text.splitlines()))
    tool = _tool()
    monkeypatch.setattr(tool, "PACKAGES", tmp_path)
    assert tool.public_api().splitlines() == [
        "class lithowatt.Core",
        "def lithowatt.Core.__new__(cls, *, root: str | None=None) -> Core",
        "class lithowatt.Public(Base)",
        "def lithowatt.Public.__init__(self, a, *, b: int=2) -> None",
        "lithowatt.Public.a",
        "property lithowatt.Public.joules -> float",
        "async def lithowatt.Public.wait(self, *names: str) -> None",
        "lithowatt.SIZE: int",
        "",
        "lithowatt.other.Public = lithowatt.Public",
    ]


def test_an_exception_that_only_a_private_module_has_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "lithowatt"
    package.mkdir()
    (package / "__init__.py").write_text(
        "TYPE_CHECKING = False\n"
        "if TYPE_CHECKING:\n"
        "    from lithowatt._inner import KnownError, work\n"
        '__all__ = ["KnownError", "work"]\n'
    )
    (package / "_inner.py").write_text(
        "class KnownError(Exception): ...\n"
        "class HiddenError(Exception): ...\n"
        "def work() -> None:\n"
        '    """Works.\n\n    Raises:\n        KnownError, HiddenError: Now and then.\n'
        "        HiddenError: For one\n            more reason.\n"
        '        ValueError: Else.\n    """\n'
    )
    tool = _tool()
    monkeypatch.setattr(tool, "PACKAGES", tmp_path)
    assert tool.unexported_raised() == ["lithowatt.work: HiddenError"]
