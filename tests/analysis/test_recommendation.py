"""What is recommended, and when not: faults of former recommendations, conditions, text.

The faults have the numbers of the list in which they were found (issue 13): a wrong number each,
or one that was too sure.
"""

from __future__ import annotations

import copy
import json
import math
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation import prediction_report
from lithowatt.analysis._decide import best_probabilities, keeps, p_equal
from lithowatt.analysis._envelope import as_text
from lithowatt.analysis._fit import Fit
from lithowatt.analysis._held_out import leave_one_out
from lithowatt.analysis._observe import observe
from lithowatt.analysis._recommend import recommend as decide
from lithowatt.analysis.recommendation import Asked, cell, lines, recommendation
from lithowatt.cli import main
from lithowatt.profiles import PerformanceModel, recommend
from lithowatt.profiles._runs import read_profiles
from tests.support.made_profiles import EPYC, XEON, Kind, Profile, matched, profile, write

STEEP = Kind(workload="job", workers=(4, 8, 16), repetitions=8, work_s=200, noise=0.05)


def result(folder: Path, **asked: Any) -> dict[str, Any]:
    """The result of profiles below a folder, as its JSON says it."""
    found: dict[str, Any] = json.loads(
        as_text(recommendation(read_profiles([folder]), Asked(**asked)))
    )
    return found


def text(found: dict[str, Any]) -> str:
    """The text of a result, on one line."""
    return " ".join(" ".join(lines(found)).split())


def changed(made: Profile, key: str, repetition: int, factor: float, *names: str) -> Profile:
    """The same with some columns of one repetition made longer."""
    made = copy.deepcopy(made)
    for name in names:
        made[key][name][repetition] = [factor * value for value in made[key][name][repetition]]
    return made


TIMES = ("compute", "time_consumption", "worker_time_execution", "TDP")


# --- the faults ---------------------------------------------------------------


def test_1_no_run_is_dropped_from_the_totals(tmp_path: Path) -> None:
    key = "(1, 1024, 8)"
    made = changed(profile(STEEP), key, 5, 4.0, *TIMES)
    made[key]["cold_start"][2] = [40.0] * 8
    found = result(write(tmp_path, STEEP, made=made), minimise="cost", workers=(8,))
    (one,) = found["ranked"]
    assert one["runs"] == 8 and one["source"] == "profiled"
    rows = made[key]["worker_time_execution"]
    dollars = [
        sum(math.ceil(round(seconds * 1000, 6)) * 1e-3 * 0.0000166667 + 2e-7 for seconds in row)
        for row in rows
    ]
    assert one["cost_usd"]["value"] == pytest.approx(np.mean(dollars), rel=1e-6)
    phases = ("cold_start", "read", "compute", "write")
    times = [
        max(map(sum, zip(*(made[key][name][at] for name in phases), strict=True)))
        for at in range(8)
    ]
    assert one["time_s"]["value"] == pytest.approx(np.mean(times))
    # Apart, and by name, without the run that waited for its start; the slow one counts in both.
    without = one["time_without_queue_s"]
    assert without["runs"] == 7
    assert without["value"] == pytest.approx(np.mean(times[:2] + times[3:]))
    notes = " ".join(one["text"] for one in found["warnings"])
    assert (
        f"waited more than 30 s for its start; they count: {STEEP.name} {key} repetition 2" in notes
    )
    assert f"far from the median; they count: {STEEP.name} {key} repetition 5" in notes


def test_1_all_queued_starts_leave_no_time_without(tmp_path: Path) -> None:
    made = profile(STEEP)
    made["(1, 1024, 8)"]["cold_start"] = [[35.0 + at] * 8 for at in range(8)]
    found = result(write(tmp_path, STEEP, made=made), workers=(8,))
    assert found["best"]["time_without_queue_s"] is None
    assert "each start queued" in text(found)


def test_2_one_value_of_the_hardware_holds_for_all_workers(tmp_path: Path) -> None:
    made = profile(STEEP)
    for metrics in made.values():
        metrics["cpu_cores_logical"] = [[4] * len(row) for row in metrics["read"]]
    scalar = copy.deepcopy(made)
    for metrics in scalar.values():
        for name in ("cpu_cores_logical", "cpu_name", "cpu_architecture", "aws_cpu"):
            metrics[name] = [row[:1] for row in metrics[name]]
    both = [
        result(write(tmp_path / name, STEEP, made=one))
        for name, one in (("full", made), ("scalar", scalar))
    ]
    for one in both:
        del one["inputs"], one["created"]
    assert both[0] == both[1]
    seconds = [sum(row) * 4 for row in made["(1, 1024, 8)"]["TDP"]]
    (eight,) = (one for one in both[0]["ranked"] if one["workers"] == 8)
    assert eight["cpu_seconds"]["value"] == pytest.approx(np.mean(seconds))


