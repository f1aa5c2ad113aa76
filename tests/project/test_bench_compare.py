"""Results of benches as JSON, and what `make bench-compare` says of two of them."""

from __future__ import annotations

import importlib
import json
import random
import re
import statistics
import subprocess
from pathlib import Path
from typing import Any

import pytest

import lithowatt
from tests.project.test_release_check import tool
from tests.support import TOP

compare = tool("bench_compare")
results = compare.results
Figure = results.Figure


def written(path: Path, *figures: Any, bench: str = "x", **machine: Any) -> Path:
    """A file of results; `machine` is what differs of this one."""
    results.write(path, bench, figures)
    record = json.loads(path.read_text())
    record["machine"] |= machine
    path.write_text(json.dumps(record))
    return path


def shown(capsys: pytest.CaptureFixture[str], before: list[Path], after: list[Path]) -> str:
    arguments = ["--before", *map(str, before), "--after", *map(str, after)]
    assert compare.main(arguments) == 0
    return capsys.readouterr().out


def line(text: str, name: str) -> list[str]:
    """The cells of a figure's row."""
    [found] = [one for one in text.splitlines() if one.startswith(f"{name}  ")]
    return re.split(r"  +", found)


# -- the file ------------------------------------------------------------------------------------


def test_a_file_says_which_commit_on_which_machine(tmp_path: Path) -> None:
    figure = Figure("pair", "µs", 9.5, 0.25, 30)
    results.write(tmp_path / "r.json", "growth", [figure], {"turns": 5})
    record = json.loads((tmp_path / "r.json").read_text())
    assert record["bench"] == "growth"
    assert record["options"] == {"turns": 5}
    assert record["lithowatt"] == lithowatt.__version__
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", record["date"])
    assert set(record["machine"]) == {*compare.MACHINE, "load"}
    assert len(record["machine"]["load"]) == 3
    assert record["figures"] == [
        {"name": "pair", "unit": "µs", "value": 9.5, "spread": 0.25, "n": 30, "against": None}
    ]
    assert results.read(tmp_path / "r.json")["figures"] == [figure]


def test_the_commit_has_a_plus_where_the_checkout_was_changed(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        name = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        command = ["git", "-C", str(tmp_path), *name, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert results.commit(tmp_path) is None
    git("init", "-q")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-qm", "a")
    commit = git("rev-parse", "HEAD")
    found = results.commit(tmp_path)
    assert found is not None and commit.startswith(found)
    (tmp_path / "a").write_text("2")
    assert results.commit(tmp_path) == f"{found}+"


def test_a_processor_without_a_name_is_its_architecture(tmp_path: Path) -> None:
    (tmp_path / "x86").write_text("processor\t: 0\nmodel name\t: Xeon 8480+\nflags\t: fpu\n")
    (tmp_path / "arm").write_text("processor\t: 0\nBogoMIPS\t: 50.00\n")
    assert results._cpu_model(tmp_path / "x86") == "Xeon 8480+"
    assert results._cpu_model(tmp_path / "arm") in ("x86_64", "aarch64")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "no JSON"),
        ("[]", "no result of a bench"),
        ('{"date": "2026-11-30"}', "no result of a bench"),
        ('{"format": 1}', "no such list of figures"),
        ('{"format": 1, "figures": [{"nome": 1}]}', "no such list of figures"),
    ],
)
def test_what_is_no_result_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    (tmp_path / "r.json").write_text(text)
    file = str(tmp_path / "r.json")
    assert compare.main(["--before", file, "--after", file]) == 2
    assert said in capsys.readouterr().err


def test_two_figures_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one name: pair"):
        results.write(tmp_path / "r.json", "x", [Figure("pair", "s", 1), Figure("pair", "s", 2)])
    assert not (tmp_path / "r.json").exists()


# -- the spread ----------------------------------------------------------------------------------


def test_the_interval_of_a_median_by_order_statistics() -> None:
    # 6: P(all on one side) = 2/64 < 5 %. 60: as tables of the sign test have it.
    assert results.interval(range(1, 7)) == (1, 6)
    assert results.interval(range(60, 0, -1)) == (22, 39)
    figure = results.figure("x", "s", range(1, 61), against="y")
    assert figure == Figure("x", "s", 30.5, 8.5, 60, "y")


