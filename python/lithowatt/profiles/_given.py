"""What each worker of a repetition was given: the sidecar's `given`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from lithowatt._support.arguments import shown
from lithowatt.profiles._values import positive

#: More CPUs than any machine has; Linux allows 8192.
MOST_CPUS = 65_536

#: More memory than any machine has, MiB: 1 PiB.
MOST_MEMORY_MB = 2.0**30

#: The numbers of a worker, each with the most that it can be.
_MOST = {"cpus": MOST_CPUS, "memory_mb": MOST_MEMORY_MB}


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


def common_given(records: Sequence[Mapping[str, Any]]) -> Given | None:
    """What the workers of all these records were given, `None` where no record tells.

    What differs between them is `None`, see `faults`.

    Example:
        >>> common_given([{"given": {"cpus": 4, "memory_mb": 16384, "set_by": "pod"}}, {}])
        Given(cpus=4.0, memory_mb=16384.0, set_by='pod')
    """
    told = [one["given"] for one in records if isinstance(one.get("given"), Mapping)]
    if not told:
        return None
    cpus, memory = (_told(told, name) for name in _MOST)
    return Given(
        cpus[0] if len(cpus) == 1 else None,
        memory[0] if len(memory) == 1 else None,
        ", ".join(dict.fromkeys(str(one.get("set_by")) for one in told)),
    )


def _told(given: Iterable[Mapping[str, Any]], name: str) -> list[float]:
    """The different values of one part, in the order of the records."""
    found = (positive(one.get(name), _MOST[name]) for one in given)
    return list(dict.fromkeys(value for value in found if value is not None))


def faults(records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Why these records of one configuration do not tell what they seem to, for notes."""
    told = []
    for record in records:
        given = record.get("given")
        if isinstance(given, Mapping):
            told.append(given)
        elif given is not None:
            yield f"given {shown(given)} left out, not an object of cpus and memory_mb"
    for name, most in _MOST.items():
        for one in told:
            value = one.get(name)
            if value is not None and positive(value, most) is None:
                yield f"given.{name} {shown(value)} left out, not above 0 and up to {most:g}"
        values = _told(told, name)
        if len(values) > 1:
            listed = ", ".join(f"{value:g}" for value in values)
            yield (
                f"given.{name} differs between the repetitions of a configuration "
                f"({listed:.60}): taken as not known"
            )
