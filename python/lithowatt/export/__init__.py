"""Readings and stats of calls in the formats of other tools, one module per format.

`write` takes the format from the file's ending:

| ending | module | what reads it |
|---|---|---|
| `.parquet`, `.arrow` | `lithowatt.export.parquet` | pandas, Polars, DuckDB, Spark |
| `.lp`, `.influx` | `lithowatt.export.influx` | InfluxDB, Telegraf, QuestDB, VictoriaMetrics |
| `.om`, `.prom` | `lithowatt.export.openmetrics` | Prometheus, Pushgateway |

OpenTelemetry, which sends and writes no file, is `lithowatt.export.opentelemetry`.

A new format is one module with a function ``write(source, path)``, and its endings in `FORMATS`.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lithowatt.errors import UnwritableFileError

if TYPE_CHECKING:
    from typing import TypeAlias

    #: A reading, a meter, a call's stats, a future of Lithops, a file of JSON lines, or several.
    Source: TypeAlias = Any

    class Format(Protocol):
        """What a module of this package has."""

        def write(self, source: Source, path: str | os.PathLike[str]) -> int:
            """Writes the rows of `source` to a file, whole or not at all; how many there were."""


__all__ = ["FORMATS", "write"]

#: Ending to module.
FORMATS = {
    ".parquet": "parquet",
    ".arrow": "parquet",
    ".lp": "influx",
    ".influx": "influx",
    ".om": "openmetrics",
    ".prom": "openmetrics",
}


def write(source: Source, path: str | os.PathLike[str]) -> int:
    """Writes readings or stats to a file, in the format that its ending says.

    Args:
        source: A `Reading`, an `EnergyMeter`, a dict of stats, what `lithowatt run --json` printed
            as a dict, an entry of the energy log (`lithowatt.report`), a future of Lithops, the
            path of a file of such JSON objects one after another, or an iterable of any of these.
        path: The file. It is written whole or not at all.

    Returns:
        The number of rows.

    Raises:
        UnwritableFileError: The ending is none of `FORMATS`.
        TypeError: The source is none of these.
        MalformedValueError: A file holds something else than JSON objects.
        ImportError: The format needs a package that is missing, with the command that installs it.
        OSError: The file cannot be written.

    Example:
        >>> import tempfile
        >>> from lithowatt import EnergyMeter
        >>> with EnergyMeter(label="sum") as meter:
        ...     total = sum(range(100_000))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write(meter, f"{folder}/calls.lp")
        1
    """
    name = FORMATS.get(Path(path).suffix.lower())
    if name is None:
        raise UnwritableFileError(
            f"{os.fspath(path)}: its ending says no format; expected {', '.join(FORMATS)}"
        )
    module: Format = importlib.import_module(f"{__name__}.{name}")
    return module.write(source, path)
