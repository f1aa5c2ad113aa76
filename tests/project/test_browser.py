"""The fixture `browser` sees what a test of a page has to see."""

from __future__ import annotations

import base64
import struct
from pathlib import Path

import pytest

from tests.support.browser import Browser, serious

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>A page</title>
<style>body { color: #111; background: #fff }
@media (prefers-color-scheme: dark) { body { color: #eee; background: #000 } }</style>
<main><h1>A page</h1>%s</main></html>"""


@pytest.fixture
def page(tmp_path: Path):
    def write(body: str = "<p>Words</p>") -> Path:
        path = tmp_path / "page.html"
        path.write_text(PAGE % body)
        return path

    return write


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize(("scheme", "background"), [("light", "255"), ("dark", "0")])
def test_width_and_colour_scheme(browser: Browser, page, width, scheme, background, tmp_path):
    browser.open(page(), width=width, scheme=scheme)
    assert browser.run("return innerWidth") == width
    colour = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert colour.startswith(f"rgb({background},")
    data = browser.picture(tmp_path / "page.png").read_bytes()
    assert struct.unpack(">I", data[16:20]) == (width,)
    assert browser.axe() == []


def test_an_error_on_the_console_is_seen(browser: Browser, page):
    browser.open(page("<script>setTimeout(() => nothing.here, 0)</script>"))
    browser.wait(browser.severe, "an uncaught error")
    assert "nothing is not defined" in browser.severe()[0]
    browser.forget()
    assert browser.severe() == []


def test_what_a_page_asks_the_network_for_is_seen_and_refused(browser: Browser, page):
    dot = base64.b64encode(b"<svg xmlns='http://www.w3.org/2000/svg'/>").decode()
    inline = f"<img alt='' src='data:image/svg+xml;base64,{dot}'>"
    browser.open(page(inline + "<img alt='' src='http://example.org/x.png'>"))
    browser.wait(browser.severe, "a host that is not found")
    assert [url for url in browser.requests() if not url.startswith("file:")] == [
        "http://example.org/x.png"
    ]
    browser.forget()


def test_axe_finds_a_picture_without_a_text(browser: Browser, page):
    browser.open(page("<img src='data:image/gif;base64,R0lGODlhAQABAAAAACw='>"))
    found = browser.axe()
    assert [violation["id"] for violation in found] == ["image-alt"]
    assert serious(found)[0].startswith("image-alt: ")
