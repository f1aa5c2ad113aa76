"""Each rule on both sides of its threshold."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from lithowatt.analysis._finding import Finding
from tests.support.linted import linted
from tests.support.made_profiles import COLUMNS, Kind, Metrics, Profile, profile
from tests.support.planted_faults import CLOCKS, SEVEN, append_copy

KIND = Kind(workers=(4,), repetitions=10, clean=True, seed=7)
KEY = KIND.keys[0]


def found(rule: str, made: Profile, kind: Kind = KIND) -> list[Finding]:
    return linted((kind, made), rules=[rule])


def changed(change: Callable[[Metrics], object], kind: Kind = KIND) -> Profile:
    made = profile(kind)
    change(made[kind.keys[0]])
    return made


def put(name: str, repetition: int, worker: int, value: float | None) -> Callable[[Metrics], None]:
    def change(metrics: Metrics) -> None:
        metrics[name][repetition][worker] = value

    return change


# --- repetitions made of others -------------------------------------------------------------------


@pytest.mark.parametrize("name", SEVEN)
def test_a_copy_is_one_to_the_last_bit(name: str) -> None:
    kind = replace(KIND, workers=(2,))  # too few to be taken for noise
    for steps, repetitions in ((0, (10,)), (1, None)):
        made = profile(kind)
        metrics = made[kind.keys[0]]
        append_copy(metrics, 3)
        for _ in range(steps):
            metrics[name][10][1] = math.nextafter(metrics[name][10][1], math.inf)
        some = found("copied-repetitions", made, kind)
        assert [one.repetitions for one in some] == ([] if repetitions is None else [repetitions])
        assert found("jittered-repetitions", made, kind) == []


def test_a_repetition_of_zeros_is_no_copy() -> None:
    def zeros(metrics: Metrics) -> None:
        for name in SEVEN:
            for at in (2, 5):
                metrics[name][at] = [0.0] * 4

    assert found("copied-repetitions", changed(zeros)) == []


def apart(metrics: Metrics, workers: int, relative: float) -> None:
    for worker in range(workers):
        metrics[CLOCKS[1]][2][worker] = 10.0
        metrics[CLOCKS[0]][2][worker] = 10.0 * (1 - relative)


@pytest.mark.parametrize(
    ("workers", "relative", "repetitions"),
    [(2, 1.1e-7, []), (3, 1.1e-7, [(2,)]), (4, 0.9e-7, [])],
)
def test_noise_shows_in_the_clocks_of_more_than_half(
    workers: int, relative: float, repetitions: list[tuple[int, ...]]
) -> None:
    made = changed(lambda metrics: apart(metrics, workers, relative))
    some = found("jittered-repetitions", made)
    assert [one.repetitions for one in some] == repetitions
    assert all(one.evidence["of"] == {"2": None} for one in some)


@pytest.mark.parametrize("factor", [0.9701, 0.9699, 1 / 0.9701, 1 / 0.9699])
@pytest.mark.parametrize("width", [3, 4])
@pytest.mark.parametrize("name", SEVEN[:4])
def test_noise_is_within_three_percent(name: str, width: int, factor: float) -> None:
    kind = replace(KIND, workers=(width,))
    made = profile(kind)
    metrics = made[kind.keys[0]]
    append_copy(metrics, 3)
    metrics[name][10][1] *= factor
    close = abs(math.log(factor)) < -math.log(0.97)
    some = found("jittered-repetitions", made, kind)
    assert [one.repetitions for one in some] == ([(10,)] if close and width == 4 else [])
    for one in some:
        assert one.evidence["of"]["10"]["repetition"] == 3


def test_the_source_is_the_nearest_that_is_none_itself() -> None:
    made = profile(KIND)
    metrics = made[KEY]
    random = np.random.default_rng(1)
    for factor in (1.02, 1.025, 1.001):
        at = append_copy(metrics, 3)
        for name in SEVEN:
            metrics[name][at] = [value * factor for value in metrics[name][at]]
        if factor == 1.001:  # by its clocks
            for name in SEVEN[4:6]:
                noise = random.uniform(0.99, 1.01, 4)
                metrics[name][at] = (np.array(metrics[name][at]) * noise).tolist()
    (one,) = found("jittered-repetitions", made)
    assert one.repetitions == (10, 11, 12)
    assert {at: source["repetition"] for at, source in one.evidence["of"].items()} == {
        "10": 3,
        "11": 3,
        "12": 3,
    }


def test_clocks_of_the_source_that_are_apart_are_left_aside() -> None:
    made = profile(KIND)
    metrics = made[KEY]
    append_copy(metrics, 3)
    for name in SEVEN:
        metrics[name][10] = [value * 1.01 for value in metrics[name][10]]
    metrics[CLOCKS[1]][3][2] *= 1.5
    (one,) = found("jittered-repetitions", made)
    assert (one.repetitions, one.evidence["of"]["10"]["repetition"]) == ((10,), 3)


def test_numbers_that_are_all_the_same_show_no_noise() -> None:
    """Warm starts and empty phases: three of five columns have to say something."""

    def nothing(metrics: Metrics) -> None:
        for name in ("read", "write", "cold_start"):
            metrics[name] = [[0.0] * 4 for _ in metrics[name]]
        for name in ("compute", *CLOCKS, "TDP"):
            metrics[name] = [
                [5.0 + 0.001 * (4 * at + worker) for worker in range(4)] for at in range(10)
            ]

    assert found("jittered-repetitions", changed(nothing)) == []


def test_copies_in_other_files_and_configurations() -> None:
    kind = replace(KIND, workers=(4, 8), most_workers=4)
    other = replace(kind, workload="qi", seed=8)
    made, second = profile(kind), profile(other)
    a, b = kind.keys
    for name in COLUMNS:
        made[b][name][2] = list(made[a][name][1])
        second[a][name][0] = list(made[a][name][5])
        second[b][name][4] = list(made[b][name][6])
    for name in SEVEN:
        second[b][name][4] = [value * 1.02 for value in second[b][name][4]]
    some = linted(
        (kind, made), (other, second), rules=["copied-repetitions", "jittered-repetitions"]
    )
    assert [(one.rule, one.file, one.configuration, one.repetitions) for one in some] == [
        ("copied-repetitions", kind.name, b, (2,)),
        ("copied-repetitions", other.name, a, (0,)),
        ("jittered-repetitions", other.name, b, (4,)),
    ]
    assert some[1].evidence["of"] == {"0": {"file": kind.name, "configuration": a, "repetition": 5}}
    assert some[2].evidence["of"] == {"4": {"file": kind.name, "configuration": b, "repetition": 6}}
    assert "4 of 6 of pi_aws_1024Mb_x86/stage.json (1, 1024, 8)" in some[2].message


def test_a_file_that_is_there_twice_is_a_copy_from_end_to_end() -> None:
    kind = replace(KIND, workers=(1, 3, 12))
    made = profile(kind)
    again = replace(kind, workload="qi", memory_mb=2048)
    some = linted((kind, made), (again, made), rules=["copied-repetitions"])
    assert [(one.file, one.configuration, one.repetitions) for one in some] == [
        (again.name, key, tuple(range(10))) for key in made
    ]


# --- another platform, no work --------------------------------------------------------------------


@pytest.mark.parametrize(("many", "rows"), [(1, 1), (2, None)])
def test_foreign_is_less_than_a_twentieth(many: int, rows: int | None) -> None:
    """1 of 40 rows is 2.5 %, 2 are 5 %."""

    def foreign(metrics: Metrics) -> None:
        for worker in range(many):
            metrics["aws_cpu"][6][worker] = "type:local|lambda:False"

    some = found("foreign-hardware", changed(foreign))
    assert [(one.rows, one.repetitions) for one in some] == ([] if rows is None else [(1, (6,))])


def test_lambda_among_laptops_is_foreign_and_silence_is_not() -> None:
    kind = replace(KIND, on_lambda=False)
    made = profile(kind)
    made[KEY]["aws_cpu"][0][0] = "type:lambda-function|lambda:True"
    made[KEY]["aws_cpu"][1][0] = None  # type: ignore[call-overload]
    made[KEY]["aws_cpu"][2][0] = "an instance"
    (one,) = found("foreign-hardware", made, kind)
    assert (one.repetitions, one.rows) == ((0,), 1)


@pytest.mark.parametrize(
    ("idle", "seconds", "others", "rule"),
    [
        (2, 0.00099, None, "empty-repetition"),
        (4, 0.0, None, "empty-repetition"),
        (1, 0.00099, None, "empty-worker"),
        (2, 0.001, None, None),
        (2, 0.0009, 0.0501, "empty-repetition"),
        (2, 0.0009, 0.0499, None),
        (1, 0.0009, 0.0499, None),
    ],
)
def test_no_work(idle: int, seconds: float, others: float | None, rule: str | None) -> None:
    def change(metrics: Metrics) -> None:
        if others is not None:
            metrics["compute"] = [[others] * 4 for _ in metrics["compute"]]
        metrics["compute"][3][:idle] = [seconds] * idle

    made = changed(change)
    whole, single = found("empty-repetition", made), found("empty-worker", made)
    assert [(one.repetitions, one.rows) for one in whole] == (
        [((3,), 4)] if rule == "empty-repetition" else []
    )
    assert [(one.repetitions, one.rows) for one in single] == (
        [((), 1)] if rule == "empty-worker" else []
    )


# --- clocks and phases ----------------------------------------------------------------------------


@pytest.mark.parametrize(("relative", "rows"), [(0.9e-7, []), (1.1e-7, [1])])
@pytest.mark.parametrize("sign", [1, -1])
def test_clocks_differ_by_one_in_ten_million(relative: float, rows: list[int], sign: int) -> None:
    def change(metrics: Metrics) -> None:
        metrics[CLOCKS[1]][8][0] = 20.0
        metrics[CLOCKS[0]][8][0] = 20.0 * (1 + sign * relative)

    some = found("clock-mismatch", changed(change))
    assert [one.rows for one in some] == rows
    assert all(one.repetitions == (8,) for one in some)


@pytest.mark.parametrize(("apart_s", "rows"), [(5e-9, []), (1.1e-8, [4])])
def test_what_rounding_leaves_of_a_short_worker_is_no_difference(
    apart_s: float, rows: list[int]
) -> None:
    """Lithops rounds `worker_exec_time` to 8 decimals: 1e-6 of 5 ms."""

    def change(metrics: Metrics) -> None:
        metrics[CLOCKS[1]][8] = [0.005] * 4
        metrics[CLOCKS[0]][8] = [0.005 + apart_s] * 4

    made = changed(change)
    assert [one.rows for one in found("clock-mismatch", made)] == rows
    assert len(found("jittered-repetitions", made)) == len(rows)


def with_other(seconds: float) -> Profile:
    def change(metrics: Metrics) -> None:
        for name, value in (("read", 0.25), ("compute", 4.0), ("write", 0.5)):
            metrics[name][1][2] = value
        for name in CLOCKS:
            metrics[name][1][2] = 4.75 + seconds

    return changed(change)


@pytest.mark.parametrize(("seconds", "rows"), [(0.0, []), (-1e-6, [1]), (-1.0, [1]), (1e-9, [])])
def test_phases_are_no_longer_than_the_worker(seconds: float, rows: list[int]) -> None:
    assert [one.rows for one in found("phases-exceed-worker-time", with_other(seconds))] == rows


@pytest.mark.parametrize(("seconds", "rows"), [(2.3e-7, []), (2.5e-7, [1])])
def test_what_clock_readings_do_not_resolve_is_not_longer(seconds: float, rows: list[int]) -> None:
    """`time.time()` is a double, and of today's seconds it has 2^-22."""
    assert [one.rows for one in found("phases-exceed-worker-time", with_other(-seconds))] == rows


