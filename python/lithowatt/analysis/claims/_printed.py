"""Printed values: what numbers a cell of a table stands for, and how near a result has to be."""

from __future__ import annotations

import math
import re
from typing import Literal, NamedTuple

from lithowatt._support.arguments import shown
from lithowatt.errors import MalformedValueError

#: How a result agrees with what was printed: rounded to it, or cut off after its last digit.
Rounding = Literal["rounded", "cut"]

_NUMBER = re.compile(
    r"(?:(?<![\w.])|(?<=\.\.))(?:[-+])?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?"
)
_TO = re.compile(r"\s*[^\d\s]{0,6}?\s*(?:-|\.\.|to)\s*[^\d\s]{0,3}?\s*")
_BOUND = re.compile(r"(<=|>=|<|>)\s*[^\d\s+-]{0,3}\s*$")
_DASHES = str.maketrans({"−": "-", "–": "-", "—": "-", "≤": "<=", "≥": ">="})

#: Rounding errors of sums must not turn a tie into a difference.
_SLACK = 1e-9


class Printed(NamedTuple):
    """What a cell says.

    Attributes:
        low: The number, or the low end of a range; of a bound that is only above `-inf`.
        high: The same number, or the high end.
        place: One unit of the last printed digit.
        kind: `number`; `range`, printed as two numbers; `bound`, printed with `<`, `>`.
        strict: Of a bound: the number itself is outside.
    """

    low: float
    high: float
    place: float
    kind: Literal["number", "range", "bound"] = "number"
    strict: bool = False

    @classmethod
    def of(cls, text: str) -> Printed:
        """Reads a cell as it is printed: a number, a range, or a bound, with a unit or without.

        Raises:
            MalformedValueError: There is no number in it, or not what one of these three is.

        Example:
            >>> Printed.of("1,965W")
            Printed(low=1965.0, high=1965.0, place=1.0, kind='number', strict=False)
            >>> Printed.of("$2.34 - $3.40")[:2], Printed.of("p < 0.001").high
            ((2.34, 3.4), 0.001)
        """
        plain = text.translate(_DASHES)
        found = list(_NUMBER.finditer(plain))
        place = min((_place(one[0]) for one in found), default=0.0)
        numbers = [float(one[0].replace(",", "")) for one in found]
        bound = _BOUND.search(plain[: found[0].start()]) if found else None
        if len(found) == 1 and bound is not None:
            strict = "=" not in bound[1]
            if bound[1][0] == "<":
                return cls(-math.inf, numbers[0], place, "bound", strict)
            return cls(numbers[0], math.inf, place, "bound", strict)
        if len(found) == 1 and math.isfinite(numbers[0]):
            return cls(numbers[0], numbers[0], place)
        between = plain[found[0].end() : found[1].start()] if len(found) == 2 else ""
        if len(found) == 2 and _TO.fullmatch(between) and numbers[0] <= numbers[1] < math.inf:
            return cls(numbers[0], numbers[1], place, "range")
        raise MalformedValueError(
            f"printed value {shown(text)} is neither a number (33.55, $2.34, 52 %), nor a range "
            "(5-17), nor a bound (< 0.001); what is printed in words needs read_as"
        )

    @property
    def tolerance(self) -> float:
        """How far a result may be from the number: half a unit of its last digit."""
        return 0.0 if self.kind == "bound" else self.place / 2

    def agrees(self, value: float) -> Rounding | None:
        """How a result agrees with the number: rounded, cut off, or not at all.

        Half a unit of the last digit is still agreement, whichever way a tie was rounded.
        """
        if self.holds(value):
            return "rounded"
        if self.kind == "number" and _is_cut(value, self.low, self.place):
            return "cut"
        return None

    def holds(self, value: float) -> bool:
        """Whether a result is the number as rounded, in the range, or within the bound."""
        if not math.isfinite(value):
            return False
        if self.strict:
            return self.low < value < self.high
        slack = self.tolerance * (1 + _SLACK)
        if self.kind != "bound":
            slack += _SLACK * 1e-3 * max(abs(self.low), abs(self.high))
        return self.low - slack <= value <= self.high + slack

    @property
    def ends(self) -> tuple[Printed, Printed]:
        """The two ends of a range, each as a number."""
        return (
            self._replace(high=self.low, kind="number"),
            self._replace(low=self.high, kind="number"),
        )


def _is_cut(value: float, printed: float, place: float) -> bool:
    beyond = abs(value) - abs(printed)
    same_sign = math.copysign(1, value) == math.copysign(1, printed)
    return same_sign and 0 <= beyond < place * (1 - _SLACK)


def _place(number: str) -> float:
    mantissa, _, exponent = number.lower().partition("e")
    decimals = len(mantissa.partition(".")[2])
    return float(f"1e{int(exponent or 0) - decimals}")
