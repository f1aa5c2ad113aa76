"""``EnhancedEnergyLogger``: a line of JSON for each execution, with its energy."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lithowatt._support.arguments import shown
from lithowatt._support.files import append_line
from lithowatt._support.harmless import Harmless
from lithowatt.report._plain import plain
from lithowatt.report.collector import MetricsCollector
from lithowatt.report.energy_report import generate_energy_report

__all__ = ["EnhancedEnergyLogger", "read_energy_log"]

StrPath = str | os.PathLike[str]

#: Version of an entry's layout; ``energy-log.schema.json`` beside this file has it.
SCHEMA = 1

#: A longer line loses its context, then its metrics: bytes.
LONGEST_LINE = 1 << 20

#: How long an entry waits for who else writes, and how long no entry waits after that was in vain.
LOCK_SECONDS, LOCK_AGAIN_SECONDS = 0.5, 60.0

_logger = logging.getLogger("lithowatt")

#: Where entries go that have no file.
_entries = logging.getLogger("lithowatt.energy")


class EnhancedEnergyLogger:
    """Writes a line of JSON for each execution and keeps sums of them.

    Several processes may write to one file, and several threads: a line is added whole or not at
    all, and the file is rotated once (`path.1` is the last one before). What cannot be written is
    told once, as a warning of the logger ``lithowatt``, and never raised into the job.

    Environment variables are not logged. In what is given, text under names such as ``password`` or
    ``access_key``, values in ``extra_env`` and passwords in addresses become ``[removed]``.

    Args:
        backend_type: Where the executions run, e.g. ``localhost``, ``k8s``, ``aws_lambda``.
        path: The file; its folder has to be there. ``None``: the entries go to the logger
            ``lithowatt.energy``, as INFO.
        max_bytes: Size that the file does not exceed: it is rotated before. ``None``: never.
        backups: How many rotated files are kept.

    Attributes:
        backend_type: As given.
        path: As given, made absolute.
        metrics_collector: The sums, of this process.

    Raises:
        TypeError: An argument is of another type.
        ValueError: A number is out of range, or ``backend_type`` is empty.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> logger = EnhancedEnergyLogger("localhost", path=f"{folder.name}/energy.jsonl")
        >>> entry = logger.log_energy_execution("map", {"energy_consumption": 2.5}, {"workers": 4})
        >>> entry["stage"], entry["energy_metrics"]["energy_consumption"]
        ('map', 2.5)
        >>> logger.metrics_collector.summary()["total"]["joules"]
        2.5
        >>> [one["stage"] for one in read_energy_log(logger.path)]
        ['map']
        >>> folder.cleanup()
    """

    def __init__(
        self,
        backend_type: str,
        *,
        path: StrPath | None = None,
        max_bytes: int | None = 10 << 20,
        backups: int = 5,
    ) -> None:
        if not isinstance(backend_type, str):
            raise TypeError(f"backend_type must be a text, not {shown(backend_type)}")
        if not backend_type:
            raise ValueError("backend_type must not be empty")
        for name, value, least in (("max_bytes", max_bytes, 1), ("backups", backups, 0)):
            if name == "max_bytes" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name} must be a whole number, not {shown(value)}")
            if value < least:
                raise ValueError(f"{name} must be {least} or more, not {value}")
        self.backend_type = backend_type
        self.path = None if path is None else Path(os.path.abspath(path))  # noqa: PTH100
        self._max_bytes = max_bytes
        self._backups = backups
        self.metrics_collector = MetricsCollector()
        self._surroundings: tuple[dict[str, Any], dict[str, Any]] | None = None
        self._told: set[str] = set()
        self._no_lock_until = 0.0

    def __reduce__(self) -> tuple[Any, ...]:
        # A function that is sent to a worker may hold one; what it finds there is that machine's.
        options = {"path": self.path, "max_bytes": self._max_bytes, "backups": self._backups}
        return _made, (type(self), self.backend_type, options)

    def log_energy_execution(
        self, stage_name: str, energy_metrics: Any, execution_context: Any = None
    ) -> dict[str, Any]:
        """Logs one execution, as one line.

        Args:
            stage_name: The stage that was executed.
            energy_metrics: Its energy: stats of a meter or of a Lithops call, a `Reading` or an
                `EnergyMeter`. J, s, W, as these have them.
            execution_context: Anything else that is worth knowing, e.g. workers and memory.

        Returns:
            The entry as it was written: ``schema``, ``timestamp`` (Unix, s), ``backend``,
            ``stage``, ``energy_metrics``, ``execution_context``, ``hardware_info`` and
            ``environment_info`` (both of the process that logs).

        Example:
            >>> from lithowatt import EnergyMeter
            >>> with EnergyMeter() as meter:
            ...     total = sum(range(100_000))
            >>> entry = EnhancedEnergyLogger("localhost").log_energy_execution("sum", meter)
            >>> entry["energy_metrics"]["energy_duration"] > 0
            True
        """
        entry: dict[str, Any] = {
            "schema": SCHEMA,
            "timestamp": time.time(),
            "backend": self.backend_type,
            "stage": None,
            "energy_metrics": {},
            "execution_context": None,
            "hardware_info": {},
            "environment_info": {},
        }
        made = Harmless("making an entry of the energy log", foreign=True)
        with made:
            entry["stage"] = plain(stage_name if isinstance(stage_name, str) else str(stage_name))
            entry["energy_metrics"] = _metrics(energy_metrics)
            entry["execution_context"] = plain(execution_context)
            hardware, environment = self._around()
            entry["hardware_info"], entry["environment_info"] = dict(hardware), dict(environment)
        if made.trouble:
            self._tell(f"an entry of the energy log is incomplete: {made.trouble}")
        written = Harmless("writing the energy log", foreign=True)
        with written:
            self._write(entry)
        if written.trouble:
            where = self.path or "lithowatt.energy"
            self._tell(f"the energy log {where} cannot be written: {written.trouble}")
        with Harmless("adding an entry to the sums"):
            self.metrics_collector.collect(entry)
        return entry

    def _write(self, entry: dict[str, Any]) -> None:
        line = _line(entry)
        for part in ("execution_context", "energy_metrics"):
            if len(line) <= LONGEST_LINE:
                break
            entry[part] = {"left_out": f"the line was longer than {LONGEST_LINE} bytes"}
            line = _line(entry)
        if self.path is None:
            _entries.info("%s", line.decode().rstrip("\n"))
            return
        # A lock that somebody keeps would be waited for with each entry.
        now = time.monotonic()
        patience = 0.0 if now < self._no_lock_until else LOCK_SECONDS
        added = append_line(
            self.path, line, most=self._max_bytes, backups=self._backups, patience=patience
        )
        if patience:
            self._no_lock_until = 0.0 if added.held else now + LOCK_AGAIN_SECONDS
        if not added.fits:
            self._tell(f"the energy log {self.path} cannot be rotated and grows on")

    def _tell(self, text: str) -> None:
        """Once: a job that logs a million executions on a full disk has one line of it."""
        kind = text.partition(":")[0]
        if kind not in self._told:
            self._told.add(kind)
            with Harmless("telling of the energy log"):
                _logger.warning("%s (told once)", text)

    def _around(self) -> tuple[dict[str, Any], dict[str, Any]]:
        if self._surroundings is None:
            self._surroundings = hardware_info(), environment_info()
        return self._surroundings

    def generate_energy_report(self, execution_results: Any) -> dict[str, Any]:
        """`lithowatt.report.generate_energy_report`, as a method.

        Args:
            execution_results: As there.

        Raises:
            TypeError: As there.
        """
        return generate_energy_report(execution_results)


def _made(
    cls: type[EnhancedEnergyLogger], backend_type: str, options: dict[str, Any]
) -> EnhancedEnergyLogger:
    return cls(backend_type, **options)


def _line(entry: Mapping[str, Any]) -> bytes:
    # ASCII: nothing in it is obeyed by a terminal or ends a line.
    return json.dumps(entry, allow_nan=False).encode("ascii") + b"\n"


def _metrics(given: Any) -> dict[str, Any]:
    """Stats, whatever they came in."""
    from lithowatt.meter._meter import EnergyMeter
    from lithowatt.meter._reading import Reading

    if isinstance(given, EnergyMeter):
        given = given.reading
    if isinstance(given, Reading):
        given = given.flat()
    stats = getattr(given, "stats", given)
    if not isinstance(stats, Mapping):
        return {"energy_source": f"unavailable: {type(given).__name__} is no energy metrics"}
    copied: dict[str, Any] = plain(stats)
    return copied


def hardware_info() -> dict[str, Any]:
    """The processor and the memory of this machine; ``None`` where the system does not show it."""
    from lithowatt import _core

    top = Path(os.environ.get("LITHOWATT_ROOT") or "/")
    cpu = _core.cpu_identity(top)
    around = _core.surroundings(top)
    memory = around["memory_gib"]
    return {
        "processor": cpu["name"],
        "vendor": cpu["vendor"],
        "architecture": cpu["architecture"],
        "sockets": cpu["sockets"],
        "physical_cores": cpu["physical_cores"],
        "logical_cpus": cpu["logical_cpus"],
        "base_mhz": cpu["base_mhz"],
        "max_mhz": cpu["max_mhz"],
        "hypervisor": cpu["hypervisor"],
        "memory_mib": None if memory is None else round(memory * 1024),
    }


def environment_info() -> dict[str, Any]:
    """Where this runs and with what; of environment variables no more than what is detected."""
    from dataclasses import asdict

    from lithowatt import _core
    from lithowatt.environment import detect_environment

    found = asdict(detect_environment())
    del found["evidence"]
    found["python"] = ".".join(map(str, sys.version_info[:3]))
    found["lithowatt"] = _core.__version__
    copied: dict[str, Any] = plain(found)
    return copied


def read_energy_log(path: StrPath, *, rotated: bool = True) -> Iterator[dict[str, Any]]:
    """The entries of a log, the oldest first.

    Lines that are no entries are passed over: a process that was killed may leave the first part of
    one.

    Args:
        path: The file.
        rotated: Read ``path.N`` … ``path.1`` before it.

    Raises:
        OSError: The file cannot be read. Rotated ones need not be there.

    Example:
        >>> list(read_energy_log("/dev/null"))
        []
    """
    path = os.fspath(path)
    files = [path]
    number = 1
    while rotated and os.path.exists(f"{path}.{number}"):  # noqa: PTH110
        files.insert(0, f"{path}.{number}")
        number += 1
    for file in files:
        with open(file, "rb") as lines:  # noqa: PTH123
            for line in iter(lambda: lines.readline(2 * LONGEST_LINE), b""):
                try:
                    entry = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                if isinstance(entry, dict) and "energy_metrics" in entry:
                    yield entry
