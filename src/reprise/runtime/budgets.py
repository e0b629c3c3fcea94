"""Budgets of a run: nothing begins that would cost more than is left.

Before a step begins, what it may cost is reserved by a note that is durable; when it ends, what it did cost is noted in
the commit of its outcome. Between the two the reservation counts as spent. It does so for good when the worker died
meanwhile, for nobody knows what the lost attempt has spent; the next attempt reserves anew. So what is spent exceeds a
budget at most by what calls exceed their reservations by that are under way at the end, or were lost.

A child run has a budget of its own: what its parent allots to it in the commit that starts it. The child's end, in one
commit with the mail to its parent, says what it took; the rest is the parent's again. Parent and children never write to
one row.

A call for which there is not enough waits while others may give back some of what they reserved. Whether it may begin
is decided outside of the body, and what came of it is the recorded outcome of the call, so replay knows nothing of
budgets.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar, Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec

from reprise.kernel.budget import Budget, Cost, cost_of
from reprise.kernel.errors import BodyError, BudgetExceeded, ConfigurationError
from reprise.kernel.events import Event, Kind, Record, Spending
from reprise.kernel.failures import encode_error
from reprise.runtime.branch import BRANCH, RUN
from reprise.runtime.host import STEP, Job
from reprise.runtime.intents import is_in_doubt, open_intent

if TYPE_CHECKING:
    from reprise.runtime.execution import Execution

RUN_SCOPE = ""
"""Name of the budget of the whole run."""
SCOPES: ContextVar[tuple[str, ...]] = ContextVar("reprise_budgets", default=(RUN_SCOPE,))
"""Names of the budgets that calls count against here, the innermost first."""
ONE_STEP = Cost(steps=1)


class Books(msgspec.Struct):
    """What the history says of a run's budgets: a fold of its notes."""

    taken: dict[str, Cost] = {}
    """By name of the budget: what was spent, and what is reserved."""
    open: dict[str, Spending] = {}
    """Reservations by key of the call."""
    more: dict[str, Cost] = {}
    """By name of the budget: what it was raised by."""

    def note(self, key: str, spending: Spending) -> None:
        """Take account of a note."""
        if spending.what == "raised":
            _add(self.more, spending.scopes, spending.cost)
            return
        cost = spending.cost
        if spending.what == "settled":
            before = self.open.pop(key, None)
            if before is not None:
                cost -= before.cost
        else:
            self.open[key] = spending  # an attempt before it that never settled stays among what was taken
        _add(self.taken, spending.scopes, cost)

    def read(self, record: Event | Record) -> Spending:
        """Take account of a record of kind BUDGET, and return what it says."""
        spending = msgspec.json.decode(record.data, type=Spending)
        self.note(record.key, spending)
        return spending


def _add(to: dict[str, Cost], scopes: Iterable[str], cost: Cost) -> None:
    for scope in scopes:
        to[scope] = to.get(scope, Cost()) + cost


class Bill(msgspec.Struct):
    """What is known of a call that was made and has not ended."""

    scopes: tuple[str, ...]
    spent: dict[str, Any] | None = None
    """What the step said so far that it costs."""
    allotment: Budget | None = None
    """Of a child."""


