"""Every code block of the documents runs, or is checked as far as it can be without what it needs.

Python blocks of one page run one after another in one program. A comment before a block,
``<!-- not run: REASON; given: NAME, NAME -->``, has it type-checked instead, with these names.
Commands of ours are parsed by the program that they call; files that they name exist.
"""

from __future__ import annotations

import ast
import configparser
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from lithowatt.cli import _parser
from lithowatt.profiles import write_profile
from tests.support import TESTS, TOP, snippets

DOCUMENTS = sorted(
    [
        *TOP.glob("*.md"),
        *(TOP / "docs").rglob("*.md"),
        *(TOP / folder / "README.md" for folder in ("deploy", "ebpf-probes", "lithops_patch")),
        *TOP.glob("tests/*/README.md"),
    ]
)
BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>.*?)(?:; given: (?P<given>[\w, ]+))? -->\n)?"
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    text: str
    reason: str | None
    given: str | None

    @property
    def name(self) -> str:
        return f"{self.page}:{self.line}"


def _blocks(path: Path) -> list[Block]:
    text = path.read_text("utf-8")
    page = path.relative_to(TOP).as_posix()
    assert text.count("\n```") % 2 == 0, f"{page}: a fence is not closed"
    return [
        Block(
            page,
            text[: found.start("language")].count("\n") + 1,
            found["language"],
            found["text"],
            found["reason"],
            found["given"],
        )
        for found in BLOCK.finditer(text)
    ]


BLOCKS = [block for path in DOCUMENTS for block in _blocks(path)]
PYTHON = [block for block in BLOCKS if block.language == "python"]
RUN = [block for block in PYTHON if block.reason is None and block.page != "README.md"]
CHECKED = [block for block in PYTHON if block.reason is not None]
PAGES = sorted({block.page for block in RUN})


def test_every_block_has_a_language_that_is_checked_here() -> None:
    assert len(BLOCKS) > 50
    known = {"python", "sh", "text", "yaml", "json", "ini", "rust"}
    assert [block.name for block in BLOCKS if block.language not in known] == []


def test_every_block_that_is_not_run_says_why() -> None:
    for path in DOCUMENTS:
        marks = path.read_text("utf-8").count("<!-- not run:")
        of_blocks = [block for block in CHECKED if TOP / block.page == path]
        assert marks == len(of_blocks), f"{path}: a mark without a Python block"
        assert all(block.reason for block in of_blocks)


def test_rust_is_quoted_from_the_file_that_is_named() -> None:
    quoted = re.compile(r"^<!-- from: (\S+) -->\n```rust\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    for path in DOCUMENTS:
        found = quoted.findall(path.read_text("utf-8"))
        page = path.relative_to(TOP).as_posix()
        rust = [block for block in BLOCKS if (block.page, block.language) == (page, "rust")]
        assert len(found) == len(rust), f"{page}: a Rust block without its file"
        for name, text in found:
            source = (TOP / name).read_text("utf-8")
            for piece in re.split(r"^ *// \.\.\.\n", text, flags=re.MULTILINE):
                assert piece.strip("\n") in source, f"{page}: {name} has no\n{piece}"


# --- Python ---------------------------------------------------------------------------------------


def _profiles(folder: Path) -> None:
    """The profiles that the how-to pages name: one stage on two architectures."""
    for architecture in ("x86_64", "arm64"):
        stage: dict[object, dict[str, list[list[object]]]] = {}
        for memory, workers in itertools.product((1024, 2048), (2, 4, 8, 12, 16)):
            compute = (60.0 if architecture == "x86_64" else 54.0) / workers
            compute *= max(1769 / memory, 1.0)
            phases = {"cold_start": 0.8, "read": 0.3, "compute": compute, "write": 0.1}
            phases["worker_time_execution"] = compute + 1.5
            phases["cpu_time"] = 60.0 / workers
            # No run repeats another one in all its numbers.
            metrics: dict[str, list[list[object]]] = {
                key: [[value * (1 + 0.04 * run)] * workers for run in range(5)]
                for key, value in phases.items()
            }
            metrics["cpu_architecture"] = [[architecture] * workers] * 5
            stage[(1, memory, workers)] = metrics
        names = (
            ("a.json", "x86/stage.json")
            if architecture == "x86_64"
            else ("b.json", "arm/stage.json")
        )
        for name in names:
            (folder / name).parent.mkdir(exist_ok=True)
            write_profile(folder / name, stage)


@pytest.mark.lithops
@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_python_of_a_page_runs(page: str, tmp_path: Path) -> None:
    blocks = [block for block in RUN if block.page == page]
    program = "\n\n".join(block.text for block in blocks)
    if re.search(r"^(import|from) lithops|use_template", program, re.MULTILINE):
        pytest.importorskip("lithops")
    if '.json"' in program:
        _profiles(tmp_path)
    snippets.run(program, tmp_path)


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.name)
def test_a_python_block_is_python(block: Block) -> None:
    ast.parse(block.text, block.name)


