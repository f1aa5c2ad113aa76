"""What the findings are made of, and the form that they have in common."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from lithowatt.analysis.intervals import Sample, quantity_interval, t_interval
from lithowatt.analysis.lint import findings as lint
from lithowatt.analysis.lint import left_out
from lithowatt.analysis.selection import Selected, Selection, Settings
from lithowatt.profiles._runs import Floats, Profiles
from lithowatt.stats import QUALITIES

#: What is said wherever joules are a power model's.
MODELLED = (
    "joules are modelled: each worker's seconds times the watts of its share of a machine at its "
    "load, by a power model, so that a difference between architectures is mostly one of the "
    "models' watts and was not measured"
)

#: What most analyses rest on; `Context.unequal_work` has the files where it is not so.
SAME_WORK = "every run of a stage did the same work, whatever its configuration"

#: Rules of lint that say why a run is slow.
CAUSES = ("queued-start", "stalled-worker", "input-changed")


@dataclass(frozen=True)
class Assumptions:
    """What the total cost of ownership takes for given; nothing of it is in the profiles.

    Attributes:
        runs_per_month: Runs of the stage.
        months: How long.
        usd_per_month: What keeping it costs besides, whatever runs.
        usd_per_kwh: Price of electricity; 0 where it is in the price of the call, as of a provider.
        gco2e_per_kwh: What the grid emits; `None`: that of the region.
        pue: Power usage effectiveness; `None`: that of the region's provider.
        usd_per_tonne: Price of a tonne of CO2e.
    """

    runs_per_month: float = 1_000_000.0
    months: float = 36.0
    usd_per_month: float = 0.0
    usd_per_kwh: float = 0.0
    gco2e_per_kwh: float | None = None
    pue: float | None = None
    usd_per_tonne: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            least = 1.0 if name == "pue" else 0.0
            if value is not None and not least <= value < math.inf:
                raise ValueError(f"{name} {value!r:.80} is not a number of {least:g} or more")


class Group(NamedTuple):
    """The configurations of one stage, which did the same work.

    Attributes:
        workload: What ran.
        stage: Which stage of it.
        cells: Those with a repetition that counts.
    """

    workload: str
    stage: str
    cells: Sequence[Selected]


@dataclass(frozen=True, eq=False)
class Context:
    """The data of a finding.

    Attributes:
        profiles: What was read.
        selection: The configurations, and which of their repetitions count.
        assumptions: Of the total cost of ownership.
    """

    profiles: Profiles
    selection: Selection
    assumptions: Assumptions = field(default_factory=Assumptions)

    @property
    def settings(self) -> Settings:
        """Confidence, margin, region."""
        return self.selection.settings

    @cached_property
    def causes(self) -> dict[int, dict[str, list[int]]]:
        """Rules of lint that are causes of slow runs, to repetitions, by the id of the runs."""
        return {
            id(self.profiles.files[file_at].configurations[at]): found
            for (file_at, at), found in left_out(self.profiles, CAUSES).items()
        }

    @cached_property
    def unequal_work(self) -> list[str]:
        """A note on each file whose runs do more work with more workers."""
        return [
            f"{one.file}: CPU seconds grow with the workers "
            f"(to the power {one.evidence['exponent']:.2f}), so that its runs did not do the same "
            "work: compare equal numbers of workers, or count work"
            for one in lint(self.profiles, ("work-grows-with-workers",))
        ]

    @property
    def cells(self) -> list[Selected]:
        """The configurations of which some repetition counts."""
        return [one for one in self.selection.all if one.used.any()]

    @property
    def groups(self) -> list[Group]:
        """The same by workload and stage."""
        found: dict[tuple[str, str], list[Selected]] = {}
        for one in self.cells:
            found.setdefault((one.file.workload, one.file.stage), []).append(one)
        return [Group(*key, cells) for key, cells in sorted(found.items())]

    def measure(self, values: Floats, unit: str) -> dict[str, Any] | None:
        """A mean over repetitions with its interval; `None` without values."""
        values = values[np.isfinite(values)]
        if not len(values):
            return None
        return {
            "value": Sample.of(values).mean,
            "ci": ends(quantity_interval(values, self.settings.confidence)),
            "n": len(values),
            "unit": unit,
        }

    def ratio(self, logs: Floats, what: str = "configurations") -> dict[str, Any]:
        """A geometric mean of ratios with its interval: Student's t on the logarithms."""
        sample = Sample.of(logs)
        interval = t_interval(sample, self.settings.confidence)
        return {
            "value": float(np.exp(sample.mean)),
            "ci": ends(np.exp(interval).tolist()),
            "n": sample.n,
            "unit": f"ratio, geometric mean of {what}",
        }


