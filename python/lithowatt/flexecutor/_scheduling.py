"""FlexExecutor's Jolteon scheduler with joules as its objective.

Jolteon chooses workers and vCPUs of all stages of a DAG so that its latency stays
below a bound with high probability (it samples its own latency model) at the least
cost. `EnergyJolteon` leaves the bound, the sampling and the search to it, and puts
our prediction in the place of the cost: joules, dollars or joules × seconds of all
stages, learned from the same profiles.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import math
import os
import sys
from collections.abc import Iterable, Mapping
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np

from lithowatt import _core
from lithowatt.analysis._observe import Profile
from lithowatt.analysis._predict import PerformanceModel
from lithowatt.analysis._prediction import Prediction
from lithowatt.analysis.platforms import Platform, Price
from lithowatt.analysis.platforms._platform import DEFAULT_REGION

logger = logging.getLogger("lithowatt")

#: The names that FlexExecutor's module goes by: in a package, and with its folder on the path.
MODULES = ("flexecutor.scheduling.jolteon", "scheduling.jolteon")

#: MB for each of Jolteon's vCPUs: it turns the one into the other at this rate on every platform.
MB_PER_CPU = _core.LAMBDA_MB_PER_VCPU

#: What can be minimised under the latency bound.
OBJECTIVES = ("energy", "cost", "edp")

#: Where FlexExecutor keeps what it writes; the working directory without it.
EXEC_PATH = "FLEXECUTOR_EXEC_PATH"

#: Bounds that Jolteon's solver may try, each four tolerances wider than the one before, until it
#: is taken for hopeless: upstream goes on for ever.
MOST_BOUNDS = 25

_made: dict[type, type] = {}


class _Unsolved(Exception):
    """Jolteon's solver finds nothing."""


def find_jolteon() -> type:
    """FlexExecutor's Jolteon, whichever name its module goes by.

    Raises:
        ImportError: FlexExecutor, or one of the packages it needs, is not installed.
    """
    problems = []
    # With both names on the path, the one that is in use already.
    for name in sorted(MODULES, key=lambda name: name not in sys.modules):
        try:
            found: type = importlib.import_module(name).Jolteon
        except (ImportError, AttributeError) as error:
            problems.append(f"{name}: {error}")
        else:
            return found
    raise ImportError("FlexExecutor's Jolteon cannot be imported: " + "; ".join(problems))


def energy_jolteon(base: type | None = None) -> Any:
    """The class `EnergyJolteon`, made from FlexExecutor's Jolteon.

    Args:
        base: A Jolteon; FlexExecutor's by default.

    Raises:
        ImportError: No base was given, and FlexExecutor is not installed.
    """
    found = find_jolteon() if base is None else base
    if found not in _made:
        _made[found] = _make(found)
    return _made[found]


def stage_models(
    dag: Any,
    profiles: Mapping[str, Profile | Iterable[Profile]] | str | os.PathLike[str] | None = None,
    architecture: str | None = None,
    region: str = DEFAULT_REGION,
    platform: Platform | str | None = None,
    price: Price | None = None,
) -> list[PerformanceModel]:
    """A model for each stage of a DAG, in its order.

    Args:
        dag: FlexExecutor's DAG: ``dag_id``, ``stages`` with ``stage_id``.
        profiles: By stage id; or the folder that holds ``<dag>/<stage>.json``; by default the
            ``profiling`` folder where `DAGExecutor.profile` writes.
        architecture: Of profiles that do not say theirs.
        region: Of the prices of a provider.
        platform: Where the profiles ran; they say it by default, see `PerformanceModel`.
        price: What a worker's seconds cost on a platform whose prices are in no table.

    Raises:
        UnreadableFileError, MalformedValueError: From reading.
        ValueError: A stage has no profile, or profiles of two architectures.
    """
    models = []
    for stage in dag.stages:
        found: Any
        if isinstance(profiles, Mapping):
            if stage.stage_id not in profiles:
                raise ValueError(
                    f"no profile for stage {stage.stage_id!r}, only for {', '.join(profiles)}"
                )
            found = profiles[stage.stage_id]
        else:
            if profiles is None:
                folder = Path(os.environ.get(EXEC_PATH) or Path.cwd()) / "profiling"
            else:
                folder = Path(profiles)
            found = folder / str(dag.dag_id) / f"{stage.stage_id}.json"
        model = PerformanceModel(found, architecture, region, platform, price)
        if len(model.architectures) > 1:
            raise ValueError(
                f"the profiles of stage {stage.stage_id!r} are of "
                f"{' and '.join(model.architectures)}: a schedule is for one architecture"
            )
        models.append(model)
    return models


