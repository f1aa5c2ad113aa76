"""`python -m lithops_patch`: in, out to the byte, and hands off what it does not know."""

from __future__ import annotations

import ast
import contextlib
import os
import random
import runpy
import shutil
import stat
import subprocess
import sys
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lithops_patch
from lithops_patch import TARGETS, File, Insertion, Place, Refused, State, Target
from lithops_patch import _files as files
from lithops_patch.__main__ import main
from lithops_patch._source import Source, Unknown
from lithops_patch._targets import defines_class, defines_function

pytestmark = pytest.mark.slow

FLEXECUTOR = TARGETS["flexecutor"]
[EXECUTOR_FILE] = [file for file in FLEXECUTOR.files if file.insertions]
INSERTIONS = EXECUTOR_FILE.insertions

EXECUTOR = """\
import logging

from flexecutor.workflow.stagefuture import StageFuture


class DAGExecutor:
    def _store_profiling(self, profile_data, new_profile_data, resource_config):
        return None

    def profile(self, config_space, num_reps=1):
        return None

    def execute(self, num_workers=None):
        return {}
"""
WRAPPER = "def worker_wrapper(func):\n    return func\n"
STAGEFUTURE = "class StageFuture:\n    def get_timings(self):\n        return []\n"
GUARD = '\n\nif __name__ == "__main__":\n    DAGExecutor()\n'

BLOCK = """\
# >>> lithowatt patch 1
try:
    from lithowatt.flexecutor import patch_executor as __lithowatt_patch__

    __lithowatt_patch__(globals())
except ImportError:
    pass
# <<< lithowatt patch
"""


def make_tree(
    root: Path,
    executor: str | bytes = EXECUTOR,
    wrapper: str | bytes = WRAPPER,
    stagefuture: str | bytes = STAGEFUTURE,
) -> Path:
    """A repository with a package in it; returns the path of its executor.py."""
    package = root / "flexecutor"
    for path, text in (
        ("__init__.py", ""),
        ("workflow/__init__.py", ""),
        ("workflow/executor.py", executor),
        ("workflow/stagefuture.py", stagefuture),
        ("storage/__init__.py", ""),
        ("storage/wrapper.py", wrapper),
    ):
        file = package / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return package / "workflow/executor.py"


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def run(command: str, *arguments: str | Path) -> int:
    return main([command, "--target", "flexecutor", *map(str, arguments)])


# --- one round ---------------------------------------------------------------


def test_check_apply_check_revert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    executor = make_tree(tmp_path)
    before = contents(tmp_path)

    assert run("check", "--path", tmp_path) == 1
    assert capsys.readouterr().out == f"{executor}: unpatched\n"

    assert run("apply", "--path", tmp_path) == 0
    assert capsys.readouterr().out == f"{executor}: patched (1)\n"
    assert executor.read_text() == EXECUTOR + BLOCK
    assert run("check", "--path", tmp_path) == 0
    assert capsys.readouterr().out == f"{executor}: patched (1)\n"

    patched = contents(tmp_path)
    assert run("apply", "--path", tmp_path) == 0
    assert capsys.readouterr().out == f"{executor}: already patched (1)\n"
    assert contents(tmp_path) == patched

    assert run("revert", "--path", tmp_path) == 0
    assert contents(tmp_path) == before
    assert run("revert", "--path", tmp_path) == 0
    assert "nothing to revert" in capsys.readouterr().out
    assert contents(tmp_path) == before


