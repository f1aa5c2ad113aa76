"""Grams of CO2e for joules: grid intensity, PUE, embodied emissions, SCI per call.

>>> from lithowatt.carbon import emissions
>>> grams = emissions(3.6e6, region="eu-north-1", pue=1.1)
>>> round(grams.value, 1)
39.5

Everything is location based: what the local grid emits on average, whatever
certificates anybody bought. Tables, sources and gaps: `docs/how-to/cost-and-carbon.md`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from lithowatt._support.architectures import normalise_architecture
from lithowatt._support.arguments import closest
from lithowatt.data import rows
from lithowatt.estimate import Estimate, estimate, number, product

if TYPE_CHECKING:
    from datetime import datetime

__all__ = [
    "EMBODIED_KG_PER_VCPU",
    "LIFETIME_YEARS",
    "GridIntensity",
    "GridSeries",
    "SciScore",
    "configure",
    "embodied",
    "emissions",
    "grid_intensity",
    "pue",
    "regions",
    "sci",
]

_JOULES_PER_KWH = 3.6e6
_SECONDS_PER_YEAR = 365.25 * 86400

_PARTS = "763 kg for 64 vCPUs, counted part by part (https://tailpipe.ai/methodology)"
_LCA = (
    "4017 kg for 96 vCPUs, processors, memory and 31 TB of SSD in Dell's life-cycle assessment "
    "of the PowerEdge R740 (2019)"
)
_RULE = (
    "https://medium.com/teads-engineering/building-an-aws-ec2-carbon-emissions-dataset-3f0fd76c98ac"
)

#: Embodied emissions of a cloud server, kg CO2e per vCPU, by architecture. The value is that of a
#: general-purpose EC2 host by the rule of Teads and Cloud Carbon Footprint (1000 kg for a server,
#: 100 kg for a second processor, 1.39 kg per GB of memory above 16): m5.metal 1611 kg for 96
#: vCPUs, m6g.metal 1333 kg for 64. The low end counts a server part by part, the high end is a
#: manufacturer's assessment of a server full of SSDs. What Lambda runs on is not published.
EMBODIED_KG_PER_VCPU = {
    "x86_64": Estimate(
        1610.79 / 96,
        763.23 / 64,
        (47 + 533 + 3373 + 64.1) / 96,
        f"m5.metal by {_RULE}; low: {_PARTS}; high: {_LCA}",
    ),
    "arm64": Estimate(
        1333.12 / 64,
        763.23 / 64,
        (47 + 533 + 3373 + 64.1) / 96,
        f"m6g.metal by {_RULE}; low: {_PARTS}; high: {_LCA}",
    ),
}

#: Years that a server is used: five or six are Amazon's in its annual reports for 2024 and 2025
#: (Form 10-K, use of estimates), four are Cloud Carbon Footprint's.
LIFETIME_YEARS = Estimate(5.0, 4.0, 6.0, "Amazon 10-K 2024; Cloud Carbon Footprint")


class GridIntensity(NamedTuple):
    """How much a grid emits for a kWh.

    Attributes:
        zone: ISO 3166 country, ``US-<eGRID subregion>``, or ``gcp/<region>``.
        name: The zone in words.
        gco2e_per_kwh: Yearly average, location based, g CO2e per kWh.
        year: The year of the data.
        source: Where it was read.
    """

    zone: str
    name: str
    gco2e_per_kwh: float
    year: int
    source: str


class SciScore(NamedTuple):
    """Software Carbon Intensity (ISO/IEC 21031:2024): (E·I + M) / R.

    Attributes:
        score: g CO2e per functional unit, with its band.
        operational: E·I / R: g of the electricity, PUE included, per unit.
        embodied: M / R: g of making the hardware, per unit.
        functional_unit: What R counts, e.g. ``call``.
        units: R: how many of them the energy and the hardware were for.
    """

    score: Estimate
    operational: Estimate
    embodied: Estimate
    functional_unit: str
    units: float


# -- tables -----------------------------------------------------------------------------------

_zones: dict[str, GridIntensity] = {}
_regions: dict[str, tuple[str, str]] = {}
_pues: dict[str, Estimate] = {}


def _load() -> None:
    """Reads the tables, once."""
    if _zones:
        return
    table, sources = rows("grid_intensity.csv")
    zones = {
        row["zone"]: GridIntensity(
            row["zone"],
            row["name"],
            float(row["gco2e_per_kwh"]),
            int(row["year"]),
            sources[row["source"]],
        )
        for row in table
    }
    _regions.update(
        {row["region"]: (row["provider"], row["zone"]) for row in rows("cloud_regions.csv")[0]}
    )
    latest: dict[str, int] = {}
    for row in rows("pue.csv")[0]:
        provider, year = row["provider"], int(row["year"])
        if year >= latest.get(provider, year):
            latest[provider] = year
            value = float(row["pue"])
            _pues[provider] = Estimate(value, value, value, f"{row['source']} ({year})")
    _zones.update(zones)


def regions(provider: str | None = None) -> list[str]:
    """Cloud regions whose grid is known here; of ``aws``, ``azure``, ``gcp``, or all.

    Raises:
        ValueError: For another provider.
    """
    _load()
    if provider is not None and provider not in _pues:
        raise ValueError(f"provider {provider!r:.80} is not known: {', '.join(sorted(_pues))}")
    return sorted(name for name, (of, _) in _regions.items() if provider in (None, of))


def grid_intensity(region: str | None = None, country: str | None = None) -> GridIntensity:
    """What the grid emits on yearly average, location based, g CO2e per kWh.

    Args:
        region: A region of AWS, Azure or Google Cloud, e.g. ``eu-west-1``.
        country: ISO 3166-1 alpha-2, e.g. ``DE``, or a US eGRID subregion, ``US-SRVC``.

    Raises:
        ValueError: For what is not in the table, naming what is; for both or neither.

    Example:
        >>> grid_intensity("us-east-1").zone, grid_intensity(country="fr").gco2e_per_kwh
        ('US-SRVC', 44.18)
    """
    if (region is None) == (country is None):
        raise ValueError("give a region or a country, one of them")
    _load()
    if region is not None:
        key = region.strip().lower() if isinstance(region, str) else ""
        if key not in _regions:
            raise ValueError(
                f"there is no grid intensity for region {region!r:.80} here "
                f"({closest(region, _regions)}, such as us-east-1: lithowatt.carbon.regions()); "
                "give intensity or country"
            )
        return _zones[_regions[key][1]]
    zone = country.strip().upper() if isinstance(country, str) else ""
    if zone not in _zones:
        known = ", ".join(sorted(name for name in _zones if "/" not in name))
        raise ValueError(
            f"there is no grid intensity for country {country!r:.80} here, only for {known}; "
            "give intensity"
        )
    return _zones[zone]


def pue(provider: str) -> Estimate:
    """Power usage effectiveness of ``aws``, ``azure`` or ``gcp``: the newest yearly average.

    Of all the provider's data centres; those of one region may be far from it.

    Raises:
        ValueError: For another provider.

    Example:
        >>> pue("gcp").value
        1.09
    """
    _load()
    key = provider.strip().lower() if isinstance(provider, str) else ""
    if key not in _pues:
        raise ValueError(f"provider {provider!r:.80} is not known: {', '.join(sorted(_pues))}")
    return _pues[key]


# -- a grid through time ----------------------------------------------------------------------


class GridSeries:
    """Grid intensity through time: a value holds until the next one.

    The last value holds as long as the one before it did.

    Args:
        points: (Unix time in s, g CO2e per kWh), two or more, in ascending order.
        source: Where they are from.

    Raises:
        ValueError: For points that are not like that.

    Example:
        >>> series = GridSeries([(0, 100), (3600, 300)])
        >>> series.at(1800), series.mean(1800, 5400)
        (100.0, 200.0)
    """

    __slots__ = ("_times", "_values", "source")

    def __init__(self, points: Sequence[tuple[float, float]], source: str = "as given") -> None:
        times: list[float] = []
        values: list[float] = []
        for time, value in points:
            at, grams = number(time), number(value)
            if at is None or grams is None or grams < 0:
                raise ValueError(f"({time!r:.40}, {value!r:.40}) is not (s, g per kWh, 0 or more)")
            if times and at <= times[-1]:
                raise ValueError(f"time {time!r:.40} is not after the one before it")
            times.append(at)
            values.append(grams)
        if len(times) < 2:
            raise ValueError("a series takes two points or more")
        self._times = times
        self._values = values
        self.source = source

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> GridSeries:
        """Reads a CSV file whose first line is ``timestamp,gco2e_per_kwh``.

        A timestamp is Unix time in s, or ISO 8601 with a zone: ``2026-01-31T00:00Z``.

        Raises:
            UnreadableFileError: The file cannot be read.
            MalformedValueError: Naming the line and what it should hold.
        """
        from lithowatt._support.files import read_plain
        from lithowatt.errors import MalformedValueError, UnreadableFileError

        name = os.fspath(path)
        try:
            lines = read_plain(name, _MOST_BYTES).decode("utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UnreadableFileError(f"{name}: {error}") from error

        if not lines or [cell.strip() for cell in lines[0].split(",")] != _HEADER:
            raise MalformedValueError(f"{name}: line 1 is not {','.join(_HEADER)}")
        points: list[tuple[float, float]] = []
        for index, line in enumerate(lines[1:], 2):
            cells = line.split(",")
            at = _seconds(cells[0].strip())
            try:
                grams = float(cells[1]) if len(cells) == 2 else None
            except ValueError:
                grams = None
            if at is None or grams is None or not 0 <= grams < float("inf"):
                raise MalformedValueError(
                    f"{name}: line {index}: {line!r:.80} is not a time with its zone or in Unix "
                    "seconds, a comma and a number of g CO2e per kWh, 0 or more"
                )
            if points and at <= points[-1][0]:
                raise MalformedValueError(
                    f"{name}: line {index}: {line!r:.80} is not later than the line before it"
                )
            points.append((at, grams))
        if len(points) < 2:
            raise MalformedValueError(f"{name}: holds fewer than two lines of data")
        return cls(points, source=name)

    @property
    def start(self) -> float:
        """The first moment that it knows, Unix time in s."""
        return self._times[0]

    @property
    def end(self) -> float:
        """Where its last value ends to hold, Unix time in s."""
        return 2 * self._times[-1] - self._times[-2]

    def at(self, time: float | datetime) -> float:
        """g CO2e per kWh at a moment, in Unix seconds or a datetime with a zone.

        Raises:
            ValueError: For a time that the series does not cover.
        """
        from bisect import bisect_right

        moment = self._covered(time)
        return self._values[bisect_right(self._times, moment) - 1]

    def mean(self, start: float | datetime, end: float | datetime) -> float:
        """g CO2e per kWh over a window, weighted by time.

        Raises:
            ValueError: For a window that the series does not cover, or that ends before it starts.
        """
        from bisect import bisect_right

        first, last = self._covered(start), self._covered(end)
        if last < first:
            raise ValueError(f"the window ends before it starts: {start!r:.40} to {end!r:.40}")
        if last == first:
            return self.at(first)
        edges = [*self._times, self.end]
        index = bisect_right(self._times, first) - 1
        total = 0.0
        while index < len(self._times) and edges[index] < last:
            held = min(edges[index + 1], last) - max(edges[index], first)
            total += self._values[index] * held
            index += 1
        # Rounding must not carry a mean out of what it is the mean of.
        return min(max(total / (last - first), min(self._values)), max(self._values))

    def _covered(self, time: float | datetime) -> float:
        moment = _moment(time)
        if moment is None:
            raise ValueError(f"time {time!r:.80} is no Unix time in s or datetime with a zone")
        if not self.start <= moment <= self.end:
            raise ValueError(
                f"{self.source} holds {_iso(self.start)} to {_iso(self.end)}, not {_iso(moment)}"
            )
        return moment

    def __len__(self) -> int:
        return len(self._times)

    def __repr__(self) -> str:
        return f"<GridSeries {_iso(self.start)} to {_iso(self.end)}, {len(self)} values>"


_HEADER = ["timestamp", "gco2e_per_kwh"]
_MOST_BYTES = 1 << 28


def _seconds(text: str) -> float | None:
    """Unix seconds of a timestamp; ``None`` for what is none, or has no zone."""
    try:
        found = float(text)
    except ValueError:
        pass
    else:
        return number(found)
    from datetime import datetime

    # Python 3.10 does not read the Z.
    if text[-1:] in ("Z", "z"):
        text = f"{text[:-1]}+00:00"
    try:
        return _moment(datetime.fromisoformat(text))
    except ValueError:
        return None


def _moment(time: object) -> float | None:
    timestamp = getattr(time, "timestamp", None)
    if timestamp is None:
        return number(time)
    return number(timestamp()) if getattr(time, "tzinfo", None) is not None else None


def _iso(time: float) -> str:
    from datetime import datetime, timezone

    try:
        return datetime.fromtimestamp(time, timezone.utc).isoformat(timespec="seconds")
    except (OverflowError, ValueError, OSError):
        return repr(time)


# -- what holds where nothing is given --------------------------------------------------------

#: g CO2e per kWh of real grids. Over a year those of the tables have 11 to 902; hours of water and
#: wind have less, hours of old coal plants more. 0 is meant, as of one's own panels.
_LIKELY_INTENSITY = (1.0, 1500.0)

_configured: dict[str, float | Estimate | GridSeries | None] = {"intensity": None, "pue": None}


def configure(
    *,
    intensity: float | Estimate | GridSeries | None = None,
    pue: float | Estimate | None = None,
) -> None:
    """Sets what `emissions` and `sci` take where their caller gives nothing.

    It goes before the environment (``LITHOWATT_GRID_INTENSITY``, ``LITHOWATT_PUE``)
    and the tables; ``None`` takes it back. For this process.

    Args:
        intensity: g CO2e per kWh, or a `GridSeries`.
        pue: Power usage effectiveness, 1 or more.

    Raises:
        ValueError: Naming the value and what is accepted.
    """
    if intensity is not None and not isinstance(intensity, GridSeries):
        estimate(intensity, "intensity")
    if pue is not None:
        estimate(pue, "pue", least=1.0)
    _configured.update(intensity=intensity, pue=pue)


_series_read: tuple[str, int, GridSeries] | None = None


def _series(name: str) -> GridSeries:
    """The environment's series, read again only when its file was written again."""
    global _series_read
    try:
        written = os.stat(name).st_mtime_ns  # noqa: PTH116 - keeps pathlib out
    except OSError:
        return GridSeries.read(name)  # which reports what is wrong
    if _series_read is None or _series_read[:2] != (name, written):
        _series_read = (name, written, GridSeries.read(name))
    return _series_read[2]


