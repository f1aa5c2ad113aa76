"""Booting an emulated machine again, with a program in qemu's place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.kernel import table
from tests.kernel.machines import BOOTS, Machine, Outcome, boot

KERNEL = json.dumps({"kernel": "7.2", "booted": 9.0})
COMPLETE = json.dumps({"complete": True})

QEMU = """#!/bin/sh
echo boot >>{folder}/boots
for word; do
    case $word in
    file:*/results) results=${{word#file:}} ;;
    file:*) : >"${{word#file:}}" ;;
    esac
done
cat "{folder}/boot$(wc -l <{folder}/boots)" >"$results" 2>/dev/null || :
"""
"""Writes what the file for this boot holds to the second serial port."""

MACHINE = Machine("stand-in", "any", "1", [])


def booted(folder: Path, monkeypatch: pytest.MonkeyPatch, *told: str) -> Outcome:
    """The outcome where each boot tells one of these; a boot that tells nothing dies at once."""
    for name in ("initramfs", "simulated_registers.ko", "vmlinuz"):
        (folder / name).touch()
    for number, text in enumerate(told, 1):
        (folder / f"boot{number}").write_text(text)
    programs = folder / "bin"
    programs.mkdir()
    qemu = programs / "qemu-system-x86_64"
    qemu.write_text(QEMU.format(folder=folder))
    qemu.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    return boot(MACHINE, folder)


def test_a_kernel_that_ends_before_the_job_is_booted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "_noted", [])
    found = booted(tmp_path, monkeypatch, "", f"{KERNEL}\n{COMPLETE}\n")
    assert (found.boots, found.kernel, found.complete) == (2, "7.2", True)
    table.note(found)
    assert "booted 2 times: its kernel ended before the tests began" in table.lines()[-1]


def test_a_job_that_began_is_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = booted(tmp_path, monkeypatch, f"{KERNEL}\n", f"{KERNEL}\n{COMPLETE}\n")
    assert (found.boots, found.complete) == (1, False)


def test_a_kernel_that_always_ends_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = booted(tmp_path, monkeypatch)
    assert (found.boots, found.kernel) == (BOOTS, None)