def _make(base: type) -> type:
    class EnergyJolteon(base):  # type: ignore[misc]
        """Jolteon with predicted joules, dollars or joules × seconds as its objective.

        Args:
            dag, bound, and all others: As for Jolteon; the bound is the latency's, s. The search
                spaces are, by default, what was profiled: each stage is set to one of its own
                profiled configurations.
            minimise: ``energy`` (J), ``cost`` (USD) or ``edp`` (J·s), of all stages together.
            profiles: By stage id, or the folder that holds ``<dag>/<stage>.json``; by default
                where `DAGExecutor.profile` writes. They are read by `schedule`.
            architecture: Of profiles that do not say theirs.
            region: Of the prices of a provider.
            platform: Where the profiles ran; they say it by default, see `PerformanceModel`.
            price: What a worker's seconds cost on a platform whose prices are in no table.

        Attributes:
            predictions: After `schedule`: a `lithowatt.profiles.Prediction` for each stage.

        Raises:
            ValueError: For an unknown objective, a bound that is not the latency's or not above 0.
        """

        def __init__(
            self,
            dag: Any,
            bound: float,
            *args: Any,
            minimise: str = "energy",
            profiles: Any = None,
            architecture: str | None = None,
            region: str = DEFAULT_REGION,
            platform: Platform | str | None = None,
            price: Price | None = None,
            **kwargs: Any,
        ) -> None:
            if minimise not in OBJECTIVES:
                raise ValueError(f"minimise {minimise!r:.80} is not one of {', '.join(OBJECTIVES)}")
            seconds = isinstance(bound, (int, float)) and not isinstance(bound, bool)
            if not (seconds and 0 < bound < 1e12):
                raise ValueError(f"bound {bound!r:.80} is not a number of seconds above 0")
            self.minimise = minimise
            self.predictions: list[Prediction] = []
            self._profiles = profiles
            self._told = (architecture, region, platform, price)
            names = ("bound_type", "probe_depth", "cpu_search_space", "workers_search_space")
            given = dict(zip((*names, "entry_point", "x_bounds"), args, strict=False)) | kwargs
            kind = given.get("bound_type", "latency")
            if kind != "latency":
                raise ValueError(f"bound_type {kind!r:.80}: {minimise} is bounded by latency only")
            self._given = {name for name, value in given.items() if value is not None}
            super().__init__(dag, bound, *args, **kwargs)

        def schedule(self) -> list[Any]:
            """The configuration of each stage, as Jolteon returns it."""
            self._models = stage_models(self._dag, self._profiles, *self._told)
            for model in self._models:
                reason = model.no_price if self.minimise == "cost" else model.no_energy
                if reason is not None:
                    raise ValueError(reason)
            self._known: dict[tuple[int, float, float, bool], dict[str, float]] = {}
            #: Configurations are chosen, by what was measured of them; before, Jolteon's solver
            #: needs functions that are smooth.
            self._choosing = False
            self._fill_spaces()
            chosen: list[Any] = super().schedule()
            self.predictions = []
            for model, config in zip(self._models, chosen, strict=True):
                config.memory = round(config.memory)  # which Lithops asks for in whole megabytes
                prediction = model.predict(int(config.workers), config.memory, extrapolate=True)
                self.predictions.append(prediction)
                if not prediction.inside:
                    logger.warning(
                        "stage of %d workers with %d MB lies beyond what was profiled",
                        config.workers,
                        config.memory,
                    )
            return chosen

        def _fill_spaces(self) -> None:
            """Search spaces, bounds and start that the caller left open: what was profiled."""
            if "cpu_search_space" not in self._given:
                memories = sorted({m for model in self._models for m in model.memories()})
                self.cpu_search_space = np.array(memories) / MB_PER_CPU
            if "workers_search_space" not in self._given:
                counts = {o.workers for model in self._models for o in model.observations}
                self.workers_search_space = np.array(sorted(counts))
            least = max(model.platform.memory_mb[0] for model in self._models)
            most = min(model.platform.memory_mb[1] for model in self._models)
            for cpu in self.cpu_search_space:
                if not least <= round(cpu * MB_PER_CPU) <= most:
                    raise ValueError(
                        f"cpu_search_space: {cpu:g} vCPUs are {cpu * MB_PER_CPU:.0f} MB, "
                        f"not from {least:g} to {most:g}"
                    )
            self._counts = sorted({int(w) for w in self.workers_search_space})
            # Jolteon looks a stage without parallelism up as 1, and never probes the first: so
            # that is one too many, also where 1 is a choice of its own.
            self.workers_search_space = np.array([1, *self._counts])
            workers = [float(w) for w in self._counts]
            cpus = [float(c) for c in self.cpu_search_space]
            stages = len(self._dag.stages)
            if "x_bounds" not in self._given:
                self.x_bounds = [(workers[0], workers[-1]), (cpus[0], cpus[-1])] * stages
            if "entry_point" not in self._given:
                # The most of everything: if anything keeps the bound, this does.
                self.x0 = np.array([workers[-1], cpus[-1]] * stages)

        def _generate_func_code(self) -> None:
            super()._generate_func_code()
            # Jolteon stops when the objective moves by less than this tolerance, which is in
            # seconds; in these units that is 1 % of what the start takes.
            start = self.total(self.x0)
            unit = start / (100 * float(self.fn_tol))
            self.objective_fn = lambda x, _params: self.total(x) / unit

        def _iter_solve(self) -> Any:
            """Jolteon's solving, which widens the bound until its solver is content, if ever."""
            constraint: Any = self.__dict__["constraint_fn"]
            tried: set[float] = set()

            def counted(x: Any, params: Any, bound: float) -> Any:
                tried.add(bound)
                if len(tried) > MOST_BOUNDS:
                    raise _Unsolved
                return constraint(x, params, bound)

            self.constraint_fn = counted
            try:
                return super()._iter_solve()
            except _Unsolved:
                logger.warning(
                    "nothing keeps %g s by Jolteon's samples; its search begins with the most "
                    "of everything",
                    self.bound,
                )
                x = np.asarray(self.x0, dtype=float)
                return x[0::2], x[1::2]
            finally:
                self.constraint_fn = constraint

        def total(self, x: Any, params: Any = None) -> float:
            """What is minimised, J, USD or J·s, at ``[workers, vcpus, workers, vcpus, ...]``."""
            name = "cost" if self.minimise == "cost" else "energy"
            result = sum(self._estimates(x, index)[name] for index in range(len(self._models)))
            return result * self.latency(x) if self.minimise == "edp" else result

        def latency(self, x: Any) -> float:
            """Seconds of the critical path, by our prediction."""
            path = [stage.stage_id for stage in self.critical_path]
            return sum(
                self._estimates(x, index)["time"]
                for index, stage in enumerate(self._dag.stages)
                if stage.stage_id in path
            )

        def _estimates(self, x: Any, index: int) -> dict[str, float]:
            workers, vcpus = float(x[2 * index]), float(x[2 * index + 1])
            if not getattr(self._dag.stages[index].perf_model, "allow_parallel", True):
                workers = 1.0
            key = (index, workers, vcpus, self._choosing)
            if key not in self._known:
                model = self._models[index]
                memory = vcpus * MB_PER_CPU
                if self._choosing:
                    memory = round(memory)
                self._known[key] = model.estimates(
                    workers, memory, model.architectures[0], measured=self._choosing
                )
            return self._known[key]

        def _probe(self, num_workers: Any, num_cpu: Any) -> tuple[list[Any], list[Any]]:
            """Jolteon's probing, and then what it leaves.

            Its steps go towards slower configurations only, as cheaper ones are; fewer joules can
            be faster, too. So one stage after the other is set to its best configuration that
            keeps the bound, by Jolteon's samples and by our prediction, and two stages at a time
            trade seconds, until nothing gets better.
            """
            workers, cpus = super()._probe(num_workers, num_cpu)
            self._choosing = True
            every = [self._options(index) for index in range(len(self._models))]
            # Jolteon combines what it likes; what is chosen shall be one of the options.
            near = [_nearest(*found) for found in zip(every, workers, cpus, strict=True)]
            x = np.array([value for option in near for value in option])
            best = self._judged(x)
            worth = [self._worth(index, options) for index, options in enumerate(every)]
            moves = [[(i, option)] for i, options in enumerate(every) for option in options]
            for i, j in combinations(range(len(self._models)), 2):
                moves += [[(i, one), (j, other)] for one in worth[i] for other in worth[j]]
            improved = True
            while improved:
                improved = False
                for move in moves:
                    other = x.copy()
                    for index, option in move:
                        other[2 * index : 2 * index + 2] = option
                    if best[0] <= 0 and self.total(other) >= best[1]:
                        continue  # spares the samples
                    judged = self._judged(other)
                    if judged < best:
                        x, best, improved = other, judged, True
            if best[0] > 0:
                logger.warning("no configuration in the search space keeps the latency bound")
            return [int(w) for w in x[0::2]], [float(c) for c in x[1::2]]

        def _options(self, index: int) -> list[tuple[float, float]]:
            """All that a stage can be set to, workers and vCPUs.

            What was profiled of this very stage, or the product of the spaces where one was given.
            """
            parallel = getattr(self._dag.stages[index].perf_model, "allow_parallel", True)
            profiled = {
                (float(one.workers) if parallel else 1.0, max(one.memory_mb, 1.0) / MB_PER_CPU)
                for one in self._models[index].observations
            }
            given = self._given & {"cpu_search_space", "workers_search_space"}
            if not given:
                return sorted(profiled)
            known = counts = {workers for workers, _ in profiled}
            if "workers_search_space" in given and parallel:
                # A 1 that nobody profiled is there for Jolteon to look up.
                counts = {float(count) for count in self._counts if count != 1 or 1.0 in known}
            cpus = {cpu for _, cpu in profiled}
            if "cpu_search_space" in given:
                cpus = {float(cpu) for cpu in self.cpu_search_space}
            return list(product(sorted(counts) or [1.0], sorted(cpus)))

        def _worth(
            self, index: int, options: list[tuple[float, float]]
        ) -> list[tuple[float, float]]:
            """Those of a stage's options than which no other is faster and takes less."""
            x = np.zeros(2 * len(self._models))
            name = "cost" if self.minimise == "cost" else "energy"
            judged = []
            for option in options:
                x[2 * index : 2 * index + 2] = option
                found = self._estimates(x, index)
                judged.append((found["time"], found[name], option))
            front, least = [], float("inf")
            for _, takes, option in sorted(judged):
                if takes < least:
                    front.append(option)
                    least = takes
            return front

        def _judged(self, x: Any) -> tuple[float, float]:
            """How far the bound is missed, by Jolteon's samples or by us, then the objective."""
            samples = self.constraint_fn(x, self.cons_params, self.bound)
            missed = float(np.percentile(samples, 100 * (1 - self.risk)))
            return max(missed, self.latency(x) - self.bound, 0.0), self.total(x)

    EnergyJolteon.__module__ = __name__
    EnergyJolteon.__qualname__ = "EnergyJolteon"
    return EnergyJolteon


def _nearest(
    options: list[tuple[float, float]], workers: float, vcpus: float
) -> tuple[float, float]:
    """The option that is least far from a configuration."""

    def far(option: tuple[float, float]) -> float:
        return abs(math.log(option[0] / workers)) + abs(math.log(option[1] / vcpus))

    return min(options, key=far)


def __getattr__(name: str) -> Any:
    if name == "EnergyJolteon":
        return energy_jolteon()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
