"""Rules about whole repetitions: made of others, without work, too few, not as the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from lithowatt._support.text import counted
from lithowatt.analysis.lint._repeated import Source
from lithowatt.analysis.lint._rule import Hit, numbered, with_rows
from lithowatt.analysis.lint._survey import Place, Survey, median
from lithowatt.profiles._sidecar import INPUT_SIZES

#: With fewer repetitions an interval is too wide to tell anything apart.
FEW_REPETITIONS = 5

#: A repetition whose read, compute and write are all so many times the configuration's median had
#: more input.
INPUT_CHANGED = 1.7

#: Sources that a message names.
_MOST_SOURCES = 3


def copied(survey: Survey, place: Place) -> Hit | None:
    """Repetitions that equal an earlier one."""
    found = survey.repeated(place).copied
    if not found:
        return None
    told = _sources(survey, place, found)
    return Hit.at(
        place,
        f"{numbered(found)} {'equals' if len(found) == 1 else 'equal'} earlier ones: {told}",
        sorted(found),
        place.runs.widths[sorted(found)].sum(),
        {"of": {str(at): _named(survey, place, source) for at, source in sorted(found.items())}},
    )


def jittered(survey: Survey, place: Place) -> Hit | None:
    """Repetitions that are others with noise on their values."""
    found = survey.repeated(place).jittered
    if not found:
        return None
    with_source = {at: source for at, source in found.items() if source is not None}
    if with_source:
        told = f"made of others: {_sources(survey, place, with_source)}"
    else:
        told = "two clocks of one worker disagree as no clocks do"
    return Hit.at(
        place,
        f"{numbered(found)} {'is' if len(found) == 1 else 'are'} no run: {told}",
        sorted(found),
        place.runs.widths[sorted(found)].sum(),
        {
            "of": {
                str(at): None if source is None else _named(survey, place, source)
                for at, source in sorted(found.items())
            }
        },
    )


def _named(survey: Survey, place: Place, source: Source) -> dict[str, object]:
    there, repetition = survey.source(source)
    return {
        "file": there.file.name,
        "configuration": there.runs.key,
        "repetition": repetition,
    }


def _sources(survey: Survey, place: Place, found: dict[int, Source]) -> str:
    parts = []
    for at, source in sorted(found.items())[:_MOST_SOURCES]:
        there, repetition = survey.source(source)
        where = ""
        if there.file_at != place.file_at:
            where = f" of {there.named}"
        elif there.at != place.at:
            where = f" of {there.runs.key}"
        parts.append(f"{at} of {repetition}{where}")
    if len(found) > _MOST_SOURCES:
        parts.append(f"and {len(found) - _MOST_SOURCES} more")
    return ", ".join(parts)


def empty_repetition(survey: Survey, place: Place) -> Hit | None:
    """Repetitions in which half the workers or more computed nothing."""
    empty = survey.empty(place)
    if not empty.any():
        return None
    found = np.flatnonzero(empty).tolist()
    idle = int(survey.idle_workers(place)[empty[place.runs.repetition]].sum())
    rows = int(place.runs.widths[empty].sum())
    return Hit.at(
        place,
        f"in {numbered(found)} {idle} of {counted(rows, 'worker')} computed nothing",
        found,
        rows,
        {"idle_workers": idle},
    )


def empty_worker(survey: Survey, place: Place) -> Hit | None:
    """Workers that computed nothing, in repetitions that are not empty."""
    idle = survey.idle_workers(place) & ~survey.empty(place)[place.runs.repetition]
    if not idle.any():
        return None
    found = with_rows(place, idle)
    many = int(idle.sum())
    return Hit.at(
        place,
        f"{counted(many, 'worker')} computed nothing, in {numbered(found)}",
        found,
        many,
        {"repetitions": found},
    )


def ragged(_survey: Survey, place: Place) -> Hit | None:
    """Columns with different numbers of repetitions."""
    lengths = {name: len(column.lengths) for name, column in place.runs.columns.items()}
    if len(set(lengths.values())) < 2:
        return None
    least, most = min(lengths.values()), max(lengths.values())
    short = sorted(name for name, length in lengths.items() if length < most)
    found = range(least, most)
    return Hit.at(
        place,
        f"{', '.join(short)} {'lacks' if len(short) == 1 else 'lack'} {numbered(found)} of {most}",
        found,
        place.runs.widths[least:].sum(),
        {"columns": {name: lengths[name] for name in short}, "repetitions": most},
    )


def requested_actual(_survey: Survey, place: Place) -> Hit | None:
    """Repetitions that ran another number of workers than asked for."""
    runs = place.runs
    other = runs.usable & (runs.widths != runs.configuration.workers)
    if not other.any():
        return None
    actual, counts = np.unique(runs.widths[runs.usable], return_counts=True)
    found = np.flatnonzero(other).tolist()
    told = ", ".join(str(one) for one in np.unique(runs.widths[other]).tolist())
    return Hit.at(
        place,
        f"asked for {counted(runs.configuration.workers, 'worker')}, {told} ran in "
        f"{len(found)} of {counted(int(runs.usable.sum()), 'repetition')}",
        found,
        runs.widths[other].sum(),
        {
            "requested": runs.configuration.workers,
            "actual": {str(a): n for a, n in zip(actual.tolist(), counts.tolist(), strict=True)},
            "repetitions": found,
        },
    )


def few(survey: Survey, place: Place) -> Hit | None:
    """Too few repetitions for an interval."""
    left = int(survey.clean(place).sum())
    if left >= FEW_REPETITIONS:
        return None
    found = place.runs.repetitions
    told = "" if found == left else f" of {found}"
    return Hit.at(
        place,
        f"{counted(left, 'clean repetition')}{told}: fewer than {FEW_REPETITIONS}",
        evidence={"clean": left, "found": found},
    )


def input_changed(survey: Survey, place: Place) -> Hit | None:
    """Repetitions of another input: by their records, else by longer times in each phase."""
    clean = survey.clean(place)
    if clean.sum() < 2:
        return None
    told = _other_input(place, np.flatnonzero(clean).tolist())
    if told is not None:
        return told
    above = clean.copy()
    ratios = {}
    for name in ("read", "compute", "write"):
        means = place.runs.mean_of(place.runs.numbers(name))
        usual = median(means[clean])
        with np.errstate(invalid="ignore"):
            above &= means > INPUT_CHANGED * usual
        if not above.any():
            return None
        if usual > 0:
            ratios[name] = means / usual
    found = np.flatnonzero(above).tolist()
    least = min(float(one[above].min()) for one in ratios.values())
    return Hit.at(
        place,
        f"{numbered(found)}: read, compute and write at least {least:.2g} times their medians",
        found,
        place.runs.widths[found].sum(),
        {f"{name}_ratio": one[above].tolist() for name, one in ratios.items()},
    )


def _other_input(place: Place, clean: list[int]) -> Hit | None:
    """Repetitions whose records say another input than most."""
    said: dict[int, str] = {}
    for at, record in enumerate(place.runs.records):
        if at in clean and isinstance(record, Mapping):
            sizes = [record[name] for name in INPUT_SIZES if record.get(name) not in (None, "")]
            if sizes:
                said[at] = str(sizes[0])
    usual = Counter(said.values()).most_common(1)
    found = [at for at, size in said.items() if size != usual[0][0]]
    if not found:
        return None
    others = ", ".join(dict.fromkeys(said[at] for at in found))
    return Hit.at(
        place,
        f"{numbered(found)}: recorded input {others}, and of most {usual[0][0]}",
        found,
        place.runs.widths[found].sum(),
        {"input": [said[at] for at in found], "usual": usual[0][0]},
    )


def stage_repetitions(survey: Survey) -> Iterator[Hit]:
    """Stages of one workflow that hold different numbers of repetitions of a configuration."""
    folders: dict[tuple[str, str], dict[tuple[float, ...], list[Place]]] = {}
    for place in survey.places:
        name = place.file.name.rpartition("/")[0] or place.file.name
        folder = folders.setdefault((name, str(Path(place.file.path).parent)), {})
        folder.setdefault(tuple(place.runs.configuration), []).append(place)
    for (name, _), keys in folders.items():
        for places in keys.values():
            counts = {place.file.stage: int(place.runs.usable.sum()) for place in places}
            if len(set(counts.values())) > 1:
                told = ", ".join(f"{stage} {count}" for stage, count in counts.items())
                yield Hit(
                    name,
                    None,
                    f"the stages hold different numbers of repetitions: {told}",
                    configuration=places[0].runs.key,
                    evidence=counts,
                )
