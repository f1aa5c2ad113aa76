"""Printed values computed again: what is read, what formulas give, and which verdict follows."""

from __future__ import annotations

import json
import math
import os
import re
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from lithowatt.analysis.basis import Basis
from lithowatt.analysis.claims import check_claims
from lithowatt.analysis.claims._file import read_claims, shipped_claims
from lithowatt.analysis.claims._formula import parse_formula
from lithowatt.analysis.claims._printed import Printed
from lithowatt.analysis.claims._verdict import VERDICTS
from lithowatt.analysis.selection import Settings
from lithowatt.cli import main
from lithowatt.errors import MalformedValueError, UnreadableFileError
from lithowatt.profiles._runs import Profiles, read_profiles

TOP = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("LITHOWATT_DATA", TOP.parent / "shared" / "data"))

REPRODUCES, OTHERWISE, NOT, ABSENT = VERDICTS


# --- profiles of known numbers ------------------------------------------------


def metrics(compute: list[list[float]], architecture: str, **more: Any) -> dict[str, Any]:
    """A configuration's columns; a worker takes 0.5 s besides computing, half of that to start."""

    def each(value: float) -> list[list[float]]:
        return [[value] * len(one) for one in compute]

    seconds = [[0.25 + value for value in one] for one in compute]
    machine = "aarch64" if architecture == "arm64" else "x86_64"
    return {
        "read": each(0.125),
        "compute": compute,
        "write": each(0.125),
        "cold_start": each(0.25),
        "time_consumption": seconds,
        "worker_time_execution": seconds,
        "TDP": [[value / 4 for value in one] for one in compute],
        "rapl_energy_cores": each(0.0),
        "cpu_architecture": [[machine] * len(one) for one in compute],
        "cpu_cores_logical": each(2),
        "aws_cpu": [[f"type:x|arch:{machine}|lambda:True|mem:512"] * len(one) for one in compute],
        **more,
    }


#: Architecture, memory and workers to the seconds of each repetition's workers.
COMPUTE = {
    ("arm64", 512, 2): [[8.0, 10.0], [9.0, 11.0], [10.0, 12.0]],
    ("arm64", 512, 4): [[4.0, 5.0, 4.0, 5.0], [5.0, 6.0, 5.0, 6.0], [6.0, 7.0, 6.0, 7.0]],
    ("arm64", 1024, 2): [[4.0, 5.0], [5.0, 6.0]],
    ("x86_64", 512, 2): [[16.0, 18.0], [20.0, 22.0], [18.0, 20.0]],
    ("x86_64", 512, 4): [[8.0, 9.0, 8.0, 9.0], [9.0, 10.0, 9.0, 10.0]],
}

#: The mean over repetitions of the mean over workers, by hand.
MEANS = {
    ("arm64", 512, 2): 10.0,
    ("arm64", 512, 4): 5.5,
    ("arm64", 1024, 2): 5.0,
    ("x86_64", 512, 2): 19.0,
    ("x86_64", 512, 4): 9.0,
}


def written(folder: Path, compute: Mapping[tuple[str, int, int], Any] = COMPUTE) -> Path:
    files: dict[str, dict[str, Any]] = {}
    for (architecture, memory, workers), seconds in compute.items():
        name = f"pi_aws_{memory}Mb_{'arm' if architecture == 'arm64' else 'x86'}"
        key = f"(1, {memory}, {workers})"
        files.setdefault(name, {})[key] = metrics(seconds, architecture)
    for name, content in files.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "stage.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def profiles(tmp_path: Path) -> Profiles:
    return read_profiles([written(tmp_path / "profiles")])


def checked(
    profiles: Profiles, folder: Path, *rows: Mapping[str, Any], basis: str = "clean"
) -> list[dict[str, Any]]:
    path = folder / "claims.json"
    path.write_text(json.dumps(list(rows)))
    settings = Settings(basis=Basis.of(basis))
    found: list[dict[str, Any]] = check_claims(profiles, read_claims(path), settings)["claims"]
    return found


def value(profiles: Profiles, folder: Path, formula: str, configuration: str = "") -> Any:
    """What a formula gives; a range so wide that any number is in it takes several, too."""
    row = {"printed": "-1e300..1e300", "formula": formula, "configuration": configuration}
    (found,) = checked(profiles, folder, row)
    return found["value"] if found["reason"] is None else found["reason"]


