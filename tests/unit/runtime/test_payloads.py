"""What may be recorded: too large a value is refused where it arises, texts are redacted, sealed runs need their key."""

import asyncio
import logging
import random
from contextlib import suppress

import msgspec
import pytest
from tests.unit.runtime.scenes import Shared, history, kill, opened, recorded, status_is, until

import reprise.runtime.generation
import reprise.runtime.worker
from reprise import (
    KeyMissing,
    KeyRing,
    Kind,
    PayloadTooLarge,
    Reprise,
    Retry,
    RunNotFound,
    RunStranded,
    continue_as,
    open_store,
    progress,
    register_error,
    step,
    wait_for_signal,
    workflow,
)
from reprise.kernel.events import LogLine, Progress, inbox_stream, log_stream, progress_stream, run_stream
from reprise.stores.packing import PackedStore, keeper_of
from reprise.stores.packing.envelope import SEALED, place_of

LIMIT = 10_000
BIG = "x" * LIMIT
RING = KeyRing({"2026": bytes(range(32))}, "2026")
tries: list[int] = []


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(reprise.runtime.worker, "LOOK", 0.01)
    tries.clear()


# ---------------------------------------------------------------- too large


@step(retry=Retry(5, backoff=0, retry_on=Exception))
async def returns(size: int) -> str:
    tries.append(size)
    return "x" * size


@step(retry=Retry(1))
async def raises(size: int) -> str:
    raise ValueError("x" * size)


@workflow
async def takes(text: str) -> str:
    return text[:1]


@workflow
async def calls(what: str, size: int) -> str:
    if what == "step":
        return (await returns(size))[:1]
    if what == "error":
        return await raises(size)
    if what == "child":
        return await takes("x" * size)
    if what == "survives":
        with suppress(PayloadTooLarge):
            await returns(size)
        return await returns(3)
    return "x" * size


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("step", r"The result of step returns \(:1.returns\) has 10,002 bytes; payloads may have 10,000"),
        ("error", r"An error of class ValueError has 20,\d\d\d bytes"),
        ("child", r"The input of child workflow takes \(:1.takes\) has 10,009 bytes"),
        ("result", r"The result of run one has 10,002 bytes"),
    ],
)
async def test_too_large_a_value_is_an_error_where_it_arises(what, said):
    async with opened(max_payload=LIMIT) as app:
        handle = await app.start(calls, what, LIMIT, id="one")
        with pytest.raises(PayloadTooLarge, match=said):
            await handle.result(5)
        assert tries in ([], [LIMIT]), "never tried again, whatever the step's retry says"
        records = await history(app.store, "one")
        assert max(len(record.data) for record in records) < 2 * LIMIT


async def test_a_body_may_go_on_after_too_large_a_value():
    async with opened(max_payload=LIMIT) as app:
        assert await app.run(calls, "survives", LIMIT) == "xxx"
        assert tries == [LIMIT, 3]
        assert await app.run(calls, "step", LIMIT - 2) == "x", "the limit itself is allowed"


async def test_who_starts_or_signals_with_too_much_is_told_and_nothing_is_written():
    async with opened(max_payload=LIMIT) as app:
        with pytest.raises(PayloadTooLarge, match="The input of workflow takes has 10,009 bytes"):
            await app.start(takes, BIG, id="one")
        with pytest.raises(PayloadTooLarge, match="The signal 'go' of run one"):
            await app.start(waits, id="one", signal=("go", BIG))
        with pytest.raises(RunNotFound):
            await app.client.row("one")
        handle = await app.start(waits, id="one")
        with pytest.raises(PayloadTooLarge, match="The signal 'go' to run one has 10,002 bytes"):
            await handle.signal("go", BIG)
        assert await app.store.log.read(inbox_stream("one")) == []
        await handle.signal("go", "a")
        assert await handle.result(5) == "a"


@workflow
async def waits() -> str:
    return await wait_for_signal("go", str)


# ---------------------------------------------------------------- redacted


