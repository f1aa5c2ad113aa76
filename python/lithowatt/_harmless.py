"""What goes wrong while metering stays here: a meter never breaks what it watches."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType


class Harmless:
    """Swallows what goes wrong inside, except an interrupt, which is the worker's.

    Attributes:
        doing: What is being done, for the log.
        trouble: What went wrong, empty if nothing did.
    """

    def __init__(self, doing: str) -> None:
        self.doing = doing
        self.trouble = ""

    def report(self, error: BaseException) -> None:
        """Logs ``error``, quietly."""
        import logging

        logging.getLogger("lithowatt").debug("%s failed", self.doing, exc_info=error)

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        # Not only Exception: a panic of the extension is a BaseException.
        if error is None or isinstance(error, (KeyboardInterrupt, SystemExit)):
            return False
        self.trouble = f"{type(error).__name__}: {error}"
        self.report(error)
        return True
