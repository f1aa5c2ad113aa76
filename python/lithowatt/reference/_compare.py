"""The counters of processor and memory against a meter of the whole machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from lithowatt._core import reference_line
from lithowatt._support.text import aligned, format_number

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lithowatt.estimate import Estimate
    from lithowatt.meter._reading import Reading
    from lithowatt.reference._energy import ReferenceEnergy


COUNTERS = ("rapl", "perf", "hwmon")
"""What counts processor and memory: the first that a window has is compared."""


class Window(NamedTuple):
    """A window in which a counter and meters of the whole machine were read.

    Attributes:
        label: What ran in it.
        seconds: Its length.
        method: The counter, one of `COUNTERS`; ``None`` where there is none.
        counter: Packages and memory, J.
        references: What each meter counted.
    """

    label: str
    seconds: float
    method: str | None
    counter: Estimate | None
    references: dict[str, ReferenceEnergy]

    @classmethod
    def of(cls, label: str, reading: Reading) -> Window:
        """What a reading has of both."""
        for method in COUNTERS:
            counter = getattr(reading, method).estimate("total")
            if counter is not None:
                return cls(label, reading.duration, method, counter, reading.machine_reference)
        return cls(label, reading.duration, None, None, reading.machine_reference)


def line_of(windows: Sequence[Window], name: str, relative: float) -> dict[str, Any] | None:
    """The counter against one meter: its part of the whole, and the line through the windows.

    ``None`` where no window has both.
    """
    pairs = []
    for window in windows:
        found = window.references.get(name)
        if window.counter is None or found is None or found.energy is None:
            continue
        pairs.append((window.seconds, tuple(window.counter[:3]), tuple(found.energy[:3])))
    return reference_line(pairs, relative) if pairs else None  # type: ignore[arg-type]


def beyond(windows: Sequence[Window], name: str) -> list[str]:
    """Windows in which a part is more than the whole, by more than both bands explain."""
    found = []
    for window in windows:
        whole = window.references[name].energy if name in window.references else None
        if window.counter is not None and whole is not None and window.counter.low > whole.high:
            found.append(
                f"{window.label}: {window.method} counted {watts(window.counter, window)} and "
                f"{name} {watts(whole, window)}: a part is more than the whole"
            )
    return found


def watts(energy: Estimate, window: Window) -> str:
    """Mean power with its band."""
    value, low, high = (f"{format_number(part / window.seconds)}" for part in energy[:3])
    return f"{value} W ({low} to {high})"


def table(windows: Sequence[Window], names: Sequence[str]) -> Iterator[str]:
    """A line a window."""
    method = next((window.method for window in windows if window.method), None)
    rows = [("window", "s", f"packages + memory by {method}" if method else "no counter", *names)]
    for window in windows:
        cells = [window.label, f"{window.seconds:.1f}"]
        cells.append("-" if window.counter is None else watts(window.counter, window))
        for name in names:
            found = window.references[name]
            cells.append("-" if found.energy is None else watts(found.energy, window))
        rows.append(tuple(cells))
    yield from aligned(rows, right=range(1, 2))
    for name in names:
        reasons = {w.references[name].reason for w in windows} - {None}
        for reason in sorted(reason for reason in reasons if reason):
            yield f"{name}: no energy: {reason}"


def told(line: dict[str, Any], name: str, method: str) -> Iterator[str]:
    """What a comparison came to, in words."""

    def band(of: dict[str, float], unit: str, times: float = 1.0) -> str:
        value, low, high = (f"{times * of[key]:.3g}" for key in ("value", "low", "high"))
        return f"{value}{unit} ({low} to {high})"

    yield f"{method} counts {band(line['part'], ' %', 100)} of what {name} does"
    if line["slope"] is None:
        yield f"no line of {name} against {method}: {line['reason']}"
        return
    yield (
        f"{name} = {band(line['offset'], ' W')} + {band(line['slope'], '')} × {method}, "
        f"leaving {line['residual_watts']:.2g} W"
    )
