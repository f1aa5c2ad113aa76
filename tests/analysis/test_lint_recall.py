"""A fault is found where it was planted, and nowhere else; clean profiles have none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lithowatt.analysis.lint import EXCLUDING, findings
from lithowatt.analysis.lint._rules import RULES
from lithowatt.profiles._runs import read_profiles
from tests.support.linted import linted, told
from tests.support.made_profiles import EPYC, XEON, XEON_29, Kind, random_kind, write
from tests.support.planted_faults import FAULTS

KINDS = st.builds(
    Kind,
    workload=st.sampled_from(["pi", "titanic", "my_job"]),
    stage=st.sampled_from(["stage", "map"]),
    architecture=st.sampled_from(["x86_64", "arm64"]),
    memory_mb=st.sampled_from([512, 1024, 2048]),
    workers=st.lists(st.integers(1, 16), min_size=2, max_size=5, unique=True).map(tuple),
    repetitions=st.integers(8, 14),
    seed=st.integers(0, 2**31),
    work_s=st.floats(20, 300),
    noise=st.floats(0.01, 0.06),
    clean=st.just(True),
)


def test_each_rule_has_a_fault() -> None:
    assert set(FAULTS) == {rule.name for rule in RULES}


def is_found(rule: str, kind: Kind, seed: int) -> None:
    planted = FAULTS[rule](kind, np.random.default_rng(seed))
    found = linted(*planted.made)
    own = [one for one in found if one.rule == rule]
    assert told(found) == told(
        one for one in found if one.rule == rule or one.rule in planted.others
    )
    name = planted.made[0][0].name
    by_place = {(one.file, one.configuration, one.column): one for one in own}
    assert len(by_place) == len(own)
    expected = {(one.file or name, one.configuration, one.column): one for one in planted.expected}
    assert by_place.keys() == expected.keys()
    for place, wanted in expected.items():
        one = by_place[place]
        assert one.repetitions == wanted.repetitions
        assert wanted.rows in (None, one.rows)
        assert one.excludes == (rule in EXCLUDING)
        assert one.message
        assert one.advice


@pytest.mark.parametrize("rule", FAULTS)
@settings(max_examples=3, deadline=None)
@given(kind=KINDS, seed=st.integers(0, 2**31))
def test_a_fault_is_found_where_it_was_planted(rule: str, kind: Kind, seed: int) -> None:
    is_found(rule, kind, seed)


@pytest.mark.slow
@pytest.mark.parametrize("rule", FAULTS)
@settings(max_examples=25, deadline=None)
@given(kind=KINDS, seed=st.integers(0, 2**31))
def test_many_faults_are_found_where_they_were_planted(rule: str, kind: Kind, seed: int) -> None:
    is_found(rule, kind, seed)


def clean_kinds(many: int, seed: int) -> list[tuple[Kind, set[str]]]:
    """Kinds without a fault, and the rules that find what they are meant to have."""
    random = np.random.default_rng(seed)
    made: list[tuple[Kind, set[str]]] = []
    for number in range(many):
        kind, expected = random_kind(random), set()
        if number % 5 == 1:
            share = random.dirichlet([2, 2, 2]).tolist()
            mix = dict(zip((XEON, XEON_29, EPYC), share, strict=True))
            kind = replace(kind, architecture="x86_64", mix=mix)
            expected = {"mixed-hardware"}
        elif number % 5 == 2:
            kind = replace(kind, architecture="x86_64", drift=float(random.uniform(0.3, 1)))
            expected = {"mixed-hardware", "drifting-repetitions"}
        elif number % 5 == 3:
            counts = random.integers(1, 5, len(kind.workers)).tolist()
            kind = replace(kind, repetitions=counts)
            expected = {"few-repetitions"}
        made.append((kind, expected))
    return made


@pytest.mark.parametrize("many", [40, pytest.param(200, marks=pytest.mark.slow)])
def test_clean_profiles_have_no_fault(tmp_path: Path, many: int) -> None:
    """All together, as copies are looked for in all files."""
    kinds = clean_kinds(many, 2026)
    for number, (kind, _) in enumerate(kinds):
        write(tmp_path / f"{number:03}", kind)
    profiles = read_profiles([tmp_path])
    assert len(profiles.files) == many
    found = findings(profiles)
    alarms = [one for one in found if one.rule not in kinds[int(one.file.partition("/")[0])][1]]
    assert told(alarms) == []
    # What they do have is found.
    rules = {one.rule for one in found}
    assert rules == {"mixed-hardware", "drifting-repetitions", "few-repetitions"}
    small = {one.file for one in found if one.rule == "few-repetitions"}
    assert len(small) == many // 5


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_clean_profiles_of_any_seed_have_no_fault(seed: int) -> None:
    ((kind, _),) = clean_kinds(1, seed)
    assert (
        told(
            linted(
                (
                    kind,
                    __import__("tests.support.made_profiles").support.made_profiles.profile(kind),
                )
            )
        )
        == []
    )
