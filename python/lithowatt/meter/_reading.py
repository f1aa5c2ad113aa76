"""``Reading``: what a window came to, with where each number is from and how sure it is."""

from __future__ import annotations

import os
from collections import namedtuple

from lithowatt import _core
from lithowatt._support.text import aligned, format_number
from lithowatt.estimate import Estimate

TYPE_CHECKING = False  # typing would be half of what importing EnergyMeter costs
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NamedTuple

    from matplotlib.axes import Axes

    from lithowatt._core import Taken
    from lithowatt._support.process import ProcessIdentity
    from lithowatt.reference import ReferenceEnergy

    class _Phase(NamedTuple):
        name: str
        duration: float
        cpu_seconds: float | None
        joules: float | None
        entries: int

    class _Zone(NamedTuple):
        method: str
        domain: str
        package: int | None
        name: str
        energy: Estimate | None
        reason: str | None

    class _Sandbox(NamedTuple):
        cpus: float
        cpu_seconds: float | None
        periods: int
        throttled_periods: int
        throttled_seconds: float

else:
    _Phase = namedtuple("Phase", "name duration cpu_seconds joules entries")
    _Zone = namedtuple("Zone", "method domain package name energy reason")
    _Sandbox = namedtuple("Sandbox", "cpus cpu_seconds periods throttled_periods throttled_seconds")


def _estimate(energy: dict[str, Any], source: str) -> Estimate:
    return Estimate(energy["joules"], energy["low"], energy["high"], source)


class Domains:
    """The machine's energy by one method, all sockets summed, in J.

    ``None`` where the method or the domain is not there; ``reasons`` has the reason.

    Attributes:
        available: Whether any energy was read.
        source: Where it comes from, or ``unavailable: <reason>``.
        reasons: Why a domain is missing, by domain.
    """

    __slots__ = ("_energies", "_total", "available", "reasons", "source")

    def __init__(self, raw: dict[str, Any]) -> None:
        self.available: bool = raw["available"]
        self.source: str = raw["source"]
        self.reasons: dict[str, str] = raw["reasons"]
        self._energies: dict[str, Any] = raw["domains"]
        self._total: dict[str, Any] | None = raw["total"]

    def _joules(self, domain: str) -> float | None:
        energy = self._energies.get(domain)
        return None if energy is None else energy["joules"]

    def estimate(self, domain: str) -> Estimate | None:
        """One domain, or ``"total"``, with its 95 % band in J; ``None`` where it is missing.

        Raises:
            ValueError: For a name that is no domain.
        """
        accepted = (*_core.DOMAINS, "total")
        if domain not in accepted:
            raise ValueError(f"unknown domain {domain!r}; expected one of {', '.join(accepted)}")
        energy = self._total if domain == "total" else self._energies.get(domain)
        return None if energy is None else _estimate(energy, self.source)

    @property
    def package(self) -> float | None:
        """All packages (sockets), J."""
        return self._joules("package")

    @property
    def core(self) -> float | None:
        """All cores, J; inside the package."""
        return self._joules("core")

    @property
    def uncore(self) -> float | None:
        """Uncore, mostly integrated graphics, J; inside the package."""
        return self._joules("uncore")

    @property
    def dram(self) -> float | None:
        """Memory, J; outside the package."""
        return self._joules("dram")

    @property
    def psys(self) -> float | None:
        """The platform, J; holds the packages and is never added to them."""
        return self._joules("psys")

    @property
    def total(self) -> float | None:
        """Packages + DRAM, J."""
        return None if self._total is None else self._total["joules"]

    def __repr__(self) -> str:
        if not self.available:
            return f"<{self.source}>"
        parts = [f"{name}={energy['joules']:.4g} J" for name, energy in self._energies.items()]
        return f"<{', '.join(parts)}>"


class Phase(_Phase):
    """A phase of a window.

    Attributes:
        name: As given to ``phase()``.
        duration: s.
        cpu_seconds: CPU time of the function in it, s; ``None`` where the window's is unknown.
        joules: J, by the headline's method and definition; ``None`` where there is none.
        entries: How often it was entered.
    """

    __slots__ = ()


