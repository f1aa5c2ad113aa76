#!/usr/bin/env bash
# experiment-impact-tracker 0.1.8 with psutil 7.2.2 (PyPI), Python 3.11
#
# experiment-impact-tracker gives the processes of an experiment their part of the DRAM power that RAPL counts: the
# part that they have of all memory in use.
#
# Expected: a process that holds 1 GiB has 1 GiB of what is in use, and of the DRAM power alike; all processes
# together have no more than all of it.
# Seen: twice that. The part is the sum of USS and PSS over the memory in use, and each page of USS ("unique set
# size", the pages of this process alone) is in PSS (those and its part of the shared ones), too. On a machine whose
# memory this process has for the most part, relative_mem_usage is more than 1, and it is charged more watts of DRAM
# than the DRAM draws. No warning.
#
# The paths of the counters are fixed in experiment-impact-tracker, so simulated ones are mounted in a namespace of
# this script's own. Of the packages it asks for, those for its plots and reports are left out.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check arrow==1.4.0 beautifulsoup4==4.15.0 geocoder==1.38.1 \
  geopy==2.5.0 numpy==1.26.4 pandas==1.5.3 progiter==2.0.0 psutil==7.2.2 py-cpuinfo==9.0.0 requests==2.34.2 \
  shapely==2.2.0 ujson==6.1.0
"$work/venv/bin/pip" install -q --disable-pip-version-check --no-deps experiment-impact-tracker==0.1.8
cat >"$work/seen.py" <<'PY'
import contextlib, io, logging, os, threading, time

import psutil

with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    import experiment_impact_tracker.cpu.intel as intel

PACKAGE = "/sys/class/powercap/intel-rapl/intel-rapl:0"
held = bytearray(b"x") * (1 << 30)


def count():
    start = time.monotonic()
    while True:
        for zone, watts in ((PACKAGE, 30), (f"{PACKAGE}/intel-rapl:0:0", 10)):
            with open(f"{zone}/energy_uj", "r+") as file:
                file.write(f"{10**9 + int(watts * 1e6 * (time.monotonic() - start))}\n")
        sum(range(100_000))


threading.Thread(target=count, daemon=True).start()
time.sleep(0.5)
given = intel.get_rapl_power([os.getpid()], logging.getLogger())["relative_mem_usage"]
memory = psutil.virtual_memory()
part = psutil.Process().memory_full_info().pss / (memory.total - memory.available)
print(f"part of the memory in use: {part:.3f}, given: {given:.3f}")
assert 1.8 < given / part < 2.2, f"{given} for {part}: mended"
PY
cat >"$work/inside.sh" <<'SH'
mount -t tmpfs none /sys/class
package=/sys/class/powercap/intel-rapl/intel-rapl:0
mkdir -p "$package/intel-rapl:0:0"
echo package-0 >"$package/name"
echo dram >"$package/intel-rapl:0:0/name"
for zone in "$package" "$package/intel-rapl:0:0"; do
    echo 262143328850 >"$zone/max_energy_range_uj"
    echo 1000000000 >"$zone/energy_uj"
done
exec "$@"
SH
unshare --map-root-user --mount sh -e "$work/inside.sh" "$work/venv/bin/python" "$work/seen.py"
echo "seen as stated"
