"""The verdict on one claim, with the numbers that it rests on.

A printed value *reproduces* where its own formula gives it: to half a unit of its last digit, cut
off after that digit, or with the operands as the same file prints them, rounded. It reproduces by
*another definition* where one of the other formulas does, or where repetitions have to be counted
that lint leaves out. Else it *does not follow*, or what it asks for is *not in the data*: not
there, or there more than once; the reason then begins with "ambiguous".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lithowatt._support.text import few
from lithowatt.analysis.claims._evaluate import Data, Result, combined
from lithowatt.analysis.claims._file import Claim
from lithowatt.analysis.claims._formula import Binary, Negative, Node, Number
from lithowatt.analysis.claims._printed import Printed, Rounding
from lithowatt.analysis.claims._values import Ambiguous, NotThere, Selection

Verdict = Literal[
    "reproduces", "reproduces with another definition", "does not follow", "not in the data"
]

#: From the best to the worst.
VERDICTS: tuple[Verdict, ...] = (
    "reproduces",
    "reproduces with another definition",
    "does not follow",
    "not in the data",
)

#: What the definition of a claim is called that reproduces with all repetitions only.
WITH_ALL = "with the repetitions that lint leaves out"


@dataclass(frozen=True)
class Found:
    """What one formula gives, and whether that is what was printed.

    Attributes:
        result: The numbers; `None` where they are not in the data.
        agreement: How it agrees; `None` where it does not.
        reason: Why there is no result.
    """

    result: Result | None
    agreement: Rounding | None = None
    reason: str = ""

    @property
    def value(self) -> float | list[float] | None:
        """The number, or one for each configuration."""
        if self.result is None:
            return None
        one = self.result.number
        return self.result.numbers.tolist() if one is None else one


class Judge:
    """Verdicts on the claims of one file.

    Args:
        claims: All of them; what one prints can be an operand of another.
        clean: Configurations with the repetitions that count.
        whole: The same with all usable repetitions; `None` where these are the same ones.
    """

    def __init__(self, claims: Sequence[Claim], clean: Data, whole: Data | None) -> None:
        self.clean = clean
        self.whole = whole
        self.direct = [computed(claim.formula.node, claim, clean) for claim in claims]
        #: What is printed for a formula over a selection, where it is what the formula gives.
        self.operands: dict[tuple[Node, Selection], tuple[str, float]] = {}
        for claim, found in zip(claims, self.direct, strict=True):
            if found.agreement == "rounded" and claim.printed.kind == "number":
                key = claim.formula.node, claim.selection
                self.operands.setdefault(key, (claim.id, claim.printed.low))

    def judged(self, claim: Claim, direct: Found) -> dict[str, Any]:
        """The verdict on a claim whose own formula gives `direct`."""
        if direct.agreement is not None:
            return told(claim, "reproduces", direct, claim.formula.text, rounding=direct.agreement)
        carried = self._carried(claim)
        if carried is not None:
            return told(
                claim,
                "reproduces",
                direct,
                claim.formula.text,
                rounding="operands",
                **carried,
            )
        tried = []
        for other in claim.otherwise:
            found = computed(other.formula.node, claim, self.clean)
            tried.append(
                {
                    "definition": other.words,
                    "formula": other.formula.text,
                    "value": found.value,
                    "reason": found.reason or None,
                }
            )
            if found.agreement == "rounded":
                return told(
                    claim,
                    VERDICTS[1],
                    found,
                    other.formula.text,
                    definition=other.words,
                    declared=direct.value,
                    tried=tried,
                )
        if self.whole is not None:
            found = computed(claim.formula.node, claim, self.whole)
            if found.agreement is not None:
                return told(
                    claim,
                    VERDICTS[1],
                    found,
                    claim.formula.text,
                    definition=WITH_ALL,
                    declared=direct.value,
                    tried=tried,
                )
        missing = direct.result is None
        return told(claim, VERDICTS[3 if missing else 2], direct, claim.formula.text, tried=tried)

    def _carried(self, claim: Claim) -> dict[str, Any] | None:
        """The printed operands that give the printed value, where they do."""
        used: dict[str, float] = {}
        node = claim.formula.node
        if not isinstance(node, (Binary, Negative)):
            return None
        try:
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                result = self._with_printed(node, claim, used, whole=True)
        except NotThere:
            return None
        if not used or agreement(claim.printed, result) != "rounded":
            return None
        return {"from_printed": {"value": result.number, "operands": used}}

    def _with_printed(
        self, node: Node, claim: Claim, used: dict[str, float], whole: bool = False
    ) -> Result:
        printed = self.operands.get((node, claim.selection))
        if printed is not None and not whole and not isinstance(node, Number):
            used[printed[0]] = printed[1]
            return Result(np.array([printed[1]]))
        if isinstance(node, Negative):
            found = self._with_printed(node.operand, claim, used)
            return found._replace(numbers=-found.numbers)
        if isinstance(node, Binary):
            left = self._with_printed(node.left, claim, used)
            return combined(node.operator, left, self._with_printed(node.right, claim, used))
        return self.clean.evaluate(node, claim.selection)


def computed(node: Node, claim: Claim, data: Data) -> Found:
    """What a formula gives for a claim's configurations, and whether that is what was printed."""
    try:
        result = data.evaluate(node, claim.selection)
        if not np.isfinite(result.numbers).all():
            raise NotThere("its formula gives no finite number")
        if claim.printed.kind == "number" and len(result.numbers) != 1:
            several = "the two ends of a range"
            if not result.ends:
                names = few([one.named for one in result.of])
                several = f"one for each of {len(result.numbers)} configurations ({names})"
            raise Ambiguous(f"one number is printed, and the formula gives {several}")
    except NotThere as error:
        return Found(None, None, str(error))
    return Found(result, agreement(claim.printed, result))


def agreement(printed: Printed, result: Result) -> Rounding | None:
    """How a result agrees with what was printed; all its numbers have to."""
    if result.ends and printed.kind == "range":
        ends = zip(printed.ends, result.numbers.tolist(), strict=True)
        found = [end.agrees(value) for end, value in ends]
    else:
        found = [printed.agrees(value) for value in result.numbers.tolist()]
    if None in found:
        return None
    return "cut" if "cut" in found else "rounded"


def told(
    claim: Claim, verdict: Verdict, found: Found, formula: str, **evidence: Any
) -> dict[str, Any]:
    """A verdict as results print it."""
    result = found.result
    behind = () if result is None else result.behind
    return {
        "id": claim.id,
        "table": claim.table,
        "configuration": claim.configuration,
        "quantity": claim.quantity,
        "printed": claim.text,
        "read_as": claim.read_as or None,
        "unit": claim.unit or None,
        "formula": claim.formula.text,
        "verdict": verdict,
        "value": found.value,
        "tolerance": claim.printed.tolerance,
        "definition": evidence.pop("definition", None),
        "used": formula,
        "reason": found.reason or None,
        "evidence": {
            "configurations": len(behind),
            "repetitions": sum(one.n for one in behind),
            **evidence,
        },
        "note": claim.note or None,
    }


def counted(verdicts: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How many claims have each verdict."""
    return {one: sum(each["verdict"] == one for each in verdicts) for one in VERDICTS}