# --- what is printed ----------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "low", "high", "place"),
    [
        ("33.55", 33.55, 33.55, 0.01),
        ("3.40", 3.4, 3.4, 0.01),
        ("$2.34", 2.34, 2.34, 0.01),
        ("1,965W", 1965, 1965, 1),
        ("52%", 52, 52, 1),
        ("1.02x faster", 1.02, 1.02, 0.01),
        ("−0.5", -0.5, -0.5, 0.1),
        ("1.5e-3", 1.5e-3, 1.5e-3, 1e-4),
        ("5-17", 5, 17, 1),
        ("20 – 25s", 20, 25, 1),
        ("$2.34 - $3.40", 2.34, 3.4, 0.01),
        ("305W - 1,965W", 305, 1965, 1),
        ("-5..5", -5, 5, 1),
        ("-1e3..2.5e4", -1e3, 2.5e4, 1e3),
        ("0..1,000", 0, 1000, 1),
        ("0.9% to 1.2%", 0.9, 1.2, 0.1),
        ("p < 0.001", -math.inf, 0.001, 0.001),
        ("≥ 3", 3, math.inf, 1),
    ],
)
def test_cells_are_read_as_they_are_printed(
    text: str, low: float, high: float, place: float
) -> None:
    found = Printed.of(text)
    assert (found.low, found.high) == (low, high)
    assert found.place == pytest.approx(place)


@pytest.mark.parametrize("text", ["", "minimal", "1 of 2 of 3", "17-5", "3 4", "x86_64", "1e999"])
def test_what_is_no_printed_value_is_refused(text: str) -> None:
    with pytest.raises(MalformedValueError, match="read_as"):
        Printed.of(text)


@pytest.mark.parametrize(
    ("text", "number", "agreement"),
    [
        ("0.94", 0.935, "rounded"),  # ties, whichever way
        ("0.93", 0.935, "rounded"),
        ("2.56", 2.565, "rounded"),
        ("2.56", 2.5651, "cut"),
        ("2.56", 2.57, None),
        ("2.56", 2.5549, None),
        ("305", 305.508, "cut"),
        ("-305", -305.508, "cut"),
        ("305", 306.0, None),
        ("0", -0.6, None),
        ("3.40", 3.449, None),
        ("3.4", 3.449, "rounded"),
        ("5-17", 17.4, "rounded"),
        ("5-17", 17.6, None),
        ("< 0.001", 0.00099, "rounded"),
        ("< 0.001", 0.001, None),
        ("<= 0.001", 0.001, "rounded"),
        ("1", math.nan, None),
    ],
)
def test_half_a_unit_of_the_last_place_is_agreement(
    text: str, number: float, agreement: str | None
) -> None:
    assert Printed.of(text).agrees(number) == agreement


@given(st.floats(-1e6, 1e6), st.integers(0, 6))
def test_every_number_agrees_with_itself_as_rounded(number: float, digits: int) -> None:
    assert Printed.of(f"{number:.{digits}f}").holds(number)


@given(st.floats(1e-3, 1e6), st.integers(0, 4), st.floats(0.51, 10))
def test_no_number_agrees_that_is_further_below(number: float, digits: int, away: float) -> None:
    assert Printed.of(f"{number:.{digits}f}").agrees(number - (away + 0.5) * 10**-digits) is None


# --- formulas -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("formula", "same"),
    [
        ("1+2*3", "1 + 2 * 3"),
        ("(1+2)*3", "(1 + 2) * 3"),
        ("1-(2-3)", "1 - (2 - 3)"),
        ("1/(2/3)", "1 / (2 / 3)"),
        ("-compute*2", "(-compute) * 2"),
        ("-(a+b)", "-(a + b)"),
        ("mean( compute , memory_mb = 512|1024 )", "mean(compute, memory_mb=512|1024)"),
        ('mean(compute, workload="my job")', "mean(compute, workload='my job')"),
        ("count()", "count()"),
    ],
)
def test_formulas_are_read(formula: str, same: str) -> None:
    node = parse_formula(formula).node
    assert str(node) == same
    assert parse_formula(same).node == node


@pytest.mark.parametrize(
    ("formula", "told"),
    [
        ("", "empty"),
        ("1 +", "character 4"),
        ("mean(compute", "a comma or a bracket"),
        ("compute compute", "an operator"),
        ("compute.mean", "character 8"),
        ("compute[0]", "character 8"),
        ("lambda: 1", "character 7"),
        ("__import__('os').system('true')", "character 17"),
        ("2 ** 3", "a number, a name or a bracket"),
        ("--1", "one minus"),
        ("1e999", "without an end"),
        ("mean(compute, workers=2, workers=3)", "twice"),
        ("(" * 3000, "characters"),
        ("(" * 500, "parts"),
        ("-" * 500 + "1", "one minus"),
        ("+".join("1" * 300), "parts"),
    ],
)
def test_what_is_no_formula_is_refused(formula: str, told: str) -> None:
    with pytest.raises(MalformedValueError, match=told):
        parse_formula(formula)


