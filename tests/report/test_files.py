"""Pages, folders and archives of reports, as the command writes them."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from lithowatt import report
from lithowatt.cli import main
from lithowatt.report import _page
from lithowatt.report._paper import csv_table, latex, latex_table, markdown
from lithowatt.report._tables import Table
from tests.support.made_profiles import Kind, write
from tests.support.measured_profiles import measured_folder

KIND = Kind(workers=(2, 4), repetitions=6, seed=1)
ARM = replace(KIND, architecture="arm64", work_s=40.0, seed=2)

#: What is of the occasion, and not of the data.
OCCASION = ("created", "version")


def verb(name: str, folder: Path, capsys: pytest.CaptureFixture[str], *more: str) -> Any:
    capsys.readouterr()
    main(["profile", name, str(folder), "--json", *more])
    return json.loads(capsys.readouterr().out)


def without_occasion(found: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key not in OCCASION}


@pytest.mark.parametrize("most_plain", [_page.MOST_PLAIN, 0])
def test_the_page_holds_what_the_verbs_print(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    most_plain: int,
) -> None:
    """Also where the results are compressed."""
    monkeypatch.setattr(_page, "MOST_PLAIN", most_plain)
    folder = write(tmp_path / "in", KIND, ARM)
    page = tmp_path / "r.html"
    assert main(["report", str(folder), "-o", str(page)]) == 0
    found = report.read_results(page)
    assert ('"encoding": "gzip+base64"' in page.read_text("utf-8")) == (most_plain == 0)
    for name in ("stats", "lint", "compare", "scaling"):
        assert without_occasion(found[name]) == without_occasion(verb(name, folder, capsys)), name
    printed = verb("recommend", folder, capsys, "--minimise", "cost")
    assert without_occasion(found["recommend"]) == without_occasion(printed)


def test_the_page_of_measured_profiles_holds_what_the_verbs_print(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = measured_folder()
    page = tmp_path / "r.html"
    assert main(["report", str(folder), "-o", str(page)]) == 0
    assert page.stat().st_size < 5_000_000
    found = report.read_results(page)
    for name in ("stats", "compare", "scaling"):
        assert without_occasion(found[name]) == without_occasion(verb(name, folder, capsys)), name


class Outline(HTMLParser):
    """What a page loads, and which elements are open."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.names: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.addresses += [
            value for name, value in attributes if name in ("src", "href", "action") and value
        ]


def test_the_page_needs_no_network_and_escapes_what_it_is_given(tmp_path: Path) -> None:
    hostile = replace(KIND, workload="<img src=x onerror=alert(1)>&'\"")
    folder = tmp_path / "in"
    write(folder, hostile)
    page = tmp_path / "r.html"
    title = "</script><script>alert(2)</script>\u202e"
    report.write_report(folder, page, title=title)
    text = page.read_text("utf-8")
    outline = Outline()
    outline.feed(text)
    assert [one for one in outline.addresses if not one.startswith("#")] == []
    assert "img" not in outline.names
    assert outline.names.count("script") == 4
    assert "alert(2)</script>" not in text and "\u202e" not in text
    assert report.read_results(page)["stats"]["configurations"][0]["workload"].startswith("<img")
    assert "default-src 'none'" in text


