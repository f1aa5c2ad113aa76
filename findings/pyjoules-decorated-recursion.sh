#!/usr/bin/env bash
# pyJoules 0.5.1 (PyPI), Python 3.11
#
# @measure_energy measures "the energy consumption during the execution of the decorated function".
#
# Expected: of a decorated function that calls itself, the outermost call holds the others. Three nested calls of
# 0.3 s each, at 20 W: about 0.3, 0.6 and 0.9 s, and 6, 12 and 18 J.
# Seen: three times the same sample, that of the innermost call: 0.3 s and 6 J. All calls of a decorated function
# share one meter, whose start() forgets the call that is under way; two thirds of time and energy appear nowhere.
# Calls of one decorated function in several threads share it, too. No warning.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check pyjoules==0.5.1
cat >"$work/seen.py" <<'PY'
import sys, threading, time
from pathlib import Path

import pyJoules.device.rapl_device as rapl
from pyJoules.energy_meter import measure_energy

zone = Path(sys.argv[1], "intel-rapl", "intel-rapl:0")
zone.mkdir(parents=True)
(zone / "name").write_text("package-0\n")
rapl.RAPL_API_DIR = str(zone.parent)
begin, stop = time.monotonic(), threading.Event()


def counter():
    return 10**9 + int(20e6 * (time.monotonic() - begin))


def machine():
    while not stop.wait(0.005):
        (zone / "next").write_text(f"{counter()}\n")
        (zone / "next").rename(zone / "energy_uj")


threading.Thread(target=machine, daemon=True).start()
time.sleep(0.1)
samples = []


class Kept:
    def process(self, trace):
        samples.extend((sample.timestamp, sample.duration, sample.energy["package_0"]) for sample in trace)


@measure_energy(handler=Kept(), domains=[rapl.RaplPackageDomain(0)])
def walk(depth):
    time.sleep(0.3)
    if depth > 1:
        walk(depth - 1)


begun = time.monotonic()
walk(3)
took = time.monotonic() - begun
stop.set()
for _, duration, energy in samples:
    print(f"sample: {duration:.2f} s, {energy / 1e6:.1f} J")
print(f"the outermost call took {took:.2f} s")
assert len(samples) == 3 and took > 0.9
assert len(set(samples)) == 1 and samples[0][1] < took / 2, "nested calls differ: mended"
PY
"$work/venv/bin/python" "$work/seen.py" "$work"
echo "seen as stated"
