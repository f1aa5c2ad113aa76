"""A report as files: one page, or a folder with pages, figures and tables, or an archive."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lithowatt._support.files import read_plain
from lithowatt._support.text import printable
from lithowatt.errors import UnreadableFileError, UnwritableFileError
from lithowatt.profiles._sidecar import sidecar_path
from lithowatt.report import _templates
from lithowatt.report._page import HALVES, escaped, page
from lithowatt.report._paper import csv_table, latex_table, paper
from lithowatt.report._plots import FILE_WIDTH, plots
from lithowatt.report._results import Results
from lithowatt.report._rows import Row, rows
from lithowatt.report._tables import tables
from lithowatt.report._words import name_of_stage

#: Ending to format; what has none, ends with a slash or is a folder, is a folder.
FORMATS = {".html": "html", ".htm": "html", ".md": "md", ".tex": "tex"}
FOLDER = "folder"

#: Dots per inch of a PNG figure.
PNG_PPI = 200

#: Larger than any profile that is put into an archive.
MOST_INPUT_BYTES = 1 << 30


def format_of(path: str) -> str:
    """The format that a path's ending says.

    Raises:
        UnwritableFileError: None of ours.
    """
    if path.endswith("/") or Path(path).is_dir() or not Path(path).suffix:
        return FOLDER
    found = FORMATS.get(Path(path).suffix.lower())
    if found is None:
        raise UnwritableFileError(
            f"{path}: its ending says no format; expected .html, .md, .tex, or a folder as DIR/"
        )
    return found


def report_text(results: Results, form: str) -> str:
    """A report in one file: `html`, `md` or `tex`."""
    return page(results) if form == "html" else paper(results, f"report.{form}.j2")


def results_text(results: Results) -> str:
    """The results as JSON."""
    text = json.dumps(results.as_json(), allow_nan=False, ensure_ascii=False, indent=1)
    return f"{HALVES.sub(escaped, text)}\n"


def report_files(results: Results) -> Iterator[tuple[str, bytes]]:
    """All files of a report's folder: name and content."""
    for form in ("html", "md", "tex"):
        yield f"report.{form}", report_text(results, form).encode()
    yield "results.json", results_text(results).encode()
    for table in tables(results.as_json()):
        yield f"tables/{table.name}.csv", csv_table(table).encode()
        yield f"tables/{table.name}.tex", latex_table(table).encode()
    yield from _figures(results)


def _figures(results: Results) -> Iterator[tuple[str, bytes]]:
    """Each plot of each stage as SVG, PNG and PDF; the timeline of what is recommended."""
    import vl_convert

    sets = rows(results)
    drawn = plots(sets)
    stages = list(dict.fromkeys(row["stage"] for row in sets["configurations"]))
    chosen = {
        name_of_stage((one["workload"], one["stage"])): one.get("recommended") or one.get("best")
        for one in results.stages
    }
    slugs = _slugs(stages)
    for plot in drawn:
        for stage in stages:
            spec = plot.spec(FILE_WIDTH)
            points = _of_stage(sets[plot.rows], stage)
            if plot.name == "timeline":
                points = _of_configuration(points, chosen.get(stage))
            if not points:
                continue
            spec["datasets"] = {
                "points": points,
                **{name: _of_stage(sets[one], stage) for name, one in plot.more.items()},
            }
            title = f"{plot.title}: {printable(stage)}"
            # A figure in a paper is without the page's caption: what a reader must not miss.
            spec["title"] = title if plot.below is None else {"text": title, "subtitle": plot.below}
            spec["background"] = "white"
            name = f"figures/{plot.name}" + (f"-{slugs[stage]}" if len(stages) > 1 else "")
            svg: str = vl_convert.vegalite_to_svg(spec)
            yield f"{name}.svg", svg.encode()
            yield f"{name}.png", vl_convert.vegalite_to_png(spec, ppi=PNG_PPI)
            yield f"{name}.pdf", vl_convert.svg_to_pdf(svg)


def _of_stage(some: list[Row], stage: str) -> list[Row]:
    return [row for row in some if row["stage"] == stage]


