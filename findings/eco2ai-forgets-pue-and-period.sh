#!/usr/bin/env bash
# eco2ai 0.3.12 (PyPI), Python 3.11
#
# eco2ai keeps settings between trackers (documented): set_params(...), or the arguments of the last Tracker, hold
# for every later Tracker() of this installation. Among the settings that are kept are measure_period and pue.
#
# Expected: after set_params(pue=1.5, measure_period=3), Tracker() measures every 3 s and multiplies by 1.5.
# Seen: project_name and file_name hold, the two numbers do not: Tracker() has pue 1 and a period of 10 s, as its
# arguments have these defaults and never None. It then saves the 1 and the 10 over what was set. Energy and
# emissions are a third too low for whoever set the PUE of the computing centre once; nothing tells.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check eco2ai==0.3.12 pandas==2.3.3
cat >"$work/seen.py" <<'PY'
import warnings

warnings.simplefilter("ignore")

import eco2ai  # noqa: E402
from eco2ai.utils import get_params  # noqa: E402

eco2ai.set_params(project_name="mine", file_name="mine.csv", measure_period=3, pue=1.5)
before = get_params()
tracker = eco2ai.Tracker(alpha_2_code="ES", ignore_warnings=True, timezone="UTC")
after = get_params()
print("set  ", before)
print("used ", tracker.project_name, tracker.file_name, tracker.measure_period(), tracker._pue)
print("saved", after)
assert (before["measure_period"], before["pue"]) == (3, 1.5)
assert (tracker.project_name, tracker.file_name) == ("mine", "mine.csv")
assert (tracker.measure_period(), tracker._pue) == (10, 1), "what was set is used: mended"
assert (after["measure_period"], after["pue"]) == (10, 1), "what was set is kept: mended"
PY
cd "$work"
"$work/venv/bin/python" "$work/seen.py" "$work"
echo "seen as stated"
