"""FlexExecutor workflows on real Lithops: each stage call carries its energy.

They run on a stand-in for FlexExecutor and, where `FLEXECUTOR_SRC` names
checkouts of the real one (several separated by `:`), on those, unmodified.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lithowatt.flexecutor import COLUMN_NAMES
from lithowatt.profiles import Configuration, read_profile, read_sidecar
from tests.support import TESTS
from tests.support.lithops_environments import PATIENCE, isolated, plain

pytestmark = [pytest.mark.lithops, pytest.mark.slow]

STANDIN = TESTS / "support" / "flexecutor_standin"
CHECKOUTS = [Path(path) for path in os.environ.get("FLEXECUTOR_SRC", "").split(":") if path]

#: What FlexExecutor itself needs.
NEEDS = ("dataplug", "overrides", "deap", "scipy", "black", "pandas")
MISSING = [name for name in NEEDS if importlib.util.find_spec(name) is None]

CORE = ["read", "compute", "write", "cold_start"]
Seen = dict[str, Any]


if not CHECKOUTS:
    WHY = "FLEXECUTOR_SRC names no checkout of FlexExecutor: the stand-in alone is tested"
elif MISSING:
    WHY = f"FlexExecutor needs {', '.join(MISSING)}, which are not installed"
else:
    WHY = ""

STANDIN_ALONE = [pytest.param(STANDIN, id="stand-in")]
REAL = [pytest.param(path, id=path.name) for path in CHECKOUTS if not WHY]
SOURCES = STANDIN_ALONE + REAL
#: One test says why the real one was not there; the others would only repeat it.
REAL = REAL or [pytest.param(None, id="real", marks=pytest.mark.skip(reason=WHY))]


def command(source: Path, plan: Seen, directory: Path) -> tuple[list[str], dict[str, str]]:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "plan.json").write_text(json.dumps(plan))
    script = str(TESTS / "support" / "flexecutor_scenarios.py")
    path = os.pathsep.join([str(source), str(source / "flexecutor")])
    environment = isolated(directory, PYTHONPATH=path)
    return [sys.executable, script, "plan.json", "seen.json"], environment


def run(source: Path, directory: Path, plan: Seen, **extra: str) -> Seen:
    """Runs the scenario in `directory`; returns what the client saw."""
    arguments, environment = command(source, plan, directory)
    done = subprocess.run(
        arguments,
        env={**environment, **extra},
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    seen: Seen = json.loads((directory / "seen.json").read_text())
    seen["stderr"] = done.stderr
    return seen


def profile_of(directory: Path, stage: str) -> Path:
    return directory / "profiling" / "words" / f"{stage}.json"


def aligned(metrics: dict[str, list[list[Any]]]) -> bool:
    """Whether every column has as many repetitions and workers as `read`."""
    shape = [len(workers) for workers in metrics["read"]]
    return all([len(workers) for workers in column] == shape for column in metrics.values())


SPACE = [[1, 512, 1], [1, 1024, 2], [1, 2048, 3]]


@pytest.fixture(scope="module", params=SOURCES)
def profiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Three configurations, three repetitions each, metered by `install`."""
    directory = tmp_path_factory.mktemp("profiled")
    plan = {"configurations": SPACE, "repetitions": 3, "uninstall": True}
    return request.param, directory, run(request.param, directory, plan)


