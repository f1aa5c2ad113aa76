"""``table``: the joules of Lithops calls, a line each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from lithowatt._support.install import pip_install
from lithowatt._support.text import aligned, counted, format_number, printable, wrapped
from lithowatt.estimate import number
from lithowatt.stats import value_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from rich.table import Table

__all__ = ["CallEnergy", "EnergyTable", "table"]

_WIDTH = 80
_MISSING = "–"
_SPARE = (6, 3, 8)
"""Places of columns that a terminal does without where there is no room: W, CPU s, method."""
_HEADS = ("job", "call", "s", "CPU s", "J", "95 % band", "W", "quality", "method")


class CallEnergy(NamedTuple):
    """What one call used.

    Attributes:
        job: Lithops' number of the job, such as ``M000``; ``None`` where only stats were given.
        call: Lithops' number of the call in it; of stats the place in what was given.
        seconds: Length of the function's window, s.
        cpu_seconds: CPU time of its process tree, s.
        joules: By the definition of the table, J; ``None`` where there are none.
        band: The ends of their 95 % band, J; ``None`` where the stats have none that holds them.
        watts: Mean power, W.
        quality: ``measured``, ``attributed`` or ``modelled``.
        method: How the energy was obtained.
        reason: Why there are no joules, ``None`` where there is.
        warnings: What a careful reader wants to know of it.
        gpu_joules: Its part of the GPUs' energy above their rest, J, which is not in `joules`;
            ``None`` where there is none.
    """

    job: str | None
    call: str
    seconds: float | None
    cpu_seconds: float | None
    joules: float | None
    band: tuple[float, float] | None
    watts: float | None
    quality: str | None
    method: str | None
    reason: str | None
    warnings: tuple[str, ...]
    gpu_joules: float | None = None


class EnergyTable:
    """The energy of some calls; prints as a table, in a terminal, by rich, in a notebook.

    Attributes:
        calls: One `CallEnergy` each, in the order in which they were given.
        definition: Of all joules: ``marginal`` or ``amortised``; ``None`` where no call says it.
            Where calls differ, all are marginal, and have no band.
    """

    def __init__(self, calls: Iterable[CallEnergy], definition: str | None) -> None:
        self.calls = tuple(calls)
        self.definition = definition

    def __len__(self) -> int:
        return len(self.calls)

    def __iter__(self) -> Iterator[CallEnergy]:
        return iter(self.calls)

    @property
    def known(self) -> list[CallEnergy]:
        """The calls that have joules."""
        return [one for one in self.calls if one.joules is not None]

    @property
    def joules(self) -> float | None:
        """The sum over the calls that have joules, J; ``None`` where none has."""
        found = [one.joules for one in self.calls if one.joules is not None]
        return math.fsum(found) if found else None

    @property
    def band(self) -> tuple[float, float] | None:
        """The band of `joules`, J; ``None`` where one of these calls has none.

        From the sum of the lower to the sum of the upper ends: the error of a model is mostly
        common to all calls, and does not average out.
        """
        known = self.known
        bands = [one.band for one in known if one.band is not None]
        if not bands or len(bands) < len(known):
            return None
        return math.fsum(low for low, _ in bands), math.fsum(high for _, high in bands)

    def to_pandas(self) -> pd.DataFrame:
        """A row a call: s, J, W; what is missing is NaN or ``None``.

        Raises:
            ImportError: Where pandas is missing, with the command that installs it.
        """
        try:
            import pandas as pd
        except ImportError:
            raise ImportError(f"pandas is missing: {pip_install('pandas')}") from None
        rows = [
            {
                "job": one.job,
                "call": one.call,
                "seconds": one.seconds,
                "cpu_seconds": one.cpu_seconds,
                "joules": one.joules,
                "joules_low": None if one.band is None else one.band[0],
                "joules_high": None if one.band is None else one.band[1],
                "gpu_joules": one.gpu_joules,
                "watts": one.watts,
                "definition": None if one.joules is None else self.definition,
                "quality": one.quality,
                "method": one.method,
                "reason": one.reason,
            }
            for one in self.calls
        ]
        numbers = (
            "seconds",
            "cpu_seconds",
            "joules",
            "joules_low",
            "joules_high",
            "gpu_joules",
            "watts",
        )
        columns = ("job", "call", *numbers, "definition", "quality", "method", "reason")
        frame: pd.DataFrame = pd.DataFrame(rows, columns=list(columns))
        for name in numbers:
            frame[name] = frame[name].astype("float64")
        return frame

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draws a dot for each call's joules with its 95 % band, with matplotlib.

        A call without joules has no dot; the title says how many there are, and why.

        Args:
            ax: Axes to draw in; by default those of a new figure of pyplot's.

        Returns:
            The axes.

        Raises:
            ImportError: Where matplotlib is missing, with the command that installs it.
            TypeError: For an ``ax`` that is none.
        """
        from lithowatt.figures._calls import draw

        return draw(self, ax)

    def _rows(self) -> list[tuple[str, ...]]:
        return [_cells(one) for one in self.calls]

    def _notes(self) -> Iterator[str]:
        """The sum, then what the calls say, each once with how many say it."""
        if self.joules is not None:
            band = self.band
            ends = "" if band is None else f" [{_shown(band[0])} .. {_shown(band[1])}]"
            kind = "" if self.definition is None else f" {self.definition}"
            of = f"{len(self.known)} of {counted(len(self), 'call')}"
            yield f"{_shown(self.joules)} J{ends}{kind}, sum of {of}"
        gpus = [one.gpu_joules for one in self.calls if one.gpu_joules is not None]
        if gpus:
            of = f"{len(gpus)} of {counted(len(self), 'call')}"
            yield f"GPUs: {_shown(math.fsum(gpus))} J above their rest, of {of}; in no J above"
        heard: dict[str, int] = {}
        for one in self.calls:
            said = ((f"no energy: {one.reason}",) if one.reason else ()) + one.warnings
            for text in dict.fromkeys(said):
                heard[text] = heard.get(text, 0) + 1
        for text, many in heard.items():
            yield text if many == len(self) else f"{text} ({many} of {counted(len(self), 'call')})"

    def __str__(self) -> str:
        if not self.calls:
            return "no calls"
        rows = [_HEADS, *self._rows()]
        # What no call has is no column, and one job of all needs none.
        kept = [at for at in range(len(_HEADS)) if any(row[at] != _MISSING for row in rows[1:])]
        if len({one.job for one in self.calls}) == 1 and 0 in kept:
            kept.remove(0)
        for at in _SPARE:
            if at in kept and _wide(rows, kept) > _WIDTH:
                kept.remove(at)
        lines = aligned([[row[at] for at in kept] for row in rows], right=_right(kept))
        for note in self._notes():
            lines += wrapped(note, _WIDTH, "")
        return "\n".join(map(printable, lines))

    def __repr__(self) -> str:
        joules = "no energy" if self.joules is None else f"{_shown(self.joules)} J"
        return f"<EnergyTable: {counted(len(self), 'call')}, {joules}>"

    def __rich__(self) -> Table:
        """For `rich.print` and rich's console."""
        from rich.markup import escape
        from rich.table import Table

        made = Table(caption="\n".join(escape(printable(note)) for note in self._notes()) or None)
        right = _right(range(len(_HEADS)))
        for at, head in enumerate(_HEADS):
            made.add_column(head, justify="right" if at in right else "left")
        for row in self._rows():
            made.add_row(*(escape(printable(cell)) for cell in row))
        return made

    def _repr_html_(self) -> str:
        """A table for Jupyter."""
        from html import escape

        heads = "".join(f"<th scope='col'>{escape(head)}</th>" for head in _HEADS)
        right = _right(range(len(_HEADS)))
        rows = "".join(
            "<tr>"
            + "".join(
                f"<td style='text-align:{'right' if at in right else 'left'}'>{escape(cell)}</td>"
                for at, cell in enumerate(row)
            )
            + "</tr>"
            for row in self._rows()
        )
        notes = "".join(f"<li>{escape(note)}</li>" for note in self._notes())
        return f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>" + (
            f"<ul>{notes}</ul>" if notes else ""
        )


