"""Since when the agent's counters count: what a scrape needs to tell a new counter from an old one
that goes on."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from lithowatt import _core
from lithowatt.errors import LithowattError
from lithowatt.export.openmetrics import Since

if TYPE_CHECKING:
    import os


class Beginnings:
    """When the counters of one agent began, by its ring.

    Totals begin with the first ring that later ones go on from, the rows of containers and pods
    when each was found; both outlive the agent. What its process counts began with it.
    """

    def __init__(self, ring: _core.Ring) -> None:
        self._ring = ring
        self._agent = time.time()
        self._totals = ring.header()["lineage"] * 1e-9
        # Once: a clock that is set meanwhile is no new counter.
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    @classmethod
    def of(
        cls, path: str | os.PathLike[str], root: str | os.PathLike[str] | None
    ) -> Beginnings | None:
        """Of the ring at ``path``; ``None`` where it cannot be read."""
        with contextlib.suppress(LithowattError, OSError):
            return cls(_core.Ring(path, root))
        return None

    def look(self) -> Since:
        """Those of now."""
        rows = []
        with contextlib.suppress(LithowattError, OSError):
            _, rows = self._ring.groups() or (None, [])
        groups = {row["id"]: (row["since_ns"] + self._offset_ns) * 1e-9 for row in rows}
        return Since(self._agent, self._totals, groups)
