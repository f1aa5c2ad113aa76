"""Meters of the whole machine that the agent reads, and what they counted since it began."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lithowatt.reference import Reference

ROUND_SECONDS = 10.0
"""The totals go on by so much at a time."""

LEAST_UPDATES = 3.0


class Total(NamedTuple):
    """One meter's.

    Attributes:
        name: Its name.
        covers: What it measures.
        joules: J since the agent began, where it was known.
        unknown: Seconds in which it was not.
        reason: Why it was not known the last time; ``None`` while it is.
    """

    name: str
    covers: str
    joules: float
    unknown: float
    reason: str | None


class Totals:
    """Adds up what meters count, stretch by stretch: what ends one begins the next."""

    def __init__(self, references: Sequence[Reference]) -> None:
        self._references = references
        self._lock = threading.Lock()
        now = time.monotonic()
        self._until = {reference.name: now for reference in references}
        self._totals = {r.name: Total(r.name, r.covers, 0.0, 0.0, None) for r in references}
        self._ending = threading.Event()

    def start(self) -> None:
        """Begins to read the meters, and to add up in a thread that ends with the process."""
        for reference in self._references:
            reference.start()
        threading.Thread(target=self._run, name="references", daemon=True).start()

    def stop(self) -> None:
        """Ends both."""
        self._ending.set()
        for reference in self._references:
            reference.stop()
            reference.close()

    def _run(self) -> None:
        while not self._ending.wait(ROUND_SECONDS):
            self.advance(time.monotonic())

    def advance(self, now: float) -> None:
        """Adds what was counted up to ``now`` (s, monotonic), less what is not shown yet."""
        for reference in self._references:
            sensor = reference.sensor
            end = now - sensor.delay - sensor.update - reference.period
            start = self._until[reference.name]
            # A stretch of some updates has a narrow band.
            if end - start < LEAST_UPDATES * sensor.update:
                continue
            found = reference.energy(start, end)
            with self._lock:
                total = self._totals[reference.name]
                if found.energy is None:
                    total = total._replace(unknown=total.unknown + end - start, reason=found.reason)
                else:
                    total = total._replace(joules=total.joules + found.energy.value, reason=None)
                self._totals[reference.name] = total
            self._until[reference.name] = end

    def look(self) -> list[Total]:
        """What they came to so far."""
        with self._lock:
            return list(self._totals.values())