def test_a_folder_has_pages_figures_and_tables(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", KIND, ARM)
    out = tmp_path / "out"
    assert main(["report", str(folder), "-o", f"{out}/"]) == 0
    names = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert {"report.html", "report.md", "report.tex", "results.json"} <= names
    figures = {name.partition(".")[0] for name in names if name.startswith("figures/")}
    assert {"figures/time-cost", "figures/ratios", "figures/timeline"} <= figures
    for name in figures:
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (out / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        assert "<svg" in (out / f"{name}.svg").read_text("utf-8")
    text = (out / "tables/configurations.csv").read_text("utf-8")
    rows = list(csv.reader(io.StringIO(text)))
    assert len(rows) == 1 + 4 and rows[0][0] == "stage"
    assert json.loads((out / "results.json").read_text("utf-8"))["command"] == "report"


def test_figures_show_the_dots_of_the_data(tmp_path: Path) -> None:
    """As many marks in the SVG as there are configurations with a time and dollars."""
    folder = write(tmp_path / "in", KIND, ARM)
    out = tmp_path / "out"
    found = report.write_report(folder, f"{out}/")
    svg = (out / "figures/time-cost.svg").read_text("utf-8")
    dots = re.findall(r'aria-roledescription="point"', svg)
    assert len(dots) == len(found["stats"]["configurations"]) == 4


def test_latex_compiles(tmp_path: Path) -> None:
    latex_program = shutil.which("pdflatex")
    if latex_program is None:
        pytest.skip("needs pdflatex")
    folder = write(tmp_path / "in", replace(KIND, workload="a&b_%$#{}~^\\ é中"), ARM)
    report.write_report(folder, tmp_path / "r.tex")
    done = subprocess.run(
        [latex_program, "-halt-on-error", "-interaction=nonstopmode", "r.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:]


def test_an_archive_makes_the_report_again(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", replace(KIND, clean=True), ARM)
    archive = tmp_path / "z.zip"
    title = 'it\'s $HOME `a` "b"'
    claims = tmp_path / "mine" / "claims.csv"
    claims.parent.mkdir()
    claims.write_text("id,printed,formula\na,4,count()\n")
    options = ["--title", title, "--exclude", "+queued-start", "--claims", str(claims)]
    done = main(
        ["report", str(folder), "-o", str(tmp_path / "r.md"), "--bundle", str(archive), *options]
    )
    assert done == 0
    place = tmp_path / "unpacked"
    with zipfile.ZipFile(archive) as packed:
        assert all(not name.startswith("/") and ".." not in name for name in packed.namelist())
        packed.extractall(place)
    sums = dict(
        reversed(line.split("  ", 1)) for line in (place / "SHA256SUMS").read_text().splitlines()
    )
    for name, expected in sums.items():
        assert hashlib.sha256((place / name).read_bytes()).hexdigest() == expected
    inputs = {path.read_bytes() for path in folder.rglob("*.json")}
    assert {path.read_bytes() for path in (place / "inputs").rglob("*.json")} == inputs
    assert (place / "claims" / "claims.csv").read_bytes() == claims.read_bytes()
    for name in ("rerun.sh", "report/report.html", "report/results.json"):
        assert str(tmp_path) not in (place / name).read_text("utf-8"), name
    # The command that is on the PATH is this package's.
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "lithowatt").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m lithowatt "$@"\n')
    (programs / "lithowatt").chmod(0o755)
    path = f"{programs}:/usr/bin:/bin"
    again = subprocess.run(
        ["sh", "rerun.sh"],
        cwd=place,
        capture_output=True,
        text=True,
        env={**_environment(), "PATH": path},
    )
    assert again.returncode == 0, again.stderr
    assert "the results are the same" in again.stdout
    assert title in (place / "again" / "report.tex").read_text("utf-8").replace(r"\$", "$").replace(
        r"\textquotedbl{}", '"'
    )
    # And it tells where they are not.
    other = json.loads((place / "again" / "results.json").read_text("utf-8"))
    other["stats"]["configurations"][0]["metrics"]["time_s"]["mean"] += 1
    (place / "again" / "results.json").write_text(json.dumps(other))
    told = subprocess.run(
        [sys.executable, "compare.py", "report/results.json", "again/results.json"],
        cwd=place,
        capture_output=True,
        text=True,
    )
    assert told.returncode == 1 and "differ in: stats" in told.stderr


def _environment() -> dict[str, str]:
    import os

    return dict(os.environ)


def test_the_same_profiles_give_the_same_archive(tmp_path: Path) -> None:
    from lithowatt.profiles._runs import read_profiles
    from lithowatt.report._files import bundle
    from lithowatt.report._results import results

    folder = write(tmp_path / "in", KIND)
    found = results(read_profiles([folder]))
    made = {"a.txt": b"a"}
    assert bundle(found, "", made) == bundle(found, "", made)


@pytest.mark.parametrize("output", ["r.pdf", "r.json", "in/pi_aws_1024Mb_x86/stage.json"])
def test_outputs_that_cannot_be(
    output: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "in", KIND)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert main(["report", str(folder), "-o", str(tmp_path / output)]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and "expected" in error
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_an_input_is_never_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path / "in", KIND)
    profile = next(folder.rglob("stage.json"))
    link = tmp_path / "r.html"
    link.symlink_to(profile)
    before = profile.read_bytes()
    assert main(["report", str(folder), "-o", str(link)]) == 2
    archive = ["-o", str(tmp_path / "x.html"), "--bundle", str(profile)]
    assert main(["report", str(folder), *archive]) == 2
    assert profile.read_bytes() == before
    assert not (tmp_path / "x.html").exists()


def test_no_output_replaces_another_or_the_claims(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "in", KIND)
    claims = tmp_path / "claims.csv"
    claims.write_text("id,printed,formula\na,2,count()\n")
    before = claims.read_bytes()
    page, out = str(tmp_path / "r.html"), str(tmp_path / "out")
    for options in (
        ["-o", page, "--bundle", page],
        ["-o", f"{out}/", "--bundle", f"{out}/report.html"],
        ["-o", page, "--bundle", str(tmp_path)],
        ["-o", page, "--bundle", str(claims), "--claims", str(claims)],
    ):
        assert main(["report", str(folder), *options]) == 2, options
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1 and "expected" in error
    assert claims.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["claims.csv", "in"]


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", KIND)
    profile = next(folder.rglob("stage.json"))
    try:
        profile.rename(profile.with_name("st\udcffage\n.json"))
    except OSError as error:
        pytest.skip(f"no such names here: {error}")
    archive = tmp_path / "z.zip"
    done = main(["report", str(folder), "-o", str(tmp_path / "out/"), "--bundle", str(archive)])
    assert done == 0
    with zipfile.ZipFile(archive) as packed:
        names = packed.namelist()
        sums = packed.read("SHA256SUMS").decode().splitlines()
    assert len(sums) == len(names) - 1 and all(name.isprintable() for name in names)
    found = report.read_results(tmp_path / "out" / "report.html")
    assert found["stats"]["configurations"][0]["file"].endswith("st\udcffage\n.json")


def test_figures_of_stages_with_like_names_are_all_there(tmp_path: Path) -> None:
    from lithowatt.report._files import _slugs

    slugs = _slugs(["titanic / train_1", "titanic / train-1", "a" * 70, "a" * 71, "中"])
    assert len(set(slugs.values())) == 5
    assert slugs["titanic / train_1"] == "titanic-train-1"


def test_claims_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path / "in", KIND)
    claims = tmp_path / "claims.csv"
    claims.write_text(
        'id,table,configuration,quantity,printed,formula\na,T1,,configurations,2,"count()"\n'
    )
    page = tmp_path / "r.html"
    code = main(["report", str(folder), "-o", str(page), "--claims", str(claims)])
    assert code == 0, capsys.readouterr().err
    found = report.read_results(page)
    assert sum(found["claims"]["summary"].values()) == 1
    assert "1 printed value of claims.csv, computed again" in page.read_text("utf-8")
    assert main(["report", str(folder), "-o", str(page), "--claims"]) == 2
    assert "expected one of titanic, video" in capsys.readouterr().err


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", KIND)
    for package in ("jinja2", "altair", "vl_convert"):
        script = (
            f"import sys; sys.modules[{package!r}] = None\n"
            "from lithowatt.cli import main\n"
            f"sys.exit(main(['report', {str(folder)!r}, '-o', {str(tmp_path / 'r.html')!r}]))"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert done.returncode == 2, done.stderr
        assert package in done.stderr and "pip install" in done.stderr
        assert len(done.stderr.splitlines()) == 1 and not (tmp_path / "r.html").exists()


TABLE = Table("t", "A_title", ("a & b", "n"), (("=1+1", "-3"), ("[x]", "50 % ± 2")), frozenset({1}))


def test_cells_are_escaped_for_each_format() -> None:
    assert list(csv.reader(io.StringIO(csv_table(TABLE)))) == [
        ["a & b", "n"],
        ["'=1+1", "-3"],
        ["[x]", "50 % ± 2"],
    ]
    text = latex_table(TABLE)
    assert r"a \& b & n \\" in text and r"{}[x] & 50 \% $\pm$ 2 \\" in text
    assert r"\begin{tabular}{lr}" in text
    assert markdown("1. *a* | <b>") == r"1\. \*a\* \| \<b\>"
    assert [markdown(one) for one in ("53.6 s", "0.25", "- a", "-3")] == [
        "53.6 s",
        "0.25",
        r"\- a",
        "-3",
    ]
    assert latex("\x1b[31m") == r"\textbackslash{}x1b[31m"


def test_tables_say_what_joules_rest_on_and_how_wide_their_own_band_is(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", KIND, ARM)
    out = tmp_path / "out"
    found = report.write_report(folder, f"{out}/", minimise="energy")
    row = found["recommend"]["ranked"][0]
    assert row["energy_quality"] == "modelled"
    ends = [row["energy_j"][end] for end in ("low", "high")]
    for name in ("recommended", "configurations"):
        text = (out / f"tables/{name}.csv").read_text("utf-8")
        heads, first, *_ = csv.reader(io.StringIO(text))
        cells = dict(zip(heads, first, strict=True))
        assert cells["joules are"] == "modelled"
        low, high = map(float, cells["their own 95 % band, J"].split(" to "))
        scatter = re.findall(r"[0-9.]+", cells["energy, J (over runs)"])
        assert low < float(scatter[1]) < float(scatter[2]) < high
        if name == "recommended":
            assert [low, high] == pytest.approx(ends, rel=0.01)
        tex = (out / f"tables/{name}.tex").read_text("utf-8")
        assert "& modelled &" in tex and r"their own 95 \% band, J" in tex
    for page in ("report.md", "report.tex", "report.html"):
        assert "joules are" in (out / page).read_text("utf-8"), page


def test_a_figure_of_modelled_joules_says_how_far_they_may_be_off(tmp_path: Path) -> None:
    out = tmp_path / "out"
    report.write_report(write(tmp_path / "in", KIND, ARM), f"{out}/")
    text = (out / "figures/time-energy.svg").read_text("utf-8")
    assert re.search(r"(?s)95 % band of the joules themselves, ×0\.\d+ to ×\d", text)


@pytest.mark.parametrize(
    "options",
    [["-o", "nodir/r.html"], ["-o", "/dev/full"], ["-o", "r.html", "--bundle", "no/b.zip"]],
)
def test_outputs_are_looked_at_before_the_work(
    options: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = write(tmp_path / "in", KIND)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lithowatt.profiles._runs.read_profiles", pytest.fail)
    assert main(["report", str(folder), *options]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and "directory" in error, error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_what_cannot_be_written_is_named_and_leaves_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "in", KIND)

    def full(_descriptor: int, _data: bytes) -> None:
        raise OSError(errno.EFBIG, "File too large")

    monkeypatch.setattr("lithowatt._support.files._write_all", full)
    for output in ("out/deep/", "r.html"):
        assert main(["report", str(folder), "-o", str(tmp_path / output)]) == 2
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1, error
        assert str(tmp_path / output) in error and "could not be written: File too large" in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]
