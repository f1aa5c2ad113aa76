#!/usr/bin/env bash
# perf 6.1.192 (Debian 12, linux-perf 6.1.192-3)
#
# perf-stat(1), JSON FORMAT: "With -j, perf stat is able to print out a JSON format output that can be used for
# parsing."
#
# Expected: `perf stat -j -o FILE` writes a file in which each line is JSON; an event that the machine does not
# have can be told by its missing value or by the share of time that it was counted (pcnt-running).
# Seen: the file begins with a line "# started on ..." and an empty one, so that a JSON reader ends at the first
# line (on standard error, without -o, they are not there). A value is a string for numbers, too ("counter-value"
# : "0.579957"), and "<not supported>" for an event that is not there, which still has "pcnt-running" : 100.00 and
# "metric-value" : 0.000000: to who filters by pcnt-running, it was counted all the time, at a rate of zero.
#
# Needs the right to count the task's own software events (kernel.perf_event_paranoid of 2 or less, or root).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
apt-get download -qq linux-perf=6.1.192-3 2>/dev/null
dpkg-deb -x linux-perf_*.deb package
perf=$work/package/usr/bin/perf
"$perf" --version
# An event that x86 processors do not have, beside one that every machine has.
"$perf" stat -j -o file.json -e task-clock,dTLB-prefetch-misses -- true
"$perf" stat -j -e task-clock -- true 2>stderr.json
cat file.json
cat >seen.py <<'PY'
import json

lines = open("file.json").read().split("\n")
assert lines[0].startswith("# started on") and lines[1] == "", "the file is JSON lines: mended"
rows = {row["event"]: row for row in map(json.loads, filter(None, lines[2:]))}
clock, absent = rows["task-clock"], rows["dTLB-prefetch-misses"]
assert isinstance(clock["counter-value"], str) and float(clock["counter-value"]) > 0, "numbers are numbers: mended"
assert absent["counter-value"] == "<not supported>", absent
assert absent["pcnt-running"] == 100.0 and absent["metric-value"] == 0.0, "what was not counted says so: mended"
assert json.loads(open("stderr.json").readline())["event"] == "task-clock"
PY
python3 seen.py
echo "seen as stated"
