"""FlexExecutor's FunctionTimes with lithowatt's fields.

The class itself gets them, as FlexExecutor makes instances of it in many places: what works on
the fields of a dataclass (`asdict`, `replace`, a DataFrame, the constructor) then has the energy
as well. `profile_keys()`, on which FlexExecutor trains, stays as it is.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from lithowatt.profiles import _columns

#: Attribute of a class that was extended: what it was before.
_BEFORE = "__lithowatt_before__"

#: What a dataclass makes of its fields.
_MADE = (
    "__init__",
    "__eq__",
    "__repr__",
    "__match_args__",
    "__dataclass_fields__",
    "__dataclass_params__",
    "__annotations__",
    "__replace__",
    "__doc__",
)


def extend(times: Any) -> bool:
    """Gives a FunctionTimes the fields of `PROFILE_COLUMNS` that it lacks, `None` by default.

    Returns:
        False for what is no dataclass that takes fields; that is left as it is.
    """
    if not (isinstance(times, type) and dataclasses.is_dataclass(times)):
        return False
    if _BEFORE in times.__dict__:
        return True
    known: list[Any] = list(dataclasses.fields(times))
    if any(one.default is dataclasses.MISSING for one in known) or "__slots__" in times.__dict__:
        return False
    names = {one.name for one in known}
    ours = [one for one in dataclasses.fields(_columns.FunctionTimes) if one.name not in names]
    made = dataclasses.make_dataclass(
        times.__name__,
        [
            *((one.name, one.type, dataclasses.field(default=one.default)) for one in known),
            *((one.name, one.type, dataclasses.field(default=None)) for one in ours),
        ],
        repr=False,
    )
    before = {name: times.__dict__[name] for name in _MADE if name in times.__dict__}
    new = {
        name: made.__dict__[name] for name in _MADE if name in made.__dict__ and name != "__doc__"
    }
    setattr(times, _BEFORE, (before, [one.name for one in ours]))
    for name, value in new.items():
        setattr(times, name, value)
    # A field that is not set reads as its default, also on instances from elsewhere.
    for one in ours:
        setattr(times, one.name, None)
    setattr(times, "__repr__", _shown(names))  # noqa: B010 - it is no method for mypy
    return True


def _shown(always: set[str]) -> Any:
    """A `__repr__` with FlexExecutor's own fields, and those of the others that are known."""

    def __repr__(self: Any) -> str:
        values = ((one.name, getattr(self, one.name, None)) for one in dataclasses.fields(self))
        shown = [
            f"{name}={value!r}" for name, value in values if name in always or value is not None
        ]
        return f"{type(self).__qualname__}({', '.join(shown)})"

    return __repr__


def restore(times: Any) -> None:
    """Takes back what `extend` did."""
    state = getattr(times, "__dict__", {}).get(_BEFORE)
    if state is None:
        return
    before, ours = state
    for name in [*ours, *(name for name in _MADE if name in times.__dict__), _BEFORE]:
        if name in times.__dict__ and name not in before:
            delattr(times, name)
    for name, value in before.items():
        setattr(times, name, value)
