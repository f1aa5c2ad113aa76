"""``lithowatt compare``: one workload on several backends, or profiles that are there already."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from lithowatt._support.command import INTERRUPTED, refusing
from lithowatt._support.text import (
    aligned,
    counted,
    few,
    format_number,
    printable,
    shortened,
    three_digits,
    wrapped,
)
from lithowatt.cli.profile._analysis import WIDTH, settings_of, warning_lines
from lithowatt.cli.profile._numbers import count, positive, whole_numbers
from lithowatt.cli.profile.compare import add_options, compare_profiles

if TYPE_CHECKING:
    from lithowatt.lithops.backends._analyzer import MultiBackendEnergyAnalyzer

#: Names of backends that are longer are cut in their table and whole below it, and letters in
#: tables of pairs.
_MOST_SHOWN = 12

#: From so many 95 % intervals on, one may be expected to miss what is meant.
_MANY = 15

#: Options that only a run has, by their names here.
_OF_RUN = ("backends", "config", "args", "memory", "workers", "output")


def add_cli(commands: Any) -> None:
    """Adds ``compare`` to the commands of ``lithowatt``."""
    parser = commands.add_parser(
        "compare",
        help="run one workload on several backends, and compare time, energy and cost",
        description="With --workload: runs the function on each backend by Lithops, interleaved in "
        "random order, and compares. With PATH: compares profiles that are there, as lithowatt "
        "profile compare does. Exit code 0: compared; 1: --fail-if-worse found something; 2: no "
        "backend could be compared.",
    )
    run = parser.add_argument_group("a workload on backends")
    run.add_argument(
        "--workload", metavar="WHAT", help="MODULE:FUNCTION or FILE.py:FUNCTION; it is imported"
    )
    run.add_argument(
        "--backends",
        metavar="NAMES",
        help="names separated by commas, of Lithops' backends or of --config NAME=FILE; the others "
        "are compared with the first (default: those of --config NAME=FILE)",
    )
    run.add_argument(
        "--config",
        action="append",
        nargs="+",
        default=None,
        metavar="FILE",
        help="Lithops' configurations: NAME=FILE is that of one backend, a FILE that of all it has "
        "a section for (default: what Lithops finds by itself)",
    )
    run.add_argument(
        "--args",
        metavar="JSON",
        help="what each call gets, JSON or a file of it: an object by name, a list by place, else "
        "the only argument",
    )
    run.add_argument(
        "--memory",
        type=whole_numbers,
        metavar="MB",
        help="memory of a worker, several separated by commas (default: as configured)",
    )
    run.add_argument(
        "--workers",
        type=whole_numbers,
        metavar="N",
        help="workers, several separated by commas, each with each memory (default: 1)",
    )
    run.add_argument(
        "--repetitions",
        type=count,
        default=5,
        metavar="N",
        help="recorded runs of each configuration on each backend (default: %(default)s)",
    )
    run.add_argument(
        "--start",
        choices=("warm", "as-is"),
        default="warm",
        help="warm: a run of each that is kept apart goes first; as-is: none (default: "
        "%(default)s)",
    )
    run.add_argument(
        "--seed", type=int, metavar="N", help="of the order of the runs (default: a new one)"
    )
    run.add_argument(
        "--timeout",
        type=positive,
        default=300.0,
        metavar="S",
        help="of a call, seconds (default: %(default)s)",
    )
    run.add_argument(
        "-o", "--output", metavar="DIR", help="keep the profiles and a log of all runs here"
    )
    run.add_argument(
        "--append", action="store_true", help="DIR holds an earlier session: both count"
    )
    run.add_argument(
        "--ship",
        action="store_true",
        help="send the meter along with the jobs, for workers without lithowatt",
    )
    run.add_argument("--quiet", action="store_true", help="do not tell each run as it begins")
    add_options(parser, least=0)
    parser.set_defaults(func=_compare)


def _compare(arguments: argparse.Namespace) -> int:
    if arguments.workload is None:
        return _profiles(arguments)
    if arguments.path or arguments.lithops:
        what = "--lithops" if arguments.lithops else f"PATH {shortened(arguments.path[0])}"
        raise _wrong(f"--workload runs jobs, and {what} reads profiles: give one of them")
    from lithowatt.analysis._envelope import as_text, plain
    from lithowatt.lithops.backends._workload import NOTHING, load_arguments, load_workload

    with refusing():
        settings = settings_of(arguments)
        data = NOTHING if arguments.args is None else load_arguments(arguments.args)
        analyzer = _analyzer(arguments)
        with contextlib.redirect_stdout(sys.stderr):
            workload = load_workload(arguments.workload)
        keys = [
            (1, memory, workers)
            for memory in arguments.memory or (0,)
            for workers in arguments.workers or (1,)
        ]
    with _terminated_as_interrupted(arguments):
        found = analyzer.run_comparative_analysis(
            workload,
            keys,
            arguments=data,
            settings=settings,
            quantities=arguments.quantity,
            fail_if_worse=arguments.fail_if_worse,
        )
    if arguments.json:
        print(as_text(found))
    else:
        print("\n".join(printable(line) for line in lines(plain(found), arguments.cells)))
    if found["run"]["interrupted"]:
        return INTERRUPTED
    return 1 if found["worse"] else 0


def _profiles(arguments: argparse.Namespace) -> int:
    given = [name for name in _OF_RUN if getattr(arguments, name) is not None]
    if given:
        option = "-o" if given[0] == "output" else f"--{given[0]}"
        raise _wrong(f"{option} needs --workload MODULE:FUNCTION or FILE.py:FUNCTION")
    if not arguments.path:
        raise _wrong("expected --workload to run something, or a PATH of profiles to compare")
    return compare_profiles(arguments)


def _wrong(text: str) -> Exception:
    from lithowatt.errors import MalformedValueError

    return MalformedValueError(text)


def _analyzer(arguments: argparse.Namespace) -> MultiBackendEnergyAnalyzer:
    from lithowatt.lithops.backends._analyzer import MultiBackendEnergyAnalyzer
    from lithowatt.lithops.backends._backend import configured

    names = [one.strip() for one in (arguments.backends or "").split(",") if one.strip()]
    configs = [one for some in arguments.config or () for one in some]
    backends, missing = configured(names, configs)
    return MultiBackendEnergyAnalyzer._of(
        backends,
        missing,
        names or [one.name for one in backends],
        repetitions=arguments.repetitions,
        start=arguments.start,
        seed=arguments.seed,
        timeout=arguments.timeout,
        output=arguments.output,
        append=arguments.append,
        ship=arguments.ship,
        progress=None if arguments.quiet else _tell,
    )


def _tell(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        print(printable(text), file=sys.stderr, flush=True)


@contextlib.contextmanager
def _terminated_as_interrupted(arguments: argparse.Namespace) -> Iterator[None]:
    """SIGTERM as Ctrl-C, so that what was measured is kept and workers end."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before: Any = None
    if arguments.as_program:
        before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