class Purse:
    """What one run in memory may still spend."""

    def __init__(self, execution: Execution, budget: Budget | None, books: Books | None) -> None:
        self._execution = execution
        self._books = books = books or Books()
        # Of an attempt that died with its worker nobody knows what it spent. Only children may still give back.
        books.open = {key: open for key, open in books.open.items() if key in execution.children}
        self.budgets: dict[str, Budget] = {} if budget is None else {RUN_SCOPE: budget}
        self._bills: dict[str, Bill] = {}
        self._refused: dict[str, str] = {}
        """Keys of calls that wait: for others to settle, or for more to spend. Why, '' for the former."""
        self._over: set[str] = set()

    # ---------------------------------------------------------------- what there is

    def taken(self, scope: str = RUN_SCOPE) -> Cost:
        """Return what was spent or is reserved of a budget."""
        return self._books.taken.get(scope, Cost())

    def of(self, scope: str) -> Budget | None:
        """Return a budget with what it was raised by; None if there is none of that name."""
        budget, more = self.budgets.get(scope), self._books.more.get(scope)
        return budget if budget is None or more is None else budget.with_more(more)

    def allotment(self, key: str) -> Budget | None:
        """Return what a child run may spend."""
        call = self._bills.get(key)
        return call.allotment if call is not None else None

    @property
    def blocks(self) -> bool:
        """Tell whether all calls that have not begun wait for more to spend, and not for others to give back."""
        return all(self._refused.get(key) for key in self._execution.to_start)

    def _lack(self, scopes: Iterable[str], wanted: Cost, *, free: bool) -> tuple[str, str]:
        """Return the first budget that has not enough, and what it lacks; '' when all have."""
        for scope in scopes:
            budget = self.of(scope)
            if budget is not None:
                taken = self.taken(scope)
                lack = budget.lacks(taken, wanted) or ("" if free else budget.spent_up(taken))
                if lack:
                    return scope, lack
        return RUN_SCOPE, ""

    # ---------------------------------------------------------------- before a call

    def called(self, key: str) -> None:
        """Remember against which budgets a call counts; called in its context."""
        self._bills[key] = Bill(SCOPES.get())

    def admit(self, asked: dict[str, Job]) -> dict[str, Job]:
        """Reserve for calls what they may cost; return those that may begin, and leave the others where they are."""
        children = [job for job in asked.values() if job.step.what == "workflow"]
        admitted: dict[str, Job] = {}
        for key, job in list(asked.items()):
            if self._refused.get(key) or not self._reserve(job, len(children)):
                continue
            admitted[key] = asked.pop(key)
            if job.step.what == "workflow":
                children.remove(job)
        return admitted

    def _reserve(self, job: Job, shares: int) -> bool:
        """Note what a call may cost. One that may not begin waits, or its refusal is its outcome."""
        is_child = job.step.what == "workflow"
        if is_child and job.key in self._execution.children:
            return True  # reserved by an owner before
        if not is_child and is_in_doubt(job):
            return True  # to find out costs nothing; to call it again does
        scopes = self._bills[job.key].scopes
        try:
            wanted, free = (self._share(job, shares), False) if is_child else _cost(job)
        except Exception as error:  # a function that says what a call costs failed
            self._refuse(job, error)
            return False
        scope, lack = self._lack(scopes, wanted, free=free)
        if lack and not self._may_exceed(scope, lack):
            self._wait_or_refuse(job, scope, lack)
            return False
        self._refused.pop(job.key, None)
        self._write(job.key, Spending("reserved", wanted, scopes))
        return True

    def _share(self, job: Job, shares: int) -> Cost:
        """Return what a child is allotted: what it declares, and of what it does not its share of what is left.

        Children that are started together have equal shares.
        """
        declared: Budget | None = job.step.budget
        allotment: Budget | None = None
        call = self._bills[job.key]
        for scope in call.scopes:
            budget = self.of(scope)
            if budget is not None:
                left = budget.left(self.taken(scope), max(1, shares))
                allotment = left if allotment is None else allotment.least(left)
        if allotment is not None:
            allotment = allotment if declared is None else declared.within(allotment)
        call.allotment = allotment or declared
        return allotment.as_cost() if allotment is not None else Cost()

    def _wait_or_refuse(self, job: Job, scope: str, lack: str) -> None:
        execution = self._execution
        if any(scope in open.scopes for open in self._books.open.values()):
            self._refused[job.key] = ""
            return
        budget = self.budgets[scope]
        name = f"the budget {scope!r}" if scope else "the budget"
        text = f"{name} of run {execution.id}: {job.step.name} ({job.key}) needs {lack}"
        if budget.on_exhausted == "ask":
            self._refused[job.key] = text
            part = f" --part '{scope}'" if scope else ""
            command = f"reprise budget {execution.id}{part} --add NAME=AMOUNT"
            execution.alter(warning=f"waits for more of {text}; give some: {command}")
            return
        hint = 'Give it a larger one when it starts; with on_exhausted="ask" it waits for more instead.'
        doubt = "" if open_intent(job) is None else " A call before it may have happened."
        self._refuse(job, BudgetExceeded(f"Not enough is left of {text}.{doubt}", hint=hint))

    def _may_exceed(self, scope: str, lack: str) -> bool:
        if self.budgets[scope].on_exhausted != "continue":
            return False
        if scope not in self._over:
            self._over.add(scope)
            warning = f"goes on beyond its budget{f' {scope!r}' if scope else ''}: it needed {lack}"
            self._execution.alter(warning=warning)
            self._execution.host.warn(self._execution, warning)
        return True

    def _refuse(self, job: Job, error: Exception) -> None:
        """Let the refusal be the recorded outcome of a call."""
        execution, key = self._execution, job.key
        self._refused.pop(key, None)
        self._bills.pop(key, None)
        execution.to_start.pop(key, None)
        execution.in_flight.pop(key, None)
        execution.recorded[key] = None
        value = msgspec.json.encode(encode_error(error))
        execution.record(Kind.STEP_FAILED, key, value, job.print)

    # ---------------------------------------------------------------- after a call

    def said(self, key: str, amounts: dict[str, Any]) -> None:
        """Add to what a step says that it costs."""
        call = self._bills.get(key)
        if call is not None:
            before = call.spent or {}
            call.spent = before | {name: before.get(name, 0) + amount for name, amount in amounts.items()}

    def ended(self, job: Job, took: int) -> None:
        """Note what a call did cost whose outcome is about to be recorded."""
        self.settle(job, took)
        self._bills.pop(job.key, None)

    def settle(self, job: Job, took: int, spent: Cost | None = None) -> None:
        """Note what a call did cost, to be written with its outcome; others may begin then.

        ``took`` in microseconds. ``spent`` is what a child says; of one that says nothing, and of a step that does
        not, what was reserved counts.
        """
        open = self._books.open.get(job.key)
        if open is None:
            return
        if spent is None and job.step.what == "workflow":
            spent = open.cost
        elif spent is None:
            call = self._bills[job.key]
            said, call.spent = call.spent or {}, None
            spent = msgspec.structs.replace(open.cost, **{"seconds": took / 1_000_000, "steps": 1, **said})
        self._write(job.key, Spending("settled", spent, open.scopes))
        if "" in self._refused.values():
            self._refused = {key: why for key, why in self._refused.items() if why}
            self._execution.wake()

    def raise_by(self, id: str, data: bytes) -> None:
        """Take what mail gives the run into its history; whoever waited for it may begin."""
        self._write(id, msgspec.json.decode(data, type=Spending))
        self._refused.clear()
        self._over.clear()
        self._execution.alter(warning="")
        self._execution.wake()

    def _write(self, key: str, spending: Spending) -> None:
        self._books.note(key, spending)
        self._execution.record(Kind.BUDGET, key, msgspec.json.encode(spending))


