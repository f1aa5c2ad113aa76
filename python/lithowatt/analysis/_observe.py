"""What profiles say of each configuration that ran: its repetitions, by workers that really ran.

A profile holds values of calls, by what was asked for; a recommendation compares stage runs, by
what happened. This module makes the one of the other. Nothing is left out but for a cause that has
a name: what a rule of lint excludes, what cannot be (a negative time, no value at all), and rows of
another architecture. Which repetitions these are is told.
"""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from lithowatt._support.architectures import ARCHITECTURES, normalise_architecture
from lithowatt._support.text import counted, few
from lithowatt.analysis.basis import Basis
from lithowatt.analysis.energy import energy_column, joules_of, machine_columns
from lithowatt.analysis.lint import left_out
from lithowatt.analysis.placement import NOT_LAMBDA, Place, place_of, worker_of
from lithowatt.analysis.platforms import (
    AwsLambda,
    Platform,
    Price,
    Worker,
    check_price,
    checked_platform,
    common_platform,
    platform_named,
    with_price,
)
from lithowatt.analysis.platforms._platform import DEFAULT_REGION
from lithowatt.analysis.platforms.machines import Unsaid, several
from lithowatt.analysis.quantities import BILLED_STEP_S, OURS, QUEUED_START_S, row_cpu_seconds
from lithowatt.analysis.selection import COLUMNS, Selected, Settings
from lithowatt.analysis.sessions import sessions
from lithowatt.aws._lambda_cost import lambda_price
from lithowatt.errors import MalformedValueError
from lithowatt.estimate import number
from lithowatt.profiles._file import Configuration, Metrics
from lithowatt.profiles._given import MOST_CPUS, faults
from lithowatt.profiles._memory import profile_in_memory
from lithowatt.profiles._runs import (
    CORE,
    Bools,
    Column,
    ConfigurationRuns,
    Floats,
    Ints,
    ProfileFile,
    Profiles,
    read_profiles,
)
from lithowatt.stats import QUALITIES

PHASES = ("cold_start", "read", "compute", "write")

#: A profile: its path, a folder of them, or what `read_profile` returned.
Profile = str | os.PathLike[str] | Mapping[Any, Metrics]

#: Where a profile of FlexExecutor's ran that says nothing: those of its energy prototype are of
#: there. Stats of Lithops' calls are of anywhere.
UNSAID = platform_named("aws-lambda")

#: Of one run nothing shows its scatter; 5 % is a cautious guess for profiles of AWS Lambda.
GUESSED_ERROR = 0.05

#: More seconds or joules than any call took, and fewer: a clock's smallest step is 1e-9 s.
_MOST, _LEAST = 1e12, 1e-9


class Figure(NamedTuple):
    """A quantity of one stage run, over the repetitions of a configuration.

    Attributes:
        mean: Over all repetitions that count and have it.
        error: Relative standard error of the mean; of one repetition a guess.
        repetitions: How many these are.
    """

    mean: float
    error: float
    repetitions: int


class Part(NamedTuple):
    """Repetitions of one configuration of one file."""

    selected: Selected
    among: Bools