@pytest.mark.parametrize(
    ("formula", "told"),
    [
        ("eval(compute)", "no function of formulas: there are argmax, argmin, at, by, count, cv, "),
        ("maen(compute)", "no function of formulas: closest (is|are) mean"),
        ("__import__('os')", "no function"),
        ("mean()", "1 argument"),
        ("mean(compute, TDP)", "1 argument"),
        ("mean(compute, colour=2)", "differ by"),
        ("mean(compute, workers=many)", "no number"),
        ("ratio(compute, colour, 1, 2)", "differ by"),
        ("ratio(compute, architecture, arm64, compute + 1)", "no level"),
        ("by(architecture, arm64=many)", "a number for each level"),
        ("printed(1 + 1)", "id of another claim"),
        ("argmin(compute, 1)", "is a name"),
        ("1 + 'text'", "where a number"),
    ],
)
def test_functions_are_a_closed_set(tmp_path: Path, formula: str, told: str) -> None:
    path = tmp_path / "claims.json"
    path.write_text(json.dumps([{"printed": "1", "formula": formula}]))
    with pytest.raises(MalformedValueError, match=told) as caught:
        read_claims(path)
    assert "claim 1" in str(caught.value)


def test_names_that_double_each_other_do_not_grow_without_end(tmp_path: Path) -> None:
    rows = [{"quantity": "a0", "formula": "1 + 1"}]
    rows += [{"quantity": f"a{n}", "formula": f"a{n - 1} + a{n - 1}"} for n in range(1, 60)]
    path = tmp_path / "claims.json"
    path.write_text(json.dumps([*rows, {"printed": "1", "formula": "a59"}]))
    with pytest.raises(MalformedValueError, match="parts"):
        read_claims(path)


ARM512, X86512 = "architecture=arm64 memory_mb=512", "architecture=x86_64 memory_mb=512"


@pytest.mark.parametrize(
    ("formula", "configuration", "right"),
    [
        ("compute", f"{ARM512} workers=2", 10.0),
        ("compute_s", f"{ARM512} workers=4", 5.5),
        ("compute * 2 + workers", f"{ARM512} workers=4", 15.0),
        ("-compute / memory_gb", f"{ARM512} workers=2", -20.0),
        ("repetitions", f"{X86512} workers=4", 2.0),
        ("mean(compute)", ARM512, 7.75),
        ("mean(compute, memory_mb=1024) - 1", "architecture=aarch64", 4.0),
        ("min(compute)", "", 5.0),
        ("max(compute)", "", 19.0),
        ("sum(compute)", "architecture=arm64", 20.5),
        ("median(compute)", "", 9.0),
        ("sd(compute)", "architecture=arm64", statistics.stdev([10.0, 5.5, 5.0])),
        ("cv(compute)", ARM512, statistics.stdev([10.0, 5.5]) / 7.75),
        ("geomean(compute)", ARM512, math.sqrt(55.0)),
        ("count()", "", 5.0),
        ("count(architecture=arm64) + count(workers=4)", "", 5.0),
        ("at(compute, workers=2) / at(compute, workers=4)", ARM512, 10 / 5.5),
        ("range(compute)", "", [5.0, 19.0]),
        ("argmin(compute, workers)", ARM512, 4.0),
        ("argmax(compute, memory_mb)", "architecture=arm64", 512.0),
        ("ratio(compute, architecture, arm64, x86_64)", "", math.sqrt(10 / 19 * 5.5 / 9)),
        ("ratio(compute, memory_mb, 1024, 512)", "architecture=arm64", 0.5),
        ("mean(TDP * by(architecture, arm64=100, x86_64=166))", "workers=2", (375 + 788.5) / 3),
        ("compute", "workers=2 memory_mb=512", [10.0, 19.0]),
    ],
)
def test_formulas_give_what_can_be_computed_by_hand(
    profiles: Profiles, tmp_path: Path, formula: str, configuration: str, right: Any
) -> None:
    assert value(profiles, tmp_path, formula, configuration) == pytest.approx(right, rel=1e-12)


def test_tests_and_intervals_are_scipys(profiles: Profiles, tmp_path: Path) -> None:
    arm, x86 = [10.0, 5.5], [19.0, 9.0]
    low, high = scipy_stats.t.interval(
        0.95, 2, loc=np.mean([10, 5.5, 5]), scale=scipy_stats.sem([10, 5.5, 5])
    )
    four = "architecture, arm64, x86_64"
    right = {
        "t_low(compute, architecture=arm64)": low,
        "t_high(compute, architecture=arm64)": high,
        f"welch_p(compute, {four}, memory_mb=512)": scipy_stats.ttest_ind(
            arm, x86, equal_var=False
        ).pvalue,
        f"student_p(compute, {four}, memory_mb=512)": scipy_stats.ttest_ind(arm, x86).pvalue,
        f"paired_p(compute, {four})": scipy_stats.ttest_rel(arm, x86).pvalue,
        f"max(runs_welch_p(compute * 2, {four}))": max(
            scipy_stats.ttest_ind([9, 10, 11], [17, 21, 19], equal_var=False).pvalue,
            scipy_stats.ttest_ind([4.5, 5.5, 6.5], [8.5, 9.5], equal_var=False).pvalue,
        ),
    }
    for formula, number in right.items():
        assert value(profiles, tmp_path, formula) == pytest.approx(float(number), rel=1e-9), formula


