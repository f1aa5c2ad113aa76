"""Configurations with the repetitions that count, and a value of each quantity for each of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from lithowatt.analysis.basis import Basis
from lithowatt.analysis.cost import Dollars, dollars_of
from lithowatt.analysis.energy import Joules, energy_column, joules_of
from lithowatt.analysis.lint import left_out
from lithowatt.analysis.placement import Place, architecture_of, place_of
from lithowatt.analysis.platforms import Price
from lithowatt.analysis.platforms._platform import DEFAULT_REGION
from lithowatt.analysis.quantities import QUANTITIES
from lithowatt.analysis.quantity_table import TABLE
from lithowatt.analysis.sessions import sessions
from lithowatt.profiles._runs import (
    CORE,
    DESCRIBING,
    Bools,
    ConfigurationRuns,
    Floats,
    Ints,
    ProfileFile,
    Profiles,
)
from lithowatt.stats import QUALITIES


def widest_factors(some: Iterable[Selected]) -> tuple[float, float] | None:
    """The widest of `Selected.energy_factors`; `None` where no configuration has any."""
    found = [factors for one in some if (factors := one.energy_factors()) is not None]
    return (min(low for low, _ in found), max(high for _, high in found)) if found else None


#: What statistics are made of, in the order in which they are shown.
NAMES = tuple(one.name for one in TABLE)

#: The columns whose values are needed; see `read_profiles`.
COLUMNS = frozenset(
    {
        *CORE,
        *DESCRIBING,
        "cpu_time",
        "energy",
        "energy_low",
        "energy_high",
        "energy_quality",
        "energy_definition",
        "energy_marginal",
        *(
            f"{method}_energy_{domain}"
            for method in ("rapl", "perf", "ebpf")
            for domain in ("pkg", "cores", "total")
        ),
    }
)

#: What each quantity needs, for a reason why it is not there.
_NEEDS = {
    "worker_time_s": "worker_time_execution",
    "worker_seconds_s": "worker_time_execution",
    "cpu_seconds_s": "cpu_time, or TDP as seconds and cpu_cores_logical",
    "cpu_share": "CPU seconds, worker_time_execution and cpu_cores_logical",
}


@dataclass(frozen=True)
class Settings:
    """All that results depend on besides the files.

    Attributes:
        basis: Which repetitions count.
        region: Of prices and of the grid.
        price: Of a worker's seconds where no table has it.
        confidence: Of intervals.
        margin: Ratios of 1 − margin to 1 / (1 − margin) are taken for equivalent.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
    """

    basis: Basis = field(default_factory=Basis.of)
    region: str = DEFAULT_REGION
    price: Price | None = None
    confidence: float = 0.95
    margin: float = 0.05
    resamples: int = 9999
    seed: int = 20261128

    def as_json(self) -> dict[str, object]:
        """For the head of a result."""
        from lithowatt.aws._lambda_cost import lambda_price

        prices = [lambda_price(architecture, self.region) for architecture in ("x86_64", "arm64")]
        price = self.price
        return {
            "basis": self.basis.name,
            "exclude": list(self.basis.rules),
            "confidence": self.confidence,
            "interval": "t",
            "resamples": self.resamples,
            "seed": self.seed,
            "margin": self.margin,
            "region": self.region,
            "price_date": min(one.date for one in prices),
            "price": None
            if price is None
            else {"vcpu_hour": price.vcpu_hour, "gib_hour": price.gib_hour, "vcpus": price.vcpus},
        }


class Selected:
    """One configuration of one file, and which of its repetitions count."""

    def __init__(
        self,
        file: ProfileFile,
        runs: ConfigurationRuns,
        place: Place,
        left_out: dict[str, list[int]],
        session: Ints,
        settings: Settings,
        energy: str,
    ) -> None:
        self.file = file
        self.runs = runs
        self.place = place
        #: Rule to usable repetitions that it leaves out.
        self.left_out = left_out
        #: Of each repetition, -1 where that is not known.
        self.session = session
        #: `None` where nothing tells, and of a mixture of two.
        self.architecture: str | None = architecture_of(file, place, runs)
        self.used: Bools = runs.usable.copy()
        for repetitions in left_out.values():
            self.used[repetitions] = False
        self._settings = settings
        self._energy = energy
        self._values: dict[str, Floats] = {}

    @property
    def workers_actual(self) -> list[int]:
        """The different numbers of workers of usable repetitions."""
        return [int(one) for one in np.unique(self.runs.widths[self.runs.usable])]

    @cached_property
    def dollars(self) -> Dollars:
        """USD of each repetition."""
        settings = self._settings
        return dollars_of(self.runs, self.place, self.architecture, settings.region, settings.price)

    @cached_property
    def joules(self) -> Joules:
        """J of each repetition."""
        return joules_of(self.runs, self.place, self.architecture, self._energy)

    def values(self, name: str) -> Floats:
        """A quantity of each repetition, whether it counts or not; NaN where it is not known."""
        if name not in self._values:
            if name == "cost_usd":
                found = self.dollars.values
            elif name == "energy_j":
                found = self.joules.values
            else:
                found = QUANTITIES[name](self.runs)
            if not self.runs.widths.all():
                # A repetition without workers has none, though sums over nothing are 0.
                found = np.where(self.runs.widths > 0, found, np.nan)
            self._values[name] = found
        return self._values[name]

    def sample(self, name: str, among: Bools | None = None) -> Floats:
        """The known values of a quantity of the repetitions that count, ascending.

        Args:
            name: One of `NAMES`.
            among: Only of these repetitions.
        """
        values = self.values(name)
        keep = self.used & np.isfinite(values)
        return np.sort(values[keep if among is None else keep & among])

    def missing(self, name: str) -> str | None:
        """Why no usable repetition has a quantity; `None` where some have, or none is usable."""
        usable = self.runs.usable
        if not usable.any() or np.isfinite(self.values(name)[usable]).any():
            return None
        if name == "cost_usd":
            return self.dollars.reason or "no repetition ran on AWS Lambda with all its workers"
        if name == "energy_j":
            return self.joules.reason or "no repetition has the joules of all its workers"
        if name == "time_without_queue_s":
            return "a worker of each repetition waited for its start"
        return f"the profile has no {_NEEDS.get(name, name)}"

    def energy_quality(self, among: Bools | None = None) -> str | None:
        """How the joules of the repetitions that count were made: the worst of them."""
        keep = self.used & np.isfinite(self.joules.values)
        if among is not None:
            keep &= among
        if not keep.any():
            return None
        return QUALITIES[int(self.joules.quality[keep].max())]

    def energy_factors(self) -> tuple[float, float] | None:
        """The widest 95 % band of the joules of a repetition that counts, as factors of them;
        `None` where none has a band."""
        joules = self.joules
        with np.errstate(invalid="ignore", divide="ignore"):
            low, high = joules.low / joules.values, joules.high / joules.values
        keep = self.used & np.isfinite(low) & np.isfinite(high)
        return (float(low[keep].min()), float(high[keep].max())) if keep.any() else None

    @property
    def backend(self) -> str | None:
        """The backend that its records name; `None` where they name none or several.

        `backend_name` is what it was called when it was run, as there can be several of a kind;
        `backend` is its kind.
        """
        names = {
            one.get("backend_name") or one.get("backend")
            for one in self.runs.records
            if one is not None
        }
        name = names.pop() if len(names) == 1 else None
        return name if isinstance(name, str) else None

    @property
    def backend_place(self) -> int:
        """In which place its backend was named when it last ran, from 0."""
        places = [one.get("backend_place") for one in self.runs.records if one is not None]
        known = [one for one in places if isinstance(one, int)]
        return known[-1] if known else 0

    @property
    def sessions(self) -> int | None:
        """In how many sessions the repetitions that count ran; `None` where one has no time."""
        found = self.session[self.used]
        if len(found) == 0 or (found < 0).any():
            return None
        return len(np.unique(found))

    @property
    def mixed(self) -> bool:
        """Whether its rows are of two architectures."""
        return len(self.runs.architectures) > 1

    @property
    def stray(self) -> int:
        """Worker calls that count and ran on another architecture than the configuration's."""
        if not self.mixed:
            return 0
        counts = self.used[self.runs.repetition]
        return sum(
            int((rows & counts).sum())
            for name, rows in self.runs.rows_on.items()
            if name != self.architecture
        )

    def hardware(self) -> dict[str, int]:
        """Processor to worker calls of the repetitions that count."""
        return dict(self._hardware)

    @cached_property
    def _hardware(self) -> dict[str, int]:
        column = self.runs.columns.get("cpu_name")
        if column is None or column.codes is None:
            return {}
        codes = column.codes[self.used[self.runs.repetition]]
        counts = np.bincount(codes[codes >= 0], minlength=len(column.labels)).tolist()
        return {name: n for name, n in sorted(zip(column.labels, counts, strict=True)) if n}