@pytest.mark.slow
def test_the_python_that_is_not_run_has_the_right_types(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    for number, block in enumerate(CHECKED):
        given = [name.strip() for name in (block.given or "").split(",") if name.strip()]
        known = "".join(f"{name}: Any\n" for name in given)
        text = f"from typing import Any\n{known}{block.text}"
        (tmp_path / f"block_{number}.py").write_text(text, "utf-8")
    options = ["--ignore-missing-imports", "--check-untyped-defs", "--no-incremental"]
    env = {**os.environ, "MYPYPATH": str(TOP / "tests" / "rig")}
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, *map(str, sorted(tmp_path.glob("block_*.py")))],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
    )
    names = "\n".join(f"block_{number}: {block.name}" for number, block in enumerate(CHECKED))
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{names}"


# --- commands -------------------------------------------------------------------------------------

#: Programs that are not ours. A word that is neither here nor known below is a mistake.
FOREIGN = {
    *("apt-get", "aws", "curl", "docker", "export", "groupadd", "kubectl", "pip", "source"),
    "usermod",
}


def _commands(text: str) -> list[list[str]]:
    """Lines of a shell block, as words: without what runs them as root or sets a variable."""
    lines = text.replace("\\\n", " ").splitlines()
    found = []
    for line in lines:
        line = line.replace('"$(command -v lithowatt)"', "lithowatt")
        words = shlex.split(line, comments=True)
        while words and (words[0] in {"sudo", "env"} or re.match(r"[A-Z_]+=", words[0])):
            del words[0]
        if words:
            found.append(words)
    return found


def _targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z0-9-]*):", (TOP / "Makefile").read_text(), re.M))


