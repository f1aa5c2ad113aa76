"""A profile and its sidecar as they were last read or written by this process.

While nobody else writes them, a repetition is added to what is known: nothing is read
again, and only what is new is made into text.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from lithowatt._support.files import Stamp, write_pieces
from lithowatt._support.harmless import Harmless
from lithowatt.profiles._file import Metrics, repetitions_of
from lithowatt.profiles._sidecar import NewRecord, Sidecar
from lithowatt.profiles._text import ProfileText


class SavedProfile:
    """Knows whether a profile on disk is what a profile in memory was, and writes it."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.realpath(path)
        # Before the file is read: who writes it meanwhile is seen.
        self._stamp = Stamp.of(self.path)
        self._known: dict[Any, tuple[Metrics, int]] = {}
        self._text = ProfileText()
        self._sidecar = Sidecar()

    def remember(self, data: Mapping[Any, Metrics]) -> None:
        """`data` is what the file holds."""
        self._known = {key: (metrics, repetitions_of(metrics)) for key, metrics in data.items()}

    def grows_to(self, path: str | os.PathLike[str], data: Mapping[Any, Metrics]) -> bool:
        """Whether `data` is what the file at `path` holds, perhaps with repetitions appended."""
        return (
            self.path == os.path.realpath(path)
            and self._stamp == Stamp.of(self.path)
            and all(
                data.get(key) is metrics and repetitions_of(metrics) >= count
                for key, (metrics, count) in self._known.items()
            )
        )

    def write(
        self, data: Mapping[Any, Metrics], records: Sequence[NewRecord], unmoved: bool
    ) -> bool:
        """Writes a profile, and its sidecar as far as that is possible.

        Args:
            data: The profile.
            records: Records that its sidecar does not hold yet.
            unmoved: The result of `grows_to` for `data`.

        Returns:
            Whether the sidecar was written, too.

        Raises:
            OSError: The profile cannot be written; what was there before still is.
            MalformedValueError, TypeError: As from `write_profile`.
        """
        write_pieces(self.path, self._text.of(data))
        self._stamp = Stamp.of(self.path)
        self.remember(data)
        trouble = Harmless("writing the sidecar of a profile")
        with trouble:
            self._sidecar.append(self.path, data, records, unmoved)
        return not trouble.trouble
