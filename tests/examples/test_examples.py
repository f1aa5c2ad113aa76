"""The workloads run, are right, leave nothing behind, and say what they used.

Tiny sizes. With FLEXECUTOR_SRC, the folder of a FlexExecutor checkout, they run
on FlexExecutor, too.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lithowatt.profiles._runs import read_profiles
from rig import Rig
from tests.support import TOP

pytestmark = [pytest.mark.lithops, pytest.mark.slow]

ROOT = TOP
FLEXECUTOR = os.environ.get("FLEXECUTOR_SRC")

#: Options, packages, and the stages with the calls that two workers come to.
WORKLOADS: dict[str, tuple[str, tuple[str, ...], dict[str, int]]] = {
    "monte_carlo_pi": ("--points 100000", (), {"count_inside": 2}),
    "ml_pipeline": (
        "--rows 600 --models 3 --trees 5",
        ("sklearn",),
        {"pca": 1, "train": 2, "aggregate": 1, "test": 1},
    ),
    "titanic": ("--trees 10", ("sklearn",), {"train": 2, "evaluate": 1}),
    "video": (
        "--segment 60 --every 60",
        ("cv2", "skvideo"),
        {"split": 2, "frames": 2, "sharpen": 2, "classify": 2},
    ),
    "data_analytics": ("--megabytes 1", (), {"generate": 2, "map": 2, "reduce": 1}),
}

FAILING = """
import sys
from examples._common.command import main
from examples._common.workflow import Data, Outcome, Stage, Workload, WrongResultError

IN, OUT = Data("in", ".txt"), Data("out", ".txt")

def stage(ctx):
    [path] = ctx.get_input_paths("in")
    text = open(path).read()
    if text == "raise":
        raise KeyError("no such luck")
    open(ctx.next_output_path("out"), "w").write(text)

def prepare(setup, folder):
    (folder / "a.txt").write_text(sys.argv[1])
    return {"in": [folder / "a.txt"]}

def check(setup, files):
    raise WrongResultError("two and two are five")