@cache
def _help(*program: str) -> str:
    done = subprocess.run(
        [sys.executable, *program, "--help"], cwd=TOP, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _own_options(program: tuple[str, ...], words: list[str]) -> None:
    for word in words:
        if word == "--":
            return
        if word.startswith("--"):
            option = word.partition("=")[0]
            assert re.search(rf"{option}\b", _help(*program)), f"{program} has no {option}"


def test_the_agents_page_has_every_option_of_its_help() -> None:
    page = (TOP / "docs/how-to/agent.md").read_text()
    table = "\n".join(line for line in page.splitlines() if line.startswith("| `--"))
    options = set(re.findall(r"--[a-z][a-z-]+", _help("-m", "lithowatt", "agent"))) - {"--help"}
    assert options - set(re.findall(r"--[a-z][a-z-]+", table)) == set()


def _check(words: list[str]) -> None:
    program, *arguments = words
    if program in {"python", "python3"}:
        if arguments[0] == "-m":
            module, rest = arguments[1], arguments[2:]
            if module == "pip":
                return
            # Every verb of the patcher has its options; the workloads share theirs.
            verb = (rest[0],) if module == "lithops_patch" else ()
            _own_options(("-m", module, *verb), rest)
        else:
            assert (TOP / arguments[0]).is_file(), words
            if "tests/rig" in arguments[0] or "benches" in arguments[0]:
                _own_options((arguments[0],), arguments[1:])
    elif program == "lithowatt":
        try:
            _parser().parse_args(arguments)
        except SystemExit:
            pytest.fail(f"no command: {shlex.join(words)}")
    elif program == "pytest":
        plugin = (TOP / "python" / "lithowatt" / "pytest_plugin.py").read_text()
        for word in arguments:
            if word.startswith("--lithowatt"):
                assert f'"{word}"' in plugin, words
    elif program == "make":
        # A word with = is a variable of a verb.
        assert {word for word in arguments if "=" not in word} <= _targets(), words
    elif program == "cargo":
        if "--bench" in arguments:
            name = arguments[arguments.index("--bench") + 1]
            assert (TOP / "benches" / f"{name}.rs").is_file(), words
    elif program in FOREIGN:
        for word in arguments:
            if re.match(r"(deploy|tests|examples|docs)/", word):
                assert (TOP / word).exists(), words
    else:
        assert (TOP / program).is_file(), f"unknown program: {shlex.join(words)}"
    if "--" in arguments:  # the program that ours runs
        inner = " ".join(map(shlex.quote, arguments[arguments.index("--") + 1 :]))
        if re.match(r"lithowatt|python -m examples", inner):
            for command in _commands(inner):
                _check(command)


@pytest.mark.slow
@pytest.mark.parametrize(
    "block", [b for b in BLOCKS if b.language == "sh"], ids=lambda block: block.name
)
def test_its_commands_are_commands(block: Block) -> None:
    commands = _commands(block.text)
    assert commands
    for words in commands:
        _check(words)


# --- data -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "block",
    [b for b in BLOCKS if b.language in {"json", "yaml", "ini"}],
    ids=lambda block: block.name,
)
def test_its_data_parse(block: Block) -> None:
    if block.language == "json":
        json.loads(block.text)
    elif block.language == "ini":
        configparser.ConfigParser().read_string(block.text)
    else:
        yaml = pytest.importorskip("yaml")
        assert yaml.safe_load(block.text)


# --- names ----------------------------------------------------------------------------------------

PROSE = {path: path.read_text("utf-8") for path in DOCUMENTS if path.name != "CHANGELOG.md"}


def test_tests_that_a_document_names_are_there() -> None:
    named = 0
    for path, text in PROSE.items():
        for file, function in re.findall(
            r"`(?:tests/)?((?:\w+/)*test_\w+\.py)(?:::(test_\w+))?`", text
        ):
            assert (TESTS / file).is_file(), f"{path}: tests/{file}"
            if function:
                tests = (TESTS / file).read_text("utf-8")
                assert f"def {function}(" in tests, f"{path}: {file}::{function}"
            named += 1
    assert named > 20


def test_files_of_ours_that_a_document_names_are_there() -> None:
    folder = "src|python|benches|deploy|examples|docs|ebpf-probes|tools|lithops_patch"
    for path, text in PROSE.items():
        for name in re.findall(rf"`((?:{folder})/[\w./-]+\.\w+)`", text):
            beside = path.parent / name  # the rig's own sources
            assert (TOP / name).exists() or beside.exists(), f"{path}: {name}"


def test_one_name_per_layer() -> None:
    """The glossary's table: what it names in each layer is there."""
    from lithowatt import EnergyMeter, Estimate, Reading
    from lithowatt.flexecutor import COLUMN_NAMES

    with EnergyMeter(interval=None) as meter:
        pass
    stats = meter.stats()
    text = PROSE[TOP / "docs/reference/glossary.md"]
    rows = re.findall(r"^\| ([^|]+) \| (?:J|W|s|text) \| (.+) \|$", text, re.MULTILINE)
    assert len(rows) > 5
    for quantity, cells in rows:
        python, estimate, keys, columns = (
            [name.lstrip(".") for name in re.findall(r"`([\w.]+)`", cell)]
            for cell in cells.split(" | ")
        )
        for name in python:
            owner, _, attribute = name.rpartition(".")
            if owner == "m":
                assert hasattr(EnergyMeter, attribute), quantity
            elif owner == "reading":
                assert hasattr(Reading, attribute), quantity
            else:
                assert hasattr(Estimate, attribute), quantity
        assert all(hasattr(Estimate, name) for name in estimate), quantity
        assert all(f"worker_func_{name}" in stats for name in keys), quantity
        assert set(columns) <= set(COLUMN_NAMES), quantity
