"""Hands a finished call's energy to the page of this machine's agent, where that is asked for.

One datagram to a socket beside the agent's ring. Nobody is waited for: where no agent listens, or
it does not keep up, the call is not on the page, and that is all.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

VARIABLE = "LITHOWATT_CALLS"

#: Of the message. A change that an older agent would read wrongly gets another.
VERSION = 1

MOST_BYTES = 2048
"""A message that would be longer is not sent, and none that is longer is read."""

MOST_NAME = 120
"""Characters of a function's name."""

_LEAST_NAME = 40
"""Those that are left where the message would be too long."""

DEFAULT_RING = "/run/lithowatt/ring"
"""Where a meter looks for the ring (``LITHOWATT_RING`` names another place)."""

_ON = ("1", "on", "true", "yes")
_OFF = ("", "0", "off", "false", "no")


def calls_path(environ: Mapping[str, str] | None = None) -> str | None:
    """Where calls are handed in, ``None`` where nobody asked for that.

    >>> calls_path({}), calls_path({"LITHOWATT_CALLS": "on"})
    (None, '/run/lithowatt/calls')
    >>> calls_path({"LITHOWATT_CALLS": "on", "LITHOWATT_RING": "/tmp/x/ring"})
    '/tmp/x/calls'
    """
    environ = os.environ if environ is None else environ
    asked = environ.get(VARIABLE, "").strip()
    if asked.lower() in _OFF:
        return None
    if asked.lower() in _ON:
        return beside(environ.get("LITHOWATT_RING") or DEFAULT_RING)
    return asked


def beside(ring: str | os.PathLike[str]) -> str:
    """The socket of the agent that writes this ring."""
    return os.path.join(os.path.dirname(ring), "calls")  # noqa: PTH118, PTH120 - a worker's way


def hand_in(function: str, values: Mapping[str, Any]) -> bool:
    """Shows a finished call on the page of this machine's agent (``lithowatt agent --page``).

    Where ``LITHOWATT_CALLS`` is not set, or no agent listens, nothing happens. It raises nothing
    and waits for nobody. Made and sent it takes about 0.1 ms, which is why it has to be asked for.

    Args:
        function: Its name; the first 120 characters are shown.
        values: Its stats, by plain keys (``reading.flat()``) or those of ``meter.stats()``.

    Returns:
        Whether the agent was sent it.

    Example:
        >>> hand_in("train", {"energy_consumption": 2.0, "energy_quality": "measured"})
        False
    """
    try:
        path = calls_path()
        return path is not None and _send(path, function, values)
    except Exception:  # a call is never broken by who wants to see it
        return False


def _send(path: str, function: str, values: Mapping[str, Any]) -> bool:
    import json
    import socket

    from lithowatt.stats import value_of

    def get(key: str) -> Any:
        return value_of(values, key)

    joules = get("energy_consumption")
    source = str(get("energy_source") or "").removeprefix("unavailable: ")
    message = {
        "v": VERSION,
        "function": str(function)[:MOST_NAME],
        "seconds": get("energy_duration"),
        "cpu_seconds": get("energy_cpu_time"),
        "joules": joules,
        "low": get("energy_low"),
        "high": get("energy_high"),
        "quality": get("energy_quality"),
        "method": get("energy_method"),
        "definition": get("energy_definition"),
        "reason": source[:200] if joules is None and source else None,
    }
    # What shows the energy goes first: a long reason, then the end of a long name are left out.
    shorter: tuple[dict[str, Any], ...] = (
        {},
        {"reason": None},
        {"function": message["function"][:_LEAST_NAME]},
    )
    for change in shorter:
        message |= change
        # A name's bytes that are no text become JSON's escapes.
        data = json.dumps(message, ensure_ascii=False).encode("utf-8", "backslashreplace")
        if len(data) <= MOST_BYTES:
            break
    else:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(data, socket.MSG_DONTWAIT, path)
    return True