@dataclass(frozen=True, eq=False)
class Observation:
    """What ran with so many workers of so much memory: one candidate.

    Attributes:
        workers: Workers that really ran.
        memory_mb: Memory per worker, MB.
        architecture: ``x86_64`` or ``arm64``.
        runs: Quantity to its value in each repetition, NaN where it has none: ``time`` (s, of the
            stage), ``time_without_queue`` (s), ``worker_time`` (s, billed, all workers),
            ``gib_s`` (GiB·s, billed), ``cpu_seconds`` (s, all workers), ``cost`` (USD), ``energy``
            (J, all workers, only where a profile holds joules), ``energy_modelled`` (J), and the
            mean per worker of ``cold_start``, ``read``, ``compute``, ``write`` (s). What no
            repetition tells is not there.
        platform: Where it ran.
        worker: What each of its workers was given.
        parts: The repetitions, by where they are from.
        quality: Of ``energy``: ``measured``, ``attributed`` or ``modelled``.
        spread: Of the joules: low and high over the value.
    """

    workers: int
    memory_mb: float
    architecture: str
    runs: Mapping[str, Floats]
    platform: Platform
    worker: Worker
    parts: tuple[Part, ...] = ()
    quality: str | None = None
    spread: tuple[float, float] | None = None

    @property
    def place(self) -> tuple[int, float, str]:
        """Workers, memory and architecture: what tells it from the others."""
        return self.workers, self.memory_mb, self.architecture

    @property
    def requested(self) -> Configuration:
        """The configuration as it was asked for, the profile's key; the first of several."""
        return self.parts[0].selected.runs.configuration

    @property
    def requests(self) -> tuple[int, ...]:
        """The numbers of workers that were asked for."""
        asked = {part.selected.runs.configuration.workers for part in self.parts}
        return tuple(sorted(asked))

    @property
    def repetitions(self) -> int:
        """How many repetitions count."""
        return max((int(np.isfinite(one).sum()) for one in self.runs.values()), default=0)

    @cached_property
    def figures(self) -> Mapping[str, Figure]:
        """Quantity to its mean over the repetitions."""
        return {name: _figure(values) for name, values in self.runs.items()}

    def sample(self, name: str) -> Floats:
        """The known values of a quantity, ascending; the order of files changes nothing."""
        values = self.runs.get(name)
        return np.zeros(0) if values is None else np.sort(values[np.isfinite(values)])

    @cached_property
    def session(self) -> Ints:
        """The session of each repetition, -1 where it is not known.

        Sessions of two files are two: nothing says that they are one.
        """
        found, first = [], 0
        for part in self.parts:
            some = part.selected.session[part.among]
            found.append(np.where(some >= 0, some + first, -1))
            first += int(some.max(initial=-1)) + 1
        return np.concatenate([*found, np.zeros(0, dtype=np.int64)]).astype(np.int64)


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
        observations: One for each number of workers that ran, memory and architecture.
        warnings: What was left out, and why; what was assumed. Short sentences.
        profiles: What was read.
        asked: The platform is the one that was asked for.
        said: What the profiles say of their platforms, where that is another one.
    """

    observations: list[Observation] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    profiles: Profiles = field(default_factory=lambda: Profiles(()))
    asked: bool = False
    said: tuple[str, ...] = ()


def observe(
    profiles: Profile | Iterable[Profile] | Profiles,
    architecture: str | None = None,
    region: str = DEFAULT_REGION,
    platform: Platform | str | None = None,
    price: Price | None = None,
    *,
    group: str | None = None,
    basis: Basis | None = None,
) -> Observed:
    """What these profiles of one stage say of each configuration that ran.

    Args:
        profiles: Paths of files and folders, or read profiles, one or more.
        architecture: Of profiles that do not name it; of all of them where none names this one.
        region: Of the prices of a provider.
        platform: Where all of them ran; by default each says it. One of FlexExecutor's that says
            nothing ran on AWS Lambda; of stats of Lithops' calls it is not known then.
        price: Of a worker's seconds, for a platform whose prices are in no table.
        group: How a path says its workload and stage, see `read_profiles`.
        basis: Which rules of lint leave repetitions out; `clean` by default.

    Raises:
        UnreadableFileError, MalformedValueError: From reading, or where there is nothing to use.
        ValueError: For profiles of several workloads or stages, an unknown architecture, platform
            or region, or a price where a table or the platform itself has it.
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
    read = profiles if isinstance(profiles, Profiles) else read_all(profiles, group)
    check_alike(read.files)
    result = Observed(profiles=read, asked=platform is not None)
    if platform is not None:
        result.said = _contradicting(read.files, platform)
    said = {_architecture(one) or file.architecture for file, one in read} - {None}
    override = wanted is not None and bool(said) and wanted not in said
    if override:
        names = ", ".join(sorted(map(str, said)))
        result.warnings.append(f"the profiles say {names}; they are taken for {wanted} as asked")
    energy = energy_column(read)
    if energy != "energy":
        result.warnings.append(
            "the energy of some calls holds a share of idle power and that of others does not "
            "(energy_definition): all are compared above idle (energy_marginal)"
        )
    rules = (basis or Basis.of()).rules
    excluded = left_out(read, rules) if rules else {}
    groups: defaultdict[tuple[str, float, int], list[Part]] = defaultdict(list)
    for file_at, file in enumerate(read.files):
        notes = _Notes(file.name)
        ran_on = platform or _platform(file, region, price, notes)
        session = sessions(file)
        for at, held in enumerate(file.configurations):
            found = wanted if override else _architecture(held) or file.architecture or wanted
            if found is None:
                raise MalformedValueError(
                    f"{file.name} does not say its architecture (column cpu_architecture): "
                    "pass x86_64 or arm64"
                )
            selected = _selected(
                file, held, found, ran_on, excluded.get((file_at, at), {}), session[at], energy,
                region, override, notes,
            )  # fmt: skip
            if selected is None:
                continue
            widths = selected.runs.widths
            for workers in np.unique(widths[selected.used]).tolist():
                key = (found, float(held.configuration.memory_mb), workers)
                groups[key].append(Part(selected, selected.used & (widths == workers)))
        machine = machine_columns(file.configurations)
        if machine:
            notes.add(
                f"{', '.join(machine)} are not used: FlexExecutor's energy fork writes the whole "
                "machine's joules there, once for each worker on it"
            )
        result.warnings += notes.lines
    for (architecture_, memory_mb, workers), parts in sorted(groups.items()):
        result.observations.append(_observation(workers, memory_mb, architecture_, parts, energy))
    result.warnings += _kept(result.observations)
    if not result.observations:
        names = ", ".join(file.name for file in read.files)
        raise MalformedValueError(
            f"{names}: nothing to learn from; "
            + ("; ".join(result.warnings) or "there is no configuration in it")
        )
    return result


