"""`profile compare`: figures of the measured profiles, definitions, matching, what fails."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats as scipy_stats

from lithowatt.analysis._envelope import as_text
from lithowatt.analysis.basis import Basis
from lithowatt.analysis.comparison import compare, geometric_mean, verdict
from lithowatt.analysis.intervals import Sample
from lithowatt.analysis.selection import COLUMNS, Selection, Settings
from lithowatt.analysis.significance import welch
from lithowatt.errors import MalformedValueError
from lithowatt.profiles._runs import read_profiles
from tests.support.made_profiles import EPYC, XEON, Kind, Profile, matched, profile, write
from tests.support.measured_profiles import measured_profiles

KIND = Kind(workers=(2, 4, 8), repetitions=6, seed=1)


def of(
    folder: Path | Sequence[Path],
    by: str = "architecture",
    settings: Settings | None = None,
    **options: Any,
) -> dict[str, Any]:
    paths = [folder] if isinstance(folder, Path) else list(folder)
    found = compare(
        read_profiles(paths, keep=COLUMNS),
        by,
        settings,
        paths=[str(one) for one in paths],
        **options,
    )
    assert json.loads(as_text(found)) == found, "the result is no plain JSON"
    return found


def pick(rows: Iterable[dict[str, Any]], **wanted: Any) -> dict[str, Any]:
    (row,) = [one for one in rows if all(one[name] == value for name, value in wanted.items())]
    return row


def codes(found: dict[str, Any]) -> set[str]:
    return {one["code"] for one in found["warnings"]}


def scaled(content: Profile, factor: float) -> Profile:
    """All times so many times as long; the load of the CPUs stays."""
    times = (
        "read",
        "compute",
        "write",
        "cold_start",
        "time_consumption",
        "worker_time_execution",
        "TDP",
    )
    return {
        key: {
            name: [[value * factor for value in one] for one in column] if name in times else column
            for name, column in metrics.items()
        }
        for key, metrics in content.items()
    }


# --- figures of the measured profiles -----------------------------------------


def test_a_cell_of_the_measured_profiles() -> None:
    """S3 of the acceptance figures, computed independently."""
    cells = compare(measured_profiles())["cells"]
    cell = pick(cells, workload="titanic", memory_mb=512, workers=12, quantity="compute_s")
    assert (cell["a"]["label"], cell["b"]["label"]) == ("arm64", "x86_64")
    assert cell["architecture"] is None
    assert cell["ratio"] == pytest.approx(0.891573, rel=1e-6)
    assert cell["ratio_ci"] == pytest.approx([0.880364, 0.902924], rel=1e-6)
    assert cell["verdict"] == "lower"
    assert cell["welch"] == pytest.approx(
        {"t": -23.90474, "df": 5.63781, "p": 6.95757e-7, "p_holm": 1.80897e-5}, rel=1e-5
    )
    assert cell["hedges_g"] == pytest.approx(-13.19779, rel=1e-6)
    assert cell["cliffs_delta"] == -1
    assert cell["difference_ci"] == pytest.approx([-4.504549, -3.656041], rel=1e-6)


def test_a_stage_of_the_measured_profiles() -> None:
    """S4 and S5: geometric means, the share of the watts, each processor."""
    found = compare(measured_profiles(), watts=(100.0, 166.0))
    titanic = [
        row for row in found["overall"] if row["workload"] == "titanic" and not row["memory_mb"]
    ]
    compute = pick(titanic, quantity="compute_s")
    assert compute["configurations"] == 29
    assert compute["ratio"] == pytest.approx(0.860493, rel=1e-6)
    assert compute["ratio_ci"] == pytest.approx([0.841485, 0.879930], rel=1e-6)
    assert compute["paired_t_p"] == pytest.approx(5.35e-14, rel=1e-3)
    assert pick(titanic, quantity="cpu_seconds_s")["ratio"] == pytest.approx(0.934071, rel=1e-6)
    assert pick(titanic, quantity="cost_usd")["ratio"] == pytest.approx(0.708383, rel=1e-6)
    watts = pick(found["sensitivity"], workload="titanic")
    assert watts["energy_ratio"] == pytest.approx(0.562693, rel=1e-6)
    assert watts["share_from_watts"] == pytest.approx(0.88139, rel=1e-5)
    assert watts["break_even_watts"] == pytest.approx(1.070582, rel=1e-6)
    strata = {row["cpu_name"]: row for row in found["by_cpu"] if row["workload"] == "titanic"}
    assert strata[EPYC]["ratio"] == pytest.approx(0.777515, rel=1e-6)
    assert strata[XEON]["ratio"] == pytest.approx(0.930865, rel=1e-6)
    assert "cpu-strata" in codes(found) and "mixed-hardware" in codes(found)


def test_memories_of_the_measured_profiles() -> None:
    """S8."""
    overall = compare(measured_profiles(), "memory")["overall"]
    arm = [row for row in overall if (row["workload"], row["architecture"]) == ("titanic", "arm64")]
    (first,) = [
        row["ratio"]
        for row in arm
        if (row["a"]["label"], row["b"]["label"], row["quantity"]) == ("1024", "512", "compute_s")
    ]
    assert first == pytest.approx(0.496491, rel=1e-6)
    second = {
        row["quantity"]: row["ratio"]
        for row in arm
        if (row["a"]["label"], row["b"]["label"]) == ("2048", "1024")
    }
    assert second["compute_s"] == pytest.approx(0.558500, rel=1e-6)
    assert second["cost_usd"] == pytest.approx(1.199282, rel=1e-6)
    assert all(row["memory_mb"] is None for row in overall)


def test_the_tie_of_the_measured_profiles() -> None:
    """S2: of what costs least in titanic_aws_1024Mb_arm three cannot be told apart."""
    cells = compare(measured_profiles(), "workers", quantities=["cost_usd"])["cells"]
    ties = {9}
    for cell in cells:
        if (cell["workload"], cell["architecture"], cell["memory_mb"]) == (
            "titanic",
            "arm64",
            1024,
        ):
            sides = {int(cell[side]["label"]) for side in ("a", "b")}
            if 9 in sides and cell["welch"]["p"] > 0.05:
                ties |= sides
    assert ties == {8, 9, 10, 12}


def test_drift_of_the_measured_profiles() -> None:
    """S6: halves of the repetitions, and the files that the warning names."""
    profiles = measured_profiles()
    differ: dict[str, int] = {}
    for one in Selection(profiles).all:
        seconds = one.values("worker_time_s")[one.used]
        half = len(seconds) // 2
        p = welch(Sample.of(seconds[:half]), Sample.of(seconds[half:])).p
        differ[one.file.name] = differ.get(one.file.name, 0) + (p < 0.05)
    assert differ["titanic_aws_2048Mb_x86/stage.json"] == 12
    assert differ["titanic_aws_1024Mb_x86/stage.json"] == 11
    assert differ["titanic_aws_1024Mb_arm/stage.json"] == 0
    found = compare(profiles, quantities=["time_s"])
    assert pick(found["warnings"], code="drift")["files"] == [
        "titanic_aws_1024Mb_x86/stage.json",
        "titanic_aws_2048Mb_x86/stage.json",
    ]


# --- definitions --------------------------------------------------------------


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((0.96, 0.99), "equivalent"),
        ((0.95, 1 / 0.95), "equivalent"),
        ((0.949, 0.99), "lower"),
        ((1.01, 1.06), "higher"),
        ((0.949, 1.01), "not told apart"),
        ((0.9, 1.0), "not told apart"),
        ((math.nan, math.nan), "not told apart"),
    ],
)
def test_verdicts(interval: tuple[float, float], expected: str) -> None:
    assert verdict(interval, 0.05) == expected


def test_a_geometric_mean_says_the_same_both_ways() -> None:
    logs = np.log([0.8, 0.9, 1.1])
    ratio, (low, high) = geometric_mean(logs, 0.95)
    inverse, (low_, high_) = geometric_mean(-logs, 0.95)
    assert ratio == pytest.approx(scipy_stats.gmean([0.8, 0.9, 1.1]))
    assert 1 / inverse == pytest.approx(ratio)
    assert (1 / high_, 1 / low_) == pytest.approx((low, high))
    assert all(math.isnan(end) for end in geometric_mean(logs[:1], 0.95)[1])


def test_the_larger_memory_is_a_and_all_pairs_are_there(tmp_path: Path) -> None:
    write(tmp_path, *matched(KIND))
    found = of(tmp_path, "memory", quantities=["compute_s"])
    labels = {(cell["a"]["label"], cell["b"]["label"]) for cell in found["cells"]}
    assert labels == {("1024", "512"), ("2048", "512"), ("2048", "1024")}
    assert len(found["cells"]) == 3 * 3 * 2
    assert all(cell["memory_mb"] is None for cell in found["cells"])
    assert {row["architecture"] for row in found["overall"]} == {"arm64", "x86_64"}
    assert len(found["overall"]) == 3 * 2
    assert all(row["ratio"] < 1 for row in found["overall"])
    assert found["unmatched"] == [] and found["sensitivity"] == []


def test_the_larger_number_of_workers_is_a(tmp_path: Path) -> None:
    write(tmp_path, KIND)
    found = of(tmp_path, "workers", quantities=["compute_s"])
    sides = [(cell["a"]["label"], cell["b"]["label"]) for cell in found["cells"]]
    assert sides == [("8", "4"), ("8", "2"), ("4", "2")]
    assert all(cell["workers"] is None and cell["ratio"] < 1 for cell in found["cells"])
    assert found["cells"][0]["ratio"] == pytest.approx(0.5, rel=0.1)


def test_holm_is_over_a_stage_a_quantity_and_a_pair(tmp_path: Path) -> None:
    write(tmp_path, *matched(KIND), *matched(replace(KIND, workload="sort", seed=9)))
    for by, family in (("architecture", 9), ("memory", 3)):
        cells = of(tmp_path, by, quantities=["compute_s"])["cells"]
        p = [cell["welch"]["p"] for cell in cells]
        least = cells[p.index(min(p))]
        assert least["welch"]["p_holm"] == pytest.approx(min(p) * family, rel=1e-9)


def test_processors_within_configurations(tmp_path: Path) -> None:
    write(tmp_path, replace(KIND, workers=(8,), mix={XEON: 0.5, EPYC: 0.5}))
    found = of(tmp_path, "cpu_name", quantities=["compute_s", "time_s"])
    (cell,) = found["cells"]
    assert (cell["a"]["label"], cell["b"]["label"]) == (EPYC, XEON)
    assert cell["ratio"] == pytest.approx(1.23, rel=0.03) and cell["verdict"] == "higher"
    assert cell["a"]["n"] == cell["b"]["n"] == 6
    assert "not-compared" in codes(found), "no run was on one processor alone"
    write(tmp_path, KIND)
    assert len(of(tmp_path, "cpu_name")["unmatched"]) == 3


def test_a_processor_of_the_other_side(tmp_path: Path) -> None:
    """by_cpu: all of a against the workers of b on one processor, repetition by repetition."""
    b = replace(KIND, workers=(4,), mix={XEON: 0.5, EPYC: 0.5})
    a = replace(KIND, workers=(4,), architecture="arm64")
    write(tmp_path, a, b)
    columns = profile(b)["(1, 1024, 4)"]
    (mine,) = profile(a).values()
    means = [
        np.mean([s for s, name in zip(one, names, strict=True) if name == EPYC])
        for one, names in zip(columns["compute"], columns["cpu_name"], strict=True)
        if EPYC in names
    ]
    row = pick(of(tmp_path)["by_cpu"], cpu_name=EPYC)
    assert row["ratio"] == pytest.approx(np.mean(mine["compute"]) / np.mean(means), rel=1e-12)
    assert row["configurations"] == 1 and row["ratio_ci"] is None


# --- matching -----------------------------------------------------------------


def test_only_what_is_equal_in_all_else_is_matched(tmp_path: Path) -> None:
    write(
        tmp_path,
        replace(KIND, architecture="arm64", workers=(2, 4)),
        replace(KIND, workers=(4, 8)),
        replace(KIND, architecture="arm64", stage="other", workers=(4,), seed=3),
        replace(KIND, workload="sort", workers=(4,), seed=4),
    )
    found = of(tmp_path, quantities=["compute_s"])
    assert [(cell["stage"], cell["workers"]) for cell in found["cells"]] == [("stage", 4)]
    assert sorted((row["file"], row["key"]) for row in found["unmatched"]) == [
        ("pi_aws_1024Mb_arm/other.json", "(1, 1024, 4)"),
        ("pi_aws_1024Mb_arm/stage.json", "(1, 1024, 2)"),
        ("pi_aws_1024Mb_x86/stage.json", "(1, 1024, 8)"),
        ("sort_aws_1024Mb_x86/stage.json", "(1, 1024, 4)"),
    ]
    assert all(row["reason"] for row in found["unmatched"])


def test_other_actual_workers_are_no_partner(tmp_path: Path) -> None:
    write(
        tmp_path,
        replace(KIND, architecture="arm64", workers=(2, 8), most_workers=4),
        replace(KIND, workers=(2, 8)),
    )
    found = of(tmp_path, quantities=["compute_s"])
    assert [cell["workers"] for cell in found["cells"]] == [2]
    assert len(found["unmatched"]) == 2


def test_one_worker_whatever_was_asked_for(tmp_path: Path) -> None:
    write(
        tmp_path,
        *(
            replace(KIND, architecture=architecture, most_workers=1, seed=seed)
            for seed, architecture in enumerate(("arm64", "x86_64"))
        ),
    )
    assert [cell["workers"] for cell in of(tmp_path, quantities=["time_s"])["cells"]] == [2, 4, 8]


def test_two_folders(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    for memory in (512, 1024):
        kind = replace(KIND, memory_mb=memory, seed=memory)
        write(before, kind)
        write(after, kind, made=scaled(profile(replace(kind, seed=memory + 1)), 1.2))
    found = of([before, after], "file", quantities=["time_s"])
    assert len(found["cells"]) == 6 and found["unmatched"] == []
    overall = pick(found["overall"], memory_mb=None)
    assert (overall["a"]["label"], overall["b"]["label"]) == ("before", "after")
    assert overall["ratio"] == pytest.approx(1 / 1.2, rel=0.02)
    assert overall["verdict"] == "lower"
    assert "unlike" not in codes(found)
    back = pick(of([after, before], "file", quantities=["time_s"])["overall"], memory_mb=None)
    assert back["ratio"] == pytest.approx(1 / overall["ratio"], rel=1e-12)


def test_two_files_of_unlike_things_are_compared_and_told(tmp_path: Path) -> None:
    kinds = [replace(KIND, memory_mb=512), replace(KIND, architecture="arm64", workload="sort")]
    paths = [write(tmp_path, kind) / kind.name for kind in kinds]
    found = of(paths, "file", quantities=["time_s"])
    assert len(found["cells"]) == 3
    (cell, *_) = found["cells"]
    assert cell["memory_mb"] is cell["architecture"] is cell["workload"] is None
    text = pick(found["warnings"], code="unlike")["text"]
    assert "workload is pi" in text and "memory is 512" in text


def test_files_of_one_folder(tmp_path: Path) -> None:
    write(tmp_path, KIND, replace(KIND, memory_mb=512))
    (tmp_path / "again").mkdir()
    write(tmp_path / "again", replace(KIND, seed=7))
    found = of(tmp_path, "file", quantities=["time_s"])
    assert {(cell["a"]["label"], cell["b"]["label"]) for cell in found["cells"]} == {
        ("again/pi_aws_1024Mb_x86/stage.json", "pi_aws_1024Mb_x86/stage.json")
    }
    assert len(found["unmatched"]) == 3


@pytest.mark.parametrize("below", [False, True])
def test_labels_in_paths(tmp_path: Path, below: bool) -> None:
    for label, seed in (("Old", 1), ("new", 2)):
        kind = replace(KIND, seed=seed)
        if below:
            write(tmp_path / label / "x", kind)
        else:
            write(tmp_path, replace(kind, workload=f"pi_{label}"))
    found = of(tmp_path, "label=old:new", quantities=["time_s"])
    assert len(found["cells"]) == 3
    assert found["cells"][0]["workload"] == "pi"
    assert found["cells"][0]["a"]["label"] == "old"


@pytest.mark.parametrize("by", ["colour", "label=", "label=a", "label=a:a", "label=:b", "label=a:"])
def test_what_cannot_be_compared_is_refused(tmp_path: Path, by: str) -> None:
    write(tmp_path, KIND)
    with pytest.raises(MalformedValueError, match="not one of architecture, memory"):
        of(tmp_path, by)
    with pytest.raises(MalformedValueError, match="not one of read_s"):
        of(tmp_path, quantities=["joules"])
    with pytest.raises(MalformedValueError, match="only one of the paths"):
        of([tmp_path, tmp_path], "file")


# --- what is not there --------------------------------------------------------


def test_single_repetitions_have_a_ratio_and_no_verdict(tmp_path: Path) -> None:
    write(tmp_path, *matched(replace(KIND, workers=(4,), repetitions=1), [1024]))
    found = of(tmp_path)
    for cell in found["cells"]:
        assert cell["ratio"] is not None and cell["cliffs_delta"] in (-1, 0, 1)
        assert cell["verdict"] == "not told apart"
        nothing = (cell["ratio_ci"], cell["difference_ci"], cell["hedges_g"])
        assert nothing == (None, None, None)
        assert set(cell["welch"].values()) == {None}
    for row in found["overall"]:
        assert row["configurations"] == 1 and row["holm_significant"] == 0
        assert row["ratio_ci"] is None and row["paired_t_p"] is None
        assert row["verdict"] == "not told apart"


def test_one_pair_says_what_its_cell_says(tmp_path: Path) -> None:
    write(tmp_path, replace(KIND, workers=(2, 8)))
    found = of(tmp_path, "workers")
    assert {cell["verdict"] for cell in found["cells"]} >= {"lower", "equivalent"}
    for row in found["overall"]:
        cell = pick(found["cells"], quantity=row["quantity"])
        assert (row["ratio"], row["verdict"]) == (pytest.approx(cell["ratio"]), cell["verdict"])
        # There is no scatter over pairs.
        assert row["ratio_ci"] is None


@pytest.mark.parametrize(
    ("by", "where"),
    [
        ("architecture", "see by_cpu"),
        ("workers", "see by_cpu"),
        ("file", "compare --by cpu_name tells them apart"),
        ("cpu_name", "in shares that nobody chose"),
    ],
)
def test_the_note_of_processors_names_what_is_there(tmp_path: Path, by: str, where: str) -> None:
    write(tmp_path, *matched(replace(KIND, mix={XEON: 0.5, EPYC: 0.5})))
    found = of(tmp_path, by)
    (note,) = (one["text"] for one in found["warnings"] if one["code"] == "mixed-hardware")
    assert note.endswith(where)
    names = {row["cpu_name"] for row in found["by_cpu"]}
    assert (len(names) > 1) == (where == "see by_cpu")


def test_constant_columns(tmp_path: Path) -> None:
    for architecture, seconds in (("arm64", 2.0), ("x86_64", 3.0)):
        kind = replace(KIND, architecture=architecture, workers=(2,))
        content = profile(kind)
        (columns,) = content.values()
        for name in ("read", "compute", "write", "cold_start"):
            columns[name] = [[0.0 if name == "read" else seconds] * 2] * 6
        write(tmp_path, kind, made=content)
    basis = Settings(basis=Basis.of("all"))
    found = of(tmp_path, settings=basis, quantities=["read_s", "compute_s"])
    read, compute = found["cells"]
    assert read["ratio"] is None and read["difference"] == 0
    assert compute["ratio"] == pytest.approx(2 / 3)
    assert compute["ratio_ci"] is None and compute["verdict"] == "not told apart"
    assert pick(found["overall"], quantity="read_s", memory_mb=None)["ratio"] is None


def test_nothing_to_compare(tmp_path: Path) -> None:
    write(tmp_path, KIND)
    found = of(tmp_path)
    assert found["cells"] == found["overall"] == found["by_cpu"] == found["sensitivity"] == []
    assert len(found["unmatched"]) == 3


def test_what_is_not_usable_has_no_partner(tmp_path: Path) -> None:
    arm, x86 = matched(replace(KIND, workers=(4,)), [1024])
    content = profile(arm)
    (columns,) = content.values()
    columns["compute"] = [[None] * 4] * 6
    write(tmp_path, arm, made=content)
    write(tmp_path, x86)
    found = of(tmp_path)
    reasons = {row["file"]: row["reason"] for row in found["unmatched"]}
    assert "usable" in reasons[arm.name] and "other architecture" in reasons[x86.name]


def test_off_lambda_dollars_are_not_compared(tmp_path: Path) -> None:
    write(tmp_path, *(replace(kind, on_lambda=False) for kind in matched(KIND, [1024])))
    found = of(tmp_path)
    assert "cost_usd" not in {cell["quantity"] for cell in found["cells"]}
    assert "vCPU-hour" in pick(found["warnings"], code="not-compared")["text"]


# --- joules -------------------------------------------------------------------


def with_joules(content: Profile, each: float, quality: str = "measured") -> Profile:
    for metrics in content.values():
        metrics["energy"] = [
            [each * (1 + 0.01 * at)] * len(one) for at, one in enumerate(metrics["read"])
        ]
        metrics["energy_quality"] = [[quality] * len(one) for one in metrics["read"]]
    return content


def test_joules_are_compared_where_any_were_measured(tmp_path: Path) -> None:
    arm, x86 = matched(KIND, [1024])
    write(tmp_path, arm, made=with_joules(profile(arm), 2.0))
    write(tmp_path, x86, made=with_joules(profile(x86), 4.0, "attributed"))
    found = of(tmp_path)
    assert pick(found["overall"], quantity="energy_j", memory_mb=None)["ratio"] == pytest.approx(
        0.5
    )
    assert "unlike-energy" in codes(found)
    write(tmp_path, arm, x86)
    assert "energy_j" not in {cell["quantity"] for cell in of(tmp_path)["cells"]}
    asked = of(tmp_path, quantities=["energy_j"])
    assert len(asked["cells"]) == 3 and "modelled-energy" in codes(asked)


# --- other input --------------------------------------------------------------


def test_more_input_is_told_beside(tmp_path: Path) -> None:
    arm, x86 = matched(replace(KIND, workers=(4,)), [1024])
    content = profile(arm)
    write(tmp_path, x86)
    more = scaled(content, 3.0)
    for key, metrics in content.items():
        for name, column in metrics.items():
            column[2] = more[key][name][2]
    write(tmp_path, arm, made=content)
    found = of(tmp_path)
    plain, same = (
        of(tmp_path, settings=Settings(basis=Basis.of(name))) for name in ("clean", "same-input")
    )
    row, other = (
        pick(one["overall"], quantity="compute_s", memory_mb=None) for one in (plain, same)
    )
    assert row["same_input"] == {"ratio": other["ratio"], "ratio_ci": other["ratio_ci"]}
    assert row["ratio"] > other["ratio"] * 1.2
    assert pick(found["warnings"], code="input-changed")["files"] == [arm.name]
    assert "same_input" not in other and "input-changed" not in codes(same)


# --- what fails ---------------------------------------------------------------


@pytest.mark.parametrize(("factor", "worse"), [(1.2, True), (1.03, False), (0.8, False)])
def test_worse_is_what_takes_more_than_so_much_more(
    tmp_path: Path, factor: float, worse: bool
) -> None:
    write(tmp_path / "a", KIND)
    write(tmp_path / "b", KIND, made=scaled(profile(replace(KIND, seed=2)), factor))
    found = of([tmp_path / "a", tmp_path / "b"], "file", fail_if_worse=0.1)
    assert bool(found["worse"]) is worse
    if worse:
        row = pick(found["worse"], quantity="time_s", workers=None)
        assert row["b_over_a"] == pytest.approx(factor, rel=0.05)
        assert row["b_over_a_ci"][0] > 1
        assert "cpu_share" not in {one["quantity"] for one in found["worse"]}


def test_joules_can_be_worse(tmp_path: Path) -> None:
    write(tmp_path / "a", KIND, made=with_joules(profile(KIND), 2.0))
    other = replace(KIND, seed=2)
    write(tmp_path / "b", KIND, made=with_joules(profile(other), 2.5))
    found = of([tmp_path / "a", tmp_path / "b"], "file", fail_if_worse=0.1)
    assert {row["quantity"] for row in found["worse"]} == {"energy_j"}


def test_chance_is_not_worse(tmp_path: Path) -> None:
    noisy = replace(KIND, noise=0.3, between=0.4, repetitions=3)
    write(tmp_path / "a", noisy)
    write(tmp_path / "b", replace(noisy, seed=2))
    found = of([tmp_path / "a", tmp_path / "b"], "file", fail_if_worse=0.001)
    assert found["worse"] == []
