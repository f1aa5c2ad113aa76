"""The pytest plugin, by real runs of pytest."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

# Loaded before the runs within this process: each forgets what it imported.
from lithowatt._pytest import budget, metering, results
from lithowatt.analysis import intervals  # noqa: F401
from lithowatt.pytest_plugin import MARKER
from tests.support import TOP

pytest_plugins = ["pytester"]

BUSY = """
import time
import pytest

def busy(seconds=0.1):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
"""


class Runs:
    """Runs pytest on a file of tests."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        # By its entry point where lithowatt is installed as a wheel, else by its name.
        self.loading = [] if _has_entry_point() else ["-p", "lithowatt.pytest_plugin"]

    def __call__(
        self, tests: str, *options: str, before: list[str] | None = None, apart: bool = False
    ) -> Any:
        self.pytester.makepyfile(test_it=BUSY + tests)
        run = self.pytester.runpytest_subprocess if apart else self.pytester.runpytest_inprocess
        return run(*(before or []), *self.loading, "-p", "no:cacheprovider", *options)

    def json(self, name: str) -> dict[str, Any]:
        return json.loads((self.pytester.path / name).read_text())

    def tests(self, name: str = "e.json") -> dict[str, dict[str, Any]]:
        return {one["nodeid"].partition("::")[2]: one for one in self.json(name)["tests"]}


def _has_entry_point() -> bool:
    from importlib.metadata import entry_points

    return any(one.name == "lithowatt" for one in entry_points(group="pytest11"))


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Runs:
    monkeypatch.setenv("ENERGY_METHODS", "model")
    return Runs(pytester)


def test_it_is_off_until_it_is_asked_for(run: Runs) -> None:
    done = run("def test_a(): pass\n")
    done.assert_outcomes(passed=1)
    assert "energy of tests" not in done.stdout.str()
    program = """
import sys, pytest
class Shown:
    def pytest_unconfigure(self):
        print("loaded:", *sorted(one for one in sys.modules if one.startswith("lithowatt")))
pytest.main(sys.argv[1:], plugins=[Shown()])
"""
    done = run.pytester.run(sys.executable, "-c", program, *run.loading, "test_it.py")
    loaded = re.search(r"^loaded: (.*)$", done.stdout.str(), re.M)
    assert loaded is not None
    assert loaded[1].split() == ["lithowatt", "lithowatt._support", "lithowatt.pytest_plugin"]


def test_a_line_a_test_the_sum_and_where_it_is_from(run: Runs) -> None:
    done = run(
        "def test_much(): busy()\n"
        "def test_little(): pass\n"
        "def test_fails(): busy(0.05); assert 0\n"
        "def test_is_skipped(): pytest.skip('why')\n"
        "@pytest.mark.skip(reason='why')\n"
        "def test_never_runs(): pass\n",
        "--lithowatt-energy",
        "--lithowatt-json=e.json",
        "--lithowatt-top=2",
    )
    done.assert_outcomes(passed=2, failed=1, skipped=2)
    done.stdout.fnmatch_lines(
        [
            "=* energy of tests =*",
            "* J  95 % band *  W  *  s  test",
            "*0.* .. *  test_it.py::test_much",
            "*0.* .. *  test_it.py::test_fails (failed)",
            "and 2 tests that used less",
            "sum of 4 tests: * J [[]* .. *], modelled: model:*",
            "marginal: energy above idle, in the tests' calls; setup and teardown of fixtures",
            "  do not count",
        ]
    )
    summary = done.stdout.str().partition("energy of tests")[2].splitlines()
    assert max(len(line) for line in summary if not line.startswith("written: ")) <= 80
    data, tests = run.json("e.json"), run.tests()
    assert (data["schema"], data["version"]) == ("lithowatt-pytest", 1)
    assert {name: one["outcome"] for name, one in tests.items()} == {
        "test_much": "passed",
        "test_little": "passed",
        "test_fails": "failed",
        "test_is_skipped": "skipped",
    }
    much = tests["test_much"]
    assert 0 < much["low_j"] < much["energy_j"] < much["high_j"]
    assert much["cpu_seconds"] == pytest.approx(0.1, rel=0.3)
    assert (much["quality"], much["definition"], much["reason"]) == ("modelled", "marginal", None)
    assert data["sum_j"] == pytest.approx(sum(one["energy_j"] for one in tests.values()))
    assert data["sum_high_j"] == pytest.approx(sum(one["high_j"] for one in tests.values()))


