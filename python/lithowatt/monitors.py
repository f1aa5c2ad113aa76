"""Monitors of one method each, over one :class:`~lithowatt.EnergyMeter`.

Their names are kept from the FlexExecutor energy prototype (docs/reference/glossary.md).

They know RAPL, perf, kernel probes and psutil. Sensors of hwmon, the part that a virtual machine's
host hands on, and GPUs are none of these: the meter behind a monitor has them,
``monitor.meter.reading.hwmon``, ``.guest`` and ``.gpu``, where it was made with such methods, as
that of :class:`LocalhostEnergyMonitor` is.

Energies are in J and times in s. What is unavailable is ``None``, with the reason in ``source``.
Metrics have the names of the keys of the stats without their prefix and the method: ``energy_pkg``
of ``rapl`` is the stats' ``…rapl_energy_pkg``.
"""

from __future__ import annotations

from lithowatt import _core
from lithowatt._support.arguments import number
from lithowatt.errors import MeterStateError
from lithowatt.meter._absent import absent_stats
from lithowatt.meter._meter import EnergyMeter
from lithowatt.stats import PREFIX

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from typing import Any, Literal

    StrPath = str | os.PathLike[str]

__all__ = [
    "LocalhostEnergyMonitor",
    "PERFMonitor",
    "PSUtilMonitor",
    "RAPLMonitor",
    "eBPFMonitor",
    "read_rapl_energy",
    "setup_perf_monitoring",
]

#: perf's names of what the prototype opens, and what the core calls them where it opened them.
_EVENTS = {
    "power/energy-pkg/": "power/energy-pkg/",
    "power/energy-cores/": "power/energy-cores/",
    "cpu-cycles": "cycles",
    "instructions": "instructions",
}

#: s: counters change within 20 ms, those that an agent reads within 0.1 s.
_MOVES_WITHIN = 0.2


class _Monitor:
    """One method of a meter.

    Args:
        process_id: Process to meter with its descendants; this one by default.
        root: Where ``/sys`` and ``/proc`` are; ``LITHOWATT_ROOT`` or ``/`` by default.
        interval: As for :class:`~lithowatt.EnergyMeter`.
        meter: A meter to share; then the other arguments do not count.

    Raises:
        LithowattError: As :class:`~lithowatt.EnergyMeter`.
    """

    _method = ""
    _methods: Sequence[str] = ()

    def __init__(
        self,
        process_id: int | None = None,
        *,
        root: StrPath | None = None,
        interval: float | Literal["auto"] | None = "auto",
        meter: EnergyMeter | None = None,
    ) -> None:
        self._root = root
        #: The meter behind it.
        self.meter = (
            EnergyMeter(methods=self._methods, interval=interval, pid=process_id, root=root)
            if meter is None
            else meter
        )

    @property
    def reason(self) -> str | None:
        """Why the method cannot be used here, ``None`` where it can.

        It is looked for anew each time, in some ms. That a counter stands still shows in a window
        of 0.2 s or longer, and is the reason from then on.
        """
        finding = _finding(self._method, self._root)
        if not finding["available"]:
            return str(finding["reason"])
        stats = _stats(self.meter, self._root)
        seen = (stats[PREFIX + "energy_duration"] or 0) >= _MOVES_WITHIN
        if seen and not stats[f"{PREFIX}{self._method}_available"]:
            return str(stats[f"{PREFIX}{self._method}_source"]).removeprefix("unavailable: ")
        return None

    def start(self) -> None:
        """Starts counting, from zero if it ran already."""
        self.stop()
        self.meter.start()

    def stop(self) -> None:
        """Stops counting; without effect where it does not count."""
        if self.meter.running:
            self.meter.stop()

    def get_metrics(self) -> dict[str, Any]:
        """What the method gives of the last window, or of the running one so far."""
        return self._part(_stats(self.meter, self._root))

    def _part(self, stats: dict[str, Any]) -> dict[str, Any]:
        prefix = f"{PREFIX}{self._method}_"
        part = {k.removeprefix(prefix): v for k, v in stats.items() if k.startswith(prefix)}
        return {**part, "duration": stats[PREFIX + "energy_duration"]}

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {'running' if self.meter.running else 'not running'}>"


