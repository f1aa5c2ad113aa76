"""``EnergyMeter``: the joules of a stretch of code."""

from __future__ import annotations

# Everything that metering and reading need is imported here and now: see `_engine`.
import os
from time import monotonic_ns

from lithowatt._core import Meter
from lithowatt._support.harmless import described
from lithowatt.errors import (
    ConflictingOptionsError,
    InvalidIntervalError,
    LithowattError,
    MeterStateError,
    UnknownDefinitionError,
    UnknownMethodError,
    UnknownScopeError,
)
from lithowatt.meter._engine import SPELLING, form_of, written
from lithowatt.meter._reading import Reading
from lithowatt.stats import ESSENTIAL, spelt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Any, Literal, TypeVar

    from typing_extensions import Self

    from lithowatt.meter._timeline import Timeline
    from lithowatt.reference import Reference
    from lithowatt.trace import Trace

    _F = TypeVar("_F", bound=Callable[..., Any])

    #: What a meter keeps of its last window, once it is elsewhere: its reading, its stats with
    #: every key, its samples as of ``raw_timeline``, ``None`` where those stayed behind, and the
    #: spans of its phases.
    _Past = tuple[Reading, dict[str, Any], Any, tuple["_Span", ...]]

    #: Name, start and end of a phase, ns on ``CLOCK_MONOTONIC``.
    _Span = tuple[str, int, int]


#: Samples, at most, that are pickled with a meter: 1 MB or so.
_SAMPLES_PICKLED = 10_000

#: Spans of phases, at most, that a window keeps for its picture: 150 kB or so.
_MOST_SPANS = 1_000


