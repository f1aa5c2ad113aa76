"""Files of claims: what was printed, and by which formula."""

from __future__ import annotations

import csv
import graphlib
import hashlib
import importlib
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from lithowatt import data
from lithowatt._support.arguments import shown
from lithowatt._support.files import read_plain
from lithowatt.analysis.claims._evaluate import FUNCTIONS, check_formula
from lithowatt.analysis.claims._formula import (
    Call,
    Formula,
    Node,
    Text,
    names_in,
    parse_formula,
    walk,
)
from lithowatt.analysis.claims._printed import Printed
from lithowatt.analysis.claims._values import PROPERTIES, Selection, selection_of
from lithowatt.errors import MalformedValueError, UnreadableFileError

#: The fields of a claim. All are texts; `printed` and `formula` may not be empty.
FIELDS = (
    "id",
    "table",
    "configuration",
    "quantity",
    "printed",
    "unit",
    "formula",
    "otherwise",
    "read_as",
    "note",
)

#: Larger than any file of claims.
MOST_BYTES = 8 << 20
MOST_CLAIMS = 100_000


class Alternative(NamedTuple):
    """Another definition of what was printed.

    Attributes:
        words: What is other about it.
        formula: How it is computed.
    """

    words: str
    formula: Formula


@dataclass(frozen=True)
class Claim:
    """One printed value.

    Attributes:
        id: What `printed('...')` calls it.
        table: Where it is printed.
        configuration: What it is about, as it was written.
        selection: The same.
        quantity: What it is called there.
        text: As it is printed.
        printed: The numbers that are meant.
        unit: Of the formula's result.
        formula: How it is defined.
        otherwise: Other definitions, tried in this order.
        read_as: How words are read as numbers; empty where the text has its own.
        note: For the reader.
    """

    id: str
    table: str
    configuration: str
    selection: Selection
    quantity: str
    text: str
    printed: Printed
    unit: str
    formula: Formula
    otherwise: tuple[Alternative, ...] = ()
    read_as: str = ""
    note: str = ""


@dataclass(frozen=True)
class Claims:
    """A file of claims.

    Attributes:
        name: Of the file.
        sha256: Of its bytes, lower-case hex.
        definitions: Name to formula, as written.
        claims: In the order of the file.
    """

    name: str
    sha256: str
    definitions: Mapping[str, str]
    claims: Sequence[Claim]

    @property
    def names(self) -> frozenset[str]:
        """All names in its formulas, so that a reader can leave out other columns."""
        formulas = (
            formula.node
            for claim in self.claims
            for formula in (claim.formula, *(other.formula for other in claim.otherwise))
        )
        return frozenset(name for node in formulas for name in names_in(node))


def shipped_claims() -> dict[str, Path]:
    """The files of claims that come with the package, by their names."""
    folder = data.path("claims")
    return {file.stem: file for file in sorted(folder.glob("*.csv"))}


def read_claims(path: str | os.PathLike[str]) -> Claims:
    """Reads a file of claims: CSV, JSON, TOML or YAML, as its name ends.

    Args:
        path: The file, or the name of one that comes with the package (`shipped_claims`).

    Raises:
        UnreadableFileError: It is not there, or what reads its format is not.
        MalformedValueError: It is no file of claims; the message names the claim.
    """
    name = os.fspath(path)
    if not os.path.lexists(name) and name in shipped_claims():
        path = shipped_claims()[name]
        name = f"{name}{path.suffix}"
    try:
        content = read_plain(path, MOST_BYTES)
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MalformedValueError(f"{name} is not UTF-8: {error}") from error
    except OSError as error:
        known = ", ".join(shipped_claims())
        raise UnreadableFileError(
            f"{name}: {error.strerror or error} (with the package come: {known})"
        ) from error
    try:
        definitions, claims = _claims(_rows(name, text))
    except RecursionError:
        raise MalformedValueError(f"{name}: its values are nested too deep") from None
    except MalformedValueError as error:
        raise MalformedValueError(f"{name}: {error}") from error
    return Claims(
        Path(name).name,
        hashlib.sha256(content).hexdigest(),
        {key: formula.text for key, formula in definitions.items()},
        claims,
    )


# --- formats ------------------------------------------------------------------


def _rows(name: str, text: str) -> list[Mapping[str, str]]:
    """One mapping of texts a row; a number stays as it was written, with its last zeros."""
    ending = Path(name).suffix.lower()
    if ending == ".csv":
        return _csv_rows(text)
    if ending == ".json":
        found = _json(text)
    elif ending == ".toml":
        found = _toml(text)
    elif ending in (".yaml", ".yml"):
        found = _yaml(text)
    else:
        raise MalformedValueError("a file of claims ends in .csv, .json, .toml, .yaml or .yml")
    if isinstance(found, Mapping):
        found = found.get("claims")
    if not isinstance(found, list):
        raise MalformedValueError("a list of claims is expected, or `claims` with such a list")
    return [_row(one, place) for place, one in enumerate(found, 1)]


def _csv_rows(text: str) -> list[Mapping[str, str]]:
    lines = (line for line in io.StringIO(text) if not line.startswith("#"))
    reader = csv.DictReader(lines, strict=True, skipinitialspace=True)
    try:
        return [_row(one, place) for place, one in enumerate(reader, 1)]
    except csv.Error as error:
        raise MalformedValueError(f"it is no CSV: {error}") from error


def _json(text: str) -> Any:
    try:
        return json.loads(text, parse_float=str, parse_int=str, parse_constant=str)
    except json.JSONDecodeError as error:
        raise MalformedValueError(f"it is no JSON: {error}") from error


