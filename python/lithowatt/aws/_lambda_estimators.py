"""Joules of AWS Lambda functions by the power model, by the names of the energy prototype."""

from __future__ import annotations

import math

from lithowatt import _core
from lithowatt._support.arguments import not_negative
from lithowatt.estimate import Estimate
from lithowatt.meter._meter import EnergyMeter
from lithowatt.model._power import PowerModel

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from typing import Any

    StrPath = str | os.PathLike[str]

#: Memory sizes that AWS Lambda accepts are up to 10240 MB; what is above 1 TB is a mistake.
_MOST_MB = 1 << 20


class AWSLambdaEnergyEstimator:
    """Energy of AWS Lambda calls from what is known of them afterwards.

    Args:
        architecture: ``arm64``/``aarch64`` or ``x86_64``; by default that of this machine.
        cpu_name: Processor as ``/proc/cpuinfo`` on Lambda shows it, if known; by default this
            machine's where this is Lambda.
        instance_detector: Something with ``detect_instance()``; by default a
            :class:`~lithowatt.aws.AWSInstanceDetector`.
        estimation: ``curve``, ``tdp_based`` or ``vcpu``, as for :class:`~lithowatt.EnergyMeter`;
            by default ``ENERGY_ESTIMATION_METHOD`` or ``curve``.

    Raises:
        UnknownMethodError: For another estimation.

    Example:
        >>> estimator = AWSLambdaEnergyEstimator(architecture="arm64")
        >>> result = estimator.estimate_energy_consumption(
        ...     {"cpu_percent": 80.0, "duration": 10.0, "memory_mb": 1769})
        >>> result["energy_low"] < result["estimated_energy"] < result["energy_high"]
        True
        >>> result["method"]
        'model:lambda-arm64'
    """

    def __init__(
        self,
        architecture: str | None = None,
        cpu_name: str | None = None,
        *,
        instance_detector: Any = None,
        estimation: str | None = None,
    ) -> None:
        if instance_detector is None:
            from lithowatt.aws import AWSInstanceDetector

            instance_detector = AWSInstanceDetector()
        self.instance_detector = instance_detector
        self._architecture = architecture
        self._cpu_name = cpu_name
        self._estimation = _estimation(estimation)

    def estimate_energy_consumption(self, execution_stats: Mapping[str, Any]) -> dict[str, Any]:
        """The energy of one call.

        Args:
            execution_stats: ``cpu_percent`` (0..100 of the vCPUs that the memory buys; more is a
                burst), ``duration`` (s) and ``memory_mb``.

        Returns:
            ``estimated_energy``, ``energy_low`` and ``energy_high`` (J, 95 % band; idle power of
            the share and its memory are in it), ``confidence`` (see below), ``method`` (as
            ``energy_method`` of the stats) and ``instance_info``.

            ``confidence`` is ``sqrt(energy_low / energy_high)``, 0..1: with a band of × or ÷ ``f``
            it is ``1 / f``. 1 would be no doubt, 0.5 a factor of two either way. It sets how wide
            the band is, not how likely.

        Raises:
            KeyError: For a missing key.
            TypeError, ValueError: For a value that is no number, negative, NaN or infinite, or a
                memory size of 0 or above 1 TB.
        """
        percent = not_negative("cpu_percent", execution_stats["cpu_percent"])
        duration = not_negative("duration", execution_stats["duration"])
        memory_mb = _memory(execution_stats["memory_mb"])
        info = self.instance_detector.detect_instance()
        architecture = self._architecture or info["architecture"]
        name = self._cpu_name or (info.get("processor_type") if info.get("is_lambda") else None)
        model = PowerModel.for_lambda(memory_mb, architecture, name)
        vcpus = _vcpus(model)
        watts = _share_watts(model, self._estimation, vcpus, vcpus * percent / 100, memory_mb)
        low, high = watts.low * duration, watts.high * duration
        return {
            "estimated_energy": watts.value * duration,
            "energy_low": low,
            "energy_high": high,
            "confidence": math.sqrt(watts.low / watts.high) if watts.high > 0 else 0.0,
            "method": watts.source,
            "instance_info": info,
        }


class LambdaTDPEstimator:
    """The TDP of what a Lambda function's memory buys, and energy by it.

    Args:
        memory_mb: Memory size of the function; 1769 MB are one vCPU.
        architecture: ``arm64``/``aarch64`` or ``x86_64``; by default that of this machine.
        cpu_name: Processor as ``/proc/cpuinfo`` on Lambda shows it, if known.

    Attributes:
        memory_mb: As given.
        vcpus: vCPUs that it buys.
        model: The :class:`~lithowatt.PowerModel` behind it.

    Raises:
        TypeError, ValueError: For a memory size that is no whole number from 1 to 1048576.

    Example:
        >>> half, whole = LambdaTDPEstimator(884), LambdaTDPEstimator(1768)
        >>> round(whole.tdp_watts / half.tdp_watts, 6)
        2.0
        >>> whole.tdp_watts < 10  # W: of a share, not of the package
        True
    """

    def __init__(
        self, memory_mb: int, architecture: str | None = None, cpu_name: str | None = None
    ) -> None:
        self.memory_mb = _memory(memory_mb)
        if architecture is None:
            architecture = str(_core.cpu_identity()["architecture"])
        self.model = PowerModel.for_lambda(self.memory_mb, architecture, cpu_name)
        self.vcpus = _vcpus(self.model)

    @property
    def tdp_watts(self) -> float:
        """TDP of the share, W: the package's TDP by its hardware threads, × :attr:`vcpus`."""
        return _share_watts(self.model, "tdp_based", self.vcpus, self.vcpus, self.memory_mb).value

    def estimate(self, cpu_percent: float, duration: float) -> Estimate:
        """Energy by :attr:`tdp_watts` × load × time, J, in a band that holds the curve's.

        Args:
            cpu_percent: 0..100 of the vCPUs that the memory buys.
            duration: s.

        Raises:
            TypeError, ValueError: For what is no number, negative, NaN or infinite.

        Example:
            >>> tdp = LambdaTDPEstimator(1769, "arm64")
            >>> round(tdp.estimate(50.0, 4.0).value / tdp.tdp_watts, 6)
            2.0
        """
        busy = self.vcpus * not_negative("cpu_percent", cpu_percent) / 100
        seconds = not_negative("duration", duration)
        watts = _share_watts(self.model, "tdp_based", self.vcpus, busy, self.memory_mb)
        return Estimate(
            watts.value * seconds, watts.low * seconds, watts.high * seconds, watts.source
        )

    def __repr__(self) -> str:
        return f"<LambdaTDPEstimator: {self.memory_mb} MB, {self.tdp_watts:.2f} W>"


