"""What profiles say of each configuration, without what they only seem to say.

A profile holds values of calls; a prediction needs figures of stage runs. This
module makes the one of the other: which repetitions count, what CPU seconds
and joules are in which kind of file, and how sure a mean is.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lithowatt._support.architectures import ARCHITECTURES, normalise_architecture
from lithowatt._support.arguments import shown
from lithowatt.analysis.platforms import (
    Platform,
    Price,
    Worker,
    check_price,
    checked_platform,
    common_platform,
    platform_named,
    platform_of_backend,
    with_price,
)
from lithowatt.analysis.platforms._platform import DEFAULT_REGION
from lithowatt.aws._lambda_cost import lambda_price
from lithowatt.errors import MalformedValueError, UnreadableFileError
from lithowatt.estimate import QUALITIES
from lithowatt.profiles._file import Configuration, Metrics, read_profile
from lithowatt.profiles._given import MOST_CPUS, Given, common_given, faults
from lithowatt.profiles._sidecar import read_sidecar, sidecar_path
from lithowatt.profiles._values import positive

Floats = npt.NDArray[np.float64]

PHASES = ("cold_start", "read", "compute", "write")


class Figure(NamedTuple):
    """A quantity of one stage run, over the repetitions of a configuration.

    Attributes:
        value: Mean without outliers; what models are fitted to.
        error: Relative standard error of ``value``.
        mean: Mean over all usable repetitions, outliers included: the definition.
        repetitions: How many were usable.
        outliers: How many of these ``value`` leaves out.
    """

    value: float
    error: float
    mean: float
    repetitions: int
    outliers: int


@dataclass(frozen=True)
class Observation:
    """One profiled configuration.

    Attributes:
        workers: Workers that really ran.
        memory_mb: Memory per worker, MB.
        architecture: ``x86_64`` or ``arm64``.
        requested: The configuration as it was asked for, the profile's key.
        figures: ``time`` (s, of the stage), ``worker_time`` (s, billed, all workers),
            ``cpu_seconds`` (s, all workers), ``energy`` (J, all workers, only where a profile
            holds joules), ``energy_modelled`` (J, from the three before), and the mean per
            worker of ``cold_start``, ``read``, ``compute``, ``write`` (s). What a profile does
            not tell is not there.
        quality: Of ``energy``: ``measured``, ``attributed`` or ``modelled``.
        spread: Of ``energy``: low and high over the value, from the profile's own bands.
        name: The profile that it is from.
        platform: Where it ran.
        worker: What each of its workers was given.
    """

    workers: int
    memory_mb: float
    architecture: str
    requested: Configuration
    figures: Mapping[str, Figure]
    platform: Platform
    worker: Worker
    quality: str | None = None
    spread: tuple[float, float] | None = None
    name: str = "profile"

    @property
    def place(self) -> tuple[int, float, str]:
        """Workers, memory and architecture: equal for observations of one configuration."""
        return self.workers, self.memory_mb, self.architecture


def platform_of(observations: Iterable[Observation]) -> Platform:
    """The platform of all of them, see `common_platform`."""
    return common_platform(one.platform for one in observations)


class Workers:
    """The workers that some observations had, and others like them."""

    def __init__(self, observations: Iterable[Observation]) -> None:
        self._known = {(one.architecture, one.memory_mb): one.worker for one in observations}

    def like(self, memory_mb: float, architecture: str) -> Worker:
        """A worker of this size, with what the most alike of the known ones was given besides."""
        found = self._known.get((architecture, memory_mb))
        if found is not None:
            return found

        def unlike(known: tuple[str, float]) -> tuple[bool, float]:
            ratio = max(known[1], 1.0) / max(memory_mb, 1.0)
            return known[0] != architecture, max(ratio, 1 / ratio)

        alike = self._known[min(self._known, key=unlike)]
        return alike._replace(memory_mb=memory_mb or alike.memory_mb, architecture=architecture)


@dataclass
class Observed:
    """All that some profiles of one stage say.

    Attributes:
        observations: One for each configuration of each profile.
        warnings: What was left out, and why; short sentences.
    """

    observations: list[Observation] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


#: A profile: its path, or what `read_profile` returned.
Profile = str | os.PathLike[str] | Mapping[Any, Metrics]


def observe(
    profiles: Profile | Iterable[Profile],
    architecture: str | None = None,
    region: str = DEFAULT_REGION,
    platform: Platform | str | None = None,
    price: Price | None = None,
) -> Observed:
    """What these profiles of one stage say of each configuration.

    Args:
        profiles: Paths or read profiles, one or more.
        architecture: Of profiles that do not name it; of all of them where none names this one.
        region: Of the prices of a provider.
        platform: Where all of them ran; by default each says it, and one that says nothing ran on
            AWS Lambda.
        price: Of a worker's seconds, for a platform whose prices are in no table.

    Raises:
        UnreadableFileError, MalformedValueError: From reading, or where there is nothing to use.
        ValueError: For an unknown architecture, platform or region, or a price where a table or
            the platform itself has it.
        TypeError: For what is no platform or no price.
    """
    check_price(price)
    if region != DEFAULT_REGION:
        lambda_price("x86_64", region)  # or an error that names the known ones
    if isinstance(platform, str):
        platform = platform_named(platform, region, price)
    elif platform is not None:
        platform = checked_platform(platform)
        if price is not None:
            platform = with_price(platform, region, price)
    wanted = None if architecture is None else normalise_architecture(architecture)
    single = isinstance(profiles, (str, os.PathLike, Mapping))
    listed: list[Any] = [profiles] if single else list(profiles)  # type: ignore[arg-type]
    named: list[tuple[str, Mapping[Configuration, Metrics]]] = []
    sidecars: list[_Told] = []
    for index, profile in enumerate(listed):
        if isinstance(profile, Mapping):
            read = {Configuration.of(key): metrics for key, metrics in profile.items()}
            named.append((f"profile {index + 1}", read))
            sidecars.append(_Told((), {}, Counter()))
        else:
            named.append((_short(profile), read_profile(profile)))
            sidecars.append(_sidecar(profile))
    if not named:
        raise MalformedValueError("no profile was given: at least one is needed")
    said = [{key: _architecture(metrics) for key, metrics in data.items()} for _, data in named]
    result = Observed()
    override = False
    if wanted is not None:
        known = {a for each in said for a in each.values() if a is not None}
        override = bool(known) and wanted not in known
        if override:
            result.warnings.append(
                f"the profiles say {', '.join(sorted(known))}; they are taken for {wanted} as asked"
            )
    energy = _energy_column([metrics for _, data in named for metrics in data.values()])
    if energy != "energy":
        result.warnings.append(
            "the energy of some calls holds a share of idle power and that of others does not "
            "(energy_definition): all are compared above idle (energy_marginal)"
        )
    for (name, data), architectures, told in zip(named, said, sidecars, strict=True):
        ran_on = platform or with_price(_platform(data, told.backends), region, price)
        skipped = Counter(told.notes)
        if platform is None and len(told.backends) > 1:
            names = ", ".join(sorted(told.backends))
            skipped[f"its repetitions ran on several platforms ({names})"] += 1
        for key, metrics in data.items():
            found = wanted if override else architectures[key] or wanted
            if found is None:
                raise MalformedValueError(
                    f"{name} does not say its architecture (column cpu_architecture): "
                    "pass x86_64 or arm64"
                )
            worker = _worker(key, metrics, found, told.given.get(key), skipped)
            observation = _observation(
                key, metrics, worker, override, energy, name, skipped, ran_on
            )
            if observation is not None:
                result.observations.append(observation)
        result.warnings += [
            f"{name}: {what}, {count} time{'s' if count > 1 else ''}"
            for what, count in skipped.items()
        ]
    if not result.observations:
        names = ", ".join(name for name, _ in named)
        raise MalformedValueError(
            f"{names}: nothing to learn from; "
            + ("; ".join(result.warnings) or "there is no configuration in it")
        )
    return result


def _energy_column(profiled: Iterable[Metrics]) -> str:
    """The column to compare joules by.

    `energy` holds a share of idle power or not, by where the call ran; where profiles
    hold both kinds, of several environments or of older releases, one definition must
    do for all.
    """
    definitions: set[Any] = set()
    for metrics in profiled:
        for repetition in metrics.get("energy_definition", ()):
            definitions.update(value for value in repetition if value is not None)
    return "energy_marginal" if len(definitions) > 1 else "energy"


#: Where a profile ran that shows only where it did not.
UNNAMED = "no AWS Lambda"

#: Where a profile ran that says nothing: those of the FlexExecutor energy prototype are of there.
UNSAID = platform_named("aws-lambda")


class _Told(NamedTuple):
    """What a profile's sidecar tells.

    Attributes:
        backends: Lithops' names of those that its repetitions ran on.
        given: What the workers of a configuration were given.
        notes: What it does not tell though it seems to, and how often.
    """

    backends: tuple[str, ...]
    given: Mapping[Configuration, Given]
    notes: Counter[str]


def _sidecar(path: str | os.PathLike[str]) -> _Told:
    """What the sidecar of a profile tells, nothing where there is none that can be read."""
    try:
        configurations = read_sidecar(path)["configurations"]
    except (MalformedValueError, UnreadableFileError) as error:
        # Profiles of others have none; one that is there and tells nothing is worth a note.
        there = os.path.lexists(sidecar_path(path))
        notes = {f"its sidecar is left out, {_fault(error)}": 1} if there else {}
        return _Told((), {}, Counter(notes))
    notes_of: Counter[str] = Counter()
    backends: Counter[str] = Counter()
    given: dict[Configuration, Given] = {}
    for key, column in configurations.items():
        records = [one for one in column if isinstance(one, dict)]
        backends.update(one["backend"] for one in records if isinstance(one.get("backend"), str))
        notes_of.update(faults(records))
        common = common_given(records)
        if common is not None:
            given[Configuration.parse(key)] = common
    return _Told(tuple(backends), given, notes_of)


def _fault(error: Exception) -> str:
    """A message on one line, the sidecar by its name alone."""
    folder, separator, rest = str(error).partition(".energy")
    return f"{os.path.basename(folder)}{separator}{rest}"[:200]  # noqa: PTH119


def _platform(data: Mapping[Configuration, Metrics], backends: Sequence[str]) -> Platform:
    """Where a profile ran: by its sidecar, else by the column that lithowatt fills on AWS."""
    if backends:
        return common_platform([platform_of_backend(one) for one in backends])
    columns = [metrics["aws_cpu"] for metrics in data.values() if "aws_cpu" in metrics]
    texts = [str(value).lower() for column in columns for row in column for value in row if value]
    if any("lambda:true" in text for text in texts) or not columns:
        return UNSAID
    # A column of nothing was written where there was nothing of AWS.
    return platform_of_backend(UNNAMED)


def _worker(
    key: Configuration,
    metrics: Metrics,
    architecture: str,
    given: Given | None,
    skipped: Counter[str],
) -> Worker:
    """What the workers of a configuration were given.

    The vCPUs of the key are not among it: FlexExecutor asks no backend for them.
    """
    names = _values(metrics, "cpu_name", str)
    threads = _values(metrics, "cpu_cores_logical", int)
    for value in [value for value in threads if positive(value, MOST_CPUS) is None]:
        what = f"cpu_cores_logical {shown(value)} left out, not from 1 to {MOST_CPUS}"
        skipped[what] += threads.pop(value)
    return Worker(
        memory_mb=float(key.memory_mb or (given and given.memory_mb) or 0.0),
        architecture=architecture,
        vcpus=None if given is None else given.cpus,
        cpu_name=names.most_common(1)[0][0] if names else None,
        logical_cpus=threads.most_common(1)[0][0] if threads else None,
    )


def _values(metrics: Metrics, column: str, kind: type) -> Counter[Any]:
    """How often a column holds each value of that kind, nothing and 0 left aside."""
    return Counter(
        value
        for repetition in metrics.get(column, ())
        for value in repetition
        if isinstance(value, kind) and not isinstance(value, bool) and value
    )


def _short(path: str | os.PathLike[str]) -> str:
    """The last two parts of a path: profiles are often all called stage.json."""
    parts = os.fspath(path).replace(os.sep, "/").rstrip("/").split("/")
    return "/".join(str(part) for part in parts[-2:])


def _architecture(metrics: Metrics) -> str | None:
    """The architecture that most rows name."""
    votes: Counter[str] = Counter()
    for column in ("cpu_architecture", "aws_cpu"):
        for repetition in metrics.get(column, ()):
            for value in repetition:
                found = _row_architecture(value)
                if found is not None:
                    votes[found] += 1
        if votes:
            return votes.most_common(1)[0][0]
    return None


def _row_architecture(value: Any) -> str | None:
    if not isinstance(value, str):
        return None
    for part in value.lower().split("|"):
        found = ARCHITECTURES.get(part.removeprefix("arch:").strip())
        if found is not None:
            return found
    return None


#: Fewer and more seconds or joules than any call took. Less than the least is a zero: a clock's
#: smallest step is 1e-9 s, and 1e-300 s among others lets no curve be fitted.
_LEAST, _MOST = 1e-9, 1e12


# --- repetitions --------------------------------------------------------------


def _numbers(repetition: Sequence[Any], positive: bool) -> list[float] | None:
    """The values of one repetition; ``None`` where one of them is not usable."""
    values = []
    for value in repetition:
        # What could not be measured is None or, in files of others, text or a zero.
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return None
        # Not NaN, not infinite, and not 10^400, which JSON can hold and a float cannot.
        if not 0 <= value <= _MOST or (positive and value < _LEAST):
            return None
        values.append(float(value) if value >= _LEAST else 0.0)
    return values or None


class _Repetitions:
    """The columns of one configuration, repetition by repetition."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        widths = [
            len(repetition)
            for repetition in metrics.get("compute", ())
            if _numbers(repetition, positive=True) is not None
        ]
        self.workers = Counter(widths).most_common(1)[0][0] if widths else 0
        self.count = max((len(column) for column in metrics.values()), default=0)

    def has(self, column: str) -> bool:
        """Whether any value of the column is a number."""
        return any(
            isinstance(value, (int, float)) and not isinstance(value, bool)
            for repetition in self.metrics.get(column, ())
            for value in repetition
        )

    def get(self, column: str, index: int, positive: bool = False) -> Floats | None:
        """One repetition, a value per worker; ``None`` where one is missing."""
        repetitions = self.metrics.get(column, [])
        if index >= len(repetitions) or len(repetitions[index]) != self.workers:
            return None
        values = _numbers(repetitions[index], positive)
        return None if values is None else np.array(values)