def _from_environment() -> float | GridSeries | None:
    text = os.environ.get("LITHOWATT_GRID_INTENSITY", "").strip()
    if not text:
        return None
    try:
        found = number(float(text))
    except ValueError:
        if text.lower().endswith(".csv"):
            return _series(text)
        found = None
    if found is None or found < 0:
        from lithowatt.errors import MalformedValueError

        raise MalformedValueError(
            f"LITHOWATT_GRID_INTENSITY={text!r:.80} is neither g CO2e per kWh, 0 or more, nor a "
            "CSV file"
        )
    return found


def _pue_from_environment() -> float | None:
    text = os.environ.get("LITHOWATT_PUE", "").strip()
    if not text:
        return None
    try:
        found = number(float(text))
    except ValueError:
        found = None
    if found is None or found < 1:
        from lithowatt.errors import MalformedValueError

        raise MalformedValueError(f"LITHOWATT_PUE={text!r:.80} is not a number, 1 or more")
    return found


def _doubt_of_intensity(grams: float) -> str:
    """Why a grid's intensity is not likely to be in g CO2e per kWh; empty where it may well be."""
    least, most = _LIKELY_INTENSITY
    if grams == 0 or least <= grams <= most:
        return ""
    unit = "it may be in kg" if grams < least else "it may be in g per MWh"
    return f"grids have {least:g} to {most:g} g CO2e per kWh, so {unit}"


