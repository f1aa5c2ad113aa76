"""`profile stats`: definitions, what is null and why, and figures of the measured profiles."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lithowatt.analysis._envelope import as_text
from lithowatt.analysis.basis import Basis
from lithowatt.analysis.platforms import Price
from lithowatt.analysis.selection import COLUMNS, NAMES, Selection, Settings
from lithowatt.analysis.statistics import describe, stats
from lithowatt.cost import lambda_cost
from lithowatt.profiles._runs import read_profiles
from tests.support.made_profiles import EPYC, UPSTREAM, XEON, Kind, Profile, profile, sidecar, write
from tests.support.measured_profiles import measured_profiles

KIND = Kind(workers=(2, 4), repetitions=6, seed=1)


def of(folder: Path, settings: Settings | None = None) -> dict[str, Any]:
    found = stats(read_profiles([folder], keep=COLUMNS), settings)
    assert json.loads(as_text(found)) == found, "the result is no plain JSON"
    return found


def only(found: dict[str, Any]) -> dict[str, Any]:
    (row,) = found["configurations"]
    return dict(row)


def made(tmp_path: Path, content: Profile, kind: Kind = KIND) -> dict[str, Any]:
    return of(write(tmp_path, kind, made=content))


# --- figures ------------------------------------------------------------------


def test_what_a_terminal_would_obey_is_escaped_in_json() -> None:
    said = {"name": "a\x1b[2J\x9b2J\u202eb\x85", "rows": [{"c": "\u2028\x7f"}], "plain": "é→"}
    text = as_text(said)
    assert json.loads(text) == said
    assert all(character.isprintable() or character == "\n" for character in text)
    assert "é→" in text


def test_figures_of_a_measured_configuration() -> None:
    """S1 of the acceptance figures, computed independently."""
    rows = stats(measured_profiles(), bootstrap=False)["configurations"]
    (row,) = [
        one
        for one in rows
        if one["file"] == "titanic_aws_512Mb_arm/stage.json" and one["key"] == "(1, 512, 12)"
    ]
    metrics = row["metrics"]
    compute = metrics["compute_s"]
    assert compute["n"] == 5
    assert compute["mean"] == pytest.approx(33.551359, rel=1e-7)
    assert compute["sd"] == pytest.approx(0.349484, rel=1e-5)
    assert compute["t"] == pytest.approx([33.117418, 33.985300], rel=1e-7)
    assert metrics["time_s"]["mean"] == pytest.approx(39.623206, rel=1e-7)
    assert metrics["cpu_seconds_s"]["mean"] == pytest.approx(131.798721, rel=1e-7)
    assert metrics["cpu_share"]["mean"] == pytest.approx(0.129571, rel=1e-5)
    assert metrics["cost_usd"]["mean"] == pytest.approx(0.00339327295, rel=1e-8)


def test_the_cheapest_of_the_measured_configurations() -> None:
    """S2: means of cost."""
    rows = stats(measured_profiles(), bootstrap=False)["configurations"]
    cost = {
        row["workers_requested"]: row["metrics"]["cost_usd"]["mean"]
        for row in rows
        if row["file"] == "titanic_aws_1024Mb_arm/stage.json"
    }
    assert cost[9] == pytest.approx(0.00337958281, rel=1e-8)
    assert cost[28] == pytest.approx(0.00430732373, rel=1e-8)
    assert min(cost, key=lambda workers: cost[workers]) == 9


# --- definitions --------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"cpu_cores_logical": 0},
        {"cpu_cores_logical": -1},
        {"TDP": -1.0},
        {"cpu_time": -1.0},
        # Of ours, whose TDP is joules.
        {"energy": 2.0},
    ],
)
def test_what_cannot_be_makes_no_cpu_seconds(tmp_path: Path, wrong: dict[str, float]) -> None:
    content = profile(KIND)
    for metrics in content.values():
        for name, value in wrong.items():
            metrics[name] = [[value] * len(workers) for workers in metrics["read"]]
    for row in made(tmp_path, content)["configurations"]:
        assert row["metrics"]["cpu_seconds_s"] is None
        assert row["reasons"]["cpu_seconds_s"]
        assert row["metrics"]["time_s"]["mean"] > 0


def test_quantities_are_what_their_definitions_say(tmp_path: Path) -> None:
    content = profile(KIND)
    row = made(tmp_path, content)["configurations"][1]
    columns = content["(1, 1024, 4)"]
    runs = {name: [np.array(one) for one in columns[name]] for name in columns}
    seconds = runs["worker_time_execution"]
    expected = {
        "compute_s": [one.mean() for one in runs["compute"]],
        "worker_time_s": [one.mean() for one in seconds],
        "time_s": [
            (start + read + compute + write).max()
            for start, read, compute, write in zip(
                runs["cold_start"], runs["read"], runs["compute"], runs["write"], strict=True
            )
        ],
        "worker_seconds_s": [one.sum() for one in seconds],
        "cpu_seconds_s": [2 * one.sum() for one in runs["TDP"]],
        "cpu_share": [
            one.sum() / lasted.sum() for one, lasted in zip(runs["TDP"], seconds, strict=True)
        ],
        "cost_usd": [sum(lambda_cost(s, 1024, "x86_64") for s in one.tolist()) for one in seconds],
    }
    for name, values in expected.items():
        metric = row["metrics"][name]
        assert metric["n"] == 6
        assert metric["mean"] == pytest.approx(np.mean(values), rel=1e-12)
        assert metric["sd"] == pytest.approx(np.std(values, ddof=1), rel=1e-9)
        assert metric["median"] == pytest.approx(np.median(values), rel=1e-12)
        assert metric["p95"] == pytest.approx(np.percentile(values, 95), rel=1e-12)
        assert [metric["min"], metric["max"]] == pytest.approx([min(values), max(values)])
        assert metric["cv"] == pytest.approx(metric["sd"] / metric["mean"])
        assert metric["t"][0] < metric["mean"] < metric["t"][1]
        assert metric["bootstrap_t"][0] < metric["mean"] < metric["bootstrap_t"][1]


def test_few_repetitions_have_what_they_can(tmp_path: Path) -> None:
    write(tmp_path, replace(KIND, workers=(1, 4, 5), repetitions=(1, 4, 5)))
    one, four, five = (row["metrics"]["time_s"] for row in of(tmp_path)["configurations"])
    assert (one["n"], one["sd"], one["t"], one["cv"], one["bootstrap_t"]) == (1, *[None] * 4)
    assert one["mean"] == one["median"] == one["p95"] == one["min"] == one["max"]
    assert four["t"] is not None and four["bootstrap_t"] is None
    assert five["bootstrap_t"] is not None


def test_no_interval_of_a_quantity_goes_below_zero() -> None:
    samples = [[1.0, 9.0], [1.0, 2.0, 1.0, 3.0, 30.0], [-1.0, 9.0], [8.0, 9.0, 10.0, 9.0]]
    rows = describe([np.array(one) for one in samples], Settings())
    few, skewed, by_two_clocks, plain = (row["t"] for row in rows)
    # 5 ± 12.706 · 4: what is left of it holds the mean as often as all of it.
    assert few == [0.0, pytest.approx(55.82, rel=1e-3)]
    assert skewed[0] == 0.0 and all(row["bootstrap_t"][0] >= 0 for row in rows if row["n"] > 4)
    assert by_two_clocks[0] < -40
    assert plain[0] > 0


def test_equal_values_have_no_spread() -> None:
    nothing, same = describe([np.zeros(0), np.full(7, 0.1)], Settings())
    assert nothing["n"] == 0 and nothing["mean"] is None and nothing["t"] is None
    assert (same["mean"], same["sd"], same["cv"]) == (0.1, 0.0, 0.0)
    assert same["t"] == [0.1, 0.1] and same["bootstrap_t"] is None


def test_quantiles_and_means_stay_among_the_values() -> None:
    (found,) = describe([np.array([0.1, 0.1, 0.1])], Settings())
    assert found["min"] <= found["median"] <= found["p95"] <= found["max"]
    assert found["min"] <= found["mean"] <= found["max"]


def test_queued_starts_are_told_apart(tmp_path: Path) -> None:
    content = profile(KIND)
    content["(1, 1024, 4)"]["cold_start"][2][1] = 31.0
    metrics = made(tmp_path, content)["configurations"][1]["metrics"]
    assert (metrics["time_s"]["n"], metrics["time_without_queue_s"]["n"]) == (6, 5)
    assert metrics["time_s"]["max"] > 31 > metrics["time_without_queue_s"]["max"]
    for one in content["(1, 1024, 4)"]["cold_start"]:
        one[0] = 40.0
    row = made(tmp_path, content)["configurations"][1]
    assert row["metrics"]["time_without_queue_s"] is None
    assert "waited" in row["reasons"]["time_without_queue_s"]


# --- what is not there --------------------------------------------------------


def test_a_profile_of_times_alone(tmp_path: Path) -> None:
    write(tmp_path, replace(KIND, columns=UPSTREAM))
    for row in of(tmp_path)["configurations"]:
        there = {name for name, metric in row["metrics"].items() if metric is not None}
        assert there == {
            "read_s",
            "compute_s",
            "write_s",
            "cold_start_s",
            "time_s",
            "time_without_queue_s",
        }
        assert set(row["reasons"]) == set(NAMES) - there
        assert all(row["reasons"].values())
        assert row["hardware"] == {} and row["repetitions"]["used"] == 6


def test_not_on_lambda_there_are_no_dollars(tmp_path: Path) -> None:
    write(tmp_path, replace(KIND, on_lambda=False))
    found = of(tmp_path)
    for row in found["configurations"]:
        assert row["metrics"]["cost_usd"] is None
        assert "price of a vCPU-hour" in row["reasons"]["cost_usd"]
    priced = of(tmp_path, Settings(price=Price(vcpu_hour=0.36, gib_hour=0.0, vcpus=2)))
    for row in priced["configurations"]:
        cost, seconds = row["metrics"]["cost_usd"], row["metrics"]["worker_seconds_s"]
        assert cost["mean"] == pytest.approx(seconds["mean"] * 0.0002)


def test_a_price_of_ones_own_is_not_for_lambda(tmp_path: Path) -> None:
    write(tmp_path, KIND)
    plain = of(tmp_path)["configurations"][0]["metrics"]["cost_usd"]
    priced = of(tmp_path, Settings(price=Price(vcpu_hour=0.36)))
    assert priced["configurations"][0]["metrics"]["cost_usd"] == plain


def test_prices_are_those_of_the_region(tmp_path: Path) -> None:
    write(tmp_path, KIND)
    here, there = (
        of(tmp_path, Settings(region=region))["configurations"][0]["metrics"]["cost_usd"]["mean"]
        for region in ("us-east-1", "eu-central-2")
    )
    assert there > here


def test_dollars_need_memory_and_architecture(tmp_path: Path) -> None:
    content = profile(replace(KIND, workers=(2,)))
    (columns,) = content.values()
    without = {"(1, 0, 2)": columns}
    assert "memory" in only(made(tmp_path, without))["reasons"]["cost_usd"]
    del columns["cpu_architecture"]
    (tmp_path / KIND.folder).rename(tmp_path / "pi")
    path = tmp_path / "pi" / "stage.json"
    path.write_text(json.dumps({"(1, 512, 2)": columns}))
    assert "architecture" in only(of(tmp_path))["reasons"]["cost_usd"]


def test_one_hardware_value_is_of_all_workers(tmp_path: Path) -> None:
    content = profile(KIND)
    long = of(write(tmp_path / "long", KIND, made=content))
    for columns in content.values():
        for name in ("cpu_cores_logical", "cpu_name", "cpu_architecture", "aws_cpu"):
            columns[name] = [one[:1] for one in columns[name]]
    short = of(write(tmp_path / "short", KIND, made=content))
    assert short["configurations"] == long["configurations"]


def test_the_nested_schema_of_the_prototype(tmp_path: Path) -> None:
    content = profile(KIND)
    nested = {
        "map": {key.replace("(1", "(cpu 1"): value for key, value in content.items()},
        "reduce": profile(replace(KIND, seed=2)),
    }
    path = tmp_path / "pi" / "all.json"
    path.parent.mkdir()
    path.write_text(json.dumps(nested))
    rows = of(tmp_path)["configurations"]
    assert [(row["stage"], row["workers_requested"]) for row in rows] == [
        ("map", 2),
        ("map", 4),
        ("reduce", 2),
        ("reduce", 4),
    ]
    assert all(row["repetitions"]["used"] == 6 for row in rows)


def test_a_configuration_of_which_nothing_counts(tmp_path: Path) -> None:
    content = profile(KIND)
    content["(1, 1024, 2)"]["compute"] = [[None, None]] * 6
    copied = content["(1, 1024, 4)"]
    for name, column in copied.items():
        copied[name] = [column[0]] * 6
    found = made(tmp_path, content)
    broken, left = found["configurations"]
    assert broken["repetitions"] == {"found": 6, "usable": 0, "used": 0, "left_out": {}}
    assert broken["workers_actual"] == []
    assert left["repetitions"]["used"] == 1
    assert left["repetitions"]["left_out"] == {"copied-repetitions": [1, 2, 3, 4, 5]}
    assert all(metric["n"] == 0 and metric["mean"] is None for metric in broken["metrics"].values())
    assert "nothing-left" in {one["code"] for one in found["warnings"]}


def test_no_repetition_at_all(tmp_path: Path) -> None:
    empty = {"(1, 512, 2)": {name: [] for name in UPSTREAM}, "(1, 512, 4)": {}}
    rows = made(tmp_path, empty)["configurations"]
    assert [row["repetitions"]["found"] for row in rows] == [0, 0]
    zero = {"(1, 512, 2)": {name: [[], [1.0]] for name in UPSTREAM}}
    row = only(made(tmp_path, zero))
    assert (row["repetitions"]["found"], row["repetitions"]["used"]) == (2, 1)
    assert row["metrics"]["time_s"]["mean"] == 4.0


def test_a_file_without_a_configuration_is_told(tmp_path: Path) -> None:
    write(tmp_path, KIND)
    assert "no-configuration" not in {one["code"] for one in of(tmp_path)["warnings"]}
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "stage.json").write_text("{}")
    for folder in (tmp_path, tmp_path / "e"):
        (told,) = [one for one in of(folder)["warnings"] if one["code"] == "no-configuration"]
        assert told["text"] == "there is no configuration in e/stage.json"
        assert told["files"] == ["e/stage.json"]


# --- the basis ----------------------------------------------------------------


def test_the_basis_and_its_refinements(tmp_path: Path) -> None:
    content = profile(replace(KIND, workers=(4,)))
    (columns,) = content.values()
    for column in columns.values():
        column.append(column[0])
    write(tmp_path, KIND, made=content)
    clean, everything, custom = (
        of(tmp_path, Settings(basis=Basis.of(name, exclude)))
        for name, exclude in (("clean", ()), ("all", ()), ("clean", ["-copied-repetitions"]))
    )
    assert [only(one)["repetitions"]["used"] for one in (clean, everything, custom)] == [6, 7, 7]
    assert [one["settings"]["basis"] for one in (clean, everything, custom)] == [
        "clean",
        "all",
        "custom",
    ]
    assert "copied-repetitions" in clean["settings"]["exclude"]
    assert "copied-repetitions" not in custom["settings"]["exclude"]


@pytest.mark.parametrize("exclude", ["copied-repetitions", "+no-rule", "-", "+unit-mistake"])
def test_what_refines_no_basis_is_refused(exclude: str) -> None:
    with pytest.raises(ValueError, match="rules that name repetitions"):
        Basis.of("clean", [exclude])
    with pytest.raises(ValueError, match="not one of"):
        Basis.of("some")


def test_a_foreign_repetition_has_no_price_where_it_counts_not(tmp_path: Path) -> None:
    content = profile(replace(KIND, workers=(4,), repetitions=30))
    (columns,) = content.values()
    columns["aws_cpu"][3] = [text.replace("True", "False") for text in columns["aws_cpu"][3]]
    write(tmp_path, KIND, made=content)
    clean = of(tmp_path)
    assert only(clean)["repetitions"]["left_out"] == {"foreign-hardware": [3]}
    assert only(clean)["metrics"]["cost_usd"]["n"] == 29
    everything = of(tmp_path, Settings(basis=Basis.of("all")))
    assert only(everything)["metrics"]["cost_usd"]["n"] == 30
    assert "priced-as-lambda" in {one["code"] for one in everything["warnings"]}


def test_dollars_of_a_file_that_partly_ran_on_lambda(tmp_path: Path) -> None:
    content = profile(replace(KIND, workers=(4,), repetitions=6))
    (columns,) = content.values()
    for at in (1, 3):
        columns["aws_cpu"][at] = [text.replace("True", "False") for text in columns["aws_cpu"][at]]
    found = made(tmp_path, content)
    row = only(found)
    assert row["repetitions"]["used"] == 6 and row["metrics"]["cost_usd"]["n"] == 4
    assert "partly-on-lambda" in {one["code"] for one in found["warnings"]}


def test_a_mixture_of_architectures_has_neither(tmp_path: Path) -> None:
    content = profile(replace(KIND, workers=(4, 8), repetitions=6))
    machines = content["(1, 1024, 4)"]["cpu_architecture"]
    machines[:2] = [["aarch64"] * 4] * 2
    found = made(tmp_path, content)
    mixture, other = found["configurations"]
    assert mixture["architecture"] is None
    assert mixture["metrics"]["cost_usd"] is None and mixture["metrics"]["energy_j"] is None
    assert mixture["reasons"]["cost_usd"] == "its calls ran on arm64 and x86_64"
    assert mixture["metrics"]["compute_s"]["n"] == 6
    # What ran on one alone has it, and its dollars.
    assert other["architecture"] == "x86_64" and other["metrics"]["cost_usd"]["n"] == 6
    (warning,) = [one for one in found["warnings"] if one["code"] == "mixed-architectures"]
    assert "(1, 1024, 4)" in warning["text"] and "(1, 1024, 8)" not in warning["text"]


def test_a_configuration_is_not_called_by_the_rest_of_its_file(tmp_path: Path) -> None:
    content = profile(replace(KIND, workers=(1, 28), repetitions=6))
    content["(1, 1024, 1)"]["cpu_architecture"] = [["aarch64"]] * 6  # 3 % of the file
    rows = made(tmp_path, content)["configurations"]
    assert [row["architecture"] for row in rows] == ["arm64", "x86_64"]


def test_stray_calls_are_told(tmp_path: Path) -> None:
    content = profile(replace(KIND, workers=(4, 28), repetitions=6))
    machines = content["(1, 1024, 4)"]["cpu_architecture"]
    machines[3] = ["aarch64", *machines[3][1:]]  # one of 24 calls, and of 192 of the file
    machines[5] = ["aarch64"] * 4
    found = made(tmp_path, content)
    assert [row["architecture"] for row in found["configurations"]] == ["x86_64"] * 2
    assert found["configurations"][0]["metrics"]["cost_usd"]["n"] == 6
    (warning,) = [one for one in found["warnings"] if one["code"] == "stray-architectures"]
    assert warning["text"].startswith("5 worker calls of ") and "(1, 1024, 4)" in warning["text"]
    # Those that do not count are not told.
    for column in content["(1, 1024, 4)"].values():
        column[5] = list(column[0])
    content["(1, 1024, 4)"]["cpu_architecture"][5] = ["aarch64"] * 4
    found = made(tmp_path, content)
    (warning,) = [one for one in found["warnings"] if one["code"] == "stray-architectures"]
    assert warning["text"].startswith("1 worker call of ")


# --- merged, sessions, failures -----------------------------------------------


def test_what_ran_alike_is_merged(tmp_path: Path) -> None:
    write(
        tmp_path,
        replace(KIND, workers=(1, 2, 4), most_workers=2),
        replace(KIND, stage="once", workers=(4, 8), most_workers=1, seed=5),
        replace(KIND, stage="right", workers=(4, 8), seed=6),
    )
    found = of(tmp_path)
    merged = {(row["stage"], row["workers_actual"]): row for row in found["merged"]}
    assert set(merged) == {("stage", 2), ("once", 1)}
    row = merged["stage", 2]
    assert row["workers_requested"] == [2, 4] and row["repetitions"] == {"used": 12}
    parts = [one for one in found["configurations"] if one["stage"] == "stage"][1:]
    mean = row["metrics"]["time_s"]["mean"]
    assert mean == pytest.approx(np.mean([one["metrics"]["time_s"]["mean"] for one in parts]))
    assert row["metrics"]["time_s"]["n"] == 12


def test_a_repetition_that_ran_fewer_workers_is_merged_by_itself(tmp_path: Path) -> None:
    content = profile(replace(KIND, workers=(4,)))
    (columns,) = content.values()
    for column in columns.values():
        column[2] = column[2][:3]
    found = made(tmp_path, content)
    assert only(found)["workers_actual"] == [3, 4]
    assert [(row["workers_actual"], row["repetitions"]["used"]) for row in found["merged"]] == [
        (3, 1)
    ]


def test_sessions_are_told_by_pauses(tmp_path: Path) -> None:
    kind = replace(KIND, workers=(2,), clean=True, repetitions=5)
    write(tmp_path, kind)
    path = tmp_path / kind.folder / "stage.json.energy"
    told = sidecar(profile(kind), kind)
    (records,) = told["configurations"].values()
    for record, minute in zip(records, (0, 10, 20, 200, 210), strict=True):
        record["time"] = f"2026-11-01T{minute // 60:02}:{minute % 60:02}:00Z"
    path.write_text(json.dumps(told))
    assert only(of(tmp_path))["sessions"] == 2
    for nothing in (None, {**records[0], "time": "soon"}):
        records[1] = nothing
        path.write_text(json.dumps(told))
        found = of(tmp_path)
        assert only(found)["sessions"] is None
        assert "sessions-unknown" in {one["code"] for one in found["warnings"]}
    path.unlink()
    assert only(of(tmp_path))["sessions"] is None


def test_failed_runs_are_told_with_their_joules(tmp_path: Path) -> None:
    kind = replace(KIND, workers=(2,), clean=True)
    write(tmp_path, kind)
    path = tmp_path / kind.folder / "stage.json.energy"
    told = sidecar(profile(kind), kind)
    one = {"stage": "stage", "configuration": "(1, 1024, 2)", "calls": 2, "error": "lost"}
    told["failures"] = [
        {**one, "energy": 3.0, "energy_known": 3.0},
        {**one, "energy": 4.5, "energy_known": 4.5},
        {**one, "configuration": None, "energy": None, "energy_known": 1.0, "energy_reason": "one"},
    ]
    path.write_text(json.dumps(told))
    known, partly = sorted(of(tmp_path)["failures"], key=lambda row: row["runs"], reverse=True)
    assert (known["runs"], known["calls"], known["energy_j"], known["reason"]) == (2, 4, 7.5, None)
    assert (partly["key"], partly["energy_j"], partly["energy_known_j"]) == (None, None, 1.0)
    assert partly["reason"] == "one"


# --- joules -------------------------------------------------------------------


def with_energy(quality: str = "measured", definition: str = "marginal") -> Profile:
    content = profile(replace(KIND, workers=(4,)))
    (columns,) = content.values()
    shape = (6, 4)
    columns["energy"] = (np.arange(24).reshape(shape) + 10.0).tolist()
    columns["energy_marginal"] = (np.arange(24).reshape(shape) + 9.0).tolist()
    columns["energy_low"] = (np.arange(24).reshape(shape) + 8.0).tolist()
    columns["energy_high"] = (np.arange(24).reshape(shape) + 14.0).tolist()
    columns["energy_quality"] = [[quality] * 4 for _ in range(6)]
    columns["energy_definition"] = [[definition] * 4 for _ in range(6)]
    columns["cpu_time"] = columns["compute"]
    return content


def test_joules_are_those_of_the_profile(tmp_path: Path) -> None:
    content = with_energy()
    row = only(made(tmp_path, content))
    energy = row["metrics"]["energy_j"]
    assert energy["mean"] == 46 + 16 * 2.5 and energy["quality"] == "measured"
    assert energy["band"] == [energy["mean"] - 8, energy["mean"] + 16]
    (columns,) = content.values()
    assert row["metrics"]["cpu_seconds_s"]["mean"] == pytest.approx(
        np.mean([sum(one) for one in columns["compute"]])
    )
    assert row["metrics"]["cpu_share"]["mean"] < 1


def test_zero_joules_are_no_reading(tmp_path: Path) -> None:
    content = with_energy()
    (columns,) = content.values()
    columns["energy"][0][1] = 0.0
    columns["energy"][1][1] = None
    columns["energy_quality"][2][0] = "attributed"
    energy = only(made(tmp_path, content))["metrics"]["energy_j"]
    assert (energy["n"], energy["quality"]) == (4, "attributed")


def test_two_definitions_are_compared_above_idle(tmp_path: Path) -> None:
    write(tmp_path / "a", KIND, made=with_energy())
    write(tmp_path / "b", KIND, made=with_energy(definition="amortised"))
    found = of(tmp_path, Settings(basis=Basis.of("all")))
    for row in found["configurations"]:
        assert row["metrics"]["energy_j"]["mean"] == 42 + 16 * 2.5
    assert "energy-definitions" in {one["code"] for one in found["warnings"]}


def test_where_no_joule_was_measured_the_model_says(tmp_path: Path) -> None:
    from lithowatt.analysis.platforms import AwsLambda, Worker

    content = profile(KIND)
    found = made(tmp_path, content)
    row = found["configurations"][1]
    energy = row["metrics"]["energy_j"]
    assert energy["quality"] == "modelled"
    assert energy["band"][0] < energy["mean"] < energy["band"][1]
    columns = content["(1, 1024, 4)"]
    platform, worker = AwsLambda(), Worker(1024, "x86_64")
    expected = np.mean(
        [
            sum(
                seconds * platform.watts(worker, 2 * tdp / seconds).value
                for seconds, tdp in zip(lasted, guest, strict=True)
            )
            for lasted, guest in zip(columns["worker_time_execution"], columns["TDP"], strict=True)
        ]
    )
    assert energy["mean"] == pytest.approx(expected, rel=1e-3)
    assert "modelled-energy" in {one["code"] for one in found["warnings"]}


def test_joules_of_the_machine_are_not_used_and_told(tmp_path: Path) -> None:
    content = profile(KIND)
    for columns in content.values():
        columns["rapl_energy_cores"] = columns["read"]
    found = made(tmp_path, content)
    (warning,) = [one for one in found["warnings"] if one["code"] == "machine-energy"]
    assert "rapl_energy_cores" in warning["text"] and warning["files"] == [KIND.name]
    assert found["configurations"][0]["metrics"]["energy_j"]["quality"] == "modelled"


# --- order --------------------------------------------------------------------


def test_hardware_is_counted_over_what_counts(tmp_path: Path) -> None:
    kind = replace(KIND, mix={XEON: 0.5, EPYC: 0.5})
    write(tmp_path, kind)
    for row in of(tmp_path)["configurations"]:
        assert set(row["hardware"]) == {XEON, EPYC}
        assert sum(row["hardware"].values()) == 6 * row["workers_requested"]


def test_the_selection_is_in_the_order_of_names_and_numbers(tmp_path: Path) -> None:
    content = profile(replace(KIND, workers=(2, 4, 10)))
    backwards = dict(reversed(content.items()))
    write(tmp_path, KIND, made=backwards)
    selection = Selection(read_profiles([tmp_path]))
    assert [one.runs.configuration.workers for one in selection.all] == [2, 4, 10]
    assert not math.isnan(selection.all[0].sample("time_s").mean())
