"""``lithowatt doctor``: what can be measured here, why not, and what would change it."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

from lithowatt import _core
from lithowatt._support.command import OURS, complain, runnable
from lithowatt._support.text import (
    aligned,
    format_number,
    terminal_width,
    with_command,
    wrapped,
)
from lithowatt.cli._problems import problems
from lithowatt.errors import LithowattError, UnavailableError
from lithowatt.meter._doctor import found
from lithowatt.model._calibrate import SYSTEM_PATH, VIRTUAL, counter_fix, curve_line
from lithowatt.reference._open import available, with_reference

if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection, Iterator

GROUPS = {
    "rapl": "counter",
    "perf": "counter",
    "hwmon": "counter",
    "guest": "counter",
    "nvml": "GPUs",
    "meters": "reference",
    "ebpf": "shares",
    "psutil": "shares",
    "tdp": "model",
}
"""What a method is for: joules of the machine, their division, joules where none are counted,
or those of GPUs."""

EVENTS = ("task-clock", "cycles", "instructions")
"""What perf gives of a process, which is no energy."""

NOT_LOADED = 1
"""Exit code where ``--load`` loaded nothing that other processes see."""


def add_cli(commands: Any) -> None:
    """Adds ``doctor`` to the command line."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "doctor",
        help="show what this machine can measure, why not more, and the command that fixes it",
        description="Shows first what kind of joules you get here. Exit code 0; 1 where --load "
        "could not load the probes for every process; 2 for an error.",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("-v", "--verbose", action="store_true", help="name sources, too")
    parser.add_argument("--root", help="look for /sys and /proc below this directory")
    probes = parser.add_mutually_exclusive_group()
    probes.add_argument(
        "--load", action="store_true", help="load the kernel probes (eBPF) for every process first"
    )
    probes.add_argument(
        "--unload", action="store_true", help="take the kernel probes of every version out again"
    )
    parser.set_defaults(func=doctor)


COUNTERS = ("rapl", "perf", "hwmon", "guest")
"""Methods that count joules of the machine, the likeliest first."""