def test_fixtures_do_not_count(run: Runs) -> None:
    run(
        "@pytest.fixture\n"
        "def dear():\n    busy(0.3)\n    yield\n    busy(0.3)\n"
        "def test_a(dear): busy(0.1)\n",
        "--lithowatt-json=e.json",  # asks for the metering, too
    )
    assert run.tests()["test_a"]["cpu_seconds"] < 0.2


def test_the_configuration_can_ask_for_it(run: Runs) -> None:
    run.pytester.makeini("[pytest]\nlithowatt_energy = true\n")
    done = run("def test_a(): pass\n")
    done.stdout.fnmatch_lines(["sum of 1 test: *"])


@pytest.mark.parametrize("options", [["-p", "no:lithowatt-switch"], ["--collect-only"]])
def test_nothing_is_metered_or_shown(run: Runs, options: list[str]) -> None:
    done = run("def test_a(): pass\n", "--lithowatt-energy", *options)
    assert done.ret == 0 and "energy of tests" not in done.stdout.str()


def test_the_marker_is_documented_and_alone_meters_its_test(run: Runs) -> None:
    done = run(
        "@pytest.mark.energy(max_joules=1e6)\ndef test_a(): busy()\ndef test_b(): pass\n",
        "--strict-markers",
    )
    done.assert_outcomes(passed=2)
    done.stdout.fnmatch_lines(["sum of 1 test: *", "budgets: 1 within"])
    done = run.pytester.runpytest(*run.loading, "--markers")
    assert f"@pytest.mark.{MARKER}" in done.stdout.str()


def test_a_marker_of_the_projects_own_is_left_alone(run: Runs) -> None:
    run.pytester.makeini("[pytest]\nmarkers =\n    energy(level): tests of high energy physics\n")
    tests = "@pytest.mark.energy('high')\ndef test_a(): pass\n"
    done = run(tests, "--strict-markers")
    done.assert_outcomes(passed=1)
    assert "energy of tests" not in done.stdout.str()
    run(tests, "--lithowatt-energy").assert_outcomes(errors=1)


def test_a_budget_fails_only_when_it_is_surely_exceeded(run: Runs) -> None:
    run("def test_a(): busy(0.2)\n", "--lithowatt-json=e.json")
    one = run.tests()["test_a"]
    middle, below = one["energy_j"], one["low_j"] / 10
    done = run(
        f"@pytest.mark.energy(max_joules={middle})\ndef test_inside(): busy(0.2)\n"
        f"@pytest.mark.energy(max_joules={below})\ndef test_over(): busy(0.2)\n"
        f"@pytest.mark.energy(max_joules={below})\ndef test_fails(): busy(0.2); assert 0\n"
        f"@pytest.mark.xfail\n"
        f"@pytest.mark.energy(max_joules={below})\ndef test_expected(): busy(0.2)\n",
        "--lithowatt-json=e.json",
    )
    done.assert_outcomes(passed=1, failed=2, xfailed=1)
    verdicts = {
        name: [each["verdict"] for each in one["budgets"]] for name, one in run.tests().items()
    }
    assert verdicts == {
        "test_inside": ["cannot tell"],
        "test_over": ["over"],
        "test_fails": [],
        "test_expected": ["over"],
    }
    done.stdout.fnmatch_lines(
        [
            "energy budget: * J [[]* .. *]; budget * J: all of its band is above",
            "budgets: 2 over, 1 cannot tell",
            "  cannot tell: test_it.py::test_inside: *",
            "*the budget lies inside the band, *",
        ]
    )


