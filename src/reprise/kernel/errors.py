"""Errors of Reprise: one root, each saying what happened, to what, and what to do next.

RepriseError
├── ConfigurationError            an option, setting or declaration is wrong
│   ├── UnknownOption             a name that no part owns; carries the nearest valid one
│   ├── QueryError                a query cannot be read; carries the place
│   │   └── ExpressionInvalid     an expression cannot be read, or not be evaluated with what is known
│   ├── UnknownAgent              nobody is known by the name of an agent; names the nearest
│   ├── PlanInvalid               a plan or definition has faults; names all of them
│   └── MissingExtra              an optional dependency is not installed
├── CodecError                    a value cannot be written or read as its declared type
│   └── PayloadTooLarge           a value is larger than payloads may be
├── StoreError                    the keeper of the data could not do it
│   ├── StoreUnreachable          no connection, no file, no server
│   ├── StoreLocked               another process holds the file for too long
│   ├── StoreFull                 no room on the disk
│   ├── StoreReadOnly             the file or its folder cannot be written
│   ├── StoreCorrupt              a checksum or the file itself is broken
│   ├── KeyMissing                a payload is sealed with a key that was not given
│   ├── ArchiveCorrupt            an archive is not what was once written
│   ├── CopyDiffers               what was copied is not what it was copied from
│   ├── SchemaTooNew              written by a newer Reprise
│   ├── UnsupportedFileSystem     the file lies where locks cannot be trusted
│   ├── StoreClosed               used after close
│   ├── OutcomeUnknown            sent, but nobody said whether it was committed
│   ├── CellConflict              a cell does not have the version that is expected; nothing was changed
│   ├── FeedGone                  entries of a feed that are no longer kept
│   └── AppendRefused             a conditional append did not meet its condition; nothing was written
│       ├── StaleVersion          the stream moved on
│       ├── StaleToken            a newer holder owns the stream
│       ├── StreamMissing         the stream that must exist does not
│       ├── StreamClosed          the stream has ended
│       └── NoRoom                a limit lets no more runs execute or begin
├── StateConflict                 a key of shared state is not as a write expects it
├── StateTypeError                a key of shared state holds something else than is to be changed
├── LeaseLost                     a lease ended or passed to another holder
│   ├── LockLost                  a lock ended while its body ran, or is not held any more
│   └── LeadershipLost            a leader's term ended while its work ran
├── LockNotAcquired               a lock was not free within the time waited
│   └── DeadlockDetected          those who hold each other's locks wait in a circle
├── ClaimLost                     a queue claim ended or passed to another worker
├── TaskNotFound                  no task of that id in the queue, or no longer
├── TaskFailed                    a task is a dead letter; carries why, and its attempts
├── ToolError                     a tool was not called, or could not do it; carries a code
├── RunError                      about one run
│   ├── RunNotFound               no run with that id
│   ├── AmbiguousId               a prefix that several runs share
│   ├── RunConflict               the id exists with another workflow or input
│   ├── RunEnded                  the run has ended and takes nothing more
│   ├── RetryRefused              the run cannot be tried again so
│   ├── ForkRefused               what is asked of a fork contradicts itself, or the history
│   ├── NoSuchRecord              the history has no such record or step, or no longer
│   ├── MigrationRefused          the run cannot be carried over to other code now
│   ├── EffectNotOpen             nobody waits to be told what became of that effect
│   ├── RunFailed                 the run ended with an error
│   ├── RunCancelled              the run was cancelled
│   ├── RunStranded               no worker here can execute the run
│   ├── RunNeedsAttention         a person has to decide
│   ├── RunPaused                 the run rests until somebody resumes it
│   ├── UnknownHandler            the body has no query, update, question or stream of that name
│   ├── UpdateRefused             a validator refused an update; nothing happened
│   ├── AnswerRefused             an answer does not fit the question, which stays open
│   ├── QuestionClosed            the question was answered before, or has expired
│   ├── ChunksGone                chunks of a stream that are no longer kept
│   ├── ReplyGone                 what came of an update or an answer is no longer kept
│   ├── SagaFailed                another service of the saga failed
│   ├── ResultTimeout             the run had not ended in the time waited
│   └── DeadlineExceeded          the run's own deadline passed
├── BodyError                     the body of a run did what only a step may do
│   ├── NonDeterminismError       code and recorded history disagree
│   ├── StuckBodyError            waits for something that can never come
│   └── BusyBodyError             never becomes quiet
├── StepError                     about one step
│   ├── StepFailed                raised an error of a class this process does not know
│   ├── StepTimeout               ran longer than its timeout
│   ├── StepSkipped               a step of a plan was not done, because of another one
│   ├── PlanFailed                steps that a plan cannot do without failed
│   ├── StepRefused               whoever was asked did nothing, and will not
│   ├── BudgetExceeded            it would cost more than is left
│   ├── MemoryExceeded            asked for more memory than it may have
│   ├── ResultRefused             what it returned was refused by its validator, the last time too
│   ├── RuleNotMet                the branches of a parallel executor did not come to what its rule wants
│   └── OutcomeUnknownStep        timed out in a thread that cannot be stopped: may have happened
│       └── ProcessDied           the process that executed it ended
├── SignalTypeError               a signal's value is not of the awaited type
├── UnknownWorkflow               a name that is not registered here
├── ScheduleNotFound              no schedule of that name
└── InvalidTransition             a state machine was asked for a step it does not have
"""

