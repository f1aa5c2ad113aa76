"""Which meter is meant by a text such as ``battery`` or ``plug.csv``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from lithowatt._support.command import OURS, runnable
from lithowatt.errors import ConflictingOptionsError, LithowattError
from lithowatt.reference._watch import Reference

if TYPE_CHECKING:
    from collections.abc import Sequence

KINDS = {
    "battery": "the battery of this machine, while it runs on it",
    "FILE.csv": "the file of a plug that meters: times and W or kWh",
    "mqtt://HOST/TOPIC": "a plug that sends to a broker",
    "pmic": "the rails of a Raspberry Pi 5",
    "ipmi": "this server's management controller, by the kernel's /dev/ipmi0",
    "redfish:https://HOST": "a server's management controller, over the network",
}
"""The forms of a reference, and what each is."""

METERS = f"one of {', '.join(KINDS)} (docs/how-to/whole-machine.md)"
"""What ``METER`` stands for in a command's help."""


def open_references(
    wanted: str | os.PathLike[str] | Reference | Sequence[str | os.PathLike[str] | Reference],
    root: str | os.PathLike[str] | None = None,
) -> tuple[Reference, ...]:
    """Meters by their names: nothing is read before a window begins.

    Args:
        wanted: One of `KINDS`, a meter that is open, or several in a list.
        root: Where ``/sys`` and ``/dev`` are.

    Raises:
        LithowattError: There is no such kind, an option of it is wrong, a file cannot be read, or
            what it needs is not installed.
    """
    one = isinstance(wanted, (str, os.PathLike, Reference))
    given: list[str | os.PathLike[str] | Reference] = [wanted] if one else list(wanted)  # type: ignore[list-item, arg-type]
    below = os.fspath(root or os.environ.get("LITHOWATT_ROOT") or "/")
    found = [
        each if isinstance(each, Reference) else opened(os.fspath(each), below) for each in given
    ]
    names = [reference.name for reference in found]
    for name in names:
        if names.count(name) > 1:
            raise ConflictingOptionsError(
                f"the reference {name!r} is named twice; expected each meter once"
            )
    return tuple(found)


def opened(text: str, root: str) -> Reference:
    """The meter that a text means.

    Raises:
        LithowattError: As `open_references`.
    """
    reference = _opened(text, root)
    reference.opened_by = text, root
    return reference


def _opened(text: str, root: str) -> Reference:
    # Imported here: each needs other modules, and one is wanted.
    if text == "battery":
        from lithowatt.reference.battery import Battery

        return Battery(root)
    if text == "pmic":
        from lithowatt.reference.pmic import Pmic

        return Pmic(root)
    if text == "ipmi":
        from lithowatt.reference.ipmi import Ipmi

        return Ipmi(root)
    if text.startswith("redfish:"):
        from lithowatt.reference.redfish import Redfish

        return Redfish(text.removeprefix("redfish:"))
    if text.startswith(("mqtt://", "mqtts://")):
        from lithowatt.reference.mqtt import Mqtt

        return Mqtt(text)
    path = text if Path(text).exists() else text.partition("?")[0]
    if Path(path).is_file() or path.endswith(".csv"):
        from lithowatt.reference.table import Table

        return Table(text)
    raise LithowattError(
        f"reference {text[:80]!r} is not known; expected one of {', '.join(KINDS)}"
    )


def with_reference(command: str, meter: str) -> str:
    """A command of ours that reads a meter, as it runs from here: ``/dev/ipmi0`` is root's."""
    ours = OURS if meter == "ipmi" else "lithowatt"
    return runnable(f"{ours} {command} --reference {meter}")


def available(root: str | os.PathLike[str] | None = None) -> list[str]:
    """Meters that this machine has by the files of their devices, which are not opened."""
    below = Path(os.fspath(root or os.environ.get("LITHOWATT_ROOT") or "/"))
    from lithowatt.reference.battery import FOLDER, supplies
    from lithowatt.reference.ipmi import DEVICES

    found = ["battery"] if supplies(below / FOLDER)[0] else []
    try:
        model = (below / "proc/device-tree/model").read_bytes()
    except OSError:
        model = b""
    if b"Raspberry Pi 5" in model or b"Compute Module 5" in model:
        found.append("pmic")
    if any((below / device).exists() for device in DEVICES):
        found.append("ipmi")
    return found