def _observation(
    key: Configuration,
    metrics: Metrics,
    given: Worker,
    override: bool,
    energy_column: str,
    name: str,
    skipped: Counter[str],
    platform: Platform,
) -> Observation | None:
    rows = _Repetitions(metrics)
    memory, architecture = float(key.memory_mb), given.architecture
    least, most = platform.memory_mb
    if not least <= memory <= most:
        # Neither the vCPUs nor the price of a worker are known then.
        skipped[f"a configuration of {memory:g} MB left out, not from {least} to {most}"] += 1
        return None
    if rows.workers == 0:
        skipped["a configuration without usable compute times left out"] += 1
        return None
    phases = [phase for phase in PHASES if phase == "compute" or rows.has(phase)]
    if len(phases) < len(PHASES):
        missing = ", ".join(phase for phase in PHASES if phase not in phases)
        skipped[f"no {missing} in a configuration, its time is without"] += 1
    billed = next((c for c in ("worker_time_execution", "time_consumption") if rows.has(c)), None)
    if billed is None:
        skipped["no worker time in a configuration, read + compute + write taken for it"] += 1
    cpu_of = _cpu_reader(rows, platform.visible_cpus)
    modelled = platform.no_watts(given) is None
    own_energy = rows.has(energy_column)

    runs: dict[str, list[float]] = {}
    lows, highs, qualities = [], [], []
    for index in range(rows.count):
        if not override and _foreign(metrics, index, architecture):
            skipped["a repetition with rows of another architecture left out"] += 1
            continue
        times = {phase: rows.get(phase, index, positive=phase == "compute") for phase in phases}
        if any(values is None for values in times.values()):
            skipped["a repetition with missing or failed times left out"] += 1
            continue
        parts = {phase: values for phase, values in times.items() if values is not None}
        latency = float(np.sum(list(parts.values()), axis=0).max())
        runs.setdefault("time", []).append(latency)
        for phase, values in parts.items():
            runs.setdefault(phase, []).append(float(values.mean()))
        if billed is not None:
            worker = rows.get(billed, index, positive=True)
        else:
            worker = np.sum([v for p, v in parts.items() if p != "cold_start"], axis=0)
        if worker is None:
            skipped["a repetition without worker time left out of billed time"] += 1
            continue
        runs.setdefault("worker_time", []).append(float(worker.sum()))
        cpu = cpu_of(index, worker)
        if cpu is not None:
            runs.setdefault("cpu_seconds", []).append(float(cpu.sum()))
        if cpu is not None and modelled:
            joules = [
                t * watts.value
                for t, c in zip(worker.tolist(), cpu.tolist(), strict=True)
                if (watts := platform.watts(given, c / t)) is not None
            ]
            runs.setdefault("energy_modelled", []).append(sum(joules))
        elif cpu is None and (rows.has("cpu_time") or rows.has("TDP")):
            skipped["a repetition without CPU time left out of CPU seconds"] += 1
        if own_energy:
            # 0 J in a column of joules is what could not be measured, not a measurement.
            energy = rows.get(energy_column, index, positive=True)
            if energy is None:
                skipped["a repetition without joules left out of energy"] += 1
                continue
            runs.setdefault("energy", []).append(float(energy.sum()))
            low, high = rows.get("energy_low", index), rows.get("energy_high", index)
            whole = rows.get("energy", index, positive=True)
            if low is not None and high is not None and whole is not None:
                lows.append(float(low.sum() / whole.sum()))
                highs.append(float(high.sum() / whole.sum()))
            qualities += _qualities(metrics, index)
    if "time" not in runs:
        return None
    figures = {quantity: _figure(values) for quantity, values in runs.items()}
    outliers = figures["time"].outliers
    if outliers:
        skipped["a repetition far from the median left out of the fit"] += outliers
    worst = max(qualities, key=QUALITIES.index, default="modelled")
    return Observation(
        workers=rows.workers,
        memory_mb=memory,
        architecture=architecture,
        requested=key,
        figures=figures,
        quality=worst if "energy" in figures else None,
        spread=(
            (min(float(np.median(lows)), 1.0), max(float(np.median(highs)), 1.0)) if lows else None
        ),
        name=name,
        platform=platform,
        worker=given,
    )


