#!/usr/bin/env bash
# pyJoules 0.5.1 (PyPI), Python 3.11
#
# EnergyMeter.record(tag) adds a sample to a running trace, for instance one for each call of a function or each
# epoch; get_trace() gives the samples after stop(). Nothing in the documentation limits their number.
#
# Expected: 1500 records give a trace of 1500 samples and more.
# Seen: record() and stop() succeed, then get_trace() ends in RecursionError: the trace is built by a function
# that calls itself once for each sample. 800 records still work. EnergyContext calls get_trace() when it is left,
# so there the error comes out of the `with` block, after the work is done, and no sample reaches the handler.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check pyjoules==0.5.1
cat >"$work/seen.py" <<'PY'
import sys
from pathlib import Path

import pyJoules.device.rapl_device as rapl
from pyJoules.energy_meter import EnergyContext

zone = Path(sys.argv[1], "intel-rapl", "intel-rapl:0")
zone.mkdir(parents=True)
(zone / "name").write_text("package-0\n")
(zone / "energy_uj").write_text("1000000000\n")
rapl.RAPL_API_DIR = str(zone.parent)


class Kept:
    samples = 0

    def process(self, trace):
        Kept.samples += len(trace)


def measured(records):
    Kept.samples = 0
    try:
        with EnergyContext(handler=Kept(), domains=[rapl.RaplPackageDomain(0)]) as meter:
            for number in range(records):
                meter.record(tag=f"call {number}")
    except RecursionError:
        return f"RecursionError, {Kept.samples} samples"
    return f"{Kept.samples} samples"


few, many = measured(800), measured(1500)
print("800 records:", few)
print("1500 records:", many)
assert few == "801 samples", few
assert many == "RecursionError, 0 samples", f"{many}: mended"
PY
"$work/venv/bin/python" "$work/seen.py" "$work"
echo "seen as stated"
