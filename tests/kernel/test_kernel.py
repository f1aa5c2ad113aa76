"""Linux's own RAPL drivers, over registers of known power, metered from above.

Each machine boots once, in an emulator. ``make test-kernel`` runs these and prints their table.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.kernel import table
from tests.kernel.machines import Outcome, boot, image
from tests.kernel.scenarios import CONTROLLER_WATTS, MACHINES, SCENARIOS, Scenario

# Beside the boot of a machine, its image is made.
pytestmark = [pytest.mark.kernel, pytest.mark.timeout(1800)]

MOST_ERROR = 0.005
"""Relative, in a window of 2 s."""

QUICK = 0.01
"""Starting and stopping a meter takes no longer, s, unless the host does something else."""

LEAST_HELD = 16
"""Of 20 short windows so many bands hold at least; a 95 % band's fewer in 0.3 % of runs."""

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
COMPLETE = [
    (scenario.name, step)
    for scenario in SCENARIOS
    for step, told in scenario.steps.items()
    if told["kind"] in ("plain", "wrap") and not told.get("user")
]
COMING_AND_GOING = [
    (scenario.name, step)
    for scenario in SCENARIOS
    for step, told in scenario.steps.items()
    if told["kind"] in ("switch", "reload")
]

Metered = Callable[[str, str], dict[str, Any]]


@pytest.fixture(scope="session")
def folder() -> Path:
    """Where kernel and image are; skips where they cannot be had."""
    made, why = image()
    if made is None:
        pytest.skip(why)
    return made


@pytest.fixture(scope="session")
def outcome(folder: Path) -> Callable[[str], Outcome]:
    """What a machine's job came to; it boots when it is asked for first."""

    @cache
    def run(name: str) -> Outcome:
        done = boot(MACHINES[name], folder)
        table.note(done)
        return done

    return run


@pytest.fixture
def metered(outcome: Callable[[str], Outcome]) -> Metered:
    """What a step of a scenario found."""

    def found(scenario: str, step: str) -> dict[str, Any]:
        done = outcome(BY_NAME[scenario].machine)
        for result in done.results:
            if (result["scenario"], result["step"]["name"]) == (scenario, step):
                assert "failed" not in result["found"], result["found"]["failed"]
                return {**result["found"], "zones": result["zones"]}
        raise AssertionError(f"the machine did not come so far:\n{done.console[-4000:]}")

    return found


def truth(watts: float, window: dict[str, Any]) -> tuple[float, float]:
    """The least and the most that the counters can have counted in a window, J.

    The window begins while the meter starts and ends while it stops, whichever times the meter
    states; the registers change once in a millisecond.
    """
    before, begun, ending, ended = (at * 1e-9 for at in window["times"])
    return watts * (ending - begun - 1e-3), watts * (ended - before + 1e-3)


def check(scenario: Scenario, window: dict[str, Any], method: str) -> None:
    """Each domain is the truth's, and within its band; a domain that is not there has none.

    The truth is that of the window as the meter states it, which lies where it was started and
    stopped.
    """
    before, begun, ending, ended = window["times"]
    start, end = window["window"]
    assert before <= start <= begun <= ending <= end <= ended
    seconds = (end - start) * 1e-9
    # Where the host halted the machine at an edge, nothing shows when the counters were read.
    halted = max(0.0, (begun - before + ended - ending) * 1e-9 - QUICK)
    for domain, watts in scenario.watts(method).items():
        estimate = window[method][domain]
        if watts is None:
            assert estimate is None, (method, domain)
            continue
        assert estimate is not None, (method, domain, window["reasons"], window[f"{method}_source"])
        joules, low, high = estimate
        least, most = truth(watts, window)
        allowed = watts * (seconds * MOST_ERROR + halted)
        assert joules == pytest.approx(watts * seconds, abs=allowed), (method, domain)
        assert low <= most and high >= least, (method, domain)


@pytest.mark.parametrize("method", ["rapl", "perf"])
@pytest.mark.parametrize(("scenario", "step"), COMPLETE)
def test_a_long_window_counts_the_known_power(
    scenario: str, step: str, method: str, metered: Metered
) -> None:
    check(BY_NAME[scenario], metered(scenario, step)["long"], method)


