"""Docstrings as the site's parser wants them (a griffe extension, named in mkdocs.yml).

``Example:`` becomes the section ``Examples:``, and reST's roles and double backticks become code.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|func|meth|mod|attr|data|exc|obj):`(~?)([\w.]+)`")
CODE = re.compile(r"``(.+?)``", re.DOTALL)
EXAMPLE = re.compile(r"^(\s*)Example:$", re.MULTILINE)


def _role(found: re.Match[str]) -> str:
    short, name = found.groups()
    return f"`{name.rpartition('.')[2] if short else name}`"


def as_markdown(text: str) -> str:
    """The docstring in the dialect that the site's parser understands.

    >>> as_markdown("See :class:`~lithowatt.EnergyMeter` and ``None``.")
    'See `EnergyMeter` and `None`.'
    """
    return EXAMPLE.sub(r"\1Examples:", CODE.sub(r"`\1`", ROLE.sub(_role, text)))


class Docstrings(griffe.Extension):
    """Rewrites each docstring before it is parsed."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
