"""`lithowatt top`: rows that sum to the machine, and are about what they say."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import math
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gpus import Gpu
from gpus import Gpus as NvmlGpus
from lithowatt import EnergyMeter, UnavailableError, _core
from lithowatt._support.text import printable
from lithowatt.cli import main
from lithowatt.top._containers import place_of, place_of_process
from lithowatt.top._counts import (
    ProbeCounts,
    Snapshot,
    Tree,
    Use,
    ended_between,
    hides_others,
    used_between,
)
from lithowatt.top._look import Energy, Gpus, Look, Row, Top, parts, record
from lithowatt.top._look import _energy as energy_of_machine
from lithowatt.top._view import Form, plain, show, table
from rig import Rig, StaticTree
from tests.source.test_hwmon import SOCKETS, cards, grace
from tests.support import kernel_probes
from tests.support.meanwhile import meanwhile

pytestmark = pytest.mark.quiet

HEX = "0123456789abcdef" * 4
UID = "0f3c3a52-3b1e-4b8a-9d6e-0a1b2c3d4e5f"

BURN = "while True: pass"
TREE = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"])
print(child.pid, flush=True)
sys.stdin.read()
child.kill()
"""
FORKING = """
import os, time
while True:
    if os.fork() == 0:
        end = time.process_time() + 0.003
        while time.process_time() < end: pass
        os._exit(0)
    os.wait()
"""


@contextlib.contextmanager
def running(code: str, **more: Any) -> Iterator[subprocess.Popen[str]]:
    """A Python program that ends with the block."""
    with subprocess.Popen([sys.executable, "-S", "-c", code], text=True, **more) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture(scope="session")
def probes() -> Iterator[None]:
    """Kernel probes, loaded for these tests unless they were before."""
    with kernel_probes.loaded():
        yield


@pytest.fixture
def without_probes(tmp_path: Path) -> str:
    """The machine's own /proc, and no kernel probes."""
    (tmp_path / "sys").mkdir()
    (tmp_path / "proc").symlink_to("/proc")
    return str(tmp_path)


def look_of(top: Top, seconds: float = 0.5) -> Look:
    time.sleep(seconds)
    look = top.look()
    assert look is not None
    return look


def look_at(seconds: float = 0.5, **options: Any) -> Look:
    top = Top(0.5, **options)
    try:
        return look_of(top, seconds)
    finally:
        top.close()


def sum_of(told: dict[str, Any]) -> float:
    parts = [row["watts"] for row in told["rows"]]
    for name in ("unattributed", "ended_inside", "others", "idle"):
        parts.append(told[f"{name}_watts"])
    parts.append(told["more"]["watts"])
    return math.fsum(part for part in parts if part is not None)


def check_sum(look: Look) -> None:
    told = record(look)
    assert told["machine_watts"] > 0
    assert sum_of(told) == pytest.approx(told["machine_watts"], rel=1e-9)


# -- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "kind", "name"),
    [
        ("/", "none", ""),
        (f"/docker/{HEX}", "docker", f"docker {HEX[:12]}"),
        (f"/system.slice/docker-{HEX}.scope", "docker", f"docker {HEX[:12]}"),
        (f"/system.slice/docker-{HEX}.scope/init.scope", "docker", f"docker {HEX[:12]}"),
        (f"/machine.slice/libpod-{HEX}.scope/container", "podman", f"podman {HEX[:12]}"),
        (f"/libpod_parent/libpod-{HEX}", "podman", f"podman {HEX[:12]}"),
        (f"/machine.slice/libpod-conmon-{HEX}.scope", "unit", f"libpod-conmon-{HEX}.scope"),
        (f"/ecs/task/{HEX}", "container", f"container {HEX[:12]}"),
        (f"/default/nerdctl-{HEX}.scope", "containerd", f"containerd {HEX[:12]}"),
        ("/lxc/web", "lxc", "lxc web"),
        (f"/kubepods/burstable/pod{UID}/{HEX}", "kubernetes", f"pod {UID} / {HEX[:12]}"),
        (f"/kubepods/burstable/pod{UID}", "kubernetes", f"pod {UID}"),
        (
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod"
            f"{UID.replace('-', '_')}.slice/cri-containerd-{HEX}.scope",
            "kubernetes",
            f"pod {UID} / {HEX[:12]}",
        ),
        (
            f"/kubepods.slice/kubepods-pod{HEX[:32]}.slice/crio-{HEX}.scope",
            "kubernetes",
            f"pod {HEX[:32]} / {HEX[:12]}",
        ),
        ("/lxc.payload.web/system.slice/ssh.service", "lxc", "lxc web"),
        ("/machine.slice/machine-my\\x2dbox.scope", "nspawn", "machine my-box"),
        ("/user.slice/user-1000.slice/session-3.scope", "unit", "session-3.scope"),
        ("/system.slice/dev-my\\x2ddisk.mount", "unit", "dev-my-disk.mount"),
        ("/of/mine", "cgroup", "/of/mine"),
        # A unit's name may spell a control character.
        ("/system.slice/a\\x1b[31m.service", "unit", "a\\x1b[31m.service"),
        ("/a\x1b]0;x\x07", "cgroup", "/a\\x1b]0;x\\x07"),
    ],
)
def test_a_path_names_its_container(path: str, kind: str, name: str) -> None:
    assert place_of(path)[:2] == (kind, name)


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        (["0::/system.slice/a.service\n"], "a.service"),
        # Hybrid: the container is in version 1, systemd's unit of its daemon in version 2.
        (
            [
                f"4:memory:/docker/{HEX}",
                "1:name=systemd:/system.slice/containerd.service",
                "0::/system.slice/containerd.service",
            ],
            f"docker {HEX[:12]}",
        ),
        (["4:cpu,cpuacct:/mine:too", "1:name=systemd:/", "0::/"], "/mine:too"),
        (["3:cpu:/other", "1:name=systemd:/user.slice"], "user.slice"),
        (["0::/"], ""),
        (["nonsense", "", "5:cpu", "0::relative"], ""),
    ],
)
def test_of_all_hierarchies_the_one_that_tells_most(lines: list[str], name: str) -> None:
    assert place_of_process(lines).name == name