def test_cost_is_billed(profiles: Profiles, tmp_path: Path) -> None:
    seconds = sum(sum(one) for one in COMPUTE["arm64", 1024, 2]) / 2 + 2 * 0.25
    right = seconds * 0.0000133334 + 2 * 0.0000002
    found = value(profiles, tmp_path, "cost_usd", "memory_mb=1024")
    assert found == pytest.approx(right, rel=1e-9)


@pytest.mark.parametrize(
    ("formula", "configuration", "told"),
    [
        ("compute", "workers=3", "no configuration with workers=3"),
        ("compute", "workers=2|3 memory_mb=512", "none has workers=3 (there are 2, 4)"),
        ("comptue", "", "closest are compute"),
        ("perf_energy_cores", "", "no profile has a column"),
        ("rapl_energy_cores", "", "0 in every row, which means no reading"),
        ("cpu_architecture", "", "no column cpu_architecture of numbers"),
        ("at(compute, workers=2)", "", "of 3 configurations"),
        ("1 / (compute - compute)", "", "no finite number"),
        ("by(architecture, arm64=1)", "", "no number for architecture=x86_64"),
        ("printed('nothing')", "", "no claim 'nothing'"),
        ("ratio(mean(compute), memory_mb, 1024, 512)", "", "of no single configuration"),
        ("ratio(compute, memory_mb, 1024, 512)", "workers=4", "no configuration with"),
        ("max(runs_welch_p(mean(compute), architecture, arm64, x86_64))", "", "no single"),
        ("range(compute) + compute", "", "different configurations"),
    ],
)
def test_what_is_not_in_the_data_is_said(
    profiles: Profiles, tmp_path: Path, formula: str, configuration: str, told: str
) -> None:
    row = {"printed": "1", "formula": formula, "configuration": configuration}
    (found,) = checked(profiles, tmp_path, row)
    assert (found["verdict"], found["value"]) == (ABSENT, None)
    assert told in found["reason"]


# --- verdicts -----------------------------------------------------------------


def test_the_four_verdicts(profiles: Profiles, tmp_path: Path) -> None:
    average = {"configuration": ARM512, "formula": "mean(compute)"}
    rows = [
        {**average, "printed": "7.75"},
        {**average, "printed": "7.42", "otherwise": "geometric: geomean(compute)"},
        {**average, "printed": "7.42", "otherwise": {"the sum": "sum(compute)"}},
        {**average, "printed": "7.75", "formula": "mean(energy)"},
    ]
    found = checked(profiles, tmp_path, *rows)
    assert [one["verdict"] for one in found] == [REPRODUCES, OTHERWISE, NOT, ABSENT]
    assert found[0]["value"] == 7.75 and found[0]["tolerance"] == pytest.approx(0.005)
    assert found[1]["definition"] == "geometric" and found[1]["evidence"]["declared"] == 7.75
    assert found[1]["value"] == pytest.approx(math.sqrt(55))
    assert found[1]["used"] == "geomean(compute)" and found[1]["formula"] == "mean(compute)"
    assert found[2]["evidence"]["tried"][0]["value"] == 15.5


def test_one_number_of_several_configurations_has_no_verdict(
    profiles: Profiles, tmp_path: Path
) -> None:
    (found,) = checked(profiles, tmp_path, {"printed": "7.7", "formula": "compute"})
    assert found["verdict"] == ABSENT
    assert found["reason"] == (
        "ambiguous: one number is printed, and the formula gives one for each of 5 configurations "
        "(pi_aws_1024Mb_arm/stage.json (1, 1024, 2), pi_aws_512Mb_arm/stage.json (1, 512, 2), "
        "pi_aws_512Mb_arm/stage.json (1, 512, 4) and 2 more)"
    )
    row = {"printed": "7.7", "formula": "compute", "configuration": ARM512}
    (found,) = checked(profiles, tmp_path, row)
    assert found["reason"].endswith("(1, 512, 2), pi_aws_512Mb_arm/stage.json (1, 512, 4))")
    (found,) = checked(profiles, tmp_path, {"printed": "7.7", "formula": "range(compute)"})
    assert "gives the two ends of a range" in found["reason"]


