"""The part of the machine that is ours: quotas, cpusets, memory, throttling and steal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lithowatt import EnergyMeter, PowerModel, _core

pytestmark = pytest.mark.quiet

GIB = 1 << 30


class Machine:
    """A machine as plain files: 64 CPUs of a guest, at rest unless a test says otherwise."""

    def __init__(self, root: Path, files: dict[str, str] | None = None) -> None:
        self.root = root
        self.idle = 6400.0
        self.steal = 0
        self.write("sys/devices/system/cpu/online", "0-63\n")
        self.write("proc/cpuinfo", "model name\t: AMD EPYC 7B13\nflags\t\t: fpu hypervisor\n")
        self.write("proc/meminfo", "MemTotal: 268435456 kB\nMemAvailable: 200000000 kB\n")
        self.tell()
        for name, text in (files or {}).items():
            self.write(name, text)

    def write(self, name: str, text: str) -> None:
        """In place, as a file of the kernel changes."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("r+" if path.exists() else "w") as file:
            file.write(text)
            file.truncate()

    def tell(self) -> None:
        self.write("proc/uptime", f"100.00 {self.idle:.2f}\n")
        self.write("proc/stat", f"cpu  0 0 0 {self.idle * 100:.0f} 0 0 0 {self.steal} 0 0\n")

    def rest(self, seconds: float) -> None:
        """All CPUs were idle for so long."""
        self.idle += 64 * seconds
        self.tell()

    def share(self) -> dict[str, Any]:
        share: dict[str, Any] = _core.surroundings(self.root)["allotted"]
        return share


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


V2 = {
    "proc/self/cgroup": "0::/kubepods/pod/box\n",
    "sys/fs/cgroup/cgroup.controllers": "cpuset cpu memory\n",
    "sys/fs/cgroup/kubepods/cpu.max": "800000 100000\n",
    "sys/fs/cgroup/kubepods/pod/cpu.max": "50000 100000\n",
    "sys/fs/cgroup/kubepods/pod/memory.max": f"{GIB // 2}\n",
    "sys/fs/cgroup/kubepods/pod/cpu.stat": "usage_usec 0\nnr_periods 0\nnr_throttled 0\n",
    "sys/fs/cgroup/kubepods/pod/box/cpu.max": "max 100000\n",
    "sys/fs/cgroup/kubepods/pod/box/memory.max": "max\n",
}
V1 = {
    "proc/self/cgroup": "4:memory:/docker/f\n3:cpuacct,cpu:/docker/f\n2:cpuset:/docker/f\n",
    "sys/fs/cgroup/cpuacct,cpu/docker/f/cpu.cfs_quota_us": "25000\n",
    "sys/fs/cgroup/cpuacct,cpu/docker/f/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/cpuacct,cpu/docker/f/cpu.stat": "nr_periods 0\n",
    "sys/fs/cgroup/cpuacct,cpu/docker/f/cpuacct.usage": "0\n",
    "sys/fs/cgroup/memory/docker/f/memory.limit_in_bytes": f"{GIB}\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
}
HYBRID = {
    "proc/self/cgroup": "2:cpu:/\n1:name=systemd:/\n0::/\n",
    "sys/fs/cgroup/unified/cgroup.controllers": "\n",
    "sys/fs/cgroup/unified/cpu.stat": "usage_usec 1\n",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "150000\n",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
}
INSIDE = {
    # A container without a cgroup namespace: the path is the host's, the mount is its own.
    "proc/self/cgroup": "0::/../../system.slice/docker-1.scope\n",
    "sys/fs/cgroup/cpu.max": "75000 100000\n",
    "sys/fs/cgroup/memory.max": f"{2 * GIB}\n",
}


@pytest.mark.parametrize(
    ("files", "quota", "memory"),
    [
        (V2, 0.5, 0.5),
        (V1, 0.25, 1.0),
        (HYBRID, 1.5, None),
        (INSIDE, 0.75, 2.0),
        # No /proc/self/cgroup at all.
        ({"sys/fs/cgroup/cpu.max": "20000 100000\n"}, 0.2, None),
    ],
    ids=["v2", "v1", "hybrid", "inside", "bare"],
)
def test_the_quota_is_the_share(
    files: dict[str, str], quota: float, memory: float | None, tmp_path: Path
) -> None:
    share = Machine(tmp_path, files).share()
    assert (share["cpus"], share["set_by"], share["quota"]) == (quota, "quota", quota)
    assert share["memory_gib"] == memory
    assert share["machine_cpus"] == 64


