"""What leases, queues and cells must prove when clients of several stores and processes use them at once.

Clients do random things and write down what they asked and were answered; then one order must explain it all
(:mod:`reprise.testing.linearizable`).
"""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Awaitable, Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path
from tempfile import TemporaryDirectory

from reprise.kernel.chance import Random, seeded
from reprise.kernel.clock import SystemClock
from reprise.kernel.errors import CellConflict
from reprise.stores.cells import ABSENT, Change, View
from reprise.stores.lease import Grant
from reprise.stores.queue import Settlement, Task
from reprise.stores.store import Store
from reprise.testing.linearizable import History, check_linearizable
from reprise.testing.sequential import FencedLock, WorkQueue
from reprise.testing.sequential_cells import Cells
from reprise.testing.suites.keeper import LONG, PATIENCE, Keeper, KeeperSuite, soon

CLIENTS = 4
"""Of each store."""
STORES = 2
STEPS = 50
"""Things that each client does."""
SLACK = 0.05
"""Seconds by which the clocks of a keeper and of this machine may drift apart within a test."""
SHORT = 0.02
"""A time to live, in seconds, that ends while others try."""
LEASES = ("x", "xx")
"""Names of leases, each with room for as many as its name is long."""
QUEUE = "q"
SPACE = "s"

Client = Callable[[Store, str, History, Random, float], Awaitable[None]]
"""Uses a store, under a name, writes into a history, throws dice; claims for so many seconds, 0 = for long."""


class LinearizableSuite(KeeperSuite):
    """Tests of ``Lease``, ``Queue`` and ``Cells`` under concurrent clients.

    Three tags say what a keeper leaves out. ``claims_pass_over``: a claim passes over tasks that others are at, so beside rivals
    it may get later ones, or none. ``holder_beside_renewal``: ``holder`` may leave out a grant whose time ended while its
    renewal was under way. ``cells_end_beside_writes``: a look may find that a cell has ended before a change that was made
    while it lived, and whose commit is on its way.
    """

    async def test_leases_of_several_stores(self, keeper: Keeper) -> None:
        """Who holds what, under which token, and who is refused."""
        self.judge(await beside(keeper, use_leases))

    async def test_leases_for_which_clients_wait(self, keeper: Keeper) -> None:
        """The same while others stand in line; these are served first, so a free lease may be refused."""
        self.judge(await beside(keeper, wait_for_leases), fair=True)

    async def test_queues_of_several_stores(self, keeper: Keeper) -> None:
        """What is offered goes out once, in its order, and only the latest claim settles it."""
        self.judge(await beside(keeper, use_queue))

    async def test_cells_of_several_stores(self, keeper: Keeper) -> None:
        """What changes together is seen together, no update is lost, and a version never comes again."""
        history = await beside(keeper, use_cells)
        refused = [
            each for each in history.operations if each.name == "apply" and isinstance(each.result[0], str)
        ]
        assert refused, "nobody was in anybody's way"
        self.judge(history)

    async def test_what_ends_by_itself(self, keeper: Keeper) -> None:
        """A lease, a claim or a cell is nobody's before it has ended, and no longer after that, by real time."""
        if keeper.exact_time:
            self.skip_if("virtual_time")
            raise AssertionError(f"{type(keeper).__name__} has exact time and not the tag virtual_time")
        self.judge(await beside(keeper, use_all, SHORT), ends=True)

    async def test_several_processes(self, keeper: Keeper) -> None:
        """The same with processes of their own, ordered by the machine's clock."""
        if keeper.factory is None:
            self.skip_if("one_process")
            raise AssertionError(f"{type(keeper).__name__} has neither a factory nor the tag one_process")
        store = await keeper.open()  # so that the children do not all make the tables
        history = await asyncio.to_thread(in_processes, keeper.factory, use_all)
        await drain(store, history)
        self.judge(history)

    def judge(self, history: History, *, fair: bool = False, ends: bool = False) -> None:
        """Hold a history against locks, a queue and a space of cells; in it something ``ends`` by itself."""
        operations = history.operations
        if ends and "cells_end_beside_writes" in self.exceptions:
            operations = [each for each in operations if each.key != SPACE or each.name == "apply"]
        if "holder_beside_renewal" in self.exceptions:
            operations = [each for each in operations if each.name != "holders"]
        ordered = "claims_pass_over" not in self.exceptions
        models = {name: FencedLock(len(name), slack=SLACK, fair=fair) for name in LEASES}
        queue = WorkQueue(ordered=ordered, slack=SLACK)
        for key, model in {**models, QUEUE: queue, SPACE: Cells(slack=SLACK)}.items():
            check_linearizable([each for each in operations if each.key == key], model)


