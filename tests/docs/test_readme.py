"""The README's Python runs as it stands there, and the names in it exist."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from lithowatt import EnergyMeter
from tests.support import TOP, snippets

README = TOP / "README.md"
SNIPPETS = re.findall(r"^```python\n(.*?)^```", README.read_text("utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.lithops
@pytest.mark.slow
@pytest.mark.parametrize("snippet", SNIPPETS, ids=["python", "lithops", "flexecutor"])
def test_a_snippet_of_the_readme_runs(snippet: str, tmp_path: Path) -> None:
    if "lithops" in snippet:
        pytest.importorskip("lithops")
    printed = snippets.run(snippet, tmp_path)
    if "print(" not in snippet:
        return
    assert re.search(r"\d\.\d+", printed), printed
    assert "None" not in printed.splitlines()[0]


def test_the_signature_is_the_meters() -> None:
    """Names, order, defaults, and from where on they are given by name."""
    (told,) = re.findall(r"^`EnergyMeter\((methods=.*?)\)`", README.read_text("utf-8"), re.S | re.M)
    real = [
        one.replace(annotation=one.empty)
        for one in inspect.signature(EnergyMeter).parameters.values()
    ]
    wanted = str(inspect.Signature(real)).strip("()").replace("'", '"')
    assert " ".join(told.split()) == wanted


def test_its_verbs_are_in_the_makefile() -> None:
    verbs = set(re.findall(r"(?:^|`)make ([a-z][a-z-]*)", README.read_text("utf-8"), re.M))
    assert {"demo", "test", "examples", "wheel"} <= verbs
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (TOP / "Makefile").read_text(), re.M))
    assert verbs <= targets


@pytest.mark.parametrize(
    "word", ["Linux only", "lithops-cloud.github.io", "minutes", "CVE-2020-8694"]
)
def test_a_stranger_is_told(word: str) -> None:
    assert word in README.read_text("utf-8")


def test_its_links_are_there() -> None:
    for document in [README, *sorted((TOP / "docs").rglob("*.md"))]:
        for target in re.findall(r"\]\(([^)#\s]+)", document.read_text("utf-8")):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_its_pictures_are_there_and_small() -> None:
    """A picture is no larger than a reader on a slow line waits for, and asks no other host."""
    pictures = re.findall(r'<img src="([^"]+)"[^>]* alt="[^"]+"', README.read_text("utf-8"))
    assert len(pictures) >= 2
    for picture in pictures:
        content = (TOP / picture).read_bytes()
        assert 1000 < len(content) <= 150_000, picture
        assert picture.endswith(".png") or b"url(" not in content.replace(b"url(#", b"")
