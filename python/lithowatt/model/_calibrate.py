"""``lithowatt calibrate``: fits the power model's curve to this machine.

Busy workers of our own load more and more of the machine while a counter, or the file of an
external meter, shows its power. ``docs/how-to/calibration.md`` says what becomes of it.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lithowatt import _core
from lithowatt._support.command import OURS, runnable
from lithowatt._support.files import read_plain
from lithowatt._support.text import aligned, format_number
from lithowatt.errors import LithowattError
from lithowatt.meter._meter import EnergyMeter
from lithowatt.reference import open_references
from lithowatt.reference._compare import Window, beyond, line_of, table, told
from lithowatt.reference._open import available, with_reference
from lithowatt.reference._watch import longest_delay, nothing_from
from lithowatt.reference.table import MOST_BYTES, MOST_OFFSET, moment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lithowatt.reference import Reference

__all__ = ["counter_fix", "curve_line"]


SYSTEM_PATH = Path("/var/lib/lithowatt/calibration.json")
"""Read where a user has no calibration of their own."""

RESTING_PERCENT = 5.0
RESTING_CPUS = 0.5
"""Busier than this a machine's power is no idle power. One busy thread wakes all sockets: two
E5-2650 v4 take 64 to 68 W with one of 48 CPUs busy, 27 to 32 W at rest (Alt et al., ICPE 2024)."""

MOST_RESIDUAL_PERCENT = 30.0
"""A fit that leaves more has not understood the machine."""

LEAST_FULL_PERCENT = 80.0
"""With all CPUs busy the load is at least this, or somebody holds the workers back."""

LEAST_SPAN_PERCENT = 20.0
"""From the least to the greatest load, or there is no curve to see."""

LEAST_RISE = 0.02
"""Watts that rise by less from idle to full load do not follow the load."""

SETTLE_SECONDS = 0.3
"""From the start of the workers to the start of the measurement."""

METER_SETTLE_SECONDS = 1.0
"""The same with an external meter, whose rows are means of a second or so that is past."""

REFERENCE_SECONDS = 20.0
"""Of a step beside a meter of the whole machine, which has a new value each second to each few."""

METER_PATIENCE_SECONDS = 10.0
"""How long we wait for a growing file to reach the end of the ladder."""

MOST_WATTS = 1e6

# Arithmetic and memory traffic. It ends with whoever started it, however that ended.
WORKER = """
import os, sys, time
cpu, duty, parent = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
os.sched_setaffinity(0, {cpu})
data, period, clock = bytes(1 << 18), 0.02, time.perf_counter
while os.getppid() == parent:
    end = clock() + period * duty
    while clock() < end:
        x = 0
        for i in range(2000):
            x += i * i
        data.count(b"x")
        bytearray(data)
    if duty < 1:
        time.sleep(period * (1 - duty))
