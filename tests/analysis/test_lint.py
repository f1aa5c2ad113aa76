"""Findings as a whole: which rules, in which order, and what is left out for them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lithowatt.analysis._envelope import as_text
from lithowatt.analysis.basis import Basis
from lithowatt.analysis.lint import EXCLUDING, NAMING, findings, left_out, lint, selected
from lithowatt.analysis.lint._rules import BY_NAME, RULES
from lithowatt.errors import MalformedValueError
from lithowatt.profiles import append_repetition
from lithowatt.profiles._columns import FunctionTimes
from lithowatt.profiles._runs import read_profiles
from tests.support.linted import linted, told
from tests.support.made_profiles import Kind, Profile, profile, write
from tests.support.measured_profiles import measured_profiles
from tests.support.planted_faults import add_noise, append_copy

KIND = Kind(workers=(4, 8), clean=True, seed=1)
KEY = KIND.keys[0]


def test_the_rules_that_exclude() -> None:
    assert EXCLUDING == (
        "copied-repetitions",
        "jittered-repetitions",
        "foreign-hardware",
        "empty-repetition",
    )
    assert {BY_NAME[name].severity for name in EXCLUDING} == {"error"}
    assert {rule.name for rule in RULES if rule.names} <= NAMING


def test_what_the_measured_profiles_have() -> None:
    counts: dict[str, int] = {}
    for one in findings(measured_profiles()):
        counts[one.rule] = counts.get(one.rule, 0) + 1
        assert one.severity == "warning"
    assert counts == {
        "constant-column": 12,
        "zero-means-unavailable": 65,
        "unit-mistake": 12,
        "monitoring-overhead": 12,
        "mixed-hardware": 65,
        "drifting-repetitions": 2,
        "stalled-worker": 2,
        "missing-metadata": 12,
    }


def everything() -> tuple[Kind, Profile]:
    """A profile with an error in its last configuration and a warning in its first."""
    made = profile(KIND)
    append_copy(made[KIND.keys[1]], 2)
    made[KEY]["cold_start"][5][3] = 31.0
    made[KEY]["cold_start"][6][1] = 32.0
    made[KEY]["aws_cpu"][1][0] = "lambda:False"
    return KIND, made


def test_errors_come_first_then_files_then_configurations() -> None:
    kind, made = everything()
    other = replace(kind, workload="a")
    second = profile(replace(other, seed=2))
    append_copy(second[kind.keys[1]], 0)
    append_copy(second[KEY], 0)
    assert [
        (one.rule, one.file, one.configuration) for one in linted((kind, made), (other, second))
    ] == [
        ("copied-repetitions", other.name, KEY),
        ("copied-repetitions", other.name, kind.keys[1]),
        ("copied-repetitions", kind.name, kind.keys[1]),
        ("foreign-hardware", kind.name, KEY),
        ("queued-start", kind.name, KEY),
    ]


def test_the_order_of_keys_and_of_paths_changes_nothing(tmp_path: Path) -> None:
    kind, made = everything()
    append_copy(made[KEY], 0)
    turned = dict(reversed(list(made.items())))
    a = write(tmp_path / "a", kind, made=made) / kind.folder
    b = write(tmp_path / "b", replace(kind, clean=False), made=turned) / kind.folder
    other = write(tmp_path / "c", replace(kind, workload="qi", seed=5)) / "qi_aws_1024Mb_x86"
    assert told(findings(read_profiles([a, other]))) == told(findings(read_profiles([other, a])))
    first, second = (
        [one.as_json() for one in findings(read_profiles([path])) if one.rule != "missing-metadata"]
        for path in (a, b)
    )
    assert first == second


@pytest.mark.parametrize("noise", [False, True])
def test_a_copy_adds_one_finding_and_leaves_itself_out(tmp_path: Path, noise: bool) -> None:
    made = profile(KIND)
    before = told(linted((KIND, made)))
    at = append_copy(made[KEY], 4)
    rule = "copied-repetitions"
    if noise:
        rule = "jittered-repetitions"
        add_noise(made[KEY], at, np.random.default_rng(3), clocks=False)
        for name in ("time_consumption", "worker_time_execution"):  # longer than its phases
            made[KEY][name][at] = [value * 1.03 for value in made[KEY][name][4]]
    assert told(linted((KIND, made))) == sorted([*before, (rule, KIND.name, KEY, None)], key=repr)
    profiles = read_profiles([write(tmp_path, KIND, made=made)])
    assert left_out(profiles) == {(0, 0): {rule: [at]}}


def test_hardware_of_one_value_is_that_of_all_workers() -> None:
    kind, made = everything()
    short = {
        key: {
            name: [one[:1] for one in column]
            if name.startswith("cpu_") or name == "measurement_energy"
            else column
            for name, column in metrics.items()
        }
        for key, metrics in made.items()
    }
    assert linted((kind, made)) == linted((kind, short))


def test_what_other_rules_leave_out(tmp_path: Path) -> None:
    kind, made = everything()
    profiles = read_profiles([write(tmp_path, kind, made=made)])
    assert left_out(profiles) == {
        (0, 0): {"foreign-hardware": [1]},
        (0, 1): {"copied-repetitions": [10]},
    }
    assert left_out(profiles, ["queued-start"]) == {(0, 0): {"queued-start": [5, 6]}}
    assert left_out(profiles, []) == {}
    assert left_out(profiles, ["copied-repetitions", "queued-start"]) == {
        (0, 0): {"queued-start": [5, 6]},
        (0, 1): {"copied-repetitions": [10]},
    }
    with pytest.raises(MalformedValueError, match="mixed-hardware is about no repetitions"):
        left_out(profiles, ["mixed-hardware"])
    with pytest.raises(MalformedValueError, match="did you mean queued-start"):
        left_out(profiles, ["queued-starts"])


def test_rules_are_chosen_by_name_or_by_what_is_not_wanted() -> None:
    every = tuple(BY_NAME)
    assert selected(None) == selected([]) == every
    assert selected(["few-repetitions", "clock-mismatch"]) == ("clock-mismatch", "few-repetitions")
    assert selected(["-missing-metadata"]) == every[:-1]
    for wrong in (["nothing"], ["few-repetitions", "-clock-mismatch"], ["-"], [""]):
        with pytest.raises(MalformedValueError, match="there is no rule"):
            selected(wrong)


def test_the_result_says_how_it_was_made(tmp_path: Path) -> None:
    kind, made = everything()
    result = lint(read_profiles([write(tmp_path, kind, made=made)]), ["queued-start"], "never")
    assert result["command"] == "lint"
    assert result["settings"] == {"rules": ["queued-start"], "fail_on": "never", "group": None}
    assert result["inputs"][0]["rows"] == 10 * 4 + 11 * 8
    (finding,) = result["findings"]
    assert set(finding) == {
        "rule",
        "severity",
        "file",
        "stage",
        "configuration",
        "column",
        "repetitions",
        "rows",
        "evidence",
        "message",
        "advice",
        "excludes",
    }
    assert finding["evidence"] == {"repetitions": [5, 6], "most_s": 32.0}
    assert '"rows": 2' in as_text(result)


@pytest.mark.parametrize("columns", [("read", "compute", "write", "cold_start"), ("read",), ()])
def test_a_profile_of_few_columns_is_looked_at_as_far_as_it_goes(columns: tuple[str, ...]) -> None:
    kind = replace(KIND, columns=columns, clean=False)
    made = profile(kind)
    if "compute" in columns:
        append_copy(made[KEY], 3)
        found = linted((kind, made))
        assert [one.rule for one in found] == ["copied-repetitions", "missing-metadata"]
    else:
        found = linted((kind, made))
        assert {one.rule for one in found} == {"few-repetitions", "missing-metadata"}


def test_an_empty_profile_and_empty_repetitions() -> None:
    assert [one.rule for one in linted((KIND, {}))] == []
    made: Profile = {KEY: {name: [[], []] for name in profile(KIND)[KEY]}}
    assert [one.rule for one in linted((KIND, made))] == ["few-repetitions"]


def test_repetitions_of_another_recorded_input_are_told_apart(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    path = tmp_path / "profiling" / "dag" / "stage.json"
    for points in (8, 8, 4, 8, 8, 4, 8):
        times = own_times(random, 2, False)
        append_repetition(path, (1, 1024, 2), times, {"input_size": f"{points} points"})
    made = read_profiles([path])
    (one,) = [one for one in findings(made) if one.rule == "input-changed"]
    assert one.repetitions == (2, 5)
    assert "recorded input 4 points, and of most 8 points" in one.message
    assert left_out(made, Basis.of("same-input").rules) == {(0, 0): {"input-changed": [2, 5]}}


@pytest.mark.parametrize("short", [False, True])
def test_what_lithowatt_itself_writes_is_clean(tmp_path: Path, short: bool) -> None:
    random = np.random.default_rng(4)
    path = tmp_path / "profiling" / "dag" / "stage.json"
    for workers in (2, 4, 8):
        for _ in range(6):
            append_repetition(path, (1, 1024, workers), own_times(random, workers, short))
    (one,) = findings(read_profiles([path]))
    assert one.rule == "missing-metadata"
    assert one.evidence == {"missing": ["region", "input size"]}
    assert left_out(read_profiles([path])) == {}


def own_times(random: np.random.Generator, workers: int, short: bool) -> list[FunctionTimes]:
    """Calls on a machine of 64 CPUs, of seconds or of milliseconds."""
    made = []
    for _ in range(workers):
        read, compute, write_ = (random.lognormal(0, 0.1, 3) * [0.2, 8 / workers, 0.1]).tolist()
        if short:
            read, compute, write_ = read / 1e3, compute / 1e3, write_ / 1e3
        seconds = (read + compute + write_) * 1.01
        joules = compute * random.uniform(3, 4)
        made.append(
            FunctionTimes(
                read=read,
                compute=compute,
                write=write_,
                cold_start=float(random.lognormal(0, 0.1)),
                time_consumption=round(seconds, 8),
                worker_time_execution=seconds,
                energy=joules,
                energy_low=joules * 0.9,
                energy_high=joules * 1.1,
                energy_quality="measured",
                energy_write=0.0,
                cpu_time=compute * 0.98,
                TDP=joules * 0.8,
                rapl_energy_pkg=joules * 0.95,
                machine_energy=seconds * 90,
                machine_energy_others=0.0,
                psutil_cpu_percent=0.0,
                cpu_name="AMD EPYC 7543",
                cpu_architecture="x86_64",
                cpu_cores_physical=32,
                cpu_cores_logical=64,
            )
        )
    return made
