#!/usr/bin/env bash
# joulehunter 1.0.2 (PyPI), Python 3.10
#
# joulehunter attributes the energy of a RAPL domain to functions; Profiler(package=..., component=...) chooses the
# domain, and the session names it (domain_names).
#
# Expected: on a machine whose packages draw 20 and 100 W, one second is 20 J for Profiler(package=0) and 100 J for
# Profiler(package=1).
# Seen: 20 J for both. The counter of the first profiler that a thread starts stays that of the thread: each later
# one reads it too, whatever package or component it was made for, and its session says "package-1". In a new thread
# Profiler(package=1) has 100 J.
#
# Needs a Python for which joulehunter can be built, 3.7 to 3.10 (named in PYTHON), and a C compiler.
set -euo pipefail
PYTHON=${PYTHON:-python3.10}
"$PYTHON" -c 'import sys; assert sys.version_info[:2] < (3, 11)' 2>/dev/null && command -v cc >/dev/null || {
    echo "needs Python 3.7 to 3.10, in PYTHON, and a C compiler" >&2
    exit 2
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$PYTHON" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check joulehunter==1.0.2
cat >"$work/seen.py" <<'PY'
import sys
import threading
import time
from pathlib import Path

import joulehunter.energy
from joulehunter import Profiler

root = Path(sys.argv[1], "powercap")
joulehunter.energy.RAPL_API_DIR = str(root)
WATTS = {0: 20, 1: 100}
BEGIN = time.monotonic()
files = {}


def tick():
    for package, watts in WATTS.items():
        files[package].seek(0)
        files[package].write("%012d\n" % (10**9 + watts * 1e6 * (time.monotonic() - BEGIN)))
        files[package].flush()


def machine():
    while True:
        tick()
        time.sleep(0.002)


for package in WATTS:
    zone = root / f"intel-rapl:{package}"
    zone.mkdir(parents=True)
    (zone / "name").write_text(f"package-{package}\n")
    files[package] = open(zone / "energy_uj", "w")
tick()
threading.Thread(target=machine, daemon=True).start()


def watts(package, where):
    profiler = Profiler(package=package)
    profiler.start()
    end = time.monotonic() + 1
    while time.monotonic() < end:
        sum(range(1000))
    session = profiler.stop()
    joules = sum(record[1] for record in session.frame_records)
    print(f"{where}: {session.domain_names[0]} {joules:.0f} J in {session.duration:.2f} s")
    assert session.domain_names == [f"package-{package}"]
    seen.append(joules / session.duration)


seen = []
watts(0, "first")
watts(1, "second")
thread = threading.Thread(target=watts, args=(1, "another thread"))
thread.start()
thread.join()
first, second, other = seen
assert 14 < first < 26 and 70 < other < 130, seen
assert 14 < second < 26, f"{second} W: mended?"
PY
"$work/venv/bin/python" "$work/seen.py" "$work"
echo "seen as stated"
