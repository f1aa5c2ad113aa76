"""One fault for each rule of lint, planted into a clean profile.

Each function takes a clean profile of two configurations or more and a source of chance, changes
the profile, and says what lint has to find. `FAULTS` has them by the rule's name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from tests.support.made_profiles import (
    COLUMNS,
    EPYC,
    Kind,
    Metrics,
    Profile,
    profile,
)

SEVEN = (*COLUMNS[:6], "TDP")
CLOCKS = ("time_consumption", "worker_time_execution")
PHASES = ("read", "compute", "write")


@dataclass(frozen=True)
class Expected:
    """One finding.

    Attributes:
        configuration: Its key, `None` where it is about a file.
        repetitions: Those that it names.
        rows: `None` where they are not told.
        column: Of a rule about columns.
        file: Its name, where it is not the profile's.
    """

    configuration: str | None = None
    repetitions: tuple[int, ...] = ()
    rows: int | None = None
    column: str | None = None
    file: str | None = None


@dataclass(frozen=True)
class Planted:
    """Profiles with a fault.

    Attributes:
        made: Each with its kind, whose folder it is written into.
        expected: All findings of the fault's rule.
        others: Rules that may find something as well, as the fault is also that.
    """

    made: list[tuple[Kind, Profile]]
    expected: list[Expected]
    others: frozenset[str] = frozenset()


Fault = Callable[[Kind, np.random.Generator], Planted]


def _some(random: np.random.Generator, many: int, at_most: int) -> list[int]:
    """Some of so many numbers, at least one."""
    count = int(random.integers(1, min(at_most, many) + 1))
    return sorted(random.choice(many, count, replace=False).tolist())


def _one(random: np.random.Generator, made: Profile, least_workers: int = 1) -> str:
    """The key of a configuration with so many workers."""
    fit = [key for key, metrics in made.items() if len(metrics["read"][0]) >= least_workers]
    return str(random.choice(fit))


def append_copy(metrics: Metrics, of: int) -> int:
    """Appends a repetition again; returns its number."""
    for column in metrics.values():
        column.append(list(column[of]))
    return len(metrics["read"]) - 1


def add_noise(
    metrics: Metrics, repetition: int, random: np.random.Generator, *, clocks: bool
) -> None:
    """Noise of up to ±3 % on the seven columns; `clocks`: on each clock its own."""
    for name in SEVEN:
        values = metrics[name][repetition]
        factors = random.uniform(0.971, 1.029, len(values)).tolist()
        metrics[name][repetition] = [v and v * f for v, f in zip(values, factors, strict=True)]
    if not clocks:
        metrics[CLOCKS[0]][repetition] = list(metrics[CLOCKS[1]][repetition])


def take(metrics: Metrics, repetition: int, worker: int, seconds: float) -> None:
    """Makes one worker's two clocks so much later."""
    for name in CLOCKS:
        if metrics[name][repetition][worker] is not None:
            metrics[name][repetition][worker] += seconds


def without_work(metrics: Metrics, repetition: int, worker: int) -> None:
    """Makes one worker compute nothing, its time and its joules with it."""
    before = metrics["compute"][repetition][worker] or 0.0
    metrics["compute"][repetition][worker] = 2e-4
    take(metrics, repetition, worker, 2e-4 - before)


def copied(kind: Kind, random: np.random.Generator) -> Planted:
    made = profile(kind)
    key = _one(random, made)
    many = len(made[key]["read"])
    found = tuple(
        append_copy(made[key], int(random.integers(many))) for _ in _some(random, many, 3)
    )
    rows = len(found) * len(made[key]["read"][0])
    return Planted([(kind, made)], [Expected(key, found, rows)])


def jittered(kind: Kind, random: np.random.Generator) -> Planted:
    made = profile(kind)
    clocks = bool(random.integers(2))
    if not clocks and all(len(metrics["read"][0]) < 4 for metrics in made.values()):
        clocks = True
    key = _one(random, made, 1 if clocks else 4)
    many = len(made[key]["read"])
    found = []
    for _ in _some(random, many, 3):
        found.append(append_copy(made[key], int(random.integers(many))))
        add_noise(made[key], found[-1], random, clocks=clocks)
    rows = len(found) * len(made[key]["read"][0])
    # Noise on a long phase is many seconds.
    others = {"phases-exceed-worker-time", "stalled-worker"}
    others |= {"clock-mismatch"} if clocks else set()
    return Planted([(kind, made)], [Expected(key, tuple(found), rows)], frozenset(others))


