"""Counters that step back, dip, jump or show one thing twice: refused, said, and never added."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lithowatt import EnergyMeter, Reading, _core
from lithowatt.monitors import read_rapl_energy
from rig import StaticTree
from tests.support import RIG
from tests.support.agent_tools import shared_folder

J = 1_000_000
"""µJ in a joule."""

START = 100_000 * J

PROC = ("stat", "uptime", "meminfo", "loadavg")


def machine(path: Path, vendor: str = "GenuineIntel", **looks: Any) -> StaticTree:
    """A machine of plain files with this one's CPU times, whose counters the test sets."""
    looks = {"domains": ("package",), "start_uj": START, **looks}
    tree = StaticTree(path / "root", mirror=False, **looks)
    proc = tree.root / "proc"
    proc.mkdir()
    for name in PROC:
        (proc / name).symlink_to(Path("/proc") / name)
    (proc / "cpuinfo").write_text(
        f"processor\t: 0\nvendor_id\t: {vendor}\nmodel name\t: A processor\n\n"
    )
    return tree


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[StaticTree]:
    with machine(tmp_path) as tree:
        yield tree


class Watched:
    """A window whose counters are read whenever the test says, as the sampler would."""

    def __init__(self, tree: StaticTree) -> None:
        self.tree = tree
        self.meter = EnergyMeter(root=tree.root, interval=None, methods=["rapl"])
        self.truth = 0

    def __enter__(self) -> Watched:
        self.meter.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.meter.stop()

    def look(self) -> None:
        time.sleep(0.002)
        assert self.meter.reading.running

    def work(self, looks: int = 10, uj: int = J) -> None:
        """1 J and a reading, some times."""
        for _ in range(looks):
            self.tree.add("package-0", uj)
            self.truth += uj
            self.look()

    def move(self, uj: int) -> None:
        """The counter shows so much more or less, though nothing was used."""
        self.tree.set("package-0", self.tree.value("package-0") + uj)


def said(reading: Reading) -> str:
    """What the reading says of its counters."""
    reason = reading.rapl.reasons.get("package", "")
    return "; ".join([*(w for w in reading.warnings if w.startswith("package-0")), reason])


def never_more(watched: Watched, missing_uj: int, *words: str) -> None:
    """The reading lacks so much at most, has nothing that was not used, and says why."""
    reading = watched.meter.reading
    # A reading that came late may have made the refused one the larger part of the window.
    joules = reading.rapl.package
    if joules is not None:
        assert watched.truth - missing_uj - 1 <= joules * 1e6 <= watched.truth + 1
        estimate = reading.rapl.estimate("package")
        assert estimate is not None and estimate.high >= estimate.value
    for word in words:
        assert word in said(reading), said(reading)


# -- steps that no machine can make ---------------------------------------------------------------


@pytest.mark.parametrize("back", [100, 3 * J, 6 * J, 690 * J, 40_000 * J])
def test_a_step_back_adds_nothing(tree: StaticTree, back: int) -> None:
    with Watched(tree) as watched:
        watched.work()
        watched.move(-back)
        watched.look()
        watched.work()
    never_more(watched, J, "went back by", "1 step")


@pytest.mark.parametrize("depth", [100, 690 * J, 99_000 * J])
def test_the_way_back_of_a_dip_adds_nothing(tree: StaticTree, depth: int) -> None:
    with Watched(tree) as watched:
        for _ in range(5):
            watched.work(6)
            watched.move(-depth)
            watched.look()
            watched.move(depth)
            watched.look()
        watched.work(6)
    never_more(watched, 0, "went back by", "5 steps", "came back")


@pytest.mark.parametrize("ahead", [3_000 * J, 60_000 * J, 150_000 * J])
def test_a_jump_forward_is_refused(tree: StaticTree, ahead: int) -> None:
    with Watched(tree) as watched:
        watched.work()
        watched.move(ahead)
        watched.look()
        watched.work()
    never_more(watched, J, "jumped forward by", "is missing")


def test_a_value_that_is_wrong_once_changes_nothing(tree: StaticTree) -> None:
    with Watched(tree) as watched:
        watched.work()
        here = tree.value("package-0")
        tree.set("package-0", here + 120_000 * J)
        watched.look()
        tree.set("package-0", here)
        watched.look()
        watched.work()
    never_more(watched, 0, "came back")