def test_few_measurements_have_students_interval() -> None:
    low, high = results.interval([1.0, 2.0, 3.0])
    assert (low + high) / 2 == pytest.approx(2.0)
    assert (high - low) / 2 == pytest.approx(4.303 / 3**0.5, rel=1e-3)
    assert results.interval([1.0]) is None
    assert results.figure("x", "s", [1.0]).spread is None
    with pytest.raises(ValueError, match="nothing was measured"):
        results.figure("x", "s", [])


@pytest.mark.parametrize("n", [5, 6, 7, 20, 61])
def test_the_interval_holds_the_median_nineteen_times_of_twenty(n: int) -> None:
    draw = random.Random(n)
    held = 0
    for _ in range(2000):
        low, high = results.interval([draw.gauss(0, 1) for _ in range(n)])
        held += low <= 0 <= high
    assert 0.935 <= held / 2000 <= 0.99


# -- the comparison ------------------------------------------------------------------------------


def test_ratios_and_what_is_beyond_the_noise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = written(
        tmp_path / "a",
        Figure("halved", "µs", 10.0, 0.5, 60),
        Figure("more", "ms", 1.0, 0.02, 60),
        Figure("same", "ms", 1.0, 0.1, 60),
        Figure("once", "MB", 2.0),
        Figure("gone", "MB", 2.0),
    )
    b = written(
        tmp_path / "b",
        Figure("halved", "µs", 5.0, 0.5, 60),
        Figure("more", "ms", 1.2, 0.02, 60),
        Figure("same", "ms", 1.1, 0.1, 60),
        Figure("once", "MB", 3.0),
    )
    text = shown(capsys, [a], [b])
    # Three figures are judged: 5 % of the table is 5/3 % of a figure, 2.394 standard errors.
    noise = 2.394 / 1.96 * (0.5**2 + 0.5**2) ** 0.5 / 10
    assert line(text, "halved") == ["halved", "10.0", "5.00", "µs", "0.500", f"{noise:.4f}", "less"]
    assert line(text, "more")[4:] == ["1.200", "0.0345", "more"]
    assert line(text, "same")[4:] == ["1.100", "0.173"]
    assert line(text, "once")[4:] == ["1.500", "–", "?"]
    assert "2 of 4 figures changed by more than the noise; of 1 (?)" in text
    assert "1 figures are not in all of the files" in text