def table(futures: Any) -> EnergyTable:
    """The energy of Lithops calls as a table.

    Args:
        futures: A `lithops.ResponseFuture`, or several: what ``call_async``, ``map`` and
            ``map_reduce`` return, or an executor's ``futures``. Their ``stats``, which are dicts,
            do as well.

    Returns:
        A table that prints in a terminal, shows in a notebook and becomes a frame of pandas. A
        call that has not ended, or that carries no energy, is there with the reason.

    Raises:
        TypeError: For what is neither a future nor a dict of stats.

    Example:
        >>> from lithowatt.lithops import table
        >>> stats = {"worker_func_energy_consumption": 2.0, "worker_func_energy_duration": 0.5}
        >>> print(table([stats]))
        call    s  J  W
           0  0.5  2  4
        2 J, sum of 1 of 1 call
    """
    single = isinstance(futures, Mapping) or hasattr(futures, "stats")
    given = [_given(one, at) for at, one in enumerate([futures] if single else futures)]
    definitions = {str(d) for *_, stats in given if (d := value_of(stats, "energy_definition"))}
    definition = definitions.pop() if len(definitions) == 1 else None
    mixed = len(definitions) > 1
    if mixed:
        definition = "marginal"
    return EnergyTable((_call(*one, mixed) for one in given), definition)


