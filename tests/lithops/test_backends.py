"""One workload on several backends, with backends that are made up: what they take is known."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lithowatt.analysis import MultiBackendEnergyAnalyzer, correlate_backend_results
from lithowatt.analysis.backends import verdict_text
from lithowatt.analysis.significance import mean_ranks
from lithowatt.cli.compare import lines
from lithowatt.errors import MalformedValueError, UnavailableError, UnwritableFileError
from lithowatt.lithops.backends._analyzer import GIVE_UP
from lithowatt.lithops.backends._backend import Backend, configured
from lithowatt.lithops.backends._job import Call, JobError, within
from lithowatt.lithops.backends._keep import sessions
from lithowatt.lithops.backends._workload import bound, load_arguments, load_workload
from lithowatt.profiles import read_profile, read_profiles, read_sidecar
from lithowatt.stats import PREFIX

pytest.importorskip("lithops")


def work(n: int = 1) -> int:
    return n


def stats(seconds: float, joules: float | None, **more: Any) -> dict[str, Any]:
    """One call's stats, as a worker with lithowatt sends them."""
    begin, start = 1_790_000_000.0, more.pop("start", 0.1)
    end = 0.12 + seconds
    found: dict[str, Any] = {
        "host_submit_tstamp": begin,
        "worker_start_tstamp": begin + start,
        "worker_func_start_tstamp": begin + 0.11,
        "worker_func_end_tstamp": begin + 0.11 + seconds,
        "worker_end_tstamp": begin + end,
        "worker_func_exec_time": seconds,
        "worker_exec_time": (begin + end) - (begin + start),
        "worker_processor_info": {"architecture": "x86_64"},
        "worker_task_cold_start": more.pop("cold", False),
    }
    if joules is not None:
        values = {
            "energy_schema": 1,
            "energy_consumption": joules,
            "energy_marginal": joules,
            "energy_low": joules * more.pop("low", 0.9),
            "energy_high": joules * more.pop("high", 1.1),
            "energy_quality": more.pop("quality", "measured"),
            "energy_method": more.pop("method", "rapl+cputime"),
            "energy_definition": more.pop("definition", "marginal"),
            "energy_cpu_time": seconds,
        }
        found |= {PREFIX + name: value for name, value in values.items()}
    return found


Take = Callable[[int, int, int], "list[Call] | JobError | type[KeyboardInterrupt]"]


class Made:
    """A backend whose jobs are made by a function of memory, workers and the number of the job."""

    release: str | None = "3.8.0"

    def __init__(self, take: Take, unreachable: str | None = None) -> None:
        self.take = take
        self.unreachable = unreachable
        self.jobs = 0
        self.closed = False

    def connect(self, memories: Sequence[float], patience: float) -> None:
        if self.unreachable is not None:
            raise JobError(self.unreachable)

    def run(
        self,
        function: Callable[..., Any],
        data: Sequence[Any],
        memory_mb: float,
        timeout: float,
        patience: float,
    ) -> list[Call]:
        self.jobs += 1
        found = self.take(int(memory_mb), len(data), self.jobs)
        if isinstance(found, JobError):
            raise found
        if not isinstance(found, list):
            raise KeyboardInterrupt
        return found

    def close(self) -> None:
        self.closed = True


def takes(seconds: float, joules: float | None, seed: int, **more: Any) -> Take:
    """A job of calls that take so much, more with the workers, within 1 %."""
    random = np.random.default_rng(seed)

    def take(memory: int, workers: int, job: int) -> list[Call]:
        made = []
        for _ in range(workers):
            noise = (1 + 0.5 * workers) * float(random.normal(1.0, 0.01))
            energy = None if joules is None else joules * noise
            # As in real runs, starts scatter more than work: lint takes other runs for copies.
            start = float(random.uniform(0.05, 0.1))
            made.append(Call(stats(seconds * noise, energy, start=start, **more), None, "same"))
        return made

    return take


def analyzer(made: dict[str, Made], **options: Any) -> MultiBackendEnergyAnalyzer:
    config = {"lithops": {"backend": "localhost", "storage": "localhost"}}
    options = {"repetitions": 6, "seed": 1, **options}
    found = MultiBackendEnergyAnalyzer(dict.fromkeys(made, config), **options)
    found._runner = lambda backend: made[backend.name]
    return found


