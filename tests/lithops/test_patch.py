"""`python -m lithops_patch` on real releases of Lithops: patch, job, revert; a pasted snippet.

Each works on a copy of its own of Lithops' sources; the wheel's hook is installed beside it.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import lithops_patch
from lithops_patch import TARGETS, Refused, State
from lithops_patch.__main__ import main
from lithowatt.cli import lithops as lithops_cli
from lithowatt.lithops import _status
from tests.support.lithops_environments import (
    MATRIX,
    layer,
    plain,
    run_python,
    run_scenarios,
    site_packages,
    stacked,
)
from tests.support.lithops_outcomes import SILENT, portable

pytestmark = [pytest.mark.lithops, pytest.mark.slow]

LITHOPS = TARGETS["lithops"]
SERVED_BY_THE_HOOK = ("3.1.0", "3.1.1")
PATCHED = [release for release in MATRIX if release not in SERVED_BY_THE_HOOK]
#: One release of each shape of the worker.
SHAPES = ("3.6.4", "3.8.0")

ENERGY, TASK = "worker_func_energy_", "worker_task_energy_"


def sources(release: str, directory: Path) -> Path:
    """A copy of a release's package in a directory, without anything compiled."""
    ignore = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(layer(release) / "lithops", directory / "lithops", ignore=ignore))


def contents(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*.py"))
    }


@pytest.mark.parametrize("release", PATCHED)
def test_in_and_out_to_the_byte_in_a_checkout(release: str, tmp_path: Path) -> None:
    sources(release, tmp_path)
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost", "-C", str(tmp_path)]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "as released"]):
        subprocess.run([*git, *command], check=True)
    unchanged = [*git, "diff", "--exit-code", "--stat"]

    assert main(["check", "--path", str(tmp_path)]) == 1
    assert main(["apply", "--path", str(tmp_path)]) == 0
    assert main(["check", "--path", str(tmp_path)]) == 0
    once = contents(tmp_path)
    assert subprocess.run(unchanged, capture_output=True).returncode == 1
    for name in ("handler", "jobrunner"):
        compile(once[f"lithops/worker/{name}.py"], name, "exec")
    assert main(["apply", "--path", str(tmp_path)]) == 0
    assert contents(tmp_path) == once
    assert main(["revert", "--path", str(tmp_path)]) == 0
    assert subprocess.run(unchanged, capture_output=True).returncode == 0
    assert main(["revert", "--path", str(tmp_path)]) == 0
    assert subprocess.run(unchanged, capture_output=True).returncode == 0


@pytest.mark.parametrize("release", SERVED_BY_THE_HOOK)
def test_what_the_hook_serves_is_refused(
    release: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources(release, tmp_path)
    before = contents(tmp_path)
    assert main(["check", "--path", str(tmp_path)]) == 2
    assert main(["apply", "--path", str(tmp_path)]) == 2
    assert "the hook of the installed wheel meters them" in capsys.readouterr().err
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("handler", "jrp.start()", "jrp.run()"),
        ("handler", "jrp.join(task.execution_timeout)", "jrp.join()"),
        ("handler", "jrp.start()", "jrp.start()\n        jrp.start()"),
        ("handler", "create_call_status(task, internal_storage)", "create_call_status(task)"),
        ("handler", "def run_task(task", "def run_task(job"),
        ("handler", "def run_task(", "def run_it("),
        ("jobrunner", "class JobRunner", "class Runner"),
        ("jobrunner", "function_start_tstamp = time.time()", "started = time.time()"),
        ("jobrunner", "func = pickle.loads(self.job.func)", "func = self.job.func"),
        ("jobrunner", "class JobStats", "class Stats"),
    ],
)
@pytest.mark.parametrize("release", SHAPES)
def test_what_is_not_known_is_refused_and_left_alone(
    release: str, file: str, old: str, new: str, tmp_path: Path
) -> None:
    package = sources(release, tmp_path)
    path = package / "worker" / f"{file}.py"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    before = contents(tmp_path)
    with pytest.raises(Refused, match=rf"{file}\.py: unknown layout: expected "):
        lithops_patch.apply(LITHOPS, tmp_path)
    assert contents(tmp_path) == before


def test_the_patched_code_never_raises_into_a_task(tmp_path: Path) -> None:
    """Whatever stands for lithowatt there: none, one that is broken, one of another version."""
    for insertion in (i for file in LITHOPS.files for i in file.insertions):
        code = compile(insertion.text, "<patch>", "exec")
        for module in (None, object(), Broken()):
            names: dict[str, Any] = {"__lithowatt_patch__": module, "task": 1, "call_status": 2}
            names |= {"self": 3, "func": len, "__builtins__": {**vars(__import__("builtins"))}}
            names["__builtins__"]["__import__"] = fails
            exec(code, names)
            assert names["func"] is len


