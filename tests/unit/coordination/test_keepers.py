"""What a face may be given to work with."""

import asyncio
from typing import Any

import pytest

from reprise import ConfigurationError, Reprise
from reprise.coordination.keepers import Keeper, keeper_of
from reprise.stores.memory import MemoryStore


class CountingStore(MemoryStore):
    """Counts how often it was opened and closed."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    async def start(self) -> None:
        self.calls.append("start")
        await asyncio.sleep(0)
        await super().start()

    async def stop(self) -> None:
        self.calls.append("stop")
        await super().stop()


async def test_a_store_stays_its_callers():
    store = CountingStore()
    keeper = Keeper(store)
    assert (await keeper.start(), keeper.owned) == (store, False)
    await keeper.stop()
    assert store.calls == []


async def test_what_a_url_names_is_opened_once_and_closed(monkeypatch: pytest.MonkeyPatch):
    store = CountingStore()
    monkeypatch.setattr("reprise.coordination.keepers.open_store", lambda url: store)
    keeper = Keeper("memory://")
    await keeper.stop()
    await asyncio.gather(keeper.start(), keeper.start())
    assert store.calls == ["start"]
    await keeper.stop()
    await keeper.stop()
    assert store.calls == ["start", "stop"]


async def test_an_app_gives_its_store():
    app = Reprise("memory://")
    assert keeper_of(app) is app.store
    assert not Keeper(app).owned


@pytest.mark.parametrize("source", [object(), 7, None, {"store": "memory://"}])
def test_something_else_is_refused(source: Any):
    with pytest.raises(ConfigurationError, match="Give a URL"):
        keeper_of(source)


def test_a_client_is_known_by_its_package_without_importing_it(monkeypatch: pytest.MonkeyPatch):
    store, made_of = MemoryStore(), list[Any]()
    monkeypatch.setattr(
        "reprise.coordination.keepers._over_client", lambda client: made_of.append(client) or store
    )
    client = type("Redis", (), {"__module__": "redis.asyncio.client"})
    mine = type("MyRedis", (client,), {})()
    keeper = Keeper(mine)
    assert (keeper.store, keeper.owned, made_of) == (store, True, [mine])