def overall(result: dict[str, Any], quantity: str) -> dict[str, Any]:
    rows = [
        one for one in result["overall"] if one["quantity"] == quantity and one["memory_mb"] is None
    ]
    assert len(rows) == 1
    return rows[0]


def overall_of(result: dict[str, Any], a: str, b: str) -> dict[str, Any]:
    (row,) = [
        one
        for one in result["overall"]
        if (one["a"]["label"], one["b"]["label"], one["quantity"], one["memory_mb"])
        == (a, b, "energy_j", None)
    ]
    found: dict[str, Any] = row
    return found


def text(result: dict[str, Any]) -> str:
    made = list(lines(result, True))
    # A path is never cut.
    wide = [line for line in made if len(line) > 80 and " " in line.strip()]
    assert not wide, wide
    return "\n".join(made)


# --- what is compared -----------------------------------------------------------


@pytest.mark.parametrize("spread", [3.0, 30.0, 1000.0])
def test_two_runs_that_differ_much_are_told_in_the_width_of_a_terminal(spread: float) -> None:
    def differs(seed: int) -> Take:
        kinds = takes(0.001, 0.01, seed), takes(0.001 * spread, 0.01 * spread, seed)
        seen: Counter[int] = Counter({1: seed})

        def take(memory: int, workers: int, job: int) -> Any:
            seen[workers] += 1
            return kinds[seen[workers] % 2](memory, workers, job)

        return take

    made = {"kubernet": Made(differs(1)), "machines": Made(differs(2))}
    found = analyzer(made, repetitions=2).run_comparative_analysis(
        work, [(1, 512, n) for n in (1, 2)]
    )
    text(found)


def test_a_planted_ratio_is_found_with_its_verdict() -> None:
    made = {"one": Made(takes(1.0, 10.0, 1)), "two": Made(takes(1.0, 20.0, 2))}
    result = analyzer(made).run_comparative_analysis(work, [(1, 512, n) for n in (1, 2, 4)])
    energy, cpu = overall(result, "energy_j"), overall(result, "cpu_seconds_s")
    assert energy["ratio"] == pytest.approx(0.5, rel=0.02)
    low, high = energy["these"]["ratio_ci"]
    assert low < 0.5 < high and high - low < 0.02
    assert energy["these"]["verdict"] == energy["verdict"] == "lower"
    assert energy["holm_significant"] == 3
    # Bands of ± 10 % on both sides: 0.5 * 0.9 / 1.1 to 0.5 * 1.1 / 0.9.
    assert energy["ratio_band"] == pytest.approx([0.409, 0.611], rel=0.02)
    assert cpu["verdict"] == "equivalent"
    assert result["verdicts"][-1]["text"].startswith("one takes less energy than two: × 0.")
    assert text(result).splitlines()[0] == result["verdicts"][-1]["text"]
    assert all(one.closed for one in made.values())


def test_the_others_are_compared_with_the_first_that_was_named() -> None:
    made = {"zoo": Made(takes(1.0, 10.0, 1)), "ant": Made(takes(1.0, 20.0, 2))}
    result = analyzer(made).run_comparative_analysis(work, [(1, 512, 1)], fail_if_worse=0.05)
    row = overall(result, "energy_j")
    assert (row["a"]["label"], row["b"]["label"]) == ("zoo", "ant")
    assert {one["quantity"] for one in result["worse"]} == {"energy_j"}
    turned = {"ant": Made(takes(1.0, 20.0, 2)), "zoo": Made(takes(1.0, 10.0, 1))}
    assert not analyzer(turned).run_comparative_analysis(work, fail_if_worse=0.05)["worse"]


def test_only_the_first_backend_is_what_others_are_worse_than() -> None:
    made = {
        "dear": Made(takes(3.0, 30.0, 1)),
        "cheap": Made(takes(1.0, 10.0, 2)),
        "middle": Made(takes(2.0, 20.0, 3)),
    }
    result = analyzer(made).run_comparative_analysis(work, fail_if_worse=0.05)
    assert overall_of(result, "cheap", "middle")["ratio"] == pytest.approx(0.5, rel=0.02)
    assert result["worse"] == []


