"""The list of functions that lie beside each other in the extension, and its tool."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

TOP = Path(__file__).parents[2]

#: As callgrind writes: a name is given once, and it may be where it is called that it is given.
PROFILE = """\
version: 1
cmd:  python localhost-runner.py
ob=(1) /usr/lib/libc.so.6
fn=(1) malloc
1 2
cob=(2) /site/lithowatt/_core.abi3.so
cfn=(2) first
calls=1 0
1 2
fn=(3) free
1 2
ob=(2)
fn=(2)
1 2
cob=(1)
cfn=(1)
calls=1 0
1 2
fn=(4) recursive'2
1 2
cfn=(5) called_only
calls=1 0
1 2
ob=(1)
fn=(6) calloc
1 2
"""


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tool", TOP / "tools" / "worker_functions.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_ran_of_the_extension_is_named(tool: ModuleType) -> None:
    assert list(tool.functions_run(PROFILE)) == ["first", "recursive"]


def test_equal_functions_are_listed_under_each_name(tool: ModuleType) -> None:
    hashes = "17h0123456789abcdefE", "17hfedcba9876543210E"
    functions = {f"_ZN1a{hashes[0]}": "10", f"_ZN1b{hashes[1]}": "10", f"_ZN1c{hashes[1]}": "20"}
    ran = [f"_ZN1a{hashes[0]}", "of no library"]
    assert tool.patterns_of(ran, functions) == {"_ZN1a17h*E", "_ZN1b17h*E"}


def test_the_list_is_of_that_form_and_has_what_each_call_runs(tool: ModuleType) -> None:
    text = tool.ORDER.read_text(encoding="utf-8")
    names = re.findall(r"^    \*\(\.text\.(\S+) \.text\.unlikely\.\1\)$", text, re.MULTILINE)
    assert text == tool.script(names)
    assert len(names) == len(set(names)) > 100
    # No hash of one build is left in it.
    assert not re.search(r"17h[0-9a-f]{16}E|Cs[0-9A-Za-z]{8,}_|\.llvm\.\d", text)
    for function in (
        "PyInit__core",
        "lithowatt5clock",
        "lithowatt7sampler",
        "lithowatt6python7PyMeter",
    ):
        assert any(function in name for name in names), function