@pytest.mark.parametrize("hostile", ["\x1b[2J", "a\rb", "\x9b31m", "x\u202ey", "\ud800", "\u2028"])
def test_what_a_terminal_would_obey_is_escaped(hostile: str) -> None:
    shown = printable(f"name{hostile}")
    assert shown.isprintable() and shown.startswith("name")
    shown.encode()


# -- arithmetic -----------------------------------------------------------------------------------


def energy_of(quality: str = "measured") -> Energy:
    return Energy((20.0, 19.9, 20.1), (8.0, 7.0, 9.0), quality, "rapl", "learned")


@pytest.mark.parametrize("quality", ["measured", "modelled"])
def test_a_share_and_its_band(quality: str) -> None:
    energy = energy_of(quality)
    none, some, alone = parts([0, 4, 10], 10, energy, 10**9, by_probes=True, spread=1.7)
    assert none == (0.0, 0.0, 0.0)
    value, low, high = some
    assert value == pytest.approx(0.4 * 12)
    assert low < value < high
    # Alone there is nobody whose CPU-second could cost less.
    value, low, high = alone
    assert value == pytest.approx(12)
    assert high - low < 3


def snapshot(t: float, uses: dict[int, tuple[int, float]]) -> Snapshot:
    """``uses``: pid to creator and s."""
    return Snapshot(
        round(t * 1e9), {p: (c, None, Use(round(s * 1e9))) for p, (c, s) in uses.items()}, None
    )


def test_use_between_two_looks() -> None:
    before = snapshot(1, {1: (0, 100), 2: (1, 5), 3: (1, 60), 4: (1, 7)})
    after = snapshot(2, {1: (0, 101), 3: (1, 0.25), 4: (1, 6.999), 5: (1, 0.5), 6: (1, 9e9)})
    used = used_between(before, after, cpus=2)
    seconds = {pid: use.ns * 1e-9 for pid, use in used.items()}
    # 2 has ended; 3 is a number given anew; 4 was off by stolen time; 6 cannot have used more.
    assert seconds == {1: 1.0, 3: 0.25, 4: 0.0, 5: 0.5, 6: 2.0}
    assert {pid for pid, use in used.items() if use.fresh} == {3, 5, 6}


def test_what_ended_is_what_the_living_did_not_use() -> None:
    def at(t: float, *uses: Use, group: Use) -> Snapshot:
        processes = {number: (1, 7, use) for number, use in enumerate(uses, 2)}
        return Snapshot(round(t * 1e9), processes, None, groups={7: group})

    before = at(0, Use(100, 200, 50, 300.0, 100), group=Use(1000, 2000, 500, 3000.0, 1000))
    after = at(
        1,
        Use(400, 900, 250, 1500.0, 400),
        Use(200, 300, 0, 400.0, 150),
        group=Use(2000, 4000, 1000, 6000.0, 2000),
    )
    used = used_between(before, after, 1)
    assert used[2].use == Use(300, 700, 200, 1200.0, 300)
    assert ended_between(before, after, used) == {7: Use(500, 1000, 300, 1400.0, 550)}
    assert ended_between(after, after, used_between(after, after, 1)) == {}
    # Where no PMU counts, nobody's cycles are 0.
    bare = used_between(at(0, Use(1), group=Use(1)), after, 1)
    assert bare[2].cycles == 900 and at(0, Use(1), group=Use(1)).uses[2][2].cycles is None
    assert Use(5).plus(Use(6)) == Use(11) and Use(5).since(Use(2)) == Use(3)


# -- weights --------------------------------------------------------------------------------------

MHZ = 1e-3
"""Cycles a ns."""


@pytest.mark.parametrize(
    ("uses", "siblings", "expected", "word"),
    [
        ([Use(100), Use(300)], False, [100, 300], "on-CPU time"),
        # Beside a busy sibling all the time, half, never: two of the first are one core.
        (
            [Use(100, None, 100), Use(100, None, 50), Use(100)],
            True,
            [57.5, 78.75, 100],
            "on-CPU time",
        ),
        ([Use(100, None, 100), Use(100)], False, [100, 100], "on-CPU time"),
        (
            [Use(100, None, 0, 100 * 1000 * MHZ, 100), Use(100, None, 0, 100 * 3000 * MHZ, 100)],
            False,
            [100, 300],
            "on-CPU time x frequency",
        ),
        ([Use(100, 100, 0, 1e9, 100), Use(100, 300, 100, 1.0, 100)], False, [100, 300], "cycles"),
        ([Use(100, 100), Use(100, 300, 100)], True, [100, 172.5], "cycles"),
    ],
)
def test_processes_weigh_as_a_meters_function_does(
    uses: list[Use], siblings: bool, expected: list[float], word: str
) -> None:
    machine = functools.reduce(Use.plus, uses)
    weights, whole, told = _core.weigh(uses, machine, siblings)
    assert weights == pytest.approx(expected)
    assert told == word
    # What all that ran weighs is the sum, as far as all were beside siblings alike.
    assert whole == pytest.approx(sum(expected), rel=0.2 if siblings else 1e-9)


