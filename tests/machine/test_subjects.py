"""Several processes or cgroups as one; cgroups of patterns, units and jobs of batch systems."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lithowatt import EnergyMeter, _core
from lithowatt.cli import main
from lithowatt.errors import (
    ConflictingOptionsError,
    ProcessNotFoundError,
    UnreadableFileError,
)
from rig import StaticTree

METHODS = "rapl,psutil,model"


class Hierarchies:
    """Cgroups of a machine as plain files, of version 1, 2 or both."""

    def __init__(self, root: Path, *versions: int) -> None:
        self.root = root
        top = root / "sys/fs/cgroup"
        self.tops = {2: top / "unified" if 1 in versions else top, 1: top / "cpu,cpuacct"}
        for version in versions:
            self.tops[version].mkdir(parents=True)
            self.set(version, "", 0)
        if 2 in versions:
            (self.tops[2] / "cgroup.controllers").write_text("cpu memory\n")

    def set(self, version: int, path: str, seconds: float) -> Path:
        """A cgroup that has used so many seconds of CPU time."""
        folder = self.tops[version] / path
        folder.mkdir(parents=True, exist_ok=True)
        if version == 2:
            (folder / "cpu.stat").write_text(f"usage_usec {round(seconds * 1e6)}\n")
        else:
            (folder / "cpuacct.usage").write_text(f"{round(seconds * 1e9)}\n")
        return folder

    def used(self, cgroup: Any, changes: dict[tuple[int, str], float]) -> float | None:
        """What a meter of ``cgroup`` says was used while cgroups came to these CPU times."""
        with EnergyMeter(cgroup=cgroup, root=self.root, methods=METHODS, interval=None) as meter:
            for (version, path), seconds in changes.items():
                self.set(version, path, seconds)
        return meter.reading.cpu_seconds


def found(cgroup: Any, root: Path) -> list[str]:
    """The directories that are meant, below the mount."""
    top = str(root / "sys/fs/cgroup") + "/"
    return [str(path).removeprefix(top) for path in _core.find_cgroups(cgroup, root)]


# -- batch systems --------------------------------------------------------------------------------

SLURM = "system.slice/slurmstepd.scope/job_4711"
NAMES = [
    # given, version, paths that are meant, paths that are others'
    ("job:4711", 2, [SLURM], ["system.slice/slurmstepd.scope/job_47110"]),
    ("slurm:4711.batch", 2, [f"{SLURM}/step_batch"], [f"{SLURM}/step_0", f"{SLURM}/step_extern"]),
    ("slurm:4711.0", 2, [f"{SLURM}/step_0"], [f"{SLURM}/step_00", f"{SLURM}/step_10"]),
    (
        "slurm:4711",
        2,
        [
            "system.slice/node1_slurmstepd.scope/job_4711",
            "system.slice/node2_slurmstepd.scope/job_4711",
        ],
        ["system.slice/node1_slurmstepd.scope/job_11"],
    ),
    ("slurm:4711", 1, ["slurm/uid_1000/job_4711"], ["slurm/uid_4711/job_9"]),
    ("slurm:4711.3", 1, ["slurm_n1/uid_7/job_4711/step_3"], ["slurm_n1/uid_7/job_4711/step_4"]),
    (
        "oar:42",
        2,
        ["oar.slice/oar-u1000.slice/oar-u1000-j42.slice"],
        ["oar.slice/oar-u1000.slice/oar-u1000-j142.slice"],
    ),
    ("job:42", 1, ["oar/alice_42"], ["oar/alice_142"]),
    ("pbs:12", 2, ["pbs_jobs.service/jobs/12.head"], ["pbs_jobs.service/jobs/123.head"]),
    ("pbs:12.head", 1, ["pbs_jobs.service/jobid/12.head"], ["pbs_jobs.service/jobid/12.other"]),
    ("job:7[1].head", 1, ["pbs_jobs.service/jobid/7[1].head"], ["pbs_jobs.service/jobid/71.head"]),
    ("pbs:8", 1, ["torque/8.server"], ["torque/88.server"]),
    (
        "condor:slot1_2",
        2,
        ["system.slice/htcondor/condor_var_lib_condor_execute_slot1_2@node"],
        ["system.slice/htcondor/condor_var_lib_condor_execute_slot1_21@node"],
    ),
    ("job:slot1", 1, ["htcondor/condor_var_lib_condor_execute_slot1"], ["htcondor/condor_x_slot2"]),
]


@pytest.mark.parametrize(("given", "version", "meant", "others"), NAMES)
def test_a_job_is_found_by_its_id_and_no_other(
    given: str, version: int, meant: list[str], others: list[str], tmp_path: Path
) -> None:
    machine = Hierarchies(tmp_path, version)
    for path in (*meant, *others):
        machine.set(version, path, 1.0)
    prefix = "" if version == 2 else "cpu,cpuacct/"
    assert found(given, tmp_path) == [prefix + path for path in meant]
    changes = {(version, path): 1.5 for path in meant}
    changes |= {(version, path): 9.0 for path in others}
    assert machine.used(given, changes) == pytest.approx(0.5 * len(meant), abs=1e-6)


@pytest.mark.parametrize(
    "given", ["job:", "job:..", "slurm:x", "slurm:1/..", "oar:*", "pbs:*", "condor:1", "slurm:4712"]
)
def test_what_is_no_job_here_is_refused(given: str, tmp_path: Path) -> None:
    machine = Hierarchies(tmp_path, 2)
    machine.set(2, SLURM, 1.0)
    machine.set(2, "oar.slice/oar-u1.slice/oar-u1-j1.slice", 1.0)
    with pytest.raises(UnreadableFileError, match="no cgroup is there"):
        EnergyMeter(cgroup=given, root=tmp_path)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("job:12", "a job that runs on this machine"),
        ("slurm:4711.9", "a job that runs on this machine"),
        ("slurm:4711_3", "SLURM_JOB_ID"),
        ("job:4711_3", "SLURM_JOB_ID"),
        ("condor:slot1_9", "condor:SLOT"),
        ("unit:web", "a unit of systemd that runs"),
        ("foo:4711", "unit:NAME, or job:ID"),
        ("system.slice/web*", "a pattern of such"),
    ],
)
def test_what_is_not_found_is_told_by_its_form(given: str, expected: str, tmp_path: Path) -> None:
    Hierarchies(tmp_path, 2).set(2, SLURM, 1.0)
    with pytest.raises(UnreadableFileError) as refused:
        EnergyMeter(cgroup=given, root=tmp_path)
    _, told = str(refused.value).split("; expected ")
    assert expected in told
    # Nothing of the other forms: a job's id is no unit.
    assert ("unit:" in told) == (not given.startswith(("job", "slurm", "condor")))


def test_an_id_of_two_systems_has_to_be_told_apart(tmp_path: Path) -> None:
    machine = Hierarchies(tmp_path, 2)
    machine.set(2, SLURM, 1.0)
    machine.set(2, "pbs_jobs.service/jobs/4711.head", 1.0)
    with pytest.raises(ConflictingOptionsError, match=r"slurm:4711 or pbs:4711"):
        EnergyMeter(cgroup="job:4711", root=tmp_path)
    assert found("pbs:4711", tmp_path) == ["pbs_jobs.service/jobs/4711.head"]


def test_a_job_in_both_hierarchies_is_counted_in_one(tmp_path: Path) -> None:
    machine = Hierarchies(tmp_path, 1, 2)
    machine.set(1, "slurm/uid_1/job_5", 1.0)
    machine.set(2, "system.slice/slurmstepd.scope/job_5", 1.0)
    changes = {(1, "slurm/uid_1/job_5"): 2.0, (2, "system.slice/slurmstepd.scope/job_5"): 2.0}
    assert machine.used("slurm:5", changes) == pytest.approx(1.0, abs=1e-6)


# -- units and patterns ---------------------------------------------------------------------------


def test_units_are_found_in_whatever_slice(tmp_path: Path) -> None:
    machine = Hierarchies(tmp_path, 2)
    user = "user.slice/user-1000.slice/user@1000.service/app.slice/web.service"
    paths = [
        "system.slice/cron.service",
        "system.slice/system-web.slice/web@1.service",
        "system.slice/system-web.slice/web@2.service",
        user,
        # A container's own systemd.
        "machine.slice/machine-box.scope/system.slice/cron.service",
    ]
    for path in paths:
        machine.set(2, path, 1.0)
    assert found("unit:cron", tmp_path) == [paths[0]]
    assert found("unit:web@*.service", tmp_path) == paths[1:3]
    assert found("unit:web.service", tmp_path) == [user]
    assert found("unit:system-web.slice", tmp_path) == ["system.slice/system-web.slice"]
    with pytest.raises(UnreadableFileError, match="unit:none"):
        EnergyMeter(cgroup="unit:none", root=tmp_path)


def test_patterns_and_paths_below_the_mount(tmp_path: Path) -> None:
    machine = Hierarchies(tmp_path, 2)
    for name in ("a1", "a2", "b1"):
        machine.set(2, f"jobs.slice/{name}", 1.0)
    assert found("jobs.slice/a?", tmp_path) == ["jobs.slice/a1", "jobs.slice/a2"]
    assert found("*.slice/[!a]1", tmp_path) == ["jobs.slice/b1"]
    assert found("jobs.slice/b1", tmp_path) == ["jobs.slice/b1"]
    top = tmp_path / "sys/fs/cgroup"
    assert found(f"{top}/jobs.slice/a*", tmp_path) == ["jobs.slice/a1", "jobs.slice/a2"]
    assert found(["jobs.slice/a1", top / "jobs.slice/b1"], tmp_path) == [
        "jobs.slice/a1",
        "jobs.slice/b1",
    ]
    for nothing in ("jobs.slice/c*", f"{tmp_path}/x/*", "jobs.slice/../jobs.slice/a1"):
        with pytest.raises(UnreadableFileError):
            found(nothing, tmp_path)


def test_one_inside_another_is_counted_once(tmp_path: Path) -> None:
    machine = Hierarchies(tmp_path, 2)
    for path, seconds in (("a", 3.0), ("a/b", 2.0), ("c", 1.0)):
        machine.set(2, path, seconds)
    (machine.tops[2] / "link").symlink_to("a")
    changes = {(2, "a"): 4.0, (2, "a/b"): 3.0, (2, "c"): 1.25}
    for given in (["a", "a/b", "c", "c"], ["*", "a/*"]):
        for path, seconds in (("a", 3.0), ("a/b", 2.0), ("c", 1.0)):
            machine.set(2, path, seconds)
        assert machine.used(given, changes) == pytest.approx(1.25, abs=1e-6), given


def test_cgroups_of_two_hierarchies_may_hold_the_same_processes(tmp_path: Path) -> None:
    machine = Hierarchies(tmp_path, 1, 2)
    both = [machine.set(1, "a", 1.0), machine.set(2, "b", 1.0)]
    with pytest.raises(ConflictingOptionsError, match="both versions"):
        EnergyMeter(cgroup=both, root=tmp_path)


def test_more_than_a_thousand_are_refused(tmp_path: Path) -> None:
    machine = Hierarchies(tmp_path, 2)
    for number in range(1001):
        machine.set(2, f"j{number}", 0.0)
    with pytest.raises(ConflictingOptionsError, match="at most 1000"):
        EnergyMeter(cgroup="j*", root=tmp_path)


def test_what_comes_and_goes_within_the_window_counts(tmp_path: Path) -> None:
    machine = Hierarchies(tmp_path, 2)
    machine.set(2, "jobs/a", 10.0)
    with EnergyMeter(cgroup="jobs/*", root=tmp_path, methods=METHODS, interval=0.05) as meter:
        machine.set(2, "jobs/a", 10.5)
        machine.set(2, "jobs/b", 0.25)
        time.sleep(0.4)
        for file in (machine.tops[2] / "jobs/b").iterdir():
            file.unlink()
        (machine.tops[2] / "jobs/b").rmdir()
        time.sleep(0.3)
        # Another of that name: its time is its own.
        machine.set(2, "jobs/b", 0.125)
        time.sleep(0.3)
    reading = meter.reading
    assert reading.cpu_seconds == pytest.approx(0.875, abs=1e-6)
    assert any("removed 1 time" in text for text in reading.warnings)


def test_the_parts_make_the_whole(tmp_path: Path) -> None:
    """Joules of two cgroups as one are those of the first and those of the second."""
    tree = StaticTree(tmp_path / "machine", domains=("package",))
    machine = Hierarchies(tmp_path / "cgroups", 2)
    a, b = (machine.set(2, name, 1.0) for name in "ab")
    options: dict[str, Any] = {"root": tree.root, "methods": "rapl", "interval": None}
    meters = [EnergyMeter(cgroup=group, **options) for group in (a, b, [a, b])]
    for meter in meters:
        meter.start()
    end = time.monotonic() + 0.3
    while time.monotonic() < end:  # so that the machine is as busy as the cgroups say
        pass
    machine.set(2, "a", 1.05)
    machine.set(2, "b", 1.1)
    tree.add(tree.zones[0].key, 20_000_000)
    for meter in meters:
        meter.stop()
    parts = [meter.reading.cpu_seconds for meter in meters]
    assert parts == pytest.approx([0.05, 0.1, 0.15], abs=1e-6)
    joules = [meter.reading.amortised for meter in meters]
    assert all(joules) and joules[1] == pytest.approx(2 * joules[0], rel=0.05)
    assert joules[2] == pytest.approx(joules[0] + joules[1], rel=0.05)


# -- real cgroups ---------------------------------------------------------------------------------

BURN = "import time\nend = time.process_time() + {0}\nwhile time.process_time() < end: pass\n"


@contextlib.contextmanager
def _real(*names: str) -> Iterator[list[Path]]:
    for top in ("/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"):
        if (Path(top) / "cgroup.procs").exists() and os.access(top, os.W_OK):
            break
    else:
        pytest.skip("a cgroup to make takes root and a writable hierarchy with CPU accounting")
    made: list[Path] = []
    try:
        try:
            for name in names:
                (Path(top) / name).mkdir()
                made.append(Path(top) / name)
            EnergyMeter(cgroup=made[0])
        except OSError as error:
            pytest.skip(f"no cgroup with CPU accounting can be made: {error}")
        yield made
    finally:
        for folder in reversed(made):
            for _ in range(500):  # a dead process leaves its group a moment after it was waited for
                try:
                    folder.rmdir()
                    break
                except OSError:
                    time.sleep(0.01)


def _burn_in(folder: Path, seconds: float) -> None:
    code = f"open({str(folder / 'cgroup.procs')!r}, 'w').write('0')\n" + BURN.format(seconds)
    subprocess.run([sys.executable, "-S", "-c", code], check=True)


def test_real_cgroups_as_one() -> None:
    name = f"lithowatt-test-{os.getpid()}"
    with _real(f"{name}-a", f"{name}-a/inner", f"{name}-b", f"{name}-c") as (a, inner, b, c):
        # By pattern and path: a and b, and what is inside a once.
        given = [f"{a.parent}/{name}-[ab]", inner]
        with EnergyMeter(cgroup=given, methods=METHODS, interval=None) as meter:
            _burn_in(inner, 0.2)
            _burn_in(b, 0.3)
            _burn_in(c, 0.4)
    assert meter.reading.cpu_seconds is not None
    assert 0.5 <= meter.reading.cpu_seconds < 0.7


# -- processes ------------------------------------------------------------------------------------


class Burner:
    """A process that burns CPU time when it is told to, and may have a child that does."""

    CODE = (
        "import os, sys, time\n"
        "if len(sys.argv) > 1:\n"
        "    import subprocess\n"
        "    child = subprocess.Popen([sys.executable, '-S', __file__], stdin=subprocess.PIPE, "
        "stdout=subprocess.PIPE, text=True)\n"
        "    print(child.pid, flush=True)\n"
        "for line in sys.stdin:\n"
        "    if line.startswith('child'):\n"
        "        child.stdin.write(line.split()[1] + '\\n'); child.stdin.flush()\n"
        "        child.stdout.readline()\n"
        "    else:\n"
        "        end = time.process_time() + float(line)\n"
        "        while time.process_time() < end: pass\n"
        "    print('done', flush=True)\n"
    )

    def __init__(self, folder: Path, *arguments: str) -> None:
        script = folder / "burner.py"
        script.write_text(self.CODE)
        self.process = subprocess.Popen(
            [sys.executable, "-S", str(script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self.process.pid
        self.child = int(self._line()) if arguments else 0
        self.tell("0")

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        assert self._line() == "done\n"

    def __enter__(self) -> Burner:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        if self.process.wait(30):
            raise RuntimeError("a burner failed")


def test_several_processes_are_one_and_a_descendant_counts_once(tmp_path: Path) -> None:
    with Burner(tmp_path, "child") as a, Burner(tmp_path) as b, Burner(tmp_path) as c:
        options: dict[str, Any] = {"methods": METHODS, "interval": None}
        meters = {
            "a, its child and b": EnergyMeter(pid=[a.child, a.pid, b.pid, b.pid], **options),
            "child and b": EnergyMeter(pid=(a.child, b.pid), **options),
            "a and b alone": EnergyMeter(pid=[a.pid, b.pid], children=False, **options),
            "all alone": EnergyMeter(pid=[a.pid, a.child, b.pid], children=False, **options),
        }
        for meter in meters.values():
            meter.start()
        a.tell("0.1")
        a.tell("child 0.2")
        b.tell("0.4")
        c.tell("0.8")
        for meter in meters.values():
            meter.stop()
    used = {name: meter.reading.cpu_seconds for name, meter in meters.items()}
    # Times of children that ended are in steps of 10 ms; none ended here.
    assert used == pytest.approx(
        {"a, its child and b": 0.7, "child and b": 0.6, "a and b alone": 0.5, "all alone": 0.7},
        abs=0.08,
    )


def test_one_that_ends_keeps_what_it_had(tmp_path: Path) -> None:
    with Burner(tmp_path) as a:
        with Burner(tmp_path) as b:
            meter = EnergyMeter(pid=[a.pid, b.pid], methods=METHODS, interval=0.02)
            meter.start()
            b.tell("0.2")
            time.sleep(0.3)
        a.tell("0.1")
        meter.stop()
        assert meter.reading.cpu_seconds == pytest.approx(0.3, abs=0.08)
        assert any("ended" in text for text in meter.reading.warnings)
        # The other one is still there; without it nothing is.
        meter.start()
        a.tell("0.1")
        meter.stop()
        assert meter.reading.cpu_seconds == pytest.approx(0.1, abs=0.05)
    meter.start()
    meter.stop()
    assert meter.joules is None and "had ended" in (meter.reading.reason or "")


def test_this_process_may_be_among_them(tmp_path: Path) -> None:
    with Burner(tmp_path) as other:
        stranger = subprocess.Popen(["setsid", "sleep", "30"])
        try:
            # The burner is this process's child: it counts once.
            with EnergyMeter(pid=[os.getpid(), other.pid], methods=METHODS, interval=0.01) as meter:
                other.tell("0.3")
        finally:
            stranger.kill()
            stranger.wait()
    assert meter.reading.cpu_seconds == pytest.approx(0.3, abs=0.15)


@pytest.mark.parametrize("given", [[], (), "1", [True], [1.5], {1: 2}])
def test_what_is_no_pid_is_refused(given: Any) -> None:
    with pytest.raises(TypeError, match="pid"):
        EnergyMeter(pid=given)


def test_one_pid_of_several_that_is_not_there_is_named() -> None:
    # The largest number's clock would be this process's own, by the kernel's arithmetic.
    with pytest.raises(ProcessNotFoundError, match="2147483647"):
        EnergyMeter(pid=[os.getpid(), 2147483647])
    with pytest.raises(TypeError, match="cgroup"):
        EnergyMeter(cgroup=[])


def test_a_meter_of_several_is_pickled_with_them(tmp_path: Path) -> None:
    machine = Hierarchies(tmp_path, 2)
    machine.set(2, "a", 1.0)
    names = ["a", "*"]
    meter = EnergyMeter(cgroup=names, root=tmp_path)
    names.append("gone")
    again = pickle.loads(pickle.dumps(meter))
    with again:
        machine.set(2, "a", 1.5)
    assert again.reading.cpu_seconds == pytest.approx(0.5, abs=1e-6)


# -- the command ----------------------------------------------------------------------------------


def test_the_command_reports_a_job_while_another_command_runs(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    machine = Hierarchies(tmp_path, 2)
    stat = machine.set(2, SLURM, 1.0) / "cpu.stat"
    code = f"open({str(stat)!r}, 'w').write('usage_usec 1500000\\n'); raise SystemExit(3)"
    words = ["run", "--json", "--methods", "psutil,model", "--job", "4711"]
    assert main([*words, "--root", str(tmp_path), "--", sys.executable, "-c", code]) == 3
    out = capfd.readouterr().out
    import json

    told = json.loads(out)
    assert told["cpu_seconds"] == pytest.approx(0.5, abs=1e-6) and told["exit_code"] == 3


def test_the_command_waits_for_a_job_to_end(tmp_path: Path) -> None:
    machine = Hierarchies(tmp_path, 2)
    job = machine.set(2, SLURM, 1.0)
    command = [sys.executable, "-m", "lithowatt", "run", "--job", "slurm:4711"]
    command += ["--root", str(tmp_path), "--methods", "psutil,model"]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        _until_open(running, job / "cpu.stat")
        machine.set(2, SLURM, 1.25)
        time.sleep(0.5)
        (job / "cpu.stat").unlink()
        job.rmdir()
        _, told = running.communicate(timeout=60)
    finally:
        running.kill()
        running.wait()
    assert running.returncode == 0
    assert "job slurm:4711" in told and "CPU time 0.25 s" in told and "exit code" not in told


def test_the_command_ends_by_a_signal_with_its_report(tmp_path: Path) -> None:
    machine = Hierarchies(tmp_path, 2)
    job = machine.set(2, "a", 1.0)
    command = [sys.executable, "-m", "lithowatt", "run", "--cgroup", "a*", "--root", str(tmp_path)]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        _until_open(running, job / "cpu.stat")
        running.send_signal(signal.SIGTERM)
        _, told = running.communicate(timeout=60)
    finally:
        running.kill()
        running.wait()
    assert running.returncode == 0 and "cgroup a*" in told


def _until_open(running: subprocess.Popen[str], file: Path) -> None:
    """Waits until a process meters a cgroup, and is past its start."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and running.poll() is None:
        with contextlib.suppress(OSError):
            opened = [os.readlink(one) for one in Path(f"/proc/{running.pid}/fd").iterdir()]
            if str(file) in opened:
                time.sleep(0.5)
                return
        time.sleep(0.02)
    raise AssertionError("the command never metered")


def test_the_command_needs_something_to_meter(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run"])
    assert ended.value.code == 2 and "--job" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["run", "--job", "1", "--pid", "2"])
    assert main(["run", "--job", "no-job", "--", "true"]) == 2
    assert "no cgroup is there" in capsys.readouterr().err
