"""Rules about the times of single workers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lithowatt._support.text import counted
from lithowatt.analysis.lint._repeated import CLOCKS_APART, clocks_apart
from lithowatt.analysis.lint._rule import Hit, numbered, with_rows
from lithowatt.analysis.lint._survey import Place, Survey
from lithowatt.analysis.quantities import QUEUED_START_S, row_other_seconds
from lithowatt.profiles._runs import CORE, Floats, ProfileFile

#: A worker that spent longer in no phase stood still, s.
STALLED_S = 10.0

#: More of the workers' time in no phase than this is the measuring, not the work.
OVERHEAD_SHARE = 0.05

#: Times are differences of clock readings, which are doubles of seconds since 1970: from 2004 to
#: 2038 these are so far apart, s. Less than that is no difference between two times.
STAMP_STEP_S = 2.0**-22

#: Seconds, joules and numbers of CPUs: none is below 0.
NOT_NEGATIVE = (*CORE, "cpu_time", "energy", "cpu_cores_logical", "cpu_cores_physical")

#: What the rounding of a difference may be, relative to the worker's time.
_ROUNDING = 4 * float(np.finfo(float).eps)


def clock_mismatch(_survey: Survey, place: Place) -> Hit | None:
    """Workers whose two clocks disagree."""
    apart = clocks_apart(place.runs)
    if not apart.any():
        return None
    one, other = (
        place.runs.numbers(name)[apart] for name in ("time_consumption", "worker_time_execution")
    )
    most = float((np.abs(one - other) / np.maximum(np.abs(one), np.abs(other))).max())
    found, many = with_rows(place, apart), int(apart.sum())
    return Hit.at(
        place,
        f"time_consumption and worker_time_execution of {counted(many, 'worker')} differ by up to "
        f"{most:.2g} of their time, in {numbered(found)}",
        found,
        many,
        {"most_relative": most, "threshold": CLOCKS_APART},
    )


def phases_exceed(_survey: Survey, place: Place) -> Hit | None:
    """Workers whose phases are longer than the worker ran."""
    other, seconds = row_other_seconds(place.runs), place.runs.numbers("worker_time_execution")
    with np.errstate(invalid="ignore"):
        below = other < -np.maximum(STAMP_STEP_S, _ROUNDING * np.abs(seconds))
    if not below.any():
        return None
    found, many, most = with_rows(place, below), int(below.sum()), float((-other[below]).max())
    return Hit.at(
        place,
        f"read, compute and write of {counted(many, 'worker')} take up to {most:.3g} s longer than "
        f"the worker, in {numbered(found)}",
        found,
        many,
        {"repetitions": found, "most_s": most},
    )


def negative(_survey: Survey, place: Place) -> Hit | None:
    """Workers with a reading below 0 where there is none."""
    below: dict[str, int] = {}
    rows = np.zeros(place.runs.rows, dtype=bool)
    least = 0.0
    for name in NOT_NEGATIVE:
        numbers = place.runs.numbers(name)
        with np.errstate(invalid="ignore"):
            some = numbers < 0
        if some.any():
            below[name] = int(some.sum())
            rows |= some
            least = min(least, float(numbers[some].min()))
    if not below:
        return None
    found, many = with_rows(place, rows), int(rows.sum())
    return Hit.at(
        place,
        f"{', '.join(below)} of {counted(many, 'worker')} are below 0, down to {least:.3g}, in "
        f"{numbered(found)}",
        found,
        many,
        {"columns": below, "least": least},
    )


def stalled(_survey: Survey, place: Place) -> Hit | None:
    """Workers that spent long in no phase."""
    return _above(place, row_other_seconds(place.runs), STALLED_S, ("spent", "in no phase"))


def queued(_survey: Survey, place: Place) -> Hit | None:
    """Workers that waited long for their start."""
    seconds = place.runs.numbers("cold_start")
    return _above(place, seconds, QUEUED_START_S, ("waited", "to be started"))


def _above(place: Place, seconds: Floats, most: float, words: tuple[str, str]) -> Hit | None:
    """Usable workers with more seconds than these."""
    with np.errstate(invalid="ignore"):
        rows = (seconds > most) & place.runs.usable[place.runs.repetition]
    if not rows.any():
        return None
    found, many, longest = with_rows(place, rows), int(rows.sum()), float(seconds[rows].max())
    did, what = words
    return Hit.at(
        place,
        f"{counted(many, 'worker')} {did} more than {most:g} s {what}, up to {longest:.3g} s, in "
        f"{numbered(found)}",
        found,
        many,
        {"repetitions": found, "most_s": longest},
    )


def overhead(survey: Survey, file_at: int, file: ProfileFile) -> Iterator[Hit]:
    """Files in which the workers spend much of their time in no phase."""
    other_s = total_s = 0.0
    rows = 0
    medians = []
    for place in survey.of_file(file_at):
        usable = place.runs.usable[place.runs.repetition]
        other = row_other_seconds(place.runs)[usable]
        if len(other) and np.isfinite(other).all():
            medians.append(other)
            other_s += float(other.sum())
            total_s += float(place.runs.numbers("worker_time_execution")[usable].sum())
            rows += len(other)
    if total_s > 0 and other_s / total_s > OVERHEAD_SHARE:
        median = float(np.median(np.concatenate(medians)))
        share = other_s / total_s
        yield Hit.of(
            file,
            f"{share * 100:.1f} % of the workers' time is in no phase, {median:.3g} s of the "
            "median worker",
            {"share_of_worker_time": share, "median_s": median},
            rows=rows,
        )