@pytest.mark.parametrize("strict", [False, True])
def test_what_is_not_measured_has_its_reason(
    run: Runs, monkeypatch: pytest.MonkeyPatch, strict: bool
) -> None:
    monkeypatch.setenv("ENERGY_MONITORING_ENABLED", "false")
    done = run(
        "@pytest.mark.energy(max_joules=1)\ndef test_a(): pass\n",
        "--lithowatt-json=e.json",
        *(["--lithowatt-strict"] if strict else []),
    )
    done.assert_outcomes(failed=1) if strict else done.assert_outcomes(passed=1)
    one = run.tests()["test_a"]
    assert one["energy_j"] is None and one["quality"] is None
    assert "ENERGY_MONITORING_ENABLED" in one["reason"]
    assert [each["verdict"] for each in one["budgets"]] == ["not measured"]
    assert run.json("e.json")["sum_j"] is None
    # Nothing in between, and the reason once in each place.
    assert re.search(
        r"= energy of tests =+\n"
        r"not measured: .*(?:\n  .*)*\n"
        r"budgets: 1 not measured\n"
        r"  not measured: .*(?:\n    .*)*\n"
        r"written: ",
        done.stdout.str(),
    )


def test_settings_that_are_wrong_are_a_reason_and_no_failure(
    run: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENERGY_METHODS", "guess")
    done = run("def test_a(): pass\n", "--lithowatt-energy")
    done.assert_outcomes(passed=1)
    done.stdout.fnmatch_lines(['not measured: UnknownMethodError: *"guess"*', "*(1 test)"])


def test_what_a_test_does_to_the_environment_is_its_own(run: Runs) -> None:
    run(
        "def test_a(monkeypatch):\n"
        "    monkeypatch.setenv('LITHOWATT_ROOT', '/nowhere')\n"
        "    monkeypatch.setenv('ENERGY_METHODS', 'guess')\n"
        "    busy()\n",
        "--lithowatt-json=e.json",
    )
    assert run.tests()["test_a"]["energy_j"] > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("5", "takes arguments by name"),
        ("max_joule=5", "has no max_joule=; it takes max_joules, baseline, margin, repeats"),
        ("max_joules='5'", "max_joules must be a number, not '5'"),
        ("max_joules=-1", "max_joules must be a finite number of 0 or more, not -1"),
        ("margin=float('nan')", "margin must be a finite number"),
        ("repeats=0", "repeats must be 1 to 1000, not 0"),
        ("repeats=1.5", "repeats must be a whole number, not 1.5"),
        ("baseline=3", "baseline must be a file or a name, not 3"),
        ("baseline='nothing.json'", "No such file"),
        ("baseline='test_it.py'", "no baseline of lithowatt"),
        ("baseline='\\x1b[31m'", r"--lithowatt-baseline, which is not given"),
    ],
)
def test_a_wrong_marker_is_one_error_at_its_test(run: Runs, arguments: str, words: str) -> None:
    if arguments == "baseline='test_it.py'":
        arguments = "baseline='it.json'"
        (run.pytester.path / "it.json").write_text("[]")
    done = run(f"@pytest.mark.energy({arguments})\ndef test_a(): pass\ndef test_b(): pass\n")
    done.assert_outcomes(passed=1, errors=1)
    text = done.stdout.str()
    assert f"@pytest.mark.energy: {words}" in text or re.search(
        rf"@pytest\.mark\.energy: .*{words}", text
    )
    assert "Traceback" not in text and "During handling" not in text and "\x1b[31m" not in text


def test_repeats_are_runs_of_one_test(run: Runs) -> None:
    done = run(
        "calls = []\n"
        "@pytest.mark.energy(repeats=3)\ndef test_a(): calls.append(1); busy(0.05)\n"
        "def test_b(): assert len(calls) == 3\n",
        "--lithowatt-json=e.json",
    )
    done.assert_outcomes(passed=2)
    one = run.tests()["test_a"]
    assert len(one["runs_j"]) == 3
    assert one["energy_j"] == pytest.approx(sum(one["runs_j"]) / 3)
    assert run.json("e.json")["sum_j"] > sum(one["runs_j"])
    done.stdout.fnmatch_lines(["*test_it.py::test_a (mean of 3 runs)"])


