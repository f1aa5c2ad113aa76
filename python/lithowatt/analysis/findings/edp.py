"""Energy-delay product: joules times seconds of each run, and joules times seconds squared."""

from __future__ import annotations

import numpy as np

from lithowatt.analysis.findings._context import (
    SAME_WORK,
    Context,
    Finding,
    by_value,
    identity,
    is_modelled,
    used,
    why_not,
)


def energy_delay_product(context: Context) -> Finding:
    """J·s and J·s² of a run: made of each run's own joules and seconds, then averaged."""
    rows = []
    for one in context.cells:
        energy, time = used(one, "energy_j"), used(one, "time_s")
        edp = context.measure(energy * time, "J·s")
        if edp is None:
            continue
        known = np.isfinite(energy * time)
        low, high = (band[one.used][known] for band in (one.joules.low, one.joules.high))
        band = [float((end * time[known]).mean()) for end in (low, high)]
        rows.append(
            {
                **identity(one),
                "edp": {
                    **edp,
                    "quality": one.energy_quality(),
                    "band": band if np.isfinite(band).all() else None,
                },
                "ed2p": context.measure(energy * time**2, "J·s²"),
                "cpu_seconds_times_time": context.measure(used(one, "cpu_seconds_s") * time, "s²"),
            }
        )
    return Finding(
        "joules of a run times its seconds (time_s); ed2p with the seconds squared, for those to "
        "whom time matters more",
        by_value(rows, "edp"),
        (("EDP J·s", "edp"), ("ED2P J·s²", "ed2p")),
        (SAME_WORK,),
        context.unequal_work if rows else (),
        reason=None if rows else why_not(context.cells, "energy_j", "time_s"),
        modelled=bool(rows) and is_modelled(context.cells),
    )