# --- text ---------------------------------------------------------------------


def lines(found: Mapping[str, Any], cells: bool = False) -> Iterator[str]:
    """A result for a person: verdicts first, then what they rest on, then what to know of it.

    Args:
        found: What `MultiBackendEnergyAnalyzer.run_comparative_analysis` gives.
        cells: Each configuration's ratios, too.
    """
    run = found["run"]
    verdicts = sorted(found["verdicts"], key=lambda row: _order(row["quantity"]))
    # Energy and time; where neither was asked for, what was.
    main = [row for row in verdicts if row["quantity"] in _FIRST[:2]] or verdicts
    for row in main:
        yield from _item(row["text"])
    if not found["verdicts"]:
        yield "nothing to compare"
    yield ""
    names = list(dict.fromkeys(one["backend"] for one in found["backends"]))
    yield from wrapped(
        f"{run['workload']} on {counted(len(names), 'backend')}, "
        f"{counted(len(run['configurations']), 'configuration')}, "
        f"{counted(run['repetitions'], 'run')} of each in random order, seed {run['seed']}, "
        f"start {run['start']}",
        WIDTH,
        "",
    )
    # Letters, where tables of pairs have no room for names.
    tables = _tables(found, {name: name for name in names}, cells)
    if any(map(_is_too_long, names)) or max(map(len, tables)) > WIDTH:
        tables = _tables(found, _letters(names), cells)
    yield from tables
    yield from _worse(found)
    for one in found["left_out"]:
        yield ""
        yield from _item(f"left out: {one['backend']}: {one['reason']}")
    yield from warning_lines(
        {"warnings": [one for one in found["warnings"] if one["code"] != "left-out"]}
    )
    if run["folder"] is not None:
        yield ""
        yield from wrapped(f"profiles and runs.ndjson are in {run['folder']}", WIDTH, "")


def _tables(found: Mapping[str, Any], short: Mapping[str, str], cells: bool) -> list[str]:
    """What the verdicts rest on, with names as `short` gives them."""
    shown = ["", *_table(found["backends"], short)]
    for name, letter in short.items():
        if _is_too_long(name):
            shown += _item(f"{letter} is {name}")
    shown += _made(found["backends"])
    shown += _ratios(found["overall"], short)
    if cells:
        shown += _cells(found["cells"], short)
    shown += _correlations(found["correlation"], short)
    return shown