# ---------------------------------------------------------------- clients


async def use_leases(
    store: Store, client: str, history: History, dice: Random, ttl: float, wait: float = 0
) -> None:
    """Take, renew, give back and look, at random; now and then what was given back or ended before."""
    known: dict[str, list[Grant]] = {name: [] for name in LEASES}
    leases = store.lease
    for _ in range(STEPS):
        await asyncio.sleep(0)  # a keeper in memory answers at once: others would never come between
        name = dice.choice(LEASES)
        grant = dice.choice(known[name][-2:]) if known[name] else None
        match dice.choice(("take", "take", "renew", "drop", "holders")):
            case "take":
                call = leases.take(
                    name, client, ttl or LONG, limit=len(name), wait=wait and dice.choice((0, wait))
                )
                given = await history.record(client, "take", client, ttl, key=name, of=call, tell=_token)
                known[name] += [given] if given and given.token not in map(_token, known[name]) else []
            case "renew" if grant:
                call = leases.renew([grant], ttl or LONG)
                wish = (client, grant.token, ttl)
                await history.record(
                    client, "renew", *wish, key=name, of=call, tell=lambda r: r[0] is not None
                )
            case "drop" if grant:
                await history.record(client, "drop", client, grant.token, key=name, of=leases.drop([grant]))
            case _:
                call = leases.holder(name)
                await history.record(client, "holders", key=name, of=call, tell=_tokens)


async def wait_for_leases(store: Store, client: str, history: History, dice: Random, ttl: float) -> None:
    """Do the same, and wait a little for what is not free."""
    await use_leases(store, client, history, dice, ttl, wait=0.005)


def _token(grant: Grant | None) -> int | None:
    return grant.token if grant else None


def _tokens(grants: list[Grant]) -> tuple[int, ...]:
    return tuple(grant.token for grant in grants)


async def use_queue(store: Store, client: str, history: History, dice: Random, ttl: float) -> None:
    """Offer, claim, extend and settle, at random; now and then what was settled before."""
    claimed: list[Task] = []
    queue = store.queue
    for _ in range(STEPS):
        await asyncio.sleep(0)
        action = dice.choice(("offer", "offer", "claim", "claim", "extend", "settle", "settle"))
        if action == "offer":
            task = Task(dice.choice("abcdefgh"), QUEUE, order=dice.choice((0.0, 0.0, 1.0)))
            call = queue.offer([task])
            await history.record(client, "offer", task.id, task.order, key=QUEUE, of=call, tell=_only)
        elif action == "claim" or not claimed:
            limit = dice.randint(1, 2)
            call = queue.claim(QUEUE, client, limit, ttl or LONG)
            got = await history.record(client, "claim", limit, ttl, key=QUEUE, of=call, tell=_claims)
            claimed = [*claimed, *got][-4:]
        elif action == "extend":
            task = dice.choice(claimed)
            call, wish = queue.extend([task], ttl or LONG), (task.id, task.token, ttl)
            await history.record(client, "extend", *wish, key=QUEUE, of=call, tell=_is_extended)
        else:
            task, state = dice.choice(claimed), dice.choice(("done", "done", "ready"))
            call, wish = queue.settle([Settlement(task, state)]), (task.id, task.token, state)
            await history.record(client, "settle", *wish, key=QUEUE, of=call, tell=_only)


async def use_cells(store: Store, client: str, history: History, dice: Random, ttl: float) -> None:
    """Look at cells, and change one or two, mostly as a version that was seen allows."""
    known: dict[str, int] = {}
    for number in range(STEPS):
        await asyncio.sleep(0)
        names = dice.sample("abc", dice.randint(1, 2))
        action = dice.choice(("get", "scan", "apply", "apply", "apply"))
        if action == "get":
            of = store.cells.get(SPACE, names)
            view = await history.record(client, "get", *names, key=SPACE, of=of, tell=_cells)
            known |= dict.fromkeys(names, ABSENT) | _versions(view)
        elif action == "scan":
            of = store.cells.scan(SPACE)
            view = await history.record(client, "scan", key=SPACE, of=of, tell=_cells)
            known = _versions(view)
        else:
            wishes = [
                (
                    name,
                    dice.choice((known.get(name, ABSENT),) * 5 + (None,)),
                    dice.choice((f"{client}.{number}",) * 4 + (None,)),
                    dice.choice((0, ttl)),
                )
                for name in names
            ]
            known |= await _changes(store, client, history, wishes)


