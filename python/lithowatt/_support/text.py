"""Numbers and foreign text as they are shown to people."""

from __future__ import annotations


def format_number(value: float) -> str:
    """Four significant digits without an exponent for what people meet, else with one."""
    if value == 0 or 1e-4 <= abs(value) < 1e7:
        text = f"{value:.4g}"
        return f"{value:.0f}" if "e" in text else text
    return f"{value:.3e}"


def printable(text: str) -> str:
    r"""``text`` with what a terminal would obey, or not show, escaped.

    >>> printable("a\x1b[31m\u202eb")
    'a\\x1b[31m\\u202eb'
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii")
        for c in text
    )
