"""What came of the run of a chain, read from its records."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import msgspec

from reprise.kernel.codec import standard
from reprise.kernel.failures import brief
from reprise.kernel.machine import RunStatus
from reprise.workflows.calls import REFUSED, Refused, ends_in, meant, said, started_of
from reprise.workflows.chain_body import FURTHER, ChainWork, Link, type_of
from reprise.workflows.executing import Ended
from reprise.workflows.flow import Flow
from reprise.workflows.report import Report


@dataclass(frozen=True, kw_only=True)
class LinkResult:
    """What came of one link."""

    name: str
    agent_type: str
    status: str
    """completed, failed, cancelled; skipped: the chain did not come to it, ``error`` says why."""
    result: Any = None
    error: str = ""
    calls: int = 0
    """How often the agent was called, attempts that failed in passing not counted."""
    refused: list[str] = field(default_factory=list[str])
    """Why answers were sent back."""
    seconds: float = 0.0
    """What its calls took."""


@dataclass(frozen=True, kw_only=True)
class ChainResult(Report):
    """What came of the run of a chain."""

    output: Any = None
    """What the last link came to."""
    steps: list[LinkResult] = field(default_factory=list[LinkResult])
    """All links in the order of the chain."""


def read_chain(ended: Ended) -> ChainResult:
    """Return what came of a run of a chain, as its records say."""
    started, _ = started_of(ended.records)
    (work,), _ = ended.flow.arguments.decode(bytes(started.input))
    links = {link.name: _LinkFold(ended.flow, link) for link in cast("ChainWork", work).links}
    latest: list[_LinkFold] = []
    for record, status in ends_in(ended.records):
        key = record.key.removesuffix(REFUSED)
        further = FURTHER.fullmatch(key)
        fold = links.get(further["link"] if further else key)
        if fold is None:
            continue
        if key == record.key:
            fold.ended(status, record.data, record.took)
        else:
            fold.refuse(msgspec.json.decode(record.data, type=Refused))
        latest.append(fold)
    finished = ended.finished
    failure = finished.error
    stopped = brief(failure) if failure is not None else "the chain went another way"
    steps = [fold.result(f"not reached: {stopped}") for fold in links.values()]
    failed = {step.name: step.error for step in steps if step.status == "failed"}
    completed = finished.status == RunStatus.COMPLETED
    made_by = next((fold for fold in reversed(latest) if fold.has_value), None)
    return ChainResult(
        run_id=ended.run,
        status="partial" if completed and failed else finished.status,
        errors=failed,
        failure=failure,
        output=_output(ended, made_by) if completed else None,
        steps=steps,
    )


def _output(ended: Ended, made_by: _LinkFold | None) -> Any:
    value = standard.decode(bytes(ended.finished.value))
    return meant(ended.flow, value, made_by.type if made_by is not None else None)


class _LinkFold:
    """What the records say of one link."""

    def __init__(self, flow: Flow, link: Link) -> None:
        self._flow = flow
        self._link = link
        self.type = type_of(flow, link)
        self._status = "skipped"
        self._data = b"null"
        self._error = ""
        self._calls = 0
        self._took = 0
        self._refused: list[str] = []

    def ended(self, status: str, data: bytes, took: int) -> None:
        """Take in how a call of the agent ended."""
        self._status, self._data = status, data if status == "completed" else b"null"
        self._error = "" if status == "completed" else said(data) if status == "failed" else status
        self._calls += 1
        self._took += took

    def refuse(self, note: Refused) -> None:
        """Take in that what the link was given, or came to, cannot be used."""
        self._status, self._data, self._error = "failed", b"null", f"{note.by}: {note.reason}"
        self._refused.append(note.reason)

    @property
    def has_value(self) -> bool:
        """Whether what the chain passed on is its result, or its default."""
        return self._status == "completed" or (self._status == "failed" and self._link.on_error == "default")

    def result(self, unreached: str) -> LinkResult:
        """Return what came of the link."""
        done = self._status == "completed"
        return LinkResult(
            name=self._link.name,
            agent_type=self._link.agent_type,
            status=self._status,
            result=meant(self._flow, standard.decode(self._data), self.type) if done else None,
            error=unreached if self._status == "skipped" else self._error,
            calls=self._calls,
            refused=self._refused,
            seconds=self._took / 1_000_000,
        )
