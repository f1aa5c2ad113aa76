"""``generate_energy_report``: what executions used, where it went, and what follows from it."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from lithowatt._support.text import counted, few, format_number
from lithowatt.report._executions import MOST_TEXTS, Execution, Total, executions

__all__ = ["generate_energy_report"]

#: A stage, or what is beside the functions, is worth a sentence from this part of the joules on.
WORTH = 0.2

#: A stage dominates from this part of the joules on.
DOMINANT = 0.5

#: Functions wait where they have a CPU for less than this part of their time.
WAITING = 0.5

#: A band is told where its upper end is so many times its lower one.
WIDE = 2.0

_UNNAMED = "(no name)"


def generate_energy_report(execution_results: Any) -> dict[str, Any]:
    """What executions used, in four parts, all computed from what is given.

    ``execution_summary``
        How many there are, how many of them have joules and why the others have none, and the sum
        with its band, method and quality.
    ``energy_breakdown``
        The same by stage and by backend, with each one's ``share`` of the sum; joules of marked
        phases (parts of the functions; one may lie inside another); what Lithops' tasks used
        ``beside_functions``, and the ``startup`` of their workers.
    ``efficiency_metrics``
        Watts, joules of an execution and of a CPU second, use of the CPUs.
    ``recommendations``
        Sentences, each with a ``code`` and the ``numbers`` that it is made of. Empty where the
        numbers give no reason for one.

    Energies are in J, times in s. What is not known is ``None``, with its reason.

    No joules are added twice. The function of a Lithops call is inside of its task, so of a task
    only what is beside the function is told; the counters of a whole machine are not added; a
    window that is given twice, as by a future and by an entry of the log, counts once. Where
    definitions differ, what is above idle is added. Readings of one process whose windows overlap
    have no sum, nor have those of a process and of one that it started.

    Args:
        execution_results: Entries of an energy log, futures of Lithops, their stats, readings, or
            meters: one, or several of any kind.

    Raises:
        TypeError: Something else was given.

    Example:
        >>> stats = {"energy_consumption": 2.0, "energy_low": 1.0, "energy_high": 4.0}
        >>> report = generate_energy_report([stats, {"energy_source": "unavailable: no model"}])
        >>> summary = report["execution_summary"]
        >>> summary["joules"], summary["joules_high"], summary["reasons"]
        (2.0, 4.0, {'no model': 1})
        >>> report["recommendations"][0]["text"]
        '1 of 2 executions has no joules (no model): lithowatt doctor tells what can be measured'
    """
    given = list(executions(execution_results))
    once, repeated = _once(given)
    total = Total()
    for one in once:
        total.add(one)
    summary = total.as_dict()
    overlap = _overlap(once)
    if overlap is not None:
        for key in ("joules", "mean_joules"):
            summary[key] = summary[f"{key}_low"] = summary[f"{key}_high"] = None
        summary["reason"] = overlap
    summary = {"given_twice": repeated, **summary}
    breakdown = _breakdown(once, total, overlap)
    return {
        "execution_summary": summary,
        "energy_breakdown": breakdown,
        "efficiency_metrics": _efficiency(once, total, overlap),
        "recommendations": _recommendations(once, total, breakdown, overlap),
    }


def _once(given: list[Execution]) -> tuple[list[Execution], int]:
    """Each window once, the one that says most of it, in the order in which they were given."""
    kept: dict[object, Execution] = {}
    for at, one in enumerate(given):
        key: object = at if one.same is None else one.same
        known = kept.get(key)
        if known is None:
            kept[key] = one
        else:
            # The entry of a log has a name and a backend, a future the task.
            kept[key] = known._replace(
                **{
                    name: getattr(one, name)
                    for name in ("stage", "backend", "task", "startup", "cold")
                    if getattr(known, name) is None
                }
            )
    return list(kept.values()), len(given) - len(kept)


def _overlap(once: list[Execution]) -> str | None:
    """Why readings cannot be added: the joules of one may be inside of another one's."""
    windows: dict[object, list[tuple[int, int]]] = {}
    inner: list[tuple[object, tuple[int, int]]] = []
    for one in once:
        # Each boot has a clock of its own.
        if one.window is None or one.maker is None:
            continue
        place = one.maker.place
        windows.setdefault((place, one.maker.process), []).append(one.window)
        inner += [((place, parent), one.window) for parent in one.maker.ancestors]
    for own in windows.values():
        own.sort()
        for (_, end), (start, _) in pairwise(own):
            if start < end:
                return _OVERLAP
    # A process is metered with those that it started. Its own windows follow each other by now.
    for parent, (start, end) in inner:
        outer = windows.get(parent, [])
        before = bisect_left(outer, (end,))
        if before and outer[before - 1][1] > start:
            return _OVERLAP
    return None


