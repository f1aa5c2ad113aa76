"""The command line of a workload, and one run after another.

Exit code 0: all ran and the results are right. 1: something failed. 2: the
command line makes no sense.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from examples._common import summary
from examples._common.progress import Progress
from examples._common.records import CallRecord, MachineRecord, RunRecord
from examples._common.session import Session, limit_threads, scratch_folder
from examples._common.workflow import (
    MissingError,
    OptionError,
    Setup,
    Workload,
    WrongResultError,
)

#: vCPUs per worker in a profile's key; Lithops asks for memory only.
CPU = 1

#: The folder that has examples/ and the list of what they need.
CHECKOUT = Path(__file__).resolve().parents[2]


def main(
    workload: Workload,
    argv: Sequence[str] | None = None,
    workers: str = "1,2,4",
    reps: int = 3,
    show: Callable[[Sequence[RunRecord]], str | None] | None = None,
    more_options: Callable[[argparse.ArgumentParser], None] | None = None,
    settle: Callable[[argparse.ArgumentParser, argparse.Namespace], None] | None = None,
) -> int:
    """Runs a workload from the command line; returns the exit code.

    Args:
        workload: What to run.
        argv: Arguments; by default the process's own.
        workers: Default of `--workers`.
        reps: Default of `--reps`.
        show: What to print instead of the summary, if it returns a text.
        more_options: Adds options.
        settle: Looks at the parsed options, and may change them.
    """
    parser = _parser(workload, workers, reps)
    if more_options is not None:
        more_options(parser)
    options = parser.parse_args(argv)
    if settle is not None:
        settle(parser, options)
    for module, distribution in workload.needs.items():
        if importlib.util.find_spec(module) is None:
            install = shlex.join([sys.executable, "-m", "pip", "install", f"{CHECKOUT}[examples]"])
            return _failed(
                workload.name, f"needs {distribution}, which is not installed: {install}"
            )
    _known_backends(parser, options)
    try:
        options.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--output {options.output}: {error.strerror or error}")
    if options.root is not None:
        if not (options.root / "proc").is_dir():
            parser.error(f"--root {options.root}: there is no proc directory in it")
        os.environ["LITHOWATT_ROOT"] = str(options.root)
    if options.engine != "lithops":
        from examples._common import flex

        reason = flex.unavailable()
        if reason is None:
            options.engine = "flexecutor"
        elif options.engine == "flexecutor":
            parser.error(f"--engine flexecutor: {reason}")
        else:
            options.engine = "lithops"
    local = options.backend == "localhost" and options.storage in (None, "localhost")
    try:
        with scratch_folder(workload.name, local) as scratch:
            runs = _run_all(workload, options, scratch)
    except KeyboardInterrupt:
        return 130
    except OptionError as error:
        parser.error(str(error))
    except WrongResultError as error:
        return _failed(workload.name, f"wrong result: {error}")
    except MissingError as error:
        return _failed(workload.name, str(error))
    except Exception as error:  # whatever a worker, Lithops or a storage says
        kind = type(error).__name__
        return _failed(workload.name, f"failed: {kind}: {error}" if str(error) else kind)
    report = _report(workload, options, runs)
    (options.output / "runs.json").write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    if options.json:
        print(json.dumps(report, indent=1))
        return 0
    shown = None if show is None else show(runs)
    print(summary.text(runs) if shown is None else shown)
    return 0


def _known_backends(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuses backends that Lithops does not have, without importing it: it is too early."""
    lithops = importlib.util.find_spec("lithops")
    if lithops is None or lithops.origin is None:
        return
    home = Path(lithops.origin).parent
    for option, folders in (
        ("backend", ("serverless/backends", "standalone/backends")),
        ("storage", ("storage/backends",)),
    ):
        name = getattr(options, option)
        known = sorted(
            {"localhost"}
            | {
                entry.name
                for folder in folders
                for entry in (home / folder).glob("*")
                if entry.is_dir() and not entry.name.startswith("_")
            }
        )
        if name is not None and name not in known:
            parser.error(f"--{option} {name}: this Lithops has {', '.join(known)}")


def _run_all(workload: Workload, options: argparse.Namespace, scratch: Path) -> list[RunRecord]:
    session = Session(
        options.output, scratch, options.backend, options.storage, max(options.workers)
    )
    engine: Any
    if options.engine == "flexecutor":
        from examples._common.flex import FlexEngine

        engine = FlexEngine(session)
    else:
        from examples._common.plain import PlainEngine

        engine = PlainEngine(session)
    if options.root is not None:
        session.worker_settings.append("LITHOWATT_ROOT")
    sizes = {size.name: getattr(options, size.name) for size in workload.sizes}
    runs: list[RunRecord] = []
    configurations = [(count, memory) for count in options.workers for memory in options.memory]
    stages_per_run = len(workload.stages(Setup(1, options.seed, sizes, options)))
    steps = len(configurations) * options.reps * stages_per_run
    try:
        with Progress(steps) as progress:
            for count, memory in configurations:
                for repetition in range(1, options.reps + 1):
                    setup = Setup(count, options.seed, sizes, options)
                    name = (
                        f"{_count(count, 'worker')}, {memory} MB, "
                        f"repetition {repetition} of {options.reps}"
                    )

                    def done(stage: str, name: str = name) -> None:
                        progress.step(f"{name}: {stage}")

                    configuration = (CPU, memory, count)
                    run = _run(workload, setup, session, engine, configuration, repetition, done)
                    runs.append(run)
                    progress.line(
                        f"{workload.name}: {name}: {run.seconds:.1f} s, "
                        f"{summary.energy(run)}, {run.outcome}"
                    )
    finally:
        engine.close()
        session.close()
    return runs


