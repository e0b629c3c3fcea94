"""A tool rental: a deposit, a contract that an agent writes, a clerk's approval, and weeks until the tool comes back.

It is here for its tests: ``pytest examples/testing``.
"""

from __future__ import annotations

import asyncio

import msgspec

from reprise import NOT_DONE, Done, Intent, Undo, ask, current_step, days, register_error, step, workflow


class Bank:
    """A stand-in for the bank's client; tests put a ledger in its place."""

    def do(self, name: str, *args: object, key: str = "", answer: object = None) -> object:
        """Do something under a key, and return the answer to its first call."""
        raise NotImplementedError(
            "Put your bank's client into rental.bank; the tests put an EffectsLedger there."
        )

    def knows(self, key: str) -> bool:
        """Tell whether something was done under a key."""
        raise NotImplementedError(
            "As for do(): ask your bank whether it has done what you sent under this key."
        )


class Writer:
    """A stand-in for an agent; tests put a scripted one in its place."""

    async def __call__(self, agent_type: str, task: str, context: object = None) -> str:
        """Do a task."""
        raise NotImplementedError("Put your agent into rental.writer; the tests put a ScriptedAgent there.")


bank = Bank()
writer = Writer()


class Approval(msgspec.Struct):
    """The clerk's form."""

    approved: bool
    note: str = ""


@register_error
class Refused(Exception):
    """The clerk said no, or nothing."""


async def find_out(intent: Intent) -> object:
    """Ask the bank what became of a call, after a crash."""
    return Done("taken") if bank.knows(intent.key) else NOT_DONE


@step
async def give_back(undo: Undo) -> None:
    """Give a deposit back because nothing came of the rental."""
    bank.do("give back", undo.args[1], key=current_step().idempotency_key)


@step(effect="deposit", undo=give_back, reconcile=find_out)
async def take_deposit(customer: str, cents: int) -> object:
    """Take the deposit; the bank knows the call by its key."""
    return bank.do("deposit", cents, key=current_step().idempotency_key, answer="taken")


@step
async def write_contract(customer: str, tool: str) -> str:
    """Let the agent write."""
    return await writer("lawyer", f"A contract for {customer}: {tool}")


@step
async def return_deposit(cents: int) -> None:
    """Give the deposit back at the end."""
    bank.do("return", cents, key=current_step().idempotency_key)


@workflow
async def rent(customer: str, tool: str, weeks: int) -> str:
    """Rent out a tool."""
    await take_deposit(customer, 5000)
    contract = await write_contract(customer, tool)
    answer = await ask(Approval, f"Is this fine? {contract}", to="clerk", timeout=days(3), on_timeout=None)
    if answer is None or not answer.approved:
        raise Refused(answer.note if answer is not None else "nobody looked at it")
    await asyncio.sleep(7 * 86_400 * weeks)
    await return_deposit(5000)
    return f"{tool} is back from {customer}"
