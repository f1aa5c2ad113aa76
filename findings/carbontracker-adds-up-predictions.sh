#!/usr/bin/env bash
# carbontracker 2.4.7 (PyPI), Python 3.11
#
# carbontracker predicts the use of all epochs after the first one and reports what was used at the end. The sum
# over the logs of a folder (parser.aggregate_consumption, print_aggregate, `carbontracker --parse`) is to take
# what was measured where all epochs were run, and the prediction only where fewer were monitored.
#
# Expected: a log of three epochs, all monitored and none interrupted, counts with its "Actual consumption".
# Seen: it counts with its prediction. The parser has no group for the number of epochs in the pattern of the
# actual consumption and takes it for 1; 1 epoch is not 3, and so the prediction wins. A first epoch of 1.5 s and
# two of 4 s at 100 W: 0.000417 kWh were used and stand in the log, 0.000198 kWh are added up, and the sentence
# for the paper says so.
#
# The processor is carbontracker's own simulated one (sim_cpu): constant power, so that only the times matter.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check carbontracker==2.4.7
cat >"$work/seen.py" <<'PY'
import sys, time

from carbontracker import parser
from carbontracker.tracker import CarbonTracker

logs = sys.argv[1] + "/logs"
durations = [1.5, 4, 4]
tracker = CarbonTracker(
    epochs=len(durations),
    log_dir=logs,
    verbose=0,
    components="cpu",
    sim_cpu="simulated",
    sim_cpu_tdp=100,
    sim_cpu_util=1.0,
)
for duration in durations:
    tracker.epoch_start()
    time.sleep(duration)
    tracker.epoch_end()

(log,) = parser.parse_all_logs(logs)
total = parser.aggregate_consumption(logs)[0]
measured, predicted = log["actual"]["energy (kWh)"], log["pred"]["energy (kWh)"]
print("measured ", measured, "kWh,", log["actual"]["epochs"], "epochs according to the parser")
print("predicted", predicted, "kWh,", log["pred"]["epochs"], "epochs")
print("sum      ", total, "kWh; interrupted:", log["early_stop"])
assert measured > 1.5 * predicted and not log["early_stop"]
assert log["actual"]["epochs"] == 1, "the parser knows the number of epochs: mended"
assert total == predicted, "the sum is what was measured: mended"
PY
cd "$work"
"$work/venv/bin/python" "$work/seen.py" "$work"
echo "seen as stated"
