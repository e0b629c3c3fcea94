"""Child runs: started in the commit that notes them in their parent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from reprise.kernel.events import ChildStarted, Event, Kind, Started
from reprise.runtime.host import Job
from reprise.runtime.starting import child_id, first_history, opening
from reprise.runtime.workflow import Workflow
from reprise.stores.log import Group

if TYPE_CHECKING:
    from reprise.runtime.engine import Engine


def start_child(engine: Engine, job: Job) -> None:
    """Start a child run in the same commit as the note of it; or, after a take-over, wait for the one there is."""
    parent, workflow = job.execution, job.step
    if job.key in parent.children:
        # Its owner may have died, too, and then it needs a new one.
        engine.registry.lend(parent.children[job.key], workflow)
        return
    tags = parent.tags
    id = child_id(parent.scope, job.key)
    try:
        engine.registry.lend(id, workflow)
        input = workflow.arguments.encode(job.args, job.kwargs)
        engine.payloads.within(input, "The input of child workflow {} ({})", workflow.name, job.key)
        slots = engine.registry.slots(workflow, job.args, job.kwargs, tags)
    except Exception as error:  # it cannot be called so, or a function that gives the key of a limit failed
        engine.registry.release(id)
        parent.job_ended(job, Kind.STEP_FAILED, msgspec.json.encode(engine.payloads.failure(error)), 0)
        return
    parent.children[job.key] = id
    started, group = (job.context or parent.context).run(
        opening,
        engine,
        workflow,
        input,
        id,
        owned=not slots,
        parent=parent.id,
        parent_key=job.key,
        above=parent.started,
        # A child of what is tried again is the same work too.
        work=child_id(parent.work, job.key) if parent.started.work else "",
        tags=tags,
        slots=slots,
        budget=workflow.budget if parent.purse is None else parent.purse.allotment(job.key),
    )
    note = msgspec.json.encode(ChildStarted(id, workflow.name))
    engine.starting.add(id)
    parent.spawn(
        Event(Kind.CHILD_STARTED, group.events[0].at, job.key, note, job.print),
        group,
        lambda durable: _started(engine, durable, workflow, started, id, group),
    )


def _started(
    engine: Engine, durable: bool, workflow: Workflow[..., Any], started: Started, id: str, group: Group
) -> None:
    if durable:
        engine.observe(id, group.events)
        engine.counters["started"] += 1
        if group.takes:
            engine.enter(workflow, id, group.token, first_history(started, group))
        else:
            engine.expected.add(id)
            engine.store.signal.wake(["runs"])
    engine.entered(id)