class EnergyMeter:
    """Meters the energy between start and stop.

    Use it as a context manager (``with``, or ``async with`` for the whole process), by ``start()``
    and ``stop()``, or as a decorator; it may be used again and nested. Reading it later is where
    the work is done: start and stop take microseconds.

    A meter may be copied and pickled. What arrives is a meter of the same options that does not run
    and still has the window that it was copied in, or of the last one before; its timeline,
    too, unless that has more than 10 000 samples.

    Args:
        methods: What is asked for: a name, or a sequence of names; commas in a string separate
            names, too. The names are ``rapl``, ``perf``, ``ebpf``, ``psutil`` (or ``procfs``),
            ``model`` (or ``tdp``, ``curve``, ``estimation``), ``nvml`` (or ``gpu``), ``guest``
            (what a virtual machine's host hands on) and ``hwmon``, which beside a counter of
            packages is read only where it is named. ``"counters"`` are those that count processor
            and memory, as ``"all"`` would use them. ``"all"`` is all that work here, and
            ``"auto"`` is what the environment's ``ENERGY_METHODS`` names, else ``"all"``.
        interval: Seconds between samples of the background thread, 0.001 to 3600. ``None``: no
            thread, only the window's edges are read. ``"auto"``: the environment's
            ``ENERGY_COLLECTION_INTERVAL`` (milliseconds or ``off``), else 0.1.
        pid: Process to meter instead of this one, or several in a list, which are then one: their
            energies are summed. A descendant of another one of them is counted once.
        children: Count descendants too, those that die within the window included.
        scope: ``"process"``, ``"thread"`` (the one that starts the meter) or ``"task"`` (one
            coroutine or generator; ``@measure`` drives it).
        cgroup: Cgroup to meter instead of a process: its directory; a path below the mount of the
            cgroups, such as ``"system.slice/web.service"``; a pattern of either with ``*``, ``?``
            or ``[…]``; ``"unit:web.service"``, a unit of systemd wherever it is; ``"job:4711"``,
            a job of Slurm, OAR or PBS, or ``"slurm:4711.0"``, ``"oar:…"``, ``"pbs:…"``,
            ``"condor:slot1_2"`` to name the batch system (a step of Slurm's after the dot). Several
            in a list, or several that a pattern means, are one: their energies are summed, and one
            inside another is counted once. Cgroups that a pattern or name means and that are made
            within the window are counted, from their beginning; at most 1000 at a time.
        label: A name of yours, kept in the reading.
        root: Where ``/sys`` and ``/proc`` are, for tests and for containers that mount the host's;
            ``LITHOWATT_ROOT`` or ``/`` by default.
        enabled: ``False`` reads nothing; by default as ``ENERGY_MONITORING_ENABLED`` has it.
        estimation: How the model's watts are made where there is no counter: ``"curve"``,
            ``"tdp_based"`` (TDP of the share × utilisation) or ``"vcpu"`` (a straight line from
            idle to full per vCPU); by default ``ENERGY_ESTIMATION_METHOD`` or ``"curve"``.
        definition: What the headline (``joules``) holds: ``"marginal"``, the energy above idle, or
            ``"amortised"``, which adds this function's share of idle. By default
            ``ENERGY_DEFINITION``, else ``"marginal"`` on a machine and ``"amortised"`` in a sandbox
            that exists for the function alone, as on AWS Lambda; the same for every window.
        reference: A meter of the whole machine that is read beside the window, by a thread of its
            own, or several in a list: ``"battery"``; see ``docs/how-to/whole-machine.md``. What it
            counted is ``reading.machine_reference`` and is part of no other number.
        replay: A recording that ``lithowatt record`` made, by its path or as a
            ``lithowatt.trace.Trace``, in the place of this machine: the meter reads nothing here,
            and whatever runs between start and stop, its reading is that of the recorded window.
            ``methods``, ``estimation`` and ``definition`` are the recording's where they are not
            given. ``pid``, ``scope``, ``cgroup`` and ``root`` do not go with it.
        window: With ``replay``: seconds from and to, of the recorded window; the reading is of what
            was sampled between them.
        idle_watts: With ``replay``: power at rest of packages and memory together in W, in the
            place of what was seen or stored.

    Raises:
        LithowattError: An option has a value that is not accepted. The message names both, and
            the class is one of ``UnknownMethodError``, ``UnknownScopeError``,
            ``UnknownDefinitionError``, ``InvalidIntervalError``, ``ConflictingOptionsError``,
            ``ProcessNotFoundError``, ``UnreadableFileError``, ``MalformedValueError``.

    Example:
        >>> with EnergyMeter() as m:
        ...     with m.phase("compute"):
        ...         total = sum(range(100_000))
        >>> m.reading.flat()["energy_duration"] > 0
        True
    """

    __slots__ = ("__weakref__", "_core", "_options", "_past", "_references", "_spans")
    #: What measures; one of its own, so that nothing of the engine is part of this class.
    _core: Meter
    _options: dict[str, Any]
    #: The last window of the meter that this one is a copy of, until it is started itself.
    _past: _Past | None
    #: When the phases of the last window were, the first `_MOST_SPANS` that ended.
    _spans: list[_Span]
    #: Meters of the whole machine that are read meanwhile.
    _references: tuple[Reference, ...]

    def __init__(
        self,
        methods: str | Sequence[str] = "auto",
        *,
        interval: float | Literal["auto"] | None = "auto",
        pid: int | Sequence[int] | None = None,
        children: bool = True,
        scope: str = "process",
        cgroup: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
        label: str | None = None,
        root: str | os.PathLike[str] | None = None,
        enabled: bool | None = None,
        estimation: str | None = None,
        definition: str | None = None,
        reference: str
        | os.PathLike[str]
        | Reference
        | Sequence[str | os.PathLike[str] | Reference]
        | None = None,
        replay: str | os.PathLike[str] | Trace | None = None,
        window: tuple[float, float] | None = None,
        idle_watts: float | None = None,
    ) -> None:
        self._options = {
            "methods": methods,
            "interval": interval,
            "pid": pid,
            "children": children,
            "scope": scope,
            "cgroup": cgroup,
            "label": label,
            "root": root,
            "enabled": enabled,
            "estimation": estimation,
            "definition": definition,
        }
        if replay is None and window is None and idle_watts is None:
            self._core = Meter(**self._options)
        else:
            from lithowatt.trace._replay import replayed

            self._core, kept = replayed(self._options, replay, window, idle_watts)
            self._options |= kept
        self._references = ()
        if reference is not None:
            self._references = _opened(reference, replay, root)
            self._options["reference"] = reference
        self._options = settled(self._options)
        self._past = None
        self._spans = []

    @classmethod
    def _absent(cls, reason: str, options: dict[str, Any]) -> EnergyMeter:
        """A meter that measures nothing and has the reason, as where its subject is gone."""
        self = cls.__new__(cls)
        # Nothing is left to the environment, whose settings may be what is wrong.
        self._core = Meter(
            "psutil",
            interval=None,
            children=True,
            label=options.get("label"),
            root=options.get("root"),
            enabled=True,
            definition="marginal",
            absent=reason,
        )
        self._options = options
        self._references = ()
        self._past = None
        self._spans = []
        return self

    @classmethod
    def _of(cls, options: dict[str, Any]) -> EnergyMeter:
        """A meter of these options, and where they cannot be had here, one with the reason."""
        try:
            # A class of the user's may be made of other arguments.
            self = cls.__new__(cls)
            EnergyMeter.__init__(self, **options)
            return self
        except (LithowattError, OSError) as error:
            return cls._absent(described(error), options)

    def __reduce__(self) -> tuple[Any, ...]:
        past = self._past
        try:
            taken = self._core.taken()
        except MeterStateError:
            pass  # never started here
        else:
            samples = self._core.raw_timeline()
            if samples is not None and len(samples[0]) > 8 * _SAMPLES_PICKLED:
                samples = None
            spans = tuple(self._spans)
            past = (self.reading, taken.stats(SPELLING, False), samples, spans)
        options = {**self._options, "label": self.label}
        return _copied, (type(self), options, past), self._kept()

    def _kept(self) -> Any:
        """What an object of a user's class keeps, in the form of pickle; ``None`` for nothing."""
        own = getattr(self, "__dict__", None) or None
        if type(self) is EnergyMeter:
            return own
        import copyreg  # here: pickle and copy have loaded it, and a meter alone needs none

        ours = EnergyMeter.__slots__
        names = [name for name in copyreg._slotnames(type(self)) if name not in ours]  # type: ignore[attr-defined]
        slots = {name: getattr(self, name) for name in names if hasattr(self, name)}
        return (own, slots) if slots else own

    def _raw_stats(self, form: str) -> dict[str, Any]:
        try:
            return self._core.taken().stats(*written(form))
        except MeterStateError:
            if self._past is None:
                raise
            stats = self._past[1]
            names = set(stats)
            if form == "essential":
                names &= {name for key in ESSENTIAL for name in spelt(key)}
            return {
                name: value
                for name, value in stats.items()
                if name in names and (value is not None or form == "full")
            }

    def _raw_stats_json(self, form: str) -> bytes:
        try:
            return self._core.raw_stats_json(*written(form))
        except MeterStateError:
            import json

            return json.dumps(self._raw_stats(form)).encode()

    def _raw_timeline(self) -> tuple[Any, Sequence[_Span]]:
        try:
            return self._core.raw_timeline(), self._spans
        except MeterStateError:
            if self._past is None:
                raise
            # One that was pickled by an older version has no spans.
            return self._past[2], (self._past[3:] or ((),))[0]

    @property
    def label(self) -> str | None:
        """The name that readings and stats carry; may be set at any time."""
        return self._core.label

    @label.setter
    def label(self, label: str | None) -> None:
        self._core.label = label

    @property
    def running(self) -> bool:
        """Whether it runs in this process."""
        return self._core.running

    def start(self) -> None:
        """Starts, or starts again.

        Raises:
            MeterStateError: If it runs.
        """
        self._core.start()
        self._spans = []
        if self._references:
            for reference in self._references:
                reference.start()

    def stop(self) -> None:
        """Stops.

        Raises:
            MeterStateError: If it does not run.
        """
        self._core.stop()
        if self._references:
            for reference in self._references:
                reference.stop()

    def _resume(self) -> None:
        """The task (scope ``task``) goes on, on the calling thread."""
        self._core.resume()

    def _suspend(self) -> None:
        """The task waits."""
        self._core.suspend()

    def _enter_phase(self, name: str) -> bool:
        return self._core.enter_phase(name)

    def _leave_phase(self, name: str) -> bool:
        return self._core.leave_phase(name)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    async def __aenter__(self) -> Self:
        """Starts. Between here and the exit the *process* is metered, other coroutines included:
        a coroutine alone is metered by ``@measure``, which sees where it waits."""
        self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    def _end(self) -> None:
        try:  # noqa: SIM105 - contextlib is one more import
            self.stop()
        except MeterStateError:
            # Whoever stopped it inside the block, or in another thread, has the reading already.
            pass

    def __call__(self, function: _F) -> _F:
        """As a decorator: every call is metered by a meter of its own with these options.

        The last call's meter is ``function.meter``.
        """
        from lithowatt.meter._wrap import decorate

        meters = EnergyMeter if type(self) is EnergyMeter else _Likes(self)
        decorated: _F = decorate(meters, function, None, self._options)
        return decorated

    def phase(self, name: str) -> PhaseMark:
        """Marks a phase of the window, e.g. ``read``, ``compute``, ``write``.

        Phases may nest and repeat; those of one name are summed.

        Args:
            name: The phase's name, not empty. What UTF-8 cannot hold (lone surrogates, as in names
                of files that are no UTF-8) is written as an escape, such as ``\\udcff``.

        Raises:
            ValueError: For a name that is empty or no string.
        """
        if not isinstance(name, str) or not name:
            raise ValueError(f"phase name must be a string that is not empty, not {name!r}")
        if not name.isascii():
            # Names of files may have bytes that are no UTF-8.
            name = name.encode("utf-8", "backslashreplace").decode()
        return PhaseMark(self, name)

    @property
    def reading(self) -> Reading:
        """The last window, or the running one so far.

        Raises:
            MeterStateError: If the meter was never started.
        """
        try:
            reading = Reading._of(self._core.taken())
        except MeterStateError:
            if self._past is None:
                raise
            return self._past[0]
        if self._references:
            start, end = (1e-9 * t_ns for t_ns in reading.window_ns)
            found = (reference.energy(start, end) for reference in self._references)
            reading._reference = {energy.name: energy for energy in found}
        return reading

    @property
    def joules(self) -> float | None:
        """Best estimate of this window's energy in J, ``None`` where there is none.

        By ``reading.definition``, which is the same for all windows here, so that windows may be
        compared; see ``reading.headline`` for its band and quality.
        """
        return self.reading.joules

    @property
    def watts(self) -> float | None:
        """Mean power of this window in W, ``None`` where there is none."""
        return self.reading.watts

    @property
    def duration(self) -> float:
        """Length of the window in s, on the monotonic clock."""
        return self.reading.duration

    def stats(self, compact: bool | None = None) -> dict[str, Any]:
        """The flat dict that Lithops and FlexExecutor carry: ``worker_func_*``, J, W, s, MiB, %.

        ``lithowatt explain`` says what each key is; ``reading.flat()`` has plain keys, and more.
        What is unavailable is ``None``; its ``*_source`` is the reason.

        Args:
            compact: Leave unavailable keys out. By default ``ENERGY_STATS`` decides: ``compact``,
                ``essential`` (unavailable keys and those that tables and profiles of calls do not
                need), or all keys.

        Raises:
            MeterStateError: If the meter was never started.
        """
        return self._raw_stats(form_of(compact))

    def stats_json(self, compact: bool | None = None) -> bytes:
        """:meth:`stats` as JSON text, in UTF-8: quicker where it is to be sent or stored.

        Args:
            compact: As for :meth:`stats`.

        Raises:
            MeterStateError: If the meter was never started.
        """
        return self._raw_stats_json(form_of(compact))

    def timeline(self) -> Timeline:
        """The samples of the window as NumPy arrays: times in s, power in W per domain.

        Raises:
            MeterStateError: If the meter was never started.
            ImportError: Where NumPy is missing, with the command that installs it.
        """
        try:
            from lithowatt.meter._timeline import Timeline
        except ImportError as error:
            from lithowatt._support.install import pip_install

            raise ImportError(f"timeline needs NumPy: {pip_install('numpy')}") from error
        raw, spans = self._raw_timeline()
        return Timeline.from_raw(raw)._about(self.reading, spans)

    def __repr__(self) -> str:
        try:
            return repr(self.reading).replace("Reading", "EnergyMeter", 1)
        except MeterStateError:
            return "<EnergyMeter: not started>"

    def _repr_html_(self) -> str:
        try:
            return self.reading._repr_html_()
        except MeterStateError:
            return "<em>EnergyMeter: not started</em>"


