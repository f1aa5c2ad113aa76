"""What a configuration would take: seconds, CPU seconds, joules and dollars.

Learned from profiles of one stage: how a quantity goes with workers and memory is in `_surface`,
how the quantities hang together in `_fit`, where the bands come from in `_held_out`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np

from lithowatt._support.architectures import normalise_architecture
from lithowatt._support.text import counted
from lithowatt.analysis._fit import Fit, Structure, points_of, with_own_joules
from lithowatt.analysis._held_out import (
    FEW,
    LeftOut,
    Widths,
    choose_structure,
    leave_one_out,
    targets,
)
from lithowatt.analysis._means import band_of, scatter_of, values_of
from lithowatt.analysis._observe import (
    PHASES,
    Observation,
    Observed,
    Profile,
    observe,
    platform_of,
)
from lithowatt.analysis._prediction import Band, HeldOut, Prediction
from lithowatt.analysis.basis import Basis
from lithowatt.analysis.placement import NOT_LAMBDA
from lithowatt.analysis.platforms import AwsLambda, Platform, Price, Worker
from lithowatt.analysis.platforms._platform import DEFAULT_REGION
from lithowatt.analysis.platforms.machines import Unsaid
from lithowatt.errors import MalformedValueError
from lithowatt.estimate import number
from lithowatt.profiles._given import MOST_MEMORY_MB
from lithowatt.profiles._runs import Profiles
from lithowatt.stats import QUALITIES


class PerformanceModel:
    """Predicts a stage in any configuration between its profiled ones.

    Args:
        profiles: Paths of profiles of *one* stage, or what `read_profile` returned: any memories
            and architectures. Only several memories say what another memory would do.
        architecture: ``x86_64`` or ``arm64``, of profiles that do not name it.
        region: Of the prices of a provider.
        platform: Where the profiles ran: a `lithowatt.analysis.platforms.Platform`, or a name:
            ``aws-lambda``, ``kubernetes``, ``localhost``, ``server``. By default the profiles and
            their sidecars say it; one of FlexExecutor's that says nothing ran on AWS Lambda.
        price: What a worker's seconds cost on a platform whose prices are in no table.

    Attributes:
        observations: What the profiles say, one for each configuration.
        warnings: What was left out and why, and what was assumed.
        structure: In words, how times depend on memory here.
        platform: Where all of it ran; where profiles of several platforms were given, one that
            has neither price nor power.
        energy_quality: ``measured``, ``attributed``, ``modelled``, the worst of the
            architectures' `quality`, or ``None``: no joules and no CPU seconds.
        own_joules: Architectures whose profiles hold joules, and the worst quality of these.
        observed: What `observe` made of the profiles; ``None`` of a model of observations.

    Raises:
        UnreadableFileError, MalformedValueError: From reading the profiles.
        ValueError: For an architecture, region or platform that is not known, or a price where a
            table or the platform itself has it.
        TypeError: For what is no platform or no price.

    Example:
        >>> from lithowatt.profiles import PerformanceModel
        >>> row = lambda n: {"compute": [[40 / n] * n], "read": [[0.1] * n], "write": [[0.1] * n],
        ...     "cold_start": [[1.0] * n], "worker_time_execution": [[40 / n + 0.5] * n],
        ...     "cpu_time": [[20 / n] * n], "cpu_architecture": [["arm64"] * n]}
        >>> model = PerformanceModel({(1, 1024, n): row(n) for n in (2, 4, 8, 16)})
        >>> prediction = model.predict(workers=6, memory_mb=1024)
        >>> prediction.profiled, prediction.inside, prediction.energy_quality
        (False, True, 'modelled')
        >>> abs(prediction.time.value - (40 / 6 + 1.2)) < 0.5
        True
    """

    warnings: list[str]

    def __init__(
        self,
        profiles: Profile | Iterable[Profile] | Profiles,
        architecture: str | None = None,
        region: str = DEFAULT_REGION,
        platform: Platform | str | None = None,
        price: Price | None = None,
        *,
        group: str | None = None,
        basis: Basis | None = None,
    ) -> None:
        self._learn(
            observe(profiles, architecture, region, platform, price, group=group, basis=basis),
            region,
            price,
        )

    @classmethod
    def of_observed(
        cls, observed: Observed, region: str = DEFAULT_REGION, price: Price | None = None
    ) -> PerformanceModel:
        """A model of what `observe` made of profiles."""
        self = cls.__new__(cls)
        self._learn(observed, region, price)
        return self

    def _learn(self, observed: Observed, region: str, price: Price | None) -> None:
        self.observed: Observed | None = observed
        self.warnings = list(observed.warnings)
        self._prepare(observed.observations)
        ran_on = f"ran on {self.platform.name}"
        if self.platform.name == NOT_LAMBDA:
            ran_on = "did not run on AWS Lambda"
        if observed.asked:
            ran_on = f"taken as {self.platform.name}, as asked"
        elif isinstance(self.platform, Unsaid):
            ran_on = "ran nobody knows where"
        if observed.said:
            what = "the profile says" if len(observed.profiles.files) == 1 else "profiles say"
            ran_on += f"; {what} {', '.join(observed.said)}"
        if self.platform.most_vcpus is None:
            given = price or getattr(self.platform, "price", None)
            if self.no_price is None:
                price_is = "the price is the one given"
            elif given is None:
                price_is = "there is no price"
            else:
                price_is = f"the price that was given tells no dollars ({self.no_price})"
            self.warnings.append(f"{ran_on}: {price_is}, and memory is not taken to buy vCPUs")
        elif observed.said:
            self.warnings.append(ran_on)
        if region != DEFAULT_REGION and self.region is None:
            self.warnings.append(f"region {region} has no effect on {self.platform.name}")

    @classmethod
    def of(cls, observations: Sequence[Observation]) -> PerformanceModel:
        """A model of observations that were made already."""
        self = cls.__new__(cls)
        self.observed = None
        self.warnings = []
        self._prepare(list(observations))
        return self

    def _prepare(self, observations: list[Observation]) -> None:
        self.observations = [o for o in observations if "worker_time" in o.figures]
        if len(self.observations) < len(observations):
            left = len(observations) - len(self.observations)
            self.warnings.append(f"{counted(left, 'configuration')} without worker times left out")
        if not self.observations:
            raise MalformedValueError("no configuration has worker times; nothing to learn from")
        self.platform = platform_of(self.observations)
        self._places = {o.place for o in self.observations}
        self.own_joules = with_own_joules(self.observations)
        qualities = [self.quality(architecture) for architecture in self.architectures]
        known = [quality for quality in qualities if quality is not None]
        self.energy_quality = max(known, key=QUALITIES.index) if known else None
        missing = sum(
            o.quality is None for o in self.observations if o.architecture in self.own_joules
        )
        if missing:
            self.warnings.append(
                f"configurations without joules: {missing}; predicted ones rest on the others'"
            )
        self._tell_limits()
        if len(self._places) < FEW:
            self.warnings.append(
                f"only {counted(len(self._places), 'profiled configuration')}: bands of "
                "predictions are guesses"
            )

    # What only predictions need is made when there is one.

    @cached_property
    def _structure(self) -> Structure:
        return choose_structure(self.observations)

    @cached_property
    def _fit(self) -> Fit:
        return Fit(self.observations, self._structure)

    @cached_property
    def _left_out(self) -> list[LeftOut]:
        return leave_one_out(self.observations, self._structure)

    @cached_property
    def _widths(self) -> Widths:
        return Widths(self._left_out, self.own_joules)

    @cached_property
    def _measured(self) -> dict[tuple[float, float, str], Band]:
        """What the profiles measured in joules, by workers, memory and architecture."""
        scatter = scatter_of(self.observations, "energy")
        return {
            one.place: band_of(values_of(one, "energy"), scatter)
            for one in self.observations
            if one.quality is not None
        }

    @cached_property
    def _modelled(self) -> set[str]:
        """Architectures whose joules the power model can tell from CPU seconds."""
        return {
            one.architecture
            for one in self.observations
            if "cpu_seconds" in one.figures and self.platform.no_watts(one.worker) is None
        }

    def _tell_limits(self) -> None:
        """Tells where modelled joules rest on CPUs that nobody recorded."""
        modelled = self._modelled - self.own_joules.keys()
        shares = (
            self.platform.share(one.worker)
            for one in self.observations
            if one.architecture in modelled
        )
        unsure = [one for one in shares if one is not None and one.least_vcpus is not None]
        if unsure:
            vcpus = ", ".join(f"{count:g}" for count in sorted({one.vcpus for one in unsure}))
            self.warnings.append(
                f"configurations that do not record how many CPUs a worker may use: {len(unsure)}; "
                f"their joules are modelled for all CPUs of the machine ({vcpus}), with a band "
                "from one CPU on"
            )

    @property
    def structure(self) -> str:
        """In words, how times depend on memory here."""
        return str(self._structure)

    def quality(self, architecture: str) -> str | None:
        """What the joules of an architecture are; ``None``: there are none to be had."""
        found = self.own_joules.get(architecture)
        if found is None and architecture in self._modelled:
            return "modelled"
        return found

    @property
    def on_lambda(self) -> bool:
        """Whether all of it ran on AWS Lambda."""
        return isinstance(self.platform, AwsLambda)

    @property
    def region(self) -> str | None:
        """Region of the prices; ``None`` where they are in no table."""
        return self.platform.region

    @property
    def no_price(self) -> str | None:
        """Why there are no dollars; ``None`` where there are some."""
        reasons = [self.platform.no_price(one.worker) for one in self.observations]
        return None if None in reasons else reasons[0]

    @property
    def no_energy(self) -> str | None:
        """Why there are no joules; ``None`` where there are some."""
        if self.energy_quality is not None:
            return None
        with_cpu = [one for one in self.observations if "cpu_seconds" in one.figures]
        reasons = [self.platform.no_watts(one.worker) for one in with_cpu]
        return NO_ENERGY if not reasons else f"{NO_ENERGY_MODEL}: {reasons[0]}"

    @property
    def architectures(self) -> list[str]:
        """The profiled architectures."""
        return sorted({o.architecture for o in self.observations})

    def memories(self, architecture: str | None = None) -> list[float]:
        """The profiled memories of an architecture, or of all, MB."""
        return sorted(
            {
                o.memory_mb
                for o in self.observations
                if architecture is None or o.architecture == architecture
            }
        )

    def workers(self, memory_mb: float, architecture: str) -> tuple[int, int] | None:
        """Fewest and most workers between which a prediction interpolates; ``None``: nowhere.

        At a profiled memory, what was profiled there; else what was profiled at both the next
        smaller and the next larger one.
        """
        memories = self.memories(architecture)
        if memory_mb in memories:
            beside = [memory_mb]
        else:
            below = [m for m in memories if m < memory_mb]
            above = [m for m in memories if m > memory_mb]
            if not below or not above:
                return None
            beside = [below[-1], above[0]]
        ranges = []
        for memory in beside:
            found = [
                o.workers
                for o in self.observations
                if o.memory_mb == memory and o.architecture == architecture
            ]
            ranges.append((min(found), max(found)))
        low, high = max(r[0] for r in ranges), min(r[1] for r in ranges)
        return (low, high) if low <= high else None

    # -- predicting ------------------------------------------------------------

    def predict(
        self,
        workers: int,
        memory_mb: float,
        architecture: str | None = None,
        extrapolate: bool = False,
    ) -> Prediction:
        """A stage run with so many workers of so much memory.

        Args:
            workers: 1 or more.
            memory_mb: MB per worker, as much as the platform allows.
            architecture: May be left out where only one was profiled.
            extrapolate: Whether to go beyond what was profiled, with a wider band.

        Raises:
            ValueError: For a configuration that is not between profiled ones (without
                ``extrapolate``), an architecture that was not profiled, or no configuration.
        """
        return self.predict_all([(workers, memory_mb, architecture)], extrapolate)[0]

    def predict_all(
        self,
        configurations: Iterable[tuple[int, float, str | None]],
        extrapolate: bool = False,
    ) -> list[Prediction]:
        """As `predict`, for (workers, memory_mb, architecture) of each."""
        checked = [self._checked(*each, extrapolate=extrapolate) for each in configurations]
        if not checked:
            return []
        points = points_of((each[:3] for each in checked), self.platform)
        values = self._fit.predict(points)
        spreads = self._fit.sd(points)
        bands = {
            name: self._widths.factor(name) * spreads.of(name) for name in (*values, "cost", "edp")
        }
        return [
            self._prediction(
                *each,
                {name: float(column[index]) for name, column in values.items()},
                {name: float(column[index]) for name, column in bands.items()},
                self._measured.get(each[:3]),
            )
            for index, each in enumerate(checked)
        ]

    def estimates(
        self, workers: float, memory_mb: float, architecture: str, measured: bool = False
    ) -> dict[str, float]:
        """Best estimates alone, fast and smooth, for optimisers.

        Args:
            workers: Any number above 0, not only a whole one.
            memory_mb: Any number above 0: no range is checked.
            architecture: ``x86_64`` or ``arm64``.
            measured: Joules of a profiled configuration are its measured mean, as in `predict`;
                they are not smooth then.

        Returns:
            ``time`` (s), ``worker_time`` (s, all workers), and where the profiles have them
            ``cost`` (USD, without rounding to ms), ``cpu_seconds`` (s), ``energy`` (J) and
            ``edp`` (J·s).
        """
        points = points_of([(workers, memory_mb, architecture)], self.platform)
        values = self._fit.predict(points, phases=False)
        found = {name: float(column[0]) for name, column in values.items()}
        worker = self._fit.workers.like(memory_mb, architecture)
        seconds = found["worker_time"]
        cost = self._cost(worker, seconds, workers, rounded=False)
        if cost is not None:
            found["cost"] = cost
        known = self._measured.get((workers, memory_mb, architecture)) if measured else None
        if known is not None:
            found["energy"] = known.value
        found = {name: value for name, value in found.items() if math.isfinite(value)}
        if "energy" in found:
            found["edp"] = found["energy"] * found["time"]
        return found

    def _checked(
        self, workers: int, memory_mb: float, architecture: str | None, extrapolate: bool
    ) -> tuple[int, float, str, bool]:
        if isinstance(workers, bool) or not isinstance(workers, (int, np.integer)) or workers < 1:
            raise ValueError(f"workers {workers!r:.80} is not a whole number of at least 1")
        known = self.architectures
        if architecture is None:
            if len(known) > 1:
                raise ValueError(f"architecture is needed: {' or '.join(known)} were profiled")
            found = known[0]
        else:
            found = normalise_architecture(architecture)
            if found not in known:
                raise ValueError(f"no profile of {found}, only of {', '.join(known)}")
        memory = number(memory_mb)
        least, most = self.platform.memory_mb
        if math.isfinite(most) and (memory is None or not least <= memory <= most):
            raise ValueError(f"memory {memory_mb!r:.80} is not from {least:g} to {most:g} MB")
        if memory is None or not least <= memory <= MOST_MEMORY_MB:
            raise ValueError(
                f"memory {memory_mb!r:.80} is not a number of MB, {least:g} or more "
                f"and up to {MOST_MEMORY_MB:g}"
            )
        between = self.workers(memory, found)
        inside = between is not None and between[0] <= workers <= between[1]
        if not inside and not extrapolate:
            raise ValueError(
                f"{counted(int(workers), 'worker')} of {memory:g} MB ({found}): not between "
                "profiled configurations; extrapolate=True predicts them with a wider band"
            )
        return int(workers), memory, found, inside

    def _prediction(
        self,
        workers: int,
        memory: float,
        architecture: str,
        inside: bool,
        values: Mapping[str, float],
        widths: Mapping[str, float],
        measured: Band | None = None,
    ) -> Prediction:
        def band(value: float, width: float) -> Band:
            # Beyond the profiled range nothing was held out to calibrate with.
            grown = math.exp(width if inside else 1.5 * width)
            return Band(value, value / grown, value * grown)

        given = self._fit.workers.like(memory, architecture)
        dollars = self._cost(given, values["worker_time"], workers)
        energy = fit = edp = None
        if "energy" in values and math.isfinite(values["energy"]):
            low, high = (values[name] / values["energy"] for name in ("energy_low", "energy_high"))
            fit = measured or band(values["energy"], widths["energy"])
            joules = fit.value
            # Independent errors: logarithms add in quadrature.
            down = math.hypot(math.log(joules / max(fit.low, 1e-9 * joules)), math.log(low))
            up = math.hypot(math.log(fit.high / joules), math.log(high))
            energy = Band(joules, joules * math.exp(-down), joules * math.exp(up))
            edp = band(joules * values["time"], widths["edp"])
        return Prediction(
            workers=workers,
            memory_mb=memory,
            architecture=architecture,
            time=band(values["time"], widths["time"]),
            cpu_seconds=(
                band(values["cpu_seconds"], widths["cpu_seconds"])
                if math.isfinite(values.get("cpu_seconds", math.nan))
                else None
            ),
            energy=energy,
            energy_fit=fit,
            energy_quality=None if energy is None else self.quality(architecture),
            cost=None if dollars is None else band(dollars, widths["cost"]),
            edp=edp,
            worker_time=band(values["worker_time"] / workers, widths["worker_time"]),
            phases={
                phase: band(values[phase], widths[phase]) for phase in PHASES if phase in values
            },
            profiled=(workers, memory, architecture) in self._places,
            inside=inside,
            vcpus=self.platform.vcpus(given),
            cost_reason=None if dollars is not None else self.no_cost(given),
            memory_given_mb=given.memory_mb if memory == 0 < given.memory_mb else None,
            energy_reason=None if energy is not None else self._no_energy(architecture),
        )

    def _no_energy(self, architecture: str) -> str:
        """Why there are no joules of an architecture."""
        return self.no_energy or f"{architecture}: neither joules nor CPU seconds"

    # -- checking --------------------------------------------------------------

    def check(self, leave_out: str = "configuration") -> list[HeldOut]:
        """Predicts what was profiled from the rest, and compares.

        Args:
            leave_out: ``configuration``: each is predicted from all others. ``memory``: all of a
                memory are predicted from the other memories.

        Raises:
            ValueError: Where too little is left to learn from, or for another word.
        """
        if leave_out == "configuration":
            return self._check_configurations()
        if leave_out != "memory":
            raise ValueError(f"leave_out {leave_out!r:.80} is not configuration or memory")
        if len(self.memories()) < 2:
            raise ValueError("only one memory was profiled: none can be left out")
        found: list[HeldOut] = []
        for memory in self.memories():
            rest = [o for o in self.observations if o.memory_mb != memory]
            model = PerformanceModel.of(rest)
            out = [
                o
                for o in self.observations
                if o.memory_mb == memory and o.architecture in model.architectures
            ]
            predictions = model.predict_all([o.place for o in out], extrapolate=True)
            for observation, prediction in zip(out, predictions, strict=True):
                found += self._compared(observation, prediction)
        return found

    def _check_configurations(self) -> list[HeldOut]:
        if not self._left_out:
            raise ValueError(
                f"only {counted(len(self._places), 'configuration')} profiled: "
                f"at least {FEW} are needed to leave one out"
            )
        found: list[HeldOut] = []
        for out in self._left_out:
            place = out.observation.place
            # Its band must not know its error either.
            widths = {
                name: self._widths.factor_without(name, place) * out.spreads[name]
                for name in (*out.values, "cost", "edp")
            }
            prediction = self._prediction(*place, True, out.values, widths)
            found += self._compared(out.observation, prediction)
        return found

    def _compared(self, observation: Observation, prediction: Prediction) -> list[HeldOut]:
        actual = targets(observation, self.own_joules)
        predicted = {
            "time": prediction.time,
            "cpu_seconds": prediction.cpu_seconds,
            "energy": prediction.energy_fit,
            "cost": prediction.cost,
        }
        return [
            HeldOut(*observation.place, quantity, actual[quantity], band)
            for quantity, band in predicted.items()
            if band is not None and quantity in actual
        ]

    def actual_cost(self, observation: Observation) -> float | None:
        """Dollars of a profiled configuration, mean over its runs; `no_price` without."""
        figure = observation.figures.get("cost")
        return None if figure is None else figure.mean

    def _cost(
        self, worker: Worker, seconds: float, workers: float, rounded: bool = True
    ) -> float | None:
        """Dollars by the platform; ``None`` where it has none, or none that can be."""
        if not 0 <= seconds < math.inf:
            return None
        cost = number(self.platform.cost(worker, seconds, workers, rounded=rounded))
        return cost if cost is not None and cost >= 0 else None

    def no_cost(self, worker: Worker) -> str:
        """Why `_cost` has no dollars of such a worker."""
        said = self.platform.no_price(worker)
        return said or f"{self.platform.name} has no cost that is a number of USD, 0 or more"


NO_ENERGY = (
    "the profiles have neither joules (energy) nor CPU seconds (cpu_time, TDP): "
    "energy cannot be predicted"
)

NO_ENERGY_MODEL = "the profiles have no joules (energy), and energy cannot be predicted"