def test_diff_changes_nothing(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    executor = make_tree(tmp_path, EXECUTOR.rstrip("\n").replace("\n", "\r\n").encode())
    original = executor.read_bytes()

    assert run("apply", "--diff", "--path", tmp_path) == 0
    forth = capfdbinary.readouterr().out
    assert executor.read_bytes() == original
    assert run("apply", "--path", tmp_path) == 0
    patched = executor.read_bytes()
    capfdbinary.readouterr()
    assert run("revert", "--diff", "--path", tmp_path) == 0
    back = capfdbinary.readouterr().out
    assert executor.read_bytes() == patched

    if shutil.which("git") is None:
        pytest.skip("git is not installed: the diff is not applied")
    for diff, wanted in ((back, original), (forth, patched)):
        subprocess.run(["git", "apply", "-p1"], input=diff, cwd=tmp_path, check=True)
        assert executor.read_bytes() == wanted


@pytest.mark.parametrize("below", [".", "flexecutor"])
def test_path_is_the_repository_or_the_package(tmp_path: Path, below: str) -> None:
    executor = make_tree(tmp_path)
    assert run("apply", "--path", tmp_path / below) == 0
    assert executor.read_text().endswith(BLOCK)


def test_without_a_path_it_is_what_python_would_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = make_tree(tmp_path)
    (tmp_path / "flexecutor/__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert run("apply") == 0
    assert executor.read_text().endswith(BLOCK)
    assert "flexecutor" not in sys.modules


def test_without_a_path_and_a_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert run("check") == 2
    assert "by --path" in capsys.readouterr().err


def test_needs_nothing_but_python(tmp_path: Path) -> None:
    """Without site directories there is no lithowatt, nor its extension."""
    executor = make_tree(tmp_path)
    home = Path(lithops_patch.__file__).parent.parent
    command = [sys.executable, "-S", "-m", "lithops_patch"]
    before = executor.read_bytes()
    for verb, code in (("check", 1), ("apply", 0), ("check", 0), ("revert", 0)):
        arguments = [verb, "--target", "flexecutor", "--path", tmp_path]
        done = subprocess.run([*command, *arguments], cwd=home, check=False)
        assert done.returncode == code
    assert executor.read_bytes() == before


# --- what the patch does -----------------------------------------------------


def test_patches_its_own_module_once_defined_and_before_main_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = make_tree(tmp_path, EXECUTOR.replace("from flexecutor", "# from") + GUARD)
    assert run("apply", "--path", tmp_path) == 0
    seen = []
    package = types.ModuleType("lithowatt.flexecutor")
    package.patch_executor = lambda namespace: seen.append(  # type: ignore[attr-defined]
        (namespace["__name__"], "DAGExecutor" in namespace)
    )
    monkeypatch.setitem(sys.modules, "lithowatt.flexecutor", package)
    source = executor.read_text().replace("    DAGExecutor()", "    assert __lithowatt_patch__")
    executor.write_text(source)
    for name in ("flexecutor.workflow.executor", "workflow.executor", "__main__"):
        runpy.run_path(str(executor), run_name=name)
        assert seen.pop() == (name, True)


def test_is_nothing_where_lithowatt_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = make_tree(tmp_path, EXECUTOR.replace("from flexecutor", "# from"))
    plain = runpy.run_path(str(executor))
    assert run("apply", "--path", tmp_path) == 0
    monkeypatch.setitem(sys.modules, "lithowatt", None)
    monkeypatch.delitem(sys.modules, "lithowatt.flexecutor", raising=False)
    assert runpy.run_path(str(executor)).keys() == plain.keys()


def test_before_a_main_guard_and_what_belongs_to_it(tmp_path: Path) -> None:
    executor = make_tree(tmp_path, EXECUTOR + "\n\n# by hand" + GUARD)
    assert run("apply", "--path", tmp_path) == 0
    assert executor.read_text() == EXECUTOR + BLOCK + "\n\n# by hand" + GUARD


@pytest.mark.parametrize(
    ("test", "is_guard"),
    [
        ('__name__ == "__main__"', True),
        ("'__main__' == __name__", True),
        ('__name__ == "__main__" and DAGExecutor', True),
        ('__name__ == "__mp_main__"', False),
        ('__name__ != "__main__"', False),
        ('__name__ == "__main__" or DAGExecutor', False),
    ],
)
def test_what_a_main_guard_is(test: str, is_guard: bool) -> None:
    text = f"{EXECUTOR}if {test}:\n    pass\n".encode()
    assert Source(text).insert(INSERTIONS, "1").endswith(BLOCK.encode()) is not is_guard


# --- any text there is -------------------------------------------------------

PIECES = [
    "",
    "    ",
    "\f",
    "# a comment",
    "x = 1",
    "x = 1; y = 2",
    "x = 1  # >>> lithowatt patch 1",
    "x = (1 +",  # with the next line, below
    "x = '''\n# >>> lithowatt patch 1\ntext\f \x1c\n# <<< lithowatt patch\n'''",
    "x = '# >>> lithowatt patch 1'",
    "x = 1 + \\\n    2",
    "def f():\n\treturn 1\n\t# deep",
    "@property\n@property\ndef g(self): ...",
    "if x: y = 3",
    "if __name__ == '__main__':\n    x = 2",
    "try:\n    import nothing\nexcept ImportError:\n    pass",
    "class DAGExecutor: ...",
    "\t\t# indented comment",
]
PIECES = [piece + "\n    2)" if piece.endswith("+") else piece for piece in PIECES]
WORDS = {
    "ascii": ["plain"],
    "utf-8": ["größer", "日本", "\u2028", "\x85"],
    "utf-8-sig": ["größer", "\ufeff"],
    "latin-1": ["größer", "\x85"],
    "cp1252": ["größer €"],
    "shift_jis": ["日本", "ソ"],  # its second byte is a backslash
    "gb18030": ["中文", "ä"],
    "iso2022_jp": ["日本"],
}


@st.composite
def modules(draw: st.DrawFn) -> bytes:
    """Sources that hold what FlexExecutor's executor must, between all sorts of text."""
    encoding = draw(st.sampled_from(sorted(WORDS)))
    words = st.sampled_from(WORDS[encoding])
    piece = st.one_of(
        st.sampled_from(PIECES),
        words.map(lambda word: f"# {word}"),
        words.map(lambda word: f"x = '{word}'"),
        words.map(lambda word: f'x = """{word}\n\n{word}"""'),
    )
    some = st.lists(piece, max_size=4)
    cookie = [] if encoding in ("utf-8", "utf-8-sig") else [f"# -*- coding: {encoding} -*-"]
    ends = {"guard": [GUARD.strip("\n")], "no guard": []}[
        draw(st.sampled_from(["guard", "no guard"]))
    ]
    parts = [*cookie, *draw(some), EXECUTOR, *draw(some), *ends, *draw(some)]
    lines = "\n".join(parts).split("\n")
    newlines = draw(
        st.sampled_from([["\n"], ["\r\n"], ["\r"], ["\n", "\r\n"], ["\n", "\r\n", "\r"]])
    )
    chosen = random.Random(draw(st.integers(0, 999)))
    text = "".join(line + chosen.choice(newlines) for line in lines)
    if draw(st.booleans()):
        text = text.rstrip("\r\n")
    return text.encode(encoding)


def round_trip(original: bytes) -> bytes:
    """Applies and reverts with all that must hold on the way; returns what was applied."""
    patched = Source(original).insert(INSERTIONS, "1")
    again = Source(patched)
    assert len(again.blocks) == 1
    assert again.is_whole(again.blocks[0], INSERTIONS[0])
    assert again.remove(again.blocks) == original
    if b"\r" not in original:
        assert b"\r" not in patched
    if b"\n" not in original.replace(b"\r\n", b""):
        assert b"\n" not in patched.replace(b"\r\n", b"")
    compile(patched, "executor.py", "exec", dont_inherit=True)
    return patched


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(modules())
@pytest.mark.filterwarnings("ignore::SyntaxWarning", "ignore::DeprecationWarning")
def test_in_and_out_of_any_module(original: bytes) -> None:
    patched = round_trip(original)
    rest, ours = ast.parse(patched).body, ast.parse(BLOCK).body[0]
    without = [statement for statement in rest if ast.dump(statement) != ast.dump(ours)]
    assert len(without) == len(rest) - 1
    assert ast.dump(ast.parse(original)) == ast.dump(ast.Module(without, type_ignores=[]))


@settings(max_examples=50, deadline=None)
@given(modules())
def test_the_same_through_files(original: bytes) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        executor = make_tree(root, original)
        [verdict] = lithops_patch.check(FLEXECUTOR, root)
        assert verdict.state is State.UNPATCHED
        lithops_patch.apply(FLEXECUTOR, root)
        patched = executor.read_bytes()
        assert patched == round_trip(original)
        [verdict] = lithops_patch.check(FLEXECUTOR, root)
        assert (verdict.state, verdict.detail) == (State.PATCHED, "1")
        [change] = lithops_patch.apply(FLEXECUTOR, root)
        assert not change.changed
        assert executor.read_bytes() == patched
        lithops_patch.revert(FLEXECUTOR, root)
        assert executor.read_bytes() == original
        [verdict] = lithops_patch.check(FLEXECUTOR, root)
        assert verdict.state is State.UNPATCHED


@settings(max_examples=150, deadline=None)
@given(modules(), st.sampled_from(["z = 0\n", "# z\r\n", "\n\n", ""]), st.booleans())
def test_what_was_edited_since_stays(original: bytes, edit: str, everywhere: bool) -> None:
    """The same edits to the plain and to the patched text: reverted, these are equal."""
    added = edit.encode()

    def edited(text: bytes) -> bytes:
        head, name, tail = text.partition(b"class DAGExecutor:")
        if everywhere:
            tail = tail.replace(b"return {}", b"return {1: 2}") + b"\n" + added
        # Nothing in front of a byte order mark or an encoding.
        end = head.find(b"import logging")
        return head[:end] + added + head[end:] + name + tail

    wanted = edited(original)
    try:
        Source(wanted)
    except Unknown:
        return
    source = Source(edited(Source(original).insert(INSERTIONS, "1")))
    assert source.remove(source.blocks) == wanted


def test_a_formatter_may_have_been_there() -> None:
    text = BLOCK.replace("    ", "\t").replace("__\n\n", "__\n").replace(">>>\n", ">>>\n\n")
    source = Source((EXECUTOR + "\n\n" + text + "\n").encode())
    [block] = source.blocks
    assert source.is_whole(block, INSERTIONS[0])
    assert source.remove([block]) == (EXECUTOR + "\n\n\n").encode()


# --- hands off ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("executor", "", "expected a class DAGExecutor with _store_profiling, execute and profile"),
        ("executor", EXECUTOR.replace("profile(", "profiles("), "expected a class DAGExecutor"),
        ("executor", "def f(:\n", "cannot parse it (line 1:"),
        ("executor", EXECUTOR + "\0", "cannot parse it"),
        ("executor", b"# coding: klingon\n" + EXECUTOR.encode(), "cannot parse it"),
        ("executor", EXECUTOR.encode() + b"x = '\xff'\n", "cannot parse it"),
        ("executor", EXECUTOR + "# >>> lithowatt patch 1\n", "without an end"),
        ("executor", EXECUTOR + "# <<< lithowatt patch\n", "without a begin"),
        ("executor", EXECUTOR + BLOCK.replace("patch 1", "patch 7"), "patch 7 of another version"),
        ("executor", EXECUTOR + BLOCK.replace("pass", "raise"), "the patch was edited"),
        ("executor", EXECUTOR + BLOCK.replace("pass", "pass  # really"), "the patch was edited"),
        ("executor", EXECUTOR + BLOCK + BLOCK, "patched twice"),
        ("executor", EXECUTOR + "__lithowatt_patch__ = 1\n", "but not in a patch of this tool"),
        ("executor", EXECUTOR + "x = 1 + \\\n2\\\n", "leaves no room|cannot parse"),
        ("executor", "x = " + "(" * 9000 + ")" * 9000, "parse"),
        ("wrapper", "def other(): ...\n", "expected a function worker_wrapper"),
        (
            "stagefuture",
            "class StageFuture: ...\n",
            "expected a class StageFuture with get_timings",
        ),
        ("wrapper", WRAPPER + BLOCK, "the patch was edited"),
    ],
)
def test_refuses_what_it_does_not_know(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    file: str,
    text: str | bytes,
    expected: str,
) -> None:
    make_tree(tmp_path, **{file: text})
    before = contents(tmp_path)
    assert run("apply", "--path", tmp_path) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"{file}.py: unknown layout: " in error
    assert any(part in error for part in expected.split("|"))
    assert run("check", "--path", tmp_path) == 2
    assert f"{file}.py: unknown layout: " in capsys.readouterr().out
    assert contents(tmp_path) == before