def test_joules_within_their_bands_are_not_surely_more() -> None:
    wide = {"low": 0.3, "high": 3.0, "quality": "modelled"}
    made = {
        "one": Made(takes(1.0, 10.0, 1, method="model:a", **wide)),
        "two": Made(takes(1.0, 20.0, 2, method="model:b", **wide)),
    }
    result = analyzer(made).run_comparative_analysis(work, fail_if_worse=0.05)
    row = overall(result, "energy_j")
    assert row["verdict"] == "lower" and row["common_model"] is False
    assert "leave it open: ×" in verdict_text(row)
    assert not result["worse"]
    # One model's error is on both sides.
    same = {
        "one": Made(takes(1.0, 10.0, 1, method="model:a", **wide)),
        "two": Made(takes(1.0, 20.0, 2, method="model:a", **wide)),
    }
    result = analyzer(same).run_comparative_analysis(
        work, [(1, 512, n) for n in (1, 2, 3)], fail_if_worse=0.05
    )
    assert "whose error they share" in verdict_text(overall(result, "energy_j"))
    # Each configuration, and all of them.
    assert {one["quantity"] for one in result["worse"]} == {"energy_j"}
    assert sorted(
        one["workers"] or 0 for one in result["worse"] if one["memory_mb"] in (512, None)
    ) == [0, 1, 2, 3]


def test_measured_joules_against_modelled_ones_have_a_warning() -> None:
    made = {
        "one": Made(takes(1.0, 10.0, 1)),
        "two": Made(
            takes(1.0, 20.0, 2, quality="modelled", method="model:x", definition="amortised")
        ),
    }
    result = analyzer(made).run_comparative_analysis(work)
    codes = {one["code"]: one["text"] for one in result["warnings"]}
    assert "unlike-energy" in codes and "energy-definitions" in codes
    assert (
        "counted joules (one) are compared with modelled ones (two)"
        in (codes["measured-against-modelled"])
    )
    assert "model:x" in codes["modelled-joules"]
    assert [one["energy"]["quality"] for one in result["backends"]] == ["measured", "modelled"]
    text(result)


def test_joules_that_nobody_has_are_not_there_and_have_a_reason() -> None:
    made = {"one": Made(takes(1.0, 10.0, 1)), "two": Made(takes(1.0, None, 2))}
    result = analyzer(made).run_comparative_analysis(work)
    two = result["backends"][1]
    assert two["metrics"]["energy_j"] is None and two["reasons"]["energy_j"]
    assert not any(one["quantity"] == "energy_j" for one in result["overall"])
    assert "two: no joules: " in text(result)
    (warning,) = [one for one in result["warnings"] if one["code"] == "not-metered"]
    assert "no call on two carried joules" in warning["text"]
    assert "0 J" not in text(result)


def test_two_configurations_that_differ_alike_are_not_taken_for_a_sample() -> None:
    """Between configurations ratios may differ more than between repetitions."""

    def slower(memory: int, workers: int, job: int) -> list[Call]:
        found = takes(2.0 if workers == 1 else 3.0, 5.0, job)(memory, workers, job)
        assert isinstance(found, list)
        return found

    made = {"one": Made(takes(1.0, 5.0, 99)), "two": Made(slower)}
    result = analyzer(made).run_comparative_analysis(work, [(1, 512, 1), (1, 512, 2)])
    row = overall(result, "cpu_seconds_s")
    assert row["verdict"] == "not told apart" and row["these"]["verdict"] == "lower"
    assert row["these"]["ratio_ci"][0] < 6**-0.5 < row["these"]["ratio_ci"][1]


def test_other_results_have_a_warning() -> None:
    def other(memory: int, workers: int, job: int) -> list[Call]:
        return [one._replace(digest="other") for one in takes(1.0, 5.0, job)(memory, workers, job)]

    made = {"one": Made(takes(1.0, 5.0, 1)), "two": Made(other)}
    result = analyzer(made).run_comparative_analysis(work)
    assert "other-results" in {one["code"] for one in result["warnings"]}


# --- what does not work ----------------------------------------------------------


