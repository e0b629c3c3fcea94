"""Code that disagrees with the history strands the run before any step runs; code that agrees goes on."""

import asyncio
from pathlib import Path

import pytest
from tests.replay.harness import fill
from tests.unit.runtime.scenes import Trouble, cut, history, keys, opened, recorded, status_is, until

from reprise import RunStranded, StoreFull, check_runs, current_run, step, wait_for_signal, workflow
from reprise.kernel.events import Kind
from reprise.stores.memory import MemoryStore


class Marker:
    """A file that the bodies of steps write to."""

    path = Path()

    def add(self, what: str) -> None:
        with self.path.open("a") as file:
            file.write(f"{what}\n")

    def read(self) -> list[str]:
        return self.path.read_text().split()

    def clear(self) -> None:
        self.path.write_text("")


marker = Marker()
mark, marks = marker.add, marker.read


@pytest.fixture(autouse=True)
def fresh_marker(tmp_path):
    marker.path = tmp_path / "marks"
    marker.clear()


@step
async def load(n: int) -> int:
    mark(f"load-{n}")
    return n


@step
async def save(n: int) -> int:
    mark(f"save-{n}")
    return n


@step(name="fetch")
async def load_renamed(n: int) -> int:
    mark(f"fetch-{n}")
    return n


async def rest(a: int) -> list[int]:
    """Wait, so that the run is in flight when the code changes; then one step more."""
    await wait_for_signal("go")
    return [a, await save(9)]


@workflow(name="flow")
async def original() -> list[int]:
    a = await load(1)
    await save(2)
    async with asyncio.timeout(60):
        await asyncio.gather(load(3), save(4))
    await asyncio.sleep(0.001)
    return await rest(a)


DONE = ["load-1", "save-2", "load-3", "save-4"]
CHANGED = {}


def changed(*wanted):
    def add(body):
        CHANGED[body.__name__] = (workflow(name="flow")(body), wanted)
        return body

    return add


@changed("':1.load'", "in_a_task:1.load'")
async def moved_into_a_child_task() -> list[int]:
    async def in_a_task() -> int:
        return await load(1)

    a = await asyncio.create_task(in_a_task())
    await save(2)
    async with asyncio.timeout(60):
        await asyncio.gather(load(3), save(4))
    await asyncio.sleep(0.001)
    return await rest(a)


@changed("'/load:1'", "other arguments", "test_nondeterminism.py:")
async def made_a_task() -> list[int]:
    a = await asyncio.create_task(load(1))
    await save(2)
    async with asyncio.timeout(60):
        await asyncio.gather(load(3), save(4))
    await asyncio.sleep(0.001)
    return await rest(a)


@changed("':1.load'", "':1.save'")
async def removed() -> list[int]:
    await save(2)
    async with asyncio.timeout(60):
        await asyncio.gather(load(3), save(4))
    await asyncio.sleep(0.001)
    return await rest(1)


@changed("':1.load'", "':1.save'")
async def reordered() -> list[int]:
    await save(2)
    a = await load(1)
    async with asyncio.timeout(60):
        await asyncio.gather(load(3), save(4))
    await asyncio.sleep(0.001)
    return await rest(a)


@changed("':1.load'", "':1.fetch'")
async def renamed() -> list[int]:
    a = await load_renamed(1)
    await save(2)
    async with asyncio.timeout(60):
        await asyncio.gather(load(3), save(4))
    await asyncio.sleep(0.001)
    return await rest(a)


@changed("':1.load'", "':1.save'")
async def added_before() -> list[int]:
    await save(0)
    a = await load(1)
    await save(2)
    async with asyncio.timeout(60):
        await asyncio.gather(load(3), save(4))
    await asyncio.sleep(0.001)
    return await rest(a)


@changed("':1.load'", "other arguments", "test_nondeterminism.py:")
async def other_arguments() -> list[int]:
    a = await load(7)
    await save(2)
    async with asyncio.timeout(60):
        await asyncio.gather(load(3), save(4))
    await asyncio.sleep(0.001)
    return await rest(a)


