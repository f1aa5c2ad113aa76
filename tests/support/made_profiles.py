"""Profiles as the energy fork of FlexExecutor writes them, made of numbers that are known.

A `Kind` says what is to be made; `profile` makes it, `write` puts it where `read_profiles` finds
it. The noise is lognormal and as wide as in real profiles. By default the columns have the fork's
known faults (joules that are 0, a `TDP` in seconds); with `clean` they hold what they should, and
the sidecar is written as well.

    folder = write(tmp_path, Kind(workload="pi", memory_mb=512, workers=(4, 8), seed=3))
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: Column to repetitions to one value a worker.
Metrics = dict[str, list[list[Any]]]

#: Key to metrics.
Profile = dict[str, Metrics]

#: The fork's columns, in its order.
COLUMNS = (
    "read",
    "compute",
    "write",
    "cold_start",
    "time_consumption",
    "worker_time_execution",
    "measurement_energy",
    "RAPL_wrong",
    "TDP",
    "perf_energy_cores",
    "rapl_energy_cores",
    "ebpf_energy_pkg",
    "ebpf_energy_cores",
    "psutil_cpu_percent",
    "cpu_name",
    "cpu_architecture",
    "cpu_cores_physical",
    "cpu_cores_logical",
    "aws_cpu",
)

#: What upstream FlexExecutor writes.
UPSTREAM = COLUMNS[:4]

JOULES = ("RAPL_wrong", "perf_energy_cores", "rapl_energy_cores", "ebpf_energy_pkg")

XEON, XEON_29, EPYC = (
    "Intel(R) Xeon(R) Processor @ 2.50GHz",
    "Intel(R) Xeon(R) Processor @ 2.90GHz",
    "AMD EPYC",
)
GRAVITON = "aarch64"

#: How many times as long each takes.
SLOWNESS: Mapping[str, float] = {XEON: 1.0, XEON_29: 0.97, EPYC: 1.23, GRAVITON: 0.92}

#: MB of memory that buy one vCPU.
_MB_A_VCPU = 1769

_WATTS_A_VCPU = 3.0


@dataclass(frozen=True)
class Kind:
    """What to make.

    Attributes:
        workload: Of the folder's name.
        stage: The file's name without its ending.
        architecture: `x86_64` or `arm64`.
        memory_mb: Of the keys and of the folder's name.
        workers: Workers of each configuration, as asked for.
        repetitions: Of each configuration; one number, or one for each configuration.
        seed: Of all that is random.
        work_s: Seconds of computing on one vCPU of a Xeon at 2.5 GHz: in all with strong scaling,
            of each worker with weak scaling.
        weak: Whether each worker does the whole work again.
        noise: Coefficient of variation of a worker's computing.
        between: The same of what all workers of a repetition share.
        mix: Processor to its part of the workers; empty for one processor.
        drift: Part of the workers that are on the slower processor (EPYC) in the last repetition,
            rising evenly from 0 in the first; replaces `mix`.
        most_workers: Workers that run at most, whatever is asked for.
        clean: Joules, loads and a sidecar as they should be, and hardly any time in no phase.
        on_lambda: What the tag says of the platform.
        columns: What is written.
    """

    workload: str = "pi"
    stage: str = "stage"
    architecture: str = "x86_64"
    memory_mb: int = 1024
    workers: Sequence[int] = (4, 8, 12)
    repetitions: int | Sequence[int] = 10
    seed: int = 0
    work_s: float = 60.0
    weak: bool = False
    noise: float = 0.02
    between: float = 0.005
    mix: Mapping[str, float] = field(default_factory=dict)
    drift: float = 0.0
    most_workers: int | None = None
    clean: bool = False
    on_lambda: bool = True
    columns: Sequence[str] = COLUMNS

    @property
    def folder(self) -> str:
        """Name of the folder, as the fork's users name theirs."""
        short = "arm" if self.architecture == "arm64" else "x86"
        return f"{self.workload}_aws_{self.memory_mb}Mb_{short}"

    @property
    def name(self) -> str:
        """What results call the file."""
        return f"{self.folder}/{self.stage}.json"

    @property
    def keys(self) -> list[str]:
        """The configurations' keys."""
        return [f"(1, {self.memory_mb}, {workers})" for workers in self.workers]