@pytest.mark.parametrize(
    ("formula", "configuration", "behind"),
    [
        ("compute", f"{ARM512} workers=2", (1, 3)),
        ("compute", ARM512, (2, 6)),
        ("mean(compute)", ARM512, (2, 6)),
        ("mean(compute) * 2 - 1", "", (5, 13)),
        ("range(compute)", "architecture=arm64", (3, 8)),
        ("at(compute, workers=2)", ARM512, (1, 3)),
        ("argmin(compute, workers)", ARM512, (2, 6)),
        ("count()", "", (5, 13)),
        ("max(compute, workers=2) / max(compute, workers=4)", ARM512, (2, 6)),
        ("max(compute) / min(compute)", "", (5, 13)),
        ("ratio(compute, architecture, arm64, x86_64)", "", (4, 11)),
        ("student_p(compute, architecture, arm64, x86_64, memory_mb=512)", "", (4, 11)),
        ("welch_p(compute, architecture, arm64, x86_64)", "", (5, 13)),
        ("max(runs_welch_p(compute, architecture, arm64, x86_64))", "", (4, 11)),
        ("1 + 1", "", (0, 0)),
    ],
)
def test_what_is_behind_a_value_is_counted(
    profiles: Profiles, tmp_path: Path, formula: str, configuration: str, behind: tuple[int, int]
) -> None:
    row = {"printed": "-1e300..1e300", "formula": formula, "configuration": configuration}
    (found,) = checked(profiles, tmp_path, row)
    evidence = found["evidence"]
    assert (evidence["configurations"], evidence["repetitions"]) == behind


def test_repetitions_that_another_definition_counts_are_behind_its_value(tmp_path: Path) -> None:
    compute = {("arm64", 512, 1): [[10.0], [11.0], [11.0]]}
    profiles = read_profiles([written(tmp_path / "profiles", compute)])
    rows = [{"printed": printed, "formula": "mean(compute)"} for printed in ("10.5", "10.667")]
    found = checked(profiles, tmp_path, *rows)
    assert [one["evidence"]["repetitions"] for one in found] == [2, 3]


# --- several workloads --------------------------------------------------------

FOUR = "architecture, arm64, x86_64"


@pytest.fixture
def workloads(tmp_path: Path) -> Profiles:
    """Two workloads with the same configurations."""
    longer = {key: [[3 * value for value in one] for one in some] for key, some in COMPUTE.items()}
    pi, qi = written(tmp_path / "pi"), written(tmp_path / "qi", longer)
    for folder in list(qi.iterdir()):
        folder.rename(folder.with_name(folder.name.replace("pi", "qi")))
    return read_profiles([pi, qi])


@pytest.mark.parametrize(
    "formula",
    [
        *(f"{name}(compute)" for name in ("mean", "median", "sum", "geomean", "sd", "cv", "range")),
        *(f"{name}(compute, memory_mb=512)" for name in ("min", "max", "t_low", "t_high")),
        "argmin(compute, workers)",
        "1 + 2 * mean(compute)",
        f"max(runs_welch_p(compute, {FOUR}))",
        *(f"{name}(compute, {FOUR})" for name in ("ratio", "paired_p", "welch_p", "student_p")),
    ],
)
def test_unlike_work_is_not_made_one_number_of(
    workloads: Profiles, profiles: Profiles, tmp_path: Path, formula: str
) -> None:
    row = {"printed": "-1e300..1e300", "formula": formula, "configuration": "memory_mb=512"}
    (found,) = checked(workloads, tmp_path, row)
    assert (found["verdict"], found["value"]) == (ABSENT, None)
    assert re.search(r"^ambiguous: .* is over the workloads pi, qi: .*=pi\|qi$", found["reason"])
    for named in ("pi", "pi|qi"):
        row["configuration"] = f"memory_mb=512 workload={named}"
        (found,) = checked(workloads, tmp_path, row)
        assert found["value"] is not None, found["reason"]
    row["configuration"] = "memory_mb=512"
    (found,) = checked(profiles, tmp_path, row)
    assert found["value"] is not None, found["reason"]


@pytest.mark.parametrize(
    "formula",
    [
        "count()",
        "ratio(compute, workload, pi, qi)",
        "mean(compute, workload=pi) / mean(compute, workload=qi)",
        f"max(runs_welch_p(compute, {FOUR}, workload=pi|qi))",
        "mean(compute, file='pi_aws_512Mb_arm/stage.json'|'qi_aws_512Mb_arm/stage.json')",
    ],
)
def test_workloads_that_are_named_or_only_counted_are_no_guess(
    workloads: Profiles, tmp_path: Path, formula: str
) -> None:
    (found,) = checked(workloads, tmp_path, {"printed": "-1e300..1e300", "formula": formula})
    assert found["verdict"] == REPRODUCES, found["reason"]


