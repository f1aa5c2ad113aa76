"""Real Lithops jobs on localhost: each call carries its energy and is otherwise untouched.

A job is run once with Lithops alone and once with lithowatt installed; what
the client saw of both is compared call by call.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lithowatt.stats import ESSENTIAL, spelt
from lithowatt.worker.task_window import KEYS as TASK_KEYS
from tests.support import TOP
from tests.support.lithops_environments import RELEASES, metered, plain, run_python, run_scenarios
from tests.support.lithops_outcomes import SILENT, portable

Seen = dict[str, Any]
ENERGY = "worker_func_energy_"

#: Calls whose function comes to an end that Python sees, however bad.
REPORTING = [
    "success",
    "returns_none",
    "raises",
    "raises_unpicklable",
    "returns_unpicklable",
    "big_result",
    "system_exit",
    "keyboard_interrupt",
    "injected",
    "takes_object",
    "prints",
    "child_returns_too",
    "child_does_the_work",
    "callable_object",
    "method",
    "partial",
    "map-0",
    "map-1",
    "map-2",
    "map-3",
]

SCENARIOS = [name for name in REPORTING if not name.startswith("map-")]
SCENARIOS += [*SILENT, "handler_threads", "lithowatt_loaded", "map"]

#: v1 runs job after job, so it gets those that differ in who forks whom, and
#: not the one that hangs.
SCENARIOS_V1 = [
    "success",
    "returns_none",
    "raises",
    "system_exit",
    "os_exit",
    "killed",
    "injected",
    "prints",
    "child_does_the_work",
    "handler_threads",
    "lithowatt_loaded",
    "map",
]

#: Release of Lithops and generation of its localhost backend. Both releases
#: run with two worker processes: v2 starts an interpreter per call, v1 one per
#: job, which forks where the job has more than one call.
CONFIGURATIONS = [(release, version) for release in RELEASES for version in (2, 1)]


def plan(version: int, scenarios: list[str] = SCENARIOS, **more: Any) -> Seen:
    if version == 1:
        scenarios = [name for name in scenarios if name in SCENARIOS_V1]
    localhost = {"version": version, "worker_processes": 2}
    return {"scenarios": scenarios, "localhost": localhost, **more}


Configuration = tuple[str, int]


class Jobs(dict[Configuration, Seen]):
    """What the client saw of every scenario, by configuration; each is run when it is asked for."""

    def __init__(self, run: Callable[[Configuration], Seen]) -> None:
        self._run = run

    def __missing__(self, configuration: Configuration) -> Seen:
        self[configuration] = self._run(configuration)
        return self[configuration]


@pytest.fixture(scope="module")
def pythons(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The metered interpreter of a release."""
    home = tmp_path_factory.mktemp("metered")
    return functools.cache(lambda release: metered(release, home / release))


