"""The documents as a site: every page is in its navigation, every public name in its reference."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lithowatt
from tests.support import TOP

DOCS = TOP / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
REFERENCE = (DOCS / "reference" / "api.md").read_text("utf-8")
DOCUMENTED = re.findall(r"^::: ([\w.]+)$", REFERENCE, re.MULTILINE)


def test_every_page_is_in_the_navigation_once() -> None:
    listed = re.findall(r"(\S+\.md)$", (TOP / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    assert sorted(listed) == PAGES


def test_every_page_has_one_title() -> None:
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", (DOCS / page).read_text("utf-8"), flags=re.S | re.M)
        assert len(re.findall(r"^# ", text, re.M)) == 1 or "--8<--" in text, page


def test_the_reference_has_every_public_name() -> None:
    wanted = {f"lithowatt.{name}" for name in lithowatt.__all__ if name != "__version__"}
    assert wanted <= set(DOCUMENTED)


@pytest.mark.parametrize("module", re.findall(r"^## lithowatt\.(\w+)$", REFERENCE, re.MULTILINE))
def test_the_reference_has_every_public_name_of(module: str) -> None:
    names = importlib.import_module(f"lithowatt.{module}").__all__
    for name in names:
        # Estimate and PowerModel stand with the package, which exports them, too.
        assert f"lithowatt.{module}.{name}" in DOCUMENTED or f"lithowatt.{name}" in DOCUMENTED


def test_what_the_reference_names_exists() -> None:
    assert len(DOCUMENTED) == len(set(DOCUMENTED)) > 100
    for name in DOCUMENTED:
        module, _, attribute = name.rpartition(".")
        try:
            getattr(importlib.import_module(module), attribute)
        except ImportError:
            # Two classes inherit from FlexExecutor's and are made where it is installed.
            assert attribute in {"EnergyDAGExecutor", "EnergyJolteon"}, name


@pytest.mark.slow
def test_the_site_builds_and_loads_nothing_from_the_net(tmp_path: Path) -> None:
    for needed in ("mkdocs", "material", "mkdocstrings_handlers.python"):
        try:
            importlib.import_module(needed)
        except ImportError as error:
            pytest.skip(f"the site cannot be built here: {error} (extra `docs`)")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "reference" / "api.html").read_text("utf-8")
    assert 'id="lithowatt.EnergyMeter.joules"' in page
    loads = (
        r'<(?:script|img|iframe|source)[^>]+src="https?:'
        r'|<link[^>]+rel="(?:stylesheet|preconnect|preload)"[^>]+href="https?:'
    )
    for path in tmp_path.rglob("*.html"):
        assert not re.search(loads, path.read_text("utf-8")), path.name
