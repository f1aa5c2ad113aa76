"""Energies against each other, and over time, under names kept from the prototype.

Energies are in J, power in W, times in s.
"""

from __future__ import annotations

from lithowatt._core import TOLERANCE, integrate, relative_difference
from lithowatt._support.arguments import number, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from lithowatt.meter._timeline import Timeline

__all__ = [
    "TOLERANCE",
    "correlate_energy_with_execution_phases",
    "integrate_energy_over_time",
    "validate_energy_measurements",
]

#: The longest record, in ns: 292 years, what a signed 64-bit number holds.
_LONGEST_NS = 1 << 63


def validate_energy_measurements(
    rapl_energy: float | None,
    perf_energy: float | None,
    estimated_energy: float | None = None,
) -> dict[str, Any]:
    """Compares what methods say of one window: like with like, in J.

    RAPL and perf read the same counters by two ways, so they decide. An estimate of the model is
    no measurement: it is compared with the counter (RAPL's, else perf's), and a difference over
    the tolerance is among the warnings, but it neither makes nor breaks the verdict.

    Args:
        rapl_energy: J by powercap, ``None`` where unavailable.
        perf_energy: J by perf, of the same domain and window, ``None`` where unavailable.
        estimated_energy: J by the model, ``None`` where unavailable.

    Returns:
        ``rapl``, ``perf``, ``estimated``: J as given. ``validated``: the verdict, ``None`` where
        there are no two measurements above 0 J. ``discrepancy``: relative difference of RAPL and
        perf against the larger, 0.1 = 10 %. ``estimated_discrepancy``: the same of the estimate
        and the counter. ``tolerance``: 0.15. ``warnings``: short texts.

    A verdict of False is logged once per call as a warning on ``lithowatt``.

    Raises:
        TypeError: For something that is neither a number nor ``None``.
        ValueError: For an energy that is negative, NaN or infinite.

    Example:
        >>> validate_energy_measurements(100.0, 90.0)["validated"]
        True
        >>> import logging
        >>> logging.getLogger("lithowatt").addHandler(logging.NullHandler())
        >>> checked = validate_energy_measurements(100.0, 70.0, 95.0)
        >>> checked["validated"], checked["discrepancy"]
        (False, 0.3)
        >>> validate_energy_measurements(100.0, None)["validated"] is None
        True
    """
    rapl = _energy("rapl_energy", rapl_energy)
    perf = _energy("perf_energy", perf_energy)
    estimated = _energy("estimated_energy", estimated_energy)
    warnings = [
        f"{name} is 0 J: a counter that did not move measured nothing, so it is not compared"
        for name, value in (("rapl", rapl), ("perf", perf))
        if value == 0
    ]
    discrepancy = _difference(rapl, perf)
    validated = None if discrepancy is None else discrepancy <= TOLERANCE
    if discrepancy is not None and not validated:
        text = _disagreement("rapl", rapl, "perf", perf, discrepancy)
        warnings.append(text)
        import logging

        logging.getLogger("lithowatt").warning("%s", text)
    name, counter = ("rapl", rapl) if rapl else ("perf", perf)
    apart = _difference(counter, estimated)
    if apart is not None and apart > TOLERANCE:
        warnings.append(_disagreement(name, counter, "the estimate", estimated, apart))
    return {
        "rapl": rapl,
        "perf": perf,
        "estimated": estimated,
        "validated": validated,
        "discrepancy": discrepancy,
        "estimated_discrepancy": apart,
        "tolerance": TOLERANCE,
        "warnings": warnings,
    }


def integrate_energy_over_time(
    timeline: Timeline | Iterable[Any],
    start: float,
    end: float,
    column: str | Sequence[str] | None = None,
) -> float:
    """Energy from ``start`` to ``end``, in J.

    Args:
        timeline: A :class:`lithowatt.Timeline`, whose energy is spread evenly within each of its
            intervals; or samples of power: pairs ``(t, W)`` with ``t`` in s on any clock, an array
            of shape ``(n, 2)``, or a tuple of two arrays ``(t, W)``. Power goes in a straight line
            from sample to sample, so a window costs the area under that line (trapezoids),
            wherever its edges are.
        start: s; for a ``Timeline`` since its window began, else on the samples' own clock.
        end: As ``start``, and not before it.
        column: For a ``Timeline``: which of its columns, or several to be summed. By default the
            machine's energy, packages + DRAM, by RAPL, else perf, hwmon or a virtual machine's
            host, else the model.

    Raises:
        TypeError: For something that is no number, or no timeline.
        ValueError: For a window that is not inside the record, or ends before it starts; for
            values that are NaN, infinite or (power) negative; for times that do not increase; for
            fewer than two samples; for a column that is not there.

    Example:
        >>> integrate_energy_over_time([(0, 10), (1, 20), (2, 20)], 0, 2)  # s, W
        35.0
        >>> integrate_energy_over_time([(0, 0), (10, 10)], 0, 5)
        12.5
    """
    edges = _edges("the window", start, end)
    return _Record(timeline, column, edges).joules("the window", *edges)


