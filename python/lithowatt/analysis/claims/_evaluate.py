"""What a formula gives: numbers over the configurations that it selects.

A name gives one number for each selected configuration; operators combine them configuration by
configuration; a function of `REDUCING` or `COMPARING` makes one number of all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from lithowatt import _core
from lithowatt._support.arguments import closest, shown
from lithowatt._support.text import few
from lithowatt.analysis.claims._formula import (
    Binary,
    Call,
    Name,
    Negative,
    Node,
    Number,
    Text,
    walk,
)
from lithowatt.analysis.claims._values import (
    FACTORS,
    Ambiguous,
    Cell,
    NotThere,
    Selection,
    known_names,
    narrowed,
    same_level,
    select,
    selection_of,
)
from lithowatt.analysis.intervals import Sample, t_interval
from lithowatt.analysis.significance import one_sample_t, welch
from lithowatt.errors import MalformedValueError
from lithowatt.profiles._runs import Floats


class Result(NamedTuple):
    """What a formula gives.

    Attributes:
        numbers: One; one for each of `of`; or the two ends of a `range`.
        of: The configurations whose numbers these are; empty where one number is of all.
        ends: Whether these are the ends of a range.
        behind: The configurations that the numbers were computed from.
    """

    numbers: Floats
    of: tuple[Cell, ...] = ()
    ends: bool = False
    behind: tuple[Cell, ...] = ()

    @property
    def number(self) -> float | None:
        """The number, where there is one only."""
        return float(self.numbers[0]) if len(self.numbers) == 1 else None


# --- functions ----------------------------------------------------------------


def _geometric(values: Floats) -> float:
    return float(np.exp(np.log(values).mean())) if (values > 0).all() else math.nan


def _sd(values: Floats) -> float:
    return Sample.of(values).sd


#: Functions that make one number of the numbers of all selected configurations.
REDUCING: dict[str, Callable[[Floats], float]] = {
    "mean": lambda values: float(values.mean()),
    "median": lambda values: float(np.median(values)),
    "min": lambda values: float(values.min()),
    "max": lambda values: float(values.max()),
    "sum": lambda values: float(values.sum()),
    "geomean": _geometric,
    "sd": _sd,
    "cv": lambda values: _sd(values) / float(values.mean()) if values.mean() != 0 else math.nan,
    "t_low": lambda values: t_interval(Sample.of(values))[0],
    "t_high": lambda values: t_interval(Sample.of(values))[1],
}


def _ratio(a: Floats, b: Floats) -> float:
    return _geometric(a / b) if (b != 0).all() else math.nan


def _student_p(a: Floats, b: Floats) -> float:
    n_a, n_b = len(a), len(b)
    if min(n_a, n_b) < 2:
        return math.nan
    one, other = Sample.of(a), Sample.of(b)
    df = n_a + n_b - 2
    pooled = ((n_a - 1) * one.sd**2 + (n_b - 1) * other.sd**2) / df
    if not pooled > 0:
        return math.nan
    t = (one.mean - other.mean) / math.sqrt(pooled * (1 / n_a + 1 / n_b))
    return float(_core.student_t_two_sided(t, df))


def _welch_p(a: Floats, b: Floats) -> float:
    return welch(Sample.of(a), Sample.of(b)).p


#: Functions of two groups of configurations: (whether these are matched, what makes the number).
COMPARING: dict[str, tuple[bool, Callable[[Floats, Floats], float]]] = {
    "ratio": (True, _ratio),
    "paired_p": (True, lambda a, b: one_sample_t(a - b)),
    "welch_p": (False, _welch_p),
    "student_p": (False, _student_p),
}

#: The others: how many arguments without a name each takes.
OTHERS = {"count": 0, "at": 1, "range": 1, "argmin": 2, "argmax": 2, "runs_welch_p": 4, "by": 1}
OTHERS["printed"] = 1

FUNCTIONS = (*REDUCING, *COMPARING, *OTHERS)


def check_formula(node: Node) -> None:
    """Refuses functions that there are not, and those that are given what they do not take.

    Raises:
        MalformedValueError: Naming the function.
    """
    if isinstance(node, Negative):
        check_formula(node.operand)
    elif isinstance(node, Binary):
        check_formula(node.left)
        check_formula(node.right)
    elif isinstance(node, Call):
        _check_call(node)
    elif isinstance(node, Text):
        raise MalformedValueError(f"{node} stands where a number or a quantity is wanted")


def _check_call(call: Call) -> None:
    if call.name not in FUNCTIONS:
        raise MalformedValueError(
            f"{call.name!r:.80} is no function of formulas: {closest(call.name, FUNCTIONS, 5)}"
        )
    wanted = OTHERS.get(call.name, 1 if call.name in REDUCING else 4)
    if len(call.arguments) != wanted:
        raise MalformedValueError(
            f"{call.name} takes {wanted} argument{'' if wanted == 1 else 's'} without a name, "
            f"not {len(call.arguments)}"
        )
    if call.name == "by":
        _factor(call.arguments[0])
        for _, levels in call.named:
            _one_number(levels)
        return
    if call.name == "printed":
        if not isinstance(call.arguments[0], (Text, Name)) or call.named:
            raise MalformedValueError("printed takes the id of another claim, in quotes")
        return
    selection_of(call.named)
    for argument in call.arguments[:1]:
        check_formula(argument)
    if wanted == 2 and not isinstance(call.arguments[1], Name):
        raise MalformedValueError(f"the second argument of {call.name} is a name, e.g. workers")
    if wanted == 4:
        factor = _factor(call.arguments[1])
        selection_of([(factor, [_text(one)]) for one in call.arguments[2:]])


def _factor(node: Node) -> str:
    if not isinstance(node, Name) or node.text not in FACTORS:
        raise MalformedValueError(
            f"{str(node)!r:.80} is nothing that configurations differ by: {', '.join(FACTORS)}"
        )
    return node.text


def _text(node: Node) -> str:
    if not isinstance(node, (Text, Name, Number)):
        raise MalformedValueError(f"{str(node)!r:.80} is no level: a name, a number or a text")
    return node.text


def _one_number(levels: Sequence[str]) -> float:
    try:
        (level,) = levels
        value = float(level)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise MalformedValueError(
            f"by takes a number for each level, not {shown('|'.join(levels))}"
        )
    return value


# --- evaluation ---------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Data:
    """What formulas are evaluated over.

    Attributes:
        every: All configurations.
        printed: What other claims say, by their ids.
    """

    every: Sequence[Cell]
    printed: Mapping[str, float] = field(default_factory=dict)

    def evaluate(self, node: Node, selection: Selection = ()) -> Result:
        """What a formula gives over a selection.

        Raises:
            NotThere: What it asks for is not in the data.
        """
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return self._evaluate(node, selection)

    def _evaluate(self, node: Node, selection: Selection) -> Result:
        if isinstance(node, Number):
            return Result(np.array([node.value]))
        if isinstance(node, Negative):
            found = self._evaluate(node.operand, selection)
            return found._replace(numbers=-found.numbers)
        if isinstance(node, Binary):
            left, right = (
                self._evaluate(node.left, selection),
                self._evaluate(node.right, selection),
            )
            return combined(node.operator, left, right)
        if isinstance(node, Call):
            return self._call(node, selection)
        if isinstance(node, Name):
            return self._each(node, selection)
        raise NotThere(f"{node} is a text")

    def _call(self, call: Call, selection: Selection) -> Result:
        if call.name == "printed":
            name = _text(call.arguments[0])
            if name not in self.printed:
                raise NotThere(f"no claim {name!r:.80} has one printed number")
            return Result(np.array([self.printed[name]]))
        if call.name == "by":
            return self._each(call, selection)
        inner = narrowed(selection, selection_of(call.named))
        if call.name == "count":
            counted = tuple(select(self.every, inner))
            return Result(np.array([float(len(counted))]), behind=counted)
        if call.name in COMPARING:
            return self._compared(call, inner)
        if call.name == "runs_welch_p":
            return self._runs_compared(call, inner)
        found = self._evaluate(call.arguments[0], inner)
        values, behind = found.numbers, found.behind
        if call.name == "at":
            if len(values) != 1:
                raise Ambiguous(
                    f"{call} is of {len(values)} configurations, not of one{_examples(found.of)}"
                )
            return Result(values, behind=behind)
        _of_one_workload(call, inner, found.of)
        if call.name == "range":
            return Result(np.array([values.min(), values.max()]), ends=True, behind=behind)
        if call.name in ("argmin", "argmax"):
            other = self._evaluate(call.arguments[1], inner).numbers
            at = int(values.argmin() if call.name == "argmin" else values.argmax())
            return Result(other[at if len(other) > 1 else 0 :][:1], behind=behind)
        return Result(np.array([REDUCING[call.name](values)]), behind=behind)

    def _each(self, node: Name | Call, selection: Selection) -> Result:
        """One number for each configuration of a selection."""
        of = tuple(select(self.every, selection))
        return Result(np.array([self._one(node, one) for one in of]), of, behind=of)

    def _one(self, node: Name | Call, one: Cell) -> float:
        if isinstance(node, Call):
            return self._by(node, one)
        self._known(node.text)
        return one.mean(node.text)

    def _by(self, call: Call, one: Cell) -> float:
        factor = _factor(call.arguments[0])
        for level, numbers in call.named:
            if same_level(factor, level, one.level(factor)):
                return _one_number(numbers)
        raise NotThere(f"{call} has no number for {factor}={one.level(factor)}")

    def _known(self, name: str) -> None:
        if name not in self._names:
            raise NotThere(
                f"no profile has a column or quantity {name!r:.80}: {closest(name, self._names)}"
            )

    @cached_property
    def _names(self) -> set[str]:
        return known_names(self.every)

    # --- two groups ---------------------------------------------------------------

    def _pair(self, call: Call, selection: Selection) -> tuple[Result, Result, str]:
        factor = _factor(call.arguments[1])
        a, b = (
            self._evaluate(
                call.arguments[0], narrowed(selection, selection_of([(factor, [_text(level)])]))
            )
            for level in call.arguments[2:]
        )
        if not a.of or not b.of:
            raise NotThere(f"{call} compares numbers that are of no single configuration")
        return a, b, factor

    def _compared(self, call: Call, selection: Selection) -> Result:
        matched, function = COMPARING[call.name]
        a, b, factor = self._pair(call, selection)
        if matched:
            pairs = _pairs(a.of, b.of, factor)
            at_a, at_b = (list(one) for one in zip(*pairs, strict=True))
            a, b = _some(a, at_a), _some(b, at_b)
        for one in (a, b):
            _of_one_workload(call, selection, one.of)
        return Result(np.array([function(a.numbers, b.numbers)]), behind=_together(a.of, b.of))

    def _runs_compared(self, call: Call, selection: Selection) -> Result:
        """Welch's test over the repetitions of each two matched configurations."""
        a, b, factor = self._pair(call, selection)
        pairs = [(a.of[i], b.of[j]) for i, j in _pairs(a.of, b.of, factor)]
        node = call.arguments[0]
        found = [_welch_p(self._runs(node, one), self._runs(node, other)) for one, other in pairs]
        of, others = (tuple(side) for side in zip(*pairs, strict=True))
        return Result(np.array(found), of, behind=_together(of, others))

    def _runs(self, node: Node, one: Cell) -> Floats:
        """The repetitions' values of an expression without functions."""
        if isinstance(node, Number):
            return np.array([node.value])
        if isinstance(node, Negative):
            return -self._runs(node.operand, one)
        if isinstance(node, Binary):
            left, right = self._runs(node.left, one), self._runs(node.right, one)
            if len(left) != len(right) and 1 not in (len(left), len(right)):
                raise NotThere(f"{one.named}: {node} has values of different repetitions")
            return _operated(node.operator, left, right)
        if isinstance(node, Call) and node.name == "by":
            return np.array([self._by(node, one)])
        if isinstance(node, Name):
            self._known(node.text)
            return one.runs(node.text)
        raise NotThere(f"{node} has no value for each repetition")


