"""The prototype's Lambda results: its own figures come out again, ours lie far below."""

from __future__ import annotations

import pytest

from evaluation import lambda_report


@pytest.mark.parametrize(
    "row", lambda_report.APPENDIX, ids=[f"{a}-{m}-{w}" for a, m, w, _ in lambda_report.APPENDIX]
)
def test_a_row_of_the_appendix(row: tuple[str, int, int, float]) -> None:
    architecture, memory_mb, workers, said = row
    try:
        found = lambda_report.estimate(memory_mb, architecture, workers)
    except FileNotFoundError as error:
        pytest.skip(f"no measured profiles at {error} (set LITHOWATT_DATA)")
    # "Watts" that are joules per worker, of a whole package.
    assert found.seed == pytest.approx(said, abs=1)
    assert found.low < found.value < found.high
    assert 10 < found.seed / found.value < 20
    # A sandbox cannot use more CPU than its memory buys, nor more W than a few.
    assert found.cpu_seconds / found.seconds <= memory_mb / 1769 * 1.05
    assert 0.3 < found.value / found.seconds < 5
