#!/usr/bin/env bash
# energyusage 0.0.14 (PyPI), Python 3.11
#
# energyusage measures the watts of a machine before a function and while it runs, from the packages' RAPL
# counters.
#
# Expected: on a machine with two packages of 30 and 40 W, an idle baseline of 70 W.
# Seen: about 95 W. With more than one package it adds up all counters whose name, as it renames them, contains
# "CPU": package-0 and package-1 become CPU0 and CPU1, and `core`, which is a part of a package and already in it,
# becomes CPU. Both packages' `core` have the same name, so one of the two is added (here 25 or 20 W), whichever
# the folder lists last. With one package nothing is counted twice.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check energyusage==0.0.14
cat >"$work/seen.py" <<'PY'
import importlib, multiprocessing, sys, time
from pathlib import Path

import energyusage.utils

evaluate = importlib.import_module("energyusage.evaluate")


def machine(folder, zones, begin):
    while True:
        for zone, (_, watts) in zones.items():
            (folder / zone / "next").write_text(f"{10**9 + int(watts * 1e6 * (time.monotonic() - begin))}\n")
            (folder / zone / "next").rename(folder / zone / "energy_uj")
        time.sleep(0.002)


def work():
    time.sleep(2)


def baseline(name, zones):
    folder = Path(sys.argv[1], name)
    for zone, (domain, _) in zones.items():
        (folder / zone).mkdir(parents=True)
        (folder / zone / "name").write_text(f"{domain}\n")
    energyusage.utils.BASE = f"{folder}/"
    running = multiprocessing.Process(target=machine, args=(folder, zones, time.monotonic()))
    running.start()
    time.sleep(0.5)
    try:
        _, _, watts, _, _ = evaluate.energy(work, powerLoss=1.0, year="2016", printToScreen=False)
    finally:
        running.terminate()
        running.join()
    print(f"{name}: {watts[0]:.1f} W idle, {watts[1]:.1f} W with the function")
    return watts[0]


one = baseline("one package of 30 W", {"intel-rapl:0": ("package-0", 30), "intel-rapl:0:0": ("core", 20)})
two = baseline(
    "two packages, 30 and 40 W",
    {
        "intel-rapl:0": ("package-0", 30),
        "intel-rapl:0:0": ("core", 20),
        "intel-rapl:1": ("package-1", 40),
        "intel-rapl:1:0": ("core", 25),
    },
)
assert 27 < one < 33, one
assert 84 < two < 104, f"{two}: mended?"
PY
cd "$work"
"$work/venv/bin/python" "$work/seen.py" "$work"
echo "seen as stated"