def test_who_shares_a_core_has_less_than_who_has_it_alone(without_probes: str) -> None:
    class Counted:
        source = "a test"

        def __init__(self) -> None:
            self.seconds = 0

        def take(self) -> Snapshot:
            ns = self.seconds * 1_000_000_000
            self.seconds += 1
            uses = {2**22 + 1: Use(ns, None, ns), 2**22 + 2: Use(ns, None, ns), 2**22 + 3: Use(ns)}
            machine = Use(3 * ns, None, 2 * ns)
            return Snapshot(ns, {pid: (1, None, use) for pid, use in uses.items()}, machine)

        def weigh(self, uses: list[Use], machine: Use | None) -> Any:
            return _core.weigh(uses, machine or Use(0), True)

    top = Top(0.1, root=without_probes)
    top._counts = Counted()
    top._before = top._counts.take()
    look = look_of(top, 0.1)
    top.close()
    check_sum(look)
    told = record(look)
    assert told["weight"] == "on-CPU time"
    beside, also, alone = sorted(row["joules"] for row in told["rows"])
    assert beside == also and alone > 0
    assert (beside + also) / alone == pytest.approx(1.15, rel=1e-6)
    assert {row["cpu_seconds"] for row in told["rows"]} == {1.0}


def test_a_tree_is_followed_through_the_dead() -> None:
    pid = os.getpid()
    far = 1 << 23  # above every real number
    tree = Tree(pid, None, by_probes=False)

    def choose(before: Snapshot, after: Snapshot) -> set[int]:
        return tree.choose(used_between(before, after, 2))

    first = snapshot(1, {1: (0, 9), pid: (1, 9), far: (pid, 9), far + 1: (1, 9)})
    assert choose(first, first) == {pid, far}
    second = snapshot(2, {1: (0, 9), pid: (1, 9), far + 2: (far, 1), far + 3: (far + 1, 1)})
    # Its creator has died since.
    assert choose(first, second) == {pid, far + 2}
    # The number of a child that has died goes to a stranger; another is only now seen of one who
    # had died before.
    uses = {1: (0, 9), pid: (1, 9), far + 2: (1, 0.1), far + 4: (far + 2, 1), far + 5: (far, 1)}
    assert choose(second, snapshot(3, uses)) == {pid, far + 5}


# -- looks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["process", "cgroup", "container"])
def test_rows_sum_to_the_machine(by: str, without_probes: str) -> None:
    with running(BURN):
        check_sum(look_at(by=by, root=without_probes))
        check_sum(look_at(by=by, root=without_probes, limit=1))
        check_sum(look_at(by=by, root=without_probes, pid=os.getpid()))


@pytest.mark.parametrize("by", ["process", "cgroup", "container"])
def test_rows_sum_to_the_machine_with_probes(by: str, probes: None) -> None:
    with running(BURN), running(FORKING):
        for options in ({}, {"limit": 1}, {"pid": os.getpid()}):
            look = look_at(by=by, **options)
            check_sum(look)
            assert record(look)["weight_source"] == "kernel probes"


def cpu_of(pid: int) -> float:
    return time.clock_gettime((~pid << 3) | 2)


def check_burner(top: Top, pid: int) -> None:
    begun = cpu_of(pid)
    look = look_of(top, 1.0)
    really = cpu_of(pid) - begun
    told = record(look)
    row = next(row for row in told["rows"] if row["pid"] == pid)
    assert row["cpu_seconds"] == pytest.approx(really, rel=0.05, abs=0.02)
    share = row["watts"] / told["active_watts"]
    assert share == pytest.approx(row["cpu_seconds"] / told["busy_cpu_seconds"], rel=0.05)
    assert row["low_watts"] < row["watts"] < row["high_watts"]


def test_a_burner_gets_its_share(
    without_probes: str, steady: Callable[[Callable[[], None]], None]
) -> None:
    with running(BURN) as burner:
        top = Top(1.0, root=without_probes)
        steady(lambda: check_burner(top, burner.pid))
        top.close()


def test_a_burner_gets_its_share_with_probes(
    probes: None, steady: Callable[[Callable[[], None]], None]
) -> None:
    with running(BURN) as burner:
        top = Top(1.0)
        steady(lambda: check_burner(top, burner.pid))
        top.close()


def test_a_tree_alone_has_rows_and_its_dead_are_its_own(probes: None) -> None:
    with running(FORKING) as forking:
        time.sleep(0.2)
        told = record(look_at(1.0, pid=forking.pid))
        assert {row["pid"] for row in told["rows"]} >= {forking.pid}
        others = {row["pid"] for row in told["rows"] if row["parent_pid"] != forking.pid}
        assert others <= {forking.pid}
        # Its children live 3 ms: nearly all of it has ended before the next look.
        assert told["ended_inside_watts"] > sum(row["watts"] for row in told["rows"]) > 0
        assert told["unattributed_watts"] is None


