"""One job of 500 short calls of all kinds: the same results, and nothing that grows or is left."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.support import TESTS
from tests.support.lithops_environments import isolated, metered, plain, run_python

# Quiet: other tests make files in /dev/shm, too.
pytestmark = [pytest.mark.slow, pytest.mark.quiet]

#: `LITHOWATT_TEST_CALLS` for more than a run of all tests has time for.
CALLS = int(os.environ.get("LITHOWATT_TEST_CALLS", "500"))

SCRIPT = TESTS / "support" / "lithops_many_calls.py"


def run(python: Path, directory: Path) -> dict[str, Any]:
    isolated(directory)
    patience = 120 + CALLS * 0.5
    done = run_python(
        python, str(SCRIPT), "seen.json", str(CALLS), directory=directory, patience=patience
    )
    assert done.returncode == 0, done.stdout + done.stderr
    seen: dict[str, Any] = json.loads((directory / "seen.json").read_text())
    return seen


def ranges(states: list[dict[str, int]], what: str) -> list[tuple[int, int]]:
    """Of each process that handled calls: the first and the last of its numbers of `what`.

    As medians of ten calls, because pipes come and go with each; the first ten warm up.
    """
    of = defaultdict(list)
    for state in states:
        of[state["handler"]].append(state[what])
    middle = [sorted(numbers[10:20])[5] for numbers in of.values() if len(numbers) >= 40]
    last = [sorted(numbers[-10:])[5] for numbers in of.values() if len(numbers) >= 40]
    return list(zip(middle, last, strict=True))


def test_many_calls_end_as_without_us_and_nothing_grows(tmp_path: Path) -> None:
    alone = run(plain("3.8.0"), tmp_path / "plain")
    ours = run(metered("3.8.0", tmp_path / "metered"), tmp_path / "run")

    assert ours["results"] == alone["results"]
    assert all(joules is not None and joules > 0 for joules in ours["energies"])
    assert ours["left"] == alone["left"]
    handlers = ranges(ours["states"], "descriptors")
    assert handlers, "no process handled 40 calls"
    for first, last in handlers:
        assert last <= first + 1, handlers
    for first, last in ranges(ours["states"], "mappings"):
        # The allocator's and Python's own arenas come and go.
        assert last <= first + 12, ranges(ours["states"], "mappings")
