"""The table of the rules: what each finds, why it matters, from when on, and what to do."""

from __future__ import annotations

import math

from lithowatt.analysis.lint import (
    _columns,
    _machines,
    _repetitions,
    _series,
    _survey,
    _workers,
)
from lithowatt.analysis.lint._repeated import (
    CLOCK_STEP_S,
    CLOCKS_APART,
    JITTER_LEAST_WORKERS,
    JITTER_LOG,
)
from lithowatt.analysis.lint._rule import Rule, each, each_file
from lithowatt.analysis.quantities import QUEUED_START_S

_CLOCKS = "`time_consumption` and `worker_time_execution`"
_SEVEN = "read, compute, write, cold_start, both clocks of the worker and TDP"

#: Errors first, in the order in which they are told.
RULES: tuple[Rule, ...] = (
    Rule(
        "copied-repetitions",
        "error",
        "configuration",
        "repetitions that equal an earlier one",
        "A run that is there twice counts twice: intervals become narrower than the data allow.",
        f"{_SEVEN} equal those of an earlier repetition, in any of the files",
        "leave them out, which the basis clean does, or give each file once",
        each(_repetitions.copied),
        excludes=True,
        names=True,
    ),
    Rule(
        "jittered-repetitions",
        "error",
        "configuration",
        "repetitions that are others with noise on them",
        "Two clocks of one worker agree to 10 ns; noise that was multiplied onto them does not. "
        "Such repetitions were made, not measured.",
        f"{_CLOCKS} differ by more than {CLOCKS_APART:g} of the greater in more than half of the "
        f"workers; or, with {JITTER_LEAST_WORKERS} workers or more, each of the seven values of "
        f"each worker is {math.exp(-JITTER_LOG):.2f} to 1/{math.exp(-JITTER_LOG):.2f} of that of "
        "an earlier repetition, in any of the files",
        "leave them out, which the basis clean does, and measure instead",
        each(_repetitions.jittered),
        excludes=True,
        names=True,
    ),
    Rule(
        "foreign-hardware",
        "error",
        "configuration",
        "workers on another platform than the rest",
        "A run on a laptop says nothing about a Lambda: its times are another machine's, and it "
        "has no price.",
        "`aws_cpu` says another platform than more than "
        f"{_survey.FOREIGN_SHARE:.0%} of the file's rows",
        "leave them out, which the basis clean does, or keep them in a profile of their own",
        each(_machines.foreign),
        excludes=True,
        names=True,
    ),
    Rule(
        "empty-repetition",
        "error",
        "configuration",
        "repetitions without work",
        "Half of the workers or more had nothing to compute: the run failed, or had no input.",
        f"compute is below {_survey.EMPTY_COMPUTE_S * 1000:g} ms in half of the workers or more, "
        f"where the configuration's median is {_survey.EMPTY_LEAST_MEDIAN_S * 1000:g} ms or more",
        "leave them out, which the basis clean does, and look for why they failed",
        each(_repetitions.empty_repetition),
        excludes=True,
        names=True,
    ),
    Rule(
        "clock-mismatch",
        "error",
        "configuration",
        "two clocks of a worker that disagree",
        f"Both {_CLOCKS} tell the worker's time. Where they differ, one was changed or is of "
        "another run.",
        f"they differ by more than {CLOCKS_APART:g} of the greater, and by more than "
        f"{CLOCK_STEP_S * 1e9:g} ns, which rounding leaves",
        "find out what wrote these rows, and do not rely on either clock",
        each(_workers.clock_mismatch),
        names=True,
    ),
    Rule(
        "phases-exceed-worker-time",
        "error",
        "configuration",
        "phases that are longer than the worker ran",
        "Read, compute and write are parts of the worker's time.",
        "worker_time_execution - read - compute - write is below 0, by more than "
        f"{_workers.STAMP_STEP_S * 1e9:.0f} ns, which clock readings do not resolve",
        "find out which of the times is of another run or clock",
        each(_workers.phases_exceed),
    ),
    Rule(
        "negative-values",
        "error",
        "configuration",
        "seconds, joules or CPUs below 0",
        "None can be. A cold start below 0 is the difference of two machines' clocks. CPU seconds "
        "of such a reading are not known; times are what the file says.",
        f"{', '.join(_workers.NOT_NEGATIVE[:-1])} or {_workers.NOT_NEGATIVE[-1]} is below 0",
        "find out what wrote it; synchronise the clocks of client and workers",
        each(_workers.negative),
        names=True,
    ),
    Rule(
        "ragged-repetitions",
        "error",
        "configuration",
        "columns with different numbers of repetitions",
        "Which value belongs to which run is then a guess: a value that was left out moves all "
        "that come after it.",
        "the columns of a configuration differ in the number of repetitions",
        "write null for what is not known, so that values keep their places",
        each(_repetitions.ragged),
        names=True,
    ),
    Rule(
        "label-mismatch",
        "error",
        "file",
        "a folder's name that says something else than the data",
        "Comparisons go by memory and architecture, and people by names.",
        "the memory in the folder's name is not that of the keys, or its architecture is not that "
        "of most rows",
        "rename the folder, or find out which of the two is right",
        each_file(_machines.label_mismatch),
    ),
    Rule(
        "unit-mistake",
        "warning",
        "column",
        "a TDP that is neither watts nor joules",
        "The energy fork's TDP is the worker's time times the guest's load: busy seconds.",
        f"TDP / worker time is on steps of {_columns.LOAD_STEP * 100:g} % (within "
        f"{_columns.STEP_NEAR:g} of a step) in {_columns.ON_STEPS_SHARE:.0%} of the rows or more",
        "read it as seconds; with the logical CPUs it gives CPU seconds. It is no energy",
        each_file(_columns.unit),
    ),
    Rule(
        "constant-column",
        "warning",
        "column",
        "a measurement with one value",
        "What is measured varies; what does not was not measured. Not meant is what Lithops counts "
        "(`worker_…`, `host_…`, `func_…`), and a full load that lithowatt itself wrote.",
        "a column of measurements has one value, not 0, in all rows (of at least "
        f"{_columns.CONSTANT_LEAST_ROWS})",
        "do not use the column",
        each_file(_columns.constant),
    ),
    Rule(
        "zero-means-unavailable",
        "warning",
        "column",
        "zeros that stand for no reading",
        "A worker that runs uses energy and time; 0 is what was written for a counter that could "
        "not be read. Means over it are too small. Not meant is what lithowatt itself writes, null "
        "for no reading, and what Lithops counts (`worker_…`, `host_…`, `func_…`).",
        "a column of numbers is 0 in all rows or in some; read, compute, write and cold_start may "
        "be 0",
        "take the zeros for null, or do not use the column",
        each_file(_columns.zero),
    ),
    Rule(
        "implausible-power",
        "warning",
        "column",
        "joules that no CPU takes",
        "A vCPU takes some watts. Far less or more is another unit, or another machine's energy.",
        f"joules / worker time / logical CPUs are below {_columns.LEAST_WATTS:g} W or above "
        f"{_columns.MOST_WATTS:g} W, over the rows that have any; below it is tried with CPU "
        "seconds where the profile has `cpu_time`",
        "find out the column's unit and whose energy it is",
        each_file(_columns.implausible_power),
    ),
    Rule(
        "mixed-hardware",
        "warning",
        "configuration",
        "workers on several processors",
        "A configuration's mean is then of a mixture that nobody chose and that changes from day "
        "to day.",
        "workers that are not foreign name more than one processor",
        "compare by processor as well: profile compare gives by_cpu",
        each(_machines.mixed),
    ),
    Rule(
        "drifting-repetitions",
        "warning",
        "file",
        "configurations that differ from themselves",
        "The repetitions are not independent: something changed while they ran, and an interval "
        "over them is too narrow.",
        "the mean worker time of the first half of the repetitions differs from that of the second "
        f"(Welch's p < {_series.DRIFT_P:g}) in {_series.DRIFT_LEAST} configurations or more and in "
        f"1 of {_series.DRIFT_ONE_IN} or more, of those with at least "
        f"{_repetitions.FEW_REPETITIONS} repetitions",
        "measure in several sessions and in random order: profile plan makes one",
        each_file(_series.drifting),
    ),
    Rule(
        "requested-actual-workers",
        "warning",
        "configuration",
        "other numbers of workers than asked for",
        "Configurations that ran alike are one configuration, and a speed-up over what was asked "
        "for is none.",
        "a usable repetition ran another number of workers than the key says",
        "go by the workers that ran: profile stats merges such configurations",
        each(_repetitions.requested_actual),
    ),
    Rule(
        "work-grows-with-workers",
        "warning",
        "file",
        "more workers do more work in all",
        "Where every worker does the whole work again, more workers are not faster, and totals of "
        "different numbers of workers are of different work.",
        "CPU seconds of all workers grow as workers to the power of more than "
        f"{_series.GROWING_EXPONENT:g} (over at least {_series.GROWING_LEAST_POINTS} numbers of "
        "workers)",
        "compare joules, dollars and seconds per unit of work",
        each_file(_series.work_grows),
    ),
    Rule(
        "few-repetitions",
        "warning",
        "configuration",
        "too few repetitions",
        "Intervals of so few are wide, and their tails unknown.",
        f"fewer than {_repetitions.FEW_REPETITIONS} repetitions are in the basis clean",
        "repeat it: profile plan says how often",
        each(_repetitions.few),
    ),
    Rule(
        "input-changed",
        "warning",
        "configuration",
        "repetitions that had another input",
        "Read, compute and write that all take much longer are more work, not noise.",
        "the records say another input than of most repetitions in the basis clean, or read, "
        "compute and write of a repetition (means over its workers) are each more than "
        f"{_repetitions.INPUT_CHANGED:g} times the configuration's median there",
        "compare with --basis same-input as well",
        each(_repetitions.input_changed),
        names=True,
    ),
    Rule(
        "queued-start",
        "warning",
        "configuration",
        "workers that waited for their start",
        "The time of such a run is mostly the platform's, and depends on what else was asked of "
        "it.",
        f"cold_start is above {QUEUED_START_S:g} s",
        "tell the time without queued starts beside the mean of all",
        each(_workers.queued),
    ),
    Rule(
        "stalled-worker",
        "warning",
        "configuration",
        "workers that stood still",
        "Their time is in no phase: it is billed, and does not belong to the work.",
        f"worker_time_execution - read - compute - write is above {_workers.STALLED_S:g} s",
        "look at these workers by themselves",
        each(_workers.stalled),
    ),
    Rule(
        "empty-worker",
        "warning",
        "configuration",
        "single workers without work",
        "They were billed and computed nothing: there were more workers than parts of the input.",
        f"compute is below {_survey.EMPTY_COMPUTE_S * 1000:g} ms, where the configuration's median "
        f"is {_survey.EMPTY_LEAST_MEDIAN_S * 1000:g} ms or more, in repetitions that are not empty",
        "ask for fewer workers, or look for why they failed",
        each(_repetitions.empty_worker),
    ),
    Rule(
        "stage-repetitions",
        "warning",
        "folder and key",
        "stages with different numbers of repetitions",
        "The stages of one workflow ran together, so runs of some of them are missing.",
        "the stages of a folder hold different numbers of usable repetitions of a configuration",
        "do not add stages up run by run",
        _repetitions.stage_repetitions,
    ),
    Rule(
        "monitoring-overhead",
        "warning",
        "file",
        "workers that spend much of their time in no phase",
        "It is the measuring, imports and serialisation: billed, and in the worker's time, but not "
        "the function's.",
        f"more than {_workers.OVERHEAD_SHARE:.0%} of the worker time is in no phase, over usable "
        "rows",
        "compare compute_s, and report the overhead beside it",
        each_file(_workers.overhead),
    ),
    Rule(
        "missing-metadata",
        "warning",
        "file",
        "a file that does not say when and where it ran",
        "Without them nobody can run it again or tell sessions apart.",
        f"neither a column nor the sidecar says one of these: {', '.join(_machines.METADATA)}",
        "write them down beside the data; lithowatt's sidecar has some of them",
        each_file(_machines.missing_metadata),
    ),
)

BY_NAME = {rule.name: rule for rule in RULES}