def combined(operator: str, left: Result, right: Result) -> Result:
    """Two results with an operator between them, configuration by configuration.

    Raises:
        NotThere: They are of different configurations.
    """
    of = left.of or right.of
    mixed = (left.ends and len(right.numbers) > 1) or (right.ends and len(left.numbers) > 1)
    if mixed or (left.of and right.of and left.of != right.of):
        raise NotThere("an operator stands between numbers of different configurations")
    return Result(
        _operated(operator, left.numbers, right.numbers),
        of,
        left.ends or right.ends,
        _together(left.behind, right.behind),
    )


def _together(some: Sequence[Cell], others: Sequence[Cell]) -> tuple[Cell, ...]:
    """All of them, each once."""
    return tuple(dict.fromkeys((*some, *others)))


def _some(result: Result, at: Sequence[int]) -> Result:
    """Only these of its configurations."""
    of = tuple(result.of[one] for one in at)
    return Result(result.numbers[list(at)], of, behind=of)


def _of_one_workload(call: Call, selection: Selection, of: Sequence[Cell]) -> None:
    """Refuses one number over several workloads that nothing names: it is about neither.

    Raises:
        Ambiguous: It says which they are.
    """
    workloads = sorted({one.level("workload") for one in of})
    if len(workloads) > 1 and not _chosen(dict(selection)) and not _names_workloads(call):
        all_ = "|".join(workloads if len(workloads) <= 3 else [*workloads[:2], "..."])
        raise Ambiguous(
            f"{call} is over the workloads {few(workloads)}: name the one that is meant, as "
            f"workload={workloads[0]}, or all of them, as workload={all_}"
        )


