"""Effects whose outcome is unknown: asked for, told by a person, and never done twice in silence.

A call is in doubt when a worker died after its intent was durable, or when it failed in a way that does not tell whether
it happened. Then ``reconcile`` is asked, once the call cannot act any more; or it is made again, where that does no harm;
or the run rests until a person says what became of it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, cast

import msgspec

from reprise.kernel.clock import MICROSECONDS
from reprise.kernel.errors import CodecError, OutcomeUnknownStep, StoreError
from reprise.kernel.events import EffectAnswer, ErrorValue, Kind, Record, Resolved, Retrying, run_stream
from reprise.kernel.failures import brief
from reprise.runtime.aside import start_aside, step_aside
from reprise.runtime.ending import unreached
from reprise.runtime.host import Job
from reprise.runtime.intents import Done, Intent, Unsettled, is_in_doubt, prepare
from reprise.runtime.outward import again
from reprise.runtime.parking import park
from reprise.runtime.step import Step

if TYPE_CHECKING:
    from reprise.runtime.engine import Engine
    from reprise.runtime.execution import Execution

DONE = "done"
UNTOLD = "the worker died while it was being called"


def begin(engine: Engine, job: Job) -> bool:
    """Tell whether a step that declares something may be called now; if not, what becomes of it is seen to."""
    in_doubt = is_in_doubt(job)
    prepare(job, job.execution.intents.pop(job.key, None) or getattr(job, "intent", None))
    if in_doubt:
        _look_into(engine, job, UNTOLD, None)
    return not in_doubt


def check_intents(execution: Execution) -> None:
    """Raise ``NonDeterminismError`` if the body has not made a call that may have happened: it might make it elsewhere."""
    for key, intent in execution.intents.items():
        if intent.effect and key not in execution.waiting:
            raise unreached(execution, "effect", key)


def doubt(engine: Engine, job: Job, error: BaseException, took: int) -> None:
    """Find out what became of a call that failed so that nobody knows."""
    if job.execution.purse is not None:
        job.execution.purse.settle(job, took)
    value = engine.payloads.failure(error)
    if job.step.reconcile is not None:
        # Counts the attempt, also for whoever takes the run over while we wait.
        assert job.intent is not None
        note = Retrying(job.attempt, value, job.intent.until)
        job.execution.record(Kind.STEP_RETRYING, job.key, msgspec.json.encode(note), job.print)
    _look_into(engine, job, brief(value), value)


def _look_into(engine: Engine, job: Job, why: str, error: ErrorValue | None) -> None:
    job.doubt = why
    if job.step.reconcile is None:
        _ask_person(job, why)
        return
    assert job.intent is not None
    delay = max(0, job.intent.until - engine.now()) / MICROSECONDS
    engine.outer.call_later(delay, _ask, engine, job, error, context=engine.context)


# ---------------------------------------------------------------- reconcile


def _ask(engine: Engine, job: Job, error: ErrorValue | None) -> None:
    """Let ``reconcile`` find out, now that the call cannot act any more."""
    execution, step, intent = job.execution, job.step, job.intent
    if not _is_open(job) or intent is None:
        return
    asked = Intent(
        execution.id, step.name, step.effect, intent.key, job.args, job.kwargs, intent.number, intent.until
    )
    encode = partial(_encode, step)
    asking = step_aside(step.reconcile, f"reconcile {step.name}", encode, step.retry, step.timeout)
    then = partial(_told, engine, job, error)
    start_aside(engine, execution, f"reconcile:{job.key}", asking, asked, then)


def _encode(step: Step[..., Any], answer: object) -> bytes:
    """Write what ``reconcile`` said."""
    if isinstance(answer, Done):
        value = cast("Done[Any]", answer).value
        return msgspec.json.encode(Resolved(DONE, msgspec.Raw(step.encode(value))))
    if not isinstance(answer, Unsettled):
        raise TypeError(
            f"reconcile of step {step.name} returned {answer!r}, not Done(value), NOT_DONE or UNKNOWN"
        )
    return msgspec.json.encode(Resolved(answer.value))


def _told(engine: Engine, job: Job, error: ErrorValue | None, kind: int, data: bytes) -> None:
    """Go on with what ``reconcile`` said, or failed to say."""
    if not _is_open(job) or kind == Kind.STEP_CANCELLED:
        return
    if kind == Kind.STEP_FAILED:
        failure = msgspec.json.decode(data, type=ErrorValue)
        _ask_person(job, f"{job.doubt}; reconcile failed with {brief(failure)}")
        return
    resolved = msgspec.json.decode(data, type=Resolved)
    if resolved.answer == DONE:
        _settle(job, resolved)
    elif resolved.answer == Unsettled.UNKNOWN.value and not job.step.repeatable:
        _ask_person(job, f"{job.doubt}; reconcile could not tell")
    else:
        if resolved.answer == Unsettled.NOT_DONE.value:
            _settle(job, resolved)
        if job.attempt < job.step.retry.attempts:
            _again(job)
        else:
            job.execution.job_ended(
                job, Kind.STEP_FAILED, msgspec.json.encode(error or _never(engine, job)), 0
            )


def _never(engine: Engine, job: Job) -> ErrorValue:
    said = f"Step {job.step.name} was tried {job.attempt} times, and did not happen."
    return engine.payloads.failure(OutcomeUnknownStep(said, hint="Give it a Retry of more attempts."))


def _is_open(job: Job) -> bool:
    """Tell whether the run still waits for what became of a call."""
    return not job.execution.done and job.execution.in_flight.get(job.key) is job


def _settle(job: Job, resolved: Resolved) -> None:
    """Record what became of a call; if it happened, with its outcome."""
    execution = job.execution
    execution.record(Kind.EFFECT_RESOLVED, job.key, msgspec.json.encode(resolved), job.print)
    if resolved.answer == DONE:
        execution.job_ended(job, Kind.STEP_COMPLETED, bytes(resolved.value), 0)
    elif job.intent is not None:
        job.intent = msgspec.structs.replace(job.intent, settled=True)


def _again(job: Job) -> None:
    """Let a call be made once more, when there are places for it and what it may cost."""
    if job.intent is not None:
        job.intent = msgspec.structs.replace(job.intent, settled=True)
    again(job.execution, job)


# ---------------------------------------------------------------- a person


def _ask_person(job: Job, why: str) -> None:
    """Let the run rest, when nothing else of it executes, until a person says what became of a call."""
    execution, job.doubt = job.execution, why
    execution.in_flight.pop(job.key, None)
    execution.doubts = execution.doubts or {}
    execution.doubts[job.key] = job
    execution.wake()


async def attend(engine: Engine, execution: Execution) -> None:
    """Let a run go from memory whose calls only a person can tell the outcome of.

    A call that was taken over and may be made again is, unless there is mail by which a person tells what became of it.
    """
    taken_over = [
        job for job in (execution.doubts or {}).values() if job.step.attended and job.doubt == UNTOLD
    ]
    if taken_over:
        if execution.inbox_known:
            _call_again(execution, taken_over)
        return  # else until the mail is read
    texts = [_question(execution.id, job) for job in (execution.doubts or {}).values()]
    try:
        if await park(engine, [execution], attention=engine.payloads.text("; ".join(texts))[:500]):
            engine.store.signal.wake([run_stream(execution.id), "runs"])
    except StoreError as error:
        execution.lose(error)


def _call_again(execution: Execution, jobs: list[Job]) -> None:
    for job in jobs:
        assert execution.doubts is not None
        del execution.doubts[job.key]
        _again(job)


def _question(run: str, job: Job) -> str:
    key = job.intent.key if job.intent is not None else ""
    return (
        f"whether effect {job.step.effect!r} of step {job.step.name} happened (key {key}) is unknown: {job.doubt}. Find "
        f"out and say: reprise effects {run} resolve {key} --done VALUE (or --not-done)"
    )


def answered(execution: Execution, mail: Record) -> None:
    """Go on with what a person said of a call; of one that nobody waits for it says nothing."""
    answer = msgspec.json.decode(mail.data, type=EffectAnswer)
    job = _in_doubt(execution, answer)
    if job is None:
        return
    engine, resolved = execution.host, msgspec.structs.replace(answer.resolved, mail=mail.key)
    if resolved.answer == DONE:
        try:
            job.step.decode(bytes(resolved.value))
        except CodecError as error:
            engine.warn(execution, f"what was said of effect {job.step.effect!r} is no result of it: {error}")
            return
    if execution.doubts is not None:
        execution.doubts.pop(job.key, None)
    execution.to_start.pop(job.key, None)
    execution.intents.pop(job.key, None)
    execution.in_flight[job.key] = job
    _settle(job, resolved)
    if resolved.answer != DONE:
        _again(job)


def _in_doubt(execution: Execution, answer: EffectAnswer) -> Job | None:
    """Return the job that an answer is about, None if that is not in doubt any more."""
    key = answer.key
    if (job := execution.to_start.get(key)) is not None and key in execution.intents:
        prepare(job, execution.intents[key])  # the run has no places yet
        job.doubt = UNTOLD
    elif execution.doubts is not None and key in execution.doubts:
        job = execution.doubts[key]
    else:
        job = execution.in_flight.get(key)
    if job is None or not job.step.intends or not job.doubt or job.intent is None:
        return None
    return job if job.intent.number == answer.number and not job.intent.settled else None
