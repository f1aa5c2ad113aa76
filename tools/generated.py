"""A page of the documents that is made of a table: compares the page with it, or writes it."""

from __future__ import annotations

import argparse
import difflib
import sys
from pathlib import Path


def compare_or_write(document: Path, made: str, about: str, argv: list[str] | None) -> int:
    """What such a tool does; returns its exit code, 1 where the page is not what is made.

    Args:
        document: The page.
        made: What it should hold.
        about: The tool's description.
        argv: Its arguments, `sys.argv` by default.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--write", action="store_true", help="write the document")
    if parser.parse_args(argv).write:
        document.write_text(made, encoding="utf-8")
        return 0
    there = document.read_text(encoding="utf-8")
    old, new = (text.splitlines(keepends=True) for text in (there, made))
    sys.stdout.writelines(difflib.unified_diff(old, new, "there", "made"))
    return int(there != made)
