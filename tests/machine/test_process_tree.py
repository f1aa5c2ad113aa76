"""CPU time of a process tree or a cgroup: none is lost, counted twice or another's."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from lithowatt import EnergyMeter
from tests.support import TOP, waited_children

METHODS = ["psutil", "tdp"]
BURN = "import time\nend = time.process_time() + {}\nwhile time.process_time() < end: pass\n"


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def forked(work: Callable[[], object]) -> int:
    """The number of a child that does the work and ends."""
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    return pid


def cpu_of(pid: int) -> float:
    """CPU time of a process by its clock, s (include/linux/posix-timers_types.h)."""
    return time.clock_gettime_ns((~pid << 3) | 2) * 1e-9


def of_children() -> float:
    """CPU time of all that this process waited for, s."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@pytest.fixture
def sleepers() -> Iterator[Callable[[int], None]]:
    """Starts processes that do nothing, and ends them after the test."""
    started: list[int] = []

    def start(count: int) -> None:
        for _ in range(count):
            started.append(forked(signal.pause))

    yield start
    for pid in started:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.mark.slow
@pytest.mark.parametrize("interval", [0.1, None])
def test_a_large_tree_has_all_of_its_cpu_time(
    sleepers: Callable[[int], None], interval: float | None
) -> None:
    sleepers(600)
    meter = EnergyMeter(methods=METHODS, interval=interval)
    with meter:
        pass
    with meter:
        # This thread's and the children's: what the sampler uses is the meter's own.
        before = time.thread_time() + of_children()
        for pid in [forked(lambda: burn(0.5)) for _ in range(2)]:
            os.waitpid(pid, 0)
        used = time.thread_time() + of_children() - before
    reading = meter.reading
    assert reading.cpu_seconds == pytest.approx(used, rel=0.05, abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["é" * 9, "a) R 1 (b", "\n\t x"])
