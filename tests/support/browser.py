"""A real Chromium without a screen: what a page draws, says and asks the network for."""

from __future__ import annotations

import base64
import importlib.util
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

T = TypeVar("T")

#: No name is looked up, so that a page that asks another host for something fails loudly.
ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--no-first-run",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
]


def unavailable_reason() -> str | None:
    """Why there is no browser here, or None."""
    if importlib.util.find_spec("selenium") is None:
        return "needs selenium (pip install 'lithowatt[test]')"
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        return "needs chromium and chromedriver (Debian: apt-get install chromium chromium-driver)"
    return None


def axe_script() -> str:
    """The text of axe-core. The package that holds it is not imported: it brings playwright."""
    found = importlib.util.find_spec("axe_playwright_python")
    if found is None or not found.submodule_search_locations:
        pytest.skip("needs axe-core (pip install 'lithowatt[test]')")
    return Path(found.submodule_search_locations[0], "axe.min.js").read_text(encoding="utf-8")


def axe(driver: Chrome, **options: Any) -> list[dict[str, Any]]:
    """What axe-core finds wrong with the page: violations, each with `id`, `impact`, `nodes`."""
    driver.execute_script(axe_script())
    answer = driver.execute_async_script(
        "const done = arguments[1];"
        "axe.run(document, arguments[0]).then(r => done({violations: r.violations}),"
        " e => done({error: String(e)}));",
        options,
    )
    assert "error" not in answer, answer
    return list(answer["violations"])


def serious(violations: list[dict[str, Any]]) -> list[str]:
    """Of violations, the serious and critical ones, a line each with where they are."""
    return [
        f"{v['id']}: {v['help']}: {'; '.join(str(n['target']) for n in v['nodes'][:5])}"
        for v in violations
        if v["impact"] in ("serious", "critical")
    ]


class Browser:
    """One tab. `driver` is selenium's own, for all that is not here."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver
        self._console: list[dict[str, Any]] = []
        self._requests: list[str] = []

    def open(
        self, url: str | Path, *, width: int = 1280, height: int = 900, scheme: str = "light"
    ) -> None:
        """Opens an address or a file at a window's size in CSS pixels, `light` or `dark`."""
        self.resize(width, height)
        self.color_scheme(scheme)
        self.driver.get(url.resolve().as_uri() if isinstance(url, Path) else url)

    def resize(self, width: int, height: int = 900) -> None:
        """Sets the window's size in CSS pixels: also below the least width of a real window."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def color_scheme(self, scheme: str) -> None:
        """What `prefers-color-scheme` says: `light` or `dark`."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script of JavaScript returns."""
        return self.driver.execute_script(script, *arguments)

    def wait(self, condition: Callable[[], T], what: str = "", seconds: float = 30.0) -> T:
        """The first true value of `condition`, which is asked again until then."""
        end = time.monotonic() + seconds
        while not (value := condition()):
            if time.monotonic() > end:
                pytest.fail(f"not within {seconds:g} s: {what or condition}; {self.console()}")
            time.sleep(0.05)
        return value

    def console(self) -> list[dict[str, Any]]:
        """Everything the console said since the last `forget`: `level`, `message`, `source`."""
        self._console += self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return self._console

    def severe(self) -> list[str]:
        """Errors on the console: uncaught ones, refused policies, what could not be loaded."""
        return [entry["message"] for entry in self.console() if entry["level"] == "SEVERE"]

    def requests(self) -> list[str]:
        """The addresses that pages asked for since the last `forget`, data: URLs left out."""
        for entry in self.driver.get_log("performance"):  # type: ignore[no-untyped-call]
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                url = message["params"]["request"]["url"]
                if not url.startswith(("data:", "blob:")):
                    self._requests.append(url)
        return self._requests

    def forget(self) -> None:
        """Forgets console and requests: for a test whose page has an error on purpose."""
        self.console()
        self.requests()
        self._console, self._requests = [], []

    def axe(self, **options: Any) -> list[dict[str, Any]]:
        """What axe-core finds wrong with the page that is open."""
        return axe(self.driver, **options)

    def picture(self, path: Path) -> Path:
        """The whole page as a PNG file, also what is below the window's edge."""
        asked = {"format": "png", "captureBeyondViewport": True}
        answer = self.driver.execute_cdp_cmd("Page.captureScreenshot", asked)
        path.write_bytes(base64.b64decode(answer["data"]))
        return path


@contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """A browser with its own profile in `folder`."""
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for argument in (*ARGUMENTS, f"--user-data-dir={folder}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # Named, so that selenium looks for none on the network.
    service = Service(executable_path=shutil.which("chromedriver"))
    driver = Chrome(options=options, service=service)
    driver.set_page_load_timeout(60)
    driver.set_script_timeout(100)
    try:
        yield Browser(driver)
    finally:
        driver.quit()
