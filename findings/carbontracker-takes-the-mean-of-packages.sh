#!/usr/bin/env bash
# carbontracker 2.4.7 (PyPI), Python 3.11
#
# carbontracker reads every RAPL package ("The following components were found: CPU with device(s) cpu:0, cpu:1")
# and reports what the component used.
#
# Expected: two packages at 20 and 100 W are a CPU of 120 W, two epochs of 3 s use 720 J, and the reported
# consumption is that times the constant PUE of 1.58.
# Seen: "Average power usage (W) for cpu: 60", and half the energy. The readings of the devices are put into one
# flat list of the epoch, and its mean is taken for the power of the component: with n packages (or GPUs, which go
# the same way) one nth is reported. With one package all is right, and nothing tells.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check carbontracker==2.4.7
cat >"$work/seen.py" <<'PY'
import sys, threading, time
from pathlib import Path

import carbontracker.components.cpu.intel as intel
from carbontracker import parser
from carbontracker.tracker import CarbonTracker

PUE = 1.58
stop = threading.Event()


def machine(folder, watts, begin):
    """The counters of packages that draw `watts`, whatever runs."""
    while True:
        for package, power in enumerate(watts):
            zone = folder / f"intel-rapl:{package}"
            (zone / "next").write_text(f"{10**9 + int(power * 1e6 * (time.monotonic() - begin))}\n")
            (zone / "next").rename(zone / "energy_uj")
        if stop.wait(0.005):
            return


def reported(name, *watts):
    """Watts that the reported energy comes to, without the PUE."""
    folder = Path(sys.argv[1], name)
    for package, _ in enumerate(watts):
        zone = folder / f"intel-rapl:{package}"
        zone.mkdir(parents=True)
        (zone / "name").write_text(f"package-{package}\n")
    stop.clear()
    running = threading.Thread(target=machine, args=(folder, watts, time.monotonic()))
    running.start()
    time.sleep(0.2)
    intel.RAPL_DIR = f"{folder}/"
    logs = f"{sys.argv[1]}/logs {name}"
    tracker = CarbonTracker(epochs=2, log_dir=logs, verbose=0, components="cpu")
    begin = time.monotonic()
    for _ in range(2):
        tracker.epoch_start()
        time.sleep(3)
        tracker.epoch_end()
    took = time.monotonic() - begin
    stop.set()
    running.join()
    (log,) = parser.parse_all_logs(logs)
    power = log["actual"]["energy (kWh)"] * 3.6e6 / PUE / took
    print(f"{name}: {sum(watts)} W, reported {power:.0f} W;", log["components"]["cpu"]["devices"], flush=True)
    return power


one = reported("one package", 120)
two = reported("two packages", 20, 100)
# Wide: on a busy machine the simulated counters lag a little.
assert 90 < one < 140, one
assert 0.35 < two / one < 0.65, f"{two} of {one}: mended?"
PY
cd "$work"
"$work/venv/bin/python" "$work/seen.py" "$work"
echo "seen as stated"
