"""The plots of a report, as Vega-Lite charts that Altair checks and builds.

A chart holds no data: the page hands its rows in after each change of a filter, and a figure file
is drawn with the same chart and all rows. So a figure in a paper is the figure on the page.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lithowatt._support.install import pip_install
from lithowatt.report._rows import PHASES, Row

if TYPE_CHECKING:
    import altair as alt

#: What a report's pages are made with.
PACKAGES = ("altair", "vl-convert-python", "jinja2")

#: Pixels of a figure in a file; on the page the width is that of the window.
FILE_WIDTH = 640

#: Colours that people with any colour vision can tell apart, and that stand out from white and
#: from dark grey: Okabe and Ito's, "Color Universal Design" (2008), the yellow left out.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#8c8c8c")

#: A column of the text that belongs to a dot: field, title, unit.
Told = tuple[str, str, str]


@dataclass(frozen=True)
class Plot:
    """One plot.

    Attributes:
        name: Of its files, and in the page.
        title: What it shows.
        reading: How it is read, in a sentence.
        rows: The set of rows that are its dots.
        chart: The chart without data; its data sets are `points` and those of `more`.
        told: What hovering and the table twin tell of a dot.
        order: Fields by which the keyboard goes from dot to dot.
        needs: Fields that have to be above 0 for a dot to be drawn.
        more: Further data sets of the chart, to the sets of rows that they are.
        below: What a figure in a file says below its title, where it has no caption.
    """

    name: str
    title: str
    reading: str
    rows: str
    chart: alt.LayerChart
    told: tuple[Told, ...]
    order: tuple[str, ...]
    more: Mapping[str, str]
    needs: tuple[str, ...] = ()
    below: str | None = None

    def spec(self, width: int | str = "container") -> dict[str, Any]:
        """The chart in Vega-Lite."""
        found: dict[str, Any] = self.chart.properties(width=width, height=340).to_dict(
            validate=False
        )
        found["autosize"] = {"type": "fit-x", "contains": "padding"}
        # A page has its own colour behind the plot, also a dark one.
        found["background"] = "transparent"
        found["config"] = {
            "legend": {"orient": "bottom", "columns": 3, "labelLimit": 320, "columnPadding": 18}
        }
        return found


def altair() -> Any:
    """The library that checks and builds the charts.

    Raises:
        ModuleNotFoundError: It is not installed; the message says how to install it.
    """
    try:
        import altair as found
        import vl_convert  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the plots of a report need {error.name}: {pip_install(*PACKAGES)}", name=error.name
        ) from None
    return found


_WHO: tuple[Told, ...] = (
    ("stage", "stage", ""),
    ("arch", "architecture", ""),
    ("mb", "memory", "MB"),
    ("workers", "workers", ""),
)


def plots(rows: Mapping[str, Sequence[Row]]) -> list[Plot]:
    """The plots for which there are rows."""
    made = [make(rows) for make in _ALL]
    return [one for one in made if one is not None]


def _known(rows: Sequence[Row], *names: str) -> bool:
    return any(all(row[name] is not None for name in names) for row in rows)


def _domain(rows: Sequence[Row], field: str) -> list[Any]:
    """All values of a field, so that one looks the same whatever a filter leaves."""
    found = {one for row in rows for one in _each(row[field])}
    return sorted(found, key=lambda one: (not isinstance(one, (int, float)), one))


def _each(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [value]


def _shape(alt: Any, field: str, title: str, domain: Sequence[Any]) -> Any:
    return alt.Shape(field, type="nominal", title=title, scale=alt.Scale(domain=list(domain)))


def _colour(
    alt: Any, field: str, title: str, domain: Sequence[Any], kind: str = "nominal", columns: int = 3
) -> Any:
    colours = [COLOURS[at % len(COLOURS)] for at in range(len(domain))]
    return alt.Color(
        field,
        type=kind,
        title=title,
        scale=alt.Scale(domain=list(domain), range=colours),
        legend=alt.Legend(columns=columns),
    )


def _phase_colour(alt: Any) -> Any:
    return alt.Color(
        "phase",
        type="nominal",
        title="phase",
        sort=list(PHASES),
        scale=alt.Scale(domain=list(PHASES), range=list(COLOURS[: len(PHASES)])),
    )


def _workers_axis(alt: Any, rows: Sequence[Row]) -> Any:
    """Each number of workers that was profiled has a label, as far as there is room."""
    return alt.Axis(values=_domain(rows, "workers"), labelOverlap="greedy", labelAngle=0)


def _marked(alt: Any, base: Any, **encoding: Any) -> Any:
    """A square around what is recommended."""
    frame = base.mark_point(
        shape="square", size=420, strokeWidth=2, filled=False, color="#8c8c8c", aria=False
    )
    return frame.transform_filter("datum.pick === 'recommended'").encode(**encoding)


def _log_axis(alt: Any) -> Any:
    """An axis of a logarithmic scale: without this only some powers have a label."""
    return alt.Axis(labelExpr="format(datum.value, '.3~r')", labelOverlap="greedy", tickCount=8)


def _focus(alt: Any, base: Any, **encoding: Any) -> Any:
    """A ring around the dot that the keyboard is at."""
    ring = base.mark_point(size=320, strokeWidth=3, filled=False, color="#b000b0", aria=False)
    return ring.transform_filter("datum.id === focused").encode(**encoding)


def _dots(alt: Any, base: Any, size: int = 70, **encoding: Any) -> Any:
    return base.mark_point(
        size=size, filled=True, opacity=0.85, tooltip={"content": "data"}
    ).encode(**encoding)


def _one(alt: Any) -> Any:
    """The line of a ratio of 1, once."""
    return alt.Chart(alt.Data(values=[{}])).mark_rule(strokeDash=[2, 2]).encode(y=alt.datum(1))


def _layers(alt: Any, *layers: Any) -> Any:
    return alt.layer(*layers).add_params(alt.param(name="focused", value=-1))


def _against_time(
    rows: Mapping[str, Sequence[Row]], field: str, title: str, name: str, unit: str, about: str
) -> Plot | None:
    if not _known(rows["configurations"], "time", field):
        return None
    alt = altair()
    base = alt.Chart(alt.NamedData("points")).transform_filter(
        f"isValid(datum.time) && isValid(datum.{field}) && datum.time > 0 && datum.{field} > 0"
    )
    log = alt.Scale(type="log", nice=False, padding=12)
    x = alt.X(
        "time", type="quantitative", title="time of the stage, s", scale=log, axis=_log_axis(alt)
    )
    y = alt.Y(field, type="quantitative", title=title, scale=log, axis=_log_axis(alt))
    some = rows["configurations"]
    colour = _colour(alt, "mb", "memory, MB", _domain(some, "mb"), "ordinal")
    shape = _shape(alt, "arch", "architecture", _domain(some, "arch"))
    across = base.mark_rule(opacity=0.6).encode(
        x=alt.X("time_low", type="quantitative"), x2="time_high", y=y, color=colour
    )
    up = base.mark_rule(opacity=0.6).encode(
        x=x, y=alt.Y(f"{field}_low", type="quantitative"), y2=f"{field}_high", color=colour
    )
    layers = [across, up]
    more = {}
    if field == "usd":
        more = {"front": "front"}
        front = alt.Chart(alt.NamedData("front")).transform_filter(
            "isValid(datum.time) && isValid(datum.usd) && datum.usd > 0 && datum.time > 0"
        )
        layers.append(
            front.mark_line(interpolate="step-after", strokeDash=[5, 3], opacity=0.8).encode(
                x=x, y=y, detail="stage:N", color=alt.value("#8c8c8c")
            )
        )
    layers += [
        _marked(alt, base, x=x, y=y),
        _dots(alt, base, x=x, y=y, color=colour, shape=shape),
        _focus(alt, base, x=x, y=y),
    ]
    factors = _own_bands(some) if field == "joules" else None
    line = below = ""
    if factors is not None:
        line = (
            f" They are of the runs alone: the error of the joules themselves, {factors} and "
            "mostly common to the dots of one architecture, is not drawn."
        )
        below = f"Not drawn: the 95 % band of the joules themselves, {factors}"
    line += " A grey square is around what is recommended."
    if more:
        line += " The dashed line is the Pareto front: nothing is both faster and cheaper."
    return Plot(
        name,
        f"Time against {about}",
        f"One dot is a configuration: the mean of its runs. Lines are 95 % intervals.{line}",
        "configurations",
        _layers(alt, *layers),
        (
            *_WHO,
            ("n", "runs", ""),
            ("time", "time", "s"),
            (field, about, unit),
            *((("quality", "joules are", ""),) if field == "joules" else ()),
        ),
        ("time",),
        more,
        ("time", field),
        below or None,
    )


def _own_bands(some: Sequence[Row]) -> str | None:
    """The joules' own bands, which are not drawn, as factors: of the widest."""
    parts = [
        (row["band_low"] / row["joules"], row["band_high"] / row["joules"])
        for row in some
        if row["band_low"] is not None and row["joules"]
    ]
    if not parts:
        return None
    low, high = min(one for one, _ in parts), max(one for _, one in parts)
    return f"×{low:.2g} to ×{high:.2g}"


