"""Which configurations are compared with which: equal in all but the one thing that is compared."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from lithowatt.analysis.placement import no_architecture
from lithowatt.analysis.selection import Selected
from lithowatt.errors import MalformedValueError
from lithowatt.profiles._runs import Bools, Floats

#: What `--by` may be, besides `label=A:B`.
KINDS = ("architecture", "memory", "workers", "cpu_name", "file", "backend")


class Key(NamedTuple):
    """What is equal on both sides; `None` is what is compared, or differs throughout."""

    workload: str | None
    stage: str | None
    architecture: str | None
    memory_mb: float | None
    cpu: float | None
    workers: int | None
    workers_actual: tuple[int, ...] | None


class Member(NamedTuple):
    """A configuration on one side, or a part of it.

    Attributes:
        selected: The configuration.
        cpu_name: Only what ran on this processor; `None`: all.
    """

    selected: Selected
    cpu_name: str | None = None

    def sample(self, quantity: str) -> Floats:
        """The values of a quantity that count, ascending."""
        if self.cpu_name is None:
            return self.selected.sample(quantity)
        return stratum(self.selected, self.cpu_name, quantity)


@dataclass(frozen=True)
class Pair:
    """Two sides that are compared.

    Attributes:
        key: What they have in common.
        labels: Names of a and b.
        a: The configurations of one side; more than one where files hold the same.
        b: Those of the other.
    """

    key: Key
    labels: tuple[str, str]
    a: tuple[Member, ...]
    b: tuple[Member, ...]


class Unmatched(NamedTuple):
    """A configuration without a partner."""

    selected: Selected
    reason: str


class Matched(NamedTuple):
    """What `match` found.

    Attributes:
        pairs: In the order of their keys.
        unmatched: One for each configuration without a partner.
        notes: What the sides differ in besides, in words.
    """

    pairs: list[Pair]
    unmatched: list[Unmatched]
    notes: list[str]


def check_by(by: str) -> str:
    """What is compared, checked.

    Raises:
        MalformedValueError: It is not one of `KINDS` and not `label=A:B`.
    """
    if by in KINDS:
        return by
    labels = _labels_of(by)
    if labels is None or not all(labels) or labels[0] == labels[1]:
        raise MalformedValueError(
            f"{by!r:.80} is not one of {', '.join(KINDS)}, and not label=A:B with two names"
        )
    return by


def match(some: Sequence[Selected], by: str, paths: Sequence[str] = ()) -> Matched:
    """Pairs of configurations that are equal in all but one thing.

    Args:
        some: Configurations.
        by: What is compared, see `check_by`.
        paths: With `file`, what was given: each stands for a side, if there are several.
    """
    check_by(by)
    out = [
        Unmatched(one, "none of its repetitions is usable")
        for one in some
        if not one.workers_actual
    ]
    good = [one for one in some if one.workers_actual]
    if by == "cpu_name":
        return _within_configurations(good, out)
    if by == "architecture":
        sides = [(one, one.architecture, _key(one)._replace(architecture=None)) for one in good]
        return _paired(
            sides, sorted, str, "the other architecture has none that is equal in all else", out
        )
    if by == "memory":
        sides_ = [
            (one, one.runs.configuration.memory_mb, _key(one)._replace(memory_mb=None))
            for one in good
        ]
        return _paired(
            sides_, _descending, _number, "no other memory has one that is equal in all else", out
        )
    if by == "workers":
        sides__ = [
            (
                one,
                one.runs.configuration.workers,
                _key(one)._replace(workers=None, workers_actual=None),
            )
            for one in good
        ]
        return _paired(
            sides__, _descending, _number, "no other number of workers is equal in all else", out
        )
    if by == "backend":
        return _backends(good, out)
    labels = _labels_of(by)
    if labels is not None:
        return _labelled(good, labels, out)
    return _files(good, paths, out)


def stratum(selected: Selected, cpu_name: str, quantity: str) -> Floats:
    """A quantity of what ran on one processor, ascending.

    Of quantities that are means over workers: the mean over those on it, of each repetition that
    has any. Of totals: of the repetitions that ran on it alone.
    """
    runs = selected.runs
    on = on_processor(selected, cpu_name)
    column = PER_WORKER.get(quantity)
    if column is None:
        return selected.sample(quantity, runs.all_of(on))
    counts = runs.sum_of(on.astype(np.float64))
    with np.errstate(invalid="ignore", divide="ignore"):
        means = runs.sum_of(np.where(on, runs.numbers(column), 0.0)) / counts
    return np.sort(means[selected.used & (counts > 0) & np.isfinite(means)])


def on_processor(selected: Selected, cpu_name: str) -> Bools:
    """Of each row, whether it ran on this processor."""
    column = selected.runs.columns.get("cpu_name")
    if column is None or column.codes is None or cpu_name not in column.labels:
        return np.zeros(selected.runs.rows, dtype=bool)
    return np.asarray(column.codes == column.labels.index(cpu_name))


#: Quantities that are means over workers, and the column that they are of.
PER_WORKER = {
    "read_s": "read",
    "compute_s": "compute",
    "write_s": "write",
    "cold_start_s": "cold_start",
    "worker_time_s": "worker_time_execution",
}


# --- by a property ------------------------------------------------------------


def _key(one: Selected) -> Key:
    configuration = one.runs.configuration
    return Key(
        one.file.workload,
        one.file.stage,
        one.architecture,
        configuration.memory_mb,
        configuration.cpu,
        configuration.workers,
        tuple(one.workers_actual),
    )


def _paired(
    sides: Iterable[tuple[Selected, Any, Key]],
    order: Callable[[Iterable[Any]], list[Any]],
    text: Callable[[Any], str],
    reason: str,
    out: list[Unmatched],
) -> Matched:
    """All pairs of the different values of a property, in this order."""
    groups: defaultdict[Key, defaultdict[Any, list[Member]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for one, value, key in sides:
        if value is None:
            out.append(Unmatched(one, no_architecture(one.runs)))
        else:
            groups[key][value].append(Member(one))
    pairs = []
    for key in sorted(groups, key=_sortable):
        members = groups[key]
        if len(members) < 2:
            out += [Unmatched(one.selected, reason) for some in members.values() for one in some]
        for a, b in combinations(order(members), 2):
            pairs.append(Pair(key, (text(a), text(b)), tuple(members[a]), tuple(members[b])))
    return Matched(pairs, out, [])


def _within_configurations(some: Iterable[Selected], out: list[Unmatched]) -> Matched:
    """The processors of each configuration."""
    groups: defaultdict[Key, list[Selected]] = defaultdict(list)
    for one in some:
        groups[_key(one)].append(one)
    pairs = []
    for key in sorted(groups, key=_sortable):
        names = sorted({name for one in groups[key] for name in one.hardware()})
        if len(names) < 2:
            out += [Unmatched(one, "it ran on one processor") for one in groups[key]]
        for labels in combinations(names, 2):
            a, b = (
                tuple(Member(one, name) for one in groups[key] if name in one.hardware())
                for name in labels
            )
            pairs.append(Pair(key, labels, a, b))
    return Matched(pairs, out, [])


# --- by the backend that the sidecar names ------------------------------------


def _backends(some: Iterable[Selected], out: list[Unmatched]) -> Matched:
    """Pairs of backends in the order in which they were named, else by name.

    What a backend brings along (processor, vCPUs, a stage that is called after it) is a part of
    what is compared.
    """
    places: dict[str, int] = {}
    sides = []
    for one in some:
        name = one.backend
        if name is None:
            out.append(Unmatched(one, "its sidecar does not name one backend"))
            continue
        places.setdefault(name, one.backend_place)
        key = _key(one)
        stage = None if key.stage == name else key.stage
        sides.append((one, name, key._replace(stage=stage, architecture=None, cpu=None)))
    found = _paired(
        sides,
        lambda names: sorted(names, key=lambda name: (places[name], name)),
        str,
        "no other backend has one that is equal in all else",
        [],
    )
    return found._replace(unmatched=[*out, *found.unmatched])


# --- by where it is -----------------------------------------------------------


def _labels_of(by: str) -> tuple[str, str] | None:
    found = re.fullmatch(r"label=([^:]*):([^:]*)", by)
    return None if found is None else (found[1], found[2])


def _labelled(some: Iterable[Selected], labels: tuple[str, str], out: list[Unmatched]) -> Matched:
    """Sides by a part of the path, which then belongs to no workload or stage."""
    sides = []
    for one in some:
        label = _label_in(one.file.path, labels)
        if label is None:
            out.append(Unmatched(one, f"its path has neither {labels[0]} nor {labels[1]}"))
            continue
        key = _key(one)
        sides.append(
            (
                one,
                label,
                key._replace(
                    workload=_without(key.workload, label), stage=_without(key.stage, label)
                ),
            )
        )
    return _two_sides(sides, labels, out)


def _label_in(path: str, labels: Sequence[str]) -> str | None:
    """The label that stands last in a path, as a part between `/`, `_`, `-` and `.`."""
    wanted = {label.lower(): label for label in labels}
    for folder in reversed(re.split(r"[/\\]", path)):
        if folder.lower() in wanted:
            return wanted[folder.lower()]
        for part in reversed(re.split(r"[_.\-]", folder)):
            if part.lower() in wanted:
                return wanted[part.lower()]
    return None


def _without(name: str | None, label: str) -> str:
    parts = re.split(r"([_\-])", name or "")
    kept = [part for part in parts if part.lower() != label.lower()]
    return re.sub(r"([_\-])[_\-]+", r"\1", "".join(kept)).strip("_-")


def _files(some: Sequence[Selected], paths: Sequence[str], out: list[Unmatched]) -> Matched:
    sources = sorted({one.file.source for one in some})
    if len(paths) < 2:
        sides = [(one, one.file.name, _key(one)) for one in some]
        return _paired(sides, sorted, str, "no other file holds such a configuration", out)
    if len(sources) < 2:
        raise MalformedValueError("only one of the paths holds profiles that can be compared")
    names = dict(enumerate(_short(paths)))
    sided = [(one, names[one.file.source], _key(one)) for one in some]
    if len(sources) == 2:
        return _two_sides(sided, (names[sources[0]], names[sources[1]]), out)
    order = [names[source] for source in sources]
    return _paired(
        sided,
        lambda labels: sorted(labels, key=order.index),
        str,
        "no other path holds such a configuration",
        out,
    )


def _short(paths: Sequence[str]) -> list[str]:
    """Names for paths: their last parts, where these tell them apart."""
    whole = [path.replace("\\", "/").rstrip("/") or path for path in paths]
    for parts in range(1, 9):
        names = ["/".join(path.split("/")[-parts:]) for path in whole]
        if len(set(names)) == len(names):
            return names
    return [f"{path} ({at + 1})" for at, path in enumerate(whole)]


def _two_sides(
    sides: Iterable[tuple[Selected, str, Key]], labels: tuple[str, str], out: list[Unmatched]
) -> Matched:
    """What two sides that were named have in common.

    Where each of them has one value of a property and these differ, that is what is compared: it
    need not be equal.
    """
    sides = list(sides)
    notes = []
    for name in ("workload", "stage", "architecture", "memory_mb", "cpu"):
        values = [{getattr(key, name) for _, side, key in sides if side == one} for one in labels]
        if all(len(one) == 1 for one in values) and values[0] != values[1]:
            (first,), (second,) = values
            notes.append(
                f"{name.removesuffix('_mb')} is {first} in {labels[0]} and {second} in {labels[1]}"
            )
            sides = [(one, side, key._replace(**{name: None})) for one, side, key in sides]
    found = _paired(
        sides,
        lambda some: sorted(some, key=labels.index),
        str,
        "no such configuration on the other side",
        out,
    )
    return found._replace(notes=notes)


# --- order --------------------------------------------------------------------


def _descending(values: Iterable[Any]) -> list[Any]:
    return sorted(values, reverse=True)


def _number(value: float) -> str:
    return f"{value:g}"


def _sortable(key: Key) -> tuple[Any, ...]:
    return tuple((value is not None, value if value is not None else 0) for value in key)
