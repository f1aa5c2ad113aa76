"""What may change nothing, and what has to change in one way, on any profiles.

The list of the contract: order of files and keys; order of repetitions; copies and copies with
noise; times of one side as a whole; one repetition on another processor; a file given twice; one
hardware value for all workers; a platform without a price.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lithowatt.analysis.comparison import compare
from lithowatt.analysis.lint import findings
from lithowatt.analysis.scaling import scaling
from lithowatt.analysis.selection import COLUMNS
from lithowatt.analysis.statistics import stats
from lithowatt.profiles._runs import Profiles, read_profiles
from tests.analysis.test_comparison import scaled
from tests.support.made_profiles import (
    EPYC,
    XEON,
    Kind,
    Profile,
    matched,
    profile,
    random_kind,
    write,
)

pytestmark = pytest.mark.slow

any_seed = st.integers(0, 1_000_000)
few = settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])

Edit = Callable[[Profile, random.Random], Profile]


def kinds_of(seed: int) -> list[Kind]:
    """Two architectures in two memories of a random workload."""
    kind = random_kind(np.random.default_rng(seed), clean=False)
    return matched(replace(kind, workers=kind.workers[:3], repetitions=6), [512, 1024])


def read(folder: Path) -> Profiles:
    return read_profiles([folder], keep=COLUMNS)


def results(profiles: Profiles) -> dict[str, Any]:
    """All results, without what is said of the files' bytes."""
    found = {
        "stats": stats(profiles),
        "compare": compare(profiles),
        "memory": compare(profiles, "memory"),
        "scaling": scaling(profiles),
    }
    for one in found.values():
        del one["created"]
        for given_ in one["inputs"]:
            del given_["sha256"]
    return found


def before_and_after(seed: int, edit: Edit) -> tuple[dict[str, Any], dict[str, Any]]:
    """Results of profiles, and of the same after an edit of each."""
    with TemporaryDirectory() as folder:
        here, there = Path(folder, "before"), Path(folder, "after")
        for at, kind in enumerate(kinds_of(seed)):
            write(here, kind)
            write(there, kind, made=edit(profile(kind), random.Random(seed + at)))
        return results(read(here)), results(read(there))