_OVERLAP = (
    "readings of a process, or of one and another that it started, overlap in time, and joules of "
    "one may be inside of another one's: give those whose windows follow each other"
)


def _grouped(once: list[Execution], name: str, whole: Total, overlap: str | None) -> dict[str, Any]:
    groups: dict[str, list[Execution]] = {}
    for one in once:
        key = getattr(one, name) or _UNNAMED
        if key not in groups and len(groups) >= MOST_TEXTS * 10:
            key = "(others)"
        groups.setdefault(key, []).append(one)
    found = {}
    for key, members in groups.items():
        total = Total()
        for one in members:
            total.add(one)
        inside = _overlap(members)
        numbers = total.as_dict()
        if inside is not None:
            for number in ("joules", "mean_joules"):
                numbers[number] = numbers[f"{number}_low"] = numbers[f"{number}_high"] = None
            numbers["reason"] = inside
        comparable = overlap is None and whole.definition == total.definition
        numbers["share"] = _part(total.joules, whole.joules) if comparable else None
        found[key] = numbers
    return found


def _part(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole is not None and whole > 0 else None


def _breakdown(once: list[Execution], whole: Total, overlap: str | None) -> dict[str, Any]:
    phases: dict[str, float] = {}
    for one in once:
        for name, joules in one.phases.items():
            phases[name] = phases.get(name, 0.0) + joules
    # One definition: tasks and functions are metered by the same.
    tasks = [one for one in once if one.task is not None and one.joules is not None]
    beside = [max(0.0, float(one.task or 0.0) - float(one.joules or 0.0)) for one in tasks]
    startups = [one.startup for one in once if one.startup is not None]
    return {
        "by_stage": _grouped(once, "stage", whole, overlap),
        "by_backend": _grouped(once, "backend", whole, overlap),
        "phases": phases,
        "beside_functions": {
            "calls": len(tasks),
            "joules": math.fsum(beside) if tasks else None,
            "functions_joules": math.fsum(one.joules or 0.0 for one in tasks) if tasks else None,
            "reason": None if tasks else "no call has the energy of its task",
        },
        "startup": {
            "calls": len(startups),
            "cold_starts": sum(one.cold is True for one in once),
            "joules": math.fsum(startups) if startups else None,
            "reason": None if startups else "no call has the energy of its worker's start",
        },
    }


def _efficiency(once: list[Execution], total: Total, overlap: str | None) -> dict[str, Any]:
    joules = None if overlap else total.joules
    band = None if overlap else total.band
    known = [one for one in once if one.cpu_usage is not None and one.seconds]
    seconds = math.fsum(one.seconds or 0.0 for one in known)
    usage = math.fsum((one.cpu_usage or 0.0) * (one.seconds or 0.0) for one in known)
    metrics: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    missing = overlap or total.reason

    def add(name: str, over: float | None, lacking: str) -> None:
        found = {"": joules, "_low": band and band[0], "_high": band and band[1]}
        for end, value in found.items():
            metrics[name + end] = value / over if value is not None and over else None
        if metrics[name] is None:
            reasons[name] = missing or lacking

    add("mean_watts", total.seconds, "not all executions with joules have a duration")
    add("joules_per_execution", total.measured, "there are no executions")
    add("joules_per_cpu_second", total.cpu_seconds, "not all executions with joules have CPU time")
    metrics["cpu_usage"] = usage / seconds if seconds > 0 else None
    if metrics["cpu_usage"] is None:
        reasons["cpu_usage"] = "no execution has the use of its CPUs"
    metrics["measured_share"] = total.measured / total.executions if total.executions else None
    if metrics["measured_share"] is None:
        reasons["measured_share"] = "there are no executions"
    return {**metrics, "definition": total.definition, "reasons": reasons}


def _recommendations(
    once: list[Execution], total: Total, breakdown: dict[str, Any], overlap: str | None
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    def say(code: str, text: str, **numbers: float) -> None:
        found.append({"code": code, "text": text, "numbers": numbers})

    missing = total.executions - total.measured
    if missing:
        has = "has" if missing == 1 else "have"
        say(
            "not_measured",
            f"{missing} of {counted(total.executions, 'execution')} {has} no joules "
            f"({few(sorted(total.reasons), between='; ')}): lithowatt doctor tells what can be "
            "measured",
            not_measured=missing,
            executions=total.executions,
        )
    joules, band = total.joules, total.band
    if overlap is None and joules is not None and joules > 0:
        _of_stages(breakdown["by_stage"], joules, say)
        low, high = band or (joules, joules)
        if total.quality == "modelled" and high >= WIDE * low:
            wide = (
                f"{format_number(high / low)} times the lower" if low > 0 else "above a lower of 0"
            )
            say(
                "modelled",
                f"the joules are modelled, and the upper end of their band is {wide} "
                f"({format_number(low)} to {format_number(high)} J): lithowatt calibrate, or an "
                "energy counter (lithowatt doctor), narrows it",
                low=low,
                high=high,
            )
    _of_waiting(once, say)
    beside = breakdown["beside_functions"]
    part = _part(beside["joules"], beside["functions_joules"])
    if part is not None and part >= WORTH:
        say(
            "beside_functions",
            f"Lithops' tasks used {format_number(beside['joules'])} J beside the "
            f"{format_number(beside['functions_joules'])} J of "
            f"{counted(beside['calls'], 'function')} "
            f"({part:.0%}): fewer calls with more work in each have less of it",
            joules=beside["joules"],
            functions_joules=beside["functions_joules"],
            part=part,
        )
    # Of the same calls: others may have no start, or nothing but one.
    starts = [one for one in once if one.startup is not None and one.joules is not None]
    started = math.fsum(one.startup or 0.0 for one in starts)
    functions = math.fsum(one.joules or 0.0 for one in starts)
    part = _part(started, functions)
    if part is not None and part >= WORTH:
        say(
            "startup",
            f"starting {counted(sum(one.cold is True for one in starts), 'worker')} used "
            f"{format_number(started)} J, the functions of the same calls "
            f"{format_number(functions)} J ({part:.0%}): workers that are kept save it",
            joules=started,
            functions_joules=functions,
            part=part,
        )
    return found


def _of_stages(stages: dict[str, Any], joules: float, say: Any) -> None:
    named = {
        name: one["share"]
        for name, one in stages.items()
        if one["share"] is not None and name != _UNNAMED
    }
    if len(named) < 2:
        return
    name = max(named, key=named.__getitem__)
    share = named[name]
    if share >= DOMINANT:
        used = stages[name]["joules"]
        say(
            "dominant_stage",
            f"the stage {name} used {format_number(used)} of {format_number(joules)} J "
            f"({share:.1%}): whatever is saved elsewhere, it is at most {1 - share:.1%}",
            joules=used,
            sum_joules=joules,
            share=share,
        )


def _of_waiting(once: Sequence[Execution], say: Any) -> None:
    stages: dict[str, list[tuple[float, float]]] = {}
    for one in once:
        if one.cpu_seconds is not None and one.seconds:
            stages.setdefault(one.stage or _UNNAMED, []).append((one.cpu_seconds, one.seconds))
    for name, members in stages.items():
        busy, seconds = (math.fsum(column) for column in zip(*members, strict=True))
        if busy / seconds < WAITING:
            of = "the executions" if name == _UNNAMED else f"the stage {name}"
            say(
                "waiting",
                f"{of} had a CPU for {busy / seconds:.0%} of the time ({format_number(busy)} of "
                f"{format_number(seconds)} s) and waited else, for data or for a CPU: more calls "
                "at once use the time in which they wait for data",
                cpu_seconds=busy,
                seconds=seconds,
            )