def _with_doubt(found: Estimate) -> Estimate:
    doubt = _doubt_of_intensity(found.value)
    return found._replace(source=f"{found.source}; {doubt}") if doubt else found


def _intensity(
    region: str | None,
    country: str | None,
    intensity: float | Estimate | GridSeries | None,
    start: float | datetime | None,
    end: float | datetime | None,
) -> Estimate:
    """g CO2e per kWh by the first source that has it, and where it is from."""
    if region is not None and country is not None:
        raise ValueError("give a region or a country, not both")
    given = intensity
    origin = "given"
    if given is None:
        given, origin = _configured["intensity"], "configured"
    if given is None:
        given, origin = _from_environment(), "LITHOWATT_GRID_INTENSITY"
    if isinstance(given, GridSeries):
        if start is None:
            if end is not None or origin == "given":
                raise ValueError("a time series of grid intensity takes a start")
            import time

            start = time.time()
        grams = given.at(start) if end is None else given.mean(start, end)
        return _with_doubt(Estimate(grams, grams, grams, given.source))
    if given is not None:
        found = estimate(given, "intensity")
        source = found.source if isinstance(given, Estimate) else origin
        return _with_doubt(found._replace(source=source))
    if region is None and country is None:
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        if region is None:
            raise ValueError(
                "no grid: give region, country or intensity, or set LITHOWATT_GRID_INTENSITY"
            )
    zone = grid_intensity(region, country)
    grams = zone.gco2e_per_kwh
    return Estimate(grams, grams, grams, f"{zone.name} {zone.year}: {zone.source}")