@changed("'/load:1'", "':3.load'")
async def a_gather_unrolled() -> list[int]:
    a = await load(1)
    await save(2)
    await load(3)
    await save(4)
    await asyncio.sleep(0.001)
    return await rest(a)


@changed("timer '@2'")
async def timer_removed() -> list[int]:
    a = await load(1)
    await save(2)
    async with asyncio.timeout(60):
        await asyncio.gather(load(3), save(4))
    return await rest(a)


@changed("':1.load'", "ended")
async def everything_removed() -> list[int]:
    return []


COMPATIBLE = {}


def compatible(body):
    COMPATIBLE[body.__name__] = workflow(name="flow")(body)
    return body


@compatible
async def a_step_added_at_the_end() -> list[int]:
    a = await load(1)
    await save(2)
    async with asyncio.timeout(60):
        await asyncio.gather(load(3), save(4))
    await asyncio.sleep(0.001)
    return [*(await rest(a)), await load(5)]


@compatible
async def written_otherwise() -> list[int]:
    """Other helpers, other timeouts, more randomness: the same calls at the same places."""
    current_run().uuid()
    fetched = await load(1)
    await save(2)
    async with asyncio.timeout(90):
        await asyncio.gather(*[load(3), save(4)])
    await asyncio.sleep(0.002)
    current_run().random()
    return await rest(fetched)


async def in_flight() -> MemoryStore:
    """Return a store with a run of the original that waits for its signal."""
    store = MemoryStore()
    async with opened(store) as app:
        await app.start(original, id="one")
        await recorded(app, "one", Kind.TIMER_FIRED)
    return store


def told(records):
    """Return a history without the notes of who owned it and why it was stranded."""
    notes = (Kind.RUN_OWNED, Kind.RUN_STRANDED)
    return [(r.kind, r.key, r.data) for r in records if r.kind not in notes]


@pytest.mark.parametrize("name", CHANGED)
async def test_changed_code_strands_the_run_and_the_old_code_finishes_it(name):
    flow, wanted = CHANGED[name]
    store = await in_flight()
    before = told(await history(store, "one"))
    assert marks() == DONE
    async with opened(store, workflows=[flow]) as app:
        with pytest.raises(RunStranded) as stranded:
            await app.handle("one").result(5)
        row = await app.client.row("one")
    assert row.status == "stranded"
    for part in wanted:
        assert part in row.error, row.error
        assert part in str(stranded.value)
    assert marks() == DONE, "a step ran although the code disagrees"
    after = await history(store, "one")
    assert told(after) == before
    assert after[-1].kind == Kind.RUN_STRANDED
    async with opened(store, workflows=[original]) as app:
        await app.client.signal("one", "go")
        assert await app.handle("one").result(5) == [1, 9]
    assert marks() == [*DONE, "save-9"]


@pytest.mark.parametrize("name", COMPATIBLE)
async def test_compatible_code_goes_on(name):
    store = await in_flight()
    async with opened(store, workflows=[COMPATIBLE[name]]) as app:
        await app.client.signal("one", "go")
        result = await app.handle("one").result(5)
    assert result[:2] == [1, 9]
    assert marks()[:5] == [*DONE, "save-9"]


@pytest.mark.parametrize("name", CHANGED)
async def test_at_every_cut_changed_code_runs_nothing_or_contradicts_nothing(name):
    """What was not recorded yet may be done otherwise; what was recorded is never done again, nor contradicted."""
    flow, _ = CHANGED[name]
    store = MemoryStore()
    async with opened(store) as app:
        handle = await app.start(original, id="one", signal=("go", None))
        assert await handle.result(5) == [1, 9]
    records = await history(store, "one")
    for count in range(3, len(records)):
        marker.clear()
        piece = await cut(store, "one", count)
        known = set(keys(records[:count]))
        await piece.start()
        checked = await check_runs(piece, [flow])
        assert marks() == []
        async with opened(piece, workflows=[flow]) as app:
            finished = await app.handle("one").finished(5)
        assert finished.status in ("stranded", "completed")
        assert checked.ok is (finished.status == "completed"), "what was checked is not what a worker finds"
        if finished.status == "stranded":
            assert marks() == []
            assert told((await history(piece, "one"))[:count]) == told(records[:count])
        else:
            ended = keys((await history(piece, "one"))[count:])
            assert not known & set(ended)