@pytest.mark.parametrize("missing", ["storage/wrapper.py", "workflow/stagefuture.py"])
def test_a_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], missing: str) -> None:
    executor = make_tree(tmp_path)
    (tmp_path / "flexecutor" / missing).unlink()
    assert run("apply", "--path", tmp_path) == 2
    assert f"{missing}: unknown layout: cannot be read" in capsys.readouterr().err
    assert executor.read_text() == EXECUTOR


def test_no_package_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (tmp_path, tmp_path / "nowhere", Path(__file__)):
        for command in ("check", "apply", "revert"):
            assert run(command, "--path", path) == 2
            error = capsys.readouterr().err
            assert error.count("\n") == 1
            assert str(path) in error


def test_reverts_though_the_layout_changed_since(tmp_path: Path) -> None:
    executor = make_tree(tmp_path)
    assert run("apply", "--path", tmp_path) == 0
    changed = executor.read_text().replace("DAGExecutor", "GraphExecutor")
    executor.write_text(changed)
    (tmp_path / "flexecutor/storage/wrapper.py").unlink()
    assert run("check", "--path", tmp_path) == 2
    assert run("revert", "--path", tmp_path) == 0
    assert executor.read_text() == EXECUTOR.replace("DAGExecutor", "GraphExecutor")