class LambdaCPUMonitor:
    """CPU time that a function really got, of what its memory buys.

    Args:
        memory_mb: Memory size of the function; by default the environment's. Outside of
            Lambda and without it, the CPUs that this process may use are what is bought.
        root: Where ``/sys`` and ``/proc`` are; ``LITHOWATT_ROOT`` or ``/`` by default.

    Raises:
        TypeError, ValueError: For a memory size that is no whole number from 1 to 1048576.

    Example:
        >>> monitor = LambdaCPUMonitor(memory_mb=1769)
        >>> monitor.start()
        >>> total = sum(range(1_000_000))
        >>> monitor.stop()
        >>> used = monitor.get()
        >>> used["vcpus_bought"], used["cpu_seconds"] > 0
        (1.0, True)
    """

    def __init__(self, memory_mb: int | None = None, *, root: StrPath | None = None) -> None:
        if memory_mb is None:
            self.vcpus_bought = float(_core.surroundings(root)["allotted"]["cpus"])
        else:
            self.vcpus_bought = _vcpus(PowerModel.for_lambda(_memory(memory_mb), "x86_64"))
        #: The meter behind it.
        self.meter = EnergyMeter(methods=("psutil",), root=root)

    def start(self) -> None:
        """Starts counting, from zero if it ran already."""
        self.stop()
        self.meter.start()

    def stop(self) -> None:
        """Stops counting; without effect where it does not count."""
        if self.meter.running:
            self.meter.stop()

    def get(self) -> dict[str, Any]:
        """What was used in the last window, or in the running one so far.

        Returns:
            ``cpu_seconds`` (of this process and its descendants) and ``duration`` (s);
            ``vcpus_used`` (their ratio) of ``vcpus_bought``; ``cpu_percent`` (of those bought;
            above 100 in a burst); ``throttled_seconds``, ``throttled_periods`` and ``periods``
            (of the cgroup's quota; ``None`` where no cgroup shows one, as on Lambda);
            ``steal_seconds`` (taken by the hypervisor, all CPUs). ``None`` where unknown.

        Raises:
            MeterStateError: If it was never started.
        """
        reading = self.meter.reading
        cpu, duration = reading.cpu_seconds, reading.duration
        used = cpu / duration if cpu is not None and duration > 0 else None
        limited = reading.raw["environment"]["allotted"]["set_by"] == "quota"
        sandbox = reading.sandbox if limited else None
        return {
            "cpu_seconds": cpu,
            "duration": duration,
            "vcpus_used": used,
            "vcpus_bought": self.vcpus_bought,
            "cpu_percent": None if used is None else 100 * used / self.vcpus_bought,
            "throttled_seconds": sandbox and sandbox.throttled_seconds,
            "throttled_periods": sandbox and sandbox.throttled_periods,
            "periods": sandbox and sandbox.periods,
            "steal_seconds": reading.steal_seconds,
        }

    #: The name that the monitors of :mod:`lithowatt.monitors` have for it.
    get_metrics = get

    def __repr__(self) -> str:
        state = "running" if self.meter.running else "not running"
        return f"<LambdaCPUMonitor: {self.vcpus_bought:.2f} vCPUs, {state}>"


def _share_watts(
    model: PowerModel, estimation: str, vcpus: float, busy: float, memory_mb: int
) -> Estimate:
    """Watts of a share with its memory, as a meter makes them; ``source`` is the method."""
    return model.share_watts(vcpus, busy, memory_mb / 1024, estimation=estimation).total


def _vcpus(model: PowerModel) -> float:
    return float(model.assumptions()["allotted_vcpus"])


def _estimation(given: str | None) -> str:
    """A method that exists; for an unknown one in the environment, the default."""
    import os

    from lithowatt.errors import UnknownMethodError

    name = given or os.environ.get("ENERGY_ESTIMATION_METHOD") or "curve"
    try:
        PowerModel.for_cpu("").share_watts(1.0, 1.0, estimation=name)
    except UnknownMethodError:
        if given:
            raise
        import warnings

        warnings.warn(
            "ENERGY_ESTIMATION_METHOD is none of curve, tdp_based and vcpu: curve is used",
            stacklevel=3,
        )
        return "curve"
    return name


def _memory(value: Any) -> int:
    number = not_negative("memory_mb", value)
    if not (1 <= number <= _MOST_MB and number == int(number)):
        raise ValueError(
            f"memory_mb must be a whole number from 1 to {_MOST_MB}, not {repr(value)[:80]}"
        )
    return int(number)
