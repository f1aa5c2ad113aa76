"""The GPUs of the agent's machine: what each used since the agent began."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import NamedTuple

from lithowatt.errors import LithowattError
from lithowatt.meter._meter import EnergyMeter

SAMPLE_SECONDS = 1.0
"""Between two samples of the meter beside; GPUs are looked at ten times a second."""

PATIENCE_SECONDS = 30.0
"""Where no GPU was found for so long there is none, and nothing is read any more."""


class GpuTotal(NamedTuple):
    """One GPU.

    Attributes:
        name: As its maker or the kernel names it, with its number.
        method: ``nvml`` or ``hwmon``.
        joules: J since the agent began.
    """

    name: str
    method: str
    joules: float


class Gpus:
    """A window that is as long as the agent lives. The agent's own thread reads no GPU: a driver's
    library may take its time."""

    def __init__(self, root: str | None) -> None:
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._settled = False
        self._highest: dict[tuple[str, str], float] = {}
        self._meter: EnergyMeter | None = None
        # An agent without GPUs is better than none.
        with contextlib.suppress(LithowattError):
            self._meter = EnergyMeter(
                methods=["counters", "nvml"],
                interval=SAMPLE_SECONDS,
                children=False,
                root=root,
                enabled=True,
            )
            self._meter.start()

    def close(self) -> None:
        """Ends it."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        meter, self._meter = self._meter, None
        if meter is not None:
            with contextlib.suppress(LithowattError):
                meter.stop()

    def _is_due(self) -> bool:
        return not self._settled and time.monotonic() - self._began > PATIENCE_SECONDS

    def settle(self) -> None:
        """Ends it, once, where no GPU was found and nobody has asked since."""
        if self._is_due():
            self.look()

    def look(self) -> list[GpuTotal]:
        """Those whose joules are known now."""
        with self._lock:
            meter = self._meter
            if meter is None:
                return []
            gpus = []
            with contextlib.suppress(LithowattError):
                gpus = [zone for zone in meter.reading.zones if zone.domain == "gpu"]
            if self._is_due():
                self._settled = True
                if not gpus:
                    self._end()
            found = []
            for zone in gpus:
                if zone.joules is None:
                    continue
                # Carried on at the last power until a GPU's counter changes, so it may come down.
                key = zone.method, zone.name
                self._highest[key] = max(zone.joules, self._highest.get(key, 0.0))
                found.append(GpuTotal(zone.name, zone.method, self._highest[key]))
            return found
