"""Where profiles ran: on which platform, on what architecture, and what each worker was given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from lithowatt.analysis.platforms import (
    AwsLambda,
    Platform,
    Server,
    Worker,
    common_platform,
    platform_of_backend,
)
from lithowatt.profiles._given import MOST_CPUS, common_given
from lithowatt.profiles._runs import Bools, ConfigurationRuns, ProfileFile
from lithowatt.profiles._values import positive
from lithowatt.stats import PREFIX

#: What is known of a platform of which only the rows tell.
NOT_LAMBDA = "not AWS Lambda"

#: What more than this part of a file's rows say holds for all of the file.
NEARLY_ALL = 0.95


class Place(NamedTuple):
    """Where a file's repetitions ran.

    Attributes:
        platform: By the sidecar, else by the tag `aws_cpu` of the rows, else by what lithowatt said
            of a Lithops call (`aws_is_lambda`); `None` where nothing tells.
        by_row: Some rows ran on AWS Lambda and some did not: only the row can tell.
        architecture: Of nearly all rows; `None` where there is no such.
    """

    platform: Platform | None
    by_row: bool
    architecture: str | None


def place_of(file: ProfileFile) -> Place:
    """Where a file's repetitions ran."""
    backends = {
        record["backend"]
        for runs in file.configurations
        for record in runs.records
        if isinstance(record, Mapping) and isinstance(record.get("backend"), str)
    }
    architecture = _of_nearly_all(file)
    if backends:
        found = common_platform([platform_of_backend(one) for one in sorted(backends)])
        return Place(found, False, architecture)
    tags = [_tags(runs) for runs in file.configurations]
    here, said = sum(one for one, _ in tags), sum(one + other for one, other in tags)
    if not said:
        return Place(None, False, architecture)
    if here > NEARLY_ALL * said:
        return Place(AwsLambda(), False, architecture)
    return Place(Server(NOT_LAMBDA), bool(here), architecture)


def architecture_of(file: ProfileFile, place: Place, runs: ConfigurationRuns) -> str | None:
    """Of a configuration: what nearly all its rows say, else that of nearly all of the file's rows
    if most of its own say so; of the file where no row of it says.

    `None` where its rows are of two architectures: neither is that of the mixture.
    """
    said = runs.architectures
    if not said:
        return place.architecture or file.architecture
    most = max(said, key=lambda name: said[name])
    rows = sum(said.values())
    if said[most] > NEARLY_ALL * rows or (most == place.architecture and 2 * said[most] > rows):
        return most
    return None


def no_architecture(runs: ConfigurationRuns) -> str:
    """Why `architecture_of` gives none."""
    if len(runs.architectures) > 1:
        return f"its calls ran on {' and '.join(runs.architectures)}"
    return "the profile does not say its architecture (cpu_architecture)"


def worker_of(runs: ConfigurationRuns, architecture: str) -> Worker:
    """What the workers of a configuration were given, as far as it is known."""
    given = common_given([one for one in runs.records if isinstance(one, Mapping)])
    column = runs.columns.get("cpu_name")
    name = None
    if column is not None and column.codes is not None and (column.codes >= 0).any():
        counts = np.bincount(column.codes[column.codes >= 0], minlength=len(column.labels))
        name = column.labels[int(counts.argmax())] or None
    cpus = runs.numbers("cpu_cores_logical")
    cpus = cpus[(cpus > 0) & (cpus <= MOST_CPUS)]
    if len(cpus) and (cpus == cpus[0]).all():
        cpus = cpus[:1]  # as nearly always: no need to count
    values, times = np.unique(cpus, return_counts=True)
    memory = positive(runs.configuration.memory_mb) or (given and given.memory_mb) or 0.0
    return Worker(
        memory_mb=float(memory),
        architecture=architecture,
        vcpus=None if given is None else given.cpus,
        cpu_name=name,
        logical_cpus=int(values[times.argmax()]) if len(values) else None,
    )


def _tags(runs: ConfigurationRuns) -> tuple[int, int]:
    """How many rows say that they ran on AWS Lambda, and how many that they did not."""
    column = runs.columns.get("aws_cpu")
    if column is None:
        return _flags(runs, np.ones(runs.rows, dtype=bool))
    if column.codes is None:
        # A column of nothing is written where there is nothing of AWS.
        return 0, runs.rows
    counts = np.bincount(column.codes[column.codes >= 0], minlength=len(column.labels))
    texts = [label.lower() for label in column.labels]
    here = sum(int(n) for text, n in zip(texts, counts, strict=True) if "lambda:true" in text)
    not_here = sum(int(n) for text, n in zip(texts, counts, strict=True) if "lambda:false" in text)
    # Off AWS a call has no tag.
    flagged, flagged_not = _flags(runs, column.codes < 0)
    return here + flagged, not_here + flagged_not


def _flags(runs: ConfigurationRuns, rows: Bools) -> tuple[int, int]:
    """The same of these rows, by what lithowatt's stats of a Lithops call say."""
    flags = runs.numbers(f"{PREFIX}aws_is_lambda")[rows]
    return int((flags == 1).sum()), int((flags == 0).sum())


def _of_nearly_all(file: ProfileFile) -> str | None:
    counts: dict[str, int] = {}
    for runs in file.configurations:
        for name, count in runs.architectures.items():
            counts[name] = counts.get(name, 0) + count
    if not counts:
        return None
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] > NEARLY_ALL * sum(counts.values()) else None