def pue_at(
    region: str | None, country: str | None, given: float | Estimate | str | None
) -> Estimate:
    """PUE by the first source that has it, and where it is from."""
    if isinstance(given, str):
        return pue(given)
    if given is not None:
        return estimate(given, "pue", least=1.0)
    configured = _configured["pue"]
    if configured is not None and not isinstance(configured, GridSeries):
        return estimate(configured, "pue", least=1.0)
    environment = _pue_from_environment()
    if environment is not None:
        return Estimate(environment, environment, environment, "LITHOWATT_PUE")
    if region is None and country is None:
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if isinstance(region, str):
        _load()
        known = _regions.get(region.strip().lower())
        if known is not None:
            return _pues[known[0]]
    return Estimate(1.0, 1.0, 1.0, "none: no provider is known")


# -- emissions --------------------------------------------------------------------------------


def emissions(
    joules: float | Estimate,
    region: str | None = None,
    country: str | None = None,
    intensity: float | Estimate | GridSeries | None = None,
    pue: float | Estimate | str | None = None,
    *,
    start: float | datetime | None = None,
    end: float | datetime | None = None,
) -> Estimate:
    """What the electricity of some joules emits: g CO2e, location based.

    joules / 3.6e6 × intensity × PUE. The band is that of the energy, and of the
    intensity and the PUE where they are given as an `Estimate`: low with low,
    high with high. The tables' yearly averages carry no band of their own; an
    hour may be far from them, for which there is `GridSeries`.

    Args:
        joules: Energy at the machine, J: a number, or an `Estimate` with its band.
        region: A region of AWS, Azure or Google Cloud. Where nothing else is
            given, ``AWS_REGION`` of the environment.
        country: ISO 3166-1 alpha-2 instead, or a US eGRID subregion (``US-SRVC``).
        intensity: g CO2e per kWh instead of the tables: a number, an `Estimate`
            or a `GridSeries`. Then `configure`, then the environment's
            ``LITHOWATT_GRID_INTENSITY`` (a number or a CSV file as
            `GridSeries.read` takes it) come before the tables, too.
        pue: Power usage effectiveness, 1 or more, or a provider's name. By
            default `configure`'s, ``LITHOWATT_PUE``, that of the region's
            provider, else 1.
        start: When the energy was used, Unix time in s or a datetime with a
            zone: for a time series, whose value at that time is taken.
        end: The end of that time: then the series' mean over it.

    Raises:
        ValueError: Naming the value and what is accepted.
        UnreadableFileError: The time series of the environment cannot be read.
        MalformedValueError: The environment's value, or a line of its file.

    Example:
        >>> from lithowatt import Estimate
        >>> emissions(Estimate(7200, 3600, 14400, "model"), intensity=500, pue=1.2)[:3]
        (1.2, 0.6, 2.4)
    """
    energy = estimate(joules, "joules")
    grid = _intensity(region, country, intensity, start, end)
    overhead = pue_at(region, country, pue)
    source = (
        f"{energy.source}; {grid.value:g} g CO2e/kWh ({grid.source}); "
        f"PUE {overhead.value:g} ({overhead.source})"
    )
    return product(source, energy, grid, overhead, divisor=_JOULES_PER_KWH)


