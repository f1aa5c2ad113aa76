"""The rules of lint once more, one loop each over the lists as they stand in the files.

Nothing is shared with what is tested: no arrays, no search that leaves pairs aside.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from tests.support.made_profiles import Metrics, Profile

SEVEN = (
    "read",
    "compute",
    "write",
    "cold_start",
    "time_consumption",
    "worker_time_execution",
    "TDP",
)
DESCRIBING = ("measurement_energy", "aws_cpu")


class Found(NamedTuple):
    """A finding without its words; `rows` is `None` where the contract does not say it."""

    rule: str
    file: str
    configuration: str | None = None
    column: str | None = None
    repetitions: tuple[int, ...] = ()
    rows: int | None = None


@dataclass
class Runs:
    """One configuration as lists."""

    file: str
    key: str
    metrics: Metrics

    def __post_init__(self) -> None:
        self.numbers = tuple(int(part) for part in self.key.strip("()").split(","))
        self.many = max(map(len, self.metrics.values()))
        self.widths = [
            max(len(self.values(name, at)) for name in self.metrics) for at in range(self.many)
        ]
        self.usable = [self._usable(at) for at in range(self.many)]
        self.bad: set[int] = set()

    def values(self, name: str, at: int) -> list[Any]:
        column = self.metrics[name]
        return column[at] if at < len(column) else []

    def row(self, name: str, at: int, worker: int) -> Any:
        values = self.values(name, at)
        return values[worker] if worker < len(values) else None

    def rows(self) -> Iterator[tuple[int, int]]:
        for at, width in enumerate(self.widths):
            for worker in range(width):
                yield at, worker

    def _usable(self, at: int) -> bool:
        return all(
            len(self.values(name, at)) == self.widths[at]
            and all(isinstance(v, (int, float)) for v in self.values(name, at))
            for name in SEVEN
        )

    def comparable(self, at: int) -> bool:
        """Whether each of the seven columns has a number of all workers, or two of them of none."""
        for name in SEVEN:
            values = self.values(name, at)
            if not values and name in ("time_consumption", "TDP"):
                continue
            if len(values) != self.widths[at] or not all(
                isinstance(v, (int, float)) for v in values
            ):
                return False
        return True

    def apart(self, at: int, worker: int) -> bool:
        a, b = (self.row(name, at, worker) for name in SEVEN[4:6])
        return a is not None and b is not None and abs(a - b) > 1e-7 * max(abs(a), abs(b))

    def other(self, at: int, worker: int) -> float | None:
        read, compute, write, _, _, seconds, _ = (self.row(n, at, worker) for n in SEVEN)
        if None in (read, compute, write, seconds):
            return None
        return float(seconds - read - compute - write)

    @property
    def clean(self) -> list[int]:
        return [at for at in range(self.many) if self.usable[at] and at not in self.bad]

    def mean(self, name: str, at: int) -> float:
        return statistics.fmean(self.values(name, at))


def findings(files: Mapping[str, Profile]) -> set[Found]:
    """What is wrong with these files, by name."""
    every = [
        Runs(file, key, metrics) for file in sorted(files) for key, metrics in files[file].items()
    ]
    every.sort(key=lambda runs: (runs.file, runs.numbers))
    found: set[Found] = set()
    found |= _copies(every)
    for file in files:
        mine = [runs for runs in every if runs.file == file]
        found |= _foreign(file, mine)
        for runs in mine:
            found |= _configuration(runs)
        found |= _columns(file, mine)
        found |= _series(file, mine)
        found.add(Found("missing-metadata", file))
    return found


def _copies(every: list[Runs]) -> set[Found]:
    order = [(runs, at) for runs in every for at in range(runs.many)]
    copied: dict[int, set[int]] = {}
    jittered: dict[int, set[int]] = {}
    kind: list[bool] = []
    print_ = [[runs.values(name, at) for name in SEVEN] for runs, at in order]
    for now, (runs, at) in enumerate(order):
        equal = [before for before in range(now) if print_[before] == print_[now]]
        if equal and any(any(column) for column in print_[now]):
            copied.setdefault(id(runs), set()).add(at)
            runs.bad.add(at)
        width = runs.widths[at]
        by_clocks = 2 * sum(runs.apart(at, worker) for worker in range(width)) > width
        kind.append(by_clocks)
        if not by_clocks and width >= 4 and runs.comparable(at):
            kind[now] = any(
                not kind[before]
                and print_[before] != print_[now]
                and order[before][0].comparable(order[before][1])
                and _close(order[before], order[now])
                for before in range(now)
            )
        if kind[now]:
            jittered.setdefault(id(runs), set()).add(at)
            runs.bad.add(at)
    found = set()
    for runs in every:
        for rule, where in (("copied", copied), ("jittered", jittered)):
            if id(runs) in where:
                some = tuple(sorted(where[id(runs)]))
                found.add(Found(f"{rule}-repetitions", runs.file, runs.key, None, some))
    return found


def _close(source: tuple[Runs, int], copy: tuple[Runs, int]) -> bool:
    (runs, at), (other, to) = source, copy
    if runs.widths[at] != other.widths[to]:
        return False
    for worker in range(runs.widths[at]):
        if runs.apart(at, worker):
            continue
        for name in SEVEN:
            a, b = runs.row(name, at, worker), other.row(name, to, worker)
            if a == b:
                continue
            if (
                a is None
                or b is None
                or not (a > 0 and b > 0)
                or abs(math.log(b / a)) > -math.log(0.97)
            ):
                return False
    return True


def _foreign(file: str, mine: list[Runs]) -> set[Found]:
    tags = {
        (id(runs), at, worker): runs.row("aws_cpu", at, worker)
        for runs in mine
        for at, worker in runs.rows()
    }
    says = {where: "lambda:True" in tag for where, tag in tags.items() if tag is not None}
    found = set()
    for usual in (True, False):
        if sum(one == usual for one in says.values()) > 0.95 * len(says):
            for runs in mine:
                rows = [w for w, one in says.items() if w[0] == id(runs) and one != usual]
                if rows:
                    some = {at for _, at, _ in rows}
                    runs.bad |= some
                    found.add(
                        Found(
                            "foreign-hardware",
                            file,
                            runs.key,
                            None,
                            tuple(sorted(some)),
                            len(rows),
                        )
                    )
            for runs in mine:
                runs.foreign = {  # type: ignore[attr-defined]
                    w[1:] for w, one in says.items() if w[0] == id(runs) and one != usual
                }
    return found


def _configuration(runs: Runs) -> set[Found]:
    found = set()

    def add(rule: str, repetitions: Any = (), rows: int | None = None) -> None:
        some = tuple(sorted(repetitions))
        found.add(Found(rule, runs.file, runs.key, None, some, rows))

    usable_rows = [(at, worker) for at, worker in runs.rows() if runs.usable[at]]
    computes = [runs.row("compute", at, worker) for at, worker in usable_rows]
    if computes and statistics.median(computes) >= 0.05:
        idle = {
            (at, worker)
            for at, worker in runs.rows()
            if (v := runs.row("compute", at, worker)) is not None and v < 1e-3
        }
        empty = {
            at
            for at, width in enumerate(runs.widths)
            if 0 < (n := sum(where[0] == at for where in idle)) and n >= width / 2
        }
        if empty:
            runs.bad |= empty
            add("empty-repetition", empty, sum(runs.widths[at] for at in empty))
        if some := {where for where in idle if where[0] not in empty}:
            add("empty-worker", rows=len(some))
    if apart := [(at, worker) for at, worker in runs.rows() if runs.apart(at, worker)]:
        add("clock-mismatch", {at for at, _ in apart}, len(apart))
    others = {where: runs.other(*where) for where in runs.rows()}
    # Seconds since 1970 are doubles of which a second has 4,194,304.
    if n := sum(one is not None and one < -1 / 4_194_304 for one in others.values()):
        add("phases-exceed-worker-time", rows=n)
    below = [
        where
        for where in runs.rows()
        if any((v := runs.row(name, *where)) is not None and v < 0 for name in SEVEN)
    ]
    if below:
        add("negative-values", {at for at, _ in below}, len(below))
    if n := sum(others[where] > 10 for where in usable_rows):  # type: ignore[operator]
        add("stalled-worker", rows=n)
    if n := sum(runs.row("cold_start", *where) > 30 for where in usable_rows):
        add("queued-start", rows=n)
    lengths = {len(column) for column in runs.metrics.values()}
    if len(lengths) > 1:
        add("ragged-repetitions", range(min(lengths), max(lengths)))
    foreign = getattr(runs, "foreign", set())
    names = {runs.row("cpu_name", *where) for where in runs.rows() if where not in foreign}
    if len(names - {None}) > 1:
        add("mixed-hardware")
    if any(runs.usable[at] and runs.widths[at] != runs.numbers[2] for at in range(runs.many)):
        add("requested-actual-workers")
    if len(runs.clean) < 5:
        add("few-repetitions")
    changed = set(runs.clean)
    for name in ("read", "compute", "write"):
        means = {at: runs.mean(name, at) for at in runs.clean}
        if means:
            middle = statistics.median(means.values())
            changed &= {at for at, mean in means.items() if mean > 1.7 * middle}
    if changed:
        add("input-changed", changed)
    return found


def _columns(file: str, mine: list[Runs]) -> set[Found]:
    found = set()
    names = {name for runs in mine for name in runs.metrics}
    constant = set()
    for name in names:
        values = [
            value
            for runs in mine
            for one in runs.metrics.get(name, [])
            for value in one
            if value is not None
        ]
        if not values or any(isinstance(value, str) for value in values):
            continue
        same = len(set(values)) == 1 and values[0] != 0
        # Three equal readings can be chance; as for unit-mistake, four are needed.
        if same and len(values) >= 4 and not name.startswith("cpu_"):
            constant.add(name)
            found.add(Found("constant-column", file, None, name, (), len(values)))
        zeros = values.count(0)
        if zeros and name not in SEVEN[:4]:
            found.add(Found("zero-means-unavailable", file, None, name, (), zeros))
    near = rows = 0
    for runs in mine:
        for where in runs.rows():
            tdp, seconds = runs.row("TDP", *where), runs.row(SEVEN[5], *where)
            if tdp and seconds and not runs.apart(*where):
                steps = tdp / seconds / 0.0005
                rows += 1
                near += abs(steps - round(steps)) <= 0.001
    load = rows >= 4 and near >= 0.95 * rows
    if load:
        found.add(Found("unit-mistake", file, None, "TDP"))
    joules = {"TDP", "RAPL_wrong", *(n for n in names if "_energy_" in n)} - constant
    for name in joules - ({"TDP"} if load else set()):
        watts = joule = 0.0
        for runs in mine:
            for where in runs.rows():
                one, seconds, cores = (
                    runs.row(n, *where) for n in (name, SEVEN[5], "cpu_cores_logical")
                )
                if one and seconds and cores and one > 0:
                    joule += one
                    watts += seconds * cores
        if watts and not 0.1 <= joule / watts <= 15:
            found.add(Found("implausible-power", file, None, name))
    other = total = 0.0
    for runs in mine:
        for at, worker in runs.rows():
            if runs.usable[at]:
                other += runs.other(at, worker) or 0.0
                total += runs.row(SEVEN[5], at, worker)
    if total and other / total > 0.05:
        found.add(Found("monitoring-overhead", file))
    return found


def _series(file: str, mine: list[Runs]) -> set[Found]:
    from scipy import stats

    found = set()
    looked = differ = 0
    points = []
    for runs in mine:
        seconds = [runs.mean(SEVEN[5], at) for at in runs.clean]
        if len(seconds) > 4:
            looked += 1
            half = len(seconds) // 2
            p = stats.ttest_ind(seconds[:half], seconds[half:], equal_var=False).pvalue
            differ += bool(p < 0.01)
        cpu = []
        for at in runs.clean:
            cores = runs.values("cpu_cores_logical", at)
            if len(cores) == runs.widths[at] and None not in cores:
                cpu.append(sum(a * b for a, b in zip(runs.values("TDP", at), cores, strict=True)))
        if cpu and statistics.fmean(cpu) > 0:
            points.append((math.log(runs.numbers[2]), math.log(statistics.fmean(cpu))))
    if differ >= 3 and 3 * differ >= looked:
        found.add(Found("drifting-repetitions", file))
    one = all(runs.widths[at] == 1 for runs in mine for at in range(runs.many) if runs.usable[at])
    if not one and len(points) >= 3:
        slope = statistics.linear_regression(*zip(*points, strict=True)).slope
        if slope > 0.25:
            found.add(Found("work-grows-with-workers", file))
    return found