async def _changes(
    store: Store, client: str, history: History, wishes: list[tuple[str, int | None, str | None, float]]
) -> dict[str, int]:
    """Make changes, and return the versions that are known from then on."""
    changes = [
        Change(name, None if value is None else value.encode(), expected, ttl or None)
        for name, expected, value, ttl in wishes
    ]
    with history.call(client, "apply", *wishes, key=SPACE) as answer:
        try:
            versions = _versions(await store.cells.apply(SPACE, changes))
        except CellConflict as refused:
            answer((refused.name, refused.found))
            return {refused.name: refused.found}
        answer(tuple(versions.get(change.name, ABSENT) for change in changes))
    return {change.name: versions.get(change.name, ABSENT) for change in changes}


def _cells(view: View) -> tuple[tuple[str, int, str], ...]:
    return tuple((cell.name, cell.version, cell.data.decode()) for cell in view.cells)


def _versions(view: View) -> dict[str, int]:
    return {cell.name: cell.version for cell in view.cells}


async def use_all(store: Store, client: str, history: History, dice: Random, ttl: float) -> None:
    """Use leases, queues and cells, each as if it were alone."""
    leases = use_leases(store, f"{client}l", history, seeded(dice.randbytes(8)), ttl)
    cells = use_cells(store, f"{client}c", history, seeded(dice.randbytes(8)), ttl)
    await asyncio.gather(leases, cells, use_queue(store, f"{client}q", history, dice, ttl))


async def drain(store: Store, history: History) -> None:
    """Claim all that is ready when everybody is done: nothing is lost, whatever others passed over before."""
    call = store.queue.claim(QUEUE, "last", 100, LONG)
    await history.record("last", "drain", 100, 0, key=QUEUE, of=call, tell=_claims)


def _is_extended(extended: list[Task | None]) -> bool:
    return extended[0] is not None


def _only(answers: list[bool]) -> bool:
    return answers[0]


def _claims(tasks: list[Task]) -> tuple[tuple[str, int], ...]:
    return tuple((task.id, task.token) for task in tasks)


# ---------------------------------------------------------------- at once


async def beside(keeper: Keeper, client: Client, ttl: float = 0) -> History:
    """Let clients of several stores loose on the same data, and return what they saw."""
    stores = [await keeper.open() for _ in range(STORES)]
    history = History(now=SystemClock().monotonic if ttl else None)
    await soon(_clients(stores, "", client, history, ttl))
    await drain(stores[0], history)
    return history


async def _clients(stores: list[Store], prefix: str, client: Client, history: History, ttl: float) -> None:
    names = [
        (store, f"{prefix}{place}{number}") for place, store in enumerate(stores) for number in range(CLIENTS)
    ]
    await asyncio.gather(*(client(store, name, history, seeded(name.encode()), ttl) for store, name in names))


def in_processes(factory: Callable[[], Store], client: Client) -> History:
    """Let clients of several processes loose on the same data, and return what they saw."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(STORES)
    with TemporaryDirectory(prefix="reprise-histories-") as folder:
        paths = [Path(folder) / str(number) for number in range(STORES)]
        children = [context.Process(target=_child, args=(factory, client, barrier, path)) for path in paths]
        try:
            for child in children:
                child.start()
            for child in children:
                child.join(PATIENCE)
        finally:
            for child in children:
                child.kill()
                child.join()
        assert [child.exitcode for child in children] == [0] * STORES
        return History.load(*paths, now=SystemClock().monotonic)


def _child(factory: Callable[[], Store], client: Client, barrier: Barrier, path: Path) -> None:
    async def main() -> None:
        store = factory()
        await store.start()
        history = History(now=SystemClock().monotonic)
        await asyncio.to_thread(barrier.wait, PATIENCE)
        await _clients([store], f"{path.name}.", client, history, 0)
        await store.stop()
        history.save(path)

    asyncio.run(main())
