"""Rules about what a column holds, in all configurations of a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lithowatt.analysis.lint._repeated import clocks_apart
from lithowatt.analysis.lint._rule import Hit, counted
from lithowatt.analysis.lint._survey import Survey
from lithowatt.profiles._columns import PROFILE_COLUMNS
from lithowatt.profiles._runs import ALWAYS, DESCRIBING, Bools, ConfigurationRuns, ProfileFile

#: TDP / worker time is a load in steps of 0.05 %: of 0.1 % of two CPUs.
LOAD_STEP = 0.0005
#: So near a step, in steps, counts as on it.
STEP_NEAR = 0.001
#: So many of the rows have to be on steps.
ON_STEPS_SHARE = 0.95

#: In fewer rows than this equal values can be chance.
CONSTANT_LEAST_ROWS = 4
STEPS_LEAST_ROWS = 4

#: No vCPU that runs takes less or more, W.
LEAST_WATTS, MOST_WATTS = 0.1, 15.0

#: Describe the machine, and are the same in all rows as they should be.
_DESCRIBING = {*DESCRIBING, "cpu_cores_physical", "cpu_cores_logical"}

#: Joules of the worker. Those of a phase or of a band's end say nothing of its watts.
_JOULES = {
    *(one.name for one in PROFILE_COLUMNS if one.unit == "J"),
    "RAPL_wrong",
} - {"energy_low", "energy_high", "energy_read", "energy_compute", "energy_write"}


@dataclass
class _Values:
    """What all configurations hold in one column."""

    rows: int = 0
    zeros: int = 0
    least: float = np.inf
    most: float = -np.inf
    texts: bool = False


def _own(runs: ConfigurationRuns) -> Bools | None:
    """Rows that lithowatt itself wrote, where 0 is a number and no reading is null."""
    quality = runs.columns.get("energy_quality")
    return None if quality is None or quality.codes is None else quality.codes >= 0


def _columns(file: ProfileFile, *, without_own: bool = False) -> dict[str, _Values]:
    """Each column of numbers; `without_own`: without the rows that lithowatt wrote."""
    found: dict[str, _Values] = {}
    for runs in file.configurations:
        own = _own(runs) if without_own else None
        for name, column in runs.columns.items():
            values = found.setdefault(name, _Values())
            if column.codes is not None:
                values.texts = True
            if column.numbers is None:
                continue
            numbers = column.numbers if own is None else column.numbers[~own]
            numbers = numbers[~np.isnan(numbers)]
            if len(numbers):
                values.rows += len(numbers)
                values.zeros += len(numbers) - int(np.count_nonzero(numbers))
                values.least = min(values.least, float(numbers.min()))
                values.most = max(values.most, float(numbers.max()))
    return {name: one for name, one in found.items() if one.rows and not one.texts}


def _describes(name: str) -> bool:
    return name in _DESCRIBING or (name.startswith("cpu_") and name != "cpu_time")


def _constant(file: ProfileFile) -> dict[str, _Values]:
    return {
        name: one
        for name, one in _columns(file).items()
        if one.least == one.most != 0 and one.rows >= CONSTANT_LEAST_ROWS and not _describes(name)
    }


def constant(_survey: Survey, _file_at: int, file: ProfileFile) -> Iterator[Hit]:
    """Measurements with one value."""
    for name, one in _constant(file).items():
        yield Hit.of(
            file,
            f"{name} is {one.least:g} in all {counted(one.rows, 'row')}: it was not measured",
            {"constant": one.least},
            name,
            one.rows,
        )


def zero(_survey: Survey, _file_at: int, file: ProfileFile) -> Iterator[Hit]:
    """Zeros that stand for no reading."""
    for name, one in _columns(file, without_own=True).items():
        if one.zeros and name not in ALWAYS:
            some = "all" if one.zeros == one.rows else f"{one.zeros:,} of"
            yield Hit.of(
                file,
                f"{name} is 0 in {some} {counted(one.rows, 'row')}: no reading, not 0",
                {"of": one.rows},
                name,
                one.zeros,
            )


def _on_steps(file: ProfileFile) -> tuple[int, int]:
    """Rows whose TDP / worker time is on steps of a load, and rows in which that can be said."""
    near = rows = 0
    for runs in file.configurations:
        tdp, seconds = runs.numbers("TDP"), runs.numbers("worker_time_execution")
        with np.errstate(invalid="ignore"):
            fit = (tdp > 0) & (seconds > 0) & ~clocks_apart(runs)
        steps = tdp[fit] / seconds[fit] / LOAD_STEP
        near += int((np.abs(steps - np.round(steps)) <= STEP_NEAR).sum())
        rows += len(steps)
    return near, rows


def _is_load(file: ProfileFile) -> bool:
    near, rows = _on_steps(file)
    return rows >= STEPS_LEAST_ROWS and near >= ON_STEPS_SHARE * rows


def unit(_survey: Survey, _file_at: int, file: ProfileFile) -> Iterator[Hit]:
    """A TDP that is the guest's busy seconds."""
    if _is_load(file):
        near, rows = _on_steps(file)
        yield Hit.of(
            file,
            f"TDP is worker time × load in {_percent(near / rows)} % of the rows: busy seconds of "
            "the guest, not W and not J",
            {"share_of_rows_on_steps": near / rows, "step": LOAD_STEP},
            "TDP",
            rows,
        )


def _percent(share: float) -> str:
    """Rounded down, so that only all is 100."""
    return f"{int(share * 1000) / 10:g}"


def implausible_power(_survey: Survey, _file_at: int, file: ProfileFile) -> Iterator[Hit]:
    """Joules that no vCPU takes."""
    named = set(_constant(file))
    if _is_load(file):
        named.add("TDP")
    for name, one in _columns(file).items():
        if name in named or one.most <= 0 or name not in _JOULES:
            continue
        joules = offered = busy = 0.0
        rows = 0
        for runs in file.configurations:
            values = runs.numbers(name)
            vcpu_s = runs.numbers("worker_time_execution") * runs.numbers("cpu_cores_logical")
            # Joules of one process on a large machine are few a CPU of the machine.
            busy_s = runs.numbers("cpu_time") if "cpu_time" in runs.columns else vcpu_s
            with np.errstate(invalid="ignore"):
                fit = (values > 0) & (vcpu_s > 0) & (busy_s > 0)
            joules += float(values[fit].sum())
            offered += float(vcpu_s[fit].sum())
            busy += float(busy_s[fit].sum())
            rows += int(fit.sum())
        if not rows:
            continue
        if joules < LEAST_WATTS * busy:
            watts, told = joules / busy, f"less than {LEAST_WATTS:g} W"
        elif joules > MOST_WATTS * offered:
            watts, told = joules / offered, f"more than {MOST_WATTS:g} W"
        else:
            continue
        yield Hit.of(
            file,
            f"{name} is {watts:.3g} W a vCPU: {told}, which none takes",
            {"watts_per_vcpu": watts},
            name,
            rows,
        )
