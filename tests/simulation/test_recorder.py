"""A run becomes a fixture, and the fixture a run in which nothing is executed."""

import asyncio

import msgspec
import pytest

from reprise import ConfigurationError, Reprise, RunNotFound, step, workflow
from reprise.stores.moving import export_runs
from reprise.testing import Unscripted, record_exported, record_fixture, scripted_from


class Order(msgspec.Struct):
    item: str
    card: str


executed: list[str] = []


@step
async def fetch(number: int) -> Order:
    executed.append("fetch")
    return Order("honey", "4000-1234")


@step
async def pay(order: Order) -> str:
    executed.append("pay")
    if order.item == "wax":
        raise PermissionError("card 4000-1234 was refused")
    return f"paid {order.card}"


@workflow
async def shop(number: int) -> list[str]:
    paid = await pay(await fetch(number))
    try:
        await pay(Order("wax", ""))
    except PermissionError as error:
        return [paid, str(error)]
    return []


@workflow(name="shop")
async def shop_that_changed(number: int) -> list[str]:
    order = await fetch(number)
    return [order.item, await pay.options(key="now")(order)]


@workflow(name="shop")
async def shop_that_wants_more(number: int) -> list[str]:
    return [(await fetch(number)).item for _ in range(2)]


@step
async def ask(who: str) -> str:
    executed.append(who)
    if who == "slow":
        await asyncio.get_running_loop().create_future()
    return who


@workflow
async def race() -> list[str]:
    asked = [asyncio.create_task(ask(who)) for who in ("slow", "quick")]
    done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    asked[0].cancel()
    return [task.result() for task in done]


async def record(path, **options):
    async with Reprise("memory://") as app:
        await app.run(shop, 7, id="real")
        return await record_fixture(app.client._store, "real", path, **options)


async def play(flow, path):
    executed.clear()
    fixture = scripted_from(path)
    async with Reprise("memory://", middleware=[fixture]) as app:
        return fixture, await app.run(flow, *fixture.args, **fixture.kwargs)


async def test_a_run_is_played_back(tmp_path):
    path = tmp_path / "shop.jsonl"
    assert await record(path) == 3
    fixture, result = await play(shop, path)
    assert result == ["paid 4000-1234", "card 4000-1234 was refused"]
    assert (executed, fixture.run, fixture.workflow, len(fixture.played)) == ([], "real", "shop", 3)


async def test_secrets_stay_out_of_it(tmp_path):
    def redact(step, value):
        if step == "fetch":
            return value | {"card": "0000"}
        return value.replace("4000-1234", "…") if isinstance(value, str) else value

    path = tmp_path / "shop.jsonl"
    await record(path, redact=redact)
    assert "4000" not in path.read_text()
    assert (await play(shop, path))[1] == ["paid …", "card … was refused"]


async def test_the_code_may_change_around_it(tmp_path):
    path = tmp_path / "shop.jsonl"
    await record(path)
    assert (await play(shop_that_changed, path))[1] == ["honey", "paid 4000-1234"]
    with pytest.raises(Unscripted, match="no further result of 'fetch'; left are those of: pay"):
        await play(shop_that_wants_more, path)


async def test_of_an_exported_history(tmp_path):
    async with Reprise("memory://") as app:
        await app.run(shop, 7, id="real")
        await export_runs(app.client._store, tmp_path / "all.jsonl")
    assert record_exported(tmp_path / "all.jsonl", tmp_path / "shop.jsonl") == 3
    assert (await play(shop, tmp_path / "shop.jsonl"))[1][0] == "paid 4000-1234"
    with pytest.raises(RunNotFound, match="'other'"):
        record_exported(tmp_path / "all.jsonl", tmp_path / "shop.jsonl", "other")


async def test_a_run_that_is_not_there(tmp_path):
    async with Reprise("memory://") as app:
        with pytest.raises(RunNotFound, match="'none'"):
            await record_fixture(app.client._store, "none", tmp_path / "x")


async def test_a_step_that_was_cancelled_does_not_win_the_race(tmp_path):
    async with Reprise("memory://") as app:
        assert await app.run(race, id="real") == ["quick"]
        assert await record_fixture(app.client._store, "real", tmp_path / "race.jsonl") == 2
    assert (await play(race, tmp_path / "race.jsonl"))[1] == ["quick"]


@pytest.mark.parametrize(
    ("text", "says"),
    [("", "does not begin as a fixture does"), ('{"line": "step", "step": "a", "key": "a"}', "does not begin"),
     ('{"line": "run", "run": "r", "workflow": "w", "input": [[], {}]}\n[1]', "Line 2 of"), ("hello", "Line 1 of")],
    ids=["empty", "steps only", "a line of something else", "something else"],
)  # fmt: skip
def test_what_is_no_fixture_is_said(tmp_path, text, says):
    (tmp_path / "x.jsonl").write_text(text)
    with pytest.raises(ConfigurationError, match=says):
        scripted_from(tmp_path / "x.jsonl")