class Selection:
    """The configurations of profiles under one basis, in an order that the files do not decide."""

    def __init__(self, profiles: Profiles, settings: Settings | None = None) -> None:
        self.profiles = profiles
        self.settings = settings = settings or Settings()
        excluded = left_out(profiles, settings.basis.rules) if settings.basis.rules else {}
        energy = energy_column(profiles)
        self.energy_column = energy
        found = []
        for file_at, file in enumerate(profiles.files):
            place, session = place_of(file), sessions(file)
            for at, runs in enumerate(file.configurations):
                out = {
                    rule: [one for one in sorted(repetitions) if runs.usable[one]]
                    for rule, repetitions in excluded.get((file_at, at), {}).items()
                }
                out = {rule: some for rule, some in out.items() if some}
                found.append(Selected(file, runs, place, out, session[at], settings, energy))
        #: One for each configuration.
        self.all: Sequence[Selected] = sorted(found, key=_order)

    def with_basis(self, basis: Basis) -> Selection:
        """The same profiles with other repetitions left out."""
        from dataclasses import replace

        return Selection(self.profiles, replace(self.settings, basis=basis))


def _order(one: Selected) -> tuple[str, str, float, float, float]:
    configuration = one.runs.configuration
    return (
        one.file.name,
        one.file.stage,
        configuration.cpu,
        configuration.memory_mb,
        configuration.workers,
    )