@pytest.mark.parametrize(
    "files",
    [
        {"sys/fs/cgroup/cpuset.cpus.effective": "7\n"},
        {"proc/self/cgroup": "5:cpuset:/a\n", "sys/fs/cgroup/cpuset/a/cpuset.cpus": "7\n"},
    ],
    ids=["v2", "v1"],
)
def test_a_cpuset_is_a_share(files: dict[str, str], tmp_path: Path) -> None:
    share = Machine(tmp_path, files).share()
    assert share["cpuset"] == 1
    if len(os.sched_getaffinity(0)) > 1:
        assert (share["cpus"], share["set_by"]) == (1.0, "cpuset")


def test_affinity_is_what_is_left(machine: Machine) -> None:
    allowed = len(os.sched_getaffinity(0))
    share = machine.share()
    assert (share["cpus"], share["set_by"], share["affinity"]) == (allowed, "affinity", allowed)


@pytest.mark.parametrize(("text", "smt"), [("1\n", True), ("0\n", False), ("?\n", None)])
def test_smt(text: str, smt: bool | None, machine: Machine) -> None:
    machine.write("sys/devices/system/cpu/smt/active", text)
    assert machine.share()["smt"] is smt


@pytest.mark.parametrize(
    "files",
    [
        {"sys/fs/cgroup/cpu.max": "max 100000\n"},
        {"sys/fs/cgroup/cpu.max": "-1 100000\n"},
        {"sys/fs/cgroup/cpu.max": "1 0\n"},
        {"sys/fs/cgroup/cpu.max": "nan nan\n"},
        {"sys/fs/cgroup/cpu.max": ""},
        {"sys/fs/cgroup/memory.max": "much\n", "proc/self/cgroup": "\x00:\n::::\n"},
    ],
)
def test_what_is_no_limit_limits_nothing(files: dict[str, str], tmp_path: Path) -> None:
    share = Machine(tmp_path, files).share()
    assert (share["quota"], share["memory_gib"]) == (None, None)
    assert share["set_by"] == "affinity"


# -- what the model charges --------------------------------------------------------------------

STAT = "sys/fs/cgroup/kubepods/pod/cpu.stat"


def metered(machine: Machine, during: Callable[[], None] = lambda: None, **options: Any) -> Any:
    """The second window of a meter: from the first on the machine is known."""
    meter = EnergyMeter(root=machine.root, interval=None, **options)
    with meter:
        pass
    with meter:
        began, cpu = time.monotonic(), time.process_time()
        while time.monotonic() - began < 0.25:
            pass
        meter_cpu = time.process_time() - cpu
        machine.rest(time.monotonic() - began)
        machine.write(
            STAT,
            f"usage_usec {meter_cpu * 1e6:.0f}\nnr_periods 2\nnr_throttled 0\nthrottled_usec 0\n",
        )
        during()
    return meter


def get(meter: EnergyMeter, key: str) -> Any:
    return meter.stats()[f"worker_func_{key}"]


def test_the_sandbox_is_charged_and_no_more(tmp_path: Path) -> None:
    machine = Machine(tmp_path, V2)
    meter = metered(machine)
    seconds, cpu = get(meter, "energy_duration"), get(meter, "energy_cpu_time")
    assert get(meter, "energy_quality") == "modelled"
    # It used more than its quota, as a burst may: it is charged what it used.
    busy = cpu / seconds
    model = PowerModel.for_machine(tmp_path)
    vcpus = max(0.5, busy)
    method = model.share_watts(vcpus, busy, 0.5).total
    assert get(meter, "energy_machine") == pytest.approx(method[0] * seconds, rel=0.05)
    # Alone in its sandbox it has the idle power of its CPUs too, but not in the headline: a quota
    # on a machine that others share leaves it a machine.
    assert get(meter, "energy_definition") == "marginal"
    assert get(meter, "energy_consumption") == get(meter, "energy_marginal")
    assert get(meter, "energy_amortised") == pytest.approx(get(meter, "energy_machine"), rel=0.05)
    whole = model.share_watts(64.0, busy, 256.0).total
    assert get(meter, "energy_amortised") < 0.1 * whole[0] * seconds
    parts = sum(get(meter, f"energy_{part}") for part in ("idle", "others", "marginal"))
    assert parts == pytest.approx(get(meter, "energy_machine"))
    assert "that of the sandbox, 0.50 of 64 CPUs" in str(meter.reading)
    source = get(meter, "tdp_source")
    assert "0.50 of 64 CPUs by cgroup quota, memory 0.50 GiB; idle power of these CPUs" in source


