"""Whatever is done to profiles, lint finds what the plain reading of its contract finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.lint_oracle import Found
from tests.support.lint_oracle import findings as expected
from tests.support.linted import linted
from tests.support.made_profiles import EPYC, Kind, Metrics, Profile, profile
from tests.support.planted_faults import CLOCKS, SEVEN, add_noise, append_copy, without_work

pytestmark = pytest.mark.slow

pytest.importorskip("scipy")

Random = np.random.Generator

#: Rules of which the contract gives the rows.
WITH_ROWS = {
    "foreign-hardware",
    "empty-repetition",
    "empty-worker",
    "clock-mismatch",
    "phases-exceed-worker-time",
    "negative-values",
    "constant-column",
    "zero-means-unavailable",
    "queued-start",
    "stalled-worker",
}


def somewhere(metrics: Metrics, random: Random) -> tuple[int, int]:
    repetition = int(random.integers(min(map(len, metrics.values()))))
    return repetition, int(random.integers(len(metrics["read"][repetition])))


def copy(metrics: Metrics, random: Random) -> None:
    append_copy(metrics, int(random.integers(min(map(len, metrics.values())))))


def noise(metrics: Metrics, random: Random) -> None:
    if len({len(column) for column in metrics.values()}) == 1:
        copy(metrics, random)
        add_noise(metrics, len(metrics["read"]) - 1, random, clocks=bool(random.integers(2)))


def idle(metrics: Metrics, random: Random) -> None:
    repetition, _ = somewhere(metrics, random)
    width = len(metrics["read"][repetition])
    for worker in random.choice(width, int(random.integers(1, width + 1)), replace=False).tolist():
        without_work(metrics, repetition, worker)


def scaled(name: str, low: float, high: float) -> Callable[[Metrics, Random], None]:
    def change(metrics: Metrics, random: Random) -> None:
        repetition, worker = somewhere(metrics, random)
        value = metrics[name][repetition][worker]
        if isinstance(value, float):
            metrics[name][repetition][worker] = value * float(random.uniform(low, high))

    return change


def missing(metrics: Metrics, random: Random) -> None:
    repetition, worker = somewhere(metrics, random)
    names = [*SEVEN, "cpu_name", "aws_cpu", "RAPL_wrong", "psutil_cpu_percent"]
    metrics[str(random.choice(names))][repetition][worker] = None


def ragged(metrics: Metrics, random: Random) -> None:
    name = str(random.choice(list(metrics)))
    del metrics[name][-int(random.integers(1, 3)) :]


def another(metrics: Metrics, random: Random) -> None:
    repetition, worker = somewhere(metrics, random)
    metrics["aws_cpu"][repetition][worker] = "type:local|lambda:False"
    metrics["cpu_name"][repetition][worker] = "laptop"


def processor(metrics: Metrics, random: Random) -> None:
    repetition, worker = somewhere(metrics, random)
    metrics["cpu_name"][repetition][worker] = EPYC


def more_input(metrics: Metrics, random: Random) -> None:
    repetition, _ = somewhere(metrics, random)
    factor = float(random.uniform(1.5, 2.5))
    for name in (*SEVEN[:3], *CLOCKS):
        metrics[name][repetition] = [v and v * factor for v in metrics[name][repetition]]


def late(metrics: Metrics, random: Random) -> None:
    repetition, worker = somewhere(metrics, random)
    metrics["cold_start"][repetition][worker] = float(random.uniform(25, 40))


def stalled(metrics: Metrics, random: Random) -> None:
    repetition, worker = somewhere(metrics, random)
    more = float(random.uniform(5, 15))
    for name in CLOCKS:
        if metrics[name][repetition][worker] is not None:
            metrics[name][repetition][worker] += more


def fewer_workers(metrics: Metrics, random: Random) -> None:
    repetition, _ = somewhere(metrics, random)
    for column in metrics.values():
        if len(column[repetition]) > 1:
            del column[repetition][-1]


def short_column(metrics: Metrics, random: Random) -> None:
    repetition, _ = somewhere(metrics, random)
    name = str(random.choice(SEVEN))
    if len(metrics[name][repetition]) > 1:
        del metrics[name][repetition][-1]


def slower(metrics: Metrics, random: Random) -> None:
    half = len(metrics["read"]) // 2
    for name in ("compute", *CLOCKS):
        metrics[name][half:] = [[v and v * 1.2 for v in one] for one in metrics[name][half:]]


def zeros(metrics: Metrics, random: Random) -> None:
    repetition, worker = somewhere(metrics, random)
    names = ("TDP", "rapl_energy_cores", "cpu_cores_physical", "write", "cold_start")
    metrics[str(random.choice(names))][repetition][worker] = 0


CHANGES: tuple[Callable[[Metrics, Random], None], ...] = (
    copy,
    copy,
    noise,
    noise,
    idle,
    scaled("time_consumption", 0.9999, 1.0001),
    scaled("time_consumption", 1 - 2e-7, 1 + 2e-7),
    scaled("worker_time_execution", 0.8, 1.2),
    scaled("TDP", 0.5, 2),
    scaled("rapl_energy_cores", 0, 1e4),
    missing,
    ragged,
    another,
    processor,
    more_input,
    late,
    stalled,
    fewer_workers,
    short_column,
    slower,
    zeros,
)


def made(seed: int) -> list[tuple[Kind, Profile]]:
    """Two or three profiles to which some things were done."""
    random = np.random.default_rng(seed)
    base = Kind(
        workers=tuple(random.choice(range(1, 9), int(random.integers(1, 6)), replace=False)),
        repetitions=int(random.integers(4, 9)),
        memory_mb=int(random.choice([512, 2048])),
        weak=bool(random.random() < 0.2),
        most_workers=None if random.random() < 0.8 else int(random.integers(1, 5)),
        clean=bool(random.integers(2)),
    )
    kinds = [
        replace(base, workload=name, seed=int(random.integers(1 << 30)), architecture=architecture)
        for name, architecture in (("a", "x86_64"), ("b", "x86_64"), ("c", "arm64"))
    ][: int(random.integers(2, 4))]
    files = [(replace(kind, clean=False), profile(kind)) for kind in kinds]
    chosen = [CHANGES[at] for at in random.integers(len(CHANGES), size=random.integers(12))]
    for change in sorted(chosen, key=(ragged, short_column).__contains__):  # these last
        _, content = files[int(random.integers(len(files)))]
        change(content[str(random.choice(list(content)))], random)
    if random.random() < 0.3:  # from one file into the other
        source, target = files[0][1], files[1][1]
        key = str(random.choice(list(source)))
        for name, column in source[key].items():
            if column and key in target:
                target[key][name].append(list(column[0]))
    return files


def agree(seed: int) -> None:
    files = made(seed)
    wanted = expected({kind.name: content for kind, content in files})
    found = {
        Found(
            one.rule,
            one.file,
            one.configuration,
            one.column,
            one.repetitions,
            one.rows if one.rule in WITH_ROWS else None,
        )
        for one in linted(*files)
    }
    assert found == wanted


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
@example(seed=9215)  # a column with two values in all, both the same
@example(seed=589389025)  # a copy with noise, and neither it nor its source has all columns
def test_lint_finds_what_its_contract_says(seed: int) -> None:
    agree(seed)


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(seed=st.integers(0, 2**32))
@example(seed=9215)  # a column with two values in all, both the same
def test_lint_finds_what_its_contract_says_in_many_profiles(seed: int) -> None:
    agree(seed)
