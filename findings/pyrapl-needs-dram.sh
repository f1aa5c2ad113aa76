#!/usr/bin/env bash
# pyRAPL 0.2.3.1 (PyPI), Python 3.11
#
# pyRAPL measures packages and, where the machine has such a counter, DRAM; for what cannot be measured, Result
# says "if None, no RAM energy consumption was recorded".
#
# Expected: on a machine whose only counter is that of the package (most desktops and laptops), @measureit gives
# the package's energy to its output and returns what the function returned, and CSVOutput writes a line with an
# empty or missing DRAM.
# Seen: only begin() and end() work there, with dram=None. @measureit runs the function and then raises TypeError
# in the division by the number of runs: the function's result is lost and nothing is written. export() to
# CSVOutput raises TypeError, too.
#
# The paths of the counters are fixed in pyRAPL, so the simulated ones are mounted in a namespace of this script's
# own.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check pyrapl==0.2.3.1
cat >"$work/seen.py" <<'PY'
import logging, sys

logging.disable(logging.CRITICAL)

import pyRAPL  # noqa: E402
from pyRAPL.outputs import CSVOutput  # noqa: E402

ENERGY = "/sys/class/powercap/intel-rapl/intel-rapl:0/energy_uj"
pyRAPL.setup()
csv = CSVOutput(sys.argv[1] + "/out.csv")
runs = []


def use(microjoules):
    total = int(open(ENERGY).read()) + microjoules
    with open(ENERGY, "w") as file:
        file.write(f"{total}\n")


@pyRAPL.measureit(output=csv)
def answer():
    runs.append(1)
    use(5_000_000)
    return 42


def outcome(do):
    try:
        return do()
    except TypeError as error:
        return f"TypeError: {error}"


measurement = pyRAPL.Measurement("by hand")
measurement.begin()
use(5_000_000)
measurement.end()
decorated = outcome(answer)
exported = outcome(lambda: measurement.export(csv))
print("by hand:", measurement.result.pkg, measurement.result.dram)
print("decorated:", decorated, "- runs:", len(runs))
print("to CSV:", exported)
assert measurement.result.pkg == [5_000_000.0] and measurement.result.dram is None
assert runs == [1] and str(decorated).startswith("TypeError"), f"{decorated}: mended"
assert str(exported).startswith("TypeError"), f"{exported}: mended"
PY
cat >"$work/inside.sh" <<'SH'
mount -t tmpfs none /sys/class
zone=/sys/class/powercap/intel-rapl/intel-rapl:0
mkdir -p "$zone"
echo package-0 >"$zone/name"
echo 1000000000 >"$zone/energy_uj"
exec "$@"
SH
unshare --map-root-user --mount sh -e "$work/inside.sh" "$work/venv/bin/python" "$work/seen.py" "$work"
echo "seen as stated"