def test_a_baseline_is_saved_and_compared(run: Runs) -> None:
    tests = (
        "@pytest.mark.energy(repeats=5)\ndef test_a(): busy({})\n"
        "def test_b(): pass\n"
        "def test_fails(): assert 0\n"
    )
    run(tests.format(0.05), "--lithowatt-save-baseline=b.json")
    assert set(run.tests("b.json")) == {"test_a", "test_b"}
    done = run(tests.format(0.2), "--lithowatt-baseline=b.json", "--lithowatt-json=e.json")
    done.assert_outcomes(passed=1, failed=2)
    (verdict,) = run.tests()["test_a"]["budgets"]
    assert (verdict["kind"], verdict["verdict"], verdict["basis"]) == ("baseline", "over", "runs")
    assert 2 < verdict["ratio_low"] < verdict["ratio"] < verdict["ratio_high"] < 8
    (verdict,) = run.tests()["test_b"]["budgets"]
    assert verdict["basis"] == "band"
    done = run(
        "@pytest.mark.energy(baseline='test_it.py::test_a', repeats=5)\n"
        "def test_new(): busy(0.01)\n"
        "@pytest.mark.energy(baseline='nobody')\ndef test_lost(): pass\n"
        "@pytest.mark.energy(baseline='b.json', margin=1000)\ndef test_b(): pass\n",
        "--lithowatt-baseline=b.json",
        "--lithowatt-json=e.json",
    )
    done.assert_outcomes(passed=3)
    assert run.tests()["test_new"]["budgets"][0]["verdict"] == "within"
    assert run.tests()["test_lost"]["budgets"][0]["verdict"] == "not measured"
    done.stdout.fnmatch_lines(
        ["  not measured: *::test_lost: the baseline has no energy of nobody"]
    )


def test_another_way_of_metering_is_compared_by_bands() -> None:
    now, before = (
        budget.Energy(value, value / 2, value * 2, (0.99 * value, value, 1.01 * value))
        for value in (3.0, 1.0)
    )
    way = ("model:a", "marginal", "cpu")
    verdict = budget.by_baseline(now, before, 0.1, budget.different(way, way))
    assert (verdict.basis, verdict.verdict) == ("runs", "over")
    alike = budget.different(way, ("model:b", "marginal", "cpu"))
    verdict = budget.by_baseline(now, before, 0.1, alike)
    assert (verdict.basis, verdict.verdict) == ("band", "cannot tell")
    assert "another method, model:b" in verdict.text


@pytest.mark.parametrize(
    "content", ["", "{}", '{"schema": "lithowatt-pytest", "version": 9}', "[" * 100_000]
)
def test_a_file_that_is_no_baseline_is_refused_at_the_start(run: Runs, content: str) -> None:
    (run.pytester.path / "b.json").write_text(content)
    done = run("def test_a(): pass\n", "--lithowatt-baseline=b.json", apart=True)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    assert "no baseline of lithowatt" in done.stderr.str()
    assert "Traceback" not in done.stderr.str()


def test_a_file_that_cannot_be_written_fails_no_test(run: Runs) -> None:
    (run.pytester.path / "folder").mkdir()
    done = run(
        "def test_a(): pass\n", "--lithowatt-json=folder", "--lithowatt-save-baseline=new/b.json"
    )
    assert done.ret == 0
    done.stdout.fnmatch_lines(["not written: IsADirectoryError: *", "written: *new/b.json"])
    assert run.tests("new/b.json")


def test_junit_has_valid_properties_whatever_a_test_is_called(run: Runs) -> None:
    done = run(
        "@pytest.mark.energy(max_joules=1e6)\n"
        "@pytest.mark.parametrize('x', ['\\x1b[31m<&\"', '\\u202e'])\n"
        "def test_a(x): pass\n",
        "--lithowatt-energy",
        "--junitxml=j.xml",
        "-o",
        "disable_test_id_escaping_and_forfeit_all_rights_to_community_support=true",
    )
    done.assert_outcomes(passed=2)
    # Within this plugin's lines: what pytest prints of its own is its own.
    section = done.stdout.str().partition("energy of tests")[2]
    assert "\\x1b[31m<&" in section and "\\u202e" in section
    assert "\x1b[31m<" not in section and "\u202e" not in section
    cases = ElementTree.parse(run.pytester.path / "j.xml").iter("testcase")
    found = [{one.get("name"): one.get("value") for one in case.iter("property")} for case in cases]
    assert len(found) == 2
    for properties in found:
        assert float(properties["lithowatt_energy_j"]) >= 0
        assert properties["lithowatt_definition"] == "marginal"
        assert "all of its band is below" in properties["lithowatt_budget_max_joules"]


