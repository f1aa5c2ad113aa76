"""``EnergyManager``: the calls that a worker makes round a function.

The worker is not ours to break: once a manager is made, nothing that it does raises.
"""

from __future__ import annotations

from contextlib import suppress

from lithowatt._support.arguments import shown
from lithowatt._support.harmless import Harmless, described
from lithowatt.errors import (
    LithowattError,
    MalformedValueError,
    MeterStateError,
    UnreadableFileError,
)
from lithowatt.lithops._call_status import lend
from lithowatt.meter._absent import absent_stats
from lithowatt.meter._meter import EnergyMeter, is_mistake
from lithowatt.stats import PREFIX

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from typing import Any, TextIO

    StrPath = str | os.PathLike[str]

__all__ = ["EnergyManager", "add_energy_metrics", "function_name_from_stats"]

#: Options of :class:`~lithowatt.EnergyMeter` that a manager passes on.
_OPTIONS = (
    "methods",
    "interval",
    "children",
    "scope",
    "cgroup",
    "root",
    "enabled",
    "estimation",
    "definition",
)

#: What of a stats file is searched, in characters. The name is among its first lines; pickled
#: results, which may be large, come after it.
_SEARCHED = 1 << 20

#: The longest function name that is taken, in characters.
_LONGEST_NAME = 1024

#: The longest path that Linux takes (PATH_MAX), in bytes.
_LONGEST_PATH = 4096

#: What was reported at WARNING already: in a warm worker every call runs into the same thing.
_reported: set[tuple[str, str]] = set()


