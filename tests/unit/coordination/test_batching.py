"""Small things that many do at once go to the keeper together."""

import asyncio
from collections.abc import Sequence

from reprise.coordination.batching import HALVED, Batch


class Keeper:
    """Answers each batch with the same, when it is told."""

    def __init__(self) -> None:
        self.asked = list[list[int]]()
        self.may_answer = asyncio.Semaphore(0)

    async def send(self, items: Sequence[int]) -> list[int]:
        self.asked.append(list(items))
        await self.may_answer.acquire()
        if -1 in items:
            raise ValueError("refused")
        return [-item for item in items]

    @property
    def sizes(self) -> list[int]:
        return list(map(len, self.asked))


async def turn() -> None:
    """Let everything happen that can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_what_comes_in_one_turn_and_meanwhile_goes_together():
    keeper = Keeper()
    batch = Batch(keeper.send)
    answers = [batch.put(item) for item in range(5)]
    await turn()
    answers += [batch.put(item) for item in range(5, 9)]
    await turn()
    assert keeper.sizes == [5]
    keeper.may_answer.release()
    await turn()
    assert keeper.sizes == [5, 4]
    keeper.may_answer.release()
    assert await asyncio.gather(*answers) == [-item for item in range(9)]


async def test_many_go_in_two_halves_and_stay_so():
    keeper = Keeper()
    batch = Batch(keeper.send)

    async def caller(item: int) -> None:
        for _ in range(3):
            assert await batch.put(item) == -item

    callers = asyncio.gather(*(caller(item) for item in range(2, 2 + 2 * HALVED)))
    await turn()
    assert keeper.sizes == [HALVED, HALVED]
    for _ in range(4):
        keeper.may_answer.release()
        await turn()
    assert keeper.sizes == [HALVED] * 6
    for _ in range(2):
        keeper.may_answer.release()
    await callers
    await batch.close()
    assert sorted(item for asked in keeper.asked for item in asked) == sorted([*range(2, 2 + 2 * HALVED)] * 3)


async def test_an_error_is_told_to_those_it_concerns():
    keeper = Keeper()
    batch = Batch(keeper.send)
    answers = [batch.put(item) for item in (-1, *range(HALVED))]
    await turn()
    assert [-1 in asked for asked in keeper.asked] == [True, False]
    keeper.may_answer.release()
    keeper.may_answer.release()
    told = await asyncio.gather(*answers, return_exceptions=True)
    half = len(keeper.asked[0])
    assert {type(each) for each in told[:half]} == {ValueError}
    assert told[half:] == [-item for item in keeper.asked[1]]


async def test_closing_waits_for_what_was_handed_over():
    keeper = Keeper()
    batch = Batch(keeper.send)
    answers = [batch.put(item) for item in range(HALVED)]
    await turn()
    answers += [batch.put(item) for item in range(3)]
    closing = asyncio.create_task(batch.close())
    for _ in range(3):
        await turn()
        assert not closing.done()
        keeper.may_answer.release()
    await asyncio.wait_for(closing, 5)
    assert all(answer.done() for answer in answers)
    assert sum(keeper.sizes) == HALVED + 3  # nothing twice
