"""Exported histories replay against the code of today, or it is said where they do not."""

import asyncio
import sys
from pathlib import Path
from types import ModuleType

import pytest

from reprise import Reprise, step, wait_for_signal, workflow
from reprise.kernel.events import Kind
from reprise.stores.moving import export_runs
from reprise.testing import HistoriesDiffer, assert_replays, find_misfits
from reprise.testing.suites import until

executed: list[str] = []


@step
async def collect(what: str) -> str:
    executed.append(what)
    return what


@step
async def ship(what: str) -> str:
    executed.append(what)
    return f"{what} shipped"


@workflow
async def order(what: str) -> str:
    found = await collect(what)
    await asyncio.sleep(0.001)
    return await ship(found)


@workflow
async def waits() -> str:
    await collect("x")
    return await wait_for_signal("go", str)


@workflow(name="order")
async def order_checks_first(what: str) -> str:
    return await ship(await ship(await collect(what)))


@workflow(name="order")
async def order_returns_another_thing(what: str) -> str:
    found = await collect(what)
    await asyncio.sleep(0.001)
    return (await ship(found)).upper()


@workflow(name="orders")
async def order_of_another_name(what: str) -> str:
    return what


async def collected(app):
    return any(record.kind == Kind.STEP_COMPLETED for record in await app.client.history("three"))


@pytest.fixture
def folder(tmp_path):
    async def export() -> None:
        async with Reprise("memory://") as app:
            await app.run(order, "tea", id="one")
            await app.run(order, "milk", id="two")
            await export_runs(app.client._store, tmp_path / "orders.jsonl")
            handle = await app.start(waits, id="three")
            await until(lambda: collected(app), "the step is recorded")
            await export_runs(app.client._store, tmp_path / "all.jsonl.gz")
            await handle.cancel()

    asyncio.run(export())
    executed.clear()
    return tmp_path


def test_what_fits(folder):
    assert assert_replays(folder, order, waits) == 5
    assert assert_replays([folder / "orders.jsonl"], order) == 2
    assert not executed


def test_a_module_or_its_file(folder, tmp_path):
    module = ModuleType("made")
    module.order, module.also = order, order
    assert assert_replays(folder / "orders.jsonl", module) == 2
    file = tmp_path / "flow_of_test_histories.py"
    file.write_text(
        Path(__file__).read_text().partition("@pytest.fixture")[0].partition("@workflow(name=")[0]
    )
    assert assert_replays(folder / "orders.jsonl", str(file)) == 2
    sys.path.remove(str(tmp_path))


def test_all_that_differs_at_once(folder):
    with pytest.raises(HistoriesDiffer) as caught:
        assert_replays(folder, order_checks_first, waits)
    said = str(caught.value)
    assert said.startswith("4 of 5 histories cannot be replayed by this code:")
    assert {(each.file.name, each.run) for each in caught.value.misfits} == {
        (file, run) for file in ("orders.jsonl", "all.jsonl.gz") for run in ("one", "two")
    }
    assert "the history: record" in said
    assert "timer fired" in said
    assert "return await ship(await ship(await collect(what)))" in said
    assert "test_histories.py:" in said
    assert "patched" in said


def test_another_result(folder):
    with pytest.raises(
        HistoriesDiffer, match='completed with "TEA SHIPPED"; the log holds completed with "tea shipped"'
    ):
        assert_replays(folder / "orders.jsonl", order_returns_another_thing)


def test_a_workflow_that_is_gone(folder):
    with pytest.raises(
        HistoriesDiffer, match=r"no workflow 'order'.\n  Was it renamed\? Give orders its old name"
    ):
        assert_replays(folder / "orders.jsonl", order_of_another_name)


def test_nothing_to_replay(tmp_path):
    with pytest.raises(AssertionError, match="There are no histories in"):
        assert_replays(tmp_path, order)


async def test_within_a_loop(folder_of_one):
    assert (await find_misfits(folder_of_one, order))[0] == 1


@pytest.fixture
async def folder_of_one(tmp_path):
    async with Reprise("memory://") as app:
        await app.run(order, "tea", id="one")
        await export_runs(app.client._store, tmp_path / "one.jsonl")
    return tmp_path
