"""What the verbs that analyse profiles have in common: prices, settings, what is printed."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from lithowatt._support.command import refusing
from lithowatt._support.text import few, format_number, printable, wrapped
from lithowatt.cli.profile._inputs import (
    add_basis,
    add_group,
    add_json,
    add_lithops,
    add_paths,
    add_price,
    compute,
    price_of,
)

if TYPE_CHECKING:
    from lithowatt.analysis.selection import Settings
    from lithowatt.profiles._runs import Profiles

#: Columns of a terminal.
WIDTH = 80


def add_common(parser: argparse.ArgumentParser, *, least: int = 1) -> None:
    """Files, basis, grouping and prices; `least` as of `add_paths`."""
    add_paths(parser, least=least)
    add_lithops(parser)
    add_basis(parser)
    add_group(parser)
    place = parser.add_argument_group("prices")
    place.add_argument(
        "--region",
        default="us-east-1",
        help="of AWS Lambda's prices, for calls that ran there (default: %(default)s)",
    )
    add_price(place, "for calls that ran elsewhere")
    add_json(parser)


def run(
    arguments: argparse.Namespace,
    result: Callable[[Profiles, Settings], dict[str, Any]],
    show: Callable[[dict[str, Any]], Iterable[str]],
    columns: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    """Reads the profiles and prints what they give, as text or as JSON.

    Args:
        arguments: Those of `add_common`.
        result: Makes the result.
        show: Makes its lines of text.
        columns: Names of columns that the result needs besides the usual ones.

    Returns:
        The result.

    Raises:
        MalformedValueError: The arguments do not go together.
    """
    # NumPy and the core are loaded for those who ask.
    from lithowatt.analysis._envelope import as_text, plain
    from lithowatt.analysis.selection import COLUMNS

    with refusing():
        settings = settings_of(arguments)
        found = compute(arguments, partial(_with, result, settings), COLUMNS | columns)
    if arguments.json:
        print(as_text(found))
    else:
        found = plain(found)  # what is not finite is null
        lines = [*show(found), *warning_lines(found), *skipped_lines(found)]
        print("\n".join(printable(line) for line in lines))
    return found


def _with(
    result: Callable[[Profiles, Settings], dict[str, Any]], settings: Settings, profiles: Profiles
) -> dict[str, Any]:
    return result(profiles, settings)


def settings_of(arguments: argparse.Namespace) -> Settings:
    """What the options of `add_common` say.

    Raises:
        ValueError: For a region without prices, or options that do not go together.
    """
    from lithowatt.analysis.basis import Basis
    from lithowatt.analysis.selection import Settings
    from lithowatt.aws._lambda_cost import lambda_price

    lambda_price("x86_64", arguments.region)  # or an error that names the known ones
    return Settings(
        basis=Basis.of(arguments.basis, arguments.exclude),
        region=arguments.region,
        price=price_of(arguments),
        **({"margin": arguments.margin} if hasattr(arguments, "margin") else {}),
    )


# --- text ---------------------------------------------------------------------


def warning_lines(found: Mapping[str, Any]) -> Iterable[str]:
    """The warnings of a result, a blank line before each."""
    for one in found["warnings"]:
        yield from ("", *_note(one["text"]))


def skipped_lines(found: Mapping[str, Any]) -> Iterable[str]:
    """The files of folders that are no profile, of a result."""
    skipped: Sequence[Mapping[str, str]] = found.get("skipped", ())
    if skipped:
        names = few([one["file"] for one in skipped])
        yield from ("", *_note(f"not read, since no profile: {names}"))


def _note(text: str) -> list[str]:
    first, *rest = wrapped(text, WIDTH, "      ")
    return [f"note: {first.strip()}", *rest]


def basis_line(found: Mapping[str, Any]) -> str:
    """Which repetitions count, in one line."""
    settings = found["settings"]
    rules = ", ".join(settings["exclude"])
    return f"basis {settings['basis']}{f', without {rules}' if rules else ''}"


def measured(metric: Mapping[str, Any] | None, scale: float = 1.0) -> str:
    """A mean with its interval: `12.3 ± 2 %`, or from low to high where that is wider."""
    if metric is None or metric["mean"] is None:
        return "unknown"
    return with_interval(metric["mean"], metric["t"], scale)


def with_interval(value: float, interval: Sequence[float] | None, scale: float = 1.0) -> str:
    """A value with its interval: `12.3 ± 2 %`, or from low to high where that is wider."""
    text = format_number(_three_digits(value * scale))
    if interval is None or value == 0:
        return text
    half = (interval[1] - interval[0]) / 2 / abs(value)
    if half <= 0.3:
        percent = f"{half * 100:.0f}" if half >= 0.01 else f"{half * 100:.1g}"
        return f"{text} ± {percent} %"
    low, high = (format_number(_two_digits(end * scale)) for end in interval)
    return f"{text} [{low}, {high}]"


def _three_digits(value: float) -> float:
    return float(f"{value:.3g}")


def _two_digits(value: float) -> float:
    return float(f"{value:.2g}")