def foreign(kind: Kind, random: np.random.Generator) -> Planted:
    made = profile(kind)
    key = _one(random, made)
    metrics = made[key]
    rows = sum(len(one) for each in made.values() for one in each["read"])
    if rows < 41:  # so that one row is less than 5 %
        kind = replace(kind, repetitions=41)
        made = profile(kind)
        metrics = made[key]
    repetition = int(random.integers(len(metrics["read"])))
    worker = int(random.integers(len(metrics["read"][0])))
    tag = metrics["aws_cpu"][repetition][worker]
    metrics["aws_cpu"][repetition][worker] = tag.replace("lambda:True", "lambda:False")
    metrics["cpu_name"][repetition][worker] = "12th Gen Intel(R) Core(TM) i7-1255U"
    return Planted([(kind, made)], [Expected(key, (repetition,), 1)])


def empty_repetition(kind: Kind, random: np.random.Generator) -> Planted:
    made = profile(kind)
    key = _one(random, made)
    width = len(made[key]["read"][0])
    found = _some(random, len(made[key]["read"]), 2)
    for repetition in found:
        idle = int(random.integers(-(-width // 2), width + 1))
        for worker in random.choice(width, idle, replace=False).tolist():
            without_work(made[key], repetition, worker)
    return Planted(
        [(kind, made)],
        [Expected(key, tuple(found), len(found) * width)],
        frozenset({"implausible-power", "monitoring-overhead"}),
    )


def empty_worker(kind: Kind, random: np.random.Generator) -> Planted:
    kind = replace(kind, workers=(*kind.workers[:-1], max(max(kind.workers), 3)))
    made = profile(kind)
    key = _one(random, made, 3)
    width = len(made[key]["read"][0])
    rows = 0
    for repetition in _some(random, len(made[key]["read"]), 3):
        some = _some(random, width, (width - 1) // 2)
        rows += len(some)
        for worker in some:
            without_work(made[key], repetition, worker)
    return Planted(
        [(kind, made)],
        [Expected(key, rows=rows)],
        frozenset({"implausible-power", "monitoring-overhead"}),
    )


def clock_mismatch(kind: Kind, random: np.random.Generator) -> Planted:
    kind = replace(kind, workers=(*kind.workers[:-1], max(max(kind.workers), 2)))
    made = profile(kind)
    key = _one(random, made, 2)
    width = len(made[key]["read"][0])
    found = _some(random, len(made[key]["read"]), 3)
    rows = 0
    for repetition in found:
        some = _some(random, width, width // 2)  # of more it would be noise
        rows += len(some)
        for worker in some:
            made[key][CLOCKS[int(random.integers(2))]][repetition][worker] *= 1.001
    return Planted([(kind, made)], [Expected(key, tuple(found), rows)])


def phases_exceed(kind: Kind, random: np.random.Generator) -> Planted:
    made = profile(kind)
    key = _one(random, made)
    metrics = made[key]
    found = _some(random, len(metrics["read"]), 3)
    for repetition in found:
        worker = int(random.integers(len(metrics["read"][0])))
        phases = sum(metrics[name][repetition][worker] for name in PHASES)
        seconds = phases * float(random.uniform(0.9, 0.9999))
        for name in CLOCKS:
            metrics[name][repetition][worker] = seconds
    return Planted([(kind, made)], [Expected(key, rows=len(found))])


def negative(kind: Kind, random: np.random.Generator) -> Planted:
    made = profile(kind)
    key = _one(random, made)
    metrics = made[key]
    found = _some(random, len(metrics["read"]), 3)
    rows = 0
    for repetition in found:
        width = len(metrics["read"][0])
        some = _some(random, width, width)
        rows += len(some)
        for worker in some:
            name = ("cold_start", "write")[int(random.integers(2))]
            metrics[name][repetition][worker] = -0.01
    return Planted([(kind, made)], [Expected(key, tuple(found), rows)])


def ragged(kind: Kind, random: np.random.Generator) -> Planted:
    made = profile(kind)
    key = _one(random, made)
    many = len(made[key]["read"])
    lost = int(random.integers(1, 4))
    for name in random.choice(list(made[key]), int(random.integers(1, 4)), replace=False):
        made[key][str(name)] = made[key][str(name)][: many - lost]
    return Planted([(kind, made)], [Expected(key, tuple(range(many - lost, many)))])


def label_mismatch(kind: Kind, random: np.random.Generator) -> Planted:
    made = profile(kind)
    if random.integers(2):
        kind = replace(kind, memory_mb=kind.memory_mb + 1)
    else:
        other = "arm64" if kind.architecture == "x86_64" else "x86_64"
        kind = replace(kind, architecture=other)
    return Planted([(kind, made)], [Expected()])


def unit_mistake(kind: Kind, random: np.random.Generator) -> Planted:
    made = profile(kind)
    rows = 0
    for metrics in made.values():
        for at, seconds in enumerate(metrics[CLOCKS[1]]):
            steps = random.integers(1, 2000, len(seconds)).tolist()
            metrics["TDP"][at] = [s * n * 0.0005 for s, n in zip(seconds, steps, strict=True)]
            rows += len(seconds)
    # What is left of it is noise: the load of a worker is made up.
    others = frozenset({"work-grows-with-workers"})
    return Planted([(kind, made)], [Expected(column="TDP", rows=rows)], others)


_NUMBERS = ("TDP", "RAPL_wrong", "perf_energy_cores", "ebpf_energy_pkg", "psutil_cpu_percent")


def constant(kind: Kind, random: np.random.Generator) -> Planted:
    made = profile(kind)
    name = str(random.choice(_NUMBERS[1:]))
    value = float(random.choice([12, 0.1, -1.0, 99.5]))
    rows = 0
    for metrics in made.values():
        metrics[name] = [[value] * len(one) for one in metrics["read"]]
        rows += sum(map(len, metrics["read"]))
    return Planted([(kind, made)], [Expected(column=name, rows=rows)])


def zero(kind: Kind, random: np.random.Generator) -> Planted:
    made = profile(kind)
    name = str(random.choice([*_NUMBERS[1:], "cpu_cores_physical"]))
    every = int(random.integers(1, 5))
    rows = at = 0
    for metrics in made.values():
        for values in metrics[name]:
            for worker in range(len(values)):
                if at % every == 0:
                    values[worker] = random.choice([0, 0.0])
                    rows += 1
                at += 1
    return Planted([(kind, _plain(made))], [Expected(column=name, rows=rows)])


def _plain(made: Profile) -> Profile:
    """Without NumPy's numbers."""
    for metrics in made.values():
        for name, column in metrics.items():
            metrics[name] = [
                [value.item() if isinstance(value, np.generic) else value for value in one]
                for one in column
            ]
    return made


def implausible_power(kind: Kind, random: np.random.Generator) -> Planted:
    made = profile(kind)
    name = str(random.choice(_NUMBERS[:-1]))
    factor = float(random.choice([1e-3, 1 / 3600, 1e3, 1e6]))
    for metrics in made.values():
        metrics[name] = [[value * factor for value in one] for one in metrics[name]]
    return Planted([(kind, made)], [Expected(column=name)])


def mixed(kind: Kind, random: np.random.Generator) -> Planted:
    made = profile(kind)
    found = []
    for key in made:
        names = made[key]["cpu_name"]
        if sum(map(len, names)) > 1 and (random.integers(2) or not found):
            at = int(random.integers(len(names)))
            other = EPYC if kind.architecture == "x86_64" else "Neoverse-V2"
            names[at][int(random.integers(len(names[at])))] = other
            found.append(Expected(key))
    return Planted([(kind, made)], found)


def drifting(kind: Kind, random: np.random.Generator) -> Planted:
    kind = replace(kind, workers=(4, 6, 8, 12), repetitions=int(random.integers(8, 14)))
    made = profile(kind)
    slower = float(random.uniform(1.25, 1.6))
    for key in random.choice(kind.keys, int(random.integers(3, 5)), replace=False):
        metrics = made[str(key)]
        many = len(metrics["read"])
        for name in (*SEVEN, "perf_energy_cores"):
            metrics[name][many // 2 :] = [
                [value * slower for value in one] for one in metrics[name][many // 2 :]
            ]
    return Planted([(kind, made)], [Expected()])


def requested_actual(kind: Kind, random: np.random.Generator) -> Planted:
    most = int(random.integers(1, max(kind.workers) + 1))
    kind = replace(kind, workers=(*kind.workers, max(kind.workers) + 3), most_workers=most)
    kind = replace(kind, repetitions=8)
    keys = zip(kind.workers, kind.keys, strict=True)
    found = [Expected(key) for workers, key in keys if workers > most]
    return Planted([(kind, profile(kind))], found)


def work_grows(kind: Kind, random: np.random.Generator) -> Planted:
    workers = tuple(sorted(random.choice(range(1, 29), 4, replace=False).tolist()))
    kind = replace(kind, weak=True, workers=workers, repetitions=8)
    return Planted([(kind, profile(kind))], [Expected()])


def few(kind: Kind, random: np.random.Generator) -> Planted:
    counts = [int(random.integers(1, 9)) for _ in kind.workers]
    counts[0] = int(random.integers(1, 5))
    kind = replace(kind, repetitions=counts)
    keys = zip(counts, kind.keys, strict=True)
    return Planted([(kind, profile(kind))], [Expected(key) for n, key in keys if n < 5])


def input_changed(kind: Kind, random: np.random.Generator) -> Planted:
    made = profile(kind)
    key = _one(random, made)
    metrics = made[key]
    found = _some(random, len(metrics["read"]), 2)
    for repetition in found:
        more = float(random.uniform(4, 6))
        for name in (*SEVEN[:3], *SEVEN[4:], "perf_energy_cores"):
            metrics[name][repetition] = [value * more for value in metrics[name][repetition]]
    # Where it is much of a configuration's mean, that is moved; what is in no phase grows, too.
    others = frozenset({"work-grows-with-workers", "drifting-repetitions", "stalled-worker"})
    return Planted([(kind, made)], [Expected(key, tuple(found))], others)


def _late(name: str, least: float) -> Fault:
    def plant(kind: Kind, random: np.random.Generator) -> Planted:
        made = profile(kind)
        key = _one(random, made)
        metrics = made[key]
        rows = 0
        for repetition in _some(random, len(metrics["read"]), 3):
            for worker in _some(random, len(metrics["read"][0]), 2):
                more = float(random.uniform(least, 3 * least))
                rows += 1
                if name == "cold_start":
                    metrics[name][repetition][worker] = more
                else:
                    take(metrics, repetition, worker, more)
        others = frozenset({"monitoring-overhead"})
        return Planted([(kind, made)], [Expected(key, rows=rows)], others)

    return plant


def stage_repetitions(kind: Kind, random: np.random.Generator) -> Planted:
    other = replace(kind, stage="other", seed=kind.seed + 1)
    made, second = profile(kind), profile(other)
    found = []
    for key in _some_keys(kind, random):
        lost = int(random.integers(1, 3))
        for name in second[key]:
            second[key][name] = second[key][name][:-lost]
        found.append(Expected(key, file=kind.folder))
    return Planted([(kind, made), (other, second)], found)


def _some_keys(kind: Kind, random: np.random.Generator) -> Iterable[str]:
    return [kind.keys[at] for at in _some(random, len(kind.keys), len(kind.keys))]


def overhead(kind: Kind, random: np.random.Generator) -> Planted:
    made = profile(kind)
    share = float(random.uniform(0.06, 0.15))
    for metrics in made.values():
        for at, seconds in enumerate(metrics[CLOCKS[1]]):
            for worker in range(len(seconds)):
                phases = sum(metrics[name][at][worker] for name in PHASES)
                for name in CLOCKS:
                    metrics[name][at][worker] = phases / (1 - share)
    # A phase of hours has that much of it.
    return Planted([(kind, made)], [Expected()], frozenset({"stalled-worker"}))


def missing_metadata(kind: Kind, _random: np.random.Generator) -> Planted:
    # A profile of the fork without the sidecar, and with what the fork writes right.
    made = profile(kind)
    return Planted([(replace(kind, clean=False), made)], [Expected()])


FAULTS: dict[str, Fault] = {
    "copied-repetitions": copied,
    "jittered-repetitions": jittered,
    "foreign-hardware": foreign,
    "empty-repetition": empty_repetition,
    "clock-mismatch": clock_mismatch,
    "phases-exceed-worker-time": phases_exceed,
    "negative-values": negative,
    "ragged-repetitions": ragged,
    "label-mismatch": label_mismatch,
    "unit-mistake": unit_mistake,
    "constant-column": constant,
    "zero-means-unavailable": zero,
    "implausible-power": implausible_power,
    "mixed-hardware": mixed,
    "drifting-repetitions": drifting,
    "requested-actual-workers": requested_actual,
    "work-grows-with-workers": work_grows,
    "few-repetitions": few,
    "input-changed": input_changed,
    "queued-start": _late("cold_start", 30.5),
    "stalled-worker": _late("worker_time_execution", 10.5),
    "empty-worker": empty_worker,
    "stage-repetitions": stage_repetitions,
    "monitoring-overhead": overhead,
    "missing-metadata": missing_metadata,
}
