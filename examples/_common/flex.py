"""A workload on FlexExecutor."""

from __future__ import annotations


def unavailable() -> str | None:
    """Why FlexExecutor cannot be used here, or None."""
    return "not yet"