def test_3_a_laptop_is_no_lambda(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kind = replace(STEEP, on_lambda=False)
    made = profile(kind)
    for metrics in made.values():
        metrics["rapl_energy_cores"] = [[50.0] * len(row) for row in metrics["read"]]
        metrics["cpu_name"] = [["Unknown"] * len(row) for row in metrics["read"]]
    folder = write(tmp_path, kind, made=made)
    found = result(folder, minimise="time")
    assert (found["platform"], found["region"], found["priced"]) == ("not AWS Lambda", None, False)
    for one in found["ranked"]:
        assert one["cost_usd"] is None and "AWS Lambda only" in one["cost_reason"]
        quality, joules = one["energy_quality"], one["energy_j"]
        # By the machine's processor if it can be told, and never as a sandbox.
        assert joules is None or quality == "modelled"
    notes = " ".join(one["text"] for one in found["warnings"])
    assert "rapl_energy_cores are not used" in notes and "whole machine's" in notes
    assert main(["profile", "recommend", str(folder), "--minimise", "cost"]) == 2
    assert "dollars are known of AWS Lambda only" in capsys.readouterr().err
    half = copy.deepcopy(made)
    for at, metrics in enumerate(half.values()):
        tag = f"type:x|arch:x86_64|lambda:{at == 0}|mem:1024"
        metrics["aws_cpu"] = [[tag] * len(row) for row in metrics["read"]]
    mixed = result(write(tmp_path / "mixed", kind, made=half), minimise="time")
    assert not mixed["priced"] and mixed["ranked"][0]["energy_j"] is None
    assert any("some of its rows ran on AWS Lambda" in one["text"] for one in mixed["warnings"])


@pytest.mark.parametrize("other", [replace(STEEP, workload="else"), replace(STEEP, stage="last")])
def test_4_unlike_things_are_not_averaged(
    tmp_path: Path, other: Kind, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path, STEEP, other)
    paths = [folder / STEEP.name, folder / other.name]
    with pytest.raises(ValueError, match="2 workloads or stages cannot be compared"):
        recommend(paths)
    # A command tells of each by itself.
    assert main(["profile", "recommend", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert "ranked" not in found
    assert {(one["workload"], one["stage"]) for one in found["stages"]} == {
        (STEEP.workload, STEEP.stage),
        (other.workload, other.stage),
    }
    alone = result(write(tmp_path / "alone", STEEP))
    (same,) = (
        one
        for one in found["stages"]
        if (one["workload"], one["stage"]) == (STEEP.workload, STEEP.stage)
    )
    assert same["ranked"] == alone["ranked"]
    # Unless the user says that they are one.
    group = r"(?P<workload>aws).*(?P<stage>json)"
    assert len(recommend(paths, group=group)) > 0
    assert main(["profile", "recommend", *map(str, paths), "--group", group]) in (0, 1)


@pytest.mark.parametrize("jitter", [0.0, 0.02])
def test_5_copies_count_once(tmp_path: Path, jitter: float) -> None:
    once = result(write(tmp_path / "once", STEEP), minimise="cost")
    random = np.random.default_rng(1)
    made = profile(STEEP)
    for metrics in made.values():
        for name, column in metrics.items():
            more = copy.deepcopy(column)
            if jitter and name in (*TIMES, "read", "write", "cold_start"):
                more = [
                    [value * (1 + jitter * random.uniform(-1, 1)) for value in row] for row in more
                ]
            column += more
    inside = result(write(tmp_path / "inside", STEEP, made=made), minimise="cost")
    assert inside["ranked"] == once["ranked"]
    rule = "jittered-repetitions" if jitter else "copied-repetitions"
    notes = [one["text"] for one in inside["warnings"]]
    assert any(f"lint's rule {rule}: (1, 1024, 4) repetitions 8, 9" in one for one in notes)
    if not jitter:
        # The same file again, by its own name and by others'.
        for folder in ("a", "b", "c"):
            write(tmp_path / "many" / folder, STEEP)
        assert result(tmp_path / "many", minimise="cost")["ranked"] == once["ranked"]
        path = tmp_path / "once" / STEEP.name
        assert list(recommend([path] * 5)) == list(recommend(path))
        data = profile(STEEP)
        found = {tuple(json.loads(f"[{key[1:-1]}]")): one for key, one in data.items()}
        assert [one.cost for one in recommend([found, found])] == [
            one.cost for one in recommend(found)
        ]


def test_6_one_run_of_another_machine_is_named_and_spoils_nothing(tmp_path: Path) -> None:
    before = result(write(tmp_path / "before", STEEP), predict=True)
    made = profile(STEEP)
    key = "(1, 1024, 8)"
    for name, column in made[key].items():
        row = [value / 9 if isinstance(value, float) else value for value in column[0]]
        column.append(row)
        if name == "aws_cpu":
            column[-1] = ["type:x|arch:x86_64|lambda:False|mem:1024"] * 8
    after = result(write(tmp_path / "after", STEEP, made=made), predict=True)
    assert after["ranked"] == before["ranked"]
    (note,) = (one["text"] for one in after["warnings"] if "foreign-hardware" in one["text"])
    assert note.endswith(f"{key} repetition 8") and note.startswith(STEEP.name)
    # One on another processor model is no other platform: it counts.
    made[key]["aws_cpu"][-1] = made[key]["aws_cpu"][0]
    other = result(write(tmp_path / "other", STEEP, made=made), predict=True)
    assert [one["runs"] for one in other["ranked"] if one["workers"] == 8] == [9]


def test_7_notes_have_names_and_wide_bands_two_ends(tmp_path: Path) -> None:
    made = profile(STEEP)
    made["(1, 1024, 8)"]["compute"][3][1] = None
    made["(1, 1024, 4)"]["compute"][0] = [0.0] * 4
    found = result(write(tmp_path, STEEP, made=made))
    notes = [one["text"] for one in found["warnings"]]
    assert all(one["files"] == [STEEP.name] for one in found["warnings"][:2])
    assert any(
        "not usable, compute of some worker is missing or cannot be: (1, 1024, 8) repetition 3"
        in note
        for note in notes
    )
    assert any("rule empty-repetition: (1, 1024, 4) repetition 0" in note for note in notes)
    assert cell({"value": 100.0, "low": 77.0, "high": 129.9}) == "100 ± 30 %"
    assert cell({"value": 100.0, "low": 60.0, "high": 166.0}) == "100 (60..170)"
    assert cell({"value": 12000.0, "low": 11900.0, "high": 12100.0}) == "12000 ± 1 %"
    assert (cell(None), cell({"value": 0.0, "low": 0.0, "high": 0.0})) == ("unknown", "0")


def test_8_a_bound_is_kept_with_a_probability(tmp_path: Path) -> None:
    folder = write(tmp_path, STEEP)
    every = result(folder, minimise="cost")["ranked"]
    (eight,) = (one for one in every if one["workers"] == 8)
    mean, high = eight["time_s"]["value"], eight["time_s"]["high"]
    # The mean keeps this bound, by the toss of a coin.
    tossed = result(folder, minimise="cost", bounds={"latency": 1.001 * mean})
    assert 8 not in {one["workers"] for one in tossed["ranked"]}
    kept = result(folder, minimise="cost", bounds={"latency": high})
    (one,) = (one for one in kept["ranked"] if one["workers"] == 8)
    # That is the upper end of a two-sided interval of 95 %.
    assert one["kept_probability"] == pytest.approx(0.975)
    assert "kept 0.97" in text(kept) or "kept 0.98" in text(kept)
    easy = result(folder, minimise="cost", bounds={"latency": 1.001 * mean}, confidence=0.5)
    assert 8 in {one["workers"] for one in easy["ranked"]}
    none = result(folder, workers=(8,), bounds={"latency": 1.001 * mean})
    assert not none["feasible"] and none["closest"]["workers"] == 8
    assert re.search(
        r"with probability 0.95: the fastest takes .* with probability 0\.5", none["reason"]
    )
    # A prediction has to keep it by its band.
    model = PerformanceModel(folder / STEEP.name)
    between = model.predict(9, 1024)
    bound = 1.001 * between.time.value
    found = decide(model, minimise="cost", latency=bound, workers=9, predict=True)
    assert len(found) == 0 and found.closest is not None and found.closest.kept is not None
    assert 0.45 < found.closest.kept < 0.6


def test_9_the_edge_the_tie_and_the_unlike_work(tmp_path: Path) -> None:
    found = result(write(tmp_path / "edge", STEEP), minimise="cost")
    best = found["best"]["workers"]
    assert best == 4
    (edge,) = (one for one in found["conditions"]["edge"] if one["workers"] == 4)
    assert (edge["factor"], edge["value"], edge["is"]) == ("workers", 4, "least")
    assert "edge: 4 workers is the least that was profiled" in text(found)
    # Twice the same work under two numbers of workers: what costs the same ties.
    flat = replace(STEEP, workers=(8, 9, 10, 24), noise=0.1, between=0.1, work_s=400, repetitions=9)
    tie = result(write(tmp_path / "tie", flat), minimise="cost")
    assert {8, 9, 10} <= {one["workers"] for one in tie["tied"]}
    assert sum(one["best_probability"] for one in tie["ranked"]) == pytest.approx(1, abs=1e-6)
    # More workers that each do the whole work are no alternative to fewer.
    weak = replace(STEEP, weak=True, work_s=30)
    unlike = result(write(tmp_path / "weak", weak), minimise="cost")
    assert unlike["recommended"] is None
    (because,) = unlike["no_recommendation"]
    assert because["code"] == "weak-scaling"
    assert unlike["conditions"]["work"]["kind"] == "weak"
    assert unlike["conditions"]["work"]["exponent"] == pytest.approx(1, abs=0.1)
    assert "no recommendation: more workers do more work" in text(unlike)
    per = result(tmp_path / "weak", minimise="cost", per_worker=True)
    codes = {one["code"] for one in per["no_recommendation"] or ()}
    assert "weak-scaling" not in codes and per["per"] == "worker"
    for one in unlike["ranked"]:
        (same,) = (other for other in per["ranked"] if other["workers"] == one["workers"])
        assert same["cost_usd"]["value"] * one["workers"] == pytest.approx(one["cost_usd"]["value"])
    # A bound is of a run, whatever is compared.
    dollars = sorted(one["cost_usd"]["value"] for one in unlike["ranked"])
    bound = {"cost": (dollars[0] + dollars[1]) / 2}
    few = result(tmp_path / "weak", minimise="cost", per_worker=True, bounds=bound)
    assert [one["workers"] for one in few["ranked"]] == [4]


def test_10_what_ran_alike_is_one_configuration(tmp_path: Path) -> None:
    kind = replace(STEEP, workers=(1, 4, 8, 16), most_workers=1)
    found = result(write(tmp_path, kind))
    (one,) = found["ranked"]
    assert (one["workers"], one["workers_requested"], one["runs"]) == (1, [1, 4, 8, 16], 32)
    # Its t interval is known, whatever a model of one configuration would say.
    made = profile(kind)
    costs = [
        math.ceil(round(row[0] * 1000, 6)) * 1e-3 * 0.0000166667 + 2e-7
        for metrics in made.values()
        for row in metrics["worker_time_execution"]
    ]
    half = 2.0395 * np.std(costs, ddof=1) / math.sqrt(32)
    band = one["cost_usd"]
    assert band["high"] - band["value"] == pytest.approx(half, rel=1e-4)
    assert found["recommended"] == one
    assert found["conditions"]["work"]["kind"] == "one-worker"
    assert "one worker ran, whatever was asked for" in text(found)


def test_10_repetitions_of_several_widths_are_several_candidates(tmp_path: Path) -> None:
    made = profile(STEEP)
    for column in made["(1, 1024, 16)"].values():
        column[:3] = [row[:12] for row in column[:3]]
    found = result(write(tmp_path, STEEP, made=made))
    runs = {one["workers"]: (one["runs"], one["workers_requested"]) for one in found["ranked"]}
    assert runs == {4: (8, [4]), 8: (8, [8]), 16: (5, [16]), 12: (3, [16])}


def test_11_folders_and_the_seeds_nested_form_load(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nested = {
        "first": {
            f"(cpu {key[1]}, mem 1024, worker {key.split()[-1][:-1]})": metrics
            for key, metrics in profile(STEEP).items()
        },
        "last": profile(replace(STEEP, seed=9)),
    }
    for metrics in nested["first"].values():
        metrics["cpu_cores_logical"] = [[4] for _ in metrics["read"]]
    path = tmp_path / "job_aws" / "results.json"
    path.parent.mkdir()
    path.write_text(json.dumps(nested))
    assert main(["profile", "recommend", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["stage"] for one in found["stages"]] == ["first", "last"]
    assert all(len(one["ranked"]) == 3 for one in found["stages"])
    only = tmp_path / "one"
    write(only, STEEP)
    (only / "notes.json").write_text('{"a": 1}')
    assert main(["profile", "recommend", str(only), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["best"]["workers"] == 4
    assert [one["file"] for one in found["skipped"]] == ["one/notes.json"]


def kinds(count: int) -> list[Kind]:
    """One stage with so many configurations, on three memories and two architectures."""
    each = [count // 6 + (at < count % 6) for at in range(6)]
    made = matched(replace(STEEP, repetitions=5, noise=0.02), (512, 1024, 2048))
    return [
        replace(kind, workers=tuple(range(2, 2 + many)))
        for kind, many in zip(made, each, strict=True)
    ]


@pytest.mark.slow
def test_12_leaving_one_out_of_many_is_fast(tmp_path: Path) -> None:
    folder = write(tmp_path, *kinds(205))
    observed = observe(folder)
    assert len(observed.observations) == 205
    start = time.process_time()
    model = PerformanceModel.of_observed(observed)
    held_out = model.check()
    took = time.process_time() - start
    assert len(held_out) == 4 * 205
    assert took <= 3


def refitted(model: PerformanceModel, at: int) -> tuple[dict[str, float], float]:
    """What is predicted of one observation by surfaces that never knew it."""
    observations = model.observations
    fit = Fit([one for one in observations if one is not observations[at]], model._structure)
    points = fit.points_of([observations[at]])
    values = {name: float(column[0]) for name, column in fit.predict(points).items()}
    return values, float(fit.sd(points).time[0])


def test_12_leaving_one_out_is_what_a_new_fit_gives(tmp_path: Path) -> None:
    model = PerformanceModel(write(tmp_path, *kinds(30)))
    left_out = leave_one_out(model.observations, model._structure)
    for at in range(0, 30, 3):
        values, spread = refitted(model, at)
        for name in ("time", "worker_time", "cpu_seconds", "energy", "compute", "read"):
            assert left_out[at].values[name] == pytest.approx(values[name], rel=2e-4), name
        assert left_out[at].spreads["time"] == pytest.approx(spread, rel=2e-3)


# --- measured profiles --------------------------------------------------------

MEASURED = prediction_report.profiles()
needs_data = pytest.mark.skipif(
    not MEASURED,
    reason=f"no measured profiles in {prediction_report.DATA / 'profiles'}: set LITHOWATT_DATA",
)


def measured(*names: str, **asked: Any) -> dict[str, Any]:
    paths = [path for name, path in MEASURED.items() if name.startswith(names)]
    return json.loads(as_text(recommendation(read_profiles(paths), Asked(**asked))))  # type: ignore[no-any-return]


@needs_data
def test_titanic_on_arm64_is_a_tie() -> None:
    found = measured("titanic_aws_1024Mb_arm", minimise="cost")
    cost = {one["workers"]: one["cost_usd"]["value"] for one in found["ranked"]}
    assert cost[9] == pytest.approx(0.00337958281, rel=1e-6)
    assert cost[28] == pytest.approx(0.00430732373, rel=1e-6)
    assert found["best"]["workers"] == 9
    assert {one["workers"] for one in found["tied"]} == {8, 9, 10, 12}
    chance = {one["workers"]: one["best_probability"] for one in found["ranked"]}
    assert chance[9] == pytest.approx(0.51, abs=0.02)
    assert chance[10] == pytest.approx(0.48, abs=0.02)
    # The fastest of the tie set.
    assert found["recommended"]["workers"] == 12
    assert found["no_recommendation"] is None
    steps = {one["workers"]: one for one in found["conditions"]["bound"]["steps"]}
    assert steps[9]["more"] == 0 and steps[9]["time_s"] == pytest.approx(26.6, abs=0.05)
    assert steps[12]["more"] == pytest.approx(0.010, abs=5e-4)
    assert steps[12]["time_s"] == pytest.approx(19.7, abs=0.05)
    assert steps[16]["more"] == pytest.approx(0.056, abs=5e-4)
    assert steps[16]["time_s"] == pytest.approx(14.6, abs=0.05)
    work = found["conditions"]["work"]
    assert work["kind"] == "strong" and work["exponent"] == pytest.approx(0.0424, abs=5e-5)


@needs_data
def test_break_evens_of_titanic() -> None:
    found = measured("titanic", minimise="cost")
    conditions = found["conditions"]
    watts, price = conditions["watts"], conditions["price"]
    assert watts["break_even_watts"] == pytest.approx(1.070582, rel=1e-6)
    assert watts["cpu_seconds_ratio"] == pytest.approx(0.934071, rel=1e-6)
    assert watts["configurations"] == price["configurations"] == 29
    assert 0 < watts["assumed"]["ratio"] < 1
    assert price["break_even_price_ratio"] == pytest.approx(1 / price["billed_ratio"])
    assert price["price_ratio"] == pytest.approx(0.0000133334 / 0.0000166667)
    by_cpu = {one["cpu_name"]: one["compute_ratio"] for one in conditions["hardware"]["by_cpu"]}
    assert by_cpu["AMD EPYC"] == pytest.approx(0.777515, rel=1e-6)
    assert by_cpu[XEON] == pytest.approx(0.930865, rel=1e-6)
    (step,) = (
        one
        for one in conditions["bound"]["steps"]
        if (one["workers"], one["memory_mb"]) == (20, 2048)
    )
    assert step["more"] == pytest.approx(0.36, abs=0.005)
    # Two files drift, but what is recommended is of neither, and by far better.
    assert conditions["scope"]["drifting"] == [
        "titanic_aws_1024Mb_x86/stage.json",
        "titanic_aws_2048Mb_x86/stage.json",
    ]
    assert found["recommended"]["architecture"] == "arm64"
    drift = measured("titanic_aws_2048Mb_x86", minimise="cost")
    assert drift["recommended"] is None
    assert "drift" in {one["code"] for one in drift["no_recommendation"]}
    assert "interleaved in several sessions" in text(drift)


@needs_data
def test_each_measured_profile_leaves_one_out_as_a_new_fit_does() -> None:
    paths = [path for name, path in MEASURED.items() if name.startswith("titanic")]
    model = PerformanceModel(paths)
    left_out = leave_one_out(model.observations, model._structure)
    for at in range(0, len(left_out), 5):
        values, _ = refitted(model, at)
        for name in ("time", "cpu_seconds", "energy"):
            assert left_out[at].values[name] == pytest.approx(values[name], rel=1e-4)


# --- when nothing is recommended ----------------------------------------------


def codes(found: dict[str, Any]) -> set[str]:
    return {one["code"] for one in found["no_recommendation"] or ()}


def test_few_runs_are_no_reason_to_recommend(tmp_path: Path) -> None:
    found = result(write(tmp_path, replace(STEEP, repetitions=4)), minimise="cost")
    assert found["best"]["workers"] == 4 and found["recommended"] is None
    assert "few-runs" in codes(found)
    (one,) = (one for one in found["no_recommendation"] if one["code"] == "few-runs")
    assert one["runs"] >= 5
    assert re.search(r"no recommendation: 4 workers .* ran fewer than 5 times", text(found))
    assert "lithowatt profile plan" in text(found)


def test_one_run_has_the_scatter_of_the_others(tmp_path: Path) -> None:
    kind = replace(STEEP, repetitions=(1, 8, 8))
    found = result(write(tmp_path, kind), minimise="cost")
    (single,) = (one for one in found["ranked"] if one["workers"] == 4)
    band = single["cost_usd"]
    assert single["runs"] == 1 and 0 < band["high"] / band["value"] - 1 < 0.3
    assert sum(one["best_probability"] for one in found["ranked"]) == pytest.approx(1)


def test_a_tie_of_all_is_no_choice(tmp_path: Path) -> None:
    kind = replace(STEEP, workers=(8, 9), noise=0.1, between=0.1, work_s=2000)
    found = result(write(tmp_path, kind), minimise="cost")
    assert len(found["tied"]) == 2 and found["recommended"] is None
    (because,) = found["no_recommendation"]
    assert because["code"] == "tie" and because["runs"] > 8
    assert f"run {because['runs']} of each" in text(found)


def test_a_drifting_file_is_not_relied_on(tmp_path: Path) -> None:
    kind = replace(STEEP, workers=(4, 6, 8, 12), drift=0.9, noise=0.01, repetitions=10)
    found = result(write(tmp_path, kind), minimise="cost")
    assert "drift" in codes(found)
    assert found["conditions"]["scope"]["drifting"] == [kind.name]
    # Where another file is better by more than it drifts, that is told and is no hindrance.
    better = replace(STEEP, workers=(4, 6, 8, 12), architecture="arm64", noise=0.01)
    both = result(write(tmp_path, better), minimise="cost")
    assert both["recommended"] is not None and both["recommended"]["architecture"] == "arm64"
    assert f"drift in {kind.name}" in text(both)


# --- how it is decided --------------------------------------------------------


@pytest.mark.slow
def test_the_order_of_files_and_keys_changes_nothing(tmp_path: Path) -> None:
    folder = write(tmp_path, *matched(STEEP))
    paths = sorted(str(path) for path in folder.glob("*/*.json"))
    there, back = (
        recommendation(read_profiles(some), Asked(minimise="cost", predict=True))
        for some in (paths, paths[::-1])
    )
    there["created"] = back["created"] = ""
    assert as_text(there) == as_text(back)
    reverse = tmp_path / "reverse"
    for path in folder.glob("*/*.json"):
        made = json.loads(path.read_text())
        turned = dict(reversed(made.items()))
        (reverse / path.parent.name).mkdir(parents=True)
        (reverse / path.parent.name / path.name).write_text(json.dumps(turned))
    assert result(reverse, minimise="cost")["ranked"] == result(folder, minimise="cost")["ranked"]


def test_text_is_made_of_the_fields_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path, *matched(STEEP))
    arguments = ["profile", "recommend", str(folder), "--minimise", "cost", "--latency", "60"]
    assert main([*arguments, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert main(arguments) == 0
    assert capsys.readouterr().out == "\n".join(lines(told)) + "\n"
    # What the fields say is what the text says.
    told["conditions"]["watts"]["break_even_watts"] = 7.77
    told["recommended"]["workers"] = 77
    assert "below 7.77 [" in text(told) and "recommended: 77 workers" in text(told)


def test_the_fastest_is_told_once(tmp_path: Path) -> None:
    found = result(write(tmp_path, replace(STEEP, workers=(1, 4, 8))), minimise="time")
    assert found["conditions"]["bound"] is None
    assert re.search(
        r"recommended: 8 workers of 1024 MB, x86_64: [\d.]+ s  ", "  ".join(lines(found))
    )
    least = result(tmp_path, minimise="cost", workers=(1,))
    assert "edge: 1 worker is the least that was profiled" in text(least)


def test_an_edge_of_several_is_one_line(tmp_path: Path) -> None:
    flat = replace(STEEP, workers=(8, 9, 10), noise=0.1, between=0.1, work_s=400, repetitions=9)
    folder = write(tmp_path, flat, replace(flat, memory_mb=2048, work_s=4000))
    found = result(folder, minimise="cost")
    least = [one for one in found["conditions"]["edge"] if one["factor"] == "memory_mb"]
    assert sorted(one["workers"] for one in least) == [8, 9, 10]
    assert [line for line in lines(found) if "edge:" in line and "MB is the least" in line] == [
        "  edge: 1024 MB is the least that was profiled (8 to 10 workers of 1024 MB,"
    ]


def test_a_seed_makes_it_again(tmp_path: Path) -> None:
    kind = replace(STEEP, workers=(8, 9, 10), noise=0.1, between=0.1)
    folder = write(tmp_path, kind)
    one, same, other = (result(folder, minimise="cost", seed=seed)["ranked"] for seed in (1, 1, 2))
    assert one == same != other
    for a, b in zip(one, other, strict=True):
        assert a["best_probability"] == pytest.approx(b["best_probability"], abs=0.03)


def candidates_of(
    values: dict[int, list[float]], session: Callable[[int], list[int]] | None = None
) -> list[Any]:
    """Candidates with these seconds, made by hand."""
    data = {
        (1, 1024, workers): {
            # No run repeats another one in all its numbers.
            "compute": [[one - at] * workers for at, one in enumerate(seconds)],
            "read": [[float(at)] * workers for at in range(len(seconds))],
            **{name: [[0.0] * workers for _ in seconds] for name in ("write", "cold_start")},
            "worker_time_execution": [[one] * workers for one in seconds],
            "cpu_architecture": [["arm64"] * workers for _ in seconds],
        }
        for workers, seconds in values.items()
    }
    from lithowatt.analysis._candidates import candidates

    model = PerformanceModel(data)
    found = candidates(model, ["arm64"], None, None, False, False)
    if session is not None:
        for one in found:
            assert one.observation is not None
            one.observation.__dict__["session"] = np.array(session(one.place[0]))
    return found


def test_probabilities_are_those_of_the_runs() -> None:
    fast, slow = candidates_of({1: [10.0, 11.0, 12.0, 13.0], 2: [14.0, 15.0, 16.0, 17.0]})
    # No run of the one is as slow as one of the other.
    assert best_probabilities([fast, slow], "time", 1) == [1.0, 0.0]
    assert keeps(fast, "time", 11.5) == pytest.approx(0.5)
    assert keeps(fast, "time", 1e9) == pytest.approx(1.0, abs=1e-6)
    from scipy import stats

    t = stats.ttest_ind([10, 11, 12, 13], [14, 15, 16, 17], equal_var=False)
    assert p_equal(fast, slow, "time") == pytest.approx(t.pvalue)
    bound = 12.3
    sample = np.array([10.0, 11.0, 12.0, 13.0])
    expected = stats.t.cdf((bound - sample.mean()) / (sample.std(ddof=1) / 2), 3)
    assert keeps(fast, "time", bound) == pytest.approx(expected)
    same, also = candidates_of({1: [10.0] * 5, 2: [10.0] * 5})
    assert p_equal(same, also, "time") == 1.0
    assert keeps(same, "time", 10.0) == 1.0 and keeps(same, "time", 9.9) == 0.0


def test_runs_are_drawn_within_their_session() -> None:
    days = [10.0, 10.1, 20.0, 20.1]
    values = {1: days, 2: [15.06, 15.07, 15.06, 15.07]}
    apart = best_probabilities(candidates_of(values), "time", 1)
    within = best_probabilities(candidates_of(values, lambda _: [0, 0, 1, 1]), "time", 1)
    # Drawn from all runs alike, the mean of two days is anything from 10 to 20.
    assert 0.2 < apart[0] < 0.8
    # Each day as often as it was there, it hardly moves.
    assert within[0] > 0.6
    assert within[0] != apart[0]


def test_sessions_and_input_of_the_sidecar_are_told(tmp_path: Path) -> None:
    kind = replace(STEEP, clean=True)
    found = result(write(tmp_path, kind))
    scope = found["conditions"]["scope"]
    assert scope["sessions"] == 1 or scope["sessions"] is not None
    assert scope["dates"] == ["2026-11-01", "2026-11-01"]
    assert scope["input_bytes"] == [1_000_000]
    assert "size of the input: 1000000 bytes" in text(found)
    unknown = result(write(tmp_path / "unknown", STEEP))["conditions"]["scope"]
    assert (unknown["sessions"], unknown["dates"], unknown["input_bytes"]) == (None, None, None)


def test_several_processors_are_strata_and_no_outliers(tmp_path: Path) -> None:
    kind = replace(STEEP, mix={XEON: 0.6, EPYC: 0.4})
    found = result(write(tmp_path, kind), minimise="cost")
    hardware = found["conditions"]["hardware"]
    assert set(hardware["rows"]) == {XEON, EPYC}
    (among,) = hardware["among"]
    usual, other = among["against"], among["cpu_name"]
    assert {usual, other} == {XEON, EPYC}
    ratio = among["compute_ratio"] if other == EPYC else 1 / among["compute_ratio"]
    assert ratio == pytest.approx(1.23, abs=0.05)
    assert "its calls ran on" in text(found)
    assert all(one["runs"] == 8 for one in found["ranked"])


def test_other_prices_change_what_is_cheapest_as_the_break_even_says(tmp_path: Path) -> None:
    folder = write(tmp_path, *matched(STEEP))
    price = result(folder, minimise="cost")["conditions"]["price"]
    billed = {}
    for architecture in ("arm64", "x86_64"):
        found = result(folder, minimise="cost", architecture=architecture)
        billed[architecture] = {
            (one["workers"], one["memory_mb"]): one["cost_usd"]["value"] for one in found["ranked"]
        }
    logs = [math.log(billed["arm64"][place] / billed["x86_64"][place]) for place in billed["arm64"]]
    # Dollars are GB-s times price, but for the requests.
    expected = math.exp(float(np.mean(logs))) / price["price_ratio"]
    assert price["billed_ratio"] == pytest.approx(expected, rel=1e-3)


def test_a_stage_that_cannot_be_judged_hides_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    laptop = replace(STEEP, workload="laptop", on_lambda=False)
    folder = write(tmp_path, STEEP, laptop)
    assert main(["profile", "recommend", str(folder), "--minimise", "cost"]) == 0
    out = capsys.readouterr().out
    assert "recommended: 4 workers" in out
    assert "no recommendation: dollars are known of AWS Lambda only" in out


def test_a_basis_is_the_users(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = profile(STEEP)
    made["(1, 1024, 8)"]["cold_start"][2] = [40.0] * 8
    folder = write(tmp_path, STEEP, made=made)
    command = ["profile", "recommend", str(folder), "--json", "--workers", "8"]
    assert main([*command, "--exclude", "+queued-start"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["settings"]["basis"] == "custom" and found["best"]["runs"] == 7
    assert main([*command, "--exclude", "+nothing"]) == 2
    assert "nothing" in capsys.readouterr().err
    for wrong in ("0", "1", "x"):
        with pytest.raises(SystemExit):
            main([*command, "--confidence", wrong])
        assert "not a number between 0 and 1" in capsys.readouterr().err
    with pytest.raises(ValueError, match="confidence"):
        recommend(folder / STEEP.name, confidence=2.0)
