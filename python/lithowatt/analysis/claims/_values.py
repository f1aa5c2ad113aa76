"""What the names in a formula stand for: one number a configuration, or one a repetition."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from lithowatt._support.architectures import ARCHITECTURES
from lithowatt._support.arguments import closest
from lithowatt.analysis.selection import NAMES, Selected
from lithowatt.errors import MalformedValueError
from lithowatt.profiles._runs import ALWAYS, Floats

#: What configurations are selected by, and compared by.
FACTORS = ("workload", "stage", "architecture", "memory_mb", "workers", "file")

#: Numbers of a configuration that are the same in all its repetitions.
PROPERTIES = ("workers", "memory_mb", "memory_gb", "repetitions")


class NotThere(Exception):
    """What a formula asks for is not in the data; the message says what."""


class Ambiguous(NotThere):
    """What a formula asks for is there more than once; the message says so and what to name."""

    def __init__(self, why: str) -> None:
        super().__init__(f"ambiguous: {why}")


class Cell:
    """One configuration, as a formula sees it.

    Args:
        selected: The configuration, and which of its repetitions count.
    """

    def __init__(self, selected: Selected) -> None:
        self.selected = selected
        runs, file = selected.runs, selected.file
        self._levels = {
            "file": file.name,
            "workload": file.workload,
            "stage": file.stage,
            "architecture": selected.architecture or "",
            "memory_mb": f"{runs.configuration.memory_mb:g}",
            "workers": f"{runs.configuration.workers:g}",
        }

    def level(self, factor: str) -> str:
        """Its level of one of `FACTORS`, as a text."""
        return self._levels[factor]

    @property
    def named(self) -> str:
        """File and key, for a message."""
        return f"{self.selected.file.name} {self.selected.runs.key}"

    @property
    def n(self) -> int:
        """Repetitions that count."""
        return int(self.selected.used.sum())

    @property
    def names(self) -> Iterable[str]:
        """Its columns."""
        return self.selected.runs.columns

    def runs(self, name: str) -> Floats:
        """The values of a name, one for each repetition that counts and has one.

        Raises:
            NotThere: The column is not there, has no value, or says 0 for no reading.
        """
        if name in PROPERTIES:
            return np.full(self.n, self._property(name))
        if name in NAMES:
            reason = self.selected.missing(name)
            if reason is not None:
                raise NotThere(f"{self.named} has no {name}: {reason}")
            every = self.selected.values(name)
        else:
            every = self._column(name)
        values = every[self.selected.used]
        values = values[np.isfinite(values)]
        if not len(values):
            raise NotThere(f"{self.named} has no value of {name}")
        return np.asarray(values)

    def mean(self, name: str) -> float:
        """The mean of `runs`; of a property the number itself.

        Raises:
            NotThere: As `runs`.
        """
        if name in PROPERTIES:
            return self._property(name)
        return float(self.runs(name).mean())

    def _column(self, name: str) -> Floats:
        column = self.selected.runs.columns.get(name)
        if column is None or column.numbers is None:
            raise NotThere(f"{self.named} has no column {name} of numbers")
        rows = column.numbers
        if name not in ALWAYS and not (rows[~np.isnan(rows)] != 0).any():
            raise NotThere(f"{self.named}: {name} is 0 in every row, which means no reading")
        return self.selected.runs.mean_of(rows)

    def _property(self, name: str) -> float:
        if name == "repetitions":
            return float(self.n)
        configuration = self.selected.runs.configuration
        if name == "workers":
            return float(configuration.workers)
        return float(configuration.memory_mb) / (1024 if name == "memory_gb" else 1)


#: Factor to the levels that are wanted.
Selection = tuple[tuple[str, tuple[str, ...]], ...]


def selection_of(named: Sequence[tuple[str, Sequence[str]]]) -> Selection:
    """A selection in one spelling, so that two that mean the same are equal.

    Raises:
        MalformedValueError: It names a factor that there is not.
    """
    found = {}
    for factor, levels in named:
        if factor not in FACTORS:
            raise MalformedValueError(
                f"{factor!r:.80} is nothing that configurations differ by: {', '.join(FACTORS)}"
            )
        found[factor] = tuple(sorted({_spelled(factor, level) for level in levels}))
    return tuple(sorted(found.items()))


def narrowed(outer: Selection, inner: Selection) -> Selection:
    """What both select; for a factor that both name, the inner one holds."""
    return tuple(sorted({**dict(outer), **dict(inner)}.items()))


def select(every: Sequence[Cell], selection: Selection) -> list[Cell]:
    """The configurations of a selection, in their order.

    Raises:
        NotThere: There are none, or none of one of the levels that it names.
    """
    wanted = dict(selection)
    found = [
        one
        for one in every
        if all(_matches(one, factor, levels) for factor, levels in wanted.items())
    ]
    if not found:
        raise NotThere(f"there is no configuration with {spelled(selection)}")
    for factor, levels in wanted.items():
        there = {one.level(factor).lower() for one in found}
        missing = [level for level in levels if level.lower() not in there]
        if missing:
            others = {one.level(factor) for one in every} - {""}
            raise NotThere(
                f"of the configurations with {spelled(selection)} none has {factor}="
                f"{'|'.join(missing)} ({closest(missing[0], others)})"
            )
    return found


def spelled(selection: Selection) -> str:
    """A selection as it is written."""
    return " ".join(f"{factor}={'|'.join(levels)}" for factor, levels in selection) or "anything"


def same_level(factor: str, one: str, other: str) -> bool:
    """Whether two spellings of a level mean the same."""
    return _spelled(factor, one).lower() == _spelled(factor, other).lower()


def _matches(one: Cell, factor: str, levels: Sequence[str]) -> bool:
    return one.level(factor).lower() in {level.lower() for level in levels}


def _spelled(factor: str, level: str) -> str:
    if factor == "architecture":
        return ARCHITECTURES.get(level.strip().lower(), level.strip())
    if factor in ("memory_mb", "workers"):
        try:
            return f"{float(level):g}"
        except ValueError:
            raise MalformedValueError(f"{factor}={level!r:.80} is no number") from None
    return level.strip()


def known_names(every: Iterable[Cell]) -> set[str]:
    """All that a name in a formula can be, with these profiles."""
    return {*PROPERTIES, *NAMES, *(name for one in every for name in one.names)}
