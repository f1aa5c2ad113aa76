"""CPU time of random process trees: as the kernel has it, or with a word on what is missing."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

from process_faults import Grown, grow, plan

SEED = int(os.environ.get("PROCESS_FAULTS_SEED", "20261129"))
TREES = 60

PARTS_OF_TRUTH = 0.05
"""What may be off, of what was used."""

SECONDS = 0.03
"""… and beside that, s: children's time is told in ticks of 10 ms, user and system time apart."""

MISSING = ("missing", "counts once they have been waited for")


def all_wait(process: dict[str, Any]) -> bool:
    """Whether the kernel has the time of every process, in the end, in its parent's."""
    waits = process["ends"] == "waits" or not process["children"]
    return waits and all(map(all_wait, process["children"]))


def fault(grown: Grown) -> str | None:
    """What is wrong with a reading of a tree."""
    seconds, warnings = grown.reading.cpu_seconds, grown.reading.warnings
    if seconds is None:
        reason = grown.reading.raw["headline_reason"]
        return None if reason else "no CPU time, and no reason"
    off = seconds - grown.truth
    most = PARTS_OF_TRUTH * grown.truth + SECONDS
    if off > most:
        return "more CPU time than was used"
    if (
        off < -most
        and all_wait(grown.plan)
        and not any(word in text for text in warnings for word in MISSING)
    ):
        return "less CPU time than was used, and no warning"
    return None


@pytest.mark.quiet
@pytest.mark.slow
@pytest.mark.parametrize("interval", [0.01, 0.1, None], ids=["10 ms", "100 ms", "no sampler"])
def test_random_trees_are_counted_or_said_to_be_incomplete(interval: float | None) -> None:
    choose = random.Random(f"{SEED} {interval}")
    wrong = []
    for number in range(TREES // 3):
        grown = grow(plan(choose), interval=interval)
        what = fault(grown)
        if what:
            reading = grown.reading
            wrong.append(
                f"tree {number}: {what}: {reading.cpu_seconds} for {grown.truth:.3f} s; "
                f"warnings {reading.warnings}; {grown.plan}"
            )
    assert not wrong, "\n".join([f"PROCESS_FAULTS_SEED={SEED}", *wrong])