async def test_a_run_of_another_python_is_replayed_and_the_error_says_so():
    store = await in_flight()
    records = await history(store, "one")
    start = records[0]
    other = MemoryStore()
    data = start.data.replace(b'"python":"3.', b'"python":"2.')
    assert data != start.data
    forged = type(start)(start.position, start.stream, 1, start.kind, start.at, start.key, data)
    await fill(other, "run/one", [forged, *records[1:]])
    async with opened(other, workflows=[CHANGED["removed"][0]]) as app:
        row = await status_is(app, "one", "stranded")
    assert "It was started under Python 2." in row.error
    await other.start()
    async with opened(other, workflows=[original]) as app:
        await app.client.signal("one", "go")
        assert await app.handle("one").result(5) == [1, 9]


async def test_the_reason_is_redacted_and_observers_are_told():
    store = await in_flight()
    seen = []
    hidden = {"redact": lambda text: text.replace("save", "***")}
    async with opened(
        store,
        workflows=[CHANGED["removed"][0]],
        observers=[lambda run, events: seen.extend(events)],
        **hidden,
    ) as app:
        row = await status_is(app, "one", "stranded")
    assert "save" not in row.error
    assert "***" in row.error
    assert Kind.RUN_STRANDED in [event.kind for event in seen]


async def test_a_run_that_is_stranded_in_trouble_is_shown_so_when_that_is_over(monkeypatch):
    monkeypatch.setattr("reprise.runtime.worker.LOOK", 0.01)
    store = await in_flight()
    await store.start()
    trouble = Trouble(store, StoreFull)

    def begin(run, events):
        trouble.on = trouble.on or (not trouble.met and events[0].kind == Kind.RUN_OWNED)

    async with opened(store, workflows=[CHANGED["removed"][0]], observers=[begin]) as app:
        await until(lambda: trouble.met)
        trouble.on = False
        await status_is(app, "one", "stranded")
    assert marks() == DONE


async def test_input_that_no_longer_fits_strands_the_run():
    @workflow(name="greet")
    async def before(name: str) -> str:
        await wait_for_signal("go")
        return name

    @workflow(name="greet")
    async def after(name: str, greeting: str) -> str:
        return greeting

    store = MemoryStore()
    async with opened(store) as app:
        await app.start(before, "Ada", id="one")
    async with opened(store, workflows=[after]) as app:
        row = await status_is(app, "one", "stranded")
        assert "does not fit 'greet'" in row.error
        assert "greeting" in row.error
        other = await app.start(original, id="other", signal=("go", None))
        assert await other.result(5) == [1, 9], "the worker goes on with other runs"
    async with opened(store, workflows=[before]) as app:
        await app.client.signal("one", "go")
        assert await app.handle("one").result(5) == "Ada"


async def test_an_unknown_workflow_is_visible_and_taken_by_whoever_knows_it(monkeypatch):
    monkeypatch.setattr("reprise.runtime.worker.STRANGER", 0.01)
    store = await in_flight()
    async with opened(store) as app:
        row = await status_is(app, "one", "stranded")
        assert "'flow' is not known" in row.error
    async with opened(store, workflows=[original]) as app:
        await app.client.signal("one", "go")
        assert await app.handle("one").result(5) == [1, 9]


async def test_stranding_often_is_not_poison():
    store = await in_flight()
    for _ in range(7):
        async with opened(store, workflows=[CHANGED["removed"][0]]) as app:
            await status_is(app, "one", "stranded")
            await app.handle("one").resume()
            with pytest.raises(RunStranded):
                await app.handle("one").result(5)
    async with opened(store, workflows=[original]) as app:
        await app.client.signal("one", "go")
        assert await app.handle("one").result(5) == [1, 9]