class EnergyManager:
    """Meters what a worker runs, and puts the joules into the call's status.

    It has the prototype's calls (:meth:`start_monitoring`, :meth:`stop_monitoring`) and those of a
    patched Lithops handler (:meth:`start`, :meth:`stop`, :meth:`read_function_name_from_stats`,
    :meth:`process_energy_data`, :meth:`update_function_name`). None of them raises: what goes
    wrong is logged on ``lithowatt``, at WARNING the first time and at DEBUG after that, and the
    stats are ``None`` with the reason in ``worker_func_energy_source``.

    Args:
        process_id: Process to meter with its descendants; this one by default. If there is no
            such process, the stats say so.
        function_name: Name of the function, kept as the reading's label.
        **options: ``methods``, ``interval``, ``children``, ``scope``, ``cgroup``, ``root``,
            ``enabled``, ``estimation`` and ``definition`` of :class:`~lithowatt.EnergyMeter`.
            ``interval`` is ``None`` by default unless ``ENERGY_COLLECTION_INTERVAL`` is set,
            because a handler forks the function's process while the manager runs.

    Raises:
        TypeError, ValueError: For an argument that is wrong wherever the worker runs, naming it
            and what is accepted. A wrong value in the environment does not raise.

    Example:
        >>> manager = EnergyManager()
        >>> manager.start_monitoring()
        True
        >>> total = sum(range(100_000))
        >>> stats = manager.stop_monitoring()
        >>> stats["worker_func_energy_duration"] > 0  # s
        True
        >>> "worker_func_energy_consumption" in stats  # J
        True
    """

    def __init__(
        self, process_id: int | None = None, function_name: str | None = None, **options: Any
    ) -> None:
        unknown = sorted(options.keys() - set(_OPTIONS))
        if unknown:
            raise TypeError(
                f"EnergyManager takes no option {unknown[0]!r}; expected one of "
                f"process_id, function_name, {', '.join(_OPTIONS)}"
            )
        import os

        self.process_id = _checked_process_id(process_id)
        self._function_name = None if function_name is None else _checked_name(function_name)
        self._root = options.get("root")
        self._started = False
        self._trouble: str | None = None
        self._meter: EnergyMeter | None = None
        self._lend()
        if "interval" not in options and "ENERGY_COLLECTION_INTERVAL" not in os.environ:
            options["interval"] = None
        # A meter of this process follows it more closely than one of any process.
        pid = None if self.process_id == os.getpid() else self.process_id
        try:
            self._meter = EnergyMeter(pid=pid, label=self._function_name, **options)
        except (LithowattError, OSError) as error:
            if is_mistake(error, options):
                raise
            self._trouble = str(error)
            _report("preparing to meter", error)

    @property
    def function_name(self) -> str | None:
        """Name of the function, ``None`` while it is not known."""
        return self._function_name

    def start(self) -> bool:
        """Starts the window; True if it runs now. One that runs already goes on.

        Example:
            >>> manager = EnergyManager()
            >>> manager.start()
            True
            >>> manager.stop()
        """
        meter = self._meter
        if meter is None:
            return False
        with _Harmless("starting to meter"):
            if not meter.running:
                meter.start()
            self._started = True
        return bool(meter.running)

    def stop(self) -> None:
        """Ends the window; without effect where none runs.

        Example:
            >>> manager = EnergyManager()
            >>> manager.stop()
        """
        meter = self._meter
        if meter is None or not self._started:
            return
        with _Harmless("stopping to meter"), suppress(MeterStateError):
            meter.stop()  # if it was stopped before, that window counts

    def start_monitoring(self) -> bool:
        """Starts the window, as :meth:`start` does.

        Example:
            >>> manager = EnergyManager(enabled=False)
            >>> manager.start_monitoring()
            True
        """
        return self.start()

    def stop_monitoring(self) -> dict[str, Any]:
        """Ends the window and returns its stats: ``worker_func_*``, J, W, s, MiB, %.

        What is unavailable is ``None``; its ``*_source`` is the reason. A second call returns the
        same window.

        Example:
            >>> stats = EnergyManager().stop_monitoring()
            >>> stats["worker_func_energy_source"]
            'unavailable: the manager was not started'
        """
        self._lend()
        self.stop()
        return self._stats()

    def _lend(self) -> None:
        # At both ends: a handler may make its call status before the manager or after it.
        with _Harmless("lending a call status add_energy_metrics"):
            lend(add_energy_metrics)

    def read_function_name_from_stats(
        self, stats_file: StrPath | Mapping[str, Any] | TextIO | None
    ) -> str | None:
        """Takes the function's name from a Lithops stats file, or from a dict of stats.

        Args:
            stats_file: Path, open file or dict. A file that is not there yet is none.

        Returns:
            The name, ``None`` where there is none to be had.

        Example:
            >>> manager = EnergyManager()
            >>> manager.read_function_name_from_stats({"function_name": "train"})
            'train'
            >>> manager.function_name
            'train'
        """
        name = None
        with _Harmless("reading a function's name from its stats"):
            try:
                name = function_name_from_stats(stats_file) if stats_file is not None else None
            except UnreadableFileError as error:
                # The function writes the file when it begins: before that it is not there.
                _logger().debug("no function name yet: %s", error)
            if name is not None:
                self._take_name(name)
        return name

    def update_function_name(self, name: object, *rest: object) -> bool:
        """Takes another name for the function; True if it was taken.

        Args:
            name: The name. Patched handlers also call this as ``(task, name)`` and as
                ``(task, cpu_info, stats_file)``.
            *rest: See there.

        Example:
            >>> manager = EnergyManager(function_name="first")
            >>> manager.update_function_name("second")
            True
            >>> manager.function_name
            'second'
            >>> manager.update_function_name("")
            False
        """
        if len(rest) >= 2:
            source: Any = rest[1]
            return self.read_function_name_from_stats(source) is not None
        with _Harmless("updating a function's name"):
            self._take_name(_checked_name(rest[0] if rest else name))
            return True
        return False

    def process_energy_data(self, task: Any, call_status: Any, cpu_info: object = None) -> None:
        """Puts the stats of the window into a call's status; ends the window if it runs.

        Keys that the status has already stay as they are.

        Args:
            task: The Lithops job; its ``stats_file`` names the function if nobody has yet.
            call_status: Something with ``add(key, value)`` or a dict, its own or ``status``.
            cpu_info: Accepted because handlers pass it. It is not used: it holds CPU percents
                sampled outside the function's window.

        Example:
            >>> status = {}
            >>> manager = EnergyManager()
            >>> manager.start()
            True
            >>> manager.process_energy_data(None, status)
            >>> status["worker_func_energy_duration"] > 0
            True
        """
        self.stop()
        if self._function_name is None:
            with _Harmless("reading a function's name from its stats"):
                self.read_function_name_from_stats(getattr(task, "stats_file", None))
        with _Harmless("adding the energy of a call to its status"):
            add_energy_metrics(call_status, self._stats())

    def _take_name(self, name: str) -> None:
        self._function_name = name
        if self._meter is not None:
            self._meter.label = name

    def _stats(self) -> dict[str, Any]:
        reason = self._trouble or "the manager was not started"
        if self._meter is not None and self._started:
            guard = _Harmless("reading the energy of a call")
            with guard:
                return self._meter.stats()
            reason = guard.trouble
        with _Harmless("saying why there is no energy"):
            return absent_stats(reason, self._root)
        return {
            PREFIX + "energy_consumption": None,
            PREFIX + "energy_source": f"unavailable: {reason}",
            PREFIX + "energy_warnings": [reason],
        }

    def __repr__(self) -> str:
        name = f" {self._function_name!r}" if self._function_name else ""
        if self._meter is None:
            return f"<EnergyManager{name}: {self._trouble}>"
        state = "running" if self._meter.running else "stopped" if self._started else "not started"
        return f"<EnergyManager{name}: {state}>"