@pytest.mark.parametrize(("value", "rows"), [(-1e-9, [1]), (0.0, []), (-0.0, [])])
@pytest.mark.parametrize("name", ["cold_start", "TDP", "cpu_cores_logical"])
def test_nothing_is_below_zero(name: str, value: float, rows: list[int]) -> None:
    def change(metrics: Metrics) -> None:
        metrics[name][1][2] = value

    some = found("negative-values", changed(change))
    assert [one.rows for one in some] == rows
    assert all(one.repetitions == (1,) for one in some)
    assert all(one.evidence["columns"] == {name: 1} for one in some)


@pytest.mark.parametrize("seconds", [0.1, 0.7, 12.3])
def test_rounding_is_not_longer(seconds: float) -> None:
    def change(metrics: Metrics) -> None:
        for name in ("read", "write"):
            metrics[name] = [[seconds / 3] * 4 for _ in metrics[name]]
        for at, computes in enumerate(metrics["compute"]):
            for name in CLOCKS:
                metrics[name][at] = [compute + seconds / 3 + seconds / 3 for compute in computes]

    assert found("phases-exceed-worker-time", changed(change)) == []


@pytest.mark.parametrize(("seconds", "rows"), [(10.0, []), (10.001, [1])])
def test_a_worker_stands_still_after_ten_seconds(seconds: float, rows: list[int]) -> None:
    assert [one.rows for one in found("stalled-worker", with_other(seconds))] == rows