def test_what_cannot_be_read_as_a_limit_or_a_clock_is_told(tmp_path: Path) -> None:
    clock = "sys/devices/system/cpu/cpu0/cpufreq"
    odd = {
        "sys/fs/cgroup/kubepods/pod/cpu.max": "lots 100000\n",
        "sys/fs/cgroup/kubepods/pod/memory.max": "\n",
        f"{clock}/cpuinfo_max_freq": "1000\n",
    }
    machine = Machine(tmp_path, V2 | odd)
    warnings = metered(machine).reading.warnings
    told = [text for text in warnings if "no limit: none" in text or "which no processor" in text]
    limits, memory, top = told
    assert 'kubepods/pod/cpu.max holds "lots 100000", which is no limit' in limits
    assert 'kubepods/pod/memory.max holds "", which is no limit' in memory
    assert f"/{clock}/cpuinfo_max_freq shows 1 MHz" in top
    # The next limit upwards still holds.
    assert machine.share()["quota"] == 8.0


def test_the_machines_model_is_what_its_meter_uses(tmp_path: Path) -> None:
    """With 16 GiB a CPU, of which a guest's host has another part at rest than with 4."""
    machine = Machine(tmp_path, {**V2, "proc/meminfo": "MemTotal: 1073741824 kB\n"})
    meter = metered(machine)
    seconds, cpu = get(meter, "energy_duration"), get(meter, "energy_cpu_time")
    vcpus, busy = max(0.5, cpu / seconds), cpu / seconds
    expected = PowerModel.for_machine(tmp_path).share_watts(vcpus, busy, 0.5).total.value
    assert get(meter, "energy_machine") == pytest.approx(expected * seconds, rel=0.01)
    by_name = PowerModel.for_cpu("AMD EPYC 7B13", 64).share_watts(vcpus, busy, 0.5).total.value
    assert expected != pytest.approx(by_name, rel=0.05)