def doctor(arguments: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    root = arguments.root
    if arguments.load:
        try:
            _core.load_probes(root)
        except UnavailableError as error:
            raise UnavailableError(_with_mount(str(error), root)) from None
    elif arguments.unload:
        gone = _core.unload_probes(root)
        if not arguments.json:
            print("\n".join(f"removed {path}" for path in gone) or "no kernel probes were loaded")
            print()
    findings = found(root)
    if arguments.json:
        report = {
            "cpu": _core.cpu_identity(root),
            "here": _surroundings(root),
            "methods": findings,
            "calibration": _calibration(root),
            "references": available(root),
            "problems": problems(root),
            "verdict": verdict(findings),
        }
        print(json.dumps(report, indent=2))
    else:
        _print(findings, root, arguments.verbose)
    probes = next(finding for finding in findings if finding["method"] == "ebpf")
    if arguments.load and not probes["available"]:
        # Loading may work for this process alone, which ends.
        fix = f"; run {probes['fix']}" if probes["fix"] else ""
        complain(f"no kernel probes were loaded for other processes: {probes['reason']}{fix}")
        return NOT_LOADED
    return 0


def _with_mount(text: str, root: str | None) -> str:
    """What forbids loading, with what has to be done before it, too."""
    (probes,) = found(root, ["ebpf"])
    text, load = runnable(text), runnable(f"{OURS} doctor --load")
    if "mount -t bpf" in (probes["fix"] or ""):
        text = text.replace(load, probes["fix"])
    return text


def verdict(findings: list[dict[str, Any]]) -> str:
    """What kind of joules there are here, and what would make them better."""
    kind, way, command = _verdict(findings)
    return " ".join(part for part in (kind, way, command) if part)


def _verdict(findings: list[dict[str, Any]]) -> tuple[str, str, str]:
    """The kind of joules, what there is to say of it, and a command that makes them better."""
    by = {finding["method"]: finding for finding in findings}
    # perf's other counters are there without its energy counters.
    for method in COUNTERS:
        if by[method]["available"]:
            zones = ", ".join(by[method]["gives"])
            kind = f"You get measured joules by {method} ({zones})."
            if method == "guest":
                return kind, "The host states this machine's part: CPU use divides it further.", ""
            return kind, "The counter is the whole machine's: CPU use divides its joules.", ""
    fitted = any(name.startswith("model:calibrated-") for name in by["tdp"]["gives"])
    band = "by the curve fitted to this machine" if fitted else "a factor of 2 to 6 each way"
    kind = f"You get MODELLED joules (95 % band: {band})."
    fix = counter_fix(findings)
    if fix is not None:
        return kind, "To measure them:", fix
    if VIRTUAL in (by["rapl"]["reason"] or ""):
        way = "This is a virtual machine: only its host has an energy counter, and may hand on"
        return kind, f"{way} this machine's part (docs/how-to/virtual-machines.md).", ""
    return kind, "No energy counter can be read here.", ""


def _print(findings: list[dict[str, Any]], root: str | None, verbose: bool) -> None:
    width = terminal_width()
    for line in _lines(findings, root, verbose, width):
        print(line)


def _lines(
    findings: list[dict[str, Any]], root: str | None, verbose: bool, width: int
) -> Iterator[str]:
    """The report: at most ``width`` characters a line, but for a command or path that is longer."""
    kind, way, command = _verdict(findings)
    yield from wrapped(kind, width, "")
    yield from with_command(f"{way} {command}".strip(), width, hanging="  ")
    if "setup --group" in command:
        yield from _of_rights(width)
    yield ""
    calibration = _calibration(root)
    counted = {f["method"] for f in findings if f["available"]}.intersection(COUNTERS)
    reference = {
        "method": "meters",
        "available": bool(available(root)),
        "gives": [],
        "reason": whole_machine_line(calibration, root, bool(counted)),
        "fix": None,
    }
    yield from _table(_with_reference(findings, reference), command, verbose, width)
    yield ""
    cpu = _core.cpu_identity(root)
    cores = cpu["physical_cores"] or "?"
    processor = (
        f"{cpu['name']} ({cpu['architecture']}, {cores} cores, {cpu['logical_cpus']} threads)"
    )
    for label, text in (
        ("processor", processor),
        ("here", _surroundings_line(_surroundings(root))),
        ("idle power", _idle_line(calibration, counted)),
        ("power curve", curve_line(calibration, root, findings)),
    ):
        first, *rest = _facts([f"{label}: {text}"], width - 2)
        yield first
        yield from ("  " + line for line in rest)
    for problem in problems(root):
        yield from wrapped(f"warning: {problem}", width, "", "  ")


def _with_reference(
    findings: list[dict[str, Any]], reference: dict[str, Any]
) -> list[dict[str, Any]]:
    """The rows of the table: after what counts, what it can be compared with."""
    counts = [f for f in findings if GROUPS.get(f["method"]) in ("counter", "GPUs")]
    return [*counts, reference, *(f for f in findings if f not in counts)]


def whole_machine_line(calibration: dict[str, Any], root: str | None, counted: bool) -> str:
    """Which meters of the whole machine there are by the files of devices, which are not opened,
    and what the counter was against one. ``counted``: there is a counter to compare with."""
    here = available(root)
    text = "no meter is seen here; a plug's file or messages can be one"
    if here:
        what, command = ("compare", "validate --load") if counted else ("fit", "calibrate")
        text = f"{', '.join(here)}; {what}: {with_reference(command, here[0])}"
    stored = calibration.get("stored") if calibration.get("unused") is None else None
    for line in (stored or {}).get("whole_machine") or ():
        part, slope, offset = line["part"], line.get("slope"), line.get("offset")
        text += (
            f"; {line['counter']} counted {part['value']:.0%} of {line['reference']} "
            f"({part['low']:.0%} to {part['high']:.0%})"
        ).replace("%", " %")
        if slope and offset:
            text += (
                f"; {line['reference']} = {offset['value']:.3g} W "
                f"({offset['low']:.3g} to {offset['high']:.3g}) + {slope['value']:.3g} "
                f"({slope['low']:.3g} to {slope['high']:.3g}) × {line['counter']}"
            )
    return text


def _of_rights(width: int) -> Iterator[str]:
    """What the right to read counters means, and what to do instead."""
    told = (
        "That shows first what it does, lets your group read the counters now and after each boot, "
        "and --undo takes it back. Counters this fine can reveal secrets of other programs "
        "(CVE-2020-8694)."
    )
    yield from wrapped(told, width, "  ")
    told = "Or leave them to root, whose agent gives everybody the joules in coarser steps"
    yield from wrapped(f"{told} (docs/how-to/agent.md):", width, "  ")
    yield f"    {runnable(f'{OURS} setup --agent')}"


def _table(findings: list[dict[str, Any]], told: str, verbose: bool, width: int) -> Iterator[str]:
    """A line a fact, grouped by what the method is for; ``told``: a command that was named."""
    rows = [("", "method", "here", "")]
    before = ""
    for finding in findings:
        group = GROUPS.get(finding["method"], "")
        name = "model" if finding["method"] == "tdp" else finding["method"]
        rows.append(
            ("" if group == before else group, name, "yes" if finding["available"] else "no", "")
        )
        before = group
    lines = aligned([row[:3] for row in rows])
    margin = max(map(len, lines)) + 2
    yield lines[0]
    for line, finding in zip(lines[1:], findings, strict=True):
        facts = _facts(_said(finding, verbose), width - margin)
        for number, fact in enumerate(facts or [""]):
            yield f"{'' if number else line:<{margin}}{fact}".rstrip()
        fix = finding["fix"]
        if fix and fix != told:
            # A command is never broken: it is there to be copied.
            steps = fix.split(" && ")
            named = [f"fix: {fix}"]
            if steps[1:]:
                named = ["fix:", *(f"  {at}) {step}" for at, step in enumerate(steps, 1))]
            indent = " " * (margin if max(map(len, named)) + margin <= width else 4)
            yield from (indent + line for line in named)


def _said(finding: dict[str, Any], verbose: bool) -> list[str]:
    """What a method gives and why not more, a fact each; where a number is from, only if asked."""
    why = finding["reason"] or ""
    events = [name for name in finding["gives"] if name in EVENTS]
    gives = ", ".join(name for name in finding["gives"] if name not in EVENTS)
    if finding["method"] == "psutil" and gives:
        gives = f"CPU time in /proc: {gives}"
    if not verbose and VIRTUAL in why:
        return ["not on this virtual machine (only its host has one)"]
    facts = [gives, *why.split("; ")]
    if events:
        # After what it gives of energy, or the first reason why that is nothing.
        facts.insert(1 if gives else 2, f"of a process: {', '.join(events)}")
    if finding["method"] == "ebpf" and not finding["available"]:
        facts.append("optional: exact CPU time of a function and its children")
    return [fact for fact in facts if fact and (verbose or "://" not in fact)]


def _facts(texts: list[str], room: int) -> list[str]:
    """Lines of texts, a fact each: what stands between semicolons."""
    facts = [fact for text in texts for fact in text.split("; ")]
    return [line for fact in facts for line in with_command(fact, room, hanging="  ")]


def _surroundings(root: str | None) -> dict[str, Any]:
    """Platform, limits, and on EC2 what the metadata service answers, which only this asks."""
    from dataclasses import asdict

    from lithowatt.aws import detect_aws_instance_info
    from lithowatt.environment import detect_environment

    environment = detect_environment(root)
    here = asdict(environment)
    if environment.provider == "aws" and not environment.is_lambda:
        # Another root may be another machine's, and the service describes this one.
        ours = (root or os.environ.get("LITHOWATT_ROOT") or "/") == "/"
        info = detect_aws_instance_info(root, imds=ours)
        here["instance_type"] = info["instance_type"]
        here["region"] = info["region"]
        here["instance_source"] = info["source"]
    return here


def _surroundings_line(here: dict[str, Any]) -> str:
    told = f" ({', '.join(here['evidence'])})" if here["evidence"] else ""
    parts = [f"{here['platform']}{told}"]
    if here["instance_type"]:
        parts.append(here["instance_type"])
    elif "instance_source" in here:
        parts.append(f"instance type {here['instance_source']}")
    if here["region"]:
        parts.append(here["region"])
    limit = "" if here["cpus_set_by"] == "machine" else f" by {here['cpus_set_by']}"
    parts.append(f"{format_number(here['cpus'])} CPUs{limit}")
    if here["memory_mb"]:
        parts.append(f"{here['memory_mb']} MiB")
    return ", ".join(parts)


def _calibration(root: str | None) -> dict[str, Any]:
    """The stored calibration and why it is not used here, or why there is none."""
    path = _core.calibration_path()
    # As the core does: who has none of their own uses the machine's.
    if (path is None or not os.access(path, os.R_OK)) and SYSTEM_PATH.exists():
        path = SYSTEM_PATH
    if path is None:
        return {"path": None, "problem": "no home directory and no LITHOWATT_STATE_DIR"}
    try:
        path.stat()
        unused = _core.calibration_unused(path, root)
        if unused is not None and SYSTEM_PATH.exists():
            path, unused = SYSTEM_PATH, _core.calibration_unused(SYSTEM_PATH, root)
        stored = _core.read_calibration(path)
        return {"path": str(path), "problem": None, "stored": stored, "unused": unused}
    except FileNotFoundError:
        return {"path": str(path), "problem": None, "stored": None}
    except (LithowattError, OSError) as error:
        return {"path": str(path), "problem": str(error), "stored": None}


def _idle_line(calibration: dict[str, Any], counted: Collection[str]) -> str:
    if calibration.get("problem"):
        return f"modelled; {calibration['problem']}"
    stored = calibration.get("stored")
    unused = calibration.get("unused")
    if stored and stored["idle_watts"] and unused is None:
        day = time.strftime("%Y-%m-%d", time.gmtime(stored["date"]))
        watts = ", ".join(f"{k} {format_number(v)} W" for k, v in stored["idle_watts"].items())
        return f"calibrated on {day}: {watts}"
    without = _uncalibrated(counted)
    return without if unused is None else f"{without}; what is stored is not used: {unused}"


def _uncalibrated(counted: Collection[str]) -> str:
    """Where idle power is from without a calibration, by the methods that count joules."""
    configured = os.environ.get("LITHOWATT_IDLE_WATTS")
    if configured:
        try:
            usable = 0 <= float(configured) < float("inf")
        except ValueError:
            usable = False
        if usable:
            return f"configured: {configured} W"
        return f"modelled; LITHOWATT_IDLE_WATTS={configured!r} is no number of watts, 0 or more"
    if not counted:
        return "modelled: there is no counter to measure it with"
    if set(counted) == {"guest"}:
        return "0 until this machine is seen at rest, then what the host stated of it meanwhile"
    # The ladder without this is for RAPL and perf alone.
    how = "lithowatt calibrate --idle-only"
    return f"modelled until the machine is seen at rest; measure it once: {how}"
