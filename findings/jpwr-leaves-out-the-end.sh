#!/usr/bin/env bash
# jpwr 0.0.10 with pandas 2.3.3 (PyPI), Python 3.11
#
# `jpwr --methods METHOD --interval MS COMMAND` samples power every MS milliseconds (100 by default) while the
# command runs, and gives its energy in watt-hours.
#
# Expected: on a node of 100 W a command of 0.9 s uses 0.025 Wh, one of 1.9 s 0.053 Wh, whatever the interval, or
# what is not covered is told. Samples are 1000 ms apart.
# Seen, with --interval 1000: 0.0 and 0.028 Wh. There is no sample when the command ends, so all since the last one
# is left out, up to a whole interval; a command that is shorter has one sample and used "0.0". The samples come
# in pairs, some microseconds apart, with 1000 ms between the pairs: the loop takes its own wait for time that the
# measuring took, and waits only every other time. Half of them say nothing new. And jpwr ends with status 0
# whatever status the command ended with, so that a job script with `set -e` goes on.
#
# The method `gh` reads power from hwmon, as Grace-Hopper nodes have it; a simulated one is mounted in a namespace
# of this script's own.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check jpwr==0.0.10 pandas==2.3.3
cat >"$work/seen.py" <<'PY'
import csv, glob, subprocess, sys

work = sys.argv[1]


def measured(name, *command):
    jpwr = ["jpwr", "--methods", "gh", "--interval", "1000", "--df-out", f"{work}/{name}", "--df-filetype", "csv"]
    status = subprocess.run([*jpwr, *command], stdout=subprocess.DEVNULL).returncode

    def table(kind):
        with open(glob.glob(f"{work}/{name}/{kind}.*.csv")[0], encoding="utf-8") as file:
            return list(csv.reader(file))[1:]

    times = [float(row[1]) for row in table("power")]
    return float(table("energy")[0][1]), [b - a for a, b in zip(times, times[1:])], status


used, gaps, status = {}, {}, None
for seconds in (0.9, 1.9, 4.5):
    used[seconds], gaps[seconds], _ = measured(f"of {seconds} s", "sleep", str(seconds))
    print(f"{seconds} s at 100 W: {100 * seconds / 3600:.4f} Wh used, {used[seconds]:.4f} Wh given")
print("between samples:", ", ".join(f"{gap:.4f} s" for gap in gaps[4.5]))
*_, status = measured("status", "sh", "-c", "exit 3")
print("command ended with 3, jpwr with", status)
assert used[0.9] == 0 and used[1.9] < 0.7 * 100 * 1.9 / 3600, f"{used}: mended"
assert sum(gap < 0.1 for gap in gaps[4.5]) >= 3 and sum(gap > 0.9 for gap in gaps[4.5]) >= 3, f"{gaps}: mended"
assert status == 0, f"{status}: mended"
PY
cat >"$work/inside.sh" <<'SH'
mount -t tmpfs none /sys/class
device=/sys/class/hwmon/hwmon0/device
mkdir -p "$device"
echo "Module Power Socket 0" >"$device/power1_oem_info"
echo 100000000 >"$device/power1_average"
exec "$@"
SH
export PATH="$work/venv/bin:$PATH"
unshare --map-root-user --mount sh -e "$work/inside.sh" python "$work/seen.py" "$work"
echo "seen as stated"
