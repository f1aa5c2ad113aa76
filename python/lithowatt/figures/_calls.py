"""The calls of a job as a picture: a dot with its band each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lithowatt._support.text import counted, few
from lithowatt.figures._draw import axes_or_new, joules, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lithowatt.lithops._table import EnergyTable

_MARKERS = {"measured": "s", "attributed": "o", "modelled": "D"}

#: Calls that are named one by one below the axis.
_MOST_NAMED = 24


def draw(table: EnergyTable, ax: Axes | None = None) -> Axes:
    """Draws joules over calls; see `EnergyTable.plot`."""
    ax = axes_or_new(ax)
    known = [(at, one) for at, one in enumerate(table.calls) if one.joules is not None]
    for quality in dict.fromkeys(one.quality for _, one in known):
        mine = [(at, one) for at, one in known if one.quality == quality]
        heights = [one.joules or 0.0 for _, one in mine]
        bands = [
            one.band or (height, height) for (_, one), height in zip(mine, heights, strict=True)
        ]
        ax.errorbar(
            [at for at, _ in mine],
            heights,
            yerr=[
                [max(0.0, h - low) for h, (low, _) in zip(heights, bands, strict=True)],
                [max(0.0, high - h) for h, (_, high) in zip(heights, bands, strict=True)],
            ],
            fmt=_MARKERS.get(quality or "", "x"),
            capsize=3,
            label=words(quality or "quality unknown"),
        )
    ax.set_xlabel("call")
    kind = "" if table.definition is None else f", {table.definition}"
    ax.set_ylabel(f"energy, J{kind} (lines: 95 % band)")
    ax.set_ylim(bottom=0)
    ax.set_xlim(-0.5, max(len(table) - 0.5, 0.5))
    if len(table) <= _MOST_NAMED:
        ax.set_xticks(range(len(table)), [words(one.call, 12) for one in table.calls])
    if known:
        ax.legend(loc="best", fontsize="small")
    ax.set_title(_title(table, len(known)), loc="left", fontsize="medium")
    return ax


def _title(table: EnergyTable, known: int) -> str:
    if not len(table):
        return "no calls"
    lines = []
    if table.joules is not None:
        low, high = table.band or (None, None)
        lines.append(f"{joules(table.joules, low, high)}, sum of {counted(known, 'call')}")
    without = [one for one in table.calls if one.joules is None]
    if without:
        reasons = few(list(dict.fromkeys(one.reason or "unknown" for one in without)), 1)
        lines.append(
            f"not drawn, no energy: {counted(len(without), 'call')} ({words(reasons, 70)})"
        )
    return "\n".join(lines)
