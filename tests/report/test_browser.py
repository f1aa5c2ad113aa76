"""The page of a report in a real browser: no error, hovering, filters, the keyboard, axe-core."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lithowatt import report
from tests.support.browser import Browser, serious
from tests.support.made_profiles import EPYC, XEON, Kind, write
from tests.support.measured_profiles import DATA

KIND = Kind(workers=(2, 4, 8), repetitions=6, seed=1, mix={XEON: 0.6, EPYC: 0.4})
KINDS = (
    KIND,
    replace(KIND, architecture="arm64", work_s=40.0, mix={}, seed=2),
    replace(KIND, memory_mb=512, seed=3),
    replace(KIND, workload="video", stage="split", seed=4),
)

PLOTS = ("time-cost", "time-energy", "repetitions", "ratios", "scaling", "phases", "timeline")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("report")
    write(place / "in", *KINDS)
    report.write_report(place / "in", place / "r.html")
    return place / "r.html"


def opened(browser: Browser, page: Path, **how: Any) -> None:
    browser.open(page, **how)
    ready = "return window.lithowatt && lithowatt.figures.every((one) => one.view)"
    browser.wait(lambda: browser.run(ready), "all plots drawn")


SIZES = pytest.mark.parametrize("width", [1280, 390])
SCHEMES = pytest.mark.parametrize("scheme", ["light", "dark"])


@SIZES
@SCHEMES
def test_nothing_is_wrong_with_the_page(
    browser: Browser, page: Path, width: int, scheme: str
) -> None:
    opened(browser, page, width=width, scheme=scheme)
    browser.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert browser.run("return document.documentElement.scrollWidth") <= width
    found = serious(browser.axe())
    assert not found, "\n".join(found)
    assert browser.requests() == [page.as_uri()]
    assert [one["message"] for one in browser.console()] == []


def test_every_plot_is_there(browser: Browser, page: Path) -> None:
    opened(browser, page)
    drawn = browser.run("return lithowatt.figures.map((one) => one.plot.name)")
    assert tuple(drawn) == PLOTS
    sizes = browser.run(
        "return [...document.querySelectorAll('.plot canvas')].map((one) => one.width * one.height)"
    )
    assert len(sizes) == len(PLOTS) and all(size > 10_000 for size in sizes)


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_answers_to_hover_keyboard_and_filter(
    browser: Browser, page: Path, name: str
) -> None:
    opened(browser, page)
    figure = f"lithowatt.figures.find((one) => one.plot.name === {name!r})"
    frame = f"document.querySelector('figure[data-plot=\"{name}\"] .plot')"
    readout = f"document.querySelector('figure[data-plot=\"{name}\"] .readout').textContent"
    browser.run(f"{frame}.scrollIntoView({{block: 'center', behavior: 'instant'}})")

    # The keyboard goes from dot to dot, and says what it is at.
    browser.run(f"{frame}.focus()")
    from selenium.webdriver.common.keys import Keys

    def press(*keys: str) -> None:
        for key in keys:
            browser.driver.switch_to.active_element.send_keys(key)

    press(Keys.ARROW_RIGHT)
    first = browser.run(f"return {readout}")
    press(Keys.ARROW_RIGHT)
    second = browser.run(f"return {readout}")
    press(Keys.ARROW_LEFT)
    assert browser.run(f"return {readout}") == first != second
    assert "stage pi / stage" in first and "workers" in first
    press(Keys.END)
    assert (
        browser.run(f"return {figure}.at") == browser.run(f"return {figure}.visited().length") - 1
    )

    # The mouse is told the same of the dot under it.
    spot = browser.run(
        f"""
        const figure = {figure};
        const box = {frame}.querySelector('canvas').getBoundingClientRect();
        const found = [];
        const walk = (item, x, y) => {{
          for (const one of item.items || []) {{
            if (one.mark && one.datum && one.datum.id !== undefined && one.tooltip) {{
              const dx = one.width ? one.width / 2 : 0, dy = one.height ? one.height / 2 : 0;
              found.push([x + (one.x || 0) + dx, y + (one.y || 0) + dy]);
            }} else if (one.items) walk(one, x + (one.x || 0), y + (one.y || 0));
          }}
        }};
        walk(figure.view.scenegraph().root, 0, 0);
        const [left, top] = figure.view.origin();
        const padding = figure.view.padding();
        const at = found[Math.floor(found.length / 2)];
        return [box.left + padding.left + left + at[0], box.top + padding.top + top + at[1]];
        """
    )
    browser.driver.execute_cdp_cmd(
        "Input.dispatchMouseEvent", {"type": "mouseMoved", "x": spot[0], "y": spot[1]}
    )
    tip = browser.wait(
        lambda: browser.run(
            "const tip = document.querySelector('.tip'); return tip && tip.innerText"
        ),
        "a box beside the mouse",
    )
    assert "stage pi / stage" in tip and "workers" in tip

    # A filter leaves what it names, in the plot and in its table.
    before = browser.run(f"return {figure}.visited().length")
    browser.run(
        """
        const select = document.querySelector('select[name="workers"]');
        select.value = '4';
        select.dispatchEvent(new Event('change'));
        """
    )
    left = browser.run(f"return {figure}.visited().map((one) => one.workers)")
    assert set(left) == {4} and (len(left) < before or name == "timeline")
    assert browser.run(f"return {figure}.view.background()") in (None, "transparent")
    browser.run(f"document.querySelector('figure[data-plot=\"{name}\"] .twin').open = true")
    rows = browser.wait(
        lambda: browser.run(
            f"return {frame}.parentElement.querySelectorAll('.twin tbody tr').length"
        ),
        "rows of the table",
    )
    assert rows == len(left)


def test_what_is_left_by_no_filter_is_said(browser: Browser, page: Path) -> None:
    opened(browser, page)
    browser.run(
        """
        for (const [name, value] of [['stage', 'video / split'], ['arch', 'arm64']]) {
          const select = document.querySelector(`select[name="${name}"]`);
          select.value = value;
          select.dispatchEvent(new Event('change'));
        }
        """
    )
    text = browser.run("return document.querySelector('figure .readout').textContent")
    assert text == "Nothing is left by this filter."


def test_the_colours_follow_the_scheme(browser: Browser, page: Path) -> None:
    opened(browser, page, scheme="light")
    get = "return getComputedStyle(document.body).backgroundColor"
    light = browser.run(get)
    browser.color_scheme("dark")
    assert browser.run(get) != light
    # The plots are drawn on the page's colour, with letters that stand out from it.
    colours = """
        const canvas = document.querySelector('.plot canvas');
        const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        let light = 0, dark = 0, clear = 0;
        for (let at = 0; at < pixels.length; at += 4) {
          if (pixels[at + 3] < 20) clear += 1;
          else if (pixels[at] > 200 && pixels[at + 1] > 200 && pixels[at + 2] > 200) light += 1;
          else if (pixels[at] < 40 && pixels[at + 1] < 40 && pixels[at + 2] < 40) dark += 1;
        }
        return [light, dark, clear, pixels.length / 4];
    """

    def letters_are_light() -> bool:
        bright, dark, clear, whole = browser.run(colours)
        return clear > whole / 2 and bright > 100 and dark < bright / 4

    browser.wait(letters_are_light, "light letters on the dark page")


def test_the_page_of_measured_profiles(browser: Browser, tmp_path: Path) -> None:
    folder = DATA / "profiles"
    if not folder.is_dir():
        pytest.skip(f"no measured profiles in {folder} (set LITHOWATT_DATA)")
    page = tmp_path / "r.html"
    report.write_report(folder, page)
    for width, scheme in ((1280, "light"), (390, "dark")):
        opened(browser, page, width=width, scheme=scheme)
        assert browser.run("return document.documentElement.scrollWidth") <= width
        found = serious(browser.axe())
        assert not found, "\n".join(found)
        text = browser.run("return document.querySelector('main').innerText")
        for told in ("No joule was measured", "12 workers of 1024 MB, arm64", "drift"):
            assert told in text
