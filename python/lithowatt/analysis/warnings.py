"""What to be warned of in the data that a result was made of: facts, each with the files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lithowatt._support.text import few, told_factors
from lithowatt.analysis.energy import holds_joules, machine_columns
from lithowatt.analysis.lint import findings
from lithowatt.analysis.platforms import AwsLambda
from lithowatt.analysis.quantities import row_lambda
from lithowatt.analysis.selection import Selected, Selection, widest_factors
from lithowatt.stats import QUALITIES

#: Fewer repetitions say little of their own scatter.
FEW = 5


def data_warning(code: str, text: str, files: Iterable[str] = ()) -> dict[str, Any]:
    """A warning as results hold it."""
    return {"code": code, "text": text, "files": sorted(set(files))}


def data_warnings(
    selection: Selection,
    configurations: Sequence[Mapping[str, Any]] = (),
    *,
    energy: bool = True,
) -> list[dict[str, Any]]:
    """What holds for all results of this selection.

    Args:
        selection: What counts.
        configurations: The rows of `stats`, where its result is what this is for.
        energy: Whether the result has joules.
    """
    found = [
        *_scope(selection),
        *_nothing_there(selection),
        *_nothing_left(selection),
        *_architectures(selection),
        *_priced_as_lambda(selection),
        *_partly_on_lambda(selection),
        *(_joules(selection) if energy else ()),
    ]
    few = [one for one in configurations if 0 < one["repetitions"]["used"] < FEW]
    if few:
        found.append(
            data_warning(
                "few-repetitions",
                f"{_configurations(len(few))} fewer than {FEW} repetitions: their intervals are "
                "wide, and none is made by the bootstrap",
                (one["file"] for one in few),
            )
        )
    return found


def drifting(selection: Selection) -> list[dict[str, Any]]:
    """Files whose configurations differ from themselves."""
    found = findings(selection.profiles, ["drifting-repetitions"])
    if not found:
        return []
    names = sorted({one.file for one in found})
    more = " and others" if len(names) > 3 else ""
    return [
        data_warning(
            "drift",
            f"repetitions of {', '.join(names[:3])}{more} drift: the first half of a "
            "configuration differs from the second, so that intervals are too narrow and "
            "differences may be of the day",
            names,
        )
    ]


#: Which command tells processors apart.
BY_PROCESSOR = "lithowatt profile compare --by cpu_name tells them apart"


def mixed_hardware(selection: Selection, where: str | None) -> list[dict[str, Any]]:
    """Configurations that ran on several processors.

    Args:
        selection: What counts.
        where: Where they are told apart.
    """
    mixed = [one for one in selection.all if len(one.hardware()) > 1]
    if not mixed:
        return []
    return [
        data_warning(
            "mixed-hardware",
            f"{_number(len(mixed), 'configuration')} ran on several processors, in shares that "
            f"nobody chose{'' if where is None else f': {where}'}",
            (one.file.name for one in mixed),
        )
    ]


def _scope(selection: Selection) -> Iterable[dict[str, Any]]:
    """An interval over repetitions says nothing of another day."""
    some = [one for one in selection.all if one.used.any()]
    unknown = {one.file.name for one in some if one.sessions is None}
    single = {one.file.name for one in some if one.sessions == 1}
    if unknown:
        yield data_warning(
            "sessions-unknown",
            f"{_files(len(unknown))} not say when repetitions ran: intervals are about the "
            "session in which they did, and not about another day",
            unknown,
        )
    if single:
        yield data_warning(
            "one-session",
            f"in {_number(len(single), 'file')} repetitions of a configuration ran in one session: "
            "intervals are about that session, and not about another day",
            single,
        )


def _nothing_there(selection: Selection) -> Iterable[dict[str, Any]]:
    """Profiles of nothing are profiles, but a result of them alone is empty."""
    empty = [file.name for file in selection.profiles.files if not file.configurations]
    if empty:
        yield data_warning(
            "no-configuration",
            f"there is no configuration in {few(empty)}",
            empty,
        )


def _nothing_left(selection: Selection) -> Iterable[dict[str, Any]]:
    none = [one for one in selection.all if one.runs.usable.any() and not one.used.any()]
    broken = [one for one in selection.all if not one.runs.usable.any()]
    for some, why in ((none, "none counts in this basis"), (broken, "none is usable")):
        if some:
            yield data_warning(
                "nothing-left",
                f"of the repetitions of {_named(some)} {why}",
                (one.file.name for one in some),
            )


def _architectures(selection: Selection) -> Iterable[dict[str, Any]]:
    """Calls of two architectures in one configuration."""
    mixed = [one for one in selection.all if one.architecture is None and one.mixed]
    stray = [one for one in selection.all if one.architecture is not None and one.stray]
    if mixed:
        yield data_warning(
            "mixed-architectures",
            f"{_named(mixed)} ran on arm64 and x86_64: means are over both, and no architecture, "
            "dollars of AWS Lambda or modelled joules are given. lithowatt profile split --by "
            "architecture tells them apart",
            (one.file.name for one in mixed),
        )
    if stray:
        count = sum(one.stray for one in stray)
        yield data_warning(
            "stray-architectures",
            f"{_number(count, 'worker call')} of {_named(stray)} ran on another architecture than "
            "the others, and count as these do",
            (one.file.name for one in stray),
        )


def _named(some: Sequence[Selected]) -> str:
    return few([f"{one.file.name} {one.runs.key}" for one in some])


def _priced_as_lambda(selection: Selection) -> Iterable[dict[str, Any]]:
    """Single rows of another platform in a file of AWS Lambda."""
    files = set()
    for one in selection.all:
        column = one.runs.columns.get("aws_cpu")
        tagged = column is not None and column.codes is not None
        if tagged and isinstance(one.place.platform, AwsLambda):
            if row_lambda(one.runs)[one.used[one.runs.repetition]].all():
                continue
            files.add(one.file.name)
    if files:
        yield data_warning(
            "priced-as-lambda",
            f"{_number(len(files), 'file')} of AWS Lambda hold repetitions whose rows do not say "
            "lambda:True; in this basis they count, and are priced as the others",
            files,
        )


def _partly_on_lambda(selection: Selection) -> Iterable[dict[str, Any]]:
    """Files of which a part ran on AWS Lambda: totals of dollars are of fewer repetitions."""
    files = {
        one.file.name
        for one in selection.all
        if one.place.by_row and np.isnan(one.values("cost_usd")[one.used]).any()
    }
    if files:
        yield data_warning(
            "partly-on-lambda",
            f"a part of {_number(len(files), 'file')} did not run on AWS Lambda: these repetitions "
            "have no dollars, and cost_usd is of the others",
            files,
        )


def _joules(selection: Selection) -> Iterable[dict[str, Any]]:
    if selection.energy_column != "energy":
        yield data_warning(
            "energy-definitions",
            "the energy of some calls holds a share of idle power and that of others does not "
            "(energy_definition): all are compared above idle (energy_marginal)",
        )
    by_file: dict[str, list[Selected]] = {}
    for one in selection.all:
        by_file.setdefault(one.file.name, []).append(one)
    machine = {
        name: columns
        for name, some in by_file.items()
        if (columns := machine_columns(one.runs for one in some))
    }
    if machine:
        columns = sorted({column for some in machine.values() for column in some})
        yield data_warning(
            "machine-energy",
            f"{', '.join(columns)} of {_number(len(machine), 'file')} are not used: FlexExecutor's "
            "energy fork writes the whole machine's joules there, once for each worker on it",
            machine,
        )
    own: dict[str, list[Selected]] = {}
    ours: dict[str, list[Selected]] = {}
    for name, some in by_file.items():
        for one in filter(_all_modelled, some):
            held = holds_joules(one.runs, selection.energy_column)
            (own if held else ours).setdefault(name, []).append(one)
    for modelled, how in (
        (own, "what each call's meter took from a power model"),
        (
            ours,
            "each worker's seconds times the watts of its share of a machine at its load, by the "
            "power model",
        ),
    ):
        if modelled:
            factors = widest_factors(one for some in modelled.values() for one in some)
            yield data_warning(
                "modelled-energy",
                f"no joule was measured in {_number(len(modelled), 'file')}: energy_j is {how} "
                f"({told_factors(factors)}, mostly common to one architecture)",
                modelled,
            )


def _all_modelled(one: Selected) -> bool:
    joules = one.joules
    keep = one.used & np.isfinite(joules.values)
    return bool(keep.any() and (joules.quality[keep] == len(QUALITIES) - 1).all())


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _files(count: int) -> str:
    return f"{count} file{' does' if count == 1 else 's do'}"


def _configurations(count: int) -> str:
    return f"{count} configuration{' has' if count == 1 else 's have'}"
