"""Choreography: services react to each other, all compensate when one fails, and the log shows the whole saga."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from tests.unit.runtime.scenes import Shared, history, kinds, opened, row_when, status_is, until

from reprise import (
    Choreography,
    ConfigurationError,
    Retry,
    SagaService,
    Said,
    StepRefused,
    current_step,
)
from reprise.kernel.query_text import parse
from reprise.stores.moving import import_runs, prune

AT_ONCE = {"retry": Retry(2, backoff=0), "timeout": 5}


class World:
    """Three services of a shop: stock and bank react to an order, post to both."""

    def __init__(self):
        self.did = []
        self.keys = []
        self.fails = {}
        self.gates = {}
        self.stock, self.bank, self.post = (SagaService(name) for name in ("stock", "bank", "post"))

        @self.stock.on("order.placed", says="stock.reserved", compensation=self.undo, **AT_ONCE)
        async def reserve(event):
            return await self.act("reserve", event)

        @self.bank.on("stock.reserved", says="bank.charged", compensation=self.undo, **AT_ONCE)
        async def charge(event):
            return await self.act("charge", event)

        @self.stock.on("bank.charged", says="stock.packed", compensation=self.undo, **AT_ONCE)
        async def pack(event):
            return await self.act("pack", event)

        @self.post.on("stock.packed", says="post.shipped", ends=True, **AT_ONCE)
        async def ship(event):
            return await self.act("ship", event)

    @property
    def services(self):
        return self.stock, self.bank, self.post

    async def act(self, what, event):
        self.did.append(what)
        self.keys.append((what, current_step().idempotency_key))
        if (gate := self.gates.get(what)) is not None:
            await gate.wait()
        if (error := self.fails.get(what)) is not None:
            raise error
        return {"by": what, "of": event.data}

    async def undo(self, event, undo):
        if (error := self.fails.get(f"undo {undo.step}")) is not None:
            raise error
        self.did.append(f"undo {undo.step}")
        self.keys.append((f"undo {undo.step}", current_step().idempotency_key))


@asynccontextmanager
async def shop(world, store=None, services=None):
    async with opened(store) as app:
        choreography = Choreography(app)
        async with choreography.serving(*(services or world.services)):
            yield app, choreography


async def test_services_react_to_each_other_until_the_saga_ends():
    world = World()
    async with shop(world) as (_, choreography), asyncio.timeout(10):
        assert await choreography.say("one", "order.placed", {"sku": 7}) == 1
        story = await choreography.finished("one")
    assert world.did == ["reserve", "charge", "pack", "ship"]
    assert (story.saga_id, story.status, story.failure, story.compensated) == ("one", "completed", None, [])
    assert story.services == {"stock": "completed", "bank": "completed", "post": "completed"}
    assert [(event.version, event.name, event.by, event.cause) for event in story.events] == [
        (1, "order.placed", "", 0),
        (2, "stock.reserved", "stock.reserve", 1),
        (3, "bank.charged", "bank.charge", 2),
        (4, "stock.packed", "stock.pack", 3),
        (5, "post.shipped", "post.ship", 4),
    ]
    assert story.events[1].data == {"by": "reserve", "of": {"sku": 7}}


@pytest.mark.parametrize("refused", [True, False])
async def test_when_one_fails_for_good_every_service_compensates_what_it_did(refused):
    world = World()
    world.fails["ship"] = StepRefused("no address") if refused else ValueError("?")
    async with shop(world) as (_, choreography), asyncio.timeout(10):
        await choreography.say("one", "order.placed", 7)
        story = await choreography.finished("one")
    assert story.status == "failed"
    assert (story.failure.name, story.failure.by, story.failure.cause) == ("post.ship.failed", "post", 4)
    assert sorted(story.compensated) == ["bank.charge", "stock.pack", "stock.reserve"]
    undone = [what for what in world.did if what.startswith("undo")]
    assert undone.index("undo pack") < undone.index("undo reserve")
    assert story.services == {"stock": "failed", "bank": "failed", "post": "failed"}


@pytest.mark.parametrize(("error", "undone"), [(StepRefused(), []), (ValueError(), ["undo charge"])])
async def test_what_failed_is_compensated_too_unless_it_was_refused(error, undone):
    world = World()
    world.fails["charge"] = error
    async with shop(world) as (_, choreography), asyncio.timeout(10):
        await choreography.say("one", "order.placed", 7)
        await choreography.finished("one")
    assert sorted(what for what in world.did if what.startswith("undo")) == [*undone, "undo reserve"]
    assert "pack" not in world.did


@pytest.mark.parametrize("how", ["from outside", "by cancelling a run"])
async def test_a_saga_can_be_stopped_from_outside(how):
    world = World()
    world.gates["charge"] = asyncio.Event()
    async with shop(world) as (app, choreography), asyncio.timeout(10):
        await choreography.say("one", "order.placed", 7)
        await until(lambda: "charge" in world.did)
        assert (await choreography.story("one")).status == "running"
        if how == "from outside":
            await choreography.fail("one", "enough")
            world.gates["charge"].set()
        else:
            await app.client.cancel("one.stock", "enough")
            await row_when(app, "one.stock", lambda row: row.status == "cancelled")
            world.gates["charge"].set()
        story = await choreography.finished("one")
        assert await choreography.say("one", "order.placed", 7) == 1
        assert await choreography.say("one", "more") == 0
    assert story.status == "failed"
    assert sorted(story.compensated) == ["bank.charge", "stock.reserve"]


async def test_a_compensation_that_fails_for_good_needs_a_person():
    world = World()
    world.fails = {"charge": StepRefused(), "undo reserve": ValueError("where is it?")}
    async with shop(world) as (app, choreography), asyncio.timeout(10):
        await choreography.say("one", "order.placed", 7)
        story = await choreography.finished("one")
        assert (story.status, story.services["stock"]) == ("needs_attention", "needs_attention")
        assert "where is it?" in (await app.client.row("one.stock")).error
        del world.fails["undo reserve"]
        await app.client.resume("one.stock")
        await status_is(app, "one.stock", "failed")
        assert (await choreography.finished("one")).compensated == ["stock.reserve"]


async def test_sagas_do_not_mix():
    world = World()
    async with shop(world) as (_, choreography), asyncio.timeout(20):
        await asyncio.gather(*(choreography.say(f"order-{n}", "order.placed", n) for n in range(10)))
        stories = await asyncio.gather(*(choreography.finished(f"order-{n}") for n in range(10)))
    for n, story in enumerate(stories):
        assert (story.status, len(story.events)) == ("completed", 5)
        assert story.events[1].data == {"by": "reserve", "of": n}


async def test_a_service_that_comes_later_goes_on_where_it_stopped():
    world, store = World(), Shared()
    async with shop(world, store, [world.stock]) as (app, choreography), asyncio.timeout(10):
        await choreography.say("one", "order.placed", 7)
        await until(lambda: "reserve" in world.did)
        await row_when(app, "one.stock", lambda row: row.status != "running")
    async with shop(world, store) as (_, choreography), asyncio.timeout(10):
        assert (await choreography.finished("one")).status == "completed"
    assert world.did == ["reserve", "charge", "pack", "ship"]
    async with shop(world, store) as (_, choreography), asyncio.timeout(10):
        await choreography.say("two", "order.placed", 8)
        await choreography.finished("two")
        signals = [kind for kind in kinds(await history(store, "one.stock")) if kind == "SIGNAL_RECEIVED"]
    assert world.did == 2 * ["reserve", "charge", "pack", "ship"]
    assert len(signals) == 3


async def test_a_service_that_is_new_leaves_what_was_over_before_alone():
    world, store = World(), Shared()
    counted = SagaService("counter")
    seen = []
    counted.on("order.placed")(lambda event: seen.append(event.saga))
    async with shop(world, store) as (_, choreography), asyncio.timeout(10):
        await choreography.say("one", "order.placed", 7)
        await choreography.finished("one")
    async with shop(world, store, [*world.services, counted]) as (_, choreography), asyncio.timeout(10):
        await choreography.say("two", "order.placed", 7)
        await choreography.finished("two")
        await until(lambda: seen)
    assert seen == ["two"]


async def test_a_service_that_was_away_does_not_begin_in_a_saga_that_has_failed():
    world, store = World(), Shared()
    async with shop(world, store) as (_, choreography), asyncio.timeout(10):
        await choreography.say("one", "order.placed", 7)
        await choreography.finished("one")
    async with opened(store) as app:
        await Choreography(app).say("two", "order.placed", 8)
        await Choreography(app).fail("two")
    async with shop(world, store) as (_, choreography), asyncio.timeout(10):
        await choreography.say("three", "order.placed", 9)
        await choreography.finished("three")
        assert (await choreography.story("two")).services == {}
    assert world.did.count("reserve") == 2


async def test_a_service_that_was_away_does_what_it_would_have_done_before_the_end():
    world, store, seen = World(), Shared(), []
    mail = SagaService("mail")
    mail.on("order.placed")(lambda event: seen.append(event.saga))
    async with shop(world, store, [*world.services, mail]) as (_, choreography), asyncio.timeout(10):
        await choreography.say("one", "order.placed", 7)
        await choreography.finished("one")
        await until(lambda: seen)
    async with shop(world, store) as (_, choreography), asyncio.timeout(10):
        await choreography.say("two", "order.placed", 7)
        await choreography.finished("two")
    async with shop(world, store, [*world.services, mail]), asyncio.timeout(10):
        await until(lambda: len(seen) == 2)
    assert seen == ["one", "two"]


async def test_a_function_may_say_several_things_itself_or_nothing():
    service, seen = SagaService("all"), []

    @service.on("begin")
    async def first(event):
        return [Said("left", 1), Said("right", 2)]

    @service.on("left")
    @service.on("right")
    async def both(event):
        seen.append(event.data)
        return Said("end", ends=True) if len(seen) == 2 else None

    async with shop(None, services=[service]) as (_, choreography), asyncio.timeout(10):
        await choreography.say("one", "begin")
        story = await choreography.finished("one")
    assert seen == [1, 2]
    assert [event.name for event in story.events] == ["begin", "left", "right", "end"]


async def test_two_reactions_or_services_of_one_name_are_refused():
    world = World()
    with pytest.raises(ConfigurationError, match=r"two reactions to 'order\.placed' called 'reserve'"):

        @world.stock.on("order.placed")
        async def reserve(event): ...

    async with opened() as app:
        with pytest.raises(ConfigurationError, match="Two services"):
            async with Choreography(app).serving(world.stock, SagaService("stock")):
                pass
        with pytest.raises(ConfigurationError, match="not usable"):
            await Choreography(app).say("a b", "order.placed")


async def test_a_saga_is_archived_pruned_and_brought_back_as_a_whole(tmp_path):
    world, store = World(), Shared()
    async with shop(world, store) as (_, choreography), asyncio.timeout(10):
        await choreography.say("one", "order.placed", 7)
        story = await choreography.finished("one")
        gone = await prune(store, parse("saga.service:post", 0), archive=tmp_path / "saga.jsonl")
        assert (gone.families, gone.runs) == (1, 3)
        assert (await choreography.story("one")).events == ()
        assert (await import_runs(store, tmp_path / "saga.jsonl")).runs == 3
        assert await choreography.story("one") == story
    assert world.did == ["reserve", "charge", "pack", "ship"]
