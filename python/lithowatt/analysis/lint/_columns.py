"""Rules about what a column holds, in all configurations of a file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from lithowatt._support.text import counted
from lithowatt.analysis.lint._repeated import clocks_apart
from lithowatt.analysis.lint._rule import Hit
from lithowatt.analysis.lint._survey import Survey
from lithowatt.profiles._columns import PROFILE_COLUMNS
from lithowatt.profiles._runs import ALWAYS, CORE, DESCRIBING, Bools, Floats, ProfileFile

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

#: Joules of the worker. Those of a phase, of a band's end or of others say nothing of its watts.
_JOULES = {
    *(one.name for one in PROFILE_COLUMNS if one.unit == "J"),
    "RAPL_wrong",
} - {"energy_low", "energy_high", "energy_read", "energy_compute", "energy_write"}
_JOULES -= {name for name in _JOULES if name.startswith("machine_")}


class _Values(NamedTuple):
    """What all configurations hold in one column of numbers.

    Attributes:
        rows: Where there is a value.
        least, most: Of them.
        zeros: Rows with 0, of the `counting` rows that lithowatt did not write itself.
        counting: See there; in its own a reading that there is not is null, and 0 a number.
    """

    rows: int
    least: float
    most: float
    zeros: int
    counting: int


def _whole(file: ProfileFile, name: str) -> Floats:
    """A column over all configurations, NaN where there is no value."""
    return np.concatenate([*(runs.numbers(name) for runs in file.configurations), np.zeros(0)])


def _own(file: ProfileFile) -> Bools | None:
    """The rows that lithowatt itself wrote; `None` where there are none."""
    parts = []
    for runs in file.configurations:
        quality = runs.columns.get("energy_quality")
        if quality is None or quality.codes is None:
            parts.append(np.zeros(runs.rows, dtype=bool))
        else:
            parts.append(quality.codes >= 0)
    own = np.concatenate([*parts, np.zeros(0, dtype=bool)])
    return own if own.any() else None


def _columns(file: ProfileFile) -> dict[str, _Values]:
    """Each column of numbers."""
    names: dict[str, bool] = {}
    for runs in file.configurations:
        for name, column in runs.columns.items():
            names[name] = names.get(name, False) or column.codes is not None
    own = _own(file)
    found = {}
    for name, texts in names.items():
        values = np.zeros(0) if texts else _whole(file, name)
        there = ~np.isnan(values)
        counting = there if own is None or texts else there & ~own
        if there.any():
            some = values[there]
            counted_ = values[counting]
            found[name] = _Values(
                len(some),
                float(some.min()),
                float(some.max()),
                len(counted_) - int(np.count_nonzero(counted_)),
                len(counted_),
            )
    return found


def _describes(name: str) -> bool:
    return name in DESCRIBING or (name.startswith("cpu_") and name != "cpu_time")


def _of_lithops(name: str) -> bool:
    """Whether it is one of Lithops' own stats, which count what may be the same, or nothing."""
    return name.startswith(("worker_", "host_", "func_")) and name not in CORE


def _at_its_end(name: str, values: _Values) -> bool:
    """Whether it is a load that lithowatt wrote, of workers that kept all their CPUs busy."""
    return name == "psutil_cpu_percent" and values.least == 100 and values.counting == 0


def _constant(columns: dict[str, _Values]) -> dict[str, _Values]:
    return {
        name: one
        for name, one in columns.items()
        if one.least == one.most != 0
        and one.rows >= CONSTANT_LEAST_ROWS
        and not (_describes(name) or _of_lithops(name) or _at_its_end(name, one))
    }


def constant(survey: Survey, file_at: int, file: ProfileFile) -> Iterator[Hit]:
    """Measurements with one value."""
    for name, one in _constant(survey.known(_columns, file_at)).items():
        yield Hit.of(
            file,
            f"{name} is {one.least:g} in all {counted(one.rows, 'row')}: it was not measured",
            {"constant": one.least},
            name,
            one.rows,
        )


def zero(survey: Survey, file_at: int, file: ProfileFile) -> Iterator[Hit]:
    """Zeros that stand for no reading."""
    for name, one in survey.known(_columns, file_at).items():
        if one.zeros and name not in ALWAYS and not _of_lithops(name):
            some = "all" if one.zeros == one.counting else f"{one.zeros:,} of"
            yield Hit.of(
                file,
                f"{name} is 0 in {some} {counted(one.counting, 'row')}: no reading, not 0",
                {"of": one.counting},
                name,
                one.zeros,
            )


class _Steps(NamedTuple):
    """Rows whose TDP / worker time is on steps of a load, of those in which that can be said."""

    near: int
    rows: int

    @property
    def share(self) -> float:
        return self.near / self.rows

    @property
    def load(self) -> bool:
        """Whether it is a load."""
        return self.rows >= STEPS_LEAST_ROWS and self.near >= ON_STEPS_SHARE * self.rows


def _on_steps(file: ProfileFile) -> _Steps:
    tdp, seconds = _whole(file, "TDP"), _whole(file, "worker_time_execution")
    apart = [clocks_apart(runs) for runs in file.configurations]
    with np.errstate(invalid="ignore"):
        fit = (tdp > 0) & (seconds > 0) & ~np.concatenate([*apart, np.zeros(0, dtype=bool)])
    steps = tdp[fit] / seconds[fit] / LOAD_STEP
    return _Steps(int((np.abs(steps - np.round(steps)) <= STEP_NEAR).sum()), len(steps))


def unit(survey: Survey, file_at: int, file: ProfileFile) -> Iterator[Hit]:
    """A TDP that is the guest's busy seconds."""
    steps = survey.known(_on_steps, file_at)
    if steps.load:
        yield Hit.of(
            file,
            f"TDP is worker time × load in {_percent(steps.share)} % of the rows: busy seconds of "
            "the guest, not W and not J",
            {"share_of_rows_on_steps": steps.share, "step": LOAD_STEP},
            "TDP",
            steps.rows,
        )


def _percent(share: float) -> str:
    """Rounded down, so that only all is 100."""
    return f"{int(share * 1000) / 10:g}"


def implausible_power(survey: Survey, file_at: int, file: ProfileFile) -> Iterator[Hit]:
    """Joules that no vCPU takes."""
    columns = survey.known(_columns, file_at)
    named = set(_constant(columns))
    if survey.known(_on_steps, file_at).load:
        named.add("TDP")
    looked = [n for n, one in columns.items() if n in _JOULES - named and one.most > 0]
    if not looked:
        return
    offered = _whole(file, "worker_time_execution") * _whole(file, "cpu_cores_logical")
    # Joules of one process on a large machine are few a CPU of the machine.
    busy = _whole(file, "cpu_time")
    busy = np.where(np.isnan(busy), offered, busy)
    for name in looked:
        joules = _whole(file, name)
        with np.errstate(invalid="ignore"):
            fit = (joules > 0) & (offered > 0) & (busy > 0)
        if not fit.any():
            continue
        total, vcpu_s, busy_s = (float(one[fit].sum()) for one in (joules, offered, busy))
        if total < LEAST_WATTS * busy_s:
            watts, told = total / busy_s, f"less than {LEAST_WATTS:g} W"
        elif total > MOST_WATTS * vcpu_s:
            watts, told = total / vcpu_s, f"more than {MOST_WATTS:g} W"
        else:
            continue
        yield Hit.of(
            file,
            f"{name} is {watts:.3g} W a vCPU: {told}, which none takes",
            {"watts_per_vcpu": watts},
            name,
            int(fit.sum()),
        )
