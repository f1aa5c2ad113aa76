"""A program that records a run on a simulated machine and prints its reading, as JSON.

``recorder.py ROOT TRACE SCENE [METHODS]``: the machine is a tree of plain files below ROOT.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from lithowatt.trace._record import Recording
from rig import StaticTree
from tests.support.working_machine import WorkingMachine

#: 30 W of each package, 5 of its memory, µJ every 2 ms.
STEP_UJ = {"package": 60_000, "core": 40_000, "dram": 10_000}


def busy(seconds: float) -> None:
    """Uses that much CPU time of this thread."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(5_000))


def moving(tree: StaticTree, ended: threading.Event, each: Callable[[int], None]) -> None:
    """Lets the counters grow until the window has ended."""
    step = 0
    while not ended.wait(0.002):
        each(step)
        for zone in tree.zones:
            domain = zone.key.rpartition("/")[2].split("-")[0]
            tree.add(zone.key, STEP_UJ[domain])
        step += 1


def main() -> None:
    """Records the scene."""
    root, trace, scene, *methods = sys.argv[1:]
    near_the_end = 262_143_328_850 - 4_000_000
    start_uj = near_the_end if scene == "wrap" else 1_000_000
    cache = Path(root) / "sys/fs/resctrl/mon_data/mon_L3_00"
    domains: tuple[str, ...] = ("package", "core", "dram")
    if scene == "traffic":
        cache.mkdir(parents=True)
        (cache / "mbm_total_bytes").write_text("0\n")
        domains = ("package",)
    tree = None
    machine: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
    if scene == "clock":
        # Its clock goes down from 3 GHz.
        machine = WorkingMachine(Path(root), lambda seconds: 3000.0 - 300.0 * seconds)
    elif scene != "model":
        tree = StaticTree(root, packages=2, domains=domains, start_uj=start_uj)

    def vanish(step: int) -> None:
        if tree is not None and scene == "vanish" and step == 60:
            tree.show("package-1", "")
        if tree is not None and scene == "back" and step == 100:
            tree.set("package-0", 500_000)
        if scene == "traffic":
            (cache / "new").write_text(f"{step * 10_000_000}\n")
            (cache / "new").replace(cache / "mbm_total_bytes")

    recording = Recording(
        methods=methods[0] if methods else "rapl,psutil,model",
        interval=0.02 if scene == "fast" else None if scene == "edges" else 0.1,
        root=None if scene == "model" else root,
    )
    with machine:
        metered(recording, scene, tree, vanish)
    reading = recording.reading
    recording.save(trace, exit_code=0)
    json.dump({"raw": reading.raw, "flat": reading.flat()}, sys.stdout)


def metered(
    recording: Recording, scene: str, tree: StaticTree | None, each: Callable[[int], None]
) -> None:
    """The window that is recorded."""
    ended = threading.Event()
    recording.start()
    if tree is not None:
        writer = threading.Thread(target=moving, args=(tree, ended, each))
        writer.start()
    busy(0.3)
    for _ in range(3):
        child = "import time\nwhile time.process_time() < 0.15: pass"
        if scene == "children":
            subprocess.run([sys.executable, "-c", child], check=True)
            subprocess.Popen([sys.executable, "-c", child]).wait()
        else:
            busy(0.1)
    recording.stop()
    ended.set()
    if tree is not None:
        writer.join()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1] / "rig"))
    os.environ.pop("LITHOWATT_ROOT", None)
    main()
