"""Reads profiles and writes the report that they give."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lithowatt.report._results import Results, Wanted


def write_report(
    paths: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    title: str | None = None,
    minimise: str | None = None,
) -> dict[str, Any]:
    """Writes a report of profiles.

    Args:
        paths: Profiles, and folders of them.
        output: `x.html`, `x.md` or `x.tex`; what ends with a slash, is a folder or has no ending
            is a folder: all three, with figures and tables.
        title: Its heading; by default the stages and where they ran.
        minimise: What its recommendation minimises: `energy`, `cost`, `edp` or `time`; by default
            joules where any were measured, else dollars where there are any, else seconds.

    Returns:
        The results that the report tells, as its JSON holds them.

    Raises:
        UnreadableFileError: No profile is there.
        UnwritableFileError: The output has another ending, or is one of the inputs.
        ModuleNotFoundError: A package of the extra `report` is missing.
        ValueError: `minimise` is none of these.
    """
    from lithowatt.report._results import Wanted

    given = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    wanted = Wanted(title=title, minimise=minimise)
    found, _ = written([os.fspath(one) for one in given], os.fspath(output), wanted)
    return found.as_json()


def written(
    paths: list[str], output: str, wanted: Wanted, others: Sequence[str] = ()
) -> tuple[Results, Mapping[str, bytes] | None]:
    """Writes a report; its results and, where the output is a folder, its files.

    Args:
        paths: Profiles, and folders of them.
        output: Where the report goes.
        wanted: What it says.
        others: What is going to be written as well: no input either.
    """
    from lithowatt.profiles._outputs import keep_given, keep_inputs
    from lithowatt.profiles._runs import read_profiles
    from lithowatt.report._files import FOLDER, format_of
    from lithowatt.report._results import results

    form = format_of(output)
    _possible(output, form, others)
    single = [*others, *([output] if form != FOLDER else [])]
    keep_given(single, paths)
    # Lint looks at every column.
    profiles = read_profiles(paths, group=wanted.group)
    keep_inputs(single, (file.path for file in profiles.files))
    found = results(profiles, wanted)
    return found, _write(found, output, form)


def _possible(output: str, form: str, others: Sequence[str]) -> None:
    """Before minutes of work: that the outputs can be written, and that there is what it needs.

    Raises:
        UnwritableFileError: One cannot be written.
        ModuleNotFoundError: A package of the extra `report` is missing.
    """
    from lithowatt._support.files import no_folder, no_output
    from lithowatt.errors import UnwritableFileError
    from lithowatt.report import _templates
    from lithowatt.report._files import FOLDER
    from lithowatt.report._plots import altair

    problems = [no_output(Path(one), "--bundle") for one in others]
    problems.append(no_folder(Path(output)) if form == FOLDER else no_output(Path(output)))
    for problem in filter(None, problems):
        raise UnwritableFileError(problem)
    _templates.environment(visible=form == "html")
    if form in (FOLDER, "html"):
        altair()


def _write(found: Results, output: str, form: str) -> Mapping[str, bytes] | None:
    from lithowatt._support.files import folders_for, write_atomically
    from lithowatt.profiles._outputs import keep_inputs
    from lithowatt.report._files import FOLDER, report_files, report_text

    if form != FOLDER:
        write_atomically(output, report_text(found, form))
        return None
    files = dict(report_files(found))
    places = {Path(output) / name: content for name, content in files.items()}
    keep_inputs(places, (file.path for file in found.profiles.files))
    with folders_for(places):
        for place, content in places.items():
            write_atomically(place, content)
    return files


def read_results(page: str | os.PathLike[str]) -> dict[str, Any]:
    """The results that a report's page holds.

    Args:
        page: An HTML file that `lithowatt report` wrote.

    Returns:
        `stats`, `lint`, `compare`, `scaling` and `recommend`, each as the verb of
        `lithowatt profile` gives it with `--json`, and the head of every result.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no such page.
    """
    from lithowatt.report._page import results_of

    return results_of(Path(page).read_text("utf-8"))
