"""What profiles show, one small module for each question: energy, money, time and their scatter.

Each analysis is a pure function of a `Context`; `findings` makes the result of the command.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lithowatt._support.arguments import closest
from lithowatt.analysis._envelope import envelope
from lithowatt.analysis.findings._context import Analysis, Assumptions, Context
from lithowatt.analysis.findings.agreement import PAIRS, method_agreement
from lithowatt.analysis.findings.cold_starts import cold_starts
from lithowatt.analysis.findings.edp import energy_delay_product
from lithowatt.analysis.findings.memory import USED, memory_use
from lithowatt.analysis.findings.outliers import outliers
from lithowatt.analysis.findings.pareto import pareto_front
from lithowatt.analysis.findings.per_watt import performance_per_watt
from lithowatt.analysis.findings.phases import PHASES, phases
from lithowatt.analysis.findings.ranking import workload_ranking
from lithowatt.analysis.findings.score import efficiency_score
from lithowatt.analysis.findings.tco import total_cost
from lithowatt.analysis.selection import Selection, Settings, widest_factors
from lithowatt.analysis.warnings import data_warnings
from lithowatt.profiles._runs import Profiles

#: Name to analysis, in the order in which they are shown.
ANALYSES: dict[str, Analysis] = {
    "performance-per-watt": performance_per_watt,
    "energy-delay-product": energy_delay_product,
    "pareto-front": pareto_front,
    "efficiency-score": efficiency_score,
    "total-cost": total_cost,
    "memory-use": memory_use,
    "phases": phases,
    "cold-starts": cold_starts,
    "outliers": outliers,
    "method-agreement": method_agreement,
    "workload-ranking": workload_ranking,
}

#: Short names.
ALIASES = {
    "edp": "energy-delay-product",
    "tco": "total-cost",
    "tec": "efficiency-score",
    "bland-altman": "method-agreement",
}

#: Columns that they need besides those of `lithowatt.analysis.selection`.
COLUMNS = frozenset(
    {*USED, *(name for pair in PAIRS for name in pair), *(f"energy_{one}" for one in PHASES)}
)


def findings(
    profiles: Profiles,
    settings: Settings | None = None,
    only: Sequence[str] = (),
    assumptions: Assumptions | None = None,
) -> dict[str, Any]:
    """The result of `lithowatt profile findings`.

    Args:
        profiles: What was read.
        settings: Which repetitions count, prices, confidence.
        only: Names of `ANALYSES`, or of `ALIASES`; by default all.
        assumptions: Of the total cost.

    Raises:
        ValueError: For a name that there is not.
    """
    only = [ALIASES.get(name, name) for name in only]
    for name in only:
        if name not in ANALYSES:
            raise ValueError(f"there is no finding {name!r:.80}: {closest(name, ANALYSES)}")
    selection = Selection(profiles, settings)
    given = assumptions or Assumptions()
    context = Context(profiles, selection, given)
    head = {**selection.settings.as_json(), "assumptions": dict(vars(given))}
    wanted = {name: one for name, one in ANALYSES.items() if not only or name in only}
    # What a file should not hold, 1e300 s say, becomes a number that results leave out.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        found = {name: analysis(context).as_json() for name, analysis in wanted.items()}
    factors = widest_factors(one for one in selection.all if one.energy_quality() == "modelled")
    return {
        **envelope("findings", profiles, head, data_warnings(selection)),
        "modelled_factors": None if factors is None else list(factors),
        "findings": found,
    }