class Zone(_Zone):
    """One energy counter of the machine, over a window.

    Attributes:
        method: ``rapl``, ``perf``, ``hwmon``, ``guest`` or ``nvml``, which reads it.
        domain: ``package``, ``core``, ``uncore``, ``dram``, ``psys`` or ``gpu``.
        package: Number of its package (socket), ``None`` where the counter was left out.
        name: As the kernel names it, such as ``package-0`` or ``energy-ram``.
        energy: What it counted, J, with its 95 % band; ``None`` where that cannot be told.
        reason: Why there is no energy, ``None`` where there is.
    """

    __slots__ = ()

    @property
    def joules(self) -> float | None:
        """What it counted, J; ``None`` where that cannot be told."""
        return None if self.energy is None else self.energy.value


class Sandbox(_Sandbox):
    """The cgroup that limits this process, over a window.

    Attributes:
        cpus: CPUs that it may use.
        cpu_seconds: CPU time of all that is in it, s; ``None`` where it does not count it.
        periods: Periods of its quota in which something ran.
        throttled_periods: Periods in which the quota was used up.
        throttled_seconds: Time that run queues waited for the next period, s, all CPUs summed.
    """

    __slots__ = ()


class Reading:
    """What one window came to."""

    __slots__ = ("_flat", "_made_by", "_raw", "_reference", "_taken")
    #: What was made of it so far: every part, once there is no ``_taken`` any more.
    _raw: dict[str, Any]
    _flat: dict[str, Any] | Callable[[], dict[str, Any]]
    _taken: Taken | None
    #: The id of the process that made it, and all that tells it from others once it is sent to
    #: another one; ``None`` where that is not known.
    _made_by: int | tuple[Any, ...] | None
    #: Set only where a meter of the whole machine was asked for.
    _reference: dict[str, ReferenceEnergy]

    def __init__(
        self, raw: dict[str, Any], flat: dict[str, Any] | Callable[[], dict[str, Any]]
    ) -> None:
        self._raw = raw
        self._flat = flat
        self._taken = self._made_by = None

    @classmethod
    def _of(cls, taken: Taken) -> Reading:
        """What the core has taken of a window; either form is made when it is asked for."""
        self = cls.__new__(cls)
        self._raw, self._flat, self._taken = {}, taken.flat, taken
        self._made_by = os.getpid()
        return self

    @property
    def raw(self) -> dict[str, Any]:
        """Everything, as nested dicts, lists and numbers."""
        taken = self._taken
        if taken is not None:
            # In this order: another thread may ask for a part at the same time.
            self._raw = taken.nested()
            self._taken = None
        return self._raw

    def _part(self, name: str) -> Any:
        """One entry of `raw`, without the others."""
        taken = self._taken
        if taken is None:
            return self._raw[name]
        parts = self._raw
        if name not in parts:
            parts[name] = taken.part(name)
        return parts[name]

    def __reduce__(self) -> tuple[Any, ...]:
        maker = self._maker
        # The form in which pickle and copy set what is in slots.
        slots: dict[str, Any] = {"_made_by": None if maker is None else tuple(maker)}
        if self.machine_reference:
            slots["_reference"] = self.machine_reference
        state = (None, slots)
        return type(self), (self.raw, self.flat()), state

    @property
    def _maker(self) -> ProcessIdentity | None:
        """The process that made it."""
        from lithowatt._support.process import ProcessIdentity, identity

        made_by = self._made_by
        if isinstance(made_by, int):
            return identity(made_by)
        return None if made_by is None else ProcessIdentity(*made_by)

    @property
    def _is_of_this_boot(self) -> bool:
        """Whether its times are on this machine's clock."""
        from lithowatt._support.process import boot_id

        if isinstance(self._made_by, int):
            return True
        maker = self._maker
        return maker is not None and maker.boot != "" and maker.boot == boot_id()

    def __eq__(self, other: object) -> bool:
        """Whether both say the same of the same window."""
        return self.raw == other.raw if isinstance(other, Reading) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.window_ns)

    def flat(self) -> dict[str, Any]:
        """Everything in one flat dict, for a table's row or a line of JSON: J, W, s, MiB, %.

        The keys are always there and ``None`` where there is no value; ``lithowatt explain`` and
        ``docs/reference/stats.md`` have their meanings. Each phase has ``energy_phase_<name>``,
        ``phase_duration_<name>`` and ``phase_cpu_time_<name>``. In them a character of the phase's
        name that is no letter, digit or ``_`` is ``_``, names end after 64 characters, and of
        several names that become the same one the later have ``_2``, ``_3`` … at the end.

        Example:
            >>> from lithowatt import EnergyMeter
            >>> with EnergyMeter() as meter, meter.phase("load data"):
            ...     total = sum(range(100_000))
            >>> flat = meter.reading.flat()
            >>> flat["energy_duration"] > 0, "energy_phase_load_data" in flat
            (True, True)
        """
        flat = self._flat
        if not isinstance(flat, dict):
            flat = self._flat = flat()
        return dict(flat)

    @property
    def machine_reference(self) -> dict[str, ReferenceEnergy]:
        """The whole machine's energy by meters outside of the processor, by their names: those that
        were asked for with ``EnergyMeter(reference=…)``. Each is in J with its band, or has the
        reason why there is none. It is to compare with, and part of no other number here."""
        return getattr(self, "_reference", {})

    @property
    def label(self) -> str | None:
        """The name given to the meter."""
        return self._part("label")  # type: ignore[no-any-return]

    @property
    def duration(self) -> float:
        """Length of the window on the monotonic clock, s."""
        return self._part("duration")  # type: ignore[no-any-return]

    @property
    def running(self) -> bool:
        """The meter had not stopped when this was read."""
        return self._part("running")  # type: ignore[no-any-return]

    @property
    def cpu_seconds(self) -> float | None:
        """CPU time of the function (its process tree, thread, task or cgroup), s."""
        return self._part("cpu_seconds")  # type: ignore[no-any-return]

    @property
    def samples(self) -> int:
        """Samples that the background thread took within the window."""
        return self._part("samples")  # type: ignore[no-any-return]

    @property
    def interval(self) -> float | None:
        """Time between samples, s; ``None`` where only the window's edges were read."""
        return self._part("interval")  # type: ignore[no-any-return]

    @property
    def window_ns(self) -> tuple[int, int]:
        """Start and end of the window on ``CLOCK_MONOTONIC``, ns."""
        start, end = self._part("window_ns")
        return start, end

    @property
    def headline(self) -> Estimate | None:
        """Best estimate of this window's energy with its 95 % band, J."""
        headline = self._part("headline")
        if headline is None:
            return None
        return _estimate(headline["energy"], f"{headline['quality']}: {headline['method']}")

    @property
    def joules(self) -> float | None:
        """Best estimate of this window's energy, J; ``None`` where there is none."""
        headline = self._part("headline")
        return None if headline is None else headline["energy"]["joules"]

    @property
    def watts(self) -> float | None:
        """Mean power of the window, W."""
        joules = self.joules
        return None if joules is None or self.duration <= 0 else joules / self.duration

    @property
    def quality(self) -> str | None:
        """``measured``, ``attributed`` or ``modelled``."""
        headline = self._part("headline")
        return None if headline is None else headline["quality"]

    @property
    def method(self) -> str | None:
        """How the headline was made, e.g. ``rapl+cputime``."""
        headline = self._part("headline")
        return None if headline is None else headline["method"]

    @property
    def reason(self) -> str | None:
        """Why there is no energy, ``None`` where there is."""
        return self._part("headline_reason")  # type: ignore[no-any-return]

    @property
    def definition(self) -> str | None:
        """``amortised`` (with the share of idle) or ``marginal`` (above idle)."""
        headline = self._part("headline")
        return None if headline is None else headline["definition"]

    def _division(self, part: str) -> float | None:
        headline = self._part("headline")
        return None if headline is None else headline["division"][part]

    @property
    def machine(self) -> float | None:
        """All the machine used in the window, J: idle + marginal + others."""
        return self._division("machine")

    @property
    def idle(self) -> float | None:
        """What the machine would have used doing nothing, J."""
        return self._division("idle")

    @property
    def marginal(self) -> float | None:
        """This function's energy above idle, J."""
        return self._division("marginal")

    @property
    def amortised(self) -> float | None:
        """``marginal`` with this function's share of idle, J."""
        return self._division("amortised")

    @property
    def others(self) -> float | None:
        """What other activity on the machine used above idle, J."""
        return self._division("others")

    @property
    def machine_estimate(self) -> Estimate | None:
        """:attr:`machine` with its 95 % band, J."""
        headline = self._part("headline")
        return (
            None
            if headline is None
            else _estimate(headline["bands"]["machine"], headline["method"])
        )

    @property
    def idle_estimate(self) -> Estimate | None:
        """:attr:`idle` with its 95 % band, J; ``source`` is :attr:`idle_source`."""
        headline = self._part("headline")
        return (
            None
            if headline is None
            else _estimate(headline["bands"]["idle"], headline["idle_source"])
        )

    @property
    def memory(self) -> Estimate | None:
        """Memory's part of :attr:`machine`, J with its 95 % band: as the counter of DRAM has it, or
        the model where the headline is the model's. ``None`` where it has no value of its own."""
        memory = self._part("memory")
        return None if memory["energy"] is None else _estimate(memory["energy"], memory["source"])

    @property
    def memory_source(self) -> str:
        """How :attr:`memory` was obtained, or ``unavailable: <reason>``."""
        return self._part("memory")["source"]  # type: ignore[no-any-return]

    @property
    def marginal_estimate(self) -> Estimate | None:
        """:attr:`marginal` with its 95 % band, J."""
        return self._by("marginal")

    @property
    def amortised_estimate(self) -> Estimate | None:
        """:attr:`amortised` with its 95 % band, J."""
        return self._by("amortised")

    def _by(self, definition: str) -> Estimate | None:
        headline = self._part("headline")
        if headline is None:
            return None
        energy = headline["energy" if headline["definition"] == definition else "other"]
        return _estimate(energy, headline["method"])

    @property
    def idle_source(self) -> str | None:
        """Where idle power is from: ``learned``, ``calibrated``, ``configured`` or ``modelled``."""
        headline = self._part("headline")
        return None if headline is None else headline["idle_source"]

    @property
    def share(self) -> Estimate | None:
        """This function's part of the energy above idle, 0..1, with its 95 % band."""
        headline = self._part("headline")
        if headline is None:
            return None
        share = headline["share"]
        return Estimate(share["value"], share["low"], share["high"], headline["method"])

    @property
    def allotted_cpus(self) -> float:
        """CPUs that this function may use, by quota, cpuset and affinity."""
        return self._part("allotted_cpus")  # type: ignore[no-any-return]

    @property
    def steal_seconds(self) -> float | None:
        """CPU time that the hypervisor took from this machine within the window, s, all CPUs
        summed; ``None`` where ``psutil`` was not among the methods or the kernel does not tell."""
        return self._part("steal_seconds")  # type: ignore[no-any-return]

    @property
    def sandbox(self) -> Sandbox | None:
        """The cgroup that limits this process, ``None`` where none does or none was followed."""
        sandbox = self._part("sandbox")
        return None if sandbox is None else Sandbox(**sandbox)

    @property
    def system(self) -> dict[str, float | None]:
        """The machine's and the process' use as psutil defines it, by the names of the stats keys
        (``psutil_<name>``); empty where it was not asked for, with :attr:`system_reason`."""
        return dict(self._part("system") or {})

    @property
    def system_reason(self) -> str | None:
        """Why :attr:`system` is empty, ``None`` where it is not."""
        return self._part("system_reason")  # type: ignore[no-any-return]

    @property
    def zones(self) -> list[Zone]:
        """The machine's energy counter by counter, with those that were left out.

        Empty where no method that counts energy could be used: :attr:`rapl`, :attr:`perf`,
        :attr:`hwmon` and :attr:`guest` have the reasons. Of ``package`` and ``dram`` the sum is
        the machine's; ``core`` and ``uncore`` are inside packages, and ``psys`` holds all of them.
        """
        return [
            Zone(**{**zone, "energy": energy and _estimate(energy, zone["name"])})
            for zone in self._part("zones")
            for energy in (zone["energy"],)
        ]

    @property
    def rapl(self) -> Domains:
        """The machine's energy through powercap, J."""
        return Domains(self._part("rapl"))

    @property
    def perf(self) -> Domains:
        """The machine's energy through the perf power PMU, J."""
        return Domains(self._part("perf"))

    @property
    def hwmon(self) -> Domains:
        """The machine's energy through sensors of hwmon, J: of machines without RAPL."""
        return Domains(self._part("hwmon"))

    @property
    def guest(self) -> Domains:
        """This virtual machine's part of its host's energy, as the host states it, J.

        By which rule it was divided is in :attr:`notes`
        (docs/how-to/virtual-machines.md).
        """
        return Domains(self._part("guest"))

    @property
    def ebpf(self) -> Domains:
        """This function's energy by kernel probes, J."""
        return Domains(self._part("ebpf"))

    @property
    def model(self) -> Estimate | None:
        """This function's energy by the power model, J, whatever the headline is."""
        model = self._part("model")
        return None if model is None else _estimate(model["energy"], self.model_source)

    @property
    def model_source(self) -> str:
        """The model's name, or ``unavailable: <reason>``."""
        return self._part("model_source")  # type: ignore[no-any-return]

    @property
    def gpu(self) -> Estimate | None:
        """Energy of all GPUs that this process sees, J; it is in no other energy.

        Its band holds the sensors' 5 % and the 100 ms in which their counters change.
        """
        return self._gpu("energy", "source")

    @property
    def gpu_attributed(self) -> Estimate | None:
        """This function's part of ``gpu``, J, above the GPUs' power at rest.

        It is shared by how busy NVML says that each process kept them.
        """
        return self._gpu("attributed", "attributed_source")

    @property
    def gpu_source(self) -> str:
        """The GPUs that were read and how, or ``unavailable: <reason>``."""
        return self._part("gpu")["source"]  # type: ignore[no-any-return]

    def _gpu(self, part: str, source: str) -> Estimate | None:
        gpu = self._part("gpu")
        return None if gpu[part] is None else _estimate(gpu[part], gpu[source])

    @property
    def phases(self) -> list[Phase]:
        """The phases, in the order in which they were first entered."""
        return [Phase(**phase) for phase in self._part("phases")]

    @property
    def notes(self) -> list[str]:
        """What the values do and do not hold on any such machine: of memory, with a counter."""
        return list(self._part("notes"))

    @property
    def warnings(self) -> list[str]:
        """Short texts that a careful user wants to read."""
        return list(self._part("warnings"))

    @property
    def validated(self) -> bool | None:
        """Methods agree within 15 %; ``None`` where there were no two to compare."""
        return self._part("verdict")["validated"]  # type: ignore[no-any-return]

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draws the parts of the machine's energy and its counters, J, with matplotlib: a bar each,
        with its 95 % band as a line. A part that is not known has no bar.

        Args:
            ax: Axes to draw in; by default those of a new figure of pyplot's, which a notebook
                shows. Without a screen it is drawn all the same.

        Returns:
            The axes: ``reading.plot().figure.savefig("energy.png")``.

        Raises:
            ImportError: Where matplotlib is missing, with the command that installs it.
            TypeError: For an ``ax`` that is none.
        """
        from lithowatt.figures._reading import draw

        return draw(self, ax)

    def _line(self) -> str:
        headline = self.headline
        if headline is None:
            return f"no energy: {self.reason}"
        watts = self.watts
        return (
            f"{format_number(headline.value)} J "
            f"[{format_number(headline.low)} .. {format_number(headline.high)}] in "
            f"{format_number(self.duration)} s"
            + (f" = {format_number(watts)} W" if watts is not None else "")
            + f" ({headline.source}, {self.definition})"
        )

    def __repr__(self) -> str:
        label = f" {self.label!r}" if self.label else ""
        return f"<Reading{label}: {self._line()}>"

    def _rows(self) -> list[tuple[str, str, str]]:
        """What a table of this reading holds: name, value, remark."""
        rows: list[tuple[str, str, str]] = []

        def add(name: str, value: float | None, unit: str, remark: str | None = "") -> None:
            shown = "–" if value is None else f"{format_number(value)} {unit}"
            rows.append((name, shown, remark or ""))

        headline = self.headline
        if headline is None:
            add("energy", None, "J", self.reason)
        else:
            band = f"{format_number(headline.low)} .. {format_number(headline.high)} J"
            add("energy", headline.value, "J", f"{band}, {headline.source}, {self.definition}")
        add("power", self.watts, "W", "mean")
        add("time", self.duration, "s")
        add("cpu time", self.cpu_seconds, "s")
        for part in ("marginal", "amortised", "idle", "others", "machine"):
            if headline is not None:
                remark = self.idle_source if part == "idle" else ""
                add(part, self._division(part), "J", remark)
        memory = self.memory
        if memory is not None:
            band = f"{format_number(memory.low)} .. {format_number(memory.high)} J"
            add("of it memory", memory.value, "J", f"{band}, {memory.source}")
        elif headline is not None:
            add("of it memory", None, "J", self.memory_source)
        counters = [("rapl", self.rapl), ("perf", self.perf)]
        # Few machines have these, and why the others have none is no news.
        rare = [("hwmon", self.hwmon), ("guest", self.guest)]
        counters += [(name, domains) for name, domains in rare if domains.available]
        for name, domains in counters:
            if not domains.available:
                add(name, None, "J", domains.source)
                continue
            for domain in (*_core.DOMAINS, "total"):
                estimate = domains.estimate(domain)
                if estimate is not None:
                    add(f"{name} {domain}", estimate.value, "J", "machine")
        for name, energy in (("gpu", self.gpu), ("gpu, this call", self.gpu_attributed)):
            if energy is not None:
                band = f"{format_number(energy.low)} .. {format_number(energy.high)} J"
                add(name, energy.value, "J", f"{band}, {energy.source}")
        model = self.model
        add(
            "model",
            None if model is None else model.value,
            "J",
            self.model_source
            if model is None
            else f"{format_number(model.low)} .. {format_number(model.high)} J, {model.source}",
        )
        for phase in self.phases:
            add(f"phase {phase.name}", phase.joules, "J", f"{format_number(phase.duration)} s")
        return rows

    def __str__(self) -> str:
        rows = self._rows()
        return "\n".join([*aligned(rows, right=[1]), *self._said()])

    def _said(self) -> list[str]:
        """Warnings and notes, each with what it is."""
        warnings = [f"warning: {text}" for text in self._warnings_beside()]
        return warnings + [f"note: {text}" for text in self.notes]

    def _warnings_beside(self) -> list[str]:
        """The warnings that do not only repeat why there is no energy."""
        return [text for text in self.warnings if self.headline or text != self.reason]

    def _repr_html_(self) -> str:
        """A table for Jupyter."""
        from html import escape

        rows = "".join(
            f"<tr><th style='text-align:left'>{escape(n)}</th>"
            f"<td style='text-align:right'>{escape(v)}</td>"
            f"<td style='text-align:left'>{escape(r)}</td></tr>"
            for n, v, r in self._rows()
        )
        said = "".join(f"<li>{escape(text)}</li>" for text in self._said())
        caption = escape(self.label or "lithowatt")
        return f"<table><caption>{caption}</caption><tbody>{rows}</tbody></table>" + (
            f"<ul>{said}</ul>" if said else ""
        )
