"""How far a command is: a bar on a terminal, else a line per run. On stderr, always."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any


class Progress:
    """Counts steps; what it shows never reaches stdout."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.done = 0
        self.width = 0
        self.bar: Any = None
        self.terminal = sys.stderr.isatty()

    def __enter__(self) -> Progress:
        if self.terminal:
            try:
                from tqdm import tqdm  # type: ignore[import-untyped,unused-ignore]

                self.bar = tqdm(total=self.steps, leave=False, file=sys.stderr, unit="stage")
            except ImportError:
                pass
        return self

    def step(self, what: str) -> None:
        """One more is done; `what` comes next or was it."""
        self.done += 1
        if self.bar is not None:
            self.bar.set_description(what)
            self.bar.update()
        elif self.terminal:
            line = f"{self.done}/{self.steps}  {what}"
            print(f"\r{line:<{self.width}}", end="", file=sys.stderr, flush=True)
            self.width = len(line)

    def line(self, text: str) -> None:
        """A line of its own where nobody watches a bar."""
        if not self.terminal:
            print(text, file=sys.stderr, flush=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.close()
        elif self.terminal and self.width:
            print("\r" + " " * self.width + "\r", end="", file=sys.stderr, flush=True)