@pytest.mark.parametrize(("seconds", "rows"), [(30.0, []), (30.001, [1])])
def test_a_start_is_queued_after_thirty_seconds(seconds: float, rows: list[int]) -> None:
    made = changed(put("cold_start", 4, 1, seconds))
    assert [one.rows for one in found("queued-start", made)] == rows


@pytest.mark.parametrize("rule", ["queued-start", "stalled-worker"])
def test_what_is_not_usable_neither_waits_nor_stands_still(rule: str) -> None:
    made = with_other(11.0)
    made[KEY]["cold_start"][1][2] = 31.0
    assert len(found(rule, made)) == 1
    made[KEY]["TDP"][1][0] = None  # type: ignore[call-overload]
    assert found(rule, made) == []


@pytest.mark.parametrize(("share", "many"), [(0.0499, 0), (0.0501, 1)])
def test_overhead_is_more_than_a_twentieth(share: float, many: int) -> None:
    def change(metrics: Metrics) -> None:
        for at in range(10):
            phases = [sum(metrics[name][at][worker] for name in SEVEN[:3]) for worker in range(4)]
            for name in CLOCKS:
                metrics[name][at] = [one / (1 - share) for one in phases]

    some = found("monitoring-overhead", changed(change))
    assert len(some) == many
    assert all(one.evidence["share_of_worker_time"] == pytest.approx(share) for one in some)


