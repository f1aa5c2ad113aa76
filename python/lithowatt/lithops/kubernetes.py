"""Energy of functions in Kubernetes: names kept from the prototype, and the pod template.

Energies are in J and times in s.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lithowatt import _core
from lithowatt._support.arguments import number, shown
from lithowatt.lithops._k8s_template import Mode, TemplateProblem, edit_template, use_template
from lithowatt.meter._absent import absent_stats
from lithowatt.meter._meter import EnergyMeter

if TYPE_CHECKING:
    import os
    from typing import Literal

    from lithowatt.meter._reading import Reading

    StrPath = str | os.PathLike[str]

__all__ = [
    "EstimationEnergyMonitor",
    "HardwareEnergyMonitor",
    "Mode",
    "TemplateProblem",
    "attribute_container_energy",
    "edit_template",
    "setup_k8s_energy_monitoring",
    "use_template",
]


class _PodMonitor:
    """An :class:`~lithowatt.EnergyMeter` under the prototype's names.

    Args:
        root: Where `/sys` and `/proc` are; `LITHOWATT_ROOT` or `/` by default.
        interval: As for :class:`~lithowatt.EnergyMeter`.

    Attributes:
        meter: The meter behind it.
    """

    _methods: tuple[str, ...] = ()

    def __init__(
        self, *, root: StrPath | None = None, interval: float | Literal["auto"] | None = "auto"
    ) -> None:
        self._root = root
        self.meter = EnergyMeter(methods=self._methods, interval=interval, root=root)

    def start_monitoring(self) -> None:
        """Starts counting, from zero if it ran already."""
        if self.meter.running:
            self.meter.stop()
        self.meter.start()

    def stop_monitoring(self) -> dict[str, Any]:
        """Stops counting and returns the stats of the window; every key, with reasons, where it
        was never started."""
        if self.meter.running:
            self.meter.stop()
        elif self.reading is None:
            return absent_stats("start_monitoring() was not called", self._root)
        return self.meter.stats()

    @property
    def reading(self) -> Reading | None:
        """The last window, or the running one so far; `None` before the first."""
        from lithowatt.errors import MeterStateError

        try:
            return self.meter.reading
        except MeterStateError:
            return None

    def get_energy_consumption(self) -> float | None:
        """Energy of this process and its descendants in the window, J; `None` where unknown."""
        reading = self.reading
        return None if reading is None else reading.joules

    def __repr__(self) -> str:
        running = "running" if self.meter.running else "not running"
        return f"<{type(self).__name__}: {running}>"


class HardwareEnergyMonitor(_PodMonitor):
    """By the machine's counters: the pod's own view of them, or the node agent's ring.

    Example:
        >>> monitor = HardwareEnergyMonitor()
        >>> monitor.start_monitoring()
        >>> stats = monitor.stop_monitoring()
        >>> stats["worker_func_rapl_available"] in (True, False)
        True
    """

    _methods = ("counters", "nvml", "psutil", "tdp")


class EstimationEnergyMonitor(_PodMonitor):
    """By the power model with the pod's limits: CPU quota and set, cgroup v1, v2 or both.

    Example:
        >>> monitor = EstimationEnergyMonitor()
        >>> monitor.start_monitoring()
        >>> total = sum(range(1_000_000))
        >>> monitor.stop_monitoring()["worker_func_energy_quality"]
        'modelled'
    """

    _methods = ("psutil", "tdp")


def setup_k8s_energy_monitoring(
    root: StrPath | None = None,
) -> HardwareEnergyMonitor | EstimationEnergyMonitor:
    """The monitor for this pod: by counters where any can be read, else by the model.

    The prototype took a powercap directory; here a counter must be readable, by the pod itself
    or through the node agent's ring. It takes some ms. Nobody waits for a counter to move: where
    none does, the hardware monitor's joules are the model's, and its stats say why.

    Args:
        root: Where `/sys` and `/proc` are; `LITHOWATT_ROOT` or `/` by default.

    Example:
        >>> monitor = setup_k8s_energy_monitoring()
        >>> monitor.start_monitoring()
        >>> joules = monitor.get_energy_consumption()
        >>> joules is None or joules >= 0
        True
    """
    counters = _core.doctor(root, ["counters"], waits=False)
    if any(finding["available"] for finding in counters):
        return HardwareEnergyMonitor(root=root)
    return EstimationEnergyMonitor(root=root)


def attribute_container_energy(
    container_stats: Mapping[str, Any],
    total_energy: float,
    total_cpu_usage: float | None = None,
    idle_energy: float = 0.0,
) -> float:
    """A container's part of a machine's energy, J, as the node agent divides it.

    Args:
        container_stats: `cpu_usage`: CPU time of the container, s; and `total_cpu_usage`: that of
            the whole machine, unless it is given apart.
        total_energy: The machine's in the same span, J.
        total_cpu_usage: CPU time used on the machine, s.
        idle_energy: What the machine would have used at rest, J: nobody's.

    Returns:
        Energy above idle, J.

    Raises:
        TypeError: For what is no number, or statistics that are no mapping.
        ValueError: For numbers that are negative or not finite, a container that used more than
            the machine, or a missing total.

    Example:
        >>> attribute_container_energy({"cpu_usage": 3.0, "total_cpu_usage": 4.0}, 100.0)
        75.0
        >>> attribute_container_energy({"cpu_usage": 1.0}, 100.0, 4.0, idle_energy=20.0)
        20.0
    """
    if not isinstance(container_stats, Mapping):
        raise TypeError(f"container_stats must be a mapping, not {shown(container_stats)}")
    if total_cpu_usage is None:
        total_cpu_usage = container_stats.get("total_cpu_usage")
    if "cpu_usage" not in container_stats or total_cpu_usage is None:
        raise ValueError(
            "container_stats must hold cpu_usage and total_cpu_usage (or total_cpu_usage be given "
            f"apart), not {shown(dict(container_stats))}"
        )
    values = {
        "cpu_usage": container_stats["cpu_usage"],
        "total_cpu_usage": total_cpu_usage,
        "total_energy": total_energy,
        "idle_energy": idle_energy,
    }
    numbers = {name: number(name, value) for name, value in values.items()}
    for name, value in numbers.items():
        # Until 2^64 µJ or ns, some 580 years of one CPU.
        if not 0 <= value < 1e10:
            raise ValueError(f"{name} must be 0 to 1e10, not {value!r}")
    used, total = numbers["cpu_usage"], numbers["total_cpu_usage"]
    if used > total:
        raise ValueError(f"cpu_usage {used!r} s must not be above total_cpu_usage {total!r} s")
    (part,), _ = _core.divide_energy(numbers["total_energy"], numbers["idle_energy"], [used], total)
    return part