def test_a_backend_that_is_not_reached_is_named_and_left_out() -> None:
    gone = Made(takes(1.0, 1.0, 1), unreachable="ConnectionError: nobody answers")
    made = {"one": Made(takes(1.0, 10.0, 1)), "gone": gone, "two": Made(takes(1.0, 20.0, 2))}
    result = analyzer(made).run_comparative_analysis(work)
    assert gone.jobs == 0
    assert result["left_out"] == [
        {"backend": "gone", "reason": "it cannot be reached: ConnectionError: nobody answers"}
    ]
    assert {one["backend"] for one in result["backends"]} == {"one", "two"}
    assert "left out: gone" in text(result)


def test_where_no_backend_is_left_each_is_named() -> None:
    made = {
        "one": Made(takes(1.0, 1.0, 1), unreachable="no route"),
        "two": Made(lambda *_: JobError("it broke")),
    }
    with pytest.raises(
        UnavailableError, match=r"one: it cannot be reached: no route; two: .*broke"
    ):
        analyzer(made).run_comparative_analysis(work)
    assert made["two"].jobs == GIVE_UP


def test_a_failing_repetition_is_counted_and_the_others_stand(tmp_path: Path) -> None:
    good = takes(1.0, 10.0, 1)

    def some(memory: int, workers: int, job: int) -> Any:
        calls = good(memory, workers, job)
        if job == 4:
            assert isinstance(calls, list)
            return [calls[0], calls[1]._replace(error="ValueError: boom")]
        return calls

    made = {"one": Made(some), "two": Made(takes(1.0, 10.0, 2))}
    out = tmp_path / "out"
    result = analyzer(made, output=out).run_comparative_analysis(work, [(1, 512, 2)])
    one = result["backends"][0]
    assert one["repetitions"]["used"] == 5 and one["repetitions"]["failed"] == 1
    (failure,) = result["failures"]
    # The first run was the warm-up.
    assert failure["round"] == 3 and failure["failed_calls"] == 1
    assert failure["error"] == "1 of 2 calls: ValueError: boom"
    (kept,) = read_sidecar(out / "work/one.json")["failures"]
    assert kept["error"] == failure["error"] and kept["energy"] == pytest.approx(40.0, rel=0.05)
    assert "5/6" in text(result)


def test_an_interruption_keeps_what_had_ended_and_closes_the_backends(tmp_path: Path) -> None:
    good = takes(1.0, 10.0, 1)

    def some(memory: int, workers: int, job: int) -> Any:
        return KeyboardInterrupt if job == 4 else good(memory, workers, job)

    made = {"one": Made(some), "two": Made(takes(1.0, 10.0, 2))}
    out = tmp_path / "out"
    result = analyzer(made, output=out).run_comparative_analysis(work)
    assert result["run"]["interrupted"] is True
    assert result["backends"][0]["repetitions"]["used"] == 2
    assert all(one.closed for one in made.values())
    assert "interrupted after" in text(result)
    assert len(read_profile(out / "work/one.json")) == 1


# --- order, and what is kept -------------------------------------------------------


def test_every_round_has_every_backend_in_an_order_of_its_own(tmp_path: Path) -> None:
    def order(seed: int | None) -> list[tuple[str, str, int | None]]:
        made = {"one": Made(takes(1.0, 10.0, 1)), "two": Made(takes(1.0, 20.0, 2))}
        result = analyzer(made, seed=seed).run_comparative_analysis(
            work, [(1, 512, 1), (1, 1024, 1)]
        )
        assert result["run"]["seed"] == seed or seed is None
        return [(one["backend"], one["key"], one["round"]) for one in result["run"]["order"]]

    first = order(3)
    assert first == order(3) != order(4)
    for round_ in (None, 1, 2, 3, 4, 5, 6):
        part = [one[:2] for one in first if one[2] == round_]
        assert sorted(part) == [
            (name, key) for name in ("one", "two") for key in ("(1, 1024, 1)", "(1, 512, 1)")
        ]
    assert len({tuple(one[:2] for one in first if one[2] == n) for n in range(1, 7)}) > 1


