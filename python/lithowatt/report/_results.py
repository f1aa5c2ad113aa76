"""All that a report is made of: the results of the verbs of `lithowatt profile`, in one object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lithowatt.analysis._envelope import envelope, plain
from lithowatt.analysis.claims import check_claims
from lithowatt.analysis.claims._file import Claims
from lithowatt.analysis.comparison import compare
from lithowatt.analysis.findings import findings
from lithowatt.analysis.lint import lint
from lithowatt.analysis.recommendation import Asked, recommendation
from lithowatt.analysis.scaling import scaling
from lithowatt.analysis.selection import Selection, Settings
from lithowatt.analysis.statistics import stats
from lithowatt.profiles._runs import Profiles

#: What a recommendation may minimise.
OBJECTIVES = ("energy", "cost", "edp", "time")


@dataclass(frozen=True)
class Wanted:
    """What a report is to say, besides the files.

    Attributes:
        settings: Which repetitions count, and at which prices.
        title: Its heading; by default the stages and where they ran.
        minimise: What its recommendation minimises; by default joules where any were measured,
            else dollars where the stage has a price, else seconds.
        claims: Printed values to check.
        group: How the files were grouped; only recorded.
        command: How the report can be made again; shown on its pages.
    """

    settings: Settings = field(default_factory=Settings)
    title: str | None = None
    minimise: str | None = None
    claims: Claims | None = None
    group: str | None = None
    command: str = ""


@dataclass(frozen=True)
class Results:
    """The results of a report.

    Attributes:
        profiles: What was read.
        selection: Which repetitions count.
        wanted: What was asked for.
        found: Name of a verb to its result, as its `--json` prints it: `stats`, `lint`, `compare`,
            `scaling`, `recommend`; `memory` and `pareto`: `compare --by memory`, with the rows over
            all configurations only, and the Pareto fronts of `findings`; `claims` where asked for.
    """

    profiles: Profiles
    selection: Selection
    wanted: Wanted
    found: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """All results in one object, with the head that every result has."""
        head = envelope("report", self.profiles, self.wanted.settings.as_json())
        head["warnings"] = self.warnings
        return {**head, **self.found}

    @property
    def warnings(self) -> list[dict[str, Any]]:
        """What to be warned of, of all results, each once."""
        seen: dict[tuple[str, ...], dict[str, Any]] = {}
        for name in ("stats", "compare", "scaling"):
            for one in self.found[name]["warnings"]:
                seen.setdefault((one["code"], *one["files"]), one)
        return list(seen.values())

    @property
    def stages(self) -> list[dict[str, Any]]:
        """The recommendation of each stage, in order of workload and stage."""
        found: Mapping[str, Any] = self.found["recommend"]
        return list(found.get("stages", [found]))


def results(profiles: Profiles, wanted: Wanted | None = None) -> Results:
    """Makes the results of a report.

    Args:
        profiles: What was read, with all columns: lint looks at each.
        wanted: What the report is to say.

    Raises:
        ValueError: `minimise` is none of `OBJECTIVES`; or the only stage cannot be recommended for.
    """
    wanted = wanted or Wanted()
    if wanted.minimise is not None and wanted.minimise not in OBJECTIVES:
        raise ValueError(f"minimise is {wanted.minimise!r:.80}, expected one of {OBJECTIVES}")
    settings = wanted.settings
    selection = Selection(profiles, settings)
    with np.errstate(all="ignore"):  # what is not finite is null
        found = {
            "stats": stats(profiles, settings),
            "lint": lint(profiles, group=wanted.group),
            "compare": compare(profiles, settings=settings),
            "scaling": scaling(profiles, settings),
            "recommend": _recommended(profiles, wanted, selection),
            "memory": _memory(profiles, settings),
            "pareto": findings(profiles, settings, ["pareto-front"])["findings"]["pareto-front"],
        }
        if wanted.claims is not None:
            found["claims"] = check_claims(profiles, wanted.claims, settings)
    return Results(profiles, selection, wanted, {name: plain(one) for name, one in found.items()})


def _memory(profiles: Profiles, settings: Settings) -> dict[str, Any]:
    found = compare(profiles, "memory", settings, quantities=["compute_s", "time_s", "cost_usd"])
    return {"by": "memory", "overall": found["overall"]}


def _recommended(profiles: Profiles, wanted: Wanted, selection: Selection) -> dict[str, Any]:
    settings = wanted.settings
    asked = Asked(
        minimise=wanted.minimise or _objective(selection.all),
        region=settings.region,
        price=settings.price,
        basis=settings.basis,
        seed=settings.seed,
    )
    try:
        return recommendation(profiles, asked)
    except ValueError as error:
        # The one stage that there is cannot be recommended for; all else can be told.
        only = profiles.files[0]
        return {
            **envelope("recommend", profiles, asked.as_json()),
            "workload": only.workload,
            "stage": only.stage,
            "error": str(error),
        }


def _objective(some: Sequence[Any]) -> str:
    """Joules where some were measured, else dollars where there are any, else seconds."""
    if any(one.energy_quality() not in (None, "modelled") for one in some):
        return "energy"
    if any(np.isfinite(one.values("cost_usd")[one.used]).any() for one in some):
        return "cost"
    return "time"