def _time_cost(rows: Mapping[str, Sequence[Row]]) -> Plot | None:
    return _against_time(
        rows, "usd", "USD per 1,000 runs", "time-cost", "USD per 1,000 runs", "cost"
    )


def _time_energy(rows: Mapping[str, Sequence[Row]]) -> Plot | None:
    some = rows["configurations"]
    kinds = sorted({str(row["quality"]) for row in some if row["quality"] is not None})
    about = f"energy ({' and '.join(kinds)})" if kinds else "energy"
    return _against_time(rows, "joules", "J per run", "time-energy", "J per run", about)


def _repetitions(rows: Mapping[str, Sequence[Row]]) -> Plot | None:
    if not rows["repetitions"]:
        return None
    alt = altair()
    base = alt.Chart(alt.NamedData("points"))
    x = alt.X(
        "beside",
        type="quantitative",
        title="repetition, in the order of the file",
        scale=alt.Scale(nice=False, zero=False, padding=10),
        axis=alt.Axis(tickMinStep=1, format="d"),
    )
    y = alt.Y(
        "relative",
        type="quantitative",
        title="worker time / mean of its configuration",
        scale=alt.Scale(type="log", nice=False, padding=8),
        axis=_log_axis(alt),
    )
    processors = _domain(rows["repetitions"], "cpu")
    colour = _colour(alt, "cpu", "processor", processors, columns=1)
    one = _one(alt)
    return Plot(
        "repetitions",
        "Every repetition, by processor",
        "One dot is the mean worker time of the calls of a repetition that ran on one processor, "
        "divided by the mean of its configuration. Dots that rise or fall from left to right, or "
        "colours that come and go, are drift.",
        "repetitions",
        _layers(
            alt,
            one,
            _dots(
                alt,
                base,
                36,
                x=x,
                y=y,
                color=colour,
                shape=_shape(alt, "cpu", "processor", processors),
            ),
            _focus(alt, base, x=x, y=y),
        ),
        (
            *_WHO,
            ("cpu", "processor", ""),
            ("repetition", "repetition", ""),
            ("calls", "calls", ""),
            ("seconds", "worker time", "s"),
            ("relative", "relative to its configuration", ""),
        ),
        ("repetition", "config"),
        {},
    )