def test_all_configurations_have_to_be_in_a_range(profiles: Profiles, tmp_path: Path) -> None:
    rows = [
        {"printed": printed, "formula": formula, "configuration": "architecture=arm64"}
        for printed in ("5-10", "5-9", "4-11")
        for formula in ("compute", "range(compute)")
    ]
    found = [one["verdict"] for one in checked(profiles, tmp_path, *rows)]
    assert found == [REPRODUCES, REPRODUCES, NOT, NOT, REPRODUCES, NOT]


def test_words_are_read_as_numbers(profiles: Profiles, tmp_path: Path) -> None:
    formula = "(ratio(compute, memory_mb, 1024, 512) - 1) * 100"
    row = {"printed": "minimal", "formula": formula, "configuration": "architecture=arm64"}
    (found,) = checked(profiles, tmp_path, {**row, "read_as": "-5..5"})
    assert (found["verdict"], found["printed"]) == (NOT, "minimal")
    with pytest.raises(MalformedValueError, match="read_as"):
        checked(profiles, tmp_path, row)


def test_a_quotient_of_printed_operands_reproduces(profiles: Profiles, tmp_path: Path) -> None:
    """10 / 5.5 is 1.818; of the rounded operands 10 and 6 it is 1.667."""
    operands = [
        {"id": "a", "printed": "10", "formula": "at(compute, workers=2)"},
        {"id": "b", "printed": "6", "formula": "at(compute, workers=4)"},
    ]
    rows = [{**one, "configuration": ARM512} for one in operands]
    quotient = "at(compute, workers=2) / at(compute, workers=4)"
    ratio = {"printed": "1.67", "formula": quotient, "configuration": ARM512}
    *_, found = checked(profiles, tmp_path, *rows, ratio)
    assert found["verdict"] == REPRODUCES
    assert found["evidence"]["rounding"] == "operands"
    assert found["evidence"]["from_printed"]["operands"] == {"a": 10.0, "b": 6.0}
    assert found["value"] == pytest.approx(10 / 5.5)
    # An operand that does not follow itself carries nothing; nor does one of another selection.
    wrong = [rows[0], {**rows[1], "printed": "7"}]
    *_, found = checked(profiles, tmp_path, *wrong, {**ratio, "printed": "1.43"})
    assert found["verdict"] == NOT
    elsewhere = [{**one, "configuration": X86512} for one in rows]
    *_, found = checked(profiles, tmp_path, *elsewhere, ratio)
    assert found["verdict"] == NOT


def test_printed_numbers_are_another_definition(profiles: Profiles, tmp_path: Path) -> None:
    rows = [
        {"id": "a", "printed": "3.9", "formula": "mean(compute)"},
        {"id": "b", "printed": "2.75", "formula": "mean(compute)"},
        {
            "printed": "1.42",
            "formula": "min(compute)",
            "otherwise": "quotient: printed('a') / printed('b')",
        },
    ]
    assert checked(profiles, tmp_path, *rows)[2]["verdict"] == OTHERWISE


def test_what_only_all_repetitions_give_is_another_definition(tmp_path: Path) -> None:
    """A copied repetition is left out; a mean with it is not what was printed without it."""
    compute = {("arm64", 512, 1): [[10.0], [11.0], [11.0]]}
    profiles = read_profiles([written(tmp_path / "profiles", compute)])
    row = {"printed": "10.667", "formula": "compute"}
    (clean,) = checked(profiles, tmp_path, row)
    assert clean["verdict"] == OTHERWISE and clean["evidence"]["declared"] == 10.5
    assert clean["definition"] == "with the repetitions that lint leaves out"
    (whole,) = checked(profiles, tmp_path, row, basis="all")
    assert whole["verdict"] == REPRODUCES
    (other,) = checked(profiles, tmp_path, {**row, "printed": "10.5"})
    assert other["verdict"] == REPRODUCES


def test_the_order_of_claims_changes_no_verdict(profiles: Profiles, tmp_path: Path) -> None:
    rows = [
        {"id": "a", "printed": "10", "formula": "at(compute, workers=2)", "configuration": ARM512},
        {"id": "b", "printed": "20", "formula": "printed('a') * 2"},
        {"id": "c", "printed": "2", "formula": "printed('b') / printed('a')"},
    ]
    forward = {one["id"]: one["verdict"] for one in checked(profiles, tmp_path, *rows)}
    backward = {one["id"]: one["verdict"] for one in checked(profiles, tmp_path, *rows[::-1])}
    assert forward == backward == dict.fromkeys("abc", REPRODUCES)


# --- files --------------------------------------------------------------------

CSV = """\
# a comment
id,table,configuration,quantity,printed,formula,otherwise,note
,,,double,,compute * 2,,
a,T1,"workers=2, architecture=arm64 memory_mb=512",time,"10.0",compute,,a note
b,T1,workers=2 architecture=arm64 memory_mb=512,time,20.00,double,,
"""