def in_other_order(items: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    names = list(items)
    chance.shuffle(names)
    return {name: items[name] for name in names}


@few
@given(any_seed)
def test_the_order_of_keys_and_columns_changes_nothing(seed: int) -> None:
    def edit(content: Profile, chance: random.Random) -> Profile:
        return in_other_order(
            {key: in_other_order(metrics, chance) for key, metrics in content.items()}, chance
        )

    one, other = before_and_after(seed, edit)
    assert one == other


@few
@given(any_seed)
def test_the_order_of_paths_changes_nothing(seed: int) -> None:
    with TemporaryDirectory() as folder:
        kinds = kinds_of(seed)
        write(Path(folder), *kinds)
        paths = [Path(folder, kind.name) for kind in kinds]
        once = results(read_profiles(paths))
        assert results(read_profiles(paths[::-1])) == once
        assert results(read_profiles([*paths, folder, paths[0]])) == once


@few
@given(any_seed)
def test_the_order_of_repetitions_changes_no_mean(seed: int) -> None:
    def edit(content: Profile, chance: random.Random) -> Profile:
        for metrics in content.values():
            order = list(range(6))
            chance.shuffle(order)
            for name, column in metrics.items():
                metrics[name] = [column[at] for at in order]
        return content

    one, other = before_and_after(seed, edit)
    assert one["stats"]["configurations"] == other["stats"]["configurations"]
    for name in ("compare", "memory"):
        assert one[name]["cells"] == other[name]["cells"]
        assert one[name]["overall"] == other[name]["overall"]
    assert one["scaling"]["scaling"] == other["scaling"]["scaling"]


def test_shuffling_repetitions_removes_drift(tmp_path: Path) -> None:
    kind = Kind(workers=(4, 8, 12, 16), repetitions=16, drift=1.0, noise=0.005, between=0.001)
    content = profile(kind)
    assert findings(read(write(tmp_path, kind)), ["drifting-repetitions"])
    for at, metrics in enumerate(content.values()):
        order = list(range(16))
        random.Random(at).shuffle(order)
        for name, column in metrics.items():
            metrics[name] = [column[one] for one in order]
    profiles = read(write(tmp_path, kind, made=content))
    assert not findings(profiles, ["drifting-repetitions"])
    assert "drift" not in {one["code"] for one in compare(profiles)["warnings"]}


@few
@given(any_seed, st.booleans())
def test_a_copy_changes_nothing_that_counts_and_is_found(seed: int, noise: bool) -> None:
    def edit(content: Profile, chance: random.Random) -> Profile:
        key = chance.choice(sorted(content))
        at = chance.randrange(6)
        times = ("read", "compute", "write", "cold_start", "TDP")
        clocks = ("time_consumption", "worker_time_execution")
        for name, column in content[key].items():
            jittered = noise and name in (*times, *clocks)
            column.append(
                [value * (chance.uniform(0.97, 1.03) if jittered else 1) for value in column[at]]
                if jittered
                else list(column[at])
            )
        return content

    one, other = before_and_after(seed, edit)
    rule = "jittered-repetitions" if noise else "copied-repetitions"
    named = 0
    for row, again in zip(
        one["stats"]["configurations"], other["stats"]["configurations"], strict=True
    ):
        assert row["metrics"] == again["metrics"] and row["hardware"] == again["hardware"]
        assert row["repetitions"]["used"] == again["repetitions"]["used"]
        named += again["repetitions"]["left_out"] == {rule: [6]}
    assert named == 4, "one configuration of each of four files"
    assert one["compare"]["cells"] == other["compare"]["cells"]
    assert one["scaling"]["scaling"] == other["scaling"]["scaling"]


@few
@given(any_seed, st.floats(0.5, 2.0))
def test_times_of_one_side_as_a_whole(seed: int, factor: float) -> None:
    with TemporaryDirectory() as folder:
        here, there = Path(folder, "before"), Path(folder, "after")
        for kind in kinds_of(seed):
            write(here, kind)
            slower = kind.architecture == "x86_64"
            content = profile(kind)
            write(there, kind, made=scaled(content, factor) if slower else content)
        one, other = (compare(read(where)) for where in (here, there))
    for cell, again in zip(one["cells"], other["cells"], strict=True):
        if cell["quantity"] == "cost_usd":
            continue  # whole milliseconds, and a fee for the call
        assert again["ratio"] == pytest.approx(cell["ratio"] / factor, rel=1e-9)
        assert again["ratio_ci"] == pytest.approx([x / factor for x in cell["ratio_ci"]], rel=1e-9)
        low, high = again["ratio_ci"]
        inside = low >= 0.95 and high <= 1 / 0.95
        words = "lower" if high < 1 else "higher" if low > 1 else "not told apart"
        assert again["verdict"] == ("equivalent" if inside else words)
    ratios = {row["cpu_name"]: row["ratio"] for row in one["by_cpu"]}
    for row in other["by_cpu"]:
        assert row["ratio"] == pytest.approx(ratios[row["cpu_name"]] / factor, rel=1e-9)


@few
@given(any_seed)
def test_one_repetition_on_another_processor_is_a_stratum(seed: int) -> None:
    with TemporaryDirectory() as folder:
        arm, x86 = (replace(kind, mix={}) for kind in kinds_of(seed)[:2])
        write(Path(folder), arm, x86)
        before = compare(read(Path(folder)))
        content, other = profile(x86), profile(replace(x86, mix={EPYC: 1.0}, seed=seed + 7))
        key = x86.keys[0]
        for name, column in content[key].items():
            column.append(other[key][name][0])
        write(Path(folder), x86, made=content)
        after = compare(read(Path(folder)))
        rows = stats(read(Path(folder)))["configurations"]
    assert {row["cpu_name"] for row in before["by_cpu"]} == {XEON}
    assert {row["cpu_name"] for row in after["by_cpu"]} == {XEON, EPYC}
    (epyc,) = [row for row in after["by_cpu"] if row["cpu_name"] == EPYC]
    assert epyc["configurations"] == 1
    xeon, same = (
        next(row["ratio"] for row in found["by_cpu"] if row["cpu_name"] == XEON)
        for found in (before, after)
    )
    assert same == pytest.approx(xeon, rel=1e-12)
    (row,) = [one for one in rows if (one["file"], one["key"]) == (x86.name, key)]
    assert row["repetitions"]["used"] == 7 and row["repetitions"]["left_out"] == {}


@few
@given(any_seed)
def test_one_hardware_value_stands_for_all_workers(seed: int) -> None:
    def edit(content: Profile, chance: random.Random) -> Profile:
        for metrics in content.values():
            for name in ("cpu_cores_logical", "cpu_architecture", "aws_cpu"):
                metrics[name] = [one[:1] for one in metrics[name]]
        return content

    one, other = before_and_after(seed, edit)
    assert one == other


@few
@given(any_seed)
def test_off_lambda_there_are_no_dollars(seed: int) -> None:
    def edit(content: Profile, chance: random.Random) -> Profile:
        for metrics in content.values():
            metrics["aws_cpu"] = [
                [text.replace("lambda:True", "lambda:False") for text in one]
                for one in metrics["aws_cpu"]
            ]
        return content

    one, other = before_and_after(seed, edit)
    for row, again in zip(
        one["stats"]["configurations"], other["stats"]["configurations"], strict=True
    ):
        assert row["metrics"]["cost_usd"] is not None and again["metrics"]["cost_usd"] is None
        for name in ("time_s", "cpu_seconds_s", "compute_s"):
            assert row["metrics"][name] == again["metrics"][name]
    assert "cost_usd" not in {cell["quantity"] for cell in other["compare"]["cells"]}
