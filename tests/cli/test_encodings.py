"""Every command prints, whatever the encoding of the terminal, file or pipe it prints to."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lithowatt._support.command import guarded
from lithowatt.cli import main

COMMANDS = [
    ["--help"],
    *([name, "--help"] for name in ("doctor", "run", "calibrate", "cost", "agent", "top")),
    ["doctor"],
    ["explain"],
    ["explain", "*"],
    ["explain", "--json"],
    ["explain", "größe"],
    ["cost", "--duration", "1", "--memory", "1024", "--architecture", "arm64", "--joules", "5"],
    ["profile", "recommend", "--help"],
    ["profile", "recommend", "PROFILE", "--check"],
    ["lithops", "status"],
    ["lithops", "runtime", "--backend", "aws_lambda"],
]

PROFILE = {
    str((1, 1024, workers)): {"energy": [3.0] * 2, "read": [1.0] * 2, "compute": [8.0] * 2}
    for workers in (1, 2, 4, 8)
}


@contextlib.contextmanager
def written(monkeypatch: pytest.MonkeyPatch, encoding: str, errors: str) -> Iterator[io.BytesIO]:
    """What is written to standard output and standard error in an encoding."""
    kept = io.BytesIO()
    streams = [io.TextIOWrapper(kept, encoding, errors) for _ in "oe"]
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", streams[0])
        patched.setattr(sys, "stderr", streams[1])
        yield kept
        for stream in streams:
            stream.flush()
            assert stream.errors == errors, "a program's own streams are as they were"
    for stream in streams:
        stream.detach()


@pytest.mark.parametrize(
    ("encoding", "errors"),
    [("ascii", "strict"), ("ascii", "surrogateescape"), ("latin-1", "strict")],
)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_prints_in_any_encoding(
    command: list[str], encoding: str, errors: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "größe–÷.json"
    file.write_text(json.dumps(PROFILE))
    command = [str(file) if part == "PROFILE" else part for part in command]
    with written(monkeypatch, encoding, errors) as kept:
        # argparse ends by SystemExit after its help.
        with contextlib.suppress(SystemExit):
            main(command)
    text = kept.getvalue().decode(encoding)
    assert text and "Traceback" not in text
    if "--json" in command:
        assert "÷" in json.dumps(json.loads(text), ensure_ascii=False), "JSON says it in full"


def test_what_an_encoding_lacks_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> int:
        print("8 J ÷ 2 s, a\udcffb")
        return 0

    with written(monkeypatch, "ascii", "strict") as kept:
        assert guarded(run) == 0
    assert kept.getvalue() == b"8 J \\xf7 2 s, a\\udcffb\n"
    with written(monkeypatch, "utf-8", "strict") as kept:
        assert guarded(run) == 0
    assert kept.getvalue() == "8 J ÷ 2 s, a\\udcffb\n".encode()
