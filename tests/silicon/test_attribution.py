"""How the meter divides a machine between two programs, against what others measured of such pairs.

The measurements are not part of the repository: ``LITHOWATT_DATA`` names the folder that holds
``silicon/side_by_side.csv`` and ``silicon/package_power.csv``.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pytest

from lithowatt import EnergyMeter
from rig import StaticTree
from tests.silicon.data import silicon_table

TOP = Path(__file__).resolve().parents[2]
PAGE = TOP / "docs" / "explanation" / "measurement.md"

CPUS = 32
SECONDS = 0.4
"""How long a window is. What the files of the machine show at its end fits its length within..."""
LATE = 0.01
"""...this part of it, or the window is made anew."""


# -- two programs side by side -----------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """Two programs on a machine; W above its idle power."""

    a: str
    b: str
    idle: float
    threads_a: float
    threads_b: float
    alone_a: float
    alone_b: float
    together: float

    @property
    def fair(self) -> float:
        """What A costs by Shapley's rule: its mean over both orders of starting, W."""
        return 0.5 * (self.alone_a + self.together - self.alone_b)

    def row(self) -> str:
        """Its row in the documentation."""
        added = (self.alone_a + self.alone_b) / self.together
        fair = 100 * self.fair / self.together
        return (
            f"| `{self.a}`, `{self.b}` | {self.alone_a:.1f} and {self.alone_b:.1f} "
            f"| {self.together:.1f} | {added:.2f} | 50.0 : 50.0 | {fair:.1f} : {100 - fair:.1f} |"
        )


def pairs() -> list[Pair]:
    """What was measured of pairs."""
    found = []
    for row in silicon_table("side_by_side.csv"):
        idle = float(row["idle_package_w"])
        watts = [
            float(row[f"{what}_package_w"]) - idle for what in ("alone_a", "alone_b", "together")
        ]
        threads = float(row["threads_a"]), float(row["threads_b"])
        found.append(Pair(row["a"], row["b"], idle, *threads, *watts))
    return found


class Machine:
    """A machine of :data:`CPUS` CPUs as plain files, and a program in a cgroup of its own."""

    def __init__(self, folder: Path) -> None:
        self.tree = StaticTree(folder / "root", domains=("package",), mirror=False)
        self.group = folder / "group"
        self.group.mkdir(parents=True)
        self._own = self._busy = self._up = 0.0
        self._write("sys/devices/system/cpu/online", f"0-{CPUS - 1}\n")
        self._write("proc/cpuinfo", "model name\t: Intel(R) Xeon(R) Gold 6130 CPU @ 2.10GHz\n")
        self._write("proc/meminfo", "MemTotal: 98304000 kB\nMemAvailable: 90000000 kB\n")
        self.run(0.0, own=0.0, busy=0.0, watts=0.0)

    def _write(self, name: str, text: str, root: Path | None = None) -> None:
        path = (root or self.tree.root) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("r+" if path.exists() else "w") as file:
            file.write(text)
            file.truncate()

    def run(self, seconds: float, *, own: float, busy: float, watts: float) -> None:
        """So long the program kept ``own`` CPUs busy, of ``busy`` in all, at ``watts``."""
        self._up += seconds
        self._own += own * seconds
        self._busy += busy * seconds
        # No kernel's idle time stands still.
        idle = CPUS * (100.0 + self._up) - self._busy + 0.01 * self._up
        self._write("proc/uptime", f"{100.0 + self._up:.2f} {idle:.2f}\n")
        self._write("proc/stat", f"cpu  {self._busy * 100:.0f} 0 0 {idle * 100:.0f} 0 0 0 0 0 0\n")
        self._write("cpu.stat", f"usage_usec {self._own * 1e6:.0f}\n", self.group)
        self.tree.add("package-0", round(watts * seconds * 1e6))


@dataclass(frozen=True)
class Metered:
    """What the meter says of the program, W above idle: energy over the window's length."""

    watts: float
    low: float
    high: float
    others: float


def metered(folder: Path, pair: Pair, own: float, busy: float, above_idle: float) -> Metered:
    """A window in which the program ran, on a machine whose power is known."""
    for attempt in range(8):
        machine = Machine(folder / str(attempt))
        meter = EnergyMeter(
            cgroup=machine.group, methods=["rapl"], interval=None, root=machine.tree.root
        )
        with meter:
            began = time.monotonic()
            time.sleep(SECONDS)
            seconds = time.monotonic() - began
            machine.run(seconds, own=own, busy=busy, watts=pair.idle + above_idle)
        machine.tree.close()
        length = meter.reading.duration
        # A test that the scheduler held up between the window's edges and its own clock.
        if length <= seconds * (1 + LATE):
            energy = meter.reading.raw["headline"]["energy"]
            others = meter.reading.raw["headline"]["division"]["others"]
            values = (energy["joules"], energy["low"], energy["high"], others)
            return Metered(*(value / length for value in values))
    pytest.skip("this machine is too busy for windows of 0.4 s")


