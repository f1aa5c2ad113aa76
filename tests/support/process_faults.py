"""Random process trees that do what breaks accounting, and report the CPU time they really used.

Run as a program it is the root of one tree; ``grow`` starts it and meters it.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAMES = ("worker", "é" * 10, "a) b (", "\udcff\udcfe", "x" * 15)


def plan(choose: random.Random, depth: int = 0) -> dict[str, Any]:
    """A process: how long it works, what it is called, what it starts, how it ends."""
    count = choose.choice((0, 1, 2, 3)) if depth < 2 else 0
    return {
        "work": choose.choice((0.0, 0.01, 0.05, 0.1)),
        "name": choose.choice(NAMES),
        # Waits for its children, ends before them, or has the kernel discard them.
        "ends": choose.choice(("waits", "waits", "leaves", "ignores")),
        "sleeps": choose.choice((0.0, 0.02, 0.1)),
        "children": [plan(choose, depth + 1) for _ in range(count)],
    }


def work(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def fate(parent: dict[str, Any], parents: str) -> str:
    """Who has a child's CPU time when it has ended, where ``parents`` is what its parent's fate is.

    ``kept``: the root's, in the end. ``discarded``: nobody's, for the root ignores SIGCHLD.
    ``orphan``: nobody's, for the parent, or one above it, ended first. ``hidden``: nobody's, for a
    descendant ignores SIGCHLD.
    """
    if parents not in ("root", "kept") or parent["ends"] == "waits":
        return "kept" if parents == "root" else parents
    if parent["ends"] == "leaves":
        return "orphan"
    return "discarded" if parents == "root" else "hidden"


def live(process: dict[str, Any], report: int, since: float, whose: str = "root") -> None:
    """Does what the plan says and writes the CPU time used since ``since``, s, and its fate."""
    Path("/proc/self/comm").write_bytes(process["name"].encode("utf-8", "surrogateescape")[:15])
    if process["ends"] == "ignores":
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for child in process["children"]:
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            live(child, report, 0.0, fate(process, whose))
            os._exit(0)
    time.sleep(process["sleeps"])
    work(process["work"])
    if process["ends"] == "waits":
        for _ in process["children"]:
            os.wait()
    os.write(report, f"{time.process_time() - since:.6f} {whose}\n".encode())


def count(process: dict[str, Any]) -> int:
    return 1 + sum(count(child) for child in process["children"])


@dataclass
class Grown:
    """What a tree used and what the meter said."""

    plan: dict[str, Any]
    truth: float
    """CPU s, of all its processes."""
    fates: dict[str, float]
    """The same by who has it, see ``fate``."""
    reading: Any


def grow(process: dict[str, Any], **options: Any) -> Grown:
    """Meters a tree by the pid of its root, until every process of it has ended."""
    from lithowatt import EnergyMeter

    reports, report = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-S", __file__, json.dumps(process), str(report)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[report],
    ) as root:
        os.close(report)
        assert root.stdin is not None and root.stdout is not None
        root.stdout.readline()
        with EnergyMeter(pid=root.pid, methods=["psutil", "tdp"], **options) as meter:
            root.stdin.write(b"\n")
            root.stdin.flush()
            with os.fdopen(reports) as lines:
                used = [line.split() for line in lines]
    assert len(used) == count(process)
    fates: dict[str, float] = {}
    for seconds, whose in used:
        fates[whose] = fates.get(whose, 0.0) + float(seconds)
    return Grown(process, sum(fates.values()), fates, meter.reading)


if __name__ == "__main__":
    print("ready", flush=True)
    sys.stdin.readline()
    live(json.loads(sys.argv[1]), int(sys.argv[2]), time.process_time())
    os._exit(0)  # as the others: nothing is used after the report but what the kernel uses