def embodied(
    duration_s: float | Estimate,
    vcpus: float | None = None,
    memory_mb: float | None = None,
    architecture: str = "x86_64",
    kg_per_vcpu: float | Estimate | None = None,
    lifetime_years: float | Estimate = LIFETIME_YEARS,
) -> Estimate:
    """The share of making a server that falls on some time of some vCPUs: M of SCI, g CO2e.

    kg per vCPU × 1000 × vCPUs × duration / lifetime. The time that a server is
    not sold falls on nobody here.

    Args:
        duration_s: How long the vCPUs were reserved, s.
        vcpus: How many.
        memory_mb: Memory of a Lambda function instead, MB: 1769 make one vCPU.
        architecture: ``x86_64`` or ``arm64``, for the default server.
        kg_per_vcpu: kg CO2e of the server over its vCPUs;
            `EMBODIED_KG_PER_VCPU` by default.
        lifetime_years: How long the server is used; 5, from 4 to 6, by default.

    Raises:
        ValueError: Naming the value and what is accepted.

    Example:
        >>> round(embodied(1.0, memory_mb=1769).value, 6)
        0.000106
    """
    time = estimate(duration_s, "duration_s")
    if (vcpus is None) == (memory_mb is None):
        raise ValueError("give vcpus or memory_mb, one of them")
    size = number(vcpus) if memory_mb is None else number(memory_mb)
    if size is None or size <= 0:
        what = f"vcpus {vcpus!r:.80}" if memory_mb is None else f"memory_mb {memory_mb!r:.80}"
        raise ValueError(f"{what} is not a number above 0")
    share = size if memory_mb is None else _lambda_vcpus(size)
    server = EMBODIED_KG_PER_VCPU[normalise_architecture(architecture)]
    if kg_per_vcpu is not None:
        server = estimate(kg_per_vcpu, "kg_per_vcpu")
    life = estimate(lifetime_years, "lifetime_years")
    if life.low <= 0:
        raise ValueError(f"lifetime_years {life.low:g} is not above 0")
    grams = product("", time, server)
    scale = 1000 * share / _SECONDS_PER_YEAR
    return Estimate(
        grams.value * scale / life.value,
        grams.low * scale / life.high,
        grams.high * scale / life.low,
        f"{server.value:.3g} kg per vCPU ({server.source}) over {life.value:g} years "
        f"({life.source})",
    )


