"""No combination of faults yields a number outside its band without a warning."""

from __future__ import annotations

import os

import pytest

from evaluation.fault_injection import FAULTS, run, summary

pytestmark = [pytest.mark.slow, pytest.mark.quiet]

SEED = int(os.environ.get("FAULT_INJECTION_SEED", "1"))


RARE = 1000
"""One window in so many may be wrong: a band holds 95 % of truths, and the files of these machines
are written every 1.5 ms, so that a look may find one of them new and the next one old."""


def test_no_fault_gives_a_wrong_number_in_silence() -> None:
    windows = run(2000, SEED)
    wrong = [window for window in windows if window.wrong]
    told = "\n".join([summary(windows), *map(str, wrong[:20])])
    print(told)
    assert len(wrong) <= len(windows) // RARE, told
    # The faults were there: every kind began in many windows, and some windows had none.
    for name in FAULTS:
        assert sum(any(f.startswith(f"{name} at") for f in w.log) for w in windows) >= 20, name
    assert sum(not w.log for w in windows) >= 50


def test_without_faults_numbers_are_plain() -> None:
    windows = run(400, SEED, faultless=1.0)
    wrong = [window for window in windows if window.wrong]
    assert not wrong, "\n".join(map(str, wrong[:20]))
    # That two dies show one counter is always said.
    outcomes = {w.outcome for w in windows if w.machine != "mirrored"}
    assert outcomes <= {"a wide band", "a plain number"}
