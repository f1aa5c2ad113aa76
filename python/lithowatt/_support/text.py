"""Numbers and foreign text as they are shown to people."""

from __future__ import annotations

TYPE_CHECKING = False  # typing is much of what importing EnergyMeter costs
if TYPE_CHECKING:
    from collections.abc import Container, Sequence


def format_number(value: float) -> str:
    """Four significant digits without an exponent for what people meet, else with one."""
    if value == 0 or 1e-4 <= abs(value) < 1e7:
        text = f"{value:.4g}"
        return f"{value:.0f}" if "e" in text else text
    return f"{value:.3e}"


def three_digits(value: float) -> str:
    """A number of three significant digits, as `format_number` writes it.

    >>> three_digits(53.63), three_digits(1102.9), three_digits(0.00341)
    ('53.6', '1100', '0.00341')
    """
    return format_number(float(f"{value:.3g}"))


def percent_more(part: float) -> str:
    """How much more or less, of a part of 1: two digits, and no exponent.

    >>> percent_more(0.0097), percent_more(-0.25), percent_more(2.634)
    ('+0.97 %', '-25 %', '+263 %')
    """
    return f"{'-' if part < 0 else '+'}{percent(abs(part))}"


def percent(part: float) -> str:
    """A part of 1 in percent: two digits, and no exponent.

    >>> percent(0.0097), percent(0.25), percent(2.634)
    ('0.97 %', '25 %', '263 %')
    """
    value = part * 100
    return f"{value:.0f} %" if value >= 99.5 else f"{value:.2g} %"


def counted(many: int, word: str) -> str:
    """A number with its word.

    >>> counted(1, "row"), counted(17735, "row"), counted(2, "repetition")
    ('1 row', '17,735 rows', '2 repetitions')
    """
    return f"{many:,} {word}{'' if many == 1 else 's'}"


def few(names: Sequence[str], most: int = 3, between: str = ", ") -> str:
    """The first of these, and how many more there are.

    >>> few(["a", "b"]), few(["a", "b", "c", "d", "e"])
    ('a, b', 'a, b, c and 2 more')
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{between.join(names[:most])}{more}"


def told_factors(factors: Sequence[float] | None) -> str:
    """Factors of a band, in words.

    >>> told_factors((0.376, 2.74))
    '95 % band × 0.38 to × 2.7'
    """
    if factors is None:
        return "no known band"
    low, high = (format_number(float(f"{one:.2g}")) for one in factors)
    return f"95 % band × {low} to × {high}"


def aligned(rows: Sequence[Sequence[str]], right: Container[int] = ()) -> list[str]:
    """Lines of a table, two blanks between columns; those in ``right`` end in one place.

    >>> aligned([("pkg", "1.5", "J"), ("dram", "12.0", "")], right=[1])
    ['pkg    1.5  J', 'dram  12.0']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if at in right else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def fitted(
    rows: Sequence[Sequence[str]], width: int, right: Container[int] = (), keys: int = 0
) -> list[str]:
    """Lines of a table, at most ``width`` characters each where the words allow it.

    Where the columns have no room beside each other, the cells of the widest column of text are
    wrapped if that is enough; else the table becomes several, one after the other, each with the
    first ``keys`` columns.

    >>> fitted([("", "CPU", "why"), ("a", "1", "it was busy all day")], 18, right=[1])
    ['   CPU  why', 'a    1  it was', '        busy all', '        day']
    >>> fitted([("", "read", "write"), ("a", "1", "2")], 9, right=[1, 2], keys=1)
    ['   read', 'a     1', '', '   write', 'a      2']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    excess = sum(widths) + 2 * (len(widths) - 1) - width
    if excess <= 0:
        return aligned(rows, right)
    texts = [at for at in range(len(widths)) if at not in right]
    widest = max(texts, key=lambda at: widths[at], default=None)
    if widest is not None and widths[widest] - excess >= min(_LEAST, width // 2):
        return _with_wrapped(rows, widest, widths[widest] - excess, right)
    blocks: list[list[int]] = [[]]
    for at in range(keys, len(widths)):
        shown = [*range(keys), *blocks[-1], at]
        if blocks[-1] and sum(widths[i] + 2 for i in shown) - 2 > width:
            blocks.append([])
        blocks[-1].append(at)
    if len(blocks) < 2:
        return aligned(rows, right)
    lines: list[str] = []
    for block in blocks:
        kept = [*range(keys), *block]
        some = [[row[at] for at in kept] for row in rows]
        at_right = [place for place, at in enumerate(kept) if at in right]
        # Every block has fewer columns than the table.
        lines += ["", *fitted(some, width, at_right, keys)]
    return lines[1:]


_LEAST = 16
"""Characters to which a column of text is narrowed at most."""


def _with_wrapped(
    rows: Sequence[Sequence[str]], column: int, room: int, right: Container[int]
) -> list[str]:
    """Lines of a table whose cells in ``column`` are wrapped to ``room`` characters."""
    made: list[list[str]] = []
    for row in rows:
        first, *rest = wrapped(row[column], room, "") or [""]
        made.append([*row[:column], first, *row[column + 1 :]])
        made += [["" if at != column else line for at in range(len(row))] for line in rest]
    return aligned(made, right)


def wrapped(text: str, width: int, indent: str, hanging: str = "") -> list[str]:
    """Lines of at most ``width`` characters, words whole, each after ``indent``; those after the
    first after ``hanging``, too. Only a word that is longer than a line makes a longer one.

    >>> wrapped("energy of the machine", 14, "  ")
    ['  energy of', '  the machine']
    >>> wrapped("energy of the machine", 14, "", "   ")
    ['energy of the', '   machine']
    """
    import textwrap

    return textwrap.wrap(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=indent + hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )


def with_command(text: str, width: int, indent: str = "", hanging: str = "") -> list[str]:
    """As `wrapped`, but a command at the end stays whole, on a line of its own where it has no
    room: it is there to be copied.

    >>> with_command("not loaded; fix: sudo lithowatt doctor --load", 24)
    ['not loaded; fix:', '  sudo lithowatt doctor --load']
    """
    head, colon, command = text.rpartition(": ")
    long = len(indent) + len(text) > width
    if colon and long and command.startswith(("sudo ", "lithowatt ", "chmod ", "modprobe ", "/")):
        return [*wrapped(f"{head}:", width, indent, hanging), f"{indent}  {command}"]
    return wrapped(text, width, indent, hanging)


def terminal_width(most: int = 100) -> int:
    """Characters in a line of the terminal, at most ``most``; 80 where there is no terminal."""
    import shutil

    return min(most, shutil.get_terminal_size((80, 24)).columns)


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


def shortened(text: str, most: int = 80) -> str:
    """What somebody gave, for a message: at most so many characters, `…` for what is left out.

    >>> shortened("energy_" + "y" * 1000, 12)
    'energy_yyyy…'
    """
    return text if len(text) <= most else f"{text[: most - 1]}…"


def encodable(text: str) -> str:
    r"""``text`` as UTF-8 can hold it: bytes of a name that are no text become escapes.

    >>> encodable("a\udcff")
    'a\\udcff'
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def program_of(command: Sequence[str]) -> str:
    """A command by its program and script: its arguments may be secret.

    >>> program_of(["/usr/bin/python3", "jobs/train.py", "--token=abc"])
    'python3 train.py'
    >>> program_of([])
    ''
    """
    import os

    script = command[1:2] if len(command) > 1 and command[1].endswith(".py") else []
    return " ".join(os.path.basename(part) or part for part in (*command[:1], *script))  # noqa: PTH119
