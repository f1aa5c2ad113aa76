"""A timeline as a picture: watts over seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lithowatt._support.text import format_number
from lithowatt.figures._draw import axes_or_new, joules, words

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes

    from lithowatt.meter._timeline import PhaseSpan, Timeline

#: A phase's name is written where its span has at least this part of the picture's width.
_LEAST_NAMED = 0.04

#: Light enough for lines and letters upon them.
_SHADES = ("#4c72b0", "#dd8452", "#55a868", "#8172b3", "#937860", "#64b5cd")


def draw(timeline: Timeline, ax: Axes | None = None) -> Axes:
    """Draws watts per domain, the function's part, and the phases; see `Timeline.plot`."""
    ax = axes_or_new(ax)
    edges = timeline.edges
    if not len(timeline):
        why = "the meter took no samples (interval=None)" if not len(edges) else "no interval yet"
        ax.text(0.5, 0.5, f"no samples: {why}", ha="center", va="center", transform=ax.transAxes)
    counters = any(not name.startswith("model:") for name in timeline.watts)
    for name, watts in timeline.watts.items():
        method, _, zone = name.partition(":")
        # What shows another counter again would be drawn upon it.
        if zone.startswith("repeated:"):
            continue
        quality = "modelled" if method == "model" else f"{method}, measured"
        style = ":" if counters and method == "model" else "-"
        ax.stairs(
            watts, edges, baseline=None, label=f"{words(zone, 30)} ({quality})", ls=style, lw=1.6
        )
    _own(timeline, ax, edges)
    _phases(timeline.phases, ax, edges)
    ax.set_xlabel("time since the window began, s")
    ax.set_ylabel("power of the whole machine, W")
    ax.set_ylim(bottom=0)
    if len(timeline):
        ax.set_xlim(0, edges[-1])
        if timeline.watts:
            # Below the axis, upon no line; the distance is in letters, whatever the height is.
            ax.legend(
                loc="upper left",
                bbox_to_anchor=(0, 0),
                borderaxespad=4.5,
                ncols=1 if len(timeline.watts) < 6 else 2,
                fontsize="small",
                frameon=False,
            )
    ax.set_title(_title(timeline), loc="left", fontsize="medium")
    return ax


def _title(timeline: Timeline) -> str:
    reading = timeline.reading
    if reading is None:
        return "Power over time"
    name = words(reading.label or "Power over time")
    headline = reading.headline
    if headline is None:
        return f"{name}\nno energy: {words(reading.reason or 'unknown', 90)}"
    value = joules(headline.value, headline.low, headline.high)
    return f"{name}\n{value}, {words(headline.source)}, {reading.definition}"


def _own(timeline: Timeline, ax: Axes, edges: npt.NDArray[np.float64]) -> None:
    """The function's joules as an area: spread over the window by its CPU time."""
    reading = timeline.reading
    used = timeline.cpu * np.diff(edges)
    total = float(np.nansum(used)) if len(used) else 0.0
    if reading is None or reading.joules is None or not total > 0:
        return
    watts = timeline.cpu * (reading.joules / total)
    ax.stairs(
        watts,
        edges,
        fill=True,
        color="#c44e52",
        alpha=0.45,
        label=f"this function: {format_number(reading.joules)} J ({reading.quality}, "
        f"{reading.definition}), by its CPU time",
    )


def _phases(spans: tuple[PhaseSpan, ...], ax: Any, edges: npt.NDArray[np.float64]) -> None:
    """Spans of phases; one inside another has its name a line below."""
    whole = float(edges[-1]) if len(edges) else max((span.end for span in spans), default=0.0)
    if not whole > 0 or not spans:
        return
    shades: dict[str, str] = {}
    open_until: list[float] = []
    deepest = 0
    for span in sorted(spans, key=lambda one: (one.start, -one.end)):
        start, end = max(span.start, 0.0), min(span.end, whole)
        if end <= start:
            continue
        shade = shades.setdefault(span.name, _SHADES[len(shades) % len(_SHADES)])
        ax.axvspan(start, end, color=shade, alpha=0.12, lw=0, zorder=0)
        open_until = [until for until in open_until if until > start]
        depth = len(open_until)
        open_until.append(end)
        if end - start >= _LEAST_NAMED * whole:
            deepest = max(deepest, depth + 1)
            ax.annotate(
                words(span.name, 24),
                ((start + end) / 2, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(0, -3 - 11 * depth),
                textcoords="offset points",
                ha="center",
                va="top",
                fontsize="small",
                color="0.25",
                clip_on=True,
            )
    if deepest:
        # Names are above the lines.
        low, high = ax.get_ylim()
        ax.set_ylim(low, high * (1 + 0.08 * deepest))
