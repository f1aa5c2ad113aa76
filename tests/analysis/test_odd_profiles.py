"""Profiles that lack things, hold odd values or are of no known shape: null, and never an error."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lithowatt.analysis._envelope import as_text
from lithowatt.analysis.basis import BASES, Basis
from lithowatt.analysis.comparison import compare
from lithowatt.analysis.platforms import Price
from lithowatt.analysis.scaling import scaling
from lithowatt.analysis.selection import COLUMNS, Settings
from lithowatt.analysis.statistics import stats
from lithowatt.cli.profile import compare as compare_verb
from lithowatt.cli.profile import scaling as scaling_verb
from lithowatt.cli.profile import stats as stats_verb
from lithowatt.errors import LithowattError
from lithowatt.profiles._runs import Profiles, read_profiles

pytestmark = pytest.mark.slow

NUMBERS = (
    "read",
    "compute",
    "write",
    "cold_start",
    "time_consumption",
    "worker_time_execution",
    "TDP",
    "cpu_cores_logical",
    "cpu_time",
    "energy",
    "energy_low",
    "energy_high",
    "energy_marginal",
    "rapl_energy_pkg",
)
TEXTS = {
    "cpu_name": ["AMD EPYC", "Intel(R) Xeon(R) Processor @ 2.50GHz", "", None],
    "cpu_architecture": ["aarch64", "x86_64", "riscv", None],
    "aws_cpu": [
        "type:lambda-function|arch:x86_64|lambda:True|mem:512",
        "type:ec2|arch:x86_64|lambda:False|mem:512",
        "type:unknown",
        None,
    ],
    "energy_quality": ["measured", "modelled", "guessed", None],
    "energy_definition": ["marginal", "amortised", None],
}

ODD = (0.0, None, -1.0, 1e-300, 1e12, 1e300, 5)


def column(chance: Random, name: str, widths: list[int], machine: str) -> list[list[Any]]:
    """A column that mostly is as it should be."""
    strange, constant, ragged = (chance.random() < part for part in (0.06, 0.06, 0.03))
    if ragged:
        widths = [chance.randrange(5) for _ in range(chance.randrange(6))]
    kept = chance.uniform(0.01, 100)

    def value() -> Any:
        if strange and chance.random() < 0.3:
            return chance.choice(TEXTS.get(name, ODD))
        if name == "cpu_architecture":
            return machine
        if name in TEXTS:
            return TEXTS[name][0 if chance.random() < 0.7 else 1]
        return kept if constant else kept * chance.uniform(0.8, 1.2)

    return [[value() for _ in range(width)] for width in widths]


def profile(chance: Random, machine: str, own: list[str], workers: list[int]) -> dict[str, Any]:
    size = chance.choice([(1, 512), (1, 512), (1, 512), (0.5, 0)])
    names = NUMBERS[: chance.choice([4, 8, 8, 8])]
    made = {}
    for asked in workers:
        ran = 1 if chance.random() < 0.1 else asked
        widths = [ran] * chance.choice([0, 1, 2, 4, 5, 6])
        if chance.random() < 0.1:
            widths = [chance.randrange(4) for _ in range(chance.randrange(5))]
        columns = {name: column(chance, name, widths, machine) for name in (*names, *own)}
        if len(names) > 4 and chance.random() < 0.9:  # else lint takes all for made up
            columns["time_consumption"] = columns["worker_time_execution"]
        made[f"({size[0]}, {size[1]}, {asked})"] = columns
    return made


#: Files that have something in common.
FOLDERS = (
    ("pi_aws_512Mb_arm/stage.json", "pi_aws_512Mb_x86/stage.json"),
    ("before/pi/stage.json", "after/pi/stage.json", "after/pi/other.json"),
    ("pi_aws_512Mb_arm/stage.json",),
)


def folder(chance: Random) -> dict[str, Any]:
    workers = chance.choice([[1], [2, 4], [1, 2, 4], [1, 2, 3, 4]])
    every = [*NUMBERS[8:], *TEXTS]
    own = chance.sample(every, chance.randrange(len(every)))
    return {
        name: profile(chance, "aarch64" if "_arm" in name else "x86_64", own, workers)
        for name in chance.choice(FOLDERS)
    }


def checked(found: dict[str, Any]) -> dict[str, Any]:
    """It is JSON without NaN, intervals hold their values, and what is null has a reason."""
    again = json.loads(as_text(found), parse_constant=lambda word: pytest.fail(word))
    for row in again.get("configurations", ()):
        reps = row["repetitions"]
        assert reps["found"] >= reps["usable"] >= reps["used"] >= 0
        for name, metric in row["metrics"].items():
            assert (metric is None) == (name in row["reasons"])
            if metric is None or not metric["n"]:
                continue
            if metric["mean"] is not None:
                assert metric["min"] <= metric["median"] <= metric["p95"] <= metric["max"]
            if metric["t"] is not None:
                assert metric["t"][0] <= metric["mean"] <= metric["t"][1]
    for cell in again.get("cells", ()):
        assert cell["a"]["n"] > 0 < cell["b"]["n"]
        if cell["ratio_ci"] is not None:
            low, high = cell["ratio_ci"]
            assert low <= cell["ratio"] * (1 + 1e-12) and cell["ratio"] <= high * (1 + 1e-12)
        p = cell["welch"]["p"]
        assert p is None or 0 <= p <= cell["welch"]["p_holm"] <= 1
    for row in again.get("scaling", ()):
        assert row["kind"] in ("strong", "weak", "mixed", "one-worker", None)
        assert row["usl"] is None or row["kind"] == "strong"
    return dict(again)


def everything(profiles: Profiles, paths: list[str], chosen: Settings) -> None:
    shown(stats_verb._text(checked(stats(profiles, chosen))))
    for by in ("architecture", "memory", "workers", "cpu_name", "label=before:after"):
        found = checked(compare(profiles, by, chosen, fail_if_worse=0.05))
        shown(compare_verb._text(found, cells=True))
    quantities = ["cpu_share", "energy_j", "read_s", "time_without_queue_s"]
    checked(compare(profiles, "workers", chosen, quantities=quantities, paths=paths))
    checked(compare(profiles, "file", chosen))
    for work in (None, "worker", 3.0):
        shown(scaling_verb._text(checked(scaling(profiles, chosen, work_per_run=work))))


def shown(lines: Iterable[str]) -> None:
    """The text has no word of Python's."""
    text = "\n".join(lines)
    assert not re.search(r"\b(None|nan|inf)\b", text), text


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.integers(0, 10**9), st.sampled_from(sorted(BASES)), st.booleans())
def test_nothing_odd_ends_in_an_error(seed: int, basis: str, priced: bool) -> None:
    files = folder(Random(seed))
    price = Price(vcpu_hour=0.04, gib_hour=0.005) if priced else None
    chosen = Settings(basis=Basis.of(basis), price=price, resamples=199)
    with TemporaryDirectory() as place:
        for name, content in files.items():
            path = Path(place, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content))
        try:
            profiles = read_profiles([place], keep=COLUMNS)
        except LithowattError:
            return
        everything(profiles, [place], chosen)


def test_numbers_at_the_ends_of_what_a_float_can_hold(tmp_path: Path) -> None:
    values = [5e-324, 1e-308, 1.0, 1e150, 1e300, 1.7e308]
    path = tmp_path / "pi" / "stage.json"
    path.parent.mkdir()
    names = (*NUMBERS[:8], "energy")
    columns = {name: [[value, value / 2] for value in values] for name in names}
    path.write_text(json.dumps({"(1, 512, 2)": columns, "(1, 512, 4)": columns}))
    profiles = read_profiles([tmp_path])
    everything(profiles, [str(tmp_path)], Settings(basis=Basis.of("all")))
