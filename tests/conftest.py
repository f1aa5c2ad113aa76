"""What all tests share: the simulated machine, and no settings from outside."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from lithowatt import _core
from rig import Rig
from tests.run_suites import FAST, SIDE_BY_SIDE
from tests.support import kernel_probes
from tests.support.browser import Browser, chromium, unavailable_reason

# How long it takes to make an example says how busy the machine is. And the examples are the same
# in every run, so that a new one does not stop who changes something else; HYPOTHESIS_RANDOM=1
# looks for others.
settings.register_profile(
    "any-speed",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=not os.environ.get("HYPOTHESIS_RANDOM"),
)
settings.load_profile("any-speed")


#: By what `-m` asks for, the marks of which one leaves a test out.
LEFT_OUT = {
    chosen: set(re.findall(r"\w+", chosen)) - {"not", "or"} for chosen in (FAST, SIDE_BY_SIDE)
}


def pytest_configure() -> None:
    """Programs that tests start find what they would find in an ordinary shell."""
    # Python's own switches change what users' programs print, and when.
    for name in ("PYTHONUNBUFFERED", "PYTHONDEVMODE", "PYTHONWARNINGS", "PYTHONOPTIMIZE"):
        os.environ.pop(name, None)
    # What a script starts with `&` ignores SIGINT, under nohup SIGHUP, and hands that on to all it
    # starts. A handler that does nothing ignores as well, and is not handed on.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT, signal.SIGCHLD):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leaves a file unread that the run leaves out as a whole: to read one takes a while."""
    left_out = LEFT_OUT.get(config.option.markexpr)
    if left_out is None or not collection_path.name.startswith("test_"):
        return None
    marked = re.search(r"^pytestmark = (.+|\[[^]]*\])$", collection_path.read_text(), re.MULTILINE)
    marks = set(re.findall(r"pytest\.mark\.(\w+)", marked[1])) if marked else set()
    return True if marks & left_out else None


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what runs the simulated machine or needs a quiet one, and begins with the slow."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if "live" in fixtures:
            # Its power follows what the whole machine does.
            item.add_marker("rig")
        if fixtures & {"live", "steady"}:
            item.add_marker("quiet")
        if "browser" in fixtures:
            item.add_marker("slow")
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def live() -> None:
    """Skips where the simulated machine cannot run; else it is built once this returns."""
    reason = Rig.unavailable_reason()
    if reason is not None:
        pytest.skip(reason)
    Rig.build()


@pytest.fixture(scope="module", autouse=True)
def _probes_as_found() -> Iterator[None]:
    """Kernel probes that a file's tests load go with them: other tests meter without."""
    before = kernel_probes.are_loaded()
    yield
    if not before and kernel_probes.are_loaded():
        _core.unload_probes()


@pytest.fixture(scope="session")
def _state_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(autouse=True)
def _isolated(_state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No stored calibration and no settings from outside reach a test."""
    for name in list(os.environ):
        if name.startswith(("ENERGY_", "LITHOWATT_")) and name != "LITHOWATT_FULL":
            monkeypatch.delenv(name)
    monkeypatch.setenv("LITHOWATT_STATE_DIR", str(_state_dir))


@pytest.fixture
def steady() -> Callable[[Callable[[], None]], None]:
    """Runs a check up to three times: on a busy machine clocks, not meters, may be late.

    As a decorator of a function without arguments, which it calls::

        @steady
        def check() -> None: ...
    """

    def run(check: Callable[[], None]) -> None:
        for _ in range(2):
            try:
                return check()
            except AssertionError:
                continue
        return check()

    return run


# Its processes are children of the tests': they end with the file that asked for them.
@pytest.fixture(scope="module")
def _chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    reason = unavailable_reason()
    if reason is not None:
        pytest.skip(reason)
    with chromium(tmp_path_factory.mktemp("chromium")) as made:
        yield made


@pytest.fixture
def browser(_chromium: Browser) -> Iterator[Browser]:
    """A headless Chromium. The test fails where its pages put an error on the console."""
    _chromium.forget()
    yield _chromium
    _chromium.driver.get("about:blank")
    severe = _chromium.severe()
    assert not severe, "the console has errors:\n" + "\n".join(severe)
