"""Readers of the ring where nothing is as it should be: foreign bytes, other clocks."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from lithowatt import EnergyMeter, _core
from lithowatt.agent._mirror import FIXED_BYTES, HEADER_WORDS, checksum
from lithowatt.errors import AgentError
from rig import StaticTree
from tests.support.agent_tools import AgentProcess, blind_root, shared_folder


@pytest.fixture
def folder() -> Iterator[Path]:
    path = shared_folder()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def ring(folder: Path) -> Iterator[Path]:
    """The ring of a running agent."""
    tree = StaticTree(folder / "root", packages=2, domains=("package", "dram"))
    path = folder / "node" / "lithowatt" / "ring"
    with AgentProcess(tree.root, path, "--round", "0.1"):
        time.sleep(0.3)
        yield path


def sealed(page: bytes) -> bytes:
    """A header with its checksum put right, so that only what it says can be wrong."""
    words = [int.from_bytes(page[i : i + 8], "little") for i in range(0, HEADER_WORDS * 8, 8)]
    words[-1] = checksum(words[:-1])
    return b"".join(word.to_bytes(8, "little") for word in words)


@pytest.mark.slow
def test_foreign_bytes_give_an_error_or_a_value_and_never_harm(ring: Path, folder: Path) -> None:
    random = Random(7)
    whole = ring.read_bytes()
    forged = folder / "forged"
    believed = 0
    for turn in range(400):
        data = bytearray(whole)
        for _ in range(random.choice([1, 3, 50])):
            at = random.choice([random.randrange(4096), random.randrange(len(data))])
            data[at] = random.randrange(256)
        if turn % 2:
            data[: HEADER_WORDS * 8] = sealed(bytes(data[: HEADER_WORDS * 8]))
        if turn % 7 == 0:
            data = data[: random.randrange(len(data))]
        forged.write_bytes(data)
        forged.chmod(0o644)
        with contextlib.suppress(AgentError):
            reader = _core.Ring(forged, "/")
            look = reader.look()
            reader.groups()
            reader.own_groups()
            reader.header()
            assert all(joules is None or joules >= 0 for joules in look["joules"].values())
            believed += 1
        forged.unlink()
    # Some are hit where nothing is, or the test would only show that all are refused.
    assert believed > 0


def test_a_ring_that_is_cut_under_a_meter_hurts_nobody(ring: Path, folder: Path) -> None:
    blind = blind_root(folder)
    own = blind / "run" / "lithowatt"
    own.mkdir()
    copy = own / "ring"
    shutil.copy(ring, copy)
    copy.chmod(0o644)
    with EnergyMeter(root=blind, interval=0.005) as meter:
        time.sleep(0.03)
        os.truncate(copy, FIXED_BYTES + 17)
        time.sleep(0.03)
        os.truncate(copy, 0)
        time.sleep(0.03)
    reading = meter.reading
    assert reading.quality == "modelled"
    assert any("package-0" in text for text in reading.warnings)


def test_a_reader_with_another_clock_reads_the_same(ring: Path) -> None:
    command = ["unshare", "--time", "--monotonic", "5000", "--fork"]
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root and unshare")
    if subprocess.run([*command, "true"], capture_output=True).returncode != 0:
        pytest.skip("there are no time namespaces here")
    code = (
        "import json, sys, time\n"
        "from lithowatt import _core\n"
        "ring = _core.Ring(sys.argv[1], '/')\n"
        "print(json.dumps([time.monotonic(), ring.look()]))\n"
    )
    out = subprocess.check_output([*command, sys.executable, "-c", code, str(ring)], text=True)
    clock, look = json.loads(out)
    assert clock > time.monotonic() + 4000
    assert look["age"] < 1.0
    assert look["joules"]["package-0"] == 1.0
