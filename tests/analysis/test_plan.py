"""Plans: how many repetitions, in which order."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lithowatt.analysis._envelope import as_text
from lithowatt.analysis.intervals import Sample
from lithowatt.analysis.plan import (
    LEAST,
    MOST,
    Wanted,
    lines,
    parse_factors,
    plan,
    repetitions,
    repetitions_to_tell,
)
from lithowatt.cli import main
from lithowatt.errors import MalformedValueError
from lithowatt.profiles._runs import read_profiles
from tests.support.made_profiles import Kind, write

KIND = Kind(workload="job", workers=(4, 8, 12), repetitions=8, seed=4)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(cv=st.floats(0, 1), precision=st.floats(0.02, 1), confidence=st.sampled_from([0.9, 0.95]))
def test_no_fewer_repetitions_would_do(cv: float, precision: float, confidence: float) -> None:
    n = repetitions(cv, precision, confidence)

    def half_width(count: int) -> float:
        return float(stats.t.ppf(0.5 + confidence / 2, count - 1) * cv / math.sqrt(count))

    assert n >= 2
    assert half_width(n) <= precision * (1 + 1e-9)
    assert n == 2 or half_width(n - 1) > precision * (1 - 1e-9)
    # (t · cv / x)², with the t of so many.
    t = stats.t.ppf(0.5 + confidence / 2, n - 1)
    assert (t * cv / precision) ** 2 <= n * (1 + 1e-9)


def test_what_no_number_of_repetitions_reaches() -> None:
    assert repetitions(1.0, 1e-6) == MOST
    for wrong in ((-0.1, 0.05), (0.1, 0.0), (math.nan, 0.05)):
        with pytest.raises(ValueError, match="no repetitions for a CV"):
            repetitions(*wrong)


def test_so_many_tell_two_means_apart() -> None:
    a, b = Sample(5, 100.0, 3.0), Sample(5, 103.0, 3.0)
    n = repetitions_to_tell(a, b)
    assert n is not None and n > 5
    t = 3.0 / math.sqrt(18.0 / n)
    assert 2 * stats.t.sf(t, 2 * (n - 1)) <= 0.05
    assert repetitions_to_tell(a, a) is None


def planned(folder: Path | None, **wanted: Any) -> dict[str, Any]:
    profiles = None if folder is None else read_profiles([folder])
    found: dict[str, Any] = json.loads(as_text(plan(profiles, Wanted(**wanted))))
    return found


def test_profiles_tell_how_runs_scatter(tmp_path: Path) -> None:
    folder = write(tmp_path, KIND)
    found = planned(folder, precision=0.01)
    assert [one["key"] for one in found["configurations"]] == KIND.keys
    for one in found["configurations"]:
        assert one["cv_from"] == "its own repetitions" and one["profiled"] == 8
        n = one["repetitions_needed"]
        assert n == repetitions(one["cv"], 0.01)
        # No fewer than say something of their scatter, and as many in each session.
        assert one["repetitions"] == 3 * one["per_session"] >= max(n, LEAST)
        assert one["precision_expected"] <= 0.01 or n < LEAST
    assert found["command"] == "plan" and found["inputs"][0]["file"] == KIND.name
    assert found["settings"]["seed"] == 20261128
    seconds = {one["key"]: one["mean_time_s"] for one in found["configurations"]}
    total = sum(seconds[one["key"]] for one in found["schedule"])
    assert found["totals"]["run_seconds"] == pytest.approx(total)
    assert found["totals"]["cost_usd"] > 0


def test_the_order_is_random_interleaved_and_makes_itself_again(tmp_path: Path) -> None:
    folder = write(tmp_path, replace(KIND, noise=0.2, between=0.2))
    found = planned(folder, sessions=2, seed=7)
    schedule = found["schedule"]
    assert [one["run"] for one in schedule] == list(range(1, len(schedule) + 1))
    recorded = [one for one in schedule if not one["discard"]]
    pair = found["pair"]["configuration"]
    counts = Counter((one["configuration"], one["arm"]) for one in recorded)
    for at, one in enumerate(found["configurations"]):
        for arm in ("A", "A'") if at == pair else (None,):
            assert counts[at, arm] == one["repetitions"]
    # A round holds a configuration once at most, and rounds follow each other.
    rounds = [(one["session"], one["round"]) for one in recorded]
    assert rounds == sorted(rounds)
    most = max(one["per_session"] for one in found["configurations"])
    for key in set(rounds):
        inside = [
            (one["configuration"], one["arm"])
            for one in recorded
            if (one["session"], one["round"]) == key
        ]
        assert len(inside) == len(set(inside))
    orders = {
        key: tuple(
            one["configuration"] for one in recorded if (one["session"], one["round"]) == key
        )
        for key in set(rounds)
    }
    assert len(set(orders.values())) > 1 and most > 1
    assert planned(folder, sessions=2, seed=7)["schedule"] == schedule
    assert planned(folder, sessions=2, seed=8)["schedule"] != schedule


def test_what_needs_fewer_runs_is_spread_over_the_rounds() -> None:
    made = {"(1, 1024, 4)": 0.3, "(1, 1024, 8)": 0.02}
    # One configuration scatters, the other does not: made of a plan by hand.
    from lithowatt.analysis.plan import schedule_of

    rows = [
        {"key": key, "architecture": None, "cv": cv, "per_session": count}
        for (key, cv), count in zip(made.items(), (20, 4), strict=True)
    ]
    schedule = schedule_of(rows, None, Wanted(sessions=1, start="as-is"))
    at = [one["round"] for one in schedule if one["configuration"] == 1]
    assert len(at) == len(set(at)) == 4
    # One in each quarter of the session.
    assert [(one - 1) // 5 for one in at] == [0, 1, 2, 3]


@pytest.mark.parametrize(("start", "more"), [("warm", 6), ("cold", 0), ("as-is", 0)])
def test_starts(tmp_path: Path, start: str, more: int) -> None:
    found = planned(write(tmp_path, KIND), sessions=2, start=start)
    discarded = [one for one in found["schedule"] if one["discard"]]
    assert len(discarded) == more == found["totals"]["runs"] - found["totals"]["recorded"]
    assert found["start"]["policy"] == start and found["start"]["text"]
    assert all(one["round"] is None for one in discarded)


def test_without_data_the_scatter_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["profile", "plan", "--cv", "10%", "--precision", "5%", "--sessions", "2"]
    grid = ["--factors", "workers=4,8", "memory=512,1024", "--no-pair"]
    assert main([*command, *grid, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["key"] for one in found["configurations"]] == [
        "(1, 512, 4)", "(1, 512, 8)", "(1, 1024, 4)", "(1, 1024, 8)",
    ]  # fmt: skip
    assert {one["repetitions_needed"] for one in found["configurations"]} == {18}
    assert {one["cv_from"] for one in found["configurations"]} == {"given"}
    assert found["pair"] is None and found["totals"]["cost_usd"] is None
    assert found["warnings"][0]["code"] == "guessed-scatter"
    assert main([*command, "--configuration", "(1, 512, 4)"]) == 0
    out = capsys.readouterr().out
    assert "(1, 512, 4)" in out and "A/A pair" in out and "round 1" in out
    assert main(["profile", "plan", "--configuration", "(1, 512, 4)"]) == 2
    assert "give --cv" in capsys.readouterr().err
    assert main(["profile", "plan"]) == 2
    assert "nothing to run" in capsys.readouterr().err
    assert main(["profile", "plan", "--cv", "10%", "--factors", "workers=4"]) == 2
    assert "needs workers and memory" in capsys.readouterr().err


def test_factors_cross_what_was_profiled_and_what_was_not(tmp_path: Path) -> None:
    folder = write(tmp_path, KIND)
    found = planned(folder, factors=parse_factors(["workers=8,32", "architecture=x86_64,arm64"]))
    rows = {(one["architecture"], one["workers"]): one for one in found["configurations"]}
    assert set(rows) == {(a, w) for a in ("arm64", "x86_64") for w in (8, 32)}
    assert rows["x86_64", 8]["cv_from"] == "its own repetitions"
    assert rows["x86_64", 32]["cv_from"] == "all profiled configurations"
    assert {one["memory_mb"] for one in rows.values()} == {1024}
    several = write(tmp_path / "more", KIND, replace(KIND, stage="last"))
    both = planned(several)
    assert [one["stage"] for one in both["configurations"]] == ["last"] * 3 + ["stage"] * 3


@pytest.mark.parametrize(
    "text",
    [
        "workers",
        "speed=1",
        "workers=x",
        "workers=9-2",
        "workers=0",
        "memory=1.5",
        "architecture=z80",
    ],
)
def test_a_factor_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not|is no"):
        parse_factors([text])
    with pytest.raises(ValueError, match="once"):
        parse_factors(["workers=1", "workers=2"])


@pytest.mark.parametrize(
    "more",
    [
        ["--precision", "0"],
        ["--precision", "5"],
        ["--precision", "x%"],
        ["--sessions", "0"],
        ["--cv", "0%"],
        ["--start", "hot"],
    ],
)
def test_a_wrong_option_is_refused(more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["profile", "plan", "--configuration", "(1, 512, 4)", *more])
    assert end.value.code == 2
    assert more[1] in capsys.readouterr().err


def test_other_quantities(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path, KIND)
    assert planned(folder, quantity="cost_usd")["settings"]["quantity"] == "cost_usd"
    assert main(["profile", "plan", str(folder), "--quantity", "speed"]) == 2
    assert "'speed' is not one of" in capsys.readouterr().err
    with pytest.raises(MalformedValueError, match="nothing tells how energy_j scatters"):
        planned(
            write(
                tmp_path / "bare", replace(KIND, columns=("read", "compute", "write", "cold_start"))
            ),
            quantity="energy_j",
        )


def test_text_is_made_of_the_fields(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path, KIND)
    assert main(["profile", "plan", str(folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert main(["profile", "plan", str(folder)]) == 0
    out = capsys.readouterr().out
    assert out == "\n".join(lines(told)) + "\n"
    assert "session 1, not recorded" in out and "session 1, round 1" in out


def test_a_planned_mean_is_as_precise_as_wanted() -> None:
    random = np.random.default_rng(3)
    cv, precision = 0.1, 0.06
    n = repetitions(cv, precision)
    means = random.normal(1.0, cv, (4000, n)).mean(axis=1)
    assert (np.abs(means - 1) <= precision).mean() >= 0.95
