"""Makes docs/reference/environment-variables.md of the table of settings.

    python tools/environment_reference.py             compares with the page
    python tools/environment_reference.py --write     writes it (`make environment-reference`)

The table is in python/lithowatt/_support/environment_variables.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

from generated import compare_or_write

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
    return compare_or_write(DOCUMENT, reference(), __doc__.partition("\n")[0], argv)


if __name__ == "__main__":
    sys.exit(main())