def profile(kind: Kind) -> Profile:
    """The profile of this kind: always the same one."""
    random = np.random.default_rng(kind.seed)
    counts = kind.repetitions
    if isinstance(counts, int):
        counts = [counts] * len(kind.workers)
    return {
        key: _metrics(kind, workers, repetitions, random)
        for key, workers, repetitions in zip(kind.keys, kind.workers, counts, strict=True)
    }


def write(folder: Path, *kinds: Kind, made: Profile | None = None) -> Path:
    """Writes profiles below a folder, with sidecars where they are clean; returns the folder.

    Args:
        folder: Where, e.g. `tmp_path`.
        kinds: What.
        made: The profile itself, of the only kind; by default what `profile` makes.
    """
    for kind in kinds:
        here = folder / kind.folder
        here.mkdir(parents=True, exist_ok=True)
        content = profile(kind) if made is None else made
        (here / f"{kind.stage}.json").write_text(json.dumps(content))
        if kind.clean:
            text = json.dumps(sidecar(content, kind))
            (here / f"{kind.stage}.json.energy").write_text(text)
    return folder


def matched(kind: Kind, memories_mb: Iterable[int] = (512, 1024, 2048)) -> list[Kind]:
    """One kind for each memory and architecture, x86_64 on several processors."""
    made = []
    for number, memory in enumerate(memories_mb):
        for architecture in ("arm64", "x86_64"):
            mix = {} if architecture == "arm64" else {XEON: 0.5, XEON_29: 0.3, EPYC: 0.2}
            made.append(
                replace(
                    kind,
                    architecture=architecture,
                    memory_mb=memory,
                    mix=mix,
                    seed=kind.seed * 1000 + 2 * number + (architecture == "arm64"),
                )
            )
    return made


def sidecar(made: Profile, kind: Kind) -> dict[str, Any]:
    """A sidecar that says when and where each repetition ran, and on how much input."""
    return {
        "schema": 1,
        "units": {},
        "configurations": {
            key: [
                {
                    "time": f"2026-11-{1 + at // 24 % 28:02}T{at % 24:02}:00:00Z",
                    "requested_workers": int(key.rpartition(",")[2].strip(" )")),
                    "actual_workers": len(one),
                    "region": "us-east-1",
                    "input_bytes": 1_000_000,
                    "lithowatt": "0.1.0",
                    "hardware": [{"cpu_architecture": kind.architecture}],
                }
                for at, one in enumerate(max(metrics.values(), key=len))
            ]
            for key, metrics in made.items()
        },
        "failures": [],
    }


def random_kind(random: np.random.Generator, *, clean: bool = True) -> Kind:
    """A kind of any sensible shape, with one processor, strong scaling and no drift."""
    many = int(random.integers(1, 6))
    workers = np.sort(random.choice(np.arange(1, 29), many, replace=False))
    return Kind(
        workload=str(random.choice(["pi", "titanic", "sort", "my_job"])),
        stage=str(random.choice(["stage", "map", "reduce"])),
        architecture=str(random.choice(["arm64", "x86_64"])),
        memory_mb=int(random.choice([512, 1024, 1769, 2048, 3008])),
        workers=tuple(workers.tolist()),
        repetitions=tuple(random.integers(5, 13, many).tolist()),
        seed=int(random.integers(1 << 31)),
        work_s=float(np.exp(random.uniform(np.log(20), np.log(400)))),
        noise=float(random.uniform(0.01, 0.06)),
        between=float(random.uniform(0.002, 0.01)),
        clean=clean,
    )