# --- reading ------------------------------------------------------------------


def read_all(profiles: Profile | Iterable[Profile], group: str | None = None) -> Profiles:
    """The profiles of these files, folders and mappings."""
    single = isinstance(profiles, (str, os.PathLike, Mapping))
    listed: list[Any] = [profiles] if single else list(profiles)  # type: ignore[arg-type]
    if not listed:
        raise MalformedValueError("no profile was given: at least one is needed")
    paths = [one for one in listed if not isinstance(one, Mapping)]
    read = read_profiles(paths, group=group, keep=COLUMNS) if paths else Profiles(())
    held = [
        profile_in_memory(one, f"profile {index + 1}", index)
        for index, one in enumerate(listed)
        if isinstance(one, Mapping)
    ]
    return Profiles((*read.files, *held), read.skipped)


def stages_of(files: Iterable[ProfileFile]) -> dict[tuple[str, str], list[ProfileFile]]:
    """Files by workload and stage.

    One whose folder says no workload belongs to the only workload that another one of its stage
    says; where these say several, it is one of its own.
    """
    found: dict[tuple[str, str], list[ProfileFile]] = {}
    for file in sorted(files, key=lambda one: one.workload == ""):
        key = (file.workload, file.stage)
        if not file.workload:
            named = [one for one in found if one[1] == file.stage and one[0]]
            key = named[0] if len(named) == 1 else key
        found.setdefault(key, []).append(file)
    return dict(sorted(found.items()))


def check_alike(files: Iterable[ProfileFile]) -> None:
    """Refuses files whose means would be about nothing.

    Raises:
        ValueError: They are of several workloads or stages.
    """
    stages = stages_of(file for file in files if file.path)
    if len(stages) > 1:
        named = [f"{workload or 'no name'}, {stage}" for workload, stage in stages]
        shown_ = "; ".join(named[:4]) + (f"; and {len(named) - 4} more" if len(named) > 4 else "")
        raise ValueError(
            f"profiles of {len(stages)} workloads or stages cannot be compared (workload, stage: "
            f"{shown_}): give those of one, or say with group what tells them apart"
        )


