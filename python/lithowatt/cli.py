"""``lithowatt``: what can be measured here, and the joules of a command.

``lithowatt doctor``, ``run -- CMD``, ``top``, ``calibrate``, ``lithops status``,
``profile recommend``, ``agent``.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from lithowatt import _core
from lithowatt._calibrate import SYSTEM_PATH, curve_line
from lithowatt._calibrate import add_cli as add_calibrate_cli
from lithowatt._command import abandon, complain, guarded
from lithowatt._errors import LithowattError
from lithowatt._files import write_atomically
from lithowatt._meter import EnergyMeter
from lithowatt._reading import format_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lithowatt._reading import Reading

DOMAINS = ("package", "core", "uncore", "dram", "psys", "total")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code (`lithowatt._command.guarded`)."""

    def run() -> int:
        arguments = _parser().parse_args(argv)
        return int(arguments.func(arguments))

    return guarded(run)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lithowatt", description="How many joules did this function use?"
    )
    parser.add_argument("--version", action="version", version=f"lithowatt {_core.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    doctor = commands.add_parser(
        "doctor", help="what this machine can measure, why not, and the command that fixes it"
    )
    doctor.add_argument("--json", action="store_true", help="as JSON")
    doctor.add_argument("--root", help="look for /sys and /proc below this directory")
    probes = doctor.add_mutually_exclusive_group()
    probes.add_argument(
        "--load", action="store_true", help="load the kernel probes (eBPF) for every process first"
    )
    probes.add_argument(
        "--unload", action="store_true", help="take the kernel probes of every version out again"
    )
    doctor.set_defaults(func=_doctor)

    run = commands.add_parser(
        "run",
        help="run a command and tell its joules, like perf stat",
        description="Runs CMD and tells its joules on standard error. With --json or --csv they go "
        "to standard output, after CMD's own. The exit code is CMD's (128 + n for signal n).",
    )
    form = run.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as one JSON object")
    form.add_argument("--csv", action="store_true", help="as CSV: a row per method and domain")
    run.add_argument("-o", "--output", help="write to this file instead")
    run.add_argument("--methods", default="auto", help="comma-separated (default: %(default)s)")
    run.add_argument("--interval", type=float, help="seconds between samples (default: 0.1)")
    run.add_argument(
        "--definition",
        choices=("marginal", "amortised"),
        help="joules above idle, or with the share of idle (default: ENERGY_DEFINITION, else "
        "marginal on a machine and amortised in a sandbox for one function)",
    )
    run.add_argument("--root", help="look for /sys and /proc below this directory")
    run.add_argument("command", nargs="+", metavar="CMD", help="the command, after --")
    run.set_defaults(func=_run)

    from lithowatt._agent import add_cli as add_agent_cli
    from lithowatt._cost_cli import add_cli as add_cost_cli
    from lithowatt._top_cli import add_cli as add_top_cli
    from lithowatt.lithops import add_cli
    from lithowatt.profiles._cli import add_cli as add_profile_cli

    add_calibrate_cli(commands)
    add_cli(commands)
    add_profile_cli(commands)
    add_cost_cli(commands)
    add_agent_cli(commands)
    add_top_cli(commands)
    return parser


# -- doctor -----------------------------------------------------------------------------------