def test_a_window_that_ends_with_a_jump_has_no_number(tree: StaticTree) -> None:
    meter = EnergyMeter(root=tree.root, interval=None)
    with meter:
        tree.add("package-0", 100_000 * J)
    assert meter.reading.rapl.package is None
    assert "jumped forward by 100000 J" in meter.reading.rapl.reasons["package"]


def test_a_value_above_the_range_is_no_reading(tree: StaticTree) -> None:
    meter = EnergyMeter(root=tree.root, interval=None)
    with meter:
        tree.add("package-0", J)
        tree.show("package-0", str(2**64 - 1))
    assert meter.reading.rapl.package is None
    assert "more than its own max_energy_range_uj" in meter.reading.rapl.reasons["package"]


def test_what_was_refused_is_not_divided(tree: StaticTree) -> None:
    meter = EnergyMeter(root=tree.root, interval=0.02)
    with meter:
        for turn in range(15):
            tree.add("package-0", J // 10)
            if turn == 7:
                tree.add("package-0", 90_000 * J)
            sum(range(50_000))
            time.sleep(0.01)
    reading = meter.reading
    # In its place there may be the model's joules, many where the window takes seconds (emulated).
    for joules in (reading.rapl.package, None if reading.quality == "modelled" else reading.joules):
        assert joules is None or joules <= 1.5
    assert any("jumped forward" in warning for warning in reading.warnings)


def test_honest_counters_are_not_complained_about(tree: StaticTree) -> None:
    with Watched(tree) as watched:
        watched.work(20)
    assert watched.meter.reading.rapl.package == pytest.approx(watched.truth * 1e-6)
    assert said(watched.meter.reading) == ""


SUSPENDED = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    struct stat found;
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    const char *asleep = getenv("ASLEEP");
    if (clock == CLOCK_BOOTTIME && asleep && stat(asleep, &found) == 0) now->tv_sec += 3600;
    return result;
}
"""

SLEEPER = """
import os, sys, time
from lithowatt import EnergyMeter
from rig import StaticTree
tree = StaticTree(sys.argv[1], domains=("package",), start_uj=10**9)
meter = EnergyMeter(root=tree.root, interval=0.02)
meter.start()
for turn in range(20):
    tree.add("package-0", 100_000)
    if turn == 10:
        open(os.environ["ASLEEP"], "w").close()
        tree.add("package-0", 5_000_000)
    time.sleep(0.02)
meter.stop()
print(meter.reading.rapl.package)
print(*meter.reading.warnings, sep="\\n")
"""


@pytest.mark.slow
def test_energy_of_a_suspend_is_nobodys(tmp_path: Path) -> None:
    """The clock that goes on while the machine sleeps is an hour ahead all at once."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to imitate a suspend with")
    source, library = tmp_path / "asleep.c", tmp_path / "asleep.so"
    source.write_text(SUSPENDED)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    surroundings = {
        **os.environ,
        "LD_PRELOAD": str(library),
        "PYTHONPATH": str(RIG),
    }
    for turn in range(5):
        done = subprocess.run(
            [sys.executable, "-c", SLEEPER, tmp_path / f"root-{turn}"],
            capture_output=True,
            text=True,
            check=True,
            env={**surroundings, "ASLEEP": str(tmp_path / f"asleep-{turn}")},
        )
        joules, *warnings = done.stdout.splitlines()
        assert any("suspended for 3600" in warning for warning in warnings), warnings
        # 2 J awake and 5 J asleep, which such a machine could have used in 20 ms as well. On a busy
        # machine a look may fall between the clock's step and the counter's.
        if joules == "None" or float(joules) <= 2.01:
            return
    pytest.fail(f"{joules} J")


# -- counters that cannot be read at the start ----------------------------------------------------


def test_what_was_used_before_a_late_first_reading_is_not_the_windows(tree: StaticTree) -> None:
    meter = EnergyMeter(root=tree.root, interval=None, methods=["rapl"])
    with meter:
        tree.add("package-0", J)
    # 5 J that a machine might use in any window.
    value = tree.value("package-0") + 5 * J
    tree.show("package-0", "garbage")
    meter.start()
    time.sleep(0.02)
    tree.show("package-0", str(value))
    assert meter.reading.running
    for _ in range(8):
        time.sleep(0.02)
        tree.set("package-0", value := value + J)
        assert meter.reading.running
    meter.stop()
    reading = meter.reading
    assert reading.rapl.package in (None, pytest.approx(8.0))
    assert "could not be read when the window began" in said(reading)


