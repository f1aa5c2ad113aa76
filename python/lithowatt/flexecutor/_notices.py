"""What a user should know of a stage's joules, logged once and not for every call."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from lithowatt.flexecutor._estimate import METHOD
from lithowatt.profiles._values import WARNING_SEPARATOR, has_energy
from lithowatt.stats import PREFIX

logger = logging.getLogger("lithowatt")

#: More kinds of notices than these are not logged: something else is wrong then.
MOST = 50

_said: set[str] = set()


def say(stage: str, times: Sequence[Any], stats: Sequence[Any] = ()) -> None:
    """Logs what makes the joules of a stage's calls doubtful, each kind once in this process.

    Args:
        stage: Its id.
        times: A FunctionTimes of each call.
        stats: Lithops' stats of each call.
    """
    without = sum(getattr(one, "energy_method", None) == METHOD for one in times)
    if without:
        _once(
            "no wheel",
            "stage %s: %d of %d calls ran in a worker without lithowatt, their joules are the "
            "client's estimate (energy_quality modelled, energy_method %s); install the lithowatt "
            "wheel in the workers' runtime",
            stage,
            without,
            len(times),
            METHOD,
        )
    if any(_foreign(one) for one in stats):
        _once(
            "foreign",
            "stage %s: the workers' Lithops has a meter of its own; what it leaves in "
            "%s is not used (see lithowatt lithops status)",
            stage,
            PREFIX + "energy_consumption",
        )
    texts: Counter[str] = Counter()
    for one in times:
        warnings = getattr(one, "energy_warnings", None)
        if isinstance(warnings, str) and getattr(one, "energy_method", None) != METHOD:
            texts.update(set(warnings.split(WARNING_SEPARATOR)))
    for text, count in texts.items():
        # The same warning with other numbers is the same.
        kind = re.sub(r"\d+(\.\d+)?", "#", text)
        _once(kind, "stage %s, %d of %d calls: %s", stage, count, len(times), text)


def _foreign(stats: Any) -> bool:
    if not isinstance(stats, Mapping) or has_energy(stats):
        return False
    return stats.get(PREFIX + "energy_consumption") is not None


def _once(kind: str, message: str, *values: object) -> None:
    if kind not in _said and len(_said) < MOST:
        _said.add(kind)
        logger.warning(message, *values)