# --- lists, keys and names ------------------------------------------------------------------------


def test_columns_of_one_length_are_not_ragged() -> None:
    assert found("ragged-repetitions", profile(KIND)) == []

    def change(metrics: Metrics) -> None:
        metrics["TDP"] = metrics["TDP"][:8]
        metrics["cpu_name"] = metrics["cpu_name"][:9]

    (one,) = found("ragged-repetitions", changed(change))
    assert one.repetitions == (8, 9)
    assert one.message == "TDP, cpu_name lack repetitions 8-9 of 10"


def test_missing_values_are_not_ragged() -> None:
    assert found("ragged-repetitions", changed(put("TDP", 9, 0, None))) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, None),
        ({"memory_mb": 1025}, "1025 MB, and its keys 1024 MB"),
        ({"architecture": "arm64"}, "arm64, and its rows x86_64"),
        ({"memory_mb": 512, "architecture": "arm64"}, "512 MB.*arm64"),
    ],
)
def test_a_label_is_that_of_keys_and_rows(changes: dict[str, object], words: str | None) -> None:
    some = found("label-mismatch", profile(KIND), replace(KIND, **changes))
    assert len(some) == (words is not None)
    for one in some:
        assert words is not None
        assert re.search(words, one.message)


def test_one_key_and_one_configuration_of_another_machine_are_enough() -> None:
    kind = replace(KIND, workers=(4, 6))
    made = profile(kind)
    made["(1, 2048, 6)"] = made.pop(kind.keys[1])
    (one,) = found("label-mismatch", made, kind)
    assert one.evidence["memory_mb"] == {"folder": 1024, "keys": [2048]}
    made = profile(kind)
    made[kind.keys[1]]["cpu_architecture"] = [["aarch64"] * 6 for _ in range(10)]
    assert len(found("label-mismatch", made, kind)) == 1
    for at in range(4):  # most rows
        made[kind.keys[1]]["cpu_architecture"][at] = ["x86_64"] * 6
    assert len(found("label-mismatch", made, kind)) == 1
    for at in range(4, 6):
        made[kind.keys[1]]["cpu_architecture"][at] = ["x86_64"] * 6
    assert found("label-mismatch", made, kind) == []


def test_the_architecture_of_foreign_rows_is_no_mismatch() -> None:
    made = profile(KIND)
    for name in COLUMNS:
        made[KEY][name] += [list(one) for one in profile(replace(KIND, repetitions=100))[KEY][name]]
    key = "(1, 1024, 1)"
    made[key] = profile(replace(KIND, workers=(1,), repetitions=1, seed=3))[key]
    made[key]["cpu_architecture"] = [["aarch64"]]
    assert len(found("label-mismatch", made)) == 1
    made[key]["aws_cpu"] = [["type:local|lambda:False"]]
    assert found("label-mismatch", made) == []