@pytest.fixture(autouse=True)
def known_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle power is known, as it was measured."""
    rows = silicon_table("side_by_side.csv")
    monkeypatch.setenv("LITHOWATT_IDLE_WATTS", rows[0]["idle_package_w"])
    assert len({row["idle_package_w"] for row in rows}) == 1


def test_two_programs_side_by_side_are_divided_fairly(tmp_path: Path) -> None:
    """Within 4 points of a Shapley split of the measured power, which is inside the band."""
    for pair in pairs():
        busy = pair.threads_a + pair.threads_b
        off = {}
        for name, threads, fair in (
            (pair.a, pair.threads_a, pair.fair),
            (pair.b, pair.threads_b, pair.together - pair.fair),
        ):
            found = metered(tmp_path / pair.a / name, pair, threads, busy, pair.together)
            assert found.watts + found.others == pytest.approx(pair.together, rel=0.02), name
            assert found.low <= fair <= found.high, name
            off[name] = 100 * (found.watts - fair) / pair.together
            assert abs(off[name]) < 4.0, (name, off)
        # The dearer program gets too little: the meter does not know that it is the dearer one.
        assert off[pair.a] > 0 > off[pair.b], off


def test_figures_of_programs_that_ran_alone_do_not_add_up(tmp_path: Path) -> None:
    """Each is right, and both together are more than what the two take side by side."""
    for pair in pairs():
        alone = [
            metered(tmp_path / pair.a / name, pair, threads, threads, watts)
            for name, threads, watts in (
                (pair.a, pair.threads_a, pair.alone_a),
                (pair.b, pair.threads_b, pair.alone_b),
            )
        ]
        for found, watts in zip(alone, (pair.alone_a, pair.alone_b), strict=True):
            assert found.watts == pytest.approx(watts, rel=0.02)
        added = sum(found.watts for found in alone) / pair.together
        assert 1.3 < added < 1.45, added


# -- the first busy thread, and later ones -----------------------------------------------------

MACHINES = {
    "2x-xeon-e5-2650v4": "2 × Xeon E5-2650 v4",
    "32-core-xeon-2.1ghz": "32 Xeon cores at 2.1 GHz, two sockets",
    "epyc-8024p-some-cores": "EPYC 8024P",
    "2x-xeon-e5-2620v3-some-cores": "2 × Xeon E5-2620 v3",
    "2x-epyc-7502": "2 × EPYC 7502",
}


def span(values: list[float]) -> str:
    """The least and the greatest, to a tenth."""
    low, high = f"{min(values):.1f}", f"{max(values):.1f}"
    return low if low == high else f"{low} to {high}"


def costs() -> list[str]:
    """Rows of the documentation: what threads add to the power of machines, J a core-second."""
    idle: dict[str, list[float]] = defaultdict(list)
    at: dict[str, dict[tuple[str, str, str], dict[float, float]]] = defaultdict(dict)
    rest: dict[tuple[str, str], float] = {}
    for row in silicon_table("package_power.csv"):
        machine, placement, watts = row["machine"], row["placement"], float(row["package_w"])
        if machine not in MACHINES:
            continue
        if row["workload"] == "idle":
            idle[machine].append(watts)
            rest[machine, placement] = watts
            continue
        cores = float(row["cores_per_socket"])
        if not placement.startswith("socket"):
            cores *= float(row["sockets"])
        # One thread a core: of second threads it is another story.
        threads = float(row["busy_threads"])
        if placement == "both-threads" or threads > cores:
            continue
        kernel = row["workload"].rstrip("0123456789_")
        clock = row["mean_mhz"] if row["source"] == "2021-rome-ee" else ""
        at[machine].setdefault((kernel, placement, clock), {})[threads] = watts
    rows = []
    for machine, name in MACHINES.items():
        first, later = [], []
        for (_, placement, _), by_threads in at[machine].items():
            few, many = min(by_threads), max(by_threads)
            if few == 1:
                first.append(by_threads[1] - rest[machine, placement])
            if many > few:
                later.append((by_threads[many] - by_threads[few]) / (many - few))
        first_text = span(first) if first else "not measured"
        rows.append(f"| {name} | {span(idle[machine])} | {first_text} | {span(later)} |")
    return rows


@pytest.mark.parametrize("what", ["threads", "pairs"])
def test_the_page_states_these_figures(what: str) -> None:
    rows = costs() if what == "threads" else [pair.row() for pair in pairs()]
    text = PAGE.read_text()
    missing = [row for row in rows if row not in text]
    assert not missing, f"{PAGE.name} does not have:\n" + "\n".join(missing)
