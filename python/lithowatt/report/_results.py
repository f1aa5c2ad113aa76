"""All that a report is made of: the results of the verbs of `lithowatt profile`, in one object."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from lithowatt.analysis._envelope import envelope, plain
from lithowatt.analysis._observe import stages_of
from lithowatt.analysis.claims import check_claims
from lithowatt.analysis.claims._file import Claims
from lithowatt.analysis.comparison import compare
from lithowatt.analysis.findings import findings
from lithowatt.analysis.lint import lint
from lithowatt.analysis.lint._survey import one_survey
from lithowatt.analysis.recommendation import Asked, recommendation
from lithowatt.analysis.scaling import scaling
from lithowatt.analysis.selection import Selected, Selection, Settings
from lithowatt.analysis.statistics import stats
from lithowatt.profiles._runs import Profiles
from lithowatt.report._words import name_of_stage

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
        """All results in one object, with the head that every result has.

        `stages` holds one for each stage: `workload`, `stage`, `files`, `platforms` (those that
        its files name, none where they say nothing) and `calls` (worker calls that count).
        """
        head = envelope("report", self.profiles, self.wanted.settings.as_json())
        head["warnings"] = self.warnings
        head["stages"] = self.groups
        return {**head, **self.found}

    @property
    def warnings(self) -> list[dict[str, Any]]:
        """What to be warned of, of all results, each once."""
        found: list[dict[str, Any]] = []
        told: set[tuple[str, ...]] = set()
        for name in ("stats", "compare", "scaling"):
            # Verbs word the same thing each in its way; of one verb each text is its own.
            before = set(told)
            for one in self.found[name]["warnings"]:
                key = (one["code"], *one["files"])
                told.add(key)
                if key not in before:
                    found.append(one)
        for stage in (self.found["recommend"], *self.stages):
            found += [one for one in stage.get("warnings", ()) if one["code"] != "several-stages"]
        return list({one["text"]: one for one in found}.values())

    @cached_property
    def groups(self) -> list[dict[str, Any]]:
        """What each stage is made of, in order of workload and stage."""
        found = []
        for (workload, stage), files in stages_of(self.profiles.files).items():
            names = {(file.name, file.stage) for file in files}
            mine = [one for one in self.selection.all if (one.file.name, one.file.stage) in names]
            found.append(
                {
                    "workload": workload,
                    "stage": stage,
                    "files": [file.name for file in files],
                    "platforms": sorted(
                        {one.place.platform.name for one in mine if one.place.platform is not None}
                    ),
                    "calls": sum(int(one.runs.widths[one.used].sum()) for one in mine),
                }
            )
        return found

    def name_of(self, selected: Selected) -> str:
        """The name of the stage that a configuration belongs to."""
        for group in self.groups:
            if selected.file.stage == group["stage"] and selected.file.name in group["files"]:
                return name_of_stage((group["workload"], group["stage"]))
        return name_of_stage((selected.file.workload, selected.file.stage))

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
        ValueError: `minimise` is none of `OBJECTIVES`.
    """
    wanted = wanted or Wanted()
    if wanted.minimise is not None and wanted.minimise not in OBJECTIVES:
        raise ValueError(f"minimise is {wanted.minimise!r:.80}, expected one of {OBJECTIVES}")
    settings = wanted.settings
    # What is not finite is null. Each of these asks lint what is left out.
    with np.errstate(all="ignore"), one_survey(profiles):
        selection = Selection(profiles, settings)
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
            # A page that is sent to others does not tell where its maker keeps files.
            given = wanted.claims
            claims = replace(given, name=os.path.basename(given.name))  # noqa: PTH119
            found["claims"] = check_claims(profiles, claims, settings)
    return Results(profiles, selection, wanted, {name: plain(one) for name, one in found.items()})


def _memory(profiles: Profiles, settings: Settings) -> dict[str, Any]:
    found = compare(profiles, "memory", settings, quantities=["compute_s", "time_s", "cost_usd"])
    return {"by": "memory", "overall": found["overall"]}


def _recommended(profiles: Profiles, wanted: Wanted, selection: Selection) -> dict[str, Any]:
    """The recommendation of each stage.

    Where nobody says what is to be minimised, a stage that lacks what the others have (joules, say)
    is asked for the next best.
    """
    first, *others = [wanted.minimise] if wanted.minimise else _objectives(selection.all)
    found = _asked(profiles, wanted, first)
    for at, stage in enumerate(found.get("stages", [found])):
        for objective in others if "error" in stage else ():
            files = stages_of(profiles.files)[stage["workload"], stage["stage"]]
            again = _asked(replace(profiles, files=tuple(files)), wanted, objective)
            if "error" in again:
                continue
            if "stages" not in found:
                return again
            head = {"schema", "command", "version", "created", "inputs", "skipped", "settings"}
            found["stages"][at] = {key: one for key, one in again.items() if key not in head}
            break
    return found


def _asked(profiles: Profiles, wanted: Wanted, minimise: str) -> dict[str, Any]:
    settings = wanted.settings
    asked = Asked(
        minimise=minimise,
        region=settings.region,
        price=settings.price,
        basis=settings.basis,
        seed=settings.seed,
    )
    try:
        return recommendation(profiles, asked)
    except ValueError as error:
        # The one stage that there is cannot be recommended for; all else can be told.
        ((workload, stage),) = list(stages_of(profiles.files)) or [("", "")]
        return {
            **envelope("recommend", profiles, asked.as_json()),
            "workload": workload,
            "stage": stage,
            "error": str(error),
        }


def _objectives(some: Sequence[Selected]) -> list[str]:
    """Joules where some were measured, then dollars where there are any, then seconds."""
    found = []
    if any(one.energy_quality() not in (None, "modelled") for one in some):
        found.append("energy")
    if any(np.isfinite(one.values("cost_usd")[one.used]).any() for one in some):
        found.append("cost")
    return [*found, "time"]