def test_warm_ups_are_kept_apart() -> None:
    cold = takes(9.0, 90.0, 3, cold=True)
    warm = takes(1.0, 10.0, 1)
    made = {
        "one": Made(lambda m, w, job: cold(m, w, job) if job == 1 else warm(m, w, job)),
        "two": Made(takes(1.0, 10.0, 2)),
    }
    result = analyzer(made).run_comparative_analysis(work)
    assert result["backends"][0]["metrics"]["time_s"]["max"] < 3
    (first, _) = sorted(result["warm_ups"], key=lambda one: -one["time_s"])
    assert first["backend_name"] == "one" and first["cold_calls"] == 1
    made = {"one": Made(takes(1.0, 10.0, 1)), "two": Made(takes(1.0, 10.0, 2))}
    assert analyzer(made, start="as-is").run_comparative_analysis(work)["warm_ups"] == []
    assert made["one"].jobs == 6


def test_another_session_is_added_only_when_it_is_asked_for(tmp_path: Path) -> None:
    def once(seed: int, **options: Any) -> dict[str, Any]:
        made = {"one": Made(takes(1.0, 10.0, seed)), "two": Made(takes(1.0, 20.0, seed + 1))}
        return analyzer(
            made, seed=seed, output=tmp_path / "out", **options
        ).run_comparative_analysis(work)

    once(1)
    with pytest.raises(UnwritableFileError, match="not empty"):
        once(3)
    result = once(5, append=True)
    assert [one["repetitions"]["used"] for one in result["backends"]] == [12, 12]
    rounds = [one for one in result["correlation"] if one["over"] == "rounds"]
    assert {one["n"] for one in rounds} == {12}
    files = read_profiles([tmp_path / "out"])
    assert [one.name for one in files.files] == ["work/one.json", "work/two.json"]
    assert not files.skipped