def _run(
    workload: Workload,
    setup: Setup,
    session: Session,
    engine: Any,
    configuration: tuple[int, int, int],
    repetition: int,
    done: Callable[[str], None],
) -> RunRecord:
    limit_threads(session, setup.workers)
    prefix = session.new_prefix(workload.name)
    try:
        with tempfile.TemporaryDirectory(dir=session.scratch) as folder:
            session.put(prefix, workload.prepare(setup, Path(folder)))
        began = time.monotonic()
        with MachineMeter() as machine:
            records: dict[str, list[CallRecord]] = engine.run(
                workload.dag(setup.sizes),
                workload.stages(setup),
                prefix,
                configuration,
                ", ".join(f"{name} {size}" for name, size in setup.sizes.items()),
                done,
            )
        seconds = time.monotonic() - began
        with tempfile.TemporaryDirectory(dir=session.scratch) as folder:
            outcome = workload.check(setup, session.fetch(prefix, workload.results, Path(folder)))
    finally:
        session.remove(prefix)
    return RunRecord(
        setup.workers,
        configuration[1],
        repetition,
        seconds,
        records,
        machine.record(),
        outcome.text,
        outcome.values,
    )


class MachineMeter:
    """The whole machine in the window of a run, where it has a counter."""

    def __init__(self) -> None:
        self.meter: Any = None
        self.reason: str | None = None
        try:
            from lithowatt import EnergyMeter
        except ImportError:
            self.reason = "lithowatt is not installed"
        else:
            self.meter = EnergyMeter()

    def __enter__(self) -> MachineMeter:
        if self.meter is not None:
            self.meter.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.meter is not None:
            self.meter.stop()

    def record(self) -> MachineRecord:
        """What it saw."""
        if self.meter is None:
            return MachineRecord(None, None, None, None, 0.0, None, self.reason)
        reading = self.meter.reading
        if reading.quality not in ("measured", "attributed"):
            reason = reading.rapl.source
            return MachineRecord(None, None, None, None, reading.duration, None, reason)
        return MachineRecord(
            reading.machine,
            reading.idle,
            reading.marginal,
            reading.others,
            reading.duration,
            reading.method,
            None,
        )


def _report(
    workload: Workload, options: argparse.Namespace, runs: Sequence[RunRecord]
) -> dict[str, Any]:
    return {
        # Whoever reads profiles in this folder knows by it that this is none.
        "schema": 1,
        "workload": workload.name,
        "engine": options.engine,
        "backend": options.backend,
        "seed": options.seed,
        "sizes": {size.name: getattr(options, size.name) for size in workload.sizes},
        "runs": [run.as_dict() for run in runs],
        "remarks": summary.remarks(runs),
    }


def _parser(workload: Workload, workers: str, reps: int) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m examples.{workload.name}", description=workload.title, allow_abbrev=False
    )
    add = parser.add_argument
    add(
        "--workers",
        type=_numbers("--workers", 1000),
        default=workers,
        metavar="N[,N]",
        help="workers per stage; several are run one after another (default %(default)s)",
    )
    add("--reps", type=_at_least(1), default=reps, help="runs of each (default %(default)s)")
    add(
        "--memory",
        type=_numbers("--memory", 1 << 20),
        default="2048",
        metavar="MB[,MB]",
        help="memory to ask for; localhost takes what there is (default %(default)s)",
    )
    add(
        "--backend",
        type=_word,
        default="localhost",
        help="Lithops' compute backend: localhost, k8s, aws_lambda ...; all but localhost "
        "are configured by Lithops' own configuration file (default %(default)s)",
    )
    add("--storage", type=_word, help="Lithops' storage backend (default: as configured)")
    add(
        "--engine",
        choices=("auto", "lithops", "flexecutor"),
        default="auto",
        help="auto: FlexExecutor where it can be imported (default %(default)s)",
    )
    add(
        "--output",
        type=Path,
        default=Path("lithowatt-results") / workload.name,
        metavar="DIR",
        help="for profiles and runs.json (default %(default)s)",
    )
    add("--seed", type=_at_least(0), default=1, help="of all randomness (default %(default)s)")
    for size in workload.sizes:
        add(
            f"--{size.name.replace('_', '-')}",
            type=_at_least(size.least),
            default=size.default,
            metavar="N",
            help=f"{size.help} (default %(default)s)",
        )
    add(
        "--root",
        type=Path,
        metavar="DIR",
        help="directory that holds the sys and proc to read, e.g. a container's mount",
    )
    add("--json", action="store_true", help="print all numbers as JSON")
    return parser


def _numbers(name: str, most: int) -> Callable[[str], tuple[int, ...]]:
    def parse(text: str) -> tuple[int, ...]:
        parts = text.split(",")
        if not all(part.strip().isascii() and part.strip().isdigit() for part in parts):
            raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers such as 1,2,4")
        numbers = tuple(dict.fromkeys(int(part) for part in parts))
        if not all(1 <= number <= most for number in numbers):
            raise argparse.ArgumentTypeError(f"{text!r}: each must be from 1 to {most}")
        return numbers

    return parse


def _at_least(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if not least <= number < 1 << 40:
            raise argparse.ArgumentTypeError(f"{text} must be at least {least} and below 2^40")
        return number

    return parse


def _word(text: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of a Lithops backend")
    return text


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _failed(name: str, message: str) -> int:
    print(f"{name}: {message}", file=sys.stderr)
    return 1
