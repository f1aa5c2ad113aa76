"""Makes docs/reference/environment-variables.md of the table of settings.

    python tools/environment_reference.py             compares with the page
    python tools/environment_reference.py --write     writes it (`make environment-reference`)

The table is in python/lithowatt/_support/environment_variables.py.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from pathlib import Path

from lithowatt._support.environment_variables import SETTINGS

TOP = Path(__file__).resolve().parent.parent
DOCUMENT = TOP / "docs" / "reference" / "environment-variables.md"

HEAD = """\
<!-- Made by `make environment-reference`: edit
python/lithowatt/_support/environment_variables.py instead. -->

# Environment variables

lithowatt reads these when a meter is made. An option that is given in Python or on the command
line wins. `lithowatt doctor` names each value that is refused or ignored, with what is accepted. It
also names a variable that begins with `LITHOWATT_` and is none of these, or that is spelt nearly as
one of these that begin with `ENERGY_`.
"""


def reference() -> str:
    """The document."""
    parts = [HEAD]
    for group, settings in SETTINGS.items():
        rows = [f"| `{name}` | {meaning} | {default} |" for name, meaning, default in settings]
        title = f"## {group}\n\n| variable | meaning | default |\n|---|---|---|"
        parts.append("\n".join([title, *rows]) + "\n")
    return "\n".join(parts)


def main(argv: list[str] | None = None) -> int:
    """Compares or writes the document."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="write the document")
    made = reference()
    if parser.parse_args(argv).write:
        DOCUMENT.write_text(made, encoding="utf-8")
        return 0
    there = DOCUMENT.read_text(encoding="utf-8")
    old, new = (text.splitlines(keepends=True) for text in (there, made))
    sys.stdout.writelines(difflib.unified_diff(old, new, "there", "made"))
    return int(there != made)


if __name__ == "__main__":
    sys.exit(main())