def _opened(
    reference: str | os.PathLike[str] | Reference | Sequence[str | os.PathLike[str] | Reference],
    replay: object,
    root: str | os.PathLike[str] | None,
) -> tuple[Reference, ...]:
    """The meters of the whole machine that were asked for."""
    if replay is not None:
        raise ConflictingOptionsError(
            "reference reads this machine, and replay another window; expected one of them"
        )
    from lithowatt.reference import open_references

    return open_references(reference, root)


def _copied(cls: type[EnergyMeter], options: dict[str, Any], past: _Past | None) -> EnergyMeter:
    """A copied or unpickled meter, on this machine."""
    meter = cls._of(options)
    meter._past = past
    return meter


class _Likes:
    """Makes meters as one of a user's class is, each with a copy of what that one keeps."""

    __slots__ = ("_like",)

    def __init__(self, like: EnergyMeter) -> None:
        self._like = like

    def _of(self, options: dict[str, Any]) -> EnergyMeter:
        return self._alike(type(self._like)._of(options))

    def _absent(self, reason: str, options: dict[str, Any]) -> EnergyMeter:
        return self._alike(type(self._like)._absent(reason, options))

    def _alike(self, meter: EnergyMeter) -> EnergyMeter:
        kept = self._like._kept()
        restore = getattr(meter, "__setstate__", None)
        if kept is None:
            return meter
        if restore is not None:
            restore(kept)
            return meter
        own, slots = kept if isinstance(kept, tuple) else (kept, {})
        for name, value in {**(own or {}), **slots}.items():
            setattr(meter, name, value)
        return meter