from __future__ import annotations

from collections.abc import Iterable


class RepriseError(Exception):
    """Root of every error that Reprise raises on purpose.

    ``hint`` says what to do next; it is part of the message.
    """

    hint = ""

    def __init__(self, what: str = "", *, hint: str = "") -> None:
        self.what = what or (self.__doc__ or "").partition("\n")[0]
        if hint:
            self.hint = hint
        super().__init__(f"{self.what} {self.hint}".rstrip())


class ConfigurationError(RepriseError):
    """An option, setting or declaration is wrong."""


class UnknownOption(ConfigurationError):
    """A name was given that no part owns."""


class QueryError(ConfigurationError):
    """A query cannot be read.

    ``query`` is its text, ``start`` and ``end`` the place in it that is meant.
    """

    def __init__(
        self, what: str = "", *, hint: str = "", query: str = "", start: int = 0, end: int = 0
    ) -> None:
        super().__init__(what, hint=hint)
        self.query, self.start, self.end = query, start, end

    def pointer(self) -> str:
        """Return the query and, in a second line, what points at the place.

        >>> print(QueryError(query="status:faild", start=7, end=12).pointer())
        status:faild
               ^^^^^
        """
        shown = "".join(c if c.isprintable() else " " for c in self.query)
        return f"{shown}\n{' ' * self.start}{'^' * max(1, self.end - self.start)}"


class ExpressionInvalid(QueryError):
    """An expression cannot be read, or cannot be evaluated with what is known."""


class PlanInvalid(ConfigurationError):
    """A plan or definition has faults; the message names all of them.

    ``faults`` are its lines, each with the step (in a file also line and column), what is wrong, and what to do.
    """

    faults: tuple[str, ...] = ()

    def __init__(self, what: str = "", *, hint: str = "", faults: Iterable[str] = ()) -> None:
        super().__init__(what, hint=hint)
        self.faults = tuple(faults)

    def __str__(self) -> str:
        return "\n  ".join((super().__str__(), *self.faults))


class UnknownAgent(ConfigurationError):
    """Nobody is known by the name of an agent."""


class MissingExtra(ConfigurationError):
    """An optional dependency is not installed."""


class CodecError(RepriseError):
    """A value cannot be written or read as its declared type."""


class PayloadTooLarge(CodecError):
    """A value is larger than payloads may be; trying again does not help."""


class StoreError(RepriseError):
    """The store could not do what was asked."""


class StoreUnreachable(StoreError):
    """The store cannot be reached."""


class StoreLocked(StoreError):
    """Another process holds the store for too long."""


class StoreFull(StoreError):
    """There is no room left for the store."""


class StoreReadOnly(StoreError):
    """The store cannot be written."""


class StoreCorrupt(StoreError):
    """Stored data is damaged."""


class ArchiveCorrupt(StoreError):
    """An archive is not what was once written."""


class CopyDiffers(StoreError):
    """What was copied is not what it was copied from."""


class KeyMissing(StoreError):
    """A payload is sealed with a key that was not given. Nothing is lost: with the key it can be read."""


class SchemaTooNew(StoreError):
    """The store was written by a newer Reprise."""


class UnsupportedFileSystem(StoreError):
    """The store lies on a file system whose locks cannot be trusted."""


class StoreClosed(StoreError):
    """The store was used after it was closed."""


class OutcomeUnknown(StoreError):
    """An append was sent and nobody said whether it was committed."""


class CellConflict(StoreError):
    """A cell does not have the version that a change expects; nothing was changed.

    ``name`` is the cell, ``found`` the version that it has (0 = there is none), ``expected`` the one it should have.
    """

    def __init__(
        self, what: str = "", *, hint: str = "", name: str = "", expected: int = 0, found: int = 0
    ) -> None:
        super().__init__(what, hint=hint)
        self.name, self.expected, self.found = name, expected, found