@dataclass(frozen=True)
class Finding:
    """What one analysis found.

    Attributes:
        definition: What is computed, in words.
        rows: One a configuration, stage or pair, the best first where there is a best.
        columns: (title, key of a row) of what a terminal shows.
        assumes: What has to hold for it to mean what it says.
        notes: What stands out, a sentence each.
        reason: Why there are no rows.
        modelled: Whether joules in it are a model's.
        grouped: How rows belong together on a terminal.
    """

    definition: str
    rows: Sequence[Mapping[str, Any]]
    columns: Sequence[tuple[str, str]] = ()
    assumes: Sequence[str] = ()
    notes: Sequence[str] = ()
    reason: str | None = None
    modelled: bool = False
    grouped: Sequence[str] = ("workload", "stage")

    def as_json(self) -> dict[str, Any]:
        """As results print it."""
        return {
            "definition": self.definition,
            "assumes": [*([MODELLED] if self.modelled else []), *self.assumes],
            "modelled": self.modelled,
            "notes": list(self.notes),
            "reason": self.reason,
            "columns": [list(one) for one in self.columns],
            "grouped": list(self.grouped),
            "rows": [dict(row) for row in self.rows],
        }


#: What makes a finding.
Analysis = Callable[[Context], Finding]


def identity(one: Selected) -> dict[str, Any]:
    """Which configuration a row is about."""
    configuration = one.runs.configuration
    return {
        "file": one.file.name,
        "key": one.runs.key,
        "workload": one.file.workload,
        "stage": one.file.stage,
        "architecture": one.architecture,
        "memory_mb": configuration.memory_mb,
        "workers": configuration.workers,
    }


def used(one: Selected, name: str) -> Floats:
    """A quantity of each repetition that counts, in the file's order; NaN where it is not known."""
    return np.asarray(one.values(name)[one.used])


def joules(context: Context, one: Selected) -> dict[str, Any] | None:
    """Energy of a run with its interval, how it was made, and the band of how it was made."""
    found = context.measure(used(one, "energy_j"), "J")
    if found is None:
        return None
    known = one.used & np.isfinite(one.joules.values)
    low, high = one.joules.low[known], one.joules.high[known]
    banded = bool(np.isfinite(low).all() and np.isfinite(high).all())
    return {
        **found,
        "quality": one.energy_quality(),
        "band": [float(low.mean()), float(high.mean())] if banded else None,
    }


def is_modelled(cells: Iterable[Selected]) -> bool:
    """Whether the joules of some of these are a model's."""
    return any(one.energy_quality() == "modelled" for one in cells)


def worst_quality(cells: Iterable[Selected]) -> str | None:
    """How the joules of these were made: the worst of them."""
    found = [quality for one in cells if (quality := one.energy_quality()) is not None]
    return max(found, key=QUALITIES.index, default=None)


def why_not(cells: Sequence[Selected], *names: str) -> str:
    """Why none of these has all of some quantities."""
    if not cells:
        return "no configuration has a repetition that counts"
    reasons = {
        f"{name}: {reason}"
        for one in cells
        for name in names
        if (reason := one.missing(name)) is not None
    }
    return "; ".join(sorted(reasons)) or f"no configuration has {' and '.join(names)}"


def ends(interval: Sequence[float]) -> list[float] | None:
    """An interval as results hold it; `None` where it does not exist."""
    low, high = interval
    return [low, high] if math.isfinite(low) and math.isfinite(high) else None


def by_value(rows: Iterable[dict[str, Any]], key: str, sign: int = 1) -> list[dict[str, Any]]:
    """Rows by workload and stage, in each by the value of a measure; `sign` -1: the most first."""
    return sorted(
        rows, key=lambda row: (row["workload"], row["stage"], sign * row[key]["value"], row["file"])
    )


def named(row: Mapping[str, Any]) -> str:
    """A configuration in words."""
    return (
        f"{row['architecture'] or 'unknown architecture'} {row['memory_mb']:g} MB "
        f"{row['workers']:g} workers"
    )
