"""What goes wrong while metering stays here: a meter never breaks what it watches."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType


class Harmless:
    """Swallows what goes wrong inside, except an interrupt or an exit, which are the worker's.

    Attributes:
        doing: What is being done, for the log.
        foreign: Objects of the user's are looked at inside, so that what is raised may be theirs:
            an exit is swallowed, too.
        trouble: What went wrong, empty if nothing did.
    """

    def __init__(self, doing: str, *, foreign: bool = False) -> None:
        self.doing = doing
        self.foreign = foreign
        self.trouble = ""

    def report(self, error: BaseException) -> None:
        """Logs ``error``, quietly."""
        import logging

        logger = logging.getLogger("lithowatt")
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("%s failed: %s\n%s", self.doing, self.trouble, where(error))

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        # By its type and not by isinstance, which asks the object for its __class__. Not only
        # Exception: a panic of the extension is a BaseException.
        if kind is None or error is None or issubclass(kind, KeyboardInterrupt):
            return False
        if issubclass(kind, SystemExit) and not self.foreign:
            return False
        try:
            self.trouble = described(error)
            self.report(error)
        except BaseException:  # noqa: S110 - this is the last line: nothing of a report gets out
            pass
        return True


def described(error: BaseException) -> str:
    """The type and the message of an exception; of one that cannot be asked, what is known."""
    name = "an exception"
    try:
        name = str(type(error).__name__)
        return f"{name}: {error}"
    except BaseException:
        return f"{name}, whose message cannot be read"


def where(error: BaseException) -> str:
    """The lines of code that an exception came through.

    Of the exception itself nothing is asked, nor of those that came before it: while a failed
    call is reported, the user's own exception is one of these, and what its attributes do when
    they are read is up to the user.
    """
    import traceback

    trace = BaseException.__dict__["__traceback__"].__get__(error)
    return "".join(traceback.format_tb(trace)).rstrip()