def settled(options: dict[str, Any]) -> dict[str, Any]:
    """The options, without a list that its owner may change later."""
    methods = options.get("methods", "auto")
    lists = {} if isinstance(methods, str) else {"methods": tuple(methods)}
    for name in ("pid", "cgroup", "reference"):
        if isinstance(options.get(name), list):
            lists[name] = tuple(options[name])
    return {**options, **lists} if lists else options


def is_mistake(error: Exception, options: dict[str, Any]) -> bool:
    """Whether a meter's own options are at fault, and not the surroundings."""
    if isinstance(error, UnknownMethodError):
        # Names may be unknown in the options and in the environment, which "auto" asks: tried
        # without it, those of the options alone can be wrong.
        given = options.get("methods", "auto")
        names = (given if isinstance(given, str) else ",".join(given)).split(",")
        named = [name for name in names if name.strip().lower() not in ("", "auto")]
        estimation = options.get("estimation")
        try:
            Meter(
                named or "all",
                interval=None,
                children=True,
                estimation=estimation,
                definition="marginal",
            )
        except UnknownMethodError:
            return True
        return False
    if isinstance(error, UnknownDefinitionError):
        return options.get("definition") is not None
    if isinstance(error, InvalidIntervalError):
        return bool(options.get("interval", "auto") != "auto")
    return isinstance(error, (ConflictingOptionsError, UnknownScopeError))


class PhaseMark:
    """Marks a stretch of a window with a name, as a context manager.

    Attributes:
        name: The phase's name.
    """

    __slots__ = ("_meter", "_since", "name")

    def __init__(self, meter: EnergyMeter, name: str) -> None:
        self._meter = meter
        self._since: list[int] = []
        self.name = name

    def __enter__(self) -> PhaseMark:
        if self._meter._enter_phase(self.name):
            self._since.append(monotonic_ns())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._meter._leave_phase(self.name)
        # Also of a window that was stopped meanwhile, which ended the phase with it.
        if self._since:
            span = self.name, self._since.pop(), monotonic_ns()
            if len(self._meter._spans) < _MOST_SPANS:
                self._meter._spans.append(span)