"""


class CalibrationError(LithowattError):
    """The calibration came to nothing; nothing was stored."""


def calibrate(arguments: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    problem = _problem(arguments)
    if problem:
        print(f"lithowatt: {problem}", file=sys.stderr)
        return 2
    path = _core.calibration_path()
    if path is None:
        print("lithowatt: set LITHOWATT_STATE_DIR: there is no home directory", file=sys.stderr)
        return 1
    try:
        with signals_as_exceptions():
            if arguments.idle_only:
                return _idle_only(arguments, path)
            return _ladder(arguments, path)
    except CalibrationError as error:
        print(f"lithowatt: {error}; nothing was stored", file=sys.stderr)
        return 1
    except _Stopped as stopped:
        print("lithowatt: interrupted; nothing was stored", file=sys.stderr)
        return 128 + stopped.number


def _problem(arguments: argparse.Namespace) -> str | None:
    """What is wrong with the options, ``None`` where nothing is."""
    seconds, levels = arguments.seconds, arguments.levels
    if seconds is not None and not 0.5 <= seconds <= 3600:
        return f"--seconds must be from 0.5 to 3600, not {seconds}"
    if levels is not None and not 2 <= levels <= 100:
        return f"--levels must be from 2 to 100, not {levels}"
    if arguments.max_busy is not None and not 0 < arguments.max_busy <= 100:
        return f"--max-busy must be above 0 and at most 100 (%), not {arguments.max_busy}"
    if arguments.meter_offset is not None:
        if not abs(arguments.meter_offset) <= MOST_OFFSET:
            return (
                f"--meter-offset must be a number of seconds, {MOST_OFFSET:.0f} at most, not "
                f"{arguments.meter_offset}"
            )
        if arguments.meter_file is None:
            return "--meter-offset shifts the times of --meter-file, which is missing"
    if arguments.meter_file is not None and arguments.reference:
        return "--meter-file is a reference, too: give one of both"
    if arguments.idle_only:
        for name in ("levels", "meter_file", "reference", "force"):
            if getattr(arguments, name):
                return f"--{name.replace('_', '-')} is for the load ladder: drop --idle-only"
        return None
    root = arguments.root or os.environ.get("LITHOWATT_ROOT")
    if root and Path(root) != Path("/"):
        return f"the load ladder is for this machine, not for {root}: use --idle-only with a root"
    return None


# -- signals ----------------------------------------------------------------------------------


class _Stopped(BaseException):
    """A signal that ends us, as an exception, so that everything is put in order first."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def signals_as_exceptions() -> Iterator[None]:
    asked = False

    def stop(number: int, _frame: object) -> None:
        # Once: a second one (`timeout` sends two) would leave the putting in order halfway.
        nonlocal asked
        if not asked:
            asked = True
            raise _Stopped(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    old = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


# -- steps ------------------------------------------------------------------------------------


@dataclass
class _Step:
    """One step of the ladder, measured."""

    cpus: int
    duty: float
    load: float
    seconds: float
    begin: float
    """Wall clock, s since the epoch, as in an external meter's file."""
    watts: dict[str, float]
    """Power of the packages by method, W."""
    dram: dict[str, float]
    """Power of memory by method, W."""
    zones: dict[str, float]
    """Power by zone, W."""
    factors: dict[str, float]
    mhz: float | None = None
    residual: float = field(default=0.0)
    meter: EnergyMeter | None = None
    """With meters of the whole machine: what they were read beside."""

    def name(self) -> str:
        return step_name(self.cpus, self.duty)

    def spread(self, all_cpus: int) -> float:
        """The part of the CPUs on which the load ran."""
        pinned = self.cpus and self.duty == 1
        return max(self.cpus / all_cpus, self.load) if pinned else 1.0


def step_name(cpus: int, duty: float) -> str:
    """What is busy in a step: so many CPUs, for this part of the time."""
    if not cpus:
        return "idle"
    part = "" if duty == 1 else f" at {duty:.0%}".replace("%", " %")
    return f"{cpus} CPU{'s' if cpus > 1 else ''}{part}"


def plan(levels: int, cpus: int) -> list[tuple[int, float]]:
    """How many CPUs are busy for which part of the time, by step.

    Where there are more steps than CPUs, the others load all CPUs for a part of the time.
    """
    loaded = levels - 1
    if loaded <= 1:
        return [(0, 0.0), (cpus, 1.0)]
    if loaded <= cpus:
        counts = {round(1 + i * (cpus - 1) / (loaded - 1)) for i in range(loaded)}
        return [(0, 0.0), *((count, 1.0) for count in sorted(counts))]
    extra = loaded - cpus
    busy = [(count, 1.0) for count in range(1, cpus + 1)]
    busy += [(cpus, (i + 1) / (extra + 1)) for i in range(extra)]
    return [(0, 0.0), *sorted(busy, key=lambda step: step[0] * step[1])]


def cores_first(cpus: Sequence[int], below: Path = Path("/sys/devices/system/cpu")) -> list[int]:
    """The CPUs as the kernel fills them: the first thread of each core before any second one."""

    def rank(cpu: int) -> tuple[int, int]:
        try:
            text = (below / f"cpu{cpu}/topology/thread_siblings_list").read_text()
            ranges = [part.split("-") for part in text.strip().split(",")]
            threads = [n for ends in ranges for n in range(int(ends[0]), int(ends[-1]) + 1)]
            return threads.index(cpu), cpu
        except (OSError, ValueError):
            return 0, cpu

    return sorted(cpus, key=rank)


@contextlib.contextmanager
def busy(cpus: Sequence[int], duty: float) -> Iterator[None]:
    """Keeps these CPUs busy meanwhile."""
    workers: list[subprocess.Popen[bytes]] = []
    try:
        for cpu in cpus:
            command = [sys.executable, "-I", "-S", "-c", WORKER]
            workers.append(
                subprocess.Popen(  # noqa: S603 - this interpreter and a text of our own
                    [*command, str(cpu), str(duty), str(os.getpid())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
        yield
        if any(worker.poll() is not None for worker in workers):
            raise CalibrationError("a busy worker ended before its time")
    finally:
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.wait()


def _measure(
    seconds: float,
    root: str | None,
    cpus: int = 0,
    duty: float = 0.0,
    references: Sequence[Reference] = (),
) -> _Step:
    wanted = ["rapl", "perf", "hwmon", "psutil"]
    meter = EnergyMeter(wanted, root=root, reference=references or None)
    begin = time.time()
    with meter:
        time.sleep(seconds)
    reading = meter.reading
    busy = reading.system.get("cpu_percent")
    if busy is None:
        raise CalibrationError(f"how busy the machine is, is unknown: {reading.system_reason}")
    length = reading.duration
    methods = {"rapl": reading.rapl, "perf": reading.perf}
    joules = {name.split(":", 1)[1]: column[-1] for name, column in meter.timeline().joules.items()}
    factors = {}
    for domain in _core.DOMAINS:
        rapl, perf = reading.rapl.estimate(domain), reading.perf.estimate(domain)
        if rapl is not None and perf is not None and perf.value > 0:
            factors[domain] = rapl.value / perf.value
    return _Step(
        cpus=cpus,
        duty=duty,
        load=busy / 100,
        seconds=length,
        begin=begin,
        watts={n: m.package / length for n, m in methods.items() if m.package is not None},
        dram={n: m.dram / length for n, m in methods.items() if m.dram is not None},
        zones={name: float(value) / length for name, value in joules.items()},
        factors=factors,
        mhz=reading.system.get("cpu_freq_current"),
        meter=meter if references else None,
    )


def _at_rest(
    seconds: float,
    arguments: argparse.Namespace,
    *,
    counter: bool,
    references: Sequence[Reference] = (),
) -> _Step:
    step = _measure(seconds, arguments.root, references=references)
    if counter and not step.zones:
        why = no_counter(arguments.root, "calibrate")
        if not _is_virtual(_core.doctor(arguments.root)):
            why += (
                "; a meter of the whole machine can take its place: --reference METER, or its rows "
                "by --meter-file FILE"
            )
        raise CalibrationError(why)
    cpus = _core.cpu_identity(arguments.root)["logical_cpus"]
    most = arguments.max_busy or min(RESTING_PERCENT, 100 * RESTING_CPUS / cpus)
    if most < 100 and step.load * 100 >= most:
        raise CalibrationError(
            "close programs, or allow it with --max-busy N: the machine was not at rest (busy: "
            f"{step.load * 100:.1f} %, wanted: below {format_number(most)} %)"
        )
    return step


VIRTUAL = "this is a virtual machine: only its host has"
"""How a finding of the doctor begins to say so."""


def counter_fix(findings: Sequence[Mapping[str, Any]]) -> str | None:
    """The command after which an energy counter can be read, ``None`` where none is of use or where
    one can be read now. ``findings`` are the doctor's."""
    counters = [f for f in findings if f["method"] in ("rapl", "perf")]
    if any(f["available"] for f in counters):
        return None
    # perf's other advice is about counters of the process.
    fixes = [f["fix"] for f in counters if f["fix"] and "paranoid=2" not in f["fix"]]
    return str(fixes[0]) if fixes else None


def _is_virtual(findings: Sequence[Mapping[str, Any]]) -> bool:
    return any(VIRTUAL in (finding["reason"] or "") for finding in findings)


def no_counter(root: str | None, command: str) -> str:
    """Why ``lithowatt COMMAND`` finds no energy counter here, and what can be done."""
    findings = _core.doctor(root)
    fix = counter_fix(findings)
    if _is_virtual(findings):
        return "there is no energy counter here: this is a virtual machine"
    if fix is None:
        return "there is no energy counter here"
    if "modprobe" in fix:
        return f"there is no energy counter here yet; first {runnable(fix)}"
    return (
        "there is an energy counter, and this user may not read it; run "
        f"{runnable(f'{OURS} {command}')}, or {runnable(fix)} first"
    )


# -- what is stored ---------------------------------------------------------------------------


def _store(
    path: Path,
    root: str | None,
    rest: _Step,
    idle_watts: dict[str, float],
    curve: dict[str, Any] | None,
    whole: Sequence[dict[str, Any]] = (),
) -> None:
    stored: dict[str, Any] = {
        "schema": 1,
        "machine": _core.cpu_identity(root)["name"],
        "on": _core.machine_identity(root),
        "date": time.time(),
        "idle_watts": idle_watts,
        "factors": rest.factors,
        "reference": "powercap per perf" if rest.factors else None,
    }
    if curve is not None:
        stored["curve"] = curve
    if whole:
        stored["whole_machine"] = list(whole)
    _core.write_calibration(json.dumps(stored), path)
    for name, watts in idle_watts.items():
        print(f"{name}: {format_number(watts)} W idle")
    for domain, factor in rest.factors.items():
        print(f"{domain}: powercap reads {format_number(factor)} times what perf reads")
    print(f"stored in {path}")
    if os.geteuid() == 0 and path != SYSTEM_PATH:
        print(f"for all users: install -D -m 644 {shlex.quote(str(path))} {SYSTEM_PATH}")


def _spare(path: Path, root: str | None) -> None:
    """Says that another machine's calibration is replaced.

    Raises:
        CalibrationError: It would be by one of another root than this machine's own.
    """
    why = None
    with contextlib.suppress(LithowattError, OSError):
        why = _core.calibration_unused(path, root)
    if why is None:
        return
    if Path(root or os.environ.get("LITHOWATT_ROOT") or "/") != Path("/"):
        raise CalibrationError(
            f"set LITHOWATT_STATE_DIR to another directory: {path} holds a calibration that is not "
            f"of {root or os.environ['LITHOWATT_ROOT']} ({why})"
        )
    print(f"replacing what {path} holds: {why}")


def _idle_only(arguments: argparse.Namespace, path: Path) -> int:
    _spare(path, arguments.root)
    rest = _at_rest(arguments.seconds or 5.0, arguments, counter=True)
    # A curve of this machine stays.
    curve = None
    with contextlib.suppress(LithowattError, OSError):
        if _core.calibration_unused(path, arguments.root) is None:
            curve = _core.read_calibration(path).get("curve")
    _store(path, arguments.root, rest, rest.zones, curve)
    return 0


def _ladder(arguments: argparse.Namespace, path: Path) -> int:
    _spare(path, None)
    identity = _core.cpu_identity(None)
    cpus = cores_first(sorted(os.sched_getaffinity(0)))
    if len(cpus) < identity["logical_cpus"]:
        raise CalibrationError(
            f"this process may use {len(cpus)} of {identity['logical_cpus']} CPUs, and the ladder "
            "needs all of them"
        )
    references = open_references(arguments.reference or [], arguments.root)
    seconds = arguments.seconds or (REFERENCE_SECONDS if references else 3.0)
    external = None if arguments.meter_file is None else Path(arguments.meter_file)
    # What is wrong with a meter is reported before anything is loaded.
    if external is not None and not _meter_rows(external):
        raise CalibrationError(
            f"{external} has no rows; expected a file to which a meter adds rows meanwhile"
        )
    offset = arguments.meter_offset or 0.0
    slow = external is not None or bool(references)
    if slow and identity["hypervisor"] and not arguments.force:
        raise CalibrationError(
            "this is a virtual machine, and a meter shows its whole host, all of whose watts would "
            "be taken for this machine's (--force stores them all the same)"
        )
    lag = longest_delay(references)
    steps: list[_Step] = []
    with contextlib.ExitStack() as watched:
        for reference in references:
            # Without a pause from step to step, so that each begins with a reading.
            reference.start()
            watched.callback(reference.stop)
        nothing = nothing_from(references)
        if nothing is not None:
            raise CalibrationError(f"{nothing}; without --reference a counter alone is used")
        if references:
            time.sleep(max(METER_SETTLE_SECONDS, lag))
        for count, duty in plan(arguments.levels or 5, len(cpus)):
            if count:
                with busy(cpus[:count], duty):
                    time.sleep(max(METER_SETTLE_SECONDS, lag) if slow else SETTLE_SECONDS)
                    steps.append(_measure(seconds, arguments.root, count, duty, references))
                    time.sleep(lag)
            else:
                steps.append(_at_rest(seconds, arguments, counter=not slow, references=references))
                if external is not None:
                    _meter_watts(external, offset, steps)
                if not slow and not steps[0].watts and not references:
                    raise CalibrationError(
                        "a curve is fitted to RAPL, perf or an external meter, and here are "
                        "sensors of hwmon: --idle-only stores their power at rest"
                    )
                time.sleep(lag)
                if references and not steps[0].watts:
                    references[0].wait(time.monotonic())
                    _reference_watts(steps, references[0])
            print(f"{steps[-1].name()}: {_percent(steps[-1].load)} busy", flush=True)
    rest = steps[0]
    whole = _against(steps, references)
    if references and not all(rest.watts.keys() & step.watts.keys() for step in steps):
        method = "meter-file"
        watts = _reference_watts(steps, references[0])
    elif external is not None:
        method = "meter-file"
        watts = _meter_watts(external, offset, steps)
    else:
        method = "rapl" if "rapl" in rest.watts else "perf"
        if any(method not in step.watts for step in steps):
            raise CalibrationError(f"{method} has no package energy in each of the steps")
        watts = [step.watts[method] for step in steps]
    curve, problems = _curve(steps, watts, method, identity)
    _report(steps, watts, curve, method)
    if problems and not arguments.force:
        raise CalibrationError("; ".join(problems) + " (--force stores it all the same)")
    for problem in problems:
        print(f"stored in spite of it: {problem}")
    idle = _idle_watts(rest, watts[0], curve, method)
    _store(path, arguments.root, rest, idle, curve, whole)
    return 0


def _against(steps: list[_Step], references: Sequence[Reference]) -> list[dict[str, Any]]:
    """The counters against each meter of the whole machine, printed and as it is stored."""
    for reference in references:
        reference.wait(time.monotonic())
    windows = [
        Window.of(step.name(), step.meter.reading) for step in steps if step.meter is not None
    ]
    if not windows:
        return []
    print("\n".join(table(windows, [reference.name for reference in references])))
    method = windows[0].method
    stored = []
    for reference in references:
        line = line_of(windows, reference.name, reference.sensor.relative)
        if line is None or method is None:
            continue
        print("\n".join(told(line, reference.name, method)))
        for problem in beyond(windows, reference.name):
            print(f"warning: {problem}")
        stored.append({"reference": reference.name, "counter": method, **line})
    return stored


def _reference_watts(steps: list[_Step], reference: Reference) -> list[float]:
    """Mean power of each step where no counter is there."""
    watts = []
    for step in steps:
        if step.meter is None:
            continue
        found = step.meter.reading.machine_reference[reference.name]
        if found.energy is None:
            raise CalibrationError(f"{reference.name} in the step {step.name()}: {found.reason}")
        watts.append(found.energy.value / step.seconds)
    return watts


def _curve(
    steps: list[_Step], watts: list[float], method: str, identity: dict[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """The fitted curve as it is stored, and why it had better not be."""
    cpus = identity["logical_cpus"]
    sockets = identity["sockets"] or 1
    cores = max((identity["physical_cores"] or cpus) / sockets, 1.0)
    points = [(s.load, s.spread(cpus), w) for s, w in zip(steps, watts, strict=True)]
    fit = _core.fit_curve(points, cores, max(round(cpus / sockets / cores), 1))
    if fit is None:
        raise CalibrationError(f"no curve goes through {[round(w, 3) for w in watts]} W")
    problems = []
    least, full = (pick(step.load * 100 for step in steps) for pick in (min, max))
    if full - least < LEAST_SPAN_PERCENT:
        problems.append(
            f"the load of the machine went from {least:.0f} % to {full:.0f} % only: others keep it "
            "busy"
        )
    elif watts[-1] <= watts[0] * (1 + LEAST_RISE):
        problems.append(
            f"full load took {watts[-1]:.1f} W and idle {watts[0]:.1f} W: these watts do not "
            "follow the load of this machine"
        )
    if fit["residual_percent"] > MOST_RESIDUAL_PERCENT:
        problems.append(
            f"the fit leaves {fit['residual_percent']:.0f} %, more than {MOST_RESIDUAL_PERCENT:.0f}"
            " %: something else changed the power meanwhile"
        )
    if steps[-1].load * 100 < LEAST_FULL_PERCENT:
        problems.append(
            f"with all CPUs busy the load was {steps[-1].load * 100:.0f} %: something holds our "
            "workers back"
        )
    for step, residual in zip(steps, fit["residuals_percent"], strict=True):
        step.residual = residual
    curve = {
        "date": time.time(),
        "method": method,
        "lithowatt": _core.__version__,
        "logical_cpus": cpus,
        "cores_per_socket": cores,
        "full_mhz": steps[-1].mhz,
        "memory": _memory(steps, method),
        **{
            name: fit[name]
            for name in (
                "idle_w",
                "wake_w",
                "core_w",
                "low_clock",
                "second_thread",
                "residual_percent",
                "band",
            )
        },
        "points": [
            {
                "cpus": step.cpus,
                "duty": step.duty,
                "load_percent": step.load * 100,
                "seconds": step.seconds,
                "watts": power,
                "dram_watts": step.dram.get(method),
                "mhz": step.mhz,
                "residual_percent": step.residual,
            }
            for step, power in zip(steps, watts, strict=True)
        ],
    }
    return curve, problems


def _memory(steps: list[_Step], method: str) -> dict[str, float] | None:
    """Memory's power at rest and what full load adds: a line through the steps."""
    gib = _core.surroundings(None)["memory_gib"]
    if not gib or any(method not in step.dram for step in steps):
        return None
    loads, watts = [s.load for s in steps], [s.dram[method] for s in steps]
    mean_load, mean_watts = sum(loads) / len(loads), sum(watts) / len(watts)
    square = sum((u - mean_load) ** 2 for u in loads)
    rise = sum((u - mean_load) * w for u, w in zip(loads, watts, strict=True))
    active = max(0.0, rise / square) if square > 0 else 0.0
    idle = mean_watts - active * mean_load
    if idle < 0:
        idle, active = 0.0, _rise_through_zero(loads, watts)
    return {"idle_w": idle, "active_w": active, "gib": gib}


def _rise_through_zero(loads: list[float], watts: list[float]) -> float:
    """Slope of the line through the origin that fits best."""
    products = sum(u * w for u, w in zip(loads, watts, strict=True))
    return products / sum(u * u for u in loads)


def _idle_watts(
    rest: _Step, measured: float, curve: dict[str, Any], method: str
) -> dict[str, float]:
    """Power of each zone at rest, less what the little load of the first step took."""
    if method == "meter-file":
        return rest.zones if rest.load * 100 < RESTING_PERCENT else {}
    part = min(1.0, curve["idle_w"] / measured)
    memory, memory_part = curve["memory"], 1.0
    if memory and rest.dram[method] > 0:
        memory_part = min(1.0, memory["idle_w"] / rest.dram[method])
    return {
        name: watts * (memory_part if "dram" in name else part)
        for name, watts in rest.zones.items()
    }


def _report(steps: list[_Step], watts: list[float], curve: dict[str, Any], method: str) -> None:
    rows = [("step", "busy", "power", "memory", "fit")]
    for step, power in zip(steps, watts, strict=True):
        dram = step.dram.get(method)
        rows.append(
            (
                step.name(),
                _percent(step.load),
                f"{power:.2f} W",
                "" if dram is None else f"{dram:.2f} W",
                f"{step.residual:+.1f} %",
            )
        )
    print("\n".join(aligned(rows, right=range(1, 5))))
    whole = ", of the whole machine" if method == "meter-file" else ""
    print(
        f"curve by {method}{whole}: {curve['idle_w']:.2f} W idle + {curve['wake_w']:.2f} W awake "
        f"+ {curve['core_w']:.2f} W cores"
    )
    print(f"  residual {curve['residual_percent']:.1f} %, band ±{(curve['band'] - 1) * 100:.0f} %")


def _percent(part: float) -> str:
    return f"{part * 100:.1f} %"


def curve_line(
    calibration: dict[str, Any], root: str | None, findings: Sequence[Mapping[str, Any]]
) -> str:
    """The stored curve for ``lithowatt doctor``, and whether it is used here."""
    if calibration["problem"]:
        return f"the shipped one; a calibration cannot be read: {calibration['problem']}"
    curve = (calibration["stored"] or {}).get("curve")
    if not curve:
        how = "lithowatt calibrate"
        if counter_fix(findings) is not None:
            how = runnable(f"{OURS} calibrate")
        elif _is_virtual(findings):
            return "the shipped one; nothing to fit it to is seen in a virtual machine"
        elif not any(f["available"] for f in findings if f["method"] in ("rapl", "perf")):
            meter = next(iter(available(root)), "METER (docs/how-to/whole-machine.md)")
            how = with_reference("calibrate", meter)
        return f"the shipped one; fit it to this machine: {how}"
    day = time.strftime("%Y-%m-%d", time.gmtime(curve["date"]))
    whole = " (wall power of the whole machine)" if curve["method"] == "meter-file" else ""
    full = curve["idle_w"] + curve["wake_w"] + curve["core_w"]
    text = (
        f"calibrated on {day} by {curve['method']}{whole}: {curve['idle_w']:.1f} to {full:.1f} W, "
        f"residual {curve['residual_percent']:.1f} %, {curve['logical_cpus']} CPUs, "
        f"lithowatt {curve['lithowatt']}"
    )
    unused = _core.curve_unused(calibration["path"], root)
    return text if unused is None else f"{text}; not used: {unused}"


# -- an external meter ------------------------------------------------------------------------


def _meter_rows(path: Path) -> list[tuple[float, float]]:
    """Times (s since the epoch) and watts of a meter's file.

    A last line without its end is still being written and does not count.
    """
    try:
        text = read_plain(path, MOST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CalibrationError(f"{path} is no UTF-8 text: {error.reason}") from None
    except OSError as error:
        raise CalibrationError(f"{path}: {error.strerror}") from None
    text = text[: text.rfind("\n") + 1]
    lines = csv.reader(text.splitlines())
    header = [cell.strip().lower() for cell in next(lines, [])]
    if header != ["timestamp", "watts"]:
        raise CalibrationError(
            f"{path} must begin with the line timestamp,watts, not {','.join(header)[:64]!r}"
        )
    rows: list[tuple[float, float]] = []
    for number, row in enumerate(lines, 2):
        if not row:
            continue
        where = f"{path}, line {number}"
        if len(row) != 2:
            raise CalibrationError(f"{where}: {len(row)} fields instead of timestamp,watts")
        when = moment(row[0].strip(), None)
        if when is None:
            raise CalibrationError(
                f"{where}: {row[0][:64]!r} is neither ISO 8601 nor seconds since the epoch"
            )
        try:
            watts = float(row[1])
        except ValueError:
            watts = math.nan
        if not 0 <= watts < MOST_WATTS:
            raise CalibrationError(f"{where}: {row[1][:64]!r} is no number of watts, 0 or more")
        if rows and when < rows[-1][0]:
            raise CalibrationError(f"{where}: its time is before that of the line above")
        rows.append((when, watts))
    return rows


def _meter_watts(path: Path, offset: float, steps: list[_Step]) -> list[float]:
    """Mean power within each step."""
    end = steps[-1].begin + steps[-1].seconds
    patience = time.monotonic() + METER_PATIENCE_SECONDS
    rows = _meter_rows(path)
    while (not rows or rows[-1][0] + offset < end) and time.monotonic() < patience:
        time.sleep(0.2)
        rows = _meter_rows(path)
    found = []
    for step in steps:
        until = step.begin + step.seconds
        within = [watts for when, watts in rows if step.begin <= when + offset <= until]
        if not within:
            clock = [
                datetime.fromtimestamp(t).isoformat(" ", "seconds") for t in (step.begin, until)
            ]
            has = "it has no rows"
            if rows:
                first, last = (
                    datetime.fromtimestamp(rows[i][0] + offset).isoformat(" ", "seconds")
                    for i in (0, -1)
                )
                has = f"its rows are from {first} to {last}; --meter-offset shifts them"
            raise CalibrationError(
                f"{path} has no row from {clock[0]} to {clock[1]} (step: {step.name()}); {has}"
            )
        found.append(sum(within) / len(within))
    return found