# --- columns --------------------------------------------------------------------------------------


def load(offset: float, share: float, clocks: float = 0.0) -> Profile:
    """A TDP on steps, but for so many rows that are so many steps off; 100 rows."""
    kind = replace(KIND, workers=(10,))
    made = profile(kind)
    metrics = made[kind.keys[0]]
    for at in range(10):
        for worker in range(10):
            step = 200 + 10 * at + worker
            if 10 * at + worker >= round(100 * share):
                step += offset  # type: ignore[assignment]
                metrics[CLOCKS[0]][at][worker] *= 1 + clocks
            metrics["TDP"][at][worker] = metrics[CLOCKS[1]][at][worker] * step * 0.0005
    return made


@pytest.mark.parametrize(
    ("offset", "share", "clocks", "many"),
    [
        (0.5, 0.95, 0, 1),
        (0.5, 0.94, 0, 0),
        (0.0009, 0, 0, 1),
        (0.0011, 0, 0, 0),
        (0.5, 0.5, 1e-3, 1),  # rows whose clocks differ are left aside
        (0.5, 0.5, 1e-8, 0),
    ],
)
def test_tdp_is_on_steps_of_a_load(offset: float, share: float, clocks: float, many: int) -> None:
    some = found("unit-mistake", load(offset, share, clocks), replace(KIND, workers=(10,)))
    assert [one.column for one in some] == ["TDP"] * many


def test_three_rows_are_too_few_for_a_unit_or_a_constant() -> None:
    for repetitions, many in ((3, 0), (4, 1)):
        kind = replace(KIND, workers=(1,), repetitions=repetitions, clean=False)
        made = profile(kind)
        assert len(found("unit-mistake", made, kind)) == many
        assert len(found("constant-column", made, kind)) == many


def test_a_constant_is_one_value_in_all_configurations() -> None:
    kind = replace(KIND, workers=(2, 4))
    made = profile(kind)
    for key, width in zip(kind.keys, (2, 4), strict=True):
        made[key]["RAPL_wrong"] = [[12] * width for _ in range(10)]
        made[key]["measurement_energy"] = [[3] * width for _ in range(10)]
    (one,) = found("constant-column", made, kind)
    assert (one.column, one.rows) == ("RAPL_wrong", 60)
    made[kind.keys[1]]["RAPL_wrong"][9][3] = 12.000001
    assert found("constant-column", made, kind) == []
    made[kind.keys[1]]["RAPL_wrong"][9][3] = 12.0
    assert len(found("constant-column", made, kind)) == 1
    for key, width in zip(kind.keys, (2, 4), strict=True):
        made[key]["RAPL_wrong"] = [[0] * width for _ in range(10)]
    assert found("constant-column", made, kind) == []
    assert len(found("zero-means-unavailable", made, kind)) == 1


def test_cpu_time_is_a_measurement_and_cpu_names_are_not() -> None:
    def change(metrics: Metrics) -> None:
        metrics["cpu_time"] = [[1.5] * 4 for _ in range(10)]
        metrics["cpu_family"] = [[6] * 4 for _ in range(10)]

    (one,) = found("constant-column", changed(change))
    assert one.column == "cpu_time"


@pytest.mark.parametrize("name", ["read", "compute", "write", "cold_start"])
def test_a_phase_may_be_zero(name: str) -> None:
    assert found("zero-means-unavailable", changed(put(name, 0, 0, 0.0))) == []


@pytest.mark.parametrize("name", ["TDP", "cpu_cores_physical", *CLOCKS, "psutil_cpu_percent"])
def test_one_zero_elsewhere_is_no_reading(name: str) -> None:
    (one,) = found("zero-means-unavailable", changed(put(name, 3, 1, 0)))
    assert (one.column, one.rows, one.evidence) == (name, 1, {"of": 40})
    assert found("zero-means-unavailable", changed(put(name, 3, 1, 1e-300))) == []
    assert found("zero-means-unavailable", changed(put(name, 3, 1, None))) == []