def add_energy_metrics(call_status: Any, metrics: Mapping[str, Any]) -> None:
    """Adds stats to a call's status; keys that are there already stay as they are.

    Bound to a class it is the prototype's method: ``CallStatus.add_energy_metrics =
    add_energy_metrics``.

    Args:
        call_status: Something with ``add(key, value)`` or a dict, its own or ``status``.
        metrics: Stats by key, as :meth:`EnergyManager.stop_monitoring` returns them.

    Raises:
        TypeError: For a status or metrics of another shape.
        ValueError: For a value that is NaN or infinite, which JSON cannot carry. Nothing is added
            then.

    Example:
        >>> status = {"exception": False}
        >>> add_energy_metrics(status, {"worker_func_energy_consumption": 12.5})
        >>> status
        {'exception': False, 'worker_func_energy_consumption': 12.5}
    """
    from collections.abc import Mapping, MutableMapping
    from math import isfinite

    if not isinstance(metrics, Mapping):
        raise TypeError(f"metrics must be a dict of stats, not {shown(metrics)}")
    status = call_status
    if not isinstance(status, MutableMapping):
        status = getattr(call_status, "status", None)
    known = isinstance(status, MutableMapping)
    add = getattr(call_status, "add", None)
    if not callable(add):
        if not known:
            raise TypeError(
                "call_status must have add(key, value) or be, or have as status, a dict; "
                f"not {shown(call_status)}"
            )
        add = status.__setitem__
    for key, value in metrics.items():
        if not isinstance(key, str):
            raise TypeError(f"a key of metrics must be a string, not {shown(key)}")
        if isinstance(value, float) and not isfinite(value):
            raise ValueError(f"{key} must be finite or None, not {value!r}")
    for key, value in metrics.items():
        if not known or key not in status:
            add(key, value)


def function_name_from_stats(stats: StrPath | Mapping[str, Any] | TextIO) -> str | None:
    """The name of the function that a Lithops stats file, or a dict of stats, is about.

    Args:
        stats: A file of lines ``key value`` (path or open file), or a dict.

    Returns:
        The value of ``function_name``, ``None`` where it has none.

    Raises:
        TypeError: For something else.
        UnreadableFileError: For a file that is not there or is no plain file.
        MalformedValueError: For a file that is cut off before the end of the name, and for a name
            that is empty, over 1024 characters long or not printable.

    Example:
        >>> import io
        >>> function_name_from_stats(io.StringIO("worker_x 1\\nfunction_name train\\n"))
        'train'
    """
    from collections.abc import Mapping

    if isinstance(stats, Mapping):
        value = stats.get("function_name")
        return None if value is None else _stored_name(value, "the stats")
    read = getattr(stats, "read", None)
    if callable(read):
        where = str(getattr(stats, "name", "the stats file"))
        text = read(_SEARCHED)
        if isinstance(text, bytes):
            text = text.decode(errors="replace")
    else:
        where, text = _read(stats)
    if not isinstance(text, str):
        raise TypeError(f"a stats file must hold text, not {shown(text)}")
    lines = text.split("\n")
    # Every line ends with a newline, so what comes after the last is the rest of a cut one.
    rest = lines.pop()
    for line in lines:
        key, _, value = line.strip().partition(" ")
        if key == "function_name":
            return _stored_name(value, where)
    if rest and len(text) < _SEARCHED:
        raise MalformedValueError(
            f"{where} is cut off at {shown(rest)}; expected lines of a key, a blank and a "
            "value, each with a newline at its end"
        )
    return None


def _checked_process_id(process_id: object) -> int | None:
    if process_id is None:
        return None
    if isinstance(process_id, bool) or not hasattr(process_id, "__index__"):
        raise TypeError(f"process_id must be an int or None, not {shown(process_id)}")
    number = int(process_id.__index__())
    if not 0 < number < 1 << 31:
        raise ValueError(f"process_id must be from 1 to 2147483647, not {number}")
    return number


def _checked_name(name: object) -> str:
    """A function's name that fits a line of a log or of a stats file."""
    if not isinstance(name, str):
        raise TypeError(f"a function name must be a string, not {shown(name)}")
    stripped = name.strip()
    if not stripped or len(stripped) > _LONGEST_NAME or not stripped.isprintable():
        raise ValueError(
            f"a function name must be 1 to {_LONGEST_NAME} printable characters, not {shown(name)}"
        )
    return stripped


def _stored_name(value: object, where: str) -> str:
    try:
        return _checked_name(value)
    except (TypeError, ValueError) as error:
        raise MalformedValueError(f"function_name in {where}: {error}") from None


def _shown_path(path: Any) -> str:
    """Whole, as the name is at the end; what is too long to be a path is cut."""
    text = str(path)
    return repr(text) if len(text) <= _LONGEST_PATH else shown(text)


def _read(path: Any) -> tuple[str, str]:
    import os
    from pathlib import Path

    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"stats must be a path, an open file or a dict, not {shown(path)}")
    try:
        # Anything else than a plain file, such as a pipe, might never end.
        if not Path(path).is_file():
            raise UnreadableFileError(f"{_shown_path(path)} is no file; expected a stats file")
        with Path(path).open(encoding="utf-8", errors="replace", newline="\n") as file:
            return str(path), file.read(_SEARCHED)
    except UnreadableFileError:
        raise
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UnreadableFileError(f"{_shown_path(path)} cannot be read: {why}") from error


class _Harmless(Harmless):
    """Logs each kind of trouble once."""

    def report(self, error: BaseException) -> None:
        _report(self.doing, error)


def _report(doing: str, error: BaseException) -> None:
    import logging

    kind = (doing, type(error).__name__)
    level = logging.DEBUG if kind in _reported else logging.WARNING
    _reported.add(kind)
    _logger().log(level, "%s: %s", doing, described(error))


def _logger() -> Any:
    import logging

    return logging.getLogger("lithowatt")