@pytest.mark.parametrize(
    "text", [None, "", "MemTotal: 0 kB\n", "MemTotal: -1 kB\n", "MemFree: 9 kB\n"]
)
def test_memory_of_an_unknown_size_is_not_none(text: str | None, tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    known = PowerModel.for_machine(tmp_path).share_watts(64.0, 8.0, 256.0).total
    bare = PowerModel.for_machine(tmp_path).share_watts(64.0, 8.0, 0.0).total
    if text is None:
        (tmp_path / "proc/meminfo").unlink()
    else:
        machine.write("proc/meminfo", text)
    assert _core.surroundings(tmp_path)["memory_gib"] is None
    meter = metered(machine)
    notes = meter.reading.notes
    assert any("the size is not known" in note for note in notes), notes
    seconds, cpu = get(meter, "energy_duration"), get(meter, "energy_cpu_time")
    expected = PowerModel.for_machine(tmp_path).share_watts(64.0, cpu / seconds, None).total
    assert get(meter, "energy_machine") == pytest.approx(expected.value * seconds, rel=0.05)
    parts = sum(get(meter, f"energy_{part}") for part in ("idle", "others", "marginal"))
    assert parts == pytest.approx(get(meter, "energy_machine"))
    unknown = PowerModel.for_machine(tmp_path).share_watts(64.0, 8.0, None).total
    assert unknown.value > 1.1 * bare.value and unknown.low < known.low < known.high < unknown.high


def test_idle_power_is_of_the_quota(tmp_path: Path) -> None:
    machine = Machine(tmp_path, V2)
    meter = EnergyMeter(root=machine.root, interval=None)
    with meter:
        pass
    start = time.monotonic()
    with meter:
        time.sleep(0.2)
        machine.rest(time.monotonic() - start)
    # Writing the files is work too, and a hundredth of a CPU shows beside the idle power of a half.
    seconds, cpu = get(meter, "energy_duration"), get(meter, "energy_cpu_time")
    model = PowerModel.for_machine(tmp_path)
    watts = model.share_watts(0.5, cpu / seconds, 0.5).total[0]
    assert get(meter, "energy_machine") == pytest.approx(watts * seconds, rel=0.05)
    # Of all 64 CPUs it would be far more.
    assert watts < 0.1 * model.share_watts(64.0, cpu / seconds, 256.0).total[0]


def test_a_memory_limit_above_the_machines_memory_is_none(tmp_path: Path) -> None:
    limits = {"none": "max\n", "above": f"{1 << 50}\n"}
    found = []
    for name, limit in limits.items():
        files = {**V2, "sys/fs/cgroup/kubepods/pod/memory.max": limit}
        machine = Machine(tmp_path / name, files)
        assert machine.share()["memory_gib"] is None
        meter = metered(machine)
        found.append(get(meter, "energy_idle") / get(meter, "energy_duration"))
    assert found[1] == pytest.approx(found[0], rel=0.2)


def test_others_in_the_sandbox_are_not_ours(tmp_path: Path) -> None:
    machine = Machine(tmp_path, V2)
    meter = metered(machine, lambda: machine.write(STAT, "usage_usec 500000\n"))
    assert get(meter, "energy_definition") == "marginal"
    assert get(meter, "energy_others") > 0.5 * get(meter, "energy_marginal")
    assert get(meter, "energy_consumption") == get(meter, "energy_marginal")


def test_others_outside_the_sandbox_do_not_matter(tmp_path: Path) -> None:
    machine = Machine(tmp_path, V2)

    def busy_machine() -> None:
        machine.idle -= 64 * 0.25
        machine.tell()

    meter = metered(machine, busy_machine)
    seconds = get(meter, "energy_duration")
    busy = get(meter, "energy_cpu_time") / seconds
    model = PowerModel.for_machine(tmp_path)
    watts = model.share_watts(max(0.5, busy), busy, 0.5).total[0]
    assert get(meter, "energy_amortised") == pytest.approx(watts * seconds, rel=0.05)


@pytest.mark.parametrize("definition", ["marginal", "amortised"])
def test_phases_sum_to_the_headline(definition: str, tmp_path: Path) -> None:
    machine = Machine(tmp_path, V2)
    meter = EnergyMeter(root=machine.root, interval=None, definition=definition)
    with meter:
        pass
    used = 0.0
    with meter:
        for name in ("read", "compute", "write"):
            with meter.phase(name):
                began, cpu = time.monotonic(), time.process_time()
                while time.monotonic() - began < 0.06:
                    pass
                used += time.process_time() - cpu
                machine.write(STAT, f"usage_usec {used * 1e6:.0f}\n")
                machine.rest(0.06)
    phases = [get(meter, f"energy_phase_{name}") for name in ("read", "compute", "write")]
    assert get(meter, "energy_definition") == definition
    assert get(meter, "energy_consumption") == get(meter, f"energy_{definition}")
    assert sum(phases) == pytest.approx(get(meter, "energy_consumption"), rel=0.03)


def test_another_process_is_not_in_our_sandbox(tmp_path: Path) -> None:
    machine = Machine(tmp_path, V2)
    meter = metered(machine, pid=os.getppid())
    assert meter.reading.raw["sandbox"] is None
    idle = PowerModel.for_machine(tmp_path).share_watts(64.0, 0.0, 256.0).total[0]
    assert get(meter, "energy_machine") > 0.8 * idle * get(meter, "energy_duration")


# -- held back ---------------------------------------------------------------------------------


def warnings_of(meter: EnergyMeter, word: str) -> list[str]:
    return [text for text in get(meter, "energy_warnings") if text.startswith(word)]


@pytest.mark.parametrize(("share", "told"), [(0.05, False), (0.5, True)])
def test_throttling(share: float, told: bool, tmp_path: Path) -> None:
    machine = Machine(tmp_path, V2)
    throttled = int(share * 0.25e6)
    text = f"usage_usec 1000\nnr_periods 3\nnr_throttled 2\nthrottled_usec {throttled}\n"
    meter = metered(machine, lambda: machine.write(STAT, text))
    sandbox = meter.reading.raw["sandbox"]
    assert sandbox["throttled_seconds"] == pytest.approx(throttled * 1e-6)
    assert (sandbox["throttled_periods"], sandbox["periods"]) == (2, 3)
    found = warnings_of(meter, "throttled: ")
    assert bool(found) == told
    if told:
        assert "the quota of 0.50 CPUs was used up in 2 of 3 periods" in found[0]


def test_throttling_by_v1(tmp_path: Path) -> None:
    machine = Machine(tmp_path, V1)
    text = "nr_periods 3\nnr_throttled 2\nthrottled_time 200000000\n"
    stat = "sys/fs/cgroup/cpuacct,cpu/docker/f/cpu.stat"
    meter = metered(machine, lambda: machine.write(stat, text))
    assert meter.reading.raw["sandbox"]["throttled_seconds"] == pytest.approx(0.2)
    assert len(warnings_of(meter, "throttled: ")) == 1


@pytest.mark.parametrize(("ticks", "told"), [(2, False), (800, True)])
def test_steal(ticks: int, told: bool, machine: Machine) -> None:
    def stolen() -> None:
        machine.steal += ticks
        machine.tell()

    meter = metered(machine, stolen)
    assert meter.reading.raw["steal_seconds"] == pytest.approx(ticks / 100)
    assert bool(warnings_of(meter, "steal: ")) == told


def test_nothing_is_held_back_at_rest(machine: Machine) -> None:
    meter = metered(machine)
    assert meter.reading.raw["sandbox"] is None
    assert not warnings_of(meter, "throttled: ") and not warnings_of(meter, "steal: ")


# -- a real quota ------------------------------------------------------------------------------

SPIN = """
import json, sys, time
from lithowatt import EnergyMeter

def kernel():
    with open(sys.argv[1]) as file:
        throttled = dict(line.split() for line in file)["nr_throttled"]
    return [int(throttled), time.process_time(), time.monotonic()]

def grown(before, after):
    return [now - then for then, now in zip(before, after)]

out = []
for _ in range(2):
    outside = kernel()
    with EnergyMeter() as m:
        inside = kernel()
        while time.monotonic() - inside[2] < 0.8:
            pass
        inside = grown(inside, kernel())
    out.append([m.stats(), m.reading.raw, inside, grown(outside, kernel())])
print(json.dumps(out))
"""
"""Its own windows, and what the kernel counted inside of each and around it."""


@pytest.fixture
def quota() -> Iterator[tuple[list[Path], float]]:
    """A cgroup of this machine's with 0.3 CPUs: its `cgroup.procs` files, and the quota."""
    top = Path("/sys/fs/cgroup")
    name = f"lithowatt-test-{os.getpid()}"
    v1 = [top / controller / name for controller in ("cpu", "cpuacct")]
    unified = [top / name]
    made: list[Path] = []
    try:
        try:
            if (top / "cpu/cpu.cfs_quota_us").exists() or (top / "cpu/tasks").exists():
                for folder in v1:
                    if folder.resolve() not in [d.resolve() for d in made]:
                        folder.mkdir()
                        made.append(folder)
                (v1[0] / "cpu.cfs_quota_us").write_text("30000\n")
            else:
                unified[0].mkdir()
                made.append(unified[0])
                (unified[0] / "cpu.max").write_text("30000 100000\n")
        except OSError as error:
            pytest.skip(f"no cgroup with a CPU quota can be made here: {error}")
        yield [folder / "cgroup.procs" for folder in made], 0.3
    finally:
        for folder in made:
            for _ in range(50):  # a process that was reaped leaves its group a moment later
                try:
                    folder.rmdir()
                    break
                except OSError:
                    time.sleep(0.02)


def test_a_real_quota(quota: tuple[list[Path], float]) -> None:
    files, cpus = quota
    stat = next(
        s for s in (file.parent / "cpu.stat" for file in files) if "nr_throttled" in s.read_text()
    )

    def join() -> None:
        for file in files:
            file.write_text(str(os.getpid()))

    try:
        done = subprocess.run(
            [sys.executable, "-c", SPIN, str(stat)],
            preexec_fn=join,
            capture_output=True,
            text=True,
            timeout=60,
        )
    except subprocess.SubprocessError as error:
        pytest.skip(f"the cgroup cannot be joined: {error}")
    assert done.returncode == 0, done.stderr
    for stats, raw, inside, around in json.loads(done.stdout):
        share = raw["environment"]["allotted"]
        assert (share["cpus"], share["set_by"]) == (cpus, "quota")
        # How often that is depends on what others leave of the machine.
        assert 0 <= raw["sandbox"]["throttled_periods"] <= around[0]
        held_back = raw["sandbox"]["throttled_seconds"] > 0.5 * raw["duration"]
        told = any(w.startswith("throttled: ") for w in stats["worker_func_energy_warnings"])
        assert told or not held_back
        usage = stats["worker_func_avg_cpu_usage"] / 100 * cpus
        assert 0.95 * inside[1] / around[2] <= usage <= 1.05 * around[1] / inside[2]
        if stats["worker_func_energy_quality"] == "modelled":
            assert f"{cpus:.2f} of " in stats["worker_func_tdp_source"]
    # From the second window on it is known from the start what else ran in the sandbox: nothing.
    stats, raw, inside, _ = json.loads(done.stdout)[1]
    assert raw["sandbox"]["throttled_periods"] >= inside[0]
    assert raw["sandbox"]["cpu_seconds"] == pytest.approx(raw["cpu_seconds"], rel=0.15)
    if stats["worker_func_energy_quality"] == "modelled":
        assert stats["worker_func_energy_definition"] == "marginal"
        amortised, machine = (stats[f"worker_func_energy_{of}"] for of in ("amortised", "machine"))
        assert amortised == pytest.approx(machine, rel=0.15)