def test_a_zero_of_lithowatts_own_is_a_number() -> None:
    def change(metrics: Metrics) -> None:
        metrics["rapl_energy_cores"] = [[0.0] * 4 for _ in range(10)]
        quality = [[None] * 4 for _ in range(3)] + [["measured"] * 4 for _ in range(7)]
        metrics["energy_quality"] = quality

    (one,) = found("zero-means-unavailable", changed(change))
    assert (one.rows, one.evidence) == (12, {"of": 12})


@pytest.mark.parametrize(("load", "names"), [(100.0, []), (50.0, ["psutil_cpu_percent"])])
def test_a_load_of_lithowatts_own_may_be_full(load: float, names: list[str]) -> None:
    def change(metrics: Metrics) -> None:
        metrics["psutil_cpu_percent"] = [[load] * 4 for _ in range(10)]

    def own(metrics: Metrics) -> None:
        change(metrics)
        metrics["energy_quality"] = [["modelled"] * 4 for _ in range(10)]

    assert [one.column for one in found("constant-column", changed(own))] == names
    others = [one.column for one in found("constant-column", changed(change))]
    assert others == ["psutil_cpu_percent"]


def test_what_lithops_counts_may_be_nothing_or_the_same() -> None:
    def change(metrics: Metrics) -> None:
        metrics["worker_func_sent_net_io"] = [[0] * 4 for _ in range(10)]
        metrics["host_submit_tstamp"] = [[1.7e9] * 4 for _ in range(10)]
        metrics["func_data_size_bytes"] = [[72] * 4 for _ in range(10)]
        metrics["func_result_size"] = [[0] * 4 for _ in range(10)]
        metrics["net_io"] = [[0] * 4 for _ in range(10)]
        metrics["tstamp"] = [[1.7e9] * 4 for _ in range(10)]

    made = changed(change)
    assert [one.column for one in found("zero-means-unavailable", made)] == ["net_io"]
    assert [one.column for one in found("constant-column", made)] == ["tstamp"]


@pytest.mark.parametrize(("watts", "many"), [(0.0999, 1), (0.1001, 0), (14.9877, 0), (15.0123, 1)])
@pytest.mark.parametrize("name", ["TDP", "rapl_energy_cores", "RAPL_wrong"])
def test_a_vcpu_takes_some_watts(name: str, watts: float, many: int) -> None:
    def change(metrics: Metrics) -> None:
        for at, seconds in enumerate(metrics[CLOCKS[1]]):
            metrics[name][at] = [one * 2 * watts for one in seconds]
        metrics[name][0][0] = 0.0  # says nothing of the others

    some = found("implausible-power", changed(change))
    assert [one.column for one in some] == [name] * many
    assert all(one.evidence["watts_per_vcpu"] == pytest.approx(watts) for one in some)


def test_a_column_that_is_named_already_is_not_named_again() -> None:
    kind = replace(KIND, clean=False, work_s=4000.0)
    made = profile(kind)  # 12 J a worker of hours, and a TDP of busy seconds
    assert len(found("unit-mistake", made, kind)) == len(found("constant-column", made, kind)) == 1
    assert found("implausible-power", made, kind) == []
    made[KEY]["RAPL_wrong"][0][0] = 12.5
    assert [one.column for one in found("implausible-power", made, kind)] == ["RAPL_wrong"]


def test_a_process_on_a_large_machine_may_take_few_watts_a_cpu() -> None:
    def change(metrics: Metrics) -> None:
        metrics["cpu_cores_logical"] = [[192] * 4 for _ in range(10)]
        metrics["cpu_time"] = [[one * 0.9 for one in some] for some in metrics["compute"]]
        metrics["TDP"] = [[one * 5 for one in some] for some in metrics["compute"]]

    assert found("implausible-power", changed(change)) == []


# --- series ---------------------------------------------------------------------------------------


def steps(p: list[float], repetitions: int = 10) -> tuple[Kind, Profile]:
    """A configuration for each p of Welch's test of its halves."""
    stats = pytest.importorskip("scipy.stats")
    kind = replace(KIND, workers=tuple(range(2, 2 + len(p))), repetitions=repetitions)
    made = profile(kind)
    half = repetitions // 2
    for key, wanted in zip(kind.keys, p, strict=True):
        scatter = np.resize([-0.1, 0.0, 0.1, 0.05, -0.05], repetitions) + 20
        low, high = 0.0, 5.0
        for _ in range(60):
            shift = (low + high) / 2
            got = stats.ttest_ind(scatter[:half], scatter[half:] + shift, equal_var=False).pvalue
            low, high = (low, shift) if got < wanted else (shift, high)
        seconds = np.where(np.arange(repetitions) < half, scatter, scatter + low)
        for name in CLOCKS:
            made[key][name] = [[float(one)] * len(made[key]["read"][0]) for one in seconds]
    return kind, made