def _ratios(rows: Mapping[str, Sequence[Row]]) -> Plot | None:
    if not rows["ratios"]:
        return None
    alt = altair()
    pair = rows["ratios"][0]["pair"]
    base = alt.Chart(alt.NamedData("points")).transform_filter("datum.quantity === 'compute_s'")
    some = rows["ratios"]
    x = alt.X("workers", type="ordinal", title="workers", axis=alt.Axis(labelAngle=0))
    offset = alt.XOffset("mb", type="ordinal")
    y = alt.Y(
        "ratio",
        type="quantitative",
        title=f"compute time, {pair}",
        scale=alt.Scale(type="log", nice=False, padding=10),
        axis=_log_axis(alt),
    )
    colour = _colour(alt, "mb", "memory, MB", _domain(some, "mb"), "ordinal")
    ends = base.mark_rule().encode(
        x=x,
        xOffset=offset,
        y=alt.Y("low", type="quantitative"),
        y2="high",
        color=colour,
    )
    one = _one(alt)
    return Plot(
        "ratios",
        f"Compute time of {pair}",
        "One dot is a matched pair of configurations, with its 95 % interval. Below 1 the first "
        "takes less time.",
        "ratios",
        _layers(
            alt,
            one,
            ends,
            _dots(
                alt,
                base,
                x=x,
                xOffset=offset,
                y=y,
                color=colour,
                shape=_shape(alt, "stage", "stage", _domain(some, "stage")),
            ),
            _focus(alt, base, x=x, xOffset=offset, y=y),
        ),
        (
            ("stage", "stage", ""),
            ("mb", "memory", "MB"),
            ("workers", "workers", ""),
            ("quantity", "quantity", ""),
            ("n", "runs", ""),
            ("ratio", pair, ""),
            ("low", "interval from", ""),
            ("high", "to", ""),
            ("verdict", "verdict", ""),
        ),
        ("workers", "mb"),
        {},
    )