class Broken:
    def __getattr__(self, name: str) -> Any:
        return fails


def fails(*args: Any, **kwargs: Any) -> Any:
    raise ImportError("no lithowatt here")


SCENARIOS = ["success", "raises", "system_exit", "os_exit", "killed", "timed_out", "prints"]
SCENARIOS += ["callable_object", "injected", "handler_threads"]


def environment(release: str, home: Path, *, lithowatt: bool) -> Path:
    """An interpreter whose own packages hold a copy of Lithops, and the hook if lithowatt."""
    python = stacked(release, home, lithowatt)
    sources(release, site_packages(python))
    return python


@pytest.mark.parametrize("release", PATCHED)
def test_patch_job_revert(release: str, tmp_path: Path) -> None:
    python = environment(release, tmp_path / "env", lithowatt=True)
    packages = site_packages(python)
    before = contents(packages / "lithops")
    lithops_patch.apply(LITHOPS, packages)

    whole = release in SHAPES
    scenarios = SCENARIOS if whole else ["success", "killed"]
    plan = {"scenarios": scenarios, "localhost": {"version": 2, "worker_processes": 2}}
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    if release < "3.2":
        plan["localhost"]["runtime"] = "python"
    seen = run_scenarios(python, plan, tmp_path / "patched", PATH=path)
    for name in scenarios:
        stats = seen[name]["stats"]
        assert 0 < stats[ENERGY + "consumption"] <= stats[TASK + "consumption"], name
        assert ("task window" in stats[ENERGY + "method"]) is (name in SILENT), name
        assert isinstance(stats["worker_task_cold_start"], bool)
    assert seen["success"]["result"] == 2

    state = [verdict.state for verdict in lithops_patch.check(LITHOPS, packages)]
    assert state == [State.PATCHED] * 2
    lithops_patch.revert(LITHOPS, packages)
    assert contents(packages / "lithops") == before
    if not whole:
        return
    # The same without the patch and without lithowatt: patched, nothing else changed.
    bare = plain(release)
    expected = run_scenarios(bare, plan, tmp_path / "plain")
    for name in scenarios:
        for part in ("result", "error", "frames"):
            assert seen[name][part] == expected[name][part], (name, part)
        assert portable(seen[name]["log"]) == portable(expected[name]["log"]), name
        assert expected[name]["stats"].keys() <= seen[name]["stats"].keys()


ASKS = """
import json, sys
import lithops.worker.handler as handler
import lithowatt.lithops as ours
print(json.dumps({
    "wrapped": hasattr(handler, "__lithowatt_hook__"),
    "status": ours.status().layout,
    "active": ours.status().active,
}))
"""


@pytest.mark.parametrize("release", SHAPES)
def test_the_hook_stands_back_where_the_patch_is(release: str, tmp_path: Path) -> None:
    python = environment(release, tmp_path / "env", lithowatt=True)
    lithops_patch.apply(LITHOPS, site_packages(python))
    done = run_python(python, "-c", ASKS, directory=tmp_path)
    assert done.returncode == 0, done.stderr
    assert ast.literal_eval(done.stdout.replace("true", "True").replace("false", "False")) == {
        "wrapped": False,
        "status": "patched at its source",
        "active": True,
    }


@pytest.mark.parametrize("release", SHAPES)
def test_a_patched_lithops_is_plain_without_lithowatt(release: str, tmp_path: Path) -> None:
    python = environment(release, tmp_path / "env", lithowatt=False)
    lithops_patch.apply(LITHOPS, site_packages(python))
    plan = {"scenarios": ["success", "raises"], "localhost": {"version": 2}}
    seen = run_scenarios(python, plan, tmp_path / "run")
    assert seen["success"]["result"] == 2
    assert seen["raises"]["error"] == "ValueError"
    assert not any(key.startswith((ENERGY, TASK)) for key in seen["success"]["stats"])


# --- the snippet that the prototype pastes into a handler ---------------------------

BEFORE = """
        from lithowatt import EnergyManager
        energy_manager = EnergyManager()
        energy_manager.start_monitoring()
        jrp.start()
"""
AFTER = """
        jrp.join(task.execution_timeout)
        energy_metrics = energy_manager.stop_monitoring()
        call_status.add_energy_metrics(energy_metrics)
"""