def test_a_program_of_any_name_counts_with_its_children(name: str, tmp_path: Path) -> None:
    # The kernel keeps 15 bytes of a name: of "é" seven and a half.
    program = tmp_path / name
    shutil.copy("/bin/bash", program)
    with EnergyMeter(methods=METHODS) as meter:
        script = "while :; do :; done & echo $!; while :; do :; done"
        process = subprocess.Popen([program, "-c", script], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        child = int(process.stdout.readline())
        while cpu_of(process.pid) < 0.3 or cpu_of(child) < 0.3:
            time.sleep(0.02)
        used = cpu_of(process.pid) + cpu_of(child)
    os.kill(child, signal.SIGKILL)
    process.kill()
    process.wait()
    process.stdout.close()
    assert meter.reading.cpu_seconds is not None
    assert meter.reading.cpu_seconds >= used - 0.02


def test_memory_peak_of_a_process_whose_name_is_no_text(tmp_path: Path) -> None:
    program = tmp_path / ("é" * 9)
    shutil.copy("/bin/bash", program)
    process = subprocess.Popen([program, "-c", "read x"], stdin=subprocess.PIPE)
    with EnergyMeter(pid=process.pid, methods=METHODS) as meter:
        pass
    process.communicate(b"\n")
    assert meter.stats()["worker_func_psutil_process_memory_peak_mb"] > 0


@pytest.mark.slow
def test_children_that_nobody_waits_for_keep_what_was_seen() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with EnergyMeter(methods=METHODS) as meter:
            for _ in range(3):
                reader, writer = os.pipe()
                if os.fork() == 0:
                    burn(0.5)
                    os._exit(0)
                os.close(writer)
                # Returns when the child has ended: it held the other end.
                os.read(reader, 1)
                os.close(reader)
    finally:
        signal.signal(signal.SIGCHLD, before)
    reading = meter.reading
    assert reading.cpu_seconds is not None
    # A look every 0.1 s misses at most that of each.
    assert reading.cpu_seconds > 0.9
    assert any("without being waited for" in text for text in reading.warnings)


def a_child_that_is_discarded() -> None:
    """Starts a short process in one that ignores SIGCHLD, and returns when it has ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    pid = forked(lambda: burn(0.05))
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


@pytest.mark.parametrize("within", [False, True], ids=["before", "within"])
@pytest.mark.parametrize("interval", [0.1, None])
def test_a_discarded_child_that_no_look_saw_is_told(interval: float | None, within: bool) -> None:
    before = signal.getsignal(signal.SIGCHLD)
    try:
        if not within:
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        with EnergyMeter(methods=METHODS, interval=interval) as meter:
            a_child_that_is_discarded()
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert any("SIGCHLD" in text and "missing" in text for text in meter.reading.warnings)


@pytest.mark.parametrize("interval", [0.1, None])
def test_an_ended_child_that_ignored_sigchld_is_told_once(interval: float | None) -> None:
    # Nobody waits for it until later, so that it is seen in every window.
    pid = forked(a_child_that_is_discarded)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    try:
        meter = EnergyMeter(methods=METHODS, interval=interval)
        for _ in range(2):
            with meter:
                subprocess.run(["true"], check=True)
    finally:
        os.waitpid(pid, 0)
    assert not [text for text in meter.reading.warnings if "SIGCHLD" in text]


@pytest.mark.parametrize("interval", [0.1, None])
def test_another_process_that_ignores_sigchld_is_told(interval: float | None) -> None:
    begin, told = os.pipe(), os.pipe()

    def live() -> None:
        os.close(told[0])
        os.read(begin[0], 1)
        a_child_that_is_discarded()
        os.write(told[1], b"x")
        os.read(begin[0], 1)

    pid = forked(live)
    try:
        with EnergyMeter(pid=pid, methods=METHODS, interval=interval) as meter:
            os.write(begin[1], b"x")
            os.read(told[0], 1)
        os.write(begin[1], b"x")
    finally:
        os.waitpid(pid, 0)
        for end in (*begin, *told):
            os.close(end)
    assert any("SIGCHLD" in text and "missing" in text for text in meter.reading.warnings)


@pytest.mark.slow
@pytest.mark.parametrize("work", waited_children.WORK)
def test_children_that_are_waited_for_leave_no_warning(work: str) -> None:
    # In a process of its own: what other tests left behind is no concern of these windows.
    command = [sys.executable, waited_children.__file__, work]
    warnings = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    doubts = ("SIGCHLD", "waited for", "ended within the window")
    assert not [text for text in warnings if any(doubt in text for doubt in doubts)]


@pytest.mark.slow
def test_orphans_are_not_counted_twice() -> None:
    meter = EnergyMeter(methods=["perf", *METHODS])
    for _ in range(4):
        with meter:
            pass
    reader, writer = os.pipe()
    count, each = 4, 0.4
    own = time.process_time()
    truth = 0.0
    with meter, os.fdopen(reader, "rb") as used:
        for _ in range(count):
            parent = os.fork()
            if parent == 0:
                if os.fork() == 0:
                    os.setsid()
                    burn(each)
                    # A fork begins at no CPU time: this is all that it used.
                    os.write(writer, struct.pack("d", time.process_time()))
                    os._exit(0)
                time.sleep(0.25)
                os.write(writer, struct.pack("d", time.process_time()))
                os._exit(0)
            os.waitpid(parent, 0)
            truth += sum(struct.unpack("2d", used.read(16)))
    truth += time.process_time() - own
    os.close(writer)
    cpu = meter.reading.cpu_seconds
    assert cpu is not None
    # What an orphan uses between the last look and its end may be missing, nothing may be twice:
    # each of the eight processes uses some ms more until its memory is given back, less in all than
    # one orphan that is counted twice.
    assert count * (each - 0.2) < cpu < truth + 0.95 * each


#: Two windows of a process whose orphan ends within the first. The parent of the process is its
#: orphans' parent, too, and waits for them when it is told to: in the second window.
LATE_WAIT = """
import ctypes, os, sys, time
from lithowatt import EnergyMeter

def burn(seconds):
    while time.process_time() < seconds:
        sum(range(1000))

told, tell = os.pipe()
heard, hear = os.pipe()
orphans, named = os.pipe()
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER
measuring = os.fork()
if measuring:
    os.read(told, 1)
    for _ in range(1):
        pid, _ = os.waitpid(-1, 0)
        assert pid != measuring
    os.write(hear, b".")
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(measuring, 0)[1]))
with EnergyMeter(methods=["psutil", "tdp"], interval=0.02) as meter:
    parent = os.fork()
    if parent == 0:
        if (orphan := os.fork()) == 0:
            burn(0.5)
            os._exit(0)
        os.write(named, str(orphan).encode())
        time.sleep(0.35)  # long enough for a look at its child
        os._exit(0)
    os.waitpid(parent, 0)
    orphan = int(os.read(orphans, 16))
    while open(f"/proc/{orphan}/stat").read().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.02)
    time.sleep(0.2)
first = meter.reading
with meter:
    os.write(tell, b".")
    os.read(heard, 1)
    time.sleep(0.3)
second = meter.reading
print(first.cpu_seconds, second.cpu_seconds)
for reading in (first, second):
    assert not [one for one in reading.warnings if "descendant" in one], reading.warnings
