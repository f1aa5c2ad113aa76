"""The column that the analytic model of FlexExecutor's energy fork trains on.

Its training takes means over `RAPL`, of all repetitions of all configurations, and stops at a
missing value. Profiles of the fork itself have no such column.
"""

from __future__ import annotations

import math
from typing import Any

from lithowatt.profiles._file import Metrics, repetitions_of
from lithowatt.profiles._values import finite

#: Only written where FlexExecutor is that fork.
SEED_COLUMN = "RAPL"


def complete_training(metrics: Metrics) -> None:
    """Makes the column of one configuration whole, J per worker.

    Each value is the call's energy, all by the definition of the latest call. A repetition from
    before lithowatt, or a call without energy, gets the mean of those that are known; where none
    is, the column is left out.
    """
    definition = _latest(metrics.get("energy_definition", []))
    rows = [_energies(metrics, index, definition) for index in range(repetitions_of(metrics))]
    known = [value for row in rows for value in row if value is not None]
    if not known:
        metrics.pop(SEED_COLUMN, None)
        return
    mean = math.fsum(known) / len(known)
    whole: list[list[Any]] = [[mean if value is None else value for value in row] for row in rows]
    before = metrics.get(SEED_COLUMN, [])
    if before == whole[: len(before)]:
        # The same list as before: its text is known.
        before.extend(whole[len(before) :])
        whole = before
    metrics[SEED_COLUMN] = whole


def _latest(column: list[list[Any]]) -> Any:
    for row in reversed(column):
        for value in row:
            if value is not None:
                return value
    return None


def _energies(metrics: Metrics, index: int, definition: Any) -> list[float | None]:
    """The joules of one repetition's workers by a definition, None where they are not known."""

    def row(name: str) -> list[Any]:
        column = metrics.get(name, [])
        return column[index] if index < len(column) else []

    width = max(
        (len(column[index]) for column in metrics.values() if index < len(column)), default=0
    )
    plain, definitions, wanted = (
        row("energy"),
        row("energy_definition"),
        row(f"energy_{definition}"),
    )
    found: list[float | None] = []
    for worker in range(width):
        same = definitions[worker] in (None, definition) if worker < len(definitions) else True
        source = plain if same else wanted
        found.append(finite(source[worker]) if worker < len(source) else None)
    return found