def test_what_is_added_may_be_negative(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = written(tmp_path / "a", Figure("added", "ms", -0.1, 0.2, 60))
    b = written(tmp_path / "b", Figure("added", "ms", 0.5, 0.2, 60))
    cells = line(shown(capsys, [a], [b]), "added")
    assert cells == ["added", "-0.100", "0.500", "ms", "–", "0.283 ms", "more"]


def test_several_runs_hold_what_runs_differ_by(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Within a run nothing moves, from run to run a tenth."""
    before = [
        written(tmp_path / f"a{n}", Figure("pair", "µs", value, 0.001, 60))
        for n, value in enumerate((1.0, 1.1, 0.9))
    ]
    after = [
        written(tmp_path / f"b{n}", Figure("pair", "µs", value, 0.001, 60))
        for n, value in enumerate((1.05, 1.15, 0.95))
    ]
    assert line(shown(capsys, before[:1], after[:1]), "pair")[-1] == "more"
    cells = line(shown(capsys, before, after), "pair")
    noise = 1.96 * (2 * statistics.variance((1.0, 1.1, 0.9)) / 3) ** 0.5
    assert cells[4:] == ["1.050", f"{noise:.3f}"]


def test_unchanged_tables_seldom_show_a_change() -> None:
    """Of 300 tables of 40 figures without any change one in twenty shows one."""
    draw = random.Random(1)
    shows = 0
    for _ in range(300):
        sides = [
            {
                "figures": [
                    results.figure(str(n), "s", [draw.gauss(10, 1) for _ in range(60)])
                    for n in range(40)
                ]
            }
            for _ in range(2)
        ]
        rows = compare.compare(sides[:1], sides[1:])
        assert len(rows) == 40
        shows += any(row.verdict for row in rows)
    assert 0 < shows / 300 < 0.10


# -- what is refused -----------------------------------------------------------------------------


def test_other_machines_are_refused_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figure = Figure("pair", "µs", 1.0, 0.1, 60)
    a = written(tmp_path / "a", figure, cpu="Xeon 8480+", load=[9, 9, 9])
    b = written(tmp_path / "b", figure, cpu="EPYC 9654", load=[0, 0, 0])
    arguments = ["--before", str(a), "--after", str(b)]
    assert compare.main(arguments) == 2
    error = capsys.readouterr().err
    assert "cpu: Xeon 8480+, EPYC 9654" in error
    assert "load" not in error
    assert compare.main([*arguments, "--other-machine"]) == 0
    text = capsys.readouterr().out
    assert "another machine, cpu: Xeon 8480+, EPYC 9654" in text
    assert line(text, "pair")[4] == "1.000"


def test_other_benches_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figure = Figure("pair", "µs", 1.0, 0.1, 60)
    a = written(tmp_path / "a", figure, bench="growth")
    b = written(tmp_path / "b", figure, bench="ebpf")
    assert compare.main(["--before", str(a), "--after", str(b)]) == 2
    assert "ebpf, growth" in capsys.readouterr().err


def test_files_without_a_common_figure_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = written(tmp_path / "a", Figure("x", "µs", 1.0))
    b = written(tmp_path / "b", Figure("y", "µs", 1.0))
    assert compare.main(["--before", str(a), "--after", str(b)]) == 2
    assert "no figure that all of these files have" in capsys.readouterr().err


BENCHES = sorted(path.stem for path in (TOP / "benches" / "python").glob("*.py"))


@pytest.mark.parametrize("bench", [b for b in BENCHES if b not in ("results", "probe")])
def test_every_bench_writes_results(bench: str) -> None:
    text = (TOP / "benches" / "python" / f"{bench}.py").read_text()
    assert "    results.argument(parser)\n" in text
    assert re.search(rf'results.write\((options|arguments).json, "{bench}", ', text)


# -- what a bench makes of its measurements ------------------------------------------------------


def test_what_is_added_to_a_lithops_call_is_the_median_of_pairs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(TOP / "benches" / "python")
    bench = importlib.import_module("lithops_overhead")

    task, function, merging = bench.TASK, bench.FUNCTION, bench.MERGING
    # The machine gets slower: a difference of medians would hold that.
    slower = [0.001 * n for n in range(1, 8)]
    alone = [{task: 0.010 + s, function: 0.001, merging: 0.0001} for s in slower]
    new = [
        {**one, task: one[task] + 0.002, function: 0.0015, merging: 0.0005, "worker_func_x": "y"}
        for one in alone
    ]
    found = {
        "alone": {"stats": alone, "pss": [10_000], "lines": 5},
        "new": {"stats": new, "pss": [10_000 + 1_000_000 / 1024], "lines": 6},
    }
    figures = {one.name: one for one in bench.calls_figures("3.8.0", 1, found)}
    added = figures["3.8.0 v1: task, new added"]
    assert (added.unit, added.n, added.against) == ("ms", 7, "alone")
    assert added.value == pytest.approx(2.0)
    assert added.spread == pytest.approx(0.0, abs=1e-9)
    assert figures["3.8.0 v1: task, alone"].value == pytest.approx(14.0)
    assert figures["3.8.0 v1: function, new added"].value == pytest.approx(0.5)
    assert figures["3.8.0 v1: merging, new added"].value == pytest.approx(0.4)
    assert figures["3.8.0 v1: keys, new added"].value == 1
    assert figures["3.8.0 v1: bytes, new added"].value == len('{"worker_func_x": "y"}')
    assert figures["3.8.0 v1: lines at INFO, new added"].value == 1
    memory = figures["3.8.0 v1: memory (PSS) of worker and function, new added"]
    assert (memory.unit, memory.value) == ("MB", pytest.approx(1.0))
    row = bench.calls_table(list(figures.values()), ["new"]).splitlines()[-1]
    assert row == (
        "| 3.8.0 v1 | 7 | 14.00 ± 3.00 | 2.00 ± 0.00 | 0.50 ± 0.00 | 0.40 ± 0.00 | 22 | 1.00 |"
    )


def test_each_kind_is_the_first_of_a_round_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(TOP / "benches" / "python")
    bench = importlib.import_module("lithops_overhead")

    orders = list(bench.turns(["alone", "old", "new"], 4))
    assert [order[0] for order in orders] == ["alone", "old", "new", "alone"]
    assert all(sorted(order) == ["alone", "new", "old"] for order in orders)
