"""The futures of a real Lithops job, in the formats that need no other package."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lithowatt.export import influx, openmetrics
from lithowatt.export._rows import TIME, rows_of
from tests.support.lithops_environments import isolated, metered, run_python

JOB = """
import json, sys, time
import lithops
from lithowatt.export import influx, openmetrics, write

def busy(count):
    return sum(range(count))

began = time.time_ns()
with lithops.FunctionExecutor() as executor:
    futures = executor.map(busy, [2_000_000, 4_000_000])
    executor.get_result(futures)
    with open("stats.jsonl", "w") as file:
        for future in futures:
            print(json.dumps(future.stats), file=file)
    assert write(futures, "calls.lp") == write(futures, "calls.prom") == 2
    print(json.dumps([began, time.time_ns()]))
"""


@pytest.mark.slow
@pytest.mark.lithops
def test_a_jobs_calls_have_their_names_times_and_joules(tmp_path: Path) -> None:
    parse_line = pytest.importorskip("line_protocol_parser").parse_line
    python = metered("3.8.0", tmp_path / "worker")
    isolated(tmp_path)
    (tmp_path / "config.yaml").write_text(
        f"lithops: {{backend: localhost, storage: localhost}}\nlocalhost: {{runtime: {python}}}\n"
    )
    (tmp_path / "job.py").write_text(JOB)
    done = run_python(
        python, "job.py", directory=tmp_path, LITHOPS_CONFIG_FILE=str(tmp_path / "config.yaml")
    )
    assert done.returncode == 0, done.stdout + done.stderr
    began, ended = json.loads(done.stdout.splitlines()[-1])
    rows = list(rows_of(tmp_path / "stats.jsonl"))
    joules = [row["energy_consumption"] for row in rows]
    assert len(joules) == 2 and all(value > 0 for value in joules)
    assert all(began < row[TIME] < ended for row in rows)
    lines = [parse_line(line) for line in (tmp_path / "calls.lp").read_text().splitlines()]
    assert [line["fields"]["energy_consumption"] for line in lines] == joules
    assert [line["time"] for line in lines] == [row[TIME] for row in rows]
    assert [(line["tags"]["function"], line["tags"]["call"]) for line in lines] == [
        ("busy", "00000"),
        ("busy", "00001"),
    ]
    told = (tmp_path / "calls.prom").read_text()
    (line,) = [one for one in told.splitlines() if one.startswith("lithowatt_function_calls{")]
    assert 'function="busy"' in line and line.endswith(" 2.0")
    assert influx.MEASUREMENT in (tmp_path / "calls.lp").read_text()
    assert told.splitlines()[-1] == openmetrics.text([]).splitlines()[-1] == "# EOF"
