"""What each worker of a repetition was given: the sidecar's `given`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from lithowatt.profiles._values import finite


class Given(NamedTuple):
    """What one worker may use.

    Attributes:
        cpus: CPUs.
        memory_mb: Memory, MiB.
        set_by: What sets it, e.g. `requests and limits of the pod`.
    """

    cpus: float | None
    memory_mb: float | None
    set_by: str

    def record(self) -> dict[str, Any]:
        """As a sidecar holds it."""
        return self._asdict()


def most_given(records: Iterable[Mapping[str, Any]]) -> Given | None:
    """What the workers of most of these records were given, `None` where no record tells.

    Example:
        >>> most_given([{"given": {"cpus": 4, "memory_mb": 16384, "set_by": "pod"}}, {}])
        Given(cpus=4.0, memory_mb=16384.0, set_by='pod')
    """
    told = [one["given"] for one in records if isinstance(one.get("given"), Mapping)]
    found = Counter(
        Given(_positive(one.get("cpus")), _positive(one.get("memory_mb")), str(one.get("set_by")))
        for one in told
    )
    return found.most_common(1)[0][0] if found else None


def _positive(value: Any) -> float | None:
    number = finite(value)
    return number if number is not None and number > 0 else None