def test_the_kept_profiles_compare_by_backend_from_the_command_line(tmp_path: Path) -> None:
    made = {"one": Made(takes(1.0, 10.0, 1)), "two": Made(takes(1.0, 20.0, 2))}
    result = analyzer(made, output=tmp_path / "out").run_comparative_analysis(work)
    command = ["compare", str(tmp_path / "out"), "--by", "backend", "--quantity", "energy_j"]
    done = subprocess.run(
        [sys.executable, "-m", "lithowatt", *command, "--json"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    again = json.loads(done.stdout)
    assert overall(again, "energy_j")["ratio"] == overall(result, "energy_j")["ratio"]
    assert (again["command"], again["settings"]["by"]) == ("compare", "backend")


# --- correlation --------------------------------------------------------------------


def rows(values: Sequence[float], **more: Any) -> list[dict[str, Any]]:
    return [
        {"key": f"(1, 512, {at})", "energy_j": value, **more} for at, value in enumerate(values, 1)
    ]


def test_a_planted_correlation_is_found() -> None:
    scipy = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(7)
    x = random.normal(10, 1, 40)
    y = 3 * x + random.normal(0, 2, 40)
    (found,) = correlate_backend_results({"a": rows(x.tolist()), "b": rows(y.tolist())})
    expected = scipy.pearsonr(x, y)
    assert found["pearson"] == pytest.approx(expected.statistic)
    assert found["pearson_ci"] == pytest.approx(list(expected.confidence_interval(0.95)))
    assert found["spearman"] == pytest.approx(scipy.spearmanr(x, y).statistic)
    low, high = found["spearman_ci"]
    assert low < found["spearman"] < high and found["reason"] is None
    assert mean_ranks(np.array([2.0, 2.0, 1.0])).tolist() == [2.5, 2.5, 1.0]


def test_the_interval_of_rank_correlation_covers() -> None:
    random = np.random.default_rng(11)
    rho = 6 / np.pi * np.arcsin(0.6 / 2)
    hits = 0
    for _ in range(400):
        x = random.normal(size=20)
        y = 0.6 * x + 0.8 * random.normal(size=20)
        (found,) = correlate_backend_results({"a": rows(x + 9), "b": rows(y + 9)})
        hits += found["spearman_ci"][0] < rho < found["spearman_ci"][1]
    assert 0.92 <= hits / 400 <= 0.98


def test_what_acts_on_both_in_a_round_is_told_from_what_configurations_differ_by() -> None:
    random = np.random.default_rng(5)
    made: dict[str, list[dict[str, Any]]] = {"a": [], "b": [], "c": []}
    for round_ in range(30):
        shared = random.normal(0, 0.05)
        for workers in (1, 2):
            for name, part in (("a", 1.0), ("b", 1.0), ("c", 0.0)):
                value = workers * 10 * (1 + part * shared + random.normal(0, 0.01))
                made[name].append(
                    {"key": f"(1, 512, {workers})", "round": round_, "energy_j": value}
                )
    found = {(one["a"], one["b"], one["over"]): one for one in correlate_backend_results(made)}
    both, apart = found["a", "b", "rounds"], found["a", "c", "rounds"]
    assert both["n"] == 60 and both["pearson"] > 0.9 and both["pearson_ci"][0] > 0.8
    assert abs(apart["pearson"]) < 0.4
    # Two configurations say nothing.
    assert found["a", "b", "configurations"]["pearson"] is None
    assert "2 pairs of values, 4 needed" in found["a", "b", "configurations"]["reason"]


def test_each_further_configuration_takes_a_degree_of_freedom() -> None:
    random = np.random.default_rng(9)
    made: dict[str, list[dict[str, Any]]] = {"a": [], "b": []}
    left = []
    for workers in range(1, 6):
        some = random.normal(10, 1, (2, 4))
        left.append(some / some.mean(axis=1, keepdims=True))
        for name, values in zip("ab", some.tolist(), strict=True):
            made[name] += [
                {"key": f"(1, 512, {workers})", "round": at, "energy_j": value}
                for at, value in enumerate(values)
            ]
    (found,) = [one for one in correlate_backend_results(made) if one["over"] == "rounds"]
    r = float(np.corrcoef(np.concatenate(left, axis=1))[0, 1])
    half = 1.959964 / (20 - 4 - 3) ** 0.5
    assert found["n"] == 20 and found["pearson"] == pytest.approx(r)
    expected = [np.tanh(np.arctanh(r) - half), np.tanh(np.arctanh(r) + half)]
    assert found["pearson_ci"] == pytest.approx(expected, rel=1e-6)


def test_without_spread_or_scatter_there_is_a_reason() -> None:
    level = correlate_backend_results({"a": rows([1, 2, 3, 4]), "b": rows([5, 5, 5, 5])})[0]
    assert level["pearson"] is None and "all the same" in level["reason"]
    line = correlate_backend_results({"a": rows([1, 2, 3, 4]), "b": rows([2, 4, 6, 8])})[0]
    assert line["pearson"] == pytest.approx(1.0) and line["pearson_ci"] is None
    assert "no interval" in line["reason"]


@pytest.mark.parametrize("wrong", [None, [], {"a": 3}, {"a": ["x"]}, {"runs": [{"key": "x"}]}])
def test_what_are_no_results_is_refused(wrong: Any) -> None:
    with pytest.raises(MalformedValueError, match="results is"):
        correlate_backend_results(wrong)


# --- arguments -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"repetitions": 0},
        {"repetitions": True},
        {"start": "cold"},
        {"timeout": 0},
        {"seed": -1},
        {"backend_configs": {}},
        {"backend_configs": {"../x": None}},
        {"backend_configs": {"x": 7}},
    ],
)
def test_wrong_options_are_refused_by_name(options: dict[str, Any]) -> None:
    name = next(iter(options))
    with pytest.raises(MalformedValueError, match="backend|configuration" if "b" in name else name):
        MultiBackendEnergyAnalyzer(**options)


def test_configurations_may_be_those_of_flexecutor() -> None:
    class StageConfig:
        key = (1.0, 512, 2)

    made = {"one": Made(takes(1.0, 10.0, 1)), "two": Made(takes(1.0, 20.0, 2))}
    result = analyzer(made).run_comparative_analysis(work, [StageConfig(), "(1, 512, 2)"])
    assert result["run"]["configurations"] == ["(1.0, 512, 2)"]


@pytest.mark.parametrize("wrong", ["(1, 512, 1)", [], [(1, 2)], [(1, 512, 0)], [7]])
def test_wrong_configurations_are_refused_before_anything_runs(wrong: Any) -> None:
    made = {"one": Made(takes(1.0, 1.0, 1))}
    with pytest.raises(MalformedValueError, match="configuration"):
        analyzer(made).run_comparative_analysis(work, wrong)
    assert made["one"].jobs == 0