@pytest.mark.parametrize(
    ("old", "new"),
    [("pass", "raise"), ("# <<< lithowatt patch", "# end"), ("patch 1", "patch 2")],
)
def test_does_not_revert_a_patch_that_was_edited(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str
) -> None:
    executor = make_tree(tmp_path, EXECUTOR + BLOCK.replace(old, new))
    before = executor.read_bytes()
    assert run("revert", "--path", tmp_path) == 2
    assert "executor.py: unknown layout: line 15: " in capsys.readouterr().err
    assert executor.read_bytes() == before


def test_does_not_revert_what_cannot_stand_without(tmp_path: Path) -> None:
    nested = "def f():\n" + "".join(f"    {line}\n" for line in BLOCK.splitlines())
    executor = make_tree(tmp_path, EXECUTOR + nested)
    assert run("revert", "--path", tmp_path) == 2
    assert executor.read_text() == EXECUTOR + nested


# --- files -------------------------------------------------------------------


def test_keeps_permissions_and_leaves_nothing_behind(tmp_path: Path) -> None:
    executor = make_tree(tmp_path)
    executor.chmod(0o751)
    other = tmp_path / "hard link, as some installers make from their cache"
    os.link(executor, other)
    names = set(contents(tmp_path))
    for command in ("apply", "revert"):
        assert run(command, "--path", tmp_path) == 0
        assert stat.S_IMODE(executor.stat().st_mode) == 0o751
        assert set(contents(tmp_path)) == names
        assert other.read_text() == EXECUTOR


