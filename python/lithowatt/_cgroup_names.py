"""Which container, pod or systemd unit a cgroup is, by its path.

Container runtimes and systemd put what they start into cgroups whose names are the container's id,
the pod's UID or the unit's name; both versions of cgroups are read.
"""

from __future__ import annotations

import re
from collections import namedtuple
from functools import lru_cache

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
            not tell), ``unit`` (systemd), ``cgroup`` or ``none`` (the top).
        name: Pod and container, container, unit or path; what is not printable is escaped.
        path: The cgroup's path from the top of its hierarchy.
    """

    __slots__ = ()

    @property
    def contained(self) -> bool:
        """Whether it is a container or a pod."""
        return self.kind not in ("unit", "cgroup", "none")


# A container's id is 64 hexadecimal digits in Docker, Podman, CRI-O and containerd's CRI; its first
# twelve are what their commands print. systemd's cgroup driver puts a prefix and ".scope" round it.
_ID = re.compile(r"^(?:([a-z][a-z-]*)-)?([0-9a-f]{64})(?:\.scope)?$")

# kubelet: kubepods/burstable/pod<UID>/<id>, or with systemd's driver, whose UIDs have _ for -,
# kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<UID>.slice/<prefix>-<id>.scope.
# A static pod's UID is 32 digits without dashes.
_POD = re.compile(
    r"(?:^|-)pod([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12}"
    r"|[0-9a-f]{32})(?:\.slice)?$"
)

_RUNTIMES = {
    "docker": "docker",
    "libpod": "podman",
    "crio": "cri-o",
    "cri-containerd": "containerd",
    "nerdctl": "containerd",
}

_UNIT = re.compile(r"\.(?:service|scope|slice|socket|mount|swap)$")

_ESCAPE = re.compile(r"\\x([0-9a-fA-F]{2})")


def printable(text: str) -> str:
    r"""``text`` with what a terminal would obey, or not show, escaped.

    >>> printable("a\x1b[31m\u202eb")
    'a\\x1b[31m\\u202eb'
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii")
        for c in text
    )


@lru_cache(maxsize=4096)
def place_of(path: str) -> Place:
    """What the cgroup at ``path`` is.

    >>> place_of("/system.slice/docker-" + 64 * "a" + ".scope").name
    'docker aaaaaaaaaaaa'
    >>> place_of("/user.slice/user-1000.slice/session-3.scope")[:2]
    ('unit', 'session-3.scope')
    """
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    if not parts:
        return Place("none", "", "/")
    pod = next((m[1].replace("_", "-") for part in parts if (m := _POD.search(part))), None)
    # The innermost: what runs in a container may make cgroups, and containers, of its own.
    found = None
    for above, part in zip(["", *parts], parts, strict=False):
        match = _ID.match(part)
        # conmon watches over a container from outside of it.
        if match and not (match[1] or "").endswith("conmon"):
            found = match, above
    if pod is not None:
        inner = f" / {found[0][2][:12]}" if found else ""
        return Place("kubernetes", f"pod {pod}{inner}", path)
    if found is not None:
        match, above = found
        word = match[1] or above
        kind = _RUNTIMES.get(word, "container")
        return Place(kind, f"{kind} {match[2][:12]}", path)
    for above, part in zip(["", *parts], parts, strict=False):
        for start in ("lxc.payload.", "lxc.monitor."):
            if part.startswith(start):
                return Place("lxc", printable(f"lxc {part[len(start) :]}"), path)
        if above == "lxc":
            return Place("lxc", printable(f"lxc {part}"), path)
        if above == "machine.slice" and part.startswith("machine-") and part.endswith(".scope"):
            name = _unescape(part[len("machine-") : -len(".scope")])
            return Place("nspawn", printable(f"machine {name}"), path)
    unit = next((part for part in reversed(parts) if _UNIT.search(part)), None)
    if unit is not None:
        return Place("unit", printable(_unescape(unit)), path)
    return Place("cgroup", printable(path), path)


def _unescape(unit: str) -> str:
    """systemd.unit(5), "String Escaping for Inclusion in Unit Names"."""
    return _ESCAPE.sub(lambda m: chr(int(m[1], 16)), unit)


def place_of_process(lines: Iterable[str]) -> Place:
    """What a process is in, by the lines of its ``/proc/PID/cgroup``.

    A process is in a cgroup of each hierarchy; the one that tells most is taken: a container
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
