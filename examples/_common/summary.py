"""Tables for people: a line per configuration and stage, a line per run for the machine."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from examples._common.records import (
    PHASES,
    CallRecord,
    RunRecord,
    common,
    definition_of,
    mean,
    total,
)

DASH = "–"


def number(value: float | None, width: int = 0, digits: int = 3) -> str:
    """A number with that many decimals, or a dash; right-aligned."""
    return f"{DASH if value is None else f'{value:.{digits}f}':>{width}}"


def energy(run: RunRecord) -> str:
    """The joules of a run's functions, and what they are; above idle where the calls' differ."""
    definition = definition_of(run.calls()) or "marginal"
    return f"{number(run.functions(definition))} J {definition}"


def text(runs: Sequence[RunRecord]) -> str:
    """Everything about these runs."""
    parts = [results(runs), stages(runs), machine(runs)]
    found = remarks(runs)
    if found:
        told = (textwrap.wrap(f"  {remark}", 80, subsequent_indent="    ") for remark in found)
        parts.append("\n".join(line for lines in told for line in lines))
    return "\n\n".join(parts)


def results(runs: Sequence[RunRecord]) -> str:
    """What the workload came to, once where all runs agree."""
    outcomes = list(dict.fromkeys(run.outcome for run in runs))
    if len(outcomes) == 1:
        return outcomes[0]
    lines = [f"workers {run.workers}, run {run.repetition}: {run.outcome}" for run in runs]
    return "\n".join(lines)


def stages(runs: Sequence[RunRecord]) -> str:
    """A line per configuration and stage: sums over the workers, means over the repetitions.

    The joules of all lines have one definition. Where the calls' differ, all are above idle, and
    there is neither a band nor a phase of that. The phases are a table of their own, so that no
    line is wider than a terminal.
    """
    headline = definition_of(call for run in runs for call in run.calls())
    shown = headline or "marginal"
    other = "amortised" if shown == "marginal" else "marginal"
    width = max((len(stage) for run in runs for stage in run.stages), default=5)
    start = f"{'workers':>7} {'MB':>5}  {'stage':<{width}}"
    lines = [
        f"{start} {'calls':>5} {'s':>7} {'CPU s':>7} {'J ' + shown:>11} {'95 % band':>18}".rstrip()
    ]
    parts = [f"{start} {'J ' + other:>11} {'read J':>9} {'compute J':>9} {'write J':>9}"]
    for workers, memory in dict.fromkeys((run.workers, run.memory) for run in runs):
        same = [run for run in runs if (run.workers, run.memory) == (workers, memory)]
        rows = [
            (f"{workers:>7} {memory:>5}  {stage:<{width}}", [run.stages[stage] for run in same])
            for stage in same[0].stages
        ]
        if len(rows) > 1:
            everything = [[call for calls in run.stages.values() for call in calls] for run in same]
            rows.append((f"{'':>7} {'':>5}  {'all':<{width}}", everything))
        for name, repetitions in rows:
            lines.append(f"{name} {_sums(repetitions, shown, headline is not None)}")
            parts.append(f"{name} {_phases(repetitions, other, headline is not None)}")
    return "\n".join(
        [
            *lines,
            *_made(runs),
            "",
            *parts,
            "Sums over the workers of a run, means over its repetitions. Marginal joules are",
            "above idle, amortised ones hold the calls' share of it; bands and phases are of",
            "the first.",
        ]
    )


def _over(repetitions: Sequence[Sequence[CallRecord]], attribute: str) -> float | None:
    """The sum over the calls of a repetition, its mean over the repetitions."""
    return mean([total(getattr(call, attribute) for call in calls) for calls in repetitions])


def _sums(repetitions: Sequence[Sequence[CallRecord]], shown: str, alike: bool) -> str:
    low, high = (_over(repetitions, "low"), _over(repetitions, "high")) if alike else (None, None)
    band = DASH if low is None or high is None else f"{low:.3f} to {high:.3f}"
    return (
        f"{sum(map(len, repetitions)):>5} {number(_over(repetitions, 'seconds'), 7)} "
        f"{number(_over(repetitions, 'cpu_seconds'), 7)} "
        f"{number(_over(repetitions, 'joules' if alike else shown), 11)} {band:>18}"
    )


def _phases(repetitions: Sequence[Sequence[CallRecord]], other: str, alike: bool) -> str:
    def phase(name: str) -> float | None:
        if not alike:
            return None
        return mean([total(call.phase_joules(name) for call in calls) for calls in repetitions])

    read, compute, write = (phase(name) for name in PHASES)
    return (
        f"{number(_over(repetitions, other), 11)} {number(read, 9)} {number(compute, 9)} "
        f"{number(write, 9)}"
    )


def _made(runs: Sequence[RunRecord]) -> list[str]:
    """How the joules were made: once where all stages say the same, else a line for each."""
    told: dict[str, list[str]] = {}
    for stage in dict.fromkeys(stage for run in runs for stage in run.stages):
        calls = [call for run in runs for call in run.stages.get(stage, ())]
        quality = common(call.quality for call in calls)
        told.setdefault(f"{quality}: {common(call.method for call in calls)}", []).append(stage)
    if len(told) == 1:
        return [f"joules are {how}" for how in told]
    return [f"joules of {', '.join(stages)} are {how}" for how, stages in told.items()]


def machine(runs: Sequence[RunRecord]) -> str:
    """A line per run: where the machine's joules went."""
    lines = [
        f"{'workers':>7} {'MB':>4} {'run':>3} {'s':>7} {'machine J':>9} {'idle J':>7} "
        f"{'functions J':>11} {'driver+Lithops J':>16} {'others J':>8}"
    ]
    for run in runs:
        lines.append(
            f"{run.workers:>7} {run.memory:>4} {run.repetition:>3} {run.seconds:>7.2f} "
            f"{number(run.machine.machine, 9, 1)} {number(run.machine.idle, 7, 1)} "
            f"{number(run.functions('marginal'), 11)} {number(run.rest(), 16)} "
            f"{number(run.machine.others, 8, 1)}"
        )
    reasons = dict.fromkeys(run.machine.reason for run in runs if run.machine.reason is not None)
    if reasons:
        for reason in reasons:
            why = reason.removeprefix("unavailable: ")
            lines += textwrap.wrap(f"The machine's total is not known: {why}", 80)
    else:
        lines.append(
            "machine = idle + functions + driver and Lithops + others, the last three above\nidle."
        )
    return "\n".join(lines)


def calls(records: Iterable[CallRecord]) -> str:
    """A line per call, by `lithowatt.lithops.table`, and what all of them say once."""
    known = list(records)
    try:
        from lithowatt.lithops import table
    except ImportError:
        heard = [reason for call in known for reason in call.reasons()]
        return "\n".join(dict.fromkeys(heard))
    told = [str(table([call.as_stats() for call in known]))]
    # The table has warnings, and why a call has no joules.
    for note in dict.fromkeys(note for call in known for note in call.notes()):
        told += textwrap.wrap(note, 80, subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join(told)


def remarks(runs: Sequence[RunRecord]) -> list[str]:
    """Warnings and reasons of all calls, each once, with how many said it."""
    heard: dict[str, int] = {}
    count = 0
    for run in runs:
        for records in run.stages.values():
            for call in records:
                count += 1
                for reason in dict.fromkeys(call.reasons()):
                    heard[reason] = heard.get(reason, 0) + 1
    return [
        reason if said == count else f"{reason} ({said} of {count} calls)"
        for reason, said in heard.items()
    ]
