"""The tidy table of profiles: one row a worker call, the same columns whatever the file.

It is made a configuration at a time, so that profiles that are larger than memory can be
exported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from lithowatt._support.install import arrow, pip_install
from lithowatt.analysis.basis import Basis
from lithowatt.analysis.platforms import AwsLambda
from lithowatt.analysis.quantities import row_cost_usd, row_cpu_seconds, row_other_seconds
from lithowatt.analysis.selection import Selection, Settings
from lithowatt.aws._lambda_cost import lambda_price
from lithowatt.profiles._runs import ConfigurationRuns, Floats, Ints, ProfileFile, Profiles

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

#: What says where a row is from; before the columns of the files.
PLACE = (
    "file",
    "workload",
    "stage",
    "architecture",
    "memory_mb",
    "cpu",
    "workers_requested",
    "workers_actual",
    "repetition",
    "worker",
    "left_out",
    "session",
)

#: What is made of the files' columns; after them.
MADE = ("cpu_seconds_s", "other_s", "cost_usd")

#: Why a row does not count although no rule of lint names its repetition.
UNUSABLE = "unusable"

Kind = Literal["text", "whole", "number"]

_KINDS: dict[str, Kind] = {
    **dict.fromkeys(PLACE, "whole"),
    **dict.fromkeys(("file", "workload", "stage", "architecture", "left_out"), "text"),
    **dict.fromkeys(MADE, "number"),
}


class Facts(NamedTuple):
    """What the rows of a configuration say that only all profiles together tell.

    Attributes:
        left_out: Repetition to the rules that leave it out.
        session: Of each repetition, -1 where that is not known.
        architecture: `x86_64` or `arm64`.
        on_lambda: Whether all rows ran there; else each row says it itself.
    """

    left_out: Mapping[int, Sequence[str]]
    session: Ints
    architecture: str | None
    on_lambda: bool


#: By a configuration's file, stage and key.
AllFacts = Mapping[tuple[str, str, str], Facts]


def facts_of(profiles: Profiles, settings: Settings) -> AllFacts:
    """What is to be known of each configuration before its rows are made."""
    found = {}
    for one in Selection(profiles, settings).all:
        reasons: dict[int, list[str]] = {}
        for rule, repetitions in one.left_out.items():
            for repetition in repetitions:
                reasons.setdefault(repetition, []).append(rule)
        found[one.file.path, one.file.stage, one.runs.key] = Facts(
            reasons, one.session, one.architecture, isinstance(one.place.platform, AwsLambda)
        )
    return found


class TidyColumn(NamedTuple):
    """A column of the table.

    Attributes:
        name: As the table has it.
        kind: Texts, whole numbers or numbers.
        source: The files' column that it is, `None` where it is made.
    """

    name: str
    kind: Kind
    source: str | None = None


@dataclass(frozen=True, eq=False)
class Cells:
    """The values of a column in some rows.

    Attributes:
        numbers: NaN where one is missing; `None` of texts.
        codes: Of texts: places in `labels`, -1 where one is missing.
        labels: The different texts.
    """

    numbers: Floats | None = None
    codes: npt.NDArray[np.int32] | None = None
    labels: tuple[str, ...] = ()

    def __len__(self) -> int:
        values = self.codes if self.numbers is None else self.numbers
        return 0 if values is None else len(values)

    def texts(self) -> list[str | None]:
        """The texts, `None` where one is missing."""
        if self.codes is None:
            return [None] * len(self)
        labels = [*self.labels, None]
        return [labels[code] for code in self.codes.tolist()]


class Layout:
    """Which columns the table of some profiles has.

    The files' own columns come in the order in which they first appear. One whose name the table
    has already gets `_in_file` behind it. A column that holds texts in one file and numbers in
    another holds texts.
    """

    def __init__(self, profiles: Iterable[tuple[ProfileFile, ConfigurationRuns]]) -> None:
        kinds: dict[str, set[Kind]] = {}
        whole = {"cpu": True, "memory_mb": True}
        #: The files, which the table is not written over.
        self.inputs: set[str] = set()
        for file, runs in profiles:
            self.inputs.add(file.path)
            for name in whole:
                value = getattr(runs.configuration, name)
                # Above, not every whole number is a double: what is written says so by its form.
                whole[name] &= float(value).is_integer() and abs(value) < 2**53
            for name, column in runs.columns.items():
                found = kinds.setdefault(name, set())
                found.add("text" if column.labels else "whole" if column.whole else "number")
        own = [
            TidyColumn(f"{name}_in_file" if name in _KINDS else name, _wider(found), name)
            for name, found in kinds.items()
        ]
        place = (
            TidyColumn(name, _KINDS[name] if whole.get(name, True) else "number") for name in PLACE
        )
        made = (TidyColumn(name, _KINDS[name]) for name in MADE)
        self.columns: tuple[TidyColumn, ...] = (*place, *own, *made)

    @property
    def names(self) -> list[str]:
        """The columns' names, in their order."""
        return [column.name for column in self.columns]


