"""The sentences of a report follow the data: other data, other words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lithowatt.profiles._runs import read_profiles
from lithowatt.report._checklist import MET, NOT, PART, UNKNOWN, checklist
from lithowatt.report._results import Wanted, results
from lithowatt.report._rows import rows
from lithowatt.report._words import StageWords, Words, words
from tests.support.made_profiles import EPYC, XEON, Kind, profile, write

KIND = Kind(workers=(2, 4, 8), repetitions=8, seed=1)
ARM = replace(KIND, architecture="arm64", work_s=30.0, seed=2)


def found_in(folder: Path, wanted: Wanted | None = None) -> dict[str, Any]:
    return results(read_profiles([folder]), wanted).as_json()


def stage_of(said: Words) -> StageWords:
    (stage,) = said.stages
    return stage


def answers(folder: Path) -> dict[str, str]:
    return {one.question: one.verdict for one in stage_of(words(found_in(folder))).answers}


def test_what_is_recommended_follows_the_data(tmp_path: Path) -> None:
    """The architecture that takes less is named, whichever it is."""
    write(tmp_path / "a", KIND, ARM)
    write(tmp_path / "b", replace(KIND, work_s=15.0), replace(ARM, work_s=60.0))
    assert "arm64" in answers(tmp_path / "a")["Which configuration?"]
    assert "x86_64" in answers(tmp_path / "b")["Which configuration?"]


def test_a_ratio_in_the_words_is_the_ratio_of_the_data(tmp_path: Path) -> None:
    for name, factor in (("half", 0.5), ("double", 2.0)):
        write(tmp_path / name, KIND, replace(ARM, work_s=60.0 * factor))
        found = found_in(tmp_path / name)
        (told,) = (
            one for one in stage_of(words(found)).results if one.startswith("arm64 against x86_64")
        )
        ratio = next(
            row["ratio"]
            for row in found["compare"]["overall"]
            if row["quantity"] == "compute_s" and row["memory_mb"] is None
        )
        assert f"compute time ×{ratio:.2f} [" in told
        assert ("higher" if factor > 1 else "lower") in told.split(";")[0]


def test_too_few_runs_give_no_recommendation(tmp_path: Path) -> None:
    write(tmp_path, replace(KIND, repetitions=2))
    said = stage_of(words(found_in(tmp_path)))
    which = said.answers[0]
    assert which.verdict.startswith("No recommendation") and not which.good
    assert said.answers[1].verdict == (
        "Not sure enough to recommend one. When they ran was not recorded, so another day may "
        "differ."
    )


def test_modelled_and_measured_joules(tmp_path: Path) -> None:
    write(tmp_path / "modelled", KIND)
    write(tmp_path / "measured", replace(KIND, clean=True))
    modelled, measured = (answers(tmp_path / name) for name in ("modelled", "measured"))
    assert modelled["Was a joule measured?"].startswith("No. Every joule here is modelled")
    qualities = {
        row["metrics"]["energy_j"]["quality"]
        for row in found_in(tmp_path / "measured")["stats"]["configurations"]
    }
    told = measured["Was a joule measured?"]
    assert told.startswith("Yes") == ("modelled" not in qualities), (told, qualities)
    assert (
        "No joule was measured: energy is modelled" in words(found_in(tmp_path / "modelled")).energy
    )


def test_no_joule_at_all_has_its_reason(tmp_path: Path) -> None:
    """Times alone, as upstream FlexExecutor writes them on no known platform."""
    made = profile(KIND)
    for metrics in made.values():
        for column in list(metrics):
            if column not in ("read", "compute", "write", "cold_start"):
                del metrics[column]
    place = tmp_path / "thing" / "stage.json"
    place.parent.mkdir()
    place.write_text(json.dumps(made))
    found = found_in(tmp_path)
    said = words(found)
    assert "No joule is known: " in said.energy and said.energy != "No joule is known: ."


def test_drift_is_said_first(tmp_path: Path) -> None:
    drifting = replace(KIND, workers=(4, 8, 16, 24), repetitions=14, drift=1.0)
    write(tmp_path / "drift", drifting)
    write(tmp_path / "calm", replace(drifting, drift=0.0, clean=True))
    assert "Drifting repetitions" in answers(tmp_path / "drift")["What is wrong with the data?"]
    assert "drift" in " ".join(words(found_in(tmp_path / "drift")).problems)
    calm = answers(tmp_path / "calm")["What is wrong with the data?"]
    assert "drift" not in calm.lower() and "mixed" not in calm.lower()


def test_mixed_processors_are_named_with_their_ratios(tmp_path: Path) -> None:
    write(tmp_path, replace(KIND, mix={XEON: 0.6, EPYC: 0.4}), ARM)
    said = stage_of(words(found_in(tmp_path)))
    (by_cpu,) = (one for one in said.results if "by x86_64's processor" in one)
    assert XEON in by_cpu and EPYC in by_cpu
    assert "Mixed hardware (3 configurations" in said.answers[4].verdict


def test_stages_are_told_apart(tmp_path: Path) -> None:
    write(tmp_path, KIND, replace(KIND, workload="video", stage="split", seed=5))
    said = words(found_in(tmp_path))
    assert [one.name for one in said.stages] == ["pi / stage", "video / split"]
    assert "pi / stage, video / split" in said.title


def test_minimise_is_what_is_asked_for(tmp_path: Path) -> None:
    write(tmp_path, KIND)
    found = found_in(tmp_path, Wanted(minimise="time"))
    assert found["recommend"]["minimise"] == "time"
    assert "time" in stage_of(words(found)).answers[0].verdict
    with pytest.raises(ValueError, match="expected one of"):
        found_in(tmp_path, Wanted(minimise="grams"))


def test_counts_are_those_of_the_data(tmp_path: Path) -> None:
    write(tmp_path, KIND)
    assert words(found_in(tmp_path)).summary == (
        "3 configurations, 24 runs (none left out), 112 worker calls, from 1 file."
    )


def test_stages_of_one_file_are_told_apart(tmp_path: Path) -> None:
    """Scaling, fronts and recommendations of a stage hold nothing of another one."""
    kind = replace(KIND, workers=(2, 4, 8, 16))
    both = {"map": profile(kind), "reduce": profile(replace(kind, weak=True, seed=9))}
    place = tmp_path / "in" / kind.folder / "profile.json"
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps(both))
    found = results(read_profiles([tmp_path / "in"]))
    said = words(found.as_json())
    assert [one.key for one in said.stages] == [("pi", "map"), ("pi", "reduce")]
    scaling = [one.results[-1] for one in said.stages]
    assert "strong in 1 series" in scaling[0] and "weak" not in scaling[0]
    assert "weak in 1 series" in scaling[1] and "strong" not in scaling[1]
    fronts = {
        (row["file"], row["stage"], row["key"])
        for row in found.found["pareto"]["rows"]
        if row["status"] == "front" and row["objectives"] == "time_s and cost_usd"
    }
    marked = {(row["file"], row["part"], row["key"]) for row in rows(found)["front"]}
    assert marked == fronts


def without(kind: Kind, *columns: str) -> dict[str, Any]:
    made = profile(kind)
    for metrics in made.values():
        for column in columns:
            del metrics[column]
    return made


def test_nothing_is_priced_where_nothing_says_where_it_ran(tmp_path: Path) -> None:
    folder = tmp_path / "in" / "titanic"
    folder.mkdir(parents=True)
    (folder / "stage.json").write_text(json.dumps(without(KIND, "aws_cpu")))
    said = words(found_in(tmp_path / "in"))
    which, _, _, measured, _ = stage_of(said).answers
    assert said.title == "titanic / stage"
    assert "USD" not in which.verdict and " J" not in which.verdict and " s" in which.verdict
    assert "Nothing says where it ran: no dollars and no joules are told." in which.details
    assert measured.verdict == "No: no joule is known."


def test_warnings_of_the_recommendation_are_told(tmp_path: Path) -> None:
    made = profile(KIND)
    made["(1, 1024, 4)"]["cold_start"][2][1] = 500.0
    write(tmp_path, KIND, made=made)
    found = found_in(tmp_path)
    told = {one["text"] for one in found["warnings"]}
    own = {one["text"] for one in found["recommend"]["warnings"]}
    assert own and own <= told
    assert len(told) == len(found["warnings"])


def test_a_stage_without_dollars_is_asked_for_its_time(tmp_path: Path) -> None:
    write(tmp_path, KIND)
    late = tmp_path / "bare" / "late.json"
    late.parent.mkdir()
    late.write_text(json.dumps(profile(replace(KIND, on_lambda=False, seed=7))))
    by_stage = {one["stage"]: one for one in found_in(tmp_path)["recommend"]["stages"]}
    assert by_stage["stage"]["minimise"] == "cost"
    assert by_stage["late"]["minimise"] == "time" and "error" not in by_stage["late"]


def test_calls_are_counted_whether_or_not_they_name_a_processor(tmp_path: Path) -> None:
    made = profile(KIND)
    for metrics in made.values():
        metrics["cpu_name"] = [[None] * len(one) for one in metrics["cpu_name"]]
    write(tmp_path, KIND, made=made)
    assert "112 worker calls" in words(found_in(tmp_path)).summary


# --- the checklist ------------------------------------------------------------


def verdicts(found: Mapping[str, Any]) -> dict[str, str]:
    return {one.principle: one.verdict for one in checklist(found)}


def test_checklist_follows_the_data(tmp_path: Path) -> None:
    write(tmp_path / "poor", replace(KIND, repetitions=1, workers=(4,)))
    write(tmp_path / "rich", KIND, ARM, replace(KIND, memory_mb=512), replace(KIND, workload="v"))
    poor, rich = (verdicts(found_in(tmp_path / name)) for name in ("poor", "rich"))
    assert len(poor) == len(rich) == 8
    assert poor["Repeated experiments"] == NOT and rich["Repeated experiments"] == PART
    assert poor["Workload and configuration coverage"] == NOT
    assert rich["Workload and configuration coverage"] == MET
    assert poor["Statistical evaluation"] == UNKNOWN and rich["Statistical evaluation"] == MET
    assert poor["Probabilistic result description"] == NOT
    assert poor["Measurement units"] == PART  # the fork's TDP is in seconds


def test_checklist_says_which_number_is_behind_it(tmp_path: Path) -> None:
    write(tmp_path, KIND)
    (one,) = (
        one for one in checklist(found_in(tmp_path)) if one.principle == "Repeated experiments"
    )
    assert (
        one.because == "8 to 8 runs a configuration, 0 with fewer than 5; sessions are not recorded"
    )