def _toml(text: str) -> Any:
    if sys.version_info < (3, 11):
        raise UnreadableFileError("TOML is read from Python 3.11 on; CSV and JSON always")
    # By its name, since type checkers look at Python 3.10, which has none.
    tomllib = importlib.import_module("tomllib")
    try:
        return tomllib.loads(text, parse_float=str)
    except tomllib.TOMLDecodeError as error:
        raise MalformedValueError(f"it is no TOML: {error}") from error


def _yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError:
        raise UnreadableFileError(
            "YAML is read where PyYAML is installed; CSV and JSON always"
        ) from None
    try:
        # Its base loader makes texts of all values, and no objects of anything.
        return yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506
    except yaml.YAMLError as error:
        raise MalformedValueError(f"it is no YAML: {' '.join(str(error).split())}") from error


def _row(one: Any, place: int) -> Mapping[str, str]:
    if not isinstance(one, Mapping):
        raise MalformedValueError(f"claim {place} is {shown(one)}, not fields with values")
    row = {}
    for field, value in one.items():
        if field is None:
            raise MalformedValueError(f"claim {place} has more values than the heading has fields")
        if field not in FIELDS:
            known = ", ".join(FIELDS)
            raise MalformedValueError(
                f"claim {place} has a field {shown(field)}; there are {known}"
            )
        if field == "otherwise" and isinstance(value, Mapping):
            value = "; ".join(f"{words}: {formula}" for words, formula in value.items())
        if value is not None and not isinstance(value, (str, int, float)):
            raise MalformedValueError(f"claim {place}: {field} is {shown(value)}, not a text")
        row[field] = "" if value is None else str(value).strip()
    return row


# --- claims -------------------------------------------------------------------


def _claims(rows: Iterable[Mapping[str, str]]) -> tuple[dict[str, Formula], list[Claim]]:
    definitions: dict[str, Formula] = {}
    claims: list[Claim] = []
    seen: set[str] = set()
    for place, row in enumerate(rows, 1):
        if place > MOST_CLAIMS:
            raise MalformedValueError(f"it has more than {MOST_CLAIMS} claims")
        told = row.get("id") or row.get("quantity") or ""
        try:
            if not any(row.values()):
                continue
            if not row.get("printed"):
                _define(row, definitions)
                continue
            claim = _claim(row, place, definitions)
        except MalformedValueError as error:
            raise MalformedValueError(f"claim {place} ({told}): {error}") from error
        if claim.id in seen:
            raise MalformedValueError(f"claim {place}: another one has the id {shown(claim.id)}")
        seen.add(claim.id)
        claims.append(claim)
    if not claims:
        raise MalformedValueError("it holds no claim: a row with `printed` and `formula`")
    _refuse_circles(claims)
    return definitions, claims


def _refuse_circles(claims: Iterable[Claim]) -> None:
    """A value that follows from itself reproduces whatever it is."""
    operands = {
        claim.id: {
            one
            for formula in (claim.formula, *(other.formula for other in claim.otherwise))
            for one in _operands(formula.node)
        }
        for claim in claims
    }
    try:
        graphlib.TopologicalSorter(operands).prepare()
    except graphlib.CycleError as error:
        chain = " ← ".join(shown(name) for name in error.args[1])
        raise MalformedValueError(f"a claim is defined by itself: {chain}") from error


def _operands(node: Node) -> Iterator[str]:
    """The ids of the claims whose printed value a formula uses."""
    for one in walk(node):
        if isinstance(one, Call) and one.name == "printed":
            yield from (part.text for part in one.arguments if isinstance(part, Text))


def _define(row: Mapping[str, str], definitions: dict[str, Formula]) -> None:
    """A row without a printed value gives a formula its name."""
    name, text = row.get("quantity", ""), row.get("formula", "")
    if not name.isidentifier() or not text:
        raise MalformedValueError(
            "printed is empty; a row that defines a name has a quantity of letters and _, "
            "and a formula"
        )
    if name in definitions or name in FUNCTIONS or name in PROPERTIES:
        raise MalformedValueError(f"the name {name} is taken")
    definitions[name] = _formula(text, definitions)


def _claim(row: Mapping[str, str], place: int, definitions: Mapping[str, Formula]) -> Claim:
    printed = row["printed"]
    return Claim(
        id=row.get("id") or str(place),
        table=row.get("table", ""),
        configuration=row.get("configuration", ""),
        selection=_selection(row.get("configuration", "")),
        quantity=row.get("quantity", ""),
        text=printed,
        printed=Printed.of(row.get("read_as") or printed),
        unit=row.get("unit", ""),
        formula=_formula(row.get("formula", ""), definitions),
        otherwise=tuple(_alternatives(row.get("otherwise", ""), definitions)),
        read_as=row.get("read_as", ""),
        note=row.get("note", ""),
    )


def _formula(text: str, definitions: Mapping[str, Formula]) -> Formula:
    found = parse_formula(text, definitions)
    check_formula(found.node)
    return found


def _alternatives(text: str, definitions: Mapping[str, Formula]) -> Iterable[Alternative]:
    for one in filter(None, map(str.strip, text.split(";"))):
        words, colon, formula = one.partition(":")
        if not colon:
            words, formula = "", words
        yield Alternative(words.strip(), _formula(formula, definitions))


def _selection(text: str) -> Selection:
    """`workload=titanic memory_mb=512 workers=8|12`, with blanks or commas between."""
    named = []
    for part in text.replace(",", " ").split():
        factor, equals, levels = part.partition("=")
        if not equals or not all(levels.split("|")):
            raise MalformedValueError(
                f"configuration {shown(text)} is not like memory_mb=512 workers=8|12: {shown(part)}"
            )
        named.append((factor, levels.split("|")))
    if len({factor for factor, _ in named}) < len(named):
        raise MalformedValueError(f"configuration {shown(text)} names something twice")
    return selection_of(named)
