#!/usr/bin/env bash
# jetson-stats 7.2.2 (PyPI, jtop), Python 3.11
#
# jtop reads the power of NVIDIA's Jetson boards. For each rail and for the total it has `power`, in mW, and `avg`,
# "Gets rail power average in milliwatt".
#
# Expected: avg is the mean of the readings since the start (or since reset_avg_power()), so that avg times the time is
# the energy.
# Seen: after ten readings of 10 W and one of 30 W avg is 20 W, where the mean is 11.8; after ten more of 10 W it is
# back at 10. avg is the mean of the reading and of the avg before it: half of it is the last reading, 97 % are the
# last five, and what came before is forgotten.
#
# The board's sensors are made-up files.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check jetson-stats==7.2.2
cat >"$work/seen.py" <<'PY'
import logging
import sys
from pathlib import Path

from jtop.core import power

logging.disable(logging.CRITICAL)
bus = Path(sys.argv[1], "devices")
sensor = bus / "1-0040" / "hwmon" / "hwmon0"
sensor.mkdir(parents=True)
(bus / "1-0040" / "name").write_text("ina3221\n")
for name, value in {"in1_label": "VDD_IN", "in1_input": "5000", "curr1_input": "2000"}.items():
    (sensor / name).write_text(f"{value}\n")
service = power.PowerService()
service._power_sensor = power.find_all_i2c_power_monitor(str(bus))


def read(watts, times):
    (sensor / "curr1_input").write_text(f"{watts * 200}\n")
    for _ in range(times):
        total = service.get_status()["tot"]
        readings.append(total["power"])
    print(f"{times} readings of {watts} W: avg {total['avg']} mW, mean {sum(readings) / len(readings):.0f} mW")
    return total["avg"]


readings = []
assert read(10, 10) == 10_000
assert read(30, 1) == 20_000, "avg is the mean: mended"
assert 10_000 <= read(10, 10) < 10_050, "mended"
PY
"$work/venv/bin/python" "$work/seen.py" "$work"
echo "seen as stated"
