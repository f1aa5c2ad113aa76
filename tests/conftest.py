"""What all tests share: the simulated machine, and no settings from outside."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
for folder in (TESTS / "rig", TESTS):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

from rig import Rig  # noqa: E402


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
    from lithowatt import UnavailableError, _core

    def loaded() -> bool:
        try:
            _core.Probes()
        except UnavailableError:
            return False
        return True

    before = loaded()
    yield
    if not before and loaded():
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
