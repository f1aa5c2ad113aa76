"""A workload as data: stages that read files and write files, and what they have in common.

A stage is a function of one argument that knows only the three methods of
`StageContext`. They are FlexExecutor's, so the same function runs there and on
plain Lithops.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


class StageContext(Protocol):
    """What a stage function sees of its worker."""

    def get_input_paths(self, input_id: str) -> list[str]:
        """Local files of one input: this worker's share, or all where it is broadcast."""

    def next_output_path(self, output_id: str) -> str:
        """A new local file to write; it is uploaded after the function has returned."""

    def get_param(self, name: str) -> Any:
        """One of the stage's parameters."""


@dataclass(frozen=True)
class Data:
    """Files of one kind, between stages or in front of the first.

    Attributes:
        id: Name by which stages ask for them.
        suffix: How each file's name ends.
        broadcast: Every worker reads all of them, rather than its share.
    """

    id: str
    suffix: str = ".bin"
    broadcast: bool = False


@dataclass(frozen=True)
class Stage:
    """One step, run by as many workers as the configuration says.

    Attributes:
        id: Name; the profile is `<dag>/<id>.json`.
        function: What a worker runs.
        inputs: What it reads. The stages that write it run before.
        outputs: What it writes.
        params: Values for `get_param`, the same for every worker.
        single: One worker, whatever the configuration says.
    """

    id: str
    function: Callable[[StageContext], Any]
    inputs: tuple[Data, ...]
    outputs: tuple[Data, ...]
    params: Mapping[str, Any] = field(default_factory=dict)
    single: bool = False


@dataclass(frozen=True)
class Size:
    """A number that says how much work there is, given on the command line.

    Attributes:
        name: `points` is `--points`.
        default: Value without the option.
        help: One line, with the unit.
        least: Smallest value that makes sense.
    """

    name: str
    default: int
    help: str
    least: int = 1


@dataclass(frozen=True)
class Setup:
    """What a workload is told before a run.

    Attributes:
        workers: Workers of this run.
        seed: All randomness comes from it.
        sizes: The workload's size options by name.
        options: All of the command line.
    """

    workers: int
    seed: int
    sizes: Mapping[str, int]
    options: argparse.Namespace


@dataclass(frozen=True)
class Outcome:
    """What the workload came to.

    Attributes:
        text: One line for the reader.
        values: The same as JSON-serialisable values.
    """

    text: str
    values: dict[str, Any]


class WrongResultError(Exception):
    """The workload ran, and what it computed is wrong."""


class OptionError(Exception):
    """The command line asks for something that makes no sense for this workload."""


class MissingError(Exception):
    """Something that the workload needs is not installed; the text says how to get it."""


@dataclass(frozen=True)
class Workload:
    """A workload.

    Attributes:
        name: Also the DAG's name in the profiles, where no size was changed.
        title: One line for `--help`.
        sizes: Its size options.
        needs: Packages beyond the standard library: module to distribution.
        stages: The stages for a run, in an order in which each finds its inputs written.
        prepare: Writes the first stage's inputs into a folder: files by `Data.id`.
        results: What is fetched after the last stage, by `Data.id`.
        check: Judges the fetched files. Raises `WrongResultError`.
    """

    name: str
    title: str
    sizes: Sequence[Size]
    needs: Mapping[str, str]
    stages: Callable[[Setup], Sequence[Stage]]
    prepare: Callable[[Setup, Path], Mapping[str, Sequence[Path]]]
    results: Sequence[Data]
    check: Callable[[Setup, Mapping[str, Sequence[Path]]], Outcome]

    def dag(self, sizes: Mapping[str, int]) -> str:
        """The DAG's name, which profiles are stored by: those of other sizes are others."""
        other = [f"-{s.name}-{sizes[s.name]}" for s in self.sizes if sizes[s.name] != s.default]
        return "".join([self.name, *other])


def shares(total: int, parts: int) -> list[int]:
    """Splits a whole number as evenly as possible.

    >>> shares(10, 4)
    [3, 3, 2, 2]
    """
    return [total // parts + (part < total % parts) for part in range(parts)]