@pytest.mark.parametrize("stage", ["map", "reduce"])
def test_profiles_have_the_energy_of_every_call(profiled, stage):
    _, directory, seen = profiled
    assert sum(seen["results"]["map"]) == seen["results"]["reduce"][0] == seen["expected"]
    profile = read_profile(profile_of(directory, stage))
    assert list(profile) == [tuple(key) for key in SPACE]
    for configuration, metrics in profile.items():
        assert set(CORE) | set(COLUMN_NAMES) <= set(metrics)
        assert aligned(metrics)
        actual = configuration.workers if stage == "map" else 1
        assert [len(workers) for workers in metrics["read"]] == [actual] * 3
        for repetition in range(3):
            for worker in range(actual):
                call = {name: column[repetition][worker] for name, column in metrics.items()}
                assert 0 <= call["energy_low"] <= call["energy"] <= call["energy_high"]
                assert call["energy"] > 0
                assert call["energy_quality"] in ("measured", "attributed", "modelled")
                phases = [call[f"energy_{phase}"] for phase in ("read", "compute", "write")]
                assert all(phase is not None and phase >= 0 for phase in phases)
                assert 0.5 * call["energy"] < sum(phases) <= 1.001 * call["energy"]
                assert call["cpu_time"] > 0
                assert call["cpu_architecture"] and call["cpu_cores_logical"] > 0
                assert call["worker_time_execution"] >= call["read"] + call["compute"]
    if stage == "map":
        busy = [v for row in profile[Configuration(1, 512, 1)]["cpu_time"] for v in row]
        assert all(0.05 <= seconds < 1 for seconds in busy)


def test_what_is_not_measured_is_none_and_never_zero(profiled):
    _, directory, _ = profiled
    metrics = read_profile(profile_of(directory, "map"))[Configuration(1, 1024, 2)]
    for name in ("ebpf_energy_pkg", "ebpf_energy_cores", "ebpf_energy_total"):
        assert metrics[name] == [[None, None]] * 3
    for name in (*COLUMN_NAMES, *CORE):
        for workers in metrics[name]:
            assert all(value is None or isinstance(value, (int, float, str)) for value in workers)
    for name in ("rapl_energy_cores", "perf_energy_cores"):
        assert all(value is None or value > 0 for row in metrics[name] for value in row)


def test_the_sidecar_tells_units_hardware_and_workers(profiled):
    _, directory, _ = profiled
    sidecar = read_sidecar(profile_of(directory, "reduce"))
    assert sidecar["units"]["energy"].startswith("J")
    assert sidecar["units"]["TDP"].startswith("J")
    assert sidecar["failures"] == []
    assert list(sidecar["configurations"]) == [Configuration(*key).key for key in SPACE]
    records = sidecar["configurations"]["(1, 2048, 3)"]
    assert len(records) == 3
    metrics = read_profile(profile_of(directory, "reduce"))[Configuration(1, 2048, 3)]
    for record, energies in zip(records, metrics["energy"], strict=True):
        assert (record["requested_workers"], record["actual_workers"]) == (3, 1)
        assert record["energy"] == pytest.approx(math.fsum(energies))
        assert record["hardware"][0]["workers"] == 1
        assert record["hardware"][0]["cpu_name"]
        assert (record["dag"], record["backend"]) == ("words", "localhost")


def test_timings_are_complete_and_the_same_each_time(profiled):
    _, _, seen = profiled
    assert seen["times"] == seen["times_again"]
    for calls in seen["times"].values():
        for call in calls:
            assert set(COLUMN_NAMES) <= set(call)
            assert call["energy"] > 0 and call["cold_start"] >= 0


def test_uninstall_leaves_nothing(profiled):
    _, _, seen = profiled
    before, after, *modules = seen["uninstalled"]
    assert (before, after) == (True, False)
    assert not any(module.startswith("lithowatt") for module in modules)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("mode", ["auto", "class", "both", "copy", "environment"])
def test_other_ways_in_give_the_same_profile(source, mode, tmp_path):
    plan = {"mode": mode, "configurations": [[1, 512, 2]], "repetitions": 1, "uninstall": True}
    extra = {"LITHOWATT_FLEXECUTOR": "1"} if mode == "environment" else {}
    seen = run(source, tmp_path, plan, **extra)
    _, after, *modules = seen["uninstalled"]
    assert not after and not any(module.startswith("lithowatt") for module in modules)
    metrics = read_profile(profile_of(tmp_path, "map"))[Configuration(1, 512, 2)]
    assert set(CORE) | set(COLUMN_NAMES) <= set(metrics)
    assert all(value > 0 for value in metrics["energy"][0])
    assert len(read_sidecar(profile_of(tmp_path, "map"))["configurations"]) == 1


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("mode", ["install", "class"])
def test_execute_with_profiling(source, mode, tmp_path):
    run(source, tmp_path, {"mode": mode, "with_profiling": 2})
    # The memory is FlexExecutor's choice, and not the same in each.
    [(configuration, metrics)] = read_profile(profile_of(tmp_path, "map")).items()
    assert configuration.workers == 2
    assert all(value > 0 for value in metrics["energy"][0])
    assert len(metrics["read"]) == 1


