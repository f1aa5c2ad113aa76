"""Writes counter values to files at their times: ``python writer.py PLAN``.

The plan is JSON: ``folder`` and ``values``, each ``[ns after the beginning, file, text]``, in
order. ``folder/begin`` gets the beginning (CLOCK_MONOTONIC, ns), ``folder/late`` what was written
late: when it was due and when it was written, ns.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path

AHEAD_NS = 30_000_000
SLEEP_NS = 60_000
LATE_NS = 150_000


def main() -> None:
    plan = json.loads(Path(sys.argv[1]).read_text())
    folder = Path(plan["folder"])
    files: dict[str, int] = {}
    values = []
    for after, name, text in plan["values"]:
        if name not in files:
            files[name] = os.open(name, os.O_WRONLY)
        values.append((after, files[name], text.encode()))
    # Where it may, so that others do not make it late.
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(5))
    late = []
    begin = time.monotonic_ns() + AHEAD_NS
    (folder / "begin.new").write_text(str(begin))
    (folder / "begin.new").rename(folder / "begin")
    for after, file, text in values:
        due = begin + after
        wait = due - time.monotonic_ns()
        if wait > SLEEP_NS:
            time.sleep((wait - SLEEP_NS) * 1e-9)
        while time.monotonic_ns() < due:
            pass
        os.pwrite(file, text, 0)
        written = time.monotonic_ns()
        if written - due > LATE_NS:
            late.append((due, written))
    (folder / "late").write_text(json.dumps(late))


if __name__ == "__main__":
    main()