class FeedGone(StoreError):
    """Entries of a feed were asked for that are no longer kept, or never were.

    ``kept_after`` is the position behind which it is whole.
    """

    def __init__(self, what: str = "", *, hint: str = "", kept_after: int = 0) -> None:
        super().__init__(what, hint=hint)
        self.kept_after = kept_after


class AppendRefused(StoreError):
    """A conditional append did not meet its condition; nothing of it was written."""


class StaleVersion(AppendRefused):
    """The stream moved on since it was read."""


class StaleToken(AppendRefused):
    """A newer holder owns the stream."""


class StreamMissing(AppendRefused):
    """The stream that must exist does not."""


class StreamClosed(AppendRefused):
    """The stream has ended."""


class NoRoom(AppendRefused):
    """A place that the run needs is taken by others."""


class StateConflict(RepriseError):
    """A key of shared state is not as a write expects it; nothing was written.

    ``version`` is the one that it has (0 = it does not exist), ``expected`` the one that was expected, if any.
    """

    def __init__(
        self,
        what: str = "",
        *,
        hint: str = "",
        key: str = "",
        version: int = 0,
        expected: int | None = None,
    ) -> None:
        super().__init__(what, hint=hint)
        self.key, self.version, self.expected = key, version, expected


class StateTypeError(RepriseError, TypeError):
    """A key of shared state holds something else than is to be changed, such as a text that is to be counted up."""


class LeaseLost(RepriseError):
    """A lease ended or passed to another holder."""


class LockLost(LeaseLost):
    """A lock ended, or passed to another holder: what was done under it may have been done beside somebody else."""


class LeadershipLost(LeaseLost):
    """A leader's term ended while its work ran."""


class LockNotAcquired(RepriseError):
    """A lock was not free within the time waited."""


class DeadlockDetected(LockNotAcquired):
    """To wait for this lock would never end: its holder waits for one that the caller holds, or for itself.

    ``cycle`` says who holds what and waits for what, the caller first.
    """

    def __init__(self, what: str = "", *, hint: str = "", cycle: Iterable[str] = ()) -> None:
        super().__init__(what, hint=hint)
        self.cycle = tuple(cycle)


class ClaimLost(RepriseError):
    """A claim on a queued task ended or passed to another worker."""


class TaskNotFound(RepriseError):
    """There is no task of that id in the queue, or no longer."""


class TaskFailed(RepriseError):
    """A task was given up and is a dead letter. ``attempts`` says what became of each try."""

    attempts: tuple[object, ...] = ()

    def __init__(self, what: str = "", *, hint: str = "", attempts: Iterable[object] = ()) -> None:
        super().__init__(what, hint=hint)
        self.attempts = tuple(attempts)


