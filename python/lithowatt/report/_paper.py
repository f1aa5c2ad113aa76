"""A report as Markdown and as LaTeX: the words and the tables that fit on paper."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence

from lithowatt._support.text import printable
from lithowatt.report import _templates
from lithowatt.report._checklist import checklist
from lithowatt.report._page import footer, method
from lithowatt.report._results import Results
from lithowatt.report._tables import Table, tables
from lithowatt.report._words import words

#: What LaTeX would obey, or its fonts lack.
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "^": r"\textasciicircum{}",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "%": r"\%",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "×": r"$\times$",
    "±": r"$\pm$",
    "·": r"$\cdot$",
    "σ": r"$\sigma$",
    "κ": r"$\kappa$",
    "–": "--",
    "…": r"\ldots{}",
}

#: What Markdown would take for markup inside a line or a cell of a table.
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|~$#&])")

#: What begins a list, a heading or a quotation at the beginning of a line.
_BEGINS = re.compile(r"^(\s*)(\d*)([-+>]|(?<=\d)[.)])(?=\s|$)")

#: What a spreadsheet takes for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def latex(text: str) -> str:
    r"""A text for LaTeX.

    >>> print(latex("50 % of a_b ± 2"))
    50 \% of a\_b $\pm$ 2
    >>> print(latex("Zürich 中"))
    Zürich U+4E2D
    """
    return "".join(_latex_of(one) for one in printable(text))


def _latex_of(one: str) -> str:
    # The fonts of T1 have Latin-1 and little more: an error would stop the whole paper.
    return _LATEX.get(one, one if ord(one) < 0x100 else f"U+{ord(one):04X}")


def markdown(text: str) -> str:
    r"""A text for Markdown, in a line or a cell of a table.

    >>> print(markdown("a_b | <i>"))
    a\_b \| \<i\>
    """
    escaped = _MARKDOWN.sub(r"\\\1", printable(text))
    return _BEGINS.sub(r"\1\2\\\3", escaped)


def latex_table(table: Table) -> str:
    """A table as a `tabular` with `booktabs`, for `\\input` in a paper."""
    columns = "".join("r" if at in table.numeric else "l" for at in range(len(table.columns)))
    lines = [
        f"% {latex(table.title)}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _row(table.columns),
        r"\midrule",
        *map(_row, table.rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _row(cells: Iterable[str]) -> str:
    # A cell that begins with a bracket would be an option of the line break before it.
    return (
        " & ".join(f"{{}}{text}" if text.startswith("[") else text for text in map(latex, cells))
        + r" \\"
    )


def csv_table(table: Table) -> str:
    """A table as CSV (RFC 4180); a cell that a spreadsheet would take for a formula is quoted."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(table.columns)
    writer.writerows([_cell(one) for one in row] for row in table.rows)
    return text.getvalue()


def _cell(text: str) -> str:
    text = printable(text)
    if not text.startswith(_FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def _on_paper(some: Sequence[Table]) -> list[Table]:
    return [one for one in some if one.paper]


def paper(results: Results, template: str) -> str:
    """A report from one of the templates `report.md.j2` and `report.tex.j2`.

    Raises:
        ModuleNotFoundError: Jinja is not installed.
    """
    found = results.as_json()
    environment = _templates.environment(visible=False)
    environment.filters |= {"latex": latex, "markdown": markdown, "latex_table": latex_table}
    return environment.get_template(template).render(
        words=words(found, results.wanted.title),
        tables=_on_paper(tables(found)),
        checklist=checklist(found),
        method=method(found),
        footer=footer(found).partition(" The results as JSON")[0],
        rerun=results.wanted.command,
    )
