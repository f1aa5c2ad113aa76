"""Rules about how a file's configurations differ: over repetitions, and over workers."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from lithowatt.analysis.intervals import Sample
from lithowatt.analysis.lint._repetitions import FEW_REPETITIONS
from lithowatt.analysis.lint._rule import Hit
from lithowatt.analysis.lint._survey import Survey
from lithowatt.analysis.quantities import QUANTITIES
from lithowatt.analysis.significance import welch
from lithowatt.profiles._runs import Floats, ProfileFile

#: The first half of the repetitions differs from the second where chance would so rarely.
DRIFT_P = 0.01
#: In so many configurations, and in one of so many.
DRIFT_LEAST = 3
DRIFT_ONE_IN = 3

#: Values that are so close, relative to themselves, are equal.
_ROUNDING = 1e-12

#: CPU seconds in all grow as workers to this power: below, each worker has a part of the work.
GROWING_EXPONENT = 0.25
#: A slope needs so many numbers of workers.
GROWING_LEAST_POINTS = 3


def drifting(survey: Survey, file_at: int, file: ProfileFile) -> Iterator[Hit]:
    """Files whose configurations differ from themselves."""
    looked, differ, ratios = 0, [], []
    for place in survey.of_file(file_at):
        seconds = QUANTITIES["worker_time_s"](place.runs)[survey.clean(place)]
        if len(seconds) < FEW_REPETITIONS or not np.isfinite(seconds).all():
            continue
        looked += 1
        half = len(seconds) // 2
        first, second = seconds[:half], seconds[half:]
        ratios.append(float(second.mean() / first.mean()) if first.mean() else math.nan)
        if _differ(first, second):
            differ.append(place.runs.key)
    if len(differ) >= DRIFT_LEAST and len(differ) * DRIFT_ONE_IN >= looked:
        median = float(np.median(ratios))
        yield Hit.of(
            file,
            f"{len(differ)} of {looked} configurations differ from themselves: second half of the "
            f"repetitions against the first × {median:.3g} (median)",
            {"configurations": differ, "of": looked, "median_second_over_first_half": median},
        )


def _differ(a: Floats, b: Floats) -> bool:
    """Whether these means differ by Welch's test; two constants differ where they are not equal."""
    scatter = max(float(one.max() - one.min()) for one in (a, b))
    size = _ROUNDING * max(float(np.abs(one).max()) for one in (a, b))
    if scatter <= size:
        return abs(float(a.mean() - b.mean())) > size
    return welch(Sample.of(a), Sample.of(b)).p < DRIFT_P


def work_grows(survey: Survey, file_at: int, file: ProfileFile) -> Iterator[Hit]:
    """Files in which more workers do more work in all."""
    points: dict[tuple[float, float], list[tuple[float, float]]] = {}
    one_worker = True
    for place in survey.of_file(file_at):
        runs, clean = place.runs, survey.clean(place)
        one_worker &= bool((runs.widths[runs.usable] == 1).all())
        seconds = QUANTITIES["cpu_seconds_s"](runs)[clean]
        seconds = seconds[np.isfinite(seconds)]
        if len(seconds) and seconds.mean() > 0:
            cpu, memory, workers = runs.configuration
            point = math.log(workers), math.log(float(seconds.mean()))
            points.setdefault((cpu, memory), []).append(point)
    if one_worker:
        return
    found = {}
    for size, some in points.items():
        workers, seconds_ = np.array(some).T
        if len(set(workers.tolist())) >= GROWING_LEAST_POINTS:
            found[size] = float(np.polyfit(workers, seconds_, 1)[0])
    growing = {size: one for size, one in found.items() if one > GROWING_EXPONENT}
    if growing:
        most = max(growing.values())
        where = ""
        if len(found) > 1:
            named = ", ".join(f"{memory:g} MB" for _, memory in growing)
            where = f" (with {named})"
        yield Hit.of(
            file,
            f"CPU seconds of all workers grow as workers to the power of {most:.3g}{where}: more "
            "workers do more work",
            {"exponent": most},
        )
