"""A process that meters itself beside GPUs, window by window, as a test asks for them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: Has a child, and meters a window for each line it is given: how long, and the meter's options.
METERER = """
import json, os, subprocess, sys, time
from lithowatt import EnergyMeter
child = subprocess.Popen(["sleep", "60"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
print(os.getpid(), child.pid, flush=True)
for line in sys.stdin:
    options = json.loads(line)
    seconds = options.pop("seconds")
    with EnergyMeter(root=sys.argv[1], **options) as meter:
        time.sleep(seconds)
    flat = meter.reading.flat()
    flat["zones"] = [(z.method, z.domain, z.package, z.joules) for z in meter.reading.zones]
    print(json.dumps(flat), flush=True)
child.kill()
"""


class Meterer:
    """A process that meters itself below ``root``."""

    def __init__(self, root: Path, environment: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", METERER, str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self.process.stdout is not None and self.process.stdin is not None
        self.answers, self.orders = self.process.stdout, self.process.stdin
        self.pid, self.child = map(int, self.answers.readline().split())

    def begin(self, seconds: float, **options: Any) -> None:
        """Begins a window of so many seconds, which `end` waits for."""
        self.orders.write(json.dumps({"seconds": seconds, **options}) + "\n")
        self.orders.flush()

    def end(self) -> dict[str, Any]:
        """What the window that was begun came to, as a flat dict."""
        return dict(json.loads(self.answers.readline()))

    def meter(self, seconds: float, **options: Any) -> dict[str, Any]:
        """A window of so many seconds, as a flat dict."""
        self.begin(seconds, **options)
        return self.end()

    def at_rest(self) -> dict[str, Any]:
        """A window by whose end it has seen the GPUs at rest, however busy the machine is."""
        for _ in range(20):
            seen = self.meter(5)
            if "attributed" in seen["gpu_attributed_source"] and not self.guesses(seen):
                return seen
        raise AssertionError(seen)

    @staticmethod
    def guesses(seen: dict[str, Any]) -> bool:
        """Whether power at rest is guessed in a window."""
        return "guessed" in seen["gpu_attributed_source"]

    def close(self) -> None:
        """Ends the process."""
        self.orders.close()
        self.process.wait(timeout=30)
        self.answers.close()
