"""``doctor()``: what can be measured here, and why not."""

from __future__ import annotations

from collections import namedtuple

from lithowatt import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from typing import Any, NamedTuple

    class _MethodStatus(NamedTuple):
        method: str
        available: bool
        gives: tuple[str, ...]
        reason: str | None
        fix: str | None

else:
    _MethodStatus = namedtuple("MethodStatus", "method available gives reason fix")


class MethodStatus(_MethodStatus):
    """Whether a method works here.

    Attributes:
        method: ``rapl``, ``perf``, ``ebpf``, ``psutil``, ``tdp`` (the power model), ``nvml``
            (GPUs), ``hwmon`` (sensors) or ``guest`` (a virtual machine's host).
        available: Whether it gives energy or, of ``psutil``, use.
        gives: What it gives: domains, events, the model's name.
        reason: Why it gives no more; ``None`` where nothing is missing.
        fix: The command that changes that, as it runs from here; ``None`` where none does.
    """

    __slots__ = ()


def doctor(root: str | os.PathLike[str] | None = None) -> list[MethodStatus]:
    """What can be measured here, method by method; nothing is changed.

    Counters of the machine come first, then GPUs, what divides their joules, and the model.

    Takes some ms, and up to 3.5 s where a counter of energy does not move.

    Args:
        root: Where ``/sys`` and ``/proc`` are, as for :class:`~lithowatt.EnergyMeter`.

    Raises:
        UnreadableFileError: If ``root`` is no directory.

    Example:
        >>> from lithowatt import doctor
        >>> [status.method for status in doctor()]
        ['rapl', 'perf', 'hwmon', 'guest', 'nvml', 'ebpf', 'psutil', 'tdp']
    """
    return [MethodStatus(**{**one, "gives": tuple(one["gives"])}) for one in found(root)]


def found(
    root: str | os.PathLike[str] | None, methods: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """What the core found, with commands that run from here, in their order."""
    from lithowatt._support.command import OURS, runnable

    findings = _core.doctor(root, methods)
    for finding in findings:
        if finding["fix"]:
            fix = str(finding["fix"])
            if finding["method"] == "ebpf" and "mount -t bpf" in fix:
                # A BPF file system is of no use alone: the probes have to be loaded into it.
                fix += f" && {OURS} doctor --load"
            finding["fix"] = runnable(fix)
    return findings
