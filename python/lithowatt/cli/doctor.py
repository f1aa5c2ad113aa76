"""``lithowatt doctor``: what can be measured here, why not, and what would change it."""

from __future__ import annotations

import json
import os
import shutil
import textwrap
import time
from typing import TYPE_CHECKING, Any

from lithowatt import _core
from lithowatt._support.command import complain, runnable
from lithowatt._support.text import format_number
from lithowatt.cli._problems import problems
from lithowatt.errors import LithowattError, UnavailableError
from lithowatt.model._calibrate import SYSTEM_PATH, counter_fix, curve_line

if TYPE_CHECKING:
    import argparse

WIDTH = 100
"""Lines are at most so wide, and no wider than the terminal."""

NOT_LOADED = 1
"""Exit code where ``--load`` loaded nothing that other processes see."""

TMPFILES = "z /sys/class/powercap/*/energy_uj 0444 root root -"
"""What systemd-tmpfiles makes of the counters at each boot (tmpfiles.d(5))."""

KEEP_READABLE = f"""\
  That holds until the next boot, and lets every user read the counters. To keep it:
    echo '{TMPFILES}' \\
      | sudo tee /etc/tmpfiles.d/lithowatt.conf
  Or leave them to root, whose agent gives everybody the joules in coarser steps
  (docs/how-to/agent.md):
    """


def add_cli(commands: Any) -> None:
    """Adds ``doctor`` to the command line."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "doctor",
        help="what this machine can measure, why not, and the command that fixes it",
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
    findings = _findings(root)
    if arguments.json:
        report = {
            "cpu": _core.cpu_identity(root),
            "here": _surroundings(root),
            "methods": findings,
            "calibration": _calibration(),
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


def _findings(root: str | None) -> list[dict[str, Any]]:
    """What the core found, with commands that can be run from here, in their order."""
    findings: list[dict[str, Any]] = _core.doctor(root)
    for finding in findings:
        if finding["fix"]:
            fix = str(finding["fix"])
            if finding["method"] == "ebpf":
                fix = _then_load(fix)
            finding["fix"] = runnable(fix)
    return findings


def _then_load(fix: str) -> str:
    """A BPF file system is of no use alone: the probes have to be loaded into it."""
    return f"{fix} && sudo lithowatt doctor --load" if "mount -t bpf" in fix else fix


def _with_mount(text: str, root: str | None) -> str:
    """What forbids loading, with what has to be done before it, too."""
    needed = next(f["fix"] for f in _core.doctor(root) if f["method"] == "ebpf") or ""
    load = "sudo lithowatt doctor --load"
    if load in text and "mount -t bpf" in needed:
        text = text.replace(load, _then_load(needed))
    return runnable(text)


def verdict(findings: list[dict[str, Any]]) -> str:
    """In one sentence: what kind of joules there are here, and what would make them better."""
    by = {finding["method"]: finding for finding in findings}
    # perf's other counters are there without its energy counters.
    for method in ("rapl", "perf"):
        if by[method]["available"]:
            zones = ", ".join(by[method]["gives"])
            return f"You get joules by an energy counter ({method}: {zones}), divided by CPU use."
    fix = counter_fix(findings)
    band = "You get MODELLED joules (95 % band: a factor of 2 to 4 each way, shown with each)."
    if fix is not None:
        return f"{band} To measure them: {fix}"
    why = by["rapl"]["reason"] or "there is no energy counter"
    machine = "virtual machine: only its host has"
    if machine in why:
        return f"{band} This is a virtual machine: only its host has an energy counter."
    return f"{band} No energy counter can be read here."


def _print(findings: list[dict[str, Any]], root: str | None, verbose: bool) -> None:
    width = min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)
    cpu = _core.cpu_identity(root)
    cores = cpu["physical_cores"] or "?"
    print(verdict(findings))
    if any("energy_uj" in (finding["fix"] or "") for finding in findings):
        print(KEEP_READABLE + runnable("sudo lithowatt agent"))
    print()
    print(f"{cpu['name']} ({cpu['architecture']}, {cores} cores, {cpu['logical_cpus']} threads)")
    print(_surroundings_line(_surroundings(root)))
    print()
    rows = [("method", "here", "what it gives, or why not")]
    for finding in findings:
        why = finding["reason"] or ""
        parts = [", ".join(finding["gives"]), *why.split("; ")]
        # Where a number comes from is for those who ask.
        text = "; ".join(part for part in parts if part and (verbose or "://" not in part))
        rows.append((finding["method"], "yes" if finding["available"] else "no", text))
        if finding["fix"]:
            rows.append(("", "", f"fix: {finding['fix']}"))
    left, middle = (max(len(row[i]) for row in rows) for i in (0, 1))
    indent = " " * (left + middle + 4)
    for name, available, text in rows:
        lines = [text]
        # A command is never broken: it is there to be copied.
        if name:
            room = max(20, width - len(indent))
            lines = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False)
        print(f"{name:<{left}}  {available:<{middle}}  {lines[0] if lines else ''}".rstrip())
        for line in lines[1:]:
            print(indent + line)
    print()
    calibration = _calibration()
    counted = any(f["available"] for f in findings if f["method"] in ("rapl", "perf"))
    print(f"idle power: {_idle_line(calibration, counted)}")
    print(f"power curve: {curve_line(calibration, root, findings)}")
    for problem in problems(root):
        print(f"warning: {problem}")


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
    return "here: " + ", ".join(parts)


def _calibration() -> dict[str, Any]:
    """The stored calibration, or why there is none."""
    path = _core.calibration_path()
    # As the core does: who has none of their own uses the machine's.
    if (path is None or not os.access(path, os.R_OK)) and SYSTEM_PATH.exists():
        path = SYSTEM_PATH
    if path is None:
        return {"path": None, "problem": "no home directory and no LITHOWATT_STATE_DIR"}
    try:
        path.stat()
        return {"path": str(path), "problem": None, "stored": _core.read_calibration(path)}
    except FileNotFoundError:
        return {"path": str(path), "problem": None, "stored": None}
    except (LithowattError, OSError) as error:
        return {"path": str(path), "problem": str(error), "stored": None}


def _idle_line(calibration: dict[str, Any], counted: bool) -> str:
    if calibration.get("problem"):
        return f"modelled; {calibration['problem']}"
    stored = calibration.get("stored")
    if stored and stored["idle_watts"]:
        day = time.strftime("%Y-%m-%d", time.gmtime(stored["date"]))
        watts = ", ".join(f"{k} {format_number(v)} W" for k, v in stored["idle_watts"].items())
        return f"calibrated on {day}: {watts}"
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
    return "modelled until the machine is seen at rest; measure it once: lithowatt calibrate"