def _chosen(factors: Iterable[str]) -> bool:
    return any(one in ("workload", "file") for one in factors)


def _names_workloads(node: Node) -> bool:
    """Whether a formula says anywhere of which workloads, or files, it is."""
    calls = [one for one in walk(node) if isinstance(one, Call) and one.name != "by"]
    return any(_chosen(factor for factor, _ in call.named) for call in calls)


def _examples(of: Sequence[Cell]) -> str:
    return f" ({few([one.named for one in of])})" if of else ""


def _operated(operator: str, left: Floats, right: Floats) -> Floats:
    if operator == "+":
        return left + right
    if operator == "-":
        return left - right
    return left * right if operator == "*" else np.asarray(left / right)


def _pairs(a: Sequence[Cell], b: Sequence[Cell], factor: str) -> list[tuple[int, int]]:
    """Which configurations are equal in all but the compared factor, and the file."""
    others = [one for one in FACTORS if one not in (factor, "file")]

    def key(one: Cell) -> tuple[str, ...]:
        return tuple(one.level(other) for other in others)

    places: dict[tuple[str, ...], list[int]] = {}
    for at, one in enumerate(b):
        places.setdefault(key(one), []).append(at)
    found = []
    for at, one in enumerate(a):
        partners = places.get(key(one), [])
        if len(partners) == 1 and sum(key(other) == key(one) for other in a) == 1:
            found.append((at, partners[0]))
    if not found:
        raise NotThere(f"no two configurations are equal in all but {factor}")
    return found