@register_error
class Refused(Exception):
    def __init__(self, message: str, account: str) -> None:
        super().__init__(message, account)
        self.account = account
        self.tried = 2


@step(retry=Retry(2, backoff=0, retry_on=Exception))
async def leaks(secret: str) -> str:
    tries.append(1)
    if len(tries) < 3:
        error = Refused(f"no entry for {secret}", secret)
        error.add_note(f"tried {secret}")
        raise error
    logging.getLogger("app").warning("logged in with %s", secret)
    progress(1, 2, f"using {secret}")
    return secret


@workflow
async def logs_in(secret: str) -> str:
    try:
        await leaks(secret)
    except Refused as error:
        told = f"{error}"
    result = await leaks(secret)
    await leaks(result)
    if "hunter2" not in told:
        raise RuntimeError(f"{result} was hidden in: {told}")
    return told


def hide(text: str) -> str:
    return text.replace("hunter2", "***")


async def test_texts_for_people_are_redacted_and_values_are_not():
    store = Shared()
    async with opened(store, redact=hide, capture_logs=True) as app:
        handle = await app.start(logs_in, "hunter2", id="one")
        with pytest.raises(RuntimeError, match=r"^\*\*\* was hidden in: .*no entry for \*\*\*"):
            await handle.result(5)
        row = await app.client.row("one")
        assert "hunter2" not in row.error
        assert "***" in row.error
        app.engine.side.flush()
        records = await history(store, "one")
        values = [r.data for r in records if r.kind == Kind.STEP_COMPLETED]
        assert values == [b'"hunter2"'] * 2
        assert b"hunter2" in records[0].data, "an input is a value, too"
        others = [r for r in records[1:] if r.kind != Kind.STEP_COMPLETED]
        assert {Kind.STEP_RETRYING, Kind.STEP_FAILED, Kind.RUN_FINISHED} <= {r.kind for r in others}
        assert not [r for r in others if b"hunter2" in r.data]
        [shown, *_] = await store.log.read(progress_stream("one"))
        assert msgspec.json.decode(shown.data, type=Progress).note == "using ***"
        [line, *_] = await store.log.read(log_stream("one"))
        assert msgspec.json.decode(line.data, type=LogLine).text == "logged in with ***"


async def test_what_cannot_be_redacted_is_not_written():
    def fails(text):
        raise LookupError("hunter2")

    store = Shared()
    async with opened(store, redact=fails) as app:
        with pytest.raises(RuntimeError, match=r"not shown: redacting it failed with LookupError"):
            await app.run(logs_in, "hunter2", id="one")
        records = await history(store, "one")
        assert not [r for r in records[1:] if r.kind != Kind.STEP_COMPLETED and b"hunter2" in r.data]


# ---------------------------------------------------------------- packed and sealed


@step
async def reply(messages: list[str]) -> list[str]:
    dice = random.Random(len(messages))
    return [*messages, dice.randbytes(1000).hex()]


@workflow
async def talk(turns: int, pauses: int = 0) -> int:
    messages: list[str] = []
    for turn in range(turns):
        messages = await reply(messages)
        if turn < pauses:
            messages.append(await wait_for_signal("go", str))
    return len("".join(messages))


async def kept(store, run):
    """Return a history as the keeper has it."""
    return await keeper_of(store).log.read(run_stream(run))


async def test_a_run_that_another_goes_on_with_stays_small(tmp_path):
    """Its first payload after the take-over is a difference to what was read for it."""
    url = f"sqlite:///{tmp_path}/runs.db?synchronous=OFF"
    first = Reprise(url, capture_logs=False, lease=0.3)
    async with first:
        await first.start(talk, 30, 20, id="one")
        for turn in range(10):
            await recorded(first, "one", Kind.STEP_COMPLETED, turn + 1)
            await first.client.signal("one", "go", f"{turn}")
        await recorded(first, "one", Kind.STEP_COMPLETED, 11)
        kill(first)
    async with Reprise(url, workflows=[talk], capture_logs=False) as second:
        for turn in range(10, 20):
            await second.client.signal("one", "go", f"{turn}")
        assert await second.handle("one", talk).result(20) == 30 * 2000 + 30
        records = await kept(second.store, "one")
    steps = [record for record in records if record.kind == Kind.STEP_COMPLETED]
    assert sum(place_of(record.data) is None for record in steps) <= 3
    assert sum(len(record.data) for record in steps) < 30 * 1400