# -- one counter that is shown twice --------------------------------------------------------------


def dies(path: Path, vendor: str, apart: int, unlike: int) -> Reading:
    """Two dies of one package that make equal steps, or unlike ones."""
    names = ["package-0-die-0", "package-0-die-1"]
    with machine(path, vendor, packages=2, names=names) as tree:
        tree.set(names[1], START + apart)
        meter = EnergyMeter(root=tree.root, interval=None, methods=["rapl", "psutil"])
        meter.start()
        for turn in range(6):
            for n, name in enumerate(names):
                tree.add(name, J + turn + n * unlike)
            assert meter.reading.running
        meter.stop()
    return meter.reading


@pytest.mark.parametrize("vendor", ["AuthenticAMD", "HygonGenuine"])
@pytest.mark.parametrize("apart", [0, 777_123_456])
def test_dies_that_show_one_counter_are_counted_once(
    tmp_path: Path, vendor: str, apart: int
) -> None:
    reading = dies(tmp_path, vendor, apart, 0)
    assert reading.rapl.package == pytest.approx(6.0, abs=1e-3)
    assert any("same counter as package-0-die-0" in warning for warning in reading.warnings)


def test_the_timeline_names_what_is_repeated(tmp_path: Path) -> None:
    names = ["package-0-die-0", "package-0-die-1"]
    with machine(tmp_path, "AuthenticAMD", packages=2, names=names) as tree:
        meter = EnergyMeter(root=tree.root, interval=0.01, methods=["rapl"])
        with meter:
            for _ in range(8):
                for name in names:
                    tree.add(name, J)
                time.sleep(0.01)
        columns = meter.timeline().watts
    assert "rapl:package-0-die-0" in columns and "rapl:repeated:package-0-die-1" in columns


def test_unlike_dies_are_summed(tmp_path: Path) -> None:
    reading = dies(tmp_path, "AuthenticAMD", 0, 40_000)
    assert reading.rapl.package == pytest.approx(12.24, abs=1e-3)
    assert not [warning for warning in reading.warnings if "same counter" in warning]


def test_dies_of_other_makers_are_summed(tmp_path: Path) -> None:
    assert dies(tmp_path, "GenuineIntel", 0, 0).rapl.package == pytest.approx(12.0, abs=1e-3)


def test_one_step_leaves_room_for_both(tmp_path: Path) -> None:
    names = ["package-0-die-0", "package-0-die-1"]
    with machine(tmp_path, "AuthenticAMD", packages=2, names=names) as tree:
        meter = EnergyMeter(root=tree.root, interval=None)
        with meter:
            for name in names:
                tree.add(name, J)
    estimate = meter.reading.rapl.estimate("package")
    assert estimate is not None
    assert estimate.value == pytest.approx(1.0) and estimate.high >= 2.0


# -- zones ----------------------------------------------------------------------------------------


def zone(place: Path, name: str, uj: int = J) -> Path:
    place.mkdir(parents=True)
    (place / "name").write_text(f"{name}\n")
    (place / "max_energy_range_uj").write_text("262143328850\n")
    (place / "energy_uj").write_text(f"{uj:<20}\n")
    return place / "energy_uj"


def measured(root: Path, steps: dict[Path, int]) -> Reading:
    """Counters that go on by so many J within a window."""
    meter = EnergyMeter(root=root, interval=None, methods=["rapl"])
    with meter:
        for counter, joules in steps.items():
            with counter.open("r+") as file:
                file.write(f"{J + joules * J:<20}\n")
    return meter.reading


