"""Sessions: repetitions that ran one soon after the other, on the same day and the same fleet.

What repetitions of one session have in common is no property of the configuration: machines, time
of day, other load. So a mean over them is about that session, however narrow its interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

import numpy as np

from lithowatt.profiles._runs import Ints, ProfileFile

#: A pause between two runs of one file that ends a session, s.
PAUSE_S = 3600.0


def sessions(file: ProfileFile) -> list[Ints]:
    """Of each configuration the session of each repetition, from 0 in the order of time.

    The times are those of the sidecar, or of Lithops' stats. -1 is a repetition of which there is
    none.
    """
    times = [
        np.array(
            [
                _time(runs.records[at]) if at < len(runs.records) else np.nan
                for at in range(runs.repetitions)
            ],
            dtype=np.float64,
        )
        for runs in file.configurations
    ]
    known = np.sort(np.concatenate([*times, np.zeros(0)]))
    known = known[np.isfinite(known)]
    begins = known[1:][np.diff(known) > PAUSE_S]
    return [
        np.where(np.isfinite(some), np.searchsorted(begins, some, side="right"), -1).astype(
            np.int64
        )
        for some in times
    ]


def _time(record: Mapping[str, Any] | None) -> float:
    """When a repetition was recorded, s since 1970; NaN where that is not known."""
    text = record.get("time") if isinstance(record, Mapping) else None
    if not isinstance(text, str):
        return np.nan
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return np.nan
    return (found if found.tzinfo else found.replace(tzinfo=timezone.utc)).timestamp()
