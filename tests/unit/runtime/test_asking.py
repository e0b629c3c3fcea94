"""Questions to people: the first answer that fits wins, once; what expires takes none; nothing is lost."""

import asyncio
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
import pytest
from tests.replay.harness import fill
from tests.unit.runtime.scenes import Shared, cut, history, kill, opened, recorded, row_when, until

from reprise import (
    AnswerRefused,
    BodyError,
    CodecError,
    QuestionClosed,
    ResultTimeout,
    UnknownHandler,
    ask,
    continue_as,
    step,
    wait_for_signal,
    workflow,
)
from reprise.kernel.events import Kind, Question, talk_stream


@dataclass
class Approval:
    approved: bool
    note: str = ""
    limit: Annotated[int, msgspec.Meta(ge=0)] = 0


@step
async def ship(note: str) -> str:
    return f"shipped {note}"


@workflow
async def order(hurry: float = 0) -> str:
    options = {"timeout": hurry, "on_timeout": Approval(False, "late")} if hurry else {}
    answer = await ask(Approval, "Ship order 7?", to="sales", **options)
    return await ship(answer.note) if answer.approved else answer.note


async def question_of(app, run, count=1, text=""):
    """Wait until a run asks so many questions, the first of them in these words, and return them."""
    async with asyncio.timeout(5):
        while True:
            found = await app.client.questions(run)
            if len(found) == count and (not text or found[0].text == text):
                return found
            await asyncio.sleep(0.001)


async def test_a_question_is_seen_and_answered_without_the_code():
    store = Shared()
    async with opened(store) as app, opened(store, worker=False) as desk:
        handle = await app.start(order, id="o")
        (question,) = await question_of(desk, "o")
        assert (question.text, question.to, question.expires_at) == ("Ship order 7?", "sales", 0)
        assert question.schema["$defs"]["Approval"]["required"] == ["approved"]
        row = await row_when(desk, "o", lambda row: bool(row.warning))
        assert row.warning == "asks sales: Ship order 7?"
        assert [row.id for row in await desk.find("warning:*")] == ["o"]
        await desk.client.answer("o", {"approved": True, "note": "now"}, by="ada")
        assert await handle.result(5) == "shipped now"
        assert await desk.client.questions("o") == []
        assert (await desk.client.row("o")).warning == ""


async def test_a_question_after_a_step_is_shown_too():
    @workflow
    async def asks_later() -> bool:
        await ship("first")
        return await ask(bool, "Fine?")

    async with opened() as app:
        handle = await app.start(asks_later, id="o")
        await row_when(app, "o", lambda row: row.warning == "asks Fine?")
        await handle.answer(True)
        assert await handle.result(5)


async def test_an_answer_that_does_not_fit_says_why_and_the_question_stays_open():
    async with opened() as app:
        handle = await app.start(order, id="o")
        (question,) = await question_of(app, "o")
        for value, why in [
            ({"approved": "yes"}, r'\$.approved: "yes" is no boolean'),
            ({"note": "x"}, "approved is missing"),
            ({"approved": True, "limit": -1}, "limit: -1 is not >= 0"),
            (7, "no object"),
        ]:
            with pytest.raises(AnswerRefused, match=why):
                await handle.answer(value)
        with pytest.raises(UnknownHandler, match="asks no question 'other'"):
            await handle.answer(True, question="other")
        assert await handle.questions() == [question]
        await handle.answer(Approval(False, "no"))
        assert await handle.result(5) == "no"


async def test_the_run_has_the_last_word_on_what_fits(monkeypatch):
    monkeypatch.setattr("reprise.runtime.dialogue.misfits", lambda value, schema: [])
    async with opened() as app:
        handle = await app.start(order, id="o")
        await question_of(app, "o")
        with pytest.raises(AnswerRefused, match=r"does not fit.*`bool`"):
            await handle.answer({"approved": "yes"})
        await handle.answer({"approved": False, "note": "no"})
        assert await handle.result(5) == "no"
        assert Kind.ANSWER_RECEIVED in [r.kind for r in await history(app.store, "o")]


@workflow
async def asks_and_waits() -> str:
    answer = await ask(Approval, "Ship it?")
    await wait_for_signal("end")
    return answer.note


async def test_of_many_answers_exactly_one_wins_and_the_others_are_told_so():
    async with opened() as app:
        handle = await app.start(asks_and_waits, id="o")
        (question,) = await question_of(app, "o")
        outcomes = await asyncio.gather(
            *(handle.answer(Approval(False, f"{n}"), question=question.key, by=f"p{n}") for n in range(8)),
            return_exceptions=True,
        )
        won = [n for n, one in enumerate(outcomes) if one is None]
        assert len(won) == 1
        assert all(isinstance(one, QuestionClosed) for one in outcomes if one is not None)
        with pytest.raises(QuestionClosed, match=f"answered by p{won[0]}"):
            await handle.answer(Approval(True), question=question.key)
        await row_when(app, "o", lambda row: row.warning == "")
        await handle.signal("end")
        assert await handle.result(5) == f"{won[0]}"


