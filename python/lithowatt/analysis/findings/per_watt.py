"""Performance per watt: runs for each kilojoule, and for each CPU hour, which was observed."""

from __future__ import annotations

from typing import Any

import numpy as np

from lithowatt.analysis.findings._context import (
    SAME_WORK,
    Context,
    Finding,
    by_value,
    ends,
    identity,
    is_modelled,
    joules,
    used,
    why_not,
)


def performance_per_watt(context: Context) -> Finding:
    """Runs per second for each watt, which is runs per joule."""
    rows = []
    for one in context.cells:
        energy = joules(context, one)
        if energy is None:
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            watts = used(one, "energy_j") / used(one, "time_s")
        cpu = context.measure(used(one, "cpu_seconds_s"), "s")
        rows.append(
            {
                **identity(one),
                "runs_per_kj": {
                    **_inverse(energy, 1000, "runs/kJ"),
                    "quality": energy["quality"],
                    "band": _turned(energy["band"], 1000),
                },
                "watts": context.measure(watts, "W"),
                "runs_per_cpu_hour": None if cpu is None else _inverse(cpu, 3600, "runs/CPU h"),
            }
        )
    return Finding(
        "runs of the stage per second for each watt of all its workers: runs per joule, from the "
        "mean joules of a run",
        by_value(rows, "runs_per_kj", -1),
        (
            ("runs/kJ", "runs_per_kj"),
            ("W", "watts"),
            ("runs/CPU h", "runs_per_cpu_hour"),
        ),
        (SAME_WORK,),
        context.unequal_work if rows else (),
        reason=None if rows else why_not(context.cells, "energy_j"),
        modelled=bool(rows) and is_modelled(context.cells),
    )


def _inverse(measure: dict[str, Any], scale: float, unit: str) -> dict[str, Any]:
    value = measure["value"]
    return {
        "value": scale / value if value else np.nan,
        "ci": _turned(measure["ci"], scale),
        "n": measure["n"],
        "unit": unit,
    }


def _turned(interval: list[float] | None, scale: float) -> list[float] | None:
    """The interval of what is divided by; `None` where that may be 0."""
    if interval is None or interval[0] <= 0:
        return None
    return ends((scale / interval[1], scale / interval[0]))