@pytest.mark.parametrize("method", ["rapl", "perf"])
@pytest.mark.parametrize("scenario", list(BY_NAME))
def test_bands_of_short_windows_hold(scenario: str, method: str, metered: Metered) -> None:
    for domain, watts in BY_NAME[scenario].watts(method).items():
        if watts is None:
            continue
        held = 0
        for window in metered(scenario, "windows")["short"]:
            _, low, high = window[method][domain]
            least, most = truth(watts, window)
            held += low <= most and high >= least
        assert held >= LEAST_HELD, domain


@pytest.mark.parametrize("scenario", list(BY_NAME))
def test_doctor_names_the_counters(scenario: str, metered: Metered) -> None:
    found = metered(scenario, "windows")
    methods = {method["method"]: method for method in found["doctor"]["methods"]}
    assert methods["rapl"]["available"] and methods["perf"]["available"]
    packages = [name for name in methods["rapl"]["gives"] if name.startswith("package-")]
    assert len([name for name in packages if "/" not in name]) == len(BY_NAME[scenario].package)
    assert "measured joules by rapl" in found["doctor"]["text"]


def test_a_mask_that_names_every_cpu_counts_a_package_once(metered: Metered) -> None:
    found = metered("PMU in the powercap driver", "windows")
    # Else this is not the kernel's new PMU.
    assert found["zones"]["pmus"]["power"]["cpumask"] == "0-3"
    check(BY_NAME["PMU in the powercap driver"], found["long"], "perf")


@pytest.mark.parametrize(("scenario", "step"), COMING_AND_GOING)
@pytest.mark.parametrize("method", ["rapl", "perf"])
def test_what_comes_and_goes_within_a_window_is_right_or_has_a_reason(
    scenario: str, step: str, method: str, metered: Metered
) -> None:
    window = metered(scenario, step)["long"]
    for domain, watts in BY_NAME[scenario].watts(method).items():
        if watts is None:
            continue
        estimate = window[method][domain]
        least, most = truth(watts, window)
        if estimate is None:
            reasons = window["reasons"][method]
            assert reasons.get(domain) or window[f"{method}_source"].startswith("unavailable")
            continue
        _, low, high = estimate
        assert low <= most and high >= least, domain


@pytest.mark.parametrize(("scenario", "step"), COMING_AND_GOING)
@pytest.mark.parametrize("method", ["rapl", "perf"])
def test_what_came_back_is_counted_in_the_next_window(
    scenario: str, step: str, method: str, metered: Metered
) -> None:
    check(BY_NAME[scenario], metered(scenario, step)["after"], method)


def test_a_plain_user_is_told_the_command(metered: Metered) -> None:
    found = metered("client with psys and uncore", "plain user")
    assert found["long"]["rapl_source"].startswith("unavailable: ")
    assert found["long"]["perf_source"].startswith("unavailable: ")
    assert found["long"]["rapl"]["package"] is None and found["long"]["perf"]["package"] is None
    methods = {method["method"]: method for method in found["doctor"]["methods"]}
    assert "setup --group" in methods["rapl"]["fix"]
    assert "perf_event_paranoid=0" in methods["perf"]["fix"]
    assert "MODELLED" in found["doctor"]["text"]


def test_perf_counts_for_a_plain_user_where_it_is_allowed(metered: Metered) -> None:
    scenario = BY_NAME["client with psys and uncore"]
    found = metered(scenario.name, "plain user, perf allowed")
    check(scenario, found["long"], "perf")
    assert found["long"]["rapl"]["package"] is None
    assert found["long"]["method"].startswith("perf")


@pytest.mark.parametrize("scenario", [one.name for one in SCENARIOS if "cost" in one.steps])
def test_starting_and_stopping(scenario: str, metered: Metered) -> None:
    # Its times are in the table; none of them fails a test.
    assert metered(scenario, "cost")["empty"]


def test_a_management_controller_is_read_by_the_kernels_driver(folder: Path) -> None:
    done = boot(MACHINES["bmc"], folder)
    assert done.results, done.console[-4000:]
    found = done.results[0]["found"]
    assert found.get("energy"), found
    joules, low, high = found["energy"]
    true = CONTROLLER_WATTS * found["seconds"]
    assert joules == pytest.approx(true, rel=MOST_ERROR)
    assert low < true < high
    # The counter beside it is the processor's alone.
    assert found["package"] == pytest.approx(50 * found["seconds"], rel=0.05)
    # Of DCMI nothing was asked but the reading.
    dcmi = {one for one in done.asked if one[0] == 0x2C}
    assert dcmi == {(0x2C, 0x02, b"\xdc\x01\x00\x00")}
