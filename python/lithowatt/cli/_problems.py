"""What is wrong with the settings in the environment: values that are refused, or ignored.

Whoever reads a setting judges it, and is asked here; only words of one's own are judged here. In
this room since it asks several others.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lithowatt import EnergyMeter, _core
from lithowatt._support.environment_variables import misspelt
from lithowatt._support.switches import OFF
from lithowatt._support.text import shortened
from lithowatt.errors import LithowattError

if TYPE_CHECKING:
    from collections.abc import Callable

ON = ("true", "1", "yes", "on")

#: What each variable that a meter reads is asked by: the options that keep it from all others.
_METERS: dict[str, dict[str, Any]] = {
    "ENERGY_METHODS": {"interval": None, "definition": "marginal"},
    "ENERGY_COLLECTION_INTERVAL": {"methods": "model", "definition": "marginal"},
    "ENERGY_DEFINITION": {"methods": "model", "interval": None},
}


def problems(root: str | None = None) -> list[str]:
    """A sentence for each setting that is not used as it is written: its name, what it is set to
    and what is accepted. Variables that are empty count as not set.

    Args:
        root: Where ``/sys`` and ``/proc`` are, as for `EnergyMeter`.
    """
    found = [*misspelt(), *_core.surroundings(root)["problems"]]
    for name, judge in JUDGES.items():
        value = os.environ.get(name, "")
        if value:
            problem = judge(name, value)
            if problem is not None:
                found.append(problem)
    return found


def _set(name: str, value: str) -> str:
    return f"{name}={shortened(value)!r}"


def _refused(name: str, value: str, ask: Callable[[], object]) -> str | None:
    try:
        ask()
    except LithowattError as error:
        return f"{_set(name, value)} is refused: {error}"
    return None


def _by_meter(name: str, value: str) -> str | None:
    return _refused(name, value, lambda: EnergyMeter(enabled=False, **_METERS[name]))


def _estimation(name: str, value: str) -> str | None:
    try:
        EnergyMeter("model", interval=None, definition="marginal", enabled=False, estimation=value)
    except (LithowattError, TypeError) as error:  # TypeError: it is no UTF-8
        return f"{_set(name, value)} is ignored: {error}"
    return None


def _intensity(name: str, value: str) -> str | None:
    from lithowatt.carbon import _doubt_of_intensity, _from_environment

    problem = _refused(name, value, _from_environment)
    if problem is None:
        found = _from_environment()
        doubt = _doubt_of_intensity(found) if isinstance(found, float) else ""
        return f"{_set(name, value)} is used as it is, but {doubt}" if doubt else None
    if "neither" in problem:
        return problem
    return f"{problem}; expected g CO2e per kWh, 0 or more, or the path of a .csv file"


def _pue(name: str, value: str) -> str | None:
    from lithowatt.carbon import _pue_from_environment

    return _refused(name, value, _pue_from_environment)


def _switch(name: str, value: str) -> str | None:
    if value.strip().lower() in ("", *ON, *OFF):
        return None
    return f"{_set(name, value)} counts as on; expected {_any_of(ON)}, or {_any_of(OFF)}"


def _any_of(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _stats(name: str, value: str) -> str | None:
    if value.strip().lower() in ("", "compact", "essential"):
        return None
    return f"{_set(name, value)} is ignored; expected compact or essential"


def _user(name: str, value: str) -> str | None:
    number = re.fullmatch(r"\+?0*([0-9]{1,10})", value.strip())
    if number and int(number[1]) < 2**32:
        return None
    return f"{_set(name, value)} is ignored; expected the number of a user, such as 1000"


def _ring(name: str, value: str) -> str | None:
    with contextlib.suppress(OSError):  # a folder on the way cannot be searched
        if Path(value).is_file():
            return None
    expected = "expected the ring of a node agent, and no such file can be seen"
    return f"{_set(name, value)} is not used; {expected}"


def _guest(name: str, value: str) -> str | None:
    with contextlib.suppress(OSError):  # a folder on the way cannot be searched
        if Path(value).exists():
            return None
    expected = (
        "expected the file of this virtual machine's host, or its folder, and neither is there"
    )
    return f"{_set(name, value)} is not used; {expected}"


def _folder(name: str, value: str) -> str | None:
    with contextlib.suppress(OSError):  # a folder on the way cannot be searched
        # It is made when something is stored.
        if Path(value).is_dir() or not Path(value).exists():
            return None
    return f"{_set(name, value)} cannot be used; expected a directory, or where one can be made"


#: Who judges a variable's value: called with both, it says what is wrong, `None` where nothing is.
JUDGES: dict[str, Callable[[str, str], str | None]] = {
    "ENERGY_MONITORING_ENABLED": _switch,
    **dict.fromkeys(_METERS, _by_meter),
    "ENERGY_ESTIMATION_METHOD": _estimation,
    "ENERGY_STATS": _stats,
    "LITHOWATT_GRID_INTENSITY": _intensity,
    "LITHOWATT_PUE": _pue,
    "LITHOWATT_STATE_DIR": _folder,
    "LITHOWATT_RING": _ring,
    "LITHOWATT_RING_OWNER": _user,
    "LITHOWATT_GUEST": _guest,
    "LITHOWATT_FLEXECUTOR": _switch,
}

#: The core judges these wherever it looks round.
BY_CORE = ("LITHOWATT_IDLE_WATTS", "LITHOWATT_ROOT")

#: Any text will do; LITHOWATT_CALLS may be the path of a socket that is not there yet.
FREE = (
    "LITHOWATT_CALLS",
    "LITHOWATT_INSTANCE_TYPE",
    "LITHOWATT_MQTT_USER",
    "LITHOWATT_MQTT_PASSWORD",
    "LITHOWATT_REDFISH_USER",
    "LITHOWATT_REDFISH_PASSWORD",
    "POD_NAME",
    "NODE_NAME",
)
