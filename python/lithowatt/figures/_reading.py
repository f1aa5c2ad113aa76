"""A reading as a picture: a bar for each part of the machine's energy, and for each counter."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lithowatt import _core
from lithowatt.figures._draw import axes_or_new, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lithowatt.estimate import Estimate
    from lithowatt.meter._reading import Reading


class _Bar(NamedTuple):
    name: str
    value: float
    low: float | None
    high: float | None
    color: str


_OWN, _PART, _COUNTER = "#c44e52", "#4c72b0", "#8c8c8c"


def draw(reading: Reading, ax: Axes | None = None) -> Axes:
    """Draws bars with 95 % bands; see `Reading.plot`."""
    bars = _bars(reading)
    ax = axes_or_new(ax, 8.0, 1.4 + 0.42 * max(len(bars), 2))
    headline = reading.headline
    places = range(len(bars))
    ax.barh(places, [bar.value for bar in bars], color=[bar.color for bar in bars], height=0.65)
    for place, bar in zip(places, bars, strict=True):
        if bar.low is not None and bar.high is not None:
            ends = [[max(0.0, bar.value - bar.low)], [max(0.0, bar.high - bar.value)]]
            ax.errorbar([bar.value], [place], xerr=ends, fmt="none", ecolor="black", capsize=4)
    ax.set_yticks(list(places), [words(bar.name, 70) for bar in bars])
    ax.invert_yaxis()
    ax.set_xlim(left=0)
    ax.set_xlabel("energy, J (lines: 95 % band)")
    name = words(reading.label or "Energy")
    if headline is None:
        why = words(reading.reason or "unknown", 90)
        ax.set_title(f"{name}\nno energy: {why}", loc="left", fontsize="medium")
        if not bars:
            ax.text(0.5, 0.5, "not measured", ha="center", va="center", transform=ax.transAxes)
    else:
        text = f"{name}\n{words(headline.source)}, idle power {reading.idle_source}"
        ax.set_title(text, loc="left", fontsize="medium")
    return ax


def _bars(reading: Reading) -> list[_Bar]:
    bars: list[_Bar] = []

    def add(name: str, value: float | None, band: Estimate | None, color: str) -> None:
        if value is None:
            return
        low, high = (None, None) if band is None else (band.low, band.high)
        bars.append(_Bar(name, value, low, high, color))

    quality = reading.quality
    machine = "modelled" if quality == "modelled" else "measured"
    add(f"this function, above idle ({quality})", reading.marginal, reading.marginal_estimate, _OWN)
    whole = f"this function, with its share of idle ({quality})"
    add(whole, reading.amortised, reading.amortised_estimate, _OWN)
    # The core gives no band for this part.
    add(f"others, above idle ({quality}, no band)", reading.others, None, _PART)
    add(f"idle ({reading.idle_source})", reading.idle, reading.idle_estimate, _PART)
    add(f"machine ({machine})", reading.machine, reading.machine_estimate, _PART)
    counters = (
        ("rapl", reading.rapl),
        ("perf", reading.perf),
        ("hwmon", reading.hwmon),
        ("guest", reading.guest),
    )
    for method, domains in counters:
        for domain in _core.DOMAINS:
            estimate = domains.estimate(domain)
            value = None if estimate is None else estimate.value
            add(f"machine's {domain} ({method}, measured)", value, estimate, _COUNTER)
    for name, gpu in (
        ("GPUs, beside the machine (measured)", reading.gpu),
        ("this function's part of the GPUs (attributed)", reading.gpu_attributed),
    ):
        add(name, None if gpu is None else gpu.value, gpu, _COUNTER)
    return bars