def test_a_tree_without_probes(without_probes: str) -> None:
    with running(TREE, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent, running(BURN):
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        try:
            told = record(look_at(pid=parent.pid, root=without_probes))
        finally:
            os.kill(child, signal.SIGKILL)
    assert told["rows"][0]["pid"] == child
    assert {row["pid"] for row in told["rows"]} <= {child, parent.pid}
    assert told["others_watts"] > 0
    assert told["filter"] == {"pid": parent.pid}


@pytest.fixture
def own_cgroup() -> Iterator[Path]:
    """A cgroup that accounts for CPU time."""
    for mount in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/cpuacct"):
        path = Path(mount) / f"lithowatt-top-{os.getpid()}"
        if not (Path(mount) / "cgroup.procs").exists():
            continue
        try:
            path.mkdir()
        except OSError:
            continue
        yield path
        for _ in range(100):
            with contextlib.suppress(OSError):
                path.rmdir()
                break
            time.sleep(0.05)
        return
    pytest.skip("no cgroup may be made here")


def test_a_cgroup_alone_has_rows(own_cgroup: Path) -> None:
    with running(BURN) as inside, running(BURN) as outside:
        (own_cgroup / "cgroup.procs").write_text(f"{inside.pid}\n")
        for by in ("process", "cgroup"):
            look = look_at(cgroup=str(own_cgroup), by=by)
            check_sum(look)
            told = record(look)
            assert len(told["rows"]) == 1
            assert told["rows"][0]["pid"] in (None, inside.pid)
            assert told["rows"][0]["cgroup"] == f"/{own_cgroup.name}"
            assert told["others_watts"] > 0
        assert outside.poll() is None


def usage_of(cgroup: Path) -> float:
    """CPU time of a cgroup, version 2, s."""
    fields = dict(line.split() for line in (cgroup / "cpu.stat").read_text().splitlines())
    return int(fields["usage_usec"]) * 1e-6


def test_what_ended_in_a_cgroup_is_its_own(
    probes: None, own_cgroup: Path, steady: Callable[[Callable[[], None]], None]
) -> None:
    if not (own_cgroup / "cgroup.controllers").exists():
        pytest.skip("no cgroups of version 2")
    with running(FORKING) as forking, running(BURN):
        (own_cgroup / "cgroup.procs").write_text(f"{forking.pid}\n")
        top = Top(1.0, by="cgroup")
        look_of(top, 0.2)

        def check() -> None:
            top.look()
            begun = usage_of(own_cgroup)
            look = look_of(top, 1.0)
            really = usage_of(own_cgroup) - begun
            check_sum(look)
            rows = record(look)["rows"]
            row = next(row for row in rows if row["cgroup"] == f"/{own_cgroup.name}")
            assert row["cpu_seconds"] == pytest.approx(really, rel=0.05, abs=0.01)
            # Its children live 3 ms.
            assert row["ended_cpu_seconds"] > 0.5 * row["cpu_seconds"]

        steady(check)
        top.close()


@pytest.mark.usefixtures("live")
def test_on_a_counter(steady: Callable[[Callable[[], None]], None]) -> None:
    """One busy CPU of a machine whose joules are known."""

    def check() -> None:
        with Rig(idle_watts=20.0, gain=30.0, gamma=1.0) as rig, running(BURN) as burner:
            rig.register(burner.pid)
            top = Top(1.0, root=str(rig.root))
            top.look()
            begun = time.monotonic_ns()
            look = look_of(top, 1.0)
            truth = rig.energy(begun, time.monotonic_ns())
            top.close()
            check_sum(look)
            told = record(look)
            assert (told["quality"], told["method"]) == ("measured", "rapl")
            assert told["machine_low_watts"] <= told["machine_watts"] <= told["machine_high_watts"]
            machine = truth.machine / truth.seconds
            assert told["machine_watts"] == pytest.approx(machine, rel=0.05)
            row = next(row for row in told["rows"] if row["pid"] == burner.pid)
            # How idle is told apart is not what is tested here.
            active = truth.machine - truth.idle
            expected = told["active_watts"] * truth.pids[burner.pid] / active
            assert row["watts"] == pytest.approx(expected, rel=0.1)

    steady(check)


def test_a_row_and_a_meter_say_the_same(
    probes: None, steady: Callable[[Callable[[], None]], None]
) -> None:
    """Of one process in one window, by the weights of the same kernel probes."""

    def check() -> None:
        with (
            Rig(idle_watts=20.0, gain=30.0, gamma=1.0) as rig,
            running(BURN) as burner,
            running(BURN),
        ):
            # The machine's joules are the rig's, its probes the kernel's own.
            fs = rig.root / "sys/fs"
            if not (fs / "bpf").exists():
                pytest.skip("the simulated machine does not show the kernel's probes")
            top = Top(1.0, root=str(rig.root))
            meter = EnergyMeter(pid=burner.pid, methods=["rapl", "ebpf"], root=rig.root)
            top.look()
            with meter:
                look = look_of(top, 1.5)
            top.close()
            told = record(look)
            row = next(row for row in told["rows"] if row["pid"] == burner.pid)
            reading = meter.reading
            assert told["weight_source"] == "kernel probes"
            assert reading.method == "rapl+ebpf", reading.warnings
            assert f"{told['weight']} seen" in meter.stats()["worker_func_ebpf_source"]
            seconds = told["seconds"]
            assert row["joules"] / seconds == pytest.approx(
                reading.marginal / reading.duration, rel=0.03
            )

    steady(check)


@pytest.mark.parametrize("idle_watts", [None, "3"])
@pytest.mark.parametrize("counter", [True, False])
def test_a_row_and_a_meter_state_one_band(
    counter: bool, idle_watts: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if idle_watts is not None:
        monkeypatch.setenv("LITHOWATT_IDLE_WATTS", idle_watts)
    tree = StaticTree(tmp_path)
    methods = ["rapl", "tdp"] if counter else ["tdp"]
    meter = EnergyMeter(root=tmp_path, methods=methods, interval=None, definition="marginal")
    with meter:
        time.sleep(0.05)
        sum(range(1_000_000))
        tree.add("package-0", 2_000_000)
    reading = meter.reading
    energy = energy_of_machine(reading)
    assert energy is not None and energy.quality == ("measured" if counter else "modelled")
    assert energy.idle_source == ("configured" if counter and idle_watts else "modelled")
    share = reading.raw["headline"]["share"]
    assert share["value"] > 0
    # Where the busy time is unknown any share may be true.
    known = share["low"] > 0
    busy_ns = round(reading.cpu_seconds * 1e9 / share["value"]) if known else None
    (row,) = parts(
        [share["value"]], 1.0, energy, busy_ns, by_probes=False, spread=_core.workload_spread()
    )
    joules, low, high = reading.headline[:3]
    if not counter:
        assert row == pytest.approx((joules, low, high), rel=1e-9)
        return
    # What the counters do not know of memory widens machine and idle together; beside each other
    # they are two doubts, and the row's band is a little wider.
    assert row[0] == pytest.approx(joules, rel=1e-9)
    wider = 0.15 * (high - low)
    assert low - wider <= row[1] <= low * (1 + 1e-9)
    assert high * (1 - 1e-9) <= row[2] <= high + wider


def test_the_machine_and_idle_are_those_of_the_meter_beside(tmp_path: Path) -> None:
    tree = StaticTree(tmp_path)
    top = Top(0.1, root=str(tmp_path))
    tree.add("package-0", 2_000_000)
    time.sleep(0.05)
    look = top.look()
    top.close()
    assert look is not None and look.energy is not None
    bands = top._next.reading.raw["headline"]["bands"]
    for name in ("machine", "idle"):
        assert getattr(look.energy, name) == tuple(bands[name].values())


# -- beside RAPL: sensors and GPUs -----------------------------------------------------------------


def test_sensors_of_hwmon_are_measured_where_there_is_no_rapl(tmp_path: Path) -> None:
    chips = grace(tmp_path)
    begin = time.monotonic_ns()
    look = look_at(0.6, root=str(tmp_path))
    end = time.monotonic_ns()
    told = record(look)
    assert (told["quality"], told["method"]) == ("measured", "hwmon")
    truth = sum(chips.joules(channel, begin, end) for channel in SOCKETS) / ((end - begin) * 1e-9)
    assert told["machine_watts"] == pytest.approx(truth, rel=0.02)
    assert told["machine_low_watts"] < truth < told["machine_high_watts"]
    check_sum(look)
    # That no GPU is shown has its reason.
    assert told["gpus"] == [] and told["gpu_watts"] is None
    assert told["gpu_source"].startswith("unavailable: ")
    assert "measured by hwmon" in plain(look, None)
    assert "GPU" not in plain(look, None)
    assert "GPUs: unavailable: " in plain(look, None, Form(verbose=True))


def test_cards_have_rows_beside_the_machine(tmp_path: Path) -> None:
    chips = cards(tmp_path)
    top = Top(0.5, root=str(tmp_path))
    look_of(top)
    # All the time: a counter that stands still has no energy.
    steps: list[None] = []

    def step() -> None:
        chips.use("hwmon4/energy1_input", 0.3)
        steps.append(None)

    with meanwhile(step, 0.01):
        look = look_of(top, 1.0)
        used = 0.3 * len(steps)
    top.close()
    told = record(look)
    check_sum(look)
    gpus = {gpu["name"]: gpu for gpu in told["gpus"]}
    assert len(gpus) == 2
    radeon, arc = (
        next(gpu for name, gpu in gpus.items() if slot in name) for slot in ("03:00.0", "05:00.0")
    )
    assert radeon["watts"] == pytest.approx(90.0, rel=0.05)
    assert arc["watts"] * told["seconds"] == pytest.approx(used, rel=0.15)
    assert arc["low_watts"] < arc["watts"] < arc["high_watts"]
    assert told["gpu_watts"] == pytest.approx(radeon["watts"] + arc["watts"])
    assert told["gpu_low_watts"] < told["gpu_watts"] < told["gpu_high_watts"]
    # The processor with its own graphics is the machine, and holds no card.
    assert told["machine_watts"] == pytest.approx(17.0, rel=0.05)
    lines = {line.name: line for line in table(look, None)}
    both = told["machine_watts"] + told["gpu_watts"]
    assert float(lines["machine and GPUs"].watts) == pytest.approx(both, abs=0.002)
    text = plain(look, None)
    assert "in no row of a process" in text
    assert text.rindex("machine and GPUs") > text.rindex("03:00.0") > text.index("idle")


@pytest.mark.slow
@pytest.mark.skipif(
    NvmlGpus.unavailable_reason() is not None, reason=str(NvmlGpus.unavailable_reason())
)
def test_nvidias_gpus_have_rows_beside_the_machine(tmp_path: Path) -> None:
    gpus = NvmlGpus(tmp_path / "gpus", gpus=[Gpu(0), Gpu(1, rest=20, slope=80, limit=100)])
    gpus.use(1, 60)
    command = [sys.executable, "-m", "lithowatt", "top", "--json", "--count", "2"]
    command += ["--interval", "2", "--root", str(gpus.root)]
    done = subprocess.run(
        command, env=gpus.environment, capture_output=True, text=True, timeout=60, check=True
    )
    told = json.loads(done.stdout.splitlines()[1])
    assert sum_of(told) == pytest.approx(told["machine_watts"], rel=1e-9)
    watts = {gpu["name"]: gpu["watts"] for gpu in told["gpus"]}
    # 50 W at rest and 0.6 x 250 W; 20 W.
    assert watts == pytest.approx({"gpu-0 Fake-0": 200.0, "gpu-1 Fake-1": 20.0}, rel=0.05)
    assert told["gpu_low_watts"] < 220.0 < told["gpu_high_watts"]
    assert told["gpu_source"] == "measured: gpu-0 Fake-0, gpu-1 Fake-1"


def test_a_gpu_that_is_not_known_is_no_zero() -> None:
    look = hostile_look()
    look.gpus = Gpus(
        [("gpu-0 X", (9.0, 8.0, 10.0), None), ("gpu-1 Y\x1b[2J", None, "gone")],
        None,
        "unavailable: gpu-1 Y: gone",
    )
    told = record(look)
    assert told["gpu_watts"] is None
    assert [gpu["watts"] for gpu in told["gpus"]] == [9.0, None]
    assert told["gpus"][1]["reason"] == "gone"
    lines = {line.name: line.watts for line in table(look, None)}
    assert lines["gpu-0 X"] == "9.000" and lines["gpu-1 Y\\x1b[2J"] == "–"
    assert "machine and GPUs" not in lines
    for form in (Form(), Form(verbose=True)):
        assert plain(look, None, form).count("GPUs: unavailable: gpu-1 Y: gone") == 1


# -- where little is told -------------------------------------------------------------------------


def test_without_probes_it_says_why_and_what_to_do(without_probes: str) -> None:
    look = look_at(0.1, root=without_probes)
    told = record(look)
    assert told["weight"] == "CPU clocks"
    assert told["probes_reason"]
    assert told["unseen_slices"] is None
    said = " ".join(plain(look, 5, Form(verbose=True)).split())
    assert f"without kernel probes: {told['probes_reason']}" in said
    # The usual header is two lines, which say where the remedy is.
    first, second, blank, *_ = plain(look, 5).splitlines()
    assert "machine" in first and "lithowatt doctor" in second and not blank


def in_a_container(*arguments: str) -> dict[str, Any]:
    """One look from a PID namespace with a /proc of its own."""
    unshare = ["unshare", "--pid", "--fork", "--mount-proc"]
    try:
        tried = subprocess.run([*unshare, "true"], stderr=subprocess.PIPE, text=True)
    except FileNotFoundError:
        pytest.skip("there is no unshare(1)")
    if tried.returncode != 0:
        pytest.skip(tried.stderr)
    done = subprocess.run(
        [*unshare, *command("--once", "--interval", "0.3", "--json", *arguments)],
        stdout=subprocess.PIPE,
        check=True,
    )
    told: dict[str, Any] = json.loads(done.stdout)
    assert sum_of(told) == pytest.approx(told["machine_watts"], rel=1e-9)
    return told


def test_in_a_container_the_kernels_numbers_get_no_names(probes: None) -> None:
    with running(BURN) as burner:
        told = in_a_container()
    assert any("kernel's own numbers" in text for text in told["warnings"])
    row = next(row for row in told["rows"] if row["pid"] == burner.pid)
    assert row["name"] == f"kernel pid {burner.pid}"


def test_in_a_container_a_tree_goes_by_its_clocks(probes: None) -> None:
    told = in_a_container("--pid", "1")
    assert told["weight"] == "CPU clocks"
    assert "in a container" in told["probes_reason"]
    # Itself: the first process of the namespace.
    assert {row["pid"] for row in told["rows"]} == {1}
    assert not told["warnings"] or all("numbers" not in text for text in told["warnings"])


def test_probes_that_go_away_are_done_without(
    probes: None, without_probes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = Top(0.5)
    check_sum(look_of(top, 0.2))
    gone = UnavailableError("kernel probes were unloaded")

    def take(_: ProbeCounts) -> Snapshot:
        raise gone

    monkeypatch.setattr(ProbeCounts, "take", take)
    monkeypatch.setattr(top, "_root", without_probes)
    # What both counted cannot be compared.
    assert top.look() is None
    look = look_of(top, 0.2)
    check_sum(look)
    assert look.weight == "CPU clocks" and look.why_not_probes
    top.close()


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def stat_of(pid: int, comm: str, parent: int, ticks: int) -> str:
    return f"{pid} ({comm}) S {parent} 1 1 0 -1 0 0 0 0 0 {ticks - 40} 40 0 0 20 0 1 0 0 0 0\n"


def test_of_another_proc_the_ticks_are_read(tmp_path: Path) -> None:
    root = tmp_path
    cpus = "cpu0 0\ncpu1 0\n"
    write(
        root,
        {
            "proc/stat": f"cpu  0 0 0 1000 0 0 0 0 0 0\n{cpus}",
            "proc/uptime": "100.00 10.00\n",
            "proc/cpuinfo": "model name\t: AMD EPYC 7B13\nflags\t\t: fpu hypervisor\n",
            "proc/meminfo": "MemTotal: 8388608 kB\nMemAvailable: 8000000 kB\n",
            "sys/devices/system/cpu/online": "0-1\n",
            "proc/8000001/stat": stat_of(8000001, "a) (b", 1, 100),
            "proc/8000001/comm": "a) (b\n",
            "proc/8000001/cgroup": f"0::/docker/{HEX}\n",
            "proc/8000002/stat": "garbage",
        },
    )
    top = Top(0.5, root=str(root))
    ticks = stat_of(8000001, "a) (b", 1, 110).replace(" 70 40 ", " 65 45 ")
    write(root, {"proc/8000001/stat": ticks})
    look = look_of(top, 0.2)
    top.close()
    told = record(look)
    assert told["weight"] == "CPU time in steps of 10 ms"
    (row,) = told["rows"]
    assert (row["pid"], row["name"]) == (8000001, "a) (b")
    assert row["cpu_seconds"] == pytest.approx(10 / os.sysconf("SC_CLK_TCK"))
    assert row["container"] == f"docker {HEX[:12]}"
    check_sum(look)


HOSTILE = "\x1b[31m[bold]x\u202e"


def hostile_look() -> Look:
    row = Row(7, 1, HOSTILE, place_of("/a\x1b[2J"), 1, 10**9, None, (4.0, 3.0, 5.0))
    return Look(
        seconds=1.0,
        span_ns=10**9,
        when=0.0,
        energy=energy_of(),
        why_no_energy=None,
        rows=[row],
        more=(2, 10**8, 1.0),
        unattributed=7.0,
        ended_inside=None,
        others=None,
        busy_ns=2 * 10**9,
        weight="on-CPU time",
        weight_source="kernel probes",
        why_not_probes=None,
        asked={},
        by="process",
        own_ns=10**6,
        processes=3,
        unseen_slices=0,
        gpus=Gpus([], None, "unavailable: no NVIDIA driver is loaded"),
        warnings=["bad\x1b[2J"],
    )


def test_a_name_does_not_reach_the_terminal_as_it_is() -> None:
    text = plain(hostile_look(), None)
    assert "\\x1b[31m[bold]x\\u202e" in text and "bad\\x1b[2J" in text
    assert all(line.isprintable() for line in text.split("\n"))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Asked:
    """As much of a Top as a view wants to know."""

    limit: int | None = None


def test_the_live_view(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")
    for name, value in (("TERM", "xterm"), ("COLUMNS", "120"), ("LINES", "30")):
        monkeypatch.setenv(name, value)
    screen = Terminal()
    show(iter([hostile_look()]), Asked(), screen)  # type: ignore[arg-type]
    text = screen.getvalue()
    assert "\\x1b[31m[bold]x\\u202e" in text
    assert (
        "machine 20 W" in text and "\x1b[31m" not in text and "\x1b[2J" not in text.split("x")[-1]
    )


def test_without_rich_the_table_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setitem(sys.modules, "rich", None)
    screen = Terminal()
    show(iter([hostile_look()]), Asked(), screen)  # type: ignore[arg-type]
    text = screen.getvalue()
    assert text.startswith("for a live view: ") and "pip install 'rich>=13'\n" in text
    assert "\x1b" not in text and "machine 20 W" in text


def test_a_table_that_is_cut_keeps_its_sum() -> None:
    look = hostile_look()
    for most in (None, 0):
        lines = table(look, most)
        *parts, machine = [float(line.watts) for line in lines]
        assert sum(parts) == pytest.approx(machine)


def test_little_rows_are_one_unless_asked_for() -> None:
    look = hostile_look()
    look.rows.append(
        look.rows[0].__class__(8, 1, "idler", place_of("/"), 1, 10**6, None, (0.009, 0, 1))
    )
    look.more = (0, 0, 0.0)
    usual, everything = plain(look, None), plain(look, None, Form(every=True))
    assert "idler" not in usual and "1 more below 0.01 W" in usual
    assert "idler" in everything and "more" not in everything
    # Who names a process sees it, however little it is.
    look.asked = {"pid": 8}
    assert "idler" in plain(look, None)
    for every in (True, False):
        look.asked = {}
        parts = [float(line.watts) for line in table(look, 1, every)][:-3]
        assert sum(parts) == pytest.approx(4.009)


def test_rows_are_not_compared_with_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be tens of thousands."""
    look = hostile_look()
    look.rows += [Row(8 + n, 1, "idler", place_of("/"), 1, 10**6, None, (0, 0, 1)) for n in (0, 1)]

    def compared(*_: object) -> bool:
        raise AssertionError("rows were compared")

    monkeypatch.setattr(Row, "__eq__", compared)
    lines = table(look, None, every=False)
    assert [line.name for line in lines if not line.part] == [printable(HOSTILE)]
    assert "4 more" in [line.name for line in lines]


def test_bands_and_containers_have_a_column_where_they_are_wanted() -> None:
    look = hostile_look()
    assert "95 % band" not in plain(look, None)
    assert "95 % band" in plain(look, None, Form(band=True))
    # A cgroup's path is none of a container.
    assert "CONTAINER" not in plain(look, None)
    look.rows[0].place = place_of(f"/docker/{HEX}")
    assert "CONTAINER" in plain(look, None) and f"docker {HEX[:12]}" in plain(look, None)


def test_no_line_is_wider_than_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    look = hostile_look()
    look.rows[0].name = "n" * 500
    look.rows[0].place = place_of(f"/docker/{HEX}")
    look.why_not_probes = (
        "no BPF file system at /sys/fs/bpf; fix: sudo mount -t bpf bpf /sys/fs/bpf"
    )
    for form in (Form(), Form(band=True, every=True, verbose=True)):
        assert max(map(len, plain(look, None, form).splitlines())) <= 80


# -- the command ----------------------------------------------------------------------------------


def test_json_lines(without_probes: str, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["top", "--json", "--count", "2", "--interval", "0.2", "--root", without_probes]
    with running(BURN) as burner:
        assert main(arguments) == 0
    out, err = capfd.readouterr()
    assert err == "" and out.isascii()
    looks = [json.loads(line) for line in out.splitlines()]
    assert len(looks) == 2
    assert looks[0]["time_unix_s"] < looks[1]["time_unix_s"]
    for told in looks:
        assert told["schema"] == 1 and told["by"] == "process"
        assert told["seconds"] > 0.1
        assert sum_of(told) == pytest.approx(told["machine_watts"], rel=1e-9)
        assert told["quality"] in ("measured", "modelled")
        assert told["own_cpu_seconds"] > 0
        row = next(row for row in told["rows"] if row["pid"] == burner.pid)
        span = told["cpu_window_seconds"]
        assert row["cpu_percent"] == pytest.approx(100 * row["cpu_seconds"] / span)
        assert row["joules"] == pytest.approx(row["watts"] * told["seconds"])
        watts = [row["watts"] for row in told["rows"]]
        assert watts == sorted(watts, reverse=True)


@pytest.mark.parametrize(("order", "key"), [("pid", "pid"), ("cpu", "cpu_seconds")])
def test_order(order: str, key: str, without_probes: str) -> None:
    told = record(look_at(0.3, root=without_probes, sort=order))
    values = [row[key] for row in told["rows"]]
    assert values == sorted(values, reverse=order == "cpu")


def test_a_command_line_instead_of_a_name(without_probes: str) -> None:
    with running(BURN) as burner:
        look = look_at(0.3, root=without_probes, command_line=True)
    row = next(row for row in look.rows if row.pid == burner.pid)
    assert row.name == f"{sys.executable} -S -c {BURN}"


def test_it_ends_with_what_it_watches(without_probes: str, capsys: Any) -> None:
    with running("import time; time.sleep(0.4)") as process:
        pid = process.pid
        arguments = ["top", "--interval", "0.3", "--pid", str(pid), "--root", without_probes]
        # Its number is gone once its exit code was asked for.
        threading.Thread(target=process.wait).start()
        assert main(arguments) == 0
    assert f"process {pid} has ended" in capsys.readouterr().out


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "lithowatt", "top", *arguments]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_it_cleanly(number: signal.Signals) -> None:
    with subprocess.Popen(
        command("--json", "--interval", "0.2"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        json.loads(process.stdout.readline())
        process.send_signal(number)
        rest = process.stdout.read()
        assert process.wait(30) == 0
        assert process.stderr.read() == ""
    for line in rest.splitlines():
        json.loads(line)


IN_A_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.mark.parametrize("keys", [b"xq", b"\x03"], ids=["q", "Ctrl-C"])
def test_a_key_ends_it_and_the_terminal_is_as_before(keys: bytes) -> None:
    screen, terminal = pty.openpty()
    try:
        before = termios.tcgetattr(terminal)
        with subprocess.Popen(
            [sys.executable, "-c", IN_A_TERMINAL, *command("--interval", "0.3")[1:]],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env={**os.environ, "TERM": "dumb"},
        ) as process:
            seen = b""
            while b"machine" not in seen:
                seen += os.read(screen, 4096)
            # Keys come one by one, and are not shown.
            assert not termios.tcgetattr(terminal)[3] & (termios.ICANON | termios.ECHO)
            os.write(screen, keys)
            assert process.wait(60) == 0
        assert termios.tcgetattr(terminal) == before
    finally:
        os.close(screen)
        os.close(terminal)


@pytest.mark.parametrize("form", [["--json"], []])
def test_a_reader_that_goes_ends_it(form: list[str]) -> None:
    with subprocess.Popen(
        command(*form, "--interval", "0.2"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.wait(30) == 0
        assert process.stderr.read() == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("form", [["--json"], []])
def test_an_output_that_is_full_is_said(form: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command(*form, "--interval", "0.1"), stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 2
    assert done.stderr == ("lithowatt: the output could not be written: No space left on device\n")


def test_without_an_output() -> None:
    shell = ["sh", "-c", 'exec "$@" >&-', "sh", *command("--once")]
    done = subprocess.run(shell, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("lithowatt: standard output is closed")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--interval", "0"], "0.1 to 3600"),
        (["--interval", "nan"], "nan"),
        (["--interval", "1e9"], "1000000000.0"),
        (["--interval", "x"], "x"),
        (["--count", "0"], "'0' is no whole number from 1 on"),
        (["--limit", "-3"], "'-3'"),
        (["--pid", "8000001"], "8000001"),
        (["--pid", "1", "--cgroup", "/"], "not allowed with"),
        (["--once", "--count", "2"], "not allowed with"),
        (["--cgroup", "/proc"], "/proc is no cgroup; expected a directory with cgroup.procs"),
        (["--cgroup", "/no\x1b[31m"], "/no\\x1b[31m is no cgroup"),
        (["--sort", "joules"], "joules"),
        (["--by", "user"], "user"),
        (["--root", "/nowhere"], "/nowhere/proc"),
    ],
)
def test_bad_arguments(arguments: list[str], named: str, capsys: Any) -> None:
    try:
        code = main(
            ["top", "--once", *arguments] if "--count" not in arguments else ["top", *arguments]
        )
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    assert code == 2
    out, err = capsys.readouterr()
    assert out == "" and named in err


def _mounted(proc: Path, *options: str) -> Path:
    """A /proc that says it is mounted with these options, one after the other."""
    (proc / "self").mkdir(parents=True)
    lines = [f"22 1 0:20 / {proc} rw shared:5 - proc proc rw,{option}\n" for option in options]
    (proc / "self" / "mountinfo").write_text("".join(lines))
    return proc


def test_a_proc_that_hides_others_is_known(tmp_path: Path) -> None:
    for number, option in enumerate(("hidepid=invisible", "hidepid=2", "gid=9,hidepid=1")):
        assert hides_others(_mounted(tmp_path / str(number), option)), option
    for number, options in enumerate((["relatime"], ["hidepid=0"], ["hidepid=off"]), 10):
        assert not hides_others(_mounted(tmp_path / str(number), *options)), options
    # The last mount is what is seen, and a member of the group sees everybody.
    assert not hides_others(_mounted(tmp_path / "over", "hidepid=2", "relatime"))
    seen = _mounted(tmp_path / "seen", "hidepid=2,gid=9")
    (seen / "1").mkdir()
    (seen / "1" / "stat").write_text("1 (init) S 0")
    assert not hides_others(seen)
    assert not hides_others(tmp_path / "nothing")
