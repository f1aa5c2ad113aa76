"""CPU time of random process trees: as the kernel has it, or with a word on what is missing."""

from __future__ import annotations

import os
import random

import pytest

from tests.support.process_faults import Grown, grow, plan

SEED = int(os.environ.get("PROCESS_FAULTS_SEED", "20261129"))
TREES = 60

PARTS_OF_TRUTH = 0.05
"""What may be off, of what was used."""

SECONDS = 0.03
"""… and beside that, s: children's time is told in ticks of 10 ms, user and system time apart."""

UNSEEN = ("orphan", "hidden")
"""Fates of processes that end without a trace where no look falls into their time: the kernel
gives their CPU time to nobody, nor does it note that they were there
(docs/explanation/measurement.md)."""

MISSING = ("missing", "counts once they have been waited for")


def fault(grown: Grown) -> str | None:
    """What is wrong with a reading of a tree."""
    seconds, warnings = grown.reading.cpu_seconds, grown.reading.warnings
    if seconds is None:
        reason = grown.reading.raw["headline_reason"]
        return None if reason else "no CPU time, and no reason"
    most = PARTS_OF_TRUTH * grown.truth + SECONDS
    if seconds > grown.truth + most:
        return "more CPU time than was used"
    unseen = sum(grown.fates.get(whose, 0.0) for whose in UNSEEN)
    said = any(word in text for text in warnings for word in MISSING)
    if seconds < grown.truth - unseen - most and not said:
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
                f"tree {number}: {what}: {reading.cpu_seconds} for {grown.truth:.3f} s "
                f"({grown.fates}); "
                f"warnings {reading.warnings}; {grown.plan}"
            )
    assert not wrong, "\n".join([f"PROCESS_FAULTS_SEED={SEED}", *wrong])