@pytest.mark.slow
@pytest.mark.parametrize(
    ("p", "repetitions", "many"),
    [
        ([0.0099] * 3, 10, 1),
        ([0.0099] * 2, 10, 0),
        ([0.0099] * 2 + [0.0101], 10, 0),
        ([0.0099] * 3 + [0.5] * 6, 10, 1),
        ([0.0099] * 3 + [0.5] * 7, 10, 0),
        ([0.0099] * 3, 11, 1),
        ([0.0099] * 3, 5, 1),
        ([0.0099] * 3, 4, 0),
    ],
)
def test_drift_is_in_three_and_in_a_third(p: list[float], repetitions: int, many: int) -> None:
    kind, made = steps(p, repetitions)
    some = found("drifting-repetitions", made, kind)
    assert len(some) == many
    for one in some:
        assert len(one.evidence["configurations"]) == sum(value < 0.01 for value in p)
        assert one.evidence["of"] == len(p)


def test_constants_drift_where_they_differ() -> None:
    kind = replace(KIND, workers=(2, 3, 4))
    for factor, many in ((1.0, 0), (1.1, 1)):
        made = profile(kind)
        for key in kind.keys:
            width = len(made[key]["read"][0])
            for name in CLOCKS:
                made[key][name] = [[1.1 * factor ** (at >= 5)] * width for at in range(10)]
        assert len(found("drifting-repetitions", made, kind)) == many


def test_shuffled_repetitions_do_not_drift() -> None:
    kind = Kind(drift=0.9, workers=(6, 8, 12, 16), repetitions=14, seed=3)
    made = profile(kind)
    assert len(found("drifting-repetitions", made, kind)) == 1
    order = np.random.default_rng(5).permutation(14)
    for metrics in made.values():
        for name, column in metrics.items():
            metrics[name] = [column[at] for at in order]
    assert found("drifting-repetitions", made, kind) == []


@pytest.mark.parametrize(("exponent", "many"), [(0.2499, 0), (0.2501, 1), (1.0, 1), (-0.5, 0)])
@pytest.mark.parametrize("workers", [(4, 8, 16), (1, 3), (1, 2, 3, 28)])
def test_work_grows_from_a_quarter_on(workers: tuple[int, ...], exponent: float, many: int) -> None:
    kind = replace(KIND, workers=workers)
    made = profile(kind)
    for key, width in zip(kind.keys, workers, strict=True):
        made[key]["TDP"] = [[5.0 * width ** (exponent - 1)] * width for _ in range(10)]
    some = found("work-grows-with-workers", made, kind)
    assert len(some) == (many if len(workers) > 2 else 0)
    assert all(one.evidence["exponent"] == pytest.approx(exponent) for one in some)


def test_one_worker_does_not_grow() -> None:
    kind = replace(KIND, workers=(1, 2, 3, 4), most_workers=1)
    made = profile(kind)
    for number, key in enumerate(kind.keys, 1):
        made[key]["TDP"] = [[5.0 * number] for _ in range(10)]
    assert found("work-grows-with-workers", made, kind) == []
    assert len(found("requested-actual-workers", made, kind)) == 3


def test_memories_of_one_file_are_looked_at_apart() -> None:
    made: Profile = {}
    for memory, size in ((512, 1.0), (2048, 8.0)):
        for width in (4, 8, 16) if memory == 512 else (20, 24, 28):
            kind = replace(KIND, workers=(width,), memory_mb=memory)
            metrics = profile(kind)[kind.keys[0]]
            metrics["TDP"] = [[size * 5.0 / width] * width for _ in range(10)]
            made[kind.keys[0]] = metrics
    assert found("work-grows-with-workers", made) == []


@pytest.mark.parametrize(("repetitions", "many"), [(4, 1), (5, 0)])
def test_four_are_few(repetitions: int, many: int) -> None:
    kind = replace(KIND, repetitions=repetitions)
    assert len(found("few-repetitions", profile(kind), kind)) == many


