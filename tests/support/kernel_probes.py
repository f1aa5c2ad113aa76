"""Kernel probes for tests that need them: loaded where the machine allows it, else a reason."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from lithowatt import UnavailableError, _core


def are_loaded() -> bool:
    """Whether any process of this machine can read them now."""
    try:
        _core.Probes()
    except UnavailableError:
        return False
    return True


def load() -> None:
    """Loads them for every process; skips the test, with the reason, where that cannot be."""
    try:
        _core.load_probes()
        # Without a BPF file system there is nothing to pin them to: nobody can read them.
        _core.Probes()
    except UnavailableError as error:
        # Where the kernel lacks nothing, the probes have a fault.
        lacks = "is needed)" in str(error) or "is locked down)" in str(error)
        assert lacks or "verifier says" not in str(error), error
        pytest.skip(f"no kernel probes: {error}")


@contextlib.contextmanager
def loaded() -> Iterator[None]:
    """Loaded during the block; afterwards the machine is as it was found."""
    if are_loaded():
        yield
        return
    load()
    try:
        yield
    finally:
        _core.unload_probes()
