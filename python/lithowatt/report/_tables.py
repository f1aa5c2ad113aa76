"""The tables of a report: cells of text, for a page, Markdown, LaTeX and CSV alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lithowatt._support.text import format_number, three_digits
from lithowatt.report._words import NAMES, interval, name_of_stage


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        name: Of its file.
        title: Its caption.
        columns: Headings with units.
        rows: Cells, as many in each row as there are columns.
        numeric: Places of the columns that are aligned to the right.
        paper: Whether it is small enough for a page of paper, whatever the profiles.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[int] = frozenset()
    paper: bool = False


def tables(found: Mapping[str, Any]) -> list[Table]:
    """The tables for which there is something to say.

    Args:
        found: The results, as `Results.as_json` gives them.
    """
    made = [
        _recommended(found["recommend"]),
        _overall(found["compare"]),
        _by_cpu(found["compare"]),
        _memory(found["memory"]),
        _scaling(found["scaling"]),
        _configurations(found["stats"]),
        _cells(found["compare"]),
        _failures(found["stats"]),
        _left_out(found["stats"]),
        _lint(found["lint"]),
        _claims(found.get("claims")),
        _inputs(found),
    ]
    return [one for one in made if one.rows]


def _number(value: Any, digits: int = 3) -> str:
    if value is None:
        return "–"
    return format_number(float(f"{value:.{digits}g}")) if isinstance(value, float) else str(value)


def _interval(value: float | None, ends: Sequence[float] | None, scale: float = 1.0) -> str:
    if value is None:
        return "–"
    if ends is None or None in ends:
        return _number(float(value * scale))
    return interval(value * scale, (ends[0] * scale, ends[1] * scale))


def _metric(metric: Mapping[str, Any] | None, scale: float = 1.0) -> str:
    if metric is None or not metric["n"]:
        return "–"
    return _interval(metric["mean"], metric["t"], scale)


def _of_band(band: Mapping[str, float] | None, scale: float = 1.0) -> str:
    return "–" if band is None else _interval(band["value"], (band["low"], band["high"]), scale)


#: Headings of joules: the mean with the scatter of the runs, what that rests on, and the band with
#: the error of the joules themselves, which the scatter does not hold.
_JOULES = ("energy, J (over runs)", "joules are", "their own 95 % band, J")


def _joules(
    over_runs: Mapping[str, float] | None, quality: str | None, band: Mapping[str, float] | None
) -> tuple[str, str, str]:
    """Cells for `_JOULES`."""
    if over_runs is None:
        return "–", "–", "–"
    ends = None if band is None else (band["low"], band["high"])
    return _of_band(over_runs), quality or "unknown", _ends(ends)


def _ends(ends: Sequence[float | None] | None) -> str:
    if ends is None or ends[0] is None or ends[1] is None:
        return "–"
    return f"{three_digits(ends[0])} to {three_digits(ends[1])}"


def _stage(row: Mapping[str, Any]) -> str:
    return name_of_stage((row["workload"], row["stage"]))


def _recommended(recommend: Mapping[str, Any]) -> Table:
    def rows() -> Iterator[tuple[str, ...]]:
        for stage in recommend.get("stages", [recommend]):
            for one in stage.get("ranked", ())[:8]:
                yield (
                    _stage(stage),
                    str(one["workers"]),
                    _number(one["memory_mb"], 6),
                    one["architecture"],
                    _number(one["runs"]),
                    _of_band(one["time_s"]),
                    _of_band(one["cost_usd"], 1000),
                    *_joules(one["energy_fit_j"], one["energy_quality"], one["energy_j"]),
                    "yes" if one["tied"] and len(stage["tied"]) > 1 else "",
                    _number(one["best_probability"], 2),
                )

    return Table(
        "recommended",
        "The best configurations of each stage, with 95 % intervals",
        (
            "stage",
            "workers",
            "MB",
            "architecture",
            "runs",
            "time, s",
            "USD per 1,000 runs",
            *_JOULES,
            "tie",
            "P(best)",
        ),
        tuple(rows()),
        frozenset({1, 2, 4, 5, 6, 7, 9, 11}),
        True,
    )


def _overall(compare: Mapping[str, Any]) -> Table:
    rows = [
        (
            _stage(row),
            f"{row['a']['label']} / {row['b']['label']}",
            NAMES.get(row["quantity"], row["quantity"]),
            "all" if row["memory_mb"] is None else _number(row["memory_mb"], 6),
            _interval(row["ratio"], row["ratio_ci"]),
            row["verdict"],
            str(row["configurations"]),
            str(row["holm_significant"]),
        )
        for row in compare["overall"]
    ]
    return Table(
        "ratios",
        "Ratios of the architectures, with 95 % intervals (geometric means over configurations)",
        ("stage", "a / b", "quantity", "MB", "ratio", "a is", "pairs", "pairs that differ (Holm)"),
        tuple(rows),
        frozenset({3, 4, 6, 7}),
        True,
    )


def _by_cpu(compare: Mapping[str, Any]) -> Table:
    rows = [
        (
            _stage(row),
            f"{row['a']['label']} / {row['b']['label']}",
            row["cpu_name"],
            _interval(row["ratio"], row["ratio_ci"]),
            str(row["configurations"]),
        )
        for row in compare["by_cpu"]
    ]
    return Table(
        "by_cpu",
        "Compute time by the processor of b (by_cpu), with 95 % intervals",
        ("stage", "a / b", "processor of b", "ratio", "configurations"),
        tuple(rows),
        frozenset({3, 4}),
        True,
    )


def _memory(memory: Mapping[str, Any]) -> Table:
    rows = [
        (
            _stage(row),
            row["architecture"] or "–",
            f"{row['a']['label']} / {row['b']['label']}",
            NAMES.get(row["quantity"], row["quantity"]),
            _interval(row["ratio"], row["ratio_ci"]),
            str(row["configurations"]),
        )
        for row in memory["overall"]
        if row["memory_mb"] is None
    ]
    return Table(
        "memory",
        "Ratios of the memories, with 95 % intervals",
        ("stage", "architecture", "MB a / b", "quantity", "ratio", "pairs"),
        tuple(rows),
        frozenset({4, 5}),
        True,
    )


def _scaling(scaling: Mapping[str, Any]) -> Table:
    def law(row: Mapping[str, Any], name: str) -> str:
        return "–" if row["usl"] is None else _number(row["usl"][name], 2)

    rows = [
        (
            row["file"],
            "compute" if row["quantity"] == "compute_s" else "stage",
            row["kind"] or "unknown",
            "–"
            if row["exponent"] is None
            else _interval(row["exponent"]["value"], row["exponent"]["ci"]),
            law(row, "sigma"),
            law(row, "kappa"),
            _number(row["fastest_workers"]),
            _number(row["diminishing_workers"]),
        )
        for row in scaling["scaling"]
    ]
    return Table(
        "scaling",
        "Scaling with workers: growth of CPU seconds, and the Universal Scalability Law",
        (
            "file",
            "time of",
            "kind",
            "exponent of CPU s",
            "σ",
            "κ",
            "fastest workers",
            "little gain from",
        ),
        tuple(rows),
        frozenset({3, 4, 5, 6, 7}),
        True,
    )


def _configurations(stats: Mapping[str, Any]) -> Table:
    rows = []
    for row in stats["configurations"]:
        metrics = row["metrics"]
        energy = metrics["energy_j"]
        known = energy is not None and energy["n"]
        rows.append(
            (
                _stage(row),
                row["file"],
                row["architecture"] or "–",
                _number(row["memory_mb"], 6),
                str(row["workers_requested"]),
                str(row["repetitions"]["used"]),
                _metric(metrics["time_s"]),
                _metric(metrics["compute_s"]),
                _metric(metrics["cpu_seconds_s"]),
                _metric(metrics["cost_usd"], 1000),
                _metric(energy),
                str(energy["quality"]) if known else "–",
                _ends(energy["band"] if known else None),
            )
        )
    return Table(
        "configurations",
        "All configurations: means of runs with 95 % intervals",
        (
            "stage",
            "file",
            "architecture",
            "MB",
            "workers",
            "runs",
            "time, s",
            "compute, s",
            "CPU s",
            "USD per 1,000 runs",
            *_JOULES,
        ),
        tuple(rows),
        frozenset({3, 4, 5, 6, 7, 8, 9, 10, 12}),
    )


def _cells(compare: Mapping[str, Any]) -> Table:
    rows = [
        (
            _stage(cell),
            NAMES.get(cell["quantity"], cell["quantity"]),
            _number(cell["memory_mb"], 6),
            _number(cell["workers"]),
            f"{cell['a']['label']} / {cell['b']['label']}",
            f"{cell['a']['n']} / {cell['b']['n']}",
            _interval(cell["ratio"], cell["ratio_ci"]),
            cell["verdict"],
            _number(cell["welch"]["p_holm"], 2),
            _number(cell["hedges_g"]),
        )
        for cell in compare["cells"]
        if cell["quantity"] in ("compute_s", "time_s", "cost_usd", "energy_j")
    ]
    return Table(
        "pairs",
        "Each matched pair of configurations, with 95 % intervals",
        ("stage", "quantity", "MB", "workers", "a / b", "runs", "ratio", "a is", "p (Holm)", "g"),
        tuple(rows),
        frozenset({2, 3, 5, 6, 8, 9}),
    )


def _failures(stats: Mapping[str, Any]) -> Table:
    rows = [
        (
            one["file"],
            one["key"] or one["stage"],
            str(one["runs"]),
            str(one["calls"]),
            _number(one["energy_j"]),
            _number(one["energy_known_j"]),
            one["reason"] or "",
        )
        for one in stats["failures"]
    ]
    return Table(
        "failures",
        "Failed runs, which are in no mean: they used joules, too",
        ("file", "configuration", "runs", "calls", "energy, J", "at least, J", "unknown since"),
        tuple(rows),
        frozenset({2, 3, 4, 5}),
        True,
    )


def _left_out(stats: Mapping[str, Any]) -> Table:
    rows = []
    for row in stats["configurations"]:
        counts = row["repetitions"]
        why = [f"{len(some)} {rule}" for rule, some in counts["left_out"].items()]
        if counts["found"] > counts["usable"]:
            why.append(f"{counts['found'] - counts['usable']} not usable")
        if why:
            rows.append(
                (
                    row["file"],
                    row["key"],
                    str(counts["found"]),
                    str(counts["used"]),
                    ", ".join(why),
                )
            )
    return Table(
        "left_out",
        "Repetitions that were found and do not count",
        ("file", "configuration", "found", "used", "left out"),
        tuple(rows),
        frozenset({2, 3}),
    )


def _lint(lint: Mapping[str, Any]) -> Table:
    together: dict[tuple[str, str, str, str], list[Mapping[str, Any]]] = {}
    for one in lint["findings"]:
        key = (one["severity"], one["rule"], one["file"], one["advice"])
        together.setdefault(key, []).append(one)
    rows = [
        (
            severity,
            rule,
            file,
            str(len(some)),
            some[0]["message"],
            advice,
        )
        for (severity, rule, file, advice), some in together.items()
    ]
    return Table(
        "lint",
        "What is wrong with the data: findings of lint, by rule and file",
        ("severity", "rule", "file", "findings", "first of them", "advice"),
        tuple(sorted(rows)),
        frozenset({3}),
    )


def _claims(claims: Mapping[str, Any] | None) -> Table:
    rows: list[tuple[str, ...]] = []
    for one in () if claims is None else claims["claims"]:
        value = one["value"]
        shown = ", ".join(map(_number, value[:4])) if isinstance(value, list) else _number(value)
        rows.append(
            (
                one["table"] or "–",
                one["configuration"] or "",
                one["quantity"] or "",
                str(one["printed"]),
                shown,
                one["verdict"],
                one["formula"],
                one["reason"] or one["definition"] or one["note"] or "",
            )
        )
    return Table(
        "claims",
        "Printed values, computed again",
        ("table", "configuration", "quantity", "printed", "found", "verdict", "computed as", "why"),
        tuple(sorted(rows, key=lambda row: row[5] == "reproduces")),
        frozenset({3, 4}),
    )


def _inputs(found: Mapping[str, Any]) -> Table:
    rows = [
        (one["file"], str(one["configurations"]), str(one["rows"]), one["sha256"])
        for one in found["inputs"]
    ]
    return Table(
        "inputs",
        "What was read",
        ("file", "configurations", "worker calls", "SHA-256"),
        tuple(rows),
        frozenset({1, 2}),
    )
