"""What others gave, as JSON can hold it: bounded, and without secrets."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from itertools import islice
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

#: Numbers under such names are counts, and our own energies and times.
_COUNTS = re.compile("tokens|token_?count|^(worker_(func|task)_)?(energy|phase)_", re.IGNORECASE)

#: What has the value of a named entry, as in Kubernetes' lists of variables.
_NAME_KEYS = ("name", "key")

#: The rest of an address; whatever is before its last ``@`` may be a user and a password, which
#: may have any of the marks in it that an address has.
_ADDRESS = re.compile(r"""(?<=://)[^\s"'`]+""")

_MOST_DEEP, _MOST_VALUES, _MOST_TEXT = 8, 10_000, 4096
_MOST_VARIABLES = 1000
_LONGEST_INT = 1 << 63

#: No more of a text is looked at.
_MOST_READ = 1 << 20


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
            return _text(str(value), _MOST_TEXT)
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
        if type(value).__module__.partition(".")[0] == "numpy":
            value = self._bounded(value)
        # Scalars and arrays of NumPy.
        for name in ("item", "tolist"):
            convert = getattr(value, name, None)
            if convert is not None and type(value).__module__.partition(".")[0] == "numpy":
                try:
                    return self.of(convert(), depth + 1)
                except (TypeError, ValueError):
                    continue
        return _text(_as_text(value), _MOST_TEXT)

    def _bounded(self, value: Any) -> Any:
        """The first values of an array that has more than there is room for."""
        size = getattr(value, "size", 0)
        return value.flat[: self._left] if isinstance(size, int) and size > self._left else value

    def _dict(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        for name, one in value.items():
            if self._left <= 0:
                break
            key = _name(name)
            if key.lower() in _ENVIRONMENTS:
                kept[key] = self._environment(one, depth + 1)
            elif _is_secret(key, one) or (key.lower() == "value" and _is_named_secret(value, one)):
                kept[key] = REMOVED
            else:
                kept[key] = self.of(one, depth + 1)
        return kept

    def _environment(self, value: Any, depth: int) -> Any:
        """Environment variables in any of their forms: with their names, and without a value."""
        if isinstance(value, Mapping):
            return {_name(each): REMOVED for each in islice(value, _MOST_VARIABLES)}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [_variable(each) for each in islice(value, _MOST_VARIABLES)]
        if isinstance(value, str) and "=" in value:
            return _variable(value)
        return self.of(value, depth)


def _variable(one: Any) -> Any:
    """One of a list of environment variables."""
    if isinstance(one, Mapping):
        return {
            _name(key): _name(each) if _name(key).lower() in _NAME_KEYS else REMOVED
            for key, each in islice(one.items(), _MOST_VARIABLES)
        }
    if isinstance(one, (list, tuple)) and len(one) == 2:
        return [_name(one[0]), REMOVED]
    if isinstance(one, str) and "=" in one:
        return f"{_name(one.partition('=')[0])}={REMOVED}"
    return REMOVED


def _is_secret(name: str, value: Any) -> bool:
    if value is None or isinstance(value, bool) or not _SECRET.search(name):
        return False
    return not (isinstance(value, (int, float)) and _COUNTS.search(name))


def _is_named_secret(entry: Mapping[Any, Any], value: Any) -> bool:
    """Whether an entry with a name and a value has that of a secret."""
    names = (entry.get(key) for key in _NAME_KEYS)
    return any(isinstance(name, str) and _is_secret(name, value) for name in names)


def _name(value: Any) -> str:
    return _text(value if isinstance(value, str) else _as_text(value), 256)


def _text(value: str, most: int) -> str:
    """A text without passwords in its addresses, shortened after that."""
    read = value[:_MOST_READ]

    def removed(found: re.Match[str]) -> str:
        before, mark, after = found[0].rpartition("@")
        if found.end() == _MOST_READ < len(value):
            return REMOVED  # its end, and whether there is an @, is not known
        return f"{REMOVED}@{after}" if mark and before else found[0]

    return shortened(_ADDRESS.sub(removed, read), most)


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
