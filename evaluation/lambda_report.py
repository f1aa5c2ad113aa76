"""Prints the prototype's AWS Lambda results for Titanic, re-estimated with correct shares.

    python evaluation/lambda_report.py

The profiles (`profiles/*/stage.json` below `LITHOWATT_DATA`, by default the folder
`shared/data` beside the checkout) are not part of the repository. No joule was measured
in them: both columns are models. The prototype's "TDP (W)" is the mean over repetitions and
workers of time × CPU share × 100 (arm64) or 166 (x86_64): joules per worker, charged
with the power of a whole package.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

from lithowatt import PowerModel
from lithowatt.profiles import Configuration, read_profile

DATA = Path(os.environ.get("LITHOWATT_DATA", Path(__file__).parents[2] / "shared" / "data"))

#: Logical CPUs of a Lambda guest; the data's CPU share is a mean over them.
GUEST_CPUS = 2

#: W that the prototype took for a whole processor.
SEED_WATTS = {"aarch64": 100.0, "x86_64": 166.0}

#: The rows of the prototype's appendix: architecture, MB, workers, its "TDP (W)".
APPENDIX = (
    *(
        ("aarch64", 512, n, w)
        for n, w in zip((12, 16, 20, 24, 28), (549, 421, 346, 312, 260), strict=True)
    ),
    *(
        ("aarch64", 1024, n, w)
        for n, w in zip((4, 8, 16, 24, 28), (1965, 897, 465, 330, 306), strict=True)
    ),
    *(
        ("aarch64", 2048, n, w)
        for n, w in zip((4, 8, 16, 24, 28), (1928, 904, 480, 349, 327), strict=True)
    ),
    *(
        ("x86_64", 512, n, w)
        for n, w in zip((12, 16, 20, 24, 28), (1081, 829, 675, 571, 517), strict=True)
    ),
)

FILES = {
    ("aarch64", 512): "titanic_aws_512Mb_arm",
    ("aarch64", 1024): "titanic_aws_1024Mb_arm",
    ("aarch64", 2048): "titanic_aws_2048Mb_arm",
    ("x86_64", 512): "titanic_aws_512Mb_x86",
}


class Row(NamedTuple):
    """One configuration, per worker and run; energies in J, time in s."""

    seconds: float
    cpu_seconds: float
    seed: float
    value: float
    low: float
    high: float


@cache
def _model(memory_mb: int, architecture: str, name: str | None) -> PowerModel:
    return PowerModel.for_lambda(memory_mb, architecture, name)


def estimate(memory_mb: int, architecture: str, workers: int) -> Row:
    """One row of the table.

    Raises:
        FileNotFoundError, KeyError: The profile or the configuration is not there.
    """
    path = DATA / "profiles" / FILES[architecture, memory_mb] / "stage.json"
    if not path.exists():
        raise FileNotFoundError(path)
    metrics = read_profile(path)[Configuration(1, memory_mb, workers)]
    columns = ("worker_time_execution", "TDP", "cpu_name")
    rows = [
        (float(seconds), float(share_seconds), name)
        for repetition in zip(*(metrics[name] for name in columns), strict=True)
        for seconds, share_seconds, name in zip(*repetition, strict=True)
    ]
    values, lows, highs = [], [], []
    for seconds, share_seconds, name in rows:
        # Lambda's arm64 shows no name of its own.
        model = _model(memory_mb, architecture, None if name == architecture else name)
        vcpus = memory_mb / 1769
        busy = min(share_seconds * GUEST_CPUS / seconds, vcpus)
        watts = model.share_watts(vcpus, busy, memory_mb / 1024).total
        values.append(watts.value * seconds)
        lows.append(watts.low * seconds)
        highs.append(watts.high * seconds)
    mean = statistics.fmean
    return Row(
        mean(row[0] for row in rows),
        mean(row[1] for row in rows) * GUEST_CPUS,
        mean(row[1] for row in rows) * SEED_WATTS[architecture],
        mean(values),
        mean(lows),
        mean(highs),
    )


def main() -> int:
    """Prints the table as Markdown."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    print(
        '| architecture | MB | workers | s | CPU s | prototype\'s "TDP (W)" | J by the prototype | '
        "J, correct shares | 95 % band | prototype / ours | J of the run |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|---|---:|---:|")
    for architecture, memory_mb, workers, said in APPENDIX:
        row = estimate(memory_mb, architecture, workers)
        print(
            f"| {architecture} | {memory_mb} | {workers} | {row.seconds:.1f} | "
            f"{row.cpu_seconds:.1f} | {said} | {row.seed:.0f} | {row.value:.1f} | "
            f"{row.low:.1f} to {row.high:.1f} | {row.seed / row.value:.0f} | "
            f"{row.value * workers:.0f} |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