#: What is told first.
_FIRST = ("energy_j", "time_s", "cpu_seconds_s", "cost_usd")


def _item(text: str) -> list[str]:
    first, *rest = wrapped(text, WIDTH, "  ")
    return [first.strip(), *rest]


def _is_too_long(name: str) -> bool:
    return len(name) > _MOST_SHOWN


def _letters(names: Sequence[str]) -> dict[str, str]:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return {name: letters[at] if at < len(letters) else str(at) for at, name in enumerate(names)}


def _table(rows: Sequence[Mapping[str, Any]], short: Mapping[str, str]) -> list[str]:
    """A line for each configuration on each backend."""
    table = [("backend", "MB", "w", "n", "time s", "CPU s", "J", "J, 95 % band", "")]
    for one in rows:
        repetitions, metrics = one["repetitions"], one["metrics"]
        failed = repetitions["failed"]
        band = one["energy"]["band"]
        name = one["backend"]
        letter = "" if short[name] == name else f"{short[name]} "
        table.append(
            (
                letter + shortened(name, _MOST_SHOWN),
                format_number(one["memory_mb"]) if one["memory_mb"] else "–",
                str(one["workers"]),
                f"{repetitions['used']}/{repetitions['used'] + failed}"
                if failed
                else str(repetitions["used"]),
                _mean(metrics["time_s"]),
                _mean(metrics["cpu_seconds_s"], False),
                _mean(metrics["energy_j"]),
                "–" if band is None else _span(band),
                (one["energy"]["quality"] or "")[:8],
            )
        )
    # Where numbers are long, there is no room for what the lines below tell, too.
    for dropped in ((), (8,), (8, 5)):
        kept = [at for at in range(len(table[0])) if at not in dropped]
        right = [place for place, at in enumerate(kept) if 1 <= at <= 7]
        made = aligned([[row[at] for at in kept] for row in table], right)
        if max(map(len, made)) <= WIDTH:
            break
    return made


def _mean(metric: Mapping[str, Any] | None, interval: bool = True) -> str:
    """`12.3 ±2%`: a mean with half of its interval, or `12.3 <43` where that begins at 0.

    >>> _mean({"mean": 12.3, "t": [12.0, 12.6]}), _mean({"mean": 12.3, "t": [0.0, 43.0]})
    ('12.3 ±2%', '12.3 <43')
    """
    if metric is None or metric["mean"] is None:
        return "–"
    text = three_digits(metric["mean"])
    if not interval or metric["t"] is None or not metric["mean"]:
        return text
    low, high = metric["t"]
    if low == 0:
        return f"{text} <{three_digits(high)}"
    half = (high - low) / 2 / abs(metric["mean"]) * 100
    return f"{text} ±{half:.0f}%" if half >= 0.95 else f"{text} ±{max(half, 0.1):.1f}%"


