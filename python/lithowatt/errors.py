"""Exceptions. Each names the value that was wrong and what is accepted."""

from __future__ import annotations

__all__ = [
    "AgentError",
    "ConflictingOptionsError",
    "InvalidIntervalError",
    "LithowattError",
    "MalformedValueError",
    "MeterStateError",
    "ProcessNotFoundError",
    "UnavailableError",
    "UnknownDefinitionError",
    "UnknownMethodError",
    "UnknownScopeError",
    "UnreadableFileError",
    "UnwritableFileError",
]


class LithowattError(Exception):
    """Base of every exception that lithowatt raises itself."""


class UnknownMethodError(LithowattError, ValueError):
    """A method name that does not exist."""


class UnknownDefinitionError(LithowattError, ValueError):
    """A definition of the headline that does not exist."""


class UnknownScopeError(LithowattError, ValueError):
    """A scope name that does not exist."""


class InvalidIntervalError(LithowattError, ValueError):
    """A sampler interval outside 0.001 s to 3600 s."""


class ConflictingOptionsError(LithowattError, ValueError):
    """Options that exclude each other."""


class ProcessNotFoundError(LithowattError, ProcessLookupError):
    """No process with that pid."""


class UnreadableFileError(LithowattError, OSError):
    """A file that must be there is not, or may not be read."""


class UnwritableFileError(UnreadableFileError):
    """A file cannot be written; nothing was stored.

    A subclass of what this was before 0.2, so that callers who catch that go on catching it.
    """


class MalformedValueError(LithowattError, ValueError):
    """A value in a file or variable that does not have the expected format."""


class UnavailableError(LithowattError, RuntimeError):
    """Something that was asked for by name is not there, or may not be used: why, and the fix."""


class MeterStateError(LithowattError, RuntimeError):
    """``stop`` of a meter that does not run, or ``start`` of one that does."""


class AgentError(LithowattError, RuntimeError):
    """The node agent cannot run, or there is no ring of one to read."""