def paste(handler: Path, where: str) -> None:
    text = handler.read_text()
    text = text.replace("        jrp.start()\n", BEFORE, 1)
    text = text.replace("        jrp.join(task.execution_timeout)\n", AFTER, 1)
    if where != "in place":
        text = text.replace("        from lithowatt import EnergyManager\n", "")
        line = "from lithowatt import EnergyManager"
        if where == "by another name":
            line += " as Meter"
            text = text.replace("= EnergyManager()", "= Meter()")
        text = text.replace("import os\n", f"import os\n{line}\n", 1)
    handler.write_text(text)


WHERE = ["at the top", "in place", "by another name"]


@pytest.mark.parametrize("where", WHERE)
def test_status_and_check_say_the_same_of_the_snippet(
    where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    package = sources("3.8.0", tmp_path)
    handler = package / "worker" / "handler.py"
    monkeypatch.setattr(_status, "_find_lithops", lambda: package)
    monkeypatch.delenv("ENERGY_MONITORING_ENABLED", raising=False)
    assert _status.status().layout == "known"
    paste(handler, where)
    before = contents(tmp_path)
    # The hook must see it, too: else it is metered twice.
    text = handler.read_text()
    line = 1 + text[: text.index("EnergyManager")].count("\n")
    words = f"meters itself: it has an EnergyManager (line {line})"
    assert main(["check", "--path", str(tmp_path)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{handler}: {words}"
    found = _status.status()
    assert (found.layout, found.active, found.reason) == (words, True, None)
    assert words in lithops_cli.render(found)
    assert main(["apply", "--path", str(tmp_path)]) == 2
    refused = capsys.readouterr().err
    assert words in refused and "once more" in refused
    assert contents(tmp_path) == before
    assert main(["revert", "--path", str(tmp_path)]) == 0
    monkeypatch.setenv("ENERGY_MONITORING_ENABLED", "false")
    assert "switched off" in (_status.status().reason or "")


def test_a_handler_that_is_patched_and_has_the_snippet_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    package = sources("3.8.0", tmp_path)
    monkeypatch.setattr(_status, "_find_lithops", lambda: package)
    monkeypatch.delenv("ENERGY_MONITORING_ENABLED", raising=False)
    lithops_patch.apply(LITHOPS, tmp_path)
    assert _status.status().layout == "patched at its source"
    assert _status.status().active
    paste(package / "worker" / "handler.py", "at the top")
    assert main(["check", "--path", str(tmp_path)]) == 2
    said = capsys.readouterr().out.splitlines()[0].partition("unknown layout: ")[2]
    assert "take one of the two out" in said
    found = _status.status()
    assert not found.active and said in (found.reason or "")


def test_a_patch_of_which_a_part_is_gone_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    package = sources("3.8.0", tmp_path)
    monkeypatch.setattr(_status, "_find_lithops", lambda: package)
    monkeypatch.delenv("ENERGY_MONITORING_ENABLED", raising=False)
    runner = package / "worker" / "jobrunner.py"
    plain_runner = runner.read_bytes()
    lithops_patch.apply(LITHOPS, tmp_path)
    runner.write_bytes(plain_runner)
    assert main(["check", "--path", str(tmp_path)]) == 1
    said = capsys.readouterr().out.splitlines()[1]
    found = _status.status()
    assert not found.active and said in (found.reason or "")
    # What it says to do does it.
    remedy = (found.reason or "").partition("python -m lithops_patch ")[2]
    assert main(remedy.split(" ")) == 0
    assert _status.status().active


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("release", SHAPES)
def test_the_snippet_works_when_pasted(release: str, where: str, tmp_path: Path) -> None:
    python = environment(release, tmp_path / "env", lithowatt=True)
    paste(site_packages(python) / "lithops" / "worker" / "handler.py", where)
    done = run_python(python, "-c", ASKS, directory=tmp_path)
    assert done.returncode == 0, done.stderr
    # Metered once: the hook stands back.
    assert '"wrapped": false' in done.stdout
    plan = {"scenarios": ["success", "killed", "raises"], "localhost": {"version": 2}}
    seen = run_scenarios(python, plan, tmp_path / "run")
    assert seen["success"]["result"] == 2
    assert seen["killed"]["error"] in ("MemoryError", "RuntimeError")
    for call in seen.values():
        assert call["stats"][ENERGY + "consumption"] > 0
        assert call["stats"][ENERGY + "duration"] > 0.05
