#!/usr/bin/env bash
# emt 0.1.0a1 (PyPI, wheel for CPython 3.11), Python 3.11
#
# EnergyMonitor gives the energy of a process: total_consumed_energy is "Total energy consumed across all devices
# (Joules)". It can be handed a trace recorder, which also writes a table of the readings.
#
# Expected: the same block uses the same energy, in joules, with and without a recorder. `psys`, the whole machine,
# is no part of what the processor used (excluded_zones has it by default).
# Seen: without a recorder, joules in which psys is added to the package (823 J where the package used 78); with
# one, kilowatt hours without psys (0.000005). Without a recorder a part in Rust measures, with one a part in
# Python, which converts to the unit of a configuration whose default is kWh. The parts of consumed_energy have
# other names, too ("cpu" and "RAPLSoC"). Only energy_unit says it, and nothing warns.
#
# The paths of the counters are fixed in emt, so a simulated machine (package 15 W, psys 150 W) is mounted in a
# namespace of this script's own.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check emt==0.1.0a1 numpy==2.3.4 pandas==2.3.3
cat >"$work/counters.py" <<'PY'
import os, time

WATTS = {"intel-rapl:0": 15, "intel-rapl:1": 150}
zones = {os.open(f"/sys/class/powercap/{zone}/energy_uj", os.O_WRONLY): watts for zone, watts in WATTS.items()}
for _ in range(6000):
    for zone, watts in zones.items():
        os.pwrite(zone, b"%d\n" % (10**9 + time.monotonic_ns() * watts // 1000), 0)
    time.sleep(0.005)
PY
cat >"$work/seen.py" <<'PY'
import logging, subprocess, sys, time

logging.disable(logging.CRITICAL)

from emt import EnergyMonitor  # noqa: E402
from emt.utils.trace_recorders import CSVRecorder  # noqa: E402

work = sys.argv[1]


def measured(**options):
    start = time.monotonic()
    with EnergyMonitor(**options) as monitor:
        busy = time.monotonic() + 4
        while time.monotonic() < busy:
            pass
    parts = ", ".join(monitor.consumed_energy)
    print(f"a recorder: {bool(options)}, {monitor.total_consumed_energy} {monitor.energy_unit} in parts: {parts}")
    return monitor, time.monotonic() - start


counters = subprocess.Popen([sys.executable, f"{work}/counters.py"])
time.sleep(0.5)
try:
    without, seconds = measured()
    recorder, _ = measured(trace_recorders=CSVRecorder(f"{work}/traces"))
finally:
    counters.kill()
print(f"the package used at most {15 * seconds:.0f} J")
assert without.energy_unit == "Joules" and recorder.energy_unit == "kWh", f"{recorder.energy_unit}: mended"
assert 0 < recorder.total_consumed_energy < 15 * 8 / 3.6e6, f"{recorder.total_consumed_energy}: mended"
assert without.total_consumed_energy > 1.2 * 15 * seconds, f"{without.total_consumed_energy}: mended"
assert "cpu" in without.consumed_energy and "RAPLSoC" in recorder.consumed_energy
PY
cat >"$work/inside.sh" <<'SH'
mount -t tmpfs none /sys/class
for zone in 0:package-0 1:psys; do
    directory=/sys/class/powercap/intel-rapl:${zone%%:*}
    mkdir -p "$directory"
    echo "${zone#*:}" >"$directory/name"
    echo 262143328850 >"$directory/max_energy_range_uj"
    echo 1000000000 >"$directory/energy_uj"
done
exec "$@"
SH
export HOME="$work"
cd "$work"
unshare --map-root-user --mount sh -e "$work/inside.sh" "$work/venv/bin/python" "$work/seen.py" "$work"
echo "seen as stated"
