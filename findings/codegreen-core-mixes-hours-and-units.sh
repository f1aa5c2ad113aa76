#!/usr/bin/env bash
# codegreen_core 0.0.8 (PyPI), Python 3.11
#
# codegreen_core computes the carbon of a job from its server, country and run time (compute_ce, "in kilograms of
# CO2 equivalent"), and the carbon intensity of a country (compute_ci): from the mix of a European grid, or from a
# table of yearly means for other countries.
#
# Expected: 1 kW for 10 h in the United States, which the table has at 0.407 kg/kWh, is 4.07 kg; twice as long is
# twice as much. Intensities of two countries are in one unit.
# Seen: 0.0012 kg. The energy of an hour is what the job used divided by its minutes times 60 (its seconds), not
# by its hours. That is 3600 times too low, and the sum has a row for the end, too, which makes a job of 1 h count
# double. And the intensities: from the table they are kg/kWh (0.407), from a mix g/kWh (820 for coal alone), so
# that any country of the table looks a thousand times cleaner than one of the others when both are compared.
#
# No network is needed, as the table is part of the package. TensorFlow, which it imports for forecasts that are
# not made here, is left out.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check pandas==2.2.3 numpy==1.26.4 matplotlib==3.10.7 \
  requests==2.32.5 redis==5.3.1 python-crontab==3.3.0 scikit-learn==1.7.2 entsoe-py==0.6.18
"$work/venv/bin/pip" install -q --disable-pip-version-check --no-deps codegreen_core==0.0.8
export HOME="$work"
cat >"$work/seen.py" <<'PY'
import sys, types, warnings

warnings.simplefilter("ignore")
models = types.ModuleType("tensorflow.keras.models")
models.load_model = None
sys.modules |= {"tensorflow": models, "tensorflow.keras": models, "tensorflow.keras.models": models}

from datetime import datetime, timedelta  # noqa: E402

import pandas as pd  # noqa: E402
from codegreen_core.tools.carbon_emission import compute_ce  # noqa: E402
from codegreen_core.tools.carbon_intensity import compute_ci, compute_ci_from_energy  # noqa: E402

START = datetime(2026, 1, 1)
SERVER = {
    "country": "US",
    "number_core": 1,
    "power_draw_core": 1000,
    "memory_gb": 0,
    "power_usage_efficiency": 1,
}


def kilograms(hours):
    return compute_ce(SERVER, START, 60 * hours)[0]


table = compute_ci("US", START, START + timedelta(hours=1))["ci_default"][0]
coal = compute_ci_from_energy(pd.DataFrame([{"Coal_per": 100}]))["ci_default"][0]
seen = {hours: kilograms(hours) for hours in (1, 10, 100)}
for hours, kg in seen.items():
    print(f"1 kW for {hours} h at {table} kg/kWh: {table * hours:.2f} kg, computed: {kg} kg")
print(f"intensity of the US, from the table: {table}; of coal alone, from a mix: {coal}")
assert 0.4 < table < 0.42, table
assert all(0 < kg < table * hours / 1700 for hours, kg in seen.items()), f"{seen}: mended"
assert abs(seen[100] - table * 101 / 3600) < 1e-4, seen
assert coal == 820, f"{coal}: mended"
PY
"$work/venv/bin/python" "$work/seen.py"
echo "seen as stated"