def _doctor(arguments: argparse.Namespace) -> int:
    root = arguments.root
    if arguments.load:
        _core.load_probes(root)
    elif arguments.unload:
        gone = _core.unload_probes(root)
        if not arguments.json:
            print("\n".join(f"removed {path}" for path in gone) or "no kernel probes were loaded")
            print()
    findings = _core.doctor(root)
    for finding in findings:
        if finding["fix"]:
            finding["fix"] = _runnable(finding["fix"])
    cpu = _core.cpu_identity(root)
    calibration = _calibration()
    here = _surroundings(root)
    if arguments.json:
        report = {"cpu": cpu, "here": here, "methods": findings, "calibration": calibration}
        print(json.dumps(report, indent=2))
        return 0
    cores = cpu["physical_cores"] or "?"
    print(f"{cpu['name']} ({cpu['architecture']}, {cores} cores, {cpu['logical_cpus']} threads)")
    print(_surroundings_line(here))
    print()
    rows = [("method", "available", "gives / why not")]
    for finding in findings:
        gives = ", ".join(finding["gives"])
        why = finding["reason"] or ""
        text = "; ".join(part for part in (gives, why) if part)
        rows.append((finding["method"], "yes" if finding["available"] else "no", text))
        if finding["fix"]:
            rows.append(("", "", f"fix: {finding['fix']}"))
    left = max(len(row[0]) for row in rows)
    middle = max(len(row[1]) for row in rows)
    for name, available, text in rows:
        print(f"{name:<{left}}  {available:<{middle}}  {text}".rstrip())
    print()
    counted = any(f["available"] for f in findings if f["method"] in ("rapl", "perf"))
    print(f"idle power: {_idle_line(calibration, counted)}")
    print(f"power curve: {curve_line(calibration, root)}")
    return 0


def _runnable(fix: str) -> str:
    """A command as it runs from here: sudo does not look where a virtual environment is."""
    command = shutil.which("lithowatt") or f"{sys.executable} -m lithowatt"
    fix = fix.replace("sudo lithowatt ", f"sudo {command} ")
    return fix.removeprefix("sudo ") if os.geteuid() == 0 else fix


def _surroundings(root: str | None) -> dict[str, Any]:
    """Platform, limits, and on EC2 what the metadata service says, which only this asks for."""
    from dataclasses import asdict

    from lithowatt.aws import detect_aws_instance_info
    from lithowatt.environment import detect_environment

    environment = detect_environment(root)
    here = asdict(environment)
    if environment.provider == "aws" and not environment.is_lambda:
        # Another root may be another machine's, and the service tells of this one.
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


# -- run --------------------------------------------------------------------------------------


def _run(arguments: argparse.Namespace) -> int:
    # An argument need not be text; a label and a report are.
    shown = " ".join(arguments.command).encode("utf-8", "replace").decode("utf-8")
    meter = EnergyMeter(
        methods=arguments.methods,
        interval=... if arguments.interval is None else arguments.interval,
        label=shown,
        root=arguments.root,
        definition=arguments.definition,
    )
    # An output that cannot be written is said before anything runs.
    output = Path(arguments.output) if arguments.output else None
    if output is not None:
        problem = _no_output(output)
        if problem:
            complain(problem)
            return 2
    meter.start()
    try:
        code = _run_child(arguments.command)
    except OSError as error:
        meter.stop()
        complain(f"{arguments.command[0]}: {error.strerror}")
        return 127 if isinstance(error, FileNotFoundError) else 126
    meter.stop()
    reading = meter.reading
    # Whatever becomes of the report, the exit code is the command's.
    stream = None
    try:
        if output is not None:
            text = io.StringIO(newline="")
            _report(reading, arguments, code, text)
            write_atomically(output, text.getvalue())
        else:
            stream = sys.stdout if arguments.json or arguments.csv else sys.stderr
            # A stream that was closed before we started is None.
            if stream is not None:
                _report(reading, arguments, code, stream)
                stream.flush()
    except OSError as error:
        # Before anything else is said: what the stream still holds would be tried once more.
        abandon(stream)
        complain(f"the report could not be written: {error}")
    return code


def _no_output(output: Path) -> str | None:
    """Why a report cannot be written there, ``None`` where it can."""
    if output.is_dir():
        return f"{output} is a directory; --output takes a file"
    if output.exists() and not output.is_file():  # a device or a FIFO is written to, not replaced
        return None if os.access(output, os.W_OK) else f"{output} is not writable"
    if not output.parent.is_dir():
        return f"there is no directory {output.parent} to write {output.name} in"
    if not os.access(output.parent, os.W_OK):
        return f"{output.parent} is not writable"
    return None