def test_coroutines_classes_and_unittest(run: Runs) -> None:
    done = run(
        "import asyncio, unittest\n"
        "def test_coroutine():\n"
        "    async def work(): await asyncio.sleep(0.01); busy()\n"
        "    asyncio.run(work())\n"
        "class TestClass:\n"
        "    @pytest.mark.parametrize('x', [1, 2])\n"
        "    def test_a(self, x): busy(0.02)\n"
        "class Old(unittest.TestCase):\n"
        "    def test_b(self): self.assertEqual(1, 1)\n"
        "    def test_c(self):\n"
        "        with self.subTest(): self.assertEqual(1, 1)\n",
        "--lithowatt-json=e.json",
    )
    assert done.ret == 0
    names = {"test_coroutine", "TestClass::test_a[1]", "TestClass::test_a[2]"}
    assert set(run.tests()) == names | {"Old::test_b", "Old::test_c"}


def test_a_test_that_forks_and_one_that_meters_are_left_alone(run: Runs) -> None:
    done = run(
        "import os\n"
        "from lithowatt import EnergyMeter\n"
        "def test_forks():\n"
        "    child = os.fork()\n"
        "    if child == 0: os._exit(0)\n"
        "    assert os.waitpid(child, 0)[1] == 0\n"
        "def test_has_one_thread():\n"
        "    busy(0.5)\n"
        "    with open('/proc/self/status') as file: assert 'Threads:\\t1\\n' in file.read()\n"
        "def test_meters():\n"
        "    with EnergyMeter(interval=None) as meter: busy(0.05)\n"
        "    assert meter.joules > 0\n",
        "--lithowatt-json=e.json",
        "-Werror",
        apart=True,  # this process has the threads of other tests' meters
    )
    done.assert_outcomes(passed=3)


@pytest.mark.slow
def test_workers_of_xdist_send_their_numbers(run: Runs) -> None:
    pytest.importorskip("xdist")
    done = run(
        "@pytest.mark.parametrize('x', range(6))\n"
        "@pytest.mark.energy(max_joules=0 if True else 1)\n"
        "def test_a(x): busy()\n",
        "--lithowatt-json=e.json",
        "--junitxml=j.xml",
        "-n2",
        apart=True,
    )
    done.assert_outcomes(failed=6)
    tests = run.tests()
    assert len(tests) == 6 and {one["worker"] for one in tests.values()} == {"gw0", "gw1"}
    assert all(one["budgets"][0]["verdict"] == "over" for one in tests.values())
    done.stdout.fnmatch_lines(
        ["sum of 6 tests: *", "budgets: 6 over", "2 workers ran at once, each metered by *"]
    )
    assert "lithowatt_energy_j" in (run.pytester.path / "j.xml").read_text()
    done = run(
        "@pytest.mark.energy(max_joules=1e6)\ndef test_a(): pass\ndef test_b(): pass\n",
        "-n2",
        apart=True,
    )
    done.stdout.fnmatch_lines(["sum of 1 test: *", "budgets: 1 within"])


def test_a_projects_own_option_is_no_conflict(run: Runs) -> None:
    """A conftest.py is loaded after the plugins of what is installed."""
    run.pytester.makeconftest(
        "def pytest_addoption(parser):\n"
        "    for name in ('energy', 'energy-json', 'energy-top', 'energy-strict', 'joules'):\n"
        "        parser.addoption(f'--{name}', default='none')\n"
        "    parser.addini('energy', 'of the project')\n"
        "def pytest_report_header(config):\n"
        "    return 'energy of other: ' + config.getoption('energy')\n"
    )
    tests = "def test_a(): pass\n"
    done = run(tests, "--energy=much", apart=True)
    done.assert_outcomes(passed=1)
    done.stdout.fnmatch_lines(["energy of other: much"])
    assert "energy of tests" not in done.stdout.str()
    done = run(tests, "--lithowatt-json=e.json", apart=True)
    done.stdout.fnmatch_lines(["energy of other: none", "sum of 1 test: *"])


