"""Total cost of ownership: dollars of running a stage for so long, and what that rests on."""

from __future__ import annotations

from typing import Any

from lithowatt.analysis.findings._context import (
    Context,
    Finding,
    by_value,
    identity,
    is_modelled,
    joules,
    named,
    used,
    why_not,
)
from lithowatt.analysis.selection import Selected
from lithowatt.carbon import emissions, pue_at
from lithowatt.cost import energy_cost
from lithowatt.estimate import Estimate


def total_cost(context: Context) -> Finding:
    """Dollars of a number of runs: the bill, electricity, carbon, and what keeping it costs."""
    given = context.assumptions
    runs = given.runs_per_month * given.months
    rows = [row for one in context.cells if (row := _row(context, one, runs)) is not None]
    rows = by_value(rows, "total_usd")
    notes = []
    for group in context.groups:
        some = [row for row in rows if (row["workload"], row["stage"]) == group[:2]]
        if some:
            best = some[0]
            notes.append(
                f"{group.workload} / {group.stage}: least with {named(best)}, "
                f"{best['total_usd']['value']:.4g} USD for {runs:.4g} runs"
            )
    return Finding(
        "USD of all runs: the bill as it is billed, electricity and carbon of their joules, and "
        "what keeping it costs each month; range: of the bill the interval of its mean, of "
        "electricity and carbon the band of the joules, of the total the sums of the ends",
        rows,
        (
            ("total USD", "total_usd"),
            ("bill", "bill_usd"),
            ("electricity", "electricity_usd"),
            ("carbon", "carbon_usd"),
            ("kg CO2e", "carbon_kg"),
        ),
        _assumed(context),
        notes,
        None if rows else why_not(context.cells, "cost_usd", "energy_j"),
        modelled=bool(rows) and is_modelled(context.cells),
    )


def _assumed(context: Context) -> list[str]:
    given = context.assumptions
    power = "in the price of a call" if given.usd_per_kwh == 0 else f"{given.usd_per_kwh:g} USD/kWh"
    grid = (
        f"that of {context.settings.region}"
        if given.gco2e_per_kwh is None
        else f"{given.gco2e_per_kwh:g} g CO2e/kWh"
    )
    return [
        f"{given.runs_per_month:g} runs a month for {given.months:g} months, all like those that "
        "were profiled, at today's prices",
        f"{given.usd_per_month:g} USD a month besides",
        f"electricity {power}; grid {grid}; {given.usd_per_tonne:g} USD a tonne of CO2e",
    ]


def _row(context: Context, one: Selected, runs: float) -> dict[str, Any] | None:
    given, region = context.assumptions, context.settings.region
    bill = context.measure(used(one, "cost_usd"), "USD")
    energy = joules(context, one)
    if bill is None and (energy is None or given.usd_per_kwh == 0):
        return None  # no dollar is known
    parts: dict[str, dict[str, Any] | None] = {"bill_usd": None, "electricity_usd": None}
    if bill is not None:
        low, high = bill["ci"] or (bill["value"], bill["value"])
        parts["bill_usd"] = _part(bill["value"] * runs, low * runs, high * runs, bill["n"])
    carbon_kg = None
    if energy is not None:
        all_joules = _estimate(energy, runs)
        grams = emissions(all_joules, region, intensity=given.gco2e_per_kwh, pue=given.pue)
        carbon_kg = {**_of(grams, 1e-3, energy["n"]), "unit": "kg CO2e", "source": grams.source}
        parts["carbon_usd"] = _of(grams, given.usd_per_tonne / 1e6, energy["n"])
        if given.usd_per_kwh > 0:
            usd = energy_cost(all_joules, given.usd_per_kwh, pue_at(region, None, given.pue))
            parts["electricity_usd"] = _of(usd, 1.0, energy["n"])
    kept = given.usd_per_month * given.months
    known = [part for part in parts.values() if part is not None]
    total = {
        "value": sum(part["value"] for part in known) + kept,
        "range": [sum(part["range"][end] for part in known) + kept for end in (0, 1)],
        "n": min(part["n"] for part in known),
        "unit": "USD",
    }
    return {
        **identity(one),
        "runs": runs,
        "total_usd": total,
        **parts,
        "kept_usd": kept,
        "carbon_kg": carbon_kg,
        "quality": None if energy is None else energy["quality"],
    }


def _estimate(energy: dict[str, Any], runs: float) -> Estimate:
    """Joules of all runs: within the band of how they were made, and within their scatter."""
    value = energy["value"]
    ranges = [one for one in (energy["band"], energy["ci"]) if one is not None]
    low = max(min([value, *(one[0] for one in ranges)]), 0.0)
    high = max([value, *(one[1] for one in ranges)])
    return Estimate(value * runs, low * runs, high * runs, f"{energy['quality']} joules")


def _of(estimate: Estimate, factor: float, n: int) -> dict[str, Any]:
    value, low, high = (end * factor for end in estimate[:3])
    return _part(value, low, high, n)


def _part(value: float, low: float, high: float, n: int) -> dict[str, Any]:
    return {"value": value, "range": [low, high], "n": n, "unit": "USD"}