class _Notes:
    """What is to be told of a file: each text with the configurations that it is about."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._found: dict[str, list[str]] = {}

    def add(self, text: str, where: str | None = None) -> None:
        """Adds a sentence, and the configuration and repetitions that it is about."""
        places = self._found.setdefault(text, [])
        if where is not None and where not in places:
            places.append(where)

    @property
    def lines(self) -> Iterator[str]:
        for text, places in self._found.items():
            listed = "; ".join(places[:6])
            if len(places) > 6:
                listed += f"; and {counted(len(places) - 6, 'more configuration')}"
            yield f"{self._name}: {text}" + (f": {listed}" if places else "")


def repetitions_named(key: str, repetitions: Iterable[int]) -> str:
    """Some repetitions of a configuration, from 0, as all notes name them."""
    listed = [str(one) for one in repetitions]
    return f"{key} repetition{'s' if len(listed) > 1 else ''} {few(listed, 8)}"


# --- where it ran -------------------------------------------------------------


def _platform(file: ProfileFile, region: str, price: Price | None, notes: _Notes) -> Platform:
    """Where a profile ran: by its sidecar, else by the column that lithowatt fills on AWS."""
    if file.sidecar_fault is not None:
        notes.add(f"its sidecar is left out, {file.sidecar_fault}")
    place = place_of(file)
    if place.by_row:
        notes.add(
            "some of its rows ran on AWS Lambda and some did not (aws_cpu): there are no dollars "
            "and no modelled joules that hold for all"
        )
        return several(["aws_lambda", NOT_LAMBDA])
    backends = {
        record["backend"]
        for runs in file.configurations
        for record in runs.records
        if isinstance(record, Mapping) and isinstance(record.get("backend"), str)
    }
    if len(backends) > 1:
        notes.add(f"its repetitions ran on several platforms ({', '.join(sorted(backends))})")
    unsaid = Unsaid() if file.of_lithops else UNSAID
    return with_price(place.platform or unsaid, region, price)


def _contradicting(files: Iterable[ProfileFile], asked: Platform) -> tuple[str, ...]:
    """The platforms of the files that say another one than was asked for."""
    found = set()
    for file in files:
        place = place_of(file)
        if place.platform is None:
            continue
        on_lambda = isinstance(place.platform, AwsLambda)
        if place.by_row:
            found.add("AWS Lambda of some rows only")
        elif on_lambda != isinstance(asked, AwsLambda):
            found.add("AWS Lambda" if on_lambda else place.platform.name)
        elif not on_lambda and place.platform.name not in (asked.name, NOT_LAMBDA):
            found.add(place.platform.name)
    return tuple(sorted(found))


# --- one configuration of one file --------------------------------------------


def _selected(
    file: ProfileFile,
    held: ConfigurationRuns,
    architecture: str,
    platform: Platform,
    excluded: Mapping[str, Sequence[int]],
    session: Ints,
    energy: str,
    region: str,
    override: bool,
    notes: _Notes,
) -> Selected | None:
    """A configuration with the repetitions that count; `None` where none does."""
    key, memory = held.key, held.configuration.memory_mb
    least, most = platform.memory_mb
    if not least <= memory <= most:
        # Neither the vCPUs nor the price of a worker are known then.
        notes.add(f"a configuration of {memory:g} MB left out, not from {least} to {most}", key)
        return None
    for text in faults([one for one in held.records if isinstance(one, Mapping)]):
        notes.add(text, key)
    runs = _cleaned(held, platform, energy, notes)
    out = {
        rule: [one for one in sorted(repetitions) if runs.usable[one]]
        for rule, repetitions in excluded.items()
    }
    out = {rule: some for rule, some in out.items() if some}
    for rule, repetitions in out.items():
        notes.add(f"left out by lint's rule {rule}", repetitions_named(key, repetitions))
    foreign = np.zeros(runs.repetitions, dtype=bool)
    if not override:
        foreign = _foreign(runs, architecture) & runs.usable
    if foreign.any():
        some = np.flatnonzero(foreign).tolist()
        out["another architecture"] = some
        notes.add("left out, rows of another architecture", repetitions_named(key, some))
    place = Place(platform, False, architecture)
    settings = Settings(region=region)
    selected = Selected(file, runs, place, out, session, settings, energy)
    # Rows of another one are left out, or are taken for this one as asked.
    selected.architecture = architecture
    return selected if selected.used.any() else None


def _architecture(runs: ConfigurationRuns) -> str | None:
    """What most rows say, by themselves or in the tag of AWS; `None` where none does."""
    if runs.architecture is not None:
        return runs.architecture
    column = runs.columns.get("aws_cpu")
    if column is None or column.codes is None:
        return None
    counts: dict[str, int] = {}
    rows = np.bincount(column.codes[column.codes >= 0], minlength=len(column.labels))
    for label, count in zip(column.labels, rows.tolist(), strict=True):
        for part in label.lower().split("|"):
            found = ARCHITECTURES.get(part.removeprefix("arch:").strip())
            if found is not None:
                counts[found] = counts.get(found, 0) + count
                break
    return max(sorted(counts), key=lambda one: counts[one]) if counts else None


def _foreign(runs: ConfigurationRuns, architecture: str) -> Bools:
    """Of each repetition, whether a row names another architecture."""
    column = runs.columns.get("cpu_architecture")
    if column is None or column.codes is None:
        return np.zeros(runs.repetitions, dtype=bool)
    known = [ARCHITECTURES.get(label.strip().lower()) for label in column.labels]
    other = np.array([one not in (None, architecture) for one in known] + [False])
    return ~runs.all_of(~other[column.codes])


def _cleaned(
    held: ConfigurationRuns, platform: Platform, energy: str, notes: _Notes
) -> ConfigurationRuns:
    """The same without numbers that cannot be, and with the columns that others stand for.

    Which repetitions are not usable then is told, with the column that is to blame.
    """
    key = held.key
    columns = dict(held.columns)

    def given(name: str, least: float) -> None:
        column = columns.get(name)
        if column is not None and column.numbers is not None:
            values = column.numbers
            with np.errstate(invalid="ignore"):
                good = (values >= least) & (values <= _MOST)
            if not good.all():
                columns[name] = replace(column, numbers=np.where(good, values, np.nan))

    def put(name: str, rows: Floats) -> None:
        columns[name] = Column(name, held.widths, rows)

    for name in CORE:
        # A column of nothing is written where there was nothing to write.
        if name in columns and not np.isfinite(held.numbers(name)).any():
            del columns[name]
    for name in (*PHASES, "TDP"):
        given(name, 0.0)
    for name in ("worker_time_execution", "time_consumption", "cpu_time"):
        given(name, _LEAST)  # a zero is a value that is missing

    missing = [one for one in PHASES if not np.isfinite(held.numbers(one)).any()]
    if missing and missing != list(PHASES) and "compute" not in missing:
        notes.add(f"no {', '.join(missing)}, time is without", key)
        for one in missing:
            put(one, np.zeros(held.rows))
    if not np.isfinite(held.numbers("worker_time_execution")).any():
        instead = "time_consumption"
        if np.isfinite(held.numbers(instead)).any():
            put("worker_time_execution", columns[instead].numbers)  # type: ignore[arg-type]
        else:
            columns.pop(instead, None)
            notes.add("no worker time, read + compute + write taken for it", key)
            rows = [columns[one].numbers for one in PHASES[1:] if one in columns]
            known = [one for one in rows if one is not None]
            put("worker_time_execution", np.sum(known, axis=0) if known else held.numbers("-"))
    _cpu_columns(held, columns, platform, notes)
    runs = replace(held, columns=columns)
    broken = np.flatnonzero(~runs.usable)
    if len(broken):
        blame: defaultdict[str, list[int]] = defaultdict(list)
        for at in broken.tolist():
            blame[_unusable(runs, at)].append(at)
        for why, some in blame.items():
            notes.add(f"not usable, {why}", repetitions_named(key, some))
    for name in ("cpu_time", energy):
        if name not in held.columns:
            continue
        values = runs.numbers(name)
        lacking = runs.usable & ~runs.all_of(np.isfinite(values) & (values > 0))
        if lacking.any() and not lacking[runs.usable].all():
            some = np.flatnonzero(lacking).tolist()
            what = "CPU seconds" if name == "cpu_time" else "joules"
            notes.add(f"without {what} of all workers", repetitions_named(key, some))
    return runs


def _unusable(runs: ConfigurationRuns, repetition: int) -> str:
    """Why a repetition is not usable."""
    for name in runs.required:
        column = runs.columns.get(name)
        if column is None or column.numbers is None:
            return f"no {name}"
        length = column.lengths[repetition] if repetition < len(column.lengths) else 0
        rows = column.numbers[runs.starts[repetition] : runs.starts[repetition + 1]]
        if length != runs.widths[repetition] or not np.isfinite(rows).all():
            return f"{name} of some worker is missing or cannot be"
    return "no worker ran"


def _cpu_columns(
    held: ConfigurationRuns, columns: dict[str, Column], platform: Platform, notes: _Notes
) -> None:
    """Makes `cpu_time` and `cpu_cores_logical` hold what the CPU seconds are made of."""
    cores = held.numbers("cpu_cores_logical")
    with np.errstate(invalid="ignore"):
        wrong = np.isfinite(cores) & (cores != 0) & ~((cores >= 1) & (cores <= MOST_CPUS))
    for value in np.unique(cores[wrong]).tolist():
        written = f"{value:.0f}" if value == int(value) and abs(value) < 1 << 53 else f"{value:g}"
        notes.add(f"cpu_cores_logical {written} left out, not from 1 to {MOST_CPUS}", held.key)
    cores = np.where(wrong | ~(cores > 0), np.nan, cores)
    if platform.visible_cpus is not None:
        cores = np.where(np.isfinite(cores), cores, float(platform.visible_cpus))
    if "cpu_cores_logical" in columns or "TDP" in columns:
        columns["cpu_cores_logical"] = Column("cpu_cores_logical", held.widths, cores, whole=True)
    ours = [name for name in OURS if name in held.columns]
    if not ours:
        return
    # Where lithowatt wrote, TDP is joules; a profile may have begun without it.
    told = np.zeros(held.repetitions, dtype=bool)
    for name in ours:
        column = held.columns[name]
        there = np.zeros(held.rows, dtype=bool)
        if column.numbers is not None:
            there |= np.isfinite(column.numbers)
        if column.codes is not None:
            there |= column.codes >= 0
        told |= ~held.all_of(~there)
    if not told.any():
        told[:] = True  # nothing in any repetition distinguishes them
    own = columns["cpu_time"].numbers if "cpu_time" in columns else None
    seconds = np.full(held.rows, np.nan) if own is None else own
    load = columns["TDP"].numbers if "TDP" in columns else None
    if load is not None:
        guest = np.where(load >= _LEAST, load, np.nan) * cores
        seconds = np.where(told[held.repetition], seconds, guest)
    columns["cpu_time"] = Column("cpu_time", held.widths, seconds)


# --- observations -------------------------------------------------------------


def _observation(
    workers: int, memory_mb: float, architecture: str, parts: Sequence[Part], energy: str
) -> Observation:
    platform = common_platform(part.selected.place.platform or UNSAID for part in parts)
    found = [_quantities(part, architecture, energy) for part in parts]
    runs: dict[str, Floats] = {}
    for name in dict.fromkeys(name for one in found for name in one.values):
        rows = [
            one.values.get(name, np.full(int(part.among.sum()), np.nan))
            for one, part in zip(found, parts, strict=True)
        ]
        together = np.concatenate(rows)
        if np.isfinite(together).any():
            runs[name] = together
    low, high = (np.concatenate([one[at] for one in found]) for at in (1, 2))
    known = np.isfinite(low) & np.isfinite(high)
    spread = quality = None
    if known.any():
        spread = min(float(np.median(low[known])), 1.0), max(float(np.median(high[known])), 1.0)
    if "energy" in runs:
        quality = QUALITIES[max(one.quality for one in found)]
    return Observation(
        workers=workers,
        memory_mb=memory_mb,
        architecture=architecture,
        runs=runs,
        platform=platform,
        worker=worker_of(parts[0].selected.runs, architecture),
        parts=tuple(parts),
        quality=quality,
        spread=spread,
    )


class _Quantities(NamedTuple):
    """What a part holds of each of its repetitions.

    Attributes:
        values: Quantity to values.
        low: Lower end of the band of the joules, over the joules.
        high: Upper end.
        quality: The worst of the joules that the profile holds, an index; -1 where it holds none.
    """

    values: dict[str, Floats]
    low: Floats
    high: Floats
    quality: int


def _quantities(part: Part, architecture: str, energy: str) -> _Quantities:
    selected, runs = part.selected, part.selected.runs
    found = {
        "time": selected.values("time_s"),
        "time_without_queue": selected.values("time_without_queue_s"),
        "worker_time": selected.values("worker_seconds_s"),
        "gib_s": _gib_seconds(runs),
        "cpu_seconds": _cpu_seconds(runs),
        "cost": _dollars(selected, architecture),
        **{phase: selected.values(f"{phase}_s") for phase in PHASES},
    }
    modelled = bands = joules_of(runs, selected.place, architecture, "")
    found["energy_modelled"] = modelled.values
    held, quality = runs.columns.get(energy), -1
    if held is not None and held.numbers is not None and (held.numbers > 0).any():
        bands = joules_of(runs, selected.place, architecture, energy)
        found["energy"] = bands.values
        ranks = bands.quality[part.among & np.isfinite(bands.values)]
        quality = int(ranks.max(initial=-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        low, high = bands.low / bands.values, bands.high / bands.values
    return _Quantities(
        {name: values[part.among] for name, values in found.items()},
        low[part.among],
        high[part.among],
        quality,
    )


def _gib_seconds(runs: ConfigurationRuns) -> Floats:
    """GiB·s that AWS Lambda would bill for each repetition."""
    milliseconds = np.ceil(np.round(runs.numbers("worker_time_execution") * 1000, 6))
    return runs.sum_of(milliseconds) * BILLED_STEP_S * runs.configuration.memory_mb / 1024


def _cpu_seconds(runs: ConfigurationRuns) -> Floats:
    """CPU seconds of all workers; NaN where those of one are 0, which is no measurement."""
    rows = row_cpu_seconds(runs)
    return runs.sum_of(np.where(rows > 0, rows, np.nan))


def _dollars(selected: Selected, architecture: str) -> Floats:
    """USD of each repetition; NaN where it has no price."""
    platform, runs = selected.place.platform or UNSAID, selected.runs
    if isinstance(platform, AwsLambda):
        return selected.values("cost_usd")
    worker = worker_of(runs, architecture)
    found = np.full(runs.repetitions, np.nan)
    if platform.no_price(worker) is not None:
        return found
    for at in np.flatnonzero(selected.used).tolist():
        seconds = float(selected.values("worker_seconds_s")[at])
        cost = number(platform.cost(worker, seconds, int(runs.widths[at])))
        if cost is not None and cost >= 0:
            found[at] = cost
    return found


def _figure(values: Floats) -> Figure:
    sample = values[np.isfinite(values)]
    mean = float(sample.mean())
    # A mean outside its values is rounding.
    mean = min(max(mean, float(sample.min())), float(sample.max()))
    if len(sample) < 2 or mean <= 0:
        return Figure(mean, GUESSED_ERROR, len(sample))
    error = float(sample.std(ddof=1)) / mean / math.sqrt(len(sample))
    return Figure(mean, error, len(sample))


# --- what is told and kept ----------------------------------------------------


def _kept(observations: Sequence[Observation]) -> Iterator[str]:
    """Repetitions that are unlike the others and count all the same."""
    queued, far = [], []
    for one in observations:
        at = 0
        for part in one.parts:
            selected = part.selected
            repetitions = np.flatnonzero(part.among)
            starts = selected.runs.max_of(selected.runs.numbers("cold_start"))[part.among]
            times = one.runs["time"][at : at + len(repetitions)]
            at += len(repetitions)
            name = f"{selected.file.name} {selected.runs.key}"
            waited = repetitions[starts > QUEUED_START_S].tolist()
            if waited:
                queued.append(repetitions_named(name, waited))
            unlike = repetitions[_far(one.runs["time"], times) & ~(starts > QUEUED_START_S)]
            if len(unlike):
                far.append(repetitions_named(name, unlike.tolist()))
    for some, what in (
        (queued, f"a worker waited more than {QUEUED_START_S:g} s for its start; they count"),
        (far, "time far from the median; they count"),
    ):
        if some:
            more = f"; and {len(some) - 4} more" if len(some) > 4 else ""
            yield f"{what}: {'; '.join(some[:4])}{more}"


def _far(values: Floats, of: Floats) -> Bools:
    """Which are more than five standard deviations, by the median deviation, and 10 % away."""
    logs = np.log(np.maximum(values, _LEAST))
    centre = np.median(logs)
    most = max(5 * 1.4826 * float(np.median(np.abs(logs - centre))), 0.1)
    return np.asarray(np.abs(np.log(np.maximum(of, _LEAST)) - centre) > most)
