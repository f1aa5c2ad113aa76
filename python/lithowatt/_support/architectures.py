"""The two processor architectures of clouds, by any of their names."""

from __future__ import annotations

#: What clouds call the two, and what machines call them.
ARCHITECTURES = {
    "x86_64": "x86_64",
    "amd64": "x86_64",
    "arm64": "arm64",
    "aarch64": "arm64",
}


def normalise_architecture(name: object) -> str:
    """``x86_64`` or ``arm64`` for any of the names in `ARCHITECTURES`.

    Raises:
        ValueError: For any other name.
    """
    known = ARCHITECTURES.get(name.strip().lower()) if isinstance(name, str) else None
    if known is None:
        raise ValueError(f"architecture {name!r:.80} is not known: x86_64 or arm64")
    return known
