"""Which meter is meant by a text such as ``battery`` or ``plug.csv``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from lithowatt.errors import ConflictingOptionsError, LithowattError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lithowatt.reference._watch import Reference

KINDS = {
    "battery": "the battery of this machine, while it runs on it",
    "FILE.csv": "the file of a plug that meters: times and W or kWh",
}
"""The forms of a reference, and what each is."""


def open_references(
    wanted: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    root: str | os.PathLike[str] | None = None,
) -> tuple[Reference, ...]:
    """Meters by their names: nothing is read before a window begins.

    Args:
        wanted: One of `KINDS` or several in a list.
        root: Where ``/sys`` and ``/dev`` are.

    Raises:
        LithowattError: There is no such kind, or a file that cannot be read.
    """
    given = [wanted] if isinstance(wanted, (str, os.PathLike)) else list(wanted)
    found = [_opened(os.fspath(one), root) for one in given]
    names = [reference.name for reference in found]
    if len(set(names)) < len(names):
        raise ConflictingOptionsError(
            f"reference={', '.join(map(str, given))} names one meter twice; expected each once"
        )
    return tuple(found)


def _opened(text: str, root: str | os.PathLike[str] | None) -> Reference:
    root = os.fspath(root or os.environ.get("LITHOWATT_ROOT") or "/")
    if text == "battery":
        from lithowatt.reference.battery import Battery

        return Battery(root)
    path = text if Path(text).exists() else text.partition("?")[0]
    if Path(path).is_file() or path.endswith(".csv"):
        from lithowatt.reference.table import Table

        return Table(text)
    raise LithowattError(
        f"reference {text[:80]!r} is not known; expected one of {', '.join(KINDS)}"
    )
