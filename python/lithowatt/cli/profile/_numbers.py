"""Numbers as options take them."""

from __future__ import annotations

import argparse
import math


def positive(text: str) -> float:
    """A number above 0."""
    value = _number(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def not_negative(text: str) -> float:
    """A number of 0 or more."""
    value = _number(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 0 or more")
    return value


def probability(text: str) -> float:
    """A number between 0 and 1."""
    value = _number(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number between 0 and 1")
    return value


def ratio(text: str) -> float:
    """`0.05` or `5%`: above 0 and below 1."""
    value = _number(text[:-1]) / 100 if text.endswith("%") else _number(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not like 0.05 or 5%")
    return value


def _number(text: str) -> float:
    """NaN, which is in no range, for what is no number."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def count(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def whole_numbers(text: str) -> list[int]:
    """``4``, ``4,8`` or ``1-28``."""
    found: set[int] = set()
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        ends = [low, high] if dash else [low, low]
        if not all(end.strip().isdecimal() for end in ends):
            raise argparse.ArgumentTypeError(f"{text!r} is not like 4, 4,8 or 1-28")
        first, last = (int(end) for end in ends)
        if not 1 <= first <= last <= 100_000:
            raise argparse.ArgumentTypeError(f"{text!r} is no range from 1 upwards")
        found.update(range(first, last + 1))
    return sorted(found)
