"""Numbers as options take them."""

from __future__ import annotations

import argparse


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