class RAPLMonitor(_Monitor):
    """The machine's energy through powercap, J.

    As in the prototype it counts from its making; :meth:`start` begins again.

    Attributes:
        calibration_factor: What :meth:`get_energy_consumption` multiplies with, 1.0 until measured.
        calibration_source: What it was measured against, or ``unavailable: <reason>``.

    Example:
        >>> monitor = RAPLMonitor()
        >>> total = sum(range(100_000))
        >>> monitor.stop()
        >>> metrics = monitor.get_metrics()
        >>> metrics["available"] == (metrics["energy_pkg"] is not None)
        True
        >>> monitor.calibration_factor
        1.0
    """

    _method = "rapl"
    # perf is there to calibrate against.
    _methods = ("rapl", "perf")

    def __init__(
        self,
        *,
        root: StrPath | None = None,
        interval: float | Literal["auto"] | None = "auto",
        meter: EnergyMeter | None = None,
    ) -> None:
        super().__init__(root=root, interval=interval, meter=meter)
        self.calibration_factor = 1.0
        self.calibration_source = "unavailable: calculate_calibration() was not called"
        if meter is None:
            self.start()

    def get_energy_consumption(self, domain: str = "total") -> float | None:
        """Energy since the start × ``calibration_factor``, J; ``None`` where unavailable.

        Args:
            domain: ``total`` (packages + DRAM), ``package``, ``core``, ``uncore``, ``dram`` or
                ``psys``, all sockets summed.

        Raises:
            ValueError: For another domain.
            MeterStateError: If a meter that it shares was never started.

        Example:
            >>> monitor = RAPLMonitor()
            >>> joules = monitor.get_energy_consumption()
            >>> joules is None or joules > 0
            True
        """
        estimate = self.meter.reading.rapl.estimate(domain)
        return None if estimate is None else estimate.value * self.calibration_factor

    def calculate_calibration(self, reference_joules: float | None = None) -> float:
        """Measures and keeps the factor of a reference against RAPL, over the window so far.

        Args:
            reference_joules: J of packages + DRAM in this window by another meter. Without it perf
                is the reference, by the domains that both have.

        Returns:
            J of the reference per J of RAPL; 1.0 where there is nothing to measure it with or
            against. ``calibration_source`` names it, and how far the window's edges may be off.

        Raises:
            TypeError: For a reference that is no number.
            ValueError: For one that is not above 0 J, NaN or infinite.

        Example:
            >>> monitor = RAPLMonitor()
            >>> factor = monitor.calculate_calibration()
            >>> factor == 1.0 or monitor.calibration_source.startswith("measured: ")
            True
        """
        given = None
        if reference_joules is not None:
            given = number("reference_joules in J", reference_joules)
            if given <= 0:
                raise ValueError(f"reference_joules must be above 0 J, not {reference_joules!r}")
        reading = self.meter.reading
        rapl, perf = reading.rapl, reading.perf
        names = [d for d in ("package", "dram") if rapl.estimate(d) is not None]
        if given is None:
            names = [d for d in names if perf.estimate(d) is not None]
        ours = [e for e in map(rapl.estimate, names) if e is not None]
        theirs = [e for e in map(perf.estimate, names) if e is not None]
        self.calibration_factor = 1.0
        if not rapl.available:
            self.calibration_source = rapl.source
        elif "package" not in names:
            missing = "rapl: no package energy" if given is not None else f"perf: {perf.source}"
            self.calibration_source = f"unavailable: {missing}"
        else:
            joules = sum(e.value for e in ours)
            half = sum(e.high - e.low for e in ours) / 2
            reference = sum(e.value for e in theirs) if given is None else given
            self.calibration_factor = reference / joules
            self.calibration_source = (
                f"measured: {'perf' if given is None else 'reference'} {reference:.6g} J against "
                f"rapl {joules:.6g} J ± {half / joules:.1%} ({' + '.join(names)}) "
                f"in {reading.duration:.3g} s"
            )
        return self.calibration_factor

    def _part(self, stats: dict[str, Any]) -> dict[str, Any]:
        return {
            **super()._part(stats),
            "calibration_factor": self.calibration_factor,
            "calibration_source": self.calibration_source,
        }


class PERFMonitor(_Monitor):
    """perf: the machine's energy by the power PMU in J, and the process tree's own counts.

    Example:
        >>> monitor = PERFMonitor()
        >>> monitor.start()
        >>> total = sum(range(100_000))
        >>> monitor.stop()
        >>> {"energy_pkg", "cycles", "instructions", "source"} <= set(monitor.get_metrics())
        True
    """

    _method = "perf"
    _methods = ("perf",)


class eBPFMonitor(_Monitor):
    """Kernel probes. Where there are none, the metrics are ``None``, and :attr:`reason` is given.

    Starting it loads them if this process is allowed to, and pins them for every process of the
    machine; ``lithowatt doctor --unload`` takes them out again.

    Example:
        >>> monitor = eBPFMonitor()
        >>> deployed = monitor.deploy_programs()  # doctest: +SKIP
        >>> deployed or monitor.reason is not None  # doctest: +SKIP
        True
        >>> monitor.get_metrics()["available"] == deployed  # doctest: +SKIP
        True
    """

    _method = "ebpf"
    _methods = ("ebpf",)

    def deploy_programs(self) -> bool:
        """Loads the probes if need be and starts counting with them.

        Returns:
            False where there are none; see :attr:`reason`.

        Example:
            >>> monitor = eBPFMonitor()
            >>> monitor.deploy_programs() == (monitor.reason is None)  # doctest: +SKIP
            True
        """
        self.start()
        return self.reason is None


class PSUtilMonitor(_Monitor):
    """CPU, memory, disk and network of the machine and the process, as psutil defines them.

    Percent are 0 to 100, memory and traffic in MiB, frequency in MHz, temperature in °C.

    Example:
        >>> monitor = PSUtilMonitor()
        >>> monitor.start()
        >>> total = sum(range(100_000))
        >>> monitor.stop()
        >>> monitor.get_metrics()["process_memory_mb"] > 0
        True
    """

    _method = "psutil"
    _methods = ("psutil",)