def test_what_is_left_out_or_not_usable_does_not_count() -> None:
    kind = replace(KIND, repetitions=5)
    made = profile(kind)
    append_copy(made[KEY], 0)
    assert found("few-repetitions", made, kind) == []
    made[KEY]["write"][1][1] = None  # type: ignore[call-overload]
    (one,) = found("few-repetitions", made, kind)
    assert one.evidence == {"clean": 4, "found": 6}


def more(metrics: Metrics, factors: tuple[float, float, float]) -> None:
    for name, factor in zip(SEVEN[:3], factors, strict=True):
        column = [[4.0] * 4 for _ in metrics[name]]
        column[5] = [4.0 * factor] * 4
        metrics[name] = column


@pytest.mark.parametrize(
    ("factors", "many"),
    [
        ((1.7001, 1.7001, 1.7001), 1),
        ((1.7, 1.7, 1.7), 0),
        ((3.0, 3.0, 1.69), 0),
        ((3.0, 1.69, 3.0), 0),
        ((1.69, 3.0, 3.0), 0),
    ],
)
def test_more_input_takes_longer_in_all_phases(
    factors: tuple[float, float, float], many: int
) -> None:
    some = found("input-changed", changed(lambda metrics: more(metrics, factors)))
    assert [one.repetitions for one in some] == [(5,)] * many


def test_an_excluded_repetition_does_not_move_the_median() -> None:
    """Of 5 repetitions with much input, 3 are copies: without them 1 to 1 remains."""
    made = changed(lambda metrics: more(metrics, (2, 2, 2)), replace(KIND, repetitions=6))
    for _ in range(8):
        append_copy(made[KEY], 5)
    (one,) = found("input-changed", made)
    assert one.repetitions == (5,)


def test_other_workers_than_asked_for() -> None:
    for most, many in ((3, 1), (4, 0)):
        kind = replace(KIND, most_workers=most)
        some = found("requested-actual-workers", profile(kind), kind)
        assert len(some) == many
        assert all(one.evidence["actual"] == {"3": 10} for one in some)
    made = profile(KIND)
    for metrics in made.values():
        for column in metrics.values():
            del column[0][-1]
    (one,) = found("requested-actual-workers", made)
    assert one.evidence["actual"] == {"3": 1, "4": 9}
    made[KEY]["read"][0][0] = None  # type: ignore[call-overload]
    assert found("requested-actual-workers", made) == []


def test_mixed_is_two_processors_that_are_not_foreign() -> None:
    made = profile(KIND)
    assert found("mixed-hardware", made) == []
    made[KEY]["cpu_name"][3][2] = "laptop"
    (one,) = found("mixed-hardware", made)
    assert one.evidence == {"Intel(R) Xeon(R) Processor @ 2.50GHz": 39, "laptop": 1}
    made[KEY]["aws_cpu"][3][2] = "lambda:False"
    assert found("mixed-hardware", made) == []


def test_stages_hold_different_numbers_of_usable_repetitions() -> None:
    kind = replace(KIND, workers=(4, 6))
    other = replace(kind, stage="reduce", seed=9)
    made, second = profile(kind), profile(other)
    rule = ["stage-repetitions"]
    assert linted((kind, made), (other, second), rules=rule) == []
    for column in second[KEY].values():
        del column[-1]
    (one,) = linted((kind, made), (other, second), rules=rule)
    assert (one.file, one.configuration) == ("pi_aws_1024Mb_x86", KEY)
    assert one.evidence == {"stage": 10, "reduce": 9}
    made[KEY]["read"][0][0] = None  # type: ignore[call-overload]
    assert linted((kind, made), (other, second), rules=rule) == []
    del second[KEY]  # a stage may have run with other configurations
    assert linted((kind, made), (other, second), rules=rule) == []
    elsewhere = replace(other, workload="qi")
    assert linted((kind, made), (elsewhere, profile(elsewhere)), rules=rule) == []


def test_metadata_may_be_in_the_sidecar_or_in_columns() -> None:
    bare = replace(KIND, clean=False)
    made = profile(KIND)
    assert found("missing-metadata", made) == []
    (one,) = found("missing-metadata", made, bare)
    assert one.evidence["missing"] == ["time stamp", "region", "input size", "versions"]
    made[KEY]["timestamp"] = [[1.7e9 + at] * 4 for at in range(10)]
    (one,) = found("missing-metadata", made, bare)
    assert one.evidence["missing"] == ["region", "input size", "versions"]
