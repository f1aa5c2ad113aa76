#!/usr/bin/env bash
# powerapi 2.10.0 and influxdb-client 1.50.0 (PyPI), Python 3.11
#
# A power report of PowerAPI (and of its formulas) carries a Unix time in milliseconds and goes to CSV, Prometheus
# or InfluxDB.
#
# Expected: it has the same time in all three.
# Seen: on a machine whose zone is not UTC, the time in InfluxDB is off by the zone. The report keeps the time as
# a local datetime without a zone; for CSV and Prometheus it is converted back, for InfluxDB it is handed over as
# text, "2026-07-01 12:00:00", which the client takes for UTC. In Madrid in summer the points lie two hours in the
# future (dashboards up to now do not show them), and in the night of the change of clocks an hour is written over
# another. With TZ=UTC all agree.
#
# No server is needed: the line that the client would send is looked at.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check powerapi==2.10.0 influxdb-client==1.50.0
cat >"$work/seen.py" <<'PY'
import sys

from influxdb_client import Point
from powerapi.report import PowerReport


def times(milliseconds):
    """Seconds since 1970 in CSV, Prometheus and InfluxDB."""
    report = PowerReport.from_json({"timestamp": milliseconds, "sensor": "sensor", "target": "job", "power": 42.0})
    _, files = PowerReport.to_csv_lines(report, [])
    point = Point.from_dict(PowerReport.to_influxdb(report, []))
    return (
        files["PowerReport"][0]["timestamp"] // 1000,
        PowerReport.to_prometheus(report, [])["time"],
        int(point.to_line_protocol().split()[-1]) // 10**9,
    )


NOON = 1_782_900_000  # 2026-07-01 10:00 UTC
CHANGE = 1_792_888_200  # 2026-10-25 00:30 UTC; in Madrid clocks go back half an hour later
csv, prometheus, influx = times(NOON * 1000)
print("off by, s: CSV", csv - NOON, "Prometheus", prometheus - NOON, "InfluxDB", influx - NOON)
assert csv == prometheus == NOON
assert influx - NOON == int(sys.argv[1]), "the zone is known: mended"
before, after = times(CHANGE * 1000)[2], times((CHANGE + 3600) * 1000)[2]
print("an hour over the change of clocks in October, s:", after - before)
assert (after == before) == (influx != NOON), "mended"
PY
TZ=UTC "$work/venv/bin/python" "$work/seen.py" 0
TZ=Europe/Madrid "$work/venv/bin/python" "$work/seen.py" 7200
echo "seen as stated"
