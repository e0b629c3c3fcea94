"""A panel of agents: each answers, each ranks all answers, and the panel's word is the winner of the vote."""

import asyncio
import zlib
from collections.abc import Sequence

from reprise import Ballot, Retry, progress, ranked_choice, step, workflow

PANEL = {
    "optimist": "You see what could go well.",
    "sceptic": "You look for what could go wrong.",
    "engineer": "You want to know how it works.",
}
"""Agents and what they are told to be."""


async def think(role: str, prompt: str) -> str:
    """Ask a model. This one is made of rules, so that the project runs at once; call yours here."""
    mood = (
        "Yes, and soon",
        "Only if it is measured",
        "Start with the smallest part",
        "Not before it is tested",
    )
    return mood[zlib.crc32(f"{role}{prompt}".encode()) % len(mood)]


@step(retry=Retry(4), timeout=60)
async def answer(agent: str, question: str) -> str:
    """Let one agent answer. What it said is recorded, so no model is paid twice after a crash."""
    return f"{await think(PANEL[agent], question)} ({agent})"


@step(retry=Retry(4), timeout=60)
async def rank(agent: str, question: str, answers: Sequence[str]) -> list[str]:
    """Let one agent order the answers, the best first."""
    scored = [(await think(PANEL[agent], f"{question}\n{one}"), one) for one in answers]
    progress(len(scored), len(answers), "ranked")
    return [one for _, one in sorted(scored)]


@workflow
async def panel(question: str = "Should we ship on Friday?") -> dict[str, object]:
    """Ask everybody at the same time, let everybody vote, count."""
    answers = await asyncio.gather(*(answer(agent, question) for agent in PANEL))
    rankings = await asyncio.gather(*(rank(agent, question, answers) for agent in PANEL))
    ballots = [Ballot(agent, ranking=tuple(order)) for agent, order in zip(PANEL, rankings, strict=True)]
    verdict = ranked_choice(ballots)
    return {"question": question, "answers": answers, "winner": verdict.winner, "tie": list(verdict.tie)}