@pytest.mark.parametrize(
    "place",
    [
        "sys/class/powercap/intel-rapl:0",
        "sys/class/powercap/intel-rapl/intel-rapl:0",
        "sys/devices/virtual/powercap/intel-rapl/intel-rapl:0",
        "sys/devices/virtual/powercap/intel-rapl:0",
    ],
)
def test_zones_are_found_where_they_are_mounted(tmp_path: Path, place: str) -> None:
    package = zone(tmp_path / place, "package-0")
    core = zone(tmp_path / place / "intel-rapl:0:0", "core")
    reading = measured(tmp_path, {package: 3, core: 2})
    assert (reading.rapl.package, reading.rapl.core) == (3.0, 2.0)
    assert read_rapl_energy(tmp_path) == (4.0, 3.0)


def test_the_platform_zones_of_all_packages_are_summed(tmp_path: Path) -> None:
    class_ = tmp_path / "sys/class/powercap"
    names = ["package-0", "psys", "package-1", "psys-1"]
    counters = [zone(class_ / f"intel-rapl:{n}", name) for n, name in enumerate(names)]
    reading = measured(tmp_path, dict(zip(counters, (2, 5, 3, 6), strict=True)))
    assert (reading.rapl.package, reading.rapl.psys) == (5.0, 11.0)


def test_a_zone_of_no_package_is_left_out_and_said(tmp_path: Path) -> None:
    class_ = tmp_path / "sys/class/powercap"
    package = zone(class_ / "intel-rapl:0", "package-0")
    zone(class_ / "intel-rapl:1", "dram")
    reading = measured(tmp_path, {package: 1})
    assert reading.rapl.dram is None
    assert "intel-rapl:1 is in no package zone" in reading.rapl.reasons["dram"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become a user who is denied")
def test_a_range_that_is_denied_is_not_called_malformed() -> None:
    folder = shared_folder()
    os.chmod(folder, 0o755)
    package = zone(folder / "sys/class/powercap/intel-rapl:0", "package-0")
    (package.parent / "max_energy_range_uj").chmod(0)
    code = (
        "import os, sys\n"
        "from lithowatt._core import doctor\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "found = doctor(sys.argv[1])[0]\n"
        "print(found['reason']); print(found['fix'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, folder], capture_output=True, text=True, check=True
    )
    shutil.rmtree(folder)
    reason, fix = done.stdout.splitlines()
    assert "max_energy_range_uj may not be read" in reason
    # The rule that it writes is for both files of a zone.
    assert fix.startswith("sudo ") and 'lithowatt)" setup --group' in fix


# -- the agent ------------------------------------------------------------------------------------


def agent_joules(act: Callable[[StaticTree], None], path: Path) -> tuple[float, float]:
    """The agent's total before and after something happened to a counter."""
    folder = shared_folder()
    with machine(path) as tree:
        agent = _core.Agent(
            str(folder / "state" / "ring"),
            root=str(tree.root),
            rate=100.0,
            quantum_uj=1000,
            round=0.1,
            group=None,
            methods="all",
            containers=False,
            node="",
        )

        def settled() -> float:
            """The total once two more rounds have ended."""
            begun = agent.snapshot()["samples"]
            end = time.monotonic() + 30
            while agent.snapshot()["samples"] < begun + 40 and time.monotonic() < end:
                time.sleep(0.02)
            return float(agent.snapshot()["machine_joules"])

        try:
            for _ in range(10):
                tree.add("package-0", J // 10)
                time.sleep(0.01)
            before = settled()
            act(tree)
            settled()
            for _ in range(10):
                tree.add("package-0", J // 10)
                time.sleep(0.01)
            return before, settled()
        finally:
            agent.stop()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.parametrize("move", [-100, -6 * J, -60_000 * J, 70_000 * J])
def test_the_agents_total_never_rises_by_what_was_refused(tmp_path: Path, move: int) -> None:
    before, after = agent_joules(
        lambda t: t.set("package-0", t.value("package-0") + move), tmp_path
    )
    assert before == pytest.approx(1.0, abs=2e-3)
    assert 1.0 - 2e-3 <= after <= 2.0 + 2e-3


@pytest.mark.slow
def test_the_agents_total_survives_a_dip(tmp_path: Path) -> None:
    def dip(tree: StaticTree) -> None:
        here = tree.value("package-0")
        for _ in range(5):
            tree.set("package-0", here - 690 * J)
            time.sleep(0.05)
            tree.set("package-0", here)
            time.sleep(0.05)

    before, after = agent_joules(dip, tmp_path)
    assert after - before <= 1.0 + 2e-3