sys.exit(main(Workload(
    name="failing", title="Fails.", sizes=(), needs={}, results=(OUT,), check=check,
    prepare=prepare, stages=lambda setup: [Stage("only", stage, (IN,), (OUT,))],
), ["--workers", "1", "--reps", "1", "--engine", sys.argv[2], "--output", sys.argv[3]]))
"""

ENGINES = [
    "lithops",
    pytest.param(
        "flexecutor",
        marks=pytest.mark.skipif(
            FLEXECUTOR is None, reason="FLEXECUTOR_SRC is not set: FlexExecutor is not on PyPI"
        ),
    ),
]


@pytest.fixture(autouse=True)
def _needs_lithops() -> None:
    pytest.importorskip("lithops", reason="the workloads need lithops")


def run(
    *command: str, folder: Path, engine: str = "lithops", **env: str
) -> subprocess.CompletedProcess[str]:
    """Runs Python in the repository, with a temporary and a home folder of its own."""
    for name in ("home", "tmp"):
        (folder / name).mkdir(exist_ok=True)
    path = [str(ROOT)]
    if engine == "flexecutor" and FLEXECUTOR is not None:
        path += [FLEXECUTOR, str(Path(FLEXECUTOR) / "flexecutor")]
    settings = {
        **os.environ,
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "PYTHONPATH": os.pathsep.join(path),
        "PYTHONDONTWRITEBYTECODE": "1",
        **env,
    }
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=settings,
        capture_output=True,
        text=True,
        timeout=400,
    )


def workload(
    name: str, *options: str, folder: Path, engine: str = "lithops", **env: str
) -> dict[str, Any]:
    """Runs a workload with --json; returns what it says."""
    size, needs, _ = WORKLOADS[name]
    for module in needs:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"no {module}: pip install '.[examples]'")
    arguments = ["-m", f"examples.{name}", "--output", str(folder / "out"), "--json"]
    arguments += ["--engine", engine, *size.split(), *options]
    done = run(*arguments, folder=folder, engine=engine, **env)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report == json.loads((folder / "out" / "runs.json").read_text("utf-8"))
    return report


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", WORKLOADS)
def test_a_workload(name: str, engine: str, tmp_path: Path) -> None:
    report = workload(
        name, "--workers", "2", "--reps", "1", "--memory", "512", folder=tmp_path, engine=engine
    )

    _, _, stages = WORKLOADS[name]
    assert report["engine"] == engine
    [seen] = report["runs"]
    assert {stage: len(calls) for stage, calls in seen["stages"].items()} == stages
    assert seen["result"]
    for calls in seen["stages"].values():
        for call in calls:
            assert call["joules_low"] <= call["joules"] <= call["joules_high"]
            assert call["joules"] > 0
            assert call["cpu_seconds"] > 0
            assert call["quality"] in ("measured", "attributed", "modelled")
            # What is between the phases is little, and part of the call.
            assert 0 < sum(call["phase_joules"].values()) <= call["joules"] * 1.001
            assert call["phase_joules"]["compute"] > 0
            assert call["phase_seconds"]["compute"] > 0
    dag = name + WORKLOADS[name][0].replace(" --", "-").replace("--", "-").replace(" ", "-")
    for stage, workers in stages.items():
        profile = json.loads((tmp_path / "out" / "profiling" / dag / f"{stage}.json").read_text())
        assert list(profile) == ["(1, 512, 2)"]
        metrics = profile["(1, 512, 2)"]
        for metric in ("read", "compute", "write", "cold_start", "energy", "energy_compute"):
            [repetition] = metrics[metric]
            assert len(repetition) == workers
            assert all(value is not None for value in repetition)
        assert metrics["energy"][0] == [call["joules"] for call in seen["stages"][stage]]
    assert list((tmp_path / "tmp").iterdir()) == []
    assert list((tmp_path / "home").iterdir()) == []


def test_configurations_and_repetitions_agree_on_the_result(tmp_path: Path) -> None:
    report = workload("data_analytics", "--workers", "1,3", "--reps", "2", folder=tmp_path)
    runs = [(seen["workers"], seen["repetition"]) for seen in report["runs"]]
    assert runs == [(1, 1), (1, 2), (3, 1), (3, 2)]
    assert all(seen["result"] == report["runs"][0]["result"] for seen in report["runs"])

    # The next command adds to the profiles.
    workload("data_analytics", "--workers", "3", "--reps", "1", folder=tmp_path)
    path = tmp_path / "out/profiling/data_analytics-megabytes-1/map.json"
    profile = json.loads(path.read_text())
    assert {key: [len(row) for row in metrics["energy"]] for key, metrics in profile.items()} == {
        "(1, 2048, 1)": [1, 1],
        "(1, 2048, 3)": [3, 3, 3],
    }


def test_runs_of_other_sizes_have_profiles_of_their_own(tmp_path: Path) -> None:
    for points in ("100000", "200000"):
        workload("monte_carlo_pi", "--workers", "1", "--points", points, folder=tmp_path)
    found = sorted((tmp_path / "out" / "profiling").iterdir())
    assert [folder.name for folder in found] == [
        "monte_carlo_pi-points-100000",
        "monte_carlo_pi-points-200000",
    ]
    for folder in found:
        sidecar = json.loads((folder / "count_inside.json.energy").read_text())
        (record,) = sidecar["configurations"]["(1, 2048, 1)"]
        assert record["input_size"] == f"points {folder.name.rpartition('-')[2]}"
    profiles = read_profiles([tmp_path / "out"])
    assert {file.label.workload for file in profiles.files} == {folder.name for folder in found}


def test_the_summary(tmp_path: Path) -> None:
    arguments = ["--points", "200000", "--workers", "1,2", "--reps", "1", "--engine", "lithops"]
    done = run(
        "-m",
        "examples.monte_carlo_pi",
        *arguments,
        "--output",
        str(tmp_path / "out"),
        folder=tmp_path,
    )

    assert done.returncode == 0, done.stderr
    assert "workers 1, run 1: pi is about 3.1" in done.stdout
    assert "workers 2, run 1: pi is about 3.1" in done.stdout
    for heading in ("calls", "read J"):  # joules of a stage, then those of its phases
        [table] = [block for block in done.stdout.split("\n\n") if heading in block.split("\n")[0]]
        assert table.count("count_inside") == 2, table
    machine = done.stdout.split("machine J")[1]
    assert "machine = idle" in machine or "The machine's total is not known: " in machine
    assert done.stderr.count("repetition 1 of 1") == 2


def test_where_the_joules_of_a_simulated_machine_went(live: None, tmp_path: Path) -> None:
    with Rig(idle_watts=20, gain=30, gamma=1.0, step_us=2000) as rig:
        began = time.monotonic_ns()
        report = workload(
            "monte_carlo_pi",
            *("--workers", "2", "--reps", "1", "--points", "24000000", "--root", str(rig.root)),
            folder=tmp_path,
            LITHOWATT_IDLE_WATTS="23",  # packages, and 15 % of it in memory
        )
        truth = rig.energy(began, time.monotonic_ns())

    [seen] = report["runs"]
    machine, functions = seen["machine"], seen["functions"]["joules_marginal"]
    assert machine["unavailable"] is None
    assert machine["joules"] < truth.machine
    assert machine["joules"] > 20 * machine["seconds"]
    assert machine["idle_joules"] == pytest.approx(23 * machine["seconds"], rel=0.02)
    parts = (
        machine["idle_joules"]
        + functions
        + machine["driver_and_lithops_joules"]
        + machine["others_joules"]
    )
    assert parts == pytest.approx(machine["joules"], rel=1e-6)
    # The functions are most of what this command used above idle.
    assert 0 < functions < truth.active
    assert functions > machine["driver_and_lithops_joules"] > 0


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("what", "said"),
    [("raise", "no such luck"), ("finish", "wrong result: two and two are five")],
)
def test_a_failure_is_one(what: str, said: str, engine: str, tmp_path: Path) -> None:
    script = tmp_path / "failing.py"
    script.write_text(FAILING, "utf-8")
    done = run(str(script), what, engine, str(tmp_path / "out"), folder=tmp_path, engine=engine)

    assert done.returncode == 1
    assert said in done.stderr.splitlines()[-1]
    assert done.stderr.splitlines()[-1].startswith("failing: ")
    assert done.stdout == ""
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--workers 0", "each must be from 1"),
        ("--workers two", "not a list of numbers"),
        ("--reps 0", "at least 1"),
        ("--memory 512,", "not a list of numbers"),
        ("--backend clouds", "this Lithops has"),
        ("--storage nowhere", "this Lithops has"),
        ("--root /nonexistent", "no proc directory"),
        ("--points 0", "at least 1"),
        ("--samples 10 --workers 1,2", "--points"),
        ("--engine none", "invalid choice"),
        ("--output /proc/nothing", "--output /proc/nothing: "),
        ("--workrs 1", "unrecognized arguments"),
    ],
)
def test_a_bad_option_is_one_line(options: str, said: str, tmp_path: Path) -> None:
    done = run(
        "-m",
        "examples.monte_carlo_pi",
        "--output",
        str(tmp_path / "out"),
        *options.split(),
        folder=tmp_path,
    )

    assert done.returncode == 2
    assert said in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_more_workers_than_passengers(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="no sklearn: pip install '.[examples]'")
    options = ("--workers", "30", "--engine", "lithops", "--output", str(tmp_path / "out"))
    done = run("-m", "examples.titanic", *options, folder=tmp_path)

    assert done.returncode == 2
    assert "--workers 30: 982 passengers are enough for 24 workers" in done.stderr
