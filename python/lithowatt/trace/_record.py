"""Recording a window: the meter that writes down what it reads, and its file."""

from __future__ import annotations

import platform
import tempfile
import threading
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from lithowatt import _core
from lithowatt.meter._reading import Reading
from lithowatt.trace._file import MOST_BYTES, framed, packed, save

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

_EVERY_SECONDS = 5.0
"""Rows leave the memory so often."""

_IN_MEMORY = 16 << 20
_RESERVED = 8 << 20
"""Room for the header and the rows that end the window."""


class Recording:
    """A window of this process and its descendants that is written down.

    Kernel probes and the node agent's ring are not used: what they show cannot be recorded.

    Args:
        methods: As for ``EnergyMeter``.
        interval: Seconds between samples, 0.001 to 3600, or ``None`` for the edges alone.
        definition: As for ``EnergyMeter``.
        root: Where ``/sys`` and ``/proc`` are.
        label: The name of the reading; it is not recorded.
    """

    def __init__(
        self,
        *,
        methods: str = "auto",
        interval: float | None = 0.1,
        definition: str | None = None,
        root: str | os.PathLike[str] | None = None,
        label: str | None = None,
    ) -> None:
        self._core = _core.Meter(
            methods,
            interval=interval,
            children=True,
            label=label,
            root=root,
            enabled=True,
            definition=definition,
            record=True,
        )
        # Closed in `save` or with this object.
        self._rows = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115
        self._size = 0
        self._ended = threading.Event()
        self._writer = threading.Thread(target=self._write, name="lithowatt-record", daemon=True)
        #: Rows that a trace has no room for were left out.
        self.cut = False

    def start(self) -> None:
        """Starts."""
        self._core.start()
        self._writer.start()

    def stop(self) -> None:
        """Stops."""
        self._core.stop()
        self._ended.set()
        self._writer.join()
        self._keep(last=True)

    def _write(self) -> None:
        while not self._ended.wait(_EVERY_SECONDS):
            self._keep(last=False)

    def _keep(self, *, last: bool) -> None:
        blocks = self._core.take_blocks()
        for place, block in enumerate(blocks, 1):
            ends = last and place == len(blocks)
            room = MOST_BYTES - (0 if ends else _RESERVED)
            if self._size + len(block) > room:
                self.cut = True
                continue
            piece = len(block).to_bytes(4, "little") + block
            self._rows.write(piece)
            self._size += len(piece)

    @property
    def reading(self) -> Reading:
        """The window, when it has ended."""
        return Reading._of(self._core.taken())

    def save(self, path: str | os.PathLike[str], **about: Any) -> int:
        """Writes the trace; returns its size in bytes.

        Args:
            path: The file.
            about: More that is to be kept of it.

        Raises:
            OSError: It cannot be written.
            RuntimeError: There is nothing to write.
        """
        recording = self._core.trace_header()
        if recording is None:
            reason = self.reading.reason
            raise RuntimeError(f"nothing was recorded: {reason}")
        reading = self.reading
        header = {
            "lithowatt": _core.__version__,
            "kernel": platform.release(),
            "recorded": datetime.now(timezone.utc).date().isoformat(),
            "cpu": reading.raw["cpu"]["name"],
            "counters": [f"{zone.method} {zone.name}" for zone in reading.zones],
            "complete": not self.cut,
            **about,
        }
        with self._rows:
            return save(path, packed(header, recording, self._body()))

    def _body(self) -> Iterator[bytes]:
        self._rows.seek(0)
        while piece := self._rows.read(1 << 20):
            yield piece
        yield from framed(())