def _given(one: Any, at: int) -> tuple[str | None, str, Mapping[str, Any]]:
    """The job, the call and the stats of what was given."""
    if isinstance(one, Mapping):
        return None, str(at), one
    stats = getattr(one, "stats", None)
    if not isinstance(stats, Mapping):
        raise TypeError(
            f"{type(one).__name__} is no call: expected futures of Lithops, or their stats"
        )
    job, call = getattr(one, "job_id", None), getattr(one, "call_id", None)
    return None if job is None else str(job), str(at if call is None else call), stats


def _call(job: str | None, call: str, stats: Mapping[str, Any], mixed: bool) -> CallEnergy:
    def value(key: str) -> float | None:
        return number(value_of(stats, key))

    def text(key: str) -> str | None:
        found = value_of(stats, key)
        return found if isinstance(found, str) and found else None

    seconds = value("energy_duration")
    joules = value("energy_marginal" if mixed else "energy_consumption")
    # Above idle there is a band of the headline only, which is another quantity.
    low, high = (None, None) if mixed else (value("energy_low"), value("energy_high"))
    band = None
    # Stats may be anybody's: a band that does not hold its value is none.
    if joules is not None and low is not None and high is not None and low <= joules <= high:
        band = low, high
    said = value_of(stats, "energy_warnings")
    return CallEnergy(
        job=job,
        call=call,
        seconds=seconds,
        cpu_seconds=value("energy_cpu_time"),
        joules=joules,
        band=band,
        watts=joules / seconds if joules is not None and seconds else None,
        quality=None if joules is None else text("energy_quality"),
        method=None if joules is None else text("energy_method"),
        reason=_reason(stats, text("energy_source")) if joules is None else None,
        warnings=tuple(map(str, [said] if isinstance(said, str) else said or ())),
        gpu_joules=value("gpu_energy_attributed"),
    )


def _reason(stats: Mapping[str, Any], source: str | None) -> str:
    if source is not None:
        return source.removeprefix("unavailable: ")
    if not any(str(key).startswith("worker_") for key in stats):
        return "the call has not ended, or nobody asked for its result or status yet"
    return "its stats have none: `lithowatt lithops status` says whether workers are metered"


def _shown(value: float | None) -> str:
    return _MISSING if value is None else format_number(value)


def _cells(one: CallEnergy) -> tuple[str, ...]:
    return (
        one.job or _MISSING,
        one.call,
        _shown(one.seconds),
        _shown(one.cpu_seconds),
        _shown(one.joules),
        _MISSING if one.band is None else " to ".join(map(_shown, one.band)),
        _shown(one.watts),
        one.quality or _MISSING,
        one.method or _MISSING,
    )


def _wide(rows: Sequence[Sequence[str]], kept: Sequence[int]) -> int:
    """Characters of a line with these columns."""
    return sum(max(len(row[at]) for row in rows) + 2 for at in kept) - 2


def _right(kept: Iterable[int]) -> set[int]:
    """Places of the columns of numbers among those that are shown."""
    return {place for place, at in enumerate(kept) if 1 <= at <= 6}