def test_arguments_that_do_not_fit_are_refused_before_anything_runs() -> None:
    made = {"one": Made(takes(1.0, 1.0, 1))}
    with pytest.raises(MalformedValueError, match="the workload takes"):
        analyzer(made).run_comparative_analysis(work, arguments={"m": 1})
    assert made["one"].jobs == 0
    assert bound(lambda x, id, storage: x, [1]) == (1,)
    # Lithops takes names only if there are all of them.
    assert bound(lambda x, y=2: x, {"x": 1}) == {"x": 1, "y": 2}


def test_the_workload_is_found_by_module_or_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some_workload.py").write_text("def run(n): return n\nconstant = 1\n")
    (tmp_path / "broken_workload.py").write_text("1 / 0\n")
    assert load_workload(str(tmp_path / "some_workload.py:run"))(3) == 3
    assert load_workload("some_workload:run")(4) == 4
    for wrong, why in (
        ("some_workload", "is not MODULE:FUNCTION"),
        ("some_workload:no", "has no function no; it has run"),
        ("some_workload:constant", "has no function"),
        ("no_such_module_here:run", "importing no_such_module_here fails"),
        ("./broken_workload.py:run", "ZeroDivisionError"),
        ("a-b.py:run", "there is no such file"),
        ("some_workload:__import__('os')", "is not MODULE:FUNCTION"),
    ):
        with pytest.raises((MalformedValueError, OSError), match=why):
            load_workload(wrong)
    (tmp_path / "json.py").write_text("def run(): pass\n")
    with pytest.raises(MalformedValueError, match="rename the file"):
        load_workload(f"{tmp_path}/json.py:run")


def test_arguments_are_json_or_a_file_of_it(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"n": 3}')
    assert load_arguments(str(tmp_path / "a.json")) == {"n": 3} == load_arguments('{"n": 3}')
    with pytest.raises(MalformedValueError, match="neither JSON nor a file"):
        load_arguments("n=3")
    with pytest.raises(OSError, match="No such file"):
        load_arguments(str(tmp_path / "b.json"))


def test_a_name_means_its_own_file_or_the_section_of_another(tmp_path: Path) -> None:
    own, shared = tmp_path / "own.yaml", tmp_path / "shared.yaml"
    own.write_text("lithops: {backend: localhost}\nlocalhost: {version: 1}\n")
    shared.write_text("lithops: {backend: k8s, storage: minio, mode: serverless}\nlocalhost: {}\n")
    found, missing = configured(
        ["mine", "k8s", "localhost", "aws_lambda", "kubernets"], [f"mine={own}", str(shared)]
    )
    assert [(one.name, one.kind) for one in found] == [
        ("mine", "localhost"),
        ("k8s", "k8s"),
        ("localhost", "localhost"),
    ]
    assert found[0].config["lithops"]["storage"] == "localhost"
    assert found[1].config["lithops"]["mode"] == "serverless"
    # Written for another backend: its mode does not hold for this one.
    assert "mode" not in found[2].config["lithops"]
    assert "has no section aws_lambda" in missing["aws_lambda"]
    assert "no backend of this name" in missing["kubernets"]
    for names, configs in (
        ([], []),
        (["a", "a"], []),
        (["a/b"], []),
        (["a"], [f"b={own}"]),
        (["a"], [f"a={own}", f"a={own}"]),
    ):
        with pytest.raises(MalformedValueError):
            configured(names, configs)
    own.write_text("just a text")
    with pytest.raises(MalformedValueError, match="no mapping"):
        configured(["a"], [f"a={own}"])


def test_what_takes_too_long_is_left_behind() -> None:
    import threading

    forever = threading.Event()
    with pytest.raises(TimeoutError, match="waiting took longer than"):
        within(0.2, forever.wait, "waiting")
    forever.set()
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 / 0, "dividing")
    assert within(5, lambda: 7, "counting") == 7