@workflow
async def lives(turns: int, generations: int, messages: list[str] | None = None) -> int:
    messages = messages or []
    for _ in range(turns):
        messages = await reply(messages)
    if generations:
        continue_as(turns, generations - 1, messages)
    return len(messages)


async def trimmed(app, run):
    """Wait until the first generations of a run are gone, and return what is left."""
    async with asyncio.timeout(5):
        while True:
            records = await app.store.log.read(run_stream(run))
            if records[0].version > 20:
                return records
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("keys", [None, RING], ids=["packed", "sealed"])
async def test_what_is_left_of_a_run_that_was_trimmed_is_readable(keys, tmp_path, monkeypatch):
    monkeypatch.setattr(reprise.runtime.generation, "WORTH", 1)
    url = f"sqlite:///{tmp_path}/runs.db?synchronous=OFF"
    async with Reprise(url, capture_logs=False, keep_generations=1, keys=keys) as app:
        assert await app.run(lives, 8, 5, id="one") == 48
        records = await trimmed(app, "one")
    store = open_store(url, keys=keys)
    await store.start()
    assert [record.data for record in await store.log.read(run_stream("one"))] == [r.data for r in records]
    assert await store.verify() == []
    await store.stop()


async def test_a_run_cannot_continue_with_too_much():
    async with opened(max_payload=10_020) as app:
        with pytest.raises(PayloadTooLarge, match="The input with which run one continues has 10,027 bytes"):
            await app.run(lives, 5, 1, id="one")


async def test_a_sealed_run_is_for_those_who_have_its_key():
    keeper = Shared()
    async with opened(keeper, keys=RING, lease=0.3) as app:
        await app.start(waits, id="one")
        await recorded(app, "one", Kind.RUN_OWNED)
        kill(app)
    async with opened(PackedStore(keeper), workflows=[waits]) as without:
        row = await status_is(without, "one", "stranded")
        assert "sealed with the key '2026'; no key was given" in row.error
        with pytest.raises(RunStranded, match="no key was given"):
            await without.handle("one", waits).result(5)
        with pytest.raises(KeyMissing):
            await without.store.log.read(run_stream("one"))
        async with opened(keeper, workflows=[waits], keys=RING) as having:
            await having.client.signal("one", "go", "on")
            assert await having.handle("one", waits).result(5) == "on"
    records = await kept(keeper, "one")
    assert all(record.data[0] == SEALED for record in records)
    assert [record.kind for record in records].count(Kind.RUN_OWNED) == 2, (
        "who had no key wrote nothing to it"
    )


async def test_mail_that_cannot_be_read_is_said_aloud():
    """A signal from somebody with a newer key than the worker has."""
    keeper = Shared()
    said = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context["exception"]))
    newer = PackedStore(keeper, KeyRing({"2026": bytes(range(32)), "2027": bytes(32)}, "2027"))
    async with opened(keeper, keys=RING) as app, opened(newer, worker=False) as client:
        handle = await app.start(waits, id="one")
        await recorded(app, "one", Kind.RUN_OWNED)
        await client.client.signal("one", "go", "on")
        await until(lambda: said)
        assert isinstance(said[0], KeyMissing)
        assert "key '2027'; the key ring has '2026'" in str(said[0])
        assert await handle.status() == "running"


async def test_keys_are_given_once():
    store = open_store("memory://", keys=RING)
    assert Reprise(store).store is store
    assert Reprise(store, keys=RING).store is store
    with pytest.raises(Exception, match="was opened with other keys"):
        Reprise(store, keys=KeyRing({"k": bytes(32)}, "k"))
