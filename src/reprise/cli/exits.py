"""What the command's exit code says: one table."""

from __future__ import annotations

from enum import IntEnum

from reprise.kernel.errors import (
    ConfigurationError,
    DeadlineExceeded,
    RepriseError,
    ResultTimeout,
    RunCancelled,
    RunConflict,
    RunEnded,
    RunNotFound,
    StoreError,
)


class Exit(IntEnum):
    """Exit codes."""

    OK = 0
    FAILED = 1
    """The run failed, or a person has to decide."""
    USAGE = 2
    """The command, an option or the input is wrong."""
    NOT_FOUND = 3
    UNREACHABLE = 4
    """The store cannot be reached, read or written."""
    TIMEOUT = 5
    """The time to wait, or the run's own deadline, is over."""
    CANCELLED = 6
    CONFLICT = 7
    """The id is taken by another run, or the run has ended."""
    INTERRUPTED = 130


_ERRORS: tuple[tuple[type[RepriseError], Exit], ...] = (
    (ConfigurationError, Exit.USAGE),
    (RunNotFound, Exit.NOT_FOUND),
    (StoreError, Exit.UNREACHABLE),
    (ResultTimeout, Exit.TIMEOUT),
    (DeadlineExceeded, Exit.TIMEOUT),
    (RunCancelled, Exit.CANCELLED),
    (RunConflict, Exit.CONFLICT),
    (RunEnded, Exit.CONFLICT),
)


def code_of(error: RepriseError) -> Exit:
    """Return the exit code for an error of ours.

    >>> code_of(RunNotFound()).name, code_of(RepriseError()).name
    ('NOT_FOUND', 'FAILED')
    """
    return next((code for kind, code in _ERRORS if isinstance(error, kind)), Exit.FAILED)
