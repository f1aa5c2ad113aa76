"""Checks of arguments: each error names the argument, what was expected and what was given."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


#: More names than these are not all told.
_MOST_NAMES = 30


def number(what: str, value: object) -> float:
    """A finite number, or a :class:`TypeError` or :class:`ValueError` that names it."""
    return _finite(what, value, "a finite number", None)


def not_negative(what: str, value: object) -> float:
    """A finite number of 0 or more, or a :class:`TypeError` or :class:`ValueError`."""
    return _finite(what, value, "a finite number of 0 or more", 0.0)


def _finite(what: str, value: object, wanted: str, least: float | None) -> float:
    from math import isfinite
    from numbers import Real

    # A bool is a number to Python and a mistake here.
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{what} must be a number, not {shown(value)}")
    try:
        result = float(value)
    except OverflowError:
        result = float("inf")
    if not isfinite(result) or (least is not None and result < least):
        raise ValueError(f"{what} must be {wanted}, not {shown(value)}")
    return result


def shown(value: object) -> str:
    """A value for a message: on one line, and not longer than a line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def closest(given: object, known: Iterable[str], most: int = 3) -> str:
    """The names that are much like what was given, of how many; where none is, what there is.

    Example:
        >>> closest("us-eats-1", ["eu-west-1", "us-east-1", "us-east-2"], 2)
        'closest are us-east-1, us-east-2, of 3'
        >>> closest("nowhere", ["eu-west-1", "us-east-1", "us-east-2"], 2)
        'there are eu-west-1, us-east-1, us-east-2'
    """
    from difflib import get_close_matches

    # Numbers by what they are, before texts.
    names = sorted(known, key=lambda name: (not name.isdigit(), name.isdigit() * len(name), name))
    like = get_close_matches(str(given)[:80].lower(), [name.lower() for name in names], most, 0.6)
    found = [name for name in names if name.lower() in like]
    if found:
        return f"closest {'is' if len(found) == 1 else 'are'} {', '.join(found)}, of {len(names)}"
    shown_ = names if len(names) <= _MOST_NAMES else names[:most]
    more = "" if shown_ == names else f" and {len(names) - len(shown_)} more"
    return f"there {'is' if len(names) == 1 else 'are'} {', '.join(shown_) or 'none'}{more}"