@pytest.mark.parametrize("source", SOURCES)
def test_a_metered_executor_alone_is_enough_for_the_times(source, tmp_path):
    seen = run(source, tmp_path, {"mode": "meter", "workers": 2})
    for call in seen["times"]["map"]:
        assert call["energy"] > 0 and call["energy_compute"] > 0
    assert not (tmp_path / "profiling").exists()


@pytest.mark.parametrize("source", SOURCES)
def test_switched_off_everything_is_as_without(source, tmp_path):
    plan = {"configurations": [[1, 512, 1]], "repetitions": 1}
    off = run(source, tmp_path / "off", plan, ENERGY_MONITORING_ENABLED="false")
    run(source, tmp_path / "without", {**plan, "mode": "none"}, ENERGY_MONITORING_ENABLED="no")
    assert off["install"] is False
    files = [profile_of(tmp_path / name, "map") for name in ("off", "without")]
    with_, without = (json.loads(file.read_text()) for file in files)
    assert {k: list(v) for k, v in with_.items()} == {k: list(v) for k, v in without.items()}
    assert not files[0].with_name("map.json.energy").exists()


@pytest.mark.parametrize("source", SOURCES)
def test_functions_that_say_nothing_or_send_their_context_away(source, tmp_path):
    for function in ("nothing", "sends"):
        seen = run(source, tmp_path / function, {"function": function, "workers": 2})
        assert "error" not in seen
        assert all(call["energy"] > 0 for call in seen["times"]["map"])
        results = seen["results"]["map"]
        assert results == [None, None] if function == "nothing" else sum(results) == 5000


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("function", ["raises", "killed", "exits"])
def test_a_failed_stage_fails_as_without_and_loses_nothing(source, function, tmp_path):
    good = {"configurations": [[1, 512, 2]], "repetitions": 1}
    run(source, tmp_path, good)
    before = profile_of(tmp_path, "map").read_bytes()
    bad = {**good, "function": function}
    seen = run(source, tmp_path, bad)
    assert seen["error"]
    plainly = run(source, tmp_path / "plain", {**bad, "mode": "none"})
    assert seen["error"][0] == plainly["error"][0]
    if function == "raises":
        assert seen["error"] == plainly["error"] == ["ValueError", "no more words"]
    assert profile_of(tmp_path, "map").read_bytes() == before
    failures = read_sidecar(profile_of(tmp_path, "map"))["failures"]
    assert [f["stage"] for f in failures] == ["map"]
    assert failures[0]["configuration"] == "(1, 512, 2)"
    assert failures[0]["calls"] == 2
    known = failures[0]["calls_with_energy"]
    assert known >= 1 and failures[0]["energy_known"] > 0
    assert failures[0]["energy"] == (failures[0]["energy_known"] if known == 2 else None)
    assert failures[0]["error"].startswith(seen["error"][0])
    # The repetition before is still told of.
    assert len(read_sidecar(profile_of(tmp_path, "map"))["configurations"]["(1, 512, 2)"]) == 1


@pytest.mark.parametrize("source", SOURCES)
def test_a_failed_run_that_is_for_no_profile_leaves_no_files(source, tmp_path):
    seen = run(source, tmp_path, {"function": "raises", "workers": 1})
    assert seen["error"] == ["ValueError", "no more words"]
    assert not (tmp_path / "profiling").exists()


