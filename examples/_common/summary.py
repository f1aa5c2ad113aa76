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
        parts.append("\n".join(f"  {remark}" for remark in found))
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
    there is neither a band nor a phase of that.
    """
    headline = definition_of(call for run in runs for call in run.calls())
    shown = headline or "marginal"
    other = "amortised" if shown == "marginal" else "marginal"
    width = max((len(stage) for run in runs for stage in run.stages), default=5)
    lines = [
        f"{'workers':>7} {'MB':>5}  {'stage':<{width}} {'calls':>5} {'s':>8} {'CPU s':>8} "
        f"{'J ' + shown:>11} {'95 % band':>20} {'J ' + other:>11} {'read J':>8} {'compute J':>9} "
        f"{'write J':>8}  {'quality':<10}  method"
    ]
    for workers, memory in dict.fromkeys((run.workers, run.memory) for run in runs):
        same = [run for run in runs if (run.workers, run.memory) == (workers, memory)]
        for stage in same[0].stages:
            repetitions = [run.stages[stage] for run in same]
            lines.append(
                f"{workers:>7} {memory:>5}  {stage:<{width}} {sum(map(len, repetitions)):>5} "
                + _columns(repetitions, shown, other, headline is not None)
            )
        if len(same[0].stages) > 1:
            everything = [[call for calls in run.stages.values() for call in calls] for run in same]
            lines.append(
                f"{'':>7} {'':>5}  {'all':<{width}} {sum(map(len, everything)):>5} "
                + _columns(everything, shown, other, headline is not None)
            )
    lines.append(
        "Sums over the workers of a run, means over its repetitions. Marginal joules are above "
        "idle, amortised\nones hold the calls' share of it; bands and phases are of the first."
    )
    return "\n".join(lines)


def _columns(
    repetitions: Sequence[Sequence[CallRecord]], shown: str, other: str, alike: bool
) -> str:
    def over(attribute: str) -> float | None:
        return mean([total(getattr(call, attribute) for call in calls) for calls in repetitions])

    def phase(name: str) -> float | None:
        if not alike:
            return None
        return mean([total(call.phase_joules(name) for call in calls) for calls in repetitions])

    low, high = (over("low"), over("high")) if alike else (None, None)
    band = DASH if low is None or high is None else f"{low:.3f} to {high:.3f}"
    calls = [call for repetition in repetitions for call in repetition]
    read, compute, write = (phase(name) for name in PHASES)
    return (
        f"{number(over('seconds'), 8)} {number(over('cpu_seconds'), 8)} "
        f"{number(over('joules' if alike else shown), 11)} {band:>20} {number(over(other), 11)} "
        f"{number(read, 8)} {number(compute, 9)} {number(write, 8)}  "
        f"{common(call.quality for call in calls):<10}  {common(call.method for call in calls)}"
    )


def machine(runs: Sequence[RunRecord]) -> str:
    """A line per run: where the machine's joules went."""
    lines = [
        f"{'workers':>7} {'MB':>5} {'run':>4} {'s':>8} {'machine J':>10} {'idle J':>10} "
        f"{'functions J':>11} {'driver+Lithops J':>16} {'others J':>10}"
    ]
    for run in runs:
        lines.append(
            f"{run.workers:>7} {run.memory:>5} {run.repetition:>4} {run.seconds:>8.3f} "
            f"{number(run.machine.machine, 10)} {number(run.machine.idle, 10)} "
            f"{number(run.functions('marginal'), 11)} {number(run.rest(), 16)} "
            f"{number(run.machine.others, 10)}"
        )
    reasons = dict.fromkeys(run.machine.reason for run in runs if run.machine.reason is not None)
    if reasons:
        lines += [f"The machine's total is not known: {reason}" for reason in reasons]
    else:
        lines.append(
            "machine = idle + functions + driver and Lithops + others, the last three above idle."
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
