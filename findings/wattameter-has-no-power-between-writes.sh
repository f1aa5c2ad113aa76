#!/usr/bin/env bash
# wattameter 0.9.3 (PyPI), Python 3.11
#
# wattameter samples RAPL and writes its log after every `--freq-write` readings. The log has a column of the
# counter in microjoules and one of the power in watts, "cpu-0[W]".
#
# Expected: there is a power for every interval between two readings, however often the log is written.
# Seen: power is reckoned among the readings that are written at once, so the interval between two writes is in
# none of them. With --freq-write 1, the choice of who wants to see values as they come, the column is in the
# header and in no line; with 2, half of the intervals are left out, with 5 a fifth, and so is what was used in
# them. No warning. (The counter's column is right, and power can be reckoned from it. The power in a line is that
# of the interval after its time.)
#
# The paths of the counters are fixed in wattameter's command, so a simulated one of 20 W is mounted in a namespace
# of this script's own.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check wattameter==0.9.3
cat >"$work/seen.py" <<'PY'
import os, signal, subprocess, sys, time

ZONE = "/sys/class/powercap/intel-rapl/subsystem/intel-rapl:0"
work = sys.argv[1]


def count_for(seconds, energy=os.open(f"{ZONE}/energy_uj", os.O_WRONLY)):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        os.pwrite(energy, b"%d\n" % (10**9 + time.monotonic_ns() // 50), 0)
        time.sleep(0.001)


def rows(freq_write):
    command = ["wattameter", "--tracker", "0.1,rapl", "--freq-write", str(freq_write), "--suffix", str(freq_write)]
    run = subprocess.Popen([*command, "--output-dir", work])
    count_for(4)
    run.send_signal(signal.SIGTERM)
    run.wait()
    with open(f"{work}/rapl_01_wattameter_{freq_write}.log", encoding="utf-8") as log:
        lines = [line.split() for line in log]
    assert lines[1][-2:] == ["cpu-0[uJ]", "cpu-0[W]"], lines[1]
    return lines[2:]


without = {}
for freq_write in (1, 2, 5, 3600):
    readings = rows(freq_write)
    watts = [float(row[3]) for row in readings if len(row) == 4]
    intervals = len(readings) - 1
    without[freq_write] = (intervals - len(watts)) / intervals
    mean = f"{sum(watts) / len(watts):.1f} W" if watts else "none"
    print(f"--freq-write {freq_write}: {intervals} intervals, {len(watts)} powers, their mean: {mean}")
assert without[1] == 1, f"{without}: mended"
assert 0.4 < without[2] < 0.6 and 0.1 < without[5] < 0.3, f"{without}: mended"
assert without[3600] == 0, without
PY
cat >"$work/inside.sh" <<'SH'
mount -t tmpfs none /sys/class
zone=/sys/class/powercap/intel-rapl/subsystem/intel-rapl:0
mkdir -p "$zone"
echo package-0 >"$zone/name"
echo 262143328850 >"$zone/max_energy_range_uj"
echo 1000000000 >"$zone/energy_uj"
exec "$@"
SH
export PATH="$work/venv/bin:$PATH"
unshare --map-root-user --mount sh -e "$work/inside.sh" python "$work/seen.py" "$work"
echo "seen as stated"