@pytest.mark.parametrize("source", SOURCES)
def test_what_earlier_stages_of_a_failed_run_used_is_kept(source, tmp_path):
    plan = {"configurations": [[1, 512, 2]], "repetitions": 1, "reduce": "raises_at_last"}
    run(source, tmp_path, plan)
    [first] = read_sidecar(profile_of(tmp_path, "map"))["failures"]
    [last] = read_sidecar(profile_of(tmp_path, "reduce"))["failures"]
    assert first["error"] == "not in the profile: stage reduce failed"
    assert (first["calls"], first["calls_with_energy"]) == (2, 2) and first["energy"] > 0
    assert last["error"] == "ValueError: nothing adds up" and last["energy"] > 0
    assert not profile_of(tmp_path, "map").exists()


@pytest.mark.parametrize("source", SOURCES)
def test_of_a_broken_diamond_every_stage_that_ran_is_told(source, tmp_path):
    plan = {"diamond": "bad", "configurations": [[1, 512, 2]], "repetitions": 1}
    seen = run(source, tmp_path, plan)
    assert seen["error"] == ["ValueError", "a broken branch"]
    for stage in ("root", "good", "bad"):
        assert not profile_of(tmp_path, stage).exists()
        [failure] = read_sidecar(profile_of(tmp_path, stage))["failures"]
        assert failure["calls"] == 2 and failure["energy_known"] > 0, stage
        assert failure["energy_definition"] and failure["energy_method"]
        if stage != "bad":
            assert failure["error"] == "not in the profile: stage bad failed"
            assert failure["calls_with_energy"] == 2 and failure["energy"] > 0
    assert not profile_of(tmp_path, "leaf").with_name("leaf.json.energy").exists()


#: Checkouts that bring their own Lithops, whose handler has a meter of its own.
OWN_LITHOPS = [
    pytest.param(path, id=path.name)
    for path in CHECKOUTS
    if not WHY and (path / "lithops_fork").is_dir()
]
WHY_NOT = WHY or "no checkout in FLEXECUTOR_SRC has a Lithops of its own"
OWN_LITHOPS = OWN_LITHOPS or [pytest.param(None, id="none", marks=pytest.mark.skip(reason=WHY_NOT))]


@pytest.mark.parametrize("source", OWN_LITHOPS)
@pytest.mark.parametrize("mode", ["auto", "class", "meter"])
def test_on_the_forks_own_lithops_joules_are_the_stages_own(source, mode, tmp_path):
    plan = {"mode": mode, "version": 1, "burn": 0.3}
    if mode == "meter":
        plan["workers"] = 2
    else:
        plan |= {"configurations": [[1, 512, 2]], "repetitions": 1}
    path = os.pathsep.join(str(source / name) for name in (".", "flexecutor", "lithops_fork"))
    seen = run(source, tmp_path, plan, PYTHONPATH=path)
    assert "error" not in seen
    calls = seen["times"]["map"]
    for call in calls:
        # Its handler leaves percent times CPU seconds of the host since boot: millions of joules.
        assert 0.01 < call["energy"] < 200
        assert call["energy_low"] <= call["energy"] <= call["energy_high"]
        assert call["energy_method"] and call["energy_quality"]
        assert 0.5 * call["energy"] < call["energy_compute"] <= call["energy"]
        assert 0.25 < call["cpu_time"] < 3
        assert call["TDP"] == pytest.approx(call["energy"], rel=2)
    if mode != "meter":
        metrics = read_profile(profile_of(tmp_path, "map"))[Configuration(1, 512, 2)]
        assert metrics["energy"] == metrics["RAPL"] == [[call["energy"] for call in calls]]


@pytest.mark.parametrize("source", SOURCES)
def test_a_profile_that_is_cut_off_is_named_and_left_alone(source, tmp_path):
    file = profile_of(tmp_path, "map")
    file.parent.mkdir(parents=True)
    cut = '{"(1, 512, 1)": {"read": [[0.1], [0.2'
    file.write_text(cut)
    seen = run(source, tmp_path, {"configurations": [[1, 512, 1]], "repetitions": 1})
    kind, text = seen["error"]
    assert kind == "MalformedValueError"
    assert "map.json is cut off at line 1" in text and "move it away" in text
    assert file.read_text() == cut
    assert [path.name for path in file.parent.iterdir()] == ["map.json"]


