"""Printed tables, computed again from profiles, with a verdict on each value.

A file of claims holds printed values and the formula of each (`_file`); formulas are a small closed
language (`_formula`, `_values`, `_evaluate`); `_verdict` compares.
"""

from __future__ import annotations

from typing import Any

from lithowatt.analysis._envelope import envelope
from lithowatt.analysis.basis import Basis
from lithowatt.analysis.claims._evaluate import Data
from lithowatt.analysis.claims._file import Claims
from lithowatt.analysis.claims._values import Cell
from lithowatt.analysis.claims._verdict import Judge, counted
from lithowatt.analysis.selection import Selection, Settings
from lithowatt.analysis.warnings import data_warnings
from lithowatt.profiles._runs import Profiles


def check_claims(
    profiles: Profiles, claims: Claims, settings: Settings | None = None
) -> dict[str, Any]:
    """The result of `lithowatt profile claims`.

    Args:
        profiles: What is recomputed from.
        claims: What was printed.
        settings: Which repetitions count, and at which prices.

    Returns:
        The head of every result, and `claims`: a verdict each with its evidence; `summary`: how
        many have each verdict; `definitions`: the formulas that the file gives names.
    """
    selection = Selection(profiles, settings)
    printed = {
        claim.id: claim.printed.low for claim in claims.claims if claim.printed.kind == "number"
    }

    def data(of: Selection) -> Data:
        return Data([Cell(one) for one in of.all], printed)

    # Where lint leaves something out, what was printed may have been made with it.
    whole = None
    if any(one.left_out for one in selection.all):
        whole = data(selection.with_basis(Basis.of("all")))
    judge = Judge(claims.claims, data(selection), whole)
    verdicts = [
        judge.judged(claim, direct)
        for claim, direct in zip(claims.claims, judge.direct, strict=True)
    ]
    head = {
        **selection.settings.as_json(),
        "claims": {"file": claims.name, "sha256": claims.sha256},
    }
    return {
        **envelope("claims", profiles, head, data_warnings(selection)),
        "claims": verdicts,
        "summary": counted(verdicts),
        "definitions": dict(claims.definitions),
    }