class LocalhostEnergyMonitor:
    """All four methods over one and the same window.

    Args:
        process_id: Process to meter with its descendants; this one by default.
        root: Where ``/sys`` and ``/proc`` are; ``LITHOWATT_ROOT`` or ``/`` by default.
        interval: As for :class:`~lithowatt.EnergyMeter`.

    Raises:
        LithowattError: As :class:`~lithowatt.EnergyMeter`.

    Attributes:
        rapl_monitor, perf_monitor, ebpf_monitor, psutil_monitor: One method of it each.

    Example:
        >>> monitor = LocalhostEnergyMonitor()
        >>> monitor.start_monitoring()
        >>> total = sum(range(100_000))
        >>> monitor.stop_monitoring()
        >>> metrics = monitor.collect_metrics()
        >>> list(metrics)
        ['rapl', 'perf', 'ebpf', 'psutil']
        >>> metrics["psutil"]["duration"] > 0  # s
        True
    """

    def __init__(
        self,
        process_id: int | None = None,
        *,
        root: StrPath | None = None,
        interval: float | Literal["auto"] | None = "auto",
    ) -> None:
        self._root = root
        #: The meter behind all four. It uses kernel probes that are loaded and loads none.
        self.meter = EnergyMeter(methods="all", interval=interval, pid=process_id, root=root)
        self.rapl_monitor = RAPLMonitor(root=root, meter=self.meter)
        self.perf_monitor = PERFMonitor(root=root, meter=self.meter)
        self.ebpf_monitor = eBPFMonitor(root=root, meter=self.meter)
        self.psutil_monitor = PSUtilMonitor(root=root, meter=self.meter)

    def start_monitoring(self) -> None:
        """Starts counting, from zero if it ran already."""
        self.stop_monitoring()
        self.meter.start()

    def stop_monitoring(self) -> None:
        """Stops counting; without effect where it does not count."""
        if self.meter.running:
            self.meter.stop()

    def collect_metrics(self) -> dict[str, dict[str, Any]]:
        """Metrics by method, of the last window or of the running one so far.

        Example:
            >>> LocalhostEnergyMonitor().collect_metrics()["rapl"]["source"]
            'unavailable: not started: call start() first'
        """
        stats = _stats(self.meter, self._root)
        monitors = (self.rapl_monitor, self.perf_monitor, self.ebpf_monitor, self.psutil_monitor)
        return {monitor._method: monitor._part(stats) for monitor in monitors}


def read_rapl_energy(root: StrPath | None = None) -> tuple[float | None, float | None]:
    """What the machine's RAPL counters show at the moment: (packages, cores), J.

    All sockets are summed, by the zones' names. The counters began at boot or at their last wrap,
    so a difference of two calls may be negative: :class:`RAPLMonitor` puts wraps right. ``None``
    where a counter of the domain is missing or may not be read; see ``lithowatt doctor``.

    Args:
        root: Where ``/sys`` and ``/proc`` are; ``LITHOWATT_ROOT`` or ``/`` by default.

    Raises:
        TypeError: For a root that is no path.

    Example:
        >>> package, cores = read_rapl_energy()
        >>> package is None or package >= 0
        True
    """
    return _core.rapl_now(root)


def setup_perf_monitoring(root: StrPath | None = None) -> dict[str, dict[str, Any]]:
    """Opens perf's counters and returns which there are, by perf's name of the event.

    They stay open in this process for its meters, :class:`PERFMonitor` among them.

    Args:
        root: Where ``/sys`` and ``/proc`` are; ``LITHOWATT_ROOT`` or ``/`` by default.

    Returns:
        For the prototype's four events and every other that was opened, ``available`` (bool) and
        ``reason`` (``None`` where available).

    Example:
        >>> events = setup_perf_monitoring()
        >>> sorted(events)[:2]
        ['cpu-cycles', 'instructions']
        >>> all(e["available"] == (e["reason"] is None) for e in events.values())
        True
    """
    finding = _finding("perf", root)
    # "power/energy-pkg/ on cpu 0": the event, once per socket.
    opened = {name.partition(" ")[0] for name in finding["gives"]}
    reason = finding["reason"] or "this machine has no such event"
    events = {
        event: {
            "available": name in opened,
            "reason": None if name in opened else reason,
        }
        for event, name in _EVENTS.items()
    }
    for name in sorted(opened - set(_EVENTS.values())):
        events[name] = {"available": True, "reason": None}
    return events


def _finding(method: str, root: StrPath | None) -> dict[str, Any]:
    """The doctor's entry of a method, as far as it is known without waiting."""
    (finding,) = _core.doctor(root, [method], waits=False)
    return finding


def _stats(meter: EnergyMeter, root: StrPath | None) -> dict[str, Any]:
    try:
        return meter.stats(compact=False)
    except MeterStateError:
        return absent_stats("not started: call start() first", root)
