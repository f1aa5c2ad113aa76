"""Results of a bench as JSON: which commit on which machine, and a list of figures.

Every bench here takes ``--json FILE`` and writes the same head, so that later runs can be compared:

    make bench-compare BEFORE=a.json AFTER=b.json

A file is one object: ``format``, ``bench``, ``date`` (UTC), ``commit`` (of this checkout; with a
plus where it was changed), ``lithowatt`` (version), ``machine`` (with its load before the bench),
``options``, ``figures`` and ``details`` (what only that bench has). A figure is

    name     what was measured; the same in every run of a bench
    unit     such as ms, B or %
    value    the median, unless the name says otherwise
    spread   half of the 95 % interval of `value`, null where it was measured once
    n        how many measurements are behind it
    against  what it is a difference from or a multiple of, where it is one

The interval is that of the median by order statistics, which asks nothing of the distribution; for
fewer than six measurements it is that of the mean by Student's t. It holds the noise within a run:
two runs of one build may differ by more, so compare several of each.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import platform
import shutil
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent

FORMAT = 1

#: Before the bench, whose own work is no other's.
_LOAD = os.getloadavg()

#: Quantiles of Student's t for 95 %, by measurements: those of too few for order statistics.
_STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}


@dataclass(frozen=True)
class Figure:
    """One figure; see the head of this file."""

    name: str
    unit: str
    value: float
    spread: float | None = None
    n: int = 1
    against: str | None = None


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval of the median of what these are drawn from, `None` for a single value.

    Example:
        >>> interval(range(1, 101))
        (40, 61)
        >>> interval([2.0, 4.0])
        (-9.706, 15.706)
    """
    n = len(values)
    if n < 2:
        return None
    if n in _STUDENT:
        mean = statistics.fmean(values)
        half = _STUDENT[n] * statistics.stdev(values) / math.sqrt(n)
        return mean - half, mean + half
    # The most values that can be left out at each end: the median lies below the k-th smallest
    # as often as fewer than k of n coins show heads.
    k, below = 0, 0.0
    while True:
        below += math.comb(n, k) / 2**n
        if below > 0.025:
            break
        k += 1
    ordered = sorted(values)
    return ordered[k - 1], ordered[n - k]


def figure(name: str, unit: str, values: Sequence[float], against: str | None = None) -> Figure:
    """The median of some measurements, with its spread.

    Raises:
        ValueError: Without a measurement.
    """
    if not values:
        raise ValueError(f"{name}: nothing was measured")
    ends = interval(values)
    spread = None if ends is None else (ends[1] - ends[0]) / 2
    return Figure(name, unit, statistics.median(values), spread, len(values), against)


def argument(parser: argparse.ArgumentParser) -> None:
    """The option that every bench has."""
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="write the figures there, too; `make bench-compare` compares two such files",
    )


def write(
    path: Path,
    bench: str,
    figures: Sequence[Figure],
    options: Mapping[str, Any] | None = None,
    details: Any = None,
) -> None:
    """Writes a file of results.

    Args:
        path: Where.
        bench: Its name, as its file's.
        figures: Names must differ.
        options: That change what is measured.
        details: What JSON can hold.

    Raises:
        ValueError: If two figures have one name.
    """
    names = [one.name for one in figures]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"figures of one name: {', '.join(twice)}")
    record = {
        **head(bench),
        "options": dict(options or {}),
        "figures": [asdict(one) for one in figures],
        "details": details,
    }
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def head(bench: str) -> dict[str, Any]:
    """What was run, when and where."""
    return {
        "format": FORMAT,
        "bench": bench,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": commit(),
        "lithowatt": version(),
        "machine": machine(),
    }


def machine() -> dict[str, Any]:
    """The machine as far as times depend on it."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": _cpu_model(Path("/proc/cpuinfo")),
        "cpus": os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": [round(load, 2) for load in _LOAD],
    }


def _cpu_model(cpuinfo: Path) -> str:
    """The processor's name, its architecture where the kernel tells none."""
    for line in cpuinfo.read_text(errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def version() -> str | None:
    """Of the lithowatt of this interpreter, `None` where there is none."""
    try:
        import lithowatt
    except ImportError:
        return None
    return lithowatt.__version__


def commit(checkout: Path = HERE) -> str | None:
    """The commit of a checkout, with a plus where it was changed; `None` where there is no git."""
    git = shutil.which("git")
    if git is None:
        return None
    command = [git, "-C", str(checkout), "describe", "--always", "--dirty=+", "--exclude=*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def read(path: Path) -> dict[str, Any]:
    """A file of results.

    Raises:
        ValueError: For what is none.
        OSError: If it cannot be read.
    """
    try:
        record = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise ValueError(f"{path} is no result of a bench (`format` {FORMAT})")
    try:
        record["figures"] = [Figure(**one) for one in record["figures"]]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} has no such list of figures: {error}") from error
    return record
