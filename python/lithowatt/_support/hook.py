"""The hook that the wheel's `.pth` leaves in each interpreter, for those who ask it or end it."""

from __future__ import annotations

import importlib
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType


def hook_here() -> ModuleType | None:
    """`_lithowatt_hook`, where its finder is in this process; `None` where it is not.

    The finder is there from the start of Python on, the module is imported when it is needed: that
    it is not among `sys.modules` says nothing.
    """
    if any(hasattr(finder, "lithowatt_hook") for finder in sys.meta_path):
        return importlib.import_module("_lithowatt_hook")
    return None
