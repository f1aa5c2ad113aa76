"""Lithops' call status in a handler that asks it for `add_energy_metrics`, as the prototype does.

Lithops' class has no such method. It is not given one either: the object that the handler holds
gets it, and nobody else sees it.
"""

from __future__ import annotations

import sys
from types import MethodType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

METHOD = "add_energy_metrics"

_HANDLER = "lithops.worker.handler"

#: Where Lithops has its `CallStatus`: up to 3.7, and from 3.8 on.
_MODULES = ("lithops.worker.status", "lithops.monitoring.status")


def lend(method: Callable[[Any, Any], None]) -> None:
    """Makes `call_status.add_energy_metrics(...)` work in the handler's function that runs now.

    The callers of this function are looked through for the one that asks for the method; each
    `CallStatus` that it holds and that has no such method gets it. In a client or within a user's
    function nobody asks, and nothing is done.

    Args:
        method: Called with the call status and the metrics.
    """
    if _HANDLER not in sys.modules:
        return
    classes = tuple(
        found
        for name in _MODULES
        if isinstance(found := getattr(sys.modules.get(name), "CallStatus", None), type)
    )
    frame = sys._getframe(1) if classes else None
    while frame is not None:
        if METHOD in frame.f_code.co_names:
            held = [one for one in frame.f_locals.values() if isinstance(one, classes)]
            for status in held:
                if not hasattr(status, METHOD):
                    setattr(status, METHOD, MethodType(method, status))
            if held:
                return
        frame = frame.f_back