class ToolError(RepriseError):
    """A tool was not called, or could not do what it was asked.

    ``code`` is one of ``invalid_input, not_found, too_large, timeout, permission_denied, rate_limited, unavailable,
    conflict, upstream``; ``field`` the path of the argument that is meant, '' = none; ``retry_after`` seconds, if known.
    """

    def __init__(
        self,
        code: str = "upstream",
        what: str = "",
        *,
        hint: str = "",
        field: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(what, hint=hint)
        self.code, self.field, self.retry_after = code, field, retry_after


class RunError(RepriseError):
    """Something about one run."""


class RunNotFound(RunError):
    """There is no run with that id."""


class AmbiguousId(RunError):
    """Several runs share that prefix."""


class RunConflict(RunError):
    """The id belongs to a run of another workflow or input."""


class RunEnded(RunError):
    """The run has ended and takes nothing more."""


class RetryRefused(RunError):
    """The run cannot be tried again so; nothing was started."""


class ForkRefused(RunError):
    """What is asked of a fork contradicts itself, or the run's history; nothing was started."""


class NoSuchRecord(RunError):
    """The history of a run has no such record or step, or no longer."""


class MigrationRefused(RunError):
    """The run cannot be carried over to other code now; nothing was written."""


class EffectNotOpen(RunError):
    """Nobody waits to be told what became of that effect."""


class RunFailed(RunError):
    """The run ended with an error."""


class RunCancelled(RunError):
    """The run was cancelled."""


class RunStranded(RunError):
    """No worker here can execute the run."""


class RunNeedsAttention(RunError):
    """The run waits for a person's decision."""


class RunPaused(RunError):
    """The run rests until somebody resumes it."""


class UnknownHandler(RunError):
    """The body has no query, update, question or stream of that name."""


class UpdateRefused(RunError):
    """A validator refused an update; nothing happened and nothing was recorded."""


class AnswerRefused(RunError):
    """An answer does not fit the question, which stays open."""


class QuestionClosed(RunError):
    """The question takes no answer any more: it was answered before, or has expired."""


class ChunksGone(RunError):
    """Chunks of a stream that are no longer kept were asked for."""


class ReplyGone(RunError):
    """An update or an answer was sent again that the run took long ago; what came of it is no longer kept."""


class SagaFailed(RunError):
    """Another service of the saga failed, so what this one did is compensated."""


class ResultTimeout(RunError):
    """The run had not ended in the time waited."""


class DeadlineExceeded(RunError):
    """The run's own deadline passed."""


class BodyError(RepriseError):
    """The body of a run did what only a step may do."""


class NonDeterminismError(BodyError):
    """The code and the recorded history disagree."""

    key: str = ""
    """Of the record, '' = there is none."""
    file: str = ""
    """Where the code makes another call than the recorded one; '' = it makes none."""
    line: int = 0


class StuckBodyError(BodyError):
    """The body waits for something that can never come."""


class BusyBodyError(BodyError):
    """The body never becomes quiet."""


class StepError(RepriseError):
    """Something about one step."""


class StepFailed(StepError):
    """A step raised an error of a class that this process does not know."""

    type: str = ""
    """Full name of the class that was raised."""
    message: str = ""
    """What it said."""


class StepTimeout(StepError, TimeoutError):
    """A step ran longer than its timeout."""


class StepSkipped(StepError):
    """A step of a plan was not done, because of another one. Trying the run again does it."""


class PlanFailed(StepError):
    """Steps that a plan cannot do without failed."""

    plan: str = ""
    failed: list[str] = []  # noqa: RUF012 - set by whoever raises it
    """Names of the steps."""


class StepRefused(StepError):
    """Whoever was asked did nothing, and will not: raised by the services of a saga."""


class BudgetExceeded(StepError):
    """A call would cost more than is left of a budget; it was not made."""


class OutcomeUnknownStep(StepError):
    """A step may or may not have happened."""


class MemoryExceeded(StepError):
    """A step asked for more memory than it may have; trying again does not help."""


class ResultRefused(StepError):
    """What a step returned was refused by its validator; it has no more tries."""


class RuleNotMet(StepError):
    """What came of the branches of a parallel executor is not what its rule wants."""


class ProcessDied(OutcomeUnknownStep):
    """The process that executed a step ended before the step did: it may have happened, wholly or in part.

    ``reason`` is ``cpu`` (more CPU time than it may have), ``memory`` (more memory, where only looking at it is
    possible), ``silence`` (stopped or stuck), ``signal``, ``exit`` (ended itself) or ``frame`` (wrote into what is ours).
    """

    reason: str = ""
    signal: int = 0
    """Number of the signal that ended it, 0 = none did."""
    exit_code: int | None = None


class SignalTypeError(RepriseError):
    """A signal's value is not of the awaited type."""


class UnknownWorkflow(RepriseError):
    """No workflow of that name is registered here."""


class ScheduleNotFound(RepriseError):
    """There is no schedule of that name."""


class InvalidTransition(RepriseError):
    """A state machine has no such transition."""


class Evicted(BaseException):
    """Raised by whatever a body calls while it is unwound from memory; never an error of the run."""


def nearest(name: str, valid: Iterable[str], least: float = 0.6) -> str:
    """Return the valid name that was probably meant, '' when none is near; ``least`` is how alike, 1 the same.

    >>> nearest("retires", ["retries", "timeout"]), nearest("colour", ["retries"])
    ('retries', '')
    """
    from difflib import get_close_matches  # noqa: PLC0415 - only where somebody mistyped

    return next(iter(get_close_matches(name, list(valid), 1, least)), "")


def unknown_option(name: str, valid: Iterable[str], owner: str) -> UnknownOption:
    """Return the error for a name that ``owner`` does not have; it names the nearest valid one.

    >>> print(unknown_option("colour", ["color", "size"], "shirt()"))
    shirt() has no 'colour'. Did you mean 'color'?
    """
    names = sorted(valid)
    meant = nearest(name, names)
    hint = (
        f"Did you mean {meant!r}?" if meant else f"Valid: {', '.join(names)}." if names else "It takes none."
    )
    return UnknownOption(f"{owner} has no {name!r}.", hint=hint)