@pytest.mark.parametrize("source", SOURCES)
def test_an_older_profile_goes_on_and_its_gaps_are_none(source, tmp_path):
    file = profile_of(tmp_path, "map")
    file.parent.mkdir(parents=True)
    old = {
        "(1, 512, 2)": {
            "read": [[0.1, 0.2], [0.3, 0.4]],
            "compute": [[1.0, 1.1], [1.2, 1.3]],
            "write": [[0.0, 0.0], [0.0, 0.0]],
            "cold_start": [[2.0, 2.0], [2.0, 2.0]],
            # A column of somebody's, and one of ours that began late.
            "colour": [["red", "blue"], ["red", "blue"]],
            "energy": [[7.0, 8.0]],
        },
        "(1, 256, 1)": {"read": [[9.0]], "compute": [[9.0]], "write": [[9.0]], "cold_start": [[9]]},
    }
    file.write_text(json.dumps(old))
    run(source, tmp_path, {"configurations": [[1, 512, 2]], "repetitions": 1})
    profile = read_profile(file)
    metrics = profile[Configuration(1, 512, 2)]
    assert aligned(metrics)
    assert metrics["read"][:2] == old["(1, 512, 2)"]["read"] and len(metrics["read"]) == 3
    assert metrics["colour"] == [["red", "blue"], ["red", "blue"], [None, None]]
    assert metrics["energy"][:2] == [[7.0, 8.0], [None, None]]
    assert all(value > 0 for value in metrics["energy"][2])
    assert profile[Configuration(1, 256, 1)] == old["(1, 256, 1)"]
    records = read_sidecar(file)["configurations"]["(1, 512, 2)"]
    assert records[:2] == [None, None] and records[2]["actual_workers"] == 2