def correlate_energy_with_execution_phases(
    energy_timeline: Timeline | Iterable[Any],
    execution_phases: Mapping[str, tuple[float, float]],
    column: str | Sequence[str] | None = None,
) -> dict[str, float]:
    """Energy of each phase, in J; phases that tile a window sum to its energy.

    Phases may overlap: each gets all the energy of its own time.

    Args:
        energy_timeline: As for :func:`integrate_energy_over_time`.
        execution_phases: ``(start, end)`` in s by name.
        column: As for :func:`integrate_energy_over_time`.

    Raises:
        TypeError, ValueError: As :func:`integrate_energy_over_time`, naming the phase; and for a
            name that is empty or no string.

    Example:
        >>> samples = [(0, 10), (4, 10)]  # s, W
        >>> phases = {"read": (0, 1), "compute": (1, 3.5), "write": (3.5, 4)}
        >>> correlate_energy_with_execution_phases(samples, phases)
        {'read': 10.0, 'compute': 25.0, 'write': 5.0}
    """
    from collections.abc import Mapping

    if not isinstance(execution_phases, Mapping):
        raise TypeError(
            "execution_phases must be a dict of (start, end) by name, "
            f"not {shown(execution_phases)}"
        )
    windows: dict[str, tuple[float, float]] = {}
    for name, window in execution_phases.items():
        if not isinstance(name, str) or not name:
            raise ValueError(f"a phase's name must be a non-empty string, not {shown(name)}")
        start, end = _pair(f"phase {shown(name)}", window, "(start, end) in s")
        windows[name] = _edges(f"phase {shown(name)}", start, end)
    if not windows:
        return {}
    record = _Record(energy_timeline, column, [t for window in windows.values() for t in window])
    return {
        name: record.joules(f"phase {shown(name)}", *window) for name, window in windows.items()
    }


class _Record:
    """Cumulative energy over time, as the core integrates it."""

    __slots__ = ("_joules", "_origin", "_times_ns")

    def __init__(
        self, timeline: Any, column: str | Sequence[str] | None, edges: Iterable[float]
    ) -> None:
        from lithowatt.meter._timeline import Timeline

        self._origin = 0.0
        self._times_ns: list[int] = []
        self._joules: list[float] = []
        if isinstance(timeline, Timeline):
            self._take_timeline(timeline, column)
        elif column is not None:
            raise ValueError(
                f"column={shown(column)} is for a lithowatt.Timeline; samples have no columns"
            )
        else:
            self._take_samples(_samples(timeline), edges)

    def _take_timeline(self, timeline: Timeline, column: str | Sequence[str] | None) -> None:
        there = ", ".join(timeline.joules) or "none"
        if not len(timeline):
            raise ValueError(
                "the timeline has no samples; meter with an interval, for longer than that"
            )
        names = _machine(timeline) if column is None else column
        names = [names] if isinstance(names, str) else list(names)
        for name in names:
            if name not in timeline.joules:
                raise ValueError(f"no column {shown(name)} in the timeline; there are {there}")
        if not names:
            raise ValueError(f"the timeline has no column of the machine; there are {there}")
        first = int(timeline.times_ns[0])
        self._times_ns = [int(t) - first for t in timeline.times_ns]
        columns = [timeline.joules[name].tolist() for name in names]
        self._joules = [sum(row) for row in zip(*columns, strict=True)]

    def _take_samples(self, samples: list[tuple[float, float]], edges: Iterable[float]) -> None:
        """Sums trapezoids, at the samples and at the edges, where the core need not interpolate."""
        self._origin = samples[0][0]
        power: list[tuple[int, float]] = []
        for t, watts in samples:
            t_ns = self._ns(t)
            if t_ns >= _LONGEST_NS:
                raise ValueError(f"times must be within 292 years, not {self._origin!r} to {t!r} s")
            if power and t_ns <= power[-1][0]:
                raise ValueError(
                    f"times must increase by 1 ns or more, but {t!r} s is at or before the "
                    "sample in front of it"
                )
            power.append((t_ns, watts))
        end_ns = power[-1][0]
        taken = {t_ns for t_ns, _ in power}
        inside = sorted({t for t in map(self._ns, edges) if 0 < t < end_ns} - taken)
        points: list[tuple[int, float]] = []
        left = iter(inside)
        edge = next(left, None)
        for i, point in enumerate(power):
            while edge is not None and edge < point[0]:
                (t0, w0), (t1, w1) = power[i - 1], point
                points.append((edge, w0 + (w1 - w0) * ((edge - t0) / (t1 - t0))))
                edge = next(left, None)
            points.append(point)
        total = 0.0
        previous = points[0]
        for t_ns, watts in points:
            total += 0.5 * (previous[1] + watts) * ((t_ns - previous[0]) * 1e-9)
            self._times_ns.append(t_ns)
            self._joules.append(total)
            previous = (t_ns, watts)

    def _ns(self, t: float) -> int:
        # Far outside is outside enough: infinity has no integer.
        return round(max(-1e10, min(1e10, t - self._origin)) * 1e9)

    def joules(self, what: str, start: float, end: float) -> float:
        start_ns, end_ns = self._ns(start), self._ns(end)
        joules = None
        # The core's times have no sign.
        if 0 <= start_ns <= end_ns <= self._times_ns[-1]:
            joules = integrate(self._times_ns, self._joules, start_ns, end_ns)
        if joules is None:
            last = self._origin + self._times_ns[-1] * 1e-9
            raise ValueError(
                f"{what}, {start!r} to {end!r} s, is not inside the record, "
                f"{self._origin!r} to {last!r} s"
            )
        return joules