@pytest.mark.parametrize("strict", [False, True])
def test_a_budget_that_cannot_be_judged_is_not_kept(
    run: Runs, monkeypatch: pytest.MonkeyPatch, strict: bool
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no verdict")

    monkeypatch.setattr(budget, "by_maximum", broken)
    done = run(
        "@pytest.mark.energy(max_joules=1e6)\ndef test_a(): pass\ndef test_b(): pass\n",
        "--lithowatt-json=e.json",
        *(["--lithowatt-strict"] if strict else []),
    )
    done.assert_outcomes(failed=1, passed=1) if strict else done.assert_outcomes(passed=2)
    (verdict,) = run.tests()["test_a"]["budgets"]
    assert (verdict["kind"], verdict["verdict"]) == ("max_joules", "not measured")
    assert verdict["text"] == "not measured: RuntimeError: no verdict"
    if strict:
        done.stdout.fnmatch_lines(["energy budget: not measured: RuntimeError: no verdict"])


def test_what_cannot_be_kept_has_a_reason(run: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    run("def test_a(): pass\n", "--lithowatt-json=whole.json")

    def broken(_: object) -> None:
        raise RuntimeError("no record")

    monkeypatch.setattr(metering._Window, "record", broken)
    run("def test_a(): pass\n", "--lithowatt-json=e.json")
    one = run.tests()["test_a"]
    assert one["energy_j"] is None and one["reason"] == "RuntimeError: no record"
    assert set(one) == set(run.tests("whole.json")["test_a"])
    assert run.json("e.json")["sum_j"] is None


def test_what_judges_several_runs_is_loaded_before_the_test(run: Runs) -> None:
    done = run(
        "import sys\n"
        "@pytest.mark.energy(repeats=2, max_joules=1e6)\n"
        "def test_a():\n"
        "    assert 'lithowatt.analysis.intervals' in sys.modules\n"
        "    sys.meta_path.clear()\n",
        "--lithowatt-strict",
        apart=True,
    )
    done.assert_outcomes(passed=1)


def test_definitions_are_not_added(run: Runs) -> None:
    def of(definition: str | None, joules: float | None) -> dict[str, Any]:
        one = metering._nothing("none")
        one |= {"worker": None, "processor": None, "definition": definition}
        if joules is not None:
            one |= {"energy_j": joules, "low_j": joules, "high_j": joules, "runs_j": [joules] * 2}
        return {**one, "nodeid": "x", "outcome": "passed"}

    summed = results.Results(run.pytester.parseconfig())
    summed._tests = [of("marginal", 1.0), of("marginal", 2.0), of(None, None)]
    assert summed.total() == (6.0, 6.0, 6.0)
    content = summed.as_json()
    assert (content["sum_j"], content["sum_reason"]) == (6.0, None)
    summed._tests.append(of("amortised", 4.0))
    content = summed.as_json()
    assert [content[f"sum_{end}"] for end in ("j", "low_j", "high_j")] == [None] * 3
    assert content["sum_reason"] == "their definitions differ (amortised, marginal)"
    (line,) = [line for line in summed.lines(0) if "sum of" in line]
    assert line == "no sum of 3 tests: their definitions differ (amortised, marginal)"
    summed._tests = [of("marginal", float("inf"))]
    assert summed.as_json()["tests"][0]["energy_j"] is None


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [((2.0, 1.0, 4.0), "over"), ((0.1, 0.0, 0.2), "cannot tell"), ((0.0, 0.0, 0.0), "within")],
)
def test_to_a_baseline_of_zero_there_is_no_ratio(
    ends: tuple[float, float, float], verdict: str
) -> None:
    before = budget.Energy(0.0, 0.0, 0.0, (0.0, 0.0))
    found = budget.by_baseline(budget.Energy(*ends, (ends[0],) * 2), before, 0.1, None)
    assert found.verdict == verdict and found.basis == "band"
    assert (found.ratio, found.ratio_low, found.ratio_high) == (None, None, None)
    assert (found.budget_j, found.baseline_j) == (0.0, 0.0)
    assert "inf" not in found.text and "no ratio" in found.text


def test_a_baseline_of_zero_costs_no_file(run: Runs) -> None:
    test = "def test_a(): busy(0.05)\n"
    run(test, "--lithowatt-save-baseline=b.json")
    data = run.json("b.json")
    data["tests"][0].update(energy_j=0.0, low_j=0.0, high_j=0.0, runs_j=[0.0])
    (run.pytester.path / "b.json").write_text(json.dumps(data))
    done = run(test, "--lithowatt-baseline=b.json", "--lithowatt-json=e.json")
    done.assert_outcomes(failed=1)
    (verdict,) = run.tests()["test_a"]["budgets"]
    assert verdict["verdict"] == "over" and verdict["ratio_low"] is None


@pytest.mark.slow
def test_groups_of_xdist_are_no_part_of_a_name(run: Runs) -> None:
    pytest.importorskip("xdist")
    tests = (
        "@pytest.mark.xdist_group('one@two')\n"
        "@pytest.mark.parametrize('x', ['a@b'])\n"
        "def test_a(x): busy(0.05)\n"
        "def test_b(): pass\n"
    )
    run(tests, "--lithowatt-save-baseline=b.json", apart=True)
    group = ("-n1", "--dist=loadgroup")
    asked = ("--lithowatt-baseline=b.json", "--lithowatt-json=e.json")
    run(tests, *group, *asked, apart=True)
    assert set(run.tests()) == set(run.tests("b.json")) == {"test_a[a@b]", "test_b"}
    assert all(one["budgets"] for one in run.tests().values())


def test_trouble_is_shown_and_not_obeyed(run: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("\x1b[31mno part")

    monkeypatch.setattr(metering, "Metering", broken)
    done = run("def test_a(): pass\n", "--lithowatt-energy")
    done.assert_outcomes(passed=1)
    done.stdout.fnmatch_lines([r"energy of tests: not metered, RuntimeError: \x1b[[]31mno part"])


def test_a_meter_that_breaks_fails_no_test(run: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        running = False

        def __init__(self, *_: object, **__: object) -> None: ...

        def start(self) -> None:
            raise RuntimeError("no start")

    monkeypatch.setattr(metering, "EnergyMeter", Broken)
    done = run("@pytest.mark.energy(max_joules=1)\ndef test_a(): pass\n", "--lithowatt-json=e.json")
    done.assert_outcomes(passed=1)
    assert run.tests()["test_a"]["reason"] == "RuntimeError: no start"


def test_the_entry_point_is_loaded_without_a_warning(tmp_path: Path) -> None:
    """As pytest finds it in a wheel, with all warnings as errors.

    pytest rewrites the modules of a distribution that has such an entry point, and warns of those
    that were imported before: the hook of the `.pth` is, and the package may be.
    """
    info = tmp_path / "lithowatt-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lithowatt\nVersion: 0\n")
    entry = re.search(
        r"^\[project\.entry-points\.pytest11\]\n(.*)$", (TOP / "pyproject.toml").read_text(), re.M
    )
    assert entry is not None
    (info / "entry_points.txt").write_text(f"[pytest11]\n{entry[1].replace(chr(34), '')}\n")
    files = ["lithowatt/__init__.py", "_lithowatt_hook.py", "lithops_patch/__init__.py"]
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))
    hook = TOP / "lithowatt.data" / "platlib" / "_lithowatt_hook.py"
    (tmp_path / hook.name).write_bytes(hook.read_bytes())
    test = tmp_path / "test_a.py"
    test.write_text("def test_a(): pass\n")
    program = "import _lithowatt_hook, lithowatt, pytest, sys; sys.exit(pytest.main(sys.argv[1:]))"
    done = subprocess.run(
        [
            sys.executable,
            "-Werror",
            "-c",
            program,
            "-Werror",
            "-q",
            "--lithowatt-energy",
            str(test),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(TOP / "python")])}
        if not _has_entry_point()
        else {**os.environ},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "sum of 1 test" in done.stdout
