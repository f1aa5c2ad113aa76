#!/usr/bin/env bash
# pyJoules 0.5.1 (PyPI), Python 3.11
#
# EnergyMeter.gen_idle(trace) is there to learn what the machine uses when it idles: for each sample of the trace
# it is to wait as long as that sample took, and give the energy of the wait. EnergyTrace.remove_idle() subtracts
# it.
#
# Expected: for a trace of two samples of 1 s each, gen_idle takes 2 s; on a machine that does nothing but draw 20
# W, remove_idle leaves nothing.
# Seen: gen_idle is back after milliseconds with 0.0 for both samples, and remove_idle subtracts nothing.
# Durations are in seconds, and gen_idle divides them by 10^9 as if they were in nanoseconds. No warning.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check pyjoules==0.5.1
cat >"$work/seen.py" <<'PY'
import sys, threading, time
from pathlib import Path

import pyJoules.device.rapl_device as rapl
from pyJoules.device import DeviceFactory
from pyJoules.energy_meter import EnergyMeter

zone = Path(sys.argv[1], "intel-rapl", "intel-rapl:0")
zone.mkdir(parents=True)
(zone / "name").write_text("package-0\n")
rapl.RAPL_API_DIR = str(zone.parent)
begin, stop = time.monotonic(), threading.Event()


def tick():
    """The counter of a package that draws 20 W, whatever runs."""
    (zone / "next").write_text(f"{10**9 + int(20e6 * (time.monotonic() - begin))}\n")
    (zone / "next").rename(zone / "energy_uj")


def machine():
    while not stop.wait(0.005):
        tick()


tick()
threading.Thread(target=machine, daemon=True).start()
meter = EnergyMeter(DeviceFactory.create_devices([rapl.RaplPackageDomain(0)]))
meter.start(tag="first")
time.sleep(1)
meter.record(tag="second")
time.sleep(1)
meter.stop()
trace = meter.get_trace()
before = [sample.energy["package_0"] for sample in trace]
begun = time.monotonic()
idle = meter.gen_idle(trace)
took = time.monotonic() - begun
trace.remove_idle(idle)
after = [sample.energy["package_0"] for sample in trace]
stop.set()
print("durations", [round(sample.duration, 2) for sample in trace], "s")
print("energy, uJ", before)
print(f"gen_idle took {took:.3f} s and gave", [sample["package_0"] for sample in idle])
print("after remove_idle, uJ", after)
assert all(15e6 < energy < 30e6 for energy in before), "the simulated machine does not draw 20 W"
assert took < 0.5, "gen_idle waits as long as the trace took: mended"
assert all(left > 0.9 * energy for left, energy in zip(after, before)), "the idle energy is subtracted: mended"
PY
"$work/venv/bin/python" "$work/seen.py" "$work"
echo "seen as stated"
