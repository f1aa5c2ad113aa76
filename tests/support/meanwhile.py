"""Something that goes on beside what a test does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def meanwhile(step: Callable[[], object], every: float) -> Iterator[None]:
    """Calls ``step`` again and again, ``every`` so many seconds, until the block ends."""
    ended = threading.Event()

    def go_on() -> None:
        while not ended.wait(every):
            step()

    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