@workflow
async def two() -> list[str]:
    return list(
        await asyncio.gather(
            ask(Literal["red", "blue"], "Which?", key="colour"), ask(str, "Name?", timeout=1000)
        )
    )


async def test_several_questions_are_told_apart_by_their_keys():
    async with opened() as app:
        handle = await app.start(two, id="t")
        found = await question_of(app, "t", 2)
        assert sorted(one.key for one in found) == ["/ask.2:1.ask", "colour"]
        with pytest.raises(UnknownHandler, match="asks 2 questions"):
            await handle.answer("red")
        with pytest.raises(AnswerRefused, match='"green" is none of "blue", "red"'):
            await handle.answer("green", question="colour")
        await handle.answer("red", question="colour")
        with pytest.raises(QuestionClosed):
            await handle.answer("blue", question="colour")
        await handle.answer("Ada")
        assert await handle.result(5) == ["red", "Ada"]


async def test_a_question_expires_and_takes_no_answer_any_more():
    async with opened() as app:
        handle = await app.start(order, 0.02, id="o")
        assert await handle.result(5) == "late"
        asked, closed = await app.store.log.read(talk_stream("o"))
        owned = (await history(app.store, "o"))[1]
        assert abs(msgspec.json.decode(asked.data, type=Question).expires_at - owned.at - 20_000) <= 1
        assert (closed.kind, closed.data) == (Kind.QUESTION_CLOSED, b'{"how":"expired"}')

        @workflow
        async def raises() -> None:
            try:
                await ask(int, timeout=0.001)
            except TimeoutError:
                await ask(bool, "Go on?")

        handle = await app.start(raises, id="r")
        await question_of(app, "r")
        await recorded(app, "r", Kind.TIMER_FIRED)
        with pytest.raises(QuestionClosed, match="has expired"):
            await handle.answer(3, question=":1.ask")
        await handle.answer(True)
        await handle.result(5)


async def test_the_same_id_is_the_same_answer():
    async with opened() as app:
        handle = await app.start(order, id="o")
        await question_of(app, "o")
        await handle.answer(Approval(False, "no"), id="a")
        await handle.answer(Approval(False, "no"), id="a")
        await handle.result(5)
        await handle.answer(Approval(False, "no"), id="a")


async def test_an_answer_is_kept_until_a_worker_comes():
    store = Shared()
    async with opened(store, lease=0.2) as app:
        await app.start(order, id="o")
        await question_of(app, "o")
        kill(app)
        async with opened(store, worker=False) as desk:
            assert len(await desk.client.questions("o")) == 1
            with pytest.raises(ResultTimeout):
                await desk.client.answer("o", Approval(False, "kept"), timeout=0.05)
        async with opened(store, workflows=[order]) as app2:
            assert await app2.handle("o", order).result(5) == "kept"


async def test_a_question_in_replay_is_asked_once():
    async with opened() as app:
        await app.start(two, id="t")
        await question_of(app, "t", 2)
        store = await cut(app.store, "t", len(await history(app.store, "t")))
    for _ in range(3):
        async with opened(store := await copied(store, "t"), workflows=[two]) as app:
            await until(lambda: "t" in app.engine.loaded.idle)
            await question_of(app, "t", 2)
            assert len(await store.log.read(talk_stream("t"))) == 2


async def copied(store, run):
    """Return a new store with the run as it is, and what it said."""
    fresh = await cut(store, run, len(await history(store, run)))
    if said := await store.log.read(talk_stream(run)):
        await fill(fresh, talk_stream(run), said)
    return fresh


async def test_a_question_of_an_earlier_generation_is_closed():
    @workflow
    async def goes_on(n: int) -> int:
        if n == 2:
            return n
        if await ask(bool, f"Again {n}?"):
            continue_as(n + 1)
        return -1

    async with opened() as app:
        handle = await app.start(goes_on, 0, id="g")
        for n in range(2):
            await question_of(app, "g", text=f"Again {n}?")
            await handle.answer(True)
        assert await handle.result(5) == 2


async def test_what_cannot_be_asked_is_an_error_of_the_body():
    @workflow
    async def twice() -> None:
        await asyncio.gather(ask(int, key="k"), ask(int, key="k"))

    @workflow
    async def unreadable() -> None:
        await ask(asyncio.Event)

    async with opened() as app:
        with pytest.raises(BodyError, match="one key 'k'"):
            await app.run(twice)
        with pytest.raises(CodecError):
            await app.run(unreadable)
        with pytest.raises(BodyError, match="in the body"):
            await ask(int)