def test_does_not_follow_a_link_out_of_the_tree(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outside = make_tree(tmp_path / "outside")
    inside = make_tree(tmp_path / "inside")
    inside.unlink()
    inside.symlink_to(outside)
    for command in ("check", "apply", "revert"):
        assert run(command, "--path", tmp_path / "inside") == 2
        output = capsys.readouterr()
        assert "a link that leads out of the tree" in output.out + output.err
    shutil.rmtree(inside.parent)
    inside.parent.symlink_to(outside.parent)
    assert run("apply", "--path", tmp_path / "inside") == 2
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/flexecutor").symlink_to(tmp_path / "outside/flexecutor")
    assert run("apply", "--path", tmp_path / "linked") == 2
    assert outside.read_text() == EXECUTOR
    # Named itself, it is what was asked for.
    assert run("apply", "--path", tmp_path / "linked/flexecutor") == 0
    assert outside.read_text() == EXECUTOR + BLOCK


def test_follows_a_link_within_the_tree(tmp_path: Path) -> None:
    executor = make_tree(tmp_path)
    real = executor.with_name("dag_executor.py")
    executor.rename(real)
    executor.symlink_to(real.name)
    assert run("apply", "--path", tmp_path) == 0
    assert executor.is_symlink()
    assert real.read_text() == EXECUTOR + BLOCK


@pytest.mark.parametrize("kind", ["fifo", "directory", "loop", "large"])
def test_not_a_plain_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    executor = make_tree(tmp_path)
    executor.unlink()
    if kind == "fifo":
        os.mkfifo(executor)
    elif kind == "directory":
        executor.mkdir()
    elif kind == "loop":
        executor.symlink_to(executor.name)
    else:
        with executor.open("wb") as stream:
            stream.truncate(1 << 30)
    assert run("check", "--path", tmp_path) == 2
    assert run("apply", "--path", tmp_path) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_hostile_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode(b"a\n\x1b[31m\xff -- $(x)")
    executor = make_tree(tmp_path / name)
    assert run("apply", "--path", tmp_path / name) == 0
    assert capsys.readouterr().out.count("\n") == 1
    assert run("apply", "--diff", "--path", tmp_path / name) == 0
    executor.write_text("")
    assert run("apply", "--path", tmp_path / name) == 2
    error = capsys.readouterr().err
    assert "\x1b" not in error
    assert error.count("\n") == 1


@contextlib.contextmanager
def unprivileged(path: Path) -> Iterator[None]:
    """As somebody who may not write everywhere, where the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        path.stat()
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("command", ["apply", "revert"])
def test_a_read_only_tree(capsys: pytest.CaptureFixture[str], command: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:  # pytest's own is for its user alone
        root = Path(scratch)
        root.chmod(0o755)
        executor = make_tree(root, EXECUTOR + (BLOCK if command == "revert" else ""))
        before = contents(root)
        executor.parent.chmod(0o555)
        with unprivileged(executor):
            assert run(command, "--path", root) == 2
        executor.parent.chmod(0o755)
        assert contents(root) == before
    assert capsys.readouterr().err == (
        f"lithops_patch: {executor}: cannot be written (permission denied); nothing is changed\n"
    )


def test_changed_while_we_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executor = make_tree(tmp_path)
    stage = files._stage

    def slow(file: files.OpenFile, data: bytes) -> str:
        executor.write_text("saved by an editor")
        return stage(file, data)

    monkeypatch.setattr(files, "_stage", slow)
    assert run("apply", "--path", tmp_path) == 2
    assert executor.read_text() == "saved by an editor"
    assert not list(tmp_path.rglob("*.tmp"))


# --- a target of two files, several insertions, and indentation --------------


def before_call(name: str) -> Insertion:
    """In front of the statement that calls `name`, wherever that is."""

    def anchor(tree: ast.Module) -> Place | None:
        for node in ast.walk(tree):
            body: list[ast.stmt] = getattr(node, "body", [])
            for index, statement in enumerate(body if isinstance(body, list) else ()):
                if isinstance(statement, ast.Expr) and f"{name}()" in ast.unparse(statement):
                    return Place(body, index)
        return None

    return Insertion(anchor, f"a call of {name}", f"meter('{name}')\n\nif meter:\n    meter()\n")


def after_imports() -> Insertion:
    def anchor(tree: ast.Module) -> Place | None:
        index = sum(isinstance(statement, ast.Import) for statement in tree.body)
        return Place(tree.body, index, hug_previous=True)

    return Insertion(anchor, "imports", "# why\nmeter = print\n")


TWO = Target(
    package="worker",
    version="1",
    files=(
        File(
            "handler.py",
            shapes=(defines_function("run_task"),),
            insertions=(before_call("start"), before_call("join"), after_imports()),
        ),
        File(
            "runner.py",
            shapes=(defines_class("JobRunner", "run"),),
            insertions=(before_call("function"),),
        ),
    ),
)
HANDLER = """\
import os
import sys  # both


def run_task(job):
\tif job:
\t\tjob.start()
\t\tjob.join()"""
HANDLER_PATCHED = """\
import os
import sys  # both
# >>> lithowatt patch 1
# why
meter = print
# <<< lithowatt patch


def run_task(job):
\tif job:
\t\t# >>> lithowatt patch 1
\t\tmeter('start')

\t\tif meter:
\t\t    meter()
\t\t# <<< lithowatt patch
\t\tjob.start()
\t\t# >>> lithowatt patch 1
\t\tmeter('join')

\t\tif meter:
\t\t    meter()
\t\t# <<< lithowatt patch
\t\tjob.join()"""
RUNNER = """\
class JobRunner:
  def run(self):
    try:
      function()
    finally: pass
""".replace("\n", "\r\n")
RUNNER_PATCHED = """\
class JobRunner:
  def run(self):
    try:
      # >>> lithowatt patch 1
      meter('function')

      if meter:
          meter()
      # <<< lithowatt patch
      function()
    finally: pass
""".replace("\n", "\r\n")


@pytest.fixture
def worker(tmp_path: Path) -> Path:
    package = tmp_path / "worker"
    package.mkdir()
    (package / "handler.py").write_bytes(HANDLER.encode())
    (package / "runner.py").write_bytes(RUNNER.encode())
    return package


def test_two_files_and_nested_places(worker: Path) -> None:
    before = contents(worker)
    assert [v.state for v in lithops_patch.check(TWO, worker)] == [State.UNPATCHED] * 2
    lithops_patch.apply(TWO, worker)
    assert [v.state for v in lithops_patch.check(TWO, worker)] == [State.PATCHED] * 2
    assert (worker / "handler.py").read_bytes() == HANDLER_PATCHED.encode()
    assert (worker / "runner.py").read_bytes() == RUNNER_PATCHED.encode()
    lithops_patch.apply(TWO, worker)
    lithops_patch.revert(TWO, worker)
    assert contents(worker) == before


def test_all_are_judged_before_one_is_written(worker: Path) -> None:
    (worker / "runner.py").write_text("class JobRunner:\n    def run(self): function()\n")
    before = contents(worker)
    with pytest.raises(Refused, match=r"runner\.py: unknown layout: a call of function shares"):
        lithops_patch.apply(TWO, worker)
    (worker / "runner.py").write_text("class JobRunner:\n    def run(self): ...\n")
    with pytest.raises(Refused, match=r"runner\.py: unknown layout: expected a call of function"):
        lithops_patch.apply(TWO, worker)
    assert (worker / "handler.py").read_bytes() == before["handler.py"]


def test_half_a_patch(worker: Path) -> None:
    before = contents(worker)
    lithops_patch.apply(TWO, worker)
    source = Source((worker / "handler.py").read_bytes())
    (worker / "handler.py").write_bytes(source.remove(source.blocks[1:2]))
    [verdict, _] = lithops_patch.check(TWO, worker)
    assert "a part of the patch is missing" in str(verdict)
    with pytest.raises(Refused, match="a part of the patch is missing"):
        lithops_patch.apply(TWO, worker)
    lithops_patch.revert(TWO, worker)
    assert contents(worker) == before


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("command", [lithops_patch.apply, lithops_patch.revert])
def test_if_the_second_fails_the_first_is_put_back(
    worker: Path, monkeypatch: pytest.MonkeyPatch, command: object, fault: BaseException
) -> None:
    if command is lithops_patch.revert:
        lithops_patch.apply(TWO, worker)
    before = contents(worker)
    rename, calls = os.rename, []

    def failing(source: str, target: str, **directories: int) -> None:
        calls.append(target)
        if calls == ["handler.py", "runner.py"]:
            raise fault
        rename(source, target, **directories)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises((Refused, KeyboardInterrupt)):
        command(TWO, worker)  # type: ignore[operator]
    assert calls == ["handler.py", "runner.py", "handler.py"]
    assert contents(worker) == before


# --- FlexExecutor itself -----------------------------------------------------

CHECKOUTS = [path for path in os.environ.get("FLEXECUTOR_SRC", "").split(":") if path]


@pytest.mark.skipif(not CHECKOUTS, reason="FLEXECUTOR_SRC names no FlexExecutor checkout")
@pytest.mark.parametrize("checkout", CHECKOUTS or ["none"])
@pytest.mark.parametrize("form", ["as it is", "crlf", "no final newline"])
def test_flexecutor(tmp_path: Path, checkout: str, form: str) -> None:
    package = tmp_path / "flexecutor"
    sources = shutil.ignore_patterns("__pycache__", "[!_a-z]*", "*.json", "*.csv")
    shutil.copytree(Path(checkout) / "flexecutor", package, ignore=sources)
    for file in package.rglob("*.py") if form != "as it is" else ():
        data = file.read_bytes()
        new = data.replace(b"\n", b"\r\n") if form == "crlf" else data.rstrip(b"\n")
        file.write_bytes(new)
    before = contents(tmp_path)
    assert run("check", "--path", tmp_path) == 1
    assert run("apply", "--path", tmp_path) == 0
    assert run("check", "--path", tmp_path) == 0
    after = contents(tmp_path)
    [changed] = [path for path in before if before[path] != after[path]]
    assert changed == "flexecutor/workflow/executor.py"
    compile(after[changed], changed, "exec")
    assert run("revert", "--path", tmp_path) == 0
    assert contents(tmp_path) == before
