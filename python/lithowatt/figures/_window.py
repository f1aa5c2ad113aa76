"""A whole window as one picture: its timeline above the bars of its reading."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lithowatt.figures import _reading, _timeline
from lithowatt.figures._draw import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lithowatt.meter._meter import EnergyMeter


def window_figure(meter: EnergyMeter) -> Figure:
    """The picture of a meter's last window, which pyplot does not know.

    Raises:
        ImportError: Where matplotlib or NumPy is missing.
    """
    reading, line = meter.reading, meter.timeline()
    if not len(line):
        figure = new_figure(8, 5)
        _reading.draw(reading, figure.subplots())
        return figure
    figure = new_figure(8, 9)
    # Each with margins of its own, for their labels differ in width.
    (above,), (below,) = figure.subfigures(2, 1, squeeze=False, height_ratios=[5, 4])
    _timeline.draw(line, above.subplots())
    _reading.draw(reading, below.subplots())
    return figure