def _made(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """How joules were made, and what runs cost: a line for each backend."""
    rows = list(rows)
    yield ""
    for name, some in groupby(rows, key=lambda one: str(one["backend"])):
        own = list(some)
        energy = [one["energy"] for one in own]
        methods = list(dict.fromkeys(text for one in energy for text in one["method"]))
        definitions = list(dict.fromkeys(text for one in energy for text in one["definition"]))
        reason = next((r for one in own if (r := one["reasons"].get("energy_j"))), None)
        if reason is not None:
            yield from _item(f"{name}: no joules: {reason}")
        else:
            yield from _item(
                f"{name}: {', '.join(filter(None, {one['quality'] for one in energy}))} by "
                f"{few(methods, 4)}, {' and '.join(definitions)}"
            )
        dollars = [one for one in own if one["metrics"]["cost_usd"] is not None]
        if dollars:
            told = [
                f"{three_digits(one['metrics']['cost_usd']['mean'])} USD {_where(one)}"
                for one in dollars
                if one["metrics"]["cost_usd"]["mean"] is not None
            ]
            yield from _item(f"{name}: a run costs {few(told, 4)}")


def _where(one: Mapping[str, Any]) -> str:
    memory = f"{one['memory_mb']:g} MB, " if one["memory_mb"] else ""
    return f"({memory}{counted(one['workers'], 'worker')})"


def _ratios(rows: Sequence[Mapping[str, Any]], short: Mapping[str, str]) -> Iterator[str]:
    """Every pair, by quantity."""
    whole = [row for row in rows if row["memory_mb"] is None]
    for quantity in sorted({row["quantity"] for row in whole}, key=_order):
        some = [row for row in whole if row["quantity"] == quantity]
        bands = quantity == "energy_j"
        table = [("", "a / b", "ratio", "95 %", "by bands" if bands else "", "differ")]
        for row in some:
            these = row["these"]
            table.append(
                (
                    these["verdict"],
                    f"{short[row['a']['label']]} / {short[row['b']['label']]}",
                    *_ratio({"ratio": row["ratio"], "ratio_ci": these["ratio_ci"]}),
                    _band_of(row) if bands else "",
                    f"{row['holm_significant']}/{row['configurations']}",
                )
            )
        yield ""
        yield quantity
        yield from aligned(table, right=(2, 3, 4, 5))


def _order(quantity: str) -> tuple[int, str]:
    return (_FIRST.index(quantity) if quantity in _FIRST else len(_FIRST)), quantity


def _ratio(row: Mapping[str, Any]) -> tuple[str, str]:
    value, interval = row["ratio"], row["ratio_ci"]
    return "unknown" if value is None else _digits(value), "" if interval is None else _span(
        interval
    )


def _band_of(row: Mapping[str, Any]) -> str:
    if row.get("common_model"):
        return "one model"
    return "–" if row.get("ratio_band") is None else _span(row["ratio_band"])


def _cells(rows: Sequence[Mapping[str, Any]], short: Mapping[str, str]) -> Iterator[str]:
    for quantity in sorted({row["quantity"] for row in rows}, key=_order):
        table = [("", "a / b", "MB", "w", "ratio", "95 %", "p")]
        for row in rows:
            if row["quantity"] != quantity:
                continue
            p = row["welch"]["p_holm"]
            table.append(
                (
                    row["verdict"],
                    f"{short[row['a']['label']]} / {short[row['b']['label']]}",
                    format_number(row["memory_mb"]) if row["memory_mb"] else "–",
                    str(row["workers"]),
                    *_ratio(row),
                    "" if p is None else f"{p:.1g}",
                )
            )
        yield ""
        yield f"{quantity} of each configuration (p: Holm's)"
        yield from aligned(table, right=(2, 3, 4, 5, 6))


def _correlations(rows: Sequence[Mapping[str, Any]], short: Mapping[str, str]) -> Iterator[str]:
    there = [row for row in rows if row["pearson"] is not None]
    if there:
        yield ""
        yield "correlation (r: Pearson, rho: Spearman)"
        table = [("a, b", "quantity", "over", "n", "r", "95 %", "rho")]
        for row in there:
            table.append(
                (
                    f"{short[row['a']]}, {short[row['b']]}",
                    row["quantity"].rpartition("_")[0],
                    "configs" if row["over"] == "configurations" else row["over"],
                    str(row["n"]),
                    f"{row['pearson']:.2f}",
                    ""
                    if row["pearson_ci"] is None
                    else " to ".join(f"{end:.2f}" for end in row["pearson_ci"]),
                    f"{row['spearman']:.2f}",
                )
            )
        yield from aligned(table, right=(3, 4, 5, 6))
        intervals = sum(row["pearson_ci"] is not None for row in there)
        if intervals >= _MANY:
            yield f"of {intervals} such intervals, {intervals / 20:.0f} or so miss by chance"
    for over in ("configurations", "rounds"):
        reasons = {row["reason"] for row in rows if row["over"] == over and row["pearson"] is None}
        if reasons:
            yield ""
            yield from _item(f"no correlation over {over}: {few(sorted(reasons), 2, '; ')}")


def _worse(found: Mapping[str, Any]) -> Iterator[str]:
    most = found["settings"]["fail_if_worse"]
    if most is None:
        return
    yield ""
    first = found["settings"]["baseline"]
    if not found["worse"]:
        yield from _item(f"no backend surely takes more than {most * 100:g} % more than {first}")
    for one in found["worse"]:
        place = "" if one["workers"] is None else f" {_where(one)}"
        yield from _item(
            f"worse: {one['quantity']} of {one['b']['label']} is × "
            f"{three_digits(one['b_over_a'])} that of {first}{place}"
        )


def _span(ends: Sequence[float]) -> str:
    return " to ".join(_digits(end) for end in ends)


def _digits(value: float) -> str:
    """Three digits; one where they need an exponent, as the ends of an interval of two runs do.

    >>> _digits(0.0123), _digits(1.234e14)
    ('0.0123', '1e+14')
    """
    text = three_digits(value)
    return text if "e" not in text else f"{value:.0e}"
