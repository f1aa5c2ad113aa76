#!/usr/bin/env bash
# codecarbon 3.3.2 (PyPI), Python 3.11
#
# With tracking_mode="process" codecarbon reckons the energy of the tracked process alone, where no counter is read from
# the CPU time of "the tracked process and all its children", once a second.
#
# Expected: ten seconds of CPU time in child processes are the same energy, whether one child has them or twenty of
# half a second each, one after another, as a build or a pipeline of commands starts them.
# Seen: about a hundredth for the twenty. The first reading of a child counts nothing, and what a child used since its
# last reading is lost when it ends: one that lives shorter than a second or two was never there. The CPU time of ended
# children is in the parent's own times (children_user, children_system), which are not read. Of one long child a
# second or two are lost.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check codecarbon==3.3.2
cat >"$work/seen.py" <<'PY'
import os
import subprocess
import sys

from codecarbon import OfflineEmissionsTracker

BURN = "import time\nend = time.process_time() + {}\nwhile time.process_time() < end: pass"


def joules(children, seconds):
    tracker = OfflineEmissionsTracker(
        country_iso_code="FRA", tracking_mode="process", force_mode_cpu_load=True, force_cpu_power=100,
        save_to_file=False, log_level="error",
    )  # fmt: skip
    before = os.times()
    tracker.start()
    for _ in range(children):
        subprocess.run([sys.executable, "-c", BURN.format(seconds)], check=True)
    tracker.stop()
    after = os.times()
    used = sum(after[:4]) - sum(before[:4])
    energy = 3.6e6 * tracker.final_emissions_data.cpu_energy
    print(f"{children} children, {used:.1f} s of CPU time in all: {energy:.0f} J")
    return energy / used


one, twenty = joules(1, 10), joules(20, 0.5)
assert one > 0
assert twenty < 0.3 * one, f"{twenty / one}: mended?"
PY
cd "$work"
HOME="$work" "$work/venv/bin/python" "$work/seen.py"
echo "seen as stated"
