"""Reading a meter now and then, by a thread of its own, while a window runs."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

from lithowatt._support.harmless import described
from lithowatt.errors import LithowattError
from lithowatt.estimate import Estimate
from lithowatt.reference._energy import (
    Elsewhere,
    ReferenceEnergy,
    Sensor,
    Unreadable,
    energy_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_READINGS = 20_000
"""Kept for windows that are asked for later: five hours at one a second."""

LEAST_CHANGES = 3
"""After so many changes of its value a meter's update time is known from them."""

LAST_LOOK_SECONDS = 5.0
"""Whoever asks for a window's energy waits so long, at most, for the look at its end."""


class Reference:
    """A meter of the whole machine.

    Attributes:
        name: What readings call it.
        covers: What it measures, and what it does not.
        sensor: How it answers.
        period: Seconds between two looks.
    """

    name: str
    covers: str
    sensor: Sensor
    period: ClassVar[float] = 1.0
    #: The text and the root that it was opened by, for a copy.
    opened_by: tuple[str, str] = ("", "/")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readings: deque[tuple[float, float]] = deque(maxlen=MOST_READINGS)
        self._faults: deque[tuple[float, str, bool]] = deque(maxlen=MOST_READINGS)
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()
        self._pid = os.getpid()
        self._watchers = 0

    def read(self) -> float:
        """What it shows now, W or J; a meter whose values come by themselves is not asked.

        Raises:
            Unreadable: It cannot be read.
        """
        raise Unreadable(f"the values of {self.name} come by themselves")

    def close(self) -> None:
        """Lets go of what it holds; it may be read again."""

    def unusable(self) -> str | None:
        """Why it shows nothing of the machine's power now, ``None`` where it does.

        To be asked of a meter that was just started, before a command loads the machine for it.
        Waits for the first answer, no longer than power may be unknown within a window.
        """
        patience = time.monotonic() + self.sensor.gap
        while time.monotonic() < patience:
            with self._lock:
                if self._readings:
                    return None
                if self._faults:
                    return self._faults[-1][1]
            time.sleep(0.05)
        return f"it showed nothing within {self.sensor.gap:g} s"

    def start(self) -> None:
        """Begins to read it, until `stop` was called as often."""
        with self._lock:
            if not self._is_first():
                return
            before = self._thread
            self._ending = threading.Event()
            self._thread = threading.Thread(
                target=self._run, args=(self._ending, before), name="lithowatt-ref", daemon=True
            )
            self._thread.start()

    def _is_first(self) -> bool:
        """Counts one watcher more, with the lock held: whether reading is to begin."""
        if self._pid != os.getpid():
            # The thread of the process that was forked is not here.
            self._pid, self._thread, self._watchers = os.getpid(), None, 0
            self._readings.clear()
        self._watchers += 1
        return self._watchers == 1

    def stop(self) -> None:
        """Lets it be read once more, and then no longer; waits for nothing."""
        with self._lock:
            if self._pid == os.getpid() and self._watchers:
                self._watchers -= 1
                if not self._watchers:
                    self._ending.set()

    def _run(self, ending: threading.Event, before: threading.Thread | None) -> None:
        if before is not None:
            before.join()
        while True:
            last = ending.is_set()
            self._look()
            if last:
                self.close()
                return
            ending.wait(self.period)

    def _look(self) -> None:
        began = time.monotonic()
        try:
            value = self.read()
        except Unreadable as fault:
            self.fault(began, str(fault), isinstance(fault, Elsewhere))
        except Exception as fault:
            self.fault(began, described(fault), False)
        else:
            self.tell((began + time.monotonic()) / 2, value)

    def tell(self, when: float, value: float) -> None:
        """Takes a reading; ``when`` in s on the monotonic clock."""
        with self._lock:
            if not self._readings or when >= self._readings[-1][0]:
                self._readings.append((when, value))

    def fault(self, when: float, why: str, elsewhere: bool) -> None:
        """Takes a look that failed."""
        with self._lock:
            self._faults.append((when, why, elsewhere))

    def _known(self) -> tuple[list[tuple[float, float]], list[tuple[float, str, bool]]]:
        thread = self._thread
        if self._ending.is_set() and thread is not None and self._pid == os.getpid():
            thread.join(LAST_LOOK_SECONDS)
        with self._lock:
            return list(self._readings), list(self._faults)

    def _update(self, readings: Sequence[tuple[float, float]]) -> float:
        """How often it has a new value, s: as seen, where that is more often than stated. A value
        in coarse steps may stay the same for long."""
        seen = between_changes(readings)
        stated = self.sensor.update
        return stated if seen is None else min(seen, stated)

    def _now(self) -> float:
        """The clock of the readings, s."""
        return time.monotonic()

    def wait(self, end: float) -> None:
        """Waits until it may be known what was at ``end`` (s, monotonic), some seconds at most."""

    def __reduce__(self) -> tuple[Any, ...]:
        from lithowatt.reference._open import opened

        return opened, self.opened_by

    def energy(self, start: float, end: float) -> ReferenceEnergy:
        """The machine's energy between two times on the monotonic clock, s."""
        if self._pid != os.getpid():
            return self._none("the window began before this process was forked")
        try:
            readings, faults = self._known()
        except LithowattError as error:
            # What a file's writer did to it meanwhile costs the window nothing else.
            return self._none(str(error))
        shift = self._now() - time.monotonic()
        start, end = start + shift, end + shift
        sensor = self.sensor
        margin = sensor.gap + sensor.delay
        readings = [one for one in readings if start - margin <= one[0] <= end + margin]
        update = self._update(readings)
        sensor = sensor._replace(update=update, delay=sensor.delay * update / sensor.update)
        inside = [fault for fault in faults if start <= fault[0] + shift <= end + self.period]
        for when, why, elsewhere in inside:
            if elsewhere:
                return self._none(f"{why} ({max(0.0, when + shift - start):.0f} s into the window)")
        found, reason = energy_of(sensor, readings, start, end)
        count = sum(start <= when <= end for when, _ in readings)
        if found is None:
            if inside and not count:
                reason = inside[-1][1]
            return self._none(reason)
        return ReferenceEnergy(self.name, Estimate(*found, self.name), self.covers, None, count)

    def _none(self, reason: str | None) -> ReferenceEnergy:
        return ReferenceEnergy(self.name, None, self.covers, reason, 0)


def nothing_from(references: Sequence[Reference]) -> str | None:
    """The first of these meters that shows nothing now, and why; ``None`` where each shows power.

    They must have been started.
    """
    for reference in references:
        why = reference.unusable()
        if why is not None:
            return (
                f"{reference.name} shows no power of this machine now: {why} (other meters: "
                "docs/how-to/whole-machine.md)"
            )
    return None


def longest_delay(references: Sequence[Reference]) -> float:
    """How long the load stays before and after a window, s: what a meter shows then is of the same
    load, however its delay differs from what is assumed. A ladder only rises, so an error would be
    the same way in each step, and in no residual."""
    return max((reference.sensor.delay for reference in references), default=0.0)


def between_changes(readings: Sequence[tuple[float, float]]) -> float | None:
    """The mean time from change to change of the value, s; ``None`` with fewer than three."""
    changes = [now[0] for then, now in pairwise(readings) if now[1] != then[1]]
    if len(changes) < LEAST_CHANGES:
        return None
    return (changes[-1] - changes[0]) / (len(changes) - 1)
