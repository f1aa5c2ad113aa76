"""What follows the ``?`` of a reference."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from lithowatt.errors import MalformedValueError

if TYPE_CHECKING:
    from collections.abc import Iterable


def options_in(query: str, known: Iterable[str], of: str) -> dict[str, str]:
    """The options of ``query``; ``of`` is what errors call whose they are.

    >>> options_in("tz=UTC&offset=2", ("tz", "offset"), "plug.csv")
    {'tz': 'UTC', 'offset': '2'}

    Raises:
        MalformedValueError: One is not among those that are ``known``.
    """
    names = tuple(known)
    given = dict(parse_qsl(query, keep_blank_values=True))
    for name in given:
        if name not in names:
            raise MalformedValueError(f"{of} has no option {name!r}; expected {', '.join(names)}")
    return given
