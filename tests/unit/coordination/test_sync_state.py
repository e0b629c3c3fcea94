"""Shared state for threads does what the one for the loop does."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from reprise.coordination.state import StateSync
from reprise.kernel.errors import ConfigurationError, StateConflict


def test_threads_share_what_processes_share(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db?synchronous=OFF"
    heard, told = [], threading.Event()
    with StateSync(url, "app").sync as here, StateSync(url, "app").sync as there:

        def hear(update):
            heard.append(update.value)
            if update.value == 100:
                told.set()

        there.on_update(hear, "n")
        with ThreadPoolExecutor(8) as pool:
            sums = list(pool.map(lambda _: here.increment("n"), range(100)))
        assert sorted(sums) == list(range(1, 101))
        assert told.wait(30)
        assert heard == sorted(heard)
        done = here.set("a", {"x": 1}, ttl=60)
        assert there.get("a", fresh=True) == {"x": 1}
        assert there.entry("a").version == done.version
        with pytest.raises(StateConflict):
            there.set("a", 1, strategy="reject")
        assert here.add("tags", 1, 2) == [1, 2]
        assert here.discard("tags", 1) == [2]
        snapshot = here.snapshot()
        versions = there.update({"b": 2}, delete=["tags"], expected_versions={"b": 0})
        assert list(versions) == ["b"]
        assert there.keys() == ["a", "b", "n"]
        assert here.restore(snapshot) == 2
        assert there.items("[ab]*", fresh=True) == {"a": {"x": 1}}
        assert [update.value for update in there.history("tags")] == [[1, 2], [2], None, [2]]
        assert here.delete("n")
        assert here.statistics()["connected"] == 1
    with pytest.raises(ConfigurationError, match="not started"):
        here.get("a")
    here._portal.stop()


async def test_a_loop_is_not_held_up():
    with pytest.raises(ConfigurationError, match=r"without \.sync"):
        StateSync("memory://", "app").sync.start()