def _cpu_reader(
    rows: _Repetitions, visible_cpus: int | None
) -> Callable[[int, Floats], Floats | None]:
    """How this configuration holds CPU seconds per worker.

    Args:
        rows: Its columns.
        visible_cpus: CPUs of a worker's machine where the columns do not tell them.
    """

    # Where lithowatt wrote, TDP is joules; a profile may have begun without it.
    ours = {
        index
        for index in range(rows.count)
        if any(_tells(rows.metrics, name, index) for name in _OURS)
    }
    if not ours and set(_OURS) & rows.metrics.keys():
        ours = set(range(rows.count))  # nothing in any repetition distinguishes them

    def any_reader(index: int, worker: Floats) -> Floats | None:
        if index in ours:
            return rows.get("cpu_time", index, positive=True)
        return seed(index, worker)

    def seed(index: int, worker: Floats) -> Floats | None:
        # Worker time × mean load of the guest's CPUs: seconds of the guest, not of one CPU.
        guest = rows.get("TDP", index, positive=True)
        if guest is None:
            return None
        cpus = rows.get("cpu_cores_logical", index, positive=True)
        if cpus is not None and cpus.max() <= MOST_CPUS:
            return guest * cpus
        return None if visible_cpus is None else guest * visible_cpus

    return any_reader