def _wider(kinds: set[Kind]) -> Kind:
    """The kind that holds all of these."""
    return "text" if "text" in kinds else "number" if "number" in kinds else "whole"


def rows_of(
    layout: Layout, file: ProfileFile, runs: ConfigurationRuns, facts: Facts, region: str
) -> dict[str, Cells]:
    """The rows of one configuration, a `Cells` for each column of the layout.

    Args:
        layout: The columns.
        file: Whose configuration it is.
        runs: The configuration.
        facts: Of the configuration.
        region: Of Lambda's prices.
    """
    configuration, rows = runs.configuration, runs.rows
    session = facts.session.astype(np.float64)
    session[session < 0] = np.nan

    def same(value: float) -> Cells:
        return Cells(np.full(rows, float(value)))

    def text(value: str | None) -> Cells:
        if value is None:
            return Cells(None, np.full(rows, -1, dtype=np.int32))
        return Cells(None, np.zeros(rows, dtype=np.int32), (value,))

    cells = {
        "file": text(file.name),
        "workload": text(file.workload),
        "stage": text(file.stage),
        "architecture": text(facts.architecture),
        "memory_mb": same(configuration.memory_mb),
        "cpu": same(configuration.cpu),
        "workers_requested": same(configuration.workers),
        "workers_actual": Cells(runs.widths.astype(np.float64)[runs.repetition]),
        "repetition": Cells(runs.repetition.astype(np.float64)),
        "worker": Cells(runs.worker.astype(np.float64)),
        "left_out": _why(runs, facts.left_out),
        "session": Cells(session[runs.repetition]),
        "cpu_seconds_s": Cells(row_cpu_seconds(runs)),
        "other_s": Cells(row_other_seconds(runs)),
        "cost_usd": Cells(_cost(runs, facts, region)),
    }
    for column in layout.columns:
        if column.source is not None:
            cells[column.name] = _own(runs, column, rows)
    return {column.name: cells[column.name] for column in layout.columns}


def _cost(runs: ConfigurationRuns, facts: Facts, region: str) -> Floats:
    if facts.architecture is None:
        return np.full(runs.rows, np.nan)
    return row_cost_usd(runs, lambda_price(facts.architecture, region), everywhere=facts.on_lambda)


def _why(runs: ConfigurationRuns, reasons: Mapping[int, Sequence[str]]) -> Cells:
    texts = [
        ",".join([*reasons.get(index, ()), *(() if usable else (UNUSABLE,))])
        for index, usable in enumerate(runs.usable.tolist())
    ]
    labels = {text: code for code, text in enumerate(dict.fromkeys(filter(None, texts)))}
    codes = np.array([labels.get(text, -1) for text in texts], dtype=np.int32)
    return Cells(None, codes[runs.repetition], tuple(labels))


def _own(runs: ConfigurationRuns, wanted: TidyColumn, rows: int) -> Cells:
    found = runs.columns.get(wanted.source or "")
    if found is None or (found.numbers is None and found.codes is None):
        return (
            Cells(np.full(rows, np.nan))
            if wanted.kind != "text"
            else Cells(None, np.full(rows, -1, dtype=np.int32))
        )
    if wanted.kind != "text" or found.numbers is None:
        return Cells(found.numbers, found.codes, found.labels)
    # Numbers here, texts in another file.
    values, places = np.unique(found.numbers, return_inverse=True)
    there = np.isfinite(values)
    texts = number_texts(values[there], found.whole)
    return Cells(None, np.where(there[places], places, -1).astype(np.int32), tuple(texts))


