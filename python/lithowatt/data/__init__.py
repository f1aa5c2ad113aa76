"""The data files of the package, which `cost` and `carbon` share.

Nothing is read before it is asked for.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path


def rows(name: str) -> tuple[list[dict[str, str]], dict[str, str]]:
    """The rows of a data file, and its sources by their short names.

    A comment of the form ``#   word: text`` defines a source.
    """
    import csv

    sources: dict[str, str] = {}
    lines: list[str] = []
    with path(name).open(encoding="utf-8", newline="") as file:
        for line in file:
            if not line.startswith("#"):
                lines.append(line)
                continue
            key, colon, text = line[1:].strip().partition(": ")
            if line.startswith("#   ") and colon and " " not in key:
                sources[key] = text
    return list(csv.DictReader(lines)), sources


def path(name: str) -> Path:
    """Where a data file of the package lies."""
    from pathlib import Path

    return Path(__file__).with_name(name)