def _lambda_vcpus(memory_mb: float) -> float:
    from lithowatt import _core

    return _core.lambda_vcpus(memory_mb)


def sci(
    joules: float | Estimate,
    duration_s: float | Estimate | None = None,
    memory_mb: float | None = None,
    *,
    vcpus: float | None = None,
    architecture: str = "x86_64",
    region: str | None = None,
    country: str | None = None,
    intensity: float | Estimate | GridSeries | None = None,
    pue: float | Estimate | str | None = None,
    start: float | datetime | None = None,
    end: float | datetime | None = None,
    embodied_g: float | Estimate | None = None,
    units: float = 1,
    functional_unit: str = "call",
) -> SciScore:
    """Software Carbon Intensity by ISO/IEC 21031:2024: (E·I + M) / R, g CO2e per unit.

    E is the energy times PUE, I the location-based intensity of the grid, M the
    share of the hardware's embodied emissions, R the number of functional
    units: with the defaults one call, so the result is g CO2e per call.

    Args:
        joules: Energy of all units, J: a number, or an `Estimate` with its band.
        duration_s: How long the hardware was reserved for all units, s.
        memory_mb: Memory of the Lambda function, MB: 1769 make one vCPU.
        vcpus: How many vCPUs were reserved instead.
        architecture: ``x86_64`` or ``arm64``, for the embodied emissions.
        region: As of `emissions`, like ``country``, ``intensity``, ``pue``,
            ``start`` and ``end``.
        embodied_g: M itself, g CO2e of all units, where you know it.
        units: R: how many units the energy and the time were for, above 0.
        functional_unit: What they are called.

    Raises:
        ValueError: Naming the value and what is accepted. M is no option of
            the standard, so its time and size must be given.

    Example:
        >>> score = sci(36_000, 60, 1769, intensity=100, pue=1.0)
        >>> round(score.operational.value, 3), round(score.embodied.value, 4)
        (1.0, 0.0064)
    """
    count = number(units)
    if count is None or count <= 0:
        raise ValueError(f"units {units!r:.80} is not a number above 0")
    if not isinstance(functional_unit, str) or not functional_unit:
        raise ValueError(f"functional_unit {functional_unit!r:.80} is no name")
    used = emissions(joules, region, country, intensity, pue, start=start, end=end)
    if embodied_g is not None:
        made = estimate(embodied_g, "embodied_g")
    elif duration_s is None:
        raise ValueError("SCI holds embodied emissions: give duration_s and memory_mb or vcpus")
    else:
        made = embodied(duration_s, vcpus, memory_mb, architecture)
    operational = product(used.source, used, divisor=count)
    hardware = product(made.source, made, divisor=count)
    return SciScore(
        Estimate(
            operational.value + hardware.value,
            operational.low + hardware.low,
            operational.high + hardware.high,
            f"g CO2e per {functional_unit}; operational: {used.source}; embodied: {made.source}",
        ),
        operational,
        hardware,
        functional_unit,
        count,
    )
