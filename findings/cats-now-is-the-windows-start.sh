#!/usr/bin/env bash
# climate-aware-task-scheduler 1.2.1 (PyPI, cats), Python 3.11
#
# cats finds the time at which a job causes the least carbon, and says "Carbon intensity if job started now" beside
# that of the best time. --start-window is the "Earliest time the job is allowed to start".
#
# Expected: "if job started now" is now's: 400 g/kWh, whenever the job is allowed to start.
# Seen: with --start-window in 20 hours, when the grid is at 100 g/kWh, it says 100 "if job started now"; in the JSON
# valueNow begins in 20 hours. What is gained by waiting, which the footprint (-f) is reckoned from as well, is then
# nothing.
#
# The forecast comes from a stand-in for the grid's service: 400 g/kWh for 12 hours, then 100.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check climate-aware-task-scheduler==1.2.1
cat >"$work/seen.py" <<'PY'
import contextlib
import io
import json
import logging
from datetime import datetime, timedelta, timezone

import cats.cli
import cats.providers.uk_carbonintensity as grid

logging.disable(logging.CRITICAL)
NOW = datetime.now(timezone.utc)


def forecast(url, headers=None):
    begin = NOW.replace(minute=NOW.minute // 30 * 30, second=0, microsecond=0)
    data = []
    for half_hour in range(97):
        since, until = (begin + timedelta(minutes=30 * n) for n in (half_hour, half_hour + 1))
        intensity = {"forecast": 400 if half_hour < 24 else 100, "index": "moderate"}
        data.append({"from": f"{since:%Y-%m-%dT%H:%MZ}", "to": f"{until:%Y-%m-%dT%H:%MZ}", "intensity": intensity})
    return {"data": {"regionid": 12, "shortname": "South England", "postcode": "OX1", "data": data}}


def found(*options):
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        cats.cli.run_cats(["-d", "60", "-l", "OX1", "--format", "json", *options])
    plan = json.loads(output.getvalue())
    now, best = plan["valueNow"], plan["valueOptimal"]
    hours = (datetime.fromisoformat(now["start"]) - NOW).total_seconds() / 3600
    print(" ".join(options[:1]) or "no window", f"now, in {hours:.1f} h: {now['value']:.0f}; best: {best['value']:.0f}")
    return hours, round(now["value"]), round(best["value"])


grid.fetch_url = forecast
hours, now, best = found()
assert hours < 0.1 and (now, best) == (400, 100)
hours, now, best = found("--start-window", (NOW + timedelta(hours=20)).isoformat(timespec="seconds"))
assert hours > 19 and (now, best) == (100, 100), "now is now: mended"
PY
cd "$work"
HOME="$work" TMPDIR="$work" "$work/venv/bin/python" "$work/seen.py"
echo "seen as stated"
