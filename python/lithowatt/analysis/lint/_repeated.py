"""Repetitions that are no runs of their own: copies, and copies with noise on them.

All repetitions with as many workers are compared with each other, whatever file they are in. A pair
is dropped at the first value in which it differs, so that hardly any is looked at as a whole.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from lithowatt.profiles._runs import CORE, Bools, ConfigurationRuns, Floats, Ints

#: Two clocks of one worker that are further apart, relative to the greater, are not of one run.
CLOCKS_APART = 1e-7
#: Lithops rounds one of them to this, s, which is more than that for a worker of milliseconds.
CLOCK_STEP_S = 1e-8

#: How far a value may be from the one that it was made of: noise of ±3 %, from the lower end.
JITTER_LOG = -math.log(0.97)

#: From so many workers on, values that are all that close show a copy without the clocks.
JITTER_LEAST_WORKERS = 4

#: Of these so many have to be above 0 for that: otherwise too few numbers agree to show anything.
_INFORMATIVE = ("read", "compute", "write", "cold_start", "TDP")
_LEAST_INFORMATIVE = 3

#: What rounding may add to a difference of logarithms.
_ROUNDING = 1e-12

#: Stands for the logarithm of 0: equal to another 0, and far from everything else.
_LOG_OF_ZERO = -1e6

#: Pairs that are looked at together, which bounds memory.
_PAIRS = 1 << 17


class Source(NamedTuple):
    """The repetition that another one was made of.

    Attributes:
        place: Index of its configuration among those that were compared.
        repetition: From 0.
    """

    place: int
    repetition: int


@dataclass(frozen=True)
class Repeated:
    """What was found in one configuration.

    Attributes:
        copied: Repetition to the earlier one that it equals.
        jittered: Repetition to the one that it was made of, `None` where none is like it.
    """

    copied: dict[int, Source] = field(default_factory=dict)
    jittered: dict[int, Source | None] = field(default_factory=dict)


def clocks_apart(runs: ConfigurationRuns) -> Bools:
    """Of each worker, whether its two clocks differ by more than rounding."""
    one, other = runs.numbers("time_consumption"), runs.numbers("worker_time_execution")
    most = np.maximum(CLOCKS_APART * np.maximum(abs(one), abs(other)), CLOCK_STEP_S)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.abs(one - other) > most)


def repeated(places: Sequence[ConfigurationRuns]) -> list[Repeated]:
    """What is repeated in these configurations, in their order: an earlier one is a source."""
    found = [Repeated() for _ in places]
    by_width: defaultdict[int, list[tuple[int, Ints]]] = defaultdict(list)
    for at, runs in enumerate(places):
        for width in np.unique(runs.widths[runs.widths > 0]).tolist():
            by_width[width].append((at, np.flatnonzero(runs.widths == width)))
    for width, members in by_width.items():
        _Alike(places, width, members).into(found)
    return found


class _Alike:
    """All repetitions with one number of workers, in order."""

    def __init__(
        self,
        places: Sequence[ConfigurationRuns],
        width: int,
        members: Sequence[tuple[int, Ints]],
    ) -> None:
        self.width = width
        self.place = np.concatenate([np.full(len(some), at) for at, some in members])
        self.repetition = np.concatenate([some for _, some in members])
        values, apart = [], []
        for at, some in members:
            runs = places[at]
            rows = runs.starts[some][:, None] + np.arange(width)
            values.append(np.stack([runs.numbers(name)[rows] for name in CORE], axis=2))
            apart.append(clocks_apart(runs)[rows])
        #: Repetition, worker, column.
        self.values = np.concatenate(values) + 0.0  # -0.0 equals 0.0
        self.apart = np.concatenate(apart)

    def into(self, found: list[Repeated]) -> None:
        """Adds what is repeated to what was found."""
        classes = self._classes()
        for at, first in enumerate(classes.tolist()):
            if 0 <= first < at:
                found[self.place[at]].copied[int(self.repetition[at])] = self._source(first)
        by_clocks = self.apart.sum(axis=1) * 2 > self.width
        if self.width < JITTER_LEAST_WORKERS and not by_clocks.any():
            return
        jittered, sources = self._jittered(by_clocks, classes)
        for at in np.flatnonzero(jittered).tolist():
            source = sources.get(at)
            found[self.place[at]].jittered[int(self.repetition[at])] = (
                None if source is None else self._source(source)
            )

    def _source(self, at: int) -> Source:
        return Source(int(self.place[at]), int(self.repetition[at]))

    def _classes(self) -> Ints:
        """Of each repetition the first that equals it; -1 where it holds nothing but zeros."""
        flat = self.values.reshape(len(self.values), -1)
        flat[np.isnan(flat)] = np.nan  # of one bit pattern
        some = (np.nan_to_num(flat) != 0).any(axis=1).tolist()
        first: dict[bytes, int] = {}
        return np.array(
            [
                first.setdefault(row.tobytes(), at) if some[at] else -1
                for at, row in enumerate(flat)
            ],
            dtype=np.int64,
        )

    def _jittered(self, by_clocks: Bools, classes: Ints) -> tuple[Bools, dict[int, int]]:
        """Which are jittered, and the sources of those that have one."""
        jittered = by_clocks.copy()
        later, earlier, distance = self._close(by_clocks, classes)
        ends = np.searchsorted(later, np.arange(len(jittered) + 1))
        may = self._telling() if self.width >= JITTER_LEAST_WORKERS else np.zeros_like(by_clocks)
        # In order, since a source is none that was made of another itself.
        for at in np.unique(later).tolist():
            near = earlier[ends[at] : ends[at + 1]]
            if may[at] and not jittered[at] and (~jittered[near[near < at]]).any():
                jittered[at] = True
        sources = {}
        for at in np.flatnonzero(jittered & (ends[1:] > ends[:-1])).tolist():
            near = earlier[ends[at] : ends[at + 1]]
            apart = distance[ends[at] : ends[at + 1]]
            own = self.place[near] == self.place[at]
            # Of its own configuration an earlier one; of others any, where the clocks show it.
            good = ~jittered[near] & ((near < at) | (~own & by_clocks[at]))
            if good.any():
                order = np.lexsort((near[good], apart[good], ~own[good]))
                sources[at] = int(near[good][order[0]])
        return jittered, sources

    def _telling(self) -> Bools:
        """Whether a repetition has enough numbers for closeness to show anything."""
        columns = [CORE.index(name) for name in _INFORMATIVE]
        above = (np.nan_to_num(self.values[:, :, columns]) > 0).any(axis=1)
        return np.asarray(above.sum(axis=1) >= _LEAST_INFORMATIVE)

    def _close(self, by_clocks: Bools, classes: Ints) -> tuple[Ints, Ints, Floats]:
        """Pairs (repetition, possible source) of which all values are close, and how close.

        Those of one repetition stand together, repetitions in order.
        """
        there = ~np.isnan(self.values)
        full = there.any(axis=1) == there.all(axis=1)  # of each column: all workers or none
        always = [CORE.index(name) for name in (*CORE[:4], "worker_time_execution")]
        fit = full.all(axis=1) & there[:, :, always].all(axis=(1, 2))
        fit &= ~(self.values < 0).any(axis=(1, 2))
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(self.values)
        logs[self.values == 0] = _LOG_OF_ZERO
        # Columns that neither has agree; one that only one has differs.
        logs[~there] = 2 * _LOG_OF_ZERO
        flat = logs.reshape(len(logs), -1)
        noisiest = np.argsort(-flat[fit].std(axis=0)) if fit.any() else np.arange(flat.shape[1])
        odd = self.apart.any(axis=1) & ~by_clocks
        aside = np.repeat(self.apart, len(CORE), axis=1)
        parts = []
        targets = fit if self.width >= JITTER_LEAST_WORKERS else fit & by_clocks
        for to, of in _near_on_one(logs, np.flatnonzero(fit), np.flatnonzero(targets)):
            keep = ~odd[of] & (classes[to] != classes[of]) & ((of < to) | by_clocks[to])
            parts.append(_still_close(flat, to[keep], of[keep], noisiest, None))
        for source in np.flatnonzero(fit & odd).tolist():
            to = np.flatnonzero(targets & (classes != classes[source]))
            to = to[(to > source) | by_clocks[to]]
            of = np.full(len(to), source)
            parts.append(_still_close(flat, to, of, noisiest, aside))
        if not parts:
            nothing = np.zeros(0, dtype=np.int64)
            return nothing, nothing, np.zeros(0)
        to, of, distance = (np.concatenate(some) for some in zip(*parts, strict=True))
        order = np.lexsort((of, to))
        return to[order], of[order], distance[order]


def _near_on_one(logs: Floats, among: Ints, targets: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Pairs of a target and another that are near in the mean of the column that differs most."""
    if not len(targets) or len(among) < 2:
        return
    means = logs.mean(axis=1)
    key = means[:, int(means[among].std(axis=0).argmax())]
    among = among[np.argsort(key[among], kind="stable")]
    keys, reach = key[among], JITTER_LOG + 1e-9
    begin = np.searchsorted(keys, key[targets] - reach, side="left")
    counts = np.searchsorted(keys, key[targets] + reach, side="right") - begin
    at = 0
    while at < len(targets):
        some = max(int(np.searchsorted(np.cumsum(counts[at:]), _PAIRS, side="right")), 1)
        part = slice(at, at + some)
        many = counts[part]
        within = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
        to, of = np.repeat(targets[part], many), among[np.repeat(begin[part], many) + within]
        yield to[to != of], of[to != of]
        at += some


def _still_close(
    flat: Floats, to: Ints, of: Ints, order: Ints, aside: Bools | None
) -> tuple[Ints, Ints, Floats]:
    """Those pairs of which no value is too far apart, and their mean distances."""
    for feature in order.tolist():
        if not len(to):
            break
        near = np.abs(flat[to, feature] - flat[of, feature]) <= JITTER_LOG + _ROUNDING
        if aside is not None:
            near |= aside[of, feature]
        to, of = to[near], of[near]
    distance = np.zeros(len(to))
    block = max(_PAIRS // max(flat.shape[1], 1), 1)
    for begin in range(0, len(to), block):
        some = slice(begin, begin + block)
        apart = np.abs(flat[to[some]] - flat[of[some]])
        if aside is None:
            distance[some] = apart.mean(axis=1)
        else:
            kept = ~aside[of[some]]
            distance[some] = (apart * kept).sum(axis=1) / kept.sum(axis=1)
    return to, of, distance