@pytest.fixture(scope="module")
def jobs(pythons: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Jobs:
    """With lithowatt installed."""

    def run(configuration: Configuration) -> Seen:
        release, version = configuration
        home = tmp_path_factory.mktemp(f"hook-{release}-v{version}")
        return run_scenarios(pythons(release), plan(version), home)

    return Jobs(run)


@pytest.fixture(scope="module")
def plain_jobs(tmp_path_factory: pytest.TempPathFactory) -> Jobs:
    """With Lithops alone."""

    def run(configuration: Configuration) -> Seen:
        release, version = configuration
        for _ in range(3):
            home = tmp_path_factory.mktemp(f"plain-{release}-v{version}")
            seen = run_scenarios(plain(release), plan(version), home)
            # Lithops' client may read a status file while the worker writes it: no outcome then.
            if all(one["error"] != "JSONDecodeError" for one in seen.values()):
                break
        return seen

    return Jobs(run)


pytestmark = [pytest.mark.lithops, pytest.mark.slow]


each_configuration = pytest.mark.parametrize(
    "configuration", CONFIGURATIONS, ids=lambda one: f"{one[0]}-v{one[1]}"
)


def cases(scenarios: list[str]) -> list[Any]:
    """Each of the scenarios in each of the configurations that run it."""
    return [
        pytest.param(
            configuration,
            name,
            id=f"{configuration[0]}-v{configuration[1]}-{name}",
        )
        for configuration in CONFIGURATIONS
        for name in scenarios
        if configuration[1] == 2 or name.split("-")[0] in SCENARIOS_V1
    ]


@pytest.mark.parametrize(("configuration", "scenario"), cases(REPORTING))
def test_a_function_that_ends_reports_its_own_window(jobs, configuration, scenario):
    stats = jobs[configuration][scenario]["stats"]

    assert stats[ENERGY + "consumption"] > 0
    assert stats[ENERGY + "low"] <= stats[ENERGY + "consumption"] <= stats[ENERGY + "high"]
    assert stats[ENERGY + "quality"] in ("measured", "attributed", "modelled")
    assert "task window" not in stats[ENERGY + "method"]
    # All of them burn 0.05 s of CPU time, some of which the sampler's thread uses.
    assert stats[ENERGY + "duration"] >= 0.045
    upstream = stats.get("worker_func_exec_time")
    if upstream is not None:
        assert stats[ENERGY + "duration"] <= upstream + 0.001


@each_configuration
def test_the_window_is_the_functions(jobs, configuration):
    """It fills upstream's, but for what starting and stopping the meter takes."""
    calls = [
        jobs[configuration][name]["stats"] for name in REPORTING if name in jobs[configuration]
    ]
    waits = [
        stats["worker_func_exec_time"] - stats[ENERGY + "duration"]
        for stats in calls
        if "worker_func_exec_time" in stats
    ]
    # On a busy machine a call may be kept waiting there, too; not each of them.
    assert not waits or min(waits) < 0.25


@pytest.mark.parametrize(("configuration", "scenario"), cases(SILENT))
def test_a_function_that_dies_is_covered_by_the_task_window(jobs, configuration, scenario):
    stats = jobs[configuration][scenario]["stats"]

    # 0.3 s of one CPU were burnt, under any model more than a hundredth of a joule.
    assert stats[ENERGY + "consumption"] > 0.01
    assert 0 <= stats[ENERGY + "low"] <= stats[ENERGY + "consumption"]
    assert stats[ENERGY + "method"].endswith("(task window)")
    assert stats[ENERGY + "quality"] in ("attributed", "modelled")
    assert stats[ENERGY + "duration"] >= (2.0 if scenario == "timed_out" else 0.3)
    assert any("ended without reporting" in text for text in stats[ENERGY + "warnings"])


@each_configuration
def test_the_client_sees_the_same_outcome(jobs, plain_jobs, configuration):
    for name, expected in plain_jobs[configuration].items():
        if name == "lithowatt_loaded":
            continue
        seen = jobs[configuration][name]
        for part in ("result", "error", "frames"):
            assert seen[part] == expected[part], name
        assert portable(seen["message"]) == portable(expected["message"]), name
        assert portable(seen["log"]) == portable(expected["log"]), name


@each_configuration
def test_upstreams_stats_are_all_there_and_ours_are_apart(jobs, plain_jobs, configuration):
    for name, expected in plain_jobs[configuration].items():
        seen = jobs[configuration][name]["stats"]
        assert expected["stats"].keys() <= seen.keys(), name
        ours = seen.keys() - expected["stats"].keys()
        ourselves = ("worker_func_", "worker_processor_", "worker_task_")
        assert all(key.startswith(ourselves) for key in ours), name
        for key, value in expected["stats"].items():
            assert type(seen[key]) is type(value), (name, key)


@each_configuration
def test_values_keep_their_types(jobs, configuration):
    stats = jobs[configuration]["success"]["stats"]

    assert isinstance(stats[ENERGY + "warnings"], list)
    assert any(value is None for value in stats.values())
    assert isinstance(stats["worker_func_rapl_available"], bool)


@each_configuration
def test_the_handler_gets_no_thread_before_the_fork(jobs, plain_jobs, configuration):
    threads = jobs[configuration]["handler_threads"]["result"]
    assert threads == plain_jobs[configuration]["handler_threads"]["result"]


@each_configuration
def test_calls_of_one_job_have_values_of_their_own(jobs, configuration):
    stats = [jobs[configuration][f"map-{index}"]["stats"] for index in range(4)]

    assert len({call[ENERGY + "consumption"] for call in stats}) == 4
    assert len({call[ENERGY + "duration"] for call in stats}) == 4


@each_configuration
def test_the_work_of_the_functions_children_counts(jobs, configuration):
    seen = jobs[configuration]
    # 0.4 s of CPU in a child against 0.05 s in the function itself; above
    # idle, because the share of idle power goes by the clock.
    child = seen["child_does_the_work"]["stats"][ENERGY + "marginal"]
    assert child > 3 * seen["returns_none"]["stats"][ENERGY + "marginal"]


SWITCH = ["success", "raises", "killed", "lithowatt_loaded"]


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("word", ["false", "OFF"])
def test_switched_off_the_stats_are_upstreams(pythons, plain_jobs, tmp_path, release, word):
    seen = run_scenarios(
        pythons(release), plan(2, SWITCH), tmp_path, ENERGY_MONITORING_ENABLED=word
    )

    assert seen["lithowatt_loaded"]["result"] is False
    for name in SWITCH:
        assert seen[name]["stats"].keys() == plain_jobs[release, 2][name]["stats"].keys()


@pytest.mark.parametrize("release", RELEASES)
def test_switched_off_for_one_job_by_extra_env(pythons, plain_jobs, tmp_path, release):
    off = {"ENERGY_MONITORING_ENABLED": "no"}
    seen = run_scenarios(pythons(release), plan(1, SWITCH, extra_env=off), tmp_path)

    for name in SWITCH:
        assert seen[name]["stats"].keys() == plain_jobs[release, 1][name]["stats"].keys()


@pytest.mark.parametrize("release", RELEASES)
def test_essential_stats_by_extra_env(pythons, plain_jobs, tmp_path, release):
    """One job asks for them; what is killed is reported in the same form."""
    small = {"ENERGY_STATS": "essential"}
    names = ["success", "killed"]
    seen = run_scenarios(pythons(release), plan(1, names, extra_env=small), tmp_path)

    allowed = {spelling for key in ESSENTIAL for spelling in spelt(key)} | set(TASK_KEYS)
    for name in names:
        stats = seen[name]["stats"]
        ours = stats.keys() - plain_jobs[release, 1][name]["stats"].keys()
        assert ours <= allowed
        assert None not in [stats[key] for key in ours]
        assert stats[ENERGY + "consumption"] > 0
        assert stats[ENERGY + "low"] < stats[ENERGY + "consumption"] < stats[ENERGY + "high"]
        assert stats["worker_task_cold_start"] in (True, False)


@pytest.mark.parametrize("release", RELEASES)
def test_the_example_prints_joules_per_call(pythons, tmp_path, release):
    example = TOP / "examples" / "monte_carlo_pi.py"
    arguments = ("--calls", "3", "--samples", "200000")
    done = run_python(pythons(release), str(example), *arguments, directory=tmp_path)

    assert done.returncode == 0, done.stderr
    assert "pi is about 3.1" in done.stdout
    rows = [line for line in done.stdout.splitlines() if re.match(r" +\d+ +\d*\.?\d+ ", line)]
    assert len(rows) == 3
    assert all(float(row.split()[3]) > 0 for row in rows)
    assert re.search(r"J .*sum of 3 of 3 calls", done.stdout)
