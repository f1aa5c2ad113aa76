#!/usr/bin/env bash
# entsoe-py 0.8.1 with pandas 3.1.1 (PyPI), Python 3.11
#
# entsoe-py reads documents of ENTSO-E's transparency platform: load, generation, capacity. A document gives the
# start of its period in UTC, which for most of Europe is 22:00 or 23:00 of the day before, a resolution (P1D a day,
# P1M a month, P1Y a year) and numbered points.
#
# Expected: point n begins n-1 days, months or years after the period does, at midnight of the market's clock; there
# are as many values as points.
# Seen, for a market in Brussels:
# - of 12 months 11 are left. The start, 23:00 UTC on 31 December, is moved to 1 January 23:00 UTC, which point 2 has
#   too: January's value is overwritten, February's is dated 2 January, and so on; nothing tells.
# - a year's value (installed capacity) is dated 2 January 00:00 for 1 January 00:00.
# - days after the clocks go forward begin at 01:00; where the document leaves out repeated values (curve type A03,
#   the usual one today), the last day of the period is missing as well.
# Hours and quarters of an hour are right.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check entsoe-py==0.8.1 pandas==3.1.1
cat >"$work/seen.py" <<'PY'
from entsoe.parsers import parse_generation, parse_loads


def document(resolution, start, end, points, curve="A01"):
    values = "".join(f"<Point><position>{n}</position><quantity>{100 * n}</quantity></Point>" for n in points)
    return f"""<GL_MarketDocument><TimeSeries><mRID>1</mRID>
      <inBiddingZone_Domain.mRID codingScheme="A01">10YBE----------2</inBiddingZone_Domain.mRID>
      <curveType>{curve}</curveType><MktPSRType><psrType>B16</psrType></MktPSRType>
      <Period><timeInterval><start>{start}</start><end>{end}</end></timeInterval>
      <resolution>{resolution}</resolution>{values}</Period></TimeSeries></GL_MarketDocument>"""


def seen(title, parse, *about):
    frame = parse(document(*about))
    index = frame.index.tz_convert("Europe/Brussels").strftime("%m-%d %H:%M")
    pairs = [(when, int(value)) for when, value in zip(index, frame.iloc[:, 0], strict=True)]
    print(f"{title}:", *pairs)
    return pairs


year = ("2024-12-31T23:00Z", "2025-12-31T23:00Z")
spring = ("2025-03-28T23:00Z", "2025-04-01T22:00Z")
months = seen("12 months", parse_loads, "P1M", *year, range(1, 13))
capacity = seen("one year", parse_generation, "P1Y", *year, [1])
days = seen("4 days", parse_loads, "P1D", *spring, range(1, 5))
changes = seen("4 days, A03", parse_loads, "P1D", *spring, range(1, 5), "A03")
hours = seen("3 hours", parse_loads, "PT60M", "2025-03-29T23:00Z", "2025-03-30T02:00Z", range(1, 4))
assert len(months) == 11 and months[:2] == [("01-02 00:00", 200), ("02-02 00:00", 300)], "mended"
assert capacity == [("01-02 00:00", 100)], "mended"
assert days == [("03-29 00:00", 100), ("03-30 00:00", 200), ("03-31 01:00", 300), ("04-01 01:00", 400)], "mended"
assert changes == days[:3], "mended"
assert hours == [("03-30 00:00", 100), ("03-30 01:00", 200), ("03-30 03:00", 300)], hours
PY
"$work/venv/bin/python" "$work/seen.py"
echo "seen as stated"