def _metrics(kind: Kind, asked: int, repetitions: int, random: np.random.Generator) -> Metrics:
    workers = asked if kind.most_workers is None else min(asked, kind.most_workers)
    shape = (repetitions, workers)
    names = _processors(kind, shape, random)
    slowness = np.vectorize(SLOWNESS.__getitem__, otypes=[float])(names) if workers else names

    def around(value: float, cv: float, shared: float) -> Floats:
        own = np.exp(random.normal(0, cv, shape))
        return np.asarray(value * own * np.exp(random.normal(0, shared, (repetitions, 1))))

    vcpus = min(kind.memory_mb / _MB_A_VCPU, 1.0)
    alone = kind.work_s * slowness / (1 if kind.weak else workers)
    compute = alone / vcpus * around(1.0, kind.noise, kind.between)
    read = around(0.2 / vcpus, 0.15, 0.05)
    write_ = around(0.15 / vcpus, 0.14, 0.05)
    cold_start = around(0.9, 0.1, 0.06)
    phases = read + compute + write_
    other = around(2.0, 0.05, 0.01)
    if kind.clean:
        other = np.minimum(0.02 * phases, 2.0) * around(1.0, 0.1, 0.0)
    seconds = phases + other
    # The guest of such a sandbox has two logical CPUs.
    load = np.minimum(alone * around(0.95, 0.01, 0.004) / seconds / 2, 1.0)
    if not kind.clean:
        load = np.maximum(np.round(load / 0.0005), 1) * 0.0005
    cpu_seconds = load * 2 * seconds
    percent = np.round(np.maximum(around(2.3, 0.3, 0.05), 0.1), 1)
    joules = {name: np.zeros(shape) for name in (*JOULES, "ebpf_energy_cores")}
    tdp = seconds * load
    if kind.clean:
        joules = {name: cpu_seconds * around(_WATTS_A_VCPU, 0.03, 0.01) for name in joules}
        tdp = cpu_seconds * around(_WATTS_A_VCPU, 0.02, 0.01)
    else:
        percent[random.random(shape) < 0.05] = 0.0
    made: dict[str, list[list[Any]]] = {
        "read": read.tolist(),
        "compute": compute.tolist(),
        "write": write_.tolist(),
        "cold_start": cold_start.tolist(),
        "time_consumption": np.round(seconds, 8).tolist(),
        "worker_time_execution": seconds.tolist(),
        "TDP": tdp.tolist(),
        "psutil_cpu_percent": percent.tolist(),
        "cpu_name": names.tolist(),
        **{name: values.tolist() for name, values in joules.items()},
    }
    machine = "aarch64" if kind.architecture == "arm64" else "x86_64"
    tag = f"type:lambda-function|arch:{machine}|lambda:{kind.on_lambda}|mem:{kind.memory_mb}"
    cores = 0 if kind.architecture == "arm64" and not kind.clean else 2
    same = {
        "measurement_energy": "null, null, null, psutil",
        "cpu_architecture": machine,
        "cpu_cores_physical": cores,
        "cpu_cores_logical": 2,
        "aws_cpu": tag,
    }
    if not kind.clean:
        same["RAPL_wrong"] = 12
    for name, value in same.items():
        made[name] = [[value] * workers for _ in range(repetitions)]
    return {name: made[name] for name in kind.columns}


def _processors(kind: Kind, shape: tuple[int, int], random: np.random.Generator) -> Any:
    """The processor's name of each worker."""
    repetitions, workers = shape
    if kind.architecture == "arm64":
        return np.full(shape, GRAVITON, dtype=object)
    names = np.full(shape, XEON, dtype=object)
    if kind.drift:
        for at in range(repetitions):
            slow = round(kind.drift * at / max(repetitions - 1, 1) * workers)
            names[at, random.permutation(workers)[:slow]] = EPYC
    elif kind.mix:
        parts = np.array(list(kind.mix.values()))
        names[:] = random.choice(
            np.array(list(kind.mix), dtype=object), shape, p=parts / parts.sum()
        )
    return names
