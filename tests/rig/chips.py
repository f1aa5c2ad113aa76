"""A machine's hwmon chips as plain files, with joules that are known.

Power is what the test sets it to, at a moment that is remembered; energy is what it adds. So
nothing here depends on when a reader looks.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

SECOND = 1_000_000_000


class Chips:
    """Chips below a root.

    Attributes:
        root: Directory to give a meter as its ``/``. The rest of it is the machine's own.
        steps: By channel, when its power was set (monotonic ns) and to how many W.
    """

    def __init__(self, root: Path, *, linked: bool = True) -> None:
        self.root = root
        self.place = root / "sys/class/hwmon"
        self.place.mkdir(parents=True)
        self.steps: dict[str, list[tuple[int, float]]] = {}
        self._microjoules: dict[str, int] = {}
        if linked:
            (root / "proc").symlink_to("/proc")
            for name in ("devices", "fs"):
                (root / "sys" / name).symlink_to(f"/sys/{name}")

    def add(self, files: Mapping[str, str]) -> None:
        """Writes files such as ``hwmon3/power1_label``."""
        for name, text in files.items():
            path = self.place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            # In place, and of one width: a reader always finds a whole number.
            number = text.lstrip("-").isdigit()
            padded = f"{text:<20}\n" if number else f"{text}\n"
            handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
            os.pwrite(handle, padded.encode(), 0)
            os.close(handle)

    def draw(self, channel: str, watts: float) -> None:
        """From now on a channel such as ``hwmon3/power1_input`` shows so much power."""
        self.add({channel: str(round(watts * 1e6))})
        self.steps.setdefault(channel, []).append((time.monotonic_ns(), watts))

    def use(self, channel: str, joules: float) -> None:
        """Adds to a channel such as ``hwmon3/energy1_input``."""
        total = self._microjoules.get(channel, 1_000_000) + round(joules * 1e6)
        self._microjoules[channel] = total
        self.add({channel: str(total)})

    def joules(self, channel: str, begin: int, end: int) -> float:
        """What a channel of power used between two moments (monotonic ns)."""
        total = 0.0
        steps = self.steps[channel]
        until = [moment for moment, _ in steps[1:]] + [end]
        for (moment, watts), last in zip(steps, until, strict=True):
            total += watts * max(0, min(last, end) - max(moment, begin)) / SECOND
        return total
