"""``PowerModel``: watts where there is no counter."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from lithowatt import _core
from lithowatt.estimate import Estimate

__all__ = ["Estimate", "PowerModel", "SharePower"]


class SharePower(NamedTuple):
    """Watts of a share of a machine, processor and memory, with 95 % bands.

    Attributes:
        total: All of it, W: idle + active.
        idle: What flows at rest, W.
        active: What flows above that, W.
    """

    total: Estimate
    idle: Estimate
    active: Estimate


class PowerModel:
    """The power of a processor as a function of its load.

    Example:
        >>> model = PowerModel.for_cpu("AMD EPYC 8024P 8-Core Processor", logical_cpus=16)
        >>> estimate = model.watts(50.0)
        >>> estimate.low < estimate.value < estimate.high
        True
    """

    __slots__ = ("_model",)

    def __init__(self, model: _core.PowerModel) -> None:
        self._model = model

    @classmethod
    def for_cpu(
        cls, name: str, logical_cpus: int | None = None, sockets: int | None = None
    ) -> PowerModel:
        """The model of a processor by the name in ``/proc/cpuinfo``.

        A name that is not in the table gets the default of its class with a wide band; the
        source of every estimate names it.
        """
        return cls(_core.PowerModel.raw_for_cpu(name, logical_cpus, sockets))

    @classmethod
    def for_machine(cls, root: str | os.PathLike[str] | None = None) -> PowerModel:
        """The model of this machine, or of the one whose ``/proc`` is below ``root``.

        Unlike a name alone this knows whether the machine is a guest, whose CPUs are a share of
        a host. It is what a meter uses here where there is no counter.

        Example:
            >>> PowerModel.for_machine().watts(100.0).value > 0
            True
        """
        return cls(_core.PowerModel.raw_for_machine(root))

    @classmethod
    def for_lambda(
        cls, memory_mb: int, architecture: str, cpu_name: str | None = None
    ) -> PowerModel:
        """The model of an AWS Lambda sandbox: 1769 MB of memory are one vCPU of its host.

        `watts` and `vcpus_watts` are of the host, which functions share; `share_watts` is of one.

        Example:
            A function of 1024 MB that used 2.1 CPU seconds in 3 s.

            >>> vcpus, seconds = 1024 / 1769, 3.0
            >>> model = PowerModel.for_lambda(1024, "x86_64")
            >>> watts = model.share_watts(vcpus, 2.1 / seconds, 1024 / 1024).total
            >>> joules = [seconds * each for each in (watts.value, watts.low, watts.high)]
            >>> "{:.0f} J, {:.0f} to {:.0f}".format(*joules)
            '13 J, 5 to 35'
        """
        return cls(_core.PowerModel.raw_for_lambda(memory_mb, architecture, cpu_name))

    def watts(
        self,
        load_percent: float,
        cores_used: int | None = None,
        frequency_mhz: float | None = None,
    ) -> Estimate:
        """Package power, all sockets, in W at a load of 0..100 % of all CPUs.

        Of a guest and of AWS Lambda these are the host's; their share of it is `share_watts`.

        Raises:
            ValueError: For a load or a frequency that is negative or no number.
        """
        return Estimate(*self._model.raw_watts(load_percent, cores_used, frequency_mhz))

    def vcpus_watts(self, vcpus: float, busy_vcpus: float) -> Estimate:
        """Power in W of ``vcpus`` hardware threads of the host with ``busy_vcpus`` of them busy."""
        return Estimate(*self._model.raw_vcpus_watts(vcpus, busy_vcpus))

    def share_watts(
        self,
        vcpus: float,
        busy_vcpus: float,
        memory_gib: float | None = 0.0,
        *,
        estimation: str = "curve",
    ) -> SharePower:
        """Power in W of a share of the host with its memory: what a meter charges a sandbox.

        Args:
            vcpus: Hardware threads of the host.
            busy_vcpus: How many of them are busy; more than ``vcpus`` is a burst, charged as such.
            memory_gib: Memory, GiB (2**30 bytes). ``None`` where its size is not known: 4 GiB a
                vCPU are taken, and the band is wider by a factor of four for that.
            estimation: ``curve``, ``tdp_based`` or ``vcpu``, as for `EnergyMeter`.

        Raises:
            UnknownMethodError: For another estimation.

        Example:
            >>> model = PowerModel.for_lambda(1769, "arm64")
            >>> power = model.share_watts(1.0, 0.5, 1769 / 1024)
            >>> abs(power.idle.value + power.active.value - power.total.value) < 1e-9
            True
        """
        *parts, method = self._model.raw_share_power(estimation, vcpus, busy_vcpus, memory_gib)
        return SharePower(*(Estimate(*part, method) for part in parts))

    @property
    def tdp_watts(self) -> float | None:
        """Thermal design power of one package in W, ``None`` where it is not known."""
        return self._model.tdp()[0]

    @property
    def source(self) -> str:
        """Where the TDP is from."""
        return self._model.tdp()[1]

    def describe(self) -> str:
        """The name of the model as stats carry it, e.g. ``model:lambda-arm64``."""
        return self._model.describe()

    def assumptions(self) -> dict[str, Any]:
        """Everything that the model takes for granted, with units in the names."""
        return self._model.assumptions()

    def __repr__(self) -> str:
        return f"<PowerModel {self.describe()}>"
