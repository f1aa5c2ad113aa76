"""The table of what each machine showed, printed when the tests end and written as JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from typing import Any

from tests.kernel.machines import Outcome
from tests.kernel.scenarios import SCENARIOS, Scenario

HEADER = ("scenario", "window", "domain", "truth", "powercap", "perf", "bands, 50 ms")

_noted: list[Outcome] = []
_guests: list[dict[str, Any]] = []


def note(outcome: Outcome) -> None:
    """Keeps what a machine's job came to."""
    _noted.append(outcome)


def add_guest(
    share: str, window: dict[str, Any], truth: tuple[float, float, float], held: bool
) -> None:
    """Keeps a window of a guest: least, middle, most of what its host wrote of it, J."""
    names = ("seconds", "spins", "guest", "joules")
    _guests.append({"share": share, "truth": truth, "held": held} | {n: window[n] for n in names})


def _guest_lines() -> Iterator[str]:
    """A line for each way to mount and each length: sums, and how often the bands held."""
    kinds = dict.fromkeys((one["share"], one["seconds"], one["spins"]) for one in _guests)
    for share, seconds, spins in kinds:
        its = [
            one
            for one in _guests
            if (one["share"], one["seconds"], one["spins"]) == (share, seconds, spins)
        ]
        least, _, most = (sum(one["truth"][i] for one in its) for i in range(3))
        read = sum(one["guest"][0] for one in its)
        half = statistics.median((one["guest"][2] - one["guest"][1]) / 2 for one in its)
        held = sum(one["held"] for one in its)
        kind = "busy" if spins else "at rest"
        yield (
            f"guest, {share}, windows of {seconds} s, {kind}: host {least:.2f} to {most:.2f} J, "
            f"guest {read:.2f} J, band ±{half:.2f} J, held {held}/{len(its)}"
        )


def report() -> dict[str, Any]:
    """Everything as data: joules, bands, errors relative to the truth, seconds."""
    machines = {
        one.machine.name: {
            "kernel": one.kernel,
            "booted_after_s": one.booted,
            "boots": one.boots,
            "seconds": round(one.seconds, 1),
            "cpu_seconds": round(one.cpu_seconds, 1),
            "complete": one.complete,
        }
        for one in _noted
    }
    return {
        "machines": machines,
        "rows": list(_rows()),
        "start_stop_ms": dict(_costs()),
        "guests": list(_guests),
    }


def lines() -> list[str]:
    """The table for people, and the times below it."""
    guests = list(_guest_lines())
    if not _noted:
        return guests
    data = report()
    table = [HEADER, *(_cells(row) for row in data["rows"])]
    widths = [max(len(row[i]) for row in table) for i in range(len(HEADER))]
    text = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
    for name, (start, stop) in data["start_stop_ms"].items():
        text.append(f"{name}: start {start:.2f} ms, stop {stop:.2f} ms, of an emulated processor")
    for name, told in data["machines"].items():
        state = "" if told["complete"] else ", NOT COMPLETE"
        if told["boots"] > 1:
            state += f", booted {told['boots']} times: its kernel ended before the tests began"
        text.append(
            f"{name}: Linux {told['kernel']}, {told['seconds']:.0f} s in all, "
            f"{told['cpu_seconds']:.0f} s of CPU time{state}"
        )
    return text + guests


def write(path: str) -> None:
    """Writes :func:`report` to a file."""
    with open(path, "w", encoding="utf-8") as file:
        json.dump(report(), file, indent=1)


def _steps() -> Iterator[tuple[Scenario, str, dict[str, Any]]]:
    by_name = {scenario.name: scenario for scenario in SCENARIOS}
    for outcome in _noted:
        for result in outcome.results:
            yield by_name[result["scenario"]], result["step"]["name"], result["found"]


def _rows() -> Iterator[dict[str, Any]]:
    for scenario, step, found in _steps():
        for which in ("long", "after"):
            window = found.get(which)
            if window is None:
                continue
            seconds = (window["window"][1] - window["window"][0]) * 1e-9
            for domain, watts in scenario.watts("rapl").items():
                of_perf = scenario.watts("perf")[domain]
                if watts is None and of_perf is None:
                    continue
                yield {
                    "scenario": scenario.name,
                    "window": step if which == "long" else f"{step}: next window",
                    "domain": domain,
                    "seconds": seconds,
                    "rapl": _judged(watts, window, "rapl", domain, seconds),
                    "perf": _judged(of_perf, window, "perf", domain, seconds),
                    "held": _held(scenario, found, domain) if which == "long" else {},
                    "warnings": window["warnings"],
                }


def _judged(
    watts: float | None, window: dict[str, Any], method: str, domain: str, seconds: float
) -> dict[str, Any]:
    estimate = window[method][domain]
    told: dict[str, Any] = {"truth": None if watts is None else watts * seconds}
    if estimate is None:
        reasons = window["reasons"][method]
        return {**told, "joules": None, "reason": reasons.get(domain) or window[f"{method}_source"]}
    joules, low, high = estimate
    error = None if watts is None else joules / (watts * seconds) - 1
    return {**told, "joules": joules, "low": low, "high": high, "error": error}


def _held(scenario: Scenario, found: dict[str, Any], domain: str) -> dict[str, str]:
    held = {}
    for method in ("rapl", "perf"):
        watts = scenario.watts(method)[domain]
        windows = [one for one in found.get("short", ()) if one[method][domain] is not None]
        if watts is None or not windows:
            continue
        inside = 0
        for one in windows:
            _, low, high = one[method][domain]
            inside += low <= watts * (one["window"][1] - one["window"][0]) * 1e-9 <= high
        held[method] = f"{inside}/{len(windows)}"
    return held


def _costs() -> Iterator[tuple[str, tuple[float, float]]]:
    for scenario, _, found in _steps():
        if "empty" in found:
            # The first one opens the sources.
            times = found["empty"][1:]
            start = statistics.median(times[i][1] - times[i][0] for i in range(len(times)))
            stop = statistics.median(times[i][3] - times[i][2] for i in range(len(times)))
            yield scenario.name, (start * 1e-6, stop * 1e-6)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    truths = [row[method]["truth"] for method in ("rapl", "perf")]
    truth = " / ".join(f"{one:.2f} J" for one in dict.fromkeys(truths) if one is not None)
    return (
        row["scenario"],
        row["window"],
        row["domain"],
        truth,
        _cell(row["rapl"]),
        _cell(row["perf"]),
        ", ".join(f"{method} {held}" for method, held in row["held"].items()),
    )


def _cell(told: dict[str, Any]) -> str:
    if told["joules"] is None:
        return "-" if told["truth"] is None else "none, with its reason"
    error = "" if told["error"] is None else f" ({told['error']:+.2%})"
    return f"{told['joules']:.2f} [{told['low']:.2f}, {told['high']:.2f}]{error}"
