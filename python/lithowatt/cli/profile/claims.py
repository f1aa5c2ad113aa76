"""``lithowatt profile claims``: printed tables, computed again from the profiles."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lithowatt._support.text import aligned, format_number, shortened, wrapped
from lithowatt.cli.profile._analysis import WIDTH, add_common, basis_line, run

#: What ``--fail-on`` may be, to the verdicts that it means.
_FAILING: dict[str, tuple[str, ...]] = {
    "never": (),
    "does-not-follow": ("does not follow",),
    "not-reproduced": ("does not follow", "not in the data"),
    "another-definition": (
        "reproduces with another definition",
        "does not follow",
        "not in the data",
    ),
}


def add_verb(verbs: Any) -> None:
    """Adds ``claims`` to the verbs of ``lithowatt profile``."""
    parser = verbs.add_parser(
        "claims",
        help="printed tables, computed again: does each value follow from the profiles?",
        description="Computes each value of a file of claims again from the profiles, and says "
        "whether it reproduces, reproduces with another definition, does not follow, or is not in "
        "the data; with the value that was found.",
    )
    parser.add_argument(
        "--claims",
        required=True,
        metavar="FILE",
        help="what was printed, with a formula each: .csv, .json, .toml or .yaml; or the name of a "
        "file that comes with lithowatt: titanic, video",
    )
    parser.add_argument(
        "--fail-on",
        choices=tuple(_FAILING),
        default="never",
        help="exit code 1 where a claim has this verdict or a worse one (default: %(default)s)",
    )
    parser.add_argument("--all", action="store_true", help="show what reproduces, too")
    add_common(parser)
    parser.set_defaults(func=_claims)


def _claims(arguments: argparse.Namespace) -> int:
    from lithowatt.analysis.claims import check_claims
    from lithowatt.analysis.claims._file import read_claims

    claims = read_claims(arguments.claims)
    found = run(
        arguments,
        lambda profiles, settings: check_claims(profiles, claims, settings),
        lambda result: _text(result, arguments.all),
        claims.names,
    )
    failing = _FAILING[arguments.fail_on]
    return int(any(one["verdict"] in failing for one in found["claims"]))


# --- text ---------------------------------------------------------------------


def _text(found: Mapping[str, Any], whole: bool) -> Iterator[str]:
    rows: Sequence[Mapping[str, Any]] = found["claims"]
    total = sum(found["summary"].values())
    yield f"{found['settings']['claims']['file']}: {total} printed values; {basis_line(found)}"
    yield ""
    yield from aligned(
        [(str(count), verdict) for verdict, count in found["summary"].items()], right=[0]
    )
    yield from ("", "by table")
    yield from aligned(list(_tables(rows)))
    for verdict in found["summary"]:
        some = [one for one in rows if one["verdict"] == verdict and (whole or _shown(one))]
        if some:
            yield from ("", f"{verdict}:")
            for one in some:
                yield from _claim(one)


def _tables(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    tables: dict[str, list[bool]] = {}
    for one in rows:
        tables.setdefault(one["table"] or "-", []).append(one["verdict"] == "reproduces")
    for table, good in tables.items():
        yield table, f"{sum(good)} of {len(good)} reproduce"


def _shown(one: Mapping[str, Any]) -> bool:
    """Whether a claim needs to be looked at: not where it was plainly rounded."""
    plainly = one["verdict"] == "reproduces" and one["evidence"]["rounding"] == "rounded"
    return not plainly


def _claim(one: Mapping[str, Any]) -> Iterator[str]:
    """One claim: what was printed, what was found, and why."""
    told = f"{one['table']} {one['quantity']}".strip()
    where = f" ({one['configuration']})" if one["configuration"] else ""
    yield from _lines(f"{told}{where}", "  ", "    ")
    unit = f" {one['unit']}" if one["unit"] else ""
    value = f"found {_value(one['value'])}{unit}" if one["value"] is not None else one["reason"]
    yield from _lines(f"printed {one['printed']}, {value}", "    ", "      ")
    rounding = one["evidence"].get("rounding", "rounded")
    if rounding == "cut":
        yield "    cut off after its last digit, not rounded"
    elif rounding != "rounded":
        operands = one["evidence"]["from_printed"]["operands"]
        printed = ", ".join(f"{format_number(value)}" for value in operands.values())
        yield f"    from its operands as they are printed: {printed}"
    if one["definition"] is not None:
        yield from _lines(f"by another definition: {one['definition']}", "    ", "      ")
        declared = one["evidence"].get("declared")
        if declared is not None:
            yield from _lines(f"by its own: {_value(declared)}", "    ", "      ")
    if one["note"]:
        yield from _lines(one["note"], "    ", "      ")


def _value(value: Any) -> str:
    if not isinstance(value, list):
        return format_number(value)
    if len(value) > 4:
        return f"{format_number(min(value))} to {format_number(max(value))}"
    return ", ".join(format_number(one) for one in value)


def _lines(text: str, first: str, rest: str) -> Iterator[str]:
    lines = wrapped(shortened(text, 600), WIDTH, rest)
    yield f"{first}{lines[0].strip()}"
    yield from lines[1:]