TOML = """\
[[claims]]
id = "a"
printed = 10.0
formula = "at(compute, workers=2, architecture=arm64, memory_mb=512)"
"""

YAML = """\
claims:
  - id: a
    printed: 10.0
    formula: at(compute, workers=2, architecture=arm64, memory_mb=512)
"""


def test_csv(profiles: Profiles, tmp_path: Path) -> None:
    path = tmp_path / "claims.csv"
    path.write_text(CSV)
    claims = read_claims(path)
    assert dict(claims.definitions) == {"double": "compute * 2"}
    assert claims.names == {"compute"}
    found = check_claims(profiles, claims)
    assert found["summary"] == {REPRODUCES: 2, OTHERWISE: 0, NOT: 0, ABSENT: 0}
    assert [one["tolerance"] for one in found["claims"]] == pytest.approx([0.05, 0.005])
    assert found["claims"][0]["note"] == "a note"
    assert found["settings"]["claims"]["file"] == "claims.csv"


@pytest.mark.parametrize(
    ("name", "text", "needs"),
    [
        ("claims.toml", TOML, "tomllib"),
        ("claims.yaml", YAML, "yaml"),
        ("claims.json", '{"claims": [{"printed": 10.0, "formula": "max(compute)"}]}', "json"),
    ],
)
def test_numbers_keep_their_last_zeros(tmp_path: Path, name: str, text: str, needs: str) -> None:
    pytest.importorskip(needs)
    path = tmp_path / name
    path.write_text(text)
    (claim,) = read_claims(path).claims
    assert claim.text == "10.0"
    assert claim.printed.tolerance == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("c.txt", "", "ends in .csv"),
        ("c.json", "{", "no JSON"),
        ("c.json", "{}", "a list of claims"),
        ("c.json", "[]", "holds no claim"),
        ("c.json", "[1]", "claim 1 is .1., not fields"),
        ("c.json", '[{"printed": [1], "formula": "compute"}]', "not a text"),
        ("c.json", '[{"prnted": "1"}]', "field 'prnted'"),
        ("c.json", '[{"printed": "1"}]', "formula is empty"),
        ("c.json", '[{"quantity": "a b", "formula": "1"}]', "printed is empty"),
        ("c.json", '[{"quantity": "mean", "formula": "1"}]', "taken"),
        ("c.json", '[{"printed": "1", "formula": "1", "configuration": "w"}]', "not like"),
        ("c.json", '[{"printed": "1", "formula": "1", "configuration": "workers="}]', "not like"),
        (
            "c.json",
            '[{"id": "a", "printed": "1", "formula": "1"}, {"id": "a", "printed": "1", '
            '"formula": "1"}]',
            "another one has the id",
        ),
        ("c.csv", "id,printed,formula\na,9,\"printed('a')\"\n", "defined by itself: 'a' ← 'a'"),
        ("c.csv", "id,printed,formula\na,9,printed('b')\nb,9,1 + printed('a')\n", "by itself"),
        ("c.csv", "printed,formula\n1,compute,3\n", "more values than the heading"),
        ("c.csv", "", "holds no claim"),
        ("c.csv", "\udcff", "not UTF-8"),
        ("c.json", "[" * 100_000, "nested too deep|no JSON"),
    ],
)
def test_what_is_no_file_of_claims_is_refused(
    tmp_path: Path, name: str, text: str, told: str
) -> None:
    path = tmp_path / name
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(MalformedValueError, match=told):
        read_claims(path)


def test_the_file_in_the_documents_is_one(tmp_path: Path) -> None:
    page = (TOP / "docs" / "how-to" / "claims.md").read_text("utf-8")
    (block,) = re.findall(r"^```text\n(id,.*?)^```$", page, re.DOTALL | re.MULTILINE)
    path = tmp_path / "claims.csv"
    path.write_text(block)
    assert [claim.id for claim in read_claims(path).claims] == ["a", "b", "c"]
    if (DATA / "profiles").is_dir():
        found = check_claims(read_profiles([DATA / "profiles"]), read_claims(path))["claims"]
        assert [one["verdict"] for one in found] == [REPRODUCES, REPRODUCES, OTHERWISE]


def test_a_file_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match="titanic"):
        read_claims(tmp_path / "absent.csv")


# --- the command --------------------------------------------------------------