def purse_of(execution: Execution) -> Purse:
    """Return the purse of a run; one that has none gets one."""
    if execution.purse is None:
        execution.purse = Purse(execution, None, None)
    return execution.purse


def _cost(job: Job) -> tuple[Cost, bool]:
    """Return what a step may cost, as it declares; and whether it declares that it costs nothing."""
    declared = job.step.costs
    if declared is None:
        return ONE_STEP, False
    if callable(declared):
        declared = declared(*job.args, **job.kwargs)
        if not isinstance(declared, Cost):
            raise ConfigurationError(
                f"costs= of step {job.step.name} returned {declared!r}.", hint="Return a Cost(…)."
            )
    return declared + ONE_STEP, declared == Cost()


def spend(**amounts: Any) -> None:
    """Say in a step what it really costs: ``spend(tokens=812, usd=0.004)``.

    What is said more than once adds up. Of what a step says nothing, what it declared by ``costs=`` counts; its seconds
    are measured. Where no run with a budget executes the step, nothing happens.

    Raises:
        UnknownOption: a name is misspelt.
        ConfigurationError: an amount is negative, or no number.
    """
    cost = cost_of(amounts, "spend()")
    job = STEP.get()
    if job is not None and job.execution.purse is not None:
        job.execution.purse.said(job.key, {name: getattr(cost, name) for name in amounts})


class budget:  # noqa: N801  it is used as a statement
    """Limit what a part of a body may spend: ``with budget(Budget(tokens=5_000), "research"): …``.

    Calls that are made inside, also by tasks that begin there, count against it and against all budgets around it. The
    name tells budgets of one branch apart; the same name there again is one budget more of the same size.

    Raises:
        BodyError: used outside of a body.
    """

    def __init__(self, limit: Budget, name: str = "budget") -> None:
        self._limit, self._name = limit, name
        self._token: Token[tuple[str, ...]] | None = None
        self._execution: Execution | None = None
        self.scope = ""

    def __enter__(self) -> Self:
        execution = RUN.get()
        if execution is None:
            raise BodyError(
                "There is no run here that could have a budget.",
                hint="Use it in the body of a workflow; a step says what it costs by costs= and spend().",
            )
        branch = BRANCH.get()
        count = branch.kids[f"${self._name}"] = branch.kids.get(f"${self._name}", 0) + 1
        self.scope = f"{branch.path}${self._name}" + (f".{count}" if count > 1 else "")
        purse_of(execution).budgets[self.scope] = self._limit
        self._execution = execution
        self._token = SCOPES.set((self.scope, *SCOPES.get()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._token is not None
        SCOPES.reset(self._token)

    def left(self) -> Budget:
        """Return what is left of it, as the run in memory knows it: another at every replay, so only for people."""
        assert self._execution is not None
        purse = purse_of(self._execution)
        return (purse.of(self.scope) or self._limit).left(purse.taken(self.scope))