def _run_child(command: list[str]) -> int:
    """Runs a command as a shell would: an interrupt is its business, for the terminal sends it
    one; other signals are passed on. Returns its exit code, 128 + n where signal n ended it.

    Raises:
        OSError: Where it cannot be started.
    """
    child: subprocess.Popen[bytes] | None = None
    # Those that come before there is somebody to pass them on to.
    early: list[int] = []

    def forward(number: int, _frame: object) -> None:
        if child is None:
            early.append(number)
        else:
            child.send_signal(number)

    def leave(_number: int, _frame: object) -> None:
        """A handler, because a signal that is ignored would be ignored by the command, too."""

    old = {}
    try:
        for number, handler in (
            (signal.SIGINT, leave),
            (signal.SIGTERM, forward),
            (signal.SIGHUP, forward),
        ):
            # What our parent had ignored (nohup) stays so, for the command as well.
            if signal.getsignal(number) is not signal.SIG_IGN:
                old[number] = signal.signal(number, handler)
        child = subprocess.Popen(command)  # noqa: S603 - running it is the purpose
        while early:
            child.send_signal(early.pop(0))
        code = child.wait()
    finally:
        for number, before in old.items():
            signal.signal(number, before)
    return 128 - code if code < 0 else code


def _report(reading: Reading, arguments: argparse.Namespace, code: int, to: TextIO) -> None:
    if arguments.json:
        json.dump(_as_json(reading, arguments.command, code), to, indent=2)
        to.write("\n")
    elif arguments.csv:
        writer = csv.writer(to)
        writer.writerow(["method", "domain", "joules", "low", "high", "watts", "seconds", "source"])
        for row in _as_rows(reading):
            writer.writerow(["" if value is None else value for value in row])
    else:
        to.write(f"\n Energy of {reading.label!r} (exit code {code}):\n\n{reading}\n")


def _as_json(reading: Reading, command: list[str], code: int) -> dict[str, Any]:
    headline = reading.headline
    methods: dict[str, Any] = {}
    for name, domains in (("rapl", reading.rapl), ("perf", reading.perf)):
        methods[name] = {
            "available": domains.available,
            "source": domains.source,
            "joules": {domain: _value(domains.estimate(domain)) for domain in DOMAINS},
        }
    model = reading.model
    methods["model"] = {
        "available": model is not None,
        "source": reading.raw["model_source"],
        "joules": None if model is None else model.value,
    }
    return {
        "command": command,
        "exit_code": code,
        "joules": reading.joules,
        "low": None if headline is None else headline.low,
        "high": None if headline is None else headline.high,
        "watts": reading.watts,
        "seconds": reading.duration,
        "cpu_seconds": reading.cpu_seconds,
        "quality": reading.quality,
        "method": reading.method,
        "definition": reading.definition,
        "reason": reading.raw["headline_reason"],
        "marginal": reading.marginal,
        "amortised": reading.amortised,
        "idle": reading.idle,
        "others": reading.others,
        "machine": reading.machine,
        "methods": methods,
        "warnings": reading.warnings,
    }


def _value(estimate: Any) -> float | None:
    return None if estimate is None else estimate.value


def _as_rows(reading: Reading) -> list[list[Any]]:
    seconds = reading.duration

    def row(method: str, domain: str, estimate: Any, source: str) -> list[Any]:
        if estimate is None:
            return [method, domain, None, None, None, None, seconds, source]
        watts = estimate.value / seconds if seconds > 0 else None
        return [method, domain, *estimate[:3], watts, seconds, source]

    headline = reading.headline
    rows = [
        row(
            "headline",
            "function",
            headline,
            headline.source if headline else f"unavailable: {reading.raw['headline_reason']}",
        )
    ]
    for name, domains in (("rapl", reading.rapl), ("perf", reading.perf)):
        for domain in DOMAINS:
            reason = domains.reasons.get(domain)
            source = f"unavailable: {reason}" if reason else domains.source
            rows.append(row(name, domain, domains.estimate(domain), source))
    rows.append(row("model", "function", reading.model, reading.raw["model_source"]))
    return rows


if __name__ == "__main__":
    sys.exit(main())