def number_texts(values: Floats, whole: bool, missing: str = "") -> list[str]:
    """The shortest texts that read back as the same numbers; `missing` for NaN."""
    there = np.isfinite(values)
    good = values if there.all() else values[there]
    texts = list(map(repr, (good.astype(np.int64) if whole else good).tolist()))
    if len(texts) == len(values):
        return texts
    some = iter(texts)
    return [next(some) if one else missing for one in there.tolist()]


def table_rows(
    profiles: Iterable[tuple[ProfileFile, ConfigurationRuns]],
    layout: Layout,
    facts: AllFacts,
    region: str,
) -> Iterator[tuple[ProfileFile, dict[str, Cells]]]:
    """The rows of each configuration, with the file that they are of."""
    for file, runs in profiles:
        known = facts[file.path, file.stage, runs.key]
        yield file, rows_of(layout, file, runs, known, region)


def settings_of(excluding: Iterable[str] | None, region: str) -> Settings:
    """The settings of `to_pandas` and `to_arrow`."""
    basis = Basis.of() if excluding is None else Basis("custom", tuple(excluding))
    return Settings(basis=basis, region=region)


# --- for other libraries ---------------------------------------------------------------------


def arrow_schema(columns: Iterable[TidyColumn]) -> pa.Schema:
    """The columns as Arrow has them: `int64`, `double` and `string`, all of them nullable."""
    pa = arrow()
    types = {"text": pa.string(), "whole": pa.int64(), "number": pa.float64()}
    return pa.schema([(column.name, types[column.kind]) for column in columns])


def arrow_batch(schema: pa.Schema, cells: Mapping[str, Cells]) -> pa.RecordBatch:
    """Some rows as Arrow has them."""
    pa = arrow()
    arrays = []
    for field in schema:
        some = cells[field.name]
        if some.numbers is None:
            codes = some.codes if some.codes is not None else np.empty(0, dtype=np.int32)
            places = pa.array(codes, mask=codes < 0)
            labels = pa.array(some.labels, type=pa.string())
            array = pa.DictionaryArray.from_arrays(places, labels).dictionary_decode()
        else:
            missing = np.isnan(some.numbers)
            values = some.numbers
            if pa.types.is_integer(field.type):
                values = np.where(missing, 0, values).astype(np.int64)
            array = pa.array(values, mask=missing)
        arrays.append(array)
    return pa.record_batch(arrays, schema=schema)


def to_arrow(profiles: Profiles, excluding: Iterable[str] | None, region: str) -> pa.Table:
    """The whole table as Arrow has it."""
    pa = arrow()
    layout, facts = Layout(profiles), facts_of(profiles, settings_of(excluding, region))
    schema = arrow_schema(layout.columns)
    batches = [
        arrow_batch(schema, cells) for _, cells in table_rows(profiles, layout, facts, region)
    ]
    return pa.Table.from_batches(batches, schema=schema)


def to_pandas(profiles: Profiles, excluding: Iterable[str] | None, region: str) -> pd.DataFrame:
    """The whole table as pandas has it: `None` for a missing text, NaN for a missing number; whole
    numbers are `int64` where none is missing."""
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError(f"to_pandas needs pandas: {pip_install('pandas')}") from error
    layout, facts = Layout(profiles), facts_of(profiles, settings_of(excluding, region))
    parts = [cells for _, cells in table_rows(profiles, layout, facts, region)]
    columns: dict[str, Any] = {}
    for name, kind, _ in layout.columns:
        if kind == "text":
            columns[name] = [text for part in parts for text in part[name].texts()]
            continue
        some = [part[name].numbers for part in parts]
        values = np.concatenate([np.empty(0), *(one for one in some if one is not None)])
        whole = kind == "whole" and not np.isnan(values).any()
        columns[name] = values.astype(np.int64) if whole else values
    frame: pd.DataFrame = pd.DataFrame(columns)
    return frame
