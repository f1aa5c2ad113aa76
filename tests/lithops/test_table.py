"""``lithowatt.lithops.table``: anybody's calls as a table."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lithowatt.lithops import CallEnergy, table
from tests.support.lithops_environments import isolated, metered, run_python

#: A job and one call more, whose results nobody has asked for when the first table is made.
JOB = """
import lithops
from lithowatt.lithops import table

def busy(count):
    return sum(range(count))

with lithops.FunctionExecutor() as executor:
    futures = executor.map(busy, [2_000_000, 4_000_000])
    print(len(table(futures)))
    executor.get_result(futures)
    made = table(executor.futures)
    print(made)
    assert made.joules == sum(f.stats["worker_func_energy_consumption"] for f in futures)
    assert [(one.job, one.call) for one in made] == [("M000", "00000"), ("M000", "00001")]
    low, high = made.band
    assert low < made.joules < high
"""


def stats(joules: float | None, **more: Any) -> dict[str, Any]:
    """Of a metered call."""
    own = {
        "energy_consumption": joules,
        "energy_low": None if joules is None else joules / 2,
        "energy_high": None if joules is None else joules * 2,
        "energy_marginal": joules,
        "energy_duration": 2.0,
        "energy_cpu_time": 1.5,
        "energy_definition": "marginal",
        "energy_quality": "attributed",
        "energy_method": "rapl+cputime",
        "energy_source": "attributed: rapl+cputime",
        "energy_warnings": [],
        **more,
    }
    return {f"worker_func_{key}": value for key, value in own.items()}


@dataclass
class Future:
    call_id: str
    stats: dict[str, Any] = field(default_factory=dict)
    job_id: str = "M000"


def test_each_call_has_a_line_and_all_have_a_sum() -> None:
    found = table([Future("00000", stats(9.2704)), Future("00001", stats(11.831))])
    lines = str(found).splitlines()
    assert " ".join(lines[0].split()) == "call s CPU s J 95 % band W quality method"
    row = "00000 2 1.5 9.27 4.635 to 18.54 4.635 attributed rapl+cputime"
    assert " ".join(lines[1].split()) == row
    assert lines[3] == "21.1 J [10.55 .. 42.2] marginal, sum of 2 of 2 calls"
    assert max(map(len, lines)) <= 80
    assert found.joules == pytest.approx(21.1014)
    assert found.band == pytest.approx((10.5507, 42.2028))
    assert [one.watts for one in found] == pytest.approx([4.6352, 5.9155])
    assert repr(found) == "<EnergyTable: 2 calls, 21.1 J>"


def test_one_future_or_its_stats_will_do() -> None:
    future = Future("00003", stats(1.0))
    (one,) = table(future)
    assert (one.job, one.call, one.joules) == ("M000", "00003", 1.0)
    (one,) = table(future.stats)
    assert (one.job, one.call, one.joules) == (None, "0", 1.0)
    # By the plain names of `Reading.flat()`, too.
    assert table([{"energy_consumption": 3.0}]).joules == 3.0


def test_what_has_no_joules_says_why() -> None:
    found = table(
        [
            stats(None, energy_source="unavailable: switched off"),
            {"worker_exec_time": 1.0},
            {"host_submit_tstamp": 1.0},
            stats(2.0),
        ]
    )
    assert [one.joules for one in found] == [None, None, None, 2.0]
    reasons = [one.reason or "" for one in found]
    assert reasons[0] == "switched off"
    assert "lithops status" in reasons[1] and "has not ended" in reasons[2] and not reasons[3]
    text = str(found)
    assert "2 J [1 .. 4] marginal, sum of 1 of 4 calls" in text
    assert "no energy: switched off (1 of 4 calls)" in text
    assert table([stats(None)]).joules is None and table([stats(None)]).band is None
    assert str(table([])) == "no calls"


def test_calls_of_two_definitions_are_compared_above_idle_and_have_no_band() -> None:
    found = table([stats(5.0, energy_definition="amortised", energy_marginal=4.0), stats(2.0)])
    assert found.definition == "marginal"
    assert [one.joules for one in found] == [4.0, 2.0]
    assert found.joules == 6.0 and found.band is None
    assert "to" not in str(found).splitlines()[1]


def test_warnings_are_told_once_with_how_many_say_them() -> None:
    found = table([stats(1.0, energy_warnings=["hot"]), stats(1.0, energy_warnings=["hot", "odd"])])
    assert str(found).splitlines()[-2:] == ["hot", "odd (1 of 2 calls)"]


@pytest.mark.parametrize(("low", "high"), [(2.5, 3.0), (0.5, 1.5), (3.0, 1.0)])
def test_a_band_that_does_not_hold_its_value_is_none(low: float, high: float) -> None:
    made = table([stats(2.0, energy_low=low, energy_high=high), stats(2.0)])
    assert [one.band for one in made] == [None, (1.0, 4.0)]
    assert made.joules == 4.0 and made.band is None


def test_a_frame_has_a_row_a_call() -> None:
    pd = pytest.importorskip("pandas")
    frame = table([stats(2.0), stats(None)]).to_pandas()
    first, second = frame["joules"]
    assert first == 2.0 and math.isnan(second)
    assert str(frame["joules_low"].dtype) == "float64"
    assert list(frame["definition"]) == ["marginal", None] or pd.isna(frame["definition"][1])
    empty = table([]).to_pandas()
    assert len(empty) == 0 and list(empty.columns) == list(frame.columns)


def test_what_a_name_holds_is_shown_and_not_obeyed() -> None:
    hostile = stats(1.0, energy_method="<b>[red]\x1b[2J", energy_warnings=["<i>\x1b[31m[bold]"])
    found = table([hostile])
    assert "\x1b" not in str(found)
    html = found._repr_html_()
    assert "<b>" not in html and "<i>" not in html and "&lt;b&gt;" in html
    console = pytest.importorskip("rich.console")
    out = io.StringIO()
    console.Console(file=out, width=120).print(found)
    assert "[red]" in out.getvalue() and "[bold]" in out.getvalue()
    assert "\x1b" not in out.getvalue()


@pytest.mark.parametrize("wrong", [[3], "text", [object()]])
def test_what_is_no_call_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="is no call: expected futures of Lithops, or their stats"):
        table(wrong)


def test_a_call_is_a_tuple_of_what_its_fields_say() -> None:
    (one,) = table([stats(1.0)])
    assert one == CallEnergy(
        None, "0", 2.0, 1.5, 1.0, (0.5, 2.0), 0.5, "attributed", "rapl+cputime", None, ()
    )


@pytest.mark.lithops
@pytest.mark.slow
def test_calls_of_a_real_job(tmp_path: Path) -> None:
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
    assert "sum of 2 of 2 calls" in done.stdout


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_terminal_of_80_columns_has_room(jobs: int) -> None:
    long = {
        "worker_func_energy_consumption": 1234.567,
        "worker_func_energy_low": 1022.345,
        "worker_func_energy_high": 10234.56,
        "worker_func_energy_duration": 10.12345,
        "worker_func_energy_cpu_time": 9.123456,
        "worker_func_energy_quality": "attributed",
        "worker_func_energy_method": "rapl+perf+cputime",
        "worker_func_energy_definition": "marginal",
    }

    class Future:
        stats = long
        call_id = "00000"

        def __init__(self, job: int) -> None:
            self.job_id = f"M{job:03}"

    made = table([Future(at % jobs) for at in range(6)])
    lines = str(made).splitlines()
    assert max(map(len, lines)) <= 80, lines
    for head in ("call", "J", "95 % band", "quality", *(["job"] if jobs > 1 else [])):
        assert head in lines[0]


def test_the_calls_part_of_gpus_is_told_and_in_no_joules() -> None:
    made = table([stats(2.0, gpu_energy_attributed=30.0, gpu_energy=400.0), stats(4.0)])
    assert made.joules == 6.0
    assert [one.gpu_joules for one in made] == [30.0, None]
    assert "GPUs: 30 J above their rest, of 1 of 2 calls; in no J above" in str(made)
    assert "GPU" not in str(table([stats(2.0)]))
    pandas = pytest.importorskip("pandas")
    frame = made.to_pandas()
    assert frame["gpu_joules"][0] == 30.0 and pandas.isna(frame["gpu_joules"][1])