@pytest.mark.parametrize("source", SOURCES)
def test_two_executors_on_one_profile_lose_nothing_of_each_other(source, tmp_path):
    running = []
    for number in range(2):
        plan = {
            "configurations": [[1, 512, 1], [1, 512 + number, 2]],
            "repetitions": 2,
            "bucket": f"words-{number}",
        }
        arguments, environment = command(source, plan, tmp_path / f"client-{number}")
        # Each has its own storage and plan; the profiles are one folder.
        (tmp_path / "profiling").mkdir(exist_ok=True)
        link = tmp_path / f"client-{number}" / "profiling"
        link.symlink_to(tmp_path / "profiling")
        running.append(
            subprocess.Popen(
                arguments,
                env=environment,
                cwd=tmp_path / f"client-{number}",
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    for process in running:
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, errors
    profile = read_profile(profile_of(tmp_path, "map"))
    counts = {key.key: len(metrics["read"]) for key, metrics in profile.items()}
    assert counts == {"(1, 512, 1)": 4, "(1, 512, 2)": 2, "(1, 513, 2)": 2}
    for metrics in profile.values():
        assert aligned(metrics)
        assert all(value > 0 for row in metrics["energy"] for value in row)
    records = read_sidecar(profile_of(tmp_path, "map"))["configurations"]
    assert {key: len(value) for key, value in records.items()} == counts
    assert all(record and record["energy"] for value in records.values() for record in value)


def plain_python(source: Path) -> Path:
    """An interpreter with what this FlexExecutor needs, and without lithowatt."""
    needs = ("cloud-dataplug==1.0.2", "overrides", "scipy", "pandas") if source != STANDIN else ()
    return plain("3.8.0", *needs)


@pytest.mark.parametrize("source", SOURCES)
def test_a_worker_without_the_wheel_gives_an_estimate_of_the_client(source, tmp_path):
    plan = {
        "runtime": str(plain_python(source)),
        "configurations": [[1, 512, 2]],
        "repetitions": 1,
        "burn": 0.2,
    }
    seen = run(source, tmp_path, plan)
    assert sum(seen["results"]["map"]) == seen["expected"]
    assert seen["times"] == seen["times_again"]
    for call in seen["times"]["map"]:
        assert call["energy_quality"] == "modelled"
        assert call["energy_method"] == "model:client"
        assert call["energy_low"] <= call["energy"] <= call["energy_high"]
        assert call["energy"] > 0
        # Nothing that nobody measured, and none of the prototype's zeros.
        for name in ("energy_compute", "cpu_time", "TDP", "perf_energy_cores", "cpu_name"):
            assert call[name] is None, name
    metrics = read_profile(profile_of(tmp_path, "map"))[Configuration(1, 512, 2)]
    assert metrics["energy_method"] == [["model:client"] * 2]


@pytest.mark.parametrize("source", REAL)
def test_schedulers_train_as_before(source, tmp_path):
    names = ["ditto", "caerus", "jolteon"]
    # Jolteon fits four parameters to the compute times, so five configurations.
    space = [[1, 512, 1], [1, 512, 2], [1, 1024, 2], [1, 2048, 3], [1, 2048, 4]]
    plan = {"configurations": space, "repetitions": 2, "burn": 0.2}
    run(source, tmp_path / "metered", plan)
    train = {"mode": "none", "train": names, "schedule": ["ditto", "caerus"], "workers": 1}
    metered = run(source, tmp_path / "metered", train)["trained"]
    stripped = tmp_path / "stripped"
    for stage in ("map", "reduce"):
        content = json.loads(profile_of(tmp_path / "metered", stage).read_text())
        original = {
            key: {name: value for name, value in metrics.items() if name not in _ours(metrics)}
            for key, metrics in content.items()
        }
        file = profile_of(stripped, stage)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(original))
    before = run(source, stripped, train)["trained"]
    for name in names:
        if "error" in before[name]:
            # The prototype's analytic model trains on a column that its profiles lack.
            assert before[name]["error"] == "KeyError: 'RAPL'"
            assert "error" not in metered[name]
        else:
            assert metered[name]["parameters"] == pytest.approx(before[name]["parameters"])
            assert metered[name]["workers"] == before[name]["workers"]


def _ours(metrics: dict[str, Any]) -> set[str]:
    """The columns that FlexExecutor did not write itself."""
    theirs = set(CORE)
    if "RAPL_wrong" in metrics:  # the prototype's fork has some of the same names
        theirs |= {"time_consumption", "worker_time_execution", "measurement_energy", "RAPL_wrong"}
        theirs |= {"TDP", "psutil_cpu_percent", "aws_cpu", "cpu_name", "cpu_architecture"}
        theirs |= {"cpu_cores_physical", "cpu_cores_logical", "ebpf_energy_pkg"}
        theirs |= {f"{method}_energy_cores" for method in ("perf", "rapl", "ebpf")}
    return set(metrics) - theirs


def test_on_a_machine_with_counters_the_calls_share_its_joules(live, tmp_path):
    from rig import Rig

    with Rig(packages=2, domains=("package", "dram"), idle_watts=20, gain=30) as rig:
        plan = {"configurations": [[1, 512, 2]], "repetitions": 1, "burn": 0.4}
        seen = run(STANDIN, tmp_path, plan, LITHOWATT_ROOT=str(rig.root))
    calls = seen["times"]["map"]
    for call in calls:
        assert call["energy_quality"] in ("attributed", "measured")
        assert call["energy_method"].startswith("rapl")
        assert call["energy"] < call["machine_energy"]
        # The shares of the domains are shares of the call's own energy.
        assert call["rapl_energy_total"] == pytest.approx(call["energy"], rel=0.02)
        assert 0 < call["rapl_energy_pkg"] < call["rapl_energy_total"]
        assert call["rapl_energy_cores"] is None
        parts = call["energy_marginal"] + call["machine_energy_idle"]
        assert parts + call["machine_energy_others"] == pytest.approx(call["machine_energy"])
    # Two calls at once: what both are charged is no more than the machine used
    # while either ran.
    longest = max(call["machine_energy"] for call in calls)
    assert sum(call["energy_marginal"] for call in calls) < 2 * longest