assert 0.4 < first.cpu_seconds, first.cpu_seconds
os._exit(0)
"""


@pytest.mark.slow
def test_an_orphan_that_is_waited_for_late_is_not_missing() -> None:
    subprocess.run([sys.executable, "-c", LATE_WAIT], check=True, timeout=60)


@pytest.mark.slow
def test_descendants_count_on_when_the_root_has_ended() -> None:
    script = f"{sys.executable} -c '{BURN.format(1.0)}' & echo $!; sleep 0.6"
    root = subprocess.Popen(["bash", "-c", script], stdout=subprocess.PIPE, text=True)
    assert root.stdout is not None
    child = int(root.stdout.readline())
    with EnergyMeter(pid=root.pid, methods=METHODS, interval=0.05) as meter:
        root.wait()
        while True:
            try:
                last = cpu_of(child)
            except OSError:
                break
            time.sleep(0.01)
    root.stdout.close()
    reading = meter.reading
    assert reading.cpu_seconds is not None
    assert reading.cpu_seconds > last - 0.25
    assert any("process ended within the window" in text for text in reading.warnings)


def _next_pid(pid: int) -> None:
    Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1))


def _reuse() -> None:
    """Runs in a PID namespace of its own: meters a process whose number another gets."""
    sleeper = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]
    burner = [
        sys.executable,
        "-S",
        "-c",
        BURN.format(0.4) + "print(1, flush=True)\nimport time; time.sleep(60)",
    ]
    victim = subprocess.Popen(sleeper)
    within = EnergyMeter(pid=victim.pid, methods=METHODS, interval=0.05)
    between = EnergyMeter(pid=victim.pid, methods=METHODS, interval=0.05)
    alone = EnergyMeter(pid=victim.pid, children=False, methods=METHODS, interval=0.05)
    within.start()
    alone.start()
    time.sleep(0.3)
    victim.kill()
    victim.wait()
    _next_pid(victim.pid)
    other = subprocess.Popen(burner, stdout=subprocess.PIPE)
    if other.pid != victim.pid:
        print("the number was not given again")
        sys.exit(77)
    between.start()
    assert other.stdout is not None
    other.stdout.readline()
    within.stop()
    between.stop()
    alone.stop()
    for meter in (within, alone):
        assert meter.reading.cpu_seconds is not None
        assert meter.reading.cpu_seconds < 0.2, meter.reading.cpu_seconds
        assert any("ended" in text for text in meter.reading.warnings)
    assert between.reading.cpu_seconds is None and between.reading.joules is None
    other.kill()
    other.wait()


@pytest.mark.slow
def test_a_number_that_is_given_to_another_process_is_not_the_metered_one() -> None:
    unshare = shutil.which("unshare")
    if unshare is None or os.geteuid() != 0:
        pytest.skip("a PID namespace of its own takes unshare and root")
    code = (
        f"import sys; sys.path.insert(0, {str(TOP)!r})\n"
        "from tests.machine import test_process_tree; test_process_tree._reuse()"
    )
    command = [unshare, "-pf", "--mount-proc", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(done.stdout.strip() or done.stderr.strip())
    assert done.returncode == 0, done.stderr


def test_a_proc_of_another_pid_namespace_is_not_believed() -> None:
    """Numbers in it are other processes': here 1 is this one, there it is init."""
    unshare = shutil.which("unshare")
    if unshare is None or os.geteuid() != 0:
        pytest.skip("a PID namespace of its own takes unshare and root")
    code = (
        "import os, subprocess, sys, time\n"
        "from lithowatt import EnergyMeter\n"
        "m = EnergyMeter(methods=['psutil', 'tdp'])\n"
        "m.start()\n"
        f"p = subprocess.Popen([sys.executable, '-S', '-c', {BURN.format(60)!r}])\n"
        "while time.clock_gettime_ns((~p.pid << 3) | 2) < 5e8: time.sleep(0.02)\n"
        "used = time.clock_gettime_ns((~p.pid << 3) | 2) * 1e-9\n"
        "m.stop(); p.kill(); p.wait()\n"
        "print(m.reading.cpu_seconds, used)\n"
    )
    done = subprocess.run(
        [unshare, "-pf", sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    if "unshare" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    cpu, used = map(float, done.stdout.split())
    # In steps of 10 ms, user and system time each.
    assert used - 0.05 < cpu < used + 1.0


def _hierarchy() -> Path:
    for top in ("/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"):
        folder = Path(top)
        if (folder / "cgroup.procs").exists() and os.access(folder, os.W_OK):
            return folder
    pytest.skip("a cgroup to make takes root and a writable hierarchy with CPU accounting")


@contextlib.contextmanager
def _group(name: str) -> Iterator[Path]:
    folder = _hierarchy() / name
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made: {error}")
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _job(folder: Path, seconds: float) -> None:
    code = f"open({str(folder / 'cgroup.procs')!r}, 'w').write('0')\n" + BURN.format(seconds)
    subprocess.run([sys.executable, "-S", "-c", code], check=True)


def _remove(folder: Path) -> None:
    # A dead process leaves its group a moment after it was waited for.
    for _ in range(500):
        try:
            return folder.rmdir()
        except OSError:
            time.sleep(0.01)
    folder.rmdir()


@pytest.mark.slow
@pytest.mark.parametrize("again", [False, True])
def test_a_cgroup_that_is_removed_keeps_what_was_seen(again: bool) -> None:
    with _group(f"lithowatt-test-{os.getpid()}") as folder:
        try:
            meter = EnergyMeter(cgroup=folder, methods=METHODS, interval=0.05)
        except OSError as error:
            pytest.skip(f"no CPU accounting in {folder}: {error}")
        meter.start()
        _job(folder, 0.5)
        time.sleep(0.3)
        _remove(folder)
        if again:
            folder.mkdir()
            time.sleep(0.3)
            _job(folder, 0.5)
            time.sleep(0.3)
        meter.stop()
    reading = meter.reading
    assert reading.cpu_seconds is not None and reading.joules is not None
    assert (0.95 if again else 0.45) < reading.cpu_seconds < (1.4 if again else 0.9)
    assert any("cgroup was removed" in text for text in reading.warnings)


def test_a_removed_account_below_a_root_of_files_is_followed(tmp_path: Path) -> None:
    folder = tmp_path / "job"

    def account(usec: int) -> None:
        folder.mkdir()
        (folder / "cpu.stat").write_text(f"usage_usec {usec}\n")

    account(1_000_000)
    with EnergyMeter(cgroup=folder, methods=METHODS, interval=None) as meter:
        (folder / "cpu.stat").write_text("usage_usec 1500000\n")
        with meter.phase("seen"):
            pass
        shutil.rmtree(folder)
        account(250_000)
    assert meter.reading.cpu_seconds == pytest.approx(0.75, abs=0.01)


def test_the_reason_says_why_there_is_no_energy(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    meter = EnergyMeter(pid=process.pid, methods=METHODS)
    process.communicate(b"\n")
    with meter:
        pass
    assert meter.reading.joules is None
    assert "had ended before the window began" in meter.reading.raw["headline_reason"]


IGNORES = """
import os, signal, time
from lithowatt import EnergyMeter
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
used = 0.0
with EnergyMeter(methods=["psutil", "tdp"], interval=0.01) as meter:
    for _ in range(8):
        read, write = os.pipe()
        if os.fork() == 0:
            while time.process_time() < 0.06:
                pass
            os.write(write, str(time.process_time()).encode())
            os._exit(0)
        os.close(write)
        used += float(os.read(read, 64))
        os.close(read)
        time.sleep(0.02)
print(meter.reading.cpu_seconds / used)
"""


@pytest.mark.slow
def test_discarded_children_are_looked_at_within_an_interval() -> None:
    # Each lives for less than an interval of attribution.
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", IGNORES], capture_output=True, text=True, check=True
        )
        if float(done.stdout) > 0.6:
            return
    pytest.fail(f"only {done.stdout} of the CPU time was found")


def test_what_ended_before_it_was_looked_at_used_nobody_knows_how_much(tmp_path: Path) -> None:
    code = "input(); sum(range(2_000_000))"
    process = subprocess.Popen([sys.executable, "-S", "-c", code], stdin=subprocess.PIPE)
    with EnergyMeter(pid=process.pid, methods=METHODS, interval=None) as busy:
        with busy.phase("work"):
            process.communicate(b"\n")
    (phase,) = busy.reading.phases
    assert phase.joules is None and phase.cpu_seconds is None
    assert busy.reading.flat()["phase_cpu_time_work"] is None
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "cpu.stat").write_text("usage_usec 1000000\n")
    with EnergyMeter(cgroup=folder, methods=METHODS, interval=None) as gone:
        shutil.rmtree(folder)
    for meter in (busy, gone):
        reading = meter.reading
        assert reading.joules is None and reading.cpu_seconds is None
        assert "the CPU time of what is metered is unknown" in str(reading.reason)
    # One that was seen to rest used nothing.
    idle = subprocess.Popen(["sleep", "10"])
    with EnergyMeter(pid=idle.pid, methods=METHODS, interval=0.02) as meter:
        time.sleep(0.2)
        idle.kill()
        idle.wait()
    # Its start may come into the window.
    assert meter.reading.cpu_seconds is not None and meter.reading.cpu_seconds < 0.02
    assert meter.reading.joules is not None


def test_a_timeline_shows_no_cpus_where_their_time_is_unknown() -> None:
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with EnergyMeter(pid=process.pid, methods=METHODS, interval=0.01) as meter:
        process.wait()
        time.sleep(0.05)
    assert meter.reading.cpu_seconds is None
    cpus = meter.timeline().cpu
    assert len(cpus) and np.isnan(cpus).all()
