"""From errors to lines and exit codes. From the states of runs to exit codes is the business of ``kernel.machine``."""

from __future__ import annotations

import traceback

from reprise.cli.output import Screen
from reprise.kernel.errors import (
    AmbiguousId,
    AnswerRefused,
    ArchiveCorrupt,
    ConfigurationError,
    CopyDiffers,
    DeadlineExceeded,
    ForkRefused,
    MigrationRefused,
    NoSuchRecord,
    PlanInvalid,
    QueryError,
    QuestionClosed,
    RepriseError,
    ResultTimeout,
    RetryRefused,
    RunCancelled,
    RunConflict,
    RunEnded,
    RunNotFound,
    RunPaused,
    ScheduleNotFound,
    StateConflict,
    StoreError,
    TaskNotFound,
    ToolError,
    UnknownHandler,
    UnknownWorkflow,
    UpdateRefused,
)
from reprise.kernel.machine import ExitCode

_ERRORS: tuple[tuple[type[RepriseError], ExitCode], ...] = (
    (ConfigurationError, ExitCode.USAGE),
    (UnknownWorkflow, ExitCode.USAGE),
    (AmbiguousId, ExitCode.USAGE),
    (UnknownHandler, ExitCode.NOT_FOUND),
    (AnswerRefused, ExitCode.USAGE),
    (UpdateRefused, ExitCode.CONFLICT),
    (QuestionClosed, ExitCode.CONFLICT),
    (RunNotFound, ExitCode.NOT_FOUND),
    (ScheduleNotFound, ExitCode.NOT_FOUND),
    (TaskNotFound, ExitCode.NOT_FOUND),
    (ArchiveCorrupt, ExitCode.FAILED),
    (CopyDiffers, ExitCode.FAILED),
    (StateConflict, ExitCode.CONFLICT),
    (StoreError, ExitCode.UNREACHABLE),
    (ResultTimeout, ExitCode.TIMEOUT),
    (DeadlineExceeded, ExitCode.TIMEOUT),
    (RunCancelled, ExitCode.CANCELLED),
    (RunConflict, ExitCode.CONFLICT),
    (RunEnded, ExitCode.CONFLICT),
    (RetryRefused, ExitCode.CONFLICT),
    (ForkRefused, ExitCode.CONFLICT),
    (NoSuchRecord, ExitCode.NOT_FOUND),
    (MigrationRefused, ExitCode.CONFLICT),
    (RunPaused, ExitCode.INTERRUPTED),
)

_OF_TOOLS = {
    "invalid_input": ExitCode.USAGE,
    "too_large": ExitCode.USAGE,
    "not_found": ExitCode.NOT_FOUND,
    "timeout": ExitCode.TIMEOUT,
    "unavailable": ExitCode.UNREACHABLE,
    "permission_denied": ExitCode.CONFLICT,
    "rate_limited": ExitCode.CONFLICT,
    "conflict": ExitCode.CONFLICT,
}


def code_of(error: RepriseError) -> ExitCode:
    """Return the exit code for an error of ours.

    >>> code_of(RunNotFound()).name, code_of(RepriseError()).name
    ('NOT_FOUND', 'FAILED')
    """
    if isinstance(error, ToolError):
        return _OF_TOOLS.get(error.code, ExitCode.FAILED)
    return next((code for kind, code in _ERRORS if isinstance(error, kind)), ExitCode.FAILED)


def quote_of(error: RepriseError) -> str:
    """Return the lines that show what an error is about: the query with the place in it, the faults of a plan."""
    if isinstance(error, PlanInvalid):
        return "\n".join(error.faults)
    return error.pointer() if isinstance(error, QueryError) else ""


def report(error: Exception, *, debug: bool, color: bool) -> int:
    """Print an error, one line and a hint (with ``debug`` its traceback before them), and return the exit code."""
    if debug:
        traceback.print_exception(error)
    screen = Screen(color=None if color else False)
    if isinstance(error, RepriseError):
        screen.fail(error.what, error.hint, quote_of(error))
        return int(code_of(error))
    screen.fail(
        f"{type(error).__name__}: {error}", "" if debug else "Run it again with --debug to see where."
    )
    return int(ExitCode.FAILED)
