"""What others gave, as JSON can hold it: bounded, and without secrets."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from lithowatt._support.text import shortened

REMOVED = "[removed]"

#: Names whose text is a secret, as far as a name can tell.
_SECRET = re.compile(
    "pass(word|wd|phrase)|secret|token|credential|api_?key|access_?key|private_?key|account_?key"
    "|authori[sz]ation|cookie|signature|connection_?string",
    re.IGNORECASE,
)

#: Names of dicts of environment variables: their names are kept, and no value.
_ENVIRONMENTS = frozenset(
    ("env", "environ", "environment", "environment_variables", "env_vars", "extra_env")
)

#: User and password in an address.
_IN_ADDRESS = re.compile(r"(?<=://)[^/@\s]+(?=@)")

_MOST_DEEP, _MOST_VALUES, _MOST_TEXT = 8, 10_000, 4096
_LONGEST_INT = 1 << 63


def plain(value: Any) -> Any:
    """A copy of ``value`` of dicts, lists, texts and numbers alone.

    Text under a name that sounds like a secret's, values of environment variables and passwords in
    addresses become ``[removed]``. What is no finite number is ``None``. Texts end after 4096
    characters, nesting after 8 levels, all after 10 000 values.

    Example:
        >>> plain({"workers": 4, "api_key": "x", "url": "s3://me:pw@host/a"})
        {'workers': 4, 'api_key': '[removed]', 'url': 's3://[removed]@host/a'}
        >>> plain({"extra_env": {"A": 1}})
        {'extra_env': {'A': '[removed]'}}
    """
    return _Copy().of(value, 0)


class _Copy:
    def __init__(self) -> None:
        self._left = _MOST_VALUES

    def of(self, value: Any, depth: int) -> Any:
        self._left -= 1
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return _IN_ADDRESS.sub(REMOVED, shortened(str(value), _MOST_TEXT))
        if isinstance(value, int):
            return int(value) if abs(value) < _LONGEST_INT else _as_float(value)
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else None
        if depth >= _MOST_DEEP or self._left <= 0:
            return "…"
        if isinstance(value, Mapping):
            return self._dict(value, depth)
        if isinstance(value, (list, tuple, set, frozenset)):
            kept = []
            for one in value:
                if self._left <= 0:
                    break
                kept.append(self.of(one, depth + 1))
            return kept
        if isinstance(value, (bytes, bytearray, memoryview)):
            return f"<{len(value)} bytes>"
        # Scalars and arrays of NumPy.
        for name in ("item", "tolist"):
            convert = getattr(value, name, None)
            if convert is not None and type(value).__module__.partition(".")[0] == "numpy":
                try:
                    return self.of(convert(), depth + 1)
                except (TypeError, ValueError):
                    continue
        return _IN_ADDRESS.sub(REMOVED, shortened(_as_text(value), _MOST_TEXT))

    def _dict(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        for name, one in value.items():
            if self._left <= 0:
                break
            key = shortened(name if isinstance(name, str) else _as_text(name), 256)
            if key.lower() in _ENVIRONMENTS and isinstance(one, Mapping):
                kept[key] = {shortened(_as_text(each), 256): REMOVED for each in list(one)[:1000]}
            elif _SECRET.search(key) and not isinstance(one, (bool, int, float, type(None))):
                kept[key] = REMOVED
            else:
                kept[key] = self.of(one, depth + 1)
        return kept


def _as_float(value: int) -> float | None:
    try:
        return float(value)
    except OverflowError:
        return None


def _as_text(value: Any) -> str:
    try:
        return str(value)
    except Exception:  # an object of the user's, whose str may do anything
        return f"<{type(value).__name__}>"