def _scaling(rows: Mapping[str, Sequence[Row]]) -> Plot | None:
    some = rows["configurations"]
    if not _known(some, "time") or len({row["workers"] for row in some}) < 2:
        return None
    alt = altair()
    base = alt.Chart(alt.NamedData("points")).transform_filter(
        "isValid(datum.time) && datum.time > 0"
    )
    log = alt.Scale(type="log", nice=False, padding=10)
    x = alt.X(
        "workers", type="quantitative", title="workers", scale=log, axis=_workers_axis(alt, some)
    )
    y = alt.Y(
        "time", type="quantitative", title="time of the stage, s", scale=log, axis=_log_axis(alt)
    )
    colour = _colour(alt, "mb", "memory, MB", _domain(some, "mb"), "ordinal")
    laws = (
        alt.Chart(alt.NamedData("laws"))
        .mark_line(opacity=0.5)
        .encode(
            x=x,
            y=y,
            color=colour,
            strokeDash=alt.StrokeDash("arch", type="nominal", legend=None),
            detail=["stage:N", "line:N"],
        )
    )
    ends = base.mark_rule().encode(
        x=x, y=alt.Y("time_low", type="quantitative"), y2="time_high", color=colour
    )
    return Plot(
        "scaling",
        "Time against workers",
        "One dot is a configuration, with its 95 % interval; lines are the fitted Universal "
        "Scalability Law, where workers divide the work.",
        "configurations",
        _layers(
            alt,
            laws,
            ends,
            _dots(
                alt,
                base,
                x=x,
                y=y,
                color=colour,
                shape=_shape(alt, "arch", "architecture", _domain(some, "arch")),
            ),
            _focus(alt, base, x=x, y=y),
        ),
        (*_WHO, ("n", "runs", ""), ("time", "time", "s"), ("cpu_s", "CPU seconds", "s")),
        ("workers", "time"),
        {"laws": "laws"},
        ("time",),
    )


def _phases(rows: Mapping[str, Sequence[Row]]) -> Plot | None:
    if not rows["phases"]:
        return None
    alt = altair()
    base = alt.Chart(alt.NamedData("points")).transform_filter("datum.seconds > 0")
    log = alt.Scale(type="log", nice=False, padding=10)
    x = alt.X("workers", type="ordinal", title="workers", axis=alt.Axis(labelAngle=0))
    offset = alt.XOffset("phase", type="nominal", sort=list(PHASES))
    y = alt.Y(
        "seconds", type="quantitative", title="mean of a worker, s", scale=log, axis=_log_axis(alt)
    )
    colour = _phase_colour(alt)
    ends = (
        base.transform_filter("datum.low > 0")
        .mark_rule(opacity=0.7)
        .encode(x=x, xOffset=offset, y=alt.Y("low", type="quantitative"), y2="high", color=colour)
    )
    return Plot(
        "phases",
        "Phases of a worker",
        "One dot is the mean of one phase of a configuration, with its 95 % interval; other is "
        "the worker's time in no phase. Its shape is the memory.",
        "phases",
        _layers(
            alt,
            ends,
            _dots(
                alt,
                base,
                x=x,
                xOffset=offset,
                y=y,
                color=colour,
                shape=_shape(alt, "mb", "memory, MB", _domain(rows["phases"], "mb")),
            ),
            _focus(alt, base, x=x, xOffset=offset, y=y),
        ),
        (
            *_WHO,
            ("phase", "phase", ""),
            ("n", "runs", ""),
            ("seconds", "mean", "s"),
            ("low", "interval from", "s"),
            ("high", "to", "s"),
        ),
        ("workers", "config", "phase"),
        {},
        ("seconds",),
    )


def _calls(rows: Mapping[str, Sequence[Row]]) -> Plot | None:
    if not rows["calls"]:
        return None
    alt = altair()
    base = alt.Chart(alt.NamedData("points"))
    x = alt.X("start", type="quantitative", title="s since the stage asked for its workers")
    y = alt.Y("worker", type="ordinal", title="worker")
    colour = _phase_colour(alt)
    bars = base.mark_bar(tooltip={"content": "data"}).encode(x=x, x2="end", y=y, color=colour)
    ring = (
        base.mark_bar(fillOpacity=0, stroke="#b000b0", strokeWidth=3)
        .transform_filter("datum.id === focused")
        .encode(x=x, x2="end", y=y)
    )
    return Plot(
        "timeline",
        "Timeline of one run",
        "The phases of each worker of one configuration, in the run whose time is nearest to the "
        "mean. Where a worker's seconds in no phase belong is not recorded: they stand at its end, "
        "after the time of the stage. Choose the configuration below.",
        "calls",
        _layers(alt, bars, ring),
        (
            *_WHO,
            ("repetition", "repetition", ""),
            ("worker", "worker", ""),
            ("phase", "phase", ""),
            ("start", "from", "s"),
            ("seconds", "length", "s"),
        ),
        ("worker", "start"),
        {},
    )


_ALL: tuple[Callable[[Mapping[str, Sequence[Row]]], Plot | None], ...] = (
    _time_cost,
    _time_energy,
    _repetitions,
    _ratios,
    _scaling,
    _phases,
    _calls,
)
