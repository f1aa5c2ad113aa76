"""``Timeline``: the samples of a window as NumPy arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lithowatt._support.install import pip_install

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt
    import pandas as pd
    from matplotlib.axes import Axes
    from typing_extensions import Self

    from lithowatt.meter._reading import Reading


class PhaseSpan(NamedTuple):
    """One time that a phase was open.

    Attributes:
        name: As given to ``phase()``.
        start: s since the window began.
        end: s since the window began.
    """

    name: str
    start: float
    end: float


class Timeline:
    """Power over time: the machine's, of which a function has a share.

    Attributes:
        t: Ends of the intervals, s since the window began, shape ``(n,)``.
        watts: Mean power of the machine in each interval, W, shape ``(n,)``, by column: one for
            each counter (``rapl:package-0`` …; ``rapl:repeated:…`` shows another one again) and the
            model's (``model:package``, ``model:dram``). The model knows the machine's load every
            0.1 s, so within that time shorter intervals have the same watts. GPUs have no column:
            another thread reads them, and the window's whole joules are in `Reading.zones`.
        cpu: CPUs that the function used in each interval, mean, shape ``(n,)``; NaN where its CPU
            time is unknown.
        times_ns: Edges of the intervals on ``CLOCK_MONOTONIC``, ns, shape ``(n + 1,)``.
        joules: Cumulative energy at the edges, J, shape ``(n + 1,)``, by column.
        phases: A `PhaseSpan` for each time that a phase was open, in the order in which they
            ended; the first 1000.
        reading: The window's `Reading`; ``None`` where only samples were given.

    Without samples (``interval=None``, or nothing to sample) all arrays are empty.
    """

    __slots__ = ("cpu", "joules", "phases", "reading", "t", "times_ns", "watts")

    def __init__(
        self,
        times_ns: npt.NDArray[np.uint64],
        joules: dict[str, npt.NDArray[np.float64]],
        cpu_seconds: npt.NDArray[np.float64],
    ) -> None:
        self.times_ns = times_ns
        self.joules = joules
        self.phases: tuple[PhaseSpan, ...] = ()
        self.reading: Reading | None = None
        edges = self.edges
        lengths = np.diff(edges)
        self.t: npt.NDArray[np.float64] = edges[1:]
        self.watts: dict[str, npt.NDArray[np.float64]] = {
            name: np.diff(column) / lengths for name, column in joules.items()
        }
        self.cpu: npt.NDArray[np.float64] = np.diff(cpu_seconds) / lengths

    @classmethod
    def from_raw(cls, raw: tuple[bytes, bytes, list[str]] | None) -> Timeline:
        """From what the core hands over: times, the cumulative columns and their names."""
        if raw is None:
            return cls(np.empty(0, np.uint64), {}, np.empty(0, np.float64))
        times, values, names = raw
        # As arrays of their own: those of a `bytes` cannot be written to.
        times_ns = np.frombuffer(times, "<u8").astype(np.uint64)
        matrix = np.frombuffer(values, "<f8").astype(np.float64).reshape(len(names), len(times_ns))
        columns = dict(zip(names, matrix, strict=True))
        cpu_seconds = columns.pop("cpu_seconds")
        # A column that never moved has nothing to show: a counter that was not asked for.
        moved = {n: c for n, c in columns.items() if len(c) and c[-1] > 0}
        return cls(times_ns, moved, cpu_seconds)

    def _about(self, reading: Reading, spans: Iterable[tuple[str, int, int]]) -> Self:
        """The same with the window's reading and the phases that began in it."""
        self.reading = reading
        if reading.cpu_seconds is None:
            self.cpu[:] = np.nan
        begin, end = reading.window_ns
        self.phases = tuple(
            PhaseSpan(name, (start - begin) * 1e-9, (min(stop, end) - begin) * 1e-9)
            for name, start, stop in spans
            if begin <= start <= end
        )
        return self

    @property
    def edges(self) -> npt.NDArray[np.float64]:
        """Edges of the intervals, s since the window began, shape ``(n + 1,)``."""
        if not len(self.times_ns):
            return np.empty(0, np.float64)
        edges: npt.NDArray[np.float64] = (self.times_ns - self.times_ns[0]).astype(np.float64)
        return edges * 1e-9

    def __len__(self) -> int:
        return len(self.t)

    def integrate(self, column: str, start: float, end: float) -> float | None:
        """Energy of ``column`` from ``start`` to ``end`` (s since the window began), in J.

        Interpolated between samples; ``None`` where that is not inside the record.

        Raises:
            KeyError: For a column that is not in ``watts``.
        """
        from lithowatt._core import integrate

        if column not in self.joules:
            raise KeyError(f"{column!r}; there are {', '.join(self.joules) or 'none'}")
        if not len(self.times_ns):
            return None
        first = int(self.times_ns[0])
        return integrate(
            self.times_ns.tolist(),
            self.joules[column].tolist(),
            first + round(start * 1e9),
            first + round(end * 1e9),
        )

    def to_pandas(self) -> pd.DataFrame:
        """A data frame indexed by ``t`` (s): a column of the machine's W each, and ``cpu``.

        ``frame.attrs["units"]`` has the unit of each column: ``cpu`` is in CPUs, so a plot of
        watts leaves it out: ``frame.drop(columns="cpu").plot(ylabel="W")``.

        Raises:
            ImportError: Where pandas is missing, with the command that installs it.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError(f"to_pandas needs pandas: {pip_install('pandas')}") from error
        index = pd.Index(self.t, name="t")
        frame: pd.DataFrame = pd.DataFrame({**self.watts, "cpu": self.cpu}, index=index)
        frame.attrs["units"] = {**dict.fromkeys(self.watts, "W"), "cpu": "CPUs"}
        return frame

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draws the machine's power, W, over time, s, with matplotlib.

        A line for each column, counters as "measured" and the model's as "modelled". The area is
        the function's own energy by the reading's headline, where there is one, spread over the
        window by its CPU time. Phases are shaded and named. What is not known is not drawn.

        Args:
            ax: Axes to draw in; by default those of a new figure of pyplot's, which a notebook
                shows. Without a screen it is drawn all the same.

        Returns:
            The axes: ``timeline.plot().figure.savefig("power.png")``.

        Raises:
            ImportError: Where matplotlib is missing, with the command that installs it.
            TypeError: For an ``ax`` that is none.
        """
        from lithowatt.figures._timeline import draw

        return draw(self, ax)

    def __repr__(self) -> str:
        if not len(self):
            return "<Timeline: no samples>"
        return f"<Timeline: {len(self)} intervals, {self.t[-1]:.4g} s, {', '.join(self.watts)}>"