#: Columns of which lithowatt writes one at least in each repetition of its own.
_OURS = ("cpu_time", "energy", "energy_quality", "energy_method")


def _tells(metrics: Metrics, column: str, index: int) -> bool:
    rows = metrics.get(column, [])
    return index < len(rows) and any(value is not None for value in rows[index])


def _foreign(metrics: Metrics, index: int, architecture: str) -> bool:
    column = metrics.get("cpu_architecture", [])
    if index >= len(column):
        return False
    found = {_row_architecture(value) for value in column[index]} - {None}
    return bool(found - {architecture})


def _qualities(metrics: Metrics, index: int) -> list[str]:
    column = metrics.get("energy_quality", [])
    if index >= len(column):
        return []
    return [value if value in QUALITIES else "modelled" for value in column[index]]


def _figure(values: Sequence[float]) -> Figure:
    """Mean and standard error of repetitions, without those far from the median.

    Far is more than five standard deviations, as the median absolute deviation of
    the logarithms shows them, and more than 10 %.
    """
    sample = np.array(values)
    logs = np.log(np.maximum(sample, 1e-9))
    centre = np.median(logs)
    deviation = np.abs(logs - centre)
    kept = sample[deviation <= max(5 * 1.4826 * float(np.median(deviation)), 0.1)]
    value = float(kept.mean())
    if len(kept) > 1 and value > 0:
        error = float(kept.std(ddof=1) / value / math.sqrt(len(kept)))
    else:
        # One run: its scatter is unknown; 5 % is a cautious guess for these data.
        error = 0.05
    return Figure(value, error, float(sample.mean()), len(sample), len(sample) - len(kept))
