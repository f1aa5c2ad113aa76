"""Which container, pod or systemd unit a cgroup is, by its path.

Container runtimes and systemd put what they start into cgroups whose names are the container's id,
the pod's UID or the unit's name: the table of them is in src/cgroup/identity.rs. Both versions of
cgroups are read.
"""

from __future__ import annotations

from collections import namedtuple
from functools import lru_cache

from lithowatt import _core
from lithowatt._support.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import NamedTuple

    class _Place(NamedTuple):
        kind: str
        name: str
        path: str

else:
    _Place = namedtuple("Place", "kind name path")


class Place(_Place):
    """Where a process is accounted.

    Attributes:
        kind: ``kubernetes``, ``docker``, ``podman``, ``cri-o``, ``containerd``, ``lxc``, ``nspawn``
            (systemd-nspawn and virtual machines), ``container`` (of a runtime that its name does
            not show), ``unit`` (systemd), ``cgroup`` or ``none`` (the top).
        name: Pod and container, container, unit or path; what is not printable is escaped.
        path: The cgroup's path from the top of its hierarchy.
    """

    __slots__ = ()

    @property
    def contained(self) -> bool:
        """Whether it is a container or a pod."""
        return self.kind not in ("unit", "cgroup", "none")


@lru_cache(maxsize=4096)
def place_of(path: str) -> Place:
    """What the cgroup at ``path`` is.

    >>> place_of("/system.slice/docker-" + 64 * "a" + ".scope").name
    'docker aaaaaaaaaaaa'
    >>> place_of("/user.slice/user-1000.slice/session-3.scope")[:2]
    ('unit', 'session-3.scope')
    """
    # A path may be any bytes, and the core reads text.
    kind, name = _core.place_of_cgroup(path.encode(errors="backslashreplace").decode())
    return Place(
        kind, printable(path if kind == "cgroup" else name), "/" if kind == "none" else path
    )


def place_of_process(lines: Iterable[str]) -> Place:
    """What a process is in, by the lines of its ``/proc/PID/cgroup``.

    A process is in a cgroup of each hierarchy; the most specific one is taken: a container
    before a unit before a path, version 2 before systemd's own before the controllers of version 1.
    """
    best: tuple[int, Place] | None = None
    for line in lines:
        number, _, rest = line.rstrip("\n").partition(":")
        controllers, _, path = rest.partition(":")
        if not path.startswith("/"):
            continue
        place = place_of(path)
        rank = {"none": 9, "cgroup": 6, "unit": 3}.get(place.kind, 0)
        if number != "0":
            rank += 1 if controllers == "name=systemd" else 2
        if best is None or rank < best[0]:
            best = (rank, place)
    return Place("none", "", "/") if best is None else best[1]