def test_the_command_tells_what_is_wrong_in_one_line(tmp_path: Path) -> None:
    def tell(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "lithowatt", "compare", *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
        assert done.returncode == 2 and not done.stdout
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr

    assert "expected --workload" in tell()
    assert "--backends needs --workload" in tell("x", "--backends", "localhost")
    assert "give one of them" in tell("x", "--workload", "m:f")
    assert "no backend is named" in tell("--workload", "m:f")
    assert "importing no_module fails" in tell(
        "--workload", "no_module:f", "--backends", "localhost"
    )


def test_backends_are_not_asked_for_by_importing_the_analysis() -> None:
    code = (
        "import sys, lithowatt.analysis as a; a.correlate_backend_results; "
        "print([m for m in sys.modules if m.startswith(('lithops', 'lithowatt.lithops'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_backend_is_a_plain_tuple() -> None:
    assert Backend("a", "localhost", {}, "given").kind == "localhost"


# --- found in review ----------------------------------------------------------


def test_any_quantity_has_its_verdict_in_words() -> None:
    made = {"a": Made(takes(1.0, 5.0, 1)), "b": Made(takes(2.0, 10.0, 2))}
    found = analyzer(made).run_comparative_analysis(
        work, [(1, 512, 1), (1, 512, 2)], quantities=["worker_time_s"]
    )
    said = "\n".join(lines(found))
    assert "a takes less" in said.splitlines()[0], said


def test_unknown_quantities_are_refused_before_anything_runs() -> None:
    made = {"a": Made(takes(1.0, 5.0, 1)), "b": Made(takes(2.0, 10.0, 2))}
    with pytest.raises(MalformedValueError, match=r"expected one of .*time_s"):
        analyzer(made).run_comparative_analysis(work, [(1, 512, 1)], quantities=["no_such_s"])
    assert [one.jobs for one in made.values()] == [0, 0]


def test_the_log_of_a_folder_is_read_by_workload(tmp_path: Path) -> None:
    heads = [{"schema": 1, "workload": name} for name in ("first", "second")]
    rows_ = [{"backend_name": name, "round": 1} for name in ("a", "b")]
    log = [heads[0], rows_[0], heads[1], rows_[1]]
    (tmp_path / "runs.ndjson").write_text("\n".join(map(json.dumps, log)))
    assert list(sessions(tmp_path, "second")) == [heads[1], rows_[1]]
    assert list(sessions(tmp_path)) == log


def test_the_band_of_a_memory_is_of_its_configurations() -> None:
    """The bands of 512 MB are wide and those of 1024 MB narrow: each row has its own."""

    def wide_and_narrow(seed: int) -> Take:
        wide = takes(1.0, 5.0, seed, low=0.5, high=2.0)
        narrow = takes(1.0, 5.0, seed + 1, low=0.99, high=1.01)
        return lambda memory, workers, job: (wide if memory == 512 else narrow)(
            memory, workers, job
        )

    made = {"a": Made(wide_and_narrow(1)), "b": Made(wide_and_narrow(7))}
    keys = [(1, memory, workers) for memory in (512, 1024) for workers in (1, 2)]
    found = analyzer(made).run_comparative_analysis(work, keys, quantities=["energy_j"])
    bands = {row["memory_mb"]: row["ratio_band"] for row in found["overall"]}
    assert bands[512][0] < 0.35 and bands[512][1] > 3
    assert bands[1024][0] > 0.9 and bands[1024][1] < 1.1


def test_another_order_of_backends_has_verdicts_too(tmp_path: Path) -> None:
    """The order of the last session decides, and what is worse is told in it."""
    made = {"a": Made(takes(1.0, 5.0, 1)), "b": Made(takes(2.0, 10.0, 2))}
    where = {"output": str(tmp_path / "out")}
    keys = [(1, 512, 1), (1, 512, 2)]
    first = analyzer(made, **where).run_comparative_analysis(work, keys, fail_if_worse=0.05)
    assert first["settings"]["baseline"] == "a" and first["worse"]
    turned = dict(reversed(made.items()))
    second = analyzer(turned, append=True, **where).run_comparative_analysis(
        work, keys, fail_if_worse=0.05
    )
    assert second["settings"]["baseline"] == "b" and second["verdicts"]
    assert {row["a"]["label"] for row in second["verdicts"]} == {"b"}
    assert second["worse"] == []