def _of_configuration(some: list[Row], wanted: Mapping[str, Any] | None) -> list[Row]:
    """The calls of one configuration: of the one wanted, else of the first."""
    if not some:
        return some
    mine = some
    if wanted is not None:
        mine = [
            row
            for row in some
            if (row["mb"], row["arch"]) == (wanted["memory_mb"], wanted["architecture"])
            and row["workers"] in wanted["workers_requested"]
        ] or some
    return [row for row in mine if row["config"] == mine[0]["config"]]


def _slugs(texts: Sequence[str]) -> dict[str, str]:
    """Each text as a part of a file's name; no two the same."""
    found: dict[str, str] = {}
    for text in texts:
        slug = _slug(text)
        if slug in found.values():
            slug += f"-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:6]}"
        found[text] = slug
    return found


def _slug(text: str) -> str:
    """A text as a part of a file's name."""
    slug = re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:60]
    return (
        slug
        if slug and slug.isascii()
        else hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    )


# --- an archive ---------------------------------------------------------------


def bundle(
    results: Results,
    options: str,
    made: Mapping[str, bytes] | None = None,
    claims: str | None = None,
) -> bytes:
    """A ZIP archive from which the report can be made again, and checked.

    It holds the profiles and their sidecars as they were read, the folder of the report, SHA-256
    sums of all, and `rerun.sh`.

    Args:
        results: What the report tells.
        options: Those of the command, quoted for a shell.
        made: The files of the report's folder, where they are made already.
        claims: A file of claims that the options name as `claims/` and its name.

    Raises:
        UnreadableFileError: A profile is not what it was when it was read.
        UnwritableFileError: Two profiles have one name.
    """
    files: dict[str, bytes] = {}
    for name, content in _inputs(results):
        if files.setdefault(name, content) != content:
            raise UnwritableFileError(
                f"two profiles are called {name.removeprefix('inputs/')}; expected one of each "
                "name in an archive"
            )
    if claims is not None:
        content = _unchanged(claims, results.found["claims"]["settings"]["claims"]["sha256"])
        files[f"claims/{Path(claims).name}"] = content
    for name, content in (made or dict(report_files(results))).items():
        files[f"report/{name}"] = content
    given = {
        "version": results.as_json()["version"],
        "options": options,
    }
    environment = _templates.environment(visible=False)
    for name in ("rerun.sh", "compare.py", "README.md"):
        files[name] = environment.get_template(f"bundle/{name}.j2").render(given).encode()
    sums = "".join(
        f"{hashlib.sha256(content).hexdigest()}  {name}\n"
        for name, content in sorted(files.items())
    )
    files["SHA256SUMS"] = sums.encode()
    return _zipped(files)


def _inputs(results: Results) -> Iterator[tuple[str, bytes]]:
    seen = set()
    for file in results.profiles.files:
        if file.path in seen:
            continue  # one file can hold several stages
        seen.add(file.path)
        yield f"inputs/{_inside(file.name)}", _unchanged(file.path, file.sha256)
        beside = sidecar_path(file.path)
        if Path(beside).exists():
            folder = Path(_inside(file.name)).parent
            yield (
                f"inputs/{(folder / Path(beside).name).as_posix()}",
                read_plain(beside, MOST_INPUT_BYTES),
            )


def _unchanged(path: str | os.PathLike[str], sha256: str) -> bytes:
    """The content of a file that was read before.

    Raises:
        UnreadableFileError: It cannot be read, or is another one by now.
    """
    try:
        content = read_plain(path, MOST_INPUT_BYTES)
    except OSError as error:
        raise UnreadableFileError(f"{os.fspath(path)}: {error.strerror or error}") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise UnreadableFileError(
            f"{os.fspath(path)} is not what it was when it was read; expected a file that no one "
            "writes to meanwhile"
        )
    return content


def _inside(name: str) -> str:
    """A name that stays inside the archive's folder when it is unpacked."""
    parts = [printable(part) for part in name.split("/") if part not in ("", ".", "..")]
    return "/".join(parts)


def _zipped(files: Mapping[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(files.items()):
            # A fixed time, so that the same report gives the same archive.
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o755 if name.endswith(".sh") else 0o644) << 16
            archive.writestr(entry, content)
    return made.getvalue()
