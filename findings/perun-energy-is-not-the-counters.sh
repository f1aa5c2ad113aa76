#!/usr/bin/env bash
# perun 1.0.0 (PyPI) with NumPy 2.3.4, Python 3.11
#
# perun reads the energy counter of RAPL at each sampling period and reports the ENERGY of the run.
#
# Expected: the reported energy is the last reading of the counter less the first, whatever happened between two
# readings: a counter loses nothing.
# Seen: differences become powers, and the powers are integrated again by the trapezoidal rule, which gives the
# last interval one half of its energy (and the first one and a half times; what is used before the monitoring
# process has taken its first reading, up to half a period, is in none). A run of 3 s at 5 W that ends with 1 s at
# 400 W uses 415 J and is reported with 220 to 290. A steady load shows nothing of it. A function that computes at
# its end is off by up to half of what it used in one sampling period, 1 s by default.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check perun==1.0.0 numpy==2.3.4
cat >"$work/seen.py" <<'PY'
import re, sys, time
from pathlib import Path

import perun.backend.powercap_rapl as backend

work = Path(sys.argv[1])
zone = work / "powercap" / "intel-rapl:0"
zone.mkdir(parents=True)
(zone / "name").write_text("package-0\n")
(zone / "max_energy_range_uj").write_text("262143328850\n")
backend.RAPL_PATH = str(zone.parent)

from perun import perun  # noqa: E402

used = 0


def draw(watts, seconds):
    """`seconds` at `watts`, into the counter as it comes."""
    global used
    begin = last = time.monotonic()
    while last - begin < seconds:
        time.sleep(0.02)
        now = time.monotonic()
        used += round(watts * (now - last) * 1e6)
        (zone / "next").write_text(f"{10**9 + used}\n")
        with open(zone / "energy_uj", "r+") as file:  # perun keeps this file open
            file.write(f"{10**9 + used}\n")
        last = now


def reported(name, *phases):
    global used
    used = 0
    (zone / "energy_uj").write_text(f"{10**9}\n")

    def run():
        for watts, seconds in phases:
            draw(watts, seconds)

    perun(sampling_period=1, format="text", data_out=str(work / name), app_name=name)(run)()
    (text,) = (path.read_text() for path in (work / name).glob("*.txt"))
    table = [[cell.strip() for cell in line.split("|")] for line in text.splitlines() if line.startswith("|")]
    energy = table[2][table[0].index("ENERGY")]
    value, unit = re.match(r"([\d.]+) (k?)J", energy).groups()
    return float(value) * (1000 if unit else 1), used / 1e6


if __name__ == "__main__":
    for name, low, high, *phases in (
        ("steady", 0.85, 1.08, (60, 6)),
        ("busy at the end", 0.4, 0.78, (5, 3), (400, 1)),
    ):
        told, true = reported(name, *phases)
        print(f"{name}: counter {true:.1f} J, reported {told:.1f} J, ratio {told / true:.2f}", flush=True)
        assert low < told / true < high, "the reported energy differs from what is stated: mended?"
PY
"$work/venv/bin/python" "$work/seen.py" "$work"
echo "seen as stated"
