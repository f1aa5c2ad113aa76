"""What every JSON result begins with, so that it can be made again."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import numpy as np

from lithowatt import _core
from lithowatt.profiles._runs import Profiles

#: Version of the layout of results.
SCHEMA = 1


def envelope(
    command: str,
    profiles: Profiles,
    settings: Mapping[str, Any],
    warnings: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The head of a result: what was read, how, and what to be warned of.

    Args:
        command: The verb, e.g. `stats`.
        profiles: What was read.
        settings: All that the result depends on besides the files.
        warnings: Each with `code`, `text` and, where it is about files, `files`.
    """
    now = datetime.now(timezone.utc).replace(microsecond=0, tzinfo=None)
    inputs: dict[str, dict[str, Any]] = {}
    for file in profiles.files:
        one = inputs.setdefault(
            file.name,
            {"file": file.name, "sha256": file.sha256, "rows": 0, "configurations": 0},
        )
        one["rows"] += file.rows
        one["configurations"] += len(file.configurations)
    return {
        "schema": SCHEMA,
        "command": command,
        "version": _core.__version__,
        "created": f"{now.isoformat()}Z",
        "inputs": list(inputs.values()),
        "skipped": [one._asdict() for one in profiles.skipped],
        "settings": dict(settings),
        "warnings": [dict(one) for one in warnings],
    }


def plain(value: Any) -> Any:
    """A result as JSON can hold it: no NumPy, and `None` for what is no finite number."""
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(one) for one in value]
    if isinstance(value, np.ndarray):
        return [plain(one) for one in value.tolist()]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


#: What JSON may hold as it is, and a terminal obeys or does not show.
_HIDDEN = re.compile("[\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def as_text(result: Mapping[str, Any]) -> str:
    """The JSON text of a result, one row of a list a line; numbers in full precision."""
    members = ",\n".join(f" {_text(str(key))}: {_member(value)}" for key, value in result.items())
    return _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", f"{{\n{members}\n}}")


def _member(value: Any) -> str:
    if not isinstance(value, (list, tuple)) or not any(isinstance(one, Mapping) for one in value):
        return _text(value)
    rows = ",\n".join(f"  {_text(one)}" for one in value)
    return f"[\n{rows}\n ]"


def _text(value: Any) -> str:
    # Without an indent json encodes in C. Most values are plain already.
    try:
        return json.dumps(value, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError):
        return json.dumps(plain(value), allow_nan=False, ensure_ascii=False)