def test_the_command_prints_verdicts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = written(tmp_path / "profiles")
    path = tmp_path / "claims.csv"
    path.write_text(CSV + "c,T2,,worst,3,max(compute),,\n")
    command = ["profile", "claims", "--claims", str(path), str(folder)]
    assert main(command) == 0
    text = capsys.readouterr().out
    assert "T1  2 of 2 reproduce" in text and "printed 3, found 19" in text
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["command"] == "claims"
    assert [one["verdict"] for one in found["claims"]] == [REPRODUCES, REPRODUCES, NOT]
    assert found["definitions"] == {"double": "compute * 2"}
    assert main([*command, "--fail-on", "does-not-follow"]) == 1
    path.write_text(CSV)
    assert main([*command, "--fail-on", "another-definition"]) == 0
    path.write_text("nothing")
    assert main(command) == 2


# --- the claims that come with the package ------------------------------------


def test_shipped_claims_can_be_read() -> None:
    assert "titanic" in shipped_claims()
    for name in shipped_claims():
        assert read_claims(name).claims


@pytest.fixture(scope="module")
def measured() -> Profiles:
    if not (DATA / "profiles").is_dir():
        pytest.skip(f"no measured profiles in {DATA / 'profiles'} (set LITHOWATT_DATA)")
    return read_profiles([DATA / "profiles"])


def test_appendix_c_reproduces_cell_by_cell(measured: Profiles) -> None:
    found = check_claims(measured, read_claims("titanic"))
    cells = [one for one in found["claims"] if one["table"] in ("C.1", "C.2")]
    assert len(cells) == 85
    assert {one["verdict"] for one in cells} == {REPRODUCES}
    assert {one["evidence"]["rounding"] for one in cells} == {"rounded"}
    empty = [
        one["used"]
        for one in found["claims"]
        if one["value"] is not None and not one["evidence"]["repetitions"]
    ]
    assert all("printed(" in formula for formula in empty)


def test_the_verdicts_are_those_of_an_independent_reading(measured: Profiles) -> None:
    reference = DATA / "reference" / "shared.json"
    if not reference.is_file():
        pytest.skip(f"no reference values in {reference}")
    right = [one for one in json.loads(reference.read_text()) if one["table"] == "seed-claim"]
    found = check_claims(measured, read_claims("titanic"))
    assert found["summary"] == {REPRODUCES: 112, OTHERWISE: 5, NOT: 45, ABSENT: 2}
    # Ratios of matched configurations are geometric means here; the other values are the same.
    geometric = {"4.2/512-1024", "4.2/1024-2048", "4.2/2048/roi"}
    compared = 0
    for one, other in zip(found["claims"], right, strict=True):
        assert one["verdict"] == other["verdict"], one["id"]
        number = isinstance(other["value"], (int, float)) and one["value"] is not None
        if number and one["id"] not in geometric:
            assert one["value"] == pytest.approx(other["value"], rel=1e-9), one["id"]
            compared += 1
    assert compared > 140


def test_what_was_never_profiled_is_not_in_the_data(measured: Profiles) -> None:
    found = check_claims(measured, read_claims("video"))
    assert len(found["claims"]) == found["summary"][ABSENT] == 24


def test_video_claims_are_computed_where_there_are_profiles(tmp_path: Path) -> None:
    compute = {("arm64", 512, 8): [[200.0] * 8] * 3, ("arm64", 1024, 8): [[100.0] * 8] * 3}
    folder = written(tmp_path / "made", compute)
    for memory in (512, 1024):
        (folder / f"pi_aws_{memory}Mb_arm").rename(folder / f"video_aws_{memory}Mb_arm")
        stage = folder / f"video_aws_{memory}Mb_arm" / "stage.json"
        stage.rename(stage.with_name("stage0.json"))
    found = check_claims(read_profiles([folder]), read_claims("video"))
    verdicts = {one["id"]: one["verdict"] for one in found["claims"]}
    assert verdicts["3.2/1024/gain"] == verdicts["3.1/1024/reduction"] == REPRODUCES
    assert verdicts["3.1/512/average-compute"] == NOT
    assert verdicts["3.2/2048/gain"] == ABSENT


def test_numbers_that_no_file_should_hold_end_in_a_verdict(tmp_path: Path) -> None:
    compute = {("arm64", 512, 2): [[1e300, 1e300], [2.0, 3.0]], ("arm64", 512, 4): [[0.0] * 4] * 2}
    profiles = read_profiles([written(tmp_path / "made", compute)])
    rows = [
        {"printed": "1", "formula": formula}
        for formula in ("cv(compute)", "sd(compute)", "geomean(compute)", "cv(compute * 0)")
    ]
    found = checked(profiles, tmp_path, *rows)
    assert {one["verdict"] for one in found} <= {NOT, ABSENT}


def test_the_order_of_files_changes_nothing(measured: Profiles) -> None:
    claims = read_claims("titanic")
    backward = Profiles(tuple(reversed(measured.files)), measured.skipped)
    assert check_claims(measured, claims)["claims"] == check_claims(backward, claims)["claims"]