def _machine(timeline: Timeline) -> list[str]:
    """The columns that make up the machine's energy, by the best method there is."""
    names = list(timeline.joules)
    # What a sensor of hwmon is of, its name does not say.
    zones = [] if timeline.reading is None else timeline.reading.zones
    for method in ("rapl", "perf", "hwmon", "guest"):
        of = [zone for zone in zones if zone.method == method]
        found = [
            f"{method}:{zone.name}"
            for zone in of
            if zone.domain in ("package", "dram") and f"{method}:{zone.name}" in names
        ]
        if found and any(zone.domain == "package" for zone in of):
            return found
    for found in (
        [n for n in names if n.startswith("rapl:package-") and ("/" not in n or "/dram" in n)],
        [n for n in names if n.startswith(("perf:power/energy-pkg/", "perf:power/energy-ram/"))],
        [n for n in names if n.startswith("model:")],
    ):
        if found:
            return found
    return []


def _samples(timeline: Any) -> list[tuple[float, float]]:
    if isinstance(timeline, (str, bytes)) or not hasattr(timeline, "__iter__"):
        raise TypeError(
            "timeline must be a lithowatt.Timeline or samples of power as pairs (s, W), "
            f"not {shown(timeline)}"
        )
    rows = list(timeline)
    if isinstance(timeline, tuple) and [getattr(row, "ndim", 0) for row in rows] == [1, 1]:
        times, watts = rows
        if len(times) != len(watts):
            raise ValueError(f"{len(times)} times do not go with {len(watts)} values of power")
        rows = list(zip(times, watts, strict=True))
    if len(rows) < 2:
        raise ValueError(f"two samples are the least that span a time, not {len(rows)}")
    samples = []
    for i, row in enumerate(rows):
        t, watts = _pair(f"sample {i}", row, "a time in s and a power in W")
        power = number(f"the power of sample {i} in W", watts)
        if power < 0:
            raise ValueError(f"the power of sample {i} must be 0 W or more, not {watts!r}")
        samples.append((number(f"the time of sample {i} in s", t), power))
    return samples


def _pair(what: str, row: Any, wanted: str) -> tuple[Any, Any]:
    if isinstance(row, (str, bytes)) or not hasattr(row, "__iter__"):
        raise TypeError(f"{what} must be {wanted}, not {shown(row)}")
    values = list(row)
    if len(values) != 2:
        raise ValueError(f"{what} must be {wanted}, not {shown(row)}")
    return values[0], values[1]


def _edges(what: str, start: object, end: object) -> tuple[float, float]:
    first = number(f"the start of {what} in s", start)
    last = number(f"the end of {what} in s", end)
    if last < first:
        raise ValueError(f"{what} must not end before it starts, as {first!r} to {last!r} s does")
    return first, last


def _energy(what: str, value: object) -> float | None:
    if value is None:
        return None
    joules = number(f"{what} in J", value)
    if joules < 0:
        raise ValueError(f"{what} must be 0 J or more, or None where unavailable, not {value!r}")
    return joules


def _difference(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else relative_difference(a, b)


def _disagreement(
    first: str, a: float | None, second: str, b: float | None, difference: float
) -> str:
    return (
        f"{first} and {second} differ by {difference:.0%} (tolerance {TOLERANCE:.0%}): "
        f"{a:.6g} J and {b:.6g} J"
    )
